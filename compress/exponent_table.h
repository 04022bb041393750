/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops dispatched by kind, for the table of one instruction set: included once by each exponent_<isa>.c behind its own
 * loops, whose names KVT_LOOP(name) tells.
 */
#ifndef KVT_EXPONENT_TABLE_H
#define KVT_EXPONENT_TABLE_H

#include "compress/rans_body.h"

#ifndef KVT_LOOP
#error "KVT_LOOP(name) must tell the loop of that name"
#endif

static void column_stats(kvt_element_kind kind, const uint8_t *data, uint32_t tokens, uint32_t channels,
                         uint32_t stride, uint8_t *exponent_max, uint32_t *negative)
{
#define CALL(k) KVT_LOOP(column_stats)(k, data, tokens, channels, stride, exponent_max, negative)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

static void xpack_split(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                        uint32_t steps, uint8_t *raw, uint8_t *codes, kvt_escapes *escapes)
{
#define CALL(k) KVT_LOOP(xpack_split)(k, data, lanes, channel, steps, raw, codes, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

static void xpack_merge(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel, uint32_t steps,
                        const uint8_t *raw, const uint8_t *codes, kvt_escapes *escapes)
{
#define CALL(k) KVT_LOOP(xpack_merge)(k, data, lanes, channel, steps, raw, codes, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

static void rans_split(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                       uint32_t steps, const kvt_rans_model *model, uint8_t *raw, uint8_t *index, kvt_escapes *escapes)
{
#define CALL(k) KVT_LOOP(rans_split)(k, data, lanes, channel, steps, model, raw, index, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

static void rans_merge(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel, uint32_t steps,
                       const uint8_t *raw, const uint8_t *index, kvt_escapes *escapes)
{
#define CALL(k) KVT_LOOP(rans_merge)(k, data, lanes, channel, steps, raw, index, escapes)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

static void rans_count(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t tokens,
                       uint32_t stride, uint8_t *row, uint8_t *counts)
{
#define CALL(k) KVT_LOOP(rans_count)(k, data, lanes, tokens, stride, row, counts)
    KVT_BY_KIND(kind, CALL)
#undef CALL
}

#endif
