/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine over its real lower tiers: what was saved is there after a close and, with write-through on the file tier,
 * after the process was killed; read-only engines change nothing; a store has one owner.
 */
#include "tests/engine_rig.h"
#include "tests/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 8 * RIG_CHUNK_TOKENS, PROMPTS = 12, MIB = 1 << 20 };

static const kvt_lower lowers[] = {KVT_LOWER_FILE, KVT_LOWER_ROCKS};
static const char *const names[] = {"file", "rocks"};

/* false: this build has no such tier; counted as a skip. */
static bool begin(rig *r, int which, uint64_t host_bytes)
{
    rig_init(r, true, host_bytes);
    r->options.lower = lowers[which];
    r->options.disk_bytes_max = UINT64_C(512) << 20;
    kvt_status status = kvt_open(&r->options, &r->engine);
    if (status == KVT_UNSUPPORTED) {
        fprintf(stderr, "restart: skipped, the %s tier is not built in\n", names[which]);
        rig_destroy(r);
        return false;
    }
    cr_assert_eq(status, KVT_OK, "%s: %s: %s", names[which], kvt_status_name(status), kvt_last_error());
    cr_assert_eq(kvt_space_open(r->engine, &r->space_options, &r->space), KVT_OK, "%s", kvt_last_error());
    return true;
}

static void save_all(rig *r, uint32_t (*tokens)[COUNT])
{
    for (uint64_t i = 0; i < PROMPTS; i++) {
        rig_prompt(tokens[i], COUNT, 0, 100 + i);
        rig_fill(r, tokens[i], COUNT);
        kvt_completion saved = rig_save(r, tokens[i], COUNT);
        cr_assert_eq(saved.status, KVT_OK, "%s", kvt_status_name(saved.cause));
    }
}

/* Prompts that are wholly there, all bytes right; a prompt may be a miss, never wrong. */
static uint32_t count_whole(rig *r, uint32_t (*tokens)[COUNT])
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < PROMPTS; i++) {
        rig_poison(r);
        kvt_completion loaded = rig_load(r, tokens[i], 0, COUNT);
        cr_assert(rig_holds(r, tokens[i], 0, (uint32_t)loaded.tokens), "prompt %u", i);
        whole += loaded.status == KVT_OK;
    }
    return whole;
}

KVT_TEST(restart, a_clean_close_keeps_what_ram_held)
{
    static uint32_t tokens[PROMPTS][COUNT];
    for (int which = 0; which < 2; which++) {
        rig r;
        if (!begin(&r, which, 8 * MIB))
            continue;
        save_all(&r, tokens);
        rig_close(&r);
        rig_open(&r);
        cr_assert_eq(count_whole(&r, tokens), PROMPTS, "%s", names[which]);
        rig_destroy(&r);
    }
}

/* Put with write-through, closed and opened in between, so that the records lie in sealed segments. */
KVT_TEST(restart, what_was_removed_stays_away)
{
    enum { ITEMS = 20, BYTES = 50000 };
    static uint8_t bytes[BYTES];
    for (int which = 0; which < 2; which++) {
        rig r;
        kvt_key keys[ITEMS];
        uint32_t masks[ITEMS];
        size_t removed = 0;
        if (!begin(&r, which, 8 * MIB))
            continue;
        for (uint32_t i = 0; i < ITEMS; i++) {
            keys[i] = rig_key(i);
            kvt_item item = {.key = keys[i], .buffer = bytes, .bytes = BYTES};
            cr_assert_eq(rig_put(&r, &item, 1, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
        }
        rig_close(&r);
        rig_open(&r);
        cr_assert_eq(kvt_remove(r.space, keys, ITEMS / 2, &removed), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(removed, ITEMS / 2);
        rig_close(&r);
        rig_open(&r);
        cr_assert_eq(kvt_exists(r.space, keys, ITEMS, masks), KVT_OK);
        for (uint32_t i = 0; i < ITEMS; i++)
            cr_assert_eq(masks[i] != 0, i >= ITEMS / 2, "%s: record %u", names[which], i);
        uint64_t cleared = 0;
        cr_assert_eq(kvt_clear(r.space, &cleared), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(cleared, ITEMS - ITEMS / 2);
        rig_close(&r);
        rig_open(&r);
        kvt_space_info info;
        cr_assert_eq(kvt_space_get_info(r.space, &info), KVT_OK);
        cr_assert_eq(info.record_count, 0, "%s", names[which]);
        rig_destroy(&r);
    }
}

KVT_TEST(restart, what_ram_has_no_room_for_is_read_back_from_disk)
{
    static uint32_t tokens[PROMPTS][COUNT];
    for (int which = 0; which < 2; which++) {
        rig r;
        if (!begin(&r, which, 1 * MIB))
            continue;
        save_all(&r, tokens);
        for (int round = 0; round < 3; round++)
            cr_assert_eq(count_whole(&r, tokens), PROMPTS, "%s, round %d", names[which], round);
        kvt_stats stats = {.struct_size = sizeof stats};
        kvt_get_stats(r.engine, &stats);
        cr_assert_gt(stats.tiers[which + 1].read_bytes, 0);
        cr_assert_leq(stats.tiers[KVT_TIER_HOST].used_bytes, 1 * MIB);
        rig_destroy(&r);
    }
}

/* A child saves with write-through and reports each save through a pipe; it is killed in the middle. */
static uint32_t save_until_killed(rig *r, uint32_t (*tokens)[COUNT])
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        r->options.flags |= KVT_OPEN_WRITE_THROUGH;
        rig_open(r);
        for (uint64_t i = 0;; i++) {
            uint32_t at = (uint32_t)(i % PROMPTS);
            rig_prompt(tokens[at], COUNT, 0, 100 + i);
            rig_fill(r, tokens[at], COUNT);
            if (rig_save(r, tokens[at], COUNT).status != KVT_OK || write(fds[1], "x", 1) != 1)
                _exit(1);
        }
    }
    close(fds[1]);
    char byte;
    uint32_t saved = 0;
    while (saved < PROMPTS - 2 && read(fds[0], &byte, 1) == 1)
        saved++;
    kill(child, SIGKILL);
    while (read(fds[0], &byte, 1) == 1)
        saved++;
    close(fds[0]);
    waitpid(child, NULL, 0);
    return saved < PROMPTS ? saved : PROMPTS;
}

KVT_TEST(restart, the_file_tier_keeps_what_it_acknowledged_when_the_process_is_killed)
{
    static uint32_t tokens[PROMPTS][COUNT];
    for (int round = 0; round < 3; round++) {
        rig r;
        rig_init(&r, true, 2 * MIB);
        uint32_t saved = save_until_killed(&r, tokens);
        cr_assert_geq(saved, PROMPTS - 2);
        for (uint64_t i = 0; i < PROMPTS; i++)
            rig_prompt(tokens[i], COUNT, 0, 100 + i);
        rig_open(&r);
        cr_assert_geq(count_whole(&r, tokens), saved < PROMPTS ? saved : PROMPTS - 2, "round %d", round);
        rig_destroy(&r);
    }
}

KVT_TEST(restart, a_kill_costs_a_share_of_the_write_budget_and_gives_nothing_back)
{
    static uint32_t tokens[PROMPTS][COUNT];
    rig r;
    rig_init(&r, true, 2 * MIB);
    r.options.disk_bytes_max = UINT64_C(256) << 20;
    r.options.flags &= ~(uint32_t)KVT_OPEN_NO_BUDGET;
    kvt_stats stats = {.struct_size = sizeof stats};
    uint64_t left[3];
    for (int round = 0; round < 3; round++) {
        cr_assert_geq(save_until_killed(&r, tokens), PROMPTS - 2);
        rig_open(&r);
        kvt_get_stats(r.engine, &stats);
        left[round] = stats.budget_tokens;
        rig_close(&r);
    }
    uint64_t capacity = stats.tiers[KVT_TIER_FILE].capacity_bytes;
    cr_assert_lt(left[0], capacity);
    cr_assert_gt(left[0], capacity - capacity / 4);
    cr_assert(left[1] < left[0] && left[2] < left[1], "%lu, %lu, %lu", left[0], left[1], left[2]);
    rig_destroy(&r);
}

KVT_TEST(restart, a_larger_store_than_asked_for_is_seen_wholly)
{
    enum { BLOBS = 6000, BATCH = 64, BLOB_BYTES = 100 };
    rig r;
    if (!begin(&r, 0, 4 * MIB))
        return;
    static uint8_t blob[BLOB_BYTES];
    static kvt_item items[BLOBS];
    for (uint32_t i = 0; i < BLOBS; i++)
        items[i] = (kvt_item){.key = rig_key(i), .buffer = blob, .bytes = BLOB_BYTES};
    for (uint32_t i = 0; i < BLOBS; i += BATCH) {
        uint32_t count = BLOBS - i < BATCH ? BLOBS - i : BATCH;
        cr_assert_eq(rig_put(&r, items + i, count, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
    }
    rig_close(&r);
    r.options.disk_bytes_max = UINT64_C(64) << 20;
    rig_open(&r);
    kvt_stats stats = {.struct_size = sizeof stats};
    kvt_get_stats(r.engine, &stats);
    cr_assert_eq(stats.tiers[KVT_TIER_FILE].record_count, BLOBS);
    static uint32_t masks[BLOBS];
    static kvt_key keys[BLOBS];
    for (uint32_t i = 0; i < BLOBS; i++)
        keys[i] = items[i].key;
    cr_assert_eq(kvt_exists(r.space, keys, BLOBS, masks), KVT_OK);
    for (uint32_t i = 0; i < BLOBS; i++)
        cr_assert_eq(masks[i], KVT_TIER_BIT(KVT_TIER_FILE), "blob %u", i);
    rig_destroy(&r);
}

/* Without pages: only the size of a blob matters here. */
static kvt_status open_space_of(rig *r, uint64_t blob_bytes, kvt_space **out)
{
    kvt_group group = {.layer_count = 1, .page_tokens = 16, .view_count = 1};
    group.views[0] = (kvt_view){.plane_count = 1, .head_count = 1, .element_bytes = 2};
    group.views[0].head_bytes = (uint32_t)(blob_bytes / RIG_CHUNK_TOKENS);
    kvt_space_options options = r->space_options;
    options.groups = &group;
    options.group_count = 1;
    options.chunk_tokens = RIG_CHUNK_TOKENS;
    return kvt_space_open(r->engine, &options, out);
}

KVT_TEST(restart, a_space_whose_blobs_fit_no_segment_is_refused_with_the_way_out)
{
    rig r;
    kvt_space *space = NULL;
    rig_init(&r, true, 8 * MIB);
    r.options.lower = KVT_LOWER_FILE;
    r.options.disk_bytes_max = UINT64_C(16) << 20;
    r.options.blob_bytes_max = MIB / 2;
    kvt_status status = kvt_open(&r.options, &r.engine);
    if (status == KVT_UNSUPPORTED) {
        fprintf(stderr, "restart: skipped, the file tier is not built in\n");
        rig_destroy(&r);
        return;
    }
    cr_assert_eq(status, KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(open_space_of(&r, 3 * MIB, &space), KVT_INVALID);
    cr_assert(strstr(kvt_last_error(), "blob_bytes_max") != NULL, "%s", kvt_last_error());
    cr_assert_null(space);
    cr_assert_eq(open_space_of(&r, MIB / 2, &space), KVT_OK, "what the store was made for: %s", kvt_last_error());
    kvt_space_close(space);
    rig_close(&r);
    rig_destroy(&r);
}

KVT_TEST(restart, a_match_says_how_far_ram_alone_reaches)
{
    static uint32_t tokens[PROMPTS][COUNT];
    rig r;
    if (!begin(&r, 0, 8 * MIB))
        return;
    save_all(&r, tokens);
    rig_close(&r);
    rig_open(&r);
    kvt_match_result match;
    cr_assert_eq(kvt_match(r.space, tokens[0], COUNT, &match), KVT_OK);
    cr_assert(match.tokens == COUNT && match.tokens_lower == COUNT && match.tokens_leading == 0);
    cr_assert_eq(match.restore_ns, 0, "nothing was measured yet");
    enum { HALF = COUNT / 2 };
    cr_assert_eq(rig_load(&r, tokens[0], 0, HALF).tokens, HALF);
    cr_assert_eq(kvt_match(r.space, tokens[0], COUNT, &match), KVT_OK);
    cr_assert(match.tokens_host == HALF && match.tokens_leading == HALF && match.tokens_lower == COUNT - HALF);
    cr_assert_gt(match.restore_leading_ns, 0);
    cr_assert_gt(match.restore_ns, match.restore_leading_ns);
    rig_destroy(&r);
}

KVT_TEST(restart, a_store_has_one_owner)
{
    rig r;
    if (!begin(&r, 0, MIB))
        return;
    kvt_engine *second = NULL;
    cr_assert_eq(kvt_open(&r.options, &second), KVT_BUSY);
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    cr_assert_neq(strstr(kvt_last_error(), pid), NULL, "the owner is named: %s", kvt_last_error());
    kvt_options look = r.options;
    look.flags = KVT_OPEN_READ_ONLY;
    cr_assert_eq(kvt_open(&look, &second), KVT_BUSY);
    rig_destroy(&r);
}

KVT_TEST(restart, who_only_looks_changes_nothing)
{
    static uint32_t tokens[PROMPTS][COUNT];
    rig r;
    if (!begin(&r, 0, 2 * MIB))
        return;
    save_all(&r, tokens);
    rig_close(&r);
    char command[900], before[64] = "", after[64] = "";
    snprintf(command, sizeof command, "cd %s && find . -type f ! -name LOCK | sort | xargs md5sum | md5sum", r.store);
    FILE *sum = popen(command, "r");
    cr_assert_not_null(fgets(before, sizeof before, sum));
    pclose(sum);
    r.options.flags = KVT_OPEN_READ_ONLY;
    rig_open(&r);
    cr_assert_eq(count_whole(&r, tokens), PROMPTS);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens[0], COUNT, &list);
    kvt_ticket ticket;
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_REJECTED);
    kvt_stats stats = {.struct_size = sizeof stats};
    kvt_get_stats(r.engine, &stats);
    cr_assert_eq(stats.health, 0, "writes that are off by wish are no damage");
    rig_close(&r);
    sum = popen(command, "r");
    cr_assert_not_null(fgets(after, sizeof after, sum));
    pclose(sum);
    cr_assert_str_eq(before, after);
    rig_destroy(&r);
}

KVT_TEST(restart, a_store_of_one_tier_is_not_opened_as_another)
{
    rig r;
    if (!begin(&r, 1, MIB))
        return;
    rig_close(&r);
    r.options.lower = KVT_LOWER_FILE;
    cr_assert_eq(kvt_open(&r.options, &r.engine), KVT_EXISTS);
    r.engine = NULL;
    r.options.lower = KVT_LOWER_DEFAULT;
    rig_open(&r);
    rig_destroy(&r);
}
