/* SPDX-License-Identifier: Apache-2.0
 *
 * Channels are put into classes by rounds of k-means: a table for each class, then each channel to the table
 * under which its own symbols are shortest. The first guess comes from what tells channels apart: how often they change
 * sign, and how far below their largest exponent they usually are.
 */
#include "compress/rans_model.h"

enum { ROUNDS = 1, COST_MAX = 127 };

/* ---- frequencies ---- */

static uint32_t sum_of(const uint8_t freq[KVT_RANS_SYMBOLS])
{
    uint32_t sum = 0;
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
        sum += freq[s];
    return sum;
}

/* Symbols with a frequency. */
typedef struct coded {
    uint8_t symbol[KVT_RANS_SYMBOLS];
    uint32_t count;
} coded;

/* One more where it gains most, or one less where it costs least: the gain of a step is about count / (freq + 1/2).
 * Some symbol can always give one, since a sum above 256 has one above 1; or take one, since one below 256 has none at
 * 255. */
static void raise_one(const uint32_t kept[KVT_RANS_SYMBOLS], const coded *list, uint8_t freq[KVT_RANS_SYMBOLS])
{
    uint32_t best = list->symbol[0];
    for (uint32_t i = 1; i < list->count; i++) {
        uint32_t s = list->symbol[i];
        if (kept[s] * (2u * freq[best] + 1) > kept[best] * (2u * freq[s] + 1))
            best = s;
    }
    freq[best]++;
}

static void lower_one(const uint32_t kept[KVT_RANS_SYMBOLS], const coded *list, uint8_t freq[KVT_RANS_SYMBOLS])
{
    uint32_t best = KVT_RANS_SYMBOLS;
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t s = list->symbol[i];
        if (freq[s] > 1 &&
            (best == KVT_RANS_SYMBOLS || kept[s] * (2u * freq[best] - 1) < kept[best] * (2u * freq[s] - 1)))
            best = s;
    }
    freq[best]--;
}

void kvt_rans_normalise(const uint32_t counts[KVT_RANS_SYMBOLS], uint8_t freq[KVT_RANS_SYMBOLS])
{
    uint32_t kept[KVT_RANS_SYMBOLS] = {0};
    uint32_t total = 0; /* at most 2^22: all products fit */
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
        total += counts[s];
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
        bool rare = (s >> 1 & 15) == 15 || counts[s] * 4 * KVT_RANS_TOTAL < total;
        kept[rare ? KVT_RANS_ESCAPE : s] += counts[s];
    }
    /* Escapes alone would need a frequency of 256, which no table can say: there is always another symbol. */
    if (kept[KVT_RANS_ESCAPE] == total) {
        kept[0] = 1;
        total++;
    }
    coded list = {.count = 0};
    uint32_t sum = 0;
    memset(freq, 0, KVT_RANS_SYMBOLS);
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
        if (kept[s] == 0 && s != KVT_RANS_ESCAPE)
            continue;
        uint32_t share = (kept[s] * KVT_RANS_TOTAL + total / 2) / total;
        freq[s] = (uint8_t)kvt_min_u64(kvt_max_u64(share, 1), KVT_RANS_TOTAL - 1);
        list.symbol[list.count++] = (uint8_t)s;
        sum += freq[s];
    }
    for (; sum < KVT_RANS_TOTAL; sum++)
        raise_one(kept, &list, freq);
    for (; sum > KVT_RANS_TOTAL; sum--)
        lower_one(kept, &list, freq);
}

/* ---- classes ---- */

/* 8 log2 x of the nine topmost bits of x, rounded down; x >= 1. */
static uint32_t eighths(uint32_t x)
{
    static const uint8_t parts[256] = {
        /* 8 log2 (1 + i / 256) */
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5,
        5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
        6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    };
    uint32_t zeros = (uint32_t)__builtin_clz(x);
    return 8 * (31 - zeros) + parts[(x << zeros) >> 23 & 255];
}

static void costs_of(const uint32_t counts[KVT_RANS_SYMBOLS], uint8_t costs[KVT_RANS_SYMBOLS])
{
    uint32_t total = 0;
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
        total += counts[s];
    uint32_t whole = eighths(total | 1);
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
        uint32_t cost = whole - eighths(counts[s] | 1);
        costs[s] = (uint8_t)(counts[s] == 0 || cost > COST_MAX ? COST_MAX : cost);
    }
}

/* Lasting sign, wavering sign, and the rest by whether its distances are small or large. */
static void first_guess(const kvt_exponent_ops *ops, kvt_exponent_room *room, uint32_t tokens, uint32_t classes)
{
    const uint32_t channels = room->lanes.channels, *others = room->sums[0], *distances = room->sums[1];
    uint8_t other_sign[KVT_RANS_SYMBOLS], distance[KVT_RANS_SYMBOLS];
    for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
        other_sign[s] = s >= KVT_RANS_SYMBOLS / 2;
        distance[s] = s >> 1 & 15;
    }
    ops->rans_weigh(room->counts, channels, other_sign, room->sums[0]);
    ops->rans_weigh(room->counts, channels, distance, room->sums[1]);
    uint32_t sum = 0, count = 0; /* at most 15 x 64 for each channel */
    for (uint32_t c = 0; c < channels; c++) {
        bool centred = 3 * others[c] >= tokens;
        sum += centred ? distances[c] : 0;
        count += centred;
    }
    const uint32_t mean = count == 0 ? 0 : sum / count;
    for (uint32_t c = 0; c < channels; c++) {
        uint32_t guess = distances[c] < mean ? 2 : 3;
        if (3 * others[c] < tokens)
            guess = 10 * others[c] < tokens ? 0 : 1;
        room->assigned[c] = (uint8_t)(guess * classes / KVT_RANS_CLASSES_MAX);
    }
}

void kvt_rans_choose(const kvt_exponent_ops *ops, kvt_exponent_room *room, uint32_t tokens, uint32_t classes)
{
    uint32_t sums[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS];
    uint8_t costs[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS];
    first_guess(ops, room, tokens, classes);
    for (uint32_t round = 0; round < ROUNDS && classes > 1; round++) {
        ops->rans_sum(room->counts, room->lanes.channels, room->assigned, sums);
        memset(costs, COST_MAX, sizeof costs);
        for (uint32_t j = 0; j < classes; j++)
            costs_of(sums[j], costs[j]);
        ops->rans_assign(room->counts, room->lanes.channels, costs, room->assigned);
    }
    ops->rans_sum(room->counts, room->lanes.channels, room->assigned, sums);
    memset(room->model->freq, 0, sizeof room->model->freq);
    for (uint32_t j = 0; j < classes; j++)
        kvt_rans_normalise(sums[j], room->model->freq + (size_t)j * KVT_RANS_SYMBOLS);
    for (uint32_t c = 0; c < room->lanes.channels; c++)
        room->lanes.tag[c] = (uint8_t)(room->lanes.tag[c] | room->assigned[c] << 6);
}

/* ---- tables ---- */

void kvt_rans_model_encoding(kvt_rans_model *model, uint32_t classes)
{
    for (uint32_t j = 0; j < classes; j++) {
        uint32_t start = 0;
        for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
            uint32_t index = j * KVT_RANS_SYMBOLS + s, freq = model->freq[index];
            uint32_t reciprocal = freq <= 1 ? UINT16_MAX : 65536 / freq;
            model->start[index] = (uint8_t)start;
            model->reciprocal[0][index] = (uint8_t)reciprocal;
            model->reciprocal[1][index] = (uint8_t)(reciprocal >> 8);
            start += freq;
        }
    }
}

void kvt_rans_model_decoding(kvt_rans_model *model, uint32_t classes)
{
    memset(model->slot, 0, sizeof model->slot);
    memset(model->entry, 0, sizeof model->entry);
    for (uint32_t j = 0; j < classes; j++) {
        uint32_t slot = 0;
        for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++) {
            uint32_t index = j * KVT_RANS_SYMBOLS + s, freq = model->freq[index];
            model->start[index] = (uint8_t)slot;
            for (uint32_t rank = 0; rank < freq; rank++, slot++) {
                model->slot[j][slot] = (uint8_t)index;
                model->entry[j][slot] = index | freq << 8 | rank << 16;
            }
        }
    }
}

uint32_t kvt_rans_levels(const kvt_rans_model *model, uint32_t classes)
{
    uint32_t levels = 1;
    for (uint32_t i = 0; i < classes * KVT_RANS_SYMBOLS; i++) {
        uint32_t level = (i >> 1 & 15) + 1;
        if (model->freq[i] != 0 && level <= KVT_RANS_LEVELS_MAX && level > levels)
            levels = level;
    }
    return levels;
}

void kvt_rans_tables_write(const kvt_rans_model *model, uint32_t classes, uint32_t levels, uint8_t *to)
{
    for (uint32_t j = 0; j < classes; j++) {
        const uint8_t *freq = model->freq + (size_t)j * KVT_RANS_SYMBOLS;
        memcpy(to, freq, (size_t)2 * levels);
        memcpy(to + (size_t)2 * levels, freq + 32, (size_t)2 * levels);
        to[4 * levels] = freq[KVT_RANS_ESCAPE];
        to += 4 * levels + 1;
    }
}

bool kvt_rans_tables_read(const uint8_t *from, uint32_t classes, uint32_t levels, kvt_rans_model *model)
{
    memset(model->freq, 0, sizeof model->freq);
    for (uint32_t j = 0; j < classes; j++) {
        uint8_t *freq = model->freq + (size_t)j * KVT_RANS_SYMBOLS;
        memcpy(freq, from, (size_t)2 * levels);
        memcpy(freq + 32, from + (size_t)2 * levels, (size_t)2 * levels);
        freq[KVT_RANS_ESCAPE] = from[4 * levels];
        from += 4 * levels + 1;
        if (sum_of(freq) != KVT_RANS_TOTAL)
            return false;
    }
    return true;
}
