/* SPDX-License-Identifier: Apache-2.0
 *
 * Half-octave latency histograms. Bucket edges are exact: an odd bucket starts at 2^k * sqrt(2) microseconds, which is
 * compared by squares. Recording is three atomic adds and a maximum, no lock.
 */
#include "engine/histogram.h"

__extension__ typedef unsigned __int128 wide;

enum { OCTAVE_MAX = KVT_HISTOGRAM_BUCKETS / 2 - 1 };

uint32_t kvt_histogram_bucket(uint64_t ns)
{
    uint32_t octave = 0;
    while (octave < OCTAVE_MAX && ns >= UINT64_C(2000) << octave)
        octave++;
    uint64_t start = UINT64_C(1000) << octave;
    bool upper_half = ns >> 32 >= start || (wide)ns * ns >= 2 * (wide)start * start;
    return 2 * octave + (upper_half ? 1 : 0);
}

static void add(uint64_t *to, uint64_t value) { __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }

void kvt_histogram_record(kvt_histogram *histogram, uint64_t ns)
{
    add(&histogram->buckets[kvt_histogram_bucket(ns)], 1);
    add(&histogram->count, 1);
    add(&histogram->sum_ns, ns);
    uint64_t seen = __atomic_load_n(&histogram->max_ns, __ATOMIC_RELAXED);
    while (seen < ns &&
           !__atomic_compare_exchange_n(&histogram->max_ns, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

void kvt_histogram_copy(const kvt_histogram *from, kvt_histogram *to)
{
    to->count = 0;
    for (int i = 0; i < KVT_HISTOGRAM_BUCKETS; i++) {
        to->buckets[i] = __atomic_load_n(&from->buckets[i], __ATOMIC_RELAXED);
        to->count += to->buckets[i];
    }
    to->sum_ns = __atomic_load_n(&from->sum_ns, __ATOMIC_RELAXED);
    to->max_ns = __atomic_load_n(&from->max_ns, __ATOMIC_RELAXED);
}

/* Where the next bucket starts, rounded up. */
static uint64_t bucket_end(uint32_t bucket)
{
    uint64_t start = UINT64_C(1000) << (bucket + 1) / 2;
    return bucket & 1 ? start : (uint64_t)((double)start * 1.4142135623730951) + 1;
}

uint64_t kvt_histogram_percentile(const kvt_histogram *histogram, double percent)
{
    if (histogram->count == 0)
        return 0;
    double bounded = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    double exact = bounded * (double)histogram->count / 100; /* in this order: 28 % of 5000 is 1400, not a bit more */
    uint64_t rank = (uint64_t)exact;
    rank += (double)rank < exact ? 1 : 0;
    uint64_t below = 0;
    for (uint32_t i = 0; i < KVT_HISTOGRAM_BUCKETS - 1; i++) {
        below += histogram->buckets[i];
        if (below >= kvt_max_u64(rank, 1))
            return kvt_min_u64(bucket_end(i), histogram->max_ns);
    }
    return histogram->max_ns;
}
