"""Rotary position embedding, half-rotation layout.

    a = positions[t] * inv_freq,  x1, x2 = x[t, h, :Dh/2], x[t, h, Dh/2:]
    out[t, h] = [x1 cos(a) - x2 sin(a), x2 cos(a) + x1 sin(a)]

out, x [T, H, Dh] with token strides; positions [T]; inv_freq [Dh/2] fp32: every scaling (linear,
llama3) is in that table. out may be x. Grid: (T, H / HEADS). Arithmetic: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.rope import inverse_frequencies
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
    tuned,
)


@triton.jit
def rope(
    out_ptr,
    x_ptr,
    positions_ptr,
    inv_freq_ptr,
    n_tokens,
    n_heads,
    head_dim,
    out_stride,
    x_stride,
    HEADS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    half = head_dim // 2
    offs = tl.arange(0, BLOCK_HALF)
    mask = offs < half
    position = tl.load(positions_ptr + token).to(tl.float32)
    angle = position * tl.load(inv_freq_ptr + offs, mask=mask, other=0.0)
    cos = tl.cos(angle)
    sin = tl.sin(angle)
    first = tl.program_id(1) * HEADS
    for head in range(first, tl.minimum(first + HEADS, n_heads)):
        low = x_ptr + token * x_stride + head * head_dim + offs
        x1 = tl.load(low, mask=mask, other=0.0).to(tl.float32)
        x2 = tl.load(low + half, mask=mask, other=0.0).to(tl.float32)
        y1 = (x1 * cos - x2 * sin).to(out_ptr.dtype.element_ty)
        y2 = (x2 * cos + x1 * sin).to(out_ptr.dtype.element_ty)
        target = out_ptr + token * out_stride + head * head_dim + offs
        tl.store(target, y1, mask=mask)
        tl.store(target + half, y2, mask=mask)


def reference(a):
    n_tokens, n_heads, head_dim = a["n_tokens"], a["n_heads"], a["head_dim"]
    half, width = head_dim // 2, n_heads * head_dim
    out_ptr = a["out_ptr"].copy()
    for t in range(n_tokens):
        # The angle is rounded to fp32 as the models' own code does.
        angle = np.float32(a["positions_ptr"][t]) * a["inv_freq_ptr"]
        cos, sin = np.cos(angle.astype(np.float64)), np.sin(angle.astype(np.float64))
        x = a["x_ptr"][t, :width].reshape(n_heads, head_dim).astype(np.float64)
        x1, x2 = x[:, :half], x[:, half:]
        y = np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=1)
        out_ptr[t, :width] = y.reshape(width)
    return {"out_ptr": out_ptr}


def make_case(
    name, positions, n_heads, head_dim, pad=0, theta=10000.0, *, act, out=None, out_pad=None,
    std=1.0,
):  # fmt: skip
    g = rng(name)
    n_tokens, width = len(positions), n_heads * head_dim
    out_pad = pad if out_pad is None else out_pad
    return Case(
        name,
        {
            "out_ptr": filled(n_tokens + 1, width + out_pad),
            "x_ptr": padded(g, n_tokens, width, pad, std=std),
            "positions_ptr": np.array([*positions, 0], np.int32),
            "inv_freq_ptr": inverse_frequencies(head_dim, theta),
            "n_tokens": n_tokens,
            "n_heads": n_heads,
            "head_dim": head_dim,
            "out_stride": width + out_pad,
            "x_stride": width + pad,
        },
        {"out_ptr": out or act, "x_ptr": act, "positions_ptr": "i32", "inv_freq_ptr": "fp32"},
        units={"out_ptr": std},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo_q", [0, 1, 2, 511, 2047], 6, 64)
    yield case("demo_k_packed", [5, 9], 2, 64, pad=384)
    yield case("llama3_8b", [8191], 32, 128, theta=500000.0)
    yield case("heads_80", [3, 100, 1000], 3, 80, pad=7)
    yield case("heads_96", [17], 4, 96, theta=1e6)
    yield case("far", [30000, 131071], 2, 64, theta=1e6)
    yield case("half", [1, 40], 6, 64, act="fp16")
    yield case("bf16", [1, 40], 6, 64, act="bf16")


def draw(d, act):
    x, out = d.types(act), d.types(act)
    std = d.scale(x, out)
    head_dim = d.width(2, 256, step=2)
    # The number of heads is in the code, as the width of a program.
    n_heads = d.variant.of(1, 2, 3, 7, 16)
    width = n_heads * head_dim
    last = d.case.of(1, 4096, 131071, 1 << 20)
    n_tokens = d.rows(max(1, min(12, 8000 // width)))
    positions = [d.case.between(0, last) for _ in range(n_tokens)]
    theta = d.case.of(100.0, 10000.0, 5e5, 1e6)
    case = make_case(
        d.name, positions, n_heads, head_dim, d.gap(width, n_tokens), theta, act=x, out=out,
        out_pad=d.gap(width, n_tokens), std=std,
    )  # fmt: skip
    d.season(case.args["x_ptr"][:, :width], std)
    return case


SPEC = Spec(
    fn=rope,
    op="rope",
    params=(
        out("out_ptr", FLOATS, "n_tokens", "out_stride"),
        inp("x_ptr", FLOATS, "n_tokens", "x_stride"),
        inp("positions_ptr", "i32", "n_tokens"),
        inp("inv_freq_ptr", "fp32", "head_dim // 2"),
        step_size("n_tokens", of="x[0]"),
        size("n_heads", of="x[1]"),
        size("head_dim", of="x[2]"),
        stride("out_stride"),
        stride("x_stride"),
        tuned("HEADS"),
        derived("BLOCK_HALF", "next_pow2(head_dim // 2)"),
    ),
    grid=("n_tokens", "cdiv(n_heads, HEADS)", "1"),
    bytes="n_tokens * n_heads * head_dim * (sizeof(out_ptr) + sizeof(x_ptr))",
    flops="3 * n_tokens * n_heads * head_dim",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HEADS",),
    default={
        "cpu": {"HEADS": "n_heads", "num_warps": 1, "num_stages": 1},
        "cuda": {"HEADS": 1, "num_warps": 1, "num_stages": 1},
        "hip": {"HEADS": 1, "num_warps": 1, "num_stages": 1},
    },
)
