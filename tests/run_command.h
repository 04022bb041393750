/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the kvtier program of this build and keeps what it said, for tests of the whole command.
 */
#ifndef KVT_TEST_RUN_COMMAND_H
#define KVT_TEST_RUN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kvt_command_result {
    int code;  /* exit status, or 128 + the signal that ended it */
    char *out; /* NUL-terminated; bytes may be binary */
    char *err;
    size_t out_bytes;
} kvt_command_result;

/* Run `kvtier` with the words of `line` (separated by blanks; %s in it is replaced by `store`, any number of times).
 * Input is `in`, or nothing. Free the result with kvt_command_free. */
kvt_command_result kvt_command_run(const char *store, const char *line, const char *in);
void kvt_command_free(kvt_command_result *result);

/* Run, and assert its exit code; the message of a failure shows the line and what was said. If `said` is not NULL, it
 * must be part of standard error. */
void kvt_command_expect(const char *store, const char *line, int code, const char *said);

#endif
