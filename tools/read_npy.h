/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer arrays of NumPy's .npy format as token ids.
 */
#ifndef KVT_TOOLS_READ_NPY_H
#define KVT_TOOLS_READ_NPY_H

#include "engine/base/base.h"

typedef struct kvt_npy {
    uint64_t rows; /* 1 for a one-dimensional array */
    uint64_t columns;
    const uint8_t *data; /* within the bytes given */
    uint32_t item_bytes; /* 4 or 8 */
    bool is_signed;
    bool big_endian;
} kvt_npy;

/* Do the bytes start like a .npy file? */
bool kvt_npy_is(const void *bytes, size_t count);

/* Check the header of a whole file in memory: versions 1 to 3, int32, int64, uint32 or uint64, one or two dimensions
 * in C order, exactly as many bytes of data as the shape needs. KVT_CORRUPT or KVT_UNSUPPORTED with kvt_last_error().
 * */
kvt_status kvt_npy_parse(const void *bytes, size_t count, kvt_npy *out);

/* Item i (row-major) as a token id. false: negative or above 2^32 - 1. */
bool kvt_npy_token(const kvt_npy *array, uint64_t i, uint32_t *out);

#endif
