/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of rans in plain C; see exponent_body.h. The coder has 64 states of 16 bits, one for each element of a
 * step, and renormalises by bytes: x' = f (x >> 8) + (x & 255) - start, and a byte more while x' < 256.
 */
#ifndef KVT_RANS_BODY_H
#define KVT_RANS_BODY_H

#include "compress/exponent_body.h"

KVT_FOLDED void symbols_of(kvt_element_kind kind, const parts *p, const kvt_lanes *lanes, uint32_t channel,
                           uint8_t index[KVT_STEP])
{
    const uint32_t top = kvt_mantissa_bits(kind) - 1;
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        uint8_t distance = (uint8_t)(lanes->base[channel + i] - p->exponent[i]);
        distance = distance < KVT_RANS_LEVELS_MAX ? distance : KVT_RANS_LEVELS_MAX;
        uint32_t bit = top >= 8 ? p->high[i] >> (top & 7) : p->low[i] >> (top & 7);
        index[i] = (uint8_t)((p->sign[i] << 5 | distance << 1 | (bit & 1)) ^ lanes->tag[channel + i]);
    }
}

KVT_FOLDED void rans_split_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                              uint32_t steps, const kvt_rans_model *model, uint8_t *raw, uint8_t *index,
                              kvt_escapes *escapes)
{
    const uint32_t bits = kvt_rans_raw_bits(kind), top = bits;
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        parts p;
        take_parts(kind, data, &p);
        symbols_of(kind, &p, lanes, channel, index);
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            if (__builtin_expect(model->freq[index[i]] != 0 && (index[i] & 63) != KVT_RANS_ESCAPE, 1))
                continue;
            uint32_t bit = (top >= 8 ? p.high[i] >> (top & 7) : p.low[i] >> (top & 7)) & 1;
            index[i] = (uint8_t)((index[i] & 0xc0) | KVT_RANS_ESCAPE);
            escapes->rest[escapes->count] = (uint8_t)(p.sign[i] | bit << 1);
            escapes->exponent[escapes->count++] = p.exponent[i];
        }
        kvt_bits_pack(p.low, p.high, bits, raw);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        raw += (size_t)8 * bits;
        index += KVT_STEP;
    }
}

KVT_FOLDED void rans_merge_of(kvt_element_kind kind, uint8_t *data, const kvt_lanes *lanes, uint32_t channel,
                              uint32_t steps, const uint8_t *raw, const uint8_t *index, kvt_escapes *escapes)
{
    const uint32_t bits = kvt_rans_raw_bits(kind), top = bits;
    for (uint32_t step = 0; step < steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        parts p;
        kvt_bits_unpack(raw, bits, p.low, p.high);
        uint8_t *into = top >= 8 ? p.high : p.low, escape[KVT_STEP];
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            uint8_t symbol = (uint8_t)(index[i] ^ lanes->tag[channel + i]);
            p.exponent[i] = (uint8_t)(lanes->base[channel + i] - (symbol >> 1 & 15));
            p.sign[i] = symbol >> 5 & 1;
            into[i] = (uint8_t)(into[i] | (symbol & 1) << (top & 7));
            escape[i] = (index[i] & 63) == KVT_RANS_ESCAPE;
        }
        for (uint64_t left = kvt_gather_bits(escape, 0); left != 0; left &= left - 1) {
            uint32_t i = (uint32_t)__builtin_ctzll(left), at = escapes->used;
            p.exponent[i] = next_escape(escapes);
            uint32_t rest = at < escapes->count ? escapes->rest[at] : 0;
            p.sign[i] = (uint8_t)(rest & 1);
            into[i] = (uint8_t)((into[i] & ~(1u << (top & 7))) | (rest >> 1 & 1) << (top & 7));
        }
        give_parts(kind, &p, data);
        data += KVT_STEP * kvt_element_kind_bytes(kind);
        raw += (size_t)8 * bits;
        index += KVT_STEP;
    }
}

static inline void rans_encode_source(const kvt_rans_model *model, kvt_rans_source *source)
{
    uint32_t x[KVT_STEP];
    uint8_t *at = source->end;
    for (uint32_t i = 0; i < KVT_STEP; i++)
        x[i] = source->states[i] | (uint32_t)source->states[KVT_STEP + i] << 8;
    for (uint32_t step = source->steps; step-- > 0;) {
        for (uint32_t i = KVT_STEP; i-- > 0;) {
            uint32_t symbol = source->index[(size_t)step * KVT_STEP + i], freq = model->freq[symbol];
            uint32_t full = x[i] >> 8 >= freq; /* as likely as not: no branch */
            at[-1] = (uint8_t)x[i];
            at -= full;
            x[i] >>= 8 * full;
            uint32_t reciprocal = model->reciprocal[0][symbol] | (uint32_t)model->reciprocal[1][symbol] << 8;
            uint32_t quotient = x[i] * reciprocal >> 16; /* at most one too small */
            uint32_t rest = x[i] - quotient * freq;
            uint32_t more = rest >= freq;
            x[i] = (quotient + more) << 8 | (rest - more * freq + model->start[symbol]);
        }
    }
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        source->states[i] = (uint8_t)x[i];
        source->states[KVT_STEP + i] = (uint8_t)(x[i] >> 8);
    }
    source->used = (uint32_t)(source->end - at);
}

static inline void rans_encode_plain(const kvt_rans_model *model, kvt_rans_source *sources, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rans_encode_source(model, &sources[i]);
}

static inline void rans_decode_run(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *run)
{
    uint32_t x[KVT_STEP], used = 0, channel = run->channel;
    uint8_t *index = run->index;
    for (uint32_t i = 0; i < KVT_STEP; i++)
        x[i] = run->states[i] | (uint32_t)run->states[KVT_STEP + i] << 8;
    for (uint32_t step = 0; step < run->steps; step++, channel = kvt_lanes_next(lanes, channel)) {
        for (uint32_t i = 0; i < KVT_STEP; i++) {
            uint32_t entry = model->entry[lanes->tag[channel + i] >> 6][x[i] & 255];
            *index++ = (uint8_t)entry;
            x[i] = (entry >> 8 & 255) * (x[i] >> 8) + (entry >> 16);
            uint32_t empty = x[i] < 256, next = used < run->word_count ? run->words[used] : 0;
            x[i] = x[i] << 8 * empty | (next & (0 - empty)); /* as likely as not: no branch */
            used += empty;
        }
    }
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        run->states[i] = (uint8_t)x[i];
        run->states[KVT_STEP + i] = (uint8_t)(x[i] >> 8);
    }
    run->used = used;
}

static inline void rans_decode_plain(const kvt_rans_model *model, const kvt_lanes *lanes, kvt_rans_run *runs,
                                     uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rans_decode_run(model, lanes, &runs[i]);
}

KVT_FOLDED void rans_count_of(kvt_element_kind kind, const uint8_t *data, const kvt_lanes *lanes, uint32_t tokens,
                              uint32_t stride, uint8_t *row, uint8_t *counts)
{
    const uint32_t channels = lanes->channels, width = kvt_element_kind_bytes(kind);
    for (uint32_t t = 0; t < tokens; t += stride) {
        const uint8_t *from = data + (size_t)t * channels * width;
        uint8_t last[2 * KVT_STEP] = {0};
        for (uint32_t c = 0; c < channels; c += KVT_STEP) {
            parts p;
            const uint8_t *at = from + (size_t)c * width;
            if (channels - c < KVT_STEP)
                at = memcpy(last, at, (size_t)(channels - c) * width);
            take_parts(kind, at, &p);
            symbols_of(kind, &p, lanes, c, row + c);
        }
        for (uint32_t c = 0; c < channels; c++)
            counts[(size_t)c * KVT_RANS_SYMBOLS + (row[c] & 63)]++;
    }
}

static inline void rans_weigh_plain(const uint8_t *counts, uint32_t channels, const uint8_t weights[KVT_RANS_SYMBOLS],
                                    uint32_t *sums)
{
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS) {
        uint32_t sum = 0;
        for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
            sum += (uint32_t)counts[s] * weights[s];
        sums[c] = sum;
    }
}

static inline void rans_assign_plain(const uint8_t *counts, uint32_t channels,
                                     uint8_t costs[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS], uint8_t *assigned)
{
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS) {
        uint32_t best = UINT32_MAX;
        for (uint32_t j = 0; j < KVT_RANS_CLASSES_MAX; j++) {
            uint32_t cost = 0;
            for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
                cost += (uint32_t)counts[s] * costs[j][s];
            assigned[c] = cost < best ? (uint8_t)j : assigned[c];
            best = cost < best ? cost : best;
        }
    }
}

static inline void rans_sum_plain(const uint8_t *counts, uint32_t channels, const uint8_t *assigned,
                                  uint32_t sums[KVT_RANS_CLASSES_MAX][KVT_RANS_SYMBOLS])
{
    memset(sums, 0, sizeof(uint32_t) * KVT_RANS_CLASSES_MAX * KVT_RANS_SYMBOLS);
    for (uint32_t c = 0; c < channels; c++, counts += KVT_RANS_SYMBOLS)
        for (uint32_t s = 0; s < KVT_RANS_SYMBOLS; s++)
            sums[assigned[c]][s] += counts[s];
}

#endif
