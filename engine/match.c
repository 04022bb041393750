/* SPDX-License-Identifier: Apache-2.0
 *
 * How much of a prompt is held: the names of a batch of chunks, then their index entries, all at once. Batches grow
 * with the match, so a miss costs few names and a long prompt has many fetches under way. No I/O, no allocation.
 */
#include "engine/space.h"

#include <inttypes.h>

enum { BATCH_FIRST = 32, BATCH_MAX = KVT_INDEX_LOOK_MAX };

typedef struct walk {
    kvt_space *space;
    kvt_match_result result;
    uint64_t bytes_leading;
    bool ended;
} walk;

static void add_chunk(walk *w, const kvt_index_view *view)
{
    kvt_match_result *result = &w->result;
    uint32_t groups = view->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff;
    result->groups = result->chunks == 0 ? groups : result->groups & groups;
    result->chunks++;
    result->tokens += w->space->chunk_tokens;
    if (view->host == KVT_HOST_PRESENT) {
        result->tokens_host += w->space->chunk_tokens;
        result->bytes_host += view->stored_bytes;
    } else {
        result->tokens_lower += w->space->chunk_tokens;
        result->bytes_lower += view->stored_bytes;
    }
    if (result->tokens_lower == 0) {
        result->tokens_leading = result->tokens;
        w->bytes_leading = result->bytes_host;
    }
}

static bool is_held(const kvt_index_view *view, uint64_t token_fp)
{
    if (!view->found || (view->flags & KVT_RECORD_TOKENS) == 0 || view->token_fp != token_fp)
        return false;
    return view->host == KVT_HOST_PRESENT || view->lower == KVT_LOWER_PRESENT;
}

static void look_up(walk *w, const kvt_key *keys, const uint64_t *fingerprints, uint32_t count)
{
    kvt_index_view views[BATCH_MAX];
    kvt_index_look(w->space->engine->index, w->space->slot, keys, count, views);
    for (uint32_t i = 0; i < count && !w->ended; i++) {
        if (is_held(&views[i], fingerprints[i]))
            add_chunk(w, &views[i]);
        else
            w->ended = true;
    }
}

/* Bandwidth as it was so far, in bytes per second; 0 when nothing was measured. */
static double rate(uint64_t bytes, uint64_t ns) { return ns == 0 ? 0.0 : (double)bytes * 1e9 / (double)ns; }

static uint64_t time_of(uint64_t bytes, double bytes_per_second)
{
    return (uint64_t)((double)bytes / bytes_per_second * 1e9);
}

/* From the bandwidth seen so far; what was not measured stays 0. */
static void estimate(kvt_engine *engine, walk *w)
{
    kvt_match_result *result = &w->result;
    kvt_counters *counters = &engine->counters;
    double scatter = rate(atomic_load(&counters->scatter_bytes), atomic_load(&counters->scatter_ns));
    if (scatter == 0.0)
        return;
    result->restore_leading_ns = time_of(w->bytes_leading, scatter);
    uint64_t moving = time_of(result->bytes_host + result->bytes_lower, scatter);
    if (engine->lower == NULL || result->bytes_lower == 0) {
        result->restore_ns = moving;
        return;
    }
    kvt_tier_stats stats = {0};
    kvt_tier_get_stats(engine->lower, &stats);
    double below = rate(stats.read_bytes, stats.read_ns);
    if (below != 0.0)
        result->restore_ns = moving + time_of(result->bytes_lower, below);
}

kvt_status kvt_match(kvt_space *space, const uint32_t *tokens, uint64_t token_count, kvt_match_result *out)
{
    if (space == NULL || out == NULL || (tokens == NULL && token_count != 0))
        return kvt_fail(KVT_INVALID, "space, tokens or out is NULL");
    KVT_TRY(kvt_engine_enter(space->engine));
    if (space->chunk_tokens == 0)
        return kvt_fail(KVT_INVALID, "this space holds opaque blobs; ask kvt_exists");
    walk w = {.space = space};
    kvt_key keys[BATCH_MAX], parent = space->id;
    uint64_t fingerprints[BATCH_MAX];
    uint64_t chunks = token_count / space->chunk_tokens;
    uint32_t batch = BATCH_FIRST;
    for (uint64_t done = 0; done < chunks && !w.ended;) {
        uint32_t count = (uint32_t)kvt_min_u64(batch, chunks - done);
        KVT_TRY(kvt_chain_names(space->hash, &parent, tokens + done * space->chunk_tokens, space->chunk_tokens, count,
                                keys, fingerprints));
        look_up(&w, keys, fingerprints, count);
        parent = keys[count - 1];
        done += count;
        batch = batch < BATCH_MAX ? 2 * batch : BATCH_MAX;
    }
    kvt_engine *engine = space->engine;
    if (w.result.chunks != 0)
        estimate(engine, &w);
    kvt_count(&engine->counters.lookup_tokens, token_count);
    kvt_count(&engine->counters.hit_tokens_host, w.result.tokens_host);
    kvt_count(&engine->counters.hit_tokens_lower, w.result.tokens_lower);
    *out = w.result;
    return KVT_OK;
}

kvt_status kvt_chunk_keys(const kvt_space *space, const uint32_t *tokens, uint64_t token_count, kvt_key *keys,
                          size_t capacity, size_t *out_count)
{
    kvt_fail_clear();
    if (space == NULL || out_count == NULL || (tokens == NULL && token_count != 0) || (keys == NULL && capacity != 0))
        return kvt_fail(KVT_INVALID, "space, tokens, keys or out_count is NULL");
    KVT_TRY(kvt_engine_enter(space->engine));
    if (space->chunk_tokens == 0)
        return kvt_fail(KVT_INVALID, "this space has no chunks of tokens; its keys are the caller's");
    size_t count = (size_t)(token_count / space->chunk_tokens);
    KVT_TRY(kvt_chain_keys(space->hash, &space->id, tokens, space->chunk_tokens, count < capacity ? count : capacity,
                           keys));
    *out_count = count;
    return KVT_OK;
}
