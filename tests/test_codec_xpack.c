/* SPDX-License-Identifier: Apache-2.0
 *
 * xpack: the cases of codec_cases.c, and what is special to it.
 */
#include "tests/codec_cases.h"
#include "tests/support.h"

#include <stdlib.h>

KVT_TEST(codec_xpack, every_bit_pattern_comes_back) { codec_case_all_patterns(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, any_shape_comes_back) { codec_case_geometries(&kvt_exponent_xpack, "codec_xpack shapes"); }
KVT_TEST(codec_xpack, what_does_not_shrink_is_stored_raw) { codec_case_bound_and_fallback(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, too_little_room_is_refused) { codec_case_capacities(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, a_payload_cut_short_is_corrupt) { codec_case_truncations(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, every_flipped_bit_is_seen_or_meant_nothing) { codec_case_bit_flips(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, damage_stays_in_bounds_and_is_judged_alike)
{
    codec_case_garbage(&kvt_exponent_xpack, "codec_xpack damage");
}
KVT_TEST(codec_xpack, counts_that_only_add_up_are_corrupt) { codec_case_moved_counts(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, short_memory_is_told) { codec_case_memory(&kvt_exponent_xpack); }
KVT_TEST(codec_xpack, the_golden_payload_is_still_written)
{
    codec_case_golden(&kvt_exponent_xpack, "codec_xpack.bin");
}

/* The worked example of docs/format_codecs.md. */
KVT_TEST(codec_xpack, the_documented_example)
{
    /* 1.0, -0.5, 0.0, 3.0: two tokens of two channels */
    static const uint8_t raw[] = {0x80, 0x3f, 0x00, 0xbf, 0x00, 0x00, 0x40, 0x40};
    const kvt_codec_view view = {1, 2, 2, KVT_ELEMENT_BF16};
    const kvt_codec_group group = {1, 1, &view};
    const kvt_codec_hint hint = {2, 0, KVT_ELEMENT_BF16, 2, 1, &group};
    uint8_t out[64];
    uint64_t bytes = 0;
    cr_assert_eq(kvt_exponent_encode(&kvt_exponent_xpack, &kvt_exponent_portable, &hint, raw, sizeof raw, out,
                                     sizeof out, &bytes),
                 KVT_OK);
    static const uint8_t expected[] = {1,    2,    14,   0,    1,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0,
                                       0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 8, 0, 0, 0,
                                       0x80, 0x3f, 0x00, 0xbf, 0x00, 0x00, 0x40, 0x40, 0, 0, 0, 0, 0, 0, 0, 0};
    cr_assert_eq(bytes, sizeof expected);
    cr_assert_arr_eq(out, expected, sizeof expected);

    /* And the same elements coded, as the page puts them together. */
    enum { DISTANCES = 32, COUNTS = 48, RAW = 64, CODES = 128, ESCAPES = 160, END = 176 };
    uint8_t coded[END] = {1, 2, 14, 0, 1}, back[sizeof raw];
    memcpy(coded + 16, (const uint8_t[]){2, 1, 128, 0, 2, 0, 0, 0, 2, 0, 0, 0, 129}, 13);
    coded[DISTANCES] = 0x01;
    coded[COUNTS] = 1;
    memcpy(coded + RAW, (const uint8_t[]){0x00, 0x80, 0x00, 0x40}, 4);
    coded[CODES] = 4, coded[CODES + 8] = 6, coded[CODES + 16] = 4;
    for (uint32_t i = 0; codec_ops_at(i) != NULL; i++) {
        memset(back, 0xa5, sizeof back);
        cr_assert_eq(kvt_exponent_decode(&kvt_exponent_xpack, codec_ops_at(i), coded, END, back, sizeof back), KVT_OK);
        cr_assert_arr_eq(back, raw, sizeof raw);
    }
    cr_assert(codec_read_by_the_book(coded, END, back, sizeof back));
    cr_assert_arr_eq(back, raw, sizeof raw);
    cr_assert_eq(coded[ESCAPES], 0);
}

KVT_TEST(codec_xpack, a_base_beyond_the_exponents_of_its_kind_is_corrupt)
{
    codec_blob *blob = codec_blob_make(KVT_ELEMENT_E4M3, 1, 64, 64, CODEC_KV, 3);
    uint64_t bytes;
    bool same;
    uint8_t *payload = codec_check_blob(&kvt_exponent_xpack, blob, &bytes);
    cr_assert_leq(payload[16 + 2], 15);
    payload[16 + 2] = (uint8_t)(payload[16 + 2] + 16);
    cr_assert_eq(codec_check_hostile(&kvt_exponent_xpack, payload, bytes, blob->raw_bytes, NULL, &same), KVT_CORRUPT);
    free(payload);
    codec_blob_free(blob);
}
