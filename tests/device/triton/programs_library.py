"""libdevice: the functions that kernels call by name, against Python's own."""

import math

import numpy as np
import triton
import triton.language as tl
from harness import Case
from triton.language.extra import libdevice as ld


@triton.jit
def library_unary(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    p = ld.abs(a) + 0.25
    u = a / 8
    tl.store(out + i, ld.tanh(a))
    tl.store(out + BLOCK + i, ld.tan(u))
    tl.store(out + 2 * BLOCK + i, ld.asin(u))
    tl.store(out + 3 * BLOCK + i, ld.acos(u))
    tl.store(out + 4 * BLOCK + i, ld.atan(a))
    tl.store(out + 5 * BLOCK + i, ld.sinh(u))
    tl.store(out + 6 * BLOCK + i, ld.cosh(u))
    tl.store(out + 7 * BLOCK + i, ld.log1p(p))
    tl.store(out + 8 * BLOCK + i, ld.expm1(u))
    tl.store(out + 9 * BLOCK + i, ld.log10(p))
    tl.store(out + 10 * BLOCK + i, ld.cbrt(a))
    tl.store(out + 11 * BLOCK + i, ld.erfc(u))
    tl.store(out + 12 * BLOCK + i, ld.lgamma(p))
    tl.store(out + 13 * BLOCK + i, ld.tgamma(p))
    tl.store(out + 14 * BLOCK + i, ld.trunc(a))
    tl.store(out + 15 * BLOCK + i, ld.rint(a))
    tl.store(out + 16 * BLOCK + i, ld.round(a))
    tl.store(out + 17 * BLOCK + i, ld.exp10(u))
    tl.store(out + 18 * BLOCK + i, ld.sinpi(a))
    tl.store(out + 19 * BLOCK + i, ld.erf(ld.erfinv(u)))
    tl.store(out + 20 * BLOCK + i, ld.normcdf(u))
    tl.store(out + 21 * BLOCK + i, ld.asinh(a))
    tl.store(out + 22 * BLOCK + i, ld.isnan(a).to(tl.float32))
    tl.store(out + 23 * BLOCK + i, ld.isinf(a / 0.0).to(tl.float32))


@triton.jit
def library_binary(out, whole, x, y, bits, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, ld.pow(ld.abs(a), b))
    tl.store(out + BLOCK + i, ld.atan2(a, b))
    tl.store(out + 2 * BLOCK + i, ld.hypot(a, b))
    tl.store(out + 3 * BLOCK + i, ld.fmod(a, b))
    tl.store(out + 4 * BLOCK + i, ld.copysign(a, b))
    tl.store(out + 5 * BLOCK + i, ld.fast_dividef(a, b))
    c = tl.load(bits + i)
    tl.store(whole + i, ld.popc(c))
    tl.store(whole + BLOCK + i, ld.clz(c))
    tl.store(whole + 2 * BLOCK + i, ld.ffs(c))
    tl.store(whole + 3 * BLOCK + i, ld.float2int_rd(a))
    tl.store(whole + 4 * BLOCK + i, ld.float2int_rn(a))
    tl.store(whole + 5 * BLOCK + i, ld.float_as_int(a))


def cases():
    rng = np.random.default_rng(9)
    x = (rng.uniform(-7.5, 7.5, 64)).astype(np.float32)
    x[:4] = [0.5, -2.5, 3.0, -1.0]
    args = [np.zeros(24 * 64, np.float32), x]
    yield Case(library_unary, (1,), args, {"BLOCK": 64}, "", 2e-5, 2e-6, want=unary)
    y = (rng.uniform(0.5, 3.0, 64) * rng.choice([-1, 1], 64)).astype(np.float32)
    bits = rng.integers(-(2**31), 2**31, 64).astype(np.int32)
    bits[:2] = [0, 8]
    args = [np.zeros(6 * 64, np.float32), np.zeros(6 * 64, np.int32), x, y, bits]
    yield Case(library_binary, (1,), args, {"BLOCK": 64}, "", 2e-5, 2e-6, want=binary)


def each(function, *arrays):
    return [function(*map(float, row)) for row in zip(*arrays, strict=True)]


def unary(args):
    a = args[1]
    p, u = np.abs(a) + np.float32(0.25), a / 8
    rows = [each(math.tanh, a), each(math.tan, u), each(math.asin, u), each(math.acos, u),
            each(math.atan, a), each(math.sinh, u), each(math.cosh, u), each(math.log1p, p),
            each(math.expm1, u), each(math.log10, p), np.cbrt(a), each(math.erfc, u),
            each(math.lgamma, p), each(math.gamma, p), np.trunc(a), np.rint(a),
            np.copysign(np.floor(np.abs(a) + 0.5), a), each(lambda v: 10.0**v, u),
            each(lambda v: math.sin(math.pi * math.fmod(v, 2)), a), u,
            each(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), u), each(math.asinh, a),
            np.zeros(64), np.ones(64)]  # fmt: skip
    return {0: np.concatenate(rows)}


def binary(args):
    _, _, x, y, bits = args
    rows = [each(lambda a, b: abs(a) ** b, x, y), each(math.atan2, x, y), each(math.hypot, x, y),
            each(math.fmod, x, y), each(math.copysign, x, y), x / y]  # fmt: skip
    unsigned = [int(v) % 2**32 for v in bits]
    whole = [[v.bit_count() for v in unsigned], [32 - v.bit_length() for v in unsigned],
             [(v & -v).bit_length() for v in unsigned], np.floor(x), np.rint(x),
             x.view(np.int32)]  # fmt: skip
    return {0: np.concatenate(rows), 1: np.concatenate(whole).astype(np.int32)}
