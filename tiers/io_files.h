/* SPDX-License-Identifier: Apache-2.0
 *
 * Files inside one directory, opened so that nobody can trick us: the part that the thread pool and the ring share.
 * Both embed kvt_io_files first, so that these functions stand in their vtables as they are. Moves no data.
 */
#ifndef KVT_IO_FILES_H
#define KVT_IO_FILES_H

#include "tiers/io.h"

#include <pthread.h>

enum { KVT_IO_FILES_MAX = 64, KVT_IO_EXTRA_FDS = 2 };

typedef struct kvt_io_entry {
    int fd; /* -1: free */
    uint32_t alignment;
    bool drop_cache; /* direct I/O was wanted and is not to be had: keep the page cache clean of us */
} kvt_io_entry;

typedef struct kvt_io_files {
    kvt_io io; /* first */
    char *path;
    int directory;
    bool read_only;
    uint32_t lock_wait_ms;
    kvt_log log;
    pthread_mutex_t lock; /* guards what follows */
    kvt_io_entry entries[KVT_IO_FILES_MAX];
    bool told_buffered;
    /* Of io_fork.c: */
    struct kvt_io_files *fork_next;
    int extra_fds[KVT_IO_EXTRA_FDS]; /* of the implementation, -1: none */
} kvt_io_files;

/* KVT_IO: the directory is missing or unsafe; KVT_NOMEM. Nothing is held on failure. */
kvt_status kvt_io_files_init(kvt_io_files *files, const kvt_io_ops *ops, const char *directory, bool read_only,
                             const kvt_io_config *config);
/* Close what is open. */
void kvt_io_files_fini(kvt_io_files *files);

/* Clear the results of an operation and fill in its file. A bad file, or a write above this process's file size limit
 * (which would raise SIGXFSZ), becomes a failed status. true: the page cache is to be dropped behind it. */
bool kvt_io_files_prepare(kvt_io_files *files, kvt_io_op *op);

/* Drop pages of a range that was read, or of a whole file that was synced. */
void kvt_io_files_drop_cache(int fd, const kvt_io_op *op, uint64_t offset, uint64_t bytes);

/* Does this directory's file system do direct I/O? true also when it cannot be found out. */
bool kvt_io_files_direct_possible(const char *directory);

/* A thread that takes none of the host's signals (io_table.c). KVT_NOMEM. */
kvt_status kvt_io_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

/* Methods of the vtable. */
kvt_status kvt_io_files_open(kvt_io *io, const char *name, uint32_t flags, kvt_io_file *out,
                             kvt_io_file_info *out_info);
void kvt_io_files_close(kvt_io *io, kvt_io_file file);
kvt_status kvt_io_files_allocate(kvt_io *io, kvt_io_file file, uint64_t bytes);
kvt_status kvt_io_files_truncate(kvt_io *io, kvt_io_file file, uint64_t bytes);
kvt_status kvt_io_files_rename(kvt_io *io, const char *from, const char *to);
kvt_status kvt_io_files_unlink(kvt_io *io, const char *name);
kvt_status kvt_io_files_exists(kvt_io *io, const char *name);
kvt_status kvt_io_files_examine(kvt_io *io, kvt_io_file file, const char *name, uint64_t *out_bytes);
kvt_status kvt_io_files_list(kvt_io *io, void (*visit)(void *arg, const char *name), void *arg);
kvt_status kvt_io_files_sync_directory(kvt_io *io);
uint64_t kvt_io_files_random(kvt_io *io);

/* io_fork.c: know a context, so that a forked child closes its copies of the descriptors. */
void kvt_io_fork_add(kvt_io_files *files);
void kvt_io_fork_remove(kvt_io_files *files);
void kvt_io_fork_watch(kvt_io_files *files, int slot, int fd); /* one of the implementation's own; -1: no more */

/* Shared by the files of this unit: a safe descriptor of a name in a directory (io_openat.c). */
kvt_status kvt_io_openat(const kvt_io_files *files, const char *name, uint32_t flags, int *out_fd);
kvt_status kvt_io_files_fail(const kvt_io_files *files, int error, const char *what, const char *name);
bool kvt_io_name_valid(const char *name);

#endif
