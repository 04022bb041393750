/* SPDX-License-Identifier: Apache-2.0
 *
 * Single records in and out: get, put, rm. What is read is written aside and renamed, so that a file is never half a
 * blob; what is removed is counted and confirmed first.
 */
#include "tools/cli_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for the largest record on its way in, and its decoded blob. */
#define MOVE_HOST_BYTES (UINT64_C(192) << 20)

/* One item through the engine; its completion for the cause of a miss. */
static int run_item(const cli_context *context, kvt_engine *engine, kvt_space *space, bool put, kvt_item *item,
                    kvt_completion *out)
{
    kvt_batch batch = KVT_BATCH_INIT;
    kvt_ticket ticket;
    batch.items = item;
    batch.count = 1;
    batch.flags = put ? KVT_REQUEST_WRITE_THROUGH : 0;
    batch.timeout_ns = context->global.timeout_ns;
    kvt_status status = put ? kvt_put(space, &batch, &ticket) : kvt_get(space, &batch, &ticket);
    if (status != KVT_OK)
        return cli_fail_status(status, put ? "put" : "get");
    return cli_store_wait(context, engine, ticket, out);
}

/* A miss or refusal says why in its cause; the exit code follows that. */
static int fail_item(const kvt_item *item, const kvt_completion *completion, const char *thing)
{
    kvt_status cause = completion->cause != KVT_OK ? completion->cause : item->status;
    if (completion->system_error != 0)
        return cli_fail(cli_exit_of(cause), thing, "%s: %s", kvt_status_text(cause),
                        strerror(completion->system_error));
    return cli_fail(cli_exit_of(cause), thing, "%s", kvt_status_text(cause));
}

/* ------------------------------------------------------------------------- get */

typedef struct get_args {
    cli_space_args space;
    const char *file, *prompt_tokens;
    uint64_t chunk;
} get_args;

static const cli_option get_options[] = {
    {.name = "file",
     .letter = 'f',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(get_args, file),
     .text = "Where to write the blob; default standard output"},
    {.name = "prompt-tokens",
     .letter = 't',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(get_args, prompt_tokens),
     .text = "Instead of a key: token ids of the prompt (its first, if the file holds several)"},
    {.name = "chunk",
     .kind = CLI_COUNT,
     .value = "I",
     .offset = offsetof(get_args, chunk),
     .text = "Which chunk of the prompt, from 0; default 0"},
    CLI_SPACE_OPTIONS(get_args, space, "KVTIER_SALT"),
};

static bool write_file(FILE *out, const void *bytes, size_t count)
{
    bool written = fwrite(bytes, 1, count, out) == count;
    return fflush(out) == 0 && written;
}

static int write_blob(const cli_context *context, const char *path, const void *bytes, size_t count)
{
    if (path == NULL || strcmp(path, "-") == 0) {
        if (isatty(fileno(context->out)))
            return cli_fail(CLI_USAGE, "standard output", "is a terminal and the blob is binary; name a file with -f");
        return write_file(context->out, bytes, count) ? CLI_OK
                                                      : cli_fail(CLI_FAILURE, "standard output", "%s", strerror(errno));
    }
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) { /* a pipe or device cannot be replaced by renaming */
        FILE *out = fopen(path, "wbe");
        bool written = out != NULL && write_file(out, bytes, count);
        int error = errno;
        if (out != NULL)
            fclose(out);
        return written ? CLI_OK : cli_fail(CLI_FAILURE, path, "cannot be written: %s", strerror(error));
    }
    char aside[4096];
    if (snprintf(aside, sizeof aside, "%s.%d.part", path, (int)getpid()) >= (int)sizeof aside)
        return cli_fail(CLI_USAGE, path, "is too long a name");
    FILE *out = fopen(aside, "wbxe");
    bool written = out != NULL && write_file(out, bytes, count);
    int error = errno;
    if (out != NULL && fclose(out) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written && rename(aside, path) != 0) {
        written = false;
        error = errno;
    }
    if (!written && out != NULL)
        unlink(aside);
    return written ? CLI_OK : cli_fail(CLI_FAILURE, path, "cannot be written: %s", strerror(error));
}

static int fetch(const cli_context *context, const get_args *args, kvt_engine *engine, const kvt_record_info *record)
{
    char thing[KVT_KEY_TEXT_BYTES];
    kvt_space *space;
    kvt_key_to_text(&record->key, thing);
    kvt_status status = kvt_space_find(engine, &record->space, &space);
    if (status != KVT_OK)
        return cli_fail_status(status, thing);
    kvt_item item = {.key = record->key, .bytes = record->raw_bytes, .buffer = kvt_alloc(record->raw_bytes)};
    kvt_completion completion;
    int code = item.buffer == NULL
                   ? cli_fail(CLI_FAILURE, thing, "out of memory for %" PRIu64 " bytes", record->raw_bytes)
                   : run_item(context, engine, space, false, &item, &completion);
    if (code == CLI_OK)
        code = item.status == KVT_OK ? write_blob(context, args->file, item.buffer, item.bytes)
                                     : fail_item(&item, &completion, thing);
    kvt_free(item.buffer);
    kvt_space_close(space);
    return code;
}

/* The record of chunk `args->chunk` of the prompt. */
static int find_chunk(const get_args *args, kvt_engine *engine, const kvt_prompts *prompts, kvt_record_info *out)
{
    kvt_space *space;
    uint64_t count;
    size_t chunks = 0;
    char text[KVT_KEY_TEXT_BYTES];
    const uint32_t *tokens = kvt_prompt_tokens(prompts, 0, &count);
    int code = cli_store_space(engine, &args->space, &space);
    if (code != CLI_OK)
        return code;
    kvt_status status = kvt_chunk_keys(space, tokens, count, NULL, 0, &chunks);
    kvt_key *keys = status == KVT_OK && chunks != 0 ? kvt_alloc_array(chunks, sizeof *keys) : NULL;
    if (status != KVT_OK)
        code = cli_fail_status(status, args->prompt_tokens);
    else if (args->chunk >= chunks)
        code = cli_fail(CLI_NOT_FOUND, args->prompt_tokens, "the prompt has %zu full chunk%s; --chunk counts from 0",
                        chunks, cli_plural(chunks));
    else if (keys == NULL)
        code = cli_fail(CLI_FAILURE, args->prompt_tokens, "out of memory");
    else if ((status = kvt_chunk_keys(space, tokens, count, keys, chunks, &chunks)) != KVT_OK)
        code = cli_fail_status(status, args->prompt_tokens);
    if (code == CLI_OK) {
        kvt_key_to_text(&keys[args->chunk], text);
        code = cli_store_find(engine, space, text, out);
    }
    kvt_free(keys);
    kvt_space_close(space);
    return code;
}

static int find_named(const cli_context *context, const get_args *args, kvt_engine *engine, kvt_record_info *out)
{
    kvt_space *space;
    int code = cli_store_space_if_named(engine, &args->space, &space);
    if (code == CLI_OK)
        code = cli_store_find(engine, space, context->operands.items[0], out);
    kvt_space_close(space);
    return code;
}

static int run_get(const cli_context *context, const void *given)
{
    const get_args *args = given;
    kvt_prompts prompts = {0};
    kvt_engine *engine;
    kvt_record_info record;
    if ((context->operands.count == 0) == (args->prompt_tokens == NULL))
        return cli_fail(CLI_USAGE, "get", "needs either a KEY or --prompt-tokens FILE");
    int code = args->prompt_tokens != NULL ? cli_prompts_load(args->prompt_tokens, &prompts) : CLI_OK;
    if (code != CLI_OK)
        return code;
    cli_catch_interrupt();
    code = cli_store_look(context, MOVE_HOST_BYTES, &engine);
    if (code == CLI_OK) {
        code = args->prompt_tokens != NULL ? find_chunk(args, engine, &prompts, &record)
                                           : find_named(context, args, engine, &record);
        if (code == CLI_OK)
            code = fetch(context, args, engine, &record);
        kvt_close(engine);
    }
    kvt_prompts_free(&prompts);
    return code;
}

const cli_command cli_command_get = {
    .name = "get",
    .group = "look",
    .summary = "write the bytes of a record to a file",
    .operands = "[KEY]",
    .description =
        "Reads a record, checks it, decodes it and writes the blob: [layer][plane][token][head][dim], little endian. "
        "The record is named by its key, which may be shortened, or by a prompt and the number of a chunk.\n\n"
        "Exits with 3 when it is not held and with 4 when its bytes fail their check.",
    .examples = "kvtier get 9c41d2 -f chunk.bin\nkvtier get --prompt-tokens ids.jsonl --chunk 3 -f chunk.bin",
    .options = get_options,
    .option_count = sizeof get_options / sizeof *get_options,
    .args_bytes = sizeof(get_args),
    .operands_max = 1,
    .run = run_get,
};

/* ------------------------------------------------------------------------- put */

typedef struct put_args {
    cli_store_args store;
    const char *file, *space, *model, *revision;
} put_args;

static const cli_option put_options[] = {
    {.name = "file",
     .letter = 'f',
     .kind = CLI_TEXT,
     .value = "FILE",
     .offset = offsetof(put_args, file),
     .text = "The blob; default standard input"},
    {.name = "space",
     .kind = CLI_TEXT,
     .value = "ID",
     .offset = offsetof(put_args, space),
     .text = "An existing space, by its id or its first digits"},
    {.name = "model",
     .kind = CLI_TEXT,
     .value = "NAME",
     .offset = offsetof(put_args, model),
     .text = "A space of opaque blobs under this name; made if it is new"},
    {.name = "revision",
     .kind = CLI_TEXT,
     .value = "TEXT",
     .offset = offsetof(put_args, revision),
     .text = "Revision that belongs to --model"},
    CLI_STORE_OPTIONS(put_args, store),
};

/* The whole file, at most a blob. */
static int read_blob(const char *path, uint8_t **out, uint64_t *out_bytes)
{
    bool standard = path == NULL || strcmp(path, "-") == 0;
    const char *thing = standard ? "standard input" : path;
    FILE *in = standard ? stdin : fopen(path, "rbe");
    if (in == NULL)
        return cli_fail(CLI_FAILURE, thing, "cannot be opened: %s", strerror(errno));
    uint8_t *bytes = kvt_alloc(KVT_BLOB_BYTES_MAX + 1);
    size_t count = bytes != NULL ? fread(bytes, 1, KVT_BLOB_BYTES_MAX + 1, in) : 0;
    int code = CLI_OK;
    if (bytes == NULL)
        code = cli_fail(CLI_FAILURE, thing, "out of memory");
    else if (ferror(in))
        code = cli_fail(CLI_FAILURE, thing, "cannot be read: %s", strerror(errno));
    else if (count == 0)
        code = cli_fail(CLI_USAGE, thing, "is empty; a blob has at least one byte");
    else if (count > KVT_BLOB_BYTES_MAX)
        code = cli_fail(CLI_USAGE, thing, "is larger than the largest blob, %" PRIu64 " bytes; split it",
                        KVT_BLOB_BYTES_MAX);
    if (!standard)
        fclose(in);
    if (code != CLI_OK) {
        kvt_free(bytes);
        return code;
    }
    *out = bytes;
    *out_bytes = count;
    return CLI_OK;
}

static kvt_space_options put_space(const put_args *args)
{
    kvt_space_options options = KVT_SPACE_OPTIONS_INIT;
    options.model = args->model;
    options.revision = args->revision;
    return options;
}

static int open_put_space(const put_args *args, kvt_engine *engine, kvt_space **out)
{
    if (args->space != NULL)
        return cli_store_space(engine, &(cli_space_args){.space = args->space}, out);
    kvt_space_options options = put_space(args);
    kvt_status status = kvt_space_open(engine, &options, out);
    return status == KVT_OK ? CLI_OK : cli_fail_status(status, args->model);
}

/* A store is only made for a blob that it can take, in a space that can be. */
static int open_put_store(const cli_context *context, const put_args *args, uint64_t bytes, kvt_engine **out)
{
    uint64_t blob_bytes;
    cli_store_args store = args->store;
    kvt_space_options options = put_space(args);
    store.blob_bytes = bytes;
    if (args->space != NULL) /* a space that exists is in a store that exists */
        return cli_store_change(context, &store, KVT_OPEN_NO_CREATE, out);
    int code = cli_store_check_space(context, &options, args->model, &blob_bytes);
    return code == CLI_OK ? cli_store_change(context, &store, 0, out) : code;
}

/* Why a put was refused, and the way out where the cause alone does not say it. */
static int fail_put(const kvt_item *item, const kvt_completion *completion, const char *key)
{
    kvt_status cause = completion->cause != KVT_OK ? completion->cause : item->status;
    if (cause == KVT_EXISTS)
        return cli_fail(
            CLI_INCOMPATIBLE, key,
            "other bytes are held under this key; remove them with 'kvtier rm', or give another key, --model "
            "or --revision");
    if (cause == KVT_NOSPACE)
        return cli_fail(CLI_FAILURE, key,
                        "the store has no room for %" PRIu64 " bytes; put it into one with a larger --disk-bytes or "
                        "--segment-bytes",
                        item->bytes);
    return fail_item(item, completion, key);
}

static int put_blob(const cli_context *context, const put_args *args, kvt_engine *engine, kvt_item *item)
{
    kvt_space *space;
    kvt_completion completion;
    char tiers[CLI_NUMBER_BYTES];
    int code = open_put_space(args, engine, &space);
    if (code != CLI_OK)
        return code;
    code = run_item(context, engine, space, true, item, &completion);
    if (code == CLI_OK && item->status != KVT_OK)
        code = fail_put(item, &completion, context->operands.items[0]);
    if (code == CLI_OK) {
        cli_report *report = cli_report_open(context, "kvtier.put/1");
        cli_tiers_text(item->tiers, tiers);
        cli_report_text(report, "key", "key", context->operands.items[0]);
        cli_report_u64(report, "bytes", "bytes", CLI_UNIT_BYTES, item->bytes);
        cli_report_words(report, "tiers", "tiers", tiers);
        code = cli_report_close(report);
    }
    kvt_space_close(space);
    return code;
}

static int run_put(const cli_context *context, const void *given)
{
    const put_args *args = given;
    kvt_engine *engine;
    kvt_item item = {0};
    uint8_t *bytes = NULL;
    if (!kvt_key_from_text(context->operands.items[0], &item.key))
        return cli_fail(CLI_USAGE, context->operands.items[0], "is no key; give exactly 32 hexadecimal digits");
    if ((args->space == NULL) == (args->model == NULL))
        return cli_fail(CLI_USAGE, "put", "needs a space; give either --space ID or --model NAME");
    int code = read_blob(args->file, &bytes, &item.bytes);
    if (code != CLI_OK)
        return code;
    item.buffer = bytes;
    cli_catch_interrupt();
    code = open_put_store(context, args, item.bytes, &engine);
    if (code == CLI_OK) {
        code = put_blob(context, args, engine, &item);
        kvt_close(engine);
    }
    kvt_free(bytes);
    return code;
}

const cli_command cli_command_put = {
    .name = "put",
    .group = "change",
    .summary = "store a file as a record",
    .operands = "KEY",
    .description =
        "Stores the bytes of a file under a key of 32 hexadecimal digits, and returns when the tier on disk holds "
        "them. The space is an existing one, or one of opaque blobs that --model names. The same bytes under a "
        "held key are no error; other bytes are refused with exit code 7: remove the record first, "
        "or give another key or --revision.",
    .examples = "kvtier put 00112233445566778899aabbccddeeff -f blob.bin --model notes",
    .options = put_options,
    .option_count = sizeof put_options / sizeof *put_options,
    .args_bytes = sizeof(put_args),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_put,
};
