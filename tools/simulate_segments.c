/* SPDX-License-Identifier: Apache-2.0
 *
 * Records that leave together: a log of segments, recycled whole, the one whose latest touch is oldest first.
 */
#include "tools/simulate_int.h"

#include <stdlib.h>

kvt_status sim_segments_init(sim_segments *segments, bool lru, uint64_t records_max, uint64_t count,
                             uint64_t unit_count)
{
    *segments = (sim_segments){.lru = lru, .newest = SIM_NONE, .oldest = SIM_NONE, .open = SIM_NONE};
    if (records_max == 0 || count < 2)
        return kvt_fail(KVT_INVALID, "%llu segments of %llu records hold nothing; at least 2 of 1 are needed",
                        (unsigned long long)count, (unsigned long long)records_max);
    /* A log larger than the trace evicts nothing: no need to have all of it. */
    records_max = records_max < unit_count ? records_max : unit_count;
    uint64_t most = unit_count / records_max + 2;
    segments->records_max = records_max;
    segments->count = (uint32_t)(count < most ? count : most);
    segments->newer = calloc(segments->count, sizeof *segments->newer);
    segments->older = calloc(segments->count, sizeof *segments->older);
    segments->members = calloc(segments->count * records_max, sizeof *segments->members);
    segments->member_count = calloc(segments->count, sizeof *segments->member_count);
    segments->segment = calloc(unit_count, sizeof *segments->segment);
    bool all = segments->newer && segments->older && segments->members && segments->member_count && segments->segment;
    return all ? KVT_OK : KVT_NOMEM;
}

void sim_segments_fini(sim_segments *segments)
{
    free(segments->newer);
    free(segments->older);
    free(segments->members);
    free(segments->member_count);
    free(segments->segment);
}

static void push_newest(sim_segments *s, uint32_t segment)
{
    s->newer[segment] = SIM_NONE;
    s->older[segment] = s->newest;
    *(s->newest == SIM_NONE ? &s->oldest : &s->newer[s->newest]) = segment;
    s->newest = segment;
}

static void unlink_segment(sim_segments *s, uint32_t segment)
{
    uint32_t newer = s->newer[segment], older = s->older[segment];
    *(newer == SIM_NONE ? &s->newest : &s->older[newer]) = older;
    *(older == SIM_NONE ? &s->oldest : &s->newer[older]) = newer;
}

static void use_segment(sim_segments *s, uint32_t segment)
{
    if (!s->lru)
        return;
    unlink_segment(s, segment);
    push_newest(s, segment);
}

void sim_segments_touch(sim_segments *segments, uint32_t unit) { use_segment(segments, segments->segment[unit] - 1); }

/* A segment to write into: one never used, or the oldest, whose records leave. */
static uint64_t open_next(sim_segments *s)
{
    uint64_t left = 0;
    if (s->used < s->count) {
        s->open = s->used++;
    } else {
        s->open = s->oldest;
        unlink_segment(s, s->open);
        left = s->member_count[s->open];
        for (uint64_t i = 0; i < left; i++)
            s->segment[s->members[s->open * s->records_max + i]] = 0;
    }
    s->member_count[s->open] = 0;
    push_newest(s, s->open);
    return left;
}

uint64_t sim_segments_append(sim_segments *segments, uint32_t unit)
{
    uint64_t left = 0;
    if (segments->open == SIM_NONE || segments->member_count[segments->open] == segments->records_max)
        left = open_next(segments);
    uint32_t open = segments->open;
    segments->members[open * segments->records_max + segments->member_count[open]++] = unit;
    segments->segment[unit] = open + 1;
    use_segment(segments, open);
    return left;
}
