/* SPDX-License-Identifier: Apache-2.0
 *
 * Records in RAM: the obvious tier, and the one the others are compared with. A record lies in one extent of a pool of
 * this tier's own: a block with what is known of it, then the payload. Whoever submits works the queue off, one thread
 * at a time; a submission from inside `done` only joins the queue, so depth of the stack does not grow. A full pool is
 * KVT_NOSPACE: this tier evicts nothing by itself and remembers nothing across a close.
 */
#include "tiers/tiers.h"
#include "tiers/tiers_int.h"

#include <pthread.h>
#include <stdio.h>

enum { TOUCH_THREADS = 8 };

/* First block of an extent. */
typedef struct host_entry {
    kvt_record record;
    uint32_t digest_count;
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
} host_entry;
static_assert(sizeof(host_entry) <= KVT_HEADER_BYTES, "what is known of a record fits the block before its payload");

typedef struct host_queue {
    kvt_tier_op *head, *tail;
} host_queue;

typedef struct host_tier {
    kvt_tier tier;
    kvt_tier_host host;
    kvt_pool *pool;
    uint8_t *base;
    uint64_t block_count;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t idle;
    bool working;          /* a thread is in work_off(); only that one writes into extents */
    host_queue queues[2];  /* ordinary, priority */
    uint64_t *generations; /* by first block of an extent: the generation of the record there, 0: none */
    uint64_t generation;
    kvt_tier_stats stats;
} host_tier;

static void push(host_queue *queue, kvt_tier_op *op)
{
    op->next = NULL;
    if (queue->head == NULL)
        queue->head = op;
    else
        queue->tail->next = op;
    queue->tail = op;
}

static kvt_tier_op *pop(host_tier *t)
{
    host_queue *queue = t->queues[1].head != NULL ? &t->queues[1] : &t->queues[0];
    kvt_tier_op *op = queue->head;
    if (op != NULL) {
        queue->head = op->next;
        op->next = NULL;
    }
    return op;
}

/* The extent a place names; NULL: gone. With the lock. */
static host_entry *entry_at(const host_tier *t, const kvt_place *place)
{
    uint64_t block = place->where - 1;
    if (place->where == 0 || block >= t->block_count || place->generation == 0 ||
        t->generations[block] != place->generation)
        return NULL;
    return (host_entry *)(void *)(t->base + block * KVT_BLOCK_BYTES);
}

static void write_record(host_tier *t, kvt_tier_op *op)
{
    uint64_t bytes = kvt_image_bytes(op->record.stored_bytes);
    uint8_t *extent = kvt_pool_take(t->pool, bytes);
    if (extent == NULL) {
        op->status = KVT_NOSPACE;
        return;
    }
    host_entry *entry = (host_entry *)(void *)extent;
    entry->record = op->record;
    entry->digest_count = op->digest_count;
    memcpy(entry->digests, op->digests, op->digest_count * sizeof op->digests[0]);
    memcpy(extent + KVT_HEADER_BYTES, op->image + KVT_HEADER_BYTES, bytes - KVT_HEADER_BYTES);
    uint64_t block = (uint64_t)(extent - t->base) / KVT_BLOCK_BYTES;
    pthread_mutex_lock(&t->lock);
    t->generations[block] = ++t->generation;
    op->place = (kvt_place){.where = block + 1, .generation = t->generation};
    t->stats.record_count++;
    t->stats.record_bytes += op->record.stored_bytes;
    t->stats.written_bytes += bytes;
    pthread_mutex_unlock(&t->lock);
    op->status = KVT_OK;
    t->host.on_stored(t->host.arg, &op->record, &op->place);
}

/* Copies without the lock: a drop meanwhile frees the extent, but only this thread could write into it again. */
static void read_record(host_tier *t, kvt_tier_op *op)
{
    const kvt_record *want = &op->record;
    uint64_t bytes = kvt_image_bytes(want->stored_bytes);
    pthread_mutex_lock(&t->lock);
    const host_entry *entry = entry_at(t, &op->place);
    bool same = entry != NULL && kvt_key_equal(&entry->record.space, &want->space) &&
                kvt_key_equal(&entry->record.key, &want->key) && kvt_hash128_equal(&entry->record.hash, &want->hash) &&
                entry->record.stored_bytes == want->stored_bytes;
    t->stats.read_bytes += same ? bytes : 0;
    pthread_mutex_unlock(&t->lock);
    op->digest_count = 0;
    op->status = same ? KVT_OK : KVT_MISS;
    if (!same)
        return;
    memcpy(op->image + KVT_HEADER_BYTES, (const uint8_t *)entry + KVT_HEADER_BYTES, bytes - KVT_HEADER_BYTES);
    op->digest_count = entry->digest_count;
    memcpy(op->digests, entry->digests, op->digest_count * sizeof op->digests[0]);
}

static void execute(host_tier *t, kvt_tier_op *op)
{
    uint64_t begin = kvt_now_ns();
    kvt_tier_verb verb = op->verb;
    op->system_error = 0;
    if (verb == KVT_TIER_READ)
        read_record(t, op);
    else
        write_record(t, op);
    op->done(op);
    pthread_mutex_lock(&t->lock);
    *(verb == KVT_TIER_READ ? &t->stats.read_ns : &t->stats.written_ns) += kvt_now_ns() - begin;
    pthread_mutex_unlock(&t->lock);
}

static void work_off(host_tier *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->working) {
        pthread_mutex_unlock(&t->lock);
        return;
    }
    t->working = true;
    for (kvt_tier_op *op; (op = pop(t)) != NULL;) {
        pthread_mutex_unlock(&t->lock);
        execute(t, op);
        pthread_mutex_lock(&t->lock);
    }
    t->working = false;
    pthread_cond_broadcast(&t->idle);
    pthread_mutex_unlock(&t->lock);
}

static void host_submit(kvt_tier *tier, kvt_tier_op *list)
{
    host_tier *t = (host_tier *)tier;
    pthread_mutex_lock(&t->lock);
    for (kvt_tier_op *op = list, *next; op != NULL; op = next) {
        next = op->next;
        push(&t->queues[op->priority != 0], op);
    }
    pthread_mutex_unlock(&t->lock);
    work_off(t);
}

/* With the lock. */
static void forget(host_tier *t, host_entry *entry)
{
    t->generations[(uint64_t)((uint8_t *)entry - t->base) / KVT_BLOCK_BYTES] = 0;
    t->stats.record_count--;
    t->stats.record_bytes -= entry->record.stored_bytes;
    kvt_pool_give(t->pool, (uint8_t *)entry);
}

static void host_drop(kvt_tier *tier, const kvt_place *places, size_t count)
{
    host_tier *t = (host_tier *)tier;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < count; i++) {
        host_entry *entry = entry_at(t, &places[i]);
        if (entry != NULL)
            forget(t, entry);
    }
    pthread_mutex_unlock(&t->lock);
}

static void host_stats(kvt_tier *tier, kvt_tier_stats *out)
{
    host_tier *t = (host_tier *)tier;
    pthread_mutex_lock(&t->lock);
    kvt_tier_stats stats = t->stats;
    pthread_mutex_unlock(&t->lock);
    stats.present = 1;
    memcpy(stats.name, out->name, sizeof stats.name);
    stats.used_bytes = kvt_pool_used(t->pool);
    kvt_page_kind kind = kvt_pool_page_kind(t->pool);
    snprintf(stats.detail, sizeof stats.detail, "%s pages",
             kind == KVT_PAGES_HUGE          ? "huge"
             : kind == KVT_PAGES_TRANSPARENT ? "transparent huge"
                                             : "small");
    *out = stats;
}

static void host_free(host_tier *t)
{
    for (uint64_t block = 0; t->generations != NULL && block < t->block_count; block++) {
        if (t->generations[block] != 0)
            kvt_pool_give(t->pool, t->base + block * KVT_BLOCK_BYTES);
    }
    kvt_pool_destroy(t->pool);
    kvt_free(t->generations);
    pthread_cond_destroy(&t->idle);
    pthread_mutex_destroy(&t->lock);
    kvt_free(t);
}

static void host_close(kvt_tier *tier)
{
    host_tier *t = (host_tier *)tier;
    pthread_mutex_lock(&t->lock);
    while (t->working)
        pthread_cond_wait(&t->idle, &t->lock);
    pthread_mutex_unlock(&t->lock);
    host_free(t);
}

static kvt_status host_open(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    if (options->read_only)
        return kvt_fail(KVT_MISS, "tier host: RAM holds nothing to look at read-only");
    host_tier *t = kvt_alloc(sizeof *t);
    if (t == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the host tier");
    t->tier.ops = &kvt_tier_host_ops;
    t->host = *host;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->idle, NULL);
    kvt_status status = kvt_pool_create(options->bytes_max, TOUCH_THREADS, &host->log, &t->pool);
    if (status == KVT_OK) {
        t->base = kvt_pool_base(t->pool, &t->stats.capacity_bytes);
        t->block_count = t->stats.capacity_bytes / KVT_BLOCK_BYTES;
        t->generations = kvt_alloc_array(t->block_count, sizeof *t->generations);
        if (t->generations == NULL)
            status = kvt_fail(KVT_NOMEM, "no memory for the host tier's table");
    }
    if (status != KVT_OK) {
        host_free(t);
        return status;
    }
    *out = &t->tier;
    return KVT_OK;
}

const kvt_tier_ops kvt_tier_host_ops = {
    .version = 1,
    .id = KVT_TIER_HOST,
    .name = "host",
    .caps = 0,
    .open = host_open,
    .close = host_close,
    .submit = host_submit,
    .drop = host_drop,
    .stats = host_stats,
};
