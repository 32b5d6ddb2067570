"""Linear layer for few rows: a stream of weights, no `tl.dot`.

    p[m, n] = sum_k x'[m, k] * w[n, k] + bias[n]
    x' = x, or x * norm / sqrt(mean(x^2) + eps) (HAS_NORM)
    q = p, EPILOGUE(p[m, n]), or EPILOGUE(p[m, n], p[m, N + n]) (GATED: w has 2 N rows, gates first)
    y[m, n] = q, or alpha * q + residual[m, n] (HAS_RESIDUAL)

y, residual [M, N], x [M, K] with row strides (y may be residual); w [N, K], or quantised
(HAS_SCALE, kernels/lib/quantized.py) with scale and perhaps zero [N, G]; bias [N] (HAS_BIAS);
norm [K]. A program takes ROWS rows of x (the last group may be short) and N_LOOP times BLOCK_N
outputs, each row of w read once for all ROWS.
Grid: (N / (BLOCK_N * N_LOOP), M / ROWS). Accumulation: fp32, one [BLOCK_N, BLOCK_K] tile a row of x
over the whole of K and one sum at the end: what a row gives does not depend on ROWS or M. The
factor of the norm is taken from sums of squares beside the product and applied at its end.
PRELOAD: as many tiles of K are asked for before the first is used (0: a plain loop).
MMA: on NVIDIA's matrix units (kernels/lib/mma.py) where x, norm and w, unless quantised, are of one
16-bit type and K is whole tiles of BLOCK_K: 128, of 8 bits 256, of 4 bits 512; a group of columns
is 64 bytes of a row, or several. Then BLOCK_N is 4 * num_warps (2 with GATED), N_LOOP 1, PRELOAD at
least 1, and x * norm is rounded to its type. Other types take the plain way.
PDL: 0, or programmatic dependent launch: weights are asked for before the wait for the kernel
before; the one after may start 1: when this one ends, 2: as this one starts, 3: after the wait.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.lib.linear import (
    GEGLU,
    SOFTCAP,
    SWIGLU,
    add_residual,
    dequantised,
    draw_linear,
    epilogue,
    linear_case,
    linear_reference,
    load_biases,
    rows_of_sums,
    scaled,
    scaled_rows,
    zero_sums,
)
from kernels.lib.mma import linear_mma
from kernels.lib.quantized import TYPES as QUANTISED
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
def weight_tile(w_rows, offs_k, n_in, EVEN_K: tl.constexpr):
    if EVEN_K:
        return tl.load(w_rows + offs_k[None, :], eviction_policy="evict_first")
    return tl.load(
        w_rows + offs_k[None, :],
        mask=offs_k[None, :] < n_in,
        other=0.0,
        eviction_policy="evict_first",
    )


@triton.jit
def weight_tiles(w_rows, offs_k, n_in, EVEN_K: tl.constexpr):
    tiles = ()
    for i in tl.static_range(len(w_rows)):
        tiles = tiles + (weight_tile(w_rows[i], offs_k, n_in, EVEN_K),)
    return tiles


@triton.jit
def in_fp32(tiles):
    weights = ()
    for i in tl.static_range(len(tiles)):
        weights = weights + (tiles[i].to(tl.float32),)
    return weights


@triton.jit
def vector_tile(x_ptr, offs_k, n_in, EVEN_K: tl.constexpr):
    if EVEN_K:
        return tl.load(x_ptr + offs_k).to(tl.float32)
    return tl.load(x_ptr + offs_k, mask=offs_k < n_in, other=0.0).to(tl.float32)


@triton.jit
def norm_factor(x_ptr, n_in, eps, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr):
    squares = tl.zeros((BLOCK_K,), tl.float32)
    for k in range(0, n_in, BLOCK_K):
        x = vector_tile(x_ptr, k + tl.arange(0, BLOCK_K), n_in, EVEN_K)
        squares += x * x
    return tl.rsqrt(tl.sum(squares, axis=0) / n_in + eps)


@triton.jit
def accumulate(
    sums,
    squares,
    weights,
    offs_k,
    x_ptr,
    norm_ptr,
    first_row,
    n_rows,
    n_in,
    x_stride,
    HAS_NORM: tl.constexpr,
    SQUARES: tl.constexpr,
    ROWS: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    """A tile of each sum's weights into the sums of every row."""
    if HAS_NORM:
        gamma = vector_tile(norm_ptr, offs_k, n_in, EVEN_K)
    new_sums = ()
    new_squares = ()
    for i in tl.static_range(ROWS):
        # A short group reads its last row again; the store leaves it out.
        row = tl.minimum(first_row + i, n_rows - 1).to(tl.int64)
        x = vector_tile(x_ptr + row * x_stride, offs_k, n_in, EVEN_K)
        if SQUARES:
            new_squares = new_squares + (squares[i] + x * x,)
        if HAS_NORM:
            x = x * gamma
        of_row = ()
        for j in tl.static_range(len(weights)):
            of_row = of_row + (sums[i][j] + weights[j] * x[None, :],)
        new_sums = new_sums + (of_row,)
    return new_sums, new_squares


@triton.jit
def linear_plain(
    y_ptr,
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
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    N_LOOP: tl.constexpr,
    PRELOAD: tl.constexpr,
    PDL: tl.constexpr,
    GROUPS: tl.constexpr,
    EVEN_K: tl.constexpr,
    K_TILES: tl.constexpr,
):
    # A zero is of a group, be it the whole row.
    HAS_GROUPS: tl.constexpr = GROUPS > 1 or HAS_ZERO
    PARTS: tl.constexpr = 2 if w_ptr.dtype.element_ty == tl.uint8 else 1
    STEP: tl.constexpr = 128 if PARTS == 2 else BLOCK_K
    CUT_SHORT: tl.constexpr = w_ptr.dtype.element_ty == tl.float8e5
    w_codes = w_ptr
    if CUT_SHORT:
        w_codes = w_ptr.to(tl.pointer_type(tl.int8), bitcast=True)
    # Columns of a group: a step's are of one, or it has several whole ones.
    GROUP: tl.constexpr = K_TILES // (GROUPS if GROUPS > 1 else 1) * BLOCK_K
    # Where one program goes through one block of outputs, squares are summed beside its products;
    # else once before all of them.
    SQUARES: tl.constexpr = HAS_NORM and N_LOOP == 1
    if PDL > 0 and (PRELOAD == 0 or HAS_SCALE):
        gdc_wait()
    first_row = tl.program_id(1) * ROWS
    first_out = tl.program_id(0) * (BLOCK_N * N_LOOP)
    lane_n = tl.arange(0, BLOCK_N)
    lane_k = tl.arange(0, BLOCK_K)

    factors = ()
    if HAS_NORM and not SQUARES:
        for i in tl.static_range(ROWS):
            x_row = x_ptr + tl.minimum(first_row + i, n_rows - 1).to(tl.int64) * x_stride
            factors = factors + (norm_factor(x_row, n_in, eps, BLOCK_K, EVEN_K),)

    for n in range(first_out, tl.minimum(first_out + BLOCK_N * N_LOOP, n_out), BLOCK_N):
        offs_n = n + lane_n
        # Past the end the last row is read again; the store leaves it out.
        w_at = offs_n if BLOCK_N == 1 else tl.minimum(offs_n, n_out - 1)
        w_rows = rows_of_sums(w_codes + w_at.to(tl.int64)[:, None] * w_width, n_out, w_width, GATED)
        scale_rows = ()
        zero_rows = ()
        if HAS_GROUPS:
            groups_at = w_at.to(tl.int64)[:, None] * n_groups
            scale_rows = rows_of_sums(scale_ptr + groups_at, n_out, n_groups, GATED)
            zero_rows = rows_of_sums(zero_ptr + groups_at, n_out, n_groups, GATED)
        sums = ()
        squares = ()
        for _ in tl.static_range(ROWS):
            sums = sums + (zero_sums((BLOCK_N, BLOCK_K), GATED),)
            if SQUARES:
                squares = squares + (tl.zeros((BLOCK_K,), tl.float32),)
        if HAS_SCALE:
            # A step is a block of packed bytes, or a tile; a tile of bytes has two of columns.
            for k in range(0, n_in, STEP):
                for t in tl.static_range(STEP // (PARTS * BLOCK_K)):
                    at = k // PARTS + t * BLOCK_K + lane_k
                    tiles = weight_tiles(w_rows, at, w_width, EVEN_K or PARTS == 2)
                    for part in tl.static_range(PARTS):
                        first_k = k + t * BLOCK_K + part * 64
                        group = k // GROUP + (t * BLOCK_K + part * 64) // GROUP
                        if not EVEN_K:
                            group = tl.minimum(group, n_groups - 1)
                        weights = dequantised(
                            tiles, scale_rows, zero_rows, group, None, part, HAS_GROUPS, HAS_ZERO,
                            tl.float32, False, CUT_SHORT,
                        )  # fmt: skip
                        sums, squares = accumulate(
                            sums, squares, weights, first_k + lane_k, x_ptr, norm_ptr, first_row,
                            n_rows, n_in, x_stride, HAS_NORM, SQUARES, ROWS, EVEN_K,
                        )  # fmt: skip
        elif PRELOAD == 0:
            for k in range(0, n_in, BLOCK_K):
                tiles = weight_tiles(w_rows, k + lane_k, w_width, EVEN_K)
                sums, squares = accumulate(
                    sums, squares, in_fp32(tiles), k + lane_k, x_ptr, norm_ptr, first_row, n_rows,
                    n_in, x_stride, HAS_NORM, SQUARES, ROWS, EVEN_K,
                )  # fmt: skip
        else:
            tiles = ()
            for t in tl.static_range(PRELOAD):
                if t < K_TILES:
                    tiles = tiles + (weight_tiles(w_rows, t * BLOCK_K + lane_k, w_width, EVEN_K),)
            if PDL > 0:
                gdc_wait()
            if PDL == 3:
                gdc_launch_dependents()
            for t in tl.static_range(K_TILES):
                if t + PRELOAD < K_TILES:
                    offs_k = (t + PRELOAD) * BLOCK_K + lane_k
                    tiles = tiles + (weight_tiles(w_rows, offs_k, w_width, EVEN_K),)
                sums, squares = accumulate(
                    sums, squares, in_fp32(tiles[t]), t * BLOCK_K + lane_k, x_ptr, norm_ptr,
                    first_row, n_rows, n_in, x_stride, HAS_NORM, SQUARES, ROWS, EVEN_K,
                )  # fmt: skip

        IN_ROWS: tl.constexpr = HAS_SCALE and not HAS_GROUPS
        scales = load_biases(scale_ptr, offs_n, n_out, IN_ROWS, GATED, None)
        biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, None)
        for i in tl.static_range(ROWS):
            row = first_row + i
            totals = ()
            for j in tl.static_range(1 + GATED):
                totals = totals + (tl.sum(sums[i][j], axis=1),)
            if SQUARES:
                totals = scaled(totals, tl.rsqrt(tl.sum(squares[i], axis=0) / n_in + eps))
            elif HAS_NORM:
                totals = scaled(totals, factors[i])
            totals = scaled_rows(totals, scales, IN_ROWS)
            y = epilogue(totals, biases, HAS_BIAS, EPILOGUE)
            mask = (offs_n < n_out) & (row < n_rows)
            residual_at = residual_ptr + row.to(tl.int64) * residual_stride + offs_n
            y = add_residual(y, residual_at, mask, alpha, HAS_RESIDUAL)
            y = y.to(y_ptr.dtype.element_ty)
            tl.store(y_ptr + row.to(tl.int64) * y_stride + offs_n, y, mask=mask)


@triton.jit
def linear_gemv(
    y_ptr,
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
    MMA: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    N_LOOP: tl.constexpr,
    PRELOAD: tl.constexpr,
    PDL: tl.constexpr,
    GROUPS: tl.constexpr,
    EVEN_K: tl.constexpr,
    K_TILES: tl.constexpr,
):
    SAME: tl.constexpr = x_ptr.dtype.element_ty == w_ptr.dtype.element_ty
    NORM_SAME: tl.constexpr = norm_ptr.dtype.element_ty == x_ptr.dtype.element_ty or not HAS_NORM
    WHOLE: tl.constexpr = EVEN_K and x_ptr.dtype.element_ty.primitive_bitwidth == 16
    if PDL == 2:
        gdc_launch_dependents()
    if MMA and (SAME or HAS_SCALE) and NORM_SAME and WHOLE:
        linear_mma(
            y_ptr, x_ptr, w_ptr, scale_ptr, zero_ptr, bias_ptr, norm_ptr, residual_ptr, n_rows,
            n_out, y_stride, x_stride, residual_stride, eps, alpha, HAS_BIAS, HAS_NORM,
            HAS_RESIDUAL, HAS_SCALE, HAS_ZERO, GATED, EPILOGUE, GROUPS, ROWS, BLOCK_N, BLOCK_K,
            PRELOAD, PDL, K_TILES,
        )  # fmt: skip
    else:
        linear_plain(
            y_ptr, x_ptr, w_ptr, scale_ptr, zero_ptr, bias_ptr, norm_ptr, residual_ptr, n_rows,
            n_out, n_in, w_width, n_groups, y_stride, x_stride, residual_stride, eps, alpha,
            HAS_BIAS, HAS_NORM, HAS_RESIDUAL, HAS_SCALE, HAS_ZERO, GATED, EPILOGUE, ROWS, BLOCK_N,
            BLOCK_K, N_LOOP, PRELOAD, PDL, GROUPS, EVEN_K, K_TILES,
        )  # fmt: skip


reference = linear_reference


def cases(act):
    def case(name, *sizes, **kwargs):
        without = {"bias": False, "norm": False, "residual": False}
        return linear_case(name, *sizes, may_quantise=True, **{"act": act, **without, **kwargs})

    yield case("demo_qkv", 1, 640, 384, ROWS=1, bias=True)
    yield case("demo_down", 2, 384, 1024, ROWS=2, bias=True)
    yield case("demo_head", 1, 8192, 384, ROWS=1, out="fp32")
    yield case("fixture_bf16", 4, 256, 128, weight="bf16", ROWS=4, bias=True)
    yield case("short_group", 3, 512, 128, ROWS=4)
    yield case("eight", 8, 384, 384, ROWS=8, bias=True)
    yield case("two_groups", 11, 128, 256, ROWS=8)
    yield case("llama3_8b_strip", 2, 64, 4096, ROWS=2)
    yield case("llama3_8b_down_strip", 1, 32, 14336, ROWS=1)
    yield case("odd", 3, 77, 83, ROWS=4, pad=5, weight="fp32", bias=True)
    yield case("odd_k", 1, 64, 100, ROWS=1, bias=True)
    yield case("half", 2, 384, 384, act="fp16", ROWS=2, bias=True)
    yield case("bf16", 2, 384, 384, act="bf16", weight="bf16", ROWS=2, bias=True)
    yield case("norm", 2, 640, 384, ROWS=2, norm=True)
    yield case("norm_bias", 3, 96, 3584, ROWS=4, norm=True, bias=True)
    yield case("norm_odd", 3, 77, 83, ROWS=4, norm=True, pad=3)
    yield case("residual", 2, 384, 1024, ROWS=2, residual=True)
    yield case("residual_scaled", 5, 64, 4096, ROWS=8, residual=True, bias=True, alpha=0.22, pad=8)
    yield case("gate", 2, 1024, 384, ROWS=2, norm=True, epilogue=SWIGLU)
    yield case("gate_bias", 1, 72, 4096, ROWS=1, norm=True, epilogue=SWIGLU, bias=True)
    yield case("geglu", 3, 96, 384, ROWS=4, norm=True, epilogue=GEGLU)
    yield case("geglu_half", 2, 96, 512, ROWS=2, norm=True, epilogue=GEGLU, act="fp16")
    yield case("capped_head", 2, 8192, 384, ROWS=2, norm=True, epilogue=SOFTCAP, out="fp32",
               rounds_norm=True)  # fmt: skip
    yield case("capped_half", 3, 256, 384, ROWS=4, epilogue=SOFTCAP, act="fp16", out="fp32")
    yield case("gate_odd", 3, 77, 83, ROWS=4, epilogue=SWIGLU, bias=True, pad=5)
    yield case(
        "gate_bf16", 4, 128, 256, ROWS=4, norm=True, epilogue=SWIGLU, act="bf16", weight="bf16"
    )
    yield case("gate_half", 5, 72, 1024, ROWS=8, norm=True, epilogue=SWIGLU, act="fp16", bias=True)
    yield case("residual_bf16", 7, 100, 512, ROWS=8, norm=True, residual=True, act="bf16",
               weight="bf16", bias=True, alpha=0.22, pad=8)  # fmt: skip
    for weight in QUANTISED:
        yield case(f"{weight}_row", 2, 384, 1024, ROWS=2, weight=weight, norm=True)
        yield case(f"{weight}_half", 3, 72, 1024, ROWS=4, weight=weight, norm=True, act="fp16",
                   epilogue=SWIGLU)  # fmt: skip
        yield case(f"{weight}_bf16", 1, 64, 512, ROWS=1, weight=weight, act="bf16", residual=True,
                   n_groups=4, scale="bf16")  # fmt: skip
        yield case(f"{weight}_groups", 2, 50, 384, ROWS=2, weight=weight, n_groups=12, bias=True,
                   epilogue=SWIGLU, scale="fp16")  # fmt: skip
        yield case(f"{weight}_odd", 3, 77, 83, ROWS=4, weight=weight, pad=5, bias=True, norm=True)
    yield case("zeros", 2, 96, 1024, ROWS=2, weight="u8", n_groups=8, has_zero=True, scale="fp16")
    yield case("zeros_half", 4, 96, 1024, ROWS=4, weight="u8", n_groups=8, has_zero=True,
               act="fp16", norm=True, epilogue=SWIGLU)  # fmt: skip
    yield case("zeros_row", 2, 40, 200, ROWS=2, weight="u8", has_zero=True, residual=True)
    yield case("many_rows", 19, 64, 384, ROWS=8, norm=True, act="fp16")
    yield case("unaligned", 2, 64, 256, ROWS=2, act="fp16", pad=3)
    yield case("all", 2, 50, 2048, ROWS=2, norm=True, epilogue=SWIGLU, residual=True, alpha=0.5)


def draw(d, act):
    rows = d.variant.of(1, 2, 4, 8)
    n_rows = d.rows(2 * rows + 1, tile=rows)
    flags = {**dict.fromkeys(("bias", "residual", "norm")), "may_quantise": True}
    return draw_linear(d, d.types(act), (d.types("fp16"),), n_rows, ROWS=rows, **flags)


# Columns of a quantised weight that a tile of plain code may have: of one group.
_TILE = "64 if n_groups <= 1 else min(64, n_in // n_groups)"
# Those of 256 bytes of a row, which a warp reads at once.
_MMA_TILE = "256 * n_in // (w_width * sizeof(w_ptr))"
_GPU = {
    "MMA": 0,
    "BLOCK_N": "(4 if ROWS <= 2 else 2 if ROWS <= 4 else 1) if n_in >= 1024 else 8",
    "BLOCK_K": f"({_TILE}) if HAS_SCALE else (1024 if n_in >= 1024 else 256)",
    "N_LOOP": 1,
    "PRELOAD": 0,
    "PDL": 0,
    "num_warps": 4,
    "num_stages": 1,
}
_NVIDIA = {
    # 16 bytes of a row are read at once: rows of x must lie so, too.
    "MMA": "1 if sizeof(x_ptr) == 2 and (sizeof(w_ptr) == 2 or HAS_SCALE) and x_stride % 8 == 0"
    f" and n_in % ({_MMA_TILE}) == 0 and n_in // max(n_groups, 1) % ({_MMA_TILE} // 4) == 0"
    " else 0",
    "BLOCK_N": f"(8 if GATED else 16) if MMA else ({_GPU['BLOCK_N']})",
    "BLOCK_K": f"({_MMA_TILE}) if MMA else ({_GPU['BLOCK_K']})",
    "N_LOOP": 1,
    "PRELOAD": "(6 if ROWS <= 2 else 4 if ROWS <= 4 else 3) if MMA else 0",
    "PDL": 0,
    "num_warps": 4,
    "num_stages": 1,
}
SPEC = Spec(
    fn=linear_gemv,
    op="linear",
    when="rows <= 4 or (rows <= 8 and not gpu)",
    params=(
        out("y_ptr", FLOATS, "n_rows", "y_stride"),
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        inp("w_ptr", (*FLOATS, *QUANTISED), "n_out * (1 + GATED)", "w_width", of="weight"),
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
        tuned("MMA"),
        tuned("BLOCK_N"),
        tuned("BLOCK_K"),
        tuned("N_LOOP"),
        tuned("PRELOAD"),
        tuned("PDL"),
        derived("GROUPS", "n_groups"),
        derived("EVEN_K", "n_in % (max(BLOCK_K, 128) if HAS_SCALE else BLOCK_K) == 0"),
        derived("K_TILES", "cdiv(n_in, BLOCK_K)"),
    ),
    grid=("cdiv(n_out, BLOCK_N * N_LOOP)", "cdiv(n_rows, ROWS)", "1"),
    bytes="n_out * (1 + GATED) * (w_width * sizeof(w_ptr)"
    " + n_groups * (HAS_SCALE * sizeof(scale_ptr) + HAS_ZERO))"
    " + n_rows * (n_in * sizeof(x_ptr) + n_out * sizeof(y_ptr))"
    " + HAS_BIAS * n_out * (1 + GATED) * sizeof(bias_ptr) + HAS_NORM * n_in * sizeof(norm_ptr)"
    " + HAS_RESIDUAL * n_rows * n_out * sizeof(residual_ptr)",
    flops="2 * n_rows * n_out * (1 + GATED) * n_in",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("MMA", "BLOCK_N", "BLOCK_K", "N_LOOP", "PRELOAD", "PDL"),
    default={
        # One row of weights at a time feeds the hardware prefetcher best; 64 weights are four
        # AVX-512 accumulators. BLOCK_K must not depend on ROWS (see above).
        "cpu": {
            "MMA": 0,
            "BLOCK_N": 1,
            "BLOCK_K": _TILE,
            "N_LOOP": 16,
            "PRELOAD": 0,
            "PDL": 0,
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": _NVIDIA,
        "hip": _GPU,
    },
    # BLOCK_K orders the sum and PDL shows in a chain of kernels only. N_LOOP 1 sums the norm's
    # squares beside the product, in another order than before it.
    space={
        "cpu": {
            "BLOCK_N": (1, 4, 8, 16, 32),
            "N_LOOP": (1, 2, 4, 8, 16),
            "where": "BLOCK_N * N_LOOP <= n_out and (N_LOOP > 1 or not HAS_NORM)",
        },
        "cuda": {"PRELOAD": (1, 2, 3, 4, 6, 8), "where": "MMA"},
    },
)
