/* SPDX-License-Identifier: Apache-2.0
 *
 * What a restart must not have lost. The list of what must be there comes from the journal as it was before the store
 * was opened again, so that recovery cannot excuse a loss by announcing it. Records are read back by key, in batches.
 */
#include "tools/pattern.h"
#include "tools/replay_worker.h"

#include <inttypes.h>

enum { BATCH_MAX = 32 };
#define BATCH_BYTES_MAX (UINT64_C(64) << 20)

typedef struct batch {
    kvt_item items[BATCH_MAX];
    uint64_t units[BATCH_MAX];
    uint32_t count;
    uint32_t capacity;
    uint8_t *memory;
} batch;

static void lose(kvt_replay_worker *w, uint64_t unit)
{
    atomic_fetch_add(&w->journal->lost, 1);
    atomic_store(&w->journal->held[unit], 0);
}

static void check_item(kvt_replay_worker *w, const kvt_item *item, uint64_t unit)
{
    if (item->status != KVT_OK || item->bytes != w->blob_bytes) {
        lose(w, unit);
        return;
    }
    kvt_wrong wrong = {0};
    kvt_blob_check(w->options->geometry, w->options->chunk_tokens, kvt_replay_seed(w, unit), w->options->chunk_tokens,
                   item->buffer, &wrong);
    atomic_fetch_add(&w->journal->check_records, 1);
    atomic_fetch_add(&w->journal->check_bytes, w->blob_bytes);
    if (wrong.count == 0)
        return;
    char text[256];
    kvt_wrong_text(&wrong, text, sizeof text);
    kvt_journal_note_wrong(w->journal, wrong.count, "after a restart, block %" PRIu64 ": %s",
                           w->trace->nodes[unit / kvt_replay_chunks_of_block(w->options)].id, text);
}

static kvt_status read_batch(kvt_replay_worker *w, batch *b)
{
    if (b->count == 0)
        return KVT_OK;
    kvt_batch get = KVT_BATCH_INIT;
    get.items = b->items;
    get.count = b->count;
    kvt_ticket ticket = 0;
    kvt_completion done;
    kvt_status status = kvt_get(w->space, &get, &ticket);
    if (status != KVT_OK)
        return status < 0 ? status : kvt_fail(KVT_BUSY, "a get was refused: %s", kvt_status_text(status));
    KVT_TRY(kvt_replay_wait(w, ticket, &done));
    for (uint32_t i = 0; i < b->count; i++)
        check_item(w, &b->items[i], b->units[i]);
    b->count = 0;
    return KVT_OK;
}

static kvt_status check_unit(kvt_replay_worker *w, batch *b, uint64_t unit)
{
    uint32_t lower = w->options->lower == KVT_LOWER_ROCKS ? KVT_TIER_BIT(KVT_TIER_ROCKS) : KVT_TIER_BIT(KVT_TIER_FILE);
    uint32_t tiers = 0;
    KVT_TRY(kvt_exists(w->space, &w->journal->keys[unit], 1, &tiers));
    if ((tiers & lower) == 0) {
        lose(w, unit);
        return KVT_OK;
    }
    b->units[b->count] = unit;
    b->items[b->count] = (kvt_item){
        .key = w->journal->keys[unit], .buffer = b->memory + b->count * w->blob_bytes, .bytes = w->blob_bytes};
    b->count++;
    return b->count == b->capacity ? read_batch(w, b) : KVT_OK;
}

kvt_status kvt_replay_check(kvt_replay_worker *w, const uint8_t *must_hold)
{
    batch b = {.capacity = (uint32_t)kvt_max_u64(1, kvt_min_u64(BATCH_MAX, BATCH_BYTES_MAX / w->blob_bytes))};
    b.memory = kvt_alloc_aligned(4096, b.capacity * w->blob_bytes);
    if (b.memory == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to read records back");
    kvt_status status = KVT_OK;
    for (uint64_t unit = 0; unit < w->journal->unit_count && status == KVT_OK; unit++)
        if (must_hold[unit] != 0)
            status = check_unit(w, &b, unit);
    if (status == KVT_OK)
        status = read_batch(w, &b);
    kvt_free(b.memory);
    return status;
}
