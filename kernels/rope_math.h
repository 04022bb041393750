/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic of a re-positioned pair, once for the processor and for device kernels. Every operation rounds on its
 * own (no fused multiply-add: files that include this are built with contraction off), so that all backends give the
 * same bits. C, C++, CUDA and HIP read this file. docs/rope.md derives the rule.
 */
#ifndef KVT_ROPE_MATH_H
#define KVT_ROPE_MATH_H

#include "kernels/job.h"
#include "kernels/rope.h"

#include <string.h>

#ifdef __CUDA_ARCH__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define KVT_ROPE_MUL(a, b)      __fmul_rn(a, b)
#define KVT_ROPE_ADD(a, b)      __fadd_rn(a, b)
#define KVT_ROPE_SUB(a, b)      __fsub_rn(a, b)
#define KVT_ROPE_DIV(a, b)      __fdiv_rn(a, b)
#define KVT_ROPE_WIDE_MUL(a, b) __dmul_rn(a, b)
#define KVT_ROPE_WIDE_ADD(a, b) __dadd_rn(a, b)
#define KVT_ROPE_WIDE_SUB(a, b) __dsub_rn(a, b)
#define KVT_ROPE_WIDE_DIV(a, b) __ddiv_rn(a, b)
#else
#define KVT_ROPE_MUL(a, b)      ((a) * (b))
#define KVT_ROPE_ADD(a, b)      ((a) + (b))
#define KVT_ROPE_SUB(a, b)      ((a) - (b))
#define KVT_ROPE_DIV(a, b)      ((a) / (b))
#define KVT_ROPE_WIDE_MUL(a, b) ((a) * (b))
#define KVT_ROPE_WIDE_ADD(a, b) ((a) + (b))
#define KVT_ROPE_WIDE_SUB(a, b) ((a) - (b))
#define KVT_ROPE_WIDE_DIV(a, b) ((a) / (b))
#endif

KVT_JOB_INLINE uint32_t kvt_rope_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

KVT_JOB_INLINE float kvt_rope_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- 16-bit elements; to the nearest, ties to even; every NaN becomes 0x7fff, as devices have it ---- */

KVT_JOB_INLINE float kvt_rope_from_bf16(uint32_t half) { return kvt_rope_float(half << 16); }

KVT_JOB_INLINE uint32_t kvt_rope_to_bf16(float value)
{
#if defined(__CUDA_ARCH__)
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    uint32_t bits = kvt_rope_bits(value);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fff : rounded;
#endif
}

KVT_JOB_INLINE float kvt_rope_from_fp16(uint32_t half)
{
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half((unsigned short)half));
#else
    /* Computed three ways and chosen, not branched, so that a loop over it becomes vectors. Subnormals by subtraction
     * of a normal number: right even where the host flushes subnormals to zero. */
    uint32_t shifted = (half & 0x7fff) << 13;
    uint32_t small =
        kvt_rope_bits(kvt_rope_float(shifted + (UINT32_C(113) << 23)) - kvt_rope_float(UINT32_C(113) << 23));
    uint32_t normal = shifted + (UINT32_C(112) << 23), special = shifted + (UINT32_C(224) << 23);
    uint32_t bits = shifted < (UINT32_C(1) << 23) ? small : normal;
    bits = shifted >= (UINT32_C(31) << 23) ? special : bits;
    return kvt_rope_float(bits | (half & 0x8000) << 16);
#endif
}

KVT_JOB_INLINE uint32_t kvt_rope_to_fp16(float value)
{
#if defined(__CUDA_ARCH__)
    return __half_as_ushort(__float2half_rn(value));
#else
    const uint32_t magic = UINT32_C(126) << 23; /* one half: its last bit is worth 2^-24, as a subnormal's is */
    uint32_t bits = kvt_rope_bits(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    uint32_t small = kvt_rope_bits(kvt_rope_float(size) + kvt_rope_float(magic)) - magic;
    uint32_t normal = (size - (UINT32_C(112) << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    uint32_t half = size < (UINT32_C(113) << 23) ? small : normal;
    half = size >= (UINT32_C(143) << 23) ? 0x7c00 : half;
    return size > 0x7f800000 ? 0x7fff : half | sign;
#endif
}

/* 32-bit elements: processors keep the bits of a NaN, devices do not. */
KVT_JOB_INLINE float kvt_rope_to_fp32(double value)
{
    float rounded = (float)value;
    return (kvt_rope_bits(rounded) & 0x7fffffff) > 0x7f800000 ? kvt_rope_float(0x7fffffff) : rounded;
}

/* ---- the rule ---- */

/* The old row's entry (c0, s0) and the new one's (c1, s1) -> the turn between them. Division by the old entry's square
 * makes it a true inverse: a magnitude other than 1 and the rounding of the table cancel. */
KVT_JOB_INLINE void kvt_rope_delta(float c0, float s0, float c1, float s1, float *cosine, float *sine)
{
    float q = KVT_ROPE_DIV(1.0f, KVT_ROPE_ADD(KVT_ROPE_MUL(c0, c0), KVT_ROPE_MUL(s0, s0)));
    *cosine = KVT_ROPE_MUL(KVT_ROPE_ADD(KVT_ROPE_MUL(c1, c0), KVT_ROPE_MUL(s1, s0)), q);
    *sine = KVT_ROPE_MUL(KVT_ROPE_SUB(KVT_ROPE_MUL(s1, c0), KVT_ROPE_MUL(c1, s0)), q);
}

KVT_JOB_INLINE void kvt_rope_turn(float *x, float *y, float cosine, float sine)
{
    float turned_x = KVT_ROPE_SUB(KVT_ROPE_MUL(*x, cosine), KVT_ROPE_MUL(*y, sine));
    float turned_y = KVT_ROPE_ADD(KVT_ROPE_MUL(*y, cosine), KVT_ROPE_MUL(*x, sine));
    *x = turned_x;
    *y = turned_y;
}

/* The same for 32-bit keys, in double precision: with single precision the arithmetic would be as coarse as the keys.
 */
KVT_JOB_INLINE void kvt_rope_delta_wide(double c0, double s0, double c1, double s1, double *cosine, double *sine)
{
    double q = KVT_ROPE_WIDE_DIV(1.0, KVT_ROPE_WIDE_ADD(KVT_ROPE_WIDE_MUL(c0, c0), KVT_ROPE_WIDE_MUL(s0, s0)));
    *cosine = KVT_ROPE_WIDE_MUL(KVT_ROPE_WIDE_ADD(KVT_ROPE_WIDE_MUL(c1, c0), KVT_ROPE_WIDE_MUL(s1, s0)), q);
    *sine = KVT_ROPE_WIDE_MUL(KVT_ROPE_WIDE_SUB(KVT_ROPE_WIDE_MUL(s1, c0), KVT_ROPE_WIDE_MUL(c1, s0)), q);
}

KVT_JOB_INLINE void kvt_rope_turn_wide(float *x, float *y, double cosine, double sine)
{
    double turned_x = KVT_ROPE_WIDE_SUB(KVT_ROPE_WIDE_MUL((double)*x, cosine), KVT_ROPE_WIDE_MUL((double)*y, sine));
    double turned_y = KVT_ROPE_WIDE_ADD(KVT_ROPE_WIDE_MUL((double)*y, cosine), KVT_ROPE_WIDE_MUL((double)*x, sine));
    *x = kvt_rope_to_fp32(turned_x);
    *y = kvt_rope_to_fp32(turned_y);
}

KVT_JOB_INLINE uint32_t kvt_rope_element_bytes(uint32_t element) { return element == KVT_ROPE_FP32 ? 4 : 2; }

KVT_JOB_INLINE uint32_t kvt_rope_pairs(const kvt_rope *rope)
{
    return rope->window_bytes / kvt_rope_element_bytes(rope->element) / 2;
}

/* Entry i of a row, as a float. */
KVT_JOB_INLINE float kvt_rope_entry(const void *rows, uint64_t row_offset, uint32_t i, uint32_t element)
{
    const uint8_t *row = (const uint8_t *)rows + row_offset;
    if (element == KVT_ROPE_FP32)
        return ((const float *)(const void *)row)[i];
    uint32_t half = ((const uint16_t *)(const void *)row)[i];
    return element == KVT_ROPE_BF16 ? kvt_rope_from_bf16(half) : kvt_rope_from_fp16(half);
}

#endif
