"""Calls that Triton leaves in the IR: helpers that return early, from nested branches too, inside
loops and branches, of tensors, of each other, and in the functions of reductions and maps."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def smaller(a, b):
    if a < b:
        return a
    return b


@triton.jit
def graded(a, b, grade):
    if grade > 4:
        if grade > 6:
            return a, grade
        a += b
    else:
        if grade == 1:
            return b, grade
        if grade == 2:
            return a + 1, smaller(grade, 0)
        a -= b
    for _ in range(grade):
        a = a * 0.5
    return a, grade * 2


@triton.jit
def stored_unless(out, n, limit):
    if n > limit:
        return
    if n % 2 == 0:
        tl.store(out + n, n)
        return
    tl.store(out + n, -n)


@triton.jit
def calls_helpers(out, counts, x, n, limit, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    total = 0
    for k in range(n):
        if k != 3:
            a, grade = graded(a, tl.load(x + i) + k, k)
            total += grade
        stored_unless(counts, k, limit)
    m = n
    while m > 0:
        if m > 2:
            total += smaller(m, limit)
        m -= 2
    tl.store(out + i, a)
    tl.store(counts + n, total)


@triton.jit
def signed_larger(a, b):
    if a == 0:
        return b
    if b == 0:
        return a
    if a + b > 0:
        return max(a, b)
    return min(a, b)


@triton.jit
def combined_by_calls(out, x, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
    at = r[:, None] * COLS + c[None, :]
    a = tl.load(x + at)
    lowest = tl.reduce(a, 1, smaller)
    running = tl.associative_scan(a, 1, smaller)
    mapped = tl.map_elementwise(signed_larger, a, a - 3)
    tl.store(out + r, lowest)
    tl.store(out + ROWS + at, running)
    tl.store(out + ROWS + ROWS * COLS + at, mapped)


def combined_in_numpy(x):
    b = x - 3
    mapped = np.where(x + b > 0, np.maximum(x, b), np.minimum(x, b))
    mapped = np.where(x == 0, b, np.where(b == 0, x, mapped))
    return np.concatenate([x.min(1), np.minimum.accumulate(x, 1).ravel(), mapped.ravel()])


def cases():
    rng = np.random.default_rng(12)
    for block, n, limit in ((1, 5, 2), (16, 9, 5), (128, 3, 0)):
        x = rng.normal(size=block).astype(np.float32)
        args = [np.zeros(block, np.float32), np.zeros(n + 1, np.int32), x, n, limit]
        yield Case(calls_helpers, (1,), args, {"BLOCK": block}, f"{block}_{n}", 1e-6, 1e-6)
    for rows, cols in ((4, 8), (2, 64)):
        x = rng.integers(-9, 9, (rows, cols)).astype(np.int32)
        args = [np.zeros(rows + 2 * rows * cols, np.int32), x]
        yield Case(combined_by_calls, (1,), args, {"ROWS": rows, "COLS": cols}, f"{rows}x{cols}",
                   want=lambda a: {0: combined_in_numpy(a[1])})  # fmt: skip
