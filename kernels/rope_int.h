/* SPDX-License-Identifier: Apache-2.0
 *
 * Re-positioning inside kernels/: what the registry checks before a byte moves, how moves fall into parts with and
 * without a rotation, and the inner loops of the processor. Private to kernels/ and its tests.
 */
#ifndef KVT_ROPE_INT_H
#define KVT_ROPE_INT_H

#include "kernels/backend.h"
#include "kernels/layout_int.h"
#include "kernels/rope.h"

/* Descriptors against the layout, and every position that the moves need against the tables. Moves have passed
 * kvt_moves_check(). KVT_INVALID with a text that names the descriptor or the move. */
kvt_status kvt_rope_check(const kvt_layout *layout, const kvt_move *moves, size_t count, const kvt_rope_set *set);

/* Some layers of one move that one descriptor rotates, or that none does (rope NULL). */
typedef struct kvt_rope_part {
    kvt_move move;
    const kvt_rope *rope;
    kvt_rope_shift shift;
} kvt_rope_part;

typedef struct kvt_rope_cursor {
    const kvt_move *moves;
    const kvt_rope_set *set;
    size_t count;
    size_t index;   /* of the move at hand */
    uint32_t layer; /* where its next part begins, counted from its layer_begin */
} kvt_rope_cursor;

/* Parts in the order of the moves, layers ascending; empty moves give none. */
bool kvt_rope_part_next(kvt_rope_cursor *cursor, kvt_rope_part *part);

/* ---- the processor's inner loops: one table per instruction set ---- */
typedef struct kvt_rope_loops {
    const char *name;
    /* The turns of one token, pair by pair: floats, or doubles for 32-bit keys. */
    void (*turns)(const kvt_rope *rope, kvt_rope_shift at, void *cosines, void *sines);
    /* One head's window. */
    void (*rotate)(const kvt_rope *rope, uint8_t *to, const uint8_t *from, const void *cosines, const void *sines);
} kvt_rope_loops;

/* The best table for this CPU, less what kvt_cpu_mask() hides. */
const kvt_rope_loops *kvt_rope_loops_pick(void);
extern const kvt_rope_loops kvt_rope_loops_plain;
extern const kvt_rope_loops kvt_rope_loops_avx2;
extern const kvt_rope_loops kvt_rope_loops_avx512;

/* The cpu backend's way with given loops (tests), and the two methods. */
void kvt_rope_scatter_with(const kvt_rope_loops *loops, const kvt_layout *layout, const kvt_move *moves, size_t count,
                           const kvt_rope_set *set);
kvt_status kvt_rope_scatter_cpu(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                const kvt_rope_set *set, void *stream, kvt_fence *fence);
kvt_status kvt_rope_scatter_ref(void *context, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                const kvt_rope_set *set, void *stream, kvt_fence *fence);

#endif
