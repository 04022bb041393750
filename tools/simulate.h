/* SPDX-License-Identifier: Apache-2.0
 *
 * What a cache of a given size would have hit on a request trace: one tier under several policies, or the engine's two
 * tiers. A second opinion on the engine: none of its decisions are shared, only the trace reader is. Records are
 * counted, not sized: all chunks of a trace are equal. docs/policies.md states every convention.
 */
#ifndef KVT_SIMULATE_H
#define KVT_SIMULATE_H

#include "tools/trace.h"

/* ---- one tier ---- */

typedef enum kvt_sim_policy {
    KVT_SIM_FIFO = 0,
    KVT_SIM_LRU_FRONT,     /* LRU, the chain of a request is touched first block first */
    KVT_SIM_LRU,           /* last block first, as all others here */
    KVT_SIM_S3FIFO,        /* 10 % small queue */
    KVT_SIM_SEGMENT16_LRU, /* 16 blocks leave at once, by the latest touch of any of them */
    KVT_SIM_SEGMENT64_FIFO,
    KVT_SIM_POLICY_COUNT
} kvt_sim_policy;

typedef struct kvt_sim_cache_result {
    uint64_t blocks;     /* asked for */
    uint64_t hit_blocks; /* held, from a prompt's first block on without a gap */
    uint64_t inserted;
    uint64_t evicted;
} kvt_sim_cache_result;

/* KVT_INVALID: no capacity, or fewer than two segments; KVT_NOMEM. */
kvt_status kvt_sim_cache(const kvt_trace *trace, kvt_sim_policy policy, uint64_t capacity_blocks,
                         kvt_sim_cache_result *out);

/* ---- the engine's two tiers ---- */

typedef enum kvt_sim_admission {
    KVT_SIM_BUDGET = 0,    /* the engine's default: on eviction from RAM, within a token bucket, then by filter */
    KVT_SIM_WRITE_THROUGH, /* at once, within the bucket */
    KVT_SIM_EVICTED,       /* on eviction, no budget */
    KVT_SIM_USED,          /* on eviction, if touched in RAM */
    KVT_SIM_USED_OR_SEEN,  /* or if it left RAM before */
    KVT_SIM_ADMISSION_COUNT
} kvt_sim_admission;

typedef struct kvt_sim_tiers_options {
    uint32_t chunk_tokens; /* divides KVT_TRACE_BLOCK_TOKENS */
    uint32_t host_policy;  /* KVT_SIM_S3FIFO or KVT_SIM_LRU */
    uint32_t admission;    /* kvt_sim_admission */
    bool ignore_budget;    /* write-through only: no bucket */
    bool touch_promoted;   /* a chunk that a load brings into RAM counts as used there; the engine does not do that */
    uint64_t host_records; /* that fit into RAM */
    uint64_t segment_records;
    uint64_t segment_count;
    uint64_t segments_spare;   /* kept empty for the writers: one for each group that writes */
    double bucket_records;     /* depth of the bucket, full at the start; a tenth of it is the deepest debt */
    double bucket_records_day; /* it fills at this rate, by trace time */
    uint64_t filter_records;   /* keys of each window of the seen-before filter; 0: it forgets nothing */
} kvt_sim_tiers_options;

typedef struct kvt_sim_tiers_result {
    uint64_t requests;
    uint64_t chunks; /* asked for */
    uint64_t prompt_tokens;
    uint64_t hit_tokens;
    uint64_t hit_tokens_host;
    uint64_t hit_tokens_disk;
    uint64_t saved_chunks;    /* brought into RAM by requests that computed them */
    uint64_t promoted_chunks; /* brought into RAM from disk */
    uint64_t host_evicted;
    uint64_t written; /* records to disk */
    uint64_t skipped; /* left RAM without being written or being there already */
    uint64_t disk_evicted;
    double bucket_records_left;
} kvt_sim_tiers_result;

kvt_status kvt_sim_tiers(const kvt_trace *trace, const kvt_sim_tiers_options *options, kvt_sim_tiers_result *out);

/* How many records of record_bytes (header block and padded payload) fit into a segment of the file tier. */
uint64_t kvt_sim_segment_records(uint64_t segment_bytes, uint64_t record_bytes);

#endif
