/* SPDX-License-Identifier: Apache-2.0
 *
 * A record on its way in: reserve room in the group's open segment, write header and payload with one transfer, publish
 * when every byte was acknowledged. A record that met an error is a hole, and its segment takes no more.
 */
#include "tiers/file_calls.h"

/* Same space, same group: for one key, later records then lie in later segments. */
static kvt_file_group *group_of(kvt_file *file, const kvt_tier_op *op)
{
    return &file->groups[op->record.space.bytes[0] % file->group_count];
}

static bool fits(const kvt_file *file, const kvt_file_segment *segment, uint64_t stored_bytes)
{
    uint64_t end = (uint64_t)segment->next_block + kvt_record_blocks(stored_bytes);
    return segment->entry_count < kvt_footer_count_max(file->segment_bytes) &&
           end <= kvt_segment_end_block(file->segment_bytes, segment->entry_count + 1);
}

static bool attach_footer(kvt_file *file, uint32_t number)
{
    for (uint32_t i = 0; i < KVT_FILE_FOOTERS; i++) {
        if (file->footers[i].segment != KVT_FILE_NONE)
            continue;
        file->footers[i].segment = number;
        file->segments[number].footer = i;
        return true;
    }
    return false;
}

/* The group's open segment with room for the record, or NULL: the keeper has to come first. */
static kvt_file_segment *open_segment(kvt_file *file, kvt_file_group *group, uint64_t stored_bytes)
{
    if (group->open != KVT_FILE_NONE) {
        kvt_file_segment *segment = &file->segments[group->open];
        if (fits(file, segment, stored_bytes))
            return segment;
        kvt_file_segment_retire(file, group->open);
    }
    group->active = true;
    kvt_file_keeper_wake(file);
    if (group->prepared == KVT_FILE_NONE || !attach_footer(file, group->prepared))
        return NULL;
    group->open = group->prepared;
    group->prepared = KVT_FILE_NONE;
    file->segments[group->open].state = KVT_SEGMENT_OPEN;
    return &file->segments[group->open];
}

/* Locked. false: no room now. */
static bool reserve(kvt_file *file, kvt_file_slot *slot, kvt_tier_op *op)
{
    kvt_file_segment *segment = open_segment(file, group_of(file, op), op->record.stored_bytes);
    kvt_file_entry *entry = segment == NULL ? NULL : kvt_file_entry_add(file, segment);
    if (segment != NULL && entry == NULL) {
        file->eviction_wanted = true;
        kvt_file_keeper_wake(file);
    }
    if (entry == NULL)
        return false;
    *entry = kvt_file_entry_make(&op->record, segment->next_block);
    slot->op = op;
    slot->entry = entry;
    slot->segment = (uint32_t)(segment - file->segments);
    slot->block = segment->next_block;
    slot->generation = segment->generation;
    kvt_footer_entry stored = {.seq = ++file->seq, .block = slot->block, .record = op->record};
    uint8_t *entries = file->footers[segment->footer].bytes;
    kvt_footer_entry_encode(&stored, entries + (size_t)(segment->entry_count - 1) * KVT_FOOTER_ENTRY_BYTES);
    op->tier_private[0] = stored.seq;
    segment->next_block += kvt_record_blocks(op->record.stored_bytes);
    segment->writers++;
    file->writes_active++;
    if (file->writes_now++ == 0)
        file->writes_since_ns = kvt_file_now(file);
    return true;
}

/* Locked. Whether the record is there for good. */
static bool publish(kvt_file *file, kvt_file_slot *slot, kvt_status status, bool there)
{
    kvt_file_segment *segment = &file->segments[slot->segment];
    kvt_file_io_ended(file, KVT_IO_WRITE, status);
    if (--file->writes_now == 0)
        file->counts.written_ns += kvt_file_now(file) - file->writes_since_ns;
    bool accepted = segment->state == KVT_SEGMENT_OPEN || segment->state == KVT_SEGMENT_SEALING;
    if (status == KVT_OK && accepted && there) {
        kvt_file_entry_live(file, segment, slot->entry);
        segment->touched = ++file->uses;
        file->counts.written_bytes += slot->io.bytes;
        return true;
    }
    kvt_file_entry_kill(file, segment, slot->entry);
    if (segment->state == KVT_SEGMENT_OPEN)
        kvt_file_segment_retire(file, slot->segment);
    return false;
}

static void write_done(kvt_io_op *io)
{
    kvt_file_slot *slot = io->arg;
    kvt_file *file = slot->file;
    bool there = kvt_file_data_there(file);
    pthread_mutex_lock(&file->lock);
    bool published = publish(file, slot, io->status, there);
    pthread_mutex_unlock(&file->lock);
    if (!published) {
        kvt_file_finish_slot(slot, io->status == KVT_OK ? KVT_IO : io->status);
        return;
    }
    slot->op->place = kvt_file_place(slot->segment, slot->block, slot->generation);
    file->host.on_stored(file->host.arg, &slot->op->record, &slot->op->place);
    kvt_file_finish_slot(slot, KVT_OK);
}

static void issue(kvt_file *file, kvt_file_slot *slot)
{
    kvt_tier_op *op = slot->op;
    kvt_record_header header = {.segment = slot->segment,
                                .block = slot->block,
                                .generation = slot->generation,
                                .seq = op->tier_private[0],
                                .record = op->record};
    memcpy(header.digests, op->digests, op->digest_count * sizeof op->digests[0]);
    kvt_record_header_encode(&file->super.uuid, &header, op->image);
    slot->io = (kvt_io_op){.verb = KVT_IO_WRITE,
                           .file = file->data_file,
                           .offset = kvt_file_offset(file, slot->segment, slot->block),
                           .bytes = kvt_image_bytes(op->record.stored_bytes),
                           .memory = op->image,
                           .priority = op->priority,
                           .done = write_done,
                           .arg = slot};
    file->io->ops->submit(file->io, &slot->io);
}

/* The digests are the caller's work; who brings none has them made here, on its own thread. */
static bool digests_right(kvt_tier_op *op)
{
    uint32_t frames = kvt_frame_count(op->record.stored_bytes);
    if (op->digest_count == 0) {
        kvt_frame_digests(op->image + KVT_HEADER_BYTES, op->record.stored_bytes, op->digests);
        op->digest_count = frames;
    }
    if (op->digest_count != frames)
        return false;
    kvt_hash128 hash = kvt_payload_hash(op->digests, frames);
    return kvt_hash128_equal(&hash, &op->record.hash);
}

/* Locked. KVT_OK: *out is reserved, or NULL when the operation was put in a line. */
static kvt_status admit(kvt_file *file, kvt_tier_op *op, kvt_file_slot **out)
{
    *out = NULL;
    if (!kvt_file_admits(file, KVT_TIER_WRITE))
        return KVT_REJECTED;
    kvt_file_group *group = group_of(file, op);
    kvt_file_slot *slot = NULL;
    if (group->waiting.head == NULL) { /* else it would overtake */
        slot = kvt_file_slot_take(file);
        if (slot == NULL) {
            kvt_file_queue_push(&file->pending, op);
            return KVT_OK;
        }
        if (reserve(file, slot, op)) {
            *out = slot;
            return KVT_OK;
        }
        kvt_file_slot_give(file, slot);
    }
    op->tier_private[0] = kvt_file_now(file) + KVT_FILE_WAIT_MS * UINT64_C(1000000);
    kvt_file_queue_push(&group->waiting, op);
    kvt_file_keeper_wake(file);
    return KVT_OK;
}

void kvt_file_write_start(kvt_file *file, kvt_tier_op *op)
{
    kvt_file_slot *slot = NULL;
    kvt_status status = KVT_OK;
    if (op->record.stored_bytes > kvt_segment_payload_max(file->segment_bytes))
        status = KVT_NOSPACE;
    else if (!digests_right(op))
        status = KVT_INVALID;
    if (status == KVT_OK) {
        pthread_mutex_lock(&file->lock);
        status = admit(file, op, &slot);
        pthread_mutex_unlock(&file->lock);
    }
    if (status != KVT_OK)
        kvt_file_finish(file, op, status, 0);
    else if (slot != NULL)
        issue(file, slot);
}

/* ---- writes that wait for a segment ---- */

/* Locked. The first of the line if it can go now: with a slot to be issued, or without to be refused. */
static kvt_tier_op *next_waiting(kvt_file *file, kvt_file_group *group, kvt_file_slot **out_slot)
{
    kvt_tier_op *op = group->waiting.head;
    *out_slot = NULL;
    if (op == NULL)
        return NULL;
    if (!kvt_file_admits(file, KVT_TIER_WRITE) || kvt_file_now(file) >= op->tier_private[0])
        return kvt_file_queue_pop(&group->waiting);
    kvt_file_slot *slot = kvt_file_slot_take(file);
    if (slot == NULL)
        return NULL;
    if (!reserve(file, slot, op)) {
        kvt_file_slot_give(file, slot);
        return NULL;
    }
    *out_slot = slot;
    return kvt_file_queue_pop(&group->waiting);
}

static void resume_group(kvt_file *file, kvt_file_group *group)
{
    for (;;) {
        kvt_file_slot *slot;
        pthread_mutex_lock(&file->lock);
        kvt_tier_op *op = next_waiting(file, group, &slot);
        pthread_mutex_unlock(&file->lock);
        if (op == NULL)
            return;
        if (slot != NULL)
            issue(file, slot);
        else
            kvt_file_finish(file, op, KVT_REJECTED, 0);
    }
}

bool kvt_file_write_resume(kvt_file *file)
{
    bool waiting = false;
    for (uint32_t i = 0; i < file->group_count; i++) {
        resume_group(file, &file->groups[i]);
        pthread_mutex_lock(&file->lock);
        waiting |= file->groups[i].waiting.head != NULL;
        pthread_mutex_unlock(&file->lock);
    }
    return waiting;
}
