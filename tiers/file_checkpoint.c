/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoints: the segment table with its order of use, written beside the data and renamed into place. Nothing depends
 * on them but the order of eviction after a reopen, and the knowledge which barriers had completed.
 */
#include "tiers/file_calls.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAME_BYTES = 40, LISTED_MAX = 8 };
#define TEMPORARY_NAME "index.tmp"
#define SEQ_MAX        (UINT64_MAX / 2)

static void name_of(uint64_t seq, char name[NAME_BYTES]) { snprintf(name, NAME_BYTES, "index.%" PRIu64 ".ckpt", seq); }

static bool parse_name(const char *name, uint64_t *out_seq)
{
    char again[NAME_BYTES];
    uint64_t seq;
    if (sscanf(name, "index.%" SCNu64 ".ckpt", &seq) != 1 || seq > SEQ_MAX)
        return false;
    name_of(seq, again);
    *out_seq = seq;
    return strcmp(name, again) == 0;
}

/* The highest few of the numbers that pass, largest first. */
typedef struct seq_list {
    uint64_t seqs[LISTED_MAX];
    uint32_t count;
    uint64_t keep_from; /* with `oldest`: only numbers below are listed */
    bool oldest;
} seq_list;

static void list_one(void *arg, const char *name)
{
    seq_list *list = arg;
    uint64_t seq;
    if (!parse_name(name, &seq) || (list->oldest && seq >= list->keep_from))
        return;
    uint32_t at = 0;
    while (at < list->count && list->seqs[at] > seq)
        at++;
    if (at == LISTED_MAX)
        return;
    uint32_t last = list->count < LISTED_MAX ? list->count++ : LISTED_MAX - 1;
    for (uint32_t i = last; i > at; i--)
        list->seqs[i] = list->seqs[i - 1];
    list->seqs[at] = seq;
}

/* ---- reading ---- */

static kvt_status read_file(kvt_file *file, uint64_t seq, kvt_checkpoint *out)
{
    char name[NAME_BYTES];
    kvt_io_file handle;
    kvt_io_file_info info;
    name_of(seq, name);
    uint32_t flags = KVT_IO_FILE_BUFFERED | KVT_IO_FILE_READ_ONLY;
    kvt_status status = file->io->ops->open_file(file->io, name, flags, &handle, &info);
    if (status != KVT_OK)
        return status;
    uint8_t *block = file->checkpoint_buffer;
    status = KVT_CORRUPT;
    if (info.bytes >= KVT_BLOCK_BYTES && info.bytes <= kvt_checkpoint_bytes(file->segment_count))
        status = kvt_io_read_sync(file->io, handle, 0, block, info.bytes);
    file->io->ops->close_file(file->io, handle);
    kvt_checkpoint checkpoint;
    if (status == KVT_OK)
        status = kvt_checkpoint_decode(&file->super.uuid, info.bytes, block, &checkpoint);
    if (status == KVT_OK)
        status = checkpoint.seq == seq ? kvt_checkpoint_rows_check(&checkpoint, block + KVT_BLOCK_BYTES) : KVT_CORRUPT;
    for (uint32_t i = 0; status == KVT_OK && i < checkpoint.row_count; i++) {
        kvt_checkpoint_row row;
        status = kvt_checkpoint_row_decode(block + KVT_BLOCK_BYTES + (size_t)i * KVT_CHECKPOINT_ROW_BYTES,
                                           (uint32_t)file->super.segment_count[0], &row);
    }
    if (status == KVT_OK)
        *out = checkpoint;
    return status;
}

kvt_status kvt_file_checkpoint_load(kvt_file *file, kvt_checkpoint *out)
{
    seq_list list = {.count = 0};
    KVT_TRY(file->io->ops->list(file->io, list_one, &list));
    if (list.count != 0)
        file->checkpoint_seq = list.seqs[0]; /* valid or not, the next one is newer */
    for (uint32_t i = 0; i < list.count; i++) {
        if (read_file(file, list.seqs[i], out) == KVT_OK)
            return KVT_OK;
    }
    kvt_fail_clear();
    return KVT_MISS;
}

/* ---- writing ---- */

/* The whole file into checkpoint_buffer; its length. */
static uint64_t fill(kvt_file *file, uint64_t seq)
{
    uint8_t *block = file->checkpoint_buffer;
    uint8_t *rows = block + KVT_BLOCK_BYTES;
    kvt_checkpoint checkpoint = {.seq = seq, .epoch = file->super.epoch};
    pthread_mutex_lock(&file->lock);
    file->dirty = false;
    file->seals = 0;
    for (uint32_t i = 0; i < file->segment_count; i++) {
        const kvt_file_segment *segment = &file->segments[i];
        if (segment->state != KVT_SEGMENT_SEALED)
            continue;
        kvt_checkpoint_row row = {
            .segment = i, .barrier = segment->barrier, .generation = segment->generation, .rank = segment->touched};
        kvt_checkpoint_row_encode(&row, rows + (size_t)checkpoint.row_count++ * KVT_CHECKPOINT_ROW_BYTES);
    }
    pthread_mutex_unlock(&file->lock);
    uint64_t bytes = kvt_checkpoint_bytes(checkpoint.row_count);
    uint64_t used = (uint64_t)checkpoint.row_count * KVT_CHECKPOINT_ROW_BYTES;
    memset(rows + used, 0, bytes - KVT_BLOCK_BYTES - used);
    checkpoint.rows_crc = kvt_crc32c(0, rows, bytes - KVT_BLOCK_BYTES);
    kvt_checkpoint_encode(&file->super.uuid, &checkpoint, block);
    return bytes;
}

static kvt_status write_temporary(kvt_file *file, uint64_t bytes)
{
    kvt_io_file handle;
    uint32_t flags = KVT_IO_FILE_CREATE | KVT_IO_FILE_BUFFERED;
    kvt_status status = file->io->ops->open_file(file->io, TEMPORARY_NAME, flags, &handle, NULL);
    if (status != KVT_OK)
        return status;
    status = file->io->ops->truncate(file->io, handle, 0);
    if (status == KVT_OK)
        status = kvt_io_write_sync(file->io, handle, 0, file->checkpoint_buffer, bytes);
    if (status == KVT_OK)
        status = kvt_io_sync(file->io, handle);
    file->io->ops->close_file(file->io, handle);
    return status;
}

static void remove_old(kvt_file *file, uint64_t keep_from)
{
    seq_list list = {.keep_from = keep_from, .oldest = true};
    if (file->io->ops->list(file->io, list_one, &list) != KVT_OK)
        return;
    for (uint32_t i = 0; i < list.count; i++) {
        char name[NAME_BYTES];
        name_of(list.seqs[i], name);
        (void)file->io->ops->unlink(file->io, name);
    }
}

kvt_status kvt_file_checkpoint_write(kvt_file *file)
{
    char name[NAME_BYTES];
    uint64_t before = file->checkpoint_seq;
    uint64_t seq = before + 1;
    uint64_t bytes = fill(file, seq);
    name_of(seq, name);
    kvt_status status = write_temporary(file, bytes);
    if (status == KVT_OK)
        status = file->io->ops->rename(file->io, TEMPORARY_NAME, name);
    if (status == KVT_OK)
        status = file->io->ops->sync_directory(file->io);
    if (status != KVT_OK)
        return status;
    file->checkpoint_seq = seq;
    remove_old(file, before);
    return KVT_OK;
}
