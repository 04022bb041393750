/* SPDX-License-Identifier: Apache-2.0
 *
 * Identity and integrity: keys of token chunks, digests of payload frames, checksums of metadata. Formats:
 * docs/format_keys.md. Everything here is pure, thread-safe, allocation-free, and gives the same bytes on every
 * machine.
 */
#ifndef KVT_HASH_H
#define KVT_HASH_H

#include "engine/base/base.h"

enum { KVT_FRAME_BYTES = 1 << 20 }; /* payloads are digested in frames; the last one may be short */

/* XXH3-128 with seed 0, stored in canonical order of docs/format_keys.md (low u64 then high u64, little endian). */
typedef struct kvt_hash128 {
    uint8_t bytes[16];
} kvt_hash128;

uint64_t kvt_xxh3_64(const void *data, size_t bytes); /* seed 0 */
uint64_t kvt_xxh3_64_seeded(const void *data, size_t bytes, uint64_t seed);
kvt_hash128 kvt_xxh3_128(const void *data, size_t bytes); /* seed 0 */
static inline bool kvt_hash128_equal(const kvt_hash128 *a, const kvt_hash128 *b) { return memcmp(a, b, 16) == 0; }

/* ---- payload digests ----
 * digest of a frame = XXH3-64(frame); hash of a payload = XXH3-128 over the little-endian array of its frame digests.
 */
static inline uint32_t kvt_frame_count(uint64_t payload_bytes)
{
    return (uint32_t)((payload_bytes + KVT_FRAME_BYTES - 1) / KVT_FRAME_BYTES);
}
/* Fill digests[kvt_frame_count(bytes)]. */
void kvt_frame_digests(const void *payload, uint64_t bytes, uint64_t *digests);
kvt_hash128 kvt_payload_hash(const uint64_t *digests, uint32_t count);

/* ---- keys ----
 * Tokens are hashed as little-endian u32 whatever the machine's order. */

/* Id of a space: hash of its canonical descriptor text, by the hash the space uses for keys.
 * KVT_UNSUPPORTED: SHA-256 asked for, but not built in. */
kvt_status kvt_space_id(kvt_hash_id hash, const void *text, size_t bytes, kvt_key *out);

/* key(i) = H(key(i-1) ‖ tokens(i)); `parent` is the space's id for the first chunk. Writes chunk_count keys, one per
 * run of chunk_tokens tokens. chunk_tokens <= KVT_CHUNK_TOKENS_MAX. */
kvt_status kvt_chain_keys(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens,
                          size_t chunk_count, kvt_key *keys);

/* Fingerprint of a chunk's own tokens, independent of its key: kept in the index, so that a key collision is a miss. */
uint64_t kvt_token_fingerprint(const uint32_t *tokens, uint32_t count);

/* Both at once, faster than one after the other: keys[chunk_count] and fingerprints[chunk_count]. As kvt_chain_keys().
 */
kvt_status kvt_chain_names(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens,
                           size_t chunk_count, kvt_key *keys, uint64_t *fingerprints);

/* ---- others ---- */
bool kvt_sha256_available(void);
/* FIPS 180-4 SHA-256 through libcrypto. KVT_UNSUPPORTED when not built in. */
kvt_status kvt_sha256(const void *data, size_t bytes, uint8_t out[32]);

/* CRC-32C (Castagnoli, reflected, init and final xor all ones), continuing from crc (0 to start). */
uint32_t kvt_crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
