/* SPDX-License-Identifier: Apache-2.0
 *
 * Architectures without variants of their own: whatever the compiler's baseline gives.
 */
#include "hash/hash_int.h"

const kvt_digest_ops *kvt_digest_ops_for(uint32_t features)
{
    (void)features;
    return &kvt_digest_baseline;
}

const kvt_crc32c_ops *kvt_crc32c_ops_for(uint32_t features)
{
    (void)features;
    return &kvt_crc32c_portable;
}
