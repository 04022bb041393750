/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking for records in a segment that nobody sealed: at every block boundary there may be one, and it counts only if
 * its header names this very place and its payload passes. Holes and torn records between good ones are normal.
 */
#include "tiers/file_calls.h"

enum { HASHED_TIMES_MAX = 4 }; /* payloads of false headers may be read over and over; not for ever */

/* A piece of the segment in memory; it moves forward as the scan does. */
typedef struct scan {
    kvt_file *file;
    uint32_t segment;
    uint64_t window_offset, window_bytes;
    uint64_t hashed;
    kvt_status status; /* of the last read */
} scan;

/* bytes of the segment from offset, NULL: they cannot be read. bytes <= KVT_FRAME_BYTES, inside the segment. */
static const uint8_t *look(scan *s, uint64_t offset, uint64_t bytes)
{
    kvt_file *file = s->file;
    if (offset < s->window_offset || offset + bytes > s->window_offset + s->window_bytes) {
        uint64_t length = kvt_min_u64(KVT_FILE_SCRATCH_BYTES, file->segment_bytes - offset);
        s->window_bytes = 0;
        s->status = kvt_io_read_sync(file->io, file->data_file, kvt_file_offset(file, s->segment, 0) + offset,
                                     file->scratch, length);
        if (s->status != KVT_OK)
            return NULL;
        s->window_offset = offset;
        s->window_bytes = length;
    }
    return file->scratch + (offset - s->window_offset);
}

static bool payload_good(scan *s, const kvt_record_header *header)
{
    uint64_t offset = (uint64_t)header->block * KVT_BLOCK_BYTES + KVT_HEADER_BYTES;
    uint64_t left = header->record.stored_bytes;
    for (uint32_t i = 0; left != 0; i++) {
        uint64_t bytes = kvt_min_u64(left, KVT_FRAME_BYTES);
        const uint8_t *frame = look(s, offset, kvt_align_up(bytes, KVT_BLOCK_BYTES));
        s->hashed += bytes;
        if (frame == NULL || kvt_xxh3_64(frame, bytes) != header->digests[i])
            return false;
        offset += bytes;
        left -= bytes;
    }
    return true;
}

static bool record_at(scan *s, const kvt_segment_header *segment, uint32_t block, kvt_record_header *out)
{
    const uint8_t *bytes = look(s, (uint64_t)block * KVT_BLOCK_BYTES, KVT_BLOCK_BYTES);
    if (bytes == NULL || kvt_record_header_decode(&s->file->super.uuid, bytes, out) != KVT_OK)
        return false;
    bool here = out->segment == segment->segment && out->generation == segment->generation && out->block == block &&
                out->seq >= segment->first_seq &&
                kvt_record_fits(s->file->segment_bytes, block, out->record.stored_bytes);
    return here && s->hashed < HASHED_TIMES_MAX * s->file->segment_bytes && payload_good(s, out);
}

kvt_status kvt_file_scan(kvt_file *file, const kvt_segment_header *header, uint8_t *entries, uint32_t *out_count)
{
    scan s = {.file = file, .segment = header->segment};
    uint32_t count = 0, count_max = kvt_footer_count_max(file->segment_bytes);
    uint32_t unread = 0;
    /* What is found has to fit before its own footer; writers keep to this, so only a false record can break it. */
    for (uint32_t block = 1; count < count_max && block < kvt_segment_end_block(file->segment_bytes, count + 1);) {
        kvt_record_header record;
        s.status = KVT_OK;
        if (!record_at(&s, header, block, &record)) {
            unread += s.status != KVT_OK;
            if (unread > KVT_FILE_ERRORS_MAX)
                break; /* a dead device is not tried block by block */
            block++;
            continue;
        }
        uint32_t end = block + kvt_record_blocks(record.record.stored_bytes);
        if (end > kvt_segment_end_block(file->segment_bytes, count + 1))
            break;
        kvt_footer_entry entry = {.seq = record.seq, .block = block, .record = record.record};
        kvt_footer_entry_encode(&entry, entries + (size_t)count++ * KVT_FOOTER_ENTRY_BYTES);
        block = end;
    }
    *out_count = count;
    return unread == 0 ? KVT_OK : KVT_IO;
}
