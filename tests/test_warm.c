/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier warm, through the real program and a real store: what was warmed is matched after a restart and comes back
 * byte for byte. Each command is a process that reopens the store. Expected blobs are computed by kv_file.c.
 */
#include "tests/kv_file.h"
#include "tests/run_command.h"
#include "tests/support.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A folder with a file of KV; %s in command lines is the folder. */
typedef struct bench {
    char *folder;
    char path[600];
} bench;

static const kv_file plain = {
    .layer_count = 3, .layers = {2, 0, 1}, .heads = {2, 2, 2}, .dims = {8, 8}, .tokens = 100, .seed = 7};

static bench bench_make(const kv_file *file)
{
    bench b = {.folder = kvt_test_tmpdir()};
    snprintf(b.path, sizeof b.path, "%s/kv.safetensors", b.folder);
    kv_file_write(file, b.path);
    return b;
}

static void bench_drop(bench *b)
{
    kvt_test_rmtree(b->folder);
    kvt_free(b->folder);
}

/* A number of a command's JSON answer. */
static long long json_number(const bench *b, const char *line, int code, const char *name)
{
    kvt_command_result result = kvt_command_run(b->folder, line, NULL);
    cr_assert_eq(result.code, code, "%s: %d: %s", line, result.code, result.err);
    json_error_t error;
    json_t *answer = json_loads(result.out, JSON_REJECT_DUPLICATES, &error);
    cr_assert_not_null(answer, "%s: %s", error.text, result.out);
    cr_assert_not_null(json_object_get(answer, "schema"));
    const json_t *value = json_object_get(answer, name);
    cr_assert(json_is_integer(value), "%s in %s", name, result.out);
    long long number = json_integer_value(value);
    json_decref(answer);
    kvt_command_free(&result);
    return number;
}

static void expect_chunk(const bench *b, uint32_t chunk, const uint8_t *blob, size_t bytes)
{
    char line[256];
    snprintf(line, sizeof line, "get -s %%s/store --prompt-tokens %%s/kv.safetensors --chunk %u", chunk);
    kvt_command_result result = kvt_command_run(b->folder, line, NULL);
    cr_assert_eq(result.code, 0, "%s", result.err);
    cr_assert_eq(result.out_bytes, bytes, "chunk %u has %zu bytes, not %zu", chunk, result.out_bytes, bytes);
    cr_assert_arr_eq(result.out, blob, bytes, "chunk %u", chunk);
    kvt_command_free(&result);
}

static const char warm_plain[] =
    "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 16M --host-bytes 8M --json";

KVT_TEST(warm, what_was_warmed_is_matched_and_comes_back_byte_for_byte)
{
    bench b = bench_make(&plain);
    static uint8_t blob[1 << 16];
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 6);
    kvt_command_expect(b.folder, "match -s %s/store --tokens %s/kv.safetensors", 0, NULL);
    for (uint32_t chunk = 0; chunk < 6; chunk++)
        expect_chunk(&b, chunk, blob, kv_file_blob(&plain, chunk * 16, 16, 2, 0, 2, blob));
    kvt_command_expect(b.folder, "get -s %s/store --prompt-tokens %s/kv.safetensors --chunk 6", 3, "6 full chunks");
    kvt_command_expect(b.folder, "verify -s %s/store", 0, NULL);
    bench_drop(&b);
}

KVT_TEST(warm, a_second_run_stores_nothing)
{
    bench b = bench_make(&plain);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 6);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 0);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_held"), 6);
    cr_assert_eq(json_number(&b, warm_plain, 0, "stored_bytes"), 0);
    bench_drop(&b);
}

KVT_TEST(warm, a_run_goes_on_where_another_ended)
{
    kv_file file = plain;
    file.tokens = 50; /* the same prompt, cut: three full chunks */
    bench b = bench_make(&file);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 3);
    kv_file_write(&plain, b.path);
    kvt_command_expect(b.folder, "match -s %s/store --tokens %s/kv.safetensors", 6, NULL);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 3);
    kvt_command_expect(b.folder, "match -s %s/store --tokens %s/kv.safetensors", 0, NULL);
    bench_drop(&b);
}

KVT_TEST(warm, a_dry_run_makes_no_store_and_counts_what_is_missing)
{
    bench b = bench_make(&plain);
    char path[700];
    struct stat info;
    snprintf(path, sizeof path, "%s/store", b.folder);
    static const char dry[] = "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --dry-run --json";
    cr_assert_eq(json_number(&b, dry, 0, "chunks_new"), 6);
    cr_assert_neq(stat(path, &info), 0, "the dry run made a store");
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 6);
    cr_assert_eq(json_number(&b, dry, 0, "chunks_new"), 0);
    bench_drop(&b);
}

KVT_TEST(warm, other_layouts_and_names_give_the_same_blobs)
{
    kv_file file = plain;
    file.heads_first = true;
    file.names = "model.h.%u.attn.%s_cache";
    static uint8_t blob[1 << 16];
    bench b = bench_make(&file);
    kvt_command_expect(
        b.folder,
        "warm -s %s/store %s/kv.safetensors --chunk-tokens 20 --disk-bytes 16M --host-bytes 8M --layout htd "
        "--tensor-names model.h.{layer}.attn.{plane:k|v}_cache",
        0, NULL);
    for (uint32_t chunk = 0; chunk < 5; chunk++)
        expect_chunk(&b, chunk, blob, kv_file_blob(&file, chunk * 20, 20, 2, 0, 2, blob));
    bench_drop(&b);
}

KVT_TEST(warm, layers_of_several_geometries_become_groups_in_order)
{
    kv_file file = plain; /* layers 2, 0, 1 with 2, 4, 2 heads: layer 0 comes first, so its group does */
    file.heads[1] = 4;
    static uint8_t blob[1 << 16];
    bench b = bench_make(&file);
    kvt_command_expect(b.folder, warm_plain, 0, NULL);
    for (uint32_t chunk = 0; chunk < 6; chunk++) {
        size_t bytes = kv_file_blob(&file, chunk * 16, 16, 4, 0, 2, blob);
        bytes += kv_file_blob(&file, chunk * 16, 16, 2, 0, 2, blob + bytes);
        expect_chunk(&b, chunk, blob, bytes);
    }
    bench_drop(&b);
}

KVT_TEST(warm, keys_and_values_of_different_width_become_groups)
{
    kv_file file = plain;
    file.dims[1] = 4;
    static uint8_t blob[1 << 16];
    bench b = bench_make(&file);
    kvt_command_expect(b.folder, warm_plain, 0, NULL);
    size_t bytes = kv_file_blob(&file, 16, 16, 2, 0, 1, blob);
    bytes += kv_file_blob(&file, 16, 16, 2, 1, 1, blob + bytes);
    expect_chunk(&b, 1, blob, bytes);
    bench_drop(&b);
}

KVT_TEST(warm, one_plane_a_layer_is_kv_too)
{
    kv_file file = plain;
    file.one_plane = true;
    static uint8_t blob[1 << 16];
    bench b = bench_make(&file);
    kvt_command_expect(
        b.folder,
        "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 16M --host-bytes 8M --tensor-names "
        "layer.{layer}.k",
        0, NULL);
    expect_chunk(&b, 5, blob, kv_file_blob(&file, 80, 16, 2, 0, 1, blob));
    bench_drop(&b);
}

KVT_TEST(warm, the_zstd_codec_gives_back_the_same_bytes)
{
    bench b = bench_make(&plain);
    static uint8_t blob[1 << 16];
    kvt_command_result version = kvt_command_run("", "version", NULL);
    bool zstd = strstr(version.out, "+zstd") != NULL;
    kvt_command_free(&version);
    if (zstd) {
        kvt_command_expect(
            b.folder,
            "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 16M --host-bytes 8M --codec zstd", 0,
            NULL);
        expect_chunk(&b, 3, blob, kv_file_blob(&plain, 48, 16, 2, 0, 2, blob));
    }
    bench_drop(&b);
}

KVT_TEST(warm, the_rocks_tier_holds_what_was_warmed)
{
    bench b = bench_make(&plain);
    static uint8_t blob[1 << 16];
    kvt_command_result version = kvt_command_run("", "version", NULL);
    bool rocks = strstr(version.out, "+rocks") != NULL;
    kvt_command_free(&version);
    if (rocks) {
        kvt_command_expect(
            b.folder,
            "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 64M --host-bytes 8M --tier rocks", 0,
            NULL);
        expect_chunk(&b, 3, blob, kv_file_blob(&plain, 48, 16, 2, 0, 2, blob));
    }
    bench_drop(&b);
}

KVT_TEST(warm, tokens_may_come_from_a_file_of_their_own)
{
    kv_file file = plain;
    file.no_tokens = true;
    bench b = bench_make(&file);
    char path[700];
    snprintf(path, sizeof path, "%s/ids.jsonl", b.folder);
    FILE *out = fopen(path, "w");
    for (uint32_t t = 0; t < file.tokens; t++)
        fprintf(out, "%s%u", t == 0 ? "{\"tokens\": [" : ", ", kv_file_token(&file, t));
    fprintf(out, "]}\n");
    fclose(out);
    kvt_command_expect(b.folder,
                       "warm -s %s/store %s/kv.safetensors --tokens %s/ids.jsonl --chunk-tokens 16 --disk-bytes 16M "
                       "--host-bytes 8M",
                       0, NULL);
    kvt_command_expect(b.folder, "match -s %s/store --tokens %s/ids.jsonl --prefill-rate 1000", 0, NULL);
    kvt_command_expect(b.folder, "warm -s %s/store %s/kv.safetensors %s/kv.safetensors --tokens %s/ids.jsonl", 2,
                       "holds 1 prompt for 2 files");
    bench_drop(&b);
}

KVT_TEST(warm, other_positions_and_parts_of_a_model_get_spaces_of_their_own)
{
    kv_file file = plain;
    bench b = bench_make(&file);
    kvt_command_expect(b.folder, warm_plain, 0, NULL);
    file.metadata = "{\"model\":\"test-model\",\"first_position\":\"1024\"}";
    kv_file_write(&file, b.path);
    kvt_command_expect(b.folder, warm_plain, 0, "position 1024");
    file.metadata = "{\"model\":\"test-model\",\"model_layers\":\"30\",\"rope\":\"theta 1\"}";
    kv_file_write(&file, b.path);
    kvt_command_expect(b.folder, warm_plain, 0, NULL);
    cr_assert_eq(json_number(&b, "status -s %s/store --json", 0, "space_count"), 3);
    kvt_command_result result = kvt_command_run(b.folder, "ns -s %s/store -o csv", NULL);
    cr_assert_not_null(strstr(result.out, ",first_position=1024,"), "%s", result.out);
    cr_assert_not_null(strstr(result.out, ",theta 1; layers=0-2,"), "%s", result.out);
    kvt_command_free(&result);
    kvt_command_expect(b.folder, "match -s %s/store --tokens %s/kv.safetensors", 2, "3 spaces fit");
    bench_drop(&b);
}

KVT_TEST(warm, a_used_up_budget_stops_it_and_can_be_ignored)
{
    kv_file file = plain; /* 6 chunks of 384 KiB; a new store of 16 MiB may write as much */
    file.dims[0] = file.dims[1] = 1024;
    bench b = bench_make(&file);
    int code = 0;
    char line[256];
    for (int tenant = 0; tenant < 12 && code == 0; tenant++) {
        snprintf(line, sizeof line,
                 "warm -s %%s/store %%s/kv.safetensors --chunk-tokens 16 --disk-bytes 16M --host-bytes 32M --salt t%d",
                 tenant);
        kvt_command_result result = kvt_command_run(b.folder, line, NULL);
        code = result.code;
        cr_assert(code == 0 || strstr(result.err, "the write budget is used up, ") != NULL, "%s", result.err);
        kvt_command_free(&result);
    }
    cr_assert_eq(code, 6);
    size_t used = strlen(line);
    snprintf(line + used, sizeof line - used, " --ignore-budget");
    kvt_command_expect(b.folder, line, 0, NULL);
    bench_drop(&b);
}

/* The cap is of this run: the next one goes on behind it. */
KVT_TEST(warm, a_run_writes_no_more_than_its_budget)
{
    kv_file file = plain; /* 6 chunks of 384 KiB */
    file.dims[0] = file.dims[1] = 1024;
    bench b = bench_make(&file);
    static const char line[] = "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 16M --host-bytes 32M "
                               "--budget 1M --json";
    for (long long held = 0; held < 6; held += 2) {
        int code = held < 4 ? 6 : 0;
        kvt_command_result result = kvt_command_run(b.folder, line, NULL);
        cr_assert_eq(result.code, code, "%s", result.err);
        cr_assert(code == 0 || strstr(result.err, "the --budget of this run is used up") != NULL, "%s", result.err);
        json_t *answer = json_loads(result.out, 0, NULL);
        cr_assert_eq(json_integer_value(json_object_get(answer, "chunks_held")), held, "%s", result.out);
        cr_assert_eq(json_integer_value(json_object_get(answer, "chunks_new")), 2);
        cr_assert_leq(json_integer_value(json_object_get(answer, "budget_spent_bytes")), 1 << 20);
        json_decref(answer);
        kvt_command_free(&result);
    }
    bench_drop(&b);
}

/* One model for two tenants and two ranks: four spaces that `ns` tells apart and every command can name. */
KVT_TEST(warm, spaces_are_told_apart_by_rank_and_salt)
{
    bench b = bench_make(&plain);
    char line[256];
    for (int i = 0; i < 4; i++) {
        snprintf(line, sizeof line, "%s --salt tenant%d --rank %d --rank-count 2", warm_plain, i / 2, i % 2);
        cr_assert_eq(json_number(&b, line, 0, "chunks_new"), 6);
    }
    kvt_command_result result = kvt_command_run(b.folder, "ns -s %s/store --json", NULL);
    json_t *answer = json_loads(result.out, 0, NULL), *spaces = json_object_get(answer, "spaces"), *space;
    size_t i, second = 0;
    json_array_foreach(spaces, i, space)
    {
        second += json_integer_value(json_object_get(space, "rank")) == 1;
        cr_assert_eq(json_integer_value(json_object_get(space, "rank_count")), 2);
        cr_assert_eq(strlen(json_string_value(json_object_get(space, "salt"))), 32);
    }
    cr_assert(i == 4 && second == 2, "%s", result.out);
    json_decref(answer);
    kvt_command_free(&result);
    static const struct {
        const char *line;
        int code;
        const char *said;
    } cases[] = {
        {"match -s %s/store -t %s/kv.safetensors --salt tenant1 --rank 1", 0, NULL},
        {"match -s %s/store -t %s/kv.safetensors --salt tenant1", 2, "2 spaces fit; name one with"},
        {"match -s %s/store -t %s/kv.safetensors --salt other --rank 1", 3, "no space fits"},
        {"match -s %s/store -t %s/kv.safetensors --rank x", 2, "--rank: 'x' is not a whole number"},
        {"get -s %s/store -t %s/kv.safetensors --salt tenant0 --rank 0 --model test-model", 0, NULL},
        {"verify -s %s/store --salt tenant0 --rank 1", 0, NULL},
        {"ls -s %s/store --rank 1", 2, "2 spaces fit"},
        {"ls -s %s/store --rank 1 --salt tenant0", 0, NULL},
        {"ls -s %s/store --revision none", 3, "no space fits"},
        {"rm -s %s/store --all --salt tenant0 --rank 0 --dry-run", 0, NULL},
    };
    for (i = 0; i < sizeof cases / sizeof *cases; i++)
        kvt_command_expect(b.folder, cases[i].line, cases[i].code, cases[i].said);
    bench_drop(&b);
}

KVT_TEST(warm, a_plan_weighs_the_rate_that_is_given_and_says_when_there_is_none)
{
    bench b = bench_make(&plain);
    cr_assert_eq(json_number(&b, warm_plain, 0, "chunks_new"), 6);
    static const struct {
        const char *words, *told, *plan;
    } cases[] = {{"", "--restore-rate SIZE/s", ",96,4,,"},
                 {"--restore-rate 1GB/s", "", ",96,4,0.00"},
                 {"--restore-rate 1K", "", ",0,100,0.1,0,0.1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[200];
        snprintf(line, sizeof line, "match -s %%s/store -t %%s/kv.safetensors --prefill-rate 1000 -o csv -H %s",
                 cases[i].words);
        kvt_command_result result = kvt_command_run(b.folder, line, NULL);
        cr_assert_eq(result.code, 0, "%s", result.err);
        cr_assert_not_null(strstr(result.out, cases[i].plan), "%s: %s", line, result.out);
        cr_assert(*cases[i].told == '\0' ? *result.err == '\0' : strstr(result.err, cases[i].told) != NULL, "%s: %s",
                  line, result.err);
        kvt_command_free(&result);
    }
    bench_drop(&b);
}

KVT_TEST(warm, a_store_that_is_too_small_is_told)
{
    kv_file file = plain; /* 6 chunks of 1.5 MiB into segments for 5 */
    file.dims[0] = file.dims[1] = 4096;
    bench b = bench_make(&file);
    kvt_command_result result = kvt_command_run(
        b.folder,
        "warm -s %s/store %s/kv.safetensors --chunk-tokens 16 --disk-bytes 12M --host-bytes 32M --segment-bytes 2M",
        NULL);
    cr_assert(result.code == 6 || result.code == 1, "%d: %s", result.code, result.err);
    cr_assert_not_null(strstr(result.err, "--disk-bytes"), "%s", result.err);
    kvt_command_free(&result);
    bench_drop(&b);
}

/* Whenever the interrupt comes, what was stored is whole and the next run goes on. */
KVT_TEST(warm, an_interrupt_at_any_time_leaves_a_sound_store)
{
    kv_file file = plain; /* 16 chunks of 384 KiB */
    file.dims[0] = file.dims[1] = 1024;
    file.tokens = 256;
    bench b = bench_make(&file);
    char line[2048];
    for (int ms = 10; ms <= 160; ms += 50) {
        snprintf(line, sizeof line,
                 "timeout --preserve-status -s INT 0.%03d %s warm -s %s/store --chunk-tokens 16 --salt t%d %s "
                 "--disk-bytes 256M >/dev/null 2>%s/err",
                 ms, KVT_COMMAND, b.folder, ms, b.path, b.folder);
        int status = system(line), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        char said[512] = "";
        snprintf(line, sizeof line, "%s/err", b.folder);
        FILE *err = fopen(line, "r");
        if (err != NULL) {
            said[fread(said, 1, sizeof said - 1, err)] = '\0';
            fclose(err);
        }
        cr_assert(code == 0 || code == 130, "%d ms: exit code %d: %s", ms, code, said);
        snprintf(line, sizeof line,
                 "warm -s %%s/store %%s/kv.safetensors --chunk-tokens 16 --salt t%d --disk-bytes 256M", ms);
        kvt_command_expect(b.folder, line, 0, NULL);
        kvt_command_expect(b.folder, "verify -s %s/store", 0, NULL);
    }
    bench_drop(&b);
}

/* ------------------------------------------------------------------- bad input */

KVT_TEST(warm, wrong_input_is_refused_and_no_store_is_made)
{
    static const kv_file no_tokens = {.layer_count = 1, .heads = {1}, .dims = {4, 4}, .tokens = 20, .no_tokens = true};
    static const kv_file no_model = {.layer_count = 1, .heads = {1}, .dims = {4, 4}, .tokens = 20, .metadata = "{}"};
    kv_file nowhere = no_model;
    nowhere.metadata = "{\"model\":\"m\",\"first_position\":\"-5\"}";
    static const kv_file half = {
        .layer_count = 2, .layers = {0, 1}, .heads = {1, 1}, .dims = {4, 4}, .tokens = 20, .one_plane = true};
    static const kv_file swapped = {.layer_count = 1, .heads = {2}, .dims = {4, 4}, .tokens = 20, .heads_first = true};
    static const kv_file wide = {.layer_count = 1, .heads = {8}, .dims = {1024, 1024}, .tokens = 256};
    static const kv_file strange = {.layer_count = 1, .heads = {1}, .dims = {4, 4}, .tokens = 20, .names = "k%u.%s"};
    const struct {
        const kv_file *file;
        const char *options;
        int code;
        const char *said;
    } cases[] = {
        {&no_tokens, "", 2, "no tensor 'tokens'"},
        {&no_model, "", 2, "--model"},
        {&nowhere, "", 2, "first_position \"-5\""},
        {&half, "", 2, "lacks one of its planes"},
        {&strange, "", 2, "--tensor-names"},
        {&plain, "--layout htd", 2,
         "KV of 2 tokens, but its prompt has 100; if its tensors are [tokens, heads, dim], "
         "give --layout thd"},
        {&swapped, "", 2, "give --layout htd"},
        {&plain, "--disk-bytes 900T", 2, "choose larger ones"},
        {&plain, "--segment-bytes 3M", 2, "--segment-bytes is 3145728"},
        {&wide, "--segment-bytes 1M", 2, "choose larger segments or smaller chunks"},
        {&wide, "--chunk-tokens 100 --disk-bytes 16M --model a%s%s%s%s%s%s%s%s%s%s%s%s", 2, "bytes long"},
        {&plain, "--tensor-names layer.x.{plane:k|v}", 2, "{layer} exactly once"},
        {&plain, "--tensor-names layer.{layer}.{plane:k}", 2, "two words"},
        {&plain, "--tensor-names layer.{layer}.{plane:k|v", 2, "two words"},
        {&plain, "--first-position x", 2, "not a whole number"},
        {&plain, "--rank 2", 2, "--rank-count"},
        {&plain, "--rank 2 --rank-count 2", 2, "--rank-count"},
        {&plain, "--tokens %s/none.jsonl", 1, "cannot be opened"},
        {&plain, "--tokens %s/kv.safetensors --chunk-tokens 0", 2, "bounds"},
        {&plain, "--codec lz4", 2, "no codec; give raw"},
        {&plain, "%s/none.safetensors", 1, "cannot be opened"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = bench_make(cases[i].file);
        char line[512], path[700];
        struct stat info;
        snprintf(line, sizeof line, "warm -s %%s/store %%s/kv.safetensors %s", cases[i].options);
        kvt_command_expect(b.folder, line, cases[i].code, cases[i].said);
        snprintf(path, sizeof path, "%s/store", b.folder);
        cr_assert_neq(stat(path, &info), 0, "%s: a store was made", line);
        bench_drop(&b);
    }
}

KVT_TEST(warm, hostile_files_are_refused_and_no_store_is_made)
{
    bench b = bench_make(&plain);
    struct stat info;
    char path[700], lies[16] = {0};
    cr_assert_eq(truncate(b.path, 5000), 0);
    kvt_command_expect(b.folder, "warm -s %s/store %s/kv.safetensors", 2, "cut short");
    FILE *out = fopen(b.path, "wb");
    memset(lies, 0xff, 8);
    fwrite(lies, 1, sizeof lies, out);
    fclose(out);
    kvt_command_expect(b.folder, "warm -s %s/store %s/kv.safetensors", 2, "at most 100000000");
    kvt_command_expect(b.folder, "warm -s %s/store %s", 1, "not a regular file");
    snprintf(path, sizeof path, "%s/store", b.folder);
    cr_assert_neq(stat(path, &info), 0);
    bench_drop(&b);
}

/* ------------------------------------------------------------------------- demo */

/* A workload as small as there is: every kill strikes, the store that was named stays. */
KVT_TEST(demo, a_small_one_keeps_its_promise_and_the_store_that_was_named)
{
    char *folder = kvt_test_tmpdir();
    kvt_command_result result =
        kvt_command_run(folder, "demo --conversations 1 --turns 2 --layers 1 -s %s/demo -o csv", NULL);
    cr_assert(result.code == 0 && strstr(result.out, "\nverdict,\"OK: 2 kills, nothing lost, ") != NULL, "%s%s",
              result.out, result.err);
    kvt_command_free(&result);
    kvt_command_expect(folder, "status -s %s/demo", 0, NULL);
    kvt_test_rmtree(folder);
    kvt_free(folder);
}

/* ---------------------------------------------------------------- given KV files */

/* A whole file in memory and its header, read without the reader under test. */
typedef struct given_file {
    uint8_t *bytes;
    const uint8_t *data;
    json_t *header;
    long long layers[256];
    size_t layer_count;
    uint64_t tokens, row_bytes;
} given_file;

static const uint8_t *given_tensor(const given_file *file, long long layer, const char *plane, uint64_t *out_bytes)
{
    char name[64];
    snprintf(name, sizeof name, "layer.%lld.%s", layer, plane);
    const json_t *offsets = json_object_get(json_object_get(file->header, name), "data_offsets");
    long long begin = json_integer_value(json_array_get(offsets, 0)),
              end = json_integer_value(json_array_get(offsets, 1));
    *out_bytes = (uint64_t)(end - begin);
    return offsets == NULL ? NULL : file->data + begin;
}

static given_file given_read(const char *path)
{
    given_file file = {0};
    FILE *in = fopen(path, "rb");
    cr_assert_not_null(in);
    fseek(in, 0, SEEK_END);
    size_t count = (size_t)ftell(in);
    rewind(in);
    file.bytes = kvt_alloc(count);
    cr_assert_eq(fread(file.bytes, 1, count, in), count);
    fclose(in);
    uint64_t header = kvt_load_le64(file.bytes), bytes;
    file.header = json_loadb((const char *)file.bytes + 8, header, 0, NULL);
    file.data = file.bytes + 8 + header;
    for (long long layer = 0; layer < 256; layer++)
        if (given_tensor(&file, layer, "k", &bytes) != NULL)
            file.layers[file.layer_count++] = layer;
    const json_t *shape = json_object_get(json_object_get(file.header, "tokens"), "shape");
    file.tokens = (uint64_t)json_integer_value(json_array_get(shape, 0));
    (void)given_tensor(&file, file.layers[0], "k", &bytes);
    file.row_bytes = bytes / file.tokens;
    return file;
}

static size_t given_blob(const given_file *file, uint64_t begin, uint64_t count, uint8_t *to)
{
    uint64_t bytes, part = count * file->row_bytes, used = 0;
    for (size_t i = 0; i < file->layer_count; i++)
        for (uint32_t p = 0; p < 2; p++, used += part)
            memcpy(to + used, given_tensor(file, file->layers[i], p == 0 ? "k" : "v", &bytes) + begin * file->row_bytes,
                   part);
    return used;
}

static void warm_given(const char *path)
{
    bench b = bench_make(&plain);
    char line[2048];
    given_file file = given_read(path);
    uint8_t *blob = kvt_alloc(KVT_BLOB_BYTES_MAX);
    snprintf(line, sizeof line, "warm -q -s %%s/store %s --disk-bytes 512M", path);
    kvt_command_expect(b.folder, line, 0, NULL);
    snprintf(line, sizeof line, "match -s %%s/store --tokens %s --json", path);
    kvt_command_expect(b.folder, line, 0, NULL);
    for (uint64_t chunk = 0; chunk < file.tokens / 256; chunk++) {
        size_t bytes = given_blob(&file, chunk * 256, 256, blob);
        snprintf(line, sizeof line, "get -s %%s/store --prompt-tokens %s --chunk %u", path, (unsigned)chunk);
        kvt_command_result result = kvt_command_run(b.folder, line, NULL);
        cr_assert_eq(result.code, 0, "%s", result.err);
        cr_assert(result.out_bytes == bytes && memcmp(result.out, blob, bytes) == 0, "%s: chunk %u", path,
                  (unsigned)chunk);
        kvt_command_free(&result);
    }
    fprintf(stderr, "%s: %u chunks, bytes equal\n", path, (unsigned)(file.tokens / 256));
    kvt_free(blob);
    kvt_free(file.bytes);
    json_decref(file.header);
    bench_drop(&b);
}

/* Real KV caches are too large to lie here: name a folder of safetensors files in KVT_TEST_KV_DIR. */
KVT_TEST(warm, given_kv_files_are_held_in_full)
{
    const char *folder = getenv("KVT_TEST_KV_DIR");
    DIR *entries = folder != NULL ? opendir(folder) : NULL;
    struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strstr(entry->d_name, ".safetensors") != NULL)
            warm_given(path);
    }
    if (entries != NULL)
        closedir(entries);
}
