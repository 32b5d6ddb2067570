"""tl.dot: element types, accumulators, batches, transposed operands, sizes that are no power of two
of the vector."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, Tensor, bf16
from programs_float8 import nearest, table


@triton.jit
def product(out, x, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, TURNED: tl.constexpr,
            SUM: tl.constexpr):  # fmt: skip
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(x + m[:, None] * K + k[None, :])
    if TURNED:
        b = tl.trans(tl.load(y + n[:, None] * K + k[None, :]))
    else:
        b = tl.load(y + k[:, None] * N + n[None, :])
    c = tl.dot(a, b, out_dtype=SUM)
    c = tl.dot(a + a, b, acc=c, out_dtype=SUM)
    tl.store(out + m[:, None] * N + n[None, :], c)


@triton.jit
def product8(out, x, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(x + m[:, None] * K + k[None, :])
    b = tl.load(y + k[:, None] * N + n[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(a, b))


@triton.jit
def bytes_turned(out, x, y, n_rows, n_cols, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
                 ADDED: tl.constexpr):  # fmt: skip
    """int8, of rows and columns that masks cut short: the columns from memory that lies along k."""
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(x + m[:, None] * K + k[None, :], mask=m[:, None] < n_rows, other=0)
    b = tl.load(y + n[:, None] * K + k[None, :], mask=n[:, None] < n_cols, other=0)
    at = out + m[:, None] * N + n[None, :]
    c = tl.dot(a, tl.trans(b), out_dtype=tl.int32)
    if ADDED:
        c = tl.dot(a, tl.trans(b), acc=tl.load(at) + c, out_dtype=tl.int32)
    tl.store(at, c)


@triton.jit
def batched(out, x, y, B: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    b, m = tl.arange(0, B)[:, None, None], tl.arange(0, M)
    n, k = tl.arange(0, N), tl.arange(0, K)
    p = tl.load(x + b * M * K + m[None, :, None] * K + k[None, None, :])
    q = tl.load(y + b * K * N + k[None, :, None] * N + n[None, None, :])
    tl.store(out + b * M * N + m[None, :, None] * N + n[None, None, :], tl.dot(p, q))


def cases():
    rng = np.random.default_rng(8)
    for name, dtype, total, sum_type, turned, m, n, k in (
        ("fp32", np.float32, np.float32, tl.float32, 0, 16, 32, 8),
        ("fp32_turned", np.float32, np.float32, tl.float32, 1, 4, 64, 16),
        ("fp16", np.float16, np.float32, tl.float32, 1, 32, 16, 64),
        ("fp16_sum", np.float16, np.float16, tl.float16, 0, 8, 16, 16),
        ("fp64", np.float64, np.float64, tl.float64, 0, 8, 8, 4),
        ("small", np.float32, np.float32, tl.float32, 0, 1, 2, 4),
    ):
        x, y = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        want = 3 * (x.astype(np.float64) @ y.astype(np.float64))
        if total == np.float16:  # every product is rounded once
            once = (x.astype(np.float64) @ y.astype(np.float64)).astype(total)
            want = once + 2 * (x.astype(np.float64) @ y.astype(np.float64))
        args = [np.zeros((m, n), total), x, np.ascontiguousarray(y.T) if turned else y]
        tolerance = 2e-3 if total == np.float16 else 1e-5
        yield Case(product, (1,), args, {"M": m, "N": n, "K": k, "TURNED": turned,
                                         "SUM": sum_type}, name, tolerance, tolerance,
                   want=lambda args, want=want: {0: want})  # fmt: skip
    x, y = bf16(rng.normal(size=(16, 32))), bf16(rng.normal(size=(32, 16)))
    exact = [(t.bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for t in (x, y)]
    yield Case(product8, (1,), [np.zeros((16, 16), np.float32), x, y],
               {"M": 16, "N": 16, "K": 32}, "bf16", 1e-5, 1e-5,
               want=lambda args, exact=exact: {0: exact[0] @ exact[1]})  # fmt: skip
    for m, n, k in ((16, 32, 32), (8, 4, 64)):
        x, y = (rng.integers(-128, 128, s).astype(np.int8) for s in ((m, k), (k, n)))
        yield Case(product8, (1,), [np.zeros((m, n), np.int32), x, y], {"M": m, "N": n, "K": k},
                   f"int8_{n}", want=lambda a: {0: a[1].astype(np.int32) @ a[2]})  # fmt: skip
    for m, n, k, n_rows, n_cols, added in (
        (16, 64, 128, 13, 64, 0), (8, 32, 64, 8, 31, 1), (2, 16, 4, 1, 16, 1), (32, 16, 8, 0, 5, 0),
        (4, 128, 32, 4, 70, 1), (1, 4, 16, 1, 3, 1),
    ):  # fmt: skip
        x, y = (rng.integers(-128, 128, s).astype(np.int8) for s in ((m, k), (n, k)))
        x[0], y[0] = -128, -128
        used = np.where(np.arange(m)[:, None] < n_rows, x, 0).astype(np.int32) @ np.where(
            np.arange(n)[:, None] < n_cols, y, 0
        ).T.astype(np.int32)
        before = rng.integers(-(2**31), 2**31, (m, n)).astype(np.int32)
        want = before + 2 * used if added else used
        yield Case(bytes_turned, (1,), [before, x, y, n_rows, n_cols],
                   {"M": m, "N": n, "K": k, "ADDED": added}, f"{m}_{n}_{k}",
                   want=lambda args, want=want: {0: want})  # fmt: skip
    for kind in ("fp8e4nv", "fp8e5"):
        x, y = (nearest(kind, rng.normal(size=s)) for s in (16 * 32, 32 * 16))
        args = [np.zeros((16, 16), np.float32), Tensor(x, kind), Tensor(y, kind)]
        want = table(kind)[x].reshape(16, 32) @ table(kind)[y].reshape(32, 16)
        yield Case(product8, (1,), args, {"M": 16, "N": 16, "K": 32}, kind, 1e-5, 1e-5,
                   want=lambda args, want=want: {0: want})  # fmt: skip
    for dtype in (np.float16, np.float32):
        x, y = rng.normal(size=(3, 8, 16)).astype(dtype), rng.normal(size=(3, 16, 4)).astype(dtype)
        x, y = np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]])
        args = [np.zeros((4, 8, 4), np.float32), x, y]
        yield Case(batched, (1,), args, {"B": 4, "M": 8, "N": 4, "K": 16}, np.dtype(dtype).name,
                   1e-5, 1e-5, want=lambda a: {0: a[1].astype(np.float64) @ a[2]})  # fmt: skip
