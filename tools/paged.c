/* SPDX-License-Identifier: Apache-2.0
 *
 * Every layout is a number of slabs: page i of a slab is the `page_stride` bytes at slab + i * page_stride, gap
 * included. So poison is laid and checked slab by slab, whatever the order of dimensions inside; the pattern goes by
 * the same strides that the engine gets.
 */
#include "tools/paged.h"
#include "kernels/kernels.h" /* pages on a device */
#include "tools/pattern.h"

#include <inttypes.h>
#include <stdio.h>

enum { PAGE_GAP_BYTES = 256, GUARD_PAGES = 2, PAGES_MAX = 1 << 26 };
#define MEMORY_BYTES_MAX (UINT64_C(1) << 42)

struct kvt_paged {
    kvt_geometry geometry;
    kvt_group group;
    void **bases; /* of memory, and behind them those that the group is told */
    uint8_t *memory;
    kvt_backend *backend; /* NULL: the pages are memory itself */
    uint8_t *device;      /* the pages; memory is their image */
    uint64_t bytes;       /* of the slabs */
    uint64_t mapped_bytes;
    kvt_page_kind kind;
    uint64_t slab_bytes; /* page_count * page_stride */
    uint64_t used_bytes; /* of a page in a slab; the rest of the stride is gap */
    uint32_t slab_count;
    uint32_t page_count; /* guards included */
    uint32_t chunk_tokens;
    uint32_t *order; /* page ids that can be taken, shuffled as they are taken */
    uint64_t random;
    bool dense; /* rows of a page follow each other */
};

/* How a layout cuts the memory: what selects a slab, what lies inside its pages. */
typedef struct layout {
    const char *name;
    bool layer_slabs; /* each layer has slabs of its own */
    bool plane_slabs; /* and each plane */
    bool plane_bases; /* planes are selected by pointer, not by stride */
    bool head_major;
    uint32_t gap_bytes; /* behind each page */
} layout;

static const layout LAYOUTS[] = {
    {.name = "flash", .layer_slabs = true, .plane_slabs = true},
    {.name = "flashinfer", .layer_slabs = true},
    {.name = "hnd", .layer_slabs = true, .plane_slabs = true, .head_major = true},
    {.name = "cross-layer"},
    {.name = "split", .layer_slabs = true, .plane_slabs = true, .plane_bases = true},
    {.name = "padded", .layer_slabs = true, .gap_bytes = PAGE_GAP_BYTES},
};
enum { LAYOUT_COUNT = sizeof LAYOUTS / sizeof LAYOUTS[0] };

const char *kvt_paged_layout_name_at(uint32_t i) { return i < LAYOUT_COUNT ? LAYOUTS[i].name : NULL; }

static const layout *find_layout(const char *name)
{
    for (uint32_t i = 0; i < LAYOUT_COUNT; i++)
        if (strcmp(LAYOUTS[i].name, name) == 0)
            return &LAYOUTS[i];
    return NULL;
}

/* ---- creation ---- */

static void set_strides(kvt_paged *paged, const layout *l, uint32_t page_tokens)
{
    const kvt_geometry *g = &paged->geometry;
    uint64_t row = kvt_geometry_row_bytes(g);
    uint64_t block = row * page_tokens;
    uint32_t planes_inside = l->plane_slabs ? 1 : g->plane_count;
    uint32_t layers_inside = l->layer_slabs ? 1 : g->layer_count;
    paged->used_bytes = block * planes_inside * layers_inside;
    uint64_t stride = paged->used_bytes + l->gap_bytes;
    paged->slab_bytes = stride * paged->page_count;
    paged->slab_count = g->layer_count / layers_inside * (g->plane_count / planes_inside);
    paged->bytes = paged->slab_bytes * paged->slab_count;
    paged->dense = !l->head_major || g->head_count == 1;

    kvt_view *view = &paged->group.views[0];
    *view = (kvt_view){.plane_count = g->plane_count,
                       .head_count = g->head_count,
                       .head_bytes = g->head_bytes,
                       .element_bytes = g->element_bytes,
                       .page_stride = (int64_t)stride,
                       .token_stride = (int64_t)(l->head_major ? g->head_bytes : row),
                       .head_stride = (int64_t)(l->head_major ? (uint64_t)g->head_bytes * page_tokens : g->head_bytes)};
    if (!l->plane_bases)
        view->plane_stride = (int64_t)(l->plane_slabs ? paged->slab_bytes : block);
    if (!l->layer_slabs)
        view->layer_stride = (int64_t)(block * planes_inside);
    view->base_layer = l->layer_slabs ? 1 : 0;
    view->base_plane = l->plane_bases ? g->layer_count : 0;
}

/* Base pointers: one a layer, one a plane and layer, or one for all. */
static kvt_status set_bases(kvt_paged *paged, const layout *l)
{
    const kvt_geometry *g = &paged->geometry;
    uint32_t layers = l->layer_slabs ? g->layer_count : 1;
    uint32_t planes = l->plane_bases ? g->plane_count : 1;
    uint8_t *told = paged->device != NULL ? paged->device : paged->memory;
    paged->bases = kvt_alloc_array((size_t)layers * planes * 2, sizeof *paged->bases);
    if (paged->bases == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for page tables");
    uint32_t slabs_of_layer = l->plane_slabs ? g->plane_count : 1;
    for (uint32_t plane = 0; plane < planes; plane++)
        for (uint32_t layer = 0; layer < layers; layer++) {
            uint64_t at = ((uint64_t)layer * slabs_of_layer + plane) * paged->slab_bytes;
            paged->bases[plane * layers + layer] = paged->memory + at;
            paged->bases[(planes + plane) * layers + layer] = told + at;
        }
    paged->group.bases = paged->bases + (size_t)layers * planes;
    paged->group.base_count = layers * planes;
    return KVT_OK;
}

static kvt_status map_memory(kvt_paged *paged)
{
    paged->mapped_bytes = kvt_align_up(paged->bytes, KVT_HUGE_PAGE_BYTES);
    paged->memory = kvt_pages_map(paged->mapped_bytes, &paged->kind);
    if (paged->memory == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for %" PRIu64 " MiB of pages; use fewer layers or a smaller --page-bytes",
                        paged->bytes >> 20);
    kvt_poison_fill(paged->memory, paged->mapped_bytes);
    paged->kind = kvt_pages_kind_of(paged->memory, paged->mapped_bytes, paged->kind);
    if (paged->backend == NULL)
        return KVT_OK;
    void *device = NULL;
    KVT_TRY(kvt_backend_pages_alloc(paged->backend, paged->mapped_bytes, &device));
    paged->device = device;
    return kvt_backend_pages_copy(paged->backend, KVT_SCATTER, device, paged->memory, paged->mapped_bytes);
}

static kvt_status set_order(kvt_paged *paged)
{
    uint32_t count = paged->page_count - GUARD_PAGES;
    paged->order = kvt_alloc_array(count, sizeof *paged->order);
    if (paged->order == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for page tables");
    for (uint32_t i = 0; i < count; i++)
        paged->order[i] = i + 1; /* page 0 and the last one are guards */
    return KVT_OK;
}

static kvt_status check_options(const kvt_geometry *geometry, const kvt_paged_options *options)
{
    if (find_layout(options->layout) == NULL)
        return kvt_fail(KVT_INVALID,
                        "layout \"%.32s\" is not known: use flash, flashinfer, hnd, cross-layer, split or padded",
                        options->layout);
    if (options->page_tokens == 0 || options->chunk_tokens == 0 || options->chunk_tokens % options->page_tokens != 0)
        return kvt_fail(KVT_INVALID, "page tokens (%u) must divide the chunk (%u tokens)", options->page_tokens,
                        options->chunk_tokens);
    uint64_t bytes = kvt_geometry_token_bytes(geometry) * options->page_tokens;
    if (options->page_count == 0 || options->page_count > PAGES_MAX || bytes > MEMORY_BYTES_MAX / options->page_count)
        return kvt_fail(KVT_INVALID, "%u pages of %" PRIu64 " bytes are too many", options->page_count, bytes);
    return KVT_OK;
}

kvt_status kvt_paged_create(const kvt_geometry *geometry, const kvt_paged_options *options, kvt_paged **out)
{
    KVT_TRY(check_options(geometry, options));
    const layout *l = find_layout(options->layout);
    kvt_paged *paged = kvt_alloc(sizeof *paged);
    if (paged == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for pages");
    paged->geometry = *geometry;
    paged->page_count = options->page_count + GUARD_PAGES;
    paged->chunk_tokens = options->chunk_tokens;
    paged->random = options->seed;
    paged->backend = options->backend;
    paged->group.layer_count = geometry->layer_count;
    paged->group.page_tokens = options->page_tokens;
    paged->group.page_count = paged->page_count;
    paged->group.view_count = 1;
    set_strides(paged, l, options->page_tokens);
    kvt_status status = map_memory(paged);
    if (status == KVT_OK)
        status = set_bases(paged, l);
    if (status == KVT_OK)
        status = set_order(paged);
    if (status != KVT_OK) {
        kvt_paged_destroy(paged);
        return status;
    }
    *out = paged;
    return KVT_OK;
}

void kvt_paged_destroy(kvt_paged *paged)
{
    if (paged == NULL)
        return;
    if (paged->device != NULL)
        kvt_backend_pages_free(paged->backend, paged->device, paged->mapped_bytes);
    if (paged->memory != NULL)
        kvt_pages_unmap(paged->memory, paged->mapped_bytes);
    kvt_free(paged->bases);
    kvt_free(paged->order);
    kvt_free(paged);
}

const kvt_group *kvt_paged_group(const kvt_paged *paged) { return &paged->group; }
uint32_t kvt_paged_pages_of_chunk(const kvt_paged *paged) { return paged->chunk_tokens / paged->group.page_tokens; }
uint64_t kvt_paged_bytes(const kvt_paged *paged) { return paged->bytes; }

const char *kvt_paged_kind(const kvt_paged *paged)
{
    static const char *const names[] = {"small", "transparent", "huge"};
    return names[paged->kind];
}

void kvt_paged_take(kvt_paged *paged, uint32_t count, uint32_t *ids)
{
    uint32_t free_count = paged->page_count - GUARD_PAGES;
    for (uint32_t i = 0; i < count; i++) {
        paged->random = kvt_pattern_chain(paged->random, i);
        uint32_t j = i + (uint32_t)(paged->random % (free_count - i));
        uint32_t id = paged->order[j];
        paged->order[j] = paged->order[i];
        paged->order[i] = id;
        ids[i] = id;
    }
}

/* ---- pages on a device and their image ---- */

static uint8_t *slab_page(const kvt_paged *paged, uint32_t slab, uint32_t id)
{
    return paged->memory + slab * paged->slab_bytes + (uint64_t)paged->group.views[0].page_stride * id;
}

static bool image_copy(const kvt_paged *paged, kvt_direction direction, uint8_t *image, uint64_t bytes)
{
    uint8_t *page = paged->device + (image - paged->memory);
    return kvt_backend_pages_copy(paged->backend, direction, direction == KVT_SCATTER ? page : image,
                                  direction == KVT_SCATTER ? image : page, bytes) == KVT_OK;
}

/* These pages, gaps included: the image to the device (KVT_SCATTER) or back. */
static bool sync_pages(const kvt_paged *paged, kvt_direction direction, const uint32_t *ids, uint32_t count)
{
    bool ok = true;
    for (uint32_t slab = 0; paged->device != NULL && slab < paged->slab_count; slab++)
        for (uint32_t i = 0; i < count; i++)
            ok = image_copy(paged, direction, slab_page(paged, slab, ids[i]),
                            (uint64_t)paged->group.views[0].page_stride) &&
                 ok;
    return ok;
}

/* What could not be read is wrong. */
static void note_unread(kvt_wrong *wrong)
{
    if (wrong->count == 0)
        *wrong = (kvt_wrong){.outside = true};
    wrong->count++;
}

/* ---- poison ---- */

void kvt_paged_poison(kvt_paged *paged, const uint32_t *ids, uint32_t count)
{
    for (uint32_t slab = 0; slab < paged->slab_count; slab++)
        for (uint32_t i = 0; i < count; i++)
            kvt_poison_fill(slab_page(paged, slab, ids[i]), (size_t)paged->group.views[0].page_stride);
    sync_pages(paged, KVT_SCATTER, ids, count); /* what did not arrive, a check finds */
}

static void note_outside(kvt_wrong *wrong, uint64_t count, uint32_t page, uint64_t byte, uint8_t found)
{
    if (count != 0 && wrong->count == 0)
        *wrong = (kvt_wrong){.page = page, .byte = byte, .expected = KVT_POISON_BYTE, .found = found, .outside = true};
    wrong->count += count;
}

/* Bytes [begin, end) of one page of one slab. */
static void check_slab_poison(const kvt_paged *paged, uint32_t slab, uint32_t id, uint64_t begin, kvt_wrong *wrong)
{
    const uint8_t *page = slab_page(paged, slab, id);
    uint64_t first = 0;
    uint64_t count = kvt_poison_check(page + begin, (size_t)paged->group.views[0].page_stride - begin, &first);
    note_outside(wrong, count, id, begin + first, count != 0 ? page[begin + first] : 0);
}

void kvt_paged_check_poison(const kvt_paged *paged, const uint32_t *ids, uint32_t count, kvt_wrong *wrong)
{
    if (!sync_pages(paged, KVT_GATHER, ids, count))
        note_unread(wrong);
    for (uint32_t slab = 0; slab < paged->slab_count; slab++)
        for (uint32_t i = 0; i < count; i++)
            check_slab_poison(paged, slab, ids[i], 0, wrong);
}

void kvt_paged_check_poison_all(const kvt_paged *paged, kvt_wrong *wrong)
{
    uint64_t first = 0;
    if (paged->device != NULL && !image_copy(paged, KVT_GATHER, paged->memory, paged->mapped_bytes))
        note_unread(wrong);
    uint64_t count = kvt_poison_check(paged->memory, paged->mapped_bytes, &first);
    uint32_t page = (uint32_t)(first % paged->slab_bytes / (uint64_t)paged->group.views[0].page_stride);
    note_outside(wrong, count, page, first % (uint64_t)paged->group.views[0].page_stride,
                 count != 0 ? paged->memory[first] : 0);
}

/* ---- pattern ---- */

/* A contiguous piece of a page: rows of one layer and plane, or one head of one row. */
typedef struct piece {
    uint8_t *at;
    uint64_t offset; /* in the pattern of the chunk */
    size_t bytes;
    uint32_t page;
    uint32_t layer;
    uint32_t plane;
    uint32_t token;
    uint64_t row_byte;
} piece;

typedef struct visitor {
    void (*visit)(const struct visitor *visitor, const piece *p);
    uint64_t seed;
    uint64_t row_bytes;
    kvt_wrong *wrong;
} visitor;

static uint64_t pattern_offset(const kvt_geometry *g, uint32_t chunk_tokens, uint32_t layer, uint32_t plane,
                               uint32_t token)
{
    return (((uint64_t)layer * g->plane_count + plane) * chunk_tokens + token) * kvt_geometry_row_bytes(g);
}

/* Pieces of tokens [begin, end) of one page, of one layer and plane. `p` says where the page's first token lies. */
static void visit_page(const kvt_paged *paged, const piece *origin, uint32_t begin, uint32_t end, const visitor *v)
{
    const kvt_view *view = &paged->group.views[0];
    piece p = *origin;
    if (paged->dense) {
        p.at += begin * v->row_bytes;
        p.offset += begin * v->row_bytes;
        p.token += begin;
        p.bytes = (end - begin) * v->row_bytes;
        v->visit(v, &p);
        return;
    }
    p.bytes = view->head_bytes;
    for (uint32_t token = begin; token < end; token++) {
        for (uint32_t head = 0; head < view->head_count; head++) {
            p.row_byte = (uint64_t)head * view->head_bytes;
            p.at = origin->at + token * view->token_stride + head * view->head_stride;
            p.offset = origin->offset + token * v->row_bytes + p.row_byte;
            p.token = origin->token + token;
            v->visit(v, &p);
        }
    }
}

static void visit_tokens(const kvt_paged *paged, const uint32_t *ids, uint32_t begin, uint32_t end, const visitor *v)
{
    const kvt_geometry *g = &paged->geometry;
    const kvt_view *view = &paged->group.views[0];
    uint32_t page_tokens = paged->group.page_tokens;
    for (uint32_t row = 0; row < g->layer_count * g->plane_count; row++) {
        uint32_t layer = row / g->plane_count;
        uint32_t plane = row % g->plane_count;
        uint8_t *base = (uint8_t *)paged->bases[plane * view->base_plane + layer * view->base_layer] +
                        plane * view->plane_stride + layer * view->layer_stride;
        for (uint32_t token = begin; token < end;) {
            uint32_t page = token / page_tokens;
            uint32_t first = page * page_tokens;
            uint32_t stop = end < first + page_tokens ? end : first + page_tokens;
            piece origin = {.at = base + ids[page] * view->page_stride,
                            .offset = pattern_offset(g, paged->chunk_tokens, layer, plane, first),
                            .page = ids[page],
                            .layer = layer,
                            .plane = plane,
                            .token = first};
            visit_page(paged, &origin, token - first, stop - first, v);
            token = stop;
        }
    }
}

static void fill_piece(const visitor *v, const piece *p) { kvt_pattern_fill(p->at, v->seed, p->offset, p->bytes); }

/* Keep the first wrong byte of all, with its place. */
static void note_wrong(const visitor *v, const piece *p, uint64_t count, uint64_t first, bool outside)
{
    if (count != 0 && v->wrong->count == 0)
        *v->wrong = (kvt_wrong){.page = p->page,
                                .layer = p->layer,
                                .plane = p->plane,
                                .token = p->token + (uint32_t)(first / v->row_bytes),
                                .byte = p->row_byte + first % v->row_bytes,
                                .expected = outside ? KVT_POISON_BYTE : kvt_pattern_byte(v->seed, p->offset + first),
                                .found = p->at[first],
                                .outside = outside};
    v->wrong->count += count;
}

static void check_piece(const visitor *v, const piece *p)
{
    uint64_t first = 0;
    uint64_t count = kvt_pattern_check(p->at, v->seed, p->offset, p->bytes, &first);
    note_wrong(v, p, count, first, false);
}

static void check_poison_piece(const visitor *v, const piece *p)
{
    uint64_t first = 0;
    uint64_t count = kvt_poison_check(p->at, p->bytes, &first);
    note_wrong(v, p, count, first, true);
}

void kvt_paged_fill(kvt_paged *paged, const uint32_t *ids, uint64_t seed, uint32_t begin, uint32_t end)
{
    visitor v = {.visit = fill_piece, .seed = seed, .row_bytes = kvt_geometry_row_bytes(&paged->geometry)};
    uint32_t first = begin / paged->group.page_tokens;
    visit_tokens(paged, ids, begin, end, &v);
    if (begin < end)
        sync_pages(paged, KVT_SCATTER, ids + first, (end - 1) / paged->group.page_tokens - first + 1);
}

void kvt_paged_check(const kvt_paged *paged, const uint32_t *ids, uint64_t seed, uint32_t loaded, kvt_wrong *wrong)
{
    visitor v = {
        .visit = check_piece, .seed = seed, .row_bytes = kvt_geometry_row_bytes(&paged->geometry), .wrong = wrong};
    if (!sync_pages(paged, KVT_GATHER, ids, kvt_paged_pages_of_chunk(paged)))
        note_unread(wrong);
    visit_tokens(paged, ids, 0, loaded, &v);
    v.visit = check_poison_piece;
    visit_tokens(paged, ids, loaded, paged->chunk_tokens, &v);
    if (paged->used_bytes == (uint64_t)paged->group.views[0].page_stride)
        return;
    for (uint32_t slab = 0; slab < paged->slab_count; slab++)
        for (uint32_t i = 0; i < kvt_paged_pages_of_chunk(paged); i++)
            check_slab_poison(paged, slab, ids[i], paged->used_bytes, wrong);
}

/* ---- blobs ---- */

static void visit_blob(const kvt_geometry *g, uint32_t chunk_tokens, uint32_t tokens, uint8_t *blob, const visitor *v)
{
    for (uint32_t row = 0; row < g->layer_count * g->plane_count; row++) {
        piece p = {.layer = row / g->plane_count, .plane = row % g->plane_count, .bytes = tokens * v->row_bytes};
        p.at = blob + row * p.bytes;
        p.offset = pattern_offset(g, chunk_tokens, p.layer, p.plane, 0);
        v->visit(v, &p);
    }
}

void kvt_blob_fill(const kvt_geometry *geometry, uint32_t chunk_tokens, uint64_t seed, uint32_t tokens, void *blob)
{
    visitor v = {.visit = fill_piece, .seed = seed, .row_bytes = kvt_geometry_row_bytes(geometry)};
    visit_blob(geometry, chunk_tokens, tokens, blob, &v);
}

void kvt_blob_check(const kvt_geometry *geometry, uint32_t chunk_tokens, uint64_t seed, uint32_t tokens,
                    const void *blob, kvt_wrong *wrong)
{
    visitor v = {.visit = check_piece, .seed = seed, .row_bytes = kvt_geometry_row_bytes(geometry), .wrong = wrong};
    visit_blob(geometry, chunk_tokens, tokens, (uint8_t *)(uintptr_t)blob, &v);
}

void kvt_wrong_text(const kvt_wrong *wrong, char *text, size_t bytes)
{
    if (wrong->outside)
        snprintf(text, bytes, "page %u, byte %" PRIu64 ", where nothing may be written: expected 0x%02x, found 0x%02x",
                 wrong->page, wrong->byte, wrong->expected, wrong->found);
    else
        snprintf(text, bytes, "layer %u, plane %u, token %u, byte %" PRIu64 ": expected 0x%02x, found 0x%02x",
                 wrong->layer, wrong->plane, wrong->token, wrong->byte, wrong->expected, wrong->found);
}
