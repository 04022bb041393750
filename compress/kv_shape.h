/* SPDX-License-Identifier: Apache-2.0
 *
 * A blob as a run of planes: what the exponent codecs work on. Private to compress.
 */
#ifndef KVT_KV_SHAPE_H
#define KVT_KV_SHAPE_H

#include "compress/compress.h"

/* One plane: [token][channel]. An opaque one has neither tokens nor channels, only bytes. */
typedef struct kvt_kv_plane {
    kvt_element_kind kind;
    uint32_t tokens;
    uint32_t channels;
    uint64_t raw_bytes;
} kvt_kv_plane;

enum { KVT_KV_PLANES_MAX = 65536, KVT_KV_CHANNELS_MAX = 65536 };

/* A walk over the planes of a blob, in its order. Without a shape that fits, the blob is cut into planes of one
 * channel. */
typedef struct kvt_kv_shape {
    const kvt_codec_hint *hint;
    uint64_t raw_bytes;
    uint64_t done;
    bool flat;
    uint32_t group, layer, view, plane; /* the next one */
} kvt_kv_shape;

void kvt_kv_shape_start(kvt_kv_shape *shape, const kvt_codec_hint *hint, uint64_t raw_bytes);
bool kvt_kv_shape_next(kvt_kv_shape *shape, kvt_kv_plane *out);
/* Planes that a walk from here will give; more than KVT_KV_PLANES_MAX are not counted on. */
uint32_t kvt_kv_shape_count(const kvt_kv_shape *shape);

#endif
