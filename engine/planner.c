/* SPDX-License-Identifier: Apache-2.0
 *
 * Restore or recompute. A prefix of n tokens costs the time to restore it plus the time to compute what lies behind;
 * the cheapest n wins. Both are linear in n along RAM and along the lower tier, so the minimum lies at an end of a run:
 * nothing, the leading run that is in RAM, or the whole match. A tie goes to the longer prefix, which leaves the
 * accelerator free.
 *
 * Not here: where the estimates come from (match), and queueing on the accelerator, which only the caller knows.
 */
#include "engine/base/base.h"

static uint64_t compute_ns(uint64_t tokens, double tokens_per_second)
{
    double ns = (double)tokens / tokens_per_second * 1e9;
    return ns < 0x1p63 ? (uint64_t)ns : UINT64_C(1) << 63;
}

static void consider(uint64_t restore_tokens, uint64_t restore_ns, uint64_t token_count, double rate,
                     kvt_plan_result *best)
{
    uint64_t rest_ns = compute_ns(token_count - restore_tokens, rate);
    uint64_t total, best_total;
    if (!kvt_add_u64(restore_ns, rest_ns, &total))
        return;
    if (!kvt_add_u64(best->restore_ns, best->compute_ns, &best_total) || total <= best_total)
        *best = (kvt_plan_result){restore_tokens, token_count - restore_tokens, restore_ns, rest_ns};
}

kvt_status kvt_plan(const kvt_match_result *match, uint64_t token_count, double compute_tokens_per_second,
                    kvt_plan_result *out)
{
    kvt_fail_clear();
    if (!match || !out)
        return kvt_fail(KVT_INVALID, "kvt_plan needs a match and a place for the result");
    if (!(compute_tokens_per_second > 0))
        return kvt_fail(KVT_INVALID, "compute_tokens_per_second is %g; give the prefill rate, above 0",
                        compute_tokens_per_second);
    if (match->tokens > token_count || match->tokens_leading > match->tokens)
        return kvt_fail(KVT_INVALID, "a match of %llu tokens does not belong to a prompt of %llu",
                        (unsigned long long)match->tokens, (unsigned long long)token_count);

    kvt_plan_result best = {0, token_count, 0, compute_ns(token_count, compute_tokens_per_second)};
    if (match->restore_leading_ns != 0) /* 0: not measured, no ground for a middle way */
        consider(match->tokens_leading, match->restore_leading_ns, token_count, compute_tokens_per_second, &best);
    consider(match->tokens, match->restore_ns, token_count, compute_tokens_per_second, &best);
    *out = best;
    return KVT_OK;
}
