/* SPDX-License-Identifier: Apache-2.0
 *
 * What may happen to a rocks store from outside: forked children, damaged files, a full disk; and what is removed for
 * good. The process must live through all of it. Linked with the module's files, as test_rocks.c.
 */
#include "tests/support.h"
#include "tests/tier_rig.h"
#include "tiers/rocks_module.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static rig the_rig;

static rig *open_rig(uint64_t bytes_max, uint64_t blob_bytes_max)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    cr_assert(rig_init(&the_rig, &rig_rocks, bytes_max, blob_bytes_max));
    return &the_rig;
}

/* ---- removal for good ---- */

KVT_TEST(rocks, an_erased_record_is_gone_for_good)
{
    enum { COUNT = 40, BYTES = 60000 };
    rig *r = open_rig(24 << 20, 1 << 16);
    kvt_place places[COUNT / 2];
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert_eq(rig_put(r, i, BYTES), KVT_OK);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        places[i / 2] = r->places[i];
        r->states[i] = RIG_DROPPED;
    }
    for (int twice = 0; twice < 2; twice++)
        cr_assert_eq(kvt_tier_erase(r->tier, places, COUNT / 2), KVT_OK, "%s", kvt_last_error());
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert_eq(rig_get(r, i), i % 2 == 0 ? KVT_MISS : KVT_OK);
    rig_close(r);
    r->options.read_only = true;
    cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(r->recovered, COUNT / 2);
    for (uint32_t i = 0; i < r->recovered; i++)
        cr_assert_eq(r->recovered_ids[i] % 2, 1, "record %u is back", r->recovered_ids[i]);
    cr_assert_eq(kvt_tier_erase(r->tier, &r->places[1], 1), KVT_REJECTED);
    rig_fini(r);
}

/* Without a clean close too: nothing is left in memory only. */
KVT_TEST(rocks, an_erased_record_stays_away_after_a_kill)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    rig *r = &the_rig;
    cr_assert(rig_prepare(r, &rig_rocks, 24 << 20, 1 << 16));
    rig_expect(r, 1, 60000), rig_expect(r, 2, 60000);
    pid_t child = fork();
    if (child == 0) {
        /* memory of a pool is not inherited */
        bool good = kvt_pool_create(RIG_POOL_BYTES, 1, NULL, &r->pool) == KVT_OK;
        r->options.pool = kvt_pool_base(r->pool, &r->options.pool_bytes);
        good = good && rig_open(r) == KVT_OK && rig_put(r, 1, 60000) == KVT_OK && rig_put(r, 2, 60000) == KVT_OK &&
               kvt_tier_flush(r->tier) == KVT_OK && kvt_tier_erase(r->tier, &r->places[1], 1) == KVT_OK;
        if (good)
            raise(SIGKILL);
        _exit(1);
    }
    int how = 0;
    waitpid(child, &how, 0);
    cr_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL, "the child failed");
    cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(r->recovered, 1);
    cr_assert_eq(r->recovered_ids[0], 2);
    rig_fini(r);
}

/* ---- a forked child ---- */

KVT_TEST(rocks, a_child_that_lives_on_does_not_hold_the_store)
{
    rig *r = open_rig(0, 1 << 20);
    cr_assert_eq(rig_put(r, 1, 20000), KVT_OK);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    for (int round = 0; round < 2; round++) {
        rig_close(r);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(rig_get(r, 1), KVT_OK);
    }
    cr_assert_eq(kill(child, SIGKILL), 0);
    waitpid(child, NULL, 0);
    rig_fini(r);
}

/* The child's copy is closed, not unlocked: the parent's lock holds. */
KVT_TEST(rocks, a_child_that_ends_leaves_the_parent_its_store)
{
    rig *r = open_rig(0, 1 << 20);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    kvt_tier *second = NULL;
    cr_assert_eq(kvt_tier_open(KVT_TIER_ROCKS, &r->options, &r->host, &second), KVT_BUSY);
    rig_fini(r);
}

/* ---- damage ---- */

enum { EACH_FILE = -1, NO_FILE = -2 };

/* Flip a bit there in each file whose name ends so, or in the `only`-th of them; returns how many there are. */
static int damage_some(const rig *r, const char *ending, uint64_t at_millionth, int only)
{
    char folder[600], path[1200];
    snprintf(folder, sizeof folder, "%s/rocks", r->path);
    DIR *dir = opendir(folder);
    int count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name), tail = strlen(ending);
        if (length < tail || strcmp(entry->d_name + length - tail, ending) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        struct stat info;
        uint8_t byte;
        if (fd >= 0 && fstat(fd, &info) == 0 && info.st_size > 100) {
            off_t at = (off_t)((uint64_t)info.st_size * at_millionth / 1000000);
            cr_assert_eq(pread(fd, &byte, 1, at), 1);
            byte ^= 0x40;
            if (only == EACH_FILE || only == count)
                cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
            count++;
        }
        close(fd);
    }
    closedir(dir);
    return count;
}

static int damage_files(const rig *r, const char *ending, uint64_t at_permille)
{
    return damage_some(r, ending, at_permille * 1000, EACH_FILE);
}

KVT_TEST(rocks, damaged_values_never_pass_for_good_ones)
{
    rig *r = open_rig(0, 1 << 20);
    for (uint32_t i = 0; i < 12; i++)
        cr_assert_eq(rig_put(r, i, 20000), KVT_OK);
    rig_close(r);
    uint64_t seen = 0;
    for (uint64_t at = 30; at < 1000; at += 97) {
        cr_assert_gt(damage_files(r, ".blob", at), 0);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        for (uint32_t i = 0; i < 12; i++) {
            rig_op *o = rig_read_new(r, i);
            rig_submit(o), rig_wait(o);
            uint64_t digests[KVT_RECORD_FRAMES_MAX];
            kvt_frame_digests(o->op.image + KVT_HEADER_BYTES, 20000, digests);
            kvt_hash128 hash = kvt_payload_hash(digests, 1);
            bool right = kvt_hash128_equal(&hash, &o->op.record.hash);
            cr_assert(o->op.status == KVT_OK || o->op.status == KVT_MISS || o->op.status == KVT_IO);
            seen += o->op.status != KVT_OK || !right;
            rig_free(o);
        }
        rig_close(r);
    }
    cr_assert_gt(seen, 0);
    rig_fini(r);
}

/* A bit of a table is wrong, anywhere in it: a miss, an error, a store that says it is damaged; the process lives. Most
 * values lie in blob files, so that a table is little but keys. Opened read-only, the store stays as it was made. */
KVT_TEST(rocks, damaged_tables_end_no_process)
{
    rig *r = open_rig(0, 1 << 20);
    for (uint32_t i = 0; i < 60; i++)
        cr_assert_eq(rig_put(r, i, i % 20 == 0 ? 3000 : 10000), KVT_OK);
    rig_close(r);
    r->options.read_only = true;
    uint32_t failed = 0, refused = 0, tries = 0;
    uint64_t seed = kvt_test_seed("tables");
    int tables = damage_some(r, ".sst", 0, NO_FILE);
    for (; tries < 400; tries++) {
        uint64_t part = tries % 2 == 0 ? 1000000 : 8000; /* anywhere, or in the last bytes, which nothing covers */
        uint64_t at = 999999 - kvt_test_random(&seed) % part;
        int table = (int)(kvt_test_random(&seed) % (uint64_t)tables);
        cr_assert_eq(damage_some(r, ".sst", at, table), tables);
        kvt_status status = rig_open(r);
        refused += status != KVT_OK;
        for (uint32_t i = 0; status == KVT_OK && i < r->recovered; i++)
            failed += rig_get(r, r->recovered_ids[i]) != KVT_OK;
        rig_close(r);
        damage_some(r, ".sst", at, table); /* and back */
    }
    cr_assert(failed > 0 && refused > 0, "failed %u, refused %u", failed, refused);
    cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(r->recovered, 60);
    rig_fini(r);
}

KVT_TEST(rocks, a_broken_database_is_said_so_and_set_aside_on_request)
{
    rig *r = open_rig(0, 1 << 20);
    cr_assert_eq(rig_put(r, 1, 20000), KVT_OK);
    rig_close(r);
    char path[600];
    for (int round = 0; round < 2; round++) {
        snprintf(path, sizeof path, "%s/rocks/CURRENT", r->path);
        FILE *file = fopen(path, "w");
        fputs("MANIFEST-999999\n", file);
        fclose(file);
        r->options.reset_corrupt = false;
        cr_assert_lt(rig_open(r), 0, "%s", kvt_last_error());
        r->options.reset_corrupt = true;
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(r->recovered, 0);
        cr_assert_eq(rig_put(r, 2, 20000), KVT_OK);
        rig_close(r);
        snprintf(path, sizeof path, "%s/rocks.corrupt/CURRENT", r->path);
        cr_assert_eq(access(path, F_OK), 0);
    }
    rig_fini(r);
}

/* ---- a full disk ---- */

/* A small file system of its own for the rig's directory, in a mount namespace of this process. */
static bool mount_small(const rig *r)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", r->path, "tmpfs", MS_NOSUID | MS_NODEV, "size=40m,mode=700") == 0)
        return true;
    fprintf(stderr, "skipped: no file system can be mounted here\n");
    return false;
}

static void fill_disk(const rig *r, const char *name)
{
    static uint8_t block[1 << 16];
    char path[600];
    snprintf(path, sizeof path, "%s/%s", r->path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    for (size_t size = sizeof block; size >= 4096; size /= 2) {
        while (write(fd, block, size) > 0)
            ;
    }
    close(fd);
}

static void empty_disk(const rig *r, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", r->path, name);
    cr_assert_eq(unlink(path), 0);
}

static uint32_t put_many(rig *r, uint32_t from, uint32_t to)
{
    uint32_t taken = 0;
    for (uint32_t i = from; i < to; i++)
        taken += rig_put(r, i, 300000) == KVT_OK;
    return taken;
}

/* Without a log level that RocksDB can name it begins an OPTIONS file each time and does not finish it. */
KVT_TEST(rocks, the_folder_gathers_no_litter)
{
    rig *r = open_rig(16 << 20, 1 << 16);
    char folder[600];
    snprintf(folder, sizeof folder, "%s/rocks", r->path);
    for (uint32_t i = 0; i < 200; i++)
        cr_assert_eq(rig_put(r, i, 200000), KVT_OK);
    for (int round = 0; round < 3; round++) {
        int litter = 0;
        DIR *dir = opendir(folder);
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
            litter += strstr(entry->d_name, ".dbtmp") != NULL;
        closedir(dir);
        cr_assert_eq(litter, 0);
        rig_close(r);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
    }
    rig_fini(r);
}

/* Writes end with an error while there is no room, and go on by themselves when there is some. */
KVT_TEST(rocks_full, a_full_disk_refuses_writes_and_harms_nothing)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    rig *r = &the_rig;
    cr_assert(rig_prepare(r, &rig_rocks, 24 << 20, 1 << 16));
    bool small = mount_small(r);
    if (small) {
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(put_many(r, 0, 20), 20);
        fill_disk(r, "hog");
        cr_assert_lt(put_many(r, 20, 100), 80);
        for (uint32_t i = 0; i < 20; i++)
            cr_assert_eq(rig_get(r, i), KVT_OK, "what was there stays readable");
        empty_disk(r, "hog");
        sleep(2); /* the first pause */
        cr_assert_eq(put_many(r, 100, 120), 20);
    }
    rig_close(r);
    if (small)
        umount(r->path);
    rig_fini(r);
}

/* The same with room running out below RocksDB's feet: between a check and the flush of what is in memory. */
KVT_TEST(rocks_full, a_disk_that_fills_up_under_a_flush_is_survived)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    rig *r = &the_rig;
    cr_assert(rig_prepare(r, &rig_rocks, 24 << 20, 1 << 16));
    bool small = mount_small(r);
    for (uint32_t round = 0; small && round < 6; round++) {
        memset(r->states, 0, sizeof r->states);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_gt(put_many(r, 100 * round, 100 * round + 3 + 7 * round), 0);
        fill_disk(r, "hog");
        (void)kvt_tier_flush(r->tier);
        cr_assert_eq(put_many(r, 1000, 1060), 0);
        (void)kvt_tier_flush(r->tier);
        rig_close(r);
        empty_disk(r, "hog");
    }
    if (small) {
        memset(r->states, 0, sizeof r->states);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        for (uint32_t i = 0; i < r->recovered; i++)
            cr_assert_eq(rig_get(r, r->recovered_ids[i]), KVT_OK);
    }
    rig_close(r);
    if (small)
        umount(r->path);
    rig_fini(r);
}
