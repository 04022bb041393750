/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts and the planner: what is refused, the numbers of the named layouts, folding, reciprocals, slices.
 */
#include "tests/support.h"

#include "kernels/layout_int.h"
#include "kernels/layout_named.h"

static kvt_named_pages build(const char *name, kvt_page_geometry geometry)
{
    kvt_named_pages pages;
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name(name), &geometry, &pages), KVT_OK, "%s: %s", name,
                 kvt_last_error());
    return pages;
}

/* ------------------------------------------------------------------ refusals */

/* A descriptor that is fine: 2 planes, 4 layers, 10 pages of 16 tokens, 8 heads of 256 bytes, in made-up memory. */
static void *const some_bases[4] = {(void *)0x100000000, (void *)0x200000000, (void *)0x300000001, (void *)0x400000000};
static kvt_group good_group(void)
{
    kvt_named_pages pages = build("vllm-flash-nhd", (kvt_page_geometry){4, 16, 10, 8, 256, 2, 0, 0});
    pages.group.bases = some_bases;
    return pages.group;
}

static void expect_refused(const kvt_group *group, const char *word)
{
    kvt_layout *layout = NULL;
    kvt_fail_clear();
    cr_assert_eq(kvt_layout_create(group, 1, 256, &layout), KVT_INVALID, "accepted although %s is wrong", word);
    cr_assert_null(layout);
    cr_assert_not_null(strstr(kvt_last_error(), word), "\"%s\" does not name %s", kvt_last_error(), word);
}

#define REFUSED(change, word)                                                                                          \
    do {                                                                                                               \
        kvt_group group = good_group();                                                                                \
        kvt_view *view = &group.views[0];                                                                              \
        (void)view;                                                                                                    \
        change;                                                                                                        \
        expect_refused(&group, word);                                                                                  \
    } while (0)

KVT_TEST(layout, a_wrong_descriptor_is_refused_by_the_name_of_its_field)
{
    REFUSED(group.layer_count = 0, "layer_count");
    REFUSED(group.page_tokens = 0, "page_tokens");
    REFUSED(group.page_tokens = 24, "page_tokens");
    REFUSED(group.view_count = 0, "view_count");
    REFUSED(group.view_count = KVT_VIEWS_MAX + 1, "view_count");
    REFUSED(group.reserved = 1, "reserved");
    REFUSED(group.bases = NULL, "bases");
    REFUSED(group.base_count = 3, "bases");
    REFUSED(view->plane_count = 0, "plane_count");
    REFUSED(view->plane_count = 3, "plane_count");
    REFUSED(view->head_count = 0, "head_count");
    REFUSED(view->head_bytes = 0, "head_bytes");
    REFUSED(view->element_bytes = 3, "element_bytes");
    REFUSED(view->element_bytes = 0, "element_bytes");
    REFUSED(view->head_bytes = 255, "element_bytes");
    REFUSED(view->base_layer = 2, "base_layer");
    REFUSED(view->base_plane = UINT32_MAX, "base_plane");
    REFUSED(group.bases = (void *const[4]){some_bases[0]}, "NULL");
}

KVT_TEST(layout, strides_that_overflow_or_leave_the_address_space_are_refused)
{
    REFUSED(view->page_stride = INT64_MAX, "overflow");
    REFUSED(view->page_stride = INT64_MIN, "overflow");
    REFUSED(view->offset = INT64_MAX, "overflow");
    REFUSED((view->page_stride = INT64_C(1) << 40, group.page_count = UINT32_MAX), "overflow");
    REFUSED(view->page_stride = -(INT64_C(1) << 36), "wrap");
    REFUSED(view->offset = -(INT64_C(1) << 33), "wrap");
    REFUSED((view->base_layer = 0, group.layer_count = UINT32_MAX), "2^31");
    REFUSED(view->head_count = UINT32_MAX, "2^31");
}

KVT_TEST(layout, elements_that_would_share_bytes_are_refused)
{
    REFUSED(view->page_stride = 0, "page_stride");
    REFUSED(view->page_stride = 16 * 8 * 256 - 1, "page_stride");
    REFUSED(view->plane_stride = 0, "plane_stride");
    REFUSED(view->plane_stride = 9 * 16 * 8 * 256, "plane_stride");
    REFUSED(view->head_stride = 255, "head_stride");
    REFUSED(view->token_stride = -2047, "token_stride");
    REFUSED(view->base_layer = 0, "layer_stride");
}

KVT_TEST(layout, counts_of_groups_and_chunks_are_bounded)
{
    kvt_layout *layout = NULL;
    kvt_group group = good_group();
    cr_assert_eq(kvt_layout_create(&group, 0, 256, &layout), KVT_INVALID);
    cr_assert_eq(kvt_layout_create(NULL, 1, 256, &layout), KVT_INVALID);
    cr_assert_eq(kvt_layout_create(&group, KVT_GROUPS_MAX + 1, 256, &layout), KVT_INVALID);
    cr_assert_eq(kvt_layout_create(&group, 1, 0, &layout), KVT_INVALID);
    cr_assert_eq(kvt_layout_create(&group, 1, KVT_CHUNK_TOKENS_MAX + 16, &layout), KVT_INVALID);
    cr_assert_null(layout);
    kvt_layout_destroy(NULL);
}

KVT_TEST(layout, a_failed_allocation_leaves_nothing_behind)
{
    kvt_group groups[2] = {good_group(), good_group()};
    for (uint64_t n = 1; n <= 3; n++) {
        kvt_layout *layout = NULL;
        kvt_alloc_fail_at(n);
        cr_assert_eq(kvt_layout_create(groups, 2, 256, &layout), KVT_NOMEM);
        kvt_alloc_fail_at(0);
        cr_assert_null(layout);
    }
}

KVT_TEST(layout, sizes_are_layers_by_views_by_planes_by_tokens)
{
    kvt_group groups[2] = {good_group(),
                           build("indexer-scales", (kvt_page_geometry){3, 64, 10, 1, 128, 1, 4, 0}).group};
    groups[1].page_count = 0; /* no pages: sizes only */
    kvt_layout *layout;
    cr_assert_eq(kvt_layout_create(groups, 2, 256, &layout), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_layout_group_bytes(layout, 0, 256), 4u * 2 * 256 * 2048);
    cr_assert_eq(kvt_layout_group_bytes(layout, 1, 10), 3u * 10 * 132);
    cr_assert_eq(kvt_layout_group_count(layout), 2);
    cr_assert_eq(kvt_layout_page_tokens(layout, 1), 64);
    cr_assert_eq(kvt_layout_page_count(layout, 1), 0);
    cr_assert_eq(kvt_layout_layer_count(layout, 1), 3);
    cr_assert_eq(kvt_layout_element_bytes(layout, 0), 2);
    kvt_layout_destroy(layout);

    uint64_t bytes = 0;
    kvt_group huge = good_group();
    huge.views[0].head_count = UINT32_MAX;
    huge.views[0].head_bytes = UINT32_MAX;
    cr_assert_not(kvt_group_blob_bytes(&huge, 2, &bytes));
    cr_assert(kvt_group_blob_bytes(&groups[0], 256, &bytes));
    cr_assert_eq(bytes, 4u * 2 * 256 * 2048);
}

/* ------------------------------------------------------------ named layouts */

/* Strides as the engines document their tensors; 4 layers, 10 pages of 16 tokens, 8 heads of 256 B: block 32768. */
KVT_TEST(layout, named_layouts_have_the_strides_of_the_engines)
{
    enum { H = 256, R = 8 * H, BLK = 16 * R, NB = 10, NL = 4 };
    static const struct {
        const char *name;
        int64_t page, plane, layer, token, head;
        uint32_t base_plane, base_layer, base_count;
    } rows[] = {
        {"vllm-flash-nhd", BLK, NB * BLK, 0, R, H, 0, 1, NL},
        {"vllm-flash-hnd", BLK, NB * BLK, 0, H, 16 * H, 0, 1, NL},
        {"flashinfer-nhd", 2 * BLK, BLK, 0, R, H, 0, 1, NL},
        {"flashinfer-hnd", 2 * BLK, BLK, 0, H, 16 * H, 0, 1, NL},
        {"cross-layer-nhd", NL * 2 * BLK, BLK, 2 * BLK, R, H, 0, 0, 1},
        {"tensorrt-llm", NL * 2 * BLK, BLK, 2 * BLK, H, 16 * H, 0, 0, 1},
        {"fused-nhd", 2 * BLK, H, 0, 2 * R, 2 * H, 0, 1, NL},
        {"fused-hnd", 2 * BLK, H, 0, 2 * H, 16 * 2 * H, 0, 1, NL},
        {"content-nhd", 2 * BLK, 2 * H, 0, 2 * R, 2 * H, 0, 1, NL},
        {"content-cross-hnd", NL * 2 * BLK, 2 * H, 0, 2 * H, 16 * 2 * H, 0, 1, NL},
        {"sglang-mha", BLK, 0, 0, R, H, NL, 1, 2 * NL},
        {"layer-kv-pairs", BLK, 0, 0, R, H, 1, 2, 2 * NL},
        {"sglang-page-first", 16 * NL * R, NB * 16 * NL * R, R, NL * R, H, 0, 0, 1},
        {"sglang-page-head", NL * BLK, NB * NL * BLK, H, NL * H, 16 * NL * H, 0, 0, 1},
        {"dynamo-universal", NL * 2 * BLK, 16 * H, 2 * 16 * H, H, NL * 2 * 16 * H, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kvt_group group = build(rows[i].name, (kvt_page_geometry){NL, 16, NB, 8, H, 2, 0, 0}).group;
        const kvt_view *view = &group.views[0];
        cr_assert_eq(view->page_stride, rows[i].page, "%s page", rows[i].name);
        if (view->plane_count == 2)
            cr_assert_eq(view->plane_stride, rows[i].plane, "%s plane", rows[i].name);
        cr_assert_eq(view->layer_stride, rows[i].layer, "%s layer", rows[i].name);
        cr_assert_eq(view->token_stride, rows[i].token, "%s token", rows[i].name);
        cr_assert_eq(view->head_stride, rows[i].head, "%s head", rows[i].name);
        cr_assert_eq(view->base_plane, rows[i].base_plane, "%s base_plane", rows[i].name);
        cr_assert_eq(view->base_layer, rows[i].base_layer, "%s base_layer", rows[i].name);
        cr_assert_eq(group.base_count, rows[i].base_count, "%s base_count", rows[i].name);
    }
}

KVT_TEST(layout, named_layouts_refuse_what_does_not_fit)
{
    kvt_named_pages pages;
    kvt_page_geometry good = {4, 16, 10, 8, 256, 2, 0, 0}, bad = good;
    const kvt_named_layout *flash = kvt_named_layout_by_name("vllm-flash-nhd");
    cr_assert_null(kvt_named_layout_by_name("no-such-layout"));
    bad.page_bytes = 16 * 8 * 256 - 1;
    cr_assert_eq(kvt_named_layout_build(flash, &bad, &pages), KVT_INVALID);
    bad = good, bad.scale_bytes = 4;
    cr_assert_eq(kvt_named_layout_build(flash, &bad, &pages), KVT_INVALID);
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("indexer-scales"), &good, &pages), KVT_INVALID);
    bad = (kvt_page_geometry){1, 64, 10, 1, 128, 1, 4, 64 * 132 - 1};
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("indexer-scales"), &bad, &pages), KVT_INVALID);
    bad = (kvt_page_geometry){UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 0, 0};
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("cross-layer-nhd"), &bad, &pages), KVT_INVALID);
    for (size_t field = 0; field < 5; field++) { /* layers, page_tokens, page_count, heads, head_bytes */
        bad = good;
        memset((uint8_t *)&bad + field * sizeof(uint32_t), 0, sizeof(uint32_t));
        cr_assert_eq(kvt_named_layout_build(flash, &bad, &pages), KVT_INVALID);
    }
    kvt_named_layout odd = {"odd", "L|BTXD", "", 2, 0};
    cr_assert_eq(kvt_named_layout_build(&odd, &good, &pages), KVT_INVALID);
    odd.order = "LBTHD";
    cr_assert_eq(kvt_named_layout_build(&odd, &good, &pages), KVT_INVALID);
}

/* ---------------------------------------------------------------- planning */

/* The first job of a full chunk of one layout; the layout lives as long as the job is looked at. */
static kvt_layout *first_job(const char *name, kvt_page_geometry geometry, kvt_job *job)
{
    static uint32_t ids[256];
    static void *pools[64], *bases[64];
    kvt_named_pages pages = build(name, geometry);
    cr_assert(pages.pool_count <= 64 && pages.group.base_count <= 64);
    for (uint32_t i = 0; i < pages.pool_count; i++)
        pools[i] = (void *)((uintptr_t)(i + 1) << 32 | (uintptr_t)(i * i) << 16); /* not evenly spaced */
    kvt_named_pages_place(&pages, pools, bases);
    kvt_layout *layout;
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 256, &layout), KVT_OK, "%s: %s", name, kvt_last_error());
    kvt_move move = {(uint8_t *)0x1000, ids, 0, 256, 0, 256, 0, geometry.layers};
    kvt_job_plan plan;
    kvt_job_plan_begin(&plan, layout, KVT_GATHER, &move, 1);
    cr_assert(kvt_job_plan_next(&plan, job));
    return layout;
}

KVT_TEST(layout, runs_fold_as_far_as_the_page_order_allows)
{
    enum { H = 256, R = 8 * H };
    static const struct {
        const char *name;
        uint32_t page_tokens;
        uint64_t run;
        uint32_t dims; /* with the page dimension */
    } rows[] = {
        {"vllm-flash-nhd", 16, 16 * R, 3},
        {"vllm-flash-hnd", 16, H, 5},
        {"flashinfer-nhd", 16, 16 * R, 3},
        {"cross-layer-nhd", 16, 16 * R, 3},
        {"tensorrt-llm", 16, H, 5},
        {"mla", 64, 64 * R, 2},
        {"fused-nhd", 16, H, 5},
        {"content-nhd", 16, 2 * 16 * R, 2},
        {"content-hnd", 16, 2 * H, 4},
        {"content-cross-nhd", 16, 2 * 16 * R, 2},
        {"sglang-mha", 1, R, 3},
        {"sglang-mha", 16, 16 * R, 3},
        {"vllm-flash-nhd", 256, 256 * R, 3},
        {"cross-layer-nhd", 256, UINT64_C(4) * 2 * 256 * R, 1},
        {"sglang-page-first", 16, R, 4},
        {"dynamo-universal", 16, H, 5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kvt_job job;
        kvt_layout *layout =
            first_job(rows[i].name, (kvt_page_geometry){4, rows[i].page_tokens, 20, 8, H, 2, 0, 0}, &job);
        cr_assert_eq(job.shape.run, rows[i].run, "%s: run %llu", rows[i].name, (unsigned long long)job.shape.run);
        cr_assert_eq(job.shape.dim_count, rows[i].dims, "%s: %u dimensions", rows[i].name, job.shape.dim_count);
        cr_assert_eq((uint64_t)job.shape.item_count * job.shape.run, kvt_layout_group_bytes(layout, 0, 256));
        cr_assert_eq(job.shape.access_bytes, 16, "%s", rows[i].name);
        kvt_layout_destroy(layout);
    }
}

KVT_TEST(layout, evenly_spaced_bases_become_a_stride)
{
    kvt_named_pages pages = build("content-cross-nhd", (kvt_page_geometry){4, 16, 10, 8, 256, 2, 0, 0});
    void *pool = (void *)0x100000000, *bases[4];
    kvt_named_pages_place(&pages, &pool, bases);
    kvt_layout *layout;
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 256, &layout), KVT_OK);
    cr_assert_eq(layout->groups[0].views[0].given.base_layer, 1);
    cr_assert_eq(layout->groups[0].views[0].folded.base_layer, 0);
    cr_assert_eq(layout->groups[0].views[0].folded.layer_stride, 2 * 16 * 8 * 256);
    kvt_layout_destroy(layout);
    bases[3] = (uint8_t *)bases[3] + (INT64_C(1) << 40);
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 256, &layout), KVT_OK);
    cr_assert_eq(layout->groups[0].views[0].folded.base_layer, 1, "one base is out of step");
    kvt_layout_destroy(layout);
}

KVT_TEST(layout, access_width_follows_from_every_address)
{
    kvt_job job;
    kvt_layout *layout = first_job("vllm-flash-nhd", (kvt_page_geometry){4, 16, 20, 3, 6, 2, 0, 0}, &job);
    cr_assert_eq(job.shape.access_bytes, 16, "pages of 288 B fold whole");
    kvt_layout_destroy(layout);
    layout = first_job("vllm-flash-hnd", (kvt_page_geometry){4, 16, 20, 3, 6, 2, 0, 0}, &job);
    cr_assert_eq(job.shape.access_bytes, 2);
    kvt_layout_destroy(layout);
    layout = first_job("mla", (kvt_page_geometry){4, 1, 300, 1, 1160, 2, 0, 0}, &job);
    cr_assert_eq(job.shape.access_bytes, 8);
    kvt_layout_destroy(layout);
}

KVT_TEST(layout, reciprocals_divide_exactly)
{
    uint64_t state = kvt_test_seed("reciprocals");
    for (uint32_t i = 0; i < 20000; i++) {
        kvt_job_dim dim = {.extent = i < 4096 ? i + 1 : (uint32_t)(kvt_test_random(&state) >> (33 + i % 31)) + 1};
        kvt_job_dim_prepare(&dim);
        uint64_t probes[16] = {0, 1, dim.extent - 1, dim.extent, dim.extent + 1, KVT_JOB_ITEMS_MAX - 1};
        for (uint32_t p = 6; p < 16; p++) { /* just below and at multiples, where a wrong magic shows */
            uint64_t multiple = (kvt_test_random(&state) % (KVT_JOB_ITEMS_MAX / dim.extent + 1)) * dim.extent;
            probes[p] = multiple - (p % 2 == 0 && multiple != 0);
        }
        for (uint32_t p = 0; p < 16; p++) {
            uint32_t n = (uint32_t)kvt_min_u64(probes[p], KVT_JOB_ITEMS_MAX - 1);
            cr_assert_eq(kvt_job_divide(&dim, n), n / dim.extent, "%u / %u", n, dim.extent);
        }
    }
}

KVT_TEST(layout, moves_of_one_shape_share_a_job)
{
    kvt_named_pages pages = build("mla", (kvt_page_geometry){1, 16, 20, 1, 64, 2, 0, 0});
    void *pool = (void *)0x100000000, *base;
    kvt_named_pages_place(&pages, &pool, &base);
    kvt_layout *layout;
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 32, &layout), KVT_OK);
    enum { COUNT = KVT_JOB_BLOBS_MAX + 5 };
    static const uint32_t ids[2];
    kvt_move moves[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        moves[i] = (kvt_move){(uint8_t *)0x1000, ids, 0, 32, 0, i == 2 ? 0 : 32, 0, 1}; /* number 2 moves nothing */
    kvt_job_plan plan;
    kvt_job job;
    uint32_t blobs[4] = {0}, jobs = 0;
    kvt_job_plan_begin(&plan, layout, KVT_SCATTER, moves, COUNT);
    while (kvt_job_plan_next(&plan, &job))
        blobs[jobs++] = job.blob_count;
    cr_assert_eq(jobs, 3);
    cr_assert_eq(blobs[0], 2);
    cr_assert_eq(blobs[1], KVT_JOB_BLOBS_MAX);
    cr_assert_eq(blobs[2], 2);
    kvt_layout_destroy(layout);
}

KVT_TEST(layout, a_job_that_would_have_too_many_slices_stays_whole)
{
    kvt_job job = {.shape = {.dim_count = 1, .item_count = 1u << 16, .layer_items = 1, .run = UINT64_C(1) << 32},
                   .blob_count = 1};
    job.shape.dims[0].extent = 1u << 16;
    kvt_job_shape before = job.shape;
    cr_assert_not(kvt_job_slice(&job, 4096));
    cr_assert_eq(memcmp(&before, &job.shape, sizeof before), 0);
    cr_assert(kvt_job_slice(&job, 1u << 30));
    cr_assert_eq(job.shape.item_count, 1u << 18);
}
