/* SPDX-License-Identifier: Apache-2.0
 *
 * Extents and the pool. The extents are compared with a naive map of units under random work; what must not happen
 * (overlap, lost units, a hole that cannot be taken) is looked for after every step.
 */
#include "tests/support.h"
#include "tiers/host_extents.h"
#include "tiers/tiers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

KVT_TEST(host_extents, a_fresh_run_is_one_hole)
{
    kvt_extents *e;
    cr_assert_eq(kvt_extents_create(1000, &e), KVT_OK);
    cr_assert_eq(kvt_extents_largest(e), 1000);
    cr_assert_eq(kvt_extents_take(e, 1001), KVT_EXTENT_NONE);
    cr_assert_eq(kvt_extents_take(e, 0), KVT_EXTENT_NONE);
    cr_assert_eq(kvt_extents_take(e, 1000), 0);
    cr_assert_eq(kvt_extents_take(e, 1), KVT_EXTENT_NONE);
    cr_assert_eq(kvt_extents_largest(e), 0);
    cr_assert(kvt_extents_give(e, 0));
    cr_assert(kvt_extents_consistent(e));
    cr_assert_eq(kvt_extents_largest(e), 1000);
    kvt_extents_destroy(e);
    cr_assert_eq(kvt_extents_create(0, &e), KVT_INVALID);
    cr_assert_eq(kvt_extents_create(KVT_EXTENT_UNITS_MAX, &e), KVT_INVALID);
}

KVT_TEST(host_extents, what_is_no_extent_is_refused)
{
    kvt_extents *e;
    cr_assert_eq(kvt_extents_create(64, &e), KVT_OK);
    cr_assert_eq(kvt_extents_take(e, 2), 0);
    cr_assert_eq(kvt_extents_take(e, 2), 2);
    cr_assert_not(kvt_extents_give(e, 1), "the last unit of an extent is not its first");
    cr_assert_not(kvt_extents_give(e, 4), "a hole");
    cr_assert_not(kvt_extents_give(e, 64));
    cr_assert_not(kvt_extents_give(e, KVT_EXTENT_NONE));
    cr_assert_not(kvt_extents_shrink(e, 0, 0));
    cr_assert_not(kvt_extents_shrink(e, 0, 3));
    cr_assert(kvt_extents_give(e, 0));
    cr_assert_not(kvt_extents_give(e, 0), "twice");
    cr_assert_eq(kvt_extents_length(e, 2), 2);
    cr_assert(kvt_extents_give(e, 2));
    cr_assert(kvt_extents_consistent(e));
    kvt_extents_destroy(e);
}

KVT_TEST(host_extents, the_smallest_hole_that_fits_is_taken)
{
    kvt_extents *e;
    cr_assert_eq(kvt_extents_create(100000, &e), KVT_OK);
    static const uint32_t sizes[] = {40000, 100, 17, 64, 33, 35000};
    uint32_t at[6], fence[6];
    for (size_t i = 0; i < 6; i++) {
        at[i] = kvt_extents_take(e, sizes[i]);
        fence[i] = kvt_extents_take(e, 1);
    }
    for (size_t i = 0; i < 6; i++)
        cr_assert(kvt_extents_give(e, at[i]));
    cr_assert_eq(kvt_extents_take(e, 17), at[2]);
    cr_assert_eq(kvt_extents_take(e, 18), at[4]);
    cr_assert_eq(kvt_extents_take(e, 64), at[3]);
    cr_assert_eq(kvt_extents_take(e, 34000), at[5], "also among holes beyond the exact bins");
    cr_assert_eq(kvt_extents_take(e, 39000), at[0]);
    cr_assert_eq(kvt_extents_take(e, 65), at[1]);
    cr_assert(kvt_extents_consistent(e));
    (void)fence;
    kvt_extents_destroy(e);
}

/* Equal blobs must fit again after any history of equal blobs: no fragmentation at all. */
KVT_TEST(host_extents, equal_sizes_fill_every_unit_again)
{
    enum { SIZE = 97, COUNT = 500 };
    kvt_extents *e;
    uint32_t at[COUNT];
    uint64_t state = kvt_test_seed("host_extents");
    cr_assert_eq(kvt_extents_create(SIZE * COUNT, &e), KVT_OK);
    for (int i = 0; i < COUNT; i++)
        cr_assert_neq(at[i] = kvt_extents_take(e, SIZE), KVT_EXTENT_NONE);
    for (int round = 0; round < 2000; round++) {
        uint32_t i = (uint32_t)(kvt_test_random(&state) % COUNT), j = (uint32_t)(kvt_test_random(&state) % COUNT);
        cr_assert(kvt_extents_give(e, at[i]));
        if (i != j)
            cr_assert(kvt_extents_give(e, at[j]));
        cr_assert_neq(at[i] = kvt_extents_take(e, SIZE), KVT_EXTENT_NONE);
        if (i != j)
            cr_assert_neq(at[j] = kvt_extents_take(e, SIZE), KVT_EXTENT_NONE);
    }
    cr_assert_eq(kvt_extents_used(e), SIZE * COUNT);
    cr_assert(kvt_extents_consistent(e));
    kvt_extents_destroy(e);
}

/* ---- random work against a naive map: owner[unit] = extent + 1, 0 free ---- */

enum { MODEL_UNITS = 70000, MODEL_EXTENTS = 400 };

typedef struct model {
    uint16_t owner[MODEL_UNITS];
    uint32_t first[MODEL_EXTENTS], length[MODEL_EXTENTS]; /* length 0: not taken */
} model;

static uint32_t model_largest(const model *m)
{
    uint32_t largest = 0, run = 0;
    for (uint32_t i = 0; i < MODEL_UNITS; i++) {
        run = m->owner[i] == 0 ? run + 1 : 0;
        largest = run > largest ? run : largest;
    }
    return largest;
}

static uint32_t model_length(uint64_t *state)
{
    uint64_t kind = kvt_test_random(state) % 16;
    uint64_t bound = kind == 0 ? 50000 : kind < 6 ? 2000 : 64;
    return 1 + (uint32_t)(kvt_test_random(state) % bound);
}

static void model_take(model *m, kvt_extents *e, uint32_t slot, uint64_t *state)
{
    uint32_t length = model_length(state);
    uint32_t first = kvt_extents_take(e, length);
    if (first == KVT_EXTENT_NONE) {
        cr_assert_lt(model_largest(m), length, "a hole of %u units was not found", length);
        return;
    }
    cr_assert_leq(first + length, MODEL_UNITS);
    for (uint32_t i = first; i < first + length; i++) {
        cr_assert_eq(m->owner[i], 0, "unit %u is given twice", i);
        m->owner[i] = (uint16_t)(slot + 1);
    }
    m->first[slot] = first;
    m->length[slot] = length;
}

static void model_release(model *m, kvt_extents *e, uint32_t slot, uint64_t *state)
{
    uint32_t keep = kvt_test_random(state) % 3 == 0 ? 1 + (uint32_t)(kvt_test_random(state) % m->length[slot]) : 0;
    cr_assert_eq(kvt_extents_length(e, m->first[slot]), m->length[slot]);
    cr_assert(keep != 0 ? kvt_extents_shrink(e, m->first[slot], keep) : kvt_extents_give(e, m->first[slot]));
    for (uint32_t i = keep; i < m->length[slot]; i++)
        m->owner[m->first[slot] + i] = 0;
    m->length[slot] = keep;
}

KVT_TEST(host_extents, random_work_agrees_with_a_naive_map)
{
    uint64_t state = kvt_test_seed("host_extents");
    model *m = kvt_alloc(sizeof *m);
    kvt_extents *e;
    cr_assert_eq(kvt_extents_create(MODEL_UNITS, &e), KVT_OK);
    for (int step = 0; step < 20000; step++) {
        uint32_t slot = (uint32_t)(kvt_test_random(&state) % MODEL_EXTENTS);
        if (m->length[slot] == 0)
            model_take(m, e, slot, &state);
        else
            model_release(m, e, slot, &state);
        if (step % 250 == 0) {
            cr_assert(kvt_extents_consistent(e), "step %d", step);
            cr_assert_eq(kvt_extents_largest(e), model_largest(m));
        }
    }
    for (uint32_t slot = 0; slot < MODEL_EXTENTS; slot++) {
        while (m->length[slot] != 0)
            model_release(m, e, slot, &state);
    }
    cr_assert_eq(kvt_extents_used(e), 0);
    cr_assert_eq(kvt_extents_count(e), 0);
    cr_assert_eq(kvt_extents_largest(e), MODEL_UNITS);
    cr_assert(kvt_extents_consistent(e));
    kvt_extents_destroy(e);
    kvt_free(m);
}

KVT_TEST(host_extents, nothing_is_allocated_after_create)
{
    kvt_extents *e;
    cr_assert_eq(kvt_extents_create(50000, &e), KVT_OK);
    uint64_t before = kvt_alloc_count();
    for (uint32_t n = 1; n < 200; n++)
        cr_assert_neq(kvt_extents_take(e, n), KVT_EXTENT_NONE);
    for (uint32_t first = 0; first < 50000; first++)
        (void)kvt_extents_give(e, first);
    cr_assert_eq(kvt_alloc_count(), before);
    cr_assert_eq(kvt_extents_used(e), 0);
    kvt_extents_destroy(e);
}

KVT_TEST(host_extents, a_failed_allocation_leaves_nothing)
{
    for (uint64_t n = 1; n <= 5; n++) {
        kvt_extents *e = NULL;
        kvt_alloc_fail_at(n);
        cr_assert_eq(kvt_extents_create(100, &e), KVT_NOMEM);
        cr_assert_null(e);
    }
    kvt_alloc_fail_at(0);
}

/* ---- the pool ---- */

static void count_errors(void *arg, kvt_log_level level, const char *message)
{
    (void)message;
    *(int *)arg += level == KVT_LOG_ERROR;
}

KVT_TEST(host_pool, extents_are_aligned_touched_and_counted)
{
    kvt_pool *pool;
    cr_assert_eq(kvt_pool_create((8 << 20) + 5000, 2, NULL, &pool), KVT_OK);
    uint64_t bytes;
    uint8_t *base = kvt_pool_base(pool, &bytes);
    cr_assert_eq(bytes, (8 << 20) + 4096, "never more than asked for");
    cr_assert_eq((uintptr_t)base % KVT_BLOCK_BYTES, 0);
    uint8_t *a = kvt_pool_take(pool, 1), *b = kvt_pool_take(pool, 5000);
    cr_assert(a >= base && b >= base && (uintptr_t)b % KVT_BLOCK_BYTES == 0);
    memset(a, 1, 4096), memset(b, 2, 8192);
    cr_assert_eq(a[4095], 1);
    cr_assert_eq(kvt_pool_used(pool), 3 * 4096);
    kvt_pool_shrink(pool, b, 4096);
    cr_assert_eq(kvt_pool_used(pool), 2 * 4096);
    cr_assert_eq(kvt_pool_extent_count(pool), 2);
    cr_assert_null(kvt_pool_take(pool, bytes));
    cr_assert_null(kvt_pool_take(pool, UINT64_MAX));
    cr_assert_null(kvt_pool_take(pool, 0));
    kvt_pool_give(pool, a), kvt_pool_give(pool, b), kvt_pool_give(pool, NULL);
    cr_assert_eq(kvt_pool_largest(pool), bytes);
    cr_assert_eq(kvt_pool_extent_count(pool), 0);
    kvt_pool_destroy(pool);
    kvt_pool_destroy(NULL);
}

KVT_TEST(host_pool, misuse_is_logged_and_changes_nothing)
{
    int errors = 0;
    kvt_log log = {count_errors, &errors};
    kvt_pool *pool;
    cr_assert_eq(kvt_pool_create(1000, 1, &log, &pool), KVT_INVALID);
    cr_assert(strstr(kvt_last_error(), "1 MiB") != NULL);
    cr_assert_eq(kvt_pool_create(UINT64_MAX, 1, &log, &pool), KVT_INVALID);
    cr_assert_eq(kvt_pool_create(1 << 20, 1, &log, &pool), KVT_OK);
    uint8_t *a = kvt_pool_take(pool, 8192);
    uint8_t outside;
    kvt_pool_give(pool, a + 4096), kvt_pool_give(pool, a + 1), kvt_pool_give(pool, &outside);
    kvt_pool_shrink(pool, a, 0), kvt_pool_shrink(pool, a, 8193), kvt_pool_shrink(pool, a, UINT64_MAX);
    cr_assert_eq(errors, 6);
    cr_assert_eq(kvt_pool_used(pool), 8192);
    kvt_pool_give(pool, a);
    cr_assert_eq(errors, 6);
    kvt_pool_destroy(pool);
}

typedef struct mixer {
    kvt_pool *pool;
    uint64_t seed;
    bool torn;
} mixer;

static void *mix(void *arg)
{
    mixer *m = arg;
    for (int i = 0; i < 3000; i++) {
        uint64_t bytes = 4096 + kvt_test_random(&m->seed) % (256 << 10);
        uint8_t *extent = kvt_pool_take(m->pool, bytes);
        if (extent == NULL)
            continue;
        uint8_t mark = (uint8_t)kvt_test_random(&m->seed);
        extent[0] = extent[bytes - 1] = mark;
        if (i % 4 == 0)
            kvt_pool_shrink(m->pool, extent, bytes = 4096);
        m->torn = m->torn || extent[0] != mark;
        kvt_pool_give(m->pool, extent);
    }
    return NULL;
}

KVT_TEST(host_pool, threads_share_it)
{
    enum { THREADS = 4 };
    kvt_pool *pool;
    pthread_t threads[THREADS];
    mixer mixers[THREADS];
    cr_assert_eq(kvt_pool_create(2 << 20, 1, NULL, &pool), KVT_OK);
    for (int i = 0; i < THREADS; i++) {
        mixers[i] = (mixer){pool, (uint64_t)i, false};
        cr_assert_eq(pthread_create(&threads[i], NULL, mix, &mixers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_not(mixers[i].torn);
    }
    cr_assert_eq(kvt_pool_used(pool), 0);
    kvt_pool_destroy(pool);
}
