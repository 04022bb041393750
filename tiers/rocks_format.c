/* SPDX-License-Identifier: Apache-2.0
 *
 * See docs/format_rocks.md. Every piece is little-endian, carries a version and a CRC-32C; those of rows and values
 * cover the key too, so that a piece found under another key is not taken for its own. Stored bytes are hostile:
 * lengths are compared with constants before they are used.
 */
#include "tiers/rocks_format.h"

#define ROOT_MAGIC  UINT64_C(0x31544f4f5254564b) /* "KVTROOT1" */
#define VALUE_MAGIC UINT64_C(0x314b434f5254564b) /* "KVTROCK1" */

/* offsets */
enum {
    ROOT_AT_MAGIC = 0,
    ROOT_AT_VERSION = 8,
    ROOT_AT_CRC = 12,
    ROOT_AT_BYTES_MAX = 16,
    ROOT_AT_GENERATIONS = 24,
    ROOT_AT_ZERO = 28,

    VALUE_AT_MAGIC = 0,
    VALUE_AT_VERSION = 8,
    VALUE_AT_CRC = 12,
    VALUE_AT_RAW = 16,
    VALUE_AT_STORED = 20,
    VALUE_AT_CODEC = 24,
    VALUE_AT_DEPTH = 28,
    VALUE_AT_HASH = 32,
    VALUE_AT_TOKEN_FP = 48,
    VALUE_AT_COST = 56,
    VALUE_AT_FLAGS = 60,

    ROW_AT_GENERATION = 0,
    ROW_AT_RAW = 4,
    ROW_AT_STORED = 8,
    ROW_AT_CODEC = 12, /* u16 */
    ROW_AT_FLAGS = 14, /* u16 */
    ROW_AT_HASH = 16,
    ROW_AT_PARENT = 32,
    ROW_AT_TOKEN_FP = 48,
    ROW_AT_DEPTH = 56,
    ROW_AT_COST = 60,
    ROW_AT_SEQUENCE = 64,
    ROW_AT_ZERO = 68,
    ROW_AT_VERSION = 72,
    ROW_AT_CRC = 76
};
static_assert(VALUE_AT_FLAGS + 4 == KVT_ROCKS_HEADER_BYTES, "the header is full");
static_assert(ROW_AT_CRC + 4 == KVT_ROCKS_ROW_BYTES, "the row is full");

#define VALUE_FLAG_DIGESTS UINT32_C(0x80000000)

static void store_le16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static uint32_t load_le16(const uint8_t *from) { return (uint32_t)from[0] | (uint32_t)from[1] << 8; }

/* CRC-32C over a key and a piece whose own crc field counts as zero. */
static uint32_t piece_crc(const void *key, size_t key_size, const uint8_t *piece, size_t size, size_t crc_at)
{
    static const uint8_t zero[4];
    uint32_t crc = kvt_crc32c(0, key, key_size);
    crc = kvt_crc32c(crc, piece, crc_at);
    crc = kvt_crc32c(crc, zero, sizeof zero);
    return kvt_crc32c(crc, piece + crc_at + 4, size - crc_at - 4);
}

void kvt_rocks_key_encode(const kvt_record *record, uint8_t out[KVT_ROCKS_KEY_BYTES])
{
    memcpy(out, record->space.bytes, KVT_KEY_BYTES);
    memcpy(out + KVT_KEY_BYTES, record->key.bytes, KVT_KEY_BYTES);
}

/* ---- root ---- */

void kvt_rocks_root_encode(const kvt_rocks_root *root, uint8_t out[KVT_ROCKS_ROOT_BYTES])
{
    memset(out, 0, KVT_ROCKS_ROOT_BYTES);
    kvt_store_le64(out + ROOT_AT_MAGIC, ROOT_MAGIC);
    kvt_store_le32(out + ROOT_AT_VERSION, KVT_ROCKS_FORMAT_VERSION);
    kvt_store_le64(out + ROOT_AT_BYTES_MAX, root->bytes_max);
    kvt_store_le32(out + ROOT_AT_GENERATIONS, root->generation_count);
    kvt_store_le32(out + ROOT_AT_CRC, piece_crc(NULL, 0, out, KVT_ROCKS_ROOT_BYTES, ROOT_AT_CRC));
}

kvt_status kvt_rocks_root_decode(const void *bytes, size_t size, kvt_rocks_root *out)
{
    const uint8_t *b = bytes;
    if (size < ROOT_AT_BYTES_MAX || kvt_load_le64(b + ROOT_AT_MAGIC) != ROOT_MAGIC)
        return KVT_CORRUPT;
    if (kvt_load_le32(b + ROOT_AT_VERSION) != KVT_ROCKS_FORMAT_VERSION)
        return KVT_VERSION;
    if (size != KVT_ROCKS_ROOT_BYTES || kvt_load_le32(b + ROOT_AT_CRC) != piece_crc(NULL, 0, b, size, ROOT_AT_CRC))
        return KVT_CORRUPT;
    for (size_t i = ROOT_AT_ZERO; i < KVT_ROCKS_ROOT_BYTES; i++) {
        if (b[i] != 0)
            return KVT_CORRUPT;
    }
    kvt_rocks_root root = {kvt_load_le64(b + ROOT_AT_BYTES_MAX), kvt_load_le32(b + ROOT_AT_GENERATIONS)};
    if (root.generation_count < 2 || root.generation_count > KVT_ROCKS_GENERATIONS_MAX || root.bytes_max == 0)
        return KVT_CORRUPT;
    *out = root;
    return KVT_OK;
}

/* ---- rows ---- */

static bool lengths_are_sound(uint64_t raw_bytes, uint64_t stored_bytes)
{
    return raw_bytes != 0 && raw_bytes <= KVT_BLOB_BYTES_MAX && stored_bytes != 0 &&
           stored_bytes <= KVT_PAYLOAD_BYTES_MAX;
}

bool kvt_rocks_record_fits(const kvt_record *record)
{
    return record->codec <= UINT16_MAX && record->flags <= UINT16_MAX &&
           lengths_are_sound(record->raw_bytes, record->stored_bytes);
}

void kvt_rocks_row_encode(const kvt_rocks_row *row, uint8_t out[KVT_ROCKS_ROW_BYTES])
{
    const kvt_record *record = &row->record;
    uint8_t key[KVT_ROCKS_KEY_BYTES];
    kvt_rocks_key_encode(record, key);
    kvt_store_le32(out + ROW_AT_GENERATION, row->generation);
    kvt_store_le32(out + ROW_AT_RAW, (uint32_t)record->raw_bytes);
    kvt_store_le32(out + ROW_AT_STORED, (uint32_t)record->stored_bytes);
    store_le16(out + ROW_AT_CODEC, record->codec);
    store_le16(out + ROW_AT_FLAGS, record->flags);
    memcpy(out + ROW_AT_HASH, record->hash.bytes, sizeof record->hash.bytes);
    memcpy(out + ROW_AT_PARENT, record->parent.bytes, KVT_KEY_BYTES);
    kvt_store_le64(out + ROW_AT_TOKEN_FP, record->token_fp);
    kvt_store_le32(out + ROW_AT_DEPTH, record->depth);
    kvt_store_le32(out + ROW_AT_COST, record->cost_us);
    kvt_store_le32(out + ROW_AT_SEQUENCE, row->sequence);
    kvt_store_le32(out + ROW_AT_ZERO, 0);
    kvt_store_le32(out + ROW_AT_VERSION, KVT_ROCKS_FORMAT_VERSION);
    kvt_store_le32(out + ROW_AT_CRC, piece_crc(key, sizeof key, out, KVT_ROCKS_ROW_BYTES, ROW_AT_CRC));
}

kvt_status kvt_rocks_row_decode(const void *key, size_t key_size, const void *bytes, size_t size, kvt_rocks_row *out)
{
    const uint8_t *b = bytes;
    if (key_size != KVT_ROCKS_KEY_BYTES || size != KVT_ROCKS_ROW_BYTES ||
        kvt_load_le32(b + ROW_AT_VERSION) != KVT_ROCKS_FORMAT_VERSION ||
        kvt_load_le32(b + ROW_AT_CRC) != piece_crc(key, key_size, b, size, ROW_AT_CRC) ||
        kvt_load_le32(b + ROW_AT_ZERO) != 0)
        return KVT_CORRUPT;
    kvt_rocks_row row;
    memset(&row, 0, sizeof row);
    kvt_record *record = &row.record;
    memcpy(record->space.bytes, key, KVT_KEY_BYTES);
    memcpy(record->key.bytes, (const uint8_t *)key + KVT_KEY_BYTES, KVT_KEY_BYTES);
    memcpy(record->parent.bytes, b + ROW_AT_PARENT, KVT_KEY_BYTES);
    memcpy(record->hash.bytes, b + ROW_AT_HASH, sizeof record->hash.bytes);
    record->token_fp = kvt_load_le64(b + ROW_AT_TOKEN_FP);
    record->raw_bytes = kvt_load_le32(b + ROW_AT_RAW);
    record->stored_bytes = kvt_load_le32(b + ROW_AT_STORED);
    record->codec = load_le16(b + ROW_AT_CODEC);
    record->flags = load_le16(b + ROW_AT_FLAGS);
    record->depth = kvt_load_le32(b + ROW_AT_DEPTH);
    record->cost_us = kvt_load_le32(b + ROW_AT_COST);
    row.generation = kvt_load_le32(b + ROW_AT_GENERATION);
    row.sequence = kvt_load_le32(b + ROW_AT_SEQUENCE);
    if (!lengths_are_sound(record->raw_bytes, record->stored_bytes) || row.generation == 0 || row.sequence == 0 ||
        row.sequence > KVT_ROCKS_SEQUENCE_MAX)
        return KVT_CORRUPT;
    *out = row;
    return KVT_OK;
}

/* ---- values ---- */

static void header_encode(const kvt_record *record, bool digests, uint8_t out[KVT_ROCKS_HEADER_BYTES])
{
    uint8_t key[KVT_ROCKS_KEY_BYTES];
    kvt_rocks_key_encode(record, key);
    kvt_store_le64(out + VALUE_AT_MAGIC, VALUE_MAGIC);
    kvt_store_le32(out + VALUE_AT_VERSION, KVT_ROCKS_FORMAT_VERSION);
    kvt_store_le32(out + VALUE_AT_RAW, (uint32_t)record->raw_bytes);
    kvt_store_le32(out + VALUE_AT_STORED, (uint32_t)record->stored_bytes);
    kvt_store_le32(out + VALUE_AT_CODEC, record->codec);
    kvt_store_le32(out + VALUE_AT_DEPTH, record->depth);
    memcpy(out + VALUE_AT_HASH, record->hash.bytes, sizeof record->hash.bytes);
    kvt_store_le64(out + VALUE_AT_TOKEN_FP, record->token_fp);
    kvt_store_le32(out + VALUE_AT_COST, record->cost_us);
    kvt_store_le32(out + VALUE_AT_FLAGS, record->flags | (digests ? VALUE_FLAG_DIGESTS : 0));
    kvt_store_le32(out + VALUE_AT_CRC, piece_crc(key, sizeof key, out, KVT_ROCKS_HEADER_BYTES, VALUE_AT_CRC));
}

size_t kvt_rocks_prefix_encode(const kvt_record *record, const uint64_t *digests, uint32_t digest_count,
                               uint8_t out[KVT_ROCKS_PREFIX_BYTES_MAX])
{
    header_encode(record, digest_count != 0, out);
    for (uint32_t i = 0; i < digest_count; i++)
        kvt_store_le64(out + KVT_ROCKS_HEADER_BYTES + 8 * (size_t)i, digests[i]);
    return KVT_ROCKS_HEADER_BYTES + 8 * (size_t)digest_count;
}

kvt_status kvt_rocks_value_decode(const kvt_record *record, const void *bytes, size_t size, uint64_t *digests,
                                  uint32_t *out_digest_count, const uint8_t **out_payload)
{
    const uint8_t *b = bytes;
    uint8_t key[KVT_ROCKS_KEY_BYTES];
    kvt_rocks_key_encode(record, key);
    if (size < KVT_ROCKS_HEADER_BYTES || kvt_load_le64(b + VALUE_AT_MAGIC) != VALUE_MAGIC ||
        kvt_load_le32(b + VALUE_AT_VERSION) != KVT_ROCKS_FORMAT_VERSION ||
        kvt_load_le32(b + VALUE_AT_CRC) != piece_crc(key, sizeof key, b, KVT_ROCKS_HEADER_BYTES, VALUE_AT_CRC))
        return KVT_CORRUPT;
    if (kvt_load_le32(b + VALUE_AT_STORED) != record->stored_bytes ||
        kvt_load_le32(b + VALUE_AT_RAW) != record->raw_bytes || kvt_load_le32(b + VALUE_AT_CODEC) != record->codec ||
        memcmp(b + VALUE_AT_HASH, record->hash.bytes, sizeof record->hash.bytes) != 0)
        return KVT_CORRUPT;
    bool kept = (kvt_load_le32(b + VALUE_AT_FLAGS) & VALUE_FLAG_DIGESTS) != 0;
    uint32_t count = kept ? kvt_frame_count(record->stored_bytes) : 0;
    size_t prefix = KVT_ROCKS_HEADER_BYTES + 8 * (size_t)count;
    if (count > KVT_RECORD_FRAMES_MAX || size != prefix + record->stored_bytes)
        return KVT_CORRUPT;
    for (uint32_t i = 0; i < count; i++)
        digests[i] = kvt_load_le64(b + KVT_ROCKS_HEADER_BYTES + 8 * (size_t)i);
    kvt_hash128 hash = kvt_payload_hash(digests, count);
    if (count != 0 && !kvt_hash128_equal(&hash, &record->hash))
        return KVT_CORRUPT;
    *out_digest_count = count;
    *out_payload = b + prefix;
    return KVT_OK;
}
