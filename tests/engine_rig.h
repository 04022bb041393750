/* SPDX-License-Identifier: Apache-2.0
 *
 * A small model for engine tests: two layers, keys and values, in a paged memory of its own, whose expected bytes come
 * from a function of (token ids up to here, layer, plane, byte) and never pass through the engine.
 */
#ifndef KVT_ENGINE_RIG_H
#define KVT_ENGINE_RIG_H

#include "engine/kvtier.h"

#include <stdbool.h>

enum {
    RIG_LAYERS = 2,
    RIG_HEADS = 2,
    RIG_HEAD_BYTES = 128,
    RIG_PAGE_TOKENS = 16,
    RIG_CHUNK_TOKENS = 32,
    RIG_PAGES = 128,
    RIG_POISON = 0xa5,
    RIG_TOKEN_BYTES = RIG_LAYERS * 2 * RIG_HEADS * RIG_HEAD_BYTES,
    RIG_BLOB_BYTES = RIG_TOKEN_BYTES * RIG_CHUNK_TOKENS
};

typedef struct rig {
    kvt_engine *engine;
    kvt_space *space;
    char *store;    /* NULL: RAM only */
    uint8_t *pages; /* [layer][plane][page][token][head][byte] */
    uint64_t page_bytes;
    uint32_t ids[RIG_PAGES]; /* a shuffled page table */
    kvt_options options;
    kvt_space_options space_options;
    kvt_group group;
    void *bases[1];
} rig;

/* Options for an engine of host_bytes over a fresh folder (or RAM only), not yet open. */
void rig_init(rig *r, bool with_store, uint64_t host_bytes);
void rig_open(rig *r);    /* asserts success; opens the space too */
void rig_close(rig *r);   /* engine and space; the folder stays */
void rig_destroy(rig *r); /* everything */

/* Token ids of a prompt: the first `shared` come from seed 1, the rest from `seed`. */
void rig_prompt(uint32_t *tokens, uint32_t count, uint32_t shared, uint64_t seed);
void rig_fill(rig *r, const uint32_t *tokens, uint32_t count); /* what the model would have written */
void rig_poison(rig *r);
/* Tokens [begin, end) hold what the model would have written, every other byte of the pool the poison. */
bool rig_holds(rig *r, const uint32_t *tokens, uint32_t begin, uint32_t end);

kvt_request rig_request(rig *r, const uint32_t *tokens, uint32_t count, kvt_page_list *list);
/* Submit and wait (10 s). */
kvt_completion rig_save(rig *r, const uint32_t *tokens, uint32_t count);
kvt_completion rig_load(rig *r, const uint32_t *tokens, uint32_t begin, uint32_t count);
kvt_completion rig_finish(rig *r, kvt_ticket ticket);
kvt_completion rig_put(rig *r, kvt_item *items, uint32_t count, uint32_t flags);
kvt_completion rig_get(rig *r, kvt_item *items, uint32_t count);
kvt_key rig_key(uint64_t seed);

#endif
