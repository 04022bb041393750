/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing records: what will go is counted and told first, and confirmed by a person or by --yes. What went is counted
 * after the store was closed and opened again, which is what a removal has to survive.
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
    CLI_SPACE_OPTIONS(rm_args, space, NULL),
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
        return cli_fail(CLI_USAGE, "rm", "would remove %" PRIu64 " record%s, %s; give --yes to do it", v->record_count,
                        cli_plural(v->record_count), bytes);
    fprintf(stderr, "Remove %" PRIu64 " record%s, %s? [y/N] ", v->record_count, cli_plural(v->record_count), bytes);
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

static int report_removal(const cli_context *context, const rm_args *args, const victims *v, uint64_t kept)
{
    cli_report *report = cli_report_open(context, "kvtier.rm/1");
    cli_report_u64(report, "found_records", args->dry_run ? "would remove" : "found", CLI_UNIT_NONE, v->record_count);
    cli_report_u64(report, "found_bytes", "bytes", CLI_UNIT_BYTES, v->bytes);
    cli_report_u64(report, "removed_records", args->dry_run ? NULL : "removed", CLI_UNIT_NONE,
                   args->dry_run ? 0 : v->record_count - kvt_min_u64(kept, v->record_count));
    cli_report_bool(report, "dry_run", NULL, args->dry_run);
    return cli_report_close(report);
}

/* Find what is meant, ask, remove it. */
static int remove_in(const cli_context *context, const rm_args *args, kvt_engine *engine, victims *v)
{
    kvt_space *space;
    kvt_space_info info;
    uint64_t removed = 0;
    kvt_status status = KVT_OK;
    int code = cli_store_space_if_named(engine, &args->space, &space);
    if (code != CLI_OK)
        return code;
    if (!args->all)
        code = find_victims(context, engine, space, v);
    else if ((status = kvt_space_get_info(space, &info)) == KVT_OK)
        *v = (victims){.record_count = info.record_count, .bytes = info.stored_bytes};
    if (code == CLI_OK && status == KVT_OK && !args->dry_run) {
        code = confirm(args, v);
        if (code == CLI_OK)
            status = args->all ? kvt_clear(space, &removed) : remove_records(engine, v, &removed);
    }
    kvt_space_close(space);
    return code != CLI_OK || status == KVT_OK ? code : cli_fail_status(status, "rm");
}

/* Which of the victims a fresh look at the store still finds. */
static int count_kept(const cli_context *context, const rm_args *args, const victims *v, uint64_t *out)
{
    kvt_engine *engine;
    kvt_space *space;
    kvt_space_info info;
    int code = cli_store_look(context, 1 << 20, &engine);
    *out = 0;
    if (code != CLI_OK)
        return code;
    if (args->all && cli_store_space_if_named(engine, &args->space, &space) == CLI_OK) {
        *out = kvt_space_get_info(space, &info) == KVT_OK ? info.record_count : 0;
        kvt_space_close(space);
    }
    for (size_t i = 0; i < v->count; i++) {
        uint32_t tiers = 0;
        if (kvt_space_find(engine, &v->records[i].space, &space) != KVT_OK)
            continue;
        *out += kvt_exists(space, &v->records[i].key, 1, &tiers) == KVT_OK && tiers != 0;
        kvt_space_close(space);
    }
    kvt_close(engine);
    return CLI_OK;
}

static int run_rm(const cli_context *context, const void *given)
{
    const rm_args *args = given;
    kvt_engine *engine;
    if (args->all == (context->operands.count != 0))
        return cli_fail(CLI_USAGE, "rm", "needs either KEYs, or --all with --space ID");
    if (args->all && !cli_space_named(&args->space))
        return cli_fail(CLI_USAGE, "rm", "--all needs a space; name it with --space ID, or --model NAME and the like");
    int code = args->dry_run ? cli_store_look(context, 1 << 20, &engine)
                             : cli_store_change(context, &(cli_store_args){0}, KVT_OPEN_NO_CREATE, &engine);
    if (code != CLI_OK)
        return code;
    victims v = {0};
    uint64_t kept = 0;
    code = remove_in(context, args, engine, &v);
    kvt_close(engine);
    if (code == CLI_OK && !args->dry_run)
        code = count_kept(context, args, &v, &kept);
    if (code == CLI_OK)
        code = report_removal(context, args, &v, kept);
    if (code == CLI_OK && kept != 0)
        code = cli_fail(CLI_PARTIAL, "rm",
                        "%" PRIu64 " record%s found again when the store was opened anew; run it again, or remove the "
                        "store's folder",
                        kept, kept == 1 ? " was" : "s were");
    kvt_free(v.records);
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
        "What is removed does not return: the store is opened again and looked through, and should a record still be\n"
        "there, it is counted and the command exits with 6. The file tier overwrites the bytes. In the rocks tier "
        "they\n"
        "stay, unreachable, until their generation goes. Records that were evicted before are not overwritten.",
    .examples = "kvtier rm 9c41d2 --yes\nkvtier rm --all --space 3f2a --dry-run",
    .options = rm_options,
    .option_count = sizeof rm_options / sizeof *rm_options,
    .args_bytes = sizeof(rm_args),
    .operands_max = OPERANDS_MAX,
    .run = run_rm,
};
