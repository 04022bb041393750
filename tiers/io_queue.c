/* SPDX-License-Identifier: Apache-2.0
 *
 * See io_queue.h. The rules: priority before ordinary; within a priority, order of arrival; an operation is cut where
 * it is needed, so that only the first of a queue is ever partly started; writes keep to half of the cap while a read
 * waits.
 */
#include "tiers/io_queue.h"

#include <errno.h>

/* 16 MiB keeps the measured disk busy; twice that also while the I/O thread waits for a core. */
enum { DEPTH_DEFAULT = 64, BYTES_DEFAULT = 32 << 20 };

kvt_status kvt_io_queue_init(kvt_io_queue *queue, const kvt_io_config *config)
{
    memset(queue, 0, sizeof *queue);
    uint32_t depth = config != NULL && config->depth != 0 ? config->depth : DEPTH_DEFAULT;
    queue->depth = depth < KVT_IO_DEPTH_MAX ? depth : KVT_IO_DEPTH_MAX;
    queue->bytes_max = config != NULL && config->inflight_bytes != 0 ? config->inflight_bytes : BYTES_DEFAULT;
    queue->pieces = kvt_alloc_array(queue->depth, sizeof *queue->pieces);
    if (queue->pieces == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for %u I/O pieces", queue->depth);
    for (uint32_t i = 0; i < queue->depth; i++) {
        queue->pieces[i].next = queue->unused;
        queue->unused = &queue->pieces[i];
    }
    return KVT_OK;
}

void kvt_io_queue_fini(kvt_io_queue *queue)
{
    kvt_free(queue->pieces);
    queue->pieces = NULL;
}

static void fifo_push(kvt_io_fifo *fifo, kvt_io_op *op)
{
    op->next = NULL;
    if (fifo->tail == NULL)
        fifo->head = op;
    else
        fifo->tail->next = op;
    fifo->tail = op;
}

static void fifo_pop(kvt_io_fifo *fifo)
{
    kvt_io_op *op = fifo->head;
    fifo->head = op->next;
    if (fifo->head == NULL)
        fifo->tail = NULL;
    op->next = NULL;
}

static kvt_io_fifo *fifo_of(kvt_io_queue *queue, const kvt_io_op *op)
{
    return &queue->waiting[op->priority != 0][op->verb == KVT_IO_WRITE];
}

static void fail_op(kvt_io_op *op, int error)
{
    if (op->status != KVT_OK)
        return; /* the first failure counts */
    op->status = error == ENOSPC || error == EDQUOT ? KVT_NOSPACE : KVT_IO;
    op->system_error = error;
}

static bool well_formed(const kvt_io_op *op)
{
    if (op->verb == KVT_IO_SYNC)
        return true;
    uint64_t end;
    bool known = op->verb == KVT_IO_READ || op->verb == KVT_IO_WRITE;
    bool bounded = kvt_add_u64(op->offset, op->bytes, &end) && end <= INT64_MAX;
    uint64_t bits = op->offset | op->bytes | (uintptr_t)op->memory;
    return known && bounded && (bits & (op->io_private[KVT_IO_OP_ALIGN] - 1)) == 0;
}

void kvt_io_queue_push(kvt_io_queue *queue, kvt_io_op *op)
{
    op->io_private[KVT_IO_OP_ISSUED] = 0;
    op->io_private[KVT_IO_OP_PENDING] = 0;
    op->io_private[KVT_IO_OP_ORDER] = queue->order++;
    if (op->status == KVT_OK && !well_formed(op)) {
        op->status = KVT_INVALID;
        op->system_error = EINVAL;
    }
    bool empty = op->bytes == 0 && op->verb != KVT_IO_SYNC;
    fifo_push(op->status != KVT_OK || empty ? &queue->finished : fifo_of(queue, op), op);
}

static uint32_t next_bytes(const kvt_io_op *op)
{
    if (op->verb == KVT_IO_SYNC)
        return 0;
    uint64_t left = op->bytes - op->io_private[KVT_IO_OP_ISSUED];
    return left <= KVT_IO_PIECE_BYTES + KVT_IO_PIECE_SLACK_BYTES ? (uint32_t)left : KVT_IO_PIECE_BYTES;
}

/* May a write start, given that reads must not wait behind a device full of writes? */
static bool write_allowed(const kvt_io_queue *queue, uint32_t bytes)
{
    bool reads_wait = queue->waiting[0][0].head != NULL || queue->waiting[1][0].head != NULL;
    return !reads_wait || queue->write_bytes_in_flight == 0 ||
           queue->write_bytes_in_flight + bytes <= queue->bytes_max / 2;
}

static kvt_io_fifo *candidate(kvt_io_queue *queue, int priority)
{
    kvt_io_fifo *reads = &queue->waiting[priority][0];
    kvt_io_fifo *writes = &queue->waiting[priority][1];
    bool write = writes->head != NULL && write_allowed(queue, next_bytes(writes->head));
    if (reads->head == NULL)
        return write ? writes : NULL;
    if (!write)
        return reads;
    return reads->head->io_private[KVT_IO_OP_ORDER] < writes->head->io_private[KVT_IO_OP_ORDER] ? reads : writes;
}

/* The queue whose first operation goes next, whether or not it fits below the cap: waiting for room keeps the order. */
static kvt_io_fifo *choose(kvt_io_queue *queue)
{
    kvt_io_fifo *urgent = candidate(queue, 1);
    kvt_io_fifo *ordinary = candidate(queue, 0);
    if (urgent == NULL || (ordinary != NULL && queue->priority_run >= KVT_IO_PRIORITY_RUN_MAX))
        return ordinary;
    return urgent;
}

static kvt_io_piece *start_retry(kvt_io_queue *queue, uint64_t now_ns)
{
    for (kvt_io_piece **link = &queue->retry; *link != NULL; link = &(*link)->next) {
        kvt_io_piece *piece = *link;
        if (piece->due_ns <= now_ns) {
            *link = piece->next;
            piece->next = NULL;
            return piece;
        }
    }
    return NULL;
}

static kvt_io_piece *cut(kvt_io_queue *queue, kvt_io_fifo *fifo, uint32_t bytes)
{
    kvt_io_op *op = fifo->head;
    kvt_io_piece *piece = queue->unused;
    queue->unused = piece->next;
    uint64_t issued = op->io_private[KVT_IO_OP_ISSUED];
    *piece = (kvt_io_piece){.op = op, .bytes = bytes, .charged = bytes, .offset = op->offset + issued};
    piece->memory = op->verb == KVT_IO_SYNC ? NULL : (uint8_t *)op->memory + issued;
    op->io_private[KVT_IO_OP_ISSUED] = issued + bytes;
    op->io_private[KVT_IO_OP_PENDING]++;
    if (op->verb == KVT_IO_SYNC || issued + bytes == op->bytes)
        fifo_pop(fifo);
    queue->in_flight++;
    queue->bytes_in_flight += bytes;
    if (op->verb == KVT_IO_WRITE)
        queue->write_bytes_in_flight += bytes;
    return piece;
}

kvt_io_piece *kvt_io_queue_next(kvt_io_queue *queue, uint64_t now_ns)
{
    kvt_io_piece *again = start_retry(queue, now_ns);
    if (again != NULL)
        return again;
    kvt_io_fifo *fifo = queue->unused == NULL ? NULL : choose(queue);
    if (fifo == NULL)
        return NULL;
    uint32_t bytes = next_bytes(fifo->head);
    if (queue->bytes_in_flight != 0 && queue->bytes_in_flight + bytes > queue->bytes_max)
        return NULL;
    queue->priority_run = fifo->head->priority != 0 ? queue->priority_run + 1 : 0;
    return cut(queue, fifo, bytes);
}

static void release(kvt_io_queue *queue, kvt_io_piece *piece)
{
    kvt_io_op *op = piece->op;
    queue->in_flight--;
    queue->bytes_in_flight -= piece->charged;
    if (op->verb == KVT_IO_WRITE)
        queue->write_bytes_in_flight -= piece->charged;
    piece->next = queue->unused;
    queue->unused = piece;
    op->io_private[KVT_IO_OP_PENDING]--;

    kvt_io_fifo *fifo = fifo_of(queue, op);
    bool partly_started = fifo->head == op;
    if (partly_started && op->status != KVT_OK) {
        fifo_pop(fifo); /* the rest of a failed operation is not started */
        partly_started = false;
    }
    if (!partly_started && op->io_private[KVT_IO_OP_PENDING] == 0)
        fifo_push(&queue->finished, op);
}

static void retry(kvt_io_queue *queue, kvt_io_piece *piece, uint64_t due_ns)
{
    piece->due_ns = due_ns;
    piece->next = NULL;
    kvt_io_piece **link = &queue->retry;
    while (*link != NULL)
        link = &(*link)->next;
    *link = piece;
}

/* Can a passing error be tried again? Then it is put back. */
static bool put_back(kvt_io_queue *queue, kvt_io_piece *piece, int error, uint64_t now_ns)
{
    if (error == EIO && piece->op->verb == KVT_IO_READ && !piece->reread) {
        piece->reread = true;
        retry(queue, piece, 0);
        return true;
    }
    if (error != EINTR && error != EAGAIN && error != ECANCELED)
        return false;
    if (piece->retries == 0)
        piece->retry_since_ns = now_ns;
    if (piece->retries == KVT_IO_RETRIES_MAX || now_ns - piece->retry_since_ns > KVT_IO_RETRY_NS_MAX)
        return false;
    retry(queue, piece, now_ns + ((uint64_t)KVT_IO_RETRY_NS_FIRST << piece->retries));
    piece->retries++;
    return true;
}

/* Fewer bytes than asked for. A read that ends off the alignment, or at nothing, has met the end of the file: errno
 * 0. */
static bool resume(kvt_io_queue *queue, kvt_io_piece *piece, uint32_t moved)
{
    bool aligned = (moved & (piece->op->io_private[KVT_IO_OP_ALIGN] - 1)) == 0;
    if (moved == 0 || !aligned || piece->resumed) {
        bool at_end = piece->op->verb == KVT_IO_READ && (moved == 0 || !aligned);
        fail_op(piece->op, at_end ? 0 : EIO);
        return false;
    }
    piece->resumed = true;
    piece->memory += moved;
    piece->offset += moved;
    piece->bytes -= moved;
    retry(queue, piece, 0);
    return true;
}

void kvt_io_queue_settle(kvt_io_queue *queue, kvt_io_piece *piece, int64_t result, uint64_t now_ns)
{
    if (result < 0) {
        if (put_back(queue, piece, (int)-result, now_ns))
            return;
        fail_op(piece->op, (int)-result);
    } else if ((uint64_t)result < piece->bytes) {
        if (resume(queue, piece, (uint32_t)result))
            return;
    }
    release(queue, piece);
}

uint64_t kvt_io_queue_due_ns(const kvt_io_queue *queue)
{
    uint64_t due_ns = UINT64_MAX;
    for (const kvt_io_piece *piece = queue->retry; piece != NULL; piece = piece->next)
        due_ns = kvt_min_u64(due_ns, piece->due_ns);
    return due_ns;
}

bool kvt_io_queue_idle(const kvt_io_queue *queue)
{
    bool waiting = queue->waiting[0][0].head != NULL || queue->waiting[0][1].head != NULL ||
                   queue->waiting[1][0].head != NULL || queue->waiting[1][1].head != NULL;
    return !waiting && queue->in_flight == 0 && queue->finished.head == NULL;
}

kvt_io_op *kvt_io_queue_take_finished(kvt_io_queue *queue)
{
    kvt_io_op *list = queue->finished.head;
    queue->finished = (kvt_io_fifo){NULL, NULL};
    return list;
}

void kvt_io_deliver(kvt_io_op *list)
{
    while (list != NULL) {
        kvt_io_op *op = list;
        list = op->next; /* done may free or submit the operation */
        op->next = NULL;
        op->done(op);
    }
}
