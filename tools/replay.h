/* SPDX-License-Identifier: Apache-2.0
 *
 * Drives an engine with the requests of a trace, through paged memory whose every byte is checked, in a worker process
 * that may be killed and started again. A supervisor (the caller's process) forks the worker; what must survive the
 * worker lies in a journal shared by both. Used by `kvtier replay` and `kvtier demo`.
 */
#ifndef KVT_REPLAY_H
#define KVT_REPLAY_H

#include "tools/geometry.h"
#include "tools/trace.h"

#include <stdatomic.h>

typedef struct kvt_replay_options {
    const char *store; /* directory; NULL only with KVT_LOWER_NONE */
    const kvt_geometry *geometry;
    const char *layout;  /* tools/paged.h */
    const char *backend; /* "cpu" or "portable": the pages are host memory */
    uint32_t page_tokens;
    uint32_t chunk_tokens; /* divides KVT_TRACE_BLOCK_TOKENS */
    uint32_t lower;        /* kvt_lower */
    uint32_t io;           /* kvt_io_kind */
    uint32_t codec;        /* kvt_codec_id */
    uint32_t worker_count; /* 0: the engine's default */
    uint64_t host_bytes;
    uint64_t disk_bytes;
    uint64_t segment_bytes;
    uint64_t page_bytes; /* bound of the paged memory; longer prompts go through it in windows */
    uint64_t seed;
    const uint64_t *kills; /* requests to be killed in, ascending */
    uint32_t kill_count;
    bool write_through;
    bool ignore_budget;
    bool tail;           /* prompts end where the trace says; else they are whole blocks */
    bool quiet;          /* no progress bar */
    const char *verb;    /* of the progress bar */
    const char *command; /* that runs it, for messages */
    const char *name;    /* of this run: its records are found by runs of the same name only; NULL: "replay" */
} kvt_replay_options;

/* ---- the journal: shared memory ---- */

/* What was moved, and how long that took: since the first worker started. */
enum {
    KVT_STAGE_GATHER,
    KVT_STAGE_ENCODE,
    KVT_STAGE_HASH,
    KVT_STAGE_WRITE,
    KVT_STAGE_READ,
    KVT_STAGE_DECODE,
    KVT_STAGE_SCATTER,
    KVT_STAGE_COUNT
};
typedef struct kvt_replay_stage {
    uint64_t bytes;
    uint64_t ns;
} kvt_replay_stage;

/* Results up to the last finished request; replaced as a whole, so that a request that was cut short leaves no trace.
 */
typedef struct kvt_replay_state {
    uint64_t requests; /* finished; also the next one to run */
    uint64_t prompt_tokens;
    uint64_t hit_tokens; /* restored and checked, from the first token without a gap */
    uint64_t hit_tokens_host;
    uint64_t hit_tokens_lower;
    uint64_t matched_tokens; /* what kvt_match had promised */
    uint64_t checked_bytes;  /* of loads, all against the pattern */
    uint64_t saved_chunks;
    uint64_t saved_bytes;
    uint64_t unsaved_tokens; /* of full chunks whose save was refused or cut short */
    uint64_t load_ns;        /* in loads, from call to completion */
    uint64_t save_ns;        /* in saves, and chunks of them: for the instant of a kill */
    uint64_t skipped_chunks; /* left RAM without being written */
    uint64_t collisions;
    uint64_t load_failures;
    uint64_t corrupt_records;
    kvt_replay_stage stages[KVT_STAGE_COUNT];
    char pool_pages[16];
    char backend[32];
    char tier_detail[112];
    uint32_t tier_state;
} kvt_replay_state;

enum { KVT_LATENCY_MATCH, KVT_LATENCY_LOAD, KVT_LATENCY_SAVE, KVT_LATENCY_REQUEST, KVT_LATENCY_COUNT };
enum { KVT_REPLAY_TEXT = 512 };

typedef enum kvt_replay_phase {
    KVT_PHASE_START,
    KVT_PHASE_OPEN,
    KVT_PHASE_CHECK, /* after a restart: is everything there? */
    KVT_PHASE_RUN,
    KVT_PHASE_CLOSE,
    KVT_PHASE_DONE
} kvt_replay_phase;

/* One writer each unless atomic. `held` is written by the engine's event threads. */
typedef struct kvt_journal {
    kvt_replay_state states[2];
    _Atomic uint32_t state; /* which of them holds */
    _Atomic uint32_t phase;
    _Atomic uint64_t clock_ns;  /* trace time */
    _Atomic uint64_t request;   /* under way */
    _Atomic uint64_t in_flight; /* chunks of a save that has not completed */
    _Atomic uint64_t save_estimate_ns;
    _Atomic uint64_t kill_request; /* the worker stops here and waits for its end; UINT64_MAX: none */
    _Atomic uint64_t wrong_bytes;
    _Atomic uint64_t acknowledged;  /* records the lower tier took */
    _Atomic uint64_t evicted;       /* records it let go */
    _Atomic uint64_t lost;          /* acknowledged, not evicted, and not there after a restart */
    _Atomic uint64_t check_records; /* read back after restarts */
    _Atomic uint64_t check_bytes;
    uint64_t open_ns; /* of the current worker */
    uint64_t check_ns;
    int32_t status;              /* of a worker that ended early: a kvt_status */
    char error[KVT_REPLAY_TEXT]; /* why the worker ended early */
    char wrong[KVT_REPLAY_TEXT]; /* the first wrong byte */
    int wake_fd;                 /* eventfd: a save of kill_request has started */

    uint64_t unit_count; /* a unit is a chunk with all before it */
    uint64_t request_count;
    kvt_key *keys;           /* per unit; zero: not known yet */
    _Atomic uint8_t *held;   /* per unit: the lower tier has acknowledged it and not let go of it */
    _Atomic uint32_t *table; /* key -> unit + 1 */
    uint64_t table_size;
    uint64_t *latencies[KVT_LATENCY_COUNT]; /* per request; 0: none */
    uint64_t mapped_bytes;
} kvt_journal;

kvt_status kvt_journal_create(uint64_t unit_count, uint64_t request_count, kvt_journal **out);
void kvt_journal_destroy(kvt_journal *journal);
/* Make a key known. Only the worker's main thread calls this. */
void kvt_journal_learn(kvt_journal *journal, uint64_t unit, const kvt_key *key);
/* kvt_options.on_event; arg is the journal. Any thread. */
void kvt_journal_on_event(void *arg, const kvt_event *event);
/* kvt_options.clock_ns; arg is the journal. */
uint64_t kvt_journal_clock(void *arg);
/* The state that holds; and a copy to be changed, made to hold by commit. */
const kvt_replay_state *kvt_journal_state(const kvt_journal *journal);
kvt_replay_state *kvt_journal_begin(kvt_journal *journal);
void kvt_journal_commit(kvt_journal *journal);
void kvt_journal_note_wrong(kvt_journal *journal, uint64_t count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- the worker ---- */

/* Run from the journal's next request to the end, in this process. Nothing to be freed by the caller. The journal's
 * error text is set on failure. */
kvt_status kvt_replay_work(const kvt_trace *trace, const kvt_replay_options *options, kvt_journal *journal);

/* ---- the supervisor ---- */

typedef struct kvt_replay_kill {
    uint64_t request;     /* asked for */
    uint64_t hit_request; /* the one that was cut short */
    uint64_t delay_ns;    /* from the start of its save */
    uint64_t in_flight;   /* chunks not completed when the worker died */
    uint64_t open_ns;     /* of the kvt_open after it */
    uint64_t check_ns;    /* of the check after it */
    uint64_t must_hold;   /* records that had to be there */
} kvt_replay_kill;

enum { KVT_KILLS_MAX = 64 };
typedef struct kvt_replay_result {
    kvt_replay_state state;
    uint64_t wrong_bytes, acknowledged, lost, evicted, check_records, check_bytes;
    uint64_t latency_ns[KVT_LATENCY_COUNT][4]; /* p50, p90, p99, max */
    uint64_t latency_count[KVT_LATENCY_COUNT];
    uint64_t elapsed_ns;
    uint64_t peak_memory_bytes; /* of any worker, resident */
    uint64_t page_memory_bytes;
    uint32_t restarts;
    kvt_replay_kill kills[KVT_KILLS_MAX];
    char wrong[KVT_REPLAY_TEXT];
} kvt_replay_result;

/* Run all of it. Forks: the caller must have no other threads. KVT_OK also when bytes were wrong or records lost: look
 * at the result. KVT_CANCELLED: interrupted. Other failures: kvt_last_error(). */
kvt_status kvt_replay_run(const kvt_trace *trace, const kvt_replay_options *options, kvt_replay_result *out);

/* What the result means, as a line for people; 320 bytes hold it. */
typedef enum kvt_replay_verdict {
    KVT_VERDICT_OK,
    KVT_VERDICT_INCOMPLETE, /* kills were asked for that found no save */
    KVT_VERDICT_LOST,
    KVT_VERDICT_WRONG
} kvt_replay_verdict;
kvt_replay_verdict kvt_replay_judge(const kvt_replay_options *options, const kvt_replay_result *result, char *text,
                                    size_t bytes);
const char *kvt_replay_acknowledged_by(const kvt_replay_options *options); /* label of result.acknowledged */

/* Tokens of a request as replayed, and chunks of a block. */
uint64_t kvt_replay_tokens(const kvt_trace_request *request, const kvt_replay_options *options);
static inline uint32_t kvt_replay_chunks_of_block(const kvt_replay_options *options)
{
    return KVT_TRACE_BLOCK_TOKENS / options->chunk_tokens;
}

#endif
