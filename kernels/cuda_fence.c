/* SPDX-License-Identifier: Apache-2.0
 *
 * Fences: one CUDA event each, from a pool, so that a move allocates nothing once the pool has grown to the number of
 * moves under way. A wait asks without a pause for the time of a small transfer, lets other threads run between its
 * questions for that of a chunk, and sleeps afterwards, for a share of what it has waited so far: the shortest sleep
 * that a kernel grants is 50 us, which a chunk's transfer would feel.
 */
#include "kernels/cuda_int.h"

#include <sched.h>
#include <time.h>

enum { SPIN_NS = 50000, YIELD_NS = 2000000, NAP_SHARE = 32, NAP_NS_MAX = 1000000 };

static kvt_cuda_fence *take_idle(kvt_cuda *cuda)
{
    pthread_mutex_lock(&cuda->fence_lock);
    kvt_cuda_fence *fence = cuda->fences;
    if (fence != NULL)
        cuda->fences = fence->next;
    pthread_mutex_unlock(&cuda->fence_lock);
    return fence;
}

static void give_idle(kvt_cuda *cuda, kvt_cuda_fence *fence)
{
    pthread_mutex_lock(&cuda->fence_lock);
    fence->next = cuda->fences;
    cuda->fences = fence;
    pthread_mutex_unlock(&cuda->fence_lock);
}

kvt_status kvt_cuda_fence_record(kvt_cuda *cuda, cudaStream_t stream, kvt_fence *out)
{
    kvt_cuda_fence *fence = take_idle(cuda);
    if (fence == NULL) {
        fence = kvt_alloc(sizeof *fence);
        if (fence == NULL)
            return kvt_fail(KVT_NOMEM, "no memory for a fence");
        cudaError_t error = cudaEventCreateWithFlags(&fence->event, cudaEventDisableTiming);
        if (error != cudaSuccess) {
            kvt_free(fence);
            return kvt_cuda_fail(error, "cudaEventCreateWithFlags");
        }
    }
    cudaError_t error = cudaEventRecord(fence->event, stream);
    if (error != cudaSuccess) {
        give_idle(cuda, fence);
        return kvt_cuda_fail(error, "cudaEventRecord");
    }
    out->impl = fence;
    return KVT_OK;
}

static void pause_after(uint64_t waited_ns)
{
    if (waited_ns > YIELD_NS)
        nanosleep(&(struct timespec){.tv_nsec = (long)kvt_min_u64(waited_ns / NAP_SHARE, NAP_NS_MAX)}, NULL);
    else if (waited_ns > SPIN_NS)
        sched_yield();
}

kvt_status kvt_cuda_fence_wait(void *context, kvt_fence *fence)
{
    kvt_cuda *cuda = context;
    kvt_cuda_fence *held = fence->impl;
    uint64_t begin = kvt_now_ns();
    cudaError_t error;
    while ((error = cudaEventQuery(held->event)) == cudaErrorNotReady)
        pause_after(kvt_now_ns() - begin);
    give_idle(cuda, held);
    return error == cudaSuccess ? KVT_OK : kvt_cuda_fail(error, "a move on the device");
}

kvt_status kvt_cuda_fence_order(void *context, const kvt_fence *fence, void *stream)
{
    (void)context;
    const kvt_cuda_fence *held = fence->impl;
    KVT_CUDA_TRY(cudaStreamWaitEvent((cudaStream_t)stream, held->event, 0));
    return KVT_OK;
}

void kvt_cuda_fences_destroy(kvt_cuda *cuda)
{
    while (cuda->fences != NULL) {
        kvt_cuda_fence *fence = cuda->fences;
        cuda->fences = fence->next;
        cudaEventDestroy(fence->event);
        kvt_free(fence);
    }
}
