/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a trace into three flat arrays and a prefix tree. A node is found by (parent, id) through one open-addressing
 * table that doubles; a trace whose ids already name their whole prefix gets one node an id.
 */
#include "tools/trace.h"
#include "tools/pattern.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h> /* lines of the trace */
#include <stdio.h>
#include <stdlib.h>

enum { TABLE_START = 1 << 12, INPUT_TOKENS_MAX = 1 << 24, ERROR_TEXT = 160 };

typedef struct reader {
    const char *path;
    uint64_t line;
    kvt_trace *trace;
    uint64_t request_capacity;
    uint64_t block_capacity;
    uint64_t node_capacity;
    uint32_t *table; /* node index + 1, 0: free */
    uint64_t table_size;
} reader;

/* Make room for one more element; the old array is kept on failure. */
static kvt_status grow(void **array, uint64_t count, uint64_t *capacity, size_t element_bytes)
{
    if (count < *capacity)
        return KVT_OK;
    uint64_t wanted = *capacity == 0 ? 1024 : *capacity * 2;
    void *bigger = kvt_alloc_array(wanted, element_bytes);
    if (bigger == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the trace");
    if (count != 0)
        memcpy(bigger, *array, count * element_bytes);
    kvt_free(*array);
    *array = bigger;
    *capacity = wanted;
    return KVT_OK;
}

static uint64_t slot_of(const reader *r, uint32_t parent, uint64_t id)
{
    uint64_t slot = kvt_pattern_chain(parent, id) & (r->table_size - 1);
    for (; r->table[slot] != 0; slot = (slot + 1) & (r->table_size - 1)) {
        const kvt_trace_node *node = &r->trace->nodes[r->table[slot] - 1];
        if (node->parent == parent && node->id == id)
            break;
    }
    return slot;
}

static kvt_status grow_table(reader *r)
{
    if (r->table_size != 0 && (uint64_t)r->trace->node_count * 2 < r->table_size)
        return KVT_OK;
    uint64_t size = r->table_size == 0 ? TABLE_START : r->table_size * 2;
    uint32_t *bigger = kvt_alloc_array(size, sizeof *bigger);
    if (bigger == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the trace");
    kvt_free(r->table);
    r->table = bigger;
    r->table_size = size;
    for (uint32_t i = 0; i < r->trace->node_count; i++)
        r->table[slot_of(r, r->trace->nodes[i].parent, r->trace->nodes[i].id)] = i + 1;
    return KVT_OK;
}

static kvt_status find_node(reader *r, uint32_t parent, uint64_t id, uint32_t *out)
{
    kvt_trace *trace = r->trace;
    KVT_TRY(grow_table(r));
    uint64_t slot = slot_of(r, parent, id);
    if (r->table[slot] == 0) {
        if (trace->node_count == KVT_TRACE_ROOT - 1)
            return kvt_fail(KVT_INVALID, "%s:%" PRIu64 ": too many different blocks", r->path, r->line);
        KVT_TRY(grow((void **)&trace->nodes, trace->node_count, &r->node_capacity, sizeof *trace->nodes));
        uint64_t parent_seed = parent == KVT_TRACE_ROOT ? KVT_PATTERN_ROOT : trace->nodes[parent].seed;
        trace->nodes[trace->node_count] =
            (kvt_trace_node){.id = id, .seed = kvt_pattern_chain(parent_seed, id), .parent = parent};
        r->table[slot] = ++trace->node_count;
    }
    *out = r->table[slot] - 1;
    return KVT_OK;
}

static kvt_status bad_line(const reader *r, const char *why)
{
    return kvt_fail(KVT_INVALID, "%s:%" PRIu64 ": %s", r->path, r->line, why);
}

static kvt_status add_blocks(reader *r, json_t *ids, kvt_trace_request *request)
{
    kvt_trace *trace = r->trace;
    uint32_t parent = KVT_TRACE_ROOT;
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return bad_line(r, "\"hash_ids\" may hold integers >= 0 only");
        KVT_TRY(find_node(r, parent, (uint64_t)json_integer_value(id), &parent));
        KVT_TRY(grow((void **)&trace->blocks, trace->block_count, &r->block_capacity, sizeof *trace->blocks));
        trace->blocks[trace->block_count++] = parent;
    }
    request->block_count = (uint32_t)(trace->block_count - request->block_begin);
    return KVT_OK;
}

static kvt_status add_request(reader *r, json_t *root)
{
    kvt_trace *trace = r->trace;
    json_int_t timestamp = 0;
    json_int_t input = 0;
    json_t *ids = NULL;
    json_error_t error;
    char text[ERROR_TEXT];
    if (json_unpack_ex(root, &error, 0, "{s:I, s:I, s:o}", "timestamp", &timestamp, "input_length", &input, "hash_ids",
                       &ids) != 0)
        return bad_line(r, error.text);
    if (timestamp < 0 || input < 1 || input > INPUT_TOKENS_MAX || !json_is_array(ids))
        return bad_line(r, "\"timestamp\" must be >= 0, \"input_length\" from 1 to 16777216, \"hash_ids\" a list");
    uint64_t wanted = ((uint64_t)input + KVT_TRACE_BLOCK_TOKENS - 1) / KVT_TRACE_BLOCK_TOKENS;
    if (json_array_size(ids) != wanted) {
        snprintf(text, sizeof text, "%zu ids in \"hash_ids\", but %lld tokens make %" PRIu64 " blocks of %d",
                 json_array_size(ids), (long long)input, wanted, KVT_TRACE_BLOCK_TOKENS);
        return bad_line(r, text);
    }
    uint64_t before = trace->request_count == 0 ? 0 : trace->requests[trace->request_count - 1].time_ms;
    if ((uint64_t)timestamp < before)
        return bad_line(r, "\"timestamp\" goes back; sort the trace by time");
    KVT_TRY(grow((void **)&trace->requests, trace->request_count, &r->request_capacity, sizeof *trace->requests));
    kvt_trace_request request = {
        .time_ms = (uint64_t)timestamp, .input_tokens = (uint32_t)input, .block_begin = trace->block_count};
    KVT_TRY(add_blocks(r, ids, &request));
    trace->requests[trace->request_count++] = request;
    trace->input_tokens += request.input_tokens;
    if (request.block_count > trace->blocks_max)
        trace->blocks_max = request.block_count;
    return KVT_OK;
}

static kvt_status read_line(reader *r, const char *text, size_t bytes)
{
    if (strspn(text, " \t\r\n") == bytes)
        return KVT_OK;
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return bad_line(r, error.text);
    kvt_status status = json_is_object(root) ? add_request(r, root) : bad_line(r, "not a JSON object");
    json_decref(root);
    return status;
}

static kvt_status read_lines(reader *r, FILE *file, uint64_t request_max)
{
    char *text = NULL;
    size_t capacity = 0;
    kvt_status status = KVT_OK;
    while (status == KVT_OK && (request_max == 0 || r->trace->request_count < request_max)) {
        errno = 0;
        ssize_t bytes = getline(&text, &capacity, file);
        if (bytes < 0) {
            if (ferror(file) || errno == ENOMEM)
                status = kvt_fail(KVT_IO, "%s: cannot be read: %s", r->path, strerror(errno));
            break;
        }
        r->line++;
        status = read_line(r, text, (size_t)bytes);
    }
    free(text); /* getline's own */
    if (status == KVT_OK && r->trace->request_count == 0)
        status = kvt_fail(KVT_INVALID, "%s: holds no request", r->path);
    return status;
}

static kvt_status read_stream(const char *name, FILE *file, uint64_t request_max, kvt_trace **out)
{
    reader r = {.path = name, .trace = kvt_alloc(sizeof *r.trace)};
    kvt_status status = r.trace == NULL ? kvt_fail(KVT_NOMEM, "no memory for the trace") : KVT_OK;
    if (status == KVT_OK)
        status = read_lines(&r, file, request_max);
    kvt_free(r.table);
    if (status != KVT_OK) {
        kvt_trace_free(r.trace);
        return status;
    }
    *out = r.trace;
    return KVT_OK;
}

kvt_status kvt_trace_read(const char *path, uint64_t request_max, kvt_trace **out)
{
    if (strcmp(path, "-") == 0)
        return read_stream("standard input", stdin, request_max, out);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return kvt_fail(KVT_IO, "%s: cannot be opened: %s; name a trace of JSON lines, or - for standard input", path,
                        strerror(errno));
    kvt_status status = read_stream(path, file, request_max, out);
    fclose(file);
    return status;
}

kvt_status kvt_trace_parse(const char *name, const char *text, size_t bytes, kvt_trace **out)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, bytes, "r");
    if (file == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the trace");
    kvt_status status = read_stream(name, file, 0, out);
    fclose(file);
    return status;
}

void kvt_trace_free(kvt_trace *trace)
{
    if (trace == NULL)
        return;
    kvt_free(trace->requests);
    kvt_free(trace->blocks);
    kvt_free(trace->nodes);
    kvt_free(trace);
}

void kvt_trace_tokens(uint64_t id, uint32_t *tokens)
{
    uint64_t seed = kvt_pattern_chain(KVT_PATTERN_ROOT, id);
    kvt_pattern_fill(tokens, seed, 0, KVT_TRACE_BLOCK_TOKENS * sizeof *tokens);
    for (uint32_t i = 0; i < KVT_TRACE_BLOCK_TOKENS; i++)
        tokens[i] &= 0x1ffff; /* a vocabulary of 128 Ki */
}
