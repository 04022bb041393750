/* SPDX-License-Identifier: Apache-2.0
 *
 * What this CPU offers, and the monotonic clock.
 */
#include "engine/base/base.h"

#include <stdatomic.h>
#include <time.h>

static atomic_uint hidden_features;

static uint32_t detect(void)
{
    uint32_t features = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        features |= KVT_CPU_SSE42;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        features |= KVT_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2"))
        features |= KVT_CPU_AVX512;
    if ((features & KVT_CPU_AVX512) != 0 && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2"))
        features |= KVT_CPU_AVX512_BYTES;
#endif
    return features;
}

uint32_t kvt_cpu_features(void) { return detect() & ~atomic_load_explicit(&hidden_features, memory_order_relaxed); }

void kvt_cpu_mask(uint32_t hidden) { atomic_store_explicit(&hidden_features, hidden, memory_order_relaxed); }

uint64_t kvt_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
