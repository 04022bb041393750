/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loops of xpack and rans as a table that every instruction set fills, and what they work on. Everything
 * happens in steps of 64 consecutive elements of a plane. Private to compress.
 */
#ifndef KVT_EXPONENT_OPS_H
#define KVT_EXPONENT_OPS_H

#include "compress/kv_shape.h"

enum {
    KVT_STEP = 64,
    KVT_EXPONENT_VERSION = 1,
    KVT_EXPONENT_HEADER_BYTES = 16,
    KVT_EXPONENT_ENTRY_BYTES = 16, /* of the plane directory */
    KVT_EXPONENT_ALIGN = 16,       /* of bodies and of the sections in them */
    KVT_SEGMENT_LOG2_MIN = 10,
    KVT_SEGMENT_LOG2_MAX = 15, /* a segment's counts fit 16 bits */
    KVT_SEGMENT_LOG2 = 14,     /* what the encoder takes unless told */
    KVT_SEGMENT_STEPS_MAX = (1 << KVT_SEGMENT_LOG2_MAX) / KVT_STEP,
    KVT_MODE_RAW = 0,
    KVT_XPACK_ESCAPE = 7,
    KVT_BASE_SPREAD = 14, /* how far a channel's base may lie below its plane's */
    KVT_BASE_ZERO = 15,   /* in place of that: the base is 0 */
    KVT_RANS_CLASSES_MAX = 4,
    KVT_RANS_SYMBOLS = 64,
    KVT_RANS_ESCAPE = 0x1e,
    KVT_RANS_LEVELS_MAX = 15, /* distances that have symbols */
    KVT_RANS_TOTAL = 256,     /* sum of a table's frequencies */
    KVT_RANS_STATE_BYTES = 2 * KVT_STEP,
    KVT_RANS_TOGETHER = 3, /* segments that are coded side by side */
};

/* ---- an element: sign, exponent, mantissa ---- */

static inline uint32_t kvt_mantissa_bits(kvt_element_kind kind)
{
    return kind == KVT_ELEMENT_BF16 ? 7 : kind == KVT_ELEMENT_FP16 ? 10 : kind == KVT_ELEMENT_E4M3 ? 3 : 2;
}
static inline uint32_t kvt_exponent_max(kvt_element_kind kind)
{
    return kind == KVT_ELEMENT_BF16 ? 255 : kind == KVT_ELEMENT_E4M3 ? 15 : 31;
}
/* Bits of an element that are stored as they are: xpack keeps sign and mantissa, rans the mantissa but its top bit. */
static inline uint32_t kvt_xpack_raw_bits(kvt_element_kind kind) { return kvt_mantissa_bits(kind) + 1; }
static inline uint32_t kvt_rans_raw_bits(kvt_element_kind kind) { return kvt_mantissa_bits(kind) - 1; }
/* Where they fit a byte, those of a segment's last step travel in the coder's states. */
static inline bool kvt_rans_carries(kvt_element_kind kind) { return kvt_rans_raw_bits(kind) <= 8; }

/* ---- a plane's channels, periodic: entry i stands for channel i mod channels, for i below channels + 64 ---- */
typedef struct kvt_lanes {
    uint32_t channels;
    uint8_t *base; /* largest exponent that has a code */
    uint8_t *tag;  /* rans: class << 6 | (1 if most values are negative) << 5 */
} kvt_lanes;

static inline uint32_t kvt_lanes_next(const kvt_lanes *lanes, uint32_t channel)
{
    channel += KVT_STEP;
    if (channel < lanes->channels)
        return channel;
    return lanes->channels >= KVT_STEP ? channel - lanes->channels : channel % lanes->channels;
}

/* ---- the coder's tables of one plane; a symbol's index is class << 6 | symbol ---- */
typedef struct kvt_rans_model {
    _Alignas(64) uint8_t freq[256];
    _Alignas(64) uint8_t start[256];
    _Alignas(64) uint8_t slot[KVT_RANS_CLASSES_MAX][256]; /* to index */
    _Alignas(64) uint8_t reciprocal[2][256];   /* 65536 / freq, rounded down, at most 65535: low bytes, high bytes */
    uint32_t entry[KVT_RANS_CLASSES_MAX][256]; /* slot to index | freq << 8 | (slot - start) << 16 */
} kvt_rans_model;

/* A segment on its way through the decoder. States: 64 low bytes, then 64 high
 * bytes; before and after. */
typedef struct kvt_rans_run {
    uint8_t *index; /* symbols, steps x 64 */
    const uint8_t *words;
    uint32_t word_count;
    uint32_t used; /* words asked for */
    uint32_t steps;
    uint32_t channel; /* of the first element */
    uint8_t states[KVT_RANS_STATE_BYTES];
} kvt_rans_run;

/* A segment on its way through the encoder. */
typedef struct kvt_rans_source {
    const uint8_t *index;
    uint8_t *end;  /* words are written backwards from here */
    uint32_t used; /* words written */
    uint32_t steps;
    uint8_t states[KVT_RANS_STATE_BYTES]; /* before and after */
} kvt_rans_source;

/* A list that is read or written element by element. Reads past the end give 0,
 * and are counted. */
typedef struct kvt_escapes {
    uint8_t *exponent;
    uint8_t *rest; /* rans: sign | top mantissa bit << 1 */
    uint32_t count;
    uint32_t used;
} kvt_escapes;

/*
 * Inner loops for one instruction set; all give the same bytes. `channel` is
 * that of the first element. Buffers are exact: nothing is read or written
 * beyond steps x 64 elements, their raw bits and codes, and `count` escapes;
 * lists of escapes
 * that are written have room for 64 more, words for 64 in front.
 */
typedef struct kvt_exponent_ops {
    const char *name;
    /* Of each channel over tokens 0, stride, 2 stride, ...: the largest
     * exponent, all-ones ones of kinds with infinities left out, and how many
     * elements are negative. Starts from what is in the arrays. */
    void (*column_stats)(kvt_element_kind kind, const uint8_t *data, uint32_t tokens, uint32_t channels,
                         uint32_t stride, uint8_t *exponent_max, uint32_t *negative);
    void (*xpack_split)(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                        uint32_t steps, uint8_t *raw, uint8_t *codes, kvt_escapes *escapes);
    void (*xpack_merge)(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel, uint32_t steps,
                        const uint8_t *raw, const uint8_t *codes, kvt_escapes *escapes);
    void (*rans_split)(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                       uint32_t steps, const kvt_rans_model *model, uint8_t *raw, uint8_t *index, kvt_escapes *escapes);
    void (*rans_merge)(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel, uint32_t steps,
                       const uint8_t *raw, const uint8_t *index, kvt_escapes *escapes);
    /* Up to KVT_RANS_TOGETHER segments: what each waits for overlaps. */
    void (*rans_encode)(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count);
    void (*rans_decode)(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *runs, uint32_t count);
    /* Symbols of the tokens 0, stride, ...: counts[channel][symbol]; at most 128
     * tokens are taken. */
    void (*rans_count)(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t tokens,
                       uint32_t stride, uint8_t *row, uint8_t *counts);
    /* sums[channel] = sum of counts[channel][symbol] x weights[symbol]; weights
     * 0..127. */
    void (*rans_weigh)(const uint8_t *counts, uint32_t channels, const uint8_t weights[KVT_RANS_SYMBOLS],
                       uint32_t *sums);
    /* The cheapest class of each channel under costs of 0..127; ties go to the
     * lowest. */
    void (*rans_assign)(const uint8_t *counts, uint32_t channels, uint8_t costs[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS],
                        uint8_t *assigned);
    /* sums[class][symbol] over the channels of a class. */
    void (*rans_sum)(const uint8_t *counts, uint32_t channels, const uint8_t *assigned,
                     uint32_t sums[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS]);
} kvt_exponent_ops;

extern const kvt_exponent_ops kvt_exponent_portable;
extern const kvt_exponent_ops kvt_exponent_avx2;                 /* x86-64 only */
extern const kvt_exponent_ops kvt_exponent_avx512;               /* x86-64 only */
const kvt_exponent_ops *kvt_exponent_ops_for(uint32_t features); /* one file per architecture */
const kvt_exponent_ops *kvt_exponent_ops_here(void);             /* of this CPU, picked at the first call */

#endif
