/* SPDX-License-Identifier: Apache-2.0
 *
 * The page layouts of inference engines, as data. The one idea: a layout is the order in which dimensions nest, so one
 * function turns any order into strides, and a new engine is a new line of the table. Moves nothing.
 */
#include "kernels/layout_named.h"

#define OPAQUE_CROSS (KVT_NAMED_OPAQUE | KVT_NAMED_LAYER_BASES)
/* clang-format off */
static const kvt_named_layout table[] = {
    {"vllm-flash-nhd",        "L|PBTHD", "vLLM FlashAttention, NHD",                       2, 0},
    {"vllm-flash-hnd",        "L|PBHTD", "vLLM FlashAttention, HND",                       2, 0},
    {"flashinfer-nhd",        "L|BPTHD", "vLLM FlashInfer, NHD",                           2, 0},
    {"flashinfer-hnd",        "L|BPHTD", "vLLM FlashInfer, HND",                           2, 0},
    {"cross-layer-nhd",       "|BLPTHD", "vLLM cross-layer pool, NHD; Dynamo operational", 2, 0},
    {"cross-layer-hnd",       "|BLPHTD", "vLLM cross-layer pool, HND",                     2, 0},
    {"mla",                   "L|BTHD",  "vLLM MLA (one head: the latent row)",            1, 0},
    {"fused-nhd",             "L|BTHPD", "vLLM blocks-first, K|V in one row, NHD",         2, 0},
    {"fused-hnd",             "L|BHTPD", "vLLM blocks-first, K|V in one row, HND",         2, 0},
    {"content-nhd",           "L|BTHD",  "vLLM content-size rows, NHD, opaque",            1, KVT_NAMED_OPAQUE},
    {"content-hnd",           "L|BHTD",  "vLLM content-size rows, HND, opaque",            1, KVT_NAMED_OPAQUE},
    {"content-cross-nhd",     "|BLTHD",  "vLLM content-size rows, cross-layer, NHD",       1, OPAQUE_CROSS},
    {"content-cross-hnd",     "|BLHTD",  "vLLM content-size rows, cross-layer, HND",       1, OPAQUE_CROSS},
    {"fused-cross-nhd",       "|BLTHPD", "the same with K and V as planes, NHD",           2, KVT_NAMED_LAYER_BASES},
    {"fused-cross-hnd",       "|BLHTPD", "the same with K and V as planes, HND",           2, KVT_NAMED_LAYER_BASES},
    {"sglang-mha",            "PL|BTHD", "SGLang MHA (all K pointers, then all V)",        2, 0},
    {"sglang-mla",            "L|BTHD",  "SGLang MLA",                                     1, 0},
    {"layer-kv-pairs",        "LP|BTHD", "a K and a V pointer per layer",                  2, 0},
    {"tensorrt-llm",          "|BLPHTD", "TensorRT-LLM, one pool per window",              2, 0},
    {"indexer-scales",        "L|BTHD",  "DSA indexer: values, then scales, in a page",    1, KVT_NAMED_SCALES},
    {"sglang-page-first",     "|PBTLHD", "SGLang host pool, page_first",                   2, 0},
    {"sglang-page-direct",    "|PBLTHD", "SGLang host pool, page_first_direct",            2, 0},
    {"sglang-page-head",      "|PBHTLD", "SGLang host pool, page_head",                    2, 0},
    {"dynamo-universal",      "|BHLPTD", "Dynamo universal blocks",                        2, 0},
    {"state-rows",            "L|BTHD",  "recurrent state, a page per snapshot",           1, 0},
};
/* clang-format on */
enum { TABLE_COUNT = sizeof table / sizeof *table };

const kvt_named_layout *kvt_named_layout_at(uint32_t i) { return i < TABLE_COUNT ? &table[i] : NULL; }

const kvt_named_layout *kvt_named_layout_by_name(const char *name)
{
    for (uint32_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

typedef struct order_dim {
    uint64_t extent;
    uint64_t stride; /* bytes; 0 for a dimension that selects a pointer */
    uint32_t base;   /* table entries; 0 for one that does not */
} order_dim;

enum { DIM_P, DIM_L, DIM_B, DIM_T, DIM_H, DIM_COUNT };
static const char letters[] = "PLBTH";

/* The dimensions right of '|', innermost first: strides, and the bytes of a pool. */
static bool memory_strides(const char *order, const char *bar, uint64_t head_bytes, uint64_t page_bytes,
                           order_dim dims[DIM_COUNT], uint64_t *pool_bytes)
{
    uint64_t inside = head_bytes;
    for (const char *at = order + strlen(order) - 2; at > bar; at--) {
        const char *letter = strchr(letters, *at);
        if (letter == NULL)
            return false;
        order_dim *dim = &dims[letter - letters];
        if (*at == 'B' && page_bytes != 0) {
            if (page_bytes < inside)
                return false;
            inside = page_bytes;
        }
        dim->stride = inside;
        if (!kvt_mul_u64(inside, dim->extent, &inside) || inside > INT64_MAX)
            return false;
    }
    *pool_bytes = inside;
    return true;
}

/* The dimensions left of '|', innermost first: steps in the table, and how many pools there are. */
static bool table_steps(const char *order, const char *bar, order_dim dims[DIM_COUNT], uint32_t *pools)
{
    uint64_t count = 1;
    for (const char *at = bar; at-- > order;) {
        const char *letter = strchr(letters, *at);
        if (letter == NULL)
            return false;
        order_dim *dim = &dims[letter - letters];
        dim->base = (uint32_t)count;
        if (!kvt_mul_u64(count, dim->extent, &count) || count > UINT32_MAX)
            return false;
    }
    *pools = (uint32_t)count;
    return true;
}

static kvt_view view_of(const order_dim dims[DIM_COUNT], uint32_t head_bytes, uint32_t element_bytes)
{
    return (kvt_view){
        .plane_count = (uint32_t)dims[DIM_P].extent,
        .head_count = (uint32_t)dims[DIM_H].extent,
        .head_bytes = head_bytes,
        .element_bytes = element_bytes,
        .page_stride = (int64_t)dims[DIM_B].stride,
        .plane_stride = (int64_t)dims[DIM_P].stride,
        .layer_stride = (int64_t)dims[DIM_L].stride,
        .token_stride = (int64_t)dims[DIM_T].stride,
        .head_stride = (int64_t)dims[DIM_H].stride,
        .base_plane = dims[DIM_P].base,
        .base_layer = dims[DIM_L].base,
    };
}

/* Give every layer a base of its own, as engines do that hand out one tensor view per layer of a shared pool. */
static void use_layer_bases(kvt_named_pages *pages)
{
    kvt_view *view = &pages->group.views[0];
    pages->bases_per_pool = pages->group.layer_count;
    pages->group.base_count = pages->pool_count * pages->group.layer_count;
    pages->base_step = (uint64_t)view->layer_stride;
    view->layer_stride = 0;
    view->base_layer = 1;
}

/* Behind the values of a page lie its scales; both views share the page. */
static void add_scales(kvt_named_pages *pages, const kvt_page_geometry *geometry)
{
    kvt_view *values = &pages->group.views[0], *scales = &pages->group.views[1];
    *scales = *values;
    scales->head_count = 1;
    scales->head_bytes = geometry->scale_bytes;
    scales->element_bytes = geometry->scale_bytes % 4 == 0 ? 4 : 1;
    scales->token_stride = geometry->scale_bytes;
    scales->head_stride = geometry->scale_bytes;
    scales->offset = values->token_stride * geometry->page_tokens;
    pages->group.view_count = 2;
}

static kvt_status check_geometry(const kvt_named_layout *layout, const kvt_page_geometry *geometry)
{
    if (geometry->layers == 0 || geometry->page_tokens == 0 || geometry->page_count == 0 || geometry->heads == 0 ||
        geometry->head_bytes == 0)
        return kvt_fail(KVT_INVALID, "layout %s: layers, page_tokens, page_count, heads and head_bytes must not be 0",
                        layout->name);
    if (((layout->flags & KVT_NAMED_SCALES) != 0) != (geometry->scale_bytes != 0))
        return kvt_fail(KVT_INVALID, "layout %s: scale_bytes is %u", layout->name, geometry->scale_bytes);
    if ((layout->flags & KVT_NAMED_OPAQUE) != 0 && geometry->head_bytes > UINT32_MAX / 2)
        return kvt_fail(KVT_INVALID, "layout %s: head_bytes is too large", layout->name);
    return KVT_OK;
}

/* Bytes of a page of values and scales, at least. */
static kvt_status page_with_scales(const kvt_named_layout *layout, const kvt_page_geometry *geometry, uint64_t *bytes)
{
    uint64_t row = (uint64_t)geometry->heads * geometry->head_bytes, need;
    if (!kvt_add_u64(row, geometry->scale_bytes, &row) || !kvt_mul_u64(row, geometry->page_tokens, &need) ||
        (*bytes != 0 && *bytes < need))
        return kvt_fail(KVT_INVALID, "layout %s: page_bytes is %llu, too small for values and scales", layout->name,
                        (unsigned long long)*bytes);
    if (*bytes == 0)
        *bytes = need;
    return KVT_OK;
}

kvt_status kvt_named_layout_build(const kvt_named_layout *layout, const kvt_page_geometry *geometry,
                                  kvt_named_pages *out)
{
    KVT_TRY(check_geometry(layout, geometry));
    const char *bar = strchr(layout->order, '|');
    uint32_t head_bytes = geometry->head_bytes * ((layout->flags & KVT_NAMED_OPAQUE) != 0 ? 2 : 1);
    uint64_t page_bytes = geometry->page_bytes;
    if ((layout->flags & KVT_NAMED_SCALES) != 0)
        KVT_TRY(page_with_scales(layout, geometry, &page_bytes));
    order_dim dims[DIM_COUNT] = {
        [DIM_P] = {layout->planes, 0, 0},       [DIM_L] = {geometry->layers, 0, 0},
        [DIM_B] = {geometry->page_count, 0, 0}, [DIM_T] = {geometry->page_tokens, 0, 0},
        [DIM_H] = {geometry->heads, 0, 0},
    };
    kvt_named_pages pages = {.bases_per_pool = 1};
    if (bar == NULL || !memory_strides(layout->order, bar, head_bytes, page_bytes, dims, &pages.pool_bytes) ||
        !table_steps(layout->order, bar, dims, &pages.pool_count))
        return kvt_fail(KVT_INVALID, "layout %s: order \"%s\" or page_bytes %llu does not fit the geometry",
                        layout->name, layout->order, (unsigned long long)geometry->page_bytes);
    pages.group = (kvt_group){
        .layer_count = geometry->layers,
        .page_tokens = geometry->page_tokens,
        .page_count = geometry->page_count,
        .view_count = 1,
        .base_count = pages.pool_count,
    };
    pages.group.views[0] = view_of(dims, head_bytes, geometry->element_bytes);
    if ((layout->flags & KVT_NAMED_SCALES) != 0)
        add_scales(&pages, geometry);
    if ((layout->flags & KVT_NAMED_LAYER_BASES) != 0)
        use_layer_bases(&pages);
    *out = pages;
    return KVT_OK;
}

void kvt_named_pages_place(kvt_named_pages *pages, void *const *pools, void **bases)
{
    for (uint32_t i = 0; i < pages->group.base_count; i++)
        bases[i] = (uint8_t *)pools[i / pages->bases_per_pool] + pages->base_step * (i % pages->bases_per_pool);
    pages->group.bases = bases;
}
