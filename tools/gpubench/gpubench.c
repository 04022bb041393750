/* SPDX-License-Identifier: Apache-2.0
 *
 * gpubench [--only SECTION] [--rounds N] [--json FILE]: every figure of docs/measurements/gpu_move.md in one run. Needs
 * a CUDA device and nothing else. Exit status 1 if something was wrong, 77 where there is no device.
 */
#include "tools/gpubench/gpubench.h"
#include "tools/machine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------- figures */

void gb_add(gb_series *series, double value)
{
    if (series->count < GB_ROUNDS_MAX)
        series->values[series->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double gb_quantile(const gb_series *series, double q)
{
    if (series->count == 0)
        return 0;
    gb_series sorted = *series;
    qsort(sorted.values, sorted.count, sizeof *sorted.values, by_value);
    return sorted.values[(uint32_t)(q * (sorted.count - 1) + 0.5)];
}

double gb_median(const gb_series *series) { return gb_quantile(series, 0.5); }

gb_series gb_ratio(const gb_series *a, const gb_series *b)
{
    gb_series out = {.count = 0};
    for (uint32_t i = 0; i < a->count && i < b->count; i++)
        gb_add(&out, b->values[i] > 0 ? a->values[i] / b->values[i] : 0);
    return out;
}

/* -------------------------------------------------------------------- report */

void gb_row_begin(gb *bench, const char *section, const char *name)
{
    printf("%-8s %-26s", section, name);
    if (bench->json != NULL)
        fprintf(bench->json, "{\"section\": \"%s\", \"case\": \"%s\"", section, name);
}

void gb_row_text(gb *bench, const char *key, const char *value)
{
    printf(" %-16s", value);
    if (bench->json != NULL)
        fprintf(bench->json, ", \"%s\": \"%s\"", key, value);
}

void gb_row_real(gb *bench, const char *key, double value)
{
    printf(" %s %.4g", key, value);
    if (bench->json != NULL)
        fprintf(bench->json, ", \"%s\": %.5g", key, value);
}

void gb_row_ratio(gb *bench, const char *key, const gb_series *series)
{
    double p10 = gb_quantile(series, 0.1), p50 = gb_median(series), p90 = gb_quantile(series, 0.9);
    printf(" %s %.3f (%.3f..%.3f)", key, p50, p10, p90);
    if (bench->json != NULL)
        fprintf(bench->json, ", \"%s\": %.4f, \"%s_p10\": %.4f, \"%s_p90\": %.4f", key, p50, key, p10, key, p90);
}

void gb_row_end(gb *bench)
{
    putchar('\n');
    fflush(stdout);
    if (bench->json != NULL) {
        fputs("}\n", bench->json);
        fflush(bench->json);
    }
}

/* ---------------------------------------------------------------------- main */

static void head(gb *bench, int argc, char **argv)
{
    kvt_backend_info info;
    kvt_machine machine;
    char command[512] = "", date[32], calibration[4096] = "";
    time_t now = time(NULL);
    int driver = 0, runtime = 0;
    kvt_backend_get_info(bench->backend, &info);
    kvt_machine_get(&machine);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    for (int i = 0; i < argc; i++) {
        const char *slash = strrchr(argv[i], '/');
        snprintf(command + strlen(command), sizeof command - strlen(command), "%s%s", i != 0 ? " " : "",
                 i == 0 && slash != NULL ? slash + 1 : argv[i]);
    }
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    kvt_backend_calibration(bench->backend, calibration, sizeof calibration);
    printf("command  %s\ndate     %s\ndevice   %s\nhost     %s, %s\ncuda     driver %d, runtime %d\nrounds   %u\n%s\n",
           command, date, info.device, machine.cpu, machine.kernel, driver, runtime, bench->rounds, calibration);
    if (bench->json != NULL)
        fprintf(bench->json,
                "{\"section\": \"head\", \"command\": \"%s\", \"date\": \"%s\", \"device\": \"%s\", \"host\": \"%s\", "
                "\"kernel\": \"%s\", \"driver\": %d, \"runtime\": %d, \"rounds\": %u}\n",
                command, date, info.device, machine.cpu, machine.kernel, driver, runtime, bench->rounds);
}

static bool parse(int argc, char **argv, gb *out)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--only") == 0)
            out->only = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            out->rounds = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--json") == 0)
            out->json = fopen(value, "we");
        else
            return false;
    }
    return out->rounds >= 3 && out->rounds <= GB_ROUNDS_MAX - 4;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(gb *bench);
    } sections[] = {{"device", gb_device},     {"link", gb_link},     {"both", gb_both}, {"layers", gb_layers},
                    {"beside", gb_neighbours}, {"pinned", gb_pinned}, {"rope", gb_rope}};
    gb bench = {.rounds = 21};
    if (!parse(argc, argv, &bench)) {
        fprintf(stderr,
                "usage: gpubench [--only device|link|both|layers|beside|pinned|rope] [--rounds 3..%d] [--json FILE]\n",
                GB_ROUNDS_MAX - 4);
        return 2;
    }
    if (kvt_backend_open("cuda", NULL, &bench.backend) != KVT_OK) {
        fprintf(stderr, "gpubench: %s\n", kvt_last_error());
        return 77;
    }
    if (!GB_CUDA(cudaStreamCreateWithFlags(&bench.stream, cudaStreamNonBlocking)) ||
        !GB_CUDA(cudaStreamCreateWithFlags(&bench.other, cudaStreamNonBlocking)))
        return 1;
    head(&bench, argc, argv);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (bench.only == NULL || strstr(bench.only, sections[i].name) != NULL)
            sections[i].run(&bench);
    cudaStreamDestroy(bench.stream);
    cudaStreamDestroy(bench.other);
    kvt_backend_close(bench.backend);
    if (bench.json != NULL)
        fclose(bench.json);
    printf("%u failed\n", bench.failed);
    return bench.failed != 0;
}
