/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the CUDA backend: which ranges of host memory the device knows, where a segment lies, pages for tests and
 * tools, and the rings of the pipes. A range is registered in pieces, each of which is usable as soon as it is done.
 */
#include "kernels/cuda_int.h"

kvt_status kvt_cuda_fail(cudaError_t error, const char *what)
{
    cudaGetLastError(); /* else the host process would find this error behind a call of its own */
    return kvt_fail(error == cudaErrorMemoryAllocation ? KVT_NOMEM : KVT_DEVICE, "CUDA: %s: %s (%d)", what,
                    cudaGetErrorString(error), (int)error);
}

/* ------------------------------------------------------------------- ranges */

uint64_t kvt_cuda_registered_span(kvt_cuda *cuda, const void *memory, uint64_t bytes)
{
    uintptr_t at = (uintptr_t)memory;
    uint64_t span = 0;
    pthread_rwlock_rdlock(&cuda->range_lock);
    for (uint32_t i = 0; i < cuda->range_count; i++)
        if (at >= cuda->ranges[i].begin && at < cuda->ranges[i].end)
            span = kvt_min_u64(bytes, cuda->ranges[i].end - at);
    pthread_rwlock_unlock(&cuda->range_lock);
    return span;
}

kvt_cuda_place kvt_cuda_place_of(kvt_cuda *cuda, const void *memory)
{
    if (kvt_cuda_registered_span(cuda, memory, 1) != 0)
        return KVT_CUDA_PINNED;
    struct cudaPointerAttributes attributes;
    if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
        cudaGetLastError();
        return KVT_CUDA_PAGEABLE;
    }
    if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged)
        return KVT_CUDA_DEVICE;
    return attributes.type == cudaMemoryTypeHost ? KVT_CUDA_PINNED : KVT_CUDA_PAGEABLE;
}

static bool add_range(kvt_cuda *cuda, uintptr_t begin, uint64_t bytes, void *owner)
{
    pthread_rwlock_wrlock(&cuda->range_lock);
    bool room = cuda->range_count < KVT_CUDA_RANGES_MAX;
    if (room)
        cuda->ranges[cuda->range_count++] = (kvt_cuda_range){begin, begin + bytes, owner};
    pthread_rwlock_unlock(&cuda->range_lock);
    return room;
}

static kvt_status register_piece(kvt_cuda *cuda, uint8_t *piece, uint64_t bytes, void *owner)
{
    KVT_CUDA_TRY(cudaHostRegister(piece, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped));
    if (add_range(cuda, (uintptr_t)piece, bytes, owner))
        return KVT_OK;
    cudaHostUnregister(piece);
    return kvt_fail(KVT_DEVICE, "more than %d ranges of host memory are registered", KVT_CUDA_RANGES_MAX);
}

kvt_status kvt_cuda_host_register(void *context, void *memory, uint64_t bytes)
{
    kvt_cuda *cuda = context;
    KVT_CUDA_TRY(cudaSetDevice(cuda->device));
    for (uint64_t at = 0; at < bytes; at += cuda->register_bytes) {
        kvt_status status =
            register_piece(cuda, (uint8_t *)memory + at, kvt_min_u64(cuda->register_bytes, bytes - at), memory);
        if (status != KVT_OK) {
            kvt_cuda_host_unregister(cuda, memory);
            return status;
        }
    }
    return KVT_OK;
}

void kvt_cuda_host_unregister(void *context, void *memory)
{
    kvt_cuda *cuda = context;
    cudaSetDevice(cuda->device);
    pthread_rwlock_wrlock(&cuda->range_lock);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cuda->range_count; i++) {
        kvt_cuda_range range = cuda->ranges[i];
        if (range.owner != memory)
            cuda->ranges[kept++] = range;
        else if (cudaHostUnregister((void *)range.begin) != cudaSuccess)
            cudaGetLastError();
    }
    cuda->range_count = kept;
    pthread_rwlock_unlock(&cuda->range_lock);
}

/* -------------------------------------------------------------------- pages */

kvt_status kvt_cuda_pages_alloc(void *context, uint64_t bytes, void **out)
{
    kvt_cuda *cuda = context;
    void *pages;
    KVT_CUDA_TRY(cudaSetDevice(cuda->device));
    KVT_CUDA_TRY(cudaMalloc(&pages, bytes));
    *out = pages;
    return KVT_OK;
}

void kvt_cuda_pages_free(void *context, void *pages, uint64_t bytes)
{
    (void)context, (void)bytes;
    if (cudaFree(pages) != cudaSuccess)
        cudaGetLastError();
}

kvt_status kvt_cuda_pages_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes)
{
    (void)direction;
    kvt_cuda *cuda = context;
    KVT_CUDA_TRY(cudaSetDevice(cuda->device));
    KVT_CUDA_TRY(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
    return KVT_OK;
}

/* -------------------------------------------------------------------- pipes */

static kvt_status create_slot(kvt_cuda_slot *slot)
{
    void *memory;
    KVT_CUDA_TRY(cudaMalloc(&memory, KVT_CUDA_SLOT_BYTES));
    slot->memory = memory;
    KVT_CUDA_TRY(cudaEventCreateWithFlags(&slot->full, cudaEventDisableTiming));
    KVT_CUDA_TRY(cudaEventCreateWithFlags(&slot->free, cudaEventDisableTiming));
    return KVT_OK;
}

static kvt_status create_parts(kvt_cuda_pipe *pipe, bool urgent)
{
    int least, greatest; /* the greatest priority is the smallest number */
    KVT_CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    int priority = urgent ? greatest : least;
    KVT_CUDA_TRY(cudaStreamCreateWithPriority(&pipe->kernels, cudaStreamNonBlocking, priority));
    KVT_CUDA_TRY(cudaStreamCreateWithPriority(&pipe->copies, cudaStreamNonBlocking, priority));
    KVT_CUDA_TRY(cudaEventCreateWithFlags(&pipe->order, cudaEventDisableTiming));
    for (uint32_t s = 0; s < KVT_CUDA_SLOTS; s++)
        KVT_TRY(create_slot(&pipe->slots[s]));
    return KVT_OK;
}

kvt_status kvt_cuda_pipe_create(bool urgent, kvt_cuda_pipe **out)
{
    kvt_cuda_pipe *pipe = kvt_alloc(sizeof *pipe);
    if (pipe == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a pipe");
    pthread_mutex_init(&pipe->lock, NULL);
    kvt_status status = create_parts(pipe, urgent);
    if (status != KVT_OK) {
        kvt_cuda_pipe_destroy(pipe);
        return status;
    }
    *out = pipe;
    return KVT_OK;
}

static void destroy_event(cudaEvent_t event)
{
    if (event != NULL)
        cudaEventDestroy(event);
}

static void destroy_stream(cudaStream_t stream)
{
    if (stream == NULL)
        return;
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
}

void kvt_cuda_pipe_destroy(kvt_cuda_pipe *pipe)
{
    if (pipe == NULL)
        return;
    destroy_stream(pipe->kernels);
    destroy_stream(pipe->copies);
    destroy_event(pipe->order);
    for (uint32_t s = 0; s < KVT_CUDA_SLOTS; s++) {
        if (pipe->slots[s].memory != NULL)
            cudaFree(pipe->slots[s].memory);
        destroy_event(pipe->slots[s].full);
        destroy_event(pipe->slots[s].free);
    }
    cudaGetLastError();
    pthread_mutex_destroy(&pipe->lock);
    kvt_free(pipe);
}
