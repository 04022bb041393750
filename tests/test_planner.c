/* SPDX-License-Identifier: Apache-2.0
 *
 * Restore or recompute: figures a person can check by hand, then random matches against every prefix tried one by one.
 */
#include "tests/support.h"

#define MS UINT64_C(1000000)

static kvt_plan_result plan(const kvt_match_result *match, uint64_t tokens, double rate)
{
    kvt_plan_result result;
    cr_assert_eq(kvt_plan(match, tokens, rate, &result), KVT_OK);
    cr_assert_eq(result.tokens_restore + result.tokens_compute, tokens);
    return result;
}

KVT_TEST(planner, a_fast_tier_is_worth_restoring_and_a_slow_one_is_not)
{
    /* 10,000 tokens a second: 4,096 tokens are computed in 409.6 ms */
    kvt_match_result match = {.tokens = 4096, .tokens_lower = 4096, .restore_ns = 300 * MS};
    kvt_plan_result result = plan(&match, 5096, 10000);
    cr_assert_eq(result.tokens_restore, 4096);
    cr_assert_eq(result.restore_ns, 300 * MS);
    cr_assert_eq(result.compute_ns, 100 * MS);
    match.restore_ns = 500 * MS;
    result = plan(&match, 5096, 10000);
    cr_assert_eq(result.tokens_restore, 0);
    cr_assert_eq(result.restore_ns, 0);
    cr_assert_float_eq((double)result.compute_ns, 509.6e6, 1e3);
}

KVT_TEST(planner, the_run_in_ram_is_restored_when_the_disk_is_too_slow)
{
    kvt_match_result match = {.tokens = 4096,
                              .tokens_host = 1024,
                              .tokens_lower = 3072,
                              .restore_ns = 500 * MS,
                              .tokens_leading = 1024,
                              .restore_leading_ns = 5 * MS};
    kvt_plan_result result = plan(&match, 4096, 10000);
    cr_assert_eq(result.tokens_restore, 1024);
    cr_assert_eq(result.restore_ns, 5 * MS);
    match.restore_leading_ns = 0; /* not measured: all or nothing */
    cr_assert_eq(plan(&match, 4096, 10000).tokens_restore, 0);
}

KVT_TEST(planner, what_was_not_measured_is_restored)
{
    kvt_match_result match = {.tokens = 512};
    kvt_plan_result result = plan(&match, 1000, 1e9);
    cr_assert_eq(result.tokens_restore, 512);
    cr_assert_eq(result.restore_ns, 0);
}

KVT_TEST(planner, a_tie_restores_and_an_empty_match_computes)
{
    kvt_match_result match = {.tokens = 1000, .restore_ns = 100 * MS};
    cr_assert_eq(plan(&match, 1000, 10000).tokens_restore, 1000);
    match = (kvt_match_result){.tokens = 0};
    cr_assert_eq(plan(&match, 1000, 10000).tokens_compute, 1000);
    cr_assert_eq(plan(&match, 0, 10000).compute_ns, 0);
}

KVT_TEST(planner, random_matches_get_the_cheapest_prefix)
{
    uint64_t state = kvt_test_seed("planner");
    for (int i = 0; i < 2000; i++) {
        uint64_t tokens = 1 + kvt_test_random(&state) % 300, leading = kvt_test_random(&state) % (tokens + 1);
        uint64_t host_ns = 1 + kvt_test_random(&state) % MS, lower_ns = 1 + kvt_test_random(&state) % MS; /* a token */
        uint64_t total = tokens + kvt_test_random(&state) % 100;
        double rate = 1e9 / (double)(1 + kvt_test_random(&state) % MS);
        kvt_match_result match = {.tokens = tokens,
                                  .tokens_leading = leading,
                                  .restore_leading_ns = leading * host_ns,
                                  .restore_ns = leading * host_ns + (tokens - leading) * lower_ns};
        double best = 1e300;
        for (uint64_t n = 0; n <= tokens; n++) {
            uint64_t fast = n < leading ? n : leading;
            double cost = (double)(fast * host_ns + (n - fast) * lower_ns) + (double)(total - n) / rate * 1e9;
            best = cost < best ? cost : best;
        }
        kvt_plan_result result = plan(&match, total, rate);
        cr_assert_leq((double)(result.restore_ns + result.compute_ns), best + 4);
    }
}

KVT_TEST(planner, nonsense_is_refused_and_the_result_left_alone)
{
    kvt_match_result match = {.tokens = 10};
    kvt_plan_result result = {.tokens_restore = 77};
    cr_assert_eq(kvt_plan(NULL, 10, 1, &result), KVT_INVALID);
    cr_assert_eq(kvt_plan(&match, 10, 1, NULL), KVT_INVALID);
    double rates[] = {0, -1, 0.0 / (double)match.chunks};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        cr_assert_eq(kvt_plan(&match, 10, rates[i], &result), KVT_INVALID);
    cr_assert_eq(kvt_plan(&match, 9, 1, &result), KVT_INVALID);
    match.tokens_leading = 11;
    cr_assert_eq(kvt_plan(&match, 20, 1, &result), KVT_INVALID);
    cr_assert_eq(result.tokens_restore, 77);
}

KVT_TEST(planner, extreme_rates_saturate)
{
    kvt_match_result match = {.tokens = UINT64_MAX / 2, .restore_ns = UINT64_MAX};
    kvt_plan_result result = plan(&match, UINT64_MAX, 1e-300);
    cr_assert_eq(result.tokens_restore + result.tokens_compute, UINT64_MAX);
    cr_assert_eq(plan(&match, UINT64_MAX, 1e300).tokens_restore, 0);
}
