/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of a file as groups of a space. Layers whose K and V have one shape share a group; where K and V differ, each
 * has its own, since the planes of a view are of one width. Groups are made in the order of the layers, so that the
 * same file always gives the same blob.
 */
#include "tools/warm.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LAYER_DIGITS_MAX = 6, PLANES_MAX = 2 };

/* ------------------------------------------------------------------- the pattern */

static const char layer_mark[] = "{layer}", plane_mark[] = "{plane:";

kvt_status kvt_warm_check_pattern(const char *pattern)
{
    const char *layer = strstr(pattern, layer_mark), *plane = strstr(pattern, plane_mark);
    if (layer == NULL || strstr(layer + 1, layer_mark) != NULL)
        return kvt_fail(KVT_INVALID, "the pattern needs {layer} exactly once, as in layer.{layer}.{plane:k|v}");
    if (plane == NULL)
        return KVT_OK;
    const char *words = plane + sizeof plane_mark - 1, *end = strchr(words, '}');
    const char *bar = strchr(words, '|');
    bool two = end != NULL && bar != NULL && words < bar && bar + 1 < end &&
               memchr(bar + 1, '|', (size_t)(end - bar - 1)) == NULL;
    if (!two || strstr(plane + 1, plane_mark) != NULL)
        return kvt_fail(KVT_INVALID,
                        "the pattern's {plane:K|V} needs two words, as in {plane:k|v} or {plane:key|value}");
    return KVT_OK;
}

/* `name` against the pattern with the plane's word fixed; layer digits without leading zeros. */
static bool match_plane(const char *pattern, const char *name, uint32_t plane, uint32_t *out_layer)
{
    while (*pattern != '\0') {
        if (strncmp(pattern, layer_mark, sizeof layer_mark - 1) == 0) {
            size_t digits = strspn(name, "0123456789");
            if (digits == 0 || digits > LAYER_DIGITS_MAX || (digits > 1 && name[0] == '0'))
                return false;
            *out_layer = (uint32_t)strtoul(name, NULL, 10);
            name += digits;
            pattern += sizeof layer_mark - 1;
        } else if (strncmp(pattern, plane_mark, sizeof plane_mark - 1) == 0) {
            const char *words = pattern + sizeof plane_mark - 1, *bar = strchr(words, '|'), *end = strchr(words, '}');
            const char *word = plane == 0 ? words : bar + 1;
            size_t length = (size_t)((plane == 0 ? bar : end) - word);
            if (strncmp(name, word, length) != 0)
                return false;
            name += length;
            pattern = end + 1;
        } else if (*pattern++ != *name++) {
            return false;
        }
    }
    return *name == '\0';
}

bool kvt_warm_match_name(const char *pattern, const char *name, uint32_t *out_layer, uint32_t *out_plane)
{
    uint32_t planes = strstr(pattern, plane_mark) != NULL ? 2 : 1;
    for (uint32_t plane = 0; plane < planes; plane++)
        if (match_plane(pattern, name, plane, out_layer)) {
            *out_plane = plane;
            return true;
        }
    return false;
}

/* --------------------------------------------------------------------- collecting */

/* A tensor that is KV, with its shape as tokens, heads, dim. */
typedef struct plane_tensor {
    const kvt_tensor *tensor;
    uint32_t layer, plane;
    uint64_t tokens, heads, dim;
} plane_tensor;

typedef struct collection {
    plane_tensor *items; /* by layer, then plane */
    size_t count;
    uint32_t planes; /* 1 or 2, of every layer */
} collection;

static int by_layer(const void *a, const void *b)
{
    const plane_tensor *left = a, *right = b;
    if (left->layer != right->layer)
        return left->layer < right->layer ? -1 : 1;
    return (left->plane > right->plane) - (left->plane < right->plane);
}

/* Leading dimensions of 1 (a batch) are dropped; two dimensions are one head. */
static kvt_status set_shape(plane_tensor *item, bool heads_first)
{
    const kvt_tensor *tensor = item->tensor;
    const uint64_t *shape = tensor->shape;
    uint32_t rank = tensor->rank;
    for (; rank > 3 && shape[0] == 1; rank--)
        shape++;
    if (rank != 2 && rank != 3)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' has %u dimensions; KV has [tokens, heads, dim]", tensor->name,
                        tensor->rank);
    item->dim = shape[rank - 1];
    item->tokens = rank == 2 || !heads_first ? shape[0] : shape[1];
    item->heads = rank == 2 ? 1 : heads_first ? shape[0] : shape[1];
    if (item->tokens == 0 || item->heads == 0 || item->dim == 0)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' is empty", tensor->name);
    if (item->tokens >= KVT_PAGE_NONE || item->heads > UINT32_MAX || item->dim > UINT32_MAX / tensor->element_bytes)
        return kvt_fail(KVT_CORRUPT, "tensor '%.80s' is too large to be KV", tensor->name);
    return KVT_OK;
}

static kvt_status collect(const kvt_safetensors *file, const kvt_warm_naming *naming, collection *out)
{
    size_t total = kvt_safetensors_count(file);
    out->planes = strstr(naming->pattern, plane_mark) != NULL ? 2 : 1;
    out->items = kvt_alloc_array(total + 1, sizeof *out->items);
    if (out->items == NULL)
        return kvt_fail(KVT_NOMEM, "out of memory for %zu tensors", total);
    for (size_t i = 0; i < total; i++) {
        plane_tensor *item = &out->items[out->count];
        item->tensor = kvt_safetensors_at(file, i);
        if (!kvt_warm_match_name(naming->pattern, item->tensor->name, &item->layer, &item->plane))
            continue;
        KVT_TRY(set_shape(item, naming->heads_first));
        out->count++;
    }
    if (out->count == 0)
        return kvt_fail(
            KVT_CORRUPT,
            "holds no tensor named like %s; say how they are named with --tensor-names (the first is '%.80s')",
            naming->pattern, total != 0 ? kvt_safetensors_at(file, 0)->name : "");
    qsort(out->items, out->count, sizeof *out->items, by_layer);
    return KVT_OK;
}

/* Every layer has all its planes, and all tensors one type and one number of tokens. */
static kvt_status check_collection(const collection *c)
{
    const plane_tensor *first = &c->items[0];
    for (size_t i = 0; i < c->count; i++) {
        const plane_tensor *item = &c->items[i];
        const plane_tensor *partner = &c->items[i - i % c->planes];
        if (item->plane != i % c->planes || item->layer != partner->layer ||
            (i % c->planes == 0 && i + c->planes > c->count))
            return kvt_fail(KVT_CORRUPT, "layer %u lacks one of its planes; both K and V are needed",
                            item->plane != 0 ? item->layer : partner->layer);
        if (item->tensor->dtype != first->tensor->dtype)
            return kvt_fail(KVT_CORRUPT, "tensors '%.80s' and '%.80s' are of different types, %s and %s",
                            first->tensor->name, item->tensor->name, first->tensor->dtype, item->tensor->dtype);
        if (item->tokens != first->tokens)
            return kvt_fail(KVT_CORRUPT,
                            "tensors '%.80s' and '%.80s' hold %" PRIu64 " and %" PRIu64
                            " tokens; the order of dimensions may be another, see --layout",
                            first->tensor->name, item->tensor->name, first->tokens, item->tokens);
    }
    return KVT_OK;
}

/* ------------------------------------------------------------------------- groups */

/* What layers must share to be one group. */
typedef struct geometry {
    uint64_t heads, dim;
    uint32_t first_plane, planes;
} geometry;

static bool same_geometry(const geometry *a, const geometry *b)
{
    return a->heads == b->heads && a->dim == b->dim && a->first_plane == b->first_plane && a->planes == b->planes;
}

/* Where layer tensors go; geometries run beside source->groups. */
typedef struct grouping {
    kvt_warm_source *source;
    geometry geometries[KVT_GROUPS_MAX];
    void **bases[KVT_GROUPS_MAX];
    size_t bases_max;
    bool heads_first;
} grouping;

static void describe_group(kvt_group *group, const geometry *g, const plane_tensor *item, bool heads_first)
{
    uint32_t head_bytes = (uint32_t)g->dim * item->tensor->element_bytes;
    int64_t row = (int64_t)(heads_first ? 1 : g->heads) * head_bytes;
    *group = (kvt_group){.page_tokens = 1, .page_count = (uint32_t)item->tokens, .view_count = 1};
    group->views[0] = (kvt_view){.plane_count = g->planes,
                                 .head_count = (uint32_t)g->heads,
                                 .head_bytes = head_bytes,
                                 .element_bytes = item->tensor->element_bytes,
                                 .page_stride = row,
                                 .token_stride = row,
                                 .head_stride = heads_first ? (int64_t)item->tokens * head_bytes : head_bytes,
                                 .base_plane = 1,
                                 .base_layer = g->planes};
}

/* Add a layer's tensors (one, or K and V) to the group of their geometry. */
static kvt_status add_layer(grouping *to, const plane_tensor *items, uint32_t planes)
{
    kvt_warm_source *source = to->source;
    geometry wanted = {items[0].heads, items[0].dim, planes == 2 ? 0 : items[0].plane, planes};
    uint32_t g = 0;
    while (g < source->group_count && !same_geometry(&to->geometries[g], &wanted))
        g++;
    if (g == KVT_GROUPS_MAX)
        return kvt_fail(KVT_CORRUPT, "its layers have more than %d geometries", KVT_GROUPS_MAX);
    kvt_group *group = &source->groups[g];
    if (g == source->group_count) {
        to->bases[g] = kvt_alloc_array(to->bases_max, sizeof *to->bases[g]);
        if (to->bases[g] == NULL)
            return kvt_fail(KVT_NOMEM, "out of memory");
        describe_group(group, &wanted, items, to->heads_first);
        group->bases = to->bases[g];
        to->geometries[g] = wanted;
        source->group_count++;
    }
    for (uint32_t p = 0; p < planes; p++)
        to->bases[g][group->base_count++] = (void *)(uintptr_t)items[p].tensor->data; /* a save only reads */
    group->layer_count++;
    return KVT_OK;
}

static kvt_status make_groups(const collection *c, bool heads_first, kvt_warm_source *source)
{
    grouping to = {.source = source, .bases_max = c->count, .heads_first = heads_first};
    for (size_t i = 0; i < c->count; i += c->planes) {
        const plane_tensor *items = &c->items[i];
        bool together = c->planes == 1 || (items[0].heads == items[1].heads && items[0].dim == items[1].dim);
        if (together) {
            KVT_TRY(add_layer(&to, items, c->planes));
            continue;
        }
        KVT_TRY(add_layer(&to, &items[0], 1));
        KVT_TRY(add_layer(&to, &items[1], 1));
    }
    source->layer_count = (uint32_t)(c->count / c->planes);
    source->token_count = c->items[0].tokens;
    return KVT_OK;
}

/* -------------------------------------------------------------------------- texts */

/* "0-17", "4,11", "0-3,7". */
static kvt_status write_layers(const collection *c, char *text, size_t bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < c->count;) {
        uint32_t from = c->items[i].layer, to = from;
        for (i += c->planes; i < c->count && c->items[i].layer == to + 1; i += c->planes)
            to++;
        char range[32];
        int length = from == to ? snprintf(range, sizeof range, "%s%u", used != 0 ? "," : "", from)
                                : snprintf(range, sizeof range, "%s%u-%u", used != 0 ? "," : "", from, to);
        if (used + (size_t)length >= bytes)
            return kvt_fail(KVT_INVALID, "the list of its layers is too long to be recorded");
        memcpy(text + used, range, (size_t)length + 1);
        used += (size_t)length;
    }
    return KVT_OK;
}

/* Not there: otherwise. What is there and is no number must not pass for the usual one: it says what the KV is. */
static kvt_status metadata_number(const kvt_safetensors *file, const char *name, uint64_t otherwise, uint64_t *out)
{
    const char *text = kvt_safetensors_metadata(file, name);
    *out = otherwise;
    if (text == NULL)
        return KVT_OK;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || *out > INT64_MAX)
        return kvt_fail(KVT_INVALID, "its metadata says %s \"%.40s\", which is no number of positions or layers", name,
                        text);
    return KVT_OK;
}

/* KV of a part of the layers, or computed at other positions, must never answer for the whole: it gets another name. */
static kvt_status write_position(const kvt_safetensors *file, const kvt_warm_naming *naming, const collection *c,
                                 kvt_warm_source *source)
{
    const char *base = naming->position != NULL ? naming->position : kvt_safetensors_metadata(file, "position");
    if (base == NULL && (base = kvt_safetensors_metadata(file, "rope")) == NULL)
        base = "";
    uint64_t model_layers;
    KVT_TRY(metadata_number(file, "model_layers", source->layer_count, &model_layers));
    bool whole = c->items[0].layer == 0 && c->items[c->count - 1].layer + 1 == source->layer_count &&
                 model_layers == source->layer_count;
    char layers[KVT_NAME_BYTES_MAX + 16] = "", first[40] = "";
    if (!whole)
        snprintf(layers, sizeof layers, "%slayers=%s", *base != '\0' ? "; " : "", source->layers);
    if (source->first_position != 0)
        snprintf(first, sizeof first, "%sfirst_position=%" PRIu64, *base != '\0' || !whole ? "; " : "",
                 source->first_position);
    int length = snprintf(source->position, sizeof source->position, "%s%s%s", base, layers, first);
    if (length >= (int)sizeof source->position)
        return kvt_fail(KVT_INVALID,
                        "its position encoding takes %d bytes to write, at most %d fit; say it shorter with --position",
                        length, KVT_NAME_BYTES_MAX - 1);
    return KVT_OK;
}

static kvt_status fill_source(const kvt_safetensors *file, const kvt_warm_naming *naming, const collection *c,
                              kvt_warm_source *source)
{
    KVT_TRY(make_groups(c, naming->heads_first, source));
    KVT_TRY(write_layers(c, source->layers, sizeof source->layers));
    KVT_TRY(metadata_number(file, "first_position", 0, &source->first_position));
    if (naming->first_position != UINT64_MAX)
        source->first_position = naming->first_position;
    KVT_TRY(write_position(file, naming, c, source));
    const char *dtype = c->items[0].tensor->dtype;
    for (size_t i = 0; i < sizeof source->dtype - 1 && dtype[i] != '\0'; i++)
        source->dtype[i] = (char)tolower((unsigned char)dtype[i]);
    source->slots = kvt_alloc_array(source->token_count, sizeof *source->slots);
    if (source->slots == NULL)
        return kvt_fail(KVT_NOMEM, "out of memory for %" PRIu64 " tokens", source->token_count);
    for (uint32_t i = 0; i < source->token_count; i++)
        source->slots[i] = i;
    return KVT_OK;
}

kvt_status kvt_warm_source_init(const kvt_safetensors *file, const kvt_warm_naming *naming, kvt_warm_source *out)
{
    collection c = {0};
    kvt_warm_source source = {0};
    kvt_fail_clear();
    kvt_status status = collect(file, naming, &c);
    if (status == KVT_OK)
        status = check_collection(&c);
    if (status == KVT_OK)
        status = fill_source(file, naming, &c, &source);
    kvt_free(c.items);
    if (status == KVT_OK)
        *out = source;
    else
        kvt_warm_source_fini(&source);
    return status;
}

void kvt_warm_source_fini(kvt_warm_source *source)
{
    for (uint32_t g = 0; g < source->group_count; g++)
        kvt_free((void *)(uintptr_t)source->groups[g].bases);
    kvt_free(source->slots);
    *source = (kvt_warm_source){0};
}
