/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of docs/format_store.md, field by field through little-endian loads and stores, never by overlaying a struct.
 * The offsets stand here once each, as constants checked against one another; readers check every length against a
 * limit before they compute with it.
 */
#include "tiers/file_format.h"

/* ---- the prefix of every metadata block ---- */

enum { AT_MAGIC = 0, AT_VERSION = 8, AT_CRC = 12, AT_UUID = 16, PREFIX_BYTES = 32 };
static_assert(AT_UUID + KVT_UUID_BYTES == PREFIX_BYTES, "prefix");

static const char magic_super[] = "KVTSUPR1";
static const char magic_segment[] = "KVTSEGH1";
static const char magic_record[] = "KVTRECD1";
static const char magic_footer[] = "KVTFOOT1";
static const char magic_checkpoint[] = "KVTCKPT1";
enum { MAGIC_BYTES = 8 };

static uint32_t block_crc(const uint8_t *block)
{
    static const uint8_t zero[4];
    uint32_t crc = kvt_crc32c(0, block, AT_CRC);
    crc = kvt_crc32c(crc, zero, sizeof zero);
    return kvt_crc32c(crc, block + AT_CRC + 4, KVT_BLOCK_BYTES - AT_CRC - 4);
}

static void begin_block(uint8_t *block, const char *magic, const kvt_uuid *uuid)
{
    memset(block, 0, KVT_BLOCK_BYTES);
    memcpy(block + AT_MAGIC, magic, MAGIC_BYTES);
    kvt_store_le32(block + AT_VERSION, KVT_FORMAT_VERSION);
    memcpy(block + AT_UUID, uuid->bytes, KVT_UUID_BYTES);
}

static void finish_block(uint8_t *block) { kvt_store_le32(block + AT_CRC, block_crc(block)); }

static bool all_zero(const uint8_t *bytes, size_t count)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < count; i++)
        seen |= bytes[i];
    return seen == 0;
}

/* Magic first: it is what almost every block of a scan fails at, and costs nothing. */
static kvt_status check_prefix(const uint8_t *block, const char *magic, const kvt_uuid *uuid)
{
    if (memcmp(block + AT_MAGIC, magic, MAGIC_BYTES) != 0)
        return KVT_CORRUPT;
    if (uuid != NULL && memcmp(block + AT_UUID, uuid->bytes, KVT_UUID_BYTES) != 0)
        return KVT_CORRUPT;
    if (kvt_load_le32(block + AT_CRC) != block_crc(block))
        return KVT_CORRUPT;
    return kvt_load_le32(block + AT_VERSION) == KVT_FORMAT_VERSION ? KVT_OK : KVT_VERSION;
}

static bool segment_size_valid(uint64_t bytes)
{
    return kvt_is_power_of_two(bytes) && bytes >= KVT_SEGMENT_BYTES_MIN && bytes <= KVT_SEGMENT_BYTES_MAX;
}

/* ---- SUPER ---- */

enum {
    SUPER_SLOT_SEQ = 32,
    SUPER_EPOCH = 40,
    SUPER_SEGMENT_BYTES = 48,
    SUPER_SEGMENT_COUNT = 56,
    SUPER_FILE_COUNT = 120,
    SUPER_ALIGNMENT = 124,
    SUPER_INCOMPAT = 128,
    SUPER_COMPAT = 136,
    SUPER_BYTES_MAX = 144,
    SUPER_END = 152
};
static_assert(SUPER_SEGMENT_COUNT + 8 * KVT_DATA_FILES_MAX == SUPER_FILE_COUNT, "SUPER");

void kvt_super_encode(const kvt_super *super, uint8_t block[KVT_BLOCK_BYTES])
{
    begin_block(block, magic_super, &super->uuid);
    kvt_store_le64(block + SUPER_SLOT_SEQ, super->slot_seq);
    kvt_store_le64(block + SUPER_EPOCH, super->epoch);
    kvt_store_le64(block + SUPER_SEGMENT_BYTES, super->segment_bytes);
    for (uint32_t i = 0; i < super->file_count; i++)
        kvt_store_le64(block + SUPER_SEGMENT_COUNT + 8 * i, super->segment_count[i]);
    kvt_store_le32(block + SUPER_FILE_COUNT, super->file_count);
    kvt_store_le32(block + SUPER_ALIGNMENT, super->io_alignment);
    kvt_store_le64(block + SUPER_INCOMPAT, super->features_incompat);
    kvt_store_le64(block + SUPER_COMPAT, super->features_compat);
    kvt_store_le64(block + SUPER_BYTES_MAX, super->bytes_max);
    finish_block(block);
}

static bool super_geometry_valid(const kvt_super *super)
{
    uint64_t count = super->segment_count[0];
    if (!segment_size_valid(super->segment_bytes) || count < KVT_SEGMENTS_MIN || count > KVT_SEGMENTS_MAX)
        return false;
    for (uint32_t i = 1; i < KVT_DATA_FILES_MAX; i++) {
        if (super->segment_count[i] != 0)
            return false;
    }
    return count * super->segment_bytes <= super->bytes_max && super->epoch <= KVT_EPOCH_MAX &&
           (super->io_alignment == 512 || super->io_alignment == KVT_BLOCK_BYTES);
}

kvt_status kvt_super_decode(const uint8_t block[KVT_BLOCK_BYTES], uint32_t slot, kvt_super *out)
{
    kvt_status status = check_prefix(block, magic_super, NULL);
    if (status != KVT_OK)
        return status;
    kvt_super super = {0};
    memcpy(super.uuid.bytes, block + AT_UUID, KVT_UUID_BYTES);
    super.slot_seq = kvt_load_le64(block + SUPER_SLOT_SEQ);
    super.epoch = kvt_load_le64(block + SUPER_EPOCH);
    super.segment_bytes = kvt_load_le64(block + SUPER_SEGMENT_BYTES);
    for (uint32_t i = 0; i < KVT_DATA_FILES_MAX; i++)
        super.segment_count[i] = kvt_load_le64(block + SUPER_SEGMENT_COUNT + 8 * i);
    super.file_count = kvt_load_le32(block + SUPER_FILE_COUNT);
    super.io_alignment = kvt_load_le32(block + SUPER_ALIGNMENT);
    super.features_incompat = kvt_load_le64(block + SUPER_INCOMPAT);
    super.features_compat = kvt_load_le64(block + SUPER_COMPAT);
    super.bytes_max = kvt_load_le64(block + SUPER_BYTES_MAX);
    if ((super.slot_seq & 1) != slot)
        return KVT_CORRUPT;
    if (super.features_incompat != 0 || (super.file_count > 1 && super.file_count <= KVT_DATA_FILES_MAX))
        return KVT_VERSION;
    if (super.file_count != 1 || !super_geometry_valid(&super) ||
        !all_zero(block + SUPER_END, KVT_BLOCK_BYTES - SUPER_END))
        return KVT_CORRUPT;
    *out = super;
    return KVT_OK;
}

/* ---- segment header ---- */

/* The place every block inside a segment names: dev, seg, seg_gen. */
enum { AT_DEV = 32, AT_SEGMENT = 36, AT_GENERATION = 40 };
enum { SEGMENT_EPOCH = 48, SEGMENT_FIRST_SEQ = 56, SEGMENT_MARK = 64, SEGMENT_END = 68 };

static void put_place(uint8_t *block, uint32_t segment, uint64_t generation)
{
    kvt_store_le32(block + AT_SEGMENT, segment);
    kvt_store_le64(block + AT_GENERATION, generation);
}

/* Other versions inside a store are not for us to judge: SUPER said which one this is. */
static bool place_valid(const uint8_t *block, const char *magic, const kvt_uuid *uuid)
{
    return check_prefix(block, magic, uuid) == KVT_OK && kvt_load_le32(block + AT_DEV) == 0 &&
           kvt_load_le32(block + AT_SEGMENT) < KVT_SEGMENTS_MAX;
}

void kvt_segment_header_encode(const kvt_uuid *uuid, const kvt_segment_header *header, uint8_t block[KVT_BLOCK_BYTES])
{
    begin_block(block, magic_segment, uuid);
    put_place(block, header->segment, header->generation);
    kvt_store_le64(block + SEGMENT_EPOCH, header->generation >> 32);
    kvt_store_le64(block + SEGMENT_FIRST_SEQ, header->first_seq);
    kvt_store_le32(block + SEGMENT_MARK, header->mark);
    finish_block(block);
}

kvt_status kvt_segment_header_decode(const kvt_uuid *uuid, uint32_t segment, const uint8_t block[KVT_BLOCK_BYTES],
                                     kvt_segment_header *out)
{
    if (!place_valid(block, magic_segment, uuid))
        return KVT_CORRUPT;
    kvt_segment_header header = {
        .segment = kvt_load_le32(block + AT_SEGMENT),
        .mark = kvt_load_le32(block + SEGMENT_MARK),
        .generation = kvt_load_le64(block + AT_GENERATION),
        .first_seq = kvt_load_le64(block + SEGMENT_FIRST_SEQ),
    };
    bool mark_valid = header.mark == KVT_SEGMENT_MARK_OPEN || header.mark == KVT_SEGMENT_MARK_FREE ||
                      header.mark == KVT_SEGMENT_MARK_QUARANTINED;
    if (header.segment != segment || !mark_valid || kvt_load_le64(block + SEGMENT_EPOCH) != header.generation >> 32 ||
        !all_zero(block + SEGMENT_END, KVT_BLOCK_BYTES - SEGMENT_END))
        return KVT_CORRUPT;
    *out = header;
    return KVT_OK;
}

/* ---- record header ---- */

enum {
    RECORD_OFFSET = 48,
    RECORD_SEQ = 56,
    RECORD_SPACE = 64,
    RECORD_KEY = 80,
    RECORD_PARENT = 96,
    RECORD_TOKEN_FP = 112,
    RECORD_RAW_BYTES = 120,
    RECORD_STORED_BYTES = 128,
    RECORD_CODEC = 136,
    RECORD_FLAGS = 140,
    RECORD_DEPTH = 144,
    RECORD_COST = 148,
    RECORD_HASH = 152,
    RECORD_FRAME_COUNT = 168,
    RECORD_ZERO = 172,
    RECORD_DIGESTS = 176,
    RECORD_END = 752
};
static_assert(RECORD_DIGESTS + 8 * KVT_RECORD_FRAMES_MAX == RECORD_END, "record header");
static_assert(KVT_HEADER_BYTES == KVT_BLOCK_BYTES, "a record header is one block");
static_assert(sizeof(kvt_hash128) == 16 && sizeof(kvt_key) == 16, "stored as 16 bytes");
static_assert(KVT_PAYLOAD_BYTES_MAX <= UINT32_MAX, "footer entries keep lengths in 32 bits");

static bool lengths_valid(uint64_t raw_bytes, uint64_t stored_bytes)
{
    return raw_bytes <= KVT_PAYLOAD_BYTES_MAX && stored_bytes >= 1 && stored_bytes <= KVT_PAYLOAD_BYTES_MAX;
}

void kvt_record_header_encode(const kvt_uuid *uuid, const kvt_record_header *header, uint8_t block[KVT_BLOCK_BYTES])
{
    const kvt_record *record = &header->record;
    uint32_t frames = kvt_frame_count(record->stored_bytes);
    begin_block(block, magic_record, uuid);
    put_place(block, header->segment, header->generation);
    kvt_store_le64(block + RECORD_OFFSET, (uint64_t)header->block * KVT_BLOCK_BYTES);
    kvt_store_le64(block + RECORD_SEQ, header->seq);
    memcpy(block + RECORD_SPACE, &record->space, 16);
    memcpy(block + RECORD_KEY, &record->key, 16);
    memcpy(block + RECORD_PARENT, &record->parent, 16);
    kvt_store_le64(block + RECORD_TOKEN_FP, record->token_fp);
    kvt_store_le64(block + RECORD_RAW_BYTES, record->raw_bytes);
    kvt_store_le64(block + RECORD_STORED_BYTES, record->stored_bytes);
    kvt_store_le32(block + RECORD_CODEC, record->codec);
    kvt_store_le32(block + RECORD_FLAGS, record->flags);
    kvt_store_le32(block + RECORD_DEPTH, record->depth);
    kvt_store_le32(block + RECORD_COST, record->cost_us);
    memcpy(block + RECORD_HASH, &record->hash, 16);
    kvt_store_le32(block + RECORD_FRAME_COUNT, frames);
    for (uint32_t i = 0; i < frames; i++)
        kvt_store_le64(block + RECORD_DIGESTS + 8 * i, header->digests[i]);
    finish_block(block);
}

static void load_record(const uint8_t *block, kvt_record *record)
{
    memcpy(&record->space, block + RECORD_SPACE, 16);
    memcpy(&record->key, block + RECORD_KEY, 16);
    memcpy(&record->parent, block + RECORD_PARENT, 16);
    memcpy(&record->hash, block + RECORD_HASH, 16);
    record->token_fp = kvt_load_le64(block + RECORD_TOKEN_FP);
    record->raw_bytes = kvt_load_le64(block + RECORD_RAW_BYTES);
    record->stored_bytes = kvt_load_le64(block + RECORD_STORED_BYTES);
    record->codec = kvt_load_le32(block + RECORD_CODEC);
    record->flags = kvt_load_le32(block + RECORD_FLAGS);
    record->depth = kvt_load_le32(block + RECORD_DEPTH);
    record->cost_us = kvt_load_le32(block + RECORD_COST);
}

kvt_status kvt_record_header_decode(const kvt_uuid *uuid, const uint8_t block[KVT_BLOCK_BYTES], kvt_record_header *out)
{
    if (!place_valid(block, magic_record, uuid))
        return KVT_CORRUPT;
    uint64_t offset = kvt_load_le64(block + RECORD_OFFSET);
    uint64_t stored_bytes = kvt_load_le64(block + RECORD_STORED_BYTES);
    if (!lengths_valid(kvt_load_le64(block + RECORD_RAW_BYTES), stored_bytes) || offset % KVT_BLOCK_BYTES != 0 ||
        offset < KVT_BLOCK_BYTES || offset >= KVT_SEGMENT_BYTES_MAX)
        return KVT_CORRUPT;
    uint32_t frames = kvt_frame_count(stored_bytes); /* 1..KVT_RECORD_FRAMES_MAX by the check above */
    uint32_t used_end = RECORD_DIGESTS + 8 * frames;
    if (kvt_load_le32(block + RECORD_FRAME_COUNT) != frames || kvt_load_le32(block + RECORD_ZERO) != 0 ||
        !all_zero(block + used_end, KVT_BLOCK_BYTES - used_end))
        return KVT_CORRUPT;
    uint64_t digests[KVT_RECORD_FRAMES_MAX] = {0};
    for (uint32_t i = 0; i < frames; i++)
        digests[i] = kvt_load_le64(block + RECORD_DIGESTS + 8 * i);
    kvt_hash128 hash = kvt_payload_hash(digests, frames);
    if (memcmp(&hash, block + RECORD_HASH, sizeof hash) != 0)
        return KVT_CORRUPT;
    out->segment = kvt_load_le32(block + AT_SEGMENT);
    out->block = (uint32_t)(offset / KVT_BLOCK_BYTES);
    out->generation = kvt_load_le64(block + AT_GENERATION);
    out->seq = kvt_load_le64(block + RECORD_SEQ);
    load_record(block, &out->record);
    memcpy(out->digests, digests, sizeof digests);
    return KVT_OK;
}

bool kvt_record_fits(uint64_t segment_bytes, uint32_t block, uint64_t stored_bytes)
{
    if (block < 1 || stored_bytes < 1 || stored_bytes > KVT_PAYLOAD_BYTES_MAX)
        return false;
    return (uint64_t)block + kvt_record_blocks(stored_bytes) <= kvt_segment_end_block(segment_bytes, 1);
}

/* ---- footer ---- */

enum {
    ENTRY_SEQ = 0,
    ENTRY_SPACE = 8,
    ENTRY_KEY = 24,
    ENTRY_PARENT = 40,
    ENTRY_TOKEN_FP = 56,
    ENTRY_HASH = 64,
    ENTRY_BLOCK = 80,
    ENTRY_RAW_BYTES = 84,
    ENTRY_STORED_BYTES = 88,
    ENTRY_CODEC = 92,
    ENTRY_FLAGS = 96,
    ENTRY_DEPTH = 100,
    ENTRY_COST = 104,
    ENTRY_ZERO = 108
};
static_assert(ENTRY_ZERO + 4 == KVT_FOOTER_ENTRY_BYTES, "footer entry");
enum { FOOTER_LAST_SEQ = 48, FOOTER_COUNT = 56, FOOTER_ENTRIES_CRC = 60, FOOTER_OFFSET = 64, FOOTER_END = 72 };

void kvt_footer_entry_encode(const kvt_footer_entry *entry, uint8_t bytes[KVT_FOOTER_ENTRY_BYTES])
{
    const kvt_record *record = &entry->record;
    kvt_store_le64(bytes + ENTRY_SEQ, entry->seq);
    memcpy(bytes + ENTRY_SPACE, &record->space, 16);
    memcpy(bytes + ENTRY_KEY, &record->key, 16);
    memcpy(bytes + ENTRY_PARENT, &record->parent, 16);
    kvt_store_le64(bytes + ENTRY_TOKEN_FP, record->token_fp);
    memcpy(bytes + ENTRY_HASH, &record->hash, 16);
    kvt_store_le32(bytes + ENTRY_BLOCK, entry->block);
    kvt_store_le32(bytes + ENTRY_RAW_BYTES, (uint32_t)record->raw_bytes);
    kvt_store_le32(bytes + ENTRY_STORED_BYTES, (uint32_t)record->stored_bytes);
    kvt_store_le32(bytes + ENTRY_CODEC, record->codec);
    kvt_store_le32(bytes + ENTRY_FLAGS, record->flags);
    kvt_store_le32(bytes + ENTRY_DEPTH, record->depth);
    kvt_store_le32(bytes + ENTRY_COST, record->cost_us);
    kvt_store_le32(bytes + ENTRY_ZERO, 0);
}

kvt_status kvt_footer_entry_decode(const uint8_t bytes[KVT_FOOTER_ENTRY_BYTES], kvt_footer_entry *out)
{
    uint32_t raw_bytes = kvt_load_le32(bytes + ENTRY_RAW_BYTES);
    uint32_t stored_bytes = kvt_load_le32(bytes + ENTRY_STORED_BYTES);
    if (!lengths_valid(raw_bytes, stored_bytes) || kvt_load_le32(bytes + ENTRY_ZERO) != 0)
        return KVT_CORRUPT;
    kvt_record *record = &out->record;
    out->seq = kvt_load_le64(bytes + ENTRY_SEQ);
    out->block = kvt_load_le32(bytes + ENTRY_BLOCK);
    memcpy(&record->space, bytes + ENTRY_SPACE, 16);
    memcpy(&record->key, bytes + ENTRY_KEY, 16);
    memcpy(&record->parent, bytes + ENTRY_PARENT, 16);
    memcpy(&record->hash, bytes + ENTRY_HASH, 16);
    record->token_fp = kvt_load_le64(bytes + ENTRY_TOKEN_FP);
    record->raw_bytes = raw_bytes;
    record->stored_bytes = stored_bytes;
    record->codec = kvt_load_le32(bytes + ENTRY_CODEC);
    record->flags = kvt_load_le32(bytes + ENTRY_FLAGS);
    record->depth = kvt_load_le32(bytes + ENTRY_DEPTH);
    record->cost_us = kvt_load_le32(bytes + ENTRY_COST);
    return KVT_OK;
}

static uint64_t footer_offset(uint64_t segment_bytes, uint32_t count)
{
    return segment_bytes - KVT_BLOCK_BYTES - kvt_footer_bytes(count);
}

void kvt_footer_trailer_encode(const kvt_uuid *uuid, uint64_t segment_bytes, const kvt_footer_trailer *trailer,
                               uint8_t block[KVT_BLOCK_BYTES])
{
    begin_block(block, magic_footer, uuid);
    put_place(block, trailer->segment, trailer->generation);
    kvt_store_le64(block + FOOTER_LAST_SEQ, trailer->last_seq);
    kvt_store_le32(block + FOOTER_COUNT, trailer->count);
    kvt_store_le32(block + FOOTER_ENTRIES_CRC, trailer->entries_crc);
    kvt_store_le64(block + FOOTER_OFFSET, footer_offset(segment_bytes, trailer->count));
    finish_block(block);
}

kvt_status kvt_footer_trailer_decode(const kvt_uuid *uuid, uint64_t segment_bytes, const uint8_t block[KVT_BLOCK_BYTES],
                                     kvt_footer_trailer *out)
{
    if (!place_valid(block, magic_footer, uuid))
        return KVT_CORRUPT;
    kvt_footer_trailer trailer = {
        .segment = kvt_load_le32(block + AT_SEGMENT),
        .count = kvt_load_le32(block + FOOTER_COUNT),
        .generation = kvt_load_le64(block + AT_GENERATION),
        .last_seq = kvt_load_le64(block + FOOTER_LAST_SEQ),
        .entries_crc = kvt_load_le32(block + FOOTER_ENTRIES_CRC),
    };
    if (trailer.count > kvt_footer_count_max(segment_bytes))
        return KVT_CORRUPT;
    if (kvt_load_le64(block + FOOTER_OFFSET) != footer_offset(segment_bytes, trailer.count) ||
        !all_zero(block + FOOTER_END, KVT_BLOCK_BYTES - FOOTER_END))
        return KVT_CORRUPT;
    *out = trailer;
    return KVT_OK;
}

kvt_status kvt_footer_entries_check(const kvt_footer_trailer *trailer, uint64_t segment_bytes, const uint8_t *entries)
{
    uint64_t padded = kvt_footer_bytes(trailer->count);
    uint64_t used = (uint64_t)trailer->count * KVT_FOOTER_ENTRY_BYTES;
    if (kvt_crc32c(0, entries, padded) != trailer->entries_crc || !all_zero(entries + used, padded - used))
        return KVT_CORRUPT;
    uint64_t next_block = 1;
    uint64_t end_block = kvt_segment_end_block(segment_bytes, trailer->count);
    uint64_t last_seq = 0;
    for (uint32_t i = 0; i < trailer->count; i++) {
        kvt_footer_entry entry;
        if (kvt_footer_entry_decode(entries + (size_t)i * KVT_FOOTER_ENTRY_BYTES, &entry) != KVT_OK)
            return KVT_CORRUPT;
        if (entry.block < next_block ||
            entry.block + (uint64_t)kvt_record_blocks(entry.record.stored_bytes) > end_block)
            return KVT_CORRUPT;
        next_block = entry.block + (uint64_t)kvt_record_blocks(entry.record.stored_bytes);
        last_seq = kvt_max_u64(last_seq, entry.seq);
    }
    return last_seq == trailer->last_seq ? KVT_OK : KVT_CORRUPT;
}

/* ---- checkpoint ---- */

enum {
    CHECKPOINT_SEQ = 32,
    CHECKPOINT_EPOCH = 40,
    CHECKPOINT_ROWS = 48,
    CHECKPOINT_ROWS_CRC = 52,
    CHECKPOINT_BYTES = 56,
    CHECKPOINT_END = 64
};
enum { ROW_DEV = 0, ROW_SEGMENT = 4, ROW_GENERATION = 8, ROW_MARK = 16, ROW_FLAGS = 20, ROW_RANK = 24, ROW_END = 32 };
static_assert((int)ROW_END == (int)KVT_CHECKPOINT_ROW_BYTES, "checkpoint row");
enum { ROW_FLAG_BARRIER = 1u << 0 };

void kvt_checkpoint_encode(const kvt_uuid *uuid, const kvt_checkpoint *checkpoint, uint8_t block[KVT_BLOCK_BYTES])
{
    begin_block(block, magic_checkpoint, uuid);
    kvt_store_le64(block + CHECKPOINT_SEQ, checkpoint->seq);
    kvt_store_le64(block + CHECKPOINT_EPOCH, checkpoint->epoch);
    kvt_store_le32(block + CHECKPOINT_ROWS, checkpoint->row_count);
    kvt_store_le32(block + CHECKPOINT_ROWS_CRC, checkpoint->rows_crc);
    kvt_store_le64(block + CHECKPOINT_BYTES, kvt_checkpoint_bytes(checkpoint->row_count));
    finish_block(block);
}

kvt_status kvt_checkpoint_decode(const kvt_uuid *uuid, uint64_t file_bytes, const uint8_t block[KVT_BLOCK_BYTES],
                                 kvt_checkpoint *out)
{
    if (check_prefix(block, magic_checkpoint, uuid) != KVT_OK)
        return KVT_CORRUPT;
    kvt_checkpoint checkpoint = {
        .seq = kvt_load_le64(block + CHECKPOINT_SEQ),
        .epoch = kvt_load_le64(block + CHECKPOINT_EPOCH),
        .row_count = kvt_load_le32(block + CHECKPOINT_ROWS),
        .rows_crc = kvt_load_le32(block + CHECKPOINT_ROWS_CRC),
    };
    if (checkpoint.row_count > KVT_SEGMENTS_MAX || checkpoint.epoch > KVT_EPOCH_MAX)
        return KVT_CORRUPT;
    if (kvt_load_le64(block + CHECKPOINT_BYTES) != file_bytes ||
        kvt_checkpoint_bytes(checkpoint.row_count) != file_bytes ||
        !all_zero(block + CHECKPOINT_END, KVT_BLOCK_BYTES - CHECKPOINT_END))
        return KVT_CORRUPT;
    *out = checkpoint;
    return KVT_OK;
}

void kvt_checkpoint_row_encode(const kvt_checkpoint_row *row, uint8_t bytes[KVT_CHECKPOINT_ROW_BYTES])
{
    kvt_store_le32(bytes + ROW_DEV, 0);
    kvt_store_le32(bytes + ROW_SEGMENT, row->segment);
    kvt_store_le64(bytes + ROW_GENERATION, row->generation);
    kvt_store_le32(bytes + ROW_MARK, KVT_SEGMENT_MARK_SEALED);
    kvt_store_le32(bytes + ROW_FLAGS, row->barrier ? ROW_FLAG_BARRIER : 0);
    kvt_store_le64(bytes + ROW_RANK, row->rank);
}

kvt_status kvt_checkpoint_row_decode(const uint8_t bytes[KVT_CHECKPOINT_ROW_BYTES], uint32_t segment_count,
                                     kvt_checkpoint_row *out)
{
    uint32_t segment = kvt_load_le32(bytes + ROW_SEGMENT);
    uint32_t flags = kvt_load_le32(bytes + ROW_FLAGS);
    if (kvt_load_le32(bytes + ROW_DEV) != 0 || segment >= segment_count ||
        kvt_load_le32(bytes + ROW_MARK) != KVT_SEGMENT_MARK_SEALED || (flags & ~(uint32_t)ROW_FLAG_BARRIER) != 0)
        return KVT_CORRUPT;
    out->segment = segment;
    out->barrier = (flags & ROW_FLAG_BARRIER) != 0;
    out->generation = kvt_load_le64(bytes + ROW_GENERATION);
    out->rank = kvt_load_le64(bytes + ROW_RANK);
    return KVT_OK;
}

kvt_status kvt_checkpoint_rows_check(const kvt_checkpoint *checkpoint, const uint8_t *rows)
{
    uint64_t used = (uint64_t)checkpoint->row_count * KVT_CHECKPOINT_ROW_BYTES;
    uint64_t padded = kvt_align_up(used, KVT_BLOCK_BYTES);
    bool valid = kvt_crc32c(0, rows, padded) == checkpoint->rows_crc && all_zero(rows + used, padded - used);
    return valid ? KVT_OK : KVT_CORRUPT;
}
