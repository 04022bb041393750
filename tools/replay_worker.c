/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker process: opens the store, checks after a restart what must be there, and runs requests from where the
 * journal stands. The result of a request becomes visible in the journal at its end, as a whole.
 */
#include "tools/replay_worker.h"
#include "tools/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { HANDOVER_STEP_NS = 10000000 };
#define HANDOVER_NS UINT64_C(5000000000)

/* A failed open is returned as well, and told by whoever gets it; or it is tried again: see open_engine. */
static void on_log(void *arg, kvt_log_level level, const char *message)
{
    const kvt_replay_options *options = arg;
    if (level <= KVT_LOG_WARN && strncmp(message, "open: ", 6) != 0)
        cli_warn(options->command, "%s", message);
}

static kvt_status open_engine(kvt_replay_worker *w)
{
    const kvt_replay_options *o = w->options;
    kvt_options options = KVT_OPTIONS_INIT;
    options.flags = (o->write_through ? KVT_OPEN_WRITE_THROUGH : 0u) | (o->ignore_budget ? KVT_OPEN_NO_BUDGET : 0u);
    options.store_path = o->store;
    options.lower = o->lower;
    options.io = o->io;
    options.host_bytes_max = o->host_bytes;
    options.disk_bytes_max = o->disk_bytes;
    options.segment_bytes = o->segment_bytes;
    options.blob_bytes_max = kvt_geometry_token_bytes(o->geometry) * o->chunk_tokens;
    options.worker_count = o->worker_count;
    options.backend = o->backend;
    options.log = on_log;
    options.log_arg = (void *)(uintptr_t)o;
    options.on_event = kvt_journal_on_event;
    options.event_arg = w->journal;
    options.clock_ns = kvt_journal_clock;
    options.clock_arg = w->journal;
    uint64_t start = kvt_now_ns();
    kvt_status status = kvt_open(&options, &w->engine);
    /* The kernel may hold the locks of a killed worker until its I/O ring is gone. */
    while (status == KVT_BUSY && kvt_now_ns() - start < HANDOVER_NS) {
        nanosleep(&(struct timespec){.tv_nsec = HANDOVER_STEP_NS}, NULL);
        status = kvt_open(&options, &w->engine);
    }
    w->journal->open_ns = kvt_now_ns() - start;
    return status;
}

static kvt_status open_space(kvt_replay_worker *w)
{
    const kvt_geometry *g = w->options->geometry;
    kvt_space_options options = KVT_SPACE_OPTIONS_INIT;
    options.model = g->name;
    options.revision = w->options->name != NULL ? w->options->name : "replay";
    options.dtype = g->dtype;
    options.chunk_tokens = w->options->chunk_tokens;
    options.codec = w->options->codec;
    options.group_count = 1;
    options.groups = kvt_paged_group(w->paged);
    return kvt_space_open(w->engine, &options, &w->space);
}

/* A device's backend keeps the pages too. Here, in the worker: a device's context does not survive a fork. */
static kvt_status open_backend(kvt_replay_worker *w)
{
    kvt_backend_info info;
    KVT_TRY(kvt_backend_open(w->options->backend, NULL, &w->backend));
    kvt_backend_get_info(w->backend, &info);
    if ((info.caps & KVT_BACKEND_DEVICE) != 0)
        return KVT_OK;
    kvt_backend_close(w->backend);
    w->backend = NULL;
    return KVT_OK;
}

static kvt_status make_memory(kvt_replay_worker *w)
{
    const kvt_replay_options *o = w->options;
    uint64_t chunks_max = (uint64_t)w->trace->blocks_max * kvt_replay_chunks_of_block(o);
    w->blob_bytes = kvt_geometry_token_bytes(o->geometry) * o->chunk_tokens;
    w->chunk_pages = o->chunk_tokens / o->page_tokens;
    w->window_chunks = (uint32_t)kvt_max_u64(1, kvt_min_u64(chunks_max, o->page_bytes / w->blob_bytes));
    w->tokens = kvt_alloc_array((size_t)w->trace->blocks_max * KVT_TRACE_BLOCK_TOKENS, sizeof *w->tokens);
    w->pages = kvt_alloc_array(chunks_max * w->chunk_pages, sizeof *w->pages);
    w->keys = kvt_alloc_array(chunks_max, sizeof *w->keys);
    if (w->tokens == NULL || w->pages == NULL || w->keys == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the longest prompt");
    /* Twice the pages that are needed at once, so that the choice is random, where that is cheap. */
    uint64_t pages = (uint64_t)w->window_chunks * w->chunk_pages;
    if (2 * w->window_chunks * w->blob_bytes <= o->page_bytes)
        pages *= 2;
    kvt_paged_options paged = {.layout = o->layout,
                               .page_tokens = o->page_tokens,
                               .page_count = (uint32_t)kvt_min_u64(pages, UINT32_MAX - 2),
                               .chunk_tokens = o->chunk_tokens,
                               .seed = o->seed};
    KVT_TRY(open_backend(w));
    paged.backend = w->backend;
    return kvt_paged_create(o->geometry, &paged, &w->paged);
}

/* Figures of the engine since it was opened, on top of those of the workers before. */
static kvt_status add_stats(kvt_replay_worker *w)
{
    kvt_stats stats = {.struct_size = sizeof stats};
    KVT_TRY(kvt_get_stats(w->engine, &stats));
    kvt_replay_state *s = w->state;
    const kvt_replay_state *base = &w->base;
    bool rocks = w->options->lower == KVT_LOWER_ROCKS;
    const kvt_tier_stats *lower = &stats.tiers[rocks ? KVT_TIER_ROCKS : KVT_TIER_FILE];
    const kvt_replay_stage now[KVT_STAGE_COUNT] = {
        [KVT_STAGE_GATHER] = {stats.gather_bytes, stats.gather_ns},
        [KVT_STAGE_ENCODE] = {stats.encode_bytes, stats.encode_ns},
        [KVT_STAGE_HASH] = {stats.hash_bytes, stats.hash_ns},
        [KVT_STAGE_WRITE] = {lower->written_bytes, lower->written_ns},
        [KVT_STAGE_READ] = {lower->read_bytes, lower->read_ns},
        [KVT_STAGE_DECODE] = {stats.decode_bytes, stats.decode_ns},
        [KVT_STAGE_SCATTER] = {stats.scatter_bytes, stats.scatter_ns},
    };
    for (int i = 0; i < KVT_STAGE_COUNT; i++) {
        s->stages[i].bytes = base->stages[i].bytes + now[i].bytes;
        s->stages[i].ns = base->stages[i].ns + now[i].ns;
    }
    s->skipped_chunks = base->skipped_chunks + stats.admission_skipped_chunks;
    s->collisions = base->collisions + stats.collisions;
    s->load_failures = base->load_failures + stats.load_failures;
    s->corrupt_records = base->corrupt_records + lower->corrupt_records;
    s->tier_state = lower->state;
    memcpy(s->pool_pages, stats.pool_pages, sizeof s->pool_pages);
    memcpy(s->backend, stats.backend, sizeof s->backend);
    memcpy(s->tier_detail, lower->detail, sizeof s->tier_detail);
    return KVT_OK;
}

static kvt_status run_requests(kvt_replay_worker *w)
{
    uint64_t next = kvt_journal_state(w->journal)->requests;
    for (; next < w->trace->request_count; next++) {
        atomic_store(&w->journal->request, next);
        /* Not 0, which an engine may take for "never". */
        atomic_store(&w->journal->clock_ns, (w->trace->requests[next].time_ms + 1) * UINT64_C(1000000));
        KVT_TRY(kvt_replay_request(w, next));
        KVT_TRY(add_stats(w));
        kvt_journal_commit(w->journal);
    }
    return KVT_OK;
}

static kvt_status check_nothing_else_touched(kvt_replay_worker *w)
{
    kvt_wrong wrong = {0};
    kvt_paged_check_poison_all(w->paged, &wrong);
    if (wrong.count != 0) {
        char text[256];
        kvt_wrong_text(&wrong, text, sizeof text);
        kvt_journal_note_wrong(w->journal, wrong.count, "at the end: %s", text);
    }
    return KVT_OK;
}

/* must_hold: what the lower tier held when the last worker died. */
static kvt_status work(kvt_replay_worker *w, const uint8_t *must_hold)
{
    kvt_journal *journal = w->journal;
    KVT_TRY(make_memory(w));
    atomic_store(&journal->phase, KVT_PHASE_OPEN);
    kvt_status status = open_engine(w);
    if (status == KVT_OK)
        status = open_space(w);
    if (status != KVT_OK)
        return status;
    w->base = *kvt_journal_state(journal);
    atomic_store(&journal->phase, KVT_PHASE_CHECK);
    uint64_t start = kvt_now_ns();
    KVT_TRY(kvt_replay_check(w, must_hold));
    journal->check_ns = kvt_now_ns() - start;
    atomic_store(&journal->phase, KVT_PHASE_RUN);
    KVT_TRY(run_requests(w));
    return check_nothing_else_touched(w);
}

/* Before the next call forgets why. */
static void note_failure(kvt_journal *journal, kvt_status status)
{
    const char *why = *kvt_last_error() != '\0' ? kvt_last_error() : kvt_status_text(status);
    journal->status = status;
    if (atomic_load(&journal->phase) == KVT_PHASE_RUN)
        snprintf(journal->error, sizeof journal->error, "request %" PRIu64 ": %s", atomic_load(&journal->request), why);
    else
        snprintf(journal->error, sizeof journal->error, "%s", why);
}

kvt_status kvt_replay_work(const kvt_trace *trace, const kvt_replay_options *options, kvt_journal *journal)
{
    kvt_replay_worker w = {.trace = trace, .options = options, .journal = journal};
    uint8_t *must_hold = kvt_alloc(journal->unit_count);
    kvt_status status = must_hold == NULL ? kvt_fail(KVT_NOMEM, "no memory for the check") : KVT_OK;
    if (status == KVT_OK) {
        for (uint64_t i = 0; i < journal->unit_count; i++)
            must_hold[i] = atomic_load(&journal->held[i]);
        status = work(&w, must_hold);
    }
    if (status != KVT_OK)
        note_failure(journal, status);
    atomic_store(&journal->phase, KVT_PHASE_CLOSE);
    kvt_space_close(w.space);
    kvt_close(w.engine);
    kvt_paged_destroy(w.paged);
    kvt_backend_close(w.backend);
    kvt_free(w.tokens);
    kvt_free(w.pages);
    kvt_free(w.keys);
    kvt_free(must_hold);
    atomic_store(&journal->phase, KVT_PHASE_DONE);
    return status;
}
