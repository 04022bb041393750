/* SPDX-License-Identifier: Apache-2.0
 *
 * Elements of a step in 64-byte vectors: a vector of bytes for each part. For exponent_avx512.c and rans_avx512.h only.
 */
#ifndef KVT_EXPONENT_AVX512_H
#define KVT_EXPONENT_AVX512_H

#include "compress/rans_body.h"

#include <immintrin.h>

typedef struct wide_parts {
    __mmask64 sign;
    __m512i exponent, low, high; /* high: fp16's two topmost mantissa bits */
} wide_parts;

KVT_FOLDED __m512i bytes_of(int value) { return _mm512_set1_epi8((char)value); }

/* 0, step, 2 step, ... from `first`: what a permutation of bytes takes from two vectors. */
KVT_FOLDED __m512i every_second(uint8_t first)
{
    __m512i even = _mm512_set_epi64(0x7e7c7a7876747270, 0x6e6c6a6866646260, 0x5e5c5a5856545250, 0x4e4c4a4846444240,
                                    0x3e3c3a3836343230, 0x2e2c2a2826242220, 0x1e1c1a1816141210, 0x0e0c0a0806040200);
    return _mm512_add_epi8(even, bytes_of(first));
}

/* Byte i of one vector, then of the other, from i = first. */
KVT_FOLDED __m512i alternating(uint8_t first)
{
    __m512i pairs = _mm512_set_epi64(0x5f1f5e1e5d1d5c1c, 0x5b1b5a1a59195818, 0x5717561655155414, 0x5313521251115010,
                                     0x4f0f4e0e4d0d4c0c, 0x4b0b4a0a49094808, 0x4707460645054404, 0x4303420241014000);
    return _mm512_add_epi8(pairs, bytes_of(first));
}

KVT_FOLDED wide_parts wide_take(kvt_element_kind kind, const uint8_t *data)
{
    wide_parts p = {.high = _mm512_setzero_si512()};
    if (kvt_element_kind_bytes(kind) == 1) {
        __m512i value = _mm512_loadu_si512(data);
        const int bits = kind == KVT_ELEMENT_E4M3 ? 3 : 2;
        p.sign = _mm512_movepi8_mask(value);
        p.exponent = _mm512_and_si512(_mm512_srli_epi16(value, (unsigned)bits), bytes_of((1 << (7 - bits)) - 1));
        p.low = _mm512_and_si512(value, bytes_of((1 << bits) - 1));
        return p;
    }
    __m512i first = _mm512_loadu_si512(data), second = _mm512_loadu_si512(data + 64);
    __m512i low = _mm512_permutex2var_epi8(first, every_second(0), second);
    __m512i high = _mm512_permutex2var_epi8(first, every_second(1), second);
    p.sign = _mm512_movepi8_mask(high);
    if (kind == KVT_ELEMENT_BF16) {
        __m512i twice = _mm512_add_epi8(high, high);
        p.exponent =
            _mm512_mask_or_epi64(twice, 0xff, twice, _mm512_maskz_mov_epi8(_mm512_movepi8_mask(low), bytes_of(1)));
        p.low = _mm512_and_si512(low, bytes_of(0x7f));
        return p;
    }
    p.exponent = _mm512_and_si512(_mm512_srli_epi16(high, 2), bytes_of(31));
    p.low = low;
    p.high = _mm512_and_si512(high, bytes_of(3));
    return p;
}

/* a where the mask has ones, b elsewhere */
KVT_FOLDED __m512i choose_bits(__m512i mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi64(mask, a, b, 0xca);
}

/* `sign` holds it in bit 7 of each byte; other bits are anything. */
KVT_FOLDED void wide_give(kvt_element_kind kind, __m512i sign, __m512i exponent, __m512i low, __m512i high,
                          uint8_t *data)
{
    if (kvt_element_kind_bytes(kind) == 1) {
        const int bits = kind == KVT_ELEMENT_E4M3 ? 3 : 2;
        __m512i body = choose_bits(bytes_of((1 << bits) - 1), low, _mm512_slli_epi16(exponent, (unsigned)bits));
        _mm512_storeu_si512(data, choose_bits(bytes_of(0x80), sign, body));
        return;
    }
    __m512i top;
    if (kind == KVT_ELEMENT_BF16) {
        top = choose_bits(bytes_of(0x80), sign, _mm512_srli_epi16(exponent, 1));
        low = choose_bits(bytes_of(0x80), _mm512_slli_epi16(exponent, 7), low);
    } else {
        top = choose_bits(bytes_of(3), high, _mm512_slli_epi16(exponent, 2));
        top = choose_bits(bytes_of(0x80), sign, top);
    }
    _mm512_storeu_si512(data, _mm512_permutex2var_epi8(low, alternating(0), top));
    _mm512_storeu_si512(data + 64, _mm512_permutex2var_epi8(low, alternating(32), top));
}

/* ---- raw bits: kvt_bits_pack and kvt_bits_unpack ---- */

/* Fields of 2 bits move by 0, 2, 4, 6 in the vector's quarters, fields of 4 bits by 0, 4 in its halves. */
KVT_FOLDED __m512i quarters(void) { return _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0); }

KVT_FOLDED uint8_t *pack_nibbles(__m512i values, uint8_t *to)
{
    __m256i lower = _mm512_castsi512_si256(values), upper = _mm512_extracti64x4_epi64(values, 1);
    _mm256_storeu_si256((void *)to, _mm256_or_si256(lower, _mm256_slli_epi16(upper, 4)));
    return to + 32;
}

KVT_FOLDED uint8_t *pack_pairs(__m512i values, uint8_t *to)
{
    __m512i moved = _mm512_sllv_epi32(values, quarters());
    __m256i half = _mm256_or_si256(_mm512_castsi512_si256(moved), _mm512_extracti64x4_epi64(moved, 1));
    _mm_storeu_si128((void *)to, _mm_or_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
    return to + 16;
}

KVT_FOLDED uint8_t *pack_single(__m512i values, uint8_t *to)
{
    kvt_store_le64(to, _mm512_test_epi8_mask(values, bytes_of(1)));
    return to + 8;
}

KVT_FOLDED __m512i field(__m512i values, unsigned shift, int mask)
{
    return _mm512_and_si512(_mm512_srli_epi16(values, shift), bytes_of(mask));
}

KVT_FOLDED uint8_t *wide_pack(__m512i low, __m512i high, uint32_t bits, uint8_t *to)
{
    uint32_t done = 0;
    if (bits >= 8) {
        _mm512_storeu_si512(to, low);
        to += 64;
        done = 8;
        low = high;
    }
    uint32_t left = bits - done, shift = 0;
    if (left >= 4) {
        to = pack_nibbles(field(low, 0, 15), to);
        left -= 4;
        shift = 4;
    }
    if (left >= 2) {
        to = pack_pairs(field(low, shift, 3), to);
        left -= 2;
        shift += 2;
    }
    return left != 0 ? pack_single(field(low, shift, 1), to) : to;
}

KVT_FOLDED const uint8_t *wide_unpack(const uint8_t *from, uint32_t bits, __m512i *low, __m512i *high)
{
    __m512i value = _mm512_setzero_si512();
    uint32_t left = bits & 7;
    if (bits >= 8) {
        *low = _mm512_loadu_si512(from);
        from += 64;
    }
    if (left >= 4) {
        __m512i both = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)from));
        const __m512i shifts = _mm512_set_epi32(4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
        value = _mm512_and_si512(_mm512_srlv_epi32(both, shifts), bytes_of(15));
        from += 32;
    }
    if ((left & 2) != 0) {
        __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)from));
        __m512i pairs = _mm512_and_si512(_mm512_srlv_epi32(all, quarters()), bytes_of(3));
        value = _mm512_or_si512(value, _mm512_slli_epi16(pairs, left & 4));
        from += 16;
    }
    if ((left & 1) != 0) {
        __m512i ones = _mm512_maskz_mov_epi8(kvt_load_le64(from), bytes_of(1 << (left & 6)));
        value = _mm512_or_si512(value, ones);
        from += 8;
    }
    *(bits >= 8 ? high : low) = value;
    return from;
}

/* The next 64 bytes of a list, zeros behind its end. */
KVT_FOLDED __m512i list_load(const uint8_t *list, uint32_t used, uint32_t count)
{
    if (count >= 64 && used <= count - 64)
        return _mm512_loadu_si512(list + used);
    uint32_t left = used < count ? count - used : 0;
    return _mm512_maskz_loadu_epi8(_bzhi_u64(~0ull, left), list + (used < count ? used : 0));
}

#endif
