/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benches share. Each measures beside a yardstick in the same loop, round by round, and reports ratios of
 * medians with their spread; a fallback that would flatter or hide (small pages, buffered I/O) fails the run.
 */
#ifndef KVT_BENCH_H
#define KVT_BENCH_H

#include "tools/cli.h"

typedef struct kvt_bench_args {
    const char *geometry;
    uint64_t rounds;
    uint64_t bytes;
    uint64_t depth;
    uint64_t run_ns;
    uint32_t io;
    bool allow_fallback;
    bool analyse;
    uint32_t element; /* kvt_element_kind */
    uint32_t isa;     /* 0 best, 1 portable, 2 avx2 */
    uint64_t chunk_tokens;
    uint64_t level;
} kvt_bench_args;

/* Each returns an exit code. */
int kvt_bench_move(const cli_context *context, const kvt_bench_args *args);
int kvt_bench_match(const cli_context *context, const kvt_bench_args *args);
int kvt_bench_io(const cli_context *context, const kvt_bench_args *args);
int kvt_bench_codec(const cli_context *context, const kvt_bench_args *args);

/* Figures of the rounds of one row. */
enum { KVT_BENCH_ROUNDS_MAX = 101 };
typedef struct kvt_series {
    double values[KVT_BENCH_ROUNDS_MAX];
    uint32_t count;
} kvt_series;
typedef struct kvt_spread {
    double p10, median, p90;
} kvt_spread;
void kvt_series_add(kvt_series *series, double value);
kvt_spread kvt_series_spread(const kvt_series *series);
/* a[i] / b[i] of paired rounds. */
kvt_spread kvt_series_ratio(const kvt_series *a, const kvt_series *b);

/* Machine, kernel, command line, rounds; file system of `path` unless NULL. */
void kvt_bench_report_head(cli_report *report, const kvt_bench_args *args, const char *path);

/* A fallback: told as a warning where it is allowed, else as the failure of the run. The exit code. */
int kvt_bench_fallback(const kvt_bench_args *args, const char *what, const char *way_out);

#endif
