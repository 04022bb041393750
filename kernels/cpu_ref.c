/* SPDX-License-Identifier: Apache-2.0
 *
 * The portable backend: scalar, slow, obvious. Every byte is moved by evaluating the address formula of kvtier.h on the
 * descriptor as it was given: no folding, no planner, no job. It is the truth that the fast backends are compared with,
 * and the path that still works where nothing else does.
 */
#include "kernels/backend.h"
#include "kernels/layout_int.h"
#include "kernels/rope_int.h"

#include <stdio.h>

static void move_token(const kvt_layout_group *group, const kvt_layout_view *of, const kvt_move *move,
                       kvt_direction direction, uint32_t layer, uint32_t token)
{
    const kvt_view *view = &of->given;
    uint32_t page = move->pages[token / group->page_tokens], row = token % group->page_tokens;
    if (page == KVT_PAGE_NONE)
        return;
    uint8_t *layer_bytes = move->segment + layer * group->layer_token_bytes * move->segment_tokens;
    uint8_t *view_bytes = layer_bytes + of->prefix_bytes * move->segment_tokens;
    for (uint32_t plane = 0; plane < view->plane_count; plane++) {
        uint8_t *row_bytes = view_bytes + ((uint64_t)plane * move->segment_tokens + token) * of->row_bytes;
        for (uint32_t head = 0; head < view->head_count; head++) {
            uint8_t *in_blob = row_bytes + (uint64_t)head * view->head_bytes;
            uint8_t *in_page = kvt_view_address(group, view, plane, layer, page, row, head);
            for (uint32_t b = 0; b < view->head_bytes; b++)
                if (direction == KVT_GATHER)
                    in_blob[b] = in_page[b];
                else
                    in_page[b] = in_blob[b];
        }
    }
}

static kvt_status ref_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                           size_t count, void *stream, kvt_fence *fence)
{
    (void)context, (void)stream;
    for (size_t i = 0; i < count; i++) {
        const kvt_move *move = &moves[i];
        const kvt_layout_group *group = &layout->groups[move->group];
        for (uint32_t layer = move->layer_begin; layer < move->layer_begin + move->layer_count; layer++)
            for (uint32_t v = 0; v < group->view_count; v++)
                for (uint32_t token = move->token_begin; token < move->token_begin + move->token_count; token++)
                    move_token(group, &group->views[v], move, direction, layer, token);
    }
    fence->impl = NULL;
    return KVT_OK;
}

static uint32_t ref_score(char *why, size_t why_bytes)
{
    (void)why, (void)why_bytes;
    return 1;
}

static kvt_status ref_open(const kvt_log *log, void **out)
{
    (void)log;
    *out = NULL;
    return KVT_OK;
}

static void ref_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    (void)context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "scalar reference");
}

const kvt_backend_ops kvt_backend_portable = {
    .name = "portable",
    .version = KVT_BACKEND_VERSION,
    .score = ref_score,
    .open = ref_open,
    .describe = ref_describe,
    .move = ref_move,
    .scatter_rope = kvt_rope_scatter_ref,
};
