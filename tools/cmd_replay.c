/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier replay: a request trace through the whole engine, every loaded byte checked, with kills on request. This file
 * reads the command line and reports; tools/replay.h does the work.
 */
#include "tools/cli_commands.h"
#include "tools/replay.h"
#include "tools/replay_report.h"
#include "tools/scratch.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

typedef struct replay_args {
    const char *trace;
    const char *geometry;
    const char *host_bytes;
    const char *disk_bytes;
    uint64_t layers, page_tokens, chunk_tokens, segment_bytes, page_bytes, requests, workers, seed;
    uint32_t layout, tier, io, codec;
    cli_list kills;
    bool write_through, ignore_budget, tail;
} replay_args;

#define LAYOUT_WORDS "flash|flashinfer|hnd|cross-layer|split|padded"
#define AT(field)    .offset = offsetof(replay_args, field)
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
     .text = "Replace the number of layers, to fit the machine"},
    {.name = "layout",
     .kind = CLI_CHOICE,
     .value = LAYOUT_WORDS,
     AT(layout),
     .text = "How the paged memory is laid out; default flash"},
    {.name = "page-tokens",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 512,
     AT(page_tokens),
     .text = "Tokens of a page; default 16"},
    {.name = "chunk-tokens",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 512,
     AT(chunk_tokens),
     .text = "Tokens of a chunk, a divisor of 512; default the most that fits a blob"},
    {.name = "tier",
     .kind = CLI_CHOICE,
     .value = "file|rocks|host",
     AT(tier),
     .text = "Tier below RAM, or host: none; default file"},
    {.name = "host-bytes",
     .kind = CLI_TEXT,
     .value = "SIZE|PERCENT",
     AT(host_bytes),
     .text = "Pinned memory; a percentage is of the trace's unique bytes; default " CLI_TRACE_HOST_DEFAULT},
    {.name = "disk-bytes",
     .kind = CLI_TEXT,
     .value = "SIZE|PERCENT",
     AT(disk_bytes),
     .text = "Disk space, likewise, preallocated; default " CLI_TRACE_DISK_DEFAULT},
    {.name = "segment-bytes",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 1 << 20,
     .max = 1 << 30,
     AT(segment_bytes),
     .text = "Segment of the file tier; default by size"},
    {.name = "page-bytes",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 1 << 20,
     .max = 0x1p40,
     AT(page_bytes),
     .text = "Most paged memory to use; longer prompts go through it in parts; default 1G"},
    {.name = "write-through",
     .kind = CLI_FLAG,
     AT(write_through),
     .text = "A save is done when the lower tier holds it; default: written when RAM evicts"},
    {.name = "ignore-budget",
     .kind = CLI_FLAG,
     AT(ignore_budget),
     .text = "Do not limit the bytes written a day of trace time"},
    {.name = "codec",
     .kind = CLI_CHOICE,
     .value = "raw|zstd|xpack|rans",
     AT(codec),
     .text = "How records are encoded; default raw"},
    {.name = "io",
     .kind = CLI_CHOICE,
     .value = "auto|uring|pool",
     AT(io),
     .text = "I/O of the file tier: io_uring or threads; default auto"},
    {.name = "workers",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 64,
     AT(workers),
     .text = "Threads of the engine; default 2"},
    {.name = "tail",
     .kind = CLI_FLAG,
     AT(tail),
     .text = "Prompts have the length the trace says, and partial chunks are stored; default: whole blocks"},
    {.name = "kill-at",
     .kind = CLI_LIST,
     .value = "N",
     AT(kills),
     .text = "Kill the worker while it saves request N (from 0), or the next request that saves, and go on with a new "
             "one; repeatable"},
    {.name = "seed",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 0,
     .max = 0x1p53,
     AT(seed),
     .text = "Of page choice and instants of kills; default 1"},
};

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int read_kills(const cli_list *list, uint64_t *kills)
{
    if (list->count > KVT_KILLS_MAX)
        return cli_fail(CLI_USAGE, "--kill-at", "may be given %d times at most", KVT_KILLS_MAX);
    for (size_t i = 0; i < list->count; i++)
        if (!cli_parse_count(list->items[i], &kills[i]))
            return cli_fail(CLI_USAGE, list->items[i], "is not the number of a request; use --kill-at 100");
    qsort(kills, list->count, sizeof *kills, compare_u64);
    return CLI_OK;
}

/* The largest divisor of a block whose blob is allowed. */
static uint32_t default_chunk(const kvt_geometry *geometry)
{
    uint32_t tokens = KVT_TRACE_BLOCK_TOKENS;
    while (tokens > 1 && kvt_geometry_token_bytes(geometry) * tokens > KVT_BLOB_BYTES_MAX)
        tokens /= 2;
    return tokens;
}

static int fill_options(const cli_context *context, const replay_args *args, const kvt_trace *trace,
                        const kvt_geometry *geometry, kvt_replay_options *out)
{
    static const uint32_t lowers[] = {KVT_LOWER_FILE, KVT_LOWER_ROCKS, KVT_LOWER_NONE};
    static const char *const layouts[] = {"flash", "flashinfer", "hnd", "cross-layer", "split", "padded"};
    uint64_t unique = trace->node_count * kvt_geometry_token_bytes(geometry) * KVT_TRACE_BLOCK_TOKENS;
    *out = (kvt_replay_options){
        .geometry = geometry,
        .layout = layouts[args->layout],
        .backend = context->global.backend != NULL ? context->global.backend : "cpu",
        .page_tokens = args->page_tokens != 0 ? (uint32_t)args->page_tokens : 16,
        .chunk_tokens = args->chunk_tokens != 0 ? (uint32_t)args->chunk_tokens : default_chunk(geometry),
        .lower = lowers[args->tier],
        .io = args->io,
        .codec = args->codec,
        .worker_count = (uint32_t)args->workers,
        .segment_bytes = args->segment_bytes,
        .page_bytes = args->page_bytes != 0 ? args->page_bytes : UINT64_C(1) << 30,
        .seed = args->seed != 0 ? args->seed : 1,
        .write_through = args->write_through,
        .ignore_budget = args->ignore_budget,
        .tail = args->tail,
        .quiet = context->global.quiet,
        .verb = "replaying",
        .command = "replay",
    };
    return cli_trace_sizes(args->host_bytes, args->disk_bytes, unique, &out->host_bytes, &out->disk_bytes);
}

/* What the figures mean for a script. */
static int meaning_of(const cli_context *context, const kvt_replay_options *options, const kvt_replay_result *result)
{
    char text[320];
    switch (kvt_replay_judge(options, result, text, sizeof text)) {
    case KVT_VERDICT_WRONG:
        return cli_fail(CLI_CORRUPT, "replay", "%s; first: %s", text, result->wrong);
    case KVT_VERDICT_LOST:
        return cli_fail(CLI_FAILURE, "replay", "%s", text);
    case KVT_VERDICT_INCOMPLETE:
        if (!context->global.quiet)
            cli_warn("replay", "%s", text);
        return CLI_OK;
    default:
        return CLI_OK;
    }
}

static int run_on_store(const cli_context *context, const kvt_trace *trace, kvt_replay_options *options,
                        const char *path)
{
    kvt_scratch scratch = {.path = ""};
    kvt_replay_result *result = kvt_alloc(sizeof *result);
    if (result == NULL)
        return cli_fail_status(KVT_NOMEM, "replay");
    kvt_status status = KVT_OK;
    if (options->lower != KVT_LOWER_NONE)
        status = kvt_scratch_open(kvt_scratch_named(context->global.store), "kvtier-replay", &scratch);
    options->store = options->lower != KVT_LOWER_NONE ? scratch.path : NULL;
    cli_catch_interrupt();
    if (status == KVT_OK)
        status = kvt_replay_run(trace, options, result);
    int code;
    if (status != KVT_OK) {
        code = cli_fail_status(status, "replay");
    } else {
        code = kvt_replay_report(context, path, trace, options, result);
        int meaning = meaning_of(context, options, result);
        code = meaning != CLI_OK ? meaning : code;
    }
    if (status != KVT_OK && scratch.made)
        kvt_scratch_unmake(scratch.path, true);
    kvt_scratch_close(&scratch);
    kvt_free(result);
    return code;
}

static int run(const cli_context *context, const void *arguments)
{
    const replay_args *args = arguments;
    kvt_trace *trace = NULL;
    kvt_geometry geometry;
    kvt_replay_options options;
    uint64_t kills[KVT_KILLS_MAX];
    if (args->trace == NULL)
        return cli_fail(CLI_USAGE, "replay", "no trace is named; use --trace FILE");
    int code = read_kills(&args->kills, kills);
    if (code != CLI_OK)
        return code;
    kvt_status status =
        kvt_geometry_find(args->geometry != NULL ? args->geometry : "tiny", (uint32_t)args->layers, &geometry);
    if (status == KVT_OK)
        status = kvt_trace_read(args->trace, args->requests, &trace);
    if (status != KVT_OK)
        return cli_fail_status(status, "replay");
    code = fill_options(context, args, trace, &geometry, &options);
    options.kills = kills;
    options.kill_count = (uint32_t)args->kills.count;
    if (code == CLI_OK)
        code = run_on_store(context, trace, &options, args->trace);
    kvt_trace_free(trace);
    return code;
}

const cli_command cli_command_replay = {
    .name = "replay",
    .group = "measure",
    .summary = "run a request trace through the engine and check every byte",
    .operands = "",
    .description =
        "Reads a trace in the Mooncake format (timestamp, input_length, hash_ids of 512-token blocks) and plays its "
        "requests "
        "one after the other against a store: match, load the held prefix into paged memory, compare every byte with "
        "what "
        "must be there, fill the rest, save it. The engine's clock is the trace's. The pages hold poison outside the "
        "loaded range, which is checked too.\n\n"
        "With --kill-at the worker process dies of SIGKILL at a random instant of a save, and a new one opens the same "
        "store: every record that was acknowledged and not evicted must be there, and is read back and compared.\n\n"
        "The store is a new directory below the current one, removed at the end, unless --store names one. A run on a "
        "store that holds the trace already saves nothing, so kills find nothing to strike.\n\n" CLI_GEOMETRY_FORMAT
        "\n\n"
        "csv, tsv and jsonl hold the figures and the verdict, not the tables.\n\n"
        "Exit status: 4 when a byte was wrong, 1 when an acknowledged record of the file tier was lost.",
    .examples =
        "kvtier replay --trace trace.jsonl --write-through --kill-at 4000 # with a kill\n"
        "kvtier replay --trace trace.jsonl --geometry llama-3.1-8b --layers 2 --disk-bytes 20G --json # as JSON",
    .options = OPTIONS,
    .option_count = sizeof OPTIONS / sizeof *OPTIONS,
    .args_bytes = sizeof(replay_args),
    .run = run,
};
