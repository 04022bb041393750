/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of a command line into the fields of a struct, as the option tables say. Long options take `--name value`
 * and `--name=value`, letters take `-n value`, `-nvalue` and clusters of flags; operands and options may mix; `--` ends
 * the options. The first wrong word stops the reading and is explained.
 */
#include "tools/cli.h"

#include <stdlib.h>

/* Where the reader stands. */
typedef struct reader {
    const cli_option_set *sets;
    size_t set_count;
    int argc;
    char **argv;
    int at;
} reader;

typedef struct found {
    const cli_option *option; /* NULL: unknown */
    void *args;
} found;

static found find_long(const reader *r, const char *name, size_t length)
{
    for (size_t s = 0; s < r->set_count; s++)
        for (size_t i = 0; i < r->sets[s].count; i++) {
            const cli_option *option = &r->sets[s].options[i];
            if (strlen(option->name) == length && memcmp(option->name, name, length) == 0)
                return (found){option, r->sets[s].args};
        }
    return (found){NULL, NULL};
}

static found find_letter(const reader *r, char letter)
{
    for (size_t s = 0; s < r->set_count; s++)
        for (size_t i = 0; i < r->sets[s].count; i++)
            if (r->sets[s].options[i].letter == letter)
                return (found){&r->sets[s].options[i], r->sets[s].args};
    return (found){NULL, NULL};
}

static int unknown_option(const reader *r, const char *word, size_t length)
{
    enum { CANDIDATES_MAX = 128 };
    const char *names[CANDIDATES_MAX];
    size_t count = 0;
    char name[64];
    for (size_t s = 0; s < r->set_count; s++)
        for (size_t i = 0; i < r->sets[s].count && count < CANDIDATES_MAX; i++)
            names[count++] = r->sets[s].options[i].name;
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    const char *near = cli_suggest(name, names, count);
    char thing[80];
    snprintf(thing, sizeof thing, "--%s", name);
    if (near != NULL)
        return cli_fail(CLI_USAGE, thing, "there is no such option; did you mean --%s?", near);
    return cli_fail(CLI_USAGE, thing, "there is no such option; --help lists them");
}

/* ------------------------------------------------------------------- values */

static int bad_value(const cli_option *option, const char *value, const char *expected)
{
    char thing[80];
    snprintf(thing, sizeof thing, "--%s", option->name);
    return cli_fail(CLI_USAGE, thing, "'%s' is not %s", value, expected);
}

static int check_bounds(const cli_option *option, const char *value, double number)
{
    if ((option->min == 0 && option->max == 0) || (number >= option->min && number <= option->max))
        return CLI_OK;
    char low[CLI_NUMBER_BYTES], high[CLI_NUMBER_BYTES], expected[120];
    cli_unit unit = option->kind == CLI_SIZE ? CLI_UNIT_BYTES : CLI_UNIT_NONE;
    cli_format_number(low, unit, option->min, false);
    cli_format_number(high, unit, option->max, false);
    snprintf(expected, sizeof expected, "within its bounds; give %s to %s", low, high);
    return bad_value(option, value, expected);
}

static int set_choice(const cli_option *option, const char *value, uint32_t *out)
{
    uint32_t index = 0;
    for (const char *word = option->value; word != NULL; index++) {
        const char *end = strchr(word, '|');
        size_t length = end != NULL ? (size_t)(end - word) : strlen(word);
        if (strlen(value) == length && memcmp(word, value, length) == 0) {
            *out = index;
            return CLI_OK;
        }
        word = end != NULL ? end + 1 : NULL;
    }
    char expected[160];
    snprintf(expected, sizeof expected, "one of its words; give %s", option->value);
    return bad_value(option, value, expected);
}

static int append(cli_list *list, const char *item)
{
    const char **items = kvt_alloc_array(list->count + 1, sizeof *items);
    if (items == NULL)
        return cli_fail(CLI_FAILURE, "command line", "out of memory");
    if (list->count != 0)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = item;
    kvt_free(list->items);
    list->items = items;
    list->count++;
    return CLI_OK;
}

static int set_number(const cli_option *option, const char *value, void *field)
{
    uint64_t number = 0;
    double real = 0;
    switch (option->kind) {
    case CLI_SIZE:
        if (!cli_parse_size(value, &number))
            return bad_value(option, value, "a size; write it like 4096, 512M or 1.5TiB");
        break;
    case CLI_COUNT:
        if (!cli_parse_count(value, &number))
            return bad_value(option, value, "a whole number; write it in digits, like 16");
        break;
    case CLI_DURATION:
        if (!cli_parse_duration(value, &number))
            return bad_value(option, value, "a duration; write it with its unit, like 250ms, 30s or 1h30m");
        break;
    default:
        if (!cli_parse_real(value, &real))
            return bad_value(option, value, "a number; write it like 0.5 or 2e4");
        memcpy(field, &real, sizeof real);
        return check_bounds(option, value, real);
    }
    memcpy(field, &number, sizeof number);
    return check_bounds(option, value, (double)number);
}

static int set_value(const cli_option *option, void *args, const char *value)
{
    void *field = (char *)args + option->offset;
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return CLI_OK;
    case CLI_TEXT:
        if (*value == '\0')
            return bad_value(option, value, "a value; leave the option out instead");
        *(const char **)field = value;
        return CLI_OK;
    case CLI_LIST:
        return append(field, value);
    case CLI_CHOICE:
        return set_choice(option, value, field);
    default:
        return set_number(option, value, field);
    }
}

/* -------------------------------------------------------------------- words */

/* The value of an option: what stands behind it in its own word, else the next word. */
static int take_value(reader *r, found f, const char *inside, const char *name)
{
    if (f.option->kind == CLI_FLAG)
        return set_value(f.option, f.args, "");
    if (inside == NULL) {
        if (r->at >= r->argc)
            return cli_fail(CLI_USAGE, name, "a value is missing; write %s %s", name, f.option->value);
        inside = r->argv[r->at++];
    }
    return set_value(f.option, f.args, inside);
}

static int read_long(reader *r, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    found f = find_long(r, word, length);
    if (f.option == NULL)
        return unknown_option(r, word, length);
    char name[80];
    snprintf(name, sizeof name, "--%s", f.option->name);
    if (equals != NULL && f.option->kind == CLI_FLAG)
        return cli_fail(CLI_USAGE, name, "takes no value; leave out '%s'", equals);
    return take_value(r, f, equals != NULL ? equals + 1 : NULL, name);
}

static int read_letters(reader *r, const char *word)
{
    for (const char *letter = word; *letter != '\0'; letter++) {
        char name[3] = {'-', *letter, '\0'};
        found f = find_letter(r, *letter);
        if (f.option == NULL)
            return cli_fail(CLI_USAGE, name, "there is no such option; --help lists them");
        bool flag = f.option->kind == CLI_FLAG;
        int code = take_value(r, f, !flag && letter[1] != '\0' ? letter + 1 : NULL, name);
        if (code != CLI_OK || !flag)
            return code;
    }
    return CLI_OK;
}

/* Variables stand in for flags that were not given: they are read first, so that flags replace them. */
static int read_environment(const cli_option_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const char *value = set->options[i].env != NULL ? getenv(set->options[i].env) : NULL;
        if (value != NULL && *value != '\0') {
            int code = set_value(&set->options[i], set->args, value);
            if (code != CLI_OK) {
                cli_warn(set->options[i].env, "the value came from this environment variable");
                return code;
            }
        }
    }
    return CLI_OK;
}

int cli_args_parse(const cli_option_set *sets, size_t set_count, int argc, char **argv, bool first_only,
                   cli_list *operands, int *out_used)
{
    reader r = {sets, set_count, argc, argv, 0};
    bool options_end = false;
    int code = CLI_OK;
    for (size_t s = 0; s < set_count && code == CLI_OK; s++)
        code = read_environment(&sets[s]);
    while (code == CLI_OK && r.at < argc) {
        const char *word = argv[r.at++];
        if (options_end || word[0] != '-' || word[1] == '\0') /* a lone '-' names standard input */
            code = append(operands, word);
        else if (strcmp(word, "--") == 0)
            options_end = true;
        else
            code = word[1] == '-' ? read_long(&r, word + 2) : read_letters(&r, word + 1);
        if (first_only && operands->count != 0)
            break;
    }
    *out_used = r.at;
    return code;
}

void cli_args_free(const cli_option_set *sets, size_t set_count)
{
    for (size_t s = 0; s < set_count; s++)
        for (size_t i = 0; i < sets[s].count; i++)
            if (sets[s].options[i].kind == CLI_LIST) {
                cli_list *list = (cli_list *)(void *)((char *)sets[s].args + sets[s].options[i].offset);
                kvt_free(list->items);
                *list = (cli_list){NULL, 0};
            }
}
