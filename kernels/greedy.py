"""The likeliest token of each row.

    out[r] = argmax(logits[r, :]), the lowest index among equals; -1 where one is NaN or infinite

logits [R, V] with row stride; out [R]. Grid: one program a row.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.select import NO_CHOICE, all_finite, is_finite, lowest_index_of_max
from kernels.spec import FLOATS, Case, Spec, inp, out, padded, rng, size, step_size, stride, tuned


@triton.jit
def greedy(out_ptr, logits_ptr, n_rows, n_vocab, logits_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    # Each lane keeps its first maximum.
    best_index = lane
    n_odd = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n_vocab, BLOCK):
        offs = start + lane
        x = tl.load(
            logits_ptr + row * logits_stride + offs, mask=offs < n_vocab, other=float("-inf")
        ).to(tl.float32)
        n_odd = tl.where(is_finite(x) | (offs >= n_vocab), n_odd, 1)
        better = x > best
        best = tl.where(better, x, best)
        best_index = tl.where(better, offs, best_index)
    index = lowest_index_of_max(best, best_index)
    tl.store(out_ptr + row, tl.where(tl.max(n_odd, axis=0) > 0, -1, index))


def reference(a):
    out_ptr = a["out_ptr"].copy()
    for row in range(a["n_rows"]):
        logits = a["logits_ptr"][row, : a["n_vocab"]]
        out_ptr[row] = np.argmax(logits) if all_finite(logits) else NO_CHOICE
    return {"out_ptr": out_ptr}


def case(name, n_rows, n_vocab, pad=0, logits="fp32", edit=None):
    g = rng(name)
    values = padded(g, n_rows, n_vocab, pad, std=3.0)
    values[:, n_vocab:] = 100.0  # never to be looked at
    if edit is not None:
        edit(values)
    return Case(
        name,
        {
            "out_ptr": np.full(n_rows + 1, -5, np.int32),
            "logits_ptr": values,
            "n_rows": n_rows,
            "n_vocab": n_vocab,
            "logits_stride": n_vocab + pad,
        },
        {"out_ptr": "i32", "logits_ptr": logits},
    )


def cases(act):
    def ties(values):
        values[0, [3, 700, 1300]] = 50.0
        values[1] = -2.0

    def strange(values):
        values[0, 5] = np.nan
        values[1, 599] = -np.inf
        values[2, 0] = np.inf
        values[3] = np.nan

    yield case("demo", 3, 8192)
    yield case("fixture", 2, 512)
    yield case("llama3", 1, 128256)
    yield case("odd_strided", 4, 1031, pad=9)
    yield case("tiny", 2, 3)
    yield case("ties", 2, 2048, edit=ties)
    yield case("strange", 5, 600, edit=strange)
    yield case("half", 3, 8192, logits="fp16")
    yield case("bf16", 3, 8192, logits="bf16")


def draw(d, act):
    n_vocab = d.width(1, 9000)
    n_rows = d.rows(max(1, min(9, 9000 // n_vocab)))

    def edit(values):
        rows = values[:, :n_vocab]
        d.season(rows, 3.0)
        for row in rows:
            some = [d.case.between(0, n_vocab - 1) for _ in range(3)]
            kind = d.case.of("plain", "ties", "infinite", "nan", "all_nan", "hopeless", "huge")
            if kind == "ties":
                row[some] = 50.0
            elif kind == "infinite":
                row[some] = np.inf
            elif kind == "nan":
                row[some] = np.nan
            elif kind == "all_nan":
                row[:] = np.nan
            elif kind == "hopeless":
                row[:] = -np.inf
                row[some] = np.nan
            elif kind == "huge":
                row *= np.float32(1e30)

    gap = d.gap(n_vocab, n_rows)
    return case(d.name, n_rows, n_vocab, gap, d.variant.of("fp32", *FLOATS), edit)


SPEC = Spec(
    fn=greedy,
    op="greedy",
    when="not gpu",
    params=(
        out("out_ptr", "i32", "n_rows"),
        inp("logits_ptr", FLOATS, "n_rows", "logits_stride"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        stride("logits_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * n_vocab * sizeof(logits_ptr)",
    flops="n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
    },
    space={"cpu": {"BLOCK": (16, 32, 64, 128, 256), "where": "BLOCK <= n_vocab"}},
)
