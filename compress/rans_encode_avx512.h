/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder of rans in 64-byte vectors; states and tables as in rans_avx512.h. For exponent_avx512.c only.
 */
#ifndef KVT_RANS_ENCODE_AVX512_H
#define KVT_RANS_ENCODE_AVX512_H

#include "compress/rans_avx512.h"

/* x / freq and x mod freq of 32 numbers below 256 freq. */
static inline __m512i divide(__m512i x, __m512i freq, __m512i reciprocal, __m512i *rest)
{
    __m512i quotient = _mm512_mulhi_epu16(x, reciprocal); /* at most one too small */
    __m512i left = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, freq));
    __mmask32 more = _mm512_cmpge_epu16_mask(left, freq);
    *rest = _mm512_mask_sub_epi16(left, more, left, freq);
    return _mm512_mask_add_epi16(quotient, more, quotient, _mm512_set1_epi16(1));
}

typedef struct encoding_tables {
    table256 freq, start, reciprocal[2];
} encoding_tables;

/* A source's state in registers. */
typedef struct wide_source {
    __m512i low, high;
    const uint8_t *index; /* of the step behind the next */
    uint8_t *at;
} wide_source;

KVT_FOLDED void encode_step(const encoding_tables *tables, wide_source *w)
{
    w->index -= KVT_STEP;
    __m512i symbol = _mm512_loadu_si512(w->index);
    __mmask64 upper = _mm512_movepi8_mask(symbol);
    __m512i freq = look_up(&tables->freq, symbol, upper);
    __m512i below = look_up(&tables->reciprocal[0], symbol, upper);
    __m512i above = look_up(&tables->reciprocal[1], symbol, upper);
    __mmask64 full = _mm512_cmpge_epu8_mask(w->high, freq);
    uint32_t count = (uint32_t)__builtin_popcountll(full);
    w->at -= count;
    _mm512_mask_storeu_epi8(w->at, _bzhi_u64(~0ull, count), _mm512_maskz_compress_epi8(full, w->low));
    __m512i low = _mm512_mask_mov_epi8(w->low, full, w->high), high = _mm512_maskz_mov_epi8(~full, w->high);
    __m512i even_rest, odd_rest;
    __m512i even = divide(_mm512_or_si512(even_bytes(low), _mm512_slli_epi16(high, 8)), even_bytes(freq),
                          _mm512_or_si512(even_bytes(below), _mm512_slli_epi16(above, 8)), &even_rest);
    __m512i odd = divide(choose_bits(_mm512_set1_epi16(0xff), odd_bytes(low), high), odd_bytes(freq),
                         choose_bits(_mm512_set1_epi16(0xff), odd_bytes(below), above), &odd_rest);
    w->high = join_low(even, odd);
    w->low = _mm512_add_epi8(join_low(even_rest, odd_rest), look_up(&tables->start, symbol, upper));
}

static inline wide_source wide_begin(const kvt_rans_source *source)
{
    return (wide_source){.low = _mm512_loadu_si512(source->states),
                         .high = _mm512_loadu_si512(source->states + KVT_STEP),
                         .index = source->index + (size_t)source->steps * KVT_STEP,
                         .at = source->end};
}

static inline void wide_finish(const wide_source *w, kvt_rans_source *source)
{
    _mm512_storeu_si512(source->states, w->low);
    _mm512_storeu_si512(source->states + KVT_STEP, w->high);
    source->used = (uint32_t)(source->end - w->at);
}

KVT_FOLDED void encode_together(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count)
{
    const encoding_tables tables = {
        table_load(model->freq),
        table_load(model->start),
        {table_load(model->reciprocal[0]), table_load(model->reciprocal[1])},
    };
    wide_source w[KVT_RANS_TOGETHER];
    uint32_t steps = UINT32_MAX;
    for (uint32_t k = 0; k < count; k++) {
        w[k] = wide_begin(&sources[k]);
        steps = sources[k].steps < steps ? sources[k].steps : steps;
    }
    for (uint32_t step = 0; step < steps; step++)
        for (uint32_t k = 0; k < count; k++)
            encode_step(&tables, &w[k]);
    for (uint32_t k = 0; k < count; k++) {
        for (uint32_t step = steps; step < sources[k].steps; step++)
            encode_step(&tables, &w[k]);
        wide_finish(&w[k], &sources[k]);
    }
}

static void rans_encode_wide(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count)
{
    if (count == 1)
        encode_together(model, sources, 1);
    else if (count == 2)
        encode_together(model, sources, 2);
    else
        encode_together(model, sources, 3);
}

#endif
