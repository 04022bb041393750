/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamed copies over one vector type. Included by the cpu_copy_avx*.c files, which define VECTOR, VECTOR_LOAD(p),
 * VECTOR_STREAM(p, v) and TABLE (name of the table), TABLE_NAME (its text). Whole cache lines are streamed; what sticks
 * out at either end goes through the caches.
 */
#include "kernels/cpu_copy.h"

#include <immintrin.h>
#include <string.h>

enum { STEP = 4 * sizeof(VECTOR), STREAM_RUN_MIN = 4 * KVT_CPU_LINE };

static inline void stream_step(uint8_t *to, const uint8_t *from)
{
    VECTOR a = VECTOR_LOAD(from), b = VECTOR_LOAD(from + sizeof(VECTOR));
    VECTOR c = VECTOR_LOAD(from + 2 * sizeof(VECTOR)), d = VECTOR_LOAD(from + 3 * sizeof(VECTOR));
    VECTOR_STREAM(to, a);
    VECTOR_STREAM(to + sizeof(VECTOR), b);
    VECTOR_STREAM(to + 2 * sizeof(VECTOR), c);
    VECTOR_STREAM(to + 3 * sizeof(VECTOR), d);
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

static inline void stream_lines_ahead(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *next)
{
    size_t at = 0;
    for (; at + STEP <= bytes; at += STEP) {
        for (size_t line = 0; line < STEP; line += KVT_CPU_LINE)
            _mm_prefetch((const char *)next + at + line, _MM_HINT_T0);
        stream_step(to + at, from + at);
    }
    for (; at < bytes; at += sizeof(VECTOR))
        VECTOR_STREAM(to + at, VECTOR_LOAD(from + at));
}

static void stream_run(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *next)
{
    size_t head = (0 - (uintptr_t)to) % KVT_CPU_LINE;
    if (bytes < STREAM_RUN_MIN + KVT_CPU_LINE && (head != 0 || bytes % KVT_CPU_LINE != 0)) {
        memcpy(to, from, bytes); /* too short for its ragged ends */
        return;
    }
    memcpy(to, from, head);
    size_t lines = (bytes - head) & ~(size_t)(KVT_CPU_LINE - 1);
    size_t plain = next == NULL ? lines : lines > KVT_CPU_AHEAD ? lines - KVT_CPU_AHEAD : 0;
    stream_lines(to + head, from + head, plain);
    if (plain != lines)
        stream_lines_ahead(to + head + plain, from + head + plain, lines - plain, next);
    memcpy(to + head + lines, from + head + lines, bytes - head - lines);
}

/* Runs of a box are streamed if every one of them is whole lines, or long. */
static void stream_box(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box, const uint8_t *next)
{
    uint64_t bits = (uintptr_t)to | box->run | (uint64_t)box->to_step[0] | (uint64_t)box->to_step[1];
    if (bits % KVT_CPU_LINE != 0 && box->run < 16 * KVT_CPU_LINE) {
        kvt_cpu_copy_plain.box(to, from, box, next);
        return;
    }
    if (next != NULL)
        for (size_t line = 0; line < KVT_CPU_AHEAD; line += KVT_CPU_LINE)
            _mm_prefetch((const char *)next + line, _MM_HINT_T1);
    for (uint32_t o = 0; o < box->count[1]; o++) {
        uint8_t *row_to = to + o * box->to_step[1];
        const uint8_t *row_from = from + o * box->from_step[1];
        for (uint32_t i = 0; i < box->count[0]; i++, row_to += box->to_step[0], row_from += box->from_step[0])
            if (bits % KVT_CPU_LINE == 0)
                stream_lines(row_to, row_from, box->run);
            else
                stream_run(row_to, row_from, box->run, NULL);
    }
}

static void stream_fence(void) { _mm_sfence(); }

const kvt_cpu_copy TABLE = {TABLE_NAME, stream_run, stream_box, stream_fence};
