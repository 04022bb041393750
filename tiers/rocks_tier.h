/* SPDX-License-Identifier: Apache-2.0
 *
 * The open rocks tier, shared by tier_rocks.c (opening, threads, the vtable) and rocks_work.c (what the threads do).
 * Private to this room.
 */
#ifndef KVT_ROCKS_TIER_H
#define KVT_ROCKS_TIER_H

#include "tiers/rocks_dir.h"
#include "tiers/rocks_ring.h"

#include <pthread.h>

enum { ROCKS_PATH_BYTES_MAX = 4096, ROCKS_READER = 0, ROCKS_WRITER = 1 };

/* Verb of the operation kvt_tier_flush puts into the writer's queue. */
#define ROCKS_VERB_FLUSH ((kvt_tier_verb)100)

typedef struct rocks_queue {
    kvt_tier_op *head[2], *tail[2]; /* ordinary, priority */
    pthread_cond_t filled;
    pthread_t thread;
    bool started;
} rocks_queue;

typedef enum rocks_state { ROCKS_ON = 0, ROCKS_WRITES_OFF = 1, ROCKS_OFF = 2 } rocks_state; /* kvt_tier_stats.state */

typedef struct rocks_tier {
    kvt_tier tier;
    kvt_tier_host host;
    kvt_rocks_db *db;
    char directory[ROCKS_PATH_BYTES_MAX];
    kvt_rocks_hold hold;
    bool read_only;
    uint64_t bytes_max;
    uint64_t generation_bytes_max;
    uint32_t generation_count_max;

    pthread_mutex_t lock;  /* of all below; never held across a call of RocksDB or of the host */
    pthread_cond_t unread; /* a generation's last reader has left */
    rocks_queue queues[2];
    bool closing;
    bool drops_waiting;
    rocks_ring ring; /* generations come and go by the writer's hand only */
    kvt_tier_stats stats;
    rocks_state state;
    uint32_t read_errors; /* in a row */
    uint64_t retry_at_ns; /* when a tier that is off, or its writes, are tried again */
    uint64_t backoff_ns;
} rocks_tier;

/* Each completes the operation's fields, not its `done`. Reader's thread; writer's thread. */
void rocks_read(rocks_tier *t, kvt_tier_op *op);
void rocks_write(rocks_tier *t, kvt_tier_op *op);
/* Writer's thread: memory to disk, values before rows; rows of dropped records. */
kvt_status rocks_flush(rocks_tier *t);
void rocks_delete_dropped(rocks_tier *t);

#endif
