/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a figure was measured: processor, kernel, memory.
 */
#ifndef KVT_MACHINE_H
#define KVT_MACHINE_H

#include "engine/base/base.h"

typedef struct kvt_machine {
    char cpu[160];    /* "2 x AMD EPYC ..., 23.4 GiB" */
    char kernel[160]; /* "Linux 6.1.0" */
} kvt_machine;
void kvt_machine_get(kvt_machine *out);

#endif
