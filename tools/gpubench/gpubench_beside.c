/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transfer costs others: a kernel that fills the device and is bound by memory, or by arithmetic, runs alone and
 * then beside transfers that a thread keeps going, by each transport and in each direction. And what a pool costs to
 * register.
 */
#include "tools/gpubench/gpubench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define NEIGHBOUR_BYTES (UINT64_C(1) << 30)

/* A kernel of a prefill lasts some hundred microseconds; one that lasts milliseconds is the worst case for whoever
 * needs a multiprocessor in between. */
typedef struct load {
    const char *name;
    int kind;
    uint64_t bytes; /* of the memory that it streams through */
    uint32_t passes, launches;
} load;
static const load loads[] = {
    {"memory, long kernels", 0, NEIGHBOUR_BYTES, 4, 2},
    {"memory, short kernels", 0, NEIGHBOUR_BYTES * 3 / 8, 1, 16},
    {"arithmetic, long kernels", 1, 0, 100, 1},
    {"arithmetic, short kernels", 1, 0, 6, 16},
};

typedef struct mover {
    gb_set *set;
    kvt_direction direction;
    atomic_bool stop;
    uint64_t bytes, ns;
} mover;

/* Four moves under way at any time. */
static void *keep_moving(void *arg)
{
    enum { AHEAD = 4 };
    mover *m = arg;
    kvt_fence fences[AHEAD] = {{0}};
    uint64_t at = kvt_now_ns();
    for (uint32_t i = 0; !atomic_load(&m->stop); i++) {
        kvt_backend_fence_wait(m->set->bench->backend, &fences[i % AHEAD]);
        fences[i % AHEAD] = (kvt_fence){0};
        if (!gb_set_queue(m->set, m->direction, i, 1, m->set->bench->stream, &fences[i % AHEAD]))
            break;
        m->bytes += m->set->blob_bytes;
    }
    for (int i = 0; i < AHEAD; i++)
        kvt_backend_fence_wait(m->set->bench->backend, &fences[i]);
    m->ns = kvt_now_ns() - at;
    return NULL;
}

typedef struct neighbour {
    gb *bench;
    float *memory;
    cudaEvent_t from, to;
    const load *load;
} neighbour;

static bool neighbour_run(neighbour *n, gb_series *out)
{
    float ms = 0;
    bool ok = true;
    for (uint32_t r = 0; ok && r < n->bench->rounds; r++) {
        ok = GB_CUDA(cudaEventRecord(n->from, n->bench->other));
        for (uint32_t i = 0; ok && i < n->load->launches; i++)
            ok = GB_CUDA((cudaError_t)gb_neighbour(n->load->kind, n->memory, n->load->bytes / 4, n->load->passes,
                                                   n->bench->other));
        ok = ok && GB_CUDA(cudaEventRecord(n->to, n->bench->other)) && GB_CUDA(cudaEventSynchronize(n->to)) &&
             GB_CUDA(cudaEventElapsedTime(&ms, n->from, n->to));
        gb_add(out, (double)ms * 1000);
    }
    return ok;
}

static void beside(neighbour *n, gb_set *set, kvt_direction direction, uint32_t transport)
{
    static const char *const names[] = {"auto", "copies", "staged", "direct"};
    static gb_series alone, together;
    gb *b = n->bench;
    memset(&alone, 0, sizeof alone), memset(&together, 0, sizeof together);
    const kvt_backend_tuning tuning = {.transport = transport};
    kvt_backend_tune(b->backend, &tuning);
    mover idle = {.set = set, .direction = direction}, busy = {.set = set, .direction = direction};
    pthread_t thread;
    bool ok = neighbour_run(n, &alone) && pthread_create(&thread, NULL, keep_moving, &idle) == 0;
    if (ok) {
        const struct timespec while_idle = {.tv_nsec = 100000000};
        nanosleep(&while_idle, NULL);
        atomic_store(&idle.stop, true);
        pthread_join(thread, NULL);
        ok = pthread_create(&thread, NULL, keep_moving, &busy) == 0;
    }
    if (ok) {
        const struct timespec settle = {.tv_nsec = 5000000};
        nanosleep(&settle, NULL);
        ok = neighbour_run(n, &together);
        atomic_store(&busy.stop, true);
        pthread_join(thread, NULL);
    }
    b->failed += !ok;
    gb_row_begin(b, "beside", n->load->name);
    gb_row_text(b, "transport", names[transport]);
    gb_row_text(b, "way", direction == KVT_GATHER ? "out" : "in");
    gb_row_real(b, "mib", (double)set->blob_bytes / 1048576);
    gb_row_real(b, "idle_gbs", (double)idle.bytes / (double)idle.ns);
    gb_row_real(b, "busy_gbs", (double)busy.bytes / (double)busy.ns);
    gb_row_real(b, "kernel_us", gb_median(&alone) / n->load->launches);
    gb_row_real(b, "alone_us", gb_median(&alone));
    gb_row_real(b, "beside_us", gb_median(&together));
    gb_row_real(b, "slowdown", gb_median(&together) / gb_median(&alone) - 1);
    gb_row_end(b);
}

void gb_neighbours(gb *bench)
{
    const gb_case large = {"", "vllm-flash-nhd", 32, 8, 256, 16, 256},
                  pages = {"", "flashinfer-nhd", 32, 8, 256, 256, 256},
                  small = {"", "vllm-flash-nhd", 32, 8, 256, 16, 16};
    neighbour n = {.bench = bench};
    void *memory = NULL;
    gb_set sets[3];
    bool ok = gb_set_open(&sets[0], bench, &large, 16, false);
    ok = gb_set_open(&sets[1], bench, &pages, 16, false) && ok;
    ok = gb_set_open(&sets[2], bench, &small, 128, false) && ok;
    ok = ok && GB_CUDA(cudaMalloc(&memory, NEIGHBOUR_BYTES)) && GB_CUDA(cudaMemset(memory, 0, NEIGHBOUR_BYTES)) &&
         GB_CUDA(cudaEventCreate(&n.from)) && GB_CUDA(cudaEventCreate(&n.to));
    n.memory = memory;
    for (size_t i = 0; ok && i < sizeof loads / sizeof *loads; i++)
        for (int d = 0; d < 2; d++) {
            n.load = &loads[i];
            beside(&n, &sets[1], (kvt_direction)d, KVT_TRANSPORT_COPIES); /* 512 KiB runs: as it is chosen for */
            beside(&n, &sets[0], (kvt_direction)d, KVT_TRANSPORT_STAGED);
            beside(&n, &sets[2], (kvt_direction)d, KVT_TRANSPORT_DIRECT);
        }
    const kvt_backend_tuning automatic = {0};
    kvt_backend_tune(bench->backend, &automatic);
    cudaFree(memory);
    for (int i = 0; i < 3; i++)
        gb_set_close(&sets[i]);
}

/* -------------------------------------------------------------------- pinned */

void gb_pinned(gb *bench)
{
    const uint64_t bytes = UINT64_C(2) << 30, piece = UINT64_C(256) << 20;
    static const uint32_t threads[] = {1, 8, 16};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        kvt_page_kind kind;
        uint64_t at = kvt_now_ns();
        uint8_t *pool = kvt_pages_map(bytes, &kind);
        if (pool == NULL)
            return;
        uint64_t first = 0;
        for (uint64_t done = 0; done < bytes; done += piece) {
            kvt_pages_touch(pool + done, piece, threads[i]);
            bench->failed += kvt_backend_host_register(bench->backend, pool + done, piece) != KVT_OK;
            if (done == 0)
                first = kvt_now_ns() - at;
        }
        uint64_t all = kvt_now_ns() - at;
        kind = kvt_pages_kind_of(pool, bytes, kind);
        for (uint64_t done = 0; done < bytes; done += piece)
            kvt_backend_host_unregister(bench->backend, pool + done);
        kvt_pages_unmap(pool, bytes);
        gb_row_begin(bench, "pinned", "2 GiB in pieces of 256 MiB");
        gb_row_real(bench, "threads", threads[i]);
        gb_row_text(bench, "pages",
                    kind == KVT_PAGES_SMALL  ? "small"
                    : kind == KVT_PAGES_HUGE ? "huge"
                                             : "transparent");
        gb_row_real(bench, "first_ms", (double)first / 1e6);
        gb_row_real(bench, "all_ms", (double)all / 1e6);
        gb_row_end(bench);
    }
    void *plain = NULL;
    uint64_t at = kvt_now_ns();
    if (!GB_CUDA(cudaHostAlloc(&plain, bytes, cudaHostAllocPortable)))
        return;
    gb_row_begin(bench, "pinned", "2 GiB by cudaHostAlloc");
    gb_row_real(bench, "all_ms", (double)(kvt_now_ns() - at) / 1e6);
    gb_row_end(bench);
    cudaFreeHost(plain);
}
