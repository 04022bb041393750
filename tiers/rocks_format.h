/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of docs/format_rocks.md, encoded and decoded field by field; no I/O, no RocksDB. Private to this room.
 */
#ifndef KVT_ROCKS_FORMAT_H
#define KVT_ROCKS_FORMAT_H

#include "tiers/tiers.h"

enum {
    KVT_ROCKS_FORMAT_VERSION = 0, /* until the format is frozen as 1 */
    KVT_ROCKS_KEY_BYTES = 32,
    KVT_ROCKS_ROOT_BYTES = 64,
    KVT_ROCKS_HEADER_BYTES = 64, /* of a value, before its digests and payload */
    KVT_ROCKS_ROW_BYTES = 80,
    KVT_ROCKS_PREFIX_BYTES_MAX = KVT_ROCKS_HEADER_BYTES + 8 * KVT_RECORD_FRAMES_MAX,
    KVT_ROCKS_GENERATIONS_MAX = 16,
    KVT_ROCKS_SEQUENCE_MAX = 1 << 20 /* records of a generation */
};
static_assert((int)KVT_ROCKS_PREFIX_BYTES_MAX <= (int)KVT_HEADER_BYTES, "header and digests fit before the payload");

/* What a store says of itself. */
typedef struct kvt_rocks_root {
    uint64_t bytes_max;
    uint32_t generation_count;
} kvt_rocks_root;

/* One row of the index column family: a record and where its value is. */
typedef struct kvt_rocks_row {
    kvt_record record;
    uint32_t generation;
    uint32_t sequence; /* 1..KVT_ROCKS_SEQUENCE_MAX, in order of writing within the generation */
} kvt_rocks_row;

void kvt_rocks_key_encode(const kvt_record *record, uint8_t out[KVT_ROCKS_KEY_BYTES]);

void kvt_rocks_root_encode(const kvt_rocks_root *root, uint8_t out[KVT_ROCKS_ROOT_BYTES]);
/* KVT_CORRUPT; KVT_VERSION: written by a newer release. */
kvt_status kvt_rocks_root_decode(const void *bytes, size_t size, kvt_rocks_root *out);

/* Can the format hold the record: widths of codec and flags, lengths. */
bool kvt_rocks_record_fits(const kvt_record *record);

void kvt_rocks_row_encode(const kvt_rocks_row *row, uint8_t out[KVT_ROCKS_ROW_BYTES]);
/* KVT_CORRUPT: not a row of this key. */
kvt_status kvt_rocks_row_decode(const void *key, size_t key_size, const void *bytes, size_t size, kvt_rocks_row *out);

/* Header and digests; returns their size. digest_count is 0 or that of the payload. */
size_t kvt_rocks_prefix_encode(const kvt_record *record, const uint64_t *digests, uint32_t digest_count,
                               uint8_t out[KVT_ROCKS_PREFIX_BYTES_MAX]);
/* Is this the value of that record, complete? Fills digests and *out_payload (within bytes). KVT_CORRUPT: no. */
kvt_status kvt_rocks_value_decode(const kvt_record *record, const void *bytes, size_t size, uint64_t *digests,
                                  uint32_t *out_digest_count, const uint8_t **out_payload);

#endif
