/* SPDX-License-Identifier: Apache-2.0
 *
 * The body of every digest variant: XXH3 of libxxhash, inlined, so that it is compiled for the instruction set of the
 * file that includes this. Included once each by digest.c and digest_<isa>.c; they export one table made of these.
 *
 * A key hashes parent and tokens as one run of bytes. For chunks of usual size the tokens are copied behind the parent on
 * the stack: 45 to 60 ns for 256 tokens, where XXH3's streaming state costs 70 to 75 ns. Larger chunks stream.
 */
#ifndef KVT_DIGEST_BODY_H
#define KVT_DIGEST_BODY_H

#include "hash/hash_int.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(KVT_FINGERPRINT_SECRET_BYTES == XXH3_SECRET_DEFAULT_SIZE, "the size that the seeded variant derives");

static uint64_t hash64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

static void hash128_to_bytes(XXH128_hash_t hash, uint8_t bytes[16])
{
    kvt_store_le64(bytes, hash.low64);
    kvt_store_le64(bytes + 8, hash.high64);
}

static kvt_hash128 hash128(const void *data, size_t bytes)
{
    kvt_hash128 out;
    hash128_to_bytes(XXH3_128bits(data, bytes), out.bytes);
    return out;
}

static uint64_t fingerprint(const uint32_t *tokens, uint32_t count)
{
    if (kvt_host_is_little_endian())
        return XXH3_64bits_withSecretandSeed(tokens, 4 * (size_t)count, kvt_fingerprint_secret,
                                             KVT_FINGERPRINT_SECRET_BYTES, KVT_FINGERPRINT_SEED);
    XXH3_state_t state;
    XXH3_64bits_reset_withSeed(&state, KVT_FINGERPRINT_SEED);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[4];
        kvt_store_le32(bytes, tokens[i]);
        XXH3_64bits_update(&state, bytes, sizeof bytes);
    }
    return XXH3_64bits_digest(&state);
}

static void chain_on_stack(kvt_key parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                           kvt_key *keys)
{
    _Alignas(64) uint8_t input[KVT_KEY_BYTES + 4 * KVT_TOKENS_AT_ONCE];
    memcpy(input, parent.bytes, KVT_KEY_BYTES);
    for (size_t i = 0; i < chunk_count; i++) {
        kvt_tokens_to_bytes(tokens + i * chunk_tokens, chunk_tokens, input + KVT_KEY_BYTES);
        hash128_to_bytes(XXH3_128bits(input, KVT_KEY_BYTES + 4 * (size_t)chunk_tokens), input);
        memcpy(keys[i].bytes, input, KVT_KEY_BYTES);
    }
}

static void chain_streamed(kvt_key parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                           kvt_key *keys)
{
    XXH3_state_t state;
    for (size_t i = 0; i < chunk_count; i++, tokens += chunk_tokens) {
        XXH3_128bits_reset(&state);
        XXH3_128bits_update(&state, parent.bytes, KVT_KEY_BYTES);
        for (uint32_t done = 0; done < chunk_tokens;) {
            uint8_t bytes[4 * KVT_TOKENS_AT_ONCE];
            uint32_t left = chunk_tokens - done;
            uint32_t count = left < KVT_TOKENS_AT_ONCE ? left : KVT_TOKENS_AT_ONCE;
            kvt_tokens_to_bytes(tokens + done, count, bytes);
            XXH3_128bits_update(&state, bytes, 4 * (size_t)count);
            done += count;
        }
        hash128_to_bytes(XXH3_128bits_digest(&state), parent.bytes);
        keys[i] = parent;
    }
}

static void chain(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                  kvt_key *keys)
{
    if (chunk_tokens <= KVT_TOKENS_AT_ONCE)
        chain_on_stack(*parent, tokens, chunk_tokens, chunk_count, keys);
    else
        chain_streamed(*parent, tokens, chunk_tokens, chunk_count, keys);
}

/* The one thing that an including file exports. */
#define KVT_DIGEST_OPS(text)                                                                                           \
    {                                                                                                                  \
        .name = text, .hash64 = hash64, .hash128 = hash128, .fingerprint = fingerprint, .chain = chain                 \
    }

#endif
