"""Control flow: early returns, loops and branches that carry tensors, calls, printing."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def returns_early(out, x, n, limit, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    if pid * BLOCK >= n:
        return
    scale = 1.0
    if pid == 1:
        if limit > 3:
            tl.store(out + n, 77.0)
            return
        scale = 2.0
    elif pid == 2:
        scale = -1.0
    i = pid * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(out + i, a * scale, mask=i < n)
    if tl.sum(a, 0) > 0:
        return
    tl.store(out + n + 1 + pid, scale)


@triton.jit(noinline=True)
def shared_helper(a, b):
    return a * b + 1, a - b


@triton.jit
def clipped(a, low):
    if low > 0:
        return tl.maximum(a, low)
    return a


@triton.jit
def calls(out, x, low, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    p, q = shared_helper(tl.load(x), low)
    tl.store(out + i, clipped(tl.load(x + i) + p, low) + q)


@triton.jit
def loops(out, x, n, start, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    count = 0
    for k in range(start, n, 3):
        a = tl.load(x + (k + i) % n)
        if k % 2 == 0:
            total += a
        else:
            total = total * 0.5 - a
            count += 1
        for m in range(2):
            total += m
    for k in range(n, start, -5):
        total += k
    for k in tl.static_range(3):
        total += k * count
    steps = 0
    while (tl.max(total, 0) > 1.0) & (steps < 20):
        total = total / 2
        steps += 1
    tl.store(out + i, total)
    tl.store(out + BLOCK, count)
    tl.store(out + BLOCK + 1, steps)


@triton.jit
def carried(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = a + 1
    found = i < 0
    at = x + i
    for k in range(n):
        a, b = b, a * 2 - b
        found = found | (a > 8)
        at += BLOCK
        if k == 1:
            a = tl.where(found, tl.load(at), a)
    tl.store(out + i, a)
    tl.store(out + BLOCK + i, b)
    tl.store(out + 2 * BLOCK + i, found.to(tl.float32))


@triton.jit
def prints(x, n):
    pid = tl.program_id(0)
    tl.device_print("begin 100%")
    a = tl.load(x + tl.arange(0, 2))
    tl.device_print("a", a, a * 0.5)
    tl.device_print("n", n + pid)
    tl.device_print("hex", n, hex=True)


@triton.jit
def asserts_below(x, BLOCK: tl.constexpr):
    a = tl.load(x + tl.arange(0, BLOCK))
    tl.device_assert(a < 50, "too large")
    tl.store(x + tl.arange(0, BLOCK), a + 1)


PRINTED = """\
pid (0, 0, 0) begin 100%
pid (0, 0, 0) idx (0) a: (operand 0) 3
pid (0, 0, 0) idx (1) a: (operand 0) -4
pid (0, 0, 0) idx (0) a: (operand 1) 1.500000
pid (0, 0, 0) idx (1) a: (operand 1) -2.000000
pid (0, 0, 0) idx () n: 17
pid (0, 0, 0) idx () hex: 0x00000011
"""


@triton.jit
def sums_of_two(a, b, c, d):
    if a > b:
        return a - b, c + d, a * c, b - d
    return b - a, c - d, a + c, b * d


@triton.jit
def waits_and_maps(out, x, BLOCK: tl.constexpr):
    """Two neighbours at a time; and what only a GPU's next launch waits for."""
    i = tl.arange(0, BLOCK)
    tl.extra.cuda.gdc_wait()
    a, b = tl.load(x + i), tl.load(x + BLOCK + i)
    tl.extra.cuda.gdc_launch_dependents()
    c, d = tl.map_elementwise(sums_of_two, a, b, pack=2)
    tl.store(out + i, c)
    tl.store(out + BLOCK + i, d)


def mapped_pairs(x):
    a, b, c, d = x[0, ::2], x[0, 1::2], x[1, ::2], x[1, 1::2]
    one = np.where(a > b, (a - b, c + d, a * c, b - d), (b - a, c - d, a + c, b * d))
    out = np.empty_like(x)
    out[0, ::2], out[0, 1::2], out[1, ::2], out[1, 1::2] = one
    return out


def cases():
    rng = np.random.default_rng(7)
    x = rng.integers(-9, 9, 40).astype(np.float32)
    for limit in (2, 5):
        args = [np.zeros(50, np.float32), x, 40, limit]
        yield Case(returns_early, (6,), args, {"BLOCK": 16}, str(limit))
    for low in (-2, 3):
        x = rng.integers(-9, 9, 16).astype(np.int32)
        yield Case(calls, (1,), [np.zeros(16, np.int32), x, low], {"BLOCK": 16}, f"{low}")
    for n, start in ((20, 1), (17, 4), (3, 9)):
        x = rng.normal(size=max(n, 32)).astype(np.float32)
        yield Case(loops, (1,), [np.zeros(34, np.float32), x, n, start], {"BLOCK": 32}, f"{n}",
                   1e-5, 1e-5)  # fmt: skip
    for n in (0, 1, 4):
        x = rng.integers(-5, 5, 6 * 16).astype(np.float32)
        yield Case(carried, (1,), [np.zeros(48, np.float32), x, n], {"BLOCK": 16}, f"{n}")
    yield Case(prints, (1,), [np.array([3, -4], np.int32), 17], stdout=PRINTED)
    x = rng.integers(0, 49, 8).astype(np.int32)
    yield Case(asserts_below, (1,), [x], {"BLOCK": 8}, debug=True)
    for block in (2, 32):
        x = rng.integers(-9, 9, (2, block)).astype(np.int32)
        yield Case(waits_and_maps, (1,), [np.zeros((2, block), np.int32), x], {"BLOCK": block},
                   str(block), want=lambda a: {0: mapped_pairs(a[1])})  # fmt: skip
