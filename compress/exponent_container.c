/* SPDX-License-Identifier: Apache-2.0
 *
 * The container of xpack and rans: header, plane directory, bodies. Knows planes, not what a codec puts into them. What
 * a payload says is checked here, with limits, before a codec sees a body.
 */
#include "compress/exponent.h"

static uint64_t front_bytes(uint64_t planes) { return KVT_EXPONENT_HEADER_BYTES + planes * KVT_EXPONENT_ENTRY_BYTES; }

uint64_t kvt_exponent_bound(uint64_t raw_bytes)
{
    uint64_t planes = kvt_min_u64(raw_bytes, KVT_KV_PLANES_MAX); /* none is empty */
    return front_bytes(planes) + planes * KVT_EXPONENT_ALIGN + raw_bytes;
}

/* ------------------------------------------------------------------ memory */

typedef struct widest {
    uint64_t channels, elements;
} widest;

static void widest_add(widest *w, const kvt_kv_plane *plane)
{
    w->channels = kvt_max_u64(w->channels, plane->channels);
    w->elements = kvt_max_u64(w->elements, (uint64_t)plane->tokens * plane->channels);
}

/* Hand out `bytes` of the block, or only count them while there is none. */
static uint8_t *carve(kvt_exponent_room *room, uint64_t *used, uint64_t bytes)
{
    uint8_t *at = room->memory == NULL ? NULL : room->memory + *used;
    *used += kvt_align_up(bytes, 64);
    return at;
}

static uint64_t lay_out(kvt_exponent_room *room, widest w, bool encoding)
{
    const uint64_t segment = (uint64_t)KVT_SEGMENT_STEPS_MAX * KVT_STEP;
    const uint64_t channels = w.channels + KVT_STEP;
    uint64_t used = 0;
    room->lanes.base = carve(room, &used, channels);
    room->lanes.tag = carve(room, &used, channels);
    room->model = (kvt_rans_model *)(void *)carve(room, &used, sizeof *room->model);
    room->index = carve(room, &used, KVT_RANS_TOGETHER * segment);
    uint64_t escapes = (encoding ? w.elements / 4 + segment : segment) + KVT_STEP;
    room->escapes.exponent = carve(room, &used, escapes);
    room->escapes.rest = carve(room, &used, escapes);
    if (!encoding)
        return used;
    room->words = carve(room, &used, KVT_RANS_TOGETHER * (segment + KVT_STEP));
    room->exponent_max = carve(room, &used, channels);
    room->assigned = carve(room, &used, channels);
    room->distances = carve(room, &used, channels);
    room->row = carve(room, &used, channels);
    room->counts = carve(room, &used, w.channels * KVT_RANS_SYMBOLS);
    room->negative = (uint32_t *)(void *)carve(room, &used, w.channels * sizeof *room->negative);
    for (uint32_t i = 0; i < 2; i++)
        room->sums[i] = (uint32_t *)(void *)carve(room, &used, w.channels * sizeof *room->sums[i]);
    return used;
}

static kvt_status room_open(kvt_exponent_room *room, widest w, bool encoding)
{
    *room = (kvt_exponent_room){.memory = NULL};
    uint64_t bytes = lay_out(room, w, encoding);
    room->memory = kvt_alloc_aligned(64, bytes);
    if (room->memory == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to code a blob; store it raw or lower worker_count");
    lay_out(room, w, encoding);
    if (encoding)
        room->words += KVT_STEP;
    return KVT_OK;
}

/* ------------------------------------------------------------------ encoding */

static void write_entry(uint8_t *at, const kvt_plane_entry *entry)
{
    bool raw = entry->mode == KVT_MODE_RAW;
    at[0] = entry->mode;
    at[1] = raw ? 0 : (uint8_t)entry->plane.kind;
    at[2] = entry->base;
    at[3] = entry->extra;
    kvt_store_le32(at + 4, raw ? 0 : entry->plane.tokens);
    kvt_store_le32(at + 8, raw ? 0 : entry->plane.channels);
    kvt_store_le32(at + 12, entry->body_bytes);
}

/* One plane: as the codec does it, or raw where that is not smaller. False: does not fit. */
static bool put_plane(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, kvt_exponent_room *room,
                      const kvt_kv_plane *plane, const uint8_t *data, uint8_t *body, uint64_t capacity,
                      kvt_plane_entry *entry)
{
    *entry = (kvt_plane_entry){.mode = (uint8_t)codec->id, .plane = *plane};
    uint64_t most = kvt_min_u64(capacity, plane->raw_bytes - 1);
    if (plane->kind != KVT_ELEMENT_OPAQUE)
        entry->body_bytes = codec->encode(ops, room, data, body, most, entry);
    if (entry->body_bytes != 0)
        return true;
    if (plane->raw_bytes > capacity)
        return false;
    *entry = (kvt_plane_entry){.mode = KVT_MODE_RAW, .plane = *plane, .body_bytes = (uint32_t)plane->raw_bytes};
    memcpy(body, data, plane->raw_bytes);
    return true;
}

static kvt_status put_planes(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, kvt_exponent_room *room,
                             kvt_kv_shape *shape, const uint8_t *raw, uint8_t *out, uint64_t capacity,
                             uint64_t *out_bytes)
{
    uint8_t *entry_at = out + KVT_EXPONENT_HEADER_BYTES;
    uint64_t at = front_bytes(kvt_kv_shape_count(shape));
    kvt_kv_plane plane;
    while (kvt_kv_shape_next(shape, &plane)) {
        kvt_plane_entry entry;
        if (!put_plane(codec, ops, room, &plane, raw, out + at, capacity - at, &entry))
            return KVT_REJECTED;
        write_entry(entry_at, &entry);
        entry_at += KVT_EXPONENT_ENTRY_BYTES;
        raw += plane.raw_bytes;
        uint64_t end = at + entry.body_bytes;
        at = kvt_align_up(end, KVT_EXPONENT_ALIGN);
        if (at > capacity)
            return KVT_REJECTED;
        memset(out + end, 0, at - end);
    }
    *out_bytes = at;
    return KVT_OK;
}

/* A level is the logarithm of a segment's size: smaller ones give more lanes to a GPU, and take more room. */
static uint32_t segment_log2_of(int32_t level)
{
    return level >= KVT_SEGMENT_LOG2_MIN && level <= KVT_SEGMENT_LOG2_MAX ? (uint32_t)level : KVT_SEGMENT_LOG2;
}

kvt_status kvt_exponent_encode(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, const kvt_codec_hint *hint,
                               const uint8_t *raw, uint64_t raw_bytes, uint8_t *out, uint64_t capacity,
                               uint64_t *out_bytes)
{
    if (raw_bytes > KVT_BLOB_BYTES_MAX)
        return KVT_REJECTED;
    kvt_kv_shape shape;
    kvt_kv_shape_start(&shape, hint, raw_bytes);
    uint32_t planes = kvt_kv_shape_count(&shape);
    if (capacity < front_bytes(planes))
        return KVT_REJECTED;
    memset(out, 0, KVT_EXPONENT_HEADER_BYTES);
    out[0] = KVT_EXPONENT_VERSION;
    out[1] = (uint8_t)codec->id;
    out[2] = (uint8_t)segment_log2_of(hint->level);
    kvt_store_le32(out + 4, planes);

    widest w = {0, 0};
    kvt_kv_plane plane;
    for (kvt_kv_shape walk = shape; kvt_kv_shape_next(&walk, &plane);)
        widest_add(&w, &plane);
    kvt_exponent_room room;
    KVT_TRY(room_open(&room, w, true));
    room.segment_log2 = out[2];
    kvt_status status = put_planes(codec, ops, &room, &shape, raw, out, capacity, out_bytes);
    kvt_free(room.memory);
    return status;
}

/* ------------------------------------------------------------------ decoding */

static kvt_status corrupt(const char *what)
{
    return kvt_fail(KVT_CORRUPT, "an encoded payload %s; drop the record", what);
}

typedef struct payload {
    const uint8_t *at;
    uint64_t bytes;
    uint32_t planes;
    uint32_t segment_log2;
} payload;

static bool read_header(payload *p, uint32_t codec_id)
{
    if (p->bytes < KVT_EXPONENT_HEADER_BYTES)
        return false;
    p->segment_log2 = p->at[2];
    p->planes = kvt_load_le32(p->at + 4);
    return p->at[0] == KVT_EXPONENT_VERSION && p->at[1] == codec_id && p->segment_log2 >= KVT_SEGMENT_LOG2_MIN &&
           p->segment_log2 <= KVT_SEGMENT_LOG2_MAX && p->at[3] == 0 && p->planes <= KVT_KV_PLANES_MAX &&
           kvt_load_le64(p->at + 8) == 0 && p->bytes >= front_bytes(p->planes);
}

static bool read_entry(const payload *p, uint32_t i, uint32_t codec_id, kvt_plane_entry *entry)
{
    const uint8_t *at = p->at + front_bytes(i);
    *entry = (kvt_plane_entry){.mode = at[0], .base = at[2], .extra = at[3], .body_bytes = kvt_load_le32(at + 12)};
    kvt_kv_plane *plane = &entry->plane;
    plane->kind = (kvt_element_kind)at[1];
    plane->tokens = kvt_load_le32(at + 4);
    plane->channels = kvt_load_le32(at + 8);
    if (entry->mode == KVT_MODE_RAW) {
        plane->raw_bytes = entry->body_bytes;
        return at[1] == 0 && plane->tokens == 0 && plane->channels == 0 && entry->base == 0 && entry->extra == 0;
    }
    if (entry->mode != codec_id || at[1] < KVT_ELEMENT_BF16 || at[1] > KVT_ELEMENT_E5M2 || plane->tokens == 0 ||
        plane->channels == 0 || plane->channels > KVT_KV_CHANNELS_MAX || entry->base > kvt_exponent_max(plane->kind))
        return false;
    plane->raw_bytes = (uint64_t)plane->tokens * plane->channels * kvt_element_kind_bytes(plane->kind);
    return plane->raw_bytes <= KVT_BLOB_BYTES_MAX;
}

/* The directory adds up: to the blob, and to the payload. */
static bool check_directory(const payload *p, uint32_t codec_id, uint64_t raw_bytes, widest *w)
{
    uint64_t at = front_bytes(p->planes), sum = 0;
    for (uint32_t i = 0; i < p->planes; i++) {
        kvt_plane_entry entry;
        if (!read_entry(p, i, codec_id, &entry))
            return false;
        widest_add(w, &entry.plane);
        sum += entry.plane.raw_bytes;
        at = kvt_align_up(at + entry.body_bytes, KVT_EXPONENT_ALIGN);
        if (sum > raw_bytes || at > p->bytes)
            return false;
    }
    return sum == raw_bytes && at == p->bytes;
}

static kvt_status get_planes(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, kvt_exponent_room *room,
                             const payload *p, uint8_t *out)
{
    uint64_t at = front_bytes(p->planes);
    for (uint32_t i = 0; i < p->planes; i++) {
        kvt_plane_entry entry;
        bool valid = read_entry(p, i, codec->id, &entry);
        const uint8_t *body = p->at + at;
        if (valid && entry.mode == KVT_MODE_RAW && entry.body_bytes != 0)
            memcpy(out, body, entry.body_bytes);
        else if (valid && entry.mode != KVT_MODE_RAW)
            valid = codec->decode(ops, room, &entry, p->segment_log2, body, out);
        if (!valid)
            return corrupt("holds a damaged plane");
        out += entry.plane.raw_bytes;
        at = kvt_align_up(at + entry.body_bytes, KVT_EXPONENT_ALIGN);
    }
    return KVT_OK;
}

kvt_status kvt_exponent_decode(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, const uint8_t *encoded,
                               uint64_t encoded_bytes, uint8_t *out, uint64_t raw_bytes)
{
    payload p = {.at = encoded, .bytes = encoded_bytes};
    widest w = {0, 0};
    if (raw_bytes > KVT_BLOB_BYTES_MAX || !read_header(&p, codec->id))
        return corrupt("has a header that does not fit its blob");
    if (!check_directory(&p, codec->id, raw_bytes, &w))
        return corrupt("has a plane directory that does not add up");
    kvt_exponent_room room;
    KVT_TRY(room_open(&room, w, false));
    kvt_status status = get_planes(codec, ops, &room, &p, out);
    kvt_free(room.memory);
    return status;
}
