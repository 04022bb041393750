/* SPDX-License-Identifier: Apache-2.0
 *
 * Every public call refuses wrong arguments with a status and a text, and changes nothing.
 */
#include "tests/engine_rig.h"
#include "tests/support.h"

#include <stdio.h>
#include <sys/stat.h>

enum { MIB = 1 << 20 };

static void refused(kvt_status status, const char *word, const char *what)
{
    cr_assert_eq(status, KVT_INVALID, "%s: %s", what, kvt_status_name(status));
    cr_assert_neq(strstr(kvt_last_error(), word), NULL, "%s: the text \"%s\" does not name \"%s\"", what,
                  kvt_last_error(), word);
}

KVT_TEST(api, options_out_of_bounds_are_named)
{
    kvt_engine *engine = NULL;
    refused(kvt_open(NULL, &engine), "store_path", "no options");
    kvt_options options = KVT_OPTIONS_INIT;
    options.lower = KVT_LOWER_NONE;
#define BAD(field, value)                                                                                              \
    do {                                                                                                               \
        kvt_options bad = options;                                                                                     \
        bad.field = (value);                                                                                           \
        refused(kvt_open(&bad, &engine), #field, #field);                                                              \
    } while (0)
    BAD(host_bytes_max, 5);
    BAD(worker_count, 65);
    BAD(inflight_max, 70000);
    BAD(lower, 9);
    BAD(io, 7);
    BAD(flags, 1u << 30);
    BAD(close_ms_max, 4000000);
    BAD(blob_bytes_max, KVT_BLOB_BYTES_MAX + 1);
    BAD(struct_size, 3);
#undef BAD
    options.host_bytes_max = UINT64_C(1) << 41; /* mapping it would work, touching it would kill this process */
    cr_assert_eq(kvt_open(&options, &engine), KVT_NOMEM);
    cr_assert_neq(strstr(kvt_last_error(), "free"), NULL, "%s", kvt_last_error());
    options.host_bytes_max = 0;
    options.lower = KVT_LOWER_FILE;
    options.store_path = "/nonexistent/somewhere";
    cr_assert_eq(kvt_open(&options, &engine), KVT_IO);
    options.store_path = "/etc/hostname";
    cr_assert_eq(kvt_open(&options, &engine), KVT_INVALID);
    cr_assert_null(engine);
}

KVT_TEST(api, a_refused_open_leaves_no_directory_and_ram_alone_touches_none)
{
    char *base = kvt_test_tmpdir();
    char path[600];
    struct stat info;
    snprintf(path, sizeof path, "%s/new", base);
    kvt_engine *engine = NULL;
    kvt_options options = KVT_OPTIONS_INIT;
    options.store_path = path;
    options.backend = "nonsense";
    cr_assert_lt(kvt_open(&options, &engine), 0);
    cr_assert_neq(stat(path, &info), 0, "the directory was made for nothing");
    options.backend = "cpu";
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = MIB;
    cr_assert_eq(kvt_open(&options, &engine), KVT_OK);
    cr_assert_neq(stat(path, &info), 0, "RAM only");
    kvt_close(engine);
    kvt_test_rmtree(base);
    kvt_free(base);
}

KVT_TEST(api, shorter_structs_than_any_release_had_are_refused)
{
    kvt_options options = KVT_OPTIONS_INIT;
    kvt_engine *engine = NULL;
    for (uint32_t bytes = 0; bytes < sizeof options; bytes++) {
        options.struct_size = bytes;
        refused(kvt_open(&options, &engine), "struct_size", "cut somewhere");
    }
}

KVT_TEST(api, longer_option_structs_are_taken_when_their_tail_is_zero)
{
    struct {
        kvt_options options;
        uint64_t future;
    } longer = {{.struct_size = sizeof longer, .lower = KVT_LOWER_NONE, .host_bytes_max = 1 << 20}, 0};
    kvt_engine *engine = NULL;
    cr_assert_eq(kvt_open(&longer.options, &engine), KVT_OK, "%s", kvt_last_error());
    kvt_close(engine);
    longer.future = 1;
    refused(kvt_open(&longer.options, &engine), "unknown", "a field of the future");
}

KVT_TEST(api, a_missing_store_is_a_miss_for_those_who_only_look)
{
    char *base = kvt_test_tmpdir();
    char path[600];
    snprintf(path, sizeof path, "%s/none", base);
    kvt_engine *engine = NULL;
    kvt_options options = KVT_OPTIONS_INIT;
    options.store_path = path;
    options.flags = KVT_OPEN_READ_ONLY;
    cr_assert_eq(kvt_open(&options, &engine), KVT_MISS);
    options.flags = KVT_OPEN_NO_CREATE;
    cr_assert_eq(kvt_open(&options, &engine), KVT_MISS);
    kvt_test_rmtree(base);
    kvt_free(base);
}

KVT_TEST(api, spaces_refuse_impossible_geometries)
{
    rig r;
    rig_init(&r, false, MIB);
    rig_open(&r);
    kvt_space *space = NULL;
    kvt_space_options options = r.space_options;
    kvt_group group = r.group;
    options.groups = &group;
#define BAD(change, word)                                                                                              \
    do {                                                                                                               \
        options = r.space_options;                                                                                     \
        options.groups = &group;                                                                                       \
        group = r.group;                                                                                               \
        change;                                                                                                        \
        refused(kvt_space_open(r.engine, &options, &space), word, #change);                                            \
    } while (0)
    BAD(options.model = NULL, "model");
    BAD(options.model = "a\nb", "model");
    BAD(options.rank = 1, "rank");
    BAD(options.hash = 5, "hash");
    BAD(options.codec = 99, "codec");
    BAD(options.group_count = 9, "group_count");
    BAD(options.groups = NULL, "groups");
    BAD(options.chunk_tokens = 17, "chunk");
    BAD(options.chunk_tokens = 70000, "chunk_tokens");
    BAD(group.layer_count = 0, "layer");
    BAD(group.page_tokens = 0, "page_tokens");
    BAD(group.view_count = 0, "view");
    BAD((group.page_count = 0, group.view_count = 0), "view");
    BAD((group.page_count = 0, group.view_count = 1000), "view");
    BAD((group.page_count = 0, group.views[0].plane_count = 77), "plane");
    BAD((group.page_count = 0, group.views[0].head_bytes = 0), "head_bytes");
    BAD((group.page_count = 0, group.page_tokens = 7), "page_tokens");
    BAD(group.view_count = 5, "view");
    BAD(group.views[0].head_bytes = 0, "head_bytes");
    BAD(group.views[0].plane_count = 3, "plane");
    BAD(group.bases = NULL, "base");
    BAD(group.layer_count = UINT32_MAX, "one token alone");
    BAD((group.layer_count = 400, group.views[0].head_count = 100), "chunk_tokens");
    BAD(group.views[0].page_stride = INT64_MAX, "page_stride");
#undef BAD
    cr_assert_null(space);
    rig_destroy(&r);
}

KVT_TEST(api, requests_refuse_what_would_reach_outside)
{
    rig r;
    uint32_t tokens[100], ids[RIG_PAGES];
    rig_init(&r, false, MIB);
    rig_open(&r);
    rig_prompt(tokens, 100, 0, 1);
    memcpy(ids, r.ids, sizeof ids);
    kvt_page_list list;
    kvt_request good = rig_request(&r, tokens, 100, &list), request;
    kvt_ticket ticket = 0;
    list.ids = ids;
#define BAD(change, word)                                                                                              \
    do {                                                                                                               \
        request = good;                                                                                                \
        change;                                                                                                        \
        refused(kvt_load(r.space, &request, &ticket), word, #change);                                                  \
        refused(kvt_save(r.space, &request, &ticket), word, #change);                                                  \
    } while (0)
    BAD(request.struct_size = 0, "struct_size");
    BAD(request.tokens = NULL, "tokens");
    BAD(request.token_count = UINT64_MAX, "tokens");
    BAD(request.token_end = 101, "tokens");
    BAD((request.token_begin = 50, request.token_end = 40), "tokens");
    BAD(request.pages = NULL, "pages");
    BAD(request.group_count = 2, "pages");
    list.count = 2;
    BAD((void)0, "pages");
    list.count = 7;
    ids[3] = RIG_PAGES;
    BAD((void)0, "128");
    ids[3] = r.ids[3];
#undef BAD
    cr_assert_eq(ticket, 0);
    cr_assert_eq(kvt_load(NULL, &good, &ticket), KVT_INVALID);
    cr_assert_eq(kvt_load(r.space, NULL, &ticket), KVT_INVALID);
    cr_assert_eq(kvt_load(r.space, &good, NULL), KVT_INVALID);
    rig_destroy(&r);
}

KVT_TEST(api, batches_refuse_empty_and_oversized_items)
{
    rig r;
    uint8_t byte;
    rig_init(&r, false, MIB);
    rig_open(&r);
    kvt_item item = {.key = rig_key(1), .buffer = &byte, .bytes = 1};
    kvt_batch batch = KVT_BATCH_INIT;
    kvt_ticket ticket = 0;
    batch.items = &item;
    refused(kvt_put(r.space, &batch, &ticket), "items", "no items");
    batch.count = 70000;
    refused(kvt_put(r.space, &batch, &ticket), "items", "too many items");
    batch.count = 1;
    item.bytes = 0;
    refused(kvt_put(r.space, &batch, &ticket), "items[0]", "an empty item");
    item.bytes = KVT_BLOB_BYTES_MAX + 1;
    refused(kvt_put(r.space, &batch, &ticket), "64 MiB", "a huge item");
    item.bytes = 1;
    item.buffer = NULL;
    refused(kvt_get(r.space, &batch, &ticket), "items[0]", "no buffer");
    cr_assert_eq(ticket, 0);
    rig_destroy(&r);
}

KVT_TEST(api, null_handles_are_answered)
{
    kvt_completion completion;
    kvt_match_result match;
    kvt_plan_result plan;
    cr_assert_eq(kvt_poll(NULL, &completion, 1), 0);
    cr_assert_eq(kvt_eventfd(NULL), -1);
    cr_assert_eq(kvt_wait(NULL, 1, 0, &completion), KVT_INVALID);
    cr_assert_eq(kvt_cancel(NULL, 1), KVT_INVALID);
    cr_assert_eq(kvt_match(NULL, NULL, 0, &match), KVT_INVALID);
    cr_assert_eq(kvt_plan(NULL, 1, 1.0, &plan), KVT_INVALID);
    cr_assert_eq(kvt_get_stats(NULL, NULL), KVT_INVALID);
    kvt_close(NULL);
    kvt_space_close(NULL);
}

KVT_TEST(api, completions_arrive_through_the_eventfd)
{
    rig r;
    uint8_t byte = 1;
    rig_init(&r, false, MIB);
    rig_open(&r);
    kvt_item item = {.key = rig_key(1), .buffer = &byte, .bytes = 1};
    kvt_batch batch = KVT_BATCH_INIT;
    batch.items = &item;
    batch.count = 1;
    batch.user_data = 42;
    kvt_ticket ticket;
    cr_assert_eq(kvt_put(r.space, &batch, &ticket), KVT_OK);
    kvt_completion completion;
    size_t taken = 0;
    for (int i = 0; i < 1000000 && taken == 0; i++)
        taken = kvt_poll(r.engine, &completion, 1);
    cr_assert_eq(taken, 1);
    cr_assert_eq(completion.user_data, 42);
    cr_assert_eq(kvt_wait(r.engine, ticket, 0, &completion), KVT_INVALID, "taken already");
    cr_assert_geq(kvt_eventfd(r.engine), 0);
    rig_destroy(&r);
}

KVT_TEST(api, the_version_says_what_is_inside)
{
    cr_assert_eq(kvt_version(), KVT_RELEASE_NUMBER);
    cr_assert_eq(strncmp(kvt_version_text(), "kvtier ", 7), 0);
}

/* The example of docs/format_keys.md, whose ids were made with xxhsum and sha256sum. */
KVT_TEST(api, a_space_is_named_by_its_descriptor_text)
{
    static const char *const ids[] = {"73540495091cf2f4f72f5d7aed745c83", "c67ef662b6e8d706f68fef8cd3d50767"};
    static const char *const lines[] = {"salt=\nrank=0/1\nhash=xxh3\n",
                                        "salt=d68629cd920ffa5d6fb782423f615479\nrank=0/1\nhash=sha256\n"};
    kvt_engine *engine;
    kvt_options options = KVT_OPTIONS_INIT;
    options.lower = KVT_LOWER_NONE;
    options.host_bytes_max = MIB;
    cr_assert_eq(kvt_open(&options, &engine), KVT_OK);
    kvt_group group = {.layer_count = 32, .page_tokens = 16, .view_count = 1};
    group.views[0] = (kvt_view){.plane_count = 2, .head_count = 8, .head_bytes = 256, .element_bytes = 2};
    for (int i = 0; i < 2; i++) {
        kvt_space_options names = KVT_SPACE_OPTIONS_INIT;
        names.model = "llama-3.1-8b", names.revision = "0e9e39f", names.dtype = "bf16";
        names.position = "rope-neox theta=500000", names.chunk_tokens = 256;
        names.groups = &group, names.group_count = 1;
        names.salt = i == 0 ? NULL : "tenant-7";
        names.hash = i == 0 ? KVT_HASH_XXH3 : KVT_HASH_SHA256;
        kvt_space *space = NULL;
        kvt_status status = kvt_space_open(engine, &names, &space);
        if (status == KVT_UNSUPPORTED)
            continue; /* built without SHA-256 */
        cr_assert_eq(status, KVT_OK, "%s", kvt_last_error());
        kvt_space_info info;
        cr_assert_eq(kvt_space_get_info(space, &info), KVT_OK);
        char id[KVT_KEY_TEXT_BYTES];
        kvt_key_to_text(&info.id, id);
        cr_assert_str_eq(id, ids[i]);
        cr_assert_neq(strstr(info.text, lines[i]), NULL, "%s", info.text);
        kvt_space_close(space);
    }
    kvt_close(engine);
}
