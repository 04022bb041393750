/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel cases and their runner, plain C, for test programs and for kernelcheck on hosts without a test framework. A
 * case is numbers only; its expected bytes come from an enumeration written here by hand, layout by layout, that shares
 * no code and no stride with the library. Every byte around the ones that may change is checked too.
 */
#ifndef KVT_CASES_KERNELS_H
#define KVT_CASES_KERNELS_H

#include "kernels/kernels.h"
#include "kernels/layout_named.h"

enum { KVT_CASE_MOVES_MAX = 3, KVT_CASE_TEXT_BYTES = 256 };

/* how the pages of a chunk lie in the pool */
typedef enum kvt_case_ids {
    KVT_IDS_SEQUENTIAL,
    KVT_IDS_REVERSED,
    KVT_IDS_RANDOM,
    KVT_IDS_EXTENTS, /* short ascending runs in random order */
    KVT_IDS_HOLES,   /* random, some KVT_PAGE_NONE */
    KVT_IDS_COUNT
} kvt_case_ids;

typedef struct kvt_kernel_case {
    uint32_t number;
    const char *layout; /* of kvt_named_layout_at */
    kvt_page_geometry geometry;
    uint32_t chunk_pages;
    uint32_t segment_tokens;
    uint32_t token_begin, token_count;
    uint32_t layer_begin, layer_count;
    kvt_case_ids ids;
    kvt_direction direction;
    uint32_t move_count;  /* blobs of the batch */
    uint32_t group_index; /* groups before the one under test */
} kvt_kernel_case;

/* Where pages live. Zeroed: ordinary host memory. */
typedef struct kvt_case_memory {
    void *(*alloc)(void *arg, uint64_t bytes);
    void (*release)(void *arg, void *memory);
    bool (*write)(void *arg, void *to, const void *from, uint64_t bytes); /* host to pages; blocking */
    bool (*read)(void *arg, void *to, const void *from, uint64_t bytes);
    /* Host memory that the device knows, for segments. May be NULL. */
    void *(*segment_alloc)(void *arg, uint64_t bytes);
    void (*segment_release)(void *arg, void *memory);
    void *arg;
} kvt_case_memory;

/* What is under test. */
typedef struct kvt_case_subject {
    kvt_case_memory memory;
    kvt_status (*move)(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                       size_t count);
    void *arg;
    /* Plants a mistake in what the subject is told, not in what is expected. May be NULL. */
    void (*mutate)(void *arg, kvt_group *group, kvt_move *moves, size_t count);
    void *mutate_arg;
    /* Told before the move what memory there is, guards included: a subject with a planted mistake must not leave it.
     * May be NULL. */
    void (*bounds)(void *arg, const uint8_t *pages, uint64_t page_bytes, const uint8_t *segments,
                   uint64_t segment_bytes);
} kvt_case_subject;

/* Every how many-th case a test runs: all of them, or, where a sanitizer makes each dear, a sample that still meets
 * every layout, geometry, range, page order and direction (the step shares no factor with their counts). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { KVT_CASE_STEP = 11 };
#else
enum { KVT_CASE_STEP = 1 };
#endif

/* The i-th case; false behind the last. */
bool kvt_kernel_case_at(uint32_t i, kvt_kernel_case *out);
uint32_t kvt_kernel_case_count(void);
void kvt_kernel_case_text(const kvt_kernel_case *of, char text[KVT_CASE_TEXT_BYTES]);

typedef enum kvt_case_outcome {
    KVT_CASE_PASSED,
    KVT_CASE_WRONG_BYTES,
    KVT_CASE_REFUSED,
    KVT_CASE_NO_MEMORY
} kvt_case_outcome;

/* Run one case. why[] says what differs, where. */
kvt_case_outcome kvt_kernel_case_run(const kvt_kernel_case *of, const kvt_case_subject *subject,
                                     char why[KVT_CASE_TEXT_BYTES]);

/* kvt_case_subject.move for an opened backend (arg): moves, then waits for the fence. */
kvt_status kvt_case_move_backend(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                 size_t count);

#endif
