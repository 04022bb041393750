/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments: what is known of their records in RAM, and the blocks that frame them on disk. Entries live in chunks from
 * one arena, in the order of their blocks; a chunk never moves, so a pointer to an entry is good until its segment is
 * freed. Decides nothing about when; that is for writers, the keeper and recovery.
 */
#include "tiers/file_calls.h"

/* ---- entries ---- */

kvt_file_cursor kvt_file_entries(const kvt_file_segment *segment)
{
    return (kvt_file_cursor){.chunk = segment->first_chunk, .index = 0};
}

kvt_file_entry *kvt_file_entry_next(kvt_file *file, const kvt_file_segment *segment, kvt_file_cursor *cursor)
{
    if (cursor->index >= segment->entry_count)
        return NULL;
    uint32_t within = cursor->index % KVT_FILE_CHUNK_ENTRIES;
    kvt_file_entry *entry = &file->chunks[cursor->chunk].entries[within];
    cursor->index++;
    if (within == KVT_FILE_CHUNK_ENTRIES - 1)
        cursor->chunk = file->chunks[cursor->chunk].next;
    return entry;
}

/* Whole chunks are skipped by the block of their successor's first entry. */
kvt_file_entry *kvt_file_entry_find(kvt_file *file, const kvt_file_segment *segment, uint32_t block)
{
    kvt_file_cursor cursor = kvt_file_entries(segment);
    while (cursor.index + KVT_FILE_CHUNK_ENTRIES < segment->entry_count) {
        uint32_t next = file->chunks[cursor.chunk].next;
        if (file->chunks[next].entries[0].block > block)
            break;
        cursor = (kvt_file_cursor){.chunk = next, .index = cursor.index + KVT_FILE_CHUNK_ENTRIES};
    }
    kvt_file_entry *entry;
    while ((entry = kvt_file_entry_next(file, segment, &cursor)) != NULL && entry->block <= block) {
        if (entry->block == block)
            return entry;
    }
    return NULL;
}

static uint32_t take_chunk(kvt_file *file)
{
    uint32_t chunk = file->chunk_free;
    if (chunk != KVT_FILE_NONE)
        file->chunk_free = file->chunks[chunk].next;
    else if (file->chunk_fresh < file->chunk_count)
        chunk = file->chunk_fresh++; /* memory nobody touched yet costs nothing */
    return chunk;
}

kvt_file_entry *kvt_file_entry_add(kvt_file *file, kvt_file_segment *segment)
{
    uint32_t within = segment->entry_count % KVT_FILE_CHUNK_ENTRIES;
    if (within == 0) {
        uint32_t chunk = take_chunk(file);
        if (chunk == KVT_FILE_NONE)
            return NULL;
        file->chunks[chunk].next = KVT_FILE_NONE;
        if (segment->first_chunk == KVT_FILE_NONE)
            segment->first_chunk = chunk;
        else
            file->chunks[segment->last_chunk].next = chunk;
        segment->last_chunk = chunk;
    }
    segment->entry_count++;
    return &file->chunks[segment->last_chunk].entries[within];
}

void kvt_file_entry_live(kvt_file *file, kvt_file_segment *segment, kvt_file_entry *entry)
{
    entry->state = KVT_ENTRY_LIVE;
    segment->live_count++;
    file->counts.record_count++;
    file->counts.record_bytes += entry->stored_bytes;
    file->counts.used_bytes += kvt_image_bytes(entry->stored_bytes);
}

bool kvt_file_entry_kill(kvt_file *file, kvt_file_segment *segment, kvt_file_entry *entry)
{
    bool live = entry->state == KVT_ENTRY_LIVE;
    if (live || entry->state == KVT_ENTRY_STORING) {
        entry->state = KVT_ENTRY_DEAD;
        segment->dead_count++;
    }
    if (live) {
        segment->live_count--;
        file->counts.record_count--;
        file->counts.record_bytes -= entry->stored_bytes;
        file->counts.used_bytes -= kvt_image_bytes(entry->stored_bytes);
    }
    return live;
}

static void release_footer(kvt_file *file, kvt_file_segment *segment)
{
    if (segment->footer != KVT_FILE_NONE)
        file->footers[segment->footer].segment = KVT_FILE_NONE;
    segment->footer = KVT_FILE_NONE;
}

void kvt_file_segment_free(kvt_file *file, kvt_file_segment *segment)
{
    if (segment->first_chunk != KVT_FILE_NONE) {
        file->chunks[segment->last_chunk].next = file->chunk_free;
        file->chunk_free = segment->first_chunk;
    }
    release_footer(file, segment);
    segment->first_chunk = segment->last_chunk = KVT_FILE_NONE;
    segment->entry_count = segment->live_count = segment->dead_count = 0;
    segment->next_block = 1;
    segment->damaged = 0;
    segment->barrier = false;
    segment->state = KVT_SEGMENT_FREE;
}

/* ---- states ---- */

static bool readable(const kvt_file_segment *segment)
{
    return segment->state >= KVT_SEGMENT_OPEN && segment->state <= KVT_SEGMENT_EVICTING;
}

kvt_file_segment *kvt_file_segment_of(kvt_file *file, const kvt_place *place)
{
    uint64_t number = place->where >> 32;
    if (number >= file->segment_count)
        return NULL;
    kvt_file_segment *segment = &file->segments[number];
    return segment->generation == place->generation && readable(segment) ? segment : NULL;
}

static void leave_group(kvt_file *file, uint32_t number)
{
    for (uint32_t i = 0; i < file->group_count; i++) {
        kvt_file_group *group = &file->groups[i];
        group->open = group->open == number ? KVT_FILE_NONE : group->open;
        group->prepared = group->prepared == number ? KVT_FILE_NONE : group->prepared;
    }
}

void kvt_file_segment_retire(kvt_file *file, uint32_t number)
{
    leave_group(file, number);
    file->segments[number].state = KVT_SEGMENT_SEALING;
    kvt_file_keeper_wake(file);
}

void kvt_file_segment_condemn(kvt_file *file, uint32_t number)
{
    kvt_file_segment *segment = &file->segments[number];
    if (segment->state == KVT_SEGMENT_CONDEMNED || segment->state == KVT_SEGMENT_QUARANTINED)
        return;
    leave_group(file, number);
    file->draining -= segment->state == KVT_SEGMENT_DRAINING;
    segment->state = KVT_SEGMENT_CONDEMNED;
    file->condemned++;
    kvt_file_keeper_wake(file);
}

uint64_t kvt_file_generation_next(kvt_file *file)
{
    if (file->generation_low == UINT32_MAX)
        return 0;
    return file->super.epoch << 32 | ++file->generation_low;
}

void kvt_file_segment_sealed(kvt_file *file, kvt_file_segment *segment, bool barrier)
{
    release_footer(file, segment);
    segment->state = KVT_SEGMENT_SEALED;
    segment->barrier = barrier;
    file->seals++;
    kvt_file_dirty(file);
}

/* ---- blocks on disk ---- */

kvt_status kvt_file_write_counted(kvt_file *file, uint64_t offset, const void *memory, uint64_t bytes)
{
    kvt_status status = kvt_io_write_sync(file->io, file->data_file, offset, memory, bytes);
    pthread_mutex_lock(&file->lock);
    kvt_file_io_ended(file, KVT_IO_WRITE, status);
    pthread_mutex_unlock(&file->lock);
    return status;
}

kvt_status kvt_file_header_write(kvt_file *file, uint32_t number, kvt_segment_mark mark, uint64_t generation)
{
    pthread_mutex_lock(&file->lock);
    kvt_segment_header header = {.segment = number, .mark = mark, .generation = generation, .first_seq = file->seq + 1};
    file->segments[number].open_on_disk |= mark == KVT_SEGMENT_MARK_OPEN;
    pthread_mutex_unlock(&file->lock);
    kvt_segment_header_encode(&file->super.uuid, &header, file->scratch);
    kvt_status status = kvt_file_write_counted(file, kvt_file_offset(file, number, 0), file->scratch, KVT_BLOCK_BYTES);
    if (status != KVT_OK || mark == KVT_SEGMENT_MARK_OPEN)
        return status;
    pthread_mutex_lock(&file->lock);
    file->segments[number].open_on_disk = false;
    pthread_mutex_unlock(&file->lock);
    return KVT_OK;
}

/* Close the gaps that failed and dropped records left. Locked. The number of entries that remain. */
static uint32_t compact(kvt_file *file, kvt_file_segment *segment, uint8_t *entries)
{
    uint32_t kept = 0;
    kvt_file_cursor cursor = kvt_file_entries(segment);
    for (uint32_t i = 0; i < segment->entry_count; i++) {
        const kvt_file_entry *entry = kvt_file_entry_next(file, segment, &cursor);
        if (entry->state != KVT_ENTRY_LIVE)
            continue;
        if (kept != i)
            memcpy(entries + (size_t)kept * KVT_FOOTER_ENTRY_BYTES, entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES,
                   KVT_FOOTER_ENTRY_BYTES);
        kept++;
    }
    return kept;
}

static uint64_t last_seq_of(const uint8_t *entries, uint32_t count)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        kvt_footer_entry entry;
        if (kvt_footer_entry_decode(entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES, &entry) == KVT_OK)
            last = kvt_max_u64(last, entry.seq);
    }
    return last;
}

kvt_status kvt_file_footer_replace(kvt_file *file, uint32_t number, uint64_t generation, uint8_t *entries,
                                   uint32_t count, uint64_t old_bytes)
{
    uint64_t used = (uint64_t)count * KVT_FOOTER_ENTRY_BYTES;
    uint64_t padded = kvt_footer_bytes(count);
    uint64_t gap = old_bytes - padded;
    memmove(entries + gap, entries, used);
    memset(entries, 0, gap);
    memset(entries + gap + used, 0, padded - used);
    kvt_footer_trailer trailer = {.segment = number,
                                  .count = count,
                                  .generation = generation,
                                  .last_seq = last_seq_of(entries + gap, count),
                                  .entries_crc = kvt_crc32c(0, entries + gap, padded)};
    kvt_footer_trailer_encode(&file->super.uuid, file->segment_bytes, &trailer, entries + old_bytes);
    uint64_t end = kvt_file_offset(file, number, 0) + file->segment_bytes;
    return kvt_file_write_counted(file, end - KVT_BLOCK_BYTES - old_bytes, entries, old_bytes + KVT_BLOCK_BYTES);
}

kvt_status kvt_file_footer_put(kvt_file *file, uint32_t number, uint64_t generation, uint8_t *entries, uint32_t count)
{
    return kvt_file_footer_replace(file, number, generation, entries, count, kvt_footer_bytes(count));
}

kvt_status kvt_file_footer_write(kvt_file *file, uint32_t number)
{
    pthread_mutex_lock(&file->lock);
    kvt_file_segment *segment = &file->segments[number];
    uint8_t *entries = file->footers[segment->footer].bytes;
    uint32_t count = compact(file, segment, entries);
    uint64_t generation = segment->generation;
    pthread_mutex_unlock(&file->lock);
    return count == 0 ? KVT_MISS : kvt_file_footer_put(file, number, generation, entries, count);
}
