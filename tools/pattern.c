/* SPDX-License-Identifier: Apache-2.0
 *
 * The pattern is a sequence of words: word i = fold(seed + i * STEP), fold(x) = x ^ (x >> 32). Both steps are
 * bijections of 64 bits, so a word that lies at a wrong place, or under a wrong seed, always differs; and both are
 * additions, shifts and xors, which every vector unit has. Words are laid down in the machine's own byte order: pages
 * never leave the machine.
 */
#include "tools/pattern.h"

#define STEP UINT64_C(0x9e3779b97f4a7c15)
enum { WORD = 8, BLOCK_WORDS = 64, BLOCK = WORD * BLOCK_WORDS };

static inline uint64_t fold(uint64_t x) { return x ^ (x >> 32); }
static inline uint64_t word_at(uint64_t seed, uint64_t index) { return fold(seed + index * STEP); }

uint64_t kvt_pattern_chain(uint64_t parent, uint64_t id)
{
    uint64_t z = parent * UINT64_C(0xd1342543de82ef95) + id * STEP + 1;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint8_t kvt_pattern_byte(uint64_t seed, uint64_t offset)
{
    uint64_t word = word_at(seed, offset / WORD);
    uint8_t bytes[WORD];
    memcpy(bytes, &word, WORD);
    return bytes[offset % WORD];
}

/* Bytes up to the next word border, at most `bytes`. */
static size_t head_bytes(uint64_t offset, size_t bytes)
{
    size_t head = (size_t)(-offset & (WORD - 1));
    return head < bytes ? head : bytes;
}

void kvt_pattern_fill(void *to, uint64_t seed, uint64_t offset, size_t bytes)
{
    uint8_t *at = to;
    for (size_t head = head_bytes(offset, bytes); head != 0; head--, bytes--)
        *at++ = kvt_pattern_byte(seed, offset++);
    uint64_t x = seed + offset / WORD * STEP;
    size_t words = bytes / WORD;
    for (size_t i = 0; i < words; i++) {
        uint64_t word = fold(x + i * STEP);
        memcpy(at + i * WORD, &word, WORD);
    }
    uint64_t last = fold(x + words * STEP);
    memcpy(at + words * WORD, &last, bytes % WORD);
}

/* Do BLOCK_WORDS words differ from the pattern that starts at counter x? */
static bool block_differs(const uint8_t *from, uint64_t x)
{
    uint64_t difference = 0;
    for (size_t i = 0; i < BLOCK_WORDS; i++) {
        uint64_t word;
        memcpy(&word, from + i * WORD, WORD);
        difference |= word ^ fold(x + i * STEP);
    }
    return difference != 0;
}

uint64_t kvt_pattern_check(const void *from, uint64_t seed, uint64_t offset, size_t bytes, uint64_t *first)
{
    const uint8_t *base = from;
    uint64_t wrong = 0;
    size_t head = head_bytes(offset, bytes);
    for (size_t i = 0; i < bytes;) {
        size_t run = i == 0 && head != 0 ? head : bytes - i < BLOCK ? bytes - i : BLOCK;
        if (run == BLOCK && !block_differs(base + i, seed + (offset + i) / WORD * STEP)) {
            i += run;
            continue;
        }
        for (size_t end = i + run; i < end; i++) {
            if (base[i] == kvt_pattern_byte(seed, offset + i))
                continue;
            if (wrong++ == 0)
                *first = i;
        }
    }
    return wrong;
}

void kvt_poison_fill(void *to, size_t bytes) { memset(to, KVT_POISON_BYTE, bytes); }

uint64_t kvt_poison_check(const void *from, size_t bytes, uint64_t *first)
{
    const uint8_t *base = from;
    /* All bytes equal their successor, and the first one is right: memcmp runs at the speed of memory. */
    if (bytes == 0 || (base[0] == KVT_POISON_BYTE && memcmp(base, base + 1, bytes - 1) == 0))
        return 0;
    uint64_t wrong = 0;
    for (size_t i = 0; i < bytes; i++)
        if (base[i] != KVT_POISON_BYTE && wrong++ == 0)
            *first = i;
    return wrong;
}
