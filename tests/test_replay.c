/* SPDX-License-Identifier: Apache-2.0
 *
 * The replay itself: short traces through the whole engine, with and without kills, over both sizes of trouble (a store
 * that holds all, a store that evicts). And that it would notice: a store whose bytes were damaged, or whose records
 * were thrown away between two workers, must not pass.
 */
#include "tests/support.h"
#include "tools/pattern.h"
#include "tools/replay.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* Conversations that take turns, each turn one or two blocks longer, all behind one common block. */
static kvt_trace *make_trace(const char *folder, uint32_t conversations, uint32_t turns)
{
    char path[600];
    snprintf(path, sizeof path, "%s/trace.jsonl", folder);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    for (uint32_t turn = 0; turn < turns; turn++) {
        for (uint32_t c = 0; c < conversations; c++) {
            uint32_t blocks = 2 + turn * 2 + c % 2;
            fprintf(file, "{\"timestamp\": %u, \"input_length\": %u, \"output_length\": 9, \"hash_ids\": [0",
                    (turn * conversations + c) * 500, blocks * 512 - 100);
            for (uint32_t b = 1; b < blocks; b++)
                fprintf(file, ", %u", 1000 * (c + 1) + b);
            fprintf(file, "]}\n");
        }
    }
    fclose(file);
    kvt_trace *trace = NULL;
    cr_assert_eq(kvt_trace_read(path, 0, &trace), KVT_OK, "%s", kvt_last_error());
    return trace;
}

typedef struct rig {
    char *folder;
    char store[600];
    kvt_trace *trace;
    kvt_geometry geometry;
    kvt_replay_options options;
    kvt_replay_result *result;
} rig;

static void rig_open(rig *r, uint32_t conversations, uint32_t turns)
{
    r->folder = kvt_test_tmpdir();
    r->trace = make_trace(r->folder, conversations, turns);
    r->result = kvt_alloc(sizeof *r->result);
    snprintf(r->store, sizeof r->store, "%s/store", r->folder);
    cr_assert_eq(kvt_geometry_find("tiny", 0, &r->geometry), KVT_OK);
    r->options = (kvt_replay_options){.store = r->store,
                                      .geometry = &r->geometry,
                                      .layout = "padded",
                                      .backend = "cpu",
                                      .page_tokens = 16,
                                      .chunk_tokens = 512,
                                      .lower = KVT_LOWER_FILE,
                                      .host_bytes = UINT64_C(4) << 20,
                                      .disk_bytes = UINT64_C(256) << 20,
                                      .page_bytes = UINT64_C(16) << 20,
                                      .seed = kvt_test_seed("replay"),
                                      .write_through = true,
                                      .ignore_budget = true,
                                      .quiet = true,
                                      .verb = "replaying",
                                      .command = "replay"};
}

static void rig_close(rig *r)
{
    kvt_trace_free(r->trace);
    kvt_test_rmtree(r->folder);
    kvt_free(r->folder);
    kvt_free(r->result);
}

static void run(rig *r)
{
    cr_assert_eq(kvt_replay_run(r->trace, &r->options, r->result), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(r->result->wrong_bytes, 0, "%s", r->result->wrong);
    cr_assert_eq(r->result->state.requests, r->trace->request_count);
}

/* Tokens that a store which forgets nothing has to give back. */
static uint64_t ideal_hits(const kvt_trace *trace)
{
    uint64_t hits = 0;
    uint8_t *seen = kvt_alloc(trace->node_count);
    for (uint64_t i = 0; i < trace->request_count; i++) {
        const uint32_t *blocks = trace->blocks + trace->requests[i].block_begin;
        uint32_t held = 0;
        while (held < trace->requests[i].block_count && seen[blocks[held]])
            held++;
        hits += (uint64_t)held * KVT_TRACE_BLOCK_TOKENS;
        for (uint32_t b = 0; b < trace->requests[i].block_count; b++)
            seen[blocks[b]] = 1;
    }
    kvt_free(seen);
    return hits;
}

KVT_TEST(replay, a_store_that_holds_all_gives_every_repeated_token_back)
{
    rig r;
    rig_open(&r, 6, 5);
    run(&r);
    cr_assert_eq(r.result->state.hit_tokens, ideal_hits(r.trace));
    cr_assert_eq(r.result->state.hit_tokens, r.result->state.hit_tokens_host + r.result->state.hit_tokens_lower);
    cr_assert_gt(r.result->state.hit_tokens_lower, 0, "RAM is too small to hold all");
    cr_assert_eq(r.result->acknowledged, r.trace->node_count);
    cr_assert_eq(r.result->evicted, 0);
    cr_assert_eq(r.result->restarts, 0);
    rig_close(&r);
}

KVT_TEST(replay, kills_lose_nothing_that_was_acknowledged)
{
    static const uint64_t kills[] = {3, 7, 7, 13, 22};
    rig r;
    rig_open(&r, 6, 5);
    r.options.kills = kills;
    r.options.kill_count = 5;
    run(&r);
    cr_assert_eq(r.result->restarts, 5);
    cr_assert_eq(r.result->lost, 0);
    cr_assert_gt(r.result->check_records, 0);
    cr_assert_eq(r.result->state.hit_tokens >= ideal_hits(r.trace), 1,
                 "a restart costs no hit: %" PRIu64 " of %" PRIu64, r.result->state.hit_tokens, ideal_hits(r.trace));
    uint64_t in_flight = 0;
    for (uint32_t i = 0; i < 5; i++) { /* a save that is quicker than its kill passes that on to the next one */
        cr_assert_geq(r.result->kills[i].hit_request, kills[i]);
        in_flight += r.result->kills[i].in_flight;
    }
    cr_assert_gt(in_flight, 0, "not one of five deaths was in the middle of a save");
    rig_close(&r);
}

KVT_TEST(replay, a_store_that_evicts_is_checked_against_what_it_kept)
{
    static const uint64_t kills[] = {20, 40};
    rig r;
    rig_open(&r, 12, 6);
    r.options.disk_bytes = UINT64_C(24) << 20;
    r.options.segment_bytes = UINT64_C(2) << 20;
    r.options.kills = kills;
    r.options.kill_count = 2;
    run(&r);
    cr_assert_gt(r.result->evicted, 0);
    cr_assert_eq(r.result->lost, 0);
    cr_assert_eq(r.result->restarts, 2);
    rig_close(&r);
}

KVT_TEST(replay, other_shapes_of_the_same_thing)
{
    static const char *const layouts[] = {"flash", "hnd", "cross-layer", "split"};
    for (uint32_t i = 0; i < 4; i++) {
        rig r;
        rig_open(&r, 3, 4);
        r.options.layout = layouts[i];
        r.options.page_tokens = i == 1 ? 1 : 32;
        r.options.chunk_tokens = i == 2 ? 128 : 512;
        r.options.page_bytes = i == 3 ? UINT64_C(1) << 20 : r.options.page_bytes; /* prompts go through in windows */
        r.options.backend = i == 0 ? "portable" : "cpu";
        r.options.tail = i == 1;
        run(&r);
        cr_assert_gt(r.result->state.hit_tokens, 0);
        if (i != 1)
            cr_assert_eq(r.result->state.hit_tokens, ideal_hits(r.trace), "%s", layouts[i]);
        rig_close(&r);
    }
}

KVT_TEST(replay, ram_alone_needs_no_directory)
{
    rig r;
    rig_open(&r, 3, 3);
    r.options.lower = KVT_LOWER_NONE;
    r.options.store = NULL;
    r.options.host_bytes = UINT64_C(64) << 20;
    r.options.write_through = false;
    run(&r);
    cr_assert_eq(r.result->state.hit_tokens_host, ideal_hits(r.trace));
    cr_assert_eq(access(r.store, F_OK), -1);
    rig_close(&r);
}

/* A prompt that grows, all by itself: as few requests as there are kills, and the last one must be struck too. */
KVT_TEST(replay, as_many_kills_as_requests_all_strike)
{
    static const uint64_t kills[] = {0, 1};
    for (uint32_t seed = 1; seed <= 8; seed++) {
        rig r;
        rig_open(&r, 1, 2);
        r.options.seed = seed;
        r.options.kills = kills;
        r.options.kill_count = 2;
        run(&r);
        cr_assert_eq(r.result->restarts, 2, "seed %u: %u kills struck", seed, r.result->restarts);
        cr_assert_eq(r.result->lost, 0);
        rig_close(&r);
    }
}

/* ---- what it says ---- */

KVT_TEST(replay, the_verdict_says_what_the_tier_promises)
{
    static const struct {
        uint32_t lower, restarts, kills;
        uint64_t lost, wrong, saved;
        kvt_replay_verdict verdict;
        const char *said;
    } cases[] = {
        {KVT_LOWER_FILE, 2, 2, 0, 0, 9, KVT_VERDICT_OK, "OK: 2 kills, nothing lost, every byte right; 25 % of"},
        {KVT_LOWER_FILE, 1, 1, 0, 0, 9, KVT_VERDICT_OK, "OK: 1 kill, nothing lost"},
        {KVT_LOWER_FILE, 0, 0, 0, 0, 9, KVT_VERDICT_OK, "OK: nothing lost, every byte right"},
        {KVT_LOWER_FILE, 2, 2, 4, 0, 9, KVT_VERDICT_LOST, "FAILED: 4 acknowledged records are gone"},
        {KVT_LOWER_FILE, 2, 2, 1, 0, 9, KVT_VERDICT_LOST, "FAILED: 1 acknowledged record is gone"},
        {KVT_LOWER_ROCKS, 2, 2, 4, 0, 9, KVT_VERDICT_OK,
         "OK: 2 kills, every byte right, 4 records lost, as the rocks tier allows (its writes are not synchronous)"},
        {KVT_LOWER_ROCKS, 2, 2, 1, 0, 9, KVT_VERDICT_OK, "1 record lost"},
        {KVT_LOWER_ROCKS, 2, 2, 0, 0, 9, KVT_VERDICT_OK, "nothing lost"},
        {KVT_LOWER_ROCKS, 2, 2, 4, 3, 9, KVT_VERDICT_WRONG, "FAILED: 3 bytes came back wrong"},
        {KVT_LOWER_FILE, 1, 2, 0, 0, 9, KVT_VERDICT_INCOMPLETE,
         "1 of 2 kills struck, so the rest is not shown: nothing"},
        {KVT_LOWER_FILE, 0, 2, 0, 0, 0, KVT_VERDICT_INCOMPLETE, "held all of the workload before"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[320];
        kvt_replay_options options = {.lower = cases[i].lower, .kill_count = cases[i].kills};
        kvt_replay_result result = {.restarts = cases[i].restarts,
                                    .lost = cases[i].lost,
                                    .wrong_bytes = cases[i].wrong,
                                    .state = {.saved_chunks = cases[i].saved, .prompt_tokens = 400, .hit_tokens = 100}};
        cr_assert_eq(kvt_replay_judge(&options, &result, text, sizeof text), cases[i].verdict, "%zu: %s", i, text);
        cr_assert_not_null(strstr(text, cases[i].said), "%zu: '%s', not '%s'", i, text, cases[i].said);
    }
    cr_assert_null(strstr(kvt_replay_acknowledged_by(&(kvt_replay_options){.lower = KVT_LOWER_ROCKS}), "acknowledged"));
}

/* ---- would it notice? ---- */

/* Another trace of the same keys: the ids, and so the tokens, stay, the expected bytes do not. */
KVT_TEST(replay, bytes_that_are_not_the_expected_ones_are_counted)
{
    rig r;
    rig_open(&r, 3, 2);
    run(&r);
    for (uint32_t i = 0; i < r.trace->node_count; i++)
        r.trace->nodes[i].seed ^= i == 2 ? 1 : 0;
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_OK);
    cr_assert_gt(r.result->wrong_bytes, 0);
    cr_assert_not_null(strstr(r.result->wrong, "expected 0x"), "%s", r.result->wrong);
    rig_close(&r);
}

/* A worker that finds the store empty, though the journal says what was acknowledged. */
KVT_TEST(replay, records_that_are_gone_after_a_restart_are_counted)
{
    rig r;
    kvt_journal *journal = NULL;
    rig_open(&r, 3, 2);
    cr_assert_eq(kvt_journal_create(r.trace->node_count, r.trace->request_count, &journal), KVT_OK);
    cr_assert_eq(kvt_replay_work(r.trace, &r.options, journal), KVT_OK, "%s", journal->error);
    cr_assert_eq(atomic_load(&journal->lost), 0);
    kvt_test_rmtree(r.store);
    cr_assert_eq(kvt_replay_work(r.trace, &r.options, journal), KVT_OK, "%s", journal->error);
    cr_assert_eq(atomic_load(&journal->lost), r.trace->node_count);
    kvt_journal_destroy(journal);
    rig_close(&r);
}

/* Flip a byte in the middle of every MiB of the data file: what comes back is a miss, counted as lost, never wrong. */
KVT_TEST(replay, records_that_rot_on_disk_are_lost_and_not_wrong)
{
    rig r;
    kvt_journal *journal = NULL;
    char path[700];
    rig_open(&r, 3, 2);
    cr_assert_eq(kvt_journal_create(r.trace->node_count, r.trace->request_count, &journal), KVT_OK);
    cr_assert_eq(kvt_replay_work(r.trace, &r.options, journal), KVT_OK, "%s", journal->error);
    snprintf(path, sizeof path, "%s/data.0", r.store);
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    for (off_t at = 200000; at < 8 << 20; at += 1 << 20) {
        uint8_t byte = 0;
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x20;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    cr_assert_eq(kvt_replay_work(r.trace, &r.options, journal), KVT_OK, "%s", journal->error);
    cr_assert_gt(atomic_load(&journal->lost), 0);
    cr_assert_lt(atomic_load(&journal->lost), r.trace->node_count);
    cr_assert_eq(atomic_load(&journal->wrong_bytes), 0, "%s", journal->wrong);
    kvt_journal_destroy(journal);
    rig_close(&r);
}

KVT_TEST(replay, impossible_options_are_refused_before_anything_starts)
{
    static const uint64_t kills[] = {5, 99};
    rig r;
    rig_open(&r, 3, 2);
    kvt_replay_options good = r.options;
    r.options.chunk_tokens = 300;
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_INVALID);
    r.options = good;
    r.options.page_tokens = 5;
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_INVALID);
    r.options = good;
    r.options.kills = kills;
    r.options.kill_count = 2;
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_INVALID);
    r.options = good;
    cr_assert_eq(kvt_geometry_find("qwen3-32b", 0, &r.geometry), KVT_OK);
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_INVALID);
    cr_assert_not_null(strstr(kvt_last_error(), "--chunk-tokens"), "%s", kvt_last_error());
    cr_assert_eq(access(r.store, F_OK), -1);
    rig_close(&r);
}

KVT_TEST(replay, a_worker_that_cannot_open_the_store_says_why)
{
    rig r;
    rig_open(&r, 2, 1);
    r.options.store = "/proc/kvtier";
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_IO);
    cr_assert_not_null(strstr(kvt_last_error(), "/proc/kvtier"), "%s", kvt_last_error());
    r.options.store = r.store;
    r.options.host_bytes = 5;
    cr_assert_eq(kvt_replay_run(r.trace, &r.options, r.result), KVT_INVALID);
    cr_assert_not_null(strstr(kvt_last_error(), "host_bytes_max"), "%s", kvt_last_error());
    rig_close(&r);
}
