/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the command that need no store: words into values, options into structs, answers into every format, exit
 * codes, progress lines. Answers are compared as whole texts: what a script reads is the contract.
 */
#include "tests/support.h"

#include "tools/cli.h"
#include "tools/cli_json.h"
#include "tools/progress.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------------- values */

KVT_TEST(cli, sizes_take_binary_and_decimal_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"4096B", 4096},
                {"512M", 512u << 20},
                {"512MiB", 512u << 20},
                {"20G", UINT64_C(20) << 30},
                {"1.5TiB", UINT64_C(3) << 39},
                {"1MB", 1000000},
                {"0.5k", 512},
                {"18446744073709551615", UINT64_MAX}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 1;
        cr_assert(cli_parse_size(good[i].text, &bytes), "%s", good[i].text);
        cr_assert_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
}

KVT_TEST(cli, wrong_sizes_are_refused)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.",
                                      ".5M",
                                      "1.5",
                                      "0.3K",
                                      "1X",
                                      "1MM",
                                      "0x10",
                                      "1e3",
                                      "inf",
                                      "nan",
                                      "16384P",
                                      "18446744073709551616",
                                      "1,5G",
                                      "G",
                                      "1.2.3M"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes;
        cr_assert_not(cli_parse_size(bad[i], &bytes), "'%s' was taken", bad[i]);
    }
}

KVT_TEST(cli, durations_need_units_and_may_be_compound)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"0", 0},
                {"30s", 30000000000u},
                {"5m", 300000000000u},
                {"250ms", 250000000},
                {"1h30m", 5400000000000u},
                {"1.5s", 1500000000},
                {"10us", 10000},
                {"7ns", 7},
                {"1d", 86400000000000u}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t ns = 1;
        cr_assert(cli_parse_duration(good[i].text, &ns), "%s", good[i].text);
        cr_assert_eq(ns, good[i].ns, "%s", good[i].text);
    }
    static const char *const bad[] = {"", "30", "s", "-1s", "1M", "5 m", "1h30", "999999999999d", "1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t ns;
        cr_assert_not(cli_parse_duration(bad[i], &ns), "'%s' was taken", bad[i]);
    }
}

KVT_TEST(cli, reals_and_counts_are_strict)
{
    uint64_t count;
    double real;
    cr_assert(cli_parse_count("18446744073709551615", &count) && count == UINT64_MAX);
    cr_assert_not(cli_parse_count("18446744073709551616", &count));
    cr_assert_not(cli_parse_count("-0", &count));
    cr_assert(cli_parse_real("2e4", &real) && real == 2e4);
    cr_assert(cli_parse_real("2.5e-3", &real) && fabs(real - 2.5e-3) < 1e-18);
    cr_assert_not(cli_parse_real("1e999", &real));
    cr_assert_not(cli_parse_real("nan", &real));
    cr_assert_not(cli_parse_real("1x", &real));
}

KVT_TEST(cli, a_share_is_a_size_or_a_percentage)
{
    uint64_t bytes = 0;
    cr_assert(cli_parse_share("4K", 1000, &bytes) && bytes == 4096);
    cr_assert(cli_parse_share("5%", 1000, &bytes) && bytes == 50);
    cr_assert(cli_parse_share("0.5%", 1000, &bytes) && bytes == 5);
    cr_assert(cli_parse_share("1000%", 1000, &bytes) && bytes == 10000);
    static const char *const bad[] = {"", "%", "5 %", "-1%", "1001%", "nan%", "5%%", "1K%"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(cli_parse_share(bad[i], 1000, &bytes), "'%s' was taken", bad[i]);
    cr_assert_eq(bytes, 10000, "left alone");
}

KVT_TEST(cli, a_mistyped_word_finds_its_neighbour)
{
    static const char *const words[] = {"status", "store", "match", "verify", "ls"};
    cr_assert_str_eq(cli_suggest("statsu", words, 5), "status");
    cr_assert_str_eq(cli_suggest("matc", words, 5), "match");
    cr_assert_str_eq(cli_suggest("verfiy", words, 5), "verify");
    cr_assert_null(cli_suggest("zzzzzz", words, 5));
    cr_assert_null(cli_suggest("a-word-that-is-far-longer-than-any-option-could-ever-be", words, 5));
}

/* --------------------------------------------------------------------- options */

typedef struct sample_args {
    const char *file;
    cli_list points;
    uint64_t bytes, count, wait, speed;
    double rate;
    uint32_t mode, format;
    bool all, dry;
} sample_args;

static const cli_option sample_options[] = {
    {.name = "file",
     .letter = 'f',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(sample_args, file),
     .text = "F"},
    {.name = "kill-at", .kind = CLI_LIST, .value = "N", .offset = offsetof(sample_args, points), .text = "K"},
    {.name = "bytes",
     .letter = 'b',
     .kind = CLI_SIZE,
     .value = "SIZE",
     .offset = offsetof(sample_args, bytes),
     .text = "B",
     .min = 4096,
     .max = 1 << 30},
    {.name = "count",
     .letter = 'n',
     .kind = CLI_COUNT,
     .value = "N",
     .offset = offsetof(sample_args, count),
     .text = "N",
     .env = "KVT_TEST_COUNT"},
    {.name = "wait", .kind = CLI_DURATION, .value = "D", .offset = offsetof(sample_args, wait), .text = "W"},
    {.name = "rate",
     .kind = CLI_REAL,
     .value = "R",
     .offset = offsetof(sample_args, rate),
     .text = "R",
     .min = 0.5,
     .max = 2},
    {.name = "mode", .kind = CLI_CHOICE, .value = "fast|slow", .offset = offsetof(sample_args, mode), .text = "M"},
    {.name = "form",
     .kind = CLI_CHOICE,
     .value = "table|json|csv",
     .noun = "format",
     .offset = offsetof(sample_args, format),
     .text = "F"},
    {.name = "speed", .kind = CLI_RATE, .value = "SIZE/s", .offset = offsetof(sample_args, speed), .text = "S"},
    {.name = "all", .letter = 'a', .kind = CLI_FLAG, .offset = offsetof(sample_args, all), .text = "A"},
    {.name = "dry", .letter = 'd', .kind = CLI_FLAG, .offset = offsetof(sample_args, dry), .text = "D"},
};

/* Parse a line of words; what was complained about is in `complaint`. */
static int parse(const char *line, sample_args *args, cli_list *operands, char *complaint, size_t bytes)
{
    static char words[256]; /* args and operands point into it */
    char *argv[32];
    int argc = 0, used;
    snprintf(words, sizeof words, "%s", line);
    char *rest = words;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0')
            argv[argc++] = word;
    *args = (sample_args){0};
    *operands = (cli_list){NULL, 0};
    cli_option_set set = {sample_options, sizeof sample_options / sizeof *sample_options, args};
    FILE *saved = stderr, *memory = fmemopen(complaint, bytes, "w");
    stderr = memory;
    int code = cli_args_parse(&set, 1, argc, argv, false, operands, &used);
    stderr = saved;
    fclose(memory);
    return code;
}

static void release(sample_args *args, cli_list *operands)
{
    cli_option_set set = {sample_options, sizeof sample_options / sizeof *sample_options, args};
    cli_args_free(&set, 1);
    kvt_free(operands->items);
}

KVT_TEST(cli, options_and_operands_mix_in_every_spelling)
{
    sample_args args;
    cli_list operands;
    char complaint[512] = "";
    int code = parse("one -ad --bytes=64K -n7 two --kill-at 3 --kill-at=9 --mode slow --wait 2s --rate 1.5 - -- --all",
                     &args, &operands, complaint, sizeof complaint);
    cr_assert_eq(code, CLI_OK, "%s", complaint);
    cr_assert(args.all && args.dry && args.bytes == 65536 && args.count == 7 && args.mode == 1);
    cr_assert(args.wait == 2000000000 && args.rate == 1.5);
    cr_assert_eq(args.points.count, 2);
    cr_assert_eq(operands.count, 4);
    cr_assert_str_eq(operands.items[2], "-");
    cr_assert_str_eq(operands.items[3], "--all");
    release(&args, &operands);
}

KVT_TEST(cli, a_wrong_word_is_named_with_the_way_out)
{
    static const struct {
        const char *line, *complaint;
    } cases[] = {
        {"--fiel x", "kvtier: --fiel: there is no such option; did you mean --file?\n"},
        {"--zzzzzzzz", "kvtier: --zzzzzzzz: there is no such option; --help lists them\n"},
        {"-x", "kvtier: -x: there is no such option; --help lists them\n"},
        {"--file", "kvtier: --file: a value is missing; write --file FILE\n"},
        {"-b", "kvtier: -b: a value is missing; write -b SIZE\n"},
        {"--all=yes", "kvtier: --all: takes no value; leave out '=yes'\n"},
        {"--bytes 1Q", "kvtier: --bytes: '1Q' is not a size; write it like 4096, 512M or 1.5TiB\n"},
        {"--bytes 1", "kvtier: --bytes: '1' is not within its bounds; give 4.00 KiB to 1.00 GiB\n"},
        {"--count 1.5", "kvtier: --count: '1.5' is not a whole number; write it in digits, like 16\n"},
        {"--wait 5", "kvtier: --wait: '5' is not a duration; write it with its unit, like 250ms, 30s or 1h30m\n"},
        {"--rate 9", "kvtier: --rate: '9' is not within its bounds; give 0.5 to 2\n"},
        {"--mode medium", "kvtier: --mode: 'medium' is no mode; give fast or slow\n"},
        {"--mode fas", "kvtier: --mode: 'fas' is no mode; give fast or slow\n"},
        {"--form yaml", "kvtier: --form: 'yaml' is no format; give table, json or csv\n"},
        {"-n -1", "kvtier: --count: '-1' is below 0, which is out of bounds; give 0 or more\n"},
        {"--rate -1", "kvtier: --rate: '-1' is not within its bounds; give 0.5 to 2\n"},
        {"--bytes -1", "kvtier: --bytes: '-1' is not within its bounds; give 4.00 KiB to 1.00 GiB\n"},
        {"--wait -5s", "kvtier: --wait: '-5s' is below 0, which is out of bounds; give 0 or more\n"},
        {"--speed fast", "kvtier: --speed: 'fast' is not a rate; write it like 2500MB/s or 1.5GiB/s\n"},
        {"--file=", "kvtier: --file: '' is not a value; leave the option out instead\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample_args args;
        cli_list operands;
        char complaint[512] = "";
        cr_assert_eq(parse(cases[i].line, &args, &operands, complaint, sizeof complaint), CLI_USAGE, "%s",
                     cases[i].line);
        cr_assert_str_eq(complaint, cases[i].complaint);
        release(&args, &operands);
    }
}

KVT_TEST(cli, the_environment_stands_in_and_flags_win)
{
    sample_args args;
    cli_list operands;
    char complaint[512] = "";
    setenv("KVT_TEST_COUNT", "5", 1);
    cr_assert_eq(parse("", &args, &operands, complaint, sizeof complaint), CLI_OK);
    cr_assert_eq(args.count, 5);
    cr_assert_eq(parse("-n 6", &args, &operands, complaint, sizeof complaint), CLI_OK);
    cr_assert_eq(args.count, 6);
    setenv("KVT_TEST_COUNT", "many", 1);
    cr_assert_eq(parse("", &args, &operands, complaint, sizeof complaint), CLI_USAGE);
    cr_assert_str_eq(complaint, "kvtier: KVT_TEST_COUNT: 'many' is not a whole number; write it in digits, like 16\n");
    unsetenv("KVT_TEST_COUNT");
}

KVT_TEST(cli, every_status_has_its_exit_code)
{
    static const struct {
        kvt_status status;
        int code;
    } cases[] = {{KVT_OK, 0},       {KVT_MISS, 3},   {KVT_REJECTED, 1},    {KVT_BUSY, 5},      {KVT_PARTIAL, 6},
                 {KVT_INVALID, 2},  {KVT_NOMEM, 1},  {KVT_IO, 1},          {KVT_NOSPACE, 1},   {KVT_CORRUPT, 4},
                 {KVT_VERSION, 7},  {KVT_EXISTS, 7}, {KVT_DEVICE, 1},      {KVT_TIMEOUT, 8},   {KVT_UNSUPPORTED, 1},
                 {KVT_POISONED, 1}, {KVT_FORKED, 1}, {KVT_CANCELLED, 130}, {(kvt_status)99, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_eq(cli_exit_of(cases[i].status), cases[i].code, "%s", kvt_status_name(cases[i].status));
}

/* What a failure of the library says on a command line that has these options, with the thing it is about. */
static char *told(const cli_command *command, const char *thing, const char *why)
{
    static char complaint[512];
    memset(complaint, 0, sizeof complaint);
    FILE *saved = stderr, *memory = fmemopen(complaint, sizeof complaint, "w");
    stderr = memory;
    cli_fail_for(command);
    kvt_fail(KVT_INVALID, "%s", why);
    cli_fail_status(KVT_INVALID, thing);
    cli_fail_for(NULL);
    stderr = saved;
    fclose(memory);
    return complaint;
}

KVT_TEST(cli, fields_of_the_library_are_told_as_options)
{
    static const cli_option options[] = {
        {.name = "chunk-tokens"}, {.name = "segment-bytes"}, {.name = "reset-corrupt"}};
    cli_command warm = {.options = options, .option_count = 3}, plain = {.option_count = 0};
    cr_assert_str_eq(told(&warm, "f", "use chunk_tokens 4, or a new store with a larger blob_bytes_max"),
                     "kvtier: f: use --chunk-tokens 4, or a new store with a larger --segment-bytes\n");
    cr_assert_str_eq(told(&plain, "f", "use chunk_tokens 4, or a new store with a larger blob_bytes_max"),
                     "kvtier: f: use chunk tokens 4, or a new store\n");
    cr_assert_str_eq(told(&warm, "f", "my_chunk_tokens chunk_tokens_2"), "kvtier: f: my_chunk_tokens chunk_tokens_2\n");
    static const char corrupt[] = "restore it, or open with the option to reset a corrupt store, which forgets";
    cr_assert_str_eq(told(&warm, "f", corrupt), "kvtier: f: restore it, or give --reset-corrupt, which forgets\n");
    cr_assert_str_eq(told(&plain, "f", corrupt), "kvtier: f: restore it, or let 'kvtier warm' or 'put' do it with "
                                                 "--reset-corrupt, which forgets\n");
}

KVT_TEST(cli, what_a_message_is_about_is_said_once)
{
    static const struct {
        const char *why, *said;
    } cases[] = {{"/a is not a directory", "kvtier: /a: is not a directory\n"},
                 {"store /a: SUPER is unreadable", "kvtier: /a: SUPER is unreadable\n"},
                 {"store /a is in use", "kvtier: /a: is in use\n"},
                 {"/a: No space", "kvtier: /a: No space\n"},
                 {"/ab is not a directory", "kvtier: /a: /ab is not a directory\n"},
                 {"is empty", "kvtier: /a: is empty\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(told(NULL, "/a", cases[i].why), cases[i].said);
}

KVT_TEST(cli, rates_may_name_the_second)
{
    uint64_t rate = 0;
    cr_assert(cli_parse_rate("1.5GiB/s", &rate) && rate == UINT64_C(3) << 29);
    cr_assert(cli_parse_rate("2500MB", &rate) && rate == UINT64_C(2500000000));
    cr_assert(!cli_parse_rate("/s", &rate) && !cli_parse_rate("1G/m", &rate) && !cli_parse_rate("", &rate));
    cr_assert_str_eq(cli_plural(1), "");
    cr_assert_str_eq(cli_plural(0), "s");
}

/* --------------------------------------------------------------------- answers */

static const cli_column columns[] = {
    {"name", "NAME", CLI_UNIT_NONE, false},
    {"stored_bytes", "STORED", CLI_UNIT_BYTES, false},
    {"took_seconds", "TOOK", CLI_UNIT_SECONDS, false},
    {"pinned", "PINNED", CLI_UNIT_NONE, true},
};

/* The same small report in one format. */
static char *answer(cli_format format, bool exact, bool no_header, bool with_rows)
{
    char *text = NULL;
    size_t bytes = 0;
    cli_context context = {.out = open_memstream(&text, &bytes)};
    context.global.format = format;
    context.global.exact = exact;
    context.global.no_header = no_header;
    cli_report *report = cli_report_open(&context, "kvtier.sample/1");
    cli_report_text(report, "store", "store", "/a \"b\"");
    cli_report_u64(report, "used_bytes", "used", CLI_UNIT_BYTES, 1536);
    cli_report_real(report, "hit_ratio", "hits", CLI_UNIT_PERCENT, 0.5);
    cli_report_bool(report, "healthy", NULL, true);
    if (with_rows) {
        cli_report_rows(report, "records", "records", columns, 4);
        cli_row_text(report, "a,\t\033[31m");
        cli_row_u64(report, UINT64_C(5) << 20);
        cli_row_real(report, 0.0123);
        cli_row_bool(report, false);
        cli_row_text(report, "long name");
        cli_row_none(report);
        cli_row_real(report, 75);
        cli_row_bool(report, true);
        cli_report_rows_end(report);
    }
    cr_assert_eq(cli_report_close(report), CLI_OK);
    fclose(context.out);
    return text;
}

KVT_TEST(cli, one_report_in_every_format)
{
    static const struct {
        const char *name;
        cli_format format;
        bool exact, no_header, rows;
        const char *text;
    } cases[] = {
        {"table", CLI_FORMAT_TABLE, false, false, true,
         "store  /a \"b\"\nused   1.50 KiB\nhits   50.0 %\n\nrecords\n"
         "NAME         STORED     TOOK\na,??[31m   5.00 MiB  12.3 ms\nlong name         -   75.0 s\n"},
        {"wide", CLI_FORMAT_WIDE, true, true, true,
         "store  /a \"b\"\nused   1536\nhits   0.5\n\nrecords\na,??[31m   5242880  0.0123  false\n"
         "long name        -      75  true\n"},
        {"json", CLI_FORMAT_JSON, false, false, true,
         "{\n  \"schema\": \"kvtier.sample/1\",\n  \"store\": \"/a \\\"b\\\"\",\n  \"used_bytes\": 1536,\n"
         "  \"hit_ratio\": 0.5,\n  \"healthy\": true,\n  \"records\": [\n    {\n      \"name\": \"a,\\t\\u001b[31m\",\n"
         "      \"stored_bytes\": 5242880,\n      \"took_seconds\": 0.0123,\n      \"pinned\": false\n    },\n    {\n"
         "      \"name\": \"long name\",\n      \"stored_bytes\": null,\n      \"took_seconds\": 75,\n"
         "      \"pinned\": true\n    }\n  ]\n}\n"},
        {"jsonl", CLI_FORMAT_JSONL, false, false, true,
         "{\"name\": \"a,\\t\\u001b[31m\", \"stored_bytes\": 5242880, \"took_seconds\": 0.0123, \"pinned\": false}\n"
         "{\"name\": \"long name\", \"stored_bytes\": null, \"took_seconds\": 75, \"pinned\": true}\n"},
        {"csv", CLI_FORMAT_CSV, false, false, true,
         "name,stored_bytes,took_seconds,pinned\n\"a,\t\033[31m\",5242880,0.0123,false\nlong name,,75,true\n"},
        {"tsv", CLI_FORMAT_TSV, false, true, true, "a,\\t\033[31m\t5242880\t0.0123\tfalse\nlong name\t\t75\ttrue\n"},
        {"csv fields", CLI_FORMAT_CSV, false, false, false,
         "name,value\nstore,\"/a \"\"b\"\"\"\nused_bytes,1536\nhit_ratio,0.5\nhealthy,true\n"},
        {"jsonl fields", CLI_FORMAT_JSONL, false, false, false,
         "{\"store\": \"/a \\\"b\\\"\", \"used_bytes\": 1536, \"hit_ratio\": 0.5, \"healthy\": true}\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = answer(cases[i].format, cases[i].exact, cases[i].no_header, cases[i].rows);
        cr_assert_str_eq(text, cases[i].text, "%s", cases[i].name);
        free(text);
    }
}

KVT_TEST(cli, json_repairs_bad_text_and_bad_numbers)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    cli_json json = {.out = out};
    cli_json_begin(&json, NULL, '[');
    cli_json_text(&json, NULL, "\xc3\xa9 \xff \xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80 \x01 \x7f \\ \"\b\f\n\r");
    cli_json_text(&json, NULL, "\xe2\x82");
    cli_json_real(&json, NULL, NAN);
    cli_json_real(&json, NULL, 0.1);
    cli_json_real(&json, NULL, 1.0 / 3);
    cli_json_u64(&json, NULL, UINT64_MAX);
    cli_json_begin(&json, NULL, '{');
    cli_json_end(&json, '}');
    cli_json_end(&json, ']');
    fclose(out);
    cr_assert_str_eq(
        text, "[\"\xc3\xa9 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x98\x80 "
              "\\u0001 \\u007f \\\\ \\\"\\b\\f\\n\\r\", \"\xef\xbf\xbd\xef\xbf\xbd\", null, 0.1, "
              "0.3333333333333333, 18446744073709551615, {}]");
    free(text);
}

KVT_TEST(cli, numbers_for_people_have_three_digits_and_a_unit)
{
    static const struct {
        cli_unit unit;
        double value;
        const char *text;
    } cases[] = {{CLI_UNIT_BYTES, 0, "0 B"},
                 {CLI_UNIT_BYTES, 1023, "1023 B"},
                 {CLI_UNIT_BYTES, 1536, "1.50 KiB"},
                 {CLI_UNIT_BYTES, 1048575, "1.00 MiB"},
                 {CLI_UNIT_SECONDS, 0, "0 ns"},
                 {CLI_UNIT_SECONDS, 1.5e-5, "15.0 us"},
                 {CLI_UNIT_SECONDS, 2, "2.00 s"},
                 {CLI_UNIT_SECONDS, 125, "2m05s"},
                 {CLI_UNIT_SECONDS, 3700, "1h01m"},
                 {CLI_UNIT_RATE, 1.25e9, "1.25 GB/s"},
                 {CLI_UNIT_PERCENT, 0.9375, "93.8 %"},
                 {CLI_UNIT_RATIO, 1.5251, "1.525"},
                 {CLI_UNIT_NONE, 12, "12"},
                 {CLI_UNIT_NONE, 0.25, "0.25"},
                 {CLI_UNIT_SECONDS, INFINITY, "-"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[CLI_NUMBER_BYTES];
        cli_format_number(text, cases[i].unit, cases[i].value, false);
        cr_assert_str_eq(text, cases[i].text);
    }
}

KVT_TEST(cli, a_report_survives_every_failing_allocation)
{
    for (uint64_t n = 1; n < 40; n++) {
        char *text = NULL;
        size_t bytes = 0;
        char complaint[256];
        cli_context context = {.out = open_memstream(&text, &bytes)};
        FILE *saved = stderr, *memory = fmemopen(complaint, sizeof complaint, "w");
        stderr = memory;
        kvt_alloc_fail_at(n);
        cli_report *report = cli_report_open(&context, "kvtier.sample/1");
        cli_report_text(report, "a", "a", "text");
        cli_report_rows(report, "rows", NULL, columns, 2);
        cli_row_text(report, "name");
        cli_row_u64(report, 1);
        cli_report_rows_end(report);
        int code = cli_report_close(report);
        bool failed = code != CLI_OK;
        kvt_alloc_fail_at(0);
        stderr = saved;
        fclose(memory);
        fclose(context.out);
        free(text);
        cr_assert(n > 6 || failed, "allocation %d failed silently", (int)n);
        cr_assert(code == CLI_OK || code == CLI_FAILURE);
    }
}

KVT_TEST(cli, a_full_disk_is_not_success)
{
    cli_context context = {.out = fopen("/dev/full", "w")};
    char complaint[256] = "";
    cr_assert_not_null(context.out);
    FILE *saved = stderr, *memory = fmemopen(complaint, sizeof complaint, "w");
    stderr = memory;
    cli_report *report = cli_report_open(&context, "kvtier.sample/1");
    cli_report_text(report, "a", "a", "text");
    int code = cli_report_close(report);
    stderr = saved;
    fclose(memory);
    fclose(context.out);
    cr_assert_eq(code, CLI_FAILURE);
    cr_assert_str_eq(complaint, "kvtier: standard output: cannot be written; the answer is incomplete\n");
}

/* -------------------------------------------------------------------- progress */

static uint64_t test_clock;
static uint64_t test_now(void) { return test_clock; }

static kvt_progress sample_progress(FILE *out, uint32_t width)
{
    kvt_progress progress;
    kvt_progress_begin(&progress, "warming", 100 << 20, true, false);
    test_clock = progress.started_ns = progress.drawn_ns = 1000;
    progress.now_ns = test_now;
    progress.out = out;
    progress.columns = width;
    return progress;
}

KVT_TEST(progress, a_line_tells_share_amount_speed_and_time_left)
{
    char line[256];
    kvt_progress progress = sample_progress(stderr, 80);
    test_clock += 2000000000;
    progress.done = 25 << 20;
    kvt_progress_line(&progress, 0, line, sizeof line);
    cr_assert_str_eq(line, "warming   25 %  25.0 MiB of 100 MiB  13.1 MB/s  6.00 s left");
    kvt_progress_line(&progress, 80, line, sizeof line);
    cr_assert_str_eq(line, "warming  [####............]  25 %  25.0 MiB of 100 MiB  13.1 MB/s  6.00 s left");
    kvt_progress_line(&progress, 20, line, sizeof line);
    cr_assert_eq(strlen(line), 19);
    progress.total = 0;
    kvt_progress_line(&progress, 0, line, sizeof line);
    cr_assert_str_eq(line, "warming  25.0 MiB  13.1 MB/s");
}

KVT_TEST(progress, away_from_a_terminal_lines_are_sparse)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    kvt_progress progress = sample_progress(out, 0);
    for (uint64_t i = 0; i <= 1000; i++) {
        test_clock += 5000000; /* five seconds in all */
        kvt_progress_set(&progress, i * (100 << 20) / 1000);
    }
    kvt_progress_end(&progress);
    fclose(out);
    uint32_t lines = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    cr_assert(lines >= 8 && lines <= 10, "%u lines: %s", lines, text);
    cr_assert_null(strchr(text, '\r'));
    free(text);
}

KVT_TEST(progress, short_work_and_quiet_work_say_nothing)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    kvt_progress progress = sample_progress(out, 0);
    for (uint64_t i = 0; i <= 100; i++)
        kvt_progress_set(&progress, i << 20);
    kvt_progress_end(&progress);
    progress = sample_progress(out, 80);
    progress.silent = true;
    test_clock += 3000000000;
    kvt_progress_set(&progress, 50 << 20);
    kvt_progress_end(&progress);
    fclose(out);
    cr_assert_str_eq(text, "");
    free(text);
}
