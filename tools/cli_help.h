/* SPDX-License-Identifier: Apache-2.0
 *
 * What is generated from the command table: help, man pages, completion scripts.
 */
#ifndef KVT_TOOLS_CLI_HELP_H
#define KVT_TOOLS_CLI_HELP_H

#include "tools/cli.h"

/* NULL: not found. */
const cli_command *cli_command_find(const char *name);
/* Complain about an unknown command, with a suggestion. CLI_USAGE. */
int cli_command_unknown(const char *name);

void cli_help_all(FILE *out);
void cli_help_command(FILE *out, const cli_command *command);
/* man(7) source; command NULL: the page of the program. */
void cli_man(FILE *out, const cli_command *command);
/* Scripts that complete commands, options, and words of choices. */
void cli_complete_bash(FILE *out);
void cli_complete_zsh(FILE *out);
void cli_complete_fish(FILE *out);

typedef struct cli_topic {
    const char *name, *text;
} cli_topic;
/* Shared by help and man; a NULL name ends the list. */
extern const cli_topic cli_groups[];
extern const cli_topic cli_exit_texts[];

extern const cli_command cli_command_help, cli_command_completion, cli_command_version;

#endif
