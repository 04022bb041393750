/* SPDX-License-Identifier: Apache-2.0
 *
 * The report of a replay. Field names are an interface: scripts and tests read them.
 */
#include "tools/replay_report.h"
#include "tools/machine.h"
#include "tools/scratch.h"

static const char *const STAGE_NAMES[KVT_STAGE_COUNT] = {"gather", "encode", "hash",   "write",
                                                         "read",   "decode", "scatter"};
static const char *const LATENCY_NAMES[KVT_LATENCY_COUNT] = {"match", "load", "save", "request"};

static const char *tier_name(uint32_t lower)
{
    return lower == KVT_LOWER_ROCKS ? "rocks" : lower == KVT_LOWER_NONE ? "host" : "file";
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

double kvt_replay_rate(const kvt_replay_stage *stage)
{
    return stage->ns == 0 ? 0 : (double)stage->bytes / seconds(stage->ns);
}

static void report_run(cli_report *r, const char *path, const kvt_trace *trace, const kvt_replay_options *o)
{
    uint64_t block_bytes = kvt_geometry_token_bytes(o->geometry) * KVT_TRACE_BLOCK_TOKENS;
    cli_report_text(r, "trace", "trace", path);
    cli_report_text(r, "geometry", "geometry", o->geometry->name);
    cli_report_u64(r, "layers", "layers", CLI_UNIT_NONE, o->geometry->layer_count);
    cli_report_text(r, "layout", "page layout", o->layout);
    cli_report_u64(r, "page_tokens", NULL, CLI_UNIT_NONE, o->page_tokens);
    cli_report_u64(r, "chunk_tokens", "chunk tokens", CLI_UNIT_NONE, o->chunk_tokens);
    cli_report_u64(r, "chunk_bytes", "chunk", CLI_UNIT_BYTES, kvt_geometry_token_bytes(o->geometry) * o->chunk_tokens);
    cli_report_u64(r, "unique_blocks", NULL, CLI_UNIT_NONE, trace->node_count);
    cli_report_u64(r, "unique_bytes", "unique bytes of the trace", CLI_UNIT_BYTES, trace->node_count * block_bytes);
    cli_report_text(r, "tier", "tier below RAM", tier_name(o->lower));
    cli_report_u64(r, "host_bytes", "RAM tier", CLI_UNIT_BYTES, o->host_bytes);
    cli_report_u64(r, "disk_bytes", "disk", CLI_UNIT_BYTES, o->lower == KVT_LOWER_NONE ? 0 : o->disk_bytes);
    cli_report_bool(r, "write_through", "write-through", o->write_through);
    cli_report_bool(r, "ignore_budget", NULL, o->ignore_budget);
    cli_report_bool(r, "tail", NULL, o->tail);
    cli_report_u64(r, "seed", NULL, CLI_UNIT_NONE, o->seed);
}

static void report_machine(cli_report *r, const kvt_replay_options *o, const kvt_replay_result *x)
{
    kvt_machine machine;
    char filesystem[256] = "none";
    kvt_machine_get(&machine);
    if (o->store != NULL)
        kvt_scratch_filesystem(o->store, filesystem, sizeof filesystem);
    cli_report_text(r, "machine", "machine", machine.cpu);
    cli_report_text(r, "kernel", NULL, machine.kernel);
    cli_report_text(r, "file_system", "file system", filesystem);
    cli_report_text(r, "backend", "backend", x->state.backend);
    cli_report_text(r, "pool_pages", "pages of the pool", x->state.pool_pages);
    cli_report_text(r, "tier_detail", "disk I/O", x->state.tier_detail);
}

static void report_hits(cli_report *r, const kvt_replay_result *x)
{
    const kvt_replay_state *s = &x->state;
    double asked = s->prompt_tokens == 0 ? 1 : (double)s->prompt_tokens;
    cli_report_u64(r, "requests", "requests", CLI_UNIT_NONE, s->requests);
    cli_report_u64(r, "prompt_tokens", "tokens asked for", CLI_UNIT_NONE, s->prompt_tokens);
    cli_report_u64(r, "hit_tokens", "restored", CLI_UNIT_NONE, s->hit_tokens);
    cli_report_u64(r, "hit_tokens_host", "  from RAM", CLI_UNIT_NONE, s->hit_tokens_host);
    cli_report_u64(r, "hit_tokens_disk", "  from disk", CLI_UNIT_NONE, s->hit_tokens_lower);
    cli_report_u64(r, "matched_tokens", NULL, CLI_UNIT_NONE, s->matched_tokens);
    cli_report_real(r, "hit_ratio", "hit ratio", CLI_UNIT_PERCENT, (double)s->hit_tokens / asked);
    cli_report_real(r, "hit_ratio_host", "  from RAM", CLI_UNIT_PERCENT, (double)s->hit_tokens_host / asked);
    cli_report_real(r, "hit_ratio_disk", "  from disk", CLI_UNIT_PERCENT, (double)s->hit_tokens_lower / asked);
}

static void report_truth(cli_report *r, const kvt_replay_options *o, const kvt_replay_result *x)
{
    const kvt_replay_state *s = &x->state;
    cli_report_u64(r, "wrong_bytes", "wrong bytes", CLI_UNIT_NONE, x->wrong_bytes);
    cli_report_text(r, "first_wrong", NULL, x->wrong);
    cli_report_u64(r, "checked_bytes", "bytes compared", CLI_UNIT_BYTES, s->checked_bytes + x->check_bytes);
    cli_report_u64(r, "acknowledged", kvt_replay_acknowledged_by(o), CLI_UNIT_NONE, x->acknowledged);
    cli_report_u64(r, "lost_acknowledged", "  lost", CLI_UNIT_NONE, x->lost);
    cli_report_bool(r, "acknowledgement_survives_kill", NULL, o->lower == KVT_LOWER_FILE);
    cli_report_u64(r, "evicted_records", "records evicted from the disk", CLI_UNIT_NONE, x->evicted);
    cli_report_u64(r, "restarts", "kills and restarts", CLI_UNIT_NONE, x->restarts);
    cli_report_u64(r, "checked_records", "records read back after them", CLI_UNIT_NONE, x->check_records);
    cli_report_u64(r, "corrupt_records", NULL, CLI_UNIT_NONE, s->corrupt_records);
    cli_report_u64(r, "load_failures", NULL, CLI_UNIT_NONE, s->load_failures);
    cli_report_u64(r, "collisions", NULL, CLI_UNIT_NONE, s->collisions);
}

static void report_volume(cli_report *r, const kvt_replay_result *x)
{
    const kvt_replay_state *s = &x->state;
    cli_report_u64(r, "saved_bytes", "saved", CLI_UNIT_BYTES, s->saved_bytes);
    cli_report_u64(r, "unsaved_tokens", "tokens that found no room", CLI_UNIT_NONE, s->unsaved_tokens);
    cli_report_u64(r, "skipped_chunks", "chunks that left RAM unwritten", CLI_UNIT_NONE, s->skipped_chunks);
    cli_report_u64(r, "peak_memory_bytes", "peak memory of the worker", CLI_UNIT_BYTES, x->peak_memory_bytes);
    cli_report_real(r, "elapsed_seconds", "time", CLI_UNIT_SECONDS, seconds(x->elapsed_ns));
}

static void report_stages(cli_report *r, const kvt_replay_result *x)
{
    static const cli_column columns[] = {{"stage", "stage", CLI_UNIT_NONE, false},
                                         {"bytes", "bytes", CLI_UNIT_BYTES, false},
                                         {"seconds", "time", CLI_UNIT_SECONDS, false},
                                         {"bytes_per_second", "rate", CLI_UNIT_RATE, false}};
    cli_report_rows(r, "stages", "Stages", columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < KVT_STAGE_COUNT; i++) {
        const kvt_replay_stage *stage = &x->state.stages[i];
        if (stage->bytes == 0)
            continue;
        cli_row_text(r, STAGE_NAMES[i]);
        cli_row_u64(r, stage->bytes);
        cli_row_real(r, seconds(stage->ns));
        cli_row_real(r, kvt_replay_rate(stage));
    }
    cli_report_rows_end(r);
}

static void report_latencies(cli_report *r, const kvt_replay_result *x)
{
    static const cli_column columns[] = {
        {"call", "latency of", CLI_UNIT_NONE, false},    {"count", "requests", CLI_UNIT_NONE, false},
        {"p50_seconds", "p50", CLI_UNIT_SECONDS, false}, {"p90_seconds", "p90", CLI_UNIT_SECONDS, false},
        {"p99_seconds", "p99", CLI_UNIT_SECONDS, false}, {"max_seconds", "max", CLI_UNIT_SECONDS, false}};
    cli_report_rows(r, "latencies", "Latencies", columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < KVT_LATENCY_COUNT; i++) {
        cli_row_text(r, LATENCY_NAMES[i]);
        cli_row_u64(r, x->latency_count[i]);
        for (int p = 0; p < 4; p++)
            cli_row_real(r, seconds(x->latency_ns[i][p]));
    }
    cli_report_rows_end(r);
}

static void report_kills(cli_report *r, const kvt_replay_result *x)
{
    static const cli_column columns[] = {{"request", "killed in request", CLI_UNIT_NONE, false},
                                         {"delay_seconds", "after", CLI_UNIT_SECONDS, false},
                                         {"in_flight_chunks", "chunks under way", CLI_UNIT_NONE, false},
                                         {"must_hold", "must hold", CLI_UNIT_NONE, false},
                                         {"open_seconds", "reopened in", CLI_UNIT_SECONDS, false},
                                         {"check_seconds", "checked in", CLI_UNIT_SECONDS, false}};
    cli_report_rows(r, "kills", "Kills", columns, sizeof columns / sizeof *columns);
    for (uint32_t i = 0; i < x->restarts; i++) {
        const kvt_replay_kill *k = &x->kills[i];
        cli_row_u64(r, k->hit_request);
        cli_row_real(r, seconds(k->delay_ns));
        cli_row_u64(r, k->in_flight);
        cli_row_u64(r, k->must_hold);
        cli_row_real(r, seconds(k->open_ns));
        cli_row_real(r, seconds(k->check_ns));
    }
    cli_report_rows_end(r);
}

int kvt_replay_report(const cli_context *context, const char *trace_path, const kvt_trace *trace,
                      const kvt_replay_options *options, const kvt_replay_result *result)
{
    char verdict[320];
    cli_report *r = cli_report_open(context, "kvtier.replay/1");
    kvt_replay_judge(options, result, verdict, sizeof verdict);
    report_run(r, trace_path, trace, options);
    report_machine(r, options, result);
    report_hits(r, result);
    report_truth(r, options, result);
    report_volume(r, result);
    if (context->global.format <= CLI_FORMAT_JSON) { /* formats of one table get the fields, where the verdict is */
        report_stages(r, result);
        report_latencies(r, result);
        if (result->restarts != 0)
            report_kills(r, result);
    }
    cli_report_text(r, "verdict", "verdict", verdict);
    return cli_report_close(r);
}
