/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain program: random transfers of one size on one file through an I/O implementation, to be set against fio on the
 * same file. Not a test; it checks nothing but statuses.
 *
 *   bench_io <io_uring|pool> <directory> <file> <read|write> <bytes> <depth> <seconds> [plain]
 */
#include "tiers/io.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DEPTH_MAX = 64 };

typedef struct bench {
    kvt_io *io;
    kvt_io_file file;
    kvt_io_verb verb;
    uint64_t file_bytes, bytes, deadline_ns, random;
    atomic_uint_fast64_t moved;
    atomic_uint under_way;
    atomic_int failure;
} bench;

typedef struct slot {
    kvt_io_op op;
    uint64_t random;
} slot;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 24;
}

static void go(bench *b, slot *s);

static void moved(kvt_io_op *op)
{
    bench *b = op->arg;
    atomic_fetch_add(&b->moved, op->bytes);
    if (op->status != KVT_OK)
        atomic_store(&b->failure, op->system_error == 0 ? -1 : op->system_error);
    if (op->status == KVT_OK && kvt_now_ns() < b->deadline_ns)
        go(b, (slot *)op);
    else
        atomic_fetch_sub(&b->under_way, 1);
}

static void go(bench *b, slot *s)
{
    s->op.offset = next_random(&s->random) % (b->file_bytes / b->bytes) * b->bytes;
    b->io->ops->submit(b->io, &s->op);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int run(bench *b, uint8_t *memory, uint32_t depth, double seconds)
{
    static slot slots[DEPTH_MAX];
    uint64_t start_ns = kvt_now_ns();
    double cpu = cpu_seconds();
    b->deadline_ns = start_ns + (uint64_t)(seconds * 1e9);
    atomic_store(&b->under_way, depth);
    for (uint32_t i = 0; i < depth; i++) {
        slots[i].random = i * 7919 + start_ns;
        slots[i].op = (kvt_io_op){.verb = b->verb,
                                  .file = b->file,
                                  .bytes = b->bytes,
                                  .memory = memory + i * b->bytes,
                                  .done = moved,
                                  .arg = b};
        go(b, &slots[i]);
    }
    while (atomic_load(&b->under_way) != 0)
        usleep(1000);
    double spent = (double)(kvt_now_ns() - start_ns) / 1e9;
    double gib = (double)atomic_load(&b->moved) / (double)(UINT64_C(1) << 30);
    printf("%.0f MiB/s  cpu %.3f core.s/GiB  %s\n", gib * 1024 / spent, (cpu_seconds() - cpu) / gib,
           b->io->ops->detail(b->io));
    return atomic_load(&b->failure);
}

int main(int argc, char **argv)
{
    if (argc < 8)
        return 2;
    bench b = {.verb = strcmp(argv[4], "write") == 0 ? KVT_IO_WRITE : KVT_IO_READ, .bytes = strtoull(argv[5], NULL, 0)};
    uint32_t depth = (uint32_t)strtoul(argv[6], NULL, 0);
    if (depth == 0 || depth > DEPTH_MAX || b.bytes == 0)
        return 2;
    kvt_page_kind kind;
    uint64_t memory_bytes = depth * b.bytes;
    uint8_t *memory = kvt_pages_map(memory_bytes, &kind);
    if (memory == NULL)
        return 1;
    kvt_pages_touch(memory, memory_bytes, 2);
    kvt_io_config config = {.memory = argc > 8 ? NULL : memory, .memory_bytes = memory_bytes};
    kvt_io_file_info info;
    uint32_t io_kind = strcmp(argv[1], "pool") == 0 ? KVT_IO_POOL : KVT_IO_URING;
    if (kvt_io_open(io_kind, argv[2], false, &config, &b.io) != KVT_OK ||
        b.io->ops->open_file(b.io, argv[3], 0, &b.file, &info) != KVT_OK) {
        fprintf(stderr, "%s\n", kvt_last_error());
        return 1;
    }
    b.file_bytes = info.bytes;
    int failure = run(&b, memory, depth, strtod(argv[7], NULL));
    b.io->ops->close(b.io);
    kvt_pages_unmap(memory, memory_bytes);
    return failure == 0 ? 0 : 1;
}
