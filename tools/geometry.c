/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of named geometries (figures from the models' public configurations) and the JSON form of one.
 */
#include "tools/geometry.h"

#include <jansson.h> /* geometry files */
#include <stdio.h>

enum { LAYERS_MAX = 4096, HEADS_MAX = 4096, HEAD_DIM_MAX = 65536 };

static const kvt_geometry NAMED[] = {
    /* name, dtype, layers, planes, heads, head bytes, element bytes */
    {"llama-3.1-8b", "bf16", 32, 2, 8, 128 * 2, 2},
    {"qwen3-32b", "bf16", 64, 2, 8, 128 * 2, 2},
    {"deepseek-v3-mla", "bf16", 61, 1, 1, (512 + 64) * 2, 2},
    {"tiny", "fp16", 2, 2, 1, 64 * 2, 2},
};
enum { NAMED_COUNT = sizeof NAMED / sizeof NAMED[0] };

static const struct {
    const char *name;
    uint32_t bytes;
} DTYPES[] = {{"bf16", 2}, {"fp16", 2}, {"fp32", 4}, {"fp8", 1}, {"int8", 1}};

const char *kvt_geometry_name_at(uint32_t i) { return i < NAMED_COUNT ? NAMED[i].name : NULL; }

static kvt_status set_dtype(const char *path, const char *dtype, kvt_geometry *geometry)
{
    for (size_t i = 0; i < sizeof DTYPES / sizeof DTYPES[0]; i++) {
        if (strcmp(DTYPES[i].name, dtype) != 0)
            continue;
        snprintf(geometry->dtype, sizeof geometry->dtype, "%s", dtype);
        geometry->element_bytes = DTYPES[i].bytes;
        return KVT_OK;
    }
    return kvt_fail(KVT_INVALID, "%s: \"dtype\" is \"%.32s\"; known are bf16, fp16, fp32, fp8, int8", path, dtype);
}

static kvt_status bounded(const char *path, const char *field, json_int_t value, int max, uint32_t *out)
{
    if (value < 1 || value > max)
        return kvt_fail(KVT_INVALID, "%s: \"%s\" must be an integer from 1 to %d", path, field, max);
    *out = (uint32_t)value;
    return KVT_OK;
}

static kvt_status from_json(const char *path, json_t *root, kvt_geometry *out)
{
    const char *name = NULL;
    const char *dtype = "bf16";
    json_int_t layers = 0;
    json_int_t planes = 2;
    json_int_t heads = 0;
    json_int_t head_dim = 0;
    json_error_t error;
    if (json_unpack_ex(root, &error, JSON_STRICT, "{s:s, s:I, s?I, s:I, s:I, s?s}", "name", &name, "layers", &layers,
                       "planes", &planes, "heads", &heads, "head_dim", &head_dim, "dtype", &dtype) != 0)
        return kvt_fail(KVT_INVALID,
                        "%s: %s; a geometry is {\"name\", \"layers\", \"planes\", \"heads\", \"head_dim\", \"dtype\"}",
                        path, error.text);
    KVT_TRY(bounded(path, "layers", layers, LAYERS_MAX, &out->layer_count));
    KVT_TRY(bounded(path, "planes", planes, 2, &out->plane_count));
    KVT_TRY(bounded(path, "heads", heads, HEADS_MAX, &out->head_count));
    KVT_TRY(bounded(path, "head_dim", head_dim, HEAD_DIM_MAX, &out->head_bytes));
    KVT_TRY(set_dtype(path, dtype, out));
    out->head_bytes *= out->element_bytes;
    snprintf(out->name, sizeof out->name, "%s", name);
    return KVT_OK;
}

static kvt_status read_file(const char *path, kvt_geometry *out)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return kvt_fail(KVT_INVALID, "geometry %s: line %d: %s", path, error.line, error.text);
    kvt_status status = from_json(path, root, out);
    json_decref(root);
    return status;
}

kvt_status kvt_geometry_find(const char *name_or_path, uint32_t layers, kvt_geometry *out)
{
    kvt_geometry found = {.name = ""};
    for (uint32_t i = 0; i < NAMED_COUNT; i++)
        if (strcmp(NAMED[i].name, name_or_path) == 0)
            found = NAMED[i];
    if (found.layer_count == 0) {
        if (strpbrk(name_or_path, "./") == NULL || strlen(name_or_path) == 0)
            return kvt_fail(KVT_INVALID,
                            "geometry \"%.64s\" is not known: use llama-3.1-8b, qwen3-32b, deepseek-v3-mla, tiny, or "
                            "the path of a JSON file",
                            name_or_path);
        KVT_TRY(read_file(name_or_path, &found));
    }
    if (layers > LAYERS_MAX)
        return kvt_fail(KVT_INVALID, "layers must be from 1 to %d", LAYERS_MAX);
    if (layers != 0)
        found.layer_count = layers;
    *out = found;
    return KVT_OK;
}
