"""Memory: masks and other values, strides, addresses in tables, descriptors, atomics and what they
return, compare and swap."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, bf16


@triton.jit
def masked(out, x, n, fill, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n, other=7))
    tl.store(out + BLOCK + i, tl.load(x + i, mask=i < n, other=fill))
    tl.store(out + 2 * BLOCK + i, tl.load(x + i * 2, mask=i * 2 < n, other=-1))
    tl.store(out + 3 * BLOCK + i, tl.load(x + i, mask=(i > 3) & (i < n) & (i % 2 == 0), other=9))
    tl.store(out + 4 * BLOCK + i, tl.load(x + (n - 1 - i), mask=i < n, other=0))
    tl.store(out + 5 * BLOCK + i, tl.load(x + i * 0, mask=i < n, other=3))
    one = tl.load(x + n, mask=n < 0, other=fill)
    tl.store(out + 6 * BLOCK + i, one + tl.load(x), mask=i % 3 != 1)


@triton.jit
def flagged(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=True)
    b = tl.load(x + i, mask=i < n, other=False)
    tl.store(out + i, a & ~b)
    tl.store(out + BLOCK + i, a ^ (i == 2))
    tl.store(out + 2 * BLOCK + i, tl.load(x + i * 0, mask=i > 1, other=True))


@triton.jit
def by_table(out, x, table, n, BLOCK: tl.constexpr, COLS: tl.constexpr):
    i, c = tl.arange(0, BLOCK), tl.arange(0, COLS)
    row = tl.load(table + i, mask=i < n, other=-1)
    mask = (row >= 0)[:, None] & (c < 5)[None, :]
    a = tl.load(x + row[:, None] * 5 + c[None, :], mask=mask, other=0.5)
    tl.store(out + i[:, None] * COLS + c[None, :], a)
    first = x + tl.load(table)
    tl.store(out + BLOCK * COLS + c, tl.load(first + c * 5, mask=c < 2, other=2.5))


@triton.jit
def described(out, x, rows, cols, R: tl.constexpr, C: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, cols], [cols, 1], [R, C])
    target = tl.make_tensor_descriptor(out, [rows, cols], [cols, 1], [R, C])
    for i in range(0, rows, R):
        for j in range(0, cols, C):
            target.store([i, j], source.load([i, j]) * 2)


@triton.jit
def described_edges(out, total, x, rows, cols, R: tl.constexpr, C: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [rows, cols], [cols, 1], [R, C])
    sums = tl.make_tensor_descriptor(total, [R, C], [C, 1], [R, C])
    r, c = tl.arange(0, R), tl.arange(0, C)
    at = r[:, None] * C + c[None, :]
    tl.store(out + at, source.load([rows - 2, cols - 3]))
    tl.store(out + R * C + at, source.load([-1, -2]))
    sums.atomic_add([0, 0], source.load([0, 0]))
    sums.atomic_add([1, 0], source.load([0, 0]))


@triton.jit
def atomics(out, cells, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = i < n
    a = tl.load(x + i, mask=mask, other=0)
    lone = tl.arange(0, BLOCK)
    tl.store(out + i, tl.atomic_add(cells + lone, a, mask=mask), mask=mask)
    tl.store(out + BLOCK + i, tl.atomic_max(cells + lone, a * 3, mask=mask), mask=mask)
    tl.store(out + 2 * BLOCK + i, tl.atomic_min(cells + lone, a - 1, mask=mask), mask=mask)
    tl.store(out + 3 * BLOCK + i, tl.atomic_xchg(cells + lone, a + 2, mask=mask), mask=mask)
    tl.store(out + 4 * BLOCK, tl.atomic_add(cells + BLOCK, n))
    tl.atomic_add(cells + BLOCK + 1 + (i & 3), a, mask=mask)


@triton.jit
def atomic_bits(out, cells, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(out + i, tl.atomic_and(cells + i, a))
    tl.store(out + BLOCK + i, tl.atomic_or(cells + i, a >> 2))
    tl.store(out + 2 * BLOCK + i, tl.atomic_xor(cells + i, a * 5))
    tl.store(out + 3 * BLOCK + i, tl.atomic_cas(cells + i, a, i))
    held = tl.load(cells + i)
    tl.store(out + 4 * BLOCK + i, tl.atomic_cas(cells + i, held, held + 1))
    tl.store(out + 5 * BLOCK, tl.atomic_cas(cells + BLOCK, 4, 9))
    tl.store(out + 5 * BLOCK + 1, tl.atomic_cas(cells + BLOCK, 4, 11))


@triton.jit
def locked_sum(total, lock, x, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.sum(tl.load(x + i), 0)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(total, tl.load(total) + part)
    tl.atomic_xchg(lock, 0)


@triton.jit
def described_atomics(cells, x, rows, cols, row, col, KIND: tl.constexpr, R: tl.constexpr,
                      C: tl.constexpr):  # fmt: skip
    box = tl.make_tensor_descriptor(cells, [rows, cols], [cols, 1], [R, C])
    a = tl.load(x + tl.arange(0, R)[:, None] * C + tl.arange(0, C)[None, :])
    if KIND == "add":
        box.atomic_add([row, col], a)
    elif KIND == "min":
        box.atomic_min([row, col], a)
    elif KIND == "max":
        box.atomic_max([row, col], a)
    elif KIND == "and":
        box.atomic_and([row, col], a)
    elif KIND == "or":
        box.atomic_or([row, col], a)
    else:
        box.atomic_xor([row, col], a)


_KINDS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
          "or": np.bitwise_or, "xor": np.bitwise_xor}  # fmt: skip


def described_in_numpy(kind, cells, x, row, col):
    """What lies outside of the described matrix is left alone."""
    out = cells.copy()
    r, c = np.mgrid[row : row + x.shape[0], col : col + x.shape[1]]
    inside = (r >= 0) & (r < cells.shape[0]) & (c >= 0) & (c < cells.shape[1])
    at = r[inside], c[inside]
    out[at] = _KINDS[kind](out[at], x[inside])
    return out


def described_atomics_cases(rng):
    """Every kind, and every type that Triton has, with some of its kinds."""
    for dtype, kinds in (
        (np.int32, _KINDS), (np.uint32, ("min", "max")), (np.uint64, ("add", "max")),
        (np.int64, ("min", "xor")), (np.float32, ("add",)), (np.float16, ("add", "min", "max")),
        ("bf16", ("add", "min", "max")),
    ):  # fmt: skip
        for kind in kinds:
            rows, cols, row, col = 8, 24, int(rng.integers(-3, 7)), int(rng.integers(-9, 20))
            low = 0 if dtype in (np.uint32, np.uint64) else -60
            if dtype in (np.int32, np.uint32):
                row, col = 2, 3
            numbers = [rng.integers(low, 60, shape) for shape in ((rows, cols), (4, 16))]
            if dtype == "bf16":  # sums and extrema of these are exact
                cells, x = (bf16(n) for n in numbers)
                want = bf16(described_in_numpy(kind, *numbers, row, col)).bits
            else:
                cells, x = (n.astype(dtype) for n in numbers)
                want = described_in_numpy(kind, cells, x, row, col)
            yield Case(described_atomics, (1,), [cells, x, rows, cols, row, col],
                       {"KIND": kind, "R": 4, "C": 16},
                       f"{kind}_{dtype if dtype == 'bf16' else np.dtype(dtype).name}",
                       want=lambda args, want=want: {0: want})  # fmt: skip


def cases():
    yield from described_atomics_cases(np.random.default_rng(15))
    rng = np.random.default_rng(6)
    for dtype, n in ((np.float32, 11), (np.int32, 16), (np.int8, 9), (np.float16, 37)):
        block = 16 if n <= 16 else 64
        x = rng.integers(-50, 50, n).astype(dtype)
        args = [np.full(7 * block, 1, dtype), x, n, 5]
        yield Case(masked, (1,), args, {"BLOCK": block}, np.dtype(dtype).name)
    x = rng.integers(0, 2, 9).astype(bool)
    yield Case(flagged, (1,), [np.zeros(48, bool), x, 9], {"BLOCK": 16})
    x = rng.normal(size=(7, 5)).astype(np.float32)
    table = np.array([6, 0, 3, 3, -1, 2], np.int32)
    yield Case(by_table, (1,), [np.zeros(72, np.float32), x, table, 6], {"BLOCK": 8, "COLS": 8})
    for rows, cols in ((8, 16), (13, 20)):
        x = rng.normal(size=(rows, cols)).astype(np.float32)
        args = [np.zeros((rows, cols), np.float32), x, rows, cols]
        yield Case(described, (1,), args, {"R": 8, "C": 16}, f"{rows}x{cols}")
    x = rng.integers(-9, 9, (5, 7)).astype(np.float32)
    args = [np.zeros(64, np.float32), np.zeros((4, 8), np.float32), x, 5, 7]
    yield Case(described_edges, (1,), args, {"R": 4, "C": 8}, want=edges)
    for dtype in (np.int32, np.int64, np.float32):
        x = rng.integers(-9, 9, 16).astype(dtype)
        cells = rng.integers(-9, 9, 21).astype(dtype)
        # The interpreter exchanges integers only.
        yield Case(atomics, (1,), [np.zeros(65, dtype), cells, x, 13], {"BLOCK": 16},
                   np.dtype(dtype).name, want=updated if dtype == np.float32 else None)  # fmt: skip
    x = rng.integers(0, 64, 16).astype(np.int32)
    cells = rng.integers(0, 64, 17).astype(np.int32)
    cells[16] = 4
    yield Case(atomic_bits, (1,), [np.zeros(82, np.int32), cells, x], {"BLOCK": 16})
    x = rng.integers(-9, 9, 64).astype(np.float32)
    args = [np.zeros(1, np.float32), np.zeros(1, np.int32), x]
    yield Case(locked_sum, (4,), args, {"BLOCK": 16})


def updated(args):
    out, cells, x, n = (np.copy(a) for a in args)
    a = x[:n]
    for row, change in enumerate(
        (
            np.add,
            lambda c, v: np.maximum(c, 3 * v),
            lambda c, v: np.minimum(c, v - 1),
            lambda c, v: v + 2,
        )
    ):
        out[16 * row : 16 * row + n] = cells[:n]
        cells[:n] = change(cells[:n], a)
    out[64] = cells[16]
    cells[16] += n
    np.add.at(cells, 17 + (np.arange(n) & 3), a)
    return {0: out, 1: cells}


def edges(args):
    x = args[2]
    framed = np.zeros((5 + 10, 7 + 20), np.float32)
    framed[5:10, 10:17] = x
    box = lambda r, c: framed[5 + r : 9 + r, 10 + c : 18 + c]  # noqa: E731
    total = box(0, 0).copy()
    total[1:] += box(0, 0)[:3]
    return {0: np.concatenate([box(3, 4).ravel(), box(-1, -2).ravel()]), 1: total}
