/* SPDX-License-Identifier: Apache-2.0
 *
 * Crashes of the file tier over the simulated disk. A script of writes, reads, evictions, erasures, checkpoints and
 * reopens is stopped at every change of the disk in turn; then the process dies or the power fails, in several ways,
 * also once more during recovery. Whatever comes back must be what was written; what was acknowledged must be there
 * after the death of the process, what was sealed also after a power cut; what was erased must stay away.
 */
#include "tests/file_stage.h"

#include <stdio.h>
#include <stdlib.h>

enum { RECORDS = 64, STEPS = 90, STOPS = 40, BYTES_MAX = 8 << 20 };

/* ---- stopping at the n-th change ---- */

typedef struct stopper {
    uint64_t left; /* changes until the stop; UINT64_MAX: never */
    uint64_t seen;
    bool stopped;
} stopper;

static kvt_sim_fault stop_there(void *arg, const kvt_sim_event *event)
{
    stopper *s = arg;
    if (event->verb == KVT_SIM_READ)
        return s->stopped ? KVT_SIM_EIO : KVT_SIM_NONE;
    s->seen++;
    s->stopped |= s->seen > s->left;
    return s->stopped ? KVT_SIM_EIO : KVT_SIM_NONE;
}

/* ---- the script ---- */

static uint64_t fake_now_ns;
static uint64_t now_ns(void) { return fake_now_ns; }

static uint64_t size_of(uint64_t number) { return 1 + (number * 104729) % 290000; }

static bool erased[RECORDS];  /* acknowledged, and not written since */
static bool erasing[RECORDS]; /* the last one asked for was not acknowledged */
static bool rested[RECORDS];  /* was sealed before it */

static bool is_sealed(const file_stage *stage, const stage_row *row)
{
    const kvt_file_segment *segment = &((kvt_file *)stage->tier)->segments[row->place.where >> 32];
    return segment->state == KVT_SEGMENT_SEALED && segment->barrier;
}

/* As the engine does it: nothing is stored under a key that is held. */
static void write_anew(file_stage *stage, uint64_t number)
{
    const stage_row *row = file_stage_find(stage, number);
    if (row != NULL) {
        kvt_place place = row->place;
        file_stage_forget(stage, number);
        kvt_tier_drop(stage->tier, &place, 1);
    }
    erased[number] = erasing[number] = false;
    (void)file_stage_write(stage, number, size_of(number));
}

static void erase_some(file_stage *stage, uint64_t *state)
{
    uint64_t first = kvt_test_random(state) % RECORDS, stride = 1 + kvt_test_random(state) % 7;
    uint64_t end = kvt_min_u64(RECORDS, first + stride * (1 + kvt_test_random(state) % 20));
    for (uint64_t i = first; i < end; i += stride) {
        const stage_row *row = file_stage_find(stage, i);
        erasing[i] = erasing[i] || row != NULL;
        rested[i] = row != NULL && is_sealed(stage, row);
    }
    bool done = file_stage_erase(stage, first, end, stride) == KVT_OK;
    for (uint64_t i = first; i < end && done; i += stride) {
        erased[i] = erased[i] || erasing[i];
        erasing[i] = false;
    }
}

static void step(file_stage *stage, uint64_t *state, uint64_t *next)
{
    uint64_t choice = kvt_test_random(state) % 100;
    uint64_t number = kvt_test_random(state) % RECORDS;
    const stage_row *row = file_stage_find(stage, number);
    if (choice < 55) {
        write_anew(stage, *next % RECORDS);
        (*next)++;
    } else if (choice < 60) {
        erase_some(stage, state);
    } else if (choice < 75 && row != NULL) {
        (void)file_stage_read(stage, number, size_of(number));
    } else if (choice < 85 && row != NULL) {
        kvt_tier_touch(stage->tier, &row->place, 1);
    } else if (choice < 90) {
        fake_now_ns += UINT64_C(61000000000);
        file_stage_keep(stage);
    } else if (choice < 94) {
        (void)kvt_tier_flush(stage->tier);
    } else if (choice < 97) {
        file_stage_close(stage);
        if (file_stage_open(stage) != KVT_OK)
            stage->tier = NULL;
    } else {
        file_stage_keep(stage);
    }
}

/* Run until the stop or the end. The disk is then as the dying process left it. */
static void play(file_stage *stage, stopper *s, uint64_t seed)
{
    uint64_t state = seed, next = 0;
    fake_now_ns = 1;
    memset(erased, 0, sizeof erased);
    memset(erasing, 0, sizeof erasing);
    stage->setup.now_ns = now_ns;
    kvt_sim_set_hook(stage->disk, stop_there, s);
    if (file_stage_open(stage) != KVT_OK)
        stage->tier = NULL;
    for (int i = 0; i < STEPS && stage->tier != NULL && !s->stopped; i++)
        step(stage, &state, &next);
}

/* ---- what has to be there afterwards ---- */

typedef struct promise {
    bool acknowledged[RECORDS];
    bool sealed[RECORDS];
} promise;

static void note_promises(file_stage *stage, promise *out)
{
    *out = (promise){{false}, {false}};
    kvt_file *file = (kvt_file *)stage->tier;
    for (uint64_t i = 0; i < RECORDS && file != NULL; i++) {
        const stage_row *row = file_stage_find(stage, i);
        if (row == NULL)
            continue;
        out->acknowledged[i] = true;
        out->sealed[i] = is_sealed(stage, row);
    }
}

typedef struct ending {
    const char *name;
    kvt_sim_crash_options options;
} ending;

static const ending endings[] = {
    {"process", {.power = false}},
    {"power, all lost", {.power = true, .drop_percent = 100}},
    {"power, half lost", {.power = true, .drop_percent = 50, .tear_percent = 20, .reorder_percent = 30}},
    {"power, torn", {.power = true, .drop_percent = 10, .tear_percent = 60, .reorder_percent = 50}},
};
enum { ENDINGS = sizeof endings / sizeof endings[0] };

/* Every record is right or missing; promises are kept. The number that is there. */
static uint32_t verify(file_stage *stage, const promise *promised, bool power, const char *where)
{
    uint32_t there = 0;
    for (uint64_t i = 0; i < RECORDS; i++) {
        bool known = file_stage_find(stage, i) != NULL;
        kvt_status status = file_stage_read(stage, i, size_of(i));
        bool must = power ? promised->sealed[i] : promised->acknowledged[i];
        cr_assert(status == KVT_OK || !must, "%s: record %u was promised, but is %s", where, (unsigned)i,
                  kvt_status_name(status));
        cr_assert(!erased[i] || !known, "%s: record %u was erased, and is back", where, (unsigned)i);
        cr_assert(!erasing[i] || !rested[i] || !known || status == KVT_OK, "%s: record %u is half erased", where,
                  (unsigned)i);
        there += status == KVT_OK;
    }
    cr_assert(power || stage->damaged == 0, "%s: %u records are known, but not there", where, (unsigned)stage->damaged);
    return there;
}

static void work_on(file_stage *stage)
{
    for (uint64_t i = 0; i < 6; i++) {
        cr_assert_eq(file_stage_write(stage, i, size_of(i)), KVT_OK);
        cr_assert_eq(file_stage_read(stage, i, size_of(i)), KVT_OK);
    }
}

/* A recovery that is itself stopped at the n-th change, and crashes. Takes the disk over; a disk to open again. */
static kvt_sim_disk *crash_in_recovery(kvt_sim_disk *disk, const ending *how, uint64_t left, uint64_t seed)
{
    file_stage stage;
    stopper s = {.left = left};
    file_stage_init_on(&stage, disk, BYTES_MAX);
    kvt_sim_set_hook(disk, stop_there, &s);
    (void)file_stage_open(&stage);
    kvt_sim_disk *after = kvt_sim_clone(disk, seed);
    kvt_sim_crash(disk, NULL);
    file_stage_fini(&stage);
    kvt_sim_crash(after, &how->options);
    return after;
}

static void reopen_and_verify(kvt_sim_disk *disk, const promise *promised, const ending *how, const char *where)
{
    file_stage stage;
    file_stage_init_on(&stage, disk, BYTES_MAX);
    kvt_status status = file_stage_open(&stage);
    cr_assert_eq(status, KVT_OK, "%s: %s: %s", where, kvt_status_name(status), kvt_last_error());
    uint32_t there = verify(&stage, promised, how->options.power, where);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s: a second time", where);
    uint32_t again = verify(&stage, promised, how->options.power, where);
    cr_assert_eq(there, again, "%s: a second open finds %u records instead of %u", where, again, there);
    work_on(&stage);
    file_stage_fini(&stage);
}

static uint64_t states; /* tried */

/* The script stopped at one change, all endings. */
static void crash_at(uint64_t left, uint64_t seed)
{
    file_stage stage;
    stopper s = {.left = left};
    promise promised;
    file_stage_init_on(&stage, kvt_sim_create(seed), BYTES_MAX);
    play(&stage, &s, seed);
    note_promises(&stage, &promised);
    for (int i = 0; i < ENDINGS; i++) {
        char where[96];
        snprintf(where, sizeof where, "seed %llu, stopped at %llu, %s", (unsigned long long)seed,
                 (unsigned long long)left, endings[i].name);
        kvt_sim_disk *disk = kvt_sim_clone(stage.disk, seed + left + (uint64_t)i);
        kvt_sim_crash(disk, &endings[i].options);
        if ((left + (uint64_t)i) % 2 == 0)
            disk = crash_in_recovery(disk, &endings[i], left / 2 % 8, seed + left);
        reopen_and_verify(disk, &promised, &endings[i], where);
        states++;
    }
    kvt_sim_crash(stage.disk, NULL);
    file_stage_fini(&stage);
}

/* ---- what a scan may take ---- */

static void die_and_reopen(file_stage *stage)
{
    kvt_sim_crash(stage->disk, &(kvt_sim_crash_options){.power = false});
    file_stage_close(stage);
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
}

KVT_TEST(crash, a_scan_finds_the_records_of_this_generation_and_no_older_ones)
{
    file_stage stage;
    file_stage_init_on(&stage, kvt_sim_create(1), BYTES_MAX);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 90; i++) /* one and a half laps: old records lie behind the new ones */
        cr_assert_eq(file_stage_write(&stage, i, 100000), KVT_OK);
    uint32_t before = file_stage_count(&stage);
    die_and_reopen(&stage);
    cr_assert_eq(file_stage_count(&stage), before);
    for (uint64_t i = 0; i < 90; i++)
        cr_assert_eq(file_stage_read(&stage, i, 100000), file_stage_find(&stage, i) != NULL ? KVT_OK : KVT_MISS);
    file_stage_fini(&stage);
}

KVT_TEST(crash, a_scan_takes_no_record_whose_payload_is_torn_and_goes_on_behind_it)
{
    static const uint64_t within[] = {4096, 4096 + 50000, 4096 + 99999, 200, 0};
    for (int i = 0; i < 5; i++) {
        file_stage stage;
        file_stage_init_on(&stage, kvt_sim_create(1), BYTES_MAX);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t n = 0; n < 15; n += 3)
            cr_assert_eq(file_stage_write(&stage, n, 100000), KVT_OK);
        kvt_place place = file_stage_find(&stage, 6)->place;
        uint64_t at = (place.where >> 32 << 20) + (uint32_t)place.where * UINT64_C(4096) + within[i];
        uint8_t byte;
        cr_assert(kvt_sim_file_read(stage.disk, "data.0", at, &byte, 1));
        byte ^= 1;
        cr_assert(kvt_sim_file_write(stage.disk, "data.0", at, &byte, 1));
        die_and_reopen(&stage);
        cr_assert_eq(file_stage_count(&stage), 4);
        cr_assert_null(file_stage_find(&stage, 6));
        for (uint64_t n = 0; n < 15; n += 3)
            cr_assert_eq(file_stage_read(&stage, n, 100000), n == 6 ? KVT_MISS : KVT_OK);
        file_stage_fini(&stage);
    }
}

/* ---- all changes of a script ---- */

/* How many changes the script makes when nothing stops it. */
static uint64_t changes_of(uint64_t seed)
{
    file_stage stage;
    stopper s = {.left = UINT64_MAX};
    file_stage_init_on(&stage, kvt_sim_create(seed), BYTES_MAX);
    play(&stage, &s, seed);
    cr_assert_not_null(stage.tier, "the script fails without a fault: %s", kvt_last_error());
    file_stage_fini(&stage);
    return s.seen;
}

/* KVT_TEST_LONG=<seconds>: every change, seed after seed, for that long; else some changes of one seed. */
Test(crash, at_any_change_of_the_disk_nothing_wrong_comes_back_and_promises_hold, .timeout = 100000)
{
    const char *given = getenv("KVT_TEST_LONG");
    uint64_t long_ns = given == NULL ? 0 : strtoull(given, NULL, 10) * UINT64_C(1000000000);
    uint64_t seed = kvt_test_seed("crash"), start_ns = kvt_now_ns(), live = kvt_live_bytes();
    do {
        uint64_t changes = changes_of(seed);
        uint64_t stride = long_ns != 0 ? 1 : 1 + changes / STOPS;
        for (uint64_t left = seed % stride; left < changes; left += stride)
            crash_at(left, seed);
        seed++;
    } while (kvt_now_ns() - start_ns < long_ns);
    kvt_test_check_leaks(live);
    fprintf(stderr, "crash: %llu states in %.1f s\n", (unsigned long long)states,
            (double)(kvt_now_ns() - start_ns) / 1e9);
}
