/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine over a tier that stalls, fails and lies: deadlines and cancels end a ticket exactly once and in time, the
 * caller's bytes are left alone afterwards, damage is a miss, memory stays bounded.
 */
#include "tests/engine_rig.h"
#include "tests/support.h"
#include "tests/tier_double.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 8 * RIG_CHUNK_TOKENS, MIB = 1 << 20 };
static const uint64_t MS = 1000000;

/* A rig whose 8 chunks are below only. */
static void start_below(rig *r, uint32_t *tokens)
{
    kvt_key keys[8];
    size_t count;
    kvt_double_install();
    rig_init(r, true, 4 * MIB);
    rig_open(r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(r, tokens, COUNT);
    cr_assert_eq(rig_save(r, tokens, COUNT).status, KVT_OK);
    kvt_chunk_keys(r->space, tokens, COUNT, keys, 8, &count);
    cr_assert_eq(kvt_evict(r->space, keys, 8), KVT_OK, "%s", kvt_last_error());
    rig_poison(r);
}

static void stop(rig *r)
{
    rig_destroy(r);
    kvt_double_remove();
}

static void wait_held(kvt_tier_verb verb, uint32_t count)
{
    for (int i = 0; i < 2000 && kvt_double_held(verb) < count; i++)
        usleep(1000);
    cr_assert_geq(kvt_double_held(verb), count);
}

KVT_TEST(engine_faults, a_deadline_ends_a_load_in_time_once_and_the_pages_stay_untouched)
{
    rig r;
    uint32_t tokens[COUNT];
    start_below(&r, tokens);
    kvt_double_stall(KVT_TIER_READ, true);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    request.timeout_ns = 50 * MS;
    kvt_ticket ticket;
    uint64_t begin = kvt_now_ns();
    cr_assert_eq(kvt_load(r.space, &request, &ticket), KVT_OK);
    kvt_completion completion = rig_finish(&r, ticket), again;
    uint64_t took = kvt_now_ns() - begin;
    cr_assert_eq(completion.status, KVT_MISS);
    cr_assert_eq(completion.cause, KVT_TIMEOUT);
    cr_assert_geq(took, 50 * MS);
    cr_assert_lt(took, 500 * MS);
    cr_assert_eq(kvt_poll(r.engine, &again, 1), 0);
    kvt_double_stall(KVT_TIER_READ, false);
    usleep(100000);
    cr_assert(rig_holds(&r, tokens, 0, 0), "nothing may be written after the completion");
    cr_assert_eq(kvt_poll(r.engine, &again, 1), 0, "a ticket completes once");
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK, "the records that came late serve the next load");
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    stop(&r);
}

KVT_TEST(engine_faults, a_cancel_ends_a_write_through_save_while_the_write_goes_on)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    kvt_double_stall(KVT_TIER_WRITE, true);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    request.flags = KVT_REQUEST_WRITE_THROUGH;
    kvt_ticket ticket;
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
    wait_held(KVT_TIER_WRITE, 8);
    cr_assert_eq(kvt_cancel(r.engine, ticket), KVT_OK);
    kvt_completion completion = rig_finish(&r, ticket);
    cr_assert_eq(completion.status, KVT_REJECTED);
    cr_assert_eq(completion.cause, KVT_CANCELLED);
    rig_poison(&r);
    kvt_double_stall(KVT_TIER_WRITE, false);
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK);
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    cr_assert_eq(kvt_cancel(r.engine, ticket), KVT_INVALID);
    stop(&r);
}

/* The second waits for the write of the first; meanwhile the record goes, and another takes its place in the index. */
KVT_TEST(engine_faults, who_waited_for_a_write_looks_again_and_brings_no_second_copy)
{
    enum { BYTES = 50000 };
    static uint8_t x[BYTES], y[BYTES], out[BYTES];
    rig r;
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    memset(x, 'x', BYTES);
    memset(y, 'y', BYTES);
    for (int round = 0; round < 100; round++) {
        kvt_item twice[2] = {{.key = rig_key(1), .buffer = x, .bytes = BYTES},
                             {.key = rig_key(1), .buffer = x, .bytes = BYTES}};
        kvt_batch batch = KVT_BATCH_INIT;
        batch.items = twice, batch.count = 2, batch.flags = KVT_REQUEST_WRITE_THROUGH;
        kvt_double_stall(KVT_TIER_WRITE, true);
        kvt_ticket ticket;
        cr_assert_eq(kvt_put(r.space, &batch, &ticket), KVT_OK);
        wait_held(KVT_TIER_WRITE, 1);
        usleep(round % 10 * 100);
        kvt_double_stall(KVT_TIER_WRITE, false);
        kvt_key key = rig_key(1);
        size_t removed = 0;
        while (round % 2 != 0 && removed == 0)
            kvt_remove(r.space, &key, 1, &removed);
        kvt_item other = {.key = rig_key(2), .buffer = y, .bytes = BYTES};
        cr_assert_eq(rig_put(&r, &other, 1, 0).status, KVT_OK);
        rig_finish(&r, ticket);
        kvt_item back = {.key = rig_key(2), .buffer = out, .bytes = BYTES};
        cr_assert_eq(rig_get(&r, &back, 1).status, KVT_OK);
        cr_assert_arr_eq(out, y, BYTES, "round %d", round);
        cr_assert_eq(kvt_clear(r.space, NULL), KVT_OK);
        kvt_stats stats = {.struct_size = sizeof stats};
        kvt_get_stats(r.engine, &stats);
        cr_assert_eq(stats.tiers[KVT_TIER_HOST].used_bytes, 0, "round %d", round);
        kvt_space_info info;
        kvt_space_get_info(r.space, &info);
        cr_assert_eq(info.record_count + info.stored_bytes, 0, "round %d", round);
    }
    stop(&r);
}

typedef struct verifier {
    rig *r;
    kvt_status status;
    size_t count;
} verifier;

static void *verify_all(void *arg)
{
    verifier *v = arg;
    kvt_record_info records[8];
    kvt_status statuses[8];
    uint64_t cursor = 0;
    v->status = kvt_verify(v->r->engine, v->r->space, &cursor, records, statuses, 8, &v->count);
    for (size_t i = 0; i < v->count; i++)
        v->status = statuses[i] == KVT_OK || statuses[i] == KVT_MISS ? v->status : statuses[i];
    return NULL;
}

/* While the first record is read, the others become larger than the walk was told. */
KVT_TEST(engine_faults, a_record_that_grows_under_a_verify_is_read_where_there_is_room)
{
    enum { SMALL = 100, LARGE = 300000, RECORDS = 4 };
    static uint8_t bytes[LARGE];
    rig r;
    pthread_t thread;
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    for (uint32_t i = 0; i < RECORDS; i++) {
        kvt_item item = {.key = rig_key(i), .buffer = bytes, .bytes = SMALL};
        cr_assert_eq(rig_put(&r, &item, 1, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
    }
    kvt_double_stall(KVT_TIER_READ, true);
    verifier v = {.r = &r};
    cr_assert_eq(pthread_create(&thread, NULL, verify_all, &v), 0);
    wait_held(KVT_TIER_READ, 1);
    for (uint32_t i = 0; i < RECORDS; i++) {
        kvt_key key = rig_key(i);
        cr_assert_eq(kvt_remove(r.space, &key, 1, NULL), KVT_OK);
        kvt_item item = {.key = key, .buffer = bytes, .bytes = LARGE};
        cr_assert_eq(rig_put(&r, &item, 1, KVT_REQUEST_WRITE_THROUGH).status, KVT_OK);
    }
    kvt_double_stall(KVT_TIER_READ, false);
    pthread_join(thread, NULL);
    cr_assert_eq(v.status, KVT_OK, "%s", kvt_status_name(v.status));
    cr_assert_eq(v.count, RECORDS);
    stop(&r);
}

KVT_TEST(engine_faults, tickets_are_bounded_and_polling_makes_room)
{
    rig r;
    uint32_t tokens[COUNT];
    start_below(&r, tokens);
    rig_close(&r);
    r.options.inflight_max = 3;
    rig_open(&r);
    kvt_double_stall(KVT_TIER_READ, true);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    kvt_ticket tickets[3], refused = 0;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kvt_load(r.space, &request, &tickets[i]), KVT_OK);
    cr_assert_eq(kvt_load(r.space, &request, &refused), KVT_BUSY);
    cr_assert_eq(refused, 0);
    kvt_double_stall(KVT_TIER_READ, false);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(rig_finish(&r, tickets[i]).status, KVT_OK);
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK);
    stop(&r);
}

KVT_TEST(engine_faults, a_record_is_read_once_however_many_ask_for_it)
{
    rig r;
    uint32_t tokens[COUNT];
    start_below(&r, tokens);
    kvt_double_stall(KVT_TIER_READ, true);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    kvt_ticket tickets[5];
    uint64_t before = kvt_double_seen(KVT_TIER_READ);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(kvt_load(r.space, &request, &tickets[i]), KVT_OK);
    wait_held(KVT_TIER_READ, 8);
    usleep(20000);
    kvt_double_stall(KVT_TIER_READ, false);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(rig_finish(&r, tickets[i]).status, KVT_OK);
    cr_assert_eq(kvt_double_seen(KVT_TIER_READ) - before, 8);
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    stop(&r);
}

KVT_TEST(engine_faults, a_slip_of_the_transfer_is_repeated_and_damage_is_a_miss)
{
    rig r;
    uint32_t tokens[COUNT];
    start_below(&r, tokens);
    kvt_double_corrupt(1, 1);
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK, "one bad transfer is read again");
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    stop(&r);
    start_below(&r, tokens);
    kvt_double_corrupt(1, 100);
    kvt_completion completion = rig_load(&r, tokens, 0, COUNT);
    cr_assert_eq(completion.status, KVT_MISS);
    cr_assert_eq(completion.cause, KVT_CORRUPT);
    cr_assert(rig_holds(&r, tokens, 0, 0), "damaged bytes reach no page");
    kvt_match_result match;
    kvt_match(r.space, tokens, COUNT, &match);
    cr_assert_eq(match.tokens, 0, "damaged records are forgotten");
    stop(&r);
}

KVT_TEST(engine_faults, a_read_error_ends_the_prefix_where_it_happened)
{
    rig r;
    uint32_t tokens[COUNT];
    start_below(&r, tokens);
    kvt_double_fail(KVT_TIER_READ, 4, 1, KVT_IO, 5);
    kvt_completion completion = rig_load(&r, tokens, 0, COUNT);
    cr_assert_eq(completion.status, KVT_PARTIAL);
    cr_assert_eq(completion.cause, KVT_IO);
    cr_assert_eq(completion.system_error, 5);
    cr_assert_lt(completion.tokens, COUNT);
    cr_assert_eq(completion.tokens % RIG_CHUNK_TOKENS, 0);
    stop(&r);
}

KVT_TEST(engine_faults, a_failed_write_is_not_called_stored)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 4 * MIB);
    rig_open(&r);
    rig_prompt(tokens, COUNT, 0, 5);
    rig_fill(&r, tokens, COUNT);
    kvt_double_fail(KVT_TIER_WRITE, 1, 1000, KVT_IO, 5);
    kvt_page_list list;
    kvt_request request = rig_request(&r, tokens, COUNT, &list);
    request.flags = KVT_REQUEST_WRITE_THROUGH;
    kvt_ticket ticket;
    cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
    kvt_completion completion = rig_finish(&r, ticket);
    cr_assert_eq(completion.status, KVT_REJECTED);
    cr_assert_eq(completion.cause, KVT_IO);
    rig_poison(&r);
    cr_assert_eq(rig_load(&r, tokens, 0, COUNT).status, KVT_OK, "the RAM copy stays");
    cr_assert(rig_holds(&r, tokens, 0, COUNT));
    stop(&r);
}

KVT_TEST(engine_faults, when_everything_is_leased_a_save_is_refused_instead_of_waiting_for_ever)
{
    rig r;
    static uint8_t blob[200 << 10];
    kvt_lease leases[16];
    uint32_t count = 0;
    rig_init(&r, false, 1 * MIB);
    rig_open(&r);
    for (uint32_t i = 0; i < 16; i++) {
        kvt_item item = {.key = rig_key(i), .buffer = blob, .bytes = sizeof blob};
        kvt_completion put = rig_put(&r, &item, 1, 0);
        if (put.status != KVT_OK) {
            cr_assert_eq(put.cause, KVT_NOSPACE);
            break;
        }
        cr_assert_eq(kvt_lease_acquire(r.space, &item.key, &leases[count++]), KVT_OK);
    }
    cr_assert_gt(count, 2);
    cr_assert_lt(count, 16);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(kvt_lease_release(r.space, &leases[i]), KVT_OK);
    kvt_item item = {.key = rig_key(99), .buffer = blob, .bytes = sizeof blob};
    cr_assert_eq(rig_put(&r, &item, 1, 0).status, KVT_OK);
    rig_destroy(&r);
}

KVT_TEST(engine_faults, a_stalled_write_behind_never_grows_memory_and_saves_keep_their_deadlines)
{
    rig r;
    uint32_t tokens[COUNT];
    kvt_double_install();
    rig_init(&r, true, 1 * MIB);
    rig_open(&r);
    kvt_double_stall(KVT_TIER_WRITE, true);
    uint32_t late = 0;
    for (uint64_t i = 0; i < 8; i++) {
        rig_prompt(tokens, COUNT, 0, 20 + i);
        rig_fill(&r, tokens, COUNT);
        kvt_page_list list;
        kvt_request request = rig_request(&r, tokens, COUNT, &list);
        request.timeout_ns = 100 * MS;
        kvt_ticket ticket;
        uint64_t begin = kvt_now_ns();
        cr_assert_eq(kvt_save(r.space, &request, &ticket), KVT_OK);
        kvt_completion completion = rig_finish(&r, ticket);
        cr_assert_lt(kvt_now_ns() - begin, 600 * MS);
        late += completion.status != KVT_OK;
    }
    cr_assert_gt(late, 0);
    kvt_stats stats = {.struct_size = sizeof stats};
    kvt_get_stats(r.engine, &stats);
    cr_assert_leq(stats.tiers[KVT_TIER_HOST].used_bytes, 1 * MIB);
    kvt_double_stall(KVT_TIER_WRITE, false);
    stop(&r);
}

KVT_TEST(engine_faults, a_forked_child_is_told_so)
{
    rig r;
    rig_init(&r, false, 1 * MIB);
    rig_open(&r);
    pid_t child = fork();
    if (child == 0) {
        kvt_match_result match;
        uint32_t token = 1;
        _exit(kvt_match(r.space, &token, 1, &match) == KVT_FORKED ? 7 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(WEXITSTATUS(status), 7);
    rig_destroy(&r);
}
