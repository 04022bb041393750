/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of an engine: one table says name, place, default and bounds; everything else follows it.
 */
#include "engine/engine_int.h"

#include <inttypes.h>

enum {
    FLAGS_KNOWN =
        KVT_OPEN_READ_ONLY | KVT_OPEN_WRITE_THROUGH | KVT_OPEN_NO_BUDGET | KVT_OPEN_NO_CREATE | KVT_OPEN_RESET_CORRUPT
};

typedef struct option_row {
    const char *name;
    size_t offset;
    uint32_t bytes; /* 4 or 8 */
    uint64_t standard, min, max;
} option_row;

#define ROW(field, standard, min, max)                                                                                 \
    {                                                                                                                  \
#field, offsetof(kvt_options, field), sizeof(((kvt_options *)0)->field), (standard), (min), (max)              \
    }

static const uint64_t MIB = UINT64_C(1) << 20;
static const option_row rows[] = {
    ROW(lower, KVT_LOWER_DEFAULT, 0, KVT_LOWER_NONE),
    ROW(io, KVT_IO_AUTO, 0, KVT_IO_POOL),
    ROW(host_bytes_max, UINT64_C(256) << 20, UINT64_C(1) << 20, UINT64_C(1) << 41),
    ROW(disk_bytes_max, UINT64_C(4) << 30, UINT64_C(4) << 20, UINT64_C(1) << 50),
    ROW(segment_bytes, 0, 0, UINT64_C(1) << 30),
    ROW(blob_bytes_max, 0, 0, KVT_BLOB_BYTES_MAX),
    ROW(write_bytes_per_day, 0, 0, UINT64_MAX),
    ROW(index_entries_max, 0, 0, UINT64_C(1) << 28),
    ROW(worker_count, 2, 1, 64),
    ROW(inflight_max, 256, 1, 65536),
    ROW(lease_ms_max, 30000, 1, 86400000),
    ROW(close_ms_max, 10000, 1, 3600000),
};

static uint64_t get_field(const kvt_options *options, const option_row *row)
{
    const uint8_t *at = (const uint8_t *)options + row->offset;
    uint32_t narrow;
    uint64_t wide;
    if (row->bytes == 8) {
        memcpy(&wide, at, sizeof wide);
        return wide;
    }
    memcpy(&narrow, at, sizeof narrow);
    return narrow;
}

static void set_field(kvt_options *options, const option_row *row, uint64_t value)
{
    uint8_t *at = (uint8_t *)options + row->offset;
    uint32_t narrow = (uint32_t)value;
    if (row->bytes == 8)
        memcpy(at, &value, sizeof value);
    else
        memcpy(at, &narrow, sizeof narrow);
}

/* A caller built against a newer header may send a longer struct; what we do not know must be zero. */
kvt_status kvt_options_copy(const void *given, uint32_t given_bytes, void *out, uint32_t known_bytes, const char *what)
{
    /* No release had a shorter one. When a struct grows, this bound stays at the size of the first release. */
    if (given_bytes < known_bytes)
        return kvt_fail(KVT_INVALID,
                        "%s: struct_size is %u, less than the %u of the first release; use the _INIT macro", what,
                        given_bytes, known_bytes);
    if (given_bytes > 65536)
        return kvt_fail(KVT_INVALID, "%s: struct_size of %u bytes is not plausible", what, given_bytes);
    for (uint32_t i = known_bytes; i < given_bytes; i++) {
        if (((const uint8_t *)given)[i] != 0)
            return kvt_fail(KVT_INVALID, "%s: a field unknown to this release is set; use the matching library", what);
    }
    memset(out, 0, known_bytes);
    memcpy(out, given, kvt_min_u64(given_bytes, known_bytes));
    return KVT_OK;
}

static kvt_status check_relations(const kvt_options *options)
{
    if ((options->flags & ~(uint32_t)FLAGS_KNOWN) != 0)
        return kvt_fail(KVT_INVALID, "flags: unknown bits 0x%x", options->flags & ~(uint32_t)FLAGS_KNOWN);
    if (options->lower != KVT_LOWER_NONE && (options->store_path == NULL || options->store_path[0] == '\0'))
        return kvt_fail(KVT_INVALID, "store_path is missing; give a directory, or set lower to KVT_LOWER_NONE");
    if (options->segment_bytes != 0 && (!kvt_is_power_of_two(options->segment_bytes) || options->segment_bytes < MIB))
        return kvt_fail(KVT_INVALID, "segment_bytes is %" PRIu64 "; it must be a power of two, 1 MiB..1 GiB",
                        options->segment_bytes);
    return KVT_OK;
}

kvt_status kvt_options_resolve(const kvt_options *given, kvt_options *out)
{
    kvt_options options = KVT_OPTIONS_INIT;
    if (given != NULL)
        KVT_TRY(kvt_options_copy(given, given->struct_size, &options, sizeof options, "kvt_options"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = get_field(&options, &rows[i]);
        if (value == 0)
            set_field(&options, &rows[i], rows[i].standard);
        else if (value < rows[i].min || value > rows[i].max)
            return kvt_fail(KVT_INVALID, "%s is %" PRIu64 "; it must be %" PRIu64 "..%" PRIu64, rows[i].name, value,
                            rows[i].min, rows[i].max);
    }
    KVT_TRY(check_relations(&options));
    *out = options;
    return KVT_OK;
}
