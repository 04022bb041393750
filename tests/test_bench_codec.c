/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench codec as a user runs it: rows for every codec and side, ratios that add up, casts, the analysis, wrong
 * words.
 */
#include "tests/kv_file.h"
#include "tests/run_command.h"
#include "tests/support.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

static const kv_file MODEL = {
    .layer_count = 2, .layers = {0, 1}, .heads = {2, 2}, .dims = {32, 32}, .tokens = 70, .seed = 3};

typedef struct stage {
    char *folder;
} stage;

static stage stage_open(void)
{
    stage s = {kvt_test_tmpdir()};
    char path[256];
    snprintf(path, sizeof path, "%s/kv.safetensors", s.folder);
    kv_file_write(&MODEL, path);
    return s;
}

static void stage_close(stage *s)
{
    kvt_test_rmtree(s->folder);
    kvt_free(s->folder);
}

static json_t *answer_of(const stage *s, const char *line)
{
    kvt_command_result result = kvt_command_run(s->folder, line, NULL);
    json_error_t error;
    cr_assert_eq(result.code, 0, "%s", result.err);
    json_t *answer = json_loads(result.out, JSON_REJECT_DUPLICATES, &error);
    cr_assert_not_null(answer, "%s: %s", error.text, result.out);
    kvt_command_free(&result);
    return answer;
}

static const char *text_of(const json_t *row, const char *key) { return json_string_value(json_object_get(row, key)); }

static double number_of(const json_t *row, const char *key) { return json_number_value(json_object_get(row, key)); }

KVT_TEST(bench_codec, every_codec_is_measured_for_k_and_v_and_both)
{
    stage s = stage_open();
    json_t *answer =
        answer_of(&s, "bench codec %s/kv.safetensors --chunk-tokens 16 --rounds 1 --bytes 1M --json --quiet");
    cr_assert_str_eq(text_of(answer, "schema"), "kvtier.bench-codec/1");
    size_t i, k = 0, both = 0, memcpys = 0;
    double k_bytes = 0, v_bytes = 0, both_bytes = 0;
    json_t *row;
    json_array_foreach(json_object_get(answer, "rows"), i, row)
    {
        bool rans = strcmp(text_of(row, "codec"), "rans") == 0;
        double encoded = number_of(row, "encoded_bytes"), raw = number_of(row, "raw_bytes");
        cr_assert_float_eq(number_of(row, "ratio"), raw / encoded, 1e-9);
        cr_assert_float_eq(number_of(row, "bits_per_element"), 16 * encoded / raw, 1e-9);
        memcpys += strcmp(text_of(row, "codec"), "memcpy") == 0;
        if (strcmp(text_of(row, "planes"), "all") == 0) {
            both++;
            both_bytes += rans ? encoded : 0;
            continue;
        }
        cr_assert_gt(number_of(row, "encode_bytes_per_second"), 0);
        cr_assert_gt(number_of(row, "decode_bytes_per_second"), 0);
        /* Four whole chunks of 16 tokens, two layers of two heads of 32. */
        cr_assert_eq(raw, 4 * 16 * 2 * 2 * 32 * 2);
        bool is_k = strcmp(text_of(row, "planes"), "K") == 0;
        k += is_k;
        k_bytes += rans && is_k ? encoded : 0;
        v_bytes += rans && !is_k ? encoded : 0;
    }
    cr_assert_eq(memcpys, 2u);
    cr_assert_geq(both, 2u, "xpack and rans, zstd where it is built in");
    cr_assert_eq(k, both + 1);
    cr_assert_eq(k_bytes + v_bytes, both_bytes);
    json_decref(answer);
    stage_close(&s);
}

KVT_TEST(bench_codec, elements_are_cast_and_instructions_chosen)
{
    stage s = stage_open();
    static const char *const casts[] = {"fp16", "e4m3", "e5m2"};
    static const double widths[] = {16, 8, 8};
    for (size_t c = 0; c < 3; c++) {
        char line[200];
        snprintf(line, sizeof line,
                 "bench codec %%s/kv.safetensors --chunk-tokens 16 --rounds 1 --bytes 1M --json --quiet --cast %s "
                 "--cpu portable",
                 casts[c]);
        json_t *answer = answer_of(&s, line), *row = json_array_get(json_object_get(answer, "rows"), 0);
        cr_assert_str_eq(text_of(answer, "instructions"), "portable");
        cr_assert_eq(number_of(row, "bits_per_element"), widths[c]);
        json_decref(answer);
    }
    stage_close(&s);
}

/* The file's elements are noise of 16 bits: their entropies are known, less what 1024 samples hide. */
KVT_TEST(bench_codec, the_analysis_knows_noise)
{
    stage s = stage_open();
    json_t *answer = answer_of(&s, "bench codec --analyse %s/kv.safetensors --chunk-tokens 64 --json --quiet");
    json_t *rows = json_object_get(answer, "kv.safetensors"), *row;
    size_t i, seen = 0;
    json_array_foreach(rows, i, row)
    {
        const char *figure = text_of(row, "figure");
        double k = number_of(row, "k");
        cr_assert(isfinite(k), "%s", figure);
        seen += strcmp(figure, "sign") == 0 || strcmp(figure, "exponent") == 0;
        if (strcmp(figure, "sign") == 0)
            cr_assert(k > 0.99 && k <= 1, "%f", k);
        if (strcmp(figure, "exponent") == 0)
            cr_assert(k > 7.8 && k <= 8, "%f", k);
    }
    cr_assert_eq(seen, 2u);
    json_decref(answer);
    stage_close(&s);
}

KVT_TEST(bench_codec, wrong_words_are_refused)
{
    stage s = stage_open();
    kvt_command_expect(s.folder, "bench codec", 2, "FILE is missing");
    kvt_command_expect(s.folder, "bench match %s/kv.safetensors", 2, "only codec takes files");
    kvt_command_expect(s.folder, "bench codec %s/none.safetensors", 1, NULL);
    kvt_command_expect(s.folder, "bench codec %s/kv.safetensors --chunk-tokens 512 --quiet", 2, "of 512 tokens");
    stage_close(&s);
}
