/* SPDX-License-Identifier: Apache-2.0
 *
 * The planner: checked moves -> jobs -> strips. A view's dimensions are folded into the contiguous run as far as both
 * sides allow; what is left is at most five dimensions in blob order (head, row, page, plane, layer). Pages that a
 * range cuts at either end become jobs of their own with fewer rows. No allocation, no device call, no look at page
 * bytes.
 */
#include "kernels/layout_int.h"

/* ------------------------------------------------------------------ checks */

static kvt_status check_pages(const kvt_layout_group *group, const kvt_move *move, size_t index)
{
    uint32_t first = move->token_begin / group->page_tokens;
    uint32_t last = (move->token_begin + move->token_count - 1) / group->page_tokens;
    for (uint32_t j = first; j <= last; j++)
        if (move->pages[j] >= group->page_count && move->pages[j] != KVT_PAGE_NONE)
            return kvt_fail(KVT_INVALID, "move %zu: page id %u (entry %u) is not below group %u's page_count %u", index,
                            move->pages[j], j, move->group, group->page_count);
    return KVT_OK;
}

static kvt_status check_move(const kvt_layout *layout, const kvt_move *move, size_t index)
{
    if (move->group >= layout->group_count)
        return kvt_fail(KVT_INVALID, "move %zu: group %u of %u", index, move->group, layout->group_count);
    const kvt_layout_group *group = &layout->groups[move->group];
    if (group->page_count == 0)
        return kvt_fail(KVT_INVALID, "move %zu: group %u has no pages", index, move->group);
    if (move->segment_tokens == 0 || move->segment_tokens > layout->chunk_tokens)
        return kvt_fail(KVT_INVALID, "move %zu: segment_tokens is %u, must be 1..%u", index, move->segment_tokens,
                        layout->chunk_tokens);
    if (move->token_begin > move->segment_tokens || move->token_count > move->segment_tokens - move->token_begin)
        return kvt_fail(KVT_INVALID, "move %zu: tokens [%u, +%u) are not within the segment's %u", index,
                        move->token_begin, move->token_count, move->segment_tokens);
    if (move->layer_begin > group->layer_count || move->layer_count > group->layer_count - move->layer_begin)
        return kvt_fail(KVT_INVALID, "move %zu: layers [%u, +%u) are not within the group's %u", index,
                        move->layer_begin, move->layer_count, group->layer_count);
    if (move->token_count == 0 || move->layer_count == 0)
        return KVT_OK;
    if (move->segment == NULL || move->pages == NULL)
        return kvt_fail(KVT_INVALID, "move %zu: %s is NULL", index, move->segment == NULL ? "segment" : "pages");
    return check_pages(group, move, index);
}

kvt_status kvt_moves_check(const kvt_layout *layout, const kvt_move *moves, size_t count)
{
    if (moves == NULL && count != 0)
        return kvt_fail(KVT_INVALID, "moves is NULL");
    for (size_t i = 0; i < count; i++)
        KVT_TRY(check_move(layout, &moves[i], i));
    return KVT_OK;
}

/* -------------------------------------------------------------------- jobs */

void kvt_job_dim_prepare(kvt_job_dim *dim)
{
    /* With 2^s >= extent and magic = ceil(2^(31+s) / extent), the excess of magic * extent over 2^(31+s) is below 2^s,
     * so n * excess < 2^(31+s) for n < 2^31 and the truncated product is the exact quotient. */
    uint32_t s = 0;
    while ((UINT64_C(1) << s) < dim->extent)
        s++;
    dim->shift = 31 + s;
    dim->magic = (uint32_t)(((UINT64_C(1) << dim->shift) + dim->extent - 1) / dim->extent);
}

typedef struct rows_range { /* rows [row, row + rows) of pages [page, page + pages) */
    uint32_t page, pages, row, rows;
} rows_range;

/* Part 0 is a cut first page (or the whole range if it lies within one), 1 the whole pages, 2 a cut last page. */
static bool part_range(const kvt_move *move, uint32_t page_tokens, uint32_t part, rows_range *out)
{
    uint32_t end = move->token_begin + move->token_count;
    uint32_t first_page = move->token_begin / page_tokens, first_row = move->token_begin % page_tokens;
    uint32_t last_page = end / page_tokens, last_row = end % page_tokens;
    bool head = first_row != 0, one_page = first_page == last_page;
    if (part == 0) {
        *out = (rows_range){first_page, 1, first_row, (one_page ? last_row : page_tokens) - first_row};
        return head || one_page;
    }
    if (part == 1) {
        *out = (rows_range){first_page + head, last_page - first_page - head, 0, page_tokens};
        return !one_page && out->pages != 0;
    }
    *out = (rows_range){last_page, 1, 0, last_row};
    return !one_page && last_row != 0;
}

/* Candidates in blob order; the page dimension stands between rows and planes and never folds. */
enum { AT_HEAD, AT_ROW, AT_PAGE, AT_PLANE, AT_LAYER, AT_COUNT };

static void view_dims(kvt_job_dim dims[AT_COUNT], const kvt_layout_group *group, const kvt_layout_view *view,
                      const kvt_move *move, const rows_range *range)
{
    const kvt_view *page = &view->folded;
    int64_t row_bytes = (int64_t)view->row_bytes, tokens = move->segment_tokens;
    dims[AT_HEAD] = (kvt_job_dim){page->head_count, 0, 0, 0, page->head_stride, page->head_bytes};
    dims[AT_ROW] = (kvt_job_dim){range->rows, 0, 0, 0, page->token_stride, row_bytes};
    dims[AT_PAGE] = (kvt_job_dim){range->pages, 0, 0, 0, page->page_stride, row_bytes * group->page_tokens};
    dims[AT_PLANE] = (kvt_job_dim){page->plane_count, 0, 0, page->base_plane, page->plane_stride, row_bytes * tokens};
    dims[AT_LAYER] = (kvt_job_dim){
        move->layer_count, 0, 0, page->base_layer, page->layer_stride, (int64_t)group->layer_token_bytes * tokens};
}

/* A dimension whose step is the run on both sides makes the run longer. Repeated until nothing changes, this finds any
 * order of a page's dimensions. */
static uint64_t fold(kvt_job_dim dims[AT_COUNT], uint64_t run)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int d = 0; d < AT_COUNT; d++) {
            kvt_job_dim *dim = &dims[d];
            if (d == AT_PAGE || dim->extent == 1 || dim->table_stride != 0 || dim->page_stride != (int64_t)run ||
                dim->blob_stride != (int64_t)run)
                continue;
            run *= dim->extent;
            dim->extent = 1;
            changed = true;
        }
    }
    return run;
}

static void collect(kvt_job_shape *shape, const kvt_job_dim dims[AT_COUNT])
{
    shape->dim_count = 0;
    shape->item_count = 1;
    shape->layer_items = 0;
    for (int d = 0; d < AT_COUNT; d++) {
        if (dims[d].extent == 1 && d != AT_PAGE)
            continue;
        if (d == AT_PAGE)
            shape->page_dim = shape->dim_count;
        if (d == AT_LAYER)
            shape->layer_items = shape->item_count;
        kvt_job_dim *dim = &shape->dims[shape->dim_count++];
        *dim = dims[d];
        kvt_job_dim_prepare(dim);
        shape->item_count *= dim->extent;
    }
    if (shape->layer_items == 0)
        shape->layer_items = shape->item_count;
}

static void set_access(kvt_job *job, uint64_t base_bits)
{
    const kvt_job_shape *shape = &job->shape;
    uint64_t bits =
        KVT_JOB_ACCESS_MAX | base_bits | shape->run | (uint64_t)shape->page_offset | (uint64_t)shape->blob_offset;
    for (uint32_t d = 0; d < shape->dim_count; d++)
        bits |= (uint64_t)shape->dims[d].page_stride | (uint64_t)shape->dims[d].blob_stride;
    for (uint32_t b = 0; b < job->blob_count; b++)
        bits |= (uintptr_t)job->blobs[b].segment;
    job->shape.access_bytes = (uint32_t)(bits & (0 - bits));
}

static void build(kvt_job *job, const kvt_job_plan *plan, const rows_range *range)
{
    const kvt_move *move = &plan->moves[plan->begin];
    const kvt_layout_group *group = &plan->layout->groups[move->group];
    const kvt_layout_view *view = &group->views[plan->view];
    kvt_job_shape *shape = &job->shape;
    memset(shape, 0, sizeof *shape);
    kvt_job_dim dims[AT_COUNT];
    view_dims(dims, group, view, move, range);

    uint64_t token = (uint64_t)range->page * group->page_tokens + range->row, tokens = move->segment_tokens;
    shape->page_offset = view->folded.offset + (int64_t)range->row * view->folded.token_stride +
                         (int64_t)move->layer_begin * view->folded.layer_stride;
    shape->blob_offset = (int64_t)(move->layer_begin * group->layer_token_bytes * tokens + view->prefix_bytes * tokens +
                                   token * view->row_bytes);
    shape->table_begin = move->layer_begin * view->folded.base_layer;
    shape->run = fold(dims, view->folded.head_bytes);
    shape->tail = shape->run;
    shape->direction = (uint32_t)plan->direction;
    collect(shape, dims);

    job->table = group->bases;
    job->table_count = group->base_count;
    job->blob_count = (uint32_t)(plan->end - plan->begin);
    for (uint32_t b = 0; b < job->blob_count; b++)
        job->blobs[b] = (kvt_job_blob){move[b].segment, move[b].pages + range->page};
    set_access(job, group->base_bits);
}

/* -------------------------------------------------------------------- plan */

static bool same_shape(const kvt_move *a, const kvt_move *b)
{
    return a->group == b->group && a->segment_tokens == b->segment_tokens && a->token_begin == b->token_begin &&
           a->token_count == b->token_count && a->layer_begin == b->layer_begin && a->layer_count == b->layer_count;
}

/* The longest batch from `begin` on whose items stay below the reciprocals' limit. */
static size_t batch_end(const kvt_job_plan *plan, size_t begin)
{
    const kvt_move *first = &plan->moves[begin];
    const kvt_layout_group *group = &plan->layout->groups[first->group];
    uint64_t items = 1;
    for (uint32_t v = 0; v < group->view_count; v++) {
        const kvt_view *view = &group->views[v].given;
        items = kvt_max_u64(items,
                            (uint64_t)view->plane_count * view->head_count * first->token_count * first->layer_count);
    }
    uint64_t most = kvt_min_u64(kvt_max_u64((KVT_JOB_ITEMS_MAX - 1) / items, 1), KVT_JOB_BLOBS_MAX);
    size_t end = begin + 1;
    while (end < plan->count && end - begin < most && same_shape(first, &plan->moves[end]))
        end++;
    return end;
}

static void next_batch(kvt_job_plan *plan, size_t begin)
{
    while (begin < plan->count && (plan->moves[begin].token_count == 0 || plan->moves[begin].layer_count == 0))
        begin++;
    plan->begin = begin;
    plan->end = begin < plan->count ? batch_end(plan, begin) : begin;
    plan->view = 0;
    plan->part = 0;
}

void kvt_job_plan_begin(kvt_job_plan *plan, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                        size_t count)
{
    *plan = (kvt_job_plan){.layout = layout, .moves = moves, .count = count, .direction = direction};
    next_batch(plan, 0);
}

bool kvt_job_plan_next(kvt_job_plan *plan, kvt_job *job)
{
    while (plan->begin < plan->count) {
        const kvt_move *move = &plan->moves[plan->begin];
        const kvt_layout_group *group = &plan->layout->groups[move->group];
        rows_range range;
        bool some = part_range(move, group->page_tokens, plan->part, &range);
        if (some)
            build(job, plan, &range);
        if (++plan->part == 3) {
            plan->part = 0;
            if (++plan->view == group->view_count)
                next_batch(plan, plan->end);
        }
        if (some)
            return true;
    }
    return false;
}

bool kvt_job_slice(kvt_job *job, uint32_t slice_bytes)
{
    kvt_job_shape *shape = &job->shape;
    if (shape->run <= slice_bytes)
        return true;
    uint64_t slices = (shape->run + slice_bytes - 1) / slice_bytes;
    if (shape->sliced != 0 || slices * shape->item_count * job->blob_count >= KVT_JOB_ITEMS_MAX)
        return false;
    memmove(shape->dims + 1, shape->dims, shape->dim_count * sizeof *shape->dims);
    shape->dims[0] = (kvt_job_dim){(uint32_t)slices, 0, 0, 0, slice_bytes, slice_bytes};
    kvt_job_dim_prepare(&shape->dims[0]);
    shape->dim_count++;
    shape->page_dim++;
    shape->sliced = 1;
    shape->item_count *= (uint32_t)slices;
    shape->layer_items *= (uint32_t)slices;
    shape->tail = shape->run - (slices - 1) * slice_bytes;
    shape->run = slice_bytes;
    return true;
}

/* ------------------------------------------------------------------ strips */

void kvt_strip_begin(kvt_strip_cursor *cursor, const kvt_job *job) { *cursor = (kvt_strip_cursor){.job = job}; }

bool kvt_strip_next(kvt_strip_cursor *cursor, kvt_strip *strip)
{
    const kvt_job *job = cursor->job;
    const kvt_job_shape *shape = &job->shape;
    if (cursor->blob == job->blob_count)
        return false;
    uint64_t page_delta = (uint64_t)shape->page_offset, blob_delta = (uint64_t)shape->blob_offset;
    uint32_t table = shape->table_begin, rest = cursor->outer, outer_count = 1;
    for (uint32_t d = shape->page_dim + 1; d < shape->dim_count; d++) {
        const kvt_job_dim *dim = &shape->dims[d];
        uint32_t ordinal = rest % dim->extent;
        rest /= dim->extent;
        outer_count *= dim->extent;
        page_delta += ordinal * (uint64_t)dim->page_stride;
        blob_delta += ordinal * (uint64_t)dim->blob_stride;
        table += ordinal * dim->table_stride;
    }
    const kvt_job_dim *page = &shape->dims[shape->page_dim];
    const kvt_job_blob *blob = &job->blobs[cursor->blob];
    *strip = (kvt_strip){
        .page = (uint8_t *)(uintptr_t)(job->table[table] + page_delta),
        .blob = (uint8_t *)((uintptr_t)blob->segment + blob_delta),
        .ids = blob->ids,
        .id_count = page->extent,
        .inner_count = shape->page_dim,
        .inner = shape->dims,
        .page_stride = page->page_stride,
        .blob_stride = page->blob_stride,
        .run = shape->run,
        .merges =
            shape->page_dim == 0 && page->page_stride == (int64_t)shape->run && page->blob_stride == page->page_stride,
    };
    if (++cursor->outer == outer_count) {
        cursor->outer = 0;
        cursor->blob++;
    }
    return true;
}
