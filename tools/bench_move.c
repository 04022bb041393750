/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench move: gather and scatter of a backend beside one plain copy of the same bytes between the same memories.
 * One call moves one chunk, as the engine does; the set is larger than the caches and goes round before a byte is seen
 * again.
 */
#include "kernels/kernels.h"
#include "tools/bench.h"
#include "tools/paged.h"

#include <inttypes.h>

enum { CHUNK_TOKENS = 256 };

typedef struct move_case {
    const char *geometry;
    const char *layout;
    uint32_t page_tokens;
} move_case;

static const move_case CASES[] = {
    {"llama-3.1-8b", "flash", 16},
    {"llama-3.1-8b", "cross-layer", 16},
    {"llama-3.1-8b", "hnd", 16},
    {"llama-3.1-8b", "flash", 1},
    {"qwen3-32b", "flash", 16},
    {"qwen3-32b", "flash", 1},
    {"deepseek-v3-mla", "flash", 16},
    {"deepseek-v3-mla", "flash", 1},
    {"tiny", "flash", 16},
    {"tiny", "flash", 1},
};

/* One case, set up. */
typedef struct rig {
    kvt_geometry geometry;
    kvt_backend *backend;
    kvt_layout *layout;
    kvt_paged *paged;
    uint32_t *ids; /* chunks x pages of a chunk */
    uint8_t *blobs;
    uint64_t blob_bytes;
    uint64_t set_bytes;
    uint32_t chunk_pages;
    uint32_t chunks;
    kvt_page_kind blob_pages;
    bool on_device, registered;
    kvt_series copy[2], move[2]; /* bytes per second, by kvt_direction */
} rig;

static void rig_close(rig *r)
{
    kvt_layout_destroy(r->layout);
    kvt_paged_destroy(r->paged);
    kvt_free(r->ids);
    if (r->registered)
        kvt_backend_host_unregister(r->backend, r->blobs);
    if (r->blobs != NULL)
        kvt_pages_unmap(r->blobs, r->set_bytes);
}

static kvt_status rig_open(rig *r, const move_case *c, const kvt_bench_args *args)
{
    KVT_TRY(kvt_geometry_find(c->geometry, 0, &r->geometry));
    r->blob_bytes = kvt_geometry_token_bytes(&r->geometry) * CHUNK_TOKENS;
    r->chunks = (uint32_t)kvt_max_u64(1, args->bytes / r->blob_bytes);
    r->chunk_pages = CHUNK_TOKENS / c->page_tokens;
    uint32_t pages = r->chunks * r->chunk_pages;
    kvt_paged_options options = {.layout = c->layout,
                                 .page_tokens = c->page_tokens,
                                 .page_count = pages,
                                 .chunk_tokens = CHUNK_TOKENS,
                                 .seed = 1,
                                 .backend = r->on_device ? r->backend : NULL};
    KVT_TRY(kvt_paged_create(&r->geometry, &options, &r->paged));
    KVT_TRY(kvt_layout_create(kvt_paged_group(r->paged), 1, CHUNK_TOKENS, &r->layout));
    r->set_bytes = kvt_align_up(r->blob_bytes * r->chunks, KVT_HUGE_PAGE_BYTES);
    r->blobs = kvt_pages_map(r->set_bytes, &r->blob_pages);
    r->ids = kvt_alloc_array(pages, sizeof *r->ids);
    if (r->blobs == NULL || r->ids == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a set of %" PRIu64 " MiB; use a smaller --bytes", r->set_bytes >> 20);
    kvt_pages_touch(r->blobs, r->set_bytes, 1);
    r->blob_pages = kvt_pages_kind_of(r->blobs, r->set_bytes, r->blob_pages);
    KVT_TRY(kvt_backend_host_register(r->backend, r->blobs, r->set_bytes));
    r->registered = true;
    kvt_paged_take(r->paged, pages, r->ids);
    for (uint32_t i = 0; i < r->chunks; i++)
        kvt_paged_fill(r->paged, r->ids + (size_t)i * r->chunk_pages, i, 0, CHUNK_TOKENS);
    return KVT_OK;
}

/* One pass of the set through the kernels. */
static kvt_status move_set(rig *r, kvt_direction direction)
{
    for (uint32_t i = 0; i < r->chunks; i++) {
        kvt_move move = {.segment = r->blobs + i * r->blob_bytes,
                         .pages = r->ids + (size_t)i * r->chunk_pages,
                         .segment_tokens = CHUNK_TOKENS,
                         .token_count = CHUNK_TOKENS,
                         .layer_count = r->geometry.layer_count};
        kvt_fence fence = {0};
        KVT_TRY(kvt_backend_move(r->backend, r->layout, direction, &move, 1, NULL, &fence));
        KVT_TRY(kvt_backend_fence_wait(r->backend, &fence));
    }
    return KVT_OK;
}

/* The same bytes, between the same memories, as the crow flies. */
static kvt_status copy_set(rig *r, kvt_direction direction)
{
    uint8_t *pages = kvt_paged_group(r->paged)->bases[0];
    for (uint32_t i = 0; i < r->chunks; i++) {
        uint8_t *blob = r->blobs + i * r->blob_bytes;
        uint8_t *flat = pages + i * r->blob_bytes;
        KVT_TRY(kvt_backend_pages_copy(r->backend, direction, direction == KVT_GATHER ? blob : flat,
                                       direction == KVT_GATHER ? flat : blob, r->blob_bytes));
    }
    return KVT_OK;
}

static double rate(const rig *r, uint64_t start)
{
    return (double)(r->blob_bytes * r->chunks) / ((double)(kvt_now_ns() - start) / 1e9);
}

/* Each direction: memcpy, which leaves its target in the wrong order, then the move, which puts it right. Round 0 warms
 * up and is not counted. */
static kvt_status run_rounds(rig *r, uint64_t rounds)
{
    for (uint64_t round = 0; round <= rounds; round++) {
        for (int direction = KVT_GATHER; direction <= KVT_SCATTER; direction++) {
            uint64_t start = kvt_now_ns();
            KVT_TRY(copy_set(r, (kvt_direction)direction));
            double copied = rate(r, start);
            start = kvt_now_ns();
            KVT_TRY(move_set(r, (kvt_direction)direction));
            double moved = rate(r, start);
            if (round == 0)
                continue;
            kvt_series_add(&r->copy[direction], copied);
            kvt_series_add(&r->move[direction], moved);
        }
    }
    return KVT_OK;
}

/* A fast copy of wrong bytes is worth nothing. */
static kvt_status check_pages(const rig *r)
{
    kvt_wrong wrong = {0};
    for (uint32_t i = 0; i < r->chunks; i++)
        kvt_paged_check(r->paged, r->ids + (size_t)i * r->chunk_pages, i, CHUNK_TOKENS, &wrong);
    if (wrong.count == 0)
        return KVT_OK;
    char text[200];
    kvt_wrong_text(&wrong, text, sizeof text);
    return kvt_fail(KVT_CORRUPT, "%" PRIu64 " wrong bytes after the moves; first: %s", wrong.count, text);
}

static const cli_column COLUMNS[] = {
    {"geometry", "geometry", CLI_UNIT_NONE, false},       {"layout", "layout", CLI_UNIT_NONE, false},
    {"page_tokens", "page", CLI_UNIT_NONE, false},        {"piece_bytes", "piece", CLI_UNIT_BYTES, false},
    {"direction", "direction", CLI_UNIT_NONE, false},     {"memcpy_bytes_per_second", "memcpy", CLI_UNIT_RATE, false},
    {"bytes_per_second", "kvtier", CLI_UNIT_RATE, false}, {"ratio", "ratio", CLI_UNIT_RATIO, false},
    {"ratio_p10", "p10", CLI_UNIT_RATIO, false},          {"ratio_p90", "p90", CLI_UNIT_RATIO, false},
    {"set_bytes", "set", CLI_UNIT_BYTES, true},           {"page_kind", "pages", CLI_UNIT_NONE, true}};

/* Bytes that lie together in a page and in the blob: whole pages of one plane, or one head of one token. */
static uint64_t piece_bytes(const rig *r, const move_case *c)
{
    if (strcmp(c->layout, "hnd") == 0)
        return r->geometry.head_bytes;
    return kvt_geometry_row_bytes(&r->geometry) * c->page_tokens;
}

static void report_case(cli_report *report, const rig *r, const move_case *c)
{
    for (int direction = 0; direction < 2; direction++) {
        kvt_spread ratio = kvt_series_ratio(&r->move[direction], &r->copy[direction]);
        cli_row_text(report, c->geometry);
        cli_row_text(report, c->layout);
        cli_row_u64(report, c->page_tokens);
        cli_row_u64(report, piece_bytes(r, c));
        cli_row_text(report, direction == KVT_GATHER ? "gather" : "scatter");
        cli_row_real(report, kvt_series_spread(&r->copy[direction]).median);
        cli_row_real(report, kvt_series_spread(&r->move[direction]).median);
        cli_row_real(report, ratio.median);
        cli_row_real(report, ratio.p10);
        cli_row_real(report, ratio.p90);
        cli_row_u64(report, r->blob_bytes * r->chunks);
        cli_row_text(report, kvt_paged_kind(r->paged));
    }
}

static int run_case(cli_report *report, kvt_backend *backend, const move_case *c, const kvt_bench_args *args)
{
    kvt_backend_info info;
    kvt_backend_get_info(backend, &info);
    rig r = {.backend = backend, .on_device = (info.caps & KVT_BACKEND_DEVICE) != 0};
    kvt_status status = rig_open(&r, c, args);
    int code = CLI_OK;
    if (status == KVT_OK && (r.blob_pages == KVT_PAGES_SMALL || strcmp(kvt_paged_kind(r.paged), "small") == 0))
        code = kvt_bench_fallback(args, "the kernel gives 4 KiB pages only",
                                  "allow huge pages in /sys/kernel/mm/transparent_hugepage/enabled");
    if (status == KVT_OK && code == CLI_OK)
        status = run_rounds(&r, args->rounds);
    if (status == KVT_OK && code == CLI_OK)
        status = check_pages(&r);
    if (status == KVT_OK && code == CLI_OK)
        report_case(report, &r, c);
    if (status != KVT_OK)
        code = cli_fail_status(status, "bench move");
    rig_close(&r);
    return code;
}

/* The cases of one geometry, or all. A geometry that the table does not know gets the two usual ones. */
static int run_cases(cli_report *report, kvt_backend *backend, const kvt_bench_args *args)
{
    int code = CLI_OK;
    bool known = false;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES && code == CLI_OK && !cli_interrupted(); i++) {
        if (args->geometry != NULL && strcmp(args->geometry, CASES[i].geometry) != 0)
            continue;
        known = true;
        code = run_case(report, backend, &CASES[i], args);
    }
    static const uint32_t page_tokens[] = {16, 1};
    for (size_t i = 0; i < 2 && !known && code == CLI_OK && !cli_interrupted(); i++)
        code = run_case(report, backend, &(move_case){args->geometry, "flash", page_tokens[i]}, args);
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}

int kvt_bench_move(const cli_context *context, const kvt_bench_args *args)
{
    kvt_backend *backend = NULL;
    kvt_geometry geometry;
    kvt_status status = args->geometry != NULL ? kvt_geometry_find(args->geometry, 0, &geometry) : KVT_OK;
    if (status == KVT_OK)
        status = kvt_backend_open(context->global.backend != NULL ? context->global.backend : "cpu", NULL, &backend);
    if (status != KVT_OK)
        return cli_fail_status(status, "bench move");
    kvt_backend_info info;
    kvt_backend_get_info(backend, &info);
    cli_report *report = cli_report_open(context, "kvtier.bench-move/1");
    kvt_bench_report_head(report, args, NULL);
    cli_report_text(report, "backend", "backend", info.name);
    cli_report_text(report, "device", "device", info.device);
    cli_report_u64(report, "chunk_tokens", "chunk tokens", CLI_UNIT_NONE, CHUNK_TOKENS);
    cli_report_rows(report, "rows", "Pages <-> blob, shuffled pages", COLUMNS, sizeof COLUMNS / sizeof *COLUMNS);
    int code = run_cases(report, backend, args);
    cli_report_rows_end(report);
    kvt_backend_close(backend);
    int closed = cli_report_close(report);
    return code != CLI_OK ? code : closed;
}
