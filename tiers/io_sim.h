/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk in memory for tests: deterministic under a seed, able to fail and to crash in every way we defend against. The
 * disk outlives the I/O contexts opened on it (kvt_io_config.sim, kvt_io_sim_ops), so that a test can crash it and open
 * the store again. Its own memory comes from malloc: it neither trips nor feeds the library's allocation counters.
 *
 * What is durable
 *   A file has what reads see, and what would be there after power loss. A write enters the first when it completes and
 *   is then pending; a sync makes durable the writes that had completed before the sync was submitted. A failed sync
 *   leaves its writes pending for ever (no later sync covers them). The size of a file is durable with a sync of it,
 *   names with sync_directory; what a crash keeps of names is a prefix of the changes.
 *
 * Time
 *   KVT_SIM_INLINE (default): submit runs everything to its end before it returns, on the calling thread; the
 *   blocking helpers work. Do not submit under a lock that `done` takes.
 *   KVT_SIM_STEPPED: nothing happens until kvt_sim_step(), which completes one piece; with scramble any one of those in
 *   flight. Blocking helpers would wait for ever, unless another thread steps.
 *
 * A typical test of a power cut
 *   kvt_sim_disk *disk = kvt_sim_create(seed);
 *   ... open the store with config.sim = disk, write ...
 *   kvt_sim_crash(disk, &(kvt_sim_crash_options){.power = true, .drop_percent = 50, .tear_percent = 20});
 *   ... close the store: its I/O now fails and changes nothing; open it again: the disk is as after the cut ...
 * To try many crashes of one moment, crash clones of the disk.
 */
#ifndef KVT_IO_SIM_H
#define KVT_IO_SIM_H

#include "tiers/io.h"

typedef struct kvt_sim_disk kvt_sim_disk;

enum { KVT_SIM_SECTOR_BYTES = 512 };

typedef enum kvt_sim_mode { KVT_SIM_INLINE = 0, KVT_SIM_STEPPED = 1 } kvt_sim_mode;

kvt_sim_disk *kvt_sim_create(uint64_t seed); /* NULL: out of memory */
void kvt_sim_destroy(kvt_sim_disk *disk);    /* every context on it must be closed */
/* The same files, pending writes included, without the contexts open on it and what they have in flight; its faults and
 * its crash follow `seed`. */
kvt_sim_disk *kvt_sim_clone(kvt_sim_disk *disk, uint64_t seed);

void kvt_sim_set_mode(kvt_sim_disk *disk, kvt_sim_mode mode);       /* while nothing is under way */
void kvt_sim_set_scramble(kvt_sim_disk *disk, bool scramble);       /* completions in any order */
void kvt_sim_set_capacity(kvt_sim_disk *disk, uint64_t bytes);      /* growing beyond is ENOSPC; 0: no limit */
void kvt_sim_set_alignment(kvt_sim_disk *disk, uint32_t alignment); /* of direct files; default 4096 */

/* Complete one piece; false: nothing to do. Callbacks run inside. */
bool kvt_sim_step(kvt_sim_disk *disk);
/* Step until nothing is left; the number of steps. */
uint64_t kvt_sim_run(kvt_sim_disk *disk);

/* ---- faults ---- */

/* the first three are kvt_io_verb */
typedef enum kvt_sim_verb {
    KVT_SIM_READ = 0,
    KVT_SIM_WRITE = 1,
    KVT_SIM_SYNC = 2,
    KVT_SIM_ALLOCATE = 3,
    KVT_SIM_TRUNCATE = 4,
    KVT_SIM_RENAME = 5,
    KVT_SIM_UNLINK = 6,
    KVT_SIM_CREATE = 7,
    KVT_SIM_SYNC_DIRECTORY = 8
} kvt_sim_verb;

typedef enum kvt_sim_fault {
    KVT_SIM_NONE = 0,
    KVT_SIM_EIO,       /* any verb; of a write, some sectors may have changed all the same */
    KVT_SIM_NOSPACE,   /* write, allocate, truncate, create, rename: ENOSPC */
    KVT_SIM_SHORT,     /* read, write: half of it, rounded down to the alignment */
    KVT_SIM_AGAIN,     /* read, write, sync: EAGAIN */
    KVT_SIM_MISDIRECT, /* read, write: of another place in the file; reported as success */
    KVT_SIM_FLIP,      /* read, write: one bit is wrong; reported as success */
    KVT_SIM_LOST       /* write, sync: reported as success, nothing was done */
} kvt_sim_fault;

typedef struct kvt_sim_event {
    kvt_sim_verb verb;
    const char *name; /* of the file, as it was opened; "" for the directory */
    uint64_t offset;  /* of the piece */
    uint64_t bytes;
} kvt_sim_event;

/* Asked before each piece and each call above, ahead of the rates; must not call the simulator. NULL: none. */
typedef kvt_sim_fault (*kvt_sim_hook)(void *arg, const kvt_sim_event *event);
void kvt_sim_set_hook(kvt_sim_disk *disk, kvt_sim_hook hook, void *arg);

/* Chances in a million, per piece or call. */
typedef struct kvt_sim_rates {
    uint32_t read_error;
    uint32_t write_error;
    uint32_t sync_error;
    uint32_t allocate_full;
    uint32_t short_count;
    uint32_t again;
    uint32_t read_misdirect;
    uint32_t write_misdirect;
    uint32_t read_flip;
    uint32_t write_flip;
    uint32_t write_lost;
} kvt_sim_rates;
void kvt_sim_set_rates(kvt_sim_disk *disk, const kvt_sim_rates *rates); /* NULL: none */

typedef struct kvt_sim_crash_options {
    bool power;               /* false: only the process died, completed writes stay (and stay pending) */
    uint32_t drop_percent;    /* chance of a pending write, a size or the last names to be lost */
    uint32_t tear_percent;    /* chance that only some of its sectors arrive */
    uint32_t reorder_percent; /* chance that a write is overtaken by a later one */
} kvt_sim_crash_options;

/* Now. Open contexts are dead afterwards: their operations end with EIO and touch nothing, their locks are gone; writes
 * in flight land, tear or vanish by the same chances. NULL: the process died and everything in flight was lost. */
void kvt_sim_crash(kvt_sim_disk *disk, const kvt_sim_crash_options *options);

/* ---- looking and meddling, past all contexts ---- */

uint64_t kvt_sim_file_bytes(kvt_sim_disk *disk, const char *name); /* UINT64_MAX: no such file */
bool kvt_sim_file_read(kvt_sim_disk *disk, const char *name, uint64_t offset, void *memory, uint64_t bytes);
/* Durable at once. false: no such file, or behind its end. */
bool kvt_sim_file_write(kvt_sim_disk *disk, const char *name, uint64_t offset, const void *memory, uint64_t bytes);
bool kvt_sim_file_truncate(kvt_sim_disk *disk, const char *name, uint64_t bytes);

typedef struct kvt_sim_stats {
    uint64_t reads, writes, syncs; /* pieces that were carried out, faulty ones included */
    uint64_t bytes_read, bytes_written;
    uint64_t faults;
    uint64_t pending_writes; /* now */
} kvt_sim_stats;
void kvt_sim_get_stats(kvt_sim_disk *disk, kvt_sim_stats *out);

#endif
