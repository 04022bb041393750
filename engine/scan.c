/* SPDX-License-Identifier: Apache-2.0
 *
 * Walking the records, and checking them against their hashes. The cursor is an entry id plus one: an entry keeps its
 * id while it lives, so what is there during the whole walk is seen once.
 */
#include "engine/space.h"

static kvt_status enter(kvt_engine *engine, const void *cursor, const void *records, const void *out_count)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (cursor == NULL || records == NULL || out_count == NULL)
        return kvt_fail(KVT_INVALID, "cursor, records or out_count is NULL");
    return KVT_OK;
}

/* With the shard locked. */
static bool describe(kvt_engine *engine, const kvt_entry *entry, kvt_record_info *out)
{
    bool in_ram = atomic_load(&entry->host) == KVT_HOST_PRESENT;
    bool below = atomic_load(&entry->lower) == KVT_LOWER_PRESENT;
    if (!entry->live || (!in_ram && !below))
        return false;
    *out = (kvt_record_info){
        .space = kvt_spaces_id(engine->spaces, entry->space),
        .key = entry->key,
        .parent = entry->parent,
        .raw_bytes = entry->raw_bytes,
        .stored_bytes = entry->stored_bytes,
        .tiers = (in_ram ? KVT_TIER_BIT(KVT_TIER_HOST) : 0) | (below ? KVT_TIER_BIT(engine->lower_id) : 0),
        .codec = entry->codec,
        .depth = entry->depth,
        .groups = entry->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff,
        .has_tokens = (entry->flags & KVT_RECORD_TOKENS) != 0,
        .cost_us = entry->cost_us,
        .pinned = entry->pin_until_ns > kvt_now_ns(),
    };
    return true;
}

kvt_status kvt_scan(kvt_engine *engine, kvt_space *space, uint64_t *cursor, kvt_record_info *records, size_t capacity,
                    size_t *out_count)
{
    KVT_TRY(enter(engine, cursor, records, out_count));
    uint32_t end = kvt_index_id_end(engine->index);
    if (*cursor > end)
        return kvt_fail(KVT_INVALID, "the cursor is not from this engine; start with 0");
    uint32_t id = kvt_index_next_used(engine->index, (uint32_t)*cursor);
    size_t count = 0;
    while (id < end && count < capacity) {
        kvt_entry *entry = kvt_index_lock_id(engine->index, id);
        bool wanted = space == NULL || entry->space == space->slot;
        bool seen = wanted && describe(engine, entry, &records[count]);
        kvt_index_unlock_entry(engine->index, entry);
        if (seen) {
            records[count].hits = kvt_ram_hits(engine, id);
            count++;
        }
        id = kvt_index_next_used(engine->index, id + 1);
    }
    *cursor = id < end ? id : 0;
    *out_count = count;
    return KVT_OK;
}

/* ---- verify ---- */

typedef struct check {
    kvt_tier_op op;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
} check;

static void check_done(kvt_tier_op *op)
{
    check *c = op->arg;
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
}

static kvt_status read_and_check(kvt_engine *engine, check *c)
{
    c->done = false;
    c->op.verb = KVT_TIER_READ;
    c->op.done = check_done;
    c->op.arg = c;
    kvt_tier_submit(engine->lower, &c->op);
    pthread_mutex_lock(&c->lock);
    while (!c->done)
        pthread_cond_wait(&c->ended, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return c->op.status == KVT_OK ? kvt_image_check(engine, &c->op) : c->op.status;
}

/* The record of a key and its place below; false when the lower tier does not hold it. */
static bool find_below(kvt_engine *engine, uint32_t slot, const kvt_key *key, kvt_tier_op *op)
{
    kvt_entry *entry = kvt_index_lock(engine->index, slot, key);
    bool below = entry != NULL && atomic_load(&entry->lower) == KVT_LOWER_PRESENT;
    if (below) {
        kvt_entry_to_record(engine, entry, &op->record);
        op->place = entry->place;
    }
    kvt_index_unlock(engine->index, slot, key);
    return below;
}

/* Other bytes than the record's were at its place: damage, unless it has left that place meanwhile. */
static kvt_status judge(kvt_engine *engine, uint32_t slot, const kvt_record_info *info, const kvt_place *place)
{
    kvt_tier_op now;
    if (!find_below(engine, slot, &info->key, &now) || !kvt_place_equal(&now.place, place))
        return KVT_MISS;
    if ((engine->options.flags & KVT_OPEN_READ_ONLY) == 0) {
        kvt_count(&engine->counters.corrupt_records, 1);
        kvt_lower_forget(engine, slot, &info->key, place);
    }
    return KVT_CORRUPT;
}

/* Memory for one record after the other. */
typedef struct room {
    uint8_t *image;
    uint64_t bytes;
} room;

static bool make_room(room *r, uint64_t bytes)
{
    if (bytes > r->bytes) {
        kvt_free(r->image);
        r->image = kvt_alloc_aligned(KVT_BLOCK_BYTES, bytes);
        r->bytes = r->image != NULL ? bytes : 0;
    }
    return r->image != NULL;
}

static kvt_status verify_one(kvt_engine *engine, const kvt_record_info *info, room *r)
{
    check c = {.done = false};
    uint32_t slot;
    if (kvt_spaces_intern(engine->spaces, &info->space, &slot) != KVT_OK ||
        !find_below(engine, slot, &info->key, &c.op))
        return KVT_OK; /* only in RAM, where what this process gathered is trusted */
    if (!make_room(r, kvt_image_bytes(c.op.record.stored_bytes))) /* of the record as it is now, not as it was told */
        return KVT_NOMEM;
    c.op.image = r->image;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.ended, NULL);
    kvt_status status = read_and_check(engine, &c);
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.ended);
    return status == KVT_MISS || status == KVT_CORRUPT ? judge(engine, slot, info, &c.op.place) : status;
}

kvt_status kvt_verify(kvt_engine *engine, kvt_space *space, uint64_t *cursor, kvt_record_info *records,
                      kvt_status *statuses, size_t capacity, size_t *out_count)
{
    if (statuses == NULL)
        return kvt_fail(KVT_INVALID, "statuses is NULL");
    KVT_TRY(kvt_scan(engine, space, cursor, records, capacity, out_count));
    room r = {NULL, 0};
    for (size_t i = 0; i < *out_count; i++)
        statuses[i] = verify_one(engine, &records[i], &r);
    kvt_free(r.image);
    return KVT_OK;
}
