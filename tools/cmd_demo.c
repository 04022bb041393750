/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier demo: the main job in a minute. Conversations that come back turn after turn are saved with write-through, the
 * worker is killed twice in the middle of a save, opens the store again, and what was saved is restored; every byte is
 * compared. The workload is made here, so nothing needs to be at hand; the rest is a replay.
 */
#include "tools/cli_commands.h"
#include "tools/machine.h"
#include "tools/replay.h"
#include "tools/scratch.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

typedef struct demo_args {
    uint64_t conversations, turns, layers;
    uint32_t tier;
    bool keep;
} demo_args;

#define AT(field) .offset = offsetof(demo_args, field)
static const cli_option OPTIONS[] = {
    {.name = "conversations",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 1000,
     AT(conversations),
     .text = "Conversations that take turns; default 20"},
    {.name = "turns",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 2,
     .max = 100,
     AT(turns),
     .text = "Turns of each, 1,024 tokens a turn; default 5"},
    {.name = "layers",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 16,
     AT(layers),
     .text = "Layers of the 32 of Llama 3.1 8B, to fit the machine; default 2"},
    {.name = "tier", .kind = CLI_CHOICE, .value = "file|rocks", AT(tier), .text = "Tier below RAM; default file"},
    {.name = "keep", .kind = CLI_FLAG, AT(keep), .text = "Leave ./kvtier-demo-store where it is"},
};

enum {
    SYSTEM_BLOCKS = 4, /* the prompt that all conversations share */
    TURN_BLOCKS = 2,
    PAUSE_MS = 2000,
    LINE_BYTES = 64
};
static const char *const STORE_DEFAULT = "kvtier-demo-store";

/* Turn by turn, all conversations: so that each comes back after the others. */
static kvt_status make_trace(const demo_args *args, kvt_trace **out)
{
    uint64_t blocks_max = SYSTEM_BLOCKS + args->turns * TURN_BLOCKS;
    uint64_t bytes = args->conversations * args->turns * (LINE_BYTES + blocks_max * 12 + LINE_BYTES);
    char *text = kvt_alloc(bytes);
    if (text == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the workload");
    size_t used = 0;
    for (uint64_t turn = 0; turn < args->turns; turn++) {
        for (uint64_t c = 0; c < args->conversations; c++) {
            uint64_t blocks = SYSTEM_BLOCKS + (turn + 1) * TURN_BLOCKS;
            used += (size_t)snprintf(text + used, bytes - used,
                                     "{\"timestamp\": %" PRIu64 ", \"input_length\": %" PRIu64 ", \"hash_ids\": [",
                                     (turn * args->conversations + c) * PAUSE_MS, blocks * KVT_TRACE_BLOCK_TOKENS);
            for (uint64_t b = 0; b < blocks; b++)
                used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, b == 0 ? "" : ", ",
                                         b < SYSTEM_BLOCKS ? b : (c + 1) * 1000 + b);
            used += (size_t)snprintf(text + used, bytes - used, "]}\n");
        }
    }
    kvt_status status = kvt_trace_parse("demo", text, used, out);
    kvt_free(text);
    return status;
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static uint64_t slowest_open(const kvt_replay_result *r)
{
    uint64_t ns = 0;
    for (uint32_t i = 0; i < r->restarts; i++)
        ns = kvt_max_u64(ns, r->kills[i].open_ns);
    return ns;
}

static void report_what(cli_report *report, const demo_args *args, const kvt_replay_options *o)
{
    char text[200];
    char filesystem[256];
    kvt_machine machine;
    kvt_machine_get(&machine);
    kvt_scratch_filesystem(o->store, filesystem, sizeof filesystem);
    snprintf(text, sizeof text, "%" PRIu64 " conversation%s x %" PRIu64 " turns, %s with %u of 32 layers",
             args->conversations, cli_plural(args->conversations), args->turns, o->geometry->name,
             o->geometry->layer_count);
    cli_report_text(report, "workload", "workload", text);
    cli_report_text(report, "store", "store", o->store);
    cli_report_text(report, "file_system", "file system", filesystem);
    cli_report_text(report, "machine", "machine", machine.cpu);
    cli_report_text(report, "kernel", NULL, machine.kernel);
}

static int report_all(const cli_context *context, const demo_args *args, const kvt_replay_options *o,
                      const kvt_replay_result *r)
{
    const kvt_replay_state *s = &r->state;
    char verdict[320];
    kvt_replay_verdict meaning = kvt_replay_judge(o, r, verdict, sizeof verdict);
    double load_rate = s->load_ns == 0 ? 0 : (double)s->checked_bytes / seconds(s->load_ns);
    double save_rate = s->save_ns == 0 ? 0 : (double)s->saved_bytes / seconds(s->save_ns);
    cli_report *report = cli_report_open(context, "kvtier.demo/1");
    report_what(report, args, o);
    cli_report_text(report, "tier_detail", "disk I/O", s->tier_detail);
    cli_report_text(report, "backend", "backend", s->backend);
    cli_report_u64(report, "requests", "prompts", CLI_UNIT_NONE, s->requests);
    cli_report_u64(report, "prompt_tokens", "  tokens", CLI_UNIT_NONE, s->prompt_tokens);
    cli_report_u64(report, "saved_bytes", "saved", CLI_UNIT_BYTES, s->saved_bytes);
    cli_report_real(report, "save_bytes_per_second", "  to disk at", CLI_UNIT_RATE, save_rate);
    cli_report_u64(report, "acknowledged", kvt_replay_acknowledged_by(o), CLI_UNIT_NONE, r->acknowledged);
    cli_report_u64(report, "restarts", "worker killed (SIGKILL) in a save", CLI_UNIT_NONE, r->restarts);
    cli_report_real(report, "open_seconds_max", "  store reopened in", CLI_UNIT_SECONDS, seconds(slowest_open(r)));
    cli_report_u64(report, "checked_records", "  records read back and compared", CLI_UNIT_NONE, r->check_records);
    cli_report_u64(report, "lost_acknowledged", "  lost", CLI_UNIT_NONE, r->lost);
    cli_report_u64(report, "restored_bytes", "restored into pages", CLI_UNIT_BYTES, s->checked_bytes);
    cli_report_real(report, "restore_bytes_per_second", "  at", CLI_UNIT_RATE, load_rate);
    cli_report_u64(report, "hit_tokens_host", "  tokens from RAM", CLI_UNIT_NONE, s->hit_tokens_host);
    cli_report_u64(report, "hit_tokens_disk", "  tokens from disk", CLI_UNIT_NONE, s->hit_tokens_lower);
    cli_report_u64(report, "hit_tokens", NULL, CLI_UNIT_NONE, s->hit_tokens);
    cli_report_real(report, "hit_ratio", NULL, CLI_UNIT_PERCENT,
                    s->prompt_tokens == 0 ? 0 : (double)s->hit_tokens / (double)s->prompt_tokens);
    cli_report_u64(report, "evicted_records", NULL, CLI_UNIT_NONE, r->evicted);
    cli_report_u64(report, "wrong_bytes", "wrong bytes", CLI_UNIT_NONE, r->wrong_bytes);
    cli_report_u64(report, "peak_memory_bytes", "peak memory", CLI_UNIT_BYTES, r->peak_memory_bytes);
    cli_report_real(report, "elapsed_seconds", "time", CLI_UNIT_SECONDS, seconds(r->elapsed_ns));
    cli_report_text(report, "verdict", "verdict", verdict);
    int code = cli_report_close(report);
    if (r->wrong_bytes != 0)
        return cli_fail(CLI_CORRUPT, "demo", "first wrong byte: %s", r->wrong);
    return meaning == KVT_VERDICT_OK ? code : CLI_FAILURE;
}

/* The store named, which stays; or the default one below the current directory, removed again if the demo made it. */
static kvt_status open_store(const cli_context *context, bool keep, kvt_scratch *out)
{
    const char *named = kvt_scratch_named(context->global.store);
    KVT_TRY(kvt_scratch_open(named != NULL ? named : STORE_DEFAULT, STORE_DEFAULT, out));
    out->remove = named == NULL && out->made && !keep;
    return KVT_OK;
}

static int run_on_store(const cli_context *context, const demo_args *args, const kvt_trace *trace,
                        kvt_replay_options *options)
{
    kvt_scratch store = {.path = ""};
    kvt_replay_result *result = kvt_alloc(sizeof *result);
    kvt_status status = result == NULL ? kvt_fail(KVT_NOMEM, "no memory") : open_store(context, args->keep, &store);
    options->store = store.path;
    cli_catch_interrupt();
    if (status == KVT_OK)
        status = kvt_replay_run(trace, options, result);
    int code = status == KVT_OK ? report_all(context, args, options, result) : cli_fail_status(status, "demo");
    if (status != KVT_OK && store.made)
        kvt_scratch_unmake(store.path, true);
    kvt_scratch_close(&store);
    kvt_free(result);
    return code;
}

static int run(const cli_context *context, const void *arguments)
{
    demo_args args = *(const demo_args *)arguments;
    args.conversations = args.conversations != 0 ? args.conversations : 20;
    args.turns = args.turns != 0 ? args.turns : 5;
    kvt_geometry geometry;
    kvt_trace *trace = NULL;
    char name[64];
    /* The second kill strikes when the last turn begins: all that comes back then comes from disk. The first one in the
     * middle, or where that is no earlier, just before. */
    uint64_t last_turn = args.conversations * (args.turns - 1);
    uint64_t kills[2] = {kvt_min_u64(args.conversations * args.turns / 2, last_turn - 1), last_turn};
    kvt_status status = kvt_geometry_find("llama-3.1-8b", args.layers != 0 ? (uint32_t)args.layers : 2, &geometry);
    if (status == KVT_OK)
        status = make_trace(&args, &trace);
    if (status != KVT_OK)
        return cli_fail_status(status, "demo");
    /* An older demo's store may be used again; its records are of another run. */
    snprintf(name, sizeof name, "demo %lld", (long long)time(NULL));
    uint64_t block_bytes = kvt_geometry_token_bytes(&geometry) * KVT_TRACE_BLOCK_TOKENS;
    uint64_t unique = trace->node_count * block_bytes;
    kvt_replay_options options = {
        .geometry = &geometry,
        .layout = "flash",
        .backend = context->global.backend != NULL ? context->global.backend : "cpu",
        .page_tokens = 16,
        .chunk_tokens = KVT_TRACE_BLOCK_TOKENS,
        .lower = args.tier == 1 ? KVT_LOWER_ROCKS : KVT_LOWER_FILE,
        .host_bytes = UINT64_C(256) << 20,
        .disk_bytes = kvt_max_u64(unique + unique / 2, UINT64_C(256) << 20),
        .page_bytes = UINT64_C(256) << 20,
        .seed = (uint64_t)time(NULL),
        .kills = kills,
        .kill_count = 2,
        .write_through = true,
        .ignore_budget = true,
        .quiet = context->global.quiet,
        .verb = "saving and restoring",
        .command = "demo",
        .name = name,
    };
    int code = run_on_store(context, &args, trace, &options);
    kvt_trace_free(trace);
    return code;
}

const cli_command cli_command_demo = {
    .name = "demo",
    .group = "measure",
    .summary = "save, kill, reopen and restore a made-up workload, every byte checked",
    .operands = "",
    .description =
        "Plays conversations that come back turn after turn: the prefix that is held is restored into paged memory, "
        "the new "
        "part is saved with write-through. The worker process is killed twice with SIGKILL in the middle of a save; "
        "the next "
        "one opens the store and must find every record that was acknowledged. All bytes are compared with what they "
        "must "
        "be.\n\n"
        "The store is ./kvtier-demo-store, removed at the end unless it was there before or --keep is given; a store "
        "that --store names stays. Takes well under a minute, about 1.3 GB of disk and 0.5 GB of memory.\n\n"
        "The rocks tier does not sync what it takes, so a kill may cost records there: they are counted, and are a "
        "miss, "
        "never wrong bytes.\n\n"
        "Exit status: 4 when a byte was wrong; 1 when a record that the file tier acknowledged was lost, or when the "
        "verdict is INCOMPLETE: a kill found no save to strike, so less was shown than promised.",
    .examples = "kvtier demo # on the disk of the current directory\n"
                "kvtier demo --store /mnt/nvme/demo --keep # look at the store afterwards with kvtier status",
    .options = OPTIONS,
    .option_count = sizeof OPTIONS / sizeof *OPTIONS,
    .args_bytes = sizeof(demo_args),
    .run = run,
};
