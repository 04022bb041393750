// SPDX-License-Identifier: Apache-2.0
//
// Scatter that moves keys to another position on the way. A block asks for its bytes, works out the turns of its tokens
// while they are on their way, and turns and stores them when they are there: the arithmetic hides behind the memory.
// The bits are those of the processor: rope_math.h has the arithmetic, rounded operation by operation.
#include "kernels/hip_compat.h" // first: it brings the words of the language

#include "kernels/cuda_rope.h"
#include "kernels/rope_math.h"

namespace
{

enum { THREADS_MAX = 512 };

// ---- one number format: words of two 16-bit elements or of one 32-bit element

template <int ELEMENT> struct format {
    using turn = float;
    __device__ static void delta(float c0, float s0, float c1, float s1, turn *c, turn *s)
    {
        kvt_rope_delta(c0, s0, c1, s1, c, s);
    }
};

template <> struct format<KVT_ROPE_FP32> {
    using turn = double;
    __device__ static void delta(float c0, float s0, float c1, float s1, turn *c, turn *s)
    {
        kvt_rope_delta_wide(c0, s0, c1, s1, c, s);
    }
};

template <int ELEMENT> __device__ __forceinline__ float widen(uint32_t half)
{
    return ELEMENT == KVT_ROPE_BF16 ? kvt_rope_from_bf16(half) : kvt_rope_from_fp16(half);
}

template <int ELEMENT> __device__ __forceinline__ uint32_t narrow(float low, float high)
{
#ifdef __CUDA_ARCH__
    uint32_t word;
    if (ELEMENT == KVT_ROPE_BF16) {
        const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
        memcpy(&word, &both, sizeof word);
    } else {
        const __half2 both = __floats2half2_rn(low, high);
        memcpy(&word, &both, sizeof word);
    }
    return word;
#else
    return ELEMENT == KVT_ROPE_BF16 ? kvt_rope_to_bf16(low) | kvt_rope_to_bf16(high) << 16
                                    : kvt_rope_to_fp16(low) | kvt_rope_to_fp16(high) << 16;
#endif
}

template <int ELEMENT> struct turner {
    // Two pairs: (low, low) and (high, high) of two words.
    __device__ static void across(uint32_t &x, uint32_t &y, const float *c, const float *s)
    {
        float x0 = widen<ELEMENT>(x & 0xffff), y0 = widen<ELEMENT>(y & 0xffff);
        float x1 = widen<ELEMENT>(x >> 16), y1 = widen<ELEMENT>(y >> 16);
        kvt_rope_turn(&x0, &y0, c[0], s[0]);
        kvt_rope_turn(&x1, &y1, c[1], s[1]);
        x = narrow<ELEMENT>(x0, x1);
        y = narrow<ELEMENT>(y0, y1);
    }
    // One pair: both halves of a word.
    __device__ static void within(uint32_t &word, float c, float s)
    {
        float x = widen<ELEMENT>(word & 0xffff), y = widen<ELEMENT>(word >> 16);
        kvt_rope_turn(&x, &y, c, s);
        word = narrow<ELEMENT>(x, y);
    }
    __device__ static void unit(uint32_t (&a)[4], uint32_t (&b)[4], bool neox, uint32_t half, const float *c,
                                const float *s)
    {
        const uint32_t second = neox ? 4 : half;
        const float4 c0 = *reinterpret_cast<const float4 *>(c), c1 = *reinterpret_cast<const float4 *>(c + second);
        const float4 s0 = *reinterpret_cast<const float4 *>(s), s1 = *reinterpret_cast<const float4 *>(s + second);
        const float cosines[8] = {c0.x, c0.y, c0.z, c0.w, c1.x, c1.y, c1.z, c1.w};
        const float sines[8] = {s0.x, s0.y, s0.z, s0.w, s1.x, s1.y, s1.z, s1.w};
#pragma unroll
        for (int w = 0; w < 4; w++)
            if (neox)
                across(a[w], b[w], cosines + 2 * w, sines + 2 * w);
            else {
                within(a[w], cosines[w], sines[w]);
                within(b[w], cosines[4 + w], sines[4 + w]);
            }
    }
};

template <> struct turner<KVT_ROPE_FP32> {
    __device__ static void pair(uint32_t &x, uint32_t &y, double c, double s)
    {
        float at_x = kvt_rope_float(x), at_y = kvt_rope_float(y);
        kvt_rope_turn_wide(&at_x, &at_y, c, s);
        x = kvt_rope_bits(at_x);
        y = kvt_rope_bits(at_y);
    }
    __device__ static void unit(uint32_t (&a)[4], uint32_t (&b)[4], bool neox, uint32_t half, const double *c,
                                const double *s)
    {
        if (neox) {
#pragma unroll
            for (int w = 0; w < 4; w++)
                pair(a[w], b[w], c[w], s[w]);
        } else {
            pair(a[0], a[1], c[0], s[0]);
            pair(a[2], a[3], c[1], s[1]);
            pair(b[0], b[1], c[half], s[half]);
            pair(b[2], b[3], c[half + 1], s[half + 1]);
        }
    }
};

// ---- a tile

struct table_entries {
    float c0, s0, c1, s1;
};

__device__ __forceinline__ uint32_t half_at(const void *rows, uint64_t row, uint32_t pair)
{
    return reinterpret_cast<const uint16_t *>(static_cast<const uint8_t *>(rows) + row)[pair];
}

__device__ __forceinline__ table_entries entries_of(const kvt_cuda_rope_head &head, uint32_t blob, uint32_t token,
                                                    uint32_t pair)
{
    const kvt_rope &rope = head.rope;
    const uint64_t old_row = (uint64_t(head.shifts[blob].stored) + token) * rope.row_stride;
    const uint64_t new_row = (uint64_t(head.shifts[blob].wanted) + token) * rope.row_stride;
    if (rope.table_element == KVT_ROPE_FP32)
        return {kvt_rope_entry(rope.cosines, old_row, pair, KVT_ROPE_FP32),
                kvt_rope_entry(rope.sines, old_row, pair, KVT_ROPE_FP32),
                kvt_rope_entry(rope.cosines, new_row, pair, KVT_ROPE_FP32),
                kvt_rope_entry(rope.sines, new_row, pair, KVT_ROPE_FP32)};
    // All four on their way before the first is looked at: a tile waits for its table once.
    const uint32_t c0 = half_at(rope.cosines, old_row, pair), s0 = half_at(rope.sines, old_row, pair);
    const uint32_t c1 = half_at(rope.cosines, new_row, pair), s1 = half_at(rope.sines, new_row, pair);
    if (rope.table_element == KVT_ROPE_BF16)
        return {kvt_rope_from_bf16(c0), kvt_rope_from_bf16(s0), kvt_rope_from_bf16(c1), kvt_rope_from_bf16(s1)};
    return {kvt_rope_from_fp16(c0), kvt_rope_from_fp16(s0), kvt_rope_from_fp16(c1), kvt_rope_from_fp16(s1)};
}

// Turn number i of a tile.
__device__ __forceinline__ table_entries entries_at(const kvt_cuda_rope_head &head, uint32_t blob, uint32_t tile,
                                                    uint32_t i)
{
    const uint32_t token = kvt_job_divide(&head.pairs, i);
    return entries_of(head, blob, kvt_cuda_rope_tile_token(&head, tile) + token, i - token * head.pairs.extent);
}

__device__ __forceinline__ uint32_t turns_of(const kvt_cuda_rope_head &head, uint32_t tile)
{
    const uint32_t left = head.token_count - kvt_cuda_rope_tile_token(&head, tile);
    return (left < head.tile_tokens ? left : head.tile_tokens) * head.pairs.extent;
}

// Pages that are turned in place are written by this kernel: no read-only loads then.
__device__ __forceinline__ void load(uint32_t (&to)[4], const uint8_t *from, bool in_place)
{
    const uint4 word = in_place ? *reinterpret_cast<const uint4 *>(from) : kvt_device_load<uint4>(from);
    to[0] = word.x, to[1] = word.y, to[2] = word.z, to[3] = word.w;
}

__device__ __forceinline__ void store(uint8_t *to, const uint32_t (&from)[4])
{
    kvt_device_store(to, make_uint4(from[0], from[1], from[2], from[3]));
}

template <int ELEMENT, int UNROLL, typename Job>
__global__ void __launch_bounds__(THREADS_MAX) scatter_rope(const __grid_constant__ Job job)
{
    typedef typename format<ELEMENT>::turn turn;
    alignas(16) __shared__ turn cosines[KVT_CUDA_ROPE_TURNS];
    alignas(16) __shared__ turn sines[KVT_CUDA_ROPE_TURNS];
    const kvt_cuda_rope_head &head = job.head;
    const bool in_place = head.way != KVT_CUDA_ROPE_FUSED, neox = head.rope.pairing == KVT_ROPE_NEOX;
    const bool turns = head.window_units != 0;
    const uint32_t count = head.tiles.extent * head.blob_count, half = head.pairs.extent / 2;
    for (uint32_t n = blockIdx.x; n < count; n += gridDim.x) {
        const uint32_t blob = kvt_job_divide(&head.tiles, n), tile = n - blob * head.tiles.extent;
        const uint32_t turn_count = turns ? turns_of(head, tile) : 0;
        for (uint32_t first = 0; first < head.tile_units; first += UNROLL * blockDim.x) {
            kvt_cuda_rope_spot spots[UNROLL];
            uint32_t a[UNROLL][4], b[UNROLL][4];
            // The table is asked first: it is needed first.
            table_entries entries;
            if (first == 0 && threadIdx.x < turn_count)
                entries = entries_at(head, blob, tile, threadIdx.x);
#pragma unroll
            for (int k = 0; k < UNROLL; k++) {
                spots[k] = kvt_cuda_rope_locate(&head, job.ids, blob, tile, first + k * blockDim.x + threadIdx.x);
                if (spots[k].page == nullptr)
                    continue;
                const uint8_t *from = in_place ? spots[k].page : spots[k].blob;
                load(a[k], from, in_place);
                if (spots[k].second != 0)
                    load(b[k], from + spots[k].second, in_place);
            }
            if (first == 0 && turns) {
                for (uint32_t i = threadIdx.x; i < turn_count; i += blockDim.x) {
                    if (i != threadIdx.x)
                        entries = entries_at(head, blob, tile, i);
                    format<ELEMENT>::delta(entries.c0, entries.s0, entries.c1, entries.s1, &cosines[i], &sines[i]);
                }
                __syncthreads();
            }
#pragma unroll
            for (int k = 0; k < UNROLL; k++) {
                if (spots[k].page == nullptr)
                    continue;
                if (spots[k].turns != 0)
                    turner<ELEMENT>::unit(a[k], b[k], neox, half, cosines + spots[k].turn, sines + spots[k].turn);
                store(spots[k].page, a[k]);
                if (spots[k].second != 0)
                    store(spots[k].page + spots[k].second, b[k]);
            }
        }
        if (turns && n + gridDim.x < count)
            __syncthreads(); // before the next tile's turns
    }
}

// ---- any alignment: one pair a thread, byte by byte, in pages that hold the bytes as stored

__device__ __forceinline__ uint32_t load_bytes(const uint8_t *from, uint32_t bytes)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= uint32_t(from[i]) << (8 * i);
    return value;
}

__device__ __forceinline__ void store_bytes(uint8_t *to, uint32_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = uint8_t(value >> (8 * i));
}

__device__ void turn_pair(const kvt_rope &rope, const table_entries &e, uint8_t *at_x, uint8_t *at_y)
{
    const uint32_t bytes = kvt_rope_element_bytes(rope.element);
    uint32_t x = load_bytes(at_x, bytes), y = load_bytes(at_y, bytes);
    if (rope.element == KVT_ROPE_FP32) {
        double c, s;
        format<KVT_ROPE_FP32>::delta(e.c0, e.s0, e.c1, e.s1, &c, &s);
        turner<KVT_ROPE_FP32>::pair(x, y, c, s);
    } else {
        float c, s;
        kvt_rope_delta(e.c0, e.s0, e.c1, e.s1, &c, &s);
        uint32_t word = x | y << 16;
        if (rope.element == KVT_ROPE_BF16)
            turner<KVT_ROPE_BF16>::within(word, c, s);
        else
            turner<KVT_ROPE_FP16>::within(word, c, s);
        x = word & 0xffff, y = word >> 16;
    }
    store_bytes(at_x, x, bytes);
    store_bytes(at_y, y, bytes);
}

template <typename Job> __global__ void __launch_bounds__(THREADS_MAX) rope_by_pair(const __grid_constant__ Job job)
{
    const kvt_cuda_rope_head &head = job.head;
    const uint32_t count = head.tiles.extent * head.blob_count, pairs = head.pairs.extent;
    const uint32_t bytes = kvt_rope_element_bytes(head.rope.element);
    const bool neox = head.rope.pairing == KVT_ROPE_NEOX;
    for (uint32_t n = blockIdx.x; n < count; n += gridDim.x) {
        const uint32_t blob = kvt_job_divide(&head.tiles, n), tile = n - blob * head.tiles.extent;
        for (uint32_t i = threadIdx.x; i < head.tile_units; i += blockDim.x) {
            const kvt_cuda_rope_spot spot = kvt_cuda_rope_locate(&head, job.ids, blob, tile, i);
            if (spot.page == nullptr)
                continue;
            const uint32_t token = kvt_job_divide(&head.pairs, spot.turn), pair = spot.turn - token * pairs;
            uint8_t *at_x = spot.page + (neox ? pair : 2 * pair) * bytes;
            turn_pair(head.rope, entries_of(head, blob, kvt_cuda_rope_tile_token(&head, tile) + token, pair), at_x,
                      at_x + (neox ? pairs : 1) * bytes);
        }
    }
}

template <int ELEMENT, typename Job> const void *of_unroll(uint32_t unroll)
{
    return unroll == 2 ? reinterpret_cast<const void *>(scatter_rope<ELEMENT, 2, Job>)
                       : reinterpret_cast<const void *>(scatter_rope<ELEMENT, 4, Job>);
}

template <typename Job> const void *pick(const kvt_cuda_rope_head &head, uint32_t unroll)
{
    if (head.way == KVT_CUDA_ROPE_BY_PAIR)
        return reinterpret_cast<const void *>(rope_by_pair<Job>);
    if (head.rope.element == KVT_ROPE_FP32)
        return of_unroll<KVT_ROPE_FP32, Job>(unroll);
    return head.rope.element == KVT_ROPE_BF16 ? of_unroll<KVT_ROPE_BF16, Job>(unroll)
                                              : of_unroll<KVT_ROPE_FP16, Job>(unroll);
}

} // namespace

extern "C" int kvt_cuda_launch_rope(const kvt_cuda_rope_job *job, const kvt_cuda_grid *grid, void *stream)
{
    const kvt_cuda_rope_head &head = job->head;
    const bool small = head.id_count * head.blob_count <= KVT_CUDA_ROPE_IDS_SMALL;
    const void *kernel =
        small ? pick<kvt_cuda_rope_small>(head, grid->unroll) : pick<kvt_cuda_rope_job>(head, grid->unroll);
    void *arguments[] = {const_cast<kvt_cuda_rope_job *>(job)};
    return cudaLaunchKernel(kernel, dim3(head.block_count), dim3(grid->threads), arguments, 0,
                            static_cast<cudaStream_t>(stream));
}
