/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH3 with 32-byte vectors; see digest_body.h. Compiled with AVX2 on, called only where the CPU has it.
 */
#define XXH_VECTOR XXH_AVX2
#include "hash/digest_body.h"

const kvt_digest_ops kvt_digest_avx2 = KVT_DIGEST_OPS("avx2", chain);
