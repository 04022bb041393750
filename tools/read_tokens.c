/* SPDX-License-Identifier: Apache-2.0
 *
 * Token ids from files. The whole file is read (token files are small beside the KV they stand for), then taken apart:
 * what starts with NumPy's magic is an array, everything else is JSON lines, and a wrong line is named by its number.
 */
#include "tools/read_tokens.h"

#include "tools/read_npy.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

/* `memory` with room for `need` items, or NULL. The capacity is not stored: it is at least the power of two behind
 * `used`, so underrating it costs a copy and nothing else. */
static void *grown(void *memory, uint64_t used, uint64_t need, size_t item)
{
    uint64_t capacity = used == 0 ? 0 : 16, more = 16;
    while (capacity != 0 && capacity < used)
        capacity *= 2;
    if (need <= capacity)
        return memory;
    while (more < need)
        more *= 2;
    void *bigger = kvt_alloc_array(more, item);
    if (bigger == NULL)
        return NULL;
    if (used != 0)
        memcpy(bigger, memory, used * item);
    kvt_free(memory);
    return bigger;
}

static uint64_t total_tokens(const kvt_prompts *prompts)
{
    return prompts->count == 0 ? 0 : prompts->ends[prompts->count - 1];
}

/* Room for one more prompt of `count` tokens, which may be none; *out points at them. */
static kvt_status make_room(kvt_prompts *prompts, uint64_t count, uint32_t **out)
{
    uint64_t used = total_tokens(prompts);
    uint32_t *tokens = grown(prompts->tokens, used, used + count + 1, sizeof *tokens);
    if (tokens != NULL)
        prompts->tokens = tokens;
    uint64_t *ends = grown(prompts->ends, prompts->count, prompts->count + 1, sizeof *ends);
    if (ends != NULL)
        prompts->ends = ends;
    if (tokens == NULL || ends == NULL)
        return kvt_fail(KVT_NOMEM, "out of memory for token ids; split the file");
    *out = prompts->tokens + used;
    return KVT_OK;
}

kvt_status kvt_prompts_append(kvt_prompts *prompts, const uint32_t *tokens, uint64_t count)
{
    uint32_t *room;
    KVT_TRY(make_room(prompts, count, &room));
    if (count != 0)
        memcpy(room, tokens, count * sizeof *room);
    uint64_t end = total_tokens(prompts) + count;
    prompts->ends[prompts->count++] = end;
    return KVT_OK;
}

void kvt_prompts_free(kvt_prompts *prompts)
{
    kvt_free(prompts->tokens);
    kvt_free(prompts->ends);
    *prompts = (kvt_prompts){0};
}

/* ---------------------------------------------------------------- whole files */

static kvt_status read_stream(FILE *in, uint8_t **out, size_t *out_bytes)
{
    size_t capacity = 1 << 16, used = 0;
    uint8_t *bytes = kvt_alloc(capacity);
    while (bytes != NULL) {
        used += fread(bytes + used, 1, capacity - used, in);
        if (used < capacity)
            break;
        uint8_t *bigger = capacity < KVT_TOKEN_FILE_BYTES_MAX ? kvt_alloc(2 * capacity) : NULL;
        if (bigger != NULL)
            memcpy(bigger, bytes, used);
        kvt_free(bytes);
        bytes = bigger;
        capacity *= 2;
    }
    if (bytes == NULL)
        return kvt_fail(KVT_NOMEM, "is too large to read at once; split it");
    if (ferror(in)) {
        kvt_free(bytes);
        return kvt_fail(KVT_IO, "cannot be read: %s", strerror(errno));
    }
    *out = bytes;
    *out_bytes = used;
    return KVT_OK;
}

static kvt_status read_whole(const char *path, uint8_t **out, size_t *out_bytes)
{
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, out, out_bytes);
    FILE *in = fopen(path, "rbe");
    if (in == NULL)
        return kvt_fail(KVT_IO, "cannot be opened: %s", strerror(errno));
    kvt_status status = read_stream(in, out, out_bytes);
    fclose(in);
    return status;
}

/* ----------------------------------------------------------------- JSON lines */

static kvt_status add_array(kvt_prompts *prompts, const json_t *array, size_t line)
{
    size_t count = json_array_size(array);
    uint32_t *room;
    if (count == 0)
        return kvt_fail(KVT_CORRUPT, "line %zu: the prompt is empty", line);
    KVT_TRY(make_room(prompts, count, &room));
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > UINT32_MAX)
            return kvt_fail(KVT_CORRUPT, "line %zu: item %zu is no token id from 0 to 4294967295", line, i);
        room[i] = (uint32_t)json_integer_value(value);
    }
    uint64_t end = total_tokens(prompts) + count;
    prompts->ends[prompts->count++] = end;
    return KVT_OK;
}

static kvt_status add_line(kvt_prompts *prompts, const char *text, size_t bytes, size_t line)
{
    json_error_t error;
    json_t *value = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (value == NULL)
        return kvt_fail(KVT_CORRUPT, "line %zu is no valid JSON at byte %d: %s", line, error.position, error.text);
    const json_t *array = json_is_object(value) ? json_object_get(value, "tokens") : value;
    kvt_status status;
    if (json_is_array(array))
        status = add_array(prompts, array, line);
    else
        status = kvt_fail(KVT_CORRUPT, "line %zu is neither [ids] nor {\"tokens\": [ids]}", line);
    json_decref(value);
    return status;
}

static bool is_blank(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

static kvt_status parse_lines(const char *text, size_t bytes, kvt_prompts *prompts)
{
    size_t line = 1;
    for (size_t at = 0; at < bytes; line++) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end != NULL ? (size_t)(end - (text + at)) : bytes - at;
        if (!is_blank(text + at, length))
            KVT_TRY(add_line(prompts, text + at, length, line));
        at += length + 1;
    }
    return KVT_OK;
}

static kvt_status parse_npy(const uint8_t *bytes, size_t count, kvt_prompts *prompts)
{
    kvt_npy array;
    KVT_TRY(kvt_npy_parse(bytes, count, &array));
    if (array.columns == 0)
        return kvt_fail(KVT_CORRUPT, "the array is empty");
    for (uint64_t row = 0; row < array.rows; row++) {
        uint32_t *room;
        KVT_TRY(make_room(prompts, array.columns, &room));
        for (uint64_t i = 0; i < array.columns; i++)
            if (!kvt_npy_token(&array, row * array.columns + i, &room[i]))
                return kvt_fail(KVT_CORRUPT, "row %" PRIu64 ", item %" PRIu64 " is no token id from 0 to 4294967295",
                                row, i);
        uint64_t end = total_tokens(prompts) + array.columns;
        prompts->ends[prompts->count++] = end;
    }
    return KVT_OK;
}

kvt_status kvt_prompts_read(const char *path, kvt_prompts *out)
{
    kvt_fail_clear();
    kvt_prompts prompts = {0};
    uint8_t *bytes;
    size_t count;
    KVT_TRY(read_whole(path, &bytes, &count));
    kvt_status status = kvt_npy_is(bytes, count) ? parse_npy(bytes, count, &prompts)
                                                 : parse_lines((const char *)bytes, count, &prompts);
    kvt_free(bytes);
    if (status == KVT_OK && prompts.count == 0)
        status = kvt_fail(KVT_CORRUPT, "holds no prompt; write [ids] or {\"tokens\": [ids]}, one a line");
    if (status != KVT_OK) {
        kvt_prompts_free(&prompts);
        return status;
    }
    *out = prompts;
    return KVT_OK;
}
