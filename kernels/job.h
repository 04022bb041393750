/* SPDX-License-Identifier: Apache-2.0
 *
 * What the planner hands to whoever moves bytes. A job is a strided box: every byte it moves belongs to one item of
 * `run` contiguous bytes, and an item number decodes by mixed-radix division into one ordinal per dimension. The shape
 * holds no pointers, so a device kernel takes it by value. C, C++ and CUDA read this file: no flexible arrays, no
 * atomics, no designators. docs/layouts.md says how a shape is made; nothing here knows a layout by name.
 */
#ifndef KVT_JOB_H
#define KVT_JOB_H

#include <assert.h>
#include <stdint.h>

#if defined(__CUDACC__) || defined(__HIP__)
#define KVT_JOB_INLINE static __host__ __device__ __forceinline__
#define KVT_JOB_UNROLL _Pragma("unroll")
#else
#define KVT_JOB_INLINE static inline
#define KVT_JOB_UNROLL
#endif

enum {
    KVT_JOB_DIMS_MAX = 6,   /* head, row, page, plane, layer and, in front of them, slice */
    KVT_JOB_BLOBS_MAX = 64, /* blobs that share one shape */
    KVT_JOB_ACCESS_MAX = 16 /* widest access, in bytes */
};
#define KVT_JOB_ITEMS_MAX (UINT32_C(1) << 31) /* items x blobs stays below: the reciprocals are exact up to there */

/* One dimension. Ordinal o adds o * page_stride bytes on the page side (for the page dimension: the page id instead of
 * the ordinal), o * blob_stride on the blob side, and o * table_stride entries in the table of base addresses. */
typedef struct kvt_job_dim {
    uint32_t extent;       /* >= 1 */
    uint32_t magic;        /* n / extent == (n * magic) >> shift for every n < KVT_JOB_ITEMS_MAX */
    uint32_t shift;        /* 31..63 */
    uint32_t table_stride; /* 0: selects no pointer */
    int64_t page_stride;
    int64_t blob_stride;
} kvt_job_dim;

typedef struct kvt_job_shape {
    kvt_job_dim dims[KVT_JOB_DIMS_MAX]; /* innermost in the blob first, so consecutive items are consecutive there */
    uint64_t run;                       /* bytes of an item, contiguous on both sides */
    uint64_t tail;                      /* bytes of the last slice; equals run when the shape is not sliced */
    int64_t page_offset;                /* added to every base address */
    int64_t blob_offset;                /* added to every segment */
    uint32_t table_begin;               /* first entry of the table */
    uint32_t dim_count;
    uint32_t page_dim;     /* index of the page dimension; always present, its extent may be 1 */
    uint32_t item_count;   /* items of one blob */
    uint32_t layer_items;  /* items of one layer; layers are outermost, so layer = item / layer_items */
    uint32_t access_bytes; /* widest power of two <= 16 that divides every address and the run */
    uint32_t sliced;       /* 1: dims[0] cuts a longer run into slices, the last of them `tail` bytes */
    uint32_t direction;    /* kvt_direction: 0 pages -> blob, 1 blob -> pages */
} kvt_job_shape;

/* One blob of a job. ids has as many entries as the page dimension's extent; KVT_PAGE_NONE ones are skipped. */
typedef struct kvt_job_blob {
    uint8_t *segment;
    const uint32_t *ids;
} kvt_job_blob;

/* Host side: the shape, and the host arrays that a device backend carries over in its own way. */
typedef struct kvt_job {
    kvt_job_shape shape;
    const uint64_t *table; /* base addresses of the group */
    uint32_t table_count;
    uint32_t blob_count;
    kvt_job_blob blobs[KVT_JOB_BLOBS_MAX];
} kvt_job;

/* A decoded item, still without base address, page id and segment. */
typedef struct kvt_job_item {
    int64_t page_delta;
    int64_t blob_delta;
    uint64_t bytes;
    uint32_t table_index;
    uint32_t page_ordinal; /* into ids */
} kvt_job_item;

KVT_JOB_INLINE uint32_t kvt_job_divide(const kvt_job_dim *dim, uint32_t n)
{
    return (uint32_t)(((uint64_t)n * dim->magic) >> dim->shift);
}

/* Item number (below item_count) -> deltas. The bytes then lie at
 *   table[table_index] + page_delta + ids[page_ordinal] * dims[page_dim].page_stride   and   segment + blob_delta */
KVT_JOB_INLINE kvt_job_item kvt_job_decode(const kvt_job_shape *shape, uint32_t item)
{
    kvt_job_item out;
    out.page_delta = shape->page_offset;
    out.blob_delta = shape->blob_offset;
    out.bytes = shape->run;
    out.table_index = shape->table_begin;
    out.page_ordinal = 0;
    /* Constant indices: a device then reads the shape from its kernel's parameters without address arithmetic. */
    KVT_JOB_UNROLL
    for (uint32_t d = 0; d < KVT_JOB_DIMS_MAX; d++) {
        if (d == shape->dim_count)
            break;
        const kvt_job_dim *dim = &shape->dims[d];
        uint32_t rest = kvt_job_divide(dim, item);
        uint32_t ordinal = item - rest * dim->extent;
        item = rest;
        out.blob_delta += (int64_t)ordinal * dim->blob_stride;
        out.table_index += ordinal * dim->table_stride;
        if (d == shape->page_dim)
            out.page_ordinal = ordinal;
        else
            out.page_delta += (int64_t)ordinal * dim->page_stride;
        if (d == 0 && shape->sliced != 0 && ordinal + 1 == dim->extent)
            out.bytes = shape->tail;
    }
    return out;
}

static_assert(sizeof(kvt_job_dim) == 32, "the same on host and device");
static_assert(sizeof(kvt_job_shape) == KVT_JOB_DIMS_MAX * 32 + 64, "the same on host and device");

#endif
