/* SPDX-License-Identifier: Apache-2.0
 *
 * The exponent codecs' geometry, and the parts of a plane that no inner loop needs to hurry for.
 */
#include "compress/exponent.h"

#include <stdatomic.h>

static _Atomic(const kvt_exponent_ops *) picked;

const kvt_exponent_ops *kvt_exponent_ops_here(void)
{
    /* Relaxed: the tables are constants, so the pointer publishes nothing but itself. */
    const kvt_exponent_ops *ops = atomic_load_explicit(&picked, memory_order_relaxed);
    if (ops == NULL) {
        ops = kvt_exponent_ops_for(kvt_cpu_features());
        atomic_store_explicit(&picked, ops, memory_order_relaxed);
    }
    return ops;
}

const char *kvt_codec_variant(void) { return kvt_exponent_ops_here()->name; }

kvt_segments kvt_segments_of(uint64_t elements, uint32_t segment_log2)
{
    uint32_t steps = (uint32_t)((elements + KVT_STEP - 1) / KVT_STEP);
    uint32_t most = (1u << segment_log2) / KVT_STEP;
    uint32_t count = (steps + most - 1) / most;
    return (kvt_segments){.steps = steps, .count = count, .steps_each = count == 0 ? 0 : (steps + count - 1) / count};
}

uint8_t kvt_bases_choose(uint8_t *bases, uint32_t channels, uint8_t *distances)
{
    uint8_t plane_base = 0;
    for (uint32_t c = 0; c < channels; c++)
        plane_base = bases[c] > plane_base ? bases[c] : plane_base;
    for (uint32_t c = 0; c < channels; c++) {
        uint8_t below = (uint8_t)(plane_base - bases[c]);
        distances[c] = below <= KVT_BASE_SPREAD ? below : bases[c] == 0 ? KVT_BASE_ZERO : KVT_BASE_SPREAD;
        bases[c] = kvt_base_of(plane_base, distances[c]);
    }
    return plane_base;
}

void kvt_lanes_repeat(const kvt_lanes *lanes)
{
    for (uint32_t i = 0; i < KVT_STEP; i++) {
        lanes->base[lanes->channels + i] = lanes->base[i];
        lanes->tag[lanes->channels + i] = lanes->tag[i];
    }
}

void kvt_step_fill(const kvt_kv_plane *plane, const kvt_lanes *lanes, const uint8_t *data, uint32_t elements,
                   uint32_t channel, uint8_t *step)
{
    uint32_t width = kvt_element_kind_bytes(plane->kind);
    memcpy(step, data, (size_t)elements * width);
    for (uint32_t i = elements; i < KVT_STEP; i++) {
        uint32_t value = (uint32_t)lanes->base[channel + i] << kvt_mantissa_bits(plane->kind) |
                         (uint32_t)(lanes->tag[channel + i] >> 5 & 1) << (8 * width - 1);
        step[i * width] = (uint8_t)value;
        if (width == 2)
            step[i * 2 + 1] = (uint8_t)(value >> 8);
    }
}
