/* SPDX-License-Identifier: Apache-2.0
 *
 * Expected bytes: what a chunk of KV must hold, computed from a seed and a position by a counter-based generator that
 * is as fast as memory. The bytes never pass through the engine, so a check against them says whether the engine kept
 * them.
 */
#ifndef KVT_PATTERN_H
#define KVT_PATTERN_H

#include "engine/base/base.h"

/* Seed of a block: depends on its id and on the seed of the block before it (KVT_PATTERN_ROOT for the first), as the KV
 * of a block depends on everything before it. */
#define KVT_PATTERN_ROOT UINT64_C(0x6b767469657221a5)
uint64_t kvt_pattern_chain(uint64_t parent, uint64_t id);

/* Bytes [offset, offset + bytes) of the endless pattern of `seed`. */
void kvt_pattern_fill(void *to, uint64_t seed, uint64_t offset, size_t bytes);
/* How many bytes differ from the pattern; *first receives the position of the first one (relative to `from`). */
uint64_t kvt_pattern_check(const void *from, uint64_t seed, uint64_t offset, size_t bytes, uint64_t *first);
uint8_t kvt_pattern_byte(uint64_t seed, uint64_t offset);

/* What memory holds that nobody may touch. */
enum { KVT_POISON_BYTE = 0xa7 };
void kvt_poison_fill(void *to, size_t bytes);
uint64_t kvt_poison_check(const void *from, size_t bytes, uint64_t *first);

#endif
