/* SPDX-License-Identifier: Apache-2.0
 *
 * The pick on processors for which no other inner loops are built.
 */
#include "kernels/cpu_copy.h"

const kvt_cpu_copy *kvt_cpu_copy_pick(void) { return &kvt_cpu_copy_plain; }
