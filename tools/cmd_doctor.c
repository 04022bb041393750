/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor: what this host gives a store and what slows it down, each finding with its remedy. Every probe leaves the
 * host as it was: files are unnamed, mappings are given back.
 */
#include "tools/doctor.h"

#include "tiers/tiers.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POOL_BYTES (UINT64_C(256) << 20) /* of an engine when nothing is said */

void kvt_doctor_find(kvt_doctor *d, const char *check, kvt_finding finding, const char *remedy, const char *format, ...)
{
    static const char *const names[] = {"good", "note", "bad"};
    char detail[512];
    va_list values;
    va_start(values, format);
    vsnprintf(detail, sizeof detail, format, values);
    va_end(values);
    cli_row_text(d->report, check);
    cli_row_text(d->report, names[finding]);
    cli_row_text(d->report, detail);
    if (remedy != NULL && finding != KVT_FINDING_GOOD)
        cli_row_text(d->report, remedy);
    else
        cli_row_none(d->report);
    d->bad += finding == KVT_FINDING_BAD;
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

/* Bytes of a line of /proc/meminfo; 0: unknown. */
static uint64_t memory_line(const char *name)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *in = fopen("/proc/meminfo", "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), ": %llu kB", &kib) == 1)
            break;
    if (in != NULL)
        fclose(in);
    return (uint64_t)kib << 10;
}

/* What the process may use: the machine's memory, or less where a control group says so. */
static void check_memory(kvt_doctor *d)
{
    char limit[64], all[CLI_NUMBER_BYTES], usable[CLI_NUMBER_BYTES];
    uint64_t total = memory_line("MemTotal"), available = memory_line("MemAvailable"), most = 0;
    read_line("/sys/fs/cgroup/memory.max", limit, sizeof limit);
    bool limited = cli_parse_count(limit, &most) && most < total;
    cli_format_bytes(all, limited ? most : total, false);
    cli_format_bytes(usable, limited ? kvt_min_u64(available, most) : available, false);
    bool short_of = available < 2 * POOL_BYTES || (limited && most < 2 * POOL_BYTES);
    kvt_doctor_find(d, "memory", short_of ? KVT_FINDING_NOTE : KVT_FINDING_GOOD,
                    "choose a smaller pool (--host-bytes, host_bytes_max)",
                    "%s%s, of which %s are available; a pool takes 256 MiB unless it is told otherwise", all,
                    limited ? " (limit of the control group)" : "", usable);
}

static void check_pages(kvt_doctor *d)
{
    enum { PROBE_BYTES = 32 << 20 };
    static const char *const names[] = {"small", "transparent", "huge"};
    char reserved[64], transparent[128];
    kvt_page_kind asked;
    read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", reserved, sizeof reserved);
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", transparent, sizeof transparent);
    void *pages = kvt_pages_map(PROBE_BYTES, &asked);
    if (pages == NULL) {
        kvt_doctor_find(d, "pool pages", KVT_FINDING_BAD, "free some memory", "32 MiB cannot be mapped");
        return;
    }
    kvt_pages_touch(pages, PROBE_BYTES, 1);
    kvt_page_kind kind = kvt_pages_kind_of(pages, PROBE_BYTES, asked);
    kvt_pages_unmap(pages, PROBE_BYTES);
    kvt_doctor_find(d, "pool pages", kind == KVT_PAGES_SMALL ? KVT_FINDING_NOTE : KVT_FINDING_GOOD,
                    "reserve huge pages (sysctl vm.nr_hugepages), or set transparent ones to madvise",
                    "a pool gets %s pages; %s huge pages of 2 MiB are free; transparent: %s", names[kind],
                    reserved[0] != '\0' ? reserved : "no", transparent[0] != '\0' ? transparent : "unknown");
}

static void check_memlock(kvt_doctor *d)
{
    struct rlimit limit;
    char text[CLI_NUMBER_BYTES];
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        kvt_doctor_find(d, "memlock", KVT_FINDING_NOTE, NULL, "the limit cannot be read: %s", strerror(errno));
        return;
    }
    bool unlimited = limit.rlim_cur == RLIM_INFINITY || geteuid() == 0;
    cli_format_bytes(text, limit.rlim_cur, false);
    kvt_doctor_find(
        d, "memlock", unlimited || limit.rlim_cur >= UINT64_C(1) << 30 ? KVT_FINDING_GOOD : KVT_FINDING_NOTE,
        "raise it (ulimit -l, LimitMEMLOCK=) to the size of the pool, so that I/O can use registered buffers",
        "this process may lock %s", unlimited ? "any amount" : text);
}

/* ------------------------------------------------------------------------- I/O */

static void check_uring(kvt_doctor *d)
{
    struct io_uring_params parameters = {0};
    long ring = syscall(SYS_io_uring_setup, 8, &parameters);
    if (ring >= 0) {
        close((int)ring);
        kvt_doctor_find(d, "io_uring", KVT_FINDING_GOOD, NULL, "works; features 0x%x", parameters.features);
        return;
    }
    const char *remedy = errno == EPERM ? "allow it (sysctl kernel.io_uring_disabled, the container's seccomp profile)"
                                        : "a newer kernel has it; threads stand in until then";
    kvt_doctor_find(d, "io_uring", KVT_FINDING_NOTE, remedy, "cannot be used: %s; a pool of threads stands in",
                    strerror(errno));
}

/* -------------------------------------------------------------------- the build */

static bool is_built_in(const char *part) { return strstr(kvt_version_text(), part) != NULL; }

static void judge_backend(kvt_doctor *d, const char *backend)
{
    bool asked = d->context->global.backend != NULL;
    if (asked || !is_built_in("+cuda") || strstr(backend, "cuda") != NULL)
        kvt_doctor_find(d, "backend", KVT_FINDING_GOOD, NULL, "%s", backend);
    else if (access("/dev/nvidiactl", F_OK) != 0)
        kvt_doctor_find(d, "backend", KVT_FINDING_NOTE, "pages in device memory need one; pages in host memory do not",
                        "%s; no NVIDIA GPU on this host", backend);
    else
        kvt_doctor_find(d, "backend", KVT_FINDING_NOTE, "check the driver with nvidia-smi",
                        "%s; the NVIDIA GPU of this host cannot be used", backend);
}

static void check_build(kvt_doctor *d)
{
    uint32_t cpu = kvt_cpu_features();
    kvt_doctor_find(d, "library", KVT_FINDING_GOOD, NULL, "%s", kvt_version_text());
    kvt_doctor_find(d, "processor", KVT_FINDING_GOOD, NULL, "%ld online;%s%s%s", sysconf(_SC_NPROCESSORS_ONLN),
                    cpu & KVT_CPU_SSE42 ? " SSE4.2" : "", cpu & KVT_CPU_AVX2 ? " AVX2" : "",
                    cpu & KVT_CPU_AVX512 ? " AVX-512" : "");
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_engine *engine;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = 1 << 20;
    options.backend = d->context->global.backend;
    kvt_status status = kvt_open(&options, &engine);
    if (status != KVT_OK) {
        kvt_doctor_find(d, "backend", KVT_FINDING_BAD,
                        "leave out --backend and KVTIER_BACKEND to get the best one that works", "%s",
                        cli_reason(status));
        return;
    }
    kvt_stats stats = {.struct_size = sizeof stats};
    if (kvt_get_stats(engine, &stats) == KVT_OK)
        judge_backend(d, stats.backend);
    kvt_close(engine);
}

static void check_rocks(kvt_doctor *d)
{
    char path[512];
    if (!is_built_in("+rocks"))
        kvt_doctor_find(d, "rocksdb", KVT_FINDING_NOTE, "build it where RocksDB is installed, if you want that tier",
                        "the rocks tier is not part of this build; the file tier needs none");
    else if (kvt_rocks_module_find(path, sizeof path) == KVT_OK)
        kvt_doctor_find(d, "rocksdb", KVT_FINDING_GOOD, NULL, "the rocks tier loads %s", path);
    else
        kvt_doctor_find(d, "rocksdb", KVT_FINDING_NOTE, "install the module and librocksdb, if you want that tier",
                        "%s", kvt_last_error());
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
    kvt_doctor d = {.context = context, .report = cli_report_open(context, "kvtier.doctor/1")};
    cli_report_rows(d.report, "checks", NULL, columns, sizeof columns / sizeof *columns);
    check_build(&d);
    check_rocks(&d);
    check_memory(&d);
    check_pages(&d);
    check_memlock(&d);
    check_uring(&d);
    kvt_doctor_check_disk(&d);
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
        "Examines the build, the RocksDB module, memory, limits and io_uring; then the file system of the store, or of "
        "the folder it would be made in (the current one when none is named): direct I/O, the time of a barrier and "
        "what "
        "it means for a power loss, free space; and last the store itself. Each finding is good, a note (it works, but "
        "slower or smaller) or bad, with the remedy. Nothing is changed.\n\n"
        "Exits with 1 when a finding is bad.",
    .examples = "kvtier doctor -s /var/lib/kvtier",
    .run = run_doctor,
};
