/* SPDX-License-Identifier: Apache-2.0
 *
 * A paged KV memory as inference engines keep it, whose bytes are checked: every page holds poison unless it is in use,
 * what is saved is filled from the pattern, what is loaded is compared with it. Pages lie in host memory or in that of
 * a device; all access goes through the calls below, by page id. A device's pages have an image in host memory, which
 * is written before they are and read after they were.
 */
#ifndef KVT_PAGED_H
#define KVT_PAGED_H

#include "engine/base/base.h"
#include "tools/geometry.h"

typedef struct kvt_paged kvt_paged;

typedef struct kvt_paged_options {
    const char *layout; /* kvt_paged_layout_name_at() */
    uint32_t page_tokens;
    uint32_t page_count;         /* that can be taken; two more lie at the ends as guards */
    uint32_t chunk_tokens;       /* a multiple of page_tokens; sets the place of a byte in the pattern */
    uint64_t seed;               /* of the order in which pages are handed out */
    struct kvt_backend *backend; /* pages lie in its memory; stays the caller's, outlives them. NULL: host memory */
} kvt_paged_options;

/* The first byte that was not as expected. */
typedef struct kvt_wrong {
    uint64_t count; /* wrong bytes in all; the rest describes the first */
    uint32_t page;
    uint32_t layer;
    uint32_t plane;
    uint32_t token; /* within the chunk */
    uint64_t byte;  /* within the token's row; of the page when outside */
    uint8_t expected;
    uint8_t found;
    bool outside; /* it lies where nothing may be written */
} kvt_wrong;

/* Layouts: "flash" [layer][plane][page][token][head], "flashinfer" [layer][page][plane][token][head], "hnd"
 * [layer][plane][page][head][token], "cross-layer" [page][layer][plane][token][head], "split" one allocation for each
 * plane and layer, "padded": flashinfer with a gap behind each page. NULL behind the last. */
const char *kvt_paged_layout_name_at(uint32_t i);

/* KVT_INVALID names the field; KVT_NOMEM. All pages hold poison afterwards. */
kvt_status kvt_paged_create(const kvt_geometry *geometry, const kvt_paged_options *options, kvt_paged **out);
void kvt_paged_destroy(kvt_paged *paged);

/* The descriptor for kvt_space_options.groups; borrowed. */
const kvt_group *kvt_paged_group(const kvt_paged *paged);
uint32_t kvt_paged_pages_of_chunk(const kvt_paged *paged);
uint64_t kvt_paged_bytes(const kvt_paged *paged);
/* "huge", "transparent", "small": what the kernel gave. */
const char *kvt_paged_kind(const kvt_paged *paged);

/* Choose `count` different pages at random, in random order. Pages of an earlier call may be chosen again. */
void kvt_paged_take(kvt_paged *paged, uint32_t count, uint32_t *ids);

/* Pages hold poison again; or do they still, gaps included? */
void kvt_paged_poison(kvt_paged *paged, const uint32_t *ids, uint32_t count);
void kvt_paged_check_poison(const kvt_paged *paged, const uint32_t *ids, uint32_t count, kvt_wrong *wrong);
/* The same of the whole memory, guards included. */
void kvt_paged_check_poison_all(const kvt_paged *paged, kvt_wrong *wrong);

/* One chunk: ids are its pages in order. Fill tokens [begin, end) from the pattern of `seed`. */
void kvt_paged_fill(kvt_paged *paged, const uint32_t *ids, uint64_t seed, uint32_t begin, uint32_t end);
/* Tokens [0, loaded) must hold the pattern, the other tokens and the gaps poison. Adds to *wrong. */
void kvt_paged_check(const kvt_paged *paged, const uint32_t *ids, uint64_t seed, uint32_t loaded, kvt_wrong *wrong);

/* The same of a contiguous blob of `tokens` tokens, [layer][plane][token][head]: bytes as kvt_put takes and kvt_get
 * gives them. */
void kvt_blob_fill(const kvt_geometry *geometry, uint32_t chunk_tokens, uint64_t seed, uint32_t tokens, void *blob);
void kvt_blob_check(const kvt_geometry *geometry, uint32_t chunk_tokens, uint64_t seed, uint32_t tokens,
                    const void *blob, kvt_wrong *wrong);

/* "layer 1, plane 0, token 37, byte 12: expected 0x4f, found 0xa7". */
void kvt_wrong_text(const kvt_wrong *wrong, char *text, size_t bytes);

#endif
