/* SPDX-License-Identifier: Apache-2.0
 *
 * How commands open a store and find things in it. Looking never changes a store; every refusal names the thing and the
 * way out, since this is where most mistakes of a command line come to light.
 */
#include "tools/cli_commands.h"

#include "tiers/tiers.h"
#include "tools/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    SCAN_BATCH = 256,
    KEY_DIGITS_MIN = 4,
    ROUNDING_BYTES = 4 << 20,   /* of a file tier, beside its segments */
    WAIT_SLICE_NS = 100000000,  /* how soon an interrupt is noticed */
    LOOK_ENTRIES_MAX = 4 << 20, /* records of a store that is looked at: mapped memory, touched only as far as used */
    LOOK_INFLIGHT_MAX = 16
};

/* ------------------------------------------------------------------ messages */

/* A failed open is both logged and returned; it is told once, by whoever gets the status. What is logged on the way to
 * an open that works is told when it has worked: the first line of it, since the others follow from that. */
static atomic_bool is_open;
static atomic_bool is_held_back; /* whoever sets it writes the text */
static char held_back[512];

static void tell_log(void *arg, kvt_log_level level, const char *message)
{
    const cli_context *context = arg;
    static const char *const names[] = {"error", "warning", "info", "debug"};
    bool loud = level <= KVT_LOG_WARN && !context->global.quiet && atomic_load(&is_open);
    if (loud || context->global.verbose)
        fprintf(stderr, "kvtier: %s: %s\n", names[level], message);
    else if (level == KVT_LOG_WARN && !atomic_exchange(&is_held_back, true))
        snprintf(held_back, sizeof held_back, "%s", message);
}

static int explain_open(kvt_status status, const char *store)
{
    const char *text = cli_reason(status);
    switch (status) {
    case KVT_MISS:
        return cli_fail(CLI_NOT_FOUND, store,
                        "there is no store here; check the path, or fill one with 'kvtier warm' or 'put'");
    case KVT_BUSY:
        return cli_fail(CLI_BUSY, store,
                        "%s; stop that process, look at a copy, or ask the engine in it (kvt_get_stats)", text);
    default:
        return cli_fail(cli_exit_of(status), store, "%s", text);
    }
}

/* --------------------------------------------------------------------- opening */

static int open_store(const cli_context *context, kvt_options *options, kvt_engine **out)
{
    if (options->lower != KVT_LOWER_NONE && context->global.store == NULL)
        return cli_fail(CLI_USAGE, "store", "none is named; give -s DIR or set KVTIER_STORE");
    options->store_path = options->lower != KVT_LOWER_NONE ? context->global.store : NULL;
    options->backend = context->global.backend;
    options->log = tell_log;
    options->log_arg = (void *)(uintptr_t)context;
    kvt_engine *engine = NULL;
    atomic_store(&is_open, false);
    atomic_store(&is_held_back, false);
    kvt_status status = kvt_open(options, &engine);
    if (status != KVT_OK)
        return explain_open(status, context->global.store);
    atomic_store(&is_open, true);
    if (atomic_load(&is_held_back) && !context->global.quiet && !context->global.verbose)
        fprintf(stderr, "kvtier: warning: %s\n", held_back);
    *out = engine;
    return CLI_OK;
}

int cli_store_look(const cli_context *context, uint64_t host_bytes, kvt_engine **out)
{
    kvt_options options = KVT_OPTIONS_INIT;
    options.flags = KVT_OPEN_READ_ONLY | KVT_OPEN_NO_CREATE;
    options.host_bytes_max = host_bytes;
    options.index_entries_max = LOOK_ENTRIES_MAX;
    options.inflight_max = LOOK_INFLIGHT_MAX;
    return open_store(context, &options, out);
}

/* ---- a store that may have to be made ---- */

typedef enum before { BEFORE_NOTHING, BEFORE_EMPTY, BEFORE_FILES } before;

static before look_before(const char *store)
{
    DIR *folder = store != NULL ? opendir(store) : NULL;
    if (folder == NULL)
        return store != NULL && errno == ENOENT ? BEFORE_NOTHING : BEFORE_FILES;
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(folder)) != NULL;)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    return empty ? BEFORE_EMPTY : BEFORE_FILES;
}

/* Segments as the tier's detail tells them; 0: it does not. */
static uint64_t segment_bytes_of(const kvt_tier_stats *tier)
{
    static const char mark[] = "segments of ";
    const char *at = strstr(tier->detail, mark);
    return at != NULL ? strtoull(at + sizeof mark - 1, NULL, 10) << 20 : 0;
}

/* Sizes that a store was not made with: it keeps its own. A size is rounded down to whole segments when it is made. */
static void warn_of_ignored(const cli_context *context, const cli_store_args *args, kvt_engine *engine)
{
    char own[CLI_NUMBER_BYTES];
    kvt_stats stats = {.struct_size = sizeof stats};
    if (context->global.quiet || kvt_get_stats(engine, &stats) != KVT_OK)
        return;
    const kvt_tier_stats *tier = &stats.tiers[stats.tiers[KVT_TIER_FILE].present ? KVT_TIER_FILE : KVT_TIER_ROCKS];
    uint64_t capacity = tier->capacity_bytes, segment = segment_bytes_of(tier);
    uint64_t slack = capacity / 4 + ROUNDING_BYTES;
    if (args->disk_bytes != 0 && (args->disk_bytes < capacity || args->disk_bytes - capacity > slack)) {
        cli_format_bytes(own, capacity, false);
        cli_warn(context->global.store, "the store is there already and keeps its size, %s; --disk-bytes is ignored",
                 own);
    }
    if (args->segment_bytes != 0 && args->segment_bytes != segment) {
        cli_format_bytes(own, segment, false);
        cli_warn(context->global.store,
                 "the store is there already and keeps its segments, %s; --segment-bytes is ignored",
                 segment != 0 ? own : "if it has any");
    }
}

int cli_store_change(const cli_context *context, const cli_store_args *args, uint32_t flags, kvt_engine **out)
{
    static const uint32_t lowers[] = {KVT_LOWER_DEFAULT, KVT_LOWER_FILE, KVT_LOWER_ROCKS};
    const char *store = context->global.store;
    kvt_options options = KVT_OPTIONS_INIT;
    options.flags = flags | (args->reset_corrupt ? KVT_OPEN_RESET_CORRUPT : 0u);
    options.host_bytes_max = args->host_bytes;
    options.disk_bytes_max = args->disk_bytes;
    options.segment_bytes = args->segment_bytes;
    options.lower = lowers[args->tier];
    options.io = args->io;
    kvt_tier_id tier;
    bool known = store != NULL && kvt_tier_detect(store, &tier) == KVT_OK;
    options.blob_bytes_max = known ? 0 : args->blob_bytes; /* a new store is told what it will have to hold */
    before there = look_before(store);
    int code = open_store(context, &options, out);
    if (code != CLI_OK && code != CLI_BUSY && there != BEFORE_FILES)
        kvt_scratch_unmake(store, there == BEFORE_NOTHING);
    if (code == CLI_OK && known)
        warn_of_ignored(context, args, *out);
    return code;
}

static int open_none(const cli_context *context, const char *backend, kvt_engine **out)
{
    cli_context other = *context;
    other.global.backend = backend;
    kvt_options options = KVT_OPTIONS_INIT;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = 1 << 20;
    return open_store(&other, &options, out);
}

int cli_store_none(const cli_context *context, kvt_engine **out)
{
    return open_none(context, context->global.backend, out);
}

int cli_store_check_space(const cli_context *context, const kvt_space_options *options, const char *thing,
                          uint64_t *out_blob_bytes)
{
    kvt_engine *engine = NULL;
    kvt_space *space;
    kvt_space_info info;
    int code = open_none(context, "cpu", &engine);
    if (code != CLI_OK)
        return code;
    kvt_status status = kvt_space_open(engine, options, &space);
    if (status == KVT_OK) {
        status = kvt_space_get_info(space, &info);
        *out_blob_bytes = info.blob_bytes;
        kvt_space_close(space);
    }
    if (status != KVT_OK)
        code = cli_fail_status(status, thing);
    kvt_close(engine);
    return code;
}

int cli_store_wait(const cli_context *context, kvt_engine *engine, kvt_ticket ticket, kvt_completion *out)
{
    bool cancelled = false;
    for (;;) {
        kvt_status status = kvt_wait(engine, ticket, WAIT_SLICE_NS, out);
        if (status == KVT_OK)
            return CLI_OK;
        if (status != KVT_TIMEOUT)
            return cli_fail_status(status, context->global.store);
        if (cli_interrupted() && !cancelled) {
            (void)kvt_cancel(engine, ticket); /* KVT_MISS: it has completed meanwhile, which is just as well */
            cancelled = true;
        }
    }
}

/* --------------------------------------------------------------------- finding */

/* Is `text` the beginning of a key's 32 digits? Upper-case digits are taken too. */
bool cli_key_starts_with(const kvt_key *key, const char *text)
{
    char digits[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(key, digits);
    for (size_t i = 0; text[i] != '\0'; i++)
        if ((text[i] | 0x20) != (digits[i] | 0x20))
            return false;
    return true;
}

int cli_check_digits(const char *text, const char *what)
{
    size_t length = strlen(text);
    if (strspn(text, "0123456789abcdefABCDEF") != length || length >= KVT_KEY_TEXT_BYTES)
        return cli_fail(CLI_USAGE, text, "is not %s; give its hexadecimal digits, at most %d", what,
                        KVT_KEY_TEXT_BYTES - 1);
    if (length < KEY_DIGITS_MIN)
        return cli_fail(CLI_USAGE, text, "is too short to name %s; give at least %d digits", what, KEY_DIGITS_MIN);
    return CLI_OK;
}

int cli_store_find(kvt_engine *engine, kvt_space *space, const char *text, kvt_record_info *out)
{
    kvt_record_info records[SCAN_BATCH];
    uint64_t cursor = 0, found = 0;
    int code = cli_check_digits(text, "a key");
    if (code != CLI_OK)
        return code;
    do {
        size_t count;
        kvt_status status = kvt_scan(engine, space, &cursor, records, SCAN_BATCH, &count);
        if (status != KVT_OK)
            return cli_fail_status(status, text);
        for (size_t i = 0; i < count; i++)
            if (cli_key_starts_with(&records[i].key, text)) {
                *out = records[i];
                found++;
            }
    } while (cursor != 0);
    if (found == 0)
        return cli_fail(CLI_NOT_FOUND, text, "no record has this key; 'kvtier ls' lists them");
    if (found > 1)
        return cli_fail(CLI_USAGE, text,
                        "%" PRIu64 " records have keys that start like this; give more digits, or a space", found);
    return CLI_OK;
}

bool cli_store_healthy(const kvt_stats *stats)
{
    for (uint32_t id = 0; id < 3; id++)
        if (stats->tiers[id].present && (stats->tiers[id].state > 1 || stats->tiers[id].errors != 0))
            return false;
    return true;
}

/* ---------------------------------------------------------------------- naming */

void cli_tiers_text(uint32_t tiers, char *text)
{
    static const char *const names[] = {"host", "file", "rocks"};
    size_t used = 0;
    for (uint32_t id = 0; id < 3; id++)
        if ((tiers & KVT_TIER_BIT(id)) != 0)
            used += (size_t)snprintf(text + used, CLI_NUMBER_BYTES - used, "%s%s", used != 0 ? "+" : "", names[id]);
    text[used] = '\0';
}

const char *cli_codec_name(uint32_t codec)
{
    static const char *const names[] = {"raw", "zstd", "xpack", "rans"}; /* by kvt_codec_id */
    return codec < sizeof names / sizeof *names ? names[codec] : "unknown";
}
