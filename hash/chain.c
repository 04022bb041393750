/* SPDX-License-Identifier: Apache-2.0
 *
 * Names: ids of spaces, keys of token chunks, fingerprints of tokens. Format: docs/format_keys.md. A key is the hash of
 * the key before it and the chunk's tokens, so equal keys mean equal prefixes.
 */
#include "hash/hash_int.h"

/* Frozen with the format; the tests compare it with what libxxhash derives. */
/* clang-format off */
const uint8_t kvt_fingerprint_secret[KVT_FINGERPRINT_SECRET_BYTES] = {
    0x2b, 0x6a, 0xdc, 0xad, 0x50, 0x18, 0xc2, 0x29, 0x09, 0x96, 0x11, 0xb8, 0xc9, 0xad, 0x36, 0xb1,
    0x51, 0x40, 0xdd, 0x5d, 0xb1, 0x04, 0x0e, 0x47, 0xff, 0xd4, 0x34, 0x30, 0x8a, 0x3f, 0xf1, 0xb3,
    0x3e, 0xe5, 0x55, 0xc3, 0xf9, 0x34, 0x5c, 0xe4, 0x0f, 0xef, 0x60, 0x09, 0x9f, 0x8b, 0xfc, 0xb5,
    0x2b, 0x74, 0xb5, 0xe8, 0x24, 0xb8, 0x9a, 0xf9, 0x6d, 0xca, 0x20, 0x72, 0x54, 0xc6, 0xaf, 0xe0,
    0xaf, 0x93, 0xc1, 0x2f, 0xbf, 0x37, 0x77, 0x36, 0x15, 0x65, 0xf6, 0x16, 0xee, 0xde, 0xb7, 0x37,
    0xe4, 0xcf, 0xb7, 0x0b, 0xd0, 0x81, 0x6f, 0xba, 0xc5, 0xad, 0x7f, 0xd2, 0x7b, 0x6a, 0x36, 0x6d,
    0x1b, 0x66, 0xe6, 0xb3, 0x10, 0x11, 0xab, 0xaa, 0x86, 0x71, 0x4c, 0x53, 0x9a, 0x97, 0xd8, 0xb1,
    0xfd, 0xbc, 0x4f, 0xc0, 0xfa, 0x28, 0xd0, 0x9c, 0x55, 0x34, 0x0f, 0x55, 0xac, 0x04, 0xfd, 0xf8,
    0x5d, 0x31, 0x1c, 0xf8, 0x61, 0x47, 0x62, 0x2f, 0x52, 0x16, 0x31, 0x8b, 0xcd, 0x9f, 0xec, 0x7f,
    0x8a, 0x78, 0x4c, 0xc6, 0xe4, 0x64, 0x51, 0xb5, 0x60, 0xab, 0xe5, 0xb1, 0xfb, 0x5f, 0xf2, 0x32,
    0x9e, 0x81, 0x2d, 0xcd, 0xaa, 0xbb, 0x17, 0x68, 0x1c, 0x8d, 0x49, 0x5d, 0x4d, 0x5c, 0xbb, 0x62,
    0xb8, 0x36, 0xaa, 0x03, 0xc3, 0x8a, 0x7a, 0x93, 0x3c, 0x6c, 0x8c, 0x56, 0x8e, 0xd7, 0xc9, 0x12
};
/* clang-format on */

static kvt_status unknown_hash(kvt_hash_id hash)
{
    return kvt_fail(KVT_INVALID, "hash id %u is unknown; use KVT_HASH_XXH3 or KVT_HASH_SHA256", (unsigned)hash);
}

kvt_status kvt_space_id(kvt_hash_id hash, const void *text, size_t bytes, kvt_key *out)
{
    if (hash == KVT_HASH_XXH3) {
        kvt_hash128 digest = kvt_xxh3_128(text, bytes);
        memcpy(out->bytes, digest.bytes, KVT_KEY_BYTES);
        return KVT_OK;
    }
    if (hash != KVT_HASH_SHA256)
        return unknown_hash(hash);
    uint8_t digest[32];
    KVT_TRY(kvt_sha256(text, bytes, digest));
    memcpy(out->bytes, digest, KVT_KEY_BYTES);
    return KVT_OK;
}

static void fingerprint_chunks(const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                               uint64_t *fingerprints)
{
    for (size_t i = 0; fingerprints != NULL && i < chunk_count; i++)
        fingerprints[i] = kvt_token_fingerprint(tokens + i * chunk_tokens, chunk_tokens);
}

kvt_status kvt_chain_names(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens,
                           size_t chunk_count, kvt_key *keys, uint64_t *fingerprints)
{
    if (chunk_tokens == 0 || chunk_tokens > KVT_CHUNK_TOKENS_MAX)
        return kvt_fail(KVT_INVALID, "a chunk of %u tokens; the limits are 1 and %u", (unsigned)chunk_tokens,
                        (unsigned)KVT_CHUNK_TOKENS_MAX);
    if (hash == KVT_HASH_SHA256) {
        fingerprint_chunks(tokens, chunk_tokens, chunk_count, fingerprints);
        return kvt_sha256_chain(parent, tokens, chunk_tokens, chunk_count, keys);
    }
    if (hash != KVT_HASH_XXH3)
        return unknown_hash(hash);
    kvt_digest_ops_here()->chain(parent, tokens, chunk_tokens, chunk_count, keys, fingerprints);
    return KVT_OK;
}

kvt_status kvt_chain_keys(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens,
                          size_t chunk_count, kvt_key *keys)
{
    return kvt_chain_names(hash, parent, tokens, chunk_tokens, chunk_count, keys, NULL);
}

uint64_t kvt_token_fingerprint(const uint32_t *tokens, uint32_t count)
{
    return kvt_digest_ops_here()->fingerprint(tokens, count);
}
