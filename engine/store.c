/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a chunk that is saved or put:
 *
 *   find -> (held | wait for another unit | reserve an entry) -> take room -> fill -> publish -> (write through) ->
 * finish
 *
 * Each step runs on a worker; where it has to wait, the unit lies in a list (of the entry, of ram.c, of the tier) and
 * comes back. A unit that lost its request undoes its reservation.
 */
#include "engine/request.h"

typedef enum found {
    FOUND_NEW,
    FOUND_HELD,
    FOUND_WAIT,
    FOUND_THROUGH,
    FOUND_COMPARE,
    FOUND_NO_QUOTA,
    FOUND_NO_INDEX,
    FOUND_NARROW, /* held with fewer groups than this save brings */
    FOUND_REFUSED
} found;

enum { ROOMS_MAX = 256 };

static void refuse(kvt_unit *unit, kvt_status cause)
{
    unit->outcome.status = KVT_REJECTED;
    unit->outcome.cause = cause;
    kvt_count(&unit->engine->counters.rejected_chunks, 1);
    kvt_unit_finish(unit);
}

static void held(kvt_unit *unit, uint32_t tiers)
{
    unit->outcome.status = KVT_OK;
    unit->outcome.tiers = tiers;
    kvt_unit_finish(unit);
}

static uint32_t tiers_of(const kvt_unit *unit, const kvt_entry *entry)
{
    uint32_t tiers = atomic_load(&entry->host) == KVT_HOST_PRESENT ? KVT_TIER_BIT(KVT_TIER_HOST) : 0;
    if (atomic_load(&entry->lower) == KVT_LOWER_PRESENT)
        tiers |= KVT_TIER_BIT(unit->engine->lower_id);
    return tiers;
}

/* ---- find ---- */

static uint64_t payload_bytes_max(const kvt_unit *unit) { return kvt_unit_section_bytes(unit) + unit->raw_bytes; }

/* With the shard locked, the key absent. */
static found reserve(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    uint64_t bytes = payload_bytes_max(unit);
    if (!kvt_spaces_charge(engine->spaces, unit->space->slot, bytes))
        return FOUND_NO_QUOTA;
    kvt_entry *entry = kvt_index_insert(engine->index, unit->space->slot, &unit->key);
    if (entry == NULL) {
        kvt_spaces_discharge(engine->spaces, unit->space->slot, bytes);
        return FOUND_NO_INDEX;
    }
    atomic_store(&entry->host, KVT_HOST_FILLING);
    entry->parent = unit->parent;
    entry->token_fp = unit->token_fp;
    entry->raw_bytes = unit->raw_bytes;
    entry->stored_bytes = bytes;
    entry->depth = unit->depth;
    entry->cost_us = unit->cost_us;
    entry->flags = unit->groups << KVT_RECORD_GROUPS_SHIFT | (unit->tokens != 0 ? KVT_RECORD_TOKENS : 0);
    unit->entry = kvt_index_id(engine->index, entry);
    return FOUND_NEW;
}

static void wait_for(kvt_unit *unit, kvt_entry *entry)
{
    unit->job.next = entry->waiters != NULL ? &entry->waiters->job : NULL;
    entry->waiters = unit;
}

/* With the shard locked: the RAM copy is used by this unit until it lets go. */
static void use_copy(kvt_unit *unit, kvt_entry *entry)
{
    unit->entry = kvt_index_id(unit->engine->index, entry);
    unit->image = entry->image;
    atomic_fetch_add(&entry->users, 1);
    kvt_ram_hold(unit->engine);
    kvt_entry_to_record(unit->engine, entry, &unit->op.record);
}

static bool is_narrow(const kvt_unit *unit, const kvt_entry *entry)
{
    uint32_t groups = entry->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff;
    return (entry->flags & KVT_RECORD_TOKENS) != 0 && entry->token_fp == unit->token_fp &&
           (unit->groups & ~groups) != 0 && (groups & ~unit->groups) == 0;
}

static found look_at(kvt_unit *unit, kvt_entry *entry)
{
    bool by_tokens = unit->tokens != 0;
    if (by_tokens && ((entry->flags & KVT_RECORD_TOKENS) == 0 || entry->token_fp != unit->token_fp)) {
        kvt_count(&unit->engine->counters.collisions, 1);
        unit->outcome.cause = KVT_EXISTS;
        return FOUND_REFUSED;
    }
    if (atomic_load(&entry->host) == KVT_HOST_FILLING) {
        wait_for(unit, entry);
        return FOUND_WAIT;
    }
    bool in_ram = atomic_load(&entry->host) == KVT_HOST_PRESENT;
    uint32_t groups = entry->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff;
    unit->outcome.tiers = tiers_of(unit, entry);
    unit->outcome.groups = groups;
    unit->outcome.cause = KVT_EXISTS;
    if (by_tokens && (unit->groups & ~groups) != 0)
        return is_narrow(unit, entry) ? FOUND_NARROW : FOUND_REFUSED;
    unit->outcome.cause = KVT_OK;
    if (!by_tokens && !unit->compared) {
        unit->compared = true;
        if (in_ram)
            use_copy(unit, entry);
        else
            kvt_entry_to_record(unit->engine, entry, &unit->op.record);
        return FOUND_COMPARE;
    }
    /* Who waits remembers no entry: it may be another record's by the time it wakes. */
    if (unit->write_through && atomic_load(&entry->lower) == KVT_LOWER_WRITING) {
        wait_for(unit, entry);
        return FOUND_WAIT;
    }
    unit->entry = kvt_index_id(unit->engine->index, entry);
    if (!unit->write_through || atomic_load(&entry->lower) == KVT_LOWER_PRESENT)
        return FOUND_HELD;
    atomic_store(&entry->lower, KVT_LOWER_WRITING);
    use_copy(unit, entry);
    return FOUND_THROUGH;
}

static found find(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    kvt_entry *entry = kvt_index_lock(engine->index, unit->space->slot, &unit->key);
    found result = entry == NULL ? reserve(unit) : look_at(unit, entry);
    kvt_index_unlock(engine->index, unit->space->slot, &unit->key);
    return result;
}

/* ---- letting go ---- */

/* End the use of a copy; a failed write below leaves the entry without one. */
static void let_go(kvt_unit *unit, bool end_write, bool written)
{
    kvt_engine *engine = unit->engine;
    kvt_unit *waiters = NULL;
    kvt_entry *entry = kvt_index_lock_id(engine->index, unit->entry);
    if (end_write) {
        if (!written)
            atomic_store(&entry->lower, KVT_LOWER_ABSENT);
        waiters = entry->waiters;
        entry->waiters = NULL;
    }
    atomic_fetch_sub(&entry->users, 1);
    unit->outcome.tiers = tiers_of(unit, entry);
    kvt_index_unlock_entry(engine->index, entry);
    unit->image = NULL;
    kvt_units_wake(engine, waiters);
    kvt_ram_release(engine);
}

/* Nothing came of it: the reserved entry goes, whoever waited for it looks for itself. */
static void undo_reservation(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    kvt_entry *entry = kvt_index_lock_id(engine->index, unit->entry);
    kvt_unit *waiters = entry->waiters;
    kvt_spaces_discharge(engine->spaces, entry->space, entry->stored_bytes);
    kvt_index_remove(engine->index, entry);
    kvt_index_unlock_entry(engine->index, entry);
    unit->entry = KVT_ENTRY_NONE;
    kvt_units_wake(engine, waiters);
}

/* ---- write through ---- */

static void through_done(kvt_tier_op *op)
{
    kvt_unit *unit = op->arg;
    bool written = op->status == KVT_OK;
    if (!written)
        kvt_admission_refund(unit->engine->admission, kvt_image_bytes(op->record.stored_bytes));
    unit->outcome.status = written ? KVT_OK : KVT_REJECTED;
    unit->outcome.cause = written ? KVT_OK : op->status;
    unit->outcome.system_error = op->system_error;
    unit->outcome.bytes_lower = written ? op->record.stored_bytes : 0;
    let_go(unit, true, written);
    kvt_unit_finish(unit);
}

/* The unit uses the copy, the entry says WRITING. */
static void write_through(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    uint64_t hash = kvt_index_hash(unit->space->slot, &unit->key);
    kvt_tier_op *op = &unit->op;
    if (!kvt_admission_admit(engine->admission, hash, kvt_image_bytes(op->record.stored_bytes), 0, true,
                             kvt_engine_clock(engine))) {
        let_go(unit, true, false);
        refuse(unit, KVT_REJECTED);
        return;
    }
    op->verb = KVT_TIER_WRITE;
    op->priority = unit->urgent;
    op->image = unit->image;
    op->done = through_done;
    op->arg = unit;
    kvt_image_digest(engine, op);
    kvt_tier_submit(engine->lower, op);
}

/* ---- put of a key that is held ---- */

static void compare(kvt_unit *unit, uint8_t *scratch)
{
    bool same = true, wanted = kvt_unit_touch_begin(unit);
    if (wanted) {
        same = kvt_unit_same_blob(unit, &unit->op.record, unit->image, scratch);
        kvt_unit_touch_end(unit);
    }
    if (unit->image != NULL)
        let_go(unit, false, false);
    unit->entry = KVT_ENTRY_NONE;
    if (!wanted)
        refuse(unit, KVT_CANCELLED);
    else if (!same)
        refuse(unit, KVT_EXISTS);
    else
        kvt_unit_push(unit, kvt_store_run); /* held, and the same: go on as for any held chunk */
}

/* ---- fill, publish ---- */

static kvt_status fill(kvt_unit *unit, uint8_t *scratch, uint64_t *out_bytes, uint32_t *out_codec)
{
    if (!kvt_unit_touch_begin(unit))
        return KVT_CANCELLED;
    kvt_status status = kvt_unit_fill(unit, unit->extent, unit->extent_bytes, scratch, out_bytes, out_codec);
    kvt_unit_touch_end(unit);
    return status;
}

static void publish(kvt_unit *unit, uint64_t bytes, uint32_t codec)
{
    kvt_engine *engine = unit->engine;
    kvt_pool_shrink(engine->pool, unit->extent, kvt_image_bytes(bytes));
    kvt_entry *entry = kvt_index_lock_id(engine->index, unit->entry);
    kvt_spaces_recharge(engine->spaces, entry->space, entry->stored_bytes, bytes);
    entry->stored_bytes = bytes;
    entry->codec = codec;
    entry->image = unit->extent;
    atomic_fetch_add(&entry->users, 1);
    if (unit->write_through)
        atomic_store(&entry->lower, KVT_LOWER_WRITING);
    kvt_ram_publish(engine, entry);
    kvt_entry_to_record(engine, entry, &unit->op.record);
    kvt_unit *waiters = unit->write_through ? NULL : entry->waiters;
    if (!unit->write_through)
        entry->waiters = NULL;
    kvt_index_unlock_entry(engine->index, entry);
    unit->image = unit->extent;
    unit->extent = NULL;
    unit->outcome.bytes = unit->raw_bytes;
    unit->outcome.groups = unit->groups;
    kvt_count(&engine->counters.saved_chunks, 1);
    kvt_count(&engine->counters.saved_bytes, unit->raw_bytes);
    kvt_units_wake(engine, waiters);
}

static void bring(kvt_unit *unit, uint8_t *scratch)
{
    unit->extent_bytes = kvt_image_bytes(payload_bytes_max(unit));
    kvt_status status = kvt_ram_take(unit->engine, unit, unit->extent_bytes, &unit->extent);
    if (status == KVT_BUSY)
        return; /* parked; comes back here */
    uint64_t bytes = 0;
    uint32_t codec = 0;
    if (status == KVT_OK) {
        status = fill(unit, scratch, &bytes, &codec);
        if (status != KVT_OK)
            kvt_ram_give(unit->engine, unit->extent);
    }
    if (status != KVT_OK) {
        unit->extent = NULL;
        undo_reservation(unit);
        refuse(unit, status);
        return;
    }
    publish(unit, bytes, codec);
    if (unit->write_through) {
        write_through(unit);
        return;
    }
    unit->outcome.status = KVT_OK;
    let_go(unit, false, false);
    kvt_unit_finish(unit);
}

/* A record that holds less than this save brings makes way for it, if it still does and the save is still wanted. */
static bool forget_narrow(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    if (!kvt_unit_touch_begin(unit))
        return false;
    bool gone = true;
    kvt_entry *entry = kvt_index_lock(engine->index, unit->space->slot, &unit->key);
    if (entry != NULL && is_narrow(unit, entry))
        gone = kvt_entry_forget(engine, entry);
    else
        kvt_index_unlock(engine->index, unit->space->slot, &unit->key);
    kvt_unit_touch_end(unit);
    return gone;
}

/* Once room was made, the unit looks again. */
static void go_on_or_refuse(kvt_unit *unit, bool room, kvt_status cause)
{
    if (room && unit->rooms_made++ < ROOMS_MAX)
        kvt_unit_push(unit, kvt_store_run);
    else
        refuse(unit, cause);
}

void kvt_store_run(kvt_job *job, uint8_t *scratch)
{
    kvt_unit *unit = (kvt_unit *)job;
    if (unit->entry != KVT_ENTRY_NONE) {
        bring(unit, scratch);
        return;
    }
    if (unit->tokens != 0 && unit->groups == 0) {
        refuse(unit, KVT_MISS); /* no group has all its pages: there is nothing to store */
        return;
    }
    switch (find(unit)) {
    case FOUND_NEW:
        bring(unit, scratch);
        break;
    case FOUND_HELD:
        kvt_unit_note_entry(unit, unit->entry);
        held(unit, unit->outcome.tiers);
        break;
    case FOUND_WAIT:
        break;
    case FOUND_THROUGH:
        write_through(unit);
        break;
    case FOUND_COMPARE:
        compare(unit, scratch);
        break;
    case FOUND_NO_QUOTA:
        go_on_or_refuse(unit, kvt_make_room(unit, false), KVT_QUOTA);
        break;
    case FOUND_NO_INDEX:
        go_on_or_refuse(unit, kvt_make_room(unit, true), KVT_NOSPACE);
        break;
    case FOUND_NARROW:
        go_on_or_refuse(unit, forget_narrow(unit), KVT_BUSY);
        break;
    case FOUND_REFUSED:
        refuse(unit, unit->outcome.cause);
        break;
    }
}
