/* SPDX-License-Identifier: Apache-2.0
 *
 * Elements of a step in pairs of 32-byte vectors; as exponent_avx512.h. For exponent_avx2.c and rans_avx2.h only.
 */
#ifndef KVT_EXPONENT_AVX2_H
#define KVT_EXPONENT_AVX2_H

#include "compress/rans_body.h"

#include <immintrin.h>

/* 64 bytes. */
typedef struct pair {
    __m256i half[2];
} pair;

typedef struct pair_parts {
    pair sign; /* bit 7; other bits are anything */
    pair exponent, low, high;
} pair_parts;

KVT_FOLDED __m256i bytes_of(int value) { return _mm256_set1_epi8((char)value); }
KVT_FOLDED __m256i load256(const uint8_t *from) { return _mm256_loadu_si256((const void *)from); }
KVT_FOLDED void store256(uint8_t *to, __m256i value) { _mm256_storeu_si256((void *)to, value); }
KVT_FOLDED pair pair_load(const uint8_t *from) { return (pair){{load256(from), load256(from + 32)}}; }
KVT_FOLDED void pair_store(uint8_t *to, pair p)
{
    store256(to, p.half[0]);
    store256(to + 32, p.half[1]);
}
KVT_FOLDED uint64_t pair_mask(pair p) /* bit 7 of each byte */
{
    return (uint32_t)_mm256_movemask_epi8(p.half[0]) | (uint64_t)(uint32_t)_mm256_movemask_epi8(p.half[1]) << 32;
}
/* (value >> shift) & mask of each byte */
KVT_FOLDED __m256i field(__m256i value, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(value, shift), bytes_of(mask));
}
/* a where the mask has ones, b elsewhere */
KVT_FOLDED __m256i choose_bits(__m256i mask, __m256i a, __m256i b)
{
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

KVT_FOLDED pair_parts pair_take(kvt_element_kind kind, const uint8_t *data)
{
    const int bits = (int)kvt_mantissa_bits(kind);
    pair_parts p;
    for (int i = 0; i < 2; i++) {
        p.high.half[i] = _mm256_setzero_si256();
        if (kvt_element_kind_bytes(kind) == 1) {
            __m256i value = load256(data + (ptrdiff_t)32 * i);
            p.sign.half[i] = value;
            p.exponent.half[i] = field(value, bits, (1 << (7 - bits)) - 1);
            p.low.half[i] = field(value, 0, (1 << bits) - 1);
            continue;
        }
        __m256i a = load256(data + (ptrdiff_t)64 * i), b = load256(data + (ptrdiff_t)64 * i + 32);
        const __m256i lower = _mm256_set1_epi16(0xff);
        __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, lower), _mm256_and_si256(b, lower));
        __m256i high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
        low = _mm256_permute4x64_epi64(low, 0xd8);
        high = _mm256_permute4x64_epi64(high, 0xd8);
        p.sign.half[i] = high;
        if (kind == KVT_ELEMENT_BF16) {
            p.exponent.half[i] = _mm256_or_si256(_mm256_add_epi8(high, high), field(low, 7, 1));
            p.low.half[i] = field(low, 0, 0x7f);
        } else {
            p.exponent.half[i] = field(high, 2, 31);
            p.low.half[i] = low;
            p.high.half[i] = field(high, 0, 3);
        }
    }
    return p;
}

/* Exponents within their bits. */
KVT_FOLDED void pair_give(kvt_element_kind kind, const pair_parts *p, uint8_t *data)
{
    for (int i = 0; i < 2; i++) {
        __m256i sign = p->sign.half[i], exponent = p->exponent.half[i], low = p->low.half[i], top;
        if (kvt_element_kind_bytes(kind) == 1) {
            const int bits = kind == KVT_ELEMENT_E4M3 ? 3 : 2;
            __m256i body = choose_bits(bytes_of((1 << bits) - 1), low, _mm256_slli_epi16(exponent, bits));
            store256(data + (ptrdiff_t)32 * i, choose_bits(bytes_of(0x80), sign, body));
            continue;
        }
        if (kind == KVT_ELEMENT_BF16) {
            top = choose_bits(bytes_of(0x80), sign, _mm256_srli_epi16(exponent, 1));
            low = choose_bits(bytes_of(0x80), _mm256_slli_epi16(exponent, 7), low);
        } else {
            top = choose_bits(bytes_of(3), p->high.half[i], _mm256_slli_epi16(exponent, 2));
            top = choose_bits(bytes_of(0x80), sign, top);
        }
        low = _mm256_permute4x64_epi64(low, 0xd8);
        top = _mm256_permute4x64_epi64(top, 0xd8);
        store256(data + (ptrdiff_t)64 * i, _mm256_unpacklo_epi8(low, top));
        store256(data + (ptrdiff_t)64 * i + 32, _mm256_unpackhi_epi8(low, top));
    }
}

/* ---- raw bits ---- */

KVT_FOLDED uint8_t *pair_pack(pair low, pair high, uint32_t bits, uint8_t *to)
{
    uint32_t left = bits & 7;
    int shift = 0;
    if (bits >= 8) {
        pair_store(to, low);
        to += 64;
        low = high;
    }
    if (left >= 4) {
        store256(to, _mm256_or_si256(field(low.half[0], 0, 15), _mm256_slli_epi16(field(low.half[1], 0, 15), 4)));
        to += 32;
        left -= 4;
        shift = 4;
    }
    if (left >= 2) {
        __m256i a = field(low.half[0], shift, 3), b = _mm256_slli_epi16(field(low.half[1], shift, 3), 4);
        __m256i both = _mm256_or_si256(a, b); /* quarters 0 and 2 in the lower half, 1 and 3 in the upper */
        __m128i upper = _mm_slli_epi16(_mm256_extracti128_si256(both, 1), 2);
        _mm_storeu_si128((void *)to, _mm_or_si128(_mm256_castsi256_si128(both), upper));
        to += 16;
        left -= 2;
        shift += 2;
    }
    if (left != 0) {
        kvt_store_le64(to, pair_mask((pair){{_mm256_slli_epi16(low.half[0], 7 - shift),
                                             _mm256_slli_epi16(low.half[1], 7 - shift)}}));
        to += 8;
    }
    return to;
}

/* Bytes of ones where the mask has bits. */
KVT_FOLDED __m256i spread_bits(uint32_t mask)
{
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i all = _mm256_shuffle_epi8(_mm256_set1_epi32((int)mask), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(all, bit), bit);
}

KVT_FOLDED const uint8_t *pair_unpack(const uint8_t *from, uint32_t bits, pair *low, pair *high)
{
    pair value = {{_mm256_setzero_si256(), _mm256_setzero_si256()}};
    const uint32_t left = bits & 7;
    if (bits >= 8) {
        *low = pair_load(from);
        from += 64;
    }
    if (left >= 4) {
        __m256i packed = load256(from);
        value = (pair){{field(packed, 0, 15), field(packed, 4, 15)}};
        from += 32;
    }
    if ((left & 2) != 0) {
        __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)from));
        const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2);
        all = _mm256_srlv_epi32(all, shifts);
        for (int i = 0; i < 2; i++) {
            __m256i part = field(i == 0 ? all : _mm256_srli_epi16(all, 4), 0, 3);
            value.half[i] = _mm256_or_si256(value.half[i], _mm256_slli_epi16(part, (int)(left & 4)));
        }
        from += 16;
    }
    if ((left & 1) != 0) {
        uint64_t mask = kvt_load_le64(from);
        for (int i = 0; i < 2; i++)
            value.half[i] = _mm256_or_si256(
                value.half[i], _mm256_and_si256(spread_bits((uint32_t)(mask >> 32 * i)), bytes_of(1 << (left & 6))));
        from += 8;
    }
    *(bits >= 8 ? high : low) = value;
    return from;
}

#endif
