/* SPDX-License-Identifier: Apache-2.0
 *
 * Room in the pinned pool. Whoever needs an extent takes it here; when there is no hole, copies leave in S3-FIFO order:
 * those that the lower tier holds, or that admission does not let in, go at once; the others are written down first,
 * and the unit that needs room is parked until that is done. Nothing waits on a thread, and nothing grows.
 *
 * An extent is `moving` while a unit or a writer works with it. When nothing moves and no victim is left, everything is
 * pinned or leased: the answer is KVT_NOSPACE instead of a wait without end.
 */
#include "engine/request.h"

typedef struct writer {
    kvt_job job; /* first */
    kvt_engine *engine;
    uint32_t entry;
    uint64_t bytes;
    kvt_tier_op op;
    struct writer *next_free;
} writer;

struct kvt_ram {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a writer came back */
    kvt_s3 *s3;
    uint64_t moving;       /* extents that units or writers work with */
    uint64_t coming_bytes; /* that writers will free */
    uint64_t wanted_bytes; /* of parked units */
    kvt_unit *parked_head, *parked_tail;
    writer *free_writers;
    uint32_t busy_writers;
    writer writers[KVT_WRITERS_MAX];
};

kvt_status kvt_ram_create(kvt_engine *engine, kvt_ram **out)
{
    kvt_ram *ram = kvt_alloc(sizeof *ram);
    if (ram == NULL)
        return KVT_NOMEM;
    pthread_mutex_init(&ram->lock, NULL);
    pthread_cond_init(&ram->idle, NULL);
    for (uint32_t i = 0; i < KVT_WRITERS_MAX; i++) {
        ram->writers[i].engine = engine;
        ram->writers[i].next_free = ram->free_writers;
        ram->free_writers = &ram->writers[i];
    }
    uint64_t pool_bytes;
    (void)kvt_pool_base(engine->pool, &pool_bytes);
    kvt_status status = kvt_s3_create(kvt_index_id_end(engine->index), pool_bytes, &ram->s3);
    if (status != KVT_OK) {
        kvt_free(ram);
        return status;
    }
    *out = ram;
    return KVT_OK;
}

/* Every RAM copy goes; called when nothing is under way any more. */
void kvt_ram_give_all(kvt_engine *engine)
{
    if (engine->index == NULL || engine->pool == NULL)
        return;
    uint32_t end = kvt_index_id_end(engine->index);
    for (uint32_t id = kvt_index_next_used(engine->index, 0); id < end;
         id = kvt_index_next_used(engine->index, id + 1)) {
        kvt_entry *entry = kvt_index_lock_id(engine->index, id);
        uint8_t *image = entry->live ? entry->image : NULL;
        entry->image = NULL;
        kvt_index_unlock_entry(engine->index, entry);
        if (image != NULL)
            kvt_pool_give(engine->pool, image);
    }
}

void kvt_ram_destroy(kvt_ram *ram)
{
    if (ram == NULL)
        return;
    kvt_s3_destroy(ram->s3);
    pthread_mutex_destroy(&ram->lock);
    pthread_cond_destroy(&ram->idle);
    kvt_free(ram);
}

/* ---- parking ---- */

/* A unit that was parked before keeps its turn: it goes to the front again. */
static void park(kvt_ram *ram, kvt_unit *unit)
{
    bool front = unit->parked;
    unit->parked = true;
    ram->wanted_bytes += unit->wanted_bytes;
    unit->job.next = NULL;
    if (ram->parked_head == NULL) {
        ram->parked_head = ram->parked_tail = unit;
    } else if (front) {
        unit->job.next = &ram->parked_head->job;
        ram->parked_head = unit;
    } else {
        ram->parked_tail->job.next = &unit->job;
        ram->parked_tail = unit;
    }
}

/* With the lock held: the first parked unit, to be pushed after the unlock, or NULL. */
static kvt_unit *unpark(kvt_ram *ram)
{
    kvt_unit *unit = ram->parked_head;
    if (unit != NULL) {
        ram->parked_head = (kvt_unit *)unit->job.next;
        ram->wanted_bytes -= unit->wanted_bytes;
    }
    return unit;
}

static void unlock_and_wake(kvt_engine *engine)
{
    kvt_unit *unit = unpark(engine->ram);
    pthread_mutex_unlock(&engine->ram->lock);
    if (unit != NULL)
        kvt_workers_push(engine->workers, &unit->job, unit->urgent);
}

/* ---- victims ---- */

/* A hint, read without the entry's lock: evict_one looks again. */
static bool may_leave(void *arg, uint32_t id)
{
    kvt_engine *engine = arg;
    const kvt_entry *entry = kvt_index_peek(engine->index, id);
    return atomic_load_explicit(&entry->users, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&entry->host, memory_order_relaxed) == KVT_HOST_PRESENT &&
           atomic_load_explicit(&entry->lower, memory_order_relaxed) != KVT_LOWER_WRITING;
}

/* With the shard locked: the entry is a candidate again. */
static void put_back(kvt_engine *engine, kvt_entry *entry)
{
    uint32_t id = kvt_index_id(engine->index, entry);
    pthread_mutex_lock(&engine->ram->lock);
    if (!kvt_s3_contains(engine->ram->s3, id))
        kvt_s3_insert(engine->ram->s3, id, kvt_index_hash(entry->space, &entry->key),
                      kvt_image_bytes(entry->stored_bytes));
    pthread_mutex_unlock(&engine->ram->lock);
}

void kvt_ram_publish(kvt_engine *engine, kvt_entry *entry)
{
    atomic_store(&entry->host, KVT_HOST_PRESENT);
    kvt_count(&engine->counters.host_records, 1);
    kvt_count(&engine->counters.host_record_bytes, entry->stored_bytes);
    put_back(engine, entry);
}

uint8_t *kvt_ram_unpublish(kvt_engine *engine, kvt_entry *entry)
{
    uint8_t *image = entry->image;
    pthread_mutex_lock(&engine->ram->lock);
    kvt_s3_remove(engine->ram->s3, kvt_index_id(engine->index, entry));
    pthread_mutex_unlock(&engine->ram->lock);
    kvt_uncount(&engine->counters.host_records, 1);
    kvt_uncount(&engine->counters.host_record_bytes, entry->stored_bytes);
    entry->image = NULL;
    atomic_store(&entry->host, KVT_HOST_NONE);
    return image;
}

/* With the shard locked: drop the copy, and the entry if nothing else holds it. */
static uint8_t *drop_copy(kvt_engine *engine, kvt_entry *entry)
{
    uint8_t *image = kvt_ram_unpublish(engine, entry);
    kvt_count(&engine->counters.host_evicted_records, 1);
    kvt_count(&engine->counters.host_evicted_bytes, entry->stored_bytes);
    if (atomic_load(&entry->lower) == KVT_LOWER_ABSENT) {
        kvt_spaces_discharge(engine->spaces, entry->space, entry->stored_bytes);
        kvt_index_remove(engine->index, entry);
    }
    return image;
}

static writer *take_writer(kvt_ram *ram, uint64_t bytes)
{
    pthread_mutex_lock(&ram->lock);
    writer *w = ram->free_writers;
    if (w != NULL) {
        ram->free_writers = w->next_free;
        ram->busy_writers++;
        ram->moving++;
        ram->coming_bytes += bytes;
        w->bytes = bytes;
    }
    pthread_mutex_unlock(&ram->lock);
    return w;
}

static void give_writer(kvt_engine *engine, writer *w)
{
    kvt_ram *ram = engine->ram;
    pthread_mutex_lock(&ram->lock);
    w->next_free = ram->free_writers;
    ram->free_writers = w;
    ram->busy_writers--;
    ram->moving--;
    ram->coming_bytes -= w->bytes;
    pthread_cond_broadcast(&ram->idle);
    unlock_and_wake(engine);
}

/* The record is down, or was refused: the copy may go now, unless somebody uses it. */
static void writer_done(kvt_tier_op *op)
{
    writer *w = op->arg;
    kvt_engine *engine = w->engine;
    uint8_t *image = NULL;
    kvt_entry *entry = kvt_index_lock_id(engine->index, w->entry);
    if (op->status != KVT_OK) {
        atomic_store(&entry->lower, KVT_LOWER_ABSENT);
        kvt_admission_refund(engine->admission, kvt_image_bytes(op->record.stored_bytes));
        kvt_count(&engine->counters.admission_skipped_chunks, 1);
    }
    kvt_unit *waiters = entry->waiters;
    entry->waiters = NULL;
    if (atomic_fetch_sub(&entry->users, 1) == 1 && waiters == NULL)
        image = drop_copy(engine, entry);
    else
        put_back(engine, entry);
    kvt_index_unlock_entry(engine->index, entry);
    kvt_units_wake(engine, waiters);
    if (image != NULL)
        kvt_pool_give(engine->pool, image);
    give_writer(engine, w);
}

static void writer_run(kvt_job *job, uint8_t *scratch)
{
    writer *w = (writer *)job;
    (void)scratch;
    kvt_image_digest(w->engine, &w->op);
    kvt_tier_submit(w->engine->lower, &w->op);
}

/* With the shard locked, the entry idle and only in RAM: start to write it down. false: no writer is free. */
static bool start_writer(kvt_engine *engine, kvt_entry *entry)
{
    writer *w = take_writer(engine->ram, kvt_image_bytes(entry->stored_bytes));
    if (w == NULL)
        return false;
    w->entry = kvt_index_id(engine->index, entry);
    w->op = (kvt_tier_op){.verb = KVT_TIER_WRITE, .image = entry->image, .done = writer_done, .arg = w};
    kvt_entry_to_record(engine, entry, &w->op.record);
    w->job.run = writer_run;
    atomic_store(&entry->lower, KVT_LOWER_WRITING);
    atomic_fetch_add(&entry->users, 1);
    kvt_workers_push(engine->workers, &w->job, false);
    return true;
}

static bool admit(kvt_engine *engine, const kvt_entry *entry)
{
    if (engine->lower == NULL || (engine->options.flags & KVT_OPEN_READ_ONLY) != 0)
        return false;
    uint32_t hits = kvt_ram_hits(engine, kvt_index_id(engine->index, entry));
    bool through = (engine->options.flags & KVT_OPEN_WRITE_THROUGH) != 0;
    return kvt_admission_admit(engine->admission, kvt_index_hash(entry->space, &entry->key),
                               kvt_image_bytes(entry->stored_bytes), hits, through, kvt_engine_clock(engine));
}

/* One chosen victim leaves, or goes on its way down, or is put back because somebody came. With the shard locked. */
static kvt_status evict_entry(kvt_engine *engine, kvt_entry *entry, uint8_t **out_image)
{
    if (!entry->live || atomic_load(&entry->host) != KVT_HOST_PRESENT)
        return KVT_MISS;
    if (atomic_load(&entry->users) != 0 || entry->pin_until_ns > kvt_now_ns()) {
        put_back(engine, entry);
        return KVT_BUSY;
    }
    if (atomic_load(&entry->lower) == KVT_LOWER_PRESENT) {
        *out_image = drop_copy(engine, entry);
        return KVT_OK;
    }
    if (!admit(engine, entry)) {
        kvt_count(&engine->counters.admission_skipped_chunks, engine->lower != NULL);
        *out_image = drop_copy(engine, entry);
        return KVT_OK;
    }
    if (start_writer(engine, entry))
        return KVT_OK;
    kvt_admission_refund(engine->admission, kvt_image_bytes(entry->stored_bytes));
    put_back(engine, entry);
    return KVT_BUSY;
}

static kvt_status evict_id(kvt_engine *engine, uint32_t id)
{
    uint8_t *image = NULL;
    kvt_entry *entry = kvt_index_lock_id(engine->index, id);
    kvt_status status = evict_entry(engine, entry, &image);
    kvt_index_unlock_entry(engine->index, entry);
    if (image != NULL)
        kvt_pool_give(engine->pool, image);
    return status;
}

/* ---- taking room ---- */

/* With the lock held. */
static uint32_t choose_victim(kvt_engine *engine, uint64_t bytes)
{
    kvt_ram *ram = engine->ram;
    /* What is on its way down will do for everybody who waits: do not empty RAM for one request. */
    if (ram->coming_bytes >= ram->wanted_bytes + bytes)
        return KVT_S3_NONE;
    /* Nor choose one before it can be sent on its way: the choice would be older than the touches until then. */
    if (ram->busy_writers != 0 && ram->free_writers == NULL)
        return KVT_S3_NONE;
    return kvt_s3_evict(ram->s3, may_leave, engine);
}

/* With the lock held: an extent, unless others were here first. */
static uint8_t *try_take(kvt_engine *engine, const kvt_unit *unit, uint64_t bytes)
{
    if (engine->ram->parked_head != NULL && !unit->parked)
        return NULL;
    return kvt_pool_take(engine->pool, bytes);
}

/* With the lock held; unlocks. No extent and no victim: wait for what moves, or give up when nothing does. */
static kvt_status wait_or_give_up(kvt_engine *engine, kvt_unit *unit)
{
    kvt_ram *ram = engine->ram;
    if (ram->moving == 0) {
        unit->parked = false;
        unlock_and_wake(engine);
        return KVT_NOSPACE;
    }
    park(ram, unit);
    pthread_mutex_unlock(&ram->lock);
    return KVT_BUSY;
}

kvt_status kvt_ram_take(kvt_engine *engine, kvt_unit *unit, uint64_t bytes, uint8_t **out)
{
    kvt_ram *ram = engine->ram;
    uint64_t pool_bytes;
    (void)kvt_pool_base(engine->pool, &pool_bytes);
    if (bytes > pool_bytes)
        return KVT_NOSPACE;
    unit->wanted_bytes = bytes;
    /* Bounded: victims that had to be put back are counted; the search ends when all were looked at once. */
    for (uint32_t refusals = 0;;) {
        pthread_mutex_lock(&ram->lock);
        uint8_t *extent = try_take(engine, unit, bytes);
        if (extent != NULL) {
            ram->moving++;
            unit->parked = false;
            unlock_and_wake(engine);
            *out = extent;
            return KVT_OK;
        }
        uint32_t victim = refusals > kvt_s3_count(ram->s3) ? KVT_S3_NONE : choose_victim(engine, bytes);
        if (victim == KVT_S3_NONE)
            return wait_or_give_up(engine, unit);
        ram->moving++; /* the victim, until it is clear where it goes */
        pthread_mutex_unlock(&ram->lock);
        refusals += evict_id(engine, victim) == KVT_BUSY;
        kvt_ram_release(engine); /* also wakes whoever counted on it */
    }
}

void kvt_ram_give(kvt_engine *engine, uint8_t *extent)
{
    kvt_pool_give(engine->pool, extent);
    kvt_ram_release(engine);
}

void kvt_ram_hold(kvt_engine *engine)
{
    pthread_mutex_lock(&engine->ram->lock);
    engine->ram->moving++;
    pthread_mutex_unlock(&engine->ram->lock);
}

void kvt_ram_release(kvt_engine *engine)
{
    pthread_mutex_lock(&engine->ram->lock);
    engine->ram->moving--;
    unlock_and_wake(engine);
}

void kvt_ram_touch(kvt_engine *engine, const uint32_t *ids, size_t count)
{
    pthread_mutex_lock(&engine->ram->lock);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] != KVT_ENTRY_NONE)
            kvt_s3_touch(engine->ram->s3, ids[i]);
    }
    pthread_mutex_unlock(&engine->ram->lock);
}

uint32_t kvt_ram_hits(kvt_engine *engine, uint32_t id)
{
    pthread_mutex_lock(&engine->ram->lock);
    uint32_t hits = kvt_s3_hits(engine->ram->s3, id);
    pthread_mutex_unlock(&engine->ram->lock);
    return hits;
}

uint64_t kvt_ram_used(kvt_engine *engine) { return kvt_pool_used(engine->pool); }

/* ---- on demand ---- */

kvt_status kvt_ram_evict(kvt_engine *engine, uint32_t space, const kvt_key *key)
{
    uint8_t *image = NULL;
    kvt_status status = KVT_MISS;
    kvt_entry *entry = kvt_index_lock(engine->index, space, key);
    if (entry != NULL)
        status = evict_entry(engine, entry, &image);
    kvt_index_unlock(engine->index, space, key);
    if (image != NULL)
        kvt_pool_give(engine->pool, image);
    return status;
}

/* Until a writer is free, or the deadline. */
static void wait_for_writer(kvt_engine *engine, uint64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    kvt_ram *ram = engine->ram;
    pthread_mutex_lock(&ram->lock);
    int waited = 0;
    while (ram->free_writers == NULL && waited == 0)
        waited = pthread_cond_clockwait(&ram->idle, &ram->lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&ram->lock);
}

void kvt_ram_wait_writers(kvt_engine *engine, uint64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    kvt_ram *ram = engine->ram;
    pthread_mutex_lock(&ram->lock);
    int waited = 0;
    while (ram->busy_writers != 0 && waited == 0)
        waited = pthread_cond_clockwait(&ram->idle, &ram->lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&ram->lock);
}

static bool flush_one(kvt_engine *engine, uint32_t id)
{
    kvt_entry *entry = kvt_index_lock_id(engine->index, id);
    bool idle = entry->live && atomic_load(&entry->host) == KVT_HOST_PRESENT && atomic_load(&entry->users) == 0;
    bool started = true;
    if (idle && atomic_load(&entry->lower) == KVT_LOWER_ABSENT && admit(engine, entry))
        started = start_writer(engine, entry);
    kvt_index_unlock_entry(engine->index, entry);
    return started;
}

void kvt_ram_flush(kvt_engine *engine, uint64_t deadline_ns)
{
    if (engine->lower == NULL)
        return;
    uint32_t end = kvt_index_id_end(engine->index);
    uint32_t *ids = kvt_alloc_array(end, sizeof *ids);
    if (ids == NULL) {
        kvt_log_write(&engine->log, KVT_LOG_WARN, "close: no memory to write RAM down; it is lost");
        return;
    }
    pthread_mutex_lock(&engine->ram->lock);
    size_t count = kvt_s3_order(engine->ram->s3, ids, end);
    pthread_mutex_unlock(&engine->ram->lock);
    while (count != 0 && kvt_now_ns() < deadline_ns) {
        if (flush_one(engine, ids[count - 1]))
            count--;
        else
            wait_for_writer(engine, deadline_ns);
    }
    kvt_ram_wait_writers(engine, deadline_ns);
    kvt_free(ids);
    if (count != 0)
        kvt_log_write(&engine->log, KVT_LOG_WARN, "close: the deadline left %zu records of RAM unwritten", count);
}
