/* SPDX-License-Identifier: Apache-2.0
 *
 * Help for people, written from the command table, and the three commands that only talk about the program.
 */
#include "tools/cli_help.h"

#include <stddef.h>

enum { TEXT_WIDTH = 96, OPTION_COLUMN = 30 };

const cli_topic cli_groups[] = {
    {"look", "Look into a store"},
    {"ask", "Ask what is held"},
    {"change", "Change a store"},
    {"care", "Care for a store"},
    {"measure", "Measure and replay"},
    {"shell", "About the program"},
    {NULL, NULL},
};

const cli_topic cli_exit_texts[] = {
    {"0", "success"},
    {"1", "failure; an input file cannot be opened"},
    {"2", "wrong usage, or an input file that breaks its format"},
    {"3", "not found, or a miss"},
    {"4", "stored bytes fail their check"},
    {"5", "the store is in use by another process"},
    {"6", "only a part was done"},
    {"7", "incompatible version, tier or fingerprint; other bytes under a held key"},
    {"8", "the time was up"},
    {"130", "interrupted"},
    {NULL, NULL},
};

const cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; cli_commands[i] != NULL; i++)
        if (strcmp(cli_commands[i]->name, name) == 0)
            return cli_commands[i];
    return NULL;
}

int cli_command_unknown(const char *name)
{
    enum { COMMANDS_MAX = 64 };
    const char *names[COMMANDS_MAX];
    size_t count = 0;
    for (; count < COMMANDS_MAX && cli_commands[count] != NULL; count++)
        names[count] = cli_commands[count]->name;
    const char *near = cli_suggest(name, names, count);
    if (near != NULL)
        return cli_fail(CLI_USAGE, name, "there is no such command; did you mean %s?", near);
    return cli_fail(CLI_USAGE, name, "there is no such command; 'kvtier help' lists them");
}

/* Words of `text` filled into lines that start at `indent`; the first line is already there at `column`. */
static void fill(FILE *out, const char *text, int indent, int column)
{
    bool first = true;
    while (*text != '\0') {
        size_t word = strcspn(text, " \n");
        if (!first && column + 1 + (int)word > TEXT_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            first = true;
        }
        if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, word, out);
        column += (int)word;
        first = false;
        text += word;
        if (text[0] == '\n' && text[1] == '\n') {
            fprintf(out, "\n\n%*s", indent, "");
            column = indent;
            first = true;
        }
        while (*text == ' ' || *text == '\n')
            text++;
    }
    fputc('\n', out);
}

static void help_option(FILE *out, const cli_option *option)
{
    char left[160];
    char letter[5] = "    ";
    if (option->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    int used = snprintf(left, sizeof left, "  %s--%s%s%s", letter, option->name, option->value != NULL ? " " : "",
                        option->value != NULL ? option->value : "");
    fputs(left, out);
    if (used + 2 > OPTION_COLUMN)
        fprintf(out, "\n%*s", OPTION_COLUMN, "");
    else
        fprintf(out, "%*s", OPTION_COLUMN - used, "");
    char text[400];
    snprintf(text, sizeof text, "%s%s%s%s", option->text, option->env != NULL ? " (env " : "",
             option->env != NULL ? option->env : "", option->env != NULL ? ")" : "");
    fill(out, text, OPTION_COLUMN, OPTION_COLUMN);
}

void cli_help_command(FILE *out, const cli_command *command)
{
    fprintf(out, "kvtier %s: %s\n\nUsage: kvtier %s%s%s%s\n\n", command->name, command->summary, command->name,
            command->option_count != 0 ? " [OPTIONS]" : "", *command->operands != '\0' ? " " : "", command->operands);
    fill(out, command->description, 0, 0);
    if (command->option_count != 0) {
        fputs("\nOptions:\n", out);
        for (size_t i = 0; i < command->option_count; i++)
            help_option(out, &command->options[i]);
    }
    fputs("\nFlags of every command (store, output, colour, time limit): kvtier help\n", out);
    if (command->examples != NULL)
        fputs("\nExamples:\n", out);
    for (const char *line = command->examples; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        fprintf(out, "  %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

void cli_help_all(FILE *out)
{
    fputs("kvtier: a tiered store for the KV cache of language models\n\n"
          "Usage: kvtier [FLAGS] COMMAND [OPTIONS] [OPERANDS]\n",
          out);
    for (const cli_topic *group = cli_groups; group->name != NULL; group++) {
        bool any = false;
        for (size_t i = 0; cli_commands[i] != NULL; i++) {
            if (strcmp(cli_commands[i]->group, group->name) != 0)
                continue;
            if (!any)
                fprintf(out, "\n%s:\n", group->text);
            any = true;
            fprintf(out, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
        }
    }
    fputs("\nFlags of every command:\n", out);
    for (size_t i = 0; i < cli_global_option_count; i++)
        help_option(out, &cli_global_options[i]);
    fputs("\nExit status:\n", out);
    for (const cli_topic *code = cli_exit_texts; code->name != NULL; code++)
        fprintf(out, "  %3s  %s\n", code->name, code->text);
    fputs("\nkvtier help COMMAND tells more about a command.\n", out);
}

/* ---------------------------------------------------------------- the commands */

typedef struct help_args {
    const char *man_dir;
    bool man;
} help_args;

static int write_page(const char *folder, const cli_command *command)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/kvtier%s%s.1", folder, command != NULL ? "-" : "",
                          command != NULL ? command->name : "");
    FILE *out = length < (int)sizeof path ? fopen(path, "we") : NULL;
    if (out == NULL)
        return cli_fail(CLI_FAILURE, path, "cannot be written; name an existing folder");
    cli_man(out, command);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    return failed ? cli_fail(CLI_FAILURE, path, "cannot be written") : CLI_OK;
}

static int write_pages(const char *folder)
{
    int code = write_page(folder, NULL);
    for (size_t i = 0; cli_commands[i] != NULL && code == CLI_OK; i++)
        code = write_page(folder, cli_commands[i]);
    return code;
}

static int run_help(const cli_context *context, const void *args)
{
    const help_args *help = args;
    const cli_command *command = NULL;
    if (context->operands.count != 0) {
        command = cli_command_find(context->operands.items[0]);
        if (command == NULL)
            return cli_command_unknown(context->operands.items[0]);
    }
    if (help->man_dir != NULL)
        return write_pages(help->man_dir);
    if (help->man)
        cli_man(context->out, command);
    else if (command != NULL)
        cli_help_command(context->out, command);
    else
        cli_help_all(context->out);
    return CLI_OK;
}

static const cli_option help_options[] = {
    {.name = "man", .kind = CLI_FLAG, .offset = offsetof(help_args, man), .text = "Print the source of the man page"},
    {.name = "man-dir",
     .kind = CLI_TEXT,
     .value = "DIR",
     .offset = offsetof(help_args, man_dir),
     .text = "Write the man pages of all commands into a folder"},
};

const cli_command cli_command_help = {
    .name = "help",
    .group = "shell",
    .summary = "explain a command",
    .operands = "[COMMAND]",
    .description = "Lists the commands, or explains one: what it does, its options, examples.",
    .examples = "kvtier help warm\nkvtier help --man warm | man -l -",
    .options = help_options,
    .option_count = sizeof help_options / sizeof *help_options,
    .args_bytes = sizeof(help_args),
    .operands_max = 1,
    .run = run_help,
};

static int run_completion(const cli_context *context, const void *args)
{
    (void)args;
    const char *shell = context->operands.items[0];
    if (strcmp(shell, "bash") == 0)
        cli_complete_bash(context->out);
    else if (strcmp(shell, "zsh") == 0)
        cli_complete_zsh(context->out);
    else if (strcmp(shell, "fish") == 0)
        cli_complete_fish(context->out);
    else
        return cli_fail(CLI_USAGE, shell, "there is no script for this shell; give bash, zsh or fish");
    return CLI_OK;
}

const cli_command cli_command_completion = {
    .name = "completion",
    .group = "shell",
    .summary = "print a completion script",
    .operands = "bash|zsh|fish",
    .description =
        "Prints a script that completes commands, options and their words in the named shell. Packages install "
        "these scripts; in a shell they can also be read directly.",
    .examples = "source <(kvtier completion bash)",
    .operands_min = 1,
    .operands_max = 1,
    .run = run_completion,
};

static int run_version(const cli_context *context, const void *args)
{
    (void)args;
    cli_report *report = cli_report_open(context, "kvtier.version/1");
    char release[32];
    snprintf(release, sizeof release, "%d.%d.%d", KVT_RELEASE_MAJOR, KVT_RELEASE_MINOR, KVT_RELEASE_PATCH);
    cli_report_text(report, "version", "kvtier", release);
    cli_report_text(report, "library", "library", kvt_version_text());
    return cli_report_close(report);
}

const cli_command cli_command_version = {
    .name = "version",
    .group = "shell",
    .summary = "print the release and the parts built in",
    .operands = "",
    .description = "Prints the release of the command and of the library, with the optional parts that were built in.",
    .run = run_version,
};
