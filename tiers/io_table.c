/* SPDX-License-Identifier: Apache-2.0
 *
 * Which I/O implementation serves a directory, what they share in starting threads, and the calls that wait.
 */
#include "tiers/io_files.h"
#include "tiers/io_queue.h"

#include <signal.h>

#if KVT_HAVE_URING
#define URING_OPS &kvt_io_uring_ops
#else
#define URING_OPS NULL
#endif

/* Best first. */
static const struct {
    kvt_io_kind kind;
    const kvt_io_ops *ops;
    const char *name;
} table[] = {{KVT_IO_URING, URING_OPS, "io_uring"}, {KVT_IO_POOL, &kvt_io_pool_ops, "pool"}};
enum { TABLE_COUNT = sizeof table / sizeof table[0] };

static kvt_status open_forced(uint32_t kind, const char *directory, bool read_only, const kvt_io_config *config,
                              kvt_io **out)
{
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (table[i].kind != kind)
            continue;
        if (table[i].ops == NULL)
            return kvt_fail(KVT_UNSUPPORTED, "%s is not built in", table[i].name);
        return table[i].ops->open(directory, read_only, config, out);
    }
    return kvt_fail(KVT_INVALID, "%u is no kind of I/O", kind);
}

/* Without direct I/O the ring has nothing to gain, and the pool knows how to keep the page cache small. */
static bool suits(kvt_io_kind kind, const char *directory)
{
    return kind != KVT_IO_URING || kvt_io_files_direct_possible(directory);
}

kvt_status kvt_io_open(uint32_t kind, const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out)
{
    if (kind != KVT_IO_AUTO)
        return open_forced(kind, directory, read_only, config, out);
    kvt_status status = KVT_UNSUPPORTED;
    for (int i = 0; i < TABLE_COUNT && status == KVT_UNSUPPORTED; i++) {
        if (table[i].ops == NULL || !suits(table[i].kind, directory))
            continue;
        status = table[i].ops->open(directory, read_only, config, out);
        if (status == KVT_UNSUPPORTED && config != NULL)
            kvt_log_write(&config->log, KVT_LOG_WARN, "%s is not usable here (%s), taking the next way", table[i].name,
                          kvt_last_error());
    }
    return status;
}

/* Signals of the host are none of our threads' business. */
kvt_status kvt_io_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return kvt_fail(KVT_NOMEM, "a thread for I/O cannot be started (error %d)", error);
    pthread_setname_np(*thread, "kvt-io");
    return KVT_OK;
}

/* ---- calls that wait ---- */

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waiter;

static void wake(kvt_io_op *op)
{
    waiter *w = op->arg;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void kvt_io_run(kvt_io *io, kvt_io_op *op, void (*submit)(kvt_io *io, kvt_io_op *list))
{
    waiter w = {.done = false};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.changed, NULL);
    op->done = wake;
    op->arg = &w;
    submit(io, op);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.changed);
    pthread_mutex_destroy(&w.lock);
}

static kvt_status run_op(kvt_io *io, kvt_io_op *op)
{
    static const char *const verbs[] = {"read", "write", "sync"};
    kvt_io_run(io, op, io->ops->submit);
    if (op->status == KVT_OK)
        return KVT_OK;
    char text[128];
    const char *why =
        op->system_error == 0 ? "the file ends before it" : strerror_r(op->system_error, text, sizeof text);
    return kvt_fail(op->status, "%s of %llu bytes at %llu failed: %s", verbs[op->verb], (unsigned long long)op->bytes,
                    (unsigned long long)op->offset, why);
}

kvt_status kvt_io_read_sync(kvt_io *io, kvt_io_file file, uint64_t offset, void *memory, uint64_t bytes)
{
    kvt_io_op op = {.verb = KVT_IO_READ, .file = file, .offset = offset, .bytes = bytes, .memory = memory};
    return run_op(io, &op);
}

kvt_status kvt_io_write_sync(kvt_io *io, kvt_io_file file, uint64_t offset, const void *memory, uint64_t bytes)
{
    kvt_io_op op = {.verb = KVT_IO_WRITE, .file = file, .offset = offset, .bytes = bytes, .memory = (void *)memory};
    return run_op(io, &op);
}

kvt_status kvt_io_sync(kvt_io *io, kvt_io_file file)
{
    kvt_io_op op = {.verb = KVT_IO_SYNC, .file = file};
    return run_op(io, &op);
}
