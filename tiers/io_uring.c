/* SPDX-License-Identifier: Apache-2.0
 *
 * I/O through io_uring: one thread creates, fills and reaps the ring, so that the kernel may skip its locks. Others
 * push operations onto a list and, when the thread sleeps, wake it through an eventfd on which the ring keeps a read
 * armed. Registered files and buffers are used where the kernel lets us, and never needed. No polling modes: they cost
 * cores.
 */
#include "tiers/io_files.h"
#include "tiers/io_queue.h"

#include <errno.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    SQ_ENTRIES = 256,
    CQ_ENTRIES = 1024,
    REGION_SHIFT = 30, /* the kernel takes at most 1 GiB in one registered buffer */
    DETAIL_BYTES = 96,
    PAUSE_NS = 1000000 /* after a refused submission, before the next */
};

enum { WATCH_RING, WATCH_EVENT }; /* extra_fds */

/* io_private[KVT_IO_OP_EXTRA] */
enum {
    EXTRA_DROP_CACHE = 1u << 0,
    EXTRA_FORGET = 1u << 1 /* a command: let go of the registered file */
};

typedef struct io_ring {
    kvt_io_files files; /* first */
    pthread_t thread;
    int event_fd;

    /* Between submitters and the thread. The inbox is a stack, newest first: a submitter's release is what makes its
     * operations visible. `sleeping` and `inbox` are sequentially consistent: the thread says it sleeps, then looks;
     * a submitter pushes, then asks whether it sleeps; one of them sees the other. */
    _Atomic(kvt_io_op *) inbox;
    atomic_bool sleeping;
    atomic_bool stopping;

    pthread_mutex_t lock; /* guards ready, start_status, start_text */
    pthread_cond_t started;
    bool ready;
    kvt_status start_status;
    char start_text[128];

    /* Of the thread alone. */
    struct io_uring ring;
    kvt_io_queue queue;
    uint64_t event_value;
    bool event_armed;
    bool files_registered;
    int registered[KVT_IO_FILES_MAX]; /* descriptor in each slot, -1: none */
    uint8_t *memory;
    uint64_t memory_bytes;
    bool buffers_registered;
    char detail[DETAIL_BYTES];
} io_ring;

/* ---- setting up ---- */

static int make_ring(io_ring *ring)
{
    static const uint32_t choices[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                       IORING_SETUP_COOP_TASKRUN, 0};
    int error = -EINVAL;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0] && error == -EINVAL; i++) {
        struct io_uring_params params = {.flags = choices[i] | IORING_SETUP_CQSIZE, .cq_entries = CQ_ENTRIES};
        error = io_uring_queue_init_params(SQ_ENTRIES, &ring->ring, &params);
    }
    return error;
}

/* Pieces of 1 GiB. true: all of them, or nothing to do. */
static bool register_memory(io_ring *ring)
{
    if (ring->memory == NULL || ring->memory_bytes == 0)
        return false;
    uint64_t count = (ring->memory_bytes + (UINT64_C(1) << REGION_SHIFT) - 1) >> REGION_SHIFT;
    struct iovec *regions = kvt_alloc_array(count, sizeof *regions);
    if (regions == NULL)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begin = i << REGION_SHIFT;
        regions[i].iov_base = ring->memory + begin;
        regions[i].iov_len = kvt_min_u64(UINT64_C(1) << REGION_SHIFT, ring->memory_bytes - begin);
    }
    int error = count > UINT32_MAX ? -EINVAL : io_uring_register_buffers(&ring->ring, regions, (unsigned)count);
    kvt_free(regions);
    char text[128];
    if (error != 0)
        kvt_log_write(&ring->files.log, KVT_LOG_INFO,
                      "%s: memory is not registered for I/O (%s); transfers cost more CPU, raise RLIMIT_MEMLOCK",
                      ring->files.path, strerror_r(-error, text, sizeof text));
    return error == 0;
}

static bool register_files(io_ring *ring)
{
    for (int i = 0; i < KVT_IO_FILES_MAX; i++)
        ring->registered[i] = -1;
    return io_uring_register_files_sparse(&ring->ring, KVT_IO_FILES_MAX) == 0;
}

static void announce(io_ring *ring, int error)
{
    char text[96];
    pthread_mutex_lock(&ring->lock);
    ring->ready = true;
    ring->start_status = error == 0 ? KVT_OK : KVT_UNSUPPORTED;
    if (error != 0)
        snprintf(ring->start_text, sizeof ring->start_text, "the kernel refuses a ring: %s",
                 strerror_r(-error, text, sizeof text));
    pthread_cond_signal(&ring->started);
    pthread_mutex_unlock(&ring->lock);
}

static int set_up(io_ring *ring)
{
    int error = make_ring(ring);
    if (error != 0)
        return error;
    (void)io_uring_ring_dontfork(&ring->ring);
    kvt_io_fork_watch(&ring->files, WATCH_RING, ring->ring.ring_fd);
    ring->files_registered = register_files(ring);
    ring->buffers_registered = register_memory(ring);
    snprintf(ring->detail, sizeof ring->detail, "io_uring, %s%s%s",
             kvt_io_files_direct_possible(ring->files.path) ? "direct" : "buffered",
             ring->buffers_registered ? ", registered buffers" : "",
             ring->files_registered ? ", registered files" : "");
    return 0;
}

/* Destruction of a ring goes on behind our back; files must be let go before, or their locks outlive us. */
static void tear_down(io_ring *ring)
{
    if (ring->files_registered)
        (void)io_uring_unregister_files(&ring->ring);
    if (ring->buffers_registered)
        (void)io_uring_unregister_buffers(&ring->ring);
    kvt_io_fork_watch(&ring->files, WATCH_RING, -1);
    io_uring_queue_exit(&ring->ring);
}

/* ---- starting pieces ---- */

static struct io_uring_sqe *take_sqe(io_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    while (sqe == NULL) {
        if (io_uring_submit(&ring->ring) < 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        sqe = io_uring_get_sqe(&ring->ring);
    }
    return sqe;
}

/* The registered buffer that holds a piece; -1: none. */
static int buffer_of(const io_ring *ring, const kvt_io_piece *piece)
{
    uint64_t begin = (uint64_t)((uintptr_t)piece->memory - (uintptr_t)ring->memory);
    if (!ring->buffers_registered || begin >= ring->memory_bytes || piece->bytes > ring->memory_bytes - begin)
        return -1;
    uint64_t first = begin >> REGION_SHIFT, last = (begin + piece->bytes - 1) >> REGION_SHIFT;
    return first == last ? (int)first : -1;
}

/* Is the file in its slot of the ring? It gets there when it is first used. */
static bool use_slot(io_ring *ring, const kvt_io_op *op)
{
    int fd = (int)op->io_private[KVT_IO_OP_FILE];
    if (!ring->files_registered || ring->registered[op->file] == fd)
        return ring->files_registered;
    if (io_uring_register_files_update(&ring->ring, (unsigned)op->file, &fd, 1) != 1)
        return false;
    ring->registered[op->file] = fd;
    return true;
}

static void start_piece(io_ring *ring, kvt_io_piece *piece)
{
    kvt_io_op *op = piece->op;
    bool slot = use_slot(ring, op);
    int fd = slot ? op->file : (int)op->io_private[KVT_IO_OP_FILE];
    int buffer = op->verb == KVT_IO_SYNC ? -1 : buffer_of(ring, piece);
    struct io_uring_sqe *sqe = take_sqe(ring);
    switch (op->verb) {
    case KVT_IO_READ:
        if (buffer >= 0)
            io_uring_prep_read_fixed(sqe, fd, piece->memory, piece->bytes, piece->offset, buffer);
        else
            io_uring_prep_read(sqe, fd, piece->memory, piece->bytes, piece->offset);
        break;
    case KVT_IO_WRITE:
        if (buffer >= 0)
            io_uring_prep_write_fixed(sqe, fd, piece->memory, piece->bytes, piece->offset, buffer);
        else
            io_uring_prep_write(sqe, fd, piece->memory, piece->bytes, piece->offset);
        break;
    case KVT_IO_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    if (slot)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, piece);
}

static void arm_event(io_ring *ring)
{
    if (ring->event_armed || atomic_load(&ring->stopping))
        return;
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_read(sqe, ring->event_fd, &ring->event_value, sizeof ring->event_value, 0);
    io_uring_sqe_set_data(sqe, NULL); /* no piece: the event */
    ring->event_armed = true;
}

static void start_pieces(io_ring *ring)
{
    kvt_io_piece *piece;
    uint64_t now_ns = kvt_now_ns();
    while ((piece = kvt_io_queue_next(&ring->queue, now_ns)) != NULL)
        start_piece(ring, piece);
}

/* ---- the thread ---- */

static void forget_file(io_ring *ring, kvt_io_op *op)
{
    int none = -1;
    if (ring->files_registered && ring->registered[op->file] != -1)
        (void)io_uring_register_files_update(&ring->ring, (unsigned)op->file, &none, 1);
    ring->registered[op->file] = -1;
    kvt_io_deliver(op);
}

static void take_inbox(io_ring *ring)
{
    kvt_io_op *newest = atomic_exchange(&ring->inbox, NULL);
    kvt_io_op *oldest = NULL;
    while (newest != NULL) {
        kvt_io_op *op = newest;
        newest = op->next;
        op->next = oldest;
        oldest = op;
    }
    while (oldest != NULL) {
        kvt_io_op *op = oldest;
        oldest = op->next;
        op->next = NULL;
        if ((op->io_private[KVT_IO_OP_EXTRA] & EXTRA_FORGET) != 0)
            forget_file(ring, op);
        else
            kvt_io_queue_push(&ring->queue, op);
    }
}

static void reap(io_ring *ring)
{
    struct io_uring_cqe *cqe;
    uint64_t now_ns = kvt_now_ns();
    while (io_uring_peek_cqe(&ring->ring, &cqe) == 0) {
        kvt_io_piece *piece = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);
        if (piece == NULL) {
            ring->event_armed = false;
            continue;
        }
        const kvt_io_op *op = piece->op;
        if (result >= 0 && (op->io_private[KVT_IO_OP_EXTRA] & EXTRA_DROP_CACHE) != 0)
            kvt_io_files_drop_cache((int)op->io_private[KVT_IO_OP_FILE], op, piece->offset, piece->bytes);
        kvt_io_queue_settle(&ring->queue, piece, result, now_ns);
    }
}

/* Submit what is prepared and sleep until something completes, somebody submits, or a retry is due. */
static void wait_for_work(io_ring *ring)
{
    atomic_store(&ring->sleeping, true);
    int result;
    uint64_t due_ns = kvt_io_queue_due_ns(&ring->queue);
    if (atomic_load(&ring->inbox) != NULL) {
        result = io_uring_submit(&ring->ring);
    } else if (due_ns == UINT64_MAX) {
        result = io_uring_submit_and_wait(&ring->ring, 1);
    } else {
        uint64_t now_ns = kvt_now_ns(), left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
        struct __kernel_timespec left = {.tv_nsec = (long long)kvt_min_u64(left_ns, KVT_IO_RETRY_NS_MAX)};
        struct io_uring_cqe *cqe;
        result = io_uring_submit_and_wait_timeout(&ring->ring, &cqe, 1, &left, NULL);
    }
    atomic_store(&ring->sleeping, false);
    if (result < 0 && result != -EINTR && result != -ETIME)
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL); /* short of memory or of room for completions */
}

/* false: told to stop, and nothing is left in the kernel. */
static bool turn(io_ring *ring)
{
    take_inbox(ring);
    start_pieces(ring);
    arm_event(ring);
    kvt_io_op *finished = kvt_io_queue_take_finished(&ring->queue);
    if (finished != NULL) {
        (void)io_uring_submit(&ring->ring); /* the device works while `done` does; a failure is seen when we wait */
        kvt_io_deliver(finished);
        return true;
    }
    if (kvt_io_queue_idle(&ring->queue) && !ring->event_armed && atomic_load(&ring->inbox) == NULL)
        return false;
    wait_for_work(ring);
    reap(ring);
    return true;
}

static void *ring_run(void *arg)
{
    io_ring *ring = arg;
    int error = set_up(ring);
    announce(ring, error);
    if (error != 0)
        return NULL;
    while (turn(ring))
        continue;
    tear_down(ring);
    return NULL;
}

/* ---- the vtable ---- */

static void wake(io_ring *ring)
{
    uint64_t one = 1;
    ssize_t written;
    do
        written = write(ring->event_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

/* Push a list, oldest first, in one step. */
static void push(io_ring *ring, kvt_io_op *list)
{
    kvt_io_op *newest = NULL, *oldest = list;
    while (list != NULL) {
        kvt_io_op *op = list;
        list = op->next;
        op->next = newest;
        newest = op;
    }
    kvt_io_op *head = atomic_load_explicit(&ring->inbox, memory_order_relaxed);
    do
        oldest->next = head;
    while (!atomic_compare_exchange_weak(&ring->inbox, &head, newest));
    if (atomic_exchange(&ring->sleeping, false))
        wake(ring);
}

static void ring_submit(kvt_io *io, kvt_io_op *list)
{
    io_ring *ring = (io_ring *)io;
    if (list == NULL)
        return;
    for (kvt_io_op *op = list; op != NULL; op = op->next)
        op->io_private[KVT_IO_OP_EXTRA] = kvt_io_files_prepare(&ring->files, op) ? EXTRA_DROP_CACHE : 0;
    push(ring, list);
}

static void push_command(kvt_io *io, kvt_io_op *op) { push((io_ring *)io, op); }

static void ring_close_file(kvt_io *io, kvt_io_file file)
{
    if (file < 0 || file >= KVT_IO_FILES_MAX)
        return;
    kvt_io_op forget = {.verb = KVT_IO_SYNC, .file = file};
    forget.io_private[KVT_IO_OP_EXTRA] = EXTRA_FORGET;
    kvt_io_run(io, &forget, push_command);
    kvt_io_files_close(io, file);
}

static void release(io_ring *ring)
{
    kvt_io_fork_watch(&ring->files, WATCH_EVENT, -1);
    if (ring->event_fd >= 0)
        close(ring->event_fd);
    pthread_cond_destroy(&ring->started);
    pthread_mutex_destroy(&ring->lock);
    kvt_io_queue_fini(&ring->queue);
    kvt_io_files_fini(&ring->files);
    kvt_free(ring);
}

static void ring_close(kvt_io *io)
{
    io_ring *ring = (io_ring *)io;
    if (ring == NULL)
        return;
    atomic_store(&ring->stopping, true);
    wake(ring);
    pthread_join(ring->thread, NULL);
    release(ring);
}

/* Start the thread and hear whether the kernel gave it a ring. */
static kvt_status start(io_ring *ring)
{
    KVT_TRY(kvt_io_thread_start(&ring->thread, ring_run, ring));
    pthread_mutex_lock(&ring->lock);
    while (!ring->ready)
        pthread_cond_wait(&ring->started, &ring->lock);
    kvt_status status = ring->start_status;
    pthread_mutex_unlock(&ring->lock);
    if (status == KVT_OK)
        return KVT_OK;
    pthread_join(ring->thread, NULL);
    return kvt_fail(status, "%s", ring->start_text);
}

static kvt_status ring_open(const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out)
{
    io_ring *ring = kvt_alloc(sizeof *ring);
    if (ring == NULL)
        return kvt_fail(KVT_NOMEM, "no memory to open %s", directory);
    kvt_status status = kvt_io_files_init(&ring->files, &kvt_io_uring_ops, directory, read_only, config);
    if (status != KVT_OK) {
        kvt_free(ring);
        return status;
    }
    pthread_mutex_init(&ring->lock, NULL);
    pthread_cond_init(&ring->started, NULL);
    if (config != NULL) {
        ring->memory = config->memory;
        ring->memory_bytes = config->memory_bytes;
    }
    ring->event_fd = eventfd(0, EFD_CLOEXEC);
    if (ring->event_fd < 0)
        status = kvt_fail(KVT_IO, "no event descriptor: the process has too many open files");
    kvt_io_fork_watch(&ring->files, WATCH_EVENT, ring->event_fd);
    if (status == KVT_OK)
        status = kvt_io_queue_init(&ring->queue, config);
    if (status == KVT_OK)
        status = start(ring);
    if (status != KVT_OK) {
        release(ring);
        return status;
    }
    *out = &ring->files.io;
    return KVT_OK;
}

static const char *ring_detail(kvt_io *io) { return ((io_ring *)io)->detail; }

const kvt_io_ops kvt_io_uring_ops = {
    .name = "io_uring",
    .open = ring_open,
    .close = ring_close,
    .submit = ring_submit,
    .open_file = kvt_io_files_open,
    .close_file = ring_close_file,
    .allocate = kvt_io_files_allocate,
    .truncate = kvt_io_files_truncate,
    .rename = kvt_io_files_rename,
    .unlink = kvt_io_files_unlink,
    .exists = kvt_io_files_exists,
    .examine = kvt_io_files_examine,
    .list = kvt_io_files_list,
    .sync_directory = kvt_io_files_sync_directory,
    .random = kvt_io_files_random,
    .detail = ring_detail,
};
