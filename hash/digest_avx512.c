/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH3 with 64-byte vectors; see digest_body.h. Compiled with AVX-512 on, called only where the CPU has it.
 *
 * Names of chunks, key and fingerprint at once, have a walk of their own here: what bounds XXH3 on these CPUs are loads
 * that cross cache lines, so a stripe is loaded once for both hashes, and the secret lies in aligned rows. In the key's
 * input the parent shifts the tokens by 16 bytes: its stripes are put together from two neighbours in registers.
 */
#define XXH_VECTOR XXH_AVX512
#include "hash/digest_body.h"

#include <immintrin.h>

/* What every stripe of a block is combined with. */
typedef struct secret_rows {
    __m512i of_stripe[BLOCK_STRIPES];
    __m512i of_scramble;
    __m512i of_last;
} secret_rows;

/* XXH3's accumulators, with the sum of the data apart: its lanes change places once at the end, not in each stripe. */
typedef struct lanes {
    __m512i products;
    __m512i data;
} lanes;

static inline void fill_rows(secret_rows *rows, const uint8_t *secret)
{
    const uint8_t *end = secret + XXH3_SECRET_DEFAULT_SIZE - XXH_STRIPE_LEN;
    for (int i = 0; i < BLOCK_STRIPES; i++)
        rows->of_stripe[i] = _mm512_loadu_si512(secret + (ptrdiff_t)i * XXH_SECRET_CONSUME_RATE);
    rows->of_scramble = _mm512_loadu_si512(end);
    rows->of_last = _mm512_loadu_si512(end - XXH_SECRET_LASTACC_START);
}

static inline lanes first_lanes(void)
{
    XXH_ALIGN(XXH_ACC_ALIGN) static const xxh_u64 init[XXH_ACC_NB] = XXH3_INIT_ACC;
    return (lanes){_mm512_load_si512(init), _mm512_setzero_si512()};
}

static inline void take(lanes *l, __m512i stripe, __m512i secret)
{
    __m512i keyed = _mm512_xor_si512(stripe, secret);
    l->products = _mm512_add_epi64(l->products, _mm512_mul_epu32(keyed, _mm512_srli_epi64(keyed, 32)));
    l->data = _mm512_add_epi64(l->data, stripe);
}

static inline __m512i sum(const lanes *l)
{
    return _mm512_add_epi64(l->products, _mm512_shuffle_epi32(l->data, _MM_PERM_BADC));
}

static inline void scramble(lanes *l, __m512i secret)
{
    const __m512i prime = _mm512_set1_epi32((int)XXH_PRIME32_1);
    __m512i acc = sum(l);
    acc = _mm512_xor_si512(_mm512_xor_si512(acc, _mm512_srli_epi64(acc, 47)), secret);
    __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(acc, 32), prime);
    l->products = _mm512_add_epi64(_mm512_mul_epu32(acc, prime), _mm512_slli_epi64(high, 32));
    l->data = _mm512_setzero_si512();
}

typedef struct namer {
    secret_rows of_key, of_own;
    uint64_t own_bytes;
    uint32_t stripes; /* of a chunk's tokens, which fill them */
} namer;

static uint64_t merge_own(__m512i sums, uint64_t bytes)
{
    XXH_ALIGN(XXH_ACC_ALIGN) xxh_u64 acc[XXH_ACC_NB];
    _mm512_store_si512(acc, sums);
    return XXH3_mergeAccs(acc, kvt_fingerprint_secret + XXH_SECRET_MERGEACCS_START, bytes * XXH_PRIME64_1);
}

/* Stays in registers: memory written in halves and read as a whole would cost a wait. */
static __m128i merge_to_vector(__m512i sums, uint64_t bytes)
{
    XXH_ALIGN(XXH_ACC_ALIGN) xxh_u64 acc[XXH_ACC_NB];
    _mm512_store_si512(acc, sums);
    XXH128_hash_t key = merge_key(acc, bytes);
    return _mm_set_epi64x((long long)key.high64, (long long)key.low64);
}

/* Both hashes over the tokens' stripes, which are the key's too, shifted. */
typedef struct walk {
    lanes of_key, own;
    __m512i before; /* the stripe before the next; at first the parent, in its last lanes */
} walk;

static inline void take_both(walk *w, const uint32_t *tokens, __m512i of_key, __m512i of_own)
{
    __m512i stripe = _mm512_loadu_si512(tokens);
    take(&w->of_key, _mm512_alignr_epi32(stripe, w->before, STRIPE_TOKENS - PARENT_TOKENS), of_key);
    take(&w->own, stripe, of_own);
    w->before = stripe;
}

static inline void end_block(const namer *n, walk *w)
{
    scramble(&w->of_key, n->of_key.of_scramble);
    scramble(&w->own, n->of_own.of_scramble);
}

/* The last stripe ends both inputs: of the tokens it is the next, of the key it comes once more, unshifted. */
static inline __m128i name(const namer *n, const uint32_t *tokens, __m128i parent, uint64_t *own_hash)
{
    walk w = {first_lanes(), first_lanes(), _mm512_broadcast_i32x4(parent)};
    const uint32_t *last = tokens + (size_t)(n->stripes - 1) * STRIPE_TOKENS;
    const __m512i *of_key = n->of_key.of_stripe, *of_own = n->of_own.of_stripe;
    while (last - tokens >= BLOCK_STRIPES * STRIPE_TOKENS) {
        for (int i = 0; i < BLOCK_STRIPES; i++)
            take_both(&w, tokens + i * STRIPE_TOKENS, of_key[i], of_own[i]);
        tokens += BLOCK_STRIPES * STRIPE_TOKENS;
        end_block(n, &w);
    }
    uint32_t rest = (uint32_t)(last - tokens) / STRIPE_TOKENS;
#pragma GCC unroll 5
    for (uint32_t i = 0; i < rest; i++)
        take_both(&w, tokens + i * STRIPE_TOKENS, of_key[i], of_own[i]);
    take_both(&w, last, of_key[rest], n->of_own.of_last);
    if (rest == BLOCK_STRIPES - 1)
        scramble(&w.of_key, n->of_key.of_scramble);
    take(&w.of_key, w.before, n->of_key.of_last);
    *own_hash = merge_own(sum(&w.own), n->own_bytes);
    return merge_to_vector(sum(&w.of_key), KVT_KEY_BYTES + n->own_bytes);
}

static void chain_names(const kvt_key *parent, const uint32_t *tokens, uint32_t chunk_tokens, size_t chunk_count,
                        kvt_key *keys, uint64_t *fingerprints)
{
    if (fingerprints == NULL || chunk_tokens * UINT64_C(4) <= XXH3_MIDSIZE_MAX || chunk_tokens % STRIPE_TOKENS != 0) {
        chain(parent, tokens, chunk_tokens, chunk_count, keys, fingerprints);
        return;
    }
    namer n = {.own_bytes = 4 * (uint64_t)chunk_tokens, .stripes = chunk_tokens / STRIPE_TOKENS};
    fill_rows(&n.of_key, XXH3_kSecret);
    fill_rows(&n.of_own, kvt_fingerprint_secret);
    __m128i key = _mm_loadu_si128((const __m128i *)(const void *)parent);
    for (size_t i = 0; i < chunk_count; i++, tokens += chunk_tokens) {
        key = name(&n, tokens, key, &fingerprints[i]);
        _mm_storeu_si128((__m128i *)(void *)&keys[i], key);
    }
}

const kvt_digest_ops kvt_digest_avx512 = KVT_DIGEST_OPS("avx512", chain_names);
