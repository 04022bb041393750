/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops over pairs: plain loops.
 */
#define TABLE      kvt_rope_loops_plain
#define TABLE_NAME "plain loops"
#include "kernels/rope_cpu_body.h"
