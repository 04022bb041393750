/* SPDX-License-Identifier: Apache-2.0
 *
 * S3-FIFO: who leaves RAM next. New blobs enter a small queue (10 % of the bytes); what was touched there moves on to
 * the main queue, what was not leaves and is remembered as a ghost, so that its return goes straight into the main
 * queue. The main queue gives each touch another round. The one idea: most blobs of a prompt are used once and must not
 * push out those that are shared.
 *
 * Ghosts are a window over the last 90 % of the capacity that left the small queue; a hit does not take one out. That
 * is the variant the published hit ratios of docs/policies.md were made with.
 *
 * Not here: capacity (the caller evicts until there is room), locks, and what becomes of a victim.
 */
#include "engine/policy.h"

typedef enum queue_id { QUEUE_SMALL = 0, QUEUE_MAIN = 1, QUEUE_COUNT = 2, QUEUE_NONE = 2 } queue_id;

typedef struct node {
    uint64_t key_hash;
    uint64_t bytes;
    uint32_t younger; /* towards the end where blobs enter */
    uint32_t older;
    uint8_t queue; /* queue_id + 1; 0: not there, as zeroed memory says */
    uint8_t frequency;
    uint8_t hits;
} node;

typedef struct queue {
    uint32_t youngest;
    uint32_t oldest;
    uint32_t count;
    uint64_t bytes;
} queue;

/* A ring of the keys that left the small queue, oldest first, and a table from key hash to its place in the ring. */
typedef struct ghost {
    uint64_t key_hash;
    uint64_t position; /* bytes that had left before it */
} ghost;

typedef struct ghosts {
    ghost *ring;
    uint32_t *slots; /* ring index + 1; 0: empty. Linear probing, deletion by shifting back */
    uint32_t ring_size;
    uint32_t oldest;
    uint32_t count;
    uint32_t slot_shift; /* 64 - log2(slots) */
    uint32_t slot_mask;
    uint64_t position; /* bytes that have left */
    uint64_t window;
} ghosts;

struct kvt_s3 {
    node *nodes;
    uint32_t id_max;
    uint64_t small_bytes_max;
    queue queues[QUEUE_COUNT];
    ghosts ghosts;
};

enum {
    SMALL_PERCENT = 10,
    GHOST_BYTES_MIN = 4096, /* smallest blob the ring is sized for: a record image is larger */
    GHOST_COUNT_MIN = 1024
};

/* ------------------------------------------------------------------ ghosts */

static kvt_status ghosts_init(ghosts *all, uint32_t id_max, uint64_t capacity_bytes)
{
    uint64_t wanted = kvt_max_u64(capacity_bytes / GHOST_BYTES_MIN, GHOST_COUNT_MIN);
    all->ring_size = (uint32_t)kvt_min_u64(wanted, id_max);
    all->window = capacity_bytes - capacity_bytes / 10;
    uint32_t bits = 1;
    while ((UINT64_C(1) << bits) < 2 * (uint64_t)all->ring_size)
        bits++;
    all->slot_shift = 64 - bits;
    all->slot_mask = (uint32_t)((UINT64_C(1) << bits) - 1);
    all->ring = kvt_alloc_array(all->ring_size, sizeof *all->ring);
    all->slots = kvt_alloc_array((size_t)all->slot_mask + 1, sizeof *all->slots);
    return all->ring && all->slots ? KVT_OK : KVT_NOMEM;
}

static uint32_t ghost_home(const ghosts *all, uint64_t key_hash)
{
    return (uint32_t)((key_hash * UINT64_C(0x9e3779b97f4a7c15)) >> all->slot_shift);
}

/* The slot that holds key_hash, or the empty one where it would go. */
static uint32_t ghost_find(const ghosts *all, uint64_t key_hash)
{
    uint32_t slot = ghost_home(all, key_hash);
    while (all->slots[slot] && all->ring[all->slots[slot] - 1].key_hash != key_hash)
        slot = (slot + 1) & all->slot_mask;
    return slot;
}

static void ghost_clear_slot(ghosts *all, uint32_t hole)
{
    for (uint32_t next = (hole + 1) & all->slot_mask; all->slots[next]; next = (next + 1) & all->slot_mask) {
        uint32_t home = ghost_home(all, all->ring[all->slots[next] - 1].key_hash);
        if (((next - home) & all->slot_mask) < ((next - hole) & all->slot_mask))
            continue; /* it would land before its home */
        all->slots[hole] = all->slots[next];
        hole = next;
    }
    all->slots[hole] = 0;
}

static void ghost_drop_oldest(ghosts *all)
{
    uint32_t slot = ghost_find(all, all->ring[all->oldest].key_hash);
    if (all->slots[slot] == all->oldest + 1) /* else a later ghost of the same hash has the slot */
        ghost_clear_slot(all, slot);
    all->oldest = (all->oldest + 1) % all->ring_size;
    all->count--;
}

static void ghost_add(ghosts *all, uint64_t key_hash, uint64_t bytes)
{
    if (all->count == all->ring_size)
        ghost_drop_oldest(all);
    uint32_t place = (uint32_t)(((uint64_t)all->oldest + all->count) % all->ring_size);
    uint32_t slot = ghost_find(all, key_hash);
    all->ring[place] = (ghost){.key_hash = key_hash, .position = all->position};
    all->slots[slot] = place + 1;
    all->count++;
    all->position += bytes;
    while (all->count && all->position - all->ring[all->oldest].position > all->window)
        ghost_drop_oldest(all);
}

static bool ghost_has(const ghosts *all, uint64_t key_hash) { return all->slots[ghost_find(all, key_hash)] != 0; }

/* ------------------------------------------------------------------ queues */

static void queue_push(kvt_s3 *s3, queue_id to, uint32_t id)
{
    queue *q = &s3->queues[to];
    node *n = &s3->nodes[id];
    n->queue = (uint8_t)(to + 1);
    n->younger = KVT_S3_NONE;
    n->older = q->youngest;
    if (q->youngest != KVT_S3_NONE)
        s3->nodes[q->youngest].younger = id;
    else
        q->oldest = id;
    q->youngest = id;
    q->count++;
    q->bytes += n->bytes;
}

static void queue_take(kvt_s3 *s3, uint32_t id)
{
    node *n = &s3->nodes[id];
    queue *q = &s3->queues[n->queue - 1];
    if (n->younger != KVT_S3_NONE)
        s3->nodes[n->younger].older = n->older;
    else
        q->youngest = n->older;
    if (n->older != KVT_S3_NONE)
        s3->nodes[n->older].younger = n->younger;
    else
        q->oldest = n->younger;
    n->queue = 0;
    q->count--;
    q->bytes -= n->bytes;
}

/* ------------------------------------------------------------------- public */

kvt_status kvt_s3_create(uint32_t id_max, uint64_t capacity_bytes, kvt_s3 **out)
{
    if (id_max == 0 || id_max == UINT32_MAX || capacity_bytes == 0)
        return kvt_fail(KVT_INVALID, "S3-FIFO needs at least one id and a capacity; got %u ids", id_max);
    kvt_s3 *s3 = kvt_alloc(sizeof *s3);
    if (!s3)
        return KVT_NOMEM;
    s3->id_max = id_max;
    s3->small_bytes_max = capacity_bytes / (100 / SMALL_PERCENT);
    for (int i = 0; i < QUEUE_COUNT; i++)
        s3->queues[i].youngest = s3->queues[i].oldest = KVT_S3_NONE;
    s3->nodes = kvt_alloc_array(id_max, sizeof *s3->nodes);
    if (!s3->nodes || ghosts_init(&s3->ghosts, id_max, capacity_bytes) < 0) {
        kvt_s3_destroy(s3);
        return KVT_NOMEM;
    }
    *out = s3;
    return KVT_OK;
}

void kvt_s3_destroy(kvt_s3 *s3)
{
    if (!s3)
        return;
    kvt_free(s3->ghosts.slots);
    kvt_free(s3->ghosts.ring);
    kvt_free(s3->nodes);
    kvt_free(s3);
}

bool kvt_s3_contains(const kvt_s3 *s3, uint32_t id) { return id < s3->id_max && s3->nodes[id].queue != 0; }

void kvt_s3_insert(kvt_s3 *s3, uint32_t id, uint64_t key_hash, uint64_t bytes)
{
    assert(id < s3->id_max);
    if (kvt_s3_contains(s3, id)) {
        kvt_s3_touch(s3, id);
        return;
    }
    s3->nodes[id] = (node){.key_hash = key_hash, .bytes = bytes};
    queue_push(s3, ghost_has(&s3->ghosts, key_hash) ? QUEUE_MAIN : QUEUE_SMALL, id);
}

void kvt_s3_touch(kvt_s3 *s3, uint32_t id)
{
    if (!kvt_s3_contains(s3, id))
        return;
    node *n = &s3->nodes[id];
    if (n->frequency < KVT_S3_FREQUENCY_MAX)
        n->frequency++;
    if (n->hits < UINT8_MAX)
        n->hits++;
}

void kvt_s3_remove(kvt_s3 *s3, uint32_t id)
{
    if (kvt_s3_contains(s3, id))
        queue_take(s3, id);
}

uint32_t kvt_s3_frequency(const kvt_s3 *s3, uint32_t id)
{
    return kvt_s3_contains(s3, id) ? s3->nodes[id].frequency : 0;
}

uint32_t kvt_s3_hits(const kvt_s3 *s3, uint32_t id) { return id < s3->id_max ? s3->nodes[id].hits : 0; }

uint64_t kvt_s3_bytes(const kvt_s3 *s3) { return s3->queues[QUEUE_SMALL].bytes + s3->queues[QUEUE_MAIN].bytes; }

uint32_t kvt_s3_count(const kvt_s3 *s3) { return s3->queues[QUEUE_SMALL].count + s3->queues[QUEUE_MAIN].count; }

/* Whose turn it is: the small queue while it is above its share; either one when the other has no steps left. */
static queue_id next_queue(const kvt_s3 *s3, const uint64_t steps[QUEUE_COUNT])
{
    const queue *small = &s3->queues[QUEUE_SMALL];
    bool small_can = small->count && steps[QUEUE_SMALL];
    bool main_can = s3->queues[QUEUE_MAIN].count && steps[QUEUE_MAIN];
    if (small_can && (small->bytes > s3->small_bytes_max || !main_can))
        return QUEUE_SMALL;
    return main_can ? QUEUE_MAIN : QUEUE_NONE;
}

static uint32_t take_victim(kvt_s3 *s3, uint32_t id)
{
    node *n = &s3->nodes[id];
    if (n->queue == QUEUE_SMALL + 1)
        ghost_add(&s3->ghosts, n->key_hash, n->bytes);
    queue_take(s3, id);
    return id;
}

/* Those the rule prefers were all refused: whoever may go, least valuable first. */
static uint32_t evict_any(kvt_s3 *s3, bool (*may)(void *arg, uint32_t id), void *arg)
{
    for (uint32_t frequency = 0; frequency <= KVT_S3_FREQUENCY_MAX; frequency++)
        for (int q = QUEUE_SMALL; q < QUEUE_COUNT; q++)
            for (uint32_t id = s3->queues[q].oldest; id != KVT_S3_NONE; id = s3->nodes[id].younger)
                if (s3->nodes[id].frequency == frequency && may(arg, id))
                    return take_victim(s3, id);
    return KVT_S3_NONE;
}

/* A step looks at the oldest blob of a queue and moves it on. Without refusals one walk through the small queue and
 * FREQUENCY_MAX + 1 through the main queue always find a victim; with refusals that is where the search changes its
 * ways. */
uint32_t kvt_s3_evict(kvt_s3 *s3, bool (*may)(void *arg, uint32_t id), void *arg)
{
    const uint64_t walks = KVT_S3_FREQUENCY_MAX + 1;
    uint64_t steps[QUEUE_COUNT] = {s3->queues[QUEUE_SMALL].count, walks * s3->queues[QUEUE_MAIN].count};
    for (queue_id from; (from = next_queue(s3, steps)) != QUEUE_NONE;) {
        uint32_t id = s3->queues[from].oldest;
        node *n = &s3->nodes[id];
        steps[from]--;
        if (n->frequency == 0 && (!may || may(arg, id)))
            return take_victim(s3, id);
        queue_take(s3, id);
        bool promoted = from == QUEUE_SMALL && n->frequency > 0;
        if (promoted)
            n->frequency = 0;
        else if (n->frequency > 0)
            n->frequency--;
        steps[QUEUE_MAIN] += promoted ? walks : 0;
        queue_push(s3, promoted ? QUEUE_MAIN : from, id);
    }
    return may ? evict_any(s3, may, arg) : KVT_S3_NONE;
}

size_t kvt_s3_order(const kvt_s3 *s3, uint32_t *ids, size_t capacity)
{
    size_t count = 0;
    for (uint32_t frequency = 0; frequency <= KVT_S3_FREQUENCY_MAX; frequency++)
        for (int q = QUEUE_SMALL; q < QUEUE_COUNT; q++)
            for (uint32_t id = s3->queues[q].oldest; id != KVT_S3_NONE && count < capacity; id = s3->nodes[id].younger)
                if (s3->nodes[id].frequency == frequency)
                    ids[count++] = id;
    return count;
}
