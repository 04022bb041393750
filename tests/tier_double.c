/* SPDX-License-Identifier: Apache-2.0
 *
 * One list of records on a pretended disk, one list of operations, one thread. Plain and slow: each search is linear.
 * Its memory comes from malloc, so that the library's live bytes stay those of the library.
 */
#include "tests/tier_double.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct held_record {
    kvt_record record;
    uint32_t digest_count;
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    uint64_t id;
    struct held_record *next;
    uint8_t payload[];
} held_record;

/* Commands for one verb. */
typedef struct orders {
    bool stalled;
    uint32_t passes; /* operations that may go although stalled */
    uint64_t delay_ns;
    uint64_t seen;
    uint64_t fail_from, fail_until; /* in numbers of `done_count` */
    uint64_t done_count;
    kvt_status fail_status;
    int32_t fail_error;
} orders;

/* The disk outlives the tier. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* clock: monotonic, set by init */
    held_record *oldest;
    uint64_t next_id;
    orders verbs[2];
    uint64_t corrupt_from, corrupt_until; /* in numbers of done reads */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef struct double_tier {
    kvt_tier tier;
    kvt_tier_host host;
    uint64_t bytes_max;
    bool read_only;
    pthread_t thread;
    bool closing;
    kvt_tier_op *ops; /* oldest first */
    kvt_tier_stats stats;
} double_tier;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&disk.changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void lock(void)
{
    pthread_once(&once, init);
    pthread_mutex_lock(&disk.lock);
}

static void unlock(void)
{
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

/* ---- records; all with the lock ---- */

static uint64_t footprint(const held_record *held) { return kvt_image_bytes(held->record.stored_bytes); }

static uint64_t used_bytes(void)
{
    uint64_t bytes = 0;
    for (const held_record *held = disk.oldest; held != NULL; held = held->next)
        bytes += footprint(held);
    return bytes;
}

static held_record **find(uint64_t id)
{
    held_record **at = &disk.oldest;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static held_record *detach(held_record **at)
{
    held_record *held = *at;
    *at = held->next;
    held->next = NULL;
    return held;
}

static void append(held_record *held)
{
    *find(UINT64_MAX) = held;
    held->next = NULL;
}

static kvt_place place_of(const held_record *held) { return (kvt_place){.where = held->id, .generation = 1}; }

/* ---- eviction ---- */

/* Id of the oldest record that may go; 0: none. Without the lock: the host is asked. Only the worker removes records
 * while it runs, except drop, which makes a candidate vanish at worst. */
static uint64_t choose_victim(double_tier *t)
{
    for (uint64_t after = 0;;) {
        lock();
        held_record *held = disk.oldest;
        while (held != NULL && after != 0 && held->id != after)
            held = held->next;
        if (held != NULL && after != 0)
            held = held->next;
        if (held == NULL) {
            unlock();
            return 0;
        }
        kvt_record record = held->record;
        kvt_place place = place_of(held);
        unlock();
        if (t->host.may_evict(t->host.arg, &record.space, &record.key) &&
            t->host.on_evict(t->host.arg, &record, &place, false))
            return place.where;
        after = place.where;
    }
}

static bool make_room(double_tier *t, uint64_t bytes)
{
    for (;;) {
        lock();
        bool fits = used_bytes() + bytes <= t->bytes_max;
        unlock();
        if (fits)
            return true;
        uint64_t victim = choose_victim(t);
        if (victim == 0)
            return false;
        lock();
        held_record **at = find(victim);
        if (*at != NULL) {
            t->stats.evicted_records++;
            t->stats.evicted_bytes += (*at)->record.stored_bytes;
            free(detach(at));
        }
        unlock();
    }
}

/* ---- operations ---- */

static void write_record(double_tier *t, kvt_tier_op *op)
{
    uint64_t bytes = op->record.stored_bytes;
    if (t->read_only || kvt_image_bytes(bytes) > t->bytes_max || !make_room(t, kvt_image_bytes(bytes))) {
        op->status = t->read_only ? KVT_REJECTED : kvt_image_bytes(bytes) > t->bytes_max ? KVT_NOSPACE : KVT_REJECTED;
        return;
    }
    held_record *held = calloc(1, sizeof *held + bytes);
    if (held == NULL) {
        op->status = KVT_NOMEM;
        return;
    }
    held->record = op->record;
    held->digest_count = op->digest_count;
    memcpy(held->digests, op->digests, op->digest_count * sizeof op->digests[0]);
    memcpy(held->payload, op->image + KVT_HEADER_BYTES, bytes);
    lock();
    held->id = ++disk.next_id;
    op->place = place_of(held);
    append(held);
    t->stats.written_bytes += bytes;
    unlock();
    op->status = KVT_OK;
    t->host.on_stored(t->host.arg, &op->record, &op->place);
}

static void read_record(double_tier *t, kvt_tier_op *op, bool corrupt)
{
    lock();
    const held_record *held = *find(op->place.where);
    op->status = KVT_MISS;
    op->digest_count = 0;
    if (held != NULL && op->place.generation == 1 && kvt_key_equal(&held->record.key, &op->record.key) &&
        kvt_key_equal(&held->record.space, &op->record.space) &&
        kvt_hash128_equal(&held->record.hash, &op->record.hash) &&
        held->record.stored_bytes == op->record.stored_bytes) {
        op->status = KVT_OK;
        op->digest_count = held->digest_count;
        memcpy(op->digests, held->digests, held->digest_count * sizeof op->digests[0]);
        memcpy(op->image + KVT_HEADER_BYTES, held->payload, held->record.stored_bytes);
        t->stats.read_bytes += held->record.stored_bytes;
        if (corrupt)
            op->image[KVT_HEADER_BYTES + held->record.stored_bytes / 2] ^= 0x10;
    }
    unlock();
}

static void execute(double_tier *t, kvt_tier_op *op, bool aborted)
{
    orders *o = &disk.verbs[op->verb];
    lock();
    uint64_t number = ++o->done_count;
    bool fail = number >= o->fail_from && number < o->fail_until;
    bool corrupt = op->verb == KVT_TIER_READ && number >= disk.corrupt_from && number < disk.corrupt_until;
    kvt_status status = aborted ? KVT_IO : o->fail_status;
    int32_t error = aborted ? ECANCELED : o->fail_error;
    t->stats.errors += fail || aborted;
    unlock();
    op->system_error = 0;
    if (fail || aborted) {
        op->status = status;
        op->system_error = error;
    } else if (op->verb == KVT_TIER_WRITE)
        write_record(t, op);
    else
        read_record(t, op, corrupt);
    op->done(op);
}

/* First operation that may go now, taken out of the list; otherwise *out_wake says when to look again. With the lock.
 */
static kvt_tier_op *next_ready(double_tier *t, uint64_t *out_wake, bool *out_aborted)
{
    uint64_t now = kvt_now_ns();
    *out_wake = UINT64_MAX;
    for (kvt_tier_op **at = &t->ops; *at != NULL; at = &(*at)->next) {
        kvt_tier_op *op = *at;
        orders *o = &disk.verbs[op->verb];
        uint64_t due = op->tier_private[0] + o->delay_ns;
        bool held = o->stalled && o->passes == 0;
        if ((!held && due <= now) || t->closing) {
            *out_aborted = held;
            o->passes -= o->stalled && o->passes != 0;
            *at = op->next;
            op->next = NULL;
            return op;
        }
        if (!held)
            *out_wake = kvt_min_u64(*out_wake, due);
    }
    return NULL;
}

static void *work(void *arg)
{
    double_tier *t = arg;
    lock();
    for (;;) {
        uint64_t wake;
        bool aborted;
        kvt_tier_op *op = next_ready(t, &wake, &aborted);
        if (op != NULL) {
            unlock();
            execute(t, op, aborted);
            lock();
        } else if (t->closing) {
            break;
        } else if (wake == UINT64_MAX) {
            pthread_cond_wait(&disk.changed, &disk.lock);
        } else {
            struct timespec until = {(time_t)(wake / 1000000000), (long)(wake % 1000000000)};
            pthread_cond_timedwait(&disk.changed, &disk.lock, &until);
        }
    }
    unlock();
    return NULL;
}

/* ---- the vtable ---- */

static void double_submit(kvt_tier *tier, kvt_tier_op *list)
{
    double_tier *t = (double_tier *)tier;
    lock();
    for (kvt_tier_op *op = list, *next; op != NULL; op = next) {
        next = op->next;
        disk.verbs[op->verb].seen++;
        op->tier_private[0] = kvt_now_ns();
        kvt_tier_op **at = &t->ops;
        while (*at != NULL && (op->priority == 0 || (*at)->priority != 0))
            at = &(*at)->next;
        op->next = *at;
        *at = op;
    }
    unlock();
}

static void double_drop(kvt_tier *tier, const kvt_place *places, size_t count)
{
    lock();
    for (size_t i = 0; i < count && !((double_tier *)tier)->read_only; i++) {
        held_record **at = find(places[i].where);
        if (*at != NULL && places[i].generation == 1)
            free(detach(at));
    }
    unlock();
}

static void double_touch(kvt_tier *tier, const kvt_place *places, size_t count)
{
    (void)tier;
    lock();
    for (size_t i = 0; i < count; i++) {
        held_record **at = find(places[i].where);
        if (*at != NULL && places[i].generation == 1)
            append(detach(at));
    }
    unlock();
}

static void double_stats(kvt_tier *tier, kvt_tier_stats *out)
{
    double_tier *t = (double_tier *)tier;
    lock();
    kvt_tier_stats stats = t->stats;
    stats.present = 1;
    memcpy(stats.name, out->name, sizeof stats.name);
    snprintf(stats.detail, sizeof stats.detail, "double in memory");
    stats.capacity_bytes = t->bytes_max;
    stats.used_bytes = used_bytes();
    for (const held_record *held = disk.oldest; held != NULL; held = held->next) {
        stats.record_count++;
        stats.record_bytes += held->record.stored_bytes;
    }
    unlock();
    *out = stats;
}

static double_tier *open_tier; /* for damage; with the lock */

static void double_close(kvt_tier *tier)
{
    double_tier *t = (double_tier *)tier;
    lock();
    t->closing = true;
    unlock();
    pthread_join(t->thread, NULL);
    lock();
    open_tier = NULL;
    unlock();
    free(t);
}

static void recover(double_tier *t)
{
    for (held_record **at = &disk.oldest; *at != NULL;) {
        kvt_place place = place_of(*at);
        if (t->host.on_recovered(t->host.arg, &(*at)->record, &place))
            at = &(*at)->next;
        else
            free(detach(at));
    }
}

static kvt_status double_open(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    double_tier *t = calloc(1, sizeof *t);
    if (t == NULL)
        return KVT_NOMEM;
    t->tier.ops = &kvt_tier_double_ops;
    t->host = *host;
    t->bytes_max = options->bytes_max;
    t->read_only = options->read_only;
    lock();
    bool busy = open_tier != NULL;
    open_tier = busy ? open_tier : t;
    unlock();
    if (busy) {
        free(t);
        return kvt_fail(KVT_BUSY, "the double is open already");
    }
    recover(t);
    if (pthread_create(&t->thread, NULL, work, t) != 0) {
        open_tier = NULL;
        free(t);
        return KVT_NOMEM;
    }
    *out = &t->tier;
    return KVT_OK;
}

const kvt_tier_ops kvt_tier_double_ops = {
    .version = 1,
    .id = KVT_TIER_FILE,
    .name = "double",
    .caps = KVT_TIER_EVICTS_ITSELF | KVT_TIER_DURABLE_ACK | KVT_TIER_PERSISTS,
    .open = double_open,
    .close = double_close,
    .submit = double_submit,
    .drop = double_drop,
    .touch = double_touch,
    .stats = double_stats,
};

/* ---- commands ---- */

static void forget_everything(void)
{
    lock();
    while (disk.oldest != NULL)
        free(detach(&disk.oldest));
    disk.next_id = 0;
    memset(disk.verbs, 0, sizeof disk.verbs);
    disk.corrupt_from = disk.corrupt_until = 0;
    unlock();
}

void kvt_double_install(void)
{
    forget_everything();
    kvt_tier_ops_replace(KVT_TIER_FILE, &kvt_tier_double_ops);
}

void kvt_double_remove(void)
{
    kvt_tier_ops_replace(KVT_TIER_FILE, NULL);
    forget_everything();
}

void kvt_double_stall(kvt_tier_verb verb, bool on)
{
    lock();
    disk.verbs[verb].stalled = on;
    disk.verbs[verb].passes = 0;
    unlock();
}

void kvt_double_release(kvt_tier_verb verb, uint32_t count)
{
    lock();
    disk.verbs[verb].passes += count;
    unlock();
}

uint32_t kvt_double_held(kvt_tier_verb verb)
{
    lock();
    uint32_t count = 0;
    for (const kvt_tier_op *op = open_tier != NULL ? open_tier->ops : NULL; op != NULL; op = op->next)
        count += op->verb == verb && disk.verbs[verb].stalled;
    unlock();
    return count;
}

uint64_t kvt_double_seen(kvt_tier_verb verb)
{
    lock();
    uint64_t seen = disk.verbs[verb].seen;
    unlock();
    return seen;
}

void kvt_double_delay(kvt_tier_verb verb, uint64_t ns)
{
    lock();
    disk.verbs[verb].delay_ns = ns;
    unlock();
}

void kvt_double_fail(kvt_tier_verb verb, uint64_t nth, uint64_t count, kvt_status status, int32_t error)
{
    lock();
    orders *o = &disk.verbs[verb];
    o->fail_from = o->done_count + nth;
    o->fail_until = o->fail_from + count;
    o->fail_status = status;
    o->fail_error = error;
    unlock();
}

void kvt_double_corrupt(uint64_t nth, uint64_t count)
{
    lock();
    disk.corrupt_from = disk.verbs[KVT_TIER_READ].done_count + nth;
    disk.corrupt_until = disk.corrupt_from + count;
    unlock();
}

bool kvt_double_damage(const kvt_key *space, const kvt_key *key)
{
    lock();
    held_record **at = &disk.oldest;
    while (*at != NULL && !(kvt_key_equal(&(*at)->record.key, key) && kvt_key_equal(&(*at)->record.space, space)))
        at = &(*at)->next;
    held_record *held = *at != NULL ? detach(at) : NULL;
    double_tier *t = open_tier;
    unlock();
    if (held == NULL)
        return false;
    kvt_place place = place_of(held);
    if (t != NULL)
        (void)t->host.on_evict(t->host.arg, &held->record, &place, true);
    free(held);
    return true;
}

uint64_t kvt_double_records(void)
{
    lock();
    uint64_t count = 0;
    for (const held_record *held = disk.oldest; held != NULL; held = held->next)
        count++;
    unlock();
    return count;
}
