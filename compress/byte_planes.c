/* SPDX-License-Identifier: Apache-2.0
 *
 * Splitting and merging of byte planes. One loop each, given constant widths so that the compiler turns them into
 * vector shuffles.
 */
#include "compress/byte_planes.h"

static inline void split(const uint8_t *restrict elements, size_t count, size_t width, uint8_t *restrict planes)
{
    for (size_t i = 0; i < count; i++)
        for (size_t b = 0; b < width; b++)
            planes[b * count + i] = elements[i * width + b];
}

void kvt_planes_split(const uint8_t *elements, size_t count, uint32_t element_bytes, uint8_t *planes)
{
    switch (element_bytes) {
    case 2:
        split(elements, count, 2, planes);
        break;
    case 4:
        split(elements, count, 4, planes);
        break;
    default:
        split(elements, count, 8, planes);
    }
}

static void merge2(const uint8_t *restrict p0, const uint8_t *restrict p1, size_t count, uint8_t *restrict elements)
{
    for (size_t i = 0; i < count; i++) {
        elements[2 * i] = p0[i];
        elements[2 * i + 1] = p1[i];
    }
}

static inline void merge(const uint8_t *const *planes, size_t count, size_t width, uint8_t *restrict elements)
{
    for (size_t i = 0; i < count; i++)
        for (size_t b = 0; b < width; b++)
            elements[i * width + b] = planes[b][i];
}

void kvt_planes_merge(const uint8_t *const planes[KVT_ELEMENT_BYTES_MAX], size_t count, uint32_t element_bytes,
                      uint8_t *elements)
{
    switch (element_bytes) {
    case 2:
        merge2(planes[0], planes[1], count, elements);
        break;
    case 4:
        merge(planes, count, 4, elements);
        break;
    default:
        merge(planes, count, 8, elements);
    }
}
