/* SPDX-License-Identifier: Apache-2.0
 *
 * The file tier's insides; file_calls.h has the functions. Tests include both to choose the I/O and to step the keeper.
 *
 * One mutex (kvt_file.lock) guards all below unless a field says otherwise. It is never held across I/O or a call of
 * the host. Slow work (preparing, sealing, evicting, checkpoints) belongs to one thread, the keeper.
 */
#ifndef KVT_FILE_INT_H
#define KVT_FILE_INT_H

#include "tiers/file_format.h"
#include "tiers/io.h"

#include <pthread.h>
enum {
    KVT_FILE_GROUPS_MAX = 2,
    KVT_FILE_SLOTS = 256, /* transfers of records under way; further operations wait in line */
    KVT_FILE_FOOTERS = 3 * KVT_FILE_GROUPS_MAX,
    KVT_FILE_CHUNK_ENTRIES = 32,
    KVT_FILE_DAMAGE_MAX = 3, /* bad records of one segment until it is given up */
    KVT_FILE_ERRORS_MAX = 8, /* I/O errors within ERROR_SPAN_NS until the tier is off */
    KVT_FILE_CHECKPOINT_SEALS = 64,
    KVT_FILE_WAIT_MS = 2000 /* a write waits this long for a segment */
};
#define KVT_FILE_NONE          UINT32_MAX
#define KVT_FILE_ERROR_SPAN_NS UINT64_C(10000000000)
#define KVT_FILE_RETRY_NS      UINT64_C(30000000000) /* off, until a probe */
#define KVT_FILE_CHECKPOINT_NS UINT64_C(60000000000)

/* What is known of a record in RAM: what eviction needs. The rest is in the engine's index and in the footer. */
typedef enum kvt_file_entry_state {
    KVT_ENTRY_STORING = 0,
    KVT_ENTRY_LIVE = 1,
    KVT_ENTRY_DEAD = 2, /* forgotten here, but the disk may still tell of it */
    KVT_ENTRY_ERASING = 3,
    KVT_ENTRY_ERASED = 4
} kvt_file_entry_state;
typedef struct kvt_file_entry {
    kvt_key space;
    kvt_key key;
    uint32_t block;
    uint32_t stored_bytes : 28;
    uint32_t state : 4; /* kvt_file_entry_state */
} kvt_file_entry;
static_assert(sizeof(kvt_file_entry) == 40 && KVT_PAYLOAD_BYTES_MAX < 1u << 28, "kept for every record on disk");

typedef struct kvt_file_chunk {
    uint32_t next; /* of the segment, or of the free list */
    kvt_file_entry entries[KVT_FILE_CHUNK_ENTRIES];
} kvt_file_chunk;

/* FREE -> PREPARING -> PREPARED -> OPEN -> SEALING -> SEALED -> EVICTING -> DRAINING -> FREE; CONDEMNED -> QUARANTINED
 * from anywhere. Readable: OPEN to EVICTING. */
typedef enum kvt_segment_state {
    KVT_SEGMENT_FREE = 0,
    KVT_SEGMENT_PREPARING,
    KVT_SEGMENT_PREPARED,
    KVT_SEGMENT_OPEN,
    KVT_SEGMENT_SEALING,
    KVT_SEGMENT_SEALED,
    KVT_SEGMENT_EVICTING,  /* its records are being unpublished, it may still go back to SEALED */
    KVT_SEGMENT_DRAINING,  /* no new readers */
    KVT_SEGMENT_CONDEMNED, /* damaged; the keeper will unpublish and mark it */
    KVT_SEGMENT_QUARANTINED
} kvt_segment_state;

typedef struct kvt_file_segment {
    uint64_t generation;
    uint64_t touched; /* kvt_file.uses at the last touch */
    uint32_t state;
    uint32_t readers;
    uint32_t writers;
    uint32_t next_block;  /* where the next record goes */
    uint32_t entry_count; /* reservations */
    uint32_t live_count;
    uint32_t dead_count; /* entries in state DEAD */
    uint64_t erase_due;  /* the first removal that waits for them; 0: none */
    uint32_t first_chunk;
    uint32_t last_chunk;
    uint32_t footer;        /* index of kvt_file.footers while OPEN or SEALING */
    uint32_t refused_round; /* eviction round in which the host said no */
    uint16_t damaged;
    bool barrier;      /* sealed under a barrier that completed */
    bool open_on_disk; /* its header there may say OPEN, whatever the state here */
} kvt_file_segment;

/* Entries of a segment that is not sealed yet, encoded, and the trailer behind them when it is. */
typedef struct kvt_file_footer {
    uint8_t *bytes;   /* entries and a block for the trailer, aligned */
    uint32_t segment; /* KVT_FILE_NONE: unused */
} kvt_file_footer;

typedef struct kvt_file_queue {
    kvt_tier_op *head;
    kvt_tier_op *tail;
} kvt_file_queue;

typedef struct kvt_file_group {
    uint32_t open; /* segment or KVT_FILE_NONE */
    uint32_t prepared;
    bool active;            /* somebody wrote: the keeper keeps a segment prepared */
    kvt_file_queue waiting; /* writes without a segment, oldest first; tier_private[0] is their deadline */
} kvt_file_group;

typedef struct kvt_file kvt_file;

typedef struct kvt_file_slot {
    kvt_io_op io;
    kvt_file *file;
    kvt_tier_op *op;
    kvt_file_entry *entry; /* of a write */
    uint32_t segment;
    uint32_t block;
    uint32_t attempt; /* of a read */
    uint64_t generation;
    struct kvt_file_slot *next;
} kvt_file_slot;

typedef struct kvt_file_health {
    uint32_t state;        /* as kvt_tier_stats.state */
    bool writes_fixed_off; /* for the life of this open: read-only, the epoch could not be written, data.0 is lost */
    bool data_lost;        /* removed, replaced or cut short under us */
    bool probing;
    uint64_t off_until_ns;
    uint64_t writes_off_until_ns;
    uint64_t error_ns[KVT_FILE_ERRORS_MAX];
    uint32_t error_next;
} kvt_file_health;

/* How tests differ from life. All zero is life. */
typedef enum kvt_file_durability {
    KVT_DURABILITY_PROBE = 0,
    KVT_DURABILITY_NONE,
    KVT_DURABILITY_SEAL
} kvt_file_durability;
typedef struct kvt_file_setup {
    const kvt_io_ops *io_ops; /* instead of options->io */
    void *sim;
    kvt_file_durability durability;
    bool no_keeper; /* no thread: the test calls kvt_file_keep */
    uint64_t (*now_ns)(void);
    uint32_t lock_wait_ms;
} kvt_file_setup;

struct kvt_file {
    kvt_tier tier; /* first */
    kvt_tier_host host;
    kvt_file_setup setup;
    bool read_only;
    kvt_io *io;
    kvt_io_file lock_file, data_file;
    kvt_super super; /* set at open, then constant, as what follows up to `lock` */
    uint64_t segment_bytes;
    uint32_t segment_count; /* usable: within the data file */
    uint32_t group_count;
    bool durable;
    char path_text[256]; /* for messages */

    pthread_mutex_t lock;
    pthread_cond_t work; /* the keeper has something to do */
    pthread_cond_t idle; /* an operation ended, a reader left, the keeper went round */
    kvt_file_segment *segments;
    kvt_file_group groups[KVT_FILE_GROUPS_MAX];
    kvt_file_footer footers[KVT_FILE_FOOTERS];
    kvt_file_chunk *chunks;
    uint32_t chunk_count, chunk_free, chunk_fresh; /* free list; never used so far from chunk_fresh on */
    kvt_file_slot *slots;
    kvt_file_slot *slot_free;
    kvt_file_queue pending; /* operations without a slot */
    uint64_t ops_active;
    uint64_t writes_active;  /* transfers, for flush */
    uint64_t seq;            /* of the last record */
    uint32_t generation_low; /* of the last segment prepared */
    uint64_t uses;
    uint32_t eviction_round;
    uint32_t draining, condemned; /* segments in these states */
    bool eviction_wanted;         /* RAM for entries ran out: free the oldest segment */
    kvt_file_health health;
    uint64_t looked_ns; /* at data.0 */
    /* the keeper's own */
    pthread_t keeper;
    bool keeper_running, stopping, woken;
    uint32_t seals; /* since the last checkpoint */
    uint64_t dirty_since_ns;
    bool dirty;
    uint64_t checkpoint_seq;
    uint8_t *scratch;                          /* KVT_FILE_SCRATCH_BYTES, aligned */
    uint8_t *checkpoint_buffer, *erase_buffer; /* the latter for a footer */

    /* erasures: callers ask and wait for `idle`, the keeper does them all at once */
    uint64_t erase_asked, erase_done, erase_steps; /* steps tell slow from stuck */
    kvt_status erase_status;

    kvt_tier_stats counts; /* counters only */
    uint32_t reads_now, writes_now;
    uint64_t reads_since_ns, writes_since_ns;
};
#define KVT_FILE_SCRATCH_BYTES (KVT_HEADER_BYTES + (uint64_t)KVT_FRAME_BYTES) /* a header and the frame behind it */

#endif
