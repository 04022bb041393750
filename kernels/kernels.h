/* SPDX-License-Identifier: Apache-2.0
 *
 * Moves KV between paged memory and contiguous blobs on a device. Knows layouts and devices; no tier, no engine.
 * Layouts, the fold rule and the planner: docs/layouts.md.
 */
#ifndef KVT_KERNELS_H
#define KVT_KERNELS_H

#include "engine/base/base.h"
#include "kernels/rope.h"

/* ---- layout: a space's groups, checked and normalised; immutable, shared by threads ---- */
typedef struct kvt_layout kvt_layout;

/* Check every group against overflow and its own bounds, copy bases, fold. KVT_INVALID with kvt_last_error() naming the
 * group, view and field. chunk_tokens must be a multiple of every group's page_tokens. */
kvt_status kvt_layout_create(const kvt_group *groups, uint32_t group_count, uint32_t chunk_tokens, kvt_layout **out);
void kvt_layout_destroy(kvt_layout *layout);

uint32_t kvt_layout_group_count(const kvt_layout *layout);
uint32_t kvt_layout_page_tokens(const kvt_layout *layout, uint32_t group);
uint32_t kvt_layout_page_count(const kvt_layout *layout, uint32_t group);
uint32_t kvt_layout_layer_count(const kvt_layout *layout, uint32_t group);
uint32_t kvt_layout_element_bytes(const kvt_layout *layout, uint32_t group); /* of its first view */
/* Blob bytes of `tokens` tokens of one group: layers x views x planes x tokens x heads x head_bytes. No overflow for
 * tokens <= chunk_tokens. */
uint64_t kvt_layout_group_bytes(const kvt_layout *layout, uint32_t group, uint32_t tokens);
/* The same of a descriptor that is not a layout yet; false on overflow. */
bool kvt_group_blob_bytes(const kvt_group *group, uint64_t tokens, uint64_t *out);

/* ---- one move: a group's segment of one blob <-> pages ---- */
typedef enum kvt_direction { KVT_GATHER = 0 /* pages -> blob */, KVT_SCATTER = 1 /* blob -> pages */ } kvt_direction;

typedef struct kvt_move {
    uint8_t *segment;      /* the group's bytes within the blob, [layer][view][plane][token][head][byte] */
    const uint32_t *pages; /* pages[t / page_tokens] holds token t of the chunk (token 0 starts a page); entries of
                              tokens outside the range are not read; KVT_PAGE_NONE entries are skipped */
    uint32_t group;
    uint32_t segment_tokens; /* tokens the segment holds: sets its strides */
    uint32_t token_begin;    /* move tokens [token_begin, token_begin + token_count) */
    uint32_t token_count;
    uint32_t layer_begin; /* and layers [layer_begin, layer_begin + layer_count) of the group */
    uint32_t layer_count;
} kvt_move;

/* ---- backends ---- */
typedef struct kvt_backend kvt_backend; /* an opened device; calls from any thread */

/* kvt_backend_info.caps */
enum {
    KVT_BACKEND_ASYNC = 1u << 0,  /* moves return before they end; wait for the fence */
    KVT_BACKEND_DEVICE = 1u << 1, /* pages live in device memory */
    KVT_BACKEND_PINS = 1u << 2    /* host memory should be registered with kvt_backend_host_register */
};
typedef struct kvt_backend_info {
    const char *name; /* "cpu", "portable", "cuda" */
    char device[96];  /* e.g. "AVX-512, 2 threads" or "NVIDIA H100 ..., sm_90" */
    uint32_t caps;
} kvt_backend_info;

/* Open by name; NULL or "auto": the best one usable here, with a warning to log when a better one that was built in is
 * not usable. Behind a colon how it is to move bytes, instead of the best way it has: "cpu:copies" one copy per
 * contiguous run, ":vendor" the vendor's row operators and copies, ":kernels" kernels of ours or nothing.
 * KVT_UNSUPPORTED: not built in, not usable here, or without that way; kvt_last_error() says which and why. */
kvt_status kvt_backend_open(const char *name, const kvt_log *log, kvt_backend **out);
void kvt_backend_close(kvt_backend *backend);
void kvt_backend_get_info(const kvt_backend *backend, kvt_backend_info *out);
/* Names of all backends built in, best first; NULL behind the last. */
const char *kvt_backend_name_at(uint32_t i);

/* A batch of moves under way on a device. Zero-initialise; one thread at a time. */
typedef struct kvt_fence {
    void *impl; /* NULL: nothing to wait for */
} kvt_fence;

/*
 * Start moves, in the order of the array (layers of one blob ascending). Page ids, ranges and groups are checked first:
 * KVT_INVALID touches nothing. On a device backend, gathers are ordered behind what the caller queued on `stream` so
 * far, and scatters are complete on `stream`'s device before the fence is done. Segments must stay until the fence is
 * done. KVT_DEVICE: the runtime failed; the fence is done, segments or pages may be partly written.
 */
kvt_status kvt_backend_move(kvt_backend *backend, const kvt_layout *layout, kvt_direction direction,
                            const kvt_move *moves, size_t count, void *stream, kvt_fence *fence);
/*
 * Scatter, and move keys that carry a rotary position from where they were stored to where they are wanted, on the way:
 * the blob stays as it is (rotate from the stored original; docs/rope.md). Any shift, in either direction; a move whose
 * shift is 0 is copied byte for byte, as is everything that no descriptor names. The set is read during the call only;
 * its tables must stay until the fence is done.
 *
 * Returns as kvt_backend_move(); KVT_INVALID too for a descriptor out of its bounds or a position that the table does
 * not know; KVT_UNSUPPORTED: the backend cannot rotate, nothing was moved.
 */
kvt_status kvt_backend_scatter_rope(kvt_backend *backend, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                    const kvt_rope_set *set, void *stream, kvt_fence *fence);

/* Block until done, release the fence. KVT_OK or KVT_DEVICE. */
kvt_status kvt_backend_fence_wait(kvt_backend *backend, kvt_fence *fence);

/* Queue a wait for the fence on `stream`: what is queued there later runs after the moves, without a thread that waits.
 * The fence stays to be waited for. KVT_OK (also when there is nothing to wait for), KVT_DEVICE, KVT_UNSUPPORTED. */
kvt_status kvt_backend_fence_order(kvt_backend *backend, const kvt_fence *fence, void *stream);

/* How a device moves between its pages and host memory. AUTO takes the cheapest by the calibration that the first open
 * of a device makes; the others are for measuring and for hosts that know better. */
typedef enum kvt_transport {
    KVT_TRANSPORT_AUTO = 0,
    KVT_TRANSPORT_COPIES = 1, /* one copy per contiguous run, by the copy engine */
    KVT_TRANSPORT_STAGED = 2, /* kernels from pages to a ring on the device, the copy engine from there, and back */
    KVT_TRANSPORT_DIRECT = 3  /* kernels reach into host memory themselves */
} kvt_transport;
typedef struct kvt_backend_tuning {
    uint32_t transport;           /* kvt_transport */
    uint32_t multiprocessors_max; /* that kernels between pages and host memory may fill at a time; 0: the default */
} kvt_backend_tuning;
/* No move may be under way. KVT_UNSUPPORTED: the backend has nothing to tune. KVT_INVALID. */
kvt_status kvt_backend_tune(kvt_backend *backend, const kvt_backend_tuning *tuning);
/* What the calibration found, as lines of text; empty for a backend without one. */
void kvt_backend_calibration(const kvt_backend *backend, char *text, size_t bytes);

/* Make host memory known to the device (no-op for CPU backends); unregister before it is unmapped. */
kvt_status kvt_backend_host_register(kvt_backend *backend, void *memory, uint64_t bytes);
void kvt_backend_host_unregister(kvt_backend *backend, void *memory);

/* Memory of the kind that this backend's pages live in, and blocking copies to (KVT_SCATTER) and from it (KVT_GATHER),
 * for tests, benches and tools that play the engine. Contents undefined. KVT_NOMEM, KVT_DEVICE. */
kvt_status kvt_backend_pages_alloc(kvt_backend *backend, uint64_t bytes, void **out);
void kvt_backend_pages_free(kvt_backend *backend, void *pages, uint64_t bytes);
kvt_status kvt_backend_pages_copy(kvt_backend *backend, kvt_direction direction, void *to, const void *from,
                                  uint64_t bytes);

#endif
