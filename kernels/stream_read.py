"""Sums of pieces of a large array: what a machine can read, for comparing other kernels with.

    out[p] = sum_i x[p * CHUNK + i],  i < CHUNK,  p < n_chunks

Only whole pieces are read. Grid: one program a piece. Accumulation: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    inp,
    normal,
    out,
    rng,
    step_size,
    tuned,
)


@triton.jit
def stream_read(out_ptr, x_ptr, n_chunks, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    piece = x_ptr + tl.program_id(0).to(tl.int64) * CHUNK
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, CHUNK, BLOCK):
        total += tl.load(piece + start + lane, eviction_policy="evict_first").to(tl.float32)
    tl.store(out_ptr + tl.program_id(0), tl.sum(total, axis=0))


def reference(a):
    out_ptr = a["out_ptr"].copy()
    pieces = a["x_ptr"][: a["n_chunks"] * 8192].astype(np.float64).reshape(a["n_chunks"], 8192)
    out_ptr[: a["n_chunks"]] = pieces.sum(axis=1)
    return {"out_ptr": out_ptr}


def case(name, n_chunks, rest=0, x="fp32", std=0.1):
    values = normal(rng(name), n_chunks * 8192 + rest, std=std)
    args = {"out_ptr": filled(n_chunks + 1), "x_ptr": values, "n_chunks": n_chunks}
    return Case(name, args, {"out_ptr": "fp32", "x_ptr": x}, units={"out_ptr": 100.0 * std})


def cases(act):
    yield case("one", 1)
    yield case("some_and_a_rest", 5, rest=77)
    yield case("half", 3, x="fp16")


def draw(d, act):
    x = d.types(act)
    std = d.scale(x)
    drawn = case(d.name, d.case.of(0, 1, 1, 2), d.case.of(1, 77, 8191), x, std)
    d.season(drawn.args["x_ptr"].reshape(1, -1), std)
    return drawn


SPEC = Spec(
    fn=stream_read,
    params=(
        out("out_ptr", "fp32", "n_chunks"),
        inp("x_ptr", FLOATS, "n_chunks * CHUNK"),
        step_size("n_chunks"),
        # Which sums there are depends on it: not a matter of tuning.
        derived("CHUNK", "8192"),
        tuned("BLOCK"),
    ),
    grid=("n_chunks", "1", "1"),
    bytes="n_chunks * CHUNK * sizeof(x_ptr)",
    flops="n_chunks * CHUNK",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        # Four vectors of sums on AVX-512; on a GPU a whole piece goes straight to registers.
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 8192, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 8192, "num_warps": 8, "num_stages": 1},
    },
)
