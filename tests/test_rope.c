/* SPDX-License-Identifier: Apache-2.0
 *
 * Re-positioned keys: every case against the oracle, on every set of inner loops and by name; planted mistakes must be
 * noticed; bad descriptors are refused before a byte moves; the corners of the number formats are the same everywhere.
 */
#include "tests/cases_rope.h"
#include "tests/support.h"

#include "kernels/rope_int.h"
#include "kernels/rope_math.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
enum { CASE_STEP = 7 }; /* shares no factor with any count of the list */
#else
enum { CASE_STEP = 1 };
#endif

static uint32_t count_failures(const kvt_rope_subject *subject, uint32_t step, const char *name)
{
    uint32_t failed = 0;
    kvt_rope_case c;
    kvt_oracle_error error = {.count = 0};
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* the runner's buffers stay mapped from case to case */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    for (uint32_t i = 0; kvt_rope_case_at(i, &c); i += step) {
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        if (kvt_rope_case_run(&c, subject, &error, why) == KVT_CASE_PASSED)
            continue;
        kvt_rope_case_text(&c, text);
        if (failed++ < 5 && name != NULL)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert_gt(error.count, 10000);
    return failed;
}

static void run_backend(const char *name)
{
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open(name, NULL, &backend), KVT_OK, "%s", kvt_last_error());
    const kvt_rope_subject subject = {.scatter = kvt_case_rope_backend, .arg = backend};
    cr_assert_eq(count_failures(&subject, CASE_STEP, name), 0);
    kvt_backend_close(backend);
}

KVT_TEST(rope, the_portable_backend_turns_every_case_within_the_rounding_floor) { run_backend("portable"); }
KVT_TEST(rope, the_cpu_backend_turns_every_case_within_the_rounding_floor) { run_backend("cpu"); }

static kvt_status scatter_with(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                               const kvt_rope_set *set)
{
    KVT_TRY(kvt_moves_check(layout, moves, count));
    KVT_TRY(kvt_rope_check(layout, moves, count, set));
    kvt_rope_scatter_with(arg, layout, moves, count, set);
    return KVT_OK;
}

static kvt_rope_subject subject_of(const kvt_rope_loops *loops)
{
    return (kvt_rope_subject){.scatter = scatter_with, .arg = (void *)(uintptr_t)loops};
}

/* All that this processor runs; the last entry is NULL. */
static void all_loops(const kvt_rope_loops *out[4])
{
    static const uint32_t hidden[3] = {0, KVT_CPU_AVX512, KVT_CPU_AVX512 | KVT_CPU_AVX2};
    uint32_t count = 0;
    memset(out, 0, 4 * sizeof *out);
    for (uint32_t i = 0; i < 3; i++) {
        kvt_cpu_mask(hidden[i]);
        const kvt_rope_loops *loops = kvt_rope_loops_pick();
        if (count == 0 || out[count - 1] != loops)
            out[count++] = loops;
    }
    kvt_cpu_mask(0);
}

/* Each case is also compared with the portable backend, bit for bit. */
KVT_TEST(rope, every_instruction_set_gives_the_same_bits)
{
    const kvt_rope_loops *loops[4];
    all_loops(loops);
    for (uint32_t i = 0; loops[i] != NULL; i++) {
        const kvt_rope_subject subject = subject_of(loops[i]);
        cr_assert_eq(count_failures(&subject, CASE_STEP, loops[i]->name), 0);
    }
}

/* --------------------------------------------------------- planted mistakes */

static void lie_backwards(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)ropes, (void)rope_count;
    for (size_t i = 0; i < move_count; i++)
        shifts[i] = (kvt_rope_shift){shifts[i].wanted, shifts[i].stored};
}
static void lie_pairing(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)shifts, (void)move_count;
    for (uint32_t i = 0; i < rope_count; i++)
        ropes[i].pairing ^= 1;
}
static void lie_tables(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)shifts, (void)move_count;
    for (uint32_t i = 0; i < rope_count; i++) {
        const void *held = ropes[i].cosines;
        ropes[i].cosines = ropes[i].sines, ropes[i].sines = held;
    }
}
static void lie_one_late(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)ropes, (void)rope_count;
    for (size_t i = 0; i < move_count; i++)
        if (shifts[i].wanted != 0 && shifts[i].wanted != shifts[i].stored)
            shifts[i].wanted--;
}
static void lie_layers(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)shifts, (void)move_count;
    if (ropes[rope_count - 1].layer_count > 1)
        ropes[rope_count - 1].layer_count--;
}
static void lie_fp16(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count)
{
    (void)arg, (void)shifts, (void)move_count;
    for (uint32_t i = 0; i < rope_count; i++)
        if (ropes[i].element != KVT_ROPE_FP32)
            ropes[i].element ^= 1;
}

/* Mistakes inside the arithmetic. */
static void turns_transposed(const kvt_rope *rope, kvt_rope_shift at, void *cosines, void *sines)
{ /* the inverse taken for the transpose: a magnitude stays in, squared */
    for (uint32_t i = 0; i < kvt_rope_pairs(rope); i++) {
        float c0 = kvt_rope_entry(rope->cosines, at.stored * rope->row_stride, i, rope->table_element);
        float s0 = kvt_rope_entry(rope->sines, at.stored * rope->row_stride, i, rope->table_element);
        float c1 = kvt_rope_entry(rope->cosines, at.wanted * rope->row_stride, i, rope->table_element);
        float s1 = kvt_rope_entry(rope->sines, at.wanted * rope->row_stride, i, rope->table_element);
        float c = c1 * c0 + s1 * s0, s = s1 * c0 - c1 * s0;
        if (rope->element == KVT_ROPE_FP32)
            ((double *)cosines)[i] = (double)c, ((double *)sines)[i] = (double)s;
        else
            ((float *)cosines)[i] = c, ((float *)sines)[i] = s;
    }
}
static void turns_forward(const kvt_rope *rope, kvt_rope_shift at, void *cosines, void *sines)
{ /* turned to where it is wanted, never turned back */
    for (uint32_t i = 0; i < kvt_rope_pairs(rope); i++) {
        float c = kvt_rope_entry(rope->cosines, at.wanted * rope->row_stride, i, rope->table_element);
        float s = kvt_rope_entry(rope->sines, at.wanted * rope->row_stride, i, rope->table_element);
        if (rope->element == KVT_ROPE_FP32)
            ((double *)cosines)[i] = (double)c, ((double *)sines)[i] = (double)s;
        else
            ((float *)cosines)[i] = c, ((float *)sines)[i] = s;
    }
}

/* What rounds twice, as a second pass over stored keys does. */
static void rotate_twice(const kvt_rope *rope, uint8_t *to, const uint8_t *from, const void *cosines, const void *sines)
{
    kvt_rope_loops_plain.rotate(rope, to, from, cosines, sines);
    uint8_t held[4 * 2 * KVT_ROPE_PAIRS_MAX];
    static double one[KVT_ROPE_PAIRS_MAX], quiet[KVT_ROPE_PAIRS_MAX];
    for (uint32_t i = 0; i < KVT_ROPE_PAIRS_MAX; i++)
        if (rope->element == KVT_ROPE_FP32)
            one[i] = 1 + 0x1p-24, quiet[i] = 0x1p-24;
        else
            ((float *)one)[i] = 1 + 0x1p-9f, ((float *)quiet)[i] = 0x1p-9f;
    memcpy(held, to, rope->window_bytes);
    kvt_rope_loops_plain.rotate(rope, to, held, one, quiet);
}

KVT_TEST(rope, planted_mistakes_are_noticed)
{
    static const struct {
        const char *name;
        void (*lie)(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count);
        kvt_rope_loops loops;
        uint32_t least; /* failing cases of every hundred */
    } mistakes[] = {
        {"backwards", lie_backwards, {NULL, NULL, NULL}, 50},   {"pairing", lie_pairing, {NULL, NULL, NULL}, 50},
        {"tables", lie_tables, {NULL, NULL, NULL}, 50},         {"one late", lie_one_late, {NULL, NULL, NULL}, 50},
        {"layers", lie_layers, {NULL, NULL, NULL}, 20},         {"number format", lie_fp16, {NULL, NULL, NULL}, 30},
        {"transposed", NULL, {"", turns_transposed, NULL}, 20}, {"forward", NULL, {"", turns_forward, NULL}, 50},
        {"rounded twice", NULL, {"", NULL, rotate_twice}, 50},
    };
    const uint32_t step = 19, ran = (kvt_rope_case_count() + step - 1) / step;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        kvt_rope_loops loops = mistakes[i].loops;
        loops.turns = loops.turns != NULL ? loops.turns : kvt_rope_loops_plain.turns;
        loops.rotate = loops.rotate != NULL ? loops.rotate : kvt_rope_loops_plain.rotate;
        kvt_rope_subject subject = subject_of(&loops);
        subject.mutate = mistakes[i].lie;
        uint32_t failed = count_failures(&subject, step, NULL);
        cr_expect_geq(failed * 100, ran * mistakes[i].least, "%s: noticed in %u of %u cases", mistakes[i].name, failed,
                      ran);
    }
}

/* --------------------------------------------------------------- one memory */

enum { LAYERS = 3, PAGE = 4, PAGES = 10, TOKENS = 16, HEADS = 2, HEAD = 64, ROWS = 64, PAIRS = 16 };

/* K and V of 32 bf16 elements, a table of 64 positions. */
typedef struct small {
    kvt_backend *backend;
    kvt_layout *layout;
    uint8_t pages[LAYERS][2 * PAGES * PAGE * HEADS * HEAD];
    uint8_t segment[LAYERS * 2 * TOKENS * HEADS * HEAD];
    float cosines[ROWS][PAIRS], sines[ROWS][PAIRS];
    uint32_t ids[TOKENS / PAGE];
    void *bases[LAYERS];
    kvt_rope ropes[2];
    kvt_rope_shift shifts[1];
    kvt_rope_set set;
    kvt_move move;
} small;

static void small_open(small *s, kvt_backend *backend)
{
    memset(s, 0, sizeof *s);
    s->backend = backend;
    kvt_named_pages pages;
    kvt_page_geometry geometry = {LAYERS, PAGE, PAGES, HEADS, HEAD, 2, 0, 0};
    void *pools[LAYERS] = {s->pages[0], s->pages[1], s->pages[2]};
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("vllm-flash-nhd"), &geometry, &pages), KVT_OK);
    kvt_named_pages_place(&pages, pools, s->bases);
    cr_assert_eq(kvt_layout_create(&pages.group, 1, TOKENS, &s->layout), KVT_OK);
    kvt_test_fill(s->segment, sizeof s->segment, 3);
    kvt_test_fill(s->pages, sizeof s->pages, 4);
    for (uint32_t p = 0; p < ROWS; p++)
        for (uint32_t i = 0; i < PAIRS; i++) {
            s->cosines[p][i] = cosf((float)p * powf(1e4f, -(float)i / PAIRS));
            s->sines[p][i] = sinf((float)p * powf(1e4f, -(float)i / PAIRS));
        }
    for (uint32_t i = 0; i < TOKENS / PAGE; i++)
        s->ids[i] = 2 * i + 1;
    s->ropes[0] = (kvt_rope){.layer_count = 1,
                             .planes = 1,
                             .table_element = KVT_ROPE_FP32,
                             .window_bytes = HEAD,
                             .row_count = ROWS,
                             .row_stride = sizeof s->cosines[0],
                             .cosines = s->cosines,
                             .sines = s->sines};
    s->ropes[1] = s->ropes[0];
    s->ropes[1].layer_begin = 1, s->ropes[1].layer_count = 2;
    s->shifts[0] = (kvt_rope_shift){3, 20};
    s->set = (kvt_rope_set){s->ropes, s->shifts, 2, 0};
    s->move = (kvt_move){s->segment, s->ids, 0, TOKENS, 0, TOKENS, 0, LAYERS};
}

static void small_close(small *s)
{
    kvt_layout_destroy(s->layout);
    kvt_backend_close(s->backend);
}

static kvt_backend *open_named(const char *name)
{
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open(name, NULL, &backend), KVT_OK, "%s", kvt_last_error());
    return backend;
}

static void expect_refused(small *s, const kvt_rope_set *set, const char *word)
{
    static uint8_t pages[sizeof s->pages];
    memcpy(pages, s->pages, sizeof pages);
    cr_expect_eq(kvt_case_rope_backend(s->backend, s->layout, &s->move, 1, set), KVT_INVALID, "%s", word);
    cr_expect_not_null(strstr(kvt_last_error(), word), "\"%s\" does not name %s", kvt_last_error(), word);
    cr_expect_eq(memcmp(pages, s->pages, sizeof pages), 0, "%s: pages changed", word);
}

#define REFUSED(change, word)                                                                                          \
    do {                                                                                                               \
        small_open(&s, open_named(backends[b]));                                                                       \
        change;                                                                                                        \
        expect_refused(&s, &s.set, word);                                                                              \
        small_close(&s);                                                                                               \
    } while (0)

KVT_TEST(rope, wrong_descriptors_are_refused_before_a_byte_moves)
{
    static small s;
    static const char *const backends[] = {"portable", "cpu"};
    for (uint32_t b = 0; b < 2; b++) {
        REFUSED(s.ropes[1].group = 1, "rope 1: group 1");
        REFUSED(s.ropes[0].view = 1, "rope 0: view 1");
        REFUSED(s.ropes[1].layer_count = 3, "layers [1, +3)");
        REFUSED(s.ropes[1].layer_count = 0, "layers");
        REFUSED((s.ropes[1].layer_begin = UINT32_MAX, s.ropes[1].layer_count = 2), "layers");
        REFUSED((s.ropes[1].layer_begin = 1, s.ropes[1].layer_count = UINT32_MAX), "layers");
        REFUSED(s.ropes[0].layer_count = 2, "overlap");
        REFUSED((s.ropes[0].layer_begin = 2, s.ropes[1].layer_begin = 0), "ascending");
        REFUSED(s.ropes[0].planes = 0, "planes");
        REFUSED(s.ropes[0].planes = 4, "planes");
        REFUSED(s.ropes[0].pairing = 2, "pairing 2");
        REFUSED(s.ropes[0].element = 3, "element 3");
        REFUSED(s.ropes[0].table_element = 3, "table_element 3");
        REFUSED(s.ropes[0].window_bytes = 0, "window_bytes");
        REFUSED(s.ropes[0].window_bytes = 6, "window_bytes");
        REFUSED(s.ropes[0].window_bytes = 2 * HEAD, "window");
        REFUSED(s.ropes[0].window_bytes = 4 * KVT_ROPE_PAIRS_MAX + 4, "window_bytes");
        REFUSED(s.ropes[0].window_begin = 4, "window");
        REFUSED((s.ropes[0].window_begin = 3, s.ropes[0].window_bytes = 8), "window_begin is 3");
        REFUSED((s.ropes[0].window_begin = UINT32_MAX - 3, s.ropes[0].window_bytes = 8), "window");
        REFUSED(s.ropes[0].cosines = NULL, "cosines is NULL");
        REFUSED(s.ropes[1].sines = NULL, "sines is NULL");
        REFUSED(s.ropes[0].row_count = 0, "rows");
        REFUSED(s.ropes[0].row_stride = 4 * PAIRS - 4, "row_stride");
        REFUSED((s.ropes[0].row_count = UINT64_MAX, s.ropes[0].row_stride = UINT64_C(1) << 40), "rows");
        REFUSED(s.ropes[0].row_stride += 2, "aligned");
        REFUSED(s.ropes[0].sines = (const uint8_t *)s.sines + 1, "aligned");
        REFUSED(s.ropes[1].row_count = 20 + TOKENS - 1, "position 35 is beyond the table's 35 rows");
        REFUSED(s.shifts[0].stored = UINT32_MAX, "position");
        REFUSED(s.set.rope_count = KVT_ROPES_MAX + 1, "rope_count");
        REFUSED(s.set.reserved = 1, "reserved");
        REFUSED(s.set.ropes = NULL, "ropes");
        REFUSED(s.set.shifts = NULL, "shifts");
        REFUSED(s.move.group = 7, "group");
        REFUSED(s.ids[2] = PAGES, "page id");
        small_open(&s, open_named(backends[b]));
        expect_refused(&s, NULL, "set");
        small_close(&s);
    }
}

/* What a plain scatter leaves. */
static void plain_pages(const small *like, uint8_t *out)
{
    static small other;
    small_open(&other, open_named("portable"));
    memcpy(other.segment, like->segment, sizeof other.segment);
    cr_assert_eq(kvt_case_move_backend(other.backend, other.layout, KVT_SCATTER, &other.move, 1), KVT_OK);
    memcpy(out, other.pages, sizeof other.pages);
    small_close(&other);
}

/* Every byte, NaNs and subnormals too; the table is not even looked at. */
KVT_TEST(rope, a_shift_of_nothing_copies_bytes)
{
    static small s;
    static uint8_t want[sizeof s.pages];
    static const char *const backends[] = {"portable", "cpu"};
    for (uint32_t b = 0; b < 2; b++) {
        small_open(&s, open_named(backends[b]));
        memset(s.cosines, 0xff, sizeof s.cosines);
        s.shifts[0] = (kvt_rope_shift){4000000, 4000000};
        for (uint32_t i = 0; i < sizeof s.segment; i += 2) {
            uint16_t half = (uint16_t)(i / 2 * 257);
            memcpy(s.segment + i, &half, 2);
        }
        cr_assert_eq(kvt_case_rope_backend(s.backend, s.layout, &s.move, 1, &s.set), KVT_OK, "%s", kvt_last_error());
        plain_pages(&s, want);
        cr_assert_eq(memcmp(s.pages, want, sizeof want), 0, "%s", backends[b]);
        small_close(&s);
    }
}

KVT_TEST(rope, without_descriptors_or_moves_nothing_turns)
{
    static small s;
    static uint8_t want[sizeof s.pages];
    small_open(&s, open_named("cpu"));
    s.set = (kvt_rope_set){NULL, s.shifts, 0, 0};
    cr_assert_eq(kvt_case_rope_backend(s.backend, s.layout, &s.move, 1, &s.set), KVT_OK, "%s", kvt_last_error());
    plain_pages(&s, want);
    cr_assert_eq(memcmp(s.pages, want, sizeof want), 0);
    cr_assert_eq(kvt_case_rope_backend(s.backend, s.layout, NULL, 0, &(kvt_rope_set){0}), KVT_OK);
    s.set = (kvt_rope_set){s.ropes, s.shifts, 2, 0};
    s.move.token_count = 0;
    cr_assert_eq(kvt_case_rope_backend(s.backend, s.layout, &s.move, 1, &s.set), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(memcmp(s.pages, want, sizeof want), 0);
    small_close(&s);
}

KVT_TEST(rope, the_data_path_allocates_nothing)
{
    static small s;
    small_open(&s, open_named("cpu"));
    uint64_t allocations = kvt_alloc_count();
    cr_assert_eq(kvt_case_rope_backend(s.backend, s.layout, &s.move, 1, &s.set), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_alloc_count(), allocations);
    small_close(&s);
}

/* -------------------------------------------------------- number formats */

KVT_TEST(rope, sixteen_bit_numbers_are_read_exactly)
{
    for (uint32_t half = 0; half < 1u << 16; half++) {
        uint16_t stored = (uint16_t)half;
        long double bf16 = kvt_oracle_load(KVT_ROPE_BF16, &stored), fp16 = kvt_oracle_load(KVT_ROPE_FP16, &stored);
        float got[2] = {kvt_rope_from_bf16(half), kvt_rope_from_fp16(half)};
        cr_assert((isnan(bf16) && isnan(got[0])) || (long double)got[0] == bf16, "bf16 %04x", half);
        cr_assert((isnan(fp16) && isnan(got[1])) || (long double)got[1] == fp16, "fp16 %04x", half);
        cr_assert_eq(signbit(got[1]) != 0, half >> 15, "the sign of fp16 %04x", half);
    }
}

static void expect_rounded(uint32_t bits)
{
    float value = kvt_rope_float(bits);
    uint32_t got[2] = {kvt_rope_to_bf16(value), kvt_rope_to_fp16(value)};
    for (uint32_t element = 0; element < 2; element++) {
        uint16_t want = 0x7fff;
        if (!isnan(value))
            kvt_oracle_store(element, &want, (long double)value);
        cr_assert_eq(got[element], want, "%08x as element %u: %04x, not %04x", bits, element, got[element], want);
    }
}

/* Around every 16-bit number, halfway between two, and at random. */
KVT_TEST(rope, sixteen_bit_numbers_are_rounded_to_the_nearest)
{
    uint64_t state = kvt_test_seed("rounding");
    for (uint32_t high = 0; high < 1u << 16; high++)
        for (uint32_t low = 0; low < 4; low++) {
            static const uint32_t lows[4] = {0, 1, 0x7fff, 0x8000};
            expect_rounded(high << 16 | lows[low]);
        }
    for (uint32_t half = 0; half < 0x7c00; half++) { /* halfway between two of fp16 */
        uint32_t between = kvt_rope_bits((kvt_rope_from_fp16(half) + kvt_rope_from_fp16(half + 1)) / 2);
        for (uint32_t i = between - (between != 0); i <= between + 1; i++)
            expect_rounded(i), expect_rounded(i | UINT32_C(1) << 31);
    }
    for (uint32_t i = 0; i < 300000; i++)
        expect_rounded((uint32_t)kvt_test_random(&state));
}

enum { CORNER_PAIRS = 256 };

/* Turns by sensible, huge, tiny, infinite and meaningless amounts, of every 16-bit number. */
static void compare_corners(const kvt_rope_loops *loops, uint32_t element, uint32_t pairing)
{
    static const float corners[] = {0.6f, -0.8f, 1.0f, 0.0f, -0.0f, 1e-40f, 3e38f, -1e-20f, INFINITY, -INFINITY, NAN};
    const uint32_t corner_count = sizeof corners / sizeof *corners, bytes = kvt_rope_element_bytes(element);
    kvt_rope rope = {.element = element, .pairing = pairing, .window_bytes = 2 * CORNER_PAIRS * bytes};
    static uint8_t from[8 * CORNER_PAIRS], want[8 * CORNER_PAIRS], got[8 * CORNER_PAIRS];
    static double cosines[CORNER_PAIRS], sines[CORNER_PAIRS];
    for (uint32_t round = 0; round < 65536 / CORNER_PAIRS; round++) {
        for (uint32_t i = 0; i < 2 * CORNER_PAIRS; i++) {
            uint32_t half = i < CORNER_PAIRS ? round * CORNER_PAIRS + i : (round * CORNER_PAIRS + i) * 40503;
            uint32_t full = half << 16 | (half * 7 & 0xffff);
            memcpy(from + i * bytes, bytes == 2 ? (const void *)&half : &full, bytes);
        }
        for (uint32_t i = 0; i < CORNER_PAIRS; i++) {
            float c = corners[(i + round) % corner_count], s = corners[(i / corner_count + round) % corner_count];
            if (element == KVT_ROPE_FP32)
                cosines[i] = (double)c, sines[i] = (double)s;
            else
                ((float *)cosines)[i] = c, ((float *)sines)[i] = s;
        }
        kvt_rope_loops_plain.rotate(&rope, want, from, cosines, sines);
        loops->rotate(&rope, got, from, cosines, sines);
        cr_assert_eq(memcmp(got, want, rope.window_bytes), 0, "%s, element %u, pairing %u", loops->name, element,
                     pairing);
    }
}

KVT_TEST(rope, infinities_subnormals_and_nans_are_the_same_everywhere)
{
    const kvt_rope_loops *loops[4];
    all_loops(loops);
    for (uint32_t i = 0; loops[i] != NULL; i++)
        for (uint32_t element = 0; element < 3; element++)
            for (uint32_t pairing = 0; pairing < 2; pairing++)
                compare_corners(loops[i], element, pairing);
}

/* One NaN for all: what a device writes. */
KVT_TEST(rope, a_result_that_is_no_number_has_one_form)
{
    static const uint32_t want[] = {0x7fff, 0x7fff, 0x7fffffff};
    for (uint32_t element = 0; element < 3; element++) {
        kvt_rope rope = {.element = element, .pairing = KVT_ROPE_GPTJ, .window_bytes = 8};
        uint32_t bytes = kvt_rope_element_bytes(element), got[4] = {0};
        double one[2] = {1, 1}, zero[2] = {0, 0};
        float ones[2] = {1, 1};
        uint8_t from[16] = {0};
        memset(from, 0xff, sizeof from); /* negative NaNs */
        rope.window_bytes = 2 * bytes;
        kvt_rope_loops_plain.rotate(&rope, (uint8_t *)got, from, element == KVT_ROPE_FP32 ? (void *)one : (void *)ones,
                                    zero);
        cr_assert_eq(bytes == 2 ? got[0] & 0xffff : got[0], want[element], "element %u: %x", element, got[0]);
    }
}

/* ---------------------------------------------------- devices without turns */

static uint32_t any_score(char *why, size_t why_bytes)
{
    (void)why, (void)why_bytes;
    return 1;
}
static kvt_status any_open(const kvt_log *log, void **out)
{
    (void)log;
    *out = NULL;
    return KVT_OK;
}
static void any_describe(void *context, char text[KVT_BACKEND_DEVICE_TEXT])
{
    (void)context;
    snprintf(text, KVT_BACKEND_DEVICE_TEXT, "copies");
}
static kvt_status any_copy(void *context, kvt_direction direction, void *to, const void *from, uint64_t bytes,
                           void *stream)
{
    (void)context, (void)direction, (void)stream;
    memcpy(to, from, bytes);
    return KVT_OK;
}

KVT_TEST(rope, a_device_that_cannot_turn_says_so_and_still_copies)
{
    static const kvt_backend_ops ops = {.name = "copier",
                                        .version = KVT_BACKEND_VERSION,
                                        .score = any_score,
                                        .open = any_open,
                                        .describe = any_describe,
                                        .copy = any_copy};
    static small s;
    static uint8_t before[sizeof s.pages];
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open_ops(&ops, KVT_RUNG_BEST, NULL, &backend), KVT_OK);
    small_open(&s, backend);
    memcpy(before, s.pages, sizeof before);
    cr_assert_eq(kvt_case_rope_backend(backend, s.layout, &s.move, 1, &s.set), KVT_UNSUPPORTED);
    cr_assert_not_null(strstr(kvt_last_error(), "copier"));
    cr_assert_eq(memcmp(s.pages, before, sizeof before), 0);
    s.shifts[0].wanted = s.shifts[0].stored;
    cr_assert_eq(kvt_case_rope_backend(backend, s.layout, &s.move, 1, &s.set), KVT_OK, "%s", kvt_last_error());
    plain_pages(&s, before);
    cr_assert_eq(memcmp(s.pages, before, sizeof before), 0);
    small_close(&s);
}
