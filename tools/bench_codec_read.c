/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of KV as planes of chunks.
 */
#include "tools/bench_codec.h"
#include "tools/read_safetensors.h"

#include <math.h>
#include <stdlib.h>

const char *kvt_plane_side_name(kvt_plane_side side)
{
    return side == KVT_PLANE_K ? "K" : side == KVT_PLANE_V ? "V" : "other";
}

const char *kvt_element_kind_name(kvt_element_kind kind)
{
    static const char *const names[] = {"opaque", "bf16", "fp16", "e4m3", "e5m2"};
    return names[kind];
}

/* "layer.3.k", "model.layers.3.key_cache", ...: the last word decides. */
static kvt_plane_side side_of(const char *name)
{
    const char *word = strrchr(name, '.');
    word = word != NULL ? word + 1 : name;
    if (word[0] == 'k' || word[0] == 'K')
        return KVT_PLANE_K;
    return word[0] == 'v' || word[0] == 'V' ? KVT_PLANE_V : KVT_PLANE_OTHER;
}

static kvt_element_kind kind_of_tensor(const kvt_tensor *tensor)
{
    kvt_element_kind kind = kvt_element_kind_of(tensor->dtype);
    return kvt_element_kind_bytes(kind) == tensor->element_bytes && tensor->rank >= 2 ? kind : KVT_ELEMENT_OPAQUE;
}

/* ---- casts from bf16 ---- */

/* Round to a format of `exponent_bits` and `mantissa_bits`; what is larger than its largest number becomes that one. */
static uint32_t cast_to(uint32_t bf16, uint32_t exponent_bits, uint32_t mantissa_bits, double largest)
{
    uint32_t bits = bf16 << 16, sign = bf16 >> 15;
    float value;
    memcpy(&value, &bits, sizeof value);
    double magnitude = fabs((double)value);
    int bias = (1 << (exponent_bits - 1)) - 1, exponent = 0;
    if (!(magnitude <= largest))
        magnitude = largest;
    frexp(magnitude, &exponent);
    int lowest = 1 - bias, power = magnitude == 0 || exponent - 1 < lowest ? lowest : exponent - 1;
    double steps = nearbyint(ldexp(magnitude, (int)mantissa_bits - power));
    /* `steps` counts from 0 below the smallest normal number, else from 2^mantissa_bits; a carry moves the exponent. */
    uint32_t body = (uint32_t)steps + ((uint32_t)(power - lowest) << mantissa_bits);
    return sign << (exponent_bits + mantissa_bits) | body;
}

static uint32_t cast_element(uint32_t bf16, kvt_element_kind kind)
{
    if (kind == KVT_ELEMENT_FP16)
        return cast_to(bf16, 5, 10, 65504);
    return kind == KVT_ELEMENT_E4M3 ? cast_to(bf16, 4, 3, 448) : cast_to(bf16, 5, 2, 57344);
}

static void cast_run(const uint8_t *from, uint64_t elements, kvt_element_kind kind, uint8_t *to)
{
    uint32_t width = kvt_element_kind_bytes(kind);
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t value = cast_element(from[2 * i] | (uint32_t)from[2 * i + 1] << 8, kind);
        to[i * width] = (uint8_t)value;
        if (width == 2)
            to[2 * i + 1] = (uint8_t)(value >> 8);
    }
}

static kvt_status cast_pieces(kvt_kv_pieces *pieces, kvt_element_kind kind)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        if (pieces->items[i].kind != KVT_ELEMENT_BF16 && pieces->items[i].kind != kind)
            return kvt_fail(KVT_INVALID, "the file holds %s; only bf16 is cast",
                            kvt_element_kind_name(pieces->items[i].kind));
        bytes += (uint64_t)pieces->items[i].tokens * pieces->items[i].channels * kvt_element_kind_bytes(kind);
    }
    pieces->cast = kvt_alloc(bytes);
    if (pieces->cast == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to cast a file; take a smaller one");
    uint8_t *at = pieces->cast;
    for (size_t i = 0; i < pieces->count; i++) {
        kvt_kv_piece *piece = &pieces->items[i];
        uint64_t elements = (uint64_t)piece->tokens * piece->channels;
        if (piece->kind == kind)
            continue;
        cast_run(piece->data, elements, kind, at);
        piece->data = at;
        piece->kind = kind;
        piece->bytes = elements * kvt_element_kind_bytes(kind);
        at += piece->bytes;
    }
    return KVT_OK;
}

/* ---- pieces ---- */

static uint64_t channels_of(const kvt_tensor *tensor)
{
    uint64_t channels = 1;
    for (uint32_t i = 1; i < tensor->rank; i++)
        channels *= tensor->shape[i];
    return channels;
}

static void add_tensor(kvt_kv_pieces *pieces, const kvt_tensor *tensor, uint32_t chunk_tokens)
{
    uint64_t row = channels_of(tensor) * tensor->element_bytes;
    for (uint64_t chunk = 0; (chunk + 1) * chunk_tokens <= tensor->shape[0] && row != 0; chunk++)
        pieces->items[pieces->count++] = (kvt_kv_piece){.data = tensor->data + chunk * chunk_tokens * row,
                                                        .bytes = chunk_tokens * row,
                                                        .tokens = chunk_tokens,
                                                        .channels = (uint32_t)channels_of(tensor),
                                                        .chunk = (uint32_t)chunk,
                                                        .side = side_of(tensor->name),
                                                        .kind = kind_of_tensor(tensor)};
}

static int by_side(const void *a, const void *b)
{
    const kvt_kv_piece *x = a, *y = b;
    if (x->side != y->side)
        return x->side < y->side ? -1 : 1;
    if (x->chunk != y->chunk)
        return x->chunk < y->chunk ? -1 : 1;
    return x->data < y->data ? -1 : x->data > y->data;
}

kvt_status kvt_kv_pieces_read(const char *path, uint32_t chunk_tokens, kvt_element_kind kind, kvt_kv_pieces *out)
{
    *out = (kvt_kv_pieces){.items = NULL};
    kvt_safetensors *file = NULL;
    KVT_TRY(kvt_safetensors_open(path, &file));
    out->file = file;
    size_t most = 0;
    for (size_t i = 0; i < kvt_safetensors_count(file); i++) {
        const kvt_tensor *tensor = kvt_safetensors_at(file, i);
        if (kind_of_tensor(tensor) != KVT_ELEMENT_OPAQUE &&
            channels_of(tensor) <= KVT_BLOB_BYTES_MAX / chunk_tokens / 2)
            most += tensor->shape[0] / chunk_tokens;
    }
    if (most == 0)
        return kvt_fail(KVT_INVALID, "%s holds no floating-point tensor [token][...] of %u tokens", path, chunk_tokens);
    out->items = kvt_alloc_array(most, sizeof *out->items);
    if (out->items == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the planes of %s", path);
    for (size_t i = 0; i < kvt_safetensors_count(file); i++) {
        const kvt_tensor *tensor = kvt_safetensors_at(file, i);
        if (kind_of_tensor(tensor) != KVT_ELEMENT_OPAQUE &&
            channels_of(tensor) <= KVT_BLOB_BYTES_MAX / chunk_tokens / 2)
            add_tensor(out, tensor, chunk_tokens);
    }
    qsort(out->items, out->count, sizeof *out->items, by_side);
    return kind == KVT_ELEMENT_OPAQUE ? KVT_OK : cast_pieces(out, kind);
}

void kvt_kv_pieces_free(kvt_kv_pieces *pieces)
{
    kvt_free(pieces->items);
    kvt_free(pieces->cast);
    kvt_safetensors_close(pieces->file);
    *pieces = (kvt_kv_pieces){.items = NULL};
}
