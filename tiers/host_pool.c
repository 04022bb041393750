/* SPDX-License-Identifier: Apache-2.0
 *
 * The host pool: one mapping on huge pages where the host gives them, touched by several threads at create, cut into
 * extents by host_extents. Pinning for a device is the business of whoever owns the device; this file knows none.
 */
#include "tiers/host_extents.h"
#include "tiers/tiers.h"

#include <inttypes.h>
#include <pthread.h>

enum {
    POOL_BYTES_MIN = 1 << 20,
    ROOM_SPARE_SHARE = 32,             /* this part of the free memory is left to others */
    TOUCH_SLOW_NS_PER_GIB = 1000000000 /* slower than this means the kernel compacts memory page by page */
};

struct kvt_pool {
    uint8_t *base;
    uint64_t bytes;
    kvt_page_kind kind;
    kvt_log log;
    pthread_mutex_t lock; /* of extents */
    kvt_extents *extents;
};

static const char *kind_text(kvt_page_kind kind)
{
    return kind == KVT_PAGES_HUGE ? "huge" : kind == KVT_PAGES_TRANSPARENT ? "transparent huge" : "small";
}

static void touch(kvt_pool *pool, uint32_t thread_count)
{
    uint64_t begin = kvt_now_ns();
    kvt_pages_touch(pool->base, pool->bytes, thread_count);
    uint64_t ns = kvt_now_ns() - begin;
    pool->kind = kvt_pages_kind_of(pool->base, pool->bytes, pool->kind);
    kvt_log_write(&pool->log, KVT_LOG_INFO,
                  "host pool: %" PRIu64 " MiB on %s pages, touched in %" PRIu64 " ms by %u threads", pool->bytes >> 20,
                  kind_text(pool->kind), ns / 1000000, thread_count);
    if (pool->bytes >= UINT64_C(1) << 30 && ns / (pool->bytes >> 30) > TOUCH_SLOW_NS_PER_GIB)
        kvt_log_write(&pool->log, KVT_LOG_WARN,
                      "host pool: touching it was slow (fragmented memory?); reserve huge pages: "
                      "sysctl vm.nr_hugepages=%" PRIu64,
                      pool->bytes / KVT_HUGE_PAGE_BYTES);
}

/* Mapping never fails, touching kills: ask first. Reserved huge pages are not taken from what others may use. */
static kvt_status check_room(const kvt_pool *pool)
{
    uint64_t room = kvt_memory_room("");
    if (pool->kind == KVT_PAGES_HUGE || pool->bytes <= room - room / ROOM_SPARE_SHARE)
        return KVT_OK;
    return kvt_fail(KVT_NOMEM,
                    "a host pool of %" PRIu64 " MiB, but only %" PRIu64 " MiB of memory are free; ask for less",
                    pool->bytes >> 20, room >> 20);
}

kvt_status kvt_pool_create(uint64_t bytes_max, uint32_t thread_count, const kvt_log *log, kvt_pool **out)
{
    if (out == NULL || bytes_max < POOL_BYTES_MIN)
        return kvt_fail(KVT_INVALID, "a host pool has at least 1 MiB, not %" PRIu64 " bytes", bytes_max);
    kvt_pool *pool = kvt_alloc(sizeof *pool);
    if (pool == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the host pool");
    pool->bytes = bytes_max / KVT_BLOCK_BYTES * KVT_BLOCK_BYTES;
    if (log != NULL)
        pool->log = *log;
    kvt_status status = kvt_extents_create(pool->bytes / KVT_BLOCK_BYTES, &pool->extents);
    if (status == KVT_OK) {
        pool->base = kvt_pages_map(pool->bytes, &pool->kind);
        if (pool->base == NULL)
            status = kvt_fail(KVT_NOMEM, "%" PRIu64 " MiB for the host pool cannot be mapped; ask for less",
                              bytes_max >> 20);
    }
    if (status == KVT_OK)
        status = check_room(pool);
    if (status != KVT_OK) {
        kvt_pages_unmap(pool->base, pool->bytes);
        kvt_extents_destroy(pool->extents);
        kvt_free(pool);
        return status;
    }
    pthread_mutex_init(&pool->lock, NULL);
    touch(pool, thread_count);
    *out = pool;
    return KVT_OK;
}

void kvt_pool_destroy(kvt_pool *pool)
{
    if (pool == NULL)
        return;
    uint64_t count = kvt_extents_count(pool->extents);
    if (count != 0)
        kvt_log_write(&pool->log, KVT_LOG_ERROR, "host pool: destroyed with %" PRIu64 " extents in use", count);
    kvt_pages_unmap(pool->base, pool->bytes);
    pthread_mutex_destroy(&pool->lock);
    kvt_extents_destroy(pool->extents);
    kvt_free(pool);
}

void *kvt_pool_base(const kvt_pool *pool, uint64_t *out_bytes)
{
    if (out_bytes != NULL)
        *out_bytes = pool->bytes;
    return pool->base;
}

kvt_page_kind kvt_pool_page_kind(const kvt_pool *pool) { return pool->kind; }

uint8_t *kvt_pool_take(kvt_pool *pool, uint64_t bytes)
{
    if (bytes == 0 || bytes > pool->bytes)
        return NULL;
    uint64_t units = kvt_align_up(bytes, KVT_BLOCK_BYTES) / KVT_BLOCK_BYTES;
    pthread_mutex_lock(&pool->lock);
    uint32_t first = kvt_extents_take(pool->extents, units);
    pthread_mutex_unlock(&pool->lock);
    return first == KVT_EXTENT_NONE ? NULL : pool->base + (uint64_t)first * KVT_BLOCK_BYTES;
}

/* First unit of an address; KVT_EXTENT_NONE when it cannot be an extent of this pool. */
static uint32_t unit_of(const kvt_pool *pool, const uint8_t *extent)
{
    uintptr_t offset = (uintptr_t)extent - (uintptr_t)pool->base;
    return offset < pool->bytes && offset % KVT_BLOCK_BYTES == 0 ? (uint32_t)(offset / KVT_BLOCK_BYTES)
                                                                 : KVT_EXTENT_NONE;
}

void kvt_pool_shrink(kvt_pool *pool, uint8_t *extent, uint64_t bytes)
{
    uint64_t units = bytes <= pool->bytes ? kvt_align_up(bytes, KVT_BLOCK_BYTES) / KVT_BLOCK_BYTES : UINT64_MAX;
    uint32_t first = unit_of(pool, extent);
    pthread_mutex_lock(&pool->lock);
    bool done = kvt_extents_shrink(pool->extents, first, units);
    pthread_mutex_unlock(&pool->lock);
    if (!done)
        kvt_log_write(&pool->log, KVT_LOG_ERROR,
                      "host pool: shrink of what is no extent, or to a size it does not have");
}

void kvt_pool_give(kvt_pool *pool, uint8_t *extent)
{
    if (extent == NULL)
        return;
    uint32_t first = unit_of(pool, extent);
    pthread_mutex_lock(&pool->lock);
    bool done = kvt_extents_give(pool->extents, first);
    pthread_mutex_unlock(&pool->lock);
    if (!done)
        kvt_log_write(&pool->log, KVT_LOG_ERROR, "host pool: an extent was given back twice, or is none");
}

/* Reads of a number that changes under the lock. */
static uint64_t ask(const kvt_pool *pool, uint64_t (*question)(const kvt_extents *))
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&pool->lock; /* the pool is never defined const */
    pthread_mutex_lock(lock);
    uint64_t answer = question(pool->extents);
    pthread_mutex_unlock(lock);
    return answer;
}

uint64_t kvt_pool_used(const kvt_pool *pool) { return ask(pool, kvt_extents_used) * KVT_BLOCK_BYTES; }
uint64_t kvt_pool_largest(const kvt_pool *pool) { return ask(pool, kvt_extents_largest) * KVT_BLOCK_BYTES; }
uint64_t kvt_pool_extent_count(const kvt_pool *pool) { return ask(pool, kvt_extents_count); }
