/* SPDX-License-Identifier: Apache-2.0
 *
 * The statistics of rans in 64-byte vectors: a channel's 64 counts are one. For exponent_avx512.c only.
 */
#ifndef KVT_RANS_STATS_AVX512_H
#define KVT_RANS_STATS_AVX512_H

#include "compress/exponent_avx512.h"

static void rans_weigh_wide(const uint8_t *counts, uint32_t channels, const uint8_t weights[KVT_RANS_SYMBOLS],
                            uint32_t *sums)
{
    const __m512i by = _mm512_loadu_si512(weights);
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS) {
        __m512i pairs = _mm512_maddubs_epi16(_mm512_loadu_si512(counts), by); /* at most 128 x 127 */
        sums[c] = (uint32_t)_mm512_reduce_add_epi32(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
}

/* The sums of four vectors, one in each 32-bit lane. */
static inline __m128i sums_of(const __m512i v[4])
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static void rans_assign_wide(const uint8_t *counts, uint32_t channels,
                             uint8_t costs[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS], uint8_t *assigned)
{
    __m512i cost[KVT_RANS_CLASSES_MAX], sum[KVT_RANS_CLASSES_MAX];
    for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++)
        cost[j] = _mm512_loadu_si512(costs[j]);
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS) {
        __m512i mine = _mm512_loadu_si512(counts);
        for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++)
            sum[j] = _mm512_madd_epi16(_mm512_maddubs_epi16(mine, cost[j]), _mm512_set1_epi16(1));
        __m128i key = _mm_or_si128(_mm_slli_epi32(sums_of(sum), 2), _mm_set_epi32(3, 2, 1, 0)); /* cost, then class */
        key = _mm_min_epu32(key, _mm_shuffle_epi32(key, 0x4e));
        key = _mm_min_epu32(key, _mm_shuffle_epi32(key, 0xb1));
        assigned[c] = (uint8_t)(_mm_cvtsi128_si32(key) & 3);
    }
}

/* Sums of 16 bits for a while, each class in two registers. */
static void rans_sum_wide(const uint8_t *counts, uint32_t channels, const uint8_t *assigned,
                          uint32_t sums[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS])
{
    enum { FLUSH = 256 }; /* x 128 tokens */
    memset(sums, 0, sizeof(uint32_t) * KVT_RANS_CLASSES_MAX * KVT_RANS_SYMBOLS);
    for (uint32_t first = 0; first < channels; first += FLUSH) {
        const uint32_t end = (uint32_t)kvt_min_u64(channels, first + FLUSH);
        __m512i sum[KVT_RANS_CLASSES_MAX][2];
        for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++)
            sum[j][0] = sum[j][1] = _mm512_setzero_si512();
        for (uint32_t c = first; c < end; c++, counts += KVT_RANS_SYMBOLS) {
            __m512i lower = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)counts));
            __m512i upper = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(counts + 32)));
            for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++) {
                __mmask32 mine = assigned[c] == j ? UINT32_MAX : 0;
                sum[j][0] = _mm512_mask_add_epi16(sum[j][0], mine, sum[j][0], lower);
                sum[j][1] = _mm512_mask_add_epi16(sum[j][1], mine, sum[j][1], upper);
            }
        }
        for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++) {
            uint16_t part[KVT_RANS_SYMBOLS];
            _mm512_storeu_si512(part, sum[j][0]);
            _mm512_storeu_si512(part + 32, sum[j][1]);
            for (int i = 0; i < KVT_RANS_SYMBOLS; i++)
                sums[j][i] += part[i];
        }
    }
}

#endif
