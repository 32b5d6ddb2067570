"""Rows of activations as 8-bit floats (e4m3), for products with weights of that type.

    v[m, k] = x[m, k], or x[m, k] / sqrt(mean_k(x[m, k]^2) + eps) * norm[k]      (HAS_NORM)
    v[m, k] ~ q[m, k] * scale[m];  scale[m] = max_k |v[m, k]| / 448

q fp8e4nv [M, K]; x [M, K] with a row stride; norm [K]; scale [M, 1]. q is v * (448 / max) to
nearest even, at most 448. Where that max is at most 1e-33, or not finite, q is 0: the scale alone
says which. A row depends on no other.
Grid: one program a row, over which it goes two times, three with a norm. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    filled,
    given,
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

LARGEST = tl.constexpr(448.0)  # of e4m3
SMALLEST = tl.constexpr(1e-33)  # LARGEST / m is a number from there on


@triton.jit
def numbers(x_row, norm_ptr, at, n_in, inverse, HAS_NORM: tl.constexpr):
    """v at columns `at`; 0 beyond the row."""
    x = tl.load(x_row + at, mask=at < n_in, other=0.0).to(tl.float32)
    if HAS_NORM:
        x = x * inverse * tl.load(norm_ptr + at, mask=at < n_in, other=0.0).to(tl.float32)
    return x


@triton.jit
def quantize_rows_fp8(
    q_ptr,
    scale_ptr,
    x_ptr,
    norm_ptr,
    n_rows,
    n_in,
    x_stride,
    eps,
    HAS_NORM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_stride
    lane = tl.arange(0, BLOCK)
    inverse = 1.0
    if HAS_NORM:
        squares = tl.zeros((BLOCK,), tl.float32)
        for k in range(0, n_in, BLOCK):
            x = numbers(x_row, norm_ptr, k + lane, n_in, inverse, False)
            squares += x * x
        inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(squares, axis=0) / n_in + eps))
    # As integers, of which that of a NaN is the largest.
    bits = tl.zeros((BLOCK,), tl.int32)
    for k in range(0, n_in, BLOCK):
        v = numbers(x_row, norm_ptr, k + lane, n_in, inverse, HAS_NORM)
        bits = tl.maximum(bits, v.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
    most = tl.max(bits, axis=0).to(tl.float32, bitcast=True)
    has_numbers = (most > SMALLEST) & (most < float("inf"))
    tl.store(scale_ptr + row, tl.div_rn(most, LARGEST))
    factor = tl.div_rn(LARGEST, most)
    for k in range(0, n_in, BLOCK):
        at = k + lane
        v = numbers(x_row, norm_ptr, at, n_in, inverse, HAS_NORM)
        v = tl.minimum(tl.maximum(v * factor, -LARGEST), LARGEST)
        v = tl.where(has_numbers, v, 0.0).to(q_ptr.dtype.element_ty)
        tl.store(q_ptr + row * n_in + at, v, mask=at < n_in)


def quantized(x):
    """fp32 [M, K] -> what q stands for before e4m3 rounds it, and scale [M, 1], both fp32."""
    largest = np.float32(LARGEST.value)
    most = np.abs(x).max(axis=1, keepdims=True)
    has_numbers = (most > np.float32(SMALLEST.value)) & (most < np.inf)
    factor = largest / np.where(has_numbers, most, np.float32(1.0))
    v = np.clip(x * factor, -largest, largest)
    return np.where(has_numbers, v, np.float32(0.0)), most / largest


def reference(a):
    n_rows, n_in = a["n_rows"], a["n_in"]
    x = a["x_ptr"][:n_rows, :n_in]
    if a["HAS_NORM"]:
        square = (x.astype(np.float64) ** 2).mean(axis=1, keepdims=True)
        x = (x / np.sqrt(square + a["eps"]) * a["norm_ptr"]).astype(np.float32)
    results = {}
    for name, part in zip(("q_ptr", "scale_ptr"), quantized(x), strict=True):
        results[name] = a[name].copy()
        results[name][:n_rows] = part
    return results


def make_case(name, n_rows, n_in, gap=0, *, x="fp32", norm=False, std=1.0, change=None):
    g = rng(name)
    rows = padded(g, n_rows, n_in, gap, std=std)
    if change is not None:
        change(rows[:, :n_in])
    args = {
        "q_ptr": filled(n_rows + 1, n_in),
        "scale_ptr": filled(n_rows + 1, 1),
        "x_ptr": rows,
        "norm_ptr": 1.0 + normal(g, n_in, std=0.2) if norm else None,
        "n_rows": n_rows,
        "n_in": n_in,
        "x_stride": n_in + gap,
        "eps": 1e-5,
    }
    dtypes = {"q_ptr": "fp8e4nv", "scale_ptr": "fp32", "x_ptr": x, "norm_ptr": "fp32"}
    # Without a norm every step is of exact arithmetic: all agrees to the last bit. With one a
    # number between two of e4m3 may go either way, which are an eighth apart at most.
    tolerance = {"q_ptr": 0.13} if norm else {"q_ptr": 0.0, "scale_ptr": 0.0}
    return Case(name, args, dtypes, {"HAS_NORM": int(norm)}, tolerance=tolerance)


def zeros(x):
    x[0] = 0.0
    x[1, : x.shape[1] // 2] = 1e-38
    x[1, x.shape[1] // 2 :] = 0.0


def not_finite(x):
    x[0, 5] = np.nan
    x[1, 140] = -np.inf
    x[2, 7] = 3e38


def cases(act):
    yield make_case("demo", 5, 384, x=act)
    yield make_case("demo_norm", 5, 384, x=act, norm=True)
    yield make_case("llama3_8b", 2, 4096, x=act, norm=True)
    yield make_case("long_row", 2, 14336 + 16, x="bf16")
    yield make_case("gap", 3, 333, 7, x="fp16", norm=True)
    yield make_case("half", 3, 200, 5, x="fp16")
    yield make_case("zeros", 3, 256, change=zeros)
    yield make_case("zeros_norm", 3, 256, norm=True, change=zeros)
    yield make_case("not_finite", 4, 256, change=not_finite)
    yield make_case("no_rows", 0, 128, x=act)


def draw(d, act):
    x = d.types(act)
    n_in = d.width(1, 5000)
    n_rows = d.rows(max(2, 16384 // n_in))
    std = d.scale(x)
    return make_case(
        d.name, n_rows, n_in, d.gap(n_in, n_rows), x=x, norm=d.variant.chance(0.5), std=std,
        change=lambda rows: d.season(rows, std),
    )  # fmt: skip


SPEC = Spec(
    fn=quantize_rows_fp8,
    op="quantise_rows_fp8",
    params=(
        out("q_ptr", "fp8e4nv", "n_rows", "n_in", of="out"),
        out("scale_ptr", "fp32", "n_rows", "1", of="scale"),
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        inp("norm_ptr", FLOATS, "n_in"),
        step_size("n_rows", of="out[0]"),
        size("n_in", of="x[1]"),
        stride("x_stride"),
        scalar("eps"),
        given("HAS_NORM"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * (n_in * (1 + sizeof(x_ptr)) + 4) + HAS_NORM * n_in * sizeof(norm_ptr)",
    flops="(4 + 4 * HAS_NORM) * n_rows * n_in",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        # What a row leaves in the first-level cache the next time over it finds there.
        "cuda": {"BLOCK": "min(next_pow2(n_in), 4096)", "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK": "min(next_pow2(n_in), 4096)", "num_warps": 4, "num_stages": 1},
    },
)
