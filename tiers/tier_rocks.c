/* SPDX-License-Identifier: Apache-2.0
 *
 * Records in RocksDB, for hosts without a disk of their own or with a file system that the file tier cannot use. Two
 * threads of this tier call RocksDB, one to read and one to write, so a slow flush holds no reader up. It evicts by
 * dropping whole column families and keeps its index in memory, rebuilt at open from the index column family. Built as
 * a module: see rocks_loader.c. What is not flushed dies with the process: acknowledgements are not durable here.
 */
#include "tiers/rocks_module.h"
#include "tiers/rocks_tier.h"

#include <inttypes.h>
#include <stdio.h>

enum { GENERATIONS_DEFAULT = 8, GENERATIONS_MIN = 2, GENERATIONS_SPARE = 2 };
static const uint64_t STORE_BYTES_MIN = UINT64_C(16) << 20;
static const uint64_t WRITE_BUFFER_BYTES_MIN = UINT64_C(1) << 20, WRITE_BUFFER_BYTES_MAX = UINT64_C(64) << 20;

static const kvt_tier_ops module_ops;

/* ---- threads ---- */

static void push(rocks_queue *queue, kvt_tier_op *op)
{
    int lane = op->priority != 0;
    op->next = NULL;
    if (queue->head[lane] == NULL)
        queue->head[lane] = op;
    else
        queue->tail[lane]->next = op;
    queue->tail[lane] = op;
}

static kvt_tier_op *pop(rocks_queue *queue)
{
    int lane = queue->head[1] != NULL;
    kvt_tier_op *op = queue->head[lane];
    if (op != NULL) {
        queue->head[lane] = op->next;
        op->next = NULL;
    }
    return op;
}

static void execute(rocks_tier *t, kvt_tier_op *op)
{
    uint64_t begin = kvt_now_ns();
    kvt_tier_verb verb = op->verb;
    op->system_error = 0;
    if (verb == KVT_TIER_READ)
        rocks_read(t, op);
    else if (verb == KVT_TIER_WRITE)
        rocks_write(t, op);
    else
        op->status = rocks_flush(t);
    uint64_t ns = kvt_now_ns() - begin;
    pthread_mutex_lock(&t->lock);
    *(verb == KVT_TIER_READ ? &t->stats.read_ns : &t->stats.written_ns) += ns;
    pthread_mutex_unlock(&t->lock);
    op->done(op);
}

static void serve(rocks_tier *t, rocks_queue *queue)
{
    bool writer = queue == &t->queues[ROCKS_WRITER];
    pthread_mutex_lock(&t->lock);
    for (;;) {
        kvt_tier_op *op = pop(queue);
        bool drops = writer && t->drops_waiting;
        if (op == NULL && !drops) {
            if (t->closing)
                break;
            pthread_cond_wait(&queue->filled, &t->lock);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        if (drops)
            rocks_delete_dropped(t);
        if (op != NULL)
            execute(t, op);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

static void *run_reader(void *arg)
{
    rocks_tier *t = arg;
    serve(t, &t->queues[ROCKS_READER]);
    return NULL;
}

static void *run_writer(void *arg)
{
    rocks_tier *t = arg;
    serve(t, &t->queues[ROCKS_WRITER]);
    return NULL;
}

static kvt_status start_threads(rocks_tier *t)
{
    static void *(*const runs[2])(void *) = {[ROCKS_READER] = run_reader, [ROCKS_WRITER] = run_writer};
    for (int i = 0; i < 2; i++) {
        t->queues[i].started = pthread_create(&t->queues[i].thread, NULL, runs[i], t) == 0;
        if (!t->queues[i].started)
            return kvt_fail(KVT_NOMEM, "tier rocks: a thread cannot be started");
    }
    return KVT_OK;
}

static bool queue_is_empty(rocks_tier *t, int which)
{
    pthread_mutex_lock(&t->lock);
    bool empty = t->queues[which].head[0] == NULL && t->queues[which].head[1] == NULL;
    pthread_mutex_unlock(&t->lock);
    return empty;
}

/* Work off what is queued, then end. The last operations of one thread may submit some to the other, which has ended by
 * then: these are done here. */
static void stop_threads(rocks_tier *t)
{
    pthread_mutex_lock(&t->lock);
    t->closing = true;
    pthread_cond_broadcast(&t->queues[ROCKS_READER].filled);
    pthread_cond_broadcast(&t->queues[ROCKS_WRITER].filled);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < 2; i++) {
        if (t->queues[i].started)
            pthread_join(t->queues[i].thread, NULL);
    }
    while (!queue_is_empty(t, ROCKS_READER) || !queue_is_empty(t, ROCKS_WRITER)) {
        serve(t, &t->queues[ROCKS_READER]);
        serve(t, &t->queues[ROCKS_WRITER]);
    }
}

/* ---- opening ---- */

/* Close what is open of the database; another attempt may follow. */
static void close_database(rocks_tier *t)
{
    while (t->ring.count != 0) {
        rocks_generation *generation = rocks_ring_newest(&t->ring);
        kvt_rocks_db_generation_close(generation->cf);
        rocks_ring_remove(&t->ring, generation);
    }
    kvt_rocks_db_close(t->db);
    t->db = NULL;
    t->ring = (rocks_ring){.count = 0};
}

static void tier_free(rocks_tier *t)
{
    close_database(t);
    kvt_rocks_dir_unlock(&t->hold);
    pthread_cond_destroy(&t->queues[ROCKS_READER].filled);
    pthread_cond_destroy(&t->queues[ROCKS_WRITER].filled);
    pthread_cond_destroy(&t->unread);
    pthread_mutex_destroy(&t->lock);
    kvt_free(t);
}

/* Shape of a new store: as many generations as leave each of them room for a record of the largest size. */
static kvt_status plan_root(const kvt_tier_options *options, kvt_rocks_root *out)
{
    uint64_t largest = options->blob_bytes_max != 0 ? options->blob_bytes_max + KVT_HEADER_BYTES : STORE_BYTES_MIN / 16;
    uint64_t least = kvt_max_u64(STORE_BYTES_MIN, largest * (GENERATIONS_MIN + GENERATIONS_SPARE));
    if (options->bytes_max < least)
        return kvt_fail(KVT_INVALID, "tier rocks: needs at least %" PRIu64 " bytes of disk for records of that size",
                        least);
    *out = (kvt_rocks_root){options->bytes_max, (uint32_t)kvt_min_u64(options->bytes_max / largest - GENERATIONS_SPARE,
                                                                      GENERATIONS_DEFAULT)};
    return KVT_OK;
}

static void take_shape(rocks_tier *t, const kvt_rocks_root *root)
{
    t->bytes_max = root->bytes_max;
    t->generation_count_max = root->generation_count;
    t->generation_bytes_max = root->bytes_max / (root->generation_count + GENERATIONS_SPARE);
    t->stats.capacity_bytes = root->bytes_max;
}

/* The root that is there, or a new one. */
static kvt_status settle_root(rocks_tier *t, const kvt_tier_options *options)
{
    uint8_t bytes[KVT_ROCKS_ROOT_BYTES];
    size_t size = 0;
    kvt_rocks_root root;
    kvt_status status = kvt_rocks_db_root_get(t->db, bytes, sizeof bytes, &size);
    if (status == KVT_OK) {
        status = kvt_rocks_root_decode(bytes, size, &root);
        if (status == KVT_VERSION)
            return kvt_fail(status, "%s was written by a newer release; nothing was changed", t->directory);
        if (status != KVT_OK)
            return kvt_fail(status, "%s: the root record is damaged", t->directory);
    } else if (status == KVT_MISS && !t->read_only && t->ring.count == 0) {
        KVT_TRY(plan_root(options, &root));
        kvt_rocks_root_encode(&root, bytes);
        KVT_TRY(kvt_rocks_db_root_put(t->db, bytes));
    } else if (status == KVT_MISS) {
        return kvt_fail(KVT_CORRUPT, "%s: the root record is missing", t->directory);
    } else {
        return status;
    }
    take_shape(t, &root);
    return KVT_OK;
}

/* Put a row where it belongs, or delete it: damaged, or of a generation that is gone. */
static kvt_status recover_row(void *arg, const void *key, size_t key_size, const void *bytes, size_t size)
{
    rocks_tier *t = arg;
    kvt_rocks_row row;
    bool sound = kvt_rocks_row_decode(key, key_size, bytes, size, &row) == KVT_OK;
    rocks_generation *generation = sound ? rocks_ring_find(&t->ring, row.generation) : NULL;
    t->stats.corrupt_records += !sound;
    if (generation == NULL) {
        kvt_rocks_db_row_delete(t->db, key, key_size);
        return KVT_OK;
    }
    if (!rocks_generation_reserve(generation, row.sequence))
        return kvt_fail(KVT_NOMEM, "tier rocks: no memory for the index");
    if (rocks_generation_entry(generation, row.sequence)->state == ROCKS_ENTRY_NONE)
        rocks_ring_enter(&t->ring, generation, row.sequence, &row.record);
    return KVT_OK;
}

static void tell_recovered(rocks_tier *t)
{
    for (uint32_t g = 0; g < t->ring.count; g++) {
        rocks_generation *generation = t->ring.generations[g];
        for (uint32_t i = 1; i <= generation->last; i++) {
            rocks_entry *entry = rocks_generation_entry(generation, i);
            if (entry == NULL || entry->state != ROCKS_ENTRY_LIVE)
                continue;
            kvt_place place = {.where = i, .generation = generation->number};
            if (!t->host.on_recovered(t->host.arg, &entry->record, &place)) {
                rocks_ring_drop(&t->ring, generation, i);
                t->drops_waiting = !t->read_only;
            }
        }
    }
}

static kvt_status recover(rocks_tier *t)
{
    KVT_TRY(kvt_rocks_db_rows_visit(t->db, recover_row, t));
    if (!t->read_only)
        KVT_TRY(kvt_rocks_db_commit(t->db));
    tell_recovered(t);
    return KVT_OK;
}

static kvt_status open_database(rocks_tier *t, const kvt_tier_options *options)
{
    kvt_rocks_found found[KVT_ROCKS_GENERATIONS_MAX + 2];
    uint32_t count = 0;
    uint64_t share = options->bytes_max / (GENERATIONS_DEFAULT + GENERATIONS_SPARE);
    kvt_rocks_db_config config = {
        .directory = t->directory,
        .write_buffer_bytes = kvt_min_u64(kvt_max_u64(share / 2, WRITE_BUFFER_BYTES_MIN), WRITE_BUFFER_BYTES_MAX),
        .read_only = t->read_only,
        .log = t->host.log,
    };
    KVT_TRY(kvt_rocks_db_open(&config, found, &count, &t->db));
    if (!t->read_only)
        kvt_rocks_dir_remove_drafts(t->directory);
    kvt_status status = KVT_OK;
    for (uint32_t i = 0; i < count; i++) {
        rocks_generation *generation = status == KVT_OK ? rocks_ring_add(&t->ring, found[i].number, found[i].cf) : NULL;
        if (generation != NULL) {
            generation->bytes = kvt_rocks_db_generation_bytes(t->db, found[i].cf);
            continue;
        }
        kvt_rocks_db_generation_close(found[i].cf);
        status = kvt_fail(KVT_NOMEM, "tier rocks: no memory for a generation");
    }
    if (status == KVT_OK)
        status = settle_root(t, options);
    return status == KVT_OK ? recover(t) : status;
}

static kvt_status open_or_reset(rocks_tier *t, const kvt_tier_options *options)
{
    kvt_status status = open_database(t, options);
    if (status != KVT_CORRUPT || !options->reset_corrupt || t->read_only)
        return status;
    kvt_log_write(&t->host.log, KVT_LOG_WARN, "tier rocks: %s; set aside as rocks.corrupt", kvt_last_error());
    close_database(t);
    char aside[ROCKS_PATH_BYTES_MAX];
    snprintf(aside, sizeof aside, "%s/rocks.corrupt", options->path);
    KVT_TRY(kvt_rocks_dir_set_aside(t->directory, aside));
    KVT_TRY(kvt_rocks_dir_make(t->directory));
    return open_database(t, options);
}

static rocks_tier *tier_new(const kvt_tier_options *options, const kvt_tier_host *host)
{
    rocks_tier *t = kvt_alloc(sizeof *t);
    if (t == NULL)
        return NULL;
    t->tier.ops = &module_ops;
    t->host = *host;
    t->read_only = options->read_only;
    t->hold.fd = -1;
    snprintf(t->directory, sizeof t->directory, "%s/rocks", options->path);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->unread, NULL);
    pthread_cond_init(&t->queues[ROCKS_READER].filled, NULL);
    pthread_cond_init(&t->queues[ROCKS_WRITER].filled, NULL);
    return t;
}

static kvt_status tier_open(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    rocks_tier *t = tier_new(options, host);
    if (t == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the RocksDB tier");
    kvt_status status = KVT_OK;
    if (!kvt_rocks_dir_exists(t->directory, "CURRENT")) {
        kvt_rocks_root planned;
        status = options->no_create || t->read_only ? kvt_fail(KVT_MISS, "%s holds no RocksDB store", options->path)
                                                    : plan_root(options, &planned);
    }
    if (status == KVT_OK)
        status = kvt_rocks_dir_lock(options->path, t->read_only, &t->hold);
    if (status == KVT_OK && !t->read_only)
        status = kvt_rocks_dir_make(t->directory);
    if (status == KVT_OK)
        status = open_or_reset(t, options);
    if (status == KVT_OK)
        status = start_threads(t);
    if (status != KVT_OK) {
        stop_threads(t);
        tier_free(t);
        return status;
    }
    *out = &t->tier;
    return KVT_OK;
}

/* ---- the vtable ---- */

static void tier_close(kvt_tier *tier)
{
    rocks_tier *t = (rocks_tier *)tier;
    stop_threads(t);
    if (rocks_flush(t) != KVT_OK)
        kvt_log_write(&t->host.log, KVT_LOG_ERROR, "tier rocks: the last writes may be lost: %s", kvt_last_error());
    tier_free(t);
}

static void tier_submit(kvt_tier *tier, kvt_tier_op *list)
{
    rocks_tier *t = (rocks_tier *)tier;
    pthread_mutex_lock(&t->lock);
    for (kvt_tier_op *op = list, *next; op != NULL; op = next) {
        next = op->next;
        rocks_queue *queue = &t->queues[op->verb == KVT_TIER_READ ? ROCKS_READER : ROCKS_WRITER];
        push(queue, op);
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&t->lock);
}

static void tier_drop(kvt_tier *tier, const kvt_place *places, size_t count)
{
    rocks_tier *t = (rocks_tier *)tier;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < count; i++) {
        rocks_generation *generation = rocks_ring_find(&t->ring, places[i].generation);
        rocks_entry *entry = generation != NULL ? rocks_generation_entry(generation, places[i].where) : NULL;
        if (entry == NULL || entry->state != ROCKS_ENTRY_LIVE)
            continue;
        rocks_ring_drop(&t->ring, generation, (uint32_t)places[i].where);
        t->drops_waiting = !t->read_only;
    }
    pthread_cond_signal(&t->queues[ROCKS_WRITER].filled);
    pthread_mutex_unlock(&t->lock);
}

/* Where the caller of flush waits for its operation. */
typedef struct flush_wait {
    kvt_tier_op op;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} flush_wait;

static void flush_done(kvt_tier_op *op)
{
    flush_wait *wait = op->arg;
    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->lock);
}

static kvt_status tier_flush(kvt_tier *tier)
{
    flush_wait wait = {.op = {.verb = ROCKS_VERB_FLUSH, .done = flush_done, .arg = &wait}};
    pthread_mutex_init(&wait.lock, NULL);
    pthread_cond_init(&wait.changed, NULL);
    tier_submit(tier, &wait.op);
    pthread_mutex_lock(&wait.lock);
    while (!wait.done)
        pthread_cond_wait(&wait.changed, &wait.lock);
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.changed);
    pthread_mutex_destroy(&wait.lock);
    return wait.op.status;
}

static void tier_stats(kvt_tier *tier, kvt_tier_stats *out)
{
    rocks_tier *t = (rocks_tier *)tier;
    pthread_mutex_lock(&t->lock);
    kvt_tier_stats stats = t->stats;
    stats.state = (uint32_t)t->state;
    stats.record_count = t->ring.record_count;
    stats.record_bytes = t->ring.record_bytes;
    for (uint32_t i = 0; i < t->ring.count; i++)
        stats.used_bytes += t->ring.generations[i]->bytes;
    pthread_mutex_unlock(&t->lock);
    stats.present = 1;
    memcpy(stats.name, out->name, sizeof stats.name);
    snprintf(stats.detail, sizeof stats.detail, "%s", kvt_rocks_db_detail(t->db));
    *out = stats;
}

/* Rows go from the disk with the flush; the values behind them cannot be reached any more. */
static kvt_status tier_erase(kvt_tier *tier, const kvt_place *places, size_t count)
{
    rocks_tier *t = (rocks_tier *)tier;
    tier_drop(tier, places, count);
    return t->read_only ? kvt_fail(KVT_REJECTED, "%s is open read-only", t->directory) : tier_flush(tier);
}

static const kvt_tier_ops module_ops = {
    .version = 1,
    .id = KVT_TIER_ROCKS,
    .name = "rocks",
    .caps = KVT_TIER_EVICTS_ITSELF | KVT_TIER_PERSISTS,
    .open = tier_open,
    .close = tier_close,
    .submit = tier_submit,
    .drop = tier_drop,
    .erase = tier_erase,
    .flush = tier_flush,
    .stats = tier_stats,
};

static const kvt_rocks_module this_module = {
    .release = KVT_RELEASE_NUMBER,
    .ops = &module_ops,
    .last_error = kvt_last_error,
    .live_bytes = kvt_live_bytes,
};

const kvt_rocks_module *kvt_rocks_module_get(void) { return &this_module; }
