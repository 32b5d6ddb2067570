"""Log-probability of a given token in each row.

    out[r] = logits[r, targets[r]] - log(sum(exp(logits[r, :]))); NaN where one is NaN or infinite

logits [R, V] with row stride; targets [R]; out [R] fp32. Two passes (maximum, then sum), fp32.
Grid: one program a row.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.select import all_finite, is_finite
from kernels.spec import FLOATS, Case, Spec, inp, out, padded, rng, size, step_size, stride, tuned


@triton.jit
def token_logprob(
    out_ptr, logits_ptr, targets_ptr, n_rows, n_vocab, logits_stride, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    logits = logits_ptr + row * logits_stride
    lane = tl.arange(0, BLOCK)
    lane_max = tl.full((BLOCK,), float("-inf"), tl.float32)
    n_odd = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n_vocab, BLOCK):
        mask = start + lane < n_vocab
        x = tl.load(logits + start + lane, mask=mask, other=float("-inf")).to(tl.float32)
        n_odd = tl.where(is_finite(x) | (start + lane >= n_vocab), n_odd, 1)
        lane_max = tl.maximum(lane_max, x)
    largest = tl.max(lane_max, axis=0)
    lane_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n_vocab, BLOCK):
        mask = start + lane < n_vocab
        x = tl.load(logits + start + lane, mask=mask, other=float("-inf")).to(tl.float32)
        lane_sum += tl.exp(x - largest)
    target = tl.load(logits + tl.load(targets_ptr + row)).to(tl.float32)
    logprob = target - largest - tl.log(tl.sum(lane_sum, axis=0))
    tl.store(out_ptr + row, tl.where(tl.max(n_odd, axis=0) > 0, float("nan"), logprob))


def reference(a):
    out_ptr = a["out_ptr"].copy()
    for row in range(a["n_rows"]):
        logits = a["logits_ptr"][row, : a["n_vocab"]].astype(np.float64)
        if not all_finite(logits):
            out_ptr[row] = np.nan
            continue
        largest = logits.max()
        total = np.log(np.exp(logits - largest).sum())
        out_ptr[row] = logits[a["targets_ptr"][row]] - largest - total
    return {"out_ptr": out_ptr}


def case(name, n_rows, n_vocab, pad=0, std=3.0, logits="fp32", edit=None):
    g = rng(name)
    values = padded(g, n_rows, n_vocab, pad, std=std)
    if edit is not None:
        edit(values)
    return Case(
        name,
        {
            "out_ptr": np.full(n_rows + 1, 9.0, np.float32),
            "logits_ptr": values,
            "targets_ptr": g.integers(0, n_vocab, n_rows + 1).astype(np.int32),
            "n_rows": n_rows,
            "n_vocab": n_vocab,
            "logits_stride": n_vocab + pad,
        },
        {"out_ptr": "fp32", "logits_ptr": logits, "targets_ptr": "i32"},
    )


def cases(act):
    def strange(values):
        values[0, 5] = np.nan
        values[1, 599] = -np.inf
        values[2, 0] = np.inf
        values[3] = np.nan

    yield case("demo", 5, 8192)
    yield case("strange", 5, 600, edit=strange)
    yield case("fixture", 3, 512)
    yield case("llama3", 1, 128256)
    yield case("odd_strided", 4, 1031, pad=9)
    yield case("peaked", 2, 2048, std=40.0)
    yield case("half", 3, 8192, logits="fp16")


def draw(d, act):
    logits = d.variant.of("fp32", *FLOATS)
    n_vocab = d.width(1, 9000)
    n_rows = d.rows(max(1, min(9, 9000 // n_vocab)))
    std = d.case.of(3.0, 3.0, 0.0, 40.0, 5000.0)

    def edit(values):
        rows = d.season(values[:, :n_vocab], std)
        for row in rows:
            if d.case.chance(0.1):
                row[d.case.between(0, n_vocab - 1)] = d.case.of(-np.inf, np.inf, np.nan)

    return case(d.name, n_rows, n_vocab, d.gap(n_vocab, n_rows), std, logits, edit)


SPEC = Spec(
    fn=token_logprob,
    op="token_logprob",
    params=(
        out("out_ptr", "fp32", "n_rows"),
        inp("logits_ptr", FLOATS, "n_rows", "logits_stride"),
        inp("targets_ptr", "i32", "n_rows"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        stride("logits_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="2 * n_rows * n_vocab * sizeof(logits_ptr)",
    flops="4 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
    },
)
