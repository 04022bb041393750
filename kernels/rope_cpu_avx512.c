/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops over pairs: AVX-512.
 */
#define TABLE      kvt_rope_loops_avx512
#define TABLE_NAME "AVX-512"
#include "kernels/rope_cpu_body.h"
