/* SPDX-License-Identifier: Apache-2.0
 *
 * A stage for tests of the file tier: a host that keeps a naive index, records whose bytes follow from a seed, and
 * calls that wait. The same tests run over real files and over the simulated disk.
 */
#ifndef KVT_TEST_FILE_STAGE_H
#define KVT_TEST_FILE_STAGE_H

#include "tests/support.h"
#include "tiers/file_calls.h"
#include "tiers/io_sim.h"

enum { FILE_STAGE_ROWS = 1 << 11 };

/* What the host knows of one record. */
typedef struct stage_row {
    kvt_record record;
    kvt_place place;
    uint64_t order; /* of on_recovered or on_stored */
    bool there;
} stage_row;

typedef struct file_stage {
    kvt_tier *tier; /* NULL: closed */
    kvt_tier_options options;
    kvt_file_setup setup;
    kvt_sim_disk *disk; /* NULL: real files in options.path */
    kvt_tier_host host;
    pthread_mutex_t lock; /* guards rows and what follows */
    stage_row *rows;
    uint32_t row_slots;
    uint32_t row_count;
    uint32_t row_max; /* on_recovered says no beyond */
    uint64_t orders;
    uint64_t stored, evicted, damaged, recovered;
    bool may_evict;                     /* answer */
    bool (*pinned)(const kvt_key *key); /* NULL: none */
    bool quiet;                         /* log nothing */
    char last_log[256];
} file_stage;

/* A stage over a fresh directory, or a fresh simulated disk; not open. Segments of 1 MiB, room for FILE_STAGE_ROWS / 2
 * records. */
void file_stage_init(file_stage *stage, bool simulated, uint64_t bytes_max);
/* Over this disk, which belongs to the stage from now on. */
void file_stage_init_on(file_stage *stage, kvt_sim_disk *disk, uint64_t bytes_max);
/* Room for half as many records; while closed. A power of two. */
void file_stage_resize(file_stage *stage, uint32_t row_slots);
void file_stage_fini(file_stage *stage); /* closes */
/* Open, and forget what the host knew before: it learns it from on_recovered. */
kvt_status file_stage_open(file_stage *stage);
void file_stage_close(file_stage *stage);
/* Without a keeper thread: run rounds until nothing is due. */
void file_stage_keep(file_stage *stage);

/* A record whose key, payload and all else follow from number; its image is filled (caller frees with kvt_free). */
uint8_t *file_stage_make(uint64_t number, uint64_t bytes, kvt_tier_op *op);
/* Write and wait; the status. */
kvt_status file_stage_write(file_stage *stage, uint64_t number, uint64_t bytes);
/* Read through the host's index and check every byte: KVT_OK, KVT_MISS (not known, or the tier says so), KVT_IO, or
 * KVT_CORRUPT when the caller's check of the payload fails. Fails the test when wrong bytes pass the check. */
kvt_status file_stage_read(file_stage *stage, uint64_t number, uint64_t bytes);
kvt_status file_stage_read_place(file_stage *stage, const kvt_record *record, const kvt_place *place, uint64_t number);
/* Submit and wait. Runs keeper rounds meanwhile when there is no keeper. */
void file_stage_run(file_stage *stage, kvt_tier_op *op);
/* Submit a linked list of count operations and wait for all; *ended counts them. */
void file_stage_run_list(file_stage *stage, kvt_tier_op *list, int count, _Atomic int *ended);
stage_row *file_stage_find(file_stage *stage, uint64_t number); /* NULL: not known; locks */
void file_stage_forget(file_stage *stage, uint64_t number);
/* Forget those of first, first + step, ... < end that are known, and have the tier erase them with one call. */
kvt_status file_stage_erase(file_stage *stage, uint64_t first, uint64_t end, uint64_t step);
uint32_t file_stage_count(file_stage *stage);

#endif
