"""Quantises a weight: the values of few bits, and the scales, that linear kernels read.

    w[n, k] ~ q[n, k] * scale[n, k // group]           i8, fp8e4nv, fp8e5
    w[n, k] ~ (q[n, k] - 8) * scale[n, k // group]     u8: 4 bits, packed (kernels/lib/quantized.py)

w [N, K] with a row stride; q [N, K], or [N, P] of 4 bits; scale [N, G]; bad [1]. GROUP: 32, 64,
128, or 0, the whole row (G = 1). m is the largest |w| of a group. Of 8 bits scale is m / L, L the
largest number of q's type, 127 of i8; q is w * (1 / scale), at most L, to nearest even. Of 4 bits
scale is one of m / 112 * (16, 15, 14, -14, 13, -13, ..., 8, -8), from m on 7, or m or -m on -8, to
half of m cut off: from the first on, each that has less squared error than the best before it by
more than 2^-14 of itself and 1e-10 m^2: two that mirror each other are not told apart by rounding.
scale is rounded to its type before q is made from it, and is never 0: a group of zeros has the
smallest that type has (fp32, bf16: that is not subnormal) and values of 0. bad grows by the
number of groups that q cannot stand for: with a number that is not finite, taken as 0, or with a
scale beyond its type, cut to it.
Grid: a program a row, over which it goes two times, or 17 times for 4 bits; where there are groups
a program for TILE_M rows of up to 64 columns. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.numbers import FLOAT8, from_storage, to_storage
from kernels.lib.quantized import GROUPS, TYPES, nearest, packed, packed_size
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    given,
    inout,
    inp,
    out,
    padded,
    rng,
    size,
    step_size,
    stride,
    tuned,
)

N_CANDIDATES = tl.constexpr(16)
# Far more than sums differ by where their terms are added in another order.
MARGIN = tl.constexpr(1.0 + 2.0**-14)
TIE = tl.constexpr(1e-10)


@triton.jit
def as_scale(x, scale_ptr):
    """As scale's type has it, and whether it has such a one."""
    dtype: tl.constexpr = scale_ptr.dtype.element_ty
    SMALLEST: tl.constexpr = 2.0**-24 if dtype == tl.float16 else 2.0**-126
    LARGEST: tl.constexpr = 65504.0 if dtype == tl.float16 else 3.0e38
    held = tl.minimum(tl.maximum(x, SMALLEST), LARGEST)
    return held.to(dtype).to(tl.float32), x <= LARGEST


@triton.jit
def candidate(most, c, scale_ptr):
    """The scale number c of a group of 4 bits."""
    # With 16 and 15 nothing is cut off: either sign gives the same.
    step = tl.where(c < 2, 16 - c, 15 - c // 2)
    scale, _ = as_scale(tl.div_rn(most, 112.0) * step.to(tl.float32), scale_ptr)
    return tl.where((c < 2) | (c % 2 == 0), scale, -scale)


@triton.jit
def level(w, inverse, q_ptr):
    """The number that q holds, in fp32; of an 8-bit float before its type rounds it."""
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    # Limits come before rounding, which so is no part of a fused multiply-add.
    if dtype == tl.uint8:
        return nearest(tl.minimum(tl.maximum(w * inverse, -8.0), 7.0))
    elif dtype == tl.int8:
        return nearest(tl.minimum(tl.maximum(w * inverse, -127.0), 127.0))
    else:
        LARGEST: tl.constexpr = 448.0 if dtype == tl.float8e4nv else 57344.0
        return tl.minimum(tl.maximum(w * inverse, -LARGEST), LARGEST)


@triton.jit
def scale_of(most, q_ptr, scale_ptr):
    """Of 8 bits."""
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    LARGEST: tl.constexpr = (
        127.0 if dtype == tl.int8 else 448.0 if dtype == tl.float8e4nv else 57344.0
    )
    return as_scale(tl.div_rn(most, LARGEST), scale_ptr)


@triton.jit
def weights(w_at, mask):
    """Numbers with 0 for what is not finite, and how many such there are of each: 0 or 1."""
    w = tl.load(w_at, mask=mask, other=0.0).to(tl.float32)
    is_finite = tl.abs(w) < float("inf")
    return tl.where(is_finite, w, 0.0), tl.where(is_finite, 0, 1)


@triton.jit
def relative_error(w, scale, inverse, unit, q_ptr):
    """Squared, in units of the group's largest number, which neither overflows nor vanishes."""
    error = w * unit - level(w, inverse, q_ptr) * (scale * unit)
    return error * error


@triton.jit
def pack(low, high, inverse_low, inverse_high, q_ptr):
    low = level(low, inverse_low, q_ptr).to(tl.int32) + 8
    high = level(high, inverse_high, q_ptr).to(tl.int32) + 8
    return (low | high << 4).to(tl.uint8)


@triton.jit
def quantize_row(
    q_ptr, scale_ptr, bad_ptr, w_ptr, n_in, w_stride, BITS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    w_row = w_ptr + row * w_stride
    lane = tl.arange(0, BLOCK)
    most = tl.zeros((BLOCK,), tl.float32)
    wrong = tl.zeros((BLOCK,), tl.int32)
    for k in range(0, n_in, BLOCK):
        w, is_wrong = weights(w_row + k + lane, k + lane < n_in)
        most = tl.maximum(most, tl.abs(w))
        wrong += is_wrong
    most = tl.max(most, axis=0)
    if BITS == 4:
        scale, fits = as_scale(tl.div_rn(most, 112.0) * 16.0, scale_ptr)
        unit = tl.div_rn(1.0, tl.maximum(most, 2.0**-126))
        least = tl.where(fits, float("inf"), 0.0)  # nothing is tried where the largest is cut
        for c in range(0, N_CANDIDATES):
            tried = candidate(most, c, scale_ptr)
            inverse = tl.div_rn(1.0, tried)
            errors = tl.zeros((BLOCK,), tl.float32)
            for k in range(0, n_in, BLOCK):
                w, _ = weights(w_row + k + lane, k + lane < n_in)
                errors += relative_error(w, tried, inverse, unit, q_ptr)
            error = tl.sum(errors, axis=0)
            is_better = error * MARGIN + TIE < least
            least = tl.where(is_better, error, least)
            scale = tl.where(is_better, tried, scale)
    else:
        scale, fits = scale_of(most, q_ptr, scale_ptr)
    tl.store(scale_ptr + row, scale)
    if (tl.sum(wrong, axis=0) > 0) | (fits == 0):
        tl.atomic_add(bad_ptr, 1)

    inverse = tl.div_rn(1.0, scale)
    if BITS == 4:
        n_blocks = tl.cdiv(n_in, 128)
        block = tl.arange(0, BLOCK // 64)[:, None]
        byte = tl.arange(0, 64)[None, :]
        q_row = q_ptr + row * n_blocks * 64
        for b in range(0, n_blocks, BLOCK // 64):
            at = (b + block) * 128 + byte
            low, _ = weights(w_row + at, at < n_in)
            high, _ = weights(w_row + at + 64, at + 64 < n_in)
            q = pack(low, high, inverse, inverse, q_ptr)
            tl.store(q_row + (b + block) * 64 + byte, q, mask=b + block < n_blocks)
    else:
        q_row = q_ptr + row * n_in
        for k in range(0, n_in, BLOCK):
            w, _ = weights(w_row + k + lane, k + lane < n_in)
            q = level(w, inverse, q_ptr).to(q_ptr.dtype.element_ty)
            tl.store(q_row + k + lane, q, mask=k + lane < n_in)


@triton.jit
def choose_scale(parts, q_ptr, scale_ptr, BITS: tl.constexpr):
    """Of each row of tiles that one scale is for; and whether scale's type has it."""
    most = tl.max(tl.abs(parts[0]), axis=1)
    for i in tl.static_range(1, len(parts)):
        most = tl.maximum(most, tl.max(tl.abs(parts[i]), axis=1))
    if BITS == 8:
        return scale_of(most, q_ptr, scale_ptr)
    else:
        scale, fits = as_scale(tl.div_rn(most, 112.0) * 16.0, scale_ptr)
        unit = tl.div_rn(1.0, tl.maximum(most, 2.0**-126))
        least = tl.where(fits, float("inf"), 0.0)
        for c in range(0, N_CANDIDATES):
            tried = candidate(most, c, scale_ptr)
            inverse = tl.div_rn(1.0, tried)
            error = most * 0.0
            for i in tl.static_range(0, len(parts)):
                errors = relative_error(
                    parts[i], tried[:, None], inverse[:, None], unit[:, None], q_ptr
                )
                error += tl.sum(errors, axis=1)
            is_better = error * MARGIN + TIE < least
            least = tl.where(is_better, error, least)
            scale = tl.where(is_better, tried, scale)
        return scale, fits


@triton.jit
def quantize_groups(
    q_ptr,
    scale_ptr,
    bad_ptr,
    w_ptr,
    n_rows,
    n_in,
    w_stride,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    PARTS: tl.constexpr,
    TILE_M: tl.constexpr,
):
    """A row of a tile is up to 64 columns of a group: a half of a block, or of that a half."""
    COLS: tl.constexpr = 64 // PARTS
    at_row = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    row = (at_row // PARTS).to(tl.int64)
    is_row = row < n_rows
    byte = (at_row % PARTS * COLS)[:, None] + tl.arange(0, COLS)[None, :]
    n_groups = tl.cdiv(n_in, GROUP)
    wrong = tl.zeros((TILE_M,), tl.int32)
    for b in range(0, tl.cdiv(n_in, 128)):
        at = b * 128 + byte
        w_at = w_ptr + row[:, None] * w_stride + at
        low, wrong_low = weights(w_at, is_row[:, None] & (at < n_in))
        high, wrong_high = weights(w_at + 64, is_row[:, None] & (at + 64 < n_in))
        wrong_low = tl.max(wrong_low, axis=1)
        wrong_high = tl.max(wrong_high, axis=1)
        group = (b * 128 + at_row % PARTS * COLS) // GROUP
        scale_at = scale_ptr + row * n_groups + group
        if GROUP == 128:
            scale, fits = choose_scale((low, high), q_ptr, scale_ptr, BITS)
            scale_low = scale
            scale_high = scale
            tl.store(scale_at, scale, mask=is_row)
            wrong += tl.where(is_row & (((wrong_low | wrong_high) > 0) | (fits == 0)), 1, 0)
        else:
            scale_low, fits = choose_scale((low,), q_ptr, scale_ptr, BITS)
            tl.store(scale_at, scale_low, mask=is_row & (group < n_groups))
            wrong += tl.where(is_row & ((wrong_low > 0) | (fits == 0)), 1, 0)
            scale_high, fits = choose_scale((high,), q_ptr, scale_ptr, BITS)
            group += 64 // GROUP
            tl.store(scale_at + 64 // GROUP, scale_high, mask=is_row & (group < n_groups))
            wrong += tl.where(is_row & ((wrong_high > 0) | (fits == 0)), 1, 0)
        inverse_low = tl.div_rn(1.0, scale_low)[:, None]
        inverse_high = tl.div_rn(1.0, scale_high)[:, None]
        if BITS == 4:
            q = pack(low, high, inverse_low, inverse_high, q_ptr)
            q_at = q_ptr + row[:, None] * (tl.cdiv(n_in, 128) * 64) + b * 64 + byte
            tl.store(q_at, q, mask=is_row[:, None])
        else:
            dtype: tl.constexpr = q_ptr.dtype.element_ty
            q_at = q_ptr + row[:, None] * n_in + at
            q = level(low, inverse_low, q_ptr).to(dtype)
            tl.store(q_at, q, mask=is_row[:, None] & (at < n_in))
            q = level(high, inverse_high, q_ptr).to(dtype)
            tl.store(q_at + 64, q, mask=is_row[:, None] & (at + 64 < n_in))
    n_wrong = tl.sum(wrong, axis=0)
    if n_wrong > 0:
        tl.atomic_add(bad_ptr, n_wrong)


@triton.jit
def quantize_weight(
    q_ptr,
    scale_ptr,
    bad_ptr,
    w_ptr,
    n_rows,
    n_in,
    w_stride,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE_M: tl.constexpr,
    PARTS: tl.constexpr,
):
    tl.static_assert((BITS == 4) == (q_ptr.dtype.element_ty == tl.uint8))
    if GROUP == 0:
        quantize_row(q_ptr, scale_ptr, bad_ptr, w_ptr, n_in, w_stride, BITS, BLOCK)
    else:
        quantize_groups(
            q_ptr, scale_ptr, bad_ptr, w_ptr, n_rows, n_in, w_stride, BITS, GROUP, PARTS, TILE_M
        )


SMALLEST = {"fp32": 2.0**-126, "bf16": 2.0**-126, "fp16": 2.0**-24}
LARGEST = {"fp32": 3.0e38, "bf16": 3.0e38, "fp16": 65504.0}
# So near to the margin rounding decides: of sums in another order, of each number in its term.
LEAD = 2e-5
TERM_ERROR = 2.0**-22


def grouped(w, group):
    """[N, K] -> fp32 [N, G, group], zeros behind the end and for what is not finite."""
    n_rows, n_in = w.shape
    group = group or n_in
    n_groups = -(-n_in // group)
    full = np.zeros((n_rows, n_groups * group), np.float32)
    full[:, :n_in] = np.where(np.isfinite(w), w, 0.0)
    return full.reshape(n_rows, n_groups, group)


def rounded_scale(x, dtype):
    held = np.minimum(np.maximum(x, np.float32(SMALLEST[dtype])), np.float32(LARGEST[dtype]))
    return from_storage(to_storage(held.astype(np.float32), dtype), dtype)


def four_bits(w, scale):
    """Values -8 to 7 of [N, G, group] by [N, G]."""
    inverse = np.float32(1.0) / scale
    return np.rint(np.clip(w * inverse[..., None], -8.0, 7.0))


def search(w, scale_type):
    """The scale [N, G] of each group of 4 bits; where the choice hangs on how sums are rounded."""
    most = np.abs(w).max(axis=2)
    unit = 1.0 / np.maximum(most.astype(np.float64), 2.0**-126)
    squares = ((w * unit[..., None]) ** 2).sum(axis=2)
    largest = most / np.float32(112.0) * np.float32(16.0)
    best = rounded_scale(largest, scale_type)
    least = np.where(largest <= LARGEST[scale_type], np.inf, 0.0)
    is_close = np.zeros(best.shape, bool)
    for c in range(N_CANDIDATES.value):
        step = 16 - c if c < 2 else 15 - c // 2
        tried = rounded_scale(most / np.float32(112.0) * np.float32(step), scale_type)
        tried = tried if c < 2 or c % 2 == 0 else -tried
        dequantised = four_bits(w, tried).astype(np.float64) * tried[..., None]
        error = (((w.astype(np.float64) - dequantised) * unit[..., None]) ** 2).sum(axis=2)
        bound = error * MARGIN.value + TIE.value
        is_better = bound < least
        with np.errstate(invalid="ignore"):
            rounding = LEAD * bound + TERM_ERROR * np.sqrt(squares * error)
            is_close |= np.abs(bound - least) < rounding
        best, least = np.where(is_better, tried, best), np.where(is_better, error, least)
    return best, is_close


def reference(a):
    dtypes, n_rows, n_in = a["dtypes"], a["n_rows"], a["n_in"]
    w = grouped(a["w_ptr"][:n_rows, :n_in], a["GROUP"])
    is_bad = grouped(~np.isfinite(a["w_ptr"][:n_rows, :n_in]), a["GROUP"]).any(axis=2)
    most, limit = np.abs(w).max(axis=2), LARGEST[dtypes["scale_ptr"]]
    if dtypes["q_ptr"] == "u8":
        scale, _ = search(w, dtypes["scale_ptr"])
        is_bad |= most / np.float32(112.0) * np.float32(16.0) > limit
        q = packed(four_bits(w, scale).reshape(n_rows, w.shape[1] * w.shape[2])[:, :n_in] + 8)
    else:
        largest = 127.0 if dtypes["q_ptr"] == "i8" else FLOAT8[dtypes["q_ptr"]][-1]
        scale = rounded_scale(most / np.float32(largest), dtypes["scale_ptr"])
        is_bad |= most / np.float32(largest) > limit
        inverse = np.float32(1.0) / scale
        q = np.clip(w * inverse[..., None], -largest, largest).reshape(
            n_rows, w.shape[1] * w.shape[2]
        )[:, :n_in]
        q = np.rint(q) if dtypes["q_ptr"] == "i8" else q
    results = {name: a[name].copy() for name in ("q_ptr", "scale_ptr")}
    results["q_ptr"][:n_rows] = q
    results["scale_ptr"][:n_rows] = scale
    results["bad_ptr"] = a["bad_ptr"] + np.count_nonzero(is_bad)
    return results


def without_close_choices(w, n_in, group, w_type, scale_type, generator):
    """In place: where sums decide between candidates, other numbers."""
    stored = from_storage(to_storage(w[:, :n_in], w_type), w_type)
    for _ in range(50):
        groups = grouped(stored, group)
        _, is_close = search(groups, scale_type)
        if not is_close.any():
            w[:, :n_in] = stored
            return
        columns = np.repeat(is_close, group or n_in, axis=1)[:, :n_in]
        factor = np.where(columns, 1.0 + 0.1 * generator.standard_normal(stored.shape), 1.0)
        stored = from_storage(to_storage(stored * factor, w_type), w_type)
    raise ValueError("groups whose best scale is always a near tie")


def case(name, n_rows, n_in, q="i8", group=0, w="fp16", scale="fp32", gap=0, std=0.05, change=None):
    generator = rng(name)
    weight = padded(generator, n_rows, n_in, gap, std=std)
    if change is not None:
        change(weight[:, :n_in])
    if q == "u8":
        without_close_choices(weight, n_in, group, w, scale, generator)
    n_stored = max(n_rows, 1)
    width = packed_size(n_in) if q == "u8" else n_in
    args = {
        "q_ptr": np.full((n_stored, width), 7.0, np.float32),
        "scale_ptr": np.full((n_stored, -(-n_in // (group or n_in))), 7.0, np.float32),
        "bad_ptr": np.array([3], np.int32),
        "w_ptr": weight,
        "n_rows": n_rows,
        "n_in": n_in,
        "w_stride": n_in + gap,
    }
    dtypes = {"q_ptr": q, "scale_ptr": scale, "bad_ptr": "i32", "w_ptr": w}
    constexprs = {"BITS": 4 if q == "u8" else 8, "GROUP": group}
    # Every choice is of exact arithmetic: values and scales agree to the last bit.
    return Case(name, args, dtypes, constexprs, tolerance={"q_ptr": 0.0, "scale_ptr": 0.0})


def not_finite(w):
    w[0, 3] = np.inf
    w[-1, -1] = np.nan
    w[1, ::5] = -np.inf


def zeros(w):
    w[1] = 0.0
    w[-1, : w.shape[1] // 2] = 0.0


def too_large(w):
    w[1, 7] = 2.0**31
    w[2] = 2.0**-140


def mirrored(w):
    """The two largest of a group differ in their sign: so do its best scales, in nothing else."""
    w[:, ::32], w[:, 1::32] = 0.25, -0.25


def cases(act):
    for q in TYPES:
        yield case(f"row_{q}", 5, 300, q)
        yield case(f"long_row_{q}", 2, 14336 + 16, q, w="bf16")
        yield case(f"not_finite_{q}", 4, 200, q, w="fp32", change=not_finite)
        yield case(f"zeros_{q}", 3, 256, q, group=64, scale="fp16", change=zeros)
        yield case(f"too_large_{q}", 4, 160, q, 32, w="fp32", scale="fp16", change=too_large)
    yield case("mirrored_row", 40, 300, "u8", change=mirrored)
    for group in GROUPS:
        yield case(f"mirrored_{group}", 20, 384, "u8", group, scale="fp16", change=mirrored)
        yield case(f"group_{group}", 9, 384, "u8", group, scale="bf16", gap=7)
        yield case(f"ragged_{group}", 3, 420, "u8", group, scale="fp16", w="bf16")
        yield case(f"eight_bits_{group}", 5, 144, "i8", group, scale="fp16", w="fp32")


def draw(d, act):
    q = d.turn(*TYPES)
    group = d.variant.of(0, *GROUPS)
    scale = d.variant.of("fp32", "fp16", "bf16")
    w = d.types(act)
    n_in = d.width(8, 5000 if group == 0 else 1000)
    n_rows = d.rows(min(20, max(1, 16384 // n_in)))
    std = d.scale(w) / 32.0
    return case(
        d.name, n_rows, n_in, q, group, w, scale, d.gap(n_in, n_rows), std,
        change=lambda weight: d.season(weight, std),
    )  # fmt: skip


SPEC = Spec(
    fn=quantize_weight,
    params=(
        out("q_ptr", TYPES, "n_rows", "64 * cdiv(n_in, 128) if BITS == 4 else n_in"),
        out("scale_ptr", FLOATS, "n_rows", "cdiv(n_in, GROUP) if GROUP > 0 else 1"),
        inout("bad_ptr", "i32", "1"),
        inp("w_ptr", FLOATS, "n_rows", "w_stride"),
        step_size("n_rows"),
        size("n_in"),
        stride("w_stride"),
        given("BITS"),
        given("GROUP"),
        tuned("BLOCK"),
        tuned("TILE_M"),
        # Groups that share the low halves of a block of 128 columns.
        derived("PARTS", "2 if GROUP == 32 else 1"),
    ),
    grid=("n_rows if GROUP == 0 else cdiv(n_rows * PARTS, TILE_M)", "1", "1"),
    bytes="n_rows * (n_in * sizeof(w_ptr) + n_in * BITS // 8)",
    flops="n_rows * n_in * (96 if BITS == 4 else 4)",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK", "TILE_M"),
    default={
        "cpu": {"BLOCK": 64, "TILE_M": 16, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 1024, "TILE_M": 16, "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK": 1024, "TILE_M": 16, "num_warps": 4, "num_stages": 1},
    },
)
