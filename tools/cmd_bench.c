/* SPDX-License-Identifier: Apache-2.0
 *
 * kvtier bench: one command for the benches, which share their flags. Defaults are filled in here.
 */
#include "tools/bench.h"
#include "tools/cli_commands.h"

#include <inttypes.h>
#include <stddef.h>

#define AT(field) .offset = offsetof(kvt_bench_args, field)
static const cli_option OPTIONS[] = {
    {.name = "rounds",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = KVT_BENCH_ROUNDS_MAX,
     AT(rounds),
     .text = "Rounds, in which yardstick and kvtier take turns; default 9"},
    {.name = "bytes",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .min = 1 << 20,
     .max = 0x1p40,
     AT(bytes),
     .text = "Bytes of a set, larger than the caches; default 256M (io: 1G, codec: 64M)"},
    {.name = "geometry",
     .kind = CLI_TEXT,
     .value = "NAME|FILE",
     AT(geometry),
     .text = "move: only this one; default all"},
    {.name = "depth",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 64,
     AT(depth),
     .text = "io: records under way; default 4"},
    {.name = "time",
     .kind = CLI_DURATION,
     .value = "DURATION",
     AT(run_ns),
     .text = "io: of each measurement; default 2s"},
    {.name = "io",
     .kind = CLI_CHOICE,
     .value = "auto|uring|pool",
     AT(io),
     .text = "io: io_uring or threads; default auto"},
    {.name = "analyse", .kind = CLI_FLAG, AT(analyse), .text = "codec: entropies of the file instead of codecs"},
    {.name = "cast",
     .kind = CLI_CHOICE,
     .value = "none|bf16|fp16|e4m3|e5m2",
     AT(element),
     .text = "codec: cast bf16 elements first; default none"},
    {.name = "chunk-tokens",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = KVT_CHUNK_TOKENS_MAX,
     AT(chunk_tokens),
     .text = "codec: tokens of a chunk; default 256"},
    {.name = "codec-level",
     .kind = CLI_COUNT,
     .value = "N",
     .min = 1,
     .max = 22,
     AT(level),
     .text = "codec: level of zstd; 10 to 15: log2 of a segment of xpack and rans; default their own"},
    {.name = "cpu",
     .kind = CLI_CHOICE,
     .value = "best|portable|avx2",
     AT(isa),
     .text = "codec: instruction set; default the best"},
    {.name = "allow-fallback",
     .kind = CLI_FLAG,
     AT(allow_fallback),
     .text = "Measure with 4 KiB pages or buffered I/O too, which otherwise fails"},
};

enum { DEFAULT_ROUNDS = 9, DEFAULT_DEPTH = 4, ROUNDS_FEW = 5 };

static const struct {
    const char *name;
    int (*run)(const cli_context *context, const kvt_bench_args *args);
    uint64_t bytes;
} BENCHES[] = {{"codec", kvt_bench_codec, UINT64_C(64) << 20},
               {"io", kvt_bench_io, UINT64_C(1) << 30},
               {"match", kvt_bench_match, UINT64_C(256) << 20},
               {"move", kvt_bench_move, UINT64_C(256) << 20}};

static int run(const cli_context *context, const void *arguments)
{
    kvt_bench_args args = *(const kvt_bench_args *)arguments;
    const char *name = context->operands.items[0];
    args.rounds = args.rounds != 0 ? args.rounds : DEFAULT_ROUNDS;
    args.depth = args.depth != 0 ? args.depth : DEFAULT_DEPTH;
    if (args.rounds < ROUNDS_FEW && !context->global.quiet)
        cli_warn("bench", "the figures of %" PRIu64 " round%s are noise; take %d or more to compare them", args.rounds,
                 cli_plural(args.rounds), ROUNDS_FEW);
    args.run_ns = args.run_ns != 0 ? args.run_ns : UINT64_C(2000000000);
    for (size_t i = 0; i < sizeof BENCHES / sizeof *BENCHES; i++) {
        if (strcmp(BENCHES[i].name, name) != 0)
            continue;
        if (BENCHES[i].run != kvt_bench_codec && context->operands.count > 1)
            return cli_fail(CLI_USAGE, context->operands.items[1], "is one word too many; only codec takes files");
        args.bytes = args.bytes != 0 ? args.bytes : BENCHES[i].bytes;
        cli_catch_interrupt();
        return BENCHES[i].run(context, &args);
    }
    return cli_fail(CLI_USAGE, name, "is no bench; use kvtier bench codec, io, match or move");
}

const cli_command cli_command_bench = {
    .name = "bench",
    .group = "measure",
    .summary = "measure beside a yardstick: codecs, disk, lookup, page moves",
    .operands = "codec|io|match|move [FILE...]",
    .operands_min = 1,
    .operands_max = UINT32_MAX,
    .description =
        "codec: safetensors files of KV through every codec, K and V apart, beside memcpy: ratio, bits an element, "
        "encode "
        "and decode on one core. Every blob is decoded and compared. With --analyse, the entropies of signs, exponents "
        "and mantissas instead.\n\n"
        "io: put and get of 0.5, 1 and 4 MiB records through the public calls, beside fio on the same file system with "
        "the "
        "same size, depth, huge pages and registered buffers.\n\n"
        "match: a prompt of 131,072 tokens, all held, beside the hashing and the random index reads that it cannot do "
        "without.\n\n"
        "move: gather and scatter of a backend beside a plain copy of the same bytes, for every named geometry.\n\n"
        "Yardstick and kvtier take turns; the report gives medians, and p10, median and p90 of the paired ratios. A "
        "silent "
        "fallback to 4 KiB pages or buffered I/O fails the run.",
    .examples = "kvtier bench move --geometry llama-3.1-8b # one geometry\n"
                "kvtier bench codec kv.safetensors # ratios and speeds of all codecs\n"
                "kvtier bench io --store /mnt/nvme/bench --json # on the disk of that directory",
    .options = OPTIONS,
    .option_count = sizeof OPTIONS / sizeof *OPTIONS,
    .args_bytes = sizeof(kvt_bench_args),
    .run = run,
};
