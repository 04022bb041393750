/* SPDX-License-Identifier: Apache-2.0
 *
 * The .npy header is the text of a Python dict with three known keys; this reads exactly that shape of text and nothing
 * else of the language.
 */
#include "tools/read_npy.h"

#include <inttypes.h>

typedef struct scanner {
    const char *at, *end;
} scanner;

static void skip_blanks(scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t'))
        s->at++;
}

static bool take(scanner *s, char wanted)
{
    skip_blanks(s);
    if (s->at >= s->end || *s->at != wanted)
        return false;
    s->at++;
    return true;
}

static bool take_word(scanner *s, const char *word)
{
    size_t length = strlen(word);
    skip_blanks(s);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return false;
    s->at += length;
    return true;
}

static bool take_string(scanner *s, char *text, size_t bytes)
{
    skip_blanks(s);
    if (s->at >= s->end || (*s->at != '\'' && *s->at != '"'))
        return false;
    char quote = *s->at++;
    size_t length = 0;
    while (s->at < s->end && *s->at != quote && length + 1 < bytes)
        text[length++] = *s->at++;
    text[length] = '\0';
    return take(s, quote);
}

static bool take_number(scanner *s, uint64_t *out)
{
    uint64_t value = 0;
    skip_blanks(s);
    const char *start = s->at;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (!kvt_mul_u64(value, 10, &value) || !kvt_add_u64(value, (uint64_t)(*s->at - '0'), &value))
            return false;
    *out = value;
    return s->at != start;
}

/* "(512,)" or "(4, 512)"; a scalar "()" and more dimensions are refused by their count. */
static bool take_shape(scanner *s, uint64_t shape[2], uint32_t *out_rank)
{
    uint32_t rank = 0;
    if (!take(s, '('))
        return false;
    while (!take(s, ')')) {
        uint64_t dimension;
        if (!take_number(s, &dimension))
            return false;
        if (rank < 2)
            shape[rank] = dimension;
        rank++;
        if (!take(s, ',') && (s->at >= s->end || *s->at != ')'))
            return false;
    }
    *out_rank = rank;
    return true;
}

static kvt_status set_dtype(const char *descr, kvt_npy *out)
{
    size_t length = strlen(descr);
    bool known = length == 3 && strchr("<>=", descr[0]) != NULL && strchr("iu", descr[1]) != NULL &&
                 (descr[2] == '4' || descr[2] == '8');
    if (!known)
        return kvt_fail(KVT_UNSUPPORTED,
                        "the array's type '%.20s' is none for token ids; save it as int32, int64 or uint32", descr);
    out->big_endian = descr[0] == '>';
    out->is_signed = descr[1] == 'i';
    out->item_bytes = (uint32_t)(descr[2] - '0');
    return KVT_OK;
}

/* The dict's keys, in any order. */
typedef struct header_fields {
    char descr[32];
    uint64_t shape[2];
    uint32_t rank;
    bool fortran, has_descr, has_shape, has_order;
} header_fields;

static bool take_entry(scanner *s, header_fields *fields)
{
    char key[32];
    if (!take_string(s, key, sizeof key) || !take(s, ':'))
        return false;
    if (strcmp(key, "descr") == 0)
        return !fields->has_descr && (fields->has_descr = take_string(s, fields->descr, sizeof fields->descr));
    if (strcmp(key, "shape") == 0)
        return !fields->has_shape && (fields->has_shape = take_shape(s, fields->shape, &fields->rank));
    if (strcmp(key, "fortran_order") != 0 || fields->has_order)
        return false;
    fields->fortran = take_word(s, "True");
    fields->has_order = fields->fortran || take_word(s, "False");
    return fields->has_order;
}

static bool take_dict(scanner *s, header_fields *fields)
{
    if (!take(s, '{'))
        return false;
    while (!take(s, '}')) {
        if (!take_entry(s, fields) || (!take(s, ',') && (s->at >= s->end || *s->at != '}')))
            return false;
    }
    skip_blanks(s);
    return s->at == s->end && fields->has_descr && fields->has_shape && fields->has_order;
}

bool kvt_npy_is(const void *bytes, size_t count) { return count >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0; }

/* Where the header's text lies; false: the file is too short for what it announces. */
static bool find_header(const uint8_t *file, size_t count, size_t *out_begin, size_t *out_end)
{
    if (count < 12)
        return false;
    bool wide = file[6] >= 2; /* version 1 has a two-byte length */
    size_t bytes = wide ? kvt_load_le32(file + 8) : (size_t)file[8] | (size_t)file[9] << 8;
    *out_begin = wide ? 12 : 10;
    if (bytes > count - *out_begin)
        return false;
    *out_end = *out_begin + bytes;
    return true;
}

kvt_status kvt_npy_parse(const void *bytes, size_t count, kvt_npy *out)
{
    const uint8_t *file = bytes;
    size_t begin, end;
    kvt_npy array = {0};
    header_fields fields = {0};
    if (!kvt_npy_is(bytes, count) || count < 12)
        return kvt_fail(KVT_CORRUPT, "is no .npy file");
    if (file[6] < 1 || file[6] > 3)
        return kvt_fail(KVT_UNSUPPORTED, "has version %d of the .npy format; 1 to 3 are known", file[6]);
    if (!find_header(file, count, &begin, &end))
        return kvt_fail(KVT_CORRUPT, "the .npy header is longer than the file; it is cut short");
    scanner s = {(const char *)file + begin, (const char *)file + end};
    if (!take_dict(&s, &fields))
        return kvt_fail(KVT_CORRUPT, "the .npy header is damaged near its byte %td",
                        s.at - ((const char *)file + begin));
    KVT_TRY(set_dtype(fields.descr, &array));
    if (fields.rank != 1 && fields.rank != 2)
        return kvt_fail(KVT_UNSUPPORTED, "the array has %u dimensions; give one, or two with a prompt a row",
                        fields.rank);
    if (fields.rank == 2 && fields.fortran)
        return kvt_fail(KVT_UNSUPPORTED, "the array is in Fortran order; save it with numpy.ascontiguousarray");
    array.rows = fields.rank == 2 ? fields.shape[0] : 1;
    array.columns = fields.shape[fields.rank - 1];
    array.data = file + end;
    uint64_t need;
    if (!kvt_mul_u64(array.rows, array.columns, &need) || !kvt_mul_u64(need, array.item_bytes, &need) ||
        need != count - end)
        return kvt_fail(KVT_CORRUPT,
                        "the array holds %zu bytes of data, which is not what its shape needs; it may be cut short",
                        count - end);
    *out = array;
    return KVT_OK;
}

bool kvt_npy_token(const kvt_npy *array, uint64_t i, uint32_t *out)
{
    const uint8_t *item = array->data + i * array->item_bytes;
    uint64_t value = 0;
    for (uint32_t b = 0; b < array->item_bytes; b++)
        value |= (uint64_t)item[array->big_endian ? array->item_bytes - 1 - b : b] << (8 * b);
    bool negative = array->is_signed && (value >> (8 * array->item_bytes - 1)) != 0;
    if (negative || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}
