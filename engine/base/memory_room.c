/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory may still be taken before the kernel kills somebody for it: what the host can give without swapping,
 * and what the control groups around this process leave, of either version. Page cache counts as free in both.
 */
#include "engine/base/base.h"

#include <inttypes.h>
#include <stdio.h>

enum { PATH_BYTES = 1024 };

typedef struct group_files {
    const char *mount;
    const char *limit;
    const char *usage;
    const char *cache; /* of memory.stat */
} group_files;

static const group_files version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_cache"};
static const group_files version_2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "file"};

/* The number behind a word that begins a line, or, with an empty word, that begins the file. */
static bool read_number(const char *path, const char *word, uint64_t *out)
{
    char line[256];
    bool found = false;
    size_t length = strlen(word);
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strncmp(line, word, length) == 0 && sscanf(line + length, "%" SCNu64, out) == 1;
    if (file != NULL)
        fclose(file);
    return found;
}

static bool read_in(const char *folder, const char *name, const char *word, uint64_t *out)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_number(path, word, out);
}

static uint64_t room_of_group(const char *folder, const group_files *files)
{
    uint64_t limit, usage, cache = 0;
    if (!read_in(folder, files->limit, "", &limit) || !read_in(folder, files->usage, "", &usage))
        return UINT64_MAX; /* "max", or no such group here */
    (void)read_in(folder, "memory.stat", files->cache, &cache);
    usage -= kvt_min_u64(cache, usage);
    return limit - kvt_min_u64(usage, limit);
}

/* The group and all around it. Inside a container the path may be one of the host's; then only the root is seen. */
static uint64_t room_of_groups(const char *root, const group_files *files, const char *group)
{
    char folder[PATH_BYTES];
    uint64_t room = UINT64_MAX;
    int base = snprintf(folder, sizeof folder, "%s%s", root, files->mount);
    int length = snprintf(folder, sizeof folder, "%s%s%s", root, files->mount, group);
    if (length < 0 || (size_t)length >= sizeof folder)
        return room;
    for (char *end = folder + length; end != NULL && end >= folder + base; end = strrchr(folder, '/')) {
        *end = '\0';
        room = kvt_min_u64(room, room_of_group(folder, files));
    }
    return room;
}

static uint64_t room_of_line(const char *root, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *group = strrchr(line, ':');
    if (group == NULL)
        return UINT64_MAX;
    *group++ = '\0';
    if (strncmp(line, "0:", 2) == 0)
        return room_of_groups(root, &version_2, group);
    return strstr(line, ":memory") != NULL ? room_of_groups(root, &version_1, group) : UINT64_MAX;
}

uint64_t kvt_memory_room(const char *root)
{
    char path[PATH_BYTES], line[PATH_BYTES];
    uint64_t kib, room = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_number(path, "MemAvailable:", &kib))
        room = kib * 1024;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        room = kvt_min_u64(room, room_of_line(root, line));
    if (file != NULL)
        fclose(file);
    return room;
}
