/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose directory it is, and what it was made for: locks, SUPER, the geometry of a new store. Nothing is written before
 * it is clear that the store is ours, of a version we know, and free.
 */
#include "tiers/file_calls.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SUPER_BYTES = 2 * KVT_BLOCK_BYTES,
    SEGMENTS_WANTED = 64,
    SEGMENTS_ENOUGH = 8,
    IMAGES_WANTED = 4,
    PID_BYTES = 16
};
#define OTHER_BYTES         (UINT64_C(2) << 20) /* SUPER and its copies, LOCK, the probe */
#define SEGMENT_DEFAULT_MAX (UINT64_C(256) << 20)
#define SEGMENT_DEFAULT_MIN (UINT64_C(16) << 20)
#define SUPER_NAME          "SUPER"
#define SUPER_TEMPORARY     "SUPER.tmp"
#define SUPER_REPLACED      "SUPER.bad"
#define LOCK_NAME           "LOCK"

/* ---- geometry ---- */

/* Segments of this size in bytes_max, when checkpoints and the rest have theirs. */
static uint64_t segments_in(uint64_t bytes_max, uint64_t segment_bytes)
{
    if (bytes_max <= OTHER_BYTES)
        return 0;
    uint64_t count = (bytes_max - OTHER_BYTES) / segment_bytes;
    while (count != 0 && count * segment_bytes + OTHER_BYTES + 4 * kvt_checkpoint_bytes((uint32_t)count) > bytes_max)
        count--;
    return count;
}

/* payload_max 0: nobody said; then a segment should hold the largest payload there is, if that does not cost too many.
 */
static uint64_t default_segment_bytes(uint64_t bytes_max, uint64_t payload_max)
{
    uint64_t bytes = SEGMENT_DEFAULT_MAX;
    while (bytes > SEGMENT_DEFAULT_MIN && bytes_max / bytes < SEGMENTS_WANTED)
        bytes /= 2;
    uint64_t wanted =
        payload_max != 0 ? IMAGES_WANTED * kvt_image_bytes(payload_max) : kvt_image_bytes(KVT_PAYLOAD_BYTES_MAX);
    while (bytes < KVT_SEGMENT_BYTES_MAX && bytes < wanted && segments_in(bytes_max, 2 * bytes) >= SEGMENTS_ENOUGH)
        bytes *= 2;
    /* A small store: rather smaller segments than too few. */
    while (bytes > KVT_SEGMENT_BYTES_MIN && segments_in(bytes_max, bytes) < SEGMENTS_ENOUGH &&
           kvt_segment_payload_max(bytes / 2) >= payload_max)
        bytes /= 2;
    return bytes;
}

kvt_status kvt_file_geometry_choose(const kvt_tier_options *options, kvt_file_geometry *out)
{
    uint64_t bytes = options->segment_bytes;
    if (bytes != 0 && (!kvt_is_power_of_two(bytes) || bytes < KVT_SEGMENT_BYTES_MIN || bytes > KVT_SEGMENT_BYTES_MAX))
        return kvt_fail(KVT_INVALID, "segments of %" PRIu64 " bytes: use a power of two from 1 MiB to 1 GiB, or 0",
                        bytes);
    if (options->bytes_max > INT64_MAX)
        return kvt_fail(KVT_INVALID, "a file tier of %" PRIu64 " bytes is too large", options->bytes_max);
    uint64_t payload_max = options->blob_bytes_max;
    if (bytes == 0)
        bytes = default_segment_bytes(options->bytes_max, payload_max);
    if (kvt_segment_payload_max(bytes) < payload_max)
        return kvt_fail(KVT_INVALID,
                        "segments of %" PRIu64 " MiB cannot hold payloads of %" PRIu64
                        " bytes: choose larger segments or smaller chunks",
                        bytes >> 20, payload_max);
    uint64_t count = segments_in(options->bytes_max, bytes);
    if (count < KVT_SEGMENTS_MIN)
        return kvt_fail(KVT_INVALID,
                        "a file tier of %" PRIu64 " bytes holds fewer than %d segments of %" PRIu64
                        " MiB: give it at least %" PRIu64 " MiB, or choose smaller segments",
                        options->bytes_max, KVT_SEGMENTS_MIN, bytes >> 20,
                        (KVT_SEGMENTS_MIN * bytes + 2 * OTHER_BYTES) >> 20);
    if (count > KVT_SEGMENTS_MAX)
        return kvt_fail(KVT_INVALID,
                        "a file tier of %" PRIu64 " bytes has more than %d segments of %" PRIu64
                        " MiB: choose larger ones",
                        options->bytes_max, KVT_SEGMENTS_MAX, bytes >> 20);
    *out = (kvt_file_geometry){bytes, count};
    return KVT_OK;
}

/* ---- is it ours? ---- */

typedef struct directory_view {
    bool super, lock, data, foreign;
    char foreign_name[64];
} directory_view;

static bool starts_with(const char *name, const char *prefix) { return strncmp(name, prefix, strlen(prefix)) == 0; }

static void look_at(void *arg, const char *name)
{
    static const char *const ours[] = {SUPER_TEMPORARY, SUPER_REPLACED, "index.",     "probe.tmp",
                                       "spaces",        "engine.",      "lost+found", "."};
    directory_view *view = arg;
    view->super |= strcmp(name, SUPER_NAME) == 0;
    view->lock |= strcmp(name, LOCK_NAME) == 0;
    view->data |= strcmp(name, KVT_FILE_DATA_NAME) == 0;
    bool known = strcmp(name, SUPER_NAME) == 0 || strcmp(name, LOCK_NAME) == 0 || strcmp(name, KVT_FILE_DATA_NAME) == 0;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0] && !known; i++)
        known = starts_with(name, ours[i]);
    if (!known && !view->foreign) {
        view->foreign = true;
        snprintf(view->foreign_name, sizeof view->foreign_name, "%s", name);
    }
}

/* KVT_OK: there is a store, or one may be made; *out_new says which. */
static kvt_status examine(kvt_file *file, const kvt_tier_options *options, bool *out_new)
{
    directory_view view = {0};
    KVT_TRY(file->io->ops->list(file->io, look_at, &view));
    *out_new = !view.super;
    if (view.super)
        return KVT_OK;
    if (options->no_create || options->read_only)
        return kvt_fail(KVT_MISS, "%s holds no store", options->path);
    if (view.foreign || (view.data && !view.lock))
        return kvt_fail(KVT_EXISTS, "%s holds other files (%s): choose an empty or new directory", options->path,
                        view.foreign ? view.foreign_name : KVT_FILE_DATA_NAME);
    return KVT_OK;
}

/* ---- locks ---- */

/* The owner as LOCK names it, 0 if it does not. */
static long owner_pid(kvt_file *file)
{
    char text[PID_BYTES + 1] = {0};
    kvt_io_file lock;
    kvt_io_file_info info;
    long pid = 0;
    uint32_t flags = KVT_IO_FILE_READ_ONLY | KVT_IO_FILE_BUFFERED;
    if (file->io->ops->open_file(file->io, LOCK_NAME, flags, &lock, &info) == KVT_OK) {
        if (info.bytes >= PID_BYTES && kvt_io_read_sync(file->io, lock, 0, text, PID_BYTES) == KVT_OK)
            pid = strtol(text, NULL, 10);
        file->io->ops->close_file(file->io, lock);
    }
    return pid;
}

static kvt_status say_busy(kvt_file *file, const char *path)
{
    long pid = owner_pid(file);
    if (pid <= 0)
        return kvt_fail(KVT_BUSY, "store %s is in use by another process", path);
    return kvt_fail(KVT_BUSY, "store %s is in use by process %ld", path, pid);
}

/* A killed owner may hold its lock a while longer: the kernel ends its I/O first. */
static bool owner_is_dead(kvt_file *file)
{
    long pid = owner_pid(file);
    return pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static kvt_status take_lock(kvt_file *file, const char *path)
{
    uint32_t flags = KVT_IO_FILE_BUFFERED | KVT_IO_FILE_LOCK;
    flags |= file->read_only ? KVT_IO_FILE_READ_ONLY : KVT_IO_FILE_CREATE;
    kvt_status status =
        file->io->ops->open_file(file->io, LOCK_NAME, flags | KVT_IO_FILE_LOCK_NOW, &file->lock_file, NULL);
    if (status == KVT_BUSY && owner_is_dead(file))
        status = file->io->ops->open_file(file->io, LOCK_NAME, flags, &file->lock_file, NULL);
    if (status == KVT_MISS && file->read_only)
        return KVT_OK; /* nothing to lock with; data.0 will do */
    if (status == KVT_BUSY)
        return say_busy(file, path);
    return status;
}

static void write_pid(kvt_file *file)
{
    char text[PID_BYTES + 1];
    snprintf(text, sizeof text, "%-*ld\n", PID_BYTES - 1, (long)getpid());
    (void)kvt_io_write_sync(file->io, file->lock_file, 0, text, PID_BYTES); /* for people only */
}

static kvt_status open_data(kvt_file *file, kvt_io_file_info *out_info)
{
    uint32_t flags = KVT_IO_FILE_LOCK | (file->read_only ? KVT_IO_FILE_READ_ONLY : KVT_IO_FILE_CREATE);
    kvt_status status = file->io->ops->open_file(file->io, KVT_FILE_DATA_NAME, flags, &file->data_file, out_info);
    if (status == KVT_BUSY)
        return say_busy(file, file->path_text);
    if (status == KVT_MISS)
        return kvt_fail(KVT_CORRUPT, "store %s has lost its data file %s; open it for writing to start anew",
                        file->path_text, KVT_FILE_DATA_NAME);
    return status;
}

/* ---- SUPER ---- */

static kvt_status write_slot(kvt_file *file, kvt_io_file super_file, const kvt_super *super)
{
    uint8_t *block = file->scratch;
    uint64_t slot = super->slot_seq & 1;
    kvt_super_encode(super, block);
    return kvt_io_write_sync(file->io, super_file, slot * KVT_BLOCK_BYTES, block, KVT_BLOCK_BYTES);
}

kvt_status kvt_file_super_write(kvt_file *file)
{
    kvt_io_file super_file;
    kvt_status status = file->io->ops->open_file(file->io, SUPER_NAME, KVT_IO_FILE_BUFFERED, &super_file, NULL);
    if (status != KVT_OK)
        return status;
    kvt_super next = file->super;
    next.slot_seq++;
    status = write_slot(file, super_file, &next);
    if (status == KVT_OK)
        status = kvt_io_sync(file->io, super_file);
    file->io->ops->close_file(file->io, super_file);
    if (status == KVT_OK)
        file->super = next;
    return status;
}

/* Highest slot of our version; a newer version in either slot beats it. */
static kvt_status choose_slot(const uint8_t *blocks, kvt_super *out)
{
    kvt_status found = KVT_CORRUPT;
    for (uint32_t slot = 0; slot < 2; slot++) {
        kvt_super super;
        kvt_status status = kvt_super_decode(blocks + slot * KVT_BLOCK_BYTES, slot, &super);
        if (status == KVT_VERSION)
            return KVT_VERSION;
        if (status != KVT_OK || (found == KVT_OK && super.slot_seq <= out->slot_seq))
            continue;
        *out = super;
        found = KVT_OK;
    }
    return found;
}

static kvt_status read_super(kvt_file *file)
{
    kvt_io_file super_file;
    kvt_io_file_info info;
    uint32_t flags = KVT_IO_FILE_BUFFERED | KVT_IO_FILE_READ_ONLY;
    kvt_status status = file->io->ops->open_file(file->io, SUPER_NAME, flags, &super_file, &info);
    if (status != KVT_OK)
        return status;
    memset(file->scratch, 0, SUPER_BYTES);
    uint64_t bytes = kvt_min_u64(info.bytes, SUPER_BYTES) & ~(uint64_t)(KVT_BLOCK_BYTES - 1);
    if (bytes != 0)
        status = kvt_io_read_sync(file->io, super_file, 0, file->scratch, bytes);
    file->io->ops->close_file(file->io, super_file);
    if (status == KVT_OK)
        status = choose_slot(file->scratch, &file->super);
    if (status == KVT_CORRUPT)
        return kvt_fail(KVT_CORRUPT,
                        "store %s: SUPER is unreadable; restore it, or open with the option to reset a corrupt "
                        "store, which forgets every record",
                        file->path_text);
    if (status == KVT_VERSION)
        return kvt_fail(KVT_VERSION, "store %s was written by a newer release; nothing was changed", file->path_text);
    return status;
}

/* ---- format ---- */

static void make_uuid(kvt_file *file, kvt_uuid *out)
{
    kvt_store_le64(out->bytes, file->io->ops->random(file->io));
    kvt_store_le64(out->bytes + 8, file->io->ops->random(file->io));
}

static kvt_status write_new_super(kvt_file *file)
{
    kvt_io_file super_file;
    uint32_t flags = KVT_IO_FILE_CREATE | KVT_IO_FILE_BUFFERED;
    kvt_status status = file->io->ops->open_file(file->io, SUPER_TEMPORARY, flags, &super_file, NULL);
    if (status != KVT_OK)
        return status;
    status = write_slot(file, super_file, &file->super);
    file->super.slot_seq = 1;
    if (status == KVT_OK)
        status = write_slot(file, super_file, &file->super);
    if (status == KVT_OK)
        status = file->io->ops->truncate(file->io, super_file, SUPER_BYTES);
    if (status == KVT_OK)
        status = kvt_io_sync(file->io, super_file);
    file->io->ops->close_file(file->io, super_file);
    if (status == KVT_OK)
        status = file->io->ops->rename(file->io, SUPER_TEMPORARY, SUPER_NAME);
    return status == KVT_OK ? file->io->ops->sync_directory(file->io) : status;
}

static kvt_status format(kvt_file *file, const kvt_tier_options *options)
{
    kvt_file_geometry geometry;
    kvt_io_file_info info;
    kvt_status status = kvt_file_geometry_choose(options, &geometry);
    if (status == KVT_OK)
        status = open_data(file, &info);
    if (status != KVT_OK)
        return status;
    uint64_t bytes = geometry.segment_bytes * geometry.segment_count;
    KVT_TRY(file->io->ops->allocate(file->io, file->data_file, bytes));
    if (info.bytes > bytes)
        KVT_TRY(file->io->ops->truncate(file->io, file->data_file, bytes));
    file->super = (kvt_super){.segment_bytes = geometry.segment_bytes,
                              .segment_count = {geometry.segment_count},
                              .file_count = 1,
                              .io_alignment = KVT_BLOCK_BYTES,
                              .bytes_max = options->bytes_max};
    make_uuid(file, &file->super.uuid);
    return write_new_super(file);
}

/* The old store's SUPER is kept aside; its records are dead, as the new uuid is another. */
static kvt_status reset(kvt_file *file, const kvt_tier_options *options)
{
    kvt_log_write(&file->host.log, KVT_LOG_WARN, "%s: SUPER is unreadable; kept as %s, the store is formatted anew",
                  options->path, SUPER_REPLACED);
    KVT_TRY(file->io->ops->rename(file->io, SUPER_NAME, SUPER_REPLACED));
    return format(file, options);
}

/* A data file that got shorter, or lost, has lost segments; where there is room they come back empty. */
static kvt_status open_known_data(kvt_file *file)
{
    kvt_io_file_info info;
    kvt_status status = open_data(file, &info);
    if (status != KVT_OK)
        return status;
    uint64_t bytes = file->super.segment_bytes * file->super.segment_count[0];
    if (info.bytes >= bytes)
        return KVT_OK;
    kvt_log_write(&file->host.log, KVT_LOG_ERROR,
                  "%s: %s has %" PRIu64 " of %" PRIu64 " bytes; what lay behind is lost", file->path_text,
                  KVT_FILE_DATA_NAME, info.bytes, bytes);
    if (!file->read_only && file->io->ops->allocate(file->io, file->data_file, bytes) == KVT_OK)
        return KVT_OK;
    file->segment_count = (uint32_t)(info.bytes / file->super.segment_bytes);
    if (file->segment_count >= KVT_SEGMENTS_MIN)
        return KVT_OK;
    return kvt_fail(KVT_CORRUPT, "store %s: %s was cut short and cannot be extended; make room, or remove the store",
                    file->path_text, KVT_FILE_DATA_NAME);
}

kvt_status kvt_file_super_open(kvt_file *file, const kvt_tier_options *options)
{
    bool fresh;
    kvt_file_geometry geometry;
    kvt_status status = examine(file, options, &fresh);
    if (status == KVT_OK && fresh)
        status = kvt_file_geometry_choose(options, &geometry); /* say what is wrong before anything is made */
    if (status == KVT_OK)
        status = take_lock(file, options->path);
    if (status == KVT_OK)
        status = examine(file, options, &fresh); /* another process may have formatted it meanwhile */
    if (status != KVT_OK)
        return status;
    status = fresh ? format(file, options) : read_super(file);
    if (status == KVT_CORRUPT && !fresh && options->reset_corrupt && !options->read_only)
        status = reset(file, options);
    if (status != KVT_OK)
        return status;
    file->segment_bytes = file->super.segment_bytes;
    file->segment_count = (uint32_t)file->super.segment_count[0];
    if (file->data_file < 0)
        status = open_known_data(file);
    if (status == KVT_OK && !file->read_only)
        write_pid(file);
    return status;
}
