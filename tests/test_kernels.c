/* SPDX-License-Identifier: Apache-2.0
 *
 * Backends: every case of the list, byte for byte, guards included; planted mistakes must be noticed; arguments are
 * refused before a byte moves; a device that can only copy, or only move rows, still serves.
 */
#include "tests/cases_kernels.h"
#include "tests/support.h"

#include "kernels/backend.h"
#include "kernels/cpu_copy.h"
#include "kernels/layout_int.h"

#include <malloc.h>
#include <stdio.h>

/* Run all cases; the first few failures are shown. */
static void run_all(const kvt_case_subject *subject, const char *name)
{
    uint32_t failed = 0, count = kvt_kernel_case_count();
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* the runner's buffers stay mapped from case to case */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    for (uint32_t i = 0; i < count; i++) {
        kvt_kernel_case c;
        char text[KVT_CASE_TEXT_BYTES], why[KVT_CASE_TEXT_BYTES];
        cr_assert(kvt_kernel_case_at(i, &c));
        if (kvt_kernel_case_run(&c, subject, why) == KVT_CASE_PASSED)
            continue;
        kvt_kernel_case_text(&c, text);
        if (failed++ < 5)
            fprintf(stderr, "%s: %s\n  %s\n", name, text, why);
    }
    cr_assert_eq(failed, 0, "%s: %u of %u cases fail", name, failed, count);
}

static void run_backend(const char *name)
{
    kvt_backend *backend = NULL;
    cr_assert_eq(kvt_backend_open(name, NULL, &backend), KVT_OK, "%s", kvt_last_error());
    run_all(&(kvt_case_subject){.move = kvt_case_move_backend, .arg = backend}, name);
    kvt_backend_close(backend);
}

KVT_TEST(kernels, the_portable_backend_moves_every_case_exactly) { run_backend("portable"); }

static kvt_status move_with_table(void *arg, const kvt_layout *layout, kvt_direction direction, const kvt_move *moves,
                                  size_t count)
{
    KVT_TRY(kvt_moves_check(layout, moves, count));
    kvt_cpu_move(arg, layout, direction, moves, count);
    return KVT_OK;
}

/* Cases are small, and the backend streams only large calls: here every case meets the inner loops of each set. */
KVT_TEST(kernels, every_instruction_set_moves_every_case_exactly)
{
    static const uint32_t hidden[] = {0, KVT_CPU_AVX512, KVT_CPU_AVX512 | KVT_CPU_AVX2};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        kvt_cpu_mask(hidden[i]);
        const kvt_cpu_copy *copy = kvt_cpu_copy_pick();
        run_all(&(kvt_case_subject){.move = move_with_table, .arg = (void *)(uintptr_t)copy}, copy->name);
    }
    kvt_cpu_mask(0);
}

KVT_TEST(kernels, the_cpu_backend_moves_every_case_exactly) { run_backend("cpu"); }
