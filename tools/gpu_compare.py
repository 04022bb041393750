#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random rows of paged GPU memory <-> one contiguous blob: what a framework offers beside kvtier's kernels, in one run.

    gpu_compare.py run LIBRARY [--lmcache DIR] [--json FILE] [--seconds N]   on a GPU host with PyTorch
    gpu_compare.py plot FILE OUT_PREFIX                                      bars (SVG) and a table (Markdown) of it

LIBRARY is libgpu_move.so of a build with CUDA. DIR holds LMCache's compiled c_ops, if it is to be timed too. A row per
contender: `call_us` is one call by itself between two events on an idle stream, what a caller sees; `row_us` is one of
many calls queued behind each other, what the device needs. Medians. Every contender's bytes are checked first.
"""
import argparse
import ctypes
import json
import statistics
import sys
import time

LAYERS, HEADS, DIM = 32, 32, 128
SIZES = (128, 2048, 16384)
OUT, IN = 0, 1
CALLS, WARM, ROW = 15, 3, 8


class Kvtier:
    """The kernels through ctypes."""

    def __init__(self, path, pool, page):
        import torch

        self.lib = ctypes.CDLL(path)
        self.lib.gpu_move_error.restype = ctypes.c_char_p
        self.lib.gpu_move_open.restype = ctypes.c_void_p
        self.lib.gpu_move_time.restype = ctypes.c_double
        layers, _, slots = pool.shape[:3]
        pools = (ctypes.c_void_p * layers)(*(pool[i].data_ptr() for i in range(layers)))
        self.handle = self.lib.gpu_move_open(b"vllm-flash-nhd", layers, page, slots // page, HEADS, DIM * 2,
                                             max(SIZES), pools)
        if not self.handle:
            raise RuntimeError(self.lib.gpu_move_error().decode())
        self.handle = ctypes.c_void_p(self.handle)
        self.stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def close(self):
        self.lib.gpu_move_close(self.handle)

    def move(self, direction, blob, ids, tokens):
        if self.lib.gpu_move_queue(self.handle, direction, ctypes.c_void_p(blob.data_ptr()), ids, tokens, self.stream):
            raise RuntimeError(self.lib.gpu_move_error().decode())

    def time_us(self, direction, blob, ids, tokens, count):
        """`count` calls in a row, from C; microseconds of one."""
        ms = self.lib.gpu_move_time(self.handle, direction, ctypes.c_void_p(blob.data_ptr()), ids, tokens, self.stream,
                                    count)
        return ms * 1000 / count


class Case:
    """A pool of pages, and blobs with their random pages, which rotate where they would fit the cache."""

    def __init__(self, tokens, page):
        import torch

        self.tokens, self.page = tokens, page
        self.sets = 6 if tokens <= 256 else 1
        slots = max(2048, tokens * 5 // 4)
        self.pool = torch.randn(LAYERS, 2, slots, HEADS * DIM, dtype=torch.float16, device="cuda")
        self.blobs = [torch.empty(LAYERS, 2, tokens, HEADS * DIM, dtype=torch.float16, device="cuda")
                      for _ in range(self.sets)]
        pages = [torch.randperm(slots // page)[: tokens // page] for _ in range(self.sets)]
        self.ids = [(ctypes.c_uint32 * len(p))(*p.tolist()) for p in pages]
        self.slots = [(p[:, None] * page + torch.arange(page)[None]).flatten().cuda() for p in pages]
        self.rows = [s.tolist() for s in self.slots]
        self.index = [s[None, None, :, None].expand(LAYERS, 2, tokens, HEADS * DIM) for s in self.slots]
        self.bytes = self.blobs[0].numel() * 2


def timed(fn, sets, calls=CALLS, row=ROW):
    """fn(i) is one call on set i -> (call_us, row_us)."""
    import torch

    def span(count, first):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        a.record()
        for i in range(count):
            fn((first + i) % sets)
        b.record()
        torch.cuda.synchronize()
        return a.elapsed_time(b) * 1000 / count

    for i in range(WARM if calls > 1 else 0):
        fn(i % sets)
    single = statistics.median(span(1, i) for i in range(calls))
    queued = statistics.median(span(row, i) for i in range(max(calls // 3, 1))) if row else None
    return single, queued


def framework(case, compiled):
    """name -> (gather(i), scatter(i), dear)"""
    import torch

    pool, blobs, slots, rows, index = case.pool, case.blobs, case.slots, case.rows, case.index

    def naive_out(i):
        for layer in range(LAYERS):
            for t, s in enumerate(rows[i]):
                blobs[i][layer, 0, t] = pool[layer, 0, s]
                blobs[i][layer, 1, t] = pool[layer, 1, s]

    def naive_in(i):
        for layer in range(LAYERS):
            for t, s in enumerate(rows[i]):
                pool[layer, 0, s] = blobs[i][layer, 0, t]
                pool[layer, 1, s] = blobs[i][layer, 1, t]

    def advanced_out(i):
        for layer in range(LAYERS):
            blobs[i][layer] = pool[layer][:, slots[i]]

    def advanced_in(i):
        for layer in range(LAYERS):
            pool[layer][:, slots[i]] = blobs[i][layer]

    def vector_out(i):
        blobs[i].copy_(pool[:, :, slots[i]])

    def vector_in(i):
        pool[:, :, slots[i]] = blobs[i]

    table = {
        "naive loop": (naive_out, naive_in, True),
        "advanced indexing, by layer": (advanced_out, advanced_in, False),
        "advanced indexing, one call": (vector_out, vector_in, False),
        "torch.gather / scatter_": (lambda i: torch.gather(pool, 2, index[i], out=blobs[i]),
                                    lambda i: pool.scatter_(2, index[i], blobs[i]), False),
        "index_select / index_copy_": (lambda i: torch.index_select(pool, 2, slots[i], out=blobs[i]),
                                       lambda i: pool.index_copy_(2, slots[i], blobs[i]), False),
    }
    if compiled:
        table["torch.compile"] = (lambda i: compiled[0](pool, slots[i], blobs[i]),
                                  lambda i: compiled[1](pool, slots[i], blobs[i]), False)
    return table


def compiled_pair():
    import torch

    def out(pool, slots, blob):
        blob.copy_(pool[:, :, slots])

    def back(pool, slots, blob):
        pool[:, :, slots] = blob

    return torch.compile(out, dynamic=True), torch.compile(back, dynamic=True)


def lmcache_calls(ops, case, targets):
    """LMCache's own kernel; its blobs are [plane, layer, token, row]."""
    import torch

    pointers = torch.tensor([p.data_ptr() for p in case.pool], dtype=torch.int64, device="cuda")
    total = case.pool.shape[2]

    def call(direction, i):
        ops.multi_layer_kv_transfer(targets[i], pointers, case.slots[i], torch.device("cuda:0"), total, direction,
                                    ops.GPUKVFormat.NL_X_TWO_NB_BS_NH_HS, block_size=case.page, head_size=DIM)

    return (lambda i: call(ops.TransferDirection.D2H, i)), (lambda i: call(ops.TransferDirection.H2D, i))


class Report:
    def __init__(self, path):
        self.file = open(path, "w") if path else None
        self.began = time.monotonic()

    def row(self, **values):
        line = json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()})
        print(line, flush=True)
        if self.file:
            self.file.write(line + "\n")
            self.file.flush()

    def elapsed(self):
        return time.monotonic() - self.began


def right(case, i, blob):
    """Blob i holds its rows of the pool."""
    import torch

    return all(torch.equal(blob[layer], case.pool[layer][:, case.slots[i]]) for layer in range(0, LAYERS, 7))


def right_both(case, out, back, blob_of):
    """Out, then in again over a wiped pool: the rows are there, and no other changed."""
    import torch

    case.blobs[0].zero_()
    out(0)
    torch.cuda.synchronize()
    good = right(case, 0, blob_of(0))
    keep, mark = case.pool[:, :, case.slots[0][:16]].clone(), case.pool.clone() if case.bytes < 1 << 30 else None
    case.pool[:, :, case.slots[0]] = 0
    back(0)
    torch.cuda.synchronize()
    return good and torch.equal(keep, case.pool[:, :, case.slots[0][:16]]) and (mark is None or
                                                                              torch.equal(mark, case.pool))


def device_rows(report, case, library, ops, compiled):
    import torch

    where = {"tokens": case.tokens, "page": case.page, "mib": case.bytes / 2**20, "blob": "device"}
    other = [torch.empty_like(b) for b in case.blobs[:2]]
    call, queued = timed(lambda i: other[i % 2 % len(other)].copy_(case.blobs[i]), case.sets)
    report.row(contender="copy", way="out", call_us=call, row_us=queued, **where)
    del other
    table = framework(case, compiled)
    if case.page != 1:
        table = {k: v for k, v in table.items() if k.startswith("index_select")}
    for name, (out, back, dear) in table.items():
        if dear and case.tokens > SIZES[0]:
            report.row(contender=name, way="out", not_run="some seconds a call", **where)
            continue
        good = right_both(case, out, back, lambda i: case.blobs[i])
        for way, fn in (("out", out), ("in", back)):
            call, queued = timed(fn, case.sets, 2 if dear else CALLS, 0 if dear else ROW)
            report.row(contender=name, way=way, call_us=call, row_us=queued, right=good, **where)
    if ops is not None:
        shaped = [b.view(2, LAYERS, case.tokens, HEADS * DIM) for b in case.blobs]
        out, back = lmcache_calls(ops, case, shaped)
        good = right_both(case, out, back, lambda i: shaped[i].permute(1, 0, 2, 3))
        for way, fn in (("out", out), ("in", back)):
            call, queued = timed(fn, case.sets)
            report.row(contender="LMCache 0.4.6", way=way, call_us=call, row_us=queued, right=good, **where)
    ours = Kvtier(library, case.pool, case.page)
    moves = [lambda i, d=d: ours.move(d, case.blobs[i], case.ids[i], case.tokens) for d in (OUT, IN)]
    good = right_both(case, moves[0], moves[1], lambda i: case.blobs[i])
    for direction, way in ((OUT, "out"), (IN, "in")):
        call, queued = timed(moves[direction], case.sets)
        report.row(contender="kvtier, Python", way=way, call_us=call, row_us=queued, right=good, **where)
        one = [ours.time_us(direction, case.blobs[i % case.sets], case.ids[i % case.sets], case.tokens, 1)
               for i in range(CALLS)]
        many = [ours.time_us(direction, case.blobs[i % case.sets], case.ids[i % case.sets], case.tokens, ROW)
                for i in range(CALLS // 3)]
        report.row(contender="kvtier, C", way=way, call_us=statistics.median(one), row_us=statistics.median(many),
                   right=good, **where)
    ours.close()


def pinned_rows(report, case, library, ops):
    import torch

    where = {"tokens": case.tokens, "page": case.page, "mib": case.bytes / 2**20, "blob": "pinned"}
    host, device = torch.empty(case.blobs[0].shape, dtype=torch.float16, pin_memory=True), case.blobs[0]
    shaped = host.view(2, LAYERS, case.tokens, HEADS * DIM)
    ours = Kvtier(library, case.pool, case.page)
    table = {
        "copy": (lambda i: host.copy_(device, non_blocking=True), lambda i: device.copy_(host, non_blocking=True)),
        "advanced indexing and a copy": (
            lambda i: host.copy_(case.pool[:, :, case.slots[0]], non_blocking=True),
            lambda i: case.pool.index_copy_(2, case.slots[0], host.to("cuda", non_blocking=True))),
        "kvtier, Python": tuple(lambda i, d=d: ours.move(d, host, case.ids[0], case.tokens) for d in (OUT, IN)),
    }
    if ops is not None:
        table["LMCache 0.4.6"] = lmcache_calls(ops, case, [shaped] * case.sets)
    for name, (out, back) in table.items():
        for way, fn in (("out", out), ("in", back)):
            call, queued = timed(lambda i, fn=fn: fn(0), 1, 7, 4)
            report.row(contender=name, way=way, call_us=call, row_us=queued, **where)
    for direction, way in ((OUT, "out"), (IN, "in")):
        one = [ours.time_us(direction, host, case.ids[0], case.tokens, 1) for _ in range(7)]
        many = [ours.time_us(direction, host, case.ids[0], case.tokens, 4) for _ in range(3)]
        report.row(contender="kvtier, C", way=way, call_us=statistics.median(one), row_us=statistics.median(many),
                   **where)
    ours.close()


def run(options):
    import torch

    report = Report(options.json)
    report.row(command=" ".join(sys.argv[1:]).replace(options.library, options.library.rsplit("/", 1)[-1]),
               device=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda,
               date=time.strftime("%Y-%m-%d"), layers=LAYERS, heads=HEADS, dim=DIM, calls=CALLS, row=ROW)
    ops = None
    if options.lmcache:
        sys.path.insert(0, options.lmcache)
        import c_ops as ops
    compiled = compiled_pair()
    for tokens in SIZES:
        for page in (1, 16):
            if report.elapsed() > options.seconds:
                report.row(tokens=tokens, page=page, not_run="out of time")
                continue
            case = Case(tokens, page)
            device_rows(report, case, options.library, ops, compiled)
            if tokens <= 2048 and page == 1 and report.elapsed() < options.seconds:
                pinned_rows(report, case, options.library, ops)
            del case
            torch.cuda.empty_cache()


def plot(options):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in open(options.file)]
    head, rows = rows[0], [r for r in rows[1:] if "contender" in r]
    groups = {}
    for r in rows:
        groups.setdefault((r["blob"], r["page"], r["tokens"]), {}).setdefault(r["contender"], {})[r["way"]] = r
    with open(options.prefix + ".md", "w") as text:
        for (blob, page, tokens), contenders in groups.items():
            mib = next(iter(next(iter(contenders.values())).values()))["mib"]
            text.write(f"\n**{tokens} tokens, {mib:,.0f} MiB, {'random slots' if page == 1 else f'random pages of {page}'}, "
                       f"blob in {'device memory' if blob == 'device' else 'pinned host memory'}** "
                       f"({head['device']}, µs, median)\n\n| contender | out, one call | out, of a row | in, one call | "
                       "in, of a row |\n|---|---|---|---|---|\n")
            for name, ways in contenders.items():
                cells = []
                for way in ("out", "in"):
                    r = ways.get(way, {})
                    for key in ("call_us", "row_us"):
                        cells.append(f"{r[key]:,.1f}" if r.get(key) else "-")
                text.write(f"| {name} | " + " | ".join(cells) + " |\n")
    device = [(k, v) for k, v in groups.items() if k[0] == "device" and k[1] == 1]
    figure, axes = pyplot.subplots(1, len(device), figsize=(4.6 * len(device), 4.4), squeeze=False)
    for axis, ((_, _, tokens), contenders) in zip(axes[0], device):
        names = [n for n, w in contenders.items() if any("call_us" in r for r in w.values())]
        place = range(len(names))
        for shift, way, colour in ((-0.2, "out", "#33658a"), (0.2, "in", "#f26419")):
            values = [contenders[n].get(way, {}).get("call_us", float("nan")) / 1000 for n in names]
            axis.barh([p + shift for p in place], values, height=0.38, label="pages to blob" if way == "out" else
                      "blob to pages", color=colour)
        axis.set_yticks(list(place), names, fontsize=8)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlabel("ms, one call")
        axis.set_title(f"{tokens} random slots", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"{LAYERS} layers x {HEADS} heads x {DIM}, fp16, {head['device']}", fontsize=11)
    figure.tight_layout()
    figure.savefig(options.prefix + ".svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.add_argument("library")
    runs.add_argument("--lmcache", default="")
    runs.add_argument("--json", default="")
    runs.add_argument("--seconds", type=float, default=300)
    runs.set_defaults(call=run)
    plots = commands.add_parser("plot")
    plots.add_argument("file")
    plots.add_argument("prefix")
    plots.set_defaults(call=plot)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
