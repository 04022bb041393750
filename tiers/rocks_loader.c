/* SPDX-License-Identifier: Apache-2.0
 *
 * The RocksDB tier as seen by the registry. RocksDB is C++ and may abort the process, so it lives in a module of its
 * own, loaded when a rocks tier is opened for the first time and never unloaded; the library itself needs no C++
 * runtime. The module is looked for beside the library (or the program it is linked into), then where it was installed,
 * then by the system's search order. No environment variable is read here.
 */
#include "tiers/rocks_module.h"
#include "tiers/tiers.h"
#include "tiers/tiers_int.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#ifndef KVT_MODULE_DIR
#define KVT_MODULE_DIR "/usr/local/lib/kvtier"
#endif
#ifndef KVT_MODULE_LIBDIR /* below the prefix */
#define KVT_MODULE_LIBDIR "lib"
#endif

enum {
    PATH_BYTES_MAX = 4096,
    PLACES_BYTES_MAX = 1024,
    TEXT_BYTES_MAX = 200,
    DLOPEN_FLAGS = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE
};

static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER; /* of module */
static const kvt_rocks_module *module;

/* Below the directory of this code: installed beside it, in its module folder, in a build tree; and, for a program in
 * bin that the library is linked into, in the module folder of its prefix, wherever that was moved. */
static const char *const nearby[] = {"", "kvtier/", "../tiers/", "../" KVT_MODULE_LIBDIR "/kvtier/", "../lib/kvtier/"};
enum { NEARBY_COUNT = sizeof nearby / sizeof nearby[0] };

/* Absolute path of the library or program that holds this code, cut behind its last slash; false: not known. */
static bool own_directory(char path[PATH_BYTES_MAX])
{
    Dl_info info;
    path[0] = '\0';
    if (dladdr((const void *)&kvt_tier_rocks_ops, &info) != 0 && info.dli_fname != NULL && info.dli_fname[0] == '/')
        snprintf(path, PATH_BYTES_MAX, "%s", info.dli_fname);
    else { /* a program is known by the name it was called with, which may be anything */
        ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES_MAX - 1);
        path[length > 0 ? length : 0] = '\0';
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return false;
    slash[1] = '\0';
    return true;
}

/* Where was looked, and why what was found there could not be used. */
typedef struct search {
    char places[PLACES_BYTES_MAX];
    char reason[TEXT_BYTES_MAX]; /* of the first file that is there; else empty */
} search;

static void *try_file(search *s, const char *directory, const char *below)
{
    char path[2 * PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s%s%s", directory, below, KVT_ROCKS_MODULE_FILE);
    size_t used = strlen(s->places);
    snprintf(s->places + used, sizeof s->places - used, "%s%s%s", used != 0 ? ", " : "", directory, below);
    if (access(path, R_OK) != 0)
        return NULL;
    void *found = dlopen(path, DLOPEN_FLAGS);
    const char *why = found == NULL ? dlerror() : NULL;
    if (why != NULL && s->reason[0] == '\0')
        snprintf(s->reason, sizeof s->reason, "%s", why);
    return found;
}

static void *find_module(search *s)
{
    char directory[PATH_BYTES_MAX];
    void *found = NULL;
    if (own_directory(directory))
        for (size_t i = 0; i < NEARBY_COUNT && found == NULL; i++)
            found = try_file(s, directory, nearby[i]);
    if (found == NULL)
        found = try_file(s, KVT_MODULE_DIR "/", "");
    return found != NULL ? found : dlopen(KVT_ROCKS_MODULE_FILE, DLOPEN_FLAGS); /* where the system looks */
}

static kvt_status load(const kvt_rocks_module **out)
{
    search s = {0};
    void *found = find_module(&s);
    if (found == NULL)
        return kvt_fail(
            KVT_UNSUPPORTED,
            "the RocksDB tier's module %s cannot be loaded (%s); install it with librocksdb, or use the file "
            "tier; looked in %s and where the system looks",
            KVT_ROCKS_MODULE_FILE, s.reason[0] != '\0' ? s.reason : "not found", s.places);
    kvt_rocks_module_get_fn get = NULL;
    *(void **)&get = dlsym(found, KVT_ROCKS_MODULE_SYMBOL); /* POSIX: object and function pointers convert */
    const kvt_rocks_module *loaded = get != NULL ? get() : NULL;
    if (loaded == NULL || loaded->release != KVT_RELEASE_NUMBER || loaded->ops->version != 1)
        return kvt_fail(KVT_UNSUPPORTED,
                        "the RocksDB tier's module %s belongs to another release; install the matching one",
                        KVT_ROCKS_MODULE_FILE);
    *out = loaded;
    return KVT_OK;
}

static kvt_status rocks_open(const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    pthread_mutex_lock(&module_lock);
    kvt_status status = module != NULL ? KVT_OK : load(&module);
    const kvt_rocks_module *loaded = module;
    pthread_mutex_unlock(&module_lock);
    if (status != KVT_OK)
        return status;
    status = loaded->ops->open(options, host, out);
    return status == KVT_OK ? KVT_OK : kvt_fail(status, "%s", loaded->last_error());
}

kvt_status kvt_rocks_module_find(char *path, size_t bytes)
{
    Dl_info info;
    pthread_mutex_lock(&module_lock);
    kvt_status status = module != NULL ? KVT_OK : load(&module);
    if (status == KVT_OK)
        snprintf(path, bytes, "%s", dladdr(module, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "loaded");
    pthread_mutex_unlock(&module_lock);
    return status;
}

uint64_t kvt_rocks_live_bytes(void)
{
    pthread_mutex_lock(&module_lock);
    uint64_t bytes = module != NULL ? module->live_bytes() : 0;
    pthread_mutex_unlock(&module_lock);
    return bytes;
}

/* An open tier carries the module's own table, so the registry goes there directly; these serve a caller that asked by
 * id. */
static void rocks_close(kvt_tier *tier) { tier->ops->close(tier); }
static void rocks_submit(kvt_tier *tier, kvt_tier_op *list) { tier->ops->submit(tier, list); }
static void rocks_drop(kvt_tier *tier, const kvt_place *places, size_t count) { tier->ops->drop(tier, places, count); }
static kvt_status rocks_erase(kvt_tier *tier, const kvt_place *places, size_t count)
{
    return tier->ops->erase(tier, places, count);
}
static kvt_status rocks_flush(kvt_tier *tier) { return tier->ops->flush(tier); }
static void rocks_stats(kvt_tier *tier, kvt_tier_stats *out) { tier->ops->stats(tier, out); }

const kvt_tier_ops kvt_tier_rocks_ops = {
    .version = 1,
    .id = KVT_TIER_ROCKS,
    .name = "rocks",
    .caps = KVT_TIER_EVICTS_ITSELF | KVT_TIER_PERSISTS,
    .open = rocks_open,
    .close = rocks_close,
    .submit = rocks_submit,
    .drop = rocks_drop,
    .erase = rocks_erase,
    .flush = rocks_flush,
    .stats = rocks_stats,
};
