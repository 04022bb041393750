/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench match: kvt_match of a prompt of 131,072 tokens that is all held, beside what no lookup can do without:
 * 512 chained hashes of 1 KiB of tokens and 512 reads of random lines of a table as large as the index. Warm: the same
 * again and again. Cold: the caches are swept before each measurement, as in a process that does other things in
 * between.
 */
#include "hash/hash.h"
#include "tools/bench.h"
#include "tools/pattern.h"

#include <inttypes.h>

enum {
    TOKENS = 131072,
    CHUNK_TOKENS = 256,
    CHUNKS = TOKENS / CHUNK_TOKENS,
    CHUNK_BYTES = CHUNK_TOKENS * 4,
    LINE_BYTES = 64,
    INDEX_ENTRIES = 1 << 20,
    PAGE_TOKENS = 16,
    PAGES = TOKENS / PAGE_TOKENS,
    ROW_BYTES = 16, /* of a token's KV: the lookup does not look at it */
    WARM_REPEATS = 32
};
#define HOST_BYTES (UINT64_C(64) << 20)
#define WAIT_NS    (UINT64_C(60) * 1000000000)

typedef struct rig {
    kvt_engine *engine;
    kvt_space *space;
    uint32_t *tokens;
    uint8_t *rows; /* of the yardstick: 16 bytes of parent, then a chunk's tokens */
    uint8_t *table;
    uint8_t *sweep;
    uint64_t sweep_bytes;
    uint8_t *pages;
    uint32_t *ids;
    uint64_t sink; /* keeps the yardstick's reads alive */
} rig;

static void rig_close(rig *r)
{
    kvt_space_close(r->space);
    kvt_close(r->engine);
    kvt_free(r->tokens);
    kvt_free(r->rows);
    kvt_free(r->ids);
    kvt_free(r->pages);
    if (r->table != NULL)
        kvt_pages_unmap(r->table, (uint64_t)INDEX_ENTRIES * LINE_BYTES);
    if (r->sweep != NULL)
        kvt_pages_unmap(r->sweep, r->sweep_bytes);
}

static kvt_status make_memory(rig *r, uint64_t sweep_bytes)
{
    kvt_page_kind kind;
    r->sweep_bytes = kvt_align_up(sweep_bytes, KVT_HUGE_PAGE_BYTES);
    r->tokens = kvt_alloc_array(TOKENS, sizeof *r->tokens);
    r->rows = kvt_alloc_array(CHUNKS, KVT_KEY_BYTES + CHUNK_BYTES);
    r->ids = kvt_alloc_array(PAGES, sizeof *r->ids);
    r->pages = kvt_alloc_array(TOKENS, ROW_BYTES);
    r->table = kvt_pages_map((uint64_t)INDEX_ENTRIES * LINE_BYTES, &kind);
    r->sweep = kvt_pages_map(r->sweep_bytes, &kind);
    if (r->tokens == NULL || r->rows == NULL || r->ids == NULL || r->pages == NULL || r->table == NULL ||
        r->sweep == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for the measurement; use a smaller --bytes");
    for (uint32_t i = 0; i < TOKENS; i++)
        r->tokens[i] = (uint32_t)kvt_pattern_chain(1, i) & 0x1ffff;
    for (uint32_t i = 0; i < CHUNKS; i++)
        memcpy(r->rows + (size_t)i * (KVT_KEY_BYTES + CHUNK_BYTES) + KVT_KEY_BYTES, r->tokens + i * CHUNK_TOKENS,
               CHUNK_BYTES);
    for (uint32_t i = 0; i < PAGES; i++)
        r->ids[i] = i;
    memset(r->table, 1, (uint64_t)INDEX_ENTRIES * LINE_BYTES);
    memset(r->sweep, 1, r->sweep_bytes);
    return KVT_OK;
}

static kvt_status open_engine(rig *r)
{
    kvt_options options = KVT_OPTIONS_INIT;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = HOST_BYTES;
    options.index_entries_max = INDEX_ENTRIES;
    options.backend = "cpu";
    KVT_TRY(kvt_open(&options, &r->engine));
    void *base = r->pages;
    kvt_group group = {.layer_count = 1, .page_tokens = PAGE_TOKENS, .page_count = PAGES, .view_count = 1};
    group.views[0] = (kvt_view){.plane_count = 1,
                                .head_count = 1,
                                .head_bytes = ROW_BYTES,
                                .element_bytes = 2,
                                .page_stride = PAGE_TOKENS * ROW_BYTES,
                                .token_stride = ROW_BYTES,
                                .head_stride = ROW_BYTES};
    group.bases = &base;
    group.base_count = 1;
    kvt_space_options space = KVT_SPACE_OPTIONS_INIT;
    space.model = "bench-match";
    space.chunk_tokens = CHUNK_TOKENS;
    space.group_count = 1;
    space.groups = &group;
    return kvt_space_open(r->engine, &space, &r->space);
}

static kvt_status save_all(rig *r)
{
    kvt_page_list list = {.ids = r->ids, .count = PAGES};
    kvt_request request = KVT_REQUEST_INIT;
    request.tokens = r->tokens;
    request.token_count = TOKENS;
    request.pages = &list;
    request.group_count = 1;
    kvt_ticket ticket = 0;
    kvt_completion done;
    KVT_TRY(kvt_save(r->space, &request, &ticket));
    KVT_TRY(kvt_wait(r->engine, ticket, WAIT_NS, &done));
    if (done.tokens != TOKENS)
        return kvt_fail(KVT_NOSPACE, "%" PRIu64 " of %d tokens could be saved", done.tokens, TOKENS);
    return KVT_OK;
}

static kvt_status match_once(rig *r)
{
    kvt_match_result result;
    KVT_TRY(kvt_match(r->space, r->tokens, TOKENS, &result));
    if (result.tokens != TOKENS)
        return kvt_fail(KVT_CORRUPT, "kvt_match found %" PRIu64 " of %d tokens", result.tokens, TOKENS);
    return KVT_OK;
}

static void yardstick_once(rig *r)
{
    kvt_hash128 parent = {{1}};
    for (uint32_t i = 0; i < CHUNKS; i++) {
        uint8_t *row = r->rows + (size_t)i * (KVT_KEY_BYTES + CHUNK_BYTES);
        memcpy(row, parent.bytes, KVT_KEY_BYTES);
        parent = kvt_xxh3_128(row, KVT_KEY_BYTES + CHUNK_BYTES);
        uint64_t line = kvt_load_le64(parent.bytes) % INDEX_ENTRIES;
        r->sink += *(volatile uint64_t *)(r->table + line * LINE_BYTES);
    }
}

static void sweep_caches(rig *r)
{
    for (uint64_t i = 0; i < r->sweep_bytes; i += LINE_BYTES)
        r->sweep[i]++;
}

/* Nanoseconds of one call, cold or averaged over repeats. */
static kvt_status measure(rig *r, bool cold, bool yardstick, double *out)
{
    uint32_t repeats = cold ? 1 : WARM_REPEATS;
    if (cold)
        sweep_caches(r);
    uint64_t start = kvt_now_ns();
    for (uint32_t i = 0; i < repeats; i++) {
        if (yardstick)
            yardstick_once(r);
        else
            KVT_TRY(match_once(r));
    }
    *out = (double)(kvt_now_ns() - start) / repeats;
    return KVT_OK;
}

typedef struct row {
    const char *name;
    bool cold;
    kvt_series match, yardstick; /* nanoseconds */
} row;

static kvt_status run_rounds(rig *r, uint64_t rounds, row *rows, size_t row_count)
{
    for (uint64_t round = 0; round <= rounds; round++) {
        for (size_t i = 0; i < row_count; i++) {
            double match = 0;
            double yardstick = 0;
            KVT_TRY(measure(r, rows[i].cold, true, &yardstick));
            KVT_TRY(measure(r, rows[i].cold, false, &match));
            if (round == 0)
                continue; /* warms up */
            kvt_series_add(&rows[i].match, match);
            kvt_series_add(&rows[i].yardstick, yardstick);
        }
    }
    return KVT_OK;
}

static void report_rows(cli_report *report, const row *rows, size_t row_count)
{
    static const cli_column columns[] = {{"state", "caches", CLI_UNIT_NONE, false},
                                         {"yardstick_seconds", "512 hashes + 512 reads", CLI_UNIT_SECONDS, false},
                                         {"match_seconds", "kvt_match", CLI_UNIT_SECONDS, false},
                                         {"ratio", "ratio", CLI_UNIT_RATIO, false},
                                         {"ratio_p10", "p10", CLI_UNIT_RATIO, false},
                                         {"ratio_p90", "p90", CLI_UNIT_RATIO, false}};
    cli_report_rows(report, "rows", "131,072 tokens, all held", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < row_count; i++) {
        kvt_spread ratio = kvt_series_ratio(&rows[i].match, &rows[i].yardstick);
        cli_row_text(report, rows[i].name);
        cli_row_real(report, kvt_series_spread(&rows[i].yardstick).median / 1e9);
        cli_row_real(report, kvt_series_spread(&rows[i].match).median / 1e9);
        cli_row_real(report, ratio.median);
        cli_row_real(report, ratio.p10);
        cli_row_real(report, ratio.p90);
    }
    cli_report_rows_end(report);
}

int kvt_bench_match(const cli_context *context, const kvt_bench_args *args)
{
    rig r = {0};
    row rows[] = {{.name = "warm", .cold = false}, {.name = "cold", .cold = true}};
    enum { ROWS = sizeof rows / sizeof *rows };
    kvt_stats stats = {.struct_size = sizeof stats};
    kvt_status status = make_memory(&r, args->bytes);
    if (status == KVT_OK)
        status = open_engine(&r);
    if (status == KVT_OK)
        status = save_all(&r);
    if (status == KVT_OK)
        status = run_rounds(&r, args->rounds, rows, ROWS);
    if (status == KVT_OK)
        status = kvt_get_stats(r.engine, &stats);
    int code = status == KVT_OK ? CLI_OK : cli_fail_status(status, "bench match");
    rig_close(&r);
    if (code != CLI_OK)
        return code;
    if (strcmp(stats.pool_pages, "small") == 0)
        code = kvt_bench_fallback(args, "the pinned pool has 4 KiB pages",
                                  "allow huge pages in /sys/kernel/mm/transparent_hugepage/enabled");
    cli_report *report = cli_report_open(context, "kvtier.bench-match/1");
    kvt_bench_report_head(report, args, NULL);
    cli_report_text(report, "backend", "backend", stats.backend);
    cli_report_text(report, "pool_pages", "pages of the pool", stats.pool_pages);
    cli_report_u64(report, "index_entries", "entries of the index", CLI_UNIT_NONE, INDEX_ENTRIES);
    report_rows(report, rows, ROWS);
    int closed = cli_report_close(report);
    return code != CLI_OK ? code : closed;
}
