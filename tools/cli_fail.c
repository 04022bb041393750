/* SPDX-License-Identifier: Apache-2.0
 *
 * How a command fails: one line on standard error that names the thing and the way out, and an exit code. The library
 * speaks of fields and names its store itself; here its words become those of the command line. Also the interrupt
 * flag, the only signal state of the program.
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

/* ------------------------------------------------------------ the library's words */

enum { REASON_BYTES = 1024 };

static const struct {
    const char *field, *option;
} field_names[] = {
    {"chunk_tokens", "chunk-tokens"}, {"segment_bytes", "segment-bytes"},  {"disk_bytes_max", "disk-bytes"},
    {"host_bytes_max", "host-bytes"}, {"blob_bytes_max", "segment-bytes"}, /* what bounds a blob of a new store */
    {"worker_count", "workers"},      {"rank_count", "rank-count"},        {"codec_level", "codec-level"},
};

/* Whole phrases that only make sense to a program; with the option at hand, and without it. */
static const struct {
    const char *phrase, *option, *with, *without;
} phrases[] = {
    {"open with the option to reset a corrupt store", "reset-corrupt", "give --reset-corrupt",
     "let 'kvtier warm' or 'put' do it with --reset-corrupt"},
    {", or a new store with a larger blob_bytes_max", "segment-bytes", ", or a new store with a larger --segment-bytes",
     ", or a new store"},
    {"open it for writing to start anew", "reset-corrupt", "'kvtier warm' or 'put' starts it anew",
     "'kvtier warm' or 'put' starts it anew"},
};

static const cli_command *speaker; /* set once, before the command runs */

void cli_fail_for(const cli_command *command) { speaker = command; }

static bool has_option(const char *name)
{
    for (size_t i = 0; speaker != NULL && i < speaker->option_count; i++)
        if (strcmp(speaker->options[i].name, name) == 0)
            return true;
    return false;
}

static bool is_word_byte(char byte)
{
    return byte == '_' || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* The phrase or field at `at`: how long it is, and what stands for it; 0: neither. */
static size_t find_words(const char *at, bool word_start, char *instead, size_t bytes)
{
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        size_t length = strlen(phrases[i].phrase);
        if (strncmp(at, phrases[i].phrase, length) != 0)
            continue;
        snprintf(instead, bytes, "%s", has_option(phrases[i].option) ? phrases[i].with : phrases[i].without);
        return length;
    }
    for (size_t i = 0; word_start && i < sizeof field_names / sizeof *field_names; i++) {
        size_t length = strlen(field_names[i].field);
        if (strncmp(at, field_names[i].field, length) != 0 || is_word_byte(at[length]))
            continue;
        if (has_option(field_names[i].option)) {
            snprintf(instead, bytes, "--%s", field_names[i].option);
        } else { /* in words */
            snprintf(instead, bytes, "%s", field_names[i].field);
            for (char *under = instead; (under = strchr(under, '_')) != NULL;)
                *under = ' ';
        }
        return length;
    }
    return 0;
}

const char *cli_reason(kvt_status status)
{
    static _Thread_local char text[REASON_BYTES];
    const char *why = kvt_last_error();
    size_t used = 0;
    char instead[120];
    if (*why == '\0')
        return kvt_status_text(status);
    for (const char *at = why; *at != '\0' && used + sizeof instead < sizeof text;) {
        size_t length = find_words(at, at == why || !is_word_byte(at[-1]), instead, sizeof instead);
        if (length == 0)
            text[used++] = *at++;
        else
            used += (size_t)snprintf(text + used, sizeof text - used, "%s", instead);
        at += length;
    }
    text[used] = '\0';
    return text;
}

/* ------------------------------------------------------------------------- saying */

/* A message of the library may begin with what it is about, which stands before it already. */
static const char *without_subject(const char *thing, const char *message)
{
    static const char *const leads[] = {"", "store "};
    size_t length = strlen(thing);
    for (size_t i = 0; i < sizeof leads / sizeof *leads; i++) {
        const char *at = message + strlen(leads[i]);
        if (strncmp(message, leads[i], strlen(leads[i])) != 0 || strncmp(at, thing, length) != 0)
            continue;
        if (at[length] == ' ' || (at[length] == ':' && at[length + 1] == ' '))
            return at + length + (at[length] == ':' ? 2 : 1);
    }
    return message;
}

/* Messages may quote file names and stored text: control bytes must not reach the terminal. */
static void say(const char *severity, const char *thing, const char *message)
{
    char line[1400];
    snprintf(line, sizeof line, "kvtier: %s%s: %s", severity, thing, without_subject(thing, message));
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
    say("", thing, cli_reason(status));
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
