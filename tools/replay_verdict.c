/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run showed, in one line. What the tier below RAM promises decides what a lost record means: the file tier
 * keeps what it acknowledged through a kill, the rocks tier does not say so.
 */
#include "tools/cli.h"
#include "tools/replay.h"

#include <inttypes.h>
#include <stdio.h>

static void say_lost(const kvt_replay_result *r, char *text, size_t bytes)
{
    if (r->lost == 0)
        snprintf(text, bytes, "nothing lost, every byte right");
    else
        snprintf(text, bytes,
                 "every byte right, %" PRIu64
                 " record%s lost, as the rocks tier allows (its writes are not synchronous)",
                 r->lost, cli_plural(r->lost));
}

static void say_incomplete(const kvt_replay_options *o, const kvt_replay_result *r, char *text, size_t bytes)
{
    const char *why =
        r->state.saved_chunks == 0
            ? "the store held all of the workload before; name a fresh one with --store"
            : "nothing was left to save when the next was due; play more of the workload, or kill earlier";
    snprintf(text, bytes, "INCOMPLETE: %u of %u kills struck, so the rest is not shown: %s", r->restarts, o->kill_count,
             why);
}

kvt_replay_verdict kvt_replay_judge(const kvt_replay_options *o, const kvt_replay_result *r, char *text, size_t bytes)
{
    char lost[160], kills[32] = "";
    double share =
        r->state.prompt_tokens == 0 ? 0 : 100.0 * (double)r->state.hit_tokens / (double)r->state.prompt_tokens;
    if (r->wrong_bytes != 0) {
        snprintf(text, bytes, "FAILED: %" PRIu64 " byte%s came back wrong", r->wrong_bytes, cli_plural(r->wrong_bytes));
        return KVT_VERDICT_WRONG;
    }
    if (r->lost != 0 && o->lower == KVT_LOWER_FILE) {
        snprintf(text, bytes, "FAILED: %" PRIu64 " acknowledged record%s gone", r->lost,
                 r->lost == 1 ? " is" : "s are");
        return KVT_VERDICT_LOST;
    }
    if (r->restarts < o->kill_count) {
        say_incomplete(o, r, text, bytes);
        return KVT_VERDICT_INCOMPLETE;
    }
    say_lost(r, lost, sizeof lost);
    if (r->restarts != 0)
        snprintf(kills, sizeof kills, "%u kill%s, ", r->restarts, cli_plural(r->restarts));
    snprintf(text, bytes, "OK: %s%s; %.0f %% of the prompt tokens were restored instead of computed", kills, lost,
             share);
    return KVT_VERDICT_OK;
}

const char *kvt_replay_acknowledged_by(const kvt_replay_options *options)
{
    return options->lower == KVT_LOWER_ROCKS ? "records taken by RocksDB" : "records acknowledged by the disk";
}
