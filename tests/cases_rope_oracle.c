/* SPDX-License-Identifier: Apache-2.0
 *
 * See cases_rope_oracle.h.
 */
#include "tests/cases_rope_oracle.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------ formats */

typedef struct format {
    int digits;       /* binary, the hidden one included */
    int exponent_min; /* of the smallest normal number */
    int exponent_max;
} format;
static const format formats[] = {{8, -126, 127}, {11, -14, 15}, {24, -126, 127}};

uint32_t kvt_oracle_bytes(uint32_t element) { return element == KVT_ROPE_FP32 ? 4 : 2; }

/* 2^exponent; a table, as the library's calls would take most of a test's time. */
static long double power(int exponent)
{
    enum { MOST = 1100 };
    static long double known[2 * MOST + 1];
    if (known[0] == 0)
        for (int i = -MOST; i <= MOST; i++)
            known[i + MOST] = ldexpl(1, i);
    return known[exponent + MOST];
}

/* floor(log2 |value|) of a number that is not 0 and within the range of double. */
static int exponent_of(long double value)
{
    double near = (double)fabsl(value);
    uint64_t bits;
    memcpy(&bits, &near, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    return power(exponent) > fabsl(value) ? exponent - 1 : exponent; /* rounded up to the next power */
}

long double kvt_oracle_ulp(uint32_t element, long double value)
{
    const format *f = &formats[element];
    int exponent = f->exponent_min;
    if (fabsl(value) > power(exponent))
        exponent = exponent_of(value);
    return power(exponent - f->digits + 1);
}

long double kvt_oracle_round(uint32_t element, long double value)
{
    const format *f = &formats[element];
    if (!isfinite(value))
        return value;
    long double ulp = kvt_oracle_ulp(element, value);
    long double rounded = rintl(value / ulp) * ulp; /* a power of two: the division is exact */
    long double most = (2 - power(1 - f->digits)) * power(f->exponent_max);
    return fabsl(rounded) > most ? copysignl(INFINITY, value) : rounded;
}

static uint32_t to_bits(uint32_t element, long double value)
{
    const format *f = &formats[element];
    uint32_t sign = signbit(value) ? UINT32_C(1) << (8 * kvt_oracle_bytes(element) - 1) : 0;
    long double size = fabsl(kvt_oracle_round(element, value));
    uint32_t fraction_bits = (uint32_t)f->digits - 1;
    if (isinf(size))
        return sign | (uint32_t)(f->exponent_max - f->exponent_min + 2) << fraction_bits;
    if (size < power(f->exponent_min))
        return sign | (uint32_t)(size / power(f->exponent_min - f->digits + 1));
    int exponent = exponent_of(size);
    uint32_t fraction = (uint32_t)(size * power(f->digits - 1 - exponent)) - (UINT32_C(1) << fraction_bits);
    return sign | (uint32_t)(exponent - f->exponent_min + 1) << fraction_bits | fraction;
}

void kvt_oracle_store(uint32_t element, void *to, long double value)
{
    uint32_t bits = to_bits(element, value);
    uint16_t half = (uint16_t)bits;
    if (element == KVT_ROPE_FP32)
        memcpy(to, &bits, sizeof bits);
    else
        memcpy(to, &half, sizeof half);
}

static long double from_bits(uint32_t element, uint32_t bits)
{
    const format *f = &formats[element];
    uint32_t fraction_bits = (uint32_t)f->digits - 1;
    long double sign = bits >> (8 * kvt_oracle_bytes(element) - 1) != 0 ? -1 : 1;
    uint32_t fraction = bits & ((UINT32_C(1) << fraction_bits) - 1);
    uint32_t exponent = bits >> fraction_bits & (uint32_t)(f->exponent_max - f->exponent_min + 2);
    if ((int)exponent == f->exponent_max - f->exponent_min + 2)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * fraction * power(f->exponent_min - f->digits + 1);
    return sign *
           ldexpl(fraction + (UINT32_C(1) << fraction_bits), (int)exponent - 1 + f->exponent_min - f->digits + 1);
}

long double kvt_oracle_load(uint32_t element, const void *from)
{
    static long double known[2][1 << 16];
    static bool filled;
    uint32_t bits;
    uint16_t half;
    if (element == KVT_ROPE_FP32) {
        memcpy(&bits, from, sizeof bits);
        return from_bits(element, bits);
    }
    for (bits = 0; !filled && bits < 1 << 16; bits++)
        known[0][bits] = from_bits(0, bits), known[1][bits] = from_bits(1, bits);
    filled = true;
    memcpy(&half, from, sizeof half);
    return known[element][half];
}

/* ------------------------------------------------------------------- tables */

/* From the models' public configurations. */
static const kvt_oracle_family families[KVT_ORACLE_FAMILIES] = {
    {"theta 1e4", 1e4, 1, 1, 0, false},
    {"llama3 theta 5e5, x8", 5e5, 1, 8, 8192, false},
    {"qwen3 theta 1e6", 1e6, 1, 1, 0, false},
    {"gpt-oss yarn x32", 150000, 1.3465735902799727, 32, 4096, true},
    {"qwen yarn x4", 1e6, 1.1386294361119891, 4, 32768, true},
    {"deepseek yarn x40", 1e4, 1, 40, 4096, true},
};

const kvt_oracle_family *kvt_oracle_family_at(uint32_t i) { return &families[i % KVT_ORACLE_FAMILIES]; }

/* Share of the unscaled frequency that pair i keeps: 1 for fast ones, 0 for slow ones, a ramp between. */
static long double kept(const kvt_oracle_family *family, uint32_t pairs, uint32_t i, long double frequency)
{
    const long double tau = 6.283185307179586476925286766559L;
    long double turns = family->original * frequency / tau; /* within the positions of training */
    if (!family->yarn)
        return fminl(fmaxl((turns - 1) / (4 - 1), 0), 1);
    long double base = logl(family->theta) * 2 / (2 * pairs);
    long double low = floorl(logl(family->original / (32 * tau)) / base);
    long double high = ceill(logl(family->original / tau) / base);
    return 1 - fminl(fmaxl((i - low) / fmaxl(high - low, 1), 0), 1);
}

long double kvt_oracle_angle(const kvt_oracle_family *family, uint32_t pairs, uint32_t i, uint64_t position)
{
    long double frequency = powl(family->theta, -(long double)i / pairs);
    if (family->original != 0) {
        long double keep = kept(family, pairs, i, frequency);
        frequency = keep * frequency + (1 - keep) * frequency / family->scale;
    }
    return frequency * position;
}

/* --------------------------------------------------------------- the wanted */

kvt_oracle_pair kvt_oracle_move(kvt_oracle_pair stored, long double c0, long double s0, long double c1, long double s1)
{
    /* stored = [c0 -s0; s0 c0] key, solved by Cramer's rule */
    long double determinant = c0 * c0 + s0 * s0;
    kvt_oracle_pair key = {(stored.x * c0 + stored.y * s0) / determinant,
                           (c0 * stored.y - s0 * stored.x) / determinant};
    return (kvt_oracle_pair){key.x * c1 - key.y * s1, key.x * s1 + key.y * c1};
}

void kvt_oracle_judge(kvt_oracle_error *error, uint32_t element, long double got, long double truth, long double size)
{
    long double off = got - truth, least = kvt_oracle_round(element, truth) - truth;
    long double arithmetic = size * power(element == KVT_ROPE_FP32 ? -48 : -20);
    error->got += off * off;
    error->floor += least * least;
    error->truth += truth * truth;
    error->count++;
    error->astray += !(fabsl(off) <= kvt_oracle_ulp(element, truth) / 2 + arithmetic);
}

double kvt_oracle_ratio(const kvt_oracle_error *error)
{
    if (error->floor == 0)
        return error->got == 0 ? 1 : HUGE_VAL;
    return (double)sqrtl(error->got / error->floor);
}
