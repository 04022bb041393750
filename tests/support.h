/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests share: a test wrapper that looks for leaks, scratch folders, patterns, seeds.
 */
#ifndef KVT_TEST_SUPPORT_H
#define KVT_TEST_SUPPORT_H

#include "engine/base/base.h"

#include <criterion/criterion.h>

/* KVT_TEST(suite, name_as_a_sentence) { ... }: the body runs as a function, then the library's live bytes must be what
 * they were. A leak seen in a Criterion teardown would not fail the test, hence the check inside its body. */
#define KVT_TEST(suite, name)                                                                                          \
    static void suite##_##name##_body(void);                                                                           \
    Test(suite, name, .timeout = 60)                                                                                   \
    {                                                                                                                  \
        uint64_t live_before = kvt_live_bytes();                                                                       \
        suite##_##name##_body();                                                                                       \
        kvt_test_check_leaks(live_before);                                                                             \
    }                                                                                                                  \
    static void suite##_##name##_body(void)

void kvt_test_check_leaks(uint64_t live_before);

/* A fresh folder (0700) below $TMPDIR or /var/tmp, which is usually a real file system; removed by kvt_test_rmtree. The
 * text is owned by the caller (kvt_free). */
char *kvt_test_tmpdir(void);
void kvt_test_rmtree(const char *path);

/* A seed for random tests: $KVT_TEST_SEED, else fresh; printed, so that a failure can be replayed. */
uint64_t kvt_test_seed(const char *test);

/* splitmix64: state -> next value. */
uint64_t kvt_test_random(uint64_t *state);

/* Bytes that depend on seed and position only. */
void kvt_test_fill(void *memory, size_t bytes, uint64_t seed);

#endif
