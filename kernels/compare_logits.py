"""How far one model's distribution of the next token is from another's, in each row.

    kl[r] = sum_v p[v] ln(p[v] / q[v])    p = softmax(p_logits[r, :]), q = softmax(q_logits[r, :])
    same[r] = 1 where the largest of both rows, the lowest index among equals, are one; else 0

kl is NaN and same 0 where one of 2 V logits is NaN or infinite. p_logits, q_logits [R, V] with row
strides; kl [R] fp32; same [R]. With d = ln p - ln q the terms are summed as q - p + p d, which is
never below 0 and, where d is small, its series: what rounding does to ln p and ln q then counts
with d, not with 1. Three passes (maxima, sums, terms), fp32. Grid: one program a row.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.select import all_finite, is_finite, lowest_index_of_max
from kernels.spec import FLOATS, Case, Spec, inp, out, padded, rng, size, step_size, stride, tuned


@triton.jit
def excess(d):
    """exp(-d) - 1 + d for |d| < 0.5, by its series."""
    tail = 1.0 - d / 9.0
    tail = 1.0 - d / 8.0 * tail
    tail = 1.0 - d / 7.0 * tail
    tail = 1.0 - d / 6.0 * tail
    tail = 1.0 - d / 5.0 * tail
    tail = 1.0 - d / 4.0 * tail
    return 0.5 * d * d * (1.0 - d / 3.0 * tail)


@triton.jit
def compare_logits(
    kl_ptr,
    same_ptr,
    p_ptr,
    q_ptr,
    n_rows,
    n_vocab,
    p_stride,
    q_stride,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    p_row = p_ptr + row * p_stride
    q_row = q_ptr + row * q_stride
    lane = tl.arange(0, BLOCK)
    p_best = tl.full((BLOCK,), float("-inf"), tl.float32)
    q_best = tl.full((BLOCK,), float("-inf"), tl.float32)
    p_index = lane
    q_index = lane
    n_odd = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n_vocab, BLOCK):
        at = start + lane
        p = tl.load(p_row + at, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
        q = tl.load(q_row + at, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
        n_odd = tl.where((is_finite(p) & is_finite(q)) | (at >= n_vocab), n_odd, 1)
        p_index = tl.where(p > p_best, at, p_index)
        q_index = tl.where(q > q_best, at, q_index)
        p_best = tl.maximum(p_best, p)
        q_best = tl.maximum(q_best, q)
    is_odd = tl.max(n_odd, axis=0) > 0
    is_same = lowest_index_of_max(p_best, p_index) == lowest_index_of_max(q_best, q_index)
    p_largest = tl.max(p_best, axis=0)
    q_largest = tl.max(q_best, axis=0)
    p_sum = tl.zeros((BLOCK,), tl.float32)
    q_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n_vocab, BLOCK):
        at = start + lane
        p = tl.load(p_row + at, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
        q = tl.load(q_row + at, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
        p_sum += tl.exp(p - p_largest)
        q_sum += tl.exp(q - q_largest)
    p_log = tl.log(tl.sum(p_sum, axis=0))
    q_log = tl.log(tl.sum(q_sum, axis=0))
    terms = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n_vocab, BLOCK):
        at = start + lane
        mask = at < n_vocab
        p = tl.load(p_row + at, mask=mask, other=0.0).to(tl.float32) - p_largest - p_log
        q = tl.load(q_row + at, mask=mask, other=0.0).to(tl.float32) - q_largest - q_log
        d = p - q
        p_of = tl.exp(p)
        # Where p vanishes so does p d, however large d is.
        wide = tl.exp(q) - p_of + tl.where(p_of > 0.0, p_of * d, 0.0)
        term = tl.where(tl.abs(d) < 0.5, p_of * excess(d), wide)
        terms += tl.where(mask, term, 0.0)
    kl = tl.sum(terms, axis=0)
    tl.store(kl_ptr + row, tl.where(is_odd, float("nan"), kl))
    tl.store(same_ptr + row, tl.where(is_odd, 0, is_same.to(tl.int32)))


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def reference(a):
    kl, same = a["kl_ptr"].copy(), a["same_ptr"].copy()
    for row in range(a["n_rows"]):
        p, q = (a[name][row, : a["n_vocab"]] for name in ("p_ptr", "q_ptr"))
        if not (all_finite(p) and all_finite(q)):
            kl[row], same[row] = np.nan, 0
            continue
        log_p, log_q = log_softmax(p), log_softmax(q)
        terms = np.exp(log_p) * (log_p - log_q)
        kl[row] = np.where(np.exp(log_p) > 0.0, terms, 0.0).sum()
        same[row] = int(np.argmax(p) == np.argmax(q))
    return {"kl_ptr": kl, "same_ptr": same}


def case(name, n_rows, n_vocab, gaps=(0, 0), std=3.0, distance=0.1, types=("fp32", "fp32"),
         edit=None):  # fmt: skip
    """Logits of q are those of p and, of `distance`, others; infinite: nothing in common."""
    g = rng(name)
    p = padded(g, n_rows, n_vocab, gaps[0], std=std)
    q = padded(g, n_rows, n_vocab, gaps[1], std=std)
    if distance < np.inf:
        q[:, :n_vocab] = p[:, :n_vocab] + np.float32(distance / std if std else 0) * q[:, :n_vocab]
    if edit is not None:
        edit(p[:, :n_vocab], q[:, :n_vocab])
    return Case(
        name,
        {
            "kl_ptr": np.full(n_rows + 1, 9.0, np.float32),
            "same_ptr": np.full(n_rows + 1, 9, np.int32),
            "p_ptr": p,
            "q_ptr": q,
            "n_rows": n_rows,
            "n_vocab": n_vocab,
            "p_stride": n_vocab + gaps[0],
            "q_stride": n_vocab + gaps[1],
        },
        {"kl_ptr": "fp32", "same_ptr": "i32", "p_ptr": types[0], "q_ptr": types[1]},
        # How far a small one may be off: a part of itself, not of 1.
        units={"kl_ptr": min(1.0, distance**2)},
        tolerance={"kl_ptr": 2e-4},
    )


def cases(act):
    def strange(p, q):
        p[0, 5] = np.nan
        p[1, 599] = -np.inf
        q[2, 0] = np.inf
        q[3] = np.nan

    def ties(p, q):
        p[:, [3, 70, 500]] = 50.0
        q[:, [70, 500]] = 50.0
        q[1, 3] = 50.0

    yield case("demo", 5, 8192)
    yield case("close", 4, 8192, distance=1e-3)
    yield case("apart", 3, 2048, std=20.0, distance=np.inf)
    yield case("strange", 5, 600, edit=strange)
    yield case("ties", 3, 600, edit=ties)
    yield case("llama3", 1, 128256)
    yield case("odd_strided", 4, 1031, gaps=(9, 4))
    yield case("one", 2, 1)


def draw(d, act):
    types = (d.variant.of("fp32", *FLOATS), d.variant.of("fp32", *FLOATS))
    n_vocab = d.width(1, 9000)
    n_rows = d.rows(max(1, min(9, 9000 // n_vocab)))
    std = d.case.of(3.0, 3.0, 0.0, 40.0, 5000.0)
    # Rounding to a type of 16 bits is a distance of its own.
    is_exact = types == ("fp32", "fp32")
    distance = d.case.of(np.inf, 1.0, 0.1, *((0.01,) if is_exact and 0.0 < std < 5000.0 else ()))

    def edit(p, q):
        for rows in (p, q):
            d.season(rows, std)
            for row in rows:
                if d.case.chance(0.05):
                    row[d.case.between(0, n_vocab - 1)] = d.case.of(-np.inf, np.inf, np.nan)

    gaps = (d.gap(n_vocab, n_rows), d.gap(n_vocab, n_rows))
    return case(d.name, n_rows, n_vocab, gaps, std, distance, types, edit)


SPEC = Spec(
    fn=compare_logits,
    params=(
        out("kl_ptr", "fp32", "n_rows"),
        out("same_ptr", "i32", "n_rows"),
        inp("p_ptr", FLOATS, "n_rows", "p_stride"),
        inp("q_ptr", FLOATS, "n_rows", "q_stride"),
        step_size("n_rows"),
        size("n_vocab"),
        stride("p_stride"),
        stride("q_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="3 * n_rows * n_vocab * (sizeof(p_ptr) + sizeof(q_ptr))",
    flops="20 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 4096, "num_warps": 8, "num_stages": 1},
    },
)
