/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine does with a trace, one request at a time: match the longest prefix that RAM or disk holds, touch it
 * last chunk first, load it (chunks that only the disk has come into RAM), save the rest last chunk first. RAM evicts
 * one by one; a victim that the disk lacks is written there if admission lets it, else it is gone. The disk evicts
 * whole segments.
 *
 * A load keeps what it found: chunks of the prefix that RAM loses to the load itself are still served.
 */
#include "tools/simulate_int.h"

#include <stdlib.h>

#define DAY_MS (86400.0 * 1000.0)

/* Token bucket and seen-before filter. */
typedef struct gate {
    double tokens; /* in records */
    uint64_t time_ms;
    uint32_t *window; /* per unit: window of the filter it was last seen in; 0: never */
    uint32_t current;
    uint64_t seen; /* different units in the current window */
} gate;

typedef struct tiers {
    const kvt_sim_tiers_options *options;
    sim_queue host;
    sim_segments disk;
    gate gate;
    bool *was_in_host; /* of the chunks of the request */
    uint32_t per_block;
    kvt_sim_tiers_result result;
} tiers;

static bool seen_before(tiers *t, uint32_t unit)
{
    gate *g = &t->gate;
    uint32_t last = g->window[unit];
    bool known = last != 0 && last + 1 >= g->current;
    if (last == g->current)
        return true;
    if (t->options->filter_records != 0 && g->seen == t->options->filter_records) {
        g->current++;
        g->seen = 0;
    }
    g->window[unit] = g->current;
    g->seen++;
    return known;
}

static bool pay(tiers *t, bool entitled)
{
    double debt_max = t->options->bucket_records / 10;
    if (t->options->ignore_budget)
        return true;
    if (t->gate.tokens <= 0 && (!entitled || t->gate.tokens < -debt_max))
        return false;
    t->gate.tokens -= 1;
    return true;
}

static bool admit(tiers *t, uint32_t unit)
{
    bool used = t->host.hits[unit] > 0;
    bool seen = seen_before(t, unit);
    switch ((kvt_sim_admission)t->options->admission) {
    case KVT_SIM_EVICTED:
        return true;
    case KVT_SIM_USED:
        return used;
    case KVT_SIM_USED_OR_SEEN:
        return used || seen;
    case KVT_SIM_WRITE_THROUGH:
        return pay(t, true);
    default:
        return pay(t, used || seen);
    }
}

static void write_down(tiers *t, uint32_t unit)
{
    t->result.disk_evicted += sim_segments_append(&t->disk, unit);
    t->result.written++;
}

static void bring_in(tiers *t, uint32_t unit)
{
    if (sim_queue_count(&t->host) == t->host.capacity) {
        uint32_t victim = sim_queue_evict(&t->host);
        t->result.host_evicted++;
        if (sim_segments_has(&t->disk, victim))
            ; /* a copy is there */
        else if (admit(t, victim))
            write_down(t, victim);
        else
            t->result.skipped++;
    }
    sim_queue_insert(&t->host, unit);
}

static void touch(tiers *t, uint32_t unit)
{
    if (sim_queue_has(&t->host, unit))
        sim_queue_touch(&t->host, unit);
    if (sim_segments_has(&t->disk, unit))
        sim_segments_touch(&t->disk, unit);
}

static void save(tiers *t, uint32_t unit)
{
    if (sim_queue_has(&t->host, unit) || sim_segments_has(&t->disk, unit)) {
        touch(t, unit);
        return;
    }
    bring_in(t, unit);
    t->result.saved_chunks++;
    if (t->options->admission == KVT_SIM_WRITE_THROUGH && admit(t, unit))
        write_down(t, unit);
}

static uint32_t unit_of(const tiers *t, const uint32_t *blocks, uint64_t chunk)
{
    return blocks[chunk / t->per_block] * t->per_block + (uint32_t)(chunk % t->per_block);
}

/* Longest prefix held; counts its tokens by tier and remembers what RAM had. */
static uint64_t match(tiers *t, const uint32_t *blocks, uint64_t chunks)
{
    uint64_t hit = 0;
    for (; hit < chunks; hit++) {
        uint32_t unit = unit_of(t, blocks, hit);
        t->was_in_host[hit] = sim_queue_has(&t->host, unit);
        if (!t->was_in_host[hit] && !sim_segments_has(&t->disk, unit))
            break;
        *(t->was_in_host[hit] ? &t->result.hit_tokens_host : &t->result.hit_tokens_disk) += t->options->chunk_tokens;
    }
    t->result.hit_tokens += hit * t->options->chunk_tokens;
    return hit;
}

static void run_request(tiers *t, const kvt_trace_request *request, const uint32_t *blocks)
{
    uint64_t chunks = (uint64_t)request->block_count * t->per_block;
    double elapsed_ms = (double)(request->time_ms - t->gate.time_ms);
    double tokens = t->gate.tokens + elapsed_ms * (t->options->bucket_records_day / DAY_MS);
    t->gate.tokens = tokens < t->options->bucket_records ? tokens : t->options->bucket_records;
    t->gate.time_ms = request->time_ms;

    uint64_t hit = match(t, blocks, chunks);
    for (uint64_t c = hit; c-- > 0;)
        touch(t, unit_of(t, blocks, c));
    for (uint64_t c = hit; c-- > 0;) {
        if (t->was_in_host[c])
            continue;
        bring_in(t, unit_of(t, blocks, c));
        if (t->options->touch_promoted)
            sim_queue_touch(&t->host, unit_of(t, blocks, c));
        t->result.promoted_chunks++;
    }
    for (uint64_t c = chunks; c-- > hit;)
        save(t, unit_of(t, blocks, c));
    t->result.requests++;
    t->result.chunks += chunks;
    t->result.prompt_tokens += chunks * t->options->chunk_tokens;
}

static kvt_status check(const kvt_sim_tiers_options *options)
{
    if (options->chunk_tokens == 0 || KVT_TRACE_BLOCK_TOKENS % options->chunk_tokens != 0)
        return kvt_fail(KVT_INVALID, "chunks of %u tokens do not divide the trace's blocks of %d",
                        options->chunk_tokens, KVT_TRACE_BLOCK_TOKENS);
    if (options->host_records == 0)
        return kvt_fail(KVT_INVALID, "RAM has no room for a single record");
    if (options->segment_count < options->segments_spare + 2)
        return kvt_fail(KVT_INVALID, "%llu segments are too few; use more bytes of disk or smaller segments",
                        (unsigned long long)options->segment_count);
    if (options->host_policy != KVT_SIM_S3FIFO && options->host_policy != KVT_SIM_LRU)
        return kvt_fail(KVT_INVALID, "RAM evicts by S3-FIFO or LRU");
    if (options->admission >= KVT_SIM_ADMISSION_COUNT)
        return kvt_fail(KVT_INVALID, "unknown admission %u", options->admission);
    return KVT_OK;
}

kvt_status kvt_sim_tiers(const kvt_trace *trace, const kvt_sim_tiers_options *options, kvt_sim_tiers_result *out)
{
    KVT_TRY(check(options));
    tiers t = {.options = options, .per_block = KVT_TRACE_BLOCK_TOKENS / options->chunk_tokens};
    uint64_t units = (uint64_t)trace->node_count * t.per_block;
    if (units >= SIM_NONE)
        return kvt_fail(KVT_INVALID, "the trace has too many chunks; use larger ones");
    t.gate = (gate){.tokens = options->bucket_records, .current = 1, .window = calloc(units, sizeof *t.gate.window)};
    t.was_in_host = calloc((size_t)trace->blocks_max * t.per_block, sizeof *t.was_in_host);
    kvt_status status = t.gate.window && t.was_in_host ? KVT_OK : KVT_NOMEM;
    if (status == KVT_OK)
        status = sim_queue_init(&t.host, (kvt_sim_policy)options->host_policy, options->host_records, units);
    if (status == KVT_OK)
        status = sim_segments_init(&t.disk, true, options->segment_records,
                                   options->segment_count - options->segments_spare, units);
    if (status == KVT_OK) {
        for (uint64_t r = 0; r < trace->request_count; r++)
            run_request(&t, &trace->requests[r], trace->blocks + trace->requests[r].block_begin);
        t.result.bucket_records_left = t.gate.tokens;
        *out = t.result;
    }
    sim_queue_fini(&t.host);
    sim_segments_fini(&t.disk);
    free(t.gate.window);
    free(t.was_in_host);
    return status;
}

uint64_t kvt_sim_segment_records(uint64_t segment_bytes, uint64_t record_bytes)
{
    const uint64_t block = 4096, footer_entry = 112;
    uint64_t count = 0;
    for (;;) { /* header block | records | footer entries, padded | trailer block */
        uint64_t footer = ((count + 1) * footer_entry + block - 1) / block * block;
        uint64_t fixed = 2 * block + footer;
        if (segment_bytes < fixed || (segment_bytes - fixed) / record_bytes < count + 1)
            return count;
        count++;
    }
}
