/* SPDX-License-Identifier: Apache-2.0
 *
 * The codec that changes nothing: a payload is the blob's bytes and no more. The truth that other codecs are held
 * against.
 */
#include "compress/compress_int.h"

static uint64_t bound(uint64_t raw_bytes) { return raw_bytes; }

static void copy(void *to, const void *from, uint64_t bytes)
{
    if (bytes != 0) /* memcpy takes no NULL, even for nothing */
        memcpy(to, from, bytes);
}

static kvt_status encode(const kvt_codec_hint *hint, const void *raw, uint64_t raw_bytes, void *out, uint64_t capacity,
                         uint64_t *out_bytes)
{
    (void)hint;
    if (capacity < raw_bytes)
        return KVT_REJECTED;
    copy(out, raw, raw_bytes);
    *out_bytes = raw_bytes;
    return KVT_OK;
}

static kvt_status decode(const void *encoded, uint64_t encoded_bytes, void *out, uint64_t raw_bytes)
{
    if (encoded_bytes != raw_bytes)
        return kvt_fail(KVT_CORRUPT, "a raw payload has %llu bytes, its blob %llu; drop the record",
                        (unsigned long long)encoded_bytes, (unsigned long long)raw_bytes);
    copy(out, encoded, raw_bytes);
    return KVT_OK;
}

const kvt_codec kvt_codec_raw = {
    .id = KVT_CODEC_RAW, .name = "raw", .bound = bound, .encode = encode, .decode = decode};
