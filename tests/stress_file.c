/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain program for the thread sanitizer, which Criterion cannot live with: threads that write, read, touch, drop and
 * erase records of one small store, so that segments are sealed, evicted and recycled all the time, with the keeper at
 * work. Ends with 1 when wrong bytes, an unexpected status, a lost callback or a record that was erased was seen.
 *
 *   stress_file [seconds]
 */
#include "tests/support.h"
#include "tiers/tiers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, KEYS = 64, BYTES_MAX = 150000 };

/* Index of the host: one row a key, as in an engine, under one lock. */
typedef struct row {
    kvt_record record;
    kvt_place place;
    bool there;
    bool pinned;
} row;

typedef struct stress {
    kvt_tier *tier;
    pthread_mutex_t lock; /* guards rows */
    row rows[THREADS * KEYS];
    uint32_t stores[THREADS * KEYS]; /* how often each was stored, over all lives */
    bool erased[THREADS * KEYS];     /* and not stored since */
    uint64_t deadline_ns;
    atomic_uint failures, reads, writes, misses, evictions, erasures;
} stress;

typedef struct worker {
    stress *shared;
    uint32_t id;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} worker;

static void complain(stress *s, const char *what)
{
    fprintf(stderr, "stress_file: %s\n", what);
    atomic_fetch_add(&s->failures, 1);
}

static row *row_of(stress *s, const kvt_key *key) { return &s->rows[kvt_load_le64(key->bytes) % (THREADS * KEYS)]; }

/* ---- the host ---- */

static bool on_recovered(void *arg, const kvt_record *record, const kvt_place *place)
{
    stress *s = arg;
    pthread_mutex_lock(&s->lock);
    row *r = row_of(s, &record->key);
    *r = (row){.record = *record, .place = *place, .there = true};
    bool erased = s->erased[r - s->rows];
    pthread_mutex_unlock(&s->lock);
    if (erased)
        complain(s, "an erased record is back");
    return true;
}

static void on_stored(void *arg, const kvt_record *record, const kvt_place *place)
{
    stress *s = arg;
    pthread_mutex_lock(&s->lock);
    row *r = row_of(s, &record->key);
    s->erased[r - s->rows] = false;
    s->stores[r - s->rows]++;
    *r = (row){.record = *record, .place = *place, .there = true};
    pthread_mutex_unlock(&s->lock);
}

static bool on_evict(void *arg, const kvt_record *record, const kvt_place *place, bool damaged)
{
    stress *s = arg;
    pthread_mutex_lock(&s->lock);
    row *r = row_of(s, &record->key);
    bool same = r->there && memcmp(&r->place, place, sizeof *place) == 0;
    bool refused = same && r->pinned && !damaged;
    r->there &= !same || refused;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->evictions, !refused);
    if (damaged)
        complain(s, "a sound disk gave damage");
    return !refused;
}

static bool may_evict(void *arg, const kvt_key *space, const kvt_key *key)
{
    stress *s = arg;
    (void)space;
    pthread_mutex_lock(&s->lock);
    bool may = !row_of(s, key)->pinned;
    pthread_mutex_unlock(&s->lock);
    return may;
}

static uint64_t clock_ns(void *arg)
{
    (void)arg;
    return kvt_now_ns();
}

/* ---- operations ---- */

static void ended(kvt_tier_op *op)
{
    worker *w = op->arg;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void run_op(worker *w, kvt_tier_op *op)
{
    op->done = ended;
    op->arg = w;
    w->done = false;
    kvt_tier_submit(w->shared->tier, op);
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* As an engine does: a key is stored anew when nothing is known of it any more. */
static void forget(stress *s, uint64_t number)
{
    pthread_mutex_lock(&s->lock);
    row *r = &s->rows[number];
    kvt_place place = r->place;
    bool there = r->there;
    r->there = false;
    pthread_mutex_unlock(&s->lock);
    if (there)
        kvt_tier_drop(s->tier, &place, 1);
}

static void write_one(worker *w, uint64_t number, uint8_t *image)
{
    forget(w->shared, number);
    uint64_t bytes = 1 + number * 7919 % BYTES_MAX;
    kvt_tier_op op = {.verb = KVT_TIER_WRITE, .image = image};
    kvt_store_le64(op.record.key.bytes, number);
    op.record.space.bytes[0] = (uint8_t)number;
    op.record.raw_bytes = op.record.stored_bytes = bytes;
    memset(image + KVT_HEADER_BYTES + (bytes & ~UINT64_C(4095)), 0, KVT_BLOCK_BYTES);
    kvt_test_fill(image + KVT_HEADER_BYTES, bytes, number);
    op.digest_count = kvt_frame_count(bytes);
    kvt_frame_digests(image + KVT_HEADER_BYTES, bytes, op.digests);
    op.record.hash = kvt_payload_hash(op.digests, op.digest_count);
    run_op(w, &op);
    atomic_fetch_add(&w->shared->writes, 1);
    if (op.status != KVT_OK && op.status != KVT_REJECTED)
        complain(w->shared, kvt_status_name(op.status));
}

/* Bytes of a record that is erased meanwhile may be half of it; the engine erases nothing that is being read. */
static bool still_there(stress *s, const row *was)
{
    pthread_mutex_lock(&s->lock);
    const row *r = row_of(s, &was->record.key);
    bool there = r->there && memcmp(&r->place, &was->place, sizeof r->place) == 0;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void read_one(worker *w, const row *r, uint8_t *image)
{
    kvt_tier_op op = {.verb = KVT_TIER_READ, .image = image, .record = r->record, .place = r->place};
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    run_op(w, &op);
    atomic_fetch_add(op.status == KVT_OK ? &w->shared->reads : &w->shared->misses, 1);
    if (op.status != KVT_OK && op.status != KVT_MISS)
        complain(w->shared, kvt_status_name(op.status));
    if (op.status != KVT_OK)
        return;
    kvt_frame_digests(image + KVT_HEADER_BYTES, r->record.stored_bytes, digests);
    kvt_hash128 hash = kvt_payload_hash(digests, kvt_frame_count(r->record.stored_bytes));
    if (!kvt_hash128_equal(&hash, &r->record.hash) && still_there(w->shared, r))
        complain(w->shared, "wrong bytes");
}

static void erase_one(stress *s, uint64_t number, const kvt_place *place, uint32_t stores)
{
    kvt_status status = kvt_tier_erase(s->tier, place, 1);
    atomic_fetch_add(&s->erasures, 1);
    if (status != KVT_OK)
        complain(s, kvt_last_error());
    pthread_mutex_lock(&s->lock);
    s->erased[number] = s->stores[number] == stores;
    pthread_mutex_unlock(&s->lock);
}

static void step(worker *w, uint64_t *random, uint8_t *image)
{
    stress *s = w->shared;
    uint64_t number = kvt_test_random(random) % (THREADS * KEYS);
    uint64_t choice = kvt_test_random(random) % 100;
    pthread_mutex_lock(&s->lock);
    row *r = &s->rows[number];
    row copy = *r;
    uint32_t stores = s->stores[number];
    if (choice >= 90 && choice < 95)
        r->pinned = !r->pinned && number < THREADS * KEYS / 8;
    if (choice >= 95 && copy.there)
        r->there = false;
    pthread_mutex_unlock(&s->lock);
    /* A key is written by one thread only, so that its row is what was stored last. */
    if (choice < 40)
        write_one(w, number / THREADS * THREADS + w->id, image);
    else if (choice < 80 && copy.there)
        read_one(w, &copy, image);
    else if (choice < 90 && copy.there)
        kvt_tier_touch(s->tier, &copy.place, 1);
    else if (choice >= 98 && copy.there)
        erase_one(s, number, &copy.place, stores);
    else if (choice >= 95 && copy.there)
        kvt_tier_drop(s->tier, &copy.place, 1);
}

static void *work(void *arg)
{
    worker *w = arg;
    uint64_t random = w->id + 1;
    uint8_t *image = kvt_alloc_aligned(KVT_BLOCK_BYTES, kvt_image_bytes(BYTES_MAX) + KVT_BLOCK_BYTES);
    for (uint64_t i = 0; image != NULL && kvt_now_ns() < w->shared->deadline_ns; i++) {
        kvt_tier_stats stats;
        step(w, &random, image);
        if (i % 64 == 0)
            kvt_tier_get_stats(w->shared->tier, &stats);
        if (i % 200 == 199 && kvt_tier_flush(w->shared->tier) != KVT_OK)
            complain(w->shared, "a flush failed");
    }
    kvt_free(image);
    return NULL;
}

static void run_threads(stress *s)
{
    worker workers[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.shared = s, .id = i};
        pthread_mutex_init(&workers[i].lock, NULL);
        pthread_cond_init(&workers[i].changed, NULL);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        pthread_cond_destroy(&workers[i].changed);
        pthread_mutex_destroy(&workers[i].lock);
    }
}

/* One life of the store: open, work, close. */
static void one_life(stress *s, const char *path, double seconds)
{
    kvt_tier_options options = {.path = path, .bytes_max = 24 << 20, .segment_bytes = 1 << 20, .io = KVT_IO_POOL};
    kvt_tier_host host = {.arg = s,
                          .on_recovered = on_recovered,
                          .on_stored = on_stored,
                          .on_evict = on_evict,
                          .may_evict = may_evict,
                          .clock_ns = clock_ns};
    memset(s->rows, 0, sizeof s->rows);
    if (kvt_tier_open(KVT_TIER_FILE, &options, &host, &s->tier) != KVT_OK) {
        complain(s, kvt_last_error());
        return;
    }
    s->deadline_ns = kvt_now_ns() + (uint64_t)(seconds * 1e9);
    run_threads(s);
    kvt_tier_close(s->tier);
}

int main(int argc, char **argv)
{
    static stress s;
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    char *path = kvt_test_tmpdir();
    pthread_mutex_init(&s.lock, NULL);
    for (int i = 0; i < 2; i++)
        one_life(&s, path, seconds / 2);
    printf("stress_file: %u writes, %u reads, %u misses, %u evictions, %u erasures in %.1f s, %u failures\n", s.writes,
           s.reads, s.misses, s.evictions, s.erasures, seconds, s.failures);
    if (kvt_live_bytes() != strlen(path) + 1)
        complain(&s, "memory was not given back");
    kvt_test_rmtree(path);
    kvt_free(path);
    return s.failures == 0 && s.reads != 0 ? 0 : 1;
}
