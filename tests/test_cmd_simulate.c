/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier simulate as a user meets it: words in, JSON or a complaint out. The figures themselves are test_simulate.c's.
 */
#include "tests/support.h"
#include "tools/cli.h"

#include <stdio.h>
#include <stdlib.h>

static const char trace_path[] = KVT_GOLDEN_DIR "/trace_short.jsonl";

extern const cli_command cli_command_simulate;

/* Run the command on words; *out_text receives its answer (free). Returns the exit code. */
static int command(const char *const *words, int count, char **out_text)
{
    size_t bytes = 0;
    int used = 0;
    void *args = kvt_alloc(cli_command_simulate.args_bytes);
    cli_context context = {.command = &cli_command_simulate, .out = open_memstream(out_text, &bytes)};
    context.global.format = CLI_FORMAT_JSON;
    cli_option_set set = {cli_command_simulate.options, cli_command_simulate.option_count, args};
    int code = cli_args_parse(&set, 1, count, (char **)(uintptr_t)words, false, &context.operands, &used);
    if (code == CLI_OK)
        code = cli_command_simulate.run(&context, args);
    fclose(context.out);
    cli_args_free(&set, 1);
    kvt_free(context.operands.items);
    kvt_free(args);
    return code;
}

static double number_of(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *at = strstr(json, quoted);
    cr_assert_not_null(at, "%s is missing in %s", key, json);
    return strtod(at + strlen(quoted), NULL);
}

KVT_TEST(cmd_simulate, the_command_answers_with_the_names_of_a_replay)
{
    const char *words[] = {"--trace",         trace_path, "--host-bytes", "5%",   "--disk-bytes",   "20%",
                           "--segment-bytes", "4M",       "--geometry",   "tiny", "--chunk-tokens", "256",
                           "--ignore-budget"};
    char *text = NULL;
    cr_assert_eq(command(words, sizeof words / sizeof *words, &text), CLI_OK);
    cr_assert_eq(number_of(text, "requests"), 320);
    cr_assert_eq(number_of(text, "prompt_tokens"), 4461 * 512);
    cr_assert_eq(number_of(text, "hit_tokens"),
                 number_of(text, "hit_tokens_host") + number_of(text, "hit_tokens_disk"));
    cr_assert_gt(number_of(text, "hit_tokens_disk"), 0);
    cr_assert_gt(number_of(text, "evicted_records"), 0);
    cr_assert_float_eq(number_of(text, "hit_ratio"), number_of(text, "hit_tokens") / (4461 * 512), 1e-9);
    free(text);
}

/* What a new file tier of that size takes: `kvtier replay` prints it. */
KVT_TEST(cmd_simulate, segments_have_the_size_the_file_tier_would_choose)
{
    static const struct {
        const char *disk;
        double segment_mib;
    } cases[] = {{"575720652", 16}, {"2395865088", 32}, {"20000000000", 256}, {"66112716", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *words[] = {"--trace", trace_path, "--host-bytes", "5%", "--disk-bytes", cases[i].disk};
        char *text = NULL;
        cr_assert_eq(command(words, sizeof words / sizeof *words, &text), CLI_OK);
        cr_assert_float_eq(number_of(text, "segment_bytes"), cases[i].segment_mib * (1 << 20), 0.5, "%s",
                           cases[i].disk);
        free(text);
    }
}

KVT_TEST(cmd_simulate, the_command_shows_every_policy_at_every_capacity)
{
    const char *words[] = {"--trace", trace_path, "--policy", "all", "--capacity", "20"};
    char *text = NULL;
    cr_assert_eq(command(words, sizeof words / sizeof *words, &text), CLI_OK);
    static const char *const names[] = {"\"fifo\"",   "\"lru-front\"",     "\"lru\"",
                                        "\"s3fifo\"", "\"segment16-lru\"", "\"segment64-fifo\""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cr_assert_not_null(strstr(text, names[i]), "%s is missing", names[i]);
    cr_assert_float_eq(number_of(text, "hit_ratio"), 3051.0 / 4461, 1e-9, "FIFO comes first");
    free(text);
}

/* 16 and 64 blocks leave at once: there must be two such segments. */
KVT_TEST(cmd_simulate, a_policy_that_needs_more_room_has_no_figures_and_the_others_do)
{
    const char *words[] = {"--trace", trace_path, "--policy", "all", "--capacity", "1", "--capacity", "10"};
    char *text = NULL;
    uint32_t rows = 0, unknown = 0;
    cr_assert_eq(command(words, sizeof words / sizeof *words, &text), CLI_OK);
    for (const char *at = text; (at = strstr(at, "\"policy\": ")) != NULL; at++)
        rows++;
    for (const char *at = text; (at = strstr(at, "\"hit_ratio\": null")) != NULL; at++)
        unknown++;
    cr_assert_eq(rows, 12);
    cr_assert(unknown >= 1 && unknown <= 4, "%s", text);
    cr_assert_not_null(strstr(text, "\"capacity_percent\": 10,"), "%s", text);
    free(text);
    const char *tiny[] = {"--trace", trace_path, "--requests", "1", "--policy", "all", "--capacity", "1"};
    cr_assert_eq(command(tiny, sizeof tiny / sizeof *tiny, &text), CLI_OK);
    cr_assert_not_null(strstr(text, "\"capacity_blocks\": 0,"), "%s", text);
    free(text);
}

/* What `replay` plays on by default: test_replay and the help say the same. */
KVT_TEST(cmd_simulate, default_sizes_have_a_floor)
{
    const char *words[] = {"--trace", trace_path, "--requests", "4"};
    char *text = NULL;
    cr_assert_eq(command(words, sizeof words / sizeof *words, &text), CLI_OK);
    cr_assert_eq(number_of(text, "host_bytes"), 64 << 20);
    cr_assert_eq(number_of(text, "disk_bytes"), 256 << 20);
    free(text);
}

KVT_TEST(cmd_simulate, the_command_refuses_what_makes_no_sense)
{
    const char *bad[][4] = {{"--host-bytes", "5%"},
                            {"--trace", "/nowhere/trace.jsonl"},
                            {"--trace", trace_path, "--host-bytes", "5 percent"},
                            {"--trace", trace_path, "--disk-bytes", "1K%"},
                            {"--trace", trace_path, "--host-bytes", "1"},
                            {"--trace", trace_path, "--disk-bytes", "1M"},
                            {"--trace", trace_path, "--chunk-tokens", "300"},
                            {"--trace", trace_path, "--geometry", "llama-9"},
                            {"--trace", trace_path, "--capacity", "101"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *words[6] = {bad[i][0], bad[i][1], bad[i][2], bad[i][3], "--policy", "lru"};
        bool one_tier = i == sizeof bad / sizeof *bad - 1;
        char *text = NULL;
        cr_assert_neq(command(words, one_tier ? 6 : bad[i][2] ? 4 : 2, &text), CLI_OK, "case %zu", i);
        free(text);
    }
}
