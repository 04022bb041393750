/* SPDX-License-Identifier: Apache-2.0
 *
 * Scratch directories, and the name of the file system below them (the longest mount point that holds the path).
 */
#include "tools/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_FILES = 16 };

const char *kvt_scratch_named(const char *store)
{
    /* The same pointer, not the same text: a path that was typed as well is meant. */
    return store == getenv("KVTIER_STORE") ? NULL : store;
}

kvt_status kvt_scratch_open(const char *given, const char *name, kvt_scratch *out)
{
    int length = given != NULL ? snprintf(out->path, sizeof out->path, "%s", given)
                               : snprintf(out->path, sizeof out->path, "%s-XXXXXX", name);
    out->made = out->remove = false;
    if (length < 0 || (size_t)length >= sizeof out->path)
        return kvt_fail(KVT_INVALID, "the path of the store is too long");
    if (given != NULL) {
        out->made = mkdir(given, 0700) == 0;
        return out->made || errno == EEXIST ? KVT_OK
                                            : kvt_fail(kvt_status_of_errno(errno), "%s: %s", given, strerror(errno));
    }
    if (mkdtemp(out->path) == NULL)
        return kvt_fail(kvt_status_of_errno(errno),
                        "no directory can be made here: %s; go to a writable disk, or name one with --store",
                        strerror(errno));
    out->made = out->remove = true;
    return KVT_OK;
}

/* Is there a store, or one that somebody is making? */
static bool is_taken(int folder)
{
    int lock = openat(folder, "LOCK", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool held = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0;
    if (lock >= 0)
        close(lock);
    return held || faccessat(folder, "SUPER", F_OK, 0) == 0 || faccessat(folder, "rocks/CURRENT", F_OK, 0) == 0;
}

void kvt_scratch_unmake(const char *path, bool folder_too)
{
    static const char *const files[] = {"data.0", "SUPER.tmp", "probe.tmp", "LOCK"};
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return;
    if (!is_taken(folder)) {
        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
            (void)unlinkat(folder, files[i], 0);
        (void)unlinkat(folder, "rocks", AT_REMOVEDIR);
        (void)unlinkat(folder, "spaces", AT_REMOVEDIR);
        if (folder_too)
            (void)rmdir(path);
    }
    close(folder);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

void kvt_scratch_remove(const char *path) { nftw(path, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS); }

void kvt_scratch_close(kvt_scratch *scratch)
{
    if (scratch->remove)
        kvt_scratch_remove(scratch->path);
    else if (scratch->made)
        (void)rmdir(scratch->path); /* if nothing came into it */
    scratch->made = scratch->remove = false;
}

/* Does the mount point hold the path? Its length, else -1. */
static int holds(const char *mount, const char *path)
{
    size_t length = strlen(mount);
    if (strncmp(mount, path, length) != 0)
        return -1;
    bool whole = length == 1 || path[length] == '/' || path[length] == '\0';
    return whole ? (int)length : -1;
}

void kvt_scratch_filesystem(const char *path, char *text, size_t bytes)
{
    snprintf(text, bytes, "unknown");
    char *absolute = realpath(path, NULL);
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    int best = -1;
    for (struct mntent *mount; absolute != NULL && mounts != NULL && (mount = getmntent(mounts)) != NULL;) {
        int length = holds(mount->mnt_dir, absolute);
        if (length < best || length < 0)
            continue;
        best = length;
        snprintf(text, bytes, "%s on %s", mount->mnt_type, mount->mnt_fsname);
    }
    if (mounts != NULL)
        endmntent(mounts);
    free(absolute); /* realpath's own */
}
