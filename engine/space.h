/* SPDX-License-Identifier: Apache-2.0
 *
 * Spaces: an open namespace, and the engine's table of all namespaces with what they hold.
 */
#ifndef KVT_SPACE_H
#define KVT_SPACE_H

#include "engine/engine_int.h"

enum { KVT_SPACE_TEXT_BYTES_MAX = 4096 };

struct kvt_space {
    kvt_engine *engine;
    uint32_t slot;
    _Atomic uint32_t references; /* the caller's, and one per unit; freed when none is left */
    kvt_key id;
    uint32_t chunk_tokens; /* 0: opaque blobs only */
    uint32_t group_count;
    uint64_t group_bytes[KVT_GROUPS_MAX]; /* of a full chunk */
    uint32_t page_tokens[KVT_GROUPS_MAX];
    kvt_hash_id hash;
    const kvt_codec *codec;
    kvt_codec_hint hint; /* of a full chunk; groups and views lie here */
    kvt_codec_group codec_groups[KVT_GROUPS_MAX];
    kvt_codec_view codec_views[KVT_GROUPS_MAX][KVT_VIEWS_MAX];
    kvt_layout *layout; /* NULL: no pages */
    char *text;
};

kvt_status kvt_spaces_create(kvt_spaces **out);
void kvt_spaces_destroy(kvt_spaces *spaces);

/* Slot of an id, made on first sight. KVT_BUSY: the table is full. */
kvt_status kvt_spaces_intern(kvt_spaces *spaces, const kvt_key *id, uint32_t *out_slot);
kvt_key kvt_spaces_id(const kvt_spaces *spaces, uint32_t slot);
uint32_t kvt_spaces_count(const kvt_spaces *spaces);

/* One thread at a time writes descriptors. */
void kvt_spaces_lock_texts(kvt_spaces *spaces);
void kvt_spaces_unlock_texts(kvt_spaces *spaces);

/* What a space holds, in stored bytes over all tiers. `charge` refuses when the quota would be passed. */
bool kvt_spaces_charge(kvt_spaces *spaces, uint32_t slot, uint64_t bytes);
void kvt_spaces_charge_always(kvt_spaces *spaces, uint32_t slot, uint64_t bytes);
void kvt_spaces_discharge(kvt_spaces *spaces, uint32_t slot, uint64_t bytes);
void kvt_spaces_recharge(kvt_spaces *spaces, uint32_t slot, uint64_t from, uint64_t to); /* a record's size, at once */
void kvt_spaces_get_usage(const kvt_spaces *spaces, uint32_t slot, uint64_t *bytes, uint64_t *quota, uint32_t *records);
void kvt_spaces_set_quota(kvt_spaces *spaces, uint32_t slot, uint64_t bytes);
uint64_t kvt_spaces_quota(const kvt_spaces *spaces, uint32_t slot); /* 0: none */

void kvt_space_acquire(kvt_space *space);
void kvt_space_release(kvt_space *space);

/* ---- space_codec.c: what codecs are told of a blob */
void kvt_space_shape_codec(kvt_space *space, const kvt_space_options *options);
/* Of a blob with the groups of `mask`; tokens 0: put by key. groups is the caller's memory for the hint. */
kvt_codec_hint kvt_space_codec_hint(const kvt_space *space, uint32_t mask, uint32_t tokens, uint64_t raw_bytes,
                                    kvt_codec_group groups[KVT_GROUPS_MAX]);

/* ---- space_text.c: the canonical descriptor; docs/format_keys.md ---- */
typedef struct kvt_space_shape { /* what the text says beyond names */
    uint32_t chunk_tokens;
    kvt_hash_id hash;
    uint32_t group_count;
    struct {
        uint32_t layer_count;
        uint32_t page_tokens; /* not part of the text: 0 after parsing */
        uint32_t view_count;
        uint32_t element_bytes;
        uint64_t token_bytes; /* of all layers */
    } groups[KVT_GROUPS_MAX];
} kvt_space_shape;
/* KVT_INVALID: a name holds a control character or is too long. text holds KVT_SPACE_TEXT_BYTES_MAX. */
kvt_status kvt_space_text_write(const kvt_space_options *options, uint32_t chunk_tokens, char *text, size_t *out_bytes);
/* KVT_CORRUPT, KVT_VERSION. */
kvt_status kvt_space_text_parse(const char *text, kvt_space_shape *out);

/* ---- space_store.c: the descriptors beside the tiers, store/spaces/<id> ---- */
/* KVT_EXISTS: another text stands there. */
kvt_status kvt_space_store_write(const kvt_engine *engine, const kvt_key *id, const char *text, size_t bytes);
kvt_status kvt_space_store_read(const kvt_engine *engine, const kvt_key *id, char *text, size_t capacity);
kvt_status kvt_space_store_load_ids(kvt_engine *engine); /* intern what the folder holds */

#endif
