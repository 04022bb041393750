/* SPDX-License-Identifier: Apache-2.0
 *
 * The second opinion on re-positioned keys, in long double, sharing no code with the library: number formats, the
 * tables of known models, and the wanted key as the solution of "turn back, then turn". Plain C.
 */
#ifndef KVT_CASES_ROPE_ORACLE_H
#define KVT_CASES_ROPE_ORACLE_H

#include "kernels/rope.h"

#include <stdbool.h>

/* ---- number formats (kvt_rope_element) ---- */
uint32_t kvt_oracle_bytes(uint32_t element);
/* To the nearest, ties to even; beyond the largest number infinity. Never a NaN. */
long double kvt_oracle_round(uint32_t element, long double value);
void kvt_oracle_store(uint32_t element, void *to, long double value);
long double kvt_oracle_load(uint32_t element, const void *from);
/* Distance between neighbours of the format around a value. */
long double kvt_oracle_ulp(uint32_t element, long double value);

/* ---- the tables that models use ---- */
typedef struct kvt_oracle_family {
    const char *name;
    double theta;
    double magnitude;  /* YaRN multiplies both by it */
    double scale;      /* how far positions are stretched */
    uint32_t original; /* positions of training; 0: no scaling */
    bool yarn;         /* else llama3's way */
} kvt_oracle_family;
enum { KVT_ORACLE_FAMILIES = 6 };
const kvt_oracle_family *kvt_oracle_family_at(uint32_t i);

/* Angle of pair i of `pairs` at a position. */
long double kvt_oracle_angle(const kvt_oracle_family *family, uint32_t pairs, uint32_t i, uint64_t position);

/* ---- the wanted pair ---- */
typedef struct kvt_oracle_pair {
    long double x, y;
} kvt_oracle_pair;
/* Stored with entry (c0, s0), wanted with (c1, s1). */
kvt_oracle_pair kvt_oracle_move(kvt_oracle_pair stored, long double c0, long double s0, long double c1, long double s1);

/* Distances of many results from the truth, and of the best that the format could hold. */
typedef struct kvt_oracle_error {
    long double got, floor, truth; /* sums of squares */
    uint64_t count, astray;        /* astray: further off than one rounding and the arithmetic explain */
} kvt_oracle_error;
void kvt_oracle_judge(kvt_oracle_error *error, uint32_t element, long double got, long double truth, long double size);
/* got over floor; 1 where the format loses nothing and neither did the result. */
double kvt_oracle_ratio(const kvt_oracle_error *error);

#endif
