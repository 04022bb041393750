/* SPDX-License-Identifier: Apache-2.0
 *
 * See file_stage.h. Rows are found by linear search from a hint, since tests ask for what they wrote: row number =
 * record number modulo the table, then onwards.
 */
#include "tests/file_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the host ---- */

static kvt_key key_of(uint64_t number)
{
    kvt_key key;
    uint64_t state = number ^ UINT64_C(0x6b65790000000000);
    kvt_store_le64(key.bytes, number);
    kvt_store_le64(key.bytes + 8, kvt_test_random(&state));
    return key;
}

/* The table is open addressed by the number in the key's first bytes. */
static stage_row *row_of(file_stage *stage, const kvt_record *record, bool add)
{
    uint64_t number = kvt_load_le64(record->key.bytes);
    for (uint64_t i = 0; i < stage->row_slots; i++) {
        stage_row *row = &stage->rows[(number + i) % stage->row_slots];
        if (row->record.stored_bytes == 0) {
            row->record = add ? *record : row->record;
            return add ? row : NULL;
        }
        if (kvt_key_equal(&row->record.key, &record->key) && kvt_key_equal(&row->record.space, &record->space))
            return row;
    }
    return NULL;
}

static void put_row(file_stage *stage, const kvt_record *record, const kvt_place *place)
{
    stage_row *row = row_of(stage, record, true);
    row->record = *record;
    row->place = *place;
    row->order = ++stage->orders;
    stage->row_count += !row->there;
    row->there = true;
}

static bool on_recovered(void *arg, const kvt_record *record, const kvt_place *place)
{
    file_stage *stage = arg;
    pthread_mutex_lock(&stage->lock);
    bool room = stage->row_count < stage->row_max;
    if (room) {
        put_row(stage, record, place);
        stage->recovered++;
    }
    pthread_mutex_unlock(&stage->lock);
    return room;
}

static void on_stored(void *arg, const kvt_record *record, const kvt_place *place)
{
    file_stage *stage = arg;
    pthread_mutex_lock(&stage->lock);
    put_row(stage, record, place);
    stage->stored++;
    pthread_mutex_unlock(&stage->lock);
}

static bool on_evict(void *arg, const kvt_record *record, const kvt_place *place, bool damaged)
{
    file_stage *stage = arg;
    pthread_mutex_lock(&stage->lock);
    stage_row *row = row_of(stage, record, false);
    bool known = row != NULL && row->there && memcmp(&row->place, place, sizeof *place) == 0;
    bool pinned = !damaged && stage->pinned != NULL && stage->pinned(&record->key);
    if (known && !pinned) {
        row->there = false;
        stage->row_count--;
    }
    stage->evicted += !pinned;
    stage->damaged += damaged;
    pthread_mutex_unlock(&stage->lock);
    return !pinned;
}

static bool may_evict(void *arg, const kvt_key *space, const kvt_key *key)
{
    file_stage *stage = arg;
    (void)space;
    return stage->may_evict && (stage->pinned == NULL || !stage->pinned(key));
}

static uint64_t clock_ns(void *arg)
{
    (void)arg;
    return kvt_now_ns();
}

static void log_line(void *arg, kvt_log_level level, const char *message)
{
    file_stage *stage = arg;
    (void)level;
    snprintf(stage->last_log, sizeof stage->last_log, "%s", message);
}

/* ---- life ---- */

void file_stage_resize(file_stage *stage, uint32_t row_slots)
{
    free(stage->rows);
    stage->rows = calloc(row_slots, sizeof *stage->rows);
    cr_assert_not_null(stage->rows);
    stage->row_slots = row_slots;
    stage->row_max = row_slots / 2;
}

static void init(file_stage *stage, uint64_t bytes_max)
{
    *stage = (file_stage){.may_evict = true};
    file_stage_resize(stage, FILE_STAGE_ROWS);
    pthread_mutex_init(&stage->lock, NULL);
    stage->host = (kvt_tier_host){.arg = stage,
                                  .on_recovered = on_recovered,
                                  .on_stored = on_stored,
                                  .on_evict = on_evict,
                                  .may_evict = may_evict,
                                  .clock_ns = clock_ns,
                                  .log = {log_line, stage}};
    stage->options = (kvt_tier_options){.bytes_max = bytes_max, .segment_bytes = 1 << 20, .io = KVT_IO_POOL};
}

void file_stage_init_on(file_stage *stage, kvt_sim_disk *disk, uint64_t bytes_max)
{
    init(stage, bytes_max);
    stage->disk = disk;
    stage->options.path = "simulated";
    stage->setup =
        (kvt_file_setup){.io_ops = &kvt_io_sim_ops, .sim = disk, .no_keeper = true, .durability = KVT_DURABILITY_SEAL};
}

void file_stage_init(file_stage *stage, bool simulated, uint64_t bytes_max)
{
    if (simulated) {
        file_stage_init_on(stage, kvt_sim_create(1), bytes_max);
    } else {
        init(stage, bytes_max);
        stage->options.path = kvt_test_tmpdir();
    }
}

kvt_status file_stage_open(file_stage *stage)
{
    memset(stage->rows, 0, stage->row_slots * sizeof *stage->rows);
    stage->row_count = 0;
    stage->stored = stage->evicted = stage->damaged = stage->recovered = 0;
    return kvt_file_open(&stage->options, &stage->host, &stage->setup, &stage->tier);
}

void file_stage_close(file_stage *stage)
{
    kvt_tier_close(stage->tier);
    stage->tier = NULL;
}

void file_stage_fini(file_stage *stage)
{
    file_stage_close(stage);
    pthread_mutex_destroy(&stage->lock);
    free(stage->rows);
    if (stage->disk != NULL) {
        kvt_sim_destroy(stage->disk);
        return;
    }
    kvt_test_rmtree(stage->options.path);
    kvt_free((char *)stage->options.path);
}

void file_stage_keep(file_stage *stage)
{
    for (int i = 0; i < 100 && stage->setup.no_keeper && kvt_file_keep((kvt_file *)stage->tier) == 0; i++)
        ;
}

/* ---- operations ---- */

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waiter;

static void wake(kvt_tier_op *op)
{
    waiter *w = op->arg;
    pthread_mutex_lock(&w->lock);
    cr_assert(!w->done, "an operation ended twice");
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void file_stage_run(file_stage *stage, kvt_tier_op *op)
{
    waiter w = {.done = false};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.changed, NULL);
    op->done = wake;
    op->arg = &w;
    kvt_tier_submit(stage->tier, op);
    for (int i = 0; i < 1000 && stage->setup.no_keeper && !w.done; i++)
        file_stage_keep(stage);
    pthread_mutex_lock(&w.lock);
    cr_assert(w.done || !stage->setup.no_keeper, "an operation does not end");
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.changed);
    pthread_mutex_destroy(&w.lock);
}

static void count_one(kvt_tier_op *op) { (*(_Atomic int *)op->arg)++; }

void file_stage_run_list(file_stage *stage, kvt_tier_op *list, int count, _Atomic int *ended)
{
    for (kvt_tier_op *op = list; op != NULL; op = op->next) {
        op->done = count_one;
        op->arg = ended;
    }
    *ended = 0;
    kvt_tier_submit(stage->tier, list);
    for (int i = 0; i < 20000 && *ended < count; i++) {
        file_stage_keep(stage);
        if (!stage->setup.no_keeper)
            usleep(1000);
    }
    cr_assert_eq(*ended, count, "%d of %d operations ended", *ended, count);
}

uint8_t *file_stage_make(uint64_t number, uint64_t bytes, kvt_tier_op *op)
{
    uint8_t *image = kvt_alloc_aligned(KVT_BLOCK_BYTES, kvt_image_bytes(bytes));
    cr_assert_not_null(image);
    memset(image, 0xee, KVT_HEADER_BYTES);
    memset(image + kvt_image_bytes(bytes) - KVT_BLOCK_BYTES, 0, KVT_BLOCK_BYTES);
    kvt_test_fill(image + KVT_HEADER_BYTES, bytes, number);
    *op = (kvt_tier_op){.verb = KVT_TIER_WRITE, .image = image};
    op->record = (kvt_record){.key = key_of(number),
                              .parent = key_of(number + 1),
                              .token_fp = number * 3,
                              .raw_bytes = kvt_min_u64(bytes, KVT_BLOB_BYTES_MAX),
                              .stored_bytes = bytes,
                              .codec = (uint32_t)(number % 2),
                              .flags = 1,
                              .depth = (uint32_t)number,
                              .cost_us = 7};
    op->record.space.bytes[0] = (uint8_t)(number % 3);
    op->record.space.bytes[15] = 1;
    op->digest_count = kvt_frame_count(bytes);
    kvt_frame_digests(image + KVT_HEADER_BYTES, bytes, op->digests);
    op->record.hash = kvt_payload_hash(op->digests, op->digest_count);
    return image;
}

kvt_status file_stage_write(file_stage *stage, uint64_t number, uint64_t bytes)
{
    kvt_tier_op op;
    uint8_t *image = file_stage_make(number, bytes, &op);
    file_stage_run(stage, &op);
    kvt_free(image);
    return op.status;
}

kvt_status file_stage_read_place(file_stage *stage, const kvt_record *record, const kvt_place *place, uint64_t number)
{
    uint64_t bytes = record->stored_bytes;
    uint8_t *image = kvt_alloc_aligned(KVT_BLOCK_BYTES, kvt_image_bytes(bytes));
    uint8_t *expected = kvt_alloc(bytes);
    memset(image, 0xaa, kvt_image_bytes(bytes));
    kvt_tier_op op = {.verb = KVT_TIER_READ, .record = *record, .place = *place, .image = image};
    file_stage_run(stage, &op);
    kvt_status status = op.status;
    if (status == KVT_OK) {
        uint64_t digests[KVT_RECORD_FRAMES_MAX];
        kvt_hash128 told = kvt_payload_hash(op.digests, op.digest_count);
        cr_assert(kvt_hash128_equal(&told, &record->hash), "the digests are not those of the record");
        kvt_frame_digests(image + KVT_HEADER_BYTES, bytes, digests);
        if (memcmp(digests, op.digests, op.digest_count * sizeof digests[0]) != 0) {
            status = KVT_CORRUPT;
        } else {
            kvt_test_fill(expected, bytes, number);
            cr_assert(memcmp(image + KVT_HEADER_BYTES, expected, bytes) == 0, "wrong bytes passed the check");
        }
    }
    kvt_free(expected);
    kvt_free(image);
    return status;
}

stage_row *file_stage_find(file_stage *stage, uint64_t number)
{
    kvt_record record = {.key = key_of(number)};
    record.space.bytes[0] = (uint8_t)(number % 3);
    record.space.bytes[15] = 1;
    pthread_mutex_lock(&stage->lock);
    stage_row *row = row_of(stage, &record, false);
    pthread_mutex_unlock(&stage->lock);
    return row != NULL && row->there ? row : NULL;
}

void file_stage_forget(file_stage *stage, uint64_t number)
{
    stage_row *row = file_stage_find(stage, number);
    if (row == NULL)
        return;
    row->there = false;
    stage->row_count--;
}

kvt_status file_stage_erase(file_stage *stage, uint64_t first, uint64_t end, uint64_t step)
{
    kvt_place *places = calloc(stage->row_slots, sizeof *places);
    size_t count = 0;
    for (uint64_t i = first; i < end; i += step) {
        const stage_row *row = file_stage_find(stage, i);
        if (row == NULL)
            continue;
        places[count++] = row->place;
        file_stage_forget(stage, i);
    }
    kvt_status status = kvt_tier_erase(stage->tier, places, count);
    free(places);
    return status;
}

kvt_status file_stage_read(file_stage *stage, uint64_t number, uint64_t bytes)
{
    const stage_row *row = file_stage_find(stage, number);
    if (row == NULL)
        return KVT_MISS;
    cr_assert_eq(row->record.stored_bytes, bytes);
    cr_assert_eq(row->record.depth, (uint32_t)number);
    kvt_record record = row->record;
    kvt_place place = row->place;
    return file_stage_read_place(stage, &record, &place, number);
}

uint32_t file_stage_count(file_stage *stage)
{
    pthread_mutex_lock(&stage->lock);
    uint32_t count = stage->row_count;
    pthread_mutex_unlock(&stage->lock);
    return count;
}
