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

/* A value on its way in; `thing` is what a complaint names: the option, or the variable that stands in for it. */
typedef struct given {
    const cli_option *option;
    const char *thing, *value;
} given;

static int bad_value(const given *g, const char *expected)
{
    return cli_fail(CLI_USAGE, g->thing, "'%s' is %s", g->value, expected);
}

static int out_of_bounds(const given *g)
{
    char low[CLI_NUMBER_BYTES], high[CLI_NUMBER_BYTES], expected[120];
    const cli_option *option = g->option;
    cli_unit unit = option->kind == CLI_SIZE ? CLI_UNIT_BYTES : CLI_UNIT_NONE;
    if (option->min == 0 && option->max == 0)
        return bad_value(g, "below 0, which is out of bounds; give 0 or more");
    cli_format_number(low, unit, option->min, false);
    cli_format_number(high, unit, option->max, false);
    snprintf(expected, sizeof expected, "not within its bounds; give %s to %s", low, high);
    return bad_value(g, expected);
}

static int check_bounds(const given *g, double number)
{
    const cli_option *option = g->option;
    bool any = option->min == 0 && option->max == 0;
    return any || (number >= option->min && number <= option->max) ? CLI_OK : out_of_bounds(g);
}

/* "a, b or c" of "a|b|c". */
static void list_words(const char *words, char *text, size_t bytes)
{
    size_t used = 0;
    while (words != NULL && used < bytes) {
        const char *bar = strchr(words, '|');
        bool before_last = bar != NULL && strchr(bar + 1, '|') == NULL;
        int length = bar != NULL ? (int)(bar - words) : (int)strlen(words);
        used += (size_t)snprintf(text + used, bytes - used, "%.*s%s", length, words,
                                 bar == NULL   ? ""
                                 : before_last ? " or "
                                               : ", ");
        words = bar != NULL ? bar + 1 : NULL;
    }
}

static int no_such_word(const given *g)
{
    char words[200], noun[40], expected[300];
    list_words(g->option->value, words, sizeof words);
    snprintf(noun, sizeof noun, "%s", g->option->noun != NULL ? g->option->noun : g->option->name);
    for (char *dash = noun; (dash = strchr(dash, '-')) != NULL;)
        *dash = ' ';
    snprintf(expected, sizeof expected, "no %s; give %s", noun, words);
    return bad_value(g, expected);
}

static int set_choice(const given *g, uint32_t *out)
{
    uint32_t index = 0;
    for (const char *word = g->option->value; word != NULL; index++) {
        const char *end = strchr(word, '|');
        size_t length = end != NULL ? (size_t)(end - word) : strlen(word);
        if (strlen(g->value) == length && memcmp(word, g->value, length) == 0) {
            *out = index;
            return CLI_OK;
        }
        word = end != NULL ? end + 1 : NULL;
    }
    return no_such_word(g);
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

/* What a value of this kind looks like, and the way out. */
static const char *expected_of(cli_kind kind)
{
    switch (kind) {
    case CLI_SIZE:
        return "not a size; write it like 4096, 512M or 1.5TiB";
    case CLI_RATE:
        return "not a rate; write it like 2500MB/s or 1.5GiB/s";
    case CLI_COUNT:
        return "not a whole number; write it in digits, like 16";
    case CLI_DURATION:
        return "not a duration; write it with its unit, like 250ms, 30s or 1h30m";
    default:
        return "not a number; write it like 0.5 or 2e4";
    }
}

static bool is_negative(const char *value) { return value[0] == '-' && value[1] >= '0' && value[1] <= '9'; }

static int set_number(const given *g, void *field)
{
    uint64_t number = 0;
    double real = 0;
    bool read = false;
    if (is_negative(g->value))
        return out_of_bounds(g);
    if (g->option->kind == CLI_SIZE)
        read = cli_parse_size(g->value, &number);
    else if (g->option->kind == CLI_RATE)
        read = cli_parse_rate(g->value, &number);
    else if (g->option->kind == CLI_COUNT)
        read = cli_parse_count(g->value, &number);
    else if (g->option->kind == CLI_DURATION)
        read = cli_parse_duration(g->value, &number);
    else
        read = cli_parse_real(g->value, &real);
    if (!read)
        return bad_value(g, expected_of(g->option->kind));
    if (g->option->kind == CLI_REAL)
        memcpy(field, &real, sizeof real);
    else
        memcpy(field, &number, sizeof number);
    return check_bounds(g, g->option->kind == CLI_REAL ? real : (double)number);
}

static int set_value(const cli_option *option, void *args, const char *thing, const char *value)
{
    void *field = (char *)args + option->offset;
    given g = {option, thing, value};
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return CLI_OK;
    case CLI_TEXT:
        if (*value == '\0')
            return bad_value(&g, "not a value; leave the option out instead");
        *(const char **)field = value;
        return CLI_OK;
    case CLI_LIST:
        return append(field, value);
    case CLI_CHOICE:
        return set_choice(&g, field);
    default:
        return set_number(&g, field);
    }
}

/* -------------------------------------------------------------------- words */

/* The value of an option: what stands behind it in its own word, else the next word. */
static int take_value(reader *r, found f, const char *inside, const char *name)
{
    char thing[80];
    snprintf(thing, sizeof thing, "--%s", f.option->name);
    if (f.option->kind == CLI_FLAG)
        return set_value(f.option, f.args, thing, "");
    if (inside == NULL) {
        if (r->at >= r->argc)
            return cli_fail(CLI_USAGE, name, "a value is missing; write %s %s", name, f.option->value);
        inside = r->argv[r->at++];
    }
    return set_value(f.option, f.args, thing, inside);
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
            int code = set_value(&set->options[i], set->args, set->options[i].env, value);
            if (code != CLI_OK)
                return code;
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
