"""Normally distributed numbers, for models without weights.

    out[i] = std * normal(seed, i),  i < n

Element i is output j of the Philox counter (i // 4096 * 1024 + i % 1024) with j = i // 1024 % 4, by
Box-Muller: the same numbers on every target. Grid: n / 4096. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.philox import normal_pair, philox, philox_reference, uniform_reference
from kernels.spec import FLOATS, Case, Spec, derived, filled, out, scalar, step_size


@triton.jit
def random_fill(out_ptr, n_elements, seed, std, BLOCK: tl.constexpr):
    pid = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    counter = pid * BLOCK + lane
    b0, b1, b2, b3 = philox(seed, counter, counter >> 32)
    x0, x1 = normal_pair(b0, b1)
    x2, x3 = normal_pair(b2, b3)
    offs = pid * (4 * BLOCK) + lane
    dtype = out_ptr.dtype.element_ty
    tl.store(out_ptr + offs, (x0 * std).to(dtype), mask=offs < n_elements)
    offs += BLOCK
    tl.store(out_ptr + offs, (x1 * std).to(dtype), mask=offs < n_elements)
    offs += BLOCK
    tl.store(out_ptr + offs, (x2 * std).to(dtype), mask=offs < n_elements)
    offs += BLOCK
    tl.store(out_ptr + offs, (x3 * std).to(dtype), mask=offs < n_elements)


def reference(a):
    n = a["n_elements"]
    index = np.arange(n, dtype=np.int64)
    counter = index // 4096 * 1024 + index % 1024
    b0, b1, b2, b3 = philox_reference(a["seed"], counter, counter >> 32)
    normals = []
    for first, second in ((b0, b1), (b2, b3)):
        radius = np.sqrt(-2.0 * np.log(uniform_reference(first)))
        angle = 2.0 * np.pi * uniform_reference(second)
        normals += [radius * np.cos(angle), radius * np.sin(angle)]
    out_ptr = a["out_ptr"].copy()
    out_ptr[:n] = np.choose(index // 1024 % 4, normals) * a["std"]
    return {"out_ptr": out_ptr}


def case(name, n, seed, std=1.0, out="fp16"):
    args = {"out_ptr": filled(n + 3), "n_elements": n, "seed": seed, "std": std}
    return Case(name, args, {"out_ptr": out}, units={"out_ptr": std})


def cases(act):
    yield case("half", 5000, 1)
    yield case("bf16", 4096, 0x123456789ABCDEF, std=0.02, out="bf16")
    yield case("float", 10000, -7, std=0.02, out="fp32")
    yield case("one", 1, 0)


def draw(d, act):
    out = d.types(act)
    seed = d.case.of(0, -1, 2**63 - 1, -(2**63), d.case.between(-(2**62), 2**62))
    return case(d.name, d.rows(13000, tile=1024), seed, d.scale(out), out)


SPEC = Spec(
    fn=random_fill,
    params=(
        out("out_ptr", FLOATS, "n_elements"),
        step_size("n_elements", "i64"),
        scalar("seed", "i64"),
        scalar("std"),
        # Which number an element gets depends on it: not a matter of tuning.
        derived("BLOCK", "1024"),
    ),
    grid=("cdiv(n_elements, 4 * BLOCK)", "1", "1"),
    bytes="n_elements * sizeof(out_ptr)",
    flops="40 * n_elements",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 4, "num_stages": 1},
    },
)
