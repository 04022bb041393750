/* SPDX-License-Identifier: Apache-2.0
 *
 * Latency histograms in half octaves, in the caller's memory (kvt_histogram of kvtier.h). Private to the engine.
 */
#ifndef KVT_HISTOGRAM_H
#define KVT_HISTOGRAM_H

#include "engine/base/base.h"

/* Index of the bucket a duration belongs to. */
uint32_t kvt_histogram_bucket(uint64_t ns);

/* Count one duration. Any thread; relaxed atomics, so a reader may see the sum before the count. */
void kvt_histogram_record(kvt_histogram *histogram, uint64_t ns);

/* A copy of a histogram that others record into; its count is the sum of its buckets. */
void kvt_histogram_copy(const kvt_histogram *from, kvt_histogram *to);

/* The duration that percent (0..100) of those in a copy do not exceed: the upper edge of its bucket, at most max_ns, so
 * it errs by less than a factor of 1.42 and never to the flattering side. 0 when nothing was recorded. */
uint64_t kvt_histogram_percentile(const kvt_histogram *histogram, double percent);

#endif
