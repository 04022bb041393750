/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C with the crc32 instruction of SSE4.2, one stream: about 8 bytes in 3 cycles, which is above what a disk
 * delivers and enough for metadata. Compiled with SSE4.2 on, called only where the CPU has it.
 */
#include "hash/hash_int.h"

#include <nmmintrin.h>

static uint32_t update(uint32_t crc, const uint8_t *data, size_t bytes)
{
    uint64_t state = ~crc;
    for (; bytes >= 8; data += 8, bytes -= 8)
        state = _mm_crc32_u64(state, kvt_load_le64(data));
    uint32_t rest = (uint32_t)state;
    for (; bytes != 0; data++, bytes--)
        rest = _mm_crc32_u8(rest, *data);
    return ~rest;
}

const kvt_crc32c_ops kvt_crc32c_sse42 = {.name = "sse4.2", .update = update};
