/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of a safetensors file, mapped read-only. Nothing in the file is believed before it was checked.
 */
#ifndef KVT_TOOLS_READ_SAFETENSORS_H
#define KVT_TOOLS_READ_SAFETENSORS_H

#include "engine/base/base.h"

enum { KVT_TENSOR_RANK_MAX = 8 };
#define KVT_SAFETENSORS_HEADER_MAX UINT64_C(100000000) /* the cap of the format */

typedef struct kvt_tensor {
    const char *name;
    const char *dtype;      /* as the file says, upper case: "BF16", "I32", ... */
    uint32_t element_bytes; /* 1, 2, 4 or 8 */
    uint32_t rank;          /* 0: a scalar */
    uint64_t shape[KVT_TENSOR_RANK_MAX];
    uint64_t offset; /* of the data within the file */
    uint64_t bytes;  /* product of shape and element_bytes */
    const uint8_t *data;
} kvt_tensor;

typedef struct kvt_safetensors kvt_safetensors;

/*
 * Map a file and check its header: sizes, JSON, no name twice, known types, shape x type = bytes, and every byte of
 * the data belongs to exactly one tensor. Returns KVT_OK; KVT_IO (cannot be read); KVT_CORRUPT (breaks the format;
 * kvt_last_error() names the tensor); KVT_NOMEM.
 */
kvt_status kvt_safetensors_open(const char *path, kvt_safetensors **out);
void kvt_safetensors_close(kvt_safetensors *file); /* NULL is allowed */

size_t kvt_safetensors_count(const kvt_safetensors *file);
/* In the order of the data. */
const kvt_tensor *kvt_safetensors_at(const kvt_safetensors *file, size_t i);
const kvt_tensor *kvt_safetensors_find(const kvt_safetensors *file, const char *name); /* NULL: not there */
/* A text of __metadata__; NULL: not there. */
const char *kvt_safetensors_metadata(const kvt_safetensors *file, const char *name);

#endif
