/* SPDX-License-Identifier: Apache-2.0
 *
 * The kvtier command: the table of commands, the flags all of them know, and the way from argv to a command's run().
 * Help, completion and man pages are written from the same table (cli_help.c, cli_complete.c, cli_man.c).
 */
#include "tools/cli_commands.h"
#include "tools/cli_help.h"

#include <stddef.h>

const cli_command *const cli_commands[] = {
    &cli_command_status,
    &cli_command_ns,
    &cli_command_ls,
    &cli_command_show,
    &cli_command_match,
    &cli_command_get,
    &cli_command_put,
    &cli_command_rm,
    &cli_command_warm,
    &cli_command_verify,
    &cli_command_doctor,
    &cli_command_simulate,
    &cli_command_demo,
    &cli_command_replay,
    &cli_command_bench,
    &cli_command_help,
    &cli_command_completion,
    &cli_command_version,
    NULL,
};

const cli_option cli_global_options[] = {
    {.name = "store",
     .letter = 's',
     .kind = CLI_TEXT,
     .value = "DIR",
     .env = "KVTIER_STORE",
     .offset = offsetof(cli_globals, store),
     .text = "Directory of the store"},
    {.name = "output",
     .letter = 'o',
     .kind = CLI_CHOICE,
     .value = "table|wide|json|jsonl|csv|tsv",
     .noun = "format",
     .offset = offsetof(cli_globals, format),
     .text = "Format of the answer; default table. jsonl, csv and tsv print the rows of its main table, if it has one"},
    {.name = "json", .kind = CLI_FLAG, .offset = offsetof(cli_globals, json), .text = "The same as --output json"},
    {.name = "no-header",
     .letter = 'H',
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, no_header),
     .text = "No heading above tables, CSV and TSV"},
    {.name = "exact",
     .letter = 'p',
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, exact),
     .text = "Bare numbers in tables: bytes and seconds without rounding and units"},
    {.name = "color",
     .kind = CLI_CHOICE,
     .value = "auto|always|never",
     .offset = offsetof(cli_globals, color),
     .text = "Colour; default auto: on a terminal, unless NO_COLOR is set"},
    {.name = "quiet",
     .letter = 'q',
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, quiet),
     .text = "No progress and no warnings on standard error"},
    {.name = "verbose",
     .letter = 'v',
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, verbose),
     .text = "Tell what the library does on standard error"},
    {.name = "timeout",
     .kind = CLI_DURATION,
     .value = "DURATION",
     .offset = offsetof(cli_globals, timeout_ns),
     .text = "Give up on a single request to the store after this; default none"},
    {.name = "backend",
     .kind = CLI_TEXT,
     .value = "NAME",
     .env = "KVTIER_BACKEND",
     .offset = offsetof(cli_globals, backend),
     .text = "Force what moves pages: cpu, portable, or a device's name; default the best one that works"},
    {.name = "help",
     .letter = 'h',
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, help),
     .text = "Explain and exit"},
    {.name = "version",
     .kind = CLI_FLAG,
     .offset = offsetof(cli_globals, version),
     .text = "Print the release and exit"},
};
const size_t cli_global_option_count = sizeof cli_global_options / sizeof *cli_global_options;

/* Helpless output (a full disk, a closed pipe) must not look like success. */
static int finish(const cli_context *context, int code)
{
    if (code == CLI_OK && (fflush(context->out) != 0 || ferror(context->out)))
        return cli_fail(CLI_FAILURE, "standard output", "cannot be written; the answer is incomplete");
    return code;
}

static int check_operands(const cli_context *context)
{
    const cli_command *command = context->command;
    const char *space = *command->operands != '\0' ? " " : "";
    if (context->operands.count < command->operands_min)
        return cli_fail(CLI_USAGE, command->name, "%.*s is missing; usage: kvtier %s %s",
                        (int)strcspn(command->operands, "."), command->operands, command->name, command->operands);
    if (context->operands.count > command->operands_max)
        return cli_fail(CLI_USAGE, context->operands.items[command->operands_max],
                        "is one word too many; usage: kvtier %s%s%s", command->name, space, command->operands);
    return CLI_OK;
}

static int run_command(cli_context *context, void *args)
{
    if (context->global.json)
        context->global.format = CLI_FORMAT_JSON;
    if (context->global.help) {
        cli_help_command(context->out, context->command);
        return CLI_OK;
    }
    int code = check_operands(context);
    return code != CLI_OK ? code : context->command->run(context, args);
}

/* The command is known: read every word again, with its options beside the global ones. */
static int parse_and_run(cli_context *context, int argc, char **argv)
{
    int used;
    cli_fail_for(context->command);
    void *args = context->command->args_bytes != 0 ? kvt_alloc(context->command->args_bytes) : NULL;
    if (args == NULL && context->command->args_bytes != 0)
        return cli_fail(CLI_FAILURE, context->command->name, "out of memory");
    memset(&context->global, 0, sizeof context->global);
    cli_option_set sets[] = {{context->command->options, context->command->option_count, args},
                             {cli_global_options, cli_global_option_count, &context->global}};
    cli_list words = {NULL, 0};
    int code = cli_args_parse(sets, 2, argc - 1, argv + 1, false, &words, &used);
    if (code == CLI_OK) {
        context->operands = (cli_list){words.items + 1, words.count - 1}; /* the first word is the command's name */
        code = run_command(context, args);
    }
    cli_args_free(sets, 1);
    kvt_free(words.items);
    kvt_free(args);
    return code;
}

int main(int argc, char **argv)
{
    cli_context context = {.out = stdout};
    int used;
    cli_option_set set = {cli_global_options, cli_global_option_count, &context.global};
    cli_list words = {NULL, 0};
    int code = cli_args_parse(&set, 1, argc - 1, argv + 1, true, &words, &used);
    if (code != CLI_OK) {
        kvt_free(words.items);
        return code;
    }
    const char *name = words.count != 0 ? words.items[0] : context.global.version ? "version" : NULL;
    kvt_free(words.items);
    if (name == NULL && context.global.help) {
        cli_help_all(context.out);
        return finish(&context, CLI_OK);
    }
    if (name == NULL) {
        cli_help_all(stderr);
        return CLI_USAGE;
    }
    context.command = cli_command_find(name);
    if (context.command == NULL)
        return cli_command_unknown(name);
    if (words.count == 0)
        return finish(&context, context.command->run(&context, NULL));
    return finish(&context, parse_and_run(&context, argc, argv));
}
