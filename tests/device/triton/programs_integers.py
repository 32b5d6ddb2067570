"""Integers: wrapping, the sign of quotients and remainders, shifts, bits, order, conversions."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def integer_arithmetic(out, x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    a = tl.load(x + i, mask=mask, other=1)
    b = tl.load(y + i, mask=mask, other=1)
    tl.store(out + i, a + b, mask=mask)
    tl.store(out + n + i, a - b, mask=mask)
    tl.store(out + 2 * n + i, a * b, mask=mask)
    tl.store(out + 3 * n + i, a // b, mask=mask)
    tl.store(out + 4 * n + i, a % b, mask=mask)
    tl.store(out + 5 * n + i, (a & b) | (a ^ 5), mask=mask)
    tl.store(out + 6 * n + i, ~a, mask=mask)
    tl.store(out + 7 * n + i, a >> (b & 7), mask=mask)
    tl.store(out + 8 * n + i, a << (b & 7), mask=mask)
    tl.store(out + 9 * n + i, tl.maximum(a, b), mask=mask)
    tl.store(out + 10 * n + i, tl.minimum(a, b), mask=mask)
    tl.store(out + 11 * n + i, tl.where(a < b, a, b + 1), mask=mask)
    tl.store(out + 12 * n + i, ((a <= b) & (a != 3)).to(out.dtype.element_ty), mask=mask)
    tl.store(out + 13 * n + i, tl.cdiv(a, 3), mask=mask)


@triton.jit
def integer_conversions(wide, narrow, real, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(wide + i, a.to(tl.int64))
    tl.store(narrow + i, a.to(tl.int8))
    tl.store(real + i, a.to(tl.float32))
    tl.store(real + BLOCK + i, a.to(tl.float64).to(tl.float32))
    tl.store(real + 2 * BLOCK + i, a.to(tl.int1).to(tl.float32))
    tl.store(real + 3 * BLOCK + i, a.to(tl.float16).to(tl.float32))


@triton.jit
def high_products(out, x, y, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, tl.umulhi(a, b))
    tl.store(out + BLOCK + i, tl.abs(a))


@triton.jit
def products_of_bytes(out, x, y, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    # The same words of y for every row: the sum that the CPU target has an instruction for, on top
    # of another and of nothing.
    i = tl.arange(0, ROWS)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    a, b = tl.load(x + i), tl.load(y + tl.arange(0, BLOCK))[None, :]
    total = tl.zeros((ROWS, BLOCK), tl.int32)
    for side in tl.static_range(2):
        total += (a & 255) * ((b << 24) >> 24)
        total += ((a >> 8) & 255) * ((b << 16) >> 24)
        total += ((a >> 16) & 255) * ((b << 8) >> 24)
        total += ((a >> 24) & 255) * (b >> 24)
        if side == 0:
            total = total << 8
    tl.store(out + i, total)


def cases():
    rng = np.random.default_rng(1)
    n = 75
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, n, dtype, endpoint=True)
        y = rng.integers(info.min, info.max, n, dtype, endpoint=True)
        x[:4] = [info.max, info.min, 7, 3]
        y[y == 0] = 5
        y[2:4] = [2, 3]
        y[(x == info.min) & (y == dtype(-1 if info.min else 1))] = 1
        out = np.zeros(14 * n, dtype)
        yield Case(integer_arithmetic, (2,), [out, x, y, n], {"BLOCK": 64}, np.dtype(dtype).name)
    for dtype in (np.int8, np.int16, np.int32, np.uint8, np.uint16):
        x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 32, dtype)
        x[:2] = 0
        arrays = [np.zeros(32, np.int64), np.zeros(32, np.int8), np.zeros(128, np.float32), x]
        yield Case(integer_conversions, (1,), arrays, {"BLOCK": 32}, np.dtype(dtype).name,
                   want=converted)  # fmt: skip
    for dtype in (np.int32, np.int64):
        info = np.iinfo(dtype)
        x, y = (rng.integers(info.min + 1, info.max, 32, dtype) for _ in range(2))
        yield Case(high_products, (1,), [np.zeros(64, dtype), x, y], {"BLOCK": 32},
                   np.dtype(dtype).name, want=high)  # fmt: skip
    info = np.iinfo(np.int32)
    for block in (8, 16, 64):
        x, y = (rng.integers(info.min, info.max, n, np.int32) for n in (4 * block, block))
        yield Case(products_of_bytes, (1,), [np.zeros((4, block), np.int32), x, y],
                   {"ROWS": 4, "BLOCK": block}, str(block))  # fmt: skip


def converted(args):
    x = args[3]
    real = [x, x.astype(np.float64), x != 0, x.astype(np.float32).astype(np.float16)]
    return {0: x.astype(np.int64), 1: x.astype(np.int8),
            2: np.concatenate([r.astype(np.float32) for r in real])}  # fmt: skip


def high(args):
    n_bits = args[1].dtype.itemsize * 8
    modulus = 1 << n_bits
    products = [int(a) % modulus * (int(b) % modulus) >> n_bits for a, b in zip(args[1], args[2])]
    signed = [p - modulus if p >= modulus // 2 else p for p in products]
    return {0: np.concatenate([np.array(signed, args[0].dtype), np.abs(args[1])])}
