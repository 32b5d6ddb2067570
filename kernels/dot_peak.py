"""One small matrix product again and again: what a machine can multiply, for comparing with.

    out[p] = n_rounds * a b^T

a [BLOCK_M, BLOCK_K], b [BLOCK_N, BLOCK_K], read once; out [n_programs, BLOCK_M, BLOCK_N].
Grid: n_programs. Accumulation: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import FLOATS, Case, Spec, derived, filled, inp, normal, out, rng, step_size


@triton.jit
def dot_peak(
    out_ptr,
    a_ptr,
    b_ptr,
    n_programs,
    n_rounds,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    lane_m = tl.arange(0, BLOCK_M)
    lane_n = tl.arange(0, BLOCK_N)
    lane_k = tl.arange(0, BLOCK_K)
    a = tl.load(a_ptr + lane_m[:, None] * BLOCK_K + lane_k[None, :])
    b = tl.load(b_ptr + lane_n[:, None] * BLOCK_K + lane_k[None, :])
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for _ in range(n_rounds):
        acc = tl.dot(a, tl.trans(b), acc, input_precision="ieee")
    tile = out_ptr + tl.program_id(0).to(tl.int64) * (BLOCK_M * BLOCK_N)
    tl.store(tile + lane_m[:, None] * BLOCK_N + lane_n[None, :], acc)


def reference(a):
    product = a["a_ptr"].astype(np.float64) @ a["b_ptr"].astype(np.float64).T
    out_ptr = np.broadcast_to(product * a["n_rounds"], a["out_ptr"].shape)
    return {"out_ptr": out_ptr.copy()}


def case(name, n_programs, n_rounds, operands="fp32", std=0.1):
    g = rng(name)
    args = {
        "out_ptr": filled(n_programs, 128, 128),
        "a_ptr": normal(g, 128, 64, std=std),
        "b_ptr": normal(g, 128, 64, std=0.1),
        "n_programs": n_programs,
        "n_rounds": n_rounds,
    }
    types = {"out_ptr": "fp32", "a_ptr": operands, "b_ptr": operands}
    return Case(name, args, types, units={"out_ptr": std * max(n_rounds, 1)})


def cases(act):
    yield case("one", 1, 1, operands=act)
    yield case("rounds", 3, 5, operands=act)
    yield case("half", 2, 3, operands="fp16")


def draw(d, act):
    operands = d.types(act)
    std = d.scale(operands)
    drawn = case(d.name, 1, d.case.between(0, 9), operands, std)
    d.season(drawn.args["a_ptr"], std)
    return drawn


SPEC = Spec(
    fn=dot_peak,
    params=(
        out("out_ptr", "fp32", "n_programs", "BLOCK_M", "BLOCK_N"),
        inp("a_ptr", FLOATS, "BLOCK_M", "BLOCK_K"),
        inp("b_ptr", FLOATS, "BLOCK_N", "BLOCK_K"),
        step_size("n_programs"),
        step_size("n_rounds"),
        # The operands' shapes: not a matter of tuning.
        derived("BLOCK_M", "128"),
        derived("BLOCK_N", "128"),
        derived("BLOCK_K", "64"),
    ),
    grid=("n_programs", "1", "1"),
    bytes="n_programs * BLOCK_M * BLOCK_N * 4",
    flops="2 * n_programs * n_rounds * BLOCK_M * BLOCK_N * BLOCK_K",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 4, "num_stages": 1},
    },
)
