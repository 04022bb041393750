/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a ticket: a slot is taken, chunks are handed out to units as those become free, outcomes come in, the
 * request completes exactly once, its completion is taken, the slot is free again. See request.h for how an early end
 * works.
 */
#include "engine/requests_int.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ARENA_KEEP_BYTES = 1 << 20, SLOT_BITS = 16 };

/* ---- create, destroy ---- */

kvt_status kvt_requests_create(kvt_engine *engine, kvt_requests **out)
{
    kvt_requests *requests = kvt_alloc(sizeof *requests);
    if (requests == NULL)
        return KVT_NOMEM;
    pthread_mutex_init(&requests->lock, NULL);
    pthread_cond_init(&requests->changed, NULL);
    pthread_cond_init(&requests->clock, NULL);
    requests->engine = engine;
    requests->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    requests->slot_count = engine->options.inflight_max;
    requests->slots = kvt_alloc_array(requests->slot_count, sizeof *requests->slots);
    requests->units = kvt_alloc_array(KVT_UNITS_MAX, sizeof *requests->units);
    engine->requests = requests;
    if (requests->slots == NULL || requests->units == NULL)
        return KVT_NOMEM;
    for (uint32_t i = requests->slot_count; i-- > 0;) {
        requests->slots[i].queue_next = requests->free_slots;
        requests->free_slots = &requests->slots[i];
    }
    for (uint32_t i = 0; i < KVT_UNITS_MAX; i++) {
        requests->units[i].engine = engine;
        requests->units[i].request_next = requests->free_units;
        requests->free_units = &requests->units[i];
    }
    requests->free_unit_count = KVT_UNITS_MAX;
    requests->has_thread = pthread_create(&requests->thread, NULL, kvt_requests_keep_time, requests) == 0;
    if (!requests->has_thread)
        return kvt_fail(KVT_NOMEM, "the thread of deadlines cannot be started");
    *out = requests;
    return KVT_OK;
}

void kvt_requests_destroy(kvt_requests *requests)
{
    if (requests == NULL)
        return;
    if (requests->has_thread) {
        pthread_mutex_lock(&requests->lock);
        requests->stopping = true;
        pthread_cond_broadcast(&requests->clock);
        pthread_mutex_unlock(&requests->lock);
        pthread_join(requests->thread, NULL);
    }
    for (uint32_t i = 0; requests->slots != NULL && i < requests->slot_count; i++)
        kvt_free(requests->slots[i].arena);
    kvt_free(requests->slots);
    kvt_free(requests->units);
    if (requests->event >= 0)
        close(requests->event);
    pthread_mutex_destroy(&requests->lock);
    pthread_cond_destroy(&requests->changed);
    pthread_cond_destroy(&requests->clock);
    kvt_free(requests);
}

/* ---- slots ---- */

/* A slot, cleared but for its arena; NULL: none is free. */
static kvt_ticket_state *take_slot(kvt_requests *requests)
{
    pthread_mutex_lock(&requests->lock);
    kvt_ticket_state *request = requests->draining ? NULL : requests->free_slots;
    if (request != NULL) {
        requests->free_slots = request->queue_next;
        *request = (kvt_ticket_state){.arena = request->arena, .arena_bytes = request->arena_bytes};
    }
    pthread_mutex_unlock(&requests->lock);
    return request;
}

kvt_status kvt_request_begin(kvt_engine *engine, uint64_t arena_bytes, kvt_ticket_state **out)
{
    kvt_ticket_state *request = take_slot(engine->requests);
    if (request == NULL)
        return kvt_fail(KVT_BUSY, "%u tickets are under way or not yet polled; poll first, or raise inflight_max",
                        engine->requests->slot_count);
    if (request->arena_bytes < arena_bytes) {
        kvt_free(request->arena);
        request->arena = kvt_alloc(arena_bytes);
        request->arena_bytes = request->arena != NULL ? arena_bytes : 0;
    }
    if (request->arena_bytes < arena_bytes) {
        kvt_request_abandon(engine, request);
        return kvt_fail(KVT_NOMEM, "no memory for a request of %" PRIu64 " bytes", arena_bytes);
    }
    *out = request;
    return KVT_OK;
}

static void free_slot(kvt_requests *requests, kvt_ticket_state *request)
{
    if (request->arena_bytes > ARENA_KEEP_BYTES) {
        kvt_free(request->arena);
        request->arena = NULL;
        request->arena_bytes = 0;
    }
    request->id = 0;
    request->queue_next = requests->free_slots;
    requests->free_slots = request;
}

void kvt_request_abandon(kvt_engine *engine, kvt_ticket_state *request)
{
    pthread_mutex_lock(&engine->requests->lock);
    free_slot(engine->requests, request);
    pthread_mutex_unlock(&engine->requests->lock);
}

/* ---- handing out chunks ---- */

static uint32_t next_chunk(const kvt_ticket_state *request)
{
    return request->backwards ? request->chunk_count - 1 - request->started : request->started;
}

static bool all_started(const kvt_ticket_state *request)
{
    if (request->ending || request->started == request->chunk_count)
        return true;
    return !request->backwards && request->started >= request->limit;
}

static void prepare_unit(kvt_unit *unit, kvt_ticket_state *request, uint32_t chunk)
{
    kvt_engine *engine = unit->engine;
    *unit = (kvt_unit){.engine = engine,
                       .space = request->space,
                       .verb = request->verb,
                       .chunk = chunk,
                       .entry = KVT_ENTRY_NONE,
                       .request = request,
                       .cost_us = request->cost_us};
    unit->urgent = (request->flags & KVT_REQUEST_PRIORITY) != 0;
    unit->write_through = (request->flags & KVT_REQUEST_WRITE_THROUGH) != 0 && engine->lower != NULL;
    kvt_request_describe_chunk(request, unit);
    kvt_space_acquire(request->space);
    unit->request_next = request->units;
    if (request->units != NULL)
        request->units->request_previous = unit;
    request->units = unit;
    request->started++;
    request->under_way++;
}

/* With the lock held: give free units to requests in order; returns the units to push, linked by job.next. */
static kvt_unit *hand_out(kvt_requests *requests)
{
    kvt_unit *list = NULL, **tail = &list;
    while (requests->free_units != NULL && requests->ready_head != NULL) {
        kvt_ticket_state *request = requests->ready_head;
        if (all_started(request)) {
            requests->ready_head = request->queue_next;
            continue;
        }
        kvt_unit *unit = requests->free_units;
        requests->free_units = unit->request_next;
        requests->free_unit_count--;
        prepare_unit(unit, request, next_chunk(request));
        unit->job.next = NULL;
        *tail = unit;
        tail = (kvt_unit **)&unit->job.next;
    }
    return list;
}

void kvt_unit_push(kvt_unit *unit, void (*run)(kvt_job *, uint8_t *))
{
    unit->job.run = run;
    kvt_workers_push(unit->engine->workers, &unit->job, unit->urgent);
}

void kvt_units_wake(kvt_engine *engine, kvt_unit *waiters)
{
    while (waiters != NULL) {
        kvt_unit *unit = waiters;
        waiters = (kvt_unit *)unit->job.next;
        kvt_workers_push(engine->workers, &unit->job, unit->urgent);
    }
}

static void push_new(kvt_unit *list)
{
    while (list != NULL) {
        kvt_unit *unit = list;
        list = (kvt_unit *)unit->job.next;
        bool stores = unit->verb == KVT_VERB_SAVE || unit->verb == KVT_VERB_PUT;
        kvt_unit_push(unit, stores ? kvt_store_run : kvt_fetch_run);
    }
}

static void append_ready(kvt_requests *requests, kvt_ticket_state *request)
{
    request->queue_next = NULL;
    if (requests->ready_head == NULL) {
        requests->ready_head = request;
    } else if ((request->flags & KVT_REQUEST_PRIORITY) != 0) {
        request->queue_next = requests->ready_head;
        requests->ready_head = request;
        return;
    } else {
        requests->ready_tail->queue_next = request;
    }
    requests->ready_tail = request;
}

static void remove_ready(kvt_requests *requests, kvt_ticket_state *request)
{
    kvt_ticket_state *previous = NULL;
    for (kvt_ticket_state *at = requests->ready_head; at != NULL; previous = at, at = at->queue_next) {
        if (at != request)
            continue;
        if (previous == NULL)
            requests->ready_head = at->queue_next;
        else
            previous->queue_next = at->queue_next;
        if (requests->ready_tail == at)
            requests->ready_tail = previous;
        return;
    }
}

/* ---- completing ---- */

static void link_active(kvt_requests *requests, kvt_ticket_state *request)
{
    request->active_previous = NULL;
    request->active_next = requests->active_head;
    if (requests->active_head != NULL)
        requests->active_head->active_previous = request;
    requests->active_head = request;
    requests->active++;
}

static void unlink_active(kvt_requests *requests, kvt_ticket_state *request)
{
    if (request->active_previous != NULL)
        request->active_previous->active_next = request->active_next;
    else
        requests->active_head = request->active_next;
    if (request->active_next != NULL)
        request->active_next->active_previous = request->active_previous;
    requests->active--;
}

static void append_done(kvt_requests *requests, kvt_ticket_state *request)
{
    request->queue_next = NULL;
    if (requests->done_head == NULL)
        requests->done_head = request;
    else
        requests->done_tail->queue_next = request;
    requests->done_tail = request;
}

/* With the lock held. */
static void complete(kvt_requests *requests, kvt_ticket_state *request)
{
    remove_ready(requests, request);
    request->done = true;
    unlink_active(requests, request);
    kvt_request_conclude(requests->engine, request);
    append_done(requests, request);
    pthread_cond_broadcast(&requests->changed);
    uint64_t one = 1;
    if (requests->event >= 0 && write(requests->event, &one, sizeof one) < 0) {
        /* only when the counter is full, and then it is readable already */
    }
}

static void complete_if_through(kvt_requests *requests, kvt_ticket_state *request)
{
    bool through = request->ending ? request->touching == 0 : request->under_way == 0 && all_started(request);
    if (!request->done && through)
        complete(requests, request);
}

void kvt_request_start(kvt_engine *engine, kvt_ticket_state *request, kvt_ticket *out)
{
    kvt_requests *requests = engine->requests;
    request->start_ns = kvt_now_ns();
    pthread_mutex_lock(&requests->lock);
    uint64_t slot = (uint64_t)(request - requests->slots);
    request->id = ++requests->ticket_count << SLOT_BITS | slot;
    *out = request->id;
    link_active(requests, request);
    append_ready(requests, request);
    complete_if_through(requests, request);
    kvt_unit *list = hand_out(requests);
    if (request->deadline_ns != 0)
        pthread_cond_signal(&requests->clock);
    pthread_mutex_unlock(&requests->lock);
    push_new(list);
}

/* ---- units ---- */

static void unlink_unit(kvt_ticket_state *request, kvt_unit *unit)
{
    if (unit->request_previous != NULL)
        unit->request_previous->request_next = unit->request_next;
    else
        request->units = unit->request_next;
    if (unit->request_next != NULL)
        unit->request_next->request_previous = unit->request_previous;
}

/* The request goes on without the unit. */
static void detach(kvt_ticket_state *request, kvt_unit *unit)
{
    unlink_unit(request, unit);
    unit->request = NULL;
    request->under_way--;
}

bool kvt_unit_touch_begin(kvt_unit *unit)
{
    kvt_requests *requests = unit->engine->requests;
    pthread_mutex_lock(&requests->lock);
    kvt_ticket_state *request = unit->request;
    bool needed = request != NULL && !request->ending && (request->backwards || unit->chunk < request->limit);
    if (needed) {
        unit->touching = true;
        request->touching++;
    }
    pthread_mutex_unlock(&requests->lock);
    return needed;
}

void kvt_unit_touch_end(kvt_unit *unit)
{
    kvt_requests *requests = unit->engine->requests;
    pthread_mutex_lock(&requests->lock);
    kvt_ticket_state *request = unit->request;
    unit->touching = false;
    request->touching--;
    if (request->ending) {
        detach(request, unit);
        complete_if_through(requests, request);
    }
    pthread_mutex_unlock(&requests->lock);
}

void kvt_unit_note_entry(kvt_unit *unit, uint32_t id)
{
    kvt_requests *requests = unit->engine->requests;
    pthread_mutex_lock(&requests->lock);
    if (unit->request != NULL && !unit->request->done)
        unit->request->ids[unit->chunk] = id;
    pthread_mutex_unlock(&requests->lock);
}

static void report_outcome(kvt_requests *requests, kvt_ticket_state *request, kvt_unit *unit)
{
    unlink_unit(request, unit);
    request->under_way--;
    if (!request->done)
        request->outcomes[unit->chunk] = unit->outcome;
    /* Behind a chunk that is not there, none is of use. */
    bool prefix = request->verb == KVT_VERB_LOAD || request->verb == KVT_VERB_PREFETCH ||
                  (request->verb == KVT_VERB_SAVE && !request->backwards && unit->outcome.tiers == 0);
    if (prefix && unit->outcome.status != KVT_OK && unit->chunk < request->limit)
        request->limit = unit->chunk;
    complete_if_through(requests, request);
}

void kvt_unit_finish(kvt_unit *unit)
{
    kvt_requests *requests = unit->engine->requests;
    kvt_space *space = unit->space;
    pthread_mutex_lock(&requests->lock);
    if (unit->request != NULL)
        report_outcome(requests, unit->request, unit);
    unit->request = NULL;
    unit->request_next = requests->free_units;
    requests->free_units = unit;
    requests->free_unit_count++;
    if (requests->free_unit_count == KVT_UNITS_MAX)
        pthread_cond_broadcast(&requests->changed);
    kvt_unit *list = hand_out(requests);
    pthread_mutex_unlock(&requests->lock);
    kvt_space_release(space);
    push_new(list);
}

/* ---- ending early ---- */

/* With the lock held: units that do not touch the caller's bytes right now are let go. */
static void detach_units(kvt_ticket_state *request)
{
    kvt_unit *unit = request->units;
    while (unit != NULL) {
        kvt_unit *next = unit->request_next;
        if (!unit->touching)
            detach(request, unit);
        unit = next;
    }
}

void kvt_request_end_early(kvt_requests *requests, kvt_ticket_state *request, kvt_status cause)
{
    if (request->done || request->ending)
        return;
    request->ending = true;
    request->end_cause = cause;
    detach_units(request);
    complete_if_through(requests, request);
}

void kvt_requests_drain(kvt_engine *engine, uint64_t deadline_ns)
{
    kvt_requests *requests = engine->requests;
    struct timespec until = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    pthread_mutex_lock(&requests->lock);
    requests->draining = true;
    int waited = 0;
    while ((requests->active != 0 || requests->free_unit_count != KVT_UNITS_MAX) && waited == 0)
        waited = pthread_cond_clockwait(&requests->changed, &requests->lock, CLOCK_MONOTONIC, &until);
    for (kvt_ticket_state *request = requests->active_head, *next; request != NULL; request = next) {
        next = request->active_next;
        kvt_request_end_early(requests, request, KVT_CANCELLED);
    }
    /* Buffers of the pool are with the device until it answers: this wait is the device's. */
    while (requests->free_unit_count != KVT_UNITS_MAX)
        pthread_cond_wait(&requests->changed, &requests->lock);
    pthread_mutex_unlock(&requests->lock);
}

/* ---- taking completions ---- */

static kvt_ticket_state *slot_of(kvt_requests *requests, kvt_ticket ticket)
{
    uint64_t slot = ticket & ((UINT64_C(1) << SLOT_BITS) - 1);
    if (ticket == 0 || slot >= requests->slot_count || requests->slots[slot].id != ticket)
        return NULL;
    return &requests->slots[slot];
}

static void take_done(kvt_requests *requests, kvt_ticket_state *request, kvt_completion *out)
{
    kvt_ticket_state *previous = NULL;
    for (kvt_ticket_state *at = requests->done_head; at != request; at = at->queue_next)
        previous = at;
    if (previous == NULL)
        requests->done_head = request->queue_next;
    else
        previous->queue_next = request->queue_next;
    if (requests->done_tail == request)
        requests->done_tail = previous;
    *out = request->completion;
    free_slot(requests, request);
    uint64_t seen;
    if (requests->done_head == NULL && requests->event >= 0 && read(requests->event, &seen, sizeof seen) < 0) {
        /* not readable: nothing to reset */
    }
}

size_t kvt_poll(kvt_engine *engine, kvt_completion *out, size_t capacity)
{
    if (kvt_engine_enter(engine) != KVT_OK || out == NULL)
        return 0;
    kvt_requests *requests = engine->requests;
    size_t count = 0;
    pthread_mutex_lock(&requests->lock);
    while (count < capacity && requests->done_head != NULL)
        take_done(requests, requests->done_head, &out[count++]);
    pthread_mutex_unlock(&requests->lock);
    return count;
}

static kvt_status wait_done(kvt_requests *requests, kvt_ticket ticket, const struct timespec *until,
                            kvt_completion *out)
{
    int waited = 0;
    for (;;) {
        kvt_ticket_state *request = slot_of(requests, ticket);
        if (request == NULL)
            return kvt_fail(KVT_INVALID, "this ticket is unknown, or its completion was taken already");
        if (request->done) {
            take_done(requests, request, out);
            return KVT_OK;
        }
        if (waited != 0)
            return KVT_TIMEOUT;
        waited = pthread_cond_clockwait(&requests->changed, &requests->lock, CLOCK_MONOTONIC, until);
    }
}

kvt_status kvt_wait(kvt_engine *engine, kvt_ticket ticket, uint64_t timeout_ns, kvt_completion *out)
{
    KVT_TRY(kvt_engine_enter(engine));
    if (out == NULL)
        return kvt_fail(KVT_INVALID, "out is NULL");
    uint64_t until_ns;
    if (!kvt_add_u64(kvt_now_ns(), timeout_ns, &until_ns) || until_ns > INT64_MAX)
        until_ns = INT64_MAX;
    struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
    pthread_mutex_lock(&engine->requests->lock);
    kvt_status status = wait_done(engine->requests, ticket, &until, out);
    pthread_mutex_unlock(&engine->requests->lock);
    return status;
}

int kvt_eventfd(kvt_engine *engine) { return kvt_engine_enter(engine) == KVT_OK ? engine->requests->event : -1; }

kvt_status kvt_cancel(kvt_engine *engine, kvt_ticket ticket)
{
    KVT_TRY(kvt_engine_enter(engine));
    kvt_requests *requests = engine->requests;
    pthread_mutex_lock(&requests->lock);
    kvt_ticket_state *request = slot_of(requests, ticket);
    kvt_status status = request == NULL ? KVT_INVALID : request->done ? KVT_MISS : KVT_OK;
    if (status == KVT_OK)
        kvt_request_end_early(requests, request, KVT_CANCELLED);
    pthread_mutex_unlock(&requests->lock);
    return status == KVT_INVALID ? kvt_fail(KVT_INVALID, "this ticket is unknown, or its completion was taken already")
                                 : status;
}

uint32_t kvt_requests_inflight(kvt_engine *engine)
{
    pthread_mutex_lock(&engine->requests->lock);
    uint32_t active = engine->requests->active;
    pthread_mutex_unlock(&engine->requests->lock);
    return active;
}
