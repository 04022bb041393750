/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated disk: sparse images of files, what of them is durable, names with their history, faults and crashes.
 * See io_sim.h. Plain malloc throughout, see there; running out of it is reported like a full disk.
 */
#include "tiers/io_sim_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MILLION = 1000000 };

/* ---- chance ---- */

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool sim_chance(kvt_sim_disk *disk, uint32_t percent)
{
    return percent != 0 && sim_random(&disk->random) % 100 < percent;
}

static bool hit(kvt_sim_disk *disk, uint32_t in_a_million)
{
    return in_a_million != 0 && sim_random(&disk->random) % MILLION < in_a_million;
}

static kvt_sim_fault draw(kvt_sim_disk *disk, kvt_sim_verb verb)
{
    const kvt_sim_rates *r = &disk->rates;
    bool moves = verb == KVT_SIM_READ || verb == KVT_SIM_WRITE;
    bool reads = verb == KVT_SIM_READ;
    if (hit(disk, verb == KVT_SIM_READ    ? r->read_error
                  : verb == KVT_SIM_WRITE ? r->write_error
                  : verb == KVT_SIM_SYNC  ? r->sync_error
                                          : 0))
        return KVT_SIM_EIO;
    if (verb == KVT_SIM_ALLOCATE && hit(disk, r->allocate_full))
        return KVT_SIM_NOSPACE;
    if (!moves)
        return KVT_SIM_NONE;
    if (hit(disk, r->short_count))
        return KVT_SIM_SHORT;
    if (hit(disk, r->again))
        return KVT_SIM_AGAIN;
    if (hit(disk, reads ? r->read_misdirect : r->write_misdirect))
        return KVT_SIM_MISDIRECT;
    if (hit(disk, reads ? r->read_flip : r->write_flip))
        return KVT_SIM_FLIP;
    return !reads && hit(disk, r->write_lost) ? KVT_SIM_LOST : KVT_SIM_NONE;
}

kvt_sim_fault sim_fault(kvt_sim_disk *disk, const kvt_sim_event *event)
{
    kvt_sim_fault fault = disk->hook != NULL ? disk->hook(disk->hook_arg, event) : KVT_SIM_NONE;
    if (fault == KVT_SIM_NONE)
        fault = draw(disk, event->verb);
    disk->stats.faults += fault != KVT_SIM_NONE;
    return fault;
}

/* ---- images ---- */

static uint8_t *chunk_of(sim_image *image, uint64_t i)
{
    if (i >= image->chunk_count) {
        uint64_t count = kvt_max_u64(i + 1, image->chunk_count * 2);
        uint8_t **chunks = realloc(image->chunks, count * sizeof *chunks);
        if (chunks == NULL)
            return NULL;
        memset(chunks + image->chunk_count, 0, (count - image->chunk_count) * sizeof *chunks);
        image->chunks = chunks;
        image->chunk_count = count;
    }
    if (image->chunks[i] == NULL)
        image->chunks[i] = calloc(1, SIM_CHUNK_BYTES);
    return image->chunks[i];
}

static uint64_t span(uint64_t offset, uint64_t bytes)
{
    return kvt_min_u64(bytes, SIM_CHUNK_BYTES - offset % SIM_CHUNK_BYTES);
}

bool sim_image_write(sim_image *image, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    while (bytes != 0) {
        uint64_t part = span(offset, bytes);
        uint8_t *chunk = chunk_of(image, offset / SIM_CHUNK_BYTES);
        if (chunk == NULL)
            return false;
        memcpy(chunk + offset % SIM_CHUNK_BYTES, data, part);
        offset += part;
        data += part;
        bytes -= part;
    }
    return true;
}

void sim_image_read(const sim_image *image, uint64_t offset, uint8_t *data, uint64_t bytes)
{
    while (bytes != 0) {
        uint64_t part = span(offset, bytes), i = offset / SIM_CHUNK_BYTES;
        if (i < image->chunk_count && image->chunks[i] != NULL)
            memcpy(data, image->chunks[i] + offset % SIM_CHUNK_BYTES, part);
        else
            memset(data, 0, part);
        offset += part;
        data += part;
        bytes -= part;
    }
}

/* What lies behind the end reads as zeros when the file grows again. */
void sim_image_resize(sim_image *image, uint64_t bytes)
{
    uint64_t first = (bytes + SIM_CHUNK_BYTES - 1) / SIM_CHUNK_BYTES;
    for (uint64_t i = first; i < image->chunk_count; i++) {
        free(image->chunks[i]);
        image->chunks[i] = NULL;
    }
    uint64_t inside = bytes % SIM_CHUNK_BYTES;
    if (inside != 0 && first <= image->chunk_count && image->chunks[first - 1] != NULL)
        memset(image->chunks[first - 1] + inside, 0, SIM_CHUNK_BYTES - inside);
    image->bytes = bytes;
}

static bool image_copy(sim_image *to, const sim_image *from)
{
    sim_image_resize(to, 0);
    to->bytes = from->bytes;
    for (uint64_t i = 0; i < from->chunk_count; i++) {
        if (from->chunks[i] != NULL && !sim_image_write(to, i * SIM_CHUNK_BYTES, from->chunks[i], SIM_CHUNK_BYTES))
            return false;
    }
    return true;
}

static void image_free(sim_image *image)
{
    sim_image_resize(image, 0);
    free(image->chunks);
}

/* ---- files ---- */

sim_file *sim_file_create(kvt_sim_disk *disk)
{
    sim_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return NULL;
    file->id = ++disk->file_ids;
    file->next = disk->files;
    disk->files = file;
    return file;
}

static void drop_pending(kvt_sim_disk *disk, sim_file *file)
{
    while (file->pending != NULL) {
        sim_write *write = file->pending;
        file->pending = write->next;
        free(write);
        disk->stats.pending_writes--;
    }
    file->pending_last = NULL;
}

static void file_free(kvt_sim_disk *disk, sim_file *file)
{
    drop_pending(disk, file);
    image_free(&file->now);
    image_free(&file->durable);
    free(file);
}

static bool append_pending(kvt_sim_disk *disk, sim_file *file, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    sim_write *write = malloc(sizeof *write + bytes);
    if (write == NULL)
        return false;
    *write = (sim_write){.order = disk->order++, .offset = offset, .bytes = bytes};
    memcpy(write->data, data, bytes);
    if (file->pending_last == NULL)
        file->pending = write;
    else
        file->pending_last->next = write;
    file->pending_last = write;
    disk->stats.pending_writes++;
    return true;
}

bool sim_file_put(kvt_sim_disk *disk, sim_file *file, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    if (bytes == 0)
        return true;
    if (!sim_image_write(&file->now, offset, data, bytes) || !append_pending(disk, file, offset, data, bytes))
        return false;
    file->now.bytes = kvt_max_u64(file->now.bytes, offset + bytes);
    return true;
}

void sim_file_sync(kvt_sim_disk *disk, sim_file *file, uint64_t order, bool failed)
{
    sim_write **link = &file->pending;
    file->pending_last = NULL;
    while (*link != NULL) {
        sim_write *write = *link;
        bool covered = write->order < order && !write->orphan;
        if (covered && failed)
            write->orphan = true;
        if (covered && !failed && sim_image_write(&file->durable, write->offset, write->data, write->bytes)) {
            *link = write->next;
            free(write);
            disk->stats.pending_writes--;
            continue;
        }
        file->pending_last = write;
        link = &write->next;
    }
    if (!failed)
        file->durable.bytes = file->now.bytes;
}

/* Shrinking is durable at once, and takes what is pending behind the new end with it. */
void sim_file_resize(sim_file *file, uint64_t bytes)
{
    if (bytes < file->now.bytes) {
        for (sim_write *write = file->pending; write != NULL; write = write->next) {
            uint64_t end = kvt_min_u64(write->offset + write->bytes, bytes);
            write->bytes = end > write->offset ? end - write->offset : 0;
        }
        sim_image_resize(&file->durable, kvt_min_u64(bytes, file->durable.bytes));
    }
    sim_image_resize(&file->now, bytes);
}

uint64_t sim_disk_bytes(const kvt_sim_disk *disk)
{
    uint64_t bytes = 0;
    for (const sim_file *file = disk->files; file != NULL; file = file->next)
        bytes += file->now.bytes;
    return bytes;
}

/* ---- names ---- */

static sim_name *name_of(sim_names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i].name, name) == 0)
            return &names->names[i];
    }
    return NULL;
}

sim_file *sim_find(const kvt_sim_disk *disk, const char *name)
{
    const sim_name *found = name_of(disk->names, name);
    return found == NULL ? NULL : found->file;
}

static sim_names *names_next(kvt_sim_disk *disk)
{
    sim_names *names = malloc(sizeof *names);
    if (names == NULL)
        return NULL;
    *names = *disk->names;
    names->older = disk->names;
    disk->names = names;
    return names;
}

int sim_names_set(kvt_sim_disk *disk, const char *name, sim_file *file)
{
    sim_name *old = name_of(disk->names, name);
    if (strlen(name) >= SIM_NAME_BYTES || (old == NULL && disk->names->count == SIM_NAMES_MAX))
        return ENOSPC;
    if (old == NULL && file == NULL)
        return ENOENT;
    sim_names *names = names_next(disk);
    if (names == NULL)
        return ENOSPC;
    sim_name *entry = name_of(names, name);
    if (file == NULL) {
        *entry = names->names[--names->count];
        return 0;
    }
    if (entry == NULL)
        entry = &names->names[names->count++];
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->file = file;
    return 0;
}

int sim_names_move(kvt_sim_disk *disk, const char *from, const char *to)
{
    sim_file *file = sim_find(disk, from);
    if (file == NULL)
        return ENOENT;
    int error = strcmp(from, to) == 0 ? 0 : sim_names_set(disk, to, file);
    if (error != 0 || strcmp(from, to) == 0)
        return error;
    sim_name *old = name_of(disk->names, from); /* in the same state: a rename is atomic */
    *old = disk->names->names[--disk->names->count];
    return 0;
}

static void free_older(sim_names *names)
{
    sim_names *older = names->older;
    names->older = NULL;
    while (older != NULL) {
        sim_names *next = older->older;
        free(older);
        older = next;
    }
}

static bool is_named(const sim_names *names, const sim_file *file)
{
    for (; names != NULL; names = names->older) {
        for (uint32_t i = 0; i < names->count; i++) {
            if (names->names[i].file == file)
                return true;
        }
    }
    return false;
}

void sim_files_collect(kvt_sim_disk *disk)
{
    for (sim_file **link = &disk->files; *link != NULL;) {
        sim_file *file = *link;
        if (file->open_count != 0 || is_named(disk->names, file)) {
            link = &file->next;
            continue;
        }
        *link = file->next;
        file_free(disk, file);
    }
}

void sim_names_sync(kvt_sim_disk *disk)
{
    free_older(disk->names);
    sim_files_collect(disk);
}

/* ---- crash ---- */

static void put_torn(kvt_sim_disk *disk, sim_file *file, const kvt_io_piece *piece)
{
    for (uint64_t at = 0; at < piece->bytes; at += KVT_SIM_SECTOR_BYTES) {
        if (sim_random(&disk->random) % 2 == 0)
            (void)sim_file_put(disk, file, piece->offset + at, piece->memory + at,
                               kvt_min_u64(KVT_SIM_SECTOR_BYTES, piece->bytes - at));
    }
}

void sim_crash_in_flight(kvt_sim_disk *disk, const kvt_sim_crash_options *options, sim_file *file,
                         const kvt_io_piece *piece)
{
    if (options == NULL || piece->op->verb != KVT_IO_WRITE || sim_chance(disk, options->drop_percent))
        return;
    if (sim_chance(disk, options->tear_percent))
        put_torn(disk, file, piece);
    else
        (void)sim_file_put(disk, file, piece->offset, piece->memory, piece->bytes);
}

static void land(kvt_sim_disk *disk, const kvt_sim_crash_options *options, sim_file *file, const sim_write *write)
{
    if (sim_chance(disk, options->drop_percent))
        return;
    bool torn = sim_chance(disk, options->tear_percent);
    for (uint64_t at = 0; at < write->bytes;) {
        uint64_t sector_left = KVT_SIM_SECTOR_BYTES - (write->offset + at) % KVT_SIM_SECTOR_BYTES;
        uint64_t part = kvt_min_u64(torn ? sector_left : write->bytes, write->bytes - at);
        if (!torn || sim_random(&disk->random) % 2 == 0)
            (void)sim_image_write(&file->durable, write->offset + at, write->data + at, part);
        at += part;
    }
}

/* A write that is overtaken lands after the one behind it. */
static void land_all(kvt_sim_disk *disk, const kvt_sim_crash_options *options, sim_file *file)
{
    const sim_write *late = NULL;
    for (const sim_write *write = file->pending; write != NULL; write = write->next) {
        if (late == NULL && write->next != NULL && sim_chance(disk, options->reorder_percent)) {
            late = write;
            continue;
        }
        land(disk, options, file, write);
        if (late != NULL && (write->next == NULL || !sim_chance(disk, options->reorder_percent))) {
            land(disk, options, file, late);
            late = NULL;
        }
    }
}

static void crash_names(kvt_sim_disk *disk, const kvt_sim_crash_options *options)
{
    uint64_t states = 0;
    for (const sim_names *names = disk->names; names->older != NULL; names = names->older)
        states++;
    uint64_t lost = sim_chance(disk, options->drop_percent) ? sim_random(&disk->random) % (states + 1) : 0;
    for (; lost != 0; lost--) {
        sim_names *newest = disk->names;
        disk->names = newest->older;
        free(newest);
    }
    free_older(disk->names);
}

void sim_crash_files(kvt_sim_disk *disk, const kvt_sim_crash_options *options)
{
    for (sim_file *file = disk->files; file != NULL; file = file->next) {
        file->owner = NULL;
        file->sharers = 0;
        if (options == NULL || !options->power)
            continue;
        uint64_t bytes = sim_chance(disk, options->drop_percent) ? file->durable.bytes : file->now.bytes;
        land_all(disk, options, file);
        drop_pending(disk, file);
        sim_image_resize(&file->durable, bytes);
        (void)image_copy(&file->now, &file->durable);
    }
    if (options != NULL && options->power)
        crash_names(disk, options);
}

/* ---- the disk ---- */

kvt_sim_disk *kvt_sim_create(uint64_t seed)
{
    kvt_sim_disk *disk = calloc(1, sizeof *disk);
    sim_names *names = calloc(1, sizeof *names);
    if (disk == NULL || names == NULL) {
        free(disk);
        free(names);
        return NULL;
    }
    disk->names = names;
    disk->random = seed;
    disk->secrets = ~seed;
    disk->alignment = 4096;
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->idle, NULL);
    return disk;
}

void kvt_sim_destroy(kvt_sim_disk *disk)
{
    if (disk == NULL)
        return;
    while (disk->files != NULL) {
        sim_file *file = disk->files;
        disk->files = file->next;
        file_free(disk, file);
    }
    free_older(disk->names);
    free(disk->names);
    pthread_cond_destroy(&disk->idle);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}

static bool clone_file(kvt_sim_disk *to, const sim_file *from)
{
    sim_file *file = sim_file_create(to);
    if (file == NULL)
        return false;
    file->id = from->id;
    bool good = image_copy(&file->now, &from->now) && image_copy(&file->durable, &from->durable);
    for (const sim_write *write = from->pending; write != NULL && good; write = write->next) {
        good = append_pending(to, file, write->offset, write->data, write->bytes);
        if (good) {
            file->pending_last->order = write->order;
            file->pending_last->orphan = write->orphan;
        }
    }
    return good;
}

static sim_file *file_by_id(const kvt_sim_disk *disk, uint32_t id)
{
    sim_file *file = disk->files;
    while (file != NULL && file->id != id)
        file = file->next;
    return file;
}

static bool clone_names(kvt_sim_disk *to, const sim_names *from)
{
    sim_names **link = &to->names->older;
    *to->names = (sim_names){.count = 0};
    for (sim_names *names = to->names; names != NULL; names = *link) {
        names->count = from->count;
        for (uint32_t i = 0; i < from->count; i++) {
            names->names[i] = from->names[i];
            names->names[i].file = file_by_id(to, from->names[i].file->id);
        }
        link = &names->older;
        from = from->older;
        if (from != NULL && (*link = calloc(1, sizeof **link)) == NULL)
            return false;
    }
    return true;
}

kvt_sim_disk *kvt_sim_clone(kvt_sim_disk *disk, uint64_t seed)
{
    kvt_sim_disk *copy = kvt_sim_create(seed);
    if (copy == NULL)
        return NULL;
    pthread_mutex_lock(&disk->lock);
    copy->mode = disk->mode;
    copy->scramble = disk->scramble;
    copy->capacity = disk->capacity;
    copy->alignment = disk->alignment;
    bool good = true;
    for (const sim_file *file = disk->files; file != NULL && good; file = file->next)
        good = !is_named(disk->names, file) || clone_file(copy, file);
    good = good && clone_names(copy, disk->names);
    copy->order = disk->order;
    copy->file_ids = disk->file_ids;
    pthread_mutex_unlock(&disk->lock);
    if (!good) {
        kvt_sim_destroy(copy);
        return NULL;
    }
    return copy;
}
