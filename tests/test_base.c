/* SPDX-License-Identifier: Apache-2.0
 *
 * The leaf: texts, keys, checked sums, heap accounting, pages.
 */
#include "tests/support.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

KVT_TEST(base, every_status_has_a_name_and_a_text)
{
    cr_assert_str_eq(kvt_status_name(KVT_OK), "OK");
    cr_assert_str_eq(kvt_status_name(KVT_CORRUPT), "CORRUPT");
    cr_assert_str_eq(kvt_status_text(KVT_MISS), "not cached");
    cr_assert_str_eq(kvt_status_name((kvt_status)1234), "UNKNOWN");
}

KVT_TEST(base, last_error_keeps_what_the_call_said)
{
    cr_assert_eq(kvt_fail(KVT_INVALID, "page id %u is out of range", 7u), KVT_INVALID);
    cr_assert_str_eq(kvt_last_error(), "page id 7 is out of range");
    kvt_fail_clear();
    cr_assert_str_eq(kvt_last_error(), "");
}

KVT_TEST(base, errno_values_become_statuses)
{
    cr_assert_eq(kvt_status_of_errno(ENOMEM), KVT_NOMEM);
    cr_assert_eq(kvt_status_of_errno(ENOSPC), KVT_NOSPACE);
    cr_assert_eq(kvt_status_of_errno(EIO), KVT_IO);
    cr_assert_eq(kvt_status_of_errno(0), KVT_OK);
}

KVT_TEST(base, keys_survive_text_and_bad_text_is_refused)
{
    kvt_key key, back;
    kvt_test_fill(&key, sizeof key, 1);
    char text[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(&key, text);
    cr_assert(kvt_key_from_text(text, &back));
    cr_assert(kvt_key_equal(&key, &back));
    text[31] = 'x';
    cr_assert_not(kvt_key_from_text(text, &back));
    cr_assert_not(kvt_key_from_text("00", &back));
    cr_assert_not(kvt_key_from_text("000102030405060708090a0b0c0d0e0f0", &back));
}

KVT_TEST(base, sums_that_overflow_are_noticed)
{
    uint64_t out = 5;
    cr_assert_not(kvt_add_u64(UINT64_MAX, 1, &out));
    cr_assert_not(kvt_mul_u64(UINT64_MAX / 2, 3, &out));
    cr_assert(kvt_add_u64(2, 3, &out));
    cr_assert_eq(out, 5);
}

KVT_TEST(base, little_endian_access_is_unaligned_and_exact)
{
    uint8_t bytes[12] = {0};
    kvt_store_le64(bytes + 1, UINT64_C(0x0102030405060708));
    cr_assert_eq(bytes[1], 8);
    cr_assert_eq(bytes[8], 1);
    cr_assert_eq(kvt_load_le64(bytes + 1), UINT64_C(0x0102030405060708));
    cr_assert_eq(kvt_load_le32(bytes + 1), 0x05060708u);
}

KVT_TEST(base, the_heap_counts_live_bytes_and_fails_on_request)
{
    uint64_t before = kvt_live_bytes();
    void *a = kvt_alloc(100);
    void *b = kvt_alloc_aligned(4096, 5000);
    cr_assert_eq(kvt_live_bytes(), before + 5100);
    cr_assert_eq((uintptr_t)b % 4096, 0);
    kvt_alloc_fail_at(2);
    void *c = kvt_alloc(8);
    cr_assert_not_null(c);
    cr_assert_null(kvt_alloc(8));
    void *d = kvt_alloc(8);
    cr_assert_not_null(d, "only the n-th allocation fails");
    kvt_free(a), kvt_free(b), kvt_free(c), kvt_free(d);
    cr_assert_null(kvt_alloc_array(SIZE_MAX / 2, 3));
    cr_assert_null(kvt_alloc(0));
}

/* A tree of /proc and /sys as a host would have it. */
static void put_file(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file, "%s", path);
    fputs(text, file);
    fclose(file);
}

KVT_TEST(base, free_memory_is_what_host_and_groups_leave)
{
    char *root = kvt_test_tmpdir();
    cr_assert_eq(kvt_memory_room(root), UINT64_MAX, "nobody says");
    put_file(root, "/proc/meminfo", "MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    8000 kB\n");
    cr_assert_eq(kvt_memory_room(root), 8000 * 1024);
    put_file(root, "/proc/self/cgroup", "0::/a/b\n");
    put_file(root, "/sys/fs/cgroup/a/b/memory.max", "max\n");
    put_file(root, "/sys/fs/cgroup/a/b/memory.current", "5\n");
    cr_assert_eq(kvt_memory_room(root), 8000 * 1024, "no limit in there");
    put_file(root, "/sys/fs/cgroup/a/memory.max", "4000000\n");
    put_file(root, "/sys/fs/cgroup/a/memory.current", "3000000\n");
    put_file(root, "/sys/fs/cgroup/a/memory.stat", "anon 1\nfile 500000\n");
    cr_assert_eq(kvt_memory_room(root), 1500000, "the group around it has one");
    put_file(root, "/sys/fs/cgroup/a/memory.current", "9000000\n");
    cr_assert_eq(kvt_memory_room(root), 0, "over the limit");
    put_file(root, "/proc/self/cgroup", "3:cpu:/x\n4:memory:/x\n0::/\n");
    put_file(root, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "700000\n");
    put_file(root, "/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "200000\n");
    cr_assert_eq(kvt_memory_room(root), 500000, "version 1");
    cr_assert_gt(kvt_memory_room(""), 0);
    kvt_test_rmtree(root);
    kvt_free(root);
}

KVT_TEST(base, pages_are_aligned_touched_and_zero)
{
    kvt_page_kind kind;
    uint64_t bytes = 6 << 20;
    uint8_t *pages = kvt_pages_map(bytes, &kind);
    cr_assert_not_null(pages);
    cr_assert_eq((uintptr_t)pages % KVT_HUGE_PAGE_BYTES, 0);
    kvt_pages_touch(pages, bytes, 3);
    cr_assert_eq(pages[0] | pages[bytes - 1], 0);
    (void)kvt_pages_kind_of(pages, bytes, kind);
    kvt_pages_unmap(pages, bytes);
    cr_assert_null(kvt_pages_map(UINT64_MAX, &kind));
}

KVT_TEST(base, a_hidden_instruction_set_is_not_reported)
{
    kvt_cpu_mask(~0u);
    cr_assert_eq(kvt_cpu_features(), 0);
    kvt_cpu_mask(0);
}
