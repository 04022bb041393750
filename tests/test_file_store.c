/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose store it is: formats, sizes, locks, foreign and newer directories, read-only opens, lost and damaged root
 * files.
 */
#include "tests/file_stage.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* ---- geometry ---- */

static const struct {
    uint64_t bytes_max, segment_bytes, blob_bytes_max; /* MiB, MiB, bytes */
    uint64_t want_segment, want_count;                 /* MiB; 0: refused */
} geometries[] = {
    {4096, 0, 0, 128, 31},
    {4096, 0, 4 << 20, 64, 63},
    {4096, 0, 32 << 20, 256, 15},
    {4096, 0, 64 << 20, 256, 15}, /* four images would leave fewer than eight segments of 512 MiB */
    {1 << 20, 0, 4 << 20, 256, 4095},
    {1 << 20, 0, 72 << 20, 512, 2047},
    {1024, 0, 1 << 20, 16, 63},
    {64, 0, 256 << 10, 4, 15}, /* small stores take smaller segments */
    {16, 0, 256 << 10, 1, 13},
    {7, 1, 0, 1, 4},
    {6, 1, 0, 0, 0}, /* three segments */
    {6, 0, 0, 0, 0},
    {1, 0, 0, 0, 0},
    {64, 3, 0, 0, 0}, /* no power of two */
    {64, 2048, 0, 0, 0},
    {64, 1, 1 << 20, 0, 0}, /* the largest payload does not fit */
    {64, 0, 64 << 20, 0, 0},
    {UINT64_C(1) << 43, 1, 0, 0, 0},
};

KVT_TEST(file_store, geometry_follows_the_documented_rule_or_is_refused_with_a_reason)
{
    for (size_t i = 0; i < sizeof geometries / sizeof geometries[0]; i++) {
        kvt_tier_options options = {.bytes_max = geometries[i].bytes_max << 20,
                                    .segment_bytes = geometries[i].segment_bytes << 20,
                                    .blob_bytes_max = geometries[i].blob_bytes_max};
        kvt_file_geometry geometry = {0, 0};
        kvt_fail_clear();
        kvt_status status = kvt_file_geometry_choose(&options, &geometry);
        if (geometries[i].want_segment == 0) {
            cr_assert_eq(status, KVT_INVALID, "row %zu", i);
            cr_assert_gt(strlen(kvt_last_error()), 20);
            continue;
        }
        cr_assert_eq(status, KVT_OK, "row %zu: %s", i, kvt_last_error());
        cr_assert_eq(geometry.segment_bytes >> 20, geometries[i].want_segment, "row %zu: %lu MiB", i,
                     (unsigned long)(geometry.segment_bytes >> 20));
        cr_assert_eq(geometry.segment_count, geometries[i].want_count, "row %zu: %lu", i,
                     (unsigned long)geometry.segment_count);
        uint64_t total = geometry.segment_bytes * geometry.segment_count + 2 * MIB +
                         4 * kvt_checkpoint_bytes((uint32_t)geometry.segment_count);
        cr_assert_leq(total, options.bytes_max);
    }
}

/* ---- space on disk ---- */

static uint64_t bytes_in(const char *path)
{
    uint64_t total = 0;
    DIR *stream = opendir(path);
    const struct dirent *item;
    while ((item = readdir(stream)) != NULL) {
        struct stat info;
        if (item->d_name[0] == '.' || fstatat(dirfd(stream), item->d_name, &info, 0) != 0)
            continue;
        cr_assert_eq(info.st_mode & 0777, 0600, "%s", item->d_name);
        total += kvt_max_u64((uint64_t)info.st_size, (uint64_t)info.st_blocks * 512);
    }
    closedir(stream);
    return total;
}

KVT_TEST(file_store, never_takes_more_of_the_disk_than_was_given)
{
    file_stage stage;
    uint64_t most = 0;
    file_stage_init(&stage, false, 12 * MIB + 300000);
    for (uint64_t round = 0; round < 5; round++) {
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t i = 0; i < 40; i++) {
            cr_assert_eq(file_stage_write(&stage, round * 40 + i, 150000), KVT_OK);
            most = kvt_max_u64(most, bytes_in(stage.options.path));
        }
        file_stage_close(&stage);
        most = kvt_max_u64(most, bytes_in(stage.options.path));
    }
    cr_assert_leq(most, stage.options.bytes_max);
    file_stage_fini(&stage);
}

/* ---- locks ---- */

KVT_TEST(file_store, a_second_opener_is_told_who_has_the_store)
{
    file_stage first, second;
    char pid[32];
    file_stage_init(&first, false, 9 * MIB);
    cr_assert_eq(file_stage_open(&first), KVT_OK, "%s", kvt_last_error());
    file_stage_init(&second, true, 9 * MIB);
    second.setup = (kvt_file_setup){0};
    second.options.path = first.options.path;
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    for (int read_only = 0; read_only < 2; read_only++) {
        second.options.read_only = read_only != 0;
        uint64_t start_ns = kvt_now_ns();
        cr_assert_eq(file_stage_open(&second), KVT_BUSY);
        cr_assert_lt(kvt_now_ns() - start_ns, UINT64_C(1000000000), "a live owner is no reason to wait");
        cr_assert_not_null(strstr(kvt_last_error(), pid), "%s", kvt_last_error());
    }
    cr_assert_eq(file_stage_write(&first, 1, 1000), KVT_OK);
    file_stage_close(&first);
    cr_assert_eq(file_stage_open(&second), KVT_OK, "free again: %s", kvt_last_error());
    cr_assert_eq(file_stage_read(&second, 1, 1000), KVT_OK);
    file_stage_close(&second);
    second.tier = NULL;
    file_stage_fini(&second);
    file_stage_fini(&first);
}

/* A child that writes until it is killed; the parent opens at once. */
static void child_writes(file_stage *stage, int ready)
{
    if (file_stage_open(stage) != KVT_OK)
        _exit(2);
    for (uint64_t i = 0;; i++) {
        if (file_stage_write(stage, i, 120000) != KVT_OK)
            _exit(3);
        if (write(ready, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(4);
    }
}

KVT_TEST(file_store, what_a_killed_process_had_acknowledged_is_there)
{
    for (int round = 0; round < 4; round++) {
        file_stage stage;
        int ends[2];
        uint64_t last = 0, told = 0;
        file_stage_init(&stage, false, 64 * MIB);
        cr_assert_eq(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            child_writes(&stage, ends[1]);
        }
        close(ends[1]);
        while (told < 20 + 7 * (uint64_t)round && read(ends[0], &last, sizeof last) == (ssize_t)sizeof last)
            told++;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(ends[0], &last, sizeof last) == (ssize_t)sizeof last)
            told++;
        close(ends[0]);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t i = 0; i < told; i++)
            cr_assert_eq(file_stage_read(&stage, i, 120000), KVT_OK, "record %lu of %lu", (unsigned long)i,
                         (unsigned long)told);
        file_stage_fini(&stage);
    }
}

/* ---- directories that are not ours ---- */

static void put_file(const char *directory, const char *name, const void *bytes, size_t count)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, count), (ssize_t)count);
    close(fd);
}

static int names_in(const char *path)
{
    int count = 0;
    DIR *stream = opendir(path);
    while (readdir(stream) != NULL)
        count++;
    closedir(stream);
    return count - 2;
}

KVT_TEST(file_store, a_directory_with_other_files_is_left_alone)
{
    static const char *const foreign[] = {"notes.txt", "rocks", "data.1", "data.0"};
    for (int i = 0; i < 4; i++) {
        file_stage stage;
        file_stage_init(&stage, false, 9 * MIB);
        put_file(stage.options.path, foreign[i], "hello", 5);
        cr_assert_eq(file_stage_open(&stage), KVT_EXISTS, "%s", foreign[i]);
        cr_assert_not_null(strstr(kvt_last_error(), foreign[i]), "%s", kvt_last_error());
        cr_assert_eq(names_in(stage.options.path), 1, "something was made beside %s", foreign[i]);
        file_stage_fini(&stage);
    }
}

KVT_TEST(file_store, a_store_that_is_not_there_is_made_only_when_asked_for)
{
    file_stage stage;
    file_stage_init(&stage, false, 9 * MIB);
    stage.options.no_create = true;
    cr_assert_eq(file_stage_open(&stage), KVT_MISS);
    stage.options.no_create = false;
    stage.options.read_only = true;
    cr_assert_eq(file_stage_open(&stage), KVT_MISS);
    stage.options.read_only = false;
    stage.options.bytes_max = MIB;
    cr_assert_eq(file_stage_open(&stage), KVT_INVALID);
    cr_assert_eq(names_in(stage.options.path), 0);
    file_stage_fini(&stage);
}

KVT_TEST(file_store, an_existing_store_keeps_its_geometry)
{
    file_stage stage;
    kvt_tier_stats stats;
    file_stage_init(&stage, false, 9 * MIB);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_write(&stage, 1, 1000), KVT_OK);
    file_stage_close(&stage);
    stage.options.bytes_max = 1;
    stage.options.segment_bytes = 512 * MIB;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    kvt_tier_get_stats(stage.tier, &stats);
    cr_assert_eq(stats.capacity_bytes, 6 * MIB);
    cr_assert_eq(file_stage_read(&stage, 1, 1000), KVT_OK);
    file_stage_fini(&stage);
}

/* ---- SUPER ---- */

/* A closed store on the simulated disk with some records. */
static void make_store(file_stage *stage)
{
    file_stage_init(stage, true, 9 * MIB);
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
    for (uint64_t i = 0; i < 20; i++)
        cr_assert_eq(file_stage_write(stage, i, 100000), KVT_OK);
    file_stage_close(stage);
}

static void expect_records(file_stage *stage, uint64_t count)
{
    cr_assert_eq(file_stage_open(stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_count(stage), count);
    for (uint64_t i = 0; i < count; i++)
        cr_assert_eq(file_stage_read(stage, i, 100000), KVT_OK);
    file_stage_close(stage);
}

KVT_TEST(file_store, one_good_slot_of_super_is_enough)
{
    for (uint64_t slot = 0; slot < 2; slot++) {
        file_stage stage;
        make_store(&stage);
        cr_assert(kvt_sim_file_write(stage.disk, "SUPER", slot * 4096 + 100, "damage", 6));
        expect_records(&stage, 20);
        expect_records(&stage, 20);
        file_stage_fini(&stage);
    }
}

static uint64_t newest_slot(kvt_sim_disk *disk, kvt_super *out)
{
    uint64_t newest = 0;
    for (uint32_t slot = 0; slot < 2; slot++) {
        uint8_t block[KVT_BLOCK_BYTES];
        kvt_super super;
        cr_assert(kvt_sim_file_read(disk, "SUPER", slot * UINT64_C(4096), block, sizeof block));
        cr_assert_eq(kvt_super_decode(block, slot, &super), KVT_OK, "slot %u", slot);
        if (super.slot_seq >= newest)
            *out = super;
        newest = kvt_max_u64(newest, super.slot_seq);
    }
    return newest;
}

KVT_TEST(file_store, each_open_raises_the_epoch_in_the_other_slot)
{
    file_stage stage;
    kvt_super before, after;
    make_store(&stage);
    for (int i = 0; i < 4; i++) {
        uint64_t seq = newest_slot(stage.disk, &before);
        expect_records(&stage, 20);
        cr_assert_eq(newest_slot(stage.disk, &after), seq + 1);
        cr_assert_eq(after.epoch, before.epoch + 1);
    }
    file_stage_fini(&stage);
}

KVT_TEST(file_store, an_unreadable_super_is_reported_and_reset_only_on_request)
{
    file_stage stage;
    make_store(&stage);
    uint64_t bytes = kvt_sim_file_bytes(stage.disk, "data.0");
    cr_assert(kvt_sim_file_write(stage.disk, "SUPER", 100, "damage", 6));
    cr_assert(kvt_sim_file_write(stage.disk, "SUPER", 4196, "damage", 6));
    cr_assert_eq(file_stage_open(&stage), KVT_CORRUPT);
    stage.options.read_only = true;
    stage.options.reset_corrupt = true;
    cr_assert_eq(file_stage_open(&stage), KVT_CORRUPT, "a reader resets nothing");
    stage.options.read_only = false;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(file_stage_count(&stage), 0, "the old records are dead");
    cr_assert_eq(kvt_sim_file_bytes(stage.disk, "data.0"), bytes, "the data file is used again");
    cr_assert_eq(kvt_sim_file_bytes(stage.disk, "SUPER.bad"), 8192);
    cr_assert_eq(file_stage_write(&stage, 5, 100000), KVT_OK);
    file_stage_close(&stage);
    cr_assert_eq(file_stage_open(&stage), KVT_OK);
    cr_assert_eq(file_stage_read(&stage, 5, 100000), KVT_OK);
    cr_assert_eq(file_stage_count(&stage), 1);
    file_stage_fini(&stage);
}

static void make_newer(kvt_sim_disk *disk, uint32_t at, uint32_t value)
{
    uint8_t block[KVT_BLOCK_BYTES];
    cr_assert(kvt_sim_file_read(disk, "SUPER", 4096, block, sizeof block));
    kvt_store_le32(block + at, value);
    kvt_store_le32(block + 12, 0);
    kvt_store_le32(block + 12, kvt_crc32c(0, block, sizeof block));
    cr_assert(kvt_sim_file_write(disk, "SUPER", 4096, block, sizeof block));
}

static kvt_sim_fault no_change(void *arg, const kvt_sim_event *event)
{
    if (event->verb != KVT_SIM_READ)
        *(int *)arg += 1;
    return KVT_SIM_NONE;
}

KVT_TEST(file_store, a_newer_store_is_refused_and_left_alone)
{
    static const uint32_t fields[][2] = {{8, 1}, {128, 4}, {120, 3}};
    for (int i = 0; i < 3; i++) {
        file_stage stage;
        int changes = 0;
        make_store(&stage);
        make_newer(stage.disk, fields[i][0], fields[i][1]);
        kvt_sim_set_hook(stage.disk, no_change, &changes);
        stage.options.reset_corrupt = true;
        cr_assert_eq(file_stage_open(&stage), KVT_VERSION);
        cr_assert_eq(changes, 0, "something was changed");
        file_stage_fini(&stage);
    }
}

/* ---- reading only ---- */

KVT_TEST(file_store, a_read_only_open_changes_nothing_at_all)
{
    for (int crash = 0; crash < 2; crash++) {
        file_stage stage;
        int changes = 0;
        make_store(&stage);
        cr_assert_eq(file_stage_open(&stage), KVT_OK);
        cr_assert_eq(file_stage_write(&stage, 20, 100000), KVT_OK);
        if (crash)
            kvt_sim_crash(stage.disk, &(kvt_sim_crash_options){.power = false});
        file_stage_close(&stage);
        kvt_sim_set_hook(stage.disk, no_change, &changes);
        stage.options.read_only = true;
        for (int again = 0; again < 2; again++)
            expect_records(&stage, 21);
        cr_assert_eq(file_stage_open(&stage), KVT_OK);
        cr_assert_eq(file_stage_write(&stage, 30, 1000), KVT_REJECTED);
        cr_assert_eq(kvt_tier_flush(stage.tier), KVT_OK);
        kvt_tier_stats stats;
        kvt_tier_get_stats(stage.tier, &stats);
        cr_assert_eq(stats.state, 1);
        file_stage_close(&stage);
        cr_assert_eq(changes, 0, "something was changed");
        file_stage_fini(&stage);
    }
}

/* ---- data.0 and checkpoints ---- */

KVT_TEST(file_store, a_data_file_that_was_cut_or_lost_costs_only_what_was_cut)
{
    static const uint64_t left[] = {0, 100, 2 * MIB, 6 * MIB - 1};
    for (int i = 0; i < 4; i++) {
        file_stage stage;
        make_store(&stage);
        cr_assert(kvt_sim_file_truncate(stage.disk, "data.0", left[i]));
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        uint32_t there = 0;
        for (uint64_t n = 0; n < 20; n++)
            there += file_stage_read(&stage, n, 100000) == KVT_OK;
        cr_assert(left[i] < MIB ? there == 0 : there >= 15, "%u records of a file of %lu bytes", there,
                  (unsigned long)left[i]);
        for (uint64_t n = 0; n < 60; n++)
            cr_assert_eq(file_stage_write(&stage, n, 100000), KVT_OK);
        file_stage_fini(&stage);
    }
}

static kvt_sim_fault fail_create(void *arg, const kvt_sim_event *event)
{
    return event->verb == *(kvt_sim_verb *)arg ? KVT_SIM_NOSPACE : KVT_SIM_NONE;
}

KVT_TEST(file_store, a_full_disk_refuses_the_format_and_leaves_no_store)
{
    file_stage stage;
    kvt_sim_verb verb = KVT_SIM_ALLOCATE;
    file_stage_init(&stage, true, 9 * MIB);
    kvt_sim_set_hook(stage.disk, fail_create, &verb);
    cr_assert_eq(file_stage_open(&stage), KVT_NOSPACE);
    cr_assert_eq(kvt_sim_file_bytes(stage.disk, "SUPER"), UINT64_MAX);
    kvt_sim_set_hook(stage.disk, NULL, NULL);
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "room again: %s", kvt_last_error());
    file_stage_fini(&stage);
}

KVT_TEST(file_store, checkpoints_are_hints_only)
{
    for (int damage = 0; damage < 4; damage++) {
        file_stage stage;
        char name[32];
        uint64_t seq = 1;
        make_store(&stage);
        expect_records(&stage, 20);
        do
            snprintf(name, sizeof name, "index.%llu.ckpt", (unsigned long long)seq++);
        while (kvt_sim_file_bytes(stage.disk, name) == UINT64_MAX);
        if (damage == 0)
            cr_assert(kvt_sim_file_truncate(stage.disk, name, 0));
        else if (damage == 1)
            cr_assert(kvt_sim_file_truncate(stage.disk, name, 64 * MIB));
        else if (damage == 2)
            cr_assert(kvt_sim_file_write(stage.disk, name, 4100, "damage", 6));
        else
            cr_assert(kvt_sim_file_write(stage.disk, name, 40, "\xff\xff\xff\xff\xff\xff\xff\xff", 8));
        expect_records(&stage, 20);
        file_stage_fini(&stage);
    }
}

KVT_TEST(file_store, two_checkpoints_are_kept_and_nothing_half_written_stays)
{
    file_stage stage;
    make_store(&stage);
    for (int i = 0; i < 5; i++)
        expect_records(&stage, 20);
    uint64_t kept = 0;
    for (int seq = 0; seq < 40; seq++) {
        char name[32];
        snprintf(name, sizeof name, "index.%d.ckpt", seq);
        kept += kvt_sim_file_bytes(stage.disk, name) != UINT64_MAX;
    }
    cr_assert_eq(kept, 2);
    cr_assert_eq(kvt_sim_file_bytes(stage.disk, "index.tmp"), UINT64_MAX);
    cr_assert_eq(kvt_sim_file_bytes(stage.disk, "probe.tmp"), UINT64_MAX);
    file_stage_fini(&stage);
}

/* ---- memory and time ---- */

KVT_TEST(file_store, an_open_that_runs_out_of_memory_leaves_nothing_behind)
{
    file_stage stage;
    kvt_status status = KVT_NOMEM;
    make_store(&stage);
    for (uint64_t n = 1; status != KVT_OK; n++) {
        uint64_t live = kvt_live_bytes();
        kvt_alloc_fail_at(n);
        status = file_stage_open(&stage);
        kvt_alloc_fail_at(0);
        cr_assert(status == KVT_OK || status == KVT_NOMEM, "allocation %lu: %s", (unsigned long)n,
                  kvt_status_name(status));
        cr_assert(status == KVT_OK || kvt_live_bytes() == live, "allocation %lu leaks", (unsigned long)n);
        cr_assert_lt(n, 1000);
    }
    cr_assert_eq(file_stage_count(&stage), 20);
    file_stage_fini(&stage);
}

/* Sealed segments as they would be on disk, but for the payloads, which an open does not read. */
static uint32_t forge_segment(file_stage *stage, int fd, const kvt_uuid *uuid, uint32_t segment)
{
    uint64_t segment_bytes = stage->options.segment_bytes;
    uint32_t count = 0;
    uint8_t block[KVT_BLOCK_BYTES];
    uint8_t *entries = calloc(1, kvt_footer_bytes(kvt_footer_count_max(segment_bytes)));
    uint64_t generation = UINT64_C(1) << 32 | (segment + 1);
    uint64_t start = segment * segment_bytes;
    kvt_segment_header header = {.segment = segment, .mark = KVT_SEGMENT_MARK_OPEN, .generation = generation};
    kvt_segment_header_encode(uuid, &header, block);
    cr_assert_eq(pwrite(fd, block, sizeof block, (off_t)start), (ssize_t)sizeof block);
    for (uint32_t at = 1; at + 2 <= kvt_segment_end_block(segment_bytes, count + 1); at += 2) {
        kvt_footer_entry entry = {.seq = count + 1, .block = at};
        entry.record.raw_bytes = entry.record.stored_bytes = 3000;
        kvt_store_le64(entry.record.key.bytes, segment * UINT64_C(2048) + count);
        kvt_footer_entry_encode(&entry, entries + (size_t)count++ * KVT_FOOTER_ENTRY_BYTES);
    }
    kvt_footer_trailer trailer = {.segment = segment,
                                  .count = count,
                                  .generation = generation,
                                  .last_seq = count,
                                  .entries_crc = kvt_crc32c(0, entries, kvt_footer_bytes(count))};
    kvt_footer_trailer_encode(uuid, segment_bytes, &trailer, block);
    off_t end = (off_t)(start + segment_bytes - KVT_BLOCK_BYTES);
    ssize_t bytes = (ssize_t)kvt_footer_bytes(count);
    cr_assert_eq(pwrite(fd, block, sizeof block, end), (ssize_t)sizeof block);
    cr_assert_eq(pwrite(fd, entries, (size_t)bytes, end - bytes), bytes);
    free(entries);
    return count;
}

/* The figure is for people; the machine is shared. */
KVT_TEST(file_store, a_hundred_thousand_records_are_found_again)
{
    file_stage stage;
    char path[600];
    uint32_t count = 0;
    file_stage_init(&stage, false, 1100 * MIB);
    file_stage_resize(&stage, 1 << 18);
    stage.options.segment_bytes = 16 * MIB;
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    kvt_uuid uuid = ((kvt_file *)stage.tier)->super.uuid;
    file_stage_close(&stage);
    snprintf(path, sizeof path, "%s/data.0", stage.options.path);
    int fd = open(path, O_WRONLY);
    for (uint32_t segment = 0; count < 100000; segment++)
        count += forge_segment(&stage, fd, &uuid, segment);
    cr_assert_eq(fsync(fd), 0);
    close(fd);
    uint64_t start_ns = kvt_now_ns();
    cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
    fprintf(stderr, "open with %u records of 3000 bytes: %.3f s\n", count, (double)(kvt_now_ns() - start_ns) / 1e9);
    cr_assert_eq(file_stage_count(&stage), count);
    file_stage_fini(&stage);
}
