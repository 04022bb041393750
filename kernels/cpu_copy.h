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
    KVT_CPU_AHEAD = 2048 /* bytes of the next run fetched while this one is copied; measured: 2 to 8 KiB are alike */
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
    /* Copy one run. next: where the following one will be read, or NULL; up to KVT_CPU_AHEAD bytes are fetched there,
     * which never faults. */
    void (*run)(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *next);
    void (*box)(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box, const uint8_t *next);
    /* Order streamed stores before whatever the caller does next. */
    void (*fence)(void);
} kvt_cpu_copy;

/* The best table for this CPU, less what kvt_cpu_mask() hides. */
const kvt_cpu_copy *kvt_cpu_copy_pick(void);

extern const kvt_cpu_copy kvt_cpu_copy_plain;
extern const kvt_cpu_copy kvt_cpu_copy_avx2;
extern const kvt_cpu_copy kvt_cpu_copy_avx512;

#endif
