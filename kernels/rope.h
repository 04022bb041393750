/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys that carry a rotary position, and what moving them to another position takes. A stored key was rotated by row p0
 * of the engine's own cosine and sine table; pages that hold it at position p1 want it rotated by row p1. The table may
 * carry a magnitude (YaRN) and rounding: both cancel, as the rule divides by the old row's square (docs/rope.md).
 * Part of the door kernels.h; plain structs that C, C++ and CUDA read.
 */
#ifndef KVT_ROPE_H
#define KVT_ROPE_H

#include <stdint.h>

enum {
    KVT_ROPES_MAX = 128,     /* of a call */
    KVT_ROPE_PAIRS_MAX = 512 /* of a window */
};

/* which two elements of a window of d turn together */
typedef enum kvt_rope_pairing {
    KVT_ROPE_NEOX = 0, /* i and i + d/2 */
    KVT_ROPE_GPTJ = 1  /* 2i and 2i + 1 */
} kvt_rope_pairing;

typedef enum kvt_rope_element { KVT_ROPE_BF16 = 0, KVT_ROPE_FP16 = 1, KVT_ROPE_FP32 = 2 } kvt_rope_element;

/* How the keys of some layers are rotated. Layers that no descriptor names carry no position and move as they are, as
 * do all bytes outside the window and all planes that are not named. */
typedef struct kvt_rope {
    uint32_t group;
    uint32_t view;
    uint32_t layer_begin; /* layers [layer_begin, layer_begin + layer_count) of the group */
    uint32_t layer_count;
    uint32_t planes;        /* bit p: plane p is rotated; 1 for K alone */
    uint32_t pairing;       /* kvt_rope_pairing */
    uint32_t element;       /* kvt_rope_element of the keys */
    uint32_t table_element; /* and of the table */
    uint32_t window_begin;  /* bytes into every head where the rotated part begins */
    uint32_t window_bytes;  /* its width; a multiple of two elements */
    uint64_t row_count;     /* positions that the table knows */
    uint64_t row_stride;    /* bytes from one position's row to the next, the same for both */
    const void *cosines;    /* row p, entry i: cosine of pair i at position p times the magnitude */
    const void *sines;      /* both in the kind of memory that the backend's pages live in */
} kvt_rope;

/* Where a blob's token 0 stood when it was stored, and where it stands now. Equal: the bytes are copied as they are. */
typedef struct kvt_rope_shift {
    uint32_t stored;
    uint32_t wanted;
} kvt_rope_shift;

typedef struct kvt_rope_set {
    const kvt_rope *ropes;        /* ascending by group, then by layer_begin; their layers do not overlap */
    const kvt_rope_shift *shifts; /* one per move */
    uint32_t rope_count;          /* at most KVT_ROPES_MAX; 0: nothing is rotated */
    uint32_t reserved;            /* 0 */
} kvt_rope_set;

#endif
