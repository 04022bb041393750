/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kv_file.h"

#include "tests/support.h"

#include <stdio.h>

/* The two bytes of an element depend on all its coordinates. */
static uint16_t element(const kv_file *file, uint32_t layer, uint32_t plane, uint32_t token, uint32_t head,
                        uint32_t dim)
{
    uint64_t state = file->seed;
    const uint32_t coordinates[] = {layer, plane, token, head, dim};
    for (size_t i = 0; i < 5; i++) {
        state ^= coordinates[i] + UINT64_C(0x51ed2701) * (i + 1);
        state = kvt_test_random(&state);
    }
    return (uint16_t)state;
}

uint32_t kv_file_token(const kv_file *file, uint32_t t)
{
    uint64_t state = file->seed ^ (uint64_t)t << 20;
    return (uint32_t)(kvt_test_random(&state) % 150000);
}

static uint32_t plane_count(const kv_file *file) { return file->one_plane ? 1 : 2; }

static uint64_t tensor_bytes(const kv_file *file, uint32_t i, uint32_t plane)
{
    return (uint64_t)file->tokens * file->heads[i] * file->dims[plane] * 2;
}

static size_t write_header(const kv_file *file, char *text, size_t bytes)
{
    static const char *const words[] = {"k", "v"};
    uint64_t at = file->no_tokens ? 0 : file->tokens * 4u;
    size_t used = (size_t)snprintf(text, bytes, "{\"__metadata__\":%s",
                                   file->metadata != NULL ? file->metadata : "{\"model\":\"test-model\"}");
    if (!file->no_tokens)
        used += (size_t)snprintf(text + used, bytes - used,
                                 ",\"tokens\":{\"dtype\":\"I32\",\"shape\":[%u],\"data_offsets\":[0,%u]}", file->tokens,
                                 file->tokens * 4);
    for (uint32_t i = 0; i < file->layer_count; i++)
        for (uint32_t p = 0; p < plane_count(file); p++) {
            char name[64];
            snprintf(name, sizeof name, file->names != NULL ? file->names : "layer.%u.%s", file->layers[i], words[p]);
            uint64_t end = at + tensor_bytes(file, i, p);
            used += (size_t)snprintf(text + used, bytes - used,
                                     ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%u,%u,%u],\"data_offsets\":[%llu,%llu]}",
                                     name, file->heads_first ? file->heads[i] : file->tokens,
                                     file->heads_first ? file->tokens : file->heads[i], file->dims[p],
                                     (unsigned long long)at, (unsigned long long)end);
            at = end;
        }
    used += (size_t)snprintf(text + used, bytes - used, "}");
    cr_assert_lt(used, bytes);
    return used;
}

static void write_tensor(const kv_file *file, uint32_t i, uint32_t plane, FILE *out)
{
    uint32_t outer = file->heads_first ? file->heads[i] : file->tokens;
    uint32_t inner = file->heads_first ? file->tokens : file->heads[i];
    for (uint32_t a = 0; a < outer; a++)
        for (uint32_t b = 0; b < inner; b++)
            for (uint32_t d = 0; d < file->dims[plane]; d++) {
                uint32_t token = file->heads_first ? b : a, head = file->heads_first ? a : b;
                uint16_t value = element(file, file->layers[i], plane, token, head, d);
                fputc(value & 0xff, out);
                fputc(value >> 8, out);
            }
}

void kv_file_write(const kv_file *file, const char *path)
{
    char header[8192];
    uint8_t word[8];
    FILE *out = fopen(path, "wb");
    cr_assert_not_null(out, "%s", path);
    size_t bytes = write_header(file, header, sizeof header);
    kvt_store_le64(word, bytes);
    fwrite(word, 1, 8, out);
    fwrite(header, 1, bytes, out);
    for (uint32_t t = 0; !file->no_tokens && t < file->tokens; t++) {
        kvt_store_le32(word, kv_file_token(file, t));
        fwrite(word, 1, 4, out);
    }
    for (uint32_t i = 0; i < file->layer_count; i++)
        for (uint32_t p = 0; p < plane_count(file); p++)
            write_tensor(file, i, p, out);
    cr_assert_eq(fclose(out), 0);
}

size_t kv_file_blob(const kv_file *file, uint32_t begin, uint32_t count, uint32_t heads, uint32_t first_plane,
                    uint32_t planes, uint8_t *to)
{
    uint8_t *start = to;
    for (uint32_t number = 0; number < 1000; number++) /* layers in ascending order, wherever they lie in the file */
        for (uint32_t i = 0; i < file->layer_count; i++) {
            if (file->layers[i] != number || file->heads[i] != heads)
                continue;
            for (uint32_t p = first_plane; p < first_plane + planes; p++)
                for (uint32_t t = begin; t < begin + count; t++)
                    for (uint32_t h = 0; h < heads; h++)
                        for (uint32_t d = 0; d < file->dims[p]; d++) {
                            uint16_t value = element(file, number, p, t, h, d);
                            *to++ = (uint8_t)value;
                            *to++ = (uint8_t)(value >> 8);
                        }
        }
    return (size_t)(to - start);
}
