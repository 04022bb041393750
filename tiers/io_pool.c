/* SPDX-License-Identifier: Apache-2.0
 *
 * I/O by threads that pread and pwrite: works everywhere, also under the thread sanitizer, in sandboxes without
 * io_uring and on file systems without direct I/O. The queue under one lock decides what goes next; a thread holds it
 * only to take and to settle a piece.
 */
#include "tiers/io_files.h"
#include "tiers/io_queue.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { POOL_THREADS = 8, DETAIL_BYTES = 64 };

typedef struct io_pool {
    kvt_io_files files;   /* first */
    pthread_mutex_t lock; /* guards queue, stopping */
    pthread_cond_t work;
    kvt_io_queue queue;
    bool stopping;
    uint32_t thread_count;
    pthread_t threads[POOL_THREADS];
    char detail[DETAIL_BYTES];
} io_pool;

static int64_t transfer(const kvt_io_piece *piece)
{
    int fd = (int)piece->op->io_private[KVT_IO_OP_FILE];
    ssize_t moved = -1;
    switch (piece->op->verb) {
    case KVT_IO_READ:
        moved = pread(fd, piece->memory, piece->bytes, (off_t)piece->offset);
        break;
    case KVT_IO_WRITE:
        moved = pwrite(fd, piece->memory, piece->bytes, (off_t)piece->offset);
        break;
    case KVT_IO_SYNC:
        moved = fdatasync(fd);
        break;
    }
    int error = errno;
    if (moved >= 0 && piece->op->io_private[KVT_IO_OP_EXTRA] != 0)
        kvt_io_files_drop_cache(fd, piece->op, piece->offset, piece->bytes);
    return moved < 0 ? -error : moved;
}

/* Sleep until there is work, or a retry is due. Under the lock. */
static void wait_for_work(io_pool *pool)
{
    uint64_t due_ns = kvt_io_queue_due_ns(&pool->queue);
    if (due_ns == UINT64_MAX) {
        pthread_cond_wait(&pool->work, &pool->lock);
        return;
    }
    struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000), .tv_nsec = (long)(due_ns % 1000000000)};
    pthread_cond_timedwait(&pool->work, &pool->lock, &due);
}

/* Move one piece and tell what is finished by it. Enters and leaves with the lock held. */
static void run_piece(io_pool *pool, kvt_io_piece *piece)
{
    if (piece != NULL) {
        pthread_cond_signal(&pool->work); /* one more thread looks whether it can start something beside us */
        pthread_mutex_unlock(&pool->lock);
        int64_t result = transfer(piece);
        pthread_mutex_lock(&pool->lock);
        kvt_io_queue_settle(&pool->queue, piece, result, kvt_now_ns());
    }
    kvt_io_op *finished = kvt_io_queue_take_finished(&pool->queue);
    if (finished != NULL) {
        pthread_cond_signal(&pool->work); /* the room that became free is not to wait for `done` */
        pthread_mutex_unlock(&pool->lock);
        kvt_io_deliver(finished);
        pthread_mutex_lock(&pool->lock);
    }
}

static void *pool_run(void *arg)
{
    io_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        kvt_io_piece *piece = kvt_io_queue_next(&pool->queue, kvt_now_ns());
        if (piece != NULL || pool->queue.finished.head != NULL)
            run_piece(pool, piece);
        else if (pool->stopping && kvt_io_queue_idle(&pool->queue))
            break;
        else
            wait_for_work(pool);
    }
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void pool_submit(kvt_io *io, kvt_io_op *list)
{
    io_pool *pool = (io_pool *)io;
    for (kvt_io_op *op = list; op != NULL; op = op->next)
        op->io_private[KVT_IO_OP_EXTRA] = kvt_io_files_prepare(&pool->files, op);
    pthread_mutex_lock(&pool->lock);
    while (list != NULL) {
        kvt_io_op *op = list;
        list = op->next;
        kvt_io_queue_push(&pool->queue, op);
    }
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

static void pool_stop(io_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
}

static void pool_close(kvt_io *io)
{
    io_pool *pool = (io_pool *)io;
    if (pool == NULL)
        return;
    pool_stop(pool);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    kvt_io_queue_fini(&pool->queue);
    kvt_io_files_fini(&pool->files);
    kvt_free(pool);
}

static void init_sync(io_pool *pool)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&pool->lock, NULL);
}

/* As many threads as the system gives; none is a failure. */
static kvt_status start_threads(io_pool *pool)
{
    while (pool->thread_count < POOL_THREADS &&
           kvt_io_thread_start(&pool->threads[pool->thread_count], pool_run, pool) == KVT_OK)
        pool->thread_count++;
    return pool->thread_count != 0 ? KVT_OK : kvt_fail(KVT_NOMEM, "no thread for I/O can be started");
}

static kvt_status pool_open(const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out)
{
    io_pool *pool = kvt_alloc(sizeof *pool);
    if (pool == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to open %s", directory);
    kvt_status status = kvt_io_files_init(&pool->files, &kvt_io_pool_ops, directory, read_only, config);
    if (status != KVT_OK) {
        kvt_free(pool);
        return status;
    }
    init_sync(pool);
    status = kvt_io_queue_init(&pool->queue, config);
    if (status == KVT_OK)
        status = start_threads(pool);
    if (status != KVT_OK) {
        pool_close(&pool->files.io);
        return status;
    }
    snprintf(pool->detail, sizeof pool->detail, "pool of %u threads, %s", pool->thread_count,
             kvt_io_files_direct_possible(directory) ? "direct" : "buffered");
    *out = &pool->files.io;
    return KVT_OK;
}

static const char *pool_detail(kvt_io *io) { return ((io_pool *)io)->detail; }

const kvt_io_ops kvt_io_pool_ops = {
    .name = "pool",
    .open = pool_open,
    .close = pool_close,
    .submit = pool_submit,
    .open_file = kvt_io_files_open,
    .close_file = kvt_io_files_close,
    .allocate = kvt_io_files_allocate,
    .truncate = kvt_io_files_truncate,
    .rename = kvt_io_files_rename,
    .unlink = kvt_io_files_unlink,
    .exists = kvt_io_files_exists,
    .examine = kvt_io_files_examine,
    .list = kvt_io_files_list,
    .sync_directory = kvt_io_files_sync_directory,
    .random = kvt_io_files_random,
    .detail = pool_detail,
};
