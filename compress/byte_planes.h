/* SPDX-License-Identifier: Apache-2.0
 *
 * Elements of 2, 4 or 8 bytes as planes: plane b holds byte b of every element. In floating-point data the bytes with
 * sign and exponent repeat and those with the mantissa do not, so a general codec gains from seeing them apart.
 */
#ifndef KVT_BYTE_PLANES_H
#define KVT_BYTE_PLANES_H

#include "engine/base/base.h"

enum { KVT_ELEMENT_BYTES_MAX = 8 };

/* count elements of element_bytes (2, 4, 8) into planes that follow one another. */
void kvt_planes_split(const uint8_t *elements, size_t count, uint32_t element_bytes, uint8_t *planes);

/* And back, from planes that may lie anywhere. */
void kvt_planes_merge(const uint8_t *const planes[KVT_ELEMENT_BYTES_MAX], size_t count, uint32_t element_bytes,
                      uint8_t *elements);

#endif
