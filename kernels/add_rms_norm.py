"""Residual add and RMSNorm in one pass.

    sum[r, :] = x[r, :] + alpha * y[r, :]
    out[r, :] = sum[r, :] / sqrt(mean(sum[r, :]^2) + eps) * weight

sum, out, x, y [R, C], contiguous; weight [C]. The norm reads the sum as it is stored, rounded to
its element type: the result is that of the two operations. sum may be x, in place.
Grid: one program a row. Accumulation: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.numbers import rounded
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
    scalar,
    size,
    step_size,
)


@triton.jit
def add_rms_norm(
    sum_ptr,
    out_ptr,
    x_ptr,
    y_ptr,
    weight_ptr,
    n_rows,
    n_cols,
    alpha,
    eps,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * n_cols
    offs = tl.arange(0, BLOCK)
    mask = offs < n_cols
    x = tl.load(x_ptr + row + offs, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + row + offs, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    total = (x + alpha * y).to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + row + offs, total, mask=mask)
    total = total.to(tl.float32)
    factor = tl.rsqrt(tl.sum(total * total, axis=0) / n_cols + eps)
    normed = (total * factor * weight).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row + offs, normed, mask=mask)


def reference(a):
    n_rows = a["n_rows"]
    sum_ptr, out_ptr = a["sum_ptr"].copy(), a["out_ptr"].copy()
    total = a["x_ptr"][:n_rows] + np.float32(a["alpha"]) * a["y_ptr"][:n_rows]
    total = rounded(total, a["dtypes"]["sum_ptr"])
    sum_ptr[:n_rows] = total
    total = total.astype(np.float64)
    factor = 1.0 / np.sqrt(np.mean(total * total, axis=1, keepdims=True) + a["eps"])
    out_ptr[:n_rows] = total * factor * a["weight_ptr"]
    return {"sum_ptr": sum_ptr, "out_ptr": out_ptr}


def make_case(
    name, n_rows, n_cols, alpha=1.0, *, act, weight="fp16", n_spare=0, std=1.0, eps=1e-5, **types
):
    g = rng(name)
    shape = (n_rows + n_spare, n_cols)
    spread = std * (2.0 + abs(alpha))
    return Case(
        name,
        {
            "sum_ptr": filled(*shape),
            "out_ptr": filled(*shape),
            "x_ptr": normal(g, *shape, std=2.0 * std),
            "y_ptr": normal(g, *shape, std=std),
            "weight_ptr": 1.0 + normal(g, n_cols, std=0.1),
            "n_rows": n_rows,
            "n_cols": n_cols,
            "alpha": alpha,
            "eps": eps,
        },
        {name: act for name in ("sum_ptr", "out_ptr", "x_ptr", "y_ptr")}
        | {"weight_ptr": weight}
        | types,
        units={"sum_ptr": spread, "out_ptr": spread / (spread**2 + eps) ** 0.5},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 5, 384, n_spare=1)
    yield case("granite_multiplier", 3, 128, alpha=0.22, weight="bf16")
    yield case("llama3_8b", 2, 4096)
    yield case("wide", 1, 14336)
    yield case("odd", 3, 77, weight="fp32")
    yield case("half", 3, 384, act="fp16")
    yield case("bf16", 3, 384, act="bf16", weight="bf16")


def draw(d, act):
    names = ("sum_ptr", "out_ptr", "x_ptr", "y_ptr", "weight_ptr")
    types = {name: d.types(act) for name in names}
    std = d.scale(*types.values())
    n_cols = d.width(1, 4100)
    case = make_case(
        d.name, d.rows(max(1, 8000 // n_cols) if n_cols > 800 else 10), n_cols,
        d.case.of(1.0, 0.22, -1.5), act=act, std=std, eps=d.case.of(1e-5, 1e-12), n_spare=1,
        **types,
    )  # fmt: skip
    d.season(case.args["x_ptr"], std)
    return case


SPEC = Spec(
    fn=add_rms_norm,
    params=(
        out("sum_ptr", FLOATS, "n_rows", "n_cols"),
        out("out_ptr", FLOATS, "n_rows", "n_cols"),
        inp("x_ptr", FLOATS, "n_rows", "n_cols"),
        inp("y_ptr", FLOATS, "n_rows", "n_cols"),
        inp("weight_ptr", FLOATS, "n_cols"),
        step_size("n_rows"),
        size("n_cols"),
        scalar("alpha"),
        scalar("eps"),
        derived("BLOCK", "next_pow2(n_cols)"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * n_cols * (sizeof(sum_ptr) + sizeof(out_ptr) + sizeof(x_ptr) + sizeof(y_ptr))"
    " + n_cols * sizeof(weight_ptr)",
    flops="6 * n_rows * n_cols",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": "1 if BLOCK <= 256 else 4 if BLOCK <= 4096 else 8", "num_stages": 1},
        "hip": {"num_warps": "1 if BLOCK <= 512 else 4", "num_stages": 1},
    },
)
