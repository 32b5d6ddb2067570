"""RMSNorm over rows.

    out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight

out, x [R, C]; weight [C]. Row r of x lies at r // group * x_stride + r % group * C, out alike: the
heads of a packed [T, width] buffer are rows too (q and k norm: R = T * H, C = Dh, group = H).
Ordinary rows have group 1.
Grid: one program a row. Accumulation: fp32. In place (out is x) is allowed.
PDL: 0, or 1: programmatic dependent launch, which starts this kernel as the one before ends.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_wait

from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    inp,
    normal,
    out,
    padded,
    rng,
    scalar,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def rms_norm(
    out_ptr,
    x_ptr,
    weight_ptr,
    n_rows,
    n_cols,
    group,
    out_stride,
    x_stride,
    eps,
    PDL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    outer = (row // group).to(tl.int64)
    inner = row % group * n_cols
    offs = tl.arange(0, BLOCK)
    mask = offs < n_cols
    weight = tl.load(weight_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    if PDL > 0:
        gdc_wait()
    x = tl.load(x_ptr + outer * x_stride + inner + offs, mask=mask, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(x * x, axis=0) / n_cols + eps)
    y = x * factor * weight
    y = y.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + outer * out_stride + inner + offs, y, mask=mask)


def reference(a):
    n_rows, n_cols, group = a["n_rows"], a["n_cols"], a["group"]
    out_ptr = a["out_ptr"].copy()
    for row in range(n_rows):
        cols = slice(row % group * n_cols, row % group * n_cols + n_cols)
        x = a["x_ptr"][row // group, cols].astype(np.float64)
        factor = 1.0 / np.sqrt(np.mean(x * x) + a["eps"])
        out_ptr[row // group, cols] = x * factor * a["weight_ptr"]
    return {"out_ptr": out_ptr}


def make_case(
    name, n_outer, n_cols, group=1, pad=0, *, act, weight="fp16", out=None, out_pad=None, std=2.0,
    eps=1e-5,
):  # fmt: skip
    g = rng(name)
    width = n_cols * group
    out_pad = pad if out_pad is None else out_pad
    return Case(
        name,
        {
            "out_ptr": filled(n_outer + 1, width + out_pad),
            "x_ptr": padded(g, n_outer, width, pad, std=std),
            "weight_ptr": 1.0 + normal(g, n_cols, std=0.1),
            "n_rows": n_outer * group,
            "n_cols": n_cols,
            "group": group,
            "out_stride": width + out_pad,
            "x_stride": width + pad,
            "eps": eps,
        },
        {"out_ptr": out or act, "x_ptr": act, "weight_ptr": weight},
        units={"out_ptr": std / (std**2 + eps) ** 0.5},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 5, 384)
    yield case("fixture_bf16_weight", 3, 128, weight="bf16")
    yield case("llama3_8b", 2, 4096)
    yield case("wide", 1, 14336, weight="fp32")
    yield case("odd", 3, 77, pad=3)
    yield case("one_column", 2, 1)
    yield case("heads_80", 4, 80, group=5, pad=16)
    yield case("heads_96_strided", 3, 96, group=8, pad=32, weight="fp32")
    yield case("half_in_half_out", 3, 384, act="fp16")
    yield case("bf16_in_bf16_out", 3, 384, act="bf16", weight="bf16")


def draw(d, act):
    x, out, weight = d.types(act), d.types(act), d.types(act)
    std = d.scale(x, out)
    group = d.variant.of(1, 1, 2, 5, 16)
    n_cols = d.width(1, 4100 if group == 1 else 256)
    width = n_cols * group
    n_outer = d.rows(max(1, min(12, 9000 // width)))
    case = make_case(
        d.name, n_outer, n_cols, group, d.gap(width, n_outer), act=x, weight=weight, out=out,
        out_pad=d.gap(width, n_outer), std=std, eps=d.case.of(1e-5, 1e-6, 1e-12),
    )  # fmt: skip
    d.season(case.args["x_ptr"][:, :width], std)
    return case


SPEC = Spec(
    fn=rms_norm,
    op="rms_norm",
    params=(
        out("out_ptr", FLOATS, "cdiv(n_rows, group)", "out_stride"),
        inp("x_ptr", FLOATS, "cdiv(n_rows, group)", "x_stride"),
        inp("weight_ptr", FLOATS, "n_cols"),
        step_size("n_rows", of="x.rows"),
        size("n_cols", of="x[-1]"),
        size("group", of="x.group"),
        stride("out_stride"),
        stride("x_stride"),
        scalar("eps"),
        tuned("PDL"),
        derived("BLOCK", "next_pow2(n_cols)"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * n_cols * (sizeof(out_ptr) + sizeof(x_ptr)) + n_cols * sizeof(weight_ptr)",
    flops="4 * n_rows * n_cols",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("PDL",),
    default={
        "cpu": {"PDL": 0, "num_warps": 1, "num_stages": 1},
        "cuda": {
            "PDL": 0,
            "num_warps": "1 if BLOCK <= 256 else 4 if BLOCK <= 4096 else 8",
            "num_stages": 1,
        },
        "hip": {"PDL": 0, "num_warps": "1 if BLOCK <= 512 else 4", "num_stages": 1},
    },
)
