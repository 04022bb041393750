/* SPDX-License-Identifier: Apache-2.0
 *
 * What every I/O implementation shares, written once: operations wait here, are cut into pieces, start in order of
 * priority below a cap of bytes in flight, and what a piece returned is judged here (short counts, retries, errors). It
 * does no I/O, takes no lock and reads no clock; the caller holds it under its own lock or on its own thread.
 */
#ifndef KVT_IO_QUEUE_H
#define KVT_IO_QUEUE_H

#include "tiers/io.h"

/* what kvt_io_op.io_private holds while an operation is under way */
enum {
    KVT_IO_OP_FILE = 0,    /* file descriptor, or what the implementation calls a file */
    KVT_IO_OP_ALIGN = 1,   /* alignment of the file */
    KVT_IO_OP_ISSUED = 2,  /* bytes cut into pieces so far */
    KVT_IO_OP_PENDING = 3, /* pieces not settled */
    KVT_IO_OP_ORDER = 4,   /* arrival */
    KVT_IO_OP_EXTRA = 5    /* of the implementation */
};

enum {
    KVT_IO_PIECE_BYTES = 1 << 20,
    KVT_IO_PIECE_SLACK_BYTES = 64 << 10, /* a tail up to this long joins the last piece: no tiny transfers */
    KVT_IO_RETRIES_MAX = 8,              /* of EINTR, EAGAIN, ECANCELED, for one piece */
    KVT_IO_RETRY_NS_FIRST = 100000,      /* doubled each time; all eight end within KVT_IO_RETRY_NS_MAX */
    KVT_IO_RETRY_NS_MAX = 100000000,
    KVT_IO_PRIORITY_RUN_MAX = 64, /* pieces of priority in a row while ordinary ones wait: nobody starves */
    KVT_IO_DEPTH_MAX = 256
};

/* One transfer handed to the system. `memory`, `offset` and `bytes` are what is left to move. */
typedef struct kvt_io_piece kvt_io_piece;
struct kvt_io_piece {
    kvt_io_op *op;
    uint8_t *memory;
    uint64_t offset;
    uint32_t bytes;
    uint32_t charged; /* bytes counted as in flight until the piece is settled for good */
    uint32_t retries;
    bool resumed;
    bool reread;
    uint64_t retry_since_ns;
    uint64_t due_ns;
    kvt_io_piece *next;
    uint64_t implementation; /* the simulator's, the ring's */
};

typedef struct kvt_io_fifo {
    kvt_io_op *head;
    kvt_io_op *tail;
} kvt_io_fifo;

typedef struct kvt_io_queue {
    kvt_io_fifo waiting[2][2]; /* [priority][is a write] */
    kvt_io_fifo finished;
    kvt_io_piece *pieces; /* depth of them */
    kvt_io_piece *unused;
    kvt_io_piece *retry; /* in order of arrival */
    uint32_t depth;
    uint32_t in_flight;
    uint32_t priority_run;
    uint64_t bytes_max;
    uint64_t bytes_in_flight;
    uint64_t write_bytes_in_flight;
    uint64_t order;
} kvt_io_queue;

/* KVT_NOMEM. config may be NULL. */
kvt_status kvt_io_queue_init(kvt_io_queue *queue, const kvt_io_config *config);
void kvt_io_queue_fini(kvt_io_queue *queue);

/* Take one operation, KVT_IO_OP_FILE and KVT_IO_OP_ALIGN set. A malformed one, or one whose status is already a
 * failure, goes straight to the finished ones. */
void kvt_io_queue_push(kvt_io_queue *queue, kvt_io_op *op);

/* The next piece to start now, or NULL. It is then in flight, until it is settled. */
kvt_io_piece *kvt_io_queue_next(kvt_io_queue *queue, uint64_t now_ns);

/* A piece in flight has returned `result`: bytes moved, or a negative errno. */
void kvt_io_queue_settle(kvt_io_queue *queue, kvt_io_piece *piece, int64_t result, uint64_t now_ns);

/* When the next retry is due; UINT64_MAX: none waits. */
uint64_t kvt_io_queue_due_ns(const kvt_io_queue *queue);

/* Nothing waits, nothing is in flight, nothing is finished but not taken. */
bool kvt_io_queue_idle(const kvt_io_queue *queue);

/* Finished operations, linked by next, in order of completion; NULL: none. */
kvt_io_op *kvt_io_queue_take_finished(kvt_io_queue *queue);

/* Call done of each. Without any lock. */
void kvt_io_deliver(kvt_io_op *list);

/* Submit one operation and wait until it is done, taking over `done` and `arg` (io_table.c). */
void kvt_io_run(kvt_io *io, kvt_io_op *op, void (*submit)(kvt_io *io, kvt_io_op *list));

#endif
