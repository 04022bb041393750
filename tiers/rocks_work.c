/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two threads of the rocks tier do: read a value; write one, after making room by dropping the oldest
 * generation that may go. A generation is filled to its share of the disk, flushed, and never written again, so the
 * disk holds at most the ring, one generation that is going, and RocksDB's own bookkeeping.
 */
#include "tiers/rocks_tier.h"

#include <errno.h>
#include <inttypes.h>

enum {
    ROW_BYTES_ASSUMED = 512, /* row, keys, table entries of one record */
    RECORD_BYTES_MIN = 4096, /* what the smallest record is accounted as: bounds the number of records */
    READ_ERRORS_MAX = 16,    /* in a row, then the tier is off */
    DELETES_PER_BATCH = 1024
};
static const uint64_t DISK_BYTES_SPARE = UINT64_C(1) << 20; /* manifest, tables of a flush */
static const uint64_t BACKOFF_NS_MIN = UINT64_C(1000000000), BACKOFF_NS_MAX = UINT64_C(60000000000);

static uint64_t footprint(const kvt_record *record)
{
    uint64_t prefix = KVT_ROCKS_HEADER_BYTES + 8 * (uint64_t)kvt_frame_count(record->stored_bytes);
    return kvt_max_u64(record->stored_bytes + prefix + ROW_BYTES_ASSUMED, RECORD_BYTES_MIN);
}

/* ---- health ---- */

static void turn_off(rocks_tier *t, rocks_state state)
{
    pthread_mutex_lock(&t->lock);
    bool news = state > t->state;
    t->state = news ? state : t->state;
    t->backoff_ns = kvt_min_u64(kvt_max_u64(t->backoff_ns * 2, BACKOFF_NS_MIN), BACKOFF_NS_MAX);
    t->retry_at_ns = kvt_now_ns() + t->backoff_ns;
    pthread_mutex_unlock(&t->lock);
    if (news)
        kvt_log_write(&t->host.log, KVT_LOG_ERROR, "tier rocks: %s off: %s",
                      state == ROCKS_OFF ? "turned" : "writes turned", kvt_last_error());
}

static void turn_on(rocks_tier *t)
{
    pthread_mutex_lock(&t->lock);
    t->state = ROCKS_ON;
    t->read_errors = 0;
    t->backoff_ns = 0;
    pthread_mutex_unlock(&t->lock);
}

/* Is it no use to try: off in this state or a worse one, and the time of the next trial has not come. */
static bool is_off(rocks_tier *t, rocks_state state)
{
    pthread_mutex_lock(&t->lock);
    bool off = t->state >= state && kvt_now_ns() < t->retry_at_ns;
    pthread_mutex_unlock(&t->lock);
    return off;
}

static void fail(rocks_tier *t, kvt_tier_op *op, kvt_status status, rocks_state state)
{
    op->status = status == KVT_NOSPACE ? KVT_NOSPACE : KVT_IO;
    op->system_error = status == KVT_NOSPACE ? ENOSPC : EIO;
    pthread_mutex_lock(&t->lock);
    t->stats.errors++;
    pthread_mutex_unlock(&t->lock);
    if (state != ROCKS_ON)
        turn_off(t, state);
}

/* ---- reading ---- */

/* The generation that holds what the operation asks for, held by one more reader; NULL: gone, or another record. */
static rocks_generation *acquire(rocks_tier *t, const kvt_tier_op *op)
{
    const kvt_record *want = &op->record;
    pthread_mutex_lock(&t->lock);
    rocks_generation *generation = rocks_ring_find(&t->ring, op->place.generation);
    const rocks_entry *entry = generation != NULL ? rocks_generation_entry(generation, op->place.where) : NULL;
    bool there = entry != NULL && entry->state == ROCKS_ENTRY_LIVE && !generation->dying &&
                 kvt_key_equal(&entry->record.key, &want->key) && kvt_key_equal(&entry->record.space, &want->space) &&
                 kvt_hash128_equal(&entry->record.hash, &want->hash) &&
                 entry->record.stored_bytes == want->stored_bytes;
    if (there)
        generation->readers++;
    pthread_mutex_unlock(&t->lock);
    return there ? generation : NULL;
}

static void release(rocks_tier *t, rocks_generation *generation)
{
    pthread_mutex_lock(&t->lock);
    if (--generation->readers == 0)
        pthread_cond_broadcast(&t->unread);
    pthread_mutex_unlock(&t->lock);
}

static void deliver(rocks_tier *t, kvt_tier_op *op, const kvt_rocks_value *value)
{
    const uint8_t *payload = NULL;
    uint64_t bytes = op->record.stored_bytes;
    op->status =
        kvt_rocks_value_decode(&op->record, value->bytes, value->size, op->digests, &op->digest_count, &payload);
    if (op->status == KVT_OK) {
        uint8_t *to = op->image + KVT_HEADER_BYTES;
        memcpy(to, payload, bytes);
        memset(to + bytes, 0, kvt_align_up(bytes, KVT_BLOCK_BYTES) - bytes);
    }
    pthread_mutex_lock(&t->lock);
    t->read_errors = 0;
    t->state = t->state == ROCKS_OFF ? ROCKS_ON : t->state;
    t->stats.read_bytes += op->status == KVT_OK ? bytes : 0;
    t->stats.corrupt_records += op->status != KVT_OK;
    pthread_mutex_unlock(&t->lock);
    if (op->status != KVT_OK) {
        op->digest_count = 0;
        op->status = KVT_MISS;
    }
}

static void fail_read(rocks_tier *t, kvt_tier_op *op, kvt_status status)
{
    pthread_mutex_lock(&t->lock);
    bool off = ++t->read_errors >= READ_ERRORS_MAX;
    pthread_mutex_unlock(&t->lock);
    fail(t, op, status, off ? ROCKS_OFF : ROCKS_ON);
}

/* Bad bytes on the disk concern the records that lie there; the tier goes on. */
static void miss_damaged(rocks_tier *t, kvt_tier_op *op)
{
    kvt_log_write(&t->host.log, KVT_LOG_WARN, "tier rocks: %s", kvt_last_error());
    pthread_mutex_lock(&t->lock);
    t->stats.corrupt_records++;
    pthread_mutex_unlock(&t->lock);
    op->status = KVT_MISS;
}

void rocks_read(rocks_tier *t, kvt_tier_op *op)
{
    op->digest_count = 0;
    if (is_off(t, ROCKS_OFF)) {
        op->status = KVT_IO;
        return;
    }
    rocks_generation *generation = acquire(t, op);
    op->status = KVT_MISS;
    if (generation == NULL)
        return;
    uint8_t key[KVT_ROCKS_KEY_BYTES];
    kvt_rocks_key_encode(&op->record, key);
    kvt_rocks_value value;
    kvt_status status = kvt_rocks_db_get(t->db, generation->cf, key, &value);
    if (status == KVT_OK) {
        deliver(t, op, &value);
        kvt_rocks_db_value_release(&value);
    } else if (status == KVT_CORRUPT) {
        miss_damaged(t, op);
    } else if (status < 0) {
        fail_read(t, op, status);
    }
    release(t, generation);
}

/* ---- dropping ---- */

/* Delete the row of a record unless it tells of another one by now. The value stays until its generation goes: a
 * deletion that reached the disk before the row's would leave a row without its value after a crash. */
static void delete_row(rocks_tier *t, const kvt_rocks_row *gone)
{
    uint8_t key[KVT_ROCKS_KEY_BYTES];
    kvt_rocks_row row;
    kvt_rocks_key_encode(&gone->record, key);
    if (kvt_rocks_db_row_get(t->db, key, &row) == KVT_OK && row.generation == gone->generation &&
        row.sequence == gone->sequence)
        kvt_rocks_db_row_delete(t->db, key, sizeof key);
}

void rocks_delete_dropped(rocks_tier *t)
{
    for (bool more = true; more;) {
        for (int i = 0; i < DELETES_PER_BATCH && more; i++) {
            kvt_rocks_row row;
            pthread_mutex_lock(&t->lock);
            more = rocks_ring_next_dropped(&t->ring, &row);
            t->drops_waiting = more;
            pthread_mutex_unlock(&t->lock);
            if (more)
                delete_row(t, &row);
        }
        if (kvt_rocks_db_commit(t->db) != KVT_OK)
            turn_off(t, ROCKS_WRITES_OFF);
    }
}

/* ---- eviction ---- */

/* Copy of a live entry; false: there is none. The writer needs no lock to keep entries in place, only to read their
 * state. */
static bool live_at(rocks_tier *t, const rocks_generation *generation, uint32_t sequence, kvt_record *out)
{
    pthread_mutex_lock(&t->lock);
    const rocks_entry *entry = rocks_generation_entry(generation, sequence);
    bool live = entry != NULL && entry->state == ROCKS_ENTRY_LIVE;
    if (live)
        *out = entry->record;
    pthread_mutex_unlock(&t->lock);
    return live;
}

static bool may_go(rocks_tier *t, const rocks_generation *generation)
{
    kvt_record record;
    for (uint32_t i = 1; i <= generation->last; i++) {
        if (live_at(t, generation, i, &record) && !t->host.may_evict(t->host.arg, &record.space, &record.key))
            return false;
    }
    return true;
}

/* Tell the host of every record. false: one of them must stay after all; those told before it are gone. */
static bool unpublish(rocks_tier *t, rocks_generation *generation)
{
    kvt_record record;
    for (uint32_t i = 1; i <= generation->last; i++) {
        if (!live_at(t, generation, i, &record))
            continue;
        kvt_place place = {.where = i, .generation = generation->number};
        if (!t->host.on_evict(t->host.arg, &record, &place, false))
            return false;
        pthread_mutex_lock(&t->lock);
        if (rocks_generation_entry(generation, i)->state == ROCKS_ENTRY_LIVE)
            rocks_ring_drop(&t->ring, generation, i);
        t->stats.evicted_records++;
        t->stats.evicted_bytes += record.stored_bytes;
        pthread_mutex_unlock(&t->lock);
    }
    return true;
}

static kvt_status drop_generation(rocks_tier *t, rocks_generation *generation)
{
    pthread_mutex_lock(&t->lock);
    generation->dying = true;
    while (generation->readers != 0)
        pthread_cond_wait(&t->unread, &t->lock);
    pthread_mutex_unlock(&t->lock);
    kvt_status status = kvt_rocks_db_generation_drop(t->db, generation->cf);
    rocks_delete_dropped(t); /* what was unpublished is on the generation's list */
    pthread_mutex_lock(&t->lock);
    rocks_ring_remove(&t->ring, generation);
    pthread_mutex_unlock(&t->lock);
    return status;
}

/* Drop the oldest generation that may go; the newest stays, so that its number is not used twice. KVT_REJECTED: none
 * may. */
static kvt_status evict(rocks_tier *t)
{
    for (uint32_t i = 0; i + 1 < t->ring.count; i++) {
        rocks_generation *generation = t->ring.generations[i];
        if (may_go(t, generation) && unpublish(t, generation))
            return drop_generation(t, generation);
    }
    return KVT_REJECTED;
}

/* ---- writing ---- */

/* Room on disk for one more generation, whatever RocksDB needed for those that are there. */
static kvt_status make_room(rocks_tier *t)
{
    while (t->ring.count >= t->generation_count_max ||
           (t->ring.count > 1 && kvt_rocks_dir_bytes(t->directory) + t->generation_bytes_max > t->bytes_max)) {
        kvt_status status = evict(t);
        if (status != KVT_OK)
            return status;
    }
    return KVT_OK;
}

/* RocksDB does not get over a flush that found the disk full until it is opened again: ask before. */
static kvt_status check_room(rocks_tier *t, const kvt_record *record)
{
    const rocks_generation *newest = rocks_ring_newest(&t->ring);
    uint64_t bytes = footprint(record) + DISK_BYTES_SPARE;
    bytes += kvt_rocks_db_unflushed_bytes(t->db, newest != NULL ? newest->cf : NULL);
    if (kvt_rocks_dir_has_room(t->directory, bytes))
        return KVT_OK;
    return kvt_fail(KVT_NOSPACE, "the disk of %s is full", t->directory);
}

/* Close the newest generation and begin another one. */
static kvt_status rotate(rocks_tier *t)
{
    rocks_generation *full = rocks_ring_newest(&t->ring);
    uint32_t number = full != NULL ? full->number + 1 : 1;
    if (full != NULL) {
        KVT_TRY(kvt_rocks_db_flush(t->db, full->cf));
        kvt_status room = make_room(t);
        if (room != KVT_OK)
            return room;
    }
    if (number == 0)
        return kvt_fail(KVT_NOSPACE, "tier rocks: generations are used up; make a new store");
    kvt_rocks_cf *cf;
    KVT_TRY(kvt_rocks_db_generation_add(t->db, number, &cf));
    kvt_rocks_dir_remove_drafts(t->directory);
    pthread_mutex_lock(&t->lock);
    rocks_generation *added = rocks_ring_add(&t->ring, number, cf);
    pthread_mutex_unlock(&t->lock);
    if (added != NULL)
        return KVT_OK;
    (void)kvt_rocks_db_generation_drop(t->db, cf);
    return kvt_fail(KVT_NOMEM, "tier rocks: no memory for a generation");
}

/* The generation to write into, with an entry reserved. */
static kvt_status prepare(rocks_tier *t, const kvt_record *record, rocks_generation **out)
{
    rocks_generation *newest = rocks_ring_newest(&t->ring);
    if (newest == NULL || newest->last == KVT_ROCKS_SEQUENCE_MAX ||
        newest->bytes + footprint(record) > t->generation_bytes_max) {
        kvt_status status = rotate(t);
        if (status != KVT_OK)
            return status;
        newest = rocks_ring_newest(&t->ring);
    }
    pthread_mutex_lock(&t->lock);
    bool reserved = rocks_generation_reserve(newest, newest->last + 1);
    pthread_mutex_unlock(&t->lock);
    *out = newest;
    return reserved ? KVT_OK : kvt_fail(KVT_NOMEM, "tier rocks: no memory for a record's entry");
}

/* Header and digests go right before the payload, into the image's scratch block: the value is one piece of memory. */
static kvt_status store(rocks_tier *t, kvt_tier_op *op, rocks_generation *generation)
{
    uint8_t prefix[KVT_ROCKS_PREFIX_BYTES_MAX];
    size_t prefix_bytes = kvt_rocks_prefix_encode(&op->record, op->digests, op->digest_count, prefix);
    uint8_t *value = op->image + KVT_HEADER_BYTES - prefix_bytes;
    memcpy(value, prefix, prefix_bytes);
    kvt_rocks_row row = {op->record, generation->number, generation->last + 1};
    KVT_TRY(kvt_rocks_db_put(t->db, generation->cf, value, prefix_bytes + op->record.stored_bytes, &row));
    op->place = (kvt_place){.where = row.sequence, .generation = row.generation};
    pthread_mutex_lock(&t->lock);
    rocks_ring_enter(&t->ring, generation, row.sequence, &op->record);
    generation->bytes += footprint(&op->record);
    t->stats.written_bytes += op->record.stored_bytes;
    pthread_mutex_unlock(&t->lock);
    return KVT_OK;
}

void rocks_write(rocks_tier *t, kvt_tier_op *op)
{
    op->status = KVT_REJECTED;
    if (t->read_only || is_off(t, ROCKS_WRITES_OFF))
        return;
    if (!kvt_rocks_record_fits(&op->record)) {
        op->status = KVT_INVALID;
        return;
    }
    if (footprint(&op->record) > t->generation_bytes_max) {
        op->status = KVT_NOSPACE;
        return;
    }
    rocks_generation *generation = NULL;
    kvt_status status = check_room(t, &op->record);
    if (status == KVT_OK)
        status = prepare(t, &op->record, &generation);
    if (status == KVT_OK)
        status = store(t, op, generation);
    if (status < 0) {
        fail(t, op, status, status == KVT_CORRUPT ? ROCKS_OFF : ROCKS_WRITES_OFF);
        return;
    }
    op->status = status;
    if (status != KVT_OK)
        return;
    turn_on(t);
    t->host.on_stored(t->host.arg, &op->record, &op->place);
}

kvt_status rocks_flush(rocks_tier *t)
{
    if (t->read_only)
        return KVT_OK;
    rocks_delete_dropped(t);
    for (uint32_t i = 0; i < t->ring.count; i++)
        KVT_TRY(kvt_rocks_db_flush(t->db, t->ring.generations[i]->cf));
    return kvt_rocks_db_flush_index(t->db);
}
