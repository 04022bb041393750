/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a request: its completion from the outcomes of its chunks, its counters, and the touch of its chain, back
 * to front, so that leaves leave RAM and disk before what they hang on.
 */
#include "engine/histogram.h"
#include "engine/requests_int.h"

static bool by_prefix(kvt_verb verb)
{
    return verb == KVT_VERB_SAVE || verb == KVT_VERB_LOAD || verb == KVT_VERB_PREFETCH;
}

/* Chunks that count: the leading run of served ones for prompts; for batches all that were served. */
static uint32_t served_run(const kvt_ticket_state *request)
{
    uint32_t run = 0;
    while (run < request->chunk_count && request->outcomes[run].status == KVT_OK)
        run++;
    return run;
}

static uint64_t tokens_of_chunk(const kvt_ticket_state *request, uint32_t chunk)
{
    uint32_t size = request->space->chunk_tokens;
    uint64_t begin = (uint64_t)(request->first_chunk + chunk) * size;
    uint64_t end = kvt_min_u64(begin + size, request->token_count);
    begin = kvt_max_u64(begin, request->token_begin);
    end = kvt_min_u64(end, request->token_end);
    return end > begin ? end - begin : 0;
}

static void add_chunk(const kvt_ticket_state *request, uint32_t chunk, kvt_completion *out)
{
    const kvt_outcome *outcome = &request->outcomes[chunk];
    uint64_t tokens = by_prefix(request->verb) ? tokens_of_chunk(request, chunk) : 0;
    out->chunks++;
    out->tokens += tokens;
    out->tiers &= outcome->tiers;
    out->groups &= outcome->groups;
    if (request->verb != KVT_VERB_SAVE) {
        out->tokens_host += outcome->from_lower ? 0 : tokens;
        out->tokens_lower += outcome->from_lower ? tokens : 0;
    }
}

static void find_cause(const kvt_ticket_state *request, kvt_completion *out)
{
    out->cause = request->end_cause;
    for (uint32_t i = 0; i < request->chunk_count && out->cause == KVT_OK; i++) {
        if (request->outcomes[i].status == KVT_OK)
            continue;
        out->cause = request->outcomes[i].cause != KVT_OK ? request->outcomes[i].cause : request->outcomes[i].status;
        out->system_error = request->outcomes[i].system_error;
    }
}

/* A load is whole when every group that pages were named for got its part. */
static bool all_groups(const kvt_ticket_state *request, const kvt_completion *completion)
{
    if (request->verb != KVT_VERB_LOAD)
        return true;
    for (uint32_t g = 0; g < request->space->group_count; g++) {
        if (request->page_counts[g] != 0 && (completion->groups >> g & 1) == 0)
            return false;
    }
    return true;
}

static kvt_status status_of(const kvt_ticket_state *request, const kvt_completion *completion)
{
    if (request->ending && completion->chunks == request->chunk_count)
        return KVT_OK; /* all was done before the end came */
    if (completion->chunks == request->chunk_count && !all_groups(request, completion))
        return completion->tokens != 0 && completion->groups != 0 ? KVT_PARTIAL : KVT_MISS;
    if (completion->chunks == request->chunk_count)
        return by_prefix(request->verb) && request->verb != KVT_VERB_SAVE &&
                       completion->tokens < request->token_end - request->token_begin
                   ? (completion->tokens != 0 ? KVT_PARTIAL : KVT_MISS)
                   : KVT_OK;
    if (completion->chunks != 0)
        return KVT_PARTIAL;
    return request->verb == KVT_VERB_SAVE || request->verb == KVT_VERB_PUT ? KVT_REJECTED : KVT_MISS;
}

static bool still_held(const kvt_engine *engine, const kvt_ticket_state *request, const kvt_index_view *view)
{
    bool below = view->lower == KVT_LOWER_PRESENT;
    bool through = (request->flags & KVT_REQUEST_WRITE_THROUGH) != 0 && engine->lower != NULL;
    return view->found && (below || (!through && view->host == KVT_HOST_PRESENT));
}

/* What was saved first may have made way for what was saved last: the completion tells what is held now. */
static void look_again(kvt_engine *engine, kvt_ticket_state *request)
{
    kvt_key keys[KVT_INDEX_LOOK_MAX];
    kvt_index_view views[KVT_INDEX_LOOK_MAX];
    for (uint32_t done = 0; done < request->chunk_count;) {
        uint32_t count = (uint32_t)kvt_min_u64(request->chunk_count - done, KVT_INDEX_LOOK_MAX);
        for (uint32_t i = 0; i < count; i++)
            keys[i] = request->items != NULL ? request->items[done + i].key
                                             : request->keys[request->first_chunk + done + i + 1];
        kvt_index_look(engine->index, request->space->slot, keys, count, views);
        for (uint32_t i = 0; i < count; i++) {
            kvt_outcome *outcome = &request->outcomes[done + i];
            if (outcome->status != KVT_OK || still_held(engine, request, &views[i]))
                continue;
            outcome->status = KVT_REJECTED;
            outcome->cause = KVT_NOSPACE;
            outcome->tiers = 0;
        }
        done += count;
    }
}

static void return_items(const kvt_ticket_state *request)
{
    for (uint32_t i = 0; request->items != NULL && i < request->chunk_count; i++) {
        const kvt_outcome *outcome = &request->outcomes[i];
        kvt_item *item = &request->items[i];
        item->status = outcome->status;
        item->tiers = outcome->tiers;
        if (request->verb == KVT_VERB_GET && outcome->bytes != 0)
            item->bytes = outcome->bytes;
    }
}

static void touch_chain(kvt_engine *engine, kvt_ticket_state *request)
{
    uint32_t kept = 0;
    kvt_place places[64];
    uint32_t place_count = 0;
    for (uint32_t i = request->chunk_count; i-- > 0;) {
        uint32_t id = request->ids[i];
        if (id == KVT_ENTRY_NONE)
            continue;
        kvt_entry *entry = kvt_index_lock_id(engine->index, id);
        if (entry->live && atomic_load(&entry->lower) == KVT_LOWER_PRESENT)
            places[place_count++] = entry->place;
        kvt_index_unlock_entry(engine->index, entry);
        if (request->outcomes[i].from_lower) /* brought to RAM by this very request: no sign that it is wanted there */
            request->ids[i] = KVT_ENTRY_NONE;
        if (place_count == 64) {
            kvt_tier_touch(engine->lower, places, place_count);
            place_count = 0;
        }
        kept++;
    }
    if (place_count != 0)
        kvt_tier_touch(engine->lower, places, place_count);
    if (kept == 0)
        return;
    for (uint32_t i = 0; i < request->chunk_count / 2; i++) {
        uint32_t other = request->chunk_count - 1 - i, id = request->ids[i];
        request->ids[i] = request->ids[other];
        request->ids[other] = id;
    }
    kvt_ram_touch(engine, request->ids, request->chunk_count);
}

static void record_latency(kvt_engine *engine, kvt_verb verb, uint64_t ns)
{
    kvt_counters *counters = &engine->counters;
    kvt_histogram *to = verb == KVT_VERB_SAVE  ? &counters->save
                        : verb == KVT_VERB_PUT ? &counters->put
                        : verb == KVT_VERB_GET ? &counters->get
                                               : &counters->load;
    if (verb != KVT_VERB_PREFETCH)
        kvt_histogram_record(to, ns);
}

void kvt_request_conclude(kvt_engine *engine, kvt_ticket_state *request)
{
    if (request->verb == KVT_VERB_SAVE || request->verb == KVT_VERB_PUT)
        look_again(engine, request);
    kvt_completion out = {.ticket = request->id, .user_data = request->user_data, .tiers = ~0u, .groups = ~0u};
    uint32_t run = by_prefix(request->verb) ? served_run(request) : request->chunk_count;
    for (uint32_t i = 0; i < run; i++) {
        if (request->outcomes[i].status == KVT_OK)
            add_chunk(request, i, &out);
    }
    for (uint32_t i = 0; i < request->chunk_count; i++) {
        out.bytes += request->outcomes[i].status == KVT_OK ? request->outcomes[i].bytes : 0;
        out.bytes_lower += request->outcomes[i].bytes_lower;
    }
    if (out.chunks == 0)
        out.tiers = out.groups = 0;
    out.status = status_of(request, &out);
    if (out.status != KVT_OK)
        find_cause(request, &out);
    if (out.status == KVT_MISS)
        out.tokens = out.tokens_host = out.tokens_lower = 0; /* records were there, but of other groups */
    out.elapsed_ns = kvt_now_ns() - request->start_ns;
    return_items(request);
    touch_chain(engine, request);
    record_latency(engine, request->verb, out.elapsed_ns);
    request->completion = out;
}
