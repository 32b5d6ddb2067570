"""Products of rows of weights with up to 8 tokens on NVIDIA's matrix units, operands straight from
memory: no shared memory, no shuffles, and a token's result does not depend on the others.

A tile [WARPS * 8, 8] of 64-bit words is 8 rows of 32 values for each of WARPS warps. Triton's loads
give a lane two words of one row, 16 bytes, rows by lane / 4 (two axes leave it no other order): as
they lie, these are what mma.m16n8k16 takes of a row, and of a token alike, for a sum over k in any
order. Whatever is computed from a tile that was not loaded so would be wrong.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.lib.linear import silu


@triton.jit
def mma_m16(upper, lower, w_upper, w_lower, x, BF16: tl.constexpr):
    """upper, lower [WARPS * 8 rows, 8 tokens] plus two groups of 8 rows, 32 values of each a warp,
    by the tokens' same 32 values."""
    CONSTRAINTS: tl.constexpr = "=f,=f,=f,=f,f,f,f,f,l,l,l,l,l,l"
    if BF16:
        return tl.inline_asm_elementwise(
            """{
            .reg .b32 a0, a1, a2, a3, b0, b1; .reg .f32 d0, d1, d2, d3;
            mov.b64 {a0, a2}, $8; mov.b64 {a1, a3}, $10; mov.b64 {b0, b1}, $12;
            mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
                {d0, d1, d2, d3}, {a0, a1, a2, a3}, {b0, b1}, {$4, $5, $6, $7};
            mov.b64 {a0, a2}, $9; mov.b64 {a1, a3}, $11; mov.b64 {b0, b1}, $13;
            mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
                {$0, $1, $2, $3}, {a0, a1, a2, a3}, {b0, b1}, {d0, d1, d2, d3};
            }""",
            CONSTRAINTS, [upper, lower, w_upper, w_lower, x], dtype=(tl.float32, tl.float32),
            is_pure=True, pack=2,
        )  # fmt: skip
    return tl.inline_asm_elementwise(
        """{
        .reg .b32 a0, a1, a2, a3, b0, b1; .reg .f32 d0, d1, d2, d3;
        mov.b64 {a0, a2}, $8; mov.b64 {a1, a3}, $10; mov.b64 {b0, b1}, $12;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
            {d0, d1, d2, d3}, {a0, a1, a2, a3}, {b0, b1}, {$4, $5, $6, $7};
        mov.b64 {a0, a2}, $9; mov.b64 {a1, a3}, $11; mov.b64 {b0, b1}, $13;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
            {$0, $1, $2, $3}, {a0, a1, a2, a3}, {b0, b1}, {d0, d1, d2, d3};
        }""",
        CONSTRAINTS, [upper, lower, w_upper, w_lower, x], dtype=(tl.float32, tl.float32),
        is_pure=True, pack=2,
    )  # fmt: skip


@triton.jit
def mul_words(x, y, BF16: tl.constexpr):
    """Four 16-bit products in a 64-bit word, rounded to nearest."""
    if BF16:
        return tl.inline_asm_elementwise(
            """{
            .reg .b32 a, b, c, d, zero; mov.b64 {a, b}, $1; mov.b64 {c, d}, $2;
            mov.b32 zero, 0x80008000;
            fma.rn.bf16x2 a, a, c, zero; fma.rn.bf16x2 b, b, d, zero; mov.b64 $0, {a, b};
            }""",
            "=l,l,l", [x, y], dtype=tl.int64, is_pure=True, pack=1,
        )  # fmt: skip
    return tl.inline_asm_elementwise(
        """{
        .reg .b32 a, b, c, d; mov.b64 {a, b}, $1; mov.b64 {c, d}, $2;
        mul.rn.f16x2 a, a, c; mul.rn.f16x2 b, b, d; mov.b64 $0, {a, b};
        }""",
        "=l,l,l", [x, y], dtype=tl.int64, is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def as_words(ptr):
    return ptr.to(tl.pointer_type(tl.int64), bitcast=True)


@triton.jit
def weight_tiles(upper_ptr, lower_ptr, N: tl.constexpr, TILE_WORDS: tl.constexpr):
    uppers = ()
    lowers = ()
    for t in tl.static_range(N):
        w = tl.load(upper_ptr + t * TILE_WORDS, eviction_policy="evict_first")
        uppers = uppers + (w,)
        w = tl.load(lower_ptr + t * TILE_WORDS, eviction_policy="evict_first")
        lowers = lowers + (w,)
    return uppers, lowers


@triton.jit
def word_tiles(ptr, mask, N: tl.constexpr, TILE_WORDS: tl.constexpr):
    tiles = ()
    for t in tl.static_range(N):
        tiles = tiles + (tl.load(ptr + t * TILE_WORDS, mask=mask, other=0),)
    return tiles


@triton.jit
def linear_mma(
    y_ptr,
    x_ptr,
    w_ptr,
    bias_ptr,
    norm_ptr,
    residual_ptr,
    n_rows,
    n_out,
    y_stride,
    x_stride,
    residual_stride,
    eps,
    alpha,
    HAS_BIAS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    SWIGLU: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRELOAD: tl.constexpr,
    PDL: tl.constexpr,
    K_TILES: tl.constexpr,
):
    """linear_gemv, its parameters and meanings."""
    BF16: tl.constexpr = x_ptr.dtype.element_ty == tl.bfloat16
    WARPS: tl.constexpr = BLOCK_K // 32
    ROW_WORDS: tl.constexpr = K_TILES * BLOCK_K // 4
    TILE_WORDS: tl.constexpr = BLOCK_K // 4
    # Tiles in flight: carried by a loop, lest the compiler puts each load beside its use.
    DEPTH: tl.constexpr = PRELOAD if PRELOAD < K_TILES else K_TILES
    ROUNDS: tl.constexpr = K_TILES // DEPTH
    REST: tl.constexpr = K_TILES % DEPTH
    tl.static_assert((8 if SWIGLU else 16) == BLOCK_N, "a program has two groups of 8 rows")
    row = (tl.arange(0, WARPS * 8) % 8)[:, None]
    warp = (tl.arange(0, WARPS * 8) // 8)[:, None]
    word = tl.arange(0, 8)[None, :]
    first_row = tl.program_id(1) * ROWS
    first_out = tl.program_id(0) * BLOCK_N
    at = warp * 8 + word
    # Two groups of 8 rows: neighbours, or gates and their ups. Past the end the last row is read
    # again; the store leaves it out.
    n = tl.minimum(first_out + row, n_out - 1)
    upper_ptr = as_words(w_ptr) + n.to(tl.int64) * ROW_WORDS + at
    n = n + n_out if SWIGLU else tl.minimum(first_out + row + 8, n_out - 1)
    lower_ptr = as_words(w_ptr) + n.to(tl.int64) * ROW_WORDS + at
    mask_x = (row < tl.minimum(n_rows - first_row, ROWS)) & (at >= 0)
    x_words = tl.multiple_of(x_stride // 4, 2)
    x_at = as_words(x_ptr) + (first_row + row).to(tl.int64) * x_words + at
    norm_at = as_words(norm_ptr) + 0 * row + at

    uppers, lowers = weight_tiles(upper_ptr, lower_ptr, DEPTH, TILE_WORDS)
    norms = ()
    if HAS_NORM:
        norms = word_tiles(norm_at, row >= 0, DEPTH, TILE_WORDS)
    if PDL > 0:
        gdc_wait()
    if PDL == 3:
        gdc_launch_dependents()
    tokens = word_tiles(x_at, mask_x, DEPTH, TILE_WORDS)
    upper = tl.zeros((WARPS * 8, 8), tl.float32)
    lower = tl.zeros((WARPS * 8, 8), tl.float32)
    # Tokens by tokens: the sums of squares stand on the diagonal.
    gram = tl.zeros((WARPS * 8, 8), tl.float32)
    gram_rest = tl.zeros((WARPS * 8, 8), tl.float32)
    for _ in tl.range(1, ROUNDS, num_stages=1):
        upper_ptr += DEPTH * TILE_WORDS
        lower_ptr += DEPTH * TILE_WORDS
        norm_at += DEPTH * TILE_WORDS
        x_at += DEPTH * TILE_WORDS
        new_uppers = ()
        new_lowers = ()
        new_tokens = ()
        new_norms = ()
        for t in tl.static_range(DEPTH):
            x = tokens[t]
            if HAS_NORM:
                gram, gram_rest = mma_m16(gram, gram_rest, x, tl.zeros_like(x), x, BF16)
                x = mul_words(x, norms[t], BF16)
            upper, lower = mma_m16(upper, lower, uppers[t], lowers[t], x, BF16)
            w = tl.load(upper_ptr + t * TILE_WORDS, eviction_policy="evict_first")
            new_uppers = new_uppers + (w,)
            w = tl.load(lower_ptr + t * TILE_WORDS, eviction_policy="evict_first")
            new_lowers = new_lowers + (w,)
            x = tl.load(x_at + t * TILE_WORDS, mask=mask_x, other=0)
            new_tokens = new_tokens + (x,)
            if HAS_NORM:
                new_norms = new_norms + (tl.load(norm_at + t * TILE_WORDS),)
        uppers = new_uppers
        lowers = new_lowers
        tokens = new_tokens
        norms = new_norms
    if REST > 0:
        upper_ptr += DEPTH * TILE_WORDS
        lower_ptr += DEPTH * TILE_WORDS
        rest_uppers, rest_lowers = weight_tiles(upper_ptr, lower_ptr, REST, TILE_WORDS)
        uppers = uppers + rest_uppers
        lowers = lowers + rest_lowers
        tokens = tokens + word_tiles(x_at + DEPTH * TILE_WORDS, mask_x, REST, TILE_WORDS)
        if HAS_NORM:
            norms = norms + word_tiles(norm_at + DEPTH * TILE_WORDS, row >= 0, REST, TILE_WORDS)
    for t in tl.static_range(DEPTH + REST):
        x = tokens[t]
        if HAS_NORM:
            gram, gram_rest = mma_m16(gram, gram_rest, x, tl.zeros_like(x), x, BF16)
            x = mul_words(x, norms[t], BF16)
        upper, lower = mma_m16(upper, lower, uppers[t], lowers[t], x, BF16)

    token = tl.arange(0, 8)[None, :]
    m = first_row + token
    mask_m = (token < ROWS) & (m < n_rows)
    n = first_out + tl.arange(0, 8)[:, None]
    upper = tl.sum(tl.reshape(upper, (WARPS, 8, 8)), axis=0)
    lower = tl.sum(tl.reshape(lower, (WARPS, 8, 8)), axis=0)
    if HAS_NORM:
        squares = tl.sum(tl.where(row == word, gram, 0.0), axis=0)[None, :]
        factor = tl.rsqrt(squares / (K_TILES * BLOCK_K) + eps)
        upper *= factor
        lower *= factor
    if HAS_BIAS:
        upper += tl.load(bias_ptr + n, mask=n < n_out, other=0.0).to(tl.float32)
        n_lower = n + n_out if SWIGLU else n + 8
        n_end = 2 * n_out if SWIGLU else n_out
        lower += tl.load(bias_ptr + n_lower, mask=n_lower < n_end, other=0.0).to(tl.float32)
    if SWIGLU:
        upper = silu(upper) * lower
    mask = mask_m & (n < n_out)
    target = y_ptr + m.to(tl.int64) * y_stride + n
    source = residual_ptr + m.to(tl.int64) * residual_stride + n
    if HAS_RESIDUAL:
        upper = upper * alpha + tl.load(source, mask=mask, other=0.0).to(tl.float32)
    tl.store(target, upper.to(y_ptr.dtype.element_ty), mask=mask)
    if not SWIGLU:
        mask = mask_m & (n + 8 < n_out)
        if HAS_RESIDUAL:
            lower = lower * alpha + tl.load(source + 8, mask=mask, other=0.0).to(tl.float32)
        tl.store(target + 8, lower.to(y_ptr.dtype.element_ty), mask=mask)
