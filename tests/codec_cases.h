/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases that both exponent codecs must pass, with every instruction set this machine has; and a second reader of their
 * payloads, written from docs/format_codecs.md and sharing no code with compress/.
 */
#ifndef KVT_TEST_CODEC_CASES_H
#define KVT_TEST_CODEC_CASES_H

#include "compress/exponent.h"

/* How made-up elements look. KV: channels with a scale of their own, some with a lasting sign, outliers, zeros. */
typedef enum codec_pattern {
    CODEC_KV,
    CODEC_NOISE,
    CODEC_ZEROS,
    CODEC_EXTREMES, /* zeros, infinities, NaNs, the smallest and the largest numbers */
    CODEC_PATTERN_COUNT
} codec_pattern;

/* A blob of planes of one shape. Buffers are heap blocks of exactly the size that may be touched. */
typedef struct codec_blob {
    kvt_codec_view view;
    kvt_codec_group group;
    kvt_codec_hint hint;
    uint8_t *raw;
    uint64_t raw_bytes;
} codec_blob;

codec_blob *codec_blob_make(kvt_element_kind kind, uint32_t planes, uint32_t tokens, uint32_t channels,
                            codec_pattern pattern, uint64_t seed);
void codec_blob_free(codec_blob *blob);

/* Instruction sets of this machine, the portable one first; NULL behind the last. */
const kvt_exponent_ops *codec_ops_at(uint32_t i);

/* Encode with every instruction set, compare; decode with every one and by the book, compare. The payload is the
 * caller's (free). */
uint8_t *codec_check_blob(const kvt_exponent_codec *codec, const codec_blob *blob, uint64_t *out_bytes);

/* A decode of anything: all instruction sets give the same status, and the same bytes when that is OK. */
kvt_status codec_check_hostile(const kvt_exponent_codec *codec, const uint8_t *payload, uint64_t bytes,
                               uint64_t raw_bytes, const uint8_t *expected, bool *out_same);

/* The second reader: false when it finds a rule broken. */
bool codec_read_by_the_book(const uint8_t *payload, uint64_t bytes, uint8_t *raw, uint64_t raw_bytes);

/* ---- the cases ---- */
void codec_case_all_patterns(const kvt_exponent_codec *codec);
void codec_case_geometries(const kvt_exponent_codec *codec, const char *seed_name);
void codec_case_bound_and_fallback(const kvt_exponent_codec *codec);
void codec_case_capacities(const kvt_exponent_codec *codec);
void codec_case_truncations(const kvt_exponent_codec *codec);
void codec_case_bit_flips(const kvt_exponent_codec *codec);
void codec_case_garbage(const kvt_exponent_codec *codec, const char *seed_name);
void codec_case_moved_counts(const kvt_exponent_codec *codec);
void codec_case_memory(const kvt_exponent_codec *codec);
void codec_case_golden(const kvt_exponent_codec *codec, const char *name);

#endif
