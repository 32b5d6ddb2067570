"""Linear layer for 5 to 64 rows, or 256 of quantised weights: a stream of weights through tensor
cores.

    y[m, n] as in linear_tiled, of x' = x, or x * norm / sqrt(mean(x^2) + eps) (HAS_NORM)

Operands and flags as there; norm [K]; w may be quantised (HAS_SCALE, kernels/lib/quantized.py),
with scale and perhaps zero [N, G]. The weights are the left operand of the product and
the rows of x, padded to TOKENS, the right one: a tile is BLOCK_N outputs of all rows, so that each
weight is read once. More rows than TOKENS are taken by further programs.
Grid: (N / BLOCK_N, M / TOKENS). Accumulation: fp32, over k in order: what a row gives does not
depend on M, nor on BLOCK_K where the matrix units add to one sum in steps of 16 (wgmma). With a
norm, x * norm is rounded to the type of x; every program sums the squares of its rows beside the
product, in BLOCK_K sums a row, and its factor counts at the end.
PTX: quantised weights become 16-bit numbers by NVIDIA's instructions (kernels/lib/halves.py).
TMA: x and w are tensor maps, where their rows lie so (USE_DESCRIPTORS); x without a norm only.
PDL: 0, or programmatic dependent launch: the kernel after may start 1: when this one ends, 4: when
a program has its sums. Earlier, its programs crowd where there is room, and are slower for it.
HOPPER: the form of hopper/linear_skinny.py, of quantised weights without a norm, which alone reads
N_PROGRAMS and STAGES; its weights are tensor maps whatever TMA says, PDL is 0 or 3, after the wait.
"""

from dataclasses import replace

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.hopper import linear_skinny as hopper
from kernels.lib.linear import (
    GEGLU,
    SOFTCAP,
    SWIGLU,
    add_residual,
    dequantised,
    draw_linear,
    epilogue,
    exact_weights,
    linear_case,
    linear_reference,
    load_biases,
    load_weights,
    rows_of_sums,
    scaled,
    scaled_rows,
    zero_sums,
)
from kernels.lib.quantized import TYPES as QUANTISED
from kernels.spec import (
    FLOATS,
    Descriptor,
    Spec,
    counter,
    derived,
    filled,
    function,
    given,
    inp,
    out,
    scalar,
    scratch,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def load_rows(x_rows, offs_k, mask_x, n_in, EVEN_K: tl.constexpr):
    """A tile of rows; what lies outside of x is 0."""
    if EVEN_K:
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0.0)
    else:
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x & (offs_k < n_in)[None, :], other=0.0)
    return x


@triton.jit
def weighted(x, squares, norm_ptr, offs_k, n_in, EVEN_K: tl.constexpr):
    """A tile of rows times the norm's weights, and its squares added to those before."""
    if EVEN_K:
        gamma = tl.load(norm_ptr + offs_k)
    else:
        gamma = tl.load(norm_ptr + offs_k, mask=offs_k < n_in, other=0.0)
    exact = x.to(tl.float32)
    return (exact * gamma.to(tl.float32)[None, :]).to(x.dtype), squares + exact * exact


@triton.jit
def linear_skinny(
    y_ptr,
    partial_ptr,
    arrivals_ptr,
    x_ptr,
    w_ptr,
    scale_ptr,
    zero_ptr,
    bias_ptr,
    norm_ptr,
    residual_ptr,
    n_rows,
    n_out,
    n_in,
    w_width,
    n_groups,
    y_stride,
    x_stride,
    residual_stride,
    eps,
    alpha,
    HAS_BIAS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_ZERO: tl.constexpr,
    GATED: tl.constexpr,
    EPILOGUE: tl.constexpr,
    ROWS: tl.constexpr,
    HOPPER: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    N_PROGRAMS: tl.constexpr,
    STAGES: tl.constexpr,
    PTX: tl.constexpr,
    TMA: tl.constexpr,
    PDL: tl.constexpr,
    TOKENS: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr,
    GROUPS: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    # A zero is of a group, be it the whole row.
    HAS_GROUPS: tl.constexpr = GROUPS > 1 or HAS_ZERO
    first_n = tl.program_id(0) * BLOCK_N
    first_m = tl.program_id(1) * TOKENS
    offs_n = first_n + tl.arange(0, BLOCK_N)
    offs_m = first_m + tl.arange(0, TOKENS)
    mask_n = offs_n[:, None] < n_out
    mask_m = offs_m[None, :] < n_rows
    if PDL > 0:
        gdc_wait()
    sums = zero_sums((BLOCK_N, TOKENS), GATED)
    lane_k = tl.arange(0, BLOCK_K)
    if HAS_NORM:
        squares = tl.zeros((TOKENS, BLOCK_K), tl.float32)
    if HAS_NORM or not USE_DESCRIPTORS:
        x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * x_stride
        mask_x = offs_m[:, None] < n_rows
    if USE_DESCRIPTORS:
        for k in range(0, n_in, BLOCK_K):
            if HAS_NORM:
                x = load_rows(x_rows, k + lane_k, mask_x, n_in, EVEN_K)
                x, squares = weighted(x, squares, norm_ptr, k + lane_k, n_in, EVEN_K)
                x = tl.trans(x)
            else:
                x = tl.trans(x_ptr.load([first_m, k]))
            new_sums = ()
            for i in tl.static_range(1 + GATED):
                w = w_ptr.load([i * n_out + first_n, k]).to(x.dtype)
                new_sums = new_sums + (tl.dot(w, x, sums[i]),)
            sums = new_sums
    elif HAS_SCALE:
        # A step is a block of packed bytes, or a tile; a tile of bytes has two of columns.
        PARTS: tl.constexpr = 2 if w_ptr.dtype.element_ty == tl.uint8 else 1
        STEP: tl.constexpr = 128 if PARTS == 2 else BLOCK_K
        row = offs_n.to(tl.int64)[:, None]
        w_rows = rows_of_sums(w_ptr + row * w_width, n_out, w_width, GATED)
        scale_rows = rows_of_sums(scale_ptr + row * n_groups, n_out, n_groups, GATED)
        zero_rows = rows_of_sums(zero_ptr + row * n_groups, n_out, n_groups, GATED)
        for k in range(0, n_in, STEP):
            for t in tl.static_range(STEP // (PARTS * BLOCK_K)):
                at = (k // PARTS + t * BLOCK_K + lane_k)[None, :]
                tiles = ()
                for i in tl.static_range(1 + GATED):
                    w = load_weights(w_rows[i], at, mask_n, w_width, EVEN_N, EVEN_K or PARTS == 2)
                    tiles = tiles + (w,)
                for part in tl.static_range(PARTS):
                    first_k = k + t * BLOCK_K + part * 64
                    x = load_rows(x_rows, first_k + lane_k, mask_x, n_in, EVEN_K)
                    if HAS_NORM:
                        x, squares = weighted(x, squares, norm_ptr, first_k + lane_k, n_in, EVEN_K)
                    group = tl.minimum(first_k * n_groups // n_in, n_groups - 1)
                    weights = dequantised(
                        tiles, scale_rows, zero_rows, group, mask_n, part, HAS_GROUPS, HAS_ZERO,
                        x.dtype, PTX and x.dtype.primitive_bitwidth == 16,
                    )  # fmt: skip
                    new_sums = ()
                    for i in tl.static_range(1 + GATED):
                        total = tl.dot(weights[i], tl.trans(x), sums[i], input_precision="ieee")
                        new_sums = new_sums + (total,)
                    sums = new_sums
    else:
        w_rows = rows_of_sums(w_ptr + offs_n.to(tl.int64)[:, None] * n_in, n_out, n_in, GATED)
        for k in range(0, n_in, BLOCK_K):
            offs_k = (k + lane_k)[None, :]
            x = load_rows(x_rows, k + lane_k, mask_x, n_in, EVEN_K)
            if HAS_NORM:
                x, squares = weighted(x, squares, norm_ptr, k + lane_k, n_in, EVEN_K)
            new_sums = ()
            for i in tl.static_range(1 + GATED):
                w = load_weights(w_rows[i], offs_k, mask_n, n_in, EVEN_N, EVEN_K).to(x.dtype)
                total = tl.dot(w, tl.trans(x), sums[i], input_precision="ieee")
                new_sums = new_sums + (total,)
            sums = new_sums
    if PDL == 4:
        gdc_launch_dependents()
    if HAS_NORM:
        factor = tl.rsqrt(tl.sum(squares, axis=1) / n_in + eps)[None, :]
        sums = scaled(sums, factor)
    IN_ROWS: tl.constexpr = HAS_SCALE and not HAS_GROUPS
    scales = load_biases(scale_ptr, offs_n, n_out, IN_ROWS, GATED, 1)
    sums = scaled_rows(sums, scales, IN_ROWS)
    biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, 1)
    y = epilogue(sums, biases, HAS_BIAS, EPILOGUE)
    mask = mask_n & mask_m
    rows = offs_m.to(tl.int64)[None, :]
    residual_at = residual_ptr + rows * residual_stride + offs_n[:, None]
    y = add_residual(y, residual_at, mask, alpha, HAS_RESIDUAL)
    target = y_ptr + rows * y_stride + offs_n[:, None]
    tl.store(target, y.to(y_ptr.dtype.element_ty), mask=mask)


def reference(a):
    return {**linear_reference(a), "arrivals_ptr": np.zeros_like(a["arrivals_ptr"])}


def skinny_case(name, *args, **kwargs):
    """With room for what programs share, of tiles of at most 128 rows of weights."""
    case = linear_case(name, *args, may_quantise=True, rounds_norm=True, **kwargs)
    a = case.args
    tokens = min(max(case.constexprs["ROWS"], 16), 128)
    n_groups = -(-max(a["n_rows"], 1) // tokens)
    n_tiles = -(-a["n_out"] // 64)
    n_programs = min(264, n_tiles * -(-a["n_in"] // 128))
    scratch = {
        "partial_ptr": filled(2 * n_programs * n_groups, 128 * tokens),
        "arrivals_ptr": np.zeros(n_groups * n_tiles, np.int32),
    }
    types = {"partial_ptr": "fp32", "arrivals_ptr": "i32"}
    return replace(case, args={**a, **scratch}, dtypes={**case.dtypes, **types})


def cases(act):
    def case(name, *args, act=act, norm=False, rows=16, **kwargs):
        return skinny_case(name, *args, act=act, norm=norm, ROWS=rows, **kwargs)

    yield case("demo_qkv", 16, 640, 384)
    yield case("demo_down", 44, 384, 1024, rows=64, residual=True)
    yield case("demo_head", 17, 8192, 384, rows=32, bias=False, out="fp32")
    yield case("demo_mlp", 30, 1024, 384, rows=32, bias=False, epilogue=SWIGLU)
    yield case("llama3_8b_strip", 9, 128, 4096, bias=False)
    yield case("two_groups", 70, 256, 128, rows=64)
    yield case("few", 5, 256, 128, rows=8)
    yield case("odd", 13, 77, 83, pad=5)
    yield case("odd_residual", 37, 77, 83, rows=64, pad=5, residual=True, alpha=0.25)
    yield case("odd_swiglu", 20, 77, 83, rows=32, pad=5, epilogue=SWIGLU)
    yield case("geglu", 20, 77, 83, rows=32, norm=True, epilogue=GEGLU)
    yield case("geglu_half", 40, 128, 384, rows=64, act="fp16", epilogue=GEGLU)
    yield case("capped", 12, 384, 384, act="fp16", norm=True, epilogue=SOFTCAP, out="fp32")
    yield case("odd_k", 9, 64, 100, bias=False)
    yield case("both", 50, 192, 320, rows=64, residual=True, epilogue=SWIGLU, alpha=-1.5)
    yield case("half", 50, 384, 384, rows=64, act="fp16")
    yield case("half_residual", 12, 384, 384, act="fp16", residual=True, alpha=2.0)
    yield case("half_swiglu", 33, 384, 384, rows=64, act="fp16", epilogue=SWIGLU)
    yield case("bf16", 16, 384, 384, act="bf16", weight="bf16")
    for weight in QUANTISED:
        yield case(f"{weight}_row", 20, 384, 512, rows=32, weight=weight, norm=True)
        yield case(f"{weight}_half", 40, 72, 384, rows=64, weight=weight, act="fp16",
                   epilogue=SWIGLU)  # fmt: skip
        yield case(f"{weight}_many", 150, 96, 256, rows=513, weight=weight, act="bf16",
                   residual=True, n_groups=2, scale="bf16")  # fmt: skip
        yield case(f"{weight}_groups", 9, 50, 384, weight=weight, n_groups=12, epilogue=SWIGLU,
                   scale="fp16")  # fmt: skip
        yield case(f"{weight}_odd", 13, 77, 83, weight=weight, pad=5, norm=True)
        # For Hopper's form: tiles that programs share, or have beyond rows, columns and K.
        yield case(f"{weight}_shared", 33, 200, 1024, rows=64, weight=weight, act="fp16", pad=8,
                   residual=True, alpha=-1.5)  # fmt: skip
        yield case(f"{weight}_shared_groups", 20, 328, 1024, rows=32, weight=weight, act="bf16",
                   n_groups=8, scale="bf16", epilogue=SWIGLU)  # fmt: skip
        yield case(f"{weight}_scales_fp32", 100, 72, 768, rows=128, weight=weight, act="fp16",
                   n_groups=3, epilogue=GEGLU, bias=False)  # fmt: skip
        yield case(f"{weight}_tail", 12, 96, 1008, weight=weight, act="fp16", out="fp32")
    yield case("wide_shared", 150, 4104, 128, rows=256, weight="i8", act="fp16")
    yield case("zeros_shared", 17, 136, 2048, rows=32, weight="u8", n_groups=16, has_zero=True,
               act="fp16", scale="fp16", residual=True)  # fmt: skip
    yield case("zeros_row_half", 9, 136, 512, weight="u8", has_zero=True, act="bf16",
               epilogue=SWIGLU)  # fmt: skip
    yield case("zeros", 9, 96, 1024, weight="u8", n_groups=8, has_zero=True, act="fp16")
    yield case("zeros_row", 20, 40, 200, rows=32, weight="u8", has_zero=True, residual=True)
    yield case("norm", 9, 640, 384, norm=True)
    yield case("norm_odd", 20, 77, 83, rows=32, pad=5, norm=True, epilogue=SWIGLU)
    yield case(
        "norm_half", 8, 384, 1024, rows=8, act="fp16", norm=True, epilogue=SWIGLU, bias=False
    )
    yield case("norm_bf16", 37, 128, 512, rows=64, act="bf16", weight="bf16", norm=True)


def draw(d, act):
    rows = d.variant.of(4, 8, 16, 32, 64)
    x = d.types(act)
    n_rows = d.rows(2 * rows + 1, tile=rows)
    flags = {**dict.fromkeys(("bias", "residual", "norm")), "may_quantise": True}

    def case_of(name, *args, may_quantise, **kwargs):
        return skinny_case(name, *args, **kwargs)

    return draw_linear(d, x, exact_weights(x), n_rows, ROWS=rows, case_of=case_of, **flags)


# Columns of a quantised weight that a tile has: of one group.
_TILE = "64 if n_groups <= 1 else min(64, n_in // n_groups)"
# How many programs share the steps of the form for Hopper.
_PROGRAMS = "min(N_PROGRAMS, cdiv(n_out, BLOCK_N) * cdiv(w_width, BLOCK_K))"
SPEC = Spec(
    fn=linear_skinny,
    forms={"HOPPER": hopper.linear_skinny},
    registers="128 if HOPPER else 0",
    op="linear",
    # Rows that each program norms for itself: few enough to hide behind its weights.
    when="(HAS_SCALE and not HAS_NORM and rows > (4 if gpu else 8)"
    " and rows <= (256 if gpu else 64))"
    " or (not HAS_SCALE and rows > 4"
    " and rows <= (64 if not HAS_NORM else 16 if GATED else 32) and gpu)",
    params=(
        out("y_ptr", FLOATS, "n_rows", "y_stride"),
        scratch(
            "partial_ptr",
            "fp32",
            f"2 * {_PROGRAMS} * cdiv(n_rows, TOKENS) if HOPPER else 1",
            "BLOCK_N * (1 + GATED) * TOKENS if HOPPER else 1",
        ),
        counter(
            "arrivals_ptr", "i32", "cdiv(n_rows, TOKENS) * cdiv(n_out, BLOCK_N) if HOPPER else 1"
        ),
        inp(
            "x_ptr",
            FLOATS,
            "n_rows",
            "x_stride",
            descriptor=Descriptor(
                when="USE_DESCRIPTORS and not HAS_NORM",
                shape=("n_rows", "n_in"),
                strides=("x_stride", "1"),
                block=("TOKENS", "64 if HOPPER else BLOCK_K"),
            ),
        ),
        inp(
            "w_ptr",
            (*FLOATS, *QUANTISED),
            "n_out * (1 + GATED)",
            "w_width",
            of="weight",
            descriptor=Descriptor(
                when="USE_DESCRIPTORS",
                shape=("n_out * (1 + GATED)", "w_width"),
                strides=("w_width", "1"),
                block=("64 if HOPPER else BLOCK_N", "BLOCK_K"),
            ),
        ),
        inp("scale_ptr", FLOATS, "n_out * (1 + GATED)", "n_groups"),
        inp("zero_ptr", "u8", "n_out * (1 + GATED)", "n_groups"),
        inp("bias_ptr", FLOATS, "n_out * (1 + GATED)"),
        inp("norm_ptr", FLOATS, "n_in"),
        inp("residual_ptr", FLOATS, "n_rows", "residual_stride"),
        step_size("n_rows", of="y[0]"),
        size("n_out", of="y[1]"),
        size("n_in", of="x[1]"),
        size("w_width", of="weight[1]"),
        size("n_groups", of="scale[1]"),
        stride("y_stride"),
        stride("x_stride"),
        stride("residual_stride"),
        scalar("eps"),
        scalar("alpha"),
        given("HAS_BIAS"),
        given("HAS_NORM"),
        given("HAS_RESIDUAL"),
        given("HAS_SCALE"),
        given("HAS_ZERO"),
        given("GATED", of="@epilogue takes 2"),
        function("EPILOGUE", "expression", of="@epilogue"),
        given("ROWS", of="step.rows"),
        tuned("HOPPER"),
        tuned("BLOCK_N"),
        tuned("BLOCK_K"),
        tuned("N_PROGRAMS"),
        tuned("STAGES"),
        tuned("PTX"),
        tuned("TMA"),
        tuned("PDL"),
        # Of quantised weights this is the kernel for more rows, too.
        derived("TOKENS", "min(max(ROWS, 16), 128)"),
        derived(
            "USE_DESCRIPTORS",
            "1 if HOPPER else TMA if sizeof(x_ptr) == 2 and sizeof(w_ptr) == 2"
            " and n_in % 8 == 0 and x_stride % 8 == 0 else 0",
        ),
        derived("GROUPS", "n_groups"),
        derived("EVEN_N", "n_out % BLOCK_N == 0"),
        derived("EVEN_K", "n_in % (max(BLOCK_K, 128) if HAS_SCALE else BLOCK_K) == 0"),
    ),
    grid=(
        f"{_PROGRAMS} if HOPPER else cdiv(n_out, BLOCK_N)",
        "cdiv(n_rows, TOKENS)",
        "1",
    ),
    bytes="(1 + GATED) * n_out * (w_width * sizeof(w_ptr) + HAS_BIAS * sizeof(bias_ptr)"
    " + n_groups * (HAS_SCALE * sizeof(scale_ptr) + HAS_ZERO))"
    " + HAS_NORM * n_in * sizeof(norm_ptr) + n_rows * (n_in * sizeof(x_ptr)"
    " + n_out * (sizeof(y_ptr) + HAS_RESIDUAL * sizeof(residual_ptr)))",
    flops="2 * n_rows * n_out * n_in * (1 + GATED)",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HOPPER", "BLOCK_N", "BLOCK_K", "N_PROGRAMS", "STAGES", "PTX", "TMA", "PDL"),
    default={
        "cpu": {
            "BLOCK_N": 64,
            "BLOCK_K": f"({_TILE}) if HAS_SCALE else (128 if n_in % 256 else 256)",
            "PTX": 0,
            "HOPPER": 0,
            "N_PROGRAMS": 0,
            "STAGES": 0,
            "TMA": 0,
            "PDL": 0,
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {
            "BLOCK_N": 64,
            "BLOCK_K": f"({_TILE}) if HAS_SCALE else (128 if sizeof(x_ptr) <= 2 else 32)",
            "PTX": "HAS_SCALE",
            "HOPPER": 0,
            "N_PROGRAMS": 0,
            "STAGES": 0,
            "TMA": 0,
            "PDL": 0,
            "num_warps": 4,
            "num_stages": 4,
        },
        "hip": {
            "BLOCK_N": 64,
            "BLOCK_K": f"({_TILE}) if HAS_SCALE else (128 if sizeof(x_ptr) <= 2 else 32)",
            "PTX": 0,
            "HOPPER": 0,
            "N_PROGRAMS": 0,
            "STAGES": 0,
            "TMA": 0,
            "PDL": 0,
            "num_warps": 4,
            "num_stages": 2,
        },
    },
    # BLOCK_K orders the sum.
    space={
        "cpu": {"BLOCK_N": (16, 32, 64, 128), "where": "BLOCK_N <= n_out"},
        "cuda": {
            "BLOCK_N": (32, 64, 128),
            "num_warps": (4, 8),
            "num_stages": (3, 4, 5, 6, 7, 8),
            # What the stages hold fits the shared memory of a multiprocessor.
            "where": "(BLOCK_N * (1 + GATED) * sizeof(w_ptr) + TOKENS * sizeof(x_ptr)) * BLOCK_K"
            " * num_stages <= 220 * 1024",
        },
    },
)
