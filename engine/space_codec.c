/* SPDX-License-Identifier: Apache-2.0
 *
 * What a codec is told of a blob: the planes that its groups lay out, and how their elements are meant.
 */
#include "engine/space.h"

void kvt_space_shape_codec(kvt_space *space, const kvt_space_options *options)
{
    kvt_element_kind named = kvt_element_kind_of(options->dtype);
    for (uint32_t g = 0; g < options->group_count; g++) {
        const kvt_group *group = &options->groups[g];
        space->codec_groups[g] = (kvt_codec_group){group->layer_count, group->view_count, space->codec_views[g]};
        for (uint32_t v = 0; v < group->view_count; v++) {
            const kvt_view *view = &group->views[v];
            kvt_codec_view *out = &space->codec_views[g][v];
            *out = (kvt_codec_view){.plane_count = view->plane_count, .element_bytes = view->element_bytes};
            uint64_t elements = (uint64_t)view->head_count * view->head_bytes / view->element_bytes;
            out->channel_count = elements <= KVT_BLOB_BYTES_MAX ? (uint32_t)elements : 0;
            /* Unnamed elements of two bytes are most often bf16; a wrong guess costs room, never a byte. */
            out->kind = named == KVT_ELEMENT_OPAQUE && view->element_bytes == 2 ? KVT_ELEMENT_BF16 : named;
        }
    }
    space->hint.group_count = options->group_count;
    space->hint.groups = space->codec_groups;
}

kvt_codec_hint kvt_space_codec_hint(const kvt_space *space, uint32_t mask, uint32_t tokens, uint64_t raw_bytes,
                                    kvt_codec_group groups[KVT_GROUPS_MAX])
{
    kvt_codec_hint hint = space->hint;
    hint.group_count = 0;
    hint.groups = groups;
    uint64_t chunk_bytes = 0;
    for (uint32_t g = 0; g < space->hint.group_count; g++) {
        if ((mask >> g & 1) == 0)
            continue;
        groups[hint.group_count++] = space->codec_groups[g];
        chunk_bytes += space->group_bytes[g];
    }
    /* A blob put by key says nothing of its tokens; its size does. */
    uint64_t token_bytes = space->chunk_tokens == 0 ? 0 : chunk_bytes / space->chunk_tokens;
    hint.token_count = tokens != 0 || token_bytes == 0 ? tokens : (uint32_t)(raw_bytes / token_bytes);
    return hint;
}
