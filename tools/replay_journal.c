/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal lies in one shared anonymous mapping, so what a worker stored there is there after its SIGKILL. Orders
 * that matter: a key is complete before its table entry is published, a state before the switch to it. Everything else
 * is a counter. The mapping is made before the fork, so pointers into it are good in every worker.
 */
#include "tools/replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t table_slots(uint64_t unit_count)
{
    uint64_t size = 64;
    while (size < unit_count * 2)
        size *= 2;
    return size;
}

/* Carve `bytes` out of the mapping. */
static void *carve(kvt_journal *journal, uint64_t *used, uint64_t bytes)
{
    void *at = (uint8_t *)journal + *used;
    *used += kvt_align_up(bytes, 64);
    return at;
}

kvt_status kvt_journal_create(uint64_t unit_count, uint64_t request_count, kvt_journal **out)
{
    uint64_t slots = table_slots(unit_count);
    uint64_t bytes = kvt_align_up(sizeof(kvt_journal), 64) + kvt_align_up(unit_count * sizeof(kvt_key), 64) +
                     kvt_align_up(unit_count, 64) + slots * sizeof(uint32_t) +
                     KVT_LATENCY_COUNT * kvt_align_up(request_count * sizeof(uint64_t), 64);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return kvt_fail(KVT_NOMEM, "no shared memory for the journal");
    kvt_journal *journal = memory;
    uint64_t used = kvt_align_up(sizeof *journal, 64);
    journal->mapped_bytes = bytes;
    journal->unit_count = unit_count;
    journal->request_count = request_count;
    journal->table_size = slots;
    journal->keys = carve(journal, &used, unit_count * sizeof(kvt_key));
    journal->held = carve(journal, &used, unit_count);
    journal->table = carve(journal, &used, slots * sizeof(uint32_t));
    for (int i = 0; i < KVT_LATENCY_COUNT; i++)
        journal->latencies[i] = carve(journal, &used, request_count * sizeof(uint64_t));
    atomic_store(&journal->kill_request, UINT64_MAX);
    journal->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (journal->wake_fd < 0) {
        munmap(memory, bytes);
        return kvt_fail(KVT_IO, "no eventfd can be made");
    }
    *out = journal;
    return KVT_OK;
}

void kvt_journal_destroy(kvt_journal *journal)
{
    if (journal == NULL)
        return;
    close(journal->wake_fd);
    munmap(journal, journal->mapped_bytes);
}

/* Slot of the key, or the free slot where it belongs. Keys are hashes: their first bytes spread well. */
static uint64_t slot_of(const kvt_journal *journal, const kvt_key *key, uint32_t *out_entry)
{
    uint64_t slot = kvt_load_le64(key->bytes) & (journal->table_size - 1);
    for (;; slot = (slot + 1) & (journal->table_size - 1)) {
        uint32_t entry = atomic_load_explicit(&journal->table[slot], memory_order_acquire);
        if (entry == 0 || kvt_key_equal(&journal->keys[entry - 1], key)) {
            *out_entry = entry;
            return slot;
        }
    }
}

void kvt_journal_learn(kvt_journal *journal, uint64_t unit, const kvt_key *key)
{
    uint32_t entry = 0;
    uint64_t slot = slot_of(journal, key, &entry);
    if (entry != 0)
        return;
    journal->keys[unit] = *key;
    atomic_store_explicit(&journal->table[slot], (uint32_t)(unit + 1), memory_order_release);
}

void kvt_journal_on_event(void *arg, const kvt_event *event)
{
    kvt_journal *journal = arg;
    uint32_t entry = 0;
    slot_of(journal, &event->key, &entry);
    if (event->kind == KVT_EVENT_STORED)
        atomic_fetch_add(&journal->acknowledged, 1);
    else if (event->kind == KVT_EVENT_EVICTING)
        atomic_fetch_add(&journal->evicted, 1);
    if (entry != 0) /* else a tail, or a record of an earlier replay of another trace */
        atomic_store(&journal->held[entry - 1], event->kind == KVT_EVENT_STORED ? 1 : 0);
}

uint64_t kvt_journal_clock(void *arg)
{
    kvt_journal *journal = arg;
    return atomic_load_explicit(&journal->clock_ns, memory_order_relaxed);
}

const kvt_replay_state *kvt_journal_state(const kvt_journal *journal)
{
    return &journal->states[atomic_load_explicit(&journal->state, memory_order_acquire)];
}

kvt_replay_state *kvt_journal_begin(kvt_journal *journal)
{
    uint32_t current = atomic_load_explicit(&journal->state, memory_order_relaxed);
    journal->states[1 - current] = journal->states[current];
    return &journal->states[1 - current];
}

void kvt_journal_commit(kvt_journal *journal)
{
    uint32_t current = atomic_load_explicit(&journal->state, memory_order_relaxed);
    atomic_store_explicit(&journal->state, 1 - current, memory_order_release);
}

void kvt_journal_note_wrong(kvt_journal *journal, uint64_t count, const char *format, ...)
{
    if (atomic_fetch_add(&journal->wrong_bytes, count) != 0)
        return;
    va_list values;
    va_start(values, format);
    vsnprintf(journal->wrong, sizeof journal->wrong, format, values);
    va_end(values);
}
