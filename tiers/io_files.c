/* SPDX-License-Identifier: Apache-2.0
 *
 * See io_files.h: the table of open files, and the calls on files and names that move no data.
 */
#include "tiers/io_files.h"

#include "tiers/io_queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_WAIT_MS_DEFAULT = 5000, ALIGNMENT_MAX = 4096, INTERRUPTS_MAX = 8 };

static kvt_io_files *files_of(kvt_io *io) { return (kvt_io_files *)io; }

/* ---- the directory ---- */

/* Where anybody could swap the directory for another. A group that may is trusted: whoever runs the host made it, and
 * the usual umask of many hosts lets everybody's own group write. */
static bool open_to_all(const struct stat *parent)
{
    return (parent->st_mode & S_IWOTH) != 0 && (parent->st_mode & S_ISVTX) == 0;
}

/* Others must not be able to put names into the directory, nor to swap it for another. */
static kvt_status check_directory(int directory, const char *path)
{
    struct stat own, parent;
    if (fstat(directory, &own) != 0 || fstatat(directory, "..", &parent, 0) != 0)
        return kvt_fail(KVT_IO, "%s cannot be examined", path);
    if (own.st_uid != geteuid())
        return kvt_fail(KVT_IO, "%s belongs to another user", path);
    if ((own.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return kvt_fail(KVT_IO, "%s can be written by others: chmod 700 it", path);
    if (open_to_all(&parent))
        return kvt_fail(KVT_IO, "the parent of %s can be written by all: chmod o-w it, or choose another place", path);
    return KVT_OK;
}

kvt_status kvt_io_files_init(kvt_io_files *files, const kvt_io_ops *ops, const char *directory, bool read_only,
                             const kvt_io_config *config)
{
    char text[128];
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kvt_fail(KVT_IO, "directory %s cannot be opened: %s", directory, strerror_r(errno, text, sizeof text));
    kvt_status status = check_directory(fd, directory);
    char *path = status == KVT_OK ? kvt_strdup(directory) : NULL;
    if (path == NULL) {
        close(fd);
        return status != KVT_OK ? status : kvt_fail(KVT_NOMEM, "no memory to open %s", directory);
    }
    *files = (kvt_io_files){.io = {ops}, .path = path, .directory = fd, .read_only = read_only};
    files->lock_wait_ms = config != NULL && config->lock_wait_ms != 0 ? config->lock_wait_ms : LOCK_WAIT_MS_DEFAULT;
    if (config != NULL)
        files->log = config->log;
    for (int i = 0; i < KVT_IO_FILES_MAX; i++)
        files->entries[i].fd = -1;
    for (int i = 0; i < KVT_IO_EXTRA_FDS; i++)
        files->extra_fds[i] = -1;
    pthread_mutex_init(&files->lock, NULL);
    kvt_io_fork_add(files);
    return KVT_OK;
}

void kvt_io_files_fini(kvt_io_files *files)
{
    kvt_io_fork_remove(files);
    for (int i = 0; i < KVT_IO_FILES_MAX; i++)
        kvt_io_files_close(&files->io, i);
    pthread_mutex_destroy(&files->lock);
    close(files->directory);
    kvt_free(files->path);
}

/* ---- direct I/O ---- */

/* Alignment for direct I/O, 0: not possible. The kernel must say so itself: some file systems accept O_DIRECT and
 * cache. */
static uint32_t direct_alignment(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx info = {0};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0 || (info.stx_mask & STATX_DIOALIGN) == 0)
        return 0;
    uint32_t memory = info.stx_dio_mem_align, offset = info.stx_dio_offset_align;
    uint32_t larger = memory > offset ? memory : offset;
    if (memory == 0 || offset == 0 || larger > ALIGNMENT_MAX || !kvt_is_power_of_two(larger))
        return 0;
    return larger < 512 ? 512 : larger;
#else
    (void)fd;
    return 0;
#endif
}

bool kvt_io_files_direct_possible(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return true;
    bool possible = direct_alignment(fd) != 0;
    close(fd);
    return possible;
}

/* The descriptor was opened O_NONBLOCK, lest a FIFO hold us up; that goes, and O_DIRECT comes. */
static kvt_io_entry make_entry(int fd, bool want_direct)
{
    uint32_t alignment = want_direct ? direct_alignment(fd) : 0;
    if (alignment != 0 && fcntl(fd, F_SETFL, O_DIRECT) == 0)
        return (kvt_io_entry){.fd = fd, .alignment = alignment};
    (void)fcntl(fd, F_SETFL, 0);
    return (kvt_io_entry){.fd = fd, .alignment = 1, .drop_cache = want_direct};
}

/* ---- open files ---- */

static kvt_status add_entry(kvt_io_files *files, const kvt_io_entry *entry, kvt_io_file *out, bool *out_tell)
{
    kvt_status status = KVT_IO;
    pthread_mutex_lock(&files->lock);
    for (int i = 0; i < KVT_IO_FILES_MAX && status != KVT_OK; i++) {
        if (files->entries[i].fd < 0) {
            files->entries[i] = *entry;
            *out = i;
            status = KVT_OK;
        }
    }
    *out_tell = entry->drop_cache && !files->told_buffered;
    files->told_buffered |= entry->drop_cache;
    pthread_mutex_unlock(&files->lock);
    return status;
}

kvt_status kvt_io_files_open(kvt_io *io, const char *name, uint32_t flags, kvt_io_file *out, kvt_io_file_info *out_info)
{
    kvt_io_files *files = files_of(io);
    if (!kvt_io_name_valid(name))
        return kvt_fail(KVT_INVALID, "\"%s\" is no file name", name);
    int fd;
    kvt_status status = kvt_io_openat(files, name, flags, &fd);
    if (status != KVT_OK)
        return status;
    struct stat info;
    if (fstat(fd, &info) != 0) {
        status = kvt_io_files_fail(files, errno, "examined", name);
        close(fd);
        return status;
    }
    kvt_io_entry entry = make_entry(fd, (flags & KVT_IO_FILE_BUFFERED) == 0);
    bool tell = false;
    if (add_entry(files, &entry, out, &tell) != KVT_OK) {
        close(fd);
        return kvt_fail(KVT_IO, "%s/%s: more than %d files are open", files->path, name, KVT_IO_FILES_MAX);
    }
    if (tell)
        kvt_log_write(&files->log, KVT_LOG_WARN, "%s: no direct I/O here, transfers go through the page cache",
                      files->path);
    if (out_info != NULL)
        *out_info = (kvt_io_file_info){(uint64_t)info.st_size, entry.alignment, entry.alignment != 1};
    return KVT_OK;
}

/* fd -1 for anything that is not open. */
static kvt_io_entry get_entry(kvt_io_files *files, kvt_io_file file)
{
    kvt_io_entry entry = {.fd = -1};
    if (file < 0 || file >= KVT_IO_FILES_MAX)
        return entry;
    pthread_mutex_lock(&files->lock);
    entry = files->entries[file];
    pthread_mutex_unlock(&files->lock);
    return entry;
}

void kvt_io_files_close(kvt_io *io, kvt_io_file file)
{
    kvt_io_files *files = files_of(io);
    kvt_io_entry entry = get_entry(files, file);
    if (entry.fd < 0)
        return;
    pthread_mutex_lock(&files->lock);
    files->entries[file].fd = -1;
    pthread_mutex_unlock(&files->lock);
    close(entry.fd);
}

/* ---- operations ---- */

/* A write above the limit would raise SIGXFSZ in the host. */
static bool above_size_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur;
}

bool kvt_io_files_prepare(kvt_io_files *files, kvt_io_op *op)
{
    kvt_io_entry entry = get_entry(files, op->file);
    op->status = KVT_OK;
    op->system_error = 0;
    op->io_private[KVT_IO_OP_FILE] = (uint64_t)entry.fd;
    op->io_private[KVT_IO_OP_ALIGN] = entry.alignment;
    uint64_t end;
    if (entry.fd < 0) {
        op->status = KVT_INVALID;
        op->system_error = EBADF;
    } else if (op->verb == KVT_IO_WRITE && kvt_add_u64(op->offset, op->bytes, &end) && above_size_limit(end)) {
        op->status = KVT_IO;
        op->system_error = EFBIG;
    }
    return entry.drop_cache;
}

void kvt_io_files_drop_cache(int fd, const kvt_io_op *op, uint64_t offset, uint64_t bytes)
{
    if (op->verb == KVT_IO_READ)
        (void)posix_fadvise(fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    else if (op->verb == KVT_IO_SYNC)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- sizes ---- */

static kvt_status check_resize(kvt_io_files *files, kvt_io_file file, uint64_t bytes, kvt_io_entry *out)
{
    *out = get_entry(files, file);
    if (out->fd < 0 || bytes > INT64_MAX)
        return kvt_fail(KVT_INVALID, "%s: no such open file, or a size of %llu bytes", files->path,
                        (unsigned long long)bytes);
    if (above_size_limit(bytes))
        return kvt_fail(KVT_NOSPACE, "%s: a file of %llu bytes is above this process's limit (ulimit -f)", files->path,
                        (unsigned long long)bytes);
    return KVT_OK;
}

static int allocate_range(int fd, uint64_t bytes)
{
    for (int i = 0; i < INTERRUPTS_MAX; i++) {
        if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
            return 0;
        if (errno != EINTR)
            return errno;
    }
    return EINTR;
}

kvt_status kvt_io_files_allocate(kvt_io *io, kvt_io_file file, uint64_t bytes)
{
    kvt_io_files *files = files_of(io);
    kvt_io_entry entry;
    struct stat before;
    KVT_TRY(check_resize(files, file, bytes, &entry));
    if (fstat(entry.fd, &before) != 0)
        return kvt_io_files_fail(files, errno, "examined", "a data file");
    if (bytes == 0)
        return KVT_OK;
    int error = allocate_range(entry.fd, bytes);
    if (error == EOPNOTSUPP) {
        kvt_log_write(&files->log, KVT_LOG_WARN, "%s: this file system cannot reserve space; writes may find it full",
                      files->path);
        error = (uint64_t)before.st_size >= bytes || ftruncate(entry.fd, (off_t)bytes) == 0 ? 0 : errno;
    }
    if (error == 0)
        return KVT_OK;
    if (ftruncate(entry.fd, before.st_size) != 0)
        kvt_log_write(&files->log, KVT_LOG_WARN, "%s: a failed reservation could not be undone", files->path);
    return kvt_io_files_fail(files, error, "extended", "a data file");
}

kvt_status kvt_io_files_truncate(kvt_io *io, kvt_io_file file, uint64_t bytes)
{
    kvt_io_files *files = files_of(io);
    kvt_io_entry entry;
    KVT_TRY(check_resize(files, file, bytes, &entry));
    return ftruncate(entry.fd, (off_t)bytes) == 0 ? KVT_OK : kvt_io_files_fail(files, errno, "resized", "a data file");
}

/* ---- names ---- */

static kvt_status check_names(const kvt_io_files *files, const char *from, const char *to)
{
    if (!kvt_io_name_valid(from) || !kvt_io_name_valid(to))
        return kvt_fail(KVT_INVALID, "\"%s\" or \"%s\" is no file name", from, to);
    if (files->read_only)
        return kvt_fail(KVT_IO, "%s is open for reading only", files->path);
    return KVT_OK;
}

kvt_status kvt_io_files_rename(kvt_io *io, const char *from, const char *to)
{
    kvt_io_files *files = files_of(io);
    KVT_TRY(check_names(files, from, to));
    return renameat(files->directory, from, files->directory, to) == 0
               ? KVT_OK
               : kvt_io_files_fail(files, errno, "renamed", from);
}

kvt_status kvt_io_files_unlink(kvt_io *io, const char *name)
{
    kvt_io_files *files = files_of(io);
    KVT_TRY(check_names(files, name, name));
    if (unlinkat(files->directory, name, 0) == 0)
        return KVT_OK;
    return errno == ENOENT ? KVT_MISS : kvt_io_files_fail(files, errno, "removed", name);
}

kvt_status kvt_io_files_exists(kvt_io *io, const char *name)
{
    kvt_io_files *files = files_of(io);
    struct stat info;
    if (!kvt_io_name_valid(name))
        return kvt_fail(KVT_INVALID, "\"%s\" is no file name", name);
    if (fstatat(files->directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0)
        return KVT_OK;
    return errno == ENOENT ? KVT_MISS : kvt_io_files_fail(files, errno, "examined", name);
}

/* Called after writes: no error text is made for what is only unknown. */
kvt_status kvt_io_files_examine(kvt_io *io, kvt_io_file file, const char *name, uint64_t *out_bytes)
{
    kvt_io_files *files = files_of(io);
    kvt_io_entry entry = get_entry(files, file);
    struct stat held, named;
    if (entry.fd < 0 || fstat(entry.fd, &held) != 0)
        return KVT_IO;
    if (fstatat(files->directory, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? KVT_MISS : KVT_IO;
    if (held.st_dev != named.st_dev || held.st_ino != named.st_ino)
        return KVT_MISS;
    *out_bytes = (uint64_t)held.st_size;
    return KVT_OK;
}

kvt_status kvt_io_files_list(kvt_io *io, void (*visit)(void *arg, const char *name), void *arg)
{
    kvt_io_files *files = files_of(io);
    int fd = openat(files->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return kvt_io_files_fail(files, error, "listed", ".");
    }
    const struct dirent *item;
    while (errno = 0, (item = readdir(stream)) != NULL) {
        if (kvt_io_name_valid(item->d_name))
            visit(arg, item->d_name);
    }
    int error = errno;
    closedir(stream);
    return error == 0 ? KVT_OK : kvt_io_files_fail(files, error, "listed", ".");
}

kvt_status kvt_io_files_sync_directory(kvt_io *io)
{
    kvt_io_files *files = files_of(io);
    return fsync(files->directory) == 0 ? KVT_OK : kvt_io_files_fail(files, errno, "synced", ".");
}

/* For names and ids that must not be guessed. Without getrandom (an odd sandbox) the clock has to do. */
uint64_t kvt_io_files_random(kvt_io *io)
{
    uint64_t value;
    for (int i = 0; i < INTERRUPTS_MAX; i++) {
        if (getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value)
            return value;
    }
    uint64_t mixed = kvt_now_ns() ^ (uintptr_t)io ^ (uint64_t)getpid() << 40;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return mixed ^ (mixed >> 31);
}
