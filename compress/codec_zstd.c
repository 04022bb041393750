/* SPDX-License-Identifier: Apache-2.0
 *
 * zstd over byte planes; format: docs/format_codecs.md.
 *
 * Elements of 2, 4 or 8 bytes are split into planes, block by block, and each plane is a zstd frame of its own, or
 * stored as it is where zstd gains nothing. On real bf16 KV this takes 1.47 times less room, where zstd alone
 * takes 1.27, and decodes twice as fast, since the mantissa planes are only copied. Blocks keep the working memory
 * small and fixed. Elements of one byte are one block and one plane: plain zstd.
 *
 * Uses the allocator hook and one parameter of zstd's "static" interface, so that its heap is counted as ours.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "compress/byte_planes.h"
#include "compress/compress_int.h"

#include <zstd.h>
#include <zstd_errors.h>

enum {
    HEADER_BYTES = 4,      /* element bytes, log2 of the block, two zero bytes */
    LENGTH_BYTES = 4,      /* before each plane */
    PLAIN_BLOCK_LOG2 = 26, /* one-byte elements: the largest blob is one block */
    SPLIT_BLOCK_LOG2 = 17, /* planes of 64 KiB (2-byte elements): a Huffman table for about one layer's K or V */
    BLOCK_LOG2_MIN = 16,
    SPLIT_BLOCK_LOG2_MAX = 20, /* bounds a decoder's memory */
    LEVEL_DEFAULT = 1,
    LEVEL_MAX = 19,    /* higher levels use windows over 8 MiB */
    LEVEL_OPTIMAL = 16 /* from here zstd's optimal parser beats the match-poor settings below */
};
#define PLANE_STORED UINT32_C(0x80000000) /* in the length: the plane as it is */

static_assert(KVT_BLOB_BYTES_MAX <= UINT64_C(1) << PLAIN_BLOCK_LOG2, "a plain blob is one block");

static void *zstd_alloc(void *arg, size_t bytes)
{
    (void)arg;
    return kvt_alloc(bytes);
}

static void zstd_free(void *arg, void *memory)
{
    (void)arg;
    kvt_free(memory);
}

static const ZSTD_customMem our_heap = {zstd_alloc, zstd_free, NULL};

/* ------------------------------------------------------------------ encoding */

typedef struct encoder {
    ZSTD_CCtx *context;
    uint8_t *out;
    uint64_t used;
    uint64_t capacity;
} encoder;

static uint64_t bound(uint64_t raw_bytes)
{
    uint64_t blocks = (raw_bytes >> SPLIT_BLOCK_LOG2) + 1;
    return HEADER_BYTES + raw_bytes + blocks * KVT_ELEMENT_BYTES_MAX * LENGTH_BYTES;
}

/* Planes have almost no repeats: what counts is the entropy coder. So the match finder looks for long matches only, and
 * steps fast where it finds none; slower searches below the optimal parser make planes larger, not smaller. */
static size_t set_plane_parameters(ZSTD_CCtx *context, int level)
{
    static const struct {
        ZSTD_cParameter parameter;
        int value;
    } fixed[] = {{ZSTD_c_strategy, ZSTD_fast},
                 {ZSTD_c_minMatch, 7},
                 {ZSTD_c_hashLog, 12},
                 {ZSTD_c_literalCompressionMode, ZSTD_ps_enable}};
    size_t result = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed && !ZSTD_isError(result); i++)
        result = ZSTD_CCtx_setParameter(context, fixed[i].parameter, fixed[i].value);
    int step = level > 1 ? 0 : level == 1 ? 16 : ZSTD_TARGETLENGTH_MAX;
    return ZSTD_isError(result) ? result : ZSTD_CCtx_setParameter(context, ZSTD_c_targetLength, step);
}

static kvt_status encoder_start(encoder *e, int level, bool split)
{
    level = level == 0 ? LEVEL_DEFAULT : level > LEVEL_MAX ? LEVEL_MAX : level;
    e->context = ZSTD_createCCtx_advanced(our_heap);
    if (e->context == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a zstd encoder; store the blob raw or lower worker_count");
    size_t result = ZSTD_CCtx_setParameter(e->context, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(result) && split && level < LEVEL_OPTIMAL)
        result = set_plane_parameters(e->context, level);
    if (ZSTD_isError(result))
        return kvt_fail(KVT_UNSUPPORTED, "this libzstd refuses a parameter (%s); 1.5 is needed",
                        ZSTD_getErrorName(result));
    return KVT_OK;
}

/* Append one plane: compressed if that makes it smaller, else stored. */
static kvt_status put_plane(encoder *e, const uint8_t *plane, uint64_t bytes)
{
    uint64_t room = e->capacity - e->used;
    if (room <= LENGTH_BYTES)
        return KVT_REJECTED;
    room -= LENGTH_BYTES;
    uint8_t *at = e->out + e->used + LENGTH_BYTES;
    size_t size = ZSTD_compress2(e->context, at, kvt_min_u64(room, bytes - 1), plane, bytes);
    uint32_t length = (uint32_t)size;
    if (ZSTD_isError(size)) {
        if (ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
            return kvt_fail(KVT_NOMEM, "no memory for zstd's tables; store the blob raw or lower worker_count");
        if (room < bytes)
            return KVT_REJECTED;
        memcpy(at, plane, bytes);
        size = bytes;
        length = (uint32_t)bytes | PLANE_STORED;
    }
    kvt_store_le32(at - LENGTH_BYTES, length);
    e->used += LENGTH_BYTES + size;
    return KVT_OK;
}

static kvt_status put_block(encoder *e, const uint8_t *raw, uint64_t bytes, uint32_t element_bytes, uint8_t *planes)
{
    if (element_bytes == 1)
        return put_plane(e, raw, bytes);
    uint64_t plane_bytes = bytes / element_bytes;
    kvt_planes_split(raw, plane_bytes, element_bytes, planes);
    kvt_status status = KVT_OK;
    for (uint32_t i = 0; i < element_bytes && status == KVT_OK; i++)
        status = put_plane(e, planes + i * plane_bytes, plane_bytes);
    return status;
}

static bool element_bytes_valid(uint32_t element_bytes)
{
    return kvt_is_power_of_two(element_bytes) && element_bytes <= KVT_ELEMENT_BYTES_MAX;
}

static kvt_status encode(const kvt_codec_hint *hint, const void *raw, uint64_t raw_bytes, void *out, uint64_t capacity,
                         uint64_t *out_bytes)
{
    uint32_t element_bytes = hint->element_bytes;
    if (!element_bytes_valid(element_bytes) || raw_bytes % element_bytes != 0)
        element_bytes = 1;
    uint32_t block_log2 = element_bytes == 1 ? PLAIN_BLOCK_LOG2 : SPLIT_BLOCK_LOG2;
    if (capacity < HEADER_BYTES)
        return KVT_REJECTED;
    encoder e = {.out = out, .used = HEADER_BYTES, .capacity = capacity};
    memcpy(out, (const uint8_t[HEADER_BYTES]){(uint8_t)element_bytes, (uint8_t)block_log2}, HEADER_BYTES);

    uint8_t *planes = NULL;
    kvt_status status = encoder_start(&e, hint->level, element_bytes > 1);
    if (status == KVT_OK && element_bytes > 1 && (planes = kvt_alloc_aligned(64, (size_t)1 << block_log2)) == NULL)
        status = kvt_fail(KVT_NOMEM, "no memory to split a blob; store it raw or lower worker_count");
    for (uint64_t done = 0; done < raw_bytes && status == KVT_OK;) {
        uint64_t bytes = kvt_min_u64(raw_bytes - done, UINT64_C(1) << block_log2);
        status = put_block(&e, (const uint8_t *)raw + done, bytes, element_bytes, planes);
        done += bytes;
    }
    if (status == KVT_OK)
        *out_bytes = e.used;
    kvt_free(planes);
    ZSTD_freeCCtx(e.context);
    return status;
}

/* ------------------------------------------------------------------ decoding */

typedef struct decoder {
    ZSTD_DCtx *context;
    const uint8_t *at;
    uint64_t left;
    uint32_t element_bytes;
    uint32_t block_log2;
} decoder;

static kvt_status corrupt(const char *what)
{
    return kvt_fail(KVT_CORRUPT, "a zstd payload %s; drop the record", what);
}

/* Exactly one frame of today's format. The rest of what zstd takes (frames of old versions with decoders of their own,
 * skippable frames, several frames) is no payload of ours. */
static bool is_one_frame(const uint8_t *data, uint64_t bytes)
{
    return bytes >= 4 && kvt_load_le32(data) == ZSTD_MAGICNUMBER && ZSTD_findFrameCompressedSize(data, bytes) == bytes;
}

/* Take one plane of plane_bytes: decoded into room, or where it lies in the input if it is stored. */
static kvt_status get_plane(decoder *d, uint64_t plane_bytes, uint8_t *room, const uint8_t **out)
{
    if (d->left < LENGTH_BYTES)
        return corrupt("ends within a length");
    uint32_t length = kvt_load_le32(d->at);
    uint64_t size = length & ~PLANE_STORED;
    d->at += LENGTH_BYTES;
    d->left -= LENGTH_BYTES;
    if (size > d->left)
        return corrupt("ends within a plane");
    const uint8_t *plane = d->at;
    d->at += size;
    d->left -= size;
    if ((length & PLANE_STORED) != 0) {
        *out = plane;
        return size == plane_bytes ? KVT_OK : corrupt("holds a plane of another size");
    }
    *out = room;
    if (!is_one_frame(plane, size))
        return corrupt("holds a plane that is no zstd frame");
    size_t result = ZSTD_decompressDCtx(d->context, room, plane_bytes, plane, size);
    return result == plane_bytes ? KVT_OK : corrupt("holds a zstd frame that is damaged or of another size");
}

static kvt_status get_block(decoder *d, uint8_t *raw, uint64_t bytes, uint8_t *room)
{
    const uint8_t *planes[KVT_ELEMENT_BYTES_MAX];
    uint64_t plane_bytes = bytes / d->element_bytes;
    for (uint32_t i = 0; i < d->element_bytes; i++) {
        uint8_t *into = d->element_bytes == 1 ? raw : room + i * plane_bytes;
        KVT_TRY(get_plane(d, plane_bytes, into, &planes[i]));
    }
    if (d->element_bytes > 1)
        kvt_planes_merge(planes, plane_bytes, d->element_bytes, raw);
    else if (planes[0] != raw)
        memcpy(raw, planes[0], bytes);
    return KVT_OK;
}

static kvt_status get_header(decoder *d, uint64_t raw_bytes)
{
    if (d->left < HEADER_BYTES)
        return corrupt("has no room for its header");
    d->element_bytes = d->at[0];
    d->block_log2 = d->at[1];
    uint32_t block_log2_max = d->element_bytes == 1 ? PLAIN_BLOCK_LOG2 : SPLIT_BLOCK_LOG2_MAX;
    if (!element_bytes_valid(d->element_bytes) || raw_bytes % d->element_bytes != 0 || d->block_log2 < BLOCK_LOG2_MIN ||
        d->block_log2 > block_log2_max || d->at[2] != 0 || d->at[3] != 0)
        return corrupt("has a header that does not fit its blob");
    d->at += HEADER_BYTES;
    d->left -= HEADER_BYTES;
    return KVT_OK;
}

static kvt_status decode_blocks(decoder *d, uint8_t *raw, uint64_t raw_bytes)
{
    uint64_t block_bytes = kvt_min_u64(raw_bytes, UINT64_C(1) << d->block_log2);
    uint8_t *room = NULL;
    if (d->element_bytes > 1 && raw_bytes != 0 && (room = kvt_alloc_aligned(64, block_bytes)) == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to merge a blob; lower worker_count");
    kvt_status status = KVT_OK;
    for (uint64_t done = 0; done < raw_bytes && status == KVT_OK; done += block_bytes) {
        uint64_t bytes = kvt_min_u64(raw_bytes - done, block_bytes);
        status = get_block(d, raw + done, bytes, room);
    }
    kvt_free(room);
    if (status == KVT_OK && d->left != 0)
        status = corrupt("goes on behind its last plane");
    return status;
}

static kvt_status decode(const void *encoded, uint64_t encoded_bytes, void *out, uint64_t raw_bytes)
{
    decoder d = {.at = encoded, .left = encoded_bytes};
    KVT_TRY(get_header(&d, raw_bytes));
    d.context = ZSTD_createDCtx_advanced(our_heap);
    if (d.context == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a zstd decoder; lower worker_count");
    kvt_status status = decode_blocks(&d, out, raw_bytes);
    ZSTD_freeDCtx(d.context);
    return status;
}

const kvt_codec kvt_codec_zstd = {
    .id = KVT_CODEC_ZSTD, .name = "zstd", .bound = bound, .encode = encode, .decode = decode};
