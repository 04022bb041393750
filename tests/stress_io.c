/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain program for the thread sanitizer, which Criterion cannot live with: threads that open, write, read back, sync
 * and close through one context, over each implementation. Ends with 1 when wrong bytes or a failure came back.
 *
 *   stress_io [seconds per implementation]
 */
#include "tests/support.h"
#include "tiers/io.h"
#include "tiers/io_sim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 4, SPAN_BYTES = 4 << 20 };

typedef struct stress {
    kvt_io *io;
    uint8_t *memory;
    uint64_t deadline_ns;
    atomic_uint failures;
    atomic_uint rounds;
} stress;

typedef struct worker {
    stress *shared;
    uint32_t id;
    pthread_t thread;
} worker;

static bool one_round(stress *s, uint32_t id, uint64_t *random)
{
    kvt_io_file file;
    uint8_t *out = s->memory + (size_t)id * 2 * SPAN_BYTES, *in = out + SPAN_BYTES;
    uint64_t bytes = (1 + kvt_test_random(random) % (SPAN_BYTES / 4096)) * 4096;
    uint64_t offset = (uint64_t)id * SPAN_BYTES;
    kvt_test_fill(out, 4096, *random);
    if (s->io->ops->open_file(s->io, "data", KVT_IO_FILE_CREATE, &file, NULL) != KVT_OK)
        return false;
    bool good = kvt_io_write_sync(s->io, file, offset, out, bytes) == KVT_OK &&
                kvt_io_read_sync(s->io, file, offset, in, bytes) == KVT_OK && memcmp(out, in, bytes) == 0 &&
                kvt_io_sync(s->io, file) == KVT_OK;
    s->io->ops->close_file(s->io, file);
    return good;
}

static void *work(void *arg)
{
    worker *w = arg;
    uint64_t random = w->id;
    while (kvt_now_ns() < w->shared->deadline_ns && atomic_load(&w->shared->failures) == 0) {
        if (!one_round(w->shared, w->id, &random)) {
            fprintf(stderr, "%s: %s\n", w->shared->io->ops->name, kvt_last_error());
            atomic_fetch_add(&w->shared->failures, 1);
        }
        atomic_fetch_add(&w->shared->rounds, 1);
    }
    return NULL;
}

static bool run(const kvt_io_ops *ops, const char *directory, double seconds)
{
    kvt_page_kind kind;
    uint64_t memory_bytes = (uint64_t)THREADS * 2 * SPAN_BYTES;
    stress s = {.memory = kvt_pages_map(memory_bytes, &kind)};
    kvt_sim_disk *disk = kvt_sim_create(1);
    kvt_io_config config = {.memory = s.memory, .memory_bytes = memory_bytes, .sim = disk};
    kvt_status status = ops->open(directory, false, &config, &s.io);
    if (status == KVT_OK) {
        worker workers[THREADS];
        s.deadline_ns = kvt_now_ns() + (uint64_t)(seconds * 1e9);
        for (uint32_t i = 0; i < THREADS; i++) {
            workers[i] = (worker){.shared = &s, .id = i};
            pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        }
        for (uint32_t i = 0; i < THREADS; i++)
            pthread_join(workers[i].thread, NULL);
        printf("%s: %u rounds, %u failures\n", s.io->ops->detail(s.io), atomic_load(&s.rounds),
               atomic_load(&s.failures));
        s.io->ops->close(s.io);
    } else {
        printf("skipped: %s: %s\n", ops->name, kvt_last_error());
    }
    kvt_sim_destroy(disk);
    kvt_pages_unmap(s.memory, memory_bytes);
    return atomic_load(&s.failures) == 0 && (status == KVT_OK || status == KVT_UNSUPPORTED);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    char directory[] = "/var/tmp/kvtier-stress-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return 1;
    bool good = run(&kvt_io_pool_ops, directory, seconds);
#if KVT_HAVE_URING
    good = run(&kvt_io_uring_ops, directory, seconds) && good;
#endif
    good = run(&kvt_io_sim_ops, directory, seconds) && good;
    char path[64];
    snprintf(path, sizeof path, "%s/data", directory);
    unlink(path);
    rmdir(directory);
    return good && kvt_live_bytes() == 0 ? 0 : 1;
}
