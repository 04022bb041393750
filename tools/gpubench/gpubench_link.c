/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages <-> registered host memory, by the clock of the host, from the call to the end of the fence: many blobs queued
 * one behind another, one blob by itself, both directions at once, and a restore cut by layers. Beside each a plain
 * copy of the same bytes that is queued and awaited in the same way.
 */
#include "tools/gpubench/gpubench.h"

#include <string.h>

#define SET_BYTES (UINT64_C(512) << 20)

static const gb_case cases[] = {
    {"llama-3.1-8b 32 MiB", "vllm-flash-nhd", 32, 8, 256, 16, 256},
    {"llama-3.1-8b 32 MiB", "vllm-flash-hnd", 32, 8, 256, 16, 256},
    {"llama-3.1-8b 32 MiB", "cross-layer-nhd", 32, 8, 256, 16, 256},
    {"2 KiB slots 32 MiB", "vllm-flash-nhd", 32, 8, 256, 1, 256},
    {"64-token pages 32 MiB", "flashinfer-nhd", 32, 8, 256, 64, 256},
    {"256-token pages 32 MiB", "flashinfer-nhd", 32, 8, 256, 256, 256},
    {"mla 17 MiB", "mla", 61, 1, 1152, 64, 256},
    {"tp8 10 MiB", "vllm-flash-nhd", 80, 1, 256, 16, 256},
    {"llama-3.2-1b 8 MiB", "vllm-flash-nhd", 16, 8, 128, 16, 256},
    {"llama-3.2-1b 8 MiB", "vllm-flash-hnd", 16, 8, 128, 16, 256},
    {"2 MiB", "vllm-flash-nhd", 32, 8, 256, 16, 16},
    {"2 MiB", "vllm-flash-hnd", 32, 8, 256, 16, 16},
    {"512 KiB", "vllm-flash-nhd", 8, 8, 256, 16, 16},
};

static const char *const transports[] = {"auto", "copies", "staged", "direct"};
enum { TRANSPORTS = 4 };

static void use(gb *b, uint32_t transport)
{
    const kvt_backend_tuning tuning = {.transport = transport};
    kvt_backend_tune(b->backend, &tuning);
}

/* Queue `count` blobs, call by call, then wait for all; microseconds of one blob, 0 on failure. */
static double moves_us(gb_set *set, kvt_direction direction, uint32_t begin, uint32_t count)
{
    static kvt_fence fences[GB_SET_MAX];
    bool ok = GB_CUDA(cudaDeviceSynchronize());
    uint64_t at = kvt_now_ns();
    uint32_t queued = 0;
    for (; ok && queued < count; queued++) {
        fences[queued] = (kvt_fence){0};
        ok = gb_set_queue(set, direction, begin + queued, 1, set->bench->stream, &fences[queued]);
    }
    for (uint32_t i = 0; i < queued; i++)
        ok = kvt_backend_fence_wait(set->bench->backend, &fences[i]) == KVT_OK && ok;
    return ok ? (double)(kvt_now_ns() - at) / 1000 / count : 0;
}

static double copies_us(gb_set *set, kvt_direction direction, uint32_t begin, uint32_t count)
{
    bool ok = GB_CUDA(cudaDeviceSynchronize());
    uint64_t at = kvt_now_ns();
    for (uint32_t i = 0; ok && i < count; i++)
        ok = gb_set_copy(set, direction, begin + i, set->bench->stream);
    ok = ok && GB_CUDA(cudaStreamSynchronize(set->bench->stream));
    return ok ? (double)(kvt_now_ns() - at) / 1000 / count : 0;
}

typedef struct contest {
    gb_series copy, move[TRANSPORTS];
} contest;

static void report(gb_set *set, const gb_case *of, kvt_direction direction, uint32_t queued, const contest *c)
{
    gb *b = set->bench;
    double copy = gb_median(&c->copy), best = 0;
    for (uint32_t t = 1; t < TRANSPORTS; t++) {
        double us = gb_median(&c->move[t]);
        best = best == 0 || us < best ? us : best;
    }
    gb_series ratio = gb_ratio(&c->copy, &c->move[0]);
    gb_row_begin(b, "link", of->name);
    gb_row_text(b, "layout", of->layout);
    gb_row_text(b, "way", direction == KVT_GATHER ? "out" : "in");
    gb_row_text(b, "queue", queued > 1 ? "many" : "one");
    gb_row_real(b, "copy_us", copy);
    gb_row_real(b, "copy_gbs", (double)set->blob_bytes / copy / 1000);
    for (uint32_t t = 0; t < TRANSPORTS; t++)
        gb_row_real(b, transports[t], copy / gb_median(&c->move[t]));
    gb_row_ratio(b, "ratio", &ratio);
    gb_row_real(b, "auto_us", gb_median(&c->move[0]));
    gb_row_real(b, "regret", gb_median(&c->move[0]) / best - 1);
    gb_row_end(b);
}

static void run_one(gb_set *set, const gb_case *of, kvt_direction direction, uint32_t queued)
{
    static contest c;
    memset(&c, 0, sizeof c);
    gb *b = set->bench;
    uint32_t rounds = queued > 1 ? (b->rounds + 2) / 3 : b->rounds;
    for (uint32_t r = 0; r <= rounds; r++) {
        if (r == 1)
            memset(&c, 0, sizeof c);
        gb_add(&c.copy, copies_us(set, direction, r, queued));
        for (uint32_t t = 0; t < TRANSPORTS; t++) {
            use(b, t);
            gb_add(&c.move[t], moves_us(set, direction, r + 1 + t, queued));
        }
    }
    use(b, 0);
    report(set, of, direction, queued, &c);
}

void gb_link(gb *bench)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gb_set set;
        const gb_case *of = &cases[i];
        uint64_t bytes =
            (uint64_t)of->layers * (of->heads == 1 ? 1 : 2) * of->tokens * of->heads * of->head_bytes; /* about */
        uint32_t count = (uint32_t)kvt_min_u64(kvt_max_u64(SET_BYTES / 2 / bytes, 8), 128);
        if (gb_set_open(&set, bench, of, count, false))
            for (int direction = 0; direction < 2; direction++) {
                run_one(&set, of, (kvt_direction)direction, count);
                run_one(&set, of, (kvt_direction)direction, 1);
            }
        gb_set_close(&set);
    }
}

/* ------------------------------------------------------------ both directions */

static double both_us(gb_set *out, gb_set *in, bool plain)
{
    static kvt_fence fences[2][GB_SET_MAX];
    gb *b = out->bench;
    bool ok = GB_CUDA(cudaDeviceSynchronize());
    uint64_t at = kvt_now_ns();
    for (uint32_t i = 0; ok && i < out->count; i++) {
        fences[0][i] = fences[1][i] = (kvt_fence){0};
        ok = plain ? gb_set_copy(out, KVT_GATHER, i, b->stream) && gb_set_copy(in, KVT_SCATTER, i, b->other)
                   : gb_set_queue(out, KVT_GATHER, i, 1, b->stream, &fences[0][i]) &&
                         gb_set_queue(in, KVT_SCATTER, i, 1, b->other, &fences[1][i]);
    }
    for (uint32_t i = 0; ok && i < out->count; i++)
        ok = kvt_backend_fence_wait(b->backend, &fences[0][i]) == KVT_OK &&
             kvt_backend_fence_wait(b->backend, &fences[1][i]) == KVT_OK;
    ok = ok && GB_CUDA(cudaDeviceSynchronize());
    return ok ? (double)(kvt_now_ns() - at) / 1000 : 0;
}

void gb_both(gb *bench)
{
    static const gb_case both[] = {{"llama-3.1-8b 32 MiB", "vllm-flash-nhd", 32, 8, 256, 16, 256},
                                   {"llama-3.1-8b 32 MiB", "vllm-flash-hnd", 32, 8, 256, 16, 256},
                                   {"mla 17 MiB", "mla", 61, 1, 1152, 64, 256}};
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        gb_set out, in = {0};
        static gb_series copy, move;
        memset(&copy, 0, sizeof copy), memset(&move, 0, sizeof move);
        if (gb_set_open(&out, bench, &both[i], 16, false) && gb_set_open(&in, bench, &both[i], 16, false)) {
            for (uint32_t r = 0; r <= (bench->rounds + 1) / 2; r++) {
                if (r == 1)
                    copy.count = move.count = 0;
                gb_add(&copy, both_us(&out, &in, true));
                gb_add(&move, both_us(&out, &in, false));
            }
            gb_series ratio = gb_ratio(&copy, &move);
            gb_row_begin(bench, "both", both[i].name);
            gb_row_text(bench, "layout", both[i].layout);
            gb_row_real(bench, "copy_gbs", (double)(2 * out.blob_bytes * out.count) / gb_median(&copy) / 1000);
            gb_row_real(bench, "move_gbs", (double)(2 * out.blob_bytes * out.count) / gb_median(&move) / 1000);
            gb_row_ratio(bench, "ratio", &ratio);
            gb_row_end(bench);
        }
        gb_set_close(&out);
        gb_set_close(&in);
    }
}

/* -------------------------------------------------------------------- layers */

/* A chunk comes back in `parts` calls; when is the first part usable, and when is all of it? */
static bool by_parts(gb_set *set, uint32_t blob, uint32_t parts, double *first_us, double *all_us)
{
    kvt_fence fences[64] = {{0}};
    gb *b = set->bench;
    bool ok = GB_CUDA(cudaDeviceSynchronize());
    uint64_t at = kvt_now_ns();
    for (uint32_t p = 0; ok && p < parts; p++) {
        kvt_move move = gb_set_move(set, blob);
        uint32_t layers = move.layer_count / parts;
        move.layer_begin = p * layers;
        move.layer_count = layers;
        ok = kvt_backend_move(b->backend, set->layout, KVT_SCATTER, &move, 1, b->stream, &fences[p]) == KVT_OK;
    }
    for (uint32_t p = 0; p < parts; p++) {
        ok = kvt_backend_fence_wait(b->backend, &fences[p]) == KVT_OK && ok;
        if (p == 0)
            *first_us = (double)(kvt_now_ns() - at) / 1000;
    }
    *all_us = (double)(kvt_now_ns() - at) / 1000;
    return ok;
}

void gb_layers(gb *bench)
{
    const gb_case of = {"llama-3.1-8b 32 MiB", "vllm-flash-nhd", 32, 8, 256, 16, 256};
    static const uint32_t parts[] = {1, 4, 8, 32};
    gb_set set;
    if (gb_set_open(&set, bench, &of, 16, false))
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            static gb_series first, all;
            bool ok = true;
            for (uint32_t r = 0; ok && r <= bench->rounds; r++) {
                double first_us = 0, all_us = 0;
                if (r <= 1)
                    first.count = all.count = 0;
                ok = by_parts(&set, r, parts[i], &first_us, &all_us);
                gb_add(&first, first_us), gb_add(&all, all_us);
            }
            gb_row_begin(bench, "layers", of.name);
            gb_row_real(bench, "parts", parts[i]);
            gb_row_real(bench, "first_us", gb_median(&first));
            gb_row_real(bench, "all_us", gb_median(&all));
            gb_row_end(bench);
            bench->failed += !ok;
        }
    gb_set_close(&set);
}
