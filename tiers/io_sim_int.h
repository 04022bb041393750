/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the simulator: the disk (io_sim_disk.c) and the contexts open on it (io_sim.c). Everything here is under
 * the disk's lock.
 */
#ifndef KVT_IO_SIM_INT_H
#define KVT_IO_SIM_INT_H

#include "tiers/io_queue.h"
#include "tiers/io_sim.h"

#include <pthread.h>

enum {
    SIM_CHUNK_BYTES = 64 << 10,
    SIM_NAME_BYTES = 64,
    SIM_NAMES_MAX = 64,
    SIM_CONTEXTS_MAX = 8,
    SIM_HANDLES_MAX = 64
};

/* A write that completed and is not durable. */
typedef struct sim_write {
    uint64_t order;
    uint64_t offset;
    uint64_t bytes;
    bool orphan; /* a sync of it failed: no later one covers it */
    struct sim_write *next;
    uint8_t data[];
} sim_write;

typedef struct sim_image { /* sparse: a chunk that is NULL reads as zeros */
    uint8_t **chunks;
    uint64_t chunk_count;
    uint64_t bytes; /* size of the file */
} sim_image;

typedef struct sim_file {
    sim_image now;     /* what reads see */
    sim_image durable; /* what is there after power loss, but for pending writes that happen to arrive */
    sim_write *pending, *pending_last;
    uint32_t open_count;
    uint32_t id;
    const void *owner; /* context that holds the exclusive lock */
    uint32_t sharers;
    struct sim_file *next;
} sim_file;

typedef struct sim_name {
    char name[SIM_NAME_BYTES];
    sim_file *file;
} sim_name;

typedef struct sim_names {
    uint32_t count;
    sim_name names[SIM_NAMES_MAX];
    struct sim_names *older; /* as it was before the last change; the oldest is durable */
} sim_names;

struct sim_context;

struct kvt_sim_disk {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    uint64_t random;  /* faults, crashes, order */
    uint64_t secrets; /* what contexts get from `random` */
    uint64_t order;
    uint64_t life; /* grows with each crash; contexts of an earlier life are dead */
    kvt_sim_mode mode;
    bool scramble;
    uint64_t capacity;
    uint32_t alignment;
    kvt_sim_hook hook;
    void *hook_arg;
    kvt_sim_rates rates;
    kvt_sim_stats stats;
    sim_file *files;
    uint32_t file_ids;
    sim_names *names; /* newest */
    struct sim_context *contexts[SIM_CONTEXTS_MAX];
};

uint64_t sim_random(uint64_t *state);
bool sim_chance(kvt_sim_disk *disk, uint32_t percent);
kvt_sim_fault sim_fault(kvt_sim_disk *disk, const kvt_sim_event *event);

/* Images. Reading beyond the end is the caller's to check; false: out of memory. */
bool sim_image_write(sim_image *image, uint64_t offset, const uint8_t *data, uint64_t bytes);
void sim_image_read(const sim_image *image, uint64_t offset, uint8_t *data, uint64_t bytes);
void sim_image_resize(sim_image *image, uint64_t bytes);

sim_file *sim_find(const kvt_sim_disk *disk, const char *name);
/* Change names: adds a state to the history. 0 or errno. */
int sim_names_set(kvt_sim_disk *disk, const char *name, sim_file *file); /* NULL: remove */
int sim_names_move(kvt_sim_disk *disk, const char *from, const char *to);
void sim_names_sync(kvt_sim_disk *disk);
sim_file *sim_file_create(kvt_sim_disk *disk);
void sim_files_collect(kvt_sim_disk *disk); /* free files without name or handle */

/* A write has completed / a sync covers all before `order`. */
bool sim_file_put(kvt_sim_disk *disk, sim_file *file, uint64_t offset, const uint8_t *data, uint64_t bytes);
void sim_file_sync(kvt_sim_disk *disk, sim_file *file, uint64_t order, bool failed);
void sim_file_resize(sim_file *file, uint64_t bytes);
uint64_t sim_disk_bytes(const kvt_sim_disk *disk);

/* Crash options applied to one write in flight (io_sim.c calls it for each of its own). */
void sim_crash_in_flight(kvt_sim_disk *disk, const kvt_sim_crash_options *options, sim_file *file,
                         const kvt_io_piece *piece);
void sim_crash_files(kvt_sim_disk *disk, const kvt_sim_crash_options *options);

#endif
