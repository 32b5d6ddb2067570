"""Linear layer of rows and weights as integers: a tiled product of int8.

    p[m, n] = sum_g x_scale[m, g] * scale[n, g] * d[m, n, g] + bias[n]
    d[m, n, g] = sum over k in g of (256 * x[m, k] + x_low[m, k]) * (w[n, k] - zero[n, g])
    y[m, n] = alpha * q + residual[m, n];  q = p[m, n], EPILOGUE(p[m, n]),
                                           or EPILOGUE(p[m, n], p[m, N + n])     (GATED)

x, x_low i8 [M, K] and x_scale [M, XG] as kernels/quantize_rows.py makes them; w of `i8` or `u8`,
scale and perhaps zero [N, G] as in kernels/lib/quantized.py; y, residual [M, N] with row strides; K
is a multiple of XG, and XG of G, so that a group of a row is within one of the weights; of 4 bits K
is a multiple of 128. Flags as in linear_tiled.
Grid: (N / BLOCK_N, M / BLOCK_M). The two sums of a group, of high bytes and of low ones, are exact
int32; sums of groups are fp32, in order: what a row gives does not depend on M.
"""

from dataclasses import replace

import numpy as np
import triton
import triton.language as tl

from kernels.lib.linear import (
    GEGLU,
    SWIGLU,
    add_residual,
    draw_linear,
    epilogue,
    linear_case,
    linear_reference,
    load_biases,
    load_weights,
    rows_of_sums,
    scaled_rows,
    zero_sums,
)
from kernels.quantize_rows import quantized
from kernels.spec import (
    FLOATS,
    Spec,
    derived,
    function,
    given,
    inp,
    out,
    scalar,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def integers(w, zero_rows, group, mask_n, PART: tl.constexpr, HAS_ZERO: tl.constexpr):
    """A tile of weights as int8: of 4 bits the low numbers of the bytes, or in PART 1 the high
    ones, less their zero."""
    if w.dtype == tl.uint8:
        # Widened before it is cut: there are no shifts of bytes.
        w = (w.to(tl.int32) >> (4 * PART)) & 15
        if HAS_ZERO:
            w -= tl.load(zero_rows + group, mask=mask_n, other=0).to(tl.int32)
        else:
            w -= 8
    return w.to(tl.int8)


@triton.jit
def linear_int8(
    y_ptr,
    x_ptr,
    x_low_ptr,
    x_scale_ptr,
    w_ptr,
    scale_ptr,
    zero_ptr,
    bias_ptr,
    residual_ptr,
    n_rows,
    n_out,
    n_in,
    w_width,
    n_groups,
    x_groups,
    y_stride,
    residual_stride,
    alpha,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    GATED: tl.constexpr,
    EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN_N: tl.constexpr,
):
    HAS_GROUPS: tl.constexpr = GROUPS > 1
    PARTS: tl.constexpr = 2 if w_ptr.dtype.element_ty == tl.uint8 else 1
    # A step is a block of packed bytes, or a group; a tile of bytes has two of columns.
    STEP: tl.constexpr = 128 if PARTS == 2 else GROUP
    BLOCK_K: tl.constexpr = min(GROUP, STEP // PARTS)
    first_n = tl.program_id(0) * BLOCK_N
    first_m = tl.program_id(1) * BLOCK_M
    offs_n = first_n + tl.arange(0, BLOCK_N)
    offs_m = first_m + tl.arange(0, BLOCK_M)
    mask_n = offs_n[:, None] < n_out
    mask_m = offs_m[:, None] < n_rows
    lane_k = tl.arange(0, BLOCK_K)
    row = offs_n.to(tl.int64)[:, None]
    w_rows = rows_of_sums(w_ptr + row * w_width, n_out, w_width, GATED)
    scale_rows = rows_of_sums(scale_ptr + offs_n.to(tl.int64) * n_groups, n_out, n_groups, GATED)
    zero_rows = rows_of_sums(zero_ptr + row * n_groups, n_out, n_groups, GATED)
    x_rows = offs_m.to(tl.int64)[:, None] * n_in
    x_scales = x_scale_ptr + offs_m.to(tl.int64) * x_groups
    sums = zero_sums((BLOCK_M, BLOCK_N), GATED)
    for k in range(0, n_in, STEP):
        for t in tl.static_range(STEP // (PARTS * BLOCK_K)):
            for part in tl.static_range(PARTS):
                first_k = k + t * BLOCK_K + part * 64
                at = (k // PARTS + t * BLOCK_K + lane_k)[None, :]
                x_at = x_rows + (first_k + lane_k)[None, :]
                high = tl.load(x_ptr + x_at, mask=mask_m, other=0)
                low = tl.load(x_low_ptr + x_at, mask=mask_m, other=0)
                x_scale = tl.load(x_scales + first_k // GROUP, mask=offs_m < n_rows, other=0.0)
                group = first_k // (n_in // n_groups)
                new_sums = ()
                for i in tl.static_range(1 + GATED):
                    w = load_weights(w_rows[i], at, mask_n, w_width, EVEN_N, True)
                    w = tl.trans(integers(w, zero_rows[i], group, mask_n, part, HAS_ZERO))
                    total = tl.dot(high, w).to(tl.float32) * 256.0 + tl.dot(low, w).to(tl.float32)
                    total *= x_scale[:, None]
                    if HAS_GROUPS:
                        scale = tl.load(scale_rows[i] + group, mask=offs_n < n_out, other=0.0)
                        total *= scale.to(tl.float32)[None, :]
                    new_sums = new_sums + (sums[i] + total,)
                sums = new_sums
    scales = load_biases(scale_ptr, offs_n, n_out, not HAS_GROUPS, GATED, 0)
    sums = scaled_rows(sums, scales, not HAS_GROUPS)
    biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, 0)
    y = epilogue(sums, biases, HAS_BIAS, EPILOGUE)
    mask = mask_m & (offs_n[None, :] < n_out)
    rows = offs_m.to(tl.int64)[:, None]
    residual_at = residual_ptr + rows * residual_stride + offs_n[None, :]
    y = add_residual(y, residual_at, mask, alpha, HAS_RESIDUAL)
    target = y_ptr + rows * y_stride + offs_n[None, :]
    tl.store(target, y.to(y_ptr.dtype.element_ty), mask=mask)


def reference(a):
    x = 256.0 * a["x_ptr"].astype(np.float64) + a["x_low_ptr"]
    scale = np.repeat(a["x_scale_ptr"], a["GROUP"], axis=1)
    return linear_reference({**a, "x_ptr": x * scale, "HAS_SCALE": 1})


def int8_case(name, n_rows, n_out, n_in, *, group=128, weight="i8", **kwargs):
    """`group`: columns of x that share a scale."""
    case = linear_case(
        name, n_rows, n_out, n_in, weight=weight, may_quantise=True, **{"norm": None, **kwargs}
    )
    args, dtypes, flags = dict(case.args), dict(case.dtypes), dict(case.constexprs)
    high, low, scale = quantized(args["x_ptr"][:, :n_in], n_in // group)
    args |= {"x_ptr": high, "x_low_ptr": low, "x_scale_ptr": scale, "x_groups": n_in // group}
    dtypes |= {"x_ptr": "i8", "x_low_ptr": "i8", "x_scale_ptr": "fp32"}
    del args["x_stride"], flags["HAS_SCALE"]
    return replace(case, args=args, dtypes=dtypes, constexprs=flags)


def cases(act):
    def case(name, *sizes, **kwargs):
        return int8_case(name, *sizes, **{"act": act, **kwargs})

    yield case("demo_qkv", 44, 640, 384)
    yield case("demo_down", 300, 384, 1024, residual=True)
    yield case("demo_head", 17, 8192, 384, bias=False)
    yield case("demo_mlp", 44, 1024, 384, epilogue=SWIGLU)
    yield case("one_row", 1, 512, 128)
    yield case("llama3_8b_strip", 70, 128, 4096, bias=False)
    yield case("odd", 37, 77, 96, group=32, pad=5)
    yield case("odd_swiglu", 37, 77, 192, group=64, pad=5, epilogue=SWIGLU, bias=False)
    yield case("both", 150, 192, 320, group=64, residual=True, epilogue=GEGLU, alpha=-1.5)
    yield case("groups", 50, 96, 512, n_groups=2, scale="bf16")
    yield case("small_groups", 9, 50, 384, group=32, n_groups=12, scale="fp16", epilogue=SWIGLU)
    yield case("four", 70, 96, 512, weight="u8", n_groups=4, residual=True)
    yield case("four_row", 20, 100, 384, weight="u8", epilogue=SWIGLU)
    yield case("four_zeros", 40, 96, 1024, weight="u8", n_groups=8, has_zero=True, scale="fp16")
    yield case("four_zeros_row", 20, 40, 256, weight="u8", has_zero=True, pad=3)
    for group in (64, 32):
        n_groups = 256 // group
        yield case(f"four_{group}", 33, 96, 256, weight="u8", group=group, n_groups=n_groups,
                   has_zero=True)  # fmt: skip
        yield case(f"four_row_{group}", 9, 64, 256, weight="u8", group=group, epilogue=GEGLU)
    yield case("half", 50, 384, 384, act="fp16", residual=True)
    yield case("bf16", 50, 384, 384, act="bf16")


def draw_int8(d, act, n_rows, **given):
    """`given`: constexprs of the case."""
    weight = d.variant.of("i8", "u8")
    widths = (128, 256, 384, 512, 1024, 2048) if weight == "u8" else (32, 96, 160, 256, 384, 1024)

    def case_of(name, n_rows, n_out, n_in, **kwargs):
        of_weight = d.variant.of(*(n for n in (32, 64, 128, 256, n_in) if n_in % n == 0))
        return int8_case(
            name,
            n_rows,
            n_out,
            n_in,
            group=d.variant.of(*(n for n in (32, 64, 128) if of_weight % n == 0)),
            n_groups=n_in // of_weight,
            has_zero=weight == "u8" and d.variant.chance(0.5),
            scale=d.variant.of("fp32", "fp16", "bf16"),
            **kwargs | {"weight": weight},
            **given,
        )

    flags = dict.fromkeys(("bias", "residual"))
    x = d.types(act)
    return draw_linear(d, x, ("fp32",), n_rows, widths=widths, case_of=case_of, **flags)


def draw(d, act):
    return draw_int8(d, act, d.rows(300, tile=64))


# What this kernel and linear_int8_gemv are given of an operation, and what they move and compute.
PARAMS = (
    out("y_ptr", FLOATS, "n_rows", "y_stride"),
    inp("x_ptr", "i8", "n_rows", "n_in"),
    inp("x_low_ptr", "i8", "n_rows", "n_in"),
    inp("x_scale_ptr", "fp32", "n_rows", "x_groups"),
    inp("w_ptr", ("i8", "u8"), "n_out * (1 + GATED)", "w_width", of="weight"),
    inp("scale_ptr", FLOATS, "n_out * (1 + GATED)", "n_groups"),
    inp("zero_ptr", "u8", "n_out * (1 + GATED)", "n_groups"),
    inp("bias_ptr", FLOATS, "n_out * (1 + GATED)"),
    inp("residual_ptr", FLOATS, "n_rows", "residual_stride"),
    step_size("n_rows", of="y[0]"),
    size("n_out", of="y[1]"),
    size("n_in", of="x[1]"),
    size("w_width", of="weight[1]"),
    size("n_groups", of="scale[1]"),
    size("x_groups", of="x_scale[1]"),
    stride("y_stride"),
    stride("residual_stride"),
    scalar("alpha"),
    given("HAS_BIAS"),
    given("HAS_RESIDUAL"),
    given("HAS_ZERO"),
    given("GATED", of="@epilogue takes 2"),
    function("EPILOGUE", "expression", of="@epilogue"),
)
BYTES = (
    "(1 + GATED) * n_out * (w_width + n_groups * (sizeof(scale_ptr) + HAS_ZERO)"
    " + HAS_BIAS * sizeof(bias_ptr)) + n_rows * (2 * n_in + 4 * x_groups"
    " + n_out * (sizeof(y_ptr) + HAS_RESIDUAL * sizeof(residual_ptr)))"
)
FLOPS = "2 * n_rows * n_out * n_in * (1 + GATED)"

SPEC = Spec(
    fn=linear_int8,
    op="linear",
    when="not gpu and rows > 4",
    params=(
        *PARAMS,
        tuned("BLOCK_M"),
        tuned("BLOCK_N"),
        derived("GROUPS", "n_groups"),
        derived("GROUP", "n_in // x_groups"),
        derived("EVEN_N", "n_out % BLOCK_N == 0"),
    ),
    grid=("cdiv(n_out, BLOCK_N)", "cdiv(n_rows, BLOCK_M)", "1"),
    bytes=BYTES,
    flops=FLOPS,
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK_M", "BLOCK_N"),
    default={
        # A panel of weights is made once a program: many rows pay for it.
        "cpu": {"BLOCK_M": 256, "BLOCK_N": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
        "hip": {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    },
    space={
        "cpu": {
            "BLOCK_M": (8, 16, 32, 64, 128, 256, 512),
            "BLOCK_N": (32, 64, 128),
            "where": "BLOCK_M <= max(8, next_pow2(n_rows)) and BLOCK_N <= n_out",
        }
    },
)
