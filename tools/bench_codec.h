/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two halves of `kvtier bench codec` share: the planes of a file of KV, cut into chunks.
 */
#ifndef KVT_BENCH_CODEC_H
#define KVT_BENCH_CODEC_H

#include "compress/compress.h"
#include "tools/bench.h"

/* Which of a layer's planes a tensor is. */
typedef enum kvt_plane_side { KVT_PLANE_K, KVT_PLANE_V, KVT_PLANE_OTHER, KVT_PLANE_SIDES } kvt_plane_side;

/* One plane of one chunk: [token][channel]. */
typedef struct kvt_kv_piece {
    const uint8_t *data;
    uint64_t bytes;
    uint32_t tokens;
    uint32_t channels;
    uint32_t chunk; /* number of the chunk in the file */
    kvt_plane_side side;
    kvt_element_kind kind;
} kvt_kv_piece;

typedef struct kvt_kv_pieces {
    kvt_kv_piece *items; /* by side, then chunk, then tensor */
    size_t count;
    uint8_t *cast; /* elements of another kind than the file's, or NULL */
    void *file;
} kvt_kv_pieces;

/*
 * The floating-point tensors [token][...] of a safetensors file, in whole chunks of chunk_tokens; what is left over
 * is not looked at. `kind` OPAQUE: as in the file; another one: bf16 elements are cast to it, rounded to nearest
 * even. KVT_IO, KVT_CORRUPT, KVT_INVALID (no such tensor, or not castable), KVT_NOMEM.
 */
kvt_status kvt_kv_pieces_read(const char *path, uint32_t chunk_tokens, kvt_element_kind kind, kvt_kv_pieces *out);
void kvt_kv_pieces_free(kvt_kv_pieces *pieces);

const char *kvt_plane_side_name(kvt_plane_side side);
const char *kvt_element_kind_name(kvt_element_kind kind);

/* The table of entropies of one file. */
int kvt_bench_codec_analyse(cli_report *report, const char *path, const kvt_kv_pieces *pieces);

#endif
