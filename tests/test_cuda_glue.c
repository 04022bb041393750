/* SPDX-License-Identifier: Apache-2.0
 *
 * The glue of the CUDA backend over a runtime in host memory (cuda_double.h): every case by every transport, in small
 * pieces, over registrations that end in the middle of a blob, with streams that run in random order; gathers behind
 * what the caller's stream holds; the n-th runtime call failing, for every n; cutting and choosing by themselves.
 */
#include "tests/cases_kernels.h"
#include "tests/cuda_double.h"
#include "tests/support.h"

#include "kernels/cuda_int.h"

#include <stdio.h>
#include <stdlib.h>

extern const kvt_backend_ops kvt_backend_cuda;
static const kvt_log silent = {NULL, NULL};

static kvt_cuda *open_cuda(void)
{
    void *context = NULL;
    cr_assert_eq(kvt_backend_cuda.open(&silent, &context), KVT_OK, "%s", kvt_last_error());
    return context;
}

static kvt_status move_and_wait(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                size_t count)
{
    kvt_fence fence = {NULL};
    KVT_TRY(kvt_moves_check(layout, moves, count));
    KVT_TRY(kvt_cuda_move(arg, layout, direction, moves, count, NULL, &fence));
    return fence.impl != NULL ? kvt_cuda_fence_wait(arg, &fence) : KVT_OK;
}

/* -------------------------------------------------- every case, every way */

enum { BLOCK_BYTES = 4 << 20 };

static void *take_block(void *arg, uint64_t bytes) { return bytes <= BLOCK_BYTES ? arg : NULL; }
static void keep(void *arg, void *memory) { (void)arg, (void)memory; }

static kvt_status move_case(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                            size_t count)
{
    kvt_status status = move_and_wait(arg, layout, direction, moves, count);
    double_drain();
    const char *broken = double_complaint();
    return broken == NULL ? status : kvt_fail(KVT_DEVICE, "the runtime complains: %s", broken);
}

/* Every step-th case. segments: where they lie; NULL: ordinary memory that nobody registered. */
static void run_cases(kvt_cuda *cuda, void *segments, uint32_t first, uint32_t step, const char *name)
{
    kvt_case_subject subject = {.move = move_case, .arg = cuda};
    if (segments != NULL)
        subject.memory = (kvt_case_memory){.segment_alloc = take_block, .segment_release = keep, .arg = segments};
    uint32_t failed = 0, ran = 0;
    for (uint32_t i = first; i < kvt_kernel_case_count(); i += step, ran++) {
        kvt_kernel_case c;
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        kvt_kernel_case_at(i, &c);
        double_seed(i + 1);
        if (kvt_kernel_case_run(&c, &subject, why) == KVT_CASE_PASSED)
            continue;
        kvt_kernel_case_text(&c, text);
        if (failed++ < 5)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert(failed == 0 && ran != 0, "%s: %u of %u cases fail", name, failed, ran);
}

static void run_transport(kvt_transport transport, uint64_t piece_bytes, uint32_t first, const char *name)
{
    kvt_cuda *cuda = open_cuda();
    uint8_t *segments = aligned_alloc(4096, BLOCK_BYTES);
    cuda->register_bytes = BLOCK_BYTES / 128;
    cr_assert_eq(kvt_cuda_host_register(cuda, segments, BLOCK_BYTES), KVT_OK);
    cuda->knobs.transport = transport;
    cuda->knobs.piece_bytes = piece_bytes;
    run_cases(cuda, segments, first, 11, name);
    kvt_cuda_host_unregister(cuda, segments);
    cr_assert_eq(cuda->range_count, 0);
    kvt_backend_cuda.close(cuda);
    free(segments);
}

KVT_TEST(cuda_glue, copies_move_every_case) { run_transport(KVT_TRANSPORT_COPIES, KVT_CUDA_SLOT_BYTES, 0, "copies"); }
KVT_TEST(cuda_glue, one_piece_moves_every_case)
{
    run_transport(KVT_TRANSPORT_STAGED, KVT_CUDA_SLOT_BYTES, 1, "staged");
}
KVT_TEST(cuda_glue, small_pieces_move_every_case) { run_transport(KVT_TRANSPORT_STAGED, 700, 2, "pieces"); }
KVT_TEST(cuda_glue, kernels_reach_into_host_memory)
{
    run_transport(KVT_TRANSPORT_DIRECT, KVT_CUDA_SLOT_BYTES, 3, "direct");
}

KVT_TEST(cuda_glue, blobs_on_the_device_move_every_case)
{
    static const kvt_cuda_grid grids[] = {{64, 2, 0}, {256, 1, 0}, {64, 8, 3}};
    kvt_cuda *cuda = open_cuda();
    void *segments;
    cr_assert_eq(kvt_cuda_pages_alloc(cuda, BLOCK_BYTES, &segments), KVT_OK);
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        cuda->knobs.device = grids[i];
        uint32_t copied = double_copies();
        run_cases(cuda, segments, (uint32_t)i + 4, 23, "device");
        cr_assert_eq(double_copies(), copied, "a blob on the device needs no copy engine");
    }
    kvt_cuda_pages_free(cuda, segments, BLOCK_BYTES);
    kvt_backend_cuda.close(cuda);
}

KVT_TEST(cuda_glue, blobs_in_memory_that_nobody_registered_move_too)
{
    kvt_cuda *cuda = open_cuda();
    cuda->knobs.transport = KVT_TRANSPORT_DIRECT; /* which cannot be: the ring takes them */
    run_cases(cuda, NULL, 5, 37, "pageable");
    kvt_backend_cuda.close(cuda);
}

/* ------------------------------------------------------------ one real shape */

/* `chunks` chunks of 32 tokens: 3 layers with a base each, 2 planes, pages of 4 rows of 64 bytes, in device memory. */
typedef struct scene {
    kvt_cuda *cuda;
    kvt_layout *layout;
    uint8_t *pages, *blob;
    uint32_t ids[64];
    uint64_t pages_bytes, blob_bytes;
} scene;

enum { LAYERS = 3, ROW = 64, PAGE = 4, PAGES = 16, TOKENS = 32 };

static void scene_open(scene *s)
{
    void *bases[LAYERS], *pages;
    s->cuda = open_cuda();
    s->pages_bytes = (uint64_t)LAYERS * 2 * PAGES * PAGE * ROW;
    s->blob_bytes = (uint64_t)LAYERS * 2 * TOKENS * ROW;
    cr_assert_eq(kvt_cuda_pages_alloc(s->cuda, s->pages_bytes, &pages), KVT_OK);
    s->pages = pages;
    s->blob = aligned_alloc(64, s->blob_bytes);
    cr_assert_eq(kvt_cuda_host_register(s->cuda, s->blob, s->blob_bytes), KVT_OK);
    for (uint32_t l = 0; l < LAYERS; l++)
        bases[l] = s->pages + (l * 5 % 3) * (s->pages_bytes / LAYERS);
    kvt_group group = {.layer_count = LAYERS,
                       .page_tokens = PAGE,
                       .page_count = PAGES,
                       .view_count = 1,
                       .bases = bases,
                       .base_count = LAYERS};
    group.views[0] = (kvt_view){.plane_count = 2,
                                .head_count = 1,
                                .head_bytes = ROW,
                                .element_bytes = 2,
                                .page_stride = PAGE * ROW,
                                .plane_stride = PAGES * PAGE * ROW,
                                .token_stride = ROW,
                                .head_stride = ROW,
                                .base_layer = 1};
    cr_assert_eq(kvt_layout_create(&group, 1, TOKENS, &s->layout), KVT_OK, "%s", kvt_last_error());
    for (uint32_t i = 0; i < TOKENS / PAGE; i++)
        s->ids[i] = (i * 5 + 3) % PAGES;
}

static void scene_close(scene *s)
{
    kvt_layout_destroy(s->layout);
    kvt_cuda_host_unregister(s->cuda, s->blob);
    kvt_cuda_pages_free(s->cuda, s->pages, s->pages_bytes);
    kvt_backend_cuda.close(s->cuda);
    free(s->blob);
}

static kvt_move scene_move(const scene *s)
{
    return (kvt_move){
        .segment = s->blob, .pages = s->ids, .segment_tokens = TOKENS, .token_count = TOKENS, .layer_count = LAYERS};
}

static uint64_t expected_bytes(const scene *s, uint8_t value)
{
    uint64_t same = 0;
    for (uint64_t i = 0; i < s->blob_bytes; i++)
        same += s->blob[i] == value;
    return same;
}

/* The caller's stream still has the work before it that writes the pages. */
static void pages_written_late(kvt_transport transport, uint64_t seed)
{
    scene s;
    scene_open(&s);
    s.cuda->knobs.transport = transport;
    s.cuda->knobs.piece_bytes = 1024;
    cudaStream_t stream;
    cr_assert_eq(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0), cudaSuccess);
    uint8_t *late = malloc(s.pages_bytes);
    memset(late, 0x5a, s.pages_bytes);
    memset(s.pages, 0x11, s.pages_bytes);
    double_seed(seed);
    cr_assert_eq(cudaMemcpyAsync(s.pages, late, s.pages_bytes, cudaMemcpyDefault, stream), cudaSuccess);
    kvt_move move = scene_move(&s);
    kvt_fence fence;
    cr_assert_eq(kvt_cuda_move(s.cuda, s.layout, KVT_GATHER, &move, 1, stream, &fence), KVT_OK);
    cr_assert_eq(kvt_cuda_fence_wait(s.cuda, &fence), KVT_OK);
    cr_assert_eq(expected_bytes(&s, 0x5a), s.blob_bytes, "transport %d read pages early", (int)transport);
    cr_assert_eq(cudaStreamDestroy(stream), cudaSuccess);
    free(late);
    scene_close(&s);
}

KVT_TEST(cuda_glue, gathers_wait_for_what_the_stream_holds)
{
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (int t = KVT_TRANSPORT_COPIES; t <= KVT_TRANSPORT_DIRECT; t++)
            pages_written_late((kvt_transport)t, seed);
}

/* The caller's stream still reads the pages' old contents, and reads the new ones behind the fence. */
static void pages_read_before_and_after(kvt_transport transport, uint64_t seed)
{
    scene s;
    scene_open(&s);
    s.cuda->knobs.transport = transport;
    s.cuda->knobs.piece_bytes = 1024;
    cudaStream_t stream;
    cr_assert_eq(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0), cudaSuccess);
    uint8_t *old = malloc(s.pages_bytes), *new = malloc(s.pages_bytes);
    memset(s.pages, 0x11, s.pages_bytes);
    memset(s.blob, 0x22, s.blob_bytes);
    double_seed(seed);
    kvt_move move = scene_move(&s);
    kvt_fence fence;
    cr_assert_eq(cudaMemcpyAsync(old, s.pages, s.pages_bytes, cudaMemcpyDefault, stream), cudaSuccess);
    cr_assert_eq(kvt_cuda_move(s.cuda, s.layout, KVT_SCATTER, &move, 1, stream, &fence), KVT_OK);
    cr_assert_eq(kvt_cuda_fence_order(s.cuda, &fence, stream), KVT_OK);
    cr_assert_eq(cudaMemcpyAsync(new, s.pages, s.pages_bytes, cudaMemcpyDefault, stream), cudaSuccess);
    cr_assert_eq(cudaStreamDestroy(stream), cudaSuccess);
    cr_assert_eq(kvt_cuda_fence_wait(s.cuda, &fence), KVT_OK);
    uint64_t changed_early = 0, changed = 0;
    for (uint64_t i = 0; i < s.pages_bytes; i++)
        changed_early += old[i] != 0x11, changed += new[i] == 0x22;
    cr_assert_eq(changed_early, 0, "transport %d wrote pages that were still read", (int)transport);
    cr_assert_eq(changed, s.blob_bytes, "transport %d: the stream ran before the fence", (int)transport);
    free(old), free(new);
    scene_close(&s);
}

KVT_TEST(cuda_glue, scatters_stand_between_what_the_stream_holds_and_what_follows)
{
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (int t = KVT_TRANSPORT_COPIES; t <= KVT_TRANSPORT_DIRECT; t++)
            pages_read_before_and_after((kvt_transport)t, seed);
}

/* Fences of many moves under way at once, waited for backwards. */
KVT_TEST(cuda_glue, many_moves_are_under_way_at_once)
{
    enum { CALLS = 24 };
    scene s;
    scene_open(&s);
    s.cuda->knobs.transport = KVT_TRANSPORT_STAGED;
    s.cuda->knobs.piece_bytes = 512;
    uint8_t *blobs[CALLS];
    kvt_fence fences[CALLS];
    kvt_test_fill(s.pages, s.pages_bytes, 5);
    double_seed(77);
    for (uint32_t i = 0; i < CALLS; i++) {
        kvt_move move = scene_move(&s);
        blobs[i] = move.segment = calloc(1, s.blob_bytes);
        cr_assert_eq(kvt_cuda_move(s.cuda, s.layout, KVT_GATHER, &move, 1, NULL, &fences[i]), KVT_OK);
    }
    for (uint32_t i = CALLS; i-- > 0;)
        cr_assert_eq(kvt_cuda_fence_wait(s.cuda, &fences[i]), KVT_OK);
    for (uint32_t i = 1; i < CALLS; i++)
        cr_assert_arr_eq(blobs[i], blobs[0], s.blob_bytes);
    cr_assert_neq(memcmp(blobs[0], blobs[0] + s.blob_bytes / 2, s.blob_bytes / 2), 0);
    for (uint32_t i = 0; i < CALLS; i++)
        free(blobs[i]);
    scene_close(&s);
}

/* A blob on the device, one in host memory and one that nobody registered, in one call. */
KVT_TEST(cuda_glue, one_call_may_mix_places)
{
    scene s;
    scene_open(&s);
    void *on_device;
    uint8_t *pageable = calloc(1, s.blob_bytes);
    cr_assert_eq(kvt_cuda_pages_alloc(s.cuda, s.blob_bytes, &on_device), KVT_OK);
    memset(s.pages, 0x33, s.pages_bytes);
    memset(on_device, 0, s.blob_bytes);
    memset(s.blob, 0, s.blob_bytes);
    kvt_move moves[4] = {scene_move(&s), scene_move(&s), scene_move(&s), scene_move(&s)};
    moves[0].segment = on_device;
    moves[2].segment = pageable;
    moves[3].segment = NULL;
    moves[3].token_count = 0;
    s.cuda->knobs.transport = KVT_TRANSPORT_DIRECT;
    for (uint64_t seed = 1; seed < 20; seed++) {
        double_seed(seed);
        cr_assert_eq(move_and_wait(s.cuda, s.layout, KVT_GATHER, moves, 4), KVT_OK);
        cr_assert_eq(double_pending(), 0, "the fence is behind everything");
    }
    cr_assert_eq(expected_bytes(&s, 0x33), s.blob_bytes);
    cr_assert_arr_eq(pageable, s.blob, s.blob_bytes);
    cr_assert_arr_eq(on_device, s.blob, s.blob_bytes);
    kvt_cuda_pages_free(s.cuda, on_device, s.blob_bytes);
    free(pageable);
    scene_close(&s);
}

/* ------------------------------------------------------------------- faults */

KVT_TEST(cuda_glue, a_failing_runtime_is_a_device_error_and_leaves_nothing_under_way)
{
    scene s;
    scene_open(&s);
    s.cuda->knobs.piece_bytes = 1024;
    kvt_move move = scene_move(&s);
    for (int t = KVT_TRANSPORT_COPIES; t <= KVT_TRANSPORT_DIRECT; t++)
        for (int d = 0; d < 2; d++) {
            s.cuda->knobs.transport = (uint32_t)t;
            uint32_t n = 1;
            for (;; n++) {
                kvt_fence fence = {NULL};
                double_fail_at(n);
                kvt_status status = kvt_cuda_move(s.cuda, s.layout, (kvt_direction)d, &move, 1, NULL, &fence);
                double_fail_at(0);
                if (status == KVT_OK) {
                    cr_assert_eq(kvt_cuda_fence_wait(s.cuda, &fence), KVT_OK);
                    break;
                }
                cr_assert_eq(status, KVT_DEVICE);
                cr_assert_null(fence.impl);
                cr_assert_eq(double_pending(), 0, "call %u of transport %d left work behind", n, t);
            }
            cr_assert_gt(n, 3);
            memset(s.pages, 0x40 + t, s.pages_bytes);
            cr_assert_eq(move_and_wait(s.cuda, s.layout, KVT_GATHER, &move, 1), KVT_OK, "works again");
            cr_assert_eq(expected_bytes(&s, (uint8_t)(0x40 + t)), s.blob_bytes);
        }
    scene_close(&s);
}

KVT_TEST(cuda_glue, an_open_that_fails_keeps_nothing)
{
    for (uint32_t n = 1; n < 60; n++) {
        void *context = NULL;
        double_fail_at(n);
        kvt_status status = kvt_backend_cuda.open(&silent, &context);
        double_fail_at(0);
        double_drain();
        cr_assert_lt(status, 0, "call %u", n);
        cr_assert_null(context);
    }
}

KVT_TEST(cuda_glue, a_registration_that_fails_keeps_no_piece)
{
    kvt_cuda *cuda = open_cuda();
    static uint8_t memory[64 << 10];
    cuda->register_bytes = 8 << 10;
    double_fail_at(5);
    cr_assert_eq(kvt_cuda_host_register(cuda, memory, sizeof memory), KVT_DEVICE);
    cr_assert_eq(cuda->range_count, 0);
    cr_assert_eq(kvt_cuda_host_register(cuda, memory, sizeof memory), KVT_OK);
    cr_assert_eq(cuda->range_count, 8);
    cr_assert_eq(kvt_cuda_registered_span(cuda, memory + 100, sizeof memory), (8 << 10) - 100);
    kvt_cuda_host_unregister(cuda, memory);
    cr_assert_eq(cuda->range_count, 0);
    kvt_backend_cuda.close(cuda);
}

/* ------------------------------------------------------------------ choosing */

static kvt_cuda_curve straight(double fixed_ns, double ns_per_byte)
{
    kvt_cuda_curve curve = {.bytes = {1 << 10, 1 << 24}, .count = 2};
    for (uint32_t i = 0; i < 2; i++)
        curve.ns[i] = fixed_ns + ns_per_byte * (double)curve.bytes[i];
    return curve;
}

KVT_TEST(cuda_glue, the_cheapest_transport_is_chosen)
{
    kvt_cuda cuda = {.knobs = {.direct_max = 4 << 20}, .calibration = {.valid = true}};
    for (int d = 0; d < 2; d++)
        cuda.calibration.costs[d] = (kvt_cuda_costs){.copy_entry = straight(500, 0.018),
                                                     .staged = straight(25000, 0.0185),
                                                     .direct_long = straight(10000, 0.0195),
                                                     .direct_short = straight(10000, 0.03),
                                                     .copy_fixed_ns = 8000};
    const struct {
        uint64_t bytes, run, entries;
        kvt_transport want;
    } cases[] = {
        {64 << 20, 64 << 20, 1, KVT_TRANSPORT_COPIES},    /* one run */
        {32 << 20, 32 << 10, 1024, KVT_TRANSPORT_STAGED}, /* a chunk of scattered pages */
        {1 << 20, 32 << 10, 32, KVT_TRANSPORT_DIRECT},    /* small and urgent */
        {1 << 20, 32, 32768, KVT_TRANSPORT_STAGED},       /* runs too short to reach over the link */
        {8 << 20, 2048, 4096, KVT_TRANSPORT_STAGED},      /* beyond what the direct way may take */
        {32 << 20, 1 << 20, 32, KVT_TRANSPORT_COPIES},    /* long runs: no multiprocessor for little more */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvt_cuda_ask ask = {KVT_GATHER, cases[i].bytes, cases[i].run, cases[i].entries};
        cr_assert_eq(kvt_cuda_choose(&cuda, &ask), cases[i].want, "case %zu", i);
    }
    cuda.knobs.transport = KVT_TRANSPORT_STAGED;
    cr_assert_eq(kvt_cuda_choose(&cuda, &(kvt_cuda_ask){KVT_GATHER, 64 << 20, 64 << 20, 1}), KVT_TRANSPORT_STAGED);
}

KVT_TEST(cuda_glue, a_curve_is_a_line_between_points_and_beyond_them)
{
    kvt_cuda_curve curve = {.bytes = {100, 200, 400}, .ns = {10, 20, 60}, .count = 3};
    cr_assert_float_eq(kvt_cuda_curve_at(&curve, 1), 10, 1e-9);
    cr_assert_float_eq(kvt_cuda_curve_at(&curve, 150), 15, 1e-9);
    cr_assert_float_eq(kvt_cuda_curve_at(&curve, 300), 40, 1e-9);
    cr_assert_float_eq(kvt_cuda_curve_at(&curve, 1000), 180, 1e-9);
}

KVT_TEST(cuda_glue, faster_memory_wants_more_loads_at_once)
{
    static const uint32_t rates[][3] = {{0, 64, 2}, {100, 256, 1}, {150, 64, 2}}; /* of four multiprocessors */
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        double_memory_rate(rates[i][0]);
        kvt_cuda *cuda = open_cuda();
        cr_assert_eq(cuda->knobs.device.threads, rates[i][1], "%u GB/s", rates[i][0]);
        cr_assert_eq(cuda->knobs.device.unroll, rates[i][2], "%u GB/s", rates[i][0]);
        kvt_backend_cuda.close(cuda);
    }
    double_memory_rate(0);
}

KVT_TEST(cuda_glue, small_transfers_go_direct_only_where_that_pays)
{
    kvt_cuda cuda = {.knobs = {.direct_max = 2 << 20}, .calibration = {.valid = true}};
    cuda.calibration.costs[1] = (kvt_cuda_costs){.copy_entry = straight(500, 0.018),
                                                 .staged = straight(16000, 0.0185),
                                                 .direct_long = straight(15000, 0.0185),
                                                 .direct_short = straight(10000, 0.03),
                                                 .copy_fixed_ns = 8000};
    kvt_cuda_ask ask = {KVT_SCATTER, 2 << 20, 32 << 10, 64};
    cr_assert_eq(kvt_cuda_choose(&cuda, &ask), KVT_TRANSPORT_STAGED, "2 percent are not worth a neighbour's time");
    cuda.calibration.costs[1].direct_long = straight(10000, 0.0185);
    cr_assert_eq(kvt_cuda_choose(&cuda, &ask), KVT_TRANSPORT_DIRECT);
    ask.bytes = 3 << 20;
    cr_assert_eq(kvt_cuda_choose(&cuda, &ask), KVT_TRANSPORT_STAGED, "beyond what the direct way may take");
}

KVT_TEST(cuda_glue, the_calibration_can_be_read)
{
    kvt_cuda *cuda = open_cuda();
    char text[4096], little[16];
    kvt_backend_cuda.calibration(cuda, text, sizeof text);
    cr_assert_not_null(strstr(text, "scatter staged"), "%s", text);
    kvt_backend_cuda.calibration(cuda, little, sizeof little);
    cr_assert_lt(strlen(little), sizeof little);
    kvt_backend_cuda.close(cuda);
}
