/* SPDX-License-Identifier: Apache-2.0
 *
 * The error table of docs/rope.md: keys of six models, turned, stored as bf16 and moved by 20,000 positions, compared
 * with keys that were turned to the new position from the start. Exit status 1 if a bound of that page does not hold.
 *   rope_errors [BACKEND]
 */
#include "tests/cases_rope_oracle.h"

#include "kernels/kernels.h"
#include "kernels/layout_named.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAIRS = 64, TOKENS = 62, FIRST = 100000, SHIFT = 20000, HOPS = 8, ROWS = SHIFT + TOKENS };

typedef struct study {
    kvt_backend *backend;
    kvt_layout *layout;
    uint16_t pages[TOKENS][2 * PAIRS];
    uint32_t ids[TOKENS];
    void *bases[1];
    uint8_t *table[2]; /* cosines and sines of positions FIRST.. */
    uint32_t table_element;
    double keys[TOKENS][2 * PAIRS]; /* before any turn */
} study;

static bool study_open(study *s, const char *backend)
{
    kvt_named_pages pages;
    const kvt_page_geometry geometry = {1, 1, TOKENS, 1, sizeof s->pages[0], 2, 0, 0};
    uint64_t state = 1;
    for (uint32_t t = 0; t < TOKENS; t++) {
        s->ids[t] = t;
        for (uint32_t e = 0; e < 2 * PAIRS; e++) { /* normal, of deviation 2 */
            double u[2];
            for (uint32_t i = 0; i < 2; i++) {
                state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                u[i] = ((double)(state >> 11) + 0.5) * 0x1p-53;
            }
            s->keys[t][e] = 2 * sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]);
        }
    }
    s->table[0] = malloc((size_t)ROWS * PAIRS * 4), s->table[1] = malloc((size_t)ROWS * PAIRS * 4);
    if (s->table[0] == NULL || s->table[1] == NULL ||
        kvt_named_layout_build(kvt_named_layout_by_name("mla"), &geometry, &pages) != KVT_OK)
        return false;
    kvt_named_pages_place(&pages, (void *const[1]){s->pages}, s->bases);
    return kvt_layout_create(&pages.group, 1, TOKENS, &s->layout) == KVT_OK &&
           kvt_backend_open(backend, NULL, &s->backend) == KVT_OK;
}

static void fill_table(study *s, const kvt_oracle_family *family, uint32_t element)
{
    uint32_t bytes = kvt_oracle_bytes(element);
    s->table_element = element;
    for (uint32_t i = 0; i < PAIRS; i++) {
        long double frequency = kvt_oracle_angle(family, PAIRS, i, 1);
        for (uint64_t p = 0; p < ROWS; p++) {
            size_t at = (p * PAIRS + i) * bytes;
            kvt_oracle_store(element, s->table[0] + at, family->magnitude * cosl(frequency * (FIRST + p)));
            kvt_oracle_store(element, s->table[1] + at, family->magnitude * sinl(frequency * (FIRST + p)));
        }
    }
}

static long double entry(const study *s, uint32_t which, uint64_t position, uint32_t i)
{
    size_t at = ((position - FIRST) * PAIRS + i) * kvt_oracle_bytes(s->table_element);
    return kvt_oracle_load(s->table_element, s->table[which] + at);
}

/* The key of a token as the engine's own table turns it to a position. */
static kvt_oracle_pair turned(const study *s, uint32_t t, uint32_t i, uint64_t position)
{
    long double c = entry(s, 0, position, i), n = entry(s, 1, position, i);
    long double x = s->keys[t][i], y = s->keys[t][i + PAIRS];
    return (kvt_oracle_pair){x * c - y * n, x * n + y * c};
}

static void store_at(study *s, uint16_t out[TOKENS][2 * PAIRS], uint64_t position)
{
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < PAIRS; i++) {
            kvt_oracle_pair k = turned(s, t, i, position + t);
            kvt_oracle_store(KVT_ROPE_BF16, &out[t][i], k.x);
            kvt_oracle_store(KVT_ROPE_BF16, &out[t][i + PAIRS], k.y);
        }
}

/* Relative distance of keys from where the table would have turned them. */
static double error_at(const study *s, uint16_t keys[TOKENS][2 * PAIRS], uint64_t position)
{
    long double off = 0, size = 0;
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < PAIRS; i++) {
            kvt_oracle_pair k = turned(s, t, i, position + t);
            long double x = kvt_oracle_load(KVT_ROPE_BF16, &keys[t][i]) - k.x;
            long double y = kvt_oracle_load(KVT_ROPE_BF16, &keys[t][i + PAIRS]) - k.y;
            off += x * x + y * y;
            size += k.x * k.x + k.y * k.y;
        }
    return (double)sqrtl(off / size);
}

/* blob -> pages by the backend. */
static bool move_keys(study *s, uint16_t blob[TOKENS][2 * PAIRS], uint32_t stored, uint32_t wanted)
{
    const kvt_rope rope = {.layer_count = 1,
                           .planes = 1,
                           .element = KVT_ROPE_BF16,
                           .table_element = s->table_element,
                           .window_bytes = sizeof s->pages[0],
                           .row_count = ROWS,
                           .row_stride = (uint64_t)PAIRS * kvt_oracle_bytes(s->table_element),
                           .cosines = s->table[0],
                           .sines = s->table[1]};
    const kvt_rope_shift shift = {stored - FIRST, wanted - FIRST};
    const kvt_rope_set set = {&rope, &shift, 1, 0};
    const kvt_move move = {(uint8_t *)blob, s->ids, 0, TOKENS, 0, TOKENS, 0, 1};
    kvt_fence fence = {NULL};
    return kvt_backend_scatter_rope(s->backend, s->layout, &move, 1, &set, NULL, &fence) == KVT_OK &&
           kvt_backend_fence_wait(s->backend, &fence) == KVT_OK;
}

/* The inverse taken for the transpose: right only for a magnitude of 1 and an exact table. */
static void move_transposed(study *s, uint16_t blob[TOKENS][2 * PAIRS])
{
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < PAIRS; i++) {
            long double c0 = entry(s, 0, FIRST + t, i), s0 = entry(s, 1, FIRST + t, i);
            long double c1 = entry(s, 0, FIRST + SHIFT + t, i), s1 = entry(s, 1, FIRST + SHIFT + t, i);
            long double c = c1 * c0 + s1 * s0, n = s1 * c0 - c1 * s0;
            long double x = kvt_oracle_load(KVT_ROPE_BF16, &blob[t][i]);
            long double y = kvt_oracle_load(KVT_ROPE_BF16, &blob[t][i + PAIRS]);
            kvt_oracle_store(KVT_ROPE_BF16, &s->pages[t][i], x * c - y * n);
            kvt_oracle_store(KVT_ROPE_BF16, &s->pages[t][i + PAIRS], y * c + x * n);
        }
}

/* Error of the moved keys over that of the exactly moved and once rounded ones. */
static double over_floor(const study *s, uint16_t blob[TOKENS][2 * PAIRS])
{
    kvt_oracle_error error = {.count = 0};
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < PAIRS; i++) {
            kvt_oracle_pair k = {kvt_oracle_load(KVT_ROPE_BF16, &blob[t][i]),
                                 kvt_oracle_load(KVT_ROPE_BF16, &blob[t][i + PAIRS])};
            kvt_oracle_pair want =
                kvt_oracle_move(k, entry(s, 0, FIRST + t, i), entry(s, 1, FIRST + t, i),
                                entry(s, 0, FIRST + SHIFT + t, i), entry(s, 1, FIRST + SHIFT + t, i));
            kvt_oracle_judge(&error, KVT_ROPE_BF16, kvt_oracle_load(KVT_ROPE_BF16, &s->pages[t][i]), want.x, 8);
            kvt_oracle_judge(&error, KVT_ROPE_BF16, kvt_oracle_load(KVT_ROPE_BF16, &s->pages[t][i + PAIRS]), want.y, 8);
        }
    return kvt_oracle_ratio(&error);
}

static bool row(study *s, const kvt_oracle_family *family)
{
    static uint16_t blob[TOKENS][2 * PAIRS];
    double alone, moved[2], ratio, hops, transposed;
    fill_table(s, family, KVT_ROPE_BF16);
    store_at(s, blob, FIRST);
    bool ok = move_keys(s, blob, FIRST, FIRST + SHIFT);
    moved[1] = error_at(s, s->pages, FIRST + SHIFT);
    fill_table(s, family, KVT_ROPE_FP32);
    store_at(s, blob, FIRST);
    alone = error_at(s, blob, FIRST);
    ok = ok && move_keys(s, blob, FIRST, FIRST + SHIFT);
    moved[0] = error_at(s, s->pages, FIRST + SHIFT);
    ratio = over_floor(s, blob);
    move_transposed(s, blob);
    transposed = error_at(s, s->pages, FIRST + SHIFT);
    for (uint32_t hop = 0; ok && hop < HOPS; hop++) { /* each from what the one before stored */
        ok = move_keys(s, blob, FIRST + hop * (SHIFT / HOPS), FIRST + (hop + 1) * (SHIFT / HOPS));
        memcpy(blob, s->pages, sizeof blob);
    }
    hops = error_at(s, blob, FIRST + SHIFT);
    printf("| %-20s | %.3f | %.2e | %.2e | %.2e | %.4f | %.2e | %.2e |\n", family->name, family->magnitude, alone,
           moved[0], moved[1], ratio, transposed, hops);
    bool magnified = family->magnitude != 1;
    return ok && ratio <= 1.03 && moved[0] <= 1.03 * sqrt(2) * alone && (transposed > 0.1) == magnified;
}

int main(int argc, char **argv)
{
    static study s;
    bool ok = study_open(&s, argc > 1 ? argv[1] : "cpu");
    if (!ok)
        fprintf(stderr, "rope_errors: %s\n", kvt_last_error());
    printf("| table | magnitude | stored once | moved | moved, bf16 table | over the floor | transposed | %d moves |\n"
           "|---|---|---|---|---|---|---|---|\n",
           HOPS);
    for (uint32_t i = 0; s.backend != NULL && i < KVT_ORACLE_FAMILIES; i++)
        ok = row(&s, kvt_oracle_family_at(i)) && ok;
    kvt_backend_close(s.backend);
    kvt_layout_destroy(s.layout);
    free(s.table[0]), free(s.table[1]);
    return !ok;
}
