/* SPDX-License-Identifier: Apache-2.0
 *
 * How a command fails: one line on standard error that names the thing and the way out, and an exit code. Also the
 * interrupt flag, the only signal state of the program.
 */
#include "tools/cli.h"

#include <signal.h>
#include <stdarg.h>

int cli_exit_of(kvt_status status)
{
    switch (status) {
    case KVT_OK:
        return CLI_OK;
    case KVT_MISS:
        return CLI_NOT_FOUND;
    case KVT_BUSY:
        return CLI_BUSY;
    case KVT_PARTIAL:
        return CLI_PARTIAL;
    case KVT_INVALID:
        return CLI_USAGE;
    case KVT_CORRUPT:
        return CLI_CORRUPT;
    case KVT_VERSION:
    case KVT_EXISTS: /* the name stands for something else: another tier, another geometry, other bytes */
        return CLI_INCOMPATIBLE;
    case KVT_TIMEOUT:
        return CLI_TIMEOUT;
    case KVT_CANCELLED:
        return CLI_INTERRUPTED;
    default:
        return CLI_FAILURE;
    }
}

/* Messages may quote file names and stored text: control bytes must not reach the terminal. */
static void say(const char *severity, const char *thing, const char *message)
{
    char line[1400];
    snprintf(line, sizeof line, "kvtier: %s%s: %s", severity, thing, message);
    for (char *at = line; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    fprintf(stderr, "%s\n", line);
}

int cli_fail(int exit_code, const char *thing, const char *format, ...)
{
    char message[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    say("", thing, message);
    return exit_code;
}

int cli_fail_status(kvt_status status, const char *thing)
{
    const char *why = kvt_last_error();
    say("", thing, why != NULL && *why != '\0' ? why : kvt_status_text(status));
    return cli_exit_of(status);
}

void cli_warn(const char *thing, const char *format, ...)
{
    char message[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    say("warning: ", thing, message);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void cli_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND}; /* a second ^C ends it at once */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) { return interrupted != 0; }
