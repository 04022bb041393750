/* SPDX-License-Identifier: Apache-2.0
 *
 * Records that are removed for good: they stay away after any reopen, nothing of them is left on the disk, and their
 * neighbours are as they were. What a crash in the middle may do is in test_crash.c.
 */
#include "tests/file_stage.h"

#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)

enum { RECORDS = 60, BYTES = 100000 }; /* ten in a segment */

static void open_stage(file_stage *stage, bool simulated)
{
    file_stage_init(stage, simulated, 20 * MIB);
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
}

static void write_all(file_stage *stage)
{
    for (uint64_t i = 0; i < RECORDS; i++)
        cr_assert_eq(file_stage_write(stage, i, BYTES), KVT_OK);
    file_stage_keep(stage);
}

static void reopen(file_stage *stage, bool clean)
{
    if (!clean)
        kvt_sim_crash(stage->disk, &(kvt_sim_crash_options){.power = false});
    file_stage_close(stage);
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
}

/* Does this byte string stand anywhere in the data file? */
static bool on_disk(file_stage *stage, const void *wanted, size_t bytes)
{
    uint64_t size = kvt_sim_file_bytes(stage->disk, "data.0");
    uint8_t *all = malloc(size);
    cr_assert(kvt_sim_file_read(stage->disk, "data.0", 0, all, size));
    bool found = memmem(all, size, wanted, bytes) != NULL;
    free(all);
    return found;
}

/* ---- what is gone, what stays ---- */

KVT_TEST(file_erase, an_erased_record_stays_away_and_its_neighbours_stay)
{
    for (int clean = 0; clean < 2; clean++) {
        file_stage stage;
        open_stage(&stage, true);
        write_all(&stage);
        cr_assert_eq(file_stage_erase(&stage, 0, RECORDS, 3), KVT_OK, "%s", kvt_last_error());
        for (int round = 0; round < 2; round++) {
            reopen(&stage, clean != 0 || round == 1);
            for (uint64_t i = 0; i < RECORDS; i++)
                cr_assert_eq(file_stage_read(&stage, i, BYTES), i % 3 == 0 ? KVT_MISS : KVT_OK, "%u", (unsigned)i);
            cr_assert_eq(stage.recovered, RECORDS - RECORDS / 3);
            cr_assert_eq(stage.damaged, 0);
        }
        file_stage_fini(&stage);
    }
}

KVT_TEST(file_erase, real_files_and_the_keeper_do_the_same)
{
    file_stage stage;
    open_stage(&stage, false);
    write_all(&stage);
    for (uint64_t i = 0; i < RECORDS; i += 2)
        cr_assert_eq(file_stage_erase(&stage, i, i + 1, 1), KVT_OK, "%s", kvt_last_error());
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < RECORDS; i++)
        cr_assert_eq(file_stage_read(&stage, i, BYTES), i % 2 == 0 ? KVT_MISS : KVT_OK);
    file_stage_fini(&stage);
}

/* Neither the key, in a header or a footer, nor the payload. */
KVT_TEST(file_erase, nothing_of_an_erased_record_is_left_on_the_disk)
{
    for (uint64_t number = 1; number < RECORDS; number += 13) {
        file_stage stage;
        uint8_t payload[64];
        kvt_tier_op op;
        open_stage(&stage, true);
        write_all(&stage);
        uint8_t *image = file_stage_make(number, BYTES, &op);
        memcpy(payload, image + KVT_HEADER_BYTES + 50000, sizeof payload);
        kvt_free(image);
        cr_assert(on_disk(&stage, &op.record.key, 16) && on_disk(&stage, payload, sizeof payload));
        cr_assert_eq(file_stage_erase(&stage, number, number + 1, 1), KVT_OK);
        /* as the parent of its neighbour the key stands there still */
        cr_assert_eq(file_stage_erase(&stage, number - 1, number, 1), KVT_OK);
        cr_assert(!on_disk(&stage, payload, sizeof payload), "%u: payload", (unsigned)number);
        cr_assert(!on_disk(&stage, &op.record.key, 16), "%u: key", (unsigned)number);
        reopen(&stage, true);
        cr_assert(!on_disk(&stage, &op.record.key, 16), "%u: key, after a reopen", (unsigned)number);
        file_stage_fini(&stage);
    }
}

/* A long footer that becomes a short one: the blocks it gives up are cleared. */
KVT_TEST(file_erase, a_footer_that_shrinks_leaves_no_entries_behind)
{
    file_stage stage;
    kvt_tier_op op;
    open_stage(&stage, true);
    for (uint64_t i = 0; i < 300; i++)
        cr_assert_eq(file_stage_write(&stage, i, 1000), KVT_OK);
    cr_assert_eq(file_stage_erase(&stage, 0, 297, 1), KVT_OK);
    for (uint64_t i = 0; i < 296; i++) { /* 296 is the parent of none that is left */
        kvt_free(file_stage_make(i, 1000, &op));
        cr_assert(!on_disk(&stage, &op.record.key, 16), "%u", (unsigned)i);
    }
    reopen(&stage, true);
    cr_assert_eq(stage.recovered, 3);
    for (uint64_t i = 297; i < 300; i++)
        cr_assert_eq(file_stage_read(&stage, i, 1000), KVT_OK);
    file_stage_fini(&stage);
}

KVT_TEST(file_erase, a_store_whose_every_record_was_erased_is_empty_and_usable)
{
    for (int clean = 0; clean < 2; clean++) {
        file_stage stage;
        open_stage(&stage, true);
        write_all(&stage);
        cr_assert_eq(file_stage_erase(&stage, 0, RECORDS, 1), KVT_OK);
        kvt_tier_stats stats;
        kvt_tier_get_stats(stage.tier, &stats);
        cr_assert(stats.record_count == 0 && stats.used_bytes == 0);
        reopen(&stage, clean != 0);
        cr_assert_eq(stage.recovered, 0);
        for (uint64_t i = 0; i < 4 * (uint64_t)RECORDS; i++)
            cr_assert_eq(file_stage_write(&stage, i, BYTES), KVT_OK, "emptied segments are used again");
        reopen(&stage, clean != 0);
        cr_assert_gt(stage.recovered, RECORDS);
        file_stage_fini(&stage);
    }
}

/* ---- older copies ---- */

/* A key that was dropped and stored again lies on the disk twice. */
KVT_TEST(file_erase, no_older_record_of_the_key_comes_to_light)
{
    for (int reopened = 0; reopened < 2; reopened++) {
        file_stage stage;
        open_stage(&stage, true);
        write_all(&stage);
        kvt_place old = file_stage_find(&stage, 5)->place;
        kvt_tier_drop(stage.tier, &old, 1);
        write_all(&stage);
        if (reopened) /* the older ones are found, and lose to the younger */
            reopen(&stage, true);
        cr_assert_eq(file_stage_erase(&stage, 5, 6, 1), KVT_OK);
        reopen(&stage, true);
        cr_assert_null(file_stage_find(&stage, 5));
        cr_assert_eq(file_stage_read(&stage, 6, BYTES), KVT_OK);
        file_stage_fini(&stage);
    }
}

/* A segment that was emptied and not used since still has its old header and footer. */
KVT_TEST(file_erase, a_segment_emptied_before_is_not_found_again)
{
    file_stage stage;
    open_stage(&stage, true);
    write_all(&stage);
    kvt_file *file = (kvt_file *)stage.tier;
    pthread_mutex_lock(&file->lock);
    file->eviction_wanted = true; /* as when memory for entries runs out */
    pthread_mutex_unlock(&file->lock);
    file_stage_keep(&stage);
    cr_assert_null(file_stage_find(&stage, 0), "evicted");
    cr_assert_eq(kvt_tier_erase(stage.tier, NULL, 0), KVT_OK);
    reopen(&stage, true);
    cr_assert_null(file_stage_find(&stage, 0), "and back");
    file_stage_fini(&stage);
}

/* A damaged footer is not written again, but must not be what a later open takes for one either. */
KVT_TEST(file_erase, a_damaged_footer_does_not_bring_records_back)
{
    for (int kind = 0; kind < 2; kind++) {
        file_stage stage;
        uint8_t byte;
        open_stage(&stage, true);
        write_all(&stage);
        uint32_t segment = (uint32_t)(file_stage_find(&stage, 0)->place.where >> 32);
        uint64_t at = (segment + 1) * MIB - (kind == 0 ? 4000 : 8000); /* trailer, entries */
        cr_assert(kvt_sim_file_read(stage.disk, "data.0", at, &byte, 1));
        byte ^= 4;
        cr_assert(kvt_sim_file_write(stage.disk, "data.0", at, &byte, 1));
        cr_assert_eq(file_stage_erase(&stage, 0, 1, 1), KVT_OK);
        byte ^= 4; /* as if it had only been misread */
        if (kind == 1)
            cr_assert(kvt_sim_file_write(stage.disk, "data.0", at, &byte, 1));
        reopen(&stage, true);
        cr_assert_eq(stage.recovered, RECORDS - 1);
        for (uint64_t i = 0; i < RECORDS; i++)
            cr_assert_eq(file_stage_read(&stage, i, BYTES), i == 0 ? KVT_MISS : KVT_OK);
        file_stage_fini(&stage);
    }
}

/* ---- cost ---- */

KVT_TEST(file_erase, many_records_of_a_segment_cost_one_rewrite_and_two_barriers)
{
    file_stage stage;
    kvt_sim_stats before, after;
    open_stage(&stage, true);
    for (uint64_t i = 0; i < 400; i++)
        cr_assert_eq(file_stage_write(&stage, i, 1000), KVT_OK);
    file_stage_keep(&stage);
    kvt_sim_get_stats(stage.disk, &before);
    cr_assert_eq(file_stage_erase(&stage, 10, 60, 1), KVT_OK);
    kvt_sim_get_stats(stage.disk, &after);
    cr_assert_eq(after.syncs - before.syncs, 2);
    cr_assert_leq(after.writes - before.writes, 4, "a footer and one run of records, in each of two groups: %u",
                  (unsigned)(after.writes - before.writes));
    kvt_sim_get_stats(stage.disk, &before);
    cr_assert_eq(kvt_tier_erase(stage.tier, NULL, 0), KVT_OK);
    kvt_sim_get_stats(stage.disk, &after);
    cr_assert(after.writes == before.writes && after.syncs == before.syncs, "nothing is left to do");
    file_stage_fini(&stage);
}

/* ---- when it cannot be ---- */

KVT_TEST(file_erase, a_reader_erases_nothing)
{
    file_stage stage;
    open_stage(&stage, true);
    write_all(&stage);
    file_stage_close(&stage);
    stage.options.read_only = true;
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_eq(file_stage_erase(&stage, 0, 5, 1), KVT_REJECTED);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_eq(stage.recovered, RECORDS);
    file_stage_fini(&stage);
}

enum { ERRORS = 3 }; /* in a row: a read is tried again */

typedef struct breaking {
    uint64_t left;
    kvt_sim_verb verb;
} breaking;

static kvt_sim_fault break_one(void *arg, const kvt_sim_event *event)
{
    breaking *b = arg;
    if (event->verb != b->verb)
        return KVT_SIM_NONE;
    b->left--;
    return b->left + ERRORS < ERRORS ? KVT_SIM_EIO : KVT_SIM_NONE;
}

/* An error is told, the record is gone at least here, and another attempt does it. A failed barrier pauses writes. */
KVT_TEST(file_erase, an_error_on_the_way_is_told_and_can_be_made_good)
{
    for (int at = 0; at < 8; at++) {
        file_stage stage;
        open_stage(&stage, true);
        write_all(&stage);
        breaking b = {.left = (uint64_t)at % 4, .verb = at < 4 ? KVT_SIM_WRITE : KVT_SIM_READ};
        kvt_sim_set_hook(stage.disk, break_one, &b);
        kvt_status first = file_stage_erase(&stage, 0, 40, 4);
        cr_assert(first == KVT_IO || b.left < 4, "%d: %s", at, kvt_status_name(first));
        kvt_sim_set_hook(stage.disk, NULL, NULL);
        cr_assert_eq(kvt_tier_erase(stage.tier, NULL, 0), KVT_OK, "%s", kvt_last_error());
        reopen(&stage, at % 2 == 0);
        for (uint64_t i = 0; i < RECORDS; i++)
            cr_assert_eq(file_stage_read(&stage, i, BYTES), i < 40 && i % 4 == 0 ? KVT_MISS : KVT_OK, "%d: %u", at,
                         (unsigned)i);
        file_stage_fini(&stage);
    }
}

KVT_TEST(file_erase, a_failed_barrier_acknowledges_nothing)
{
    for (uint64_t at = 0; at < 2; at++) {
        file_stage stage;
        open_stage(&stage, true);
        write_all(&stage);
        breaking b = {.left = at, .verb = KVT_SIM_SYNC};
        kvt_sim_set_hook(stage.disk, break_one, &b);
        kvt_status status = file_stage_erase(&stage, 0, 40, 4);
        cr_assert_eq(status, KVT_IO, "%s", kvt_status_name(status));
        kvt_sim_set_hook(stage.disk, NULL, NULL);
        cr_assert_eq(kvt_tier_erase(stage.tier, NULL, 0), KVT_REJECTED, "writes pause");
        file_stage_fini(&stage);
    }
}

/* ---- crashes; the others are in test_crash.c ---- */

/* Stop at the n-th sync: all writes since the last one are still on their way. */
static kvt_sim_fault stop_at_sync(void *arg, const kvt_sim_event *event)
{
    breaking *b = arg;
    if (event->verb == KVT_SIM_SYNC && b->left != 0)
        b->left--;
    return b->left == 0 && event->verb != KVT_SIM_READ ? KVT_SIM_EIO : KVT_SIM_NONE;
}

/* A removal that touches more segments than a recovery would scan: none of their other records is lost. */
KVT_TEST(file_erase, torn_footers_are_never_more_than_a_recovery_scans)
{
    enum { MANY = 250, STRIDE = 8 };
    for (uint64_t at = 1; at < 6; at++) {
        file_stage stage;
        file_stage_init(&stage, true, 40 * MIB);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t i = 0; i < MANY; i++)
            cr_assert_eq(file_stage_write(&stage, i, BYTES), KVT_OK);
        reopen(&stage, true); /* all of it is sealed */
        breaking b = {.left = at};
        kvt_sim_set_hook(stage.disk, stop_at_sync, &b);
        cr_assert_eq(file_stage_erase(&stage, 0, MANY, STRIDE), KVT_IO);
        kvt_sim_set_hook(stage.disk, NULL, NULL);
        kvt_sim_crash(stage.disk, &(kvt_sim_crash_options){.power = true, .drop_percent = 20, .tear_percent = 80});
        file_stage_close(&stage);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t i = 0; i < MANY; i++) {
            kvt_status status = file_stage_read(&stage, i, BYTES);
            cr_assert(status == KVT_OK || (status == KVT_MISS && i % STRIDE == 0), "stop %u: record %u: %s",
                      (unsigned)at, (unsigned)i, kvt_status_name(status));
        }
        file_stage_fini(&stage);
    }
}
