/* SPDX-License-Identifier: Apache-2.0
 *
 * A store directory of a measuring command: the one it was given, which stays, or a fresh one that is removed.
 */
#ifndef KVT_SCRATCH_H
#define KVT_SCRATCH_H

#include "engine/base/base.h"

enum { KVT_SCRATCH_PATH = 4096 };
typedef struct kvt_scratch {
    char path[KVT_SCRATCH_PATH];
    bool made;   /* by open: it was not there before */
    bool remove; /* at close */
} kvt_scratch;

/* The store named on the command line. One that comes from KVTIER_STORE is somebody's cache, not to be filled by a
 * measurement: NULL. */
const char *kvt_scratch_named(const char *store);
/* `given` may be NULL: a new directory in the current one, called <name>-XXXXXX. */
kvt_status kvt_scratch_open(const char *given, const char *name, kvt_scratch *out);
/* Remove it, if it was made by open without a name; a named one that was made stays unless it is empty. */
void kvt_scratch_close(kvt_scratch *scratch);
/* Clean up where a store could not be made: what every store begins with goes, and then the folder if it was made for
 * it, but only if no store is there and nobody is at work on one. Whatever else is in it stays, and keeps it. */
void kvt_scratch_unmake(const char *path, bool folder_too);
/* Remove a directory with all that is in it; links are not followed. */
void kvt_scratch_remove(const char *path);

/* "ext4 on /dev/vda", "tmpfs", ...: the file system that `path` lies on, for reports. */
void kvt_scratch_filesystem(const char *path, char *text, size_t bytes);

#endif
