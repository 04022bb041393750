/* SPDX-License-Identifier: Apache-2.0
 *
 * What the conformance suite stands on: the door's refusals, and the double's obedience. A double that does not do as
 * it is told would make every test of a fault green.
 */
#include "tests/tier_double.h"
#include "tests/tier_rig.h"

#include <errno.h>

/* The rig is large: one per test process. */
static rig the_rig;

/* ---- the wrappers ---- */

KVT_TEST(tiers, open_refuses_bad_options)
{
    rig *r = &the_rig;
    cr_assert(rig_init(r, &rig_double, 0, 1 << 20));
    rig_close(r);
    kvt_tier *tier = NULL;
    kvt_tier_options options = r->options;
    kvt_tier_host host = r->host;
    cr_assert_eq(kvt_tier_open((kvt_tier_id)77, &options, &host, &tier), KVT_UNSUPPORTED);
    cr_assert_null(kvt_tier_ops_by_id((kvt_tier_id)77));
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, NULL, &host, &tier), KVT_INVALID);
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, NULL, &tier), KVT_INVALID);
    options.bytes_max = 0;
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, &host, &tier), KVT_INVALID);
    options = r->options, options.path = "";
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, &host, &tier), KVT_INVALID);
    options = r->options, options.blob_bytes_max = KVT_PAYLOAD_BYTES_MAX + 1;
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, &host, &tier), KVT_INVALID);
    options = r->options, options.pool_bytes = 0;
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, &host, &tier), KVT_INVALID);
    options = r->options, host.may_evict = NULL;
    cr_assert_eq(kvt_tier_open(KVT_TIER_FILE, &options, &host, &tier), KVT_INVALID);
    cr_assert_null(tier);
    kvt_tier_close(NULL);
    kvt_tier_id id;
    cr_assert_eq(kvt_tier_detect(NULL, &id), KVT_INVALID);
    cr_assert_eq(kvt_tier_detect("/nowhere at all", &id), KVT_MISS);
    rig_fini(r);
}

/* ---- the double's own orders ---- */

KVT_TEST(tier_double, stalled_operations_wait_and_close_ends_them)
{
    rig *r = &the_rig;
    cr_assert(rig_init(r, &rig_double, 0, 1 << 20));
    cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
    kvt_double_stall(KVT_TIER_READ, true);
    rig_op *first = rig_read_new(r, 1), *second = rig_read_new(r, 1);
    rig_submit(first);
    rig_submit(second);
    cr_assert_eq(rig_put(r, 2, 5000), KVT_OK, "writes go on");
    cr_assert_eq(kvt_double_held(KVT_TIER_READ), 2);
    cr_assert_eq(first->done_count + second->done_count, 0);
    cr_assert_eq(first->op.image[KVT_HEADER_BYTES], 0xa5, "memory of a held operation is left alone");
    kvt_double_release(KVT_TIER_READ, 1);
    rig_wait(first);
    cr_assert_eq(first->op.status, KVT_OK);
    rig_close(r);
    cr_assert_eq(second->op.status, KVT_IO);
    rig_free(first), rig_free(second);
    cr_assert_eq(kvt_double_seen(KVT_TIER_READ), 2);
    rig_fini(r);
}

KVT_TEST(tier_double, it_fails_corrupts_and_delays_on_command)
{
    rig *r = &the_rig;
    cr_assert(rig_init(r, &rig_double, 0, 1 << 20));
    kvt_double_fail(KVT_TIER_WRITE, 2, 1, KVT_IO, ENOSPC);
    cr_assert_eq(rig_put(r, 1, 5000), KVT_OK);
    rig_op *o = rig_write_new(r, 2, 5000);
    rig_submit(o), rig_wait(o);
    cr_assert(o->op.status == KVT_IO && o->op.system_error == ENOSPC);
    rig_free(o);
    cr_assert_eq(rig_put(r, 3, 5000), KVT_OK);
    kvt_double_corrupt(2, 1);
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    cr_assert_eq(rig_get(r, 1), KVT_CORRUPT);
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    kvt_double_delay(KVT_TIER_READ, 30000000);
    uint64_t begin = kvt_now_ns();
    cr_assert_eq(rig_get(r, 1), KVT_OK);
    cr_assert_geq(kvt_now_ns() - begin, 30000000);
    cr_assert(kvt_double_damage(&r->records[3].space, &r->records[3].key));
    cr_assert_eq(rig_state_of(r, 3), RIG_EVICTED);
    cr_assert_eq(kvt_double_records(), 1);
    rig_fini(r);
}
