/* SPDX-License-Identifier: Apache-2.0
 *
 * Shapes of the KV cache of known models, by name or from a JSON file. Says how wide a token is, not where pages lie.
 */
#ifndef KVT_GEOMETRY_H
#define KVT_GEOMETRY_H

#include "engine/base/base.h"

typedef struct kvt_geometry {
    char name[64];
    char dtype[16]; /* "bf16", "fp16", "fp8", "fp32", "int8" */
    uint32_t layer_count;
    uint32_t plane_count; /* 2: K and V; 1: one latent row (MLA) */
    uint32_t head_count;
    uint32_t head_bytes;
    uint32_t element_bytes;
} kvt_geometry;

/*
 * A named geometry, or one read from a JSON file when the name holds a '.' or a '/':
 *   {"name": "mine", "layers": 28, "planes": 2, "heads": 4, "head_dim": 128, "dtype": "bf16"}
 * layers > 0 replaces the number of layers. KVT_INVALID names what is wrong and which names there are.
 */
kvt_status kvt_geometry_find(const char *name_or_path, uint32_t layers, kvt_geometry *out);
/* Name of the i-th built-in geometry; NULL behind the last. */
const char *kvt_geometry_name_at(uint32_t i);

static inline uint64_t kvt_geometry_row_bytes(const kvt_geometry *geometry) /* one token, layer and plane */
{
    return (uint64_t)geometry->head_count * geometry->head_bytes;
}
static inline uint64_t kvt_geometry_token_bytes(const kvt_geometry *geometry) /* one token, all of it */
{
    return kvt_geometry_row_bytes(geometry) * geometry->layer_count * geometry->plane_count;
}

#endif
