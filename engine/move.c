/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the caller's memory and record images. A payload is a token section (absent for blobs put by key), then the
 * blob: groups in order, each [layer][view][plane][token][head][byte], encoded when the space says so and it gets
 * smaller.
 *
 *   token section   u32 token count | u32 bytes of the section | u64 zero | u32 tokens ... | zero up to a multiple of
 * 64
 */
#include "engine/request.h"

enum { SECTION_HEAD_BYTES = 16 };

uint64_t kvt_section_bytes(uint32_t tokens)
{
    return tokens == 0 ? 0 : kvt_align_up(SECTION_HEAD_BYTES + 4ull * tokens, KVT_TOKEN_ALIGN);
}

uint64_t kvt_unit_section_bytes(const kvt_unit *unit) { return kvt_section_bytes(unit->tokens); }

static uint64_t chunk_begin(const kvt_unit *unit) { return (uint64_t)unit->depth * unit->space->chunk_tokens; }

static void write_section(const kvt_unit *unit, uint8_t *at)
{
    uint64_t bytes = kvt_unit_section_bytes(unit);
    const uint32_t *tokens = unit->request->tokens + chunk_begin(unit);
    memset(at, 0, bytes);
    kvt_store_le32(at, unit->tokens);
    kvt_store_le32(at + 4, (uint32_t)bytes);
    for (uint32_t i = 0; i < unit->tokens; i++)
        kvt_store_le32(at + SECTION_HEAD_BYTES + 4ull * i, tokens[i]);
}

/* The stored tokens against the request's own. Stored bytes are hostile even behind a good checksum: check lengths. */
static bool same_tokens(const kvt_unit *unit, const uint8_t *at, uint64_t payload_bytes)
{
    uint64_t bytes = kvt_unit_section_bytes(unit);
    if (payload_bytes <= bytes || kvt_load_le32(at) != unit->tokens || kvt_load_le32(at + 4) != bytes)
        return false;
    const uint32_t *tokens = unit->request->tokens + chunk_begin(unit);
    uint32_t different = 0;
    for (uint32_t i = 0; i < unit->tokens; i++)
        different |= kvt_load_le32(at + SECTION_HEAD_BYTES + 4ull * i) ^ tokens[i];
    return different == 0;
}

/* ---- moves ---- */

/* Moves of the groups of `mask` between a blob and the request's pages; *out_groups: those with pages in the request.
 */
static uint32_t make_moves(const kvt_unit *unit, uint8_t *blob, uint32_t mask, kvt_move *moves, uint32_t *out_groups)
{
    const kvt_ticket_state *request = unit->request;
    const kvt_space *space = unit->space;
    uint64_t begin = chunk_begin(unit);
    uint64_t from = kvt_max_u64(begin, request->token_begin);
    uint64_t to = kvt_min_u64(begin + unit->tokens, request->token_end);
    uint32_t count = 0;
    *out_groups = 0;
    for (uint32_t g = 0; g < space->group_count; g++) {
        if ((mask >> g & 1) == 0)
            continue;
        uint32_t layers = kvt_layout_layer_count(space->layout, g);
        uint32_t layer_begin = (uint32_t)kvt_min_u64(request->layer_begin, layers);
        if (request->page_counts[g] != 0 && from < to) {
            moves[count++] = (kvt_move){
                .segment = blob,
                .pages = request->pages[g] + begin / space->page_tokens[g],
                .group = g,
                .segment_tokens = unit->tokens,
                .token_begin = (uint32_t)(from - begin),
                .token_count = (uint32_t)(to - from),
                .layer_begin = layer_begin,
                .layer_count = (uint32_t)kvt_min_u64(layers - layer_begin, request->layer_count),
            };
            *out_groups |= 1u << g;
        }
        blob += kvt_layout_group_bytes(space->layout, g, unit->tokens);
    }
    return count;
}

static kvt_status run_moves(kvt_unit *unit, kvt_direction direction, const kvt_move *moves, uint32_t count)
{
    kvt_engine *engine = unit->engine;
    kvt_fence fence = {0};
    uint64_t begin = kvt_now_ns();
    kvt_status status =
        kvt_backend_move(engine->backend, unit->space->layout, direction, moves, count, unit->request->stream, &fence);
    kvt_status waited = kvt_backend_fence_wait(engine->backend, &fence);
    kvt_counters *counters = &engine->counters;
    kvt_count(direction == KVT_GATHER ? &counters->gather_ns : &counters->scatter_ns, kvt_now_ns() - begin);
    return status != KVT_OK ? status : waited;
}

/* ---- filling ---- */

static kvt_status fill_blob(kvt_unit *unit, uint8_t *blob)
{
    if (unit->verb == KVT_VERB_PUT) {
        memcpy(blob, unit->request->items[unit->chunk].buffer, unit->raw_bytes);
        return KVT_OK;
    }
    kvt_move moves[KVT_GROUPS_MAX];
    uint32_t groups;
    uint32_t count = make_moves(unit, blob, unit->groups, moves, &groups);
    KVT_TRY(run_moves(unit, KVT_GATHER, moves, count));
    kvt_count(&unit->engine->counters.gather_bytes, unit->raw_bytes);
    return KVT_OK;
}

/* As the shape of the unit's blob lets a codec do best: the same bytes give the same again. */
static kvt_status encode_with(const kvt_codec *codec, const kvt_unit *unit, const uint8_t *raw, uint8_t *to,
                              uint64_t *out_bytes)
{
    kvt_codec_group groups[KVT_GROUPS_MAX];
    uint32_t mask = unit->groups != 0 ? unit->groups : UINT32_MAX;
    kvt_codec_hint hint = kvt_space_codec_hint(unit->space, mask, unit->tokens, unit->raw_bytes, groups);
    return codec->encode(&hint, raw, unit->raw_bytes, to, unit->raw_bytes - 1, out_bytes);
}

static kvt_status encode_blob(kvt_unit *unit, const uint8_t *raw, uint8_t *to, uint64_t *out_bytes, uint32_t *out_codec)
{
    const kvt_codec *codec = unit->space->codec;
    uint64_t begin = kvt_now_ns();
    kvt_status status = encode_with(codec, unit, raw, to, out_bytes);
    kvt_count(&unit->engine->counters.encode_ns, kvt_now_ns() - begin);
    kvt_count(&unit->engine->counters.encode_bytes, unit->raw_bytes);
    *out_codec = codec->id;
    if (status != KVT_REJECTED)
        return status;
    memcpy(to, raw, unit->raw_bytes); /* what does not shrink is stored raw */
    *out_bytes = unit->raw_bytes;
    *out_codec = KVT_CODEC_RAW;
    return KVT_OK;
}

kvt_status kvt_unit_fill(kvt_unit *unit, uint8_t *image, uint64_t capacity, uint8_t *scratch, uint64_t *out_bytes,
                         uint32_t *out_codec)
{
    uint8_t *payload = image + KVT_HEADER_BYTES;
    uint64_t section = kvt_unit_section_bytes(unit);
    bool raw = unit->space->codec->id == KVT_CODEC_RAW || unit->raw_bytes == 1;
    if (section != 0)
        write_section(unit, payload);
    KVT_TRY(fill_blob(unit, raw ? payload + section : scratch));
    uint64_t blob_bytes = unit->raw_bytes;
    *out_codec = KVT_CODEC_RAW;
    if (!raw)
        KVT_TRY(encode_blob(unit, scratch, payload + section, &blob_bytes, out_codec));
    uint64_t bytes = section + blob_bytes;
    uint64_t padded = kvt_min_u64(kvt_align_up(bytes, KVT_BLOCK_BYTES), capacity - KVT_HEADER_BYTES);
    memset(payload + bytes, 0, padded - bytes);
    *out_bytes = bytes;
    return KVT_OK;
}

/* ---- draining ---- */

static kvt_status decode_blob(kvt_unit *unit, const kvt_record *record, const uint8_t *encoded, uint64_t bytes,
                              uint8_t *to)
{
    const kvt_codec *codec = kvt_codec_by_id(record->codec);
    if (codec == NULL)
        return KVT_VERSION;
    uint64_t begin = kvt_now_ns();
    kvt_status status = codec->decode(encoded, bytes, to, record->raw_bytes);
    kvt_count(&unit->engine->counters.decode_ns, kvt_now_ns() - begin);
    kvt_count(&unit->engine->counters.decode_bytes, record->raw_bytes);
    return status;
}

/* Its bytes, decoded, are in RAM. */
static bool same_in_ram(kvt_unit *unit, const kvt_record *record, const uint8_t *image, const uint8_t *bytes,
                        uint8_t *scratch)
{
    const uint8_t *payload = image + KVT_HEADER_BYTES;
    uint64_t section = kvt_payload_section_bytes(record, payload);
    if (section == UINT64_MAX || record->raw_bytes > KVT_BLOB_BYTES_MAX)
        return false;
    const uint8_t *blob = payload + section;
    if (record->codec != KVT_CODEC_RAW) {
        if (decode_blob(unit, record, blob, record->stored_bytes - section, scratch) != KVT_OK)
            return false;
        blob = scratch;
    }
    return memcmp(blob, bytes, unit->raw_bytes) == 0;
}

/* Only its hash is known, of the bytes as stored: codecs give the same ones again. */
static bool same_by_hash(kvt_unit *unit, const kvt_record *record, const uint8_t *bytes, uint8_t *scratch)
{
    const kvt_codec *codec = kvt_codec_by_id(record->codec);
    uint64_t digests[KVT_RECORD_FRAMES_MAX], stored = unit->raw_bytes;
    if ((record->flags & KVT_RECORD_TOKENS) != 0 || codec == NULL)
        return false;
    if (record->codec != KVT_CODEC_RAW) {
        if (encode_with(codec, unit, bytes, scratch, &stored) != KVT_OK)
            return false;
        bytes = scratch;
    }
    if (stored != record->stored_bytes)
        return false;
    kvt_frame_digests(bytes, stored, digests);
    kvt_hash128 hash = kvt_payload_hash(digests, kvt_frame_count(stored));
    return kvt_hash128_equal(&hash, &record->hash);
}

bool kvt_unit_same_blob(kvt_unit *unit, const kvt_record *record, const uint8_t *image, uint8_t *scratch)
{
    const uint8_t *bytes = unit->request->items[unit->chunk].buffer;
    if (record->raw_bytes != unit->raw_bytes)
        return false;
    return image != NULL ? same_in_ram(unit, record, image, bytes, scratch)
                         : same_by_hash(unit, record, bytes, scratch);
}

/* Groups of the request that get nothing from a record of the groups of `mask`, though a page is named for them. */
static uint32_t groups_missing(const kvt_unit *unit, uint32_t mask)
{
    const kvt_ticket_state *request = unit->request;
    uint64_t begin = kvt_max_u64(chunk_begin(unit), request->token_begin);
    uint64_t end = kvt_min_u64(chunk_begin(unit) + unit->tokens, request->token_end);
    uint32_t missing = 0;
    for (uint32_t g = 0; g < unit->space->group_count && g < KVT_GROUPS_MAX; g++) {
        uint32_t page = unit->space->page_tokens[g];
        for (uint64_t i = begin / page; (mask >> g & 1) == 0 && request->page_counts[g] != 0 && i * page < end; i++)
            missing |= (uint32_t)(request->pages[g][i] != KVT_PAGE_NONE) << g;
    }
    return missing;
}

static uint32_t groups_asked(const kvt_ticket_state *request)
{
    uint32_t asked = 0;
    for (uint32_t g = 0; g < request->space->group_count && g < KVT_GROUPS_MAX; g++)
        asked |= (uint32_t)(request->page_counts[g] != 0) << g;
    return asked;
}

static kvt_status drain_pages(kvt_unit *unit, const kvt_record *record, uint8_t *blob)
{
    uint32_t mask = record->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff;
    uint64_t expected = 0;
    for (uint32_t g = 0; g < unit->space->group_count; g++) {
        if ((mask >> g & 1) != 0)
            expected += kvt_layout_group_bytes(unit->space->layout, g, unit->tokens);
    }
    if (mask == 0 || mask >> unit->space->group_count != 0 || expected != record->raw_bytes)
        return KVT_CORRUPT;
    kvt_move moves[KVT_GROUPS_MAX];
    uint32_t moved;
    uint32_t count = make_moves(unit, blob, mask, moves, &moved);
    KVT_TRY(run_moves(unit, KVT_SCATTER, moves, count));
    unit->outcome.groups = groups_asked(unit->request) & ~groups_missing(unit, mask);
    kvt_count(&unit->engine->counters.scatter_bytes, record->raw_bytes);
    kvt_count(&unit->engine->counters.loaded_chunks, 1);
    kvt_count(&unit->engine->counters.loaded_bytes, record->raw_bytes);
    return KVT_OK;
}

static kvt_status drain_buffer(kvt_unit *unit, const kvt_record *record, const uint8_t *blob, uint64_t bytes)
{
    const kvt_item *item = &unit->request->items[unit->chunk];
    unit->outcome.bytes = record->raw_bytes;
    if (item->bytes < record->raw_bytes)
        return KVT_INVALID;
    if (record->codec != KVT_CODEC_RAW)
        return decode_blob(unit, record, blob, bytes, item->buffer);
    if (bytes != record->raw_bytes)
        return KVT_CORRUPT;
    memcpy(item->buffer, blob, bytes);
    return KVT_OK;
}

static uint64_t section_bytes(const kvt_record *record, const uint8_t *payload)
{
    if ((record->flags & KVT_RECORD_TOKENS) == 0)
        return 0;
    uint64_t bytes = record->stored_bytes >= SECTION_HEAD_BYTES ? kvt_load_le32(payload + 4) : 0;
    return bytes != 0 && bytes < record->stored_bytes ? bytes : UINT64_MAX;
}

/* Of a record that keeps its blob as it is, a header with a good checksum may still say another size. */
static uint64_t checked(const kvt_record *record, uint64_t section)
{
    bool raw = record->codec == KVT_CODEC_RAW;
    bool fits = section != UINT64_MAX && (!raw || record->stored_bytes - section == record->raw_bytes);
    return fits ? section : UINT64_MAX;
}

uint64_t kvt_payload_section_bytes(const kvt_record *record, const uint8_t *payload)
{
    return checked(record, section_bytes(record, payload));
}

kvt_status kvt_unit_drain(kvt_unit *unit, const kvt_record *record, uint8_t *image, uint8_t *scratch)
{
    uint8_t *payload = image + KVT_HEADER_BYTES;
    uint64_t section = kvt_payload_section_bytes(record, payload);
    if (section == UINT64_MAX)
        return KVT_CORRUPT;
    if (unit->verb == KVT_VERB_GET)
        return drain_buffer(unit, record, payload + section, record->stored_bytes - section);
    if (section == 0)
        return KVT_MISS; /* put by key, without tokens: nothing vouches that it belongs to this prompt */
    if (!same_tokens(unit, payload, record->stored_bytes)) {
        kvt_count(&unit->engine->counters.collisions, 1);
        return KVT_MISS;
    }
    unit->outcome.bytes = record->raw_bytes;
    unit->outcome.groups = record->flags >> KVT_RECORD_GROUPS_SHIFT & 0xff;
    if (unit->verb == KVT_VERB_PREFETCH)
        return KVT_OK;
    uint64_t bytes = record->stored_bytes - section;
    if (record->codec == KVT_CODEC_RAW)
        return bytes == record->raw_bytes ? drain_pages(unit, record, payload + section) : KVT_CORRUPT;
    if (record->raw_bytes > KVT_BLOB_BYTES_MAX)
        return KVT_CORRUPT;
    KVT_TRY(decode_blob(unit, record, payload + section, bytes, scratch));
    return drain_pages(unit, record, scratch);
}
