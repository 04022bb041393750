/* SPDX-License-Identifier: Apache-2.0
 *
 * Anonymous memory for pools, on the largest pages the host gives: reserved huge pages, else transparent ones, else
 * small.
 */
#include "engine/base/base.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

enum { TOUCH_THREADS_MAX = 64, TOUCH_STEP_BYTES = 4096 };

static void advise(void *pages, uint64_t bytes)
{
    (void)madvise(pages, bytes, MADV_HUGEPAGE);
    (void)madvise(pages, bytes, MADV_DONTDUMP);
    (void)madvise(pages, bytes, MADV_DONTFORK);
}

/* Over-map by one huge page, then cut both ends, so that the kernel can use huge pages from the first byte. */
static void *map_aligned(uint64_t bytes)
{
    uint64_t mapped;
    if (!kvt_add_u64(bytes, KVT_HUGE_PAGE_BYTES, &mapped))
        return NULL;
    uint8_t *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    uint8_t *pages = (uint8_t *)kvt_align_up((uintptr_t)start, KVT_HUGE_PAGE_BYTES);
    if (pages != start)
        munmap(start, (size_t)(pages - start));
    uint64_t tail = (uint64_t)(start + mapped - (pages + bytes));
    if (tail != 0)
        munmap(pages + bytes, tail);
    return pages;
}

void *kvt_pages_map(uint64_t bytes, kvt_page_kind *out_kind)
{
    if (bytes == 0 || bytes > UINT64_MAX - KVT_HUGE_PAGE_BYTES)
        return NULL;
    bytes = kvt_align_up(bytes, KVT_HUGE_PAGE_BYTES);
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    kvt_page_kind kind = KVT_PAGES_HUGE;
    if (pages == MAP_FAILED) {
        pages = map_aligned(bytes);
        kind = KVT_PAGES_TRANSPARENT;
    }
    if (pages == NULL)
        return NULL;
    advise(pages, bytes);
    *out_kind = kind;
    return pages;
}

void kvt_pages_unmap(void *pages, uint64_t bytes)
{
    if (pages != NULL)
        munmap(pages, kvt_align_up(bytes, KVT_HUGE_PAGE_BYTES));
}

/* Huge bytes of the mapping that holds `pages`, from /proc/self/smaps; 0 when it cannot be read. */
static uint64_t huge_bytes_of(const void *pages)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (file == NULL)
        return 0;
    char line[256];
    bool inside = false;
    uint64_t huge = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        uint64_t begin, end, kib;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &begin, &end) == 2)
            inside = (uintptr_t)pages >= begin && (uintptr_t)pages < end;
        else if (inside && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
            huge = kib * 1024;
    }
    fclose(file);
    return huge;
}

kvt_page_kind kvt_pages_kind_of(const void *pages, uint64_t bytes, kvt_page_kind asked)
{
    if (asked == KVT_PAGES_HUGE)
        return KVT_PAGES_HUGE;
    return huge_bytes_of(pages) >= bytes / 2 ? KVT_PAGES_TRANSPARENT : KVT_PAGES_SMALL;
}

typedef struct touch_span {
    volatile uint8_t *begin;
    uint64_t bytes;
} touch_span;

static void *touch_run(void *arg)
{
    const touch_span *span = arg;
    for (uint64_t i = 0; i < span->bytes; i += TOUCH_STEP_BYTES)
        span->begin[i] = 0;
    return NULL;
}

void kvt_pages_touch(void *pages, uint64_t bytes, uint32_t thread_count)
{
    thread_count = (uint32_t)kvt_min_u64(kvt_max_u64(thread_count, 1), TOUCH_THREADS_MAX);
    touch_span spans[TOUCH_THREADS_MAX];
    pthread_t threads[TOUCH_THREADS_MAX];
    bool started[TOUCH_THREADS_MAX] = {false};
    uint64_t share = kvt_align_up((bytes + thread_count - 1) / thread_count, KVT_HUGE_PAGE_BYTES);
    for (uint32_t i = 0; i < thread_count; i++) {
        uint64_t begin = kvt_min_u64(i * share, bytes);
        spans[i] = (touch_span){(volatile uint8_t *)pages + begin, kvt_min_u64(share, bytes - begin)};
        started[i] = i + 1 < thread_count && pthread_create(&threads[i], NULL, touch_run, &spans[i]) == 0;
        if (!started[i])
            touch_run(&spans[i]);
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
    }
}
