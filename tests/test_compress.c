/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of codecs, and the raw codec. test_codec_zstd.c has the other one.
 */
#include "compress/compress.h"
#include "tests/support.h"

KVT_TEST(compress, codecs_are_found_by_id_name_and_position)
{
    uint32_t count = 0;
    for (const kvt_codec *codec; (codec = kvt_codec_at(count)) != NULL; count++) {
        cr_assert_eq(kvt_codec_by_id(codec->id), codec);
        cr_assert_eq(kvt_codec_by_name(codec->name), codec);
    }
    cr_assert_geq(count, 1u);
    cr_assert_null(kvt_codec_at(UINT32_MAX));
    cr_assert_null(kvt_codec_by_id(77));
    cr_assert_null(kvt_codec_by_name("lz77"));
    cr_assert_null(kvt_codec_by_name(NULL));
    cr_assert_eq(kvt_codec_by_name("raw")->id, 0u, "ids are frozen");
    if (kvt_codec_by_name("zstd") != NULL)
        cr_assert_eq(kvt_codec_by_name("zstd")->id, 1u, "ids are frozen");
}

KVT_TEST(compress, a_raw_payload_is_the_blob)
{
    const kvt_codec *raw = kvt_codec_by_id(KVT_CODEC_RAW);
    const kvt_codec_hint hint = {.element_bytes = 2};
    uint8_t blob[33], out[33], back[33];
    uint64_t bytes = 5;
    kvt_test_fill(blob, sizeof blob, 1);
    cr_assert_eq(raw->bound(sizeof blob), sizeof blob);
    cr_assert_eq(raw->encode(&hint, blob, sizeof blob, out, sizeof out - 1, &bytes), KVT_REJECTED);
    cr_assert_eq(bytes, 5u, "a refusal leaves the size alone");
    cr_assert_eq(raw->encode(&hint, blob, sizeof blob, out, sizeof out, &bytes), KVT_OK);
    cr_assert_eq(bytes, sizeof blob);
    cr_assert_arr_eq(out, blob, sizeof blob);
    cr_assert_eq(raw->decode(out, sizeof out, back, sizeof back), KVT_OK);
    cr_assert_arr_eq(back, blob, sizeof blob);
    cr_assert_eq(raw->decode(out, sizeof out - 1, back, sizeof back), KVT_CORRUPT);
    cr_assert_eq(raw->decode(out, sizeof out, back, sizeof back - 1), KVT_CORRUPT);
    cr_assert_eq(raw->encode(&hint, NULL, 0, NULL, 0, &bytes), KVT_OK);
    cr_assert_eq(raw->decode(NULL, 0, NULL, 0), KVT_OK);
}
