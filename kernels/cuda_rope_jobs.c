/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves whose keys turn -> kernel launches. Moves fall into parts with one rotation or none (rope_check.c); neighbours
 * that turn alike share a launch. Where accesses of 16 bytes fit everything, one kernel scatters and turns; elsewhere
 * bytes are scattered as they are and turned where they lie, pair by pair. Nothing here waits, uploads or allocates.
 */
#include "kernels/cuda_int.h"
#include "kernels/rope_math.h"

typedef struct batch { /* parts that turn alike, or that do not turn */
    kvt_move moves[KVT_JOB_BLOBS_MAX];
    kvt_rope_shift shifts[KVT_JOB_BLOBS_MAX];
    const kvt_rope *rope;
    uint32_t count;
} batch;

typedef struct target {
    kvt_cuda_rope_job *parameters; /* scratch */
    kvt_cuda_grid grid;
    cudaStream_t stream;
    kvt_cuda_rope_way way;
} target;

static uint32_t divide_up(uint64_t value, uint64_t by) { return (uint32_t)((value + by - 1) / by); }

static kvt_job_dim dim_of(uint32_t extent)
{
    kvt_job_dim dim = {.extent = extent != 0 ? extent : 1};
    kvt_job_dim_prepare(&dim);
    return dim;
}

/* ---------------------------------------------------------------- alignment */

static uint64_t stride_bits(int64_t stride, uint32_t extent) { return extent > 1 ? (uint64_t)stride : 0; }

static uint64_t view_bits(const kvt_layout_group *group, const kvt_view *view)
{
    return stride_bits(view->page_stride, group->page_count) | stride_bits(view->plane_stride, view->plane_count) |
           stride_bits(view->layer_stride, group->layer_count) | stride_bits(view->token_stride, group->page_tokens) |
           stride_bits(view->head_stride, view->head_count) | (uint64_t)view->offset | view->head_bytes;
}

/* Whether every access of these moves is a whole one; the blobs count only where they are read. */
static bool fits_whole(const kvt_layout_group *group, const batch *of, bool in_place)
{
    const kvt_rope *rope = of->rope;
    uint32_t unit_bytes = 2 * KVT_JOB_ACCESS_MAX;
    uint64_t bits = group->base_bits | rope->window_begin | (rope->window_bytes % unit_bytes != 0);
    for (uint32_t v = 0; v < group->view_count; v++)
        if (!in_place || v == rope->view)
            bits |= view_bits(group, &group->views[v].folded);
    for (uint32_t b = 0; !in_place && b < of->count; b++)
        bits |= (uintptr_t)of->moves[b].segment;
    return bits % KVT_JOB_ACCESS_MAX == 0;
}

/* ------------------------------------------------------------------ launches */

static void fill_strides(kvt_cuda_rope_head *head, const kvt_layout_group *group, const kvt_layout_view *of,
                         const kvt_move *like)
{
    const kvt_view *view = &of->folded;
    int64_t tokens = like->segment_tokens, row = (int64_t)of->row_bytes;
    int64_t layer = (int64_t)group->layer_token_bytes * tokens;
    const int64_t page[5] = {view->page_stride, view->plane_stride, view->layer_stride, view->token_stride,
                             view->head_stride};
    const int64_t blob[4] = {tokens * row, layer, row, view->head_bytes};
    memcpy(head->page_strides, page, sizeof page);
    memcpy(head->blob_strides, blob, sizeof blob);
    head->page_offset = view->offset + like->layer_begin * view->layer_stride;
    head->blob_offset = like->layer_begin * layer + (int64_t)of->prefix_bytes * tokens + like->token_begin * row;
}

static void fill_table(kvt_cuda_rope_head *head, const kvt_layout_group *group, const kvt_view *view,
                       const kvt_move *like)
{
    uint32_t layers = view->base_layer != 0 ? like->layer_count : 1;
    uint32_t planes = view->base_plane != 0 ? view->plane_count : 1;
    head->table_layer = view->base_layer != 0;
    head->table_plane = view->base_plane != 0 ? layers : 0;
    for (uint32_t p = 0; p < planes; p++)
        for (uint32_t l = 0; l < layers; l++)
            head->table[p * layers + l] =
                group->bases[p * view->base_plane + (like->layer_begin + l) * view->base_layer];
}

/* How a head falls into units, and which of them turn. */
static void fill_units(kvt_cuda_rope_head *head, const kvt_view *view, const kvt_rope *rope, bool turns)
{
    uint32_t pairs = turns ? kvt_rope_pairs(rope) : 0;
    head->rope = *rope;
    head->plane_mask = turns ? rope->planes : 0;
    if (!turns)
        head->rope.window_begin = head->rope.window_bytes = 0;
    head->pairs = dim_of(pairs);
    if (head->way == KVT_CUDA_ROPE_BY_PAIR) {
        head->window_units = pairs;
        head->units = dim_of(pairs);
    } else {
        head->window_units = head->rope.window_bytes / (2 * KVT_JOB_ACCESS_MAX);
        head->rest_accesses = (view->head_bytes - head->rope.window_bytes) / KVT_JOB_ACCESS_MAX;
        head->units = dim_of(head->window_units + divide_up(head->rest_accesses, 2));
    }
    head->heads = dim_of(view->head_count);
    head->planes = dim_of(view->plane_count);
}

/* About as many units a block as its threads take at once. A few neighbouring tokens make longer runs on both sides,
 * which is worth more than layers that share their turns: docs/measurements/gpu_rope.md. */
static void fill_tiles(kvt_cuda_rope_head *head, const kvt_cuda_grid *grid)
{
    const uint64_t few = 4, wanted = (uint64_t)grid->threads * grid->unroll;
    uint64_t layer_units = (uint64_t)head->units.extent * head->heads.extent * head->planes.extent;
    uint64_t layers = kvt_min_u64(kvt_max_u64(wanted / (layer_units * few), 1), head->layer_count);
    uint64_t tokens = kvt_max_u64(wanted / (layer_units * layers), 1);
    if (head->window_units != 0)
        tokens = kvt_min_u64(tokens, KVT_CUDA_ROPE_TURNS / head->pairs.extent);
    head->layers = dim_of((uint32_t)layers);
    head->tile_tokens = (uint32_t)kvt_min_u64(tokens, head->token_count);
    head->tile_units = (uint32_t)(layer_units * layers * head->tile_tokens);
    head->token_tiles = dim_of(divide_up(head->token_count, head->tile_tokens));
    head->tiles = dim_of(head->token_tiles.extent * divide_up(head->layer_count, layers));
}

/* Blobs [begin, begin + count) of the batch, cut to `like`, one view. */
static kvt_status launch(const target *to, const kvt_layout_group *group, uint32_t v, const batch *of, uint32_t begin,
                         uint32_t count, const kvt_move *like)
{
    kvt_cuda_rope_head *head = &to->parameters->head;
    const kvt_layout_view *view = &group->views[v];
    uint32_t first_page = like->token_begin / group->page_tokens;
    memset(head, 0, sizeof *head);
    head->way = to->way;
    head->token_begin = like->token_begin % group->page_tokens;
    head->token_count = like->token_count;
    head->layer_count = like->layer_count;
    head->page = dim_of(group->page_tokens);
    head->id_count = divide_up(head->token_begin + like->token_count, group->page_tokens);
    head->blob_count = count;
    fill_strides(head, group, view, like);
    fill_table(head, group, &view->folded, like);
    fill_units(head, &view->folded, of->rope, v == of->rope->view);
    fill_tiles(head, &to->grid);
    uint64_t blocks = (uint64_t)head->tiles.extent * count;
    if (blocks >= KVT_JOB_ITEMS_MAX || head->tile_units >= KVT_JOB_ITEMS_MAX)
        return kvt_fail(KVT_UNSUPPORTED, "a move of %u tokens is too large for one launch", like->token_count);
    head->block_count = (uint32_t)(to->grid.block_limit != 0 ? kvt_min_u64(blocks, to->grid.block_limit) : blocks);
    for (uint32_t b = 0; b < count; b++) {
        kvt_rope_shift shift = of->shifts[begin + b];
        head->segments[b] = of->moves[begin + b].segment;
        head->shifts[b] = (kvt_rope_shift){shift.stored + like->token_begin, shift.wanted + like->token_begin};
        memcpy(to->parameters->ids + b * head->id_count, of->moves[begin + b].pages + first_page,
               head->id_count * sizeof *to->parameters->ids);
    }
    KVT_CUDA_TRY((cudaError_t)kvt_cuda_launch_rope(to->parameters, &to->grid, to->stream));
    return KVT_OK;
}

/* As many blobs per launch as their ids allow; tokens and layers by parts where one blob has too many. */
static kvt_status launch_view(const target *to, const kvt_layout_group *group, uint32_t v, const batch *of)
{
    const kvt_view *view = &group->views[v].folded;
    kvt_move like = of->moves[0];
    uint32_t planes = view->base_plane != 0 ? view->plane_count : 1;
    uint32_t layers_max = view->base_layer != 0 ? KVT_CUDA_TABLE_MAX / planes : like.layer_count;
    uint32_t layer_end = like.layer_begin + like.layer_count, token_end = like.token_begin + like.token_count;
    for (; like.layer_begin < layer_end; like.layer_begin += like.layer_count) {
        like.layer_count = (uint32_t)kvt_min_u64(layers_max, layer_end - like.layer_begin);
        for (like.token_begin = of->moves[0].token_begin; like.token_begin < token_end;
             like.token_begin += like.token_count) {
            uint64_t row = like.token_begin % group->page_tokens;
            uint64_t most = (uint64_t)KVT_CUDA_IDS_MAX * group->page_tokens - row;
            like.token_count = (uint32_t)kvt_min_u64(most, token_end - like.token_begin);
            uint32_t step = KVT_CUDA_IDS_MAX / divide_up(row + like.token_count, group->page_tokens);
            for (uint32_t b = 0; b < of->count; b += step)
                KVT_TRY(launch(to, group, v, of, b, (uint32_t)kvt_min_u64(step, of->count - b), &like));
        }
    }
    return KVT_OK;
}

/* ------------------------------------------------------------------- batches */

static bool joins(const batch *of, const kvt_rope_part *part)
{
    const kvt_move *a = &of->moves[0], *b = &part->move;
    if (of->count == KVT_JOB_BLOBS_MAX || of->rope != part->rope)
        return false;
    return part->rope == NULL ||
           (a->group == b->group && a->segment_tokens == b->segment_tokens && a->token_begin == b->token_begin &&
            a->token_count == b->token_count && a->layer_begin == b->layer_begin && a->layer_count == b->layer_count);
}

static kvt_status run_batch(const kvt_cuda_target *to, kvt_cuda_rope_job *parameters, const kvt_layout *layout,
                            const batch *of, bool in_place)
{
    const kvt_layout_group *group = &layout->groups[of->moves[0].group];
    bool loop = to->grid.block_limit != 0;
    target turning = {parameters,
                      {loop ? 512 : 256, loop ? 4 : 2, to->grid.block_limit},
                      to->stream,
                      in_place ? KVT_CUDA_ROPE_IN_PLACE : KVT_CUDA_ROPE_FUSED};
    if (of->rope != NULL && fits_whole(group, of, in_place)) {
        if (in_place)
            return launch_view(&turning, group, of->rope->view, of);
        for (uint32_t v = 0; v < group->view_count; v++)
            KVT_TRY(launch_view(&turning, group, v, of));
        return KVT_OK;
    }
    if (!in_place)
        KVT_TRY(kvt_cuda_run_jobs(to, layout, KVT_SCATTER, of->moves, of->count));
    turning.way = KVT_CUDA_ROPE_BY_PAIR;
    return of->rope != NULL ? launch_view(&turning, group, of->rope->view, of) : KVT_OK;
}

kvt_status kvt_cuda_run_ropes(const kvt_cuda_target *to, kvt_cuda_rope_job *parameters, const kvt_layout *layout,
                              const kvt_move *moves, size_t count, const kvt_rope_set *set, bool in_place)
{
    kvt_rope_cursor cursor = {.moves = moves, .set = set, .count = count};
    kvt_rope_part part;
    batch of;
    of.count = 0;
    while (kvt_rope_part_next(&cursor, &part)) {
        if (of.count != 0 && !joins(&of, &part)) {
            KVT_TRY(run_batch(to, parameters, layout, &of, in_place));
            of.count = 0;
        }
        of.rope = part.rope;
        of.moves[of.count] = part.move;
        of.shifts[of.count++] = part.shift;
    }
    return of.count != 0 ? run_batch(to, parameters, layout, &of, in_place) : KVT_OK;
}
