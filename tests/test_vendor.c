/* SPDX-License-Identifier: Apache-2.0
 *
 * The rungs below kernels of ours: a device with row operators and copies, and one with copies alone, through every
 * case of the list; which rung is taken by itself, and that each can be forced, by name and from the environment.
 */
#include "tests/cases_kernels.h"
#include "tests/support.h"
#include "tests/vendor_double.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES_BYTES = 4 << 20 };

typedef struct rig {
    kvt_backend *backend;
    void *pages;
} rig;

static void *take_pages(void *arg, uint64_t bytes) { return bytes <= PAGES_BYTES ? ((rig *)arg)->pages : NULL; }
static void keep(void *arg, void *memory) { (void)arg, (void)memory; }
static bool write_pages(void *arg, void *to, const void *from, uint64_t bytes)
{
    return kvt_backend_pages_copy(((rig *)arg)->backend, KVT_SCATTER, to, from, bytes) == KVT_OK;
}
static bool read_pages(void *arg, void *to, const void *from, uint64_t bytes)
{
    return kvt_backend_pages_copy(((rig *)arg)->backend, KVT_GATHER, to, from, bytes) == KVT_OK;
}

static kvt_status move(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                       size_t count)
{
    kvt_status status = kvt_case_move_backend(((rig *)arg)->backend, layout, direction, moves, count);
    const char *broken = vendor_double_complaint();
    return broken == NULL ? status : kvt_fail(KVT_DEVICE, "the device complains: %s", broken);
}

static kvt_backend *open_device(const kvt_backend_ops *ops, const char *name)
{
    const kvt_backend_ops *const table[] = {ops, &kvt_backend_cpu, &kvt_backend_portable};
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open_from(table, 3, name, NULL, &backend), KVT_OK, "%s: %s", name, kvt_last_error());
    return backend;
}

/* Every step-th case; what was called meanwhile. */
static vendor_double_counts run_cases(const kvt_backend_ops *ops, const char *name, uint32_t step)
{
    rig r = {.backend = open_device(ops, name)};
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    cr_assert_eq(kvt_backend_pages_alloc(r.backend, PAGES_BYTES, &r.pages), KVT_OK);
    const kvt_case_subject subject = {
        .memory = {take_pages, keep, write_pages, read_pages, NULL, NULL, &r}, .move = move, .arg = &r};
    vendor_double = (vendor_double_counts){0};
    uint32_t failed = 0;
    kvt_kernel_case c;
    for (uint32_t i = 0; kvt_kernel_case_at(i, &c); i += step) {
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        if (kvt_kernel_case_run(&c, &subject, why) == KVT_CASE_PASSED)
            continue;
        kvt_kernel_case_text(&c, text);
        if (failed++ < 5)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert_eq(failed, 0, "%s: %u fail", name, failed);
    cr_assert_eq(vendor_double.fences, 0);
    kvt_backend_pages_free(r.backend, r.pages, PAGES_BYTES);
    kvt_backend_close(r.backend);
    return vendor_double;
}

KVT_TEST(vendor, row_operators_and_copies_move_every_case)
{
    vendor_double_counts counts = run_cases(&vendor_double_rows, "auto", KVT_CASE_STEP);
    cr_assert_gt(counts.row_calls, 500);
    cr_assert_gt(counts.copies, 500);
    cr_assert_eq(counts.moves, 0);
}

KVT_TEST(vendor, copies_alone_move_every_case)
{
    vendor_double_counts counts = run_cases(&vendor_double_copies, "auto", KVT_CASE_STEP);
    cr_assert_gt(counts.copies, 1000);
    cr_assert_eq(counts.moves + counts.row_calls, 0);
}

KVT_TEST(vendor, kernels_come_first_and_each_rung_can_be_forced)
{
    enum { STEP = 97 };
    static const char *const kernels[] = {"auto", "npu", "npu:kernels", "auto:kernels"};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        vendor_double_counts counts = run_cases(&vendor_double_kernels, kernels[i], STEP);
        cr_assert(counts.moves > 0 && counts.row_calls + counts.copies == 0, "%s", kernels[i]);
    }
    vendor_double_counts counts = run_cases(&vendor_double_kernels, "npu:vendor", STEP);
    cr_assert(counts.moves == 0 && counts.row_calls > 0 && counts.copies > 0);
    counts = run_cases(&vendor_double_kernels, "auto:copies", STEP);
    cr_assert(counts.moves + counts.row_calls == 0 && counts.copies > 0);
    counts = run_cases(&vendor_double_rows, "npu:copies", STEP);
    cr_assert(counts.moves + counts.row_calls == 0 && counts.copies > 0);
}

/* A strip whose pages are one run each, dense in the blob, is one call of an operator; holes divide it. */
KVT_TEST(vendor, a_strip_is_one_call_and_a_hole_divides_it)
{
    rig r = {.backend = open_device(&vendor_double_rows, "npu")};
    kvt_named_pages pages;
    kvt_page_geometry geometry = {2, 4, 12, 1, 16, 2, 0, 0};
    kvt_layout *layout;
    void *bases[2];
    uint8_t blob[2 * 32 * 16];
    uint32_t ids[8] = {5, 1, 9, 3, 11, 0, 7, 2};
    cr_assert_eq(kvt_backend_pages_alloc(r.backend, PAGES_BYTES, &r.pages), KVT_OK);
    memset(r.pages, 7, PAGES_BYTES);
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("mla"), &geometry, &pages), KVT_OK);
    kvt_named_pages_place(&pages, (void *const[2]){r.pages, (uint8_t *)r.pages + pages.pool_bytes}, bases);
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 32, &layout), KVT_OK);
    const kvt_move all = {blob, ids, 0, 32, 0, 32, 0, 2};
    vendor_double = (vendor_double_counts){0};
    cr_assert_eq(move(&r, layout, KVT_GATHER, &all, 1), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(vendor_double.row_calls, 2, "one a layer");
    ids[3] = KVT_PAGE_NONE;
    cr_assert_eq(move(&r, layout, KVT_GATHER, &all, 1), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(vendor_double.row_calls, 2 + 2 * 2);
    cr_assert_eq(vendor_double.copies, 0);
    kvt_layout_destroy(layout);
    kvt_backend_pages_free(r.backend, r.pages, PAGES_BYTES);
    kvt_backend_close(r.backend);
}

static void expect_refused(const kvt_backend_ops *ops, const char *name, const char *word)
{
    const kvt_backend_ops *const table[] = {ops, &kvt_backend_portable};
    kvt_backend *backend = NULL;
    cr_expect_eq(kvt_backend_open_from(table, 2, name, NULL, &backend), KVT_UNSUPPORTED, "%s", name);
    cr_expect_null(backend);
    cr_expect_not_null(strstr(kvt_last_error(), word), "%s: \"%s\" does not say %s", name, kvt_last_error(), word);
}

KVT_TEST(vendor, a_rung_that_is_not_there_is_refused_by_name)
{
    expect_refused(&vendor_double_copies, "npu:kernels", "npu cannot move by kernels");
    expect_refused(&vendor_double_copies, "npu:vendor", "npu cannot move by vendor");
    expect_refused(&vendor_double_kernels, "npu:magic", "npu:magic");
    expect_refused(&vendor_double_kernels, "npu:", "behind the colon");
    expect_refused(&vendor_double_kernels, "npuu", "npuu is not built in");
    expect_refused(&vendor_double_kernels, "portable:copies", "portable cannot move by copies");
}

KVT_TEST(vendor, the_device_line_names_a_rung_below_kernels)
{
    kvt_backend_info info;
    kvt_backend *backend = open_device(&vendor_double_rows, "auto");
    kvt_backend_get_info(backend, &info);
    cr_assert_str_eq(info.name, "npu");
    cr_assert_not_null(strstr(info.device, ", by vendor"), "%s", info.device);
    kvt_backend_close(backend);
    cr_assert_eq(kvt_backend_open("cpu:copies", NULL, &backend), KVT_OK, "%s", kvt_last_error());
    kvt_backend_get_info(backend, &info);
    cr_assert_not_null(strstr(info.device, ", by copies"), "%s", info.device);
    kvt_backend_close(backend);
}

/* Keys turn in kernels only. */
KVT_TEST(vendor, keys_turn_on_no_rung_below_kernels)
{
    static const kvt_rope_shift shift = {0, 1};
    static float table[8];
    kvt_named_pages pages;
    kvt_page_geometry geometry = {1, 1, 4, 1, 16, 2, 0, 0};
    static uint8_t memory[64], blob[64];
    void *pools[1] = {memory}, *bases[1];
    uint32_t id = 2;
    kvt_layout *layout;
    kvt_backend *backend;
    kvt_fence fence = {NULL};
    cr_assert_eq(kvt_named_layout_build(kvt_named_layout_by_name("mla"), &geometry, &pages), KVT_OK);
    kvt_named_pages_place(&pages, pools, bases);
    cr_assert_eq(kvt_layout_create(&pages.group, 1, 1, &layout), KVT_OK);
    const kvt_rope rope = {.layer_count = 1,
                           .planes = 1,
                           .table_element = KVT_ROPE_FP32,
                           .window_bytes = 16,
                           .row_count = 2,
                           .row_stride = 16,
                           .cosines = table,
                           .sines = table};
    const kvt_rope_set set = {&rope, &shift, 1, 0};
    const kvt_move one = {blob, &id, 0, 1, 0, 1, 0, 1};
    cr_assert_eq(kvt_backend_open("cpu:copies", NULL, &backend), KVT_OK);
    cr_assert_eq(kvt_backend_scatter_rope(backend, layout, &one, 1, &set, NULL, &fence), KVT_UNSUPPORTED);
    kvt_backend_close(backend);
    kvt_layout_destroy(layout);
}

#ifdef KVT_COMMAND
static void run_kvtier(const char *environment, const char *word)
{
    char line[512], text[4096] = "";
    snprintf(line, sizeof line, "%s %s doctor 2>&1", environment, KVT_COMMAND);
    FILE *pipe = popen(line, "r");
    cr_assert_not_null(pipe);
    size_t got = fread(text, 1, sizeof text - 1, pipe);
    text[got] = '\0';
    pclose(pipe);
    cr_assert_not_null(strstr(text, word), "%s: %s", environment, text);
}

KVT_TEST(vendor, the_environment_forces_a_rung)
{
    run_kvtier("KVTIER_BACKEND=cpu:copies", "backend     good     cpu");
    run_kvtier("KVTIER_BACKEND=cpu:vendor", "cpu cannot move by vendor");
    run_kvtier("KVTIER_BACKEND=portable:copies", "portable cannot move by copies");
}
#endif
