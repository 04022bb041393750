/* SPDX-License-Identifier: Apache-2.0
 *
 * What request.c, deadline.c and conclude.c share: the table of tickets and the pool of units. Everything in
 * kvt_requests is guarded by its lock.
 */
#ifndef KVT_REQUESTS_INT_H
#define KVT_REQUESTS_INT_H

#include "engine/request.h"

struct kvt_requests {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a request completed, or all units are back */
    pthread_cond_t clock;   /* a nearer deadline, or the end */
    kvt_engine *engine;
    kvt_ticket_state *slots;
    uint32_t slot_count;
    uint32_t active; /* tickets under way */
    kvt_ticket_state *active_head;
    uint64_t ticket_count;
    kvt_ticket_state *free_slots;
    kvt_ticket_state *ready_head, *ready_tail; /* have chunks to hand out */
    kvt_ticket_state *done_head, *done_tail;   /* complete, not taken */
    kvt_unit *units;
    kvt_unit *free_units;
    uint32_t free_unit_count;
    int event;
    bool draining;
    bool stopping;
    bool has_thread;
    pthread_t thread;
};

/* With the lock held: end a request now; see request.h. */
void kvt_request_end_early(kvt_requests *requests, kvt_ticket_state *request, kvt_status cause);

/* deadline.c: the thread that ends late requests and leases. */
void *kvt_requests_keep_time(void *requests);

/* conclude.c: the completion of a request from the outcomes of its chunks; touches the chain. */
void kvt_request_conclude(kvt_engine *engine, kvt_ticket_state *request);

/* submit.c: key, parent, tokens and so on of the unit's chunk. */
void kvt_request_describe_chunk(const kvt_ticket_state *request, kvt_unit *unit);

#endif
