/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers for people (three significant digits and a unit) and for machines (the shortest text that reads back the
 * same).
 */
#include "tools/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void scaled(char *text, double value, const char *const *units, size_t count, double step)
{
    size_t unit = 0;
    while (unit + 1 < count && value >= step * 0.9995) {
        value /= step;
        unit++;
    }
    int digits = value >= 99.95 || (unit == 0 && value == floor(value)) ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, CLI_NUMBER_BYTES, "%.*f %s", digits, value, units[unit]);
}

static void shortest(char *text, double value)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, CLI_NUMBER_BYTES, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

static void seconds(char *text, double value)
{
    static const char *const small[] = {"ns", "us", "ms", "s"};
    if (value >= 3600)
        snprintf(text, CLI_NUMBER_BYTES, "%.0fh%02.0fm", floor(value / 3600), floor(fmod(value, 3600) / 60));
    else if (value >= 99.95)
        snprintf(text, CLI_NUMBER_BYTES, "%.0fm%02.0fs", floor(value / 60), floor(fmod(value, 60)));
    else
        scaled(text, value * 1e9, small, 4, 1000);
}

void cli_format_bytes(char *text, uint64_t bytes, bool exact)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (exact)
        snprintf(text, CLI_NUMBER_BYTES, "%" PRIu64, bytes);
    else
        scaled(text, (double)bytes, units, 7, 1024);
}

void cli_format_number(char *text, cli_unit unit, double value, bool exact)
{
    static const char *const rates[] = {"B/s", "KB/s", "MB/s", "GB/s", "TB/s"};
    if (!isfinite(value))
        snprintf(text, CLI_NUMBER_BYTES, "-");
    else if (exact)
        shortest(text, value);
    else if (unit == CLI_UNIT_BYTES)
        cli_format_bytes(text, value < 0 ? 0 : (uint64_t)value, false);
    else if (unit == CLI_UNIT_SECONDS)
        seconds(text, value);
    else if (unit == CLI_UNIT_RATE)
        scaled(text, value, rates, 5, 1000);
    else if (unit == CLI_UNIT_PERCENT)
        snprintf(text, CLI_NUMBER_BYTES, "%.1f %%", value * 100);
    else if (unit == CLI_UNIT_RATIO)
        snprintf(text, CLI_NUMBER_BYTES, "%.3f", value);
    else if (value == floor(value) && fabs(value) < 1e15)
        snprintf(text, CLI_NUMBER_BYTES, "%.0f", value);
    else
        snprintf(text, CLI_NUMBER_BYTES, "%.4g", value);
}
