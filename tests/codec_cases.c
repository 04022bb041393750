/* SPDX-License-Identifier: Apache-2.0
 *
 * The cases of codec_cases.h. Everything is compared over all instruction sets of the machine: payloads byte by byte,
 * and what decoders say of damaged ones.
 */
#include "tests/codec_cases.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>

static void *exact(uint64_t bytes)
{
    void *memory = malloc(bytes);
    cr_assert_not_null(memory);
    return memory;
}

const kvt_exponent_ops *codec_ops_at(uint32_t i)
{
    const kvt_exponent_ops *all[4] = {&kvt_exponent_portable};
    uint32_t count = 1;
    for (uint32_t bit = KVT_CPU_AVX2; bit != 0; bit = bit == KVT_CPU_AVX2 ? KVT_CPU_AVX512_BYTES : 0) {
        const kvt_exponent_ops *ops = kvt_exponent_ops_for(kvt_cpu_features() & bit);
        if (ops != &kvt_exponent_portable)
            all[count++] = ops;
    }
    return i < count ? all[i] : NULL;
}

/* ---- blobs ---- */

static uint32_t extreme(kvt_element_kind kind, uint64_t noise)
{
    uint32_t top = kvt_exponent_max(kind) << kvt_mantissa_bits(kind), bits = 8 * kvt_element_kind_bytes(kind);
    const uint32_t bodies[] = {0, 1, top, top | 1, top - 1, top | (noise >> 8 & 3), 1u << kvt_mantissa_bits(kind)};
    return bodies[noise % 7] | (uint32_t)(noise >> 20 & 1) << (bits - 1);
}

/* Channel c: an exponent around a middle of its own, a sign that lasts in every third one. */
static uint32_t kv_element(kvt_element_kind kind, uint32_t c, uint64_t noise)
{
    uint32_t mantissa = kvt_mantissa_bits(kind), most = kvt_exponent_max(kind);
    uint32_t middle = most / 2 + c * 7 % 5 - c * 11 % 3;
    uint32_t below = (uint32_t)__builtin_ctzll(noise | 1u << 20) + (c % 4 == 1);
    if ((noise >> 40 & 1023) == 0)
        below = noise >> 50 & 31; /* an outlier, up or down */
    uint32_t exponent = (middle - below + (below > 20 ? 8 : 0)) & most;
    uint32_t sign = c % 3 == 0 ? (noise >> 24 & 63) == 0 : noise >> 24 & 1;
    if (c % 97 == 13)
        exponent = 0;
    return sign << (8 * kvt_element_kind_bytes(kind) - 1) | exponent << mantissa |
           (uint32_t)(noise >> 28 & ((1u << mantissa) - 1));
}

codec_blob *codec_blob_make(kvt_element_kind kind, uint32_t planes, uint32_t tokens, uint32_t channels,
                            codec_pattern pattern, uint64_t seed)
{
    codec_blob *blob = exact(sizeof *blob);
    uint32_t width = kvt_element_kind_bytes(kind);
    *blob = (codec_blob){.view = {planes, channels, width, kind}, .group = {.layer_count = 1, .view_count = 1}};
    blob->group.views = &blob->view;
    blob->hint = (kvt_codec_hint){width, 0, kind, tokens, 1, &blob->group};
    uint64_t elements = (uint64_t)planes * tokens * channels;
    blob->raw_bytes = elements * width;
    blob->raw = exact(blob->raw_bytes);
    for (uint64_t i = 0; i < elements; i++) {
        uint64_t noise = kvt_test_random(&seed);
        uint32_t value = pattern == CODEC_KV         ? kv_element(kind, (uint32_t)(i % channels), noise)
                         : pattern == CODEC_NOISE    ? (uint32_t)noise
                         : pattern == CODEC_EXTREMES ? extreme(kind, noise)
                                                     : 0;
        memcpy(blob->raw + i * width, &value, width);
    }
    return blob;
}

void codec_blob_free(codec_blob *blob)
{
    free(blob->raw);
    free(blob);
}

/* ---- one blob through everything ---- */

static uint8_t *encode_exact(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, const codec_blob *blob,
                             uint64_t *bytes)
{
    uint64_t bound = kvt_exponent_bound(blob->raw_bytes);
    uint8_t *room = exact(bound);
    memset(room, 0x5a, bound);
    cr_assert_eq(kvt_exponent_encode(codec, ops, &blob->hint, blob->raw, blob->raw_bytes, room, bound, bytes), KVT_OK);
    cr_assert_leq(*bytes, bound);
    uint8_t *out = exact(*bytes);
    memcpy(out, room, *bytes);
    free(room);
    return out;
}

uint8_t *codec_check_blob(const kvt_exponent_codec *codec, const codec_blob *blob, uint64_t *out_bytes)
{
    uint8_t *reference = encode_exact(codec, &kvt_exponent_portable, blob, out_bytes);
    uint8_t *back = exact(blob->raw_bytes);
    for (uint32_t i = 0; codec_ops_at(i) != NULL; i++) {
        const kvt_exponent_ops *ops = codec_ops_at(i);
        uint64_t bytes = 0;
        uint8_t *payload = encode_exact(codec, ops, blob, &bytes);
        cr_assert_eq(bytes, *out_bytes, "%s", ops->name);
        cr_assert(memcmp(payload, reference, bytes) == 0, "%s writes another payload", ops->name);
        memset(back, 0xa5, blob->raw_bytes);
        cr_assert_eq(kvt_exponent_decode(codec, ops, payload, bytes, back, blob->raw_bytes), KVT_OK, "%s: %u x %u",
                     ops->name, blob->hint.token_count, blob->view.channel_count);
        cr_assert(memcmp(back, blob->raw, blob->raw_bytes) == 0, "%s gives other bytes back", ops->name);
        free(payload);
    }
    memset(back, 0xa5, blob->raw_bytes);
    cr_assert(codec_read_by_the_book(reference, *out_bytes, back, blob->raw_bytes));
    cr_assert(memcmp(back, blob->raw, blob->raw_bytes) == 0, "the second reader reads something else");
    free(back);
    return reference;
}

kvt_status codec_check_hostile(const kvt_exponent_codec *codec, const uint8_t *payload, uint64_t bytes,
                               uint64_t raw_bytes, const uint8_t *expected, bool *out_same)
{
    uint8_t *in = exact(bytes), *first = exact(raw_bytes), *back = exact(raw_bytes);
    kvt_status status = KVT_OK;
    memcpy(in, payload, bytes);
    for (uint32_t i = 0; codec_ops_at(i) != NULL; i++) {
        uint8_t *out = i == 0 ? first : back;
        memset(out, 0xa5, raw_bytes);
        kvt_status mine = kvt_exponent_decode(codec, codec_ops_at(i), in, bytes, out, raw_bytes);
        cr_assert(mine == KVT_OK || mine == KVT_CORRUPT, "%s", kvt_status_name(mine));
        cr_assert(i == 0 || mine == status, "%s: %s, not %s", codec_ops_at(i)->name, kvt_status_name(mine),
                  kvt_status_name(status));
        cr_assert(i == 0 || mine != KVT_OK || memcmp(first, back, raw_bytes) == 0, "%s gives other bytes",
                  codec_ops_at(i)->name);
        status = mine;
    }
    *out_same = status == KVT_OK && expected != NULL && memcmp(first, expected, raw_bytes) == 0;
    free(in);
    free(first);
    free(back);
    return status;
}

/* ---- cases ---- */

void codec_case_all_patterns(const kvt_exponent_codec *codec)
{
    for (int kind = KVT_ELEMENT_BF16; kind <= KVT_ELEMENT_E5M2; kind++) {
        codec_blob *blob = codec_blob_make((kvt_element_kind)kind, 2, 256, 256, CODEC_KV, 1);
        uint32_t width = kvt_element_kind_bytes((kvt_element_kind)kind);
        for (uint32_t i = 0; i < 65536; i++) /* in order in one plane; shuffled among others in the next */
            memcpy(blob->raw + (size_t)i * width, &i, width);
        for (uint32_t i = 0; i < 65536; i += 2) {
            uint32_t value = i * 40503u;
            memcpy(blob->raw + (size_t)(65536 + i) * width, &value, width);
        }
        uint64_t bytes;
        free(codec_check_blob(codec, blob, &bytes));
        codec_blob_free(blob);
    }
}

void codec_case_geometries(const kvt_exponent_codec *codec, const char *seed_name)
{
    uint64_t seed = kvt_test_seed(seed_name);
    for (uint32_t round = 0; round < 160; round++) {
        uint64_t noise = kvt_test_random(&seed);
        kvt_element_kind kind = (kvt_element_kind)(1 + noise % 4);
        uint32_t tokens = 1 + (uint32_t)(noise >> 8) % (round % 3 == 0 ? 300 : 20);
        uint32_t channels = 1 + (uint32_t)(noise >> 32) % (round % 4 == 0 ? 400 : 130);
        if (round % 5 == 0)
            channels = 64 * (1 + channels % 6);
        codec_pattern pattern = round % 2 == 0 ? CODEC_KV : (codec_pattern)((noise >> 50) % CODEC_PATTERN_COUNT);
        codec_blob *blob = codec_blob_make(kind, 1 + (uint32_t)(noise % 3), tokens, channels, pattern, noise);
        uint64_t bytes;
        free(codec_check_blob(codec, blob, &bytes));
        codec_blob_free(blob);
    }
}

void codec_case_bound_and_fallback(const kvt_exponent_codec *codec)
{
    for (int pattern = 0; pattern < CODEC_PATTERN_COUNT; pattern++) {
        for (int kind = KVT_ELEMENT_BF16; kind <= KVT_ELEMENT_E5M2; kind++) {
            codec_blob *blob =
                codec_blob_make((kvt_element_kind)kind, 3, 65, 130, (codec_pattern)pattern, 3 + (uint64_t)kind);
            uint64_t bytes;
            uint8_t *payload = codec_check_blob(codec, blob, &bytes);
            cr_assert_leq(bytes, 16 + 3 * (16 + 15) + blob->raw_bytes,
                          "a plane is never larger than raw and its entry");
            if (pattern == CODEC_NOISE && kind != KVT_ELEMENT_E4M3)
                cr_assert_eq(payload[16], 0, "noise is stored raw");
            free(payload);
            /* The same bytes without a shape, and with one that does not fit. */
            blob->hint.group_count = 0;
            free(codec_check_blob(codec, blob, &bytes));
            blob->hint.group_count = 1;
            blob->hint.token_count++;
            free(codec_check_blob(codec, blob, &bytes));
            codec_blob_free(blob);
        }
    }
    codec_blob *nothing = codec_blob_make(KVT_ELEMENT_BF16, 1, 0, 64, CODEC_ZEROS, 0);
    uint64_t bytes;
    free(codec_check_blob(codec, nothing, &bytes));
    cr_assert_eq(bytes, 16u);
    codec_blob_free(nothing);
}

void codec_case_capacities(const kvt_exponent_codec *codec)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 2, 20, 70, CODEC_KV, 5);
    uint64_t bytes, got;
    free(codec_check_blob(codec, blob, &bytes));
    for (uint64_t capacity = 0; capacity < bytes; capacity += capacity % 7 + 1) {
        uint8_t *room = exact(capacity); /* the address sanitizer sees one byte too many */
        got = 77;
        kvt_status status = kvt_exponent_encode(codec, kvt_exponent_ops_here(), &blob->hint, blob->raw, blob->raw_bytes,
                                                room, capacity, &got);
        cr_assert_eq(status, KVT_REJECTED, "%llu of %llu", (unsigned long long)capacity, (unsigned long long)bytes);
        cr_assert_eq(got, 77u, "a refusal leaves the size alone");
        free(room);
    }
    codec_blob_free(blob);
}

void codec_case_truncations(const kvt_exponent_codec *codec)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 2, 9, 70, CODEC_KV, 6);
    uint64_t bytes;
    bool same;
    uint8_t *payload = codec_check_blob(codec, blob, &bytes);
    for (uint64_t length = 0; length < bytes; length++)
        cr_assert_eq(codec_check_hostile(codec, payload, length, blob->raw_bytes, NULL, &same), KVT_CORRUPT);
    uint8_t *longer = exact(bytes + 16);
    memcpy(longer, payload, bytes);
    memset(longer + bytes, 0, 16);
    cr_assert_eq(codec_check_hostile(codec, longer, bytes + 16, blob->raw_bytes, NULL, &same), KVT_CORRUPT);
    cr_assert_eq(codec_check_hostile(codec, payload, bytes, blob->raw_bytes - 2, NULL, &same), KVT_CORRUPT);
    cr_assert_eq(codec_check_hostile(codec, payload, bytes, blob->raw_bytes + 2, NULL, &same), KVT_CORRUPT);
    free(longer);
    free(payload);
    codec_blob_free(blob);
}

/* Every bit, one at a time. What still decodes to the same must have been padding: nothing is stored that means
 * nothing. */
void codec_case_bit_flips(const kvt_exponent_codec *codec)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 1, 30, 66, CODEC_KV, 7);
    uint64_t bytes, silent = 0, noticed = 0;
    uint8_t *payload = codec_check_blob(codec, blob, &bytes);
    cr_assert_neq(payload[16], 0, "coded, not raw");
    for (uint64_t bit = 0; bit < 8 * bytes; bit++) {
        bool same;
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kvt_status status = codec_check_hostile(codec, payload, bytes, blob->raw_bytes, blob->raw, &same);
        noticed += status == KVT_CORRUPT;
        silent += same;
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* Padding of at most seven sections of at most 15 bytes; elements behind the end of the last step: 52 raw bytes,
     * codes. */
    cr_assert_leq(silent, 8u * 7 * 15 + 52 * 12);
    cr_assert_geq(noticed, 100u);
    free(payload);
    codec_blob_free(blob);
}

/* Damage of several bytes, and bodies of noise behind a front that adds up. */
void codec_case_garbage(const kvt_exponent_codec *codec, const char *seed_name)
{
    uint64_t seed = kvt_test_seed(seed_name);
    for (uint32_t round = 0; round < 12; round++) {
        kvt_element_kind kind = (kvt_element_kind)(1 + round % 4);
        codec_blob *blob = codec_blob_make(kind, 1, 40 + round * 13, 50 + round * 17, CODEC_KV, round);
        uint64_t bytes;
        bool same;
        uint8_t *payload = codec_check_blob(codec, blob, &bytes), *damaged = exact(bytes);
        for (uint32_t attempt = 0; attempt < 60; attempt++) {
            memcpy(damaged, payload, bytes);
            uint64_t from = attempt % 3 == 0 ? 0 : 32;
            for (uint32_t n = attempt % 2 == 0 ? 3 : 400; n > 0; n--) {
                uint64_t noise = kvt_test_random(&seed);
                damaged[from + noise % (bytes - from)] = (uint8_t)(noise >> 48);
            }
            codec_check_hostile(codec, damaged, bytes, blob->raw_bytes, NULL, &same);
        }
        free(damaged);
        free(payload);
        codec_blob_free(blob);
    }
}

/* Counts of two segments that still add up, but not each: xpack's escapes, rans's words and escapes. */
void codec_case_moved_counts(const kvt_exponent_codec *codec)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 1, 300, 64, CODEC_KV, 9);
    uint64_t bytes;
    bool same, rans = codec->id == KVT_CODEC_RANS;
    uint8_t *payload = codec_check_blob(codec, blob, &bytes);
    uint32_t levels = payload[16 + 3] & 15, classes = payload[16 + 3] >> 4, tables = classes * (4 * levels + 1);
    uint8_t *counts = payload + 32 + (rans ? 64 + (tables + 15) / 16 * 16 : 32);
    for (uint32_t field = 0; field < (rans ? 2u : 1u); field++) {
        uint8_t *first = counts + (size_t)2 * field, *second = first + (rans ? 4 : 2);
        uint32_t step = rans && field == 1 ? 4 : 1; /* four escapes share a byte */
        first[0] = (uint8_t)(first[0] + step);
        second[0] = (uint8_t)(second[0] - step);
        cr_assert_eq(codec_check_hostile(codec, payload, bytes, blob->raw_bytes, NULL, &same), KVT_CORRUPT, "%u",
                     field);
        first[0] = (uint8_t)(first[0] - step);
        second[0] = (uint8_t)(second[0] + step);
    }
    cr_assert_eq(codec_check_hostile(codec, payload, bytes, blob->raw_bytes, blob->raw, &same), KVT_OK);
    cr_assert(same);
    free(payload);
    codec_blob_free(blob);
}

void codec_case_memory(const kvt_exponent_codec *codec)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_FP16, 1, 33, 64, CODEC_KV, 8);
    uint64_t bytes;
    uint8_t *payload = codec_check_blob(codec, blob, &bytes), *back = exact(blob->raw_bytes), *room = exact(bytes);
    kvt_alloc_fail_at(1);
    cr_assert_eq(kvt_exponent_encode(codec, kvt_exponent_ops_here(), &blob->hint, blob->raw, blob->raw_bytes, room,
                                     bytes, &bytes),
                 KVT_NOMEM);
    kvt_alloc_fail_at(1);
    cr_assert_eq(kvt_exponent_decode(codec, kvt_exponent_ops_here(), payload, bytes, back, blob->raw_bytes), KVT_NOMEM);
    kvt_alloc_fail_at(0);
    free(room);
    free(back);
    free(payload);
    codec_blob_free(blob);
}

/* $KVT_TEST_WRITE_GOLDEN: a folder to write the file to; for a new format only. */
void codec_case_golden(const kvt_exponent_codec *codec, const char *name)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 2, 21, 96, CODEC_KV, 2026);
    uint64_t bytes;
    uint8_t *payload = codec_check_blob(codec, blob, &bytes), golden[16384];
    const char *update = getenv("KVT_TEST_WRITE_GOLDEN");
    char path[512];
    if (update != NULL) {
        snprintf(path, sizeof path, "%s/%s", update, name);
        FILE *out = fopen(path, "wb");
        cr_assert_not_null(out);
        cr_assert_eq(fwrite(payload, 1, bytes, out), bytes);
        fclose(out);
    }
    snprintf(path, sizeof path, "%s/%s", KVT_GOLDEN_DIR, name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fread(golden, 1, sizeof golden, file), bytes);
    fclose(file);
    cr_assert(memcmp(golden, payload, bytes) == 0, "the encoder writes what it wrote when the format was frozen");
    free(payload);
    codec_blob_free(blob);
}
