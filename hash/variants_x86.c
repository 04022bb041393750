/* SPDX-License-Identifier: Apache-2.0
 *
 * Which variants x86-64 offers. Pure: the same features give the same table.
 */
#include "hash/hash_int.h"

const kvt_digest_ops *kvt_digest_ops_for(uint32_t features)
{
    if ((features & KVT_CPU_AVX512) != 0)
        return &kvt_digest_avx512;
    return (features & KVT_CPU_AVX2) != 0 ? &kvt_digest_avx2 : &kvt_digest_baseline;
}

const kvt_crc32c_ops *kvt_crc32c_ops_for(uint32_t features)
{
    return (features & KVT_CPU_SSE42) != 0 ? &kvt_crc32c_sse42 : &kvt_crc32c_portable;
}
