/* SPDX-License-Identifier: Apache-2.0
 *
 * Managing records by key: which tiers hold them, pins, eviction from RAM, removal, clearing a space.
 */
#include "engine/space.h"

static const uint64_t EVICT_WAIT_NS = UINT64_C(30000000000);

static kvt_status enter(const kvt_space *space, const void *keys, size_t count)
{
    kvt_fail_clear();
    if (space == NULL || (keys == NULL && count != 0))
        return kvt_fail(KVT_INVALID, "space or keys is NULL");
    return kvt_engine_enter(space->engine);
}

static uint32_t mask_of(const kvt_engine *engine, const kvt_entry *entry)
{
    if (entry == NULL)
        return 0;
    uint32_t mask = atomic_load(&entry->host) == KVT_HOST_PRESENT ? KVT_TIER_BIT(KVT_TIER_HOST) : 0;
    if (atomic_load(&entry->lower) == KVT_LOWER_PRESENT)
        mask |= KVT_TIER_BIT(engine->lower_id);
    return mask;
}

kvt_status kvt_exists(kvt_space *space, const kvt_key *keys, size_t count, uint32_t *masks)
{
    KVT_TRY(enter(space, keys, count));
    if (masks == NULL && count != 0)
        return kvt_fail(KVT_INVALID, "masks is NULL");
    for (size_t i = 0; i < count; i++) {
        const kvt_entry *entry = kvt_index_lock(space->engine->index, space->slot, &keys[i]);
        masks[i] = mask_of(space->engine, entry);
        kvt_index_unlock(space->engine->index, space->slot, &keys[i]);
    }
    return KVT_OK;
}

/* ---- removal ---- */

bool kvt_entry_is_idle(const kvt_entry *entry)
{
    return atomic_load(&entry->host) != KVT_HOST_FILLING && atomic_load(&entry->lower) != KVT_LOWER_WRITING &&
           atomic_load(&entry->users) == 0 && entry->pin_until_ns <= kvt_now_ns();
}

/* With the shard locked: take the entry out of everything. false: in use or in flight. */
static bool take_out(kvt_engine *engine, kvt_entry *entry, uint8_t **out_image, kvt_place *out_place, bool *out_below)
{
    if (!kvt_entry_is_idle(entry))
        return false;
    *out_below = atomic_load(&entry->lower) == KVT_LOWER_PRESENT;
    *out_place = entry->place;
    *out_image = atomic_load(&entry->host) == KVT_HOST_PRESENT ? kvt_ram_unpublish(engine, entry) : NULL;
    kvt_spaces_discharge(engine->spaces, entry->space, entry->stored_bytes);
    kvt_index_remove(engine->index, entry);
    return true;
}

bool kvt_entry_forget(kvt_engine *engine, kvt_entry *entry)
{
    uint8_t *image = NULL;
    kvt_place place;
    bool below = false;
    bool removed = entry != NULL && entry->live && take_out(engine, entry, &image, &place, &below);
    /* Before others may see that the entry is gone: who erases next must find its record among the dropped. */
    if (removed && below && (engine->options.flags & KVT_OPEN_READ_ONLY) == 0)
        kvt_tier_drop(engine->lower, &place, 1);
    if (entry != NULL)
        kvt_index_unlock_entry(engine->index, entry);
    if (image != NULL)
        kvt_pool_give(engine->pool, image);
    return removed;
}

/* A tier that persists might find what it only dropped at the next open. Also when nothing was found here: an older
 * copy may lie there that nobody tells of any more. */
static kvt_status erase_dropped(kvt_engine *engine)
{
    return engine->lower == NULL ? KVT_OK : kvt_tier_erase(engine->lower, NULL, 0);
}

kvt_status kvt_remove(kvt_space *space, const kvt_key *keys, size_t count, size_t *out_removed)
{
    KVT_TRY(enter(space, keys, count));
    kvt_engine *engine = space->engine;
    if ((engine->options.flags & KVT_OPEN_READ_ONLY) != 0)
        return kvt_fail(KVT_REJECTED, "the store is open read-only; nothing can be removed");
    size_t removed = 0, kept = 0;
    for (size_t i = 0; i < count; i++) {
        kvt_entry *entry = kvt_index_lock(engine->index, space->slot, &keys[i]);
        if (entry == NULL)
            kvt_index_unlock(engine->index, space->slot, &keys[i]);
        else if (kvt_entry_forget(engine, entry))
            removed++;
        else
            kept++;
    }
    if (out_removed != NULL)
        *out_removed = removed;
    kvt_status erased = count != 0 ? erase_dropped(engine) : KVT_OK;
    if (kept != 0)
        return kvt_fail(KVT_BUSY, "%zu records are pinned, leased or in flight and stayed", kept);
    if (erased != KVT_OK)
        return erased;
    return removed != 0 || count == 0 ? KVT_OK : KVT_MISS;
}

kvt_status kvt_clear(kvt_space *space, uint64_t *out_removed)
{
    KVT_TRY(enter(space, NULL, 0));
    kvt_engine *engine = space->engine;
    if ((engine->options.flags & KVT_OPEN_READ_ONLY) != 0)
        return kvt_fail(KVT_REJECTED, "the store is open read-only; nothing can be removed");
    uint64_t removed = 0, kept = 0;
    uint32_t end = kvt_index_id_end(engine->index);
    for (uint32_t id = kvt_index_next_used(engine->index, 0); id < end;
         id = kvt_index_next_used(engine->index, id + 1)) {
        kvt_entry *entry = kvt_index_lock_id(engine->index, id);
        if (!entry->live || entry->space != space->slot)
            kvt_index_unlock_entry(engine->index, entry);
        else if (kvt_entry_forget(engine, entry))
            removed++;
        else
            kept++;
    }
    if (out_removed != NULL)
        *out_removed = removed;
    kvt_status erased = erase_dropped(engine);
    if (kept != 0)
        return kvt_fail(KVT_BUSY, "%llu records are in use and stayed", (unsigned long long)kept);
    return erased;
}

/* ---- pins ---- */

static kvt_status set_pins(kvt_space *space, const kvt_key *keys, size_t count, uint64_t until_ns)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        kvt_entry *entry = kvt_index_lock(space->engine->index, space->slot, &keys[i]);
        if (entry != NULL) {
            entry->pin_until_ns = until_ns == 0 ? 0 : kvt_max_u64(until_ns, entry->pin_until_ns);
            found++;
        }
        kvt_index_unlock(space->engine->index, space->slot, &keys[i]);
    }
    return found == count ? KVT_OK : found != 0 ? KVT_PARTIAL : KVT_MISS;
}

kvt_status kvt_pin(kvt_space *space, const kvt_key *keys, size_t count, uint32_t ttl_ms)
{
    KVT_TRY(enter(space, keys, count));
    uint32_t max = space->engine->options.lease_ms_max;
    if (ttl_ms == 0 || ttl_ms > max)
        return kvt_fail(KVT_INVALID, "ttl_ms is %u; it must be 1..%u (lease_ms_max)", ttl_ms, max);
    return set_pins(space, keys, count, kvt_now_ns() + ttl_ms * UINT64_C(1000000));
}

kvt_status kvt_unpin(kvt_space *space, const kvt_key *keys, size_t count)
{
    KVT_TRY(enter(space, keys, count));
    return set_pins(space, keys, count, 0);
}

/* ---- eviction from RAM ---- */

kvt_status kvt_evict(kvt_space *space, const kvt_key *keys, size_t count)
{
    KVT_TRY(enter(space, keys, count));
    kvt_engine *engine = space->engine;
    uint64_t deadline = kvt_now_ns() + EVICT_WAIT_NS;
    size_t busy = 0, gone = 0;
    for (size_t i = 0; i < count; i++) {
        kvt_status status = kvt_ram_evict(engine, space->slot, &keys[i]);
        if (status == KVT_BUSY) { /* perhaps only because all writers are busy: let them finish once */
            kvt_ram_wait_writers(engine, deadline);
            status = kvt_ram_evict(engine, space->slot, &keys[i]);
        }
        busy += status == KVT_BUSY;
        gone += status == KVT_OK;
    }
    kvt_ram_wait_writers(engine, deadline);
    if (busy != 0)
        return kvt_fail(KVT_BUSY, "%zu records are pinned, leased or in flight and stayed in RAM", busy);
    return gone != 0 || count == 0 ? KVT_OK : KVT_MISS;
}
