/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of records by generation and sequence. Entries come in chunks, so that their addresses stay while others are
 * added, and a stored sequence, which is not trusted, can reserve no more than one chunk.
 */
#include "tiers/rocks_ring.h"

rocks_generation *rocks_ring_add(rocks_ring *ring, uint32_t number, kvt_rocks_cf *cf)
{
    if (ring->count == sizeof ring->generations / sizeof ring->generations[0])
        return NULL;
    rocks_generation *generation = kvt_alloc(sizeof *generation);
    if (generation == NULL)
        return NULL;
    generation->number = number;
    generation->cf = cf;
    ring->generations[ring->count++] = generation;
    return generation;
}

void rocks_ring_remove(rocks_ring *ring, rocks_generation *generation)
{
    uint32_t at = 0;
    while (at < ring->count && ring->generations[at] != generation)
        at++;
    if (at == ring->count)
        return;
    for (ring->count--; at < ring->count; at++)
        ring->generations[at] = ring->generations[at + 1];
    for (uint32_t i = 0; i < ROCKS_CHUNKS_MAX; i++)
        kvt_free(generation->chunks[i]);
    kvt_free(generation);
}

rocks_generation *rocks_ring_find(const rocks_ring *ring, uint64_t number)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        if (ring->generations[i]->number == number)
            return ring->generations[i];
    }
    return NULL;
}

rocks_generation *rocks_ring_newest(const rocks_ring *ring)
{
    return ring->count != 0 ? ring->generations[ring->count - 1] : NULL;
}

rocks_entry *rocks_generation_entry(const rocks_generation *generation, uint64_t sequence)
{
    if (sequence == 0 || sequence > KVT_ROCKS_SEQUENCE_MAX)
        return NULL;
    rocks_entry *chunk = generation->chunks[(sequence - 1) / ROCKS_CHUNK_ENTRIES];
    return chunk != NULL ? &chunk[(sequence - 1) % ROCKS_CHUNK_ENTRIES] : NULL;
}

bool rocks_generation_reserve(rocks_generation *generation, uint32_t sequence)
{
    rocks_entry **chunk = &generation->chunks[(sequence - 1) / ROCKS_CHUNK_ENTRIES];
    if (*chunk == NULL)
        *chunk = kvt_alloc_array(ROCKS_CHUNK_ENTRIES, sizeof **chunk);
    return *chunk != NULL;
}

void rocks_ring_enter(rocks_ring *ring, rocks_generation *generation, uint32_t sequence, const kvt_record *record)
{
    rocks_entry *entry = rocks_generation_entry(generation, sequence);
    entry->record = *record;
    entry->state = ROCKS_ENTRY_LIVE;
    generation->last = sequence > generation->last ? sequence : generation->last;
    ring->record_count++;
    ring->record_bytes += record->stored_bytes;
}

void rocks_ring_forget(rocks_ring *ring, rocks_entry *entry)
{
    entry->state = ROCKS_ENTRY_NONE;
    ring->record_count--;
    ring->record_bytes -= entry->record.stored_bytes;
}

void rocks_ring_drop(rocks_ring *ring, rocks_generation *generation, uint32_t sequence)
{
    rocks_entry *entry = rocks_generation_entry(generation, sequence);
    rocks_ring_forget(ring, entry);
    entry->state = ROCKS_ENTRY_DROPPED;
    entry->next_dropped = generation->first_dropped;
    generation->first_dropped = sequence;
}

bool rocks_ring_next_dropped(rocks_ring *ring, kvt_rocks_row *out)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        rocks_generation *generation = ring->generations[i];
        if (generation->first_dropped == 0)
            continue;
        rocks_entry *entry = rocks_generation_entry(generation, generation->first_dropped);
        out->record = entry->record;
        out->generation = generation->number;
        out->sequence = generation->first_dropped;
        generation->first_dropped = entry->next_dropped;
        entry->state = ROCKS_ENTRY_NONE;
        return true;
    }
    return false;
}
