/* SPDX-License-Identifier: Apache-2.0
 *
 * rans: sign, exponent and the mantissa's top bit as one symbol, entropy-coded with a table for each class of channels;
 * the rest of the mantissa as it is. Format: docs/format_codecs.md.
 */
#include "compress/compress_int.h"
#include "compress/rans_model.h"
#include "compress/raw_bits.h"

enum {
    SAMPLE_TOKENS = 64,  /* whose symbols are counted for the tables */
    DIRECTORY_BYTES = 4, /* of a segment: words, escapes */
    CLASSES_FROM = 16384 /* elements; a table costs about 45 bytes */
};

static_assert(SAMPLE_TOKENS * KVT_KV_CHANNELS_MAX <= 1 << 22, "what the statistics' products are made for");

/* A body: channel bytes, tables, directory, states, raw bits, words, escapes. */
typedef struct sections {
    kvt_segments segments;
    uint32_t classes, levels;
    uint64_t tables, directory, states, raw, words; /* where they begin */
} sections;

static uint64_t raw_bytes_of(const kvt_kv_plane *plane, const kvt_segments *segments)
{
    uint64_t steps = segments->steps - (kvt_rans_carries(plane->kind) ? segments->count : 0);
    return steps * 8 * kvt_rans_raw_bits(plane->kind);
}

static sections sections_of(const kvt_kv_plane *plane, uint32_t segment_log2, uint32_t classes, uint32_t levels)
{
    sections s = {.segments = kvt_segments_of((uint64_t)plane->tokens * plane->channels, segment_log2),
                  .classes = classes,
                  .levels = levels};
    s.tables = kvt_align_up(plane->channels, KVT_EXPONENT_ALIGN);
    s.directory = s.tables + kvt_align_up(kvt_rans_table_bytes(classes, levels), KVT_EXPONENT_ALIGN);
    s.states = s.directory + kvt_align_up((uint64_t)s.segments.count * DIRECTORY_BYTES, KVT_EXPONENT_ALIGN);
    s.raw = s.states + (uint64_t)s.segments.count * KVT_RANS_STATE_BYTES;
    s.words = s.raw + kvt_align_up(raw_bytes_of(plane, &s.segments), KVT_EXPONENT_ALIGN);
    return s;
}

/* Where a segment lies. Its last step stands apart: it may be short, and its raw bits travel in the states. */
typedef struct place {
    uint64_t first;        /* element */
    uint32_t steps;        /* with the last */
    uint32_t last_count;   /* elements of the last step */
    uint32_t channel;      /* of the first element */
    uint32_t last_channel; /* of the last step's first */
    uint64_t raw;          /* offset in the raw bits */
} place;

static place place_of(const kvt_kv_plane *plane, const kvt_segments *segments, uint32_t segment)
{
    place p = {.first = (uint64_t)segment * segments->steps_each * KVT_STEP,
               .steps = kvt_segment_steps(segments, segment)};
    uint64_t last = p.first + (uint64_t)(p.steps - 1) * KVT_STEP;
    p.last_count = (uint32_t)kvt_min_u64(KVT_STEP, (uint64_t)plane->tokens * plane->channels - last);
    p.channel = (uint32_t)(p.first % plane->channels);
    p.last_channel = (uint32_t)(last % plane->channels);
    uint64_t raw_steps = (uint64_t)segment * (segments->steps_each - (kvt_rans_carries(plane->kind) ? 1 : 0));
    p.raw = raw_steps * 8 * kvt_rans_raw_bits(plane->kind);
    return p;
}

/* How many of the segments that are left to code side by side: one alone takes as long as two. */
static uint32_t together(uint32_t left)
{
    if (left < KVT_RANS_TOGETHER)
        return left;
    return left % 2 == 0 ? 2 : KVT_RANS_TOGETHER;
}

/* Escapes of a segment: a byte each, then two bits each. */
static uint64_t escape_bytes(uint64_t count) { return count + (count + 3) / 4; }

/* ------------------------------------------------------------------ encoding */

static void choose_model(const kvt_exponent_ops *ops, kvt_exponent_room *room, const uint8_t *data,
                         kvt_plane_entry *entry, uint32_t classes)
{
    const kvt_kv_plane *plane = &entry->plane;
    kvt_lanes *lanes = &room->lanes;
    lanes->channels = plane->channels;
    memset(lanes->base, 0, plane->channels);
    memset(room->negative, 0, plane->channels * sizeof *room->negative);
    ops->column_stats(plane->kind, data, plane->tokens, plane->channels, 1, lanes->base, room->negative);
    entry->base = kvt_bases_choose(lanes->base, plane->channels, room->distances);
    for (uint32_t c = 0; c < plane->channels; c++)
        lanes->tag[c] = room->negative[c] > plane->tokens / 2 ? 0x20 : 0;
    kvt_lanes_repeat(lanes);
    uint32_t stride = (plane->tokens + SAMPLE_TOKENS - 1) / SAMPLE_TOKENS;
    memset(room->counts, 0, (size_t)plane->channels * KVT_RANS_SYMBOLS);
    ops->rans_count(plane->kind, data, lanes, plane->tokens, stride, room->row, room->counts);
    kvt_rans_choose(ops, room, (plane->tokens + stride - 1) / stride, classes);
    kvt_lanes_repeat(lanes);
    kvt_rans_model_encoding(room->model, classes);
}

static void write_channels(const kvt_exponent_room *room, uint8_t *body)
{
    for (uint32_t c = 0; c < room->lanes.channels; c++)
        body[c] = (uint8_t)(room->distances[c] | (room->lanes.tag[c] >> 1 & 0x10) | room->assigned[c] << 5);
}

static void put_le16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

/* The last step's raw bits become the states that coding starts from. */
static void start_states(kvt_element_kind kind, const uint8_t *packed, uint8_t *states)
{
    uint8_t high[KVT_STEP];
    memset(states, 0, KVT_STEP);
    if (kvt_rans_carries(kind))
        kvt_bits_unpack(packed, kvt_rans_raw_bits(kind), states, high);
    memset(states + KVT_STEP, 1, KVT_STEP);
}

/* Split a segment: symbols, raw bits, escapes; states as coding starts. */
static void split_segment(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_kv_plane *plane,
                          const place *p, const uint8_t *data, uint8_t *raw, uint8_t *index, uint8_t *states)
{
    const uint32_t width = kvt_element_kind_bytes(plane->kind), raw_step = 8 * kvt_rans_raw_bits(plane->kind);
    uint8_t last[2 * KVT_STEP], packed[9 * 8];
    uint64_t at = p->first + (uint64_t)(p->steps - 1) * KVT_STEP;
    ops->rans_split(plane->kind, data + p->first * width, &room->lanes, p->channel, p->steps - 1, room->model, raw,
                    index, &room->escapes);
    kvt_step_fill(plane, &room->lanes, data + at * width, p->last_count, p->last_channel, last);
    ops->rans_split(plane->kind, last, &room->lanes, p->last_channel, 1, room->model, packed,
                    index + (size_t)(p->steps - 1) * KVT_STEP, &room->escapes);
    if (!kvt_rans_carries(plane->kind))
        memcpy(raw + (size_t)(p->steps - 1) * raw_step, packed, raw_step);
    start_states(plane->kind, packed, states);
}

static uint64_t write_escapes(const kvt_escapes *escapes, uint32_t first, uint32_t count, uint8_t *to)
{
    memcpy(to, escapes->exponent + first, count);
    memset(to + count, 0, (count + 3) / 4);
    for (uint32_t i = 0; i < count; i++)
        to[count + i / 4] = (uint8_t)(to[count + i / 4] | escapes->rest[first + i] << i % 4 * 2);
    return escape_bytes(count);
}

/* Segments into the body; the end of the words, or 0 when they do not fit. Escapes stay in their list. */
static uint64_t encode_segments(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_kv_plane *plane,
                                const sections *s, const uint8_t *data, uint8_t *body, uint64_t capacity)
{
    const size_t segment = (size_t)KVT_SEGMENT_STEPS_MAX * KVT_STEP;
    uint64_t at = s->words;
    room->escapes.count = 0;
    for (uint32_t i = 0, count; i < s->segments.count; i += count) {
        count = together(s->segments.count - i);
        kvt_rans_source sources[KVT_RANS_TOGETHER];
        for (uint32_t k = 0; k < count; k++) {
            place p = place_of(plane, &s->segments, i + k);
            uint8_t *index = room->index + k * segment;
            uint32_t before = room->escapes.count;
            sources[k] = (kvt_rans_source){
                .index = index, .end = room->words + (k + 1) * (segment + KVT_STEP) - KVT_STEP, .steps = p.steps};
            split_segment(ops, room, plane, &p, data, body + s->raw + p.raw, index, sources[k].states);
            put_le16(body + s->directory + (uint64_t)(i + k) * DIRECTORY_BYTES + 2, room->escapes.count - before);
            if (room->escapes.count > (uint64_t)plane->tokens * plane->channels / 4)
                return 0;
        }
        ops->rans_encode(room->model, sources, count);
        for (uint32_t k = 0; k < count; k++) {
            uint32_t words = sources[k].used;
            if (words > capacity - at)
                return 0;
            memcpy(body + at, sources[k].end - words, words);
            at += words;
            put_le16(body + s->directory + (uint64_t)(i + k) * DIRECTORY_BYTES, words);
            memcpy(body + s->states + (uint64_t)(i + k) * KVT_RANS_STATE_BYTES, sources[k].states,
                   KVT_RANS_STATE_BYTES);
        }
    }
    return at;
}

static uint32_t encode_plane(const kvt_exponent_ops *ops, kvt_exponent_room *room, const uint8_t *data, uint8_t *body,
                             uint64_t capacity, kvt_plane_entry *entry)
{
    const kvt_kv_plane *plane = &entry->plane;
    uint64_t elements = (uint64_t)plane->tokens * plane->channels;
    uint32_t classes = elements >= CLASSES_FROM ? KVT_RANS_CLASSES_MAX : elements >= CLASSES_FROM / 4 ? 2 : 1;
    if (sections_of(plane, room->segment_log2, classes, 1).words > capacity)
        return 0;
    choose_model(ops, room, data, entry, classes);
    uint32_t levels = kvt_rans_levels(room->model, classes);
    sections s = sections_of(plane, room->segment_log2, classes, levels);
    if (s.words > capacity)
        return 0;
    entry->extra = (uint8_t)(levels | classes << 4);
    memset(body, 0, s.states);
    write_channels(room, body);
    kvt_rans_tables_write(room->model, classes, levels, body + s.tables);
    uint64_t raw_end = s.raw + raw_bytes_of(plane, &s.segments);
    memset(body + raw_end, 0, s.words - raw_end);
    uint64_t at = encode_segments(ops, room, plane, &s, data, body, capacity);
    if (at == 0)
        return 0;
    for (uint32_t i = 0, first = 0; i < s.segments.count; i++) {
        const uint8_t *directory = body + s.directory + (uint64_t)i * DIRECTORY_BYTES;
        uint32_t count = directory[2] | (uint32_t)directory[3] << 8;
        if (escape_bytes(count) > capacity - at)
            return 0;
        at += write_escapes(&room->escapes, first, count, body + at);
        first += count;
    }
    return (uint32_t)at;
}

/* ------------------------------------------------------------------ decoding */

static uint32_t get_le16(const uint8_t *from) { return from[0] | (uint32_t)from[1] << 8; }

/* Counts add up to the body, so that every segment's words and escapes lie within it. */
static bool check_sizes(const kvt_plane_entry *entry, const sections *s, const uint8_t *body, uint64_t *out_escapes)
{
    if (s->words > entry->body_bytes)
        return false;
    uint64_t words = 0, escapes = 0;
    for (uint32_t i = 0; i < s->segments.count; i++) {
        const uint8_t *directory = body + s->directory + (uint64_t)i * DIRECTORY_BYTES;
        words += get_le16(directory);
        if (get_le16(directory + 2) > (uint32_t)KVT_SEGMENT_STEPS_MAX * KVT_STEP)
            return false;
        escapes += escape_bytes(get_le16(directory + 2));
    }
    *out_escapes = s->words + words;
    return s->words + words + escapes == entry->body_bytes;
}

static bool read_channels(kvt_exponent_room *room, const kvt_plane_entry *entry, uint32_t classes, const uint8_t *body)
{
    kvt_lanes *lanes = &room->lanes;
    bool valid = true;
    lanes->channels = entry->plane.channels;
    for (uint32_t c = 0; c < lanes->channels; c++) {
        uint32_t class = body[c] >> 5;
        valid &= class < classes;
        lanes->base[c] = kvt_base_of(entry->base, body[c] & 15);
        lanes->tag[c] = (uint8_t)((class & 3) << 6 | (body[c] & 0x10) << 1);
    }
    kvt_lanes_repeat(lanes);
    return valid;
}

static void read_escapes(kvt_escapes *escapes, uint32_t count, const uint8_t *from)
{
    escapes->count = count;
    escapes->used = 0;
    memcpy(escapes->exponent, from, count);
    for (uint32_t i = 0; i < count; i++)
        escapes->rest[i] = from[count + i / 4] >> i % 4 * 2 & 3;
}

static bool all_started(const uint8_t *states)
{
    bool valid = true;
    for (uint32_t i = 0; i < KVT_STEP; i++)
        valid &= states[KVT_STEP + i] != 0;
    return valid;
}

/* What coding started from is what decoding ends with: 256, plus the raw bits that travelled along. */
static bool end_states(kvt_element_kind kind, const uint8_t *states, uint8_t *packed)
{
    uint32_t bits = kvt_rans_carries(kind) ? kvt_rans_raw_bits(kind) : 0;
    static const uint8_t zero[KVT_STEP] = {0};
    bool valid = true;
    for (uint32_t i = 0; i < KVT_STEP; i++)
        valid &= states[KVT_STEP + i] == 1 && states[i] >> bits == 0;
    if (bits != 0)
        kvt_bits_pack(states, zero, bits, packed);
    return valid;
}

/* A segment's part of a body. */
typedef struct stored {
    place place;
    kvt_rans_run run;
    const uint8_t *escapes;
    uint32_t escape_count;
} stored;

/* Put the elements of a decoded segment together. */
static bool merge_segment(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_kv_plane *plane,
                          const stored *segment, const uint8_t *raw, uint8_t *data)
{
    const uint32_t width = kvt_element_kind_bytes(plane->kind), raw_step = 8 * kvt_rans_raw_bits(plane->kind);
    const place *p = &segment->place;
    uint8_t packed[9 * 8], last[2 * KVT_STEP];
    bool valid = segment->run.used == segment->run.word_count && end_states(plane->kind, segment->run.states, packed);
    if (!kvt_rans_carries(plane->kind))
        memcpy(packed, raw + p->raw + (size_t)(p->steps - 1) * raw_step, raw_step);
    read_escapes(&room->escapes, segment->escape_count, segment->escapes);
    ops->rans_merge(plane->kind, data + p->first * width, &room->lanes, p->channel, p->steps - 1, raw + p->raw,
                    segment->run.index, &room->escapes);
    ops->rans_merge(plane->kind, last, &room->lanes, p->last_channel, 1, packed,
                    segment->run.index + (size_t)(p->steps - 1) * KVT_STEP, &room->escapes);
    uint64_t at = p->first + (uint64_t)(p->steps - 1) * KVT_STEP;
    memcpy(data + at * width, last, (size_t)p->last_count * width);
    return valid && room->escapes.used == room->escapes.count;
}

/* Find segment i; the lists move on. */
static void find_segment(const kvt_kv_plane *plane, const sections *s, uint32_t i, const uint8_t *body,
                         const uint8_t **words, const uint8_t **escapes, stored *out)
{
    const uint8_t *directory = body + s->directory + (uint64_t)i * DIRECTORY_BYTES;
    out->place = place_of(plane, &s->segments, i);
    out->run.words = *words;
    out->run.word_count = get_le16(directory);
    out->run.steps = out->place.steps;
    out->run.channel = out->place.channel;
    memcpy(out->run.states, body + s->states + (uint64_t)i * KVT_RANS_STATE_BYTES, KVT_RANS_STATE_BYTES);
    out->escapes = *escapes;
    out->escape_count = get_le16(directory + 2);
    *words += out->run.word_count;
    *escapes += escape_bytes(out->escape_count);
}

static bool decode_segments(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_kv_plane *plane,
                            const sections *s, const uint8_t *body, const uint8_t *escapes, uint8_t *data)
{
    const uint8_t *words = body + s->words;
    bool valid = true;
    for (uint32_t i = 0, count; i < s->segments.count && valid; i += count) {
        count = together(s->segments.count - i);
        stored parts[KVT_RANS_TOGETHER];
        kvt_rans_run runs[KVT_RANS_TOGETHER];
        for (uint32_t k = 0; k < count; k++) {
            find_segment(plane, s, i + k, body, &words, &escapes, &parts[k]);
            parts[k].run.index = room->index + (size_t)k * KVT_SEGMENT_STEPS_MAX * KVT_STEP;
            runs[k] = parts[k].run;
            valid &= all_started(runs[k].states);
        }
        ops->rans_decode(room->model, &room->lanes, runs, count);
        for (uint32_t k = 0; k < count; k++) {
            parts[k].run = runs[k];
            valid &= merge_segment(ops, room, plane, &parts[k], body + s->raw, data);
        }
    }
    return valid;
}

static bool decode_plane(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_plane_entry *entry,
                         uint32_t segment_log2, const uint8_t *body, uint8_t *data)
{
    uint32_t levels = entry->extra & 15, classes = entry->extra >> 4;
    if (levels == 0 || classes == 0 || classes > KVT_RANS_CLASSES_MAX)
        return false;
    sections s = sections_of(&entry->plane, segment_log2, classes, levels);
    uint64_t escapes_at;
    if (!check_sizes(entry, &s, body, &escapes_at) || !read_channels(room, entry, classes, body) ||
        !kvt_rans_tables_read(body + s.tables, classes, levels, room->model))
        return false;
    kvt_rans_model_decoding(room->model, classes);
    return decode_segments(ops, room, &entry->plane, &s, body, body + escapes_at, data);
}

const kvt_exponent_codec kvt_exponent_rans = {.id = KVT_CODEC_RANS, .encode = encode_plane, .decode = decode_plane};

/* ------------------------------------------------------------------ the codec */

static kvt_status encode(const kvt_codec_hint *hint, const void *raw, uint64_t raw_bytes, void *out, uint64_t capacity,
                         uint64_t *out_bytes)
{
    return kvt_exponent_encode(&kvt_exponent_rans, kvt_exponent_ops_here(), hint, raw, raw_bytes, out, capacity,
                               out_bytes);
}

static kvt_status decode(const void *encoded, uint64_t encoded_bytes, void *out, uint64_t raw_bytes)
{
    return kvt_exponent_decode(&kvt_exponent_rans, kvt_exponent_ops_here(), encoded, encoded_bytes, out, raw_bytes);
}

const kvt_codec kvt_codec_rans = {
    .id = KVT_CODEC_RANS, .name = "rans", .bound = kvt_exponent_bound, .encode = encode, .decode = decode};
