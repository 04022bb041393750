// SPDX-License-Identifier: Apache-2.0
//
// Kernels that stand beside the moves: one that only passes time, and two neighbours, bound by memory and by
// arithmetic, each of a grid that fills the device exactly once, as attention and matrix kernels do.
#include <cstdint>
#include <cuda_runtime_api.h>

namespace
{

__global__ void spin(uint64_t ns)
{
    uint64_t begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    while (now - begin < ns);
}

__global__ void __launch_bounds__(256) stream_memory(float4 *memory, uint64_t count, uint32_t passes)
{
    const uint64_t half = count / 2, step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
    for (uint32_t p = 0; p < passes; p++)
        for (uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x; i < half; i += step) {
            float4 v = memory[i];
            v.x += 1, v.y += 1, v.z += 1, v.w += 1;
            memory[half + i] = v;
        }
}

__global__ void __launch_bounds__(256) compute(float *memory, uint32_t passes)
{
    float a = static_cast<float>(threadIdx.x), b = 1.0001f, c = 0.5f, d = 0.25f;
    for (uint32_t p = 0; p < passes; p++)
#pragma unroll 32
        for (int i = 0; i < 1024; i++) {
            a = a * b + 0.1f;
            c = c * b + 0.2f;
            d = d * b + 0.3f;
        }
    if (a + c + d == 12345.0f)
        memory[threadIdx.x] = a;
}

int multiprocessors()
{
    int device = 0, count = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return count;
}

} // namespace

extern "C" int gb_spin(double us, void *stream)
{
    spin<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(static_cast<uint64_t>(us * 1000));
    return cudaGetLastError();
}

extern "C" int gb_neighbour(int kind, float *memory, uint64_t floats, uint32_t passes, void *stream)
{
    const int blocks = multiprocessors() * 8;
    cudaStream_t to = static_cast<cudaStream_t>(stream);
    if (kind == 0)
        stream_memory<<<blocks, 256, 0, to>>>(reinterpret_cast<float4 *>(memory), floats / 4, passes);
    else
        compute<<<blocks, 256, 0, to>>>(memory, passes);
    return cudaGetLastError();
}
