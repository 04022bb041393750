/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk that fails, lies and rots under the file tier: errors of reads, writes and barriers, damaged blocks, and long
 * random runs against a naive model. Wrong bytes fail the test inside file_stage_read.
 */
#include "tests/file_stage.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
enum { BYTES = 100000 };

static uint64_t fake_now_ns;
static uint64_t now_ns(void) { return fake_now_ns; }

static void open_stage(file_stage *stage, uint64_t bytes_max)
{
    fake_now_ns = UINT64_C(1000000000);
    file_stage_init(stage, true, bytes_max);
    stage->setup.now_ns = now_ns;
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
}

static uint32_t state_of(file_stage *stage)
{
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage->tier, &stats);
    return stats.state;
}

/* Faults for the next `left` events of one verb on data.0. */
typedef struct faults {
    kvt_sim_verb verb;
    kvt_sim_fault fault;
    int64_t skip, left;
    uint64_t min_bytes; /* of the piece */
} faults;

static kvt_sim_fault inject(void *arg, const kvt_sim_event *event)
{
    faults *f = arg;
    if (event->verb != f->verb || event->bytes < f->min_bytes || strcmp(event->name, "data.0") != 0)
        return KVT_SIM_NONE;
    if (f->skip-- > 0)
        return KVT_SIM_NONE;
    return f->left-- > 0 ? f->fault : KVT_SIM_NONE;
}

/* ---- writes ---- */

KVT_TEST(file_faults, a_failed_write_is_a_hole_and_its_segment_takes_no_more)
{
    static const kvt_sim_fault kinds[] = {KVT_SIM_EIO, KVT_SIM_NOSPACE, KVT_SIM_SHORT};
    for (int i = 0; i < 3; i++) {
        file_stage stage;
        open_stage(&stage, 20 * MIB);
        cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_OK);
        faults f = {.verb = KVT_SIM_WRITE, .fault = kinds[i], .left = 2, .min_bytes = BYTES / 4};
        kvt_sim_set_hook(stage.disk, inject, &f);
        kvt_status status = file_stage_write(&stage, 3, BYTES);
        cr_assert_eq(status, kinds[i] == KVT_SIM_NOSPACE ? KVT_NOSPACE : KVT_IO);
        f.left = 0;
        cr_assert_null(file_stage_find(&stage, 3));
        cr_assert_eq(file_stage_write(&stage, 6, BYTES), KVT_OK);
        cr_assert_neq(file_stage_find(&stage, 0)->place.where >> 32, file_stage_find(&stage, 6)->place.where >> 32,
                      "the same segment goes on");
        file_stage_close(&stage);
        cr_assert_eq(file_stage_open(&stage), KVT_OK);
        cr_assert_eq(file_stage_count(&stage), 2);
        cr_assert_eq(file_stage_read(&stage, 0, BYTES), KVT_OK);
        cr_assert_eq(file_stage_read(&stage, 6, BYTES), KVT_OK);
        file_stage_fini(&stage);
    }
}

KVT_TEST(file_faults, a_failed_barrier_forgets_what_it_should_have_covered)
{
    file_stage stage;
    open_stage(&stage, 20 * MIB);
    for (uint64_t i = 0; i < 60; i += 3) /* one space: two full segments, one open */
        cr_assert_eq(file_stage_write(&stage, i, BYTES), KVT_OK);
    uint32_t before = file_stage_count(&stage);
    faults f = {.verb = KVT_SIM_SYNC, .fault = KVT_SIM_EIO, .left = 1};
    kvt_sim_set_hook(stage.disk, inject, &f);
    cr_assert_eq(kvt_tier_flush(stage.tier), KVT_IO);
    file_stage_keep(&stage);
    cr_assert_gt(stage.damaged, 0);
    cr_assert_eq(file_stage_count(&stage) + stage.damaged, before);
    cr_assert_eq(state_of(&stage), 1, "writes are off");
    cr_assert_eq(file_stage_write(&stage, 90, BYTES), KVT_REJECTED);
    for (uint64_t i = 0; i < 60; i += 3)
        cr_assert_eq(file_stage_read(&stage, i, BYTES), file_stage_find(&stage, i) != NULL ? KVT_OK : KVT_MISS);
    fake_now_ns += KVT_FILE_RETRY_NS;
    cr_assert_eq(state_of(&stage), 0);
    cr_assert_eq(file_stage_write(&stage, 90, BYTES), KVT_OK);
    uint32_t left = file_stage_count(&stage);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_eq(file_stage_count(&stage), left, "quarantine lasts");
    file_stage_fini(&stage);
}

KVT_TEST(file_faults, a_barrier_that_fails_at_a_seal_is_not_taken_for_one)
{
    file_stage stage;
    open_stage(&stage, 20 * MIB);
    faults f = {.verb = KVT_SIM_SYNC, .fault = KVT_SIM_EIO, .skip = 3, .left = 1};
    kvt_sim_set_hook(stage.disk, inject, &f);
    kvt_status status = KVT_OK;
    for (uint64_t i = 0; i < 90 && status == KVT_OK; i += 3)
        status = file_stage_write(&stage, i, BYTES);
    cr_assert_eq(status, KVT_REJECTED);
    file_stage_keep(&stage);
    kvt_file *file = (kvt_file *)stage.tier;
    uint32_t quarantined = 0;
    for (uint32_t i = 0; i < file->segment_count; i++)
        quarantined += file->segments[i].state == KVT_SEGMENT_QUARANTINED;
    cr_assert_geq(quarantined, 1, "the one being sealed");
    cr_assert_eq(file->condemned, 0);
    for (uint64_t i = 0; i < 90; i += 3) {
        const stage_row *row = file_stage_find(&stage, i);
        cr_assert(row == NULL || file->segments[row->place.where >> 32].barrier, "told as kept without a barrier");
    }
    file_stage_fini(&stage);
}

/* Condemns the segment of a record while its bytes are on their way. */
static kvt_sim_fault condemn_meanwhile(void *arg, const kvt_sim_event *event)
{
    file_stage *stage = arg;
    kvt_file *file = (kvt_file *)stage->tier;
    if (event->verb != KVT_SIM_WRITE || event->bytes < BYTES)
        return KVT_SIM_NONE;
    pthread_mutex_lock(&file->lock);
    kvt_file_segment_condemn(file, (uint32_t)(event->offset / MIB));
    pthread_mutex_unlock(&file->lock);
    return KVT_SIM_NONE;
}

KVT_TEST(file_faults, a_write_into_a_segment_given_up_meanwhile_is_not_published)
{
    file_stage stage;
    open_stage(&stage, 9 * MIB);
    kvt_sim_set_hook(stage.disk, condemn_meanwhile, &stage);
    cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_IO);
    cr_assert_eq(stage.stored, 0);
    kvt_sim_set_hook(stage.disk, NULL, NULL);
    file_stage_keep(&stage);
    cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_OK);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_eq(file_stage_count(&stage), 1);
    file_stage_fini(&stage);
}

/* ---- reads ---- */

KVT_TEST(file_faults, one_read_error_is_tried_again)
{
    file_stage stage;
    open_stage(&stage, 9 * MIB);
    cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_OK);
    static const kvt_sim_fault kinds[] = {KVT_SIM_EIO, KVT_SIM_SHORT, KVT_SIM_AGAIN};
    for (int i = 0; i < 3; i++) {
        faults f = {.verb = KVT_SIM_READ, .fault = kinds[i], .left = 1};
        kvt_sim_set_hook(stage.disk, inject, &f);
        cr_assert_eq(file_stage_read(&stage, 0, BYTES), KVT_OK);
        kvt_sim_set_hook(stage.disk, NULL, NULL);
    }
    file_stage_fini(&stage);
}

KVT_TEST(file_faults, many_errors_switch_the_tier_off_and_a_later_success_on_again)
{
    file_stage stage;
    open_stage(&stage, 20 * MIB);
    for (uint64_t i = 0; i < 30; i++)
        cr_assert_eq(file_stage_write(&stage, i, 5000), KVT_OK);
    faults f = {.verb = KVT_SIM_READ, .fault = KVT_SIM_EIO, .left = 1000};
    kvt_sim_set_hook(stage.disk, inject, &f);
    uint64_t failed = 0;
    while (failed < 29 && state_of(&stage) == 0)
        cr_assert_eq(file_stage_read(&stage, failed++, 5000), KVT_IO);
    cr_assert_eq(state_of(&stage), 2);
    cr_assert_eq(failed, KVT_FILE_ERRORS_MAX + 1);
    cr_assert_eq(file_stage_read(&stage, 29, 5000), KVT_MISS);
    cr_assert_eq(file_stage_write(&stage, 31, 5000), KVT_REJECTED);
    f.left = 1000;
    fake_now_ns += KVT_FILE_RETRY_NS;
    cr_assert_eq(file_stage_read(&stage, 28, 5000), KVT_IO, "tried once");
    cr_assert_eq(file_stage_read(&stage, 29, 5000), KVT_MISS, "and off again");
    f.left = 0;
    fake_now_ns += KVT_FILE_RETRY_NS;
    cr_assert_eq(file_stage_read(&stage, 29, 5000), KVT_OK);
    cr_assert_eq(state_of(&stage), 0);
    cr_assert_eq(file_stage_write(&stage, 31, 5000), KVT_OK);
    file_stage_fini(&stage);
}

KVT_TEST(file_faults, errors_far_apart_switch_nothing_off)
{
    file_stage stage;
    open_stage(&stage, 20 * MIB);
    for (uint64_t i = 0; i < 30; i++)
        cr_assert_eq(file_stage_write(&stage, i, 5000), KVT_OK);
    faults f = {.verb = KVT_SIM_READ, .fault = KVT_SIM_EIO, .left = 1000};
    kvt_sim_set_hook(stage.disk, inject, &f);
    for (uint64_t i = 0; i < 30; i++) {
        cr_assert_eq(file_stage_read(&stage, i, 5000), KVT_IO);
        fake_now_ns += KVT_FILE_ERROR_SPAN_NS;
    }
    cr_assert_eq(state_of(&stage), 0);
    file_stage_fini(&stage);
}

/* ---- damage ---- */

static uint64_t offset_of(const stage_row *row, uint64_t within)
{
    return (row->place.where >> 32) * MIB + (uint32_t)row->place.where * UINT64_C(4096) + within;
}

static void flip_byte(kvt_sim_disk *disk, uint64_t offset)
{
    uint8_t byte;
    cr_assert(kvt_sim_file_read(disk, "data.0", offset, &byte, 1));
    byte ^= 0x10;
    cr_assert(kvt_sim_file_write(disk, "data.0", offset, &byte, 1));
}

KVT_TEST(file_faults, a_damaged_header_is_a_miss_and_three_give_up_the_segment)
{
    file_stage stage;
    open_stage(&stage, 20 * MIB);
    for (uint64_t i = 0; i < 60; i += 3)
        cr_assert_eq(file_stage_write(&stage, i, BYTES), KVT_OK);
    uint32_t before = file_stage_count(&stage);
    for (uint64_t i = 0; i < 9; i += 3) {
        cr_assert_eq(stage.damaged, i / 3);
        flip_byte(stage.disk, offset_of(file_stage_find(&stage, i), 70 + i));
        cr_assert_eq(file_stage_read(&stage, i, BYTES), KVT_MISS);
        cr_assert_null(file_stage_find(&stage, i));
    }
    file_stage_keep(&stage);
    cr_assert_null(file_stage_find(&stage, 12), "its neighbours are given up too");
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage.tier, &stats);
    cr_assert_eq(stats.corrupt_records, 3);
    cr_assert_eq(stats.record_count, file_stage_count(&stage));
    cr_assert_lt(file_stage_count(&stage) + 3, before);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_null(file_stage_find(&stage, 12));
    file_stage_fini(&stage);
}

KVT_TEST(file_faults, a_damaged_payload_is_seen_by_the_digests)
{
    file_stage stage;
    open_stage(&stage, 9 * MIB);
    cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_OK);
    flip_byte(stage.disk, offset_of(file_stage_find(&stage, 0), 4096 + BYTES - 1));
    cr_assert_eq(file_stage_read(&stage, 0, BYTES), KVT_CORRUPT);
    file_stage_fini(&stage);
}

KVT_TEST(file_faults, a_header_that_is_whole_but_of_another_record_is_a_miss)
{
    file_stage stage;
    uint8_t block[KVT_BLOCK_BYTES];
    open_stage(&stage, 9 * MIB);
    cr_assert_eq(file_stage_write(&stage, 0, BYTES), KVT_OK);
    cr_assert_eq(file_stage_write(&stage, 3, BYTES), KVT_OK);
    cr_assert(kvt_sim_file_read(stage.disk, "data.0", offset_of(file_stage_find(&stage, 3), 0), block, sizeof block));
    cr_assert(kvt_sim_file_write(stage.disk, "data.0", offset_of(file_stage_find(&stage, 0), 0), block, sizeof block));
    cr_assert_eq(file_stage_read(&stage, 0, BYTES), KVT_MISS);
    cr_assert_eq(file_stage_read(&stage, 3, BYTES), KVT_OK);
    file_stage_fini(&stage);
}

/* Any bits, anywhere that means something: headers, records, footers, trailers, checkpoints, SUPER. */
static void flip_somewhere(kvt_sim_disk *disk, uint64_t *state)
{
    static const char *const names[] = {"data.0", "data.0", "data.0", "SUPER", "index.1.ckpt", "LOCK"};
    const char *name = names[kvt_test_random(state) % 6];
    uint64_t bytes = kvt_sim_file_bytes(disk, name);
    if (bytes == UINT64_MAX || bytes == 0)
        return;
    for (uint64_t i = 1 + kvt_test_random(state) % 8; i != 0; i--) {
        uint8_t byte;
        uint64_t at = kvt_test_random(state) % bytes;
        if (kvt_test_random(state) % 2 == 0 && bytes > MIB) /* the frame of a segment */
            at = (at & ~(MIB - 1)) + (kvt_test_random(state) % 2 == 0 ? at % 200 : MIB - 4096 - 2000 + at % 2200);
        cr_assert(kvt_sim_file_read(disk, name, at, &byte, 1));
        byte ^= (uint8_t)(1u << kvt_test_random(state) % 8);
        cr_assert(kvt_sim_file_write(disk, name, at, &byte, 1));
    }
}

KVT_TEST(file_faults, flipped_bits_anywhere_in_a_store_never_give_wrong_bytes)
{
    enum { RECORDS = 30 };
    file_stage stage;
    uint64_t state = kvt_test_seed("flipped_bits_anywhere_in_a_store_never_give_wrong_bytes");
    open_stage(&stage, 9 * MIB);
    for (uint64_t i = 0; i < RECORDS; i++)
        cr_assert_eq(file_stage_write(&stage, i, 1000 + i * 1000), KVT_OK);
    file_stage_close(&stage);
    uint64_t missing = 0;
    for (int round = 0; round < 150; round++) {
        file_stage damaged;
        file_stage_init_on(&damaged, kvt_sim_clone(stage.disk, state), 9 * MIB);
        damaged.options.read_only = round % 2 == 0;
        flip_somewhere(damaged.disk, &state);
        kvt_status status = file_stage_open(&damaged);
        cr_assert(status == KVT_OK || status == KVT_CORRUPT, "%s", kvt_status_name(status));
        for (uint64_t i = 0; i < RECORDS && status == KVT_OK; i++)
            missing += file_stage_read(&damaged, i, 1000 + i * 1000) != KVT_OK;
        file_stage_fini(&damaged);
    }
    cr_assert_gt(missing, 0, "no flip hit anything");
    cr_assert_lt(missing, 150 * RECORDS / 2, "a few bits cost most of the records");
    file_stage_fini(&stage);
}

/* ---- long random runs ---- */

static const kvt_sim_rates rates[] = {
    {.read_error = 0},
    {.read_error = 3000, .short_count = 20000, .again = 20000},
    {.write_error = 3000, .short_count = 20000, .again = 20000},
    {.sync_error = 20000},
    {.read_misdirect = 20000, .read_flip = 20000},
    {.write_misdirect = 10000, .write_flip = 10000, .write_lost = 10000},
};
enum { RATES = sizeof rates / sizeof rates[0] };

typedef struct model_run {
    file_stage stage;
    uint64_t state;
    bool honest; /* the disk may fail, but does not lie */
} model_run;

static uint64_t model_size(uint64_t number) { return 1 + number * 7919 % 150000; }

static void model_step(model_run *run)
{
    enum { KEYS = 60 };
    file_stage *stage = &run->stage;
    uint64_t number = kvt_test_random(&run->state) % KEYS;
    const stage_row *row = file_stage_find(stage, number);
    kvt_place place = row == NULL ? (kvt_place){0, 0} : row->place;
    uint64_t choice = kvt_test_random(&run->state) % 100;
    fake_now_ns += UINT64_C(100000000);
    if (choice < 45) {
        (void)file_stage_write(stage, number, model_size(number));
    } else if (choice < 80) {
        kvt_status status = file_stage_read(stage, number, model_size(number));
        cr_assert(status != KVT_CORRUPT || !run->honest, "an honest disk gave bytes that fail their check");
        if (status == KVT_CORRUPT) {
            kvt_tier_drop(stage->tier, &place, 1);
            file_stage_forget(stage, number);
        }
    } else if (choice < 90 && row != NULL) {
        kvt_tier_touch(stage->tier, &place, 1);
    } else if (choice < 93) {
        fake_now_ns += UINT64_C(40000000000);
        file_stage_keep(stage);
    } else if (choice < 95) {
        file_stage_close(stage);
        kvt_sim_set_rates(stage->disk, NULL); /* an open that fails would end the run */
        cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
    } else if (row != NULL) {
        kvt_record record = row->record;
        kvt_status erased = file_stage_erase(stage, number, number + 1, 1);
        kvt_status status = file_stage_read_place(stage, &record, &place, number);
        cr_assert(status != KVT_OK || erased != KVT_OK || !run->honest, "an erased record can be read");
    }
}

static void check_counts(file_stage *stage)
{
    kvt_tier_stats stats;
    uint64_t count = 0, bytes = 0;
    kvt_tier_get_stats(stage->tier, &stats);
    for (uint32_t i = 0; i < stage->row_slots; i++) {
        count += stage->rows[i].there;
        bytes += stage->rows[i].there ? stage->rows[i].record.stored_bytes : 0;
    }
    cr_assert_geq(stats.record_count, count, "the tier knows fewer records than its host");
    cr_assert_geq(stats.record_bytes, bytes);
    cr_assert_leq(stats.used_bytes, stats.capacity_bytes);
}

static void model(uint64_t seed, uint32_t steps)
{
    model_run run = {.state = seed};
    const kvt_sim_rates *faulty = &rates[seed % RATES];
    open_stage(&run.stage, 9 * MIB);
    run.honest = faulty->read_flip + faulty->read_misdirect + faulty->write_flip + faulty->write_misdirect +
                     faulty->write_lost ==
                 0;
    for (uint32_t i = 0; i < steps; i++) {
        kvt_sim_set_rates(run.stage.disk, i % 50 < 40 ? faulty : NULL);
        model_step(&run);
        check_counts(&run.stage);
    }
    kvt_sim_set_rates(run.stage.disk, NULL);
    file_stage_fini(&run.stage);
}

/* KVT_TEST_LONG=<seconds>: seed after seed for that long. */
Test(file_faults, random_runs_agree_with_a_naive_model, .timeout = 100000)
{
    const char *given = getenv("KVT_TEST_LONG");
    uint64_t long_ns = given == NULL ? 0 : strtoull(given, NULL, 10) * UINT64_C(1000000000);
    uint64_t seed = kvt_test_seed("random_runs_agree_with_a_naive_model");
    uint64_t start_ns = kvt_now_ns(), live = kvt_live_bytes(), runs = 0;
    while (runs < 2 * RATES || kvt_now_ns() - start_ns < long_ns) {
        model(seed + runs, 250);
        runs++;
    }
    kvt_test_check_leaks(live);
    fprintf(stderr, "model: %llu runs of 250 steps from seed %llu in %.1f s\n", (unsigned long long)runs,
            (unsigned long long)seed, (double)(kvt_now_ns() - start_ns) / 1e9);
}
