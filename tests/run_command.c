/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/run_command.h"

#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 64 };

/* Words of a line, in one block that the caller frees with the first word. */
static int split(const char *store, const char *line, char **argv, char **out_block)
{
    size_t bytes = strlen(line) + 1;
    for (const char *at = strstr(line, "%s"); at != NULL; at = strstr(at + 2, "%s"))
        bytes += strlen(store);
    char *block = kvt_alloc(bytes), *to = block;
    for (const char *at = line; *at != '\0';) {
        if (at[0] == '%' && at[1] == 's') {
            to = stpcpy(to, store);
            at += 2;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
    int argc = 0;
    argv[argc++] = (char *)(uintptr_t)KVT_COMMAND;
    char *rest = block;
    for (char *word; argc < WORDS_MAX - 1 && (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0')
            argv[argc++] = word;
    argv[argc] = NULL;
    *out_block = block;
    return argc;
}

static char *read_all(int file, size_t *out_bytes)
{
    off_t bytes = lseek(file, 0, SEEK_END);
    char *text = kvt_alloc((size_t)bytes + 1);
    cr_assert_eq(pread(file, text, (size_t)bytes, 0), bytes);
    close(file);
    if (out_bytes != NULL)
        *out_bytes = (size_t)bytes;
    return text;
}

static int scratch(void)
{
    int file = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
    cr_assert(file >= 0, "no scratch file: %s", strerror(errno));
    return file;
}

kvt_command_result kvt_command_run(const char *store, const char *line, const char *in)
{
    char *argv[WORDS_MAX], *block;
    int input = scratch(), out = scratch(), err = scratch(), status = 0;
    split(store, line, argv, &block);
    if (in != NULL)
        cr_assert_eq(pwrite(input, in, strlen(in), 0), (ssize_t)strlen(in));
    fflush(NULL);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        dup2(input, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        unsetenv("KVTIER_STORE");
        unsetenv("KVTIER_BACKEND");
        unsetenv("KVTIER_SALT");
        execv(KVT_COMMAND, argv);
        _exit(127);
    }
    close(input);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    kvt_free(block);
    kvt_command_result result = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
    result.out = read_all(out, &result.out_bytes);
    result.err = read_all(err, NULL);
    return result;
}

void kvt_command_free(kvt_command_result *result)
{
    kvt_free(result->out);
    kvt_free(result->err);
}

void kvt_command_expect(const char *store, const char *line, int code, const char *said)
{
    kvt_command_result result = kvt_command_run(store, line, NULL);
    cr_assert_eq(result.code, code, "kvtier %s: exit code %d, not %d\n%s%s", line, result.code, code, result.out,
                 result.err);
    cr_assert(said == NULL || strstr(result.err, said) != NULL, "kvtier %s: said '%s', not '%s'", line, result.err,
              said);
    kvt_command_free(&result);
}
