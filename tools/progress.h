/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress of a long command on standard error: a bar that is redrawn on a terminal, a few plain lines elsewhere.
 */
#ifndef KVT_TOOLS_PROGRESS_H
#define KVT_TOOLS_PROGRESS_H

#include "engine/base/base.h"

#include <stdio.h>

typedef struct kvt_progress {
    FILE *out;
    const char *verb; /* "warming", borrowed */
    uint64_t total;   /* 0: unknown */
    uint64_t done;
    uint64_t started_ns;
    uint64_t drawn_ns; /* when the last line was drawn */
    uint64_t drawn_percent;
    uint32_t columns; /* of the terminal; 0: not a terminal */
    bool bytes;       /* done and total are bytes, else items */
    bool silent;
    bool drawn;
    uint64_t (*now_ns)(void); /* replaced by tests */
} kvt_progress;

/* Start; total in bytes (bytes true) or items. Goes to standard error. quiet: draws nothing at all. */
void kvt_progress_begin(kvt_progress *progress, const char *verb, uint64_t total, bool bytes, bool quiet);
/* `done` so far; draws at most ten times a second on a terminal, else every tenth of the way and every 10 s. */
void kvt_progress_set(kvt_progress *progress, uint64_t done);
/* Remove the bar (terminal) or write the last line (elsewhere, if any was written). Call before other output. */
void kvt_progress_end(kvt_progress *progress);
/* The line as drawn, without the carriage return; width 0: no bar. For tests. */
void kvt_progress_line(const kvt_progress *progress, uint32_t width, char *text, size_t bytes);

#endif
