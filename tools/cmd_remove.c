/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing records: what will go is counted and told first, and confirmed by a person or by --yes.
 */
#include "tools/cli_commands.h"

#include <inttypes.h>
#include <stddef.h>
#include <unistd.h>

enum { OPERANDS_MAX = 65536 };

typedef struct rm_args {
    cli_space_args space;
    bool all, yes, dry_run;
} rm_args;

static const cli_option rm_options[] = {
    {.name = "all", .kind = CLI_FLAG, .offset = offsetof(rm_args, all), .text = "Every record of the space"},
    CLI_SPACE_OPTIONS(rm_args, space),
    {.name = "yes",
     .letter = 'y',
     .kind = CLI_FLAG,
     .offset = offsetof(rm_args, yes),
     .text = "Do not ask; needed when standard input is no terminal"},
    {.name = "dry-run",
     .kind = CLI_FLAG,
     .offset = offsetof(rm_args, dry_run),
     .text = "Only tell what would be removed"},
};

/* What is to go: the whole space, or the named records. */
typedef struct victims {
    kvt_record_info *records;
    size_t count;
    uint64_t record_count, bytes;
} victims;

static int find_victims(const cli_context *context, kvt_engine *engine, kvt_space *space, victims *out)
{
    out->records = kvt_alloc_array(context->operands.count, sizeof *out->records);
    if (out->records == NULL)
        return cli_fail(CLI_FAILURE, "rm", "out of memory");
    for (size_t i = 0; i < context->operands.count; i++) {
        int code = cli_store_find(engine, space, context->operands.items[i], &out->records[i]);
        if (code != CLI_OK)
            return code;
        out->count++;
        out->bytes += out->records[i].stored_bytes;
    }
    out->record_count = out->count;
    return CLI_OK;
}

static int confirm(const rm_args *args, const victims *v)
{
    char bytes[CLI_NUMBER_BYTES], line[16];
    cli_format_bytes(bytes, v->bytes, false);
    if (args->yes)
        return CLI_OK;
    if (!isatty(STDIN_FILENO))
        return cli_fail(CLI_USAGE, "rm", "would remove %" PRIu64 " records, %s; give --yes to do it", v->record_count,
                        bytes);
    fprintf(stderr, "Remove %" PRIu64 " records, %s? [y/N] ", v->record_count, bytes);
    if (fgets(line, sizeof line, stdin) == NULL || (line[0] != 'y' && line[0] != 'Y'))
        return cli_fail(CLI_FAILURE, "rm", "nothing was removed");
    return CLI_OK;
}

/* The named records, each through its own space. */
static kvt_status remove_records(kvt_engine *engine, const victims *v, uint64_t *out_removed)
{
    kvt_status worst = KVT_OK;
    for (size_t i = 0; i < v->count; i++) {
        kvt_space *space;
        size_t removed = 0;
        KVT_TRY(kvt_space_find(engine, &v->records[i].space, &space));
        kvt_status status = kvt_remove(space, &v->records[i].key, 1, &removed);
        kvt_space_close(space);
        *out_removed += removed;
        if (status != KVT_OK)
            worst = status;
    }
    return worst;
}

static int report_removal(const cli_context *context, const rm_args *args, const victims *v, uint64_t removed)
{
    cli_report *report = cli_report_open(context, "kvtier.rm/1");
    cli_report_u64(report, "found_records", args->dry_run ? "would remove" : "found", CLI_UNIT_NONE, v->record_count);
    cli_report_u64(report, "found_bytes", "bytes", CLI_UNIT_BYTES, v->bytes);
    cli_report_u64(report, "removed_records", args->dry_run ? NULL : "removed", CLI_UNIT_NONE, removed);
    cli_report_bool(report, "dry_run", NULL, args->dry_run);
    return cli_report_close(report);
}

static int remove_victims(const cli_context *context, const rm_args *args, kvt_engine *engine, kvt_space *space,
                          const victims *v)
{
    uint64_t removed = 0;
    kvt_status status = KVT_OK;
    int code = args->dry_run ? CLI_OK : confirm(args, v);
    if (code != CLI_OK)
        return code;
    if (!args->dry_run)
        status = args->all ? kvt_clear(space, &removed) : remove_records(engine, v, &removed);
    code = report_removal(context, args, v, removed);
    if (status == KVT_BUSY || (code == CLI_OK && status == KVT_OK && !args->dry_run && removed < v->record_count))
        return cli_fail(removed == 0 ? CLI_BUSY : CLI_PARTIAL, "rm", "records in use were left; try again");
    return status != KVT_OK && status != KVT_MISS ? cli_fail_status(status, "rm") : code;
}

static int run_in_store(const cli_context *context, const rm_args *args, kvt_engine *engine)
{
    kvt_space *space = NULL;
    kvt_space_info info;
    victims v = {0};
    bool named = args->space.space != NULL || args->space.model != NULL;
    int code = named ? cli_store_space(engine, &args->space, &space) : CLI_OK;
    if (code == CLI_OK && args->all) {
        kvt_status status = kvt_space_get_info(space, &info);
        v.record_count = info.record_count;
        v.bytes = info.stored_bytes;
        code = status == KVT_OK ? CLI_OK : cli_fail_status(status, "rm");
    } else if (code == CLI_OK) {
        code = find_victims(context, engine, space, &v);
    }
    if (code == CLI_OK)
        code = remove_victims(context, args, engine, space, &v);
    kvt_free(v.records);
    kvt_space_close(space);
    return code;
}

static int run_rm(const cli_context *context, const void *given)
{
    const rm_args *args = given;
    kvt_engine *engine;
    if (args->all == (context->operands.count != 0))
        return cli_fail(CLI_USAGE, "rm", "needs either KEYs, or --all with --space ID");
    if (args->all && args->space.space == NULL && args->space.model == NULL)
        return cli_fail(CLI_USAGE, "rm", "--all needs a space; name it with --space ID or --model NAME");
    int code = args->dry_run ? cli_store_look(context, 1 << 20, &engine)
                             : cli_store_change(context, &(cli_store_args){0}, KVT_OPEN_NO_CREATE, &engine);
    if (code != CLI_OK)
        return code;
    code = run_in_store(context, args, engine);
    kvt_close(engine);
    return code;
}

const cli_command cli_command_rm = {
    .name = "rm",
    .group = "change",
    .summary = "forget records",
    .operands = "[KEY...]",
    .description =
        "Removes the named records, or with --all every record of a space. Tells how many and asks first, unless "
        "--yes is given. Records in use stay.\n\n"
        "The file tier has no durable delete: after a crash of the process that removed it, a record may be back.",
    .examples = "kvtier rm 9c41d2 --yes\nkvtier rm --all --space 3f2a --dry-run",
    .options = rm_options,
    .option_count = sizeof rm_options / sizeof *rm_options,
    .args_bytes = sizeof(rm_args),
    .operands_max = OPERANDS_MAX,
    .run = run_rm,
};
