/* SPDX-License-Identifier: Apache-2.0
 *
 * What the I/O queue makes of faults, and in which order it starts things: over the simulator, one piece at a time.
 */
#include "tests/support.h"
#include "tiers/io_queue.h"
#include "tiers/io_sim.h"

#include <errno.h>

enum { KIB = 1 << 10, MIB = 1 << 20, MEMORY_BYTES = 64 << 20 };

typedef struct scene {
    kvt_sim_disk *disk;
    kvt_io *io;
    kvt_io_file file;
    uint8_t *memory;
    kvt_sim_fault fault; /* given to pieces of `verb` while `times` lasts */
    kvt_sim_verb verb;
    uint32_t times, asked;
} scene;

static kvt_sim_fault inject(void *arg, const kvt_sim_event *event)
{
    scene *s = arg;
    if (event->verb != s->verb)
        return KVT_SIM_NONE;
    s->asked++;
    if (s->times == 0)
        return KVT_SIM_NONE;
    s->times--;
    return s->fault;
}

static void set_up(scene *s, uint64_t file_bytes)
{
    kvt_page_kind kind;
    *s = (scene){.disk = kvt_sim_create(1)};
    s->memory = kvt_pages_map(MEMORY_BYTES, &kind);
    kvt_io_config config = {.sim = s->disk, .inflight_bytes = 16 * MIB};
    cr_assert_eq(kvt_io_sim_ops.open("", false, &config, &s->io), KVT_OK);
    cr_assert_eq(s->io->ops->open_file(s->io, "data.0", KVT_IO_FILE_CREATE, &s->file, NULL), KVT_OK);
    cr_assert_eq(s->io->ops->allocate(s->io, s->file, file_bytes), KVT_OK);
    kvt_sim_set_hook(s->disk, inject, s);
}

static void tear_down(scene *s)
{
    s->io->ops->close(s->io);
    kvt_sim_destroy(s->disk);
    kvt_pages_unmap(s->memory, MEMORY_BYTES);
}

static void ignore(kvt_io_op *op) { (void)op; }

/* One operation under `times` faults in a row. */
static kvt_io_op run(scene *s, kvt_io_verb verb, uint64_t bytes, kvt_sim_fault fault, uint32_t times)
{
    kvt_io_op op = {.verb = verb, .file = s->file, .bytes = bytes, .memory = s->memory, .done = ignore};
    s->fault = fault;
    s->verb = (kvt_sim_verb)verb;
    s->times = times;
    s->asked = 0;
    s->io->ops->submit(s->io, &op);
    s->times = 0;
    return op;
}

static void expect(scene *s, kvt_io_op op, kvt_status status, int32_t error, uint32_t asked)
{
    cr_assert_eq(op.status, status, "%s", kvt_status_name(op.status));
    cr_assert_eq(op.system_error, error, "errno %d", op.system_error);
    cr_assert_eq(s->asked, asked, "%u attempts", s->asked);
}

KVT_TEST(io_faults, a_failed_read_is_tried_once_more)
{
    scene s;
    set_up(&s, MIB);
    expect(&s, run(&s, KVT_IO_READ, MIB, KVT_SIM_EIO, 1), KVT_OK, 0, 2);
    expect(&s, run(&s, KVT_IO_READ, MIB, KVT_SIM_EIO, 2), KVT_IO, EIO, 2);
    tear_down(&s);
}

KVT_TEST(io_faults, failed_writes_and_syncs_are_not_tried_again)
{
    scene s;
    set_up(&s, MIB);
    expect(&s, run(&s, KVT_IO_WRITE, MIB, KVT_SIM_EIO, 1), KVT_IO, EIO, 1);
    expect(&s, run(&s, KVT_IO_WRITE, MIB, KVT_SIM_NOSPACE, 1), KVT_NOSPACE, ENOSPC, 1);
    expect(&s, run(&s, KVT_IO_SYNC, 0, KVT_SIM_EIO, 1), KVT_IO, EIO, 1);
    tear_down(&s);
}

KVT_TEST(io_faults, a_short_count_is_resumed_once)
{
    scene s;
    set_up(&s, MIB);
    kvt_test_fill(s.memory, MIB, 1);
    expect(&s, run(&s, KVT_IO_WRITE, MIB, KVT_SIM_SHORT, 1), KVT_OK, 0, 2);
    memset(s.memory, 0, MIB);
    expect(&s, run(&s, KVT_IO_READ, MIB, KVT_SIM_SHORT, 1), KVT_OK, 0, 2);
    kvt_test_fill(s.memory + MIB, MIB, 1);
    cr_assert_eq(memcmp(s.memory, s.memory + MIB, MIB), 0, "the rest was moved to another place");
    expect(&s, run(&s, KVT_IO_READ, MIB, KVT_SIM_SHORT, 2), KVT_IO, EIO, 2);
    expect(&s, run(&s, KVT_IO_WRITE, MIB, KVT_SIM_SHORT, 2), KVT_IO, EIO, 2);
    expect(&s, run(&s, KVT_IO_READ, 4096, KVT_SIM_SHORT, 1), KVT_IO, 0, 1); /* nothing at all: the end of the file */
    tear_down(&s);
}

KVT_TEST(io_faults, passing_errors_are_tried_eight_times_more)
{
    scene s;
    set_up(&s, MIB);
    static const kvt_io_verb verbs[] = {KVT_IO_READ, KVT_IO_WRITE, KVT_IO_SYNC};
    for (size_t i = 0; i < 3; i++) {
        uint64_t bytes = verbs[i] == KVT_IO_SYNC ? 0 : 4096;
        expect(&s, run(&s, verbs[i], bytes, KVT_SIM_AGAIN, KVT_IO_RETRIES_MAX), KVT_OK, 0, KVT_IO_RETRIES_MAX + 1);
        expect(&s, run(&s, verbs[i], bytes, KVT_SIM_AGAIN, 99), KVT_IO, EAGAIN, KVT_IO_RETRIES_MAX + 1);
    }
    tear_down(&s);
}

KVT_TEST(io_faults, one_failed_piece_fails_the_operation_and_starts_no_more)
{
    scene s;
    set_up(&s, 40 * MIB);
    expect(&s, run(&s, KVT_IO_WRITE, 40 * MIB, KVT_SIM_EIO, 1), KVT_IO, EIO, 16); /* those that were in flight */
    expect(&s, run(&s, KVT_IO_READ, 40 * MIB, KVT_SIM_NONE, 0), KVT_OK, 0, 40);
    tear_down(&s);
}

/* ---- time ---- */

/* A queue by hand: one operation whose piece keeps failing. */
KVT_TEST(io_faults, retries_wait_longer_and_longer_but_not_for_ever)
{
    kvt_io_queue queue;
    cr_assert_eq(kvt_io_queue_init(&queue, NULL), KVT_OK);
    kvt_io_op op = {.verb = KVT_IO_READ, .bytes = 4096, .done = ignore};
    op.io_private[KVT_IO_OP_ALIGN] = 4096;
    kvt_io_queue_push(&queue, &op);
    uint64_t now_ns = 1000;
    kvt_io_piece *piece = kvt_io_queue_next(&queue, now_ns);
    for (int i = 0; i < KVT_IO_RETRIES_MAX; i++) {
        kvt_io_queue_settle(&queue, piece, -EINTR, now_ns);
        uint64_t due_ns = kvt_io_queue_due_ns(&queue);
        cr_assert_null(kvt_io_queue_next(&queue, due_ns - 1), "a retry came too early");
        cr_assert_geq(due_ns - now_ns, (uint64_t)KVT_IO_RETRY_NS_FIRST << i);
        now_ns = due_ns;
        cr_assert_eq(kvt_io_queue_next(&queue, now_ns), piece);
    }
    cr_assert_leq(now_ns, 1000 + (uint64_t)KVT_IO_RETRY_NS_MAX);
    kvt_io_queue_settle(&queue, piece, -EINTR, now_ns);
    cr_assert_eq(kvt_io_queue_take_finished(&queue), &op);
    cr_assert(op.status == KVT_IO && op.system_error == EINTR);
    cr_assert(kvt_io_queue_idle(&queue));
    kvt_io_queue_fini(&queue);
}

KVT_TEST(io_faults, a_retry_that_comes_too_late_is_given_up)
{
    kvt_io_queue queue;
    cr_assert_eq(kvt_io_queue_init(&queue, NULL), KVT_OK);
    kvt_io_op op = {.verb = KVT_IO_WRITE, .bytes = 4096, .done = ignore};
    op.io_private[KVT_IO_OP_ALIGN] = 4096;
    kvt_io_queue_push(&queue, &op);
    kvt_io_piece *piece = kvt_io_queue_next(&queue, 0);
    kvt_io_queue_settle(&queue, piece, -EAGAIN, 0);
    piece = kvt_io_queue_next(&queue, UINT64_MAX);
    kvt_io_queue_settle(&queue, piece, -EAGAIN, KVT_IO_RETRY_NS_MAX + 1);
    cr_assert_eq(kvt_io_queue_take_finished(&queue), &op);
    kvt_io_queue_fini(&queue);
}

/* ---- order ---- */

enum { OPS_MAX = 200 };
static struct {
    kvt_io_op *done[OPS_MAX];
    uint32_t count;
} order;

static void note(kvt_io_op *op) { order.done[order.count++] = op; }

static void submit(scene *s, kvt_io_op *op, kvt_io_verb verb, uint64_t bytes, uint32_t priority)
{
    *op = (kvt_io_op){
        .verb = verb, .file = s->file, .bytes = bytes, .memory = s->memory, .priority = priority, .done = note};
    s->io->ops->submit(s->io, op);
}

static uint32_t position(const kvt_io_op *op)
{
    uint32_t i = 0;
    while (i < order.count && order.done[i] != op)
        i++;
    return i;
}

KVT_TEST(io_faults, priority_goes_first_and_starves_nobody)
{
    scene s;
    static kvt_io_op ordinary[40], urgent[100];
    set_up(&s, 2 * MIB);
    kvt_sim_set_mode(s.disk, KVT_SIM_STEPPED);
    for (int i = 0; i < 40; i++)
        submit(&s, &ordinary[i], KVT_IO_READ, MIB, 0);
    for (int i = 0; i < 100; i++)
        submit(&s, &urgent[i], KVT_IO_READ, MIB, 1);
    kvt_sim_run(s.disk);
    cr_assert_eq(order.count, 140);
    cr_assert_eq(position(&urgent[0]), 0, "at place %u", position(&urgent[0]));
    cr_assert_lt(position(&urgent[99]), position(&ordinary[2]), "ordinary operations went before");
    cr_assert_lt(position(&ordinary[0]), position(&urgent[99]), "an endless stream of priority would starve the rest");
    for (int i = 0; i + 1 < 40; i++)
        cr_assert_lt(position(&ordinary[i]), position(&ordinary[i + 1]), "out of order without a reason");
    tear_down(&s);
}

KVT_TEST(io_faults, writes_leave_half_of_the_device_to_waiting_reads)
{
    scene s;
    static kvt_io_op writes[40], reads[8];
    set_up(&s, 2 * MIB);
    kvt_sim_set_mode(s.disk, KVT_SIM_STEPPED);
    for (int i = 0; i < 40; i++)
        submit(&s, &writes[i], KVT_IO_WRITE, MIB, 0);
    for (int i = 0; i < 8; i++)
        submit(&s, &reads[i], KVT_IO_READ, MIB, 0);
    kvt_sim_run(s.disk);
    cr_assert_eq(order.count, 48);
    for (int i = 0; i < 8; i++)
        cr_assert_lt(position(&reads[i]), 16, "a read waited behind %u writes", position(&reads[i]));
    tear_down(&s);
}

KVT_TEST(io_faults, bytes_in_flight_stay_below_the_cap)
{
    kvt_io_queue queue;
    kvt_io_config config = {.inflight_bytes = 4 * MIB, .depth = 8};
    static kvt_io_op ops[8];
    cr_assert_eq(kvt_io_queue_init(&queue, &config), KVT_OK);
    for (int i = 0; i < 8; i++) {
        ops[i] = (kvt_io_op){.verb = i % 2, .bytes = 20 * MIB, .done = ignore};
        ops[i].io_private[KVT_IO_OP_ALIGN] = 4096;
        kvt_io_queue_push(&queue, &ops[i]);
    }
    kvt_io_piece *flying[16];
    uint32_t count = 0, pieces = 0, finished = 0, resumed = 0;
    do {
        kvt_io_piece *piece;
        while ((piece = kvt_io_queue_next(&queue, 0)) != NULL)
            flying[count++] = piece;
        cr_assert_leq(count, 4, "%u pieces of 1 MiB in flight", count);
        cr_assert_gt(count, 0, "it stands still");
        pieces++;
        piece = flying[--count];
        bool in_full = piece->resumed || pieces % 5 != 0;
        resumed += !in_full;
        kvt_io_queue_settle(&queue, piece, in_full ? piece->bytes : MIB / 2, 0);
        finished += kvt_io_queue_take_finished(&queue) != NULL;
    } while (!kvt_io_queue_idle(&queue));
    cr_assert_eq(pieces, 160 + resumed);
    cr_assert_eq(finished, 8);
    cr_assert(queue.bytes_in_flight == 0 && queue.write_bytes_in_flight == 0, "a short count upset the sum");
    kvt_io_queue_fini(&queue);
}

/* Random operations under random faults: each completes once, with bytes that are right if it says so. */
KVT_TEST(io_faults, every_operation_ends_once_under_random_faults)
{
    enum { COUNT = 120, ROUNDS = 20 };
    uint64_t random = kvt_test_seed("io_faults");
    static kvt_io_op ops[COUNT];
    for (int round = 0; round < ROUNDS; round++) {
        scene s;
        set_up(&s, 4 * MIB);
        order.count = 0;
        kvt_sim_set_mode(s.disk, KVT_SIM_STEPPED);
        kvt_sim_set_scramble(s.disk, true);
        kvt_sim_set_hook(s.disk, NULL, NULL);
        kvt_sim_set_rates(s.disk, &(kvt_sim_rates){.read_error = 100000,
                                                   .write_error = 100000,
                                                   .sync_error = 100000,
                                                   .short_count = 100000,
                                                   .again = 300000});
        for (int i = 0; i < COUNT; i++) {
            uint64_t bytes = kvt_test_random(&random) % 700 * 4096;
            submit(&s, &ops[i], (kvt_io_verb)(kvt_test_random(&random) % 3), bytes, kvt_test_random(&random) % 2);
            for (uint64_t steps = kvt_test_random(&random) % 4; steps != 0; steps--)
                kvt_sim_step(s.disk);
        }
        kvt_sim_run(s.disk);
        cr_assert_eq(order.count, COUNT);
        for (int i = 0; i < COUNT; i++) {
            cr_assert_lt(position(&ops[i]), COUNT, "an operation never ended");
            cr_assert_eq(ops[i].status == KVT_IO, ops[i].status != KVT_OK);
        }
        tear_down(&s);
    }
}
