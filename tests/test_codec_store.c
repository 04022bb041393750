/* SPDX-License-Identifier: Apache-2.0
 *
 * Codecs of a space through the engine: what is saved comes back over RAM, disk and a restart, takes only its coded
 * bytes, and says how it is coded.
 */
#include "tests/engine_rig.h"
#include "tests/support.h"

enum { COUNT = 4 * RIG_CHUNK_TOKENS };

/* Elements that look like bf16: exponents close together. The rig's own bytes are noise, which is stored raw. */
static void calm(uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 1; i < count; i += 2)
        bytes[i] = (uint8_t)(0x3c + (bytes[i] & 0x81) + (bytes[i] >> 5 & 1));
}

static uint32_t scan_codec(rig *r, uint64_t *stored)
{
    kvt_record_info records[8];
    uint64_t cursor = 0;
    size_t count = 0;
    cr_assert_eq(kvt_scan(r->engine, r->space, &cursor, records, 8, &count), KVT_OK);
    cr_assert_eq(count, 1u);
    *stored = records[0].stored_bytes;
    return records[0].codec;
}

static void put_and_get(uint32_t codec, const char *dtype, bool noise, uint32_t expected_codec)
{
    rig r;
    static uint8_t blob[RIG_BLOB_BYTES], back[RIG_BLOB_BYTES];
    rig_init(&r, true, 64 << 20);
    r.space_options.codec = codec;
    r.space_options.dtype = dtype;
    rig_open(&r);
    kvt_test_fill(blob, sizeof blob, 5);
    if (!noise)
        calm(blob, sizeof blob);
    kvt_item item = {.key = rig_key(1), .buffer = blob, .bytes = sizeof blob};
    cr_assert_eq(rig_put(&r, &item, 1, 0).status, KVT_OK);
    uint64_t stored;
    cr_assert_eq(scan_codec(&r, &stored), expected_codec);
    cr_assert(expected_codec == KVT_CODEC_RAW ? stored == sizeof blob : stored < sizeof blob * 7 / 8, "%llu of %llu",
              (unsigned long long)stored, (unsigned long long)sizeof blob);
    for (int restarts = 0; restarts < 2; restarts++) {
        memset(back, 0xa5, sizeof back);
        item = (kvt_item){.key = rig_key(1), .buffer = back, .bytes = sizeof back};
        cr_assert_eq(rig_get(&r, &item, 1).status, KVT_OK);
        cr_assert(memcmp(back, blob, sizeof blob) == 0);
        rig_close(&r);
        rig_open(&r);
    }
    rig_destroy(&r);
}

KVT_TEST(codec_store, xpack_takes_less_room_and_survives_a_restart)
{
    put_and_get(KVT_CODEC_XPACK, "bf16", false, KVT_CODEC_XPACK);
}

KVT_TEST(codec_store, rans_takes_less_room_and_survives_a_restart)
{
    put_and_get(KVT_CODEC_RANS, "bf16", false, KVT_CODEC_RANS);
}

KVT_TEST(codec_store, elements_without_a_name_are_tried_as_bf16)
{
    put_and_get(KVT_CODEC_RANS, NULL, false, KVT_CODEC_RANS);
}

KVT_TEST(codec_store, noise_is_stored_raw)
{
    put_and_get(KVT_CODEC_XPACK, "bf16", true, KVT_CODEC_RAW);
    put_and_get(KVT_CODEC_RANS, "bf16", true, KVT_CODEC_RAW);
}

KVT_TEST(codec_store, pages_are_filled_as_the_model_filled_them)
{
    for (uint32_t codec = KVT_CODEC_XPACK; codec <= KVT_CODEC_RANS; codec++) {
        rig r;
        uint32_t tokens[COUNT];
        rig_init(&r, true, 64 << 20);
        r.space_options.codec = codec;
        rig_open(&r);
        rig_prompt(tokens, COUNT, 0, 9);
        rig_fill(&r, tokens, COUNT);
        cr_assert_eq(rig_save(&r, tokens, COUNT).status, KVT_OK);
        rig_poison(&r);
        cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK);
        cr_assert(rig_holds(&r, tokens, 0, COUNT));
        rig_destroy(&r);
    }
}
