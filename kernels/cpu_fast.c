/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend: the planner's strips, walked page by page with the widest copies this processor has. Neighbouring
 * pages become one copy. It keeps no state but the choice of inner loops, allocates nothing and starts no thread: the
 * engine's workers call it side by side.
 */
#include "kernels/backend.h"
#include "kernels/cpu_copy.h"
#include "kernels/layout_int.h"

#include <stdio.h>

/* The strip's inner dimensions as a box, seen from the direction. */
static kvt_cpu_box strip_box(const kvt_strip *strip, kvt_direction direction)
{
    kvt_cpu_box box = {.run = strip->run, .count = {1, 1}};
    for (uint32_t d = 0; d < strip->inner_count; d++) {
        const kvt_job_dim *dim = &strip->inner[d];
        box.count[d] = dim->extent;
        box.to_step[d] = direction == KVT_GATHER ? dim->blob_stride : dim->page_stride;
        box.from_step[d] = direction == KVT_GATHER ? dim->page_stride : dim->blob_stride;
    }
    return box;
}

static void move_strip(const kvt_cpu_copy *copy, const kvt_strip *strip, kvt_direction direction)
{
    const kvt_cpu_box box = strip_box(strip, direction);
    for (uint32_t at = 0, n; at < strip->id_count; at += n) {
        n = kvt_strip_merge(strip, at);
        if (strip->ids[at] == KVT_PAGE_NONE)
            continue;
        uint8_t *page = strip->page + strip->ids[at] * strip->page_stride;
        uint8_t *blob = strip->blob + at * strip->blob_stride;
        uint8_t *to = direction == KVT_GATHER ? blob : page;
        const uint8_t *from = direction == KVT_GATHER ? page : blob;
        if (strip->inner_count == 0)
            copy->stream(to, from, strip->run * n);
        else
            copy->stream_box(to, from, &box);
    }
}

static kvt_status fast_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                            size_t count, void *stream, kvt_fence *fence)
{
    (void)stream;
    const kvt_cpu_copy *copy = context;
    kvt_job_plan plan;
    kvt_job job;
    kvt_job_plan_begin(&plan, layout, direction, moves, count);
    while (kvt_job_plan_next(&plan, &job)) {
        kvt_strip_cursor cursor;
        kvt_strip strip;
        kvt_strip_begin(&cursor, &job);
        while (kvt_strip_next(&cursor, &strip))
            move_strip(copy, &strip, direction);
    }
    copy->fence();
    fence->impl = NULL;
    return KVT_OK;
}

static uint32_t fast_score(char *why, size_t why_bytes)
{
    (void)why, (void)why_bytes;
    return 10;
}

static kvt_status fast_open(const kvt_log *log, void **out)
{
    (void)log;
    *out = (void *)kvt_cpu_copy_pick(); /* a const table; only ever read */
    return KVT_OK;
}

static void fast_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    const kvt_cpu_copy *copy = context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "%s", copy->name);
}

const kvt_backend_ops kvt_backend_cpu = {
    .name = "cpu",
    .version = KVT_BACKEND_VERSION,
    .score = fast_score,
    .open = fast_open,
    .describe = fast_describe,
    .move = fast_move,
};
