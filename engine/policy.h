/* SPDX-License-Identifier: Apache-2.0
 *
 * Pure decisions of the engine, private to the room: which blob leaves RAM next (S3-FIFO), and whether a blob that
 * leaves RAM is written down (write budget and seen-before filter). Nothing here does I/O, reads a clock or knows a
 * tier, so every decision can be replayed. docs/policies.md gives the rules and the figures behind them.
 */
#ifndef KVT_POLICY_H
#define KVT_POLICY_H

#include "engine/base/base.h"

/* ---- S3-FIFO over dense ids 0..id_max-1 with sizes in bytes; not thread-safe, the caller holds its lock; all memory
 * at create. The caller owns the capacity: it evicts until what it inserts next fits. ---- */

#define KVT_S3_NONE UINT32_MAX
enum { KVT_S3_FREQUENCY_MAX = 3 };

typedef struct kvt_s3 kvt_s3;

/* capacity_bytes sets the small queue's share (10 %) and how long the ghosts are remembered (90 %). KVT_INVALID: id_max
 * is 0 or UINT32_MAX, or capacity_bytes is 0; KVT_NOMEM. */
kvt_status kvt_s3_create(uint32_t id_max, uint64_t capacity_bytes, kvt_s3 **out);
void kvt_s3_destroy(kvt_s3 *s3);

/* A blob is in RAM now. Into the small queue; into the main queue when key_hash was evicted from the small one lately.
 * An id that is there already is touched instead. */
void kvt_s3_insert(kvt_s3 *s3, uint32_t id, uint64_t key_hash, uint64_t bytes);
/* Used again: once per request for each chunk it found in RAM, last chunk first, and not for those it brought there
 * itself (a blob nobody came back for must be untouched when it reaches the end of the small queue). An id that is not
 * there is ignored. */
void kvt_s3_touch(kvt_s3 *s3, uint32_t id);
/* Gone for another reason than eviction: leaves no ghost. An id that is not there is ignored. */
void kvt_s3_remove(kvt_s3 *s3, uint32_t id);

bool kvt_s3_contains(const kvt_s3 *s3, uint32_t id);
/* The policy's own counter, 0..KVT_S3_FREQUENCY_MAX; it decays, and is 0 whenever a victim is chosen. */
uint32_t kvt_s3_frequency(const kvt_s3 *s3, uint32_t id);
/* Touches since the last insert, saturating at 255; readable after kvt_s3_evict took the id out. What admission wants.
 */
uint32_t kvt_s3_hits(const kvt_s3 *s3, uint32_t id);
uint64_t kvt_s3_bytes(const kvt_s3 *s3);
uint32_t kvt_s3_count(const kvt_s3 *s3);

/* Choose and take out the next victim for which may(arg, id) is true (NULL: any). Those refused are passed over: they
 * go to the young end of their queue. Each is asked at most KVT_S3_FREQUENCY_MAX + 2 times. KVT_S3_NONE: no id may go.
 */
uint32_t kvt_s3_evict(kvt_s3 *s3, bool (*may)(void *arg, uint32_t id), void *arg);

/* Ids from least to most valuable, at most capacity of them (the least valuable ones). Returns how many. */
size_t kvt_s3_order(const kvt_s3 *s3, uint32_t *ids, size_t capacity);

/* ---- Write budget (token bucket in bytes) and seen-before filter. now_ns is any monotonic clock. Thread-safe (own
 * lock). ---- */

typedef struct kvt_admission kvt_admission;

/* bytes_per_day UINT64_MAX: no budget, everything is admitted. depth_bytes: most that can be saved up, full at create;
 * a tenth of it is the deepest debt. keys_hint: how many keys the filter remembers at least (twice that at most). */
kvt_status kvt_admission_create(uint64_t bytes_per_day, uint64_t depth_bytes, uint64_t keys_hint, kvt_admission **out);
void kvt_admission_destroy(kvt_admission *admission);

/* Bytes that may be written now; negative: debt. INT64_MAX without a budget. */
int64_t kvt_admission_tokens(kvt_admission *admission, uint64_t now_ns);
/* Carry the tokens of an earlier run over (cut to the depth and the deepest debt). */
void kvt_admission_set_tokens(kvt_admission *admission, int64_t tokens, uint64_t now_ns);

/* May a blob leaving RAM be written down? Spends the bytes when true. hits: touches while in RAM. Remembers key_hash
 * either way, so ask once for each departure: a second question about the same one is answered as "seen before".
 * write_through skips the filter but not the limit of debt. */
bool kvt_admission_admit(kvt_admission *admission, uint64_t key_hash, uint64_t bytes, uint32_t hits, bool write_through,
                         uint64_t now_ns);
/* The write failed: give its bytes back. */
void kvt_admission_refund(kvt_admission *admission, uint64_t bytes);

#endif
