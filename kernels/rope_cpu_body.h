/* SPDX-License-Identifier: Apache-2.0
 *
 * The processor's loops over pairs, for one instruction set: the rope_cpu_*.c files define TABLE and TABLE_NAME and
 * include this. Plain loops without a branch inside, which the compiler turns into vectors; contraction is off for
 * these files, so that the bits do not depend on the instruction set.
 */
#include "kernels/rope_int.h"
#include "kernels/rope_math.h"

static inline uint32_t load_half(const uint8_t *from)
{
    uint16_t half;
    memcpy(&half, from, sizeof half);
    return half;
}

static inline void store_half(uint8_t *to, uint32_t value)
{
    uint16_t half = (uint16_t)value;
    memcpy(to, &half, sizeof half);
}

static inline float load_full(const uint8_t *from)
{
    float full;
    memcpy(&full, from, sizeof full);
    return full;
}

static inline void store_full(uint8_t *to, float full) { memcpy(to, &full, sizeof full); }

/* ------------------------------------------------------------------- turns */

static void load_row(const kvt_rope *rope, const void *rows, uint64_t position, float *restrict out)
{
    const uint8_t *row = (const uint8_t *)rows + position * rope->row_stride;
    uint32_t pairs = kvt_rope_pairs(rope);
    if (rope->table_element == KVT_ROPE_FP32)
        for (uint32_t i = 0; i < pairs; i++)
            out[i] = load_full(row + 4 * (size_t)i);
    else if (rope->table_element == KVT_ROPE_BF16)
        for (uint32_t i = 0; i < pairs; i++)
            out[i] = kvt_rope_from_bf16(load_half(row + 2 * (size_t)i));
    else
        for (uint32_t i = 0; i < pairs; i++)
            out[i] = kvt_rope_from_fp16(load_half(row + 2 * (size_t)i));
}

static void turns(const kvt_rope *rope, kvt_rope_shift at, void *restrict cosines, void *restrict sines)
{
    float c0[KVT_ROPE_PAIRS_MAX], s0[KVT_ROPE_PAIRS_MAX], c1[KVT_ROPE_PAIRS_MAX], s1[KVT_ROPE_PAIRS_MAX];
    uint32_t pairs = kvt_rope_pairs(rope);
    load_row(rope, rope->cosines, at.stored, c0);
    load_row(rope, rope->sines, at.stored, s0);
    load_row(rope, rope->cosines, at.wanted, c1);
    load_row(rope, rope->sines, at.wanted, s1);
    if (rope->element == KVT_ROPE_FP32) {
        double *restrict c = cosines, *restrict s = sines;
        for (uint32_t i = 0; i < pairs; i++)
            kvt_rope_delta_wide((double)c0[i], (double)s0[i], (double)c1[i], (double)s1[i], &c[i], &s[i]);
        return;
    }
    float *restrict c = cosines, *restrict s = sines;
    for (uint32_t i = 0; i < pairs; i++)
        kvt_rope_delta(c0[i], s0[i], c1[i], s1[i], &c[i], &s[i]);
}

/* ---------------------------------------------------------------- rotations */

/* The elements of pair i of n lie `step` apart from pair to pair, and `gap` apart within a pair. */
#define ROTATE(name, STEP, GAP, BYTES, WIDE, LOAD, STORE, TURN)                                                        \
    static void name(uint8_t *restrict to, const uint8_t *restrict from, uint32_t n, const void *turn_cosines,         \
                     const void *turn_sines)                                                                           \
    {                                                                                                                  \
        const WIDE *restrict cosines = turn_cosines, *restrict sines = turn_sines;                                     \
        for (size_t i = 0; i < n; i++) {                                                                               \
            float x = LOAD(from + i * (STEP) * (BYTES)), y = LOAD(from + (i * (STEP) + (GAP)) * (BYTES));              \
            TURN(&x, &y, cosines[i], sines[i]);                                                                        \
            STORE(to + i * (STEP) * (BYTES), x);                                                                       \
            STORE(to + (i * (STEP) + (GAP)) * (BYTES), y);                                                             \
        }                                                                                                              \
    }
#define LOAD_BF16(p)     kvt_rope_from_bf16(load_half(p))
#define STORE_BF16(p, v) store_half(p, kvt_rope_to_bf16(v))
#define LOAD_FP16(p)     kvt_rope_from_fp16(load_half(p))
#define STORE_FP16(p, v) store_half(p, kvt_rope_to_fp16(v))

ROTATE(neox_bf16, 1, n, 2, float, LOAD_BF16, STORE_BF16, kvt_rope_turn)
ROTATE(neox_fp16, 1, n, 2, float, LOAD_FP16, STORE_FP16, kvt_rope_turn)
ROTATE(neox_fp32, 1, n, 4, double, load_full, store_full, kvt_rope_turn_wide)
ROTATE(gptj_fp32, 2, 1, 4, double, load_full, store_full, kvt_rope_turn_wide)

/* Both elements of a pair in one word: neighbours need no shuffle. */
#define ROTATE_WORDS(name, FROM, TO)                                                                                   \
    static void name(uint8_t *restrict to, const uint8_t *restrict from, uint32_t n, const void *turn_cosines,         \
                     const void *turn_sines)                                                                           \
    {                                                                                                                  \
        const float *restrict cosines = turn_cosines, *restrict sines = turn_sines;                                    \
        for (size_t i = 0; i < n; i++) {                                                                               \
            uint32_t word;                                                                                             \
            memcpy(&word, from + 4 * i, sizeof word);                                                                  \
            float x = FROM(word & 0xffff), y = FROM(word >> 16);                                                       \
            kvt_rope_turn(&x, &y, cosines[i], sines[i]);                                                               \
            word = TO(x) | TO(y) << 16;                                                                                \
            memcpy(to + 4 * i, &word, sizeof word);                                                                    \
        }                                                                                                              \
    }
ROTATE_WORDS(gptj_bf16, kvt_rope_from_bf16, kvt_rope_to_bf16)
ROTATE_WORDS(gptj_fp16, kvt_rope_from_fp16, kvt_rope_to_fp16)

static void rotate(const kvt_rope *rope, uint8_t *to, const uint8_t *from, const void *cosines, const void *sines)
{
    static void (*const all[2][3])(uint8_t *, const uint8_t *, uint32_t, const void *, const void *) = {
        {neox_bf16, neox_fp16, neox_fp32}, {gptj_bf16, gptj_fp16, gptj_fp32}};
    all[rope->pairing][rope->element](to, from, kvt_rope_pairs(rope), cosines, sines);
}

const kvt_rope_loops TABLE = {TABLE_NAME, turns, rotate};
