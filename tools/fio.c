/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs fio and reads its JSON. No shell is involved: the words go to execvp, so a path may hold anything.
 */
#include "tools/fio.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h> /* fio's answer */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 24, WORD_BYTES = 4352, ANSWER_BYTES = 1 << 20, SPARE_SECONDS = 60, GRACE_ROUNDS = 300 };

typedef struct command {
    char words[WORDS_MAX][WORD_BYTES];
    char *argv[WORDS_MAX + 1];
    int count;
} command;

static void add(command *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(command *c, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(c->words[c->count], WORD_BYTES, format, values);
    va_end(values);
    c->argv[c->count] = c->words[c->count];
    c->argv[++c->count] = NULL;
}

static void build(const kvt_fio_job *job, command *c)
{
    c->count = 0;
    add(c, "fio");
    add(c, "--name=yardstick");
    add(c, "--filename=%s", job->file);
    add(c, "--size=%" PRIu64, job->bytes);
    add(c, "--rw=%s", job->write ? "write" : "randread");
    add(c, "--bs=%" PRIu64, job->block_bytes);
    add(c, "--iodepth=%" PRIu64, job->depth);
    add(c, "--ioengine=io_uring");
    add(c, "--direct=1");
    add(c, "--iomem=%s", job->small_pages ? "mmap" : "mmaphuge");
    add(c, "--fixedbufs");
    add(c, "--registerfiles");
    add(c, "--overwrite=1");
    add(c, "--fallocate=none");
    add(c, "--refill_buffers=0");
    add(c, "--time_based");
    add(c, "--runtime=%" PRIu64 "ms", job->run_ns / 1000000);
    add(c, "--allow_file_create=0");
    add(c, "--output-format=json");
}

void kvt_fio_command(const kvt_fio_job *job, char *text, size_t bytes)
{
    command c;
    build(job, &c);
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < c.count && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i == 0 ? "" : " ", c.words[i]);
}

/* Start the command with its output in a pipe. Standard error goes the same way, so that a complaint can be told. */
static pid_t start(char *const *argv, int *out_fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    if (child < 0)
        close(ends[0]);
    *out_fd = ends[0];
    return child;
}

/* All it says, until it closes the pipe or time is up. */
static size_t listen_to(int fd, uint64_t timeout_ns, char *text, size_t bytes)
{
    uint64_t end = kvt_now_ns() + timeout_ns;
    size_t used = 0;
    while (used + 1 < bytes) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        uint64_t now = kvt_now_ns();
        if (now >= end || poll(&wait, 1, (int)kvt_min_u64((end - now) / 1000000 + 1, 1000)) < 0)
            break;
        if (wait.revents == 0)
            continue;
        ssize_t got = read(fd, text + used, bytes - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    text[used] = '\0';
    return used;
}

/* Exit status, or -1. */
static int run_child(char *const *argv, uint64_t timeout_ns, char *text, size_t bytes)
{
    int fd = -1;
    int status = 0;
    pid_t child = start(argv, &fd);
    if (child < 0)
        return -1;
    listen_to(fd, timeout_ns, text, bytes);
    close(fd);
    for (int i = 0; waitpid(child, &status, WNOHANG) == 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        if (i == GRACE_ROUNDS)
            kill(child, SIGKILL); /* its time is up */
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool kvt_fio_version(char *text, size_t bytes)
{
    char name[] = "fio";
    char flag[] = "--version";
    char *argv[] = {name, flag, NULL};
    if (run_child(argv, UINT64_C(10000000000), text, bytes) != 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return true;
}

bool kvt_fio_huge_pages(const kvt_fio_job *job)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[160];
    unsigned long free_pages = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "HugePages_Free: %lu", &free_pages) == 1)
            break;
    if (file != NULL)
        fclose(file);
    /* fio maps all buffers at once, with a little room. */
    return free_pages * (uint64_t)KVT_HUGE_PAGE_BYTES >= (job->block_bytes + 4096) * job->depth + KVT_HUGE_PAGE_BYTES;
}

/* "jobs"[0].<verb>.bw_bytes of the answer; fio may say something in front of the object. */
static kvt_status read_rate(const kvt_fio_job *job, const char *answer, double *out_rate)
{
    const char *object = strchr(answer, '{');
    json_error_t error;
    json_t *root = object == NULL ? NULL : json_loads(object, JSON_DISABLE_EOF_CHECK, &error);
    json_t *first = json_array_get(json_object_get(root, "jobs"), 0);
    json_t *verb = json_object_get(first, job->write ? "write" : "read");
    double rate = json_number_value(json_object_get(verb, "bw_bytes"));
    json_decref(root);
    if (rate <= 0)
        return kvt_fail(KVT_IO, "fio gave no figure: %.200s", answer);
    *out_rate = rate;
    return KVT_OK;
}

kvt_status kvt_fio_run(const kvt_fio_job *job, double *out_rate)
{
    command *c = kvt_alloc(sizeof *c);
    char *answer = kvt_alloc(ANSWER_BYTES);
    kvt_status status = c == NULL || answer == NULL ? kvt_fail(KVT_NOMEM, "no memory to run fio") : KVT_OK;
    if (status == KVT_OK) {
        build(job, c);
        int code = run_child(c->argv, job->run_ns + SPARE_SECONDS * UINT64_C(1000000000), answer, ANSWER_BYTES);
        status =
            code == 0 ? read_rate(job, answer, out_rate) : kvt_fail(KVT_IO, "fio ended with %d: %.300s", code, answer);
    }
    kvt_free(c);
    kvt_free(answer);
    return status;
}
