/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves between pages and blobs. A call takes a pipe, splits its moves by where their segments lie, and queues each
 * part one of four ways: a kernel on the caller's own stream (blob on the device), copies run by run, kernels through a
 * ring of device slots, or a kernel that reaches into host memory. Everything is queued behind what the caller's stream
 * holds; the calling thread waits for nothing. docs/gpu_backend.md draws the ways and says when each is best.
 */
#include "kernels/cuda_int.h"

typedef struct call {
    kvt_cuda *cuda;
    kvt_cuda_pipe *pipe;
    const kvt_layout *layout;
    kvt_direction direction;
    const kvt_move *moves;   /* all of the call */
    const kvt_rope_set *set; /* keys turn on the way; NULL: none do */
    cudaStream_t stream;     /* the caller's */
    bool started;            /* something is queued, and `last` ends behind all of it */
    cudaStream_t last;
} call;

/* ------------------------------------------------------------------- order */

static kvt_status wait_for(call *c, cudaStream_t waiting, cudaStream_t other)
{
    KVT_CUDA_TRY(cudaEventRecord(c->pipe->order, other));
    KVT_CUDA_TRY(cudaStreamWaitEvent(waiting, c->pipe->order, 0));
    return KVT_OK;
}

/* Both streams of the pipe behind what the caller's stream holds. Copies into the ring touch no page: they run ahead.
 */
static kvt_status order_behind_caller(call *c, bool copies)
{
    KVT_CUDA_TRY(cudaEventRecord(c->pipe->order, c->stream));
    KVT_CUDA_TRY(cudaStreamWaitEvent(c->pipe->kernels, c->pipe->order, 0));
    if (copies)
        KVT_CUDA_TRY(cudaStreamWaitEvent(c->pipe->copies, c->pipe->order, 0));
    return KVT_OK;
}

/* The call's work ends on `stream` from now on. */
static kvt_status ends_on(call *c, cudaStream_t stream)
{
    if (c->started && c->last != stream)
        KVT_TRY(wait_for(c, stream, c->last));
    c->started = true;
    c->last = stream;
    return KVT_OK;
}

/* ------------------------------------------------------------------ kernels */

/* Kernels over moves, whose keys turn by `shifts` if any do; a call's own moves bring their own. */
static kvt_status run_kernels(call *c, const kvt_cuda_target *to, const kvt_move *moves, const kvt_rope_shift *shifts,
                              size_t count)
{
    if (c->set == NULL)
        return kvt_cuda_run_jobs(to, c->layout, c->direction, moves, count);
    const kvt_rope_set set = {.ropes = c->set->ropes, .shifts = shifts, .rope_count = c->set->rope_count};
    return kvt_cuda_run_ropes(to, &c->pipe->rope, c->layout, moves, count, &set, false);
}

static const kvt_rope_shift *shifts_of(const call *c, const kvt_move *moves)
{
    return c->set != NULL ? c->set->shifts + (moves - c->moves) : NULL;
}

/* Behind copies: what they left in the pages turns there. */
static kvt_status turn_in_place(call *c, const kvt_move *moves, const kvt_rope_shift *shifts, size_t count)
{
    if (c->set == NULL)
        return KVT_OK;
    const kvt_rope_set set = {.ropes = c->set->ropes, .shifts = shifts, .rope_count = c->set->rope_count};
    kvt_cuda_target to = {&c->pipe->job, {KVT_CUDA_THREADS_MAX, 8, c->cuda->knobs.quota}, c->pipe->kernels};
    KVT_TRY(ends_on(c, c->pipe->kernels));
    return kvt_cuda_run_ropes(&to, &c->pipe->rope, c->layout, moves, count, &set, true);
}

/* ------------------------------------------------------------------ copies */

static kvt_status copy_loop(const kvt_cuda_entries *entries, cudaStream_t stream)
{
    for (uint32_t i = 0; i < entries->count; i++)
        KVT_CUDA_TRY(cudaMemcpyAsync(entries->to[i], entries->from[i], entries->bytes[i], cudaMemcpyDefault, stream));
    return KVT_OK;
}

/* Stream order for the source: with a weaker one the copy engine may read pages before the caller's kernels wrote them.
 */
static cudaError_t copy_batch(kvt_cuda_entries *entries, cudaStream_t stream)
{
    struct cudaMemcpyAttributes attributes = {.srcAccessOrder = cudaMemcpySrcAccessOrderStream,
                                              .flags = cudaMemcpyFlagPreferOverlapWithCompute};
    size_t first = 0;
    return cudaMemcpyBatchAsync(entries->to, entries->from, entries->bytes, entries->count, &attributes, &first, 1,
                                stream);
}

static kvt_status flush_copies(call *c, bool pinned)
{
    const uint32_t batch_min = 4;
    kvt_cuda_entries *entries = &c->pipe->entries;
    kvt_status status = KVT_OK;
    cudaError_t error = cudaErrorNotSupported;
    if (pinned && entries->count >= batch_min)
        error = copy_batch(entries, c->pipe->copies);
    if (error == cudaErrorNotSupported || error == cudaErrorCallRequiresNewerDriver)
        status = copy_loop(entries, c->pipe->copies);
    else if (error != cudaSuccess)
        status = kvt_cuda_fail(error, "cudaMemcpyBatchAsync");
    entries->count = 0;
    return status;
}

/* One copy between `device` and `host`; a border between two registrations is a border of copies too. */
static kvt_status add_copy(call *c, uint8_t *device, uint8_t *host, uint64_t bytes, bool pinned)
{
    kvt_cuda_entries *entries = &c->pipe->entries;
    while (bytes != 0) {
        uint64_t span = pinned ? kvt_cuda_registered_span(c->cuda, host, bytes) : bytes;
        if (span == 0) /* pinned by somebody else: one range, as far as we can know */
            span = bytes;
        if (entries->count == KVT_CUDA_ENTRIES)
            KVT_TRY(flush_copies(c, pinned));
        entries->to[entries->count] = c->direction == KVT_GATHER ? host : device;
        entries->from[entries->count] = c->direction == KVT_GATHER ? device : host;
        entries->bytes[entries->count++] = span;
        device += span, host += span, bytes -= span;
    }
    return KVT_OK;
}

static kvt_status copy_strip(call *c, const kvt_strip *strip, bool pinned)
{
    static const kvt_job_dim one = {.extent = 1};
    const kvt_job_dim *inner = strip->inner_count > 0 ? &strip->inner[0] : &one;
    const kvt_job_dim *outer = strip->inner_count > 1 ? &strip->inner[1] : &one;
    for (uint32_t at = 0, n; at < strip->id_count; at += n) {
        n = kvt_strip_merge(strip, at);
        if (strip->ids[at] == KVT_PAGE_NONE)
            continue;
        uint8_t *page = strip->page + strip->ids[at] * strip->page_stride;
        uint8_t *blob = strip->blob + at * strip->blob_stride;
        for (uint32_t o = 0; o < outer->extent; o++)
            for (uint32_t i = 0; i < inner->extent; i++)
                KVT_TRY(add_copy(c, page + o * outer->page_stride + i * inner->page_stride,
                                 blob + o * outer->blob_stride + i * inner->blob_stride, strip->run * n, pinned));
    }
    return KVT_OK;
}

static kvt_status move_by_copies(call *c, const kvt_move *moves, const kvt_rope_shift *shifts, size_t count,
                                 bool pinned)
{
    kvt_job_plan plan;
    kvt_job job;
    KVT_TRY(order_behind_caller(c, true));
    kvt_job_plan_begin(&plan, c->layout, c->direction, moves, count);
    while (kvt_job_plan_next(&plan, &job)) {
        kvt_strip_cursor cursor;
        kvt_strip strip;
        kvt_strip_begin(&cursor, &job);
        while (kvt_strip_next(&cursor, &strip))
            KVT_TRY(copy_strip(c, &strip, pinned));
    }
    KVT_TRY(flush_copies(c, pinned));
    KVT_TRY(ends_on(c, c->pipe->copies));
    return turn_in_place(c, moves, shifts, count);
}

/* ------------------------------------------------------------------ staging */

/* What goes through one slot: parts of moves, packed one behind another. */
typedef struct piece {
    kvt_move parts[KVT_JOB_BLOBS_MAX];        /* on the caller's segments */
    kvt_move packed[KVT_JOB_BLOBS_MAX];       /* the same on the slot */
    kvt_rope_shift shifts[KVT_JOB_BLOBS_MAX]; /* of the packed ones */
    uint64_t offsets[KVT_JOB_BLOBS_MAX];
    uint32_t count;
    uint64_t bytes;
} piece;

/* A part lies in a slot as a segment of its own, from the start of its first page to its last token. */
static uint32_t packed_tokens(const kvt_layout_group *group, const kvt_move *part)
{
    return part->token_begin % group->page_tokens + part->token_count;
}

static uint64_t packed_bytes(const kvt_layout *layout, const kvt_move *part)
{
    const kvt_layout_group *group = &layout->groups[part->group];
    return part->layer_count * group->layer_token_bytes * packed_tokens(group, part);
}

static void pack(piece *to, const kvt_layout *layout, const kvt_move *part, kvt_rope_shift shift, uint8_t *slot)
{
    const kvt_layout_group *group = &layout->groups[part->group];
    uint32_t tokens = packed_tokens(group, part), i = to->count++;
    uint64_t skipped = part->layer_begin * group->layer_token_bytes * tokens; /* layers that are not in the slot */
    to->parts[i] = *part;
    to->offsets[i] = to->bytes;
    to->packed[i] = *part;
    to->packed[i].segment = (uint8_t *)((uintptr_t)slot + to->bytes - skipped);
    to->packed[i].pages = part->pages + part->token_begin / group->page_tokens;
    to->packed[i].segment_tokens = tokens;
    to->packed[i].token_begin = part->token_begin % group->page_tokens;
    uint32_t dropped = part->token_begin - to->packed[i].token_begin; /* tokens in front that are not in the slot */
    to->shifts[i] = (kvt_rope_shift){shift.stored + dropped, shift.wanted + dropped};
    to->bytes += kvt_align_up(packed_bytes(layout, part), 256);
}

/* Copies between the slot and the segments: one per plane, or fewer where planes follow each other on both sides. */
static kvt_status copy_part(call *c, const kvt_move *part, uint8_t *packed, bool pinned)
{
    const kvt_layout_group *group = &c->layout->groups[part->group];
    uint64_t tokens = packed_tokens(group, part), skipped = part->token_begin % group->page_tokens;
    uint8_t *device = NULL, *host = NULL;
    uint64_t bytes = 0;
    for (uint64_t l = 0; l < part->layer_count; l++)
        for (uint32_t v = 0; v < group->view_count; v++)
            for (uint64_t p = 0; p < group->views[v].given.plane_count; p++) {
                const kvt_layout_view *view = &group->views[v];
                uint64_t before = l * group->layer_token_bytes + view->prefix_bytes + p * view->row_bytes;
                uint64_t above = part->layer_begin * group->layer_token_bytes + before;
                uint8_t *in_slot = packed + before * tokens + skipped * view->row_bytes;
                uint8_t *in_blob = part->segment + above * part->segment_tokens + part->token_begin * view->row_bytes;
                if (bytes != 0 && in_slot == device + bytes && in_blob == host + bytes) {
                    bytes += part->token_count * view->row_bytes;
                    continue;
                }
                KVT_TRY(add_copy(c, device, host, bytes, pinned));
                device = in_slot, host = in_blob, bytes = part->token_count * view->row_bytes;
            }
    return add_copy(c, device, host, bytes, pinned);
}

static kvt_status piece_copies(call *c, const piece *of, kvt_cuda_slot *slot, bool pinned)
{
    for (uint32_t i = 0; i < of->count; i++)
        KVT_TRY(copy_part(c, &of->parts[i], slot->memory + of->offsets[i], pinned));
    return flush_copies(c, pinned);
}

/* Without a quota a kernel takes the whole device for a few microseconds: that costs its neighbours less than some
 * multiprocessors for longer. */
static kvt_status piece_kernels(call *c, const piece *of)
{
    const kvt_cuda_knobs *knobs = &c->cuda->knobs;
    kvt_cuda_target to = {&c->pipe->job, knobs->staged, c->pipe->kernels};
    if (knobs->quota != 0)
        to.grid = (kvt_cuda_grid){KVT_CUDA_THREADS_MAX, 8, knobs->quota};
    return run_kernels(c, &to, of->packed, of->shifts, of->count);
}

/* Out: pages -> slot -> host. In: host -> slot -> pages. Events hand the slot over, in both directions of the ring. */
static kvt_status run_piece(call *c, const piece *of, kvt_cuda_slot *slot, bool pinned)
{
    kvt_cuda_pipe *pipe = c->pipe;
    bool gather = c->direction == KVT_GATHER;
    cudaStream_t first = gather ? pipe->kernels : pipe->copies, second = gather ? pipe->copies : pipe->kernels;
    KVT_CUDA_TRY(cudaStreamWaitEvent(first, slot->free, 0));
    KVT_TRY(gather ? piece_kernels(c, of) : piece_copies(c, of, slot, pinned));
    KVT_CUDA_TRY(cudaEventRecord(slot->full, first));
    KVT_CUDA_TRY(cudaStreamWaitEvent(second, slot->full, 0));
    KVT_TRY(gather ? piece_copies(c, of, slot, pinned) : piece_kernels(c, of));
    KVT_CUDA_TRY(cudaEventRecord(slot->free, second));
    return KVT_OK;
}

/* Of the move that was cut last. */
static kvt_rope_shift shift_of(const call *c, const kvt_cuda_cut *cut)
{
    const kvt_rope_shift none = {0, 0};
    return c->set != NULL ? shifts_of(c, cut->moves)[cut->index] : none;
}

/* As many parts as the slot is meant to take; *more says whether *part holds one that is left. */
static void fill_piece(call *c, kvt_cuda_cut *cut, kvt_move *part, bool *more, piece *to, uint8_t *slot)
{
    to->count = 0;
    to->bytes = 0;
    do {
        pack(to, c->layout, part, shift_of(c, cut), slot);
        *more = kvt_cuda_cut_next(cut, part);
    } while (*more && to->count < KVT_JOB_BLOBS_MAX &&
             to->bytes + packed_bytes(c->layout, part) <= c->cuda->knobs.piece_bytes);
}

static kvt_status move_staged(call *c, const kvt_move *moves, size_t count, bool pinned)
{
    kvt_cuda_pipe *pipe = c->pipe;
    kvt_cuda_cut cut;
    kvt_move part;
    piece of;
    KVT_TRY(order_behind_caller(c, false));
    kvt_cuda_cut_begin(&cut, c->layout, moves, count, c->cuda->knobs.piece_bytes);
    bool more = kvt_cuda_cut_next(&cut, &part);
    while (more) {
        if (packed_bytes(c->layout, &part) > KVT_CUDA_SLOT_BYTES) { /* a page of one layer that no slot takes */
            const kvt_rope_shift shift = shift_of(c, &cut);
            KVT_TRY(move_by_copies(c, &part, &shift, 1, pinned));
            more = kvt_cuda_cut_next(&cut, &part);
            continue;
        }
        kvt_cuda_slot *slot = &pipe->slots[pipe->next_slot++ % KVT_CUDA_SLOTS];
        fill_piece(c, &cut, &part, &more, &of, slot->memory);
        KVT_TRY(run_piece(c, &of, slot, pinned));
        KVT_TRY(ends_on(c, c->direction == KVT_GATHER ? pipe->copies : pipe->kernels));
    }
    return KVT_OK;
}

/* ---------------------------------------------------- kernels, by themselves */

/* The blob is device memory: on the caller's stream, where the order is right by itself and no event is in the way. */
static kvt_status move_on_device(call *c, const kvt_move *moves, size_t count)
{
    kvt_cuda_target to = {&c->pipe->job, c->cuda->knobs.device, c->stream};
    KVT_TRY(run_kernels(c, &to, moves, shifts_of(c, moves), count));
    return ends_on(c, c->stream);
}

static kvt_status move_direct(call *c, const kvt_move *moves, size_t count, const kvt_cuda_ask *ask)
{
    const kvt_cuda_knobs *knobs = &c->cuda->knobs;
    uint32_t blocks = ask->run >= KVT_CUDA_RUN_LONG ? knobs->direct_blocks[c->direction] : knobs->direct_blocks_short;
    if (knobs->quota != 0)
        blocks = (uint32_t)kvt_min_u64(blocks, knobs->quota);
    kvt_cuda_target to = {&c->pipe->job, {KVT_CUDA_THREADS_MAX, 8, blocks}, c->pipe->kernels};
    KVT_TRY(order_behind_caller(c, false));
    KVT_TRY(run_kernels(c, &to, moves, shifts_of(c, moves), count));
    return ends_on(c, c->pipe->kernels);
}

/* ------------------------------------------------------------------- a call */

static bool is_empty(const kvt_move *move) { return move->token_count == 0 || move->layer_count == 0; }

/* What the moves come to: all bytes, and runs and copies as the largest job of the first move has them. */
static kvt_cuda_ask survey(const call *c, const kvt_move *moves, size_t count)
{
    kvt_cuda_ask ask = {.direction = c->direction};
    for (size_t i = 0; i < count; i++)
        ask.bytes += c->layout->groups[moves[i].group].layer_token_bytes * moves[i].token_count * moves[i].layer_count;
    kvt_job_plan plan;
    kvt_job job;
    uint64_t largest = 0, merged = 1, pages = 1;
    kvt_job_plan_begin(&plan, c->layout, c->direction, moves, 1);
    while (kvt_job_plan_next(&plan, &job)) {
        kvt_strip_cursor cursor;
        kvt_strip strip;
        if (job.shape.run * job.shape.item_count <= largest)
            continue;
        largest = job.shape.run * job.shape.item_count;
        kvt_strip_begin(&cursor, &job);
        kvt_strip_next(&cursor, &strip);
        merged = 0, pages = strip.id_count;
        for (uint32_t at = 0; at < strip.id_count; at += kvt_strip_merge(&strip, at))
            merged++;
        ask.run = job.shape.run;
    }
    ask.entries = kvt_max_u64(ask.bytes / kvt_max_u64(ask.run, 1) * merged / pages, 1);
    return ask;
}

static kvt_status move_some(call *c, const kvt_move *moves, size_t count, kvt_cuda_place place)
{
    if (place == KVT_CUDA_DEVICE)
        return move_on_device(c, moves, count);
    const kvt_cuda_ask ask = survey(c, moves, count);
    bool pinned = place == KVT_CUDA_PINNED;
    switch (kvt_cuda_choose(c->cuda, &ask)) {
    case KVT_TRANSPORT_COPIES:
        return move_by_copies(c, moves, shifts_of(c, moves), count, pinned);
    case KVT_TRANSPORT_DIRECT:
        if (pinned)
            return move_direct(c, moves, count, &ask);
        return move_staged(c, moves, count, pinned);
    default:
        return move_staged(c, moves, count, pinned);
    }
}

/* Neighbours whose segments lie in the same kind of memory go together. */
static kvt_status move_all(call *c, const kvt_move *moves, size_t count)
{
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = begin + 1;
        if (is_empty(&moves[begin]))
            continue;
        kvt_cuda_place place = kvt_cuda_place_of(c->cuda, moves[begin].segment);
        while (end < count && (is_empty(&moves[end]) || kvt_cuda_place_of(c->cuda, moves[end].segment) == place))
            end++;
        KVT_TRY(move_some(c, &moves[begin], end - begin, place));
    }
    return KVT_OK;
}

/* The next pipe whose turn it is, or another one that is free at once. */
static kvt_cuda_pipe *lock_pipe(kvt_cuda *cuda, kvt_direction direction)
{
    uint32_t turn = atomic_fetch_add_explicit(&cuda->turn, 1, memory_order_relaxed); /* any order will do */
    for (uint32_t i = 0; i < KVT_CUDA_PIPES; i++) {
        kvt_cuda_pipe *pipe = cuda->pipes[direction][(turn + i) % KVT_CUDA_PIPES];
        if (pthread_mutex_trylock(&pipe->lock) == 0)
            return pipe;
    }
    kvt_cuda_pipe *pipe = cuda->pipes[direction][turn % KVT_CUDA_PIPES];
    pthread_mutex_lock(&pipe->lock);
    return pipe;
}

static kvt_status run_call(kvt_cuda *cuda, const call *like, size_t count, kvt_fence *fence)
{
    fence->impl = NULL;
    KVT_CUDA_TRY(cudaSetDevice(cuda->device));
    kvt_cuda_pipe *pipe = lock_pipe(cuda, like->direction);
    call c = *like;
    c.cuda = cuda;
    c.pipe = pipe;
    kvt_status status = move_all(&c, c.moves, count);
    if (status == KVT_OK && c.started)
        status = kvt_cuda_fence_record(cuda, c.last, fence);
    if (status != KVT_OK) { /* nothing may be under way behind a failure */
        pipe->entries.count = 0;
        cudaStreamSynchronize(pipe->kernels);
        cudaStreamSynchronize(pipe->copies);
        cudaStreamSynchronize(c.stream);
        cudaGetLastError();
    }
    pthread_mutex_unlock(&pipe->lock);
    return status;
}

kvt_status kvt_cuda_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                         size_t count, void *stream, kvt_fence *fence)
{
    const call like = {.layout = layout, .direction = direction, .moves = moves, .stream = (cudaStream_t)stream};
    return run_call(context, &like, count, fence);
}

kvt_status kvt_cuda_scatter_rope(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                 const kvt_rope_set *set, void *stream, kvt_fence *fence)
{
    const call like = {
        .layout = layout, .direction = KVT_SCATTER, .moves = moves, .set = set, .stream = (cudaStream_t)stream};
    return run_call(context, &like, count, fence);
}
