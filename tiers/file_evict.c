/* SPDX-License-Identifier: Apache-2.0
 *
 * Making room, and giving up what is damaged. A segment goes as a whole: the host is asked about every record, then
 * told of every one, then the last readers leave. All of it on the keeper's thread, but for single damaged records.
 */
#include "tiers/file_calls.h"

enum { BATCH = 64 };

/* Copies, so that the host can be called without the lock; the entries stay where they are meanwhile. */
typedef struct batch {
    uint32_t count;
    kvt_file_entry copies[BATCH];
    kvt_file_entry *entries[BATCH];
} batch;

static void next_batch(kvt_file *file, const kvt_file_segment *segment, kvt_file_cursor *cursor,
                       batch *out) /* locked */
{
    kvt_file_entry *entry;
    out->count = 0;
    while (out->count < BATCH && (entry = kvt_file_entry_next(file, segment, cursor)) != NULL) {
        if (entry->state != KVT_ENTRY_LIVE)
            continue;
        out->copies[out->count] = *entry;
        out->entries[out->count++] = entry;
    }
}

static bool tell(kvt_file *file, uint32_t number, uint64_t generation, const kvt_file_entry *entry, bool damaged)
{
    kvt_record record = {.space = entry->space, .key = entry->key, .stored_bytes = entry->stored_bytes};
    kvt_place place = kvt_file_place(number, entry->block, generation);
    return file->host.on_evict(file->host.arg, &record, &place, damaged) || damaged;
}

/* ---- eviction ---- */

/* Empty ones first, then the least recently used. One that is being read waits for its turn. */
static uint32_t choose_victim(const kvt_file *file)
{
    uint32_t best = KVT_FILE_NONE;
    for (uint32_t i = 0; i < file->segment_count; i++) {
        const kvt_file_segment *segment = &file->segments[i];
        if (segment->state != KVT_SEGMENT_SEALED || segment->readers != 0 ||
            segment->refused_round == file->eviction_round || kvt_file_erase_pending(file, segment))
            continue;
        if (segment->live_count == 0)
            return i;
        if (best == KVT_FILE_NONE || segment->touched < file->segments[best].touched)
            best = i;
    }
    return best;
}

/* Does the host let every record go? Locked, lets the lock go. */
static bool ask(kvt_file *file, uint32_t number)
{
    kvt_file_segment *segment = &file->segments[number];
    kvt_file_cursor cursor = kvt_file_entries(segment);
    batch b;
    for (;;) {
        next_batch(file, segment, &cursor, &b);
        if (b.count == 0)
            return true;
        pthread_mutex_unlock(&file->lock);
        bool may = true;
        for (uint32_t i = 0; i < b.count && may; i++)
            may = file->host.may_evict(file->host.arg, &b.copies[i].space, &b.copies[i].key);
        pthread_mutex_lock(&file->lock);
        if (!may)
            return false;
    }
}

/* Tell the host of every record. false: it needs one after all; that one and those behind it stay. Locked, lets it go.
 */
static bool unpublish(kvt_file *file, uint32_t number, bool damaged)
{
    kvt_file_segment *segment = &file->segments[number];
    uint64_t generation = segment->generation;
    kvt_file_cursor cursor = kvt_file_entries(segment);
    batch b;
    for (;;) {
        next_batch(file, segment, &cursor, &b);
        if (b.count == 0)
            return true;
        pthread_mutex_unlock(&file->lock);
        uint32_t gone = 0;
        while (gone < b.count && tell(file, number, generation, &b.copies[gone], damaged))
            gone++;
        pthread_mutex_lock(&file->lock);
        for (uint32_t i = 0; i < gone; i++) {
            if (!kvt_file_entry_kill(file, segment, b.entries[i]))
                continue;
            file->counts.evicted_records++;
            file->counts.evicted_bytes += b.copies[i].stored_bytes;
        }
        if (gone < b.count)
            return false;
    }
}

static void drained(kvt_file *file, kvt_file_segment *segment)
{
    if (segment->readers == 0) {
        kvt_file_segment_free(file, segment);
    } else {
        segment->state = KVT_SEGMENT_DRAINING; /* the last reader wakes the keeper */
        file->draining++;
    }
}

bool kvt_file_evict_one(kvt_file *file)
{
    file->eviction_round++;
    for (;;) {
        uint32_t number = choose_victim(file);
        if (number == KVT_FILE_NONE)
            return false;
        kvt_file_segment *segment = &file->segments[number];
        segment->state = KVT_SEGMENT_EVICTING;
        bool gone = ask(file, number) && segment->state == KVT_SEGMENT_EVICTING && unpublish(file, number, false);
        if (segment->state != KVT_SEGMENT_EVICTING)
            continue; /* condemned meanwhile */
        if (gone) {
            drained(file, segment);
            return true;
        }
        segment->state = KVT_SEGMENT_SEALED;
        segment->refused_round = file->eviction_round;
    }
}

static uint32_t find_free(kvt_file *file)
{
    for (uint32_t i = 0; i < file->segment_count; i++) {
        kvt_file_segment *segment = &file->segments[i];
        if (segment->state == KVT_SEGMENT_DRAINING && segment->readers == 0) {
            kvt_file_segment_free(file, segment);
            file->draining--;
        }
        if (segment->state == KVT_SEGMENT_FREE)
            return i;
    }
    return KVT_FILE_NONE;
}

uint32_t kvt_file_segment_take(kvt_file *file)
{
    uint32_t number = find_free(file);
    if (number == KVT_FILE_NONE && kvt_file_evict_one(file))
        number = find_free(file);
    if (number != KVT_FILE_NONE)
        file->segments[number].state = KVT_SEGMENT_PREPARING;
    return number;
}

/* ---- damage ---- */

/* A quarantined segment says so on disk with a generation of its own, so that nothing in it counts after a reopen. */
static void quarantine(kvt_file *file, uint32_t number)
{
    kvt_file_segment *segment = &file->segments[number];
    unpublish(file, number, true);
    uint32_t readers = segment->readers;
    kvt_file_segment_free(file, segment);
    segment->readers = readers; /* nothing is written here any more, so they may stay */
    segment->state = KVT_SEGMENT_QUARANTINED;
    uint64_t generation = kvt_file_generation_next(file);
    segment->generation = generation;
    kvt_log_write(&file->host.log, KVT_LOG_ERROR, "%s: segment %u is given up after damage", file->path_text, number);
    if (generation == 0 || file->read_only)
        return;
    pthread_mutex_unlock(&file->lock);
    (void)kvt_file_header_write(file, number, KVT_SEGMENT_MARK_QUARANTINED, generation);
    pthread_mutex_lock(&file->lock);
}

void kvt_file_condemned_settle(kvt_file *file)
{
    for (uint32_t i = 0; i < file->segment_count && file->condemned != 0; i++) {
        if (file->segments[i].state != KVT_SEGMENT_CONDEMNED || file->segments[i].writers != 0)
            continue;
        file->condemned--;
        quarantine(file, i);
    }
}

void kvt_file_record_damaged(kvt_file *file, const kvt_tier_op *op)
{
    pthread_mutex_lock(&file->lock);
    kvt_file_segment *segment = kvt_file_segment_of(file, &op->place);
    kvt_file_entry *entry = segment == NULL ? NULL : kvt_file_entry_find(file, segment, (uint32_t)op->place.where);
    /* A place that means another record by now is no damage. */
    bool known = entry != NULL && entry->state == KVT_ENTRY_LIVE && kvt_key_equal(&entry->space, &op->record.space) &&
                 kvt_key_equal(&entry->key, &op->record.key) && entry->stored_bytes == op->record.stored_bytes;
    if (known) {
        kvt_file_entry_kill(file, segment, entry);
        file->counts.corrupt_records++;
        /* Without a barrier behind it, damage says nothing about the device. */
        if (++segment->damaged >= KVT_FILE_DAMAGE_MAX && segment->barrier && !file->read_only)
            kvt_file_segment_condemn(file, (uint32_t)(segment - file->segments));
    }
    pthread_mutex_unlock(&file->lock);
    if (known)
        file->host.on_evict(file->host.arg, &op->record, &op->place, true);
}
