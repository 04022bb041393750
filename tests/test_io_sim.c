/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated disk itself: it must lose what may be lost, and nothing else.
 */
#include "tests/support.h"
#include "tiers/io_sim.h"

#include <errno.h>

enum { KIB = 1 << 10, MIB = 1 << 20, BLOCK = 4096, BLOCKS = 64 };

typedef struct host {
    kvt_sim_disk *disk;
    kvt_io *io;
    kvt_io_file file;
} host;

static void open_host(host *h)
{
    kvt_io_config config = {.sim = h->disk};
    cr_assert_eq(kvt_io_sim_ops.open("", false, &config, &h->io), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(h->io->ops->open_file(h->io, "data", KVT_IO_FILE_CREATE | KVT_IO_FILE_LOCK, &h->file, NULL), KVT_OK,
                 "%s", kvt_last_error());
}

/* A file of BLOCKS blocks of zeros that is there for good. */
static host make_host(uint64_t seed)
{
    host h = {.disk = kvt_sim_create(seed)};
    open_host(&h);
    cr_assert_eq(h.io->ops->allocate(h.io, h.file, BLOCKS * BLOCK), KVT_OK);
    cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
    cr_assert_eq(h.io->ops->sync_directory(h.io), KVT_OK);
    return h;
}

static void close_host(host *h)
{
    h->io->ops->close(h->io);
    kvt_sim_destroy(h->disk);
}

static void write_block(host *h, uint32_t block, uint8_t value)
{
    static uint8_t memory[BLOCK] __attribute__((aligned(BLOCK)));
    memset(memory, value, BLOCK);
    cr_assert_eq(kvt_io_write_sync(h->io, h->file, (uint64_t)block * BLOCK, memory, BLOCK), KVT_OK, "%s",
                 kvt_last_error());
}

/* The value all bytes of a block have; 256: mixed. */
static uint32_t value_of(kvt_sim_disk *disk, uint32_t block)
{
    uint8_t memory[BLOCK];
    cr_assert(kvt_sim_file_read(disk, "data", (uint64_t)block * BLOCK, memory, BLOCK));
    for (uint32_t i = 1; i < BLOCK; i++) {
        if (memory[i] != memory[0])
            return 256;
    }
    return memory[0];
}

static void reopen(host *h)
{
    h->io->ops->close(h->io);
    open_host(h);
}

static const kvt_sim_crash_options lose_all = {.power = true, .drop_percent = 100};
static const kvt_sim_crash_options process_only = {.power = false, .drop_percent = 50, .tear_percent = 50};

/* ---- crashes ---- */

KVT_TEST(io_sim, power_loss_takes_what_was_not_synced)
{
    host h = make_host(1);
    write_block(&h, 0, 1);
    cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
    write_block(&h, 0, 2);
    write_block(&h, 1, 3);
    cr_assert_eq(value_of(h.disk, 0), 2);
    kvt_sim_crash(h.disk, &lose_all);
    reopen(&h);
    cr_assert_eq(value_of(h.disk, 0), 1);
    cr_assert_eq(value_of(h.disk, 1), 0);
    close_host(&h);
}

KVT_TEST(io_sim, the_death_of_the_process_takes_nothing_that_completed)
{
    host h = make_host(1);
    for (uint32_t i = 0; i < BLOCKS; i++)
        write_block(&h, i, (uint8_t)(i + 1));
    kvt_sim_crash(h.disk, &process_only);
    reopen(&h);
    for (uint32_t i = 0; i < BLOCKS; i++)
        cr_assert_eq(value_of(h.disk, i), i + 1);
    kvt_sim_crash(h.disk, &lose_all); /* still only in the device's cache */
    for (uint32_t i = 0; i < BLOCKS; i++)
        cr_assert_eq(value_of(h.disk, i), 0);
    close_host(&h);
}

KVT_TEST(io_sim, a_dead_context_changes_nothing)
{
    host h = make_host(1);
    kvt_sim_crash(h.disk, &process_only);
    kvt_io *old = h.io;
    kvt_io_file old_file = h.file;
    open_host(&h); /* the lock is free */
    static uint8_t memory[BLOCK] __attribute__((aligned(BLOCK))) = {9};
    cr_assert_eq(kvt_io_write_sync(old, old_file, 0, memory, BLOCK), KVT_IO);
    cr_assert_eq(kvt_io_read_sync(old, old_file, 0, memory, BLOCK), KVT_IO);
    cr_assert_eq(kvt_io_sync(old, old_file), KVT_IO);
    cr_assert_eq(old->ops->allocate(old, old_file, MIB), KVT_IO);
    cr_assert_eq(old->ops->unlink(old, "data"), KVT_IO);
    cr_assert_eq(value_of(h.disk, 0), 0);
    old->ops->close(old);
    kvt_io_file again;
    kvt_io_config config = {.sim = h.disk};
    kvt_io *second;
    cr_assert_eq(kvt_io_sim_ops.open("", false, &config, &second), KVT_OK);
    cr_assert_eq(second->ops->open_file(second, "data", KVT_IO_FILE_LOCK, &again, NULL), KVT_BUSY,
                 "closing a dead context freed the lock of the living");
    second->ops->close(second);
    close_host(&h);
}

KVT_TEST(io_sim, a_failed_sync_is_never_made_good)
{
    host h = make_host(1);
    write_block(&h, 0, 1);
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.sync_error = 1000000});
    cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_IO);
    kvt_sim_set_rates(h.disk, NULL);
    cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
    kvt_sim_crash(h.disk, &lose_all);
    cr_assert_eq(value_of(h.disk, 0), 0);
    close_host(&h);
}

/* Over many seeds, each block must hold the synced value or a later one, and every kind of outcome must occur. */
KVT_TEST(io_sim, a_crash_keeps_old_new_or_torn_and_nothing_else)
{
    uint32_t old = 0, new = 0, torn = 0, newest = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        host h = make_host(seed);
        for (uint32_t i = 0; i < 16; i++)
            write_block(&h, i, 1);
        cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
        for (uint32_t i = 0; i < 16; i++) {
            write_block(&h, i, 2);
            write_block(&h, i, 3);
        }
        kvt_sim_crash(h.disk, &(kvt_sim_crash_options){true, 40, 30, 30});
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t value = value_of(h.disk, i);
            cr_assert(value == 1 || value == 2 || value == 3 || value == 256, "block %u: %u", i, value);
            old += value == 1;
            new += value == 2;
            newest += value == 3;
            torn += value == 256;
        }
        close_host(&h);
    }
    cr_assert(old > 50 && new > 50 && newest > 50 && torn > 50, "%u %u %u %u", old, new, newest, torn);
}

static void count_done(kvt_io_op *op) { ++*(uint32_t *)op->arg; }

KVT_TEST(io_sim, writes_in_flight_land_tear_or_vanish)
{
    uint32_t old = 0, new = 0, torn = 0, done = 0;
    static uint8_t memory[BLOCK] __attribute__((aligned(BLOCK)));
    memset(memory, 7, sizeof memory);
    for (uint64_t seed = 0; seed < 100; seed++) {
        host h = make_host(seed);
        kvt_sim_set_mode(h.disk, KVT_SIM_STEPPED);
        kvt_io_op op = {
            .verb = KVT_IO_WRITE, .file = h.file, .bytes = BLOCK, .memory = memory, .done = count_done, .arg = &done};
        h.io->ops->submit(h.io, &op);
        cr_assert_eq(value_of(h.disk, 0), 0, "nothing happens before a step");
        kvt_sim_crash(h.disk, &process_only);
        kvt_sim_run(h.disk);
        cr_assert_eq(done, seed + 1);
        cr_assert_eq(op.status, KVT_IO);
        uint32_t value = value_of(h.disk, 0);
        cr_assert(value == 0 || value == 7 || value == 256);
        old += value == 0;
        new += value == 7;
        torn += value == 256;
        close_host(&h);
    }
    cr_assert(old > 20 && new > 10 && torn > 10, "%u %u %u", old, new, torn);
}

/* ---- names and sizes ---- */

KVT_TEST(io_sim, names_need_a_directory_sync)
{
    host h = make_host(3);
    kvt_io_file file;
    cr_assert_eq(h.io->ops->open_file(h.io, "tmp", KVT_IO_FILE_CREATE | KVT_IO_FILE_BUFFERED, &file, NULL), KVT_OK);
    cr_assert_eq(kvt_io_write_sync(h.io, file, 0, "new", 3), KVT_OK);
    cr_assert_eq(kvt_io_sync(h.io, file), KVT_OK);
    cr_assert_eq(h.io->ops->rename(h.io, "tmp", "named"), KVT_OK);
    uint32_t kept = 0, lost = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        kvt_sim_disk *copy = kvt_sim_clone(h.disk, seed);
        kvt_sim_crash(copy, &lose_all);
        bool named = kvt_sim_file_bytes(copy, "named") != UINT64_MAX,
             tmp = kvt_sim_file_bytes(copy, "tmp") != UINT64_MAX;
        cr_assert(!(named && tmp), "a rename is atomic");
        kept += named;
        lost += !named && !tmp;
        kvt_sim_destroy(copy);
    }
    cr_assert(kept > 0 && lost > 0, "%u %u", kept, lost);
    cr_assert_eq(h.io->ops->sync_directory(h.io), KVT_OK);
    kvt_sim_crash(h.disk, &lose_all);
    cr_assert_eq(kvt_sim_file_bytes(h.disk, "named"), 3);
    close_host(&h);
}

KVT_TEST(io_sim, sizes_need_a_sync)
{
    host h = make_host(3);
    cr_assert_eq(h.io->ops->allocate(h.io, h.file, 2 * BLOCKS * BLOCK), KVT_OK);
    kvt_sim_disk *copy = kvt_sim_clone(h.disk, 1);
    kvt_sim_crash(copy, &lose_all);
    cr_assert_eq(kvt_sim_file_bytes(copy, "data"), BLOCKS * BLOCK);
    kvt_sim_destroy(copy);
    cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
    kvt_sim_crash(h.disk, &lose_all);
    cr_assert_eq(kvt_sim_file_bytes(h.disk, "data"), 2 * BLOCKS * BLOCK);
    close_host(&h);
}

KVT_TEST(io_sim, a_cut_file_grows_again_as_zeros)
{
    host h = make_host(3);
    write_block(&h, 1, 5);
    cr_assert_eq(h.io->ops->truncate(h.io, h.file, BLOCK + 512), KVT_OK);
    cr_assert_eq(h.io->ops->truncate(h.io, h.file, BLOCKS * BLOCK), KVT_OK);
    uint8_t memory[BLOCK];
    cr_assert(kvt_sim_file_read(h.disk, "data", BLOCK, memory, BLOCK));
    cr_assert(memory[0] == 5 && memory[511] == 5 && memory[512] == 0 && memory[BLOCK - 1] == 0);
    kvt_sim_crash(h.disk, &(kvt_sim_crash_options){.power = true});
    cr_assert(kvt_sim_file_read(h.disk, "data", BLOCK, memory, BLOCK));
    cr_assert(memory[0] == 5 && memory[511] == 5 && memory[512] == 0 && memory[BLOCK - 1] == 0);
    close_host(&h);
}

KVT_TEST(io_sim, a_full_disk_refuses_and_changes_nothing)
{
    host h = make_host(3);
    kvt_sim_set_capacity(h.disk, (BLOCKS + 1) * BLOCK);
    cr_assert_eq(h.io->ops->allocate(h.io, h.file, (BLOCKS + 2) * BLOCK), KVT_NOSPACE);
    cr_assert_eq(kvt_sim_file_bytes(h.disk, "data"), BLOCKS * BLOCK);
    write_block(&h, BLOCKS, 1);
    static uint8_t memory[BLOCK] __attribute__((aligned(BLOCK)));
    cr_assert_eq(kvt_io_write_sync(h.io, h.file, (BLOCKS + 1) * BLOCK, memory, BLOCK), KVT_NOSPACE);
    write_block(&h, 0, 1);
    close_host(&h);
}

/* ---- lies ---- */

static uint32_t blocks_with(kvt_sim_disk *disk, uint32_t value)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < BLOCKS; i++)
        count += value_of(disk, i) == value;
    return count;
}

KVT_TEST(io_sim, silent_faults_report_success)
{
    host h = make_host(4);
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.write_lost = 1000000});
    write_block(&h, 0, 1);
    cr_assert_eq(blocks_with(h.disk, 0), BLOCKS);
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.write_flip = 1000000});
    write_block(&h, 0, 0);
    cr_assert_eq(blocks_with(h.disk, 256), 1);
    kvt_sim_set_rates(h.disk, NULL);
    write_block(&h, 0, 0);
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.write_misdirect = 1000000});
    write_block(&h, 0, 9);
    cr_assert_eq(value_of(h.disk, 0), 0);
    cr_assert_lt(blocks_with(h.disk, 0), BLOCKS, "it went nowhere");
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.read_flip = 1000000});
    static uint8_t memory[BLOCK] __attribute__((aligned(BLOCK)));
    cr_assert_eq(kvt_io_read_sync(h.io, h.file, 0, memory, BLOCK), KVT_OK);
    uint32_t bits = 0;
    for (uint32_t i = 0; i < BLOCK; i++)
        bits += (uint32_t)__builtin_popcount(memory[i]);
    cr_assert_eq(bits, 1);
    close_host(&h);
}

/* ---- the same seed, the same disk ---- */

static uint64_t random_life(uint64_t seed)
{
    host h = make_host(seed);
    uint64_t random = seed, digest = 0;
    kvt_sim_set_rates(h.disk, &(kvt_sim_rates){.write_flip = 50000, .write_misdirect = 50000, .write_lost = 50000});
    for (int i = 0; i < 200; i++) {
        write_block(&h, (uint32_t)(kvt_test_random(&random) % BLOCKS), (uint8_t)i);
        if (kvt_test_random(&random) % 10 == 0)
            cr_assert_eq(kvt_io_sync(h.io, h.file), KVT_OK);
    }
    kvt_sim_disk *copy = kvt_sim_clone(h.disk, seed);
    kvt_sim_crash(copy, &(kvt_sim_crash_options){true, 50, 50, 50});
    for (uint64_t at = 0; at < BLOCKS * BLOCK; at += 8) {
        uint64_t word;
        cr_assert(kvt_sim_file_read(copy, "data", at, &word, 8));
        digest = digest * UINT64_C(0x100000001b3) + word;
    }
    kvt_sim_destroy(copy);
    digest += h.io->ops->random(h.io);
    close_host(&h);
    return digest;
}

KVT_TEST(io_sim, the_same_seed_gives_the_same_disk)
{
    cr_assert_eq(random_life(1), random_life(1));
    cr_assert_neq(random_life(1), random_life(2));
}
