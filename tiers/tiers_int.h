/* SPDX-License-Identifier: Apache-2.0
 *
 * The implementations the registry knows. Private to this room.
 */
#ifndef KVT_TIERS_INT_H
#define KVT_TIERS_INT_H

#include "tiers/tiers.h"

extern const kvt_tier_ops kvt_tier_host_ops;
extern const kvt_tier_ops kvt_tier_file_ops;
extern const kvt_tier_ops kvt_tier_rocks_ops; /* loads its module when it is opened */

/* Heap bytes the RocksDB module holds (it counts its own); 0 while it is not loaded. For tests. */
uint64_t kvt_rocks_live_bytes(void);

#endif
