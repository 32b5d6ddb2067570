"""Linear layer of rows and weights in 8-bit floats (e4m3): a tiled matrix product.

    p[m, n] = x_scale[m] * scale[n] * sum_k x[m, k] * w[n, k] + bias[n]
    y[m, n] = alpha * q + residual[m, n];  q = p[m, n], EPILOGUE(p[m, n]),
                                           or EPILOGUE(p[m, n], p[m, N + n])     (GATED)

x fp8e4nv [M, K] and x_scale [M, 1] as kernels/quantize_rows_fp8.py makes them; w fp8e4nv [N, K]
([2 N, K] with GATED) and scale [N, 1]; y, residual [M, N] with row strides. Flags, grid and choices
as in linear_tiled, whose body it is.
HOPPER: the form of hopper/linear_fp8.py.
Accumulation: fp32. Products are exact; on Hopper the tensor cores add them up in about 14 bits, 128
columns at a time, the form of hopper/ all columns.
"""

from dataclasses import replace

import numpy as np
import triton
import triton.language as tl

from kernels.hopper import linear_fp8 as hopper
from kernels.lib.linear import GEGLU, SOFTCAP, SWIGLU, draw_linear, linear_case, linear_reference
from kernels.linear_tiled import SPEC as TILED
from kernels.linear_tiled import tiled_product
from kernels.quantize_rows_fp8 import quantized
from kernels.spec import (
    FLOATS,
    TOLERANCE,
    Spec,
    derived,
    inp,
    scalar,
    size,
    step_size,
    stride,
)


@triton.jit
def linear_fp8(
    y_ptr,
    x_ptr,
    x_scale_ptr,
    w_ptr,
    scale_ptr,
    bias_ptr,
    residual_ptr,
    n_rows,
    n_out,
    n_in,
    y_stride,
    residual_stride,
    alpha,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    GATED: tl.constexpr,
    EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    TMA: tl.constexpr,
    N_PROGRAMS: tl.constexpr,
    PDL: tl.constexpr,
    HOPPER: tl.constexpr,
    TAIL: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    tiled_product(
        y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, (x_scale_ptr, scale_ptr), n_rows, n_out, n_in,
        y_stride, n_in, residual_stride, alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M,
        BLOCK_N, BLOCK_K, GROUP_M, N_PROGRAMS, PDL, USE_DESCRIPTORS, EVEN_N, EVEN_K,
    )  # fmt: skip


def reference(a):
    flags = {"HAS_SCALE": 1, "n_groups": 1}
    with np.errstate(invalid="ignore"):  # a row that is not finite
        return linear_reference({**a, "x_ptr": a["x_ptr"] * a["x_scale_ptr"], **flags})


def fp8_case(name, n_rows, n_out, n_in, *, on_cpu, change=None, **kwargs):
    """`change`: of the rows of x."""
    more = {"norm": None, **kwargs, "weight": "fp8e4nv", "may_quantise": True}
    case = linear_case(name, n_rows, n_out, n_in, **more)
    args, dtypes, flags = dict(case.args), dict(case.dtypes), dict(case.constexprs)
    x = args["x_ptr"][:, :n_in]
    if change is not None:
        change(x)
    q, scale = quantized(x)
    args |= {"x_ptr": q, "x_scale_ptr": scale}
    dtypes |= {"x_ptr": "fp8e4nv", "x_scale_ptr": "fp32"}
    for absent in ("x_stride", "zero_ptr", "w_width", "n_groups"):
        del args[absent]
    del dtypes["zero_ptr"], flags["HAS_SCALE"], flags["HAS_ZERO"]
    tolerance = TOLERANCE[dtypes["y_ptr"]]
    if not on_cpu:
        # Each of the tensor cores' n_in / 32 additions cuts off what is below 2^-13 of the largest.
        tolerance += n_in / 32 * 2.0**-13
    return replace(case, args=args, dtypes=dtypes, constexprs=flags, tolerance={"y_ptr": tolerance})


def not_finite(x):
    x[0, 3] = np.nan
    x[1, 7] = np.inf


def cases(act):
    def case(name, *sizes, **kwargs):
        return fp8_case(name, *sizes, on_cpu=act == "fp32", **{"act": act, **kwargs})

    yield case("demo_qkv", 144, 640, 384)
    yield case("demo_down", 300, 384, 1024, residual=True)
    yield case("demo_head", 70, 8192, 384, bias=False, out="fp32")
    yield case("demo_mlp", 144, 1024, 384, bias=False, epilogue=SWIGLU)
    yield case("one_row", 1, 512, 128)
    yield case("llama3_8b_strip", 70, 128, 4096, bias=False)
    yield case("odd", 67, 77, 83, pad=5)
    yield case("odd_residual", 67, 77, 83, pad=5, residual=True, alpha=0.25)
    yield case("odd_swiglu", 67, 77, 83, pad=5, epilogue=SWIGLU, bias=False)
    yield case("odd_n", 130, 100, 256)
    yield case("both", 150, 192, 320, residual=True, epilogue=GEGLU, alpha=-1.5)
    yield case("half_scales", 50, 384, 384, act="fp16", scale="fp16")
    yield case("bf16", 150, 384, 400, act="bf16", scale="bf16", residual=True)
    yield case("not_finite", 66, 128, 256, change=not_finite)
    # For Hopper's form: tiles of several widths, beyond rows and columns.
    yield case("wide", 150, 20000, 144, out="fp32")
    yield case("wide_half", 150, 20000, 144, act="fp16", bias=False)
    yield case("wide_qkv", 300, 6144, 400, act="fp16", bias=False)
    yield case("wide_residual", 300, 8200, 272, act="fp16", residual=True, alpha=0.5)
    yield case("wide_swiglu", 150, 4104, 144, act="bf16", epilogue=SWIGLU)
    yield case("wide_both", 520, 4104, 144, act="fp16", residual=True, epilogue=SWIGLU)
    yield case("wide_capped", 150, 20000, 144, act="bf16", epilogue=SOFTCAP)


def draw(d, act):
    def case_of(name, n_rows, n_out, n_in, **kwargs):
        scale = d.variant.of("fp32", "fp16", "bf16")
        return fp8_case(name, n_rows, n_out, n_in, on_cpu=act == "fp32", scale=scale, **kwargs)

    flags = dict.fromkeys(("bias", "residual"))
    n_rows = d.rows(300, tile=64)
    return draw_linear(d, d.types(act), ("fp32",), n_rows, case_of=case_of, **flags)


_X, _W = TILED.param("x_ptr").descriptor, TILED.param("w_ptr").descriptor
SPEC = Spec(
    fn=linear_fp8,
    forms={"HOPPER": hopper.linear_fp8},
    op="linear",
    when="rows > 64",
    params=(
        TILED.param("y_ptr"),
        inp(
            "x_ptr",
            "fp8e4nv",
            "n_rows",
            "n_in",
            descriptor=replace(_X, strides=("n_in", "1")),
        ),
        inp("x_scale_ptr", "fp32", "n_rows", "1"),
        inp("w_ptr", "fp8e4nv", "n_out * (1 + GATED)", "n_in", of="weight", descriptor=_W),
        inp("scale_ptr", FLOATS, "n_out * (1 + GATED)", "1"),
        TILED.param("bias_ptr"),
        TILED.param("residual_ptr"),
        step_size("n_rows", of="y[0]"),
        size("n_out", of="y[1]"),
        size("n_in", of="x[1]"),
        stride("y_stride"),
        stride("residual_stride"),
        scalar("alpha"),
        *(p for p in TILED.params if p.role == "constexpr" and p.value is None),
        derived(
            "USE_DESCRIPTORS",
            "min(TMA, 2 if sizeof(y_ptr) == 2 and y_stride % 8 == 0 else 1)"
            " if n_in % 16 == 0 else 0",
        ),
        TILED.param("EVEN_N"),
        TILED.param("EVEN_K"),
    ),
    grid=TILED.grid,
    bytes="(1 + GATED) * n_out * (n_in + sizeof(scale_ptr) + HAS_BIAS * sizeof(bias_ptr))"
    " + n_rows * (n_in + 4"
    " + n_out * (sizeof(y_ptr) + HAS_RESIDUAL * sizeof(residual_ptr)))",
    flops=TILED.flops,
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=TILED.tuned,
    default={
        "cpu": TILED.default["cpu"],
        "cuda": {**TILED.default["cuda"], "BLOCK_K": 128},
        "hip": {**TILED.default["hip"], "BLOCK_K": 128},
    },
    space=TILED.space,
)
