/* SPDX-License-Identifier: Apache-2.0
 *
 * Inner loops of the cpu backend: one table per instruction set, picked once. A table knows boxes of runs, no pages.
 */
#ifndef KVT_CPU_COPY_H
#define KVT_CPU_COPY_H

#include <stddef.h>
#include <stdint.h>

/* One side's steps of a box: count[0] runs step[0] apart, count[1] times, step[1] apart. */
typedef struct kvt_cpu_box {
    size_t run;
    uint32_t count[2];
    int64_t to_step[2];
    int64_t from_step[2];
} kvt_cpu_box;

typedef struct kvt_cpu_copy {
    const char *name;
    /* Copy bytes past the caches where that pays; visible to other threads only after fence(). */
    void (*stream)(uint8_t *to, const uint8_t *from, size_t bytes);
    /* The same for a box of runs. */
    void (*stream_box)(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box);
    /* Order streamed stores before what follows. */
    void (*fence)(void);
} kvt_cpu_copy;

/* The best table for this CPU, less what kvt_cpu_mask() hides. */
const kvt_cpu_copy *kvt_cpu_copy_pick(void);

extern const kvt_cpu_copy kvt_cpu_copy_plain;

#endif
