/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs -> kernel launches. A job is cut until its page ids and base addresses fit the parameters of a kernel, sliced to
 * what a thread block takes at a time, and queued. Nothing here waits, uploads or allocates.
 */
#include "kernels/cuda_int.h"

void kvt_cuda_job_part(kvt_job *job, uint32_t d, uint32_t begin, uint32_t count)
{
    kvt_job_shape *shape = &job->shape;
    kvt_job_dim *dim = &shape->dims[d];
    bool layers = d == shape->dim_count - 1 && shape->layer_items != shape->item_count;
    shape->item_count = shape->item_count / dim->extent * count;
    if (!layers)
        shape->layer_items = shape->layer_items / dim->extent * count;
    shape->blob_offset += (int64_t)begin * dim->blob_stride;
    shape->table_begin += begin * dim->table_stride;
    if (d == shape->page_dim)
        for (uint32_t b = 0; b < job->blob_count; b++)
            job->blobs[b].ids += begin;
    else
        shape->page_offset += (int64_t)begin * dim->page_stride;
    dim->extent = count;
    kvt_job_dim_prepare(dim);
}

/* ---------------------------------------------------------------- parameters */

/* The base addresses that the job uses, renumbered: the dimensions that select one count on from each other. */
static void fill_table(kvt_cuda_head *head, const kvt_job *job)
{
    uint32_t count = 1;
    for (uint32_t d = 0; d < head->shape.dim_count; d++) {
        kvt_job_dim *dim = &head->shape.dims[d];
        if (dim->table_stride == 0)
            continue;
        dim->table_stride = count;
        count *= dim->extent;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = job->shape.table_begin, rest = i;
        for (uint32_t d = 0; d < job->shape.dim_count; d++)
            if (job->shape.dims[d].table_stride != 0) {
                at += rest % job->shape.dims[d].extent * job->shape.dims[d].table_stride;
                rest /= job->shape.dims[d].extent;
            }
        head->table[i] = job->table[at];
    }
    head->shape.table_begin = 0;
}

static uint32_t divide_up(uint64_t value, uint32_t by) { return (uint32_t)((value + by - 1) / by); }

/* Twice as many threads as asked for where more than a quarter of them would have no word. */
static uint32_t block_threads(const kvt_cuda_grid *grid, uint32_t lanes)
{
    return grid->threads % lanes * 4 > grid->threads && grid->threads * 2 <= KVT_CUDA_THREADS_MAX ? grid->threads * 2
                                                                                                  : grid->threads;
}

/* Slices as even as they come, in whole lines, and as many threads per item as that leaves words for. */
static bool spread(kvt_job *job, const kvt_cuda_grid *grid, kvt_cuda_head *head)
{
    const uint32_t line = 128, few = 8, access = job->shape.access_bytes;
    uint32_t unroll = access == KVT_JOB_ACCESS_MAX ? grid->unroll : 8; /* as cuda_move.cu has them */
    uint32_t lanes_max = grid->block_limit != 0 ? 32 : grid->threads;
    uint64_t slice_max = (uint64_t)lanes_max * unroll * access, run = job->shape.run;
    if (run > slice_max) {
        uint64_t even = (run + divide_up(run, (uint32_t)slice_max) - 1) / divide_up(run, (uint32_t)slice_max);
        if (!kvt_job_slice(job, (uint32_t)kvt_align_up(even, line)))
            return false;
    }
    uint32_t words = divide_up(job->shape.run, access);
    uint32_t lanes = (uint32_t)kvt_max_u64(divide_up(words, unroll), kvt_min_u64(words, few));
    head->shape = job->shape;
    head->lanes = (kvt_job_dim){.extent = lanes};
    head->items = (kvt_job_dim){.extent = job->shape.item_count};
    kvt_job_dim_prepare(&head->lanes);
    kvt_job_dim_prepare(&head->items);
    head->threads = block_threads(grid, lanes);
    head->items_per_block = head->threads / lanes;
    head->blob_count = job->blob_count;
    uint64_t items = job->shape.item_count;
    head->block_count = divide_up(items, head->items_per_block);
    if (grid->block_limit != 0)
        head->block_count =
            (uint32_t)kvt_min_u64(divide_up(items * job->blob_count, head->items_per_block), grid->block_limit);
    return true;
}

/* ------------------------------------------------------------------ launches */

static kvt_status launch(const kvt_cuda_target *to, kvt_job job, uint32_t blob, uint32_t blob_count)
{
    kvt_cuda_job *out = to->parameters;
    kvt_cuda_head *head = &out->head;
    const kvt_job whole = job;
    memmove(job.blobs, job.blobs + blob, blob_count * sizeof *job.blobs);
    job.blob_count = blob_count;
    if (!spread(&job, &to->grid, head))
        return kvt_fail(KVT_UNSUPPORTED, "a move of %u pieces of %llu bytes is too large for one launch",
                        job.shape.item_count, (unsigned long long)job.shape.run);
    fill_table(head, &job);
    head->id_count = whole.shape.dims[whole.shape.page_dim].extent;
    for (uint32_t b = 0; b < blob_count; b++) {
        head->segments[b] = job.blobs[b].segment;
        memcpy(out->ids + b * head->id_count, job.blobs[b].ids, head->id_count * sizeof *out->ids);
    }
    KVT_CUDA_TRY((cudaError_t)kvt_cuda_launch(out, &to->grid, to->stream));
    return KVT_OK;
}

/* As many blobs per launch as their ids allow; a blob with too many ids goes by parts. */
static kvt_status launch_ids(const kvt_cuda_target *to, const kvt_job *job)
{
    uint32_t d = job->shape.page_dim, ids = job->shape.dims[d].extent;
    if (ids <= KVT_CUDA_IDS_MAX) {
        uint32_t step = KVT_CUDA_IDS_MAX / ids;
        for (uint32_t b = 0; b < job->blob_count; b += step)
            KVT_TRY(launch(to, *job, b, (uint32_t)kvt_min_u64(step, job->blob_count - b)));
        return KVT_OK;
    }
    for (uint32_t at = 0; at < ids; at += KVT_CUDA_IDS_MAX) {
        kvt_job part = *job;
        kvt_cuda_job_part(&part, d, at, (uint32_t)kvt_min_u64(KVT_CUDA_IDS_MAX, ids - at));
        for (uint32_t b = 0; b < job->blob_count; b++)
            KVT_TRY(launch(to, part, b, 1));
    }
    return KVT_OK;
}

/* Base addresses that a job selects, and the outermost dimension that does. */
static uint32_t table_entries(const kvt_job *job, uint32_t *out_dim)
{
    uint32_t count = 1;
    for (uint32_t d = 0; d < job->shape.dim_count; d++)
        if (job->shape.dims[d].table_stride != 0) {
            count *= job->shape.dims[d].extent;
            *out_dim = d;
        }
    return count;
}

static kvt_status launch_tables(const kvt_cuda_target *to, const kvt_job *job)
{
    uint32_t d = 0, entries = table_entries(job, &d);
    if (entries <= KVT_CUDA_TABLE_MAX)
        return launch_ids(to, job);
    uint32_t extent = job->shape.dims[d].extent, step = KVT_CUDA_TABLE_MAX / (entries / extent);
    for (uint32_t at = 0; at < extent; at += step) {
        kvt_job part = *job;
        kvt_cuda_job_part(&part, d, at, (uint32_t)kvt_min_u64(step, extent - at));
        KVT_TRY(launch_ids(to, &part));
    }
    return KVT_OK;
}

kvt_status kvt_cuda_run_jobs(const kvt_cuda_target *to, const kvt_layout *layout, kvt_direction direction,
                             const kvt_move *moves, size_t count)
{
    kvt_job_plan plan;
    kvt_job job;
    kvt_job_plan_begin(&plan, layout, direction, moves, count);
    while (kvt_job_plan_next(&plan, &job))
        KVT_TRY(launch_tables(to, &job));
    return KVT_OK;
}
