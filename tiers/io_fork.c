/* SPDX-License-Identifier: Apache-2.0
 *
 * After fork() the child holds copies of our descriptors, and with them the locks: a store would stay taken as long as
 * any forgotten child lives. So every open context is known here, and the child closes its copies at once. Closing
 * only, never unlocking: an unlock would free the parent's lock too. This list is the room's one global; fork offers no
 * argument.
 */
#include "tiers/io_files.h"

#include <unistd.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* guards list; held across fork */
static kvt_io_files *list;
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static void before_fork(void) { pthread_mutex_lock(&list_lock); }
static void in_parent(void) { pthread_mutex_unlock(&list_lock); }

static void close_copy(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* No other lock is taken: its holder may be a thread that does not exist here. */
static void in_child(void)
{
    for (kvt_io_files *files = list; files != NULL; files = files->fork_next) {
        for (int i = 0; i < KVT_IO_FILES_MAX; i++)
            close_copy(&files->entries[i].fd);
        for (int i = 0; i < KVT_IO_EXTRA_FDS; i++)
            close_copy(&files->extra_fds[i]);
        close_copy(&files->directory);
    }
    list = NULL;
    pthread_mutex_unlock(&list_lock);
}

static void install(void) { pthread_atfork(before_fork, in_parent, in_child); }

void kvt_io_fork_add(kvt_io_files *files)
{
    pthread_once(&installed, install);
    pthread_mutex_lock(&list_lock);
    files->fork_next = list;
    list = files;
    pthread_mutex_unlock(&list_lock);
}

void kvt_io_fork_remove(kvt_io_files *files)
{
    pthread_mutex_lock(&list_lock);
    kvt_io_files **link = &list;
    while (*link != NULL && *link != files)
        link = &(*link)->fork_next;
    if (*link != NULL)
        *link = files->fork_next;
    pthread_mutex_unlock(&list_lock);
}

void kvt_io_fork_watch(kvt_io_files *files, int slot, int fd)
{
    pthread_mutex_lock(&list_lock);
    files->extra_fds[slot] = fd;
    pthread_mutex_unlock(&list_lock);
}
