"""Inline assembly that public kernels have: PTX on registers, packs of narrow numbers. Oracles in
numpy, bit by bit."""

import re

import numpy as np
import triton
import triton.language as tl
from harness import ROOT, Case, Tensor, bf16
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


@triton.jit
def joined(a):
    return tl.inline_asm_elementwise("bar.sync 0; mov.b32 $0, $1;", "=r,r", [a], dtype=tl.int32,
                                     is_pure=True, pack=1)  # fmt: skip


@triton.jit
def refused(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, joined(tl.load(x + i)))


# Every row of the compiler's table, on random registers, by kind of number.
ROWS = re.findall(r'PTX_OP\("([^"]+)", "(\w):(\w+)"', (ROOT / "ttir/emit/ptx.def").read_text())


def row_text(opcode, result, operands):
    """The instruction on $1, $2, ..., narrowed or widened where it wants other registers."""
    lines, words = (
        [".reg .b16 low<5>, high<5>, small; .reg .b64 wide<5>, large; .reg .b32 rest;"],
        [],
    )
    for k, letter in enumerate(operands):
        if letter == "h":
            lines.append(f"mov.b32 {{low{k}, high{k}}}, ${k + 1};")
        elif letter == "l":
            lines.append(f"mov.b64 wide{k}, {{${k + 1}, ${k + 1}}};")
        words.append({"h": f"low{k}", "l": f"wide{k}", "r": f"${k + 1}"}[letter])
    to = {"h": "small", "l": "large", "r": "$0"}[result]
    lines.append(f"{opcode} {', '.join([to, *words])};")
    if result == "h":
        lines.append("mov.b32 $0, {small, small};")
    elif result == "l":
        lines.append("mov.b64 {$0, rest}, large;")
    return "{ " + " ".join(lines) + " }"


@triton.jit
def every_instruction(out, w, x, y, z, N: tl.constexpr, TEXT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b, c, d = tl.load(w + i), tl.load(x + i), tl.load(y + i), tl.load(z + i)
    for k in tl.static_range(N):
        r = tl.inline_asm_elementwise(TEXT[k], "=r,r,r,r,r", [a, b, c, d], dtype=tl.int32,
                                      is_pure=True, pack=1)  # fmt: skip
        tl.store(out + k * BLOCK + i, r)


def signed(v):
    return v.astype(np.uint32).view(np.int32).astype(np.int64)


def field(a, at, n):
    at, n = at & 255, n & 255
    shifted = np.where(at > 31, 0, a >> np.minimum(at, 31))
    return shifted & np.where(n > 31, 2**32 - 1, (1 << np.minimum(n, 31)) - 1)


def signed_field(a, at, n):
    at, n = at & 255, n & 255
    out = np.zeros_like(a)
    for bit in range(32):
        last = np.minimum(at + n - 1, 31)
        from_bit = np.where((bit < n) & (at + bit <= 31), at + bit, last)
        out |= np.where(n == 0, 0, a >> from_bit & 1) << bit
    return out


def inserted(a, b, at, n):
    at, n = at & 255, n & 255
    mask = np.where(at > 31, 0, ((1 << np.minimum(n, 32)) - 1) << np.minimum(at, 31)) % 2**32
    return (b & ~mask) | (a << np.minimum(at, 31) & mask)


def doubled(v):
    return (v & 0xFFFF) * 0x10001


INTEGERS = {
    "mov.b16": doubled, "mov.u16": doubled, "and.b16": lambda a, b: doubled(a & b),
    "or.b16": lambda a, b: doubled(a | b), "xor.b16": lambda a, b: doubled(a ^ b),
    **{f"mov.{t}": lambda a: a for t in ("b32", "u32", "s32", "f32", "b64", "u64")},
    "and.b32": lambda a, b: a & b, "or.b32": lambda a, b: a | b, "xor.b32": lambda a, b: a ^ b,
    "not.b32": lambda a: ~a, "lop3.b32": None, "prmt.b32": prmt,
    "shl.b32": lambda a, b: np.where(b > 31, 0, a << np.minimum(b, 31)),
    **{f"shr.{t}": lambda a, b: np.where(b > 31, 0, a >> np.minimum(b, 31))
       for t in ("b32", "u32")},
    "shr.s32": lambda a, b: signed(a) >> np.minimum(b, 31),
    "shf.l.wrap.b32": lambda a, b, c: (b << (c & 31)) | (a >> (32 - (c & 31))),
    "shf.r.wrap.b32": lambda a, b, c: (a >> (c & 31)) | (b << (32 - (c & 31))),
    "bfe.u32": field, "bfe.s32": signed_field, "bfi.b32": inserted,
    "brev.b32": lambda a: sum((a >> k & 1) << (31 - k) for k in range(32)),
    "popc.b32": lambda a: sum(a >> k & 1 for k in range(32)),
    "clz.b32": lambda a: 32 - np.ceil(np.log2(a + 1.0)).astype(np.int64),
    **{f"add.{t}": lambda a, b: a + b for t in ("u32", "s32")},
    **{f"sub.{t}": lambda a, b: a - b for t in ("u32", "s32")},
    **{f"mul.lo.{t}": lambda a, b: a * b for t in ("u32", "s32")},
    "mul.hi.u32": lambda a, b: (a.astype(np.uint64) * b.astype(np.uint64) >> 32).astype(np.int64),
    **{f"mad.lo.{t}": lambda a, b, c: a * b + c for t in ("u32", "s32")},
    "min.u32": np.minimum, "max.u32": np.maximum,
    "min.s32": lambda a, b: np.minimum(signed(a), signed(b)),
    "max.s32": lambda a, b: np.maximum(signed(a), signed(b)),
    "cvt.u32.u16": lambda a: a & 0xFFFF, "cvt.u16.u32": doubled,
    "cvt.rn.f32.s32": lambda a: bits_of_f32(signed(a)), "cvt.rn.f32.u32": lambda a: bits_of_f32(a),
    "cvt.rn.f16x2.e2m1x2": lambda a: packed16(E2M1[a >> 4 & 15], E2M1[a & 15]),
}  # fmt: skip
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def bits_of_f32(v):
    return v.astype(np.float32).view(np.uint32).astype(np.int64)


def packed16(high, low, kind="fp16"):
    if kind == "bf16":
        high, low = bf16(high).bits, bf16(low).bits
    else:
        high, low = (v.astype(np.float16).view(np.uint16) for v in (high, low))
    return high.astype(np.int64) << 16 | low


ARITHMETIC = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "fma": lambda a, b, c: a * b + c, "min": np.minimum, "max": np.maximum, "abs": np.abs,
    "neg": np.negative,
}  # fmt: skip
F8 = {"e4m3x2": "fp8e4nv", "e5m2x2": "fp8e5"}


def float_oracle(opcode, kind):
    """Of exact instructions, on fp64 values of `kind`; None: another kind's, or approximate."""
    words = opcode.split(".")
    name, last = words[0], words[-1]
    if name in ARITHMETIC and last == {"fp32": "f32", "fp16": "f16x2", "bf16": "bf16x2"}[kind]:
        if kind == "fp32":
            return lambda *v: bits_of_f32(ARITHMETIC[name](*(x[0] for x in v)))
        return lambda *v: packed16(*(ARITHMETIC[name](*(x[half] for x in v)) for half in (1, 0)),
                                   kind)  # fmt: skip
    if name != "cvt":
        return None
    if kind == "fp32":
        return {
            "cvt.rn.f16.f32": lambda a: packed16(a[0], a[0]),
            "cvt.rn.bf16.f32": lambda a: packed16(a[0], a[0], "bf16"),
            "cvt.rn.f16x2.f32": lambda a, b: packed16(a[0], b[0]),
            "cvt.rn.bf16x2.f32": lambda a, b: packed16(a[0], b[0], "bf16"),
            "cvt.rna.tf32.f32": lambda a: (bits_of_f32(a[0]) + 0x1000) & 0xFFFFE000,
            "cvt.rni.s32.f32": lambda a: np.rint(a[0]).astype(np.int64),
            "cvt.rzi.s32.f32": lambda a: np.trunc(a[0]).astype(np.int64),
            **{f"cvt.rn.satfinite.{t}.f32": lambda a, b, f=f: doubled(
                nearest(f, a[0]).astype(np.int64) << 8 | nearest(f, b[0])) for t, f in F8.items()},
        }.get(opcode)  # fmt: skip
    if kind == "bf16":
        return {"cvt.f32.bf16": lambda a: bits_of_f32(a[0])}.get(opcode)
    return {
        "cvt.f32.f16": lambda a: bits_of_f32(a[0]),
        **{f"cvt.rn.satfinite.{t}.f16x2": lambda a, f=f: doubled(
            nearest(f, a[1]).astype(np.int64) << 8 | nearest(f, a[0])) for t, f in F8.items()},
    }.get(opcode)  # fmt: skip


def narrow_oracle(opcode):
    for t, f in F8.items():
        if opcode == f"cvt.rn.f16x2.{t}":
            return lambda a, f=f: packed16(table(f)[a >> 8 & 255], table(f)[a & 255])
    return None


def instruction_cases(rng, block=32):
    seen = set()

    def case(kind, rows, words, wants):
        seen.update(opcode for opcode, *_ in rows)
        texts = tuple(tl.constexpr(row_text(*row)) for row in rows)
        args = [np.zeros((len(rows), block), np.uint32), *words]
        consts = {"N": len(rows), "TEXT": texts, "BLOCK": block}
        want = np.stack([w % 2**32 for w in wants]).astype(np.uint32)
        return Case(every_instruction, (1,), args, consts, kind, want=lambda a: {0: want})

    words = rng.integers(0, 2**32, (4, block), dtype=np.uint32)
    words[1:3, ::2] %= 40  # shifts and widths
    wide = list(words.astype(np.int64))
    oracles = {**INTEGERS, "lop3.b32": lambda a, b, c, d: lop3_each(a, b, c, d & 255)}
    rows = [r for r in ROWS if r[0] in oracles]
    yield case("integers", rows, words,
               [oracles[op](*wide[: len(takes)]) for op, _, takes in rows])  # fmt: skip
    for kind in ("fp32", "fp16", "bf16"):
        values = rng.normal(size=(4, 2, block)) * 40
        if kind == "fp32":
            values = np.repeat(values[:, :1].astype(np.float32), 2, 1)
            words = values[:, 0].view(np.uint32)
        else:
            words = np.stack([packed16(v[1], v[0], kind) for v in values]).astype(np.uint32)
            halves = [(words >> shift & 0xFFFF).astype(np.uint16) for shift in (0, 16)]
            back = [h.view(np.float16) if kind == "fp16" else
                    (h.astype(np.uint32) << 16).view(np.float32) for h in halves]  # fmt: skip
            values = np.stack(back, 1)
        exact = list(values.astype(np.float64))
        rows = [r for r in ROWS if float_oracle(r[0], kind)]
        yield case(kind, rows, words,
                   [float_oracle(op, kind)(*exact[: len(t)]) for op, _, t in rows])  # fmt: skip
    numbers = rng.choice(
        np.flatnonzero(np.isfinite(table("fp8e4nv") + table("fp8e5"))), (4, block, 2)
    )
    words = (numbers[..., 0] | numbers[..., 1] << 8).astype(np.uint32)
    rows = [r for r in ROWS if narrow_oracle(r[0])]
    yield case(
        "fp8", rows, words, [narrow_oracle(op)(words[0].astype(np.int64)) for op, *_ in rows]
    )
    left = {op for op, *_ in ROWS} - seen
    assert all(".approx." in op for op in left), f"no oracle for {left}"


def lop3_each(a, b, c, luts):
    return np.array([lop3(*(v[k : k + 1] for v in (a, b, c)), int(luts[k]))[0]
                     for k in range(len(a))])  # fmt: skip


def cases():
    yield from instruction_cases(np.random.default_rng(16))
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
    functions = {"ex2": np.exp2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
                 "sqrt": np.sqrt, "rcp": lambda v: 1 / v,
                 "rsqrt": lambda v: v**-0.5, "lg2": np.log2}  # fmt: skip
    x = np.abs(rng.normal(size=16)).astype(np.float32) + np.float32(0.1)
    rows = [op for op, *_ in ROWS if ".approx." in op and op.endswith(".f32")]
    want = np.stack([functions[op.split(".")[0]](x.astype(np.float64)) for op in rows])
    texts = [f"{op} $0, $1;" for op in rows]
    args = [np.zeros((len(texts), 16), np.float32), x]
    consts = {"N": len(texts), "TEXT": words(*texts), "BLOCK": 16}
    yield Case(approximated, (1,), args, consts, "", 1e-6, 1e-7,
               want=lambda args, want=want: {0: want})  # fmt: skip
