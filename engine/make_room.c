/* SPDX-License-Identifier: Apache-2.0
 *
 * Room that RAM's own eviction does not give: in the quota of a space, and in a full part of the index. A few records
 * that could go are looked at; the least used of them goes, and among equals the deepest, since a prefix is worth more
 * than a tail. What the asking request itself brings stays: a prompt larger than its quota keeps its beginning.
 */
#include "engine/request.h"

enum { LOOK_MAX = 8192, CANDIDATES_MAX = 16 };

typedef struct search {
    kvt_engine *engine;
    const kvt_ticket_state *request;
    uint32_t space;
    bool any_space;
    uint32_t begin, end; /* ids */
    /* the best so far */
    uint32_t id, hits, depth;
} search;

/* A chunk knows its place in its prompt. */
static bool is_of_request(const kvt_ticket_state *request, const kvt_entry *entry)
{
    return request->keys != NULL && entry->depth >= request->first_chunk &&
           entry->depth - request->first_chunk < request->chunk_count &&
           kvt_key_equal(&request->keys[entry->depth + 1], &entry->key);
}

/* With the shard locked. */
static bool may_go(const search *s, const kvt_entry *entry)
{
    return entry->live && (s->any_space || entry->space == s->space) && kvt_entry_is_idle(entry) &&
           !is_of_request(s->request, entry);
}

/* Looks at one id; true: it was a candidate. */
static bool consider(search *s, uint32_t id)
{
    kvt_entry *entry = kvt_index_lock_id(s->engine->index, id);
    bool candidate = may_go(s, entry);
    uint32_t depth = entry->depth;
    kvt_index_unlock_entry(s->engine->index, entry);
    if (!candidate)
        return false;
    uint32_t hits = kvt_ram_hits(s->engine, id);
    if (s->id == KVT_ENTRY_NONE || hits < s->hits || (hits == s->hits && depth > s->depth)) {
        s->id = id;
        s->hits = hits;
        s->depth = depth;
    }
    return true;
}

/* From where the last search stopped, once round at most. */
static void look_around(search *s)
{
    const kvt_index *index = s->engine->index;
    uint32_t first = s->begin + atomic_load(&s->engine->room_hand) % (s->end - s->begin), at = first;
    bool round = false;
    for (uint32_t looked = 0, candidates = 0; looked < LOOK_MAX && candidates < CANDIDATES_MAX; looked++) {
        uint32_t id = at < s->end ? kvt_index_next_used(index, at) : s->end;
        if (round && id >= first)
            break;
        round = round || id >= s->end;
        at = id < s->end ? id + 1 : s->begin;
        candidates += id < s->end && consider(s, id);
    }
    atomic_store(&s->engine->room_hand, at - s->begin);
}

static bool forget_best(search *s)
{
    if (s->id == KVT_ENTRY_NONE)
        return false;
    kvt_entry *entry = kvt_index_lock_id(s->engine->index, s->id);
    if (may_go(s, entry))
        return kvt_entry_forget(s->engine, entry);
    kvt_index_unlock_entry(s->engine->index, entry);
    return true; /* somebody was faster: look again */
}

bool kvt_make_room(kvt_unit *unit, bool in_index)
{
    kvt_engine *engine = unit->engine;
    search s = {.engine = engine, .space = unit->space->slot, .any_space = in_index, .id = KVT_ENTRY_NONE};
    if (in_index)
        kvt_index_ids_beside(engine->index, unit->space->slot, &unit->key, &s.begin, &s.end);
    else
        s.end = kvt_index_id_end(engine->index);
    if (!kvt_unit_touch_begin(unit)) /* keeps the request while its keys are read */
        return false;
    s.request = unit->request;
    look_around(&s);
    bool room = forget_best(&s);
    kvt_unit_touch_end(unit);
    return room;
}
