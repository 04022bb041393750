/* SPDX-License-Identifier: Apache-2.0
 *
 * The supervisor: forks the worker, draws the progress, kills it at a random instant of a save when told to, starts it
 * again, and reads the journal at the end. It opens no store and starts no thread, so a fork without exec is sound.
 */
#include "tools/cli.h"
#include "tools/pattern.h"
#include "tools/progress.h"
#include "tools/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 50, MISSES_MAX = 32 };

typedef struct supervisor {
    const kvt_trace *trace;
    const kvt_replay_options *options;
    kvt_journal *journal;
    kvt_replay_result *result;
    kvt_progress progress;
    pid_t worker;
    uint32_t kills_done;
    uint32_t misses; /* saves that ended before the kill that was meant for them */
    uint64_t random;
    uint64_t must_hold;
    bool reaped;
    int exit_status;
} supervisor;

static uint64_t draw(supervisor *s, uint64_t below)
{
    s->random = kvt_pattern_chain(s->random, s->kills_done + s->misses);
    return below == 0 ? 0 : s->random % below;
}

static void forget_wake(const kvt_journal *journal)
{
    uint64_t stale = 0;
    ssize_t taken = read(journal->wake_fd, &stale, sizeof stale);
    (void)taken; /* nothing there: fine */
}

static kvt_status start_worker(supervisor *s)
{
    kvt_journal *journal = s->journal;
    bool kill_due = s->kills_done < s->options->kill_count;
    atomic_store(&journal->kill_request, kill_due ? s->options->kills[s->kills_done] : UINT64_MAX);
    atomic_store(&journal->in_flight, 0);
    forget_wake(journal);
    pid_t supervisor_pid = getpid();
    fflush(NULL);
    s->reaped = false;
    s->worker = fork();
    if (s->worker < 0)
        return kvt_fail(KVT_IO, "the worker cannot be started: %s", strerror(errno));
    if (s->worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* no worker outlives its supervisor */
        if (getppid() != supervisor_pid)
            _exit(CLI_FAILURE);
        _exit(kvt_replay_work(s->trace, s->options, journal) == KVT_OK ? CLI_OK : CLI_FAILURE);
    }
    return KVT_OK;
}

/* Has the worker ended? Keeps its peak memory. */
static bool reap(supervisor *s, bool wait)
{
    struct rusage usage;
    pid_t ended;
    do
        ended = wait4(s->worker, &s->exit_status, wait ? 0 : WNOHANG, &usage);
    while (ended < 0 && errno == EINTR);
    if (ended != s->worker)
        return false;
    s->reaped = true;
    s->result->peak_memory_bytes = kvt_max_u64(s->result->peak_memory_bytes, (uint64_t)usage.ru_maxrss * 1024);
    return true;
}

static void end_worker(supervisor *s)
{
    kill(s->worker, SIGKILL);
    reap(s, true);
}

static void pause_ns(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)}, NULL);
}

/* Are there fewer requests left than kills to come? Then this one must be struck, if only behind its save. */
static bool is_last_chance(const supervisor *s)
{
    uint64_t left = s->trace->request_count - 1 - atomic_load(&s->journal->request);
    return left < s->options->kill_count - s->kills_done;
}

/* A save of the request to be killed in has started: wait a random part of what it may take, and end the worker. A save
 * that was quicker has nothing under way any more: then the next one is struck, after a shorter wait. */
static bool kill_worker(supervisor *s)
{
    kvt_journal *journal = s->journal;
    kvt_replay_kill *k = &s->result->kills[s->kills_done];
    k->request = s->options->kills[s->kills_done];
    k->delay_ns = draw(s, atomic_load(&journal->save_estimate_ns) >> kvt_min_u64(s->misses, MISSES_MAX));
    pause_ns(k->delay_ns);
    if (atomic_load(&journal->in_flight) == 0 && s->misses < MISSES_MAX && !is_last_chance(s)) {
        s->misses++;
        forget_wake(journal);
        atomic_store(&journal->kill_request, atomic_load(&journal->request) + 1);
        return false;
    }
    end_worker(s);
    k->hit_request = atomic_load(&journal->request);
    k->in_flight = atomic_load(&journal->in_flight);
    for (uint64_t i = 0; i < journal->unit_count; i++)
        k->must_hold += atomic_load(&journal->held[i]);
    s->kills_done++;
    s->misses = 0;
    return true;
}

/* Figures of a restart are known once its worker runs requests. */
static void note_restart(supervisor *s)
{
    if (s->result->restarts == 0 || atomic_load(&s->journal->phase) < KVT_PHASE_RUN)
        return;
    kvt_replay_kill *k = &s->result->kills[s->result->restarts - 1];
    k->open_ns = s->journal->open_ns;
    k->check_ns = s->journal->check_ns;
}

/* Until the worker has ended by itself or was killed. *out_killed: start it again. */
static kvt_status watch_worker(supervisor *s, bool *out_killed)
{
    struct pollfd wake = {.fd = s->journal->wake_fd, .events = POLLIN};
    *out_killed = false;
    while (!reap(s, false)) {
        if (cli_interrupted()) {
            end_worker(s);
            return kvt_fail(KVT_CANCELLED, "interrupted");
        }
        note_restart(s);
        kvt_progress_set(&s->progress, kvt_journal_state(s->journal)->requests);
        if (poll(&wake, 1, LOOK_MS) <= 0)
            continue;
        note_restart(s);
        *out_killed = kill_worker(s);
        if (*out_killed)
            return KVT_OK;
    }
    note_restart(s);
    return KVT_OK;
}

static kvt_status ended_badly(const supervisor *s)
{
    uint64_t request = atomic_load(&s->journal->request);
    if (WIFSIGNALED(s->exit_status))
        return kvt_fail(KVT_IO, "the worker died of signal %d in request %" PRIu64, WTERMSIG(s->exit_status), request);
    bool told = s->journal->status != KVT_OK;
    return kvt_fail(told ? (kvt_status)s->journal->status : KVT_IO, "%s",
                    told ? s->journal->error : "the worker ended without a word");
}

static kvt_status supervise(supervisor *s)
{
    for (;;) {
        atomic_store(&s->journal->phase, KVT_PHASE_START);
        KVT_TRY(start_worker(s));
        bool killed = false;
        KVT_TRY(watch_worker(s, &killed));
        if (!killed)
            break;
        s->result->restarts++;
    }
    if (!WIFEXITED(s->exit_status) || WEXITSTATUS(s->exit_status) != CLI_OK)
        return ended_badly(s);
    return KVT_OK;
}

/* ---- the result ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Percentiles over the requests that did such a thing. Sorts the journal's array in place: it is not needed any more.
 */
static void summarise(uint64_t *values, uint64_t count, uint64_t out[4], uint64_t *out_count)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < count; i++)
        if (values[i] != 0)
            values[used++] = values[i];
    *out_count = used;
    if (used == 0)
        return;
    qsort(values, used, sizeof *values, compare_u64);
    out[0] = values[(used - 1) / 2];
    out[1] = values[(used - 1) * 9 / 10];
    out[2] = values[(used - 1) * 99 / 100];
    out[3] = values[used - 1];
}

static void collect(supervisor *s)
{
    kvt_journal *journal = s->journal;
    kvt_replay_result *r = s->result;
    r->state = *kvt_journal_state(journal);
    r->wrong_bytes = atomic_load(&journal->wrong_bytes);
    r->acknowledged = atomic_load(&journal->acknowledged);
    r->lost = atomic_load(&journal->lost);
    r->evicted = atomic_load(&journal->evicted);
    r->check_records = atomic_load(&journal->check_records);
    r->check_bytes = atomic_load(&journal->check_bytes);
    memcpy(r->wrong, journal->wrong, sizeof r->wrong);
    for (int i = 0; i < KVT_LATENCY_COUNT; i++)
        summarise(journal->latencies[i], r->state.requests, r->latency_ns[i], &r->latency_count[i]);
}

static kvt_status check_options(const kvt_trace *trace, const kvt_replay_options *o)
{
    if (o->chunk_tokens == 0 || KVT_TRACE_BLOCK_TOKENS % o->chunk_tokens != 0)
        return kvt_fail(KVT_INVALID, "a chunk must divide a block of %d tokens; %u does not", KVT_TRACE_BLOCK_TOKENS,
                        o->chunk_tokens);
    if (o->page_tokens == 0 || o->chunk_tokens % o->page_tokens != 0)
        return kvt_fail(KVT_INVALID, "a page must divide the chunk of %u tokens; %u does not", o->chunk_tokens,
                        o->page_tokens);
    uint64_t blob = kvt_geometry_token_bytes(o->geometry) * o->chunk_tokens;
    if (blob > KVT_BLOB_BYTES_MAX)
        return kvt_fail(KVT_INVALID,
                        "a chunk of %u tokens of %s has %" PRIu64 " MiB, more than %" PRIu64
                        "; use fewer --chunk-tokens or --layers",
                        o->chunk_tokens, o->geometry->name, blob >> 20, KVT_BLOB_BYTES_MAX >> 20);
    if (o->kill_count > KVT_KILLS_MAX)
        return kvt_fail(KVT_INVALID, "at most %d kills", KVT_KILLS_MAX);
    for (uint32_t i = 0; i < o->kill_count; i++)
        if (o->kills[i] >= trace->request_count || (i != 0 && o->kills[i] < o->kills[i - 1]))
            return kvt_fail(KVT_INVALID, "kills must be ascending requests below %" PRIu64, trace->request_count);
    return KVT_OK;
}

kvt_status kvt_replay_run(const kvt_trace *trace, const kvt_replay_options *options, kvt_replay_result *out)
{
    KVT_TRY(check_options(trace, options));
    memset(out, 0, sizeof *out);
    supervisor s = {.trace = trace, .options = options, .result = out, .random = options->seed};
    uint64_t units = (uint64_t)trace->node_count * kvt_replay_chunks_of_block(options);
    if (units >= UINT32_MAX)
        return kvt_fail(KVT_INVALID, "too many chunks; use fewer --requests or more --chunk-tokens");
    KVT_TRY(kvt_journal_create(units, trace->request_count, &s.journal));
    kvt_progress_begin(&s.progress, options->verb, trace->request_count, false, options->quiet);
    uint64_t start = kvt_now_ns();
    kvt_status status = supervise(&s);
    kvt_progress_end(&s.progress);
    out->elapsed_ns = kvt_now_ns() - start;
    collect(&s);
    kvt_journal_destroy(s.journal);
    return status;
}
