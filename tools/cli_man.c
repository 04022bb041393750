/* SPDX-License-Identifier: Apache-2.0
 *
 * Man pages, written from the command table in man(7). No dates and no versions: the same table gives the same bytes,
 * so that a test can compare the pages in docs/man with what the program says.
 */
#include "tools/cli_help.h"

#include <ctype.h>

/* Text with roff's special characters escaped; a line that would start with a request gets a zero-width \&. */
static void put_bytes(FILE *out, const char *text, size_t bytes)
{
    bool line_start = true;
    for (size_t i = 0; i < bytes; i++) {
        if (line_start && (text[i] == '.' || text[i] == '\''))
            fputs("\\&", out);
        line_start = text[i] == '\n';
        if (text[i] == '\\')
            fputs("\\e", out);
        else if (text[i] == '-')
            fputs("\\-", out);
        else
            fputc(text[i], out);
    }
}

static void put(FILE *out, const char *text) { put_bytes(out, text, strlen(text)); }

static void put_upper(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

static void put_paragraphs(FILE *out, const char *text)
{
    const char *end;
    while ((end = strstr(text, "\n\n")) != NULL) {
        put_bytes(out, text, (size_t)(end - text));
        fputs("\n.PP\n", out);
        text = end + 2;
    }
    put(out, text);
    fputc('\n', out);
}

static void put_option(FILE *out, const cli_option *option)
{
    fputs(".TP\n", out);
    if (option->letter != 0)
        fprintf(out, "\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB\\-\\-", out);
    put(out, option->name);
    fputs("\\fR", out);
    if (option->value != NULL) {
        fputs(" \\fI", out);
        put(out, option->value);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    put(out, option->text);
    if (option->env != NULL)
        fprintf(out, " (environment: %s)", option->env);
    fputs(".\n", out);
}

static void put_exit_status(FILE *out)
{
    fputs(".SH EXIT STATUS\n", out);
    for (const cli_topic *code = cli_exit_texts; code->name != NULL; code++)
        fprintf(out, ".TP\n.B %s\n%s\n", code->name, code->text);
}

static void put_head(FILE *out, const cli_command *command)
{
    fputs(".\\\" Written by 'kvtier help --man'; change the command's table instead.\n.TH KVTIER", out);
    if (command != NULL) {
        fputc('-', out);
        put_upper(out, command->name);
    }
    fputs(" 1 \"\" kvtier \"kvtier manual\"\n.ad l\n.SH NAME\nkvtier", out);
    if (command != NULL) {
        fputs("\\-", out);
        put(out, command->name);
    }
    fputs(" \\- ", out);
    put(out, command != NULL ? command->summary : "a tiered store for the KV cache of language models");
    fputs("\n.SH SYNOPSIS\n.B kvtier", out);
}

static void put_examples(FILE *out, const char *line)
{
    fputs(".SH EXAMPLES\n.EX\n", out);
    while (*line != '\0') {
        size_t length = strcspn(line, "\n");
        put_bytes(out, line, length);
        fputc('\n', out);
        line += length + (line[length] == '\n');
    }
    fputs(".EE\n", out);
}

/* Does another command before this one have an option with this variable? */
static bool is_named_before(size_t command, const char *env)
{
    for (size_t i = 0; i < command; i++)
        for (size_t j = 0; j < cli_commands[i]->option_count; j++)
            if (cli_commands[i]->options[j].env != NULL && strcmp(cli_commands[i]->options[j].env, env) == 0)
                return true;
    return false;
}

/* Variables of options that only some commands have, each with all of them. */
static void put_environment_of_commands(FILE *out)
{
    for (size_t i = 0; cli_commands[i] != NULL; i++)
        for (size_t j = 0; j < cli_commands[i]->option_count; j++) {
            const cli_option *option = &cli_commands[i]->options[j];
            if (option->env == NULL || is_named_before(i, option->env))
                continue;
            fprintf(out, ".TP\n.B %s\nStands in for \\-\\-%s of", option->env, option->name);
            for (size_t k = i; cli_commands[k] != NULL; k++)
                for (size_t l = 0; l < cli_commands[k]->option_count; l++)
                    if (cli_commands[k]->options[l].env != NULL &&
                        strcmp(cli_commands[k]->options[l].env, option->env) == 0)
                        fprintf(out, "%s %s", k != i ? "," : "", cli_commands[k]->name);
            fputs(".\n", out);
        }
}

static void put_environment_of(FILE *out, const cli_command *command)
{
    bool any = false;
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].env == NULL)
            continue;
        fprintf(out, "%s.TP\n.B %s\nStands in for \\-\\-%s.\n", any ? "" : ".SH ENVIRONMENT\n", command->options[i].env,
                command->options[i].name);
        any = true;
    }
    if (any)
        fputs(".PP\nThe variables of every command are in\n.BR kvtier (1).\n", out);
}

static void man_command(FILE *out, const cli_command *command)
{
    put_head(out, command);
    fprintf(out, " %s\n", command->name);
    if (command->option_count != 0)
        fputs("[\\fIOPTIONS\\fR]\n", out);
    put(out, command->operands);
    fputs(*command->operands != '\0' ? "\n.SH DESCRIPTION\n" : ".SH DESCRIPTION\n", out);
    put_paragraphs(out, command->description);
    if (command->option_count != 0)
        fputs(".SH OPTIONS\n", out);
    for (size_t i = 0; i < command->option_count; i++)
        put_option(out, &command->options[i]);
    fputs(".PP\nThe flags of every command are in\n.BR kvtier (1).\n", out);
    put_exit_status(out);
    put_environment_of(out, command);
    if (command->examples != NULL)
        put_examples(out, command->examples);
    fputs(".SH SEE ALSO\n.BR kvtier (1)\n", out);
}

static void man_program(FILE *out)
{
    put_head(out, NULL);
    fputs("\n[\\fIFLAGS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIOPERANDS\\fR]\n.SH DESCRIPTION\n", out);
    put_paragraphs(
        out, "kvtier looks into, fills, checks and measures stores of the KV cache of language models. A store is "
             "a directory; it has one owner at a time. Commands that only look open it read-only.\n\n"
             "Sizes are written like 4096, 512M or 1.5TiB: K, M, G and T, with or without iB, are powers of "
             "1024; KB, MB, GB and TB powers of 1000. Durations are written like 250ms, 30s, 5m or 1h30m.\n\n"
             "Keys may be shortened to their first 4 or more digits where that is unambiguous.");
    for (const cli_topic *group = cli_groups; group->name != NULL; group++) {
        fprintf(out, ".SS %s\n", group->text);
        for (size_t i = 0; cli_commands[i] != NULL; i++)
            if (strcmp(cli_commands[i]->group, group->name) == 0)
                fprintf(out, ".TP\n.BR kvtier\\-%s (1)\n%s\n", cli_commands[i]->name, cli_commands[i]->summary);
    }
    fputs(".SH FLAGS\n", out);
    for (size_t i = 0; i < cli_global_option_count; i++)
        put_option(out, &cli_global_options[i]);
    put_exit_status(out);
    fputs(".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nNo colour when set and not empty.\n", out);
    for (size_t i = 0; i < cli_global_option_count; i++)
        if (cli_global_options[i].env != NULL)
            fprintf(out, ".TP\n.B %s\nStands in for \\-\\-%s.\n", cli_global_options[i].env,
                    cli_global_options[i].name);
    put_environment_of_commands(out);
}

void cli_man(FILE *out, const cli_command *command)
{
    if (command != NULL)
        man_command(out, command);
    else
        man_program(out);
}
