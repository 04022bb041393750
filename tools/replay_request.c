/* SPDX-License-Identifier: Apache-2.0
 *
 * One request. Its pages hold poison when they are taken (so whatever wrote to a page that was not in use is found
 * now), the held prefix is loaded and every byte of the pages compared, the rest is filled from the pattern and saved,
 * and the pages are poisoned again. A prompt that is longer than the paged memory goes through it window by window.
 */
#include "tools/pattern.h"
#include "tools/replay_worker.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

uint64_t kvt_replay_unit(const kvt_replay_worker *worker, const kvt_trace_request *request, uint64_t chunk)
{
    uint32_t per_block = kvt_replay_chunks_of_block(worker->options);
    uint32_t node = worker->trace->blocks[request->block_begin + chunk / per_block];
    return (uint64_t)node * per_block + chunk % per_block;
}

uint64_t kvt_replay_seed(const kvt_replay_worker *worker, uint64_t unit)
{
    uint32_t per_block = kvt_replay_chunks_of_block(worker->options);
    return kvt_pattern_chain(worker->trace->nodes[unit / per_block].seed, unit % per_block);
}

uint64_t kvt_replay_tokens(const kvt_trace_request *request, const kvt_replay_options *options)
{
    return options->tail ? request->input_tokens : (uint64_t)request->block_count * KVT_TRACE_BLOCK_TOKENS;
}

kvt_status kvt_replay_wait(kvt_replay_worker *worker, kvt_ticket ticket, kvt_completion *out)
{
    kvt_status status = kvt_wait(worker->engine, ticket, KVT_REPLAY_WAIT_SECONDS * UINT64_C(1000000000), out);
    if (status == KVT_TIMEOUT)
        return kvt_fail(KVT_TIMEOUT, "a ticket did not complete within %d s", KVT_REPLAY_WAIT_SECONDS);
    return status;
}

/* The request under way. */
typedef struct prompt {
    const kvt_trace_request *request;
    uint64_t index;
    uint64_t tokens;
    uint64_t chunks;   /* the last one may be a tail */
    uint64_t matched;  /* tokens */
    uint64_t restored; /* tokens, without a gap from the start */
    uint64_t load_ns;
    uint64_t save_ns;
    bool gap; /* a load came up short: nothing behind it counts */
} prompt;

static uint64_t chunk_end(const kvt_replay_worker *w, const prompt *p, uint64_t chunk)
{
    return kvt_min_u64(p->tokens, (chunk + 1) * w->options->chunk_tokens);
}

static void note_wrong(kvt_replay_worker *w, const prompt *p, uint64_t chunk, const kvt_wrong *wrong)
{
    if (wrong->count == 0)
        return;
    char text[256];
    kvt_wrong_text(wrong, text, sizeof text);
    uint64_t unit = kvt_replay_unit(w, p->request, chunk);
    kvt_journal_note_wrong(w->journal, wrong->count, "request %" PRIu64 ", block %" PRIu64 " (chunk %" PRIu64 "): %s",
                           p->index, w->trace->nodes[unit / kvt_replay_chunks_of_block(w->options)].id, chunk, text);
}

static kvt_request request_of(const kvt_replay_worker *w, const prompt *p, uint64_t begin, uint64_t end,
                              const kvt_page_list *list)
{
    kvt_request request = KVT_REQUEST_INIT;
    request.tokens = w->tokens;
    request.token_count = p->tokens;
    request.token_begin = begin;
    request.token_end = end;
    request.pages = list;
    request.group_count = 1;
    request.flags = w->options->tail ? KVT_REQUEST_TAIL : 0;
    return request;
}

static kvt_page_list page_list(const kvt_replay_worker *w, const prompt *p)
{
    uint32_t page_tokens = w->options->page_tokens;
    return (kvt_page_list){.ids = w->pages, .count = (uint32_t)((p->tokens + page_tokens - 1) / page_tokens)};
}

/* Load [begin, end) and add what came back to the results. *out_end: first token that was not restored. */
static kvt_status load_range(kvt_replay_worker *w, prompt *p, uint64_t begin, uint64_t end, uint64_t *out_end)
{
    kvt_page_list list = page_list(w, p);
    kvt_request request = request_of(w, p, begin, end, &list);
    kvt_completion done;
    kvt_ticket ticket = 0;
    uint64_t start = kvt_now_ns();
    kvt_status status = kvt_load(w->space, &request, &ticket);
    if (status != KVT_OK)
        return status < 0 ? status : kvt_fail(KVT_BUSY, "a load was refused: %s", kvt_status_text(status));
    KVT_TRY(kvt_replay_wait(w, ticket, &done));
    uint64_t ns = kvt_now_ns() - start;
    p->load_ns += ns;
    w->state->load_ns += ns;
    if (done.tokens > end - begin || done.tokens_host + done.tokens_lower != done.tokens)
        return kvt_fail(KVT_INVALID,
                        "a load of %" PRIu64 " tokens says that %" PRIu64 " came from RAM and %" PRIu64
                        " from below, %" PRIu64 " in all",
                        end - begin, done.tokens_host, done.tokens_lower, done.tokens);
    w->state->hit_tokens_host += done.tokens_host;
    w->state->hit_tokens_lower += done.tokens_lower;
    w->state->hit_tokens += done.tokens;
    p->restored += done.tokens;
    p->gap = done.tokens < end - begin;
    *out_end = begin + done.tokens;
    return KVT_OK;
}

/* Every byte of the chunks [first, last): tokens before `loaded` against the pattern, tokens from `asked` on and gaps
 * against poison. Between the two, a load that came up short may have left anything. */
static void check_window(kvt_replay_worker *w, const prompt *p, uint64_t first, uint64_t last, uint64_t loaded,
                         uint64_t asked)
{
    uint32_t chunk_tokens = w->options->chunk_tokens;
    for (uint64_t c = first; c < last; c++) {
        uint64_t begin = c * chunk_tokens;
        uint64_t good = loaded <= begin ? 0 : kvt_min_u64(loaded - begin, chunk_tokens);
        kvt_wrong wrong = {0};
        const uint32_t *ids = w->pages + c * w->chunk_pages;
        if (good == chunk_tokens || loaded == asked)
            kvt_paged_check(w->paged, ids, kvt_replay_seed(w, kvt_replay_unit(w, p->request, c)), (uint32_t)good,
                            &wrong);
        else if (begin >= asked)
            kvt_paged_check_poison(w->paged, ids, w->chunk_pages, &wrong);
        w->state->checked_bytes += good * kvt_geometry_token_bytes(w->options->geometry);
        note_wrong(w, p, c, &wrong);
    }
}

static void fill_window(kvt_replay_worker *w, const prompt *p, uint64_t first, uint64_t last, uint64_t from)
{
    uint32_t chunk_tokens = w->options->chunk_tokens;
    for (uint64_t c = first; c < last; c++) {
        uint64_t begin = c * chunk_tokens;
        uint64_t skip = from <= begin ? 0 : kvt_min_u64(from - begin, chunk_tokens);
        uint64_t end = chunk_end(w, p, c) - begin;
        if (skip < end)
            kvt_paged_fill(w->paged, w->pages + c * w->chunk_pages,
                           kvt_replay_seed(w, kvt_replay_unit(w, p->request, c)), (uint32_t)skip, (uint32_t)end);
    }
}

/* Tell the supervisor when this is the request to be killed in, and how long the save may take. */
static void announce_save(kvt_replay_worker *w, const prompt *p, uint64_t chunks)
{
    const kvt_replay_state *s = w->state;
    uint64_t chunk_ns = s->saved_chunks != 0 ? s->save_ns / s->saved_chunks : UINT64_C(200000);
    atomic_store(&w->journal->save_estimate_ns, chunk_ns * chunks);
    atomic_store(&w->journal->in_flight, chunks);
    if (p->index < atomic_load(&w->journal->kill_request))
        return;
    uint64_t one = 1;
    ssize_t written = write(w->journal->wake_fd, &one, sizeof one);
    (void)written; /* the supervisor also looks by itself, if later */
}

/* The supervisor wants to end this worker within this request: stand still until it does. */
static void await_kill(const kvt_replay_worker *w, const prompt *p)
{
    while (p->index >= atomic_load(&w->journal->kill_request))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static kvt_status save_range(kvt_replay_worker *w, prompt *p, uint64_t begin, uint64_t end)
{
    kvt_page_list list = page_list(w, p);
    kvt_request request = request_of(w, p, begin, end, &list);
    kvt_completion done;
    kvt_ticket ticket = 0;
    uint64_t chunks = (end - begin) / w->options->chunk_tokens;
    uint64_t start = kvt_now_ns();
    announce_save(w, p, chunks);
    kvt_status status = kvt_save(w->space, &request, &ticket);
    if (status != KVT_OK)
        return status < 0 ? status : kvt_fail(KVT_BUSY, "a save was refused: %s", kvt_status_text(status));
    KVT_TRY(kvt_replay_wait(w, ticket, &done));
    atomic_store(&w->journal->in_flight, 0);
    uint64_t ns = kvt_now_ns() - start;
    if (done.status < 0)
        return kvt_fail(done.status, "a save failed: %s", kvt_status_text(done.cause));
    p->save_ns += ns;
    w->state->save_ns += ns;
    w->state->saved_chunks += chunks;
    w->state->saved_bytes += done.bytes;
    w->state->unsaved_tokens +=
        chunks * w->options->chunk_tokens - kvt_min_u64(done.tokens, chunks * w->options->chunk_tokens);
    await_kill(w, p);
    return KVT_OK;
}

/* Chunks [first, last) of the prompt. */
static kvt_status run_window(kvt_replay_worker *w, prompt *p, uint64_t first, uint64_t last)
{
    uint64_t begin = first * w->options->chunk_tokens;
    uint64_t end = chunk_end(w, p, last - 1);
    uint32_t *ids = w->pages + first * w->chunk_pages;
    uint32_t count = (uint32_t)(last - first) * w->chunk_pages;
    kvt_paged_take(w->paged, count, ids);
    kvt_wrong wrong = {0};
    kvt_paged_check_poison(w->paged, ids, count, &wrong);
    note_wrong(w, p, first, &wrong);

    uint64_t asked = p->gap || p->matched <= begin ? begin : kvt_min_u64(p->matched, end);
    uint64_t loaded = begin;
    if (asked > begin)
        KVT_TRY(load_range(w, p, begin, asked, &loaded));
    check_window(w, p, first, last, loaded, asked);
    fill_window(w, p, first, last, loaded);
    if (loaded < end)
        KVT_TRY(save_range(w, p, loaded, end));
    kvt_paged_poison(w->paged, ids, count);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = KVT_PAGE_NONE;
    return KVT_OK;
}

/* Tokens and keys of the prompt. */
static kvt_status prepare(kvt_replay_worker *w, const prompt *p)
{
    for (uint32_t b = 0; b < p->request->block_count; b++)
        kvt_trace_tokens(w->trace->nodes[w->trace->blocks[p->request->block_begin + b]].id,
                         w->tokens + (size_t)b * KVT_TRACE_BLOCK_TOKENS);
    size_t count = 0;
    size_t full = p->tokens / w->options->chunk_tokens;
    KVT_TRY(kvt_chunk_keys(w->space, w->tokens, p->tokens, w->keys, full, &count));
    for (size_t c = 0; c < full; c++)
        kvt_journal_learn(w->journal, kvt_replay_unit(w, p->request, c), &w->keys[c]);
    for (uint64_t i = 0; i < p->chunks * w->chunk_pages; i++)
        w->pages[i] = KVT_PAGE_NONE;
    return KVT_OK;
}

kvt_status kvt_replay_request(kvt_replay_worker *w, uint64_t index)
{
    uint32_t chunk_tokens = w->options->chunk_tokens;
    prompt p = {.request = &w->trace->requests[index], .index = index};
    p.tokens = kvt_replay_tokens(p.request, w->options);
    p.chunks = (p.tokens + chunk_tokens - 1) / chunk_tokens;
    w->state = kvt_journal_begin(w->journal);
    KVT_TRY(prepare(w, &p));

    uint64_t start = kvt_now_ns();
    kvt_match_result match;
    KVT_TRY(kvt_match(w->space, w->tokens, p.tokens, &match));
    uint64_t match_ns = kvt_now_ns() - start;
    p.matched = match.tokens;
    w->state->matched_tokens += match.tokens;
    w->state->prompt_tokens += p.tokens;
    for (uint64_t c = 0; c < p.chunks; c += w->window_chunks)
        KVT_TRY(run_window(w, &p, c, kvt_min_u64(p.chunks, c + w->window_chunks)));

    w->journal->latencies[KVT_LATENCY_MATCH][index] = match_ns;
    w->journal->latencies[KVT_LATENCY_LOAD][index] = p.load_ns;
    w->journal->latencies[KVT_LATENCY_SAVE][index] = p.save_ns;
    w->journal->latencies[KVT_LATENCY_REQUEST][index] = match_ns + p.load_ns + p.save_ns;
    w->state->requests = index + 1;
    return KVT_OK;
}
