/* SPDX-License-Identifier: Apache-2.0
 *
 * Scatters that move keys to another position, beside plain scatters of the same bytes and a copy of them: from device
 * memory, by events behind a kernel that hides the submission, and from registered host memory, many blobs queued, by
 * the clock of the host. Every case is first compared with the processor's result, bit for bit.
 */
#include "tools/gpubench/gpubench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROTATE_BYTES (UINT64_C(384) << 20)

enum { ROWS = 32768, PAIRS_MAX = 64, STORED = 1000, WANTED = 20000, QUEUED = 8 };

typedef struct rope_case {
    gb_case of;
    uint32_t window_begin, window_bytes, pairing, table;
} rope_case;

static const rope_case cases[] = {
    {{"32 x 128 tok x 32 heads", "vllm-flash-nhd", 32, 32, 256, 16, 128}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"llama-3.1-8b chunk", "vllm-flash-nhd", 32, 8, 256, 16, 256}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"same, bf16 table", "vllm-flash-nhd", 32, 8, 256, 16, 256}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_BF16},
    {{"same, gpt-j pairs", "vllm-flash-nhd", 32, 8, 256, 16, 256}, 0, 256, KVT_ROPE_GPTJ, KVT_ROPE_FP32},
    {{"llama-3.1-8b 2048", "vllm-flash-nhd", 32, 8, 256, 16, 2048}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"llama-3.1-8b 2048", "vllm-flash-hnd", 32, 8, 256, 16, 2048}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"llama-3.1-8b 8192", "vllm-flash-nhd", 32, 8, 256, 16, 8192}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"2 KiB slots 2048", "vllm-flash-nhd", 32, 8, 256, 1, 2048}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"partial: 32 of 128", "vllm-flash-nhd", 32, 8, 256, 16, 2048}, 0, 64, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"tp8: one head, 2048", "vllm-flash-nhd", 80, 1, 256, 16, 2048}, 0, 256, KVT_ROPE_NEOX, KVT_ROPE_FP32},
    {{"mla chunk", "mla", 61, 1, 1152, 64, 256}, 1024, 128, KVT_ROPE_GPTJ, KVT_ROPE_FP32},
    {{"mla 4096", "mla", 61, 1, 1152, 64, 4096}, 1024, 128, KVT_ROPE_GPTJ, KVT_ROPE_FP32},
};

typedef struct contest {
    gb_set set;
    kvt_rope rope, on_host; /* the same with tables on the device, and in host memory */
    void *tables;
    cudaEvent_t from, to;
    gb_series copy, plain, turned;
} contest;

/* -------------------------------------------------------------------- tables */

static bool open_tables(contest *c, const rope_case *of)
{
    const uint32_t element = of->table, pairs = of->window_bytes / 4, bytes = element == KVT_ROPE_FP32 ? 4 : 2;
    const uint64_t row = (uint64_t)pairs * bytes, table = row * ROWS;
    uint8_t *host = malloc(2 * table);
    if (host == NULL || !GB_CUDA(cudaMalloc(&c->tables, 2 * table))) {
        free(host);
        return false;
    }
    for (uint64_t p = 0; p < ROWS; p++)
        for (uint32_t i = 0; i < pairs; i++) {
            double angle = (double)p * pow(5e5, -(double)i / pairs);
            float entry[2] = {(float)cos(angle), (float)sin(angle)};
            for (uint32_t t = 0; t < 2; t++) /* the upper half of a float is a bf16, near enough */
                memcpy(host + t * table + p * row + (uint64_t)i * bytes, (uint8_t *)&entry[t] + (4 - bytes), bytes);
        }
    c->on_host = (kvt_rope){.layer_count = of->of.layers,
                            .planes = 1,
                            .pairing = of->pairing,
                            .element = KVT_ROPE_BF16,
                            .table_element = element,
                            .window_begin = of->window_begin,
                            .window_bytes = of->window_bytes,
                            .row_count = ROWS,
                            .row_stride = row,
                            .cosines = host,
                            .sines = host + table};
    c->rope = c->on_host;
    c->rope.cosines = c->tables;
    c->rope.sines = (uint8_t *)c->tables + table;
    return GB_CUDA(cudaMemcpy(c->tables, host, 2 * table, cudaMemcpyDefault));
}

static bool queue_turned(contest *c, uint32_t i, kvt_fence *fence)
{
    gb *b = c->set.bench;
    const kvt_rope_shift shift = {STORED, WANTED};
    const kvt_rope_set set = {&c->rope, &shift, 1, 0};
    kvt_move move = gb_set_move(&c->set, i);
    return kvt_backend_scatter_rope(b->backend, c->set.layout, &move, 1, &set, b->stream, fence) == KVT_OK;
}

/* --------------------------------------------------------------------- check */

/* The processor's pages, from the same bytes. */
static bool turn_on_host(contest *c, uint8_t *pages, uint8_t *blob)
{
    gb_set *set = &c->set;
    kvt_named_pages named = set->named;
    void **pools = calloc(named.pool_count, sizeof *pools), **bases = calloc(named.group.base_count, sizeof *bases);
    kvt_layout *layout = NULL;
    kvt_backend *cpu = NULL;
    kvt_fence fence = {0};
    const kvt_rope_shift shift = {STORED, WANTED};
    const kvt_rope_set ropes = {&c->on_host, &shift, 1, 0};
    bool ok = pools != NULL && bases != NULL;
    for (uint32_t i = 0; ok && i < named.pool_count; i++)
        pools[i] = pages + ((uint8_t *)set->pools[i] - set->pages);
    if (ok) {
        kvt_named_pages_place(&named, pools, bases);
        kvt_move move = gb_set_move(set, 0);
        move.segment = blob;
        ok = kvt_layout_create(&named.group, 1, set->tokens, &layout) == KVT_OK &&
             kvt_backend_open("cpu", NULL, &cpu) == KVT_OK &&
             kvt_backend_scatter_rope(cpu, layout, &move, 1, &ropes, NULL, &fence) == KVT_OK;
    }
    kvt_backend_close(cpu);
    kvt_layout_destroy(layout);
    free(pools), free(bases);
    return ok;
}

static bool check(contest *c)
{
    gb_set *set = &c->set;
    kvt_fence fence = {0};
    uint8_t *want = malloc(set->pages_bytes), *got = malloc(set->pages_bytes), *blob = malloc(set->blob_bytes);
    bool ok = want != NULL && got != NULL && blob != NULL && GB_CUDA(cudaDeviceSynchronize()) &&
              GB_CUDA(cudaMemset(set->pages, 0x5a, set->pages_bytes)) && GB_CUDA(cudaDeviceSynchronize()) &&
              GB_CUDA(cudaMemcpy(blob, set->blobs, set->blob_bytes, cudaMemcpyDefault)) && queue_turned(c, 0, &fence) &&
              kvt_backend_fence_wait(set->bench->backend, &fence) == KVT_OK &&
              GB_CUDA(cudaMemcpy(got, set->pages, set->pages_bytes, cudaMemcpyDefault));
    if (ok) {
        memset(want, 0x5a, set->pages_bytes);
        ok = turn_on_host(c, want, blob) && memcmp(got, want, set->pages_bytes) == 0;
    }
    free(want), free(got), free(blob);
    if (!ok)
        fprintf(stderr, "gpubench: rope: not what the processor makes of it; %s\n", kvt_last_error());
    return ok;
}

/* -------------------------------------------------------------------- timing */

typedef bool (*queue_one)(contest *c, uint32_t i, kvt_fence *fence);

static bool queue_copy(contest *c, uint32_t i, kvt_fence *fence)
{
    (void)fence;
    return gb_set_copy(&c->set, KVT_SCATTER, i, c->set.bench->stream);
}

static bool queue_plain(contest *c, uint32_t i, kvt_fence *fence)
{
    return gb_set_queue(&c->set, KVT_SCATTER, i, 1, c->set.bench->stream, fence);
}

static bool time_on_device(contest *c, queue_one queue, uint32_t i, gb_series *out)
{
    gb *b = c->set.bench;
    float ms = 0;
    kvt_fence fence = {0};
    bool ok = GB_CUDA(cudaDeviceSynchronize()) && GB_CUDA((cudaError_t)gb_spin(120, b->stream)) &&
              GB_CUDA(cudaEventRecord(c->from, b->stream)) && queue(c, i, &fence) &&
              GB_CUDA(cudaEventRecord(c->to, b->stream)) && GB_CUDA(cudaEventSynchronize(c->to)) &&
              GB_CUDA(cudaEventElapsedTime(&ms, c->from, c->to)) &&
              kvt_backend_fence_wait(b->backend, &fence) == KVT_OK;
    gb_add(out, (double)ms * 1000);
    return ok;
}

static bool time_from_host(contest *c, queue_one queue, uint32_t i, gb_series *out)
{
    gb *b = c->set.bench;
    kvt_fence fences[QUEUED] = {{0}};
    bool ok = GB_CUDA(cudaDeviceSynchronize());
    uint64_t at = kvt_now_ns();
    for (uint32_t k = 0; ok && k < QUEUED; k++)
        ok = queue(c, QUEUED * i + k, &fences[k]);
    for (uint32_t k = 0; k < QUEUED; k++)
        ok = kvt_backend_fence_wait(b->backend, &fences[k]) == KVT_OK && ok;
    ok = ok && GB_CUDA(cudaStreamSynchronize(b->stream));
    gb_add(out, (double)(kvt_now_ns() - at) / 1000 / QUEUED);
    return ok;
}

static void report(contest *c, const rope_case *of, bool on_device)
{
    gb *b = c->set.bench;
    gb_series over_plain = gb_ratio(&c->turned, &c->plain), of_copy = gb_ratio(&c->copy, &c->turned);
    gb_row_begin(b, on_device ? "rope" : "ropelink", of->of.name);
    gb_row_text(b, "layout", of->of.layout);
    gb_row_real(b, "mib", (double)c->set.blob_bytes / 1048576);
    gb_row_real(b, "copy_us", gb_median(&c->copy));
    gb_row_real(b, "scatter_us", gb_median(&c->plain));
    gb_row_real(b, "rope_us", gb_median(&c->turned));
    gb_row_ratio(b, "over_scatter", &over_plain);
    gb_row_ratio(b, "of_copy", &of_copy);
    gb_row_end(b);
}

static bool rounds(contest *c, bool on_device)
{
    bool (*time)(contest *, queue_one, uint32_t, gb_series *) = on_device ? time_on_device : time_from_host;
    bool ok = true;
    for (uint32_t r = 0; ok && r < c->set.bench->rounds + 3; r++) {
        if (r == 3) /* the first ones warm up */
            c->copy.count = c->plain.count = c->turned.count = 0;
        ok = time(c, queue_copy, 3 * r, &c->copy) && time(c, queue_plain, 3 * r + 1, &c->plain) &&
             time(c, queue_turned, 3 * r + 2, &c->turned);
    }
    return ok;
}

static void run(gb *b, const rope_case *of, bool on_device)
{
    static contest c;
    uint64_t planes = strcmp(of->of.layout, "mla") == 0 ? 1 : 2;
    uint64_t bytes = of->of.layers * planes * of->of.tokens * of->of.heads * of->of.head_bytes;
    memset(&c, 0, sizeof c);
    if (gb_set_open(&c.set, b, &of->of, (uint32_t)kvt_max_u64(1, ROTATE_BYTES / bytes), on_device)) {
        bool ok = open_tables(&c, of) && check(&c) && GB_CUDA(cudaEventCreate(&c.from)) &&
                  GB_CUDA(cudaEventCreate(&c.to)) && rounds(&c, on_device);
        if (ok)
            report(&c, of, on_device);
        b->failed += !ok;
        cudaEventDestroy(c.from);
        cudaEventDestroy(c.to);
    }
    gb_set_close(&c.set);
    cudaFree(c.tables);
    free((void *)(uintptr_t)c.on_host.cosines);
}

void gb_rope(gb *bench)
{
    static const size_t link_cases[] = {1, 5, 10};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run(bench, &cases[i], true);
    for (size_t i = 0; i < sizeof link_cases / sizeof *link_cases; i++)
        run(bench, &cases[link_cases[i]], false);
}
