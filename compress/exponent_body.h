/* SPDX-License-Identifier: Apache-2.0
 *
 * Splitting and merging of elements, and the code of xpack: plain C in loops that compilers turn into vectors, compiled
 * for the instruction set of the file that includes this. rans_body.h has the rest. Included by exponent_<isa>.c.
 */
#ifndef KVT_EXPONENT_BODY_H
#define KVT_EXPONENT_BODY_H

#include "compress/raw_bits.h"

/* The elements of one step, taken apart. */
typedef struct parts {
    uint8_t sign[KVT_STEP]; /* 0 or 1 */
    uint8_t exponent[KVT_STEP];
    uint8_t low[KVT_STEP];  /* mantissa, low byte */
    uint8_t high[KVT_STEP]; /* fp16: its bits 8 and 9 */
} parts;

KVT_FOLDED void take_parts(kvt_element_kind kind, const uint8_t *data, parts *p)
{
    const uint32_t bits = kvt_mantissa_bits(kind), most = kvt_exponent_max(kind);
    if (kvt_element_kind_bytes(kind) == 2) {
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            uint32_t value = data[2 * i] | (uint32_t)data[2 * i + 1] << 8;
            p->sign[i] = (uint8_t)(value >> 15);
            p->exponent[i] = (uint8_t)(value >> bits & most);
            p->low[i] = (uint8_t)(value & ((1u << bits) - 1));
            p->high[i] = (uint8_t)((value & ((1u << bits) - 1)) >> 8);
        }
        return;
    }
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        uint32_t value = data[i];
        p->sign[i] = (uint8_t)(value >> 7);
        p->exponent[i] = (uint8_t)(value >> bits & most);
        p->low[i] = (uint8_t)(value & ((1u << bits) - 1));
        p->high[i] = 0;
    }
}

KVT_FOLDED void give_parts(kvt_element_kind kind, const parts *p, uint8_t *data)
{
    const uint32_t bits = kvt_mantissa_bits(kind), most = kvt_exponent_max(kind);
    if (kvt_element_kind_bytes(kind) == 2) {
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            uint32_t value =
                (uint32_t)p->sign[i] << 15 | (p->exponent[i] & most) << bits | (uint32_t)p->high[i] << 8 | p->low[i];
            data[2 * i] = (uint8_t)value;
            data[2 * i + 1] = (uint8_t)(value >> 8);
        }
        return;
    }
    for (uint32_t i = 0; i < KVT_STEP; i++)
        data[i] = (uint8_t)(p->sign[i] << 7 | (p->exponent[i] & most) << bits | p->low[i]);
}

/* ---- statistics of columns ---- */

KVT_FOLDED void column_stats_of(kvt_element_kind kind, const uint8_t *data, uint32_t tokens, uint32_t channels,
                                uint32_t stride, uint8_t *exponent_max, uint32_t *negative)
{
    const uint32_t bits = kvt_mantissa_bits(kind), most = kvt_exponent_max(kind);
    const uint32_t width = kvt_element_kind_bytes(kind);
    const uint32_t infinite = kind == KVT_ELEMENT_E4M3 ? 256 : most;
    for (uint32_t t = 0; t < tokens; t += stride) {
        const uint8_t *row = data + (size_t)t * channels * width;
        for (uint32_t c = 0; c < channels; c++) {
            uint32_t value = width == 2 ? row[2 * c] | (uint32_t)row[2 * c + 1] << 8 : row[c];
            uint32_t exponent = value >> bits & most;
            exponent = exponent == infinite ? 0 : exponent;
            exponent_max[c] = (uint8_t)(exponent > exponent_max[c] ? exponent : exponent_max[c]);
            negative[c] += value >> (8 * width - 1);
        }
    }
}

/* ---- xpack ---- */

KVT_FOLDED void xpack_raw_of(kvt_element_kind kind, parts *p, uint32_t bits, uint8_t *raw)
{
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        if (kind == KVT_ELEMENT_FP16)
            p->high[i] = (uint8_t)(p->high[i] | p->sign[i] << 2);
        else
            p->low[i] = (uint8_t)(p->low[i] | p->sign[i] << (bits - 1));
    }
    kvt_bits_pack(p->low, p->high, bits, raw);
}

KVT_FOLDED void xpack_split_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                               uint32_t steps, uint8_t *raw, uint8_t *codes, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_xpack_raw_bits(kind);
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        parts p;
        uint8_t code[KVT_STEP];
        take_parts(kind, data, &p);
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            uint8_t distance = (uint8_t)(lanes->base[channel + i] - p.exponent[i]);
            code[i] = distance < KVT_XPACK_ESCAPE ? distance : KVT_XPACK_ESCAPE;
        }
        uint64_t escape = UINT64_MAX;
        for (uint32_t plane = 0; plane < 3; plane++) {
            uint64_t mask = kvt_gather_bits(code, plane);
            kvt_store_le64(codes + (size_t)8 * plane, mask);
            escape &= mask;
        }
        for (; escape != 0; escape &= escape - 1)
            escapes->exponent[escapes->count++] = p.exponent[__builtin_ctzll(escape)];
        xpack_raw_of(kind, &p, bits, raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        raw += (size_t)8 * bits;
        codes += 24;
    }
}

static inline uint8_t next_escape(kvt_escapes *escapes)
{
    uint32_t at = escapes->used++;
    return at < escapes->count ? escapes->exponent[at] : 0;
}

KVT_FOLDED void xpack_merge_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                               uint32_t steps, const uint8_t *raw, const uint8_t *codes, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_xpack_raw_bits(kind);
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        parts p;
        kvt_bits_unpack(raw, bits, p.low, p.high);
        uint8_t code[KVT_STEP] = {0};
        uint64_t escape = UINT64_MAX;
        for (uint32_t plane = 0; plane < 3; plane++) {
            uint64_t mask = kvt_load_le64(codes + (size_t)8 * plane);
            kvt_scatter_bits(mask, plane, code);
            escape &= mask;
        }
        uint8_t *top = kind == KVT_ELEMENT_FP16 ? p.high : p.low;
        const uint32_t place = kind == KVT_ELEMENT_FP16 ? 2 : bits - 1;
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            p.exponent[i] = (uint8_t)(lanes->base[channel + i] - code[i]);
            p.sign[i] = (uint8_t)(top[i] >> place);
            top[i] = (uint8_t)(top[i] & ((1u << place) - 1));
        }
        for (; escape != 0; escape &= escape - 1)
            p.exponent[__builtin_ctzll(escape)] = next_escape(escapes);
        give_parts(kind, &p, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        raw += (size_t)8 * bits;
        codes += 24;
    }
}

/* Constant kinds, so that each gets loops of its own. */
#define KVT_BY_KIND(kind, call)                                                                                        \
    switch (kind) {                                                                                                    \
    case KVT_ELEMENT_BF16:                                                                                             \
        call(KVT_ELEMENT_BF16);                                                                                        \
        break;                                                                                                         \
    case KVT_ELEMENT_FP16:                                                                                             \
        call(KVT_ELEMENT_FP16);                                                                                        \
        break;                                                                                                         \
    case KVT_ELEMENT_E4M3:                                                                                             \
        call(KVT_ELEMENT_E4M3);                                                                                        \
        break;                                                                                                         \
    default:                                                                                                           \
        call(KVT_ELEMENT_E5M2);                                                                                        \
    }

#endif
