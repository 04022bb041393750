/* SPDX-License-Identifier: Apache-2.0
 *
 * gpubench: the moves of the CUDA backend beside plain copies of the same bytes, on one GPU, in one run. What its files
 * share: a set of pages and blobs that rotates so that no cache serves it, timing by events behind a kernel that hides
 * the submission, and the report (a table on stdout, JSON lines in a file).
 */
#ifndef KVT_GPUBENCH_H
#define KVT_GPUBENCH_H

#include "tests/cases_kernels.h" /* the named layouts */

#include <cuda_runtime_api.h>
#include <stdio.h>

enum { GB_ROUNDS_MAX = 101, GB_SET_MAX = 512 };

typedef struct gb_case {
    const char *name;
    const char *layout; /* kvt_named_layout_by_name() */
    uint32_t layers, heads, head_bytes, page_tokens, tokens;
} gb_case;

typedef struct gb {
    kvt_backend *backend;
    FILE *json;
    const char *only; /* part of a section's name; NULL: all */
    uint32_t rounds;
    cudaStream_t stream, other;
    uint32_t failed;
} gb;

/* Pages for `count` blobs in random order, and the blobs. */
typedef struct gb_set {
    gb *bench;
    kvt_named_pages named;
    kvt_layout *layout;
    uint8_t *pages, *blobs;
    uint32_t *ids;
    void **pools, **bases;
    uint64_t pages_bytes, blob_bytes, blobs_bytes;
    uint32_t count, tokens, blob_pages;
    bool on_device; /* the blobs */
} gb_set;

bool gb_set_open(gb_set *set, gb *bench, const gb_case *of, uint32_t count, bool on_device);
void gb_set_close(gb_set *set);
kvt_move gb_set_move(const gb_set *set, uint32_t i);
/* Moves `count` blobs from number `begin` on in one call; the fence is ordered on `stream` and released later. */
bool gb_set_queue(gb_set *set, kvt_direction direction, uint32_t begin, uint32_t count, cudaStream_t stream,
                  kvt_fence *fence);
/* The yardstick: one copy of blob i's bytes between the same memories. */
bool gb_set_copy(gb_set *set, kvt_direction direction, uint32_t i, cudaStream_t stream);
/* Bytes go there and back unharmed, by another way than they are timed. */
bool gb_set_check(gb_set *set);

/* ---- figures ---- */
typedef struct gb_series {
    double values[GB_ROUNDS_MAX];
    uint32_t count;
} gb_series;
void gb_add(gb_series *series, double value);
double gb_quantile(const gb_series *series, double q);
double gb_median(const gb_series *series);
/* a[i] / b[i] */
gb_series gb_ratio(const gb_series *a, const gb_series *b);

/* ---- the report: one row, told twice ---- */
void gb_row_begin(gb *bench, const char *section, const char *name);
void gb_row_text(gb *bench, const char *key, const char *value);
void gb_row_real(gb *bench, const char *key, double value);
void gb_row_ratio(gb *bench, const char *key, const gb_series *series); /* median, p10 and p90 */
void gb_row_end(gb *bench);

/* ---- device (gpubench_kernels.cu) ---- */
#ifdef __cplusplus
extern "C" {
#endif
/* Keep the stream busy for about that long, so that what is queued behind it starts without a gap. */
int gb_spin(double us, void *stream);
/* A neighbour that fills the device: 0 streams memory, 1 computes. */
int gb_neighbour(int kind, float *memory, uint64_t floats, uint32_t passes, void *stream);
#ifdef __cplusplus
}
#endif

/* ---- sections ---- */
void gb_device(gb *bench);     /* pages <-> blob, all on the device */
void gb_link(gb *bench);       /* pages <-> pinned memory: queued, single, by every transport */
void gb_both(gb *bench);       /* both directions at once */
void gb_layers(gb *bench);     /* a restore by layers */
void gb_neighbours(gb *bench); /* what a transfer costs a kernel beside it */
void gb_pinned(gb *bench);     /* registering a pool */
void gb_rope(gb *bench);       /* keys moved to another position on the way in */

#define GB_CUDA(call) gb_cuda((call), #call)
bool gb_cuda(cudaError_t error, const char *what);

#endif
