/* SPDX-License-Identifier: Apache-2.0
 *
 * Extents of any size out of a fixed run of units. Knows numbers only: no memory is touched, so the units may be
 * anything. Not thread-safe; all memory is taken at create.
 */
#ifndef KVT_HOST_EXTENTS_H
#define KVT_HOST_EXTENTS_H

#include "engine/base/base.h"

enum { KVT_EXTENT_UNITS_MAX = 1 << 30 }; /* 4 TiB of 4 KiB units */
#define KVT_EXTENT_NONE UINT32_MAX

typedef struct kvt_extents kvt_extents;

/* unit_count: 1..KVT_EXTENT_UNITS_MAX. KVT_INVALID, KVT_NOMEM. */
kvt_status kvt_extents_create(uint64_t unit_count, kvt_extents **out);
void kvt_extents_destroy(kvt_extents *extents);
/* First unit of a run taken from the smallest hole that fits; KVT_EXTENT_NONE: no hole is that large, or count is 0. */
uint32_t kvt_extents_take(kvt_extents *extents, uint64_t count);
/* Keep the first count units of an extent. false, nothing changed: not an extent, or count is 0 or too large. */
bool kvt_extents_shrink(kvt_extents *extents, uint32_t first, uint64_t count);
/* false, nothing changed: not the first unit of an extent in use. */
bool kvt_extents_give(kvt_extents *extents, uint32_t first);
/* Units of the extent that starts there; 0: none does. */
uint32_t kvt_extents_length(const kvt_extents *extents, uint32_t first);
uint64_t kvt_extents_used(const kvt_extents *extents);    /* units */
uint64_t kvt_extents_largest(const kvt_extents *extents); /* units of the largest hole */
uint64_t kvt_extents_count(const kvt_extents *extents);   /* extents in use */
/* Walk everything: tags, bins and sums agree, no two holes touch. Linear in the number of units; tests and checks
 * level 2. */
bool kvt_extents_consistent(const kvt_extents *extents);

#endif
