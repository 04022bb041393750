/* SPDX-License-Identifier: Apache-2.0
 *
 * The pick on x86-64.
 */
#include "kernels/rope_int.h"

const kvt_rope_loops *kvt_rope_loops_pick(void)
{
    uint32_t features = kvt_cpu_features();
    if ((features & KVT_CPU_AVX512) != 0)
        return &kvt_rope_loops_avx512;
    return (features & KVT_CPU_AVX2) != 0 ? &kvt_rope_loops_avx2 : &kvt_rope_loops_plain;
}
