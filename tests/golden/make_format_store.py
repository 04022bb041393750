#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints tests/golden/format_store_0.txt: the example of docs/format_store.md, built from that page alone.

It shares no code with the library (needs the Python package xxhash), so that both can be wrong only in different ways.
Not part of the build. Only a new format version may change what it prints; it then gets a file of its own.
"""
import struct

import xxhash

BLOCK = 4096
SEGMENT = 1 << 20
UUID = bytes(range(0xA0, 0xB0))
VERSION = 0


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def align(n):
    return (n + BLOCK - 1) // BLOCK * BLOCK


def block(magic, *fields):
    """fields: (offset, struct code, value) or (offset, bytes)"""
    out = bytearray(BLOCK)
    out[0:8] = magic
    struct.pack_into("<I", out, 8, VERSION)
    out[16:32] = UUID
    for field in fields:
        if len(field) == 2:
            out[field[0]:field[0] + len(field[1])] = field[1]
        else:
            struct.pack_into("<" + field[1], out, field[0], field[2])
    struct.pack_into("<I", out, 12, crc32c(out))
    return bytes(out)


def payload(count):
    return bytes((i * 7 + (i >> 8)) & 0xFF for i in range(count))


def digests(data):
    return [xxhash.xxh3_64_intdigest(data[i:i + (1 << 20)]) for i in range(0, len(data), 1 << 20)]


def payload_hash(data):
    value = xxhash.xxh3_128_intdigest(b"".join(struct.pack("<Q", d) for d in digests(data)))
    return struct.pack("<QQ", value & (1 << 64) - 1, value >> 64)


def super_slot(seq):
    return block(b"KVTSUPR1", (32, "Q", seq), (40, "Q", 5), (48, "Q", SEGMENT), (56, "Q", 9), (120, "I", 1),
                 (124, "I", BLOCK), (136, "Q", 0x10), (144, "Q", 16 << 20))


GENERATION = 5 << 32 | 3
SPACE, KEY, PARENT = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))


def record(rec_block, seq, key, data):
    d = digests(data)
    return block(b"KVTRECD1", (36, "I", 2), (40, "Q", GENERATION), (48, "Q", rec_block * BLOCK), (56, "Q", seq), (64, SPACE),
                 (80, key), (96, PARENT), (112, "Q", 0x1122334455667788), (120, "Q", len(data) * 2), (128, "Q", len(data)),
                 (136, "I", 1), (140, "I", 0x301), (144, "I", 4), (148, "I", 900), (152, payload_hash(data)),
                 (168, "I", len(d)), (176, b"".join(struct.pack("<Q", x) for x in d)))


def entry(rec_block, seq, key, data):
    return struct.pack("<Q16s16s16sQ16sIIIIIIII", seq, SPACE, key, PARENT, 0x1122334455667788, payload_hash(data), rec_block,
                       len(data) * 2, len(data), 1, 0x301, 4, 900, 0)


def dump(name, data):
    print("%s %d" % (name, len(data)))
    for at in range(0, len(data), 16):
        if any(data[at:at + 16]):
            print("%06x %s" % (at, data[at:at + 16].hex()))


SMALL = payload(6000)
entries = entry(1, 7, KEY, SMALL) + entry(4, 8, PARENT, SMALL[:100])
entries += bytes(align(len(entries)) - len(entries))
rows = struct.pack("<IIQIIQ", 0, 2, GENERATION, 2, 1, 40) + struct.pack("<IIQIIQ", 0, 8, 4 << 32 | 9, 2, 0, 41)
rows += bytes(align(len(rows)) - len(rows))

dump("super0", super_slot(4))
dump("super1", super_slot(3))
dump("segment", block(b"KVTSEGH1", (36, "I", 2), (40, "Q", GENERATION), (48, "Q", 5), (56, "Q", 7), (64, "I", 1)))
dump("record", record(1, 7, KEY, SMALL))
dump("record2", record(4, 8, PARENT, SMALL[:100]))
dump("large", record(9, 12, KEY, payload((2 << 20) + 5)))
dump("entries", entries)
dump("trailer", block(b"KVTFOOT1", (36, "I", 2), (40, "Q", GENERATION), (48, "Q", 8), (56, "I", 2), (60, "I", crc32c(entries)),
                      (64, "Q", SEGMENT - 2 * BLOCK)))
dump("checkpoint", block(b"KVTCKPT1", (32, "Q", 17), (40, "Q", 5), (48, "I", 2), (52, "I", crc32c(rows)), (56, "Q", 2 * BLOCK)))
dump("rows", rows)
