/* SPDX-License-Identifier: Apache-2.0
 *
 * What a store still knows: read the segment headers, take each sealed segment's records from its footer, scan the few
 * that were not sealed, settle duplicates, and hand everything to the host in order of use. Writes the epoch and the
 * footers of scanned segments, nothing else, so it can stop anywhere and start over.
 */
#include "tiers/file_calls.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    READS = 64,                       /* under way at once */
    TAIL_BYTES = 4 * KVT_BLOCK_BYTES, /* trailer and the entries of 109 records */
    SCANS_MAX = 3 * KVT_FILE_GROUPS_MAX + 4
};
static_assert(READS * TAIL_BYTES <= KVT_FILE_SCRATCH_BYTES && READS * KVT_BLOCK_BYTES <= KVT_FILE_SCRATCH_BYTES,
              "reads of a batch land in the scratch buffer");

typedef struct ordered {
    uint64_t key;
    uint32_t segment;
} ordered;

typedef struct scanned {
    uint32_t segment;
    uint32_t count;
    uint8_t *entries; /* with a block to spare for the trailer */
} scanned;

typedef struct recovery {
    kvt_file *file;
    uint64_t *first_seqs;    /* by segment */
    bool *ranked;            /* by segment: the checkpoint knows it */
    ordered *order;          /* room for every segment */
    uint32_t unsealed_count; /* in order[] while scanning */
    uint64_t epoch;
    scanned scans[SCANS_MAX];
    uint32_t scan_count;
    uint8_t *footer_buffer;
    uint64_t refused; /* records the host had no room for */
    bool starved;     /* memory ran out */
} recovery;

/* ---- reads in batches ---- */

typedef struct latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t left;
} latch;

static void count_down(kvt_io_op *op)
{
    latch *l = op->arg;
    pthread_mutex_lock(&l->lock);
    if (--l->left == 0)
        pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* The same few bytes at the same place of up to READS segments, into the scratch buffer. */
static void read_batch(kvt_file *file, const ordered *segments, uint32_t count, uint64_t at, uint64_t bytes,
                       kvt_io_op ops[READS])
{
    latch l = {.left = count};
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.changed, NULL);
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = (kvt_io_op){.verb = KVT_IO_READ,
                             .file = file->data_file,
                             .offset = kvt_file_offset(file, segments[i].segment, 0) + at,
                             .bytes = bytes,
                             .memory = file->scratch + i * bytes,
                             .done = count_down,
                             .arg = &l,
                             .next = i + 1 < count ? &ops[i + 1] : NULL};
    }
    file->io->ops->submit(file->io, ops);
    pthread_mutex_lock(&l.lock);
    while (l.left != 0)
        pthread_cond_wait(&l.changed, &l.lock);
    pthread_mutex_unlock(&l.lock);
    pthread_cond_destroy(&l.changed);
    pthread_mutex_destroy(&l.lock);
}

/* ---- headers and epoch ---- */

static void take_header(recovery *r, uint32_t number, const uint8_t *block)
{
    kvt_file_segment *segment = &r->file->segments[number];
    kvt_segment_header header;
    kvt_file_segment_free(r->file, segment);
    segment->open_on_disk = false;
    if (kvt_segment_header_decode(&r->file->super.uuid, number, block, &header) != KVT_OK)
        return;
    segment->generation = header.generation;
    segment->open_on_disk = header.mark == KVT_SEGMENT_MARK_OPEN;
    r->first_seqs[number] = header.first_seq;
    r->epoch = kvt_max_u64(r->epoch, header.generation >> 32);
    if (header.mark == KVT_SEGMENT_MARK_OPEN)
        segment->state = KVT_SEGMENT_SEALING; /* until its footer is seen */
    else if (header.mark == KVT_SEGMENT_MARK_QUARANTINED)
        segment->state = KVT_SEGMENT_QUARANTINED;
}

static void read_headers(recovery *r)
{
    kvt_file *file = r->file;
    kvt_io_op ops[READS];
    for (uint32_t first = 0; first < file->segment_count; first += READS) {
        uint32_t count = (uint32_t)kvt_min_u64(READS, file->segment_count - first);
        for (uint32_t i = 0; i < count; i++)
            r->order[i] = (ordered){.segment = first + i};
        read_batch(file, r->order, count, 0, KVT_BLOCK_BYTES, ops);
        for (uint32_t i = 0; i < count; i++) {
            kvt_file_io_ended(file, KVT_IO_READ, ops[i].status);
            if (ops[i].status == KVT_OK) {
                take_header(r, first + i, file->scratch + (size_t)i * KVT_BLOCK_BYTES);
                continue;
            }
            /* unreadable is not free: nothing is written there, and it may hold anything */
            file->segments[first + i].state = KVT_SEGMENT_QUARANTINED;
            file->segments[first + i].open_on_disk = true;
        }
    }
}

static void read_checkpoint(recovery *r)
{
    kvt_file *file = r->file;
    kvt_checkpoint checkpoint;
    if (kvt_file_checkpoint_load(file, &checkpoint) != KVT_OK)
        return;
    r->epoch = kvt_max_u64(r->epoch, checkpoint.epoch);
    const uint8_t *rows = file->checkpoint_buffer + KVT_BLOCK_BYTES;
    for (uint32_t i = 0; i < checkpoint.row_count; i++) {
        kvt_checkpoint_row row;
        if (kvt_checkpoint_row_decode(rows + (size_t)i * KVT_CHECKPOINT_ROW_BYTES, file->segment_count, &row) != KVT_OK)
            continue; /* of a segment that the data file has lost */
        kvt_file_segment *segment = &file->segments[row.segment];
        if (segment->generation != row.generation || segment->state != KVT_SEGMENT_SEALING)
            continue;
        segment->touched = row.rank;
        segment->barrier = row.barrier;
        r->ranked[row.segment] = true;
    }
}

static void raise_epoch(recovery *r)
{
    kvt_file *file = r->file;
    uint64_t epoch = kvt_max_u64(r->epoch, file->super.epoch) + 1;
    if (file->read_only)
        return;
    bool written = false;
    if (epoch <= KVT_EPOCH_MAX) {
        file->super.epoch = epoch;
        written = kvt_file_super_write(file) == KVT_OK;
    }
    if (written)
        return;
    file->health.writes_fixed_off = true; /* a generation might be used twice */
    kvt_log_write(&file->host.log, KVT_LOG_ERROR,
                  "%s: SUPER cannot be written (%s); the store is read only until it is reopened", file->path_text,
                  kvt_last_error());
}

/* ---- footers ---- */

typedef void (*footer_visit)(recovery *r, uint32_t segment, const kvt_footer_trailer *trailer, const uint8_t *entries);

/* entries of a valid footer of this very generation, or NULL */
static const uint8_t *footer_entries(recovery *r, uint32_t number, const uint8_t *tail, kvt_footer_trailer *trailer)
{
    kvt_file *file = r->file;
    const uint8_t *block = tail + TAIL_BYTES - KVT_BLOCK_BYTES;
    if (kvt_footer_trailer_decode(&file->super.uuid, file->segment_bytes, block, trailer) != KVT_OK ||
        trailer->segment != number || trailer->generation != file->segments[number].generation)
        return NULL;
    uint64_t bytes = kvt_footer_bytes(trailer->count);
    const uint8_t *entries = block - bytes;
    if (bytes > TAIL_BYTES - KVT_BLOCK_BYTES) {
        uint64_t at = kvt_file_offset(file, number, 0) + file->segment_bytes - KVT_BLOCK_BYTES - bytes;
        entries = r->footer_buffer;
        if (kvt_io_read_sync(file->io, file->data_file, at, r->footer_buffer, bytes) != KVT_OK)
            return NULL;
    }
    return kvt_footer_entries_check(trailer, file->segment_bytes, entries) == KVT_OK ? entries : NULL;
}

static void each_footer(recovery *r, const ordered *segments, uint32_t total, footer_visit visit)
{
    kvt_io_op ops[READS];
    uint64_t at = r->file->segment_bytes - TAIL_BYTES;
    for (uint32_t first = 0; first < total; first += READS) {
        uint32_t count = (uint32_t)kvt_min_u64(READS, total - first);
        read_batch(r->file, segments + first, count, at, TAIL_BYTES, ops);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t number = segments[first + i].segment;
            kvt_footer_trailer trailer = {.count = 0};
            const uint8_t *entries = NULL;
            kvt_file_io_ended(r->file, KVT_IO_READ, ops[i].status);
            if (ops[i].status == KVT_OK)
                entries = footer_entries(r, number, r->file->scratch + (size_t)i * TAIL_BYTES, &trailer);
            visit(r, number, entries == NULL ? NULL : &trailer, entries);
        }
    }
}

/* Entries into RAM. false: the arena is full, the segment is forgotten. */
static bool keep_entries(recovery *r, uint32_t number, const uint8_t *entries, uint32_t count)
{
    kvt_file *file = r->file;
    kvt_file_segment *segment = &file->segments[number];
    for (uint32_t i = 0; i < count; i++) {
        kvt_footer_entry stored;
        kvt_file_entry *entry = kvt_file_entry_add(file, segment);
        if (entry == NULL || kvt_footer_entry_decode(entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES, &stored) != KVT_OK) {
            kvt_file_segment_free(file, segment);
            return false;
        }
        *entry = kvt_file_entry_make(&stored.record, stored.block);
    }
    segment->state = KVT_SEGMENT_SEALED;
    return true;
}

static void load_footer(recovery *r, uint32_t number, const kvt_footer_trailer *trailer, const uint8_t *entries)
{
    kvt_file_segment *segment = &r->file->segments[number];
    if (entries != NULL) {
        keep_entries(r, number, entries, trailer->count);
        return;
    }
    segment->barrier = false;
    r->ranked[number] = false;
}

/* ---- sorting ---- */

static int compare(const void *left, const void *right)
{
    const ordered *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->segment < b->segment ? -1 : a->segment > b->segment;
}

/* Segments in this state by generation, oldest first, into order[]. */
static uint32_t sort_by_generation(recovery *r, kvt_segment_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->file->segment_count; i++) {
        if (r->file->segments[i].state == state)
            r->order[count++] = (ordered){.key = r->file->segments[i].generation, .segment = i};
    }
    qsort(r->order, count, sizeof r->order[0], compare);
    return count;
}

/* Segments the checkpoint knows by rank, then the others by generation. */
static uint32_t sort_by_use(recovery *r)
{
    uint32_t known = 0;
    uint32_t total = sort_by_generation(r, KVT_SEGMENT_SEALED);
    ordered *others = r->order + total;
    for (uint32_t i = 0; i < total; i++) {
        ordered item = r->order[i];
        if (r->ranked[item.segment])
            r->order[known++] = (ordered){.key = r->file->segments[item.segment].touched, .segment = item.segment};
        else
            *others++ = item;
    }
    memmove(r->order + known, r->order + total, (total - known) * sizeof r->order[0]);
    qsort(r->order, known, sizeof r->order[0], compare);
    return total;
}

/* ---- segments nobody sealed ---- */

static void scan_one(recovery *r, uint32_t number)
{
    kvt_file *file = r->file;
    kvt_file_segment *segment = &file->segments[number];
    kvt_segment_header header = {
        .segment = number, .generation = segment->generation, .first_seq = r->first_seqs[number]};
    uint32_t count = 0;
    kvt_status status = kvt_file_scan(file, &header, r->footer_buffer, &count);
    if (status != KVT_OK)
        kvt_file_io_ended(file, KVT_IO_READ, status);
    uint64_t bytes = kvt_footer_bytes(count);
    uint8_t *entries = count == 0 ? NULL : kvt_alloc_aligned(KVT_BLOCK_BYTES, bytes + KVT_BLOCK_BYTES);
    r->starved |= count != 0 && entries == NULL;
    if (entries == NULL) {
        /* A segment that could not be read in full may hold more than we saw: leave it as it is. */
        kvt_file_segment_free(file, segment);
        segment->state = status == KVT_OK ? KVT_SEGMENT_FREE : KVT_SEGMENT_QUARANTINED;
        return;
    }
    memcpy(entries, r->footer_buffer, (size_t)count * KVT_FOOTER_ENTRY_BYTES);
    if (!keep_entries(r, number, entries, count)) {
        kvt_free(entries);
        return;
    }
    r->scans[r->scan_count++] = (scanned){.segment = number, .count = count, .entries = entries};
}

static void scan_unsealed(recovery *r)
{
    kvt_file *file = r->file;
    uint32_t count = sort_by_generation(r, KVT_SEGMENT_SEALING);
    uint32_t skipped = count > SCANS_MAX ? count - SCANS_MAX : 0;
    for (uint32_t i = 0; i < skipped; i++)
        kvt_file_segment_free(file, &file->segments[r->order[i].segment]);
    for (uint32_t i = skipped; i < count; i++)
        scan_one(r, r->order[i].segment);
    if (count != 0)
        kvt_log_write(&file->host.log, KVT_LOG_INFO, "%s: %u segments were not sealed, %u of them hold records",
                      file->path_text, count, r->scan_count);
}

/* From now on a footer vouches for them; whether or not it could be written, what was found is there. */
static void seal_scanned(recovery *r)
{
    kvt_file *file = r->file;
    bool written = false;
    if (file->read_only || file->health.writes_fixed_off)
        return;
    for (uint32_t i = 0; i < r->scan_count; i++) {
        const scanned *s = &r->scans[i];
        uint64_t generation = file->segments[s->segment].generation;
        written |= kvt_file_footer_put(file, s->segment, generation, s->entries, s->count) == KVT_OK;
    }
    if (!written)
        return;
    bool barrier = kvt_io_sync(file->io, file->data_file) == KVT_OK;
    for (uint32_t i = 0; i < r->scan_count; i++)
        file->segments[r->scans[i].segment].barrier = barrier;
}

/* ---- duplicates ---- */

static bool same_name(const kvt_file_entry *a, const kvt_file_entry *b)
{
    return kvt_key_equal(&a->key, &b->key) && kvt_key_equal(&a->space, &b->space);
}

/* Oldest first, so that what is in the table is always older. */
static kvt_status settle_duplicates(recovery *r)
{
    kvt_file *file = r->file;
    uint64_t records = 0, slots = 16;
    uint32_t total = sort_by_generation(r, KVT_SEGMENT_SEALED);
    for (uint32_t i = 0; i < total; i++)
        records += file->segments[r->order[i].segment].entry_count;
    while (slots < 2 * records)
        slots *= 2;
    kvt_file_entry **table = kvt_alloc_array(slots, sizeof *table);
    if (table == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to sort out %" PRIu64 " records of %s", records, file->path_text);
    uint64_t seed = file->io->ops->random(file->io); /* keys may be chosen by others, places in the table not */
    for (uint32_t i = 0; i < total; i++) {
        kvt_file_segment *segment = &file->segments[r->order[i].segment];
        kvt_file_cursor cursor = kvt_file_entries(segment);
        kvt_file_entry *entry;
        while ((entry = kvt_file_entry_next(file, segment, &cursor)) != NULL) {
            uint64_t at = kvt_xxh3_64_seeded(entry, 2 * sizeof(kvt_key), seed) & (slots - 1);
            while (table[at] != NULL && !same_name(table[at], entry))
                at = (at + 1) & (slots - 1);
            if (table[at] != NULL)
                table[at]->state = KVT_ENTRY_DEAD;
            table[at] = entry;
        }
    }
    kvt_free(table);
    return KVT_OK;
}
static_assert(offsetof(kvt_file_entry, space) == 0 && offsetof(kvt_file_entry, key) == sizeof(kvt_key),
              "hashed as one");

/* ---- handing over ---- */

static void hand_over(recovery *r, uint32_t number, const kvt_footer_trailer *trailer, const uint8_t *entries)
{
    kvt_file *file = r->file;
    kvt_file_segment *segment = &file->segments[number];
    segment->touched = ++file->uses;
    uint32_t stored_count = entries == NULL ? 0 : trailer->count;
    if (stored_count != segment->entry_count) { /* readable a moment ago, no longer */
        kvt_file_segment_free(file, segment);
        segment->state = KVT_SEGMENT_QUARANTINED;
        return;
    }
    kvt_file_cursor cursor = kvt_file_entries(segment);
    for (uint32_t i = 0; i < stored_count; i++) {
        kvt_file_entry *entry = kvt_file_entry_next(file, segment, &cursor);
        kvt_footer_entry stored;
        bool whole = kvt_footer_entry_decode(entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES, &stored) == KVT_OK;
        segment->dead_count += entry->state == KVT_ENTRY_DEAD;
        if (!whole || entry->state == KVT_ENTRY_DEAD)
            continue;
        kvt_place place = kvt_file_place(number, stored.block, segment->generation);
        kvt_file_entry_live(file, segment, entry);
        if (!file->host.on_recovered(file->host.arg, &stored.record, &place)) {
            kvt_file_entry_kill(file, segment, entry);
            r->refused++;
        }
    }
}

/* Scanned segments are not read again: their footers may not be there. */
static void hand_over_all(recovery *r)
{
    uint32_t total = sort_by_use(r);
    uint32_t from = 0;
    for (uint32_t i = 0; i <= total; i++) {
        const scanned *s = NULL;
        for (uint32_t j = 0; i < total && j < r->scan_count && s == NULL; j++)
            s = r->scans[j].segment == r->order[i].segment ? &r->scans[j] : NULL;
        if (i < total && s == NULL)
            continue;
        each_footer(r, r->order + from, i - from, hand_over);
        if (s != NULL)
            hand_over(r, s->segment, &(kvt_footer_trailer){.count = s->count}, s->entries);
        from = i + 1;
    }
}

/* ---- all of it ---- */

/* What an interrupted writer left behind. */
static void remove_temporaries(kvt_file *file)
{
    static const char *const names[] = {"SUPER.tmp", "index.tmp", "probe.tmp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !file->read_only; i++)
        (void)file->io->ops->unlink(file->io, names[i]);
}

static kvt_status run(recovery *r)
{
    kvt_file *file = r->file;
    read_headers(r);
    read_checkpoint(r);
    raise_epoch(r);
    remove_temporaries(file);
    uint32_t open = sort_by_generation(r, KVT_SEGMENT_SEALING);
    /* order[] is used again by others meanwhile, but not by load_footer. */
    each_footer(r, r->order, open, load_footer);
    scan_unsealed(r);
    if (r->starved)
        return kvt_fail(KVT_NOMEM, "no memory to recover %s", file->path_text);
    seal_scanned(r);
    KVT_TRY(settle_duplicates(r));
    hand_over_all(r);
    if (r->refused != 0)
        kvt_log_write(&file->host.log, KVT_LOG_WARN, "%s: %" PRIu64 " records found no room in the index",
                      file->path_text, r->refused);
    kvt_fail_clear();
    return KVT_OK;
}

kvt_status kvt_file_recover(kvt_file *file)
{
    recovery r = {.file = file};
    file->group_count = file->segment_count >= 16 ? KVT_FILE_GROUPS_MAX : 1;
    for (uint32_t i = 0; i < KVT_FILE_FOOTERS; i++)
        file->footers[i].segment = KVT_FILE_NONE;
    r.first_seqs = kvt_alloc_array(file->segment_count, sizeof *r.first_seqs);
    r.ranked = kvt_alloc_array(file->segment_count, sizeof *r.ranked);
    /* twice: sort_by_use puts aside what it does not know; READS: a batch is built in it */
    r.order = kvt_alloc_array(2 * (size_t)file->segment_count + READS, sizeof *r.order);
    r.footer_buffer = file->footers[0].bytes; /* no segment is open yet */
    kvt_status status = r.first_seqs == NULL || r.ranked == NULL || r.order == NULL
                            ? kvt_fail(KVT_NOMEM, "no memory to recover %s", file->path_text)
                            : run(&r);
    for (uint32_t i = 0; i < r.scan_count; i++)
        kvt_free(r.scans[i].entries);
    kvt_free(r.order);
    kvt_free(r.ranked);
    kvt_free(r.first_seqs);
    return status;
}
