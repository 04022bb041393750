/* SPDX-License-Identifier: Apache-2.0
 *
 * The warmer's two halves. A source turns the tensors of a safetensors file into groups whose "paged memory" is the
 * mapped file itself: page size 1, a base pointer per layer and plane, page id = token index, so that a save gathers
 * straight out of the file. A run saves the chunks of a source that the store does not hold yet.
 */
#ifndef KVT_TOOLS_WARM_H
#define KVT_TOOLS_WARM_H

#include "tools/read_safetensors.h"

/* How a file's tensors are to be read. */
typedef struct kvt_warm_naming {
    const char *pattern;  /* of tensor names: "layer.{layer}.{plane:k|v}"; without {plane} there is one plane a layer */
    bool heads_first;     /* [heads, tokens, dim] instead of [tokens, heads, dim] */
    const char *position; /* position encoding; NULL: the file's metadata says */
    uint64_t first_position; /* of the first token; UINT64_MAX: the file's metadata says, else 0 */
} kvt_warm_naming;

typedef struct kvt_warm_source {
    uint64_t token_count;
    uint32_t layer_count;
    uint32_t group_count;
    kvt_group groups[KVT_GROUPS_MAX];  /* bases owned by the source */
    char dtype[16];                    /* "bf16" */
    char layers[KVT_NAME_BYTES_MAX];   /* "0-17" or "4,11" */
    char position[KVT_NAME_BYTES_MAX]; /* with the layers and the first position, where they are not the plain case */
    uint64_t first_position;
    uint32_t *slots; /* 0, 1, 2, ...: the page table */
} kvt_warm_source;

/* Is the pattern well formed? KVT_INVALID with kvt_last_error(). */
kvt_status kvt_warm_check_pattern(const char *pattern);
/* Does `name` fit the pattern? Then which layer and plane it is. `pattern` was checked. */
bool kvt_warm_match_name(const char *pattern, const char *name, uint32_t *out_layer, uint32_t *out_plane);

/*
 * Find the KV in a mapped file, which must stay open while the source is used. KVT_CORRUPT: the tensors do not fit
 * together, KVT_INVALID: a text is too long; kvt_last_error() names the tensor. *out needs kvt_warm_source_fini after
 * KVT_OK only.
 */
kvt_status kvt_warm_source_init(const kvt_safetensors *file, const kvt_warm_naming *naming, kvt_warm_source *out);
void kvt_warm_source_fini(kvt_warm_source *source);

/* What to do, and what came of it. */
typedef struct kvt_warm_run {
    kvt_engine *engine;
    kvt_space *space;
    const kvt_warm_source *source;
    const uint32_t *tokens;   /* source->token_count of them */
    uint32_t lower_tier_mask; /* a chunk counts as held when one of these tiers has it */
    uint32_t window;          /* saves under way at once, 1..KVT_WARM_WINDOW_MAX */
    bool write_through, ignore_budget;
    uint64_t write_bytes_max; /* that this run may write; UINT64_MAX: no cap */
    bool dry_run;             /* only count */
    uint64_t timeout_ns;
    bool (*stop)(void); /* asked between saves */
    void (*on_progress)(void *arg, uint64_t tokens_done);
    void *arg;

    uint64_t chunks, chunks_held, chunks_new, chunks_lost; /* out: lost: written, but evicted again by the end */
    uint64_t tail_tokens;                                  /* out: behind the last full chunk, not stored */
    uint64_t blob_bytes, stored_bytes;                     /* out: of new chunks; what the tier below was given */
    uint64_t charged_bytes; /* out: against write_bytes_max: what was written, or will be when the store gets to it */
    bool stopped, budget_used_up, cap_reached; /* out; the two last: the store's budget, write_bytes_max */
    kvt_status cause;                          /* out: KVT_OK, or why it ended early */
    int32_t system_error;
} kvt_warm_run;
enum { KVT_WARM_WINDOW_MAX = 8 };

/* Save what is missing. KVT_OK also when it ended early (see cause); a failure when the engine refused the request
 * itself. */
kvt_status kvt_warm_save(kvt_warm_run *run);

#endif
