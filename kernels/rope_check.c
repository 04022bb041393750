/* SPDX-License-Identifier: Apache-2.0
 *
 * Re-positioning before a byte moves: descriptors and positions are checked here, once for all backends, and moves are
 * cut by layers into parts with one rotation or none.
 */
#include "kernels/rope_int.h"
#include "kernels/rope_math.h"

/* ------------------------------------------------------------------ checks */

static kvt_status check_window(const kvt_rope *rope, const kvt_view *view, uint32_t i)
{
    uint32_t pair_bytes = 2 * kvt_rope_element_bytes(rope->element);
    if (rope->window_bytes == 0 || rope->window_bytes % pair_bytes != 0 ||
        rope->window_bytes / pair_bytes > KVT_ROPE_PAIRS_MAX)
        return kvt_fail(KVT_INVALID, "rope %u: window_bytes is %u, must be 1..%d pairs of %u bytes", i,
                        rope->window_bytes, KVT_ROPE_PAIRS_MAX, pair_bytes);
    if (rope->window_begin % (pair_bytes / 2) != 0)
        return kvt_fail(KVT_INVALID, "rope %u: window_begin is %u, must be a multiple of an element's %u bytes", i,
                        rope->window_begin, pair_bytes / 2);
    if (rope->window_begin > view->head_bytes || rope->window_bytes > view->head_bytes - rope->window_begin)
        return kvt_fail(KVT_INVALID, "rope %u: the window [%u, +%u) is not within a head's %u bytes", i,
                        rope->window_begin, rope->window_bytes, view->head_bytes);
    return KVT_OK;
}

static kvt_status check_table(const kvt_rope *rope, uint32_t i)
{
    uint32_t bytes = kvt_rope_element_bytes(rope->table_element);
    uint64_t row_bytes = (uint64_t)kvt_rope_pairs(rope) * bytes;
    if (rope->cosines == NULL || rope->sines == NULL)
        return kvt_fail(KVT_INVALID, "rope %u: %s is NULL", i, rope->cosines == NULL ? "cosines" : "sines");
    if (rope->row_count == 0 || rope->row_stride < row_bytes || rope->row_stride > INT64_MAX / rope->row_count)
        return kvt_fail(KVT_INVALID, "rope %u: %llu rows, row_stride %llu; a row has %llu bytes", i,
                        (unsigned long long)rope->row_count, (unsigned long long)rope->row_stride,
                        (unsigned long long)row_bytes);
    if (((uintptr_t)rope->cosines | (uintptr_t)rope->sines | rope->row_stride) % bytes != 0)
        return kvt_fail(KVT_INVALID, "rope %u: the table is not aligned to its elements of %u bytes", i, bytes);
    return KVT_OK;
}

static kvt_status check_rope(const kvt_layout *layout, const kvt_rope *rope, uint32_t i)
{
    if (rope->group >= layout->group_count)
        return kvt_fail(KVT_INVALID, "rope %u: group %u of %u", i, rope->group, layout->group_count);
    const kvt_layout_group *group = &layout->groups[rope->group];
    if (rope->view >= group->view_count)
        return kvt_fail(KVT_INVALID, "rope %u: view %u of %u", i, rope->view, group->view_count);
    const kvt_view *view = &group->views[rope->view].given;
    if (rope->layer_count == 0 || rope->layer_begin > group->layer_count ||
        rope->layer_count > group->layer_count - rope->layer_begin)
        return kvt_fail(KVT_INVALID, "rope %u: layers [%u, +%u) are not within the group's %u", i, rope->layer_begin,
                        rope->layer_count, group->layer_count);
    if (rope->planes == 0 || rope->planes >> view->plane_count != 0)
        return kvt_fail(KVT_INVALID, "rope %u: planes is %#x, the view has %u", i, rope->planes, view->plane_count);
    if (rope->pairing > KVT_ROPE_GPTJ || rope->element > KVT_ROPE_FP32 || rope->table_element > KVT_ROPE_FP32)
        return kvt_fail(KVT_INVALID, "rope %u: pairing %u, element %u, table_element %u: one is unknown", i,
                        rope->pairing, rope->element, rope->table_element);
    KVT_TRY(check_window(rope, view, i));
    return check_table(rope, i);
}

static kvt_status check_order(const kvt_rope *before, const kvt_rope *rope, uint32_t i)
{
    if (rope->group > before->group ||
        (rope->group == before->group && rope->layer_begin >= before->layer_begin + before->layer_count))
        return KVT_OK;
    return kvt_fail(KVT_INVALID, "rope %u: not in ascending order, or its layers overlap those of the one before", i);
}

/* Every position of the move must have a row. */
static kvt_status check_positions(const kvt_move *move, kvt_rope_shift shift, const kvt_rope *rope, size_t index)
{
    uint64_t end = (uint64_t)kvt_max_u64(shift.stored, shift.wanted) + move->token_begin + move->token_count;
    if (end > rope->row_count)
        return kvt_fail(KVT_INVALID, "move %zu: position %llu is beyond the table's %llu rows", index,
                        (unsigned long long)(end - 1), (unsigned long long)rope->row_count);
    return KVT_OK;
}

kvt_status kvt_rope_check(const kvt_layout *layout, const kvt_move *moves, size_t count, const kvt_rope_set *set)
{
    if (set == NULL || (set->shifts == NULL && count != 0) || (set->ropes == NULL && set->rope_count != 0))
        return kvt_fail(KVT_INVALID, "%s is NULL",
                        set == NULL           ? "the set of ropes"
                        : set->shifts == NULL ? "shifts"
                                              : "ropes");
    if (set->rope_count > KVT_ROPES_MAX || set->reserved != 0)
        return kvt_fail(KVT_INVALID, "rope_count is %u, at most %d; reserved is %u, must be 0", set->rope_count,
                        KVT_ROPES_MAX, set->reserved);
    for (uint32_t i = 0; i < set->rope_count; i++) {
        KVT_TRY(check_rope(layout, &set->ropes[i], i));
        if (i != 0)
            KVT_TRY(check_order(&set->ropes[i - 1], &set->ropes[i], i));
    }
    kvt_rope_cursor cursor = {.moves = moves, .set = set, .count = count};
    kvt_rope_part part;
    while (kvt_rope_part_next(&cursor, &part))
        if (part.rope != NULL)
            KVT_TRY(check_positions(&part.move, part.shift, part.rope, cursor.index));
    return KVT_OK;
}

/* ------------------------------------------------------------------- parts */

/* The descriptor that covers the layer, or NULL; *end: where that ends, or where the next one begins. */
static const kvt_rope *rope_of(const kvt_rope_set *set, uint32_t group, uint32_t layer, uint32_t *end)
{
    *end = UINT32_MAX;
    for (uint32_t i = 0; i < set->rope_count; i++) {
        const kvt_rope *rope = &set->ropes[i];
        if (rope->group != group || rope->layer_begin + rope->layer_count <= layer)
            continue;
        bool covers = rope->layer_begin <= layer;
        *end = covers ? rope->layer_begin + rope->layer_count : rope->layer_begin;
        return covers ? rope : NULL;
    }
    return NULL;
}

bool kvt_rope_part_next(kvt_rope_cursor *cursor, kvt_rope_part *part)
{
    while (cursor->index < cursor->count) {
        const kvt_move *move = &cursor->moves[cursor->index];
        if (move->token_count == 0 || cursor->layer == move->layer_count) {
            cursor->index++;
            cursor->layer = 0;
            continue;
        }
        *part = (kvt_rope_part){.move = *move, .shift = cursor->set->shifts[cursor->index]};
        uint32_t begin = move->layer_begin + cursor->layer, end = UINT32_MAX;
        if (part->shift.stored != part->shift.wanted)
            part->rope = rope_of(cursor->set, move->group, begin, &end);
        part->move.layer_begin = begin;
        part->move.layer_count = (uint32_t)kvt_min_u64(end - begin, move->layer_count - cursor->layer);
        cursor->layer += part->move.layer_count;
        return true;
    }
    return false;
}
