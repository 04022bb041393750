/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases: bounded claims on RAM copies. A slot carries a generation, so that a stale or repeated release is noticed;
 * the thread that keeps time ends what its owner forgot.
 */
#include "engine/space.h"

typedef struct lease_slot {
    uint32_t generation;
    uint32_t entry; /* KVT_ENTRY_NONE: free */
    uint64_t deadline_ns;
} lease_slot;

struct kvt_leases {
    pthread_mutex_t lock;
    uint32_t taken;
    lease_slot slots[KVT_LEASES_MAX];
};

kvt_status kvt_leases_create(kvt_leases **out)
{
    kvt_leases *leases = kvt_alloc(sizeof *leases);
    if (leases == NULL)
        return KVT_NOMEM;
    pthread_mutex_init(&leases->lock, NULL);
    for (uint32_t i = 0; i < KVT_LEASES_MAX; i++)
        leases->slots[i].entry = KVT_ENTRY_NONE;
    *out = leases;
    return KVT_OK;
}

void kvt_leases_destroy(kvt_leases *leases)
{
    if (leases == NULL)
        return;
    pthread_mutex_destroy(&leases->lock);
    kvt_free(leases);
}

static void let_go(kvt_engine *engine, uint32_t id)
{
    kvt_entry *entry = kvt_index_lock_id(engine->index, id);
    atomic_fetch_sub(&entry->users, 1);
    kvt_index_unlock_entry(engine->index, entry);
}

/* A free slot, marked as taken by `entry`; KVT_LEASES_MAX when there is none. */
static uint32_t take_slot(kvt_leases *leases, uint32_t entry, uint64_t deadline_ns, uint32_t *out_generation)
{
    uint32_t slot = 0;
    pthread_mutex_lock(&leases->lock);
    while (slot < KVT_LEASES_MAX && leases->slots[slot].entry != KVT_ENTRY_NONE)
        slot++;
    if (slot < KVT_LEASES_MAX) {
        *out_generation = ++leases->slots[slot].generation;
        leases->slots[slot].entry = entry;
        leases->slots[slot].deadline_ns = deadline_ns;
        leases->taken++;
    }
    pthread_mutex_unlock(&leases->lock);
    return slot;
}

/* With the shard locked. */
static kvt_status claim(kvt_engine *engine, kvt_entry *entry, kvt_lease *out)
{
    if (entry == NULL || atomic_load(&entry->host) != KVT_HOST_PRESENT)
        return KVT_MISS;
    if (entry->codec != KVT_CODEC_RAW)
        return KVT_UNSUPPORTED;
    kvt_record record;
    kvt_entry_to_record(engine, entry, &record);
    uint64_t section = kvt_payload_section_bytes(&record, entry->image + KVT_HEADER_BYTES);
    if (section == UINT64_MAX)
        return KVT_MISS;
    atomic_fetch_add(&entry->users, 1);
    out->data = entry->image + KVT_HEADER_BYTES + section;
    out->bytes = entry->raw_bytes;
    return KVT_OK;
}

kvt_status kvt_lease_acquire(kvt_space *space, const kvt_key *key, kvt_lease *out)
{
    if (space == NULL || key == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "space, key or out is NULL");
    kvt_engine *engine = space->engine;
    KVT_TRY(kvt_engine_enter(engine));
    kvt_lease lease = {0};
    kvt_entry *entry = kvt_index_lock(engine->index, space->slot, key);
    kvt_status status = claim(engine, entry, &lease);
    uint32_t id = status == KVT_OK ? kvt_index_id(engine->index, entry) : KVT_ENTRY_NONE;
    kvt_index_unlock(engine->index, space->slot, key);
    if (status == KVT_UNSUPPORTED)
        return kvt_fail(status, "the record is stored encoded; use kvt_get");
    if (status != KVT_OK)
        return status;
    uint32_t generation = 0;
    uint64_t deadline = kvt_now_ns() + engine->options.lease_ms_max * UINT64_C(1000000);
    uint32_t slot = take_slot(engine->leases, id, deadline, &generation);
    if (slot == KVT_LEASES_MAX) {
        let_go(engine, id);
        return kvt_fail(KVT_BUSY, "%d leases are out; release some", KVT_LEASES_MAX);
    }
    lease.id = (uint64_t)generation << 32 | slot;
    *out = lease;
    return KVT_OK;
}

/* Free a slot if it still belongs to `generation`; the entry it held, or KVT_ENTRY_NONE. With the lock held. */
static uint32_t free_slot(kvt_leases *leases, uint32_t slot)
{
    uint32_t entry = leases->slots[slot].entry;
    leases->slots[slot].entry = KVT_ENTRY_NONE;
    leases->taken--;
    return entry;
}

kvt_status kvt_lease_release(kvt_space *space, kvt_lease *lease)
{
    if (space == NULL || lease == NULL)
        return kvt_fail(KVT_INVALID, "space or lease is NULL");
    kvt_engine *engine = space->engine;
    KVT_TRY(kvt_engine_enter(engine));
    kvt_leases *leases = engine->leases;
    uint32_t slot = (uint32_t)lease->id, generation = (uint32_t)(lease->id >> 32), entry = KVT_ENTRY_NONE;
    pthread_mutex_lock(&leases->lock);
    if (slot < KVT_LEASES_MAX && generation != 0 && leases->slots[slot].generation == generation &&
        leases->slots[slot].entry != KVT_ENTRY_NONE)
        entry = free_slot(leases, slot);
    pthread_mutex_unlock(&leases->lock);
    if (entry == KVT_ENTRY_NONE)
        return kvt_fail(KVT_INVALID, "this lease was released already, or its time was up");
    let_go(engine, entry);
    *lease = (kvt_lease){0};
    return KVT_OK;
}

void kvt_leases_expire(kvt_engine *engine, uint64_t now_ns)
{
    kvt_leases *leases = engine->leases;
    if (leases == NULL)
        return; /* still opening */
    for (uint32_t slot = 0; slot < KVT_LEASES_MAX; slot++) {
        uint32_t entry = KVT_ENTRY_NONE;
        pthread_mutex_lock(&leases->lock);
        if (leases->taken == 0)
            slot = KVT_LEASES_MAX;
        else if (leases->slots[slot].entry != KVT_ENTRY_NONE && leases->slots[slot].deadline_ns <= now_ns)
            entry = free_slot(leases, slot);
        pthread_mutex_unlock(&leases->lock);
        if (entry != KVT_ENTRY_NONE)
            let_go(engine, entry);
    }
}
