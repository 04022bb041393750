/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes the key vectors: ids of two spaces, and the keys and fingerprints of three chunks of each of several sizes.
 * The sizes cross the branches of XXH3 (16, 128 and 240 bytes) and the size above which keys are streamed.
 */
#include "tests/key_vectors.h"

#include "hash/hash.h"

#include <inttypes.h>

enum { CHUNKS = 3, CHUNK_TOKENS_LARGEST = 4096 };

static const uint32_t chunk_sizes[] = {1, 2, 16, 28, 29, 56, 57, 64, 128, 256, 512, 1024, 1025, 4096};
static const char *const spaces[] = {"", "kvtier space 1\nmodel=example\n"};
static const struct {
    kvt_hash_id id;
    const char *name;
} hashes[] = {{KVT_HASH_XXH3, "xxh3"}, {KVT_HASH_SHA256, "sha256"}};

static void print_spaces(FILE *out, kvt_hash_id hash, const char *name, kvt_key *last)
{
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        char text[KVT_KEY_TEXT_BYTES];
        kvt_space_id(hash, spaces[i], strlen(spaces[i]), last);
        kvt_key_to_text(last, text);
        fprintf(out, "%s space %zu %s\n", name, i, text);
    }
}

static void print_keys(FILE *out, kvt_hash_id hash, const char *name, const uint32_t *tokens)
{
    kvt_key space;
    print_spaces(out, hash, name, &space);
    for (size_t i = 0; i < sizeof chunk_sizes / sizeof *chunk_sizes; i++) {
        kvt_key keys[CHUNKS];
        kvt_chain_keys(hash, &space, tokens, chunk_sizes[i], CHUNKS, keys);
        for (size_t chunk = 0; chunk < CHUNKS; chunk++) {
            char text[KVT_KEY_TEXT_BYTES];
            kvt_key_to_text(&keys[chunk], text);
            fprintf(out, "%s key %" PRIu32 " %zu %s\n", name, chunk_sizes[i], chunk, text);
        }
    }
}

static void print_fingerprints(FILE *out, const uint32_t *tokens)
{
    for (size_t i = 0; i < sizeof chunk_sizes / sizeof *chunk_sizes; i++)
        for (size_t chunk = 0; chunk < CHUNKS; chunk++)
            fprintf(out, "fingerprint %" PRIu32 " %zu %016" PRIx64 "\n", chunk_sizes[i], chunk,
                    kvt_token_fingerprint(tokens + chunk * chunk_sizes[i], chunk_sizes[i]));
}

void key_vectors_print(FILE *out)
{
    static uint32_t tokens[CHUNKS * CHUNK_TOKENS_LARGEST];
    for (uint32_t i = 0; i < CHUNKS * CHUNK_TOKENS_LARGEST; i++)
        tokens[i] = UINT32_C(2654435761) * i + UINT32_C(40503);
    fputs("# Key vectors of kvtier, made by make_key_vectors; docs/format_keys.md says what the lines mean.\n", out);
    fputs("# token i = (2654435761 * i + 40503) mod 2^32; the keys hang on space 1.\n", out);
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++)
        if (hashes[i].id != KVT_HASH_SHA256 || kvt_sha256_available())
            print_keys(out, hashes[i].id, hashes[i].name, tokens);
    print_fingerprints(out, tokens);
}
