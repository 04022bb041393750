/* SPDX-License-Identifier: Apache-2.0
 *
 * Payloads of xpack and rans, read slowly and in the order of docs/format_codecs.md. Positions are found by arithmetic
 * on the geometry alone, elements one at a time.
 */
#include "tests/codec_cases.h"

#include <criterion/criterion.h>

/* A plane as its directory entry describes it. */
typedef struct book {
    uint32_t mode, kind, base, extra, tokens, channels;
    uint64_t elements, body_bytes;
    const uint8_t *body;
    uint32_t mantissa, width;
    uint32_t steps, segments, steps_each;
    uint8_t *raw;
} book;

static uint64_t up16(uint64_t value) { return (value + 15) / 16 * 16; }

static uint32_t le32(const uint8_t *at) { return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24; }

static void put_element(const book *b, uint64_t i, uint32_t sign, uint32_t exponent, uint32_t mantissa)
{
    uint32_t exponent_bits = b->width * 8 - 1 - b->mantissa;
    uint32_t value = sign << (b->width * 8 - 1) | (exponent & ((1u << exponent_bits) - 1)) << b->mantissa | mantissa;
    if (i >= b->elements)
        return;
    b->raw[i * b->width] = (uint8_t)value;
    if (b->width == 2)
        b->raw[i * 2 + 1] = (uint8_t)(value >> 8);
}

/* Element e of a step of raw bits, fields of 8, 4, 2, 1 bits from the low end. */
static uint32_t raw_bits(const uint8_t *step, uint32_t bits, uint32_t e)
{
    uint32_t value = 0, done = 0;
    while (done < bits) {
        uint32_t width = 8;
        while (width > bits - done)
            width /= 2;
        uint32_t bytes = 8 * width;
        uint32_t part = width == 1 ? step[e / 8] >> e % 8 & 1 : step[e % bytes] >> e / bytes * width;
        value |= (part & ((1u << width) - 1)) << done;
        done += width;
        step += bytes;
    }
    return value;
}

static uint32_t base_of(const book *b, uint32_t nibble) { return nibble == 15 ? 0 : (b->base - nibble) & 0xff; }

static bool read_xpack(const book *b)
{
    uint64_t counts = up16((b->channels + 1) / 2), raw = counts + up16(2ull * b->segments);
    uint32_t bits = b->mantissa + 1;
    uint64_t codes = raw + up16(8ull * bits * b->steps), escape = codes + up16(24ull * b->steps);
    for (uint64_t i = 0; i < 64ull * b->steps; i++) {
        uint64_t step = i / 64, e = i % 64, c = i % b->channels;
        uint32_t code = 0;
        for (uint32_t k = 0; k < 3; k++)
            code |= (b->body[codes + step * 24 + k * 8 + e / 8] >> e % 8 & 1u) << k;
        uint32_t exponent = base_of(b, b->body[c / 2] >> c % 2 * 4 & 15) - code;
        if (code == 7)
            exponent = b->body[escape++];
        uint32_t value = raw_bits(b->body + raw + step * 8 * bits, bits, (uint32_t)e);
        put_element(b, i, value >> b->mantissa, exponent, value & ((1u << b->mantissa) - 1));
    }
    return escape == b->body_bytes;
}

/* Where things are in a body of rans, and how far the lists have been read. */
typedef struct rans_book {
    uint32_t classes, levels, bits;
    bool carried;
    uint64_t tables, directory, states, raw, words, escapes;
    uint32_t freq[4][64];
} rans_book;

static void read_tables(const book *b, rans_book *r)
{
    const uint8_t *at = b->body + r->tables;
    for (uint32_t k = 0; k < r->classes; k++) {
        for (uint32_t sign = 0; sign < 2; sign++)
            for (uint32_t i = 0; i < 2 * r->levels; i++)
                r->freq[k][32 * sign + i] = *at++;
        r->freq[k][30] = *at++;
    }
}

static uint32_t symbol_at(const uint32_t freq[64], uint32_t slot, uint32_t *start)
{
    uint32_t s = 0;
    for (*start = 0; *start + freq[s] <= slot; s++)
        *start += freq[s];
    return s;
}

static void read_segment(const book *b, rans_book *r, uint32_t segment)
{
    uint32_t first = segment * b->steps_each;
    uint32_t steps = segment + 1 == b->segments ? b->steps - first : b->steps_each;
    const uint8_t *directory = b->body + r->directory + 4ull * segment;
    uint32_t word_count = directory[0] | directory[1] << 8, escape_count = directory[2] | directory[3] << 8;
    uint64_t word = r->words, escape = r->escapes, rest = r->escapes + escape_count, nth = 0;
    const uint8_t *stored = b->body + r->states + 128ull * segment;
    uint32_t *symbols = calloc(64ull * steps, sizeof *symbols), x[64];
    for (uint32_t e = 0; e < 64; e++)
        x[e] = stored[e] | stored[64 + e] << 8;
    for (uint64_t i = 0; i < 64ull * steps; i++) {
        uint32_t channel = b->body[(64ull * first + i) % b->channels], start;
        const uint32_t *freq = r->freq[channel >> 5];
        uint32_t *state = &x[i % 64], slot = *state & 255, s = symbol_at(freq, slot, &start);
        symbols[i] = s;
        *state = freq[s] * (*state >> 8) + slot - start;
        if (*state < 256)
            *state = *state << 8 | b->body[word++];
    }
    cr_assert_eq(word, r->words + word_count);
    for (uint64_t i = 0; i < 64ull * steps; i++) {
        uint64_t step = i / 64, e = i % 64;
        uint32_t channel = b->body[(64ull * first + i) % b->channels], s = symbols[i];
        uint32_t low = step + 1 == steps && r->carried ? x[e] - 256 : raw_bits(b->body + r->raw, r->bits, (uint32_t)e);
        uint32_t sign = s >> 5 ^ (channel >> 4 & 1), exponent = base_of(b, channel & 15) - (s >> 1 & 15), top = s & 1;
        if (s == 30) {
            uint32_t extra = b->body[rest + nth / 4] >> nth % 4 * 2;
            exponent = b->body[escape + nth++];
            sign = extra & 1, top = extra >> 1 & 1;
        }
        put_element(b, 64ull * first + i, sign, exponent, low | top << r->bits);
        if (e == 63 && !(step + 1 == steps && r->carried))
            r->raw += 8ull * r->bits;
    }
    cr_assert_eq(nth, escape_count);
    r->words += word_count;
    r->escapes += escape_count + (escape_count + 3) / 4;
    free(symbols);
}

static bool read_rans(const book *b)
{
    rans_book r = {.classes = b->extra >> 4, .levels = b->extra & 15, .bits = b->mantissa - 1};
    r.carried = r.bits <= 8;
    r.tables = up16(b->channels);
    r.directory = r.tables + up16(r.classes * (4 * r.levels + 1));
    r.states = r.directory + up16(4ull * b->segments);
    r.raw = r.states + 128ull * b->segments;
    r.words = r.raw + up16(8ull * r.bits * (b->steps - (r.carried ? b->segments : 0)));
    r.escapes = r.words;
    for (uint32_t k = 0; k < b->segments; k++)
        r.escapes += b->body[r.directory + 4 * k] | b->body[r.directory + 4 * k + 1] << 8;
    read_tables(b, &r);
    for (uint32_t k = 0; k < b->segments; k++)
        read_segment(b, &r, k);
    return r.escapes == b->body_bytes;
}

bool codec_read_by_the_book(const uint8_t *payload, uint64_t bytes, uint8_t *raw, uint64_t raw_bytes)
{
    static const uint32_t mantissas[] = {0, 7, 10, 3, 2}, widths[] = {0, 2, 2, 1, 1};
    uint32_t planes = le32(payload + 4), segment_steps = (1u << payload[2]) / 64;
    uint64_t at = 16 + 16ull * planes, done = 0;
    bool valid = payload[0] == 1 && payload[3] == 0;
    for (uint32_t i = 0; i < planes; i++) {
        const uint8_t *entry = payload + 16 + 16ull * i;
        book b = {.mode = entry[0], .kind = entry[1], .base = entry[2], .extra = entry[3]};
        b.tokens = le32(entry + 4), b.channels = le32(entry + 8), b.body_bytes = le32(entry + 12);
        b.body = payload + at, b.raw = raw + done;
        b.elements = (uint64_t)b.tokens * b.channels, b.mantissa = mantissas[b.kind], b.width = widths[b.kind];
        b.steps = (uint32_t)((b.elements + 63) / 64), b.segments = (b.steps + segment_steps - 1) / segment_steps;
        b.steps_each = b.segments == 0 ? 0 : (b.steps + b.segments - 1) / b.segments;
        if (b.mode == 0)
            memcpy(b.raw, b.body, b.body_bytes);
        else
            valid &= b.mode == payload[1] && (b.mode == 2 ? read_xpack(&b) : read_rans(&b));
        done += b.mode == 0 ? b.body_bytes : b.elements * b.width;
        at = up16(at + b.body_bytes);
    }
    return valid && done == raw_bytes && at == bytes;
}
