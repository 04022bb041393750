/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench codec: how much smaller files of KV become, and how fast, by codec and plane kind. A blob is all K, or
 * all V, of one chunk, as a space with one such view would store it. Codecs and memcpy take turns; every blob is
 * decoded and compared.
 */
#include "tools/bench_codec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum { BLOB_BYTES_MAX = 32 << 20, CHUNK_TOKENS = 256, CODECS_MAX = 8 };

/* One blob: pieces of one side and chunk, copied together. */
typedef struct codec_blob {
    uint64_t raw_offset, raw_bytes;
    uint64_t out_offset, out_bytes, encoded_bytes;
    uint32_t group_count;
    kvt_codec_group *groups;
    kvt_codec_view *views;
} codec_blob;

/* The blobs of one side of a file, repeated until they are larger than the caches. */
typedef struct codec_set {
    codec_blob *blobs;
    size_t count;     /* of the file */
    uint32_t repeats; /* copies of all of it */
    uint64_t raw_bytes, out_bytes;
    uint8_t *raw, *out, *back;
    uint64_t touched; /* bytes mapped for each of the three */
    const kvt_bench_args *args;
    kvt_element_kind kind;
    uint32_t tokens;
} codec_set;

/* A codec's figures for one set. */
typedef struct codec_row {
    const kvt_codec *codec; /* NULL: memcpy */
    uint64_t encoded_bytes;
    kvt_series encode, decode;
} codec_row;

static void set_free(codec_set *set)
{
    for (size_t i = 0; set->blobs != NULL && i < set->count; i++) {
        kvt_free(set->blobs[i].groups);
        kvt_free(set->blobs[i].views);
    }
    kvt_free(set->blobs);
    uint8_t *memory[] = {set->raw, set->out, set->back};
    for (int i = 0; i < 3; i++)
        if (memory[i] != NULL)
            kvt_pages_unmap(memory[i], set->touched);
}

/* Add pieces [first, end) as one blob. */
static kvt_status add_blob(codec_set *set, const kvt_kv_pieces *pieces, size_t first, size_t end)
{
    codec_blob *blob = &set->blobs[set->count++];
    *blob = (codec_blob){.raw_offset = set->raw_bytes, .out_offset = set->out_bytes};
    blob->groups = kvt_alloc_array(end - first, sizeof *blob->groups);
    blob->views = kvt_alloc_array(end - first, sizeof *blob->views);
    if (blob->groups == NULL || blob->views == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for a blob of %zu planes", end - first);
    for (size_t i = first; i < end; i++) {
        const kvt_kv_piece *piece = &pieces->items[i];
        uint32_t k = blob->group_count++;
        blob->views[k] = (kvt_codec_view){1, piece->channels, kvt_element_kind_bytes(piece->kind), piece->kind};
        blob->groups[k] = (kvt_codec_group){1, 1, &blob->views[k]};
        blob->raw_bytes += piece->bytes;
    }
    set->raw_bytes += blob->raw_bytes;
    for (uint32_t i = 0; kvt_codec_at(i) != NULL; i++)
        blob->out_bytes = kvt_max_u64(blob->out_bytes, kvt_codec_at(i)->bound(blob->raw_bytes));
    set->out_bytes += kvt_align_up(blob->out_bytes, 64);
    return KVT_OK;
}

static kvt_status cut_blobs(codec_set *set, const kvt_kv_pieces *pieces, kvt_plane_side side)
{
    set->blobs = kvt_alloc_array(pieces->count, sizeof *set->blobs);
    if (set->blobs == NULL)
        return kvt_fail(KVT_NOMEM, "no memory for %zu blobs", pieces->count);
    for (size_t i = 0; i < pieces->count;) {
        size_t end = i;
        uint64_t bytes = 0;
        while (end < pieces->count && pieces->items[end].side == pieces->items[i].side &&
               pieces->items[end].chunk == pieces->items[i].chunk && bytes + pieces->items[end].bytes <= BLOB_BYTES_MAX)
            bytes += pieces->items[end++].bytes;
        end = end == i ? i + 1 : end;
        if (pieces->items[i].side == side)
            KVT_TRY(add_blob(set, pieces, i, end));
        i = end;
    }
    return KVT_OK;
}

static kvt_status set_make(codec_set *set, const kvt_kv_pieces *pieces, kvt_plane_side side, const kvt_bench_args *args)
{
    set->args = args;
    KVT_TRY(cut_blobs(set, pieces, side));
    if (set->count == 0)
        return KVT_OK;
    set->tokens = pieces->items[0].tokens;
    set->repeats = (uint32_t)kvt_max_u64(1, args->bytes / set->raw_bytes);
    set->touched = kvt_align_up(set->repeats * kvt_max_u64(set->out_bytes, set->raw_bytes), KVT_HUGE_PAGE_BYTES);
    uint8_t **memory[] = {&set->raw, &set->out, &set->back};
    for (int i = 0; i < 3; i++) {
        kvt_page_kind kind;
        *memory[i] = kvt_pages_map(set->touched, &kind);
        if (*memory[i] == NULL)
            return kvt_fail(KVT_NOMEM, "no memory for a set of %" PRIu64 " MiB; use a smaller --bytes",
                            set->touched >> 20);
        kvt_pages_touch(*memory[i], set->touched, 1);
    }
    uint8_t *at = set->raw;
    for (uint32_t r = 0; r < set->repeats; r++)
        for (size_t i = 0; i < pieces->count; i++) {
            if (pieces->items[i].side != side)
                continue;
            memcpy(at, pieces->items[i].data, pieces->items[i].bytes);
            at += pieces->items[i].bytes;
        }
    return KVT_OK;
}

static kvt_codec_hint hint_of(const codec_set *set, const codec_blob *blob)
{
    return (kvt_codec_hint){.element_bytes = blob->views[0].element_bytes,
                            .level = (int32_t)set->args->level,
                            .kind = blob->views[0].kind,
                            .token_count = set->tokens,
                            .group_count = blob->group_count,
                            .groups = blob->groups};
}

static kvt_status encode_set(codec_set *set, const kvt_codec *codec)
{
    for (uint32_t r = 0; r < set->repeats; r++) {
        for (size_t i = 0; i < set->count; i++) {
            codec_blob *blob = &set->blobs[i];
            const uint8_t *raw = set->raw + r * set->raw_bytes + blob->raw_offset;
            uint8_t *out = set->out + r * set->out_bytes + blob->out_offset;
            kvt_codec_hint hint = hint_of(set, blob);
            if (codec == NULL)
                memcpy(out, raw, blob->encoded_bytes = blob->raw_bytes);
            else if (codec->encode(&hint, raw, blob->raw_bytes, out, blob->out_bytes, &blob->encoded_bytes) != KVT_OK)
                return kvt_fail(KVT_CORRUPT, "%s refuses a blob within its own bound", codec->name);
        }
    }
    return KVT_OK;
}

static kvt_status decode_set(const codec_set *set, const kvt_codec *codec)
{
    for (uint32_t r = 0; r < set->repeats; r++) {
        for (size_t i = 0; i < set->count; i++) {
            const codec_blob *blob = &set->blobs[i];
            const uint8_t *out = set->out + r * set->out_bytes + blob->out_offset;
            uint8_t *back = set->back + r * set->raw_bytes + blob->raw_offset;
            if (codec == NULL)
                memcpy(back, out, blob->raw_bytes);
            else
                KVT_TRY(codec->decode(out, blob->encoded_bytes, back, blob->raw_bytes));
        }
    }
    return KVT_OK;
}

/* Time that this thread had a core: what else runs on the machine costs the others, not the figures. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double rate(const codec_set *set, uint64_t start)
{
    return (double)(set->repeats * set->raw_bytes) / ((double)(cpu_ns() - start) / 1e9);
}

static kvt_status run_round(codec_set *set, codec_row *row, bool counted)
{
    uint64_t bytes = set->repeats * set->raw_bytes;
    memset(set->back, 0xa5, bytes);
    uint64_t start = cpu_ns();
    KVT_TRY(encode_set(set, row->codec));
    double encoded = rate(set, start);
    start = cpu_ns();
    KVT_TRY(decode_set(set, row->codec));
    double decoded = rate(set, start);
    if (memcmp(set->back, set->raw, bytes) != 0)
        return kvt_fail(KVT_CORRUPT, "%s gives other bytes back", row->codec != NULL ? row->codec->name : "memcpy");
    row->encoded_bytes = 0;
    for (size_t i = 0; i < set->count; i++)
        row->encoded_bytes += set->blobs[i].encoded_bytes;
    if (!counted)
        return KVT_OK;
    kvt_series_add(&row->encode, encoded);
    kvt_series_add(&row->decode, decoded);
    return KVT_OK;
}

static const cli_column COLUMNS[] = {{"file", "file", CLI_UNIT_NONE, false},
                                     {"planes", "planes", CLI_UNIT_NONE, false},
                                     {"codec", "codec", CLI_UNIT_NONE, false},
                                     {"ratio", "ratio", CLI_UNIT_RATIO, false},
                                     {"bits_per_element", "bits", CLI_UNIT_RATIO, false},
                                     {"encode_bytes_per_second", "encode", CLI_UNIT_RATE, false},
                                     {"encode_p10", "p10", CLI_UNIT_RATE, true},
                                     {"encode_p90", "p90", CLI_UNIT_RATE, false},
                                     {"decode_bytes_per_second", "decode", CLI_UNIT_RATE, false},
                                     {"decode_p10", "p10", CLI_UNIT_RATE, true},
                                     {"decode_p90", "p90", CLI_UNIT_RATE, false},
                                     {"raw_bytes", "raw", CLI_UNIT_BYTES, true},
                                     {"encoded_bytes", "encoded", CLI_UNIT_BYTES, true},
                                     {"set_bytes", "set", CLI_UNIT_BYTES, true}};

static void report_rate(cli_report *report, const kvt_series *series)
{
    kvt_spread spread = kvt_series_spread(series);
    cli_row_real(report, spread.median);
    cli_row_real(report, spread.p10);
    cli_row_real(report, spread.p90);
}

static void report_row(cli_report *report, const char *file, const char *planes, const codec_set *set,
                       const codec_row *row)
{
    const codec_blob *blob = &set->blobs[0];
    double ratio = (double)set->raw_bytes / (double)row->encoded_bytes;
    cli_row_text(report, file);
    cli_row_text(report, planes);
    cli_row_text(report, row->codec != NULL ? row->codec->name : "memcpy");
    cli_row_real(report, ratio);
    cli_row_real(report, 8 * blob->views[0].element_bytes / ratio);
    report_rate(report, &row->encode);
    report_rate(report, &row->decode);
    cli_row_u64(report, set->raw_bytes);
    cli_row_u64(report, row->encoded_bytes);
    cli_row_u64(report, set->repeats * set->raw_bytes);
}

/* Ratios of a file's sides together: what a space of K and V gets. */
typedef struct codec_total {
    uint64_t raw_bytes, encoded_bytes[CODECS_MAX];
    uint32_t element_bytes;
} codec_total;

static void report_total(cli_report *report, const char *file, const codec_total *total)
{
    for (uint32_t i = 1; kvt_codec_at(i) != NULL && i < CODECS_MAX; i++) {
        double ratio = (double)total->raw_bytes / (double)total->encoded_bytes[i];
        cli_row_text(report, file);
        cli_row_text(report, "all");
        cli_row_text(report, kvt_codec_at(i)->name);
        cli_row_real(report, ratio);
        cli_row_real(report, 8 * total->element_bytes / ratio);
        for (int none = 0; none < 6; none++)
            cli_row_none(report);
        cli_row_u64(report, total->raw_bytes);
        cli_row_u64(report, total->encoded_bytes[i]);
        cli_row_none(report);
    }
}

/* memcpy in the place of the raw codec, which is one; then the others, round by round. */
static kvt_status run_side(cli_report *report, const char *file, const kvt_kv_pieces *pieces, kvt_plane_side side,
                           const kvt_bench_args *args, codec_total *total)
{
    codec_set set = {.blobs = NULL};
    codec_row rows[CODECS_MAX] = {{NULL}};
    kvt_status status = set_make(&set, pieces, side, args);
    uint32_t count = 1;
    while (count < CODECS_MAX && kvt_codec_at(count) != NULL)
        rows[count] = (codec_row){.codec = kvt_codec_at(count)}, count++;
    for (uint64_t round = 0; round <= args->rounds && set.count != 0 && status == KVT_OK && !cli_interrupted(); round++)
        for (uint32_t i = 0; i < count && status == KVT_OK; i++)
            status = run_round(&set, &rows[i], round != 0);
    if (status == KVT_OK && set.count != 0) {
        total->raw_bytes += set.raw_bytes;
        total->element_bytes = set.blobs[0].views[0].element_bytes;
        for (uint32_t i = 0; i < count; i++) {
            report_row(report, file, kvt_plane_side_name(side), &set, &rows[i]);
            total->encoded_bytes[i] += rows[i].encoded_bytes;
        }
    }
    set_free(&set);
    return status;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static kvt_status run_file(cli_report *report, const char *path, const kvt_kv_pieces *pieces,
                           const kvt_bench_args *args)
{
    codec_total total = {0};
    for (int side = 0; side < KVT_PLANE_SIDES; side++)
        KVT_TRY(run_side(report, base_name(path), pieces, (kvt_plane_side)side, args, &total));
    report_total(report, base_name(path), &total);
    return KVT_OK;
}

/* Hide what the CPU has beyond the instruction set asked for. */
static void choose_instructions(uint32_t isa)
{
    static const uint32_t hidden[] = {0, UINT32_MAX, UINT32_MAX & ~(uint32_t)KVT_CPU_AVX2 & ~(uint32_t)KVT_CPU_SSE42};
    kvt_cpu_mask(hidden[isa]);
}

int kvt_bench_codec(const cli_context *context, const kvt_bench_args *args)
{
    int code = CLI_OK;
    if (context->operands.count < 2)
        return cli_fail(CLI_USAGE, "bench codec", "FILE is missing; name safetensors files of KV");
    choose_instructions(args->isa);
    uint32_t tokens = args->chunk_tokens != 0 ? (uint32_t)args->chunk_tokens : CHUNK_TOKENS;
    cli_report *report =
        cli_report_open(context, args->analyse ? "kvtier.bench-codec-analysis/1" : "kvtier.bench-codec/1");
    kvt_bench_report_head(report, args, NULL);
    cli_report_text(report, "instructions", "instructions", kvt_codec_variant());
    cli_report_u64(report, "chunk_tokens", "chunk tokens", CLI_UNIT_NONE, tokens);
    if (!args->analyse)
        cli_report_rows(report, "rows", "Codecs, one core, by the thread's CPU time", COLUMNS,
                        sizeof COLUMNS / sizeof *COLUMNS);
    for (size_t i = 1; i < context->operands.count && code == CLI_OK && !cli_interrupted(); i++) {
        const char *path = context->operands.items[i];
        kvt_kv_pieces pieces;
        kvt_status status = kvt_kv_pieces_read(path, tokens, (kvt_element_kind)args->element, &pieces);
        if (status == KVT_OK && args->analyse)
            code = kvt_bench_codec_analyse(report, base_name(path), &pieces);
        else if (status == KVT_OK)
            status = run_file(report, path, &pieces, args);
        if (status != KVT_OK)
            code = cli_fail_status(status, path);
        kvt_kv_pieces_free(&pieces);
    }
    if (!args->analyse)
        cli_report_rows_end(report);
    int closed = cli_report_close(report);
    return cli_interrupted() ? CLI_INTERRUPTED : code != CLI_OK ? code : closed;
}
