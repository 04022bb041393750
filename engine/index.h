/* SPDX-License-Identifier: Apache-2.0
 *
 * The single owner of the question "where is this blob?": a sharded map from (space, key) to an entry. A shard is a
 * mutex, an open-addressing table and its own run of entries; an entry's fields are guarded by its shard's lock, except
 * where a field says otherwise. An entry keeps its id while it lives, so ids serve as cursors and as names inside
 * policies.
 */
#ifndef KVT_INDEX_H
#define KVT_INDEX_H

#include "hash/hash.h"
#include "tiers/tiers.h"

#include <stdatomic.h>

typedef struct kvt_index kvt_index;
struct kvt_unit;

enum { KVT_ENTRY_NONE = UINT32_MAX };

typedef enum kvt_host_state {
    KVT_HOST_NONE = 0,
    KVT_HOST_FILLING = 1, /* a save, put or load brings it; others wait in `waiters` */
    KVT_HOST_PRESENT = 2
} kvt_host_state;

typedef enum kvt_lower_state {
    KVT_LOWER_ABSENT = 0,
    KVT_LOWER_WRITING = 1, /* the RAM copy stays until this ends */
    KVT_LOWER_PRESENT = 2
} kvt_lower_state;

typedef struct kvt_entry {
    /* what a match reads: one cache line */
    kvt_key key;
    uint64_t token_fp;
    uint64_t stored_bytes;
    uint32_t space;         /* slot in the engine's space table */
    uint32_t flags;         /* kvt_record.flags */
    _Atomic uint8_t host;   /* kvt_host_state; written under the lock, read by the victim search without */
    _Atomic uint8_t lower;  /* kvt_lower_state; likewise */
    bool hashed;            /* `hash` is known */
    _Atomic uint32_t users; /* units and leases that need the RAM copy; likewise */
    uint8_t *image;         /* the RAM copy */
    /* the rest */
    kvt_key parent;
    kvt_hash128 hash;
    kvt_place place; /* in the lower tier */
    uint64_t raw_bytes;
    uint64_t pin_until_ns; /* 0: not pinned */
    struct kvt_unit *waiters;
    uint32_t codec;
    uint32_t depth;
    uint32_t cost_us;
    bool live; /* part of the map */
} kvt_entry;

/* Room for entries_max entries, all memory reserved now. KVT_NOMEM. */
kvt_status kvt_index_create(uint64_t entries_max, kvt_index **out);
void kvt_index_destroy(kvt_index *index);

/* Lock the shard of (space, key) and look it up: NULL if absent. The shard stays locked either way. */
kvt_entry *kvt_index_lock(kvt_index *index, uint32_t space, const kvt_key *key);
/* Lock the shard of an id; the entry may not be live any more. */
kvt_entry *kvt_index_lock_id(kvt_index *index, uint32_t id);
/* Without a lock: only the atomic fields may be read. */
const kvt_entry *kvt_index_peek(const kvt_index *index, uint32_t id);
void kvt_index_unlock(kvt_index *index, uint32_t space, const kvt_key *key);
void kvt_index_unlock_entry(kvt_index *index, const kvt_entry *entry);

/* With the shard locked and the key absent: a new live entry, zeroed but for space and key. NULL: the shard is full. */
kvt_entry *kvt_index_insert(kvt_index *index, uint32_t space, const kvt_key *key);
/* With the shard locked: take the entry out of the map; its memory stays readable until the unlock. */
void kvt_index_remove(kvt_index *index, kvt_entry *entry);

/* The ids that share a part of the index, and its bound, with a key. */
void kvt_index_ids_beside(const kvt_index *index, uint32_t space, const kvt_key *key, uint32_t *begin, uint32_t *end);

uint32_t kvt_index_id(const kvt_index *index, const kvt_entry *entry);
uint32_t kvt_index_id_end(const kvt_index *index); /* ids are below */
/* The first id >= id that was ever used, or kvt_index_id_end(): walks skip what no record ever touched. */
uint32_t kvt_index_next_used(const kvt_index *index, uint32_t id);
uint64_t kvt_index_count(const kvt_index *index);

/* What a lookup needs of an entry. */
typedef struct kvt_index_view {
    uint64_t token_fp;
    uint64_t stored_bytes;
    uint32_t flags; /* kvt_record.flags */
    uint8_t host;   /* kvt_host_state */
    uint8_t lower;  /* kvt_lower_state */
    bool found;
} kvt_index_view;

enum { KVT_INDEX_LOOK_MAX = 256 };
/* Many keys at once: views[count], count <= KVT_INDEX_LOOK_MAX. Takes each shard once, and has the memory of many
 * entries under way. */
void kvt_index_look(kvt_index *index, uint32_t space, const kvt_key *keys, uint32_t count, kvt_index_view *views);
/* A well-mixed hash of an entry's name, as policies want it. */
uint64_t kvt_index_hash(uint32_t space, const kvt_key *key);

#endif
