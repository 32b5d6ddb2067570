"""Linear layer for many rows: a tiled matrix product.

    y[m, n] = sum_k x[m, k] * w[n, k] + bias[n]

y, x [M, N], [M, K] with row strides; w [N, K], converted to the element type of x; bias [N]
(HAS_BIAS).
Grid: one program a [BLOCK_M, BLOCK_N] tile, GROUP_M tiles of rows beside each other so that what is
read at the same time shares rows of x and w. Accumulation: fp32.
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
def linear_tiled(
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(n_rows, BLOCK_M)
    tiles_n = tl.cdiv(n_out, BLOCK_N)
    group = pid // (GROUP_M * tiles_n)
    group_rows = tl.minimum(tiles_m - group * GROUP_M, GROUP_M)
    in_group = pid % (GROUP_M * tiles_n)
    tile_m = group * GROUP_M + in_group % group_rows
    tile_n = in_group // group_rows

    offs_m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    lane_k = tl.arange(0, BLOCK_K)
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * x_stride
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * n_in
    mask_m = offs_m[:, None] < n_rows
    mask_n = offs_n[:, None] < n_out
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(0, n_in, BLOCK_K):
        offs_k = (k + lane_k)[None, :]
        if EVEN_K:
            x = tl.load(x_rows + offs_k, mask=mask_m, other=0.0)
        else:
            x = tl.load(x_rows + offs_k, mask=mask_m & (offs_k < n_in), other=0.0)
        if EVEN_N and EVEN_K:
            w = tl.load(w_rows + offs_k)
        elif EVEN_K:
            w = tl.load(w_rows + offs_k, mask=mask_n, other=0.0)
        else:
            w = tl.load(w_rows + offs_k, mask=mask_n & (offs_k < n_in), other=0.0)
        acc = tl.dot(x, tl.trans(w.to(x.dtype)), acc, input_precision="ieee")
    if HAS_BIAS:
        acc += tl.load(bias_ptr + offs_n, mask=offs_n < n_out, other=0.0).to(tl.float32)[None, :]
    y = acc.to(y_ptr.dtype.element_ty)
    target = y_ptr + offs_m.to(tl.int64)[:, None] * y_stride + offs_n[None, :]
    tl.store(target, y, mask=mask_m & (offs_n[None, :] < n_out))


reference = linear_reference


def cases(act):
    yield linear_case("demo_qkv", 44, 640, 384, act=act)
    yield linear_case("demo_down", 300, 384, 1024, act=act)
    yield linear_case("demo_head", 17, 8192, 384, act=act, bias=False, out="fp32")
    yield linear_case("fixture", 64, 256, 128, act=act, bias=False)
    yield linear_case("one_row", 1, 512, 128, act=act)
    yield linear_case("llama3_8b_strip", 70, 128, 4096, act=act, bias=False)
    yield linear_case("odd", 37, 77, 83, act=act, pad=5)
    yield linear_case("odd_n", 130, 100, 256, act=act)
    yield linear_case("odd_k", 9, 64, 100, act=act, bias=False)
    yield linear_case("half", 50, 384, 384, act="fp16")
    yield linear_case("bf16", 50, 384, 384, act="bf16", weight="bf16")
    if act == "fp32":
        # Weights are promoted to fp32 exactly; to a 16-bit type of another kind they would be
        # rounded, which no model asks for.
        yield linear_case("bf16_weight", 33, 128, 256, act=act, weight="bf16")
        yield linear_case("fp32_weight", 33, 128, 256, act=act, weight="fp32")


SPEC = Spec(
    fn=linear_tiled,
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
        tuned("BLOCK_M"),
        tuned("BLOCK_N"),
        tuned("BLOCK_K"),
        tuned("GROUP_M"),
        derived("EVEN_N", "n_out % BLOCK_N == 0"),
        derived("EVEN_K", "n_in % BLOCK_K == 0"),
    ),
    grid=("cdiv(n_rows, BLOCK_M) * cdiv(n_out, BLOCK_N)", "1", "1"),
    bytes="n_out * n_in * sizeof(w_ptr) + n_rows * (n_in * sizeof(x_ptr) + n_out * sizeof(y_ptr))"
    " + HAS_BIAS * n_out * sizeof(bias_ptr)",
    flops="2 * n_rows * n_out * n_in",
    reference=reference,
    cases=cases,
    tuned=("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M"),
    default={
        # A panel of weights is converted and packed once a program: many rows pay for it.
        "cpu": {
            "BLOCK_M": 256,
            "BLOCK_N": 64,
            "BLOCK_K": "128 if n_in % 256 else 256",
            "GROUP_M": 8,
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {
            "BLOCK_M": 128,
            "BLOCK_N": 128,
            "BLOCK_K": "64 if sizeof(x_ptr) <= 2 else 32",
            "GROUP_M": 8,
            "num_warps": 8,
            "num_stages": 3,
        },
        "hip": {
            "BLOCK_M": 128,
            "BLOCK_N": 128,
            "BLOCK_K": "64 if sizeof(x_ptr) <= 2 else 32",
            "GROUP_M": 8,
            "num_warps": 8,
            "num_stages": 2,
        },
    },
)
