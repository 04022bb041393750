/* SPDX-License-Identifier: Apache-2.0
 *
 * The heap with its live-byte count, and a hook that makes the n-th allocation fail. A small header before each
 * allocation remembers its size and where malloc's block starts.
 */
#include "engine/base/base.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct heap_header {
    uint64_t bytes;
    void *block;
} heap_header;
static_assert(sizeof(heap_header) == 16, "keeps malloc's alignment");

/* Relaxed throughout: counters only, nothing is published through them. */
static atomic_uint_fast64_t live_bytes;
static atomic_uint_fast64_t allocation_count;
static atomic_uint_fast64_t fail_countdown;

static bool should_fail(void)
{
    uint_fast64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left != 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return left == 1;
    }
    return false;
}

static void *finish(void *block, uint8_t *memory, size_t bytes)
{
    heap_header header = {bytes, block};
    memcpy(memory - sizeof header, &header, sizeof header);
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    return memory;
}

void *kvt_alloc(size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX - sizeof(heap_header) || should_fail())
        return NULL;
    uint8_t *block = calloc(1, bytes + sizeof(heap_header));
    return block == NULL ? NULL : finish(block, block + sizeof(heap_header), bytes);
}

void *kvt_alloc_array(size_t count, size_t bytes)
{
    size_t total;
    return __builtin_mul_overflow(count, bytes, &total) ? NULL : kvt_alloc(total);
}

void *kvt_alloc_aligned(size_t alignment, size_t bytes)
{
    size_t total;
    if (bytes == 0 || __builtin_add_overflow(bytes, alignment + sizeof(heap_header), &total) || should_fail())
        return NULL;
    uint8_t *block = malloc(total);
    if (block == NULL)
        return NULL;
    uintptr_t start = kvt_align_up((uintptr_t)block + sizeof(heap_header), alignment);
    return finish(block, (uint8_t *)start, bytes);
}

char *kvt_strdup(const char *text)
{
    if (text == NULL)
        return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = kvt_alloc(bytes);
    if (copy != NULL)
        memcpy(copy, text, bytes);
    return copy;
}

void kvt_free(void *memory)
{
    if (memory == NULL)
        return;
    heap_header header;
    memcpy(&header, (uint8_t *)memory - sizeof header, sizeof header);
    atomic_fetch_sub_explicit(&live_bytes, header.bytes, memory_order_relaxed);
    free(header.block);
}

uint64_t kvt_live_bytes(void) { return atomic_load_explicit(&live_bytes, memory_order_relaxed); }
uint64_t kvt_alloc_count(void) { return atomic_load_explicit(&allocation_count, memory_order_relaxed); }
void kvt_alloc_fail_at(uint64_t n) { atomic_store_explicit(&fail_countdown, n, memory_order_relaxed); }
