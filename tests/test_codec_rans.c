/* SPDX-License-Identifier: Apache-2.0
 *
 * rans: the cases of codec_cases.c, and what is special to it.
 */
#include "tests/codec_cases.h"
#include "tests/support.h"

#include <stdlib.h>

KVT_TEST(codec_rans, every_bit_pattern_comes_back) { codec_case_all_patterns(&kvt_exponent_rans); }
KVT_TEST(codec_rans, any_shape_comes_back) { codec_case_geometries(&kvt_exponent_rans, "codec_rans shapes"); }
KVT_TEST(codec_rans, what_does_not_shrink_is_stored_raw) { codec_case_bound_and_fallback(&kvt_exponent_rans); }
KVT_TEST(codec_rans, too_little_room_is_refused) { codec_case_capacities(&kvt_exponent_rans); }
KVT_TEST(codec_rans, a_payload_cut_short_is_corrupt) { codec_case_truncations(&kvt_exponent_rans); }
KVT_TEST(codec_rans, every_flipped_bit_is_seen_or_meant_nothing) { codec_case_bit_flips(&kvt_exponent_rans); }
KVT_TEST(codec_rans, damage_stays_in_bounds_and_is_judged_alike)
{
    codec_case_garbage(&kvt_exponent_rans, "codec_rans damage");
}
KVT_TEST(codec_rans, counts_that_only_add_up_are_corrupt) { codec_case_moved_counts(&kvt_exponent_rans); }
KVT_TEST(codec_rans, short_memory_is_told) { codec_case_memory(&kvt_exponent_rans); }
KVT_TEST(codec_rans, the_golden_payload_is_still_written) { codec_case_golden(&kvt_exponent_rans, "codec_rans.bin"); }

#include "compress/rans_model.h"

#include <inttypes.h>

static uint32_t table_sum(const uint8_t freq[64])
{
    uint32_t sum = 0;
    for (int s = 0; s < 64; s++)
        sum += freq[s];
    return sum;
}

KVT_TEST(codec_rans, a_table_sums_to_256_whatever_was_counted)
{
    uint64_t seed = kvt_test_seed("codec_rans tables");
    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t counts[64] = {0}, symbols = 1 + (uint32_t)(kvt_test_random(&seed) % 64);
        uint8_t freq[64];
        for (uint32_t n = 0; n < symbols; n++) {
            uint64_t noise = kvt_test_random(&seed);
            counts[noise % 64] += (uint32_t)(noise >> 32 >> noise % 32);
        }
        for (uint32_t s = 0; s < 64; s++)
            counts[s] >>= 16; /* at most 2^22 in all */
        kvt_rans_normalise(counts, freq);
        cr_assert_eq(table_sum(freq), 256u);
        cr_assert_neq(freq[KVT_RANS_ESCAPE], 0);
        for (uint32_t s = 0; s < 64; s++)
            cr_assert(s == KVT_RANS_ESCAPE || (s >> 1 & 15) != 15 || freq[s] == 0, "only the escape has distance 15");
    }
    uint8_t freq[64];
    kvt_rans_normalise((uint32_t[64]){0}, freq);
    cr_assert_eq(freq[0], 255);
    cr_assert_eq(freq[KVT_RANS_ESCAPE], 1);
    for (uint32_t count = 1; count <= 1 << 22; count *= 2) { /* a class of channels far below all others */
        kvt_rans_normalise((uint32_t[64]){[KVT_RANS_ESCAPE] = count / 2, [31] = count - count / 2}, freq);
        cr_assert_eq(table_sum(freq), 256u, "%" PRIu32 " escapes and nothing else", count);
        cr_assert_neq(freq[KVT_RANS_ESCAPE], 0);
    }
}

/* Dead channels: all of them land in a class of their own, which codes escapes only. */
KVT_TEST(codec_rans, channels_that_are_always_zero_come_back)
{
    for (uint32_t dead = 1; dead < 64; dead += 7) {
        uint64_t bytes;
        codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 2, 256, 64, CODEC_KV, dead);
        for (uint64_t i = 0; i < blob->raw_bytes / 2; i++)
            if (i % 64 < dead)
                memset(blob->raw + 2 * i, 0, 2);
        free(codec_check_blob(&kvt_exponent_rans, blob, &bytes));
        codec_blob_free(blob);
    }
}

KVT_TEST(codec_rans, a_front_that_lies_is_corrupt)
{
    enum { CHANNELS = 32, TABLE = CHANNELS + 64 }; /* behind header and one entry */
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 1, 40, 64, CODEC_KV, 1);
    uint64_t bytes;
    bool same;
    uint8_t *payload = codec_check_blob(&kvt_exponent_rans, blob, &bytes);
    const struct {
        uint32_t at;
        uint8_t add;
    } lies[] = {{TABLE, 1}, {TABLE, 255}, {CHANNELS, 0x20}, {CHANNELS + 5, 0x80}, {3 + 16, 0x10}, {3 + 16, 1}, {2, 1}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        payload[lies[i].at] = (uint8_t)(payload[lies[i].at] + lies[i].add);
        kvt_status status = codec_check_hostile(&kvt_exponent_rans, payload, bytes, blob->raw_bytes, NULL, &same);
        cr_assert(lies[i].at == 2 || status == KVT_CORRUPT, "lie %zu", i); /* one segment is one of either size */
        payload[lies[i].at] = (uint8_t)(payload[lies[i].at] - lies[i].add);
    }
    free(payload);
    codec_blob_free(blob);
}

KVT_TEST(codec_rans, a_table_is_read_only_if_it_sums_to_256)
{
    kvt_rans_model *model = kvt_alloc_aligned(64, sizeof *model);
    uint8_t table[5] = {100, 50, 50, 50, 6}; /* one level */
    cr_assert(kvt_rans_tables_read(table, 1, 1, model));
    cr_assert_eq(model->freq[0], 100);
    cr_assert_eq(model->freq[33], 50);
    cr_assert_eq(model->freq[KVT_RANS_ESCAPE], 6);
    table[4] = 5;
    cr_assert(!kvt_rans_tables_read(table, 1, 1, model));
    table[4] = 7;
    cr_assert(!kvt_rans_tables_read(table, 1, 1, model));
    kvt_free(model);
}

/* Coding that begins from a state no encoder begins with: everything fits but what decoding ends with. */
static void encode_from_a_wrong_state(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sources[i].states[37] |= 0x40;
    kvt_exponent_portable.rans_encode(model, sources, count);
}

KVT_TEST(codec_rans, a_segment_that_ends_in_a_wrong_state_is_corrupt)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 1, 40, 64, CODEC_KV, 2);
    kvt_exponent_ops ops = kvt_exponent_portable;
    ops.rans_encode = encode_from_a_wrong_state;
    uint64_t bytes = 0, bound = kvt_exponent_bound(blob->raw_bytes);
    uint8_t *payload = malloc(bound);
    bool same;
    cr_assert_eq(
        kvt_exponent_encode(&kvt_exponent_rans, &ops, &blob->hint, blob->raw, blob->raw_bytes, payload, bound, &bytes),
        KVT_OK);
    cr_assert_eq(codec_check_hostile(&kvt_exponent_rans, payload, bytes, blob->raw_bytes, NULL, &same), KVT_CORRUPT);
    free(payload);
    codec_blob_free(blob);
}

/* Kv-like data must shrink as the format promises, or a statistic is broken. */
KVT_TEST(codec_rans, kv_like_data_shrinks_more_than_with_xpack)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_BF16, 2, 256, 256, CODEC_KV, 4);
    uint64_t packed, coded;
    free(codec_check_blob(&kvt_exponent_xpack, blob, &packed));
    free(codec_check_blob(&kvt_exponent_rans, blob, &coded));
    cr_assert_lt(packed, blob->raw_bytes * 3 / 4);
    cr_assert_lt(coded, packed * 15 / 16);
    codec_blob_free(blob);
}
