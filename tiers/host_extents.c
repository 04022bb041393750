/* SPDX-License-Identifier: Apache-2.0
 *
 * Best fit in constant time. Holes are binned by their exact number of units up to BINS_MAX, and a three-level bitmap
 * finds the smallest bin that fits, so equal-sized blobs refill each other's holes without waste; the few holes beyond
 * that are kept by powers of two. Tags at the first and last unit of every run make merging of neighbours immediate.
 * The tables are sized once by the number of units; untouched parts of them cost no memory.
 */
#include "tiers/host_extents.h"

enum {
    BINS_MAX = 1 << 15, /* exact bins: up to 128 MiB of 4 KiB units, more than the largest image */
    LARGE_CLASSES = 32,
    WORD_BITS = 64
};

/* tags[]: 0 inside a run; at its first unit FIRST | length, at its last unit (if another one) length; USED or not. */
#define TAG_USED   UINT32_C(0x80000000)
#define TAG_FIRST  UINT32_C(0x40000000)
#define TAG_LENGTH UINT32_C(0x3fffffff)

struct kvt_extents {
    uint32_t unit_count;
    uint32_t used;
    uint32_t extent_count;
    uint32_t *tags;
    uint32_t *next; /* of holes in the same bin, by first unit */
    uint32_t *prev;
    uint32_t *bins;                /* bins[n]: a hole of n units, 0 < n < BINS_MAX */
    uint32_t large[LARGE_CLASSES]; /* large[c]: holes of [2^c, 2^(c+1)) units, at least BINS_MAX */
    uint64_t top;
    uint64_t middle[BINS_MAX / WORD_BITS / WORD_BITS];
    uint64_t bottom[BINS_MAX / WORD_BITS]; /* bit n: bins[n] is not empty */
};
static_assert(BINS_MAX <= WORD_BITS * WORD_BITS * WORD_BITS, "three levels of bitmaps cover the bins");
static_assert(KVT_EXTENT_UNITS_MAX - 1 <= TAG_LENGTH, "a length fits its tag");

static uint32_t lowest_bit(uint64_t word) { return (uint32_t)__builtin_ctzll(word); }
static uint32_t highest_bit(uint64_t word) { return WORD_BITS - 1 - (uint32_t)__builtin_clzll(word); }

static uint32_t *bin_of(kvt_extents *e, uint32_t length)
{
    return length < BINS_MAX ? &e->bins[length] : &e->large[highest_bit(length)];
}

static void mark_bin(kvt_extents *e, uint32_t length, bool filled)
{
    if (length >= BINS_MAX)
        return;
    uint32_t word = length / WORD_BITS, group = word / WORD_BITS;
    uint64_t bit = UINT64_C(1) << (length % WORD_BITS), word_bit = UINT64_C(1) << (word % WORD_BITS);
    if (filled) {
        e->bottom[word] |= bit;
        e->middle[group] |= word_bit;
        e->top |= UINT64_C(1) << group;
        return;
    }
    e->bottom[word] &= ~bit;
    if (e->bottom[word] == 0)
        e->middle[group] &= ~word_bit;
    if (e->middle[group] == 0)
        e->top &= ~(UINT64_C(1) << group);
}

/* Bits of word at or above position; position may be WORD_BITS. */
static uint64_t bits_from(uint64_t word, uint32_t position)
{
    return position < WORD_BITS ? word >> position << position : 0;
}

/* Smallest exact bin with a hole of at least `length` units; 0: none. */
static uint32_t find_bin(const kvt_extents *e, uint32_t length)
{
    if (length >= BINS_MAX)
        return 0;
    uint32_t word = length / WORD_BITS, group = word / WORD_BITS;
    uint64_t bits = bits_from(e->bottom[word], length % WORD_BITS);
    if (bits != 0)
        return word * WORD_BITS + lowest_bit(bits);
    bits = bits_from(e->middle[group], word % WORD_BITS + 1);
    if (bits == 0) {
        bits = bits_from(e->top, group + 1);
        if (bits == 0)
            return 0;
        group = lowest_bit(bits);
        bits = e->middle[group];
    }
    word = group * WORD_BITS + lowest_bit(bits);
    return word * WORD_BITS + lowest_bit(e->bottom[word]);
}

static void set_tags(kvt_extents *e, uint32_t first, uint32_t length, uint32_t used)
{
    e->tags[first + length - 1] = used | length;
    e->tags[first] = used | TAG_FIRST | length;
}

/* The run's border tags become inside units of a larger run. */
static void clear_tags(kvt_extents *e, uint32_t first, uint32_t length)
{
    e->tags[first] = 0;
    e->tags[first + length - 1] = 0;
}

static void hole_insert(kvt_extents *e, uint32_t first, uint32_t length)
{
    uint32_t *head = bin_of(e, length);
    e->next[first] = *head;
    e->prev[first] = KVT_EXTENT_NONE;
    if (*head != KVT_EXTENT_NONE)
        e->prev[*head] = first;
    *head = first;
    mark_bin(e, length, true);
    set_tags(e, first, length, 0);
}

static void hole_remove(kvt_extents *e, uint32_t first, uint32_t length)
{
    uint32_t *head = bin_of(e, length);
    uint32_t next = e->next[first], prev = e->prev[first];
    if (next != KVT_EXTENT_NONE)
        e->prev[next] = prev;
    if (prev != KVT_EXTENT_NONE)
        e->next[prev] = next;
    else
        *head = next;
    if (*head == KVT_EXTENT_NONE)
        mark_bin(e, length, false);
    clear_tags(e, first, length);
}

/* Smallest hole of at least `length` units among the large ones of one class. */
static uint32_t best_of_class(const kvt_extents *e, uint32_t class, uint32_t length)
{
    uint32_t best = KVT_EXTENT_NONE, best_length = UINT32_MAX;
    for (uint32_t hole = e->large[class]; hole != KVT_EXTENT_NONE; hole = e->next[hole]) {
        uint32_t have = e->tags[hole] & TAG_LENGTH;
        if (have >= length && have < best_length) {
            best = hole;
            best_length = have;
        }
    }
    return best;
}

static uint32_t find_hole(const kvt_extents *e, uint32_t length)
{
    uint32_t bin = find_bin(e, length);
    if (bin != 0)
        return e->bins[bin];
    for (uint32_t class = length < BINS_MAX ? 0 : highest_bit(length); class < LARGE_CLASSES; class ++) {
        uint32_t hole = best_of_class(e, class, length);
        if (hole != KVT_EXTENT_NONE)
            return hole;
    }
    return KVT_EXTENT_NONE;
}

kvt_status kvt_extents_create(uint64_t unit_count, kvt_extents **out)
{
    if (unit_count == 0 || unit_count > KVT_EXTENT_UNITS_MAX - 1)
        return kvt_fail(KVT_INVALID, "a pool holds 1 to %d blocks", KVT_EXTENT_UNITS_MAX - 1);
    uint64_t bin_count = kvt_min_u64(unit_count + 1, BINS_MAX);
    kvt_extents *e = kvt_alloc(sizeof *e);
    if (e == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the pool's tables");
    e->unit_count = (uint32_t)unit_count;
    e->tags = kvt_alloc_array(unit_count, sizeof *e->tags);
    e->next = kvt_alloc_array(unit_count, sizeof *e->next);
    e->prev = kvt_alloc_array(unit_count, sizeof *e->prev);
    e->bins = kvt_alloc_array(bin_count, sizeof *e->bins);
    if (e->tags == NULL || e->next == NULL || e->prev == NULL || e->bins == NULL) {
        kvt_extents_destroy(e);
        return kvt_fail(KVT_NOMEM, "no memory for the pool's tables");
    }
    memset(e->bins, 0xff, bin_count * sizeof *e->bins);
    memset(e->large, 0xff, sizeof e->large);
    hole_insert(e, 0, e->unit_count);
    *out = e;
    return KVT_OK;
}

void kvt_extents_destroy(kvt_extents *e)
{
    if (e == NULL)
        return;
    kvt_free(e->tags);
    kvt_free(e->next);
    kvt_free(e->prev);
    kvt_free(e->bins);
    kvt_free(e);
}

uint32_t kvt_extents_take(kvt_extents *e, uint64_t count)
{
    if (count == 0 || count > e->unit_count - e->used)
        return KVT_EXTENT_NONE;
    uint32_t length = (uint32_t)count;
    uint32_t first = find_hole(e, length);
    if (first == KVT_EXTENT_NONE)
        return KVT_EXTENT_NONE;
    uint32_t have = e->tags[first] & TAG_LENGTH;
    hole_remove(e, first, have);
    if (have > length)
        hole_insert(e, first + length, have - length);
    set_tags(e, first, length, TAG_USED);
    e->used += length;
    e->extent_count++;
    return first;
}

uint32_t kvt_extents_length(const kvt_extents *e, uint32_t first)
{
    if (first >= e->unit_count)
        return 0;
    uint32_t tag = e->tags[first];
    return (tag & TAG_USED) != 0 && (tag & TAG_FIRST) != 0 ? tag & TAG_LENGTH : 0;
}

/* Make [first, first + length) a hole, merged with the holes it touches. */
static void release(kvt_extents *e, uint32_t first, uint32_t length)
{
    uint32_t behind = first + length;
    if (behind < e->unit_count && (e->tags[behind] & TAG_USED) == 0) {
        uint32_t more = e->tags[behind] & TAG_LENGTH;
        hole_remove(e, behind, more);
        length += more;
    }
    if (first > 0 && (e->tags[first - 1] & TAG_USED) == 0) {
        uint32_t more = e->tags[first - 1] & TAG_LENGTH;
        first -= more;
        hole_remove(e, first, more);
        length += more;
    }
    hole_insert(e, first, length);
}

bool kvt_extents_shrink(kvt_extents *e, uint32_t first, uint64_t count)
{
    uint32_t length = kvt_extents_length(e, first);
    if (count == 0 || count > length)
        return false;
    uint32_t rest = length - (uint32_t)count;
    if (rest == 0)
        return true;
    clear_tags(e, first, length);
    set_tags(e, first, (uint32_t)count, TAG_USED);
    e->used -= rest;
    release(e, first + (uint32_t)count, rest);
    return true;
}

bool kvt_extents_give(kvt_extents *e, uint32_t first)
{
    uint32_t length = kvt_extents_length(e, first);
    if (length == 0)
        return false;
    clear_tags(e, first, length);
    e->used -= length;
    e->extent_count--;
    release(e, first, length);
    return true;
}

uint64_t kvt_extents_used(const kvt_extents *e) { return e->used; }
uint64_t kvt_extents_count(const kvt_extents *e) { return e->extent_count; }

uint64_t kvt_extents_largest(const kvt_extents *e)
{
    for (uint32_t class = LARGE_CLASSES; class -- > 0;) {
        uint32_t largest = 0;
        for (uint32_t hole = e->large[class]; hole != KVT_EXTENT_NONE; hole = e->next[hole])
            largest = (uint32_t)kvt_max_u64(largest, e->tags[hole] & TAG_LENGTH);
        if (largest != 0)
            return largest;
    }
    if (e->top == 0)
        return 0;
    uint32_t group = highest_bit(e->top);
    uint32_t word = group * WORD_BITS + highest_bit(e->middle[group]);
    return word * WORD_BITS + highest_bit(e->bottom[word]);
}

/* Holes reachable through bins and classes, each in the right one. */
static uint64_t count_binned(const kvt_extents *e, bool *out_sane)
{
    uint64_t holes = 0;
    uint32_t bin_count = (uint32_t)kvt_min_u64((uint64_t)e->unit_count + 1, BINS_MAX);
    for (uint32_t n = 1; n < bin_count; n++) {
        bool marked = (e->bottom[n / WORD_BITS] >> (n % WORD_BITS) & 1) != 0;
        *out_sane = *out_sane && marked == (e->bins[n] != KVT_EXTENT_NONE);
        for (uint32_t hole = e->bins[n]; hole != KVT_EXTENT_NONE; hole = e->next[hole], holes++)
            *out_sane = *out_sane && e->tags[hole] == (TAG_FIRST | n);
    }
    for (uint32_t c = 0; c < LARGE_CLASSES; c++) {
        for (uint32_t hole = e->large[c]; hole != KVT_EXTENT_NONE; hole = e->next[hole], holes++)
            *out_sane = *out_sane && highest_bit(e->tags[hole] & TAG_LENGTH) == c;
    }
    return holes;
}

bool kvt_extents_consistent(const kvt_extents *e)
{
    uint64_t used = 0, extents = 0, holes = 0;
    bool after_hole = false, sane = true;
    for (uint32_t first = 0; first < e->unit_count;) {
        uint32_t tag = e->tags[first], length = tag & TAG_LENGTH;
        bool hole = (tag & TAG_USED) == 0;
        if ((tag & TAG_FIRST) == 0 || length == 0 || length > e->unit_count - first || (hole && after_hole))
            return false;
        if (length > 1 && e->tags[first + length - 1] != (tag & ~TAG_FIRST))
            return false;
        for (uint32_t i = 1; i + 1 < length; i++)
            sane = sane && e->tags[first + i] == 0;
        holes += hole;
        extents += !hole;
        used += hole ? 0 : length;
        after_hole = hole;
        first += length;
    }
    return count_binned(e, &sane) == holes && sane && used == e->used && extents == e->extent_count;
}
