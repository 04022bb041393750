/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rocks tier remembers in memory: its generations, oldest first, and the records of each in order of writing.
 * A place names a generation and a sequence in it. Not thread-safe by itself; all calls are made under the tier's lock.
 * Private to this room.
 */
#ifndef KVT_ROCKS_RING_H
#define KVT_ROCKS_RING_H

#include "tiers/rocks_db.h"

enum { ROCKS_CHUNK_ENTRIES = 256, ROCKS_CHUNKS_MAX = KVT_ROCKS_SEQUENCE_MAX / ROCKS_CHUNK_ENTRIES };

typedef enum rocks_entry_state {
    ROCKS_ENTRY_NONE = 0, /* never written, lost, or evicted */
    ROCKS_ENTRY_LIVE,
    ROCKS_ENTRY_DROPPED /* its row is still to be deleted */
} rocks_entry_state;

typedef struct rocks_entry {
    kvt_record record;
    rocks_entry_state state;
    uint32_t next_dropped; /* sequence, 0: last */
} rocks_entry;

typedef struct rocks_generation {
    uint32_t number;
    uint32_t last;          /* highest sequence in use, 0: none */
    uint32_t first_dropped; /* sequence, 0: none */
    uint32_t readers;       /* reads under way; the family is not dropped before they end */
    bool dying;             /* answers no more reads */
    uint64_t bytes;         /* of all values ever written to it, as they are accounted */
    kvt_rocks_cf *cf;
    rocks_entry *chunks[ROCKS_CHUNKS_MAX];
} rocks_generation;

typedef struct rocks_ring {
    rocks_generation *generations[KVT_ROCKS_GENERATIONS_MAX + 2]; /* ascending */
    uint32_t count;
    uint64_t record_count; /* live */
    uint64_t record_bytes;
} rocks_ring;

/* Append a generation; NULL: no memory, or too many. */
rocks_generation *rocks_ring_add(rocks_ring *ring, uint32_t number, kvt_rocks_cf *cf);
void rocks_ring_remove(rocks_ring *ring, rocks_generation *generation); /* frees it; its family is the caller's */
rocks_generation *rocks_ring_find(const rocks_ring *ring, uint64_t number);
rocks_generation *rocks_ring_newest(const rocks_ring *ring);

/* The entry of a sequence; NULL: out of range or no memory was ever reserved there. */
rocks_entry *rocks_generation_entry(const rocks_generation *generation, uint64_t sequence);
/* Make sure an entry has memory. false: there is none. */
bool rocks_generation_reserve(rocks_generation *generation, uint32_t sequence);

/* Changes of state, with the sums. The entry must be reserved, live, live, dropped. */
void rocks_ring_enter(rocks_ring *ring, rocks_generation *generation, uint32_t sequence, const kvt_record *record);
void rocks_ring_forget(rocks_ring *ring, rocks_entry *entry);
void rocks_ring_drop(rocks_ring *ring, rocks_generation *generation, uint32_t sequence);
/* Take one dropped record off the list. false: none. */
bool rocks_ring_next_dropped(rocks_ring *ring, kvt_rocks_row *out);

#endif
