/* SPDX-License-Identifier: Apache-2.0
 *
 * Checking a store: verify reads every record and compares it with its hash.
 */
#include "tools/cli_commands.h"
#include "tools/progress.h"

#include <stddef.h>

enum { VERIFY_BATCH = 16 };
#define VERIFY_HOST_BYTES (UINT64_C(192) << 20)

typedef struct verify_args {
    cli_space_args space;
    bool repair;
} verify_args;

static const cli_option verify_options[] = {
    CLI_SPACE_OPTIONS(verify_args, space, NULL),
    {.name = "repair",
     .kind = CLI_FLAG,
     .offset = offsetof(verify_args, repair),
     .text = "Open the store for changes and remove the damaged records"},
};

typedef struct bad_record {
    kvt_record_info record;
    kvt_status status;
} bad_record;

typedef struct verdict {
    uint64_t records, bytes, damaged, unreadable;
    bool complete;   /* the walk came to its end */
    bad_record *bad; /* the first of them, for the report */
    size_t bad_count;
} verdict;
enum { BAD_LISTED_MAX = 1000 };

static void judge(verdict *v, const kvt_record_info *record, kvt_status status)
{
    v->records++;
    v->bytes += record->stored_bytes;
    if (status == KVT_OK || status == KVT_MISS) /* gone meanwhile is no damage */
        return;
    if (status == KVT_CORRUPT)
        v->damaged++;
    else
        v->unreadable++;
    if (v->bad_count < BAD_LISTED_MAX)
        v->bad[v->bad_count++] = (bad_record){*record, status};
}

static kvt_status verify_all(kvt_engine *engine, kvt_space *space, kvt_progress *progress, verdict *v)
{
    kvt_record_info records[VERIFY_BATCH];
    kvt_status statuses[VERIFY_BATCH];
    uint64_t cursor = 0;
    do {
        size_t count = 0;
        kvt_status status = kvt_verify(engine, space, &cursor, records, statuses, VERIFY_BATCH, &count);
        if (status < 0 && status != KVT_CORRUPT)
            return status;
        for (size_t i = 0; i < count; i++)
            judge(v, &records[i], statuses[i]);
        kvt_progress_set(progress, v->bytes);
    } while (cursor != 0 && !cli_interrupted());
    v->complete = cursor == 0;
    return KVT_OK;
}

static const cli_column bad_columns[] = {
    {"key", "KEY", CLI_UNIT_NONE, false},
    {"space", "SPACE", CLI_UNIT_NONE, false},
    {"stored_bytes", "STORED", CLI_UNIT_BYTES, false},
    {"status", "STATUS", CLI_UNIT_NONE, false},
};

static int report_verdict(const cli_context *context, const verify_args *args, const verdict *v, double seconds)
{
    char text[KVT_KEY_TEXT_BYTES];
    cli_report *report = cli_report_open(context, "kvtier.verify/1");
    cli_report_u64(report, "checked_records", "checked", CLI_UNIT_NONE, v->records);
    cli_report_u64(report, "checked_bytes", "bytes", CLI_UNIT_BYTES, v->bytes);
    cli_report_real(report, "seconds", "time", CLI_UNIT_SECONDS, seconds);
    cli_report_real(report, "bytes_per_second", "speed", CLI_UNIT_RATE, seconds > 0 ? (double)v->bytes / seconds : 0);
    cli_report_u64(report, "damaged_records", "damaged", CLI_UNIT_NONE, v->damaged);
    cli_report_u64(report, "unreadable_records", "unreadable", CLI_UNIT_NONE, v->unreadable);
    cli_report_bool(report, "repaired", args->repair ? "damage removed" : NULL, args->repair);
    cli_report_bool(report, "complete", v->complete ? NULL : "complete", v->complete);
    if (v->bad_count != 0 || context->global.format > CLI_FORMAT_WIDE) {
        cli_report_rows(report, "bad_records", NULL, bad_columns, sizeof bad_columns / sizeof *bad_columns);
        for (size_t i = 0; i < v->bad_count; i++) {
            kvt_key_to_text(&v->bad[i].record.key, text);
            cli_row_text(report, text);
            kvt_key_to_text(&v->bad[i].record.space, text);
            cli_row_text(report, text);
            cli_row_u64(report, v->bad[i].record.stored_bytes);
            cli_row_text(report, kvt_status_name(v->bad[i].status));
        }
        cli_report_rows_end(report);
    }
    return cli_report_close(report);
}

/* Stored bytes that will be read: of the space, or of the tiers on disk. */
static uint64_t expected_bytes(kvt_engine *engine, kvt_space *space)
{
    kvt_space_info info;
    kvt_stats stats = {.struct_size = sizeof stats};
    if (space != NULL)
        return kvt_space_get_info(space, &info) == KVT_OK ? info.stored_bytes : 0;
    if (kvt_get_stats(engine, &stats) != KVT_OK)
        return 0;
    return stats.tiers[KVT_TIER_FILE].record_bytes + stats.tiers[KVT_TIER_ROCKS].record_bytes;
}

/* What was damaged is forgotten by now; a removal makes that last, for all of it at once. */
static void make_repair_last(kvt_engine *engine, const verdict *v)
{
    for (size_t i = 0; i < v->bad_count; i++) {
        kvt_space *space;
        if (v->bad[i].status != KVT_CORRUPT || kvt_space_find(engine, &v->bad[i].record.space, &space) != KVT_OK)
            continue;
        kvt_status status = kvt_remove(space, &v->bad[i].record.key, 1, NULL);
        kvt_space_close(space);
        if (status != KVT_OK && status != KVT_MISS)
            cli_warn("verify", "the damaged records may be found again when the store is opened anew: %s",
                     cli_reason(status));
        return;
    }
}

static int verify_store(const cli_context *context, const verify_args *args, kvt_engine *engine)
{
    kvt_space *space = NULL;
    kvt_progress progress;
    verdict v = {.bad = kvt_alloc_array(BAD_LISTED_MAX, sizeof *v.bad)};
    int code = v.bad == NULL ? cli_fail(CLI_FAILURE, "verify", "out of memory") : CLI_OK;
    if (code == CLI_OK)
        code = cli_store_space_if_named(engine, &args->space, &space);
    if (code == CLI_OK) {
        uint64_t begin = kvt_now_ns();
        kvt_progress_begin(&progress, "verifying", expected_bytes(engine, space), true, context->global.quiet);
        kvt_status status = verify_all(engine, space, &progress, &v);
        kvt_progress_end(&progress);
        if (args->repair && status == KVT_OK)
            make_repair_last(engine, &v);
        code = status == KVT_OK ? report_verdict(context, args, &v, (double)(kvt_now_ns() - begin) / 1e9)
                                : cli_fail_status(status, context->global.store);
    }
    if (code == CLI_OK)
        code = v.damaged != 0 ? CLI_CORRUPT : v.unreadable != 0 ? CLI_FAILURE : !v.complete ? CLI_INTERRUPTED : CLI_OK;
    kvt_free(v.bad);
    kvt_space_close(space);
    return code;
}

static int run_verify(const cli_context *context, const void *given)
{
    const verify_args *args = given;
    kvt_engine *engine;
    cli_catch_interrupt();
    cli_store_args store = {.host_bytes = VERIFY_HOST_BYTES};
    int code = args->repair ? cli_store_change(context, &store, KVT_OPEN_NO_CREATE, &engine)
                            : cli_store_look(context, VERIFY_HOST_BYTES, &engine);
    if (code != CLI_OK)
        return code;
    code = verify_store(context, args, engine);
    kvt_close(engine);
    return code;
}

const cli_command cli_command_verify = {
    .name = "verify",
    .group = "care",
    .summary = "read every record and compare it with its hash",
    .operands = "",
    .description =
        "Reads all records of the store, or of one space, and checks each against the hash that was taken when it\n"
        "was stored. Damaged records are listed; a running engine answers them as a miss. --repair removes them for\n"
        "good, so that the next verify finds none.\n\n"
        "Exits with 0 when all is well, with 4 when records are damaged, with 1 when some cannot be read.",
    .examples = "kvtier verify -s /var/lib/kvtier\nkvtier verify --repair --json",
    .options = verify_options,
    .option_count = sizeof verify_options / sizeof *verify_options,
    .args_bytes = sizeof(verify_args),
    .run = run_verify,
};
