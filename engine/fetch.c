/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a chunk that is loaded, prefetched or fetched by key:
 *
 *   find -> (in RAM | wait for another unit | take room -> read -> check -> publish) -> drain -> finish
 *
 * A record is read once however many ask for it: the others wait in the entry and look again. Nothing reaches a page
 * before its record passed its check.
 */
#include "engine/request.h"

typedef enum found { FOUND_MISS, FOUND_WAIT, FOUND_IN_RAM, FOUND_BELOW } found;

static void miss(kvt_unit *unit, kvt_status cause)
{
    unit->outcome.status = cause == KVT_INVALID ? KVT_INVALID : KVT_MISS;
    unit->outcome.cause = cause == KVT_MISS ? KVT_OK : cause;
    if (cause != KVT_MISS && cause != KVT_INVALID)
        kvt_count(&unit->engine->counters.load_failures, 1);
    kvt_unit_finish(unit);
}

static bool wrong_tokens(kvt_unit *unit, const kvt_entry *entry)
{
    if (unit->tokens == 0)
        return false;
    if ((entry->flags & KVT_RECORD_TOKENS) != 0 && entry->token_fp == unit->token_fp)
        return false;
    kvt_count(&unit->engine->counters.collisions, 1);
    return true;
}

static found look_at(kvt_unit *unit, kvt_entry *entry)
{
    kvt_engine *engine = unit->engine;
    if (wrong_tokens(unit, entry))
        return FOUND_MISS;
    if (atomic_load(&entry->host) == KVT_HOST_FILLING) {
        unit->job.next = entry->waiters != NULL ? &entry->waiters->job : NULL;
        entry->waiters = unit;
        return FOUND_WAIT;
    }
    unit->entry = kvt_index_id(engine->index, entry);
    kvt_entry_to_record(engine, entry, &unit->op.record);
    unit->raw_bytes = entry->raw_bytes;
    unit->outcome.tiers = atomic_load(&entry->lower) == KVT_LOWER_PRESENT ? KVT_TIER_BIT(engine->lower_id) : 0;
    unit->outcome.tiers |= KVT_TIER_BIT(KVT_TIER_HOST);
    if (atomic_load(&entry->host) == KVT_HOST_PRESENT) {
        unit->image = entry->image;
        atomic_fetch_add(&entry->users, 1);
        kvt_ram_hold(engine);
        return FOUND_IN_RAM;
    }
    unit->op.place = entry->place;
    atomic_store(&entry->host, KVT_HOST_FILLING);
    return FOUND_BELOW;
}

static found find(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    kvt_entry *entry = kvt_index_lock(engine->index, unit->space->slot, &unit->key);
    found result = entry == NULL ? FOUND_MISS : look_at(unit, entry);
    kvt_index_unlock(engine->index, unit->space->slot, &unit->key);
    return result;
}

/* ---- ends ---- */

/* The record did not come up: the entry is as before, or gone when nothing holds it any more. */
static void undo_fill(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    kvt_entry *entry = kvt_index_lock_id(engine->index, unit->entry);
    kvt_unit *waiters = entry->waiters;
    entry->waiters = NULL;
    atomic_store(&entry->host, KVT_HOST_NONE);
    if (atomic_load(&entry->lower) == KVT_LOWER_ABSENT) {
        kvt_spaces_discharge(engine->spaces, entry->space, entry->stored_bytes);
        kvt_index_remove(engine->index, entry);
    }
    kvt_index_unlock_entry(engine->index, entry);
    kvt_units_wake(engine, waiters);
}

static void fail_read(kvt_unit *unit, kvt_status cause, int32_t system_error)
{
    kvt_engine *engine = unit->engine;
    unit->outcome.system_error = system_error;
    kvt_ram_give(engine, unit->extent);
    unit->extent = NULL;
    if (cause == KVT_CORRUPT)
        kvt_count(&engine->counters.corrupt_records, 1);
    kvt_lower_forget(engine, unit->space->slot, &unit->key, &unit->op.place);
    undo_fill(unit);
    miss(unit, cause);
}

static void let_go(kvt_unit *unit)
{
    kvt_entry *entry = kvt_index_lock_id(unit->engine->index, unit->entry);
    atomic_fetch_sub(&entry->users, 1);
    kvt_index_unlock_entry(unit->engine->index, entry);
    unit->image = NULL;
    kvt_ram_release(unit->engine);
}

/* ---- drain ---- */

static void drain(kvt_unit *unit, uint8_t *scratch)
{
    kvt_status status = KVT_CANCELLED;
    if (kvt_unit_touch_begin(unit)) {
        status = kvt_unit_drain(unit, &unit->op.record, unit->image, scratch);
        kvt_unit_touch_end(unit);
    }
    let_go(unit);
    if (status != KVT_OK) {
        miss(unit, status);
        return;
    }
    unit->outcome.status = KVT_OK;
    kvt_unit_note_entry(unit, unit->entry);
    kvt_unit_finish(unit);
}

/* ---- read ---- */

static void publish(kvt_unit *unit)
{
    kvt_engine *engine = unit->engine;
    kvt_entry *entry = kvt_index_lock_id(engine->index, unit->entry);
    kvt_unit *waiters = entry->waiters;
    entry->waiters = NULL;
    entry->image = unit->extent;
    atomic_fetch_add(&entry->users, 1);
    kvt_ram_publish(engine, entry);
    kvt_index_unlock_entry(engine->index, entry);
    unit->image = unit->extent;
    unit->extent = NULL;
    kvt_units_wake(engine, waiters);
}

static void start_read(kvt_unit *unit);

static void read_run(kvt_job *job, uint8_t *scratch)
{
    kvt_unit *unit = (kvt_unit *)job;
    kvt_tier_op *op = &unit->op;
    kvt_status status = op->status;
    if (status == KVT_OK)
        status = kvt_image_check(unit->engine, op);
    if (status == KVT_CORRUPT && !unit->retried) {
        unit->retried = true; /* tells a slip of the transfer from damage on the medium */
        start_read(unit);
        return;
    }
    if (status != KVT_OK) {
        fail_read(unit, status, op->system_error);
        return;
    }
    unit->outcome.from_lower = true;
    unit->outcome.bytes_lower = op->record.stored_bytes;
    publish(unit);
    drain(unit, scratch);
}

static void read_done(kvt_tier_op *op) { kvt_unit_push(op->arg, read_run); }

static void start_read(kvt_unit *unit)
{
    kvt_tier_op *op = &unit->op;
    op->verb = KVT_TIER_READ;
    op->priority = unit->urgent;
    op->image = unit->extent;
    op->digest_count = 0;
    op->done = read_done;
    op->arg = unit;
    op->next = NULL;
    kvt_tier_submit(unit->engine->lower, op);
}

static void bring(kvt_unit *unit)
{
    unit->extent_bytes = kvt_image_bytes(unit->op.record.stored_bytes);
    kvt_status status = kvt_ram_take(unit->engine, unit, unit->extent_bytes, &unit->extent);
    if (status == KVT_BUSY)
        return; /* parked; comes back here */
    if (status != KVT_OK) {
        undo_fill(unit);
        miss(unit, status);
        return;
    }
    start_read(unit);
}

void kvt_fetch_run(kvt_job *job, uint8_t *scratch)
{
    kvt_unit *unit = (kvt_unit *)job;
    if (unit->entry != KVT_ENTRY_NONE) {
        bring(unit);
        return;
    }
    switch (find(unit)) {
    case FOUND_MISS:
        miss(unit, KVT_MISS);
        break;
    case FOUND_WAIT:
        break;
    case FOUND_IN_RAM:
        drain(unit, scratch);
        break;
    case FOUND_BELOW:
        bring(unit);
        break;
    }
}
