/* SPDX-License-Identifier: Apache-2.0
 *
 * The lower tier and the engine as they see one another: what the tier tells (recovered, stored, evicted) changes the
 * index here, and the digests of record images are made and checked here, on the engine's workers.
 */
#include "engine/space.h"

/* ---- records ---- */

void kvt_entry_to_record(const kvt_engine *engine, const kvt_entry *entry, kvt_record *out)
{
    *out = (kvt_record){
        .space = kvt_spaces_id(engine->spaces, entry->space),
        .key = entry->key,
        .parent = entry->parent,
        .hash = entry->hash,
        .token_fp = entry->token_fp,
        .raw_bytes = entry->raw_bytes,
        .stored_bytes = entry->stored_bytes,
        .codec = entry->codec,
        .flags = entry->flags,
        .depth = entry->depth,
        .cost_us = entry->cost_us,
    };
}

static void entry_from_record(kvt_entry *entry, const kvt_record *record, const kvt_place *place)
{
    entry->parent = record->parent;
    entry->hash = record->hash;
    entry->hashed = true;
    entry->token_fp = record->token_fp;
    entry->raw_bytes = record->raw_bytes;
    entry->stored_bytes = record->stored_bytes;
    entry->codec = record->codec;
    entry->flags = record->flags;
    entry->depth = record->depth;
    entry->cost_us = record->cost_us;
    entry->place = *place;
    atomic_store(&entry->lower, KVT_LOWER_PRESENT);
}

static uint64_t digest_payload(kvt_engine *engine, kvt_tier_op *op, uint64_t *digests)
{
    uint64_t begin = kvt_now_ns();
    kvt_frame_digests(op->image + KVT_HEADER_BYTES, op->record.stored_bytes, digests);
    kvt_count(&engine->counters.hash_ns, kvt_now_ns() - begin);
    kvt_count(&engine->counters.hash_bytes, op->record.stored_bytes);
    return kvt_frame_count(op->record.stored_bytes);
}

void kvt_image_digest(kvt_engine *engine, kvt_tier_op *op)
{
    op->digest_count = (uint32_t)digest_payload(engine, op, op->digests);
    op->record.hash = kvt_payload_hash(op->digests, op->digest_count);
}

kvt_status kvt_image_check(kvt_engine *engine, kvt_tier_op *op)
{
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    uint32_t count = (uint32_t)digest_payload(engine, op, digests);
    kvt_hash128 hash = kvt_payload_hash(digests, count);
    return kvt_hash128_equal(&hash, &op->record.hash) ? KVT_OK : KVT_CORRUPT;
}

/* ---- what the tier tells ---- */

static void tell(kvt_engine *engine, kvt_event_kind kind, const kvt_record *record)
{
    if (engine->options.on_event == NULL)
        return;
    kvt_event event = {kind, record->space, record->key, record->stored_bytes};
    engine->options.on_event(engine->options.event_arg, &event);
}

static bool on_recovered(void *arg, const kvt_record *record, const kvt_place *place)
{
    kvt_engine *engine = arg;
    uint32_t slot;
    if (kvt_spaces_intern(engine->spaces, &record->space, &slot) != KVT_OK)
        return false;
    kvt_entry *entry = kvt_index_lock(engine->index, slot, &record->key);
    bool fresh = entry == NULL;
    if (fresh)
        entry = kvt_index_insert(engine->index, slot, &record->key);
    if (entry != NULL) {
        if (fresh)
            kvt_spaces_charge_always(engine->spaces, slot, record->stored_bytes);
        entry_from_record(entry, record, place);
    }
    kvt_index_unlock(engine->index, slot, &record->key);
    return entry != NULL;
}

static void on_stored(void *arg, const kvt_record *record, const kvt_place *place)
{
    kvt_engine *engine = arg;
    uint32_t slot;
    if (kvt_spaces_intern(engine->spaces, &record->space, &slot) != KVT_OK)
        return;
    tell(engine, KVT_EVENT_STORED, record);
    kvt_entry *entry = kvt_index_lock(engine->index, slot, &record->key);
    if (entry != NULL) {
        entry->hash = record->hash;
        entry->hashed = true;
        entry->place = *place;
        atomic_store(&entry->lower, KVT_LOWER_PRESENT);
    }
    kvt_index_unlock(engine->index, slot, &record->key);
}

/* With the shard locked: the lower copy is gone; an entry that nothing holds any more goes too. */
static void lose_lower(kvt_engine *engine, kvt_entry *entry)
{
    atomic_store(&entry->lower, KVT_LOWER_ABSENT);
    if (atomic_load(&entry->host) == KVT_HOST_NONE) {
        kvt_spaces_discharge(engine->spaces, entry->space, entry->stored_bytes);
        kvt_index_remove(engine->index, entry);
    }
}

static bool on_evict(void *arg, const kvt_record *record, const kvt_place *place, bool damaged)
{
    kvt_engine *engine = arg;
    uint32_t slot;
    if (kvt_spaces_intern(engine->spaces, &record->space, &slot) != KVT_OK)
        return true;
    kvt_entry *entry = kvt_index_lock(engine->index, slot, &record->key);
    bool ours =
        entry != NULL && atomic_load(&entry->lower) == KVT_LOWER_PRESENT && kvt_place_equal(&entry->place, place);
    bool pinned = ours && !damaged && entry->pin_until_ns > kvt_now_ns();
    if (ours && !pinned) {
        tell(engine, KVT_EVENT_EVICTING, record);
        lose_lower(engine, entry);
    }
    kvt_index_unlock(engine->index, slot, &record->key);
    if (damaged)
        kvt_count(&engine->counters.corrupt_records, 1);
    return !pinned;
}

static bool may_evict(void *arg, const kvt_key *space, const kvt_key *key)
{
    kvt_engine *engine = arg;
    uint32_t slot;
    if (kvt_spaces_intern(engine->spaces, space, &slot) != KVT_OK)
        return true;
    kvt_entry *entry = kvt_index_lock(engine->index, slot, key);
    bool pinned = entry != NULL && entry->pin_until_ns > kvt_now_ns();
    kvt_index_unlock(engine->index, slot, key);
    return !pinned;
}

static uint64_t tier_clock(void *arg) { return kvt_engine_clock(arg); }

void kvt_lower_forget(kvt_engine *engine, uint32_t space, const kvt_key *key, const kvt_place *place)
{
    kvt_entry *entry = kvt_index_lock(engine->index, space, key);
    if (entry != NULL && atomic_load(&entry->lower) == KVT_LOWER_PRESENT && kvt_place_equal(&entry->place, place)) {
        kvt_record record;
        kvt_entry_to_record(engine, entry, &record);
        tell(engine, KVT_EVENT_EVICTING, &record);
        lose_lower(engine, entry);
    }
    kvt_index_unlock(engine->index, space, key);
    kvt_tier_drop(engine->lower, place, 1);
}

/* ---- open, close ---- */

static kvt_status choose_tier(kvt_engine *engine, bool *out_fresh)
{
    kvt_tier_id held;
    kvt_status found = kvt_tier_detect(engine->store_path, &held);
    KVT_TRY(found);
    *out_fresh = found == KVT_MISS;
    uint32_t asked = engine->options.lower;
    engine->lower_id = asked == KVT_LOWER_ROCKS ? KVT_TIER_ROCKS : KVT_TIER_FILE;
    if (found == KVT_MISS)
        return KVT_OK;
    if (asked != KVT_LOWER_DEFAULT && held != engine->lower_id)
        return kvt_fail(KVT_EXISTS, "%s holds a store of the %s tier; open it as that, or name another directory",
                        engine->store_path, held == KVT_TIER_ROCKS ? "rocks" : "file");
    engine->lower_id = held;
    return KVT_OK;
}

/* How many tokens a blob will stand for is not known here: as many as there may be. */
static uint64_t payload_of_blob(uint64_t blob_bytes)
{
    return kvt_min_u64(blob_bytes + kvt_section_bytes(KVT_CHUNK_TOKENS_MAX), KVT_PAYLOAD_BYTES_MAX);
}

kvt_status kvt_lower_open(kvt_engine *engine, bool *out_fresh)
{
    const kvt_options *options = &engine->options;
    bool fresh;
    KVT_TRY(choose_tier(engine, &fresh));
    if (fresh && (options->flags & (KVT_OPEN_NO_CREATE | KVT_OPEN_READ_ONLY)) != 0)
        return kvt_fail(KVT_MISS, "there is no store at %s", engine->store_path);
    kvt_tier_options tier_options = {
        .path = engine->store_path,
        .bytes_max = options->disk_bytes_max,
        .segment_bytes = options->segment_bytes,
        .blob_bytes_max = options->blob_bytes_max == 0 ? 0 : payload_of_blob(options->blob_bytes_max),
        .io = options->io,
        .read_only = (options->flags & KVT_OPEN_READ_ONLY) != 0,
        .no_create = (options->flags & KVT_OPEN_NO_CREATE) != 0,
        .reset_corrupt = (options->flags & KVT_OPEN_RESET_CORRUPT) != 0,
    };
    tier_options.pool = kvt_pool_base(engine->pool, &tier_options.pool_bytes);
    kvt_tier_host host = {.arg = engine,
                          .on_recovered = on_recovered,
                          .on_stored = on_stored,
                          .on_evict = on_evict,
                          .may_evict = may_evict,
                          .clock_ns = tier_clock,
                          .log = engine->log};
    kvt_status status = kvt_tier_open(engine->lower_id, &tier_options, &host, &engine->lower);
    if (status != KVT_OK)
        return status;
    engine->lower_caps = engine->lower->ops->caps;
    *out_fresh = fresh;
    return kvt_space_store_load_ids(engine);
}

void kvt_lower_close(kvt_engine *engine)
{
    if (engine->lower == NULL)
        return;
    kvt_tier_close(engine->lower);
    engine->lower = NULL;
}
