"""A quantised weight as numbers: for comparing, for export, and for what reads no quantised one.

    w[n, k] = (q[n, k] - zero) * scale[n, k // group]

q [N, K] of i8, fp8e4nv or fp8e5, with zero 0; or of 4 bits, u8 [N, P] (kernels/lib/quantized.py),
with zero u8 [N, G] (HAS_ZERO) or 8. scale [N, G]; GROUP: columns of a group, or 0, the whole row.
w [N, K] with a row stride. Grid: (N / TILE_M, K / 128). Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.numbers import FLOAT8
from kernels.lib.quantized import GROUPS, TYPES, of_columns, packed, unpacked
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    given,
    inp,
    normal,
    out,
    rng,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def store_columns(
    out_ptr,
    q,
    scale_ptr,
    zero_ptr,
    row,
    col,
    n_rows,
    n_in,
    n_groups,
    out_stride,
    GROUP: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    IS_4_BITS: tl.constexpr,
):
    """Rows [TILE_M, 1], columns [1, 64] of q."""
    mask = (row < n_rows) & (col < n_in)
    at = row.to(tl.int64)
    if GROUP > 0:
        at = at * n_groups + col // GROUP
    q = q.to(tl.float32)
    if HAS_ZERO:
        q -= tl.load(zero_ptr + at, mask=mask, other=0).to(tl.float32)
    elif IS_4_BITS:
        q -= 8.0
    scale = tl.load(scale_ptr + at, mask=mask, other=0.0).to(tl.float32)
    # Not q * scale: LLVM computes (i8 * bf16).to(fp16) in fp16, whose range holds no such scale.
    w = tl.fma(q, scale, 0.0)
    out_at = out_ptr + row.to(tl.int64) * out_stride + col
    tl.store(out_at, w.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def dequantize_weight(
    out_ptr,
    q_ptr,
    scale_ptr,
    zero_ptr,
    n_rows,
    n_in,
    q_width,
    n_groups,
    out_stride,
    HAS_ZERO: tl.constexpr,
    TILE_M: tl.constexpr,
    GROUP: tl.constexpr,
):
    IS_4_BITS: tl.constexpr = q_ptr.dtype.element_ty == tl.uint8
    row = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)[:, None]
    block = tl.program_id(1)
    byte = tl.arange(0, 64)[None, :]
    low_col = block * 128 + byte
    high_col = low_col + 64
    if IS_4_BITS:
        q_at = q_ptr + row.to(tl.int64) * q_width + block * 64 + byte
        q = tl.load(q_at, mask=row < n_rows)
        low = q & 15
        high = q >> 4
    else:
        q_at = q_ptr + row.to(tl.int64) * n_in + low_col
        low = tl.load(q_at, mask=(row < n_rows) & (low_col < n_in))
        high = tl.load(q_at + 64, mask=(row < n_rows) & (high_col < n_in))
    store_columns(
        out_ptr, low, scale_ptr, zero_ptr, row, low_col, n_rows, n_in, n_groups, out_stride, GROUP,
        HAS_ZERO, IS_4_BITS,
    )  # fmt: skip
    store_columns(
        out_ptr, high, scale_ptr, zero_ptr, row, high_col, n_rows, n_in, n_groups, out_stride,
        GROUP, HAS_ZERO, IS_4_BITS,
    )  # fmt: skip


def reference(a):
    n_rows, n_in, group = a["n_rows"], a["n_in"], a["n_in"] // a["n_groups"]
    q, zero = a["q_ptr"][:n_rows], 0
    if a["dtypes"]["q_ptr"] == "u8":
        q, zero = unpacked(q, n_in), 8
    if a["HAS_ZERO"]:
        zero = of_columns(a["zero_ptr"][:n_rows].astype(np.int64), group, n_in)
    scale = of_columns(a["scale_ptr"][:n_rows].astype(np.float64), group, n_in)
    w = a["out_ptr"].copy()
    w[:n_rows, :n_in] = (q.astype(np.float64) - zero) * scale
    return {"out_ptr": w}


def case(name, n_rows, n_in, q="i8", group=0, zero=False, w="fp16", scale="fp32", gap=0, std=0.05):
    generator = rng(name)
    n_stored, n_groups = max(n_rows, 1), n_in // (group or n_in)
    if q == "u8":
        values, largest = packed(generator.integers(0, 16, (n_stored, n_in))), 8.0
    elif q == "i8":
        values, largest = generator.integers(-128, 128, (n_stored, n_in)), 128.0
    else:
        largest = FLOAT8[q][-1]
        # From zero and subnormal numbers on.
        spread = 2.0 ** generator.uniform(-20, 0, (n_stored, n_in))
        values = normal(generator, n_stored, n_in, std=largest / 3.0) * spread
    args = {
        "out_ptr": filled(n_stored, n_in + gap),
        "q_ptr": values,
        "scale_ptr": normal(generator, n_stored, n_groups, std=std / largest),
        "zero_ptr": generator.integers(0, 17, (n_stored, n_groups)) if zero else None,
        "n_rows": n_rows,
        "n_in": n_in,
        "q_width": values.shape[1],
        "n_groups": n_groups,
        "out_stride": n_in + gap,
    }
    dtypes = {"out_ptr": w, "q_ptr": q, "scale_ptr": scale, "zero_ptr": "u8"}
    return Case(name, args, dtypes, {"HAS_ZERO": int(zero)}, units={"out_ptr": std})


def cases(act):
    for q in TYPES:
        yield case(f"row_{q}", 5, 300, q)
    for group in GROUPS:
        yield case(f"group_{group}", 9, 384, "u8", group, scale="bf16", w="bf16")
        yield case(f"zeros_{group}", 18, 384, "u8", group, True, w="fp32", scale="fp16", gap=5)
    for q in ("i8", "fp8e5"):
        yield case(f"small_scales_{q}", 5, 200, q, scale="bf16", std=2.0**-10)
    yield case("blocks", 6, 256, "fp8e4nv", 128, w="bf16")


def draw(d, act):
    q = d.turn(*TYPES)
    group = d.variant.of(0, *GROUPS)
    zero = q == "u8" and d.variant.chance(0.5)
    w, scale = d.types(act), d.variant.of("fp32", "fp16", "bf16")
    n_in = d.width(8, 600)
    n_in = max(1, n_in // group) * group if group else n_in
    n_rows = d.rows(24, tile=16)
    std = d.case.of(1.0, 0.05, 2.0**-10)
    return case(d.name, n_rows, n_in, q, group, zero, w, scale, d.gap(n_in, n_rows), std)


SPEC = Spec(
    fn=dequantize_weight,
    op="dequantise",
    params=(
        out("out_ptr", FLOATS, "n_rows", "out_stride"),
        inp("q_ptr", TYPES, "n_rows", "q_width", of="weight"),
        inp("scale_ptr", FLOATS, "n_rows", "n_groups"),
        inp("zero_ptr", "u8", "n_rows", "n_groups"),
        step_size("n_rows", of="out[0]"),
        size("n_in", of="@columns"),
        size("q_width", of="weight[1]"),
        size("n_groups", of="scale[1]"),
        stride("out_stride"),
        given("HAS_ZERO"),
        tuned("TILE_M"),
        derived("GROUP", "0 if n_groups == 1 else n_in // n_groups"),
    ),
    grid=("cdiv(n_rows, TILE_M)", "cdiv(n_in, 128)", "1"),
    bytes="n_rows * q_width * sizeof(q_ptr) + n_rows * n_in * sizeof(out_ptr)",
    flops="2 * n_rows * n_in",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("TILE_M",),
    default={
        "cpu": {"TILE_M": 16, "num_warps": 1, "num_stages": 1},
        "cuda": {"TILE_M": 32, "num_warps": 4, "num_stages": 1},
        "hip": {"TILE_M": 32, "num_warps": 4, "num_stages": 1},
    },
)
