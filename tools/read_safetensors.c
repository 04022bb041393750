/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors format: u64 header length, a JSON object {name: {dtype, shape, data_offsets}}, then the data. The
 * header comes from anywhere, so each length is compared with a bound before it is used, and the data must be tiled by
 * the tensors without gap or overlap, as the format demands; then no offset can point outside the mapping.
 */
#include "tools/read_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct kvt_safetensors {
    const uint8_t *map;
    uint64_t map_bytes;
    json_t *header; /* owns names and metadata */
    kvt_tensor *tensors;
    size_t count;
};

enum { PREFIX_BYTES = 8 };

typedef struct dtype_info {
    const char *name;
    uint32_t bytes;
} dtype_info;

static const dtype_info dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
    {"F32", 4},  {"I64", 8}, {"U64", 8}, {"F64", 8},     {"C64", 8},
};

static kvt_status map_file(const char *path, kvt_safetensors *file)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return kvt_fail(KVT_IO, "cannot be opened: %s", strerror(errno));
    struct stat info;
    void *map = MAP_FAILED;
    kvt_status status = KVT_OK;
    if (fstat(descriptor, &info) != 0)
        status = kvt_fail(KVT_IO, "cannot be examined: %s", strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = kvt_fail(KVT_IO, "is not a regular file, so it cannot be mapped; copy it to one");
    else if (info.st_size < PREFIX_BYTES + 2)
        status = kvt_fail(KVT_CORRUPT, "holds %" PRIu64 " bytes, too few for a safetensors header; it may be cut short",
                          (uint64_t)info.st_size);
    else if ((map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0)) == MAP_FAILED)
        status = kvt_fail(KVT_IO, "cannot be mapped: %s", strerror(errno));
    close(descriptor);
    if (status != KVT_OK)
        return status;
    file->map = map;
    file->map_bytes = (uint64_t)info.st_size;
    return KVT_OK;
}

static kvt_status parse_header(kvt_safetensors *file, uint64_t *out_data)
{
    uint64_t bytes = kvt_load_le64(file->map);
    if (bytes > KVT_SAFETENSORS_HEADER_MAX)
        return kvt_fail(KVT_CORRUPT,
                        "announces a header of %" PRIu64 " bytes, at most %" PRIu64
                        " are allowed; this is no safetensors file",
                        bytes, KVT_SAFETENSORS_HEADER_MAX);
    if (bytes > file->map_bytes - PREFIX_BYTES)
        return kvt_fail(KVT_CORRUPT,
                        "announces a header of %" PRIu64 " bytes, but only %" PRIu64 " follow; the file is cut short",
                        bytes, file->map_bytes - PREFIX_BYTES);
    json_error_t error;
    file->header = json_loadb((const char *)file->map + PREFIX_BYTES, (size_t)bytes, JSON_REJECT_DUPLICATES, &error);
    if (file->header == NULL)
        return kvt_fail(KVT_CORRUPT, "the header is no valid JSON at byte %d: %s", error.position, error.text);
    if (!json_is_object(file->header))
        return kvt_fail(KVT_CORRUPT, "the header is no JSON object");
    *out_data = PREFIX_BYTES + bytes;
    return KVT_OK;
}

/* A JSON integer >= 0; reals, strings and negatives are refused. */
static bool unsigned_value(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static kvt_status check_dtype(kvt_tensor *tensor, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (name == NULL)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has no dtype", tensor->name);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            tensor->dtype = dtypes[i].name;
            tensor->element_bytes = dtypes[i].bytes;
            return KVT_OK;
        }
    return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has the unknown dtype '%.40s'", tensor->name, name);
}

static kvt_status check_shape(kvt_tensor *tensor, const json_t *entry)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > KVT_TENSOR_RANK_MAX)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has no shape of at most %d numbers", tensor->name,
                        KVT_TENSOR_RANK_MAX);
    tensor->rank = (uint32_t)rank;
    tensor->bytes = tensor->element_bytes;
    for (size_t i = 0; i < rank; i++) {
        if (!unsigned_value(json_array_get(shape, i), &tensor->shape[i]))
            return kvt_fail(KVT_CORRUPT, "tensor '%.80s': dimension %zu is no whole number", tensor->name, i);
        if (!kvt_mul_u64(tensor->bytes, tensor->shape[i], &tensor->bytes))
            return kvt_fail(KVT_CORRUPT, "tensor '%.80s': its shape does not fit into 64 bits", tensor->name);
    }
    return KVT_OK;
}

static kvt_status check_offsets(const kvt_safetensors *file, kvt_tensor *tensor, const json_t *entry, uint64_t data)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin, end;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !unsigned_value(json_array_get(offsets, 0), &begin) || !unsigned_value(json_array_get(offsets, 1), &end))
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has no data_offsets of two whole numbers", tensor->name);
    if (begin > end || end > file->map_bytes - data)
        return kvt_fail(KVT_CORRUPT,
                        "tensor '%.80s' lies at bytes %" PRIu64 " to %" PRIu64 ", but the file holds %" PRIu64
                        " bytes of data; it may be cut short",
                        tensor->name, begin, end, file->map_bytes - data);
    if (end - begin != tensor->bytes)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has %" PRIu64 " bytes, but shape and dtype need %" PRIu64,
                        tensor->name, end - begin, tensor->bytes);
    tensor->offset = data + begin;
    tensor->data = file->map + tensor->offset;
    return KVT_OK;
}

static kvt_status check_metadata(const json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return kvt_fail(KVT_CORRUPT, "__metadata__ is no JSON object");
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return kvt_fail(KVT_CORRUPT, "__metadata__ '%.80s' is no text", key);
    }
    return KVT_OK;
}

/* By offset; empty tensors before the one that starts at the same byte. */
static int by_offset(const void *a, const void *b)
{
    const kvt_tensor *left = a, *right = b;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

static kvt_status check_tiling(const kvt_safetensors *file, uint64_t data)
{
    uint64_t at = data;
    for (size_t i = 0; i < file->count; i++) {
        const kvt_tensor *tensor = &file->tensors[i];
        if (tensor->offset < at)
            return kvt_fail(KVT_CORRUPT, "tensors '%.80s' and '%.80s' overlap", file->tensors[i - 1].name,
                            tensor->name);
        if (tensor->offset > at)
            return kvt_fail(KVT_CORRUPT, "%" PRIu64 " bytes before tensor '%.80s' belong to no tensor",
                            tensor->offset - at, tensor->name);
        at = tensor->offset + tensor->bytes;
    }
    if (at != file->map_bytes)
        return kvt_fail(KVT_CORRUPT, "%" PRIu64 " bytes at the end belong to no tensor", file->map_bytes - at);
    return KVT_OK;
}

static kvt_status read_tensors(kvt_safetensors *file, uint64_t data)
{
    const char *key;
    json_t *entry;
    size_t count = json_object_size(file->header);
    if (count != 0 && (file->tensors = kvt_alloc_array(count, sizeof *file->tensors)) == NULL)
        return kvt_fail(KVT_NOMEM, "has %zu tensors, too many for the memory at hand", count);
    json_object_foreach(file->header, key, entry)
    {
        if (strcmp(key, "__metadata__") == 0) {
            KVT_TRY(check_metadata(entry));
            continue;
        }
        kvt_tensor *tensor = &file->tensors[file->count];
        tensor->name = key;
        if (!json_is_object(entry))
            return kvt_fail(KVT_CORRUPT, "tensor '%.80s' is described by no JSON object", key);
        KVT_TRY(check_dtype(tensor, entry));
        KVT_TRY(check_shape(tensor, entry));
        KVT_TRY(check_offsets(file, tensor, entry, data));
        file->count++;
    }
    if (file->count != 0)
        qsort(file->tensors, file->count, sizeof *file->tensors, by_offset);
    return check_tiling(file, data);
}

kvt_status kvt_safetensors_open(const char *path, kvt_safetensors **out)
{
    kvt_fail_clear();
    kvt_safetensors *file = kvt_alloc(sizeof *file);
    if (file == NULL)
        return kvt_fail(KVT_NOMEM, "out of memory");
    uint64_t data = 0;
    kvt_status status = map_file(path, file);
    if (status == KVT_OK)
        status = parse_header(file, &data);
    if (status == KVT_OK)
        status = read_tensors(file, data);
    if (status != KVT_OK) {
        kvt_safetensors_close(file);
        return status;
    }
    *out = file;
    return KVT_OK;
}

void kvt_safetensors_close(kvt_safetensors *file)
{
    if (file == NULL)
        return;
    json_decref(file->header);
    if (file->map != NULL)
        munmap((void *)(uintptr_t)file->map, file->map_bytes);
    kvt_free(file->tensors);
    kvt_free(file);
}

size_t kvt_safetensors_count(const kvt_safetensors *file) { return file->count; }

const kvt_tensor *kvt_safetensors_at(const kvt_safetensors *file, size_t i)
{
    return i < file->count ? &file->tensors[i] : NULL;
}

const kvt_tensor *kvt_safetensors_find(const kvt_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

const char *kvt_safetensors_metadata(const kvt_safetensors *file, const char *name)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), name));
}
