/* SPDX-License-Identifier: Apache-2.0
 *
 * Words into numbers: sizes, durations, counts, reals; and the nearest known word to a mistyped one. Strict: no sign,
 * no blanks, nothing behind the number, no silent overflow.
 */
#include "tools/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

typedef struct unit_word {
    const char *word;
    double factor;
} unit_word;

static const unit_word size_units[] = {
    {"", 1},       {"B", 1},        {"K", 0x1p10},   {"M", 0x1p20},   {"G", 0x1p30},   {"T", 0x1p40},
    {"P", 0x1p50}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"PiB", 0x1p50},
    {"KB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"PB", 1e15},
};
static const unit_word duration_units[] = {
    {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9},
};

/* digits[.digits]; moves *text behind it. strtod alone would take signs, blanks, hex, "inf" and "nan". */
static bool take_number(const char **text, double *out)
{
    if (!isdigit((unsigned char)**text))
        return false;
    const char *at = *text;
    while (isdigit((unsigned char)*at))
        at++;
    if (*at == '.') {
        if (!isdigit((unsigned char)at[1]))
            return false;
        do
            at++;
        while (isdigit((unsigned char)*at));
    }
    char digits[64];
    size_t length = (size_t)(at - *text);
    if (length >= sizeof digits)
        return false;
    memcpy(digits, *text, length);
    digits[length] = '\0';
    *out = strtod(digits, NULL);
    *text = at;
    return true;
}

static bool take_unit(const char **text, const unit_word *units, size_t count, bool any_case, double *out)
{
    size_t length = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    for (size_t i = 0; i < count; i++) {
        bool same = strlen(units[i].word) == length &&
                    (any_case ? strncasecmp(*text, units[i].word, length) : strncmp(*text, units[i].word, length)) == 0;
        if (same) {
            *out = units[i].factor;
            *text += length;
            return true;
        }
    }
    return false;
}

bool cli_parse_count(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text) || !kvt_mul_u64(value, 10, &value) ||
            !kvt_add_u64(value, (uint64_t)(*text - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool cli_parse_size(const char *text, uint64_t *out)
{
    double number, factor;
    if (cli_parse_count(text, out)) /* exact above 2^53 */
        return true;
    if (!take_number(&text, &number) ||
        !take_unit(&text, size_units, sizeof size_units / sizeof *size_units, true, &factor) || *text != '\0')
        return false;
    number *= factor;
    if (number >= 0x1p64 || number != floor(number)) /* half a byte is a slip, not a size */
        return false;
    *out = (uint64_t)number;
    return true;
}

bool cli_parse_rate(const char *text, uint64_t *out)
{
    char size[64];
    size_t length = strlen(text);
    if (length > 2 && strcmp(text + length - 2, "/s") == 0)
        length -= 2;
    return snprintf(size, sizeof size, "%.*s", (int)length, text) < (int)sizeof size && cli_parse_size(size, out);
}

bool cli_parse_duration(const char *text, uint64_t *out_ns)
{
    double total = 0;
    if (strcmp(text, "0") == 0) {
        *out_ns = 0;
        return true;
    }
    do {
        double number, factor;
        if (!take_number(&text, &number) ||
            !take_unit(&text, duration_units, sizeof duration_units / sizeof *duration_units, false, &factor))
            return false;
        total += number * factor;
    } while (*text != '\0');
    if (total >= 0x1p63)
        return false;
    *out_ns = (uint64_t)(total + 0.5);
    return true;
}

bool cli_parse_real(const char *text, double *out)
{
    double number, factor = 1;
    if (!take_number(&text, &number))
        return false;
    if (*text == 'e' || *text == 'E') {
        const char *exponent = text + 1 + (text[1] == '-' || text[1] == '+');
        uint64_t power;
        if (!cli_parse_count(exponent, &power) || power > 300)
            return false;
        factor = pow(10, text[1] == '-' ? -(double)power : (double)power);
        text = "";
    }
    if (*text != '\0' || !isfinite(number * factor))
        return false;
    *out = number * factor;
    return true;
}

bool cli_parse_share(const char *text, uint64_t whole, uint64_t *out)
{
    size_t length = strlen(text);
    char number[64];
    double percent;
    if (length == 0 || text[length - 1] != '%')
        return cli_parse_size(text, out);
    if (length > sizeof number)
        return false;
    memcpy(number, text, length - 1);
    number[length - 1] = '\0';
    if (!cli_parse_real(number, &percent) || percent > 1000)
        return false;
    *out = (uint64_t)((double)whole * (percent / 100));
    return true;
}

/* Edit distance with transpositions of neighbours, the common slip; words are short, longer ones are never near. */
enum { WORD_MAX = 40 };
static uint32_t distance(const char *a, const char *b)
{
    size_t rows = strlen(a), columns = strlen(b);
    uint32_t cost[3][WORD_MAX + 1];
    if (rows > WORD_MAX || columns > WORD_MAX)
        return UINT32_MAX;
    for (size_t j = 0; j <= columns; j++)
        cost[0][j] = (uint32_t)j;
    for (size_t i = 1; i <= rows; i++) {
        uint32_t *now = cost[i % 3], *last = cost[(i + 2) % 3], *before = cost[(i + 1) % 3];
        now[0] = (uint32_t)i;
        for (size_t j = 1; j <= columns; j++) {
            uint32_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return cost[rows % 3][columns];
}

const char *cli_suggest(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    uint32_t nearest_distance = (uint32_t)(strlen(word) / 3) + 1; /* a third of the letters, at least one slip */
    for (size_t i = 0; i < count; i++) {
        uint32_t d = distance(word, candidates[i]);
        if (d < nearest_distance || (d == nearest_distance && nearest == NULL)) {
            nearest = candidates[i];
            nearest_distance = d;
        }
    }
    return nearest;
}
