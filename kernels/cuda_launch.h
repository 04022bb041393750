/* SPDX-License-Identifier: Apache-2.0
 *
 * The seam between the C glue and the device code of the CUDA backend: what one launch is told, by value, and where the
 * bytes of an item lie. C, C++ and CUDA read it. A block serves `items_per_block` items with `lanes` threads each;
 * every thread moves at most `unroll` words of its item. The ids and base addresses that the job needs travel inside
 * the kernel's parameters, so a launch has no upload to wait for and nothing to free.
 */
#ifndef KVT_CUDA_LAUNCH_H
#define KVT_CUDA_LAUNCH_H

#include "kernels/job.h"

#include <stddef.h>

enum {
    KVT_CUDA_TABLE_MAX = 128,        /* base addresses of a launch */
    KVT_CUDA_IDS_SMALL = 512,        /* page ids of a launch whose parameters stay within 4 KiB */
    KVT_CUDA_IDS_MAX = 6144,         /* and of any launch */
    KVT_CUDA_PARAMETERS_MAX = 32764, /* bytes; sm_70 and later */
    KVT_CUDA_THREADS_MAX = 512
};

typedef struct kvt_cuda_head {
    kvt_job_shape shape; /* sliced, so that an item has at most lanes x unroll words */
    kvt_job_dim lanes;   /* divides a thread's number */
    kvt_job_dim items;   /* divides an item's number in a loop over all blobs */
    uint32_t items_per_block;
    uint32_t blob_count;
    uint32_t id_count; /* of a blob */
    uint32_t block_count;
    uint32_t threads; /* of a block */
    uint64_t table[KVT_CUDA_TABLE_MAX];
    uint8_t *segments[KVT_JOB_BLOBS_MAX];
} kvt_cuda_head;

typedef struct kvt_cuda_small {
    kvt_cuda_head head;
    uint32_t ids[KVT_CUDA_IDS_SMALL];
} kvt_cuda_small;

/* The glue fills this one; a launch with few ids passes the first part of it. */
typedef struct kvt_cuda_job {
    kvt_cuda_head head;
    uint32_t ids[KVT_CUDA_IDS_MAX]; /* blob by blob */
} kvt_cuda_job;

static_assert(sizeof(kvt_cuda_small) <= 4096, "parameters that every driver takes the short way");
static_assert(sizeof(kvt_cuda_job) <= KVT_CUDA_PARAMETERS_MAX, "parameters that a kernel can take");
static_assert(offsetof(kvt_cuda_small, ids) == offsetof(kvt_cuda_job, ids), "one is the beginning of the other");

/* How a launch spreads over the device. */
typedef struct kvt_cuda_grid {
    uint32_t threads;     /* of a block; a multiple of 32, at most KVT_CUDA_THREADS_MAX; twice as many where items of an
                             odd size would leave more than a quarter of them idle */
    uint32_t unroll;      /* loads in flight per thread: 1, 2 or 8 */
    uint32_t block_limit; /* 0: one block per group of items; else so many blocks loop over all of them */
} kvt_cuda_grid;

typedef struct kvt_cuda_spot {
    uint8_t *page;
    uint8_t *blob;
    uint32_t bytes;
} kvt_cuda_spot;

/* Where an item's bytes lie; bytes is 0 for a hole. */
KVT_JOB_INLINE kvt_cuda_spot kvt_cuda_locate(const kvt_cuda_head *head, const uint32_t *ids, uint32_t blob,
                                             uint32_t item)
{
    kvt_job_item at = kvt_job_decode(&head->shape, item);
    uint32_t id = ids[blob * head->id_count + at.page_ordinal];
    int64_t page_stride = 0;
    KVT_JOB_UNROLL
    for (uint32_t d = 0; d < KVT_JOB_DIMS_MAX; d++)
        if (d == head->shape.page_dim)
            page_stride = head->shape.dims[d].page_stride;
    kvt_cuda_spot spot;
    spot.page =
        (uint8_t *)(uintptr_t)(head->table[at.table_index] + (uint64_t)at.page_delta + id * (uint64_t)page_stride);
    spot.blob = (uint8_t *)((uintptr_t)head->segments[blob] + (uintptr_t)at.blob_delta);
    spot.bytes = id == UINT32_C(0xffffffff) ? 0 : (uint32_t)at.bytes;
    return spot;
}

#ifdef __cplusplus
extern "C" {
#endif

/* Queue the job on a stream (a cudaStream_t); the result is a cudaError_t. head.block_count says how many blocks. */
int kvt_cuda_launch(const kvt_cuda_job *job, const kvt_cuda_grid *grid, void *stream);

#ifdef __cplusplus
}
#endif

#endif
