/* SPDX-License-Identifier: Apache-2.0
 *
 * The zstd codec: round trips, sizes that do not fit, damaged and hostile payloads, short memory. What the payload
 * format says is checked by a second reader, written here from docs/format_codecs.md, and by a golden payload.
 *
 * Buffers are heap blocks of exactly the size that a codec may touch, so that the address sanitizer sees one byte too
 * many.
 */
#include "compress/compress.h"
#include "tests/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum { BLOCK = 1 << 17 };

static void *exact(uint64_t bytes)
{
    void *memory = malloc(bytes); /* not rounded up: malloc(0) is a block of nothing */
    cr_assert_not_null(memory);
    return memory;
}

typedef enum pattern { ZEROS, NOISE, FLOATS, TEXT, PATTERN_COUNT } pattern;

/* FLOATS looks like bf16: few exponents, noise below. */
static void fill(uint8_t *raw, uint64_t bytes, pattern kind, uint64_t seed)
{
    memset(raw, 0, bytes);
    if (kind == NOISE)
        kvt_test_fill(raw, bytes, seed);
    for (uint64_t i = 0; kind == FLOATS && i < bytes; i++) {
        uint64_t noise = kvt_test_random(&seed);
        raw[i] = i % 2 == 0 ? (uint8_t)noise : (uint8_t)(0x3b + __builtin_ctzll(noise | 16) + (noise >> 40 & 0x80));
    }
    for (uint64_t i = 0; kind == TEXT && i < bytes; i++)
        raw[i] = (uint8_t)("the cat sat on the mat; "[i % 24] + (i / 4096 % 3));
}

static uint8_t *filled(uint64_t bytes, pattern kind, uint64_t seed)
{
    uint8_t *raw = exact(bytes);
    fill(raw, bytes, kind, seed);
    return raw;
}

static const kvt_codec *zstd(void) { return kvt_codec_by_id(KVT_CODEC_ZSTD); }

/* Encode into a block of exactly the bound and give it back cut to size. */
static uint8_t *encoded(const uint8_t *raw, uint64_t raw_bytes, kvt_codec_hint hint, uint64_t *bytes)
{
    uint64_t bound = zstd()->bound(raw_bytes);
    uint8_t *room = exact(bound);
    cr_assert_eq(zstd()->encode(&hint, raw, raw_bytes, room, bound, bytes), KVT_OK);
    uint8_t *out = exact(*bytes);
    memcpy(out, room, *bytes);
    free(room);
    return out;
}

static kvt_status decoded(const uint8_t *payload, uint64_t bytes, const uint8_t *raw, uint64_t raw_bytes)
{
    uint8_t *back = exact(raw_bytes);
    memset(back, 0xa5, raw_bytes);
    kvt_status status = zstd()->decode(payload, bytes, back, raw_bytes);
    if (status == KVT_OK && raw != NULL)
        cr_assert(memcmp(back, raw, raw_bytes) == 0, "%" PRIu64 " bytes came back wrong", raw_bytes);
    free(back);
    return status;
}

static uint8_t *read_plane(const uint8_t **at, const uint8_t *end, uint64_t plane_bytes)
{
    uint8_t *plane = exact(plane_bytes);
    cr_assert_geq(end - *at, 4);
    uint32_t length = kvt_load_le32(*at);
    uint64_t size = length & 0x7fffffff;
    *at += 4;
    cr_assert_leq(size, (uint64_t)(end - *at));
    if (length >> 31 != 0) {
        cr_assert_eq(size, plane_bytes);
        memcpy(plane, *at, size);
    } else {
        cr_assert_lt(size, plane_bytes, "a frame that saves nothing is stored");
        cr_assert_eq(ZSTD_decompress(plane, plane_bytes, *at, size), plane_bytes);
    }
    *at += size;
    return plane;
}

/* The second reader. */
static void read_by_the_book(const uint8_t *payload, uint64_t bytes, const uint8_t *raw, uint64_t raw_bytes)
{
    const uint8_t *at = payload + 4, *end = payload + bytes;
    uint32_t width = payload[0];
    uint64_t block = UINT64_C(1) << payload[1];
    cr_assert_eq(payload[2] | payload[3], 0);
    for (uint64_t start = 0; start < raw_bytes; start += block) {
        uint64_t plane_bytes = kvt_min_u64(block, raw_bytes - start) / width;
        for (uint32_t b = 0; b < width; b++) {
            uint8_t *plane = read_plane(&at, end, plane_bytes);
            for (uint64_t i = 0; i < plane_bytes; i++)
                cr_assert_eq(plane[i], raw[start + i * width + b]);
            free(plane);
        }
    }
    cr_assert_eq(at, end);
}

static void check_round_trip(uint64_t raw_bytes, uint32_t element_bytes, int32_t level, pattern kind)
{
    uint64_t bytes = 0;
    uint8_t *raw = filled(raw_bytes, kind, raw_bytes + element_bytes);
    uint8_t *payload =
        encoded(raw, raw_bytes, (kvt_codec_hint){.element_bytes = element_bytes, .level = level}, &bytes);
    cr_assert_eq(decoded(payload, bytes, raw, raw_bytes), KVT_OK, "%" PRIu64 " bytes, element %" PRIu32, raw_bytes,
                 element_bytes);
    read_by_the_book(payload, bytes, raw, raw_bytes);
    free(payload);
    free(raw);
}

KVT_TEST(codec_zstd, zstd_gives_back_what_it_took)
{
    static const uint64_t sizes[] = {
        0, 1, 2, 3, 4, 7, 8, 16, 511, 4096, BLOCK - 8, BLOCK, BLOCK + 1, BLOCK + 8, 3 * BLOCK + 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t element_bytes = 1; element_bytes <= 8; element_bytes *= 2)
            for (int kind = 0; kind < PATTERN_COUNT; kind++)
                check_round_trip(sizes[i], element_bytes, 0, (pattern)kind);
}

KVT_TEST(codec_zstd, zstd_takes_every_level_and_odd_hints)
{
    static const int32_t levels[] = {INT32_MIN, -5, 0, 1, 2, 3, 15, 16, 19, 22, INT32_MAX};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        check_round_trip(BLOCK + 64, 2, levels[i], FLOATS);
        check_round_trip(BLOCK / 2, 1, levels[i], TEXT);
    }
    check_round_trip(4096, 0, 1, TEXT); /* no such width: plain */
    check_round_trip(4096, 3, 1, TEXT);
    check_round_trip(4096, 16, 1, TEXT);
}

KVT_TEST(codec_zstd, zstd_splits_elements_that_divide_the_blob)
{
    uint64_t plain_bytes = 0, split_bytes = 0, odd_bytes = 0;
    uint8_t *raw = filled(2 * BLOCK, FLOATS, 3);
    uint8_t *plain = encoded(raw, 2 * BLOCK, (kvt_codec_hint){.element_bytes = 1, .level = 0}, &plain_bytes);
    uint8_t *split = encoded(raw, 2 * BLOCK, (kvt_codec_hint){.element_bytes = 2, .level = 0}, &split_bytes);
    uint8_t *odd = encoded(raw, 2 * BLOCK - 1, (kvt_codec_hint){.element_bytes = 2, .level = 0}, &odd_bytes);
    cr_assert_eq(plain[0], 1);
    cr_assert_eq(split[0], 2);
    cr_assert_eq(odd[0], 1);
    cr_assert_lt(split_bytes, plain_bytes * 96 / 100);
    free(plain);
    free(split);
    free(odd);
    free(raw);
}

static void check_capacities(uint64_t raw_bytes, uint32_t element_bytes, pattern kind)
{
    kvt_codec_hint hint = {.element_bytes = element_bytes, .level = 1};
    uint64_t full = 0, bytes;
    uint8_t *raw = filled(raw_bytes, kind, 5);
    uint8_t *payload = encoded(raw, raw_bytes, hint, &full);
    free(payload);
    for (uint64_t capacity = 0; capacity < full;
         capacity += capacity < 64 || capacity + 64 > full ? 1 : full / 97 + 1) {
        uint8_t *room = exact(capacity);
        bytes = 99;
        cr_assert_eq(zstd()->encode(&hint, raw, raw_bytes, room, capacity, &bytes), KVT_REJECTED,
                     "%" PRIu64 " of %" PRIu64, capacity, full);
        cr_assert_eq(bytes, 99u, "a refusal leaves the size alone");
        free(room);
    }
    free(raw);
}

KVT_TEST(codec_zstd, zstd_refuses_a_capacity_that_is_too_small)
{
    check_capacities(20000, 2, FLOATS);
    check_capacities(20000, 1, TEXT);
    check_capacities(3000, 4, NOISE);
    check_capacities(BLOCK + 4096, 2, FLOATS);
}

/* ---- damage ---- */

static void check_cuts(uint64_t raw_bytes, uint32_t element_bytes, pattern kind)
{
    uint64_t bytes = 0;
    uint8_t *raw = filled(raw_bytes, kind, 6);
    uint8_t *payload = encoded(raw, raw_bytes, (kvt_codec_hint){.element_bytes = element_bytes, .level = 1}, &bytes);
    for (uint64_t cut = 0; cut < bytes; cut += cut < 64 || cut + 64 > bytes ? 1 : bytes / 211 + 1) {
        uint8_t *part = exact(cut);
        memcpy(part, payload, cut);
        cr_assert_eq(decoded(part, cut, NULL, raw_bytes), KVT_CORRUPT, "%" PRIu64 " of %" PRIu64, cut, bytes);
        free(part);
    }
    uint8_t *longer = exact(bytes + 4);
    memset(longer, 0, bytes + 4);
    memcpy(longer, payload, bytes);
    cr_assert_eq(decoded(longer, bytes + 1, NULL, raw_bytes), KVT_CORRUPT);
    cr_assert_eq(decoded(longer, bytes + 4, NULL, raw_bytes), KVT_CORRUPT);
    static const int64_t off[] = {-8, -2, -1, 1, 2, 8, 2 * BLOCK};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        cr_assert_eq(decoded(payload, bytes, NULL, raw_bytes + (uint64_t)off[i]), KVT_CORRUPT);
    cr_assert_eq(decoded(payload, bytes, NULL, 0), KVT_CORRUPT);
    free(longer);
    free(payload);
    free(raw);
}

KVT_TEST(codec_zstd, cut_or_stretched_zstd_payloads_are_corrupt)
{
    check_cuts(5000, 1, TEXT);
    check_cuts(5000, 1, NOISE);
    check_cuts(5000, 2, FLOATS);
    check_cuts(BLOCK + 5000, 8, ZEROS);
    check_cuts(2 * BLOCK, 2, FLOATS);
}

/* Every answer is allowed but a byte outside: there is no checksum here, the record's hash is the check of content. */
static void check_flips(uint64_t raw_bytes, uint32_t element_bytes, pattern kind, uint64_t seed)
{
    uint64_t bytes = 0, corrupt = 0, tried = 0;
    uint8_t *raw = filled(raw_bytes, kind, 7);
    uint8_t *payload = encoded(raw, raw_bytes, (kvt_codec_hint){.element_bytes = element_bytes, .level = 1}, &bytes);
    uint64_t step = bytes * 8 / 1500 + 1;
    for (uint64_t bit = 0; bit < bytes * 8; bit += bit < 512 ? 1 : 1 + kvt_test_random(&seed) % (2 * step), tried++) {
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        kvt_status status = decoded(payload, bytes, NULL, raw_bytes);
        cr_assert(status == KVT_OK || status == KVT_CORRUPT, "bit %" PRIu64 ": %s", bit, kvt_status_name(status));
        cr_assert(bit >= 32 || status == KVT_CORRUPT || bit / 8 == 1, "bit %" PRIu64 " of the header", bit);
        corrupt += status == KVT_CORRUPT;
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    cr_assert_gt(corrupt, tried / 50, "hardly any flip was noticed");
    free(payload);
    free(raw);
}

KVT_TEST(codec_zstd, flipped_bits_never_lead_outside)
{
    uint64_t seed = kvt_test_seed("zstd flips");
    check_flips(3000, 1, TEXT, seed);
    check_flips(20000, 2, FLOATS, seed);
    check_flips(20000, 4, FLOATS, seed);
    check_flips(BLOCK + 512, 2, TEXT, seed);
}

KVT_TEST(codec_zstd, noise_is_no_payload)
{
    uint64_t seed = kvt_test_seed("zstd noise");
    for (int i = 0; i < 4000; i++) {
        uint64_t bytes = kvt_test_random(&seed) % 300;
        uint8_t *payload = exact(bytes);
        kvt_test_fill(payload, bytes, kvt_test_random(&seed));
        if (bytes >= 12 && i % 2 == 0) { /* let it get past the header and the magic number */
            memcpy(payload, (const uint8_t[4]){1, 26, 0, 0}, 4);
            kvt_store_le32(payload + 4, (uint32_t)bytes - 8);
            kvt_store_le32(payload + 8, ZSTD_MAGICNUMBER);
        }
        cr_assert_eq(decoded(payload, bytes, NULL, 1000), KVT_CORRUPT);
        free(payload);
    }
}

/* A payload of one plain plane with the given frames in it. */
static void check_frames(const char *what, const void *frames, size_t bytes, uint64_t raw_bytes, kvt_status expected)
{
    uint8_t *payload = exact(8 + bytes);
    memcpy(payload, (const uint8_t[4]){1, 26, 0, 0}, 4);
    kvt_store_le32(payload + 4, (uint32_t)bytes);
    memcpy(payload + 8, frames, bytes);
    cr_assert_eq(decoded(payload, 8 + bytes, NULL, raw_bytes), expected, "%s", what);
    free(payload);
}

KVT_TEST(codec_zstd, only_one_plain_frame_makes_a_plane)
{
    uint8_t raw[600], frame[1024], two[2048];
    fill(raw, sizeof raw, TEXT, 1);
    size_t size = ZSTD_compress(frame, sizeof frame, raw, sizeof raw, 3);
    check_frames("one frame", frame, size, 600, KVT_OK);
    check_frames("a frame of a longer text", frame, size, 599, KVT_CORRUPT);
    check_frames("a frame of a shorter text", frame, size, 601, KVT_CORRUPT);
    memcpy(two, frame, size);
    memcpy(two + size, frame, size);
    check_frames("two frames", two, 2 * size, 1200, KVT_CORRUPT);
    kvt_store_le32(two, ZSTD_MAGIC_SKIPPABLE_START);
    kvt_store_le32(two + 4, 0);
    memcpy(two + 8, frame, size);
    check_frames("a skippable frame before it", two, 8 + size, 600, KVT_CORRUPT);
    static const uint8_t old[] = {0x27, 0xB5, 0x2F, 0xFD, 0x20, 4, 0x40, 0, 4, 'a', 'b', 'c', 'd', 0xC0, 0, 0};
    check_frames("a sound frame of zstd 0.7, which libzstd may still read", old, sizeof old, 4, KVT_CORRUPT);
    check_frames("nothing", frame, 0, 600, KVT_CORRUPT);
    static const uint8_t dictionary[] = {0x28, 0xB5, 0x2F, 0xFD, 0x21, 0x07, 0x01, 0x09, 0x00, 0x00, 'x'};
    check_frames("a frame that needs a dictionary", dictionary, sizeof dictionary, 1, KVT_CORRUPT);
    static const uint8_t wide[] = {0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0xB8, 0, 0, 0, 0, 0, 1, 0, 0, 0x03, 0x00, 0x00};
    check_frames("a frame that asks for a window of terabytes", wide, sizeof wide, 1, KVT_CORRUPT);
}

KVT_TEST(codec_zstd, headers_that_do_not_fit_are_refused)
{
    static const uint8_t headers[][4] = {{0, 17, 0, 0}, {3, 17, 0, 0},  {16, 17, 0, 0}, {255, 17, 0, 0},
                                         {2, 15, 0, 0}, {2, 21, 0, 0},  {2, 63, 0, 0},  {2, 64, 0, 0},
                                         {1, 27, 0, 0}, {1, 255, 0, 0}, {2, 17, 1, 0},  {2, 17, 0, 1}};
    uint64_t bytes = 0;
    uint8_t *raw = filled(4800, FLOATS, 2);
    uint8_t *payload = encoded(raw, 4800, (kvt_codec_hint){.element_bytes = 2, .level = 1}, &bytes);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        memcpy(payload, headers[i], 4);
        cr_assert_eq(decoded(payload, bytes, NULL, 4800), KVT_CORRUPT, "header %zu", i);
    }
    static const uint8_t other_blocks[][4] = {{2, 16, 0, 0}, {2, 20, 0, 0}}; /* one block all the same */
    for (size_t i = 0; i < 2; i++) {
        memcpy(payload, other_blocks[i], 4);
        cr_assert_eq(decoded(payload, bytes, raw, 4800), KVT_OK);
    }
    free(payload);
    free(raw);
}

KVT_TEST(codec_zstd, short_memory_is_an_answer_and_no_leak)
{
    uint64_t bytes = 0, raw_bytes = BLOCK + 4096;
    uint8_t *raw = filled(raw_bytes, FLOATS, 9);
    uint8_t *payload = encoded(raw, raw_bytes, (kvt_codec_hint){.element_bytes = 2, .level = 1}, &bytes);
    uint8_t *out = exact(zstd()->bound(raw_bytes));
    uint32_t refused = 0;
    for (uint64_t nth = 1; nth < 20; nth++) {
        kvt_codec_hint hint = {.element_bytes = 2, .level = 1};
        kvt_alloc_fail_at(nth);
        kvt_status encoding = zstd()->encode(&hint, raw, raw_bytes, out, zstd()->bound(raw_bytes), &bytes);
        kvt_alloc_fail_at(nth);
        kvt_status decoding = decoded(payload, bytes, raw, raw_bytes);
        kvt_alloc_fail_at(0);
        cr_assert(encoding == KVT_OK || encoding == KVT_NOMEM, "%s", kvt_status_name(encoding));
        cr_assert(decoding == KVT_OK || decoding == KVT_NOMEM, "%s", kvt_status_name(decoding));
        refused += (uint32_t)(encoding == KVT_NOMEM) + (uint32_t)(decoding == KVT_NOMEM);
    }
    cr_assert_geq(refused, 5u, "a context, its tables and the planes; a context and the planes");
    free(out);
    free(payload);
    free(raw);
}

/* ---- golden ---- */

/* The blob of golden/codec_zstd.bin: 2-byte elements, one block and a bit; smooth, so that the file is small. */
static void fill_golden(uint8_t *raw, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / 2; i++) {
        raw[2 * i] = (uint8_t)(7 * i % 251);
        raw[2 * i + 1] = (uint8_t)(0x3c + (i / 700 % 5));
    }
    uint64_t seed = 1;
    for (uint64_t i = BLOCK; i < bytes; i += 2) /* and a plane of noise, which is stored */
        raw[i] = (uint8_t)kvt_test_random(&seed);
}

KVT_TEST(codec_zstd, the_golden_payload_still_decodes)
{
    enum { RAW_BYTES = BLOCK + 3000 };
    uint8_t *raw = exact(RAW_BYTES), payload[16384];
    fill_golden(raw, RAW_BYTES);
    const char *update = getenv("KVT_TEST_WRITE_GOLDEN"); /* a folder: write the file there; for a new format only */
    if (update != NULL) {
        uint64_t bytes = 0;
        uint8_t *fresh = encoded(raw, RAW_BYTES, (kvt_codec_hint){.element_bytes = 2, .level = 0}, &bytes);
        char path[512];
        snprintf(path, sizeof path, "%s/codec_zstd.bin", update);
        FILE *out = fopen(path, "wb");
        cr_assert_not_null(out);
        cr_assert_eq(fwrite(fresh, 1, bytes, out), bytes);
        fclose(out);
        free(fresh);
    }
    FILE *file = fopen(KVT_GOLDEN_DIR "/codec_zstd.bin", "rb");
    cr_assert_not_null(file);
    size_t bytes = fread(payload, 1, sizeof payload, file);
    fclose(file);
    cr_assert_eq(decoded(payload, bytes, raw, RAW_BYTES), KVT_OK);
    read_by_the_book(payload, bytes, raw, RAW_BYTES);
    free(raw);
}
