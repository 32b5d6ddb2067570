"""Linear layer for few rows: a stream of weights, no `tl.dot`.

    y[m, n] = sum_k x[m, k] * w[n, k] + bias[n]

y, x [M, N], [M, K] with row strides; w [N, K]; bias [N] (HAS_BIAS). A program takes ROWS rows of x
(the last group may be short) and N_LOOP times BLOCK_N rows of w, each read once for all ROWS.
Grid: (N / (BLOCK_N * N_LOOP), M / ROWS). Accumulation: fp32, one [BLOCK_N, BLOCK_K] tile a row of x
over the whole of K and one sum at the end: what a row gives does not depend on ROWS or M.
"""

import triton
import triton.language as tl

from kernels.lib.linear import linear_case, linear_reference
from kernels.spec import (
    FLOATS,
    Spec,
    derived,
    given,
    inp,
    out,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def linear_gemv(
    y_ptr,
    x_ptr,
    w_ptr,
    bias_ptr,
    n_rows,
    n_out,
    n_in,
    y_stride,
    x_stride,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    N_LOOP: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    first_row = tl.program_id(1) * ROWS
    first_out = tl.program_id(0) * (BLOCK_N * N_LOOP)
    lane_n = tl.arange(0, BLOCK_N)
    lane_k = tl.arange(0, BLOCK_K)
    for n in range(first_out, tl.minimum(first_out + BLOCK_N * N_LOOP, n_out), BLOCK_N):
        offs_n = n + lane_n
        w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * n_in
        sums = ()
        for _ in tl.static_range(ROWS):
            sums = sums + (tl.zeros((BLOCK_N, BLOCK_K), tl.float32),)
        for k in range(0, n_in, BLOCK_K):
            offs_k = k + lane_k
            if EVEN_N and EVEN_K:
                w = tl.load(w_rows + offs_k[None, :], eviction_policy="evict_first")
            elif EVEN_K:
                mask = offs_n[:, None] < n_out
                w = tl.load(
                    w_rows + offs_k[None, :], mask=mask, other=0.0, eviction_policy="evict_first"
                )
            else:
                mask = (offs_n[:, None] < n_out) & (offs_k[None, :] < n_in)
                w = tl.load(
                    w_rows + offs_k[None, :], mask=mask, other=0.0, eviction_policy="evict_first"
                )
            w = w.to(tl.float32)
            new_sums = ()
            for i in tl.static_range(ROWS):
                # A short group reads its last row again; the store leaves it out.
                row = tl.minimum(first_row + i, n_rows - 1).to(tl.int64)
                if EVEN_K:
                    x = tl.load(x_ptr + row * x_stride + offs_k).to(tl.float32)
                else:
                    x = tl.load(x_ptr + row * x_stride + offs_k, mask=offs_k < n_in, other=0.0)
                    x = x.to(tl.float32)
                new_sums = new_sums + (sums[i] + w * x[None, :],)
            sums = new_sums
        for i in tl.static_range(ROWS):
            row = first_row + i
            y = tl.sum(sums[i], axis=1)
            if HAS_BIAS:
                y += tl.load(bias_ptr + offs_n, mask=offs_n < n_out, other=0.0).to(tl.float32)
            mask = (offs_n < n_out) & (row < n_rows)
            y = y.to(y_ptr.dtype.element_ty)
            tl.store(y_ptr + row.to(tl.int64) * y_stride + offs_n, y, mask=mask)


reference = linear_reference


def cases(act):
    yield linear_case("demo_qkv", 1, 640, 384, act=act, ROWS=1)
    yield linear_case("demo_down", 2, 384, 1024, act=act, ROWS=2)
    yield linear_case("demo_head", 1, 8192, 384, act=act, bias=False, ROWS=1, out="fp32")
    yield linear_case("fixture_bf16", 4, 256, 128, act=act, weight="bf16", ROWS=4)
    yield linear_case("short_group", 3, 512, 128, act=act, ROWS=4, bias=False)
    yield linear_case("eight", 8, 384, 384, act=act, ROWS=8)
    yield linear_case("two_groups", 11, 128, 256, act=act, ROWS=8, bias=False)
    yield linear_case("llama3_8b_strip", 2, 64, 4096, act=act, ROWS=2, bias=False)
    yield linear_case("llama3_8b_down_strip", 1, 32, 14336, act=act, ROWS=1, bias=False)
    yield linear_case("odd", 3, 77, 83, act=act, ROWS=4, pad=5, weight="fp32")
    yield linear_case("odd_k", 1, 64, 100, act=act, ROWS=1)
    yield linear_case("half", 2, 384, 384, act="fp16", ROWS=2)
    yield linear_case("bf16", 2, 384, 384, act="bf16", weight="bf16", ROWS=2)


SPEC = Spec(
    fn=linear_gemv,
    params=(
        out("y_ptr", FLOATS, "n_rows", "y_stride"),
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        inp("w_ptr", FLOATS, "n_out", "n_in"),
        inp("bias_ptr", FLOATS, "n_out"),
        step_size("n_rows"),
        size("n_out"),
        size("n_in"),
        stride("y_stride"),
        stride("x_stride"),
        given("HAS_BIAS"),
        given("ROWS"),
        tuned("BLOCK_N"),
        tuned("BLOCK_K"),
        tuned("N_LOOP"),
        derived("EVEN_N", "n_out % BLOCK_N == 0"),
        derived("EVEN_K", "n_in % BLOCK_K == 0"),
    ),
    grid=("cdiv(n_out, BLOCK_N * N_LOOP)", "cdiv(n_rows, ROWS)", "1"),
    bytes="n_out * n_in * sizeof(w_ptr) + n_rows * (n_in * sizeof(x_ptr) + n_out * sizeof(y_ptr))"
    " + HAS_BIAS * n_out * sizeof(bias_ptr)",
    flops="2 * n_rows * n_out * n_in",
    reference=reference,
    cases=cases,
    tuned=("BLOCK_N", "BLOCK_K", "N_LOOP"),
    default={
        # One row of weights at a time feeds the hardware prefetcher best; 64 weights are four
        # AVX-512 accumulators. BLOCK_K must not depend on ROWS (see above).
        "cpu": {"BLOCK_N": 1, "BLOCK_K": 64, "N_LOOP": 16, "num_warps": 1, "num_stages": 1},
        "cuda": {
            "BLOCK_N": "2 if n_in >= 1024 else 8",
            "BLOCK_K": "1024 if n_in >= 1024 else 256",
            "N_LOOP": 1,
            "num_warps": 4,
            "num_stages": 1,
        },
        "hip": {
            "BLOCK_N": "2 if n_in >= 1024 else 8",
            "BLOCK_K": "1024 if n_in >= 1024 else 256",
            "N_LOOP": 1,
            "num_warps": 4,
            "num_stages": 1,
        },
    },
)
