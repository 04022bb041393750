/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages <-> a blob in device memory, beside a device copy of as many bytes, in turns, over sets that together outgrow
 * the cache. Timed by events behind a kernel that hides the submission. An untimed call of the same kind goes before
 * each timed one, so that each pays for the lines that it leaves unwritten in the cache, not for its neighbour's.
 */
#include "tools/gpubench/gpubench.h"

#include <string.h>

#define ROTATE_BYTES (UINT64_C(384) << 20)

static const gb_case cases[] = {
    {"32 x 128 tok x 32 heads", "vllm-flash-nhd", 32, 32, 256, 16, 128},
    {"llama-3.1-8b chunk", "vllm-flash-nhd", 32, 8, 256, 16, 256},
    {"llama-3.1-8b 2048", "vllm-flash-nhd", 32, 8, 256, 16, 2048},
    {"llama-3.1-8b 2048", "flashinfer-nhd", 32, 8, 256, 16, 2048},
    {"llama-3.1-8b 8192", "vllm-flash-nhd", 32, 8, 256, 16, 8192},
    {"32 x 4096 tok x 32 heads", "vllm-flash-nhd", 32, 32, 256, 16, 4096},
    {"512 B runs 2048", "vllm-flash-hnd", 32, 4, 512, 16, 2048},
    {"512 B runs 8192", "vllm-flash-hnd", 32, 4, 512, 16, 8192},
    {"256 B runs chunk", "vllm-flash-hnd", 32, 8, 256, 16, 256},
    {"256 B runs 2048", "vllm-flash-hnd", 32, 8, 256, 16, 2048},
    {"256 B runs 8192", "vllm-flash-hnd", 32, 8, 256, 16, 8192},
    {"mla chunk", "mla", 61, 1, 1152, 64, 256},
    {"mla 4096", "mla", 61, 1, 1152, 64, 4096},
    {"mla 8192", "mla", 61, 1, 1152, 64, 8192},
    {"mla 4096 slots", "mla", 61, 1, 1152, 1, 4096},
    {"2 KiB slots chunk", "vllm-flash-nhd", 32, 8, 256, 1, 256},
    {"2 KiB slots 2048", "vllm-flash-nhd", 32, 8, 256, 1, 2048},
    {"2 KiB slots 16384", "vllm-flash-nhd", 32, 8, 256, 1, 16384},
};

typedef struct contest {
    gb_set set;
    gb_series copy, move[2], submit[2];
    cudaEvent_t from, to;
} contest;

static bool event_time(contest *c, gb_series *out)
{
    float ms = 0;
    bool ok = GB_CUDA(cudaEventSynchronize(c->to)) && GB_CUDA(cudaEventElapsedTime(&ms, c->from, c->to));
    gb_add(out, (double)ms * 1000);
    return ok;
}

/* Events on both sides of the second of two calls. */
static bool begin(contest *c)
{
    gb *b = c->set.bench;
    return GB_CUDA((cudaError_t)gb_spin(120, b->stream)) && GB_CUDA(cudaEventRecord(c->from, b->stream));
}

static bool copy_once(contest *c, uint32_t round)
{
    cudaStream_t stream = c->set.bench->stream;
    return GB_CUDA(cudaDeviceSynchronize()) && gb_set_copy(&c->set, KVT_GATHER, round, stream) && begin(c) &&
           gb_set_copy(&c->set, KVT_GATHER, round + 1, stream) && GB_CUDA(cudaEventRecord(c->to, stream)) &&
           event_time(c, &c->copy);
}

static bool move_once(contest *c, kvt_direction direction, uint32_t round)
{
    gb *b = c->set.bench;
    kvt_fence fences[2] = {{0}};
    bool ok = GB_CUDA(cudaDeviceSynchronize()) && gb_set_queue(&c->set, direction, round, 1, b->stream, &fences[0]) &&
              begin(c);
    uint64_t at = kvt_now_ns();
    ok = ok && gb_set_queue(&c->set, direction, round + 1, 1, b->stream, &fences[1]);
    gb_add(&c->submit[direction], (double)(kvt_now_ns() - at) / 1000);
    ok = ok && GB_CUDA(cudaEventRecord(c->to, b->stream)) && event_time(c, &c->move[direction]);
    for (int i = 0; i < 2; i++)
        ok = kvt_backend_fence_wait(b->backend, &fences[i]) == KVT_OK && ok;
    return ok;
}

static void report(contest *c, const gb_case *of)
{
    gb *b = c->set.bench;
    gb_series gather = gb_ratio(&c->copy, &c->move[0]), scatter = gb_ratio(&c->copy, &c->move[1]);
    gb_row_begin(b, "device", of->name);
    gb_row_text(b, "layout", of->layout);
    gb_row_real(b, "mib", (double)c->set.blob_bytes / 1048576);
    gb_row_real(b, "copy_us", gb_median(&c->copy));
    gb_row_real(b, "gather_us", gb_median(&c->move[0]));
    gb_row_real(b, "scatter_us", gb_median(&c->move[1]));
    gb_row_ratio(b, "gather_ratio", &gather);
    gb_row_ratio(b, "scatter_ratio", &scatter);
    gb_row_real(b, "submit_us", gb_median(&c->submit[0]));
    gb_row_end(b);
}

static void run(gb *b, const gb_case *of)
{
    static contest c;
    uint64_t bytes =
        (uint64_t)of->layers * (strcmp(of->layout, "mla") == 0 ? 1 : 2) * of->tokens * of->heads * of->head_bytes;
    memset(&c, 0, sizeof c);
    if (gb_set_open(&c.set, b, of, (uint32_t)kvt_max_u64(1, ROTATE_BYTES / bytes), true) &&
        GB_CUDA(cudaEventCreate(&c.from)) && GB_CUDA(cudaEventCreate(&c.to))) {
        bool ok = true;
        for (uint32_t r = 0; ok && r < b->rounds + 3; r++) {
            if (r == 3) /* the first ones warm up */
                c.copy.count = c.move[0].count = c.move[1].count = c.submit[0].count = c.submit[1].count = 0;
            ok = copy_once(&c, 6 * r) && move_once(&c, KVT_GATHER, 6 * r + 2) && move_once(&c, KVT_SCATTER, 6 * r + 4);
        }
        if (ok)
            report(&c, of);
        b->failed += !ok;
        cudaEventDestroy(c.from);
        cudaEventDestroy(c.to);
    }
    gb_set_close(&c.set);
}

void gb_device(gb *bench)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run(bench, &cases[i]);
}
