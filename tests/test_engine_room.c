/* SPDX-License-Identifier: Apache-2.0
 *
 * When there is no room: quotas, a full index, a pool smaller than a prompt. The new makes way for itself, a prompt
 * keeps its beginning, and what a completion calls held is held.
 */
#include "tests/engine_rig.h"
#include "tests/support.h"
#include "tests/tier_double.h"

enum { COUNT = 8 * RIG_CHUNK_TOKENS + 5, MIB = 1 << 20 };

KVT_TEST(engine_room, a_prompt_larger_than_its_quota_keeps_its_beginning)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    r.space_options.quota_bytes_max = 3 * (RIG_BLOB_BYTES + 1024);
    rig_open(&r);
    for (uint64_t prompt = 0; prompt < 5; prompt++) {
        rig_prompt(tokens, COUNT, 0, 5 + prompt);
        rig_fill(&r, tokens, COUNT);
        kvt_completion saved = rig_save(&r, tokens, COUNT);
        cr_assert_eq(saved.status, KVT_PARTIAL, "prompt %d: %s, %s, %d tokens", (int)prompt,
                     kvt_status_name(saved.status), kvt_status_name(saved.cause), (int)saved.tokens);
        cr_assert_eq(saved.cause, KVT_QUOTA);
        cr_assert_eq(saved.tokens, 3 * RIG_CHUNK_TOKENS, "prompt %d: %d tokens", (int)prompt, (int)saved.tokens);
        kvt_match_result match;
        kvt_match(r.space, tokens, COUNT, &match);
        cr_assert_eq(match.tokens, saved.tokens);
        kvt_space_info info;
        kvt_space_get_info(r.space, &info);
        cr_assert_eq(info.record_count, 3);
        cr_assert_leq(info.stored_bytes, r.space_options.quota_bytes_max);
    }
    rig_destroy(&r);
}

KVT_TEST(engine_room, a_quota_makes_way_below_ram_too)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 1 * MIB);
    r.options.flags |= KVT_OPEN_WRITE_THROUGH;
    r.space_options.quota_bytes_max = 12 * (RIG_BLOB_BYTES + 1024);
    rig_open(&r);
    for (uint64_t prompt = 0; prompt < 8; prompt++) {
        rig_prompt(tokens, COUNT, 0, 5 + prompt);
        rig_fill(&r, tokens, COUNT);
        cr_assert_eq(rig_save(&r, tokens, COUNT).status, KVT_OK);
        rig_poison(&r);
        cr_assert_eq(rig_load(&r, tokens, 0, 8 * RIG_CHUNK_TOKENS).status, KVT_OK);
        cr_assert(rig_holds(&r, tokens, 0, 8 * RIG_CHUNK_TOKENS));
    }
    cr_assert_leq(kvt_double_records(), 12);
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine_room, a_full_index_makes_way_for_what_comes)
{
    rig r;
    uint8_t blob[100] = {1};
    rig_init(&r, false, 4 * MIB);
    r.options.index_entries_max = 200;
    rig_open(&r);
    for (uint32_t i = 0; i < 3000; i++) {
        kvt_item item = {.key = rig_key(i), .buffer = blob, .bytes = sizeof blob};
        cr_assert_eq(rig_put(&r, &item, 1, 0).status, KVT_OK, "put %u", i);
    }
    kvt_space_info info;
    kvt_space_get_info(r.space, &info);
    cr_assert_geq(info.record_count, 200);
    cr_assert_lt(info.record_count, 400);
    rig_destroy(&r);
}

KVT_TEST(engine_room, without_a_lower_tier_ram_is_as_far_as_a_write_goes)
{
    rig r;
    uint32_t tokens[COUNT];
    uint8_t blob[100] = {1};
    rig_init(&r, false, 4 * MIB);
    r.options.flags |= KVT_OPEN_WRITE_THROUGH;
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    cr_assert_eq(rig_save(&r, tokens, COUNT).status, KVT_OK);
    kvt_item item = {.key = rig_key(1), .buffer = blob, .bytes = sizeof blob};
    cr_assert_eq(rig_put(&r, &item, 1, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
    rig_destroy(&r);
}

KVT_TEST(engine_room, what_a_save_calls_held_is_held)
{
    rig r;
    uint32_t tokens[2048];
    const uint32_t count = RIG_PAGES * RIG_PAGE_TOKENS;
    rig_init(&r, false, 1 * MIB);
    rig_open(&r);
    rig_prompt(tokens, count, 0, 5);
    rig_fill(&r, tokens, count);
    kvt_completion saved = rig_save(&r, tokens, count);
    cr_assert_eq(saved.status, KVT_PARTIAL, "2 MiB through a pool of 1 MiB");
    cr_assert_eq(saved.cause, KVT_NOSPACE);
    kvt_match_result match;
    kvt_match(r.space, tokens, count, &match);
    cr_assert_eq(match.tokens, saved.tokens);
    cr_assert_gt(saved.tokens, 0);
    rig_destroy(&r);
}
