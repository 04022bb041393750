/* SPDX-License-Identifier: Apache-2.0
 *
 * A stage for tests of I/O: the same test runs over every implementation that works here.
 */
#ifndef KVT_TEST_IO_STAGE_H
#define KVT_TEST_IO_STAGE_H

#include "tests/support.h"
#include "tiers/io.h"
#include "tiers/io_sim.h"

enum { IO_STAGE_MEMORY_BYTES = 24 << 20 };

typedef struct io_stage {
    const char *name; /* of the implementation */
    kvt_io *io;       /* NULL: the test has closed it */
    kvt_io_file file; /* "data.0", empty, direct where possible */
    kvt_io_file_info info;
    char *directory;    /* NULL: the simulator needs none */
    kvt_sim_disk *disk; /* NULL: it is a real one */
    uint8_t *memory;    /* IO_STAGE_MEMORY_BYTES each; the first is registered */
    uint8_t *other;
} io_stage;

/* Run over each implementation in a fresh directory; one that does not work here is skipped aloud. */
void io_stage_each(void (*run)(io_stage *stage));

/* One transfer of stage->memory that may fail; the outcome is in op. */
void io_stage_run(io_stage *stage, kvt_io_op *op, kvt_io_verb verb, uint64_t offset, uint64_t bytes);

#endif
