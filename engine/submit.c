/* SPDX-License-Identifier: Apache-2.0
 *
 * Accepting work: every argument is checked before anything changes, then the request gets its own copy of tokens, keys
 * and page lists, and starts.
 */
#include "engine/requests_int.h"

#include <inttypes.h>

enum { TOKENS_MAX = 1 << 26, BATCH_ITEMS_MAX = 65536 };

/* Which chunks of the prompt a request covers. */
typedef struct span {
    uint64_t begin, end; /* tokens */
    uint32_t total;      /* chunks with a key, from the start of the prompt: full ones, and the tail if asked for */
    uint32_t first, count;
    uint32_t tail_tokens; /* 0: no tail */
} span;

/* ---- checks ---- */

static kvt_status enter_space(const kvt_space *space, const void *given, const void *out)
{
    kvt_fail_clear();
    if (space == NULL || given == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "space, request or out is NULL");
    return kvt_engine_enter(space->engine);
}

static kvt_status check_writable(const kvt_engine *engine)
{
    if ((engine->options.flags & KVT_OPEN_READ_ONLY) != 0)
        return kvt_fail(KVT_REJECTED, "the store is open read-only; nothing can be saved");
    return KVT_OK;
}

static kvt_status check_flags(uint32_t flags, uint32_t known, const char *what)
{
    if ((flags & ~known) != 0)
        return kvt_fail(KVT_INVALID, "%s: unknown flags 0x%x", what, flags & ~known);
    return KVT_OK;
}

static kvt_status make_span(const kvt_space *space, const kvt_request *request, bool store, span *out)
{
    if (space->chunk_tokens == 0 || space->group_count == 0)
        return kvt_fail(KVT_INVALID, "this space holds opaque blobs; use kvt_put and kvt_get");
    if (request->tokens == NULL && request->token_count != 0)
        return kvt_fail(KVT_INVALID, "tokens is NULL, but token_count is %" PRIu64, request->token_count);
    if (request->token_count > TOKENS_MAX)
        return kvt_fail(KVT_INVALID, "a prompt of %" PRIu64 " tokens; at most %d", request->token_count, TOKENS_MAX);
    span s = {.begin = request->token_begin, .end = request->token_end};
    if (s.end == 0)
        s.end = request->token_count;
    if (s.begin > s.end || s.end > request->token_count)
        return kvt_fail(KVT_INVALID, "tokens [%" PRIu64 ", %" PRIu64 ") are not within the prompt of %" PRIu64, s.begin,
                        s.end, request->token_count);
    uint32_t chunk = space->chunk_tokens;
    bool tail = (request->flags & KVT_REQUEST_TAIL) != 0 && s.end == request->token_count;
    s.tail_tokens = tail ? (uint32_t)(request->token_count % chunk) : 0;
    s.total = (uint32_t)(request->token_count / chunk) + (s.tail_tokens != 0);
    uint64_t last = s.end / chunk + (s.tail_tokens != 0);
    if (!store && s.end % chunk != 0)
        last = s.end / chunk + 1;
    last = kvt_min_u64(last, s.total);
    s.first = (uint32_t)(store ? (s.begin + chunk - 1) / chunk : s.begin / chunk);
    s.count = last > s.first && s.begin < s.end ? (uint32_t)last - s.first : 0;
    *out = s;
    return KVT_OK;
}

static uint64_t span_end(const kvt_space *space, const span *s)
{
    uint64_t chunks = (uint64_t)s->first + s->count;
    uint64_t end = chunks * space->chunk_tokens;
    if (s->tail_tokens != 0 && chunks == s->total)
        end -= space->chunk_tokens - s->tail_tokens;
    return end;
}

static kvt_status check_page_list(const kvt_space *space, const kvt_request *request, uint32_t group, uint64_t begin,
                                  uint64_t end)
{
    const kvt_page_list *list = &request->pages[group];
    uint32_t page = space->page_tokens[group];
    uint32_t page_count = kvt_layout_page_count(space->layout, group);
    if (list->reserved != 0)
        return kvt_fail(KVT_INVALID, "pages[%u].reserved is not 0", group);
    if (list->count == 0)
        return KVT_OK;
    if (list->ids == NULL)
        return kvt_fail(KVT_INVALID, "pages[%u].ids is NULL, but its count is %u", group, list->count);
    uint64_t needed = (end + page - 1) / page;
    if (begin < end && list->count < needed)
        return kvt_fail(KVT_INVALID, "pages[%u] holds %u pages; tokens up to %" PRIu64 " need %" PRIu64, group,
                        list->count, end, needed);
    for (uint64_t i = begin / page; begin < end && i < needed; i++) {
        if (list->ids[i] >= page_count && list->ids[i] != KVT_PAGE_NONE)
            return kvt_fail(KVT_INVALID, "pages[%u].ids[%" PRIu64 "] is %u; the group has %u pages", group, i,
                            list->ids[i], page_count);
    }
    return KVT_OK;
}

static kvt_status check_pages(const kvt_space *space, const kvt_request *request, uint64_t begin, uint64_t end)
{
    if (space->layout == NULL)
        return kvt_fail(KVT_INVALID, "the space was opened without pages; open it with bases and page counts");
    if (request->pages == NULL || request->group_count != space->group_count)
        return kvt_fail(KVT_INVALID, "pages must hold one list per group: %u, not %u", space->group_count,
                        request->pages == NULL ? 0 : request->group_count);
    for (uint32_t i = 0; i < space->group_count; i++)
        KVT_TRY(check_page_list(space, request, i, begin, end));
    return KVT_OK;
}

/* ---- the request's own copy ---- */

typedef struct arena_plan {
    uint64_t outcomes, keys, ids, tokens, pages[KVT_GROUPS_MAX], bytes;
} arena_plan;

static uint64_t reserve(arena_plan *plan, uint64_t bytes)
{
    uint64_t at = plan->bytes;
    plan->bytes = kvt_align_up(at + bytes, 64);
    return at;
}

static arena_plan plan_arena(const kvt_request *request, const span *s, bool pages)
{
    arena_plan plan = {0};
    plan.outcomes = reserve(&plan, (uint64_t)s->count * sizeof(kvt_outcome));
    plan.keys = reserve(&plan, ((uint64_t)s->total + 1) * sizeof(kvt_key));
    plan.ids = reserve(&plan, (uint64_t)s->count * sizeof(uint32_t));
    plan.tokens = reserve(&plan, request->token_count * sizeof(uint32_t));
    for (uint32_t i = 0; pages && i < request->group_count; i++)
        plan.pages[i] = reserve(&plan, (uint64_t)request->pages[i].count * sizeof(uint32_t));
    return plan;
}

/* Until a chunk reports, it was not served. */
static void reset_chunks(kvt_ticket_state *state)
{
    bool store = state->verb == KVT_VERB_SAVE || state->verb == KVT_VERB_PUT;
    for (uint32_t i = 0; i < state->chunk_count; i++) {
        state->outcomes[i] = (kvt_outcome){.status = store ? KVT_REJECTED : KVT_MISS};
        state->ids[i] = KVT_ENTRY_NONE;
    }
}

static kvt_status copy_in(kvt_ticket_state *state, const kvt_space *space, const kvt_request *request, const span *s,
                          const arena_plan *plan)
{
    state->outcomes = (kvt_outcome *)(state->arena + plan->outcomes);
    state->keys = (kvt_key *)(state->arena + plan->keys);
    state->ids = (uint32_t *)(state->arena + plan->ids);
    state->tokens = (uint32_t *)(state->arena + plan->tokens);
    reset_chunks(state);
    if (request->token_count != 0)
        memcpy(state->tokens, request->tokens, request->token_count * sizeof(uint32_t));
    for (uint32_t i = 0; i < space->group_count && request->pages != NULL && i < request->group_count; i++) {
        state->page_counts[i] = request->pages[i].count;
        state->pages[i] = (uint32_t *)(state->arena + plan->pages[i]);
        if (request->pages[i].count != 0)
            memcpy(state->pages[i], request->pages[i].ids, request->pages[i].count * sizeof(uint32_t));
    }
    uint32_t full = s->total - (s->tail_tokens != 0);
    state->keys[0] = space->id;
    KVT_TRY(kvt_chain_keys(space->hash, &space->id, state->tokens, space->chunk_tokens, full, state->keys + 1));
    if (s->tail_tokens != 0)
        KVT_TRY(kvt_chain_keys(space->hash, &state->keys[full], state->tokens + (uint64_t)full * space->chunk_tokens,
                               s->tail_tokens, 1, &state->keys[full + 1]));
    return KVT_OK;
}

static void copy_scalars(kvt_ticket_state *state, kvt_space *space, const kvt_request *request, const span *s)
{
    state->space = space;
    state->flags = request->flags;
    state->user_data = request->user_data;
    state->stream = request->stream;
    state->cost_us = request->cost_us;
    state->layer_begin = request->layer_begin;
    state->layer_count = request->layer_count == 0 ? UINT32_MAX : request->layer_count;
    state->token_begin = s->begin;
    state->token_end = s->end;
    state->token_count = request->token_count;
    state->first_chunk = s->first;
    state->chunk_count = s->count;
    state->limit = s->count;
    if (request->timeout_ns != 0)
        state->deadline_ns = kvt_now_ns() + kvt_min_u64(request->timeout_ns, INT64_MAX / 2);
}

/* Chunks that could only take the place of those before them are not even begun. What a codec makes of them is not
 * known yet; then they are tried. */
static void limit_to_quota(kvt_ticket_state *state, uint64_t quota)
{
    const kvt_space *space = state->space;
    uint64_t payload = kvt_section_bytes(space->chunk_tokens);
    for (uint32_t g = 0; g < space->group_count; g++)
        payload += state->page_counts[g] != 0 ? space->group_bytes[g] : 0;
    if (space->codec->id != KVT_CODEC_RAW || payload == 0)
        return;
    state->limit = (uint32_t)kvt_min_u64(state->limit, quota / payload);
    for (uint32_t i = state->limit; i < state->chunk_count; i++)
        state->outcomes[i].cause = KVT_QUOTA;
}

static kvt_status submit_prompt(kvt_space *space, const kvt_request *given, kvt_verb verb, kvt_ticket *out)
{
    KVT_TRY(enter_space(space, given, out));
    kvt_request request;
    KVT_TRY(kvt_options_copy(given, given->struct_size, &request, sizeof request, "kvt_request"));
    KVT_TRY(check_flags(request.flags, KVT_REQUEST_TAIL | KVT_REQUEST_WRITE_THROUGH | KVT_REQUEST_PRIORITY, "request"));
    bool store = verb == KVT_VERB_SAVE;
    bool pages = verb != KVT_VERB_PREFETCH;
    span s = {0};
    KVT_TRY(make_span(space, &request, store, &s));
    if (store) {
        kvt_status writable = check_writable(space->engine);
        if (writable != KVT_OK)
            return writable;
    }
    if (pages)
        KVT_TRY(check_pages(space, &request, store ? (uint64_t)s.first * space->chunk_tokens : s.begin,
                            store ? span_end(space, &s) : kvt_min_u64(s.end, span_end(space, &s))));
    else
        request.pages = NULL;
    arena_plan plan = plan_arena(&request, &s, pages);
    kvt_ticket_state *state;
    kvt_status status = kvt_request_begin(space->engine, plan.bytes + 64, &state);
    if (status != KVT_OK)
        return status;
    state->verb = verb;
    copy_scalars(state, space, &request, &s);
    if ((space->engine->options.flags & KVT_OPEN_WRITE_THROUGH) != 0)
        state->flags |= KVT_REQUEST_WRITE_THROUGH;
    uint64_t quota = kvt_spaces_quota(space->engine->spaces, space->slot);
    /* The last chunk goes first: what comes last leaves RAM last, and a prefix is worth more than a tail. Unless there
     * may be no time or no room for all: then the beginning should be there. */
    state->backwards = store && request.timeout_ns == 0 && quota == 0;
    status = copy_in(state, space, &request, &s, &plan);
    if (status != KVT_OK) {
        kvt_request_abandon(space->engine, state);
        return status;
    }
    if (store && quota != 0)
        limit_to_quota(state, quota);
    kvt_request_start(space->engine, state, out);
    return KVT_OK;
}

kvt_status kvt_save(kvt_space *space, const kvt_request *request, kvt_ticket *out)
{
    return submit_prompt(space, request, KVT_VERB_SAVE, out);
}

kvt_status kvt_load(kvt_space *space, const kvt_request *request, kvt_ticket *out)
{
    return submit_prompt(space, request, KVT_VERB_LOAD, out);
}

kvt_status kvt_prefetch(kvt_space *space, const kvt_request *request, kvt_ticket *out)
{
    return submit_prompt(space, request, KVT_VERB_PREFETCH, out);
}

/* ---- by key ---- */

static kvt_status check_batch(const kvt_batch *batch, bool store)
{
    KVT_TRY(check_flags(batch->flags, KVT_REQUEST_WRITE_THROUGH | KVT_REQUEST_PRIORITY, "batch"));
    if (batch->reserved != 0)
        return kvt_fail(KVT_INVALID, "batch: reserved is not 0");
    if (batch->items == NULL || batch->count == 0 || batch->count > BATCH_ITEMS_MAX)
        return kvt_fail(KVT_INVALID, "a batch holds 1..%d items; this one says %u", BATCH_ITEMS_MAX,
                        batch->items == NULL ? 0 : batch->count);
    for (uint32_t i = 0; i < batch->count; i++) {
        const kvt_item *item = &batch->items[i];
        if (item->buffer == NULL || item->bytes == 0)
            return kvt_fail(KVT_INVALID, "items[%u]: the buffer is NULL or empty", i);
        if (store && item->bytes > KVT_BLOB_BYTES_MAX)
            return kvt_fail(KVT_INVALID, "items[%u]: a blob of %" PRIu64 " bytes; at most 64 MiB, split it", i,
                            item->bytes);
    }
    return KVT_OK;
}

static kvt_status submit_batch(kvt_space *space, const kvt_batch *given, kvt_verb verb, kvt_ticket *out)
{
    KVT_TRY(enter_space(space, given, out));
    kvt_batch batch;
    KVT_TRY(kvt_options_copy(given, given->struct_size, &batch, sizeof batch, "kvt_batch"));
    KVT_TRY(check_batch(&batch, verb == KVT_VERB_PUT));
    if (verb == KVT_VERB_PUT) {
        kvt_status writable = check_writable(space->engine);
        if (writable != KVT_OK)
            return writable;
    }
    uint64_t outcomes = kvt_align_up((uint64_t)batch.count * sizeof(kvt_outcome), 64);
    uint64_t bytes = outcomes + (uint64_t)batch.count * sizeof(uint32_t);
    kvt_ticket_state *state;
    kvt_status status = kvt_request_begin(space->engine, bytes, &state);
    if (status != KVT_OK)
        return status;
    state->verb = verb;
    copy_scalars(state, space,
                 &(kvt_request){.flags = batch.flags, .timeout_ns = batch.timeout_ns, .user_data = batch.user_data},
                 &(span){.count = batch.count});
    if ((space->engine->options.flags & KVT_OPEN_WRITE_THROUGH) != 0)
        state->flags |= KVT_REQUEST_WRITE_THROUGH;
    state->items = batch.items;
    state->outcomes = (kvt_outcome *)state->arena;
    state->ids = (uint32_t *)(state->arena + outcomes);
    reset_chunks(state);
    kvt_request_start(space->engine, state, out);
    return KVT_OK;
}

kvt_status kvt_put(kvt_space *space, const kvt_batch *batch, kvt_ticket *out)
{
    return submit_batch(space, batch, KVT_VERB_PUT, out);
}

kvt_status kvt_get(kvt_space *space, const kvt_batch *batch, kvt_ticket *out)
{
    return submit_batch(space, batch, KVT_VERB_GET, out);
}

/* ---- what a unit needs to know of its chunk ---- */

static uint32_t mask_of_groups(const kvt_ticket_state *request, uint64_t token_begin, uint64_t token_end)
{
    uint32_t mask = 0;
    for (uint32_t g = 0; g < request->space->group_count; g++) {
        uint32_t page = request->space->page_tokens[g];
        bool whole = request->page_counts[g] != 0;
        for (uint64_t i = token_begin / page; whole && i < (token_end + page - 1) / page; i++)
            whole = request->pages[g][i] != KVT_PAGE_NONE;
        mask |= (uint32_t)whole << g;
    }
    return mask;
}

void kvt_request_describe_chunk(const kvt_ticket_state *request, kvt_unit *unit)
{
    const kvt_space *space = request->space;
    if (request->items != NULL) {
        const kvt_item *item = &request->items[unit->chunk];
        unit->key = item->key;
        unit->raw_bytes = unit->verb == KVT_VERB_PUT ? item->bytes : 0;
        return;
    }
    uint32_t position = request->first_chunk + unit->chunk;
    uint64_t begin = (uint64_t)position * space->chunk_tokens;
    unit->tokens = (uint32_t)kvt_min_u64(space->chunk_tokens, request->token_count - begin);
    unit->depth = position;
    unit->key = request->keys[position + 1];
    if (position != 0)
        unit->parent = request->keys[position];
    unit->token_fp = kvt_token_fingerprint(request->tokens + begin, unit->tokens);
    if (unit->verb != KVT_VERB_SAVE)
        return;
    unit->groups = mask_of_groups(request, begin, begin + unit->tokens);
    for (uint32_t g = 0; g < space->group_count; g++) {
        if ((unit->groups >> g & 1) != 0)
            unit->raw_bytes += kvt_layout_group_bytes(space->layout, g, unit->tokens);
    }
}
