/* SPDX-License-Identifier: Apache-2.0
 *
 * Linear probing over 8-byte buckets (32 bits of hash, id + 1), removal by shifting back, so that tables never decay.
 */
#include "engine/index.h"

#include <pthread.h>

enum { SHARDS_MAX = 64, SHARD_ENTRIES_MIN = 1024 };

typedef struct index_shard {
    pthread_mutex_t lock;
    uint64_t *buckets; /* hash << 32 | (id within the shard + 1); 0: empty */
    uint32_t bucket_mask;
    uint32_t first_free;         /* ids given back, linked through entry.depth; KVT_ENTRY_NONE: none */
    _Atomic uint32_t next_fresh; /* ids below were used before; grows under the lock, walks read it without */
    _Atomic uint32_t count;
} index_shard;

struct kvt_index {
    uint32_t shard_count; /* power of two */
    uint32_t shard_entries;
    kvt_entry *entries;
    uint64_t entries_bytes;
    uint64_t *buckets;
    uint64_t buckets_bytes;
    index_shard shards[SHARDS_MAX];
};

uint64_t kvt_index_hash(uint32_t space, const kvt_key *key)
{
    /* Keys given by callers may be anything, counters included: mix all bits. */
    uint64_t h = kvt_load_le64(key->bytes) ^ (kvt_load_le64(key->bytes + 8) * UINT64_C(0x9e3779b97f4a7c15)) ^
                 ((uint64_t)space << 32);
    h = (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    h = (h ^ (h >> 29)) * UINT64_C(0xd6e8feb86659fd93);
    return h ^ (h >> 32);
}

static index_shard *shard_of(kvt_index *index, uint64_t hash)
{
    return &index->shards[hash & (index->shard_count - 1)];
}
static uint32_t tag_of(uint64_t hash) { return (uint32_t)(hash >> 32); }
static uint32_t shard_number(const kvt_index *index, const index_shard *shard)
{
    return (uint32_t)(shard - index->shards);
}
static kvt_entry *entry_at(kvt_index *index, const index_shard *shard, uint32_t local)
{
    return &index->entries[(uint64_t)shard_number(index, shard) * index->shard_entries + local];
}

kvt_status kvt_index_create(uint64_t entries_max, kvt_index **out)
{
    kvt_index *index = kvt_alloc(sizeof *index);
    if (index == NULL)
        return KVT_NOMEM;
    index->shard_count = SHARDS_MAX;
    while (index->shard_count > 1 && entries_max / index->shard_count < SHARD_ENTRIES_MIN)
        index->shard_count /= 2;
    /* A quarter more than the even share, since hashing fills shards unevenly. */
    uint64_t share = entries_max / index->shard_count + entries_max / index->shard_count / 4 + 16;
    if (share > UINT32_MAX / 2 / index->shard_count) {
        kvt_free(index);
        return kvt_fail(KVT_INVALID, "index_entries_max is too large");
    }
    uint32_t bucket_count = 16;
    while (bucket_count < share * 2)
        bucket_count *= 2;
    index->shard_entries = (uint32_t)share;
    index->entries_bytes = share * index->shard_count * sizeof(kvt_entry);
    index->buckets_bytes = (uint64_t)bucket_count * index->shard_count * sizeof(uint64_t);
    kvt_page_kind kind;
    index->entries = kvt_pages_map(index->entries_bytes, &kind);
    index->buckets = kvt_pages_map(index->buckets_bytes, &kind);
    if (index->entries == NULL || index->buckets == NULL) {
        kvt_index_destroy(index);
        return kvt_fail(KVT_NOMEM, "no memory for an index of %llu records", (unsigned long long)entries_max);
    }
    for (uint32_t i = 0; i < index->shard_count; i++) {
        index_shard *shard = &index->shards[i];
        pthread_mutex_init(&shard->lock, NULL);
        shard->buckets = index->buckets + (uint64_t)i * bucket_count;
        shard->bucket_mask = bucket_count - 1;
        shard->first_free = KVT_ENTRY_NONE;
    }
    *out = index;
    return KVT_OK;
}

void kvt_index_destroy(kvt_index *index)
{
    if (index == NULL)
        return;
    for (uint32_t i = 0; index->entries != NULL && index->buckets != NULL && i < index->shard_count; i++)
        pthread_mutex_destroy(&index->shards[i].lock);
    kvt_pages_unmap(index->entries, index->entries_bytes);
    kvt_pages_unmap(index->buckets, index->buckets_bytes);
    kvt_free(index);
}

/* Bucket that holds (space, key), or the empty one that ends the probe. */
static uint32_t probe(kvt_index *index, index_shard *shard, uint64_t hash, uint32_t space, const kvt_key *key)
{
    uint32_t at = (uint32_t)(hash >> 8) & shard->bucket_mask;
    for (;; at = (at + 1) & shard->bucket_mask) {
        uint64_t bucket = shard->buckets[at];
        if (bucket == 0)
            return at;
        if ((uint32_t)(bucket >> 32) != tag_of(hash))
            continue;
        const kvt_entry *entry = entry_at(index, shard, (uint32_t)bucket - 1);
        if (entry->space == space && kvt_key_equal(&entry->key, key))
            return at;
    }
}

kvt_entry *kvt_index_lock(kvt_index *index, uint32_t space, const kvt_key *key)
{
    uint64_t hash = kvt_index_hash(space, key);
    index_shard *shard = shard_of(index, hash);
    pthread_mutex_lock(&shard->lock);
    uint64_t bucket = shard->buckets[probe(index, shard, hash, space, key)];
    return bucket == 0 ? NULL : entry_at(index, shard, (uint32_t)bucket - 1);
}

static index_shard *shard_of_entry(kvt_index *index, const kvt_entry *entry)
{
    return &index->shards[(uint64_t)(entry - index->entries) / index->shard_entries];
}

kvt_entry *kvt_index_lock_id(kvt_index *index, uint32_t id)
{
    kvt_entry *entry = &index->entries[id];
    pthread_mutex_lock(&shard_of_entry(index, entry)->lock);
    return entry;
}

const kvt_entry *kvt_index_peek(const kvt_index *index, uint32_t id) { return &index->entries[id]; }

void kvt_index_unlock(kvt_index *index, uint32_t space, const kvt_key *key)
{
    pthread_mutex_unlock(&shard_of(index, kvt_index_hash(space, key))->lock);
}

void kvt_index_unlock_entry(kvt_index *index, const kvt_entry *entry)
{
    pthread_mutex_unlock(&shard_of_entry(index, entry)->lock);
}

static uint32_t take_local_id(kvt_index *index, index_shard *shard)
{
    uint32_t local = shard->first_free;
    if (local != KVT_ENTRY_NONE)
        shard->first_free = entry_at(index, shard, local)->depth;
    else if (atomic_load_explicit(&shard->next_fresh, memory_order_relaxed) < index->shard_entries)
        local = atomic_fetch_add_explicit(&shard->next_fresh, 1, memory_order_relaxed);
    return local;
}

kvt_entry *kvt_index_insert(kvt_index *index, uint32_t space, const kvt_key *key)
{
    uint64_t hash = kvt_index_hash(space, key);
    index_shard *shard = shard_of(index, hash);
    uint32_t local = take_local_id(index, shard);
    if (local == KVT_ENTRY_NONE)
        return NULL;
    kvt_entry *entry = entry_at(index, shard, local);
    *entry = (kvt_entry){.key = *key, .space = space, .live = true};
    shard->buckets[probe(index, shard, hash, space, key)] = (uint64_t)tag_of(hash) << 32 | (local + 1);
    atomic_fetch_add_explicit(&shard->count, 1, memory_order_relaxed);
    return entry;
}

/* Close the hole at `hole`: move back every later bucket of the run whose home lies at or before it. */
static void shift_back(kvt_index *index, index_shard *shard, uint32_t hole)
{
    uint32_t mask = shard->bucket_mask;
    for (uint32_t at = (hole + 1) & mask; shard->buckets[at] != 0; at = (at + 1) & mask) {
        const kvt_entry *entry = entry_at(index, shard, (uint32_t)shard->buckets[at] - 1);
        uint32_t home = (uint32_t)(kvt_index_hash(entry->space, &entry->key) >> 8) & mask;
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        shard->buckets[hole] = shard->buckets[at];
        hole = at;
    }
    shard->buckets[hole] = 0;
}

void kvt_index_remove(kvt_index *index, kvt_entry *entry)
{
    uint64_t hash = kvt_index_hash(entry->space, &entry->key);
    index_shard *shard = shard_of(index, hash);
    uint32_t at = probe(index, shard, hash, entry->space, &entry->key);
    uint32_t local = (uint32_t)shard->buckets[at] - 1;
    shift_back(index, shard, at);
    entry->live = false;
    entry->depth = shard->first_free;
    shard->first_free = local;
    atomic_fetch_sub_explicit(&shard->count, 1, memory_order_relaxed);
}

uint32_t kvt_index_id(const kvt_index *index, const kvt_entry *entry) { return (uint32_t)(entry - index->entries); }
uint32_t kvt_index_id_end(const kvt_index *index) { return index->shard_count * index->shard_entries; }

void kvt_index_ids_beside(const kvt_index *index, uint32_t space, const kvt_key *key, uint32_t *begin, uint32_t *end)
{
    uint32_t shard = (uint32_t)(kvt_index_hash(space, key) & (index->shard_count - 1));
    *begin = shard * index->shard_entries;
    *end = *begin + index->shard_entries;
}

uint32_t kvt_index_next_used(const kvt_index *index, uint32_t id)
{
    while (id < kvt_index_id_end(index)) {
        const index_shard *shard = &index->shards[id / index->shard_entries];
        if (id % index->shard_entries < atomic_load_explicit(&shard->next_fresh, memory_order_relaxed))
            return id;
        id = (id / index->shard_entries + 1) * index->shard_entries;
    }
    return kvt_index_id_end(index);
}

uint64_t kvt_index_count(const kvt_index *index)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < index->shard_count; i++)
        count += atomic_load_explicit(&index->shards[i].count, memory_order_relaxed);
    return count;
}

/* ---- many at once ---- */

typedef struct look {
    uint64_t hashes[KVT_INDEX_LOOK_MAX];
    uint16_t next[KVT_INDEX_LOOK_MAX]; /* of the same shard: place + 1; 0 ends */
    uint16_t first[SHARDS_MAX];
} look;

/* Which shard each key belongs to; its table line is on its way when the shard's turn comes. */
static void sort_by_shard(kvt_index *index, uint32_t space, const kvt_key *keys, uint32_t count, look *l)
{
    memset(l->first, 0, sizeof l->first);
    for (uint32_t i = count; i-- > 0;) {
        uint64_t hash = kvt_index_hash(space, &keys[i]);
        const index_shard *shard = shard_of(index, hash);
        uint16_t *first = &l->first[shard_number(index, shard)];
        __builtin_prefetch(&shard->buckets[(uint32_t)(hash >> 8) & shard->bucket_mask]);
        l->hashes[i] = hash;
        l->next[i] = *first;
        *first = (uint16_t)(i + 1);
    }
}

static void view_entry(const kvt_entry *entry, kvt_index_view *view)
{
    view->token_fp = entry->token_fp;
    view->stored_bytes = entry->stored_bytes;
    view->flags = entry->flags;
    view->host = atomic_load_explicit(&entry->host, memory_order_relaxed);
    view->lower = atomic_load_explicit(&entry->lower, memory_order_relaxed);
    view->found = true;
}

void kvt_index_look(kvt_index *index, uint32_t space, const kvt_key *keys, uint32_t count, kvt_index_view *views)
{
    look l;
    sort_by_shard(index, space, keys, count, &l);
    for (uint32_t s = 0; s < index->shard_count; s++) {
        index_shard *shard = &index->shards[s];
        if (l.first[s] == 0)
            continue;
        pthread_mutex_lock(&shard->lock);
        for (uint32_t at = l.first[s]; at != 0; at = l.next[at - 1]) {
            uint64_t bucket = shard->buckets[probe(index, shard, l.hashes[at - 1], space, &keys[at - 1])];
            views[at - 1].found = false;
            if (bucket != 0)
                view_entry(entry_at(index, shard, (uint32_t)bucket - 1), &views[at - 1]);
        }
        pthread_mutex_unlock(&shard->lock);
    }
}
