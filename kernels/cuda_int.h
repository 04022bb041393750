/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of the CUDA backend: a context with two pipes per direction, the pool of fences, the registered ranges and
 * what the calibration found. A pipe is a stream of kernels, a stream of copies and a ring of device slots between
 * them; all its work is queued under its lock, so order within a pipe is the order of the calls. Private to
 * kernels/cuda_*.
 */
#ifndef KVT_CUDA_INT_H
#define KVT_CUDA_INT_H

#include "kernels/cuda_rope.h"
#include "kernels/rope_int.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    KVT_CUDA_PIPES = 2,       /* per direction: a call need not stand behind another one's stream */
    KVT_CUDA_SLOTS = 3,       /* of a pipe's ring */
    KVT_CUDA_ENTRIES = 1024,  /* copies of one batched call */
    KVT_CUDA_RANGES_MAX = 256 /* registered pieces */
};
#define KVT_CUDA_SLOT_BYTES     (UINT64_C(8) << 20)  /* every copy costs the engine 2-3 us: few and long ones */
#define KVT_CUDA_RUN_LONG       1024                 /* bytes of a run from which on few blocks fill the link */
#define KVT_CUDA_REGISTER_BYTES (UINT64_C(64) << 30) /* one registration of 512 GiB and more fails on some drivers */

/* Record a failure of the runtime; clears the error that the runtime would otherwise report to the next caller. */
kvt_status kvt_cuda_fail(cudaError_t error, const char *what);
#define KVT_CUDA_TRY(call)                                                                                             \
    do {                                                                                                               \
        cudaError_t kvt_cuda_error = (call);                                                                           \
        if (kvt_cuda_error != cudaSuccess)                                                                             \
            return kvt_cuda_fail(kvt_cuda_error, #call);                                                               \
    } while (0)

/* Copies that have been decided on and not been queued yet. */
typedef struct kvt_cuda_entries {
    void *to[KVT_CUDA_ENTRIES];
    const void *from[KVT_CUDA_ENTRIES];
    size_t bytes[KVT_CUDA_ENTRIES];
    uint32_t count;
} kvt_cuda_entries;

typedef struct kvt_cuda_slot {
    uint8_t *memory;
    cudaEvent_t full; /* the first half of the way is done */
    cudaEvent_t free; /* the second, too */
} kvt_cuda_slot;

typedef struct kvt_cuda_pipe {
    pthread_mutex_t lock; /* guards all of it */
    cudaStream_t kernels;
    cudaStream_t copies;
    cudaEvent_t order; /* marks a place in a caller's stream, or in the other stream */
    kvt_cuda_slot slots[KVT_CUDA_SLOTS];
    uint32_t next_slot;
    kvt_cuda_entries entries;
    kvt_cuda_job job; /* parameters of the next launch */
    kvt_cuda_rope_job rope;
} kvt_cuda_pipe;

/* kvt_fence.impl: one event, from a pool. */
typedef struct kvt_cuda_fence {
    cudaEvent_t event;
    struct kvt_cuda_fence *next;
} kvt_cuda_fence;

/* Seconds per transfer as measured: points ascending in bytes; between them a line. */
enum { KVT_CUDA_POINTS = 6 };
typedef struct kvt_cuda_curve {
    uint64_t bytes[KVT_CUDA_POINTS];
    double ns[KVT_CUDA_POINTS];
    uint32_t count;
} kvt_cuda_curve;
double kvt_cuda_curve_at(const kvt_cuda_curve *curve, uint64_t bytes);

typedef struct kvt_cuda_costs {  /* of one direction */
    kvt_cuda_curve copy_entry;   /* one of many batched copies, by its bytes */
    kvt_cuda_curve staged;       /* a transfer, by its bytes */
    kvt_cuda_curve direct_long;  /* runs of 1 KiB and more */
    kvt_cuda_curve direct_short; /* of 256 bytes */
    double copy_fixed_ns;        /* one small copy */
} kvt_cuda_costs;

typedef struct kvt_cuda_calibration {
    kvt_cuda_costs costs[2]; /* by direction */
    uint64_t elapsed_ns;
    bool valid;
} kvt_cuda_calibration;

/* How wide the kernels spread; kvt_backend_tune() changes quota and transport. */
typedef struct kvt_cuda_knobs {
    uint32_t transport;        /* kvt_transport; AUTO: the cheapest by the calibration */
    uint32_t direct_blocks[2]; /* of a kernel that reaches into host memory, for long runs, by direction */
    uint32_t direct_blocks_short;
    uint32_t quota;       /* multiprocessors that kernels between pages and host memory may fill; 0: all */
    uint64_t piece_bytes; /* of the ring; at most KVT_CUDA_SLOT_BYTES */
    uint64_t direct_max;  /* larger transfers never take the direct way: it slows its neighbours down */
    kvt_cuda_grid device; /* within device memory */
    kvt_cuda_grid staged; /* between pages and the ring, unless there is a quota */
} kvt_cuda_knobs;

typedef struct kvt_cuda_range {
    uintptr_t begin, end;
    void *owner; /* what kvt_backend_host_register() was given */
} kvt_cuda_range;

typedef struct kvt_cuda {
    int device;
    int multiprocessors;
    int capability; /* 90: sm_90 */
    char name[64];
    kvt_log log;
    kvt_cuda_pipe *pipes[2][KVT_CUDA_PIPES];
    atomic_uint turn;
    pthread_mutex_t fence_lock;  /* guards fences */
    kvt_cuda_fence *fences;      /* idle ones */
    pthread_rwlock_t range_lock; /* guards ranges */
    uint64_t register_bytes;     /* of a piece; KVT_CUDA_REGISTER_BYTES but in tests */
    kvt_cuda_range ranges[KVT_CUDA_RANGES_MAX];
    uint32_t range_count;
    kvt_cuda_knobs knobs;
    kvt_cuda_calibration calibration;
} kvt_cuda;

/* ---- memory (cuda_memory.c) ---- */
/* where a segment lies */
typedef enum kvt_cuda_place { KVT_CUDA_PAGEABLE, KVT_CUDA_PINNED, KVT_CUDA_DEVICE } kvt_cuda_place;
kvt_cuda_place kvt_cuda_place_of(kvt_cuda *cuda, const void *memory);
/* Bytes from `memory` on, at most `bytes`, that lie within one registration. */
uint64_t kvt_cuda_registered_span(kvt_cuda *cuda, const void *memory, uint64_t bytes);
kvt_status kvt_cuda_host_register(void *context, void *memory, uint64_t bytes);
void kvt_cuda_host_unregister(void *context, void *memory);
kvt_status kvt_cuda_pages_alloc(void *context, uint64_t bytes, void **out);
void kvt_cuda_pages_free(void *context, void *pages, uint64_t bytes);
kvt_status kvt_cuda_pages_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes);

kvt_status kvt_cuda_pipe_create(bool urgent, kvt_cuda_pipe **out);
void kvt_cuda_pipe_destroy(kvt_cuda_pipe *pipe);

/* ---- fences (cuda_fence.c) ---- */
kvt_status kvt_cuda_fence_record(kvt_cuda *cuda, cudaStream_t stream, kvt_fence *out);
kvt_status kvt_cuda_fence_wait(void *context, kvt_fence *fence);
kvt_status kvt_cuda_fence_order(void *context, const kvt_fence *fence, void *stream);
void kvt_cuda_fences_destroy(kvt_cuda *cuda);

/* ---- launches (cuda_jobs.c): jobs -> kernels; no look at transports ---- */
typedef struct kvt_cuda_target {
    kvt_cuda_job *parameters; /* scratch */
    kvt_cuda_grid grid;
    cudaStream_t stream;
} kvt_cuda_target;
kvt_status kvt_cuda_run_jobs(const kvt_cuda_target *to, const kvt_layout *layout, kvt_direction direction,
                             const kvt_move *moves, size_t count);
/* The same for a scatter whose keys turn (cuda_rope_jobs.c); in place: turns what a plain scatter left. */
kvt_status kvt_cuda_run_ropes(const kvt_cuda_target *to, kvt_cuda_rope_job *parameters, const kvt_layout *layout,
                              const kvt_move *moves, size_t count, const kvt_rope_set *set, bool in_place);
/* Extents [begin, begin + count) of dimension d. */
void kvt_cuda_job_part(kvt_job *job, uint32_t d, uint32_t begin, uint32_t count);

/* ---- cutting (cuda_cut.c): moves -> moves of bounded size without holes; pure ---- */
typedef struct kvt_cuda_cut {
    const kvt_layout *layout;
    const kvt_move *moves;
    size_t count;
    size_t index;
    uint64_t bytes_max;
    uint32_t token;     /* where the next part of moves[index] begins, counted from its token_begin */
    uint32_t token_end; /* end of the part without holes that is being cut; 0: look for the next */
    uint32_t layer;
    uint32_t cut_tokens; /* tokens of the part at hand */
} kvt_cuda_cut;
void kvt_cuda_cut_begin(kvt_cuda_cut *cut, const kvt_layout *layout, const kvt_move *moves, size_t count,
                        uint64_t bytes_max);
/* The next part, as a move on the same segment; false behind the last. A part is larger than bytes_max only when a
 * page of one layer is. */
bool kvt_cuda_cut_next(kvt_cuda_cut *cut, kvt_move *out);

/* ---- transports (cuda_transport.c) ---- */
kvt_status kvt_cuda_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                         size_t count, void *stream, kvt_fence *fence);
kvt_status kvt_cuda_scatter_rope(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                 const kvt_rope_set *set, void *stream, kvt_fence *fence);

/* ---- calibration and choice (cuda_calibrate.c) ---- */
kvt_status kvt_cuda_calibrate(kvt_cuda *cuda);
void kvt_cuda_calibration_text(const kvt_cuda *cuda, char *text, size_t bytes);
typedef struct kvt_cuda_ask {
    kvt_direction direction;
    uint64_t bytes;
    uint64_t run;     /* contiguous on both sides, before neighbouring pages merge */
    uint64_t entries; /* copies it takes after they have */
} kvt_cuda_ask;
kvt_transport kvt_cuda_choose(const kvt_cuda *cuda, const kvt_cuda_ask *ask);

#endif
