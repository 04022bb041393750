/* SPDX-License-Identifier: Apache-2.0
 *
 * The exponent codecs in 32-byte vectors. Compiled with AVX2 and BMI2 on, called only where the CPU has them.
 */
#include "compress/rans_avx2.h"

KVT_FOLDED void column_stats_pair_of(kvt_element_kind kind, const uint8_t *data, uint32_t tokens, uint32_t channels,
                                     uint32_t stride, uint8_t *exponent_max, uint32_t *negative)
{
    enum { BLOCK = 1024, FLUSH = 255 };
    const size_t width = kvt_element_kind_bytes(kind), row_bytes = channels * width;
    const __m256i infinite = bytes_of(kind == KVT_ELEMENT_E4M3 ? 0x7f : (int)kvt_exponent_max(kind));
    const uint32_t whole = channels / KVT_STEP * KVT_STEP;
    for (uint32_t block = 0; block < whole; block += BLOCK) {
        const uint32_t end = (uint32_t)kvt_min_u64(whole, block + BLOCK);
        for (uint32_t t = 0, taken = 0; t < tokens;) {
            uint8_t negatives[BLOCK] = {0};
            for (taken = 0; t < tokens && taken < FLUSH; t += stride, taken++) {
                for (uint32_t c = block; c < end; c += KVT_STEP) {
                    pair_parts p = pair_take(kind, data + t * row_bytes + c * width);
                    for (int i = 0; i < 2; i++) {
                        uint8_t *most = exponent_max + c + 32 * i, *count = negatives + c - block + 32 * i;
                        __m256i finite =
                            _mm256_andnot_si256(_mm256_cmpeq_epi8(p.exponent.half[i], infinite), p.exponent.half[i]);
                        store256(most, _mm256_max_epu8(load256(most), finite));
                        store256(count, _mm256_add_epi8(load256(count), field(p.sign.half[i], 7, 1)));
                    }
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

KVT_FOLDED void xpack_split_pair_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes,
                                    uint32_t channel, uint32_t steps, uint8_t *raw, uint8_t *codes,
                                    kvt_escapes *escapes)
{
    const uint32_t bits = kvt_xpack_raw_bits(kind);
    uint8_t *into = escapes->exponent + escapes->count;
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        pair_parts p = pair_take(kind, data);
        pair base = pair_load(lanes->base + channel), code, plane;
        uint64_t escape = UINT64_MAX;
        for (int i = 0; i < 2; i++)
            code.half[i] =
                _mm256_min_epu8(_mm256_sub_epi8(base.half[i], p.exponent.half[i]), bytes_of(KVT_XPACK_ESCAPE));
        for (int k = 0; k < 3; k++) {
            plane.half[0] = _mm256_slli_epi16(code.half[0], 7 - k);
            plane.half[1] = _mm256_slli_epi16(code.half[1], 7 - k);
            uint64_t mask = pair_mask(plane);
            kvt_store_le64(codes + (ptrdiff_t)8 * k, mask);
            escape &= mask;
        }
        uint8_t exponents[KVT_STEP];
        pair_store(exponents, p.exponent);
        for (; escape != 0; escape &= escape - 1)
            *into++ = exponents[__builtin_ctzll(escape)];
        for (int i = 0; i < 2; i++) {
            __m256i sign = _mm256_slli_epi16(field(p.sign.half[i], 7, 1), (int)((bits - 1) & 7));
            if (bits > 8)
                p.high.half[i] = _mm256_or_si256(p.high.half[i], sign);
            else
                p.low.half[i] = _mm256_or_si256(p.low.half[i], sign);
        }
        raw = pair_pack(p.low, p.high, bits, raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        codes += 24;
    }
    escapes->count = (uint32_t)(into - escapes->exponent);
}

KVT_FOLDED void xpack_merge_pair_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                    uint32_t steps, const uint8_t *raw, const uint8_t *codes, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_xpack_raw_bits(kind);
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        pair_parts p;
        p.high = (pair){{_mm256_setzero_si256(), _mm256_setzero_si256()}};
        raw = pair_unpack(raw, bits, &p.low, &p.high);
        const uint64_t k[3] = {kvt_load_le64(codes), kvt_load_le64(codes + 8), kvt_load_le64(codes + 16)};
        p.exponent = pair_load(lanes->base + channel);
        for (int i = 0; i < 2; i++)
            for (int plane = 0; plane < 3; plane++) {
                __m256i ones = _mm256_and_si256(spread_bits((uint32_t)(k[plane] >> 32 * i)), bytes_of(1 << plane));
                p.exponent.half[i] = _mm256_sub_epi8(p.exponent.half[i], ones);
            }
        uint64_t escape = k[0] & k[1] & k[2];
        if (escape != 0) {
            uint8_t exponents[KVT_STEP];
            pair_store(exponents, p.exponent);
            for (; escape != 0; escape &= escape - 1)
                exponents[__builtin_ctzll(escape)] = next_escape(escapes);
            p.exponent = pair_load(exponents);
        }
        for (int i = 0; i < 2; i++) {
            if (kind != KVT_ELEMENT_BF16)
                p.exponent.half[i] = field(p.exponent.half[i], 0, (int)kvt_exponent_max(kind));
            p.sign.half[i] = _mm256_slli_epi16(bits > 8 ? p.high.half[i] : p.low.half[i], 7 - (int)((bits - 1) & 7));
        }
        pair_give(kind, &p, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        codes += 24;
    }
}

KVT_FOLDED pair pair_symbols(kvt_element_kind kind, const pair_parts *p, const kvt_lanes *lanes, uint32_t channel)
{
    const uint32_t top = kvt_mantissa_bits(kind) - 1;
    pair symbol;
    for (int i = 0; i < 2; i++) {
        __m256i distance = _mm256_sub_epi8(load256(lanes->base + channel + 32 * i), p->exponent.half[i]);
        distance = _mm256_min_epu8(distance, bytes_of(KVT_RANS_LEVELS_MAX));
        __m256i bit = field(top >= 8 ? p->high.half[i] : p->low.half[i], (int)(top & 7), 1);
        __m256i s = _mm256_or_si256(_mm256_add_epi8(distance, distance), bit);
        s = _mm256_or_si256(s, field(p->sign.half[i], 2, 0x20));
        symbol.half[i] = _mm256_xor_si256(s, load256(lanes->tag + channel + 32 * i));
    }
    return symbol;
}

KVT_FOLDED void rans_split_pair_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                   uint32_t steps, const kvt_rans_model *model, uint8_t *raw, uint8_t *index,
                                   kvt_escapes *escapes)
{
    const uint32_t top = kvt_mantissa_bits(kind) - 1;
    uint32_t count = escapes->count;
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        pair_parts p = pair_take(kind, data);
        uint8_t symbols[KVT_STEP], coded[KVT_STEP], exponents[KVT_STEP], signs[KVT_STEP], mantissas[KVT_STEP];
        pair_store(symbols, pair_symbols(kind, &p, lanes, channel));
        for (uint32_t i = 0; i < KVT_STEP; i++)
            coded[i] = model->freq[symbols[i]];
        uint64_t escape = 0;
        for (int i = 0; i < 2; i++) {
            __m256i none = _mm256_cmpeq_epi8(load256(coded + (ptrdiff_t)32 * i), _mm256_setzero_si256());
            __m256i same =
                _mm256_cmpeq_epi8(field(load256(symbols + (ptrdiff_t)32 * i), 0, 63), bytes_of(KVT_RANS_ESCAPE));
            escape |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_or_si256(none, same)) << 32 * i;
        }
        if (escape != 0) {
            pair_store(exponents, p.exponent);
            pair_store(signs, p.sign);
            pair_store(mantissas, top >= 8 ? p.high : p.low);
        }
        for (; escape != 0; escape &= escape - 1, count++) {
            uint32_t i = (uint32_t)__builtin_ctzll(escape);
            symbols[i] = (uint8_t)((symbols[i] & 0xc0) | KVT_RANS_ESCAPE);
            escapes->exponent[count] = exponents[i];
            escapes->rest[count] = (uint8_t)(signs[i] >> 7 | (mantissas[i] >> (top & 7) & 1) << 1);
        }
        memcpy(index, symbols, KVT_STEP);
        raw = pair_pack(p.low, p.high, kvt_rans_raw_bits(kind), raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        index += KVT_STEP;
    }
    escapes->count = count;
}

/* Exponents and symbols of the escapes in place of what their codes said. */
static inline void patch_escapes(uint64_t escape, kvt_escapes *escapes, pair *exponent, pair *symbol)
{
    uint8_t exponents[KVT_STEP], symbols[KVT_STEP];
    pair_store(exponents, *exponent);
    pair_store(symbols, *symbol);
    for (; escape != 0; escape &= escape - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(escape), at = escapes->used;
        exponents[i] = next_escape(escapes);
        uint32_t rest = at < escapes->count ? escapes->rest[at] : 0;
        symbols[i] = (uint8_t)((rest & 1) << 5 | (rest >> 1 & 1));
    }
    *exponent = pair_load(exponents);
    *symbol = pair_load(symbols);
}

KVT_FOLDED void rans_merge_pair_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                                   uint32_t steps, const uint8_t *raw, const uint8_t *index, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_rans_raw_bits(kind);
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        pair_parts p;
        pair symbol = pair_load(index), base = pair_load(lanes->base + channel), tag = pair_load(lanes->tag + channel);
        uint64_t escape = 0;
        p.high = (pair){{_mm256_setzero_si256(), _mm256_setzero_si256()}};
        raw = pair_unpack(raw, bits, &p.low, &p.high);
        for (int i = 0; i < 2; i++) {
            __m256i same = _mm256_cmpeq_epi8(field(symbol.half[i], 0, 63), bytes_of(KVT_RANS_ESCAPE));
            escape |= (uint64_t)(uint32_t)_mm256_movemask_epi8(same) << 32 * i;
            symbol.half[i] = _mm256_xor_si256(symbol.half[i], tag.half[i]);
            p.exponent.half[i] = _mm256_sub_epi8(base.half[i], field(symbol.half[i], 1, 15));
        }
        if (escape != 0)
            patch_escapes(escape, escapes, &p.exponent, &symbol);
        for (int i = 0; i < 2; i++) {
            if (kind != KVT_ELEMENT_BF16)
                p.exponent.half[i] = field(p.exponent.half[i], 0, (int)kvt_exponent_max(kind));
            __m256i top = _mm256_slli_epi16(field(symbol.half[i], 0, 1), (int)(bits & 7));
            p.sign.half[i] = _mm256_slli_epi16(symbol.half[i], 2);
            if (bits > 8)
                p.high.half[i] = _mm256_or_si256(p.high.half[i], top);
            else
                p.low.half[i] = _mm256_or_si256(p.low.half[i], top);
        }
        pair_give(kind, &p, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        index += KVT_STEP;
    }
}

KVT_FOLDED void rans_count_pair_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t tokens,
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
            pair_parts p = pair_take(kind, at);
            pair_store(row + c, pair_symbols(kind, &p, lanes, c));
        }
        for (size_t c = 0; c < channels; c++)
            counts[c * KVT_RANS_SYMBOLS + (row[c] & 63)]++;
    }
}

#define KVT_LOOP(name) name##_pair_of
#include "compress/exponent_table.h"

const kvt_exponent_ops kvt_exponent_avx2 = {.name = "avx2",
                                            .column_stats = column_stats,
                                            .xpack_split = xpack_split,
                                            .xpack_merge = xpack_merge,
                                            .rans_split = rans_split,
                                            .rans_merge = rans_merge,
                                            .rans_encode = rans_encode_pair,
                                            .rans_decode = rans_decode_pair,
                                            .rans_count = rans_count,
                                            .rans_weigh = rans_weigh_pair,
                                            .rans_assign = rans_assign_pair,
                                            .rans_sum = rans_sum_plain};
