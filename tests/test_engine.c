/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine through its header: save, match, load, by key, leases, quotas, scans; RAM only, and over a tier double
 * that keeps its records across close and open.
 */
#include "compress/compress.h"
#include "tests/engine_rig.h"
#include "tests/support.h"
#include "tests/tier_double.h"

#include <pthread.h>
#include <stdio.h>

enum { COUNT = 8 * RIG_CHUNK_TOKENS + 5, MIB = 1 << 20 };

KVT_TEST(engine, a_saved_prompt_comes_back_and_nothing_else_is_touched)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    kvt_completion saved = rig_save(&r, tokens, COUNT);
    cr_assert_eq(saved.status, KVT_OK);
    cr_assert_eq(saved.tokens, 8 * RIG_CHUNK_TOKENS);
    cr_assert_eq(saved.bytes, 8 * RIG_BLOB_BYTES);
    rig_poison(&r);
    kvt_completion loaded = rig_load(&r, tokens, 0, COUNT);
    cr_assert_eq(loaded.status, KVT_PARTIAL, "the last tokens fill no chunk");
    cr_assert_eq(loaded.tokens, 8 * RIG_CHUNK_TOKENS);
    cr_assert_eq(loaded.tokens_host, loaded.tokens);
    cr_assert(rig_holds(&r, tokens, 0, 8 * RIG_CHUNK_TOKENS));
    rig_destroy(&r);
}

KVT_TEST(engine, match_tells_the_longest_held_prefix)
{
    rig r;
    uint32_t tokens[COUNT], other[COUNT];
    kvt_match_result match;
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 3 * RIG_CHUNK_TOKENS, 5);
    rig_prompt(other, COUNT, 3 * RIG_CHUNK_TOKENS, 6);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    cr_assert_eq(kvt_match(r.space, tokens, COUNT, &match), KVT_OK);
    cr_assert_eq(match.tokens, 8 * RIG_CHUNK_TOKENS);
    cr_assert_eq(match.tokens_host, match.tokens);
    cr_assert_eq(match.groups, 1);
    cr_assert_eq(kvt_match(r.space, other, COUNT, &match), KVT_OK);
    cr_assert_eq(match.tokens, 3 * RIG_CHUNK_TOKENS);
    cr_assert_eq(kvt_match(r.space, tokens + 1, COUNT - 1, &match), KVT_OK);
    cr_assert_eq(match.tokens, 0);
    rig_destroy(&r);
}

KVT_TEST(engine, a_load_may_start_and_end_inside_chunks)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    for (uint32_t begin = 0; begin < 70; begin += 23) {
        for (uint32_t end = begin + 1; end < 8 * RIG_CHUNK_TOKENS; end += 41) {
            kvt_page_list list;
            kvt_request request = rig_request(&r, tokens, COUNT, &list);
            request.token_begin = begin;
            request.token_end = end;
            kvt_ticket ticket;
            rig_poison(&r);
            cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK, "%s", kvt_last_error());
            kvt_completion loaded = rig_finish(&r, ticket);
            cr_assert_eq(loaded.status, KVT_OK, "[%u, %u)", begin, end);
            cr_assert_eq(loaded.tokens, end - begin);
            cr_assert(rig_holds(&r, tokens, begin, end), "[%u, %u)", begin, end);
        }
    }
    rig_destroy(&r);
}

KVT_TEST(engine, a_tail_is_kept_only_when_asked_for)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    request.flags = KVT_REQUEST_TAIL;
    kvt_ticket ticket;
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
    cr_assert_eq(rig_finish(&r, ticket).tokens, COUNT);
    rig_poison(&r);
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    kvt_completion loaded = rig_finish(&r, ticket);
    cr_assert_eq(loaded.status, KVT_OK);
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    rig_destroy(&r);
}

KVT_TEST(engine, pages_that_are_not_there_are_skipped)
{
    rig r;
    uint32_t tokens[COUNT], ids[RIG_PAGES];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    memcpy(ids, r.ids, sizeof ids);
    ids[0] = ids[1] = KVT_PAGE_NONE;
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, 8 * RIG_CHUNK_TOKENS, &list);
    list.ids = ids;
    kvt_ticket ticket;
    rig_poison(&r);
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    cr_assert_eq(rig_finish(&r, ticket).status, KVT_OK);
    cr_assert(rig_holds(&r, tokens, 2 * RIG_PAGE_TOKENS, 8 * RIG_CHUNK_TOKENS));
    rig_destroy(&r);
}

KVT_TEST(engine, one_layer_can_be_loaded_alone)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    rig_poison(&r);
    for (uint32_t layer = 0; layer < RIG_LAYERS; layer++) {
        kvt_page_list list;
        kvt_request request = rig_request(&r, tokens, 8 * RIG_CHUNK_TOKENS, &list);
        request.layer_begin = layer;
        request.layer_count = 1;
        kvt_ticket ticket;
        cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
        cr_assert_eq(rig_finish(&r, ticket).status, KVT_OK);
        cr_assert_eq(rig_holds(&r, tokens, 0, 8 * RIG_CHUNK_TOKENS), layer + 1 == RIG_LAYERS);
    }
    rig_destroy(&r);
}

KVT_TEST(engine, what_ram_evicts_comes_back_from_below_and_after_a_restart)
{
    rig r;
    uint32_t tokens[6][COUNT];
    kvt_double_install();
    rig_init(&r, true, 1 * MIB);
    rig_open(&r);
    for (int i = 0; i < 6; i++) {
        rig_prompt(tokens[i], COUNT, 0, 10 + (uint64_t)i);
        rig_fill(&r, tokens[i], COUNT);
        cr_assert_eq(rig_save(&r, tokens[i], COUNT).status, KVT_OK);
    }
    uint64_t lower = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 6; i++) {
            rig_poison(&r);
            kvt_completion loaded = rig_load(&r, tokens[i], 0, 8 * RIG_CHUNK_TOKENS);
            cr_assert_eq(loaded.status, KVT_OK, "round %d, prompt %d: %s", round, i, kvt_status_name(loaded.cause));
            cr_assert(rig_holds(&r, tokens[i], 0, 8 * RIG_CHUNK_TOKENS));
            lower += loaded.tokens_lower;
        }
        rig_close(&r);
        rig_open(&r);
    }
    cr_assert_gt(lower, 0);
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, write_through_completes_when_the_lower_tier_holds_it)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    r.options.flags |= KVT_OPEN_WRITE_THROUGH;
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    kvt_completion saved = rig_save(&r, tokens, COUNT);
    cr_assert_eq(saved.status, KVT_OK);
    cr_assert_eq(saved.tiers, KVT_TIER_BIT(KVT_TIER_HOST) | KVT_TIER_BIT(KVT_TIER_FILE));
    cr_assert_eq(kvt_double_records(), 8);
    cr_assert_eq(rig_save(&r, tokens, COUNT).status, KVT_OK);
    cr_assert_eq(kvt_double_records(), 8, "what is held is not written again");
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, blobs_by_key_come_back_and_other_bytes_under_a_key_are_refused)
{
    rig r;
    static uint8_t blobs[5][30000], back[5][30000];
    kvt_item items[5], gets[5];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    for (uint32_t i = 0; i < 5; i++) {
        kvt_test_fill(blobs[i], sizeof blobs[i], i + 1);
        items[i] = (kvt_item){.key = rig_key(100 + i), .buffer = blobs[i], .bytes = 1000 + 7000ull * i};
        gets[i] = (kvt_item){.key = rig_key(100 + i), .buffer = back[i], .bytes = sizeof back[i]};
    }
    cr_assert_eq(rig_put(&r, items, 5, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
    cr_assert_eq(rig_put(&r, items, 5, 0).status, KVT_OK, "the same bytes again");
    for (int round = 0; round < 2; round++) {
        memset(back, 0, sizeof back);
        cr_assert_eq(rig_get(&r, gets, 5).status, KVT_OK);
        for (uint32_t i = 0; i < 5; i++) {
            cr_assert_eq(gets[i].bytes, items[i].bytes);
            cr_assert_arr_eq(back[i], blobs[i], items[i].bytes);
            gets[i].bytes = sizeof back[i];
        }
        kvt_key keys[5] = {items[0].key, items[1].key, items[2].key, items[3].key, items[4].key};
        kvt_evict(r.space, keys, 5);
        cr_assert_eq(rig_put(&r, items, 5, 0).status, KVT_OK, "the same bytes, held below only");
    }
    blobs[2][17] ^= 1;
    kvt_completion refused = rig_put(&r, &items[2], 1, 0);
    cr_assert_eq(refused.status, KVT_REJECTED);
    cr_assert_eq(refused.cause, KVT_EXISTS);
    gets[3].bytes = 10;
    cr_assert_eq(rig_get(&r, &gets[3], 1).cause, KVT_INVALID);
    cr_assert_eq(gets[3].bytes, items[3].bytes, "the size that is needed");
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, removed_records_are_gone_from_every_tier)
{
    rig r;
    uint32_t tokens[COUNT], masks[8];
    kvt_key keys[8];
    size_t count, removed;
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    r.options.flags |= KVT_OPEN_WRITE_THROUGH;
    rig_save(&r, tokens, COUNT);
    cr_assert_eq(kvt_chunk_keys(r.space, tokens, COUNT, keys, 8, &count), KVT_OK);
    cr_assert_eq(count, 8);
    cr_assert_eq(kvt_remove(r.space, keys + 2, 1, &removed), KVT_OK);
    cr_assert_eq(removed, 1);
    kvt_exists(r.space, keys, 8, masks);
    cr_assert_eq(masks[2], 0);
    cr_assert_neq(masks[3], 0);
    kvt_match_result match;
    kvt_match(r.space, tokens, COUNT, &match);
    cr_assert_eq(match.tokens, 2 * RIG_CHUNK_TOKENS);
    uint64_t cleared;
    cr_assert_eq(kvt_clear(r.space, &cleared), KVT_OK);
    cr_assert_eq(cleared, 7);
    kvt_space_info info;
    kvt_space_get_info(r.space, &info);
    cr_assert_eq(info.stored_bytes, 0);
    cr_assert_eq(info.record_count, 0);
    rig_destroy(&r);
    kvt_double_remove();
}

/* Two groups; the first save knows the pages of one only. */
KVT_TEST(engine, a_record_of_some_groups_makes_way_for_one_of_all)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    kvt_group groups[2] = {r.group, r.group};
    r.space_options.groups = groups;
    r.space_options.group_count = 2;
    rig_open(&r);
    rig_prompt(tokens, 8 * RIG_CHUNK_TOKENS, 0, 5);
    rig_fill(&r, tokens, 8 * RIG_CHUNK_TOKENS);
    kvt_page_list lists[2];
    kvt_request request = rig_request(&r, tokens, 8 * RIG_CHUNK_TOKENS, &lists[0]);
    lists[1] = (kvt_page_list){0};
    request.pages = lists, request.group_count = 2;
    kvt_ticket ticket;
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
    kvt_completion done = rig_finish(&r, ticket);
    cr_assert_eq(done.status, KVT_OK);
    cr_assert_eq(done.groups, 1);
    lists[1] = lists[0];
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    done = rig_finish(&r, ticket);
    cr_assert_eq(done.status, KVT_PARTIAL, "pages were named that got nothing");
    cr_assert_eq(done.groups, 1);
    lists[0].count = 0;
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    done = rig_finish(&r, ticket);
    cr_assert_eq(done.status, KVT_MISS, "nothing is held of the other group");
    cr_assert_eq(done.tokens + done.groups, 0);
    lists[0] = lists[1];
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
    done = rig_finish(&r, ticket);
    cr_assert_eq(done.status, KVT_OK);
    cr_assert_eq(done.groups, 3);
    rig_poison(&r);
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    done = rig_finish(&r, ticket);
    cr_assert_eq(done.status, KVT_OK);
    cr_assert_eq(done.groups, 3);
    cr_assert(rig_holds(&r, tokens, 0, 8 * RIG_CHUNK_TOKENS));
    rig_destroy(&r);
}

KVT_TEST(engine, other_bytes_are_noticed_whatever_the_codec)
{
    static const uint32_t codecs[] = {KVT_CODEC_RAW, KVT_CODEC_ZSTD, KVT_CODEC_XPACK, KVT_CODEC_RANS};
    static uint8_t a[100000], b[100000];
    for (size_t i = 0; i < sizeof a; i++)
        b[i] = a[i] = (uint8_t)(i % 2 == 0 ? i : 0x3f); /* as bf16 has it */
    b[777] ^= 1;
    for (size_t c = 0; c < sizeof codecs / sizeof *codecs; c++) {
        rig r;
        if (kvt_codec_by_id(codecs[c]) == NULL)
            continue; /* built without zstd */
        kvt_double_install();
        rig_init(&r, true, 4 * MIB);
        r.space_options.codec = codecs[c];
        r.options.flags |= KVT_OPEN_WRITE_THROUGH;
        rig_open(&r);
        kvt_item item = {.key = rig_key(1), .buffer = a, .bytes = sizeof a};
        cr_assert_eq(rig_put(&r, &item, 1, 0).status, KVT_OK);
        for (int below = 0; below < 2; below++) {
            item.buffer = b;
            kvt_completion other = rig_put(&r, &item, 1, 0);
            cr_assert_eq(other.status, KVT_REJECTED, "codec %u, below %d", codecs[c], below);
            cr_assert_eq(other.cause, KVT_EXISTS);
            item.buffer = a;
            cr_assert_eq(rig_put(&r, &item, 1, 0).status, KVT_OK, "the same, codec %u, below %d", codecs[c], below);
            kvt_evict(r.space, &item.key, 1);
        }
        rig_destroy(&r);
        kvt_double_remove();
    }
}

typedef struct opener {
    rig *r;
    pthread_barrier_t *start;
    uint32_t failures;
} opener;

static void *open_spaces(void *arg)
{
    opener *o = arg;
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "model %d", i);
        kvt_space_options options = o->r->space_options;
        options.model = name;
        kvt_space *space = NULL;
        pthread_barrier_wait(o->start);
        if (kvt_space_open(o->r->engine, &options, &space) == KVT_OK)
            kvt_space_close(space);
        else
            o->failures++;
    }
    return NULL;
}

KVT_TEST(engine, threads_open_the_same_new_space)
{
    enum { THREADS = 4 };
    rig r;
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    opener openers[THREADS];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        openers[i] = (opener){&r, &start, 0};
        cr_assert_eq(pthread_create(&threads[i], NULL, open_spaces, &openers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(openers[i].failures, 0);
    }
    pthread_barrier_destroy(&start);
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, a_damaged_description_is_noticed_and_written_again)
{
    rig r;
    char path[600], name[KVT_KEY_TEXT_BYTES];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    kvt_space_info info;
    kvt_space_get_info(r.space, &info);
    kvt_key id = info.id;
    kvt_key_to_text(&id, name);
    snprintf(path, sizeof path, "%s/spaces/%s", r.store, name);
    rig_close(&r);
    FILE *file = fopen(path, "r+");
    cr_assert_not_null(file);
    cr_assert_eq(fputs("kvtier-space=1\nmodel=X", file) < 0, 0);
    fclose(file);
    cr_assert_eq(kvt_open(&r.options, &r.engine), KVT_OK);
    kvt_space *found = NULL;
    cr_assert_eq(kvt_space_find(r.engine, &id, &found), KVT_CORRUPT, "%s", kvt_last_error());
    cr_assert_eq(kvt_space_open(r.engine, &r.space_options, &r.space), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_space_find(r.engine, &id, &found), KVT_OK, "%s", kvt_last_error());
    kvt_space_close(found);
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, leases_keep_a_copy_and_stale_ones_are_noticed)
{
    rig r;
    uint8_t blob[5000];
    kvt_lease lease, copy;
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    kvt_test_fill(blob, sizeof blob, 3);
    kvt_item item = {.key = rig_key(1), .buffer = blob, .bytes = sizeof blob};
    rig_put(&r, &item, 1, 0);
    cr_assert_eq(kvt_lease_acquire(r.space, &item.key, &lease), KVT_OK);
    cr_assert_eq(lease.bytes, sizeof blob);
    cr_assert_arr_eq(lease.data, blob, sizeof blob);
    cr_assert_eq(kvt_remove(r.space, &item.key, 1, NULL), KVT_BUSY);
    cr_assert_eq(kvt_evict(r.space, &item.key, 1), KVT_BUSY);
    copy = lease;
    cr_assert_eq(kvt_lease_release(r.space, &lease), KVT_OK);
    cr_assert_eq(kvt_lease_release(r.space, &copy), KVT_INVALID);
    cr_assert_eq(kvt_remove(r.space, &item.key, 1, NULL), KVT_OK);
    cr_assert_eq(kvt_lease_acquire(r.space, &item.key, &lease), KVT_MISS);
    rig_destroy(&r);
}

KVT_TEST(engine, a_pin_ends_by_itself)
{
    rig r;
    uint8_t blob[5000] = {1};
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    kvt_item item = {.key = rig_key(1), .buffer = blob, .bytes = sizeof blob};
    rig_put(&r, &item, 1, 0);
    cr_assert_eq(kvt_pin(r.space, &item.key, 1, 50), KVT_OK);
    cr_assert_eq(kvt_pin(r.space, &item.key, 1, 1), KVT_OK, "a shorter one changes nothing");
    uint64_t short_end = kvt_now_ns() + 5000000;
    while (kvt_now_ns() < short_end) {
    }
    cr_assert_eq(kvt_remove(r.space, &item.key, 1, NULL), KVT_BUSY);
    uint64_t end = kvt_now_ns() + 80000000;
    while (kvt_now_ns() < end) {
    }
    cr_assert_eq(kvt_remove(r.space, &item.key, 1, NULL), KVT_OK);
    rig_destroy(&r);
}

KVT_TEST(engine, a_scan_sees_each_record_once)
{
    rig r;
    uint8_t blob[100] = {1};
    kvt_record_info records[7];
    size_t count, seen = 0;
    uint64_t cursor = 0;
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    for (uint32_t i = 0; i < 50; i++) {
        kvt_item item = {.key = rig_key(i), .buffer = blob, .bytes = sizeof blob};
        rig_put(&r, &item, 1, 0);
    }
    do {
        cr_assert_eq(kvt_scan(r.engine, r.space, &cursor, records, 7, &count), KVT_OK);
        for (size_t i = 0; i < count; i++)
            cr_assert_eq(records[i].raw_bytes, sizeof blob);
        seen += count;
    } while (cursor != 0);
    cr_assert_eq(seen, 50);
    rig_destroy(&r);
}

KVT_TEST(engine, a_space_is_found_by_its_id_after_a_restart)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    kvt_space_info info, again;
    kvt_space_get_info(r.space, &info);
    rig_close(&r);
    rig_open(&r);
    kvt_space *found;
    cr_assert_eq(kvt_space_find(r.engine, &info.id, &found), KVT_OK, "%s", kvt_last_error());
    kvt_space_get_info(found, &again);
    cr_assert_eq(again.blob_bytes, RIG_BLOB_BYTES);
    cr_assert_eq(again.chunk_tokens, RIG_CHUNK_TOKENS);
    kvt_match_result match;
    cr_assert_eq(kvt_match(found, tokens, COUNT, &match), KVT_OK);
    cr_assert_eq(match.tokens, 8 * RIG_CHUNK_TOKENS);
    kvt_space_close(found);
    kvt_key unknown = rig_key(77);
    cr_assert_eq(kvt_space_find(r.engine, &unknown, &found), KVT_MISS);
    rig_destroy(&r);
    kvt_double_remove();
}

KVT_TEST(engine, nothing_crosses_a_space)
{
    rig r;
    uint32_t tokens[COUNT];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    rig_save(&r, tokens, COUNT);
    kvt_space_options others[4] = {r.space_options, r.space_options, r.space_options, r.space_options};
    others[0].salt = "tenant";
    others[1].revision = "2";
    others[2].rank_count = 2;
    others[3].position = "rope";
    for (int i = 0; i < 4; i++) {
        kvt_space *space;
        kvt_match_result match;
        cr_assert_eq(kvt_space_open(r.engine, &others[i], &space), KVT_OK);
        kvt_match(space, tokens, COUNT, &match);
        cr_assert_eq(match.tokens, 0, "space %d", i);
        kvt_space_close(space);
    }
    rig_destroy(&r);
}

KVT_TEST(engine, a_blob_put_by_key_is_never_taken_for_a_prompts_chunk)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_key keys[8];
    size_t count;
    static uint8_t forged[RIG_BLOB_BYTES];
    rig_init(&r, false, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    kvt_chunk_keys(r.space, tokens, COUNT, keys, 8, &count);
    kvt_item item = {.key = keys[0], .buffer = forged, .bytes = sizeof forged};
    rig_put(&r, &item, 1, 0);
    kvt_match_result match;
    kvt_match(r.space, tokens, COUNT, &match);
    cr_assert_eq(match.tokens, 0);
    rig_poison(&r);
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_MISS);
    cr_assert(rig_holds(&r, tokens, 0, 0));
    rig_destroy(&r);
}
