/* SPDX-License-Identifier: Apache-2.0
 *
 * The portable backend's re-positioning: a plain scatter of everything, then each window once more, pair by pair, from
 * the blob into the page by the address formula. Slow and obvious; what the fast loops and the devices must equal.
 */
#include "kernels/rope_int.h"
#include "kernels/rope_math.h"

static float load(const uint8_t *from, uint32_t i, uint32_t element)
{
    uint16_t half;
    float full;
    if (element == KVT_ROPE_FP32) {
        memcpy(&full, from + 4 * i, sizeof full);
        return full;
    }
    memcpy(&half, from + 2 * i, sizeof half);
    return element == KVT_ROPE_BF16 ? kvt_rope_from_bf16(half) : kvt_rope_from_fp16(half);
}

static void store(uint8_t *to, uint32_t i, uint32_t element, float value)
{
    if (element == KVT_ROPE_FP32) {
        memcpy(to + 4 * i, &value, sizeof value);
        return;
    }
    uint16_t half = (uint16_t)(element == KVT_ROPE_BF16 ? kvt_rope_to_bf16(value) : kvt_rope_to_fp16(value));
    memcpy(to + 2 * i, &half, sizeof half);
}

/* The pair (x, y) as row `at.wanted` of the table has it. */
static void turn_pair(const kvt_rope *rope, kvt_rope_shift at, uint32_t i, float *x, float *y)
{
    uint64_t old_row = at.stored * rope->row_stride, new_row = at.wanted * rope->row_stride;
    float c0 = kvt_rope_entry(rope->cosines, old_row, i, rope->table_element);
    float s0 = kvt_rope_entry(rope->sines, old_row, i, rope->table_element);
    float c1 = kvt_rope_entry(rope->cosines, new_row, i, rope->table_element);
    float s1 = kvt_rope_entry(rope->sines, new_row, i, rope->table_element);
    if (rope->element == KVT_ROPE_FP32) {
        double cosine, sine;
        kvt_rope_delta_wide((double)c0, (double)s0, (double)c1, (double)s1, &cosine, &sine);
        kvt_rope_turn_wide(x, y, cosine, sine);
    } else {
        float cosine, sine;
        kvt_rope_delta(c0, s0, c1, s1, &cosine, &sine);
        kvt_rope_turn(x, y, cosine, sine);
    }
}

static void rotate_window(const kvt_rope *rope, kvt_rope_shift at, uint8_t *to, const uint8_t *from)
{
    uint32_t pairs = kvt_rope_pairs(rope);
    for (uint32_t i = 0; i < pairs; i++) {
        uint32_t at_x = rope->pairing == KVT_ROPE_NEOX ? i : 2 * i;
        uint32_t at_y = rope->pairing == KVT_ROPE_NEOX ? i + pairs : 2 * i + 1;
        float x = load(from, at_x, rope->element), y = load(from, at_y, rope->element);
        turn_pair(rope, at, i, &x, &y);
        store(to, at_x, rope->element, x);
        store(to, at_y, rope->element, y);
    }
}

static void rotate_token(const kvt_layout *layout, const kvt_rope_part *part, uint32_t layer, uint32_t token)
{
    const kvt_rope *rope = part->rope;
    const kvt_move *move = &part->move;
    const kvt_layout_group *group = &layout->groups[move->group];
    const kvt_layout_view *of = &group->views[rope->view];
    const kvt_view *view = &of->given;
    uint32_t page = move->pages[token / group->page_tokens], row = token % group->page_tokens;
    if (page == KVT_PAGE_NONE)
        return;
    kvt_rope_shift at = {part->shift.stored + token, part->shift.wanted + token};
    uint64_t before = layer * group->layer_token_bytes + of->prefix_bytes;
    for (uint32_t plane = 0; plane < view->plane_count; plane++)
        for (uint32_t head = 0; (rope->planes >> plane & 1) != 0 && head < view->head_count; head++) {
            const uint8_t *in_blob = move->segment + before * move->segment_tokens +
                                     ((uint64_t)plane * move->segment_tokens + token) * of->row_bytes +
                                     (uint64_t)head * view->head_bytes;
            uint8_t *in_page = kvt_view_address(group, view, plane, layer, page, row, head);
            rotate_window(rope, at, in_page + rope->window_begin, in_blob + rope->window_begin);
        }
}

kvt_status kvt_rope_scatter_ref(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                const kvt_rope_set *set, void *stream, kvt_fence *fence)
{
    kvt_rope_cursor cursor = {.moves = moves, .set = set, .count = count};
    kvt_rope_part part;
    KVT_TRY(kvt_backend_portable.move(context, layout, KVT_SCATTER, moves, count, stream, fence));
    while (kvt_rope_part_next(&cursor, &part)) {
        const kvt_move *move = &part.move;
        for (uint32_t layer = move->layer_begin; part.rope != NULL && layer < move->layer_begin + move->layer_count;
             layer++)
            for (uint32_t token = move->token_begin; token < move->token_begin + move->token_count; token++)
                rotate_token(layout, &part, layer, token);
    }
    return KVT_OK;
}
