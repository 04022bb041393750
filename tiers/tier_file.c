/* SPDX-License-Identifier: Apache-2.0
 *
 * The file tier: records appended to segments of one preallocated file, recycled whole, found again after a crash
 * (docs/format_store.md). Here its life - open, close, memory sized once - and operations on their way in and out; how
 * they are done stands in file_write.c and file_read.c. Knows no index: a place is an offset with a generation.
 */
#include "tiers/file_calls.h"
#include "tiers/tiers_int.h"

#include <stdio.h>
#include <time.h>

uint64_t kvt_file_now(const kvt_file *file) { return file->setup.now_ns != NULL ? file->setup.now_ns() : kvt_now_ns(); }

/* ---- queues and slots ---- */

void kvt_file_queue_push(kvt_file_queue *queue, kvt_tier_op *op)
{
    op->next = NULL;
    if (queue->tail == NULL)
        queue->head = op;
    else
        queue->tail->next = op;
    queue->tail = op;
}

kvt_tier_op *kvt_file_queue_pop(kvt_file_queue *queue)
{
    kvt_tier_op *op = queue->head;
    if (op == NULL)
        return NULL;
    queue->head = op->next;
    if (queue->head == NULL)
        queue->tail = NULL;
    op->next = NULL;
    return op;
}

kvt_file_slot *kvt_file_slot_take(kvt_file *file)
{
    kvt_file_slot *slot = file->slot_free;
    if (slot != NULL)
        file->slot_free = slot->next;
    return slot;
}

void kvt_file_slot_give(kvt_file *file, kvt_file_slot *slot)
{
    slot->op = NULL;
    slot->next = file->slot_free;
    file->slot_free = slot;
}

/* ---- operations ---- */

static void operation_ended(kvt_file *file) /* locked */
{
    file->ops_active--;
    pthread_cond_broadcast(&file->idle);
}

void kvt_file_finish(kvt_file *file, kvt_tier_op *op, kvt_status status, int32_t system_error)
{
    op->status = status;
    op->system_error = system_error;
    op->done(op); /* op may be gone now */
    pthread_mutex_lock(&file->lock);
    operation_ended(file);
    pthread_mutex_unlock(&file->lock);
}

static void run_pending(kvt_file *file)
{
    for (;;) {
        pthread_mutex_lock(&file->lock);
        kvt_tier_op *op = file->slot_free != NULL ? kvt_file_queue_pop(&file->pending) : NULL;
        pthread_mutex_unlock(&file->lock);
        if (op == NULL)
            return;
        kvt_file_start(file, op);
    }
}

void kvt_file_finish_slot(kvt_file_slot *slot, kvt_status status)
{
    kvt_file *file = slot->file;
    kvt_tier_op *op = slot->op;
    bool write = op->verb == KVT_TIER_WRITE;
    op->status = status;
    op->system_error = slot->io.system_error;
    op->done(op); /* op may be gone now */
    pthread_mutex_lock(&file->lock);
    if (write) {
        /* Only now may the segment be sealed, and later evicted: the host has heard of the record before it loses it.
         */
        kvt_file_segment *segment = &file->segments[slot->segment];
        file->writes_active--;
        if (--segment->writers == 0 && segment->state != KVT_SEGMENT_OPEN)
            kvt_file_keeper_wake(file);
    }
    kvt_file_slot_give(file, slot);
    operation_ended(file);
    bool more = file->pending.head != NULL;
    pthread_mutex_unlock(&file->lock);
    if (more)
        run_pending(file);
}

void kvt_file_start(kvt_file *file, kvt_tier_op *op)
{
    if (op->verb == KVT_TIER_WRITE)
        kvt_file_write_start(file, op);
    else
        kvt_file_read_start(file, op);
}

static void file_submit(kvt_tier *tier, kvt_tier_op *list)
{
    kvt_file *file = (kvt_file *)tier;
    uint64_t count = 0;
    for (const kvt_tier_op *op = list; op != NULL; op = op->next)
        count++;
    pthread_mutex_lock(&file->lock);
    file->ops_active += count;
    pthread_mutex_unlock(&file->lock);
    while (list != NULL) {
        kvt_tier_op *op = list;
        list = op->next;
        op->next = NULL;
        kvt_file_start(file, op);
    }
}

void kvt_file_drop(kvt_file *file, const kvt_place *places, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kvt_file_segment *segment = kvt_file_segment_of(file, &places[i]);
        if (segment == NULL)
            continue;
        kvt_file_entry *entry = kvt_file_entry_find(file, segment, (uint32_t)places[i].where);
        if (entry != NULL)
            kvt_file_entry_kill(file, segment, entry);
    }
}

static void file_drop(kvt_tier *tier, const kvt_place *places, size_t count)
{
    kvt_file *file = (kvt_file *)tier;
    pthread_mutex_lock(&file->lock);
    kvt_file_drop(file, places, count);
    pthread_mutex_unlock(&file->lock);
}

static kvt_status file_erase(kvt_tier *tier, const kvt_place *places, size_t count)
{
    return kvt_file_erase((kvt_file *)tier, places, count);
}

static void file_touch(kvt_tier *tier, const kvt_place *places, size_t count)
{
    kvt_file *file = (kvt_file *)tier;
    pthread_mutex_lock(&file->lock);
    for (size_t i = 0; i < count; i++) {
        kvt_file_segment *segment = kvt_file_segment_of(file, &places[i]);
        if (segment != NULL)
            segment->touched = ++file->uses;
    }
    kvt_file_dirty(file);
    pthread_mutex_unlock(&file->lock);
}

/* Writes that were submitted before are waited for; those submitted meanwhile may be too, each is bounded. */
static kvt_status file_flush(kvt_tier *tier)
{
    kvt_file *file = (kvt_file *)tier;
    pthread_mutex_lock(&file->lock);
    while (file->writes_active != 0)
        pthread_cond_wait(&file->idle, &file->lock);
    pthread_mutex_unlock(&file->lock);
    if (file->read_only)
        return KVT_OK;
    kvt_status status = kvt_io_sync(file->io, file->data_file);
    if (status != KVT_OK) {
        pthread_mutex_lock(&file->lock);
        kvt_file_barrier_failed(file);
        pthread_mutex_unlock(&file->lock);
    }
    return status;
}

static void file_stats(kvt_tier *tier, kvt_tier_stats *out)
{
    kvt_file *file = (kvt_file *)tier;
    pthread_mutex_lock(&file->lock);
    uint64_t now_ns = kvt_file_now(file);
    out->state = kvt_file_state(file);
    out->capacity_bytes = file->segment_count * file->segment_bytes;
    out->durable = file->durable;
    out->used_bytes = file->counts.used_bytes;
    out->record_count = file->counts.record_count;
    out->record_bytes = file->counts.record_bytes;
    out->read_bytes = file->counts.read_bytes;
    out->written_bytes = file->counts.written_bytes;
    out->read_ns = file->counts.read_ns + (file->reads_now != 0 ? now_ns - file->reads_since_ns : 0);
    out->written_ns = file->counts.written_ns + (file->writes_now != 0 ? now_ns - file->writes_since_ns : 0);
    out->evicted_records = file->counts.evicted_records;
    out->evicted_bytes = file->counts.evicted_bytes;
    out->errors = file->counts.errors;
    out->corrupt_records = file->counts.corrupt_records;
    pthread_mutex_unlock(&file->lock);
    snprintf(out->detail, sizeof out->detail, "%s, segments of %llu MiB", file->io->ops->detail(file->io),
             (unsigned long long)(file->segment_bytes >> 20));
}

/* ---- memory, all of it taken at open ---- */

/* Every segment may waste part of a chunk; beyond 4 Mi records, 64 KiB a record on average are expected. */
static uint32_t chunks_needed(const kvt_file *file)
{
    uint64_t bytes = file->segment_count * file->segment_bytes;
    uint64_t records = kvt_min_u64(bytes / KVT_RECORD_BYTES_MIN, kvt_max_u64(UINT64_C(4) << 20, bytes >> 16));
    return (uint32_t)(records / KVT_FILE_CHUNK_ENTRIES + file->segment_count);
}

static kvt_status reserve_memory(kvt_file *file)
{
    file->chunk_count = chunks_needed(file);
    file->chunk_free = KVT_FILE_NONE;
    file->segments = kvt_alloc_array(file->segment_count, sizeof *file->segments);
    file->chunks = kvt_alloc_array(file->chunk_count, sizeof *file->chunks);
    file->slots = kvt_alloc_array(KVT_FILE_SLOTS, sizeof *file->slots);
    file->checkpoint_buffer = kvt_alloc_aligned(KVT_BLOCK_BYTES, kvt_checkpoint_bytes(file->segment_count));
    uint64_t footer_bytes = kvt_footer_bytes(kvt_footer_count_max(file->segment_bytes)) + KVT_BLOCK_BYTES;
    file->erase_buffer = kvt_alloc_aligned(KVT_BLOCK_BYTES, footer_bytes);
    bool whole = file->segments != NULL && file->chunks != NULL && file->slots != NULL &&
                 file->checkpoint_buffer != NULL && file->erase_buffer != NULL;
    for (uint32_t i = 0; i < KVT_FILE_FOOTERS && whole; i++) {
        file->footers[i].bytes = kvt_alloc_aligned(KVT_BLOCK_BYTES, footer_bytes);
        whole = file->footers[i].bytes != NULL;
    }
    if (!whole)
        return kvt_fail(KVT_NOMEM, "no memory for the segment tables of %s", file->path_text);
    for (uint32_t i = 0; i < file->segment_count; i++) {
        file->segments[i].first_chunk = file->segments[i].last_chunk = KVT_FILE_NONE;
        file->segments[i].footer = KVT_FILE_NONE;
    }
    for (uint32_t i = 0; i < KVT_FILE_SLOTS; i++) {
        file->slots[i].file = file;
        kvt_file_slot_give(file, &file->slots[i]);
    }
    return KVT_OK;
}

static void release(kvt_file *file)
{
    if (file->io != NULL) {
        file->io->ops->close_file(file->io, file->data_file);
        file->io->ops->close_file(file->io, file->lock_file);
        file->io->ops->close(file->io);
    }
    for (uint32_t i = 0; i < KVT_FILE_FOOTERS; i++)
        kvt_free(file->footers[i].bytes);
    kvt_free(file->erase_buffer);
    kvt_free(file->checkpoint_buffer);
    kvt_free(file->scratch);
    kvt_free(file->slots);
    kvt_free(file->chunks);
    kvt_free(file->segments);
    pthread_cond_destroy(&file->idle);
    pthread_cond_destroy(&file->work);
    pthread_mutex_destroy(&file->lock);
    kvt_free(file);
}

/* ---- life ---- */

static void init_sync(kvt_file *file)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&file->work, &attributes);
    pthread_cond_init(&file->idle, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&file->lock, NULL);
}

static kvt_status open_io(kvt_file *file, const kvt_tier_options *options)
{
    kvt_io_config config = {.memory = options->pool,
                            .memory_bytes = options->pool_bytes,
                            .log = file->host.log,
                            .sim = file->setup.sim,
                            .lock_wait_ms = file->setup.lock_wait_ms};
    if (file->setup.io_ops != NULL)
        return file->setup.io_ops->open(options->path, options->read_only, &config, &file->io);
    return kvt_io_open(options->io, options->path, options->read_only, &config, &file->io);
}

static kvt_status open_steps(kvt_file *file, const kvt_tier_options *options)
{
    file->scratch = kvt_alloc_aligned(KVT_BLOCK_BYTES, KVT_FILE_SCRATCH_BYTES);
    if (file->scratch == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to open %s", options->path);
    kvt_status status = open_io(file, options);
    if (status == KVT_OK)
        status = kvt_file_super_open(file, options);
    if (status == KVT_OK)
        status = reserve_memory(file);
    if (status == KVT_OK)
        status = kvt_file_recover(file);
    if (status != KVT_OK || file->read_only)
        return status;
    file->durable = file->setup.durability == KVT_DURABILITY_PROBE ? kvt_file_barrier_is_fast(file)
                                                                   : file->setup.durability == KVT_DURABILITY_SEAL;
    return file->setup.no_keeper ? KVT_OK : kvt_file_keeper_start(file);
}

kvt_status kvt_file_open(const kvt_tier_options *options, const kvt_tier_host *host, const kvt_file_setup *setup,
                         kvt_tier **out)
{
    kvt_file *file = kvt_alloc(sizeof *file);
    if (file == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to open %s", options->path);
    file->tier.ops = &kvt_tier_file_ops;
    file->host = *host;
    file->setup = *setup;
    file->read_only = options->read_only;
    file->health.writes_fixed_off = options->read_only;
    file->lock_file = file->data_file = -1;
    for (uint32_t i = 0; i < KVT_FILE_GROUPS_MAX; i++)
        file->groups[i].open = file->groups[i].prepared = KVT_FILE_NONE;
    snprintf(file->path_text, sizeof file->path_text, "%s", options->path);
    init_sync(file);
    kvt_status status = open_steps(file, options);
    if (status != KVT_OK) {
        release(file);
        return status;
    }
    file->tier.payload_bytes_max = kvt_segment_payload_max(file->segment_bytes);
    *out = &file->tier;
    return KVT_OK;
}

static kvt_status file_open(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    return kvt_file_open(options, host, &(kvt_file_setup){0}, out);
}

static void file_close(kvt_tier *tier)
{
    kvt_file *file = (kvt_file *)tier;
    pthread_mutex_lock(&file->lock);
    while (file->ops_active != 0)
        pthread_cond_wait(&file->idle, &file->lock);
    pthread_mutex_unlock(&file->lock);
    kvt_file_keeper_stop(file);
    if (!file->read_only) {
        kvt_file_seal_all(file);
        if (kvt_file_checkpoint_write(file) != KVT_OK)
            kvt_log_write(&file->host.log, KVT_LOG_WARN, "%s: no checkpoint was written: %s", file->path_text,
                          kvt_last_error());
    }
    release(file);
}

const kvt_tier_ops kvt_tier_file_ops = {
    .version = 1,
    .id = KVT_TIER_FILE,
    .name = "file",
    .caps = KVT_TIER_EVICTS_ITSELF | KVT_TIER_DURABLE_ACK | KVT_TIER_PERSISTS,
    .open = file_open,
    .close = file_close,
    .submit = file_submit,
    .drop = file_drop,
    .erase = file_erase,
    .touch = file_touch,
    .flush = file_flush,
    .stats = file_stats,
};
