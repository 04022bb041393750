/* SPDX-License-Identifier: Apache-2.0
 *
 * Spread of a series, the head of a report, and what a fallback means.
 */
#include "tools/bench.h"
#include "tools/machine.h"
#include "tools/scratch.h"

#include <stdlib.h>

enum { COMMAND_BYTES = 1024 };

void kvt_series_add(kvt_series *series, double value)
{
    if (series->count < KVT_BENCH_ROUNDS_MAX)
        series->values[series->count++] = value;
}

static int compare_real(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

kvt_spread kvt_series_spread(const kvt_series *series)
{
    if (series->count == 0)
        return (kvt_spread){0, 0, 0};
    kvt_series sorted = *series;
    uint32_t last = sorted.count - 1;
    qsort(sorted.values, sorted.count, sizeof *sorted.values, compare_real);
    double median = (sorted.values[last / 2] + sorted.values[(last + 1) / 2]) / 2;
    return (kvt_spread){sorted.values[last / 10], median, sorted.values[last - last / 10]};
}

kvt_spread kvt_series_ratio(const kvt_series *a, const kvt_series *b)
{
    kvt_series ratio = {.count = 0};
    for (uint32_t i = 0; i < a->count && i < b->count; i++)
        kvt_series_add(&ratio, b->values[i] > 0 ? a->values[i] / b->values[i] : 0);
    return kvt_series_spread(&ratio);
}

/* The words of this process, as they were typed. */
static void read_command(char *text, size_t bytes)
{
    size_t length = 0;
    FILE *file = fopen("/proc/self/cmdline", "re");
    if (file != NULL) {
        length = fread(text, 1, bytes - 1, file);
        fclose(file);
    }
    for (size_t i = 0; i + 1 < length; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    text[length] = '\0';
}

void kvt_bench_report_head(cli_report *report, const kvt_bench_args *args, const char *path)
{
    char command[COMMAND_BYTES];
    kvt_machine machine;
    read_command(command, sizeof command);
    kvt_machine_get(&machine);
    cli_report_text(report, "command", "command", command);
    cli_report_text(report, "release", "release", kvt_version_text());
    cli_report_text(report, "machine", "machine", machine.cpu);
    cli_report_text(report, "kernel", "kernel", machine.kernel);
    if (path != NULL) {
        char filesystem[256];
        kvt_scratch_filesystem(path, filesystem, sizeof filesystem);
        cli_report_text(report, "file_system", "file system", filesystem);
    }
    cli_report_u64(report, "rounds", "rounds, interleaved", CLI_UNIT_NONE, args->rounds);
}

int kvt_bench_fallback(const kvt_bench_args *args, const char *what, const char *way_out)
{
    if (!args->allow_fallback)
        return cli_fail(CLI_FAILURE, "bench", "%s; %s, or take the figures as they are with --allow-fallback", what,
                        way_out);
    cli_warn("bench", "%s", what);
    return CLI_OK;
}
