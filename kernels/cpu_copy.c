/* SPDX-License-Identifier: Apache-2.0
 *
 * The cpu backend's inner loops without instruction sets: the C library's memcpy, through the caches.
 */
#include "kernels/cpu_copy.h"

#include <string.h>

static void plain_run(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t *ahead_from, uint8_t *ahead_to)
{
    (void)ahead_from, (void)ahead_to;
    memcpy(to, from, bytes);
}

static void plain_box(uint8_t *to, const uint8_t *from, const kvt_cpu_box *box, const uint8_t *ahead_from)
{
    (void)ahead_from;
    for (uint32_t o = 0; o < box->count[1]; o++)
        for (uint32_t i = 0; i < box->count[0]; i++)
            memcpy(to + o * box->to_step[1] + i * box->to_step[0], from + o * box->from_step[1] + i * box->from_step[0],
                   box->run);
}

static void plain_fence(void) {}

const kvt_cpu_copy kvt_cpu_copy_plain = {"memcpy", plain_run, plain_box, plain_fence};
