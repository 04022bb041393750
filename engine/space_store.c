/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors of spaces beside the tiers: store/spaces/<id>, one small text each, complete or absent (written aside,
 * synced, renamed). A text names itself: its hash is the file's name.
 */
#include "engine/space.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static kvt_status io_failure(const char *what, int error)
{
    return kvt_fail(kvt_status_of_errno(error), "the folder `spaces` of the store: %s: %s", what, strerror(error));
}

/* The folder's descriptor, or -1 with errno. */
static int open_folder(const kvt_engine *engine, bool create)
{
    int store = open(engine->store_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store < 0)
        return -1;
    if (create && mkdirat(store, "spaces", 0700) != 0 && errno != EEXIST) {
        int error = errno;
        close(store);
        errno = error;
        return -1;
    }
    int folder = openat(store, "spaces", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int error = errno;
    close(store);
    errno = error;
    return folder;
}

static ssize_t read_all(int folder, const char *name, char *text, size_t capacity)
{
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO must not hold us */
    if (file < 0)
        return -1;
    size_t bytes = 0;
    ssize_t n = 1;
    while (bytes < capacity && n > 0) {
        n = read(file, text + bytes, capacity - bytes);
        bytes += n > 0 ? (size_t)n : 0;
    }
    close(file);
    return n < 0 ? -1 : (ssize_t)bytes;
}

static kvt_status write_new(int folder, const char *name, const char *text, size_t bytes)
{
    char aside[KVT_KEY_TEXT_BYTES + 8];
    snprintf(aside, sizeof aside, "%s.new", name);
    int file = openat(folder, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return io_failure("create", errno);
    bool written = write(file, text, bytes) == (ssize_t)bytes && fsync(file) == 0;
    int error = written ? 0 : (errno != 0 ? errno : EIO);
    close(file);
    if (error == 0 && renameat(folder, aside, folder, name) != 0)
        error = errno;
    if (error == 0 && fsync(folder) != 0)
        error = errno;
    if (error != 0)
        unlinkat(folder, aside, 0);
    return error == 0 ? KVT_OK : io_failure("write", error);
}

/* Does a text belong under this id? One whose hash is not built in is taken on trust. */
static bool names_itself(const kvt_key *id, const char *text, size_t bytes)
{
    kvt_key found;
    bool sha256 = strstr(text, "\nhash=sha256\n") != NULL;
    kvt_status status = kvt_space_id(sha256 ? KVT_HASH_SHA256 : KVT_HASH_XXH3, text, bytes, &found);
    return status == KVT_UNSUPPORTED || (status == KVT_OK && kvt_key_equal(&found, id));
}

/* A text that does not name itself was damaged, and the caller has just said what it should be. */
static kvt_status compare_or_write(const kvt_engine *engine, int folder, const kvt_key *id, const char *text,
                                   size_t bytes, bool read_only)
{
    char name[KVT_KEY_TEXT_BYTES], held[KVT_SPACE_TEXT_BYTES_MAX + 1];
    kvt_key_to_text(id, name);
    ssize_t held_bytes = read_all(folder, name, held, sizeof held - 1);
    held[held_bytes < 0 ? 0 : held_bytes] = '\0';
    if (held_bytes >= 0 && (size_t)held_bytes == bytes && memcmp(held, text, bytes) == 0)
        return KVT_OK;
    if (held_bytes >= 0 && names_itself(id, held, (size_t)held_bytes))
        return kvt_fail(KVT_EXISTS, "the store holds another description under space %.8s...", name);
    if (held_bytes >= 0)
        kvt_log_write(&engine->log, KVT_LOG_WARN, "the description of space %.8s... was damaged%s", name,
                      read_only ? "" : " and is written again");
    return read_only ? KVT_OK : write_new(folder, name, text, bytes);
}

kvt_status kvt_space_store_write(const kvt_engine *engine, const kvt_key *id, const char *text, size_t bytes)
{
    if (engine->store_path == NULL)
        return KVT_OK;
    bool read_only = (engine->options.flags & KVT_OPEN_READ_ONLY) != 0;
    int folder = open_folder(engine, !read_only);
    if (folder < 0)
        return read_only ? KVT_OK : io_failure("open", errno);
    kvt_spaces_lock_texts(engine->spaces);
    kvt_status status = compare_or_write(engine, folder, id, text, bytes, read_only);
    kvt_spaces_unlock_texts(engine->spaces);
    close(folder);
    return status;
}

kvt_status kvt_space_store_read(const kvt_engine *engine, const kvt_key *id, char *text, size_t capacity)
{
    char name[KVT_KEY_TEXT_BYTES];
    kvt_key_to_text(id, name);
    int folder = engine->store_path == NULL ? -1 : open_folder(engine, false);
    ssize_t bytes = folder < 0 ? -1 : read_all(folder, name, text, capacity - 1);
    if (folder >= 0)
        close(folder);
    if (bytes < 0)
        return kvt_fail(KVT_MISS, "the store knows no space %s", name);
    text[bytes] = '\0';
    if (!names_itself(id, text, (size_t)bytes))
        return kvt_fail(KVT_CORRUPT,
                        "the description of space %s is damaged; kvt_space_open with its names writes it again", name);
    return KVT_OK;
}

kvt_status kvt_space_store_load_ids(kvt_engine *engine)
{
    int folder = engine->store_path == NULL ? -1 : open_folder(engine, false);
    if (folder < 0)
        return KVT_OK;
    DIR *listing = fdopendir(folder);
    if (listing == NULL) {
        close(folder);
        return KVT_OK;
    }
    for (struct dirent *item = readdir(listing); item != NULL; item = readdir(listing)) {
        kvt_key id;
        uint32_t slot;
        if (kvt_key_from_text(item->d_name, &id))
            (void)kvt_spaces_intern(engine->spaces, &id, &slot);
    }
    closedir(listing);
    return KVT_OK;
}
