/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of plain loops, dispatched by kind; included once by each exponent_<isa>.c behind its own loops.
 */
#ifndef KVT_EXPONENT_TABLE_H
#define KVT_EXPONENT_TABLE_H

#include "compress/rans_body.h"

__attribute__((unused)) static void column_stats(kvt_element_kind kind, const uint8_t *data, uint32_t tokens,
                                                 uint32_t channels, uint32_t stride, uint8_t *exponent_max,
                                                 uint32_t *negative)
{
#define CALL(k) column_stats_of(k, data, tokens, channels, stride, exponent_max, negative)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

__attribute__((unused)) static void xpack_split(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes,
                                                uint32_t channel, uint32_t steps, uint8_t *raw, uint8_t *codes,
                                                kvt_escapes *escapes)
{
#define CALL(k) xpack_split_of(k, data, lanes, channel, steps, raw, codes, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

__attribute__((unused)) static void xpack_merge(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes,
                                                uint32_t channel, uint32_t steps, const uint8_t *raw,
                                                const uint8_t *codes, kvt_escapes *escapes)
{
#define CALL(k) xpack_merge_of(k, data, lanes, channel, steps, raw, codes, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

__attribute__((unused)) static void rans_split(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes,
                                               uint32_t channel, uint32_t steps, const kvt_rans_model *model,
                                               uint8_t *raw, uint8_t *index, kvt_escapes *escapes)
{
#define CALL(k) rans_split_of(k, data, lanes, channel, steps, model, raw, index, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

__attribute__((unused)) static void rans_merge(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes,
                                               uint32_t channel, uint32_t steps, const uint8_t *raw,
                                               const uint8_t *index, kvt_escapes *escapes)
{
#define CALL(k) rans_merge_of(k, data, lanes, channel, steps, raw, index, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

__attribute__((unused)) static void rans_count(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes,
                                               uint32_t tokens, uint32_t stride, uint8_t *row, uint8_t *counts)
{
#define CALL(k) rans_count_of(k, data, lanes, tokens, stride, row, counts)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

#endif
