/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that is moved: paged pools on the device, blobs on the device or in registered host memory, all random
 * bytes; and the check that a timed way is also a right one.
 */
#include "tools/gpubench/gpubench.h"

#include <stdlib.h>

bool gb_cuda(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return true;
    fprintf(stderr, "gpubench: %s: %s\n", what, cudaGetErrorString(error));
    cudaGetLastError();
    return false;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

static void shuffle(uint32_t *ids, uint32_t count)
{
    uint64_t state = 88172645463325252u;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)(next_random(&state) % i), held = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = held;
    }
}

/* Random bytes in pages and blobs: 16 MiB of them, over and over. */
static bool fill(gb_set *set)
{
    const uint64_t block = UINT64_C(16) << 20;
    uint64_t state = 1234567, *words = kvt_alloc(block);
    bool ok = words != NULL;
    for (uint64_t i = 0; ok && i < block / 8; i++)
        words[i] = next_random(&state);
    for (uint64_t at = 0; ok && at < set->pages_bytes; at += block)
        ok = GB_CUDA(cudaMemcpy(set->pages + at, words, kvt_min_u64(block, set->pages_bytes - at), cudaMemcpyDefault));
    for (uint64_t at = 0; ok && at < set->blobs_bytes; at += block)
        ok = GB_CUDA(cudaMemcpy(set->blobs + at, words, kvt_min_u64(block, set->blobs_bytes - at), cudaMemcpyDefault));
    kvt_free(words);
    return ok;
}

static bool open_blobs(gb_set *set)
{
    void *blobs = NULL;
    kvt_page_kind kind;
    if (set->on_device) {
        if (!GB_CUDA(cudaMalloc(&blobs, set->blobs_bytes)))
            return false;
        set->blobs = blobs;
        return true;
    }
    set->blobs = kvt_pages_map(set->blobs_bytes, &kind);
    if (set->blobs == NULL)
        return false;
    kvt_pages_touch(set->blobs, set->blobs_bytes, 8);
    return kvt_backend_host_register(set->bench->backend, set->blobs, set->blobs_bytes) == KVT_OK;
}

static bool open_parts(gb_set *set, const gb_case *of)
{
    const kvt_named_layout *named = kvt_named_layout_by_name(of->layout);
    const uint32_t pages = set->count * set->blob_pages;
    const kvt_page_geometry geometry = {of->layers, of->page_tokens, pages, of->heads, of->head_bytes, 2, 0, 0};
    if (named == NULL || kvt_named_layout_build(named, &geometry, &set->named) != KVT_OK)
        return false;
    uint64_t span = kvt_align_up(set->named.pool_bytes, 4096);
    set->pages_bytes = span * set->named.pool_count;
    set->blob_bytes = (uint64_t)of->layers * named->planes * of->tokens * of->heads * of->head_bytes;
    set->blobs_bytes = kvt_align_up(set->blob_bytes * set->count, KVT_HUGE_PAGE_BYTES);
    set->ids = kvt_alloc_array(pages, sizeof *set->ids);
    set->pools = kvt_alloc_array(set->named.pool_count, sizeof *set->pools);
    set->bases = kvt_alloc_array(set->named.group.base_count, sizeof *set->bases);
    void *memory = NULL;
    if (set->ids == NULL || set->pools == NULL || set->bases == NULL ||
        kvt_backend_pages_alloc(set->bench->backend, set->pages_bytes, &memory) != KVT_OK)
        return false;
    set->pages = memory;
    for (uint32_t i = 0; i < set->named.pool_count; i++)
        set->pools[i] = set->pages + i * span;
    kvt_named_pages_place(&set->named, set->pools, set->bases);
    shuffle(set->ids, pages);
    return open_blobs(set) && fill(set) && kvt_layout_create(&set->named.group, 1, of->tokens, &set->layout) == KVT_OK;
}

bool gb_set_open(gb_set *set, gb *bench, const gb_case *of, uint32_t count, bool on_device)
{
    *set = (gb_set){.bench = bench,
                    .count = count,
                    .tokens = of->tokens,
                    .blob_pages = of->tokens / of->page_tokens,
                    .on_device = on_device};
    if (open_parts(set, of) && gb_set_check(set))
        return true;
    fprintf(stderr, "gpubench: %s, %s: %s\n", of->name, of->layout, kvt_last_error());
    bench->failed++;
    return false;
}

void gb_set_close(gb_set *set)
{
    cudaDeviceSynchronize();
    kvt_layout_destroy(set->layout);
    if (set->on_device)
        cudaFree(set->blobs);
    else if (set->blobs != NULL) {
        kvt_backend_host_unregister(set->bench->backend, set->blobs);
        kvt_pages_unmap(set->blobs, set->blobs_bytes);
    }
    if (set->pages != NULL)
        kvt_backend_pages_free(set->bench->backend, set->pages, set->pages_bytes);
    kvt_free(set->ids), kvt_free(set->pools), kvt_free(set->bases);
}

kvt_move gb_set_move(const gb_set *set, uint32_t i)
{
    i %= set->count;
    return (kvt_move){.segment = set->blobs + i * set->blob_bytes,
                      .pages = set->ids + (size_t)i * set->blob_pages,
                      .segment_tokens = set->tokens,
                      .token_count = set->tokens,
                      .layer_count = set->named.group.layer_count};
}

bool gb_set_queue(gb_set *set, kvt_direction direction, uint32_t begin, uint32_t count, cudaStream_t stream,
                  kvt_fence *fence)
{
    kvt_move moves[GB_SET_MAX];
    for (uint32_t i = 0; i < count; i++)
        moves[i] = gb_set_move(set, begin + i);
    if (kvt_backend_move(set->bench->backend, set->layout, direction, moves, count, stream, fence) == KVT_OK)
        return true;
    fprintf(stderr, "gpubench: %s\n", kvt_last_error());
    set->bench->failed++;
    return false;
}

bool gb_set_copy(gb_set *set, kvt_direction direction, uint32_t i, cudaStream_t stream)
{
    i %= set->count;
    uint8_t *blob = set->blobs + i * set->blob_bytes, *flat = set->pages + i * set->blob_bytes;
    return GB_CUDA(cudaMemcpyAsync(direction == KVT_GATHER ? blob : flat, direction == KVT_GATHER ? flat : blob,
                                   set->blob_bytes, cudaMemcpyDefault, stream));
}

/* Where byte `at` of blob i lies in its pages: from the descriptor, by the formula of docs/layouts.md. */
static const uint8_t *place_of(const gb_set *set, uint32_t i, uint64_t at)
{
    const kvt_group *group = &set->named.group;
    const kvt_view *v = &group->views[0];
    uint64_t row = (uint64_t)v->head_count * v->head_bytes, plane_bytes = row * set->tokens;
    uint64_t layer = at / (plane_bytes * v->plane_count), plane = at / plane_bytes % v->plane_count;
    uint64_t token = at % plane_bytes / row, head = at % row / v->head_bytes, byte = at % v->head_bytes;
    uint32_t id = set->ids[i * set->blob_pages + token / group->page_tokens];
    const uint8_t *base = group->bases[plane * v->base_plane + layer * v->base_layer];
    return base + id * v->page_stride + (int64_t)plane * v->plane_stride + (int64_t)layer * v->layer_stride +
           (int64_t)(token % group->page_tokens) * v->token_stride + (int64_t)head * v->head_stride + v->offset + byte;
}

static bool check_one(gb_set *set, uint32_t i, const uint8_t *pages, uint8_t *blob)
{
    if (!GB_CUDA(cudaMemcpy(blob, set->blobs + i * set->blob_bytes, set->blob_bytes, cudaMemcpyDefault)))
        return false;
    for (uint64_t at = 0; at < set->blob_bytes; at += set->blob_bytes / 4096 + 17)
        if (blob[at] != pages[place_of(set, i, at) - set->pages])
            return false;
    return true;
}

bool gb_set_check(gb_set *set)
{
    uint8_t *pages = malloc(set->pages_bytes), *blob = malloc(set->blob_bytes);
    bool right = pages != NULL && blob != NULL;
    kvt_fence fence = {0};
    for (int way = 0; right && way < 2; way++) { /* out as it is; then in, after the pages were wiped */
        uint32_t i = way == 0 ? 0 : set->count - 1;
        if (way == 1)
            right = GB_CUDA(cudaMemset(set->pages, 0x5a, set->pages_bytes)) && GB_CUDA(cudaDeviceSynchronize());
        right = right && gb_set_queue(set, way == 0 ? KVT_GATHER : KVT_SCATTER, i, 1, set->bench->stream, &fence) &&
                kvt_backend_fence_wait(set->bench->backend, &fence) == KVT_OK &&
                GB_CUDA(cudaMemcpy(pages, set->pages, set->pages_bytes, cudaMemcpyDefault)) &&
                check_one(set, i, pages, blob);
        if (!right)
            kvt_fail(KVT_CORRUPT, "wrong bytes after a %s", way == 0 ? "gather" : "scatter");
    }
    free(pages), free(blob);
    return right && fill(set);
}
