/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor: the store and the file system below it. What a new store would meet is measured in the folder it would be
 * made in, with unnamed files, so nothing stays.
 */
#include "tools/doctor.h"

#include "tiers/tiers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { BARRIERS = 16, BARRIER_BYTES = 1 << 20 };
#define BARRIER_NS_MAX UINT64_C(5000000) /* docs/format_store.md, section 8: slower ones are omitted by a new store */
#define BARRIERS_NS    UINT64_C(2000000000)
#define STORE_BYTES    (UINT64_C(4) << 30) /* of a new store when nothing is said */

/* ------------------------------------------------------------------------ direct I/O */

/* Smallest request, by offset, length and memory, that O_DIRECT takes; 0: none. */
static uint32_t direct_alignment(int file)
{
    enum { LARGEST = 4096 };
    uint32_t alignment = 0;
    uint8_t *memory = kvt_alloc_aligned(LARGEST, 2 * LARGEST);
    if (memory == NULL)
        return 0;
    memset(memory, 0, 2 * LARGEST);
    for (uint32_t bytes = 512; bytes <= LARGEST && alignment == 0; bytes *= 2)
        if (pwrite(file, memory + bytes % LARGEST, bytes, bytes) == (ssize_t)bytes)
            alignment = bytes;
    kvt_free(memory);
    return alignment;
}

static void check_direct(kvt_doctor *d, int file, const char *folder)
{
    int flags = fcntl(file, F_GETFL);
    bool direct = flags >= 0 && fcntl(file, F_SETFL, flags | O_DIRECT) == 0;
    uint32_t alignment = direct ? direct_alignment(file) : 0;
    (void)fcntl(file, F_SETFL, flags);
    if (alignment != 0)
        kvt_doctor_find(d, "direct I/O", KVT_FINDING_GOOD, NULL, "works in %s, in units of %u bytes", folder,
                        alignment);
    else
        kvt_doctor_find(d, "direct I/O", KVT_FINDING_NOTE, "put the store on ext4 or xfs on a local device",
                        "is refused by the file system of %s; the page cache is used twice", folder);
}

/* -------------------------------------------------------------------------- barriers */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Median time of fdatasync behind a written MiB, as a new store measures it; 0: it cannot be measured. */
static uint64_t barrier_ns(int file)
{
    uint64_t times[BARRIERS], begin = kvt_now_ns();
    size_t count = 0;
    uint8_t *piece = kvt_alloc(BARRIER_BYTES);
    while (piece != NULL && count < BARRIERS && kvt_now_ns() - begin < BARRIERS_NS) {
        if (pwrite(file, piece, BARRIER_BYTES, 0) != BARRIER_BYTES)
            break;
        uint64_t start = kvt_now_ns();
        if (fdatasync(file) != 0)
            break;
        times[count++] = kvt_max_u64(kvt_now_ns() - start, 1);
    }
    kvt_free(piece);
    if (count == 0)
        return 0;
    qsort(times, count, sizeof *times, compare_u64);
    return times[count / 2];
}

static void check_barrier(kvt_doctor *d, int file)
{
    struct statfs info;
    char time[CLI_NUMBER_BYTES];
    uint64_t ns = barrier_ns(file);
    cli_format_number(time, CLI_UNIT_SECONDS, (double)ns / 1e9, false);
    if (fstatfs(file, &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC))
        kvt_doctor_find(d, "power loss", KVT_FINDING_NOTE, "put the store on ext4 or xfs on a local device",
                        "this file system lies in memory; a reboot takes the store");
    else if (ns == 0)
        kvt_doctor_find(d, "power loss", KVT_FINDING_NOTE, "make room, or check the device",
                        "a barrier cannot be measured: %s", strerror(errno));
    else if (ns < BARRIER_NS_MAX)
        kvt_doctor_find(d, "power loss", KVT_FINDING_GOOD, NULL,
                        "a barrier (fdatasync) takes %s: a new store issues them, and sealed segments survive", time);
    else
        kvt_doctor_find(
            d, "power loss", KVT_FINDING_NOTE,
            "a device with power-loss protection has quick barriers; a killed process loses nothing either way",
            "a barrier (fdatasync) takes %s, over 5 ms: a new store omits them, and a power loss may cost "
            "records, which are then a miss",
            time);
}

/* ------------------------------------------------------------------------------ space */

static void check_space(kvt_doctor *d, const char *folder, bool store_is_there)
{
    struct statvfs info;
    char free_text[CLI_NUMBER_BYTES], all[CLI_NUMBER_BYTES];
    if (statvfs(folder, &info) != 0) {
        kvt_doctor_find(d, "free space", KVT_FINDING_BAD, "check the path", "%s: %s", folder, strerror(errno));
        return;
    }
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    cli_format_bytes(free_text, free_bytes, false);
    cli_format_bytes(all, (uint64_t)info.f_blocks * info.f_frsize, false);
    kvt_doctor_find(d, "free space", !store_is_there && free_bytes < STORE_BYTES ? KVT_FINDING_NOTE : KVT_FINDING_GOOD,
                    "a new store takes 4 GiB at once unless --disk-bytes says less", "%s of %s", free_text, all);
}

/* The folder that is there: the store, else the one it would be made in. */
static void existing_folder(const char *store, char *folder, size_t bytes)
{
    struct stat info;
    snprintf(folder, bytes, "%s", store);
    while (stat(folder, &info) != 0) {
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
            snprintf(folder, bytes, ".");
        else
            slash[slash == folder ? 1 : 0] = '\0';
        if (slash == NULL || slash == folder)
            return;
    }
}

static void check_folder(kvt_doctor *d, const char *folder, bool store_is_there)
{
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0)
        kvt_doctor_find(d, "store folder", errno == EOPNOTSUPP ? KVT_FINDING_NOTE : KVT_FINDING_BAD,
                        "check its permissions and file system", "%s: an unnamed file cannot be made: %s", folder,
                        strerror(errno));
    if (file >= 0) {
        check_direct(d, file, folder);
        check_barrier(d, file);
        close(file);
    }
    check_space(d, folder, store_is_there);
}

/* ------------------------------------------------------------------------------ store */

static void judge_store(kvt_doctor *d, const kvt_stats *stats)
{
    for (uint32_t id = KVT_TIER_FILE; id <= KVT_TIER_ROCKS; id++) {
        const kvt_tier_stats *tier = &stats->tiers[id];
        if (!tier->present)
            continue;
        if (tier->state > 1)
            kvt_doctor_find(d, "store", KVT_FINDING_BAD, "check the device and the kernel's log, then open it again",
                            "the %s tier turned itself off: %s", tier->name, tier->detail);
        else if (tier->errors != 0)
            kvt_doctor_find(
                d, "store", KVT_FINDING_BAD, "kvtier verify reads every record; check the device and the kernel's log",
                "the %s tier met %" PRIu64 " I/O error%s", tier->name, tier->errors, cli_plural(tier->errors));
        else
            kvt_doctor_find(d, "store", KVT_FINDING_GOOD, NULL, "opens and is healthy; %s tier, %" PRIu64 " record%s",
                            tier->name, tier->record_count, cli_plural(tier->record_count));
    }
}

static const char *remedy_of(kvt_status status)
{
    switch (status) {
    case KVT_MISS:
        return "fill one with 'kvtier warm' or 'put'";
    case KVT_BUSY:
        return "ask its owner (kvt_get_stats), stop it, or look at a copy";
    case KVT_CORRUPT:
        return "restore the file from a copy; or give --reset-corrupt to 'kvtier warm' or 'put', which forgets every "
               "record";
    case KVT_VERSION:
        return "use the release that wrote it, or a new folder";
    case KVT_UNSUPPORTED:
        return "install what it names";
    default:
        return "check the path and its permissions";
    }
}

static void check_store(kvt_doctor *d, const char *store)
{
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_engine *engine;
    options.store_path = store;
    options.flags = KVT_OPEN_READ_ONLY | KVT_OPEN_NO_CREATE;
    options.host_bytes_max = 1 << 20;
    options.backend = "cpu";
    kvt_status status = kvt_open(&options, &engine);
    if (status == KVT_OK) {
        kvt_stats stats = {.struct_size = sizeof stats};
        if (kvt_get_stats(engine, &stats) == KVT_OK)
            judge_store(d, &stats);
        kvt_close(engine);
        return;
    }
    bool fine = status == KVT_MISS || status == KVT_BUSY;
    kvt_doctor_find(d, "store", fine ? KVT_FINDING_NOTE : KVT_FINDING_BAD, remedy_of(status), "%s", cli_reason(status));
}

void kvt_doctor_check_disk(kvt_doctor *d)
{
    char folder[4096] = ".";
    const char *store = d->context->global.store;
    kvt_tier_id tier;
    if (store != NULL)
        existing_folder(store, folder, sizeof folder);
    check_folder(d, folder, store != NULL && kvt_tier_detect(store, &tier) == KVT_OK);
    if (store != NULL)
        check_store(d, store);
    else
        kvt_doctor_find(d, "store", KVT_FINDING_NOTE, "name one, or where it will be, with -s DIR",
                        "none is named; the current directory was examined");
}
