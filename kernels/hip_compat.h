/* SPDX-License-Identifier: Apache-2.0
 *
 * What the device sources need of CUDA or of HIP, under one set of names: the launch call, the word that marks a
 * parameter as read-only, loads that are used once and stores that stream. The kernels themselves are one source; a
 * Hygon DCU and an AMD GPU run what clang makes of it with -x hip. docs/porting.md has the whole map of calls.
 */
#ifndef KVT_HIP_COMPAT_H
#define KVT_HIP_COMPAT_H

#include <stdint.h>

#ifdef __HIP__

#include <hip/hip_runtime.h>

#define __grid_constant__ /* HIP kernels read their parameters where they lie anyhow */
#define cudaLaunchKernel  hipLaunchKernel
typedef hipStream_t cudaStream_t;

template <typename Word> __device__ __forceinline__ Word kvt_device_load(const uint8_t *from)
{
    return __builtin_nontemporal_load(reinterpret_cast<const Word *>(from));
}

template <> __device__ __forceinline__ uint4 kvt_device_load<uint4>(const uint8_t *from)
{
    typedef uint32_t quad __attribute__((ext_vector_type(4)));
    const quad word = __builtin_nontemporal_load(reinterpret_cast<const quad *>(from));
    return make_uint4(word.x, word.y, word.z, word.w);
}

template <typename Word> __device__ __forceinline__ void kvt_device_store(uint8_t *to, Word word)
{
    __builtin_nontemporal_store(word, reinterpret_cast<Word *>(to));
}

template <> __device__ __forceinline__ void kvt_device_store<uint4>(uint8_t *to, uint4 word)
{
    typedef uint32_t quad __attribute__((ext_vector_type(4)));
    const quad held = {word.x, word.y, word.z, word.w};
    __builtin_nontemporal_store(held, reinterpret_cast<quad *>(to));
}

#else

#include <cuda_runtime_api.h>

template <typename Word> __device__ __forceinline__ Word kvt_device_load(const uint8_t *from)
{
    return __ldg(reinterpret_cast<const Word *>(from));
}

template <> __device__ __forceinline__ uint4 kvt_device_load<uint4>(const uint8_t *from)
{
    uint4 word;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "l"(from));
    return word;
}

template <typename Word> __device__ __forceinline__ void kvt_device_store(uint8_t *to, Word word)
{
    __stcs(reinterpret_cast<Word *>(to), word);
}

#endif
#endif
