/* SPDX-License-Identifier: Apache-2.0
 *
 * Where records rest. A tier stores batches of opaque records and knows no GPU, no model and no codec. The engine owns
 * the index, so a tier answers by location, not by key; what a tier remembers across restarts it hands over when it is
 * opened.
 *
 * A record in memory is an image: one block of KVT_HEADER_BYTES that belongs to the tier (it may write there), followed
 * by the payload, zero-padded to a multiple of KVT_BLOCK_BYTES. Images start on KVT_BLOCK_BYTES inside the pool, so
 * that one transfer moves header and payload.
 */
#ifndef KVT_TIERS_H
#define KVT_TIERS_H

#include "engine/base/base.h"
#include "hash/hash.h"

enum {
    KVT_BLOCK_BYTES = 4096,
    KVT_HEADER_BYTES = 4096,
    KVT_RECORD_FRAMES_MAX = 72 /* payloads are at most 72 MiB: a 64 MiB blob and its tokens */
};
#define KVT_PAYLOAD_BYTES_MAX ((uint64_t)KVT_RECORD_FRAMES_MAX * KVT_FRAME_BYTES)

static inline uint64_t kvt_image_bytes(uint64_t payload_bytes)
{
    return KVT_HEADER_BYTES + kvt_align_up(payload_bytes, KVT_BLOCK_BYTES);
}

/* ---- records ---- */

/* kvt_record.flags, stored */
enum {
    KVT_RECORD_TOKENS = 1u << 0, /* the payload starts with a token section; token_fp is valid */
    KVT_RECORD_GROUPS_SHIFT = 8  /* bits 8..15: mask of groups in the blob; 0: opaque blob put by key */
};

/* What is known of a record without its payload. Stored with it, returned at open. */
typedef struct kvt_record {
    kvt_key space;
    kvt_key key;
    kvt_key parent;   /* all zero: none */
    kvt_hash128 hash; /* kvt_payload_hash of the stored payload */
    uint64_t token_fp;
    uint64_t raw_bytes;    /* of the decoded blob */
    uint64_t stored_bytes; /* of the payload: token section and encoded blob; 1..KVT_PAYLOAD_BYTES_MAX */
    uint32_t codec;
    uint32_t flags;
    uint32_t depth;
    uint32_t cost_us;
} kvt_record;

/* Where a tier put a record. Opaque to the engine, 16 bytes, never all zero for a stored record. */
typedef struct kvt_place {
    uint64_t where;
    uint64_t generation;
} kvt_place;
static inline bool kvt_place_equal(const kvt_place *a, const kvt_place *b)
{
    return a->where == b->where && a->generation == b->generation;
}

/* ---- operations ---- */

typedef enum kvt_tier_verb { KVT_TIER_READ = 0, KVT_TIER_WRITE = 1 } kvt_tier_verb;

/*
 * One read or write. Owned by the caller, must stay (with the image) until `done` was called; `done` is called exactly
 * once, on a thread of the tier or inside the submitting call, with no lock of the tier held; it must be short and may
 * submit.
 *
 * write  record and image (payload filled, padding zero) are read; image[0, KVT_HEADER_BYTES) is scratch of the tier.
 *        KVT_OK: place is set, every byte is acknowledged (durable_ack says what that means); on_stored was told.
 *        KVT_REJECTED: refused (writes off, no victim); KVT_NOSPACE; KVT_IO.
 * read   record (as known to the index: stored_bytes, hash) and place are read; payload lands behind the header block;
 *        verified against record->hash by the tier's caller, not by the tier: digests[] receives the stored frame
 *        digests when the tier keeps them, else digest_count is 0.
 *        KVT_MISS: the place holds another record by now; KVT_IO.
 */
typedef struct kvt_tier_op kvt_tier_op;
struct kvt_tier_op {
    kvt_tier_verb verb;
    kvt_status status;    /* out */
    int32_t system_error; /* out: errno of a failure, else 0 */
    uint32_t priority;    /* 1: before ordinary operations */
    kvt_record record;
    uint64_t digests[KVT_RECORD_FRAMES_MAX]; /* write in, read out */
    uint32_t digest_count;
    uint8_t *image;  /* kvt_image_bytes(record.stored_bytes), KVT_BLOCK_BYTES-aligned */
    kvt_place place; /* write out, read in */
    void (*done)(kvt_tier_op *op);
    void *arg;         /* of the submitter */
    kvt_tier_op *next; /* of whoever holds the op: submitter before, tier in between */
    uint64_t tier_private[4];
};

/* ---- what a tier needs from its host ---- */

typedef struct kvt_tier_host {
    void *arg;
    /* At open only, least to most recently used: a record that is there. false: the index is full, forget it. */
    bool (*on_recovered)(void *arg, const kvt_record *record, const kvt_place *place);
    /* Every byte of a record is acknowledged; called before `done`. */
    void (*on_stored)(void *arg, const kvt_record *record, const kvt_place *place);
    /* The record is about to go (evicted, or lost to damage); called before its space is reused. The host unpublishes
     * it. false: it is pinned or otherwise needed, choose another victim (not honoured for damage). Of the record,
     * space, key and stored_bytes are set; a tier need not remember more. */
    bool (*on_evict)(void *arg, const kvt_record *record, const kvt_place *place, bool damaged);
    /* May the record go? Asked for every record of a victim before any on_evict. */
    bool (*may_evict)(void *arg, const kvt_key *space, const kvt_key *key);
    uint64_t (*clock_ns)(void *arg); /* of ages */
    kvt_log log;
} kvt_tier_host;

typedef struct kvt_tier_options {
    const char *path;        /* store directory, exists */
    uint64_t bytes_max;      /* on disk, everything included */
    uint64_t segment_bytes;  /* file: of a new store; 0: by size */
    uint64_t blob_bytes_max; /* largest payload that must fit; 0: KVT_PAYLOAD_BYTES_MAX */
    uint32_t io;             /* kvt_io_kind */
    bool read_only;
    bool no_create;
    bool reset_corrupt;
    void *pool; /* memory images lie in, to register for direct I/O; may be NULL */
    uint64_t pool_bytes;
} kvt_tier_options;

/* kvt_tier_ops.caps */
enum {
    KVT_TIER_EVICTS_ITSELF = 1u << 0, /* a write makes its own room and tells on_evict */
    KVT_TIER_DURABLE_ACK = 1u << 1,   /* an acknowledged write survives the death of the process */
    KVT_TIER_RANGE_READ = 1u << 2,    /* reserved: reads of a part of the payload */
    KVT_TIER_PERSISTS = 1u << 3       /* records may be there after a clean close and reopen */
};

typedef struct kvt_tier kvt_tier; /* an open tier; each implementation embeds it first */

/* One implementation; a static const instance per file, listed in tiers_registry.c. Calls go through the wrappers
 * below, which check arguments once for all tiers. All methods mandatory unless marked. */
typedef struct kvt_tier_ops {
    uint32_t version; /* 1 */
    kvt_tier_id id;
    const char *name;
    uint32_t caps;
    kvt_status (*open)(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out);
    void (*close)(kvt_tier *tier);                     /* completes everything under way first */
    void (*submit)(kvt_tier *tier, kvt_tier_op *list); /* list linked by next; each op's done is called once */
    void (*drop)(kvt_tier *tier, const kvt_place *places, size_t count); /* forget; space may return later */
    /* Forget for good; see kvt_tier_erase. Optional: dropping is. */
    kvt_status (*erase)(kvt_tier *tier, const kvt_place *places, size_t count);
    void (*touch)(kvt_tier *tier, const kvt_place *places, size_t count); /* used now, in this order; optional */
    kvt_status (*flush)(kvt_tier *tier); /* block until all before is as durable as it gets; optional */
    void (*stats)(kvt_tier *tier, kvt_tier_stats *out);
} kvt_tier_ops;

struct kvt_tier {
    const kvt_tier_ops *ops;
    uint64_t payload_bytes_max; /* set by open: the largest it can ever take; 0: KVT_PAYLOAD_BYTES_MAX */
};

/* NULL: not built in. */
const kvt_tier_ops *kvt_tier_ops_by_id(kvt_tier_id id);
/* For tests: let a double stand in for a tier; NULL brings the real one back. Before any tier of that id is open. */
void kvt_tier_ops_replace(kvt_tier_id id, const kvt_tier_ops *ops);
/* Load the RocksDB tier's module, as opening such a tier does: KVT_OK and where it lies; KVT_UNSUPPORTED: it is not
 * there or does not fit, kvt_last_error() says where was looked. It stays loaded. */
kvt_status kvt_rocks_module_find(char *path, size_t bytes);
/* Which lower tier a store directory holds, looking at file names only: KVT_OK and *out, KVT_MISS: none. */
kvt_status kvt_tier_detect(const char *path, kvt_tier_id *out);

/* Open by id, checking the options. As kvt_open: KVT_MISS, KVT_BUSY, KVT_INVALID, KVT_NOMEM, KVT_NOSPACE, KVT_IO,
 * KVT_CORRUPT, KVT_VERSION, KVT_UNSUPPORTED. Blocks. on_recovered is called inside. */
kvt_status kvt_tier_open(kvt_tier_id id, const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out);
void kvt_tier_close(kvt_tier *tier);
/* Start operations. A malformed one (size, alignment, missing done) is completed at once with KVT_INVALID. */
void kvt_tier_submit(kvt_tier *tier, kvt_tier_op *list);
/* Forget, in this process; without I/O. A tier that persists may find the records again at the next open. */
void kvt_tier_drop(kvt_tier *tier, const kvt_place *places, size_t count);
/* Drop these, and let no later open find them nor anything that was dropped before: many at once cost little more than
 * one. Blocks for I/O. KVT_OK: whatever happens, none of them returns (file: their bytes are overwritten; rocks: values
 * stay, unreachable, until their generation goes). Else they are dropped only, and may return: KVT_REJECTED (read-only,
 * writes off), KVT_IO, KVT_BUSY; another call, also with no places, tries again. */
kvt_status kvt_tier_erase(kvt_tier *tier, const kvt_place *places, size_t count);
void kvt_tier_touch(kvt_tier *tier, const kvt_place *places, size_t count);
kvt_status kvt_tier_flush(kvt_tier *tier);
void kvt_tier_get_stats(kvt_tier *tier, kvt_tier_stats *out);

/* ---- the host pool: pinned RAM in extents of any size ---- */

typedef struct kvt_pool kvt_pool;

/* Map and touch a pool of bytes_max (>= 1 MiB). KVT_NOMEM. Blocks while it touches (thread_count threads). */
kvt_status kvt_pool_create(uint64_t bytes_max, uint32_t thread_count, const kvt_log *log, kvt_pool **out);
void kvt_pool_destroy(kvt_pool *pool); /* every extent must be free */
void *kvt_pool_base(const kvt_pool *pool, uint64_t *out_bytes);
kvt_page_kind kvt_pool_page_kind(const kvt_pool *pool);
/* An extent of bytes (rounded up to KVT_BLOCK_BYTES), block-aligned; NULL: no hole that large. Any thread; never
 * blocks. */
uint8_t *kvt_pool_take(kvt_pool *pool, uint64_t bytes);
/* Give back the end of an extent that turned out smaller. */
void kvt_pool_shrink(kvt_pool *pool, uint8_t *extent, uint64_t bytes);
void kvt_pool_give(kvt_pool *pool, uint8_t *extent);
uint64_t kvt_pool_used(const kvt_pool *pool);
uint64_t kvt_pool_largest(const kvt_pool *pool); /* largest hole */
/* Extents not given back yet: 0 when nothing leaks. */
uint64_t kvt_pool_extent_count(const kvt_pool *pool);

#endif
