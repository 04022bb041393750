/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's own map. Each unit below owns its state and its lock; others call its functions.
 *
 * Lock order, outermost first: requests -> index shard -> ram -> pool. Workers' queue, spaces, leases, admission and
 * counters are leaves: nothing is called while they are held. No lock is held across I/O, a callback or a wait.
 */
#ifndef KVT_ENGINE_INT_H
#define KVT_ENGINE_INT_H

#include "compress/compress.h"
#include "engine/index.h"
#include "engine/policy.h"
#include "kernels/kernels.h"
#include "tiers/tiers.h"

#include <pthread.h>

typedef struct kvt_unit kvt_unit;
typedef struct kvt_job kvt_job;
typedef struct kvt_ram kvt_ram;
typedef struct kvt_workers kvt_workers;
typedef struct kvt_requests kvt_requests;
typedef struct kvt_spaces kvt_spaces;
typedef struct kvt_leases kvt_leases;

enum {
    KVT_UNITS_MAX = 256,  /* chunks under way at once, over all tickets */
    KVT_WRITERS_MAX = 64, /* records on their way from RAM to the lower tier because RAM needs room */
    KVT_SPACES_MAX = 1024,
    KVT_LEASES_MAX = 1024,
    KVT_TOKEN_ALIGN = 64 /* the blob behind a token section starts on this */
};

/* Counters, relaxed: nothing is published through them. */
typedef struct kvt_counters {
    _Atomic uint64_t lookup_tokens, hit_tokens_host, hit_tokens_lower;
    _Atomic uint64_t saved_chunks, saved_bytes, loaded_chunks, loaded_bytes;
    _Atomic uint64_t rejected_chunks, admission_skipped_chunks, collisions, load_failures;
    _Atomic uint64_t gather_bytes, gather_ns, scatter_bytes, scatter_ns;
    _Atomic uint64_t encode_bytes, encode_ns, decode_bytes, decode_ns, hash_bytes, hash_ns;
    _Atomic uint64_t host_evicted_records, host_evicted_bytes, corrupt_records;
    _Atomic uint64_t host_records, host_record_bytes;
    kvt_histogram save, load, put, get; /* through kvt_histogram_record, which is atomic */
} kvt_counters;

static inline void kvt_count(_Atomic uint64_t *counter, uint64_t add)
{
    atomic_fetch_add_explicit(counter, add, memory_order_relaxed);
}
static inline void kvt_uncount(_Atomic uint64_t *counter, uint64_t sub)
{
    atomic_fetch_sub_explicit(counter, sub, memory_order_relaxed);
}

struct kvt_engine {
    kvt_options options;        /* every field set; strings below are owned */
    char *store_path;           /* NULL: RAM only */
    bool made_dir;              /* by this open */
    _Atomic uint32_t room_hand; /* make_room.c: where the next search begins */
    uint64_t index_entries;
    kvt_log log;
    kvt_index *index;
    kvt_pool *pool;
    kvt_backend *backend;
    uint32_t backend_caps;
    kvt_tier *lower; /* NULL: RAM only */
    kvt_tier_id lower_id;
    uint32_t lower_caps;
    kvt_admission *admission;
    int64_t budget_kept; /* what stands in the budget's file; housekeeping, and open and close around it */
    kvt_ram *ram;
    kvt_workers *workers;
    kvt_requests *requests;
    kvt_spaces *spaces;
    kvt_leases *leases;
    kvt_counters counters;
    _Atomic bool forked;   /* set in the child by the fork handler */
    kvt_engine *next_open; /* list of the fork handler */
};

/* KVT_OK, KVT_INVALID for NULL, KVT_FORKED in a child: the first line of every public call. Clears the last error. */
kvt_status kvt_engine_enter(const kvt_engine *engine);
/* The clock of budget and ages. */
uint64_t kvt_engine_clock(const kvt_engine *engine);

/* options.c: copy what the caller's struct holds over the defaults, check bounds. */
kvt_status kvt_options_resolve(const kvt_options *given, kvt_options *out);
/* Copy a sized struct of the caller; an unknown tail must be zero. `what` names it in errors. */
kvt_status kvt_options_copy(const void *given, uint32_t given_bytes, void *out, uint32_t known_bytes, const char *what);

/* ---- worker.c: threads that run jobs ---- */
struct kvt_job {
    kvt_job *next;
    void (*run)(kvt_job *job, uint8_t *scratch); /* scratch: KVT_BLOB_BYTES_MAX bytes of the worker */
};
kvt_status kvt_workers_create(uint32_t thread_count, kvt_workers **out);
void kvt_workers_destroy(kvt_workers *workers); /* runs what is queued first */
void kvt_workers_push(kvt_workers *workers, kvt_job *job, bool urgent);

/* ---- ram.c: room in the pinned pool ---- */
kvt_status kvt_ram_create(kvt_engine *engine, kvt_ram **out);
void kvt_ram_destroy(kvt_ram *ram);
/* An extent for a unit. KVT_BUSY: parked, the unit's job is pushed when there may be room. KVT_NOSPACE: everything is
 * pinned or leased. The extent counts as moving until kvt_ram_settle or kvt_ram_give. */
kvt_status kvt_ram_take(kvt_engine *engine, kvt_unit *unit, uint64_t bytes, uint8_t **out);
void kvt_ram_give(kvt_engine *engine, uint8_t *extent); /* an extent that holds no entry's copy */
/* With the entry's shard locked: its image, filled, becomes a copy that may be evicted. */
void kvt_ram_publish(kvt_engine *engine, kvt_entry *entry);
/* With the shard locked: take the copy away from the entry; the caller gives the image back after the unlock. */
uint8_t *kvt_ram_unpublish(kvt_engine *engine, kvt_entry *entry);
void kvt_ram_touch(kvt_engine *engine, const uint32_t *ids, size_t count); /* in this order */
void kvt_ram_hold(kvt_engine *engine);    /* a unit uses a copy that is there: it counts as moving */
void kvt_ram_release(kvt_engine *engine); /* the end of take or hold; wakes who waits for room */
/* Evict one copy now: KVT_OK gone or on its way, KVT_MISS not there, KVT_BUSY in use. */
kvt_status kvt_ram_evict(kvt_engine *engine, uint32_t space, const kvt_key *key);
/* Write down everything that only RAM holds, hottest first, until deadline_ns. */
void kvt_ram_flush(kvt_engine *engine, uint64_t deadline_ns);
void kvt_ram_wait_writers(kvt_engine *engine, uint64_t deadline_ns);
uint64_t kvt_ram_used(kvt_engine *engine);
uint32_t kvt_ram_hits(kvt_engine *engine, uint32_t id); /* touches of a copy since it came */
void kvt_ram_give_all(kvt_engine *engine);              /* at close: every copy goes */

/* ---- lower.c: the lower tier's view of the engine, and record images ---- */
kvt_status kvt_lower_open(kvt_engine *engine, bool *out_fresh); /* fresh: the store was made just now */
void kvt_lower_close(kvt_engine *engine);
/* Digest the payload of an image and set record->hash. */
void kvt_image_digest(kvt_engine *engine, kvt_tier_op *op);
/* Read back, check: KVT_OK, KVT_CORRUPT. */
kvt_status kvt_image_check(kvt_engine *engine, kvt_tier_op *op);
/* With the shard locked: nothing uses, moves or pins it. */
bool kvt_entry_is_idle(const kvt_entry *entry);
/* With the shard locked, which is unlocked: take an idle entry out of every tier. false: it was not idle, or NULL. */
bool kvt_entry_forget(kvt_engine *engine, kvt_entry *entry);
/* Bytes of the token section of a payload of that many tokens; 0 for none. */
uint64_t kvt_section_bytes(uint32_t tokens);
/* Bytes of the token section of a checked payload, as it says itself; 0 for none, UINT64_MAX when it does not fit. */
uint64_t kvt_payload_section_bytes(const kvt_record *record, const uint8_t *payload);
void kvt_entry_to_record(const kvt_engine *engine, const kvt_entry *entry, kvt_record *out);
/* Damage or loss below: unpublish the lower copy and drop it there. */
void kvt_lower_forget(kvt_engine *engine, uint32_t space, const kvt_key *key, const kvt_place *place);

/* ---- store_dir.c: the store directory itself, and the text in it that keeps the write budget ---- */
/* *out_made: there was none. */
kvt_status kvt_store_dir_make(const kvt_options *options, bool *out_made);
/* Sizes of all files in it, down to its subdirectories: no less than what a tier keeps there. 0 when there is none. */
uint64_t kvt_store_dir_bytes(const char *path);
/* Take over what an earlier run left of the budget; call once at open. */
void kvt_budget_load(kvt_engine *engine, bool fresh);
/* Write down what a crash would leave of it, when that has changed much; called by the housekeeping thread. */
void kvt_budget_keep(kvt_engine *engine);
void kvt_budget_save(kvt_engine *engine); /* at close: all of it */

/* ---- lease.c ---- */
kvt_status kvt_leases_create(kvt_leases **out);
void kvt_leases_destroy(kvt_leases *leases);
/* End what passed its deadline; called by the housekeeping thread. */
void kvt_leases_expire(kvt_engine *engine, uint64_t now_ns);

#endif
