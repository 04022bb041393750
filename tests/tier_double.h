/* SPDX-License-Identifier: Apache-2.0
 *
 * A tier in memory that misbehaves on command: it stalls, fails, is late, or corrupts. It is a complete tier (it evicts
 * in the order of use, keeps its records across close and open within the process) and passes the conformance suite as
 * such. Commands may be given from any thread, before and while it is open. There is one in a process.
 */
#ifndef KVT_TIER_DOUBLE_H
#define KVT_TIER_DOUBLE_H

#include "tiers/tiers.h"

extern const kvt_tier_ops kvt_tier_double_ops; /* says KVT_TIER_FILE, evicts itself, persists, claims durable acks */

/* Let it stand in for the file tier, with no record and no command pending; and end that. Not while a tier is open. */
void kvt_double_install(void);
void kvt_double_remove(void);

/* Hold operations of a verb from now on, as a device that does not answer; false: work off what was held. Nothing of an
 * operation's memory is touched while it is held. A close ends held operations with KVT_IO. */
void kvt_double_stall(kvt_tier_verb verb, bool on);
/* Let this many held operations through. */
void kvt_double_release(kvt_tier_verb verb, uint32_t count);
/* Operations held right now, and operations submitted since the install. */
uint32_t kvt_double_held(kvt_tier_verb verb);
uint64_t kvt_double_seen(kvt_tier_verb verb);
/* Complete each operation of a verb no sooner than ns after its submission. */
void kvt_double_delay(kvt_tier_verb verb, uint64_t ns);
/* The nth operation of a verb from now (1: the next), and count - 1 after it, end with status and error, nothing done.
 * count 0: end that. */
void kvt_double_fail(kvt_tier_verb verb, uint64_t nth, uint64_t count, kvt_status status, int32_t error);
/* The nth read from now, and count - 1 after it, deliver a payload with one byte changed, and say KVT_OK. */
void kvt_double_corrupt(uint64_t nth, uint64_t count);
/* Take a record away as damaged, telling on_evict(damaged). false: not held. */
bool kvt_double_damage(const kvt_key *space, const kvt_key *key);
/* Records held, also while closed. */
uint64_t kvt_double_records(void);

#endif
