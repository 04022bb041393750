/* SPDX-License-Identifier: Apache-2.0
 *
 * The seam between glue and device code for re-positioned keys: what one launch is told, by value, and where the bytes
 * of a unit lie. A block serves a tile: some tokens of one blob over some layers, whose turns it works out once. A unit
 * is two accesses of 16 bytes that belong to one thread: inside a window half a window apart, so that they hold both
 * ends of their pairs, or whole pairs; elsewhere in a head as far apart as keeps neighbouring threads neighbours. C,
 * C++ and CUDA read it.
 */
#ifndef KVT_CUDA_ROPE_H
#define KVT_CUDA_ROPE_H

#include "kernels/cuda_launch.h"
#include "kernels/rope.h"

enum {
    KVT_CUDA_ROPE_TURNS = 1024, /* of a tile: tokens x pairs; at least KVT_ROPE_PAIRS_MAX */
    KVT_CUDA_ROPE_IDS_SMALL = 256
};

typedef enum kvt_cuda_rope_way {
    KVT_CUDA_ROPE_FUSED,    /* blob -> pages, everything of one view */
    KVT_CUDA_ROPE_IN_PLACE, /* windows of pages that hold the bytes as stored */
    KVT_CUDA_ROPE_BY_PAIR   /* the same, pair by pair: any alignment */
} kvt_cuda_rope_way;

typedef struct kvt_cuda_rope_head {
    /* A unit's number, innermost first, and a tile's. page: tokens of a page; pairs: turns of a token. */
    kvt_job_dim units, heads, planes, layers, token_tiles, tiles, page, pairs;
    kvt_rope rope;       /* pairing, formats, table, window; window_bytes 0: nothing turns */
    uint32_t way;        /* kvt_cuda_rope_way */
    uint32_t plane_mask; /* planes that turn */
    uint32_t window_units;
    uint32_t rest_accesses; /* of a head, outside the window */
    uint32_t tile_tokens;
    uint32_t tile_units;
    uint32_t blob_count;
    uint32_t block_count;
    uint32_t id_count; /* of a blob */
    uint32_t token_begin;
    uint32_t token_count;
    uint32_t layer_count;
    uint32_t table_plane, table_layer; /* strides into table */
    uint32_t reserved[2];
    int64_t page_strides[5]; /* page id, plane, layer, token, head */
    int64_t page_offset;
    int64_t blob_strides[4]; /* plane, layer, token, head */
    int64_t blob_offset;
    uint64_t table[KVT_CUDA_TABLE_MAX];
    uint8_t *segments[KVT_JOB_BLOBS_MAX];
    kvt_rope_shift shifts[KVT_JOB_BLOBS_MAX]; /* positions of token_begin */
} kvt_cuda_rope_head;

typedef struct kvt_cuda_rope_small {
    kvt_cuda_rope_head head;
    uint32_t ids[KVT_CUDA_ROPE_IDS_SMALL];
} kvt_cuda_rope_small;

typedef struct kvt_cuda_rope_job {
    kvt_cuda_rope_head head;
    uint32_t ids[KVT_CUDA_IDS_MAX]; /* blob by blob */
} kvt_cuda_rope_job;

static_assert(sizeof(kvt_cuda_rope_small) <= 4096, "parameters that every driver takes the short way");
static_assert(sizeof(kvt_cuda_rope_job) <= KVT_CUDA_PARAMETERS_MAX, "parameters that a kernel can take");
static_assert(offsetof(kvt_cuda_rope_small, ids) == offsetof(kvt_cuda_rope_job, ids), "one begins like the other");

typedef struct kvt_cuda_rope_spot {
    uint8_t *page; /* NULL: nothing to do */
    const uint8_t *blob;
    uint32_t second; /* bytes from the first access to the second; 0: there is none */
    uint32_t turn;   /* of the first pair, in the tile's list; neighbours' second access: half a token's list on */
    uint32_t turns;  /* 1: this unit turns */
} kvt_cuda_rope_spot;

/* Turns from one access of a window to the next: a whole pair lies in two accesses half a window apart, or in one. */
KVT_JOB_INLINE uint32_t kvt_cuda_rope_turns_of_access(const kvt_cuda_rope_head *head)
{
    uint32_t elements = head->rope.element == KVT_ROPE_FP32 ? 4 : 8;
    return head->rope.pairing == KVT_ROPE_NEOX ? elements : elements / 2;
}

/* Bytes into a head of a unit's first access, and from there to the second (0: none). */
KVT_JOB_INLINE uint32_t kvt_cuda_rope_begin(const kvt_cuda_rope_head *head, uint32_t unit, uint32_t *second)
{
    const uint32_t access = KVT_JOB_ACCESS_MAX;
    if (unit < head->window_units) {
        *second = head->rope.window_bytes / 2;
        return head->rope.window_begin + unit * access;
    }
    /* The others in two strands, so that neighbouring threads stay neighbours. */
    uint32_t first = unit - head->window_units, strand = (head->rest_accesses + 1) / 2, other = first + strand;
    uint32_t begin = first * access, end = other * access;
    begin += begin < head->rope.window_begin ? 0 : head->rope.window_bytes;
    end += end < head->rope.window_begin ? 0 : head->rope.window_bytes;
    *second = other < head->rest_accesses ? end - begin : 0;
    return begin;
}

/* A tile's number: token tiles innermost. */
KVT_JOB_INLINE uint32_t kvt_cuda_rope_tile_layer(const kvt_cuda_rope_head *head, uint32_t tile)
{
    return kvt_job_divide(&head->token_tiles, tile) * head->layers.extent;
}

KVT_JOB_INLINE uint32_t kvt_cuda_rope_tile_token(const kvt_cuda_rope_head *head, uint32_t tile)
{
    return (tile - kvt_job_divide(&head->token_tiles, tile) * head->token_tiles.extent) * head->tile_tokens;
}

/* Where unit number `n` of a tile lies; units are counted by unit, head, plane, layer, token. */
KVT_JOB_INLINE kvt_cuda_rope_spot kvt_cuda_rope_locate(const kvt_cuda_rope_head *head, const uint32_t *ids,
                                                       uint32_t blob, uint32_t tile, uint32_t n)
{
    uint32_t rest = kvt_job_divide(&head->units, n), unit = n - rest * head->units.extent, in_tile;
    uint32_t above = kvt_job_divide(&head->heads, rest), h = rest - above * head->heads.extent;
    rest = kvt_job_divide(&head->planes, above);
    uint32_t plane = above - rest * head->planes.extent;
    in_tile = kvt_job_divide(&head->layers, rest);
    uint32_t layer = kvt_cuda_rope_tile_layer(head, tile) + rest - in_tile * head->layers.extent;
    uint32_t token = kvt_cuda_rope_tile_token(head, tile) + in_tile;
    kvt_cuda_rope_spot spot = {0, 0, 0, 0, 0};
    if (n >= head->tile_units || layer >= head->layer_count || token >= head->token_count)
        return spot;
    uint32_t row = head->token_begin + token, ordinal = kvt_job_divide(&head->page, row);
    uint32_t id = ids[blob * head->id_count + ordinal], begin = unit;
    row -= ordinal * head->page.extent;
    spot.turns = unit < head->window_units && (head->plane_mask >> plane & 1) != 0;
    if (id == UINT32_C(0xffffffff) || (head->way != KVT_CUDA_ROPE_FUSED && spot.turns == 0))
        return spot;
    spot.turn = in_tile * head->pairs.extent + unit;
    if (head->way != KVT_CUDA_ROPE_BY_PAIR) {
        begin = kvt_cuda_rope_begin(head, unit, &spot.second);
        spot.turn = in_tile * head->pairs.extent + unit * kvt_cuda_rope_turns_of_access(head);
    } else
        begin = head->rope.window_begin;
    const int64_t *page = head->page_strides, *in_blob = head->blob_strides;
    spot.page = (uint8_t *)(uintptr_t)(head->table[plane * head->table_plane + layer * head->table_layer] +
                                       (uint64_t)(head->page_offset + id * page[0] + plane * page[1] + layer * page[2] +
                                                  row * page[3] + h * page[4]) +
                                       begin);
    spot.blob = (const uint8_t *)((uintptr_t)head->segments[blob] +
                                  (uintptr_t)(head->blob_offset + plane * in_blob[0] + layer * in_blob[1] +
                                              token * in_blob[2] + h * in_blob[3]) +
                                  begin);
    return spot;
}

#ifdef __cplusplus
extern "C" {
#endif

/* Queue the job on a stream (a cudaStream_t); the result is a cudaError_t. grid: unroll 2 or, with a block limit, 4. */
int kvt_cuda_launch_rope(const kvt_cuda_rope_job *job, const kvt_cuda_grid *grid, void *stream);

#ifdef __cplusplus
}
#endif

#endif
