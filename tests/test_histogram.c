/* SPDX-License-Identifier: Apache-2.0
 *
 * Latency histograms: exact edges, percentiles against a sorted list, no lost count under threads.
 */
#include "engine/histogram.h"
#include "tests/support.h"

#include <pthread.h>
#include <stdlib.h>

KVT_TEST(histogram, buckets_start_at_exact_half_octaves)
{
    cr_assert_eq(kvt_histogram_bucket(0), 0);
    cr_assert_eq(kvt_histogram_bucket(1414), 0);
    cr_assert_eq(kvt_histogram_bucket(1415), 1);
    for (uint32_t k = 1; k < 32; k++) {
        uint64_t start = UINT64_C(1000) << k;
        cr_assert_eq(kvt_histogram_bucket(start), 2 * k, "2^%u us", k);
        cr_assert_eq(kvt_histogram_bucket(start - 1), 2 * k - 1);
        cr_assert_eq(kvt_histogram_bucket(start * 1414 / 1000), 2 * k);
        cr_assert_eq(kvt_histogram_bucket(start * 1415 / 1000), 2 * k + 1);
    }
    cr_assert_eq(kvt_histogram_bucket(UINT64_MAX), KVT_HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

KVT_TEST(histogram, percentiles_are_at_most_half_an_octave_above_the_truth)
{
    enum { COUNT = 5000 };
    static uint64_t values[COUNT];
    kvt_histogram histogram = {0};
    uint64_t state = kvt_test_seed("histogram");
    for (int i = 0; i < COUNT; i++) {
        values[i] = 2000 + kvt_test_random(&state) % (UINT64_C(1) << (12 + kvt_test_random(&state) % 20));
        kvt_histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof *values, compare);
    for (int percent = 1; percent <= 99; percent++) {
        double truth = (double)values[percent * COUNT / 100 - 1];
        double told = (double)kvt_histogram_percentile(&histogram, percent);
        cr_assert(told >= truth && told <= truth * 1.4143, "p%d: %g told, %g true", percent, told, truth);
    }
    cr_assert_eq(kvt_histogram_percentile(&histogram, 100), values[COUNT - 1]);
    cr_assert_eq(histogram.count, COUNT);
}

KVT_TEST(histogram, a_percentile_that_falls_on_a_count_takes_that_one)
{
    kvt_histogram histogram = {0};
    for (uint32_t i = 0; i < 5000; i++)
        kvt_histogram_record(&histogram, i < 1400 ? 3000 : 3000000);
    cr_assert_lt(kvt_histogram_percentile(&histogram, 28), 5000);
    cr_assert_geq(kvt_histogram_percentile(&histogram, 28.01), 3000000);
}

KVT_TEST(histogram, percentiles_of_one_and_of_none)
{
    kvt_histogram histogram = {0};
    cr_assert_eq(kvt_histogram_percentile(&histogram, 50), 0);
    kvt_histogram_record(&histogram, 1234567);
    cr_assert_eq(kvt_histogram_percentile(&histogram, 0), 1234567);
    cr_assert_eq(kvt_histogram_percentile(&histogram, 100), 1234567);
    kvt_histogram_record(&histogram, UINT64_MAX);
    cr_assert_eq(kvt_histogram_percentile(&histogram, 99), UINT64_MAX);
}

static void *record(void *arg)
{
    for (uint64_t i = 1; i <= 20000; i++)
        kvt_histogram_record(arg, i * 1000);
    return NULL;
}

KVT_TEST(histogram, threads_lose_no_count_and_a_copy_adds_up)
{
    static kvt_histogram histogram, copy;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, record, &histogram), 0);
    for (int i = 0; i < 100; i++) {
        kvt_histogram_copy(&histogram, &copy);
        uint64_t sum = 0;
        for (int b = 0; b < KVT_HISTOGRAM_BUCKETS; b++)
            sum += copy.buckets[b];
        cr_assert_eq(copy.count, sum);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    kvt_histogram_copy(&histogram, &copy);
    cr_assert_eq(copy.count, 80000);
    cr_assert_eq(copy.sum_ns, UINT64_C(4) * 1000 * 20000 * 20001 / 2);
    cr_assert_eq(copy.max_ns, 20000000);
}
