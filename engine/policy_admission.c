/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a blob that leaves RAM is written down. The one idea: flash wears by the byte, so writes are paid from a
 * bucket that fills at a steady rate. While there is something in it everything is written; on credit only what was
 * used in RAM or has left RAM before; beyond a tenth of the bucket in debt nothing.
 *
 * "Has left before" is a Bloom filter in two windows: keys go into the young one, a full young one becomes the old one
 * and the old one is emptied. One bit of memory per key suffices, there is no need to count.
 *
 * Not here: which blob leaves (policy_s3fifo.c) and whether loading it would be faster than computing it (planner.c).
 */
#include "engine/policy.h"

#include <pthread.h>

__extension__ typedef unsigned __int128 wide;

#define DAY_NS (UINT64_C(86400) * 1000000000)

enum {
    DEBT_SHARE = 10, /* the deepest debt is depth / 10 */
    LINE_BITS = 512, /* all bits of a key lie in one cache line */
    LINE_WORDS = LINE_BITS / 64,
    PROBES = 6,
    KEY_BITS = 16, /* false positives: about 0.2 % at the end of a window */
    KEYS_MIN = 1024
};
#define KEYS_MAX (UINT64_C(1) << 32)

typedef struct filter {
    uint64_t *young;
    uint64_t *old;
    uint64_t line_count; /* of each window */
    uint64_t keys_max;   /* of a window */
    uint64_t keys;       /* in the young one */
} filter;

struct kvt_admission {
    pthread_mutex_t lock; /* guards all below */
    bool unlimited;
    bool started; /* last_ns is a time of the caller's clock */
    uint64_t bytes_per_day;
    int64_t depth;
    int64_t tokens;
    uint64_t last_ns;
    uint64_t remainder; /* of a byte, in 1 / DAY_NS */
    filter seen;
};

/* ------------------------------------------------------------------- filter */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The bits of a key: a line, and PROBES bits in it. */
static uint64_t key_bits(const filter *seen, uint64_t key_hash, uint64_t bits[LINE_WORDS])
{
    uint64_t probes = mix(key_hash);
    memset(bits, 0, LINE_WORDS * sizeof *bits);
    for (int i = 0; i < PROBES; i++, probes >>= 9)
        bits[probes >> 6 & (LINE_WORDS - 1)] |= UINT64_C(1) << (probes & 63);
    wide scaled = (wide)mix(key_hash ^ UINT64_C(0x9e3779b97f4a7c15)) * seen->line_count;
    return (uint64_t)(scaled >> 64);
}

static bool line_has(const uint64_t *line, const uint64_t bits[LINE_WORDS])
{
    for (int i = 0; i < LINE_WORDS; i++)
        if ((line[i] & bits[i]) != bits[i])
            return false;
    return true;
}

static void filter_turn(filter *seen)
{
    uint64_t *empty = seen->old;
    seen->old = seen->young;
    seen->young = empty;
    seen->keys = 0;
    memset(empty, 0, seen->line_count * LINE_BITS / 8);
}

/* Remember a key; was it known? */
static bool filter_add(filter *seen, uint64_t key_hash)
{
    uint64_t bits[LINE_WORDS];
    uint64_t line = key_bits(seen, key_hash, bits) * LINE_WORDS;
    if (line_has(seen->young + line, bits))
        return true;
    bool known = line_has(seen->old + line, bits);
    if (seen->keys == seen->keys_max)
        filter_turn(seen);
    for (int i = 0; i < LINE_WORDS; i++)
        seen->young[line + (uint64_t)i] |= bits[i];
    seen->keys++;
    return known;
}

static kvt_status filter_init(filter *seen, uint64_t keys_hint)
{
    seen->keys_max = kvt_max_u64(keys_hint, KEYS_MIN);
    seen->line_count = (seen->keys_max * KEY_BITS + LINE_BITS - 1) / LINE_BITS;
    seen->young = kvt_alloc_array(seen->line_count, LINE_BITS / 8);
    seen->old = kvt_alloc_array(seen->line_count, LINE_BITS / 8);
    return seen->young && seen->old ? KVT_OK : KVT_NOMEM;
}

/* ------------------------------------------------------------------- bucket */

/* The clock may stand still or (another clock after a reopen) jump back: then nothing is added. */
static void refill(kvt_admission *admission, uint64_t now_ns)
{
    uint64_t elapsed = admission->started && now_ns > admission->last_ns ? now_ns - admission->last_ns : 0;
    admission->started = true;
    admission->last_ns = now_ns;
    if (!elapsed)
        return;
    wide earned = (wide)admission->bytes_per_day * elapsed + admission->remainder;
    wide whole = earned / DAY_NS;
    uint64_t room = (uint64_t)admission->depth - (uint64_t)admission->tokens; /* tokens <= depth; debt wraps right */
    if (whole >= room) {
        admission->tokens = admission->depth;
        admission->remainder = 0;
    } else {
        admission->tokens += (int64_t)whole;
        admission->remainder = (uint64_t)(earned % DAY_NS);
    }
}

static int64_t debt_floor(const kvt_admission *admission) { return -(admission->depth / DEBT_SHARE); }

/* ------------------------------------------------------------------- public */

kvt_status kvt_admission_create(uint64_t bytes_per_day, uint64_t depth_bytes, uint64_t keys_hint, kvt_admission **out)
{
    if (keys_hint > KEYS_MAX)
        return kvt_fail(KVT_INVALID, "a filter of %llu keys is too large", (unsigned long long)keys_hint);
    kvt_admission *admission = kvt_alloc(sizeof *admission);
    if (!admission)
        return KVT_NOMEM;
    if (filter_init(&admission->seen, keys_hint) < 0 || pthread_mutex_init(&admission->lock, NULL) != 0) {
        kvt_free(admission->seen.young);
        kvt_free(admission->seen.old);
        kvt_free(admission);
        return KVT_NOMEM;
    }
    admission->unlimited = bytes_per_day == UINT64_MAX;
    admission->bytes_per_day = bytes_per_day;
    admission->depth = (int64_t)kvt_min_u64(depth_bytes, INT64_MAX / 2);
    admission->tokens = admission->depth;
    *out = admission;
    return KVT_OK;
}

void kvt_admission_destroy(kvt_admission *admission)
{
    if (!admission)
        return;
    pthread_mutex_destroy(&admission->lock);
    kvt_free(admission->seen.young);
    kvt_free(admission->seen.old);
    kvt_free(admission);
}

int64_t kvt_admission_tokens(kvt_admission *admission, uint64_t now_ns)
{
    pthread_mutex_lock(&admission->lock);
    refill(admission, now_ns);
    int64_t tokens = admission->unlimited ? INT64_MAX : admission->tokens;
    pthread_mutex_unlock(&admission->lock);
    return tokens;
}

void kvt_admission_set_tokens(kvt_admission *admission, int64_t tokens, uint64_t now_ns)
{
    pthread_mutex_lock(&admission->lock);
    refill(admission, now_ns);
    int64_t floor = debt_floor(admission);
    admission->tokens = tokens > admission->depth ? admission->depth : tokens < floor ? floor : tokens;
    admission->remainder = 0;
    pthread_mutex_unlock(&admission->lock);
}

bool kvt_admission_admit(kvt_admission *admission, uint64_t key_hash, uint64_t bytes, uint32_t hits, bool write_through,
                         uint64_t now_ns)
{
    if (admission->unlimited) /* never changes after create */
        return true;
    pthread_mutex_lock(&admission->lock);
    refill(admission, now_ns);
    bool seen = filter_add(&admission->seen, key_hash);
    bool admitted = admission->tokens > 0;
    if (!admitted && admission->tokens >= debt_floor(admission))
        admitted = write_through || hits > 0 || seen;
    if (admitted) /* at most one blob beyond the floor: no underflow */
        admission->tokens -= (int64_t)kvt_min_u64(bytes, INT64_MAX / 4);
    pthread_mutex_unlock(&admission->lock);
    return admitted;
}

void kvt_admission_refund(kvt_admission *admission, uint64_t bytes)
{
    pthread_mutex_lock(&admission->lock);
    int64_t back = (int64_t)kvt_min_u64(bytes, INT64_MAX / 4);
    admission->tokens = back > admission->depth - admission->tokens ? admission->depth : admission->tokens + back;
    pthread_mutex_unlock(&admission->lock);
}
