/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening spaces, and the table of all namespaces the store knows with what each of them holds.
 */
#include "engine/space.h"

#include <inttypes.h>
#include <stdatomic.h>

enum { CHUNK_TOKENS_DEFAULT = 256 };

typedef struct space_row {
    kvt_key id;
    _Atomic uint64_t bytes;
    _Atomic uint64_t quota;
    _Atomic uint32_t records;
} space_row;

struct kvt_spaces {
    pthread_mutex_t lock;  /* of adding rows; rows never move or go */
    pthread_mutex_t texts; /* of the descriptors on disk; held across I/O, a leaf */
    _Atomic uint32_t count;
    space_row rows[KVT_SPACES_MAX];
};

kvt_status kvt_spaces_create(kvt_spaces **out)
{
    kvt_spaces *spaces = kvt_alloc(sizeof *spaces);
    if (spaces == NULL)
        return KVT_NOMEM;
    pthread_mutex_init(&spaces->lock, NULL);
    pthread_mutex_init(&spaces->texts, NULL);
    *out = spaces;
    return KVT_OK;
}

void kvt_spaces_destroy(kvt_spaces *spaces)
{
    if (spaces == NULL)
        return;
    pthread_mutex_destroy(&spaces->lock);
    pthread_mutex_destroy(&spaces->texts);
    kvt_free(spaces);
}

void kvt_spaces_lock_texts(kvt_spaces *spaces) { pthread_mutex_lock(&spaces->texts); }
void kvt_spaces_unlock_texts(kvt_spaces *spaces) { pthread_mutex_unlock(&spaces->texts); }

static bool find_slot(const kvt_spaces *spaces, const kvt_key *id, uint32_t *out)
{
    /* acquire: a row is complete before the count that covers it is seen */
    uint32_t count = atomic_load_explicit(&spaces->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        if (kvt_key_equal(&spaces->rows[i].id, id)) {
            *out = i;
            return true;
        }
    }
    return false;
}

kvt_status kvt_spaces_intern(kvt_spaces *spaces, const kvt_key *id, uint32_t *out_slot)
{
    if (find_slot(spaces, id, out_slot))
        return KVT_OK;
    kvt_status status = KVT_OK;
    pthread_mutex_lock(&spaces->lock);
    if (!find_slot(spaces, id, out_slot)) {
        uint32_t count = atomic_load_explicit(&spaces->count, memory_order_relaxed);
        if (count == KVT_SPACES_MAX) {
            status = KVT_BUSY;
        } else {
            spaces->rows[count].id = *id;
            *out_slot = count;
            atomic_store_explicit(&spaces->count, count + 1, memory_order_release);
        }
    }
    pthread_mutex_unlock(&spaces->lock);
    return status;
}

kvt_key kvt_spaces_id(const kvt_spaces *spaces, uint32_t slot) { return spaces->rows[slot].id; }
uint32_t kvt_spaces_count(const kvt_spaces *spaces)
{
    return atomic_load_explicit(&spaces->count, memory_order_acquire);
}

bool kvt_spaces_charge(kvt_spaces *spaces, uint32_t slot, uint64_t bytes)
{
    space_row *row = &spaces->rows[slot];
    uint64_t quota = atomic_load(&row->quota);
    uint64_t held = atomic_load(&row->bytes);
    do {
        if (quota != 0 && (held >= quota || bytes > quota - held))
            return false;
    } while (!atomic_compare_exchange_weak(&row->bytes, &held, held + bytes));
    atomic_fetch_add(&row->records, 1);
    return true;
}

void kvt_spaces_charge_always(kvt_spaces *spaces, uint32_t slot, uint64_t bytes)
{
    atomic_fetch_add(&spaces->rows[slot].bytes, bytes);
    atomic_fetch_add(&spaces->rows[slot].records, 1);
}

void kvt_spaces_recharge(kvt_spaces *spaces, uint32_t slot, uint64_t from, uint64_t to)
{
    atomic_fetch_add(&spaces->rows[slot].bytes, to - from); /* less than before: wraps to a subtraction */
}

void kvt_spaces_discharge(kvt_spaces *spaces, uint32_t slot, uint64_t bytes)
{
    atomic_fetch_sub(&spaces->rows[slot].bytes, bytes);
    atomic_fetch_sub(&spaces->rows[slot].records, 1);
}

void kvt_spaces_get_usage(const kvt_spaces *spaces, uint32_t slot, uint64_t *bytes, uint64_t *quota, uint32_t *records)
{
    *bytes = atomic_load(&spaces->rows[slot].bytes);
    *quota = atomic_load(&spaces->rows[slot].quota);
    *records = atomic_load(&spaces->rows[slot].records);
}

void kvt_spaces_set_quota(kvt_spaces *spaces, uint32_t slot, uint64_t bytes)
{
    atomic_store(&spaces->rows[slot].quota, bytes);
}

uint64_t kvt_spaces_quota(const kvt_spaces *spaces, uint32_t slot) { return atomic_load(&spaces->rows[slot].quota); }

/* ---- open spaces ---- */

void kvt_space_acquire(kvt_space *space) { atomic_fetch_add_explicit(&space->references, 1, memory_order_relaxed); }

void kvt_space_release(kvt_space *space)
{
    /* acq_rel: whoever frees sees all that others did with it */
    if (atomic_fetch_sub_explicit(&space->references, 1, memory_order_acq_rel) != 1)
        return;
    kvt_layout_destroy(space->layout);
    kvt_free(space->text);
    kvt_free(space);
}

static kvt_status check_options(const kvt_space_options *options)
{
    if (options->model == NULL || options->model[0] == '\0')
        return kvt_fail(KVT_INVALID, "model is missing; a space is named by its model");
    if (options->group_count > KVT_GROUPS_MAX)
        return kvt_fail(KVT_INVALID, "group_count is %u; at most %d", options->group_count, KVT_GROUPS_MAX);
    if (options->group_count != 0 && options->groups == NULL)
        return kvt_fail(KVT_INVALID, "groups is NULL, but group_count is %u", options->group_count);
    if (options->hash > KVT_HASH_SHA256)
        return kvt_fail(KVT_INVALID, "hash is %u; 0 is XXH3, 1 is SHA-256", options->hash);
    if (kvt_codec_by_id(options->codec) == NULL)
        return kvt_fail(KVT_INVALID, "codec %u is not built in", options->codec);
    uint32_t ranks = options->rank_count == 0 ? 1 : options->rank_count;
    if (options->rank >= ranks)
        return kvt_fail(KVT_INVALID, "rank is %u of %u; it counts from 0", options->rank, ranks);
    if (options->chunk_tokens > KVT_CHUNK_TOKENS_MAX)
        return kvt_fail(KVT_INVALID, "chunk_tokens is %u; at most %d", options->chunk_tokens, KVT_CHUNK_TOKENS_MAX);
    return KVT_OK;
}

static bool blob_bytes(const kvt_space_options *options, uint64_t tokens, uint64_t *out)
{
    uint64_t total = 0, one;
    for (uint32_t i = 0; i < options->group_count; i++) {
        if (!kvt_group_blob_bytes(&options->groups[i], tokens, &one) || !kvt_add_u64(total, one, &total))
            return false;
    }
    *out = total;
    return true;
}

/* The largest multiple of every group's page: chunks must keep to it when they are halved. */
static bool fits_pages(const kvt_space_options *options, uint32_t tokens)
{
    for (uint32_t i = 0; i < options->group_count; i++) {
        uint32_t page = options->groups[i].page_tokens;
        if (page == 0 || tokens % page != 0)
            return false;
    }
    return true;
}

static kvt_status choose_chunk(const kvt_space_options *options, uint32_t *out)
{
    if (options->group_count == 0) {
        *out = options->chunk_tokens; /* opaque blobs: the caller's own unit, part of the name only */
        return KVT_OK;
    }
    uint32_t tokens = options->chunk_tokens != 0 ? options->chunk_tokens : CHUNK_TOKENS_DEFAULT;
    uint64_t bytes;
    if (!blob_bytes(options, 1, &bytes))
        return kvt_fail(KVT_INVALID, "the bytes of one token overflow; check layers, heads and widths");
    if (options->chunk_tokens == 0) {
        while (tokens > 1 && tokens * bytes > KVT_BLOB_BYTES_DEFAULT_MAX && fits_pages(options, tokens / 2))
            tokens /= 2;
    }
    if (bytes > KVT_BLOB_BYTES_MAX)
        return kvt_fail(KVT_INVALID, "one token alone takes %" PRIu64 " bytes; a chunk may take 64 MiB", bytes);
    if (bytes > KVT_BLOB_BYTES_MAX / tokens) {
        uint32_t fit = tokens;
        while (fit > 1 && bytes > KVT_BLOB_BYTES_MAX / fit)
            fit /= 2;
        return kvt_fail(KVT_INVALID,
                        "a chunk of %u tokens takes over 64 MiB (%" PRIu64 " bytes a token); chunk_tokens %u fits",
                        tokens, bytes, fit);
    }
    *out = tokens;
    return KVT_OK;
}

/* A store whose segments are too small would refuse every record of this space, one by one and quietly. */
static kvt_status check_fits_store(const kvt_space *space, uint64_t blob)
{
    const kvt_tier *lower = space->engine->lower;
    uint64_t payload = blob + kvt_section_bytes(space->chunk_tokens);
    if (lower == NULL || lower->payload_bytes_max == 0 || payload <= lower->payload_bytes_max)
        return KVT_OK;
    uint32_t fit = space->chunk_tokens;
    while (fit > 1 && payload / space->chunk_tokens * fit > lower->payload_bytes_max)
        fit /= 2;
    return kvt_fail(KVT_INVALID,
                    "a chunk of %u tokens takes %" PRIu64
                    " bytes, and a segment of this store holds records up to %" PRIu64
                    "; use chunk_tokens %u, or a new store with a larger blob_bytes_max",
                    space->chunk_tokens, payload, lower->payload_bytes_max, fit);
}

static kvt_status fill_layout(kvt_space *space, const kvt_space_options *options)
{
    space->group_count = options->group_count;
    bool pages = false;
    uint64_t blob = 0;
    for (uint32_t i = 0; i < options->group_count; i++) {
        if (!kvt_group_blob_bytes(&options->groups[i], space->chunk_tokens, &space->group_bytes[i]))
            return kvt_fail(KVT_INVALID, "group %u: its bytes overflow", i);
        space->page_tokens[i] = options->groups[i].page_tokens;
        blob += space->group_bytes[i]; /* at most KVT_BLOB_BYTES_MAX together: choose_chunk() */
        pages = pages || options->groups[i].page_count != 0;
    }
    KVT_TRY(check_fits_store(space, blob));
    space->hint = (kvt_codec_hint){.element_bytes = 1, .level = options->codec_level};
    if (options->group_count == 0)
        return KVT_OK;
    /* Checks the geometry too, which enters the space's name: also of a space without pages. */
    KVT_TRY(kvt_layout_create(options->groups, options->group_count, space->chunk_tokens, &space->layout));
    space->hint.element_bytes = kvt_layout_element_bytes(space->layout, 0);
    kvt_space_shape_codec(space, options);
    if (!pages) {
        kvt_layout_destroy(space->layout);
        space->layout = NULL;
    }
    return KVT_OK;
}

static kvt_status name_space(kvt_space *space, const char *text, size_t bytes)
{
    KVT_TRY(kvt_space_id(space->hash, text, bytes, &space->id));
    space->text = kvt_strdup(text);
    if (space->text == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a space");
    /* The text first: a space that could not be written down is not known either. */
    kvt_spaces *spaces = space->engine->spaces;
    if (kvt_spaces_count(spaces) == KVT_SPACES_MAX && !find_slot(spaces, &space->id, &space->slot))
        return kvt_fail(KVT_BUSY, "a store knows at most %d spaces, and this one knows as many; use another store",
                        KVT_SPACES_MAX);
    KVT_TRY(kvt_space_store_write(space->engine, &space->id, text, bytes));
    return kvt_spaces_intern(spaces, &space->id, &space->slot);
}

static kvt_status build(kvt_space *space, const kvt_space_options *options)
{
    char text[KVT_SPACE_TEXT_BYTES_MAX];
    size_t text_bytes;
    KVT_TRY(check_options(options));
    KVT_TRY(choose_chunk(options, &space->chunk_tokens));
    space->hash = (kvt_hash_id)options->hash;
    space->codec = kvt_codec_by_id(options->codec);
    KVT_TRY(fill_layout(space, options));
    KVT_TRY(kvt_space_text_write(options, space->chunk_tokens, text, &text_bytes));
    kvt_status status = name_space(space, text, text_bytes);
    if (status == KVT_OK && options->quota_bytes_max != 0)
        kvt_spaces_set_quota(space->engine->spaces, space->slot, options->quota_bytes_max);
    return status;
}

static kvt_space *new_space(kvt_engine *engine)
{
    kvt_space *space = kvt_alloc(sizeof *space);
    if (space != NULL) {
        space->engine = engine;
        atomic_store(&space->references, 1);
        space->codec = kvt_codec_by_id(KVT_CODEC_RAW);
    }
    return space;
}

kvt_status kvt_space_open(kvt_engine *engine, const kvt_space_options *given, kvt_space **out)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (given == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "options or out is NULL");
    kvt_space_options options;
    KVT_TRY(kvt_options_copy(given, given->struct_size, &options, sizeof options, "kvt_space_options"));
    kvt_space *space = new_space(engine);
    if (space == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a space");
    kvt_status status = build(space, &options);
    if (status != KVT_OK) {
        kvt_space_release(space);
        return status;
    }
    *out = space;
    return KVT_OK;
}

kvt_status kvt_space_find(kvt_engine *engine, const kvt_key *id, kvt_space **out)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (id == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "id or out is NULL");
    char text[KVT_SPACE_TEXT_BYTES_MAX];
    kvt_space_shape shape;
    kvt_status status = kvt_space_store_read(engine, id, text, sizeof text);
    if (status != KVT_OK)
        return status;
    KVT_TRY(kvt_space_text_parse(text, &shape));
    kvt_space *space = new_space(engine);
    if (space == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a space");
    space->id = *id;
    space->hash = shape.hash;
    space->chunk_tokens = shape.chunk_tokens;
    space->group_count = shape.group_count;
    for (uint32_t i = 0; i < shape.group_count; i++)
        space->group_bytes[i] = shape.groups[i].token_bytes * shape.chunk_tokens;
    space->text = kvt_strdup(text);
    status = space->text == NULL ? KVT_NOMEM : kvt_spaces_intern(engine->spaces, id, &space->slot);
    if (status != KVT_OK) {
        kvt_space_release(space);
        return status;
    }
    *out = space;
    return KVT_OK;
}

void kvt_space_close(kvt_space *space)
{
    if (space != NULL && !atomic_load(&space->engine->forked))
        kvt_space_release(space);
}

kvt_status kvt_space_get_info(kvt_space *space, kvt_space_info *out)
{
    if (space == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "space or out is NULL");
    KVT_TRY(kvt_engine_enter(space->engine));
    kvt_space_info info = {.id = space->id,
                           .chunk_tokens = space->chunk_tokens,
                           .hash = (uint32_t)space->hash,
                           .group_count = space->group_count,
                           .text = space->text};
    for (uint32_t i = 0; i < space->group_count; i++) {
        info.group_bytes[i] = space->group_bytes[i];
        info.blob_bytes += space->group_bytes[i];
    }
    kvt_spaces_get_usage(space->engine->spaces, space->slot, &info.stored_bytes, &info.quota_bytes_max,
                         &info.record_count);
    *out = info;
    return KVT_OK;
}

kvt_status kvt_space_list(kvt_engine *engine, kvt_key *ids, size_t capacity, size_t *out_count)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (out_count == NULL || (ids == NULL && capacity != 0))
        return kvt_fail(KVT_INVALID, "ids or out_count is NULL");
    uint32_t count = kvt_spaces_count(engine->spaces);
    for (uint32_t i = 0; i < count && i < capacity; i++)
        ids[i] = kvt_spaces_id(engine->spaces, i);
    *out_count = count;
    return KVT_OK;
}

kvt_status kvt_quota(kvt_space *space, uint64_t quota_bytes_max)
{
    if (space == NULL)
        return kvt_fail(KVT_INVALID, "space is NULL");
    KVT_TRY(kvt_engine_enter(space->engine));
    kvt_spaces_set_quota(space->engine->spaces, space->slot, quota_bytes_max);
    return KVT_OK;
}
