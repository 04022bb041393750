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

/* ---- room ---- */

static void fill_until_evicted(file_stage *stage, uint64_t *next)
{
    uint64_t before = stage->evicted;
    while (stage->evicted == before)
        cr_assert_eq(file_stage_write(stage, (*next)++, 100000), KVT_OK);
}

KVT_TEST(tier_file, a_touched_segment_outlives_older_use_also_across_a_reopen)
{
    for (int reopen = 0; reopen < 2; reopen++) {
        file_stage stage;
        uint64_t next = 0;
        file_stage_init(&stage, true, 9 * MIB);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (; next < 45; next++)
            cr_assert_eq(file_stage_write(&stage, next, 100000), KVT_OK);
        cr_assert_eq(stage.evicted, 0);
        kvt_tier_touch(stage.tier, &file_stage_find(&stage, 0)->place, 1);
        if (reopen) {
            file_stage_close(&stage);
            cr_assert_eq(file_stage_open(&stage), KVT_OK);
        }
        fill_until_evicted(&stage, &next);
        fill_until_evicted(&stage, &next);
        cr_assert_eq(file_stage_read(&stage, 0, 100000), KVT_OK, "evicted although it was used last");
        cr_assert_null(file_stage_find(&stage, 12), "used before, kept all the same");
        file_stage_fini(&stage);
    }
}

static bool pin_first(const kvt_key *key) { return kvt_load_le64(key->bytes) == 3; }
static bool pin_all(const kvt_key *key) { return kvt_load_le64(key->bytes) < 1000; }

KVT_TEST(tier_file, a_needed_record_keeps_its_segment)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    stage.pinned = pin_first;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 120; i++)
        cr_assert_eq(file_stage_write(&stage, i, 100000), KVT_OK);
    cr_assert_gt(stage.evicted, 40);
    cr_assert_eq(file_stage_read(&stage, 3, 100000), KVT_OK);
    file_stage_fini(&stage);
}

/* The keeper's clock runs by a millisecond each time it is looked at. */
static uint64_t running_ns;
static uint64_t run_clock(void) { return running_ns += 1000000; }

KVT_TEST(tier_file, a_write_that_finds_no_victim_is_refused_after_a_bounded_wait)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    stage.pinned = pin_all;
    stage.setup.now_ns = run_clock;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    kvt_status status = KVT_OK;
    uint64_t written = 0;
    while (status == KVT_OK && written < 1000)
        status = file_stage_write(&stage, written++, 100000);
    cr_assert_eq(status, KVT_REJECTED);
    cr_assert_eq(stage.evicted, 0);
    read_some(&stage, 0, 0);
    for (uint64_t i = 0; i + 1 < written; i++)
        cr_assert_eq(file_stage_read(&stage, i, 100000), KVT_OK);
    stage.pinned = NULL;
    cr_assert_eq(file_stage_write(&stage, 2000, 100000), KVT_OK, "room again, writes again");
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, the_host_is_asked_before_anything_is_unpublished)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    stage.may_evict = false; /* on_evict alone would agree */
    stage.setup.now_ns = run_clock;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    kvt_status status = KVT_OK;
    for (uint64_t i = 0; i < 100 && status == KVT_OK; i++)
        status = file_stage_write(&stage, i, 100000);
    cr_assert_eq(status, KVT_REJECTED);
    cr_assert_eq(stage.evicted, 0);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, memory_for_small_records_comes_back_with_their_segments)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 6000; i++) /* eight laps */
        cr_assert_eq(file_stage_write(&stage, i % 1500, 3000), KVT_OK, "record %lu", (unsigned long)i);
    const kvt_file *file = (const kvt_file *)stage.tier;
    cr_assert(!file->eviction_wanted);
    file_stage_fini(&stage);
}

/* While a read is under way its segment must stay, whatever the keeper wants. */
typedef struct intruder {
    file_stage *stage;
    uint32_t segment;
    bool armed, evicted, kept;
} intruder;

static kvt_sim_fault evict_meanwhile(void *arg, const kvt_sim_event *event)
{
    intruder *in = arg;
    if (event->verb != KVT_SIM_READ || !in->armed)
        return KVT_SIM_NONE;
    kvt_file *file = (kvt_file *)in->stage->tier;
    in->armed = false;
    pthread_mutex_lock(&file->lock);
    while (kvt_file_evict_one(file))
        in->evicted = true;
    in->kept = file->segments[in->segment].state == KVT_SEGMENT_SEALED;
    pthread_mutex_unlock(&file->lock);
    return KVT_SIM_NONE;
}

KVT_TEST(tier_file, a_segment_is_not_recycled_under_a_read)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 40; i++)
        cr_assert_eq(file_stage_write(&stage, i, 100000), KVT_OK);
    intruder in = {
        .stage = &stage, .armed = true, .segment = (uint32_t)(file_stage_find(&stage, 0)->place.where >> 32)};
    kvt_sim_set_hook(stage.disk, evict_meanwhile, &in);
    cr_assert_eq(file_stage_read(&stage, 0, 100000), KVT_OK);
    cr_assert(in.evicted && in.kept);
    file_stage_fini(&stage);
}

/* A read that starts when its segment was already chosen: the host is asked, and reads the record instead of answering.
 */
static file_stage *late_stage;
static kvt_tier_op late_read;
static bool late_done;

static void late_ended(kvt_tier_op *op)
{
    (void)op;
    late_done = true;
}

static bool read_late(const kvt_key *key)
{
    if (late_read.done != NULL) /* only once, and only where the stage does not hold its lock */
        return false;
    const stage_row *row = file_stage_find(late_stage, kvt_load_le64(key->bytes));
    kvt_sim_set_mode(late_stage->disk, KVT_SIM_STEPPED);
    late_read = (kvt_tier_op){.verb = KVT_TIER_READ, .record = row->record, .place = row->place, .done = late_ended};
    late_read.image = kvt_alloc_aligned(KVT_BLOCK_BYTES, kvt_image_bytes(row->record.stored_bytes));
    kvt_tier_submit(late_stage->tier, &late_read);
    return false;
}

KVT_TEST(tier_file, an_evicted_segment_waits_for_its_last_reader)
{
    file_stage stage;
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 40; i++)
        cr_assert_eq(file_stage_write(&stage, i, 100000), KVT_OK);
    late_stage = &stage;
    stage.pinned = read_late;
    kvt_file *file = (kvt_file *)stage.tier;
    pthread_mutex_lock(&file->lock);
    cr_assert(kvt_file_evict_one(file));
    pthread_mutex_unlock(&file->lock);
    const kvt_file_segment *segment = &file->segments[late_read.place.where >> 32];
    cr_assert_eq(segment->state, KVT_SEGMENT_DRAINING);
    cr_assert_eq(segment->readers, 1);
    kvt_sim_run(stage.disk);
    kvt_sim_set_mode(stage.disk, KVT_SIM_INLINE);
    cr_assert(late_done && late_read.status == KVT_OK);
    kvt_frame_digests(late_read.image + KVT_HEADER_BYTES, late_read.record.stored_bytes, digests);
    cr_assert_eq(digests[0], late_read.digests[0]);
    kvt_free(late_read.image);
    stage.pinned = NULL;
    for (uint64_t i = 40; i < 80; i++)
        cr_assert_eq(file_stage_write(&stage, i, 100000), KVT_OK);
    cr_assert_eq(file->draining, 0);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, a_place_of_a_recycled_segment_is_a_miss)
{
    file_stage stage;
    uint64_t next = 1;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_write(&stage, 0, 100000), KVT_OK);
    stage_row row = *file_stage_find(&stage, 0);
    while (file_stage_find(&stage, 0) != NULL)
        fill_until_evicted(&stage, &next);
    for (int i = 0; i < 60; i++)
        cr_assert_eq(file_stage_write(&stage, next++, 100000), KVT_OK);
    cr_assert_eq(file_stage_read_place(&stage, &row.record, &row.place, 0), KVT_MISS);
    row.place.generation = UINT64_MAX;
    cr_assert_eq(file_stage_read_place(&stage, &row.record, &row.place, 0), KVT_MISS);
    row.place.where = UINT64_MAX;
    cr_assert_eq(file_stage_read_place(&stage, &row.record, &row.place, 0), KVT_MISS);
    cr_assert_eq(stage.damaged, 0, "a stale place is no damage");
    file_stage_fini(&stage);
}

/* ---- dropping, replacing ---- */

KVT_TEST(tier_file, a_dropped_record_is_not_told_of_again)
{
    file_stage stage;
    uint64_t next = 1;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_write(&stage, 0, 100000), KVT_OK);
    kvt_tier_drop(stage.tier, &file_stage_find(&stage, 0)->place, 1);
    kvt_tier_drop(stage.tier, &file_stage_find(&stage, 0)->place, 1);
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage.tier, &stats);
    cr_assert(stats.record_count == 0 && stats.used_bytes == 0 && stats.record_bytes == 0);
    while (stage.evicted < 30)
        fill_until_evicted(&stage, &next);
    cr_assert_not_null(file_stage_find(&stage, 0), "the host was told to evict what it had dropped");
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, of_two_records_of_one_key_the_later_counts)
{
    for (int crash = 0; crash < 2; crash++) {
        file_stage stage;
        file_stage_init(&stage, true, 20 * MIB);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t i = 0; i < 60; i++)
            cr_assert_eq(file_stage_write(&stage, i % 20, 100000), KVT_OK);
        kvt_place places[20];
        for (uint64_t i = 0; i < 20; i++)
            places[i] = file_stage_find(&stage, i)->place;
        if (crash)
            kvt_sim_crash(stage.disk, &(kvt_sim_crash_options){.power = false});
        file_stage_close(&stage);
        cr_assert_eq(file_stage_open(&stage), KVT_OK);
        cr_assert_eq(file_stage_count(&stage), 20);
        cr_assert_eq(stage.recovered, 20, "each key is told once");
        for (uint64_t i = 0; i < 20; i++)
            cr_assert_arr_eq(&file_stage_find(&stage, i)->place, &places[i], sizeof places[i]);
        file_stage_fini(&stage);
    }
}

/* ---- limits ---- */

KVT_TEST(tier_file, operations_beyond_the_slots_wait_in_line)
{
    enum { OPS = KVT_FILE_SLOTS + 100 };
    file_stage stage;
    static kvt_tier_op ops[OPS];
    static uint8_t *images[OPS];
    file_stage_init(&stage, false, 60 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    static _Atomic int ended;
    for (int i = 0; i < OPS; i++) {
        images[i] = file_stage_make((uint64_t)i, 20000, &ops[i]);
        ops[i].done = NULL;
        ops[i].next = i + 1 < OPS ? &ops[i + 1] : NULL;
    }
    file_stage_run_list(&stage, ops, OPS, &ended);
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(ops[i].status, KVT_OK, "operation %d", i);
        kvt_free(images[i]);
    }
    for (uint64_t i = 0; i < OPS; i++)
        cr_assert_eq(file_stage_read(&stage, i, 20000), KVT_OK);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, no_allocation_happens_per_operation)
{
    file_stage stage;
    kvt_tier_op op;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    uint8_t *image = file_stage_make(1, 50000, &op);
    uint64_t before = kvt_alloc_count();
    for (int i = 0; i < 300; i++) {
        file_stage_run(&stage, &op);
        cr_assert_eq(op.status, KVT_OK);
    }
    cr_assert_eq(kvt_alloc_count(), before);
    kvt_free(image);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, impossible_records_are_refused)
{
    file_stage stage;
    file_stage_init(&stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    uint64_t largest = kvt_segment_payload_max(MIB);
    cr_assert_eq(file_stage_write(&stage, 1, largest), KVT_OK);
    cr_assert_eq(file_stage_write(&stage, 2, largest + 1), KVT_NOSPACE);
    cr_assert_eq(file_stage_read(&stage, 1, largest), KVT_OK);
    kvt_tier_op op;
    uint8_t *image = file_stage_make(3, 5000, &op);
    op.digests[0] ^= 1;
    file_stage_run(&stage, &op);
    cr_assert_eq(op.status, KVT_INVALID, "digests that do not belong to the hash");
    op.digest_count = 0;
    file_stage_run(&stage, &op);
    cr_assert_eq(op.status, KVT_OK, "without digests they are computed");
    cr_assert_eq(file_stage_read(&stage, 3, 5000), KVT_OK);
    kvt_free(image);
    file_stage_fini(&stage);
}

KVT_TEST(tier_file, records_the_index_has_no_room_for_are_forgotten)
{
    file_stage stage;
    file_stage_init(&stage, true, 20 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    write_some(&stage, 0, 50);
    file_stage_close(&stage);
    stage.row_max = 30;
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage.tier, &stats);
    cr_assert_eq(stats.record_count, 30);
    file_stage_fini(&stage);
}
