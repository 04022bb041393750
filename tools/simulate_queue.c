/* SPDX-License-Identifier: Apache-2.0
 *
 * Records that leave one by one: FIFO, LRU and S3-FIFO over numbered records of equal size. A ghost is a serial number
 * kept with the record itself, since every record of a trace has a number: no table, nothing to expire.
 */
#include "tools/simulate_int.h"

#include <stdlib.h>

enum { SMALL = 0, MAIN = 1, FREQUENCY_MAX = 3 };

kvt_status sim_queue_init(sim_queue *queue, kvt_sim_policy policy, uint64_t capacity, uint64_t unit_count)
{
    *queue = (sim_queue){.policy = policy, .capacity = capacity};
    queue->small_max = capacity / 10 > 0 ? capacity / 10 : 1;
    queue->ghost_window = capacity * 9 / 10;
    for (int i = 0; i < 2; i++)
        queue->lists[i] = (sim_list){SIM_NONE, SIM_NONE, 0};
    queue->newer = calloc(unit_count, sizeof *queue->newer);
    queue->older = calloc(unit_count, sizeof *queue->older);
    queue->place = calloc(unit_count, 1);
    queue->frequency = calloc(unit_count, 1);
    queue->hits = calloc(unit_count, 1);
    queue->departure = calloc(unit_count, sizeof *queue->departure);
    bool all = queue->newer && queue->older && queue->place && queue->frequency && queue->hits && queue->departure;
    return all ? KVT_OK : KVT_NOMEM;
}

void sim_queue_fini(sim_queue *queue)
{
    free(queue->newer);
    free(queue->older);
    free(queue->place);
    free(queue->frequency);
    free(queue->hits);
    free(queue->departure);
}

static void push_newest(sim_queue *queue, int to, uint32_t unit)
{
    sim_list *list = &queue->lists[to];
    queue->place[unit] = (uint8_t)(to + 1);
    queue->newer[unit] = SIM_NONE;
    queue->older[unit] = list->newest;
    if (list->newest == SIM_NONE)
        list->oldest = unit;
    else
        queue->newer[list->newest] = unit;
    list->newest = unit;
    list->count++;
}

static void unlink_unit(sim_queue *queue, uint32_t unit)
{
    sim_list *list = &queue->lists[queue->place[unit] - 1];
    uint32_t newer = queue->newer[unit], older = queue->older[unit];
    *(newer == SIM_NONE ? &list->newest : &queue->older[newer]) = older;
    *(older == SIM_NONE ? &list->oldest : &queue->newer[older]) = newer;
    queue->place[unit] = 0;
    list->count--;
}

void sim_queue_touch(sim_queue *queue, uint32_t unit)
{
    if (queue->hits[unit] < UINT8_MAX)
        queue->hits[unit]++;
    if (queue->policy == KVT_SIM_S3FIFO) {
        if (queue->frequency[unit] < FREQUENCY_MAX)
            queue->frequency[unit]++;
    } else if (queue->policy != KVT_SIM_FIFO) {
        unlink_unit(queue, unit);
        push_newest(queue, SMALL, unit);
    }
}

void sim_queue_insert(sim_queue *queue, uint32_t unit)
{
    uint64_t left = queue->departure[unit];
    bool ghost = left != 0 && queue->departures - left < queue->ghost_window;
    queue->frequency[unit] = 0;
    queue->hits[unit] = 0;
    push_newest(queue, ghost ? MAIN : SMALL, unit);
}

static uint32_t evict_s3fifo(sim_queue *queue)
{
    for (;;) {
        bool from_small = queue->lists[SMALL].count > queue->small_max || queue->lists[MAIN].count == 0;
        uint32_t unit = queue->lists[from_small ? SMALL : MAIN].oldest;
        unlink_unit(queue, unit);
        if (queue->frequency[unit] == 0) {
            if (from_small)
                queue->departure[unit] = ++queue->departures;
            return unit;
        }
        queue->frequency[unit] = from_small ? 0 : (uint8_t)(queue->frequency[unit] - 1);
        push_newest(queue, MAIN, unit);
    }
}

uint32_t sim_queue_evict(sim_queue *queue)
{
    if (queue->policy == KVT_SIM_S3FIFO)
        return evict_s3fifo(queue);
    uint32_t unit = queue->lists[SMALL].oldest;
    unlink_unit(queue, unit);
    return unit;
}
