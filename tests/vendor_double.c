/* SPDX-License-Identifier: Apache-2.0
 *
 * See vendor_double.h.
 */
#include "tests/vendor_double.h"

#include "kernels/cpu_copy.h"

#include <stdio.h>
#include <stdlib.h>

enum { QUEUE_MAX = 1 << 16 };

typedef struct queued { /* a copy, or an operator with its indices */
    uint8_t *to;
    const uint8_t *from;
    uint64_t bytes;
} queued;

vendor_double_counts vendor_double;
static queued queue[QUEUE_MAX];
static uint32_t queue_count;
static uintptr_t memory_begin, memory_end; /* the device's */
static const char *complaint;

static void complain(const char *what) { complaint = complaint != NULL ? complaint : what; }

const char *vendor_double_complaint(void)
{
    const char *held = complaint;
    complaint = NULL;
    return held;
}

static bool on_device(const void *at, uint64_t bytes)
{
    return (uintptr_t)at >= memory_begin && (uintptr_t)at + bytes <= memory_end;
}

static bool touches_device(const void *at, uint64_t bytes)
{
    return (uintptr_t)at < memory_end && (uintptr_t)at + bytes > memory_begin;
}

static void enqueue(kvt_direction direction, void *to, const void *from, uint64_t bytes)
{
    const void *page = direction == KVT_GATHER ? from : to, *blob = direction == KVT_GATHER ? to : from;
    if (!on_device(page, bytes) || touches_device(blob, bytes))
        complain("one side of a copy is the device's memory, and the other is not");
    if (bytes == 0 || queue_count == QUEUE_MAX) {
        complain("a copy of nothing, or too many");
        return;
    }
    queue[queue_count++] = (queued){to, from, bytes};
}

static kvt_status double_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes,
                              void *stream)
{
    (void)context, (void)stream;
    vendor_double.copies++;
    enqueue(direction, to, from, bytes);
    return KVT_OK;
}

static kvt_status double_rows(void *context, kvt_direction direction, const kvt_rows *rows, void *stream)
{
    (void)context, (void)stream;
    vendor_double.row_calls++;
    if (rows->count == 0)
        complain("an operator over no rows");
    for (uint64_t k = 0; k < rows->count; k++) {
        if (rows->ids[k] == KVT_PAGE_NONE) {
            complain("an operator has no word for a hole");
            continue;
        }
        uint8_t *page = rows->page + rows->ids[k] * rows->page_stride, *blob = rows->blob + k * rows->row_bytes;
        if (direction == KVT_GATHER)
            enqueue(direction, blob, page, rows->row_bytes);
        else
            enqueue(direction, page, blob, rows->row_bytes);
    }
    return KVT_OK;
}

static kvt_status double_move(void *context, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                              size_t count, void *stream, kvt_fence *fence)
{
    (void)context, (void)stream;
    vendor_double.moves++;
    kvt_cpu_move(&kvt_cpu_copy_plain, layout, direction, moves, count);
    fence->impl = NULL;
    return KVT_OK;
}

static kvt_status double_fence_open(void *context, void *stream, kvt_fence *fence)
{
    (void)context, (void)stream;
    vendor_double.fences++;
    fence->impl = &vendor_double;
    return KVT_OK;
}

static kvt_status double_fence_wait(void *context, kvt_fence *fence)
{
    (void)context, (void)fence;
    for (uint32_t i = 0; i < queue_count; i++)
        memcpy(queue[i].to, queue[i].from, queue[i].bytes);
    queue_count = 0;
    vendor_double.fences--;
    return KVT_OK;
}

static kvt_status double_pages_alloc(void *context, uint64_t bytes, void **out)
{
    (void)context;
    *out = aligned_alloc(64, kvt_align_up(bytes, 64));
    if (*out == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for %llu bytes of pages", (unsigned long long)bytes);
    memory_begin = (uintptr_t)*out;
    memory_end = memory_begin + bytes;
    return KVT_OK;
}

static void double_pages_free(void *context, void *pages, uint64_t bytes)
{
    (void)context, (void)bytes;
    memory_begin = memory_end = 0;
    free(pages);
}

static kvt_status double_pages_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes)
{
    (void)context, (void)direction;
    memcpy(to, from, bytes);
    return KVT_OK;
}

static uint32_t double_score(char *why, size_t why_bytes)
{
    (void)why, (void)why_bytes;
    return 50;
}

static kvt_status double_open(const kvt_log *log, void **out)
{
    (void)log;
    *out = &vendor_double;
    return KVT_OK;
}

static void double_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    (void)context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "a vendor's device in host memory");
}

#define DEVICE                                                                                                         \
    .name = "npu", .version = KVT_BACKEND_VERSION, .caps = KVT_BACKEND_ASYNC | KVT_BACKEND_DEVICE,                     \
    .score = double_score, .open = double_open, .describe = double_describe, .copy = double_copy,                      \
    .fence_open = double_fence_open, .fence_wait = double_fence_wait, .pages_alloc = double_pages_alloc,               \
    .pages_free = double_pages_free, .pages_copy = double_pages_copy

const kvt_backend_ops vendor_double_kernels = {DEVICE, .move = double_move, .rows = double_rows};
const kvt_backend_ops vendor_double_rows = {DEVICE, .rows = double_rows};
const kvt_backend_ops vendor_double_copies = {DEVICE};
