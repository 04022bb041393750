/* SPDX-License-Identifier: Apache-2.0
 *
 * Open and close: the order in which the parts come to life and go. No policy.
 */
#include "engine/request.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum { INDEX_ENTRIES_MIN = 4096, INDEX_ENTRIES_DEFAULT_MAX = 4 << 20, BYTES_PER_ENTRY = 32 << 10, TOUCH_THREADS = 8 };

/* ---- fork: a child inherits no thread of ours, so its handles answer KVT_FORKED ---- */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static kvt_engine *open_engines;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void) { pthread_mutex_lock(&open_lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&open_lock); }
static void after_fork_child(void)
{
    for (kvt_engine *engine = open_engines; engine != NULL; engine = engine->next_open)
        atomic_store(&engine->forked, true);
    pthread_mutex_unlock(&open_lock);
}
static void install_fork_handlers(void) { pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

static void list_open(kvt_engine *engine)
{
    pthread_once(&fork_once, install_fork_handlers);
    pthread_mutex_lock(&open_lock);
    engine->next_open = open_engines;
    open_engines = engine;
    pthread_mutex_unlock(&open_lock);
}

static void unlist(kvt_engine *engine)
{
    pthread_mutex_lock(&open_lock);
    kvt_engine **link = &open_engines;
    while (*link != NULL && *link != engine)
        link = &(*link)->next_open;
    if (*link != NULL)
        *link = engine->next_open;
    pthread_mutex_unlock(&open_lock);
}

kvt_status kvt_engine_enter(const kvt_engine *engine)
{
    kvt_fail_clear();
    if (engine == NULL)
        return kvt_fail(KVT_INVALID, "the engine is NULL");
    if (atomic_load_explicit(&engine->forked, memory_order_relaxed))
        return kvt_fail(KVT_FORKED, "this engine was opened before fork(); open another one in the child");
    return KVT_OK;
}

uint64_t kvt_engine_clock(const kvt_engine *engine)
{
    return engine->options.clock_ns != NULL ? engine->options.clock_ns(engine->options.clock_arg) : kvt_now_ns();
}

/* ---- open ---- */

static uint64_t index_entries(const kvt_options *options)
{
    if (options->index_entries_max != 0)
        return options->index_entries_max;
    uint64_t disk = options->lower == KVT_LOWER_NONE
                        ? 0
                        : kvt_max_u64(options->disk_bytes_max, kvt_store_dir_bytes(options->store_path));
    uint64_t entries = (options->host_bytes_max + disk) / BYTES_PER_ENTRY;
    return kvt_min_u64(kvt_max_u64(entries, INDEX_ENTRIES_MIN), INDEX_ENTRIES_DEFAULT_MAX);
}

static kvt_status open_memory(kvt_engine *engine)
{
    KVT_TRY(kvt_spaces_create(&engine->spaces));
    KVT_TRY(kvt_index_create(engine->index_entries, &engine->index));
    KVT_TRY(kvt_pool_create(engine->options.host_bytes_max, TOUCH_THREADS, &engine->log, &engine->pool));
    KVT_TRY(kvt_backend_open(engine->options.backend, &engine->log, &engine->backend));
    kvt_backend_info info;
    kvt_backend_get_info(engine->backend, &info);
    engine->backend_caps = info.caps;
    uint64_t pool_bytes;
    void *pool = kvt_pool_base(engine->pool, &pool_bytes);
    KVT_TRY(kvt_backend_host_register(engine->backend, pool, pool_bytes));
    KVT_TRY(kvt_ram_create(engine, &engine->ram));
    return kvt_workers_create(engine->options.worker_count, &engine->workers);
}

/* The budget is that of the store as it was made, whatever size this caller asked for. */
static kvt_status open_lower(kvt_engine *engine)
{
    kvt_options *options = &engine->options;
    bool fresh = false;
    if (options->lower != KVT_LOWER_NONE) {
        kvt_status opened = kvt_lower_open(engine, &fresh);
        if (opened != KVT_OK)
            return opened;
        kvt_tier_stats stats = {0};
        kvt_tier_get_stats(engine->lower, &stats);
        options->disk_bytes_max = stats.capacity_bytes;
    }
    if (options->write_bytes_per_day == 0)
        options->write_bytes_per_day = options->disk_bytes_max;
    bool free_writes = (options->flags & KVT_OPEN_NO_BUDGET) != 0 || options->lower == KVT_LOWER_NONE;
    KVT_TRY(kvt_admission_create(free_writes ? UINT64_MAX : options->write_bytes_per_day, options->disk_bytes_max,
                                 engine->index_entries, &engine->admission));
    kvt_budget_load(engine, fresh);
    return KVT_OK;
}

static kvt_status open_parts(kvt_engine *engine)
{
    kvt_status status = kvt_store_dir_make(&engine->options, &engine->made_dir);
    if (status != KVT_OK)
        return status;
    engine->index_entries = index_entries(&engine->options);
    KVT_TRY(open_memory(engine));
    KVT_TRY(kvt_leases_create(&engine->leases));
    status = open_lower(engine);
    return status != KVT_OK ? status : kvt_requests_create(engine, &engine->requests); /* its thread sees all parts */
}

static void free_engine(kvt_engine *engine)
{
    kvt_requests_destroy(engine->requests);
    kvt_workers_destroy(engine->workers);
    kvt_budget_save(engine);
    kvt_lower_close(engine);
    kvt_leases_destroy(engine->leases);
    kvt_ram_give_all(engine);
    kvt_admission_destroy(engine->admission);
    kvt_ram_destroy(engine->ram);
    if (engine->backend != NULL && engine->pool != NULL) {
        uint64_t bytes;
        kvt_backend_host_unregister(engine->backend, kvt_pool_base(engine->pool, &bytes));
    }
    kvt_backend_close(engine->backend);
    kvt_pool_destroy(engine->pool);
    kvt_index_destroy(engine->index);
    kvt_spaces_destroy(engine->spaces);
    kvt_free(engine->store_path);
    kvt_free(engine);
}

kvt_status kvt_open(const kvt_options *given, kvt_engine **out)
{
    kvt_fail_clear();
    if (out == NULL)
        return kvt_fail(KVT_INVALID, "out is NULL");
    kvt_options options;
    KVT_TRY(kvt_options_resolve(given, &options));
    kvt_engine *engine = kvt_alloc(sizeof *engine);
    if (engine == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for an engine");
    engine->options = options;
    engine->log = (kvt_log){options.log, options.log_arg};
    if (options.lower == KVT_LOWER_NONE)
        options.store_path = NULL; /* nothing is read there, nothing is written */
    engine->store_path = kvt_strdup(options.store_path);
    engine->options.store_path = engine->store_path;
    kvt_status status = options.store_path != NULL && engine->store_path == NULL ? KVT_NOMEM : open_parts(engine);
    if (status != KVT_OK) {
        kvt_log_write(&engine->log, KVT_LOG_ERROR, "open: %s: %s", kvt_status_name(status), kvt_last_error());
        if (engine->made_dir)
            rmdir(engine->store_path); /* leaves no trace, unless something is in it already */
        free_engine(engine);
        return status;
    }
    list_open(engine);
    *out = engine;
    return KVT_OK;
}

void kvt_close(kvt_engine *engine)
{
    if (engine == NULL)
        return;
    if (atomic_load(&engine->forked))
        return; /* the threads and locks of this handle live in the parent */
    unlist(engine);
    uint64_t deadline = kvt_now_ns() + engine->options.close_ms_max * UINT64_C(1000000);
    kvt_requests_drain(engine, deadline);
    if ((engine->options.flags & KVT_OPEN_READ_ONLY) == 0)
        kvt_ram_flush(engine, deadline);
    free_engine(engine);
}

uint32_t kvt_version(void) { return KVT_RELEASE_NUMBER; }

#define TEXT(x)         #x
#define DOTTED(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)
const char *kvt_version_text(void)
{
    return "kvtier " DOTTED(KVT_RELEASE_MAJOR, KVT_RELEASE_MINOR, KVT_RELEASE_PATCH) KVT_BUILT_IN;
}
