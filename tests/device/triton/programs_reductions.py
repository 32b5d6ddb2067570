"""Reductions and scans: both axes, several operands, any combine function, booleans, ties, NaN."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, bf16


@triton.jit
def reduced(out, index, x, ROWS: tl.constexpr, COLS: tl.constexpr, AXIS: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    a = tl.load(x + r[:, None] * COLS + c[None, :])
    N: tl.constexpr = COLS if AXIS == 0 else ROWS
    i = tl.arange(0, N)
    tl.store(out + i, tl.sum(a, AXIS))
    tl.store(out + N + i, tl.max(a, AXIS))
    tl.store(out + 2 * N + i, tl.min(a, AXIS))
    tl.store(index + i, tl.argmax(a, AXIS))
    tl.store(index + N + i, tl.argmin(a, AXIS))
    value, at = tl.max(a, AXIS, return_indices=True, return_indices_tie_break_left=True)
    tl.store(out + 3 * N + i, value)
    tl.store(index + 2 * N + i, at)


@triton.jit
def reduced_to_one(out, x, BLOCK: tl.constexpr):
    a = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out, tl.sum(a))
    tl.store(out + 1, tl.xor_sum(a, 0))
    tl.store(out + 2, tl.max(a, 0))
    tl.store(out + 3, tl.reduce_or(a, 0))
    tl.store(out + 4, tl.argmin(a, 0))
    tl.store(out + 5 + tl.arange(0, 1), tl.sum(a, 0, keep_dims=True))


@triton.jit
def either(a, b):
    return a | b


@triton.jit
def both(a, b):
    return a & b


@triton.jit
def booleans(flags, rows, x, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    a = tl.load(x + r[:, None] * COLS + c[None, :])
    tl.store(rows + r, tl.reduce(a > 2, 1, either))
    tl.store(rows + ROWS + c, tl.reduce(a > -1, 0, both))
    whole = tl.reduce(tl.reduce(a > 2, 1, either), 0, both)
    tl.store(flags, whole.to(tl.int32))
    tl.store(flags + 1 + c, tl.associative_scan(c == 3, 0, either).to(tl.int32))


@triton.jit
def welford(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    n = n_a + n_b
    delta = mean_b - mean_a
    share = tl.where(n == 0.0, 0.0, n_b / n)
    return mean_a + delta * share, m2_a + m2_b + delta * delta * n_a * share, n


@triton.jit
def larger_first(a, i, b, j):
    if a > b:
        value = a
        at = i
    elif a == b:
        value = a
        at = min(i, j)
    else:
        value = b
        at = j
    return value, at


@triton.jit
def own_combine(out, index, x, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    a = tl.load(x + r[:, None] * COLS + c[None, :])
    mean, m2, n = tl.reduce((a, tl.zeros_like(a), tl.zeros_like(a) + 1.0), 1, welford)
    tl.store(out + r, mean)
    tl.store(out + ROWS + r, m2 / n)
    _, at = tl.reduce((a, tl.broadcast_to(c[None, :], a.shape)), 1, larger_first)
    tl.store(index + r, at)
    _, at = tl.reduce((a, tl.broadcast_to(r[:, None], a.shape)), 0, larger_first)
    tl.store(index + ROWS + c, at)


@triton.jit
def decay(a, x, b, y):
    return a * b, x * b + y


@triton.jit
def scanned(out, x, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    at = r[:, None] * COLS + c[None, :]
    a = tl.load(x + at)
    S: tl.constexpr = ROWS * COLS
    tl.store(out + at, tl.cumsum(a, 1))
    tl.store(out + S + at, tl.cumsum(a, 0, reverse=True))
    tl.store(out + 2 * S + at, tl.cumprod(a, 0))
    gate, state = tl.associative_scan((tl.zeros_like(a) + 0.5, a), 1, decay)
    tl.store(out + 3 * S + at, state)
    gate, state = tl.associative_scan((tl.zeros_like(a) + 0.5, a), 1, decay, reverse=True)
    tl.store(out + 4 * S + at, gate + state)


@triton.jit
def masked_sums(out, x, n_rows, n_cols, flag, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Masks of rows alone, of rows and columns, and one for all: each ends rows in its own way."""
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    at = x + r[:, None] * COLS + c[None, :]
    mask = (r < n_rows)[:, None]
    rows = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    both = tl.load(at, mask=mask & (c < n_cols)[None, :], other=-2.0).to(tl.float32)
    whole = tl.load(at, mask=(r < ROWS)[:, None] & (flag > 0), other=3.0).to(tl.float32)
    total, largest, everything = tl.sum(rows, 0), tl.max(both, 0), tl.sum(whole, 0)
    weighted, across = tl.sum(rows * (r + 1)[:, None], 0), tl.sum(rows, 1)
    tl.store(out + c, total)  # after all that is loaded: no load waits in memory for its use
    tl.store(out + COLS + c, largest)
    tl.store(out + 2 * COLS + c, everything)
    tl.store(out + 3 * COLS + c, weighted, mask=(c < COLS) & (flag < 2))
    tl.store(out + 4 * COLS + r, across)


def masked_sums_in_numpy(x, n_rows, n_cols, flag):
    n, cols = x.shape
    r, c = np.arange(n)[:, None], np.arange(cols)
    rows = np.where(r < n_rows, x, 0).astype(np.float32)
    both = np.where((r < n_rows) & (c < n_cols), x, -2).astype(np.float32)
    whole = np.where(flag > 0, x, 3).astype(np.float32)
    weighted = (rows * (r + 1)).sum(0) if flag < 2 else np.zeros(cols, np.float32)
    return np.concatenate([rows.sum(0), both.max(0), whole.sum(0), weighted, rows.sum(1)])


@triton.jit
def nan_reduced(out, x, BLOCK: tl.constexpr):
    a = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out, tl.max(a, 0))
    tl.store(out + 1, tl.min(a, 0))


@triton.jit
def nan_indices(out, x, ROWS: tl.constexpr, COLS: tl.constexpr, AXIS: tl.constexpr):
    a = tl.load(x + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])
    N: tl.constexpr = COLS if AXIS == 0 else ROWS
    i = tl.arange(0, N)
    tl.store(out + i, tl.argmax(a, AXIS))
    tl.store(out + N + i, tl.argmin(a, AXIS))
    tl.store(out + 2 * N + i, tl.argmax(a, AXIS, tie_break_left=False))


@triton.jit
def lopsided(a, b):
    return a * 3 - b


@triton.jit
def lopsided_pair(a, n, b, m):
    tl.device_assert((n > 0) & (m > 0), "an element that is none")
    return a * 2 - b, n + m


@triton.jit
def ordered(out, count, x, ROWS: tl.constexpr, COLS: tl.constexpr, AXIS: tl.constexpr):
    a = tl.load(x + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])
    N: tl.constexpr = COLS if AXIS == 0 else ROWS
    i = tl.arange(0, N)
    ones = tl.zeros_like(a) + 1
    pair, n = tl.reduce((a, ones), AXIS, lopsided_pair)
    tl.store(out + i, tl.reduce(a, AXIS, lopsided))
    tl.store(out + N + i, pair)
    tl.store(count + i, n)
    at = tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
    tl.store(out + 2 * N + at, tl.associative_scan(a, AXIS, lopsided))
    tl.store(out + 2 * N + ROWS * COLS + at, tl.associative_scan(a, AXIS, lopsided, reverse=True))


@triton.jit
def narrow_sums(wide, narrow, total, x, ROWS: tl.constexpr, COLS: tl.constexpr,
                AXIS: tl.constexpr):  # fmt: skip
    at = tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
    a = tl.load(x + at)
    running = tl.cumsum(a, AXIS)
    tl.store(wide + at, running.to(tl.float32))
    tl.store(narrow + at, running)
    N: tl.constexpr = COLS if AXIS == 0 else ROWS
    tl.store(total + tl.arange(0, N), tl.reduce(a, AXIS, added))


@triton.jit
def added(a, b):
    return a + b


@triton.jit
def checked(a, b):
    tl.device_assert(a >= 0, "negative")
    return a + b


@triton.jit
def asserts_in_reduce(out, x, BLOCK: tl.constexpr):
    a = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out, tl.reduce(a, 0, checked))
    tl.store(out + 1 + tl.arange(0, BLOCK), tl.associative_scan(a, 0, checked))


def tree(combine, parts, axis):
    """The upper half of what is left to the lower half."""
    parts = [np.moveaxis(p, axis, 0) for p in parts]
    while len(parts[0]) > 1:
        half = len(parts[0]) // 2
        parts = combine([p[:half] for p in parts], [p[half:] for p in parts])
    return [p[0] for p in parts]


def arg_tree(x, axis, largest, breaks_left):
    def combine(a, b):
        wins = a[0] > b[0] if largest else a[0] < b[0]
        if breaks_left:
            wins |= (a[0] == b[0]) & (a[1] < b[1])
        return [np.where(wins, p, q) for p, q in zip(a, b, strict=True)]

    index = np.arange(x.shape[axis])[:, None] if axis == 0 else np.arange(x.shape[axis])[None]
    return tree(combine, [x, np.broadcast_to(index, x.shape)], axis)[1]


def doubling(combine, x, axis, reverse):
    """Each right half takes on the last element of its left half."""
    out = np.moveaxis(x.copy(), axis, 0)
    out = out[::-1] if reverse else out
    half = 1
    while half < len(out):
        for begin in range(half, len(out), 2 * half):
            out[begin : begin + half] = combine(out[begin - 1], out[begin : begin + half])
        half *= 2
    return np.moveaxis(out[::-1] if reverse else out, 0, axis)


def ordered_in_numpy(x, axis):
    one = tree(lambda a, b: [a[0] * 3 - b[0]], [x], axis)[0]
    pair = tree(lambda a, b: [a[0] * 2 - b[0]], [x], axis)[0]
    scans = [doubling(lambda a, b: a * 3 - b, x, axis, reverse) for reverse in (False, True)]
    return np.concatenate([one, pair, *(s.ravel() for s in scans)])


def cases():
    rng = np.random.default_rng(4)
    for rows, cols, axis in (
        (1, 4, 1),
        (4, 32, 1),
        (4, 64, 0),
        (8, 2, 0),
        (16, 16, 1),
        (2, 512, 1),
    ):
        x = rng.integers(-9, 9, (rows, cols)).astype(np.float32)
        x[rng.random(x.shape) < 0.3] = np.nan
        x[rng.random(x.shape) < 0.1] = -np.inf
        n = cols if axis == 0 else rows

        def want(args, axis=axis):
            how = ((True, True), (False, True), (True, False))
            return {0: np.concatenate([arg_tree(args[1], axis, *h) for h in how])}

        yield Case(nan_indices, (1,), [np.zeros(3 * n, np.int32), x],
                   {"ROWS": rows, "COLS": cols, "AXIS": axis}, f"{rows}x{cols}_{axis}",
                   want=want)  # fmt: skip
        x = rng.integers(-9, 9, (rows, cols)).astype(np.int32)
        args = [np.zeros(2 * n + 2 * x.size, np.int32), np.zeros(n, np.int32), x]
        yield Case(ordered, (1,), args, {"ROWS": rows, "COLS": cols, "AXIS": axis},
                   f"{rows}x{cols}_{axis}", debug=True,
                   want=lambda a, axis=axis: {0: ordered_in_numpy(a[2], axis),
                                              1: np.full(len(a[1]), a[2].shape[axis])})  # fmt: skip
    x = np.array([[3, 5, np.nan, -np.inf]], np.float32)
    yield Case(nan_indices, (1,), [np.zeros(3, np.int32), x], {"ROWS": 1, "COLS": 4, "AXIS": 1},
               "largest", want=lambda a: {0: np.array([1, 3, 1])})  # fmt: skip
    for rows, cols, axis in ((1, 1024, 1), (64, 8, 0)):
        values = np.full((rows, cols), 0.01) if rows == 1 else rng.normal(size=(rows, cols))
        for x in (bf16(values), values.astype(np.float16)):
            exact = x.astype(np.float64) if isinstance(x, np.ndarray) else (
                (x.bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64))  # fmt: skip
            sums = np.cumsum(exact, axis)
            total = exact.sum(axis)
            is_half = isinstance(x, np.ndarray)
            empty = [x.copy() * 0 if is_half else bf16(values * 0) for _ in range(2)]
            if is_half:
                empty[1] = np.zeros(total.shape, np.float16)
                expected = {0: sums, 1: sums, 2: total}
            else:
                empty[1] = bf16(total * 0)
                expected = {0: sums, 1: bf16(sums).bits, 2: bf16(total).bits}
            args = [np.zeros((rows, cols), np.float32), *empty, x]
            yield Case(narrow_sums, (1,), args, {"ROWS": rows, "COLS": cols, "AXIS": axis},
                       f"{'fp16' if is_half else 'bf16'}_{rows}x{cols}", 1e-5, 1e-5,
                       want=lambda args, expected=expected: expected)  # fmt: skip
    x = np.arange(32, dtype=np.int32)
    yield Case(asserts_in_reduce, (1,), [np.zeros(33, np.int32), x], {"BLOCK": 32}, debug=True,
               want=lambda a: {0: np.concatenate([[a[1].sum()], np.cumsum(a[1])])})  # fmt: skip
    for dtype, rows, cols in ((np.float32, 4, 32), (np.float32, 16, 8), (np.int32, 8, 64),
                              (np.int8, 4, 16), (np.float16, 2, 128)):  # fmt: skip
        for axis in (0, 1):
            x = rng.integers(-6, 7, (rows, cols)).astype(dtype)  # exact sums, many ties
            n = cols if axis == 0 else rows
            yield Case(reduced, (1,), [np.zeros(4 * n, dtype), np.zeros(3 * n, np.int32), x],
                       {"ROWS": rows, "COLS": cols, "AXIS": axis},
                       f"{np.dtype(dtype).name}_{rows}x{cols}_{axis}")  # fmt: skip
    for n in (1, 8, 128):
        x = rng.integers(-99, 99, n).astype(np.int32)
        yield Case(reduced_to_one, (1,), [np.zeros(6, np.int32), x], {"BLOCK": n}, str(n))
    x = rng.integers(-2, 4, (8, 16)).astype(np.int32)
    args = [np.zeros(17, np.int32), np.zeros(24, np.int32), x]
    yield Case(booleans, (1,), args, {"ROWS": 8, "COLS": 16})
    for rows, cols in ((4, 8), (8, 64)):
        x = rng.integers(-9, 9, (rows, cols)).astype(np.float32)
        args = [np.zeros(2 * rows, np.float32), np.zeros(rows + cols, np.int32), x]
        yield Case(own_combine, (1,), args, {"ROWS": rows, "COLS": cols}, f"{rows}x{cols}", 1e-5,
                   1e-6)  # fmt: skip
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(4, 32)).astype(dtype)
        yield Case(scanned, (1,), [np.zeros(5 * 128, dtype), x], {"ROWS": 4, "COLS": 32},
                   np.dtype(dtype).name, 1e-5, 1e-5)  # fmt: skip
    x = rng.normal(size=64).astype(np.float32)
    x[[3, 40]] = np.nan
    yield Case(nan_reduced, (1,), [np.zeros(2, np.float32), x], {"BLOCK": 64},
               want=lambda a: {0: np.array([np.nanmax(a[1]), np.nanmin(a[1])])})  # fmt: skip
    # Up to 64 vectors a row, at most eight of which are in registers together.
    for cols in (1, 4, 16, 64, 128, 256, 512, 1024):
        rows = int(rng.choice([2, 4, 8, 16]))
        dtype = rng.choice([np.float32, np.float16])
        x = rng.integers(-40, 40, (rows, cols)).astype(dtype)  # exact sums
        n_rows, n_cols, flag = (int(rng.integers(1, n)) for n in (rows + 1, cols + 1, 3))
        args = [np.zeros(4 * cols + rows, np.float32), x, n_rows, n_cols, flag]
        yield Case(masked_sums, (1,), args, {"ROWS": rows, "COLS": cols},
                   f"{rows}x{cols}_{n_rows}x{n_cols}_{flag}",
                   want=lambda a: {0: masked_sums_in_numpy(*a[1:])})  # fmt: skip
