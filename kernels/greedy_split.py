"""The likeliest token of each row, by many programs a row: for few rows on a wide machine.

    out[r] = argmax(logits[r, :]), the lowest index among equals; -1 where one is NaN or infinite

logits [R, V] with row stride; out [R]. Grid: (R, PARTS): a program looks at a part of a row; the
last of a row, by the count in `arrivals` (0 before, 0 after), chooses among the parts'
best in `partial` (value and index of each). PARTS 1 needs neither buffer.
"""

import numpy as np
import triton
import triton.language as tl

from kernels import greedy
from kernels.lib.select import is_finite, lowest_index_of_max
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    counter,
    filled,
    inp,
    out,
    scratch,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def greedy_split(
    out_ptr,
    partial_ptr,
    arrivals_ptr,
    logits_ptr,
    n_rows,
    n_vocab,
    logits_stride,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    lane = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    # Each lane keeps its first maximum.
    best_index = part * BLOCK + lane
    n_odd = tl.zeros((BLOCK,), tl.int32)
    for start in range(part * BLOCK, n_vocab, PARTS * BLOCK):
        offs = start + lane
        x = tl.load(
            logits_ptr + row * logits_stride + offs, mask=offs < n_vocab, other=float("-inf")
        ).to(tl.float32)
        n_odd = tl.where(is_finite(x) | (offs >= n_vocab), n_odd, 1)
        better = x > best
        best = tl.where(better, x, best)
        best_index = tl.where(better, offs, best_index)
    index = tl.where(tl.max(n_odd, axis=0) > 0, -1, lowest_index_of_max(best, best_index))
    if PARTS == 1:
        tl.store(out_ptr + row, index)
    else:
        values_ptr = partial_ptr + row * (2 * PARTS)
        tl.store(values_ptr + part, tl.max(best, axis=0))
        tl.store(values_ptr + PARTS + part, index.to(tl.float32, bitcast=True))
        tl.debug_barrier()
        arrived = tl.atomic_add(arrivals_ptr + row, 1, sem="acq_rel", scope="gpu")
        if arrived == PARTS - 1:
            tl.store(arrivals_ptr + row, 0)
            parts = tl.arange(0, PARTS)
            values = tl.load(values_ptr + parts)
            indices = tl.load(values_ptr + PARTS + parts).to(tl.int32, bitcast=True)
            index = lowest_index_of_max(values, indices)
            tl.store(out_ptr + row, tl.where(tl.min(indices, axis=0) < 0, -1, index))


def reference(a):
    arrivals = np.zeros_like(a["arrivals_ptr"])
    return {**greedy.reference(a), "arrivals_ptr": arrivals}


# Room for the parts of a row in the cases: no target's choice has more.
_MOST_PARTS = 256


def with_scratch(case, **choice):
    n_rows = max(case.args["n_rows"], 1)
    scratch = {
        "partial_ptr": filled(n_rows, 2, _MOST_PARTS),
        "arrivals_ptr": np.zeros(n_rows, np.int32),
    }
    types = {"partial_ptr": "fp32", "arrivals_ptr": "i32"}
    return Case(case.name, {**case.args, **scratch}, {**case.dtypes, **types}, choice=choice)


def cases(act):
    for case in greedy.cases(act):
        yield with_scratch(case)


def draw(d, act):
    choice = d.variant.of({}, {"PARTS": 2}, {"PARTS": 16}, {"PARTS": 128})
    return with_scratch(greedy.draw(d, act), **choice)


_GPU = {
    # H100, 2 rows of 128256: 3.4 us; with 32 parts 3.7.
    "PARTS": "min(128, next_pow2(cdiv(n_vocab, 2048)))",
    "BLOCK": 2048,
    "num_warps": 8,
    "num_stages": 1,
}
SPEC = Spec(
    fn=greedy_split,
    op="greedy",
    when="gpu",
    params=(
        out("out_ptr", "i32", "n_rows"),
        scratch("partial_ptr", "fp32", "n_rows", "2", "PARTS"),
        counter("arrivals_ptr", "i32", "n_rows"),
        inp("logits_ptr", FLOATS, "n_rows", "logits_stride"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        stride("logits_stride"),
        tuned("PARTS"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "PARTS", "1"),
    bytes="n_rows * n_vocab * sizeof(logits_ptr)",
    flops="n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("PARTS", "BLOCK"),
    default={
        "cpu": {"PARTS": 1, "BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": _GPU,
        "hip": _GPU,
    },
)
