/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor: what this host gives a store and what slows it down, each finding with its remedy. Every probe leaves the
 * host as it was: files are unnamed, mappings are given back.
 */
#include "tools/cli_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum verdict { VERDICT_GOOD, VERDICT_NOTE, VERDICT_BAD } verdict;

typedef struct doctor {
    const cli_context *context;
    cli_report *report;
    uint32_t bad;
} doctor;

static void find(doctor *d, const char *check, verdict v, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void find(doctor *d, const char *check, verdict v, const char *remedy, const char *format, ...)
{
    static const char *const names[] = {"good", "note", "bad"};
    char detail[512];
    va_list values;
    va_start(values, format);
    vsnprintf(detail, sizeof detail, format, values);
    va_end(values);
    cli_row_text(d->report, check);
    cli_row_text(d->report, names[v]);
    cli_row_text(d->report, detail);
    if (remedy != NULL && v != VERDICT_GOOD)
        cli_row_text(d->report, remedy);
    else
        cli_row_none(d->report);
    d->bad += v == VERDICT_BAD;
}

/* First line of a small file of the kernel; empty when it cannot be read. */
static void read_line(const char *path, char *text, size_t bytes)
{
    FILE *in = fopen(path, "re");
    text[0] = '\0';
    if (in == NULL)
        return;
    if (fgets(text, (int)bytes, in) == NULL)
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    fclose(in);
}

/* ---------------------------------------------------------------------- memory */

static void check_pages(doctor *d)
{
    enum { PROBE_BYTES = 32 << 20 };
    static const char *const names[] = {"small", "transparent", "huge"};
    char reserved[64], transparent[128];
    kvt_page_kind asked;
    read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", reserved, sizeof reserved);
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", transparent, sizeof transparent);
    void *pages = kvt_pages_map(PROBE_BYTES, &asked);
    if (pages == NULL) {
        find(d, "pool pages", VERDICT_BAD, "free some memory", "32 MiB cannot be mapped");
        return;
    }
    kvt_pages_touch(pages, PROBE_BYTES, 1);
    kvt_page_kind kind = kvt_pages_kind_of(pages, PROBE_BYTES, asked);
    kvt_pages_unmap(pages, PROBE_BYTES);
    find(d, "pool pages", kind == KVT_PAGES_SMALL ? VERDICT_NOTE : VERDICT_GOOD,
         "reserve huge pages (sysctl vm.nr_hugepages), or set transparent ones to madvise",
         "a pool gets %s pages; %s huge pages of 2 MiB are free; transparent: %s", names[kind],
         reserved[0] != '\0' ? reserved : "no", transparent[0] != '\0' ? transparent : "unknown");
}

static void check_memlock(doctor *d)
{
    struct rlimit limit;
    char text[CLI_NUMBER_BYTES];
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        find(d, "memlock", VERDICT_NOTE, NULL, "the limit cannot be read: %s", strerror(errno));
        return;
    }
    bool unlimited = limit.rlim_cur == RLIM_INFINITY || geteuid() == 0;
    cli_format_bytes(text, limit.rlim_cur, false);
    find(d, "memlock", unlimited || limit.rlim_cur >= UINT64_C(1) << 30 ? VERDICT_GOOD : VERDICT_NOTE,
         "raise it (ulimit -l, LimitMEMLOCK=) to the size of the pool, so that I/O can use registered buffers",
         "this process may lock %s", unlimited ? "any amount" : text);
}

/* ------------------------------------------------------------------------- I/O */

static void check_uring(doctor *d)
{
    struct io_uring_params parameters = {0};
    long ring = syscall(SYS_io_uring_setup, 8, &parameters);
    if (ring >= 0) {
        close((int)ring);
        find(d, "io_uring", VERDICT_GOOD, NULL, "works; features 0x%x", parameters.features);
        return;
    }
    const char *remedy = errno == EPERM ? "allow it (sysctl kernel.io_uring_disabled, the container's seccomp profile)"
                                        : "a newer kernel has it; threads stand in until then";
    find(d, "io_uring", VERDICT_NOTE, remedy, "cannot be used: %s; a pool of threads stands in", strerror(errno));
}

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

static void check_direct(doctor *d, const char *folder)
{
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0) {
        find(d, "store folder", errno == EOPNOTSUPP ? VERDICT_NOTE : VERDICT_BAD,
             "check its permissions and file system", "%s: an unnamed file cannot be made: %s", folder,
             strerror(errno));
        return;
    }
    int flags = fcntl(file, F_GETFL);
    bool direct = flags >= 0 && fcntl(file, F_SETFL, flags | O_DIRECT) == 0;
    uint32_t alignment = direct ? direct_alignment(file) : 0;
    close(file);
    if (alignment != 0)
        find(d, "direct I/O", VERDICT_GOOD, NULL, "works, in units of %u bytes", alignment);
    else
        find(d, "direct I/O", VERDICT_NOTE, "put the store on ext4 or xfs on a local device",
             "is refused by the file system of %s; the page cache is used twice", folder);
}

static void check_space(doctor *d, const char *folder)
{
    struct statvfs info;
    char free_text[CLI_NUMBER_BYTES], all[CLI_NUMBER_BYTES];
    if (statvfs(folder, &info) != 0) {
        find(d, "free space", VERDICT_BAD, "check the path", "%s: %s", folder, strerror(errno));
        return;
    }
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    cli_format_bytes(free_text, free_bytes, false);
    cli_format_bytes(all, (uint64_t)info.f_blocks * info.f_frsize, false);
    find(d, "free space", free_bytes < UINT64_C(1) << 30 ? VERDICT_NOTE : VERDICT_GOOD,
         "a new store needs 4 GiB unless --disk-bytes says less", "%s of %s", free_text, all);
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

static void check_store(doctor *d)
{
    char folder[4096];
    const char *store = d->context->global.store;
    if (store == NULL) {
        find(d, "store", VERDICT_NOTE, "name one with -s DIR to have its file system examined", "none is named");
        return;
    }
    existing_folder(store, folder, sizeof folder);
    check_direct(d, folder);
    check_space(d, folder);
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_engine *engine;
    options.store_path = store;
    options.flags = KVT_OPEN_READ_ONLY | KVT_OPEN_NO_CREATE;
    options.host_bytes_max = 1 << 20;
    kvt_status status = kvt_open(&options, &engine);
    if (status == KVT_OK) {
        kvt_stats stats = {.struct_size = sizeof stats};
        bool healthy = kvt_get_stats(engine, &stats) == KVT_OK && cli_store_healthy(&stats);
        find(d, "store", healthy ? VERDICT_GOOD : VERDICT_BAD, "kvtier status and kvtier verify tell more",
             healthy ? "opens and is healthy" : "opens, but a tier is off or met errors");
        kvt_close(engine);
    } else {
        find(d, "store", status == KVT_MISS || status == KVT_BUSY ? VERDICT_NOTE : VERDICT_BAD,
             "kvtier status tells more", "%s", *kvt_last_error() != '\0' ? kvt_last_error() : kvt_status_text(status));
    }
}

/* -------------------------------------------------------------------- the build */

static void check_build(doctor *d)
{
    uint32_t cpu = kvt_cpu_features();
    find(d, "library", VERDICT_GOOD, NULL, "%s", kvt_version_text());
    find(d, "processor", VERDICT_GOOD, NULL, "%ld online;%s%s%s", sysconf(_SC_NPROCESSORS_ONLN),
         cpu & KVT_CPU_SSE42 ? " SSE4.2" : "", cpu & KVT_CPU_AVX2 ? " AVX2" : "",
         cpu & KVT_CPU_AVX512 ? " AVX-512" : "");
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_engine *engine;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = 1 << 20;
    options.backend = d->context->global.backend;
    kvt_status status = kvt_open(&options, &engine);
    if (status != KVT_OK) {
        find(d, "backend", VERDICT_BAD, "leave out --backend and KVTIER_BACKEND to get the best one that works", "%s",
             *kvt_last_error() != '\0' ? kvt_last_error() : kvt_status_text(status));
        return;
    }
    kvt_stats stats = {.struct_size = sizeof stats};
    if (kvt_get_stats(engine, &stats) == KVT_OK)
        find(d, "backend", VERDICT_GOOD, NULL, "%s", stats.backend);
    kvt_close(engine);
}

static const cli_column columns[] = {
    {"check", "CHECK", CLI_UNIT_NONE, false},
    {"verdict", "VERDICT", CLI_UNIT_NONE, false},
    {"detail", "DETAIL", CLI_UNIT_NONE, false},
    {"remedy", "REMEDY", CLI_UNIT_NONE, false},
};

static int run_doctor(const cli_context *context, const void *given)
{
    (void)given;
    doctor d = {.context = context, .report = cli_report_open(context, "kvtier.doctor/1")};
    cli_report_rows(d.report, "checks", NULL, columns, sizeof columns / sizeof *columns);
    check_build(&d);
    check_pages(&d);
    check_memlock(&d);
    check_uring(&d);
    check_store(&d);
    cli_report_rows_end(d.report);
    cli_report_u64(d.report, "bad", d.bad != 0 ? "bad findings" : NULL, CLI_UNIT_NONE, d.bad);
    int code = cli_report_close(d.report);
    return code != CLI_OK ? code : d.bad != 0 ? CLI_FAILURE : CLI_OK;
}

const cli_command cli_command_doctor = {
    .name = "doctor",
    .group = "care",
    .summary = "what this host gives a store, and what slows it down",
    .operands = "",
    .description =
        "Examines the build, memory pages, limits, io_uring, and with -s the store and its file system. Each "
        "finding is good, a note (it works, but slower or smaller) or bad, with the remedy. Nothing is changed.\n\n"
        "Exits with 1 when a finding is bad.",
    .examples = "kvtier doctor -s /var/lib/kvtier",
    .run = run_doctor,
};
