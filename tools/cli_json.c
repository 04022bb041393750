/* SPDX-License-Identifier: Apache-2.0
 *
 * The one writer of JSON: escapes by RFC 8259, repairs bad UTF-8, writes numbers so that they read back as the same
 * bits. Write errors stay in the stream; whoever owns it looks at ferror once at the end.
 */
#include "tools/cli_json.h"

#include "tools/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Length of the well-formed UTF-8 sequence at `text` (no overlong forms, no surrogates), 0 if there is none. */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char first = text[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) /* also stops at the closing NUL */
            return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) || (first == 0xf0 && text[1] < 0x90) ||
        (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

static void write_string(FILE *out, const char *value)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)value; *at != '\0';) {
        size_t length = utf8_length(at);
        const char *special = length == 1 ? strchr(plain, *at) : NULL;
        if (special != NULL)
            fprintf(out, "\\%c", letters[special - plain]);
        else if (length == 1 && (*at < 0x20 || *at == 0x7f))
            fprintf(out, "\\u%04x", *at);
        else if (length == 0)
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(at, 1, length, out);
        at += length == 0 ? 1 : length;
    }
    fputc('"', out);
}

static void new_line(const cli_json *json)
{
    if (json->indent)
        fprintf(json->out, "\n%*s", (int)(2 * json->depth), "");
}

/* What stands before a value: comma, line break, key. */
static void lead(cli_json *json, const char *key)
{
    if (json->has_item[json->depth])
        fputs(json->indent ? "," : ", ", json->out);
    json->has_item[json->depth] = true;
    if (json->depth != 0)
        new_line(json);
    if (key != NULL) {
        write_string(json->out, key);
        fputs(": ", json->out);
    }
}

void cli_json_begin(cli_json *json, const char *key, char open)
{
    lead(json, key);
    fputc(open, json->out);
    assert(json->depth + 1 < sizeof json->has_item);
    json->depth++;
    json->has_item[json->depth] = false;
}

void cli_json_end(cli_json *json, char close)
{
    bool empty = !json->has_item[json->depth];
    assert(json->depth > 0);
    json->depth--;
    if (!empty)
        new_line(json);
    fputc(close, json->out);
}

void cli_json_text(cli_json *json, const char *key, const char *value)
{
    lead(json, key);
    if (value == NULL)
        fputs("null", json->out);
    else
        write_string(json->out, value);
}

void cli_json_u64(cli_json *json, const char *key, uint64_t value)
{
    lead(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void cli_json_real(cli_json *json, const char *key, double value)
{
    char text[CLI_NUMBER_BYTES];
    lead(json, key);
    if (isfinite(value)) {
        cli_format_number(text, CLI_UNIT_NONE, value, true);
        fputs(text, json->out);
    } else {
        fputs("null", json->out);
    }
}

void cli_json_bool(cli_json *json, const char *key, bool value)
{
    lead(json, key);
    fputs(value ? "true" : "false", json->out);
}
