/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test does to a simulated disk from outside: settings, meddling with files. See io_sim.h.
 */
#include "tiers/io_sim_int.h"

void kvt_sim_set_mode(kvt_sim_disk *disk, kvt_sim_mode mode)
{
    pthread_mutex_lock(&disk->lock);
    disk->mode = mode;
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_set_scramble(kvt_sim_disk *disk, bool scramble)
{
    pthread_mutex_lock(&disk->lock);
    disk->scramble = scramble;
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_set_capacity(kvt_sim_disk *disk, uint64_t bytes)
{
    pthread_mutex_lock(&disk->lock);
    disk->capacity = bytes;
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_set_alignment(kvt_sim_disk *disk, uint32_t alignment)
{
    pthread_mutex_lock(&disk->lock);
    disk->alignment = alignment;
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_set_hook(kvt_sim_disk *disk, kvt_sim_hook hook, void *arg)
{
    pthread_mutex_lock(&disk->lock);
    disk->hook = hook;
    disk->hook_arg = arg;
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_set_rates(kvt_sim_disk *disk, const kvt_sim_rates *rates)
{
    pthread_mutex_lock(&disk->lock);
    disk->rates = rates != NULL ? *rates : (kvt_sim_rates){0};
    pthread_mutex_unlock(&disk->lock);
}

void kvt_sim_get_stats(kvt_sim_disk *disk, kvt_sim_stats *out)
{
    pthread_mutex_lock(&disk->lock);
    *out = disk->stats;
    pthread_mutex_unlock(&disk->lock);
}

uint64_t kvt_sim_file_bytes(kvt_sim_disk *disk, const char *name)
{
    pthread_mutex_lock(&disk->lock);
    const sim_file *file = sim_find(disk, name);
    uint64_t bytes = file != NULL ? file->now.bytes : UINT64_MAX;
    pthread_mutex_unlock(&disk->lock);
    return bytes;
}

static bool inside(const sim_file *file, uint64_t offset, uint64_t bytes)
{
    return file != NULL && offset <= file->now.bytes && bytes <= file->now.bytes - offset;
}

bool kvt_sim_file_read(kvt_sim_disk *disk, const char *name, uint64_t offset, void *memory, uint64_t bytes)
{
    pthread_mutex_lock(&disk->lock);
    const sim_file *file = sim_find(disk, name);
    bool there = inside(file, offset, bytes);
    if (there)
        sim_image_read(&file->now, offset, memory, bytes);
    pthread_mutex_unlock(&disk->lock);
    return there;
}

bool kvt_sim_file_write(kvt_sim_disk *disk, const char *name, uint64_t offset, const void *memory, uint64_t bytes)
{
    pthread_mutex_lock(&disk->lock);
    sim_file *file = sim_find(disk, name);
    bool done = inside(file, offset, bytes) && sim_image_write(&file->now, offset, memory, bytes) &&
                sim_image_write(&file->durable, offset, memory, bytes);
    pthread_mutex_unlock(&disk->lock);
    return done;
}

bool kvt_sim_file_truncate(kvt_sim_disk *disk, const char *name, uint64_t bytes)
{
    pthread_mutex_lock(&disk->lock);
    sim_file *file = sim_find(disk, name);
    if (file != NULL) {
        sim_file_resize(file, bytes);
        file->durable.bytes = bytes;
    }
    pthread_mutex_unlock(&disk->lock);
    return file != NULL;
}
