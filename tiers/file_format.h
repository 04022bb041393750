/* SPDX-License-Identifier: Apache-2.0
 *
 * The blocks of docs/format_store.md: encode, decode, validate. Pure: bytes in, structs out, no I/O, no allocation.
 * Every decoder takes hostile bytes and answers KVT_OK, KVT_CORRUPT (not such a block, or broken) or, for SUPER only,
 * KVT_VERSION. A struct is written only on KVT_OK.
 */
#ifndef KVT_FILE_FORMAT_H
#define KVT_FILE_FORMAT_H

#include "tiers/tiers.h"

enum {
    KVT_FORMAT_VERSION = 0,
    KVT_UUID_BYTES = 16,
    KVT_DATA_FILES_MAX = 8,
    KVT_SEGMENTS_MIN = 4,
    KVT_SEGMENTS_MAX = 1 << 20,
    KVT_FOOTER_ENTRY_BYTES = 112,
    KVT_CHECKPOINT_ROW_BYTES = 32,
    KVT_RECORD_BYTES_MIN = 2 * KVT_BLOCK_BYTES /* header block and one block of payload */
};
#define KVT_SEGMENT_BYTES_MIN (UINT64_C(1) << 20)
#define KVT_SEGMENT_BYTES_MAX (UINT64_C(1) << 30)
#define KVT_EPOCH_MAX         UINT64_C(0xffffffff)

typedef struct kvt_uuid {
    uint8_t bytes[KVT_UUID_BYTES];
} kvt_uuid;

/* ---- SUPER ---- */

typedef struct kvt_super {
    kvt_uuid uuid;
    uint64_t slot_seq;
    uint64_t epoch;
    uint64_t segment_bytes;
    uint64_t segment_count[KVT_DATA_FILES_MAX];
    uint32_t file_count;
    uint32_t io_alignment;
    uint64_t features_incompat;
    uint64_t features_compat;
    uint64_t bytes_max;
} kvt_super;

void kvt_super_encode(const kvt_super *super, uint8_t block[KVT_BLOCK_BYTES]);
/* KVT_VERSION: a whole block of a newer format, or with features or data files unknown here. */
kvt_status kvt_super_decode(const uint8_t block[KVT_BLOCK_BYTES], uint32_t slot, kvt_super *out);

/* ---- segments ---- */

/* stored values, frozen with the format */
typedef enum kvt_segment_mark {
    KVT_SEGMENT_MARK_OPEN = 1,
    KVT_SEGMENT_MARK_SEALED = 2, /* in checkpoint rows only */
    KVT_SEGMENT_MARK_FREE = 3,
    KVT_SEGMENT_MARK_QUARANTINED = 4
} kvt_segment_mark;

typedef struct kvt_segment_header {
    uint32_t segment;
    uint32_t mark; /* kvt_segment_mark, not SEALED */
    uint64_t generation;
    uint64_t first_seq;
} kvt_segment_header;

void kvt_segment_header_encode(const kvt_uuid *uuid, const kvt_segment_header *header, uint8_t block[KVT_BLOCK_BYTES]);
kvt_status kvt_segment_header_decode(const kvt_uuid *uuid, uint32_t segment, const uint8_t block[KVT_BLOCK_BYTES],
                                     kvt_segment_header *out);

/* ---- records ---- */

typedef struct kvt_record_header {
    uint32_t segment;
    uint32_t block; /* of this header within the segment, >= 1 */
    uint64_t generation;
    uint64_t seq;
    kvt_record record;
    uint64_t digests[KVT_RECORD_FRAMES_MAX]; /* kvt_frame_count(record.stored_bytes) of them */
} kvt_record_header;

void kvt_record_header_encode(const kvt_uuid *uuid, const kvt_record_header *header, uint8_t block[KVT_BLOCK_BYTES]);
/* Checks the block in itself; that it stands where it says is for the caller, or kvt_record_fits. */
kvt_status kvt_record_header_decode(const kvt_uuid *uuid, const uint8_t block[KVT_BLOCK_BYTES], kvt_record_header *out);

/* Blocks a record of these stored bytes takes, header included. */
static inline uint32_t kvt_record_blocks(uint64_t stored_bytes)
{
    return (uint32_t)(kvt_image_bytes(stored_bytes) / KVT_BLOCK_BYTES);
}
/* Bytes of the padded entries of a footer. */
static inline uint64_t kvt_footer_bytes(uint32_t count)
{
    return kvt_align_up((uint64_t)count * KVT_FOOTER_ENTRY_BYTES, KVT_BLOCK_BYTES);
}
/* Blocks free for records when a footer of count entries and the trailer must fit; the end, exclusive. */
static inline uint32_t kvt_segment_end_block(uint64_t segment_bytes, uint32_t count)
{
    return (uint32_t)((segment_bytes - KVT_BLOCK_BYTES - kvt_footer_bytes(count)) / KVT_BLOCK_BYTES);
}
/* The largest payload a segment of this size can hold, at most KVT_PAYLOAD_BYTES_MAX. */
static inline uint64_t kvt_segment_payload_max(uint64_t segment_bytes)
{
    return kvt_min_u64(KVT_PAYLOAD_BYTES_MAX, segment_bytes - 4 * (uint64_t)KVT_BLOCK_BYTES);
}
/* Most entries a footer may have. */
static inline uint32_t kvt_footer_count_max(uint64_t segment_bytes)
{
    return (uint32_t)(segment_bytes / KVT_RECORD_BYTES_MIN);
}
/* A record of stored_bytes at block stays inside a segment, before the smallest footer. */
bool kvt_record_fits(uint64_t segment_bytes, uint32_t block, uint64_t stored_bytes);

/* ---- footers ---- */

typedef struct kvt_footer_entry {
    uint64_t seq;
    uint32_t block;
    kvt_record record;
} kvt_footer_entry;

void kvt_footer_entry_encode(const kvt_footer_entry *entry, uint8_t bytes[KVT_FOOTER_ENTRY_BYTES]);
kvt_status kvt_footer_entry_decode(const uint8_t bytes[KVT_FOOTER_ENTRY_BYTES], kvt_footer_entry *out);

typedef struct kvt_footer_trailer {
    uint32_t segment;
    uint32_t count; /* 0: every record was erased */
    uint64_t generation;
    uint64_t last_seq;
    uint32_t entries_crc; /* of the padded entries */
} kvt_footer_trailer;

void kvt_footer_trailer_encode(const kvt_uuid *uuid, uint64_t segment_bytes, const kvt_footer_trailer *trailer,
                               uint8_t block[KVT_BLOCK_BYTES]);
kvt_status kvt_footer_trailer_decode(const kvt_uuid *uuid, uint64_t segment_bytes, const uint8_t block[KVT_BLOCK_BYTES],
                                     kvt_footer_trailer *out);
/* The padded entries against their trailer: crc, order, bounds, sequence numbers. */
kvt_status kvt_footer_entries_check(const kvt_footer_trailer *trailer, uint64_t segment_bytes, const uint8_t *entries);

/* ---- checkpoints ---- */

typedef struct kvt_checkpoint {
    uint64_t seq;
    uint64_t epoch;
    uint32_t row_count;
    uint32_t rows_crc; /* of the padded rows */
} kvt_checkpoint;

typedef struct kvt_checkpoint_row {
    uint32_t segment;
    bool barrier; /* its barrier completed */
    uint64_t generation;
    uint64_t rank; /* of last use; larger is later */
} kvt_checkpoint_row;

static inline uint64_t kvt_checkpoint_bytes(uint32_t row_count)
{
    return KVT_BLOCK_BYTES + kvt_align_up((uint64_t)row_count * KVT_CHECKPOINT_ROW_BYTES, KVT_BLOCK_BYTES);
}
void kvt_checkpoint_encode(const kvt_uuid *uuid, const kvt_checkpoint *checkpoint, uint8_t block[KVT_BLOCK_BYTES]);
kvt_status kvt_checkpoint_decode(const kvt_uuid *uuid, uint64_t file_bytes, const uint8_t block[KVT_BLOCK_BYTES],
                                 kvt_checkpoint *out);
void kvt_checkpoint_row_encode(const kvt_checkpoint_row *row, uint8_t bytes[KVT_CHECKPOINT_ROW_BYTES]);
kvt_status kvt_checkpoint_row_decode(const uint8_t bytes[KVT_CHECKPOINT_ROW_BYTES], uint32_t segment_count,
                                     kvt_checkpoint_row *out);
/* Crc and padding of the rows that follow the header block. */
kvt_status kvt_checkpoint_rows_check(const kvt_checkpoint *checkpoint, const uint8_t *rows);

#endif
