/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier: an embeddable store for the KV cache of language models.
 *
 * The model
 *   A prompt is cut into chunks of `chunk_tokens` tokens. A chunk is named by a key that covers its tokens and every
 *   token before it, so equal prefixes have equal keys. The keys and values of a chunk are gathered out of the caller's
 *   paged memory into one contiguous blob, which rests in tiers: pinned RAM (`host`), then files on NVMe (`file`) or
 *   RocksDB (`rocks`). When a later prompt starts with the same tokens, the blob is scattered into that prompt's pages.
 *   A space is a namespace (model, weights, geometry, rank, tenant); nothing crosses it.
 *
 * Lifecycle
 *   kvt_open -> kvt_space_open -> kvt_match / kvt_save / kvt_load / ... -> kvt_space_close -> kvt_close.
 *   kvt_save, kvt_load, kvt_prefetch, kvt_put and kvt_get return a ticket; each accepted ticket completes exactly once,
 *   through kvt_poll or kvt_wait; a refused call (status other than KVT_OK) has no ticket and never completes.
 *
 * Threads
 *   Every call may be made from any thread, at the same time, unless it says otherwise. Calls that may block say so.
 *
 * Ownership
 *   `T **out` gives to the caller; `const T *` is borrowed for the call. Exception, said where it holds: the pages and
 *   buffers of an accepted ticket belong to the engine until its completion, also after kvt_cancel.
 *
 * Caveats
 *   - Wrong bytes are never returned: a blob that fails its check is a miss. A cache may forget.
 *   - After fork() every call on the child's handle answers KVT_FORKED.
 *   - One process owns a store directory; the second gets KVT_BUSY.
 *   - XXH3 keys are for stores whose tenants trust one another; choose KVT_HASH_SHA256 otherwise.
 *
 * Options structs start with `struct_size` (sizeof in the caller's build); zero in any field means its default.
 */
#ifndef KVTIER_H
#define KVTIER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
template <typename T> static inline T kvt_init_of()
{
    T all_zero = T();
    all_zero.struct_size = sizeof(T);
    return all_zero;
}
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || !defined(__GNUC__)
#define KVT_API
#else
#define KVT_API __attribute__((visibility("default")))
#endif

#define KVT_RELEASE_MAJOR  0
#define KVT_RELEASE_MINOR  1
#define KVT_RELEASE_PATCH  0
#define KVT_RELEASE_NUMBER (KVT_RELEASE_MAJOR * 10000 + KVT_RELEASE_MINOR * 100 + KVT_RELEASE_PATCH)

/* ---------------------------------------------------------------- statuses */

#define KVT_STATUS_MAP(X)                                                                                              \
    X(OK, 0, "success")                                                                                                \
    X(MISS, 1, "not cached")                                                                                           \
    X(REJECTED, 2, "not stored: policy, quota, cancellation or a passed deadline")                                     \
    X(BUSY, 3, "a limit is reached or the store is in use; try again later")                                           \
    X(PARTIAL, 4, "only a leading part of the request was served")                                                     \
    X(QUOTA, 5, "the quota of the space leaves no room for it")                                                        \
    X(INVALID, -1, "an argument breaks the documented contract")                                                       \
    X(NOMEM, -2, "out of memory")                                                                                      \
    X(IO, -3, "a device or a file failed")                                                                             \
    X(NOSPACE, -4, "no room, even after eviction")                                                                     \
    X(CORRUPT, -5, "stored bytes fail their check")                                                                    \
    X(VERSION, -6, "written by a version, or with a feature, unknown to this build")                                   \
    X(EXISTS, -7, "the name is taken by something different")                                                          \
    X(DEVICE, -8, "the accelerator runtime failed")                                                                    \
    X(UNSUPPORTED, -9, "not built in, or not possible on this host")                                                   \
    X(FORKED, -10, "the handle was opened before fork()")                                                              \
    X(POISONED, -11, "an internal invariant broke earlier; close and open again")                                      \
    X(TIMEOUT, -12, "the deadline passed first")                                                                       \
    X(CANCELLED, -13, "cancelled by the caller")

/* Outcome of every fallible call: 0 success, positive an ordinary answer of a cache, negative a failure.
 * Released values are frozen; new ones are appended. */
typedef enum kvt_status {
#define KVT_X(name, value, text) KVT_##name = (value),
    KVT_STATUS_MAP(KVT_X)
#undef KVT_X
} kvt_status;

/* Name ("MISS") and text ("not cached") of a status. Static storage; an unknown value gives "UNKNOWN". */
KVT_API const char *kvt_status_name(kvt_status status);
KVT_API const char *kvt_status_text(kvt_status status);

/* Release of the library that is linked, as KVT_RELEASE_NUMBER, and as text with the built-in parts. */
KVT_API uint32_t kvt_version(void);
KVT_API const char *kvt_version_text(void);

/* ------------------------------------------------------- vocabulary, limits */

enum {
    KVT_KEY_BYTES = 16,
    KVT_GROUPS_MAX = 8,           /* groups of a space */
    KVT_VIEWS_MAX = 4,            /* views of a group */
    KVT_NAME_BYTES_MAX = 256,     /* model, revision, position, salt: strlen below this */
    KVT_CHUNK_TOKENS_MAX = 65536, /* tokens of a chunk */
    KVT_LOWER_TIERS_MAX = 1       /* lower tiers of an engine in this release */
};
#define KVT_BLOB_BYTES_MAX         (UINT64_C(64) << 20) /* a larger blob is refused */
#define KVT_BLOB_BYTES_DEFAULT_MAX (UINT64_C(32) << 20) /* the default chunk is halved to stay below */
#define KVT_PAGE_NONE              UINT32_C(0xffffffff) /* page id: no page here, touch nothing */

/* Names a chunk and everything before it, or (as a space's id) a space. Opaque bytes; docs/format_keys.md. */
typedef struct kvt_key {
    uint8_t bytes[KVT_KEY_BYTES];
} kvt_key;

typedef struct kvt_engine kvt_engine;
typedef struct kvt_space kvt_space;
typedef uint64_t kvt_ticket; /* never 0 for an accepted call */

/* frozen values: they appear in masks (1u << id) */
typedef enum kvt_tier_id { KVT_TIER_HOST = 0, KVT_TIER_FILE = 1, KVT_TIER_ROCKS = 2 } kvt_tier_id;
#define KVT_TIER_BIT(id) (UINT32_C(1) << (id))

typedef enum kvt_hash_id { KVT_HASH_XXH3 = 0, KVT_HASH_SHA256 = 1 } kvt_hash_id;

/* frozen values: stored in every record */
typedef enum kvt_codec_id {
    KVT_CODEC_RAW = 0,
    KVT_CODEC_ZSTD = 1,
    KVT_CODEC_XPACK = 2, /* fixed-rate packing of exponents: fast, for RAM */
    KVT_CODEC_RANS = 3   /* entropy coding of signs and exponents: denser, for disks */
} kvt_codec_id;

typedef enum kvt_log_level { KVT_LOG_ERROR = 0, KVT_LOG_WARN = 1, KVT_LOG_INFO = 2, KVT_LOG_DEBUG = 3 } kvt_log_level;

/* ------------------------------------------------------------------ opening */

/* kvt_options.flags */
enum {
    KVT_OPEN_READ_ONLY = 1u << 0,     /* look only: nothing on disk is changed; saves and puts are REJECTED */
    KVT_OPEN_WRITE_THROUGH = 1u << 1, /* saves and puts complete when the lower tier holds them; see promise P1 */
    KVT_OPEN_NO_BUDGET = 1u << 2,     /* ignore the write budget */
    KVT_OPEN_NO_CREATE = 1u << 3,     /* a missing store is KVT_MISS instead of being formatted */
    KVT_OPEN_RESET_CORRUPT = 1u << 4  /* a store whose root is unreadable is set aside and formatted anew */
};

/* which tier lies below RAM */
typedef enum kvt_lower {
    KVT_LOWER_DEFAULT = 0, /* what the store holds; a new store: file */
    KVT_LOWER_FILE = 1,    /* what it acknowledged survives the death of the process (promise P1) */
    KVT_LOWER_ROCKS = 2,   /* what it acknowledged since the last flush may be lost with the process */
    KVT_LOWER_NONE = 3     /* RAM only; store_path may be NULL */
} kvt_lower;

typedef enum kvt_io_kind { KVT_IO_AUTO = 0, KVT_IO_URING = 1, KVT_IO_POOL = 2 } kvt_io_kind;

/* What happened to a record of the lower tier; see kvt_options.on_event. */
typedef enum kvt_event_kind {
    KVT_EVENT_STORED = 1,  /* the lower tier holds the record; told before any completion says so */
    KVT_EVENT_EVICTING = 2 /* the record is about to leave the lower tier; told before its space is reused */
} kvt_event_kind;

typedef struct kvt_event {
    kvt_event_kind kind;
    kvt_key space;
    kvt_key key;
    uint64_t bytes; /* stored bytes */
} kvt_event;

/* How to open an engine. */
typedef struct kvt_options {
    uint32_t struct_size;         /* sizeof(kvt_options) in the caller's build */
    uint32_t flags;               /* KVT_OPEN_* */
    const char *store_path;       /* directory, created 0700 if missing; copied; NULL only with KVT_LOWER_NONE */
    uint32_t lower;               /* kvt_lower */
    uint32_t io;                  /* kvt_io_kind of the file tier */
    uint64_t host_bytes_max;      /* bytes of the pinned pool; default 256 MiB, 1 MiB..2 TiB */
    uint64_t disk_bytes_max;      /* bytes of the lower tier on disk; default 4 GiB; an existing store keeps its own */
    uint64_t segment_bytes;       /* of a new file tier; default by size, 1 MiB..1 GiB, power of two */
    uint64_t blob_bytes_max;      /* largest blob a new store must take; default 64 MiB. Less lets a small store have
                                     smaller segments, which keep more of what is used */
    uint64_t write_bytes_per_day; /* write budget; default: the store's capacity; see KVT_OPEN_NO_BUDGET */
    uint64_t index_entries_max;   /* records known at once; default by capacity */
    uint32_t worker_count;        /* threads that move and check blobs; default 2, 1..64 */
    uint32_t inflight_max;        /* tickets under way or not yet polled; default 256, 1..65536 */
    uint32_t lease_ms_max;        /* a lease or pin ends by itself after this; default 30000 */
    uint32_t close_ms_max;        /* what kvt_close may spend on flushing RAM to disk; default 10000 */
    const char *backend;          /* "auto" (NULL), "cuda", "cpu", "portable"; a forced one fails if unusable. Behind a
                                     colon how it moves bytes: "cpu:copies", ":vendor", ":kernels" */
    void (*log)(void *arg, kvt_log_level level,
                const char *message); /* any thread; must not call kvtier; may be NULL */
    void *log_arg;
    void (*on_event)(void *arg, const kvt_event *event); /* any thread; must not block or call kvtier; may be NULL */
    void *event_arg;
    uint64_t (*clock_ns)(
        void *arg); /* replaces the clock of budget and ages (not of deadlines); NULL: CLOCK_MONOTONIC */
    void *clock_arg;
} kvt_options;
#ifdef __cplusplus
#define KVT_OPTIONS_INIT kvt_init_of<kvt_options>()
#else
#define KVT_OPTIONS_INIT                                                                                               \
    {                                                                                                                  \
        .struct_size = sizeof(kvt_options)                                                                             \
    }
#endif

/*
 * Open an engine over one store directory.
 *
 * options  read during the call only; NULL means all defaults (and fails, since store_path is then missing).
 * out      receives the engine, owned by the caller until kvt_close(). Untouched on failure.
 *
 * Blocks   yes: reserves memory, starts threads, recovers the index from disk.
 * Returns  KVT_OK
 *          KVT_MISS         KVT_OPEN_NO_CREATE or KVT_OPEN_READ_ONLY and there is no store
 *          KVT_BUSY         another process owns the store; the log names its pid
 *          KVT_INVALID      an option is out of its bounds; the log names it
 *          KVT_NOMEM        host_bytes_max cannot be reserved
 *          KVT_NOSPACE      the disk cannot hold disk_bytes_max
 *          KVT_IO           store_path cannot be read or written
 *          KVT_CORRUPT      the root of the store is unreadable (see KVT_OPEN_RESET_CORRUPT)
 *          KVT_VERSION      written by a newer release; nothing was changed
 *          KVT_EXISTS       the store holds the other lower tier, or the directory holds foreign files
 *          KVT_UNSUPPORTED  the lower tier or backend asked for is not built in or not usable here
 */
KVT_API kvt_status kvt_open(const kvt_options *options, kvt_engine **out);

/* Finish what is under way (at most close_ms_max), flush, free. All spaces must be closed, no call in progress.
 * Tickets not yet polled are dropped. NULL is allowed. Never fails. Blocks. */
KVT_API void kvt_close(kvt_engine *engine);

/* Text of the last refusal or failure of a call of this thread: names the thing and the way out. Empty when the last
 * call had nothing to say. Valid until this thread's next call of kvtier. For asynchronous failures see kvt_completion.
 */
KVT_API const char *kvt_last_error(void);

/* ------------------------------------------------------------ pages, spaces */

/*
 * A strided box in the caller's paged memory: the planes (K and V, or one) of one width. The byte of
 * (plane p, layer l, page id i, token r within the page, head h, byte b < head_bytes) lies at
 *
 *   bases[p * base_plane + l * base_layer]
 *       + i * page_stride + p * plane_stride + l * layer_stride + r * token_stride + h * head_stride + offset + b
 *
 * Strides are in bytes and may be negative; a base_* of 0 means that dimension selects no pointer. In the blob the same
 * bytes lie dense as [layer][view][plane][token][head][head_bytes]. docs/layouts.md spells out the layouts of vLLM,
 * SGLang, TensorRT-LLM and others.
 */
typedef struct kvt_view {
    uint32_t plane_count;   /* 1 or 2 */
    uint32_t head_count;    /* >= 1 */
    uint32_t head_bytes;    /* contiguous bytes of one head of one token, >= 1 */
    uint32_t element_bytes; /* 1, 2, 4 or 8; divides head_bytes; for codecs and swapping, not for addressing */
    int64_t page_stride;
    int64_t plane_stride;
    int64_t layer_stride;
    int64_t token_stride;
    int64_t head_stride;
    int64_t offset;
    uint32_t base_plane;
    uint32_t base_layer;
} kvt_view;

/* Layers that share a geometry, and where their pages lie. Arrays are copied; the memory they point at is borrowed
 * until kvt_space_close(). */
typedef struct kvt_group {
    uint32_t layer_count; /* >= 1 */
    uint32_t page_tokens; /* tokens of a page, >= 1; the chunk must be a multiple */
    uint32_t page_count;  /* page ids must be below; 0: the group has no pages (put, get and match only) */
    uint32_t view_count;  /* 1..KVT_VIEWS_MAX */
    kvt_view views[KVT_VIEWS_MAX];
    void *const *bases; /* base_count pointers; NULL if page_count is 0 */
    uint32_t base_count;
    uint32_t reserved; /* 0 */
} kvt_group;

typedef struct kvt_space_options {
    uint32_t struct_size;
    uint32_t group_count; /* 0: a space for kvt_put and kvt_get only, of opaque blobs */
    const char *model;    /* required; all strings are copied */
    const char *revision; /* weights revision; NULL: "" */
    const char *dtype;    /* element type as the engine names it, e.g. "bf16"; NULL: "" */
    const char *position; /* position encoding, e.g. "rope-neox theta=500000"; NULL: "" */
    const char *salt;     /* tenant salt; only its digest is stored; NULL: "" */
    uint32_t rank;        /* tensor-parallel rank and how many there are; count 0 means 1 */
    uint32_t rank_count;
    uint32_t chunk_tokens;    /* 0: 256, halved until the blob is at most 32 MiB */
    uint32_t hash;            /* kvt_hash_id */
    uint32_t codec;           /* kvt_codec_id used for new records; any stored codec can be read */
    int32_t codec_level;      /* 0: the codec's default */
    uint64_t quota_bytes_max; /* stored bytes of this space over all tiers; see kvt_quota; 0: leave it as it is */
    const kvt_group *groups;
} kvt_space_options;
#ifdef __cplusplus
#define KVT_SPACE_OPTIONS_INIT kvt_init_of<kvt_space_options>()
#else
#define KVT_SPACE_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        .struct_size = sizeof(kvt_space_options)                                                                       \
    }
#endif

/*
 * Open a space. What names it (all but codec, quota, pages and strides) is hashed into its id and kept in the store as
 * text, so that the command can show it.
 *
 * Blocks   while a new description is written and synced.
 * Returns  KVT_OK
 *          KVT_INVALID      kvt_last_error() names the field; a blob over KVT_BLOB_BYTES_MAX, or over what the store's
 *                           segments hold, is answered with the chunk_tokens that would fit
 *          KVT_NOMEM
 *          KVT_IO           the description cannot be written
 *          KVT_BUSY         the store knows as many spaces as it can
 *          KVT_EXISTS       the store holds another description under this id
 *          KVT_UNSUPPORTED  SHA-256 is not built in
 */
KVT_API kvt_status kvt_space_open(kvt_engine *engine, const kvt_space_options *options, kvt_space **out);

/* Open a space of the store by its id, without pages: kvt_match, kvt_put, kvt_get, kvt_exists, kvt_remove, kvt_scan.
 * KVT_MISS if the store does not know it. */
KVT_API kvt_status kvt_space_find(kvt_engine *engine, const kvt_key *id, kvt_space **out);

/* Close a space; its records stay. No ticket of it may be under way. NULL is allowed. */
KVT_API void kvt_space_close(kvt_space *space);

typedef struct kvt_space_info {
    kvt_key id;
    uint32_t chunk_tokens;
    uint32_t hash;
    uint32_t group_count;
    uint32_t record_count;                /* of this space, all tiers */
    uint64_t blob_bytes;                  /* of a full chunk with all groups, uncompressed; 0 for opaque spaces */
    uint64_t group_bytes[KVT_GROUPS_MAX]; /* share of each group in blob_bytes */
    uint64_t stored_bytes;                /* of this space, all tiers, as stored */
    uint64_t quota_bytes_max;
    const char *text; /* the descriptor as stored; valid until kvt_space_close() */
} kvt_space_info;
KVT_API kvt_status kvt_space_get_info(kvt_space *space, kvt_space_info *out);

/* Ids of all spaces known to the store. Writes at most capacity; *out_count receives how many there are. */
KVT_API kvt_status kvt_space_list(kvt_engine *engine, kvt_key *ids, size_t capacity, size_t *out_count);

/* Keys of the full chunks of a prompt, in order. *out_count = token_count / chunk_tokens; writes at most capacity.
 * Needs no engine thread; never blocks. */
KVT_API kvt_status kvt_chunk_keys(const kvt_space *space, const uint32_t *tokens, uint64_t token_count, kvt_key *keys,
                                  size_t capacity, size_t *out_count);

/* ---------------------------------------------------------- matching, plans */

typedef struct kvt_match_result {
    uint64_t tokens;       /* longest held prefix, all tiers */
    uint64_t tokens_host;  /* of these, tokens whose chunk is in RAM */
    uint64_t tokens_lower; /* of these, tokens that must be read from the lower tier */
    uint64_t bytes_host;   /* stored bytes to move, per tier */
    uint64_t bytes_lower;
    uint64_t restore_ns; /* estimate from the live bandwidth of tiers and codec; 0 when nothing was measured yet */
    uint32_t chunks;
    uint32_t groups;             /* mask of groups present in every matched chunk */
    uint64_t tokens_leading;     /* of these, the leading tokens whose chunks are all in RAM */
    uint64_t restore_leading_ns; /* share of restore_ns for them; 0 when not measured */
} kvt_match_result;

/*
 * How much of a prompt is held. No I/O and no side effect: what leaves RAM or disk next is decided by loads and saves.
 * Returns KVT_OK, also when nothing is held; KVT_INVALID.
 */
KVT_API kvt_status kvt_match(kvt_space *space, const uint32_t *tokens, uint64_t token_count, kvt_match_result *out);

typedef struct kvt_plan_result {
    uint64_t tokens_restore; /* restore this prefix ... */
    uint64_t tokens_compute; /* ... and compute the rest */
    uint64_t restore_ns;     /* estimates; 0 where unknown */
    uint64_t compute_ns;
} kvt_plan_result;

/* Restore or recompute: of a match, the prefix worth restoring when the caller computes compute_tokens_per_second.
 * Pure; needs no engine. KVT_INVALID if the rate is not positive, an argument is NULL, or the match is longer than the
 * prompt. What was not measured counts as free: restore it and learn. */
KVT_API kvt_status kvt_plan(const kvt_match_result *match, uint64_t token_count, double compute_tokens_per_second,
                            kvt_plan_result *out);

/* ------------------------------------------------- save, load, prefetch */

/* kvt_request.flags */
enum {
    KVT_REQUEST_TAIL = 1u << 0,          /* also the last, partial chunk, under a key of exactly its tokens */
    KVT_REQUEST_WRITE_THROUGH = 1u << 1, /* this save completes when the lower tier holds it */
    KVT_REQUEST_PRIORITY = 1u << 2       /* before ordinary work in the engine's queues */
};

/* Pages of one group: ids[t / page_tokens] holds token t of the prompt. KVT_PAGE_NONE: not there, touch nothing. */
typedef struct kvt_page_list {
    const uint32_t *ids;
    uint32_t count; /* 0: this group is not moved */
    uint32_t reserved;
} kvt_page_list;

/*
 * A prompt and its pages. tokens and page lists are copied; the pages themselves belong to the engine until completion:
 * a save reads them, a load writes the range and nothing else.
 */
typedef struct kvt_request {
    uint32_t struct_size;
    uint32_t flags;
    const uint32_t *tokens; /* the prompt from its first token; needed for the keys */
    uint64_t token_count;
    uint64_t token_begin; /* the part to move; a load may start and end inside a chunk, a save covers whole chunks */
    uint64_t token_end;   /* 0: token_count */
    const kvt_page_list *pages; /* one per group of the space; not used by kvt_prefetch */
    uint32_t group_count;
    uint32_t layer_begin; /* load only: layers [layer_begin, layer_begin + layer_count) of each group, clipped; */
    uint32_t layer_count; /* 0: all */
    uint32_t cost_us;     /* save: the caller's estimate of computing one chunk; 0 unknown */
    void *stream;         /* device stream the pages are ordered on; NULL on the CPU backend */
    uint64_t timeout_ns;  /* from the call; 0: no deadline */
    uint64_t user_data;   /* given back in the completion */
} kvt_request;
#ifdef __cplusplus
#define KVT_REQUEST_INIT kvt_init_of<kvt_request>()
#else
#define KVT_REQUEST_INIT                                                                                               \
    {                                                                                                                  \
        .struct_size = sizeof(kvt_request)                                                                             \
    }
#endif

/*
 * Save the full chunks of [token_begin, token_end) that are not held yet.
 *
 * Blocks   no.
 * Returns  KVT_OK and a ticket; KVT_BUSY (inflight_max reached, nothing accepted); KVT_INVALID; KVT_REJECTED
 *          (read-only).
 *
 * Completes KVT_OK        every full chunk is held at this moment (with write-through: in the lower tier)
 *           KVT_PARTIAL   a leading part is; `tokens` says how many, from the first full chunk of the range on,
 *                         and `cause` why it ends there
 *           KVT_REJECTED  no leading part is; `cause` says why:
 *                         KVT_QUOTA     the space's quota; its own older records have made way as far as they could
 *                         KVT_NOSPACE   no room in RAM or index: all of it is leased, pinned or in use, or what was
 *                                       saved first had to make way for what came after it
 *                         KVT_REJECTED  the write budget, with write-through
 *                         KVT_EXISTS    another record is held under this key (other tokens, or other groups)
 *                         KVT_TIMEOUT, KVT_CANCELLED, KVT_IO, ...
 *
 * A held chunk of fewer groups is replaced when this save brings all of its groups and more.
 */
KVT_API kvt_status kvt_save(kvt_space *space, const kvt_request *request, kvt_ticket *out);

/*
 * Restore the held prefix of [token_begin, token_end) into the request's pages.
 *
 * Completes KVT_OK        all of it was restored, in every group that pages were named for
 *           KVT_PARTIAL   the tokens [token_begin, token_begin + tokens) were, in the groups of `groups`; what lies
 *                         behind, and those tokens in other groups, must be computed
 *           KVT_MISS      nothing was. Late, cancelled or damaged counts as not restored; `cause` says which.
 * Pages behind the restored prefix may hold anything within the request's range after KVT_PARTIAL or KVT_MISS; nothing
 * outside the range is ever written, and nothing at all after the completion.
 */
KVT_API kvt_status kvt_load(kvt_space *space, const kvt_request *request, kvt_ticket *out);

/* Bring the held prefix of the range into RAM. Completes like a load that moves no pages. */
KVT_API kvt_status kvt_prefetch(kvt_space *space, const kvt_request *request, kvt_ticket *out);

/* ------------------------------------------------------------------ by key */

/* One blob by key. The buffer belongs to the engine until the completion of its batch. */
typedef struct kvt_item {
    kvt_key key;
    void *buffer;      /* put: the bytes; get: receives them. Any alignment; not NULL */
    uint64_t bytes;    /* put: 1..KVT_BLOB_BYTES_MAX; get: size of the buffer in, size of the blob out (also when
                          the buffer was too small: status is then KVT_INVALID) */
    kvt_status status; /* out: KVT_OK, KVT_MISS, KVT_REJECTED, KVT_EXISTS (put of other bytes under a held key), ... */
    uint32_t tiers;    /* out: mask of tiers that hold it now */
} kvt_item;

typedef struct kvt_batch {
    uint32_t struct_size;
    uint32_t flags;  /* KVT_REQUEST_WRITE_THROUGH, KVT_REQUEST_PRIORITY */
    kvt_item *items; /* belongs to the engine until completion */
    uint32_t count;  /* 1..65536 */
    uint32_t reserved;
    uint64_t timeout_ns;
    uint64_t user_data;
} kvt_batch;
#ifdef __cplusplus
#define KVT_BATCH_INIT kvt_init_of<kvt_batch>()
#else
#define KVT_BATCH_INIT                                                                                                 \
    {                                                                                                                  \
        .struct_size = sizeof(kvt_batch)                                                                               \
    }
#endif

/* Store or fetch a batch of blobs from host memory. Completion: KVT_OK if every item is KVT_OK, KVT_PARTIAL if some
 * are, KVT_MISS (get) or KVT_REJECTED (put) if none is. */
KVT_API kvt_status kvt_put(kvt_space *space, const kvt_batch *batch, kvt_ticket *out);
KVT_API kvt_status kvt_get(kvt_space *space, const kvt_batch *batch, kvt_ticket *out);

/* Which tiers hold each key: masks[i] = 0 if none. No I/O. */
KVT_API kvt_status kvt_exists(kvt_space *space, const kvt_key *keys, size_t count, uint32_t *masks);

/*
 * Forget records, in all tiers and for good: no later open finds them. In the file tier their bytes are overwritten;
 * those of records that were evicted earlier lie in free segments until these are used again. In the rocks tier values
 * stay, unreachable, until their generation goes.
 *
 * Blocks   while that is done.
 * Returns  KVT_OK           *out_removed, which may be NULL, says how many were there
 *          KVT_MISS         none was
 *          KVT_BUSY         some are pinned, leased or in flight and stayed; or the disk did not answer
 *          KVT_REJECTED     the engine is read-only, nothing was removed; or the tier has stopped writing
 *          KVT_IO           the records are gone here, but may be back after a reopen: call again
 */
KVT_API kvt_status kvt_remove(kvt_space *space, const kvt_key *keys, size_t count, size_t *out_removed);

/* ---------------------------------------------------------- leases and pins */

/* A record held in RAM and kept there: read-only bytes of the decoded blob, or KVT_UNSUPPORTED if it is stored encoded.
 * Ends by kvt_lease_release or lease_ms_max after its start; the bytes may be used until then. */
typedef struct kvt_lease {
    const void *data;
    uint64_t bytes;
    uint64_t id; /* opaque */
} kvt_lease;
/* KVT_MISS when the record is not in RAM (prefetch it first). Never blocks. */
KVT_API kvt_status kvt_lease_acquire(kvt_space *space, const kvt_key *key, kvt_lease *out);
/* KVT_INVALID for an id that was released already or has passed its deadline. */
KVT_API kvt_status kvt_lease_release(kvt_space *space, kvt_lease *lease);

/* Keep records where they are for ttl_ms (at most lease_ms_max), or end that. Of two pins of a record the longer one
 * holds; one kvt_unpin ends both. */
KVT_API kvt_status kvt_pin(kvt_space *space, const kvt_key *keys, size_t count, uint32_t ttl_ms);
KVT_API kvt_status kvt_unpin(kvt_space *space, const kvt_key *keys, size_t count);

/* Drop RAM copies of records (writing them down first where admission allows it). KVT_BUSY for those in use. Blocks
 * while they are written, at most 30 s. */
KVT_API kvt_status kvt_evict(kvt_space *space, const kvt_key *keys, size_t count);
/* Forget every record of the space that is not in use, as kvt_remove does. *out_removed may be NULL. Blocks. */
KVT_API kvt_status kvt_clear(kvt_space *space, uint64_t *out_removed);
/* Change the quota of a space, for every handle of it; 0: none. Takes effect for later saves and puts: they forget
 * older records of the space to make room. A record asks for its size before encoding, and then counts as stored. */
KVT_API kvt_status kvt_quota(kvt_space *space, uint64_t quota_bytes_max);

/* -------------------------------------------------------------- completions */

typedef struct kvt_completion {
    kvt_ticket ticket;
    uint64_t user_data;
    kvt_status status;    /* see the call */
    kvt_status cause;     /* why it is not KVT_OK: KVT_TIMEOUT, KVT_CANCELLED, KVT_CORRUPT, KVT_IO, KVT_BUSY, ... */
    int32_t system_error; /* errno of the cause, 0 if none */
    uint32_t tiers;       /* mask: tiers that hold all of what was saved or served */
    uint32_t groups; /* load: groups whose named pages hold every restored token; save: groups held of all of them */
    uint32_t chunks;
    uint64_t tokens;       /* save, load, prefetch: tokens of the range that are held / restored, from its start */
    uint64_t bytes;        /* blob bytes of the chunks that were saved now, or that served */
    uint64_t bytes_lower;  /* stored bytes read from or written to the lower tier for this ticket */
    uint64_t tokens_host;  /* load: tokens served from RAM as it was at the call */
    uint64_t tokens_lower; /* load: tokens served from the lower tier */
    uint64_t elapsed_ns;
} kvt_completion;

/* Take up to capacity completions. Returns how many. Never blocks. */
KVT_API size_t kvt_poll(kvt_engine *engine, kvt_completion *out, size_t capacity);

/* Wait for one ticket and take its completion. KVT_TIMEOUT: not yet, still under way. KVT_INVALID: unknown, or taken by
 * kvt_poll. Blocks at most timeout_ns. */
KVT_API kvt_status kvt_wait(kvt_engine *engine, kvt_ticket ticket, uint64_t timeout_ns, kvt_completion *out);

/* A descriptor for poll(2) and the like, readable while completions wait. Owned by the engine: do not read or close
 * it. -1 if none could be made. */
KVT_API int kvt_eventfd(kvt_engine *engine);

/* Ask for an early end. The ticket still completes exactly once, soon: with what was done, or cause KVT_CANCELLED.
 * KVT_MISS if it has completed already. */
KVT_API kvt_status kvt_cancel(kvt_engine *engine, kvt_ticket ticket);

/* ------------------------------------------------------------ looking inside */

typedef struct kvt_record_info {
    kvt_key space;
    kvt_key key;
    kvt_key parent;     /* all zero: first chunk, or put by key */
    uint64_t raw_bytes; /* blob, decoded */
    uint64_t stored_bytes;
    uint32_t tiers; /* mask */
    uint32_t codec;
    uint32_t depth;  /* position of the chunk in its prompt */
    uint32_t groups; /* mask; 0: put by key, opaque */
    uint32_t has_tokens;
    uint32_t cost_us;
    uint32_t hits; /* small saturating counter */
    uint32_t pinned;
} kvt_record_info;

/*
 * Walk the records of an engine, or of one space (space not NULL). Start with *cursor = 0; the walk ends when it is 0
 * again. Every record present during the whole walk is seen exactly once; no I/O.
 */
KVT_API kvt_status kvt_scan(kvt_engine *engine, kvt_space *space, uint64_t *cursor, kvt_record_info *records,
                            size_t capacity, size_t *out_count);

/* Check records against their hash by reading them: the next batch of a walk as in kvt_scan. statuses[i] of
 * records[i]: KVT_OK, KVT_MISS (it has left meanwhile), KVT_IO, or KVT_CORRUPT: damaged, and dropped unless the engine
 * is read-only. Blocks. */
KVT_API kvt_status kvt_verify(kvt_engine *engine, kvt_space *space, uint64_t *cursor, kvt_record_info *records,
                              kvt_status *statuses, size_t capacity, size_t *out_count);

enum { KVT_HISTOGRAM_BUCKETS = 64 };
/* Latencies: bucket i counts durations of [2^(i/2), 2^((i+1)/2)) microseconds (half-octave steps, i even: exact
 * powers). */
typedef struct kvt_histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t buckets[KVT_HISTOGRAM_BUCKETS];
} kvt_histogram;

typedef struct kvt_tier_stats {
    uint32_t present; /* this tier is part of the engine */
    uint32_t state;   /* 0 on, 1 writes off, 2 off */
    char name[16];
    char detail[112]; /* e.g. "io_uring, direct, registered, huge pages" */
    uint64_t capacity_bytes;
    uint64_t used_bytes; /* physical, headers and padding included */
    uint64_t record_count;
    uint64_t record_bytes; /* stored bytes of live records */
    uint64_t read_bytes;   /* since open */
    uint64_t written_bytes;
    uint64_t read_ns; /* time during which at least one read was under way */
    uint64_t written_ns;
    uint64_t evicted_records;
    uint64_t evicted_bytes;
    uint64_t errors;
    uint64_t corrupt_records;
    uint64_t durable; /* power loss leaves sealed segments intact (promise P2) */
} kvt_tier_stats;

typedef struct kvt_stats {
    uint32_t struct_size; /* set by the caller: KVT_STATS_INIT */
    uint32_t health;      /* 0 healthy, 1 degraded: a tier is off or errors occurred */
    uint32_t space_count;
    uint32_t inflight;       /* tickets under way */
    kvt_tier_stats tiers[3]; /* by kvt_tier_id */
    uint64_t lookup_tokens;  /* kvt_match: asked, and held by tier (contiguous prefix) */
    uint64_t hit_tokens_host;
    uint64_t hit_tokens_lower;
    uint64_t saved_chunks, saved_bytes;   /* gathered into RAM */
    uint64_t loaded_chunks, loaded_bytes; /* scattered into pages */
    uint64_t rejected_chunks;             /* by quota, room or policy */
    uint64_t admission_skipped_chunks;    /* left RAM without being written: budget or filter */
    uint64_t collisions;                  /* same key, other tokens: answered as a miss */
    uint64_t load_failures;               /* chunks of loads that met damage, I/O errors or a deadline */
    uint64_t gather_bytes, gather_ns, scatter_bytes, scatter_ns, encode_bytes, encode_ns, decode_bytes, decode_ns,
        hash_bytes, hash_ns; /* per stage, summed over threads */
    uint64_t budget_tokens;  /* bytes the write budget still allows; UINT64_MAX without one */
    uint64_t live_bytes;     /* heap of the library */
    uint64_t pool_bytes;     /* pinned pool */
    char pool_pages[16];     /* "huge", "transparent", "small" */
    char backend[32];
    kvt_histogram save, load, put, get; /* call to completion */
} kvt_stats;
#ifdef __cplusplus
#define KVT_STATS_INIT kvt_init_of<kvt_stats>()
#else
#define KVT_STATS_INIT                                                                                                 \
    {                                                                                                                  \
        .struct_size = sizeof(kvt_stats)                                                                               \
    }
#endif
/* A consistent enough copy: counters are read one by one. */
KVT_API kvt_status kvt_get_stats(kvt_engine *engine, kvt_stats *out);

#ifdef __cplusplus
}
#endif
#endif
