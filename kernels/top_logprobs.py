"""Log-probabilities of a token of each row, and of its likeliest ones.

    logprobs[r] = l(t), t = targets[r], or ids[r] where that is negative
    top_ids[r, i], top_logprobs[r, i] = the i-th likeliest token v and l(v), for i < n_top[r]
    l(v) = logits[r, v] - log(sum(exp(logits[r, :])))

The lower id goes first among equals; past the vocabulary's end: -1 and NaN. Where a logit is NaN or
infinite all are NaN, and -1. Of a row with n_top -1, and behind the n_top-th, nothing is written.

logits [R, V] fp32 with row stride; targets, n_top [R]; ids at least R; logprobs [R], top_ids and
top_logprobs [R, n_most]. No sort: each pass finds the largest after the one before it.
Arithmetic: fp32, the sum compensated, so that a hundred thousand terms lose no more than one does.
Grid: one program a row.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.select import NO_CHOICE, all_finite, is_finite, lowest_index_of_max
from kernels.spec import (
    TOLERANCE,
    Case,
    Spec,
    inp,
    out,
    padded,
    rng,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def top_logprobs(
    logprobs_ptr,
    top_ids_ptr,
    top_logprobs_ptr,
    logits_ptr,
    ids_ptr,
    targets_ptr,
    n_top_ptr,
    n_rows,
    n_vocab,
    n_most,
    logits_stride,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n_top = tl.load(n_top_ptr + row)
    if n_top >= 0:
        logits = logits_ptr + row * logits_stride
        lane = tl.arange(0, BLOCK)
        lane_max = tl.full((BLOCK,), float("-inf"), tl.float32)
        n_odd = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, n_vocab, BLOCK):
            mask = start + lane < n_vocab
            x = tl.load(logits + start + lane, mask=mask, other=float("-inf"))
            n_odd = tl.where(is_finite(x) | ~mask, n_odd, 1)
            lane_max = tl.maximum(lane_max, x)
        largest = tl.max(lane_max, axis=0)
        # Kahan's sum, in each lane.
        lane_sum = tl.zeros((BLOCK,), tl.float32)
        lost = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, n_vocab, BLOCK):
            mask = start + lane < n_vocab
            x = tl.load(logits + start + lane, mask=mask, other=float("-inf"))
            term = tl.exp(x - largest) - lost
            longer = lane_sum + term
            lost = (longer - lane_sum) - term
            lane_sum = longer
        log_sum = tl.log(tl.sum(lane_sum, axis=0))
        is_odd = tl.max(n_odd, axis=0) > 0

        target = tl.load(targets_ptr + row)
        target = tl.where(target >= 0, target, tl.load(ids_ptr + row))
        chosen = tl.load(logits + target, mask=target >= 0, other=float("nan"))
        tl.store(logprobs_ptr + row, tl.where(is_odd, float("nan"), chosen - largest - log_sum))

        value = float("inf")
        index = -1
        for i in range(n_top):
            best = tl.full((BLOCK,), float("-inf"), tl.float32)
            best_index = tl.full((BLOCK,), 0x7FFFFFFF, tl.int32)
            for start in range(0, n_vocab, BLOCK):
                token = start + lane
                x = tl.load(logits + token, mask=token < n_vocab, other=float("-inf"))
                is_next = (x < value) | ((x == value) & (token > index))
                better = is_next & (x > best)
                best = tl.where(better, x, best)
                best_index = tl.where(better, token, best_index)
            value = tl.max(best, axis=0)
            index = lowest_index_of_max(best, best_index)
            is_none = is_odd | (index == 0x7FFFFFFF)
            at = row * n_most + i
            tl.store(top_ids_ptr + at, tl.where(is_none, -1, index))
            logprob = value - largest - log_sum
            tl.store(top_logprobs_ptr + at, tl.where(is_none, float("nan"), logprob))


def reference(a):
    n_vocab = a["n_vocab"]
    logprobs, top_ids, top_logprobs = (
        a[name].copy() for name in ("logprobs_ptr", "top_ids_ptr", "top_logprobs_ptr")
    )
    for row in range(a["n_rows"]):
        n_top = int(a["n_top_ptr"][row])
        if n_top < 0:
            continue
        logits = a["logits_ptr"][row, :n_vocab].astype(np.float64)
        top_ids[row, :n_top] = NO_CHOICE
        logprobs[row] = top_logprobs[row, :n_top] = np.nan
        if not all_finite(logits):
            continue
        of_all = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        target = a["targets_ptr"][row] if a["targets_ptr"][row] >= 0 else a["ids_ptr"][row]
        if target >= 0:
            logprobs[row] = of_all[target]
        likeliest = np.argsort(-logits, kind="stable")[:n_top]
        top_ids[row, : len(likeliest)] = likeliest
        top_logprobs[row, : len(likeliest)] = of_all[likeliest]
    return {"logprobs_ptr": logprobs, "top_ids_ptr": top_ids, "top_logprobs_ptr": top_logprobs}


def case(name, n_top, n_vocab, pad=0, std=3.0, n_most=20, edit=None, n_spare=1):
    """`n_top`: of each row."""
    g = rng(name)
    n_rows = len(n_top)
    values = padded(g, n_rows, n_vocab, pad, std=std)
    if edit is not None:
        edit(values)
    n_all = n_rows + n_spare
    targets = g.integers(0, n_vocab, n_all).astype(np.int32)
    return Case(
        name,
        {
            "logprobs_ptr": np.full(n_all, 9.0, np.float32),
            "top_ids_ptr": np.full((n_all, n_most), -5, np.int32),
            "top_logprobs_ptr": np.full((n_all, n_most), 9.0, np.float32),
            "logits_ptr": values,
            "ids_ptr": g.integers(-1, n_vocab, n_all + 3).astype(np.int32),
            "targets_ptr": np.where(g.random(n_all) < 0.5, targets, -1).astype(np.int32),
            "n_top_ptr": np.array([*n_top, *[0] * n_spare], np.int32),
            "n_rows": n_rows,
            "n_vocab": n_vocab,
            "n_most": n_most,
            "logits_stride": n_vocab + pad,
        },
        {
            "logprobs_ptr": "fp32",
            "top_ids_ptr": "i32",
            "top_logprobs_ptr": "fp32",
            "logits_ptr": "fp32",
            "ids_ptr": "i32",
            "targets_ptr": "i32",
            "n_top_ptr": "i32",
        },
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

    def flat(values):
        values *= np.float32(1e-3)

    yield case("demo", [0, 5, 20, -1, 1], 8192)
    yield case("none", [-1, -1, -1], 8192)
    yield case("ties", [5, 20], 2048, edit=ties)
    yield case("strange", [3, 0, 20, 5, 4], 600, edit=strange)
    yield case("odd_strided", [7, 20, -1, 2], 1031, pad=9)
    yield case("few_tokens", [20, 3, 2], 3)
    yield case("peaked", [20, 5], 2048, std=40.0)
    yield case("llama3", [20], 128256)
    yield case("qwen_flat", [5], 151936, edit=flat)


def draw(d, act):
    n_vocab = d.width(1, 9000)
    n_rows = d.rows(max(1, min(9, 9000 // n_vocab)))
    n_top = [d.case.of(-1, 0, 1, 5, 20, d.case.between(0, 20)) for _ in range(n_rows)]
    std = d.case.of(3.0, 3.0, 0.0, 40.0, 5000.0)

    def edit(values):
        rows = d.season(values[:, :n_vocab], std)
        for row in rows:
            if d.case.chance(0.3):
                row[[d.case.between(0, n_vocab - 1) for _ in range(30)]] = 2.0 * std
            if d.case.chance(0.1):
                row[d.case.between(0, n_vocab - 1)] = d.case.of(-np.inf, np.inf, np.nan)

    return case(d.name, n_top, n_vocab, d.gap(n_vocab, n_rows), std, edit=edit)


SPEC = Spec(
    fn=top_logprobs,
    op="top_logprobs",
    params=(
        out("logprobs_ptr", "fp32", "n_rows"),
        out("top_ids_ptr", "i32", "n_rows", "n_most"),
        out("top_logprobs_ptr", "fp32", "n_rows", "n_most"),
        inp("logits_ptr", "fp32", "n_rows", "logits_stride"),
        inp("ids_ptr", "i32", "n_rows"),
        inp("targets_ptr", "i32", "n_rows"),
        inp("n_top_ptr", "i32", "n_rows"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        size("n_most", of="@n_most"),
        stride("logits_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="2 * n_rows * n_vocab * sizeof(logits_ptr)",
    flops="8 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
    },
    tolerance={**TOLERANCE, "fp32": 1e-5},
)
