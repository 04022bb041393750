/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of docs/format_store.md. The golden file was made from that page by a program that shares no code with the
 * library (golden/make_format_store.py): encoders must give its bytes, decoders must give back what was encoded, and
 * reject every single bit that differs.
 */
#include "tests/support.h"
#include "tiers/file_format.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEGMENT = 1 << 20, GOLDEN_MAX = 16 };
#define GENERATION (UINT64_C(5) << 32 | 3)

/* ---- the golden file ---- */

typedef struct golden {
    char name[16];
    uint32_t bytes;
    uint8_t block[KVT_BLOCK_BYTES];
} golden;

static golden goldens[GOLDEN_MAX];

static void load_line(golden *g, const char *line)
{
    unsigned at;
    char hex[33];
    cr_assert_eq(sscanf(line, "%6x %32s", &at, hex), 2, "golden file: %s", line);
    for (unsigned i = 0; i < 16; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        g->block[at + i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

static const uint8_t *golden_block(const char *name)
{
    if (goldens[0].name[0] == 0) {
        FILE *file = fopen(KVT_GOLDEN_DIR "/format_store_0.txt", "r");
        cr_assert_not_null(file);
        char line[80];
        int count = 0;
        while (fgets(line, sizeof line, file) != NULL) {
            bool head = strlen(line) != 40; /* others are an offset and 16 bytes */
            if (head)
                cr_assert_eq(sscanf(line, "%15s %u", goldens[count].name, &goldens[count].bytes), 2);
            else
                load_line(&goldens[count - 1], line);
            count += head;
        }
        fclose(file);
    }
    for (int i = 0; i < GOLDEN_MAX; i++) {
        if (strcmp(goldens[i].name, name) == 0)
            return goldens[i].block;
    }
    cr_assert_fail("no golden block %s", name);
    return NULL;
}

static void expect_golden(const char *name, const uint8_t *block)
{
    const uint8_t *expected = golden_block(name);
    for (int i = 0; i < KVT_BLOCK_BYTES; i++)
        cr_assert_eq(block[i], expected[i], "%s: byte %d is %02x, the format says %02x", name, i, block[i],
                     expected[i]);
}

/* ---- the example of the page ---- */

static kvt_uuid uuid(void)
{
    kvt_uuid u;
    for (int i = 0; i < KVT_UUID_BYTES; i++)
        u.bytes[i] = (uint8_t)(0xa0 + i);
    return u;
}

static void fill_payload(uint8_t *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(i * 7 + (i >> 8));
}

static kvt_super example_super(uint64_t seq)
{
    return (kvt_super){.uuid = uuid(),
                       .slot_seq = seq,
                       .epoch = 5,
                       .segment_bytes = SEGMENT,
                       .segment_count = {9},
                       .file_count = 1,
                       .io_alignment = 4096,
                       .features_compat = 0x10,
                       .bytes_max = 16 << 20};
}

static kvt_segment_header example_segment(void)
{
    return (kvt_segment_header){.segment = 2, .mark = KVT_SEGMENT_MARK_OPEN, .generation = GENERATION, .first_seq = 7};
}

static kvt_record_header example_record(uint32_t block, uint64_t seq, int key, uint64_t bytes)
{
    kvt_record_header header = {.segment = 2, .block = block, .generation = GENERATION, .seq = seq};
    kvt_record *record = &header.record;
    for (int i = 0; i < KVT_KEY_BYTES; i++) {
        record->space.bytes[i] = (uint8_t)i;
        record->key.bytes[i] = (uint8_t)(key + i);
        record->parent.bytes[i] = (uint8_t)(32 + i);
    }
    record->token_fp = UINT64_C(0x1122334455667788);
    record->raw_bytes = 2 * bytes;
    record->stored_bytes = bytes;
    record->codec = 1;
    record->flags = 0x301;
    record->depth = 4;
    record->cost_us = 900;
    uint8_t *payload = malloc(bytes);
    fill_payload(payload, bytes);
    kvt_frame_digests(payload, bytes, header.digests);
    record->hash = kvt_payload_hash(header.digests, kvt_frame_count(bytes));
    free(payload);
    return header;
}

static kvt_footer_entry entry_of(const kvt_record_header *header)
{
    return (kvt_footer_entry){.seq = header->seq, .block = header->block, .record = header->record};
}

static void example_entries(uint8_t entries[KVT_BLOCK_BYTES])
{
    kvt_record_header first = example_record(1, 7, 16, 6000), second = example_record(4, 8, 32, 100);
    kvt_footer_entry a = entry_of(&first), b = entry_of(&second);
    memset(entries, 0, KVT_BLOCK_BYTES);
    kvt_footer_entry_encode(&a, entries);
    kvt_footer_entry_encode(&b, entries + KVT_FOOTER_ENTRY_BYTES);
}

static kvt_footer_trailer example_trailer(const uint8_t *entries)
{
    return (kvt_footer_trailer){.segment = 2,
                                .count = 2,
                                .generation = GENERATION,
                                .last_seq = 8,
                                .entries_crc = kvt_crc32c(0, entries, KVT_BLOCK_BYTES)};
}

static void example_rows(uint8_t rows[KVT_BLOCK_BYTES])
{
    kvt_checkpoint_row a = {.segment = 2, .barrier = true, .generation = GENERATION, .rank = 40};
    kvt_checkpoint_row b = {.segment = 8, .generation = UINT64_C(4) << 32 | 9, .rank = 41};
    memset(rows, 0, KVT_BLOCK_BYTES);
    kvt_checkpoint_row_encode(&a, rows);
    kvt_checkpoint_row_encode(&b, rows + KVT_CHECKPOINT_ROW_BYTES);
}

static kvt_checkpoint example_checkpoint(const uint8_t *rows)
{
    return (kvt_checkpoint){.seq = 17, .epoch = 5, .row_count = 2, .rows_crc = kvt_crc32c(0, rows, KVT_BLOCK_BYTES)};
}

KVT_TEST(format, encoders_give_the_documented_bytes)
{
    uint8_t block[KVT_BLOCK_BYTES], body[KVT_BLOCK_BYTES];
    kvt_uuid u = uuid();
    kvt_super super = example_super(4);
    kvt_super_encode(&super, block);
    expect_golden("super0", block);
    super.slot_seq = 3;
    kvt_super_encode(&super, block);
    expect_golden("super1", block);

    kvt_segment_header segment = example_segment();
    kvt_segment_header_encode(&u, &segment, block);
    expect_golden("segment", block);

    kvt_record_header record = example_record(1, 7, 16, 6000);
    kvt_record_header_encode(&u, &record, block);
    expect_golden("record", block);
    record = example_record(4, 8, 32, 100);
    kvt_record_header_encode(&u, &record, block);
    expect_golden("record2", block);
    record = example_record(9, 12, 16, (2 << 20) + 5);
    kvt_record_header_encode(&u, &record, block);
    expect_golden("large", block);

    example_entries(body);
    expect_golden("entries", body);
    kvt_footer_trailer trailer = example_trailer(body);
    kvt_footer_trailer_encode(&u, SEGMENT, &trailer, block);
    expect_golden("trailer", block);

    example_rows(body);
    expect_golden("rows", body);
    kvt_checkpoint checkpoint = example_checkpoint(body);
    kvt_checkpoint_encode(&u, &checkpoint, block);
    expect_golden("checkpoint", block);
}

/* Compared through a second encoding: structs have padding. */
KVT_TEST(format, decoders_give_back_what_was_encoded)
{
    uint8_t block[KVT_BLOCK_BYTES];
    kvt_uuid u = uuid();
    kvt_super super;
    cr_assert_eq(kvt_super_decode(golden_block("super1"), 1, &super), KVT_OK);
    kvt_super_encode(&super, block);
    expect_golden("super1", block);

    kvt_segment_header segment;
    cr_assert_eq(kvt_segment_header_decode(&u, 2, golden_block("segment"), &segment), KVT_OK);
    kvt_segment_header_encode(&u, &segment, block);
    expect_golden("segment", block);

    kvt_record_header record;
    cr_assert_eq(kvt_record_header_decode(&u, golden_block("large"), &record), KVT_OK);
    kvt_record_header_encode(&u, &record, block);
    expect_golden("large", block);

    kvt_footer_trailer trailer;
    cr_assert_eq(kvt_footer_trailer_decode(&u, SEGMENT, golden_block("trailer"), &trailer), KVT_OK);
    kvt_footer_trailer_encode(&u, SEGMENT, &trailer, block);
    expect_golden("trailer", block);
    cr_assert_eq(kvt_footer_entries_check(&trailer, SEGMENT, golden_block("entries")), KVT_OK);
    kvt_footer_entry entry;
    memset(block, 0, sizeof block);
    for (int i = 0; i < 2; i++) {
        size_t at = (size_t)i * KVT_FOOTER_ENTRY_BYTES;
        cr_assert_eq(kvt_footer_entry_decode(golden_block("entries") + at, &entry), KVT_OK);
        kvt_footer_entry_encode(&entry, block + at);
    }
    expect_golden("entries", block);

    kvt_checkpoint checkpoint;
    cr_assert_eq(kvt_checkpoint_decode(&u, 8192, golden_block("checkpoint"), &checkpoint), KVT_OK);
    cr_assert_eq(kvt_checkpoint_rows_check(&checkpoint, golden_block("rows")), KVT_OK);
    kvt_checkpoint_row row;
    cr_assert_eq(kvt_checkpoint_row_decode(golden_block("rows") + 32, 9, &row), KVT_OK);
    cr_assert(row.segment == 8 && !row.barrier && row.rank == 41);
    kvt_checkpoint_encode(&u, &checkpoint, block);
    expect_golden("checkpoint", block);
}

/* ---- damage ---- */

/* Does anything accept these two bodies? block is the metadata block under test, with its companion if it has one. */
typedef kvt_status (*accept)(const uint8_t *block);

static kvt_status accept_super0(const uint8_t *block) { return kvt_super_decode(block, 0, &(kvt_super){0}); }
static kvt_status accept_super1(const uint8_t *block) { return kvt_super_decode(block, 1, &(kvt_super){0}); }
static kvt_status accept_segment(const uint8_t *block)
{
    kvt_uuid u = uuid();
    return kvt_segment_header_decode(&u, 2, block, &(kvt_segment_header){0});
}
static kvt_status accept_record(const uint8_t *block)
{
    kvt_uuid u = uuid();
    kvt_record_header header;
    return kvt_record_header_decode(&u, block, &header);
}
static kvt_status accept_trailer(const uint8_t *block)
{
    kvt_uuid u = uuid();
    return kvt_footer_trailer_decode(&u, SEGMENT, block, &(kvt_footer_trailer){0});
}
static kvt_status accept_entries(const uint8_t *block)
{
    kvt_uuid u = uuid();
    kvt_footer_trailer trailer;
    cr_assert_eq(kvt_footer_trailer_decode(&u, SEGMENT, golden_block("trailer"), &trailer), KVT_OK);
    return kvt_footer_entries_check(&trailer, SEGMENT, block);
}
static kvt_status accept_checkpoint(const uint8_t *block)
{
    kvt_uuid u = uuid();
    return kvt_checkpoint_decode(&u, 8192, block, &(kvt_checkpoint){0});
}
static kvt_status accept_rows(const uint8_t *block)
{
    kvt_uuid u = uuid();
    kvt_checkpoint checkpoint;
    cr_assert_eq(kvt_checkpoint_decode(&u, 8192, golden_block("checkpoint"), &checkpoint), KVT_OK);
    return kvt_checkpoint_rows_check(&checkpoint, block);
}

static const struct {
    const char *name;
    accept decode;
    uint32_t reserved_from; /* 0: not a metadata block */
} cases[] = {
    {"super0", accept_super0, 152},  {"super1", accept_super1, 152},  {"segment", accept_segment, 68},
    {"record", accept_record, 184},  {"record2", accept_record, 184}, {"large", accept_record, 200},
    {"trailer", accept_trailer, 72}, {"entries", accept_entries, 0},  {"checkpoint", accept_checkpoint, 64},
    {"rows", accept_rows, 0},
};
enum { CASES = sizeof cases / sizeof cases[0] };

KVT_TEST(format, every_flipped_bit_is_noticed)
{
    for (int c = 0; c < CASES; c++) {
        uint8_t block[KVT_BLOCK_BYTES];
        memcpy(block, golden_block(cases[c].name), sizeof block);
        cr_assert_eq(cases[c].decode(block), KVT_OK, "%s itself", cases[c].name);
        for (uint32_t bit = 0; bit < 8 * KVT_BLOCK_BYTES; bit++) {
            block[bit / 8] ^= (uint8_t)(1u << bit % 8);
            cr_assert_neq(cases[c].decode(block), KVT_OK, "%s with bit %u flipped", cases[c].name, bit);
            block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

KVT_TEST(format, random_and_cut_blocks_are_rejected)
{
    uint64_t state = kvt_test_seed("random_and_cut_blocks_are_rejected");
    for (int i = 0; i < 2000; i++) {
        uint8_t block[KVT_BLOCK_BYTES];
        int c = (int)(kvt_test_random(&state) % CASES);
        memcpy(block, golden_block(cases[c].name), sizeof block);
        uint32_t from = (uint32_t)(kvt_test_random(&state) % 200);
        uint32_t bytes = 1 + (uint32_t)(kvt_test_random(&state) % 300);
        kvt_test_fill(block + from, bytes, kvt_test_random(&state));
        if (memcmp(block, golden_block(cases[c].name), sizeof block) != 0)
            cr_assert_neq(cases[c].decode(block), KVT_OK, "%s with %u other bytes at %u", cases[c].name, bytes, from);
    }
}

/* A writer that means it: the block is whole, only wrong. */
static void fix_crc(uint8_t *block)
{
    kvt_store_le32(block + 12, 0);
    kvt_store_le32(block + 12, kvt_crc32c(0, block, KVT_BLOCK_BYTES));
}

KVT_TEST(format, reserved_bytes_must_be_zero)
{
    for (int c = 0; c < CASES; c++) {
        for (uint32_t at = cases[c].reserved_from; at != 0 && at < KVT_BLOCK_BYTES; at++) {
            uint8_t block[KVT_BLOCK_BYTES];
            memcpy(block, golden_block(cases[c].name), sizeof block);
            block[at] = 1;
            fix_crc(block);
            cr_assert_eq(cases[c].decode(block), KVT_CORRUPT, "%s, byte %u", cases[c].name, at);
        }
    }
}

/* One field of a whole block set to a value that must not pass. */
static const struct {
    int c; /* of cases[] */
    uint32_t at, bytes;
    uint64_t value;
    kvt_status status;
} wrong[] = {
    {0, 8, 4, 1, KVT_VERSION},   /* a newer SUPER */
    {0, 128, 8, 1, KVT_VERSION}, /* an unknown feature */
    {0, 120, 4, 2, KVT_VERSION}, /* more data files */
    {0, 120, 4, 9, KVT_CORRUPT}, /* more than there can be */
    {0, 120, 4, 0, KVT_CORRUPT},
    {0, 32, 8, 5, KVT_CORRUPT}, /* the other slot's number */
    {0, 40, 8, UINT64_C(1) << 32, KVT_CORRUPT},
    {0, 48, 8, 3 << 20, KVT_CORRUPT}, /* no power of two */
    {0, 48, 8, 1 << 19, KVT_CORRUPT},
    {0, 48, 8, UINT64_C(2) << 30, KVT_CORRUPT},
    {0, 48, 8, 0, KVT_CORRUPT},
    {0, 56, 8, 3, KVT_CORRUPT}, /* too few segments */
    {0, 56, 8, (1 << 20) + 1, KVT_CORRUPT},
    {0, 56, 8, UINT64_MAX, KVT_CORRUPT},
    {0, 64, 8, 1, KVT_CORRUPT}, /* of a file that is not there */
    {0, 124, 4, 1024, KVT_CORRUPT},
    {0, 144, 8, 9 << 20 >> 1, KVT_CORRUPT}, /* less than its segments */
    {2, 8, 4, 1, KVT_CORRUPT},
    {2, 32, 4, 1, KVT_CORRUPT}, /* another device */
    {2, 36, 4, 3, KVT_CORRUPT}, /* misdirected */
    {2, 48, 8, 6, KVT_CORRUPT}, /* epoch and generation differ */
    {2, 64, 4, 2, KVT_CORRUPT}, /* SEALED stands in checkpoints only */
    {2, 64, 4, 0, KVT_CORRUPT},
    {2, 64, 4, 5, KVT_CORRUPT},
    {3, 36, 4, 1 << 20, KVT_CORRUPT},
    {3, 48, 8, 0, KVT_CORRUPT},
    {3, 48, 8, 4097, KVT_CORRUPT},
    {3, 48, 8, UINT64_C(1) << 30, KVT_CORRUPT},
    {3, 120, 8, (72 << 20) + 1, KVT_CORRUPT},
    {3, 128, 8, 0, KVT_CORRUPT},
    {3, 128, 8, (72 << 20) + 1, KVT_CORRUPT},
    {3, 128, 8, UINT64_MAX, KVT_CORRUPT},
    {3, 128, 8, (1 << 20) + 1, KVT_CORRUPT}, /* other number of frames */
    {3, 168, 4, 2, KVT_CORRUPT},
    {3, 168, 4, 73, KVT_CORRUPT},
    {3, 172, 4, 1, KVT_CORRUPT},
    {3, 176, 8, 1, KVT_CORRUPT}, /* not what the hash is of */
    {6, 56, 4, 0, KVT_CORRUPT},
    {6, 56, 4, SEGMENT / 8192 + 1, KVT_CORRUPT},
    {6, 56, 4, 200, KVT_CORRUPT},
    {6, 56, 4, UINT32_MAX, KVT_CORRUPT},
    {6, 64, 8, SEGMENT - 4096, KVT_CORRUPT},
    {8, 40, 8, UINT64_C(1) << 32, KVT_CORRUPT},
    {8, 48, 4, 200, KVT_CORRUPT},
    {8, 48, 4, UINT32_MAX, KVT_CORRUPT},
    {8, 56, 8, 4096, KVT_CORRUPT},
};

KVT_TEST(format, whole_blocks_with_impossible_fields_are_rejected)
{
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t block[KVT_BLOCK_BYTES];
        memcpy(block, golden_block(cases[wrong[i].c].name), sizeof block);
        if (wrong[i].bytes == 4)
            kvt_store_le32(block + wrong[i].at, (uint32_t)wrong[i].value);
        else
            kvt_store_le64(block + wrong[i].at, wrong[i].value);
        fix_crc(block);
        cr_assert_eq(cases[wrong[i].c].decode(block), wrong[i].status, "%s, %llu at %u", cases[wrong[i].c].name,
                     (unsigned long long)wrong[i].value, wrong[i].at);
    }
}

KVT_TEST(format, blocks_of_another_store_are_rejected)
{
    kvt_uuid other = uuid();
    other.bytes[15] ^= 1;
    kvt_record_header record;
    cr_assert_eq(kvt_segment_header_decode(&other, 2, golden_block("segment"), &(kvt_segment_header){0}), KVT_CORRUPT);
    cr_assert_eq(kvt_record_header_decode(&other, golden_block("record"), &record), KVT_CORRUPT);
    cr_assert_eq(kvt_footer_trailer_decode(&other, SEGMENT, golden_block("trailer"), &(kvt_footer_trailer){0}),
                 KVT_CORRUPT);
    cr_assert_eq(kvt_checkpoint_decode(&other, 8192, golden_block("checkpoint"), &(kvt_checkpoint){0}), KVT_CORRUPT);
}

/* ---- footers as a whole ---- */

/* Entry 1 of the example changed by one field; the crc is right. */
static kvt_status check_changed(uint32_t at, uint32_t value)
{
    uint8_t entries[KVT_BLOCK_BYTES];
    example_entries(entries);
    kvt_store_le32(entries + KVT_FOOTER_ENTRY_BYTES + at, value);
    kvt_footer_trailer trailer = example_trailer(entries);
    return kvt_footer_entries_check(&trailer, SEGMENT, entries);
}

KVT_TEST(format, footers_whose_entries_overlap_or_lie_outside_are_rejected)
{
    cr_assert_eq(check_changed(80, 4), KVT_OK, "as it is");
    cr_assert_eq(check_changed(80, 3), KVT_CORRUPT, "into the record before");
    cr_assert_eq(check_changed(80, 0), KVT_CORRUPT, "the segment header");
    cr_assert_eq(check_changed(80, SEGMENT / 4096 - 4), KVT_OK, "the last place there is");
    cr_assert_eq(check_changed(80, SEGMENT / 4096 - 3), KVT_CORRUPT, "into the footer");
    cr_assert_eq(check_changed(80, UINT32_MAX), KVT_CORRUPT);
    cr_assert_eq(check_changed(88, 0), KVT_CORRUPT, "no bytes");
    cr_assert_eq(check_changed(88, UINT32_MAX), KVT_CORRUPT, "too many bytes");
    cr_assert_eq(check_changed(88, 1 << 20), KVT_CORRUPT, "more than the segment has");
    cr_assert_eq(check_changed(84, (72 << 20) + 1), KVT_CORRUPT, "a raw length beyond all limits");
    cr_assert_eq(check_changed(108, 1), KVT_CORRUPT, "reserved");
    cr_assert_eq(check_changed(0, 9), KVT_CORRUPT, "another last sequence number");
}

KVT_TEST(format, places_in_a_segment_follow_from_the_documented_rules)
{
    cr_assert_eq(kvt_record_blocks(1), 2);
    cr_assert_eq(kvt_record_blocks(4096), 2);
    cr_assert_eq(kvt_record_blocks(4097), 3);
    cr_assert_eq(kvt_footer_bytes(36), 4096);
    cr_assert_eq(kvt_footer_bytes(37), 8192);
    cr_assert_eq(kvt_segment_end_block(SEGMENT, 1), 254);
    cr_assert_eq(kvt_segment_end_block(SEGMENT, 37), 253);
    cr_assert_eq(kvt_segment_payload_max(SEGMENT), SEGMENT - 16384);
    cr_assert(kvt_record_fits(SEGMENT, 1, SEGMENT - 16384));
    cr_assert(!kvt_record_fits(SEGMENT, 1, SEGMENT - 16383));
    cr_assert(!kvt_record_fits(SEGMENT, 0, 1));
    cr_assert(!kvt_record_fits(SEGMENT, UINT32_MAX, 1));
    cr_assert(!kvt_record_fits(KVT_SEGMENT_BYTES_MAX, 1, KVT_PAYLOAD_BYTES_MAX + 1));
    cr_assert_eq(kvt_checkpoint_bytes(0), 4096);
    cr_assert_eq(kvt_checkpoint_bytes(129), 4096 + 8192);
}
