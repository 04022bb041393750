/* SPDX-License-Identifier: Apache-2.0
 *
 * Eviction and admission. S3-FIFO is held against a naive model (plain arrays, searched from end to end) under random
 * operations; the rules a user would name are tested one by one. Admission runs on a clock of its own.
 */
#include "engine/policy.h"
#include "tests/support.h"

#include <pthread.h>

/* ------------------------------------------------------------- S3-FIFO, rules */

#define BLOB UINT64_C(4096)

static kvt_s3 *s3_of(uint32_t id_max, uint64_t blobs)
{
    kvt_s3 *s3 = NULL;
    cr_assert_eq(kvt_s3_create(id_max, blobs * BLOB, &s3), KVT_OK);
    return s3;
}

/* Insert as an engine would: evict until there is room for one more. */
static void insert_full(kvt_s3 *s3, uint32_t id, uint64_t blobs)
{
    while (kvt_s3_bytes(s3) + BLOB > blobs * BLOB)
        cr_assert_neq(kvt_s3_evict(s3, NULL, NULL), KVT_S3_NONE);
    kvt_s3_insert(s3, id, id, BLOB);
}

KVT_TEST(s3fifo, what_is_used_once_leaves_before_what_is_shared)
{
    kvt_s3 *s3 = s3_of(1000, 20);
    for (uint32_t id = 0; id < 10; id++) {
        insert_full(s3, id, 20);
        kvt_s3_touch(s3, id);
    }
    for (uint32_t id = 100; id < 900; id++)
        insert_full(s3, id, 20);
    for (uint32_t id = 0; id < 10; id++)
        cr_assert(kvt_s3_contains(s3, id), "%u was pushed out by a scan", id);
    cr_assert_eq(kvt_s3_count(s3), 20);
    cr_assert_eq(kvt_s3_bytes(s3), 20 * BLOB);
    kvt_s3_destroy(s3);
}

KVT_TEST(s3fifo, a_victim_that_returns_soon_enters_the_main_queue)
{
    kvt_s3 *s3 = s3_of(1000, 20);
    insert_full(s3, 7, 20);
    cr_assert_eq(kvt_s3_evict(s3, NULL, NULL), 7);
    insert_full(s3, 7, 20);
    for (uint32_t id = 100; id < 900; id++)
        insert_full(s3, id, 20);
    cr_assert(kvt_s3_contains(s3, 7));
    kvt_s3_destroy(s3);
}

/* 18 of 20 blobs is the window: the victim itself and 17 after it are remembered, one more is not. */
KVT_TEST(s3fifo, ghosts_are_remembered_for_nine_tenths_of_the_capacity)
{
    for (uint32_t behind = 17; behind <= 18; behind++) {
        kvt_s3 *s3 = s3_of(1000, 20);
        for (uint32_t id = 0; id <= behind; id++) {
            kvt_s3_insert(s3, id, id, BLOB);
            cr_assert_eq(kvt_s3_evict(s3, NULL, NULL), id);
        }
        kvt_s3_insert(s3, 0, 0, BLOB);
        for (uint32_t id = 100; id < 104; id++)
            kvt_s3_insert(s3, id, id, BLOB);
        bool in_main = kvt_s3_evict(s3, NULL, NULL) != 0;
        cr_assert_eq(in_main, behind == 17, "%u evictions later", behind);
        kvt_s3_destroy(s3);
    }
}

KVT_TEST(s3fifo, a_removed_id_leaves_no_ghost_and_no_bytes)
{
    kvt_s3 *s3 = s3_of(1000, 20);
    kvt_s3_insert(s3, 3, 3, BLOB);
    kvt_s3_remove(s3, 3);
    kvt_s3_remove(s3, 3);
    cr_assert_not(kvt_s3_contains(s3, 3));
    cr_assert_eq(kvt_s3_bytes(s3), 0);
    kvt_s3_insert(s3, 3, 3, BLOB);
    for (uint32_t id = 100; id < 104; id++)
        kvt_s3_insert(s3, id, id, BLOB);
    cr_assert_eq(kvt_s3_evict(s3, NULL, NULL), 3, "it was in the small queue");
    kvt_s3_destroy(s3);
}

KVT_TEST(s3fifo, counters_saturate_and_hits_outlive_the_eviction)
{
    kvt_s3 *s3 = s3_of(16, 4);
    kvt_s3_touch(s3, 1);
    cr_assert_eq(kvt_s3_frequency(s3, 1), 0, "not there, not counted");
    kvt_s3_insert(s3, 1, 1, BLOB);
    for (int i = 0; i < 300; i++)
        kvt_s3_touch(s3, 1);
    cr_assert_eq(kvt_s3_frequency(s3, 1), KVT_S3_FREQUENCY_MAX);
    cr_assert_eq(kvt_s3_hits(s3, 1), 255);
    cr_assert_eq(kvt_s3_evict(s3, NULL, NULL), 1);
    cr_assert_eq(kvt_s3_hits(s3, 1), 255);
    kvt_s3_insert(s3, 1, 1, BLOB);
    cr_assert_eq(kvt_s3_hits(s3, 1), 0);
    kvt_s3_insert(s3, 1, 1, BLOB);
    cr_assert_eq(kvt_s3_hits(s3, 1), 1, "a second insert is a touch");
    cr_assert_eq(kvt_s3_count(s3), 1);
    kvt_s3_destroy(s3);
}

typedef struct asked {
    uint32_t only; /* the one that may go; KVT_S3_NONE: none */
    uint32_t calls;
} asked;

static bool may_only(void *arg, uint32_t id)
{
    asked *a = arg;
    a->calls++;
    return id == a->only;
}

KVT_TEST(s3fifo, a_victim_is_found_among_refused_ones_wherever_it_is)
{
    enum { COUNT = 50 };
    for (uint32_t only = 0; only < COUNT; only++) {
        kvt_s3 *s3 = s3_of(COUNT, COUNT);
        for (uint32_t id = 0; id < COUNT; id++) {
            kvt_s3_insert(s3, id, id, BLOB);
            for (uint32_t t = 0; t < id % 5; t++)
                kvt_s3_touch(s3, id);
        }
        asked a = {.only = KVT_S3_NONE};
        if (only % 2) { /* those touched are in the main queue, and used again */
            kvt_s3_evict(s3, may_only, &a);
            for (uint32_t id = 0; id < COUNT; id++)
                for (uint32_t t = 0; t < 3; t++)
                    kvt_s3_touch(s3, id);
        }
        a = (asked){.only = only};
        cr_assert_eq(kvt_s3_evict(s3, may_only, &a), only);
        cr_assert_leq(a.calls, COUNT * (KVT_S3_FREQUENCY_MAX + 2));
        cr_assert_eq(kvt_s3_count(s3), COUNT - 1);
        kvt_s3_destroy(s3);
    }
}

KVT_TEST(s3fifo, when_all_are_refused_none_is_taken_and_the_work_is_bounded)
{
    enum { COUNT = 50 };
    kvt_s3 *s3 = s3_of(COUNT, COUNT);
    for (uint32_t id = 0; id < COUNT; id++) {
        kvt_s3_insert(s3, id, id, BLOB);
        if (id % 2)
            kvt_s3_touch(s3, id);
    }
    asked a = {.only = KVT_S3_NONE};
    cr_assert_eq(kvt_s3_evict(s3, may_only, &a), KVT_S3_NONE);
    cr_assert_leq(a.calls, COUNT * (KVT_S3_FREQUENCY_MAX + 2));
    cr_assert_eq(kvt_s3_count(s3), COUNT);
    cr_assert_eq(kvt_s3_bytes(s3), COUNT * BLOB);
    kvt_s3_destroy(s3);
}

KVT_TEST(s3fifo, order_runs_from_untouched_to_most_used)
{
    kvt_s3 *s3 = s3_of(100, 100);
    for (uint32_t id = 0; id < 4; id++) {
        kvt_s3_insert(s3, id, id, BLOB);
        for (uint32_t t = 3; t > id; t--)
            kvt_s3_touch(s3, id);
    }
    uint32_t ids[4];
    cr_assert_eq(kvt_s3_order(s3, ids, 4), 4);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert_eq(ids[i], 3 - i);
    cr_assert_eq(kvt_s3_order(s3, ids, 1), 1);
    cr_assert_eq(ids[0], 3);
    kvt_s3_destroy(s3);
}

KVT_TEST(s3fifo, create_refuses_nonsense_and_survives_failing_memory)
{
    kvt_s3 *s3 = NULL;
    cr_assert_eq(kvt_s3_create(0, 1, &s3), KVT_INVALID);
    cr_assert_eq(kvt_s3_create(UINT32_MAX, 1, &s3), KVT_INVALID);
    cr_assert_eq(kvt_s3_create(1, 0, &s3), KVT_INVALID);
    for (uint64_t n = 1; n <= 4; n++) {
        kvt_alloc_fail_at(n);
        cr_assert_eq(kvt_s3_create(10, 10, &s3), KVT_NOMEM);
    }
    kvt_alloc_fail_at(0);
    cr_assert_null(s3);
    kvt_s3_destroy(NULL);
}

/* ----------------------------------------------------- S3-FIFO, against a model */

enum { MODEL_IDS = 400, MODEL_GHOSTS = 16384 };

typedef struct model {
    uint32_t small[MODEL_IDS], main[MODEL_IDS]; /* oldest first */
    uint32_t small_count, main_count;
    uint64_t hash[MODEL_IDS], bytes[MODEL_IDS];
    uint32_t frequency[MODEL_IDS];
    uint64_t ghost_hash[MODEL_GHOSTS], ghost_bytes[MODEL_GHOSTS]; /* oldest first */
    uint32_t ghost_count;
    uint64_t capacity;
} model;

static void list_erase(uint32_t *list, uint32_t *count, uint32_t at)
{
    (*count)--;
    memmove(list + at, list + at + 1, (*count - at) * sizeof *list);
}

static bool list_take(uint32_t *list, uint32_t *count, uint32_t id)
{
    for (uint32_t i = 0; i < *count; i++)
        if (list[i] == id) {
            list_erase(list, count, i);
            return true;
        }
    return false;
}

static bool model_has(const model *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->small_count; i++)
        if (m->small[i] == id)
            return true;
    for (uint32_t i = 0; i < m->main_count; i++)
        if (m->main[i] == id)
            return true;
    return false;
}

static uint64_t model_bytes(const model *m, const uint32_t *list, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += m->bytes[list[i]];
    return sum;
}

static void model_insert(model *m, uint32_t id, uint64_t hash, uint64_t bytes)
{
    bool known = false;
    uint64_t window = 0;
    for (uint32_t i = m->ghost_count; i-- > 0;) {
        window += m->ghost_bytes[i];
        if (window > m->capacity - m->capacity / 10)
            break;
        known |= m->ghost_hash[i] == hash;
    }
    m->hash[id] = hash;
    m->bytes[id] = bytes;
    m->frequency[id] = 0;
    if (known)
        m->main[m->main_count++] = id;
    else
        m->small[m->small_count++] = id;
}

static uint32_t model_evict(model *m)
{
    for (;;) {
        bool small = m->small_count && (model_bytes(m, m->small, m->small_count) > m->capacity / 10 || !m->main_count);
        if (!small && !m->main_count)
            return KVT_S3_NONE;
        uint32_t id = small ? m->small[0] : m->main[0];
        list_erase(small ? m->small : m->main, small ? &m->small_count : &m->main_count, 0);
        if (m->frequency[id] > 0) {
            m->frequency[id] = small ? 0 : m->frequency[id] - 1;
            m->main[m->main_count++] = id;
            continue;
        }
        if (small) {
            m->ghost_hash[m->ghost_count] = m->hash[id];
            m->ghost_bytes[m->ghost_count++] = m->bytes[id];
        }
        return id;
    }
}

static void model_step(kvt_s3 *s3, model *m, uint64_t sizes, uint64_t *state)
{
    uint32_t id = (uint32_t)(kvt_test_random(state) % MODEL_IDS);
    switch (kvt_test_random(state) % 8) {
    case 0:
        kvt_s3_remove(s3, id);
        if (!list_take(m->small, &m->small_count, id))
            list_take(m->main, &m->main_count, id);
        break;
    case 1:
    case 2:
        if (!model_has(m, id)) {
            uint64_t bytes = BLOB * (1 + kvt_test_random(state) % sizes);
            uint64_t name = id < 40 ? id / 2 : id; /* some share a hash: a record that came back under another id */
            uint64_t hash = kvt_test_random(&name);
            kvt_s3_insert(s3, id, hash, bytes);
            model_insert(m, id, hash, bytes);
        }
        break;
    case 3:
        cr_assert_eq(kvt_s3_evict(s3, NULL, NULL), model_evict(m));
        break;
    default:
        kvt_s3_touch(s3, id);
        if (model_has(m, id) && m->frequency[id] < KVT_S3_FREQUENCY_MAX)
            m->frequency[id]++;
    }
}

static void run_model(uint64_t capacity, uint64_t sizes, uint64_t *state)
{
    model *m = kvt_alloc(sizeof *m);
    m->capacity = capacity * BLOB;
    kvt_s3 *s3 = s3_of(MODEL_IDS, capacity);
    for (int step = 0; step < 40000; step++) {
        model_step(s3, m, sizes, state);
        uint32_t id = (uint32_t)(kvt_test_random(state) % MODEL_IDS);
        cr_assert_eq(kvt_s3_contains(s3, id), model_has(m, id));
        if (model_has(m, id))
            cr_assert_eq(kvt_s3_frequency(s3, id), m->frequency[id]);
        cr_assert_eq(kvt_s3_count(s3), m->small_count + m->main_count);
        cr_assert_eq(kvt_s3_bytes(s3),
                     model_bytes(m, m->small, m->small_count) + model_bytes(m, m->main, m->main_count));
    }
    kvt_s3_destroy(s3);
    kvt_free(m);
}

KVT_TEST(s3fifo, random_operations_agree_with_the_naive_model)
{
    uint64_t state = kvt_test_seed("s3fifo");
    run_model(150, 4, &state); /* blobs of many sizes */
    run_model(440, 1, &state); /* as many ghosts as there is room for */
}

/* ------------------------------------------------------------------ admission */

#define SECOND UINT64_C(1000000000)
#define DAY    (86400 * SECOND)

static kvt_admission *budget_of(uint64_t bytes_per_day, uint64_t depth)
{
    kvt_admission *admission = NULL;
    cr_assert_eq(kvt_admission_create(bytes_per_day, depth, 1000, &admission), KVT_OK);
    return admission;
}

KVT_TEST(admission, a_full_bucket_admits_everything_and_pays_for_it)
{
    kvt_admission *a = budget_of(1000, 1000);
    cr_assert_eq(kvt_admission_tokens(a, 5), 1000);
    cr_assert(kvt_admission_admit(a, 1, 400, 0, false, 5));
    cr_assert(kvt_admission_admit(a, 2, 400, 0, false, 5));
    cr_assert_eq(kvt_admission_tokens(a, 5), 200);
    cr_assert(kvt_admission_admit(a, 3, 400, 0, false, 5), "the last tokens admit one more");
    cr_assert_eq(kvt_admission_tokens(a, 5), -200);
    kvt_admission_refund(a, 400);
    cr_assert_eq(kvt_admission_tokens(a, 5), 200);
    kvt_admission_refund(a, UINT64_MAX);
    cr_assert_eq(kvt_admission_tokens(a, 5), 1000);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, on_credit_only_what_was_used_or_seen_before_is_written)
{
    kvt_admission *a = budget_of(0, 1000);
    kvt_admission_set_tokens(a, 0, 0);
    cr_assert_not(kvt_admission_admit(a, 1, 10, 0, false, 0));
    cr_assert(kvt_admission_admit(a, 1, 10, 0, false, 0), "its second departure");
    cr_assert(kvt_admission_admit(a, 2, 10, 1, false, 0), "it was used");
    cr_assert(kvt_admission_admit(a, 3, 10, 0, true, 0), "write-through skips the filter");
    cr_assert_eq(kvt_admission_tokens(a, 0), -30);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, keys_admitted_by_the_bucket_are_remembered_too)
{
    kvt_admission *a = budget_of(0, 1000);
    cr_assert(kvt_admission_admit(a, 1, 1000, 0, false, 0));
    cr_assert(kvt_admission_admit(a, 1, 10, 0, false, 0));
    kvt_admission_destroy(a);
}

KVT_TEST(admission, beyond_the_deepest_debt_nothing_is_written)
{
    kvt_admission *a = budget_of(0, 1000);
    kvt_admission_set_tokens(a, -100, 0);
    cr_assert(kvt_admission_admit(a, 1, 1, 9, true, 0), "exactly at the limit");
    cr_assert_not(kvt_admission_admit(a, 1, 1, 9, false, 0));
    cr_assert_not(kvt_admission_admit(a, 1, 1, 9, true, 0));
    cr_assert_eq(kvt_admission_tokens(a, 0), -101);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, tokens_come_back_with_time_to_the_byte)
{
    kvt_admission *a = budget_of(86400, 1000000); /* a byte a second */
    kvt_admission_set_tokens(a, 0, 100 * SECOND);
    cr_assert_eq(kvt_admission_tokens(a, 101 * SECOND - 1), 0);
    cr_assert_eq(kvt_admission_tokens(a, 101 * SECOND), 1);
    for (uint64_t tick = 0; tick <= 900; tick++) /* tenths of a second: nothing is lost in the rounding */
        kvt_admission_tokens(a, 101 * SECOND + tick * (SECOND / 10));
    cr_assert_eq(kvt_admission_tokens(a, 191 * SECOND), 91);
    cr_assert_eq(kvt_admission_tokens(a, 5), 91, "a clock that jumps back adds nothing");
    cr_assert_eq(kvt_admission_tokens(a, 6 * SECOND), 91 + 5, "and counts on from there");
    cr_assert_eq(kvt_admission_tokens(a, UINT64_MAX), 1000000, "never above the depth");
    kvt_admission_destroy(a);
}

KVT_TEST(admission, carried_over_tokens_are_cut_to_the_bounds)
{
    kvt_admission *a = budget_of(1000, 1000);
    kvt_admission_set_tokens(a, INT64_MAX, 0);
    cr_assert_eq(kvt_admission_tokens(a, 0), 1000);
    kvt_admission_set_tokens(a, INT64_MIN, 0);
    cr_assert_eq(kvt_admission_tokens(a, 0), -100);
    cr_assert_eq(kvt_admission_tokens(a, DAY), 900);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, without_a_budget_everything_goes)
{
    kvt_admission *a = budget_of(UINT64_MAX, 0);
    for (uint64_t key = 0; key < 100; key++)
        cr_assert(kvt_admission_admit(a, key, UINT64_MAX, 0, false, 0));
    cr_assert_eq(kvt_admission_tokens(a, 0), INT64_MAX);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, extreme_sizes_and_rates_do_not_overflow)
{
    kvt_admission *a = budget_of(UINT64_MAX - 1, UINT64_MAX);
    cr_assert(kvt_admission_admit(a, 1, UINT64_MAX, 0, false, 0));
    cr_assert_gt(kvt_admission_tokens(a, 0), 0);
    cr_assert_eq(kvt_admission_tokens(a, UINT64_MAX), INT64_MAX / 2);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, the_filter_remembers_a_window_and_forgets_after_two)
{
    enum { KEYS = 4000 };
    kvt_admission *a = NULL;
    cr_assert_eq(kvt_admission_create(0, 0, KEYS, &a), KVT_OK);
    uint32_t known = 0;
    for (uint64_t key = 0; key < KEYS; key++)
        known += kvt_admission_admit(a, key, 0, 0, false, 0);
    cr_assert_lt(known, KEYS / 100, "%u of %u new keys taken for known", known, (unsigned)KEYS);
    for (uint64_t key = 0; key < KEYS; key++)
        cr_assert(kvt_admission_admit(a, key, 0, 0, false, 0));
    for (uint64_t key = KEYS; key < 2 * KEYS; key++)
        kvt_admission_admit(a, key, 0, 0, false, 0);
    cr_assert(kvt_admission_admit(a, 0, 0, 0, false, 0), "it is in the old window");
    for (uint64_t key = 2 * KEYS; key < 4 * KEYS; key++)
        kvt_admission_admit(a, key, 0, 0, false, 0);
    known = 0;
    for (uint64_t key = 0; key < KEYS / 10; key++)
        known += kvt_admission_admit(a, key, 0, 0, false, 0);
    cr_assert_lt(known, KEYS / 100);
    kvt_admission_destroy(a);
}

static void *spend(void *arg)
{
    for (uint64_t i = 0; i < 10000; i++)
        kvt_admission_admit(arg, i, 3, 0, false, i);
    return NULL;
}

KVT_TEST(admission, threads_spend_each_token_once)
{
    kvt_admission *a = budget_of(0, 1000000);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, spend, a), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(kvt_admission_tokens(a, 0), 1000000 - 4 * 10000 * 3);
    kvt_admission_destroy(a);
}

KVT_TEST(admission, create_refuses_nonsense_and_survives_failing_memory)
{
    kvt_admission *a = NULL;
    cr_assert_eq(kvt_admission_create(1, 1, UINT64_MAX, &a), KVT_INVALID);
    for (uint64_t n = 1; n <= 3; n++) {
        kvt_alloc_fail_at(n);
        cr_assert_eq(kvt_admission_create(1, 1, 1, &a), KVT_NOMEM);
    }
    kvt_alloc_fail_at(0);
    cr_assert_null(a);
    kvt_admission_destroy(NULL);
}
