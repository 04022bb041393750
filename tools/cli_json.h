/* SPDX-License-Identifier: Apache-2.0
 *
 * The one writer of JSON of the whole command.
 */
#ifndef KVT_TOOLS_CLI_JSON_H
#define KVT_TOOLS_CLI_JSON_H

#include "engine/base/base.h"

#include <stdio.h>

/* Keys are given inside objects and NULL inside arrays. */
typedef struct cli_json {
    FILE *out;
    uint32_t depth;
    bool indent;
    bool has_item[16]; /* per depth: a comma is due */
} cli_json;
void cli_json_begin(cli_json *json, const char *key, char open); /* '{' or '[' */
void cli_json_end(cli_json *json, char close);
void cli_json_text(cli_json *json, const char *key, const char *value); /* NULL: null; bad UTF-8 becomes U+FFFD */
void cli_json_u64(cli_json *json, const char *key, uint64_t value);
void cli_json_real(cli_json *json, const char *key, double value); /* not finite: null */
void cli_json_bool(cli_json *json, const char *key, bool value);

#endif
