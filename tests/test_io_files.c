/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of a store directory: who may have them, what is refused, and what the system's limits do.
 */
#include "tests/io_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, NOBODY = 65534 };

static void path_of(const io_stage *stage, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", stage->directory, name);
}

static kvt_status try_open(io_stage *stage, const char *name, uint32_t flags)
{
    kvt_io_file file;
    kvt_status status = stage->io->ops->open_file(stage->io, name, flags, &file, NULL);
    if (status == KVT_OK)
        stage->io->ops->close_file(stage->io, file);
    return status;
}

/* ---- the lock ---- */

static kvt_io *open_second(io_stage *stage, uint32_t wait_ms)
{
    kvt_io *second;
    kvt_io_config config = {.lock_wait_ms = wait_ms, .sim = stage->disk};
    cr_assert_eq(stage->io->ops->open(stage->directory, false, &config, &second), KVT_OK);
    return second;
}

static void second_opener_is_busy(io_stage *stage)
{
    kvt_io *second = open_second(stage, 60);
    kvt_io_file file;
    cr_assert_eq(kvt_io_sync(stage->io, stage->file), KVT_OK); /* the file has been used */
    uint64_t start_ns = kvt_now_ns();
    cr_assert_eq(second->ops->open_file(second, "data.0", KVT_IO_FILE_LOCK, &file, NULL), KVT_BUSY, "%s", stage->name);
    cr_assert_lt(kvt_now_ns() - start_ns, UINT64_C(2000000000), "%s: it took too long", stage->name);
    cr_assert_eq(second->ops->open_file(second, "data.0", KVT_IO_FILE_LOCK | KVT_IO_FILE_READ_ONLY, &file, NULL),
                 KVT_BUSY, "%s: a reader got in beside the owner", stage->name);
    stage->io->ops->close_file(stage->io, stage->file);
    start_ns = kvt_now_ns();
    cr_assert_eq(second->ops->open_file(second, "data.0", KVT_IO_FILE_LOCK, &file, NULL), KVT_OK, "%s: %s", stage->name,
                 kvt_last_error());
    second->ops->close(second);
}

static void close_frees_the_lock(io_stage *stage)
{
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, 4 * MIB), KVT_OK);
    cr_assert_eq(kvt_io_write_sync(stage->io, stage->file, 0, stage->memory, 4 * MIB), KVT_OK);
    kvt_io *second = open_second(stage, 1); /* at once */
    stage->io->ops->close(stage->io);
    stage->io = second;
    cr_assert_eq(try_open(stage, "data.0", KVT_IO_FILE_LOCK), KVT_OK, "%s: %s", stage->name, kvt_last_error());
}

KVT_TEST(io_files, a_second_opener_is_busy_until_the_first_lets_go) { io_stage_each(second_opener_is_busy); }
KVT_TEST(io_files, close_frees_the_lock) { io_stage_each(close_frees_the_lock); }

/* A child that was forked and lives on must not keep the store locked. */
static void forked_child_holds_nothing(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    cr_assert_eq(kvt_io_sync(stage->io, stage->file), KVT_OK);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    kvt_io *second = open_second(stage, 200);
    stage->io->ops->close(stage->io);
    stage->io = second;
    kvt_status status = try_open(stage, "data.0", KVT_IO_FILE_LOCK);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert_eq(status, KVT_OK, "%s: %s", stage->name, kvt_last_error());
}

KVT_TEST(io_files, a_forked_child_holds_no_lock) { io_stage_each(forked_child_holds_nothing); }

/* The holder is killed with writes under way; the next owner waits for them and then sees nothing change. */
static void run_holder(io_stage *stage, int ready)
{
    kvt_io *io;
    kvt_io_file file;
    kvt_io_config config = {.memory = NULL};
    if (stage->io->ops->open(stage->directory, false, &config, &io) != KVT_OK ||
        io->ops->open_file(io, "data.0", KVT_IO_FILE_LOCK, &file, NULL) != KVT_OK)
        _exit(1);
    static uint8_t memory[MIB] __attribute__((aligned(4096)));
    (void)!write(ready, "r", 1);
    for (uint64_t i = 0;; i++)
        (void)kvt_io_write_sync(io, file, i % 8 * MIB, memory, MIB);
}

static void killed_holder_hands_over(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, 8 * MIB), KVT_OK);
    stage->io->ops->close_file(stage->io, stage->file);
    int ready[2];
    char byte;
    cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0)
        run_holder(stage, ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    kvt_io *second = open_second(stage, 5000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    kvt_io_file file;
    cr_assert_eq(second->ops->open_file(second, "data.0", KVT_IO_FILE_LOCK, &file, NULL), KVT_OK, "%s: %s", stage->name,
                 kvt_last_error());
    second->ops->close(second);
    close(ready[0]);
    close(ready[1]);
}

KVT_TEST(io_files, a_killed_holder_hands_over) { io_stage_each(killed_holder_hands_over); }

/* ---- what is refused ---- */

static void refuses_tricks(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    char data[512], path[512];
    path_of(stage, "data.0", data);
    path_of(stage, "link", path);
    cr_assert_eq(symlink(data, path), 0);
    cr_assert_eq(try_open(stage, "link", 0), KVT_EXISTS, "%s: a symbolic link", stage->name);
    cr_assert_eq(try_open(stage, "link", KVT_IO_FILE_CREATE), KVT_EXISTS, "%s: a symbolic link", stage->name);
    unlink(path);
    cr_assert_eq(symlink("nowhere", path), 0);
    cr_assert_eq(try_open(stage, "link", KVT_IO_FILE_CREATE), KVT_EXISTS, "%s: a dangling link", stage->name);
    path_of(stage, "hard", path);
    cr_assert_eq(link(data, path), 0);
    cr_assert_eq(try_open(stage, "hard", 0), KVT_EXISTS, "%s: a hard link", stage->name);
    unlink(path);
    path_of(stage, "fifo", path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(try_open(stage, "fifo", 0), KVT_EXISTS, "%s: a fifo", stage->name);
    cr_assert_eq(try_open(stage, "fifo", KVT_IO_FILE_READ_ONLY), KVT_EXISTS, "%s: a fifo", stage->name);
    path_of(stage, "folder", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(try_open(stage, "folder", KVT_IO_FILE_READ_ONLY), KVT_EXISTS, "%s: a folder", stage->name);
    cr_assert_eq(try_open(stage, "folder", 0), KVT_EXISTS, "%s: a folder", stage->name);
    cr_assert_eq(chmod(data, 0640), 0);
    cr_assert_eq(try_open(stage, "data.0", 0), KVT_EXISTS, "%s: a file open to others", stage->name);
    if (geteuid() == 0) {
        cr_assert(chmod(data, 0600) == 0 && chown(data, NOBODY, NOBODY) == 0);
        cr_assert_eq(try_open(stage, "data.0", 0), KVT_EXISTS, "%s: a foreign file", stage->name);
    } else {
        fprintf(stderr, "skipped: foreign owner: needs root\n");
    }
}

static void files_are_private(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    static const mode_t masks[] = {0, 022, 0777};
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        char path[512];
        struct stat info;
        mode_t before = umask(masks[i]);
        kvt_status status = try_open(stage, "private", KVT_IO_FILE_CREATE);
        umask(before);
        cr_assert_eq(status, KVT_OK, "%s: %s", stage->name, kvt_last_error());
        path_of(stage, "private", path);
        cr_assert_eq(stat(path, &info), 0);
        cr_assert_eq(info.st_mode & 07777, 0600, "%s: mode %o", stage->name, info.st_mode);
        unlink(path);
    }
}

static void refuses_open_directories(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    kvt_io *io;
    char path[512];
    path_of(stage, "missing", path);
    cr_assert_eq(stage->io->ops->open(path, false, NULL, &io), KVT_IO);
    path_of(stage, "open", path);
    cr_assert(mkdir(path, 0700) == 0 && chmod(path, 0770) == 0);
    cr_assert_eq(stage->io->ops->open(path, false, NULL, &io), KVT_IO, "%s: others can write", stage->name);
    cr_assert(chmod(path, 0700) == 0 && chmod(stage->directory, 0777) == 0);
    cr_assert_eq(stage->io->ops->open(path, false, NULL, &io), KVT_IO, "%s: others can swap it", stage->name);
    static const mode_t fine[] = {01777, 0775};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        cr_assert_eq(chmod(stage->directory, fine[i]), 0);
        cr_assert_eq(stage->io->ops->open(path, false, NULL, &io), KVT_OK, "%s: %s", stage->name, kvt_last_error());
        io->ops->close(io);
    }
}

static void read_only_changes_nothing(io_stage *stage)
{
    kvt_io *io;
    kvt_io_file file;
    kvt_io_config config = {.sim = stage->disk};
    cr_assert_eq(stage->io->ops->open(stage->directory, true, &config, &io), KVT_OK);
    cr_assert_eq(io->ops->open_file(io, "new", KVT_IO_FILE_CREATE, &file, NULL), KVT_MISS, "%s", stage->name);
    cr_assert_eq(io->ops->open_file(io, "data.0", 0, &file, NULL), KVT_OK, "%s", stage->name);
    cr_assert_eq(kvt_io_write_sync(io, file, 0, stage->memory, 4096), KVT_IO, "%s", stage->name);
    cr_assert_lt(io->ops->truncate(io, file, 4096), 0, "%s", stage->name);
    cr_assert_lt(io->ops->allocate(io, file, 4096), 0, "%s", stage->name);
    cr_assert_lt(io->ops->rename(io, "data.0", "x"), 0, "%s", stage->name);
    cr_assert_lt(io->ops->unlink(io, "data.0"), 0, "%s", stage->name);
    io->ops->close(io);
}

KVT_TEST(io_files, links_and_foreign_files_are_refused) { io_stage_each(refuses_tricks); }
KVT_TEST(io_files, new_files_are_private_whatever_the_umask) { io_stage_each(files_are_private); }
KVT_TEST(io_files, directories_that_others_can_write_are_refused) { io_stage_each(refuses_open_directories); }
KVT_TEST(io_files, read_only_changes_nothing) { io_stage_each(read_only_changes_nothing); }

/* ---- limits of the system ---- */

static void truncated_underneath(io_stage *stage)
{
    kvt_io_op op;
    char path[512];
    cr_assert_eq(stage->io->ops->allocate(stage->io, stage->file, 4 * MIB), KVT_OK);
    if (stage->disk != NULL) {
        cr_assert(kvt_sim_file_truncate(stage->disk, "data.0", MIB));
    } else {
        path_of(stage, "data.0", path);
        cr_assert_eq(truncate(path, MIB), 0);
    }
    io_stage_run(stage, &op, KVT_IO_READ, 0, MIB);
    cr_assert_eq(op.status, KVT_OK, "%s", stage->name);
    io_stage_run(stage, &op, KVT_IO_READ, 0, 4 * MIB);
    cr_assert(op.status == KVT_IO && op.system_error == 0, "%s: %d %d", stage->name, op.status, op.system_error);
}

static void file_size_limit(io_stage *stage)
{
    if (stage->disk != NULL)
        return;
    kvt_io *io = stage->io;
    kvt_io_op op;
    cr_assert_eq(io->ops->allocate(io, stage->file, 4 * MIB), KVT_OK);
    struct rlimit limit, before;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){2 * MIB, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    io_stage_run(stage, &op, KVT_IO_WRITE, 3 * MIB, MIB);
    cr_assert(op.status == KVT_IO && op.system_error == EFBIG, "%s: %d %d", stage->name, op.status, op.system_error);
    io_stage_run(stage, &op, KVT_IO_WRITE, MIB, 2 * MIB);
    cr_assert(op.status == KVT_IO && op.system_error == EFBIG, "%s: %d %d", stage->name, op.status, op.system_error);
    io_stage_run(stage, &op, KVT_IO_WRITE, MIB, MIB);
    cr_assert_eq(op.status, KVT_OK, "%s: below the limit", stage->name);
    cr_assert_eq(io->ops->allocate(io, stage->file, 8 * MIB), KVT_NOSPACE, "%s", stage->name);
    cr_assert_eq(io->ops->truncate(io, stage->file, 8 * MIB), KVT_NOSPACE, "%s", stage->name);
    setrlimit(RLIMIT_FSIZE, &before);
}

KVT_TEST(io_files, a_file_cut_short_underneath_reads_as_an_error) { io_stage_each(truncated_underneath); }
KVT_TEST(io_files, the_file_size_limit_is_an_error_not_a_signal) { io_stage_each(file_size_limit); }

/* A file system of 4 MiB in a mount namespace of this test. It has no direct I/O, so the page cache is used. */
static bool mount_small(const char *directory)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=700") == 0)
        return true;
    fprintf(stderr, "skipped: no small file system can be mounted\n");
    return false;
}

static void full_disk(io_stage *stage)
{
    if (stage->disk != NULL || !mount_small(stage->directory))
        return;
    kvt_io *io;
    kvt_io_file file;
    kvt_io_file_info info;
    cr_assert_eq(stage->io->ops->open(stage->directory, false, NULL, &io), KVT_OK);
    cr_assert_eq(io->ops->open_file(io, "data.1", KVT_IO_FILE_CREATE, &file, &info), KVT_OK);
    cr_assert_eq(io->ops->allocate(io, file, MIB), KVT_OK);
    cr_assert_eq(io->ops->allocate(io, file, 8 * MIB), KVT_NOSPACE, "%s", stage->name);
    struct stat after;
    char path[512];
    path_of(stage, "data.1", path);
    cr_assert_eq(stat(path, &after), 0);
    cr_assert_eq(after.st_size, MIB, "%s: a failed reservation left %lld bytes", stage->name, (long long)after.st_size);
    cr_assert_leq(after.st_blocks * 512, MIB, "%s: it left blocks behind", stage->name);
    cr_assert_eq(kvt_io_write_sync(io, file, 0, stage->memory, MIB), KVT_OK, "%s: space that was reserved",
                 stage->name);
    cr_assert_eq(kvt_io_write_sync(io, file, MIB, stage->memory, 4 * MIB), KVT_NOSPACE, "%s: %s", stage->name,
                 kvt_last_error());
    cr_assert_eq(kvt_io_read_sync(io, file, 0, stage->other, MIB), KVT_OK);
    io->ops->close(io);
    umount(stage->directory);
}

KVT_TEST(io_files, a_full_disk_is_an_error_and_leaves_nothing_behind) { io_stage_each(full_disk); }

/* ---- choosing an implementation ---- */

static uint32_t warnings;
static void count_warning(void *arg, kvt_log_level level, const char *message)
{
    (void)arg, (void)message;
    warnings += level <= KVT_LOG_WARN;
}

static bool forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

KVT_TEST(io_files, a_sandbox_without_io_uring_gets_the_pool)
{
    char *directory = kvt_test_tmpdir();
    kvt_io_config config = {.log = {count_warning, NULL}};
    kvt_io *io;
    kvt_io_file file;
    cr_assert(forbid_io_uring());
    cr_assert_eq(kvt_io_open(KVT_IO_AUTO, directory, false, &config, &io), KVT_OK, "%s", kvt_last_error());
    cr_assert_str_eq(io->ops->name, "pool");
    cr_assert_eq(warnings, KVT_HAVE_URING);
    cr_assert_eq(io->ops->open_file(io, "data.0", KVT_IO_FILE_CREATE | KVT_IO_FILE_LOCK, &file, NULL), KVT_OK);
    char path[512];
    snprintf(path, sizeof path, "%s/link", directory);
    cr_assert_eq(symlink("data.0", path), 0);
    cr_assert_eq(io->ops->open_file(io, "link", 0, &file, NULL), KVT_EXISTS, "without openat2 links are refused too");
    io->ops->close(io);
    cr_assert_eq(kvt_io_open(KVT_IO_URING, directory, false, NULL, &io), KVT_UNSUPPORTED);
    cr_assert_eq(kvt_io_open(77, directory, false, NULL, &io), KVT_INVALID);
    kvt_test_rmtree(directory);
    kvt_free(directory);
}

/* Root may lock any amount of memory, hence another user. */
KVT_TEST(io_files, memory_that_cannot_be_registered_is_used_all_the_same)
{
    char *directory = kvt_test_tmpdir();
    kvt_page_kind kind;
    uint8_t *memory = kvt_pages_map(4 * MIB, &kind);
    kvt_io_config config = {.memory = memory, .memory_bytes = 4 * MIB, .log = {count_warning, NULL}};
    struct rlimit none = {0, 0};
    kvt_io *io;
    kvt_io_file file;
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    if (geteuid() == 0)
        cr_assert(chown(directory, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    cr_assert_eq(kvt_io_open(KVT_IO_AUTO, directory, false, &config, &io), KVT_OK, "%s", kvt_last_error());
    cr_assert_null(strstr(io->ops->detail(io), "registered buffers"), "%s", io->ops->detail(io));
    cr_assert_eq(io->ops->open_file(io, "data.0", KVT_IO_FILE_CREATE, &file, NULL), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_io_write_sync(io, file, 0, memory, 4 * MIB), KVT_OK, "%s", kvt_last_error());
    cr_assert_eq(kvt_io_read_sync(io, file, 0, memory, 4 * MIB), KVT_OK, "%s", kvt_last_error());
    io->ops->close(io);
    kvt_test_rmtree(directory);
    kvt_free(directory);
    kvt_pages_unmap(memory, 4 * MIB);
}
