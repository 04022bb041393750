/* SPDX-License-Identifier: Apache-2.0
 *
 * See cases_rope.h. The subject's pages are judged by two plain moves of the portable backend: gathered into a blob,
 * they are compared element by element; overwritten with the original blob, they must be what a plain scatter leaves,
 * so nothing beside the moved bytes changed.
 */
#include "tests/cases_rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- the list */

static const kvt_rope_shape shapes[] = {
    {"vllm-flash-nhd", 3, 4, 2, 64, 0, 64, 1, KVT_ROPE_ALL_LAYERS, 0},
    {"vllm-flash-hnd", 2, 4, 3, 64, 0, 32, 1, KVT_ROPE_ALL_LAYERS, 0}, /* partial: the first half of a head */
    {"mla", 3, 8, 1, 576, 512, 64, 1, KVT_ROPE_ALL_LAYERS, 0},         /* the tail of a latent row */
    {"mla", 2, 3, 1, 80, 64, 16, 1, KVT_ROPE_EVERY_SECOND, 0},
    {"fused-nhd", 2, 4, 2, 32, 0, 32, 1, KVT_ROPE_ALL_LAYERS, 0},
    {"flashinfer-hnd", 2, 2, 4, 128, 0, 128, 1, KVT_ROPE_TWO_TABLES, 0},
    {"sglang-mha", 4, 1, 2, 64, 0, 64, 1, KVT_ROPE_TWO_TABLES, 0}, /* page size 1: a slot mapping */
    {"layer-kv-pairs", 3, 4, 2, 48, 16, 32, 1, KVT_ROPE_ALL_LAYERS, 0},
    {"vllm-flash-nhd", 2, 3, 3, 10, 2, 6, 1, KVT_ROPE_ALL_LAYERS, 0}, /* nothing aligned */
    {"dynamo-universal", 2, 4, 3, 32, 0, 32, 1, KVT_ROPE_ALL_LAYERS, 0},
    {"cross-layer-nhd", 6, 4, 2, 32, 0, 32, 1, KVT_ROPE_EVERY_SECOND, 0},
    {"indexer-scales", 2, 4, 1, 32, 0, 32, 1, KVT_ROPE_ALL_LAYERS, 0},  /* two views */
    {"flashinfer-nhd", 2, 4, 2, 32, 0, 32, 3, KVT_ROPE_ALL_LAYERS, 0},  /* both planes */
    {"flashinfer-nhd", 2, 4, 2, 32, 0, 32, 2, KVT_ROPE_ALL_LAYERS, 0},  /* the second one only */
    {"cross-layer-hnd", 2, 2, 2, 16, 4, 4, 1, KVT_ROPE_ALL_LAYERS, 0},  /* half a window is less than an access */
    {"mla", 1, 2, 1, 1024, 0, 1024, 1, KVT_ROPE_ALL_LAYERS, 0},         /* as many pairs as there may be */
    {"vllm-flash-nhd", 2, 4, 2, 64, 0, 64, 1, KVT_ROPE_ALL_LAYERS, 48}, /* padded pages */
    {"vllm-flash-hnd", 2, 4, 2, 32, 0, 32, 1, KVT_ROPE_ALL_LAYERS, 7},  /* and such that lie askew */
    {"sglang-page-first", 3, 4, 2, 64, 32, 32, 1, KVT_ROPE_EVERY_SECOND, 0},
    {"vllm-flash-nhd", 2, 4, 8, 128, 0, 128, 1, KVT_ROPE_ALL_LAYERS, 0}, /* a real head, more than one block's work */
};

typedef struct span { /* of a chunk of 4 pages: in quarters, plus tokens */
    uint32_t begin, begin_plus, count, count_plus, segment_minus, layer_begin, layer_cut;
} span;
static const span spans[] = {
    {0, 0, 4, 0, 0, 0, 0}, /* everything */
    {1, 1, 2, 0, 0, 0, 0}, /* a cut head */
    {0, 0, 3, 1, 0, 0, 0}, /* a cut tail */
    {1, 1, 2, 1, 0, 1, 0}, /* both, from the second layer on */
    {0, 0, 4, 0, 1, 0, 1}, /* a segment shorter than the chunk, not the last layer */
};

enum {
    CHUNK_PAGES = 4,
    SHAPE_COUNT = sizeof shapes / sizeof *shapes,
    SPAN_COUNT = sizeof spans / sizeof *spans,
    CASE_COUNT = SHAPE_COUNT * 2 * 3 * 3 * 2,
    LARGE_SHIFT = 100000,
    LARGE_PAIRS_MAX = 16 /* whose table of so many rows is small enough */
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void fill_random(uint8_t *to, uint64_t bytes, uint64_t *state)
{
    for (uint64_t i = 0; i < bytes; i += 8) {
        uint64_t word = next_random(state);
        memcpy(to + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

uint32_t kvt_rope_case_count(void) { return CASE_COUNT; }

static void set_shifts(kvt_rope_case *c, uint64_t *state)
{
    bool large = c->shape.window / 2 <= LARGE_PAIRS_MAX && c->number % 4 == 0;
    for (uint32_t m = 0; m < c->move_count; m++) {
        uint32_t near = (uint32_t)(next_random(state) % 40), far = (uint32_t)(next_random(state) % 300);
        if (large && m == 0)
            far += LARGE_SHIFT;
        switch ((c->number + m) % 4) {
        case 0:
            c->shifts[m] = (kvt_rope_shift){near, near + far};
            break;
        case 1:
            c->shifts[m] = (kvt_rope_shift){near + far, near};
            break;
        case 2:
            c->shifts[m] = (kvt_rope_shift){0, 1 + far};
            break;
        default:
            c->shifts[m] = (kvt_rope_shift){far, far}; /* stays */
        }
    }
}

bool kvt_rope_case_at(uint32_t i, kvt_rope_case *out)
{
    if (i >= CASE_COUNT)
        return false;
    uint32_t rest = i;
    uint64_t state = i;
    kvt_rope_case c = {.number = i};
    c.pairing = rest % 2, rest /= 2;
    c.element = rest % 3, rest /= 3;
    c.table_element = rest % 3, rest /= 3;
    c.shape = shapes[rest % SHAPE_COUNT], rest /= SHAPE_COUNT;
    c.blob_in_pages = rest % 2 != 0;
    c.family = kvt_oracle_family_at((uint32_t)(next_random(&state) % KVT_ORACLE_FAMILIES));
    c.move_count = 1 + (uint32_t)(next_random(&state) % KVT_CASE_MOVES_MAX);
    c.group_index = (uint32_t)(next_random(&state) % 2);
    c.holes = next_random(&state) % 3 == 0;
    const span *s = &spans[next_random(&state) % SPAN_COUNT];
    uint32_t page = c.shape.page_tokens, chunk = CHUNK_PAGES * page;
    c.segment_tokens = chunk - s->segment_minus;
    c.token_begin = s->begin * page + (page > 1 ? s->begin_plus : 0);
    c.token_count = (uint32_t)kvt_min_u64(s->count * page + s->count_plus, c.segment_tokens - c.token_begin);
    c.layer_begin = s->layer_begin < c.shape.layers ? s->layer_begin : 0;
    c.layer_count = c.shape.layers - c.layer_begin;
    if (c.layer_count > s->layer_cut)
        c.layer_count -= s->layer_cut;
    set_shifts(&c, &state);
    *out = c;
    return true;
}

void kvt_rope_case_text(const kvt_rope_case *c, char text[KVT_CASE_TEXT_BYTES])
{
    static const char *const elements[] = {"bf16", "fp16", "fp32"};
    const kvt_rope_shape *s = &c->shape;
    snprintf(text, KVT_CASE_TEXT_BYTES,
             "#%u %s %s %s, %s table %s: %u layers, page %u, %u x %u, window [%u, +%u); tokens [%u, +%u) of %u, layers "
             "[%u, +%u), %u blobs%s%s, shift %u -> %u",
             c->number, s->layout, c->pairing == KVT_ROPE_NEOX ? "neox" : "gptj", elements[c->element],
             elements[c->table_element], c->family->name, s->layers, s->page_tokens, s->heads, s->head, s->window_begin,
             s->window, c->token_begin, c->token_count, c->segment_tokens, c->layer_begin, c->layer_count,
             c->move_count, c->holes ? ", holes" : "", c->blob_in_pages ? ", blobs beside the pages" : "",
             c->shifts[0].stored, c->shifts[0].wanted);
}

/* ------------------------------------------------------------------ one run */

/* One block of page memory: pools with guards around each, tables, perhaps segments. */
typedef struct run {
    const kvt_rope_case *c;
    const kvt_rope_subject *subject;
    kvt_named_pages named;
    uint32_t head_bytes, scale_bytes, planes;
    uint64_t row_bytes, layer_token_bytes; /* of the first view; of all */
    uint64_t pool_span, arena_bytes, table_rows, row_stride, table_bytes, segment_bytes, segment_span, segments_bytes;
    uint64_t block_bytes;
    uint32_t ids[KVT_CASE_MOVES_MAX][CHUNK_PAGES];
    kvt_rope ropes[KVT_ROPE_CASE_ROPES_MAX];
    uint32_t rope_count;
    void **pools, **bases;
    uint8_t *block;  /* the subject's, perhaps on a device */
    uint8_t *before; /* what it is filled with */
    uint8_t *after;  /* what it holds in the end */
    uint8_t *scratch;
    uint8_t *plain;    /* what a plain scatter makes of the arena */
    uint8_t *segments; /* the subject's, in host memory; NULL: in the block */
    uint8_t *gathered; /* as `segments` in the block, from the subject's pages */
} run;

static uint8_t *tables_of(const run *r, uint8_t *block) { return block + r->arena_bytes; }
static uint8_t *segments_of(const run *r, uint8_t *block) { return tables_of(r, block) + 4 * r->table_bytes; }
static uint8_t *segment_at(const run *r, uint8_t *segments, uint32_t move)
{
    return segments + move * r->segment_span + r->segment_bytes; /* behind its front guard */
}

static bool measure(run *r)
{
    const kvt_rope_case *c = r->c;
    const kvt_rope_shape *s = &c->shape;
    const kvt_named_layout *layout = kvt_named_layout_by_name(s->layout);
    uint32_t bytes = kvt_oracle_bytes(c->element);
    kvt_page_geometry g = {
        s->layers, s->page_tokens, c->move_count * CHUNK_PAGES + 3, s->heads, s->head * bytes, bytes, 0, 0};
    r->scale_bytes = g.scale_bytes = (layout->flags & KVT_NAMED_SCALES) != 0 ? 16 : 0;
    if (kvt_named_layout_build(layout, &g, &r->named) != KVT_OK)
        return false;
    if (s->padding != 0) {
        g.page_bytes = (uint64_t)r->named.group.views[0].page_stride + s->padding;
        if (kvt_named_layout_build(layout, &g, &r->named) != KVT_OK)
            return false;
    }
    r->head_bytes = g.head_bytes;
    r->planes = layout->planes;
    r->row_bytes = (uint64_t)s->heads * r->head_bytes;
    r->layer_token_bytes = r->planes * r->row_bytes + r->scale_bytes;
    r->pool_span = 3 * kvt_align_up(r->named.pool_bytes, 64);
    r->arena_bytes = r->pool_span * r->named.pool_count;
    for (uint32_t m = 0; m < c->move_count; m++)
        r->table_rows = kvt_max_u64(r->table_rows, kvt_max_u64(c->shifts[m].stored, c->shifts[m].wanted));
    r->table_rows += c->token_begin + c->token_count; /* not one more than needed */
    r->row_stride = s->window / 2 * kvt_oracle_bytes(c->table_element) + (c->number % 3) * 4;
    r->table_bytes = kvt_align_up(r->table_rows * r->row_stride, 64);
    r->segment_bytes = r->layer_token_bytes * s->layers * c->segment_tokens;
    r->segment_span = kvt_align_up(3 * r->segment_bytes, 64);
    if (r->segment_bytes % 64 == 0 && c->shape.padding == 48) /* blobs that are aligned to their elements only */
        r->segment_span += kvt_oracle_bytes(c->element);
    r->segments_bytes = r->segment_span * c->move_count;
    r->block_bytes = kvt_align_up(r->arena_bytes + 4 * r->table_bytes + r->segments_bytes, 64);
    return true;
}

/* Rows that no move needs are NaNs. */
static void fill_table(const run *r, uint32_t which, const kvt_oracle_family *family)
{
    const kvt_rope_case *c = r->c;
    uint32_t pairs = c->shape.window / 2, bytes = kvt_oracle_bytes(c->table_element);
    uint8_t *cosines = tables_of(r, r->before) + 2 * which * r->table_bytes, *sines = cosines + r->table_bytes;
    memset(cosines, 0xff, 2 * r->table_bytes);
    for (uint32_t i = 0; i < pairs; i++) {
        long double frequency = kvt_oracle_angle(family, pairs, i, 1);
        for (uint32_t m = 0; m < 2 * c->move_count; m++) {
            uint64_t first = m % 2 == 0 ? c->shifts[m / 2].stored : c->shifts[m / 2].wanted;
            for (uint64_t p = first + c->token_begin; p < first + c->token_begin + c->token_count; p++) {
                uint64_t at = p * r->row_stride + (uint64_t)i * bytes;
                kvt_oracle_store(c->table_element, cosines + at, family->magnitude * cosl(frequency * p));
                kvt_oracle_store(c->table_element, sines + at, family->magnitude * sinl(frequency * p));
            }
        }
    }
}

/* Keys about as large as keys are, and everything else random bytes. */
static void fill_segments(const run *r)
{
    const kvt_rope_case *c = r->c;
    uint64_t state = UINT64_C(7) << 32 | c->number;
    uint8_t *segments = segments_of(r, r->before);
    uint32_t bytes = kvt_oracle_bytes(c->element);
    fill_random(segments, r->segments_bytes, &state);
    for (uint32_t m = 0; m < c->move_count; m++)
        for (uint64_t row = 0; row < (uint64_t)c->shape.layers * r->planes * c->segment_tokens; row++)
            for (uint64_t e = 0; e < r->row_bytes / bytes; e++) {
                uint64_t layer = row / (r->planes * c->segment_tokens),
                         in_layer = row % (r->planes * c->segment_tokens);
                uint64_t z = next_random(&state); /* four numbers, whose sum is about normal */
                double normal = (double)(z & 0xffff) + (double)(z >> 16 & 0xffff) + (double)(z >> 32 & 0xffff) +
                                (double)(z >> 48) - 131070;
                kvt_oracle_store(c->element,
                                 segment_at(r, segments, m) + layer * r->layer_token_bytes * c->segment_tokens +
                                     in_layer * r->row_bytes + e * bytes,
                                 normal / 19000);
            }
}

static void make_ids(run *r)
{
    const kvt_rope_case *c = r->c;
    uint32_t total = c->move_count * CHUNK_PAGES, ids[KVT_CASE_MOVES_MAX * CHUNK_PAGES + 3];
    uint64_t state = UINT64_C(3) << 32 | c->number;
    for (uint32_t i = 0; i < total + 3; i++)
        ids[i] = i;
    for (uint32_t i = total + 3; i > 1; i--) {
        uint32_t j = (uint32_t)(next_random(&state) % i), held = ids[i - 1];
        ids[i - 1] = ids[j], ids[j] = held;
    }
    for (uint32_t i = 0; i < total; i++)
        r->ids[i / CHUNK_PAGES][i % CHUNK_PAGES] = c->holes && next_random(&state) % 3 == 0 ? KVT_PAGE_NONE : ids[i];
}

static void add_rope(run *r, uint32_t layer_begin, uint32_t layer_count, uint32_t which)
{
    const kvt_rope_case *c = r->c;
    uint32_t bytes = kvt_oracle_bytes(c->element);
    r->ropes[r->rope_count++] =
        (kvt_rope){.group = c->group_index,
                   .layer_begin = layer_begin,
                   .layer_count = layer_count,
                   .planes = c->shape.planes,
                   .pairing = c->pairing,
                   .element = c->element,
                   .table_element = c->table_element,
                   .window_begin = c->shape.window_begin * bytes,
                   .window_bytes = c->shape.window * bytes,
                   .row_count = r->table_rows,
                   .row_stride = r->row_stride,
                   .cosines = (void *)(uintptr_t)(2 * which * r->table_bytes), /* placed later */
                   .sines = (void *)(uintptr_t)((2 * which + 1) * r->table_bytes)};
}

static void make_ropes(run *r)
{
    uint32_t layers = r->c->shape.layers;
    switch (r->c->shape.layers_turned) {
    case KVT_ROPE_TWO_TABLES:
        add_rope(r, 0, 1, 0);
        add_rope(r, 1, layers - 1, 1);
        break;
    case KVT_ROPE_EVERY_SECOND:
        for (uint32_t l = 0; l < layers; l += 2)
            add_rope(r, l, 1, 0);
        break;
    default:
        add_rope(r, 0, layers, 0);
    }
}

static bool prepare(run *r)
{
    const kvt_case_memory *memory = &r->subject->memory;
    if (!measure(r))
        return false;
    r->pools = calloc(r->named.pool_count, sizeof *r->pools);
    r->bases = calloc(r->named.group.base_count, sizeof *r->bases);
    r->before = aligned_alloc(64, r->block_bytes), r->after = aligned_alloc(64, r->block_bytes);
    r->scratch = aligned_alloc(64, r->block_bytes), r->plain = malloc(r->arena_bytes);
    r->gathered = malloc(r->segments_bytes);
    r->block = memory->alloc != NULL ? memory->alloc(memory->arg, r->block_bytes) : aligned_alloc(64, r->block_bytes);
    if (!r->c->blob_in_pages)
        r->segments = memory->segment_alloc != NULL ? memory->segment_alloc(memory->arg, r->segments_bytes)
                                                    : aligned_alloc(64, kvt_align_up(r->segments_bytes, 64));
    if (r->pools == NULL || r->bases == NULL || r->before == NULL || r->after == NULL || r->scratch == NULL ||
        r->plain == NULL || r->gathered == NULL || r->block == NULL || (!r->c->blob_in_pages && r->segments == NULL))
        return false;
    uint64_t state = UINT64_C(1) << 40 | r->c->number;
    memset(r->before, 0, r->block_bytes);
    fill_random(r->before, r->arena_bytes, &state);
    make_ids(r);
    make_ropes(r);
    fill_table(r, 0, r->c->family);
    if (r->c->shape.layers_turned == KVT_ROPE_TWO_TABLES)
        fill_table(r, 1, kvt_oracle_family_at(r->c->number));
    fill_segments(r);
    if (r->segments != NULL)
        memcpy(r->segments, segments_of(r, r->before), r->segments_bytes);
    if (memory->alloc != NULL)
        return memory->write(memory->arg, r->block, r->before, r->block_bytes);
    memcpy(r->block, r->before, r->block_bytes);
    return true;
}

static void dispose(run *r)
{
    const kvt_case_memory *memory = &r->subject->memory;
    if (memory->alloc == NULL)
        free(r->block);
    else if (r->block != NULL)
        memory->release(memory->arg, r->block);
    if (memory->segment_alloc == NULL)
        free(r->segments);
    else if (r->segments != NULL)
        memory->segment_release(memory->arg, r->segments);
    free(r->pools), free(r->bases), free(r->before), free(r->after), free(r->scratch), free(r->plain),
        free(r->gathered);
}

/* ---------------------------------------------------------------- acting it */

/* Another group in front. */
static const kvt_group lead = {
    .layer_count = 3,
    .page_tokens = 1,
    .view_count = 1,
    .views = {{.plane_count = 1, .head_count = 1, .head_bytes = 6, .element_bytes = 2}},
};

static kvt_status layout_on(run *r, uint8_t *arena, kvt_layout **out)
{
    kvt_group groups[2] = {lead, lead};
    for (uint32_t i = 0; i < r->named.pool_count; i++)
        r->pools[i] = arena + i * r->pool_span + r->pool_span / 3;
    kvt_named_pages_place(&r->named, r->pools, r->bases);
    groups[r->c->group_index] = r->named.group;
    return kvt_layout_create(groups, r->c->group_index + 1, CHUNK_PAGES * r->c->shape.page_tokens, out);
}

static void moves_on(run *r, uint8_t *segments, kvt_move moves[KVT_CASE_MOVES_MAX])
{
    const kvt_rope_case *c = r->c;
    for (uint32_t m = 0; m < c->move_count; m++)
        moves[m] = (kvt_move){segment_at(r, segments, m),
                              r->ids[m],
                              c->group_index,
                              c->segment_tokens,
                              c->token_begin,
                              c->token_count,
                              c->layer_begin,
                              c->layer_count};
}

static void set_on(run *r, uint8_t *block, kvt_rope ropes[KVT_ROPE_CASE_ROPES_MAX],
                   kvt_rope_shift shifts[KVT_CASE_MOVES_MAX], kvt_rope_set *set)
{
    memcpy(ropes, r->ropes, sizeof r->ropes);
    memcpy(shifts, r->c->shifts, sizeof r->c->shifts);
    for (uint32_t i = 0; i < r->rope_count; i++) {
        ropes[i].cosines = tables_of(r, block) + (uintptr_t)r->ropes[i].cosines;
        ropes[i].sines = tables_of(r, block) + (uintptr_t)r->ropes[i].sines;
    }
    *set = (kvt_rope_set){ropes, shifts, r->rope_count, 0};
}

static kvt_status act(run *r)
{
    kvt_layout *layout;
    kvt_move moves[KVT_CASE_MOVES_MAX];
    kvt_rope ropes[KVT_ROPE_CASE_ROPES_MAX];
    kvt_rope_shift shifts[KVT_CASE_MOVES_MAX];
    kvt_rope_set set;
    KVT_TRY(layout_on(r, r->block, &layout));
    moves_on(r, r->segments != NULL ? r->segments : segments_of(r, r->block), moves);
    set_on(r, r->block, ropes, shifts, &set);
    if (r->subject->mutate != NULL)
        r->subject->mutate(r->subject->mutate_arg, ropes, r->rope_count, shifts, r->c->move_count);
    kvt_status status = r->subject->scatter(r->subject->arg, layout, moves, r->c->move_count, &set);
    kvt_layout_destroy(layout);
    KVT_TRY(status);
    const kvt_case_memory *memory = &r->subject->memory;
    if (memory->alloc == NULL)
        memcpy(r->after, r->block, r->block_bytes);
    else if (!memory->read(memory->arg, r->after, r->block, r->block_bytes))
        return kvt_fail(KVT_DEVICE, "pages cannot be read");
    return KVT_OK;
}

/* The portable backend over `scratch`: turned (set), or plain in a direction. */
static kvt_status portable(run *r, kvt_direction direction, bool turned, uint8_t *segments)
{
    kvt_layout *layout;
    kvt_backend *backend;
    kvt_move moves[KVT_CASE_MOVES_MAX];
    kvt_rope ropes[KVT_ROPE_CASE_ROPES_MAX];
    kvt_rope_shift shifts[KVT_CASE_MOVES_MAX];
    kvt_rope_set set;
    KVT_TRY(layout_on(r, r->scratch, &layout));
    moves_on(r, segments, moves);
    set_on(r, r->before, ropes, shifts, &set);
    kvt_status status = kvt_backend_open("portable", NULL, &backend);
    if (status == KVT_OK) {
        status = turned ? kvt_case_rope_backend(backend, layout, moves, r->c->move_count, &set)
                        : kvt_case_move_backend(backend, layout, direction, moves, r->c->move_count);
        kvt_backend_close(backend);
    }
    kvt_layout_destroy(layout);
    return status;
}

/* ------------------------------------------------------------------ judging */

static bool same(const uint8_t *got, const uint8_t *want, uint64_t bytes, const char *what, char *why)
{
    uint64_t at = 0;
    if (memcmp(got, want, bytes) == 0)
        return true;
    while (got[at] == want[at])
        at++;
    snprintf(why, KVT_CASE_TEXT_BYTES, "%s: byte %llu of %llu is %02x, not %02x", what, (unsigned long long)at,
             (unsigned long long)bytes, got[at], want[at]);
    return false;
}

/* The descriptor that turns this row, or NULL. */
static const kvt_rope *turned_by(const run *r, uint32_t move, uint32_t layer, uint32_t plane)
{
    if (r->c->shifts[move].stored == r->c->shifts[move].wanted || (r->c->shape.planes >> plane & 1) == 0)
        return NULL;
    for (uint32_t i = 0; i < r->rope_count; i++)
        if (layer >= r->ropes[i].layer_begin && layer < r->ropes[i].layer_begin + r->ropes[i].layer_count)
            return &r->ropes[i];
    return NULL;
}

static void judge_head(const run *r, const kvt_rope *rope, kvt_rope_shift at, const uint8_t *got, const uint8_t *from,
                       kvt_oracle_error *error)
{
    uint32_t e = r->c->element, t = r->c->table_element, bytes = kvt_oracle_bytes(e), pairs = r->c->shape.window / 2;
    const uint8_t *cosines = tables_of(r, r->before) + (uintptr_t)rope->cosines;
    const uint8_t *sines = tables_of(r, r->before) + (uintptr_t)rope->sines;
    for (uint32_t i = 0; i < pairs; i++) {
        uint64_t x = r->c->shape.window_begin + (r->c->pairing == KVT_ROPE_NEOX ? i : 2 * i);
        uint64_t y = r->c->pairing == KVT_ROPE_NEOX ? x + pairs : x + 1;
        uint64_t old_at = at.stored * r->row_stride + (uint64_t)i * kvt_oracle_bytes(t);
        uint64_t new_at = at.wanted * r->row_stride + (uint64_t)i * kvt_oracle_bytes(t);
        kvt_oracle_pair k = {kvt_oracle_load(e, from + x * bytes), kvt_oracle_load(e, from + y * bytes)};
        kvt_oracle_pair want =
            kvt_oracle_move(k, kvt_oracle_load(t, cosines + old_at), kvt_oracle_load(t, sines + old_at),
                            kvt_oracle_load(t, cosines + new_at), kvt_oracle_load(t, sines + new_at));
        long double size = fabsl(k.x) + fabsl(k.y);
        kvt_oracle_judge(error, e, kvt_oracle_load(e, got + x * bytes), want.x, size);
        kvt_oracle_judge(error, e, kvt_oracle_load(e, got + y * bytes), want.y, size);
    }
}

/* One row of one blob: bytes outside the window, and the window. False: a byte is wrong. */
static bool judge_row(const run *r, uint32_t move, uint32_t layer, uint32_t plane, uint32_t token,
                      kvt_oracle_error *error)
{
    const kvt_rope_case *c = r->c;
    const kvt_rope *rope = turned_by(r, move, layer, plane);
    uint64_t row = (layer * r->layer_token_bytes + plane * r->row_bytes) * c->segment_tokens + token * r->row_bytes;
    const uint8_t *got = segment_at(r, r->gathered, move) + row;
    const uint8_t *from = segment_at(r, segments_of(r, r->before), move) + row;
    uint32_t begin = c->shape.window_begin * kvt_oracle_bytes(c->element);
    uint32_t end = begin + c->shape.window * kvt_oracle_bytes(c->element);
    kvt_rope_shift at = {c->shifts[move].stored + token, c->shifts[move].wanted + token};
    if (rope == NULL)
        return memcmp(got, from, r->row_bytes) == 0;
    for (uint32_t h = 0; h < c->shape.heads; h++, got += r->head_bytes, from += r->head_bytes) {
        if (memcmp(got, from, begin) != 0 || memcmp(got + end, from + end, r->head_bytes - end) != 0)
            return false;
        judge_head(r, rope, at, got, from, error);
    }
    return true;
}

static bool judge_blobs(const run *r, kvt_oracle_error *error, char *why)
{
    const kvt_rope_case *c = r->c;
    for (uint32_t m = 0; m < c->move_count; m++)
        for (uint32_t l = c->layer_begin; l < c->layer_begin + c->layer_count; l++)
            for (uint32_t p = 0; p < r->planes; p++)
                for (uint32_t t = c->token_begin; t < c->token_begin + c->token_count; t++)
                    if (r->ids[m][t / c->shape.page_tokens] != KVT_PAGE_NONE && !judge_row(r, m, l, p, t, error)) {
                        snprintf(why, KVT_CASE_TEXT_BYTES,
                                 "blob %u layer %u plane %u token %u: bytes that do not turn changed", m, l, p, t);
                        return false;
                    }
    double ratio = kvt_oracle_ratio(error);
    if (ratio <= KVT_ROPE_RATIO_MAX && error->astray == 0)
        return true;
    snprintf(why, KVT_CASE_TEXT_BYTES, "error %.3f of the rounding floor, %llu of %llu elements astray", ratio,
             (unsigned long long)error->astray, (unsigned long long)error->count);
    return false;
}

static bool judge(run *r, kvt_oracle_error *error, char *why)
{
    uint8_t *tail = r->after + r->arena_bytes, *segments = segments_of(r, r->before);
    if (!same(tail, r->before + r->arena_bytes, r->block_bytes - r->arena_bytes, "tables and blobs", why) ||
        (r->segments != NULL && !same(r->segments, segments, r->segments_bytes, "blobs", why)))
        return false;
    memcpy(r->scratch, r->before, r->arena_bytes);
    if (portable(r, KVT_SCATTER, false, segments) != KVT_OK)
        return false;
    memcpy(r->plain, r->scratch, r->arena_bytes);
    memcpy(r->scratch, r->after, r->arena_bytes);
    memcpy(r->gathered, segments, r->segments_bytes);
    if (portable(r, KVT_GATHER, false, r->gathered) != KVT_OK || portable(r, KVT_SCATTER, false, segments) != KVT_OK ||
        !same(r->scratch, r->plain, r->arena_bytes, "what lies around the moved bytes", why) ||
        !judge_blobs(r, error, why))
        return false;
    memcpy(r->scratch, r->before, r->arena_bytes);
    return portable(r, KVT_SCATTER, true, segments) == KVT_OK &&
           same(r->after, r->scratch, r->arena_bytes, "against the portable backend", why);
}

kvt_case_outcome kvt_rope_case_run(const kvt_rope_case *c, const kvt_rope_subject *subject, kvt_oracle_error *error,
                                   char why[KVT_CASE_TEXT_BYTES])
{
    run r = {.c = c, .subject = subject};
    kvt_oracle_error own = {.count = 0};
    kvt_case_outcome outcome = KVT_CASE_NO_MEMORY;
    snprintf(why, KVT_CASE_TEXT_BYTES, "out of memory");
    if (prepare(&r)) {
        kvt_status status = act(&r);
        outcome = status != KVT_OK ? KVT_CASE_REFUSED : judge(&r, &own, why) ? KVT_CASE_PASSED : KVT_CASE_WRONG_BYTES;
        if (status != KVT_OK)
            snprintf(why, KVT_CASE_TEXT_BYTES, "refused: %.200s", kvt_last_error());
    }
    if (error != NULL) {
        error->got += own.got, error->floor += own.floor, error->truth += own.truth;
        error->count += own.count, error->astray += own.astray;
    }
    dispose(&r);
    return outcome;
}

kvt_status kvt_case_rope_backend(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                 const kvt_rope_set *set)
{
    kvt_fence fence = {NULL};
    KVT_TRY(kvt_backend_scatter_rope(arg, layout, moves, count, set, NULL, &fence));
    return kvt_backend_fence_wait(arg, &fence);
}
