/* SPDX-License-Identifier: Apache-2.0
 *
 * The pick on x86-64.
 */
#include "engine/base/base.h"
#include "kernels/cpu_copy.h"

const kvt_cpu_copy *kvt_cpu_copy_pick(void)
{
    uint32_t features = kvt_cpu_features();
    if ((features & KVT_CPU_AVX512) != 0)
        return &kvt_cpu_copy_avx512;
    return (features & KVT_CPU_AVX2) != 0 ? &kvt_cpu_copy_avx2 : &kvt_cpu_copy_plain;
}
