/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench codec --analyse: where the redundancy of KV is. Entropies of sign, exponent and mantissa of each plane
 * of each chunk, alone, given the channel's base, the channel, the token before; bits per element, means over the
 * planes. They are plug-in values, without the cost of any table: bounds of what a codec can reach, not codecs.
 */
#include "tools/bench_codec.h"

#include <math.h>
#include <stdlib.h>

enum { EXPONENTS = 256, DISTANCES = 16, PAIRS = 2 * EXPONENTS, CONTEXTS = 2 * DISTANCES, FINE = 4 * DISTANCES };

/* Figures of the table, in its order. */
typedef enum figure {
    EXPONENT,
    EXPONENT_BY_BASE,
    EXPONENT_BY_CHANNEL,
    EXPONENT_BY_CHANNEL_CORRECTED,
    SIGN,
    SIGN_BY_CHANNEL,
    ONE_SIGN,
    MANTISSA,
    MANTISSA_GIVEN_DISTANCE,
    ZEROS,
    ESCAPES_BASE,
    ESCAPES_SAMPLED,
    ESCAPES_WINDOW,
    EXPONENT_AFTER_EXPONENT,
    DISTANCE_AFTER_DISTANCE,
    SIGN_AFTER_SIGN,
    PAIR,
    PAIR_AFTER_SIGN,
    PAIR_AFTER_PAIR,
    PAIR_BY_CHANNEL,
    FINE_PAIR,
    FINE_PAIR_BY_CHANNEL,
    RATIO_FIXED,
    RATIO_BASE,
    FIGURES
} figure;

static const struct {
    const char *key, *title;
} WORDS[FIGURES] = {
    {"exponent", "H(exponent), one table a plane"},
    {"exponent_by_base", "H(d), d = channel's largest exponent - exponent"},
    {"exponent_by_channel", "H(exponent), a table a channel"},
    {"exponent_by_channel_corrected", "the same, Miller-Madow"},
    {"sign", "H(sign)"},
    {"sign_by_channel", "H(sign), a table a channel"},
    {"one_sign", "share of channels with one sign"},
    {"mantissa", "H(mantissa)"},
    {"mantissa_given_distance", "H(mantissa given d)"},
    {"zeros", "share of zeros"},
    {"escapes_base", "escapes of a 3-bit code, base = largest"},
    {"escapes_sampled", "escapes, base = largest of every 4th token"},
    {"escapes_window", "escapes, best seven exponents of the channel"},
    {"exponent_after_exponent", "H(exponent given the token before)"},
    {"distance_after_distance", "H(d given d before)"},
    {"sign_after_sign", "H(sign given sign before)"},
    {"pair", "H(sign, d)"},
    {"pair_after_sign", "H(sign, d given sign before)"},
    {"pair_after_pair", "H(sign, d given both before)"},
    {"pair_by_channel", "H(sign, d), a table a channel"},
    {"fine_pair", "H(sign against majority, d, top mantissa bit)"},
    {"fine_pair_by_channel", "the same, a table a channel"},
    {"ratio_fixed", "ratio: 3-bit code, base = largest"},
    {"ratio_base", "ratio: H(d) + 0.16 bits"},
};

/* One plane, taken apart; and counts that are larger than a stack should hold. */
typedef struct apart {
    uint32_t tokens, channels, mantissa_bits, exponent_max;
    uint8_t *sign, *exponent, *distance, *base, *sampled, *majority;
    uint16_t *mantissa;
    uint32_t counts[PAIRS * CONTEXTS];
    uint32_t by_distance[DISTANCES << 10];
} apart;

static double entropy(const uint32_t *counts, size_t count, uint64_t total)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        if (counts[i] != 0)
            sum -= counts[i] * log2((double)counts[i] / (double)total);
    return total == 0 ? 0 : sum / (double)total;
}

static kvt_status apart_open(apart **out, uint32_t tokens, uint32_t channels)
{
    size_t elements = (size_t)tokens * channels;
    apart *a = kvt_alloc(sizeof *a);
    *out = a;
    if (a == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to analyse a plane");
    a->tokens = tokens, a->channels = channels;
    a->sign = kvt_alloc(elements), a->exponent = kvt_alloc(elements), a->distance = kvt_alloc(elements);
    a->base = kvt_alloc(channels), a->sampled = kvt_alloc(channels), a->majority = kvt_alloc(channels);
    a->mantissa = kvt_alloc_array(elements, sizeof *a->mantissa);
    if (a->sign == NULL || a->exponent == NULL || a->distance == NULL || a->base == NULL || a->sampled == NULL ||
        a->majority == NULL || a->mantissa == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to analyse a plane of %zu elements", elements);
    return KVT_OK;
}

static void apart_close(apart *a)
{
    if (a == NULL)
        return;
    void *parts[] = {a->sign, a->exponent, a->distance, a->base, a->sampled, a->majority, a->mantissa};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        kvt_free(parts[i]);
    kvt_free(a);
}

static void take_apart(apart *a, const kvt_kv_piece *piece)
{
    static const uint32_t mantissas[] = {0, 7, 10, 3, 2};
    uint32_t width = kvt_element_kind_bytes(piece->kind), bits = mantissas[piece->kind];
    a->mantissa_bits = bits;
    a->exponent_max = (1u << (8 * width - 1 - bits)) - 1;
    for (uint32_t t = 0; t < a->tokens; t++) {
        for (uint32_t c = 0; c < a->channels; c++) {
            size_t i = (size_t)t * a->channels + c;
            uint32_t value = piece->data[i * width] | (width == 2 ? (uint32_t)piece->data[2 * i + 1] << 8 : 0);
            a->sign[i] = (uint8_t)(value >> (8 * width - 1));
            a->exponent[i] = (uint8_t)(value >> bits & a->exponent_max);
            a->mantissa[i] = (uint16_t)(value & ((1u << bits) - 1));
        }
    }
    for (uint32_t c = 0; c < a->channels; c++) {
        uint32_t negative = 0;
        for (uint32_t t = 0; t < a->tokens; t++) {
            uint8_t exponent = a->exponent[(size_t)t * a->channels + c];
            a->base[c] = exponent > a->base[c] ? exponent : a->base[c];
            if (t % 4 == 0)
                a->sampled[c] = exponent > a->sampled[c] ? exponent : a->sampled[c];
            negative += a->sign[(size_t)t * a->channels + c];
        }
        a->majority[c] = 2 * negative > a->tokens;
        for (uint32_t t = 0; t < a->tokens; t++) {
            size_t i = (size_t)t * a->channels + c;
            a->distance[i] = (uint8_t)(a->base[c] - a->exponent[i]);
        }
    }
}

static uint32_t clip(uint32_t distance) { return distance < DISTANCES ? distance : DISTANCES - 1; }

/* ---- tables of the whole plane ---- */

typedef uint32_t symbol_of(const apart *a, size_t i, uint32_t c);

static uint32_t as_exponent(const apart *a, size_t i, uint32_t c) { return (void)c, a->exponent[i]; }
static uint32_t as_distance(const apart *a, size_t i, uint32_t c) { return (void)c, a->distance[i]; }
static uint32_t as_sign(const apart *a, size_t i, uint32_t c) { return (void)c, a->sign[i]; }
static uint32_t as_pair(const apart *a, size_t i, uint32_t c)
{
    return (void)c, (uint32_t)a->sign[i] << 8 | a->distance[i];
}
static uint32_t as_fine(const apart *a, size_t i, uint32_t c)
{
    uint32_t top = a->mantissa[i] >> (a->mantissa_bits - 1);
    return (uint32_t)(a->sign[i] ^ a->majority[c]) << 5 | clip(a->distance[i]) << 1 | top;
}
static uint32_t as_mantissa(const apart *a, size_t i, uint32_t c) { return (void)c, a->mantissa[i]; }

static double pooled(apart *a, symbol_of *symbol)
{
    size_t elements = (size_t)a->tokens * a->channels;
    memset(a->counts, 0, sizeof a->counts);
    for (size_t i = 0; i < elements; i++)
        a->counts[symbol(a, i, (uint32_t)(i % a->channels))]++;
    return entropy(a->counts, 1024, elements);
}

/* Mean over the channels of the entropy of each; *symbols: mean number of symbols. */
static double by_channel(apart *a, symbol_of *symbol, double *symbols)
{
    double sum = 0, seen = 0;
    for (uint32_t c = 0; c < a->channels; c++) {
        uint32_t counts[PAIRS] = {0};
        for (uint32_t t = 0; t < a->tokens; t++)
            counts[symbol(a, (size_t)t * a->channels + c, c)]++;
        sum += entropy(counts, PAIRS, a->tokens);
        for (size_t s = 0; s < PAIRS; s++)
            seen += counts[s] != 0;
    }
    if (symbols != NULL)
        *symbols = seen / a->channels;
    return sum / a->channels;
}

/* ---- contexts: the same channel, the token before ---- */

typedef uint32_t context_of(const apart *a, size_t before);

static uint32_t exponent_before(const apart *a, size_t before)
{
    /* 32 exponents below the largest, which holds all but outliers */
    uint32_t below = a->exponent_max < CONTEXTS ? a->exponent[before] : 0;
    if (a->exponent_max >= CONTEXTS)
        below = a->exponent[before] < 108 ? 0 : a->exponent[before] - 108u;
    return below < CONTEXTS ? below : CONTEXTS - 1;
}
static uint32_t distance_before(const apart *a, size_t before) { return clip(a->distance[before]); }
static uint32_t sign_before(const apart *a, size_t before) { return a->sign[before]; }
static uint32_t pair_before(const apart *a, size_t before)
{
    return (uint32_t)a->sign[before] * DISTANCES + clip(a->distance[before]);
}

static double given(apart *a, symbol_of *symbol, context_of *context)
{
    memset(a->counts, 0, sizeof a->counts);
    for (uint32_t t = 1; t < a->tokens; t++)
        for (uint32_t c = 0; c < a->channels; c++) {
            size_t i = (size_t)t * a->channels + c;
            a->counts[context(a, i - a->channels) * PAIRS + symbol(a, i, c)]++;
        }
    double sum = 0;
    uint64_t all = 0;
    for (uint32_t k = 0; k < CONTEXTS; k++) {
        uint64_t total = 0;
        for (uint32_t s = 0; s < PAIRS; s++)
            total += a->counts[k * PAIRS + s];
        sum += (double)total * entropy(a->counts + (size_t)k * PAIRS, PAIRS, total);
        all += total;
    }
    return all == 0 ? 0 : sum / (double)all;
}

static double mantissa_given_distance(apart *a)
{
    size_t elements = (size_t)a->tokens * a->channels;
    memset(a->by_distance, 0, sizeof a->by_distance);
    for (size_t i = 0; i < elements; i++)
        a->by_distance[clip(a->distance[i]) << 10 | a->mantissa[i]]++;
    double sum = 0;
    for (uint32_t d = 0; d < DISTANCES; d++) {
        uint64_t total = 0;
        for (uint32_t m = 0; m < 1024; m++)
            total += a->by_distance[d << 10 | m];
        sum += (double)total * entropy(a->by_distance + ((size_t)d << 10), 1024, total);
    }
    return sum / (double)elements;
}

/* ---- shares ---- */

static double share(const apart *a, const uint8_t *base)
{
    size_t elements = (size_t)a->tokens * a->channels, escapes = 0;
    for (size_t i = 0; i < elements; i++)
        escapes += (uint8_t)(base[i % a->channels] - a->exponent[i]) >= 7;
    return (double)escapes / (double)elements;
}

static double share_window(const apart *a)
{
    size_t held = 0;
    for (uint32_t c = 0; c < a->channels; c++) {
        uint32_t counts[EXPONENTS + 7] = {0}, most = 0;
        for (uint32_t t = 0; t < a->tokens; t++)
            counts[a->exponent[(size_t)t * a->channels + c]]++;
        for (uint32_t e = 0; e < EXPONENTS; e++) {
            uint32_t sum = 0;
            for (uint32_t k = 0; k < 7; k++)
                sum += counts[e + k];
            most = sum > most ? sum : most;
        }
        held += most;
    }
    return 1 - (double)held / ((double)a->tokens * a->channels);
}

static double share_one_sign(const apart *a)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < a->channels; c++) {
        uint32_t negative = 0;
        for (uint32_t t = 0; t < a->tokens; t++)
            negative += a->sign[(size_t)t * a->channels + c];
        count += negative == 0 || negative == a->tokens;
    }
    return (double)count / a->channels;
}

static double share_zeros(const apart *a)
{
    size_t elements = (size_t)a->tokens * a->channels, zeros = 0;
    for (size_t i = 0; i < elements; i++)
        zeros += a->exponent[i] == 0 && a->mantissa[i] == 0;
    return (double)zeros / (double)elements;
}

static void measure(apart *a, double out[FIGURES])
{
    double symbols, tokens = a->tokens, bits = a->mantissa_bits + 1;
    double exponent_bits = log2(a->exponent_max + 1.0);
    out[EXPONENT] = pooled(a, as_exponent);
    out[EXPONENT_BY_BASE] = pooled(a, as_distance);
    out[EXPONENT_BY_CHANNEL] = by_channel(a, as_exponent, &symbols);
    out[EXPONENT_BY_CHANNEL_CORRECTED] = out[EXPONENT_BY_CHANNEL] + (symbols - 1) / (2 * tokens * log(2));
    out[SIGN] = pooled(a, as_sign);
    out[SIGN_BY_CHANNEL] = by_channel(a, as_sign, NULL);
    out[ONE_SIGN] = share_one_sign(a);
    out[MANTISSA] = pooled(a, as_mantissa);
    out[MANTISSA_GIVEN_DISTANCE] = mantissa_given_distance(a);
    out[ZEROS] = share_zeros(a);
    out[ESCAPES_BASE] = share(a, a->base);
    out[ESCAPES_SAMPLED] = share(a, a->sampled);
    out[ESCAPES_WINDOW] = share_window(a);
    out[EXPONENT_AFTER_EXPONENT] = given(a, as_exponent, exponent_before);
    out[DISTANCE_AFTER_DISTANCE] = given(a, as_distance, distance_before);
    out[SIGN_AFTER_SIGN] = given(a, as_sign, sign_before);
    out[PAIR] = pooled(a, as_pair);
    out[PAIR_AFTER_SIGN] = given(a, as_pair, sign_before);
    out[PAIR_AFTER_PAIR] = given(a, as_pair, pair_before);
    out[PAIR_BY_CHANNEL] = by_channel(a, as_pair, NULL);
    out[FINE_PAIR] = pooled(a, as_fine);
    out[FINE_PAIR_BY_CHANNEL] = by_channel(a, as_fine, NULL);
    out[RATIO_FIXED] = bits + 3 + exponent_bits * out[ESCAPES_BASE] + 8 / tokens; /* bits; a ratio at the end */
    out[RATIO_BASE] = bits + out[EXPONENT_BY_BASE] + 0.16;
}

/* Means over the planes of each side; sums of bits for the ratios. */
static kvt_status add_side(const kvt_kv_pieces *pieces, kvt_plane_side side, double sums[FIGURES], uint32_t *planes,
                           uint32_t *element_bits)
{
    for (size_t i = 0; i < pieces->count && !cli_interrupted(); i++) {
        const kvt_kv_piece *piece = &pieces->items[i];
        if (piece->side != side)
            continue;
        apart *a = NULL;
        double figures[FIGURES];
        kvt_status status = apart_open(&a, piece->tokens, piece->channels);
        if (status == KVT_OK) {
            take_apart(a, piece);
            measure(a, figures);
            for (int f = 0; f < FIGURES; f++)
                sums[f] += figures[f];
            ++*planes;
            *element_bits = 8 * kvt_element_kind_bytes(piece->kind);
        }
        apart_close(a);
        KVT_TRY(status);
    }
    return KVT_OK;
}

static const cli_column COLUMNS[] = {{"figure", "figure", CLI_UNIT_NONE, true},
                                     {"text", "bits an element, or share", CLI_UNIT_NONE, false},
                                     {"k", "K", CLI_UNIT_RATIO, false},
                                     {"v", "V", CLI_UNIT_RATIO, false},
                                     {"other", "other", CLI_UNIT_RATIO, true}};

static double figure_of(figure f, double sum, uint32_t planes, uint32_t element_bits)
{
    double mean = sum / planes;
    return f >= RATIO_FIXED ? element_bits / mean : mean;
}

int kvt_bench_codec_analyse(cli_report *report, const char *path, const kvt_kv_pieces *pieces)
{
    double sums[KVT_PLANE_SIDES][FIGURES] = {{0}};
    uint32_t planes[KVT_PLANE_SIDES] = {0}, element_bits = 16;
    for (int side = 0; side < KVT_PLANE_SIDES; side++) {
        kvt_status status = add_side(pieces, (kvt_plane_side)side, sums[side], &planes[side], &element_bits);
        if (status != KVT_OK)
            return cli_fail_status(status, path);
    }
    cli_report_rows(report, path, path, COLUMNS, sizeof COLUMNS / sizeof *COLUMNS);
    for (int f = 0; f < FIGURES; f++) {
        cli_row_text(report, WORDS[f].key);
        cli_row_text(report, WORDS[f].title);
        for (int side = 0; side < KVT_PLANE_SIDES; side++) {
            if (planes[side] == 0)
                cli_row_none(report);
            else
                cli_row_real(report, figure_of((figure)f, sums[side][f], planes[side], element_bits));
        }
    }
    cli_report_rows_end(report);
    return CLI_OK;
}
