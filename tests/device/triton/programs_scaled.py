"""tl.dot_scaled: every pair of formats, with and without scales, packed along either dimension,
into a sum. The oracle decodes by tables and multiplies in fp64."""

import numpy as np
import triton
import triton.language as tl
from harness import Case, Tensor, bf16
from programs_float8 import table

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
POINTERS = {"e4m3": "fp8e4nv", "e5m2": "fp8e5"}


@triton.jit
def scaled_product(out, x, y, p, q, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
                   LHS: tl.constexpr, RHS: tl.constexpr, SCALES: tl.constexpr, GROUP: tl.constexpr,
                   LHS_K: tl.constexpr, RHS_K: tl.constexpr):  # fmt: skip
    MA: tl.constexpr = M // 2 if LHS == "e2m1" and not LHS_K else M
    KA: tl.constexpr = K // 2 if LHS == "e2m1" and LHS_K else K
    KB: tl.constexpr = K // 2 if RHS == "e2m1" and RHS_K else K
    NB: tl.constexpr = N // 2 if RHS == "e2m1" and not RHS_K else N
    a = tl.load(x + tl.arange(0, MA)[:, None] * KA + tl.arange(0, KA)[None, :])
    b = tl.load(y + tl.arange(0, KB)[:, None] * NB + tl.arange(0, NB)[None, :])
    g = tl.arange(0, K // GROUP)[None, :]
    m, n = tl.arange(0, M), tl.arange(0, N)
    sa = tl.load(p + m[:, None] * (K // GROUP) + g) if SCALES % 2 == 1 else None
    sb = tl.load(q + n[:, None] * (K // GROUP) + g) if SCALES >= 2 else None
    at = m[:, None] * N + n[None, :]
    c = tl.load(out + at)
    c = tl.dot_scaled(a, sa, LHS, b, sb, RHS, c, lhs_k_pack=LHS_K, rhs_k_pack=RHS_K)
    tl.store(out + at, c)


def drawn(rng, kind, rows, cols, along_columns):
    """(argument, values [rows, cols]); e2m1: pairs along columns, or along rows."""
    if kind == "e2m1":
        bits = rng.integers(0, 16, (rows, cols))
        low, high = (bits[:, ::2], bits[:, 1::2]) if along_columns else (bits[::2], bits[1::2])
        return (low | high << 4).astype(np.uint8), E2M1[bits]
    if kind in POINTERS:
        finite = np.flatnonzero(np.abs(table(POINTERS[kind])) < 16)
        bits = rng.choice(finite, (rows, cols)).astype(np.uint8)
        return Tensor(bits, POINTERS[kind]), table(POINTERS[kind])[bits]
    values = rng.normal(size=(rows, cols)).astype(np.float16)
    if kind == "fp16":
        return values, values.astype(np.float64)
    rounded = bf16(values)
    return rounded, (rounded.bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def cases():
    rng = np.random.default_rng(13)
    formats = ("e2m1", "e4m3", "e5m2", "bf16", "fp16")
    pairs = [("e2m1", "e2m1"), ("e4m3", "e5m2"), ("e2m1", "bf16"), ("fp16", "e2m1"),
             ("e5m2", "fp16")]  # fmt: skip
    pairs += [tuple(rng.choice(formats, 2)) for _ in range(3)]
    for number, (lhs, rhs) in enumerate(pairs):
        m, n, k = (int(rng.choice(s)) for s in ((16, 32), (16, 32), (32, 64, 128)))
        lhs_k, rhs_k = (kind != "e2m1" or bool(rng.integers(2)) for kind in (lhs, rhs))
        x, a = drawn(rng, lhs, m, k, lhs_k)
        y, b = drawn(rng, rhs, k, n, not rhs_k)
        # Numbers of 16 bits have no scales.
        scales = (lhs not in ("bf16", "fp16")) * int(rng.integers(number == 0, 2))
        scales += 2 * (rhs not in ("bf16", "fp16")) * int(rng.integers(number == 0, 2))
        p, q = (rng.integers(120, 134, (rows, k // 32)).astype(np.uint8) for rows in (m, n))
        if scales % 2 == 1:
            a = a * np.repeat(np.exp2(p.astype(float) - 127), 32, 1)
        if scales >= 2:
            b = b * np.repeat(np.exp2(q.astype(float) - 127), 32, 1).T
        before = rng.normal(size=(m, n)).astype(np.float32)
        want = before + a @ b
        consts = {"M": m, "N": n, "K": k, "LHS": str(lhs), "RHS": str(rhs), "SCALES": scales,
                  "GROUP": 32, "LHS_K": lhs_k, "RHS_K": rhs_k}  # fmt: skip
        yield Case(scaled_product, (1,), [before, x, y, p, q], consts,
                   f"{number}_{lhs}_{rhs}_{scales}", 2e-5, 1e-4,
                   want=lambda args, want=want: {0: want})  # fmt: skip
