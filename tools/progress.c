/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress lines. The numbers come from the caller; this file only decides when a line is worth drawing and how it
 * looks.
 */
#include "tools/progress.h"

#include "tools/cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    BAR_WIDTH_MAX = 40,
    LINE_BYTES = 256,
    SPARSE_PERCENT = 10 /* away from a terminal: a line every tenth of the way */
};
#define REDRAW_NS     UINT64_C(100000000)
#define SPARSE_NS     UINT64_C(10000000000)
#define FIRST_LINE_NS UINT64_C(1000000000) /* what is over within a second needs no plain lines */

static uint32_t terminal_columns(void)
{
    struct winsize size;
    const char *term = getenv("TERM");
    if (!isatty(STDERR_FILENO) || term == NULL || strcmp(term, "dumb") == 0)
        return 0;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : 80;
}

void kvt_progress_begin(kvt_progress *progress, const char *verb, uint64_t total, bool bytes, bool quiet)
{
    *progress = (kvt_progress){.out = stderr,
                               .verb = verb,
                               .total = total,
                               .columns = terminal_columns(),
                               .bytes = bytes,
                               .silent = quiet,
                               .now_ns = kvt_now_ns};
    progress->started_ns = progress->drawn_ns = kvt_now_ns();
}

static void amount(const kvt_progress *progress, uint64_t value, char *text)
{
    if (progress->bytes)
        cli_format_bytes(text, value, false);
    else
        snprintf(text, CLI_NUMBER_BYTES, "%" PRIu64, value);
}

static uint32_t percent_of(const kvt_progress *progress)
{
    if (progress->total == 0)
        return 0;
    return (uint32_t)((double)kvt_min_u64(progress->done, progress->total) * 100.0 / (double)progress->total);
}

void kvt_progress_line(const kvt_progress *progress, uint32_t width, char *text, size_t bytes)
{
    char done[CLI_NUMBER_BYTES], total[CLI_NUMBER_BYTES], rate[CLI_NUMBER_BYTES], left[CLI_NUMBER_BYTES];
    char bar[BAR_WIDTH_MAX + 4] = "", tail[5 * CLI_NUMBER_BYTES];
    double seconds = (double)(progress->now_ns() - progress->started_ns) / 1e9;
    double speed = seconds > 0 ? (double)progress->done / seconds : 0;
    amount(progress, progress->done, done);
    amount(progress, progress->total, total);
    cli_format_number(rate, progress->bytes ? CLI_UNIT_RATE : CLI_UNIT_NONE, speed, false);
    if (progress->total == 0)
        snprintf(tail, sizeof tail, "%s  %s%s", done, rate, progress->bytes ? "" : "/s");
    else {
        uint64_t rest = progress->total - kvt_min_u64(progress->done, progress->total);
        cli_format_number(left, CLI_UNIT_SECONDS, speed > 0 ? (double)rest / speed : 0, false);
        snprintf(tail, sizeof tail, "%3u %%  %s of %s  %s%s  %s%s", percent_of(progress), done, total, rate,
                 progress->bytes ? "" : "/s", speed > 0 ? left : "", speed > 0 ? " left" : "");
    }
    size_t used = strlen(progress->verb) + strlen(tail) + 7;
    if (progress->total != 0 && width > used + 8) {
        size_t room = kvt_min_u64(width - used, BAR_WIDTH_MAX);
        size_t full = room * percent_of(progress) / 100;
        bar[0] = '[';
        memset(bar + 1, '#', full);
        memset(bar + 1 + full, '.', room - full);
        memcpy(bar + 1 + room, "] ", 3);
    }
    snprintf(text, bytes, "%s  %s%s", progress->verb, bar, tail);
    if (width != 0 && strlen(text) >= width && width < bytes)
        text[width - 1] = '\0'; /* a wrapped line could not be drawn over */
}

static void draw(kvt_progress *progress, uint64_t now)
{
    char line[LINE_BYTES];
    kvt_progress_line(progress, progress->columns, line, sizeof line);
    fprintf(progress->out, progress->columns != 0 ? "\r%s\033[K" : "%s\n", line);
    fflush(progress->out);
    progress->drawn_ns = now;
    progress->drawn_percent = percent_of(progress);
    progress->drawn = true;
}

void kvt_progress_set(kvt_progress *progress, uint64_t done)
{
    progress->done = done;
    if (progress->silent)
        return;
    uint64_t now = progress->now_ns(), since = now - progress->drawn_ns;
    bool due = progress->columns != 0
                   ? since >= REDRAW_NS
                   : since >= SPARSE_NS || (now - progress->started_ns >= FIRST_LINE_NS &&
                                            percent_of(progress) >= progress->drawn_percent + SPARSE_PERCENT);
    if (due)
        draw(progress, now);
}

void kvt_progress_end(kvt_progress *progress)
{
    if (progress->silent || !progress->drawn)
        return;
    if (progress->columns != 0)
        fputs("\r\033[K", progress->out);
    else if (progress->drawn_percent < percent_of(progress) || progress->total == 0)
        draw(progress, progress->now_ns());
    fflush(progress->out);
    progress->drawn = false;
}
