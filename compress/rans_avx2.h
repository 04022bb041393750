/* SPDX-License-Identifier: Apache-2.0
 *
 * The coder of rans in 32-byte vectors: states are numbers of 32 bits, eight in a vector, a table look-up is a
 * gather, and words are handed out with BMI2. For exponent_avx2.c only.
 */
#ifndef KVT_RANS_AVX2_H
#define KVT_RANS_AVX2_H

#include "compress/exponent_avx2.h"

enum { VECTORS = KVT_STEP / 8 };

/* Bytes of ones for the lanes whose 32 bits are negative. */
KVT_FOLDED uint64_t lane_bytes(__m256i lanes, uint32_t *count)
{
    uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
    *count = (uint32_t)__builtin_popcount(mask);
    return _pdep_u64(mask, UINT64_C(0x0101010101010101)) * 0xff;
}

KVT_FOLDED __m256i widen(uint64_t bytes) { return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes)); }

/* The low bytes of eight lanes. */
KVT_FOLDED uint64_t narrow(__m256i lanes)
{
    const __m256i first = _mm256_set1_epi32(0x0c080400);
    __m256i bytes = _mm256_shuffle_epi8(lanes, first);
    uint32_t lower = (uint32_t)_mm256_cvtsi256_si32(bytes), upper = (uint32_t)_mm256_extract_epi32(bytes, 4);
    return lower | (uint64_t)upper << 32;
}

KVT_FOLDED void states_load(const uint8_t *states, __m256i x[VECTORS])
{
    for (int i = 0; i < VECTORS; i++)
        x[i] = _mm256_or_si256(widen(kvt_load_le64(states + (ptrdiff_t)8 * i)),
                               _mm256_slli_epi32(widen(kvt_load_le64(states + KVT_STEP + (ptrdiff_t)8 * i)), 8));
}

KVT_FOLDED void states_store(const __m256i x[VECTORS], uint8_t *states)
{
    for (int i = 0; i < VECTORS; i++) {
        kvt_store_le64(states + (ptrdiff_t)8 * i, narrow(x[i]));
        kvt_store_le64(states + KVT_STEP + (ptrdiff_t)8 * i, narrow(_mm256_srli_epi32(x[i], 8)));
    }
}

/* The next eight words, zeros behind the end. */
KVT_FOLDED uint64_t next_words(const kvt_rans_run *run, uint32_t used)
{
    if (run->word_count >= 8 && used <= run->word_count - 8)
        return kvt_load_le64(run->words + used);
    uint64_t words = 0;
    for (uint32_t i = 0; i < 8 && used + i < run->word_count; i++)
        words |= (uint64_t)run->words[used + i] << 8 * i;
    return words;
}

static void decode_run(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *run)
{
    const __m256i byte = _mm256_set1_epi32(255);
    __m256i x[VECTORS];
    uint32_t used = 0, channel = run->channel;
    uint8_t *index = run->index;
    states_load(run->states, x);
    for (uint32_t step = 0; step < run->steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        for (int i = 0; i < VECTORS; i++, index += 8) {
            __m256i tag = widen(kvt_load_le64(lanes->tag + channel + 8 * i));
            __m256i where =
                _mm256_or_si256(_mm256_slli_epi32(_mm256_srli_epi32(tag, 6), 8), _mm256_and_si256(x[i], byte));
            __m256i entry = _mm256_i32gather_epi32((const int *)model->entry, where, 4);
            __m256i freq = _mm256_and_si256(_mm256_srli_epi32(entry, 8), byte);
            __m256i next =
                _mm256_add_epi32(_mm256_madd_epi16(freq, _mm256_srli_epi32(x[i], 8)), _mm256_srli_epi32(entry, 16));
            __m256i empty = _mm256_cmpgt_epi32(_mm256_set1_epi32(256), next);
            uint32_t count;
            uint64_t spread = _pdep_u64(next_words(run, used), lane_bytes(empty, &count));
            __m256i filled = _mm256_or_si256(_mm256_slli_epi32(next, 8), widen(spread));
            x[i] = _mm256_blendv_epi8(next, filled, empty);
            used += count;
            kvt_store_le64(index, narrow(entry));
        }
    }
    states_store(x, run->states);
    run->used = used;
}

static void rans_decode_pair(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *runs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        decode_run(model, lanes, &runs[i]);
}

/* `table`: reciprocal | frequency << 16 | start << 24. */
static void encode_source(const uint32_t table[256], kvt_rans_source *source)
{
    const __m256i byte = _mm256_set1_epi32(255), half = _mm256_set1_epi32(0xffff);
    __m256i x[VECTORS];
    uint8_t *at = source->end;
    states_load(source->states, x);
    for (uint32_t step = source->steps; step-- > 0;) {
        for (int i = VECTORS - 1; i >= 0; i--) {
            __m256i symbol = widen(kvt_load_le64(source->index + (size_t)step * KVT_STEP + 8 * (size_t)i));
            __m256i entry = _mm256_i32gather_epi32((const int *)table, symbol, 4);
            __m256i freq = _mm256_and_si256(_mm256_srli_epi32(entry, 16), byte);
            __m256i full = _mm256_cmpgt_epi32(x[i], _mm256_sub_epi32(_mm256_slli_epi32(freq, 8), _mm256_set1_epi32(1)));
            uint32_t count;
            uint64_t words = _pext_u64(narrow(x[i]), lane_bytes(full, &count));
            kvt_store_le64(at - 8, words << ((64 - 8 * count) & 63)); /* what lies below is written later */
            at -= count;
            __m256i now = _mm256_blendv_epi8(x[i], _mm256_srli_epi32(x[i], 8), full);
            __m256i quotient = _mm256_mulhi_epu16(now, _mm256_and_si256(entry, half)); /* at most one too small */
            __m256i rest = _mm256_sub_epi32(now, _mm256_madd_epi16(quotient, freq));
            __m256i more = _mm256_cmpgt_epi32(rest, _mm256_sub_epi32(freq, _mm256_set1_epi32(1)));
            quotient = _mm256_sub_epi32(quotient, more);
            rest = _mm256_sub_epi32(rest, _mm256_and_si256(more, freq));
            x[i] =
                _mm256_add_epi32(_mm256_slli_epi32(quotient, 8), _mm256_add_epi32(rest, _mm256_srli_epi32(entry, 24)));
        }
    }
    states_store(x, source->states);
    source->used = (uint32_t)(source->end - at);
}

static void rans_encode_pair(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count)
{
    uint32_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = model->reciprocal[0][i] | (uint32_t)model->reciprocal[1][i] << 8 | (uint32_t)model->freq[i] << 16 |
                   (uint32_t)model->start[i] << 24;
    for (uint32_t i = 0; i < count; i++)
        encode_source(table, &sources[i]);
}

static void rans_weigh_pair(const uint8_t *counts, uint32_t channels, const uint8_t weights[KVT_RANS_SYMBOLS],
                            uint32_t *sums)
{
    const pair by = pair_load(weights);
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS) {
        pair mine = pair_load(counts);
        __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(mine.half[0], by.half[0]),
                                        _mm256_maddubs_epi16(mine.half[1], by.half[1])); /* at most 128 x 127 */
        __m256i four = _mm256_madd_epi16(both, _mm256_set1_epi16(1));
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
        sums[c] = (uint32_t)_mm_cvtsi128_si32(sum);
    }
}

static void rans_assign_pair(const uint8_t *counts, uint32_t channels,
                             uint8_t costs[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS], uint8_t *assigned)
{
    for (uint32_t c = 0; c < channels; c++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t j = 0; j < KVT_RANS_CLASSES_MAX; j++) {
            uint32_t cost;
            rans_weigh_pair(counts + (size_t)c * KVT_RANS_SYMBOLS, 1, costs[j], &cost);
            assigned[c] = cost < best ? (uint8_t)j : assigned[c];
            best = cost < best ? cost : best;
        }
    }
}

#endif
