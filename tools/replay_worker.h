/* SPDX-License-Identifier: Apache-2.0
 *
 * What the worker's files share: the engine, the pages and the prompt under way. Private to replay_*.c.
 */
#ifndef KVT_REPLAY_WORKER_H
#define KVT_REPLAY_WORKER_H

#include "kernels/kernels.h" /* pages on a device */
#include "tools/paged.h"
#include "tools/replay.h"

enum { KVT_REPLAY_WAIT_SECONDS = 120 }; /* a ticket that takes longer is stuck */

typedef struct kvt_replay_worker {
    const kvt_trace *trace;
    const kvt_replay_options *options;
    kvt_journal *journal;
    kvt_engine *engine;
    kvt_space *space;
    kvt_backend *backend; /* of the pages; NULL where they are host memory */
    kvt_paged *paged;
    uint64_t blob_bytes;
    uint32_t window_chunks; /* chunks whose pages there is memory for */
    uint32_t chunk_pages;
    uint32_t *tokens; /* of the prompt under way */
    uint32_t *pages;  /* of the prompt: those of the window are real, the rest KVT_PAGE_NONE */
    kvt_key *keys;
    kvt_replay_state base;   /* results of the workers before this one */
    kvt_replay_state *state; /* of the request under way, not committed yet */
} kvt_replay_worker;

/* Unit of the c-th chunk of a request, and the seed of its expected bytes. */
uint64_t kvt_replay_unit(const kvt_replay_worker *worker, const kvt_trace_request *request, uint64_t chunk);
uint64_t kvt_replay_seed(const kvt_replay_worker *worker, uint64_t unit);

/* Wait for a ticket. KVT_TIMEOUT: it is stuck. */
kvt_status kvt_replay_wait(kvt_replay_worker *worker, kvt_ticket ticket, kvt_completion *out);

/* Match, load and check, fill, save: one request. */
kvt_status kvt_replay_request(kvt_replay_worker *worker, uint64_t index);

/* After a restart: is every record there that the lower tier had acknowledged and not let go of, byte for byte?
 * must_hold[unit] as it was before the store was opened. Counts in the journal. */
kvt_status kvt_replay_check(kvt_replay_worker *worker, const uint8_t *must_hold);

#endif
