/* SPDX-License-Identifier: Apache-2.0
 *
 * The static table of tiers, and the wrappers that check arguments once for all of them: an implementation sees only
 * operations of legal size and alignment.
 */
#include "tiers/tiers.h"
#include "tiers/tiers_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

enum { TIER_IDS = 3, PATH_BYTES_MAX = 4096 };

static const kvt_tier_ops *const tiers[TIER_IDS] = {
    [KVT_TIER_HOST] = &kvt_tier_host_ops,
    [KVT_TIER_FILE] = &kvt_tier_file_ops,
    [KVT_TIER_ROCKS] = &kvt_tier_rocks_ops,
};

static _Atomic(const kvt_tier_ops *) stand_ins[TIER_IDS]; /* set by tests only; see kvt_tier_ops_replace */

const kvt_tier_ops *kvt_tier_ops_by_id(kvt_tier_id id)
{
    if ((uint32_t)id >= TIER_IDS)
        return NULL;
    const kvt_tier_ops *stand_in = atomic_load(&stand_ins[id]);
    return stand_in != NULL ? stand_in : tiers[id];
}

void kvt_tier_ops_replace(kvt_tier_id id, const kvt_tier_ops *ops)
{
    if ((uint32_t)id < TIER_IDS)
        atomic_store(&stand_ins[id], ops);
}

static bool exists_below(const char *path, const char *name)
{
    char full[PATH_BYTES_MAX];
    struct stat info;
    int length = snprintf(full, sizeof full, "%s/%s", path, name);
    return length > 0 && (size_t)length < sizeof full && stat(full, &info) == 0;
}

kvt_status kvt_tier_detect(const char *path, kvt_tier_id *out)
{
    if (path == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "a store directory is needed to look for its tier");
    if (exists_below(path, "SUPER"))
        *out = KVT_TIER_FILE;
    else if (exists_below(path, "rocks/CURRENT"))
        *out = KVT_TIER_ROCKS;
    else
        return KVT_MISS;
    return KVT_OK;
}

/* ---- opening ---- */

static kvt_status check_options(const kvt_tier_ops *ops, const kvt_tier_options *options)
{
    if (options->bytes_max == 0)
        return kvt_fail(KVT_INVALID, "tier %s: a size is needed", ops->name);
    if ((ops->caps & KVT_TIER_PERSISTS) != 0 && (options->path == NULL || options->path[0] == '\0'))
        return kvt_fail(KVT_INVALID, "tier %s: a store directory is needed", ops->name);
    if (options->path != NULL && strlen(options->path) > PATH_BYTES_MAX / 2)
        return kvt_fail(KVT_INVALID, "tier %s: the store directory's name is too long", ops->name);
    if (options->blob_bytes_max > KVT_PAYLOAD_BYTES_MAX)
        return kvt_fail(KVT_INVALID, "tier %s: payloads of %" PRIu64 " bytes are over the limit of %" PRIu64, ops->name,
                        options->blob_bytes_max, KVT_PAYLOAD_BYTES_MAX);
    if ((options->pool == NULL) != (options->pool_bytes == 0) || (uintptr_t)options->pool % KVT_BLOCK_BYTES != 0)
        return kvt_fail(KVT_INVALID, "tier %s: the pool is not an aligned piece of memory", ops->name);
    return KVT_OK;
}

kvt_status kvt_tier_open(kvt_tier_id id, const kvt_tier_options *options, const kvt_tier_host *host, kvt_tier **out)
{
    const kvt_tier_ops *ops = kvt_tier_ops_by_id(id);
    if (ops == NULL)
        return kvt_fail(KVT_UNSUPPORTED, "tier %d is not built in", (int)id);
    if (options == NULL || host == NULL || out == NULL)
        return kvt_fail(KVT_INVALID, "tier %s: options, host and out are needed", ops->name);
    if (host->on_recovered == NULL || host->on_stored == NULL || host->on_evict == NULL || host->may_evict == NULL ||
        host->clock_ns == NULL)
        return kvt_fail(KVT_INVALID, "tier %s: the host lacks a callback", ops->name);
    KVT_TRY(check_options(ops, options));
    kvt_tier_options checked = *options;
    checked.no_create = options->no_create || options->read_only;
    return ops->open(&checked, host, out);
}

void kvt_tier_close(kvt_tier *tier)
{
    if (tier != NULL)
        tier->ops->close(tier);
}

/* ---- operations ---- */

static bool place_is_zero(const kvt_place *place) { return (place->where | place->generation) == 0; }

static bool op_is_sound(const kvt_tier_op *op)
{
    const kvt_record *record = &op->record;
    if (op->done == NULL || op->image == NULL || (uintptr_t)op->image % KVT_BLOCK_BYTES != 0)
        return false;
    if (record->stored_bytes == 0 || record->stored_bytes > KVT_PAYLOAD_BYTES_MAX)
        return false;
    if (op->verb == KVT_TIER_READ)
        return !place_is_zero(&op->place);
    if (op->verb != KVT_TIER_WRITE || record->raw_bytes == 0 || record->raw_bytes > KVT_BLOB_BYTES_MAX)
        return false;
    return op->digest_count == 0 || op->digest_count == kvt_frame_count(record->stored_bytes);
}

static void refuse(kvt_tier_op *op)
{
    op->status = KVT_INVALID;
    op->system_error = 0;
    if (op->done != NULL)
        op->done(op);
}

void kvt_tier_submit(kvt_tier *tier, kvt_tier_op *list)
{
    kvt_tier_op *sound = NULL, **tail = &sound, *refused = NULL, **refused_tail = &refused;
    for (kvt_tier_op *op = list, *next; op != NULL; op = next) {
        next = op->next;
        op->next = NULL;
        kvt_tier_op ***end = op_is_sound(op) ? &tail : &refused_tail;
        **end = op;
        *end = &op->next;
    }
    if (sound != NULL)
        tier->ops->submit(tier, sound);
    for (kvt_tier_op *op = refused, *next; op != NULL; op = next) {
        next = op->next; /* done may free the operation */
        refuse(op);
    }
}

void kvt_tier_drop(kvt_tier *tier, const kvt_place *places, size_t count)
{
    if (count != 0)
        tier->ops->drop(tier, places, count);
}

kvt_status kvt_tier_erase(kvt_tier *tier, const kvt_place *places, size_t count)
{
    if (tier->ops->erase != NULL)
        return tier->ops->erase(tier, places, count);
    kvt_tier_drop(tier, places, count);
    return KVT_OK;
}

void kvt_tier_touch(kvt_tier *tier, const kvt_place *places, size_t count)
{
    if (count != 0 && tier->ops->touch != NULL)
        tier->ops->touch(tier, places, count);
}

kvt_status kvt_tier_flush(kvt_tier *tier) { return tier->ops->flush != NULL ? tier->ops->flush(tier) : KVT_OK; }

void kvt_tier_get_stats(kvt_tier *tier, kvt_tier_stats *out)
{
    *out = (kvt_tier_stats){.present = 1};
    snprintf(out->name, sizeof out->name, "%s", tier->ops->name);
    tier->ops->stats(tier, out);
}
