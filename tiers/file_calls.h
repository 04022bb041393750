/* SPDX-License-Identifier: Apache-2.0
 *
 * The file tier's units and what they offer one another. "Locked" means: called with kvt_file.lock held, and returns
 * with it held; such a function may still let it go meanwhile where it says so.
 */
#ifndef KVT_FILE_CALLS_H
#define KVT_FILE_CALLS_H

#include "tiers/file_int.h"

/* ---- tier_file.c: life, and operations by verb ---- */
kvt_status kvt_file_open(const kvt_tier_options *options, const kvt_tier_host *host, const kvt_file_setup *setup,
                         kvt_tier **out);
uint64_t kvt_file_now(const kvt_file *file);
/* End an operation that holds no slot. */
void kvt_file_finish(kvt_file *file, kvt_tier_op *op, kvt_status status, int32_t system_error);
/* End an operation and its slot; the operations waiting for a slot go on. */
void kvt_file_finish_slot(kvt_file_slot *slot, kvt_status status);
/* Start an operation that was accepted. */
void kvt_file_start(kvt_file *file, kvt_tier_op *op);
/* Forget what lies at these places. Locked. */
void kvt_file_drop(kvt_file *file, const kvt_place *places, size_t count);
void kvt_file_queue_push(kvt_file_queue *queue, kvt_tier_op *op);
kvt_tier_op *kvt_file_queue_pop(kvt_file_queue *queue);
kvt_file_slot *kvt_file_slot_take(kvt_file *file);            /* locked; NULL: none free */
void kvt_file_slot_give(kvt_file *file, kvt_file_slot *slot); /* locked */

/* ---- file_super.c: whose store it is ---- */
#define KVT_FILE_DATA_NAME "data.0"
typedef struct kvt_file_geometry {
    uint64_t segment_bytes;
    uint64_t segment_count;
} kvt_file_geometry;
/* KVT_INVALID with a text that says what would work. */
kvt_status kvt_file_geometry_choose(const kvt_tier_options *options, kvt_file_geometry *out);
/* Lock the store, format it if it is new and may be, read SUPER, open data.0. */
kvt_status kvt_file_super_open(kvt_file *file, const kvt_tier_options *options);
/* Write epoch + 1 to the other slot. */
kvt_status kvt_file_super_write(kvt_file *file);

/* ---- file_write.c, file_read.c ---- */
void kvt_file_write_start(kvt_file *file, kvt_tier_op *op);
/* Start the writes that waited for a segment; end those whose time is over. Not locked. true: some still wait. */
bool kvt_file_write_resume(kvt_file *file);
void kvt_file_read_start(kvt_file *file, kvt_tier_op *op);

/* ---- file_segment.c: records of a segment in RAM; steps of a segment's life on disk ---- */
static inline uint64_t kvt_file_offset(const kvt_file *file, uint32_t segment, uint32_t block)
{
    return segment * file->segment_bytes + (uint64_t)block * KVT_BLOCK_BYTES;
}
static inline kvt_place kvt_file_place(uint32_t segment, uint32_t block, uint64_t generation)
{
    return (kvt_place){.where = (uint64_t)segment << 32 | block, .generation = generation};
}
static inline kvt_file_entry kvt_file_entry_make(const kvt_record *record, uint32_t block)
{
    return (kvt_file_entry){.space = record->space,
                            .key = record->key,
                            .block = block,
                            .stored_bytes = record->stored_bytes & 0xfffffff,
                            .state = KVT_ENTRY_STORING};
}
/* Walk over the entries of a segment in order: start with the first, NULL at the end. Locked. */
typedef struct kvt_file_cursor {
    uint32_t chunk;
    uint32_t index;
} kvt_file_cursor;
kvt_file_cursor kvt_file_entries(const kvt_file_segment *segment);
kvt_file_entry *kvt_file_entry_next(kvt_file *file, const kvt_file_segment *segment, kvt_file_cursor *cursor);
kvt_file_entry *kvt_file_entry_find(kvt_file *file, const kvt_file_segment *segment, uint32_t block); /* locked */
kvt_file_entry *kvt_file_entry_add(kvt_file *file, kvt_file_segment *segment);                        /* locked */
void kvt_file_entry_live(kvt_file *file, kvt_file_segment *segment, kvt_file_entry *entry);           /* locked */
/* true: it was live. */
bool kvt_file_entry_kill(kvt_file *file, kvt_file_segment *segment, kvt_file_entry *entry); /* locked */
void kvt_file_segment_free(kvt_file *file, kvt_file_segment *segment);                      /* locked */
/* The segment of a place as it is now, or NULL: recycled, or out of bounds. */
kvt_file_segment *kvt_file_segment_of(kvt_file *file, const kvt_place *place); /* locked */
/* No more records go into it: the keeper seals it when its writes have ended. */
void kvt_file_segment_retire(kvt_file *file, uint32_t segment);  /* locked */
void kvt_file_segment_condemn(kvt_file *file, uint32_t segment); /* locked */
/* I/O, not locked; by the keeper, at open or at close. */
kvt_status kvt_file_header_write(kvt_file *file, uint32_t segment, kvt_segment_mark mark, uint64_t generation);
kvt_status kvt_file_footer_write(kvt_file *file, uint32_t segment); /* KVT_MISS: no record left, nothing was written */
/* count encoded entries, with a block to spare behind their padding. */
kvt_status kvt_file_footer_put(kvt_file *file, uint32_t segment, uint64_t generation, uint8_t *entries, uint32_t count);
/* The same over a longer one, whose padded entries took old_bytes: what is left of those becomes zero. */
kvt_status kvt_file_footer_replace(kvt_file *file, uint32_t segment, uint64_t generation, uint8_t *entries,
                                   uint32_t count, uint64_t old_bytes);
kvt_status kvt_file_write_counted(kvt_file *file, uint64_t offset, const void *memory, uint64_t bytes);
void kvt_file_segment_sealed(kvt_file *file, kvt_file_segment *segment, bool barrier); /* locked */
uint64_t kvt_file_generation_next(kvt_file *file); /* locked; 0: none left in this epoch */

/* ---- file_evict.c ---- */
/* A free segment, if need be by emptying the least recently used one the host lets go: its number, in state PREPARING,
 * or KVT_FILE_NONE. Locked, lets the lock go. */
uint32_t kvt_file_segment_take(kvt_file *file);
/* Empty one. false: the host needs them all. Locked, lets the lock go. */
bool kvt_file_evict_one(kvt_file *file);
/* Unpublish what condemned segments still hold and mark them. Locked, lets the lock go. */
void kvt_file_condemned_settle(kvt_file *file);
/* A record turned out to be bad: forget it and tell the host. Not locked. */
void kvt_file_record_damaged(kvt_file *file, const kvt_tier_op *op);

/* ---- file_erase.c ---- */
/* Drop these records, and let no later open find them nor what was dropped before; blocks. Not locked. KVT_OK;
 * KVT_REJECTED: writes are off; KVT_IO; KVT_BUSY: a stuck device. */
kvt_status kvt_file_erase(kvt_file *file, const kvt_place *places, size_t count);
/* This segment's dead records wait to be overwritten: it is not given away before. Locked. */
static inline bool kvt_file_erase_pending(const kvt_file *file, const kvt_file_segment *segment)
{
    return segment->dead_count != 0 && file->erase_asked != file->erase_done;
}
/* The keeper's part, a few segments at a time. true: there is more. Not locked. */
bool kvt_file_erase_step(kvt_file *file);

/* ---- file_keeper.c ---- */
kvt_status kvt_file_keeper_start(kvt_file *file);
void kvt_file_keeper_stop(kvt_file *file);
void kvt_file_keeper_wake(kvt_file *file); /* locked */
void kvt_file_dirty(kvt_file *file);       /* locked: a checkpoint would say something new */
/* One round: prepare, seal, recycle, checkpoint, as far as needed. Not locked. Nanoseconds until the next is due. */
uint64_t kvt_file_keep(kvt_file *file);
/* Not locked. A failed one has its consequences. */
kvt_status kvt_file_barrier(kvt_file *file);
/* Seal everything open, for a clean close. Not locked; no operation is under way. */
void kvt_file_seal_all(kvt_file *file);

/* ---- file_health.c: errors, and when to stop trying ---- */
void kvt_file_io_ended(kvt_file *file, kvt_io_verb verb, kvt_status status); /* locked */
void kvt_file_barrier_failed(kvt_file *file);                                /* locked */
/* May an operation of this verb start now? */
bool kvt_file_admits(kvt_file *file, kvt_tier_verb verb); /* locked */
uint32_t kvt_file_state(kvt_file *file);                  /* locked; kvt_tier_stats.state */
/* Is data.0 still the file we write to, and whole? If not, writes are off for good. Not locked; two system calls. */
bool kvt_file_data_there(kvt_file *file);

/* ---- file_recover.c, file_scan.c, file_checkpoint.c ---- */
kvt_status kvt_file_recover(kvt_file *file);
/* Find the records of an unsealed segment. entries receives count encoded footer entries, room for the most there can
 * be. */
kvt_status kvt_file_scan(kvt_file *file, const kvt_segment_header *header, uint8_t *entries, uint32_t *out_count);
/* Newest valid checkpoint: rows into file->checkpoint_buffer behind its block. KVT_MISS: none. */
kvt_status kvt_file_checkpoint_load(kvt_file *file, kvt_checkpoint *out);
kvt_status kvt_file_checkpoint_write(kvt_file *file);
/* Median of barriers on this device decides what is promised. */
bool kvt_file_barrier_is_fast(kvt_file *file);

#endif
