/* SPDX-License-Identifier: Apache-2.0
 *
 * Records that go for good. A dropped record is forgotten in RAM only; here the footers stop telling of it and its
 * bytes are overwritten, in an order that leaves the record or no record at any crash (docs/format_store.md, section
 * 8). The keeper does it for everything that was dropped when somebody asked, so many removals cost one rewrite of a
 * footer and two barriers, and nobody waits for what others drop later.
 */
#include "tiers/file_calls.h"

#include <errno.h>
#include <time.h>

/* Footers between two barriers, all of which one crash may tear: recovery scans that many on top of its own. */
enum { SEGMENTS_AT_ONCE = 4, STEPS_MAX_UNKEPT = 10000 };
static const uint64_t STUCK_NS = UINT64_C(60000000000); /* without a step that ended */

typedef struct erasure {
    uint32_t numbers[SEGMENTS_AT_ONCE];
    uint32_t entry_counts[SEGMENTS_AT_ONCE]; /* those that may be erased lie before: an open segment grows meanwhile */
    bool sealed[SEGMENTS_AT_ONCE];           /* has a footer on disk */
    uint64_t due[SEGMENTS_AT_ONCE];          /* taken from the segment while it is worked on */
    uint32_t count;
} erasure;

/* ---- what there is to do ---- */

/* One that is being evicted or sealed by this very thread is in no such state here; what is condemned comes later. */
static bool erasable(const kvt_file_segment *segment)
{
    return segment->state == KVT_SEGMENT_OPEN || segment->state == KVT_SEGMENT_SEALING ||
           segment->state == KVT_SEGMENT_SEALED;
}

/* Emptied or given up here, which a later open might not know. */
static bool stale(const kvt_file_segment *segment)
{
    return segment->open_on_disk && (segment->state == KVT_SEGMENT_FREE || segment->state == KVT_SEGMENT_DRAINING ||
                                     segment->state == KVT_SEGMENT_QUARANTINED);
}

/* Locked. Dead records become ERASING, or those back DEAD or ERASED. */
static void turn(kvt_file *file, uint32_t number, kvt_file_entry_state from, kvt_file_entry_state to)
{
    kvt_file_segment *segment = &file->segments[number];
    kvt_file_cursor cursor = kvt_file_entries(segment);
    kvt_file_entry *entry;
    while ((entry = kvt_file_entry_next(file, segment, &cursor)) != NULL) {
        if (entry->state != from)
            continue;
        entry->state = to & 0xf;
        segment->dead_count += to == KVT_ENTRY_DEAD;
        segment->dead_count -= from == KVT_ENTRY_DEAD;
    }
}

static void choose(kvt_file *file, erasure *out) /* locked */
{
    out->count = 0;
    for (uint32_t i = 0; i < file->segment_count && out->count < SEGMENTS_AT_ONCE; i++) {
        kvt_file_segment *segment = &file->segments[i];
        if (segment->dead_count == 0 || segment->erase_due == 0 || !erasable(segment))
            continue;
        out->due[out->count] = segment->erase_due;
        segment->erase_due = 0;
        turn(file, i, KVT_ENTRY_DEAD, KVT_ENTRY_ERASING);
        out->sealed[out->count] = segment->state == KVT_SEGMENT_SEALED;
        out->entry_counts[out->count] = segment->entry_count;
        out->numbers[out->count++] = i;
    }
}

/* Locked. What is dead or stale now is what this removal waits for; what others drop later is not. */
static void mark_due(kvt_file *file, uint64_t ticket)
{
    for (uint32_t i = 0; i < file->segment_count; i++) {
        kvt_file_segment *segment = &file->segments[i];
        if (segment->erase_due == 0 && (segment->dead_count != 0 || stale(segment)))
            segment->erase_due = ticket;
    }
}

/* Locked. The first removal that still waits, or UINT64_MAX. Segments may have been emptied by other ways. */
static uint64_t first_waiting(kvt_file *file)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < file->segment_count; i++) {
        kvt_file_segment *segment = &file->segments[i];
        if (segment->dead_count == 0 && !stale(segment))
            segment->erase_due = 0;
        if (segment->erase_due != 0)
            first = kvt_min_u64(first, segment->erase_due);
    }
    return first;
}

/* ---- footers ---- */

/* The stored entries of live records, in place; their number. Both lists are in the order of blocks. */
static uint32_t keep_live(kvt_file *file, uint32_t number, uint8_t *entries, uint32_t count)
{
    kvt_file_segment *segment = &file->segments[number];
    uint32_t kept = 0;
    pthread_mutex_lock(&file->lock);
    kvt_file_cursor cursor = kvt_file_entries(segment);
    const kvt_file_entry *known = kvt_file_entry_next(file, segment, &cursor);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *bytes = entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES;
        kvt_footer_entry stored;
        if (kvt_footer_entry_decode(bytes, &stored) != KVT_OK)
            continue;
        while (known != NULL && known->block < stored.block)
            known = kvt_file_entry_next(file, segment, &cursor);
        bool gone = known == NULL || known->block != stored.block || known->state == KVT_ENTRY_ERASING ||
                    known->state == KVT_ENTRY_ERASED;
        if (!gone)
            memmove(entries + (size_t)kept++ * KVT_FOOTER_ENTRY_BYTES, bytes, KVT_FOOTER_ENTRY_BYTES);
    }
    pthread_mutex_unlock(&file->lock);
    return kept;
}

/* The footer of a sealed segment into the erase buffer, if it reads as valid: KVT_OK; KVT_MISS; an I/O error. */
static kvt_status read_footer(kvt_file *file, uint32_t number, uint64_t end, kvt_footer_trailer *out)
{
    uint8_t *buffer = file->erase_buffer;
    KVT_TRY(kvt_io_read_sync(file->io, file->data_file, end - KVT_BLOCK_BYTES, buffer, KVT_BLOCK_BYTES));
    if (kvt_footer_trailer_decode(&file->super.uuid, file->segment_bytes, buffer, out) != KVT_OK ||
        out->segment != number || out->generation != file->segments[number].generation)
        return KVT_MISS;
    uint64_t bytes = kvt_footer_bytes(out->count);
    if (bytes != 0)
        KVT_TRY(kvt_io_read_sync(file->io, file->data_file, end - KVT_BLOCK_BYTES - bytes, buffer, bytes));
    return kvt_footer_entries_check(out, file->segment_bytes, buffer) == KVT_OK ? KVT_OK : KVT_MISS;
}

/* Write a sealed segment's footer again without what is being erased. Where none can be read none may be found later:
 * the next open scans that segment. */
static kvt_status rewrite_footer(kvt_file *file, uint32_t number)
{
    uint64_t end = kvt_file_offset(file, number, 0) + file->segment_bytes;
    kvt_footer_trailer trailer;
    kvt_status status = read_footer(file, number, end, &trailer);
    if (status == KVT_MISS) {
        memset(file->erase_buffer, 0, KVT_BLOCK_BYTES);
        return kvt_file_write_counted(file, end - KVT_BLOCK_BYTES, file->erase_buffer, KVT_BLOCK_BYTES);
    }
    if (status != KVT_OK)
        return status;
    uint32_t kept = keep_live(file, number, file->erase_buffer, trailer.count);
    return kvt_file_footer_replace(file, number, trailer.generation, file->erase_buffer, kept,
                                   kvt_footer_bytes(trailer.count));
}

static kvt_status rewrite_footers(kvt_file *file, const erasure *work)
{
    bool written = false;
    for (uint32_t i = 0; i < work->count; i++) {
        if (work->sealed[i])
            KVT_TRY(rewrite_footer(file, work->numbers[i]));
        written |= work->sealed[i];
    }
    return written ? kvt_file_barrier(file) : KVT_OK;
}

/* ---- bytes ---- */

/* The next run of blocks that are being erased, from *cursor on, among the first end entries; false: none. Locked. */
static bool next_run(kvt_file *file, uint32_t number, uint32_t end, kvt_file_cursor *cursor, uint32_t *out_block,
                     uint32_t *out_blocks)
{
    kvt_file_segment *segment = &file->segments[number];
    *out_blocks = 0;
    for (;;) {
        kvt_file_cursor before = *cursor;
        const kvt_file_entry *entry = cursor->index < end ? kvt_file_entry_next(file, segment, cursor) : NULL;
        bool more = entry != NULL && entry->state == KVT_ENTRY_ERASING;
        if (more && *out_blocks == 0)
            *out_block = entry->block;
        if (*out_blocks != 0 && (!more || entry->block != *out_block + *out_blocks)) {
            *cursor = before;
            return true;
        }
        if (entry == NULL)
            return false;
        *out_blocks += more ? kvt_record_blocks(entry->stored_bytes) : 0;
    }
}

static kvt_status zero_blocks(kvt_file *file, uint32_t number, uint32_t block, uint32_t blocks)
{
    uint64_t at = kvt_file_offset(file, number, block);
    uint64_t end = at + (uint64_t)blocks * KVT_BLOCK_BYTES;
    while (at < end) {
        uint64_t bytes = kvt_min_u64(end - at, KVT_FILE_SCRATCH_BYTES);
        KVT_TRY(kvt_file_write_counted(file, at, file->scratch, bytes));
        at += bytes;
    }
    return KVT_OK;
}

static kvt_status zero_records(kvt_file *file, uint32_t number, uint32_t end)
{
    kvt_file_cursor cursor = kvt_file_entries(&file->segments[number]);
    for (;;) {
        uint32_t block = 0, blocks = 0;
        pthread_mutex_lock(&file->lock);
        bool more = next_run(file, number, end, &cursor, &block, &blocks);
        pthread_mutex_unlock(&file->lock);
        if (!more)
            return KVT_OK;
        KVT_TRY(zero_blocks(file, number, block, blocks));
    }
}

/* Headers that say OPEN of segments that are not, as far as this process knows. */
static kvt_status mark_stale(kvt_file *file, bool *written)
{
    for (uint32_t i = 0; i < file->segment_count; i++) {
        pthread_mutex_lock(&file->lock);
        const kvt_file_segment *segment = &file->segments[i];
        bool wanted = stale(segment);
        bool given_up = segment->state == KVT_SEGMENT_QUARANTINED;
        uint64_t generation = wanted && given_up ? kvt_file_generation_next(file) : segment->generation;
        kvt_segment_mark mark = given_up ? KVT_SEGMENT_MARK_QUARANTINED : KVT_SEGMENT_MARK_FREE;
        pthread_mutex_unlock(&file->lock);
        if (!wanted)
            continue;
        *written = true;
        KVT_TRY(kvt_file_header_write(file, i, mark, generation));
    }
    return KVT_OK;
}

static kvt_status overwrite(kvt_file *file, const erasure *work)
{
    bool written = work->count != 0;
    KVT_TRY(mark_stale(file, &written)); /* uses the scratch buffer */
    memset(file->scratch, 0, KVT_FILE_SCRATCH_BYTES);
    for (uint32_t i = 0; i < work->count; i++)
        KVT_TRY(zero_records(file, work->numbers[i], work->entry_counts[i]));
    return written ? kvt_file_barrier(file) : KVT_OK;
}

/* ---- one step, by the keeper ---- */

static kvt_status run(kvt_file *file, const erasure *work)
{
    if (!kvt_file_data_there(file) || file->health.writes_fixed_off)
        return kvt_fail(KVT_REJECTED, "%s: writes are off; nothing can be erased", file->path_text);
    KVT_TRY(rewrite_footers(file, work));
    return overwrite(file, work);
}

bool kvt_file_erase_step(kvt_file *file)
{
    erasure work;
    pthread_mutex_lock(&file->lock);
    uint64_t asked = file->erase_asked;
    bool wanted = asked != file->erase_done;
    if (wanted)
        choose(file, &work);
    pthread_mutex_unlock(&file->lock);
    if (!wanted)
        return false;
    kvt_status status = run(file, &work);
    pthread_mutex_lock(&file->lock);
    for (uint32_t i = 0; i < work.count; i++) {
        turn(file, work.numbers[i], KVT_ENTRY_ERASING, status == KVT_OK ? KVT_ENTRY_ERASED : KVT_ENTRY_DEAD);
        if (status != KVT_OK)
            file->segments[work.numbers[i]].erase_due = work.due[i];
    }
    uint64_t waiting = first_waiting(file);
    bool more = status == KVT_OK && waiting <= asked;
    file->erase_steps++;
    file->woken |= more && work.count != 0; /* else somebody has to go first: a reader, a write */
    file->erase_done = kvt_max_u64(file->erase_done, more ? waiting - 1 : asked);
    file->erase_status = status;
    pthread_cond_broadcast(&file->idle);
    pthread_mutex_unlock(&file->lock);
    return more;
}

/* ---- the caller's side ---- */

/* Locked. Without a keeper thread the rounds are run here. */
static void wait_done(kvt_file *file, uint64_t ticket)
{
    uint64_t steps = file->erase_steps, start_ns = kvt_now_ns();
    for (int i = 0; file->erase_done < ticket && i < STEPS_MAX_UNKEPT; i += file->setup.no_keeper) {
        if (file->setup.no_keeper) {
            pthread_mutex_unlock(&file->lock);
            (void)kvt_file_keep(file);
            pthread_mutex_lock(&file->lock);
            continue;
        }
        uint64_t due_ns = start_ns + STUCK_NS;
        struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000), .tv_nsec = (long)(due_ns % 1000000000)};
        if (pthread_cond_timedwait(&file->idle, &file->lock, &due) == ETIMEDOUT && steps == file->erase_steps)
            return;
        start_ns = steps == file->erase_steps ? start_ns : kvt_now_ns();
        steps = file->erase_steps;
    }
}

kvt_status kvt_file_erase(kvt_file *file, const kvt_place *places, size_t count)
{
    pthread_mutex_lock(&file->lock);
    kvt_file_drop(file, places, count);
    if (file->read_only || !kvt_file_admits(file, KVT_TIER_WRITE)) {
        pthread_mutex_unlock(&file->lock);
        return kvt_fail(KVT_REJECTED, "%s: writes are off; what was dropped may be back after a reopen",
                        file->path_text);
    }
    uint64_t ticket = ++file->erase_asked;
    mark_due(file, ticket);
    kvt_file_keeper_wake(file);
    wait_done(file, ticket);
    kvt_status status = file->erase_done >= ticket ? file->erase_status : KVT_BUSY;
    pthread_mutex_unlock(&file->lock);
    if (status == KVT_OK)
        return KVT_OK;
    return kvt_fail(status, "%s: what was dropped could not be erased, and may be back after a reopen",
                    file->path_text);
}
