/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts: descriptors checked once, so that nothing behind them has to be. The one idea: the addresses that a view can
 * reach are an interval [base + low, base + high); when that interval and the strides' nesting hold for every page id
 * below page_count, no later sum can overflow and no two elements of a view can share a byte. Knows no engine's layout
 * by name (layout_named.c does), and reads no page.
 */
#include "kernels/layout_int.h"

/* Offsets from a base stay within +- 2^62, so that sums of two fit a signed 64-bit number. */
#define REACH_MAX (INT64_C(1) << 62)

enum { DIM_PAGE, DIM_PLANE, DIM_LAYER, DIM_TOKEN, DIM_HEAD, DIM_COUNT };
static const char *const dim_names[DIM_COUNT] = {"page_stride", "plane_stride", "layer_stride", "token_stride",
                                                 "head_stride"};

typedef struct view_dim {
    uint64_t extent;
    int64_t stride;
    const char *name;
    bool table; /* its ordinals select pointers: no fixed distance between them */
} view_dim;

static void view_dims(const kvt_group *group, const kvt_view *view, view_dim dims[DIM_COUNT])
{
    const uint64_t extents[DIM_COUNT] = {group->page_count, view->plane_count, group->layer_count, group->page_tokens,
                                         view->head_count};
    const int64_t strides[DIM_COUNT] = {view->page_stride, view->plane_stride, view->layer_stride, view->token_stride,
                                        view->head_stride};
    for (int d = 0; d < DIM_COUNT; d++)
        dims[d] = (view_dim){extents[d], strides[d], dim_names[d], false};
    dims[DIM_PLANE].table = view->base_plane != 0;
    dims[DIM_LAYER].table = view->base_layer != 0;
}

/* ------------------------------------------------------------------ checks */

static kvt_status check_counts(uint32_t g, uint32_t v, const kvt_group *group, const kvt_view *view)
{
    if (view->plane_count < 1 || view->plane_count > 2)
        return kvt_fail(KVT_INVALID, "group %u view %u: plane_count is %u, must be 1 or 2", g, v, view->plane_count);
    if (view->head_count == 0)
        return kvt_fail(KVT_INVALID, "group %u view %u: head_count is 0", g, v);
    if (view->head_bytes == 0)
        return kvt_fail(KVT_INVALID, "group %u view %u: head_bytes is 0", g, v);
    if (!kvt_is_power_of_two(view->element_bytes) || view->element_bytes > 8 ||
        view->head_bytes % view->element_bytes != 0)
        return kvt_fail(KVT_INVALID,
                        "group %u view %u: element_bytes is %u, must be 1, 2, 4 or 8 and divide head_bytes", g, v,
                        view->element_bytes);
    if (group->page_count == 0)
        return KVT_OK;
    uint64_t last = (uint64_t)(view->plane_count - 1) * view->base_plane;
    uint64_t layers;
    if (!kvt_mul_u64(group->layer_count - 1, view->base_layer, &layers) || !kvt_add_u64(last, layers, &last) ||
        last >= group->base_count)
        return kvt_fail(KVT_INVALID, "group %u view %u: base_plane and base_layer reach past the %u bases", g, v,
                        group->base_count);
    return KVT_OK;
}

/* The interval of offsets that a view reaches from a base: sums of the strides' extremes. */
static bool view_reach(const view_dim dims[DIM_COUNT], const kvt_view *view, int64_t *low, int64_t *high)
{
    *low = view->offset;
    if (__builtin_add_overflow(view->offset, (int64_t)view->head_bytes, high))
        return false;
    for (int d = 0; d < DIM_COUNT; d++) {
        int64_t span;
        if (dims[d].extent <= 1)
            continue;
        if (__builtin_mul_overflow((int64_t)(dims[d].extent - 1), dims[d].stride, &span))
            return false;
        int64_t *end = span < 0 ? low : high;
        if (__builtin_add_overflow(*end, span, end))
            return false;
    }
    return *low >= -REACH_MAX && *high <= REACH_MAX;
}

static kvt_status check_reach(uint32_t g, uint32_t v, const kvt_group *group, const kvt_view *view)
{
    view_dim dims[DIM_COUNT];
    view_dims(group, view, dims);
    int64_t low, high;
    if (!view_reach(dims, view, &low, &high))
        return kvt_fail(KVT_INVALID,
                        "group %u view %u: strides times extents overflow; check page_stride and page_count", g, v);
    for (uint32_t p = 0; p < view->plane_count; p++)
        for (uint32_t l = 0; l < (view->base_layer != 0 ? group->layer_count : 1); l++) {
            uint32_t b = p * view->base_plane + l * view->base_layer;
            uint64_t base = (uintptr_t)group->bases[b];
            uint64_t below = low < 0 ? (uint64_t)-low : 0;
            uint64_t above = high > 0 ? (uint64_t)high : 0;
            if (base == 0)
                return kvt_fail(KVT_INVALID, "group %u view %u: bases[%u] is NULL", g, v, b);
            if (base < below || base > UINTPTR_MAX - above)
                return kvt_fail(KVT_INVALID, "group %u view %u: pages would wrap around the address space at bases[%u]",
                                g, v, b);
        }
    return KVT_OK;
}

static uint64_t magnitude(int64_t stride) { return stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride; }

/* Strides must nest: sorted by size, each spans everything inside it. Otherwise two elements could share bytes, and a
 * scatter would silently lose one. Reach was checked, so the sums cannot overflow. */
static kvt_status check_overlap(uint32_t g, uint32_t v, const kvt_group *group, const kvt_view *view)
{
    view_dim dims[DIM_COUNT];
    view_dims(group, view, dims);
    uint64_t inner = view->head_bytes;
    for (int done = 0; done < DIM_COUNT; done++) {
        view_dim *least = NULL;
        for (int d = 0; d < DIM_COUNT; d++)
            if (dims[d].extent > 1 && !dims[d].table &&
                (least == NULL || magnitude(dims[d].stride) < magnitude(least->stride)))
                least = &dims[d];
        if (least == NULL)
            break;
        if (magnitude(least->stride) < inner)
            return kvt_fail(KVT_INVALID, "group %u view %u: %s is %lld, but what it steps over is %llu bytes wide", g,
                            v, least->name, (long long)least->stride, (unsigned long long)inner);
        inner += magnitude(least->stride) * (least->extent - 1);
        least->extent = 1;
    }
    return KVT_OK;
}

static kvt_status check_items(uint32_t g, uint32_t v, const kvt_group *group, const kvt_view *view,
                              uint32_t chunk_tokens)
{
    uint64_t items;
    if (!kvt_mul_u64(group->layer_count, view->plane_count, &items) || !kvt_mul_u64(items, chunk_tokens, &items) ||
        !kvt_mul_u64(items, view->head_count, &items) || items >= KVT_JOB_ITEMS_MAX)
        return kvt_fail(
            KVT_INVALID,
            "group %u view %u: layers x planes x chunk_tokens x heads must stay below 2^31; use smaller chunks", g, v);
    return KVT_OK;
}

static kvt_status check_group(uint32_t g, const kvt_group *group, uint32_t chunk_tokens)
{
    if (group->layer_count == 0)
        return kvt_fail(KVT_INVALID, "group %u: layer_count is 0", g);
    if (group->page_tokens == 0 || chunk_tokens % group->page_tokens != 0)
        return kvt_fail(KVT_INVALID, "group %u: page_tokens is %u, must divide chunk_tokens %u", g, group->page_tokens,
                        chunk_tokens);
    if (group->view_count == 0 || group->view_count > KVT_VIEWS_MAX)
        return kvt_fail(KVT_INVALID, "group %u: view_count is %u, must be 1..%d", g, group->view_count, KVT_VIEWS_MAX);
    if (group->reserved != 0)
        return kvt_fail(KVT_INVALID, "group %u: reserved is not 0", g);
    if (group->page_count != 0 && (group->bases == NULL || group->base_count == 0))
        return kvt_fail(KVT_INVALID, "group %u: has pages but no bases", g);
    for (uint32_t v = 0; v < group->view_count; v++) {
        KVT_TRY(check_counts(g, v, group, &group->views[v]));
        KVT_TRY(check_items(g, v, group, &group->views[v], chunk_tokens));
        if (group->page_count == 0)
            continue;
        KVT_TRY(check_reach(g, v, group, &group->views[v]));
        KVT_TRY(check_overlap(g, v, group, &group->views[v]));
    }
    uint64_t bytes;
    if (!kvt_group_blob_bytes(group, chunk_tokens, &bytes) || bytes > (uint64_t)REACH_MAX)
        return kvt_fail(KVT_INVALID, "group %u: the bytes of a chunk overflow", g);
    return KVT_OK;
}

/* --------------------------------------------------------------- normalise */

/* The distance between table entries `from` + i * step, i < count, if it is the same for all and keeps the view's reach
 * a plain number. */
static bool even_distance(const kvt_layout_group *group, uint32_t from, uint32_t step, uint32_t count, int64_t *out)
{
    uint64_t distance = group->bases[from + step] - group->bases[from];
    for (uint32_t i = 2; i < count; i++)
        if (group->bases[from + i * step] - group->bases[from + (i - 1) * step] != distance)
            return false;
    int64_t span;
    *out = (int64_t)distance;
    return !__builtin_mul_overflow(*out, (int64_t)count, &span) && span > -REACH_MAX && span < REACH_MAX;
}

static void replace_layer_table(const kvt_layout_group *group, kvt_view *view)
{
    int64_t first, other;
    if (view->base_layer == 0 || group->layer_count == 1 ||
        !even_distance(group, 0, view->base_layer, group->layer_count, &first))
        return;
    if (view->plane_count == 2 && view->base_plane != 0 &&
        (!even_distance(group, view->base_plane, view->base_layer, group->layer_count, &other) || other != first))
        return;
    if (!__builtin_add_overflow(view->layer_stride, first, &view->layer_stride))
        view->base_layer = 0;
}

static void replace_plane_table(const kvt_layout_group *group, kvt_view *view)
{
    int64_t first, other;
    if (view->base_plane == 0 || view->plane_count == 1 || !even_distance(group, 0, view->base_plane, 2, &first))
        return;
    for (uint32_t l = 1; view->base_layer != 0 && l < group->layer_count; l++)
        if (!even_distance(group, l * view->base_layer, view->base_plane, 2, &other) || other != first)
            return;
    if (!__builtin_add_overflow(view->plane_stride, first, &view->plane_stride))
        view->base_plane = 0;
}

static kvt_status fill_group(kvt_layout_group *to, const kvt_group *from)
{
    to->layer_count = from->layer_count;
    to->page_tokens = from->page_tokens;
    to->page_count = from->page_count;
    to->view_count = from->view_count;
    if (from->page_count != 0) {
        to->bases = kvt_alloc_array(from->base_count, sizeof *to->bases);
        if (to->bases == NULL)
            return kvt_fail(KVT_NOMEM, "no memory for %u base addresses", from->base_count);
        to->base_count = from->base_count;
        for (uint32_t b = 0; b < from->base_count; b++)
            to->base_bits |= to->bases[b] = (uintptr_t)from->bases[b];
    }
    for (uint32_t v = 0; v < from->view_count; v++) {
        kvt_layout_view *view = &to->views[v];
        view->given = from->views[v];
        view->folded = view->given;
        view->row_bytes = (uint64_t)view->given.head_count * view->given.head_bytes;
        view->prefix_bytes = to->layer_token_bytes;
        to->layer_token_bytes += view->given.plane_count * view->row_bytes;
        if (to->bases != NULL) {
            replace_layer_table(to, &view->folded);
            replace_plane_table(to, &view->folded);
        }
    }
    return KVT_OK;
}

/* -------------------------------------------------------------------- door */

kvt_status kvt_layout_create(const kvt_group *groups, uint32_t group_count, uint32_t chunk_tokens, kvt_layout **out)
{
    if (groups == NULL || group_count == 0 || group_count > KVT_GROUPS_MAX)
        return kvt_fail(KVT_INVALID, "group_count is %u, must be 1..%d, with groups", group_count, KVT_GROUPS_MAX);
    if (chunk_tokens == 0 || chunk_tokens > KVT_CHUNK_TOKENS_MAX)
        return kvt_fail(KVT_INVALID, "chunk_tokens is %u, must be 1..%d", chunk_tokens, KVT_CHUNK_TOKENS_MAX);
    for (uint32_t g = 0; g < group_count; g++)
        KVT_TRY(check_group(g, &groups[g], chunk_tokens));

    kvt_layout *layout = kvt_alloc(sizeof *layout);
    if (layout == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a layout");
    layout->group_count = group_count;
    layout->chunk_tokens = chunk_tokens;
    for (uint32_t g = 0; g < group_count; g++) {
        kvt_status status = fill_group(&layout->groups[g], &groups[g]);
        if (status != KVT_OK) {
            kvt_layout_destroy(layout);
            return status;
        }
    }
    *out = layout;
    return KVT_OK;
}

void kvt_layout_destroy(kvt_layout *layout)
{
    if (layout == NULL)
        return;
    for (uint32_t g = 0; g < layout->group_count; g++)
        kvt_free(layout->groups[g].bases);
    kvt_free(layout);
}

uint32_t kvt_layout_group_count(const kvt_layout *layout) { return layout->group_count; }
uint32_t kvt_layout_page_tokens(const kvt_layout *layout, uint32_t group) { return layout->groups[group].page_tokens; }
uint32_t kvt_layout_page_count(const kvt_layout *layout, uint32_t group) { return layout->groups[group].page_count; }
uint32_t kvt_layout_layer_count(const kvt_layout *layout, uint32_t group) { return layout->groups[group].layer_count; }
uint32_t kvt_layout_element_bytes(const kvt_layout *layout, uint32_t group)
{
    return layout->groups[group].views[0].given.element_bytes;
}

uint64_t kvt_layout_group_bytes(const kvt_layout *layout, uint32_t group, uint32_t tokens)
{
    const kvt_layout_group *of = &layout->groups[group];
    return of->layer_token_bytes * of->layer_count * tokens;
}

bool kvt_group_blob_bytes(const kvt_group *group, uint64_t tokens, uint64_t *out)
{
    uint64_t sum = 0;
    for (uint32_t v = 0; v < group->view_count && v < KVT_VIEWS_MAX; v++) {
        const kvt_view *view = &group->views[v];
        uint64_t bytes = (uint64_t)view->head_count * view->head_bytes;
        if (!kvt_mul_u64(bytes, view->plane_count, &bytes) || !kvt_add_u64(sum, bytes, &sum))
            return false;
    }
    if (!kvt_mul_u64(sum, group->layer_count, &sum) || !kvt_mul_u64(sum, tokens, &sum))
        return false;
    *out = sum;
    return true;
}
