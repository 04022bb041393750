/* SPDX-License-Identifier: Apache-2.0
 *
 * What the device can be trusted with: too many errors in a short time switch the tier off, a failed barrier stops
 * writes, and after a while either is tried again. Also asks, once, what a barrier costs here.
 */
#include "tiers/file_calls.h"

enum { BARRIERS = 16, BARRIER_NS_MAX = 5000000, PROBE_BYTES = 1 << 20 };
#define PROBE_NAME "probe.tmp"

static void switch_off(kvt_file *file, uint64_t now_ns)
{
    kvt_file_health *health = &file->health;
    if (health->off_until_ns == 0)
        kvt_log_write(&file->host.log, KVT_LOG_ERROR, "%s: the file tier is off after I/O errors; next try in 30 s",
                      file->path_text);
    health->off_until_ns = now_ns + KVT_FILE_RETRY_NS;
    health->probing = false;
}

/* After the pause everything may try again, but the first error ends it, and the first success heals. */
static void settle(kvt_file *file, uint64_t now_ns)
{
    kvt_file_health *health = &file->health;
    if (health->off_until_ns != 0 && now_ns >= health->off_until_ns)
        health->probing = true;
    if (health->writes_off_until_ns != 0 && now_ns >= health->writes_off_until_ns)
        health->writes_off_until_ns = 0;
}

void kvt_file_io_ended(kvt_file *file, kvt_io_verb verb, kvt_status status)
{
    kvt_file_health *health = &file->health;
    if (status == KVT_OK) {
        if (health->probing) {
            *health = (kvt_file_health){.writes_fixed_off = health->writes_fixed_off,
                                        .data_lost = health->data_lost,
                                        .writes_off_until_ns = health->writes_off_until_ns};
            kvt_log_write(&file->host.log, KVT_LOG_INFO, "%s: the file tier is back", file->path_text);
        }
        return;
    }
    file->counts.errors++;
    if (status != KVT_IO || (verb == KVT_IO_SYNC && file->stopping))
        return;
    uint64_t now_ns = kvt_file_now(file);
    uint64_t *oldest = &health->error_ns[health->error_next];
    bool often = *oldest != 0 && now_ns - *oldest < KVT_FILE_ERROR_SPAN_NS;
    *oldest = now_ns;
    health->error_next = (health->error_next + 1) % KVT_FILE_ERRORS_MAX;
    if (often || health->probing)
        switch_off(file, now_ns);
}

void kvt_file_barrier_failed(kvt_file *file)
{
    file->counts.errors++;
    file->health.writes_off_until_ns = kvt_file_now(file) + KVT_FILE_RETRY_NS;
    kvt_log_write(&file->host.log, KVT_LOG_ERROR,
                  "%s: a sync of the data file failed; what it should have covered is forgotten, writes pause for 30 s",
                  file->path_text);
    for (uint32_t i = 0; i < file->segment_count; i++) {
        uint32_t state = file->segments[i].state;
        if (state == KVT_SEGMENT_OPEN || state == KVT_SEGMENT_SEALING)
            kvt_file_segment_condemn(file, i);
        else if (state == KVT_SEGMENT_PREPARING) /* held nothing yet, and gets a new header the next time */
            kvt_file_segment_free(file, &file->segments[i]);
    }
}

/* What is written to a file without a name, or behind a hole, is acknowledged and gone at the next open. */
bool kvt_file_data_there(kvt_file *file)
{
    uint64_t bytes = 0, wanted = file->segment_count * file->segment_bytes;
    kvt_status status = file->io->ops->examine(file->io, file->data_file, KVT_FILE_DATA_NAME, &bytes);
    pthread_mutex_lock(&file->lock);
    bool lost = status == KVT_MISS || (status == KVT_OK && bytes < wanted);
    bool news = lost && !file->health.data_lost;
    if (news) {
        file->health.data_lost = file->health.writes_fixed_off = true;
        file->counts.errors++;
    }
    bool there = !file->health.data_lost;
    file->looked_ns = kvt_now_ns();
    pthread_mutex_unlock(&file->lock);
    if (news)
        kvt_log_write(&file->host.log, KVT_LOG_ERROR,
                      "%s: " KVT_FILE_DATA_NAME " was %s under the running store; writes are off until it is opened "
                      "again, and what lay there may be gone then",
                      file->path_text, status == KVT_MISS ? "removed or replaced" : "cut short");
    return there;
}

bool kvt_file_admits(kvt_file *file, kvt_tier_verb verb)
{
    kvt_file_health *health = &file->health;
    if (health->off_until_ns != 0 || health->writes_off_until_ns != 0)
        settle(file, kvt_file_now(file));
    if (health->off_until_ns != 0 && !health->probing)
        return false;
    return verb == KVT_TIER_READ || (!health->writes_fixed_off && health->writes_off_until_ns == 0);
}

uint32_t kvt_file_state(kvt_file *file)
{
    const kvt_file_health *health = &file->health;
    settle(file, kvt_file_now(file));
    if (health->off_until_ns != 0)
        return 2;
    return health->writes_fixed_off || health->writes_off_until_ns != 0 ? 1 : 0;
}

/* ---- the cost of a barrier ---- */

/* More than half of the barriers decide the median, whichever way. */
static bool measure(kvt_file *file, kvt_io_file probe)
{
    uint32_t fast = 0, slow = 0;
    memset(file->scratch, 0, PROBE_BYTES);
    while (fast <= BARRIERS / 2 && slow < BARRIERS / 2) {
        if (kvt_io_write_sync(file->io, probe, 0, file->scratch, PROBE_BYTES) != KVT_OK)
            return false;
        uint64_t start_ns = kvt_now_ns();
        if (kvt_io_sync(file->io, probe) != KVT_OK)
            return false;
        if (kvt_now_ns() - start_ns < BARRIER_NS_MAX)
            fast++;
        else
            slow++;
    }
    return fast > slow;
}

/* In a file of its own, so that no segment is disturbed; it is written in place after the first lap, as segments are.
 */
bool kvt_file_barrier_is_fast(kvt_file *file)
{
    kvt_io_file probe;
    const kvt_io_ops *ops = file->io->ops;
    if (ops->open_file(file->io, PROBE_NAME, KVT_IO_FILE_CREATE, &probe, NULL) != KVT_OK)
        return false;
    bool fast = ops->allocate(file->io, probe, PROBE_BYTES) == KVT_OK && measure(file, probe);
    ops->close_file(file->io, probe);
    (void)ops->unlink(file->io, PROBE_NAME);
    kvt_fail_clear();
    return fast;
}
