/* SPDX-License-Identifier: Apache-2.0
 *
 * Re-positioned keys through the glue of the CUDA backend, over a runtime in host memory (cuda_double.h): every case by
 * every transport, in small pieces too, with streams that run in random order; the n-th runtime call failing.
 */
#include "tests/cases_rope.h"
#include "tests/cuda_double.h"
#include "tests/support.h"

#include "kernels/cuda_int.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

extern const kvt_backend_ops kvt_backend_cuda;
static const kvt_log silent = {NULL, NULL};

enum { BLOCK_BYTES = 32 << 20, SEGMENT_BYTES = 4 << 20 };

typedef struct rig {
    kvt_cuda *cuda;
    void *pages;
    uint8_t *segments;
} rig;

static void *take_pages(void *arg, uint64_t bytes) { return bytes <= BLOCK_BYTES ? ((rig *)arg)->pages : NULL; }
static void *take_segments(void *arg, uint64_t bytes) { return bytes <= SEGMENT_BYTES ? ((rig *)arg)->segments : NULL; }
static void keep(void *arg, void *memory) { (void)arg, (void)memory; }
static bool copy(void *arg, void *to, const void *from, uint64_t bytes)
{
    (void)arg;
    memcpy(to, from, bytes);
    return true;
}

static kvt_status scatter(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                          const kvt_rope_set *set)
{
    rig *r = arg;
    kvt_fence fence = {NULL};
    KVT_TRY(kvt_moves_check(layout, moves, count));
    KVT_TRY(kvt_rope_check(layout, moves, count, set));
    KVT_TRY(kvt_cuda_scatter_rope(r->cuda, layout, moves, count, set, NULL, &fence));
    kvt_status status = fence.impl != NULL ? kvt_cuda_fence_wait(r->cuda, &fence) : KVT_OK;
    uint32_t left = double_pending();
    double_drain();
    const char *broken = double_complaint();
    if (left != 0)
        return kvt_fail(KVT_DEVICE, "the fence left %u steps behind", left);
    return broken == NULL ? status : kvt_fail(KVT_DEVICE, "the runtime complains: %s", broken);
}

static void rig_open(rig *r)
{
    void *context = NULL;
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    cr_assert_eq(kvt_backend_cuda.open(&silent, &context), KVT_OK, "%s", kvt_last_error());
    r->cuda = context;
    r->cuda->register_bytes = SEGMENT_BYTES / 128;
    r->segments = aligned_alloc(4096, SEGMENT_BYTES);
    cr_assert_eq(kvt_cuda_pages_alloc(r->cuda, BLOCK_BYTES, &r->pages), KVT_OK);
    cr_assert_eq(kvt_cuda_host_register(r->cuda, r->segments, SEGMENT_BYTES), KVT_OK);
}

static void rig_close(rig *r)
{
    kvt_cuda_host_unregister(r->cuda, r->segments);
    kvt_cuda_pages_free(r->cuda, r->pages, BLOCK_BYTES);
    kvt_backend_cuda.close(r->cuda);
    free(r->segments);
}

static void run_cases(rig *r, uint32_t first, uint32_t step, const char *name)
{
    const kvt_rope_subject subject = {
        .memory = {take_pages, keep, copy, copy, take_segments, keep, r}, .scatter = scatter, .arg = r};
    uint32_t failed = 0;
    kvt_rope_case c;
    for (uint32_t i = first; kvt_rope_case_at(i, &c); i += step) {
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        double_seed(i + 1);
        if (kvt_rope_case_run(&c, &subject, NULL, why) == KVT_CASE_PASSED)
            continue;
        kvt_rope_case_text(&c, text);
        if (failed++ < 5)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert_eq(failed, 0, "%s: %u fail", name, failed);
}

static void run_transport(kvt_transport transport, uint64_t piece_bytes, uint32_t first, const char *name)
{
    rig r;
    rig_open(&r);
    r.cuda->knobs.transport = transport;
    r.cuda->knobs.piece_bytes = piece_bytes;
    run_cases(&r, first, 7, name);
    rig_close(&r);
}

/* Half of the cases have their blobs on the device: no transport then. */
KVT_TEST(rope_glue, copied_keys_turn_in_place)
{
    run_transport(KVT_TRANSPORT_COPIES, KVT_CUDA_SLOT_BYTES, 0, "copies");
}
KVT_TEST(rope_glue, staged_keys_turn) { run_transport(KVT_TRANSPORT_STAGED, KVT_CUDA_SLOT_BYTES, 1, "staged"); }
KVT_TEST(rope_glue, keys_in_small_pieces_turn) { run_transport(KVT_TRANSPORT_STAGED, 700, 2, "pieces"); }
KVT_TEST(rope_glue, keys_that_kernels_fetch_turn)
{
    run_transport(KVT_TRANSPORT_DIRECT, KVT_CUDA_SLOT_BYTES, 3, "direct");
}

KVT_TEST(rope_glue, a_failing_runtime_is_a_device_error_and_leaves_nothing_under_way)
{
    rig r;
    rig_open(&r);
    const kvt_rope_subject subject = {
        .memory = {take_pages, keep, copy, copy, take_segments, keep, &r}, .scatter = scatter, .arg = &r};
    r.cuda->knobs.piece_bytes = 2048;
    for (int t = KVT_TRANSPORT_COPIES; t <= KVT_TRANSPORT_DIRECT; t++) {
        uint32_t n = 1;
        kvt_case_outcome outcome = KVT_CASE_REFUSED;
        char why[KVT_CASE_TEXT_BYTES];
        kvt_rope_case c;
        kvt_rope_case_at(0, &c);
        r.cuda->knobs.transport = (uint32_t)t;
        for (; outcome == KVT_CASE_REFUSED && n < 10000; n++) {
            double_fail_at(n);
            outcome = kvt_rope_case_run(&c, &subject, NULL, why);
            cr_assert_eq(double_pending(), 0, "call %u of transport %d left work behind", n, t);
            double_fail_at(0);
        }
        cr_assert_eq(outcome, KVT_CASE_PASSED, "%s", why);
        cr_assert_gt(n, 4);
    }
    rig_close(&r);
}

/* ------------------------------------------------- more than one launch takes */

/* K and V of 32 bytes a token, every plane of every layer by a pointer of its own, in no order. */
typedef struct big {
    kvt_layout *layout;
    uint8_t *pages, *blob;
    void **bases;
    uint32_t *ids;
    uint64_t bytes;
} big;

static void big_open(big *b, uint32_t layers, uint32_t tokens)
{
    uint32_t count = 2 * layers;
    b->bytes = (uint64_t)count * tokens * 32;
    b->pages = aligned_alloc(64, b->bytes), b->blob = aligned_alloc(64, b->bytes);
    b->bases = calloc(count, sizeof *b->bases), b->ids = calloc(tokens, sizeof *b->ids);
    for (uint32_t i = 0; i < count; i++)
        b->bases[i] = b->pages + (uint64_t)(i * 7 % count) * tokens * 32; /* 7 shares no factor with the counts */
    for (uint32_t i = 0; i < tokens; i++)
        b->ids[i] = (i * 3 + 1) % tokens; /* nor does 3 */
    kvt_group group = {.layer_count = layers,
                       .page_tokens = 1,
                       .page_count = tokens,
                       .view_count = 1,
                       .bases = b->bases,
                       .base_count = count};
    group.views[0] = (kvt_view){.plane_count = 2,
                                .head_count = 1,
                                .head_bytes = 32,
                                .element_bytes = 2,
                                .page_stride = 32,
                                .token_stride = 32,
                                .head_stride = 32,
                                .base_layer = 2,
                                .base_plane = 1};
    cr_assert_eq(kvt_layout_create(&group, 1, tokens, &b->layout), KVT_OK, "%s", kvt_last_error());
    kvt_test_fill(b->blob, b->bytes, 11);
    memset(b->pages, 0, b->bytes);
}

static void big_close(big *b)
{
    kvt_layout_destroy(b->layout);
    free(b->pages), free(b->blob), free(b->bases), free(b->ids);
}

static void turn_big(kvt_cuda *cuda, uint32_t layers, uint32_t tokens, uint32_t launches_least)
{
    static float table[2][8192][8];
    for (uint32_t p = 0; p < 8192; p++)
        for (uint32_t i = 0; i < 8; i++)
            table[0][p][i] = 0.5f + (float)(p * 13 % 97) / 64, table[1][p][i] = (float)(p * 7 % 89) / 64;
    const kvt_rope rope = {.layer_count = layers,
                           .planes = 1,
                           .table_element = KVT_ROPE_FP32,
                           .window_bytes = 32,
                           .row_count = 8192,
                           .row_stride = 32,
                           .cosines = table[0],
                           .sines = table[1]};
    const kvt_rope_shift shift = {5, 900};
    const kvt_rope_set set = {&rope, &shift, 1, 0};
    kvt_backend *portable;
    big b[2];
    cr_assert_eq(kvt_backend_open("portable", NULL, &portable), KVT_OK);
    for (uint32_t i = 0; i < 2; i++) {
        big_open(&b[i], layers, tokens);
        const kvt_move one = {b[i].blob, b[i].ids, 0, tokens, 0, tokens, 0, layers};
        if (i == 0) {
            cr_assert_eq(kvt_case_rope_backend(portable, b[i].layout, &one, 1, &set), KVT_OK);
            continue;
        }
        rig r = {.cuda = cuda};
        uint32_t before = double_launches();
        cuda->knobs.transport = KVT_TRANSPORT_STAGED;
        cr_assert_eq(scatter(&r, b[i].layout, &one, 1, &set), KVT_OK, "%s", kvt_last_error());
        cr_assert_geq(double_launches() - before, launches_least);
    }
    for (uint64_t i = 0; i < b[0].bytes; i++)
        cr_assert_eq(b[0].pages[i], b[1].pages[i], "byte %lu", (unsigned long)i);
    big_close(&b[0]), big_close(&b[1]);
    kvt_backend_close(portable);
}

KVT_TEST(rope_glue, more_pointers_or_pages_than_a_launch_takes_go_by_parts)
{
    rig r;
    rig_open(&r);
    turn_big(r.cuda, 150, 8, 3); /* 300 pointers, 128 a launch */
    turn_big(r.cuda, 2, 7001, 2);
    rig_close(&r);
}
