"""Floating point: rounding of each type, NaN and infinities, elementary functions, conversions."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, Tensor, bf16, values_of


@triton.jit
def float_arithmetic(out, x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    a = tl.load(x + i, mask=mask, other=1.0)
    b = tl.load(y + i, mask=mask, other=1.0)
    tl.store(out + i, a + b, mask=mask)
    tl.store(out + n + i, a - b, mask=mask)
    tl.store(out + 2 * n + i, a * b, mask=mask)
    tl.store(out + 3 * n + i, a / b, mask=mask)
    tl.store(out + 4 * n + i, tl.abs(a), mask=mask)
    tl.store(out + 5 * n + i, -a, mask=mask)
    tl.store(out + 6 * n + i, tl.where(a < b, a, b), mask=mask)


@triton.jit
def float_functions(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    p = tl.abs(a) + 0.125
    tl.store(out + i, tl.exp(a))
    tl.store(out + BLOCK + i, tl.exp2(a))
    tl.store(out + 2 * BLOCK + i, tl.log(p))
    tl.store(out + 3 * BLOCK + i, tl.log2(p))
    tl.store(out + 4 * BLOCK + i, tl.sin(a))
    tl.store(out + 5 * BLOCK + i, tl.cos(a))
    tl.store(out + 6 * BLOCK + i, tl.sqrt(p))
    tl.store(out + 7 * BLOCK + i, tl.rsqrt(p))
    tl.store(out + 8 * BLOCK + i, tl.erf(a))
    tl.store(out + 9 * BLOCK + i, tl.floor(a))
    tl.store(out + 10 * BLOCK + i, tl.ceil(a))
    tl.store(out + 11 * BLOCK + i, tl.sigmoid(a))
    tl.store(out + 12 * BLOCK + i, tl.fma(a, p, a))
    if x.dtype.element_ty == tl.float32:
        tl.store(out + 13 * BLOCK + i, tl.sqrt_rn(p))
        tl.store(out + 14 * BLOCK + i, tl.div_rn(a, p))
    tl.store(out + 15 * BLOCK + i, tl.clamp(a, -1.0, 1.0))
    tl.store(out + 16 * BLOCK + i, a % p)


@triton.jit
def nan_rules(out, flags, x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, tl.maximum(a, b))
    tl.store(out + BLOCK + i, tl.minimum(a, b))
    tl.store(out + 2 * BLOCK + i, tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out + 3 * BLOCK + i, tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out + 4 * BLOCK + i, tl.clamp(a, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL))
    tl.store(flags + i, (a < b).to(tl.int32) + 2 * (a <= b).to(tl.int32))
    tl.store(flags + BLOCK + i, (a > b).to(tl.int32) + 2 * (a >= b).to(tl.int32))
    tl.store(flags + 2 * BLOCK + i, (a == b).to(tl.int32) + 2 * (a != b).to(tl.int32))


@triton.jit
def narrowed(half, brain, whole, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(half + i, a.to(tl.float16))
    tl.store(half + BLOCK + i, a.to(tl.float16, fp_downcast_rounding="rtz"))
    tl.store(brain + i, a.to(tl.bfloat16))
    tl.store(brain + BLOCK + i, a.to(tl.bfloat16, fp_downcast_rounding="rtz"))
    tl.store(whole + i, tl.clamp(a, -2.0e9, 2.0e9).to(tl.int32))
    tl.store(whole + BLOCK + i, a.to(tl.int32, bitcast=True))
    bits = a.to(tl.float16).to(tl.int16, bitcast=True)
    tl.store(whole + 2 * BLOCK + i, bits.to(tl.int32))


def cases():
    rng = np.random.default_rng(2)
    n = 100
    x, y = rng.normal(size=n) * 4, rng.normal(size=n) * 4
    y[np.abs(y) < 0.01] = 1
    for dtype in (np.float32, np.float16, np.float64):
        # Sums and products are exact to the last bit, fp16's too; quotients of fp16 go by fp32.
        args = [np.zeros(7 * n, dtype), x.astype(dtype), y.astype(dtype), n]
        rtol = 1e-3 if dtype == np.float16 else 1e-7
        yield Case(float_arithmetic, (2,), args, {"BLOCK": 64}, np.dtype(dtype).name, rtol)
    args = [Tensor(np.zeros(7 * n, np.uint16), "bf16"), bf16(x), bf16(y), n]
    yield Case(float_arithmetic, (2,), args, {"BLOCK": 64}, "bf16", want=brain_arithmetic)
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-5)):
        wide = (rng.normal(size=64) * 8).astype(dtype)
        args = [np.zeros(17 * 64, dtype), wide]
        yield Case(float_functions, (1,), args, {"BLOCK": 64}, np.dtype(dtype).name, rtol, 1e-6)
    special = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 3.0], np.float32)
    a, b = (m.ravel() for m in np.meshgrid(special, special))
    args = [np.zeros(5 * 64, np.float32), np.zeros(3 * 64, np.int32), a.copy(), b.copy()]
    yield Case(nan_rules, (1,), args, {"BLOCK": 64}, want=by_ieee)
    raw = (rng.normal(size=128) * np.exp2(rng.integers(-20, 17, 128))).astype(np.float32)
    raw[:6] = [65504, 65519, 65520, -1e30, 2**-25, 3e-8]
    args = [np.zeros(256, np.float16), Tensor(np.zeros(256, np.uint16), "bf16"),
            np.zeros(384, np.int32), raw]  # fmt: skip
    yield Case(narrowed, (1,), args, {"BLOCK": 128}, want=rounded)


def brain_arithmetic(args):
    a, b = (values_of(Tensor(v, "bf16"), v).astype(np.float64) for v in args[1:3])
    rows = [a + b, a - b, a * b, a / b, np.abs(a), -a, np.minimum(a, b)]
    return {0: bf16(np.concatenate(rows)).bits}


def by_ieee(args):
    a, b = args[2], args[3]
    clamped = np.where(np.isnan(a), a, np.clip(a, -1, 1))
    out = [np.fmax(a, b), np.fmin(a, b), np.maximum(a, b), np.minimum(a, b), clamped]
    flags = [(a < b) + 2 * (a <= b), (a > b) + 2 * (a >= b), (a == b) + 2 * (a != b)]
    return {0: np.concatenate(out), 1: np.concatenate(flags).astype(np.int32)}


def rounded(args):
    x = args[3]
    half = x.astype(np.float16)
    beyond = np.abs(half.astype(np.float64)) > np.abs(x.astype(np.float64))
    toward = np.where(beyond, np.nextafter(half, np.float16(0)), half)
    bits = x.view(np.uint32)
    near = bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)
    whole = [np.clip(x, -2.0e9, 2.0e9).astype(np.int32), x.view(np.int32),
             half.view(np.int16).astype(np.int32)]  # fmt: skip
    return {0: np.concatenate([half, toward]),
            1: np.concatenate([near >> 16, bits >> 16]).astype(np.uint16),
            2: np.concatenate(whole)}  # fmt: skip
