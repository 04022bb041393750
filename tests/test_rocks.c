/* SPDX-License-Identifier: Apache-2.0
 *
 * What is special to the rocks tier, behind the conformance suite: its bytes, what a kill leaves, foreign and newer
 * stores. Linked with the module's files, so that stores can be made that the tier itself would never write.
 */
#include "tests/support.h"
#include "tests/tier_rig.h"
#include "tiers/rocks_db.h"
#include "tiers/rocks_module.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Checksums of the example in docs/format_rocks.md. */
#define DOC_VALUE_CRC 0x62a1e40eu
#define DOC_ROW_CRC   0x99b6591du
#define DOC_ROOT_CRC  0x763849abu

static rig the_rig;

/* The tier that is linked into this test, under the id of the one that is loaded. */
static rig *open_rig(uint64_t bytes_max, uint64_t blob_bytes_max)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    cr_assert(rig_init(&the_rig, &rig_rocks, bytes_max, blob_bytes_max));
    return &the_rig;
}

/* ---- bytes ---- */

static void example(kvt_record *record, uint64_t *digests)
{
    static uint8_t payload[3000];
    rig_record(record, 5, sizeof payload);
    kvt_test_fill(payload, sizeof payload, 5);
    kvt_frame_digests(payload, sizeof payload, digests);
    record->hash = kvt_payload_hash(digests, 1);
}

KVT_TEST(rocks_format, fields_lie_where_the_document_says)
{
    kvt_record record;
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    example(&record, digests);
    uint8_t value[KVT_ROCKS_PREFIX_BYTES_MAX];
    cr_assert_eq(kvt_rocks_prefix_encode(&record, digests, 1, value), 72);
    cr_assert_eq(memcmp(value, "KVTROCK1", 8), 0);
    cr_assert_eq(kvt_load_le32(value + 8), 0);
    cr_assert_eq(kvt_load_le32(value + 16), 3000);
    cr_assert_eq(kvt_load_le32(value + 20), 3000);
    cr_assert_eq(kvt_load_le32(value + 24), 1);
    cr_assert_eq(kvt_load_le32(value + 28), 5);
    cr_assert_eq(memcmp(value + 32, record.hash.bytes, 16), 0);
    cr_assert_eq(kvt_load_le64(value + 48), record.token_fp);
    cr_assert_eq(kvt_load_le32(value + 56), 15);
    cr_assert_eq(kvt_load_le32(value + 60), 0x80000301u);
    cr_assert_eq(kvt_load_le64(value + 64), digests[0]);

    kvt_rocks_row row = {record, 0x01020304, 7};
    uint8_t bytes[KVT_ROCKS_ROW_BYTES];
    kvt_rocks_row_encode(&row, bytes);
    cr_assert_eq(kvt_load_le32(bytes), 0x01020304);
    cr_assert_eq(bytes[12] | bytes[13] << 8, 1);
    cr_assert_eq(bytes[14] | bytes[15] << 8, 0x301);
    cr_assert_eq(memcmp(bytes + 32, record.parent.bytes, 16), 0);
    cr_assert_eq(kvt_load_le32(bytes + 64), 7);
    cr_assert_eq(kvt_load_le32(bytes + 72), 0);

    kvt_rocks_root root = {UINT64_C(1) << 33, 8};
    uint8_t root_bytes[KVT_ROCKS_ROOT_BYTES];
    kvt_rocks_root_encode(&root, root_bytes);
    cr_assert_eq(memcmp(root_bytes, "KVTROOT1", 8), 0);
    cr_assert_eq(kvt_load_le64(root_bytes + 16), UINT64_C(1) << 33);
    cr_assert_eq(kvt_load_le32(root_bytes + 24), 8);
}

/* The vectors of docs/format_rocks.md: checksums over these very bytes. */
KVT_TEST(rocks_format, the_documented_example_holds)
{
    kvt_record record;
    memset(&record, 0, sizeof record);
    for (uint8_t i = 0; i < 16; i++) {
        record.space.bytes[i] = i;
        record.key.bytes[i] = (uint8_t)(0x10 + i);
        record.parent.bytes[i] = (uint8_t)(0x20 + i);
        record.hash.bytes[i] = (uint8_t)(0x30 + i);
    }
    record.token_fp = UINT64_C(0x1122334455667788);
    record.raw_bytes = 1000, record.stored_bytes = 900;
    record.codec = 1, record.flags = 0x101, record.depth = 2, record.cost_us = 3;
    uint8_t value[KVT_ROCKS_PREFIX_BYTES_MAX], row_bytes[KVT_ROCKS_ROW_BYTES], root_bytes[KVT_ROCKS_ROOT_BYTES];
    kvt_rocks_row row = {record, 4, 5};
    kvt_rocks_root root = {UINT64_C(1) << 32, 8};
    cr_assert_eq(kvt_rocks_prefix_encode(&record, NULL, 0, value), 64);
    kvt_rocks_row_encode(&row, row_bytes);
    kvt_rocks_root_encode(&root, root_bytes);
    cr_assert_eq(kvt_load_le32(value + 12), DOC_VALUE_CRC, "%08x", kvt_load_le32(value + 12));
    cr_assert_eq(kvt_load_le32(row_bytes + 76), DOC_ROW_CRC, "%08x", kvt_load_le32(row_bytes + 76));
    cr_assert_eq(kvt_load_le32(root_bytes + 12), DOC_ROOT_CRC, "%08x", kvt_load_le32(root_bytes + 12));
}

KVT_TEST(rocks_format, every_flipped_bit_is_noticed)
{
    kvt_record record;
    uint64_t digests[KVT_RECORD_FRAMES_MAX], back[KVT_RECORD_FRAMES_MAX];
    uint32_t count;
    const uint8_t *payload;
    example(&record, digests);
    uint8_t value[72 + 3000], key[KVT_ROCKS_KEY_BYTES], row_bytes[KVT_ROCKS_ROW_BYTES],
        root_bytes[KVT_ROCKS_ROOT_BYTES];
    memset(value, 0, sizeof value);
    kvt_rocks_prefix_encode(&record, digests, 1, value);
    cr_assert_eq(kvt_rocks_value_decode(&record, value, sizeof value, back, &count, &payload), KVT_OK);
    cr_assert(count == 1 && payload == value + 72 && back[0] == digests[0]);
    for (uint32_t bit = 0; bit < 72 * 8; bit++) {
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(kvt_rocks_value_decode(&record, value, sizeof value, back, &count, &payload), KVT_CORRUPT, "%u",
                     bit);
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t size = 0; size < sizeof value; size += size < 80 ? 1 : 97)
        cr_assert_eq(kvt_rocks_value_decode(&record, value, size, back, &count, &payload), KVT_CORRUPT);
    record.key.bytes[0] ^= 1;
    cr_assert_eq(kvt_rocks_value_decode(&record, value, sizeof value, back, &count, &payload), KVT_CORRUPT,
                 "another key");
    record.key.bytes[0] ^= 1;

    kvt_rocks_row row = {record, 3, 4}, row_back;
    kvt_rocks_row_encode(&row, row_bytes);
    kvt_rocks_key_encode(&record, key);
    cr_assert_eq(kvt_rocks_row_decode(key, sizeof key, row_bytes, sizeof row_bytes, &row_back), KVT_OK);
    cr_assert_eq(memcmp(&row_back.record, &record, sizeof record), 0);
    cr_assert(row_back.generation == 3 && row_back.sequence == 4);
    for (uint32_t bit = 0; bit < sizeof row_bytes * 8; bit++) {
        row_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(kvt_rocks_row_decode(key, sizeof key, row_bytes, sizeof row_bytes, &row_back), KVT_CORRUPT);
        row_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    key[31] ^= 1;
    cr_assert_eq(kvt_rocks_row_decode(key, sizeof key, row_bytes, sizeof row_bytes, &row_back), KVT_CORRUPT);

    kvt_rocks_root root = {1 << 30, 8};
    kvt_rocks_root_encode(&root, root_bytes);
    for (uint32_t bit = 0; bit < sizeof root_bytes * 8; bit++) {
        root_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(kvt_rocks_root_decode(root_bytes, sizeof root_bytes, &root),
                     bit / 32 == 2 ? KVT_VERSION : KVT_CORRUPT);
        root_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

KVT_TEST(rocks_format, what_it_cannot_hold_is_refused)
{
    rig *r = open_rig(0, 1 << 20);
    for (int field = 0; field < 2; field++) {
        rig_op *o = rig_write_new(r, 1, 5000);
        *(field == 0 ? &o->op.record.codec : &o->op.record.flags) = 0x10000;
        rig_submit(o), rig_wait(o);
        cr_assert_eq(o->op.status, KVT_INVALID);
        rig_free(o);
    }
    rig_fini(r);
}

/* ---- records under one key ---- */

KVT_TEST(rocks, a_key_stored_again_outlives_the_drop_of_the_first)
{
    rig *r = open_rig(0, 1 << 20);
    cr_assert_eq(rig_put(r, 1, 50000), KVT_OK);
    kvt_place first = r->places[1];
    cr_assert_eq(rig_put(r, 1, 50000), KVT_OK);
    cr_assert_neq(r->places[1].where, first.where);
    kvt_tier_drop(r->tier, &first, 1);
    cr_assert_eq(kvt_tier_flush(r->tier), KVT_OK);
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    rig_close(r);
    cr_assert_eq(rig_open(r), KVT_OK);
    cr_assert_eq(r->recovered, 1);
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    rig_fini(r);
}

KVT_TEST(rocks, a_dropped_record_is_a_miss_and_stays_away)
{
    rig *r = open_rig(0, 1 << 20);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(rig_put(r, i, 50000), KVT_OK);
    for (uint32_t i = 0; i < 10; i += 2) {
        rig_drop(r, i);
        cr_assert_eq(rig_get(r, i), KVT_MISS);
    }
    rig_close(r);
    cr_assert_eq(rig_open(r), KVT_OK);
    cr_assert_eq(r->recovered, 5);
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(r->recovered_ids[i], 2 * i + 1);
    rig_fini(r);
}

/* The shape of a store is its own, whatever a later open asks for. */
KVT_TEST(rocks, a_store_keeps_its_size)
{
    rig *r = open_rig(32 << 20, 1 << 16);
    rig_close(r);
    r->options.bytes_max = 64 << 20;
    cr_assert_eq(rig_open(r), KVT_OK);
    kvt_tier_stats stats;
    kvt_tier_get_stats(r->tier, &stats);
    cr_assert_eq(stats.capacity_bytes, 32 << 20);
    rig_fini(r);
}

KVT_TEST(rocks, a_store_too_small_is_refused_before_anything_is_made)
{
    rig *r = open_rig(0, 1 << 16);
    rig_close(r);
    kvt_test_rmtree(r->path);
    cr_assert_eq(mkdir(r->path, 0700), 0);
    r->options.bytes_max = 15 << 20;
    cr_assert_eq(rig_open(r), KVT_INVALID);
    r->options.bytes_max = 64 << 20;
    r->options.blob_bytes_max = 20 << 20;
    cr_assert_eq(rig_open(r), KVT_INVALID);
    cr_assert_eq(rmdir(r->path), 0, "the folder is still empty");
    cr_assert_eq(mkdir(r->path, 0700), 0);
    rig_fini(r);
}

/* ---- a kill ---- */

enum { KILL_RECORDS = 3000, KILL_BYTES = 40000, KILL_ROUNDS = 3 };

/* Shared by parent and children. */
typedef struct kill_board {
    _Atomic uint32_t round;        /* whose turn it is, 0: nobody's yet */
    _Atomic uint32_t acknowledged; /* by the child whose turn it is */
} kill_board;

/* A child: writes when its turn comes, until it is killed. */
static void write_until_killed(rig *r, kill_board *board, uint32_t round)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (board->round != round)
        usleep(1000);
    /* memory of a pool is not inherited: images of the child come from one of its own */
    if (kvt_pool_create(RIG_POOL_BYTES, 1, NULL, &r->pool) != KVT_OK)
        _exit(1);
    r->options.pool = kvt_pool_base(r->pool, &r->options.pool_bytes);
    if (rig_open(r) != KVT_OK)
        _exit(2);
    for (uint32_t i = 0; i < KILL_RECORDS; i++) {
        if (rig_put(r, i, KILL_BYTES) == KVT_OK)
            board->acknowledged = i + 1;
    }
    for (;;)
        pause();
}

static void kill_one(kill_board *board, uint32_t round, pid_t child)
{
    uint32_t until = 300 + 400 * (round - 1);
    board->acknowledged = 0;
    board->round = round;
    bool ended = false;
    for (int ms = 0; ms < 15000 && board->acknowledged < until && !ended; ms++) {
        usleep(1000);
        ended = waitpid(child, NULL, WNOHANG) != 0;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert(!ended && board->acknowledged >= until, "the child ended early, or was too slow");
}

/* All children are forked before this process starts RocksDB, whose threads a fork would not copy. */
KVT_TEST(rocks, a_kill_leaves_a_store_of_whole_records)
{
    kvt_tier_ops_replace(KVT_TIER_ROCKS, kvt_rocks_module_get()->ops);
    rig *r = &the_rig;
    cr_assert(rig_prepare(r, &rig_rocks, 24 << 20, 1 << 16));
    kill_board *board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[KILL_ROUNDS + 1];
    for (uint32_t round = 1; round <= KILL_ROUNDS; round++) {
        children[round] = fork();
        if (children[round] == 0)
            write_until_killed(r, board, round);
    }
    for (uint32_t i = 0; i < KILL_RECORDS; i++)
        rig_expect(r, i, KILL_BYTES);
    for (uint32_t round = 1; round <= KILL_ROUNDS; round++) {
        kill_one(board, round, children[round]);
        memset(r->states, 0, sizeof r->states);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_gt(r->recovered, 0, "what was flushed is there");
        for (uint32_t i = 0; i < r->recovered; i++)
            cr_assert_eq(rig_get(r, r->recovered_ids[i]), KVT_OK, "a row whose value is missing or wrong");
        cr_assert_leq(rig_disk_bytes(r), r->options.bytes_max);
        rig_close(r);
    }
    munmap(board, 4096);
    rig_fini(r);
}

/* ---- stores of others ---- */

static kvt_rocks_db *raw_open(rig *r, uint32_t *count, kvt_rocks_found *found)
{
    char path[600];
    snprintf(path, sizeof path, "%s/rocks", r->path);
    kvt_rocks_db_config config = {.directory = path, .write_buffer_bytes = 1 << 20};
    kvt_rocks_db *db;
    cr_assert_eq(kvt_rocks_db_open(&config, found, count, &db), KVT_OK, "%s", kvt_last_error());
    return db;
}

static void raw_close(kvt_rocks_db *db, uint32_t count, kvt_rocks_found *found)
{
    for (uint32_t i = 0; i < count; i++)
        kvt_rocks_db_generation_close(found[i].cf);
    kvt_rocks_db_close(db);
}

KVT_TEST(rocks, a_newer_store_is_left_alone)
{
    rig *r = open_rig(0, 1 << 20);
    cr_assert_eq(rig_put(r, 1, 20000), KVT_OK);
    rig_close(r);
    kvt_rocks_found found[KVT_ROCKS_GENERATIONS_MAX + 2];
    uint32_t count;
    kvt_rocks_db *db = raw_open(r, &count, found);
    uint8_t root[KVT_ROCKS_ROOT_BYTES], newer[KVT_ROCKS_ROOT_BYTES];
    size_t size;
    cr_assert_eq(kvt_rocks_db_root_get(db, root, sizeof root, &size), KVT_OK);
    memcpy(newer, root, sizeof newer);
    kvt_store_le32(newer + 8, 9);
    cr_assert_eq(kvt_rocks_db_root_put(db, newer), KVT_OK);
    raw_close(db, count, found);
    r->options.reset_corrupt = true;
    cr_assert_eq(rig_open(r), KVT_VERSION, "%s", kvt_last_error());
    db = raw_open(r, &count, found);
    cr_assert_eq(count, 1);
    cr_assert_eq(kvt_rocks_db_root_put(db, root), KVT_OK);
    raw_close(db, count, found);
    cr_assert_eq(rig_open(r), KVT_OK);
    cr_assert_eq(r->recovered, 1);
    rig_fini(r);
}

KVT_TEST(rocks, rows_without_their_generation_or_value_do_no_harm)
{
    rig *r = open_rig(0, 1 << 20);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(rig_put(r, i, 20000), KVT_OK);
    rig_close(r);
    kvt_rocks_found found[KVT_ROCKS_GENERATIONS_MAX + 2];
    uint32_t count;
    kvt_rocks_db *db = raw_open(r, &count, found);
    kvt_rocks_row stray = {.generation = 77, .sequence = 1};
    rig_record(&stray.record, 50, 20000);
    r->records[50] = stray.record;
    uint8_t nothing[64] = {0};
    cr_assert_eq(kvt_rocks_db_put(db, found[0].cf, nothing, sizeof nothing, &stray), KVT_OK);
    stray.generation = found[0].number, stray.sequence = 900;
    rig_record(&stray.record, 51, 20000);
    r->records[51] = stray.record;
    cr_assert_eq(kvt_rocks_db_put(db, found[0].cf, nothing, sizeof nothing, &stray), KVT_OK);
    raw_close(db, count, found);
    cr_assert_eq(rig_open(r), KVT_OK);
    cr_assert_eq(r->recovered, 4, "the row of a generation that is gone is not told of");
    cr_assert_eq(rig_get(r, 51), KVT_MISS, "a value that is not its own");
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(rig_get(r, i), KVT_OK);
    kvt_tier_stats stats;
    kvt_tier_get_stats(r->tier, &stats);
    cr_assert_eq(stats.corrupt_records, 1);
    rig_fini(r);
}
