/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend's inner loops with 64-byte vectors: a streamed store is a whole cache line.
 */
#define VECTOR              __m512i
#define VECTOR_LOAD(p)      _mm512_loadu_si512((const void *)(p))
#define VECTOR_STREAM(p, v) _mm512_stream_si512((void *)(p), (v))
#define TABLE               kvt_cpu_copy_avx512
#define TABLE_NAME          "AVX-512, streamed stores"
#include "kernels/cpu_copy_body.h"
