/* SPDX-License-Identifier: Apache-2.0
 *
 * How commands open a store and find things in it. Looking never changes a store; every refusal names the thing and the
 * way out, since this is where most mistakes of a command line come to light.
 */
#include "tools/cli_commands.h"

#include <inttypes.h>
#include <stdatomic.h>

enum {
    SCAN_BATCH = 256,
    SPACES_FIRST = 64,
    KEY_DIGITS_MIN = 4,
    WAIT_SLICE_NS = 100000000,  /* how soon an interrupt is noticed */
    LOOK_ENTRIES_MAX = 4 << 20, /* records of a store that is looked at: mapped memory, touched only as far as used */
    LOOK_INFLIGHT_MAX = 16
};

/* ------------------------------------------------------------------ messages */

/* A failed open is both logged and returned; it is told once, by whoever gets the status. */
static atomic_bool is_open;

static void tell_log(void *arg, kvt_log_level level, const char *message)
{
    const cli_context *context = arg;
    static const char *const names[] = {"error", "warning", "info", "debug"};
    bool loud = level <= KVT_LOG_WARN && !context->global.quiet && (level == KVT_LOG_WARN || atomic_load(&is_open));
    if (loud || context->global.verbose)
        fprintf(stderr, "kvtier: %s: %s\n", names[level], message);
}

static int explain_open(kvt_status status, const char *store)
{
    const char *why = kvt_last_error();
    const char *text = *why != '\0' ? why : kvt_status_text(status);
    switch (status) {
    case KVT_MISS:
        return cli_fail(CLI_NOT_FOUND, store,
                        "there is no store here; check the path, or fill one with 'kvtier warm' or 'put'");
    case KVT_BUSY:
        return cli_fail(CLI_BUSY, store, "%s; stop that process, or look at a copy", text);
    case KVT_CORRUPT:
        return cli_fail(CLI_CORRUPT, store, "%s", text);
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
    kvt_engine *engine;
    kvt_status status = kvt_open(options, &engine);
    if (status != KVT_OK)
        return explain_open(status, context->global.store);
    atomic_store(&is_open, true);
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

int cli_store_change(const cli_context *context, const cli_store_args *args, uint32_t flags, kvt_engine **out)
{
    static const uint32_t lowers[] = {KVT_LOWER_DEFAULT, KVT_LOWER_FILE, KVT_LOWER_ROCKS};
    kvt_options options = KVT_OPTIONS_INIT;
    options.flags = flags;
    options.host_bytes_max = args->host_bytes;
    options.disk_bytes_max = args->disk_bytes;
    options.segment_bytes = args->segment_bytes;
    options.write_bytes_per_day = args->write_bytes_per_day;
    options.lower = lowers[args->tier];
    options.io = args->io;
    return open_store(context, &options, out);
}

int cli_store_none(const cli_context *context, kvt_engine **out)
{
    kvt_options options = KVT_OPTIONS_INIT;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = 1 << 20;
    return open_store(context, &options, out);
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
static bool starts_with(const kvt_key *key, const char *text)
{
    char digits[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(key, digits);
    for (size_t i = 0; text[i] != '\0'; i++)
        if ((text[i] | 0x20) != (digits[i] | 0x20))
            return false;
    return true;
}

static int check_digits(const char *text, const char *what)
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
    int code = check_digits(text, "a key");
    if (code != CLI_OK)
        return code;
    do {
        size_t count;
        kvt_status status = kvt_scan(engine, space, &cursor, records, SCAN_BATCH, &count);
        if (status != KVT_OK)
            return cli_fail_status(status, text);
        for (size_t i = 0; i < count; i++)
            if (starts_with(&records[i].key, text)) {
                *out = records[i];
                found++;
            }
    } while (cursor != 0);
    if (found == 0)
        return cli_fail(CLI_NOT_FOUND, text, "no record has this key; 'kvtier ls' lists them");
    if (found > 1)
        return cli_fail(CLI_USAGE, text,
                        "%" PRIu64 " records have keys that start like this; give more digits, or --space", found);
    return CLI_OK;
}

int cli_store_spaces(kvt_engine *engine, kvt_key **out, size_t *out_count)
{
    size_t capacity = SPACES_FIRST, count = 0;
    kvt_key *ids = NULL;
    for (;;) {
        kvt_free(ids);
        ids = kvt_alloc_array(capacity, sizeof *ids);
        if (ids == NULL)
            return cli_fail(CLI_FAILURE, "spaces", "out of memory");
        kvt_status status = kvt_space_list(engine, ids, capacity, &count);
        if (status != KVT_OK) {
            kvt_free(ids);
            return cli_fail_status(status, "spaces");
        }
        if (count <= capacity)
            break;
        capacity = count; /* more than there was room for */
    }
    *out = ids;
    *out_count = count;
    return CLI_OK;
}

bool cli_space_field(const char *text, const char *name, char *value, size_t bytes)
{
    size_t length = strlen(name);
    while (text != NULL && *text != '\0') {
        const char *end = strchr(text, '\n');
        size_t line = end != NULL ? (size_t)(end - text) : strlen(text);
        if (line > length && memcmp(text, name, length) == 0 && text[length] == '=') {
            snprintf(value, bytes, "%.*s", (int)(line - length - 1), text + length + 1);
            return true;
        }
        text = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static bool space_fits(kvt_space *space, const cli_space_args *args)
{
    kvt_space_info info;
    char model[KVT_NAME_BYTES_MAX];
    if (kvt_space_get_info(space, &info) != KVT_OK)
        return false;
    if (args->space != NULL && !starts_with(&info.id, args->space))
        return false;
    return args->model == NULL ||
           (cli_space_field(info.text, "model", model, sizeof model) && strcmp(model, args->model) == 0);
}

static int no_space(const cli_space_args *args, size_t known, size_t fitting)
{
    const char *thing = args->space != NULL ? args->space : args->model != NULL ? args->model : "space";
    if (known == 0)
        return cli_fail(CLI_NOT_FOUND, thing, "the store holds no space yet; fill it with 'kvtier warm' or 'put'");
    if (fitting == 0)
        return cli_fail(CLI_NOT_FOUND, thing, "no space fits; 'kvtier ns' lists the %zu of this store", known);
    return cli_fail(CLI_USAGE, thing, "%zu spaces fit; name one with --space, 'kvtier ns' lists them", fitting);
}

int cli_store_space(kvt_engine *engine, const cli_space_args *args, kvt_space **out)
{
    kvt_key *ids = NULL;
    size_t count = 0, fitting = 0;
    kvt_space *chosen = NULL;
    int code = args->space != NULL ? check_digits(args->space, "a space") : CLI_OK;
    if (code == CLI_OK)
        code = cli_store_spaces(engine, &ids, &count);
    if (code != CLI_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        kvt_space *space;
        if (kvt_space_find(engine, &ids[i], &space) != KVT_OK)
            continue; /* records whose description is lost: nothing can be asked of them */
        bool fits = space_fits(space, args);
        fitting += fits;
        if (fits && chosen == NULL)
            chosen = space;
        else
            kvt_space_close(space);
    }
    kvt_free(ids);
    if (fitting == 1) {
        *out = chosen;
        return CLI_OK;
    }
    kvt_space_close(chosen);
    return no_space(args, count, fitting);
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
    if (used == 0)
        snprintf(text, CLI_NUMBER_BYTES, "none");
}

const char *cli_codec_name(uint32_t codec)
{
    return codec == KVT_CODEC_RAW ? "raw" : codec == KVT_CODEC_ZSTD ? "zstd" : "unknown";
}
