/* SPDX-License-Identifier: Apache-2.0
 *
 * What the measuring commands stand on: expected bytes, geometries, traces, paged memory. A checker that cannot see a
 * wrong byte makes every replay green, so each of them is shown damage here.
 */
#include "kernels/kernels.h"
#include "tests/support.h"
#include "tools/geometry.h"
#include "tools/paged.h"
#include "tools/pattern.h"
#include "tools/scratch.h"
#include "tools/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- pattern ---- */

KVT_TEST(pattern, every_cut_of_the_pattern_has_the_same_bytes)
{
    uint8_t buffer[700];
    for (uint64_t offset = 0; offset < 20; offset++) {
        for (size_t bytes = 0; bytes < sizeof buffer; bytes += 1 + bytes / 9) {
            uint64_t first = 0;
            memset(buffer, 0, sizeof buffer);
            kvt_pattern_fill(buffer, 42, offset, bytes);
            for (size_t i = 0; i < bytes; i++)
                cr_assert_eq(buffer[i], kvt_pattern_byte(42, offset + i), "byte %zu of a cut at %lu", i, offset);
            for (size_t i = bytes; i < sizeof buffer; i++)
                cr_assert_eq(buffer[i], 0, "nothing behind the cut is written");
            cr_assert_eq(kvt_pattern_check(buffer, 42, offset, bytes, &first), 0);
        }
    }
}

KVT_TEST(pattern, one_flipped_bit_is_found_where_it_is)
{
    uint8_t buffer[1500];
    uint64_t seed = kvt_test_seed("pattern");
    for (uint32_t round = 0; round < 2000; round++) {
        uint64_t offset = kvt_test_random(&seed) % 4096;
        size_t at = kvt_test_random(&seed) % sizeof buffer;
        uint64_t first = 0;
        kvt_pattern_fill(buffer, round, offset, sizeof buffer);
        buffer[at] ^= (uint8_t)(1u << (round % 8));
        cr_assert_eq(kvt_pattern_check(buffer, round, offset, sizeof buffer, &first), 1);
        cr_assert_eq(first, at);
    }
}

KVT_TEST(pattern, every_word_differs_at_another_place_or_under_another_seed)
{
    enum { WORDS = 4096 };
    static uint64_t here[WORDS], shifted[WORDS], other[WORDS];
    kvt_pattern_fill(here, kvt_pattern_chain(KVT_PATTERN_ROOT, 7), 0, sizeof here);
    kvt_pattern_fill(shifted, kvt_pattern_chain(KVT_PATTERN_ROOT, 7), 128, sizeof shifted);
    kvt_pattern_fill(other, kvt_pattern_chain(KVT_PATTERN_ROOT, 8), 0, sizeof other);
    for (size_t i = 0; i < WORDS; i++)
        cr_assert(here[i] != shifted[i] && here[i] != other[i]);
}

KVT_TEST(pattern, touched_poison_is_found)
{
    uint8_t buffer[300];
    uint64_t first = 0;
    kvt_poison_fill(buffer, sizeof buffer);
    cr_assert_eq(kvt_poison_check(buffer, sizeof buffer, &first), 0);
    cr_assert_eq(kvt_poison_check(buffer, 0, &first), 0);
    for (size_t at = 0; at < sizeof buffer; at++) {
        buffer[at] = 1;
        cr_assert_eq(kvt_poison_check(buffer, sizeof buffer, &first), 1);
        cr_assert_eq(first, at);
        buffer[at] = KVT_POISON_BYTE;
    }
    memset(buffer, 3, sizeof buffer);
    cr_assert_eq(kvt_poison_check(buffer, sizeof buffer, &first), sizeof buffer, "all the same is not poison yet");
}

/* ---- geometries ---- */

KVT_TEST(geometry, named_models_have_their_published_width)
{
    static const struct {
        const char *name;
        uint64_t token_bytes;
    } known[] = {{"llama-3.1-8b", 131072}, {"qwen3-32b", 262144}, {"deepseek-v3-mla", 70272}, {"tiny", 512}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        kvt_geometry g;
        cr_assert_eq(kvt_geometry_find(known[i].name, 0, &g), KVT_OK);
        cr_assert_eq(kvt_geometry_token_bytes(&g), known[i].token_bytes, "%s", known[i].name);
        cr_assert_str_eq(kvt_geometry_name_at((uint32_t)i), known[i].name);
    }
    kvt_geometry g;
    cr_assert_eq(kvt_geometry_find("llama-3.1-8b", 2, &g), KVT_OK);
    cr_assert_eq(kvt_geometry_token_bytes(&g), 8192);
}

static char *write_file(const char *folder, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    return kvt_strdup(path);
}

KVT_TEST(geometry, a_file_describes_one_and_a_bad_file_is_refused_by_field)
{
    static const struct {
        const char *text;
        const char *complaint; /* NULL: good */
    } cases[] = {
        {"{\"name\": \"mine\", \"layers\": 3, \"planes\": 1, \"heads\": 2, \"head_dim\": 80, \"dtype\": \"fp8\"}",
         NULL},
        {"{\"name\": \"mine\", \"layers\": 0, \"heads\": 2, \"head_dim\": 80}", "layers"},
        {"{\"name\": \"mine\", \"layers\": 3, \"planes\": 3, \"heads\": 2, \"head_dim\": 80}", "planes"},
        {"{\"name\": \"mine\", \"layers\": 3, \"heads\": 2, \"head_dim\": 99999999}", "head_dim"},
        {"{\"name\": \"mine\", \"layers\": 3, \"heads\": 2, \"head_dim\": 80, \"dtype\": \"int3\"}", "dtype"},
        {"{\"name\": \"mine\", \"layers\": 3, \"heads\": 2, \"head_dim\": 80, \"heat\": 1}", "heat"},
        {"{\"layers\": 3,", "line 1"},
        {"[]", "geometry"},
    };
    char *folder = kvt_test_tmpdir();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvt_geometry g;
        char *path = write_file(folder, "g.json", cases[i].text);
        kvt_status status = kvt_geometry_find(path, 0, &g);
        cr_assert_eq(status, cases[i].complaint == NULL ? KVT_OK : KVT_INVALID, "case %zu", i);
        if (cases[i].complaint == NULL)
            cr_assert_eq(kvt_geometry_token_bytes(&g), 3 * 2 * 80);
        else
            cr_assert_not_null(strstr(kvt_last_error(), cases[i].complaint), "%s", kvt_last_error());
        kvt_free(path);
    }
    kvt_geometry g;
    cr_assert_eq(kvt_geometry_find("llama", 0, &g), KVT_INVALID);
    cr_assert_not_null(strstr(kvt_last_error(), "llama-3.1-8b"), "the refusal names what is known");
    kvt_test_rmtree(folder);
    kvt_free(folder);
}

/* ---- traces ---- */

KVT_TEST(trace, equal_prefixes_share_nodes_and_equal_ids_behind_other_blocks_do_not)
{
    char *folder = kvt_test_tmpdir();
    char *path =
        write_file(folder, "t.jsonl",
                   "{\"timestamp\": 0, \"input_length\": 1500, \"output_length\": 1, \"hash_ids\": [5, 6, 7]}\n"
                   "\n"
                   "{\"timestamp\": 8, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [5, 6]}\n"
                   "{\"timestamp\": 9, \"input_length\": 1000, \"output_length\": 1, \"hash_ids\": [6, 7]}\n");
    kvt_trace *trace = NULL;
    cr_assert_eq(kvt_trace_read(path, 0, &trace), KVT_OK);
    cr_assert_eq(trace->request_count, 3);
    cr_assert_eq(trace->node_count, 5);
    cr_assert_eq(trace->blocks_max, 3);
    cr_assert_eq(trace->input_tokens, 3524);
    cr_assert_eq(trace->requests[1].time_ms, 8);
    const uint32_t *first = trace->blocks + trace->requests[0].block_begin;
    const uint32_t *second = trace->blocks + trace->requests[1].block_begin;
    const uint32_t *third = trace->blocks + trace->requests[2].block_begin;
    cr_assert(first[0] == second[0] && first[1] == second[1]);
    cr_assert(third[0] != first[1] && third[1] != first[2]);
    cr_assert_neq(trace->nodes[third[0]].seed, trace->nodes[first[1]].seed);
    kvt_trace_free(trace);
    cr_assert_eq(kvt_trace_read(path, 2, &trace), KVT_OK);
    cr_assert_eq(trace->request_count, 2);
    kvt_trace_free(trace);
    kvt_free(path);
    kvt_test_rmtree(folder);
    kvt_free(folder);
}

KVT_TEST(trace, a_bad_line_is_named_by_its_number)
{
    static const char *const good = "{\"timestamp\": 5, \"input_length\": 600, \"hash_ids\": [1, 2]}\n";
    static const char *const bad[] = {
        "{\"timestamp\": 5, \"input_length\": 600, \"hash_ids\": [1, 2]",
        "[1]",
        "{\"input_length\": 600, \"hash_ids\": [1, 2]}",
        "{\"timestamp\": 6, \"input_length\": 600, \"hash_ids\": [1]}",
        "{\"timestamp\": 6, \"input_length\": 600, \"hash_ids\": [1, -2]}",
        "{\"timestamp\": 6, \"input_length\": 600, \"hash_ids\": [1, \"2\"]}",
        "{\"timestamp\": 6, \"input_length\": 0, \"hash_ids\": []}",
        "{\"timestamp\": 6, \"input_length\": 99999999999, \"hash_ids\": [1]}",
        "{\"timestamp\": 4, \"input_length\": 600, \"hash_ids\": [1, 2]}",
        "{\"timestamp\": 6, \"input_length\": 600, \"hash_ids\": 7}",
    };
    char *folder = kvt_test_tmpdir();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s%s%s\n", good, good, bad[i]);
        char *path = write_file(folder, "t.jsonl", text);
        kvt_trace *trace = NULL;
        cr_assert_eq(kvt_trace_read(path, 0, &trace), KVT_INVALID, "case %zu", i);
        cr_assert_not_null(strstr(kvt_last_error(), "t.jsonl:3: "), "%s", kvt_last_error());
        cr_assert_eq(kvt_trace_read(path, 2, &trace), KVT_OK, "what is not asked for is not read");
        kvt_trace_free(trace);
        kvt_free(path);
    }
    kvt_trace *trace = NULL;
    char *path = write_file(folder, "empty.jsonl", "\n");
    cr_assert_eq(kvt_trace_read(path, 0, &trace), KVT_INVALID);
    cr_assert_eq(kvt_trace_read(folder, 0, &trace), KVT_IO, "a directory cannot be read");
    kvt_free(path);
    kvt_test_rmtree(folder);
    cr_assert_eq(kvt_trace_read("/no/such/file", 0, &trace), KVT_IO);
    kvt_free(folder);
}

KVT_TEST(trace, tokens_are_a_function_of_the_id)
{
    uint32_t a[KVT_TRACE_BLOCK_TOKENS], b[KVT_TRACE_BLOCK_TOKENS];
    kvt_trace_tokens(3, a);
    kvt_trace_tokens(3, b);
    cr_assert_eq(memcmp(a, b, sizeof a), 0);
    kvt_trace_tokens(4, b);
    cr_assert_neq(memcmp(a, b, sizeof a), 0);
}

/* ---- paged memory ---- */

static const kvt_geometry SHAPES[] = {
    {"two planes", "fp16", 2, 2, 3, 24, 2},
    {"one plane", "bf16", 3, 1, 1, 40, 2},
    {"bytes", "fp8", 1, 2, 2, 5, 1},
};
enum { CHUNK = 24, PAGE = 4, PAGES = 40 };

static kvt_paged *make(const kvt_geometry *geometry, const char *layout, kvt_backend *backend)
{
    kvt_paged_options options = {.layout = layout,
                                 .page_tokens = PAGE,
                                 .page_count = PAGES,
                                 .chunk_tokens = CHUNK,
                                 .seed = 3,
                                 .backend = backend};
    kvt_paged *paged = NULL;
    cr_assert_eq(kvt_paged_create(geometry, &options, &paged), KVT_OK, "%s", kvt_last_error());
    return paged;
}

/* The address of one byte, straight from the public contract of kvt_view. */
static uint8_t *address(const kvt_group *g, uint32_t plane, uint32_t layer, uint32_t page, uint32_t row, uint32_t byte)
{
    const kvt_view *v = &g->views[0];
    uint8_t *base = g->bases[plane * v->base_plane + layer * v->base_layer];
    uint32_t head = byte / v->head_bytes;
    return base + page * v->page_stride + plane * v->plane_stride + layer * v->layer_stride + row * v->token_stride +
           head * v->head_stride + v->offset + byte % v->head_bytes;
}

typedef void case_body(const kvt_geometry *geometry, kvt_paged *paged, const char *layout);

static void each_case_on(case_body *body, kvt_backend *backend)
{
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        for (uint32_t l = 0; kvt_paged_layout_name_at(l) != NULL; l++) {
            kvt_paged *paged = make(&SHAPES[s], kvt_paged_layout_name_at(l), backend);
            body(&SHAPES[s], paged, kvt_paged_layout_name_at(l));
            kvt_paged_destroy(paged);
        }
    }
}

/* Pages in host memory, and pages that only a backend's calls reach: the CPU's plays a device. */
static void each_case(case_body *body)
{
    kvt_backend *device = NULL;
    each_case_on(body, NULL);
    cr_assert_eq(kvt_backend_open("cpu", NULL, &device), KVT_OK);
    each_case_on(body, device);
    kvt_backend_close(device);
}

static void fill_lands_where_the_strides_say(const kvt_geometry *g, kvt_paged *paged, const char *layout)
{
    uint32_t ids[CHUNK / PAGE];
    uint32_t row_bytes = (uint32_t)kvt_geometry_row_bytes(g);
    enum { BEGIN = 3, END = 21 };
    kvt_paged_take(paged, CHUNK / PAGE, ids);
    kvt_paged_fill(paged, ids, 77, BEGIN, END);
    uint64_t offset = 0;
    for (uint32_t l = 0; l < g->layer_count; l++)
        for (uint32_t p = 0; p < g->plane_count; p++)
            for (uint32_t t = 0; t < CHUNK; t++)
                for (uint32_t b = 0; b < row_bytes; b++, offset++) {
                    uint8_t found = *address(kvt_paged_group(paged), p, l, ids[t / PAGE], t % PAGE, b);
                    uint8_t expected = t >= BEGIN && t < END ? kvt_pattern_byte(77, offset) : KVT_POISON_BYTE;
                    cr_assert_eq(found, expected, "%s, %s: l%u p%u t%u b%u", g->name, layout, l, p, t, b);
                }
    kvt_paged_poison(paged, ids, CHUNK / PAGE);
    kvt_wrong wrong = {0};
    kvt_paged_check_poison_all(paged, &wrong);
    cr_assert_eq(wrong.count, 0, "nothing but the pages was written: %s, %s", g->name, layout);
}

KVT_TEST(paged, fill_lands_where_the_strides_say) { each_case(fill_lands_where_the_strides_say); }

/* Damage one byte of a loaded token, of a token that was not loaded, and of a page that is not in use. */
static void damage_is_found(const kvt_geometry *g, kvt_paged *paged, const char *layout)
{
    enum { LOADED = 18 };
    uint32_t ids[CHUNK / PAGE];
    uint32_t row_bytes = (uint32_t)kvt_geometry_row_bytes(g);
    kvt_paged_take(paged, CHUNK / PAGE, ids);
    kvt_paged_fill(paged, ids, 5, 0, LOADED);
    kvt_wrong wrong = {0};
    kvt_paged_check(paged, ids, 5, LOADED, &wrong);
    cr_assert_eq(wrong.count, 0, "%s, %s", g->name, layout);
    for (uint32_t t = 0; t < CHUNK; t += 5) {
        uint8_t *at = address(kvt_paged_group(paged), g->plane_count - 1, g->layer_count - 1, ids[t / PAGE], t % PAGE,
                              row_bytes - 1);
        *at ^= 0x10;
        wrong = (kvt_wrong){0};
        kvt_paged_check(paged, ids, 5, LOADED, &wrong);
        cr_assert_eq(wrong.count, 1, "%s, %s", g->name, layout);
        cr_assert(wrong.token == t && wrong.layer == g->layer_count - 1 && wrong.byte == row_bytes - 1);
        cr_assert_eq(wrong.outside, t >= LOADED);
        *at ^= 0x10;
    }
    kvt_paged_poison(paged, ids, CHUNK / PAGE);
    uint8_t *guard = address(kvt_paged_group(paged), 0, 0, 0, 0, 0);
    *guard ^= 1;
    wrong = (kvt_wrong){0};
    kvt_paged_check_poison_all(paged, &wrong);
    cr_assert(wrong.count == 1 && wrong.outside && wrong.page == 0);
}

KVT_TEST(paged, damage_is_found) { each_case(damage_is_found); }

KVT_TEST(paged, a_touched_gap_behind_a_page_is_found)
{
    uint32_t ids[CHUNK / PAGE];
    kvt_paged *paged = make(&SHAPES[0], "padded", NULL);
    kvt_paged_take(paged, CHUNK / PAGE, ids);
    kvt_paged_fill(paged, ids, 5, 0, CHUNK);
    uint64_t used = kvt_geometry_row_bytes(&SHAPES[0]) * PAGE * 2;
    *(address(kvt_paged_group(paged), 0, 1, ids[2], 0, 0) + used) = 0;
    kvt_wrong wrong = {0};
    kvt_paged_check(paged, ids, 5, CHUNK, &wrong);
    cr_assert(wrong.count == 1 && wrong.outside && wrong.page == ids[2] && wrong.byte == used);
    char text[200];
    kvt_wrong_text(&wrong, text, sizeof text);
    cr_assert_not_null(strstr(text, "found 0x00"), "%s", text);
    kvt_paged_destroy(paged);
}

KVT_TEST(paged, pages_taken_together_are_different_and_shuffled)
{
    kvt_paged *paged = make(&SHAPES[0], "flash", NULL);
    uint32_t ids[PAGES], again[PAGES];
    kvt_paged_take(paged, PAGES, ids);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < PAGES; i++) {
        cr_assert(ids[i] >= 1 && ids[i] <= PAGES, "the guards are never handed out");
        cr_assert((seen >> ids[i] & 1) == 0);
        seen |= UINT64_C(1) << ids[i];
    }
    kvt_paged_take(paged, PAGES, again);
    cr_assert_neq(memcmp(ids, again, sizeof ids), 0);
    kvt_paged_destroy(paged);
}

KVT_TEST(paged, a_blob_has_the_bytes_of_its_pages_in_canonical_order)
{
    const kvt_geometry *g = &SHAPES[0];
    uint64_t row = kvt_geometry_row_bytes(g);
    uint8_t blob[2 * 2 * CHUNK * 72];
    kvt_wrong wrong = {0};
    cr_assert_eq(sizeof blob, kvt_geometry_token_bytes(g) * CHUNK);
    kvt_blob_fill(g, CHUNK, 9, CHUNK, blob);
    for (size_t i = 0; i < sizeof blob; i++)
        cr_assert_eq(blob[i], kvt_pattern_byte(9, i));
    kvt_blob_fill(g, CHUNK, 9, 7, blob); /* a tail: rows of 7 tokens, bytes of the chunk's first tokens */
    cr_assert_eq(blob[7 * row], kvt_pattern_byte(9, CHUNK * row));
    kvt_blob_check(g, CHUNK, 9, 7, blob, &wrong);
    cr_assert_eq(wrong.count, 0);
    blob[7 * row + 3] ^= 1;
    kvt_blob_check(g, CHUNK, 9, 7, blob, &wrong);
    cr_assert(wrong.count == 1 && wrong.plane == 1 && wrong.layer == 0 && wrong.token == 0 && wrong.byte == 3);
}

KVT_TEST(paged, impossible_memory_is_refused)
{
    kvt_paged *paged = NULL;
    kvt_paged_options options = {.layout = "flash", .page_tokens = 4, .page_count = 8, .chunk_tokens = 24};
    kvt_paged_options bad = options;
    bad.layout = "diagonal";
    cr_assert_eq(kvt_paged_create(&SHAPES[0], &bad, &paged), KVT_INVALID);
    cr_assert_not_null(strstr(kvt_last_error(), "cross-layer"));
    bad = options;
    bad.page_tokens = 7;
    cr_assert_eq(kvt_paged_create(&SHAPES[0], &bad, &paged), KVT_INVALID);
    bad = options;
    bad.page_count = UINT32_MAX;
    cr_assert_eq(kvt_paged_create(&SHAPES[0], &bad, &paged), KVT_INVALID);
}

/* ---- scratch ---- */

/* A folder with these files, cleaned up as where no store could be made: how many entries are left, -1: it is gone. */
static int left_of(const char *const *files, bool folder_too)
{
    char *folder = kvt_test_tmpdir(), path[700];
    int left = -1;
    for (size_t i = 0; files[i] != NULL; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(file, 0);
        close(file);
    }
    kvt_scratch_unmake(folder, folder_too);
    if (access(folder, F_OK) == 0) {
        left = 0;
        for (size_t i = 0; files[i] != NULL; i++) {
            snprintf(path, sizeof path, "%s/%s", folder, files[i]);
            left += access(path, F_OK) == 0;
        }
        kvt_test_rmtree(folder);
    }
    kvt_free(folder);
    return left;
}

KVT_TEST(scratch, a_store_that_could_not_be_made_leaves_nothing_and_takes_nothing_along)
{
    static const char *const begun[] = {"LOCK", "data.0", "SUPER.tmp", NULL}, *const none[] = {NULL};
    static const char *const store[] = {"LOCK", "data.0", "SUPER", NULL}, *const letter[] = {"letter", NULL};
    cr_assert_eq(left_of(none, true), -1);
    cr_assert_eq(left_of(begun, true), -1);
    cr_assert_eq(left_of(begun, false), 0, "the folder was there before");
    cr_assert_eq(left_of(store, true), 3);
    cr_assert_eq(left_of(letter, true), 1);
}

KVT_TEST(scratch, a_store_that_another_process_is_making_stays)
{
    char *folder = kvt_test_tmpdir(), path[700];
    snprintf(path, sizeof path, "%s/LOCK", folder);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0);
    kvt_scratch_unmake(folder, true);
    cr_assert_eq(access(path, F_OK), 0);
    close(lock);
    kvt_scratch_unmake(folder, true);
    cr_assert_neq(access(folder, F_OK), 0);
    kvt_free(folder);
}

KVT_TEST(scratch, a_named_folder_that_was_made_stays_unless_it_is_empty)
{
    char *folder = kvt_test_tmpdir(), path[700], file[720];
    kvt_scratch scratch;
    snprintf(path, sizeof path, "%s/named", folder);
    snprintf(file, sizeof file, "%s/file", path);
    cr_assert_eq(kvt_scratch_open(path, "unused", &scratch), KVT_OK);
    cr_assert(scratch.made && !scratch.remove);
    kvt_scratch_close(&scratch);
    cr_assert_neq(access(path, F_OK), 0);
    cr_assert_eq(kvt_scratch_open(path, "unused", &scratch), KVT_OK);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    kvt_scratch_close(&scratch);
    cr_assert_eq(access(file, F_OK), 0);
    cr_assert_eq(kvt_scratch_open(path, "unused", &scratch), KVT_OK);
    cr_assert(!scratch.made);
    kvt_scratch_close(&scratch);
    kvt_test_rmtree(folder);
    kvt_free(folder);
}
