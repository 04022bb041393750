/* SPDX-License-Identifier: Apache-2.0
 *
 * Completion scripts, written from the command table. They name everything themselves and never run the program.
 */
#include "tools/cli_help.h"

static void put_names(FILE *out, const cli_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fprintf(out, " --%s", options[i].name);
}

static void put_words(FILE *out, const char *choice, char separator)
{
    for (; *choice != '\0'; choice++)
        fputc(*choice == '|' ? separator : *choice, out);
}

/* What a value, or an operand, is completed to. */
typedef enum target { TARGET_NONE, TARGET_WORDS, TARGET_FILES } target;

static target target_of_value(const cli_option *option)
{
    if (option->kind == CLI_CHOICE)
        return TARGET_WORDS;
    bool path = strstr(option->value, "FILE") != NULL || strstr(option->value, "DIR") != NULL;
    return path ? TARGET_FILES : TARGET_NONE;
}

static target target_of_operands(const cli_command *command)
{
    if (strchr(command->operands, '|') != NULL)
        return TARGET_WORDS;
    return strstr(command->operands, "FILE") != NULL ? TARGET_FILES : TARGET_NONE;
}

/* ------------------------------------------------------------------------ bash */

static void bash_values(FILE *out, const char *command, const cli_option *options, size_t count)
{
    static const char *const kinds[] = {"none", "words", "files"};
    for (size_t i = 0; i < count; i++) {
        if (options[i].kind == CLI_FLAG)
            continue;
        fprintf(out, "        %s:--%s", command, options[i].name);
        if (options[i].letter != 0)
            fprintf(out, "|%s:-%c", command, options[i].letter);
        fputs(") words='", out);
        if (options[i].kind == CLI_CHOICE)
            put_words(out, options[i].value, ' ');
        fprintf(out, "' kind=%s ;;\n", kinds[target_of_value(&options[i])]);
    }
}

/* The words of operands, then those of options. */
static void bash_words(FILE *out)
{
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        target to = target_of_operands(cli_commands[i]);
        if (to == TARGET_NONE)
            continue;
        fprintf(out, "        %s) kind=%s words='", cli_commands[i]->name, to == TARGET_FILES ? "files" : "words");
        if (to == TARGET_WORDS)
            put_words(out, cli_commands[i]->operands, ' ');
        fputs("' ;;\n", out);
    }
    fputs("        esac\n        if [[ $current == -* ]]; then\n            kind=words words=$globals\n"
          "            case $command in\n",
          out);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        if (cli_commands[i]->option_count == 0)
            continue;
        fprintf(out, "            %s) words+='", cli_commands[i]->name);
        put_names(out, cli_commands[i]->options, cli_commands[i]->option_count);
        fputs("' ;;\n", out);
    }
}

void cli_complete_bash(FILE *out)
{
    fputs("# bash completion of kvtier; written by 'kvtier completion bash'\n"
          "_kvtier()\n{\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= words= kind= i\n"
          "    local commands='",
          out);
    for (size_t i = 0; cli_commands[i] != NULL; i++)
        fprintf(out, "%s%s", i != 0 ? " " : "", cli_commands[i]->name);
    fputs("'\n    local globals='", out);
    put_names(out, cli_global_options, cli_global_option_count);
    fputs("'\n    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        [[ \" $commands \" == *\" ${COMP_WORDS[i]} \"* ]] && command=${COMP_WORDS[i]} && break\n    done\n"
          "    case $command:$before in\n",
          out);
    for (size_t i = 0; cli_commands[i] != NULL; i++)
        bash_values(out, cli_commands[i]->name, cli_commands[i]->options, cli_commands[i]->option_count);
    bash_values(out, "*", cli_global_options, cli_global_option_count);
    fputs("    esac\n    if [[ -z $kind ]]; then\n        kind=none\n        case $command in\n"
          "        '') kind=words words=\"$commands $globals\" ;;\n"
          "        help) kind=words words=$commands ;;\n",
          out);
    bash_words(out);
    fputs("            esac\n        fi\n    fi\n    COMPREPLY=()\n"
          "    if [[ $kind == files ]]; then\n        COMPREPLY=($(compgen -f -- \"$current\"))\n"
          "    elif [[ $kind == words ]]; then\n        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "    fi\n}\n"
          "complete -o filenames -F _kvtier kvtier\n",
          out);
}

/* ------------------------------------------------------------------- zsh, fish */

/* Text inside single quotes; zsh's option specifications also need '[', ']' and ':' escaped. */
static void put_quoted(FILE *out, const char *text, const char *escape)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\'", out);
        else if (strchr(escape, *text) != NULL)
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void zsh_option(FILE *out, const cli_option *option)
{
    fprintf(out, " \\\n            '");
    if (option->kind == CLI_LIST)
        fputc('*', out);
    fprintf(out, "--%s%s[", option->name, option->kind != CLI_FLAG ? "=" : "");
    put_quoted(out, option->text, "[]:\\");
    fputc(']', out);
    if (option->kind == CLI_CHOICE) {
        fprintf(out, ":%s:(", option->name);
        put_words(out, option->value, ' ');
        fputc(')', out);
    } else if (option->kind != CLI_FLAG) {
        fprintf(out, ":%s:%s", option->value, target_of_value(option) == TARGET_FILES ? "_files" : " ");
    }
    fputc('\'', out);
}

static void zsh_operands(FILE *out, const cli_command *command)
{
    target to = target_of_operands(command);
    if (to == TARGET_WORDS) {
        fputs(" \\\n            '*:word:(", out);
        put_words(out, command->operands, ' ');
        fputs(")' ;;\n", out);
    } else {
        fprintf(out, " \\\n            '*:%s' ;;\n", to == TARGET_FILES ? "file:_files" : "word: ");
    }
}

void cli_complete_zsh(FILE *out)
{
    fputs("#compdef kvtier\n# zsh completion of kvtier; written by 'kvtier completion zsh'\n"
          "_kvtier()\n{\n    local command i\n    local -a subcommands\n    subcommands=(\n",
          out);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        fprintf(out, "        '%s:", cli_commands[i]->name);
        put_quoted(out, cli_commands[i]->summary, ":\\");
        fputs("'\n", out);
    }
    fputs("    )\n    for ((i = 2; i < CURRENT; i++)); do\n"
          "        (( ${+subcommands[(r)${words[i]}:*]} )) && command=${words[i]} && break\n    done\n"
          "    case $command in\n        '') [[ $PREFIX == -* ]] || { _describe command subcommands; return }; "
          "_arguments -S",
          out);
    for (size_t i = 0; i < cli_global_option_count; i++)
        zsh_option(out, &cli_global_options[i]);
    fputs(" ;;\n", out);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        const cli_command *command = cli_commands[i];
        fprintf(out, "        %s) _arguments -S", command->name);
        for (size_t j = 0; j < command->option_count; j++)
            zsh_option(out, &command->options[j]);
        for (size_t j = 0; j < cli_global_option_count; j++)
            zsh_option(out, &cli_global_options[j]);
        zsh_operands(out, command);
    }
    fputs("    esac\n}\ncompdef _kvtier kvtier\n", out);
}

static void fish_option(FILE *out, const char *condition, const cli_option *option)
{
    fprintf(out, "complete -c kvtier%s -l %s", condition, option->name);
    if (option->letter != 0)
        fprintf(out, " -s %c", option->letter);
    if (option->kind == CLI_CHOICE) {
        fputs(" -x -a '", out);
        put_words(out, option->value, ' ');
        fputc('\'', out);
    } else if (option->kind != CLI_FLAG) {
        fputs(target_of_value(option) == TARGET_FILES ? " -r" : " -x", out);
    }
    fputs(" -d '", out);
    put_quoted(out, option->text, "\\");
    fputs("'\n", out);
}

void cli_complete_fish(FILE *out)
{
    fputs("# fish completion of kvtier; written by 'kvtier completion fish'\n", out);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        fprintf(out, "complete -c kvtier -n __fish_use_subcommand -x -a %s -d '", cli_commands[i]->name);
        put_quoted(out, cli_commands[i]->summary, "\\");
        fputs("'\n", out);
    }
    for (size_t i = 0; i < cli_global_option_count; i++)
        fish_option(out, "", &cli_global_options[i]);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        char condition[96];
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'", cli_commands[i]->name);
        for (size_t j = 0; j < cli_commands[i]->option_count; j++)
            fish_option(out, condition, &cli_commands[i]->options[j]);
        if (target_of_operands(cli_commands[i]) == TARGET_FILES)
            continue;
        fprintf(out, "complete -c kvtier%s -f", condition);
        if (target_of_operands(cli_commands[i]) == TARGET_WORDS) {
            fputs(" -a '", out);
            put_words(out, cli_commands[i]->operands, ' ');
            fputc('\'', out);
        }
        fputc('\n', out);
    }
}
