"""Columns in another order: what weights quantised by act order are multiplied by.

    out[n, k] = x[n, order[k]]

out [N, K]; x [N, K] with row stride; order [K], each a column. Grid: (N, K / BLOCK).
"""

from functools import partial

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
    out,
    padded,
    rng,
    size,
    step_size,
    stride,
)


@triton.jit
def take_columns(out_ptr, x_ptr, order_ptr, n_rows, n_cols, x_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n_cols
    column = tl.load(order_ptr + offs, mask=mask, other=0)
    x = tl.load(x_ptr + row * x_stride + column, mask=mask, other=0.0)
    tl.store(out_ptr + row * n_cols + offs, x.to(out_ptr.dtype.element_ty), mask=mask)


def reference(a):
    out_ptr, n_rows = a["out_ptr"].copy(), a["n_rows"]
    out_ptr[:n_rows] = a["x_ptr"][:n_rows, a["order_ptr"]]
    return {"out_ptr": out_ptr}


def make_case(name, n_rows, n_cols, gap=0, *, act, std=1.0):
    g = rng(name)
    args = {
        "out_ptr": filled(n_rows + 1, n_cols),
        "x_ptr": padded(g, n_rows, n_cols, gap, std=std),
        "order_ptr": g.permutation(n_cols).astype(np.int32),
        "n_rows": n_rows,
        "n_cols": n_cols,
        "x_stride": n_cols + gap,
    }
    return Case(name, args, {"out_ptr": act, "x_ptr": act, "order_ptr": "i32"})


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 5, 384)
    yield case("llama3_8b", 2, 4096)
    yield case("wide", 2, 14336, act="bf16")
    yield case("odd_strided", 3, 77, 5, act="fp16")
    yield case("no_rows", 0, 128)


def draw(d, act):
    n_cols = d.width(1, 9000)
    n_rows = d.rows(min(40, max(2, 12000 // n_cols)))
    x = d.types(act)
    std = d.scale(x)
    case = make_case(d.name, n_rows, n_cols, d.gap(n_cols, n_rows), act=x, std=std)
    d.season(case.args["x_ptr"][:, :n_cols], std)
    return case


SPEC = Spec(
    fn=take_columns,
    op="take_columns",
    params=(
        out("out_ptr", FLOATS, "n_rows", "n_cols"),
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        inp("order_ptr", "i32", "n_cols"),
        step_size("n_rows", of="out[0]"),
        size("n_cols", of="out[1]"),
        stride("x_stride"),
        derived("BLOCK", "min(next_pow2(n_cols), 1024)"),
    ),
    grid=("n_rows", "cdiv(n_cols, BLOCK)", "1"),
    bytes="n_rows * n_cols * (sizeof(out_ptr) + sizeof(x_ptr)) + 4 * n_cols",
    flops="0",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": "1 if BLOCK <= 256 else 4", "num_stages": 1},
        "hip": {"num_warps": "1 if BLOCK <= 512 else 4", "num_stages": 1},
    },
)
