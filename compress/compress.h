/* SPDX-License-Identifier: Apache-2.0
 *
 * Codecs for one blob. Stored by id with every record; a decoder stays in bounds on any input.
 */
#ifndef KVT_COMPRESS_H
#define KVT_COMPRESS_H

#include "engine/base/base.h"

/* What a codec may know of a blob beyond its bytes. */
typedef struct kvt_codec_hint {
    uint32_t element_bytes; /* 1, 2, 4, 8; 1 when unknown */
    int32_t level;          /* 0: default */
} kvt_codec_hint;

/* One codec. A static const instance per file, listed in codec_table.c. All methods: any thread, no blocking, no global
 * state; a context lives for one call (about 10 us, 4 % of decoding 1 MiB). */
typedef struct kvt_codec {
    uint32_t id; /* kvt_codec_id; frozen */
    const char *name;
    /* Largest encoded size of raw_bytes (mandatory). */
    uint64_t (*bound)(uint64_t raw_bytes);
    /* Encode raw into out[capacity]; *out_bytes receives the size. KVT_REJECTED: does not fit capacity (store it raw).
     * KVT_NOMEM, KVT_UNSUPPORTED (the library behind the codec is too old): the same way out. */
    kvt_status (*encode)(const kvt_codec_hint *hint, const void *raw, uint64_t raw_bytes, void *out, uint64_t capacity,
                         uint64_t *out_bytes);
    /* Decode exactly raw_bytes. KVT_CORRUPT: the input is not an encoding of that size; out then holds anything.
     * KVT_NOMEM. */
    kvt_status (*decode)(const void *encoded, uint64_t encoded_bytes, void *out, uint64_t raw_bytes);
} kvt_codec;

/* NULL: unknown to this build. */
const kvt_codec *kvt_codec_by_id(uint32_t id);
const kvt_codec *kvt_codec_by_name(const char *name);
/* The i-th built-in codec, NULL behind the last. */
const kvt_codec *kvt_codec_at(uint32_t i);

#endif
