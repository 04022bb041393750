/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts as token ids, from JSON lines or .npy files.
 */
#ifndef KVT_TOOLS_READ_TOKENS_H
#define KVT_TOOLS_READ_TOKENS_H

#include "engine/base/base.h"

#include <stdio.h>

#define KVT_TOKEN_FILE_BYTES_MAX (UINT64_C(4) << 30)

typedef struct kvt_prompts {
    uint32_t *tokens; /* of all prompts, one behind the other */
    uint64_t *ends;   /* prompt i is tokens[ends[i - 1] .. ends[i]) */
    size_t count;
} kvt_prompts;

static inline const uint32_t *kvt_prompt_tokens(const kvt_prompts *prompts, size_t i, uint64_t *out_count)
{
    uint64_t begin = i == 0 ? 0 : prompts->ends[i - 1];
    *out_count = prompts->ends[i] - begin;
    return prompts->tokens + begin;
}

/*
 * Read a file, or standard input for "-". JSON lines: an array of token ids, or an object with such an array as
 * "tokens", a line; empty lines are skipped. .npy: one prompt, or one a row. An empty prompt is refused. Returns
 * KVT_OK; KVT_IO; KVT_CORRUPT or KVT_UNSUPPORTED, with the line's number in kvt_last_error(); KVT_NOMEM.
 */
kvt_status kvt_prompts_read(const char *path, kvt_prompts *out);
void kvt_prompts_free(kvt_prompts *prompts);

/* Append one prompt, taken from any source. KVT_NOMEM. */
kvt_status kvt_prompts_append(kvt_prompts *prompts, const uint32_t *tokens, uint64_t count);

#endif
