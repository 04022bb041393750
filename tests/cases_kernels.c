/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel cases: layouts x geometries x ranges x page orders x directions. The expectation is made the slow way: walk
 * the blob in its written order with a counter, look every head up in the page formula of its layout, copy it.
 */
#include "tests/cases_kernels.h"

#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------- page formulas, by hand */

typedef struct spot { /* one head of one token */
    uint64_t view, p, l, b, t, h;
} spot;

typedef struct place {
    uint64_t pool, offset;
} place;

typedef struct numbers { /* of a geometry: NL layers, NB pages, BS tokens a page, NH heads, H bytes a head */
    uint64_t NL, NB, BS, NH, H, S, page;
} numbers;

static uint64_t page_or(const numbers *n, uint64_t tight) { return n->page != 0 ? n->page : tight; }

#define FORMULA(name, POOL, OFFSET)                                                                                    \
    static place at_##name(const numbers *n, const spot *s)                                                            \
    {                                                                                                                  \
        const uint64_t NL = n->NL, NB = n->NB, BS = n->BS, NH = n->NH, H = n->H, S = n->S;                             \
        const uint64_t p = s->p, l = s->l, b = s->b, t = s->t, h = s->h;                                               \
        (void)NL, (void)NB, (void)BS, (void)NH, (void)H, (void)S, (void)p, (void)l, (void)b, (void)t, (void)h;         \
        return (place){(POOL), (OFFSET)};                                                                              \
    }
#define PAGE(tight) page_or(n, (tight))
#define BLK         (BS * NH * H)

FORMULA(flash_nhd, l, (p * NB + b) * PAGE(BLK) + (t * NH + h) * H)
FORMULA(flash_hnd, l, (p * NB + b) * PAGE(BLK) + (h * BS + t) * H)
FORMULA(flashinfer_nhd, l, b *PAGE(2 * BLK) + ((p * BS + t) * NH + h) * H)
FORMULA(flashinfer_hnd, l, b *PAGE(2 * BLK) + ((p * NH + h) * BS + t) * H)
FORMULA(cross_nhd, 0, b *PAGE(NL * 2 * BLK) + (((l * 2 + p) * BS + t) * NH + h) * H)
FORMULA(cross_hnd, 0, b *PAGE(NL * 2 * BLK) + (((l * 2 + p) * NH + h) * BS + t) * H)
FORMULA(rows, l, b *PAGE(BLK) + (t * NH + h) * H)
FORMULA(fused_nhd, l, b *PAGE(2 * BLK) + ((t * NH + h) * 2 + p) * H)
FORMULA(fused_hnd, l, b *PAGE(2 * BLK) + ((h * BS + t) * 2 + p) * H)
FORMULA(content_nhd, l, b *PAGE(2 * BLK) + (t * NH + h) * 2 * H)
FORMULA(content_hnd, l, b *PAGE(2 * BLK) + (h * BS + t) * 2 * H)
FORMULA(content_cross_nhd, 0, b *PAGE(NL * 2 * BLK) + ((l * BS + t) * NH + h) * 2 * H)
FORMULA(content_cross_hnd, 0, b *PAGE(NL * 2 * BLK) + ((l * NH + h) * BS + t) * 2 * H)
FORMULA(fused_cross_nhd, 0, b *PAGE(NL * 2 * BLK) + (((l * BS + t) * NH + h) * 2 + p) * H)
FORMULA(fused_cross_hnd, 0, b *PAGE(NL * 2 * BLK) + (((l * NH + h) * BS + t) * 2 + p) * H)
FORMULA(sglang_mha, p *NL + l, b *PAGE(BLK) + (t * NH + h) * H)
FORMULA(kv_pairs, l * 2 + p, b *PAGE(BLK) + (t * NH + h) * H)
FORMULA(scales, l, b *PAGE(BS *(NH *H + S)) + (s->view == 0 ? (t * NH + h) * H : BS * NH * H + t * S))
FORMULA(page_first, 0, (p * NB + b) * PAGE(BS * NL * NH * H) + ((t * NL + l) * NH + h) * H)
FORMULA(page_direct, 0, (p * NB + b) * PAGE(NL * BLK) + ((l * BS + t) * NH + h) * H)
FORMULA(page_head, 0, (p * NB + b) * PAGE(NL * BLK) + ((h * BS + t) * NL + l) * H)
FORMULA(universal, 0, b *PAGE(NL * 2 * BLK) + (((h * NL + l) * 2 + p) * BS + t) * H)

static const struct formula {
    const char *layout;
    place (*at)(const numbers *n, const spot *s);
} formulas[] = {
    {"vllm-flash-nhd", at_flash_nhd},
    {"vllm-flash-hnd", at_flash_hnd},
    {"flashinfer-nhd", at_flashinfer_nhd},
    {"flashinfer-hnd", at_flashinfer_hnd},
    {"cross-layer-nhd", at_cross_nhd},
    {"cross-layer-hnd", at_cross_hnd},
    {"mla", at_rows},
    {"fused-nhd", at_fused_nhd},
    {"fused-hnd", at_fused_hnd},
    {"content-nhd", at_content_nhd},
    {"content-hnd", at_content_hnd},
    {"content-cross-nhd", at_content_cross_nhd},
    {"content-cross-hnd", at_content_cross_hnd},
    {"fused-cross-nhd", at_fused_cross_nhd},
    {"fused-cross-hnd", at_fused_cross_hnd},
    {"sglang-mha", at_sglang_mha},
    {"sglang-mla", at_rows},
    {"layer-kv-pairs", at_kv_pairs},
    {"tensorrt-llm", at_cross_hnd},
    {"indexer-scales", at_scales},
    {"sglang-page-first", at_page_first},
    {"sglang-page-direct", at_page_direct},
    {"sglang-page-head", at_page_head},
    {"dynamo-universal", at_universal},
    {"state-rows", at_rows},
};
enum { FORMULA_COUNT = sizeof formulas / sizeof *formulas };

/* ---------------------------------------------------------------- the list */

/* layers, page_tokens, page_count, heads, head_bytes, element_bytes, scale_bytes, page_bytes; page_count is set later,
 * and page_bytes 1 means "padded" there. */
static const kvt_page_geometry geometries[] = {
    {2, 4, 0, 2, 32, 2, 4, 0},   /* small, aligned */
    {3, 4, 0, 3, 6, 2, 2, 0},    /* nothing aligned */
    {3, 1, 0, 2, 16, 2, 4, 0},   /* page size 1: a slot mapping */
    {2, 8, 0, 2, 64, 2, 8, 1},   /* padded pages */
    {2, 2, 0, 1, 656, 1, 32, 0}, /* one odd head */
    {2, 1, 0, 8, 128, 2, 4, 1},  /* page size 1, padded */
    {1, 16, 0, 1, 1, 1, 1, 0},   /* single bytes */
    {2, 4, 0, 4, 256, 2, 16, 0}  /* runs of several cache lines */
};

typedef struct range { /* in sixteenths of a chunk plus tokens, so that it fits every page size */
    uint32_t begin16, begin_plus, count16, count_plus, segment_minus, layer_begin, layer_cut;
} range;
static const range ranges[] = {
    {0, 0, 16, 0, 0, 0, 0}, /* everything */
    {0, 0, 4, 1, 0, 0, 0},  /* a cut tail */
    {2, 1, 8, 0, 0, 0, 0},  /* a cut head */
    {2, 1, 9, 1, 0, 0, 1},  /* both, and not the last layer */
    {4, 1, 0, 1, 0, 1, 0},  /* one token, from the second layer on */
    {0, 0, 15, 0, 1, 0, 0}, /* a segment shorter than the chunk */
    {8, 0, 8, 0, 0, 1, 0},  /* the second half */
};

enum {
    CHUNK_PAGES = 8,
    GEOMETRY_COUNT = sizeof geometries / sizeof *geometries,
    RANGE_COUNT = sizeof ranges / sizeof *ranges,
    CASE_COUNT = FORMULA_COUNT * GEOMETRY_COUNT * RANGE_COUNT * KVT_IDS_COUNT * 2
};

static bool has_planes(const char *layout) { return kvt_named_layout_by_name(layout)->planes == 2; }

static bool has_flag(const char *layout, uint32_t flag)
{
    return (kvt_named_layout_by_name(layout)->flags & flag) != 0;
}

static void set_range(kvt_kernel_case *c, const range *r)
{
    uint32_t chunk = c->chunk_pages * c->geometry.page_tokens;
    c->segment_tokens = chunk - r->segment_minus;
    c->token_begin = (uint32_t)kvt_min_u64(chunk * r->begin16 / 16 + r->begin_plus, c->segment_tokens);
    c->token_count = chunk * r->count16 / 16 + r->count_plus;
    c->token_count = (uint32_t)kvt_min_u64(c->token_count, c->segment_tokens - c->token_begin);
    c->layer_begin = r->layer_begin < c->geometry.layers ? r->layer_begin : 0;
    c->layer_count = c->geometry.layers - c->layer_begin;
    if (c->layer_count > r->layer_cut)
        c->layer_count -= r->layer_cut;
}

/* A tight page of this layout and 48 bytes of padding. */
static uint64_t padded_page(const kvt_kernel_case *c)
{
    kvt_page_geometry tight = c->geometry;
    kvt_named_pages pages;
    tight.page_bytes = 0;
    kvt_named_layout_build(kvt_named_layout_by_name(c->layout), &tight, &pages);
    return (uint64_t)pages.group.views[0].page_stride + 48;
}

uint32_t kvt_kernel_case_count(void) { return CASE_COUNT; }

bool kvt_kernel_case_at(uint32_t i, kvt_kernel_case *out)
{
    if (i >= CASE_COUNT)
        return false;
    uint32_t rest = i;
    kvt_kernel_case c = {.number = i, .chunk_pages = CHUNK_PAGES};
    c.direction = rest % 2 == 0 ? KVT_GATHER : KVT_SCATTER, rest /= 2;
    c.ids = (kvt_case_ids)(rest % KVT_IDS_COUNT), rest /= KVT_IDS_COUNT;
    const range *r = &ranges[rest % RANGE_COUNT];
    rest /= RANGE_COUNT;
    c.geometry = geometries[rest % GEOMETRY_COUNT], rest /= GEOMETRY_COUNT;
    c.layout = formulas[rest].layout;
    c.move_count = 1 + i % KVT_CASE_MOVES_MAX;
    c.group_index = i / 7 % 2;
    c.geometry.page_count = c.move_count * CHUNK_PAGES + 5;
    if (!has_flag(c.layout, KVT_NAMED_SCALES))
        c.geometry.scale_bytes = 0;
    if (c.geometry.page_bytes != 0)
        c.geometry.page_bytes = padded_page(&c);
    set_range(&c, r);
    *out = c;
    return true;
}

void kvt_kernel_case_text(const kvt_kernel_case *c, char text[KVT_CASE_TEXT_BYTES])
{
    static const char *const ids[KVT_IDS_COUNT] = {"sequential", "reversed", "random", "extents", "holes"};
    const kvt_page_geometry *g = &c->geometry;
    snprintf(
        text, KVT_CASE_TEXT_BYTES,
        "#%u %s %s: %u layers, page %u, %u x %u B, page_bytes %llu; tokens [%u, +%u) of %u, layers [%u, +%u), %s ids, "
        "%u blobs, group %u",
        c->number, c->layout, c->direction == KVT_GATHER ? "gather" : "scatter", g->layers, g->page_tokens, g->heads,
        g->head_bytes, (unsigned long long)g->page_bytes, c->token_begin, c->token_count, c->segment_tokens,
        c->layer_begin, c->layer_count, ids[c->ids], c->move_count, c->group_index);
}

/* -------------------------------------------------------------- one run */

typedef struct run {
    const kvt_kernel_case *c;
    const kvt_case_subject *subject;
    place (*at)(const numbers *n, const spot *s);
    numbers n;
    kvt_named_pages named;
    uint64_t head_bytes; /* of the first view, as moved */
    uint64_t pool_span, arena_bytes, segment_bytes, segment_span;
    uint32_t ids[KVT_CASE_MOVES_MAX][CHUNK_PAGES];
    void **pools;
    void **bases;
    uint8_t *arena;    /* where the subject's pages lie: pools with guards around each, perhaps in device memory */
    uint8_t *before;   /* host copy of the arena */
    uint8_t *expected; /* what it must be afterwards */
    uint8_t *after;
    uint8_t *segments, *segments_before, *segments_expected;
} run;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Poison and contents alike depend on the position, so that a byte moved from a wrong place shows; the top bit tells
 * pages from segments, so that every byte that moves, and every one that fails to, shows. */
static void fill(uint8_t *to, uint64_t bytes, uint64_t seed, bool top)
{
    const uint64_t tops = UINT64_C(0x8080808080808080);
    for (uint64_t i = 0; i < bytes; i += 8) {
        uint64_t word = top ? next_random(&seed) | tops : next_random(&seed) & ~tops;
        memcpy(to + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

static void shuffle(uint32_t *ids, uint32_t count, uint64_t *state)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)(next_random(state) % i), held = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = held;
    }
}

static void make_ids(run *r)
{
    const kvt_kernel_case *c = r->c;
    uint32_t total = c->move_count * CHUNK_PAGES;
    uint32_t ids[KVT_CASE_MOVES_MAX * CHUNK_PAGES + 5];
    uint64_t state = c->number;
    for (uint32_t i = 0; i < total + 5; i++)
        ids[i] = i;
    if (c->ids == KVT_IDS_RANDOM || c->ids == KVT_IDS_HOLES)
        shuffle(ids, total + 5, &state);
    for (uint32_t i = 0; i < total; i++) {
        uint32_t id = ids[i + 2]; /* not from 0: the first and the last pages stay unused when in order */
        if (c->ids == KVT_IDS_REVERSED)
            id = ids[total + 1 - i];
        if (c->ids == KVT_IDS_EXTENTS)
            id = ids[2 + (i / 4 * 4 + (i + 1) % 4)]; /* 1 2 3 0, 5 6 7 4, ... */
        if (c->ids == KVT_IDS_HOLES && next_random(&state) % 3 == 0)
            id = KVT_PAGE_NONE;
        r->ids[i / CHUNK_PAGES][i % CHUNK_PAGES] = id;
    }
}

/* Visit every head of the blob in its written order: [layer][view][plane][token][head]. */
static void expect(run *r, uint32_t move)
{
    const kvt_kernel_case *c = r->c;
    const kvt_page_geometry *g = &c->geometry;
    uint64_t counter = move * r->segment_span + r->segment_bytes; /* behind this segment's front guard */
    uint32_t views = has_flag(c->layout, KVT_NAMED_SCALES) ? 2 : 1;
    spot s;
    for (s.l = 0; s.l < g->layers; s.l++)
        for (s.view = 0; s.view < views; s.view++)
            for (s.p = 0; s.p < (has_planes(c->layout) ? 2u : 1u); s.p++)
                for (uint32_t token = 0; token < c->segment_tokens; token++)
                    for (s.h = 0; s.h < (s.view == 0 ? g->heads : 1); s.h++) {
                        uint64_t bytes = s.view == 0 ? r->head_bytes : g->scale_bytes, in_blob = counter;
                        counter += bytes;
                        uint32_t id = r->ids[move][token / g->page_tokens];
                        bool in = token >= c->token_begin && token < c->token_begin + c->token_count &&
                                  s.l >= c->layer_begin && s.l < c->layer_begin + c->layer_count;
                        if (!in || id == KVT_PAGE_NONE)
                            continue;
                        s.b = id;
                        s.t = token % g->page_tokens;
                        place at = r->at(&r->n, &s);
                        uint64_t in_arena = at.pool * r->pool_span + r->pool_span / 3 + at.offset;
                        if (c->direction == KVT_GATHER)
                            memcpy(r->segments_expected + in_blob, r->before + in_arena, bytes);
                        else
                            memcpy(r->expected + in_arena, r->segments_before + in_blob, bytes);
                    }
}

static bool copy_pages(const run *r, void *to, const void *from, bool to_pages)
{
    const kvt_case_memory *memory = &r->subject->memory;
    if (memory->alloc == NULL) {
        memcpy(to, from, r->arena_bytes);
        return true;
    }
    return to_pages ? memory->write(memory->arg, to, from, r->arena_bytes)
                    : memory->read(memory->arg, to, from, r->arena_bytes);
}

static bool prepare(run *r)
{
    const kvt_kernel_case *c = r->c;
    const kvt_page_geometry *g = &c->geometry;
    for (uint32_t f = 0; f < FORMULA_COUNT; f++)
        if (strcmp(formulas[f].layout, c->layout) == 0)
            r->at = formulas[f].at;
    if (kvt_named_layout_build(kvt_named_layout_by_name(c->layout), g, &r->named) != KVT_OK)
        return false;
    r->n = (numbers){g->layers, g->page_count, g->page_tokens, g->heads, g->head_bytes, g->scale_bytes, g->page_bytes};
    r->head_bytes = g->head_bytes * (has_flag(c->layout, KVT_NAMED_OPAQUE) ? 2u : 1u);
    r->pool_span = 3 * kvt_align_up(r->named.pool_bytes, 64);
    r->arena_bytes = r->pool_span * r->named.pool_count;
    r->segment_bytes = (uint64_t)g->layers * (has_planes(c->layout) ? 2 : 1) * c->segment_tokens *
                       (g->heads * r->head_bytes + g->scale_bytes);
    r->segment_span = 3 * r->segment_bytes; /* guards before and behind */
    const kvt_case_memory *memory = &r->subject->memory;
    uint64_t segments = r->segment_span * c->move_count;
    r->pools = calloc(r->named.pool_count, sizeof *r->pools);
    r->bases = calloc(r->named.group.base_count, sizeof *r->bases);
    r->before = malloc(r->arena_bytes), r->expected = malloc(r->arena_bytes), r->after = malloc(r->arena_bytes);
    r->segments = memory->segment_alloc != NULL ? memory->segment_alloc(memory->arg, segments)
                                                : aligned_alloc(64, kvt_align_up(segments, 64));
    r->segments_before = malloc(segments), r->segments_expected = malloc(segments);
    r->arena = memory->alloc != NULL ? memory->alloc(memory->arg, r->arena_bytes) : aligned_alloc(64, r->arena_bytes);
    if (r->pools == NULL || r->bases == NULL || r->before == NULL || r->expected == NULL || r->after == NULL ||
        r->segments == NULL || r->segments_before == NULL || r->segments_expected == NULL || r->arena == NULL)
        return false;
    fill(r->before, r->arena_bytes, UINT64_C(1) << 40 | c->number, false);
    fill(r->segments_before, segments, UINT64_C(2) << 40 | c->number, true);
    memcpy(r->expected, r->before, r->arena_bytes);
    memcpy(r->segments_expected, r->segments_before, segments);
    memcpy(r->segments, r->segments_before, segments);
    for (uint32_t i = 0; i < r->named.pool_count; i++)
        r->pools[i] = r->arena + i * r->pool_span + r->pool_span / 3;
    kvt_named_pages_place(&r->named, r->pools, r->bases);
    make_ids(r);
    return copy_pages(r, r->arena, r->before, true);
}

static void dispose(run *r)
{
    const kvt_case_memory *memory = &r->subject->memory;
    if (memory->alloc == NULL)
        free(r->arena);
    else if (r->arena != NULL)
        memory->release(memory->arg, r->arena);
    free(r->pools), free(r->bases), free(r->before), free(r->expected), free(r->after);
    if (memory->segment_alloc == NULL)
        free(r->segments);
    else if (r->segments != NULL)
        memory->segment_release(memory->arg, r->segments);
    free(r->segments_before), free(r->segments_expected);
}

/* Another group in front: two views, no pages. */
static const kvt_group lead = {
    .layer_count = 1,
    .page_tokens = 1,
    .view_count = 2,
    .views = {{.plane_count = 1, .head_count = 1, .head_bytes = 3, .element_bytes = 1},
              {.plane_count = 2, .head_count = 5, .head_bytes = 8, .element_bytes = 8}},
};

static kvt_status act(run *r)
{
    const kvt_kernel_case *c = r->c;
    kvt_group groups[2] = {lead, lead};
    groups[c->group_index] = r->named.group;
    kvt_move moves[KVT_CASE_MOVES_MAX];
    for (uint32_t m = 0; m < c->move_count; m++)
        moves[m] = (kvt_move){r->segments + m * r->segment_span + r->segment_bytes,
                              r->ids[m],
                              c->group_index,
                              c->segment_tokens,
                              c->token_begin,
                              c->token_count,
                              c->layer_begin,
                              c->layer_count};
    if (r->subject->mutate != NULL)
        r->subject->mutate(r->subject->mutate_arg, &groups[c->group_index], moves, c->move_count);
    kvt_layout *layout;
    KVT_TRY(kvt_layout_create(groups, c->group_index + 1, c->chunk_pages * c->geometry.page_tokens, &layout));
    if (r->subject->bounds != NULL)
        r->subject->bounds(r->subject->arg, r->arena, r->arena_bytes, r->segments, r->segment_span * c->move_count);
    kvt_status status = r->subject->move(r->subject->arg, layout, c->direction, moves, c->move_count);
    kvt_layout_destroy(layout);
    return status;
}

static bool same(const uint8_t *got, const uint8_t *want, uint64_t bytes, const char *what, char *why)
{
    if (memcmp(got, want, bytes) == 0)
        return true;
    uint64_t at = 0, wrong = 0;
    for (uint64_t i = bytes; i-- > 0;)
        if (got[i] != want[i])
            at = i, wrong++;
    snprintf(why, KVT_CASE_TEXT_BYTES, "%s: %llu of %llu bytes differ, the first at %llu: got %02x, want %02x", what,
             (unsigned long long)wrong, (unsigned long long)bytes, (unsigned long long)at, got[at], want[at]);
    return false;
}

kvt_case_outcome kvt_kernel_case_run(const kvt_kernel_case *c, const kvt_case_subject *subject,
                                     char why[KVT_CASE_TEXT_BYTES])
{
    run r = {.c = c, .subject = subject};
    kvt_case_outcome outcome = KVT_CASE_NO_MEMORY;
    snprintf(why, KVT_CASE_TEXT_BYTES, "out of memory");
    if (!prepare(&r))
        goto out;
    for (uint32_t m = 0; m < c->move_count; m++)
        expect(&r, m);
    outcome = KVT_CASE_REFUSED;
    if (act(&r) != KVT_OK || !copy_pages(&r, r.after, r.arena, false)) {
        snprintf(why, KVT_CASE_TEXT_BYTES, "refused: %.200s", kvt_last_error());
        goto out;
    }
    outcome = KVT_CASE_WRONG_BYTES;
    if (same(r.segments, r.segments_expected, r.segment_span * c->move_count, "segments and their guards", why) &&
        same(r.after, r.expected, r.arena_bytes, "pages, padding and guards", why))
        outcome = KVT_CASE_PASSED;
out:
    dispose(&r);
    return outcome;
}

kvt_status kvt_case_move_backend(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                 size_t count)
{
    kvt_fence fence = {NULL};
    KVT_TRY(kvt_backend_move(arg, layout, direction, moves, count, NULL, &fence));
    return kvt_backend_fence_wait(arg, &fence);
}
