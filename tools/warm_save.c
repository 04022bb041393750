/* SPDX-License-Identifier: Apache-2.0
 *
 * Saving a source: slices of a few chunks, several under way at once, what is held already left out. Ends early, with
 * the reason, when the engine refuses chunks, the write budget is used up, or somebody asks; running it again goes on
 * there.
 */
#include "tools/warm.h"

#include <inttypes.h>

enum { SLICE_BYTES = 16 << 20, WAIT_SLICE_NS = 100000000, RECORD_HEAD_BYTES = 4096, TOKEN_BYTES = 4 };

/* A save under way: chunks [first, end) of the prompt, `fresh` of which are not held. */
typedef struct slice {
    kvt_ticket ticket;
    uint64_t first, end, fresh;
} slice;

typedef struct warmer {
    kvt_warm_run *run;
    uint32_t chunk_tokens;
    uint64_t chunk_bytes;
    kvt_key *keys;
    uint32_t *masks;
    slice window[KVT_WARM_WINDOW_MAX]; /* a ring: oldest first */
    uint32_t oldest, open;
    uint64_t record_bytes_max; /* of a chunk on disk, which codecs only make smaller */
    uint64_t promised_bytes;   /* at most written by what is under way */
    bool ended;                /* submit no more */
} warmer;

static bool is_held(const warmer *w, uint64_t chunk) { return (w->masks[chunk] & w->run->lower_tier_mask) != 0; }

static void end_early(warmer *w, kvt_status cause, int32_t system_error)
{
    w->ended = true;
    if (w->run->cause == KVT_OK) {
        w->run->cause = cause;
        w->run->system_error = system_error;
    }
}

static kvt_status wait_ticket(warmer *w, kvt_ticket ticket, kvt_completion *out)
{
    kvt_warm_run *run = w->run;
    bool cancelled = false;
    for (;;) {
        kvt_status status = kvt_wait(run->engine, ticket, WAIT_SLICE_NS, out);
        if (status != KVT_TIMEOUT)
            return status;
        if (!cancelled && run->stop != NULL && run->stop()) {
            (void)kvt_cancel(run->engine, ticket); /* a miss means that it has just completed */
            cancelled = true;
        }
    }
}

/* The oldest save completes. */
static kvt_status take_oldest(warmer *w)
{
    kvt_warm_run *run = w->run;
    slice *s = &w->window[w->oldest];
    kvt_completion completion;
    kvt_status status = wait_ticket(w, s->ticket, &completion);
    w->oldest = (w->oldest + 1) % run->window;
    w->open--;
    if (status != KVT_OK)
        return status;
    run->chunks_new += completion.tokens / w->chunk_tokens; /* a slice has only chunks that were missing */
    run->stored_bytes += completion.bytes_lower;
    w->promised_bytes -= s->fresh * w->record_bytes_max;
    uint64_t most = s->fresh * w->record_bytes_max; /* what was written has a header and is padded as well */
    uint64_t around = s->fresh * 2 * RECORD_HEAD_BYTES;
    run->charged_bytes += run->write_through ? kvt_min_u64(completion.bytes_lower + around, most) : most;
    if (completion.status != KVT_OK)
        end_early(w, completion.cause != KVT_OK ? completion.cause : completion.status, completion.system_error);
    if (run->on_progress != NULL)
        run->on_progress(run->arg, s->first * w->chunk_tokens + completion.tokens);
    return KVT_OK;
}

static bool budget_is_used_up(const kvt_warm_run *run)
{
    kvt_stats stats = {.struct_size = sizeof stats};
    return !run->ignore_budget && kvt_get_stats(run->engine, &stats) == KVT_OK && stats.budget_tokens == 0;
}

static kvt_status submit(warmer *w, slice *s)
{
    kvt_warm_run *run = w->run;
    kvt_page_list pages[KVT_GROUPS_MAX];
    kvt_request request = KVT_REQUEST_INIT;
    request.flags = run->write_through ? KVT_REQUEST_WRITE_THROUGH : 0;
    request.tokens = run->tokens;
    request.token_begin = s->first * w->chunk_tokens;
    request.token_end = request.token_count = s->end * w->chunk_tokens;
    request.group_count = run->source->group_count;
    request.pages = pages;
    request.timeout_ns = run->timeout_ns;
    for (uint32_t g = 0; g < request.group_count; g++)
        pages[g] = (kvt_page_list){.ids = run->source->slots, .count = (uint32_t)request.token_end};
    return kvt_save(run->space, &request, &s->ticket);
}

/* How many more records the run may write, whatever becomes of those under way. */
static uint64_t records_left(const warmer *w)
{
    uint64_t taken = w->run->charged_bytes + w->promised_bytes;
    return taken >= w->run->write_bytes_max ? 0 : (w->run->write_bytes_max - taken) / w->record_bytes_max;
}

/* The next run of chunks of which some are missing, at most a slice; false: none is left. */
static bool next_slice(const warmer *w, uint64_t *at, slice *out)
{
    uint64_t most = w->chunk_bytes >= SLICE_BYTES ? 1 : SLICE_BYTES / w->chunk_bytes;
    most = kvt_max_u64(1, kvt_min_u64(most, records_left(w)));
    while (*at < w->run->chunks && is_held(w, *at))
        ++*at;
    *out = (slice){.first = *at, .end = *at};
    while (out->end < w->run->chunks && out->end - out->first < most && !is_held(w, out->end))
        out->end++;
    out->fresh = out->end - out->first;
    *at = out->end;
    return out->fresh != 0;
}

static kvt_status save_slices(warmer *w)
{
    kvt_warm_run *run = w->run;
    slice next;
    uint64_t at = 0;
    while (!w->ended && next_slice(w, &at, &next)) {
        if (w->open == run->window)
            KVT_TRY(take_oldest(w));
        if (run->stop != NULL && run->stop()) {
            run->stopped = true;
            break;
        }
        if (budget_is_used_up(run)) {
            run->budget_used_up = true;
            end_early(w, KVT_REJECTED, 0);
            break;
        }
        while (records_left(w) < next.fresh && w->open != 0) /* what is under way may turn out smaller than it might */
            KVT_TRY(take_oldest(w));
        if (w->ended)
            break;
        if (records_left(w) < next.fresh) {
            run->cap_reached = true;
            end_early(w, KVT_REJECTED, 0);
            break;
        }
        KVT_TRY(submit(w, &next));
        w->promised_bytes += next.fresh * w->record_bytes_max;
        w->window[(w->oldest + w->open) % run->window] = next;
        w->open++;
    }
    return KVT_OK;
}

static uint64_t count_held(const warmer *w)
{
    uint64_t held = 0;
    for (uint64_t i = 0; i < w->run->chunks; i++)
        held += is_held(w, i);
    return held;
}

/* Whatever happens, tickets under way are waited for: their pages are the mapped file. */
static kvt_status save_all(warmer *w)
{
    kvt_warm_run *run = w->run;
    KVT_TRY(kvt_exists(run->space, w->keys, run->chunks, w->masks));
    run->chunks_held = count_held(w);
    if (run->dry_run) {
        run->chunks_new = run->chunks - run->chunks_held;
        run->blob_bytes = run->chunks_new * w->chunk_bytes;
        return KVT_OK;
    }
    kvt_status status = save_slices(w);
    while (w->open != 0) {
        kvt_status taken = take_oldest(w);
        status = status == KVT_OK ? taken : status;
    }
    KVT_TRY(status);
    KVT_TRY(kvt_exists(run->space, w->keys, run->chunks, w->masks));
    uint64_t now_held = count_held(w), expected = run->chunks_held + run->chunks_new;
    run->chunks_lost = expected > now_held ? expected - now_held : 0;
    run->blob_bytes = run->chunks_new * w->chunk_bytes;
    run->stopped |= run->cause == KVT_CANCELLED;
    return KVT_OK;
}

kvt_status kvt_warm_save(kvt_warm_run *run)
{
    kvt_space_info info;
    KVT_TRY(kvt_space_get_info(run->space, &info));
    warmer w = {.run = run, .chunk_tokens = info.chunk_tokens, .chunk_bytes = info.blob_bytes};
    w.record_bytes_max =
        RECORD_HEAD_BYTES + kvt_align_up(w.chunk_bytes + TOKEN_BYTES * w.chunk_tokens, RECORD_HEAD_BYTES);
    size_t chunks = run->source->token_count / info.chunk_tokens;
    run->chunks = chunks;
    run->tail_tokens = run->source->token_count % info.chunk_tokens;
    if (chunks == 0)
        return KVT_OK;
    w.keys = kvt_alloc_array(chunks, sizeof *w.keys);
    w.masks = kvt_alloc_array(chunks, sizeof *w.masks);
    kvt_status status = w.keys != NULL && w.masks != NULL
                            ? kvt_chunk_keys(run->space, run->tokens, run->source->token_count, w.keys, chunks, &chunks)
                            : kvt_fail(KVT_NOMEM, "out of memory for %zu keys", chunks);
    if (status == KVT_OK)
        status = save_all(&w);
    kvt_free(w.keys);
    kvt_free(w.masks);
    return status;
}
