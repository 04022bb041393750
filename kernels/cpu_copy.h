/* SPDX-License-Identifier: Apache-2.0
 *
 * Inner loops of the cpu backend: one table per instruction set, picked once. A table knows runs and boxes of runs, no
 * pages. Streamed stores go past the caches: a store that misses them would first read the line it is about to
 * overwrite, which costs a large copy a third of its memory traffic.
 */
#ifndef KVT_CPU_COPY_H
#define KVT_CPU_COPY_H

#include <stddef.h>
#include <stdint.h>

enum {
    KVT_CPU_LINE = 64,
    /* How far ahead of the copy lines are fetched, into the second level cache. Measured on Zen 4 with pages of 1 to
     * 16 KiB in random order: 4 to 16 KiB are alike, 2 KiB and the first level (which keeps fewer misses under way) are
     * a quarter slower. */
    KVT_CPU_AHEAD = 8192
};

/* A box of runs: count[0] runs to_step[0] and from_step[0] apart, count[1] times. */
typedef struct kvt_cpu_box {
    size_t run;
    uint32_t count[2];
    int64_t to_step[2];
    int64_t from_step[2];
} kvt_cpu_box;

typedef struct kvt_cpu_copy {
    const char *name;
    /* Copy one run. ahead_from: what to fetch while its last KVT_CPU_AHEAD bytes are copied, the source that many bytes
     * later, or NULL; ahead_to: the target then, fetched for writing where stores go through the caches, or NULL.
     * Neither needs to be readable. */
    void (*run)(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *ahead_from, uint8_t *ahead_to);
    /* Copy a box; ahead_from: where the same box of the next page will be read, or NULL. */
    void (*box)(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box, const uint8_t *ahead_from);
    /* Order streamed stores before whatever the caller does next. */
    void (*fence)(void);
} kvt_cpu_copy;

/* The best table for this CPU, less what kvt_cpu_mask() hides. */
const kvt_cpu_copy *kvt_cpu_copy_pick(void);

extern const kvt_cpu_copy kvt_cpu_copy_plain;
extern const kvt_cpu_copy kvt_cpu_copy_avx2;
extern const kvt_cpu_copy kvt_cpu_copy_avx512;

#endif
