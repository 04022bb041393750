/* SPDX-License-Identifier: Apache-2.0
 *
 * libgpu_move: the kernels room behind a few plain functions, so that tools/gpu_compare.py can call it through ctypes
 * beside what a framework offers. Memory, page ids and streams are the caller's. One thread at a time.
 */
#include "tests/cases_kernels.h" /* the named layouts */

#include <cuda_runtime_api.h>

#define EXPORT __attribute__((visibility("default")))

enum { UNDER_WAY = 64 };

typedef struct gpu_move {
    kvt_backend *backend;
    kvt_layout *layout;
    kvt_named_pages named;
    void **bases;
    kvt_fence fences[UNDER_WAY]; /* of the calls of late; waited for when their turn comes again */
    uint32_t turn;
} gpu_move;

EXPORT const char *gpu_move_error(void);
EXPORT gpu_move *gpu_move_open(const char *layout, uint32_t layers, uint32_t page_tokens, uint32_t pages,
                               uint32_t heads, uint32_t head_bytes, uint32_t chunk_tokens, void **pools);
EXPORT void gpu_move_close(gpu_move *m);
EXPORT int gpu_move_queue(gpu_move *m, int direction, void *blob, const uint32_t *pages, uint32_t tokens, void *stream);
EXPORT double gpu_move_time(gpu_move *m, int direction, void *blob, const uint32_t *pages, uint32_t tokens,
                            void *stream, uint32_t count);

const char *gpu_move_error(void) { return kvt_last_error(); }

void gpu_move_close(gpu_move *m)
{
    for (uint32_t i = 0; i < UNDER_WAY && m->backend != NULL; i++)
        kvt_backend_fence_wait(m->backend, &m->fences[i]);
    kvt_layout_destroy(m->layout);
    kvt_backend_close(m->backend);
    kvt_free(m->bases);
    kvt_free(m);
}

/* Paged memory of a named layout at `pools`, device addresses, one per pool of the layout. NULL on failure. */
gpu_move *gpu_move_open(const char *layout, uint32_t layers, uint32_t page_tokens, uint32_t pages, uint32_t heads,
                        uint32_t head_bytes, uint32_t chunk_tokens, void **pools)
{
    const kvt_page_geometry geometry = {layers, page_tokens, pages, heads, head_bytes, 2, 0, 0};
    const kvt_named_layout *named = kvt_named_layout_by_name(layout);
    gpu_move *m = kvt_alloc(sizeof *m);
    if (m == NULL || named == NULL || kvt_named_layout_build(named, &geometry, &m->named) != KVT_OK)
        goto failed;
    m->bases = kvt_alloc_array(m->named.group.base_count, sizeof *m->bases);
    if (m->bases == NULL || kvt_backend_open("cuda", NULL, &m->backend) != KVT_OK)
        goto failed;
    kvt_named_pages_place(&m->named, pools, m->bases);
    if (kvt_layout_create(&m->named.group, 1, chunk_tokens, &m->layout) == KVT_OK)
        return m;
failed:
    if (m != NULL)
        gpu_move_close(m);
    return NULL;
}

/* Queue a move of all layers: behind what `stream` holds, and before what is queued there later. Direction as
 * kvt_direction; pages are host memory, read during the call. 0 or a kvt_status. */
int gpu_move_queue(gpu_move *m, int direction, void *blob, const uint32_t *pages, uint32_t tokens, void *stream)
{
    kvt_fence *fence = &m->fences[m->turn++ % UNDER_WAY];
    const kvt_move move = {.segment = blob,
                           .pages = pages,
                           .segment_tokens = tokens,
                           .token_count = tokens,
                           .layer_count = m->named.group.layer_count};
    kvt_status status = kvt_backend_fence_wait(m->backend, fence);
    if (status == KVT_OK)
        status = kvt_backend_move(m->backend, m->layout, (kvt_direction)direction, &move, 1, stream, fence);
    if (status == KVT_OK)
        status = kvt_backend_fence_order(m->backend, fence, stream);
    return status;
}

/* The same call `count` times in a row from C, between two events; milliseconds, negative on failure. */
double gpu_move_time(gpu_move *m, int direction, void *blob, const uint32_t *pages, uint32_t tokens, void *stream,
                     uint32_t count)
{
    cudaEvent_t from, to;
    float ms = -1;
    bool ok = cudaEventCreate(&from) == cudaSuccess && cudaEventCreate(&to) == cudaSuccess &&
              cudaStreamSynchronize(stream) == cudaSuccess && cudaEventRecord(from, stream) == cudaSuccess;
    for (uint32_t i = 0; ok && i < count; i++)
        ok = gpu_move_queue(m, direction, blob, pages, tokens, stream) == KVT_OK;
    ok = ok && cudaEventRecord(to, stream) == cudaSuccess && cudaEventSynchronize(to) == cudaSuccess &&
         cudaEventElapsedTime(&ms, from, to) == cudaSuccess;
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return ok ? (double)ms : -1;
}
