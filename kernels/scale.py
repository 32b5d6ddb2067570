"""Multiplication by a number: embedding, attention and logits multipliers.

    out[i] = x[i] * alpha,  i < n

Contiguous; out may be x. Grid: n / BLOCK. Arithmetic: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.spec import FLOATS, Case, Spec, filled, inp, normal, out, rng, scalar, step_size, tuned


@triton.jit
def scale(out_ptr, x_ptr, n_elements, alpha, BLOCK: tl.constexpr):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n_elements
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + offs, (x * alpha).to(out_ptr.dtype.element_ty), mask=mask)


def reference(a):
    n = a["n_elements"]
    out_ptr = a["out_ptr"].copy()
    out_ptr[:n] = a["x_ptr"][:n] * np.float32(a["alpha"])
    return {"out_ptr": out_ptr}


def make_case(name, n, alpha, *, x, out, std=1.0):
    g = rng(name)
    args = {"out_ptr": filled(n + 5), "x_ptr": normal(g, n + 5, std=std), "n_elements": n}
    units = {"out_ptr": std * abs(alpha)}
    return Case(name, {**args, "alpha": alpha}, {"out_ptr": out, "x_ptr": x}, units=units)


def cases(act):
    case = partial(make_case, x=act, out=act)
    yield case("logits", 8192, 0.125)
    yield case("one", 1, -3.0)
    yield case("many", 70001, 12.0)
    yield case("widen", 515, 1.0, x="bf16", out="fp32")
    yield case("narrow", 515, 1.5, x="fp32", out="fp16")


def draw(d, act):
    x, out = d.types(act), d.types(act)
    std = d.scale(x, out)
    alpha = d.case.of(1.0, 0.125, -12.0, 0.0)
    case = make_case(d.name, d.rows(9000, tile=1024), alpha, x=x, out=out, std=std)
    d.season(case.args["x_ptr"], std)
    return case


SPEC = Spec(
    fn=scale,
    op="scale",
    params=(
        out("out_ptr", FLOATS, "n_elements"),
        inp("x_ptr", FLOATS, "n_elements"),
        step_size("n_elements", "i64", of="out.elements"),
        scalar("alpha"),
        tuned("BLOCK"),
    ),
    grid=("cdiv(n_elements, BLOCK)", "1", "1"),
    bytes="n_elements * (sizeof(out_ptr) + sizeof(x_ptr))",
    flops="n_elements",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 4096, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
    },
)
