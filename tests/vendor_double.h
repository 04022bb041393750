/* SPDX-License-Identifier: Apache-2.0
 *
 * A device of a vendor that has what Ascend and Cambricon offer without kernels of ours: memory of its own, a queue,
 * copies, and operators that gather and scatter equal rows by index. Nothing happens before its fence is waited for.
 * Three tables of the one device: all it could have, row operators and copies, and copies alone.
 */
#ifndef KVT_VENDOR_DOUBLE_H
#define KVT_VENDOR_DOUBLE_H

#include "kernels/backend.h"

extern const kvt_backend_ops vendor_double_kernels; /* "npu": move, rows, copy */
extern const kvt_backend_ops vendor_double_rows;    /* "npu": rows, copy */
extern const kvt_backend_ops vendor_double_copies;  /* "npu": copy */

typedef struct vendor_double_counts {
    uint32_t moves, row_calls, copies, fences; /* fences: opened and not yet waited for */
} vendor_double_counts;
extern vendor_double_counts vendor_double;

/* The first broken rule, or NULL; forgets it. */
const char *vendor_double_complaint(void);

#endif
