"""Linear layer of few rows, and weights, as integers: a stream of weights, no `tl.dot`.

    p[m, n] = sum_g x_scale[m, g] * scale[n, g] * d[m, n, g] + bias[n]
    d[m, n, g] = sum over k in g of (256 * x[m, k] + x_low[m, k]) * (w[n, k] - zero[n, g])
    y[m, n] = alpha * q + residual[m, n];  q = p[m, n], EPILOGUE(p[m, n]),
                                           or EPILOGUE(p[m, n], p[m, N + n])     (GATED)

Arguments as in kernels/linear_int8.py. Bytes of w are taken as unsigned (those of `i8` 128 larger),
and what is too much, the zero times the sum of x over its group, off the sum at the end. A program
takes ROWS rows of x (the last group may be short) and N_LOOP times BLOCK_N outputs, each row of w
read once for all ROWS.
Grid: (N / (BLOCK_N * N_LOOP), M / ROWS). The four columns of a word, and all words of a group that
share a lane, are added up as exact int32; lanes and groups are fp32, in an order that depends on no
number of rows.
"""

import triton
import triton.language as tl

from kernels.lib.linear import (
    GEGLU,
    SWIGLU,
    add_residual,
    epilogue,
    load_biases,
    rows_of_sums,
    scaled_rows,
    zero_sums,
)
from kernels.lib.quads import add_quads, as_words
from kernels.linear_int8 import BYTES, FLOPS, PARAMS, draw_int8, int8_case, reference
from kernels.spec import Spec, derived, given, tuned


@triton.jit
def group_sums(
    x_ptr, x_low_ptr, x_scale_ptr, row, n_in, x_groups, GROUP: tl.constexpr, X_GROUPS: tl.constexpr
):
    """What each group of a row of x adds up to."""
    group = tl.arange(0, X_GROUPS)
    mask = group < x_groups
    at = row * n_in + (group * GROUP)[:, None] + tl.arange(0, GROUP)[None, :]
    high = tl.sum(tl.load(x_ptr + at, mask=mask[:, None], other=0).to(tl.int32), axis=1)
    low = tl.sum(tl.load(x_low_ptr + at, mask=mask[:, None], other=0).to(tl.int32), axis=1)
    scale = tl.load(x_scale_ptr + row * x_groups + group, mask=mask, other=0.0)
    return (high * 256 + low).to(tl.float32) * scale


@triton.jit
def weight_words(words_ptr, PARTS: tl.constexpr):
    """Words of unsigned bytes: of 4 bits those of the low numbers, then those of the high ones."""
    words = tl.load(words_ptr, eviction_policy="evict_first")
    if PARTS == 2:
        return (words & 0x0F0F0F0F, (words >> 4) & 0x0F0F0F0F)
    else:
        return (words ^ -0x7F7F7F80,)


@triton.jit
def linear_int8_gemv(
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
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    N_LOOP: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
    X_GROUPS: tl.constexpr,
    PER_SCALE: tl.constexpr,
):
    HAS_GROUPS: tl.constexpr = GROUPS > 1
    PARTS: tl.constexpr = 2 if w_ptr.dtype.element_ty == tl.uint8 else 1
    # A step is a block of packed bytes, or a group; it has STEP / SPAN groups.
    STEP: tl.constexpr = 128 if PARTS == 2 else GROUP
    # Columns of a tile of words, in each of its parts.
    SPAN: tl.constexpr = min(GROUP, 64)
    WORDS: tl.constexpr = SPAN // 4
    # Tiles of one group: its parts, or one after the other.
    N_TILES: tl.constexpr = STEP // (PARTS * SPAN)
    first_row = tl.program_id(1) * ROWS
    first_out = tl.program_id(0) * (BLOCK_N * N_LOOP)
    lane_n = tl.arange(0, BLOCK_N)
    lane = tl.arange(0, WORDS)

    rows = ()
    highs = ()
    lows = ()
    x_sums = ()
    for i in tl.static_range(ROWS):
        # A short group reads its last row again; the store leaves it out.
        row = tl.minimum(first_row + i, n_rows - 1).to(tl.int64)
        rows = rows + (row,)
        highs = highs + (as_words(x_ptr + row * n_in),)
        lows = lows + (as_words(x_low_ptr + row * n_in),)
        x_sums = x_sums + (
            group_sums(x_ptr, x_low_ptr, x_scale_ptr, row, n_in, x_groups, GROUP, X_GROUPS),
        )
    group_of = tl.arange(0, X_GROUPS)
    for n in range(first_out, tl.minimum(first_out + BLOCK_N * N_LOOP, n_out), BLOCK_N):
        offs_n = n + lane_n
        # Past the end the last row is read again; the store leaves it out.
        w_at = tl.minimum(offs_n, n_out - 1).to(tl.int64)[:, None]
        w_rows = rows_of_sums(as_words(w_ptr + w_at * w_width), n_out, w_width // 4, GATED)
        scale_rows = rows_of_sums(scale_ptr + w_at * n_groups, n_out, n_groups, GATED)
        zero_rows = rows_of_sums(zero_ptr + w_at * n_groups, n_out, n_groups, GATED)
        sums = ()
        for _ in tl.static_range(ROWS):
            sums = sums + (zero_sums((BLOCK_N, WORDS), GATED),)
        for k in range(0, n_in, STEP):
            for g in tl.static_range(STEP // GROUP):
                # The group's words of weights, and where their columns begin.
                words = ()
                columns = ()
                if GROUP == STEP:
                    for t in tl.static_range(N_TILES):
                        at = (k // PARTS + t * SPAN) // 4 + lane[None, :]
                        of_tile = ()
                        for j in tl.static_range(1 + GATED):
                            of_tile = of_tile + (weight_words(w_rows[j] + at, PARTS),)
                        for part in tl.static_range(PARTS):
                            of_part = ()
                            for j in tl.static_range(1 + GATED):
                                of_part = of_part + (of_tile[j][part],)
                            words = words + (of_part,)
                            columns = columns + (k + t * SPAN + part * 64,)
                else:
                    # Of groups within a block of packed bytes, one lies in one of its halves.
                    at = (k // PARTS + g * GROUP % 64) // 4 + lane[None, :]
                    of_part = ()
                    for j in tl.static_range(1 + GATED):
                        of_part = of_part + (weight_words(w_rows[j] + at, PARTS)[g * GROUP // 64],)
                    words = words + (of_part,)
                    columns = columns + (k + g * GROUP,)
                x_group = k // GROUP + g
                scales = ()
                for j in tl.static_range(1 + GATED):
                    if HAS_GROUPS:
                        group = x_group // PER_SCALE
                        scales = scales + (tl.load(scale_rows[j] + group).to(tl.float32),)
                new_sums = ()
                for i in tl.static_range(ROWS):
                    x_scale = tl.load(x_scale_ptr + rows[i] * x_groups + x_group)
                    of_row = ()
                    for j in tl.static_range(1 + GATED):
                        total = tl.zeros((BLOCK_N, WORDS), tl.int32)
                        for t in tl.static_range(len(words)):
                            high = tl.load(highs[i] + columns[t] // 4 + lane)
                            total = add_quads(total, words[t][j], high[None, :])
                        total = total << 8
                        for t in tl.static_range(len(words)):
                            low = tl.load(lows[i] + columns[t] // 4 + lane)
                            total = add_quads(total, words[t][j], low[None, :])
                        scale = x_scale
                        if HAS_GROUPS:
                            scale = x_scale * scales[j]
                        of_row = of_row + (sums[i][j] + total.to(tl.float32) * scale,)
                    new_sums = new_sums + (of_row,)
                sums = new_sums
        row_scales = load_biases(scale_ptr, offs_n, n_out, not HAS_GROUPS, GATED, None)
        biases = load_biases(bias_ptr, offs_n, n_out, HAS_BIAS, GATED, None)
        # What is too much in a group: its zero, times the scale where groups have their own.
        factors = ()
        for j in tl.static_range(1 + GATED):
            factor = tl.full((BLOCK_N, X_GROUPS), 8.0 if PARTS == 2 else 128.0, tl.float32)
            if HAS_GROUPS or HAS_ZERO:
                at = (group_of // PER_SCALE)[None, :]
                mask = group_of[None, :] < x_groups
                if HAS_ZERO:
                    factor = tl.load(zero_rows[j] + at, mask=mask, other=0).to(tl.float32)
                if HAS_GROUPS:
                    factor *= tl.load(scale_rows[j] + at, mask=mask, other=0.0).to(tl.float32)
            factors = factors + (factor,)
        for i in tl.static_range(ROWS):
            totals = ()
            for j in tl.static_range(1 + GATED):
                too_much = tl.sum(factors[j] * x_sums[i][None, :], axis=1)
                totals = totals + (tl.sum(sums[i][j], axis=1) - too_much,)
            totals = scaled_rows(totals, row_scales, not HAS_GROUPS)
            y = epilogue(totals, biases, HAS_BIAS, EPILOGUE)
            mask = (offs_n < n_out) & (first_row + i < n_rows)
            y = add_residual(
                y, residual_ptr + rows[i] * residual_stride + offs_n, mask, alpha, HAS_RESIDUAL
            )
            tl.store(y_ptr + rows[i] * y_stride + offs_n, y.to(y_ptr.dtype.element_ty), mask=mask)


def cases(act):
    def case(name, *sizes, **kwargs):
        return int8_case(name, *sizes, **{"act": act, "ROWS": 1, **kwargs})

    yield case("demo_qkv", 1, 640, 384)
    yield case("demo_down", 2, 384, 1024, ROWS=2, residual=True)
    yield case("demo_head", 1, 8192, 384, bias=False)
    yield case("demo_mlp", 4, 1024, 384, ROWS=4, epilogue=SWIGLU)
    yield case("llama3_8b_strip", 2, 64, 4096, ROWS=2, bias=False)
    yield case("llama3_8b_down_strip", 1, 32, 14336, weight="u8", n_groups=112, scale="bf16")
    yield case("short_group", 3, 512, 128, ROWS=4)
    yield case("two_groups", 11, 128, 256, ROWS=8)
    yield case("odd", 3, 77, 96, ROWS=4, group=32, pad=5)
    yield case("odd_swiglu", 3, 77, 192, ROWS=4, group=64, pad=5, epilogue=SWIGLU, bias=False)
    yield case("both", 5, 192, 320, ROWS=4, group=64, residual=True, epilogue=GEGLU, alpha=-1.5)
    yield case("groups", 2, 96, 512, ROWS=2, n_groups=2, scale="bf16")
    yield case("small_groups", 3, 50, 384, ROWS=4, group=32, n_groups=12, scale="fp16",
               epilogue=SWIGLU)  # fmt: skip
    yield case("four", 4, 96, 512, ROWS=4, weight="u8", n_groups=4, residual=True)
    yield case("four_row", 2, 100, 384, ROWS=2, weight="u8", epilogue=SWIGLU)
    yield case("four_zeros", 4, 96, 1024, ROWS=4, weight="u8", n_groups=8, has_zero=True,
               scale="fp16")  # fmt: skip
    yield case("four_zeros_row", 2, 40, 256, ROWS=2, weight="u8", has_zero=True, pad=3)
    for group in (64, 32):
        n_groups = 256 // group
        yield case(f"four_{group}", 3, 96, 256, ROWS=4, weight="u8", group=group,
                   n_groups=n_groups, has_zero=True)  # fmt: skip
        yield case(f"four_row_{group}", 1, 64, 256, weight="u8", group=group, epilogue=GEGLU)
    yield case("half", 2, 384, 384, ROWS=2, act="fp16", residual=True)
    yield case("bf16", 2, 384, 384, ROWS=2, act="bf16")


def draw(d, act):
    rows = d.variant.of(1, 2, 4)
    return draw_int8(d, act, d.rows(2 * rows + 1, tile=rows), ROWS=rows)


SPEC = Spec(
    fn=linear_int8_gemv,
    op="linear",
    when="not gpu and rows <= 4",
    params=(
        *PARAMS,
        given("ROWS", of="step.rows"),
        tuned("BLOCK_N"),
        tuned("N_LOOP"),
        derived("GROUPS", "n_groups"),
        derived("GROUP", "n_in // x_groups"),
        derived("X_GROUPS", "next_pow2(x_groups)"),
        derived("PER_SCALE", "x_groups // n_groups"),
    ),
    grid=("cdiv(n_out, BLOCK_N * N_LOOP)", "cdiv(n_rows, ROWS)", "1"),
    bytes=BYTES,
    flops=FLOPS,
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK_N", "N_LOOP"),
    default={
        # Ends of sixteen rows are computed as one vector; sums of x once for all of a program's.
        "cpu": {
            "BLOCK_N": 16,
            "N_LOOP": "4 if n_out >= 2048 else 2",
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {"BLOCK_N": 16, "N_LOOP": 1, "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK_N": 16, "N_LOOP": 1, "num_warps": 4, "num_stages": 1},
    },
    space={
        "cpu": {
            "BLOCK_N": (1, 4, 8, 16, 32),
            "N_LOOP": (1, 2, 4, 8, 16),
            "where": "BLOCK_N * N_LOOP <= n_out",
        }
    },
)
