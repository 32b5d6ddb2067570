"""Scaled addition: residuals, and biases that nothing else took in.

    out[i] = x[i] + alpha * y[i],  i < n

Contiguous; out may be x. Grid: n / BLOCK. Arithmetic: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.spec import FLOATS, Case, Spec, filled, inp, normal, out, rng, scalar, step_size, tuned


@triton.jit
def add(out_ptr, x_ptr, y_ptr, n_elements, alpha, BLOCK: tl.constexpr):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n_elements
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + offs, (x + alpha * y).to(out_ptr.dtype.element_ty), mask=mask)


def reference(a):
    n = a["n_elements"]
    out_ptr = a["out_ptr"].copy()
    out_ptr[:n] = a["x_ptr"][:n] + np.float32(a["alpha"]) * a["y_ptr"][:n]
    return {"out_ptr": out_ptr}


def make_case(name, n, alpha=1.0, *, x, y, out=None, std=1.0):
    g = rng(name)
    return Case(
        name,
        {
            "out_ptr": filled(n + 5),
            "x_ptr": normal(g, n + 5, std=std),
            "y_ptr": normal(g, n + 5, std=std),
            "n_elements": n,
            "alpha": alpha,
        },
        {"out_ptr": out or x, "x_ptr": x, "y_ptr": y},
        units={"out_ptr": std * (1.0 + abs(alpha))},
    )


def cases(act):
    case = partial(make_case, x=act, y=act)
    yield case("demo", 5 * 384)
    yield case("granite_multiplier", 1000, alpha=0.22)
    yield case("one", 1)
    yield case("many", 70001)
    yield case("mixed", 515, x="fp16", y="fp32")
    yield case("bf16", 4096, x="bf16", y="bf16")


def draw(d, act):
    x, y, out = d.types(act), d.types(act), d.types(act)
    std = d.scale(x, y, out)
    alpha = d.case.of(1.0, 0.22, -3.0, 0.0)
    case = make_case(d.name, d.rows(9000, tile=1024), alpha, x=x, y=y, out=out, std=std)
    d.season(case.args["x_ptr"], std)
    return case


SPEC = Spec(
    fn=add,
    op="add",
    params=(
        out("out_ptr", FLOATS, "n_elements"),
        inp("x_ptr", FLOATS, "n_elements"),
        inp("y_ptr", FLOATS, "n_elements"),
        step_size("n_elements", "i64", of="out.elements"),
        scalar("alpha"),
        tuned("BLOCK"),
    ),
    grid=("cdiv(n_elements, BLOCK)", "1", "1"),
    bytes="n_elements * (sizeof(out_ptr) + sizeof(x_ptr) + sizeof(y_ptr))",
    flops="2 * n_elements",
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
