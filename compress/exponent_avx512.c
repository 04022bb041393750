/* SPDX-License-Identifier: Apache-2.0
 *
 * The exponent codecs in 64-byte vectors, one step each. Compiled with AVX-512 (VBMI, VBMI2) on, called only where the
 * CPU has it.
 */
#include "compress/rans_encode_avx512.h"
#include "compress/rans_stats_avx512.h"

/* A hint, harmless behind the end of the data. The hardware's own stops at each 4 KiB. */
static inline void prefetch(const uint8_t *at, uintptr_t ahead)
{
    _mm_prefetch((const char *)((uintptr_t)at + ahead), _MM_HINT_T0);
}

/* Append the bytes of the mask to a list. More than 16 are rare, and a store of 64 bytes mostly crosses a cache
 * line. */
static inline void append(uint8_t *list, __m512i values, __mmask64 mask)
{
    __m512i packed = _mm512_maskz_compress_epi8(mask, values);
    if (__builtin_expect(__builtin_popcountll(mask) <= 16, 1))
        _mm_storeu_si128((void *)list, _mm512_castsi512_si128(packed));
    else
        _mm512_storeu_si512(list, packed);
}

KVT_FOLDED void column_stats_wide_of(kvt_element_kind kind, const uint8_t *data, uint32_t tokens, uint32_t channels,
                                     uint32_t stride, uint8_t *exponent_max, uint32_t *negative)
{
    enum { BLOCK = 1024, FLUSH = 255, AHEAD = 4096 };
    const size_t width = kvt_element_kind_bytes(kind), row_bytes = channels * width;
    const __m512i infinite = bytes_of((int)kvt_exponent_max(kind));
    const uint32_t whole = channels / KVT_STEP * KVT_STEP;
    for (uint32_t block = 0; block < whole; block += BLOCK) {
        const uint32_t end = (uint32_t)kvt_min_u64(whole, block + BLOCK);
        for (uint32_t t = 0, taken = 0; t < tokens;) {
            uint8_t negatives[BLOCK] = {0};
            for (taken = 0; t < tokens && taken < FLUSH; t += stride, taken++) {
                for (uint32_t c = block; c < end; c += KVT_STEP) {
                    const uint8_t *at = data + t * row_bytes + c * width;
                    prefetch(at, AHEAD);
                    prefetch(at, AHEAD + 64);
                    wide_parts p = wide_take(kind, at);
                    __mmask64 finite = kind == KVT_ELEMENT_E4M3 ? ~0ull : _mm512_cmpneq_epi8_mask(p.exponent, infinite);
                    __m512i most = _mm512_loadu_si512(exponent_max + c),
                            count = _mm512_loadu_si512(negatives + c - block);
                    _mm512_storeu_si512(exponent_max + c, _mm512_mask_max_epu8(most, finite, most, p.exponent));
                    _mm512_storeu_si512(negatives + c - block, _mm512_mask_add_epi8(count, p.sign, count, bytes_of(1)));
                }
            }
            for (uint32_t c = block; c < end; c++)
                negative[c] += negatives[c - block];
        }
    }
    for (uint32_t t = 0; t < tokens && whole != channels; t += stride)
        column_stats_of(kind, data + t * row_bytes + whole * width, 1, channels - whole, 1, exponent_max + whole,
                        negative + whole);
}

KVT_FOLDED void xpack_split_wide_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes,
                                    uint32_t channel, uint32_t steps, uint8_t *raw, uint8_t *codes,
                                    kvt_escapes *escapes)
{
    uint8_t *into = escapes->exponent + escapes->count; /* in a register: stores of bytes may alias anything */
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        wide_parts p = wide_take(kind, data);
        __m512i distance = _mm512_sub_epi8(_mm512_loadu_si512(lanes->base + channel), p.exponent);
        __mmask64 escape = _mm512_cmpge_epu8_mask(distance, bytes_of(KVT_XPACK_ESCAPE));
        for (int plane = 0; plane < 3; plane++)
            kvt_store_le64(codes + (ptrdiff_t)8 * plane,
                           _mm512_test_epi8_mask(distance, bytes_of(1 << plane)) | escape);
        append(into, p.exponent, escape);
        into += __builtin_popcountll(escape);
        const uint32_t bits = kvt_xpack_raw_bits(kind);
        __m512i sign = _mm512_maskz_mov_epi8(p.sign, bytes_of(1 << ((bits - 1) & 7)));
        if (bits > 8)
            p.high = _mm512_or_si512(p.high, sign);
        else
            p.low = _mm512_or_si512(p.low, sign);
        raw = wide_pack(p.low, p.high, bits, raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        codes += 24;
    }
    escapes->count = (uint32_t)(into - escapes->exponent);
}

KVT_FOLDED void xpack_merge_wide_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                    uint32_t steps, const uint8_t *raw, const uint8_t *codes, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_xpack_raw_bits(kind), count = escapes->count;
    const uint8_t *list = escapes->exponent;
    uint32_t used = escapes->used;
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        __m512i low, high = _mm512_setzero_si512();
        raw = wide_unpack(raw, bits, &low, &high);
        const uint64_t k0 = kvt_load_le64(codes), k1 = kvt_load_le64(codes + 8), k2 = kvt_load_le64(codes + 16);
        const uint64_t escape = k0 & k1 & k2;
        __m512i exponent = _mm512_loadu_si512(lanes->base + channel);
        exponent = _mm512_mask_sub_epi8(exponent, k0, exponent, bytes_of(1));
        exponent = _mm512_mask_sub_epi8(exponent, k1, exponent, bytes_of(2));
        exponent = _mm512_mask_sub_epi8(exponent, k2, exponent, bytes_of(4));
        exponent = _mm512_mask_expand_epi8(exponent, escape, list_load(list, used, count));
        used += (uint32_t)__builtin_popcountll(escape);
        if (kind != KVT_ELEMENT_BF16)
            exponent = _mm512_and_si512(exponent, bytes_of((int)kvt_exponent_max(kind)));
        __m512i sign = _mm512_slli_epi16(bits > 8 ? high : low, 7 - ((bits - 1) & 7));
        wide_give(kind, sign, exponent, low, high, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        codes += 24;
    }
    escapes->used = used;
}

/* Bit 0: the mantissa's top bit. */
KVT_FOLDED __m512i top_bit(kvt_element_kind kind, const wide_parts *p)
{
    const uint32_t top = kvt_mantissa_bits(kind) - 1;
    return field(top >= 8 ? p->high : p->low, top & 7, 1);
}

KVT_FOLDED __m512i wide_symbols(kvt_element_kind kind, const wide_parts *p, const kvt_lanes *lanes, uint32_t channel)
{
    __m512i distance = _mm512_sub_epi8(_mm512_loadu_si512(lanes->base + channel), p->exponent);
    distance = _mm512_min_epu8(distance, bytes_of(KVT_RANS_LEVELS_MAX));
    __m512i symbol = _mm512_or_si512(_mm512_add_epi8(distance, distance), top_bit(kind, p));
    symbol = _mm512_or_si512(symbol, _mm512_maskz_mov_epi8(p->sign, bytes_of(0x20)));
    return _mm512_xor_si512(symbol, _mm512_loadu_si512(lanes->tag + channel));
}

KVT_FOLDED void rans_split_wide_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                   uint32_t steps, const kvt_rans_model *model, uint8_t *raw, uint8_t *index,
                                   kvt_escapes *escapes)
{
    const table256 freqs = table_load(model->freq);
    uint8_t *exponents = escapes->exponent, *rests = escapes->rest;
    uint32_t count = escapes->count; /* in a register: stores of bytes may alias anything */
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        wide_parts p = wide_take(kind, data);
        __m512i symbol = wide_symbols(kind, &p, lanes, channel);
        __m512i freq = look_up(&freqs, symbol, _mm512_movepi8_mask(symbol));
        __mmask64 escape = _mm512_testn_epi8_mask(freq, freq) |
                           _mm512_cmpeq_epi8_mask(_mm512_and_si512(symbol, bytes_of(63)), bytes_of(KVT_RANS_ESCAPE));
        __m512i bit = top_bit(kind, &p), rest = _mm512_add_epi8(bit, bit);
        rest = _mm512_mask_add_epi8(rest, p.sign, rest, bytes_of(1));
        append(exponents + count, p.exponent, escape);
        append(rests + count, rest, escape);
        count += (uint32_t)__builtin_popcountll(escape);
        symbol = _mm512_mask_mov_epi8(symbol, escape, choose_bits(bytes_of(0xc0), symbol, bytes_of(KVT_RANS_ESCAPE)));
        _mm512_storeu_si512(index, symbol);
        raw = wide_pack(p.low, p.high, kvt_rans_raw_bits(kind), raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        index += KVT_STEP;
    }
    escapes->count = count;
}

KVT_FOLDED void rans_merge_wide_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                   uint32_t steps, const uint8_t *raw, const uint8_t *index, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_rans_raw_bits(kind);
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        __m512i low, high = _mm512_setzero_si512();
        raw = wide_unpack(raw, bits, &low, &high);
        __m512i symbol = _mm512_loadu_si512(index);
        __mmask64 escape = _mm512_cmpeq_epi8_mask(_mm512_and_si512(symbol, bytes_of(63)), bytes_of(KVT_RANS_ESCAPE));
        symbol = _mm512_xor_si512(symbol, _mm512_loadu_si512(lanes->tag + channel));
        __m512i exponent = _mm512_sub_epi8(_mm512_loadu_si512(lanes->base + channel), field(symbol, 1, 15));
        if (escape != 0) {
            exponent =
                _mm512_mask_expand_epi8(exponent, escape, list_load(escapes->exponent, escapes->used, escapes->count));
            __m512i rest = list_load(escapes->rest, escapes->used, escapes->count);
            rest = choose_bits(bytes_of(1), _mm512_srli_epi16(rest, 1), _mm512_slli_epi16(rest, 5));
            symbol = _mm512_mask_expand_epi8(symbol, escape, rest);
            escapes->used += (uint32_t)__builtin_popcountll(escape);
        }
        if (kind != KVT_ELEMENT_BF16)
            exponent = _mm512_and_si512(exponent, bytes_of((int)kvt_exponent_max(kind)));
        __m512i top = _mm512_slli_epi16(_mm512_and_si512(symbol, bytes_of(1)), bits & 7);
        if (bits > 8)
            high = _mm512_or_si512(high, top);
        else
            low = _mm512_or_si512(low, top);
        wide_give(kind, _mm512_slli_epi16(symbol, 2), exponent, low, high, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        index += KVT_STEP;
    }
}

/* Eight symbols a load: a load of its own for each would wait for the stores before it. */
static inline void count_row(const uint8_t *row, size_t channels, uint8_t *counts)
{
    size_t c = 0;
    for (; c + 8 <= channels; c += 8, counts += 8 * KVT_RANS_SYMBOLS) {
        uint64_t eight = kvt_load_le64(row + c);
        for (int i = 0; i < 8; i++)
            counts[i * KVT_RANS_SYMBOLS + (eight >> 8 * i & 0xff)]++;
    }
    for (; c < channels; c++, counts += KVT_RANS_SYMBOLS)
        counts[row[c]]++;
}

KVT_FOLDED void rans_count_wide_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t tokens,
                                   uint32_t stride, uint8_t *row, uint8_t *counts)
{
    const size_t channels = lanes->channels, width = kvt_element_kind_bytes(kind);
    for (uint32_t t = 0; t < tokens; t += stride) {
        const uint8_t *from = data + t * channels * width;
        for (uint32_t c = 0; c < channels; c += KVT_STEP) {
            uint8_t last[2 * KVT_STEP] = {0};
            const uint8_t *at = from + c * width;
            if (channels - c < KVT_STEP)
                at = memcpy(last, at, (channels - c) * width);
            wide_parts p = wide_take(kind, at);
            __m512i symbol = wide_symbols(kind, &p, lanes, c);
            _mm512_storeu_si512(row + c, _mm512_and_si512(symbol, bytes_of(63)));
        }
        count_row(row, channels, counts);
    }
}

#define KVT_LOOP(name) name##_wide_of
#include "compress/exponent_table.h"

const kvt_exponent_ops kvt_exponent_avx512 = {.name = "avx512",
                                              .column_stats = column_stats,
                                              .xpack_split = xpack_split,
                                              .xpack_merge = xpack_merge,
                                              .rans_split = rans_split,
                                              .rans_merge = rans_merge,
                                              .rans_encode = rans_encode_wide,
                                              .rans_decode = rans_decode_wide,
                                              .rans_count = rans_count,
                                              .rans_weigh = rans_weigh_wide,
                                              .rans_assign = rans_assign_wide,
                                              .rans_sum = rans_sum_wide};
