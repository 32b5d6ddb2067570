"""Linear layer for many rows: a tiled matrix product.

    p[m, n] = sum_k x[m, k] * w[n, k] + bias[n]
    y[m, n] = alpha * q + residual[m, n];  q = p[m, n], EPILOGUE(p[m, n]),
                                           or EPILOGUE(p[m, n], p[m, N + n])     (GATED)

y, x, residual [M, N], [M, K], [M, N] with row strides; w [N, K] ([2 N, K] with GATED: all gate
rows, then all up rows), converted to the element type of x; bias [N] ([2 N]). HAS_BIAS and
HAS_RESIDUAL say what there is; residual may be y itself; alpha counts with HAS_RESIDUAL only.
Grid: one program a [BLOCK_M, BLOCK_N] tile, GROUP_M tiles of rows beside each other so that what is
read at the same time shares rows of x and w; with N_PROGRAMS that many programs share the tiles.
TMA: x and w (from 2 on y too) are tensor maps, where their rows lie so (USE_DESCRIPTORS).
PDL: as in linear_skinny.
HOPPER: the form of hopper/linear_tiled.py, which alone reads TAIL.
Accumulation: fp32.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.hopper import linear_tiled as hopper
from kernels.lib.linear import (
    GEGLU,
    SOFTCAP,
    SWIGLU,
    add_residual,
    draw_linear,
    epilogue,
    exact_weights,
    linear_case,
    linear_reference,
    load_biases,
    load_weights,
    rows_of_sums,
    scaled_both,
    zero_sums,
)
from kernels.spec import (
    FLOATS,
    Descriptor,
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
def tile_product(
    y_ptr,
    x_ptr,
    w_ptr,
    bias_ptr,
    residual_ptr,
    scales,
    n_rows,
    n_out,
    n_in,
    y_stride,
    x_stride,
    residual_stride,
    alpha,
    tile,
    tiles_m,
    tiles_n,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    GATED: tl.constexpr,
    EPILOGUE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EARLY: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    """One tile of y, from the first product to the store. `scales`: as in scaled_both, or ()."""
    # Hopper adds up products of 8-bit floats in fewer bits than fp32 has: not over more columns.
    IMPRECISE: tl.constexpr = min(BLOCK_K, 128) if len(scales) > 0 else None
    group = tile // (GROUP_M * tiles_n)
    group_rows = tl.minimum(tiles_m - group * GROUP_M, GROUP_M)
    in_group = tile % (GROUP_M * tiles_n)
    first_m = (group * GROUP_M + in_group % group_rows) * BLOCK_M
    first_n = in_group // group_rows * BLOCK_N

    offs_m = first_m + tl.arange(0, BLOCK_M)
    offs_n = first_n + tl.arange(0, BLOCK_N)
    mask_m = offs_m[:, None] < n_rows
    mask_n = offs_n[:, None] < n_out
    sums = zero_sums((BLOCK_M, BLOCK_N), GATED)
    if USE_DESCRIPTORS:
        # What lies outside of the matrices comes as 0.
        for k in range(0, n_in, BLOCK_K):
            x = x_ptr.load([first_m, k])
            new_sums = ()
            for i in tl.static_range(1 + GATED):
                w = w_ptr.load([i * n_out + first_n, k])
                w = tl.trans(w.to(x.dtype))
                total = tl.dot(x, w, sums[i], max_num_imprecise_acc=IMPRECISE)
                new_sums = new_sums + (total,)
            sums = new_sums
    else:
        lane_k = tl.arange(0, BLOCK_K)
        x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * x_stride
        w_rows = rows_of_sums(w_ptr + offs_n.to(tl.int64)[:, None] * n_in, n_out, n_in, GATED)
        for k in range(0, n_in, BLOCK_K):
            offs_k = (k + lane_k)[None, :]
            if EVEN_K:
                x = tl.load(x_rows + offs_k, mask=mask_m, other=0.0)
            else:
                x = tl.load(x_rows + offs_k, mask=mask_m & (offs_k < n_in), other=0.0)
            new_sums = ()
            for i in tl.static_range(1 + GATED):
                w = load_weights(w_rows[i], offs_k, mask_n, n_in, EVEN_N, EVEN_K).to(x.dtype)
                total = tl.dot(
                    x,
                    tl.trans(w),
                    sums[i],
                    input_precision="ieee",
                    max_num_imprecise_acc=IMPRECISE,
                )
                new_sums = new_sums + (total,)
            sums = new_sums
    if EARLY:
        gdc_launch_dependents()
    if len(scales) > 0:
        sums = scaled_both(sums, scales, offs_m, offs_n, n_rows, n_out, GATED)
    biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, 0)
    y = epilogue(sums, biases, HAS_BIAS, EPILOGUE)
    mask = mask_m & (offs_n[None, :] < n_out)
    rows = offs_m.to(tl.int64)[:, None]
    residual_at = residual_ptr + rows * residual_stride + offs_n[None, :]
    y = add_residual(y, residual_at, mask, alpha, HAS_RESIDUAL)
    if USE_DESCRIPTORS > 1:
        y_ptr.store([first_m, first_n], y.to(y_ptr.dtype))
    else:
        target = y_ptr + rows * y_stride + offs_n[None, :]
        tl.store(target, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def tiled_product(
    y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, scales, n_rows, n_out, n_in, y_stride, x_stride,
    residual_stride, alpha, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    GATED: tl.constexpr, EPILOGUE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, N_PROGRAMS: tl.constexpr, PDL: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    """The tiles of this program."""
    tiles_m = tl.cdiv(n_rows, BLOCK_M)
    tiles_n = tl.cdiv(n_out, BLOCK_N)
    if PDL > 0:
        gdc_wait()
    if N_PROGRAMS > 0:
        for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, N_PROGRAMS, flatten=True):
            tile_product(
                y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, scales, n_rows, n_out, n_in,
                y_stride, x_stride, residual_stride, alpha, tile, tiles_m, tiles_n,
                HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M,
                False, USE_DESCRIPTORS, EVEN_N, EVEN_K,
            )  # fmt: skip
    else:
        tile_product(
            y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, scales, n_rows, n_out, n_in,
            y_stride, x_stride, residual_stride, alpha, tl.program_id(0), tiles_m, tiles_n,
            HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M,
            PDL == 4, USE_DESCRIPTORS, EVEN_N, EVEN_K,
        )  # fmt: skip


@triton.jit
def linear_tiled(
    y_ptr,
    x_ptr,
    w_ptr,
    bias_ptr,
    residual_ptr,
    n_rows,
    n_out,
    n_in,
    y_stride,
    x_stride,
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
        y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, (), n_rows, n_out, n_in, y_stride, x_stride,
        residual_stride, alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M, BLOCK_N, BLOCK_K,
        GROUP_M, N_PROGRAMS, PDL, USE_DESCRIPTORS, EVEN_N, EVEN_K,
    )  # fmt: skip


reference = linear_reference


def cases(act):
    def case(name, *args, act=act, **kwargs):
        return linear_case(name, *args, act=act, **kwargs)

    yield case("demo_qkv", 44, 640, 384)
    yield case("demo_down", 300, 384, 1024, residual=True)
    yield case("demo_head", 17, 8192, 384, bias=False, out="fp32")
    yield case("demo_mlp", 44, 1024, 384, bias=False, epilogue=SWIGLU)
    yield case("fixture", 64, 256, 128, bias=False)
    yield case("one_row", 1, 512, 128)
    yield case("llama3_8b_strip", 70, 128, 4096, bias=False)
    yield case("odd", 37, 77, 83, pad=5)
    yield case("odd_residual", 37, 77, 83, pad=5, residual=True, alpha=0.25)
    yield case("odd_swiglu", 37, 77, 83, pad=5, epilogue=SWIGLU)
    yield case("odd_n", 130, 100, 256)
    yield case("odd_k", 9, 64, 100, bias=False)
    yield case("both", 150, 192, 320, residual=True, epilogue=SWIGLU, alpha=-1.5)
    yield case("half", 50, 384, 384, act="fp16")
    yield case("half_residual", 50, 384, 384, act="fp16", bias=False, residual=True, alpha=2.0)
    yield case("half_swiglu", 50, 384, 384, act="fp16", epilogue=SWIGLU)
    yield case("bf16", 50, 384, 384, act="bf16", weight="bf16")
    yield case("bf16_swiglu", 140, 384, 384, act="bf16", weight="bf16", bias=False, epilogue=SWIGLU)
    # For Hopper's form: tiles of several widths, beyond rows and columns.
    yield case("wide", 150, 20000, 72, out="fp32")
    yield case("wide_half", 150, 20000, 72, act="fp16", bias=False)
    yield case("wide_residual", 300, 8200, 136, act="fp16", residual=True, alpha=0.5)
    yield case("wide_swiglu", 150, 4104, 72, act="bf16", weight="bf16", epilogue=SWIGLU)
    yield case("wide_both", 520, 4104, 72, act="fp16", residual=True, epilogue=SWIGLU)
    yield case("wide_geglu", 150, 4104, 72, act="fp16", epilogue=GEGLU)
    yield case("wide_capped", 150, 20000, 72, act="bf16", weight="bf16", epilogue=SOFTCAP)
    if act == "fp32":
        # Weights are promoted to fp32 exactly; to a 16-bit type of another kind they would be
        # rounded, which no model asks for.
        yield case("bf16_weight", 33, 128, 256, weight="bf16")
        yield case("fp32_weight", 33, 128, 256, weight="fp32")


def draw(d, act):
    x = d.types(act)
    flags = dict.fromkeys(("bias", "residual"))
    return draw_linear(d, x, exact_weights(x), d.rows(300, tile=64), **flags)


_ROWS = "64 if HOPPER else BLOCK_M"  # of a box
_COLS = "(32 if GATED else 64) if HOPPER else BLOCK_N"
SPEC = Spec(
    fn=linear_tiled,
    forms={"HOPPER": hopper.linear_tiled},
    op="linear",
    when="rows > 64 or (rows > 8 and not gpu)",
    params=(
        out(
            "y_ptr",
            FLOATS,
            "n_rows",
            "y_stride",
            descriptor=Descriptor(
                when="USE_DESCRIPTORS > 1",
                shape=("n_rows", "n_out"),
                strides=("y_stride", "1"),
                block=(_ROWS, _COLS),
            ),
        ),
        inp(
            "x_ptr",
            FLOATS,
            "n_rows",
            "x_stride",
            descriptor=Descriptor(
                when="USE_DESCRIPTORS > 0",
                shape=("n_rows", "n_in"),
                strides=("x_stride", "1"),
                block=(_ROWS, "BLOCK_K"),
            ),
        ),
        inp(
            "w_ptr",
            FLOATS,
            "n_out * (1 + GATED)",
            "n_in",
            of="weight",
            descriptor=Descriptor(
                when="USE_DESCRIPTORS > 0",
                shape=("n_out * (1 + GATED)", "n_in"),
                strides=("n_in", "1"),
                block=(_COLS, "BLOCK_K"),
            ),
        ),
        inp("bias_ptr", FLOATS, "n_out * (1 + GATED)"),
        inp("residual_ptr", FLOATS, "n_rows", "residual_stride"),
        step_size("n_rows", of="y[0]"),
        size("n_out", of="y[1]"),
        size("n_in", of="x[1]"),
        stride("y_stride"),
        stride("x_stride"),
        stride("residual_stride"),
        scalar("alpha"),
        given("HAS_BIAS"),
        given("HAS_RESIDUAL"),
        given("GATED", of="@epilogue takes 2"),
        function("EPILOGUE", "expression", of="@epilogue"),
        tuned("BLOCK_M"),
        tuned("BLOCK_N"),
        tuned("BLOCK_K"),
        tuned("GROUP_M"),
        tuned("TMA"),
        tuned("N_PROGRAMS"),
        tuned("PDL"),
        tuned("HOPPER"),
        tuned("TAIL"),
        derived(
            "USE_DESCRIPTORS",
            "min(TMA, 2 if sizeof(y_ptr) == 2 and y_stride % 8 == 0 else 1)"
            " if sizeof(x_ptr) == 2 and sizeof(w_ptr) == 2"
            " and n_in % 8 == 0 and x_stride % 8 == 0 else 0",
        ),
        derived("EVEN_N", "n_out % BLOCK_N == 0"),
        derived("EVEN_K", "n_in % BLOCK_K == 0"),
    ),
    grid=(
        "N_PROGRAMS if HOPPER else min(cdiv(n_rows, BLOCK_M) * cdiv(n_out, BLOCK_N),"
        " N_PROGRAMS if N_PROGRAMS else 2147483647)",
        "1",
        "1",
    ),
    bytes="(1 + GATED) * n_out * (n_in * sizeof(w_ptr) + HAS_BIAS * sizeof(bias_ptr))"
    " + n_rows * (n_in * sizeof(x_ptr)"
    " + n_out * (sizeof(y_ptr) + HAS_RESIDUAL * sizeof(residual_ptr)))",
    flops="2 * n_rows * n_out * n_in * (1 + GATED)",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=(
        "HOPPER",
        "BLOCK_M",
        "BLOCK_N",
        "BLOCK_K",
        "GROUP_M",
        "TMA",
        "N_PROGRAMS",
        "TAIL",
        "PDL",
    ),
    default={
        # A panel of weights is converted and packed once a program: many rows pay for it.
        "cpu": {
            "BLOCK_M": 256,
            "BLOCK_N": 64,
            "BLOCK_K": "128 if n_in % 256 else 256",
            "GROUP_M": 8,
            "TMA": 0,
            "N_PROGRAMS": 0,
            "PDL": 0,
            "HOPPER": 0,
            "TAIL": "BLOCK_N",
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {
            "BLOCK_M": 128,
            "BLOCK_N": 128,
            "BLOCK_K": "64 if sizeof(x_ptr) <= 2 else 32",
            "GROUP_M": 8,
            "TMA": 0,
            "N_PROGRAMS": 0,
            "PDL": 0,
            "HOPPER": 0,
            "TAIL": "BLOCK_N",
            "num_warps": 8,
            "num_stages": 3,
        },
        "hip": {
            "BLOCK_M": 128,
            "BLOCK_N": 128,
            "BLOCK_K": "64 if sizeof(x_ptr) <= 2 else 32",
            "GROUP_M": 8,
            "TMA": 0,
            "N_PROGRAMS": 0,
            "PDL": 0,
            "HOPPER": 0,
            "TAIL": "BLOCK_N",
            "num_warps": 8,
            "num_stages": 2,
        },
    },
    # BLOCK_K orders the sum.
    space={
        "cpu": {
            "BLOCK_M": (16, 32, 64, 128, 256, 512),
            "BLOCK_N": (32, 64, 128),
            "where": "BLOCK_M <= max(16, next_pow2(n_rows)) and BLOCK_N <= n_out",
        },
        "cuda": {
            "BLOCK_M": (64, 128),
            "BLOCK_N": (64, 128, 256),
            "num_warps": (4, 8),
            "num_stages": (3, 4, 5, 6),
            # What the stages hold fits the shared memory of a multiprocessor, sums its registers.
            "where": "BLOCK_M == 128 and num_warps == 4 and num_stages == 3 if HOPPER"
            " else (BLOCK_N * (1 + GATED) * sizeof(w_ptr) + BLOCK_M * sizeof(x_ptr)) * BLOCK_K"
            " * num_stages <= 220 * 1024"
            " and BLOCK_M * BLOCK_N * (1 + GATED) <= 4096 * num_warps",
        },
    },
)
