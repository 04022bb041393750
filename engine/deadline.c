/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that keeps time: it ends requests whose deadline passed, leases whose time is up, and writes down what is
 * left of the write budget.
 */
#include "engine/requests_int.h"

static const uint64_t TICK_NS = UINT64_C(50000000); /* leases are looked at this often */

/* With the lock held: end what is late; the nearest deadline of what is not, at most one tick away. */
static uint64_t end_late(kvt_requests *requests, uint64_t now)
{
    uint64_t nearest = now + TICK_NS;
    for (kvt_ticket_state *request = requests->active_head, *next; request != NULL; request = next) {
        next = request->active_next;
        if (request->deadline_ns == 0)
            continue;
        if (request->deadline_ns <= now)
            kvt_request_end_early(requests, request, KVT_TIMEOUT);
        else
            nearest = kvt_min_u64(nearest, request->deadline_ns);
    }
    return nearest;
}

void *kvt_requests_keep_time(void *arg)
{
    kvt_requests *requests = arg;
    pthread_setname_np(pthread_self(), "kvtier-time");
    pthread_mutex_lock(&requests->lock);
    while (!requests->stopping) {
        uint64_t nearest = end_late(requests, kvt_now_ns());
        struct timespec until = {(time_t)(nearest / 1000000000u), (long)(nearest % 1000000000u)};
        pthread_cond_clockwait(&requests->clock, &requests->lock, CLOCK_MONOTONIC, &until);
        pthread_mutex_unlock(&requests->lock);
        kvt_leases_expire(requests->engine, kvt_now_ns());
        kvt_budget_keep(requests->engine);
        pthread_mutex_lock(&requests->lock);
    }
    pthread_mutex_unlock(&requests->lock);
    return NULL;
}
