"""The gate of a Llama MLP.

    out[r, :] = silu(gate[r, :]) * up[r, :],  silu(x) = x / (1 + exp(-x))

out [R, C]; gate, up [R, C] with row strides (they may be the halves of one buffer).
Grid: (R, C / BLOCK). Arithmetic: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    filled,
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
def silu_mul(
    out_ptr, gate_ptr, up_ptr, n_rows, n_cols, gate_stride, up_stride, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n_cols
    gate = tl.load(gate_ptr + row * gate_stride + offs, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + offs, mask=mask, other=0.0).to(tl.float32)
    y = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out_ptr + row * n_cols + offs, y.to(out_ptr.dtype.element_ty), mask=mask)


def reference(a):
    n_rows, n_cols = a["n_rows"], a["n_cols"]
    gate = a["gate_ptr"][:n_rows, :n_cols].astype(np.float64)
    out_ptr = a["out_ptr"].copy()
    with np.errstate(over="ignore"):
        out_ptr[:n_rows] = gate / (1.0 + np.exp(-gate)) * a["up_ptr"][:n_rows, :n_cols]
    return {"out_ptr": out_ptr}


def make_case(name, n_rows, n_cols, pad=0, std=2.0, *, act, up_pad=None, up_std=1.0, **types):
    g = rng(name)
    up_pad = pad if up_pad is None else up_pad
    return Case(
        name,
        {
            "out_ptr": filled(n_rows + 1, n_cols),
            "gate_ptr": padded(g, n_rows, n_cols, pad, std=std),
            "up_ptr": padded(g, n_rows, n_cols, up_pad, std=up_std),
            "n_rows": n_rows,
            "n_cols": n_cols,
            "gate_stride": n_cols + pad,
            "up_stride": n_cols + up_pad,
        },
        {"out_ptr": act, "gate_ptr": act, "up_ptr": act} | types,
        units={"out_ptr": std * up_std},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 5, 1024)
    yield case("packed_halves", 3, 256, pad=256)
    yield case("llama3_8b", 2, 14336)
    yield case("odd", 3, 77, pad=1)
    yield case("far_out", 2, 384, std=60.0)
    yield case("half", 2, 384, act="fp16")
    yield case("bf16", 2, 384, act="bf16")


def draw(d, act):
    types = {name: d.types(act) for name in ("out_ptr", "gate_ptr", "up_ptr")}
    std = d.case.of(d.scale(*types.values()), 10.0, 30.0)
    n_cols = d.width(1, 9000)
    n_rows = d.rows(max(1, min(12, 9000 // n_cols)))
    case = make_case(
        d.name, n_rows, n_cols, d.gap(n_cols, n_rows), std, act=act,
        up_pad=d.gap(n_cols, n_rows), up_std=d.scale(*types.values()), **types,
    )  # fmt: skip
    d.season(case.args["gate_ptr"][:, :n_cols], std)
    return case


SPEC = Spec(
    fn=silu_mul,
    op="silu_mul",
    params=(
        out("out_ptr", FLOATS, "n_rows", "n_cols"),
        inp("gate_ptr", FLOATS, "n_rows", "gate_stride"),
        inp("up_ptr", FLOATS, "n_rows", "up_stride"),
        step_size("n_rows", of="out[0]"),
        size("n_cols", of="out[1]"),
        stride("gate_stride"),
        stride("up_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "cdiv(n_cols, BLOCK)", "1"),
    bytes="n_rows * n_cols * (sizeof(out_ptr) + sizeof(gate_ptr) + sizeof(up_ptr))",
    flops="5 * n_rows * n_cols",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": "min(next_pow2(n_cols), 4096)", "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
    },
    space={
        "cpu": {"BLOCK": (256, 1024, 4096, "next_pow2(n_cols)"), "where": "BLOCK < 2 * n_cols"},
    },
)
