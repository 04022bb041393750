/* SPDX-License-Identifier: Apache-2.0
 *
 * Architectures without variants of their own: whatever the compiler's baseline gives.
 */
#include "compress/exponent.h"

const kvt_exponent_ops *kvt_exponent_ops_for(uint32_t features)
{
    (void)features;
    return &kvt_exponent_portable;
}
