/* SPDX-License-Identifier: Apache-2.0
 *
 * Which variants of the exponent codecs x86-64 offers. Pure: the same features give the same table.
 */
#include "compress/exponent.h"

const kvt_exponent_ops *kvt_exponent_ops_for(uint32_t features)
{
    if ((features & KVT_CPU_AVX512_BYTES) != 0)
        return &kvt_exponent_avx512;
    return (features & KVT_CPU_AVX2) != 0 ? &kvt_exponent_avx2 : &kvt_exponent_portable;
}
