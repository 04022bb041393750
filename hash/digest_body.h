/* SPDX-License-Identifier: Apache-2.0
 *
 * The body of every digest variant: XXH3 of libxxhash, inlined, so that it is compiled for the instruction set of the
 * file that includes this. Included once each by digest.c and digest_<isa>.c; they export one table made of these.
 *
 * A key hashes parent and tokens as one run of bytes, but they do not lie in one run. Copying the tokens behind the
 * parent costs a third more than hashing alone (1 KiB, AVX-512), XXH3's streaming state twice as much. So keys of long
 * chunks are built on XXH3's stripe primitives: 64-byte stripes taken where the tokens lie, only the first one put
 * together.
 */
#ifndef KVT_DIGEST_BODY_H
#define KVT_DIGEST_BODY_H

#include "hash/hash_int.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(XXH_VERSION_NUMBER >= 800 && XXH_VERSION_NUMBER < 900, "long_key() uses stripe primitives of xxHash 0.8");
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

enum {
    STRIPE_TOKENS = XXH_STRIPE_LEN / 4,
    PARENT_TOKENS = KVT_KEY_BYTES / 4, /* room that the parent takes in the first stripe */
    BLOCK_STRIPES = (XXH3_SECRET_DEFAULT_SIZE - XXH_STRIPE_LEN) / XXH_SECRET_CONSUME_RATE,
    SHORT_TOKENS = (XXH3_MIDSIZE_MAX - KVT_KEY_BYTES) / 4 /* up to here XXH3 has no stripes */
};

/* A stripe of tokens as bytes; buffer is used where the machine's order differs. */
static const uint8_t *stripe_bytes(const uint32_t *tokens, uint8_t buffer[XXH_STRIPE_LEN])
{
    if (kvt_host_is_little_endian())
        return (const uint8_t *)tokens;
    kvt_tokens_to_bytes(tokens, STRIPE_TOKENS, buffer);
    return buffer;
}

/* XXH3's walk over one input: stripes in blocks, a scramble after each block; the last stripe ends with the input. */
static inline void take_stripe(xxh_u64 *acc, const uint8_t *data, const uint8_t *secret, uint32_t stripe)
{
    uint32_t place = stripe % BLOCK_STRIPES;
    if (place == 0 && stripe != 0)
        XXH3_scrambleAcc(acc, secret + XXH3_SECRET_DEFAULT_SIZE - XXH_STRIPE_LEN);
    XXH3_accumulate_512(acc, data, secret + place * XXH_SECRET_CONSUME_RATE);
}

static inline void take_last(xxh_u64 *acc, const uint8_t *data, const uint8_t *secret, uint32_t stripes)
{
    const uint8_t *secret_end = secret + XXH3_SECRET_DEFAULT_SIZE;
    if (stripes % BLOCK_STRIPES == 0)
        XXH3_scrambleAcc(acc, secret_end - XXH_STRIPE_LEN);
    XXH3_accumulate_512(acc, data, secret_end - XXH_STRIPE_LEN - XXH_SECRET_LASTACC_START);
}

static inline void take_parent(xxh_u64 *acc, const uint8_t parent[KVT_KEY_BYTES], const uint32_t *tokens)
{
    uint8_t stripe[XXH_STRIPE_LEN];
    memcpy(stripe, parent, KVT_KEY_BYTES);
    kvt_tokens_to_bytes(tokens, STRIPE_TOKENS - PARENT_TOKENS, stripe + KVT_KEY_BYTES);
    take_stripe(acc, stripe, XXH3_kSecret, 0);
}

static inline XXH128_hash_t merge_key(const xxh_u64 *acc, uint64_t bytes)
{
    const uint8_t *high = XXH3_kSecret + XXH3_SECRET_DEFAULT_SIZE - XXH_ACC_NB * 8 - XXH_SECRET_MERGEACCS_START;
    return (XXH128_hash_t){.low64 =
                               XXH3_mergeAccs(acc, XXH3_kSecret + XXH_SECRET_MERGEACCS_START, bytes * XXH_PRIME64_1),
                           .high64 = XXH3_mergeAccs(acc, high, ~(bytes * XXH_PRIME64_2))};
}

/* XXH3-128, seed 0, of parent ‖ tokens for more than SHORT_TOKENS. */
static XXH128_hash_t long_key(const uint8_t parent[KVT_KEY_BYTES], const uint32_t *tokens, uint32_t count)
{
    XXH_ALIGN(XXH_ACC_ALIGN) xxh_u64 acc[XXH_ACC_NB] = XXH3_INIT_ACC;
    const uint64_t bytes = KVT_KEY_BYTES + 4 * (uint64_t)count;
    const uint32_t stripes = (uint32_t)((bytes - 1) / XXH_STRIPE_LEN);
    uint8_t buffer[XXH_STRIPE_LEN];
    take_parent(acc, parent, tokens);
    for (uint32_t i = 1; i < stripes; i++)
        take_stripe(acc, stripe_bytes(tokens + i * STRIPE_TOKENS - PARENT_TOKENS, buffer), XXH3_kSecret, i);
    take_last(acc, stripe_bytes(tokens + count - STRIPE_TOKENS, buffer), XXH3_kSecret, stripes);
    return merge_key(acc, bytes);
}

static XXH128_hash_t short_key(const uint8_t parent[KVT_KEY_BYTES], const uint32_t *tokens, uint32_t count)
{
    uint8_t input[XXH3_MIDSIZE_MAX];
    memcpy(input, parent, KVT_KEY_BYTES);
    kvt_tokens_to_bytes(tokens, count, input + KVT_KEY_BYTES);
    return XXH3_128bits(input, KVT_KEY_BYTES + 4 * (size_t)count);
}

static void chain(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                  kvt_key *keys, uint64_t *fingerprints)
{
    uint8_t key[KVT_KEY_BYTES];
    memcpy(key, parent->bytes, KVT_KEY_BYTES);
    for (size_t i = 0; i < chunk_count; i++, tokens += chunk_tokens) {
        if (fingerprints != NULL)
            fingerprints[i] = fingerprint(tokens, chunk_tokens);
        hash128_to_bytes(chunk_tokens > SHORT_TOKENS ? long_key(key, tokens, chunk_tokens)
                                                     : short_key(key, tokens, chunk_tokens),
                         key);
        memcpy(keys[i].bytes, key, KVT_KEY_BYTES);
    }
}

/* The one thing that an including file exports. */
#define KVT_DIGEST_OPS(text, chain_keys)                                                                               \
    {                                                                                                                  \
        .name = text, .hash64 = hash64, .hash128 = hash128, .fingerprint = fingerprint, .chain = chain_keys            \
    }

#endif
