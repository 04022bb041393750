/* SPDX-License-Identifier: Apache-2.0
 *
 * The backends of this build, best first, and the one wrapper around them: it picks, checks every argument before a
 * byte moves, and composes a move out of rows or copies for a device that has no kernel of its own.
 */
#include "kernels/backend.h"
#include "kernels/layout_int.h"
#include "kernels/rope_int.h"

#include <stdio.h>

#if KVT_HAVE_CUDA
extern const kvt_backend_ops kvt_backend_cuda;
#endif

static const kvt_backend_ops *const table[] = {
#if KVT_HAVE_CUDA
    &kvt_backend_cuda,
#endif
    &kvt_backend_cpu,
    &kvt_backend_portable,
};
enum { TABLE_COUNT = sizeof table / sizeof *table, WHY_BYTES = 160 };

struct kvt_backend {
    const kvt_backend_ops *ops;
    void *context;
    kvt_rung rung; /* never BEST */
};

static const char *const rung_names[] = {"the best way", "kernels", "vendor", "copies"};
enum { RUNG_COUNT = sizeof rung_names / sizeof *rung_names };

/* ---------------------------------------------------------------- choosing */

const char *kvt_backend_name_at(uint32_t i) { return i < TABLE_COUNT ? table[i]->name : NULL; }

static bool has_rung(const kvt_backend_ops *ops, kvt_rung rung)
{
    return rung == KVT_RUNG_KERNELS  ? ops->move != NULL
           : rung == KVT_RUNG_VENDOR ? ops->rows != NULL && ops->copy != NULL
                                     : rung == KVT_RUNG_COPIES && ops->copy != NULL;
}

kvt_status kvt_backend_open_ops(const kvt_backend_ops *ops, kvt_rung rung, const kvt_log *log, kvt_backend **out)
{
    char why[WHY_BYTES] = "";
    if (ops->version != KVT_BACKEND_VERSION || (ops->move == NULL && ops->copy == NULL))
        return kvt_fail(KVT_UNSUPPORTED, "backend %s: made for another version of this library", ops->name);
    for (kvt_rung best = KVT_RUNG_KERNELS; rung == KVT_RUNG_BEST; best++)
        if (has_rung(ops, best))
            rung = best;
    if (!has_rung(ops, rung))
        return kvt_fail(KVT_UNSUPPORTED, "backend %s cannot move by %s", ops->name, rung_names[rung]);
    if (ops->score(why, sizeof why) == 0)
        return kvt_fail(KVT_UNSUPPORTED, "backend %s cannot be used here: %s", ops->name, why);
    kvt_backend *backend = kvt_alloc(sizeof *backend);
    if (backend == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a backend");
    backend->ops = ops;
    backend->rung = rung;
    kvt_status status = ops->open(log, &backend->context);
    if (status != KVT_OK) {
        kvt_free(backend);
        return status;
    }
    *out = backend;
    return KVT_OK;
}

static kvt_status open_named(const kvt_backend_ops *const *from, size_t count, const char *name, size_t length,
                             kvt_rung rung, const kvt_log *log, kvt_backend **out)
{
    char names[96] = "";
    for (size_t i = 0; i < count; i++) {
        if (strlen(from[i]->name) == length && memcmp(from[i]->name, name, length) == 0)
            return kvt_backend_open_ops(from[i], rung, log, out);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i != 0 ? ", " : "", from[i]->name);
    }
    return kvt_fail(KVT_UNSUPPORTED, "backend %.*s is not built in; this build has: %s", (int)kvt_min_u64(length, 64),
                    name, names);
}

/* The table is in order of preference, so the first that opens is the best; a better one left behind is worth a word.
 */
static kvt_status open_best(const kvt_backend_ops *const *from, size_t count, kvt_rung rung, const kvt_log *log,
                            kvt_backend **out)
{
    kvt_status status = KVT_UNSUPPORTED;
    for (size_t i = 0; i < count; i++) {
        status = kvt_backend_open_ops(from[i], rung, log, out);
        if (status >= 0) {
            kvt_fail_clear();
            return status;
        }
        if (from[i]->absent == NULL || !from[i]->absent())
            kvt_log_write(log, KVT_LOG_WARN, "%s; falling back to the next backend", kvt_last_error());
    }
    return status;
}

/* What stands behind the colon. */
static kvt_status read_rung(const char *name, size_t *length, kvt_rung *out)
{
    const char *colon = strchr(name, ':');
    *length = colon != NULL ? (size_t)(colon - name) : strlen(name);
    *out = KVT_RUNG_BEST;
    for (uint32_t i = KVT_RUNG_KERNELS; colon != NULL && i < RUNG_COUNT; i++)
        if (strcmp(colon + 1, rung_names[i]) == 0)
            *out = (kvt_rung)i;
    if (colon != NULL && *out == KVT_RUNG_BEST)
        return kvt_fail(KVT_UNSUPPORTED, "backend %.64s: behind the colon stands kernels, vendor or copies", name);
    return KVT_OK;
}

kvt_status kvt_backend_open_from(const kvt_backend_ops *const *from, size_t count, const char *name, const kvt_log *log,
                                 kvt_backend **out)
{
    static const kvt_log silent = {NULL, NULL};
    kvt_rung rung;
    size_t length;
    if (log == NULL)
        log = &silent;
    if (name == NULL)
        name = "auto";
    KVT_TRY(read_rung(name, &length, &rung));
    if (length == strlen("auto") && memcmp(name, "auto", length) == 0)
        return open_best(from, count, rung, log, out);
    return open_named(from, count, name, length, rung, log, out);
}

kvt_status kvt_backend_open(const char *name, const kvt_log *log, kvt_backend **out)
{
    return kvt_backend_open_from(table, TABLE_COUNT, name, log, out);
}

void kvt_backend_close(kvt_backend *backend)
{
    if (backend == NULL)
        return;
    if (backend->ops->close != NULL)
        backend->ops->close(backend->context);
    kvt_free(backend);
}

void kvt_backend_get_info(const kvt_backend *backend, kvt_backend_info *out)
{
    memset(out, 0, sizeof *out);
    out->name = backend->ops->name;
    out->caps = backend->ops->caps;
    backend->ops->describe(backend->context, out->device);
    size_t used = strlen(out->device);
    if (backend->rung != KVT_RUNG_KERNELS)
        snprintf(out->device + used, sizeof out->device - used, ", by %s", rung_names[backend->rung]);
}

/* ---------------------------------------------------- moves from smaller parts */

static kvt_status copy_run(const kvt_backend *backend, kvt_direction direction, uint8_t *page, uint8_t *blob,
                           uint64_t bytes, void *stream)
{
    return direction == KVT_GATHER ? backend->ops->copy(backend->context, direction, blob, page, bytes, stream)
                                   : backend->ops->copy(backend->context, direction, page, blob, bytes, stream);
}

static kvt_status copy_box(const kvt_backend *backend, kvt_direction direction, const kvt_strip *strip, uint8_t *page,
                           uint8_t *blob, void *stream)
{
    static const kvt_job_dim one = {.extent = 1};
    const kvt_job_dim *inner = strip->inner_count > 0 ? &strip->inner[0] : &one;
    const kvt_job_dim *outer = strip->inner_count > 1 ? &strip->inner[1] : &one;
    for (uint32_t o = 0; o < outer->extent; o++)
        for (uint32_t i = 0; i < inner->extent; i++)
            KVT_TRY(copy_run(backend, direction, page + o * outer->page_stride + i * inner->page_stride,
                             blob + o * outer->blob_stride + i * inner->blob_stride, strip->run, stream));
    return KVT_OK;
}

static kvt_status strip_by_copies(const kvt_backend *backend, kvt_direction direction, const kvt_strip *strip,
                                  void *stream)
{
    for (uint32_t at = 0, n; at < strip->id_count; at += n) {
        n = kvt_strip_merge(strip, at);
        if (strip->ids[at] == KVT_PAGE_NONE)
            continue;
        uint8_t *page = strip->page + strip->ids[at] * strip->page_stride;
        uint8_t *blob = strip->blob + at * strip->blob_stride;
        if (strip->inner_count == 0)
            KVT_TRY(copy_run(backend, direction, page, blob, strip->run * n, stream));
        else
            KVT_TRY(copy_box(backend, direction, strip, page, blob, stream));
    }
    return KVT_OK;
}

/* A vendor's operator wants equal rows, dense on the blob side, and no holes. */
static kvt_status strip_by_rows(const kvt_backend *backend, kvt_direction direction, const kvt_strip *strip,
                                void *stream)
{
    for (uint32_t at = 0; at < strip->id_count;) {
        uint32_t end = at;
        while (end < strip->id_count && strip->ids[end] != KVT_PAGE_NONE)
            end++;
        if (end != at) {
            kvt_rows rows = {strip->page,     strip->blob + at * strip->blob_stride,
                             strip->ids + at, end - at,
                             strip->run,      strip->page_stride};
            KVT_TRY(backend->ops->rows(backend->context, direction, &rows, stream));
        }
        at = end + 1;
    }
    return KVT_OK;
}

static kvt_status move_by_parts(const kvt_backend *backend, const kvt_layout *layout, kvt_direction direction,
                                const kvt_move *moves, size_t count, void *stream)
{
    kvt_job_plan plan;
    kvt_job job;
    kvt_job_plan_begin(&plan, layout, direction, moves, count);
    while (kvt_job_plan_next(&plan, &job)) {
        kvt_strip_cursor cursor;
        kvt_strip strip;
        kvt_strip_begin(&cursor, &job);
        while (kvt_strip_next(&cursor, &strip)) {
            bool rows =
                backend->rung == KVT_RUNG_VENDOR && strip.inner_count == 0 && strip.blob_stride == (int64_t)strip.run;
            KVT_TRY(rows ? strip_by_rows(backend, direction, &strip, stream)
                         : strip_by_copies(backend, direction, &strip, stream));
        }
    }
    return KVT_OK;
}

/* ------------------------------------------------------------------ moving */

kvt_status kvt_backend_move(kvt_backend *backend, const kvt_layout *layout, kvt_direction direction,
                            const kvt_move *moves, size_t count, void *stream, kvt_fence *fence)
{
    fence->impl = NULL;
    if (direction != KVT_GATHER && direction != KVT_SCATTER)
        return kvt_fail(KVT_INVALID, "direction is %d", (int)direction);
    KVT_TRY(kvt_moves_check(layout, moves, count));
    if (count == 0)
        return KVT_OK;
    if (backend->rung == KVT_RUNG_KERNELS)
        return backend->ops->move(backend->context, layout, direction, moves, count, stream, fence);
    kvt_status status = move_by_parts(backend, layout, direction, moves, count, stream);
    if (backend->ops->fence_open == NULL)
        return status;
    kvt_status opened = backend->ops->fence_open(backend->context, stream, fence);
    return status != KVT_OK ? status : opened;
}

static bool turns_anything(const kvt_move *moves, size_t count, const kvt_rope_set *set)
{
    kvt_rope_cursor cursor = {.moves = moves, .set = set, .count = count};
    kvt_rope_part part;
    while (kvt_rope_part_next(&cursor, &part))
        if (part.rope != NULL)
            return true;
    return false;
}

kvt_status kvt_backend_scatter_rope(kvt_backend *backend, const kvt_layout *layout, const kvt_move *moves, size_t count,
                                    const kvt_rope_set *set, void *stream, kvt_fence *fence)
{
    fence->impl = NULL;
    KVT_TRY(kvt_moves_check(layout, moves, count));
    KVT_TRY(kvt_rope_check(layout, moves, count, set));
    if (!turns_anything(moves, count, set))
        return kvt_backend_move(backend, layout, KVT_SCATTER, moves, count, stream, fence);
    if (backend->ops->scatter_rope == NULL || backend->rung != KVT_RUNG_KERNELS)
        return kvt_fail(KVT_UNSUPPORTED, "backend %s cannot move keys to another position", backend->ops->name);
    return backend->ops->scatter_rope(backend->context, layout, moves, count, set, stream, fence);
}

kvt_status kvt_backend_fence_wait(kvt_backend *backend, kvt_fence *fence)
{
    if (fence->impl == NULL)
        return KVT_OK;
    kvt_status status = backend->ops->fence_wait(backend->context, fence);
    fence->impl = NULL;
    return status;
}

kvt_status kvt_backend_fence_order(kvt_backend *backend, const kvt_fence *fence, void *stream)
{
    if (fence->impl == NULL || backend->ops->fence_order == NULL)
        return fence->impl == NULL ? KVT_OK
                                   : kvt_fail(KVT_UNSUPPORTED, "backend %s cannot order streams", backend->ops->name);
    return backend->ops->fence_order(backend->context, fence, stream);
}

kvt_status kvt_backend_tune(kvt_backend *backend, const kvt_backend_tuning *tuning)
{
    if (tuning->transport > KVT_TRANSPORT_DIRECT)
        return kvt_fail(KVT_INVALID, "transport is %u, must be 0..%d", tuning->transport, KVT_TRANSPORT_DIRECT);
    if (backend->ops->tune == NULL)
        return kvt_fail(KVT_UNSUPPORTED, "backend %s has nothing to tune", backend->ops->name);
    return backend->ops->tune(backend->context, tuning);
}

void kvt_backend_calibration(const kvt_backend *backend, char *text, size_t bytes)
{
    if (bytes != 0)
        text[0] = '\0';
    if (backend->ops->calibration != NULL)
        backend->ops->calibration(backend->context, text, bytes);
}

kvt_status kvt_backend_host_register(kvt_backend *backend, void *memory, uint64_t bytes)
{
    if (backend->ops->host_register == NULL)
        return KVT_OK;
    return backend->ops->host_register(backend->context, memory, bytes);
}

void kvt_backend_host_unregister(kvt_backend *backend, void *memory)
{
    if (backend->ops->host_unregister != NULL)
        backend->ops->host_unregister(backend->context, memory);
}

kvt_status kvt_backend_pages_alloc(kvt_backend *backend, uint64_t bytes, void **out)
{
    if (backend->ops->pages_alloc != NULL)
        return backend->ops->pages_alloc(backend->context, bytes, out);
    kvt_page_kind kind;
    void *pages = kvt_pages_map(bytes, &kind);
    if (pages == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for %llu bytes of pages", (unsigned long long)bytes);
    *out = pages;
    return KVT_OK;
}

void kvt_backend_pages_free(kvt_backend *backend, void *pages, uint64_t bytes)
{
    if (pages == NULL)
        return;
    if (backend->ops->pages_free != NULL)
        backend->ops->pages_free(backend->context, pages, bytes);
    else
        kvt_pages_unmap(pages, bytes);
}

kvt_status kvt_backend_pages_copy(kvt_backend *backend, kvt_direction direction, void *to, const void *from,
                                  uint64_t bytes)
{
    if (backend->ops->pages_copy != NULL)
        return backend->ops->pages_copy(backend->context, direction, to, from, bytes);
    memcpy(to, from, bytes);
    return KVT_OK;
}
