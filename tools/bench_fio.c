/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench io: kvt_put and kvt_get through the public calls and the pinned pool, beside fio on a file in the same
 * directory, with the same size of transfer and as many under way. Puts go in order into a store that is full, so
 * segments are recycled, as fio overwrites its file; gets are random, of records that were dropped from RAM before.
 * What is read back is compared, outside the measured time in full, inside it by a sample.
 */
#include "tools/bench.h"
#include "tools/fio.h"
#include "tools/pattern.h"
#include "tools/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, SAMPLE_BYTES = 4096, POOL_RECORDS = 16, WAIT_MS = 60000 };
static const uint64_t SIZES[] = {512 << 10, 1 << 20, 4 << 20};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

/* One record under way. */
typedef struct slot {
    kvt_item item;
    kvt_ticket ticket; /* 0: free */
    uint64_t number;   /* of the record */
} slot;

/* One size of record: a store of its own. */
typedef struct rig {
    const kvt_bench_args *args;
    kvt_engine *engine;
    kvt_space *space;
    slot slots[DEPTH_MAX];
    uint8_t *buffers;
    uint64_t buffers_bytes;
    uint64_t record_bytes;
    uint64_t next;   /* number of the next record to be put */
    uint64_t window; /* the last so many should be held */
    uint64_t random;
    uint64_t lower_bytes; /* read from below RAM by gets of the measurement under way */
    uint64_t moved_bytes;
    char detail[112];
    char pool_pages[16];
    kvt_series fio[2], ours[2]; /* bytes per second: get, put */
} rig;

static kvt_key key_of(uint64_t number)
{
    kvt_key key;
    kvt_store_le64(key.bytes, kvt_pattern_chain(1, number));
    kvt_store_le64(key.bytes + 8, number);
    return key;
}

/* The bytes of a record: the few different ones are made once, so that making them is not measured. */
static uint64_t seed_of(const rig *r, uint64_t number) { return number % r->args->depth; }

static uint8_t *buffer_of(const rig *r, uint64_t index) { return r->buffers + index * r->record_bytes; }

/* ---- opening ---- */

static kvt_status open_engine(rig *r, const char *path)
{
    kvt_options options = KVT_OPTIONS_INIT;
    options.flags = KVT_OPEN_WRITE_THROUGH | KVT_OPEN_NO_BUDGET;
    options.store_path = path;
    options.lower = KVT_LOWER_FILE;
    options.io = r->args->io;
    options.disk_bytes_max = r->args->bytes;
    options.host_bytes_max = (r->record_bytes + (64 << 10)) * (r->args->depth + POOL_RECORDS);
    options.backend = "cpu";
    KVT_TRY(kvt_open(&options, &r->engine));
    kvt_space_options space = KVT_SPACE_OPTIONS_INIT;
    space.model = "bench-io";
    return kvt_space_open(r->engine, &space, &r->space);
}

static kvt_status rig_open(rig *r, const char *path)
{
    kvt_page_kind kind;
    r->buffers_bytes = kvt_align_up(r->record_bytes * r->args->depth, KVT_HUGE_PAGE_BYTES);
    r->buffers = kvt_pages_map(r->buffers_bytes, &kind);
    if (r->buffers == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the buffers; use a smaller --depth");
    KVT_TRY(open_engine(r, path));
    kvt_stats stats = {.struct_size = sizeof stats};
    KVT_TRY(kvt_get_stats(r->engine, &stats));
    memcpy(r->detail, stats.tiers[KVT_TIER_FILE].detail, sizeof r->detail);
    memcpy(r->pool_pages, stats.pool_pages, sizeof r->pool_pages);
    return KVT_OK;
}

static void rig_close(rig *r)
{
    kvt_space_close(r->space);
    kvt_close(r->engine);
    if (r->buffers != NULL)
        kvt_pages_unmap(r->buffers, r->buffers_bytes);
}

/* ---- puts and gets ---- */

static kvt_status submit(rig *r, uint32_t i, uint64_t number, bool put)
{
    slot *s = &r->slots[i];
    s->number = number;
    s->item = (kvt_item){
        .key = key_of(number), .buffer = buffer_of(r, put ? seed_of(r, number) : i), .bytes = r->record_bytes};
    kvt_batch batch = KVT_BATCH_INIT;
    batch.items = &s->item;
    batch.count = 1;
    batch.flags = put ? KVT_REQUEST_WRITE_THROUGH : 0;
    kvt_status status = put ? kvt_put(r->space, &batch, &s->ticket) : kvt_get(r->space, &batch, &s->ticket);
    return status > 0 ? kvt_fail(status, "a request was refused: %s", kvt_status_text(status)) : status;
}

static kvt_status check_bytes(rig *r, const slot *s, uint64_t at, uint64_t bytes)
{
    uint64_t first = 0;
    uint64_t wrong = kvt_pattern_check((uint8_t *)s->item.buffer + at, seed_of(r, s->number), at, bytes, &first);
    if (wrong == 0)
        return KVT_OK;
    return kvt_fail(KVT_CORRUPT, "record %" PRIu64 " has wrong bytes from %" PRIu64 " on", s->number, at + first);
}

/* The next completion, whichever request ends first: fio does not wait for the oldest either. */
static kvt_status take(rig *r, uint32_t *out_slot, kvt_completion *out)
{
    struct pollfd ready = {.fd = kvt_eventfd(r->engine), .events = POLLIN};
    while (kvt_poll(r->engine, out, 1) == 0) {
        int woken = poll(&ready, 1, WAIT_MS);
        if (woken == 0 || (woken < 0 && errno != EINTR))
            return kvt_fail(KVT_TIMEOUT, "no request ended within a minute");
    }
    for (*out_slot = 0; r->slots[*out_slot].ticket != out->ticket; ++*out_slot)
        ;
    return KVT_OK;
}

/* Take a completion and look at what it brought. */
static kvt_status finish(rig *r, bool put, uint32_t *out_slot)
{
    kvt_completion done;
    KVT_TRY(take(r, out_slot, &done));
    slot *s = &r->slots[*out_slot];
    s->ticket = 0;
    if (put && (done.status != KVT_OK || (s->item.tiers & KVT_TIER_BIT(KVT_TIER_FILE)) == 0))
        return kvt_fail(KVT_NOSPACE, "a put did not reach the disk: %s; raise --bytes", kvt_status_text(done.cause));
    if (!put && s->item.status == KVT_MISS)
        return KVT_OK; /* at the edge of the window; not counted */
    if (!put && s->item.status != KVT_OK)
        return kvt_fail(KVT_IO, "a get failed: %s", kvt_status_text(s->item.status));
    r->moved_bytes += s->item.bytes;
    r->lower_bytes += done.bytes_lower;
    kvt_status status = kvt_evict(r->space, &s->item.key, 1);
    if (status < 0 || put)
        return status < 0 ? status : KVT_OK;
    uint64_t at = kvt_pattern_chain(r->random, s->number) % (r->record_bytes - SAMPLE_BYTES);
    return check_bytes(r, s, at, SAMPLE_BYTES);
}

static uint64_t choose(rig *r, bool put)
{
    if (put)
        return r->next++;
    r->random = kvt_pattern_chain(r->random, r->next);
    return r->next - 1 - r->random % r->window;
}

/* Keep `depth` requests under way for run_ns, then drain. Returns bytes per second. */
static kvt_status run_ours(rig *r, bool put, uint64_t run_ns, double *out_rate)
{
    uint32_t free_slot, depth = (uint32_t)r->args->depth;
    r->moved_bytes = 0;
    r->lower_bytes = 0;
    for (uint32_t i = 0; put && i < depth; i++)
        kvt_pattern_fill(buffer_of(r, i), i, 0, r->record_bytes); /* gets have overwritten them */
    uint64_t start = kvt_now_ns();
    for (uint32_t i = 0; i < depth; i++)
        KVT_TRY(submit(r, i, choose(r, put), put));
    while (kvt_now_ns() - start < run_ns) {
        KVT_TRY(finish(r, put, &free_slot));
        KVT_TRY(submit(r, free_slot, choose(r, put), put));
    }
    for (uint32_t i = 0; i < depth; i++)
        KVT_TRY(finish(r, put, &free_slot));
    *out_rate = (double)r->moved_bytes / ((double)(kvt_now_ns() - start) / 1e9);
    if (!put && r->lower_bytes < r->moved_bytes / 100 * 95)
        return kvt_fail(KVT_INVALID,
                        "only %" PRIu64 " of %" PRIu64 " bytes came from disk, the rest was in RAM; raise --bytes",
                        r->lower_bytes, r->moved_bytes);
    return KVT_OK;
}

/* Fill the store more than once round, so that later puts recycle segments; then compare whole records. */
static kvt_status prepare(rig *r)
{
    uint64_t records = r->args->bytes / r->record_bytes;
    double rate = 0;
    while (r->next < records + records / 4)
        KVT_TRY(run_ours(r, true, UINT64_C(200000000), &rate));
    r->window = records / 2;
    for (uint32_t n = 0; n < 16; n++) {
        KVT_TRY(submit(r, 0, choose(r, false), false));
        uint64_t before = r->moved_bytes;
        uint32_t at;
        KVT_TRY(finish(r, false, &at));
        if (r->moved_bytes != before)
            KVT_TRY(check_bytes(r, &r->slots[0], 0, r->record_bytes));
    }
    return KVT_OK;
}

/* ---- rounds ---- */

static kvt_status run_rounds(rig *r, kvt_fio_job *job)
{
    KVT_TRY(prepare(r));
    for (uint64_t round = 0; round < r->args->rounds && !cli_interrupted(); round++) {
        for (int put = 0; put < 2; put++) {
            double rate = 0;
            job->write = put != 0;
            job->block_bytes = r->record_bytes;
            KVT_TRY(kvt_fio_run(job, &rate));
            kvt_series_add(&r->fio[put], rate);
            KVT_TRY(run_ours(r, put != 0, r->args->run_ns, &rate));
            kvt_series_add(&r->ours[put], rate);
        }
    }
    return KVT_OK;
}

static const cli_column COLUMNS[] = {{"record_bytes", "record", CLI_UNIT_BYTES, false},
                                     {"call", "call", CLI_UNIT_NONE, false},
                                     {"fio_bytes_per_second", "fio", CLI_UNIT_RATE, false},
                                     {"bytes_per_second", "kvtier", CLI_UNIT_RATE, false},
                                     {"ratio", "ratio", CLI_UNIT_RATIO, false},
                                     {"ratio_p10", "p10", CLI_UNIT_RATIO, false},
                                     {"ratio_p90", "p90", CLI_UNIT_RATIO, false},
                                     {"fio_p10_bytes_per_second", "fio p10", CLI_UNIT_RATE, true},
                                     {"fio_p90_bytes_per_second", "fio p90", CLI_UNIT_RATE, true}};

static void report_size(cli_report *report, const rig *r)
{
    for (int put = 0; put < 2; put++) {
        kvt_spread paired = kvt_series_ratio(&r->ours[put], &r->fio[put]);
        kvt_spread fio = kvt_series_spread(&r->fio[put]);
        kvt_spread ours = kvt_series_spread(&r->ours[put]);
        cli_row_u64(report, r->record_bytes);
        cli_row_text(report, put ? "put" : "get");
        cli_row_real(report, fio.median);
        cli_row_real(report, ours.median);
        cli_row_real(report, fio.median > 0 ? ours.median / fio.median : 0);
        cli_row_real(report, paired.p10);
        cli_row_real(report, paired.p90);
        cli_row_real(report, fio.p10);
        cli_row_real(report, fio.p90);
    }
}

/* Direct I/O and huge pages, or say so. */
static int check_fallback(const rig *r)
{
    if (strstr(r->detail, "direct") == NULL || strstr(r->detail, "not direct") != NULL)
        return kvt_bench_fallback(r->args, "the file tier reads and writes through the page cache",
                                  "use a file system with direct I/O");
    if (strcmp(r->pool_pages, "small") == 0)
        return kvt_bench_fallback(r->args, "the pinned pool has 4 KiB pages",
                                  "allow huge pages in /sys/kernel/mm/transparent_hugepage/enabled");
    return CLI_OK;
}

/* All sizes; each has its own store below `root`, removed behind it. The last rig's state is left in *r for the head.
 */
static int run_size(rig *r, kvt_fio_job *job, const char *root)
{
    char path[KVT_SCRATCH_PATH + 32];
    snprintf(path, sizeof path, "%s/store-%" PRIu64, root, r->record_bytes);
    kvt_status status = rig_open(r, path);
    int code = status == KVT_OK ? check_fallback(r) : CLI_OK;
    if (status == KVT_OK && code == CLI_OK)
        status = run_rounds(r, job);
    if (status != KVT_OK)
        code = cli_fail_status(status, "bench io"); /* before the next call forgets why */
    rig_close(r);
    kvt_scratch_remove(path);
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}

/* A written file for fio: reads of unwritten extents would not touch the disk. */
static kvt_status make_file(const char *path, uint64_t bytes)
{
    enum { PIECE = 4 << 20 };
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint8_t *piece = kvt_alloc(PIECE);
    kvt_status status = fd >= 0 && piece != NULL ? KVT_OK : kvt_status_of_errno(errno);
    for (uint64_t at = 0; at < bytes && status == KVT_OK; at += PIECE) {
        kvt_pattern_fill(piece, at, 0, PIECE);
        if (pwrite(fd, piece, PIECE, (off_t)at) != PIECE)
            status = kvt_status_of_errno(errno);
    }
    if (status == KVT_OK && fsync(fd) != 0)
        status = kvt_status_of_errno(errno);
    if (fd >= 0)
        close(fd);
    kvt_free(piece);
    return status == KVT_OK ? KVT_OK : kvt_fail(status, "%s: %s", path, strerror(errno));
}

static void report_all(const cli_context *context, const rig *rigs, const kvt_fio_job *job, const char *root,
                       const char *version, int *code)
{
    char text[2048];
    const kvt_bench_args *args = rigs[0].args;
    cli_report *report = cli_report_open(context, "kvtier.bench-io/1");
    kvt_bench_report_head(report, args, root);
    kvt_fio_command(job, text, sizeof text);
    cli_report_text(report, "fio_version", "yardstick", version);
    cli_report_text(report, "fio_command", NULL, text);
    cli_report_text(report, "fio_pages", "pages of fio", job->small_pages ? "small" : "huge");
    cli_report_text(report, "tier_detail", "disk I/O", rigs[0].detail);
    cli_report_text(report, "pool_pages", "pages of the pool", rigs[0].pool_pages);
    cli_report_u64(report, "set_bytes", "store and file", CLI_UNIT_BYTES, args->bytes);
    cli_report_u64(report, "depth", "under way", CLI_UNIT_NONE, args->depth);
    cli_report_real(report, "run_seconds", "each measurement", CLI_UNIT_SECONDS, (double)args->run_ns / 1e9);
    cli_report_rows(report, "rows", "Records beside fio", COLUMNS, sizeof COLUMNS / sizeof *COLUMNS);
    for (int i = 0; i < SIZE_COUNT; i++)
        report_size(report, &rigs[i]);
    cli_report_rows_end(report);
    int closed = cli_report_close(report);
    *code = *code != CLI_OK ? *code : closed;
}

static int run_all(const cli_context *context, const kvt_bench_args *args, const char *root, const char *version)
{
    char path[KVT_SCRATCH_PATH + 16];
    snprintf(path, sizeof path, "%s/fio.data", root);
    kvt_fio_job job = {.file = path,
                       .bytes = args->bytes,
                       .block_bytes = SIZES[SIZE_COUNT - 1],
                       .depth = args->depth,
                       .run_ns = args->run_ns};
    job.small_pages = !kvt_fio_huge_pages(&job);
    int code = CLI_OK;
    if (job.small_pages)
        code = kvt_bench_fallback(args, "fio finds no reserved huge pages for its buffers",
                                  "run sysctl vm.nr_hugepages=64");
    if (code != CLI_OK)
        return code;
    kvt_status status = make_file(path, args->bytes);
    rig *rigs = kvt_alloc_array(SIZE_COUNT, sizeof *rigs);
    if (status == KVT_OK && rigs == NULL)
        status = KVT_NOMEM;
    if (status != KVT_OK)
        code = cli_fail_status(status, "bench io");
    for (int i = 0; i < SIZE_COUNT && code == CLI_OK; i++) {
        rigs[i].args = args;
        rigs[i].record_bytes = SIZES[i];
        rigs[i].random = 1;
        code = run_size(&rigs[i], &job, root);
    }
    if (code == CLI_OK)
        report_all(context, rigs, &job, root, version, &code);
    unlink(path);
    kvt_free(rigs);
    return code;
}

int kvt_bench_io(const cli_context *context, const kvt_bench_args *args)
{
    char version[256];
    kvt_scratch scratch;
    if (!kvt_fio_version(version, sizeof version))
        return cli_fail(CLI_NOT_FOUND, "fio", "is the yardstick and is not installed; run apt-get install fio");
    if (args->bytes % (4 << 20) != 0 || args->bytes < (64 << 20))
        return cli_fail(CLI_USAGE, "--bytes", "must be a multiple of 4M and at least 64M");
    kvt_status status = kvt_scratch_open(kvt_scratch_named(context->global.store), "kvtier-bench", &scratch);
    if (status != KVT_OK)
        return cli_fail_status(status, "bench io");
    int code = run_all(context, args, scratch.path, version);
    kvt_scratch_close(&scratch);
    return code;
}
