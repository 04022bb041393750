/* SPDX-License-Identifier: Apache-2.0
 *
 * Which space a command means: by its id, or by what its description says. A salt is a secret of its tenant, so the
 * description holds its digest, and a salt that is given is compared by that.
 */
#include "tools/cli_commands.h"

#include "hash/hash.h"

enum { SPACES_FIRST = 64 };

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

bool cli_space_rank(const char *text, uint64_t *out_rank, uint64_t *out_count)
{
    char value[48];
    if (!cli_space_field(text, "rank", value, sizeof value))
        return false;
    char *slash = strchr(value, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return cli_parse_count(value, out_rank) && cli_parse_count(slash + 1, out_count);
}

bool cli_space_named(const cli_space_args *args)
{
    return args->space != NULL || args->model != NULL || args->revision != NULL || args->salt != NULL ||
           args->rank != NULL;
}

/* ------------------------------------------------------------------------ fitting */

/* Nothing was asked for, or the field says so. */
static bool field_is(const kvt_space_info *info, const char *name, const char *wanted)
{
    char value[KVT_NAME_BYTES_MAX];
    return wanted == NULL || (cli_space_field(info->text, name, value, sizeof value) && strcmp(value, wanted) == 0);
}

static bool salt_is(const kvt_space_info *info, const char *salt)
{
    char hash[16] = "", digest[KVT_KEY_TEXT_BYTES];
    kvt_key key;
    if (salt == NULL)
        return true;
    (void)cli_space_field(info->text, "hash", hash, sizeof hash);
    kvt_hash_id id = strcmp(hash, "sha256") == 0 ? KVT_HASH_SHA256 : KVT_HASH_XXH3;
    if (kvt_space_id(id, salt, strlen(salt), &key) != KVT_OK)
        return false;
    kvt_key_to_text(&key, digest);
    return field_is(info, "salt", digest);
}

static bool rank_is(const kvt_space_info *info, const char *wanted)
{
    uint64_t rank = 0, count = 0, number = 0;
    return wanted == NULL ||
           (cli_parse_count(wanted, &number) && cli_space_rank(info->text, &rank, &count) && rank == number);
}

static bool space_fits(kvt_space *space, const cli_space_args *args)
{
    kvt_space_info info;
    if (kvt_space_get_info(space, &info) != KVT_OK)
        return false;
    if (args->space != NULL && !cli_key_starts_with(&info.id, args->space))
        return false;
    return field_is(&info, "model", args->model) && field_is(&info, "revision", args->revision) &&
           rank_is(&info, args->rank) && salt_is(&info, args->salt);
}

static int no_space(const cli_space_args *args, size_t known, size_t fitting)
{
    const char *thing = args->space != NULL ? args->space : args->model != NULL ? args->model : "space";
    if (known == 0)
        return cli_fail(CLI_NOT_FOUND, thing, "the store holds no space yet; fill it with 'kvtier warm' or 'put'");
    if (fitting == 0)
        return cli_fail(CLI_NOT_FOUND, thing, "no space fits; 'kvtier ns' lists the %zu of this store", known);
    return cli_fail(CLI_USAGE, thing,
                    "%zu spaces fit; name one with --space, --revision, --rank or --salt, 'kvtier ns' lists them",
                    fitting);
}

static int check_words(const cli_space_args *args)
{
    uint64_t rank;
    if (args->rank != NULL && !cli_parse_count(args->rank, &rank))
        return cli_fail(CLI_USAGE, "--rank", "'%s' is not a whole number; write it in digits, like 3", args->rank);
    return args->space != NULL ? cli_check_digits(args->space, "a space") : CLI_OK;
}

int cli_store_space(kvt_engine *engine, const cli_space_args *args, kvt_space **out)
{
    kvt_key *ids = NULL;
    size_t count = 0, fitting = 0;
    kvt_space *chosen = NULL;
    int code = check_words(args);
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

int cli_store_space_if_named(kvt_engine *engine, const cli_space_args *args, kvt_space **out)
{
    *out = NULL;
    return cli_space_named(args) ? cli_store_space(engine, args, out) : CLI_OK;
}
