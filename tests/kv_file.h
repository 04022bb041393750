/* SPDX-License-Identifier: Apache-2.0
 *
 * Safetensors files with made-up KV for tests of the warmer, and the blobs they must become. The blob is computed from
 * the pattern of the elements, never from the file, the reader or the engine.
 */
#ifndef KVT_TEST_KV_FILE_H
#define KVT_TEST_KV_FILE_H

#include "engine/base/base.h"

enum { KV_FILE_LAYERS_MAX = 8 };

/* What a file holds. Elements are BF16. */
typedef struct kv_file {
    uint32_t layer_count;
    uint32_t layers[KV_FILE_LAYERS_MAX]; /* numbers, in the order of the data */
    uint32_t heads[KV_FILE_LAYERS_MAX];  /* by index into layers */
    uint32_t dims[2];                    /* of K and of V */
    uint32_t tokens;
    bool heads_first;     /* [heads, tokens, dim] */
    bool one_plane;       /* K only */
    bool no_tokens;       /* leave the tensor `tokens` out */
    const char *names;    /* printf format of (layer, plane word); NULL: "layer.%u.%s" */
    const char *metadata; /* JSON object; NULL: {"model":"test-model"} */
    uint64_t seed;
} kv_file;

/* Token id t of the prompt that belongs to it. */
uint32_t kv_file_token(const kv_file *file, uint32_t t);
void kv_file_write(const kv_file *file, const char *path);
/* Elements [layers of one group][planes][token][head][dim] of tokens [begin, begin + count), into `to`; returns the
 * bytes. first_plane and planes say which planes the group has, heads which layers. */
size_t kv_file_blob(const kv_file *file, uint32_t begin, uint32_t count, uint32_t heads, uint32_t first_plane,
                    uint32_t planes, uint8_t *to);

#endif
