/* SPDX-License-Identifier: Apache-2.0
 *
 * I/O contexts on a simulated disk: the vtable, and the steps that complete pieces. See io_sim.h. The queue is the one
 * that real implementations use, so that its judgement of faults is what the simulator tests.
 */
#include "tiers/io_sim_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sim_handle {
    sim_file *file; /* NULL: free */
    char name[SIM_NAME_BYTES];
    uint32_t alignment;
    bool read_only;
    bool locked;
} sim_handle;

typedef struct sim_context {
    kvt_io io; /* first */
    kvt_sim_disk *disk;
    uint64_t life;
    bool read_only;
    bool running; /* a thread runs the steps of inline mode */
    kvt_io_queue queue;
    kvt_io_piece *flying[KVT_IO_DEPTH_MAX]; /* in order of start */
    uint32_t flying_count;
    sim_handle handles[SIM_HANDLES_MAX];
} sim_context;

static sim_context *context_of(kvt_io *io) { return (sim_context *)io; }
static bool dead(const sim_context *context) { return context->life != context->disk->life; }

static sim_handle *handle_of(sim_context *context, kvt_io_file file)
{
    bool valid = file >= 0 && file < SIM_HANDLES_MAX && context->handles[file].file != NULL;
    return valid ? &context->handles[file] : NULL;
}

/* ---- one piece ---- */

static uint64_t elsewhere(kvt_sim_disk *disk, const sim_file *file, uint64_t bytes)
{
    uint64_t blocks = file->now.bytes < bytes ? 0 : (file->now.bytes - bytes) / KVT_SIM_SECTOR_BYTES;
    return sim_random(&disk->random) % (blocks + 1) * KVT_SIM_SECTOR_BYTES;
}

static void flip(kvt_sim_disk *disk, uint8_t *data, uint64_t bytes)
{
    uint64_t bit = bytes == 0 ? 0 : sim_random(&disk->random) % (bytes * 8);
    if (bytes != 0)
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static int64_t read_piece(kvt_sim_disk *disk, const sim_file *file, const kvt_io_piece *piece, kvt_sim_fault fault)
{
    uint64_t offset = fault == KVT_SIM_MISDIRECT ? elsewhere(disk, file, piece->bytes) : piece->offset;
    uint64_t there = offset < file->now.bytes ? file->now.bytes - offset : 0;
    uint64_t bytes = kvt_min_u64(piece->bytes, there);
    sim_image_read(&file->now, offset, piece->memory, bytes);
    if (fault == KVT_SIM_FLIP)
        flip(disk, piece->memory, bytes);
    disk->stats.bytes_read += bytes;
    return (int64_t)bytes;
}

static int64_t put_flipped(kvt_sim_disk *disk, sim_file *file, const kvt_io_piece *piece)
{
    uint8_t *copy = malloc(piece->bytes);
    if (copy == NULL)
        return -ENOSPC;
    memcpy(copy, piece->memory, piece->bytes);
    flip(disk, copy, piece->bytes);
    bool good = sim_file_put(disk, file, piece->offset, copy, piece->bytes);
    free(copy);
    return good ? (int64_t)piece->bytes : -ENOSPC;
}

static int64_t write_piece(kvt_sim_disk *disk, sim_file *file, const kvt_io_piece *piece, kvt_sim_fault fault)
{
    uint64_t end = piece->offset + piece->bytes;
    uint64_t growth = end > file->now.bytes ? end - file->now.bytes : 0;
    if (growth != 0 && disk->capacity != 0 && sim_disk_bytes(disk) + growth > disk->capacity)
        return -ENOSPC;
    disk->stats.bytes_written += piece->bytes;
    if (fault == KVT_SIM_LOST)
        return piece->bytes;
    if (fault == KVT_SIM_FLIP)
        return put_flipped(disk, file, piece);
    uint64_t offset = fault == KVT_SIM_MISDIRECT ? elsewhere(disk, file, piece->bytes) : piece->offset;
    return sim_file_put(disk, file, offset, piece->memory, piece->bytes) ? (int64_t)piece->bytes : -ENOSPC;
}

/* A write that fails may have changed what it was about to change. */
static int64_t fail_piece(kvt_sim_disk *disk, sim_file *file, const kvt_io_piece *piece, int error)
{
    uint64_t sectors = piece->bytes / KVT_SIM_SECTOR_BYTES;
    if (piece->op->verb == KVT_IO_WRITE)
        (void)sim_file_put(disk, file, piece->offset, piece->memory,
                           sim_random(&disk->random) % (sectors + 1) * KVT_SIM_SECTOR_BYTES);
    if (piece->op->verb == KVT_IO_SYNC)
        sim_file_sync(disk, file, piece->op->io_private[KVT_IO_OP_EXTRA], true);
    return -error;
}

static int64_t sync_piece(kvt_sim_disk *disk, sim_file *file, const kvt_io_piece *piece, kvt_sim_fault fault)
{
    if (fault != KVT_SIM_LOST)
        sim_file_sync(disk, file, piece->op->io_private[KVT_IO_OP_EXTRA], false);
    return 0;
}

static int64_t carry_out(sim_context *context, kvt_io_piece *piece)
{
    kvt_sim_disk *disk = context->disk;
    sim_handle *handle = handle_of(context, piece->op->file);
    if (dead(context) || handle == NULL)
        return -EIO;
    if (handle->read_only && piece->op->verb == KVT_IO_WRITE)
        return -EBADF;
    uint64_t *const counts[] = {&disk->stats.reads, &disk->stats.writes, &disk->stats.syncs};
    ++*counts[piece->op->verb];
    kvt_sim_event event = {(kvt_sim_verb)piece->op->verb, handle->name, piece->offset, piece->bytes};
    kvt_sim_fault fault = sim_fault(disk, &event);
    if (fault == KVT_SIM_EIO || fault == KVT_SIM_NOSPACE)
        return fail_piece(disk, handle->file, piece, fault == KVT_SIM_EIO ? EIO : ENOSPC);
    if (fault == KVT_SIM_AGAIN)
        return -EAGAIN;
    kvt_io_piece part = *piece;
    if (fault == KVT_SIM_SHORT)
        part.bytes = piece->bytes / 2 / handle->alignment * handle->alignment;
    switch (piece->op->verb) {
    case KVT_IO_READ:
        return read_piece(disk, handle->file, &part, fault);
    case KVT_IO_WRITE:
        return write_piece(disk, handle->file, &part, fault);
    case KVT_IO_SYNC:
        return sync_piece(disk, handle->file, &part, fault);
    }
    return -EINVAL;
}

/* ---- steps ---- */

static void launch(sim_context *context)
{
    kvt_io_piece *piece;
    while ((piece = kvt_io_queue_next(&context->queue, UINT64_MAX)) != NULL)
        context->flying[context->flying_count++] = piece;
}

/* Complete one piece of a context; its finished operations go to *out. Under the lock. false: there was nothing. */
static bool step_context(sim_context *context, kvt_io_op **out)
{
    kvt_sim_disk *disk = context->disk;
    launch(context);
    if (context->flying_count != 0) {
        uint32_t i = disk->scramble ? (uint32_t)(sim_random(&disk->random) % context->flying_count) : 0;
        kvt_io_piece *piece = context->flying[i];
        memmove(&context->flying[i], &context->flying[i + 1], (--context->flying_count - i) * sizeof piece);
        kvt_io_queue_settle(&context->queue, piece, carry_out(context, piece), 0);
    } else if (context->queue.finished.head == NULL) {
        return false;
    }
    *out = kvt_io_queue_take_finished(&context->queue);
    return true;
}

static bool step_any(kvt_sim_disk *disk)
{
    kvt_io_op *finished = NULL;
    bool stepped = false;
    pthread_mutex_lock(&disk->lock);
    for (int i = 0; i < SIM_CONTEXTS_MAX && !stepped; i++)
        stepped = disk->contexts[i] != NULL && step_context(disk->contexts[i], &finished);
    pthread_mutex_unlock(&disk->lock);
    kvt_io_deliver(finished);
    return stepped;
}

bool kvt_sim_step(kvt_sim_disk *disk) { return step_any(disk); }

uint64_t kvt_sim_run(kvt_sim_disk *disk)
{
    uint64_t steps = 0;
    while (step_any(disk))
        steps++;
    return steps;
}

/* Run a context to its end, unless another call further up the stack, or on another thread, is at it. Under the
 * lock. */
static void run_inline(sim_context *context)
{
    kvt_io_op *finished = NULL;
    if (context->running)
        return;
    context->running = true;
    while (step_context(context, &finished)) {
        pthread_mutex_unlock(&context->disk->lock);
        kvt_io_deliver(finished);
        pthread_mutex_lock(&context->disk->lock);
        finished = NULL;
    }
    context->running = false;
    pthread_cond_broadcast(&context->disk->idle);
}

static void sim_submit(kvt_io *io, kvt_io_op *list)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    while (list != NULL) {
        kvt_io_op *op = list;
        list = op->next;
        const sim_handle *handle = handle_of(context, op->file);
        op->status = handle != NULL ? KVT_OK : KVT_INVALID;
        op->system_error = handle != NULL ? 0 : EBADF;
        op->io_private[KVT_IO_OP_FILE] = (uint64_t)op->file;
        op->io_private[KVT_IO_OP_ALIGN] = handle != NULL ? handle->alignment : 1;
        op->io_private[KVT_IO_OP_EXTRA] = context->disk->order; /* a sync covers what came before */
        kvt_io_queue_push(&context->queue, op);
    }
    if (context->disk->mode == KVT_SIM_INLINE)
        run_inline(context);
    pthread_mutex_unlock(&context->disk->lock);
}

/* ---- crash ---- */

static void crash_context(sim_context *context, const kvt_sim_crash_options *options)
{
    launch(context);
    for (uint32_t i = 0; i < context->flying_count; i++) {
        const sim_handle *handle = handle_of(context, context->flying[i]->op->file);
        if (handle != NULL && !handle->read_only)
            sim_crash_in_flight(context->disk, options, handle->file, context->flying[i]);
    }
}

void kvt_sim_crash(kvt_sim_disk *disk, const kvt_sim_crash_options *options)
{
    pthread_mutex_lock(&disk->lock);
    for (int i = 0; i < SIM_CONTEXTS_MAX; i++) {
        if (disk->contexts[i] != NULL && !dead(disk->contexts[i]))
            crash_context(disk->contexts[i], options);
    }
    sim_crash_files(disk, options);
    disk->life++;
    pthread_mutex_unlock(&disk->lock);
}

/* ---- opening and closing ---- */

static int attach(kvt_sim_disk *disk, sim_context *context)
{
    for (int i = 0; i < SIM_CONTEXTS_MAX; i++) {
        if (disk->contexts[i] == NULL) {
            disk->contexts[i] = context;
            return 0;
        }
    }
    return EMFILE;
}

static kvt_status sim_open(const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out)
{
    (void)directory;
    if (config == NULL || config->sim == NULL)
        return kvt_fail(KVT_UNSUPPORTED, "there is no simulated disk");
    kvt_sim_disk *disk = config->sim;
    sim_context *context = kvt_alloc(sizeof *context);
    if (context == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a simulated context");
    *context = (sim_context){.io = {&kvt_io_sim_ops}, .disk = disk, .read_only = read_only};
    kvt_status status = kvt_io_queue_init(&context->queue, config);
    pthread_mutex_lock(&disk->lock);
    context->life = disk->life;
    if (status == KVT_OK && attach(disk, context) != 0)
        status = kvt_fail(KVT_IO, "too many contexts on one simulated disk");
    pthread_mutex_unlock(&disk->lock);
    if (status != KVT_OK) {
        kvt_io_queue_fini(&context->queue);
        kvt_free(context);
        return status;
    }
    *out = &context->io;
    return KVT_OK;
}

static void release_handle(sim_context *context, sim_handle *handle)
{
    sim_file *file = handle->file;
    if (handle->locked && !dead(context) && file->owner == context)
        file->owner = NULL;
    else if (handle->locked && !dead(context) && file->sharers != 0)
        file->sharers--;
    file->open_count--;
    handle->file = NULL;
    sim_files_collect(context->disk);
}

static void sim_close(kvt_io *io)
{
    sim_context *context = context_of(io);
    if (context == NULL)
        return;
    kvt_sim_disk *disk = context->disk;
    pthread_mutex_lock(&disk->lock);
    while (context->running)
        pthread_cond_wait(&disk->idle, &disk->lock);
    run_inline(context);
    for (int i = 0; i < SIM_HANDLES_MAX; i++) {
        if (context->handles[i].file != NULL)
            release_handle(context, &context->handles[i]);
    }
    for (int i = 0; i < SIM_CONTEXTS_MAX; i++) {
        if (disk->contexts[i] == context)
            disk->contexts[i] = NULL;
    }
    pthread_mutex_unlock(&disk->lock);
    kvt_io_queue_fini(&context->queue);
    kvt_free(context);
}

/* ---- calls on files and names ---- */

/* Faults of a call: 0 or errno. */
static int call_fault(sim_context *context, kvt_sim_verb verb, const char *name, uint64_t bytes)
{
    if (dead(context))
        return EIO;
    if (context->read_only && verb >= KVT_SIM_ALLOCATE && verb <= KVT_SIM_CREATE)
        return EROFS;
    kvt_sim_event event = {verb, name, 0, bytes};
    kvt_sim_fault fault = sim_fault(context->disk, &event);
    return fault == KVT_SIM_EIO ? EIO : fault == KVT_SIM_NOSPACE ? ENOSPC : 0;
}

static kvt_status outcome(int error, const char *what, const char *name)
{
    char text[128];
    if (error == 0)
        return KVT_OK;
    return kvt_fail(kvt_status_of_errno(error), "simulated %s cannot be %s: %s", name, what,
                    strerror_r(error, text, sizeof text));
}

static kvt_status find_or_create(sim_context *context, const char *name, bool create, sim_file **out)
{
    kvt_sim_disk *disk = context->disk;
    *out = sim_find(disk, name);
    if (*out != NULL)
        return KVT_OK;
    if (!create)
        return kvt_fail(KVT_MISS, "simulated %s does not exist", name);
    int error = call_fault(context, KVT_SIM_CREATE, name, 0);
    *out = error == 0 ? sim_file_create(disk) : NULL;
    if (error == 0)
        error = *out == NULL ? ENOSPC : sim_names_set(disk, name, *out);
    if (error != 0)
        sim_files_collect(disk);
    return outcome(error, "created", name);
}

static bool lock_file(sim_context *context, sim_file *file, bool shared)
{
    if (file->owner != NULL || (!shared && file->sharers != 0))
        return false;
    if (shared)
        file->sharers++;
    else
        file->owner = context;
    return true;
}

static kvt_status open_locked(sim_context *context, const char *name, uint32_t flags, sim_handle *handle)
{
    bool read_only = context->read_only || (flags & KVT_IO_FILE_READ_ONLY) != 0;
    bool lock = (flags & KVT_IO_FILE_LOCK) != 0;
    sim_file *file;
    if (dead(context))
        return outcome(EIO, "opened", name);
    kvt_status status = find_or_create(context, name, (flags & KVT_IO_FILE_CREATE) != 0 && !read_only, &file);
    if (status != KVT_OK)
        return status;
    if (lock && !lock_file(context, file, read_only))
        return kvt_fail(KVT_BUSY, "simulated %s is in use", name);
    file->open_count++;
    *handle = (sim_handle){.file = file, .read_only = read_only, .locked = lock};
    handle->alignment = (flags & KVT_IO_FILE_BUFFERED) != 0 ? 1 : context->disk->alignment;
    snprintf(handle->name, sizeof handle->name, "%s", name);
    return KVT_OK;
}

static bool name_valid(const char *name)
{
    size_t bytes = strnlen(name, SIM_NAME_BYTES);
    return bytes != 0 && bytes < SIM_NAME_BYTES && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static kvt_status sim_open_file(kvt_io *io, const char *name, uint32_t flags, kvt_io_file *out,
                                kvt_io_file_info *out_info)
{
    sim_context *context = context_of(io);
    if (!name_valid(name))
        return kvt_fail(KVT_INVALID, "\"%s\" is no file name", name);
    pthread_mutex_lock(&context->disk->lock);
    kvt_io_file file = 0;
    while (file < SIM_HANDLES_MAX && context->handles[file].file != NULL)
        file++;
    kvt_status status = file == SIM_HANDLES_MAX ? outcome(EMFILE, "opened", name)
                                                : open_locked(context, name, flags, &context->handles[file]);
    if (status == KVT_OK) {
        const sim_handle *handle = &context->handles[file];
        *out = file;
        if (out_info != NULL)
            *out_info = (kvt_io_file_info){handle->file->now.bytes, handle->alignment, handle->alignment != 1};
    }
    pthread_mutex_unlock(&context->disk->lock);
    return status;
}

static void sim_close_file(kvt_io *io, kvt_io_file file)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    sim_handle *handle = handle_of(context, file);
    if (handle != NULL)
        release_handle(context, handle);
    pthread_mutex_unlock(&context->disk->lock);
}

static kvt_status resize(kvt_io *io, kvt_io_file file, uint64_t bytes, kvt_sim_verb verb)
{
    sim_context *context = context_of(io);
    kvt_sim_disk *disk = context->disk;
    pthread_mutex_lock(&disk->lock);
    sim_handle *handle = handle_of(context, file);
    int error = handle == NULL ? EBADF : handle->read_only ? EROFS : call_fault(context, verb, handle->name, bytes);
    uint64_t before = handle != NULL ? handle->file->now.bytes : 0;
    bool keep = verb == KVT_SIM_ALLOCATE && before >= bytes; /* a reservation never shrinks */
    uint64_t growth = bytes > before ? bytes - before : 0;
    if (error == 0 && growth != 0 && disk->capacity != 0 && sim_disk_bytes(disk) + growth > disk->capacity)
        error = ENOSPC;
    if (error == 0 && !keep)
        sim_file_resize(handle->file, bytes);
    kvt_status status = outcome(error, "resized", handle != NULL ? handle->name : "file");
    pthread_mutex_unlock(&disk->lock);
    return status;
}

static kvt_status sim_allocate(kvt_io *io, kvt_io_file file, uint64_t bytes)
{
    return resize(io, file, bytes, KVT_SIM_ALLOCATE);
}

static kvt_status sim_truncate(kvt_io *io, kvt_io_file file, uint64_t bytes)
{
    return resize(io, file, bytes, KVT_SIM_TRUNCATE);
}

static kvt_status sim_rename(kvt_io *io, const char *from, const char *to)
{
    sim_context *context = context_of(io);
    if (!name_valid(from) || !name_valid(to))
        return kvt_fail(KVT_INVALID, "\"%s\" or \"%s\" is no file name", from, to);
    pthread_mutex_lock(&context->disk->lock);
    int error = call_fault(context, KVT_SIM_RENAME, from, 0);
    if (error == 0)
        error = sim_names_move(context->disk, from, to);
    pthread_mutex_unlock(&context->disk->lock);
    return outcome(error, "renamed", from);
}

static kvt_status sim_unlink(kvt_io *io, const char *name)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    int error = call_fault(context, KVT_SIM_UNLINK, name, 0);
    if (error == 0)
        error = sim_names_set(context->disk, name, NULL);
    pthread_mutex_unlock(&context->disk->lock);
    return error == ENOENT ? KVT_MISS : outcome(error, "removed", name);
}

static kvt_status sim_exists(kvt_io *io, const char *name)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    bool there = sim_find(context->disk, name) != NULL;
    int error = dead(context) ? EIO : 0;
    pthread_mutex_unlock(&context->disk->lock);
    return error != 0 ? outcome(error, "examined", name) : there ? KVT_OK : KVT_MISS;
}

static kvt_status sim_examine(kvt_io *io, kvt_io_file file, const char *name, uint64_t *out_bytes)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    const sim_handle *handle = handle_of(context, file);
    kvt_status status = dead(context) || handle == NULL ? KVT_IO : KVT_OK;
    if (status == KVT_OK && sim_find(context->disk, name) != handle->file)
        status = KVT_MISS;
    if (status == KVT_OK)
        *out_bytes = handle->file->now.bytes;
    pthread_mutex_unlock(&context->disk->lock);
    return status;
}

/* Names are copied first: visit may open and remove files. */
static kvt_status sim_list(kvt_io *io, void (*visit)(void *arg, const char *name), void *arg)
{
    sim_context *context = context_of(io);
    sim_names *names = malloc(sizeof *names);
    if (names == NULL)
        return outcome(ENOMEM, "listed", "directory");
    pthread_mutex_lock(&context->disk->lock);
    *names = *context->disk->names;
    int error = dead(context) ? EIO : 0;
    pthread_mutex_unlock(&context->disk->lock);
    for (uint32_t i = 0; i < names->count && error == 0; i++)
        visit(arg, names->names[i].name);
    free(names);
    return outcome(error, "listed", "directory");
}

static kvt_status sim_sync_directory(kvt_io *io)
{
    sim_context *context = context_of(io);
    pthread_mutex_lock(&context->disk->lock);
    int error = call_fault(context, KVT_SIM_SYNC_DIRECTORY, "", 0);
    if (error == 0)
        sim_names_sync(context->disk);
    pthread_mutex_unlock(&context->disk->lock);
    return outcome(error, "synced", "directory");
}

static uint64_t sim_secret(kvt_io *io)
{
    kvt_sim_disk *disk = context_of(io)->disk;
    pthread_mutex_lock(&disk->lock);
    uint64_t value = sim_random(&disk->secrets);
    pthread_mutex_unlock(&disk->lock);
    return value;
}

static const char *sim_detail(kvt_io *io)
{
    (void)io;
    return "simulator";
}

const kvt_io_ops kvt_io_sim_ops = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .submit = sim_submit,
    .open_file = sim_open_file,
    .close_file = sim_close_file,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .exists = sim_exists,
    .examine = sim_examine,
    .list = sim_list,
    .sync_directory = sim_sync_directory,
    .random = sim_secret,
    .detail = sim_detail,
};
