/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts for people: statuses, the last error of a thread, log lines, keys as hex.
 */
#include "engine/base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_BYTES = 512 };

static _Thread_local char last_error[MESSAGE_BYTES];

const char *kvt_status_name(kvt_status status)
{
    switch (status) {
#define KVT_X(name, value, text)                                                                                       \
    case KVT_##name:                                                                                                   \
        return #name;
        KVT_STATUS_MAP(KVT_X)
#undef KVT_X
    }
    return "UNKNOWN";
}

const char *kvt_status_text(kvt_status status)
{
    switch (status) {
#define KVT_X(name, value, text)                                                                                       \
    case KVT_##name:                                                                                                   \
        return text;
        KVT_STATUS_MAP(KVT_X)
#undef KVT_X
    }
    return "unknown status";
}

const char *kvt_last_error(void) { return last_error; }

void kvt_fail_clear(void) { last_error[0] = '\0'; }

kvt_status kvt_fail(kvt_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

kvt_status kvt_status_of_errno(int error)
{
    switch (error) {
    case 0:
        return KVT_OK;
    case ENOMEM:
        return KVT_NOMEM;
    case ENOSPC:
    case EDQUOT:
        return KVT_NOSPACE;
    default:
        return KVT_IO;
    }
}

void kvt_log_write(const kvt_log *log, kvt_log_level level, const char *format, ...)
{
    if (log == NULL || log->write == NULL)
        return;
    char message[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    log->write(log->arg, level, message);
}

void kvt_key_to_text(const kvt_key *key, char text[KVT_KEY_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < KVT_KEY_BYTES; i++) {
        text[2 * i] = digits[key->bytes[i] >> 4];
        text[2 * i + 1] = digits[key->bytes[i] & 15];
    }
    text[2 * KVT_KEY_BYTES] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool kvt_key_from_text(const char *text, kvt_key *out)
{
    kvt_key key;
    for (int i = 0; i < KVT_KEY_BYTES; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        key.bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (text[2 * KVT_KEY_BYTES] != '\0')
        return false;
    *out = key;
    return true;
}
