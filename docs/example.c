/* SPDX-License-Identifier: Apache-2.0 */
/* Save a prompt's keys and values from paged memory, close, open again, and put them back into other pages. */
#include <kvtier.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, HEADS = 8, HEAD_BYTES = 256, PAGE_TOKENS = 16, PAGES = 64, TOKENS = 512 };
enum { ROW = HEADS * HEAD_BYTES, PAGE = PAGE_TOKENS * ROW, PLANE = PAGES * PAGE };
static unsigned char pool[LAYERS][2][PLANE]; /* the engine's paged memory: K and V of each layer */

static void check(kvt_status status, const char *what)
{
    if (status < 0 || status == KVT_MISS) {
        fprintf(stderr, "%s: %s (%s)\n", what, kvt_status_text(status), kvt_last_error());
        exit(1);
    }
}

static kvt_engine *open_engine(const char *path, kvt_space **space)
{
    void *bases[1] = {pool};
    kvt_group group = {.layer_count = LAYERS, .page_tokens = PAGE_TOKENS, .page_count = PAGES, .view_count = 1};
    group.views[0] = (kvt_view){.plane_count = 2, .head_count = HEADS, .head_bytes = HEAD_BYTES, .element_bytes = 2};
    group.views[0].page_stride = PAGE, group.views[0].plane_stride = PLANE, group.views[0].layer_stride = 2 * PLANE;
    group.views[0].token_stride = ROW, group.views[0].head_stride = HEAD_BYTES;
    group.bases = bases, group.base_count = 1;

    kvt_options options = KVT_OPTIONS_INIT;
    options.store_path = path;
    options.disk_bytes_max = 256 << 20;
    options.flags = KVT_OPEN_WRITE_THROUGH; /* a save is complete when the disk holds it */
    kvt_space_options names = KVT_SPACE_OPTIONS_INIT;
    names.model = "example", names.dtype = "fp16", names.group_count = 1, names.groups = &group;
    kvt_engine *engine;
    check(kvt_open(&options, &engine), "open");
    check(kvt_space_open(engine, &names, space), "space");
    return engine;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "example-store";
    unsigned tokens[TOKENS], ids[TOKENS / PAGE_TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = 1000 + i;
    for (int i = 0; i < TOKENS / PAGE_TOKENS; i++)
        ids[i] = (unsigned)(i * 7 % PAGES); /* pages in any order */
    for (size_t i = 0; i < sizeof pool; i++)
        ((unsigned char *)pool)[i] = (unsigned char)(i * 2654435761u >> 24);
    static unsigned char computed[sizeof pool];
    memcpy(computed, pool, sizeof pool);

    kvt_space *space;
    kvt_engine *engine = open_engine(path, &space);
    kvt_page_list pages = {ids, TOKENS / PAGE_TOKENS, 0};
    kvt_request request = KVT_REQUEST_INIT;
    request.tokens = tokens, request.token_count = TOKENS, request.pages = &pages, request.group_count = 1;
    kvt_ticket ticket;
    kvt_completion done;
    check(kvt_save(space, &request, &ticket), "save");
    check(kvt_wait(engine, ticket, UINT64_MAX, &done), "wait");
    printf("saved %llu tokens, %llu bytes\n", (unsigned long long)done.tokens, (unsigned long long)done.bytes);
    kvt_space_close(space);
    kvt_close(engine);

    engine = open_engine(path, &space); /* another day */
    for (int i = 0; i < TOKENS / PAGE_TOKENS; i++)
        for (int plane = 0; plane < 2 * LAYERS; plane++)
            memset(pool[plane / 2][plane % 2] + (size_t)ids[i] * PAGE, 0, PAGE);
    check(kvt_load(space, &request, &ticket), "load");
    check(kvt_wait(engine, ticket, UINT64_MAX, &done), "wait");
    printf("restored %llu tokens: %s\n", (unsigned long long)done.tokens,
           memcmp(pool, computed, sizeof pool) == 0 ? "every byte is back" : "BYTES DIFFER");
    kvt_space_close(space);
    kvt_close(engine);
    return memcmp(pool, computed, sizeof pool) != 0;
}
