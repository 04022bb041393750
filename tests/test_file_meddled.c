/* SPDX-License-Identifier: Apache-2.0
 *
 * A data file that is removed, cut, replaced or moved away beside a running store: what is written from then on could
 * not be found again, so it must not be acknowledged.
 */
#include "tests/file_stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static void put_file(const char *directory, const char *name, const void *bytes, size_t count)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, count), (ssize_t)count);
    close(fd);
}

typedef void (*meddle)(const file_stage *stage);

static void path_of(const file_stage *stage, const char *name, char path[600])
{
    snprintf(path, 600, "%s/%s", stage->options.path, name);
}

static void remove_data(const file_stage *stage)
{
    char path[600];
    path_of(stage, "data.0", path);
    cr_assert_eq(unlink(path), 0);
}

static void cut_data(const file_stage *stage)
{
    char path[600];
    path_of(stage, "data.0", path);
    cr_assert_eq(truncate(path, 1 << 20), 0);
}

static void replace_data(const file_stage *stage)
{
    char path[600], other[600];
    path_of(stage, "data.0", path);
    path_of(stage, "index.other", other);
    put_file(stage->options.path, "index.other", "hello", 5);
    cr_assert_eq(rename(other, path), 0);
}

static void move_data(const file_stage *stage)
{
    char path[600], other[600];
    path_of(stage, "data.0", path);
    path_of(stage, "index.other", other);
    cr_assert_eq(rename(path, other), 0);
}

static const meddle meddles[] = {remove_data, cut_data, replace_data, move_data};
enum { MEDDLES = sizeof meddles / sizeof meddles[0] };

static uint32_t state_of(file_stage *stage, uint64_t *errors)
{
    kvt_tier_stats stats;
    kvt_tier_get_stats(stage->tier, &stats);
    *errors = stats.errors;
    return stats.state;
}

/* No write is acknowledged that the next open could not find; what is known stays readable as far as it is there. */
KVT_TEST(file_meddled, writes_to_a_data_file_that_was_meddled_with_are_not_acknowledged)
{
    for (int i = 0; i < MEDDLES; i++) {
        file_stage stage;
        uint64_t errors;
        file_stage_init(&stage, false, 20 * MIB);
        cr_assert_eq(file_stage_open(&stage), KVT_OK, "%s", kvt_last_error());
        for (uint64_t n = 0; n < 30; n++)
            cr_assert_eq(file_stage_write(&stage, n, 100000), KVT_OK);
        meddles[i](&stage);
        for (uint64_t n = 30; n < 60; n++)
            cr_assert_neq(file_stage_write(&stage, n, 100000), KVT_OK, "%d: record %u", i, (unsigned)n);
        cr_assert_eq(state_of(&stage, &errors), 1, "writes off");
        cr_assert_eq(errors, 1, "told once");
        cr_assert_not_null(strstr(stage.last_log, "data.0 was"), "%s", stage.last_log);
        for (uint64_t n = 0; n < 30; n++)
            cr_assert(file_stage_read(&stage, n, 100000) == KVT_OK || i == 1);
        file_stage_fini(&stage);
    }
}

/* Nobody writes: it is noticed all the same. */
KVT_TEST(file_meddled, a_meddled_data_file_is_noticed_within_seconds)
{
    file_stage stages[MEDDLES];
    uint64_t errors, start_ns = kvt_now_ns();
    for (int i = 0; i < MEDDLES; i++) {
        file_stage_init(&stages[i], false, 20 * MIB);
        cr_assert_eq(file_stage_open(&stages[i]), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(state_of(&stages[i], &errors), 0);
        meddles[i](&stages[i]);
    }
    for (int i = 0; i < MEDDLES; i++) {
        while (state_of(&stages[i], &errors) == 0 && kvt_now_ns() - start_ns < UINT64_C(20000000000))
            usleep(20000);
        cr_assert(state_of(&stages[i], &errors) == 1 && errors == 1, "%d", i);
        file_stage_fini(&stages[i]);
    }
}
