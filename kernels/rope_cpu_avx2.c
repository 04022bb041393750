/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops over pairs: AVX2.
 */
#define TABLE      kvt_rope_loops_avx2
#define TABLE_NAME "AVX2"
#include "kernels/rope_cpu_body.h"
