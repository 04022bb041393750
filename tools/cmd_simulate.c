/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier simulate: what a cache of a given size would hit on a trace, without an engine, a disk or a byte of KV. Takes
 * the sizes of `kvtier replay` and answers with the same names, so that the two can be laid side by side; with
 * --policy, one tier under the policies of docs/policies.md. This file reads the command line and reports;
 * tools/simulate.h does the work.
 */
#include "tools/cli_commands.h"
#include "tools/geometry.h"
#include "tools/simulate.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

enum { CAPACITIES_MAX = 16, RECORD_BLOCK = 4096, TOKEN_SECTION_ALIGN = 64, TOKEN_SECTION_HEAD = 16 };
#define DISK_OTHER_BYTES    (UINT64_C(2) << 20) /* of the file tier, beside its segments */
#define SEGMENT_BYTES_MAX   (UINT64_C(256) << 20)
#define SEGMENT_BYTES_MIN   (UINT64_C(16) << 20)
#define SEGMENT_BYTES_LEAST (UINT64_C(1) << 20)
enum { SEGMENTS_WANTED = 64, SEGMENTS_ENOUGH = 8, SEGMENT_RECORDS_WANTED = 4, FILTER_UNLIMITED = 0 };

typedef struct simulate_args {
    const char *trace;
    const char *geometry;
    const char *host_bytes;
    const char *disk_bytes;
    uint64_t layers, chunk_tokens, requests, segment_bytes, record_bytes, budget_bytes, writers, filter_keys;
    uint32_t policy, host_policy, admission;
    bool write_through, ignore_budget, touch_promoted;
    cli_list capacities;
} simulate_args;

/* Words of --policy behind `engine` and `all`, by kvt_sim_policy. */
#define POLICY_WORDS "fifo|lru-front|lru|s3fifo|segment16-lru|segment64-fifo"
static const char *const POLICY_NAMES[KVT_SIM_POLICY_COUNT] = {"fifo",   "lru-front",     "lru",
                                                               "s3fifo", "segment16-lru", "segment64-fifo"};
static const char *const ADMISSION_NAMES[KVT_SIM_ADMISSION_COUNT] = {"budget", "write-through", "evicted", "used",
                                                                     "used-or-seen"};
enum { POLICY_ENGINE = 0, POLICY_ALL = 1, POLICY_FIRST = 2, FIGURES = 3 /* of a row: hits, writes, evictions */ };

#define AT(field) .offset = offsetof(simulate_args, field)
static const cli_option OPTIONS[] = {
    {.name = "trace",
     .kind = CLI_TEXT,
     .value = "FILE",
     AT(trace),
     .text = "Mooncake trace, JSON lines; - is standard input"},
    {.name = "requests",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 0x1p32,
     AT(requests),
     .text = "Only the first N requests; default all"},
    {.name = "policy",
     .kind = CLI_CHOICE,
     .value = "engine|all|" POLICY_WORDS,
     AT(policy),
     .text = "The engine's two tiers, or one tier under one policy or all of them; default engine"},
    {.name = "capacity",
     .kind = CLI_LIST,
     .value = "PERCENT",
     AT(capacities),
     .text = "One tier: its size, in percent of the trace's unique blocks; repeatable; default 1, 5 and 20"},
    {.name = "geometry",
     .kind = CLI_TEXT,
     .value = "NAME|FILE",
     AT(geometry),
     .text = "llama-3.1-8b, qwen3-32b, deepseek-v3-mla, tiny, or a JSON file; default tiny"},
    {.name = "layers",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 4096,
     AT(layers),
     .text = "Replace the number of layers"},
    {.name = "chunk-tokens",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 512,
     AT(chunk_tokens),
     .text = "Tokens of a chunk, a divisor of 512; default the most that fits a blob"},
    {.name = "record-bytes",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 2 * RECORD_BLOCK,
     .max = 1 << 27,
     AT(record_bytes),
     .text = "Bytes of a stored chunk with its header, for codecs; default by geometry, not encoded"},
    {.name = "host-bytes",
     .kind = CLI_TEXT,
     .value = "SIZE|PERCENT",
     AT(host_bytes),
     .text = "Pinned memory; a percentage is of the trace's unique bytes; default " CLI_TRACE_HOST_DEFAULT},
    {.name = "disk-bytes",
     .kind = CLI_TEXT,
     .value = "SIZE|PERCENT",
     AT(disk_bytes),
     .text = "Disk space, likewise; default " CLI_TRACE_DISK_DEFAULT},
    {.name = "segment-bytes",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 1 << 20,
     .max = 1 << 30,
     AT(segment_bytes),
     .text = "Segment of the file tier; default by size"},
    {.name = "writers",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 64,
     AT(writers),
     .text = "Writer groups of the file tier that are in use; each keeps an empty segment; default 1"},
    {.name = "host-policy",
     .kind = CLI_CHOICE,
     .value = "s3fifo|lru",
     AT(host_policy),
     .text = "How RAM evicts; default s3fifo, as the engine does"},
    {.name = "admission",
     .kind = CLI_CHOICE,
     .value = "budget|write-through|evicted|used|used-or-seen",
     AT(admission),
     .text = "What is written down: default budget, as the engine does"},
    {.name = "write-through", .kind = CLI_FLAG, AT(write_through), .text = "The same as --admission write-through"},
    {.name = "ignore-budget",
     .kind = CLI_FLAG,
     AT(ignore_budget),
     .text = "Do not limit the bytes written a day of trace time"},
    {.name = "touch-promoted",
     .kind = CLI_FLAG,
     AT(touch_promoted),
     .text = "Count the load that brings a chunk into RAM as a use of it there; the engine does not"},
    {.name = "write-bytes-per-day",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 0,
     .max = 0x1p60,
     AT(budget_bytes),
     .text = "The write budget; default the disk's size"},
    {.name = "filter-keys",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 0x1p32,
     AT(filter_keys),
     .text = "Keys of each window of the seen-before filter; default no limit"},
};

/* ---- one tier ---- */

static int read_capacities(const cli_list *list, double *percents, size_t *out_count)
{
    static const double usual[] = {1, 5, 20};
    size_t count = list->count != 0 ? list->count : sizeof usual / sizeof *usual;
    if (count > CAPACITIES_MAX)
        return cli_fail(CLI_USAGE, "--capacity", "may be given %d times at most", CAPACITIES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (list->count == 0)
            percents[i] = usual[i];
        else if (!cli_parse_real(list->items[i], &percents[i]) || percents[i] <= 0 || percents[i] > 100)
            return cli_fail(CLI_USAGE, "--capacity", "'%s' is no percentage above 0 and up to 100; write it like 5",
                            list->items[i]);
    }
    *out_count = count;
    return CLI_OK;
}

/* KVT_INVALID of a simulation: the policy needs a larger cache than this. */
static kvt_status report_one_tier(cli_report *r, const kvt_trace *trace, uint32_t policy, double percent)
{
    kvt_sim_cache_result result;
    uint64_t capacity = (uint64_t)((double)trace->node_count * percent / 100);
    kvt_status status = kvt_sim_cache(trace, (kvt_sim_policy)policy, capacity, &result);
    if (status != KVT_OK && status != KVT_INVALID)
        return status;
    cli_row_text(r, POLICY_NAMES[policy]);
    cli_row_real(r, percent);
    cli_row_u64(r, capacity);
    if (status == KVT_INVALID) {
        for (int i = 0; i < FIGURES; i++)
            cli_row_none(r);
        return KVT_OK;
    }
    cli_row_real(r, (double)result.hit_blocks / (double)result.blocks);
    cli_row_real(r, (double)result.inserted / (double)result.blocks);
    cli_row_u64(r, result.evicted);
    return KVT_OK;
}

static void report_trace(cli_report *r, const simulate_args *args, const kvt_trace *trace)
{
    cli_report_text(r, "trace", "trace", args->trace);
    cli_report_u64(r, "requests", "requests", CLI_UNIT_NONE, trace->request_count);
    cli_report_u64(r, "blocks", "blocks of 512 tokens", CLI_UNIT_NONE, trace->block_count);
    cli_report_u64(r, "unique_blocks", "different ones", CLI_UNIT_NONE, trace->node_count);
}

static int run_one_tier(const cli_context *context, const simulate_args *args, const kvt_trace *trace)
{
    static const cli_column columns[] = {
        {.key = "policy", .title = "POLICY"},
        {.key = "capacity_percent", .title = "CAPACITY %"},
        {.key = "capacity_blocks", .title = "BLOCKS"},
        {.key = "hit_ratio", .title = "HIT", .unit = CLI_UNIT_PERCENT},
        {.key = "inserted_per_block", .title = "WRITES", .unit = CLI_UNIT_PERCENT},
        {.key = "evicted_blocks", .title = "EVICTED"},
    };
    double percents[CAPACITIES_MAX];
    size_t count = 0;
    int code = read_capacities(&args->capacities, percents, &count);
    if (code != CLI_OK)
        return code;
    uint32_t first = args->policy == POLICY_ALL ? 0 : args->policy - POLICY_FIRST;
    uint32_t last = args->policy == POLICY_ALL ? KVT_SIM_POLICY_COUNT - 1 : first;
    kvt_status status = KVT_OK;
    cli_report *r = cli_report_open(context, "kvtier.simulate/1");
    report_trace(r, args, trace);
    cli_report_rows(r, "policies", NULL, columns, sizeof columns / sizeof *columns);
    for (uint32_t policy = first; policy <= last && status == KVT_OK; policy++)
        for (size_t i = 0; i < count && status == KVT_OK; i++)
            status = report_one_tier(r, trace, policy, percents[i]);
    cli_report_rows_end(r);
    code = cli_report_close(r);
    return status != KVT_OK ? cli_fail_status(status, "simulate") : code;
}

/* ---- the engine's tiers ---- */

typedef struct sizes {
    uint64_t record_bytes, host_bytes, disk_bytes, segment_bytes;
    uint32_t chunk_tokens;
} sizes;

static uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

/* A record: header block, token ids, blob; padded. */
static uint64_t record_bytes_of(uint64_t blob_bytes, uint32_t tokens)
{
    uint64_t section = round_up(TOKEN_SECTION_HEAD + UINT64_C(4) * tokens, TOKEN_SECTION_ALIGN);
    return RECORD_BLOCK + round_up(section + blob_bytes, RECORD_BLOCK);
}

static uint64_t segments_in(uint64_t disk_bytes, uint64_t segment_bytes)
{
    return disk_bytes > DISK_OTHER_BYTES ? (disk_bytes - DISK_OTHER_BYTES) / segment_bytes : 0;
}

/* As the file tier chooses when it is told how large blobs are, of however many tokens: many, then large enough for a
 * few of the largest records, then not too few. */
static uint64_t default_segment(uint64_t disk_bytes, uint64_t blob_bytes)
{
    uint64_t record = record_bytes_of(blob_bytes, KVT_CHUNK_TOKENS_MAX);
    uint64_t bytes = SEGMENT_BYTES_MAX;
    while (bytes > SEGMENT_BYTES_MIN && disk_bytes / bytes < SEGMENTS_WANTED)
        bytes /= 2;
    while (bytes < SEGMENT_RECORDS_WANTED * record && segments_in(disk_bytes, 2 * bytes) >= SEGMENTS_ENOUGH)
        bytes *= 2;
    while (bytes > SEGMENT_BYTES_LEAST && segments_in(disk_bytes, bytes) < SEGMENTS_ENOUGH &&
           bytes / 2 - 3 * RECORD_BLOCK >= record)
        bytes /= 2;
    return bytes;
}

static int find_sizes(const simulate_args *args, const kvt_trace *trace, sizes *out)
{
    kvt_geometry geometry;
    kvt_status status =
        kvt_geometry_find(args->geometry != NULL ? args->geometry : "tiny", (uint32_t)args->layers, &geometry);
    if (status != KVT_OK)
        return cli_fail_status(status, "simulate");
    uint64_t token_bytes = kvt_geometry_token_bytes(&geometry);
    uint64_t unique = trace->node_count * token_bytes * KVT_TRACE_BLOCK_TOKENS;
    uint32_t chunk = args->chunk_tokens != 0 ? (uint32_t)args->chunk_tokens : KVT_TRACE_BLOCK_TOKENS;
    while (args->chunk_tokens == 0 && chunk > 1 && token_bytes * chunk > KVT_BLOB_BYTES_MAX)
        chunk /= 2;
    int code = cli_trace_sizes(args->host_bytes, args->disk_bytes, unique, &out->host_bytes, &out->disk_bytes);
    if (code != CLI_OK)
        return code;
    out->chunk_tokens = chunk;
    out->record_bytes = args->record_bytes != 0 ? args->record_bytes : record_bytes_of(token_bytes * chunk, chunk);
    out->segment_bytes =
        args->segment_bytes != 0 ? args->segment_bytes : default_segment(out->disk_bytes, token_bytes * chunk);
    return CLI_OK;
}

static kvt_sim_tiers_options options_of(const simulate_args *args, const sizes *s)
{
    double record = (double)s->record_bytes;
    double budget = (double)(args->budget_bytes != 0 ? args->budget_bytes : s->disk_bytes);
    return (kvt_sim_tiers_options){
        .chunk_tokens = s->chunk_tokens,
        .host_policy = args->host_policy == 0 ? KVT_SIM_S3FIFO : KVT_SIM_LRU,
        .admission = args->write_through ? KVT_SIM_WRITE_THROUGH : args->admission,
        .ignore_budget = args->ignore_budget,
        .touch_promoted = args->touch_promoted,
        .host_records = s->host_bytes / s->record_bytes,
        .segment_records = kvt_sim_segment_records(s->segment_bytes, s->record_bytes),
        .segment_count = segments_in(s->disk_bytes, s->segment_bytes),
        .segments_spare = args->writers != 0 ? args->writers : 1,
        .bucket_records = (double)s->disk_bytes / record,
        .bucket_records_day = budget / record,
        .filter_records = args->filter_keys != 0 ? args->filter_keys : FILTER_UNLIMITED,
    };
}

static void report_hits(cli_report *r, const kvt_sim_tiers_result *result)
{
    double tokens = (double)result->prompt_tokens;
    cli_report_u64(r, "prompt_tokens", "prompt tokens", CLI_UNIT_NONE, result->prompt_tokens);
    cli_report_u64(r, "hit_tokens", NULL, CLI_UNIT_NONE, result->hit_tokens);
    cli_report_u64(r, "hit_tokens_host", NULL, CLI_UNIT_NONE, result->hit_tokens_host);
    cli_report_u64(r, "hit_tokens_disk", NULL, CLI_UNIT_NONE, result->hit_tokens_disk);
    cli_report_real(r, "hit_ratio", "hit", CLI_UNIT_PERCENT, (double)result->hit_tokens / tokens);
    cli_report_real(r, "hit_ratio_host", "in RAM", CLI_UNIT_PERCENT, (double)result->hit_tokens_host / tokens);
    cli_report_real(r, "hit_ratio_disk", "on disk", CLI_UNIT_PERCENT, (double)result->hit_tokens_disk / tokens);
}

static void report_volume(cli_report *r, const kvt_sim_tiers_result *result, const sizes *s)
{
    cli_report_u64(r, "chunks", "chunks asked for", CLI_UNIT_NONE, result->chunks);
    cli_report_u64(r, "saved_chunks", "saved", CLI_UNIT_NONE, result->saved_chunks);
    cli_report_u64(r, "promoted_chunks", "read from disk", CLI_UNIT_NONE, result->promoted_chunks);
    cli_report_u64(r, "host_evicted_records", "evicted from RAM", CLI_UNIT_NONE, result->host_evicted);
    cli_report_u64(r, "written_records", "written to disk", CLI_UNIT_NONE, result->written);
    cli_report_u64(r, "written_bytes", "bytes written", CLI_UNIT_BYTES, result->written * s->record_bytes);
    cli_report_real(r, "written_per_chunk", "writes per chunk asked for", CLI_UNIT_RATIO,
                    (double)result->written / (double)result->chunks);
    cli_report_u64(r, "skipped_records", "not admitted", CLI_UNIT_NONE, result->skipped);
    cli_report_u64(r, "evicted_records", "evicted from disk", CLI_UNIT_NONE, result->disk_evicted);
}

static int run_tiers(const cli_context *context, const simulate_args *args, const kvt_trace *trace)
{
    sizes s;
    int code = find_sizes(args, trace, &s);
    if (code != CLI_OK)
        return code;
    kvt_sim_tiers_options options = options_of(args, &s);
    kvt_sim_tiers_result result;
    kvt_status status = kvt_sim_tiers(trace, &options, &result);
    if (status != KVT_OK)
        return cli_fail_status(status, "simulate");
    cli_report *r = cli_report_open(context, "kvtier.simulate/1");
    report_trace(r, args, trace);
    cli_report_text(r, "host_policy", "RAM evicts by", POLICY_NAMES[options.host_policy]);
    cli_report_text(r, "admission", "admission to disk", ADMISSION_NAMES[options.admission]);
    cli_report_u64(r, "chunk_tokens", "tokens of a chunk", CLI_UNIT_NONE, s.chunk_tokens);
    cli_report_u64(r, "record_bytes", "bytes of a record", CLI_UNIT_BYTES, s.record_bytes);
    cli_report_u64(r, "host_bytes", "RAM", CLI_UNIT_BYTES, s.host_bytes);
    cli_report_u64(r, "host_records", NULL, CLI_UNIT_NONE, options.host_records);
    cli_report_u64(r, "disk_bytes", "disk", CLI_UNIT_BYTES, s.disk_bytes);
    cli_report_u64(r, "segment_bytes", "segment", CLI_UNIT_BYTES, s.segment_bytes);
    cli_report_u64(r, "segment_records", "records of a segment", CLI_UNIT_NONE, options.segment_records);
    cli_report_u64(r, "segment_count", "segments", CLI_UNIT_NONE, options.segment_count);
    report_hits(r, &result);
    report_volume(r, &result, &s);
    return cli_report_close(r);
}

static int run(const cli_context *context, const void *arguments)
{
    const simulate_args *args = arguments;
    kvt_trace *trace = NULL;
    if (args->trace == NULL)
        return cli_fail(CLI_USAGE, "simulate", "no trace is named; use --trace FILE");
    kvt_status status = kvt_trace_read(args->trace, args->requests, &trace);
    if (status != KVT_OK)
        return cli_fail_status(status, "simulate");
    int code = args->policy == POLICY_ENGINE ? run_tiers(context, args, trace) : run_one_tier(context, args, trace);
    kvt_trace_free(trace);
    return code;
}

const cli_command cli_command_simulate = {
    .name = "simulate",
    .group = "measure",
    .summary = "predict the hit ratio of a cache on a request trace",
    .operands = "",
    .description =
        "Reads a trace in the Mooncake format and counts which prefix of each prompt a cache would hold. No engine "
        "runs "
        "and no byte of KV is moved: the answer takes a second.\n\n"
        "Without --policy the two tiers of the engine are modelled: S3-FIFO in RAM over whole segments in LRU order on "
        "disk, written when RAM evicts, within the write budget. The options are those of 'kvtier replay', and so are "
        "the names in its answer; a replay should come within a point of it.\n\n"
        "With --policy one tier is modelled, its size in percent of the trace's unique blocks; a hit is a block that "
        "is "
        "held with all before it, and every block counts alike. Where a cache is too small for a policy (two segments "
        "at "
        "least), the figures are unknown: '-', or null.\n\n" CLI_GEOMETRY_FORMAT,
    .examples = "kvtier simulate --trace trace.jsonl --policy all # every policy at 1, 5 and 20 %\n"
                "kvtier simulate --trace trace.jsonl --geometry llama-3.1-8b --host-bytes 64G --disk-bytes 1T # sizing",
    .options = OPTIONS,
    .option_count = sizeof OPTIONS / sizeof *OPTIONS,
    .args_bytes = sizeof(simulate_args),
    .run = run,
};
