/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters, copied out one by one.
 */
#include "engine/histogram.h"
#include "engine/request.h"

#include <stdio.h>

static void host_stats(kvt_engine *engine, kvt_tier_stats *out)
{
    kvt_counters *counters = &engine->counters;
    out->present = 1;
    snprintf(out->name, sizeof out->name, "host");
    (void)kvt_pool_base(engine->pool, &out->capacity_bytes);
    out->used_bytes = kvt_pool_used(engine->pool);
    out->record_count = atomic_load(&counters->host_records);
    out->record_bytes = atomic_load(&counters->host_record_bytes);
    out->evicted_records = atomic_load(&counters->host_evicted_records);
    out->evicted_bytes = atomic_load(&counters->host_evicted_bytes);
}

static const char *page_text(kvt_page_kind kind)
{
    return kind == KVT_PAGES_HUGE ? "huge" : kind == KVT_PAGES_TRANSPARENT ? "transparent" : "small";
}

static void copy_counters(kvt_engine *engine, kvt_stats *out)
{
    kvt_counters *from = &engine->counters;
#define KVT_COPY(field) out->field = atomic_load_explicit(&from->field, memory_order_relaxed)
    KVT_COPY(lookup_tokens), KVT_COPY(hit_tokens_host), KVT_COPY(hit_tokens_lower);
    KVT_COPY(saved_chunks), KVT_COPY(saved_bytes), KVT_COPY(loaded_chunks), KVT_COPY(loaded_bytes);
    KVT_COPY(rejected_chunks), KVT_COPY(admission_skipped_chunks), KVT_COPY(collisions), KVT_COPY(load_failures);
    KVT_COPY(gather_bytes), KVT_COPY(gather_ns), KVT_COPY(scatter_bytes), KVT_COPY(scatter_ns);
    KVT_COPY(encode_bytes), KVT_COPY(encode_ns), KVT_COPY(decode_bytes), KVT_COPY(decode_ns);
    KVT_COPY(hash_bytes), KVT_COPY(hash_ns);
#undef KVT_COPY
    kvt_histogram_copy(&from->save, &out->save);
    kvt_histogram_copy(&from->load, &out->load);
    kvt_histogram_copy(&from->put, &out->put);
    kvt_histogram_copy(&from->get, &out->get);
}

kvt_status kvt_get_stats(kvt_engine *engine, kvt_stats *out)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (out == NULL || out->struct_size < 2 * sizeof(uint32_t))
        return kvt_fail(KVT_INVALID, "out is NULL, or its struct_size is not set");
    kvt_stats stats = {.struct_size = out->struct_size};
    host_stats(engine, &stats.tiers[KVT_TIER_HOST]);
    if (engine->lower != NULL) {
        kvt_tier_get_stats(engine->lower, &stats.tiers[engine->lower_id]);
        stats.tiers[engine->lower_id].present = 1;
        stats.tiers[engine->lower_id].corrupt_records = atomic_load(&engine->counters.corrupt_records);
        /* Writes are off by wish when the store is open read-only. */
        uint32_t wanted = (engine->options.flags & KVT_OPEN_READ_ONLY) != 0 ? 1 : 0;
        stats.health = stats.tiers[engine->lower_id].state > wanted || stats.tiers[engine->lower_id].errors != 0;
    }
    stats.space_count = kvt_spaces_count(engine->spaces);
    stats.inflight = kvt_requests_inflight(engine);
    copy_counters(engine, &stats);
    bool unlimited = (engine->options.flags & KVT_OPEN_NO_BUDGET) != 0 || engine->lower == NULL;
    int64_t tokens = kvt_admission_tokens(engine->admission, kvt_engine_clock(engine));
    stats.budget_tokens = unlimited ? UINT64_MAX : tokens > 0 ? (uint64_t)tokens : 0;
    stats.live_bytes = kvt_live_bytes();
    (void)kvt_pool_base(engine->pool, &stats.pool_bytes);
    snprintf(stats.pool_pages, sizeof stats.pool_pages, "%s", page_text(kvt_pool_page_kind(engine->pool)));
    kvt_backend_info info;
    kvt_backend_get_info(engine->backend, &info);
    snprintf(stats.backend, sizeof stats.backend, "%s", info.name);
    memcpy(out, &stats, kvt_min_u64(out->struct_size, sizeof stats));
    return KVT_OK;
}
