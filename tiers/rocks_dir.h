/* SPDX-License-Identifier: Apache-2.0
 *
 * The store directory around the database: who owns it, how large it is, setting a broken one aside. Private to this
 * room.
 */
#ifndef KVT_ROCKS_DIR_H
#define KVT_ROCKS_DIR_H

#include "engine/base/base.h"

/* A held LOCK. It stays where it is until it is let go: a forked child closes its copy. */
typedef struct kvt_rocks_hold {
    int fd; /* -1: none */
    struct kvt_rocks_hold *next;
} kvt_rocks_hold;

/* Hold <path>/LOCK: alone, or beside other readers. Nothing is held, with KVT_OK, when read-only and there is no LOCK.
 * KVT_BUSY names the owner's pid; KVT_IO. */
kvt_status kvt_rocks_dir_lock(const char *path, bool read_only, kvt_rocks_hold *out);
void kvt_rocks_dir_unlock(kvt_rocks_hold *hold); /* also of one that holds nothing */
bool kvt_rocks_dir_exists(const char *directory, const char *name);
/* Make the folder (0700) if it is missing. KVT_IO, KVT_NOSPACE. */
kvt_status kvt_rocks_dir_make(const char *directory);
/* Allocated bytes of the folder's files. */
uint64_t kvt_rocks_dir_bytes(const char *directory);
/* Are that many bytes free on its file system? true also when it does not say. */
bool kvt_rocks_dir_has_room(const char *directory, uint64_t bytes);
/* Remove OPTIONS files that RocksDB began and could not finish: it has no name for a log level that logs nothing. */
void kvt_rocks_dir_remove_drafts(const char *directory);
/* Rename to aside, which is emptied and removed first. */
kvt_status kvt_rocks_dir_set_aside(const char *directory, const char *aside);

#endif
