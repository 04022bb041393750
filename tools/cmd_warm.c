/* SPDX-License-Identifier: Apache-2.0
 *
 * warm: KV that was computed elsewhere, in safetensors files, into a store. Idempotent: what is held is counted and
 * left alone, so an interrupted run is resumed by running it again.
 */
#include "tools/cli_commands.h"
#include "tools/progress.h"
#include "tools/warm.h"

#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 4096, WINDOW_WANTED = 4, SLICE_BYTES_MIN = 16 << 20 };
#define HOST_BYTES_DEFAULT (UINT64_C(256) << 20)
static const char default_names[] = "layer.{layer}.{plane:k|v}";

typedef struct warm_args {
    cli_store_args store;
    const char *tokens, *model, *revision, *position, *salt, *names, *first_position;
    uint64_t chunk_tokens, codec_level, rank, rank_count, write_bytes_max;
    uint32_t hash, codec, layout;
    bool no_write_through, ignore_budget, dry_run;
} warm_args;

static const cli_option warm_options[] = {
    {.name = "tokens",
     .letter = 't',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(warm_args, tokens),
     .text = "Token ids, one prompt for each FILE: JSON lines, .npy or -; default the tensor 'tokens' of each file"},
    {.name = "model",
     .kind = CLI_TEXT,
     .value = "NAME",
     .offset = offsetof(warm_args, model),
     .text = "Name of the model; default 'model' of the file's metadata"},
    {.name = "revision",
     .kind = CLI_TEXT,
     .value = "TEXT",
     .offset = offsetof(warm_args, revision),
     .text = "Revision of the weights; default 'revision' or 'weights' of the metadata"},
    {.name = "position",
     .kind = CLI_TEXT,
     .value = "TEXT",
     .offset = offsetof(warm_args, position),
     .text = "Position encoding; default 'position' or 'rope' of the metadata"},
    {.name = "first-position",
     .kind = CLI_TEXT,
     .value = "N",
     .offset = offsetof(warm_args, first_position),
     .text = "Position of the first token; default 'first_position' of the metadata, else 0"},
    {.name = "salt",
     .kind = CLI_TEXT,
     .value = "TEXT",
     .env = "KVTIER_SALT",
     .offset = offsetof(warm_args, salt),
     .text = "Tenant salt; only its digest is stored"},
    {.name = "rank",
     .kind = CLI_COUNT,
     .value = "N",
     .offset = offsetof(warm_args, rank),
     .text = "Tensor-parallel rank; default 0"},
    {.name = "rank-count",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 65536,
     .offset = offsetof(warm_args, rank_count),
     .text = "How many ranks there are; default 1"},
    {.name = "chunk-tokens",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = KVT_CHUNK_TOKENS_MAX,
     .offset = offsetof(warm_args, chunk_tokens),
     .text = "Tokens of a chunk; default 256, halved until the blob is at most 32 MiB"},
    {.name = "hash",
     .kind = CLI_CHOICE,
     .value = "xxh3|sha256",
     .offset = offsetof(warm_args, hash),
     .text = "Hash of the keys; default xxh3. sha256 where tenants do not trust one another"},
    {.name = "codec",
     .kind = CLI_CHOICE,
     .value = "raw|zstd|xpack|rans",
     .offset = offsetof(warm_args, codec),
     .text = "Codec of new records; default raw"},
    {.name = "codec-level",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 22,
     .offset = offsetof(warm_args, codec_level),
     .text = "Level of the codec; default its own"},
    {.name = "tensor-names",
     .kind = CLI_TEXT,
     .value = "PATTERN",
     .offset = offsetof(warm_args, names),
     .text = "How the tensors are named; default layer.{layer}.{plane:k|v}. Without {plane:...} a layer has one plane"},
    {.name = "layout",
     .kind = CLI_CHOICE,
     .value = "thd|htd",
     .offset = offsetof(warm_args, layout),
     .text =
         "Order of their dimensions: tokens, heads, dim (default), or heads, tokens, dim. Leading ones are dropped"},
    {.name = "no-write-through",
     .kind = CLI_FLAG,
     .offset = offsetof(warm_args, no_write_through),
     .text = "Let the store write when it wants to, instead of waiting until each record is on disk"},
    {.name = "budget",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 1,
     .max = 0x1p60,
     .offset = offsetof(warm_args, write_bytes_max),
     .text = "Write at most this much in this run; default no cap beside the store's own write budget"},
    {.name = "ignore-budget",
     .kind = CLI_FLAG,
     .offset = offsetof(warm_args, ignore_budget),
     .text = "Write on when the store's write budget is used up, which is its size a day; --budget still holds"},
    {.name = "dry-run",
     .kind = CLI_FLAG,
     .offset = offsetof(warm_args, dry_run),
     .text = "Only tell what would be stored"},
    CLI_STORE_OPTIONS(warm_args, store),
};

/* One file's outcome. */
typedef struct file_result {
    const char *path;
    char space[KVT_KEY_TEXT_BYTES];
    char layers[KVT_NAME_BYTES_MAX];
    kvt_warm_run run;
    uint64_t tokens;
    double seconds;
} file_result;

typedef struct job {
    const cli_context *context;
    const warm_args *args;
    kvt_engine *engine;
    kvt_prompts prompts; /* of --tokens; count 0 otherwise */
    file_result *results;
    size_t done;
    uint64_t blob_bytes;                  /* largest of all files, known when they were checked */
    uint64_t written;                     /* of files that are done, against --budget */
    uint64_t budget_before, budget_after; /* UINT64_MAX: none */
} job;

/* ------------------------------------------------------------------------ a file */

/* A file that shrinks while it is mapped raises SIGBUS on whichever thread reads it. */
static void on_bus_error(int number)
{
    static const char message[] =
        "kvtier: an input file was cut short while it was read; what was stored before is intact\n";
    (void)number;
    (void)!write(STDERR_FILENO, message, sizeof message - 1);
    _exit(CLI_FAILURE);
}

static int load_tokens(const job *j, size_t number, const kvt_safetensors *file, const char *path, uint64_t needed,
                       kvt_prompts *own, const uint32_t **out)
{
    uint64_t count;
    const kvt_prompts *prompts = &j->prompts;
    if (j->prompts.count == 0) {
        int code = cli_prompts_of_tensors(file, path, own);
        if (code == CLI_NOT_FOUND)
            return cli_fail(CLI_USAGE, path, "holds no tensor 'tokens'; give the token ids with --tokens FILE");
        if (code != CLI_OK)
            return code;
        prompts = own;
        number = 0;
    }
    *out = kvt_prompt_tokens(prompts, number, &count);
    if (count != needed)
        return cli_fail(CLI_USAGE, path,
                        "holds the KV of %" PRIu64 " token%s, but its prompt has %" PRIu64
                        "; if its tensors are [%s, dim], give --layout %s",
                        needed, cli_plural(needed), count, j->args->layout == 0 ? "heads, tokens" : "tokens, heads",
                        j->args->layout == 0 ? "htd" : "thd");
    return CLI_OK;
}

/* What names the space of a file. The texts are borrowed from the arguments, the file and the source. */
static int describe_space(const job *j, const kvt_safetensors *file, const char *path, const kvt_warm_source *source,
                          kvt_space_options *out)
{
    const warm_args *args = j->args;
    kvt_space_options options = KVT_SPACE_OPTIONS_INIT;
    options.group_count = source->group_count;
    options.groups = source->groups;
    options.model = args->model != NULL ? args->model : kvt_safetensors_metadata(file, "model");
    options.revision = args->revision != NULL ? args->revision : kvt_safetensors_metadata(file, "revision");
    if (options.revision == NULL)
        options.revision = kvt_safetensors_metadata(file, "weights");
    options.dtype = source->dtype;
    options.position = source->position;
    options.salt = args->salt;
    options.rank = (uint32_t)args->rank;
    options.rank_count = (uint32_t)args->rank_count;
    options.chunk_tokens = (uint32_t)args->chunk_tokens;
    options.hash = args->hash;
    options.codec = args->codec;
    options.codec_level = (int32_t)args->codec_level;
    if (options.model == NULL)
        return cli_fail(CLI_USAGE, path, "does not say which model it is from; name it with --model");
    *out = options;
    return CLI_OK;
}

static void on_progress(void *arg, uint64_t tokens_done) { kvt_progress_set(arg, tokens_done); }

/* As many saves at once as fit into half the pool. */
static uint32_t window_for(const warm_args *args, uint64_t blob_bytes)
{
    uint64_t host = args->store.host_bytes != 0 ? args->store.host_bytes : HOST_BYTES_DEFAULT;
    uint64_t windows = host / 2 / kvt_max_u64(blob_bytes, SLICE_BYTES_MIN);
    return (uint32_t)kvt_max_u64(1, kvt_min_u64(windows, WINDOW_WANTED));
}

static int save(job *j, kvt_space *space, const kvt_warm_source *source, const uint32_t *tokens, file_result *result)
{
    kvt_space_info info;
    kvt_progress progress;
    char verb[80];
    const char *name = strrchr(result->path, '/');
    kvt_status status = kvt_space_get_info(space, &info);
    if (status != KVT_OK)
        return cli_fail_status(status, result->path);
    kvt_key_to_text(&info.id, result->space);
    uint32_t below = KVT_TIER_BIT(KVT_TIER_FILE) | KVT_TIER_BIT(KVT_TIER_ROCKS);
    result->run = (kvt_warm_run){
        .engine = j->engine,
        .space = space,
        .source = source,
        .tokens = tokens,
        .lower_tier_mask = j->args->no_write_through ? below | KVT_TIER_BIT(KVT_TIER_HOST) : below,
        .window = window_for(j->args, info.blob_bytes),
        .write_through = !j->args->no_write_through,
        .ignore_budget = j->args->ignore_budget,
        .write_bytes_max = j->args->write_bytes_max == 0 ? UINT64_MAX : j->args->write_bytes_max - j->written,
        .dry_run = j->args->dry_run,
        .timeout_ns = j->context->global.timeout_ns,
        .stop = cli_interrupted,
        .on_progress = on_progress,
        .arg = &progress,
    };
    uint64_t begin = kvt_now_ns();
    snprintf(verb, sizeof verb, "warming %s", name != NULL ? name + 1 : result->path);
    kvt_progress_begin(&progress, verb, source->token_count, false, j->context->global.quiet);
    status = kvt_warm_save(&result->run);
    kvt_progress_end(&progress);
    result->seconds = (double)(kvt_now_ns() - begin) / 1e9;
    j->written += kvt_min_u64(result->run.charged_bytes, result->run.write_bytes_max);
    return status == KVT_OK ? CLI_OK : cli_fail_status(status, result->path);
}

static int save_into_space(job *j, const kvt_space_options *options, const kvt_warm_source *source,
                           const uint32_t *tokens, file_result *result)
{
    kvt_space *space;
    kvt_status status = kvt_space_open(j->engine, options, &space);
    if (status != KVT_OK)
        return cli_fail_status(status, result->path);
    if (source->first_position != 0 && !j->context->global.quiet)
        cli_warn(result->path,
                 "its first token stands at position %" PRIu64
                 "; it gets a space of its own, which prompts from position 0 do not match",
                 source->first_position);
    int code = save(j, space, source, tokens, result);
    kvt_space_close(space);
    return code;
}

/* Without an engine: could the space be made, and how large are its blobs? */
static int check_space(job *j, const kvt_space_options *options, const char *path)
{
    uint64_t bytes = 0;
    int code = cli_store_check_space(j->context, options, path, &bytes);
    j->blob_bytes = kvt_max_u64(j->blob_bytes, bytes);
    return code;
}

static int warm_source(job *j, size_t number, const kvt_safetensors *file, const kvt_warm_source *source)
{
    file_result *result = &j->results[number];
    kvt_prompts own = {0};
    kvt_space_options options;
    const uint32_t *tokens = NULL;
    result->tokens = source->token_count;
    snprintf(result->layers, sizeof result->layers, "%s", source->layers);
    int code = load_tokens(j, number, file, result->path, source->token_count, &own, &tokens);
    if (code == CLI_OK)
        code = describe_space(j, file, result->path, source, &options);
    if (code == CLI_OK && j->engine != NULL)
        code = save_into_space(j, &options, source, tokens, result);
    else if (code == CLI_OK)
        code = check_space(j, &options, result->path);
    kvt_prompts_free(&own);
    return code;
}

/* Without an engine: only look whether the file could be warmed. */
static int warm_file(job *j, size_t number)
{
    const warm_args *args = j->args;
    const char *path = j->context->operands.items[number];
    kvt_warm_naming naming = {.pattern = args->names != NULL ? args->names : default_names,
                              .heads_first = args->layout == 1,
                              .position = args->position,
                              .first_position = UINT64_MAX};
    kvt_safetensors *file;
    kvt_warm_source source;
    j->results[number].path = path;
    if (args->first_position != NULL && !cli_parse_count(args->first_position, &naming.first_position))
        return cli_fail(CLI_USAGE, "--first-position", "'%s' is not a whole number", args->first_position);
    kvt_status status = kvt_safetensors_open(path, &file);
    if (status != KVT_OK)
        return cli_fail_input(status, path);
    status = kvt_warm_source_init(file, &naming, &source);
    int code = status == KVT_OK ? CLI_OK
                                : cli_fail(status == KVT_NOMEM ? CLI_FAILURE : CLI_USAGE, path, "%s", kvt_last_error());
    if (status == KVT_OK) {
        code = warm_source(j, number, file, &source);
        kvt_warm_source_fini(&source);
    }
    kvt_safetensors_close(file);
    return code;
}

/* ------------------------------------------------------------------------ report */

static const cli_column file_columns[] = {
    {"file", "FILE", CLI_UNIT_NONE, false},
    {"space", "SPACE", CLI_UNIT_NONE, false},
    {"layers", "LAYERS", CLI_UNIT_NONE, true},
    {"tokens", "TOKENS", CLI_UNIT_NONE, false},
    {"chunks", "CHUNKS", CLI_UNIT_NONE, false},
    {"chunks_new", "NEW", CLI_UNIT_NONE, false},
    {"chunks_held", "HELD", CLI_UNIT_NONE, false},
    {"chunks_lost", "EVICTED", CLI_UNIT_NONE, true},
    {"tail_tokens", "TAIL", CLI_UNIT_NONE, false},
    {"blob_bytes", "BYTES", CLI_UNIT_BYTES, false},
    {"stored_bytes", "WRITTEN", CLI_UNIT_BYTES, false},
    {"seconds", "TIME", CLI_UNIT_SECONDS, false},
};

static void report_file(const cli_context *context, cli_report *report, const file_result *result)
{
    char space[KVT_KEY_TEXT_BYTES];
    snprintf(space, sizeof space, "%.*s", context->global.format == CLI_FORMAT_TABLE ? 12 : 32, result->space);
    cli_row_text(report, result->path);
    cli_row_text(report, space);
    cli_row_text(report, result->layers);
    cli_row_u64(report, result->tokens);
    cli_row_u64(report, result->run.chunks);
    cli_row_u64(report, result->run.chunks_new);
    cli_row_u64(report, result->run.chunks_held);
    cli_row_u64(report, result->run.chunks_lost);
    cli_row_u64(report, result->run.tail_tokens);
    cli_row_u64(report, result->run.blob_bytes);
    cli_row_u64(report, result->run.stored_bytes);
    cli_row_real(report, result->seconds);
}

static void report_totals(cli_report *report, const job *j, bool complete)
{
    file_result sum = {0};
    for (size_t i = 0; i < j->done; i++) {
        const file_result *r = &j->results[i];
        sum.tokens += r->tokens;
        sum.run.chunks += r->run.chunks;
        sum.run.chunks_new += r->run.chunks_new;
        sum.run.chunks_held += r->run.chunks_held;
        sum.run.blob_bytes += r->run.blob_bytes;
        sum.run.stored_bytes += r->run.stored_bytes;
        sum.seconds += r->seconds;
    }
    bool budget = j->budget_before != UINT64_MAX && !j->args->dry_run;
    cli_report_text(report, "store", "store", j->context->global.store);
    cli_report_u64(report, "tokens", "tokens", CLI_UNIT_NONE, sum.tokens);
    cli_report_u64(report, "chunks", "chunks", CLI_UNIT_NONE, sum.run.chunks);
    cli_report_u64(report, "chunks_new", j->args->dry_run ? "would store" : "stored now", CLI_UNIT_NONE,
                   sum.run.chunks_new);
    cli_report_u64(report, "chunks_held", "held before", CLI_UNIT_NONE, sum.run.chunks_held);
    cli_report_u64(report, "blob_bytes", "bytes", CLI_UNIT_BYTES, sum.run.blob_bytes);
    cli_report_u64(report, "stored_bytes", "written", CLI_UNIT_BYTES, sum.run.stored_bytes);
    if (budget) {
        uint64_t spent = j->budget_before > j->budget_after ? j->budget_before - j->budget_after : 0;
        cli_report_u64(report, "budget_spent_bytes", "budget spent", CLI_UNIT_BYTES, spent);
        cli_report_u64(report, "budget_left_bytes", "budget left", CLI_UNIT_BYTES, j->budget_after);
    }
    cli_report_real(report, "seconds", "time", CLI_UNIT_SECONDS, sum.seconds);
    cli_report_bool(report, "complete", NULL, complete);
}

static uint64_t budget_now(kvt_engine *engine)
{
    kvt_stats stats = {.struct_size = sizeof stats};
    return kvt_get_stats(engine, &stats) == KVT_OK ? stats.budget_tokens : UINT64_MAX;
}

/* Why a run ended early, and what that means for the exit. */
static int judge(const file_result *result)
{
    const kvt_warm_run *run = &result->run;
    if (run->stopped)
        return cli_fail(CLI_INTERRUPTED, result->path, "interrupted; run it again to go on");
    if (run->cap_reached)
        return cli_fail(CLI_PARTIAL, result->path, "the --budget of this run is used up; run it again to go on");
    if (run->budget_used_up)
        return cli_fail(
            CLI_PARTIAL, result->path,
            "the write budget is used up, which is the store's size a day; go on tomorrow, or give --ignore-budget");
    if (run->cause == KVT_NOSPACE)
        return cli_fail(
            run->chunks_new != 0 ? CLI_PARTIAL : CLI_FAILURE, result->path,
            "the store has no room for its chunks; make one with a larger --disk-bytes or --segment-bytes, or give "
            "a smaller --chunk-tokens");
    if (run->cause != KVT_OK) {
        int code = run->chunks_new + run->chunks_held != 0 ? CLI_PARTIAL : cli_exit_of(run->cause);
        return cli_fail(code, result->path, "ended early: %s%s%s; run it again to go on", kvt_status_text(run->cause),
                        run->system_error != 0 ? ": " : "", run->system_error != 0 ? strerror(run->system_error) : "");
    }
    if (run->chunks_lost != 0)
        return cli_fail(CLI_PARTIAL, result->path,
                        "%" PRIu64
                        " chunk%s evicted again, the store is too small; make one with a larger --disk-bytes",
                        run->chunks_lost, run->chunks_lost == 1 ? " was" : "s were");
    return CLI_OK;
}

static int report_all(const job *j, int code)
{
    for (size_t i = 0; i < j->done && code == CLI_OK; i++)
        code = judge(&j->results[i]);
    if (code == CLI_OK && j->done < j->context->operands.count)
        code = cli_fail(CLI_INTERRUPTED, "warm", "interrupted; run it again to go on");
    cli_report *report = cli_report_open(j->context, "kvtier.warm/1");
    report_totals(report, j, code == CLI_OK);
    cli_report_rows(report, "files", NULL, file_columns, sizeof file_columns / sizeof *file_columns);
    for (size_t i = 0; i < j->done; i++)
        report_file(j->context, report, &j->results[i]);
    cli_report_rows_end(report);
    int told = cli_report_close(report);
    return code != CLI_OK ? code : told;
}

/* ----------------------------------------------------------------------- the run */

static int open_engine(const cli_context *context, const warm_args *args, uint64_t blob_bytes, kvt_engine **out)
{
    struct stat info;
    if (args->dry_run && context->global.store != NULL && stat(context->global.store, &info) != 0)
        return cli_store_none(context, out);
    if (args->dry_run)
        return cli_store_look(context, 1 << 20, out);
    cli_store_args store = args->store;
    store.blob_bytes = blob_bytes;
    return cli_store_change(context, &store, args->ignore_budget ? KVT_OPEN_NO_BUDGET : 0, out);
}

/* Every file is looked at before a store is opened or made, so that a mistake changes nothing. */
static int check_files(job *j)
{
    size_t count = j->context->operands.count;
    if (j->prompts.count != 0 && j->prompts.count != count)
        return cli_fail(CLI_USAGE, j->args->tokens, "holds %zu prompt%s for %zu file%s; give one prompt a file",
                        j->prompts.count, cli_plural(j->prompts.count), count, cli_plural(count));
    for (size_t i = 0; i < count; i++) {
        int code = warm_file(j, i);
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

static int warm_files(job *j)
{
    size_t count = j->context->operands.count;
    int code = CLI_OK;
    j->budget_before = budget_now(j->engine);
    while (j->done < count && code == CLI_OK && !cli_interrupted()) {
        code = warm_file(j, j->done);
        j->done += code == CLI_OK;
        if (code == CLI_OK && (j->results[j->done - 1].run.cause != KVT_OK || j->results[j->done - 1].run.stopped))
            break; /* the next file would meet the same */
    }
    j->budget_after = budget_now(j->engine);
    if (code != CLI_OK && j->done == 0)
        return code;
    return report_all(j, code);
}

static int run_warm(const cli_context *context, const void *given)
{
    const warm_args *args = given;
    job j = {.context = context, .args = args};
    if (args->names != NULL && kvt_warm_check_pattern(args->names) != KVT_OK)
        return cli_fail(CLI_USAGE, "--tensor-names", "%s", kvt_last_error());
    if (args->rank != 0 && args->rank >= args->rank_count)
        return cli_fail(CLI_USAGE, "--rank", "%" PRIu64 " needs a larger --rank-count", args->rank);
    int code = args->tokens != NULL ? cli_prompts_load(args->tokens, &j.prompts) : CLI_OK;
    if (code != CLI_OK)
        return code;
    struct sigaction bus = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &bus, NULL);
    cli_catch_interrupt();
    j.results = kvt_alloc_array(context->operands.count, sizeof *j.results);
    code = j.results != NULL ? check_files(&j) : cli_fail(CLI_FAILURE, "warm", "out of memory");
    if (code == CLI_OK)
        code = open_engine(context, args, j.blob_bytes, &j.engine);
    if (code == CLI_OK) {
        code = warm_files(&j);
        kvt_close(j.engine);
    }
    kvt_free(j.results);
    kvt_prompts_free(&j.prompts);
    return code;
}

const cli_command cli_command_warm = {
    .name = "warm",
    .group = "change",
    .summary = "fill a store with KV that was computed elsewhere",
    .operands = "FILE...",
    .description =
        "Each FILE is a safetensors file with one tensor per layer and plane, [tokens, heads, dim], named like "
        "layer.3.k and "
        "layer.3.v (--tensor-names says otherwise), and the token ids as a tensor 'tokens' or in --tokens. Its full "
        "chunks "
        "are stored, except those the store holds already; so a run that was interrupted goes on when it is repeated. "
        "The "
        "tokens behind the last full chunk are not stored.\n\n"
        "The space is named by --model and the like, or by the file's metadata. Layers become layers 0, 1, ... of the "
        "space "
        "in ascending order. A file that holds only some layers of its model, or whose tokens do not start at position "
        "0, "
        "gets a space of its own: 'layers=' and 'first_position=' are added to the position text. Layers of different "
        "geometry, or K and V of different shape, become groups in the order in which they first appear.\n\n"
        "Ends with a table of what was stored, what was held before and what the write budget lost. Exits with 0 when "
        "all "
        "full chunks are held now, with 6 when only a part is, with 130 when interrupted.",
    .examples = "kvtier warm -s /var/lib/kvtier prompts.safetensors\n"
                "kvtier warm kv.safetensors --tokens ids.npy --model llama-3.1-8b --codec zstd\n"
                "kvtier warm kv.safetensors --tensor-names 'h.{layer}.attn.{plane:key|value}' --layout htd",
    .options = warm_options,
    .option_count = sizeof warm_options / sizeof *warm_options,
    .args_bytes = sizeof(warm_args),
    .operands_min = 1,
    .operands_max = FILES_MAX,
    .run = run_warm,
};
