"""Operations that move elements: views, transposes, pairs, sorting, gathering, counting."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def moved(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    m = tl.reshape(a, (4, BLOCK // 4))
    tl.store(out + i, tl.ravel(tl.trans(m)))
    cube = tl.reshape(a, (2, 4, BLOCK // 8))
    tl.store(out + BLOCK + i, tl.reshape(tl.permute(cube, (2, 0, 1)), (BLOCK,)))
    even, odd = tl.split(tl.reshape(a, (BLOCK // 2, 2)))
    half = tl.arange(0, BLOCK // 2)
    tl.store(out + 2 * BLOCK + half, even - odd)
    tl.store(out + 3 * BLOCK + i, tl.interleave(odd, even))
    tl.store(out + 4 * BLOCK + i, tl.flip(a, 0))
    tl.store(out + 5 * BLOCK + i, tl.cat(odd, even, can_reorder=False))
    tl.store(out + 6 * BLOCK + i, tl.ravel(tl.join(even, even + 1)))
    wide = tl.broadcast_to(tl.expand_dims(half, 0), (2, BLOCK // 2))
    tl.store(out + 7 * BLOCK + i, tl.ravel(wide).to(out.dtype.element_ty))


@triton.jit
def gathered(out, x, rows, columns, N: tl.constexpr):
    i, j = tl.arange(0, N), tl.arange(0, N // 2)
    at = i[:, None] * N + i[None, :]
    a = tl.load(x + at)
    r = tl.load(rows + j[:, None] * N + i[None, :])
    c = tl.load(columns + at)
    tl.store(out + j[:, None] * N + i[None, :], tl.gather(a, r, 0))
    tl.store(out + N * N // 2 + at, tl.gather(a + 1, c, 1))


@triton.jit
def counted(out, x, BLOCK: tl.constexpr, BINS: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = tl.arange(0, BINS)
    tl.store(out + b, tl.histogram(a, BINS))
    tl.store(out + BINS + b, tl.histogram(a, BINS, mask=i % 3 == 0))


@triton.jit
def sorted_rows(out, x, ROWS: tl.constexpr, COLS: tl.constexpr, K: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    at = r[:, None] * COLS + c[None, :]
    a = tl.load(x + at)
    tl.store(out + at, tl.sort(a))
    tl.store(out + ROWS * COLS + at, tl.sort(a, descending=True))
    k = tl.arange(0, K)
    tl.store(out + 2 * ROWS * COLS + r[:, None] * K + k[None, :], tl.topk(a, K))


@triton.jit
def swizzled(out, N_M: tl.constexpr, N_N: tl.constexpr):
    i, j = tl.arange(0, N_M), tl.arange(0, N_N)
    r, c = tl.swizzle2d(i[:, None], j[None, :], N_M, N_N, 2)
    tl.store(out + i[:, None] * N_N + j[None, :], r * 100 + c)


@triton.jit
def smaller_doubled(a, b):
    if a < b:
        return a * 2, b
    if a == b:
        return a, a
    return b, a * 3


@triton.jit
def mapped(out, x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    first, second = tl.map_elementwise(smaller_doubled, a, i % 7)
    tl.store(out + i, first)
    tl.store(out + BLOCK + i, second)


def cases():
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.int16, np.int64):
        for n in (16, 64):
            x = rng.integers(-99, 99, n).astype(dtype)
            yield Case(moved, (1,), [np.zeros(8 * n, dtype), x], {"BLOCK": n},
                       f"{np.dtype(dtype).name}_{n}", want=as_numpy)  # fmt: skip
    for n in (4, 32):
        x = rng.normal(size=(n, n)).astype(np.float32)
        args = [np.zeros(n * n * 3 // 2, np.float32), x,
                rng.integers(0, n, (n // 2, n)).astype(np.int32),
                rng.integers(0, n, (n, n)).astype(np.int32)]  # fmt: skip
        yield Case(gathered, (1,), args, {"N": n}, str(n))
    x = rng.integers(0, 16, 128).astype(np.int32)
    yield Case(counted, (1,), [np.zeros(32, np.int32), x], {"BLOCK": 128, "BINS": 16})
    for dtype, rows, cols in ((np.float32, 2, 64), (np.int32, 1, 16)):
        x = rng.integers(-999, 999, (rows, cols)).astype(dtype)
        args = [np.zeros(rows * (2 * cols + 4), dtype), x]
        yield Case(sorted_rows, (1,), args, {"ROWS": rows, "COLS": cols, "K": 4},
                   np.dtype(dtype).name)  # fmt: skip
    yield Case(swizzled, (1,), [np.zeros(32, np.int32)], {"N_M": 8, "N_N": 4})
    x = rng.integers(-3, 9, 32).astype(np.int32)
    yield Case(mapped, (1,), [np.zeros(64, np.int32), x], {"BLOCK": 32}, want=doubled)


def as_numpy(args):
    a = args[1]
    n = len(a)
    even, odd = a[::2], a[1::2]
    pairs = np.stack([even, even + 1], 1).ravel()
    rows = [a.reshape(4, n // 4).T.ravel(), a.reshape(2, 4, n // 8).transpose(2, 0, 1).ravel(),
            np.concatenate([even - odd, np.zeros_like(odd)]), np.stack([odd, even], 1).ravel(),
            a[::-1], np.concatenate([odd, even]), pairs,
            np.tile(np.arange(n // 2, dtype=a.dtype), 2)]  # fmt: skip
    return {0: np.concatenate(rows)}


def doubled(args):
    a = args[1]
    b = np.arange(len(a), dtype=np.int32) % 7
    first = np.where(a < b, a * 2, np.where(a == b, a, b))
    second = np.where(a < b, b, np.where(a == b, a, a * 3))
    return {0: np.concatenate([first, second])}
