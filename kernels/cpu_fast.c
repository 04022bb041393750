/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend: the planner's strips, walked page by page with the best copies this processor has. Neighbouring
 * pages become one copy, inner loops run in the order in which the source lies, and a large call streams its stores
 * past the caches. It keeps no state but the choice of inner loops, allocates nothing and starts no thread: the
 * engine's workers call it side by side.
 */
#include "kernels/backend.h"
#include "kernels/cpu_copy.h"
#include "kernels/layout_int.h"
#include "kernels/rope_int.h"

#include <stdio.h>

/* From here on a call streams: what is smaller may well be read again from the caches. About a core's L2. */
#define STREAM_BYTES_MIN (UINT64_C(1) << 20)

enum { STAGE_BYTES = 16384, RAGGED_RUN_MAX = 1024 };

static int64_t magnitude(int64_t step) { return step < 0 ? -step : step; }

/* The strip's inner dimensions as a box, seen from the direction, the one that advances least in the source innermost:
 * scattered streamed stores cost little, scattered loads a lot. */
static kvt_cpu_box strip_box(const kvt_strip *strip, kvt_direction direction)
{
    kvt_cpu_box box = {.run = strip->run, .count = {1, 1}};
    for (uint32_t d = 0; d < strip->inner_count; d++) {
        const kvt_job_dim *dim = &strip->inner[d];
        int64_t from_step = direction == KVT_GATHER ? dim->page_stride : dim->blob_stride;
        uint32_t at = d;
        if (d == 1 && magnitude(from_step) < magnitude(box.from_step[0])) {
            box.count[1] = box.count[0];
            box.to_step[1] = box.to_step[0];
            box.from_step[1] = box.from_step[0];
            at = 0;
        }
        box.count[at] = dim->extent;
        box.to_step[at] = direction == KVT_GATHER ? dim->blob_stride : dim->page_stride;
        box.from_step[at] = from_step;
    }
    return box;
}

static uint8_t *page_at(const kvt_strip *strip, uint32_t at)
{
    return strip->page + strip->ids[at] * strip->page_stride;
}

/* A strip, and the one after it. */
typedef struct strip_pair {
    kvt_strip now;
    kvt_strip next;
    bool has_next;
} strip_pair;

/* Page number `at` of a strip, counted on into the next one; NULL for a hole and past the end. No processor foresees a
 * jump to another page, so the copy loops are told where the next ones are. */
static uint8_t *page_ahead(const strip_pair *strips, uint32_t at)
{
    const kvt_strip *strip = &strips->now;
    if (at >= strip->id_count) {
        at -= strip->id_count;
        strip = &strips->next;
        if (!strips->has_next || at >= strip->id_count)
            return NULL;
    }
    return strip->ids[at] != KVT_PAGE_NONE ? page_at(strip, at) : NULL;
}

/* Gather rows that do not fill cache lines (656-byte latent rows, one a page) by way of a small buffer: the blob is
 * then written in long streamed runs instead of line by half line. */
static void gather_ragged(const kvt_cpu_copy *copy, const strip_pair *strips)
{
    uint8_t stage[STAGE_BYTES];
    const kvt_strip *strip = &strips->now;
    uint32_t rows_max = (uint32_t)(STAGE_BYTES / strip->run), ahead = (uint32_t)(KVT_CPU_AHEAD / strip->run);
    for (uint32_t at = 0; at < strip->id_count;) {
        uint32_t rows = 0;
        for (; rows < rows_max && at + rows < strip->id_count && strip->ids[at + rows] != KVT_PAGE_NONE; rows++)
            copy->run(stage + rows * strip->run, page_at(strip, at + rows), strip->run,
                      page_ahead(strips, at + rows + ahead), NULL);
        copy->run(strip->blob + at * strip->blob_stride, stage, rows * strip->run, NULL, NULL);
        at += rows;
        while (at < strip->id_count && strip->ids[at] == KVT_PAGE_NONE)
            at++;
    }
}

static bool is_ragged(const kvt_cpu_copy *copy, const kvt_strip *strip, kvt_direction direction)
{
    return direction == KVT_GATHER && copy != &kvt_cpu_copy_plain && strip->inner_count == 0 && strip->id_count > 1 &&
           strip->blob_stride == (int64_t)strip->run && strip->run < RAGGED_RUN_MAX && strip->run % KVT_CPU_LINE != 0;
}

static void move_strip(const kvt_cpu_copy *copy, const strip_pair *strips, kvt_direction direction)
{
    if (is_ragged(copy, &strips->now, direction)) {
        gather_ragged(copy, strips);
        return;
    }
    const kvt_strip *strip = &strips->now;
    const kvt_cpu_box box = strip_box(strip, direction);
    bool gather = direction == KVT_GATHER, runs = strip->inner_count == 0;
    uint32_t ahead = runs && strip->run < KVT_CPU_AHEAD ? (uint32_t)(KVT_CPU_AHEAD / strip->run) : 1;
    for (uint32_t at = 0, n; at < strip->id_count; at += n) {
        n = kvt_strip_merge(strip, at);
        if (strip->ids[at] == KVT_PAGE_NONE)
            continue;
        uint8_t *page = page_at(strip, at), *blob = strip->blob + at * strip->blob_stride;
        uint8_t *soon = page_ahead(strips, at + n - 1 + ahead);
        uint8_t *to = gather ? blob : page;
        const uint8_t *from = gather ? page : blob;
        if (runs)
            copy->run(to, from, strip->run * n, gather ? soon : NULL, gather ? NULL : soon);
        else
            copy->box(to, from, &box, gather ? soon : NULL);
    }
}

static uint64_t total_bytes(const kvt_layout *layout, const kvt_move *moves, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += layout->groups[moves[i].group].layer_token_bytes * moves[i].token_count * moves[i].layer_count;
    return bytes;
}

void kvt_cpu_move(const kvt_cpu_copy *copy, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                  size_t count)
{
    kvt_job_plan plan;
    kvt_job job;
    kvt_job_plan_begin(&plan, layout, direction, moves, count);
    while (kvt_job_plan_next(&plan, &job)) {
        kvt_strip_cursor cursor;
        strip_pair strips;
        kvt_strip_begin(&cursor, &job);
        strips.has_next = kvt_strip_next(&cursor, &strips.next);
        while (strips.has_next) {
            strips.now = strips.next;
            strips.has_next = kvt_strip_next(&cursor, &strips.next);
            move_strip(copy, &strips, direction);
        }
    }
    copy->fence();
}

static kvt_status fast_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                            size_t count, void *stream, kvt_fence *fence)
{
    (void)stream;
    bool large = total_bytes(layout, moves, count) >= STREAM_BYTES_MIN;
    kvt_cpu_move(large ? context : &kvt_cpu_copy_plain, layout, direction, moves, count);
    fence->impl = NULL;
    return KVT_OK;
}

static kvt_status fast_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes,
                            void *stream)
{
    (void)context, (void)direction, (void)stream;
    memcpy(to, from, bytes);
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
    *out = (void *)(uintptr_t)kvt_cpu_copy_pick(); /* a const table; only ever read */
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
    .copy = fast_copy,
    .scatter_rope = kvt_rope_scatter_cpu,
};
