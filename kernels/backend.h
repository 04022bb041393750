/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device implements. The registry has checked every argument (kvt_moves_check) before a method sees it, so a
 * backend checks nothing twice. Private to kernels/; the table of backends stands in kernels_registry.c.
 */
#ifndef KVT_BACKEND_H
#define KVT_BACKEND_H

#include "kernels/kernels.h"

enum { KVT_BACKEND_VERSION = 1, KVT_BACKEND_DEVICE_TEXT = sizeof(((kvt_backend_info *)0)->device) };

/* Rows for a vendor's gather or scatter operator: row k of the blob <-> row ids[k] of the pages. No holes. */
typedef struct kvt_rows {
    uint8_t *page;       /* address of row id 0 */
    uint8_t *blob;       /* row k at blob + k * row_bytes */
    const uint32_t *ids; /* count, host memory, valid during the call */
    uint64_t count;
    uint64_t row_bytes;
    int64_t page_stride; /* bytes per id */
} kvt_rows;

/*
 * One static const instance per backend. Methods may be called from any thread at the same time unless they say
 * otherwise. `context` is what open gave.
 *
 * A backend moves bytes in the best way it has: `move`, else `rows` where a page is one run (`copy` for the others),
 * else `copy` alone; the registry plans for the latter two. At least one of move and copy is there.
 */
typedef struct kvt_backend_ops {
    const char *name;
    uint32_t version; /* KVT_BACKEND_VERSION of the build */
    uint32_t caps;    /* KVT_BACKEND_* */

    /* How good a choice this is here, now; 0: cannot run, and why[] says so. Cheap, no lasting effect. Mandatory. */
    uint32_t (*score)(char *why, size_t why_bytes);
    /* KVT_OK, KVT_NOMEM, KVT_DEVICE, KVT_UNSUPPORTED. Mandatory; *out may be NULL for a backend without state. */
    kvt_status (*open)(const kvt_log *log, void **out);
    /* No move is under way. Optional: nothing to free. */
    void (*close)(void *context);
    /* A line about the device. Mandatory. */
    void (*describe)(void *context, char text[KVT_BACKEND_DEVICE_TEXT]);

    /* Start all moves and leave a fence, or finish them and leave fence->impl NULL. On KVT_DEVICE nothing is under way
     * any more. count >= 1. Optional. */
    kvt_status (*move)(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                       size_t count, void *stream, kvt_fence *fence);
    /* Queue one strip of rows on stream. Optional. */
    kvt_status (*rows)(void *context, kvt_direction direction, const kvt_rows *rows, void *stream);
    /* Queue one copy on stream; which side is device memory follows from direction. Optional if move is there. */
    kvt_status (*copy)(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes,
                       void *stream);
    /* Behind the last rows or copy of a call, also when one of them failed. Optional: they end before they return. */
    kvt_status (*fence_open)(void *context, void *stream, kvt_fence *fence);
    /* Block until done and release fence->impl (not NULL). Optional if no fence is ever left. */
    kvt_status (*fence_wait)(void *context, kvt_fence *fence);

    /* Optional pair: host memory needs no registration. */
    kvt_status (*host_register)(void *context, void *memory, uint64_t bytes);
    void (*host_unregister)(void *context, void *memory);

    /* Optional, together: pages are host memory. As the calls of kernels.h. */
    kvt_status (*pages_alloc)(void *context, uint64_t bytes, void **out);
    void (*pages_free)(void *context, void *pages, uint64_t bytes);
    kvt_status (*pages_copy)(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes);

    /* Optional, each: as the calls of kernels.h. Without fence_order a fence is not ordered: KVT_UNSUPPORTED. */
    kvt_status (*fence_order)(void *context, const kvt_fence *fence, void *stream);
    kvt_status (*tune)(void *context, const kvt_backend_tuning *tuning);
    void (*calibration)(void *context, char *text, size_t bytes);
    /* Scatter, and rotate the windows that the set names on the way; checked by kvt_rope_check(). As move otherwise.
     * Optional: kvt_backend_scatter_rope() then answers KVT_UNSUPPORTED where anything turns. */
    kvt_status (*scatter_rope)(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                               const kvt_rope_set *set, void *stream, kvt_fence *fence);
    /* True: this host has no such device at all, so that falling back to the next backend is no news. Optional. */
    bool (*absent)(void);
} kvt_backend_ops;

extern const kvt_backend_ops kvt_backend_portable;
extern const kvt_backend_ops kvt_backend_cpu;

/* The cpu backend's move with given inner loops, whatever the size (tests; kvt_backend_cpu chooses by size). */
struct kvt_cpu_copy;
void kvt_cpu_move(const struct kvt_cpu_copy *copy, const kvt_layout *layout, kvt_direction direction,
                  const kvt_move *moves, size_t count);

/* How an opened backend moves bytes, best first; BEST takes the first that it has. */
typedef enum kvt_rung {
    KVT_RUNG_BEST,
    KVT_RUNG_KERNELS, /* "kernels": move, and scatter_rope */
    KVT_RUNG_VENDOR,  /* "vendor": rows, and copy where rows do not fit; the registry plans */
    KVT_RUNG_COPIES   /* "copies": copy alone */
} kvt_rung;

/* Open a backend that is not in the table (tests; a vendor's operators). KVT_UNSUPPORTED too: it has no such rung. */
kvt_status kvt_backend_open_ops(const kvt_backend_ops *ops, kvt_rung rung, const kvt_log *log, kvt_backend **out);
/* As kvt_backend_open(), from a table of the caller's. */
kvt_status kvt_backend_open_from(const kvt_backend_ops *const *table, size_t count, const char *name,
                                 const kvt_log *log, kvt_backend **out);

#endif
