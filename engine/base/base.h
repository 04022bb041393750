/* SPDX-License-Identifier: Apache-2.0
 *
 * The leaf of the tree, libc only: error helpers, byte order, checked arithmetic, memory with a live-byte count, pages,
 * clocks, logging, and the CPU's instruction sets. Knows no other room.
 */
#ifndef KVT_BASE_H
#define KVT_BASE_H

#include "engine/kvtier.h"

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ----------------------------------------------------------------- errors */

/* Return early on failures only (negative), where nothing is held. Answers (positive) go on. */
#define KVT_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        kvt_status kvt_try_status = (expr);                                                                            \
        if (kvt_try_status < 0)                                                                                        \
            return kvt_try_status;                                                                                     \
    } while (0)

/* Set this thread's kvt_last_error() text and give the status back: `return kvt_fail(KVT_INVALID, "page id %u ...",
 * id);`. The text names the thing and the way out. Never tokens, prompts, salts or full keys. */
kvt_status kvt_fail(kvt_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kvt_fail_clear(void);

/* Status of an errno value: ENOMEM -> NOMEM, ENOSPC/EDQUOT -> NOSPACE, others -> IO. */
kvt_status kvt_status_of_errno(int error);

/* ---------------------------------------------------------------- logging */

/* Where messages of one engine go. Silent when write is NULL. Copied by value into rooms. */
typedef struct kvt_log {
    void (*write)(void *arg, kvt_log_level level, const char *message);
    void *arg;
} kvt_log;
void kvt_log_write(const kvt_log *log, kvt_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ------------------------------------------------------- checked arithmetic */

static inline bool kvt_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool kvt_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }

/* Round up to a power of two `to`; the caller has bounded `value`. */
static inline uint64_t kvt_align_up(uint64_t value, uint64_t to) { return (value + to - 1) & ~(to - 1); }
static inline bool kvt_is_power_of_two(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }
static inline uint64_t kvt_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t kvt_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* -------------------------------------------------------------- byte order */

/* Unaligned little-endian access; the formats on disk are little-endian on every machine. Copies, not bytes put
 * together: compilers turn the latter into vector code that a hash then waits for. */
static inline uint32_t kvt_load_le32(const void *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return le32toh(value);
}
static inline uint64_t kvt_load_le64(const void *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}
static inline void kvt_store_le32(void *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}
static inline void kvt_store_le64(void *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

/* -------------------------------------------------------------------- keys */

static inline bool kvt_key_equal(const kvt_key *a, const kvt_key *b) { return memcmp(a, b, sizeof *a) == 0; }
static inline bool kvt_key_is_zero(const kvt_key *key)
{
    return (kvt_load_le64(key->bytes) | kvt_load_le64(key->bytes + 8)) == 0;
}
enum { KVT_KEY_TEXT_BYTES = 2 * KVT_KEY_BYTES + 1 };
/* 32 lower-case hex digits and a NUL; and back (false: not exactly 32 hex digits). */
void kvt_key_to_text(const kvt_key *key, char text[KVT_KEY_TEXT_BYTES]);
bool kvt_key_from_text(const char *text, kvt_key *out);

/* ------------------------------------------------------------------ memory */

/* The library's heap. Zeroed; NULL on failure or when bytes is 0. kvt_live_bytes() counts what is not yet freed:
 * tests assert that it returns to its value. kvt_alloc_fail_at(n) makes the n-th allocation from now fail (tests); 0:
 * none. */
void *kvt_alloc(size_t bytes);
void *kvt_alloc_array(size_t count, size_t bytes);       /* NULL on overflow */
void *kvt_alloc_aligned(size_t alignment, size_t bytes); /* power of two >= sizeof(void *); contents undefined */
char *kvt_strdup(const char *text);                      /* NULL for NULL or when memory is short */
void kvt_free(void *memory);
uint64_t kvt_live_bytes(void);
uint64_t kvt_alloc_count(void);
void kvt_alloc_fail_at(uint64_t n);

/* Bytes that may still be taken before the kernel kills a process for want of memory: of the host and of the control
 * groups around this process. UINT64_MAX: nobody says. `root` goes before /proc and /sys: "", or a test's own tree. */
uint64_t kvt_memory_room(const char *root);

/* Anonymous pages for pools. */
typedef enum kvt_page_kind { KVT_PAGES_SMALL = 0, KVT_PAGES_TRANSPARENT = 1, KVT_PAGES_HUGE = 2 } kvt_page_kind;
enum { KVT_HUGE_PAGE_BYTES = 2 << 20 };
/* Map bytes (rounded up to 2 MiB), 2 MiB-aligned, hugetlb if the host reserved enough, else advised transparent huge
 * pages, else small ones; not dumped into cores, not inherited by fork. Untouched. NULL: out of memory. */
void *kvt_pages_map(uint64_t bytes, kvt_page_kind *out_kind);
void kvt_pages_unmap(void *pages, uint64_t bytes);
/* What the kernel actually gave to a touched mapping: TRANSPARENT only if most of it is huge. Reads /proc/self/smaps.
 */
kvt_page_kind kvt_pages_kind_of(const void *pages, uint64_t bytes, kvt_page_kind asked);
/* Touch every page with thread_count threads (1..64). */
void kvt_pages_touch(void *pages, uint64_t bytes, uint32_t thread_count);

/* ------------------------------------------------------------------- clock */

uint64_t kvt_now_ns(void); /* CLOCK_MONOTONIC */

/* --------------------------------------------------------------------- cpu */

/* bits of kvt_cpu_features() */
enum {
    KVT_CPU_SSE42 = 1u << 0,
    KVT_CPU_AVX2 = 1u << 1,        /* and BMI2 */
    KVT_CPU_AVX512 = 1u << 2,      /* F, BW, VL, DQ, and BMI2 */
    KVT_CPU_AVX512_BYTES = 1u << 3 /* AVX512, and VBMI and VBMI2: byte permutations and expansion */
};
/* What this CPU and OS offer, less what kvt_cpu_mask() hides (tests: run every variant on one machine). */
uint32_t kvt_cpu_features(void);
void kvt_cpu_mask(uint32_t hidden);

#endif
