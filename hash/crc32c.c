/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C for metadata blocks: the portable variant, eight bytes a step, and the choice between variants.
 *
 * A CRC without its inversions is linear: the table entry of a byte is the xor of the entries of its bits. So the eight
 * tables of 256 entries are written as eight rows of eight constants, and the compiler works out the rest.
 */
#include "hash/hash_int.h"

#define IF_BIT(n, bit, value) ((((n) >> (bit)) & 1u) != 0 ? (value) : 0u)
#define BITS(n, b0, b1, b2, b3, b4, b5, b6, b7)                                                                        \
    (IF_BIT(n, 0, b0) ^ IF_BIT(n, 1, b1) ^ IF_BIT(n, 2, b2) ^ IF_BIT(n, 3, b3) ^ IF_BIT(n, 4, b4) ^ IF_BIT(n, 5, b5) ^ \
     IF_BIT(n, 6, b6) ^ IF_BIT(n, 7, b7))

/* BYTE_k: a byte followed by k zero bytes. Polynomial 0x82f63b78 (reflected). */
#define BYTE_0(n)                                                                                                      \
    BITS(n, 0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78)
#define BYTE_1(n)                                                                                                      \
    BITS(n, 0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9)
#define BYTE_2(n)                                                                                                      \
    BITS(n, 0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743)
#define BYTE_3(n)                                                                                                      \
    BITS(n, 0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f)
#define BYTE_4(n)                                                                                                      \
    BITS(n, 0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c)
#define BYTE_5(n)                                                                                                      \
    BITS(n, 0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6)
#define BYTE_6(n)                                                                                                      \
    BITS(n, 0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4)
#define BYTE_7(n)                                                                                                      \
    BITS(n, 0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664)

#define ROW_4(entry, n)  entry(n), entry((n) + 1u), entry((n) + 2u), entry((n) + 3u)
#define ROW_16(entry, n) ROW_4(entry, n), ROW_4(entry, (n) + 4u), ROW_4(entry, (n) + 8u), ROW_4(entry, (n) + 12u)
#define ROW_64(entry, n) ROW_16(entry, n), ROW_16(entry, (n) + 16u), ROW_16(entry, (n) + 32u), ROW_16(entry, (n) + 48u)
#define ROW_256(entry)   ROW_64(entry, 0u), ROW_64(entry, 64u), ROW_64(entry, 128u), ROW_64(entry, 192u)

static const uint32_t tables[8][256] = {{ROW_256(BYTE_0)}, {ROW_256(BYTE_1)}, {ROW_256(BYTE_2)}, {ROW_256(BYTE_3)},
                                        {ROW_256(BYTE_4)}, {ROW_256(BYTE_5)}, {ROW_256(BYTE_6)}, {ROW_256(BYTE_7)}};

static uint32_t update(uint32_t crc, const uint8_t *data, size_t bytes)
{
    crc = ~crc;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint32_t a = crc ^ kvt_load_le32(data);
        uint32_t b = kvt_load_le32(data + 4);
        crc = tables[7][a & 0xff] ^ tables[6][a >> 8 & 0xff] ^ tables[5][a >> 16 & 0xff] ^ tables[4][a >> 24] ^
              tables[3][b & 0xff] ^ tables[2][b >> 8 & 0xff] ^ tables[1][b >> 16 & 0xff] ^ tables[0][b >> 24];
    }
    for (; bytes != 0; data++, bytes--)
        crc = tables[0][(crc ^ *data) & 0xff] ^ crc >> 8;
    return ~crc;
}

const kvt_crc32c_ops kvt_crc32c_portable = {.name = "portable", .update = update};

uint32_t kvt_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    return kvt_crc32c_ops_for(kvt_cpu_features())->update(crc, data, bytes);
}
