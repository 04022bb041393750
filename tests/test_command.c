/* SPDX-License-Identifier: Apache-2.0
 *
 * The kvtier program as its users meet it: exit codes, messages, formats, generated pages; stores that are missing,
 * busy, foreign or damaged. Every command runs in a process of its own.
 */
#include "tests/run_command.h"
#include "tests/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *output_of(const char *store, const char *line, int code)
{
    kvt_command_result result = kvt_command_run(store, line, NULL);
    cr_assert_eq(result.code, code, "kvtier %s: %d: %s", line, result.code, result.err);
    kvt_free(result.err);
    return result.out;
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    cr_assert(out != NULL && fwrite(bytes, 1, count, out) == count && fclose(out) == 0, "%s", path);
}

/* Every space of the store is one of opaque blobs; small, so that tests are quick. */
#define KEY_A "00112233445566778899aabbccddeeff"
#define KEY_B "00112233f45566778899aabbccddeeff"
#define SMALL " --disk-bytes 16M --host-bytes 4M"

static char *store_with_a_record(size_t bytes)
{
    static uint8_t blob[1 << 20];
    char *folder = kvt_test_tmpdir();
    kvt_test_fill(blob, bytes, 5);
    write_file(folder, "blob", blob, bytes);
    kvt_command_expect(folder, "put -s %s/store " KEY_A " -f %s/blob --model notes" SMALL, 0, NULL);
    return folder;
}

static void drop(char *folder)
{
    kvt_test_rmtree(folder);
    kvt_free(folder);
}

/* ---------------------------------------------------------------------- usage */

KVT_TEST(command, wrong_words_are_refused_with_the_way_out)
{
    static const struct {
        const char *line;
        int code;
        const char *said;
    } cases[] = {
        {"", 2, "Usage: kvtier"},
        {"statsu", 2, "kvtier: statsu: there is no such command; did you mean status?"},
        {"frobnicate", 2, "'kvtier help' lists them"},
        {"--bogus status", 2, "--bogus"},
        {"status --stor x", 2, "did you mean --store?"},
        {"status", 2, "give -s DIR or set KVTIER_STORE"},
        {"status -s %s/none", 3, "there is no store here"},
        {"status -s %s/none extra", 2, "extra: is one word too many; usage: kvtier status\n"},
        {"put -s %s/none --model m", 2, "kvtier: put: KEY is missing; usage: kvtier put KEY\n"},
        {"status -s", 2, "a value is missing"},
        {"status -s %s/none -o yaml", 2, "'yaml' is no format; give table, wide, json, jsonl, csv or tsv"},
        {"ls -s %s/none --limit -1", 2, "'-1' is below 0"},
        {"status -s %s/none --timeout 5", 2, "unit"},
        {"show -s %s/none", 2, "usage: kvtier show KEY"},
        {"ls -s %s/none xyz", 2, "hexadecimal"},
        {"ls -s %s/none --limit x", 2, "whole number"},
        {"match -s %s/none", 2, "--tokens FILE"},
        {"match -s %s/none --tokens %s/none", 1, "cannot be opened"},
        {"match -s %s/none --tokens %s/bad --prefill-rate 0", 2, "bounds"},
        {"match -s %s/none --tokens %s/bad", 2, "line 2 is no valid JSON"},
        {"get -s %s/none", 2, "either a KEY or --prompt-tokens"},
        {"get -s %s/none abcd --prompt-tokens %s/bad", 2, "either a KEY or --prompt-tokens"},
        {"get -s %s/none abcd", 3, "there is no store here"},
        {"put -s %s/none " KEY_A, 2, "either --space ID or --model NAME"},
        {"put -s %s/none abcd --model m", 2, "exactly 32 hexadecimal digits"},
        {"put -s %s/none " KEY_A " --model m", 2, "is empty"},
        {"put -s %s/none " KEY_A " --model m -f %s/none", 1, "cannot be opened"},
        {"put -s %s/none " KEY_A " --model m --disk-bytes 1K -f %s/bad", 2, "bounds"},
        {"rm -s %s/none", 2, "either KEYs, or --all"},
        {"rm -s %s/none --all", 2, "--all needs a space"},
        {"rm -s %s/none abcd", 3, "there is no store here"},
        {"verify -s %s/none", 3, "there is no store here"},
        {"warm -s %s/none", 2, "FILE is missing; usage: kvtier warm FILE..."},
        {"completion tcsh", 2, "bash, zsh or fish"},
        {"replay --trace %s/none", 1, "cannot be opened: No such file or directory; name a trace"},
        {"help frob", 2, "no such command"},
        {"help --man-dir %s/none", 1, "cannot be written"},
    };
    char *folder = kvt_test_tmpdir();
    struct stat info;
    char path[700];
    write_file(folder, "bad", "[1]\n[2\n", 7);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kvt_command_expect(folder, cases[i].line, cases[i].code, cases[i].said);
    snprintf(path, sizeof path, "%s/none", folder);
    cr_assert_neq(stat(path, &info), 0, "a refused command made a store");
    drop(folder);
}

KVT_TEST(command, help_and_version_answer_with_success)
{
    char *text = output_of("", "--help", 0);
    cr_assert_not_null(strstr(text, "Exit status:"));
    kvt_free(text);
    text = output_of("", "help warm", 0);
    char *same = output_of("", "warm --help", 0);
    cr_assert_str_eq(text, same);
    kvt_free(text);
    kvt_free(same);
    text = output_of("", "--version", 0);
    cr_assert_not_null(strstr(text, "0.1.0"));
    kvt_free(text);
}

/* --------------------------------------------------------------- generated pages */

static char *read_text(const char *folder, const char *name)
{
    char path[1024];
    static char text[1 << 16];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    size_t count = in != NULL ? fread(text, 1, sizeof text - 1, in) : 0;
    if (in != NULL)
        fclose(in);
    text[count] = '\0';
    return in != NULL ? kvt_strdup(text) : NULL;
}

/* Pages of `from` that are not the same in `to`. */
static uint32_t count_differences(const char *from, const char *to)
{
    uint32_t differences = 0;
    DIR *entries = opendir(from);
    struct dirent *entry;
    cr_assert_not_null(entries, "%s", from);
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, "kvtier", 6) != 0 || strstr(entry->d_name, ".1") == NULL)
            continue;
        char *a = read_text(from, entry->d_name), *b = read_text(to, entry->d_name);
        if (a == NULL || b == NULL || strcmp(a, b) != 0) {
            fprintf(stderr, "%s differs between %s and %s\n", entry->d_name, from, to);
            differences++;
        }
        kvt_free(a);
        kvt_free(b);
    }
    closedir(entries);
    return differences;
}

KVT_TEST(command, man_pages_are_what_the_program_says)
{
    char *folder = kvt_test_tmpdir();
    kvt_command_expect(folder, "help --man-dir %s", 0, NULL);
    uint32_t differences = count_differences(folder, KVT_MAN_DIR) + count_differences(KVT_MAN_DIR, folder);
    cr_assert_eq(differences, 0, "docs/man is not up to date; build the target `man`");
    drop(folder);
}

KVT_TEST(command, man_pages_name_variables_and_show_no_marks_of_other_formats)
{
    char *text = output_of("", "help --man", 0);
    cr_assert_not_null(strstr(text, ".B KVTIER_SALT\nStands in for \\-\\-salt of "), "%s", text);
    cr_assert(strstr(text, "\n.ad l\n") != NULL && strstr(text, "other bytes under a held key") != NULL);
    kvt_free(text);
    text = output_of("", "help --man warm", 0);
    cr_assert_not_null(strstr(text, ".SH ENVIRONMENT\n.TP\n.B KVTIER_SALT\n"));
    kvt_free(text);
    static const char *const commands[] = {"simulate", "replay", "demo", "warm", "status", "doctor", "match"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[64];
        snprintf(line, sizeof line, "help --man %s", commands[i]);
        text = output_of("", line, 0);
        cr_assert_null(strchr(text, '`'), "%s", commands[i]);
        kvt_free(text);
    }
}

KVT_TEST(command, help_lists_what_only_reads_under_look)
{
    char *text = output_of("", "help", 0);
    const char *look = strstr(text, "Look into a store:"), *ask = strstr(text, "Ask what is held:");
    const char *get = strstr(text, "\n  get ");
    cr_assert(look < get && get < ask, "%s", text);
    kvt_free(text);
}

/* What bash would offer for the last of these words. */
static char *completed(const char *folder, const char *words, int last)
{
    char command[1400];
    snprintf(command, sizeof command,
             "bash -c 'source %s/completion; COMP_WORDS=(%s); COMP_CWORD=%d; _kvtier; echo \"${COMPREPLY[@]}\"'",
             folder, words, last);
    static char text[4096];
    FILE *in = popen(command, "r");
    cr_assert_not_null(in);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    cr_assert_eq(pclose(in), 0);
    return text;
}

KVT_TEST(command, bash_completes_commands_options_and_words)
{
    char *folder = kvt_test_tmpdir(), *script = output_of("", "completion bash", 0);
    write_file(folder, "completion", script, strlen(script));
    cr_assert_str_eq(completed(folder, "kvtier sta", 1), "status\n");
    cr_assert_str_eq(completed(folder, "kvtier -s x ver", 3), "verify version\n");
    cr_assert_str_eq(completed(folder, "kvtier warm --tensor", 2), "--tensor-names\n");
    cr_assert_str_eq(completed(folder, "kvtier warm --codec z", 3), "zstd\n");
    cr_assert_str_eq(completed(folder, "kvtier status -o js", 3), "json jsonl\n");
    cr_assert_str_eq(completed(folder, "kvtier completion f", 2), "fish\n");
    cr_assert_str_eq(completed(folder, "kvtier bench i", 2), "io\n");
    cr_assert_str_eq(completed(folder, "kvtier help sim", 2), "simulate\n");
    cr_assert_str_eq(completed(folder, "kvtier ls --limit \\\"\\\"", 3), "\n");
    cr_assert_str_eq(completed(folder, "kvtier ls --li", 2), "--limit\n");
    char path[700], words[800];
    snprintf(path, sizeof path, "%s/compl", folder);
    snprintf(words, sizeof words, "kvtier put -f %s", path);
    cr_assert_not_null(strstr(completed(folder, words, 3), "/completion\n"));
    snprintf(words, sizeof words, "kvtier show %s", path);
    cr_assert_str_eq(completed(folder, words, 2), "\n", "a key is no file");
    kvt_free(script);
    drop(folder);
}

KVT_TEST(command, zsh_and_fish_scripts_name_every_command)
{
    static const char *const shells[] = {"completion zsh", "completion fish"};
    for (size_t i = 0; i < 2; i++) {
        char *script = output_of("", shells[i], 0);
        static const char *const words[] = {"status", "match", "warm", "verify", "doctor", "tensor-names", "raw zstd"};
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)
            cr_assert_not_null(strstr(script, words[w]), "%s lacks %s", shells[i], words[w]);
        kvt_free(script);
    }
}

/* --------------------------------------------------------------------- records */

KVT_TEST(command, a_blob_goes_in_and_out_by_key)
{
    static uint8_t blob[100000];
    char *folder = store_with_a_record(sizeof blob);
    kvt_test_fill(blob, sizeof blob, 5);
    kvt_command_result result = kvt_command_run(folder, "get -s %s/store 0011", NULL);
    cr_assert(result.code == 0 && result.out_bytes == sizeof blob && memcmp(result.out, blob, sizeof blob) == 0, "%s",
              result.err);
    kvt_command_free(&result);
    kvt_command_expect(folder, "get -s %s/store " KEY_A " -f %s/copy", 0, NULL);
    char *copy = read_text(folder, "copy");
    cr_assert_not_null(copy);
    kvt_free(copy);
    kvt_command_expect(folder, "get -s %s/store " KEY_A " -f %s/none/copy", 1, "cannot be written");
    kvt_command_expect(folder, "get -s %s/store ffff", 3, "no record has this key");
    kvt_command_expect(folder, "get -s %s/store 001", 2, "at least 4 digits");
    kvt_command_expect(folder, "get -s %s/store xyzw", 2, "not a key");
    drop(folder);
}

KVT_TEST(command, other_bytes_under_a_held_key_are_refused)
{
    char *folder = store_with_a_record(5000);
    kvt_command_expect(folder, "put -s %s/store " KEY_A " -f %s/blob --model notes", 0, NULL);
    write_file(folder, "other", "other", 5);
    kvt_command_expect(folder, "put -s %s/store " KEY_A " -f %s/other --model notes", 7,
                       KEY_A ": other bytes are held under this key; remove them with 'kvtier rm'");
    kvt_command_expect(folder, "put -s %s/store " KEY_A " -f %s/other --space ffff", 3, "no space fits");
    drop(folder);
}

KVT_TEST(command, short_keys_must_be_unambiguous)
{
    char *folder = store_with_a_record(5000);
    kvt_command_expect(folder, "put -s %s/store " KEY_B " -f %s/blob --model notes", 0, NULL);
    kvt_command_expect(folder, "show -s %s/store 00112233", 2, "2 records");
    kvt_command_expect(folder, "show -s %s/store 00112233F", 0, NULL);
    drop(folder);
}

KVT_TEST(command, removal_is_counted_and_confirmed)
{
    char *folder = store_with_a_record(5000);
    kvt_command_expect(folder, "rm -s %s/store 0011 --dry-run", 0, NULL);
    kvt_command_expect(folder, "rm -s %s/store 0011", 2, "would remove 1 record,");
    kvt_command_expect(folder, "show -s %s/store 0011", 0, NULL);
    kvt_command_expect(folder, "rm -s %s/store ffff --yes", 3, "no record has this key");
    kvt_command_expect(folder, "rm -s %s/store 0011 --yes", 0, NULL);
    kvt_command_expect(folder, "show -s %s/store 0011", 3, NULL);
    kvt_command_expect(folder, "rm -s %s/store --all --model notes --yes", 0, NULL);
    drop(folder);
}

KVT_TEST(command, the_rocks_tier_removes_for_good)
{
    char *folder = store_with_a_record(5000), *version = output_of("", "version", 0);
    if (strstr(version, "+rocks") != NULL) {
        static const char put[] = "put -s %s/rocks " KEY_A " -f %s/blob --model notes --tier rocks --disk-bytes 64M";
        kvt_command_expect(folder, put, 0, NULL);
        kvt_command_expect(folder, "rm -s %s/rocks 0011 --yes", 0, NULL);
        kvt_command_expect(folder, "show -s %s/rocks 0011", 3, NULL);
        kvt_command_expect(folder, put, 0, NULL);
        kvt_command_expect(folder, "rm -s %s/rocks --all --model notes --yes", 0, NULL);
        kvt_command_expect(folder, "rm -s %s/rocks 0011 --yes", 3, NULL);
    }
    kvt_free(version);
    drop(folder);
}

/* --------------------------------------------------------------------- formats */

KVT_TEST(command, json_answers_parse_and_name_their_schema)
{
    static const struct {
        const char *line, *schema;
    } cases[] = {
        {"status -s %s/store --json", "kvtier.status/1"}, {"ls -s %s/store -o json", "kvtier.records/1"},
        {"ns -s %s/store --json", "kvtier.spaces/1"},     {"show -s %s/store 0011 --json", "kvtier.record/1"},
        {"verify -s %s/store --json", "kvtier.verify/1"}, {"doctor -s %s/store --json", "kvtier.doctor/1"},
        {"version --json", "kvtier.version/1"},           {"rm -s %s/store 0011 --dry-run --json", "kvtier.rm/1"},
    };
    char *folder = store_with_a_record(5000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = output_of(folder, cases[i].line, 0);
        json_t *answer = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(answer, "%s: %s", cases[i].line, text);
        cr_assert_str_eq(json_string_value(json_object_get(answer, "schema")), cases[i].schema);
        json_decref(answer);
        kvt_free(text);
    }
    drop(folder);
}

KVT_TEST(command, tiers_of_a_record_are_a_list)
{
    char *folder = store_with_a_record(5000);
    static const char *const lines[] = {"show -s %s/store 0011 --json", "ls -s %s/store -o jsonl"};
    for (size_t i = 0; i < 2; i++) {
        char *text = output_of(folder, lines[i], 0);
        json_t *answer = json_loads(text, 0, NULL), *tiers = json_object_get(answer, "tiers");
        cr_assert_str_eq(json_string_value(json_array_get(tiers, 0)), "file", "%s", text);
        cr_assert_eq(json_array_size(tiers), 1);
        json_decref(answer);
        kvt_free(text);
    }
    drop(folder);
}

KVT_TEST(command, tables_for_scripts_are_bare)
{
    char *folder = store_with_a_record(5000);
    char *text = output_of(folder, "ls -s %s/store -o tsv -H", 0);
    cr_assert_eq(strncmp(text, KEY_A "\t", KVT_KEY_TEXT_BYTES), 0, "%s", text);
    cr_assert_not_null(strstr(text, "\t5000\t"));
    kvt_free(text);
    text = output_of(folder, "ls -s %s/store -p", 0);
    cr_assert(strstr(text, "001122334455  ") != NULL && strstr(text, " 5000 ") != NULL, "%s", text);
    kvt_free(text);
    text = output_of(folder, "ls -s %s/store --min-size 1M -o csv -H", 0);
    cr_assert_str_eq(text, "");
    kvt_free(text);
    drop(folder);
}

KVT_TEST(command, a_healthy_store_is_silent_when_asked)
{
    char *folder = store_with_a_record(5000);
    char *text;
    cr_assert_str_eq(text = output_of(folder, "status -s %s/store -x", 0), "");
    kvt_free(text);
    text = output_of(folder, "status -s %s/store --json", 0); /* what only a writer measures is not known here */
    cr_assert(strstr(text, "\"state\": \"read-only\"") != NULL && strstr(text, "\"durable\": null") != NULL, "%s",
              text);
    kvt_free(text);
    drop(folder);
}

/* ---------------------------------------------------------- stores that are not well */

/* A process that owns the store: `rm` waiting for its answer on a terminal of its own. *out_terminal ends it. */
static pid_t start_owner(const char *folder, int *out_terminal)
{
    char store[700], said[256] = "";
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    snprintf(store, sizeof store, "%s/store", folder);
    const char *name = ptsname(terminal);
    pid_t child = fork();
    if (child == 0) {
        int end = open(name, O_RDWR | O_NOCTTY);
        dup2(end, STDIN_FILENO);
        dup2(end, STDOUT_FILENO);
        dup2(end, STDERR_FILENO);
        execl(KVT_COMMAND, "kvtier", "-s", store, "rm", "0011", (char *)NULL);
        _exit(127);
    }
    for (size_t used = 0;
         strstr(said, "[y/N]") == NULL && used < sizeof said - 1;) { /* it asks when it owns the store */
        ssize_t count = read(terminal, said + used, sizeof said - 1 - used);
        cr_assert(count > 0, "the owner ended: %s", said);
        used += (size_t)count;
    }
    *out_terminal = terminal;
    return child;
}

KVT_TEST(command, a_store_in_use_names_its_owner)
{
    char *folder = store_with_a_record(5000), said[64];
    int terminal, status;
    pid_t owner = start_owner(folder, &terminal);
    snprintf(said, sizeof said, "%d", (int)owner);
    kvt_command_expect(folder, "status -s %s/store", 5, said);
    kvt_command_expect(folder, "put -s %s/store " KEY_B " -f %s/blob --model notes", 5, said);
    cr_assert_eq(write(terminal, "n\n", 2), 2);
    cr_assert_eq(waitpid(owner, &status, 0), owner);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close(terminal);
    kvt_command_expect(folder, "show -s %s/store 0011", 0, NULL); /* it said no: the record is still there */
    drop(folder);
}

/* Flip a byte of the record's payload, found by its first bytes, in any file of the store. */
static void damage(const char *folder)
{
    uint8_t start[64];
    char path[1400];
    kvt_test_fill(start, sizeof start, 5);
    snprintf(path, sizeof path, "%s/store", folder);
    DIR *entries = opendir(path);
    struct dirent *entry;
    bool found = false;
    static uint8_t bytes[32 << 20];
    while ((entry = readdir(entries)) != NULL && !found) {
        snprintf(path, sizeof path, "%s/store/%s", folder, entry->d_name);
        int file = open(path, O_RDWR);
        ssize_t count = file >= 0 ? pread(file, bytes, sizeof bytes, 0) : 0;
        uint8_t *at = count > 0 ? memmem(bytes, (size_t)count, start, sizeof start) : NULL;
        if (at != NULL) {
            at[40] ^= 1;
            cr_assert_eq(pwrite(file, at + 40, 1, at + 40 - bytes), 1);
            found = true;
        }
        if (file >= 0)
            close(file);
    }
    closedir(entries);
    cr_assert(found, "the record's bytes are nowhere in the store");
}

KVT_TEST(command, damage_is_found_and_never_served)
{
    char *folder = store_with_a_record(100000);
    damage(folder);
    kvt_command_expect(folder, "get -s %s/store 0011 -f %s/copy", 4, NULL);
    char *copy = read_text(folder, "copy");
    cr_assert_null(copy, "damaged bytes were written");
    char *text = output_of(folder, "verify -s %s/store --json", 4);
    cr_assert(strstr(text, "\"damaged_records\": 1") != NULL && strstr(text, KEY_A) != NULL, "%s", text);
    kvt_free(text);
    kvt_command_expect(folder, "verify -s %s/store --repair", 4, NULL);
    kvt_command_expect(folder, "verify -s %s/store", 0, NULL);
    drop(folder);
}

KVT_TEST(command, a_refused_command_leaves_no_store)
{
    static const struct {
        const char *words;
        int code;
        const char *said;
    } cases[] = {
        {"--model m --disk-bytes 900T", 2, "choose larger ones"},
        {"--model m --segment-bytes 3M", 2, "--segment-bytes is 3145728"},
        {"--model m --disk-bytes 16M --segment-bytes 1M", 2, "choose larger segments"},
        {"--model m --backend nosuch", 1, "not built in"},
        {"--model a%s%s%s%s%s%s%s%s%s%s%s%s", 2, "bytes long"},
        {"--space abcd", 3, "there is no store here"},
    };
    static uint8_t blob[2 << 20];
    char *folder = kvt_test_tmpdir(), line[400], path[700];
    struct stat info;
    write_file(folder, "blob", blob, sizeof blob);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(line, sizeof line, "put -s %%s/none " KEY_A " -f %%s/blob %s", cases[i].words);
        kvt_command_expect(folder, line, cases[i].code, cases[i].said);
        snprintf(path, sizeof path, "%s/none", folder);
        cr_assert_neq(stat(path, &info), 0, "%s made a store", line);
        cr_assert_eq(mkdir(path, 0700), 0); /* an empty folder that is there stays as it is */
        kvt_command_expect(folder, line, cases[i].code, NULL);
        cr_assert_eq(rmdir(path), 0, "%s left something", line);
    }
    drop(folder);
}

KVT_TEST(command, sizes_of_a_store_that_is_there_are_told_to_be_ignored)
{
    static const char put[] = "put -s %s/store " KEY_A " -f %s/blob --model notes --host-bytes 4M ";
    char *folder = store_with_a_record(5000), line[200];
    static const struct {
        const char *words, *said;
    } cases[] = {{"--disk-bytes 64M", "--disk-bytes is ignored"},
                 {"--disk-bytes 8M", "keeps its size, 13.0 MiB; --disk-bytes is ignored"},
                 {"--segment-bytes 4M", "keeps its segments, 1.00 MiB; --segment-bytes is ignored"},
                 {"--disk-bytes 16M --segment-bytes 1M", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(line, sizeof line, "%s%s", put, cases[i].words);
        kvt_command_result result = kvt_command_run(folder, line, NULL);
        cr_assert_eq(result.code, 0, "%s", result.err);
        if (cases[i].said == NULL)
            cr_assert_str_eq(result.err, "");
        else
            cr_assert_not_null(strstr(result.err, cases[i].said), "%s", result.err);
        kvt_command_free(&result);
    }
    drop(folder);
}

KVT_TEST(command, a_store_without_its_root_names_the_way_out)
{
    char *folder = store_with_a_record(5000);
    static const uint8_t rubbish[8192];
    write_file(folder, "store/SUPER", rubbish, sizeof rubbish);
    kvt_command_expect(folder, "status -s %s/store", 4, "let 'kvtier warm' or 'put' do it with --reset-corrupt");
    kvt_command_expect(folder, "doctor -s %s/store", 1, NULL);
    static const char put[] = "put -s %s/store " KEY_A " -f %s/blob --model notes" SMALL;
    kvt_command_expect(folder, put, 4,
                       "/store: SUPER is unreadable; restore it, or give --reset-corrupt, which forgets");
    kvt_command_expect(folder, "put -s %s/store " KEY_B " -f %s/blob --model notes --reset-corrupt" SMALL, 0,
                       "kvtier: warning: ");
    kvt_command_expect(folder, "show -s %s/store " KEY_A, 3, NULL);
    kvt_command_expect(folder, "show -s %s/store " KEY_B, 0, NULL);
    drop(folder);
}

KVT_TEST(command, doctor_examines_what_a_new_store_would_meet)
{
    static const char *const checks[] = {"library,",    "backend,",    "rocksdb,",   "memory,",
                                         "pool pages,", "memlock,",    "io_uring,",  "store,",
                                         "direct I/O,", "power loss,", "free space,"};
    char *folder = kvt_test_tmpdir();
    char *text = output_of(folder, "doctor -s %s/none/none -o csv", 0);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        cr_assert_not_null(strstr(text, checks[i]), "%s lacks %s", text, checks[i]);
    cr_assert(strstr(text, "kvtier status") == NULL && strstr(text, "fill one with") != NULL, "%s", text);
    kvt_free(text);
    text = output_of(folder, "doctor", 0);
    cr_assert_null(strstr(text, "\n\n"), "%s", text);
    kvt_free(text);
    drop(folder);
}

KVT_TEST(command, foreign_folders_and_files_are_left_alone)
{
    char *folder = kvt_test_tmpdir();
    write_file(folder, "letter", "dear", 4);
    kvt_command_expect(folder, "status -s %s/letter", 2, "/letter: is not a directory");
    kvt_command_result result = kvt_command_run(folder, "put -s %s " KEY_A " -f %s/letter --model m" SMALL, NULL);
    cr_assert_eq(result.code, 7, "%d: %s", result.code, result.err);
    kvt_command_free(&result);
    char *letter = read_text(folder, "letter");
    cr_assert_str_eq(letter, "dear");
    kvt_free(letter);
    drop(folder);
}

KVT_TEST(command, the_other_tier_is_named)
{
    char *folder = store_with_a_record(5000);
    kvt_command_expect(folder, "put -s %s/store " KEY_A " -f %s/blob --model notes --tier rocks", 7, "file tier");
    drop(folder);
}

KVT_TEST(command, a_full_output_is_a_failure)
{
    char *folder = store_with_a_record(5000);
    char line[1400];
    snprintf(line, sizeof line, "%s ls -s %s/store >/dev/full 2>/dev/null", KVT_COMMAND, folder);
    int status = system(line);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    snprintf(line, sizeof line, "%s help >/dev/full 2>/dev/null", KVT_COMMAND);
    status = system(line);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    drop(folder);
}
