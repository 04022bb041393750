/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transfer costs on this device over this link, measured once per process and device through the very code that
 * is chosen from, and the choice. Curves of time by bytes, a line between the points; constants of another machine do
 * not carry over: where copies overtake kernels differs between hosts by a factor of four.
 */
#include "kernels/cuda_int.h"

#include <stdio.h>

/* ------------------------------------------------------------------ choosing */

double kvt_cuda_curve_at(const kvt_cuda_curve *curve, uint64_t bytes)
{
    uint32_t last = curve->count - 1, i = 1;
    if (bytes <= curve->bytes[0])
        return curve->ns[0];
    while (i < last && bytes > curve->bytes[i])
        i++;
    double slope = (curve->ns[i] - curve->ns[i - 1]) / (double)(curve->bytes[i] - curve->bytes[i - 1]);
    return curve->ns[i - 1] + slope * (double)(bytes - curve->bytes[i - 1]);
}

static double copies_ns(const kvt_cuda_costs *costs, const kvt_cuda_ask *ask)
{
    return costs->copy_fixed_ns +
           (double)ask->entries * kvt_cuda_curve_at(&costs->copy_entry, ask->bytes / ask->entries);
}

static double direct_ns(const kvt_cuda_costs *costs, const kvt_cuda_ask *ask)
{
    const uint64_t measured = 256; /* the run behind direct_short; shorter ones take as many more accesses */
    if (ask->run >= KVT_CUDA_RUN_LONG)
        return kvt_cuda_curve_at(&costs->direct_long, ask->bytes);
    double factor = ask->run < measured ? (double)measured / (double)ask->run : 1;
    return kvt_cuda_curve_at(&costs->direct_short, ask->bytes) * factor;
}

kvt_transport kvt_cuda_choose(const kvt_cuda *cuda, const kvt_cuda_ask *ask)
{
    const double worth = 1.03; /* what a way may cost more: copies take no multiprocessor from anybody, and staging
                                  costs a neighbour less than kernels that wait for the link */
    const kvt_cuda_costs *costs = &cuda->calibration.costs[ask->direction];
    if (cuda->knobs.transport != KVT_TRANSPORT_AUTO)
        return (kvt_transport)cuda->knobs.transport;
    if (!cuda->calibration.valid)
        return KVT_TRANSPORT_STAGED;
    double staged = kvt_cuda_curve_at(&costs->staged, ask->bytes), best = staged;
    kvt_transport choice = KVT_TRANSPORT_STAGED;
    if (ask->bytes <= cuda->knobs.direct_max && direct_ns(costs, ask) * worth < best) {
        best = direct_ns(costs, ask);
        choice = KVT_TRANSPORT_DIRECT;
    }
    return copies_ns(costs, ask) <= best * worth ? KVT_TRANSPORT_COPIES : choice;
}

/* ----------------------------------------------------------------- measuring */

enum { REPEATS = 5 };
#define TEST_BYTES (UINT64_C(16) << 20)

typedef struct lab {
    kvt_cuda *cuda;
    uint8_t *pages;
    uint8_t *host;
    uint32_t *ids;
} lab;

/* Pages of one run each, as many as the pool holds, in an order without neighbours. */
static kvt_status lab_layout(const lab *of, uint64_t run, kvt_layout **out)
{
    void *const bases[] = {of->pages};
    kvt_group group = {.layer_count = 1,
                       .page_tokens = 1,
                       .page_count = (uint32_t)(TEST_BYTES / run),
                       .view_count = 1,
                       .bases = bases,
                       .base_count = 1};
    group.views[0] = (kvt_view){.plane_count = 1,
                                .head_count = 1,
                                .head_bytes = (uint32_t)run,
                                .element_bytes = 1,
                                .page_stride = (int64_t)run,
                                .token_stride = (int64_t)run,
                                .head_stride = (int64_t)run};
    return kvt_layout_create(&group, 1, group.page_count, out);
}

static void lab_ids(const lab *of, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) /* evens backwards, then odds: no two neighbours are neighbours */
        of->ids[i] = i < count / 2 ? 2 * (count / 2 - 1 - i) : 2 * (i - count / 2) + 1;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(double *values, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t j = i; j > 0 && by_value(&values[j - 1], &values[j]) > 0; j--) {
            double held = values[j];
            values[j] = values[j - 1];
            values[j - 1] = held;
        }
}

/* Median time of one transfer, as a caller sees it: from the call to the end of the fence. */
static kvt_status lab_time(const lab *of, kvt_direction direction, uint64_t run, uint64_t bytes, double *out_ns)
{
    kvt_layout *layout;
    double ns[REPEATS];
    kvt_status status = lab_layout(of, run, &layout);
    if (status != KVT_OK)
        return status;
    uint32_t count = (uint32_t)(bytes / run);
    const kvt_move move = {
        .segment = of->host, .pages = of->ids, .segment_tokens = count, .token_count = count, .layer_count = 1};
    lab_ids(of, (uint32_t)(TEST_BYTES / run));
    for (uint32_t i = 0; i <= REPEATS && status == KVT_OK; i++) {
        kvt_fence fence;
        uint64_t begin = kvt_now_ns();
        status = kvt_cuda_move(of->cuda, layout, direction, &move, 1, of->cuda->pipes[direction][0]->kernels, &fence);
        if (status == KVT_OK && fence.impl != NULL)
            status = kvt_cuda_fence_wait(of->cuda, &fence);
        ns[i == 0 ? 0 : i - 1] = (double)(kvt_now_ns() - begin); /* the first one warms up */
    }
    kvt_layout_destroy(layout);
    sort(ns, REPEATS);
    *out_ns = ns[REPEATS / 2];
    return status;
}

static kvt_status lab_curve(const lab *of, kvt_direction direction, kvt_transport transport, uint64_t run,
                            kvt_cuda_curve *out)
{
    static const uint64_t points[] = {UINT64_C(64) << 10, UINT64_C(256) << 10, UINT64_C(1) << 20,
                                      UINT64_C(4) << 20,  UINT64_C(8) << 20,   TEST_BYTES};
    of->cuda->knobs.transport = transport;
    out->count = 0;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        if (transport == KVT_TRANSPORT_DIRECT && points[i] > UINT64_C(4) << 20)
            break;
        out->bytes[out->count] = points[i];
        KVT_TRY(lab_time(of, direction, run, points[i], &out->ns[out->count++]));
    }
    return KVT_OK;
}

/* Many copies of one size, less the price of the first. */
static kvt_status lab_entries(const lab *of, kvt_direction direction, kvt_cuda_costs *costs)
{
    static const uint64_t runs[] = {4 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20};
    of->cuda->knobs.transport = KVT_TRANSPORT_COPIES;
    KVT_TRY(lab_time(of, direction, runs[0], runs[0], &costs->copy_fixed_ns));
    costs->copy_entry.count = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        uint64_t entries = kvt_min_u64(TEST_BYTES / runs[i], 512);
        double ns;
        KVT_TRY(lab_time(of, direction, runs[i], runs[i] * entries, &ns));
        costs->copy_entry.bytes[costs->copy_entry.count] = runs[i];
        double beyond = ns > costs->copy_fixed_ns ? ns - costs->copy_fixed_ns : 0;
        costs->copy_entry.ns[costs->copy_entry.count++] = beyond / (double)entries;
    }
    return KVT_OK;
}

static kvt_status measure(const lab *of)
{
    for (int d = 0; d < 2; d++) {
        kvt_cuda_costs *costs = &of->cuda->calibration.costs[d];
        kvt_direction direction = (kvt_direction)d;
        KVT_TRY(lab_entries(of, direction, costs));
        KVT_TRY(lab_curve(of, direction, KVT_TRANSPORT_STAGED, 4096, &costs->staged));
        KVT_TRY(lab_curve(of, direction, KVT_TRANSPORT_DIRECT, 4096, &costs->direct_long));
        KVT_TRY(lab_curve(of, direction, KVT_TRANSPORT_DIRECT, 256, &costs->direct_short));
    }
    return KVT_OK;
}

static kvt_status lab_open(lab *of, kvt_cuda *cuda)
{
    void *pages, *host;
    *of = (lab){.cuda = cuda, .ids = kvt_alloc_array(TEST_BYTES / 256, sizeof *of->ids)};
    if (of->ids == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a calibration");
    KVT_CUDA_TRY(cudaMalloc(&pages, TEST_BYTES));
    of->pages = pages;
    KVT_CUDA_TRY(cudaHostAlloc(&host, TEST_BYTES, cudaHostAllocPortable));
    of->host = host;
    return KVT_OK;
}

static void lab_close(lab *of)
{
    cudaFree(of->pages);
    cudaFreeHost(of->host);
    cudaGetLastError();
    kvt_free(of->ids);
}

/* One per device and process: a second engine need not measure again. */
enum { KNOWN_MAX = 16 };
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER; /* guards known */
static kvt_cuda_calibration known[KNOWN_MAX];

kvt_status kvt_cuda_calibrate(kvt_cuda *cuda)
{
    kvt_status status = KVT_OK;
    uint64_t begin = kvt_now_ns();
    pthread_mutex_lock(&known_lock);
    kvt_cuda_calibration *slot = cuda->device < KNOWN_MAX ? &known[cuda->device] : &known[0];
    if (!slot->valid || cuda->device >= KNOWN_MAX) {
        lab of;
        status = lab_open(&of, cuda);
        if (status == KVT_OK)
            status = measure(&of);
        lab_close(&of);
        cuda->knobs.transport = KVT_TRANSPORT_AUTO;
        cuda->calibration.valid = status == KVT_OK;
        cuda->calibration.elapsed_ns = kvt_now_ns() - begin;
        if (cuda->device < KNOWN_MAX)
            *slot = cuda->calibration;
    } else {
        cuda->calibration = *slot;
    }
    pthread_mutex_unlock(&known_lock);
    return status;
}

/* -------------------------------------------------------------------- telling */

static void put_curve(FILE *to, const char *direction, const char *name, const kvt_cuda_curve *curve)
{
    fprintf(to, "%s %-12s", direction, name);
    for (uint32_t i = 0; i < curve->count; i++)
        fprintf(to, " %llu:%.1f", (unsigned long long)curve->bytes[i], curve->ns[i] / 1000);
    fputc('\n', to);
}

void kvt_cuda_calibration_text(const kvt_cuda *cuda, char *text, size_t bytes)
{
    FILE *to = bytes > 1 ? fmemopen(text, bytes, "w") : NULL;
    if (to == NULL)
        return;
    fprintf(to, "calibration of %s: %.0f ms; bytes:us\n", cuda->name, (double)cuda->calibration.elapsed_ns / 1e6);
    for (int d = 0; d < 2; d++) {
        const kvt_cuda_costs *costs = &cuda->calibration.costs[d];
        const char *direction = d == KVT_GATHER ? "gather" : "scatter";
        fprintf(to, "%s %-12s %.1f\n", direction, "copy", costs->copy_fixed_ns / 1000);
        put_curve(to, direction, "copy-entry", &costs->copy_entry);
        put_curve(to, direction, "staged", &costs->staged);
        put_curve(to, direction, "direct", &costs->direct_long);
        put_curve(to, direction, "direct-256", &costs->direct_short);
    }
    fclose(to);
    text[bytes - 1] = '\0';
}
