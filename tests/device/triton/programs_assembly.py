"""Inline assembly that public kernels have: PTX on registers, packs of narrow numbers. Oracles in
numpy, bit by bit."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, Tensor
from programs_float8 import nearest, table


@triton.jit
def bit_tricks(out, x, y, z, N: tl.constexpr, TEXT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for k in tl.static_range(N):
        a = tl.inline_asm_elementwise(TEXT[k], "=r,r,r,r",
                                      [tl.load(x + i), tl.load(y + i), tl.load(z + i)],
                                      dtype=tl.int32, is_pure=True, pack=1)  # fmt: skip
        tl.store(out + k * BLOCK + i, a)


def lop3(a, b, c, lut):
    out = np.zeros_like(a)
    for bit in range(32):
        index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)
        out |= (lut >> index & 1) << bit
    return out


def prmt(a, b, selector):
    both = [(v >> 8 * k & 255) for v in (a, b) for k in range(4)]
    out = np.zeros_like(a)
    for k in range(4):
        nibble = selector >> 4 * k & 15
        byte = np.choose(nibble & 7, both)
        byte = np.where(nibble & 8, np.where(byte & 128, 255, 0), byte)
        out |= byte << 8 * k
    return out


@triton.jit
def dequantised(out, x, BLOCK: tl.constexpr):
    """Four numbers of 4 bits in 16 of a register to fp16: 1024 + n, then minus 1032."""
    a, b = tl.inline_asm_elementwise(
        """{
        .reg .b32 t<2>, bias; /* the biases of both halves */
        mov.b32 bias, 0x64086408;
        shr.u32 t0, $2, 4;
        lop3.b32 t1, t0, 0x000f000f, 0x64006400, 0xEA; // (a & mask) | magic
        lop3.b32 t0, $2, 0x000f000f, 0x64006400, 0xEA;
        sub.f16x2 $0, t0, bias;
        sub.f16x2 $1, t1, bias;
        }""", "=r,=r,r", [tl.load(x + tl.arange(0, BLOCK))], dtype=(tl.int32, tl.int32),
        is_pure=True, pack=1)  # fmt: skip
    i = tl.arange(0, BLOCK)
    tl.store(out + i, a)
    tl.store(out + BLOCK + i, b)


@triton.jit
def converted(half, back, narrow, x, f8, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    h = tl.inline_asm_elementwise(
        """{ .reg .b16 low, high; mov.b32 {low, high}, $2;
        cvt.rn.f16x2.e4m3x2 $0, low; cvt.rn.f16x2.e4m3x2 $1, high; }""",
        "=r,=r,r", [tl.load(f8 + i)], dtype=tl.float16, is_pure=True, pack=4)  # fmt: skip
    tl.store(half + i, h)
    a = tl.load(x + i)
    b = tl.inline_asm_elementwise("cvt.rna.tf32.f32 $0, $1;", "=r,r", [a], dtype=tl.float32,
                                  is_pure=True, pack=1)  # fmt: skip
    tl.store(back + i, b)
    # The first operand of a pair goes to the upper half.
    n = tl.inline_asm_elementwise(
        """{ .reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, $2, $1;
        cvt.rn.satfinite.e4m3x2.f32 high, $4, $3; mov.b32 $0, {low, high}; }""",
        "=r,f,f,f,f", [a], dtype=tl.int8, is_pure=True, pack=4)  # fmt: skip
    tl.store(narrow + i, n)


@triton.jit
def approximated(out, x, N: tl.constexpr, TEXT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for k in tl.static_range(N):
        a = tl.inline_asm_elementwise(TEXT[k], "=f,f", [tl.load(x + i)], dtype=tl.float32,
                                      is_pure=True, pack=1)  # fmt: skip
        tl.store(out + k * BLOCK + i, a)


def cases():
    rng = np.random.default_rng(14)
    # A constant of a program is a tuple of constants.
    words = lambda *texts: tuple(tl.constexpr(t) for t in texts)  # noqa: E731
    for block in (1, 32):
        luts = [0xEA, 0x96, *(int(v) for v in rng.integers(0, 256, 3))]
        texts = [f"lop3.b32 $0, $1, $2, $3, {lut:#x};" for lut in luts]
        texts += ["prmt.b32 $0, $1, $2, $3;", "bfe.u32 $0, $1, 5, 7;",
                  "{.reg .b32 t; shl.b32 t, $1, 3; xor.b32 $0, t, $2; }",
                  "mad.lo.s32 $0, $1, $2, $3;", "shf.l.wrap.b32 $0, $1, $2, 9;"]  # fmt: skip
        x, y, z = rng.integers(0, 2**32, (3, block), dtype=np.uint32)

        def want(args, luts=luts):
            a, b, c = args[1:]
            wide = [v.astype(np.int64) for v in (a, b, c)]
            rows = [lop3(*wide, lut) for lut in luts]
            rows += [prmt(*wide), wide[0] >> 5 & 127, (wide[0] << 3) ^ wide[1],
                     wide[0] * wide[1] + wide[2], (wide[1] << 9) | (wide[0] >> 23)]  # fmt: skip
            return {0: np.stack(rows).astype(np.uint32)}

        args = [np.zeros((len(texts), block), np.uint32), x, y, z]
        consts = {"N": len(texts), "TEXT": words(*texts), "BLOCK": block}
        yield Case(bit_tricks, (1,), args, consts, str(block), want=want)
    x = rng.integers(0, 2**32, 32, dtype=np.uint32)
    halves = [((x[:, None] >> np.array([0, 16])) >> shift & 15).astype(np.float16) - 8
              for shift in (0, 4)]  # fmt: skip
    want = np.concatenate([h.view(np.uint32).ravel() for h in halves])
    yield Case(dequantised, (1,), [np.zeros(64, np.uint32), x], {"BLOCK": 32},
               want=lambda args, want=want: {0: want})  # fmt: skip
    f8 = rng.integers(0, 0x7F, 64).astype(np.uint8)
    x = (rng.normal(size=64) * 200).astype(np.float32)
    tf32 = ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
    args = [np.zeros(64, np.float16), np.zeros(64, np.float32), np.zeros(64, np.uint8), x,
            Tensor(f8, "fp8e4nv")]  # fmt: skip
    expected = {0: table("fp8e4nv")[f8].astype(np.float16), 1: tf32, 2: nearest("fp8e4nv", x)}
    yield Case(converted, (1,), args, {"BLOCK": 64}, want=lambda args: expected)
    functions = {"ex2": np.exp2, "rcp": lambda v: 1 / v, "tanh": np.tanh, "sqrt": np.sqrt,
                 "rsqrt": lambda v: v**-0.5, "lg2": np.log2}  # fmt: skip
    x = np.abs(rng.normal(size=16)).astype(np.float32) + np.float32(0.1)
    want = np.stack([f(x.astype(np.float64)) for f in functions.values()])
    texts = [f"{name}.approx.f32 $0, $1;" for name in functions]
    args = [np.zeros((len(texts), 16), np.float32), x]
    consts = {"N": len(texts), "TEXT": words(*texts), "BLOCK": 16}
    yield Case(approximated, (1,), args, consts, "", 1e-6, 1e-7,
               want=lambda args, want=want: {0: want})  # fmt: skip
