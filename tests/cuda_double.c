/* SPDX-License-Identifier: Apache-2.0
 *
 * See cuda_double.h.
 */
#include "tests/cuda_double.h"

#include "kernels/cuda_rope.h"
#include "kernels/rope_math.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STREAMS_MAX = 64, ALLOCATIONS_MAX = 256 };

struct CUevent_st {
    uint64_t recorded, done;
};

typedef enum step_kind { STEP_COPY, STEP_LAUNCH, STEP_RECORD, STEP_WAIT } step_kind;
typedef struct step {
    step_kind kind;
    struct step *next;
    void *to;
    const void *from;
    size_t bytes;
    struct CUevent_st *event;
    uint64_t value;
    kvt_cuda_job *job;       /* as the launch was told it; owned */
    kvt_cuda_rope_job *rope; /* instead, where keys turn */
    kvt_cuda_grid grid;
} step;

struct CUstream_st {
    step *first, **last;
    bool open;
};

typedef struct range {
    uintptr_t begin, end;
    enum cudaMemoryType type;
} range;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUstream_st streams[STREAMS_MAX]; /* [0] is the default stream */
static range ranges[ALLOCATIONS_MAX];
static uint32_t range_count, pending, launches, copies, fail_in;
static uint64_t random_state = 1;
static const char *complaint;

static void complain(const char *what) { complaint = complaint != NULL ? complaint : what; }

static uint32_t next_random(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

void double_seed(uint64_t seed) { random_state = seed; }
void double_fail_at(uint32_t n) { fail_in = n; }
uint32_t double_pending(void) { return pending; }
uint32_t double_launches(void) { return launches; }
uint32_t double_copies(void) { return copies; }
const char *double_complaint(void)
{
    const char *held = complaint;
    complaint = NULL;
    return held;
}

static bool fails(void) { return fail_in != 0 && --fail_in == 0; }
#define MAY_FAIL()                                                                                                     \
    do {                                                                                                               \
        if (fails())                                                                                                   \
            return cudaErrorUnknown;                                                                                   \
    } while (0)

/* --------------------------------------------------------------- acting out */

static void act_thread(const step *s, uint32_t lane, kvt_cuda_spot spot)
{
    const kvt_cuda_head *head = &s->job->head;
    uint32_t access = head->shape.access_bytes, unroll = access == 16 ? s->grid.unroll : 8;
    uint8_t *to = head->shape.direction == 0 ? spot.blob : spot.page;
    const uint8_t *from = head->shape.direction == 0 ? spot.page : spot.blob;
    if (spot.bytes > head->lanes.extent * unroll * access)
        complain("an item has more words than its threads take");
    for (uint32_t k = 0; k < unroll; k++) {
        uint32_t at = (lane + k * head->lanes.extent) * access;
        if (at >= spot.bytes)
            continue;
        if (((uintptr_t)(to + at) | (uintptr_t)(from + at)) % access != 0)
            complain("a word is not aligned");
        memcpy(to + at, from + at, access);
    }
}

static void act_block(const step *s, uint32_t x, uint32_t y)
{
    const kvt_cuda_head *head = &s->job->head;
    bool loop = s->grid.block_limit != 0;
    uint32_t count = head->shape.item_count * (loop ? head->blob_count : 1);
    for (uint32_t thread = 0; thread < head->threads; thread++) {
        uint32_t group = kvt_job_divide(&head->lanes, thread), lane = thread - group * head->lanes.extent;
        if (group >= head->items_per_block)
            continue;
        for (uint32_t n = x * head->items_per_block + group; n < count;
             n += loop ? head->block_count * head->items_per_block : count) {
            uint32_t blob = loop ? kvt_job_divide(&head->items, n) : y;
            uint32_t item = loop ? n - blob * head->items.extent : n;
            act_thread(s, lane, kvt_cuda_locate(head, s->job->ids, blob, item));
        }
    }
}

/* One pair, wherever its elements lie. */
static void act_pair(const kvt_cuda_rope_head *head, uint32_t blob, uint32_t token, uint32_t pair, uint8_t *x_at,
                     uint8_t *y_at)
{
    const kvt_rope *rope = &head->rope;
    uint32_t bytes = kvt_rope_element_bytes(rope->element), e = rope->table_element, x_bits = 0, y_bits = 0;
    uint64_t old_row = (head->shifts[blob].stored + token) * rope->row_stride;
    uint64_t new_row = (head->shifts[blob].wanted + token) * rope->row_stride;
    float c0 = kvt_rope_entry(rope->cosines, old_row, pair, e), s0 = kvt_rope_entry(rope->sines, old_row, pair, e);
    float c1 = kvt_rope_entry(rope->cosines, new_row, pair, e), s1 = kvt_rope_entry(rope->sines, new_row, pair, e);
    memcpy(&x_bits, x_at, bytes);
    memcpy(&y_bits, y_at, bytes);
    float x = kvt_rope_float(x_bits), y = kvt_rope_float(y_bits), c, s;
    if (rope->element == KVT_ROPE_FP32) {
        double wide_c, wide_s;
        kvt_rope_delta_wide((double)c0, (double)s0, (double)c1, (double)s1, &wide_c, &wide_s);
        kvt_rope_turn_wide(&x, &y, wide_c, wide_s);
        x_bits = kvt_rope_bits(x), y_bits = kvt_rope_bits(y);
    } else {
        bool bf16 = rope->element == KVT_ROPE_BF16;
        x = bf16 ? kvt_rope_from_bf16(x_bits) : kvt_rope_from_fp16(x_bits);
        y = bf16 ? kvt_rope_from_bf16(y_bits) : kvt_rope_from_fp16(y_bits);
        kvt_rope_delta(c0, s0, c1, s1, &c, &s);
        kvt_rope_turn(&x, &y, c, s);
        x_bits = bf16 ? kvt_rope_to_bf16(x) : kvt_rope_to_fp16(x);
        y_bits = bf16 ? kvt_rope_to_bf16(y) : kvt_rope_to_fp16(y);
    }
    memcpy(x_at, &x_bits, bytes);
    memcpy(y_at, &y_bits, bytes);
}

/* Two accesses of 16 bytes, one behind the other in memory[32]: whole pairs of elements. */
static void act_pairs_of_unit(const kvt_cuda_rope_head *head, uint32_t blob, uint32_t token, uint32_t pair,
                              uint8_t *memory)
{
    uint32_t bytes = kvt_rope_element_bytes(head->rope.element), pairs = 16 / bytes;
    bool neox = head->rope.pairing == KVT_ROPE_NEOX;
    for (uint32_t i = 0; i < pairs; i++) {
        uint8_t *x = memory + (neox ? i : 2 * i) * bytes;
        uint32_t first = !neox && i >= pairs / 2 ? pair + head->pairs.extent / 2 - pairs / 2 : pair;
        act_pair(head, blob, token, first + i, x, x + (neox ? 16 : bytes));
    }
}

static void act_rope_unit(const kvt_cuda_rope_job *job, uint32_t blob, uint32_t tile, uint32_t n)
{
    const kvt_cuda_rope_head *head = &job->head;
    const kvt_cuda_rope_spot spot = kvt_cuda_rope_locate(head, job->ids, blob, tile, n);
    if (spot.page == NULL)
        return;
    uint32_t in_tile = spot.turn / head->pairs.extent, pair = spot.turn % head->pairs.extent;
    uint32_t token = kvt_cuda_rope_tile_token(head, tile) + in_tile;
    if (head->way == KVT_CUDA_ROPE_BY_PAIR) {
        bool neox = head->rope.pairing == KVT_ROPE_NEOX;
        uint32_t bytes = kvt_rope_element_bytes(head->rope.element);
        uint8_t *x = spot.page + (neox ? pair : 2 * pair) * bytes;
        act_pair(head, blob, token, pair, x, x + (neox ? head->pairs.extent : 1) * bytes);
        return;
    }
    const uint8_t *from = head->way == KVT_CUDA_ROPE_FUSED ? spot.blob : spot.page;
    uint8_t held[32] = {0};
    if (((uintptr_t)from | (uintptr_t)spot.page | spot.second) % 16 != 0 ||
        (spot.turns != 0 && (spot.second == 0 || in_tile >= head->tile_tokens || spot.turn + 4 > KVT_CUDA_ROPE_TURNS)))
        complain("a unit that a device cannot take");
    memcpy(held, from, 16);
    if (spot.second != 0)
        memcpy(held + 16, from + spot.second, 16);
    if (spot.turns != 0)
        act_pairs_of_unit(head, blob, token, pair, held);
    memcpy(spot.page, held, 16);
    if (spot.second != 0)
        memcpy(spot.page + spot.second, held + 16, 16);
}

static void act_rope(const step *s)
{
    const kvt_cuda_rope_head *head = &s->rope->head;
    uint32_t count = head->tiles.extent * head->blob_count;
    for (uint32_t block = 0; block < head->block_count; block++)
        for (uint32_t n = block; n < count; n += head->block_count)
            for (uint32_t i = 0; i < head->tile_units; i++)
                act_rope_unit(s->rope, n / head->tiles.extent, n % head->tiles.extent, i);
}

static void act(step *s)
{
    if (s->kind == STEP_COPY)
        memcpy(s->to, s->from, s->bytes);
    else if (s->kind == STEP_RECORD)
        s->event->done = s->event->done > s->value ? s->event->done : s->value;
    else if (s->kind == STEP_LAUNCH && s->rope != NULL)
        act_rope(s);
    else if (s->kind == STEP_LAUNCH)
        for (uint32_t y = 0; y < (s->grid.block_limit != 0 ? 1 : s->job->head.blob_count); y++)
            for (uint32_t x = 0; x < s->job->head.block_count; x++)
                act_block(s, x, y);
}

static bool runnable(const struct CUstream_st *stream)
{
    const step *s = stream->first;
    return s != NULL && (s->kind != STEP_WAIT || s->event->done >= s->value);
}

/* One step of one stream. False: nothing can run. */
static bool run_one(void)
{
    uint32_t begin = next_random() % STREAMS_MAX;
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        struct CUstream_st *stream = &streams[(begin + i) % STREAMS_MAX];
        if (!runnable(stream))
            continue;
        step *s = stream->first;
        act(s);
        stream->first = s->next;
        if (stream->first == NULL)
            stream->last = &stream->first;
        free(s->job);
        free(s->rope);
        free(s);
        pending--;
        return true;
    }
    return false;
}

void double_drain(void)
{
    while (run_one()) {
    }
}

static cudaError_t queue(cudaStream_t stream, const step *what)
{
    struct CUstream_st *on = stream != NULL ? stream : &streams[0];
    step *s = malloc(sizeof *s);
    if (s == NULL)
        return cudaErrorMemoryAllocation;
    *s = *what;
    s->next = NULL;
    pthread_mutex_lock(&lock);
    if (on->last == NULL)
        on->last = &on->first;
    *on->last = s;
    on->last = &s->next;
    pending++;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

int kvt_cuda_launch(const kvt_cuda_job *job, const kvt_cuda_grid *grid, void *stream)
{
    MAY_FAIL();
    bool small = job->head.id_count * job->head.blob_count <= KVT_CUDA_IDS_SMALL;
    step s = {.kind = STEP_LAUNCH, .job = malloc(sizeof *job), .grid = *grid};
    if (s.job == NULL)
        return cudaErrorMemoryAllocation;
    memset(s.job, 0xee, sizeof *s.job);
    memcpy(s.job, job, small ? sizeof(kvt_cuda_small) : sizeof *job);
    launches++;
    if (job->head.threads == 0 || job->head.threads > KVT_CUDA_THREADS_MAX || job->head.block_count == 0 ||
        job->head.blob_count == 0 || job->head.items_per_block == 0)
        complain("a launch of nothing, or of too many threads");
    return queue(stream, &s);
}

int kvt_cuda_launch_rope(const kvt_cuda_rope_job *job, const kvt_cuda_grid *grid, void *stream)
{
    MAY_FAIL();
    bool small = job->head.id_count * job->head.blob_count <= KVT_CUDA_ROPE_IDS_SMALL;
    step s = {.kind = STEP_LAUNCH, .rope = malloc(sizeof *job), .grid = *grid};
    if (s.rope == NULL)
        return cudaErrorMemoryAllocation;
    memset(s.rope, 0xee, sizeof *s.rope);
    memcpy(s.rope, job, small ? sizeof(kvt_cuda_rope_small) : sizeof *job);
    launches++;
    if (grid->threads > 512 || (grid->unroll != 2 && grid->unroll != 4) || job->head.block_count == 0 ||
        job->head.blob_count == 0 || job->head.tile_tokens * job->head.pairs.extent > KVT_CUDA_ROPE_TURNS)
        complain("a launch of nothing, or of too many turns");
    return queue(stream, &s);
}

/* ------------------------------------------------------------------ memory */

static const range *range_of(const void *memory)
{
    for (uint32_t i = 0; i < range_count; i++)
        if ((uintptr_t)memory >= ranges[i].begin && (uintptr_t)memory < ranges[i].end)
            return &ranges[i];
    return NULL;
}

static cudaError_t add_range(void *memory, size_t bytes, enum cudaMemoryType type)
{
    if (range_count == ALLOCATIONS_MAX)
        return cudaErrorMemoryAllocation;
    ranges[range_count++] = (range){(uintptr_t)memory, (uintptr_t)memory + bytes, type};
    return cudaSuccess;
}

static bool drop_range(const void *memory)
{
    for (uint32_t i = 0; i < range_count; i++)
        if (ranges[i].begin == (uintptr_t)memory) {
            ranges[i] = ranges[--range_count];
            return true;
        }
    return false;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    MAY_FAIL();
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == NULL)
        return cudaErrorMemoryAllocation;
    *out = memory;
    return add_range(memory, bytes, cudaMemoryTypeDevice);
}

cudaError_t cudaFree(void *memory)
{
    if (memory != NULL && !drop_range(memory))
        complain("freed memory that was not allocated");
    double_drain();
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    (void)flags;
    MAY_FAIL();
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *out == NULL ? cudaErrorMemoryAllocation : add_range(*out, bytes, cudaMemoryTypeHost);
}

cudaError_t cudaFreeHost(void *memory) { return cudaFree(memory); }

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned flags)
{
    (void)flags;
    MAY_FAIL();
    return add_range(memory, bytes, cudaMemoryTypeHost);
}

cudaError_t cudaHostUnregister(void *memory)
{
    return drop_range(memory) ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *memory)
{
    const range *of = range_of(memory);
    memset(out, 0, sizeof *out);
    out->type = of != NULL ? of->type : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

/* -------------------------------------------------------------------- copies */

static void check_side(const void *memory, size_t bytes)
{
    const range *of = range_of(memory);
    if (of != NULL && (uintptr_t)memory + bytes > of->end)
        complain("a copy crosses the border of a registration");
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)kind;
    MAY_FAIL();
    const step s = {.kind = STEP_COPY, .to = to, .from = from, .bytes = bytes};
    check_side(to, bytes);
    check_side(from, bytes);
    copies++;
    return queue(stream, &s);
}

cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *bytes, size_t count,
                                 struct cudaMemcpyAttributes *attributes, size_t *first, size_t attribute_count,
                                 cudaStream_t stream)
{
    MAY_FAIL();
    if (stream == NULL || attribute_count != 1 || first[0] != 0 ||
        attributes[0].srcAccessOrder != cudaMemcpySrcAccessOrderStream)
        complain("a batch without stream or source order");
    for (size_t i = 0; i < count; i++) {
        cudaError_t error = cudaMemcpyAsync(to[i], from[i], bytes[i], cudaMemcpyDefault, stream);
        if (error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}

/* ----------------------------------------------------------- streams, events */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    (void)flags, (void)priority;
    MAY_FAIL();
    for (uint32_t i = 1; i < STREAMS_MAX; i++)
        if (!streams[i].open) {
            streams[i] = (struct CUstream_st){.open = true};
            *out = &streams[i];
            return cudaSuccess;
        }
    return cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    struct CUstream_st *of = stream != NULL ? stream : &streams[0];
    while (of->first != NULL)
        if (!run_one()) {
            complain("a stream waits for an event that nobody will record");
            break;
        }
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    stream->open = false;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    MAY_FAIL();
    const step s = {.kind = STEP_WAIT, .event = event, .value = event->recorded};
    return queue(stream, &s);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    MAY_FAIL();
    *out = calloc(1, sizeof **out);
    return *out == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    double_drain(); /* a step may still name it */
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    MAY_FAIL();
    const step s = {.kind = STEP_RECORD, .event = event, .value = ++event->recorded};
    return queue(stream, &s);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    pthread_mutex_lock(&lock);
    if (event->done < event->recorded && !run_one())
        complain("an event is waited for that nobody will record");
    bool done = event->done >= event->recorded;
    pthread_mutex_unlock(&lock);
    return done || complaint != NULL ? cudaSuccess : cudaErrorNotReady;
}

/* ------------------------------------------------------------------- device */

cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "planted"; }

cudaError_t cudaGetDeviceCount(int *out)
{
    *out = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *out)
{
    *out = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    (void)device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

static uint32_t memory_gbs;
void double_memory_rate(uint32_t gbs) { memory_gbs = gbs; }

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr attribute, int device)
{
    (void)device;
    if (memory_gbs == 0)
        return cudaErrorInvalidValue;
    *out = attribute == cudaDevAttrMemoryClockRate ? (int)memory_gbs * 500 : 8000; /* kHz, bits */
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    (void)device;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "a device in host memory");
    out->major = 9;
    out->multiProcessorCount = 4;
    out->canUseHostPointerForRegisteredMem = 1;
    return cudaSuccess;
}
