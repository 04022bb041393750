/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain: xpack and rans under arbitrary input, as a target of libFuzzer (KVT_FUZZ) or, without it, as a program that
 * makes its inputs itself: noise, and golden payloads with damage.
 *
 *   fuzz_codec [RUNS [SEED]]    without libFuzzer; RUNS inputs, 5000 unless said
 *
 * Byte 0 of an input says what is done. Bit 0: rans or xpack. Bit 1: the rest is a blob whose shape the next bytes
 * choose; it must come back. Else the rest is a payload: every instruction set must give the same status, and the
 * same bytes if that is KVT_OK, for a blob of the size that the payload's directory claims (bit 2), or one near it.
 */
#include "compress/exponent.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { RAW_BYTES_MAX = 1 << 17, SHAPE_BYTES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_codec: %s\n", what);
    abort();
}

/* A block of exactly this size, so that the address sanitizer sees one byte too many. */
static uint8_t *exact(size_t bytes)
{
    uint8_t *memory = malloc(bytes);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static const kvt_exponent_ops *variant(uint32_t i)
{
    static const uint32_t features[] = {0, KVT_CPU_AVX2, KVT_CPU_AVX512_BYTES};
    return i < 3 ? kvt_exponent_ops_for(kvt_cpu_features() & features[i]) : NULL;
}

static uint64_t claimed_bytes(const uint8_t *payload, size_t bytes)
{
    uint64_t planes = bytes < 16 ? 0 : kvt_load_le32(payload + 4), sum = 0;
    for (uint64_t i = 0; i < planes && 32 + 16 * i <= bytes; i++) {
        const uint8_t *entry = payload + 16 + 16 * i;
        uint32_t width = kvt_element_kind_bytes((kvt_element_kind)(entry[1] & 7));
        uint64_t elements = (uint64_t)kvt_load_le32(entry + 4) * kvt_load_le32(entry + 8);
        sum +=
            entry[0] == 0 ? kvt_load_le32(entry + 12) : (elements < RAW_BYTES_MAX ? elements * width : RAW_BYTES_MAX);
        if (sum > RAW_BYTES_MAX)
            return RAW_BYTES_MAX;
    }
    return sum;
}

static void try_decode(const kvt_exponent_codec *codec, const uint8_t *data, size_t bytes, uint64_t raw_bytes)
{
    uint8_t *payload = exact(bytes), *first = exact(raw_bytes), *other = exact(raw_bytes);
    memcpy(payload, data, bytes);
    memset(first, 0xa5, raw_bytes);
    kvt_status expected = kvt_exponent_decode(codec, variant(0), payload, bytes, first, raw_bytes);
    for (uint32_t i = 1; variant(i) != NULL; i++) {
        memset(other, 0xa5, raw_bytes);
        kvt_status status = kvt_exponent_decode(codec, variant(i), payload, bytes, other, raw_bytes);
        if (status != expected)
            fail("the instruction sets judge a payload differently");
        if (status == KVT_OK && memcmp(first, other, raw_bytes) != 0)
            fail("the instruction sets decode a payload differently");
    }
    free(payload);
    free(first);
    free(other);
}

static void try_round_trip(const kvt_exponent_codec *codec, const uint8_t *data, size_t bytes)
{
    kvt_element_kind kind = (kvt_element_kind)(1 + data[0] % 4);
    kvt_codec_view view = {1 + data[1] % 3, 1 + data[2], kvt_element_kind_bytes(kind), kind};
    kvt_codec_group group = {1, 1, &view};
    uint64_t row = (uint64_t)view.plane_count * view.channel_count * view.element_bytes;
    data += SHAPE_BYTES, bytes -= SHAPE_BYTES;
    uint64_t tokens = bytes / row, raw_bytes = tokens * row;
    kvt_codec_hint hint = {view.element_bytes, 10 + (int32_t)(data[-1] % 6), kind, (uint32_t)tokens, 1, &group};
    uint64_t bound = kvt_exponent_bound(raw_bytes), sizes[3] = {0};
    uint8_t *raw = exact(raw_bytes), *out[3] = {exact(bound), exact(bound), exact(bound)}, *back = exact(raw_bytes);
    memcpy(raw, data, raw_bytes);
    for (uint32_t i = 0; variant(i) != NULL; i++) {
        if (kvt_exponent_encode(codec, variant(i), &hint, raw, raw_bytes, out[i], bound, &sizes[i]) != KVT_OK)
            fail("the bound is too small");
        if (sizes[i] != sizes[0] || memcmp(out[i], out[0], sizes[0]) != 0)
            fail("the instruction sets encode a blob differently");
        memset(back, 0xa5, raw_bytes);
        if (kvt_exponent_decode(codec, variant(i), out[i], sizes[i], back, raw_bytes) != KVT_OK ||
            memcmp(back, raw, raw_bytes) != 0)
            fail("a blob did not come back");
    }
    for (int i = 0; i < 3; i++)
        free(out[i]);
    free(raw);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 1 + SHAPE_BYTES)
        return 0;
    const kvt_exponent_codec *codec = (data[0] & 1) != 0 ? &kvt_exponent_rans : &kvt_exponent_xpack;
    uint8_t what = data[0];
    data++, bytes--;
    if ((what & 2) != 0) {
        try_round_trip(codec, data, bytes);
        return 0;
    }
    uint64_t raw_bytes = claimed_bytes(data, bytes);
    try_decode(codec, data, bytes, (what & 4) != 0 ? raw_bytes : raw_bytes + (what >> 3) % 3);
    return 0;
}

#ifndef KVT_FUZZ
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t read_golden(const char *path, uint8_t *to, size_t capacity)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        fail("a golden payload cannot be read");
    size_t bytes = fread(to, 1, capacity, file);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv)
{
    static uint8_t golden[2][16384], input[16385];
    size_t sizes[2] = {read_golden(KVT_GOLDEN_DIR "/codec_xpack.bin", golden[0], sizeof golden[0]),
                       read_golden(KVT_GOLDEN_DIR "/codec_rans.bin", golden[1], sizeof golden[1])};
    uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) : kvt_now_ns();
    printf("fuzz_codec: %" PRIu64 " runs, seed %" PRIu64 "\n", runs, state);
    for (uint64_t run = 0; run < runs; run++) {
        uint64_t noise = next(&state);
        uint32_t codec = noise & 1;
        size_t bytes = 1 + sizes[codec];
        input[0] =
            (uint8_t)(noise & ((noise & 0x700) == 0 ? 0xff : 0xfd)); /* one in eight is a round trip, or may be */
        input[0] = (uint8_t)(input[0] | ((noise & 0x7000) != 0 ? 4 : 0));
        memcpy(input + 1, golden[codec], sizes[codec]);
        for (uint32_t damage = (uint32_t)(noise >> 16) % 8; damage > 0; damage--) {
            uint64_t where = next(&state);
            size_t within = (where & 15) == 0 ? 64 : bytes - 1;
            size_t at = within == 64 ? (where >> 8) % 64 : 64 + (where >> 8) % (within - 64);
            input[1 + at] = (uint8_t)(where >> 48);
        }
        if ((noise >> 32 & 31) == 0)
            bytes = 1 + (size_t)(next(&state) % bytes);
        LLVMFuzzerTestOneInput(input, bytes);
    }
    puts("fuzz_codec: nothing found");
    return 0;
}
#endif
