/* SPDX-License-Identifier: Apache-2.0
 *
 * How the file tier reaches a disk: one vtable over io_uring, a thread pool, and a deterministic simulator in memory
 * for tests. Operations are asynchronous, completed by `done` on a thread of the implementation. Private to this room.
 */
#ifndef KVT_IO_H
#define KVT_IO_H

#include "engine/base/base.h"

typedef struct kvt_io kvt_io; /* an opened device context: threads, ring, registered memory */
typedef int kvt_io_file;      /* index of an open file within the context; < 0 none */

typedef enum kvt_io_verb { KVT_IO_READ = 0, KVT_IO_WRITE = 1, KVT_IO_SYNC = 2 /* fdatasync */ } kvt_io_verb;

/*
 * One transfer of any length, split by the implementation (1 MiB pieces), short counts resumed once, EINTR and EAGAIN
 * resubmitted up to 8 times. Offset, length and memory are multiples of the file's alignment. Owned by the caller until
 * `done`, which is called exactly once on an I/O thread with no lock held; it must be short and may submit.
 * A sync covers writes whose `done` was called before it was submitted.
 */
typedef struct kvt_io_op kvt_io_op;
struct kvt_io_op {
    kvt_io_verb verb;
    kvt_io_file file;
    uint64_t offset;
    uint64_t bytes;
    void *memory;
    uint32_t priority;    /* 1: before ordinary operations */
    kvt_status status;    /* out: OK, IO, NOSPACE; a read behind the end of the file is IO with system_error 0;
                           * INVALID: misaligned, or no such file; nothing was done */
    int32_t system_error; /* out: errno or 0 */
    void (*done)(kvt_io_op *op);
    void *arg;
    kvt_io_op *next;
    uint64_t io_private[6];
};

typedef struct kvt_io_config {
    uint32_t depth;          /* pieces in flight at most; 0: 64 */
    uint64_t inflight_bytes; /* bytes in flight at most; 0: 32 MiB */
    void *memory;            /* to register; may be NULL */
    uint64_t memory_bytes;
    kvt_log log;
    void *sim;             /* io_sim: the simulated disk (kvt_sim_disk *) */
    uint32_t lock_wait_ms; /* for KVT_IO_FILE_LOCK; 0: 5000 */
} kvt_io_config;

/* kvt_io_open_file flags */
enum {
    KVT_IO_FILE_CREATE = 1u << 0, /* create (0600) if missing */
    KVT_IO_FILE_READ_ONLY = 1u << 1,
    KVT_IO_FILE_BUFFERED = 1u << 2, /* no direct I/O wanted (SUPER, checkpoints) */
    KVT_IO_FILE_LOCK = 1u << 3,     /* flock this very descriptor (shared if READ_ONLY); KVT_BUSY after lock_wait_ms */
    KVT_IO_FILE_LOCK_NOW = 1u << 4  /* with LOCK: KVT_BUSY at once */
};
typedef struct kvt_io_file_info {
    uint64_t bytes;     /* size */
    uint32_t alignment; /* of offset, length, memory: 512, 4096; 1 when buffered */
    bool direct;
} kvt_io_file_info;

/* An implementation: io_uring.c, io_pool.c, io_sim.c. Synchronous calls block; any thread. Paths are file names inside
 * `directory`, never with a slash; links are not followed; files are regular, owned by us, with one name, 0600: others
 * are refused with KVT_EXISTS. */
typedef struct kvt_io_ops {
    const char *name; /* "io_uring", "pool", "sim" */
    /* The directory exists; KVT_IO: missing, or others can write to it. */
    kvt_status (*open)(const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out);
    void (*close)(kvt_io *io); /* completes everything under way first */
    void (*submit)(kvt_io *io, kvt_io_op *list);
    /* KVT_MISS: not there (and no CREATE, or read-only); KVT_BUSY: locked by another; KVT_EXISTS: see above. */
    kvt_status (*open_file)(kvt_io *io, const char *name, uint32_t flags, kvt_io_file *out, kvt_io_file_info *out_info);
    void (*close_file)(kvt_io *io, kvt_io_file file);
    kvt_status (*allocate)(kvt_io *io, kvt_io_file file, uint64_t bytes); /* preallocate; on failure as before */
    kvt_status (*truncate)(kvt_io *io, kvt_io_file file, uint64_t bytes);
    kvt_status (*rename)(kvt_io *io, const char *from, const char *to); /* atomic; then sync_directory */
    kvt_status (*unlink)(kvt_io *io, const char *name);                 /* KVT_MISS: not there */
    kvt_status (*exists)(kvt_io *io, const char *name);                 /* KVT_OK or KVT_MISS */
    /* Size of an open file: KVT_OK; KVT_MISS: the name does not mean it any more; else it cannot be said. */
    kvt_status (*examine)(kvt_io *io, kvt_io_file file, const char *name, uint64_t *out_bytes);
    kvt_status (*list)(kvt_io *io, void (*visit)(void *arg, const char *name), void *arg);
    kvt_status (*sync_directory)(kvt_io *io);
    uint64_t (*random)(kvt_io *io);    /* unpredictable; the simulator: seeded */
    const char *(*detail)(kvt_io *io); /* "io_uring, direct, registered" */
} kvt_io_ops;

struct kvt_io {
    const kvt_io_ops *ops;
};

extern const kvt_io_ops kvt_io_pool_ops;
extern const kvt_io_ops kvt_io_uring_ops; /* only when built with liburing: see io_table.c */
extern const kvt_io_ops kvt_io_sim_ops;   /* only in tests */

/* kvt_io_kind -> implementation that works here; AUTO falls back with one log line. KVT_UNSUPPORTED when forced. */
kvt_status kvt_io_open(uint32_t kind, const char *directory, bool read_only, const kvt_io_config *config, kvt_io **out);

/* Blocking helpers over submit. Never on an I/O thread. */
kvt_status kvt_io_read_sync(kvt_io *io, kvt_io_file file, uint64_t offset, void *memory, uint64_t bytes);
kvt_status kvt_io_write_sync(kvt_io *io, kvt_io_file file, uint64_t offset, const void *memory, uint64_t bytes);
kvt_status kvt_io_sync(kvt_io *io, kvt_io_file file);

#endif
