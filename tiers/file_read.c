/* SPDX-License-Identifier: Apache-2.0
 *
 * A record on its way out: one transfer of header and payload, while its segment is held. The header must say that this
 * is the record that was asked for; its digests go along, so that the caller can check the payload frame by frame.
 */
#include "tiers/file_calls.h"

static void read_done(kvt_io_op *io);

static void issue(kvt_file_slot *slot)
{
    kvt_file *file = slot->file;
    kvt_tier_op *op = slot->op;
    slot->io = (kvt_io_op){.verb = KVT_IO_READ,
                           .file = file->data_file,
                           .offset = kvt_file_offset(file, slot->segment, slot->block),
                           .bytes = kvt_image_bytes(op->record.stored_bytes),
                           .memory = op->image,
                           .priority = op->priority,
                           .done = read_done,
                           .arg = slot};
    file->io->ops->submit(file->io, &slot->io);
}

/* Is it the record? Then its digests are the caller's. */
static bool take_header(const kvt_file_slot *slot)
{
    kvt_tier_op *op = slot->op;
    kvt_record_header header;
    if (kvt_record_header_decode(&slot->file->super.uuid, op->image, &header) != KVT_OK)
        return false;
    bool same = header.segment == slot->segment && header.block == slot->block &&
                header.generation == slot->generation && kvt_key_equal(&header.record.space, &op->record.space) &&
                kvt_key_equal(&header.record.key, &op->record.key) &&
                header.record.stored_bytes == op->record.stored_bytes &&
                kvt_hash128_equal(&header.record.hash, &op->record.hash);
    if (!same)
        return false;
    op->digest_count = kvt_frame_count(op->record.stored_bytes);
    memcpy(op->digests, header.digests, op->digest_count * sizeof op->digests[0]);
    return true;
}

static void let_go(kvt_file_slot *slot) /* locked */
{
    kvt_file *file = slot->file;
    kvt_file_segment *segment = &file->segments[slot->segment];
    if (--file->reads_now == 0)
        file->counts.read_ns += kvt_file_now(file) - file->reads_since_ns;
    if (--segment->readers == 0 && segment->state == KVT_SEGMENT_DRAINING)
        kvt_file_keeper_wake(file);
    if (slot->io.status == KVT_OK)
        file->counts.read_bytes += slot->io.bytes;
}

static void read_done(kvt_io_op *io)
{
    kvt_file_slot *slot = io->arg;
    kvt_file *file = slot->file;
    kvt_status status = io->status;
    bool right = status == KVT_OK && take_header(slot);
    if (status == KVT_OK && !right && slot->attempt++ == 0) {
        issue(slot); /* once more: tells a bad transfer from bad bytes */
        return;
    }
    bool cut_short = status == KVT_IO && io->system_error == 0; /* the file ends before it */
    pthread_mutex_lock(&file->lock);
    if (!cut_short)
        kvt_file_io_ended(file, KVT_IO_READ, status);
    let_go(slot);
    pthread_mutex_unlock(&file->lock);
    if (!right)
        kvt_file_record_damaged(file, slot->op);
    kvt_file_finish_slot(slot, right ? KVT_OK : status == KVT_OK || cut_short ? KVT_MISS : status);
}

/* Locked. KVT_OK: *out holds the segment, or is NULL when the operation was put in line. */
static kvt_status hold(kvt_file *file, kvt_tier_op *op, kvt_file_slot **out)
{
    *out = NULL;
    uint32_t block = (uint32_t)op->place.where;
    kvt_file_segment *segment = kvt_file_segment_of(file, &op->place);
    if (segment == NULL || !kvt_record_fits(file->segment_bytes, block, op->record.stored_bytes) ||
        !kvt_file_admits(file, KVT_TIER_READ))
        return KVT_MISS;
    kvt_file_slot *slot = kvt_file_slot_take(file);
    if (slot == NULL) {
        kvt_file_queue_push(&file->pending, op);
        return KVT_OK;
    }
    slot->op = op;
    slot->segment = (uint32_t)(segment - file->segments);
    slot->block = block;
    slot->generation = segment->generation;
    slot->attempt = 0;
    segment->readers++;
    segment->touched = ++file->uses;
    kvt_file_dirty(file);
    if (file->reads_now++ == 0)
        file->reads_since_ns = kvt_file_now(file);
    *out = slot;
    return KVT_OK;
}

void kvt_file_read_start(kvt_file *file, kvt_tier_op *op)
{
    kvt_file_slot *slot;
    op->digest_count = 0;
    pthread_mutex_lock(&file->lock);
    kvt_status status = hold(file, op, &slot);
    pthread_mutex_unlock(&file->lock);
    if (status != KVT_OK)
        kvt_file_finish(file, op, status, 0);
    else if (slot != NULL)
        issue(slot);
}
