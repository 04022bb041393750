/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking what is held: match, with the plan of what is worth restoring.
 */
#include "tools/cli_commands.h"

#include <stddef.h>

enum { LOOK_HOST_BYTES = 1 << 20 };

typedef struct match_args {
    cli_space_args space;
    const char *tokens;
    double prefill_rate;
    uint64_t restore_rate;
} match_args;

static const cli_option match_options[] = {
    {.name = "tokens",
     .letter = 't',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(match_args, tokens),
     .text =
         "Token ids: JSON lines of [ids] or {\"tokens\": [ids]}, .npy, .safetensors with a tensor 'tokens', or - for "
         "standard input"},
    CLI_SPACE_OPTIONS(match_args, space, "KVTIER_SALT"),
    {.name = "prefill-rate",
     .kind = CLI_REAL,
     .value = "TOKENS/S",
     .min = 1e-9,
     .max = 1e12,
     .offset = offsetof(match_args, prefill_rate),
     .text = "How fast the caller computes tokens: adds the plan of what to restore and what to compute"},
    {.name = "restore-rate",
     .kind = CLI_RATE,
     .value = "SIZE/s",
     .min = 1,
     .max = 0x1p60,
     .offset = offsetof(match_args, restore_rate),
     .text = "How fast this store restores, as 'kvtier bench io' or a running engine measured it"},
};

static const cli_column match_columns[] = {
    {"prompt", "PROMPT", CLI_UNIT_NONE, false},
    {"tokens", "TOKENS", CLI_UNIT_NONE, false},
    {"held_tokens", "HELD", CLI_UNIT_NONE, false},
    {"held_ratio", "SHARE", CLI_UNIT_PERCENT, false},
    {"tokens_host", "IN RAM", CLI_UNIT_NONE, false},
    {"tokens_lower", "BELOW", CLI_UNIT_NONE, false},
    {"chunks", "CHUNKS", CLI_UNIT_NONE, false},
    {"bytes_host", "RAM BYTES", CLI_UNIT_BYTES, true},
    {"bytes_lower", "TO READ", CLI_UNIT_BYTES, false},
    {"restore_seconds", "RESTORE", CLI_UNIT_SECONDS, false},
    {"plan_restore_tokens", "PLAN RESTORE", CLI_UNIT_NONE, false},
    {"plan_compute_tokens", "PLAN COMPUTE", CLI_UNIT_NONE, false},
    {"plan_seconds", "PLAN TIME", CLI_UNIT_SECONDS, false},
    {"plan_restore_seconds", "RESTORING", CLI_UNIT_SECONDS, true},
    {"plan_compute_seconds", "COMPUTING", CLI_UNIT_SECONDS, true},
};
enum { COLUMNS_WITHOUT_PLAN = 10, COLUMNS_WITH_PLAN = sizeof match_columns / sizeof *match_columns };

static void row_seconds(cli_report *report, uint64_t ns)
{
    if (ns == 0) /* nothing was measured yet */
        cli_row_none(report);
    else
        cli_row_real(report, (double)ns / 1e9);
}

/* The answers for one prompt. */
typedef struct answer {
    kvt_match_result match;
    kvt_plan_result plan;
    uint64_t tokens;
} answer;

/* A store that is only looked at has measured nothing: the estimate comes from the rate that is given. At least 1 ns,
 * so that it counts as known. */
static void estimate(kvt_match_result *match, uint64_t bytes_per_second)
{
    if (bytes_per_second == 0 || match->tokens == 0)
        return;
    double bytes = (double)(match->bytes_host + match->bytes_lower);
    match->restore_ns = kvt_max_u64(1, (uint64_t)(bytes / (double)bytes_per_second * 1e9));
}

static kvt_status ask(kvt_space *space, const kvt_prompts *prompts, const match_args *args, answer *answers)
{
    for (size_t i = 0; i < prompts->count; i++) {
        const uint32_t *tokens = kvt_prompt_tokens(prompts, i, &answers[i].tokens);
        KVT_TRY(kvt_match(space, tokens, answers[i].tokens, &answers[i].match));
        estimate(&answers[i].match, args->restore_rate);
        if (args->prefill_rate > 0)
            KVT_TRY(kvt_plan(&answers[i].match, answers[i].tokens, args->prefill_rate, &answers[i].plan));
    }
    return KVT_OK;
}

/* The plan restores something, and nobody knows how long that takes. */
static bool restores_for_free(const answer *a) { return a->plan.tokens_restore != 0 && a->plan.restore_ns == 0; }

static void report_prompt(cli_report *report, size_t number, const answer *a, bool planned)
{
    cli_row_u64(report, number);
    cli_row_u64(report, a->tokens);
    cli_row_u64(report, a->match.tokens);
    cli_row_real(report, (double)a->match.tokens / (double)a->tokens);
    cli_row_u64(report, a->match.tokens_host);
    cli_row_u64(report, a->match.tokens_lower);
    cli_row_u64(report, a->match.chunks);
    cli_row_u64(report, a->match.bytes_host);
    cli_row_u64(report, a->match.bytes_lower);
    row_seconds(report, a->match.restore_ns);
    if (!planned)
        return;
    cli_row_u64(report, a->plan.tokens_restore);
    cli_row_u64(report, a->plan.tokens_compute);
    if (restores_for_free(a)) {
        cli_row_none(report);
        cli_row_none(report);
    } else {
        cli_row_real(report, (double)(a->plan.restore_ns + a->plan.compute_ns) / 1e9);
        cli_row_real(report, (double)a->plan.restore_ns / 1e9);
    }
    cli_row_real(report, (double)a->plan.compute_ns / 1e9);
}

/* A plan that was made without the price of restoring must not look like one that weighed it. */
static void warn_of_free_restores(const cli_context *context, const answer *answers, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= restores_for_free(&answers[i]);
    if (any && !context->global.quiet)
        cli_warn("match", "nothing has measured how fast this store restores, so the plan counts that as free; give "
                          "--restore-rate SIZE/s to weigh it");
}

static int report_answers(const cli_context *context, const kvt_space_info *info, const answer *answers, size_t count,
                          bool planned)
{
    char id[KVT_KEY_TEXT_BYTES];
    bool any = false, all = true;
    cli_report *report = cli_report_open(context, "kvtier.match/1");
    kvt_key_to_text(&info->id, id);
    cli_report_text(report, "space", "space", id);
    cli_report_u64(report, "chunk_tokens", "chunk tokens", CLI_UNIT_NONE, info->chunk_tokens);
    cli_report_rows(report, "prompts", NULL, match_columns, planned ? COLUMNS_WITH_PLAN : COLUMNS_WITHOUT_PLAN);
    for (size_t i = 0; i < count; i++) {
        report_prompt(report, i + 1, &answers[i], planned);
        any |= answers[i].match.tokens != 0;
        all &= answers[i].match.tokens >= answers[i].tokens - answers[i].tokens % info->chunk_tokens;
    }
    cli_report_rows_end(report);
    int code = cli_report_close(report);
    if (planned)
        warn_of_free_restores(context, answers, count);
    return code != CLI_OK ? code : !any ? CLI_NOT_FOUND : all ? CLI_OK : CLI_PARTIAL;
}

static int match_space(const cli_context *context, const match_args *args, kvt_space *space, const kvt_prompts *prompts)
{
    kvt_space_info info;
    kvt_status status = kvt_space_get_info(space, &info);
    if (status != KVT_OK)
        return cli_fail_status(status, "space");
    if (info.chunk_tokens == 0)
        return cli_fail(CLI_USAGE, "space", "holds opaque blobs, which have no tokens; name another with --space");
    answer *answers = kvt_alloc_array(prompts->count, sizeof *answers);
    if (answers == NULL)
        return cli_fail(CLI_FAILURE, args->tokens, "out of memory; split the file");
    status = ask(space, prompts, args, answers);
    int code = status == KVT_OK ? report_answers(context, &info, answers, prompts->count, args->prefill_rate > 0)
                                : cli_fail_status(status, args->tokens);
    kvt_free(answers);
    return code;
}

static int run_match(const cli_context *context, const void *given)
{
    const match_args *args = given;
    kvt_prompts prompts;
    kvt_engine *engine;
    kvt_space *space;
    if (args->tokens == NULL)
        return cli_fail(CLI_USAGE, "match",
                        "no token ids are named; give --tokens FILE, or --tokens - for standard input");
    int code = cli_prompts_load(args->tokens, &prompts);
    if (code != CLI_OK)
        return code;
    code = cli_store_look(context, LOOK_HOST_BYTES, &engine);
    if (code == CLI_OK) {
        code = cli_store_space(engine, &args->space, &space);
        if (code == CLI_OK) {
            code = match_space(context, args, space, &prompts);
            kvt_space_close(space);
        }
        kvt_close(engine);
    }
    kvt_prompts_free(&prompts);
    return code;
}

const cli_command cli_command_match = {
    .name = "match",
    .group = "ask",
    .summary = "how much of a prompt is held, and what is worth restoring",
    .operands = "",
    .description =
        "For each prompt of a file: the longest prefix that is held, where it lies, the bytes to read for it, and "
        "the time that takes at --restore-rate. A store that is only looked at has measured nothing itself; without "
        "the "
        "option the time is unknown: '-', or null.\n\n"
        "With --prefill-rate the plan says how many tokens to restore and how many to compute, whichever is quicker. "
        "Without --restore-rate it counts restoring as free, and says so.\n\n"
        "Exits with 0 when every full chunk of every prompt is held, with 6 when a part is, with 3 when nothing "
        "is.",
    .examples = "kvtier match --tokens prompt.jsonl\n"
                "kvtier match --model llama-3.1-8b -t ids.npy --prefill-rate 8000 --restore-rate 2.5GB/s --json",
    .options = match_options,
    .option_count = sizeof match_options / sizeof *match_options,
    .args_bytes = sizeof(match_args),
    .run = run_match,
};
