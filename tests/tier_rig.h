/* SPDX-License-Identifier: Apache-2.0
 *
 * What the conformance suite of the tiers stands on: a host that remembers what it was told, records that can be made
 * again from a number, and operations that are waited for.
 */
#ifndef KVT_TIER_RIG_H
#define KVT_TIER_RIG_H

#include "tests/support.h"
#include "tiers/tiers.h"

#include <pthread.h>

enum { RIG_RECORDS_MAX = 4096, RIG_POOL_BYTES = 24 << 20 };

typedef enum rig_state { RIG_ABSENT = 0, RIG_HELD, RIG_EVICTED, RIG_DROPPED } rig_state;

/* One of the tiers the suite runs over. */
typedef struct rig_subject {
    const char *name;
    kvt_tier_id id;
    bool is_double;
} rig_subject;
extern const rig_subject rig_host, rig_file, rig_rocks, rig_double;

typedef struct rig {
    const rig_subject *subject;
    kvt_tier *tier; /* NULL: closed */
    char *path;
    kvt_tier_options options;
    kvt_tier_host host;
    kvt_pool *pool;       /* of images */
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    rig_state states[RIG_RECORDS_MAX];
    kvt_place places[RIG_RECORDS_MAX];
    kvt_record records[RIG_RECORDS_MAX];
    bool pinned[RIG_RECORDS_MAX];
    bool pin_all;
    uint64_t told_stored, told_evicted, recovered, recover_max;
    uint32_t recovered_ids[RIG_RECORDS_MAX];
    bool broken; /* a callback was told something that cannot be */
} rig;

/* One operation and how often it was done. `after` is called by done, without locks. */
typedef struct rig_op {
    kvt_tier_op op;
    rig *rig;
    uint32_t id;
    uint32_t done_count;
    void (*after)(struct rig_op *op);
    void *arg;
} rig_op;

/* false: the tier is not built in (the test is skipped, which is said on stderr). bytes_max 0: room for everything. */
/* rig_prepare does all but opening it. */
bool rig_prepare(rig *r, const rig_subject *subject, uint64_t bytes_max, uint64_t blob_bytes_max);
bool rig_init(rig *r, const rig_subject *subject, uint64_t bytes_max, uint64_t blob_bytes_max);
void rig_fini(rig *r);
kvt_status rig_open(rig *r); /* forgets what was recovered before; states are kept */
void rig_close(rig *r);

/* Record, payload and digests of a number and a size. */
void rig_record(kvt_record *record, uint32_t id, uint64_t bytes);
/* Know a record that another process has written. */
void rig_expect(rig *r, uint32_t id, uint64_t bytes);
rig_op *rig_write_new(rig *r, uint32_t id, uint64_t bytes);
rig_op *rig_read_new(rig *r, uint32_t id); /* of the place kept for id */
void rig_submit(rig_op *op);
void rig_wait(rig_op *op); /* until done */
void rig_free(rig_op *op);
bool rig_payload_is(const rig_op *op, uint32_t id);

kvt_status rig_put(rig *r, uint32_t id, uint64_t bytes);
/* KVT_OK only if the bytes are right; KVT_CORRUPT when the tier said KVT_OK and they are not. */
kvt_status rig_get(rig *r, uint32_t id);
void rig_drop(rig *r, uint32_t id);
rig_state rig_state_of(rig *r, uint32_t id);
/* Allocated bytes of all files below the store. */
uint64_t rig_disk_bytes(const rig *r);

#endif
