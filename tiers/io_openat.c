/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a name inside a directory without being led elsewhere: no links, no foreign or shared files, never another
 * file than the one that was locked. The lock lies on the descriptor that does the I/O, because a dead process keeps it
 * until its last transfer has landed.
 */
#include "tiers/io_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_TRIES_MAX = 8, LOCK_MS_FIRST = 10, LOCK_MS_STEP_MAX = 320, FILE_MODE = 0600, NAME_BYTES_MAX = 255 };

kvt_status kvt_io_files_fail(const kvt_io_files *files, int error, const char *what, const char *name)
{
    char text[128];
    return kvt_fail(kvt_status_of_errno(error), "%s/%s cannot be %s: %s", files->path, name, what,
                    strerror_r(error, text, sizeof text));
}

bool kvt_io_name_valid(const char *name)
{
    size_t bytes = strnlen(name, NAME_BYTES_MAX + 1);
    return bytes != 0 && bytes <= NAME_BYTES_MAX && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* openat2 where the kernel has it and lets us; the name holds no slash, so that O_NOFOLLOW is as good elsewhere. */
static int open_beneath(int directory, const char *name, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY),
                           .mode = (flags & O_CREAT) != 0 ? FILE_MODE : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, directory, name, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL || errno == EAGAIN))
        fd = openat(directory, name, (int)how.flags, FILE_MODE);
    return (int)fd;
}

/* -1 and errno. A file we make gets its mode whatever the umask. */
static int open_or_create(const kvt_io_files *files, const char *name, uint32_t flags)
{
    int access = files->read_only || (flags & KVT_IO_FILE_READ_ONLY) != 0 ? O_RDONLY : O_RDWR;
    bool create = (flags & KVT_IO_FILE_CREATE) != 0 && access == O_RDWR;
    for (int i = 0; i < OPEN_TRIES_MAX; i++) {
        int fd = open_beneath(files->directory, name, access);
        if (fd >= 0 || errno != ENOENT || !create)
            return fd;
        fd = open_beneath(files->directory, name, access | O_CREAT | O_EXCL);
        if (fd >= 0 && fchmod(fd, FILE_MODE) != 0) {
            int error = errno;
            close(fd);
            errno = error;
            return -1;
        }
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    errno = EBUSY;
    return -1;
}

static kvt_status check_file(const kvt_io_files *files, const char *name, int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return kvt_io_files_fail(files, errno, "examined", name);
    const char *wrong = !S_ISREG(info.st_mode)                      ? "is no regular file"
                        : info.st_nlink > 1                         ? "has a second name (hard link)"
                        : info.st_uid != geteuid()                  ? "belongs to another user"
                        : (info.st_mode & (S_IRWXG | S_IRWXO)) != 0 ? "is open to others (chmod 600 it, if it is ours)"
                                                                    : NULL;
    return wrong == NULL ? KVT_OK : kvt_fail(KVT_EXISTS, "%s/%s %s; it is not used", files->path, name, wrong);
}

static void sleep_ms(uint32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static kvt_status lock_file(const kvt_io_files *files, const char *name, int fd, uint32_t flags, uint64_t deadline_ns)
{
    bool shared = files->read_only || (flags & KVT_IO_FILE_READ_ONLY) != 0;
    uint32_t wait_ms = LOCK_MS_FIRST;
    while (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return kvt_io_files_fail(files, errno, "locked", name);
        uint64_t now_ns = kvt_now_ns();
        if (now_ns >= deadline_ns || (flags & KVT_IO_FILE_LOCK_NOW) != 0)
            return kvt_fail(KVT_BUSY, "%s/%s is in use by another process", files->path, name);
        uint64_t left_ms = (deadline_ns - now_ns) / 1000000 + 1;
        sleep_ms((uint32_t)kvt_min_u64(wait_ms, left_ms));
        wait_ms = wait_ms * 2 > LOCK_MS_STEP_MAX ? LOCK_MS_STEP_MAX : wait_ms * 2;
    }
    return KVT_OK;
}

/* Does the name still mean the file we hold? It may have been replaced between open and lock. */
static bool still_there(const kvt_io_files *files, const char *name, int fd)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && fstatat(files->directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

static kvt_status open_once(const kvt_io_files *files, const char *name, uint32_t flags, uint64_t deadline_ns,
                            int *out_fd)
{
    int fd = open_or_create(files, name, flags);
    if (fd < 0 && errno == ENOENT)
        return kvt_fail(KVT_MISS, "%s/%s does not exist", files->path, name);
    if (fd < 0 && (errno == ELOOP || errno == EXDEV || errno == EISDIR || errno == ENXIO))
        return kvt_fail(KVT_EXISTS, "%s/%s is no regular file; it is not used", files->path, name);
    if (fd < 0)
        return kvt_io_files_fail(files, errno, "opened", name);
    kvt_status status = check_file(files, name, fd);
    if (status == KVT_OK && (flags & KVT_IO_FILE_LOCK) != 0)
        status = lock_file(files, name, fd, flags, deadline_ns);
    if (status != KVT_OK) {
        close(fd);
        return status;
    }
    *out_fd = fd;
    return KVT_OK;
}

kvt_status kvt_io_openat(const kvt_io_files *files, const char *name, uint32_t flags, int *out_fd)
{
    uint64_t deadline_ns = kvt_now_ns() + (uint64_t)files->lock_wait_ms * 1000000;
    for (int i = 0; i < OPEN_TRIES_MAX; i++) {
        int fd = -1;
        kvt_status status = open_once(files, name, flags, deadline_ns, &fd);
        if (status != KVT_OK)
            return status;
        if (still_there(files, name, fd)) {
            *out_fd = fd;
            return KVT_OK;
        }
        close(fd);
    }
    return kvt_fail(KVT_BUSY, "%s/%s is being replaced by another process", files->path, name);
}
