/* SPDX-License-Identifier: Apache-2.0
 *
 * The decoder of rans in 64-byte vectors. The 64 states lie in two vectors, low bytes and high bytes: a slot, a
 * symbol, a frequency are bytes, and a table of 128 of them is one permutation of two registers. Only the products
 * need 16 bits.
 */
#ifndef KVT_RANS_AVX512_H
#define KVT_RANS_AVX512_H

#include "compress/exponent_avx512.h"

/* A table of 256 bytes. */
typedef struct table256 {
    __m512i row[4];
} table256;

static inline table256 table_load(const uint8_t *bytes)
{
    table256 t;
    for (int i = 0; i < 4; i++)
        t.row[i] = _mm512_loadu_si512(bytes + (ptrdiff_t)64 * i);
    return t;
}

/* `upper` says which indices are above 127. */
static inline __m512i look_up(const table256 *t, __m512i index, __mmask64 upper)
{
    __m512i lower_half = _mm512_permutex2var_epi8(t->row[0], index, t->row[1]);
    __m512i upper_half = _mm512_permutex2var_epi8(t->row[2], index, t->row[3]);
    return _mm512_mask_blend_epi8(upper, lower_half, upper_half);
}

static inline __m512i even_bytes(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi16(0xff)); }
static inline __m512i odd_bytes(__m512i v) { return _mm512_srli_epi16(v, 8); }

/* Low and high bytes of 16-bit numbers, those of even and those of odd bytes. */
static inline __m512i join_low(__m512i even, __m512i odd)
{
    return choose_bits(_mm512_set1_epi16(0xff), even, _mm512_slli_epi16(odd, 8));
}
static inline __m512i join_high(__m512i even, __m512i odd)
{
    return choose_bits(_mm512_set1_epi16(0xff), _mm512_srli_epi16(even, 8), odd);
}

/* One step of decoding: the symbols of 64 states, which move on but for the bytes they ask for. */
static inline __m512i decode_step(const table256 slots[KVT_RANS_CLASSES_MAX], const table256 *freqs,
                                  const table256 *starts, __m512i tag, __m512i *low, __m512i *high)
{
    const __mmask64 odd_class = _mm512_test_epi8_mask(tag, bytes_of(0x40)), upper_class = _mm512_movepi8_mask(tag);
    const __mmask64 upper = _mm512_movepi8_mask(*low);
    __m512i first = _mm512_mask_blend_epi8(odd_class, look_up(&slots[0], *low, upper), look_up(&slots[1], *low, upper));
    __m512i second =
        _mm512_mask_blend_epi8(odd_class, look_up(&slots[2], *low, upper), look_up(&slots[3], *low, upper));
    __m512i symbol = _mm512_mask_blend_epi8(upper_class, first, second);
    __m512i freq = look_up(freqs, symbol, upper_class);
    __m512i rank = _mm512_sub_epi8(*low, look_up(starts, symbol, upper_class));
    __m512i even = _mm512_add_epi16(_mm512_mullo_epi16(even_bytes(freq), even_bytes(*high)), even_bytes(rank));
    __m512i odd = _mm512_add_epi16(_mm512_mullo_epi16(odd_bytes(freq), odd_bytes(*high)), odd_bytes(rank));
    *low = join_low(even, odd);
    *high = join_high(even, odd);
    return symbol;
}

/* A run's state in registers. */
typedef struct wide_run {
    __m512i low, high;
    uint8_t *index;
    const uint8_t *words;
    uint32_t used, count, channel;
} wide_run;

static inline wide_run wide_start(const kvt_rans_run *run)
{
    return (wide_run){.low = _mm512_loadu_si512(run->states),
                      .high = _mm512_loadu_si512(run->states + KVT_STEP),
                      .index = run->index,
                      .words = run->words,
                      .count = run->word_count,
                      .channel = run->channel};
}

static inline void wide_end(const wide_run *w, kvt_rans_run *run)
{
    _mm512_storeu_si512(run->states, w->low);
    _mm512_storeu_si512(run->states + KVT_STEP, w->high);
    run->used = w->used;
}

KVT_FOLDED void wide_step(const table256 slots[KVT_RANS_CLASSES_MAX], const table256 *freqs, const table256 *starts,
                          const kvt_lanes *lanes, wide_run *w)
{
    __m512i tag = _mm512_loadu_si512(lanes->tag + w->channel);
    _mm512_storeu_si512(w->index, decode_step(slots, freqs, starts, tag, &w->low, &w->high));
    __mmask64 empty = _mm512_testn_epi8_mask(w->high, w->high);
    __m512i next = list_load(w->words, w->used, w->count);
    w->high = _mm512_mask_mov_epi8(w->high, empty, w->low);
    w->low = _mm512_mask_expand_epi8(w->low, empty, next);
    w->used += (uint32_t)__builtin_popcountll(empty);
    w->index += KVT_STEP;
    w->channel = kvt_lanes_next(lanes, w->channel);
}

KVT_FOLDED void decode_together(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *runs, uint32_t count)
{
    table256 slots[KVT_RANS_CLASSES_MAX];
    for (int j = 0; j < KVT_RANS_CLASSES_MAX; j++)
        slots[j] = table_load(model->slot[j]);
    const table256 freqs = table_load(model->freq), starts = table_load(model->start);
    wide_run w[KVT_RANS_TOGETHER];
    uint32_t steps = UINT32_MAX;
    for (uint32_t k = 0; k < count; k++) {
        w[k] = wide_start(&runs[k]);
        steps = runs[k].steps < steps ? runs[k].steps : steps;
    }
    for (uint32_t step = 0; step < steps; step++)
        for (uint32_t k = 0; k < count; k++)
            wide_step(slots, &freqs, &starts, lanes, &w[k]);
    for (uint32_t k = 0; k < count; k++) {
        for (uint32_t step = steps; step < runs[k].steps; step++)
            wide_step(slots, &freqs, &starts, lanes, &w[k]);
        wide_end(&w[k], &runs[k]);
    }
}

static void rans_decode_wide(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *runs, uint32_t count)
{
    if (count == 1)
        decode_together(model, lanes, runs, 1);
    else if (count == 2)
        decode_together(model, lanes, runs, 2);
    else
        decode_together(model, lanes, runs, 3);
}

#endif
