/* SPDX-License-Identifier: Apache-2.0
 *
 * What xpack and rans share: the geometry of a plane, and the payload's container. Format: docs/format_codecs.md.
 * Private to compress.
 *
 * Everything happens in steps of 64 consecutive elements of a plane. A plane's last step may be short; it is filled up
 * with elements that nobody sees.
 */
#ifndef KVT_EXPONENT_H
#define KVT_EXPONENT_H

#include "compress/exponent_ops.h"

/* ---- exponent_planes.c: geometry and bases ---- */

/* Segments of a plane: equal numbers of steps, but for the last. */
typedef struct kvt_segments {
    uint32_t steps; /* of the plane */
    uint32_t count;
    uint32_t steps_each;
} kvt_segments;
kvt_segments kvt_segments_of(uint64_t elements, uint32_t segment_log2);
static inline uint32_t kvt_segment_steps(const kvt_segments *segments, uint32_t i)
{
    return (uint32_t)kvt_min_u64(segments->steps_each, segments->steps - (uint64_t)i * segments->steps_each);
}

/* The plane's base and each channel's distance below it (KVT_BASE_SPREAD and KVT_BASE_ZERO above) from the channels'
 * largest exponents, which become the bases that are meant. */
uint8_t kvt_bases_choose(uint8_t *bases, uint32_t channels, uint8_t *distances);
static inline uint8_t kvt_base_of(uint8_t plane_base, uint8_t distance)
{
    return distance == KVT_BASE_ZERO ? 0 : (uint8_t)(plane_base - distance);
}
void kvt_lanes_repeat(const kvt_lanes *lanes);

/* One more step behind a plane's whole ones: the elements that are left, filled up with base, majority sign, zero
 * mantissa. */
void kvt_step_fill(const kvt_kv_plane *plane, const kvt_lanes *lanes, const uint8_t *data, uint32_t elements,
                   uint32_t channel, uint8_t *step);

/* ---- exponent_container.c ---- */

/* One entry of the plane directory. */
typedef struct kvt_plane_entry {
    uint8_t mode;
    kvt_kv_plane plane;
    uint8_t base;
    uint8_t extra; /* rans: levels | classes << 4 */
    uint32_t body_bytes;
} kvt_plane_entry;

/* Memory for one call, enough for its widest and its largest plane. The second half is for encoding only. */
typedef struct kvt_exponent_room {
    uint8_t *memory;
    uint32_t segment_log2;
    kvt_lanes lanes; /* room for 64 entries more than channels */
    uint8_t *index;  /* of the segments coded together */
    uint8_t *words;  /* of those too, with 64 bytes in front of each */
    kvt_rans_model *model;
    kvt_escapes escapes; /* of a quarter of the plane, and one segment more */
    uint8_t *exponent_max, *assigned;
    uint8_t *distances; /* one a channel */
    uint8_t *row;       /* one token's symbols, whole steps */
    uint8_t *counts;    /* [channel][64] */
    uint32_t *sums[2];  /* one a channel */
    uint32_t *negative;
} kvt_exponent_room;

/* What a codec adds. */
typedef struct kvt_exponent_codec {
    uint32_t id; /* also the mode of its planes */
    /* Encode into body[room]; 0: does not fit, or not worth it. Fills entry's base, extra, body_bytes. */
    uint32_t (*encode)(const kvt_exponent_ops *ops, kvt_exponent_room *room, const uint8_t *data, uint8_t *body,
                       uint64_t capacity, kvt_plane_entry *entry);
    /* false: not an encoding of this plane */
    bool (*decode)(const kvt_exponent_ops *ops, kvt_exponent_room *room, const kvt_plane_entry *entry,
                   uint32_t segment_log2, const uint8_t *body, uint8_t *data);
} kvt_exponent_codec;

extern const kvt_exponent_codec kvt_exponent_xpack;
extern const kvt_exponent_codec kvt_exponent_rans;

uint64_t kvt_exponent_bound(uint64_t raw_bytes);
kvt_status kvt_exponent_encode(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, const kvt_codec_hint *hint,
                               const uint8_t *raw, uint64_t raw_bytes, uint8_t *out, uint64_t capacity,
                               uint64_t *out_bytes);
kvt_status kvt_exponent_decode(const kvt_exponent_codec *codec, const kvt_exponent_ops *ops, const uint8_t *encoded,
                               uint64_t encoded_bytes, uint8_t *out, uint64_t raw_bytes);

#endif
