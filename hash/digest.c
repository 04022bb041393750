/* SPDX-License-Identifier: Apache-2.0
 *
 * Digests through the door: the baseline variant of XXH3 (SSE2 on x86-64, NEON on AArch64), the choice between
 * variants, and the digests of payload frames. The choice is made once and never changes a result, so a race to make it
 * is harmless.
 */
#include "hash/digest_body.h"

#include <stdatomic.h>

const kvt_digest_ops kvt_digest_baseline = KVT_DIGEST_OPS("baseline", chain);

static _Atomic(const kvt_digest_ops *) picked;

const kvt_digest_ops *kvt_digest_ops_here(void)
{
    /* Relaxed: the tables are constants, so the pointer publishes nothing but itself. */
    const kvt_digest_ops *ops = atomic_load_explicit(&picked, memory_order_relaxed);
    if (ops == NULL) {
        ops = kvt_digest_ops_for(kvt_cpu_features());
        atomic_store_explicit(&picked, ops, memory_order_relaxed);
    }
    return ops;
}

uint64_t kvt_xxh3_64(const void *data, size_t bytes) { return kvt_digest_ops_here()->hash64(data, bytes, 0); }

uint64_t kvt_xxh3_64_seeded(const void *data, size_t bytes, uint64_t seed)
{
    return kvt_digest_ops_here()->hash64(data, bytes, seed);
}

kvt_hash128 kvt_xxh3_128(const void *data, size_t bytes) { return kvt_digest_ops_here()->hash128(data, bytes); }

void kvt_frame_digests(const void *payload, uint64_t bytes, uint64_t *digests)
{
    const kvt_digest_ops *ops = kvt_digest_ops_here();
    const uint8_t *frame = payload;
    while (bytes != 0) {
        uint64_t length = kvt_min_u64(bytes, KVT_FRAME_BYTES);
        *digests++ = ops->hash64(frame, length, 0);
        frame += length;
        bytes -= length;
    }
}

kvt_hash128 kvt_payload_hash(const uint64_t *digests, uint32_t count)
{
    /* Streamed, since the digests lie in the machine's order; one round for a payload within KVT_BLOB_BYTES_MAX. */
    enum { WORDS = KVT_BLOB_BYTES_MAX / KVT_FRAME_BYTES };
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (uint32_t done = 0; done < count;) {
        uint8_t bytes[8 * WORDS];
        uint32_t words = 0;
        for (; words < WORDS && done < count; words++, done++)
            kvt_store_le64(bytes + 8 * words, digests[done]);
        XXH3_128bits_update(&state, bytes, 8 * words);
    }
    kvt_hash128 out;
    hash128_to_bytes(XXH3_128bits_digest(&state), out.bytes);
    return out;
}
