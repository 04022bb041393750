/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for sha256.c in a build without libcrypto.
 */
#include "hash/hash_int.h"

bool kvt_sha256_available(void) { return false; }

static kvt_status not_built_in(void)
{
    return kvt_fail(KVT_UNSUPPORTED, "SHA-256 is not built in; configure with KVT_SHA256=ON, or use KVT_HASH_XXH3");
}

kvt_status kvt_sha256(const void *data, size_t bytes, uint8_t out[32])
{
    (void)data, (void)bytes, (void)out;
    return not_built_in();
}

kvt_status kvt_sha256_chain(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                            kvt_key *keys)
{
    (void)parent, (void)tokens, (void)chunk_tokens, (void)chunk_count, (void)keys;
    return not_built_in();
}
