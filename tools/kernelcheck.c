/* SPDX-License-Identifier: Apache-2.0
 *
 * kernelcheck: every kernel case on every backend that runs here, then, with --bench, the speed of whole chunks of
 * known models beside a plain copy of the same bytes between the same memories. Needs the kernels and libc only, so
 * that it builds on a device host without the rest. Ends with "N passed, N failed"; exit status 1 if a case failed.
 */
#include "tests/cases_kernels.h"
#include "tests/cases_rope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct check_options {
    const char *backend; /* NULL: all */
    const char *only;    /* part of a geometry's or layout's name; NULL: all */
    uint32_t step;       /* every step-th case */
    uint32_t rounds;
    uint64_t set_bytes;
    bool bench;
} check_options;

/* --------------------------------------------------------------- correctness */

enum { BLOCK_BYTES = 64 << 20 };

/* One block of pages and one of registered host memory serve all cases in turn; `mirror` is device memory that takes
 * the place of the latter where blobs are to lie on the device. */
typedef struct rig {
    kvt_backend *backend;
    void *pages;
    uint8_t *segments;
    uint8_t *mirror; /* NULL: segments are moved where they are */
} rig;

static void *pages_alloc(void *arg, uint64_t bytes) { return bytes <= BLOCK_BYTES ? ((rig *)arg)->pages : NULL; }
static void *segment_alloc(void *arg, uint64_t bytes) { return bytes <= BLOCK_BYTES ? ((rig *)arg)->segments : NULL; }
static void keep(void *arg, void *memory) { (void)arg, (void)memory; }

static bool pages_write(void *arg, void *to, const void *from, uint64_t bytes)
{
    return kvt_backend_pages_copy(((rig *)arg)->backend, KVT_SCATTER, to, from, bytes) == KVT_OK;
}

static bool pages_read(void *arg, void *to, const void *from, uint64_t bytes)
{
    return kvt_backend_pages_copy(((rig *)arg)->backend, KVT_GATHER, to, from, bytes) == KVT_OK;
}

/* Segments to the mirror before a move, or back behind it. */
static kvt_status mirror_copy(rig *r, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = kvt_layout_group_bytes(layout, moves[i].group, moves[i].segment_tokens);
        uint8_t *host = moves[i].segment, *device = r->mirror + (host - r->segments);
        KVT_TRY(direction == KVT_SCATTER ? kvt_backend_pages_copy(r->backend, direction, device, host, bytes)
                                         : kvt_backend_pages_copy(r->backend, direction, host, device, bytes));
    }
    return KVT_OK;
}

static kvt_status rig_move(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                           size_t count)
{
    rig *r = arg;
    kvt_move placed[KVT_CASE_MOVES_MAX] = {{0}};
    if (r->mirror == NULL)
        return kvt_case_move_backend(r->backend, layout, direction, moves, count);
    KVT_TRY(mirror_copy(r, layout, KVT_SCATTER, moves, count));
    for (size_t i = 0; i < count; i++) {
        placed[i] = moves[i];
        placed[i].segment = r->mirror + (moves[i].segment - r->segments);
    }
    KVT_TRY(kvt_case_move_backend(r->backend, layout, direction, placed, count));
    return mirror_copy(r, layout, KVT_GATHER, moves, count);
}

static bool rig_open(rig *r, kvt_backend *backend, bool on_device)
{
    kvt_page_kind kind;
    void *mirror = NULL;
    *r = (rig){.backend = backend, .segments = kvt_pages_map(BLOCK_BYTES, &kind)};
    bool ok = r->segments != NULL && kvt_backend_host_register(backend, r->segments, BLOCK_BYTES) == KVT_OK &&
              kvt_backend_pages_alloc(backend, BLOCK_BYTES, &r->pages) == KVT_OK &&
              (!on_device || kvt_backend_pages_alloc(backend, BLOCK_BYTES, &mirror) == KVT_OK);
    r->mirror = mirror;
    return ok;
}

static void rig_close(rig *r)
{
    kvt_backend_pages_free(r->backend, r->pages, BLOCK_BYTES);
    kvt_backend_pages_free(r->backend, r->mirror, BLOCK_BYTES);
    if (r->segments != NULL) {
        kvt_backend_host_unregister(r->backend, r->segments);
        kvt_pages_unmap(r->segments, BLOCK_BYTES);
    }
}

static void check_cases(const check_options *options, kvt_backend *backend, bool on_device, uint32_t *passed,
                        uint32_t *failed)
{
    rig r;
    if (!rig_open(&r, backend, on_device)) {
        printf("  no memory for the cases: %s\n", kvt_last_error());
        ++*failed;
        rig_close(&r);
        return;
    }
    kvt_case_subject subject = {
        .memory = {pages_alloc, keep, pages_write, pages_read, segment_alloc, keep, &r}, .move = rig_move, .arg = &r};
    uint32_t shown = 0;
    for (uint32_t i = 0; i < kvt_kernel_case_count(); i += options->step) {
        kvt_kernel_case c;
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        kvt_kernel_case_at(i, &c);
        if (kvt_kernel_case_run(&c, &subject, why) == KVT_CASE_PASSED) {
            ++*passed;
            continue;
        }
        ++*failed;
        if (shown++ < 10) {
            kvt_kernel_case_text(&c, text);
            printf("  FAIL %s\n       %s\n", text, why);
        }
    }
    rig_close(&r);
}

static kvt_status rig_scatter_rope(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                   const kvt_rope_set *set)
{
    return kvt_case_rope_backend(((rig *)arg)->backend, layout, moves, count, set);
}

/* Keys that move to another position. */
static void check_ropes(const check_options *options, kvt_backend *backend, uint32_t *passed, uint32_t *failed)
{
    rig r;
    bool opened = rig_open(&r, backend, false);
    const kvt_rope_subject subject = {.memory = {pages_alloc, keep, pages_write, pages_read, segment_alloc, keep, &r},
                                      .scatter = rig_scatter_rope,
                                      .arg = &r};
    kvt_oracle_error error = {.count = 0};
    kvt_rope_case c;
    uint32_t shown = 0;
    *failed += !opened;
    for (uint32_t i = 0; opened && kvt_rope_case_at(i, &c); i += options->step) {
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        bool right = kvt_rope_case_run(&c, &subject, &error, why) == KVT_CASE_PASSED;
        *passed += right;
        *failed += !right;
        if (right || shown++ >= 10)
            continue;
        kvt_rope_case_text(&c, text);
        printf("  FAIL rope %s\n       %s\n", text, why);
    }
    printf("  keys turned: %" PRIu64 " elements, error %.4f of the rounding floor\n", error.count,
           kvt_oracle_ratio(&error));
    rig_close(&r);
}

/* --------------------------------------------------------------------- speed */

typedef struct model { /* figures from the models' public configurations; full-length attention layers */
    const char *name;
    uint32_t layers, heads, head_bytes;
    const char *layouts[4]; /* each with 16-token pages; the first with page size 1 too */
} model;

static const model models[] = {
    {"llama-3.2-1b", 16, 8, 128, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"llama-3.1-8b", 32, 8, 256, {"vllm-flash-nhd", "vllm-flash-hnd", "flashinfer-nhd", "fused-nhd"}},
    {"llama-3.1-8b fp8", 32, 8, 128, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"llama-3.1-70b tp4", 80, 2, 256, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"llama-3.1-70b tp8", 80, 1, 256, {"vllm-flash-nhd"}},
    {"qwen2.5-7b", 28, 4, 256, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"qwen3-32b", 64, 8, 256, {"flashinfer-nhd", "flashinfer-hnd", "cross-layer-nhd", "tensorrt-llm"}},
    {"qwen3-30b-a3b", 48, 4, 256, {"sglang-mha", "vllm-flash-hnd"}},
    {"deepseek-v3 mla bf16", 61, 1, 1152, {"mla"}},
    {"deepseek-v3 mla fp8", 61, 1, 656, {"mla"}},
    {"gpt-oss-20b", 12, 8, 128, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"gemma-3-27b", 10, 16, 256, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"qwen3-next-80b", 12, 2, 512, {"vllm-flash-nhd", "vllm-flash-hnd"}},
    {"kimi-linear-48b mla", 7, 1, 1152, {"mla"}},
};
enum { MODEL_COUNT = sizeof models / sizeof *models, CHUNK_TOKENS = 256, ROUNDS_MAX = 64 };

typedef struct bench {
    kvt_backend *backend;
    kvt_named_pages named;
    kvt_layout *layout;
    void *pages;
    uint8_t *blobs;
    uint32_t *ids;
    void **pools;
    void **bases;
    uint64_t pool_span, pages_bytes, blob_bytes, blobs_bytes;
    uint32_t chunks, chunk_pages;
    double move_rate[2][ROUNDS_MAX], copy_rate[2][ROUNDS_MAX], ratio[2][ROUNDS_MAX]; /* by direction and round */
} bench;

static void shuffle(uint32_t *ids, uint32_t count)
{
    uint64_t state = 1;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t j = (uint32_t)((state >> 33) % i), held = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = held;
    }
}

static bool bench_open(bench *b, const model *m, const char *layout, uint32_t page_tokens, uint64_t set_bytes)
{
    const kvt_named_layout *named = kvt_named_layout_by_name(layout);
    kvt_page_kind kind;
    b->blob_bytes = (uint64_t)m->layers * named->planes * CHUNK_TOKENS * m->heads * m->head_bytes;
    b->chunks = (uint32_t)kvt_max_u64(2, set_bytes / b->blob_bytes);
    b->chunk_pages = CHUNK_TOKENS / page_tokens;
    uint32_t page_count = b->chunks * b->chunk_pages;
    kvt_page_geometry geometry = {m->layers, page_tokens, page_count, m->heads, m->head_bytes, 1, 0, 0};
    if (kvt_named_layout_build(named, &geometry, &b->named) != KVT_OK)
        return false;
    b->pool_span = kvt_align_up(b->named.pool_bytes, 4096);
    b->pages_bytes = b->pool_span * b->named.pool_count;
    b->blobs_bytes = kvt_align_up(b->blob_bytes * b->chunks, KVT_HUGE_PAGE_BYTES);
    b->blobs = kvt_pages_map(b->blobs_bytes, &kind);
    b->ids = kvt_alloc_array(page_count, sizeof *b->ids);
    b->pools = kvt_alloc_array(b->named.pool_count, sizeof *b->pools);
    b->bases = kvt_alloc_array(b->named.group.base_count, sizeof *b->bases);
    if (b->blobs == NULL || b->ids == NULL || b->pools == NULL || b->bases == NULL ||
        kvt_backend_pages_alloc(b->backend, b->pages_bytes, &b->pages) != KVT_OK)
        return false;
    memset(b->blobs, 1, b->blobs_bytes);
    for (uint64_t at = 0; at < b->pages_bytes; at += b->blob_bytes) {
        uint64_t bytes = kvt_min_u64(b->blob_bytes, b->pages_bytes - at);
        if (kvt_backend_pages_copy(b->backend, KVT_SCATTER, (uint8_t *)b->pages + at, b->blobs, bytes) != KVT_OK)
            return false;
    }
    for (uint32_t i = 0; i < b->named.pool_count; i++)
        b->pools[i] = (uint8_t *)b->pages + i * b->pool_span;
    kvt_named_pages_place(&b->named, b->pools, b->bases);
    shuffle(b->ids, page_count);
    return kvt_layout_create(&b->named.group, 1, CHUNK_TOKENS, &b->layout) == KVT_OK &&
           kvt_backend_host_register(b->backend, b->blobs, b->blobs_bytes) == KVT_OK;
}

static void bench_close(bench *b)
{
    if (b->blobs != NULL) {
        kvt_backend_host_unregister(b->backend, b->blobs);
        kvt_pages_unmap(b->blobs, b->blobs_bytes);
    }
    kvt_backend_pages_free(b->backend, b->pages, b->pages_bytes);
    kvt_layout_destroy(b->layout);
    kvt_free(b->ids), kvt_free(b->pools), kvt_free(b->bases);
}

/* GB/s of one pass over the set: chunk by chunk through the kernels, or as one flat copy per chunk. */
static double pass(bench *b, kvt_direction direction, bool flat)
{
    kvt_status status = KVT_OK;
    uint64_t start = kvt_now_ns();
    for (uint32_t i = 0; i < b->chunks && status == KVT_OK; i++) {
        uint8_t *blob = b->blobs + i * b->blob_bytes, *page = (uint8_t *)b->pages + i * b->blob_bytes;
        kvt_move move = {.segment = blob,
                         .pages = b->ids + i * b->chunk_pages,
                         .segment_tokens = CHUNK_TOKENS,
                         .token_count = CHUNK_TOKENS,
                         .layer_count = b->named.group.layer_count};
        if (!flat)
            status = kvt_case_move_backend(b->backend, b->layout, direction, &move, 1);
        else if (direction == KVT_GATHER)
            status = kvt_backend_pages_copy(b->backend, direction, blob, page, b->blob_bytes);
        else
            status = kvt_backend_pages_copy(b->backend, direction, page, blob, b->blob_bytes);
    }
    uint64_t ns = kvt_now_ns() - start;
    return status == KVT_OK ? (double)(b->blob_bytes * b->chunks) / (double)ns : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static bool bench_row(kvt_backend *backend, const model *m, const char *layout, uint32_t page_tokens,
                      const check_options *options)
{
    bench b = {.backend = backend};
    bool opened = bench_open(&b, m, layout, page_tokens, options->set_bytes);
    for (uint32_t round = 0; opened && round <= options->rounds; round++)
        for (int direction = 0; direction < 2; direction++) {
            uint32_t slot = round == 0 ? 0 : round - 1; /* the first round warms up */
            b.copy_rate[direction][slot] = pass(&b, (kvt_direction)direction, true);
            b.move_rate[direction][slot] = pass(&b, (kvt_direction)direction, false);
            b.ratio[direction][slot] = b.move_rate[direction][slot] / b.copy_rate[direction][slot];
        }
    for (int direction = 0; opened && direction < 2; direction++) {
        double copy = median(b.copy_rate[direction], options->rounds);
        double move = median(b.move_rate[direction], options->rounds);
        double ratio = median(b.ratio[direction], options->rounds); /* of pairs: the machine's mood cancels */
        printf("  %-22s %-16s %4u  %-7s %7.2f %7.2f   %5.3f\n", m->name, layout, page_tokens,
               direction == 0 ? "gather" : "scatter", copy, move, ratio);
    }
    if (!opened)
        printf("  %-22s %-16s %4u  not run: %s\n", m->name, layout, page_tokens, kvt_last_error());
    fflush(stdout);
    bench_close(&b);
    return opened;
}

static bool wanted(const check_options *options, const model *m, const char *layout)
{
    return options->only == NULL || strstr(m->name, options->only) != NULL || strstr(layout, options->only) != NULL;
}

static void bench_all(const check_options *options, kvt_backend *backend, uint32_t *failed)
{
    printf("  %-22s %-16s page  way        copy    kvt  GB/s  ratio   (%u rounds, sets of %" PRIu64
           " MiB, shuffled pages)\n",
           "model", "layout", options->rounds, options->set_bytes >> 20);
    for (uint32_t i = 0; i < MODEL_COUNT; i++)
        for (uint32_t l = 0; l < 4 && models[i].layouts[l] != NULL; l++) {
            if (!wanted(options, &models[i], models[i].layouts[l]))
                continue;
            *failed += !bench_row(backend, &models[i], models[i].layouts[l], 16, options);
            if (l == 0)
                *failed += !bench_row(backend, &models[i], models[i].layouts[l], 1, options);
        }
}

/* ---------------------------------------------------------------------- main */

static void print_log(void *arg, kvt_log_level level, const char *message)
{
    (void)arg;
    if (level <= KVT_LOG_WARN)
        fprintf(stderr, "kernelcheck: %s\n", message);
}

/* A device has more than one way to move; each meets every case. */
static void check_ways(const check_options *options, kvt_backend *backend, uint32_t caps, uint32_t *passed,
                       uint32_t *failed)
{
    static const char *const ways[] = {"by its own choice", "by copies", "staged", "direct", "blobs on the device"};
    enum { ON_DEVICE = 4, WAYS };
    const kvt_backend_tuning automatic = {0};
    for (uint32_t way = 0; way < ((caps & KVT_BACKEND_DEVICE) != 0 ? WAYS : 1); way++) {
        const kvt_backend_tuning tuning = {.transport = way == ON_DEVICE ? KVT_TRANSPORT_AUTO : way};
        const uint32_t passed_before = *passed, failed_before = *failed;
        if (way != 0 && kvt_backend_tune(backend, &tuning) != KVT_OK)
            continue;
        check_cases(options, backend, way == ON_DEVICE, passed, failed);
        if (way != ON_DEVICE) /* every second of these has its blobs on the device anyhow */
            check_ropes(options, backend, passed, failed);
        printf("  %s: %u cases passed, %u failed\n", ways[way], *passed - passed_before, *failed - failed_before);
    }
    kvt_backend_tune(backend, &automatic);
}

static void check_backend(const check_options *options, const char *name, uint32_t *passed, uint32_t *failed)
{
    const kvt_log log = {print_log, NULL};
    kvt_backend *backend;
    if (kvt_backend_open(name, &log, &backend) != KVT_OK) {
        printf("%s: skipped: %s\n", name, kvt_last_error());
        *failed += options->backend != NULL; /* asked for by name */
        return;
    }
    kvt_backend_info info;
    kvt_backend_get_info(backend, &info);
    printf("%s (%s)\n", info.name, info.device);
    check_ways(options, backend, info.caps, passed, failed);
    if (options->bench)
        bench_all(options, backend, failed);
    kvt_backend_close(backend);
}

static bool parse(int argc, char **argv, check_options *out)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--bench") == 0) {
            out->bench = true;
            continue;
        }
        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--backend") == 0)
            out->backend = value;
        else if (strcmp(argv[i], "--only") == 0)
            out->only = value;
        else if (strcmp(argv[i], "--step") == 0)
            out->step = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            out->rounds = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--set-mib") == 0)
            out->set_bytes = strtoull(value, NULL, 10) << 20;
        else
            return false;
        i++;
    }
    return out->step != 0 && out->rounds != 0 && out->rounds <= ROUNDS_MAX && out->set_bytes != 0;
}

int main(int argc, char **argv)
{
    check_options options = {.step = 1, .rounds = 9, .set_bytes = UINT64_C(256) << 20};
    if (!parse(argc, argv, &options)) {
        fprintf(stderr,
                "usage: kernelcheck [--backend NAME] [--step N] [--bench [--only TEXT] [--rounds 1..%d] "
                "[--set-mib N]]\n",
                ROUNDS_MAX);
        return 2;
    }
    uint32_t passed = 0, failed = 0;
    for (uint32_t i = 0; kvt_backend_name_at(i) != NULL; i++)
        if (options.backend == NULL || strcmp(options.backend, kvt_backend_name_at(i)) == 0)
            check_backend(&options, kvt_backend_name_at(i), &passed, &failed);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
