"""Rows of activations as integers of 16 bits, for products with weights of 8 and 4 bits.

    x[m, k] ~ v[m, k] * scale[m, k // group];  v = 256 * high[m, k] + low[m, k]

high, low i8 [M, K], -128 to 127; x [M, K] with a row stride; scale [M, G], K a multiple of G,
group = K / G. Of a group m is the largest |x|, scale is m / 32639 and v is x * (32639 / m) to
nearest even. Where m is at most 1e-33, or not finite, v is 0: the scale alone says which. A row
depends on no other.
Grid: one program a row. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.quantized import nearest
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

LARGEST = tl.constexpr(32639.0)  # 127 * 256 + 127
SMALLEST = tl.constexpr(1e-33)  # LARGEST / m is a number from there on


@triton.jit
def quantize_rows(
    high_ptr,
    low_ptr,
    scale_ptr,
    x_ptr,
    n_rows,
    n_in,
    n_groups,
    x_stride,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    mask = lane < GROUP
    for g in range(0, n_groups):
        at = g * GROUP + lane
        x = tl.load(x_ptr + row * x_stride + at, mask=mask, other=0.0).to(tl.float32)
        # As integers, of which that of a NaN is the largest.
        bits = tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=0)
        most = bits.to(tl.float32, bitcast=True)
        has_numbers = (most > SMALLEST) & (most < float("inf"))
        # Held to what it is anyway: so x * (LARGEST / m) is rounded before it is made whole.
        v = tl.minimum(tl.maximum(x * tl.div_rn(LARGEST, most), -LARGEST), LARGEST)
        v = tl.where(has_numbers, nearest(v), 0.0).to(tl.int32)
        tl.store(high_ptr + row * n_in + at, ((v + 128) >> 8).to(tl.int8), mask=mask)
        tl.store(low_ptr + row * n_in + at, v.to(tl.int8), mask=mask)
        tl.store(scale_ptr + row * n_groups + g, tl.div_rn(most, LARGEST))


def quantized(x, n_groups):
    """fp32 [M, K] -> high, low i8 [M, K], scale [M, G]."""
    largest = np.float32(LARGEST.value)
    groups = x.reshape(x.shape[0], n_groups, x.shape[1] // n_groups)
    most = np.abs(groups).max(axis=2)
    has_numbers = (most > np.float32(SMALLEST.value)) & (most < np.inf)
    inverse = largest / np.where(has_numbers, most, np.float32(1.0))
    v = np.clip(groups * inverse[..., None], -largest, largest)
    v = np.where(has_numbers[..., None], np.rint(v), 0.0).reshape(x.shape).astype(np.int64)
    high = (v + 128) // 256
    return high.astype(np.int8), (v - 256 * high).astype(np.int8), most / largest


def reference(a):
    n_rows, n_in = a["n_rows"], a["n_in"]
    parts = quantized(a["x_ptr"][:n_rows, :n_in], a["n_groups"])
    results = {}
    for name, part in zip(("high_ptr", "low_ptr", "scale_ptr"), parts, strict=True):
        results[name] = a[name].copy()
        results[name][:n_rows] = part
    return results


def make_case(name, n_rows, n_in, n_groups, gap=0, *, x="fp32", std=1.0, change=None):
    g = rng(name)
    rows = padded(g, n_rows, n_in, gap, std=std)
    if change is not None:
        change(rows[:, :n_in])
    args = {
        "high_ptr": np.full((n_rows + 1, n_in), 7, np.int8),
        "low_ptr": np.full((n_rows + 1, n_in), 7, np.int8),
        "scale_ptr": filled(n_rows + 1, n_groups),
        "x_ptr": rows,
        "n_rows": n_rows,
        "n_in": n_in,
        "n_groups": n_groups,
        "x_stride": n_in + gap,
    }
    dtypes = {"high_ptr": "i8", "low_ptr": "i8", "scale_ptr": "fp32", "x_ptr": x}
    # Every step is of exact arithmetic: scales agree to the last bit, too.
    return Case(name, args, dtypes, tolerance={"scale_ptr": 0.0})


def zeros(x):
    x[0] = 0.0
    x[1, : x.shape[1] // 2] = 1e-38


def not_finite(x):
    x[0, 5] = np.nan
    x[1, 140] = -np.inf


def cases(act):
    yield make_case("demo", 5, 384, 3, x=act)
    yield make_case("llama3_8b", 2, 4096, 32, x=act)
    yield make_case("small_groups", 3, 320, 10, 7, x=act)
    yield make_case("half", 3, 192, 3, 5, x="fp16")
    yield make_case("bf16", 3, 256, 2, 16, x="bf16")
    yield make_case("zeros", 3, 256, 2, x="fp32", change=zeros)
    yield make_case("not_finite", 3, 256, 2, x="fp32", change=not_finite)
    yield make_case("no_rows", 0, 128, 1, x=act)


def draw(d, act):
    n_groups = d.variant.between(1, 24)
    n_in = d.variant.of(32, 64, 128) * n_groups
    n_rows = d.rows(max(2, 16384 // n_in))
    x = d.types(act)
    std = d.scale(x)
    return make_case(
        d.name, n_rows, n_in, n_groups, d.gap(n_in, n_rows), x=x, std=std,
        change=lambda rows: d.season(rows, std),
    )  # fmt: skip


SPEC = Spec(
    fn=quantize_rows,
    op="quantise_rows",
    params=(
        out("high_ptr", "i8", "n_rows", "n_in", of="high"),
        out("low_ptr", "i8", "n_rows", "n_in", of="low"),
        out("scale_ptr", "fp32", "n_rows", "n_groups", of="scale"),
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        step_size("n_rows", of="high[0]"),
        size("n_in", of="x[1]"),
        size("n_groups", of="@groups"),
        stride("x_stride"),
        derived("GROUP", "n_in // n_groups"),
        derived("BLOCK", "next_pow2(GROUP)"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * (n_in * (2 + sizeof(x_ptr)) + 4 * n_groups)",
    flops="4 * n_rows * n_in",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 1, "num_stages": 1},
        "hip": {"num_warps": 1, "num_stages": 1},
    },
)
