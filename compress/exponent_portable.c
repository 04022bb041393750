/* SPDX-License-Identifier: Apache-2.0
 *
 * The exponent codecs without any instruction set in mind: the reference for all others.
 */
#include "compress/rans_body.h"

#define KVT_LOOP(name) name##_of
#include "compress/exponent_table.h"

const kvt_exponent_ops kvt_exponent_portable = {.name = "portable",
                                                .column_stats = column_stats,
                                                .xpack_split = xpack_split,
                                                .xpack_merge = xpack_merge,
                                                .rans_split = rans_split,
                                                .rans_merge = rans_merge,
                                                .rans_encode = rans_encode_plain,
                                                .rans_decode = rans_decode_plain,
                                                .rans_count = rans_count,
                                                .rans_weigh = rans_weigh_plain,
                                                .rans_assign = rans_assign_plain,
                                                .rans_sum = rans_sum_plain};
