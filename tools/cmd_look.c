/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking into a store: status, ns, ls, show. All of them open it read-only and change nothing.
 */
#include "tools/cli_commands.h"

#include <stddef.h>

enum { LOOK_HOST_BYTES = 1 << 20, SCAN_BATCH = 256, KEY_DIGITS_SHOWN = 12 };

/* Tables show the first digits of keys, which are enough to name them; wide tables and machines get all. */
static void row_key(const cli_context *context, cli_report *report, const kvt_key *key)
{
    char text[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(key, text);
    if (context->global.format == CLI_FORMAT_TABLE)
        text[KEY_DIGITS_SHOWN] = '\0';
    cli_row_text(report, text);
}

/* ---------------------------------------------------------------------- status */

typedef struct status_args {
    bool only_unhealthy;
} status_args;

static const cli_option status_options[] = {
    {.name = "only-unhealthy",
     .letter = 'x',
     .kind = CLI_FLAG,
     .offset = offsetof(status_args, only_unhealthy),
     .text = "Say nothing when the store is healthy"},
};

static const cli_column tier_columns[] = {
    {"name", "TIER", CLI_UNIT_NONE, false},
    {"state", "STATE", CLI_UNIT_NONE, false},
    {"record_count", "RECORDS", CLI_UNIT_NONE, false},
    {"record_bytes", "STORED", CLI_UNIT_BYTES, false},
    {"used_bytes", "USED", CLI_UNIT_BYTES, false},
    {"capacity_bytes", "CAPACITY", CLI_UNIT_BYTES, false},
    {"used_ratio", "FULL", CLI_UNIT_PERCENT, false},
    {"durable", "DURABLE", CLI_UNIT_NONE, true},
    {"errors", "ERRORS", CLI_UNIT_NONE, false},
    {"corrupt_records", "CORRUPT", CLI_UNIT_NONE, false},
    {"detail", "DETAIL", CLI_UNIT_NONE, true},
};

static void report_tier(cli_report *report, const kvt_tier_stats *tier)
{
    cli_row_text(report, tier->name);
    cli_row_text(report, tier->state < 2 ? "read-only" : "off"); /* it is looked at: no tier takes writes */
    cli_row_u64(report, tier->record_count);
    cli_row_u64(report, tier->record_bytes);
    cli_row_u64(report, tier->used_bytes);
    cli_row_u64(report, tier->capacity_bytes);
    cli_row_real(report, tier->capacity_bytes == 0 ? 0 : (double)tier->used_bytes / (double)tier->capacity_bytes);
    if (strcmp(tier->name, "file") == 0) /* measured where it is opened for writing */
        cli_row_none(report);
    else
        cli_row_bool(report, tier->durable != 0);
    cli_row_u64(report, tier->errors);
    cli_row_u64(report, tier->corrupt_records);
    cli_row_text(report, tier->detail);
}

static int report_status(const cli_context *context, const kvt_stats *stats)
{
    cli_report *report = cli_report_open(context, "kvtier.status/1");
    cli_report_text(report, "store", "store", context->global.store);
    cli_report_text(report, "health", "health", cli_store_healthy(stats) ? "healthy" : "degraded");
    cli_report_u64(report, "space_count", "spaces", CLI_UNIT_NONE, stats->space_count);
    cli_report_text(report, "backend", "backend", stats->backend);
    cli_report_rows(report, "tiers", NULL, tier_columns, sizeof tier_columns / sizeof *tier_columns);
    for (uint32_t id = 0; id < 3; id++)
        if (stats->tiers[id].present && id != KVT_TIER_HOST) /* this process's RAM says nothing about the store */
            report_tier(report, &stats->tiers[id]);
    cli_report_rows_end(report);
    return cli_report_close(report);
}

static int run_status(const cli_context *context, const void *given)
{
    const status_args *args = given;
    kvt_engine *engine;
    kvt_stats stats = {.struct_size = sizeof stats};
    int code = cli_store_look(context, LOOK_HOST_BYTES, &engine);
    if (code != CLI_OK)
        return code;
    kvt_status status = kvt_get_stats(engine, &stats);
    if (status != KVT_OK)
        code = cli_fail_status(status, context->global.store);
    else if (!cli_store_healthy(&stats) || !args->only_unhealthy)
        code = report_status(context, &stats);
    kvt_close(engine);
    return code != CLI_OK ? code : status == KVT_OK && !cli_store_healthy(&stats) ? CLI_FAILURE : CLI_OK;
}

const cli_command cli_command_status = {
    .name = "status",
    .group = "look",
    .summary = "health, size and tiers of a store",
    .operands = "",
    .description =
        "Opens the store read-only (STATE) and tells whether it can be opened and is whole, and how many records\n"
        "and bytes each tier on disk holds. Whether the device keeps sealed data through a power loss is measured\n"
        "by 'kvtier doctor'. Exits with 0 when all is well and with 1 when a tier is off or errors occurred.\n\n"
        "A store has one owner: while an engine runs on it, the answer is its process and exit code 5. To watch a\n"
        "running engine, let its own program ask it (kvt_get_stats: the field 'health', and figures of every tier).",
    .examples = "kvtier status -s /var/lib/kvtier\nkvtier status -s /var/lib/kvtier -x -o json",
    .options = status_options,
    .option_count = sizeof status_options / sizeof *status_options,
    .args_bytes = sizeof(status_args),
    .run = run_status,
};

/* -------------------------------------------------------------------------- ns */

static const cli_column space_columns[] = {
    {"space", "SPACE", CLI_UNIT_NONE, false},          {"model", "MODEL", CLI_UNIT_NONE, false},
    {"revision", "REVISION", CLI_UNIT_NONE, true},     {"dtype", "DTYPE", CLI_UNIT_NONE, false},
    {"position", "POSITION", CLI_UNIT_NONE, true},     {"rank", "RANK", CLI_UNIT_NONE, false},
    {"rank_count", "RANKS", CLI_UNIT_NONE, true},      {"salt", "SALT", CLI_UNIT_NONE, false},
    {"chunk_tokens", "CHUNK", CLI_UNIT_NONE, false},   {"blob_bytes", "BLOB", CLI_UNIT_BYTES, false},
    {"group_count", "GROUPS", CLI_UNIT_NONE, true},    {"hash", "HASH", CLI_UNIT_NONE, true},
    {"record_count", "RECORDS", CLI_UNIT_NONE, false}, {"stored_bytes", "STORED", CLI_UNIT_BYTES, false},
};

static void row_field(cli_report *report, const kvt_space_info *info, const char *name)
{
    char value[KVT_NAME_BYTES_MAX];
    if (cli_space_field(info->text, name, value, sizeof value))
        cli_row_text(report, value);
    else
        cli_row_none(report);
}

static void row_rank(cli_report *report, const kvt_space_info *info)
{
    uint64_t rank = 0, count = 0;
    bool known = cli_space_rank(info->text, &rank, &count);
    for (int i = 0; i < 2; i++)
        if (known)
            cli_row_u64(report, i == 0 ? rank : count);
        else
            cli_row_none(report);
}

/* The digest of the tenant's salt, as keys are shown. */
static void row_salt(const cli_context *context, cli_report *report, const kvt_space_info *info)
{
    char digest[KVT_KEY_TEXT_BYTES] = "";
    kvt_key key;
    if (cli_space_field(info->text, "salt", digest, sizeof digest) && kvt_key_from_text(digest, &key))
        row_key(context, report, &key);
    else
        cli_row_none(report);
}

static void report_space(const cli_context *context, cli_report *report, const kvt_space_info *info)
{
    row_key(context, report, &info->id);
    row_field(report, info, "model");
    row_field(report, info, "revision");
    row_field(report, info, "dtype");
    row_field(report, info, "position");
    row_rank(report, info);
    row_salt(context, report, info);
    if (info->chunk_tokens == 0) { /* opaque blobs of any size */
        cli_row_none(report);
        cli_row_none(report);
    } else {
        cli_row_u64(report, info->chunk_tokens);
        cli_row_u64(report, info->blob_bytes);
    }
    cli_row_u64(report, info->group_count);
    row_field(report, info, "hash");
    cli_row_u64(report, info->record_count);
    cli_row_u64(report, info->stored_bytes);
}

static int list_spaces(const cli_context *context, kvt_engine *engine)
{
    kvt_key *ids;
    size_t count;
    int code = cli_store_spaces(engine, &ids, &count);
    if (code != CLI_OK)
        return code;
    cli_report *report = cli_report_open(context, "kvtier.spaces/1");
    cli_report_rows(report, "spaces", NULL, space_columns, sizeof space_columns / sizeof *space_columns);
    for (size_t i = 0; i < count; i++) {
        kvt_space *space = NULL;
        kvt_space_info info;
        if (kvt_space_find(engine, &ids[i], &space) == KVT_OK && kvt_space_get_info(space, &info) == KVT_OK)
            report_space(context, report, &info);
        else
            cli_warn(context->global.store, "the description of a space is lost, so its records cannot be used");
        kvt_space_close(space);
    }
    cli_report_rows_end(report);
    kvt_free(ids);
    return cli_report_close(report);
}

static int show_space(const cli_context *context, kvt_engine *engine, const char *id)
{
    kvt_space *space;
    kvt_space_info info;
    char text[KVT_KEY_TEXT_BYTES];
    int code = cli_store_space(engine, &(cli_space_args){.space = id}, &space);
    if (code != CLI_OK)
        return code;
    kvt_status status = kvt_space_get_info(space, &info);
    if (status == KVT_OK) {
        cli_report *report = cli_report_open(context, "kvtier.space/1");
        kvt_key_to_text(&info.id, text);
        cli_report_text(report, "space", "space", text);
        cli_report_u64(report, "record_count", "records", CLI_UNIT_NONE, info.record_count);
        cli_report_u64(report, "stored_bytes", "stored", CLI_UNIT_BYTES, info.stored_bytes);
        if (info.chunk_tokens == 0) { /* opaque blobs of any size, which have no tokens */
            cli_report_text(report, "chunk_tokens", "chunk tokens", NULL);
            cli_report_text(report, "blob_bytes", "blob", NULL);
        } else {
            cli_report_u64(report, "chunk_tokens", "chunk tokens", CLI_UNIT_NONE, info.chunk_tokens);
            cli_report_u64(report, "blob_bytes", "blob", CLI_UNIT_BYTES, info.blob_bytes);
        }
        cli_report_text(report, "descriptor", NULL, info.text);
        code = cli_report_close(report);
        if (context->global.format <= CLI_FORMAT_WIDE)
            fprintf(context->out, "\n%s", info.text); /* lines of name=value, free of control bytes by contract */
    } else {
        code = cli_fail_status(status, id);
    }
    kvt_space_close(space);
    return code;
}

static int run_ns(const cli_context *context, const void *given)
{
    (void)given;
    kvt_engine *engine;
    int code = cli_store_look(context, LOOK_HOST_BYTES, &engine);
    if (code != CLI_OK)
        return code;
    code = context->operands.count == 0 ? list_spaces(context, engine)
                                        : show_space(context, engine, context->operands.items[0]);
    kvt_close(engine);
    return code;
}

const cli_command cli_command_ns = {
    .name = "ns",
    .group = "look",
    .summary = "spaces of a store, or the description of one",
    .operands = "[SPACE]",
    .description =
        "A space is a namespace: a model with its weights, geometry, position encoding, rank and tenant. Nothing "
        "crosses it. SALT is the digest of the tenant's salt; CHUNK and BLOB are unknown for spaces of opaque blobs. "
        "Without an operand the spaces are listed; with the first digits of an id that space is "
        "described in full.",
    .examples = "kvtier ns\nkvtier ns 3f2a",
    .operands_max = 1,
    .run = run_ns,
};

/* -------------------------------------------------------------------------- ls */

typedef struct ls_args {
    cli_space_args space;
    uint64_t min_size, limit;
    uint32_t tier;
} ls_args;

static const cli_option ls_options[] = {
    CLI_SPACE_OPTIONS(ls_args, space, NULL),
    {.name = "tier",
     .kind = CLI_CHOICE,
     .value = "any|host|file|rocks",
     .offset = offsetof(ls_args, tier),
     .text = "Only records held by this tier; default any"},
    {.name = "min-size",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .offset = offsetof(ls_args, min_size),
     .text = "Only records of at least this many stored bytes"},
    {.name = "limit",
     .letter = 'n',
     .kind = CLI_COUNT,
     .value = "N",
     .offset = offsetof(ls_args, limit),
     .text = "Stop after this many records; default 0: all"},
};

static const cli_column record_columns[] = {
    {"key", "KEY", CLI_UNIT_NONE, false},
    {"space", "SPACE", CLI_UNIT_NONE, false},
    {"depth", "DEPTH", CLI_UNIT_NONE, false},
    {"raw_bytes", "RAW", CLI_UNIT_BYTES, false},
    {"stored_bytes", "STORED", CLI_UNIT_BYTES, false},
    {"codec", "CODEC", CLI_UNIT_NONE, false},
    {"tiers", "TIERS", CLI_UNIT_NONE, false},
    {"hits", "HITS", CLI_UNIT_NONE, false},
    {"parent", "PARENT", CLI_UNIT_NONE, true},
    {"has_tokens", "TOKENS", CLI_UNIT_NONE, true},
    {"groups", "GROUPS", CLI_UNIT_NONE, true},
    {"cost_us", "COST US", CLI_UNIT_NONE, true},
    {"pinned", "PINNED", CLI_UNIT_NONE, true},
};

static void report_record(const cli_context *context, cli_report *report, const kvt_record_info *record)
{
    char tiers[CLI_NUMBER_BYTES];
    cli_tiers_text(record->tiers, tiers);
    row_key(context, report, &record->key);
    row_key(context, report, &record->space);
    cli_row_u64(report, record->depth);
    cli_row_u64(report, record->raw_bytes);
    cli_row_u64(report, record->stored_bytes);
    cli_row_text(report, cli_codec_name(record->codec));
    cli_row_words(report, tiers);
    cli_row_u64(report, record->hits);
    if (kvt_key_is_zero(&record->parent))
        cli_row_none(report);
    else
        row_key(context, report, &record->parent);
    cli_row_bool(report, record->has_tokens != 0);
    cli_row_u64(report, record->groups);
    cli_row_u64(report, record->cost_us);
    cli_row_bool(report, record->pinned != 0);
}

static bool listed(const kvt_record_info *record, const ls_args *args, const char *prefix)
{
    char key[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(&record->key, key);
    return strncmp(key, prefix, strlen(prefix)) == 0 && record->stored_bytes >= args->min_size &&
           (args->tier == 0 || (record->tiers & KVT_TIER_BIT(args->tier - 1)) != 0);
}

static kvt_status list_records(const cli_context *context, cli_report *report, kvt_engine *engine, kvt_space *space,
                               const ls_args *args)
{
    const char *prefix = context->operands.count != 0 ? context->operands.items[0] : "";
    kvt_record_info records[SCAN_BATCH];
    uint64_t cursor = 0, listed_count = 0;
    do {
        size_t count;
        kvt_status status = kvt_scan(engine, space, &cursor, records, SCAN_BATCH, &count);
        if (status != KVT_OK)
            return status;
        for (size_t i = 0; i < count && (args->limit == 0 || listed_count < args->limit); i++)
            if (listed(&records[i], args, prefix)) {
                report_record(context, report, &records[i]);
                listed_count++;
            }
    } while (cursor != 0 && (args->limit == 0 || listed_count < args->limit) && !cli_interrupted());
    return KVT_OK;
}

static int run_ls(const cli_context *context, const void *given)
{
    const ls_args *args = given;
    kvt_engine *engine;
    kvt_space *space = NULL;
    if (context->operands.count != 0 &&
        strspn(context->operands.items[0], "0123456789abcdef") != strlen(context->operands.items[0]))
        return cli_fail(CLI_USAGE, context->operands.items[0],
                        "is not the beginning of a key; give lower-case hexadecimal digits");
    int code = cli_store_look(context, LOOK_HOST_BYTES, &engine);
    if (code != CLI_OK)
        return code;
    code = cli_store_space_if_named(engine, &args->space, &space);
    if (code == CLI_OK) {
        cli_report *report = cli_report_open(context, "kvtier.records/1");
        cli_report_rows(report, "records", NULL, record_columns, sizeof record_columns / sizeof *record_columns);
        kvt_status status = list_records(context, report, engine, space, args);
        cli_report_rows_end(report);
        code = cli_report_close(report);
        if (status != KVT_OK)
            code = cli_fail_status(status, context->global.store);
    }
    kvt_space_close(space);
    kvt_close(engine);
    return code;
}

const cli_command cli_command_ls = {
    .name = "ls",
    .group = "look",
    .summary = "records of a store",
    .operands = "[PREFIX]",
    .description =
        "Lists the records whose key starts with PREFIX, in no particular order. DEPTH is the position of the "
        "chunk in its prompt; RAW are the bytes of the blob, STORED those of the record. Tables show the first "
        "digits of keys; -o wide and the formats for machines show all.",
    .examples = "kvtier ls --limit 20\nkvtier ls --min-size 1M -o csv",
    .options = ls_options,
    .option_count = sizeof ls_options / sizeof *ls_options,
    .args_bytes = sizeof(ls_args),
    .operands_max = 1,
    .run = run_ls,
};

/* ------------------------------------------------------------------------ show */

static void report_names(cli_report *report, kvt_engine *engine, const kvt_key *id)
{
    kvt_space *space;
    kvt_space_info info;
    char value[KVT_NAME_BYTES_MAX];
    if (kvt_space_find(engine, id, &space) != KVT_OK)
        return;
    if (kvt_space_get_info(space, &info) == KVT_OK && cli_space_field(info.text, "model", value, sizeof value))
        cli_report_text(report, "model", "model", value);
    kvt_space_close(space);
}

static int report_one(const cli_context *context, kvt_engine *engine, const kvt_record_info *record)
{
    char text[KVT_KEY_TEXT_BYTES], tiers[CLI_NUMBER_BYTES];
    cli_report *report = cli_report_open(context, "kvtier.record/1");
    kvt_key_to_text(&record->key, text);
    cli_report_text(report, "key", "key", text);
    kvt_key_to_text(&record->space, text);
    cli_report_text(report, "space", "space", text);
    report_names(report, engine, &record->space);
    kvt_key_to_text(&record->parent, text);
    cli_report_text(report, "parent", "parent", kvt_key_is_zero(&record->parent) ? NULL : text);
    cli_report_u64(report, "depth", "depth", CLI_UNIT_NONE, record->depth);
    cli_report_u64(report, "raw_bytes", "raw", CLI_UNIT_BYTES, record->raw_bytes);
    cli_report_u64(report, "stored_bytes", "stored", CLI_UNIT_BYTES, record->stored_bytes);
    cli_report_text(report, "codec", "codec", cli_codec_name(record->codec));
    cli_tiers_text(record->tiers, tiers);
    cli_report_words(report, "tiers", "tiers", tiers);
    cli_report_bool(report, "has_tokens", "token ids kept", record->has_tokens != 0);
    cli_report_u64(report, "groups", "groups (mask)", CLI_UNIT_NONE, record->groups);
    cli_report_u64(report, "hits", "hits", CLI_UNIT_NONE, record->hits);
    cli_report_bool(report, "pinned", "pinned", record->pinned != 0);
    cli_report_u64(report, "cost_us", NULL, CLI_UNIT_NONE, record->cost_us);
    return cli_report_close(report);
}

static int run_show(const cli_context *context, const void *given)
{
    (void)given;
    kvt_engine *engine;
    kvt_record_info record;
    int code = cli_store_look(context, LOOK_HOST_BYTES, &engine);
    if (code != CLI_OK)
        return code;
    code = cli_store_find(engine, NULL, context->operands.items[0], &record);
    if (code == CLI_OK)
        code = report_one(context, engine, &record);
    kvt_close(engine);
    return code;
}

const cli_command cli_command_show = {
    .name = "show",
    .group = "look",
    .summary = "all that is known of a record",
    .operands = "KEY",
    .description = "Shows one record. KEY may be shortened to its first 4 or more digits where that is unambiguous.",
    .examples = "kvtier show 9c41d2",
    .operands_min = 1,
    .operands_max = 1,
    .run = run_show,
};
