/* SPDX-License-Identifier: Apache-2.0
 *
 * One list of demands on every I/O implementation: bytes arrive, completions come exactly once, refusals are clean.
 */
#include "tests/io_stage.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* ---- bytes ---- */

static void round_trips(io_stage *stage)
{
    static const uint64_t sizes[] = {4 * KIB,       8 * KIB,        64 * KIB,       MIB - 4 * KIB,     MIB,
                                     MIB + 4 * KIB, MIB + 64 * KIB, MIB + 68 * KIB, 4 * MIB + 4 * KIB, 20 * MIB};
    kvt_io *io = stage->io;
    cr_assert_eq(io->ops->allocate(io, stage->file, 24 * MIB), KVT_OK, "%s", kvt_last_error());
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t bytes = sizes[i], offset = 4096 * (i + 1);
        kvt_test_fill(stage->memory, bytes, i);
        memset(stage->other, 0xa5, bytes + 4096);
        cr_assert_eq(kvt_io_write_sync(io, stage->file, offset, stage->memory, bytes), KVT_OK, "%s: %s", stage->name,
                     kvt_last_error());
        cr_assert_eq(kvt_io_read_sync(io, stage->file, offset, stage->other, bytes), KVT_OK, "%s: %s", stage->name,
                     kvt_last_error());
        cr_assert_eq(memcmp(stage->memory, stage->other, bytes), 0, "%s: %zu: other bytes came back", stage->name, i);
        cr_assert_eq(stage->other[bytes], 0xa5, "%s: a read of %zu wrote behind its end", stage->name, i);
    }
    cr_assert_eq(kvt_io_sync(io, stage->file), KVT_OK);
}

KVT_TEST(io, bytes_of_any_size_come_back) { io_stage_each(round_trips); }

/* ---- many at once ---- */

enum { MANY = 300, MANY_BYTES = 64 * KIB };
typedef struct many {
    atomic_uint completions[MANY];
    atomic_uint total;
} many;

static void count_one(kvt_io_op *op)
{
    many *m = op->arg;
    atomic_fetch_add(&m->completions[op->offset / MANY_BYTES], 1);
    atomic_fetch_add(&m->total, 1);
}

static void wait_total(io_stage *stage, atomic_uint *total, uint32_t count)
{
    uint64_t deadline_ns = kvt_now_ns() + UINT64_C(20000000000);
    while (atomic_load(total) < count) {
        cr_assert_lt(kvt_now_ns(), deadline_ns, "%s: %u of %u completions came", stage->name, atomic_load(total),
                     count);
        sched_yield();
    }
}

static void submit_many(io_stage *stage, kvt_io_verb verb, uint8_t *memory)
{
    many *m = kvt_alloc(sizeof *m);
    kvt_io_op *ops = kvt_alloc_array(MANY, sizeof *ops);
    for (uint32_t i = 0; i < MANY; i++) {
        ops[i] = (kvt_io_op){.verb = verb,
                             .file = stage->file,
                             .offset = (uint64_t)i * MANY_BYTES,
                             .bytes = MANY_BYTES,
                             .memory = memory + (size_t)i * MANY_BYTES,
                             .done = count_one,
                             .arg = m,
                             .priority = i % 3 == 0,
                             .next = i % 7 == 6 || i + 1 == MANY ? NULL : &ops[i + 1]};
    }
    for (uint32_t i = 0; i < MANY; i += 7)
        stage->io->ops->submit(stage->io, &ops[i]);
    wait_total(stage, &m->total, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        cr_assert_eq(atomic_load(&m->completions[i]), 1, "%s: operation %u", stage->name, i);
        cr_assert_eq(ops[i].status, KVT_OK, "%s: operation %u: %d", stage->name, i, ops[i].system_error);
    }
    kvt_free(ops);
    kvt_free(m);
}

static void many_at_once(io_stage *stage)
{
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, (uint64_t)MANY * MANY_BYTES), KVT_OK);
    kvt_test_fill(stage->memory, (size_t)MANY * MANY_BYTES, 7);
    submit_many(stage, KVT_IO_WRITE, stage->memory);
    submit_many(stage, KVT_IO_READ, stage->other);
    cr_assert_eq(memcmp(stage->memory, stage->other, (size_t)MANY * MANY_BYTES), 0, "%s", stage->name);
}

KVT_TEST(io, many_operations_complete_once_each) { io_stage_each(many_at_once); }

/* ---- an operation that submits the next from its completion ---- */

typedef struct chain {
    io_stage *stage;
    kvt_io_op op;
    uint32_t left;
    atomic_uint finished;
} chain;

static void next_link(kvt_io_op *op)
{
    chain *c = op->arg;
    if (op->status == KVT_OK && --c->left != 0) {
        op->offset += 4096;
        op->verb = op->verb == KVT_IO_WRITE ? KVT_IO_READ : KVT_IO_WRITE;
        c->stage->io->ops->submit(c->stage->io, op);
        return;
    }
    atomic_store(&c->finished, 1);
}

static void chained(io_stage *stage)
{
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, MIB), KVT_OK);
    chain *c = kvt_alloc(sizeof *c);
    c->stage = stage;
    c->left = 200;
    c->op = (kvt_io_op){
        .verb = KVT_IO_WRITE, .file = stage->file, .bytes = 4096, .memory = stage->memory, .done = next_link, .arg = c};
    stage->io->ops->submit(stage->io, &c->op);
    wait_total(stage, &c->finished, 1);
    cr_assert_eq(c->op.status, KVT_OK);
    cr_assert_eq(c->left, 0);
    kvt_free(c);
}

KVT_TEST(io, done_may_submit) { io_stage_each(chained); }

/* ---- refusals ---- */

static void refuses_misaligned(io_stage *stage)
{
    kvt_io *io = stage->io;
    cr_assert_eq(io->ops->allocate(io, stage->file, MIB), KVT_OK);
    if (stage->info.alignment == 1)
        return;
    cr_assert_eq(kvt_io_read_sync(io, stage->file, 4096, stage->memory + 8, 4096), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_read_sync(io, stage->file, 4095, stage->memory, 4096), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_read_sync(io, stage->file, 4096, stage->memory, 4097), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_write_sync(io, stage->file, 4096, stage->memory + 8, 4096), KVT_INVALID, "%s", stage->name);
}

static void refuses_nonsense(io_stage *stage)
{
    kvt_io *io = stage->io;
    cr_assert_eq(kvt_io_read_sync(io, -1, 0, stage->memory, 4096), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_read_sync(io, 40, 0, stage->memory, 4096), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_read_sync(io, 4000, 0, stage->memory, 4096), KVT_INVALID, "%s", stage->name);
    cr_assert_eq(kvt_io_read_sync(io, stage->file, UINT64_MAX - 4095, stage->memory, 4096), KVT_INVALID, "%s",
                 stage->name);
    cr_assert_eq(kvt_io_read_sync(io, stage->file, 0, stage->memory, 0), KVT_OK, "%s: nothing is always there",
                 stage->name);
    kvt_io_file file;
    static const char *const names[] = {"", ".", "..", "a/b", "/etc/passwd"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_assert_eq(io->ops->open_file(io, names[i], KVT_IO_FILE_CREATE, &file, NULL), KVT_INVALID, "%s: %s",
                     stage->name, names[i]);
}

KVT_TEST(io, misaligned_transfers_are_refused) { io_stage_each(refuses_misaligned); }
KVT_TEST(io, nonsense_is_refused) { io_stage_each(refuses_nonsense); }

/* ---- the end of a file ---- */

static void reads_behind_the_end(io_stage *stage)
{
    static const uint64_t sizes[] = {4096, 3 * MIB, MIB + 4096, 2 * MIB + 512};
    kvt_io *io = stage->io;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cr_assert_eq(io->ops->truncate(io, stage->file, sizes[i]), KVT_OK, "%s", kvt_last_error());
        kvt_io_op op = {.status = KVT_OK};
        io_stage_run(stage, &op, KVT_IO_READ, 0, 4 * MIB);
        cr_assert_eq(op.status, KVT_IO, "%s: %zu: %s", stage->name, i, kvt_status_name(op.status));
        cr_assert_eq(op.system_error, 0, "%s: %zu: errno %d", stage->name, i, op.system_error);
        io_stage_run(stage, &op, KVT_IO_READ, 8 * MIB, 4096);
        cr_assert(op.status == KVT_IO && op.system_error == 0, "%s: %zu", stage->name, i);
    }
}

KVT_TEST(io, reading_behind_the_end_is_an_error_without_errno) { io_stage_each(reads_behind_the_end); }

/* ---- names ---- */

typedef struct seen {
    uint32_t count;
    bool data, renamed;
} seen;

static void see(void *arg, const char *name)
{
    seen *s = arg;
    s->count++;
    s->data |= strcmp(name, "data.0") == 0;
    s->renamed |= strcmp(name, "renamed") == 0;
}

static void names_work(io_stage *stage)
{
    kvt_io *io = stage->io;
    kvt_io_file file;
    kvt_io_file_info info;
    cr_assert_eq(io->ops->exists(io, "made"), KVT_MISS);
    cr_assert_eq(io->ops->unlink(io, "made"), KVT_MISS);
    cr_assert_eq(io->ops->open_file(io, "made", 0, &file, &info), KVT_MISS);
    cr_assert_eq(io->ops->open_file(io, "made", KVT_IO_FILE_CREATE | KVT_IO_FILE_BUFFERED, &file, &info), KVT_OK);
    cr_assert(info.bytes == 0 && info.alignment == 1 && !info.direct, "%s", stage->name);
    cr_assert_eq(kvt_io_write_sync(io, file, 3, "kvtier", 6), KVT_OK, "%s: %s", stage->name, kvt_last_error());
    io->ops->close_file(io, file);
    cr_assert_eq(io->ops->rename(io, "made", "renamed"), KVT_OK);
    cr_assert_eq(io->ops->sync_directory(io), KVT_OK);
    cr_assert_eq(io->ops->exists(io, "made"), KVT_MISS);
    cr_assert_eq(io->ops->exists(io, "renamed"), KVT_OK);
    seen s = {0};
    cr_assert_eq(io->ops->list(io, see, &s), KVT_OK);
    cr_assert(s.count == 2 && s.data && s.renamed, "%s: %u names", stage->name, s.count);
    char text[9] = {0};
    cr_assert_eq(io->ops->open_file(io, "renamed", KVT_IO_FILE_BUFFERED | KVT_IO_FILE_READ_ONLY, &file, &info), KVT_OK);
    cr_assert_eq(info.bytes, 9);
    cr_assert_eq(kvt_io_read_sync(io, file, 0, text, 9), KVT_OK);
    cr_assert_eq(memcmp(text, "\0\0\0kvtier", 9), 0);
    cr_assert_eq(kvt_io_write_sync(io, file, 0, text, 9), KVT_IO, "%s: a file opened for reading took a write",
                 stage->name);
    io->ops->close_file(io, file);
    cr_assert_eq(io->ops->unlink(io, "renamed"), KVT_OK);
    cr_assert_neq(io->ops->random(io), io->ops->random(io));
    cr_assert_gt(strlen(io->ops->detail(io)), 0);
}

KVT_TEST(io, names_and_sizes_work) { io_stage_each(names_work); }

/* ---- closing ---- */

static void closes_with_work_under_way(io_stage *stage)
{
    enum { OPS = 24 };
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, OPS * MIB), KVT_OK);
    many *m = kvt_alloc(sizeof *m);
    kvt_io_op *ops = kvt_alloc_array(OPS, sizeof *ops);
    for (uint32_t i = 0; i < OPS; i++)
        ops[i] = (kvt_io_op){.verb = KVT_IO_WRITE,
                             .file = stage->file,
                             .offset = (uint64_t)i * MANY_BYTES,
                             .bytes = MANY_BYTES,
                             .memory = stage->memory + (size_t)i * MANY_BYTES,
                             .done = count_one,
                             .arg = m,
                             .next = i + 1 == OPS ? NULL : &ops[i + 1]};
    stage->io->ops->submit(stage->io, ops);
    stage->io->ops->close(stage->io);
    stage->io = NULL;
    cr_assert_eq(atomic_load(&m->total), OPS, "%s: closed before all was complete", stage->name);
    kvt_free(ops);
    kvt_free(m);
}

KVT_TEST(io, close_completes_what_is_under_way) { io_stage_each(closes_with_work_under_way); }
