/* SPDX-License-Identifier: Apache-2.0
 *
 * Digests, keys and checksums: published vectors, the golden key vectors, an independent computation through the linked
 * libxxhash (the room inlines its own copy), and agreement of the instruction-set variants.
 */
#include "hash/hash_int.h"
#include "tests/key_vectors.h"
#include "tests/support.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

/* ---------------------------------------------------------------- published */

/* From xxHash 0.8's tests/sanity_test_vectors.h, on its test buffer; seed is its PRIME64. */
#define XXH_TEST_SEED UINT64_C(11400714785074694797)
static const struct {
    uint32_t bytes;
    uint64_t hash64, hash64_seeded, low, high;
} xxh3_vectors[] = {
    {0, 0x2D06800538D394C2, 0xA8A6B918B2F0364A, 0x6001C324468D497F, 0x99AA06D3014798D8},
    {1, 0xC44BDFF4074EECDB, 0x032BE332DD766EF8, 0xC44BDFF4074EECDB, 0xA6CD5E9392000F6A},
    {6, 0x27B56A84CD2D7325, 0x84589C116AB59AB9, 0x3E7039BDDA43CFC6, 0x082AFE0B8162D12A},
    {12, 0xA713DAF0DFBB77E7, 0xE7303E1B2336DE0E, 0x061A192713F69AD9, 0x6E3EFD8FC7802B18},
    {24, 0xA3FE70BF9D3510EB, 0x850E80FC35BDD690, 0x1E7044D28B1B901D, 0x0CE966E4678D3761},
    {48, 0x397DA259ECBA1F11, 0xADC2CBAA44ACC616, 0xF942219AED80F67B, 0xA002AC4E5478227E},
    {403, 0xCDEB804D65C6DEA4, 0x6259F6ECFD6443FD, 0xCDEB804D65C6DEA4, 0x1B6DE21E332DD73D},
    {512, 0x617E49599013CB6B, 0x3CE457DE14C27708, 0x617E49599013CB6B, 0x18D2D110DCC9BCA1},
    {2048, 0xDD59E2C3A5F038E0, 0x66F81670669ABABC, 0xDD59E2C3A5F038E0, 0xF736557FD47073A5},
    {2367, 0xCB37AEB9E5D361ED, 0xD2DB3415B942B42A, 0xCB37AEB9E5D361ED, 0xE89C0F6FF369B427},
};

KVT_TEST(hash, xxh3_gives_the_published_values)
{
    static uint8_t buffer[4096];
    uint64_t generator = 2654435761u;
    for (size_t i = 0; i < sizeof buffer; i++, generator *= XXH_TEST_SEED)
        buffer[i] = (uint8_t)(generator >> 56);
    for (size_t i = 0; i < sizeof xxh3_vectors / sizeof *xxh3_vectors; i++) {
        uint32_t bytes = xxh3_vectors[i].bytes;
        cr_assert_eq(kvt_xxh3_64(buffer, bytes), xxh3_vectors[i].hash64, "%" PRIu32 " bytes", bytes);
        cr_assert_eq(kvt_xxh3_64_seeded(buffer, bytes, XXH_TEST_SEED), xxh3_vectors[i].hash64_seeded);
        kvt_hash128 hash = kvt_xxh3_128(buffer, bytes);
        cr_assert_eq(kvt_load_le64(hash.bytes), xxh3_vectors[i].low, "the low half comes first");
        cr_assert_eq(kvt_load_le64(hash.bytes + 8), xxh3_vectors[i].high);
    }
}

/* FIPS 180-4 examples (one block, two blocks, a million letters) and the empty message. */
static const struct {
    const char *text;
    uint32_t repeat;
    const char *digest;
} sha256_vectors[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

static void check_sha256(const char *text, uint32_t repeat, const char *expected)
{
    size_t length = strlen(text);
    char *message = malloc(length * repeat + 1);
    for (uint32_t i = 0; i < repeat; i++)
        memcpy(message + i * length, text, length);
    uint8_t digest[32];
    cr_assert_eq(kvt_sha256(message, length * repeat, digest), KVT_OK);
    free(message);
    char found[65];
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(found + 2 * i, 3, "%02x", digest[i]);
    cr_assert_str_eq(found, expected);
}

KVT_TEST(hash, sha256_gives_the_published_values_or_says_that_it_is_missing)
{
    uint8_t digest[32];
    kvt_key id = {{1}}, untouched = id;
    if (!kvt_sha256_available()) {
        cr_assert_eq(kvt_sha256("abc", 3, digest), KVT_UNSUPPORTED);
        cr_assert_eq(kvt_space_id(KVT_HASH_SHA256, "abc", 3, &id), KVT_UNSUPPORTED);
        cr_assert(kvt_key_equal(&id, &untouched));
        return;
    }
    for (size_t i = 0; i < sizeof sha256_vectors / sizeof *sha256_vectors; i++)
        check_sha256(sha256_vectors[i].text, sha256_vectors[i].repeat, sha256_vectors[i].digest);
    cr_assert_eq(kvt_space_id(KVT_HASH_SHA256, "abc", 3, &id), KVT_OK);
    char text[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(&id, text);
    cr_assert_str_eq(text, "ba7816bf8f01cfea414140de5dae2223", "an id is the first 16 bytes");
}

/* -------------------------------------------------------------------- crc32c */

static uint32_t crc32c_by_bits(uint32_t crc, const uint8_t *data, size_t bytes)
{
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

KVT_TEST(hash, crc32c_gives_the_published_values)
{
    uint8_t block[32];
    cr_assert_eq(kvt_crc32c(0, "123456789", 9), 0xe3069283u);
    cr_assert_eq(kvt_crc32c(0, NULL, 0), 0u);
    memset(block, 0, sizeof block); /* RFC 3720, B.4 */
    cr_assert_eq(kvt_crc32c(0, block, sizeof block), 0x8a9136aau);
    memset(block, 0xff, sizeof block);
    cr_assert_eq(kvt_crc32c(0, block, sizeof block), 0x62a8ab43u);
    for (uint8_t i = 0; i < sizeof block; i++)
        block[i] = i;
    cr_assert_eq(kvt_crc32c(0, block, sizeof block), 0x46dd794eu);
    uint32_t part = kvt_crc32c(0, "12345", 5);
    cr_assert_eq(kvt_crc32c(part, "6789", 4), 0xe3069283u, "a sum goes on from where it stopped");
}

KVT_TEST(hash, crc32c_variants_agree_with_a_bit_by_bit_sum)
{
    uint64_t seed = kvt_test_seed("crc32c variants");
    static uint8_t memory[4096 + 16];
    kvt_test_fill(memory, sizeof memory, seed);
    const kvt_crc32c_ops *portable = kvt_crc32c_ops_for(0);
    const kvt_crc32c_ops *best = kvt_crc32c_ops_for(kvt_cpu_features());
    for (size_t bytes = 0; bytes <= 4096; bytes += bytes < 160 ? 1 : 97) {
        for (size_t shift = 0; shift < 9; shift++) {
            uint32_t start = (uint32_t)kvt_test_random(&seed);
            uint32_t expected = crc32c_by_bits(start, memory + shift, bytes);
            cr_assert_eq(portable->update(start, memory + shift, bytes), expected, "portable, %zu bytes", bytes);
            cr_assert_eq(best->update(start, memory + shift, bytes), expected, "%s, %zu bytes", best->name, bytes);
        }
    }
}

/* ------------------------------------------------------------------ variants */

enum { VARIANTS_MAX = 3 };
/* Every digest variant that this CPU can run, the baseline first. */
static size_t variants_here(const kvt_digest_ops *variants[VARIANTS_MAX])
{
    static const uint32_t masks[VARIANTS_MAX] = {0, KVT_CPU_SSE42 | KVT_CPU_AVX2, UINT32_MAX};
    size_t count = 0;
    for (size_t i = 0; i < VARIANTS_MAX; i++) {
        const kvt_digest_ops *ops = kvt_digest_ops_for(kvt_cpu_features() & masks[i]);
        if (count == 0 || ops != variants[count - 1])
            variants[count++] = ops;
    }
    return count;
}

static void check_digests_agree(const uint8_t *data, size_t bytes, uint64_t seed)
{
    const kvt_digest_ops *variants[VARIANTS_MAX];
    size_t count = variants_here(variants);
    uint64_t expected64 = XXH3_64bits_withSeed(data, bytes, seed);
    XXH128_hash_t expected128 = XXH3_128bits(data, bytes);
    for (size_t i = 0; i < count; i++) {
        const char *name = variants[i]->name;
        cr_assert_eq(variants[i]->hash64(data, bytes, seed), expected64, "%s, %zu bytes", name, bytes);
        kvt_hash128 hash = variants[i]->hash128(data, bytes);
        cr_assert_eq(kvt_load_le64(hash.bytes), expected128.low64, "%s, %zu bytes", name, bytes);
        cr_assert_eq(kvt_load_le64(hash.bytes + 8), expected128.high64, "%s, %zu bytes", name, bytes);
    }
}

KVT_TEST(hash, digest_variants_agree_with_the_linked_library)
{
    uint64_t seed = kvt_test_seed("digest variants");
    size_t room = KVT_FRAME_BYTES + 128;
    uint8_t *memory = malloc(room);
    kvt_test_fill(memory, room, seed);
    for (size_t bytes = 0; bytes <= 1400; bytes++)
        check_digests_agree(memory + kvt_test_random(&seed) % 64, bytes, bytes % 3 == 0 ? 0 : seed);
    for (size_t shift = 0; shift < 64; shift++) /* exactly to the end of the heap block, where a stray read shows */
        check_digests_agree(memory + room - 1088 - shift, 1088 + shift, 0);
    for (size_t i = 0; i < 40; i++)
        check_digests_agree(memory + i, KVT_FRAME_BYTES - 17 * i, 0);
    free(memory);
}

KVT_TEST(hash, a_cpu_without_vectors_gives_the_same_bytes_through_the_door)
{
    static uint32_t tokens[3 * 2000];
    kvt_test_fill(tokens, sizeof tokens, 5);
    const kvt_digest_ops *best = kvt_digest_ops_for(kvt_cpu_features());
    kvt_cpu_mask(UINT32_MAX); /* before the first use in this process */
    cr_assert_eq(kvt_digest_ops_here(), &kvt_digest_baseline);
    kvt_key parent = {{3}}, keys[3], expected[3];
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &parent, tokens, 256, 3, keys), KVT_OK);
    best->chain(&parent, tokens, 256, 3, expected, NULL);
    cr_assert_arr_eq(keys, expected, sizeof keys);
    cr_assert_eq(kvt_xxh3_64(tokens, sizeof tokens), best->hash64(tokens, sizeof tokens, 0));
    cr_assert_eq(kvt_token_fingerprint(tokens, 2000), best->fingerprint(tokens, 2000));
    kvt_cpu_mask(0);
}

static void *hash_at_once(void *arg)
{
    *(uint64_t *)arg = kvt_xxh3_64("kvtier", 6);
    return NULL;
}

KVT_TEST(hash, threads_may_race_for_the_first_use)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    uint64_t found[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hash_at_once, &found[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(found[i], XXH3_64bits("kvtier", 6));
}

/* ---------------------------------------------------------------------- keys */

static void bytes_of_tokens(const uint32_t *tokens, size_t count, uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++)
        for (size_t b = 0; b < 4; b++)
            bytes[4 * i + b] = (uint8_t)(tokens[i] >> 8 * b);
}

/* The format's words, put into code once more: one buffer, one call of the linked library. */
static kvt_key key_again(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t count)
{
    size_t bytes = KVT_KEY_BYTES + 4 * (size_t)count;
    uint8_t *input = malloc(bytes), digest[32];
    memcpy(input, parent->bytes, KVT_KEY_BYTES);
    bytes_of_tokens(tokens, count, input + KVT_KEY_BYTES);
    kvt_key key;
    if (hash == KVT_HASH_SHA256) {
        cr_assert_eq(kvt_sha256(input, bytes, digest), KVT_OK);
        memcpy(key.bytes, digest, KVT_KEY_BYTES);
    } else {
        XXH128_hash_t found = XXH3_128bits(input, bytes);
        for (size_t b = 0; b < 8; b++) {
            key.bytes[b] = (uint8_t)(found.low64 >> 8 * b);
            key.bytes[8 + b] = (uint8_t)(found.high64 >> 8 * b);
        }
    }
    free(input);
    return key;
}

static void check_chain(kvt_hash_id hash, const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens)
{
    enum { CHUNKS = 4 };
    kvt_key keys[CHUNKS], named[CHUNKS], expected = *parent;
    uint64_t fingerprints[CHUNKS];
    cr_assert_eq(kvt_chain_keys(hash, parent, tokens, chunk_tokens, CHUNKS, keys), KVT_OK);
    cr_assert_eq(kvt_chain_names(hash, parent, tokens, chunk_tokens, CHUNKS, named, fingerprints), KVT_OK);
    cr_assert_arr_eq(named, keys, sizeof keys);
    for (size_t i = 0; i < CHUNKS; i++) {
        cr_assert_eq(fingerprints[i], kvt_token_fingerprint(tokens + i * chunk_tokens, chunk_tokens));
        expected = key_again(hash, &expected, tokens + i * chunk_tokens, chunk_tokens);
        cr_assert(kvt_key_equal(&keys[i], &expected), "hash %d, chunk %zu of %" PRIu32 " tokens", (int)hash, i,
                  chunk_tokens);
    }
}

KVT_TEST(hash, keys_are_what_the_format_says)
{
    static const uint32_t sizes[] = {1,    2,    3,    15,   16,   28,   29,
                                     56,   57,   255,  256,  1000, 1023, 1024,
                                     1025, 2047, 2048, 2049, 5000, 8192, KVT_CHUNK_TOKENS_MAX};
    uint64_t seed = kvt_test_seed("keys");
    size_t count = 4 * (size_t)KVT_CHUNK_TOKENS_MAX;
    uint32_t *tokens = malloc(4 * count);
    kvt_test_fill(tokens, 4 * count, seed);
    kvt_key parent;
    kvt_test_fill(&parent, sizeof parent, seed + 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_chain(KVT_HASH_XXH3, &parent, tokens, sizes[i]);
        if (kvt_sha256_available())
            check_chain(KVT_HASH_SHA256, &parent, tokens, sizes[i]);
    }
    free(tokens);
}

KVT_TEST(hash, key_and_fingerprint_variants_agree_with_the_linked_library)
{
    static uint32_t tokens[2 * 3000];
    uint64_t seed = kvt_test_seed("key variants");
    kvt_test_fill(tokens, sizeof tokens, seed);
    const kvt_digest_ops *variants[VARIANTS_MAX];
    size_t count = variants_here(variants);
    kvt_key parent = {{9}}, keys[2], expected[2];
    for (uint32_t size = 1; size <= 3000; size += size < 600 ? 1 : 61) {
        uint64_t fingerprint = XXH3_64bits_withSeed(tokens, 4 * (size_t)size, UINT64_C(0x6b76742d746f6b73));
        expected[0] = key_again(KVT_HASH_XXH3, &parent, tokens, size);
        expected[1] = key_again(KVT_HASH_XXH3, &expected[0], tokens + size, size);
        for (size_t i = 0; i < count; i++) {
            uint64_t fingerprints[2];
            variants[i]->chain(&parent, tokens, size, 2, keys, fingerprints);
            cr_assert_eq(fingerprints[0], variants[i]->fingerprint(tokens, size));
            cr_assert_eq(fingerprints[1], variants[i]->fingerprint(tokens + size, size));
            cr_assert_arr_eq(keys, expected, sizeof keys, "%s, %" PRIu32 " tokens", variants[i]->name, size);
            if (kvt_host_is_little_endian())
                cr_assert_eq(variants[i]->fingerprint(tokens, size), fingerprint, "%s, %" PRIu32 " tokens",
                             variants[i]->name, size);
        }
    }
}

KVT_TEST(hash, a_key_covers_every_token_before_it_and_a_chain_can_be_resumed)
{
    uint32_t tokens[8 * 16];
    kvt_test_fill(tokens, sizeof tokens, 11);
    kvt_key space, keys[8], changed[8];
    cr_assert_eq(kvt_space_id(KVT_HASH_XXH3, "a", 1, &space), KVT_OK);
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &space, tokens, 16, 8, keys), KVT_OK);
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &keys[2], tokens + 3 * 16, 16, 5, changed), KVT_OK);
    cr_assert_arr_eq(changed, keys + 3, 5 * sizeof *keys, "goes on from key 2");
    for (size_t at = 0; at < 8 * 16; at += 7) {
        tokens[at] ^= 1u << at % 32;
        cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &space, tokens, 16, 8, changed), KVT_OK);
        tokens[at] ^= 1u << at % 32;
        for (size_t i = 0; i < 8; i++)
            cr_assert_eq(kvt_key_equal(&keys[i], &changed[i]), i < at / 16, "token %zu, key %zu", at, i);
    }
    cr_assert_eq(kvt_space_id(KVT_HASH_XXH3, "b", 1, &space), KVT_OK);
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &space, tokens, 16, 8, changed), KVT_OK);
    for (size_t i = 0; i < 8; i++)
        cr_assert(!kvt_key_equal(&keys[i], &changed[i]), "another space has other keys");
}

KVT_TEST(hash, keys_may_overwrite_their_parent_and_need_no_heap)
{
    uint32_t tokens[2 * 1500];
    kvt_test_fill(tokens, sizeof tokens, 12);
    kvt_key apart[2], place[2], parent = {{7}};
    uint64_t allocations = kvt_alloc_count();
    for (uint32_t size = 500; size <= 1500; size += 1000) {
        place[0] = parent;
        cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &parent, tokens, size, 2, apart), KVT_OK);
        cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &place[0], tokens, size, 2, place), KVT_OK);
        cr_assert_arr_eq(apart, place, sizeof apart);
    }
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &parent, NULL, 16, 0, NULL), KVT_OK, "no chunks, nothing to do");
    cr_assert_eq(kvt_alloc_count(), allocations);
}

KVT_TEST(hash, wrong_arguments_are_refused_and_change_nothing)
{
    uint32_t token = 1;
    kvt_key parent = {{1}}, key = {{2}}, untouched = key;
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &parent, &token, 0, 1, &key), KVT_INVALID);
    cr_assert_eq(kvt_chain_keys(KVT_HASH_XXH3, &parent, &token, KVT_CHUNK_TOKENS_MAX + 1, 1, &key), KVT_INVALID);
    cr_assert_eq(kvt_chain_keys((kvt_hash_id)2, &parent, &token, 1, 1, &key), KVT_INVALID);
    cr_assert_str_not_empty(kvt_last_error());
    cr_assert_eq(kvt_space_id((kvt_hash_id)7, "x", 1, &key), KVT_INVALID);
    cr_assert(kvt_key_equal(&key, &untouched));
}

/* Compare with the file line by line; lines of SHA-256 are passed over in a build without it. */
static void check_golden(FILE *golden, FILE *found)
{
    char expected[256], line[256];
    size_t lines = 0;
    while (fgets(expected, sizeof expected, golden) != NULL) {
        if (!kvt_sha256_available() && strncmp(expected, "sha256 ", 7) == 0)
            continue;
        cr_assert_not_null(fgets(line, sizeof line, found));
        cr_assert_str_eq(line, expected);
        lines++;
    }
    cr_assert_null(fgets(line, sizeof line, found));
    cr_assert_geq(lines, 80, "the golden file is cut short");
}

KVT_TEST(hash, golden_key_vectors_hold_byte_for_byte)
{
    FILE *golden = fopen(KVT_GOLDEN_DIR "/key_vectors.txt", "r");
    cr_assert_not_null(golden);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    key_vectors_print(out);
    fclose(out);
    FILE *found = fmemopen(text, bytes, "r");
    check_golden(golden, found);
    fclose(found);
    fclose(golden);
    free(text);
}

/* ------------------------------------------------------------------- payloads */

static void check_payload_hash(const uint64_t *digests, uint32_t count)
{
    uint8_t input[8 * 200];
    for (size_t i = 0; i < 8 * (size_t)count; i++)
        input[i] = (uint8_t)(digests[i / 8] >> 8 * (i % 8));
    kvt_hash128 hash = kvt_payload_hash(digests, count), expected = kvt_xxh3_128(input, 8 * (size_t)count);
    cr_assert(kvt_hash128_equal(&hash, &expected), "%" PRIu32 " digests", count);
}

KVT_TEST(hash, a_payload_is_hashed_over_the_digests_of_its_frames)
{
    cr_assert_eq(kvt_frame_count(0), 0u);
    cr_assert_eq(kvt_frame_count(1), 1u);
    cr_assert_eq(kvt_frame_count(KVT_FRAME_BYTES), 1u);
    cr_assert_eq(kvt_frame_count(KVT_FRAME_BYTES + 1), 2u);
    cr_assert_eq(kvt_frame_count(KVT_BLOB_BYTES_MAX), 64u);
    const size_t bytes = 2 * KVT_FRAME_BYTES + 4099;
    uint8_t *payload = malloc(bytes);
    kvt_test_fill(payload, bytes, 21);
    uint64_t digests[4] = {0, 0, 0, 77};
    kvt_frame_digests(payload, bytes, digests);
    cr_assert_eq(digests[0], XXH3_64bits(payload, KVT_FRAME_BYTES));
    cr_assert_eq(digests[1], XXH3_64bits(payload + KVT_FRAME_BYTES, KVT_FRAME_BYTES));
    cr_assert_eq(digests[2], XXH3_64bits(payload + 2 * KVT_FRAME_BYTES, 4099));
    cr_assert_eq(digests[3], 77u, "no digest behind the last frame");
    check_payload_hash(digests, 3);
    payload[bytes - 1] ^= 1;
    uint64_t changed[3];
    kvt_frame_digests(payload, bytes, changed);
    cr_assert_arr_eq(changed, digests, 2 * sizeof *digests);
    cr_assert_neq(changed[2], digests[2]);
    free(payload);
}

KVT_TEST(hash, a_payload_hash_takes_any_number_of_digests)
{
    uint64_t digests[200];
    kvt_test_fill(digests, sizeof digests, 22);
    for (uint32_t count = 0; count <= 200; count++)
        check_payload_hash(digests, count);
}
