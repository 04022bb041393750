/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend's re-positioning: some tokens at a time, their turns are worked out once and serve every layer, plane
 * and head of them; a window is rotated on its way from the blob to the page, what lies around it is copied. Allocates
 * nothing; the turns stand on the stack.
 */
#include "kernels/cpu_copy.h"
#include "kernels/rope_int.h"
#include "kernels/rope_math.h"

enum { TILE_TOKENS = 16, TILE_TURNS = 2048 };

typedef union turn_list { /* as the loops want them */
    float narrow[TILE_TURNS];
    double wide[TILE_TURNS];
} turn_list;

typedef struct tile { /* tokens [begin, begin + count) of a part, with their turns */
    uint32_t begin, count;
    uint32_t turn_bytes; /* of one token's cosines */
    turn_list cosines;
    turn_list sines;
} tile;

typedef struct walk {
    const kvt_rope_loops *loops;
    const kvt_layout_group *group;
    const kvt_rope_part *part;
    tile tile;
} walk;

static void fill_tile(walk *w, uint32_t begin)
{
    const kvt_move *move = &w->part->move;
    uint32_t pairs = kvt_rope_pairs(w->part->rope);
    uint64_t most = kvt_min_u64(TILE_TOKENS, TILE_TURNS / pairs);
    w->tile.begin = begin;
    w->tile.turn_bytes = pairs * (uint32_t)(w->part->rope->element == KVT_ROPE_FP32 ? sizeof(double) : sizeof(float));
    w->tile.count = (uint32_t)kvt_min_u64(most, move->token_begin + move->token_count - begin);
    for (uint32_t t = 0; t < w->tile.count; t++)
        w->loops->turns(w->part->rope,
                        (kvt_rope_shift){w->part->shift.stored + begin + t, w->part->shift.wanted + begin + t},
                        (uint8_t *)&w->tile.cosines + (size_t)t * w->tile.turn_bytes,
                        (uint8_t *)&w->tile.sines + (size_t)t * w->tile.turn_bytes);
}

static void move_rotated(const walk *w, const kvt_view *view, uint8_t *to, const uint8_t *from, uint32_t t)
{
    const kvt_rope *rope = w->part->rope;
    const uint8_t *cosines = (const uint8_t *)&w->tile.cosines + (size_t)t * w->tile.turn_bytes;
    const uint8_t *sines = (const uint8_t *)&w->tile.sines + (size_t)t * w->tile.turn_bytes;
    uint32_t end = rope->window_begin + rope->window_bytes;
    for (uint32_t head = 0; head < view->head_count; head++) {
        memcpy(to, from, rope->window_begin);
        w->loops->rotate(rope, to + rope->window_begin, from + rope->window_begin, cosines, sines);
        memcpy(to + end, from + end, view->head_bytes - end);
        to += view->head_stride;
        from += view->head_bytes;
    }
}

static void move_as_is(const kvt_view *view, uint8_t *to, const uint8_t *from, uint64_t row_bytes)
{
    if (view->head_stride == (int64_t)view->head_bytes) {
        memcpy(to, from, row_bytes);
        return;
    }
    for (uint32_t head = 0; head < view->head_count; head++) {
        memcpy(to, from, view->head_bytes);
        to += view->head_stride;
        from += view->head_bytes;
    }
}

/* The tile's tokens of one plane of one layer. */
static void move_plane(const walk *w, uint32_t layer, uint32_t v, uint32_t plane)
{
    const kvt_move *move = &w->part->move;
    const kvt_rope *rope = w->part->rope;
    const kvt_layout_view *of = &w->group->views[v];
    const kvt_view *view = &of->given;
    uint64_t tokens = move->segment_tokens, row_bytes = of->row_bytes;
    const uint8_t *plane_bytes =
        move->segment + (layer * w->group->layer_token_bytes + of->prefix_bytes) * tokens + plane * tokens * row_bytes;
    bool rotated = v == rope->view && (rope->planes >> plane & 1) != 0;
    for (uint32_t t = 0; t < w->tile.count; t++) {
        uint32_t token = w->tile.begin + t, page = move->pages[token / w->group->page_tokens];
        if (page == KVT_PAGE_NONE)
            continue;
        uint8_t *to = kvt_view_address(w->group, view, plane, layer, page, token % w->group->page_tokens, 0);
        const uint8_t *from = plane_bytes + token * row_bytes;
        if (rotated)
            move_rotated(w, view, to, from, t);
        else
            move_as_is(view, to, from, row_bytes);
    }
}

static void move_part(walk *w, const kvt_layout *layout, const kvt_rope_part *part)
{
    const kvt_move *move = &part->move;
    w->group = &layout->groups[move->group];
    w->part = part;
    for (uint32_t begin = move->token_begin; begin < move->token_begin + move->token_count; begin += w->tile.count) {
        fill_tile(w, begin);
        for (uint32_t layer = move->layer_begin; layer < move->layer_begin + move->layer_count; layer++)
            for (uint32_t v = 0; v < w->group->view_count; v++)
                for (uint32_t plane = 0; plane < w->group->views[v].given.plane_count; plane++)
                    move_plane(w, layer, v, plane);
    }
}

void kvt_rope_scatter_with(const kvt_rope_loops *loops, const kvt_layout *layout, const kvt_move *moves, size_t count,
                           const kvt_rope_set *set)
{
    kvt_rope_cursor cursor = {.moves = moves, .set = set, .count = count};
    kvt_rope_part part;
    walk w;
    w.loops = loops;
    while (kvt_rope_part_next(&cursor, &part)) {
        if (part.rope == NULL)
            kvt_cpu_move(&kvt_cpu_copy_plain, layout, KVT_SCATTER, &part.move, 1);
        else
            move_part(&w, layout, &part);
    }
}

kvt_status kvt_rope_scatter_cpu(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                const kvt_rope_set *set, void *stream, kvt_fence *fence)
{
    (void)context, (void)stream;
    kvt_rope_scatter_with(kvt_rope_loops_pick(), layout, moves, count, set);
    fence->impl = NULL;
    return KVT_OK;
}
