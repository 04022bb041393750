/* SPDX-License-Identifier: Apache-2.0
 *
 * xpack: three bits for the distance of an exponent below its channel's base, a byte more for those that do not fit;
 * sign and mantissa as they are. Fixed rate but for the escapes, so that any lane of any machine finds its bits by
 * arithmetic. Format: docs/format_codecs.md.
 */
#include "compress/compress_int.h"
#include "compress/exponent.h"

enum {
    SAMPLE_STRIDE = 4,  /* the largest of every fourth token: outliers become escapes, and 3 bits fit the rest better */
    SAMPLE_TOKENS = 64, /* but no fewer than these */
    CODE_BYTES = 3 * KVT_STEP / 8,
    COUNT_BYTES = 2
};

/* A body: distances of the bases, escapes of each segment, raw bits, codes, escapes. */
typedef struct sections {
    kvt_segments segments;
    uint64_t counts, raw, codes, escapes; /* where they begin */
} sections;

static sections sections_of(const kvt_kv_plane *plane, uint32_t segment_log2)
{
    sections s = {.segments = kvt_segments_of((uint64_t)plane->tokens * plane->channels, segment_log2)};
    s.counts = kvt_align_up((plane->channels + 1) / 2, KVT_EXPONENT_ALIGN);
    s.raw = s.counts + kvt_align_up((uint64_t)s.segments.count * COUNT_BYTES, KVT_EXPONENT_ALIGN);
    s.codes =
        s.raw + kvt_align_up((uint64_t)s.segments.steps * 8 * kvt_xpack_raw_bits(plane->kind), KVT_EXPONENT_ALIGN);
    s.escapes = s.codes + kvt_align_up((uint64_t)s.segments.steps * CODE_BYTES, KVT_EXPONENT_ALIGN);
    return s;
}

/* Steps of a segment whose elements are all there, the first in *out_elements; the rest of the plane's last step. */
static uint32_t whole_steps(const kvt_kv_plane *plane, const kvt_segments *segments, uint32_t segment,
                            uint64_t *out_first)
{
    uint32_t steps = kvt_segment_steps(segments, segment);
    *out_first = (uint64_t)segment * segments->steps_each * KVT_STEP;
    uint64_t left = (uint64_t)plane->tokens * plane->channels - *out_first;
    return (uint32_t)kvt_min_u64(steps, left / KVT_STEP);
}

static void choose_bases(const kvt_exponent_ops *ops, kvt_exponent_room *room, const uint8_t *data,
                         kvt_plane_entry *entry, uint8_t *body)
{
    const kvt_kv_plane *plane = &entry->plane;
    uint32_t stride = (uint32_t)kvt_min_u64(SAMPLE_STRIDE, kvt_max_u64(1, plane->tokens / SAMPLE_TOKENS));
    room->lanes.channels = plane->channels;
    memset(room->lanes.base, 0, plane->channels);
    memset(room->lanes.tag, 0, plane->channels);
    memset(room->negative, 0, plane->channels * sizeof *room->negative);
    ops->column_stats(plane->kind, data, plane->tokens, plane->channels, stride, room->lanes.base, room->negative);
    entry->base = kvt_bases_choose(room->lanes.base, plane->channels, room->distances);
    kvt_lanes_repeat(&room->lanes);
    for (uint32_t c = 0; c < plane->channels; c += 2)
        body[c / 2] = (uint8_t)(room->distances[c] | (c + 1 < plane->channels ? room->distances[c + 1] << 4 : 0));
}

static void split_segment(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_kv_plane *plane,
                          const sections *s, uint32_t segment, const uint8_t *data, uint8_t *body)
{
    const uint32_t width = kvt_element_kind_bytes(plane->kind);
    const uint64_t raw_step = (uint64_t)8 * kvt_xpack_raw_bits(plane->kind);
    uint64_t first;
    uint32_t whole = whole_steps(plane, &s->segments, segment, &first);
    uint64_t step = first / KVT_STEP;
    uint8_t *raw = body + s->raw + step * raw_step, *codes = body + s->codes + step * CODE_BYTES;
    ops->xpack_split(plane->kind, data + first * width, &room->lanes, (uint32_t)(first % plane->channels), whole, raw,
                     codes, &room->escapes);
    if (whole == kvt_segment_steps(&s->segments, segment))
        return;
    uint8_t last[2 * KVT_STEP];
    uint64_t at = first + (uint64_t)whole * KVT_STEP;
    uint32_t channel = (uint32_t)(at % plane->channels);
    kvt_step_fill(plane, &room->lanes, data + at * width, (uint32_t)((uint64_t)plane->tokens * plane->channels - at),
                  channel, last);
    ops->xpack_split(plane->kind, last, &room->lanes, channel, 1, raw + whole * raw_step,
                     codes + (uint64_t)whole * CODE_BYTES, &room->escapes);
}

static uint32_t encode_plane(const kvt_exponent_ops *ops, kvt_exponent_room *room, const uint8_t *data, uint8_t *body,
                             uint64_t capacity, kvt_plane_entry *entry)
{
    const kvt_kv_plane *plane = &entry->plane;
    sections s = sections_of(plane, room->segment_log2);
    if (s.escapes > capacity)
        return 0;
    memset(body, 0, s.raw);
    choose_bases(ops, room, data, entry, body);
    kvt_escapes *escapes = &room->escapes;
    escapes->count = 0;
    for (uint32_t i = 0; i < s.segments.count; i++) {
        uint32_t before = escapes->count;
        split_segment(ops, room, plane, &s, i, data, body);
        body[s.counts + 2 * i] = (uint8_t)(escapes->count - before);
        body[s.counts + 2 * i + 1] = (uint8_t)((escapes->count - before) >> 8);
        if (escapes->count > (uint64_t)plane->tokens * plane->channels / 4)
            return 0;
    }
    uint64_t raw_end = s.raw + (uint64_t)s.segments.steps * 8 * kvt_xpack_raw_bits(plane->kind);
    uint64_t codes_end = s.codes + (uint64_t)s.segments.steps * CODE_BYTES;
    memset(body + raw_end, 0, s.codes - raw_end);
    memset(body + codes_end, 0, s.escapes - codes_end);
    if (escapes->count > capacity - s.escapes)
        return 0;
    memcpy(body + s.escapes, escapes->exponent, escapes->count);
    return (uint32_t)(s.escapes + escapes->count);
}

/* ------------------------------------------------------------------ decoding */

static uint32_t count_of(const uint8_t *body, const sections *s, uint32_t segment)
{
    return body[s->counts + 2 * segment] | (uint32_t)body[s->counts + 2 * segment + 1] << 8;
}

static bool check_sizes(const kvt_plane_entry *entry, const sections *s, const uint8_t *body)
{
    if (s->escapes > entry->body_bytes)
        return false;
    uint64_t end = s->escapes;
    for (uint32_t i = 0; i < s->segments.count; i++)
        end += count_of(body, s, i);
    return end == entry->body_bytes && entry->extra == 0;
}

static bool merge_segment(const kvt_exponent_ops *ops, const kvt_exponent_room *room, const kvt_kv_plane *plane,
                          const sections *s, uint32_t segment, const uint8_t *body, kvt_escapes *escapes, uint8_t *data)
{
    const uint32_t width = kvt_element_kind_bytes(plane->kind);
    const uint64_t raw_step = (uint64_t)8 * kvt_xpack_raw_bits(plane->kind);
    uint64_t first;
    uint32_t whole = whole_steps(plane, &s->segments, segment, &first);
    uint64_t step = first / KVT_STEP;
    const uint8_t *raw = body + s->raw + step * raw_step, *codes = body + s->codes + step * CODE_BYTES;
    ops->xpack_merge(plane->kind, data + first * width, &room->lanes, (uint32_t)(first % plane->channels), whole, raw,
                     codes, escapes);
    if (whole != kvt_segment_steps(&s->segments, segment)) {
        uint8_t last[2 * KVT_STEP];
        uint64_t at = first + (uint64_t)whole * KVT_STEP;
        ops->xpack_merge(plane->kind, last, &room->lanes, (uint32_t)(at % plane->channels), 1, raw + whole * raw_step,
                         codes + (uint64_t)whole * CODE_BYTES, escapes);
        memcpy(data + at * width, last, (size_t)(plane->raw_bytes - at * width));
    }
    return escapes->used == escapes->count;
}

static bool decode_plane(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_plane_entry *entry,
                         uint32_t segment_log2, const uint8_t *body, uint8_t *data)
{
    const kvt_kv_plane *plane = &entry->plane;
    sections s = sections_of(plane, segment_log2);
    if (!check_sizes(entry, &s, body))
        return false;
    room->lanes.channels = plane->channels;
    for (uint32_t c = 0; c < plane->channels; c++)
        room->lanes.base[c] = kvt_base_of(entry->base, body[c / 2] >> c % 2 * 4 & 15);
    kvt_lanes_repeat(&room->lanes);
    const uint8_t *at = body + s.escapes;
    bool valid = true;
    for (uint32_t i = 0; i < s.segments.count; i++) {
        /* Read only, whatever the type of the list says. */
        kvt_escapes escapes = {.exponent = (uint8_t *)(uintptr_t)at, .count = count_of(body, &s, i)};
        valid &= merge_segment(ops, room, plane, &s, i, body, &escapes, data);
        at += escapes.count;
    }
    return valid;
}

const kvt_exponent_codec kvt_exponent_xpack = {.id = KVT_CODEC_XPACK, .encode = encode_plane, .decode = decode_plane};

/* ------------------------------------------------------------------ the codec */

static kvt_status encode(const kvt_codec_hint *hint, const void *raw, uint64_t raw_bytes, void *out, uint64_t capacity,
                         uint64_t *out_bytes)
{
    return kvt_exponent_encode(&kvt_exponent_xpack, kvt_exponent_ops_here(), hint, raw, raw_bytes, out, capacity,
                               out_bytes);
}

static kvt_status decode(const void *encoded, uint64_t encoded_bytes, void *out, uint64_t raw_bytes)
{
    return kvt_exponent_decode(&kvt_exponent_xpack, kvt_exponent_ops_here(), encoded, encoded_bytes, out, raw_bytes);
}

const kvt_codec kvt_codec_xpack = {
    .id = KVT_CODEC_XPACK, .name = "xpack", .bound = kvt_exponent_bound, .encode = encode, .decode = decode};
