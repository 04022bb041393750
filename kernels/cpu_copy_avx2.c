/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend's inner loops with 32-byte vectors.
 */
#define VECTOR              __m256i
#define VECTOR_LOAD(p)      _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define VECTOR_STREAM(p, v) _mm256_stream_si256((__m256i *)(void *)(p), (v))
#define TABLE               kvt_cpu_copy_avx2
#define TABLE_NAME          "AVX2, streamed stores"
#include "kernels/cpu_copy_body.h"
