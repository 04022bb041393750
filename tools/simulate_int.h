/* SPDX-License-Identifier: Apache-2.0
 *
 * The two kinds of store a simulation is made of; private to simulate*.c. Records are numbered 0..unit_count-1.
 */
#ifndef KVT_SIMULATE_INT_H
#define KVT_SIMULATE_INT_H

#include "tools/simulate.h"

#define SIM_NONE UINT32_MAX

/* ---- simulate_queue.c: records that leave one by one (RAM): FIFO, LRU, S3-FIFO ---- */

typedef struct sim_list {
    uint32_t newest, oldest;
    uint64_t count;
} sim_list;

typedef struct sim_queue {
    kvt_sim_policy policy;
    uint64_t capacity;
    uint64_t small_max;    /* S3-FIFO: share of the small list */
    uint64_t ghost_window; /* S3-FIFO: departures from the small list that are remembered */
    sim_list lists[2];     /* S3-FIFO: small and main; the others use the first */
    uint32_t *newer, *older;
    uint8_t *place; /* 0: not there, else list + 1 */
    uint8_t *frequency;
    uint8_t *hits;       /* touches since it came */
    uint64_t *departure; /* S3-FIFO: serial number of its last departure from the small list; 0: none */
    uint64_t departures;
} sim_queue;

kvt_status sim_queue_init(sim_queue *queue, kvt_sim_policy policy, uint64_t capacity, uint64_t unit_count);
void sim_queue_fini(sim_queue *queue);
static inline bool sim_queue_has(const sim_queue *queue, uint32_t unit) { return queue->place[unit] != 0; }
static inline uint64_t sim_queue_count(const sim_queue *queue) { return queue->lists[0].count + queue->lists[1].count; }
void sim_queue_touch(sim_queue *queue, uint32_t unit);
void sim_queue_insert(sim_queue *queue, uint32_t unit); /* there must be room */
uint32_t sim_queue_evict(sim_queue *queue);             /* there must be a record */

/* ---- simulate_segments.c: records that leave together (disk) ---- */

typedef struct sim_segments {
    bool lru;             /* else FIFO */
    uint64_t records_max; /* of a segment */
    uint32_t count;       /* usable */
    uint32_t used;
    uint32_t open;
    uint32_t newest, oldest; /* by latest touch; the open one is among them */
    uint32_t *newer, *older;
    uint32_t *members; /* records_max per segment */
    uint64_t *member_count;
    uint32_t *segment; /* per unit: segment + 1, 0: not there */
} sim_segments;

kvt_status sim_segments_init(sim_segments *segments, bool lru, uint64_t records_max, uint64_t count,
                             uint64_t unit_count);
void sim_segments_fini(sim_segments *segments);
static inline bool sim_segments_has(const sim_segments *segments, uint32_t unit)
{
    return segments->segment[unit] != 0;
}
void sim_segments_touch(sim_segments *segments, uint32_t unit);
/* Append a record that is not there. Returns how many had to leave. */
uint64_t sim_segments_append(sim_segments *segments, uint32_t unit);

#endif
