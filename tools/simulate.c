/* SPDX-License-Identifier: Apache-2.0
 *
 * One tier of blocks under one policy. A request asks for the blocks of its prompt in order; a hit is a block that is
 * there with all before it. Then the whole chain is touched or brought in, its last block first, so that a block never
 * outlives those it depends on (KVT_SIM_LRU_FRONT shows the other way). Blocks count alike, the last one of a prompt
 * too.
 */
#include "tools/simulate_int.h"

typedef struct cache {
    bool segmented;
    sim_queue queue;
    sim_segments segments;
    kvt_sim_cache_result result;
} cache;

static bool holds(const cache *c, uint32_t block)
{
    return c->segmented ? sim_segments_has(&c->segments, block) : sim_queue_has(&c->queue, block);
}

static void use(cache *c, uint32_t block)
{
    if (holds(c, block)) {
        if (c->segmented)
            sim_segments_touch(&c->segments, block);
        else
            sim_queue_touch(&c->queue, block);
        return;
    }
    c->result.inserted++;
    if (c->segmented) {
        c->result.evicted += sim_segments_append(&c->segments, block);
        return;
    }
    if (sim_queue_count(&c->queue) == c->queue.capacity) {
        sim_queue_evict(&c->queue);
        c->result.evicted++;
    }
    sim_queue_insert(&c->queue, block);
}

static void run(cache *c, const kvt_trace *trace, bool front_to_back)
{
    for (uint64_t r = 0; r < trace->request_count; r++) {
        const uint32_t *blocks = trace->blocks + trace->requests[r].block_begin;
        uint32_t count = trace->requests[r].block_count, hit = 0;
        while (hit < count && holds(c, blocks[hit]))
            hit++;
        c->result.blocks += count;
        c->result.hit_blocks += hit;
        for (uint32_t i = 0; i < count; i++)
            use(c, blocks[front_to_back ? i : count - 1 - i]);
    }
}

kvt_status kvt_sim_cache(const kvt_trace *trace, kvt_sim_policy policy, uint64_t capacity_blocks,
                         kvt_sim_cache_result *out)
{
    if (capacity_blocks == 0)
        return kvt_fail(KVT_INVALID, "a cache of 0 blocks; the trace has %u", trace->node_count);
    cache c = {.segmented = policy == KVT_SIM_SEGMENT16_LRU || policy == KVT_SIM_SEGMENT64_FIFO};
    kvt_status status;
    if (c.segmented) {
        uint64_t records = policy == KVT_SIM_SEGMENT16_LRU ? 16 : 64;
        status = sim_segments_init(&c.segments, policy == KVT_SIM_SEGMENT16_LRU, records, capacity_blocks / records,
                                   trace->node_count);
    } else {
        status = sim_queue_init(&c.queue, policy, capacity_blocks, trace->node_count);
    }
    if (status == KVT_OK) {
        run(&c, trace, policy == KVT_SIM_LRU_FRONT);
        *out = c.result;
    }
    sim_queue_fini(&c.queue);
    sim_segments_fini(&c.segments);
    return status;
}
