"""Quantised weights as operands of NVIDIA's matrix units, in registers: tiles of them to tiles of
16-bit numbers; and 64-bit words of 8 or 16 of them to words of four (kernels/lib/mma.py).

Of words a lane has two words of a row, 16 bytes one after the other. Of these the first two tiles
hold the first word's numbers and the second's, in order; of 4 bits those in the low halves of their
bytes, and two more tiles those in the high halves. i8 comes as it is, 4 bits less 8, floats of 8
bits as they are; all exact in fp16 and bf16.
"""

import triton
import triton.language as tl

_REGISTERS = ".reg .b32 a<4>, d<8>, t, m, c; .reg .b16 s<2>; .reg .f32 f<2>;"
# What two 16-bit numbers in a register are multiplied by and added to.
_MUL_ADD = "mov.b32 m, {factor}; mov.b32 c, {addend}; fma.rn.{kind}x2 {d}, {d}, m, c;"


def _e4m3_half(d, word, pair):
    return f"mov.b32 {{s0, s1}}, {word}; cvt.rn.f16x2.e4m3x2 {d}, s{pair};"


def _e4m3_bf16(d, word, pair):
    # Sign and exponent to where they belong; exponents count from elsewhere, by 2^120.
    select = ("0x1404", "0x3424")[pair]
    return (
        f"prmt.b32 t, {word}, 0, {select}; shr.u32 {d}, t, 4; and.b32 {d}, {d}, 0x07f007f0;"
        f" lop3.b32 {d}, t, 0x80008000, {d}, 0xea;"
        + _MUL_ADD.format(kind="bf16", d=d, factor="0x7b807b80", addend="0x80008000")
    )


def _e5m2_half(d, word, pair):
    return f"prmt.b32 {d}, {word}, 0, {('0x1404', '0x3424')[pair]};"


def _e5m2_bf16(d, word, pair):
    select = ("0x1404", "0x3424")[pair]
    return (
        f"prmt.b32 t, {word}, 0, {select}; shr.u32 {d}, t, 3; and.b32 {d}, {d}, 0x0fe00fe0;"
        f" lop3.b32 {d}, t, 0x80008000, {d}, 0xea;"
        + _MUL_ADD.format(kind="bf16", d=d, factor="0x77807780", addend="0x80008000")
    )


def _i8_half(d, word, pair):
    # 1024 + 128 + q, less these; `word` has its sign bits turned.
    select = ("0x4140", "0x4342")[pair]
    return f"prmt.b32 {d}, {word}, 0x64646464, {select};" + _MUL_ADD.format(
        kind="f16", d=d, factor="0x3c003c00", addend="0xe480e480"
    )


def _i8_bf16(d, word, pair):
    # 2^23 + 128 + q as fp32, for bf16 has no room for it.
    lines = ""
    for i in range(2):
        select = f"0x744{2 * pair + i}"
        lines += (
            f"prmt.b32 t, {word}, 0x4b000000, {select}; mov.b32 f{i}, t;"
            f" sub.rn.f32 f{i}, f{i}, 0f4B000080;"
        )
    return lines + f"cvt.rn.bf16x2.f32 {d}, f1, f0;"


def _u4_half(d, word, pair, is_high):
    # 1024 + q, or 1024 + 16 q; `word` has its bytes in the order 0, 2, 1, 3.
    shifted = f"shr.u32 t, {word}, 8;" if pair else f"mov.b32 t, {word};"
    mask, factor, addend = (
        ("0x00f000f0", "0x2c002c00", "0xd480d480")
        if is_high
        else ("0x000f000f", "0x3c003c00", "0xe408e408")
    )
    return f"{shifted} lop3.b32 {d}, t, {mask}, 0x64006400, 0xea;" + _MUL_ADD.format(
        kind="f16", d=d, factor=factor, addend=addend
    )


def _u4_bf16(d, word, pair, is_high):
    # 128 + q.
    return (
        f"shr.u32 t, {word}, {8 * pair + 4 * is_high};"
        f" lop3.b32 {d}, t, 0x000f000f, 0x43004300, 0xea;"
        + _MUL_ADD.format(kind="bf16", d=d, factor="0x3f803f80", addend="0xc308c308")
    )


def _eight_bits(convert, prepare=""):
    """Two words in ($4, $5), their numbers in order out ($0, $1; $2, $3)."""
    lines = ["mov.b64 {a0, a1}, $4; mov.b64 {a2, a3}, $5;"]
    lines += [prepare.format(word=f"a{i}") for i in range(4)] if prepare else []
    for i in range(4):
        lines += [convert(f"d{2 * i}", f"a{i}", 0), convert(f"d{2 * i + 1}", f"a{i}", 1)]
    lines += [f"mov.b64 ${i}, {{d{2 * i}, d{2 * i + 1}}};" for i in range(4)]
    return "{" + _REGISTERS + "\n".join(lines) + "}"


def _four_bits(convert):
    """Two words in ($8, $9); low halves out in $0 to $3, high ones in $4 to $7."""
    lines = ["mov.b64 {a0, a1}, $8; mov.b64 {a2, a3}, $9;"]
    lines += [f"prmt.b32 a{i}, a{i}, 0, 0x3120;" for i in range(4)]
    for high in (0, 1):
        for i in range(4):
            for pair in (0, 1):
                lines += [convert(f"d{2 * i + pair}", f"a{i}", pair, high)]
        lines += [f"mov.b64 ${4 * high + i}, {{d{2 * i}, d{2 * i + 1}}};" for i in range(4)]
    return "{" + _REGISTERS + "\n".join(lines) + "}"


def _tile(convert, prepare=""):
    """Four numbers, or bytes of two, in $2, to $0 and $1."""
    lines = f"mov.b32 a0, $2; {prepare.format(word='a0')} {convert('$0', 'a0', 0)}"
    return "{" + _REGISTERS + lines + convert("$1", "a0", 1) + "}"


def _low(convert):
    return lambda d, word, pair: convert(d, word, pair, 0)


def _high(convert):
    return lambda d, word, pair: convert(d, word, pair, 1)


_TURN = "xor.b32 {word}, {word}, 0x80808080;"
_E4M3_HALF = tl.constexpr(_eight_bits(_e4m3_half))
_E4M3_BF16 = tl.constexpr(_eight_bits(_e4m3_bf16))
_E5M2_HALF = tl.constexpr(_eight_bits(_e5m2_half))
_E5M2_BF16 = tl.constexpr(_eight_bits(_e5m2_bf16))
_I8_HALF = tl.constexpr(_eight_bits(_i8_half, _TURN))
_I8_BF16 = tl.constexpr(_eight_bits(_i8_bf16, _TURN))
_U4_HALF = tl.constexpr(_four_bits(_u4_half))
_U4_BF16 = tl.constexpr(_four_bits(_u4_bf16))

_ORDER = "prmt.b32 {word}, {word}, 0, 0x3120;"
_I8_TILE_HALF = tl.constexpr(_tile(_i8_half, _TURN))
_I8_TILE_BF16 = tl.constexpr(_tile(_i8_bf16, _TURN))
_LOW_TILE_HALF = tl.constexpr(_tile(_low(_u4_half), _ORDER))
_LOW_TILE_BF16 = tl.constexpr(_tile(_low(_u4_bf16), _ORDER))
_HIGH_TILE_HALF = tl.constexpr(_tile(_high(_u4_half), _ORDER))
_HIGH_TILE_BF16 = tl.constexpr(_tile(_high(_u4_bf16), _ORDER))


@triton.jit
def of_tile(q, ASM: tl.constexpr, BF16: tl.constexpr):
    if BF16:
        return tl.inline_asm_elementwise(
            ASM, "=r,=r,r", [q], dtype=tl.bfloat16, is_pure=True, pack=4
        )
    else:
        return tl.inline_asm_elementwise(
            ASM, "=r,=r,r", [q], dtype=tl.float16, is_pure=True, pack=4
        )


@triton.jit
def tile_as_halves(q, PART: tl.constexpr, dtype: tl.constexpr):
    """As `dtype`, of 16 bits; of 4 bits the low ones of bytes, in PART 1 the high ones, less 8."""
    BF16: tl.constexpr = dtype == tl.bfloat16
    LOW: tl.constexpr = _LOW_TILE_BF16 if BF16 else _LOW_TILE_HALF
    HIGH: tl.constexpr = _HIGH_TILE_BF16 if BF16 else _HIGH_TILE_HALF
    if q.dtype == tl.uint8:
        return of_tile(q, HIGH if PART == 1 else LOW, BF16)
    elif q.dtype == tl.int8:
        return of_tile(q, _I8_TILE_BF16 if BF16 else _I8_TILE_HALF, BF16)
    else:
        return q.to(dtype)


@triton.jit
def of_eight_bits(words, ASM: tl.constexpr):
    return tl.inline_asm_elementwise(
        ASM, "=l,=l,=l,=l,l,l", [words], dtype=(tl.int64, tl.int64), is_pure=True, pack=2
    )


@triton.jit
def of_four_bits(words, ASM: tl.constexpr):
    return tl.inline_asm_elementwise(
        ASM, "=l,=l,=l,=l,=l,=l,=l,=l,l,l", [words],
        dtype=(tl.int64, tl.int64, tl.int64, tl.int64), is_pure=True, pack=2,
    )  # fmt: skip


@triton.jit
def as_halves(words, dtype: tl.constexpr, BF16: tl.constexpr):
    """Words of weights of `dtype` to tiles of words of four 16-bit numbers."""
    if dtype == tl.uint8:
        return of_four_bits(words, _U4_BF16 if BF16 else _U4_HALF)
    elif dtype == tl.int8:
        return of_eight_bits(words, _I8_BF16 if BF16 else _I8_HALF)
    elif dtype == tl.float8e4nv:
        return of_eight_bits(words, _E4M3_BF16 if BF16 else _E4M3_HALF)
    elif dtype == tl.float8e5:
        return of_eight_bits(words, _E5M2_BF16 if BF16 else _E5M2_HALF)
    else:
        return (words,)
