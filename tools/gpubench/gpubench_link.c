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

/* A transport that is many times slower than the planner's choice is timed once, with one blob. */
static void probe(gb_set *set, kvt_direction direction, contest *c, bool hopeless[TRANSPORTS])
{
    const double times = 4;
    double us[TRANSPORTS];
    for (uint32_t t = 0; t < TRANSPORTS; t++) {
        use(set->bench, t);
        moves_us(set, direction, t, 1); /* warms up */
        us[t] = moves_us(set, direction, 1 + t, 1);
    }
    for (uint32_t t = 0; t < TRANSPORTS; t++) {
        hopeless[t] = us[t] > times * us[0];
        if (hopeless[t])
            gb_add(&c->move[t], us[t]);
    }
}

static void run_one(gb_set *set, const gb_case *of, kvt_direction direction, uint32_t queued)
{
    static contest c;
    memset(&c, 0, sizeof c);
    gb *b = set->bench;
    uint32_t rounds = queued > 1 ? (b->rounds + 2) / 3 : b->rounds;
    bool hopeless[TRANSPORTS];
    copies_us(set, direction, 0, queued); /* warms up */
    probe(set, direction, &c, hopeless);
    for (uint32_t r = 0; r < rounds; r++) {
        gb_add(&c.copy, copies_us(set, direction, r, queued));
        for (uint32_t t = 0; t < TRANSPORTS; t++) {
            if (hopeless[t])
                continue;
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

/* A chunk comes back in `parts` calls; when is the first part usable on the device, and when is all of it? */
static bool by_parts(gb_set *set, uint32_t blob, uint32_t parts, const cudaEvent_t events[3], double us[2])
{
    kvt_fence fences[64] = {{0}};
    gb *b = set->bench;
    bool ok = GB_CUDA(cudaDeviceSynchronize()) && GB_CUDA(cudaEventRecord(events[0], b->stream));
    for (uint32_t p = 0; ok && p < parts; p++) {
        kvt_move move = gb_set_move(set, blob);
        uint32_t layers = move.layer_count / parts;
        move.layer_begin = p * layers;
        move.layer_count = layers;
        ok = kvt_backend_move(b->backend, set->layout, KVT_SCATTER, &move, 1, b->stream, &fences[p]) == KVT_OK;
        if (ok && (p == 0 || p + 1 == parts))
            ok = kvt_backend_fence_order(b->backend, &fences[p], b->other) == KVT_OK &&
                 GB_CUDA((cudaError_t)gb_spin(0, b->other)) && /* as a kernel of the engine would: else the event may
                                                                  stand in the copy engine's queue, behind the rest */
                 GB_CUDA(cudaEventRecord(events[p == 0 ? 1 : 2], b->other));
    }
    for (uint32_t p = 0; p < parts; p++)
        ok = kvt_backend_fence_wait(b->backend, &fences[p]) == KVT_OK && ok;
    for (uint32_t i = 0; ok && i < 2; i++) {
        float ms = 0;
        const uint32_t last = parts == 1 ? 1 : i + 1;
        ok = GB_CUDA(cudaEventSynchronize(events[last])) && GB_CUDA(cudaEventElapsedTime(&ms, events[0], events[last]));
        us[i] = (double)ms * 1000;
    }
    return ok;
}

void gb_layers(gb *bench)
{
    const gb_case of = {"llama-3.1-8b 32 MiB", "vllm-flash-nhd", 32, 8, 256, 16, 256};
    static const uint32_t parts[] = {1, 2, 4, 8, 32};
    cudaEvent_t events[3];
    gb_set set;
    for (int i = 0; i < 3; i++)
        if (!GB_CUDA(cudaEventCreate(&events[i])))
            return;
    if (gb_set_open(&set, bench, &of, 16, false))
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            static gb_series first, all;
            bool ok = true;
            for (uint32_t r = 0; ok && r <= bench->rounds; r++) {
                double us[2] = {0, 0};
                if (r <= 1)
                    first.count = all.count = 0;
                ok = by_parts(&set, r, parts[i], events, us);
                gb_add(&first, us[0]), gb_add(&all, us[1]);
            }
            gb_row_begin(bench, "layers", of.name);
            gb_row_real(bench, "parts", parts[i]);
            gb_row_real(bench, "first_us", gb_median(&first));
            gb_row_real(bench, "all_us", gb_median(&all));
            gb_row_end(bench);
            bench->failed += !ok;
        }
    gb_set_close(&set);
    for (int i = 0; i < 3; i++)
        cudaEventDestroy(events[i]);
}
