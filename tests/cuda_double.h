/* SPDX-License-Identifier: Apache-2.0
 *
 * A CUDA runtime in host memory, for the glue of the CUDA backend: the calls that it makes, the kernels acted out
 * thread by thread. Streams really are queues: nothing runs before somebody asks, and then a random stream whose next
 * step may run takes it, so that a missing event shows as wrong bytes. Checks what a device would trip over: alignment,
 * copies across registrations, a batch on the default stream.
 */
#ifndef KVT_CUDA_DOUBLE_H
#define KVT_CUDA_DOUBLE_H

#include <stdbool.h>
#include <stdint.h>

void double_seed(uint64_t seed);
/* The n-th runtime call from now fails (1: the next); 0: none. */
void double_fail_at(uint32_t n);
/* What the device says of its memory, in GB/s; 0, as at the start: nothing. */
void double_memory_rate(uint32_t gbs);
/* Steps that are queued and did not run. */
uint32_t double_pending(void);
/* Runs everything. */
void double_drain(void);
/* The first broken rule, or NULL; forgets it. */
const char *double_complaint(void);
uint32_t double_launches(void);
uint32_t double_copies(void); /* since the start: single ones and entries of batches */

#endif
