/* SPDX-License-Identifier: Apache-2.0
 *
 * Tickets. A request is the bookkeeping of one ticket; a unit is one chunk (or item) of it under way. Units come from a
 * fixed pool: a request hands out its chunks as units become free. A unit whose request ends early (deadline, cancel)
 * is detached: it finishes what it does to RAM and disk on its own and touches nothing of the caller's any more. The
 * request completes at once, or, if units are moving the caller's bytes at that instant, when the last of them has
 * stopped.
 */
#ifndef KVT_REQUEST_H
#define KVT_REQUEST_H

#include "engine/engine_int.h"
#include "engine/space.h"

typedef enum kvt_verb { KVT_VERB_SAVE, KVT_VERB_LOAD, KVT_VERB_PREFETCH, KVT_VERB_PUT, KVT_VERB_GET } kvt_verb;

typedef struct kvt_outcome { /* of one chunk */
    kvt_status status;
    kvt_status cause;
    int32_t system_error;
    uint32_t tiers;
    uint32_t groups;
    uint64_t bytes;
    uint64_t bytes_lower;
    bool from_lower;
} kvt_outcome;

typedef struct kvt_ticket_state kvt_ticket_state;

/* One chunk under way. Fields above the line belong to whoever runs it; the others as said. */
struct kvt_unit {
    kvt_job job; /* first: a queued unit is a queued job */
    kvt_engine *engine;
    kvt_space *space;
    kvt_verb verb;
    bool write_through;
    bool urgent;
    bool retried;    /* a damaged read was repeated once */
    bool compared;   /* put: the held blob was found to be the same */
    uint32_t chunk;  /* index within the request */
    uint32_t depth;  /* position of the chunk in its prompt */
    uint32_t tokens; /* of the chunk; 0: opaque */
    uint32_t cost_us;
    uint32_t groups; /* save: mask to store */
    uint64_t token_fp;
    kvt_key key;
    kvt_key parent;
    uint32_t entry;     /* id, once it has one */
    uint8_t *extent;    /* taken, not yet an entry's image */
    uint64_t raw_bytes; /* of the blob */
    uint64_t extent_bytes;
    uint32_t rooms_made;   /* store.c: records that went so that this one fits */
    uint8_t *image;        /* an entry's copy this unit uses */
    uint64_t wanted_bytes; /* ram.c: while parked */
    bool parked;           /* ram.c: was parked, keeps its turn */
    kvt_outcome outcome;
    kvt_tier_op op;
    /* ---- guarded by the requests' lock */
    kvt_ticket_state *request; /* NULL: detached */
    kvt_unit *request_next, *request_previous;
    bool touching; /* moves the caller's bytes right now */
};

struct kvt_ticket_state { /* guarded by the requests' lock, but what is set before units start and never changes */
    kvt_ticket id;        /* 0: the slot is free */
    kvt_verb verb;
    kvt_space *space;
    uint32_t flags;
    uint64_t user_data;
    uint64_t start_ns;
    uint64_t deadline_ns; /* 0: none */
    void *stream;
    uint32_t cost_us;
    uint32_t layer_begin, layer_count;
    /* the arena and what lies in it */
    uint8_t *arena;
    uint64_t arena_bytes;
    uint32_t *tokens; /* of the whole prompt */
    kvt_key *keys;    /* of the chunks of the range, one more in front: the parent of the first */
    uint32_t *pages[KVT_GROUPS_MAX];
    uint32_t page_counts[KVT_GROUPS_MAX];
    kvt_outcome *outcomes;
    uint32_t *ids;   /* entries seen, for touching; KVT_ENTRY_NONE */
    kvt_item *items; /* put, get: the caller's */
    uint64_t token_begin, token_end, token_count;
    uint32_t first_chunk; /* of the range, position in the prompt */
    uint32_t chunk_count;
    bool backwards; /* chunks are handed out last to first */
    /* progress */
    uint32_t started; /* chunks handed out */
    uint32_t under_way;
    uint32_t touching;
    uint32_t limit; /* loads: chunks at or behind are not needed any more */
    bool ending;    /* ended early: hand out no more, complete when nothing touches */
    kvt_status end_cause;
    bool done;
    kvt_unit *units;
    kvt_completion completion;
    kvt_ticket_state *active_next, *active_previous; /* tickets under way */
    kvt_ticket_state *queue_next;                    /* waiting for units, or done and not taken */
};

kvt_status kvt_requests_create(kvt_engine *engine, kvt_requests **out);
/* No new tickets; end those under way; wait for all units. */
void kvt_requests_drain(kvt_engine *engine, uint64_t deadline_ns);
void kvt_requests_destroy(kvt_requests *requests);

/* A free slot with an arena of at least arena_bytes, or NULL and KVT_BUSY / KVT_NOMEM. */
kvt_status kvt_request_begin(kvt_engine *engine, uint64_t arena_bytes, kvt_ticket_state **out);
/* Accept it: sets the ticket, starts units. A request of no chunks completes at once. */
void kvt_request_start(kvt_engine *engine, kvt_ticket_state *request, kvt_ticket *out);
void kvt_request_abandon(kvt_engine *engine, kvt_ticket_state *request); /* instead of start */
uint32_t kvt_requests_inflight(kvt_engine *engine);

/* May the unit read or write the caller's memory? false: detached, or not needed any more. Each true ends with
 * touch_end. */
bool kvt_unit_touch_begin(kvt_unit *unit);
void kvt_unit_touch_end(kvt_unit *unit);
/* Remember which entry served the chunk, for touching the chain when the request completes. */
void kvt_unit_note_entry(kvt_unit *unit, uint32_t id);
/* The unit is through: its outcome goes to its request, the unit back to the pool. It holds nothing any more. */
void kvt_unit_finish(kvt_unit *unit);
void kvt_units_wake(kvt_engine *engine, kvt_unit *waiters); /* push a list of units that waited for an entry */
void kvt_unit_push(kvt_unit *unit, void (*run)(kvt_job *, uint8_t *)); /* run next on a worker */

/* ---- make_room.c ---- */
/* Forget a record so that the unit's may be entered: of its space, for the quota, or of any that shares the unit's part
 * of the index. false: none may go. No lock may be held. */
bool kvt_make_room(kvt_unit *unit, bool in_index);

/* ---- the two ways of a unit ---- */
void kvt_store_run(kvt_job *job, uint8_t *scratch); /* store.c: save, put */
void kvt_fetch_run(kvt_job *job, uint8_t *scratch); /* fetch.c: load, prefetch, get */

/* ---- move.c: between the caller's memory and images; inside touch_begin .. touch_end ---- */
uint64_t kvt_unit_section_bytes(const kvt_unit *unit);
/* Build the payload behind image's header block. *out_bytes: payload size; the padding is zeroed. */
kvt_status kvt_unit_fill(kvt_unit *unit, uint8_t *image, uint64_t capacity, uint8_t *scratch, uint64_t *out_bytes,
                         uint32_t *out_codec);
/* Put a checked image into the caller's pages or buffer. KVT_MISS: other tokens (a collision). */
/* Put: is the held record (with its image, if it is in RAM) the very blob that the unit brings? false when that cannot
 * be told without reading it: a blob of a prompt, or encoded otherwise, that is not in RAM. */
bool kvt_unit_same_blob(kvt_unit *unit, const kvt_record *record, const uint8_t *image, uint8_t *scratch);
kvt_status kvt_unit_drain(kvt_unit *unit, const kvt_record *record, uint8_t *image, uint8_t *scratch);

#endif
