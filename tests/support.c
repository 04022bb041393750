/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
#endif

void kvt_test_check_leaks(uint64_t live_before)
{
    cr_assert_eq(kvt_live_bytes(), live_before, "the library holds %" PRIu64 " bytes more than before the test",
                 kvt_live_bytes() - live_before);
#if defined(__SANITIZE_ADDRESS__)
    cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "the leak checker found something");
#endif
}

char *kvt_test_tmpdir(void)
{
    const char *base = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/kvtier-test-XXXXXX", base != NULL && base[0] != '\0' ? base : "/var/tmp");
    cr_assert_not_null(mkdtemp(path), "no scratch folder can be made: %s", path);
    return kvt_strdup(path);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

void kvt_test_rmtree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

uint64_t kvt_test_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t kvt_test_seed(const char *test)
{
    const char *given = getenv("KVT_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 0;
    if (given == NULL) {
        uint64_t state = kvt_now_ns() ^ (uint64_t)getpid() << 32;
        seed = kvt_test_random(&state);
    }
    fprintf(stderr, "%s: KVT_TEST_SEED=%" PRIu64 "\n", test, seed);
    return seed;
}

void kvt_test_fill(void *memory, size_t bytes, uint64_t seed)
{
    uint8_t *to = memory;
    while (bytes != 0) {
        uint64_t word = kvt_test_random(&seed);
        size_t n = bytes < sizeof word ? bytes : sizeof word;
        memcpy(to, &word, n);
        to += n;
        bytes -= n;
    }
}
