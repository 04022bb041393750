/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/io_stage.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

static const struct {
    const char *name;
    const kvt_io_ops *ops;
} stages[] = {
#if KVT_HAVE_URING
    {"io_uring", &kvt_io_uring_ops},
#endif
    {"pool", &kvt_io_pool_ops},
    {"sim", &kvt_io_sim_ops},
};

static void map_memory(io_stage *stage)
{
    kvt_page_kind kind;
    stage->memory = kvt_pages_map(2 * (uint64_t)IO_STAGE_MEMORY_BYTES, &kind);
    cr_assert_not_null(stage->memory);
    stage->other = stage->memory + IO_STAGE_MEMORY_BYTES;
}

static bool set_up(io_stage *stage, const kvt_io_ops *ops)
{
    map_memory(stage);
    if (ops == &kvt_io_sim_ops)
        stage->disk = kvt_sim_create(1);
    else
        stage->directory = kvt_test_tmpdir();
    kvt_io_config config = {
        .memory = stage->memory, .memory_bytes = IO_STAGE_MEMORY_BYTES, .lock_wait_ms = 50, .sim = stage->disk};
    kvt_status status = ops->open(stage->directory, false, &config, &stage->io);
    if (status == KVT_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s: %s\n", stage->name, kvt_last_error());
        return false;
    }
    cr_assert_eq(status, KVT_OK, "%s: %s", stage->name, kvt_last_error());
    status = ops->open_file(stage->io, "data.0", KVT_IO_FILE_CREATE | KVT_IO_FILE_LOCK, &stage->file, &stage->info);
    cr_assert_eq(status, KVT_OK, "%s: %s", stage->name, kvt_last_error());
    return true;
}

static void tear_down(io_stage *stage)
{
    if (stage->io != NULL)
        stage->io->ops->close(stage->io);
    kvt_sim_destroy(stage->disk);
    if (stage->directory != NULL)
        kvt_test_rmtree(stage->directory);
    kvt_free(stage->directory);
    kvt_pages_unmap(stage->memory, 2 * (uint64_t)IO_STAGE_MEMORY_BYTES);
}

void io_stage_each(void (*run)(io_stage *stage))
{
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        io_stage stage = {.name = stages[i].name};
        if (set_up(&stage, stages[i].ops))
            run(&stage);
        tear_down(&stage);
    }
}

static void set_flag(kvt_io_op *op) { atomic_store((atomic_uint *)op->arg, 1); }

void io_stage_run(io_stage *stage, kvt_io_op *op, kvt_io_verb verb, uint64_t offset, uint64_t bytes)
{
    atomic_uint finished = 0;
    *op = (kvt_io_op){.verb = verb,
                      .file = stage->file,
                      .offset = offset,
                      .bytes = bytes,
                      .memory = stage->memory,
                      .done = set_flag,
                      .arg = &finished};
    stage->io->ops->submit(stage->io, op);
    uint64_t deadline_ns = kvt_now_ns() + UINT64_C(20000000000);
    while (atomic_load(&finished) == 0) {
        cr_assert_lt(kvt_now_ns(), deadline_ns, "%s: no completion", stage->name);
        sched_yield();
    }
}
