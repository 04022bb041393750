/* SPDX-License-Identifier: Apache-2.0
 *
 * The pick on processors for which no other loops are built.
 */
#include "kernels/rope_int.h"

const kvt_rope_loops *kvt_rope_loops_pick(void) { return &kvt_rope_loops_plain; }
