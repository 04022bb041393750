/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/engine_rig.h"

#include "tests/support.h"

#include <stdlib.h>

void rig_init(rig *r, bool with_store, uint64_t host_bytes)
{
    memset(r, 0, sizeof *r);
    r->options = (kvt_options)KVT_OPTIONS_INIT;
    r->store = with_store ? kvt_test_tmpdir() : NULL;
    r->options.store_path = r->store;
    r->options.lower = with_store ? KVT_LOWER_FILE : KVT_LOWER_NONE;
    r->options.host_bytes_max = host_bytes;
    r->options.disk_bytes_max = UINT64_C(64) << 20;
    r->options.segment_bytes = 1 << 20;
    r->options.flags = KVT_OPEN_NO_BUDGET;
    r->page_bytes = (uint64_t)RIG_PAGE_TOKENS * RIG_HEADS * RIG_HEAD_BYTES;
    uint64_t plane = RIG_PAGES * r->page_bytes;
    r->pages = malloc(plane * 2 * RIG_LAYERS);
    r->bases[0] = r->pages;
    r->group = (kvt_group){.layer_count = RIG_LAYERS,
                           .page_tokens = RIG_PAGE_TOKENS,
                           .page_count = RIG_PAGES,
                           .view_count = 1,
                           .bases = r->bases,
                           .base_count = 1};
    r->group.views[0] = (kvt_view){.plane_count = 2,
                                   .head_count = RIG_HEADS,
                                   .head_bytes = RIG_HEAD_BYTES,
                                   .element_bytes = 2,
                                   .page_stride = (int64_t)r->page_bytes,
                                   .plane_stride = (int64_t)plane,
                                   .layer_stride = (int64_t)(2 * plane),
                                   .token_stride = RIG_HEADS * RIG_HEAD_BYTES,
                                   .head_stride = RIG_HEAD_BYTES};
    r->space_options = (kvt_space_options)KVT_SPACE_OPTIONS_INIT;
    r->space_options.model = "rig";
    r->space_options.dtype = "fp16";
    r->space_options.chunk_tokens = RIG_CHUNK_TOKENS;
    r->space_options.group_count = 1;
    r->space_options.groups = &r->group;
    for (uint32_t i = 0; i < RIG_PAGES; i++)
        r->ids[i] = (i * 37 + 11) % RIG_PAGES; /* 37 is odd: a permutation */
    rig_poison(r);
}

void rig_open(rig *r)
{
    kvt_status status = kvt_open(&r->options, &r->engine);
    cr_assert_eq(status, KVT_OK, "open: %s: %s", kvt_status_name(status), kvt_last_error());
    status = kvt_space_open(r->engine, &r->space_options, &r->space);
    cr_assert_eq(status, KVT_OK, "space: %s: %s", kvt_status_name(status), kvt_last_error());
}

void rig_close(rig *r)
{
    kvt_space_close(r->space);
    kvt_close(r->engine);
    r->space = NULL;
    r->engine = NULL;
}

void rig_destroy(rig *r)
{
    rig_close(r);
    if (r->store != NULL)
        kvt_test_rmtree(r->store);
    kvt_free(r->store);
    free(r->pages);
}

void rig_prompt(uint32_t *tokens, uint32_t count, uint32_t shared, uint64_t seed)
{
    uint64_t common = 1, own = seed * 7919 + 13;
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)(kvt_test_random(i < shared ? &common : &own) % 50000);
}

/* What the model writes for a token depends on everything before it: a running mix of the ids. */
static uint64_t mix(uint64_t state, uint32_t token)
{
    uint64_t next = state * UINT64_C(6364136223846793005) + token + 1;
    return kvt_test_random(&next);
}

static uint8_t *row_of(rig *r, uint32_t token, uint32_t layer, uint32_t plane)
{
    uint32_t page = r->ids[token / RIG_PAGE_TOKENS];
    return r->pages + ((uint64_t)(layer * 2 + plane) * RIG_PAGES + page) * r->page_bytes +
           (uint64_t)(token % RIG_PAGE_TOKENS) * RIG_HEADS * RIG_HEAD_BYTES;
}

static void write_row(uint8_t *row, uint64_t state, uint32_t layer, uint32_t plane)
{
    kvt_test_fill(row, RIG_HEADS * RIG_HEAD_BYTES, state ^ (layer * 2u + plane + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

void rig_fill(rig *r, const uint32_t *tokens, uint32_t count)
{
    uint64_t state = 0;
    for (uint32_t t = 0; t < count; t++) {
        state = mix(state, tokens[t]);
        for (uint32_t l = 0; l < RIG_LAYERS; l++) {
            for (uint32_t p = 0; p < 2; p++)
                write_row(row_of(r, t, l, p), state, l, p);
        }
    }
}

static uint64_t pool_bytes(const rig *r) { return RIG_PAGES * r->page_bytes * 2 * RIG_LAYERS; }

void rig_poison(rig *r) { memset(r->pages, RIG_POISON, pool_bytes(r)); }

bool rig_holds(rig *r, const uint32_t *tokens, uint32_t begin, uint32_t end)
{
    uint8_t *expected = malloc(pool_bytes(r));
    rig twin = *r;
    twin.pages = expected;
    memset(expected, RIG_POISON, pool_bytes(r));
    uint64_t state = 0;
    for (uint32_t t = 0; t < end; t++) {
        state = mix(state, tokens[t]);
        for (uint32_t i = 0; t >= begin && i < 2 * RIG_LAYERS; i++)
            write_row(row_of(&twin, t, i / 2, i % 2), state, i / 2, i % 2);
    }
    bool same = memcmp(expected, r->pages, pool_bytes(r)) == 0;
    free(expected);
    return same;
}

kvt_request rig_request(rig *r, const uint32_t *tokens, uint32_t count, kvt_page_list *list)
{
    *list = (kvt_page_list){r->ids, (count + RIG_PAGE_TOKENS - 1) / RIG_PAGE_TOKENS, 0};
    kvt_request request = KVT_REQUEST_INIT;
    request.tokens = tokens;
    request.token_count = count;
    request.pages = list;
    request.group_count = 1;
    return request;
}

kvt_completion rig_finish(rig *r, kvt_ticket ticket)
{
    kvt_completion completion = {0};
    kvt_status status = kvt_wait(r->engine, ticket, UINT64_C(10000000000), &completion);
    cr_assert_eq(status, KVT_OK, "wait: %s: %s", kvt_status_name(status), kvt_last_error());
    cr_assert_eq(completion.ticket, ticket);
    return completion;
}

kvt_completion rig_save(rig *r, const uint32_t *tokens, uint32_t count)
{
    kvt_page_list list;
    kvt_request request = rig_request(r, tokens, count, &list);
    kvt_ticket ticket;
    kvt_status status = kvt_save(r->space, &request, &ticket);
    cr_assert_eq(status, KVT_OK, "save: %s: %s", kvt_status_name(status), kvt_last_error());
    return rig_finish(r, ticket);
}

kvt_completion rig_load(rig *r, const uint32_t *tokens, uint32_t begin, uint32_t count)
{
    kvt_page_list list;
    kvt_request request = rig_request(r, tokens, count, &list);
    request.token_begin = begin;
    kvt_ticket ticket;
    kvt_status status = kvt_load(r->space, &request, &ticket);
    cr_assert_eq(status, KVT_OK, "load: %s: %s", kvt_status_name(status), kvt_last_error());
    return rig_finish(r, ticket);
}

kvt_completion rig_put(rig *r, kvt_item *items, uint32_t count, uint32_t flags)
{
    kvt_batch batch = KVT_BATCH_INIT;
    batch.items = items;
    batch.count = count;
    batch.flags = flags;
    kvt_ticket ticket;
    cr_assert_eq(kvt_put(r->space, &batch, &ticket), KVT_OK, "%s", kvt_last_error());
    return rig_finish(r, ticket);
}

kvt_completion rig_get(rig *r, kvt_item *items, uint32_t count)
{
    kvt_batch batch = KVT_BATCH_INIT;
    batch.items = items;
    batch.count = count;
    kvt_ticket ticket;
    cr_assert_eq(kvt_get(r->space, &batch, &ticket), KVT_OK, "%s", kvt_last_error());
    return rig_finish(r, ticket);
}

kvt_key rig_key(uint64_t seed)
{
    kvt_key key;
    kvt_test_fill(&key, sizeof key, seed);
    return key;
}
