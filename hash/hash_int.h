/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to hash: the tables that instruction-set variants fill, and how tokens become bytes. Every variant of a table
 * gives the same bytes; the choice between them is speed only.
 */
#ifndef KVT_HASH_INT_H
#define KVT_HASH_INT_H

#include "hash/hash.h"

enum {
    KVT_FINGERPRINT_SECRET_BYTES = 192 /* XXH3's default secret size */
};
#define KVT_FINGERPRINT_SEED UINT64_C(0x6b76742d746f6b73) /* "kvt-toks" read as a big-endian number */

/* XXH3's secret for KVT_FINGERPRINT_SEED, worked out ahead: deriving it costs a third of the hash of 1 KiB. */
extern const uint8_t kvt_fingerprint_secret[KVT_FINGERPRINT_SECRET_BYTES];

/* XXH3 for one instruction set. */
typedef struct kvt_digest_ops {
    const char *name;
    uint64_t (*hash64)(const void *data, size_t bytes, uint64_t seed);
    kvt_hash128 (*hash128)(const void *data, size_t bytes);
    uint64_t (*fingerprint)(const uint32_t *tokens, uint32_t count);
    /* XXH3 keys of chunk_count chunks, and their fingerprints unless NULL; chunk_tokens >= 1. */
    void (*chain)(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                  kvt_key *keys, uint64_t *fingerprints);
} kvt_digest_ops;

extern const kvt_digest_ops kvt_digest_baseline;
extern const kvt_digest_ops kvt_digest_avx2;   /* x86-64 only */
extern const kvt_digest_ops kvt_digest_avx512; /* x86-64 only */

/* CRC-32C for one instruction set; crc is the finished value of what came before. */
typedef struct kvt_crc32c_ops {
    const char *name;
    uint32_t (*update)(uint32_t crc, const uint8_t *data, size_t bytes);
} kvt_crc32c_ops;

extern const kvt_crc32c_ops kvt_crc32c_portable;
extern const kvt_crc32c_ops kvt_crc32c_sse42; /* x86-64 only */

/* Best variant for these bits of kvt_cpu_features(). One file per architecture. */
const kvt_digest_ops *kvt_digest_ops_for(uint32_t features);
const kvt_crc32c_ops *kvt_crc32c_ops_for(uint32_t features);

/* The digest variant of this CPU, picked at the first call. */
const kvt_digest_ops *kvt_digest_ops_here(void);

/* First 16 bytes of SHA-256(parent ‖ tokens as little-endian u32), chunk by chunk. KVT_UNSUPPORTED: not built in. */
kvt_status kvt_sha256_chain(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                            kvt_key *keys);

static inline bool kvt_host_is_little_endian(void) { return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__; }

/* Tokens as little-endian u32. */
static inline void kvt_tokens_to_bytes(const uint32_t *tokens, size_t count, uint8_t *bytes)
{
    if (kvt_host_is_little_endian()) {
        memcpy(bytes, tokens, 4 * count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        kvt_store_le32(bytes + 4 * i, tokens[i]);
}

#endif
