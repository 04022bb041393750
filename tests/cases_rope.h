/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases of re-positioned keys and their runner, plain C, for test programs and for kernelcheck on device hosts. What
 * must not turn is checked byte for byte, what must is compared with a long double oracle and, bit for bit, with the
 * portable backend; every byte around is checked too.
 */
#ifndef KVT_CASES_ROPE_H
#define KVT_CASES_ROPE_H

#include "tests/cases_kernels.h"
#include "tests/cases_rope_oracle.h"

enum { KVT_ROPE_CASE_ROPES_MAX = 4 };

typedef struct kvt_rope_shape { /* sizes in elements, so that every number format fits */
    const char *layout;
    uint32_t layers, page_tokens, heads, head, window_begin, window;
    uint32_t planes;        /* as kvt_rope has it */
    uint32_t layers_turned; /* kvt_rope_case_layers */
    uint32_t padding;       /* bytes behind every page */
} kvt_rope_shape;

typedef enum kvt_rope_case_layers {
    KVT_ROPE_ALL_LAYERS,
    KVT_ROPE_TWO_TABLES,   /* the first layer by one table, the others by another */
    KVT_ROPE_EVERY_SECOND, /* the others carry no position */
} kvt_rope_case_layers;

typedef struct kvt_rope_case {
    uint32_t number;
    kvt_rope_shape shape;
    const kvt_oracle_family *family;
    uint32_t element, table_element, pairing;
    uint32_t segment_tokens, token_begin, token_count, layer_begin, layer_count;
    kvt_rope_shift shifts[KVT_CASE_MOVES_MAX];
    uint32_t move_count, group_index;
    bool holes;
    bool blob_in_pages; /* the segments lie in the kind of memory that pages live in */
} kvt_rope_case;

/* What is under test. */
typedef struct kvt_rope_subject {
    kvt_case_memory memory; /* tables come from where pages do */
    kvt_status (*scatter)(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                          const kvt_rope_set *set);
    void *arg;
    /* Plants a mistake in what the subject is told, not in what is expected. May be NULL. */
    void (*mutate)(void *arg, kvt_rope *ropes, uint32_t rope_count, kvt_rope_shift *shifts, size_t move_count);
    void *mutate_arg;
} kvt_rope_subject;

uint32_t kvt_rope_case_count(void);
bool kvt_rope_case_at(uint32_t i, kvt_rope_case *out);
void kvt_rope_case_text(const kvt_rope_case *of, char text[KVT_CASE_TEXT_BYTES]);

/* Run one case; *error gathers over cases (may be NULL). why[] says what is wrong, where. */
kvt_case_outcome kvt_rope_case_run(const kvt_rope_case *of, const kvt_rope_subject *subject, kvt_oracle_error *error,
                                   char why[KVT_CASE_TEXT_BYTES]);

/* The most that a result's error may be, over the error of the rounded truth. */
#define KVT_ROPE_RATIO_MAX 1.03

/* kvt_rope_subject.scatter for an opened backend (arg): scatters, then waits for the fence. */
kvt_status kvt_case_rope_backend(void *arg, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                 const kvt_rope_set *set);

#endif
