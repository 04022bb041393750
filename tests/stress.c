/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain program: many threads on one engine whose RAM is far too small, over the tier double, for the thread sanitizer.
 * Every blob's bytes follow from its key, so each thread can tell right bytes from wrong ones whatever the others do.
 *
 *   stress [--seconds N] [--threads N]     ends with 'N passed, N failed'
 */
#include "engine/kvtier.h"
#include "tests/tier_double.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEYS = 400, BLOB_BYTES_MAX = 24 << 10, THREADS_MAX = 32, BATCH = 4 };

typedef struct shared {
    kvt_engine *engine;
    kvt_space *space;
    uint64_t end_ns;
    _Atomic uint64_t operations, hits, wrong, broken;
} shared;

typedef struct player {
    shared *all;
    uint64_t random;
    pthread_t thread;
} player;

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t bytes_of(uint32_t number) { return 1 + (number * 7919u) % BLOB_BYTES_MAX; }
static uint8_t byte_of(uint32_t number, uint64_t at) { return (uint8_t)(number * 31 + at * 7 + (at >> 8)); }

static kvt_key key_of(uint32_t number)
{
    kvt_key key = {{0}};
    for (int i = 0; i < 4; i++)
        key.bytes[i] = (uint8_t)(number >> (8 * i));
    return key;
}

static void check_get(shared *all, const kvt_item *item, uint32_t number)
{
    const uint8_t *data = item->buffer;
    if (item->status != KVT_OK)
        return;
    atomic_fetch_add(&all->hits, 1);
    bool wrong = item->bytes != bytes_of(number);
    for (uint64_t i = 0; i < item->bytes && !wrong; i++)
        wrong = data[i] != byte_of(number, i);
    if (wrong)
        atomic_fetch_add(&all->wrong, 1);
}

/* A batch of puts or gets; some with a short deadline, some cancelled. */
static void play_batch(player *self, uint8_t (*buffers)[BLOB_BYTES_MAX + 1], bool put)
{
    shared *all = self->all;
    kvt_item items[BATCH];
    uint32_t numbers[BATCH];
    for (int i = 0; i < BATCH; i++) {
        numbers[i] = (uint32_t)(next(&self->random) % KEYS);
        items[i] = (kvt_item){.key = key_of(numbers[i]), .buffer = buffers[i], .bytes = BLOB_BYTES_MAX + 1};
        if (put)
            items[i].bytes = bytes_of(numbers[i]);
        for (uint64_t k = 0; put && k < items[i].bytes; k++)
            buffers[i][k] = byte_of(numbers[i], k);
    }
    kvt_batch batch = KVT_BATCH_INIT;
    batch.items = items;
    batch.count = BATCH;
    batch.flags = next(&self->random) % 4 == 0 ? KVT_REQUEST_WRITE_THROUGH : 0;
    batch.timeout_ns = next(&self->random) % 8 == 0 ? 200000 : 0;
    kvt_ticket ticket;
    kvt_completion completion;
    kvt_status status = put ? kvt_put(all->space, &batch, &ticket) : kvt_get(all->space, &batch, &ticket);
    if (status != KVT_OK) {
        atomic_fetch_add(&all->broken, status != KVT_BUSY);
        return;
    }
    if (next(&self->random) % 16 == 0)
        (void)kvt_cancel(all->engine, ticket);
    if (kvt_wait(all->engine, ticket, UINT64_C(20000000000), &completion) != KVT_OK)
        atomic_fetch_add(&all->broken, 1);
    for (int i = 0; i < BATCH && !put; i++)
        check_get(all, &items[i], numbers[i]);
}

static void play_other(player *self)
{
    shared *all = self->all;
    kvt_key key = key_of((uint32_t)(next(&self->random) % KEYS));
    kvt_lease lease;
    kvt_stats stats = {.struct_size = sizeof stats};
    kvt_record_info records[16];
    uint64_t cursor = 0;
    size_t count;
    switch (next(&self->random) % 6) {
    case 0:
        (void)kvt_remove(all->space, &key, 1, NULL);
        break;
    case 1:
        (void)kvt_evict(all->space, &key, 1);
        break;
    case 2:
        if (kvt_lease_acquire(all->space, &key, &lease) == KVT_OK)
            (void)kvt_lease_release(all->space, &lease);
        break;
    case 3:
        (void)kvt_pin(all->space, &key, 1, 1);
        break;
    case 4:
        (void)kvt_get_stats(all->engine, &stats);
        break;
    default:
        (void)kvt_scan(all->engine, all->space, &cursor, records, 16, &count);
        break;
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *play(void *arg)
{
    player *self = arg;
    uint8_t(*buffers)[BLOB_BYTES_MAX + 1] = malloc(BATCH * sizeof *buffers);
    while (now_ns() < self->all->end_ns) {
        uint64_t dice = next(&self->random) % 10;
        if (dice < 8)
            play_batch(self, buffers, dice < 4);
        else
            play_other(self);
        atomic_fetch_add(&self->all->operations, 1);
    }
    free(buffers);
    return NULL;
}

static bool open_all(shared *all, const char *path)
{
    kvt_options options = KVT_OPTIONS_INIT;
    options.store_path = path;
    options.host_bytes_max = 1 << 20;
    options.disk_bytes_max = 64 << 20;
    options.worker_count = 4;
    options.flags = KVT_OPEN_NO_BUDGET;
    kvt_space_options names = KVT_SPACE_OPTIONS_INIT;
    names.model = "stress";
    if (kvt_open(&options, &all->engine) != KVT_OK)
        return false;
    return kvt_space_open(all->engine, &names, &all->space) == KVT_OK;
}

int main(int argc, char **argv)
{
    uint64_t seconds = 10, thread_count = 8, seed = now_ns();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--threads") == 0)
            thread_count = strtoull(argv[i + 1], NULL, 10);
    }
    static shared all;
    static player players[THREADS_MAX];
    char path[] = "/var/tmp/kvtier-stress-XXXXXX";
    kvt_double_install();
    if (mkdtemp(path) == NULL || !open_all(&all, path)) {
        fprintf(stderr, "stress: %s\n", kvt_last_error());
        return 1;
    }
    kvt_double_delay(KVT_TIER_READ, 100000);
    all.end_ns = now_ns() + seconds * 1000000000u;
    for (uint64_t i = 0; i < thread_count && i < THREADS_MAX; i++) {
        players[i] = (player){.all = &all, .random = seed + i};
        pthread_create(&players[i].thread, NULL, play, &players[i]);
    }
    for (uint64_t i = 0; i < thread_count && i < THREADS_MAX; i++)
        pthread_join(players[i].thread, NULL);
    kvt_space_close(all.space);
    kvt_close(all.engine);
    kvt_double_remove();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", path);
    if (system(command) != 0)
        fprintf(stderr, "stress: %s stays\n", path);
    uint64_t leaked = kvt_live_bytes();
    bool idle = all.hits == 0; /* a run that read nothing proved nothing */
    printf("%llu operations, %llu hits, seed %llu, %llu bytes leaked\n", (unsigned long long)all.operations,
           (unsigned long long)all.hits, (unsigned long long)seed, (unsigned long long)leaked);
    uint64_t failed = all.wrong + all.broken + (leaked != 0) + idle;
    printf("%llu passed, %llu failed\n", (unsigned long long)all.operations, (unsigned long long)failed);
    return failed != 0;
}
