/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors for the page layouts that inference engines use. A layout is an order of dimensions; strides follow from
 * it. Nothing in the library branches on a layout: an engine may as well fill in kvt_group by hand (docs/layouts.md).
 */
#ifndef KVT_LAYOUT_NAMED_H
#define KVT_LAYOUT_NAMED_H

#include "kernels/kernels.h"

/* kvt_named_layout.flags */
enum {
    KVT_NAMED_LAYER_BASES = 1u << 0, /* one base a layer, although the layers share a pool */
    KVT_NAMED_SCALES = 1u << 1,      /* a page is [tokens x values][tokens x scales]: two views */
    KVT_NAMED_OPAQUE = 1u << 2       /* K and V are one opaque row of 2 x head_bytes */
};

/*
 * `order` names a page's dimensions from the outermost to the innermost: P plane, L layer, B page, T token, H head; the
 * bytes of a head follow. Dimensions left of '|' select a pointer, the outermost varying slowest in the table.
 */
typedef struct kvt_named_layout {
    const char *name;
    const char *order;
    const char *used_by;
    uint32_t planes;
    uint32_t flags;
} kvt_named_layout;

/* The numbers that a layout leaves open. */
typedef struct kvt_page_geometry {
    uint32_t layers;
    uint32_t page_tokens;
    uint32_t page_count;
    uint32_t heads;
    uint32_t head_bytes;    /* of one head of one token and plane: HS * E */
    uint32_t element_bytes; /* E */
    uint32_t scale_bytes;   /* per token; only with KVT_NAMED_SCALES */
    uint64_t page_bytes;    /* distance between pages of one pool; 0: tight; larger: padding, never touched */
} kvt_page_geometry;

/* A group without its bases, and the memory behind them: base i lies base_step * (i % bases_per_pool) bytes into pool
 * i / bases_per_pool. */
typedef struct kvt_named_pages {
    kvt_group group;
    uint32_t pool_count;
    uint32_t bases_per_pool;
    uint64_t pool_bytes;
    uint64_t base_step;
} kvt_named_pages;

/* NULL behind the last; NULL for an unknown name. */
const kvt_named_layout *kvt_named_layout_at(uint32_t i);
const kvt_named_layout *kvt_named_layout_by_name(const char *name);

/* KVT_INVALID: a number is 0 or overflows, page_bytes is too small, or order is not one; kvt_last_error() names it. */
kvt_status kvt_named_layout_build(const kvt_named_layout *layout, const kvt_page_geometry *geometry,
                                  kvt_named_pages *out);
/* Fill bases[0 .. group.base_count) from the pools' addresses and point the group at them. */
void kvt_named_pages_place(kvt_named_pages *pages, void *const *pools, void **bases);

#endif
