/* SPDX-License-Identifier: Apache-2.0
 *
 * Request traces in the Mooncake format: one JSON object a line with `timestamp` (ms), `input_length`, `output_length`
 * and `hash_ids`, ids of prefix blocks of 512 tokens. Tokens are made from the ids: equal prefixes have equal tokens.
 */
#ifndef KVT_TRACE_H
#define KVT_TRACE_H

#include "engine/base/base.h"

enum { KVT_TRACE_BLOCK_TOKENS = 512 };

typedef struct kvt_trace_request {
    uint64_t time_ms;
    uint32_t input_tokens;
    uint32_t block_count;
    uint64_t block_begin; /* in kvt_trace.nodes */
} kvt_trace_request;

/* A block together with all before it, as a node of the prefix tree: the unit that is held or not. */
typedef struct kvt_trace_node {
    uint64_t id;     /* as in the trace */
    uint64_t seed;   /* of its expected bytes: tools/pattern.h */
    uint32_t parent; /* node index, KVT_TRACE_ROOT: none */
} kvt_trace_node;
#define KVT_TRACE_ROOT UINT32_MAX

typedef struct kvt_trace {
    kvt_trace_request *requests;
    uint64_t request_count;
    uint32_t *blocks; /* of all requests, one behind the other: node indexes */
    uint64_t block_count;
    kvt_trace_node *nodes; /* in order of first appearance */
    uint32_t node_count;
    uint32_t blocks_max;   /* of one request */
    uint64_t input_tokens; /* of all requests, as the trace says */
} kvt_trace;

/* Read the first request_max requests (0: all) of a file ("-": standard input). KVT_INVALID: an unreadable line, named
 * by its number; KVT_IO: the file cannot be read; KVT_NOMEM. */
kvt_status kvt_trace_read(const char *path, uint64_t request_max, kvt_trace **out);
/* The same from memory; `name` stands in for the path in messages. */
kvt_status kvt_trace_parse(const char *name, const char *text, size_t bytes, kvt_trace **out);
void kvt_trace_free(kvt_trace *trace);

/* The KVT_TRACE_BLOCK_TOKENS tokens of a block id. */
void kvt_trace_tokens(uint64_t id, uint32_t *tokens);

#endif
