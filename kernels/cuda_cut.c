/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts moves into parts that fit a slot of the ring: first at holes in the page list, then by layers, and by pages only
 * where one layer is too large. Host arithmetic, no device call.
 */
#include "kernels/cuda_int.h"

void kvt_cuda_cut_begin(kvt_cuda_cut *cut, const kvt_layout *layout, const kvt_move *moves, size_t count,
                        uint64_t bytes_max)
{
    *cut = (kvt_cuda_cut){.layout = layout, .moves = moves, .count = count, .bytes_max = bytes_max};
}

/* The next tokens from cut->token on whose pages are all there. */
static bool next_present(kvt_cuda_cut *cut, const kvt_move *move, uint32_t page_tokens)
{
    uint32_t end = move->token_begin + move->token_count, at = move->token_begin + cut->token;
    while (at < end && move->pages[at / page_tokens] == KVT_PAGE_NONE)
        at = (at / page_tokens + 1) * page_tokens;
    if (at >= end)
        return false;
    uint32_t stop = at;
    while (stop < end && move->pages[stop / page_tokens] != KVT_PAGE_NONE)
        stop = (stop / page_tokens + 1) * page_tokens;
    cut->token = at - move->token_begin;
    cut->token_end = (uint32_t)kvt_min_u64(stop, end) - move->token_begin;
    return true;
}

/* Tokens of the next parts, so that one layer of them fits: all that are left, or whole pages. */
static uint32_t fitting_tokens(const kvt_cuda_cut *cut, const kvt_move *move, const kvt_layout_group *group)
{
    uint32_t left = cut->token_end - cut->token;
    if (left * group->layer_token_bytes <= cut->bytes_max)
        return left;
    uint64_t pages = kvt_max_u64(cut->bytes_max / (group->layer_token_bytes * group->page_tokens), 1);
    uint64_t row = (move->token_begin + cut->token) % group->page_tokens;
    return (uint32_t)kvt_min_u64(pages * group->page_tokens - row, left);
}

bool kvt_cuda_cut_next(kvt_cuda_cut *cut, kvt_move *out)
{
    for (; cut->index < cut->count; cut->index++, cut->token = cut->token_end = cut->layer = 0) {
        const kvt_move *move = &cut->moves[cut->index];
        const kvt_layout_group *group = &cut->layout->groups[move->group];
        if (move->token_count == 0 || move->layer_count == 0)
            continue;
        if (cut->token == cut->token_end && !next_present(cut, move, group->page_tokens))
            continue;
        if (cut->layer == 0)
            cut->cut_tokens = fitting_tokens(cut, move, group);
        uint64_t layer_bytes = cut->cut_tokens * group->layer_token_bytes;
        uint64_t layers = kvt_max_u64(cut->bytes_max / layer_bytes, 1);
        *out = *move;
        out->token_begin = move->token_begin + cut->token;
        out->token_count = cut->cut_tokens;
        out->layer_begin = move->layer_begin + cut->layer;
        out->layer_count = (uint32_t)kvt_min_u64(layers, move->layer_count - cut->layer);
        cut->layer += out->layer_count;
        if (cut->layer == move->layer_count) {
            cut->layer = 0;
            cut->token += cut->cut_tokens;
        }
        return true;
    }
    return false;
}
