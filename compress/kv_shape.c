/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of element types, and the walk over a blob's planes.
 */
#include "compress/kv_shape.h"

#include <ctype.h>

enum { FLAT_PLANE_BYTES = 1 << 18 };

kvt_element_kind kvt_element_kind_of(const char *dtype)
{
    static const struct {
        const char *word;
        kvt_element_kind kind;
    } words[] = {{"bf16", KVT_ELEMENT_BF16},   {"bfloat16", KVT_ELEMENT_BF16}, {"e4m3", KVT_ELEMENT_E4M3},
                 {"e5m2", KVT_ELEMENT_E5M2},   {"fp16", KVT_ELEMENT_FP16},     {"float16", KVT_ELEMENT_FP16},
                 {"half", KVT_ELEMENT_FP16},   {"f16", KVT_ELEMENT_FP16},      {"fp8", KVT_ELEMENT_E4M3},
                 {"float8", KVT_ELEMENT_E4M3}, {"f8", KVT_ELEMENT_E4M3}};
    char lower[64];
    size_t length = 0;
    for (; dtype != NULL && dtype[length] != '\0' && length + 1 < sizeof lower; length++)
        lower[length] = (char)tolower((unsigned char)dtype[length]);
    lower[length] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(lower, words[i].word) != NULL)
            return words[i].kind;
    return KVT_ELEMENT_OPAQUE;
}

static uint64_t view_plane_bytes(const kvt_codec_hint *hint, const kvt_codec_view *view)
{
    return (uint64_t)hint->token_count * view->channel_count * view->element_bytes;
}

/* Whether the groups add up to the blob, within limits that keep every sum below in range. */
static bool fits(const kvt_codec_hint *hint, uint64_t raw_bytes)
{
    uint64_t sum = 0, planes = 0;
    for (uint32_t g = 0; g < hint->group_count; g++) {
        const kvt_codec_group *group = &hint->groups[g];
        for (uint32_t v = 0; v < group->view_count; v++) {
            const kvt_codec_view *view = &group->views[v];
            uint64_t count, bytes;
            if (!kvt_mul_u64(group->layer_count, view->plane_count, &count) || view->channel_count == 0 ||
                view->channel_count > KVT_BLOB_BYTES_MAX || view->element_bytes == 0 || view->element_bytes > 8 ||
                hint->token_count > KVT_BLOB_BYTES_MAX || !kvt_mul_u64(count, view_plane_bytes(hint, view), &bytes) ||
                !kvt_add_u64(sum, bytes, &sum) || !kvt_add_u64(planes, count, &planes))
                return false;
        }
    }
    return hint->group_count != 0 && sum == raw_bytes && planes != 0 && planes <= KVT_KV_PLANES_MAX &&
           hint->token_count != 0;
}

void kvt_kv_shape_start(kvt_kv_shape *shape, const kvt_codec_hint *hint, uint64_t raw_bytes)
{
    *shape = (kvt_kv_shape){.hint = hint, .raw_bytes = raw_bytes, .flat = !fits(hint, raw_bytes)};
}

/* One plane of a view, or an opaque run where no codec knows its elements. */
static kvt_kv_plane plane_of(const kvt_codec_hint *hint, const kvt_codec_view *view)
{
    kvt_kv_plane plane = {.raw_bytes = view_plane_bytes(hint, view)};
    if (view->kind != KVT_ELEMENT_OPAQUE && kvt_element_kind_bytes(view->kind) == view->element_bytes &&
        view->channel_count <= KVT_KV_CHANNELS_MAX) {
        plane.kind = view->kind;
        plane.tokens = hint->token_count;
        plane.channels = view->channel_count;
    }
    return plane;
}

static kvt_kv_plane flat_plane(const kvt_kv_shape *shape)
{
    kvt_kv_plane plane = {.raw_bytes = kvt_min_u64(shape->raw_bytes - shape->done, FLAT_PLANE_BYTES)};
    uint32_t width = kvt_element_kind_bytes(shape->hint->kind);
    if (width == 0 || shape->raw_bytes % width != 0) {
        plane.raw_bytes = shape->raw_bytes;
        return plane;
    }
    plane.kind = shape->hint->kind;
    plane.tokens = (uint32_t)(plane.raw_bytes / width);
    plane.channels = 1;
    return plane;
}

bool kvt_kv_shape_next(kvt_kv_shape *shape, kvt_kv_plane *out)
{
    if (shape->done == shape->raw_bytes)
        return false;
    if (shape->flat) {
        *out = flat_plane(shape);
        shape->done += out->raw_bytes;
        return true;
    }
    const kvt_codec_group *group = &shape->hint->groups[shape->group];
    while (group->layer_count == 0 || shape->layer == group->layer_count || shape->view == group->view_count ||
           shape->plane == group->views[shape->view].plane_count) {
        if (group->layer_count == 0 || shape->layer == group->layer_count)
            group++, shape->group++, shape->layer = shape->view = shape->plane = 0;
        else if (shape->view == group->view_count)
            shape->layer++, shape->view = shape->plane = 0;
        else
            shape->view++, shape->plane = 0;
    }
    *out = plane_of(shape->hint, &group->views[shape->view]);
    shape->plane++;
    shape->done += out->raw_bytes;
    return true;
}

uint32_t kvt_kv_shape_count(const kvt_kv_shape *shape)
{
    kvt_kv_shape walk = *shape;
    kvt_kv_plane plane;
    uint32_t count = 0;
    while (kvt_kv_shape_next(&walk, &plane))
        count++;
    return count;
}
