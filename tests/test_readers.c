/* SPDX-License-Identifier: Apache-2.0
 *
 * The readers of foreign files against hostile bytes: every refusal is a status with a text that says what is wrong,
 * and nothing is read beyond the file (the sanitizers and a guard page watch). Files are made here, byte by byte.
 */
#include "tests/support.h"

#include "tools/read_npy.h"
#include "tools/read_safetensors.h"
#include "tools/read_tokens.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A file of these bytes in a fresh folder; the folder goes with file_drop. */
typedef struct scratch_file {
    char *folder;
    char path[600];
} scratch_file;

static scratch_file file_make(const void *bytes, size_t count)
{
    scratch_file file = {.folder = kvt_test_tmpdir()};
    snprintf(file.path, sizeof file.path, "%s/data", file.folder);
    FILE *out = fopen(file.path, "wb");
    cr_assert_not_null(out);
    cr_assert_eq(fwrite(bytes, 1, count, out), count);
    fclose(out);
    return file;
}

static void file_drop(scratch_file *file)
{
    kvt_test_rmtree(file->folder);
    kvt_free(file->folder);
}

/* ----------------------------------------------------------------- safetensors */

/* Header length, header, `data` bytes of 0, 1, 2, ... */
static size_t tensors_make(uint8_t *to, const char *header, uint64_t data)
{
    size_t length = strlen(header);
    kvt_store_le64(to, length);
    memcpy(to + 8, header, length);
    for (uint64_t i = 0; i < data; i++)
        to[8 + length + i] = (uint8_t)i;
    return 8 + length + data;
}

static kvt_status tensors_open(const char *header, uint64_t data, kvt_safetensors **out)
{
    static uint8_t bytes[1 << 16];
    scratch_file file = file_make(bytes, tensors_make(bytes, header, data));
    kvt_status status = kvt_safetensors_open(file.path, out);
    file_drop(&file); /* the mapping stays */
    return status;
}

KVT_TEST(safetensors, tensors_and_metadata_are_found)
{
    kvt_safetensors *file;
    kvt_status status =
        tensors_open("{\"__metadata__\":{\"model\":\"m\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1,3],"
                     "\"data_offsets\":[4,16]},\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                     "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[16,16]},"
                     "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[16,17]}}    ",
                     17, &file);
    cr_assert_eq(status, KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_safetensors_count(file), 4);
    cr_assert_str_eq(kvt_safetensors_at(file, 0)->name, "a");
    cr_assert_null(kvt_safetensors_at(file, 4));
    const kvt_tensor *b = kvt_safetensors_find(file, "b");
    cr_assert(b->rank == 3 && b->shape[2] == 3 && b->element_bytes == 2 && b->bytes == 12 && b->data[0] == 4);
    cr_assert_str_eq(b->dtype, "BF16");
    cr_assert_eq(kvt_safetensors_find(file, "s")->bytes, 1);
    cr_assert_null(kvt_safetensors_find(file, "c"));
    cr_assert_str_eq(kvt_safetensors_metadata(file, "model"), "m");
    cr_assert_null(kvt_safetensors_metadata(file, "revision"));
    kvt_safetensors_close(file);
    kvt_safetensors_close(NULL);
}

KVT_TEST(safetensors, every_broken_header_is_refused_and_says_why)
{
    static const struct {
        const char *header;
        uint64_t data;
        const char *why;
    } cases[] = {
        {"[]", 0, "no JSON object"},
        {"{ ", 0, "no valid JSON"},
        {"{\"a\":1}", 0, "described by no JSON object"},
        {"{} x", 0, "no valid JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype"},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "no shape of at most"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "no whole number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "no whole number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]}}", 1, "no whole number"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,1]}}", 1, "64 bits"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,1]}}", 1, "no valid JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "lies at bytes 1 to 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "may be cut short"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9223372036854775806,9223372036854775807]}}", 1,
         "may be cut short"},
        {"{\"a\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "shape and dtype need 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
         "\"data_offsets\":[1,3]}}",
         3, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
         "\"data_offsets\":[0,2]}}",
         2, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "belong to no tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "1 bytes at the end"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ 'a'"},
        {"{\"a\\u0000b\":{}}", 0, "no valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvt_safetensors *file = NULL;
        cr_assert_eq(tensors_open(cases[i].header, cases[i].data, &file), KVT_CORRUPT, "%s", cases[i].header);
        cr_assert_null(file);
        cr_assert(strstr(kvt_last_error(), cases[i].why) != NULL, "%s: %s", cases[i].header, kvt_last_error());
    }
}

KVT_TEST(safetensors, the_length_of_the_header_is_bounded_before_it_is_used)
{
    static const struct {
        uint64_t length;
        const char *why;
    } cases[] = {{UINT64_MAX, "at most 100000000"},
                 {UINT64_C(100000001), "at most 100000000"},
                 {100000000, "cut short"},
                 {3, "cut short"},
                 {0, "no valid JSON"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[10] = {0};
        kvt_safetensors *file = NULL;
        kvt_store_le64(bytes, cases[i].length);
        memcpy(bytes + 8, "{}", 2);
        scratch_file scratch = file_make(bytes, sizeof bytes);
        cr_assert_eq(kvt_safetensors_open(scratch.path, &file), KVT_CORRUPT);
        cr_assert(strstr(kvt_last_error(), cases[i].why) != NULL, "%s", kvt_last_error());
        file_drop(&scratch);
    }
}

KVT_TEST(safetensors, deep_nesting_does_not_exhaust_the_stack)
{
    static uint8_t bytes[8 + 200000];
    kvt_store_le64(bytes, 200000);
    memset(bytes + 8, '[', 200000);
    kvt_safetensors *file = NULL;
    scratch_file scratch = file_make(bytes, sizeof bytes);
    cr_assert_eq(kvt_safetensors_open(scratch.path, &file), KVT_CORRUPT);
    file_drop(&scratch);
}

KVT_TEST(safetensors, every_cut_and_every_flipped_header_byte_is_survived)
{
    static const char header[] =
        "{\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\","
        "\"shape\":[3],\"data_offsets\":[8,11]}}";
    uint8_t whole[512];
    size_t count = tensors_make(whole, header, 11);
    for (size_t cut = 0; cut < count; cut++) {
        kvt_safetensors *file = NULL;
        scratch_file scratch = file_make(whole, cut);
        cr_assert_eq(kvt_safetensors_open(scratch.path, &file), KVT_CORRUPT, "cut at %zu", cut);
        file_drop(&scratch);
    }
    scratch_file scratch = file_make(whole, count);
    for (size_t at = 0; at < count - 11; at++) {
        for (uint32_t bit = 0; bit < 8; bit += 3) {
            int descriptor = open(scratch.path, O_WRONLY);
            uint8_t flipped = whole[at] ^ (uint8_t)(1u << bit);
            cr_assert_eq(pwrite(descriptor, &flipped, 1, (off_t)at), 1);
            kvt_safetensors *file = NULL;
            if (kvt_safetensors_open(scratch.path, &file) ==
                KVT_OK) { /* a renamed tensor, say: still inside the file */
                for (size_t i = 0; i < kvt_safetensors_count(file); i++) {
                    const kvt_tensor *tensor = kvt_safetensors_at(file, i);
                    cr_assert(tensor->offset <= count && tensor->bytes <= count - tensor->offset);
                }
                kvt_safetensors_close(file);
            }
            cr_assert_eq(pwrite(descriptor, &whole[at], 1, (off_t)at), 1);
            close(descriptor);
        }
    }
    file_drop(&scratch);
}

KVT_TEST(safetensors, what_is_no_regular_file_is_refused)
{
    kvt_safetensors *file;
    cr_assert_eq(kvt_safetensors_open("/nonexistent/file", &file), KVT_IO);
    cr_assert_eq(kvt_safetensors_open("/", &file), KVT_IO);
    cr_assert_eq(kvt_safetensors_open("/dev/zero", &file), KVT_IO);
}

/* ------------------------------------------------------------------------- npy */

static size_t npy_make(uint8_t *to, uint8_t version, const char *dict, const void *data, size_t bytes)
{
    size_t length = strlen(dict), begin = version == 1 ? 10 : 12;
    memcpy(to, "\x93NUMPY", 6);
    to[6] = version;
    to[7] = 0;
    kvt_store_le32(to + 8, (uint32_t)length);
    memcpy(to + begin, dict, length);
    memcpy(to + begin + length, data, bytes);
    return begin + length + bytes;
}

KVT_TEST(npy, arrays_of_each_known_type_give_their_tokens)
{
    static const struct {
        uint8_t version;
        const char *dict;
        const char *data;
        size_t bytes;
        uint64_t rows;
        uint32_t tokens[2];
    } cases[] = {
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n", "\1\0\0\0\2\1\0\0", 8, 1, {1, 258}},
        {2,
         "{'descr': '<u4', 'fortran_order': False, 'shape': (2,)}   \n",
         "\377\377\377\377\2\0\0\0",
         8,
         1,
         {UINT32_MAX, 2}},
        {3,
         "{\"shape\": (1, 2), \"descr\": \"<i8\", \"fortran_order\": False}",
         "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0",
         16,
         1,
         {1, 2}},
        {1, "{'descr': '>i4', 'fortran_order': True, 'shape': (2,)}", "\0\0\0\1\0\0\1\2", 8, 1, {1, 258}},
        {1,
         "{'descr': '<u8', 'fortran_order': False, 'shape': (2, 1)}",
         "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0",
         16,
         2,
         {1, 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[256];
        kvt_npy array;
        size_t count = npy_make(bytes, cases[i].version, cases[i].dict, cases[i].data, cases[i].bytes);
        cr_assert_eq(kvt_npy_parse(bytes, count, &array), KVT_OK, "%s: %s", cases[i].dict, kvt_last_error());
        cr_assert_eq(array.rows, cases[i].rows);
        for (uint64_t t = 0; t < 2; t++) {
            uint32_t token;
            cr_assert(kvt_npy_token(&array, t, &token));
            cr_assert_eq(token, cases[i].tokens[t], "%s", cases[i].dict);
        }
    }
}

KVT_TEST(npy, negative_and_huge_items_are_no_tokens)
{
    uint8_t bytes[256];
    kvt_npy array;
    uint32_t token;
    size_t count = npy_make(bytes, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}", "\377\377\377\377", 4);
    cr_assert_eq(kvt_npy_parse(bytes, count, &array), KVT_OK);
    cr_assert_not(kvt_npy_token(&array, 0, &token));
    count = npy_make(bytes, 1, "{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}", "\0\0\0\0\1\0\0\0", 8);
    cr_assert_eq(kvt_npy_parse(bytes, count, &array), KVT_OK);
    cr_assert_not(kvt_npy_token(&array, 0, &token));
}

KVT_TEST(npy, broken_and_foreign_arrays_are_refused)
{
    static const struct {
        uint8_t version;
        const char *dict;
        kvt_status status;
    } cases[] = {
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", KVT_UNSUPPORTED},
        {1, "{'descr': '|i1', 'fortran_order': False, 'shape': (8,)}", KVT_UNSUPPORTED},
        {1, "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': True, 'shape': (1, 2)}", KVT_UNSUPPORTED},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': ()}", KVT_UNSUPPORTED},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 2)}", KVT_UNSUPPORTED},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (3,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387905,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)} x", KVT_CORRUPT},
        {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)", KVT_CORRUPT},
        {1, "{'evil': __import__('os')}", KVT_CORRUPT},
        {1, "", KVT_CORRUPT},
        {9, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", KVT_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[256];
        kvt_npy array;
        size_t count = npy_make(bytes, cases[i].version, cases[i].dict, "\1\0\0\0\2\0\0\0", 8);
        cr_assert_eq(kvt_npy_parse(bytes, count, &array), cases[i].status, "%s: %s", cases[i].dict, kvt_last_error());
    }
}

KVT_TEST(npy, every_cut_is_refused)
{
    uint8_t bytes[256];
    kvt_npy array;
    size_t count = npy_make(bytes, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", "\1\0\0\0\2\0\0\0", 8);
    for (size_t cut = 0; cut < count; cut++) {
        uint8_t *exact = kvt_alloc(cut + 1); /* its own block, so that a sanitizer sees a read behind it */
        memcpy(exact, bytes, cut);
        cr_assert_neq(kvt_npy_parse(exact, cut, &array), KVT_OK, "cut at %zu", cut);
        kvt_free(exact);
    }
}

/* ---------------------------------------------------------------------- tokens */

static kvt_status tokens_read(const void *bytes, size_t count, kvt_prompts *prompts)
{
    scratch_file file = file_make(bytes, count);
    kvt_status status = kvt_prompts_read(file.path, prompts);
    file_drop(&file);
    return status;
}

KVT_TEST(tokens, lines_hold_arrays_or_objects)
{
    static const char text[] = "[1, 2, 3]\n\n  \r\n{\"id\": 7, \"tokens\": [4294967295], \"text\": \"x\"}\r\n[0]";
    kvt_prompts prompts = {0};
    uint64_t count;
    cr_assert_eq(tokens_read(text, sizeof text - 1, &prompts), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(prompts.count, 3);
    const uint32_t *tokens = kvt_prompt_tokens(&prompts, 0, &count);
    cr_assert(count == 3 && tokens[2] == 3);
    tokens = kvt_prompt_tokens(&prompts, 1, &count);
    cr_assert(count == 1 && tokens[0] == UINT32_MAX);
    kvt_prompts_free(&prompts);
}

KVT_TEST(tokens, a_bad_line_is_named_by_its_number)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "holds no prompt"},
        {"\n \n", "holds no prompt"},
        {"[1]\n[2\n", "line 2 is no valid JSON"},
        {"[1]\n\n{\"ids\": [1]}\n", "line 3 is neither"},
        {"[1]\n7\n", "line 2"},
        {"[]\n", "line 1: the prompt is empty"},
        {"[1]\n[1, -1]\n", "line 2: item 1"},
        {"[4294967296]\n", "line 1: item 0"},
        {"[1.0]\n", "line 1: item 0"},
        {"[true]\n", "line 1: item 0"},
        {"[1] [2]\n", "line 1 is no valid JSON"},
        {"{\"tokens\": [1], \"tokens\": [2]}\n", "line 1 is no valid JSON"},
        {"{\"tokens\": 5}\n", "line 1 is neither"},
        {"\x93NUMPY", "cut short"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvt_prompts prompts = {0};
        kvt_status status = tokens_read(cases[i].text, strlen(cases[i].text), &prompts);
        cr_assert(status < 0, "'%s' was taken", cases[i].text);
        cr_assert(i == sizeof cases / sizeof *cases - 1 || strstr(kvt_last_error(), cases[i].why) != NULL, "'%s': %s",
                  cases[i].text, kvt_last_error());
    }
    kvt_prompts prompts;
    cr_assert_eq(kvt_prompts_read("/nonexistent/file", &prompts), KVT_IO);
    cr_assert_eq(kvt_prompts_read("/", &prompts), KVT_IO);
}

KVT_TEST(tokens, arrays_of_numpy_hold_a_prompt_a_row)
{
    uint8_t bytes[256];
    uint64_t tokens;
    kvt_prompts prompts = {0};
    size_t count =
        npy_make(bytes, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1)}", "\1\0\0\0\2\0\0\0", 8);
    cr_assert_eq(tokens_read(bytes, count, &prompts), KVT_OK);
    cr_assert(prompts.count == 2 && kvt_prompt_tokens(&prompts, 1, &tokens)[0] == 2 && tokens == 1);
    kvt_prompts_free(&prompts);
    count =
        npy_make(bytes, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", "\1\0\0\0\377\377\377\377", 8);
    cr_assert_eq(tokens_read(bytes, count, &prompts), KVT_CORRUPT);
    cr_assert_not_null(strstr(kvt_last_error(), "row 0, item 1"));
    count = npy_make(bytes, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 2)}", "", 0);
    cr_assert_eq(tokens_read(bytes, count, &prompts), KVT_CORRUPT);
}

KVT_TEST(tokens, many_prompts_and_long_ones_grow_without_loss)
{
    kvt_prompts prompts = {0};
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t tokens[40];
        for (uint32_t t = 0; t < i % 40; t++)
            tokens[t] = i * 1000 + t;
        cr_assert_eq(kvt_prompts_append(&prompts, tokens, i % 40), KVT_OK);
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t count;
        const uint32_t *tokens = kvt_prompt_tokens(&prompts, i, &count);
        cr_assert_eq(count, i % 40);
        for (uint32_t t = 0; t < count; t++)
            cr_assert_eq(tokens[t], i * 1000 + t);
    }
    kvt_prompts_free(&prompts);
}

KVT_TEST(tokens, short_memory_is_an_answer_not_a_crash)
{
    static const char text[] = "[1, 2, 3]\n[4]\n";
    scratch_file file = file_make(text, sizeof text - 1);
    for (uint64_t n = 1; n < 4; n++) {
        kvt_prompts prompts = {0};
        kvt_alloc_fail_at(n);
        kvt_status status = kvt_prompts_read(file.path, &prompts);
        kvt_alloc_fail_at(0);
        cr_assert_eq(status, KVT_NOMEM, "allocation %d", (int)n);
    }
    file_drop(&file);
}
