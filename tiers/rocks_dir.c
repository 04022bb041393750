/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB locks its own folder, but says nothing of the owner and not when it is opened read-only; hence a LOCK of ours
 * around it. A database folder is flat, so walking it needs no recursion.
 *
 * A forked child would keep the lock as long as it lives, so every hold is known here and the child closes its copies:
 * closing only, as an unlock would free the parent's too. That list is the module's one global; fork offers no
 * argument.
 */
#include "tiers/rocks_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4096, LOCK_TRIES = 20, LOCK_PAUSE_NS = 50000000 };

/* ---- holds, and forked children ---- */

static pthread_mutex_t holds_lock = PTHREAD_MUTEX_INITIALIZER; /* guards holds; held across fork */
static kvt_rocks_hold *holds;
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static void before_fork(void) { pthread_mutex_lock(&holds_lock); }
static void in_parent(void) { pthread_mutex_unlock(&holds_lock); }

static void in_child(void)
{
    for (kvt_rocks_hold *hold = holds; hold != NULL; hold = hold->next) {
        close(hold->fd);
        hold->fd = -1;
    }
    holds = NULL;
    pthread_mutex_unlock(&holds_lock);
}

static void install(void) { pthread_atfork(before_fork, in_parent, in_child); }

static void hold_add(kvt_rocks_hold *hold, int fd)
{
    pthread_once(&installed, install);
    pthread_mutex_lock(&holds_lock);
    *hold = (kvt_rocks_hold){fd, holds};
    holds = hold;
    pthread_mutex_unlock(&holds_lock);
}

void kvt_rocks_dir_unlock(kvt_rocks_hold *hold)
{
    pthread_mutex_lock(&holds_lock);
    kvt_rocks_hold **link = &holds;
    while (*link != NULL && *link != hold)
        link = &(*link)->next;
    if (*link != NULL)
        *link = hold->next;
    if (hold->fd >= 0)
        close(hold->fd);
    hold->fd = -1;
    pthread_mutex_unlock(&holds_lock);
}

/* ---- the lock ---- */

/* The pid a LOCK names; 0: none. */
static long owner_of(int fd)
{
    char text[24] = "";
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    return length > 0 ? strtol(text, NULL, 10) : 0;
}

/* An owner that was just killed may hold on for an instant, so a busy lock is tried for a second. */
static bool take(int fd, bool shared)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
            return true;
        struct timespec pause = {0, LOCK_PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    return false;
}

kvt_status kvt_rocks_dir_lock(const char *path, bool read_only, kvt_rocks_hold *out)
{
    char name[PATH_BYTES_MAX];
    snprintf(name, sizeof name, "%s/LOCK", path);
    int fd = open(name, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && read_only && errno == ENOENT) {
        out->fd = -1;
        return KVT_OK;
    }
    if (fd < 0)
        return kvt_fail(kvt_status_of_errno(errno), "%s cannot be opened: %s", name, strerror(errno));
    if (!take(fd, read_only)) {
        long owner = owner_of(fd);
        close(fd);
        return kvt_fail(KVT_BUSY, "%s is in use by process %ld; stop it, or choose another store directory", path,
                        owner);
    }
    if (!read_only) {
        char text[24];
        int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
            int error = errno;
            close(fd);
            return kvt_fail(kvt_status_of_errno(error), "%s cannot be written: %s", name, strerror(error));
        }
    }
    hold_add(out, fd);
    return KVT_OK;
}

/* ---- the folder ---- */

bool kvt_rocks_dir_exists(const char *directory, const char *name)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

kvt_status kvt_rocks_dir_make(const char *directory)
{
    if (mkdir(directory, 0700) == 0 || errno == EEXIST)
        return KVT_OK;
    return kvt_fail(kvt_status_of_errno(errno), "%s cannot be made: %s", directory, strerror(errno));
}

uint64_t kvt_rocks_dir_bytes(const char *directory)
{
    uint64_t bytes = 0;
    DIR *dir = opendir(directory);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode))
            bytes += (uint64_t)info.st_blocks * 512;
    }
    closedir(dir);
    return bytes;
}

bool kvt_rocks_dir_has_room(const char *directory, uint64_t bytes)
{
    struct statvfs info;
    return statvfs(directory, &info) != 0 || (uint64_t)info.f_bavail * info.f_frsize >= bytes;
}

void kvt_rocks_dir_remove_drafts(const char *directory)
{
    DIR *dir = opendir(directory);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        const char *ending = strrchr(entry->d_name, '.');
        if (strncmp(entry->d_name, "OPTIONS-", 8) == 0 && ending != NULL && strcmp(ending, ".dbtmp") == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
}

kvt_status kvt_rocks_dir_set_aside(const char *directory, const char *aside)
{
    DIR *old = opendir(aside);
    if (old != NULL) {
        for (struct dirent *entry; (entry = readdir(old)) != NULL;)
            (void)unlinkat(dirfd(old), entry->d_name, 0);
        closedir(old);
        (void)rmdir(aside);
    }
    if (rename(directory, aside) == 0)
        return KVT_OK;
    return kvt_fail(kvt_status_of_errno(errno), "%s cannot be set aside as %s: %s", directory, aside, strerror(errno));
}
