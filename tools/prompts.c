/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts from whatever a command line names: files of token ids, or the tensor `tokens` that stands beside the KV in a
 * safetensors file.
 */
#include "tools/cli_commands.h"

#include <inttypes.h>

int cli_fail_input(kvt_status status, const char *path)
{
    return cli_fail(status == KVT_CORRUPT || status == KVT_UNSUPPORTED ? CLI_USAGE : CLI_FAILURE, path, "%s",
                    kvt_last_error());
}

/* A 64-bit or 32-bit little-endian item as a token; false: no token id. */
static bool token_at(const kvt_tensor *tensor, uint64_t i, uint32_t *out)
{
    uint64_t value =
        tensor->element_bytes == 8 ? kvt_load_le64(tensor->data + 8 * i) : kvt_load_le32(tensor->data + 4 * i);
    bool negative = tensor->dtype[0] == 'I' && value >> (8 * tensor->element_bytes - 1) != 0;
    *out = (uint32_t)value;
    return !negative && value <= UINT32_MAX;
}

int cli_prompts_of_tensors(const kvt_safetensors *file, const char *path, kvt_prompts *out)
{
    const kvt_tensor *tensor = kvt_safetensors_find(file, "tokens");
    if (tensor == NULL)
        return CLI_NOT_FOUND;
    bool integers = (tensor->dtype[0] == 'I' || tensor->dtype[0] == 'U') && tensor->element_bytes >= 4;
    if (!integers || tensor->rank != 1 || tensor->bytes == 0)
        return cli_fail(CLI_USAGE, path, "the tensor 'tokens' is no list of token ids; store it as I32 [tokens]");
    uint64_t count = tensor->shape[0];
    uint32_t *tokens = kvt_alloc_array(count, sizeof *tokens);
    if (tokens == NULL)
        return cli_fail(CLI_FAILURE, path, "out of memory for %" PRIu64 " tokens", count);
    int code = CLI_OK;
    for (uint64_t i = 0; i < count && code == CLI_OK; i++)
        if (!token_at(tensor, i, &tokens[i]))
            code = cli_fail(CLI_USAGE, path,
                            "item %" PRIu64 " of the tensor 'tokens' is no token id from 0 to 4294967295", i);
    kvt_prompts prompts = {0};
    if (code == CLI_OK && kvt_prompts_append(&prompts, tokens, count) != KVT_OK)
        code = cli_fail(CLI_FAILURE, path, "%s", kvt_last_error());
    kvt_free(tokens);
    if (code != CLI_OK)
        kvt_prompts_free(&prompts);
    else
        *out = prompts;
    return code;
}

static int load_tensors(const char *path, kvt_prompts *out)
{
    kvt_safetensors *file;
    kvt_status status = kvt_safetensors_open(path, &file);
    if (status != KVT_OK)
        return cli_fail_input(status, path);
    int code = cli_prompts_of_tensors(file, path, out);
    if (code == CLI_NOT_FOUND)
        code = cli_fail(CLI_USAGE, path, "holds no tensor 'tokens'; give the token ids in a file of their own");
    kvt_safetensors_close(file);
    return code;
}

int cli_prompts_load(const char *path, kvt_prompts *out)
{
    static const char suffix[] = ".safetensors";
    size_t length = strlen(path);
    if (length >= sizeof suffix && strcmp(path + length - (sizeof suffix - 1), suffix) == 0)
        return load_tensors(path, out);
    kvt_status status = kvt_prompts_read(path, out);
    return status == KVT_OK ? CLI_OK : cli_fail_input(status, path);
}
