/* SPDX-License-Identifier: Apache-2.0
 *
 * The canonical descriptor of a space: lines of `name=value` in a fixed order. Its hash is the space's id, so the same
 * words must give the same bytes for ever; docs/format_keys.md is the specification. Page sizes, strides and codecs are
 * not part of it: they change neither keys nor blobs.
 */
#include "engine/space.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct writer {
    char *text;
    size_t bytes;
    bool full;
} writer;

static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(writer *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(w->text + w->bytes, KVT_SPACE_TEXT_BYTES_MAX - w->bytes, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= KVT_SPACE_TEXT_BYTES_MAX - w->bytes)
        w->full = true;
    else
        w->bytes += (size_t)n;
}

static kvt_status put_name(writer *w, const char *name, const char *value)
{
    if (value == NULL)
        value = "";
    size_t length = strlen(value);
    if (length >= KVT_NAME_BYTES_MAX)
        return kvt_fail(KVT_INVALID, "%s is %zu bytes long; at most %d", name, length, KVT_NAME_BYTES_MAX - 1);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return kvt_fail(KVT_INVALID, "%s holds a control character at byte %zu", name, i);
    }
    put(w, "%s=%s\n", name, value);
    return KVT_OK;
}

/* The salt itself is a secret of the tenant: only its digest enters the text. */
static kvt_status put_salt(writer *w, const kvt_space_options *options)
{
    const char *salt = options->salt != NULL ? options->salt : "";
    char hex[KVT_KEY_TEXT_BYTES] = "";
    if (strlen(salt) >= KVT_NAME_BYTES_MAX)
        return kvt_fail(KVT_INVALID, "salt is longer than %d bytes", KVT_NAME_BYTES_MAX - 1);
    if (salt[0] != '\0') {
        kvt_key digest;
        KVT_TRY(kvt_space_id((kvt_hash_id)options->hash, salt, strlen(salt), &digest));
        kvt_key_to_text(&digest, hex);
    }
    put(w, "salt=%s\n", hex);
    return KVT_OK;
}

static void put_group(writer *w, uint32_t number, const kvt_group *group)
{
    put(w, "group=%u layers=%u views=%u", number, group->layer_count, group->view_count);
    for (uint32_t i = 0; i < group->view_count && i < KVT_VIEWS_MAX; i++) {
        const kvt_view *view = &group->views[i];
        put(w, " %ux%ux%u/%u", view->plane_count, view->head_count, view->head_bytes, view->element_bytes);
    }
    put(w, "\n");
}

kvt_status kvt_space_text_write(const kvt_space_options *options, uint32_t chunk_tokens, char *text, size_t *out_bytes)
{
    writer w = {text, 0, false};
    put(&w, "kvtier-space=1\n");
    KVT_TRY(put_name(&w, "model", options->model));
    KVT_TRY(put_name(&w, "revision", options->revision));
    KVT_TRY(put_name(&w, "dtype", options->dtype));
    KVT_TRY(put_name(&w, "position", options->position));
    KVT_TRY(put_salt(&w, options));
    put(&w, "rank=%u/%u\n", options->rank, options->rank_count == 0 ? 1 : options->rank_count);
    put(&w, "hash=%s\n", options->hash == KVT_HASH_SHA256 ? "sha256" : "xxh3");
    put(&w, "chunk_tokens=%u\n", chunk_tokens);
    put(&w, "groups=%u\n", options->group_count);
    for (uint32_t i = 0; i < options->group_count; i++)
        put_group(&w, i, &options->groups[i]);
    if (w.full)
        return kvt_fail(KVT_INVALID, "the description of the space is longer than %d bytes; shorten its names",
                        KVT_SPACE_TEXT_BYTES_MAX);
    *out_bytes = w.bytes;
    return KVT_OK;
}

/* ---- reading ---- */

static const char *line_value(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, length) == 0 && line[length] == '=')
            return line + length + 1;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return NULL;
}

static bool read_number(const char **at, char end, uint64_t max, uint64_t *out)
{
    if (**at < '0' || **at > '9')
        return false;
    char *stop;
    uint64_t value = strtoull(*at, &stop, 10);
    if (value > max || *stop != end)
        return false;
    *at = stop;
    *out = value;
    return true;
}

static bool parse_view(const char **at, char end, uint64_t *out_token_bytes, uint64_t *out_element_bytes)
{
    uint64_t planes, heads, bytes;
    if (!read_number(at, 'x', 2, &planes))
        return false;
    ++*at;
    if (!read_number(at, 'x', UINT32_MAX, &heads))
        return false;
    ++*at;
    if (!read_number(at, '/', UINT32_MAX, &bytes))
        return false;
    ++*at;
    return read_number(at, end, 8, out_element_bytes) && kvt_mul_u64(planes * heads, bytes, out_token_bytes);
}

static bool parse_group(const char *line, uint32_t number, kvt_space_shape *out)
{
    uint64_t layers, views, token_bytes = 0;
    char head[32];
    int head_bytes = snprintf(head, sizeof head, "group=%u layers=", number);
    if (strncmp(line, head, (size_t)head_bytes) != 0)
        return false;
    line += head_bytes;
    if (!read_number(&line, ' ', UINT32_MAX, &layers) || strncmp(line, " views=", 7) != 0)
        return false;
    line += 7;
    if (!read_number(&line, ' ', KVT_VIEWS_MAX, &views) || views == 0)
        return false;
    for (uint64_t i = 0; i < views; i++) {
        uint64_t view_bytes, element_bytes;
        ++line;
        if (!parse_view(&line, i + 1 < views ? ' ' : '\n', &view_bytes, &element_bytes) ||
            !kvt_add_u64(token_bytes, view_bytes, &token_bytes))
            return false;
        if (i == 0)
            out->groups[number].element_bytes = (uint32_t)element_bytes;
    }
    out->groups[number].layer_count = (uint32_t)layers;
    out->groups[number].view_count = (uint32_t)views;
    return kvt_mul_u64(token_bytes, layers, &out->groups[number].token_bytes) &&
           out->groups[number].token_bytes <= KVT_BLOB_BYTES_MAX;
}

kvt_status kvt_space_text_parse(const char *text, kvt_space_shape *out)
{
    kvt_space_shape shape = {0};
    uint64_t version, chunk, groups;
    const char *at = line_value(text, "kvtier-space");
    if (at == NULL || !read_number(&at, '\n', UINT32_MAX, &version))
        return kvt_fail(KVT_CORRUPT, "the description of a space is damaged");
    if (version != 1)
        return kvt_fail(KVT_VERSION, "the description of a space has version %" PRIu64 "; this release knows 1",
                        version);
    const char *hash = line_value(text, "hash");
    const char *chunk_at = line_value(text, "chunk_tokens");
    const char *groups_at = line_value(text, "groups");
    if (hash == NULL || chunk_at == NULL || groups_at == NULL ||
        !read_number(&chunk_at, '\n', KVT_CHUNK_TOKENS_MAX, &chunk) ||
        !read_number(&groups_at, '\n', KVT_GROUPS_MAX, &groups))
        return kvt_fail(KVT_CORRUPT, "the description of a space is damaged");
    shape.hash = strncmp(hash, "sha256\n", 7) == 0 ? KVT_HASH_SHA256 : KVT_HASH_XXH3;
    shape.chunk_tokens = (uint32_t)chunk;
    shape.group_count = (uint32_t)groups;
    const char *line = groups_at;
    for (uint32_t i = 0; i < groups; i++) {
        line = strchr(line, '\n');
        if (line == NULL || !parse_group(++line, i, &shape))
            return kvt_fail(KVT_CORRUPT, "the description of a space is damaged at group %u", i);
    }
    *out = shape;
    return KVT_OK;
}
