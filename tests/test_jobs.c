/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs executed item by item, as a device does it, over the whole case list; and mistakes planted in descriptors, moves
 * and jobs, which the case runner must notice every time, or its passing would mean nothing.
 */
#include "tests/cases_kernels.h"
#include "tests/support.h"

#include "kernels/layout_int.h"

#include <malloc.h>

typedef struct item_mover {
    uint32_t slice;               /* 0: whole runs */
    bool (*mutate)(kvt_job *job); /* plants a mistake; true if it matters. NULL: none */
    bool planted;
    const uint8_t *memory[2]; /* pages, segments */
    uint64_t memory_bytes[2];
} item_mover;

static void keep_bounds(void *arg, const uint8_t *pages, uint64_t page_bytes, const uint8_t *segments,
                        uint64_t segment_bytes)
{
    item_mover *mover = arg;
    mover->memory[0] = pages, mover->memory_bytes[0] = page_bytes;
    mover->memory[1] = segments, mover->memory_bytes[1] = segment_bytes;
}

static bool within(const item_mover *mover, int which, const uint8_t *at, uint64_t bytes)
{
    uint64_t offset = (uintptr_t)at - (uintptr_t)mover->memory[which];
    return offset <= mover->memory_bytes[which] && bytes <= mover->memory_bytes[which] - offset;
}

/* Execute a job as a device would: every item number on its own. A decoder out of step is told by KVT_CORRUPT, and so
 * is an access that no guard would hold. */
static kvt_status move_items(const item_mover *mover, const kvt_job *job)
{
    const kvt_job_shape *shape = &job->shape;
    for (uint32_t b = 0; b < job->blob_count; b++)
        for (uint32_t i = 0; i < shape->item_count; i++) {
            kvt_job_item item = kvt_job_decode(shape, i);
            if (item.page_ordinal >= shape->dims[shape->page_dim].extent || item.table_index >= job->table_count)
                return KVT_CORRUPT;
            uint32_t id = job->blobs[b].ids[item.page_ordinal];
            if (id == KVT_PAGE_NONE)
                continue;
            uint64_t address = job->table[item.table_index] + (uint64_t)item.page_delta +
                               id * (uint64_t)shape->dims[shape->page_dim].page_stride;
            uint8_t *page = (uint8_t *)(uintptr_t)address, *blob = job->blobs[b].segment + item.blob_delta;
            if (!within(mover, 0, page, item.bytes) || !within(mover, 1, blob, item.bytes))
                return KVT_CORRUPT;
            if (((uintptr_t)page | (uintptr_t)blob | item.bytes) % shape->access_bytes != 0)
                return KVT_CORRUPT;
            if (shape->direction == KVT_GATHER)
                memcpy(blob, page, item.bytes);
            else
                memcpy(page, blob, item.bytes);
        }
    return KVT_OK;
}

static kvt_status move_by_items(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                size_t count)
{
    item_mover *mover = arg;
    kvt_job_plan plan;
    kvt_job job;
    KVT_TRY(kvt_moves_check(layout, moves, count));
    kvt_job_plan_begin(&plan, layout, direction, moves, count);
    while (kvt_job_plan_next(&plan, &job)) {
        if (mover->slice != 0 && !kvt_job_slice(&job, mover->slice))
            return KVT_CORRUPT;
        if (mover->mutate != NULL && mover->mutate(&job))
            mover->planted = true;
        KVT_TRY(move_items(mover, &job));
    }
    return KVT_OK;
}

static void keep_memory_mapped(void)
{
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

static void run_items(uint32_t slice)
{
    item_mover mover = {.slice = slice};
    kvt_case_subject subject = {.move = move_by_items, .arg = &mover, .bounds = keep_bounds};
    kvt_kernel_case c;
    char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
    keep_memory_mapped();
    for (uint32_t i = 0; kvt_kernel_case_at(i, &c); i += KVT_CASE_STEP) {
        kvt_kernel_case_text(&c, text);
        cr_assert_eq(kvt_kernel_case_run(&c, &subject, why), KVT_CASE_PASSED, "%s\n  %s", text, why);
    }
}

KVT_TEST(jobs, jobs_executed_item_by_item_move_every_case_exactly) { run_items(0); }

KVT_TEST(jobs, sliced_jobs_move_every_case_exactly) { run_items(48); }

/* ---- mistakes in jobs ---- */

static bool run_too_long(kvt_job *job)
{
    job->shape.access_bytes = 1;
    job->shape.run += 8, job->shape.tail += 8; /* several bytes: one may be right by chance */
    return true;
}
static bool run_too_short(kvt_job *job)
{
    job->shape.access_bytes = 1;
    job->shape.run -= kvt_min_u64(job->shape.run, 8);
    job->shape.tail = job->shape.run;
    return true;
}
/* Fold the innermost dimension although its steps are not the run. */
static bool wrong_fold(kvt_job *job)
{
    kvt_job_shape *shape = &job->shape;
    if (shape->page_dim == 0)
        return false;
    shape->run *= shape->dims[0].extent;
    shape->tail = shape->run;
    shape->item_count /= shape->dims[0].extent;
    memmove(shape->dims, shape->dims + 1, --shape->dim_count * sizeof *shape->dims);
    shape->page_dim--;
    return true;
}
static bool one_page_early(kvt_job *job)
{
    for (uint32_t b = 0; b < job->blob_count; b++)
        job->shape.page_offset -= b == 0 ? job->shape.dims[job->shape.page_dim].page_stride : 0;
    return true;
}
static bool swapped_steps(kvt_job *job)
{
    kvt_job_shape *shape = &job->shape;
    if (shape->page_dim < 2)
        return false;
    int64_t held = shape->dims[0].page_stride;
    shape->dims[0].page_stride = shape->dims[1].page_stride;
    shape->dims[1].page_stride = held;
    return true;
}
static bool blob_off_by_one(kvt_job *job)
{
    job->shape.access_bytes = 1;
    job->shape.blob_offset++;
    return true;
}
/* The wrong quotient of a multiple counts one ordinal too many in this dimension instead of one in the next. That shows
 * unless the two are the same step. */
static bool reciprocal_too_small(kvt_job *job)
{
    kvt_job_shape *shape = &job->shape;
    bool matters = false;
    for (uint32_t d = 0; d < shape->dim_count; d++) {
        kvt_job_dim *dim = &shape->dims[d], *next = dim + 1;
        if (dim->extent == 1)
            continue;
        dim->magic--;
        if (d + 1 < shape->dim_count && next->extent > 1)
            matters |= d == shape->page_dim || d + 1 == shape->page_dim ||
                       next->page_stride != dim->page_stride * dim->extent || next->table_stride != 0;
    }
    return matters;
}
static bool last_item_lost(kvt_job *job)
{
    job->shape.item_count--;
    return true;
}
static bool width_too_wide(kvt_job *job)
{
    if (job->shape.access_bytes == KVT_JOB_ACCESS_MAX)
        return false;
    job->shape.access_bytes *= 2;
    return true;
}

/* ---- mistakes in descriptors and moves; true if it matters ---- */

typedef struct planted_mistake {
    bool (*plant)(kvt_group *group, kvt_move *moves, size_t count);
    bool planted;
} planted_mistake;

static void plant(void *arg, kvt_group *group, kvt_move *moves, size_t count)
{
    planted_mistake *mistake = arg;
    mistake->planted = mistake->plant(group, moves, count);
}

static bool wrong_plane_stride(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)moves, (void)count;
    group->views[0].plane_stride += group->views[0].head_bytes;
    return group->views[0].plane_count == 2;
}
static bool wrong_page_stride(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)count;
    group->views[group->view_count - 1].page_stride += 1;
    return moves[0].pages[moves[0].token_begin / group->page_tokens] != 0;
}
static bool wrong_layer_stride(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)count;
    group->views[0].layer_stride += group->views[0].head_bytes;
    return moves[0].layer_begin + moves[0].layer_count > 1;
}
static bool swapped_strides(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)moves, (void)count;
    kvt_view *view = &group->views[0];
    int64_t held = view->token_stride;
    view->token_stride = view->head_stride;
    view->head_stride = held;
    return view->head_count > 1 && view->token_stride != view->head_stride;
}
static bool wrong_offset(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)moves, (void)count;
    group->views[group->view_count - 1].offset += 1;
    return true;
}
static bool swapped_bases(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)count;
    void **bases = (void **)(uintptr_t)group->bases; /* the runner's own array */
    if (group->base_count < 2)
        return false;
    void *held = bases[0];
    bases[0] = bases[1];
    bases[1] = held;
    return moves[0].layer_begin == 0;
}
static bool views_in_wrong_order(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)moves, (void)count;
    kvt_view held = group->views[0];
    group->views[0] = group->views[1];
    group->views[1] = held;
    return group->view_count == 2 && held.head_bytes * held.head_count != group->views[0].head_bytes;
}
static bool one_token_late(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)group;
    for (size_t i = 0; i < count; i++)
        moves[i].token_begin++;
    return true;
}
static bool one_token_short(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)group;
    moves[count - 1].token_count--;
    return true;
}
static bool one_layer_late(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)group, (void)count;
    moves[0].layer_begin++;
    return true;
}
static bool segment_too_short(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)count;
    moves[0].segment_tokens--;
    return moves[0].layer_begin + moves[0].layer_count > 1 || group->views[0].plane_count * group->view_count > 1;
}
static bool other_blobs_pages(kvt_group *group, kvt_move *moves, size_t count)
{
    (void)group;
    const uint32_t *held = moves[0].pages;
    moves[0].pages = moves[count - 1].pages;
    moves[count - 1].pages = held;
    return count > 1;
}

/* Every planted mistake that matters must be noticed, in every case that it applies to. */
static void must_notice(const char *name, kvt_case_subject *subject, const bool *planted)
{
    uint32_t applied = 0;
    kvt_kernel_case c;
    char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
    bool *flag = (bool *)(uintptr_t)planted;
    for (uint32_t i = 0; kvt_kernel_case_at(i, &c); i += KVT_CASE_STEP == 1 ? 11 : 53) {
        if (c.ids == KVT_IDS_HOLES) /* a hole may hide any mistake */
            continue;
        *flag = false;
        kvt_case_outcome outcome = kvt_kernel_case_run(&c, subject, why);
        applied += *flag;
        kvt_kernel_case_text(&c, text);
        cr_assert(!*flag || outcome != KVT_CASE_PASSED, "%s passes unnoticed: %s", name, text);
    }
    cr_assert_gt(applied, KVT_CASE_STEP == 1 ? 20 : 4, "%s applies to %u cases only", name, applied);
}

KVT_TEST(jobs, mistakes_planted_in_jobs_are_noticed)
{
    static const struct {
        const char *name;
        bool (*mutate)(kvt_job *job);
    } mistakes[] = {
        {"run too long", run_too_long},       {"run too short", run_too_short},   {"wrong fold", wrong_fold},
        {"one page early", one_page_early},   {"swapped steps", swapped_steps},   {"blob off by one", blob_off_by_one},
        {"reciprocal", reciprocal_too_small}, {"last item lost", last_item_lost}, {"width too wide", width_too_wide},
    };
    keep_memory_mapped();
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        item_mover mover = {.mutate = mistakes[i].mutate};
        kvt_case_subject subject = {.move = move_by_items, .arg = &mover, .bounds = keep_bounds};
        must_notice(mistakes[i].name, &subject, &mover.planted);
    }
}

KVT_TEST(jobs, mistakes_planted_in_descriptors_and_moves_are_noticed)
{
    static const struct {
        const char *name;
        bool (*plant)(kvt_group *group, kvt_move *moves, size_t count);
    } mistakes[] = {
        {"wrong plane stride", wrong_plane_stride},
        {"wrong page stride", wrong_page_stride},
        {"wrong layer stride", wrong_layer_stride},
        {"swapped strides", swapped_strides},
        {"wrong offset", wrong_offset},
        {"swapped bases", swapped_bases},
        {"views swapped", views_in_wrong_order},
        {"one token late", one_token_late},
        {"one token short", one_token_short},
        {"one layer late", one_layer_late},
        {"segment too short", segment_too_short},
        {"pages of another blob", other_blobs_pages},
    };
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open("cpu", NULL, &backend), KVT_OK);
    keep_memory_mapped();
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        planted_mistake mistake = {.plant = mistakes[i].plant};
        kvt_case_subject subject = {
            .move = kvt_case_move_backend, .arg = backend, .mutate = plant, .mutate_arg = &mistake};
        must_notice(mistakes[i].name, &subject, &mistake.planted);
    }
    kvt_backend_close(backend);
}
