/* SPDX-License-Identifier: Apache-2.0
 *
 * One conformance suite over every tier: each check below runs as a test of its own for host, file, rocks and the
 * double. A check asks only for what the tier's capabilities promise. A tier that is not built in is skipped, and says
 * so.
 */
#include "tests/tier_double.h"
#include "tests/tier_rig.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t caps(const rig *r) { return r->tier->ops->caps; }
static bool has(const rig *r, uint32_t cap) { return (caps(r) & cap) != 0; }

#define CONFORMS_ONE(subject, check)                                                                                   \
    KVT_TEST(tier_##subject, check) { check(&rig_##subject); }
#define CONFORMS(check)                                                                                                \
    CONFORMS_ONE(host, check)                                                                                          \
    CONFORMS_ONE(file, check)                                                                                          \
    CONFORMS_ONE(rocks, check)                                                                                         \
    CONFORMS_ONE(double, check)

/* The rig is large: one per test process. */
static rig the_rig;

#define RIG_OR_SKIP(r, subject, bytes_max, blob_max)                                                                   \
    rig *r = &the_rig;                                                                                                 \
    if (!rig_init(r, subject, bytes_max, blob_max))                                                                    \
    return

/* ---- round trips ---- */

static const uint64_t sizes[] = {1,     2,     63,     64,      4095,   4096,          4097,          8192,
                                 12345, 65536, 100001, 1 << 20, 999999, (1 << 20) + 1, (3 << 20) - 7, 5 << 20};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void every_size_comes_back(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 5 << 20);
    for (uint32_t i = 0; i < SIZES; i++) {
        cr_assert_eq(rig_put(r, i, sizes[i]), KVT_OK, "%s: put of %lu bytes", subject->name, sizes[i]);
        cr_assert_eq(rig_get(r, i), KVT_OK, "%s: %lu bytes", subject->name, sizes[i]);
    }
    cr_assert_eq(kvt_tier_flush(r->tier), KVT_OK);
    for (uint32_t i = 0; i < SIZES; i++)
        cr_assert_eq(rig_get(r, i), KVT_OK, "%s: %lu bytes after a flush", subject->name, sizes[i]);
    cr_assert_eq(r->told_stored, SIZES);
    cr_assert_eq(r->told_evicted, 0);
    rig_fini(r);
}
CONFORMS(every_size_comes_back)

static void the_largest_payload_comes_back(const rig_subject *subject)
{
    enum { LARGEST = 72 << 20 };
    RIG_OR_SKIP(r, subject, UINT64_C(2) << 30, LARGEST);
    kvt_record *record;
    rig_op *w = rig_write_new(r, 1, LARGEST);
    record = &w->op.record;
    record->raw_bytes = KVT_BLOB_BYTES_MAX;
    r->records[1] = *record;
    rig_submit(w);
    rig_wait(w);
    cr_assert_eq(w->op.status, KVT_OK, "%s", subject->name);
    rig_free(w);
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    rig_fini(r);
}
CONFORMS(the_largest_payload_comes_back)

static void only_the_image_is_written(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    uint8_t *guard = kvt_pool_take(r->pool, 4096);
    cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
    rig_op *o = rig_read_new(r, 1);
    uint8_t *behind = kvt_pool_take(r->pool, 4096);
    memset(guard, 0x5a, 4096);
    memset(behind, 0x5a, 4096);
    kvt_record before = o->op.record;
    rig_submit(o);
    rig_wait(o);
    cr_assert_eq(o->op.status, KVT_OK);
    cr_assert_eq(memcmp(&before, &o->op.record, sizeof before), 0, "the record of a read is only read");
    for (int i = 0; i < 4096; i++)
        cr_assert(guard[i] == 0x5a && behind[i] == 0x5a);
    rig_free(o);
    kvt_pool_give(r->pool, guard);
    kvt_pool_give(r->pool, behind);
    rig_fini(r);
}
CONFORMS(only_the_image_is_written)

static void another_record_at_the_place_is_a_miss(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
    cr_assert_eq(rig_put(r, 2, 5000), KVT_OK);
    for (int field = 0; field < 4; field++) {
        rig_op *o = rig_read_new(r, 1);
        if (field == 0)
            o->op.record.key.bytes[9] ^= 1;
        else if (field == 1)
            o->op.record.space.bytes[3] ^= 1;
        else if (field == 2)
            o->op.place.generation += 1000;
        else
            o->op.place.where += UINT64_C(1) << 40;
        rig_submit(o);
        rig_wait(o);
        cr_assert_eq(o->op.status, KVT_MISS, "%s: case %d gave %s", subject->name, field,
                     kvt_status_name(o->op.status));
        rig_free(o);
    }
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    rig_fini(r);
}
CONFORMS(another_record_at_the_place_is_a_miss)

/* ---- submission ---- */

static void misuse_is_invalid_and_done_once(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    cr_assert_eq(rig_put(r, 0, 5000), KVT_OK);
    uint64_t told = r->told_stored;
    for (int bad = 0; bad < 9; bad++) {
        rig_op *o = bad < 7 ? rig_write_new(r, 1, 8192) : rig_read_new(r, 0);
        uint8_t *image = o->op.image;
        switch (bad) {
        case 0:
            o->op.image = NULL;
            break;
        case 1:
            o->op.image = image + 512;
            break;
        case 2:
            o->op.record.stored_bytes = 0;
            break;
        case 3:
            o->op.record.stored_bytes = KVT_PAYLOAD_BYTES_MAX + 1;
            break;
        case 4:
            o->op.verb = (kvt_tier_verb)9;
            break;
        case 5:
            o->op.digest_count = 2;
            break;
        case 6:
            o->op.record.raw_bytes = KVT_BLOB_BYTES_MAX + 1;
            break;
        case 7:
            o->op.place = (kvt_place){0, 0};
            break;
        default:
            o->op.record.stored_bytes = UINT64_MAX;
            break;
        }
        rig_submit(o);
        cr_assert_eq(o->done_count, 1, "case %d is not done at once", bad);
        cr_assert_eq(o->op.status, KVT_INVALID, "case %d", bad);
        o->op.image = image;
        rig_free(o);
    }
    kvt_tier_op mute = {.verb = KVT_TIER_READ};
    kvt_tier_submit(r->tier, &mute);
    cr_assert_eq(mute.status, KVT_INVALID);
    cr_assert_eq(r->told_stored, told);
    cr_assert_eq(rig_get(r, 0), KVT_OK);
    rig_fini(r);
}
CONFORMS(misuse_is_invalid_and_done_once)

static void a_batch_is_done_once_each(const rig_subject *subject)
{
    enum { COUNT = 40 };
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    rig_op *ops[COUNT];
    for (int verb = 0; verb < 2; verb++) {
        for (uint32_t i = 0; i < COUNT; i++)
            ops[i] = verb == 0 ? rig_write_new(r, i, 1000 + 3000 * i) : rig_read_new(r, i);
        for (uint32_t i = 0; i < COUNT; i++) {
            ops[i]->op.priority = i % 3 == 0;
            ops[i]->op.next = i + 1 < COUNT ? &ops[i + 1]->op : NULL;
        }
        kvt_tier_submit(r->tier, &ops[0]->op);
        for (uint32_t i = 0; i < COUNT; i++) {
            rig_wait(ops[i]);
            cr_assert_eq(ops[i]->op.status, KVT_OK);
            if (verb == 1)
                cr_assert(rig_payload_is(ops[i], i));
            rig_free(ops[i]);
        }
    }
    kvt_tier_stats stats;
    kvt_tier_get_stats(r->tier, &stats);
    cr_assert_str_eq(stats.name, r->tier->ops->name);
    cr_assert_eq(stats.present, 1);
    cr_assert_eq(stats.state, 0);
    cr_assert_eq(stats.record_count, COUNT);
    cr_assert_eq(stats.record_bytes, COUNT * 1000 + 3000 * COUNT * (COUNT - 1) / 2);
    cr_assert_geq(stats.written_bytes, stats.record_bytes);
    cr_assert_geq(stats.read_bytes, stats.record_bytes);
    cr_assert_leq(stats.used_bytes, stats.capacity_bytes);
    rig_fini(r);
}
CONFORMS(a_batch_is_done_once_each)

enum { CHAIN = 300 };
static rig_op *chain[CHAIN];

static void submit_next(rig_op *o)
{
    rig_op *next = o->arg;
    if (next != NULL)
        rig_submit(next);
}

static void done_may_submit(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    for (uint32_t i = 0; i < CHAIN; i++) {
        chain[i] = rig_write_new(r, i, 100 + i);
        chain[i]->after = submit_next;
    }
    for (uint32_t i = 0; i + 1 < CHAIN; i++)
        chain[i]->arg = chain[i + 1];
    rig_submit(chain[0]);
    for (uint32_t i = 0; i < CHAIN; i++) {
        rig_wait(chain[i]);
        cr_assert_eq(chain[i]->op.status, KVT_OK);
        rig_free(chain[i]);
    }
    cr_assert_eq(rig_get(r, CHAIN - 1), KVT_OK);
    rig_fini(r);
}
CONFORMS(done_may_submit)

static void close_completes_what_is_under_way(const rig_subject *subject)
{
    enum { COUNT = 60 };
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    rig_op *ops[2 * COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert_eq(rig_put(r, i, 50000), KVT_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        ops[2 * i] = rig_write_new(r, COUNT + i, 50000);
        ops[2 * i + 1] = rig_read_new(r, i);
    }
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        rig_submit(ops[i]);
    rig_close(r);
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        cr_assert_eq(ops[i]->done_count, 1, "%s: operation %u", subject->name, i);
        cr_assert_eq(ops[i]->op.status, KVT_OK);
        rig_free(ops[i]);
    }
    rig_fini(r);
}
CONFORMS(close_completes_what_is_under_way)

/* ---- forgetting ---- */

static void a_dropped_record_is_not_evicted_later(const rig_subject *subject)
{
    enum { COUNT = 400, BYTES = 60000 };
    RIG_OR_SKIP(r, subject, 24 << 20, 1 << 16);
    for (uint32_t i = 0; i < 40; i++)
        cr_assert_eq(rig_put(r, i, BYTES), KVT_OK);
    kvt_tier_stats before, after;
    kvt_tier_get_stats(r->tier, &before);
    for (uint32_t i = 0; i < 40; i += 2)
        rig_drop(r, i);
    kvt_tier_get_stats(r->tier, &after);
    cr_assert_eq(after.record_count, before.record_count - 20);
    cr_assert_eq(after.record_bytes, before.record_bytes - 20 * BYTES);
    rig_drop(r, 0);
    kvt_tier_get_stats(r->tier, &after);
    cr_assert_eq(after.record_count, before.record_count - 20, "dropping twice counts once");
    for (uint32_t i = 1; i < 40; i += 2)
        cr_assert_eq(rig_get(r, i), KVT_OK);
    for (uint32_t i = 0; i < 40; i += 2)
        cr_assert_neq(rig_get(r, i), KVT_CORRUPT);
    for (uint32_t i = 40; i < COUNT; i++)
        (void)rig_put(r, i, BYTES);
    for (uint32_t i = 0; i < 40; i += 2)
        cr_assert_eq(rig_state_of(r, i), RIG_DROPPED);
    rig_fini(r); /* also: on_evict was told of held records only */
}
CONFORMS(a_dropped_record_is_not_evicted_later)

enum { FLOOD_COUNT = 1200, FLOOD_BYTES = 60000, FLOOD_STORE_BYTES = 24 << 20 };

/* A record that was held before a read and still is after it must have been read right. */
static void read_any(rig *r, uint32_t id)
{
    bool held = rig_state_of(r, id) == RIG_HELD;
    kvt_status status = rig_get(r, id);
    if (held && rig_state_of(r, id) == RIG_HELD)
        cr_assert_eq(status, KVT_OK, "%s: record %u: %s", r->subject->name, id, kvt_status_name(status));
    cr_assert_neq(status, KVT_CORRUPT);
}

/* Write three times what fits; returns the most bytes seen on disk. */
static uint64_t flood(rig *r, uint64_t *random_reads)
{
    uint64_t peak = 0;
    for (uint32_t i = 0; i < FLOOD_COUNT; i++) {
        kvt_status status = rig_put(r, i, FLOOD_BYTES);
        if (has(r, KVT_TIER_EVICTS_ITSELF))
            cr_assert_eq(status, KVT_OK, "%s: record %u: %s", r->subject->name, i, kvt_status_name(status));
        else
            cr_assert(status == KVT_OK || status == KVT_NOSPACE);
        if (status == KVT_OK && random_reads != NULL)
            read_any(r, (uint32_t)(kvt_test_random(random_reads) % (i + 1)));
        if (i % 20 == 0)
            peak = kvt_max_u64(peak, rig_disk_bytes(r));
    }
    kvt_tier_stats stats;
    kvt_tier_get_stats(r->tier, &stats);
    cr_assert_leq(stats.used_bytes, r->options.bytes_max);
    cr_assert_geq(stats.record_bytes, r->options.bytes_max / 3, "%s keeps %lu bytes", r->subject->name,
                  stats.record_bytes);
    cr_assert_eq(stats.evicted_records, r->told_evicted);
    rig_close(r);
    peak = kvt_max_u64(peak, rig_disk_bytes(r));
    fprintf(stderr, "%s: at most %lu of %lu KiB on disk, %lu records kept\n", r->subject->name, peak >> 10,
            r->options.bytes_max >> 10, stats.record_count);
    return peak;
}

static void a_full_tier_makes_room_oldest_first(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, FLOOD_STORE_BYTES, 1 << 16);
    bool evicts = has(r, KVT_TIER_EVICTS_ITSELF), seen_held = false;
    cr_assert_leq(flood(r, NULL), FLOOD_STORE_BYTES);
    for (uint32_t i = 0; i < FLOOD_COUNT && evicts; i++) {
        seen_held = seen_held || r->states[i] == RIG_HELD;
        cr_assert_eq(r->states[i] == RIG_HELD, seen_held, "%s: record %u left before an older one", subject->name, i);
    }
    rig_fini(r);
}
CONFORMS(a_full_tier_makes_room_oldest_first)

static void what_is_not_evicted_stays_right(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, FLOOD_STORE_BYTES, 1 << 16);
    uint64_t state = kvt_test_seed(subject->name);
    cr_assert_leq(flood(r, &state), FLOOD_STORE_BYTES);
    rig_fini(r);
}
CONFORMS(what_is_not_evicted_stays_right)

static void pinned_records_stay(const rig_subject *subject)
{
    enum { COUNT = 900, PINNED = 10, BYTES = 60000 };
    RIG_OR_SKIP(r, subject, 24 << 20, 1 << 16);
    for (uint32_t i = 0; i < COUNT; i++) {
        r->pinned[i] = i < PINNED;
        kvt_status status = rig_put(r, i, BYTES);
        cr_assert(status == KVT_OK || status == KVT_REJECTED || status == KVT_NOSPACE);
    }
    for (uint32_t i = 0; i < PINNED; i++) {
        cr_assert_eq(rig_state_of(r, i), RIG_HELD);
        cr_assert_eq(rig_get(r, i), KVT_OK);
    }
    if (has(r, KVT_TIER_EVICTS_ITSELF))
        cr_assert_gt(r->told_evicted, 0, "the others made room");
    rig_fini(r);
}
CONFORMS(pinned_records_stay)

static void a_tier_full_of_pinned_records_refuses_and_recovers(const rig_subject *subject)
{
    enum { COUNT = 700, BYTES = 60000 };
    RIG_OR_SKIP(r, subject, 24 << 20, 1 << 16);
    if (!has(r, KVT_TIER_EVICTS_ITSELF)) {
        rig_fini(r);
        return;
    }
    r->pin_all = true;
    uint32_t stored = 0, refused = 0;
    for (uint32_t i = 0; i < COUNT && refused < 5; i++) {
        kvt_status status = rig_put(r, i, BYTES);
        stored += status == KVT_OK;
        refused += status == KVT_REJECTED;
        cr_assert(status == KVT_OK || status == KVT_REJECTED, "%s", kvt_status_name(status));
    }
    cr_assert_eq(refused, 5);
    cr_assert_eq(r->told_evicted, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (r->states[i] == RIG_HELD)
            cr_assert_eq(rig_get(r, i), KVT_OK);
    }
    pthread_mutex_lock(&r->lock);
    r->pin_all = false;
    pthread_mutex_unlock(&r->lock);
    cr_assert_eq(rig_put(r, COUNT, BYTES), KVT_OK);
    rig_fini(r);
}
CONFORMS(a_tier_full_of_pinned_records_refuses_and_recovers)

static void a_payload_that_cannot_fit_has_no_space(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 20 << 20, 1 << 16);
    rig_op *o = rig_write_new(r, 1, 21 << 20);
    rig_submit(o);
    rig_wait(o);
    cr_assert_eq(o->op.status, KVT_NOSPACE, "%s: %s", subject->name, kvt_status_name(o->op.status));
    rig_free(o);
    cr_assert_eq(rig_put(r, 2, 5000), KVT_OK);
    rig_fini(r);
}
CONFORMS(a_payload_that_cannot_fit_has_no_space)

static void touching_is_harmless(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    for (uint32_t i = 0; i < 8; i++)
        cr_assert_eq(rig_put(r, i, 5000), KVT_OK);
    kvt_place places[10];
    for (uint32_t i = 0; i < 8; i++)
        places[i] = r->places[7 - i];
    places[8] = (kvt_place){UINT64_MAX, UINT64_MAX};
    places[9] = (kvt_place){0, 0};
    kvt_tier_touch(r->tier, places, 10);
    kvt_tier_touch(r->tier, NULL, 0);
    kvt_tier_drop(r->tier, &places[8], 2);
    kvt_tier_drop(r->tier, NULL, 0);
    for (uint32_t i = 0; i < 8; i++)
        cr_assert_eq(rig_get(r, i), KVT_OK);
    rig_fini(r);
}
CONFORMS(touching_is_harmless)

/* ---- restarts ---- */

static void fill_some(rig *r, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(rig_put(r, i, 1 + i * 4001), KVT_OK);
}

static void a_clean_close_keeps_every_record_in_order(const rig_subject *subject)
{
    enum { COUNT = 60 };
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    bool persists = has(r, KVT_TIER_PERSISTS);
    fill_some(r, COUNT);
    for (int round = 0; round < 2; round++) {
        rig_close(r);
        cr_assert_eq(rig_open(r), KVT_OK, "%s", kvt_last_error());
        cr_assert_eq(r->recovered, persists ? COUNT : 0);
        for (uint32_t i = 0; i < r->recovered; i++) {
            cr_assert_eq(r->recovered_ids[i], i, "%s: place %u of the order", subject->name, i);
            cr_assert_eq(rig_get(r, i), KVT_OK);
        }
    }
    if (persists) {
        kvt_tier_stats stats;
        kvt_tier_get_stats(r->tier, &stats);
        cr_assert_eq(stats.record_count, COUNT);
        cr_assert_eq(rig_put(r, COUNT, 5000), KVT_OK);
        cr_assert_eq(rig_get(r, COUNT), KVT_OK);
        cr_assert_eq(rig_get(r, 0), KVT_OK, "a new record leaves the old ones alone");
    }
    rig_fini(r);
}
CONFORMS(a_clean_close_keeps_every_record_in_order)

static void an_index_that_is_full_is_respected(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    if (has(r, KVT_TIER_PERSISTS)) {
        fill_some(r, 20);
        rig_close(r);
        r->recover_max = 5;
        cr_assert_eq(rig_open(r), KVT_OK);
        kvt_tier_stats stats;
        kvt_tier_get_stats(r->tier, &stats);
        cr_assert_eq(stats.record_count, 5);
        for (uint32_t i = 0; i < 5; i++)
            cr_assert_eq(rig_get(r, r->recovered_ids[i]), KVT_OK);
    }
    rig_fini(r);
}
CONFORMS(an_index_that_is_full_is_respected)

/* Names, sizes and times of everything below a folder, as one number. */
static uint64_t tree_print;

static int print_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)walk;
    uint64_t parts[4] = {(uint64_t)info->st_size * (type == FTW_F), (uint64_t)info->st_mtim.tv_sec,
                         (uint64_t)info->st_mtim.tv_nsec, kvt_xxh3_64(path, strlen(path))};
    tree_print += kvt_xxh3_64(parts, sizeof parts);
    return 0;
}

static uint64_t print_tree(const char *path)
{
    tree_print = 0;
    nftw(path, print_one, 16, FTW_PHYS);
    return tree_print;
}

static void read_only_changes_nothing(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    if (has(r, KVT_TIER_PERSISTS)) {
        fill_some(r, 20);
        rig_close(r);
        uint64_t before = print_tree(r->path);
        r->options.read_only = true;
        cr_assert_eq(rig_open(r), KVT_OK, "%s: %s", subject->name, kvt_last_error());
        cr_assert_eq(r->recovered, 20);
        for (uint32_t i = 0; i < 20; i++)
            cr_assert_eq(rig_get(r, i), KVT_OK);
        cr_assert_eq(rig_put(r, 30, 5000), KVT_REJECTED);
        rig_drop(r, 3);
        rig_close(r);
        cr_assert_eq(print_tree(r->path), before, "%s: read-only, but something changed on disk", subject->name);
        r->options.read_only = false;
        cr_assert_eq(rig_open(r), KVT_OK);
        cr_assert_eq(r->recovered, 20);
    }
    rig_fini(r);
}
CONFORMS(read_only_changes_nothing)

static void nothing_is_made_when_that_is_not_wanted(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    if (has(r, KVT_TIER_PERSISTS) && !subject->is_double) {
        rig_close(r);
        kvt_test_rmtree(r->path);
        cr_assert_eq(mkdir(r->path, 0700), 0);
        uint64_t before = print_tree(r->path);
        r->options.no_create = true;
        cr_assert_eq(rig_open(r), KVT_MISS);
        r->options.no_create = false;
        r->options.read_only = true;
        cr_assert_eq(rig_open(r), KVT_MISS);
        cr_assert_eq(print_tree(r->path), before);
        kvt_tier_id id;
        cr_assert_eq(kvt_tier_detect(r->path, &id), KVT_MISS);
        r->options.read_only = false;
        cr_assert_eq(rig_open(r), KVT_OK);
        cr_assert_eq(kvt_tier_detect(r->path, &id), KVT_OK);
        cr_assert_eq(id, subject->id);
    }
    rig_fini(r);
}
CONFORMS(nothing_is_made_when_that_is_not_wanted)

static void a_store_has_one_owner(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 0, 1 << 20);
    if (has(r, KVT_TIER_PERSISTS)) {
        kvt_tier *second = NULL;
        cr_assert_eq(kvt_tier_open(subject->id, &r->options, &r->host, &second), KVT_BUSY);
        char pid[32];
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        cr_assert(subject->is_double || strstr(kvt_last_error(), pid) != NULL, "%s", kvt_last_error());
        cr_assert_null(second);
        cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
        rig_close(r);
        cr_assert_eq(rig_open(r), KVT_OK);
        cr_assert_eq(r->recovered, 1);
    }
    rig_fini(r);
}
CONFORMS(a_store_has_one_owner)

static void failed_allocations_leave_nothing(const rig_subject *subject)
{
    RIG_OR_SKIP(r, subject, 24 << 20, 1 << 16);
    rig_close(r);
    bool opened = false;
    for (uint64_t n = 1; n < 40 && !opened; n++) {
        uint64_t live = kvt_live_bytes();
        kvt_alloc_fail_at(n);
        kvt_status status = rig_open(r);
        kvt_alloc_fail_at(0);
        opened = status == KVT_OK;
        cr_assert(opened || status == KVT_NOMEM, "%s: %s", subject->name, kvt_status_name(status));
        if (!opened)
            cr_assert_eq(kvt_live_bytes(), live, "%s: allocation %lu", subject->name, n);
    }
    cr_assert(opened);
    cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
    rig_fini(r);
}
CONFORMS(failed_allocations_leave_nothing)
