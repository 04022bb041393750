/* SPDX-License-Identifier: Apache-2.0
 *
 * The file tier through its door, over real files with the thread pool, and over the simulated disk where a fault or an
 * exact order is wanted. What a crash may do is in test_crash.c, the bytes on disk in test_format.c.
 */
#include "tests/file_stage.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static uint64_t size_of(uint64_t number) { return 1 + (number * 7919) % 200000; }

/* ---- writing, reading, reopening ---- */

static void write_some(file_stage *stage, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        cr_assert_eq(file_stage_write(stage, i, size_of(i)), KVT_OK, "record %lu", (unsigned long)i);
}

static void read_some(file_stage *stage, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        cr_assert_eq(file_stage_read(stage, i, size_of(i)), KVT_OK, "record %lu", (unsigned long)i);
}

KVT_TEST(tier_file, what_was_written_is_read_back_also_after_a_reopen)
{
    file_stage stage;
    file_stage_init(&stage, false, 40 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    write_some(&stage, 0, 100);
    read_some(&stage, 0, 100);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(stage.recovered, 100);
    read_some(&stage, 0, 100);
    write_some(&stage, 100, 20);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(stage.recovered, 120);
    read_some(&stage, 0, 120);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, largest_payloads_come_back)
{
    file_stage stage;
    file_stage_init(&stage, false, 600 * MIB);
    stage.options.segment_bytes = 128 * MIB;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    uint64_t bytes = KVT_PAYLOAD_BYTES_MAX;
    cr_assert_eq(file_stage_write(&stage, 1, bytes), KVT_OK);
    cr_assert_eq(file_stage_write(&stage, 2, bytes - 1), KVT_OK);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_read(&stage, 1, bytes), KVT_OK);
    cr_assert_eq(file_stage_read(&stage, 2, bytes - 1), KVT_OK);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, a_full_store_forgets_the_least_recently_used_segment_first)
{
    file_stage stage;
    file_stage_init(&stage, false, 12 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    write_some(&stage, 0, 200);
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage.tier, &stats);
    cr_assert_gt(stats.evicted_records, 0);
    cr_assert_eq(stats.evicted_records + stats.record_count, 200);
    cr_assert_eq(stats.record_count, file_stage_count(&stage));
    uint64_t first = 0;
    while (file_stage_find(&stage, first) == NULL)
        first++;
    cr_assert_eq(200 - first, file_stage_count(&stage), "records went out of order");
    read_some(&stage, first, 200 - first);
    file_stage_fini(&stage);
}
