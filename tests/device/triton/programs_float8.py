"""The 8-bit floats: every value, rounding to nearest even, saturation. The oracle is a search among
all 256 values: the interpreter rounds ties up and does not saturate."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, Tensor

# exponent bits, mantissa bits, bias, infinities, fnuz
FORMATS = {"fp8e4nv": (4, 3, 7, False, False), "fp8e5": (5, 2, 15, True, False),
           "fp8e4b8": (4, 3, 8, False, True), "fp8e5b16": (5, 2, 16, False, True)}  # fmt: skip


@triton.jit
def float8_values(out, bits, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(out + i, a.to(tl.float32))
    tl.store(out + BLOCK + i, a.to(tl.float16).to(tl.float32))
    tl.store(bits + i, a.to(tl.int8, bitcast=True))


@triton.jit
def float8_rounded(out, back, x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    a = tl.load(x + i, mask=mask, other=0.0).to(out.dtype.element_ty)
    tl.store(out + i, a, mask=mask)
    tl.store(back + i, a.to(tl.float32) * 2, mask=mask)


@triton.jit
def e4b15(wide, half, narrow, bits, x, h, BLOCK: tl.constexpr):
    """The format of 4 bits of exponent, bias 15, that Triton has no type in its IR for."""
    i = tl.arange(0, BLOCK)
    a = tl.load(bits + i).to(tl.float8e4b15, bitcast=True)
    tl.store(wide + i, a.to(tl.float32))
    tl.store(half + i, a.to(tl.float16))
    tl.store(narrow + i, tl.load(x + i).to(tl.float8e4b15).to(tl.uint8, bitcast=True))
    tl.store(narrow + BLOCK + i, tl.load(h + i).to(tl.float8e4b15).to(tl.uint8, bitcast=True))


def e4b15_value(bits):
    e, m = bits >> 3 & 15, bits & 7
    value = np.where(e == 0, np.ldexp(m / 8, -14), np.ldexp(1 + m / 8, e - 15))
    return np.where(bits & 0x80, -value, value)


def e4b15_bits(x):
    """Of fp16: the nearest, halves away from zero, up to 1.75; of NaN that too."""
    value = e4b15_value(np.arange(0x7F))
    magnitude = np.abs(np.where(np.isnan(x), 9.0, x).astype(np.float64))
    middles = (value[1:] + value[:-1]) / 2
    nearest_one = np.searchsorted(middles, np.minimum(magnitude, 1.75), "right")
    return (nearest_one | np.signbit(x) * 0x80).astype(np.uint8)


def fp16_towards_zero(x):
    half = x.astype(np.float16)
    toward = np.nextafter(half, np.float16(0))
    return np.where(np.abs(half.astype(np.float64)) > np.abs(x), toward, half)


def table(name):
    e_bits, m_bits, bias, has_infinity, is_fnuz = FORMATS[name]
    b = np.arange(256)
    e, m = b >> m_bits & (1 << e_bits) - 1, b & (1 << m_bits) - 1
    value = np.where(e == 0, np.ldexp(m.astype(float), 1 - bias - m_bits),
                     np.ldexp(m + 2.0**m_bits, e - bias - m_bits))  # fmt: skip
    value = np.where(b & 0x80, -value, value)
    if is_fnuz:
        value[0x80] = np.nan
    elif has_infinity:
        value[[0x7C, 0xFC]] = np.inf, -np.inf
        value[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
    else:
        value[[0x7F, 0xFF]] = np.nan
    return value


def nearest(name, x):
    """By search: the closest finite value, the even pattern among two; NaN to the first NaN."""
    value = table(name)
    finite = np.flatnonzero(np.isfinite(value))
    is_fnuz = FORMATS[name][4]
    out = []
    for v in x.astype(np.float64):
        if np.isnan(v):
            out.append(0x80 if is_fnuz else 0x7F)
            continue
        same_sign = [b for b in finite if (b >= 0x80) == bool(np.signbit(v)) or value[b] == 0]
        largest = max(abs(value[b]) for b in finite)
        v = np.clip(v, -largest, largest)
        best = min(same_sign, key=lambda b: (abs(value[b] - v), b & 1))
        if value[best] == 0:
            best = 0x80 if np.signbit(v) and not is_fnuz else 0
        out.append(best)
    return np.array(out, np.uint8)


def cases():
    rng = np.random.default_rng(3)
    every = np.arange(256, dtype=np.uint8)
    for name in FORMATS:
        args = [np.zeros(512, np.float32), np.zeros(256, np.int8), Tensor(every.copy(), name)]
        yield Case(float8_values, (1,), args, {"BLOCK": 256}, name, want=lambda args, name=name: {
            0: np.tile(table(name), 2), 1: args[2].view(np.int8)})  # fmt: skip
        value = np.sort(table(name)[np.isfinite(table(name))])
        ties = (value[1:] + value[:-1]) / 2
        around = np.concatenate([ties, ties * 1.001, rng.normal(size=60) * value.max(),
                                 [np.nan, np.inf, -np.inf, 1e-30, -1e-30]])  # fmt: skip
        x = around.astype(np.float32)
        n = len(x)

        def want(args, name=name):
            bits = nearest(name, args[2])
            return {0: bits, 1: table(name)[bits].astype(np.float32) * 2}

        args = [Tensor(np.zeros(n, np.uint8), name), np.zeros(n, np.float32), x, n]
        yield Case(float8_rounded, (triton.cdiv(n, 64),), args, {"BLOCK": 64}, name, want=want)
    x = (rng.normal(size=256) * np.exp2(rng.integers(-18, 2, 256))).astype(np.float32)
    middles = e4b15_value(np.arange(128)) + np.float64(2.0**-11)
    h = np.concatenate([middles, -middles]).astype(np.float16)
    h[[3, 200]] = np.nan, -np.inf
    args = [np.zeros(256, np.float32), np.zeros(256, np.float16), np.zeros(512, np.uint8),
            every, x, h]  # fmt: skip
    wide = e4b15_value(every.astype(int))
    narrow = np.concatenate([e4b15_bits(fp16_towards_zero(x)), e4b15_bits(h)])
    yield Case(e4b15, (1,), args, {"BLOCK": 256},
               want=lambda args: {0: wide, 1: wide, 2: narrow})  # fmt: skip
