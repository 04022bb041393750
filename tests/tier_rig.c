/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tier_rig.h"

#include "tests/tier_double.h"
#include "tiers/tiers_int.h"

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

const rig_subject rig_host = {"host", KVT_TIER_HOST, false};
const rig_subject rig_file = {"file", KVT_TIER_FILE, false};
const rig_subject rig_rocks = {"rocks", KVT_TIER_ROCKS, false};
const rig_subject rig_double = {"double", KVT_TIER_FILE, true};

/* ---- the host ---- */

/* Number of a record; RIG_RECORDS_MAX when it is none of ours or was told with other fields than it was written with.
 */
static uint32_t id_of(const rig *r, const kvt_record *record)
{
    uint64_t id = kvt_load_le64(record->key.bytes);
    if (id >= RIG_RECORDS_MAX)
        return RIG_RECORDS_MAX;
    return memcmp(&r->records[id], record, sizeof *record) == 0 ? (uint32_t)id : RIG_RECORDS_MAX;
}

static bool on_recovered(void *arg, const kvt_record *record, const kvt_place *place)
{
    rig *r = arg;
    pthread_mutex_lock(&r->lock);
    uint32_t id = id_of(r, record);
    bool take = id < RIG_RECORDS_MAX && r->recovered < r->recover_max;
    if (take) {
        r->recovered_ids[r->recovered++] = id;
        r->states[id] = RIG_HELD;
        r->places[id] = *place;
    }
    r->broken = r->broken || id >= RIG_RECORDS_MAX || (place->where | place->generation) == 0;
    pthread_mutex_unlock(&r->lock);
    return take;
}

static void on_stored(void *arg, const kvt_record *record, const kvt_place *place)
{
    rig *r = arg;
    pthread_mutex_lock(&r->lock);
    uint32_t id = id_of(r, record);
    if (id < RIG_RECORDS_MAX) {
        r->states[id] = RIG_HELD;
        r->places[id] = *place;
    }
    r->told_stored++;
    r->broken = r->broken || id >= RIG_RECORDS_MAX || (place->where | place->generation) == 0;
    pthread_mutex_unlock(&r->lock);
}

static bool on_evict(void *arg, const kvt_record *record, const kvt_place *place, bool damaged)
{
    rig *r = arg;
    pthread_mutex_lock(&r->lock);
    uint64_t id = kvt_load_le64(record->key.bytes);
    bool sane = id < RIG_RECORDS_MAX && r->states[id] == RIG_HELD &&
                memcmp(&r->places[id], place, sizeof *place) == 0 &&
                kvt_key_equal(&r->records[id].space, &record->space) &&
                kvt_key_equal(&r->records[id].key, &record->key) && r->records[id].stored_bytes == record->stored_bytes;
    bool go = sane && (damaged || !(r->pinned[id] || r->pin_all));
    if (go)
        r->states[id] = RIG_EVICTED;
    r->told_evicted += go;
    r->broken = r->broken || !sane;
    pthread_mutex_unlock(&r->lock);
    return go;
}

static bool may_evict(void *arg, const kvt_key *space, const kvt_key *key)
{
    rig *r = arg;
    (void)space;
    uint64_t id = kvt_load_le64(key->bytes);
    pthread_mutex_lock(&r->lock);
    bool may = id < RIG_RECORDS_MAX && !r->pinned[id] && !r->pin_all;
    pthread_mutex_unlock(&r->lock);
    return may;
}

static uint64_t clock_ns(void *arg)
{
    (void)arg;
    return kvt_now_ns();
}

static void log_line(void *arg, kvt_log_level level, const char *message)
{
    if (level <= KVT_LOG_WARN)
        fprintf(stderr, "%s: %s\n", ((rig *)arg)->subject->name, message);
}

/* ---- the rig ---- */

bool rig_prepare(rig *r, const rig_subject *subject, uint64_t bytes_max, uint64_t blob_bytes_max)
{
    if (subject->is_double)
        kvt_double_install();
    if (kvt_tier_ops_by_id(subject->id) == NULL) {
        fprintf(stderr, "skipped: tier %s is not built in\n", subject->name);
        return false;
    }
    memset(r, 0, sizeof *r);
    r->subject = subject;
    r->recover_max = RIG_RECORDS_MAX;
    r->path = kvt_test_tmpdir();
    r->host = (kvt_tier_host){r, on_recovered, on_stored, on_evict, may_evict, clock_ns, {log_line, r}};
    r->options = (kvt_tier_options){.path = r->path, .bytes_max = bytes_max, .blob_bytes_max = blob_bytes_max};
    if (bytes_max == 0)
        r->options.bytes_max = 256 << 20;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    uint64_t pool_bytes = kvt_max_u64(RIG_POOL_BYTES, 2 * kvt_image_bytes(blob_bytes_max));
    cr_assert_eq(kvt_pool_create(pool_bytes, 2, NULL, &r->pool), KVT_OK);
    r->options.pool = kvt_pool_base(r->pool, &r->options.pool_bytes);
    return true;
}

bool rig_init(rig *r, const rig_subject *subject, uint64_t bytes_max, uint64_t blob_bytes_max)
{
    if (!rig_prepare(r, subject, bytes_max, blob_bytes_max))
        return false;
    kvt_status status = rig_open(r);
    if (status == KVT_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s\n", kvt_last_error());
        rig_fini(r);
        return false;
    }
    cr_assert_eq(status, KVT_OK, "tier %s: %s", subject->name, kvt_last_error());
    return true;
}

void rig_fini(rig *r)
{
    rig_close(r);
    cr_assert_not(r->broken, "tier %s told of a record that was never stored so, or at a wrong place",
                  r->subject->name);
    cr_assert_eq(kvt_pool_extent_count(r->pool), 0);
    cr_assert_eq(kvt_rocks_live_bytes(), 0, "the RocksDB module holds heap after its close");
    kvt_pool_destroy(r->pool);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    kvt_test_rmtree(r->path);
    kvt_free(r->path);
    if (r->subject->is_double)
        kvt_double_remove();
}

kvt_status rig_open(rig *r)
{
    r->recovered = 0;
    return kvt_tier_open(r->subject->id, &r->options, &r->host, &r->tier);
}

void rig_close(rig *r)
{
    kvt_tier_close(r->tier);
    r->tier = NULL;
}

/* ---- records and operations ---- */

void rig_record(kvt_record *record, uint32_t id, uint64_t bytes)
{
    memset(record, 0, sizeof *record); /* compared byte by byte */
    kvt_test_fill(&record->space, sizeof record->space, 7);
    kvt_test_fill(&record->key, sizeof record->key, id);
    kvt_store_le64(record->key.bytes, id);
    if (id % 2 == 1)
        kvt_test_fill(&record->parent, sizeof record->parent, id + 1);
    record->token_fp = id * UINT64_C(0x9e3779b97f4a7c15);
    record->raw_bytes = bytes < 5000 ? bytes : bytes - 1000;
    record->stored_bytes = bytes;
    record->codec = id % 2;
    record->flags = KVT_RECORD_TOKENS | 3u << KVT_RECORD_GROUPS_SHIFT;
    record->depth = id;
    record->cost_us = id * 3;
}

static void done(kvt_tier_op *op)
{
    rig_op *o = (rig_op *)(void *)op;
    rig *r = o->rig;
    void (*after)(rig_op *) = o->after;
    if (after != NULL)
        after(o);
    pthread_mutex_lock(&r->lock);
    o->done_count++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static rig_op *op_new(rig *r, kvt_tier_verb verb, uint32_t id, uint64_t bytes)
{
    rig_op *o = kvt_alloc(sizeof *o);
    o->rig = r;
    o->id = id;
    o->op.verb = verb;
    o->op.done = done;
    o->op.status = KVT_POISONED;
    o->op.image = kvt_pool_take(r->pool, kvt_image_bytes(bytes));
    cr_assert_not_null(o->op.image, "the rig's pool is too small");
    memset(o->op.image, verb == KVT_TIER_WRITE ? 0 : 0xa5, kvt_image_bytes(bytes));
    return o;
}

void rig_expect(rig *r, uint32_t id, uint64_t bytes)
{
    uint64_t digests[KVT_RECORD_FRAMES_MAX];
    uint8_t *payload = kvt_alloc(bytes);
    kvt_test_fill(payload, bytes, id);
    kvt_frame_digests(payload, bytes, digests);
    rig_record(&r->records[id], id, bytes);
    r->records[id].hash = kvt_payload_hash(digests, kvt_frame_count(bytes));
    kvt_free(payload);
}

rig_op *rig_write_new(rig *r, uint32_t id, uint64_t bytes)
{
    rig_op *o = op_new(r, KVT_TIER_WRITE, id, bytes);
    kvt_record *record = &o->op.record;
    rig_record(record, id, bytes);
    kvt_test_fill(o->op.image + KVT_HEADER_BYTES, bytes, id);
    kvt_frame_digests(o->op.image + KVT_HEADER_BYTES, bytes, o->op.digests);
    o->op.digest_count = kvt_frame_count(bytes);
    record->hash = kvt_payload_hash(o->op.digests, o->op.digest_count);
    pthread_mutex_lock(&r->lock);
    r->records[id] = *record;
    pthread_mutex_unlock(&r->lock);
    return o;
}

rig_op *rig_read_new(rig *r, uint32_t id)
{
    pthread_mutex_lock(&r->lock);
    kvt_record record = r->records[id];
    kvt_place place = r->places[id];
    pthread_mutex_unlock(&r->lock);
    rig_op *o = op_new(r, KVT_TIER_READ, id, record.stored_bytes);
    o->op.record = record;
    o->op.place = place;
    return o;
}

void rig_submit(rig_op *o) { kvt_tier_submit(o->rig->tier, &o->op); }

void rig_wait(rig_op *o)
{
    pthread_mutex_lock(&o->rig->lock);
    while (o->done_count == 0)
        pthread_cond_wait(&o->rig->changed, &o->rig->lock);
    pthread_mutex_unlock(&o->rig->lock);
}

void rig_free(rig_op *o)
{
    cr_assert_eq(o->done_count, 1, "an operation was done %u times", o->done_count);
    kvt_pool_give(o->rig->pool, o->op.image);
    kvt_free(o);
}

bool rig_payload_is(const rig_op *o, uint32_t id)
{
    uint64_t bytes = o->op.record.stored_bytes;
    uint8_t *expected = kvt_alloc(bytes);
    kvt_test_fill(expected, bytes, id);
    bool same = memcmp(expected, o->op.image + KVT_HEADER_BYTES, bytes) == 0;
    kvt_free(expected);
    return same;
}

kvt_status rig_put(rig *r, uint32_t id, uint64_t bytes)
{
    rig_op *o = rig_write_new(r, id, bytes);
    rig_submit(o);
    rig_wait(o);
    kvt_status status = o->op.status;
    if (status == KVT_OK)
        cr_assert_neq(o->op.place.where | o->op.place.generation, 0);
    rig_free(o);
    return status;
}

kvt_status rig_get(rig *r, uint32_t id)
{
    rig_op *o = rig_read_new(r, id);
    rig_submit(o);
    rig_wait(o);
    kvt_status status = o->op.status;
    if (status == KVT_OK) {
        status = rig_payload_is(o, id) ? KVT_OK : KVT_CORRUPT;
        kvt_hash128 hash = kvt_payload_hash(o->op.digests, o->op.digest_count);
        if (o->op.digest_count != 0 && !kvt_hash128_equal(&hash, &o->op.record.hash))
            status = KVT_CORRUPT;
    }
    rig_free(o);
    return status;
}

void rig_drop(rig *r, uint32_t id)
{
    pthread_mutex_lock(&r->lock);
    kvt_place place = r->places[id];
    r->states[id] = RIG_DROPPED;
    pthread_mutex_unlock(&r->lock);
    kvt_tier_drop(r->tier, &place, 1);
}

rig_state rig_state_of(rig *r, uint32_t id)
{
    pthread_mutex_lock(&r->lock);
    rig_state state = r->states[id];
    pthread_mutex_unlock(&r->lock);
    return state;
}

/* ---- the disk ---- */

static uint64_t disk_sum; /* nftw passes no argument */

static int add_file(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)path, (void)walk;
    disk_sum += type == FTW_F ? (uint64_t)info->st_blocks * 512 : 0;
    return 0;
}

uint64_t rig_disk_bytes(const rig *r)
{
    disk_sum = 0;
    nftw(r->path, add_file, 16, FTW_PHYS);
    return disk_sum;
}
