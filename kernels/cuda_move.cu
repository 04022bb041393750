// SPDX-License-Identifier: Apache-2.0
//
// Gather and scatter on the device: one family of kernels, instantiated by word width and words in flight. A kernel
// knows strides and nothing of a page format. Many small blocks, few loads a thread, loads that leave L1 alone and
// stores that stream: docs/gpu_backend.md has the measurements behind each of these. The looping form is for a bounded
// number of blocks: a quota of multiprocessors, or host memory at the far end of a slow link.
#include "kernels/hip_compat.h" // first: it brings the words of the language

#include "kernels/cuda_launch.h"

namespace
{

// All loads first, then all stores.
template <typename Word, int UNROLL>
__device__ __forceinline__ void copy_item(const kvt_cuda_head &head, const kvt_cuda_spot &spot, uint32_t lane)
{
    const bool gather = head.shape.direction == 0;
    const uint8_t *from = gather ? spot.page : spot.blob;
    uint8_t *to = gather ? spot.blob : spot.page;
    const uint32_t step = head.lanes.extent * sizeof(Word);
    const uint32_t first = lane * sizeof(Word);
    Word held[UNROLL];
#pragma unroll
    for (int k = 0; k < UNROLL; k++)
        if (first + k * step < spot.bytes)
            held[k] = kvt_device_load<Word>(from + first + k * step);
#pragma unroll
    for (int k = 0; k < UNROLL; k++)
        if (first + k * step < spot.bytes)
            kvt_device_store(to + first + k * step, held[k]);
}

// One group of items per block; blockIdx.y is the blob.
template <typename Word, int UNROLL, typename Job>
__global__ void __launch_bounds__(KVT_CUDA_THREADS_MAX) move_once(const __grid_constant__ Job job)
{
    const uint32_t group = kvt_job_divide(&job.head.lanes, threadIdx.x);
    const uint32_t lane = threadIdx.x - group * job.head.lanes.extent;
    const uint32_t item = blockIdx.x * job.head.items_per_block + group;
    if (group < job.head.items_per_block && item < job.head.shape.item_count)
        copy_item<Word, UNROLL>(job.head, kvt_cuda_locate(&job.head, job.ids, blockIdx.y, item), lane);
}

// One item per block: what is decoded is the same for all its threads.
template <typename Word, int UNROLL, typename Job>
__global__ void __launch_bounds__(KVT_CUDA_THREADS_MAX) move_whole(const __grid_constant__ Job job)
{
    copy_item<Word, UNROLL>(job.head, kvt_cuda_locate(&job.head, job.ids, blockIdx.y, blockIdx.x), threadIdx.x);
}

// A bounded number of blocks walks over the items of all blobs.
template <typename Word, int UNROLL, typename Job>
__global__ void __launch_bounds__(KVT_CUDA_THREADS_MAX) move_loop(const __grid_constant__ Job job)
{
    const uint32_t group = kvt_job_divide(&job.head.lanes, threadIdx.x);
    const uint32_t lane = threadIdx.x - group * job.head.lanes.extent;
    const uint32_t count = job.head.shape.item_count * job.head.blob_count;
    if (group >= job.head.items_per_block)
        return;
    for (uint32_t n = blockIdx.x * job.head.items_per_block + group; n < count;
         n += gridDim.x * job.head.items_per_block) {
        const uint32_t blob = kvt_job_divide(&job.head.items, n);
        const uint32_t item = n - blob * job.head.items.extent;
        copy_item<Word, UNROLL>(job.head, kvt_cuda_locate(&job.head, job.ids, blob, item), lane);
    }
}

enum { ONCE, WHOLE, LOOP };

template <typename Word, int UNROLL, typename Job> const void *kernel_of(int form)
{
    if (form == LOOP)
        return reinterpret_cast<const void *>(move_loop<Word, UNROLL, Job>);
    if (form == WHOLE)
        return reinterpret_cast<const void *>(move_whole<Word, UNROLL, Job>);
    return reinterpret_cast<const void *>(move_once<Word, UNROLL, Job>);
}

// Words below 16 bytes are rare; one depth serves them.
template <typename Job> const void *pick(uint32_t access, uint32_t unroll, int form)
{
    switch (access) {
    case 16:
        return unroll == 1   ? kernel_of<uint4, 1, Job>(form)
               : unroll == 2 ? kernel_of<uint4, 2, Job>(form)
                             : kernel_of<uint4, 8, Job>(form);
    case 8:
        return kernel_of<unsigned long long, 8, Job>(form);
    case 4:
        return kernel_of<unsigned, 8, Job>(form);
    case 2:
        return kernel_of<unsigned short, 8, Job>(form);
    default:
        return kernel_of<unsigned char, 8, Job>(form);
    }
}

} // namespace

extern "C" int kvt_cuda_launch(const kvt_cuda_job *job, const kvt_cuda_grid *grid, void *stream)
{
    const kvt_cuda_head &head = job->head;
    const bool loop = grid->block_limit != 0;
    const int form = loop ? LOOP : head.lanes.extent == head.threads ? WHOLE : ONCE;
    const bool small = head.id_count * head.blob_count <= KVT_CUDA_IDS_SMALL;
    const void *kernel = small ? pick<kvt_cuda_small>(head.shape.access_bytes, grid->unroll, form)
                               : pick<kvt_cuda_job>(head.shape.access_bytes, grid->unroll, form);
    void *arguments[] = {const_cast<kvt_cuda_job *>(job)};
    return cudaLaunchKernel(kernel, dim3(head.block_count, loop ? 1 : head.blob_count), dim3(head.threads), arguments,
                            0, static_cast<cudaStream_t>(stream));
}
