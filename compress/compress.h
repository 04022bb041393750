/* SPDX-License-Identifier: Apache-2.0
 *
 * Codecs for one blob. Stored by id with every record; a decoder stays in bounds on any input.
 */
#ifndef KVT_COMPRESS_H
#define KVT_COMPRESS_H

#include "engine/base/base.h"

/* How the bits of an element are meant. Frozen values: stored in payloads. */
typedef enum kvt_element_kind {
    KVT_ELEMENT_OPAQUE = 0, /* no floating-point number that a codec knows: copied */
    KVT_ELEMENT_BF16 = 1,
    KVT_ELEMENT_FP16 = 2,
    KVT_ELEMENT_E4M3 = 3, /* fp8; both the fn and the IEEE-like flavour */
    KVT_ELEMENT_E5M2 = 4
} kvt_element_kind;

/* Planes of one shape that follow one another in a blob: [plane][token][channel]. */
typedef struct kvt_codec_view {
    uint32_t plane_count;
    uint32_t channel_count; /* elements of a token in one plane: heads x head dimension */
    uint32_t element_bytes;
    kvt_element_kind kind;
} kvt_codec_view;

/* A part of a blob: [layer][view][plane][token][channel]. Arrays are borrowed for the call. */
typedef struct kvt_codec_group {
    uint32_t layer_count;
    uint32_t view_count;
    const kvt_codec_view *views;
} kvt_codec_group;

/* What a codec may know of a blob beyond its bytes. It makes payloads smaller and never a payload wrong: a shape that
 * does not add up to the blob's size is ignored. */
typedef struct kvt_codec_hint {
    uint32_t element_bytes; /* 1, 2, 4, 8; 1 when unknown */
    int32_t level;          /* 0: default; xpack and rans: log2 of a segment's elements, 10..15 */
    kvt_element_kind kind;  /* of a blob without groups */
    uint32_t token_count;
    uint32_t group_count; /* 0: the shape is unknown */
    const kvt_codec_group *groups;
} kvt_codec_hint;

/* By the name an engine gives its element type ("bf16", "torch.float16", "fp8_e4m3", ...), in any case; OPAQUE when
 * unknown. */
kvt_element_kind kvt_element_kind_of(const char *dtype);
/* 0 for OPAQUE */
static inline uint32_t kvt_element_kind_bytes(kvt_element_kind kind)
{
    if (kind == KVT_ELEMENT_BF16 || kind == KVT_ELEMENT_FP16)
        return 2;
    return kind == KVT_ELEMENT_E4M3 || kind == KVT_ELEMENT_E5M2 ? 1 : 0;
}

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
/* Instruction set of the exponent codecs on this CPU, picked at their first call: "portable", "avx2", "avx512". */
const char *kvt_codec_variant(void);
/* The i-th built-in codec, NULL behind the last. */
const kvt_codec *kvt_codec_at(uint32_t i);

#endif
