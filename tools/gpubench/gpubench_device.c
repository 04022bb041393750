/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages <-> a blob in device memory, beside a device copy of as many bytes, in turns, over sets that together outgrow
 * the cache, by events, in three ways: behind a call of the same kind and a kernel that hides the submission, so that
 * each pays for the lines that it leaves unwritten in the cache, not for its neighbour's; many in a row; and one call
 * on an idle stream, submission and all, as a caller sees it.
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
    {"32 x 2048 tok x 32 heads", "vllm-flash-nhd", 32, 32, 256, 16, 2048},
    {"32 x 4096 tok x 32 heads", "vllm-flash-nhd", 32, 32, 256, 16, 4096},
    {"8 KiB slots 2048", "vllm-flash-nhd", 32, 32, 256, 1, 2048},
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

enum { COPY = 2, KINDS = 3, BEHIND = 0, ROW, CALL, MANNERS, ROW_CALLS = 6, ROW_WARM = 2 };

typedef struct contest {
    gb_set set;
    gb_series us[MANNERS][KINDS]; /* a kind: gather, scatter, copy */
    gb_series submit;
    cudaEvent_t from, to;
} contest;

/* Queue one call of a kind. */
static bool queue(contest *c, int kind, uint32_t i, kvt_fence *fence)
{
    cudaStream_t stream = c->set.bench->stream;
    *fence = (kvt_fence){0};
    return kind == COPY ? gb_set_copy(&c->set, KVT_GATHER, i, stream)
                        : gb_set_queue(&c->set, (kvt_direction)kind, i, 1, stream, fence);
}

static bool time_once(contest *c, int manner, int kind, uint32_t round)
{
    gb *b = c->set.bench;
    const uint32_t before = manner == BEHIND ? 1 : manner == ROW ? ROW_WARM : 0, count = manner == ROW ? ROW_CALLS : 1;
    kvt_fence fences[ROW_WARM + ROW_CALLS] = {{0}};
    float ms = 0;
    bool ok = GB_CUDA(cudaDeviceSynchronize()) && (manner != ROW || GB_CUDA((cudaError_t)gb_spin(200, b->stream)));
    for (uint32_t i = 0; ok && i < before; i++)
        ok = queue(c, kind, round + i, &fences[i]);
    ok = ok && (manner != BEHIND || GB_CUDA((cudaError_t)gb_spin(120, b->stream)));
    ok = ok && GB_CUDA(cudaEventRecord(c->from, b->stream));
    uint64_t at = kvt_now_ns();
    for (uint32_t i = before; ok && i < before + count; i++)
        ok = queue(c, kind, round + i, &fences[i]);
    if (manner == BEHIND && kind == KVT_GATHER)
        gb_add(&c->submit, (double)(kvt_now_ns() - at) / 1000);
    ok = ok && GB_CUDA(cudaEventRecord(c->to, b->stream)) && GB_CUDA(cudaEventSynchronize(c->to)) &&
         GB_CUDA(cudaEventElapsedTime(&ms, c->from, c->to));
    for (uint32_t i = 0; i < before + count; i++)
        ok = kvt_backend_fence_wait(b->backend, &fences[i]) == KVT_OK && ok;
    gb_add(&c->us[manner][kind], (double)ms * 1000 / count);
    return ok;
}

static void report(contest *c, const gb_case *of)
{
    gb *b = c->set.bench;
    gb_series gather = gb_ratio(&c->us[BEHIND][COPY], &c->us[BEHIND][0]),
              scatter = gb_ratio(&c->us[BEHIND][COPY], &c->us[BEHIND][1]);
    gb_row_begin(b, "device", of->name);
    gb_row_text(b, "layout", of->layout);
    gb_row_real(b, "mib", (double)c->set.blob_bytes / 1048576);
    gb_row_real(b, "copy_us", gb_median(&c->us[BEHIND][COPY]));
    gb_row_ratio(b, "gather", &gather);
    gb_row_ratio(b, "scatter", &scatter);
    for (int manner = ROW; manner < MANNERS; manner++) {
        double copy = gb_median(&c->us[manner][COPY]);
        gb_row_real(b, manner == ROW ? "row_copy_us" : "call_copy_us", copy);
        gb_row_real(b, manner == ROW ? "row_gather" : "call_gather", copy / gb_median(&c->us[manner][0]));
        gb_row_real(b, manner == ROW ? "row_scatter" : "call_scatter", copy / gb_median(&c->us[manner][1]));
    }
    gb_row_real(b, "submit_us", gb_median(&c->submit));
    gb_row_end(b);
}

static bool rounds_of(contest *c)
{
    gb *b = c->set.bench;
    uint32_t at = 0;
    bool ok = true;
    for (uint32_t r = 0; ok && r < b->rounds + 3; r++) {
        if (r == 3) /* the first ones warm up */
            memset(c->us, 0, sizeof c->us);
        for (int manner = 0; ok && manner < MANNERS; manner++)
            for (int kind = 0; ok && kind < KINDS && (manner == BEHIND || r % 3 == 0); kind++, at += 2)
                ok = time_once(c, manner, kind, at);
    }
    return ok;
}

static void run(gb *b, const gb_case *of)
{
    static contest c;
    uint64_t bytes =
        (uint64_t)of->layers * (strcmp(of->layout, "mla") == 0 ? 1 : 2) * of->tokens * of->heads * of->head_bytes;
    memset(&c, 0, sizeof c);
    if (gb_set_open(&c.set, b, of, (uint32_t)kvt_max_u64(1, ROTATE_BYTES / bytes), true) &&
        GB_CUDA(cudaEventCreate(&c.from)) && GB_CUDA(cudaEventCreate(&c.to))) {
        if (rounds_of(&c))
            report(&c, of);
        else
            b->failed++;
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
