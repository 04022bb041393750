/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamed copies over one vector type. Included by the cpu_copy_avx*.c files, which define VECTOR, VECTOR_LOAD(p),
 * VECTOR_STREAM(p, v) and TABLE (name of the table), TABLE_NAME (its text). Whole cache lines are streamed; what sticks
 * out at either end goes through the caches.
 */
#include "kernels/cpu_copy.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

enum {
    STEP = 4 * sizeof(VECTOR),
    STREAM_RAGGED_MIN = 1024 /* a shorter run that does not fill its lines is better off in the caches */
};

static inline void stream_step(uint8_t *to, const uint8_t *from)
{
    VECTOR a = VECTOR_LOAD(from), b = VECTOR_LOAD(from + sizeof(VECTOR));
    VECTOR c = VECTOR_LOAD(from + 2 * sizeof(VECTOR)), d = VECTOR_LOAD(from + 3 * sizeof(VECTOR));
    VECTOR_STREAM(to, a);
    VECTOR_STREAM(to + sizeof(VECTOR), b);
    VECTOR_STREAM(to + 2 * sizeof(VECTOR), c);
    VECTOR_STREAM(to + 3 * sizeof(VECTOR), d);
}

static inline void fetch(const uint8_t *from, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += KVT_CPU_LINE)
        _mm_prefetch((const char *)from + line, _MM_HINT_T1);
}

static inline void fetch_for_writing(uint8_t *to, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += KVT_CPU_LINE)
        __builtin_prefetch(to + line, 1, 2);
}

/* to is line-aligned, bytes a multiple of a line. */
static inline void stream_lines(uint8_t *to, const uint8_t *from, size_t bytes)
{
    size_t at = 0;
    for (; at + STEP <= bytes; at += STEP)
        stream_step(to + at, from + at);
    for (; at < bytes; at += sizeof(VECTOR))
        VECTOR_STREAM(to + at, VECTOR_LOAD(from + at));
}

/* The same, fetching as many bytes at `ahead`. */
static inline void stream_lines_ahead(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *ahead)
{
    size_t at = 0;
    for (; at + STEP <= bytes; at += STEP) {
        fetch(ahead + at, STEP);
        stream_step(to + at, from + at);
    }
    fetch(ahead + at, bytes - at);
    for (; at < bytes; at += sizeof(VECTOR))
        VECTOR_STREAM(to + at, VECTOR_LOAD(from + at));
}

static void stream_run(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *ahead_from, uint8_t *ahead_to)
{
    size_t head = (0 - (uintptr_t)to) % KVT_CPU_LINE;
    if ((head != 0 || bytes % KVT_CPU_LINE != 0) && bytes < STREAM_RAGGED_MIN) {
        if (ahead_from != NULL)
            fetch(ahead_from, bytes);
        if (ahead_to != NULL)
            fetch_for_writing(ahead_to, bytes);
        memcpy(to, from, bytes);
        return;
    }
    memcpy(to, from, head);
    to += head, from += head, bytes -= head;
    size_t lines = bytes & ~(size_t)(KVT_CPU_LINE - 1);
    size_t inside = lines > KVT_CPU_AHEAD ? lines - KVT_CPU_AHEAD : 0; /* what is fetched then lies in this run */
    stream_lines_ahead(to, from, inside, from + KVT_CPU_AHEAD);
    if (ahead_from != NULL)
        stream_lines_ahead(to + inside, from + inside, lines - inside, ahead_from);
    else
        stream_lines(to + inside, from + inside, lines - inside);
    memcpy(to + lines, from + lines, bytes - lines);
}

/* Runs of a box are streamed if every one of them is whole lines, or long. */
static void stream_box(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box, const uint8_t *ahead_from)
{
    uint64_t bits = (uintptr_t)to | box->run | (uint64_t)box->to_step[0] | (uint64_t)box->to_step[1];
    bool whole_lines = bits % KVT_CPU_LINE == 0;
    if (!whole_lines && box->run < STREAM_RAGGED_MIN) {
        kvt_cpu_copy_plain.box(to, from, box, ahead_from);
        return;
    }
    for (uint32_t o = 0; o < box->count[1]; o++) {
        for (uint32_t i = 0; i < box->count[0]; i++) {
            uint8_t *run_to = to + o * box->to_step[1] + i * box->to_step[0];
            int64_t delta = o * box->from_step[1] + i * box->from_step[0];
            if (!whole_lines)
                stream_run(run_to, from + delta, box->run, NULL, NULL);
            else if (ahead_from != NULL)
                stream_lines_ahead(run_to, from + delta, box->run, ahead_from + delta);
            else
                stream_lines(run_to, from + delta, box->run);
        }
    }
}

static void stream_fence(void) { _mm_sfence(); }

const kvt_cpu_copy TABLE = {TABLE_NAME, stream_run, stream_box, stream_fence};
