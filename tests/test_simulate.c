/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator against a third implementation, written here to be obvious instead of fast: no list is linked, every
 * place in a queue is a stamp, every victim is found by looking at all records, every ghost by reading the diary
 * backwards. The two must agree on every count. The trace is made up: a few system prompts, conversations that grow,
 * single questions.
 */
#include "engine/policy.h"
#include "tests/support.h"
#include "tools/simulate.h"

static const char trace_path[] = KVT_GOLDEN_DIR "/trace_short.jsonl";

static kvt_trace *trace_of(void)
{
    kvt_trace *trace = NULL;
    cr_assert_eq(kvt_trace_read(trace_path, 0, &trace), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(trace->request_count, 320);
    cr_assert_eq(trace->block_count, 4461);
    cr_assert_eq(trace->node_count, 1261);
    return trace;
}

/* ------------------------------------------------------------ the naive stores */

enum { UNITS = 4096, DIARY = 65536, NOWHERE = 0, SMALL = 1, MAIN = 2 };

typedef struct naive {
    uint32_t units;
    uint64_t now; /* stamps */
    /* RAM */
    uint8_t queue[UNITS];
    uint64_t stamp[UNITS]; /* entered its queue, or (LRU) was last used; the smallest leaves first */
    uint32_t frequency[UNITS];
    uint32_t touches[UNITS];
    uint32_t diary[DIARY]; /* who left the small queue, in order */
    uint32_t diary_count;
    /* disk */
    uint32_t segment[UNITS];       /* number of the segment ever opened, from 1; 0: not there */
    uint64_t segment_stamp[UNITS]; /* by number */
    uint32_t opened, in_open;
    /* filter */
    uint8_t young[UNITS], old[UNITS];
    uint64_t young_count;
} naive;

static uint32_t count_in(const naive *n, uint8_t queue)
{
    uint32_t count = 0;
    for (uint32_t u = 0; u < n->units; u++)
        count += n->queue[u] == queue;
    return count;
}

static uint32_t oldest_in(const naive *n, uint8_t queue)
{
    uint32_t found = UINT32_MAX;
    for (uint32_t u = 0; u < n->units; u++)
        if (n->queue[u] == queue && (found == UINT32_MAX || n->stamp[u] < n->stamp[found]))
            found = u;
    return found;
}

static void ram_put(naive *n, uint32_t unit, uint64_t capacity, kvt_sim_policy policy)
{
    bool ghost = false;
    for (uint64_t back = 1; policy == KVT_SIM_S3FIFO && back <= capacity * 9 / 10 && back <= n->diary_count; back++)
        ghost |= n->diary[n->diary_count - back] == unit;
    n->queue[unit] = ghost ? MAIN : SMALL;
    n->stamp[unit] = ++n->now;
    n->frequency[unit] = 0;
    n->touches[unit] = 0;
}

static void ram_use(naive *n, uint32_t unit, kvt_sim_policy policy)
{
    n->touches[unit]++;
    n->frequency[unit] += n->frequency[unit] < 3;
    if (policy == KVT_SIM_LRU || policy == KVT_SIM_LRU_FRONT)
        n->stamp[unit] = ++n->now;
}

static uint32_t ram_evict(naive *n, uint64_t capacity, kvt_sim_policy policy)
{
    for (;;) {
        bool small = policy != KVT_SIM_S3FIFO || count_in(n, SMALL) > (capacity < 20 ? 1 : capacity / 10) ||
                     count_in(n, MAIN) == 0;
        uint32_t unit = oldest_in(n, small ? SMALL : MAIN);
        if (policy == KVT_SIM_S3FIFO && n->frequency[unit] > 0) {
            n->frequency[unit] = small ? 0 : n->frequency[unit] - 1;
            n->queue[unit] = MAIN;
            n->stamp[unit] = ++n->now;
            continue;
        }
        if (small)
            n->diary[n->diary_count++] = unit;
        n->queue[unit] = NOWHERE;
        return unit;
    }
}

static uint64_t disk_make_room(naive *n, uint64_t segments)
{
    uint32_t live = 0, victim = 0;
    uint64_t gone = 0;
    for (uint32_t s = 1; s <= n->opened; s++) {
        live += n->segment_stamp[s] != 0;
        if (n->segment_stamp[s] != 0 && (victim == 0 || n->segment_stamp[s] < n->segment_stamp[victim]))
            victim = s;
    }
    if (live < segments)
        return 0;
    n->segment_stamp[victim] = 0;
    for (uint32_t u = 0; u < n->units; u++)
        if (n->segment[u] == victim) {
            n->segment[u] = 0;
            gone++;
        }
    return gone;
}

static uint64_t disk_put(naive *n, uint32_t unit, uint64_t records, uint64_t segments, bool lru)
{
    uint64_t gone = 0;
    if (n->opened == 0 || n->in_open == records) {
        gone = disk_make_room(n, segments);
        n->segment_stamp[++n->opened] = ++n->now;
        n->in_open = 0;
    }
    n->segment[unit] = n->opened;
    n->in_open++;
    if (lru)
        n->segment_stamp[n->opened] = ++n->now;
    return gone;
}

/* ------------------------------------------------------------------- one tier */

static kvt_sim_cache_result naive_cache(const kvt_trace *trace, kvt_sim_policy policy, uint64_t capacity)
{
    naive *n = kvt_alloc(sizeof *n);
    kvt_sim_cache_result result = {0};
    bool disk = policy == KVT_SIM_SEGMENT16_LRU || policy == KVT_SIM_SEGMENT64_FIFO;
    bool lru = policy == KVT_SIM_SEGMENT16_LRU;
    uint64_t records = lru ? 16 : 64;
    n->units = trace->node_count;
    for (uint64_t r = 0; r < trace->request_count; r++) {
        const uint32_t *blocks = trace->blocks + trace->requests[r].block_begin;
        uint32_t count = trace->requests[r].block_count, hit = 0;
        while (hit < count && (n->queue[blocks[hit]] || n->segment[blocks[hit]]))
            hit++;
        result.blocks += count;
        result.hit_blocks += hit;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t unit = blocks[policy == KVT_SIM_LRU_FRONT ? i : count - 1 - i];
            if (n->segment[unit] && lru)
                n->segment_stamp[n->segment[unit]] = ++n->now;
            if (n->queue[unit])
                ram_use(n, unit, policy);
            if (n->queue[unit] || n->segment[unit])
                continue;
            result.inserted++;
            if (disk) {
                result.evicted += disk_put(n, unit, records, capacity / records, lru);
                continue;
            }
            if (count_in(n, SMALL) + count_in(n, MAIN) == capacity) {
                ram_evict(n, capacity, policy);
                result.evicted++;
            }
            ram_put(n, unit, capacity, policy);
        }
    }
    kvt_free(n);
    return result;
}

KVT_TEST(simulate, every_policy_agrees_with_the_naive_implementation)
{
    kvt_trace *trace = trace_of();
    const uint64_t capacities[] = {1, 7, 63, 200, 600, 1300};
    for (int policy = 0; policy < KVT_SIM_POLICY_COUNT; policy++) {
        uint64_t least = policy == KVT_SIM_SEGMENT16_LRU ? 32 : policy == KVT_SIM_SEGMENT64_FIFO ? 128 : 1;
        for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
            if (capacities[i] < least)
                continue;
            kvt_sim_cache_result found, wanted = naive_cache(trace, (kvt_sim_policy)policy, capacities[i]);
            cr_assert_eq(kvt_sim_cache(trace, (kvt_sim_policy)policy, capacities[i], &found), KVT_OK);
            cr_assert_eq(memcmp(&found, &wanted, sizeof found), 0, "policy %d, %lu blocks: hits %lu, naive %lu", policy,
                         capacities[i], found.hit_blocks, wanted.hit_blocks);
        }
    }
    kvt_trace_free(trace);
}

/* Blocks hit at 25, 63 and 252 of 1,261. A change here is a change of the rules: docs/policies.md has them. */
KVT_TEST(simulate, hits_on_the_short_trace_are_as_published)
{
    static const uint64_t capacities[3] = {25, 63, 252};
    static const uint64_t hits[KVT_SIM_POLICY_COUNT][3] = {{1623, 2314, 3051}, {1093, 2637, 3159}, {1736, 2750, 3169},
                                                           {1494, 2537, 3093}, {0, 2052, 3094},    {0, 0, 2966}};
    kvt_trace *trace = trace_of();
    for (int policy = 0; policy < KVT_SIM_POLICY_COUNT; policy++)
        for (int i = 0; i < 3; i++) {
            kvt_sim_cache_result found = {0};
            kvt_status status = kvt_sim_cache(trace, (kvt_sim_policy)policy, capacities[i], &found);
            cr_assert_eq(status, hits[policy][i] ? KVT_OK : KVT_INVALID);
            cr_assert_eq(found.hit_blocks, hits[policy][i], "policy %d, %lu blocks: %lu", policy, capacities[i],
                         found.hit_blocks);
        }
    kvt_trace_free(trace);
}

/* ------------------------------------------------------------------- two tiers */

typedef struct naive_tiers {
    naive n;
    const kvt_sim_tiers_options *o;
    double tokens;
    kvt_sim_tiers_result result;
} naive_tiers;

static bool naive_seen(naive_tiers *t, uint32_t unit)
{
    naive *n = &t->n;
    bool known = n->young[unit] || n->old[unit];
    if (n->young[unit])
        return true;
    if (t->o->filter_records && n->young_count == t->o->filter_records) {
        memcpy(n->old, n->young, sizeof n->old);
        memset(n->young, 0, sizeof n->young);
        n->young_count = 0;
    }
    n->young[unit] = 1;
    n->young_count++;
    return known;
}

static bool naive_admit(naive_tiers *t, uint32_t unit)
{
    bool used = t->n.touches[unit] > 0, seen = naive_seen(t, unit);
    uint32_t a = t->o->admission;
    if (a == KVT_SIM_EVICTED || (a == KVT_SIM_USED && used) || (a == KVT_SIM_USED_OR_SEEN && (used || seen)))
        return true;
    if (a == KVT_SIM_USED || a == KVT_SIM_USED_OR_SEEN)
        return false;
    if (t->o->ignore_budget)
        return true;
    bool rich = t->tokens > 0, broke = t->tokens < -t->o->bucket_records / 10;
    if (!rich && (broke || !(used || seen || a == KVT_SIM_WRITE_THROUGH)))
        return false;
    t->tokens -= 1;
    return true;
}

static void naive_write(naive_tiers *t, uint32_t unit)
{
    t->result.disk_evicted +=
        disk_put(&t->n, unit, t->o->segment_records, t->o->segment_count - t->o->segments_spare, true);
    t->result.written++;
}

static void naive_bring_in(naive_tiers *t, uint32_t unit)
{
    kvt_sim_policy policy = (kvt_sim_policy)t->o->host_policy;
    if (count_in(&t->n, SMALL) + count_in(&t->n, MAIN) == t->o->host_records) {
        uint32_t victim = ram_evict(&t->n, t->o->host_records, policy);
        t->result.host_evicted++;
        if (!t->n.segment[victim]) {
            if (naive_admit(t, victim))
                naive_write(t, victim);
            else
                t->result.skipped++;
        }
    }
    ram_put(&t->n, unit, t->o->host_records, policy);
}

static void naive_touch(naive_tiers *t, uint32_t unit)
{
    if (t->n.queue[unit])
        ram_use(&t->n, unit, (kvt_sim_policy)t->o->host_policy);
    if (t->n.segment[unit])
        t->n.segment_stamp[t->n.segment[unit]] = ++t->n.now;
}

static void naive_request(naive_tiers *t, const uint32_t *units, uint32_t count)
{
    bool from_ram[UNITS];
    uint32_t hit = 0;
    for (; hit < count && (t->n.queue[units[hit]] || t->n.segment[units[hit]]); hit++) {
        from_ram[hit] = t->n.queue[units[hit]] != NOWHERE;
        uint64_t *tokens = from_ram[hit] ? &t->result.hit_tokens_host : &t->result.hit_tokens_disk;
        *tokens += t->o->chunk_tokens;
    }
    for (uint32_t i = hit; i-- > 0;)
        naive_touch(t, units[i]);
    for (uint32_t i = hit; i-- > 0;)
        if (!from_ram[i]) {
            naive_bring_in(t, units[i]);
            if (t->o->touch_promoted)
                ram_use(&t->n, units[i], (kvt_sim_policy)t->o->host_policy);
            t->result.promoted_chunks++;
        }
    for (uint32_t i = count; i-- > hit;) {
        if (t->n.queue[units[i]] || t->n.segment[units[i]]) {
            naive_touch(t, units[i]);
            continue;
        }
        naive_bring_in(t, units[i]);
        t->result.saved_chunks++;
        if (t->o->admission == KVT_SIM_WRITE_THROUGH && naive_admit(t, units[i]))
            naive_write(t, units[i]);
    }
    t->result.requests++;
    t->result.chunks += count;
}

static kvt_sim_tiers_result naive_run(const kvt_trace *trace, const kvt_sim_tiers_options *o)
{
    naive_tiers *t = kvt_alloc(sizeof *t);
    uint32_t split = KVT_TRACE_BLOCK_TOKENS / o->chunk_tokens;
    t->o = o;
    t->tokens = o->bucket_records;
    t->n.units = trace->node_count * split;
    cr_assert_leq(t->n.units, UNITS);
    for (uint64_t r = 0; r < trace->request_count; r++) {
        const kvt_trace_request *request = &trace->requests[r];
        uint64_t before = r ? trace->requests[r - 1].time_ms : 0;
        uint32_t units[UNITS], count = 0;
        for (uint32_t b = 0; b < request->block_count; b++)
            for (uint32_t part = 0; part < split; part++)
                units[count++] = trace->blocks[request->block_begin + b] * split + part;
        double earned = (double)(request->time_ms - before) * (o->bucket_records_day / 86400000.0);
        t->tokens = t->tokens + earned < o->bucket_records ? t->tokens + earned : o->bucket_records;
        naive_request(t, units, count);
    }
    kvt_sim_tiers_result result = t->result;
    result.prompt_tokens = result.chunks * o->chunk_tokens;
    result.hit_tokens = result.hit_tokens_host + result.hit_tokens_disk;
    result.bucket_records_left = t->tokens;
    kvt_free(t);
    return result;
}

static kvt_sim_tiers_options tiers_options(void)
{
    return (kvt_sim_tiers_options){.chunk_tokens = 512,
                                   .host_policy = KVT_SIM_S3FIFO,
                                   .host_records = 60,
                                   .segment_records = 8,
                                   .segment_count = 30,
                                   .segments_spare = 1,
                                   .bucket_records = 240,
                                   .bucket_records_day = 5000};
}

static void compare(const kvt_trace *trace, const kvt_sim_tiers_options *o)
{
    kvt_sim_tiers_result found, wanted = naive_run(trace, o);
    cr_assert_eq(kvt_sim_tiers(trace, o, &found), KVT_OK);
    cr_assert_eq(memcmp(&found, &wanted, sizeof found), 0,
                 "admission %u, RAM %u, %lu records: hits %lu (naive %lu), written %lu (naive %lu)", o->admission,
                 o->host_policy, o->host_records, found.hit_tokens, wanted.hit_tokens, found.written, wanted.written);
}

KVT_TEST(simulate, two_tiers_agree_with_the_naive_implementation)
{
    kvt_trace *trace = trace_of();
    kvt_sim_tiers_options o = tiers_options();
    for (o.admission = 0; o.admission < KVT_SIM_ADMISSION_COUNT; o.admission++)
        for (int lru = 0; lru < 2; lru++) {
            o.host_policy = lru ? KVT_SIM_LRU : KVT_SIM_S3FIFO;
            compare(trace, &o);
        }
    o = tiers_options();
    o.filter_records = 100;
    compare(trace, &o);
    o.touch_promoted = true;
    compare(trace, &o);
    o.chunk_tokens = 256;
    o.host_records = 13;
    o.segments_spare = 2;
    compare(trace, &o);
    o.admission = KVT_SIM_WRITE_THROUGH;
    o.ignore_budget = true;
    compare(trace, &o);
    kvt_trace_free(trace);
}

KVT_TEST(simulate, two_tiers_on_the_short_trace_are_as_published)
{
    static const uint64_t blocks[KVT_SIM_ADMISSION_COUNT][3] = {
        {2526, 230, 463}, {2524, 193, 465}, {2531, 579, 1352}, {2510, 209, 484}, {2509, 378, 607}};
    kvt_trace *trace = trace_of();
    kvt_sim_tiers_options o = tiers_options();
    for (o.admission = 0; o.admission < KVT_SIM_ADMISSION_COUNT; o.admission++) {
        kvt_sim_tiers_result found;
        cr_assert_eq(kvt_sim_tiers(trace, &o, &found), KVT_OK);
        cr_assert_eq(found.hit_tokens_host, blocks[o.admission][0] * 512, "admission %u", o.admission);
        cr_assert_eq(found.hit_tokens_disk, blocks[o.admission][1] * 512, "admission %u", o.admission);
        cr_assert_eq(found.written, blocks[o.admission][2], "admission %u", o.admission);
    }
    kvt_trace_free(trace);
}

KVT_TEST(simulate, the_budget_bounds_what_is_written)
{
    kvt_trace *trace = trace_of();
    kvt_sim_tiers_options o = tiers_options();
    kvt_sim_tiers_result budget, free_writes;
    o.bucket_records_day = 0;
    cr_assert_eq(kvt_sim_tiers(trace, &o, &budget), KVT_OK);
    cr_assert_leq(budget.written, 240 + 24 + 1);
    compare(trace, &o);
    cr_assert_gt(budget.skipped, 0);
    o.admission = KVT_SIM_EVICTED;
    cr_assert_eq(kvt_sim_tiers(trace, &o, &free_writes), KVT_OK);
    cr_assert_gt(free_writes.written, 600);
    cr_assert_eq(free_writes.skipped, 0);
    kvt_trace_free(trace);
}

/* The engine's own S3-FIFO, driven as a single tier; capacities that a tenth divides, so that bytes and records round
 * alike. */
KVT_TEST(simulate, the_engines_eviction_hits_what_the_simulation_hits)
{
    kvt_trace *trace = trace_of();
    for (uint64_t capacity = 20; capacity <= 400; capacity += 20) {
        kvt_sim_cache_result wanted;
        uint64_t hits = 0, blob = 4096;
        kvt_s3 *s3 = NULL;
        cr_assert_eq(kvt_s3_create(trace->node_count, capacity * blob, &s3), KVT_OK);
        for (uint64_t r = 0; r < trace->request_count; r++) {
            const uint32_t *blocks = trace->blocks + trace->requests[r].block_begin;
            uint32_t count = trace->requests[r].block_count, hit = 0;
            while (hit < count && kvt_s3_contains(s3, blocks[hit]))
                hit++;
            hits += hit;
            for (uint32_t i = count; i-- > 0;) {
                if (!kvt_s3_contains(s3, blocks[i]) && kvt_s3_bytes(s3) + blob > capacity * blob)
                    kvt_s3_evict(s3, NULL, NULL);
                kvt_s3_insert(s3, blocks[i], UINT64_C(77) * blocks[i], blob); /* a touch when it is there */
            }
        }
        cr_assert_eq(kvt_sim_cache(trace, KVT_SIM_S3FIFO, capacity, &wanted), KVT_OK);
        cr_assert_eq(hits, wanted.hit_blocks, "%lu blocks", capacity);
        kvt_s3_destroy(s3);
    }
    kvt_trace_free(trace);
}

KVT_TEST(simulate, room_for_everything_hits_all_that_was_ever_seen)
{
    kvt_trace *trace = trace_of();
    kvt_sim_tiers_options o = tiers_options();
    kvt_sim_tiers_result tiers;
    kvt_sim_cache_result cache;
    o.host_records = 5;
    o.segment_count = 1000;
    o.admission = KVT_SIM_EVICTED;
    cr_assert_eq(kvt_sim_tiers(trace, &o, &tiers), KVT_OK);
    cr_assert_eq(kvt_sim_cache(trace, KVT_SIM_LRU, 2000, &cache), KVT_OK);
    cr_assert_eq(cache.hit_blocks, 4461 - 1261);
    cr_assert_eq(tiers.hit_tokens, cache.hit_blocks * 512);
    cr_assert_eq(tiers.disk_evicted, 0);
    kvt_trace_free(trace);
}

KVT_TEST(simulate, a_segment_holds_what_fits_beside_header_and_footer)
{
    cr_assert_eq(kvt_sim_segment_records(4 * 4096, 8192), 0, "a header, a footer of one block and a trailer leave one");
    cr_assert_eq(kvt_sim_segment_records(5 * 4096, 8192), 1);
    cr_assert_eq(kvt_sim_segment_records(UINT64_C(32) << 20, 270336), 124);
    /* 36 entries fill one footer block: the 37th record costs a block more */
    cr_assert_eq(kvt_sim_segment_records((3 + 36 * 2) * 4096, 8192), 36);
    cr_assert_eq(kvt_sim_segment_records((3 + 37 * 2) * 4096, 8192), 36);
    cr_assert_eq(kvt_sim_segment_records((4 + 37 * 2) * 4096, 8192), 37);
}

KVT_TEST(simulate, nonsense_is_refused)
{
    kvt_trace *trace = trace_of();
    kvt_sim_cache_result cache;
    cr_assert_eq(kvt_sim_cache(trace, KVT_SIM_LRU, 0, &cache), KVT_INVALID);
    cr_assert_eq(kvt_sim_cache(trace, KVT_SIM_SEGMENT16_LRU, 31, &cache), KVT_INVALID);
    kvt_sim_tiers_result tiers;
    for (int i = 0; i < 6; i++) {
        kvt_sim_tiers_options o = tiers_options();
        o.chunk_tokens = i == 0 ? 0 : i == 1 ? 300 : 512;
        o.host_records = i == 2 ? 0 : 60;
        o.segment_count = i == 3 ? 2 : 30;
        o.host_policy = i == 4 ? KVT_SIM_FIFO : KVT_SIM_S3FIFO;
        o.admission = i == 5 ? KVT_SIM_ADMISSION_COUNT : 0;
        cr_assert_eq(kvt_sim_tiers(trace, &o, &tiers), KVT_INVALID, "case %d", i);
    }
    kvt_trace_free(trace);
}
