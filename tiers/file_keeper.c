/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper: one thread that stays ahead of the writers. A round prepares the next segment of each group (making room
 * if need be), writes the footers of those that are full, and covers both with one barrier. Tests run its rounds
 * themselves.
 */
#include "tiers/file_calls.h"

#include <signal.h>
#include <time.h>

enum { RETRY_NS = 20000000, LOOK_NS = 1000000000 };

typedef struct round_work {
    uint32_t sealing[KVT_FILE_FOOTERS];
    uint32_t sealing_count;
    uint32_t preparing[KVT_FILE_GROUPS_MAX]; /* by group, or KVT_FILE_NONE */
    uint64_t generations[KVT_FILE_GROUPS_MAX];
    bool written; /* something needs a barrier */
} round_work;

void kvt_file_keeper_wake(kvt_file *file)
{
    file->woken = true;
    pthread_cond_signal(&file->work);
}

void kvt_file_dirty(kvt_file *file)
{
    if (file->dirty)
        return;
    file->dirty = true;
    file->dirty_since_ns = kvt_file_now(file);
    kvt_file_keeper_wake(file); /* it sleeps until the checkpoint is due */
}

/* ---- one round ---- */

/* Locked, lets the lock go. */
static void plan(kvt_file *file, round_work *work)
{
    if (file->condemned != 0)
        kvt_file_condemned_settle(file);
    if (file->eviction_wanted) {
        kvt_file_evict_one(file);
        file->eviction_wanted = false;
    }
    bool may_write = kvt_file_admits(file, KVT_TIER_WRITE);
    for (uint32_t i = 0; i < file->group_count; i++) {
        kvt_file_group *group = &file->groups[i];
        work->preparing[i] = KVT_FILE_NONE;
        if (!group->active || group->prepared != KVT_FILE_NONE || !may_write)
            continue;
        uint32_t number = kvt_file_segment_take(file);
        if (number == KVT_FILE_NONE)
            continue;
        work->generations[i] = kvt_file_generation_next(file);
        if (work->generations[i] != 0) {
            work->preparing[i] = number;
        } else {
            file->segments[number].state = KVT_SEGMENT_FREE;
            file->health.writes_fixed_off = true; /* four thousand million segments in one epoch */
        }
    }
    for (uint32_t i = 0; i < KVT_FILE_FOOTERS; i++) {
        uint32_t number = file->footers[i].segment;
        if (number != KVT_FILE_NONE && file->segments[number].state == KVT_SEGMENT_SEALING &&
            file->segments[number].writers == 0)
            work->sealing[work->sealing_count++] = number;
    }
}

/* Locked. A segment without a record needs no footer and no life. */
static void drop_empty(kvt_file *file, uint32_t number)
{
    kvt_file_segment *segment = &file->segments[number];
    uint32_t readers = segment->readers;
    if (segment->state != KVT_SEGMENT_SEALING || kvt_file_erase_pending(file, segment))
        return;
    if (readers == 0) {
        kvt_file_segment_free(file, segment);
    } else {
        segment->state = KVT_SEGMENT_DRAINING;
        file->draining++;
    }
}

static void write_blocks(kvt_file *file, round_work *work)
{
    for (uint32_t i = 0; i < work->sealing_count; i++) {
        kvt_status status = kvt_file_footer_write(file, work->sealing[i]);
        pthread_mutex_lock(&file->lock);
        if (status == KVT_MISS) {
            drop_empty(file, work->sealing[i]);
            work->sealing[i] = KVT_FILE_NONE;
        }
        pthread_mutex_unlock(&file->lock);
        work->written |= status != KVT_MISS;
    }
    for (uint32_t i = 0; i < file->group_count; i++) {
        if (work->preparing[i] == KVT_FILE_NONE)
            continue;
        work->written = true;
        if (kvt_file_header_write(file, work->preparing[i], KVT_SEGMENT_MARK_OPEN, work->generations[i]) == KVT_OK)
            continue;
        pthread_mutex_lock(&file->lock);
        kvt_file_segment_condemn(file, work->preparing[i]);
        pthread_mutex_unlock(&file->lock);
    }
}

kvt_status kvt_file_barrier(kvt_file *file)
{
    kvt_status status = kvt_io_sync(file->io, file->data_file);
    pthread_mutex_lock(&file->lock);
    if (status == KVT_OK)
        kvt_file_io_ended(file, KVT_IO_SYNC, KVT_OK);
    else
        kvt_file_barrier_failed(file);
    pthread_mutex_unlock(&file->lock);
    return status;
}

/* Locked. The states say whether somebody condemned a segment meanwhile. */
static void settle(kvt_file *file, const round_work *work, bool there)
{
    for (uint32_t i = 0; i < work->sealing_count; i++) {
        if (work->sealing[i] == KVT_FILE_NONE)
            continue;
        kvt_file_segment *segment = &file->segments[work->sealing[i]];
        if (segment->state == KVT_SEGMENT_SEALING)
            kvt_file_segment_sealed(file, segment, file->durable && there);
    }
    for (uint32_t i = 0; i < file->group_count; i++) {
        if (work->preparing[i] == KVT_FILE_NONE)
            continue;
        kvt_file_segment *segment = &file->segments[work->preparing[i]];
        if (segment->state != KVT_SEGMENT_PREPARING)
            continue;
        segment->state = KVT_SEGMENT_PREPARED;
        segment->generation = work->generations[i];
        segment->next_block = 1;
        file->groups[i].prepared = work->preparing[i];
    }
}

/* Nanoseconds until a checkpoint is due; 0: now. Locked. */
static uint64_t checkpoint_due(const kvt_file *file)
{
    if (file->seals >= KVT_FILE_CHECKPOINT_SEALS)
        return 0;
    uint64_t age_ns = file->dirty ? kvt_file_now(file) - file->dirty_since_ns : 0;
    return age_ns < KVT_FILE_CHECKPOINT_NS ? KVT_FILE_CHECKPOINT_NS - age_ns : 0;
}

/* Whether data.0 is there; asked before a barrier counts, and about once a second. */
static bool look(kvt_file *file, bool now)
{
    pthread_mutex_lock(&file->lock);
    bool due = now || kvt_now_ns() - file->looked_ns >= LOOK_NS;
    bool there = !file->health.data_lost;
    pthread_mutex_unlock(&file->lock);
    return due && !file->read_only ? kvt_file_data_there(file) : there;
}

uint64_t kvt_file_keep(kvt_file *file)
{
    round_work work = {.sealing_count = 0};
    pthread_mutex_lock(&file->lock);
    file->woken = false;
    pthread_mutex_unlock(&file->lock);
    bool erasing = kvt_file_erase_step(file);
    pthread_mutex_lock(&file->lock);
    plan(file, &work);
    pthread_mutex_unlock(&file->lock);
    write_blocks(file, &work);
    bool good = !work.written || !file->durable || kvt_file_barrier(file) == KVT_OK;
    bool there = look(file, work.written);
    pthread_mutex_lock(&file->lock);
    if (good)
        settle(file, &work, there);
    bool checkpoint = checkpoint_due(file) == 0;
    pthread_cond_broadcast(&file->idle);
    pthread_mutex_unlock(&file->lock);
    bool waiting = kvt_file_write_resume(file) || erasing;
    if (checkpoint && kvt_file_checkpoint_write(file) != KVT_OK)
        kvt_log_write(&file->host.log, KVT_LOG_WARN, "%s: no checkpoint was written: %s", file->path_text,
                      kvt_last_error());
    kvt_fail_clear();
    pthread_mutex_lock(&file->lock);
    uint64_t idle_ns = kvt_min_u64(kvt_max_u64(checkpoint_due(file), RETRY_NS), LOOK_NS);
    uint64_t wait_ns = file->woken ? 0 : waiting ? RETRY_NS : idle_ns;
    pthread_mutex_unlock(&file->lock);
    return wait_ns;
}

/* ---- the thread ---- */

static void *keeper_run(void *arg)
{
    kvt_file *file = arg;
    pthread_mutex_lock(&file->lock);
    while (!file->stopping) {
        pthread_mutex_unlock(&file->lock);
        uint64_t due_ns = kvt_file_keep(file);
        due_ns += due_ns == 0 ? 0 : kvt_now_ns();
        struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000), .tv_nsec = (long)(due_ns % 1000000000)};
        pthread_mutex_lock(&file->lock);
        if (!file->woken && !file->stopping && due_ns != 0)
            pthread_cond_timedwait(&file->work, &file->lock, &due);
    }
    pthread_mutex_unlock(&file->lock);
    return NULL;
}

kvt_status kvt_file_keeper_start(kvt_file *file)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals of the host are none of our threads' business */
    int error = pthread_create(&file->keeper, NULL, keeper_run, file);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return kvt_fail(KVT_NOMEM, "store %s: no thread can be started (error %d)", file->path_text, error);
    pthread_setname_np(file->keeper, "kvt-file");
    file->keeper_running = true;
    return KVT_OK;
}

void kvt_file_keeper_stop(kvt_file *file)
{
    pthread_mutex_lock(&file->lock);
    file->stopping = true;
    pthread_cond_signal(&file->work);
    pthread_mutex_unlock(&file->lock);
    if (file->keeper_running)
        pthread_join(file->keeper, NULL);
    file->keeper_running = false;
}

/* ---- a clean end ---- */

/* A segment without records goes back as FREE, so that the next open need not look for any. */
static void give_back(kvt_file *file, uint32_t number)
{
    kvt_file_segment *segment = &file->segments[number];
    uint64_t generation = segment->generation;
    bool empty = segment->entry_count == 0 && segment->state == KVT_SEGMENT_PREPARED;
    pthread_mutex_unlock(&file->lock);
    kvt_status status = empty ? kvt_file_header_write(file, number, KVT_SEGMENT_MARK_FREE, generation) : KVT_OK;
    pthread_mutex_lock(&file->lock);
    if (empty && status == KVT_OK)
        kvt_file_segment_free(file, segment);
}

void kvt_file_seal_all(kvt_file *file)
{
    pthread_mutex_lock(&file->lock);
    for (uint32_t i = 0; i < file->group_count; i++) {
        kvt_file_group *group = &file->groups[i];
        group->active = false;
        if (group->open != KVT_FILE_NONE)
            kvt_file_segment_retire(file, group->open);
        if (group->prepared != KVT_FILE_NONE)
            give_back(file, group->prepared);
        group->prepared = KVT_FILE_NONE;
    }
    pthread_mutex_unlock(&file->lock);
    kvt_file_keep(file);
}
