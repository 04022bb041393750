/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of a layout, and the planner: moves -> jobs -> strips. Private to kernels/ (and its tests). Everything
 * here is host memory; page addresses are numbers that only a device may dereference.
 */
#ifndef KVT_LAYOUT_INT_H
#define KVT_LAYOUT_INT_H

#include "kernels/job.h"
#include "kernels/kernels.h"

/* One view, as given and normalised: where the table of bases turned out to be evenly spaced it became a stride. */
typedef struct kvt_layout_view {
    kvt_view given;
    kvt_view folded;
    uint64_t row_bytes;    /* one token of one plane: heads x head_bytes */
    uint64_t prefix_bytes; /* per token: the views before this one in a layer */
} kvt_layout_view;

typedef struct kvt_layout_group {
    uint32_t layer_count;
    uint32_t page_tokens;
    uint32_t page_count;
    uint32_t view_count;
    kvt_layout_view views[KVT_VIEWS_MAX];
    uint64_t layer_token_bytes; /* one token of one layer, all views */
    uint64_t *bases;            /* base_count addresses */
    uint64_t base_bits;         /* all of them, or-ed: their common alignment */
    uint32_t base_count;
    uint32_t reserved;
} kvt_layout_group;

struct kvt_layout {
    uint32_t group_count;
    uint32_t chunk_tokens;
    kvt_layout_group groups[KVT_GROUPS_MAX];
};

/* The address formula of kvtier.h on the descriptor as it was given. Sums wrap like addresses do; the layout has proven
 * that they do not. */
static inline uint8_t *kvt_view_address(const kvt_layout_group *group, const kvt_view *view, uint32_t plane,
                                        uint32_t layer, uint32_t page, uint32_t row, uint32_t head)
{
    uint64_t address = group->bases[plane * view->base_plane + layer * view->base_layer];
    address += page * (uint64_t)view->page_stride;
    address += plane * (uint64_t)view->plane_stride;
    address += layer * (uint64_t)view->layer_stride;
    address += row * (uint64_t)view->token_stride;
    address += head * (uint64_t)view->head_stride;
    address += (uint64_t)view->offset;
    return (uint8_t *)(uintptr_t)address;
}

/* ---- plan: checked moves -> jobs; no allocation ---- */
typedef struct kvt_job_plan {
    const kvt_layout *layout;
    const kvt_move *moves;
    size_t count;
    size_t begin; /* first move of the batch at hand */
    size_t end;   /* one past its last */
    uint32_t view;
    uint32_t part; /* 0 head page, 1 whole pages, 2 tail page */
    kvt_direction direction;
} kvt_job_plan;

/* Moves must have passed kvt_moves_check(). Neighbours of one shape (group, ranges, segment_tokens) share jobs. */
void kvt_job_plan_begin(kvt_job_plan *plan, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                        size_t count);
/* The next job, or false behind the last. Not sliced. */
bool kvt_job_plan_next(kvt_job_plan *plan, kvt_job *job);

/* Cut runs longer than slice_bytes (a multiple of 16) into slices, for a device that wants bounded items. False: there
 * would be too many items; nothing changed. */
bool kvt_job_slice(kvt_job *job, uint32_t slice_bytes);

/* Fill in a dimension's reciprocal. */
void kvt_job_dim_prepare(kvt_job_dim *dim);

/* ---- strips: what one (blob, layer, plane) of a job is, for whoever walks pages in a loop ---- */
typedef struct kvt_strip {
    uint8_t *page; /* address of page id 0's first byte of this strip */
    uint8_t *blob;
    const uint32_t *ids; /* id_count pages; the blob side advances by blob_stride for each */
    uint32_t id_count;
    uint32_t inner_count;     /* 0: a page is one run of `run` bytes; else a box of up to 2 dimensions of such runs */
    const kvt_job_dim *inner; /* innermost first */
    int64_t page_stride;      /* bytes per page id */
    int64_t blob_stride;
    uint64_t run;
    bool merges; /* neighbouring ids are neighbours in memory on both sides */
} kvt_strip;

typedef struct kvt_strip_cursor {
    const kvt_job *job;
    uint32_t blob;
    uint32_t outer; /* ordinal over the dimensions outside the page dimension */
} kvt_strip_cursor;

/* Strips of an unsliced job, blob by blob, layers ascending. */
void kvt_strip_begin(kvt_strip_cursor *cursor, const kvt_job *job);
bool kvt_strip_next(kvt_strip_cursor *cursor, kvt_strip *strip);

/* How many pages from `at` on lie end to end on both sides (>= 1). A hole merges with nothing: KVT_PAGE_NONE is the
 * number before 0 and may be the number behind the last id. */
static inline uint32_t kvt_strip_merge(const kvt_strip *strip, uint32_t at)
{
    uint32_t n = 1, id = strip->ids[at];
    if (!strip->merges || id == KVT_PAGE_NONE)
        return 1;
    while (at + n < strip->id_count && strip->ids[at + n] == id + n && id + n != KVT_PAGE_NONE)
        n++;
    return n;
}

/* Groups, ranges and every page id that the moves reference. KVT_INVALID with a text that names the move. */
kvt_status kvt_moves_check(const kvt_layout *layout, const kvt_move *moves, size_t count);

#endif
