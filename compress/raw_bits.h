/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw bits of a step: 64 values as fields of 8, 4, 2 and 1 bits, low bits first. Byte j of a packed field of 4 or 2
 * bits holds elements j, j + bytes, j + 2 bytes, ... from its low end; single bits are a number of 64 bits. Loops with
 * constant bounds that compilers turn into vectors. Private to compress.
 */
#ifndef KVT_RAW_BITS_H
#define KVT_RAW_BITS_H

#include "compress/exponent_ops.h"

/* Loops over constant kinds: one copy each, with the bits folded in. */
#define KVT_FOLDED static inline __attribute__((always_inline))

/* Bit `shift` of 64 bytes, eight at a time. */
KVT_FOLDED uint64_t kvt_gather_bits(const uint8_t values[KVT_STEP], uint32_t shift)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t ones = kvt_load_le64(values + (size_t)8 * i) >> shift & UINT64_C(0x0101010101010101);
        mask |= (ones * UINT64_C(0x0102040810204080) >> 56) << 8 * i;
    }
    return mask;
}

/* And back: adds bit i of the mask to value i at `shift`. */
KVT_FOLDED void kvt_scatter_bits(uint64_t mask, uint32_t shift, uint8_t values[KVT_STEP])
{
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t spread = (mask >> 8 * i & 0xff) * UINT64_C(0x0101010101010101) & UINT64_C(0x8040201008040201);
        uint64_t ones = (spread + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & UINT64_C(0x0101010101010101);
        kvt_store_le64(values + (size_t)8 * i, kvt_load_le64(values + (size_t)8 * i) | ones << shift);
    }
}

KVT_FOLDED void kvt_bits_pack(const uint8_t low[KVT_STEP], const uint8_t high[KVT_STEP], uint32_t bits, uint8_t *packed)
{
    const uint8_t *values = low;
    uint32_t left = bits, shift = 0;
    if (bits >= 8) {
        memcpy(packed, low, KVT_STEP);
        packed += KVT_STEP;
        values = high;
        left -= 8;
    }
    if (left >= 4) {
        for (uint32_t j = 0; j < 32; j++)
            packed[j] = (uint8_t)((values[j] & 15) | (values[j + 32] & 15) << 4);
        packed += 32;
        left -= 4;
        shift = 4;
    }
    if (left >= 2) {
        for (uint32_t j = 0; j < 16; j++)
            packed[j] = (uint8_t)((values[j] >> shift & 3) | (values[j + 16] >> shift & 3) << 2 |
                                  (values[j + 32] >> shift & 3) << 4 | (values[j + 48] >> shift & 3) << 6);
        packed += 16;
        left -= 2;
        shift += 2;
    }
    if (left != 0)
        kvt_store_le64(packed, kvt_gather_bits(values, shift));
}

KVT_FOLDED void kvt_bits_unpack(const uint8_t *packed, uint32_t bits, uint8_t low[KVT_STEP], uint8_t high[KVT_STEP])
{
    uint8_t *values = low;
    uint32_t left = bits, shift = 0;
    memset(high, 0, KVT_STEP);
    if (bits >= 8) {
        memcpy(low, packed, KVT_STEP);
        packed += KVT_STEP;
        values = high;
        left -= 8;
    } else {
        memset(low, 0, KVT_STEP);
    }
    if (left >= 4) {
        for (uint32_t j = 0; j < 32; j++) {
            values[j] = packed[j] & 15;
            values[j + 32] = packed[j] >> 4;
        }
        packed += 32;
        left -= 4;
        shift = 4;
    }
    if (left >= 2) {
        for (uint32_t part = 0; part < 4; part++)
            for (uint32_t j = 0; j < 16; j++)
                values[j + 16 * part] = (uint8_t)(values[j + 16 * part] | (packed[j] >> 2 * part & 3) << shift);
        packed += 16;
        left -= 2;
        shift += 2;
    }
    if (left != 0)
        kvt_scatter_bits(kvt_load_le64(packed), shift, values);
}

#endif
