/* SPDX-License-Identifier: Apache-2.0
 *
 * The store directory itself, and what is left of the write budget, a text in it.
 *
 * The text says what a crash leaves: a sixteenth of the budget less than there is. While the engine runs, it is written
 * again when the difference is used up, so a crash costs at most that share and never gives back what was spent. It is
 * not synced: after a power cut an older text may stand there, which is at worst the budget of that moment.
 */
#include "engine/engine_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUDGET_SHARE = 16, BUDGET_TEXT_BYTES = 24, PATH_BYTES = 4096, DEPTH_MAX = 2 };

/* ---- the directory ---- */

kvt_status kvt_store_dir_make(const kvt_options *options, bool *out_made)
{
    struct stat info;
    *out_made = false;
    if (options->store_path == NULL)
        return KVT_OK;
    if (stat(options->store_path, &info) == 0) {
        if (S_ISDIR(info.st_mode) && access(options->store_path, R_OK | X_OK) != 0)
            return kvt_fail(KVT_IO, "%s cannot be read: %s", options->store_path, strerror(errno));
        if (S_ISDIR(info.st_mode))
            return KVT_OK;
        return kvt_fail(KVT_INVALID, "%s is not a directory; name a directory for the store", options->store_path);
    }
    if (errno != ENOENT)
        return kvt_fail(KVT_IO, "%s: %s", options->store_path, strerror(errno));
    if ((options->flags & (KVT_OPEN_NO_CREATE | KVT_OPEN_READ_ONLY)) != 0)
        return kvt_fail(KVT_MISS, "there is no store at %s", options->store_path);
    if (mkdir(options->store_path, 0700) != 0)
        return kvt_fail(KVT_IO, "%s cannot be made: %s", options->store_path, strerror(errno));
    *out_made = true;
    return KVT_OK;
}

/* Takes the descriptor. */
static uint64_t bytes_below(int directory, uint32_t depth)
{
    uint64_t bytes = 0;
    DIR *listing = fdopendir(directory);
    if (listing == NULL) {
        close(directory);
        return 0;
    }
    for (struct dirent *item = readdir(listing); item != NULL; item = readdir(listing)) {
        struct stat info;
        if (item->d_name[0] == '.' || fstatat(dirfd(listing), item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(info.st_mode))
            bytes += (uint64_t)info.st_size;
        int below = -1;
        if (S_ISDIR(info.st_mode) && depth < DEPTH_MAX)
            below = openat(dirfd(listing), item->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0)
            bytes += bytes_below(below, depth + 1);
    }
    closedir(listing);
    return bytes;
}

uint64_t kvt_store_dir_bytes(const char *path)
{
    int directory = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return directory < 0 ? 0 : bytes_below(directory, 1);
}

/* ---- the write budget ---- */

static bool has_budget(const kvt_engine *engine)
{
    return engine->lower != NULL && (engine->options.flags & (KVT_OPEN_READ_ONLY | KVT_OPEN_NO_BUDGET)) == 0;
}

static void budget_path(const kvt_engine *engine, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/engine.budget", engine->store_path);
}

/* A text of one length, written over the old one in one go: there is never half of one. */
static void write_budget(kvt_engine *engine, int64_t tokens)
{
    char path[PATH_BYTES], text[BUDGET_TEXT_BYTES];
    budget_path(engine, path);
    engine->budget_kept = tokens;
    int bytes = snprintf(text, sizeof text, "%20" PRId64 "\n", tokens);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return;
    if (pwrite(file, text, (size_t)bytes, 0) != bytes)
        kvt_log_write(&engine->log, KVT_LOG_WARN, "the write budget could not be kept: %s", strerror(errno));
    close(file);
}

void kvt_budget_load(kvt_engine *engine, bool fresh)
{
    char path[PATH_BYTES], text[BUDGET_TEXT_BYTES + 1] = "";
    if (engine->lower == NULL)
        return;
    /* Without a text: a store that was just made, or whose owner died before the first one, holds nothing yet. */
    bool unused = fresh || kvt_index_count(engine->index) == 0;
    int64_t tokens = unused ? (int64_t)engine->options.disk_bytes_max : 0;
    budget_path(engine, path);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0)
            tokens = strtoll(text, NULL, 10);
        close(file);
    }
    kvt_admission_set_tokens(engine->admission, tokens, kvt_engine_clock(engine));
    engine->budget_kept = INT64_MAX; /* unlike anything: keep writes */
    kvt_budget_keep(engine);
}

void kvt_budget_keep(kvt_engine *engine)
{
    if (!has_budget(engine))
        return;
    int64_t tokens = kvt_admission_tokens(engine->admission, kvt_engine_clock(engine));
    int64_t share = (int64_t)(kvt_min_u64(engine->options.disk_bytes_max, INT64_MAX) / BUDGET_SHARE);
    if (tokens < engine->budget_kept || tokens - 2 * share > engine->budget_kept)
        write_budget(engine, tokens - share);
}

void kvt_budget_save(kvt_engine *engine)
{
    if (has_budget(engine) && engine->admission != NULL)
        write_budget(engine, kvt_admission_tokens(engine->admission, kvt_engine_clock(engine)));
}
