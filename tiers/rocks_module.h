/* SPDX-License-Identifier: Apache-2.0
 *
 * What the RocksDB module shows to the library that loads it. The module carries its own copy of the leaf room, so its
 * error texts and its heap count are asked for through here. Private to this room.
 */
#ifndef KVT_ROCKS_MODULE_H
#define KVT_ROCKS_MODULE_H

#include "tiers/tiers.h"

#define KVT_ROCKS_MODULE_FILE   "kvtier_rocks.so"
#define KVT_ROCKS_MODULE_SYMBOL "kvt_rocks_module_get"

typedef struct kvt_rocks_module {
    uint32_t release; /* KVT_RELEASE_NUMBER of its build; another one is not used */
    uint32_t reserved;
    const kvt_tier_ops *ops;
    const char *(*last_error)(void);
    uint64_t (*live_bytes)(void);
} kvt_rocks_module;

typedef const kvt_rocks_module *(*kvt_rocks_module_get_fn)(void);

/* The module's only exported symbol. */
KVT_API const kvt_rocks_module *kvt_rocks_module_get(void);

#endif
