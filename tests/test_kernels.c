/* SPDX-License-Identifier: Apache-2.0
 *
 * Backends: every case of the list, byte for byte, guards included; planted mistakes must be noticed; arguments are
 * refused before a byte moves; a device that can only copy, or only move rows, still serves.
 */
#include "tests/cases_kernels.h"
#include "tests/support.h"

#include "kernels/backend.h"
#include "kernels/cpu_copy.h"
#include "kernels/layout_int.h"

#include <malloc.h>
#include <stdio.h>

/* Run all cases; the first few failures are shown. */
static void run_all(const kvt_case_subject *subject, const char *name)
{
    uint32_t failed = 0, run = 0;
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* the runner's buffers stay mapped from case to case */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    kvt_kernel_case c;
    for (uint32_t i = 0; kvt_kernel_case_at(i, &c); i += KVT_CASE_STEP, run++) {
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        if (kvt_kernel_case_run(&c, subject, why) == KVT_CASE_PASSED)
            continue;
        kvt_kernel_case_text(&c, text);
        if (failed++ < 5)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert_eq(failed, 0, "%s: %u of %u cases fail", name, failed, run);
}

static void run_backend(const char *name)
{
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open(name, NULL, &backend), KVT_OK, "%s", kvt_last_error());
    run_all(&(kvt_case_subject){.move = kvt_case_move_backend, .arg = backend}, name);
    kvt_backend_close(backend);
}

KVT_TEST(kernels, the_portable_backend_moves_every_case_exactly) { run_backend("portable"); }

static kvt_status move_with_table(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                  size_t count)
{
    KVT_TRY(kvt_moves_check(layout, moves, count));
    kvt_cpu_move(arg, layout, direction, moves, count);
    return KVT_OK;
}

/* Cases are small, and the backend streams only large calls: here every case meets the inner loops of each set. */
KVT_TEST(kernels, every_instruction_set_moves_every_case_exactly)
{
    static const uint32_t hidden[] = {0, KVT_CPU_AVX512, KVT_CPU_AVX512 | KVT_CPU_AVX2};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        kvt_cpu_mask(hidden[i]);
        const kvt_cpu_copy *copy = kvt_cpu_copy_pick();
        run_all(&(kvt_case_subject){.move = move_with_table, .arg = (void *)(uintptr_t)copy}, copy->name);
    }
    kvt_cpu_mask(0);
}

KVT_TEST(kernels, the_cpu_backend_moves_every_case_exactly) { run_backend("cpu"); }

/* ------------------------------------------------------- devices with less */

/* A device that queues copies: they take place when its fence is waited for, in order. */
typedef struct queued_copy {
    uint8_t *to;
    const uint8_t *from;
    uint64_t bytes;
} queued_copy;
enum { QUEUE_MAX = 1 << 16 };
static struct {
    queued_copy copies[QUEUE_MAX];
    uint32_t count;      /* queued */
    uint32_t copy_calls; /* since the test reset it */
    uint32_t row_calls;
    uint32_t fences_open;
    uint32_t fail_at; /* this copy call fails; 0: none */
} queue;

static uint32_t queue_score(char *why, size_t why_bytes)
{
    (void)why, (void)why_bytes;
    return 1;
}
static uint32_t absent_score(char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "no such device");
    return 0;
}
static kvt_status queue_open(const kvt_log *log, void **out)
{
    (void)log;
    *out = &queue;
    return KVT_OK;
}
static void queue_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    (void)context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "a queue");
}
static kvt_status queue_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes,
                             void *stream)
{
    (void)context, (void)direction, (void)stream;
    if (++queue.copy_calls == queue.fail_at)
        return kvt_fail(KVT_DEVICE, "copy %u fails", queue.fail_at);
    cr_assert_lt(queue.count, QUEUE_MAX);
    queue.copies[queue.count++] = (queued_copy){to, from, bytes};
    return KVT_OK;
}
static kvt_status queue_rows(void *context, kvt_direction direction, const kvt_rows *rows, void *stream)
{
    (void)context, (void)stream;
    queue.row_calls++;
    for (uint64_t k = 0; k < rows->count; k++) {
        cr_assert_neq(rows->ids[k], KVT_PAGE_NONE, "rows have no holes");
        uint8_t *page = rows->page + rows->ids[k] * rows->page_stride, *blob = rows->blob + k * rows->row_bytes;
        queue.copies[queue.count++] = direction == KVT_GATHER ? (queued_copy){blob, page, rows->row_bytes}
                                                              : (queued_copy){page, blob, rows->row_bytes};
    }
    return KVT_OK;
}
static kvt_status queue_fence_open(void *context, void *stream, kvt_fence *fence)
{
    (void)context, (void)stream;
    queue.fences_open++;
    fence->impl = &queue;
    return KVT_OK;
}
static kvt_status queue_fence_wait(void *context, kvt_fence *fence)
{
    (void)context, (void)fence;
    for (uint32_t i = 0; i < queue.count; i++)
        memcpy(queue.copies[i].to, queue.copies[i].from, queue.copies[i].bytes);
    queue.count = 0;
    queue.fences_open--;
    return KVT_OK;
}

static const kvt_backend_ops copies_only = {.name = "copies",
                                            .version = KVT_BACKEND_VERSION,
                                            .score = queue_score,
                                            .open = queue_open,
                                            .describe = queue_describe,
                                            .copy = queue_copy,
                                            .fence_open = queue_fence_open,
                                            .fence_wait = queue_fence_wait};

static kvt_backend *open_ops(const kvt_backend_ops *ops)
{
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open_ops(ops, KVT_RUNG_BEST, NULL, &backend), KVT_OK, "%s", kvt_last_error());
    return backend;
}

KVT_TEST(kernels, a_device_that_only_copies_moves_every_case_exactly)
{
    kvt_backend *backend = open_ops(&copies_only);
    run_all(&(kvt_case_subject){.move = kvt_case_move_backend, .arg = backend}, "copies");
    cr_assert_eq(queue.fences_open, 0);
    kvt_backend_close(backend);
}

KVT_TEST(kernels, a_device_with_row_operators_moves_every_case_exactly)
{
    kvt_backend_ops ops = copies_only;
    ops.rows = queue_rows;
    kvt_backend *backend = open_ops(&ops);
    run_all(&(kvt_case_subject){.move = kvt_case_move_backend, .arg = backend}, "rows");
    cr_assert_gt(queue.row_calls, 500);
    kvt_backend_close(backend);
}

/* ------------------------------------------------------- one small memory */

/* MLA, 2 layers, pages of 4 tokens of 16 bytes, 12 pages; chunks of 8 pages. */
typedef struct small {
    kvt_backend *backend;
    kvt_layout *layout;
    uint8_t pages[2][12 * 64];
    uint8_t segment[2 * 32 * 16];
    uint32_t ids[8];
    void *bases[2];
} small;

static void small_open(small *s, kvt_backend *backend)
{
    memset(s, 0, sizeof *s);
    s->backend = backend;
    kvt_named_pages pages;
    kvt_page_geometry geometry = {2, 4, 12, 1, 16, 2, 0, 0};
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("mla"), &geometry, &pages), KVT_OK);
    kvt_named_pages_place(&pages, (void *const[2]){s->pages[0], s->pages[1]}, s->bases);
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 32, &s->layout), KVT_OK);
    kvt_test_fill(s->pages, sizeof s->pages, 1);
    for (uint32_t i = 0; i < 8; i++)
        s->ids[i] = i + 2;
}

static void small_close(small *s)
{
    kvt_layout_destroy(s->layout);
    kvt_backend_close(s->backend);
}

static kvt_move small_move(small *s) { return (kvt_move){s->segment, s->ids, 0, 32, 0, 32, 0, 2}; }

KVT_TEST(kernels, neighbouring_pages_become_one_copy)
{
    static small s;
    small_open(&s, open_ops(&copies_only));
    kvt_move move = small_move(&s);
    queue.copy_calls = 0;
    cr_assert_eq(kvt_case_move_backend(s.backend, s.layout, KVT_GATHER, &move, 1), KVT_OK);
    cr_assert_eq(queue.copy_calls, 2, "one a layer, not %u", queue.copy_calls);
    s.ids[3] = 0; /* 2 3 4 | 0 | 6 7 8 9 */
    queue.copy_calls = 0;
    cr_assert_eq(kvt_case_move_backend(s.backend, s.layout, KVT_GATHER, &move, 1), KVT_OK);
    cr_assert_eq(queue.copy_calls, 2 * 3);
    for (uint32_t i = 0; i < 8; i++)
        s.ids[i] = 9 - i;
    queue.copy_calls = 0;
    cr_assert_eq(kvt_case_move_backend(s.backend, s.layout, KVT_GATHER, &move, 1), KVT_OK);
    cr_assert_eq(queue.copy_calls, 2 * 8, "reversed pages are not neighbours");
    small_close(&s);
}

KVT_TEST(kernels, a_hole_merges_with_neither_neighbour)
{
    static small s;
    small_open(&s, open_ops(&copies_only));
    kvt_move move = small_move(&s);
    s.ids[1] = KVT_PAGE_NONE;
    s.ids[2] = 0; /* the number after KVT_PAGE_NONE */
    queue.copy_calls = 0;
    cr_assert_eq(kvt_case_move_backend(s.backend, s.layout, KVT_GATHER, &move, 1), KVT_OK);
    cr_assert_eq(queue.copy_calls, 2 * 3);
    cr_assert_eq(memcmp(s.segment + 128, s.pages[0], 64), 0, "page 0 behind a hole");
    small_close(&s);
}

KVT_TEST(kernels, a_device_failure_still_leaves_a_fence_to_wait_for)
{
    static small s;
    small_open(&s, open_ops(&copies_only));
    kvt_move move = small_move(&s);
    s.ids[3] = 0;
    queue.copy_calls = 0;
    queue.fail_at = 4;
    kvt_fence fence = {NULL};
    cr_assert_eq(kvt_backend_move(s.backend, s.layout, KVT_GATHER, &move, 1, NULL, &fence), KVT_DEVICE);
    cr_assert_eq(queue.count, 3, "what was queued before is under way");
    cr_assert_eq(kvt_backend_fence_wait(s.backend, &fence), KVT_OK);
    cr_assert_null(fence.impl);
    cr_assert_eq(queue.fences_open, 0);
    queue.fail_at = 0;
    small_close(&s);
}

/* -------------------------------------------------------------- arguments */

static void expect_refused(small *s, const kvt_move *move, const char *word)
{
    uint8_t pages[sizeof s->pages], segment[sizeof s->segment];
    memcpy(pages, s->pages, sizeof pages);
    memcpy(segment, s->segment, sizeof segment);
    kvt_move moves[2] = {small_move(s), *move}; /* the good one first: it must not start either */
    for (int direction = 0; direction < 2; direction++) {
        kvt_fence fence = {NULL};
        kvt_fail_clear();
        cr_assert_eq(kvt_backend_move(s->backend, s->layout, (kvt_direction)direction, moves, 2, NULL, &fence),
                     KVT_INVALID, "accepted a wrong %s", word);
        cr_assert_not_null(strstr(kvt_last_error(), word), "\"%s\" does not name %s", kvt_last_error(), word);
        cr_assert_null(fence.impl);
    }
    cr_assert_eq(memcmp(pages, s->pages, sizeof pages), 0);
    cr_assert_eq(memcmp(segment, s->segment, sizeof segment), 0);
}

#define REFUSED(change, word)                                                                                          \
    do {                                                                                                               \
        kvt_move move = small_move(&s);                                                                                \
        change;                                                                                                        \
        expect_refused(&s, &move, word);                                                                               \
    } while (0)

KVT_TEST(kernels, wrong_arguments_are_refused_before_a_byte_moves)
{
    static small s;
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open("cpu", NULL, &backend), KVT_OK);
    small_open(&s, backend);
    static const uint32_t high[8] = {0, 1, 2, 3, 4, 5, 6, 12};
    REFUSED(move.group = 1, "group");
    REFUSED(move.segment = NULL, "segment");
    REFUSED(move.pages = NULL, "pages");
    REFUSED(move.pages = high, "page id 12");
    REFUSED(move.segment_tokens = 0, "segment_tokens");
    REFUSED(move.segment_tokens = 33, "segment_tokens");
    REFUSED(move.token_count = 33, "tokens");
    REFUSED((move.token_begin = UINT32_MAX, move.token_count = 2), "tokens");
    REFUSED((move.token_begin = 2, move.token_count = UINT32_MAX), "tokens");
    REFUSED(move.layer_count = 3, "layers");
    REFUSED((move.layer_begin = 3, move.layer_count = 0), "layers");
    REFUSED((move.layer_begin = UINT32_MAX, move.layer_count = 2), "layers");
    kvt_fence fence = {NULL};
    kvt_move move = small_move(&s);
    cr_assert_eq(kvt_backend_move(s.backend, s.layout, (kvt_direction)2, &move, 1, NULL, &fence), KVT_INVALID);
    cr_assert_eq(kvt_backend_move(s.backend, s.layout, KVT_GATHER, NULL, 1, NULL, &fence), KVT_INVALID);
    small_close(&s);
}

KVT_TEST(kernels, entries_outside_the_range_are_not_read_and_empty_moves_are_legal)
{
    static small s;
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open(NULL, NULL, &backend), KVT_OK);
    small_open(&s, backend);
    s.ids[0] = s.ids[7] = 4711; /* of pages that the range does not touch */
    kvt_move move = small_move(&s);
    move.token_begin = 4;
    move.token_count = 24;
    cr_assert_eq(kvt_case_move_backend(backend, s.layout, KVT_GATHER, &move, 1), KVT_OK, "%s", kvt_last_error());
    kvt_move nothing = {.segment_tokens = 32};
    cr_assert_eq(kvt_case_move_backend(backend, s.layout, KVT_GATHER, &nothing, 1), KVT_OK);
    cr_assert_eq(kvt_case_move_backend(backend, s.layout, KVT_GATHER, NULL, 0), KVT_OK);
    small_close(&s);
}

/* ---------------------------------------------------------------- registry */

static uint32_t warnings;
static void count_warnings(void *arg, kvt_log_level level, const char *message)
{
    (void)arg, (void)message;
    warnings += level == KVT_LOG_WARN;
}

KVT_TEST(kernels, backends_open_by_name_or_best_first)
{
    const kvt_log log = {count_warnings, NULL};
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open("auto", &log, &backend), KVT_OK);
    kvt_backend_info info;
    kvt_backend_get_info(backend, &info);
    uint32_t better = 0; /* backends before the one that opened: each may warn, unless its device is simply not there */
    while (strcmp(kvt_backend_name_at(better), info.name) != 0)
        better++;
    cr_assert_leq(warnings, better);
    kvt_backend_close(backend);
    cr_assert_eq(kvt_backend_open("portable", NULL, &backend), KVT_OK);
    kvt_backend_get_info(backend, &info);
    cr_assert_str_eq(info.name, "portable");
    cr_assert_str_neq(info.device, "");
    kvt_backend_close(backend);
    backend = NULL;
    cr_assert_eq(kvt_backend_open("abacus", NULL, &backend), KVT_UNSUPPORTED);
    cr_assert_null(backend);
    cr_assert_not_null(strstr(kvt_last_error(), "portable"), "the error names what there is: %s", kvt_last_error());
    kvt_backend_close(NULL);
}

KVT_TEST(kernels, an_unusable_or_foreign_backend_is_refused_with_its_reason)
{
    kvt_backend *backend = NULL;
    kvt_backend_ops ops = copies_only;
    ops.score = absent_score;
    cr_assert_eq(kvt_backend_open_ops(&ops, KVT_RUNG_BEST, NULL, &backend), KVT_UNSUPPORTED);
    cr_assert_not_null(strstr(kvt_last_error(), "no such device"));
    ops = copies_only, ops.version = KVT_BACKEND_VERSION + 1;
    cr_assert_eq(kvt_backend_open_ops(&ops, KVT_RUNG_BEST, NULL, &backend), KVT_UNSUPPORTED);
    ops = copies_only, ops.copy = NULL;
    cr_assert_eq(kvt_backend_open_ops(&ops, KVT_RUNG_BEST, NULL, &backend), KVT_UNSUPPORTED);
    kvt_alloc_fail_at(1);
    cr_assert_eq(kvt_backend_open_ops(&copies_only, KVT_RUNG_BEST, NULL, &backend), KVT_NOMEM);
    kvt_alloc_fail_at(0);
    cr_assert_null(backend);
}

/* -------------------------------------------------------------- large moves */

enum { LARGE_LAYERS = 4, LARGE_PAGES = 40, LARGE_BYTES = LARGE_LAYERS * 2 * 256 * 2048 };

/* Gather one 4 MiB chunk of 16 pages and scatter it into the pages after those. */
static void move_large(const char *backend_name, kvt_named_pages named, uint8_t *pages, uint8_t *segment)
{
    void *pools[LARGE_LAYERS], *bases[LARGE_LAYERS];
    for (uint32_t l = 0; l < LARGE_LAYERS; l++)
        pools[l] = pages + l * named.pool_bytes;
    kvt_named_pages_place(&named, pools, bases);
    kvt_layout *layout;
    kvt_backend *backend;
    cr_assert_eq(kvt_layout_create(&named.group, 1, 256, &layout), KVT_OK);
    cr_assert_eq(kvt_backend_open(backend_name, NULL, &backend), KVT_OK);
    uint32_t from[16], to[16];
    for (uint32_t i = 0; i < 16; i++) {
        from[i] = (i * 7 + 3) % LARGE_PAGES;
        to[i] = (from[i] + 1) % LARGE_PAGES;
    }
    uint64_t allocations = kvt_alloc_count();
    kvt_move move = {segment, from, 0, 256, 0, 256, 0, LARGE_LAYERS};
    cr_assert_eq(kvt_case_move_backend(backend, layout, KVT_GATHER, &move, 1), KVT_OK);
    move.pages = to;
    cr_assert_eq(kvt_case_move_backend(backend, layout, KVT_SCATTER, &move, 1), KVT_OK);
    cr_assert_eq(kvt_alloc_count(), allocations, "%s allocates on the data path", backend_name);
    kvt_layout_destroy(layout);
    kvt_backend_close(backend);
}

KVT_TEST(kernels, large_moves_agree_with_the_reference_and_allocate_nothing)
{
    static const char *const layouts[] = {"flashinfer-nhd", "vllm-flash-hnd", "fused-nhd"};
    static const char *const backends[] = {"portable", "cpu"};
    for (size_t n = 0; n < sizeof layouts / sizeof *layouts; n++) {
        kvt_named_pages named;
        kvt_page_geometry geometry = {LARGE_LAYERS, 16, LARGE_PAGES, 8, 256, 2, 0, 0};
        cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name(layouts[n]), &geometry, &named), KVT_OK);
        uint64_t pool = named.pool_bytes * named.pool_count;
        uint8_t *pages[2], *segments[2];
        for (uint32_t i = 0; i < 2; i++) {
            pages[i] = kvt_alloc_aligned(64, pool);
            segments[i] = kvt_alloc_aligned(64, LARGE_BYTES);
            kvt_test_fill(pages[i], pool, 5);
            memset(segments[i], 0xa5, LARGE_BYTES);
            move_large(backends[i], named, pages[i], segments[i]);
        }
        cr_assert_eq(memcmp(segments[0], segments[1], LARGE_BYTES), 0, "%s gathers differ", layouts[n]);
        cr_assert_eq(memcmp(pages[0], pages[1], pool), 0, "%s scatters differ", layouts[n]);
        kvt_free(pages[0]), kvt_free(pages[1]), kvt_free(segments[0]), kvt_free(segments[1]);
    }
}

KVT_TEST(kernels, pages_lent_by_a_backend_can_be_filled_and_read)
{
    kvt_backend *backend = NULL;
    void *pages = NULL;
    char text[6] = "";
    cr_assert_eq(kvt_backend_open(NULL, NULL, &backend), KVT_OK);
    cr_assert_eq(kvt_backend_pages_alloc(backend, 1 << 20, &pages), KVT_OK);
    cr_assert_eq(kvt_backend_pages_copy(backend, KVT_SCATTER, pages, "hello", 6), KVT_OK);
    cr_assert_eq(kvt_backend_pages_copy(backend, KVT_GATHER, text, pages, 6), KVT_OK);
    cr_assert_str_eq(text, "hello");
    cr_assert_eq(kvt_backend_host_register(backend, text, sizeof text), KVT_OK);
    kvt_backend_host_unregister(backend, text);
    kvt_backend_pages_free(backend, pages, 1 << 20);
    kvt_backend_close(backend);
}

/* ------------------------------------------------------- random descriptors */

enum { RANDOM_POOL = 1 << 17, RANDOM_SEGMENT = 1 << 17, RANDOM_POOLS_MAX = 8 };

static uint32_t below(uint64_t *state, uint32_t bound) { return (uint32_t)(kvt_test_random(state) % bound); }

/* Any nesting of dimensions, some of planes and layers by pointer. */
static void random_order(uint64_t *state, char order[8])
{
    char memory[6] = "PLBTH";
    uint32_t tables = 0, at = 0;
    for (uint32_t i = 5; i > 1; i--) {
        uint32_t j = below(state, i);
        char held = memory[i - 1];
        memory[i - 1] = memory[j], memory[j] = held;
    }
    uint32_t mask = below(state, 4);
    for (uint32_t i = 0; i < 5; i++)
        if ((memory[i] == 'P' && (mask & 1) != 0) || (memory[i] == 'L' && (mask & 2) != 0))
            order[at++] = memory[i], tables++;
    order[at++] = '|';
    for (uint32_t i = 0; i < 5; i++)
        if (memchr(order, memory[i], tables) == NULL)
            order[at++] = memory[i];
    order[at++] = 'D';
    order[at] = '\0';
}

/* Let a dimension run backwards: the same bytes, counted from the other end. */
static void reverse(int64_t *stride, uint32_t extent, int64_t *offset)
{
    *offset += *stride * (int64_t)(extent - 1);
    *stride = -*stride;
}

static void random_reverse(uint64_t *state, kvt_group *group)
{
    kvt_view *view = &group->views[0];
    uint32_t mask = below(state, 32);
    if ((mask & 1) != 0)
        reverse(&view->page_stride, group->page_count, &view->offset);
    if ((mask & 2) != 0)
        reverse(&view->token_stride, group->page_tokens, &view->offset);
    if ((mask & 4) != 0)
        reverse(&view->head_stride, view->head_count, &view->offset);
    if ((mask & 8) != 0 && view->base_plane == 0)
        reverse(&view->plane_stride, view->plane_count, &view->offset);
    if ((mask & 16) != 0 && view->base_layer == 0)
        reverse(&view->layer_stride, group->layer_count, &view->offset);
}

typedef struct random_side { /* memory of one of two subjects that must agree */
    uint8_t pages[RANDOM_POOL];
    uint8_t segment[RANDOM_SEGMENT];
} random_side;

static void move_random(const kvt_backend_ops *ops, kvt_named_pages named, uint64_t state, random_side *side)
{
    void *pools[RANDOM_POOLS_MAX], *bases[RANDOM_POOLS_MAX];
    for (uint32_t i = 0; i < named.pool_count; i++) /* not evenly spaced, if there are three */
        pools[i] = side->pages + i * named.pool_bytes + (i > 1 ? 16 : 0);
    kvt_named_pages_place(&named, pools, bases);
    static const uint32_t some_pages[8] = {2, 3, 4, 7, 0, 1, 8, 5};
    kvt_layout *layout;
    uint32_t ids[8], chunk = 8 * named.group.page_tokens, layers = named.group.layer_count;
    cr_assert_eq(kvt_layout_create(&named.group, 1, chunk, &layout), KVT_OK, "%s", kvt_last_error());
    kvt_fence fence = {NULL};
    for (int direction = 0; direction < 2; direction++) {
        for (uint32_t i = 0; i < 8; i++)
            ids[i] = below(&state, 6) == 0 ? KVT_PAGE_NONE : some_pages[i];
        kvt_move move = {side->segment, ids, 0, 1 + below(&state, chunk), 0, 0, below(&state, layers), 0};
        move.token_begin = below(&state, move.segment_tokens);
        move.token_count = 1 + below(&state, move.segment_tokens - move.token_begin);
        move.layer_count = 1 + below(&state, layers - move.layer_begin);
        cr_assert_eq(kvt_moves_check(layout, &move, 1), KVT_OK, "%s", kvt_last_error());
        if (ops != NULL)
            cr_assert_eq(ops->move(NULL, layout, (kvt_direction)direction, &move, 1, NULL, &fence), KVT_OK);
        else
            kvt_cpu_move(kvt_cpu_copy_pick(), layout, (kvt_direction)direction, &move, 1);
    }
    kvt_layout_destroy(layout);
}

KVT_TEST(kernels, random_descriptors_move_alike_with_and_without_a_plan)
{
    static random_side sides[2];
    uint64_t state = kvt_test_seed("random descriptors");
    static const uint32_t head_bytes[] = {1, 2, 6, 16, 64, 128};
    for (uint32_t i = 0; i < 3000; i++) {
        char order[8];
        random_order(&state, order);
        kvt_named_layout layout = {"random", order, "", 1 + below(&state, 2), 0};
        kvt_page_geometry geometry = {
            1 + below(&state, 3), 1 + below(&state, 4), 9, 1 + below(&state, 3), head_bytes[below(&state, 6)], 1, 0, 0};
        kvt_named_pages named;
        cr_assert_eq(kvt_named_layout_build(&layout, &geometry, &named), KVT_OK, "%s", kvt_last_error());
        if (named.pool_count > RANDOM_POOLS_MAX || named.pool_bytes * named.pool_count + 16 > RANDOM_POOL)
            continue;
        random_reverse(&state, &named.group);
        uint64_t seed = kvt_test_random(&state);
        kvt_test_fill(&sides[0], sizeof sides[0], seed);
        sides[1] = sides[0];
        move_random(&kvt_backend_portable, named, seed, &sides[0]);
        move_random(NULL, named, seed, &sides[1]);
        cr_assert_eq(memcmp(&sides[0], &sides[1], sizeof sides[0]), 0, "order %s, number %u", order, i);
    }
}
