"""Products of rows of weights with tokens on NVIDIA's matrix units, operands straight from memory:
no shared memory, no shuffles, and a token's result does not depend on the others.

A tile [WARPS * 8, 8] of 64-bit words is 8 pieces of 32 values for each of WARPS warps. Triton's
loads give a lane two words of one piece, 16 bytes, pieces by lane / 4 (two axes leave it no other
order): as they lie, these are what mma.m16n8k16 takes of a row of either operand, for a sum over k
in any order. Whatever is computed from a tile that was not loaded so would be wrong.

Of weights, a warp's 8 pieces are 4 neighbours of one row and the same 4 of the next: 256 bytes of
a row at once, which memory likes best (64 bytes of 8 rows are 4 to 18 % slower on an H100). Of
tokens alike; of an 8 x 8 product then those places count where both pieces stand for the same
values: [row, token] is the sum of 4 of them. The rest is waste, which costs nothing beside the
reading.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.lib.linear import add_residual, epilogue, load_biases


@triton.jit
def mma_m16(upper, lower, w_upper, w_lower, x, BF16: tl.constexpr):
    """upper, lower [WARPS * 8, 8] plus, in each warp, the products of its 8 pieces of w_upper, of
    w_lower, with its 8 pieces of x."""
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
def token_tile(x_at, x_words, token, n_tokens, PAIRS: tl.constexpr):
    """The same values of every pair of tokens; 0 for a token that there is not."""
    tiles = ()
    for p in tl.static_range(PAIRS):
        mask = (token + 2 * p < n_tokens) & (tl.arange(0, 8)[None, :] >= 0)
        tiles = tiles + (tl.load(x_at + 2 * p * x_words, mask=mask, other=0),)
    return tiles


@triton.jit
def add_tile(
    sums, w_upper, w_lower, tokens, norm, PAIRS: tl.constexpr, HAS_NORM: tl.constexpr,
    BF16: tl.constexpr,
):  # fmt: skip
    """Into each pair's sums: two rows of w, two more, and tokens by tokens, whose sums of squares
    stand on the diagonal."""
    new_sums = ()
    for p in tl.static_range(PAIRS):
        upper, lower, squares, rest = sums[p]
        x = tokens[p]
        if HAS_NORM:
            squares, rest = mma_m16(squares, rest, x, tl.zeros_like(x), x, BF16)
            x = mul_words(x, norm, BF16)
        upper, lower = mma_m16(upper, lower, w_upper, w_lower, x, BF16)
        new_sums = new_sums + ((upper, lower, squares, rest),)
    return new_sums


@triton.jit
def same_values(products, WARPS: tl.constexpr):
    """[WARPS * 8, 8] to [WARPS, 2 rows, 2 tokens]: the sum of what stands for the same values."""
    piece = (tl.arange(0, WARPS * 8) % 4)[:, None]
    products = tl.where(piece == (tl.arange(0, 8) % 4)[None, :], products, 0.0)
    products = tl.sum(tl.reshape(products, (WARPS, 2, 4, 2, 4)), axis=4)
    return tl.sum(products, axis=2)


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
    GATED: tl.constexpr,
    EPILOGUE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRELOAD: tl.constexpr,
    PDL: tl.constexpr,
    K_TILES: tl.constexpr,
):
    """linear_gemv, its parameters and meanings. A warp has two rows of w and two more (neighbours,
    or gates and their ups) over the whole of K."""
    tl.static_assert(BLOCK_K == 128, "a warp reads 4 pieces of 32 values in a row")
    BF16: tl.constexpr = x_ptr.dtype.element_ty == tl.bfloat16
    WARPS: tl.constexpr = BLOCK_N // 2 if GATED else BLOCK_N // 4
    PAIRS: tl.constexpr = (ROWS + 1) // 2  # of tokens
    ROW_WORDS: tl.constexpr = K_TILES * 32
    # Tiles in flight: carried by a loop, lest the compiler puts each load beside its use.
    DEPTH: tl.constexpr = PRELOAD if PRELOAD < K_TILES else K_TILES
    ROUNDS: tl.constexpr = K_TILES // DEPTH
    REST: tl.constexpr = K_TILES % DEPTH
    lane = tl.arange(0, WARPS * 8)[:, None]
    row = lane // 4
    at = lane % 4 * 8 + tl.arange(0, 8)[None, :]
    first_row = tl.program_id(1) * ROWS
    first_out = tl.program_id(0) * BLOCK_N
    # Past the end the last row is read again; the store leaves it out.
    n = tl.minimum(first_out + row, n_out - 1)
    upper_ptr = as_words(w_ptr) + n.to(tl.int64) * ROW_WORDS + at
    n = n + n_out if GATED else tl.minimum(first_out + 2 * WARPS + row, n_out - 1)
    lower_ptr = as_words(w_ptr) + n.to(tl.int64) * ROW_WORDS + at
    token = lane % 8 // 4
    x_words = tl.multiple_of(x_stride // 4, 2)
    x_at = as_words(x_ptr) + (first_row + token).to(tl.int64) * x_words + at
    norm_at = as_words(norm_ptr) + 0 * lane + at
    n_tokens = tl.minimum(n_rows - first_row, ROWS)

    uppers = ()
    lowers = ()
    norms = ()
    for t in tl.static_range(DEPTH):
        uppers = uppers + (tl.load(upper_ptr + t * 32, eviction_policy="evict_first"),)
        lowers = lowers + (tl.load(lower_ptr + t * 32, eviction_policy="evict_first"),)
        norms = norms + (tl.load(norm_at + t * 32) if HAS_NORM else 0,)
    if PDL > 0:
        gdc_wait()
    if PDL == 3:
        gdc_launch_dependents()
    tokens = ()
    for t in tl.static_range(DEPTH):
        tokens = tokens + (token_tile(x_at + t * 32, x_words, token, n_tokens, PAIRS),)
    zero = tl.zeros((WARPS * 8, 8), tl.float32)
    sums = ()
    for _ in tl.static_range(PAIRS):
        sums = sums + ((zero, zero, zero, zero),)
    for _ in tl.range(1, ROUNDS, num_stages=1):
        upper_ptr += DEPTH * 32
        lower_ptr += DEPTH * 32
        norm_at += DEPTH * 32
        x_at += DEPTH * 32
        new_uppers = ()
        new_lowers = ()
        new_norms = ()
        new_tokens = ()
        for t in tl.static_range(DEPTH):
            sums = add_tile(sums, uppers[t], lowers[t], tokens[t], norms[t], PAIRS, HAS_NORM, BF16)
            w = tl.load(upper_ptr + t * 32, eviction_policy="evict_first")
            new_uppers = new_uppers + (w,)
            w = tl.load(lower_ptr + t * 32, eviction_policy="evict_first")
            new_lowers = new_lowers + (w,)
            new_norms = new_norms + (tl.load(norm_at + t * 32) if HAS_NORM else 0,)
            x = token_tile(x_at + t * 32, x_words, token, n_tokens, PAIRS)
            new_tokens = new_tokens + (x,)
        uppers = new_uppers
        lowers = new_lowers
        norms = new_norms
        tokens = new_tokens
    for t in tl.static_range(DEPTH):
        sums = add_tile(sums, uppers[t], lowers[t], tokens[t], norms[t], PAIRS, HAS_NORM, BF16)
    for t in tl.static_range(DEPTH, DEPTH + REST):
        last_upper = tl.load(upper_ptr + t * 32, eviction_policy="evict_first")
        last_lower = tl.load(lower_ptr + t * 32, eviction_policy="evict_first")
        last_norm = tl.load(norm_at + t * 32) if HAS_NORM else 0
        x = token_tile(x_at + t * 32, x_words, token, n_tokens, PAIRS)
        sums = add_tile(sums, last_upper, last_lower, x, last_norm, PAIRS, HAS_NORM, BF16)

    pair_row = tl.arange(0, 2)[None, :, None]
    n = first_out + tl.arange(0, WARPS)[:, None, None] * 2 + pair_row
    n_other = n + 2 * WARPS
    biases = load_biases(bias_ptr, n, n_out, HAS_BIAS, GATED, None)
    other_biases = load_biases(bias_ptr, n_other, n_out, HAS_BIAS and not GATED, False, None)
    for p in tl.static_range(PAIRS):
        upper = same_values(sums[p][0], WARPS)
        lower = same_values(sums[p][1], WARPS)
        if HAS_NORM:
            square = lane % 8 == tl.arange(0, 8)[None, :]
            squares = tl.reshape(tl.where(square, sums[p][2], 0.0), (WARPS, 8, 2, 4))
            squares = tl.sum(tl.sum(squares, axis=3), axis=1)[:, None, :]
            factor = tl.rsqrt(squares / (K_TILES * 128) + eps)
            upper *= factor
            lower *= factor
        if GATED:
            upper = epilogue((upper, lower), biases, HAS_BIAS, EPILOGUE)
        else:
            upper = epilogue((upper,), biases, HAS_BIAS, EPILOGUE)
            lower = epilogue((lower,), other_biases, HAS_BIAS, EPILOGUE)
        m = 2 * p + tl.arange(0, 2)[None, None, :]
        mask = (m < n_tokens) & (n < n_out)
        m = (first_row + m).to(tl.int64)
        residual_at = residual_ptr + m * residual_stride
        upper = add_residual(upper, residual_at + n, mask, alpha, HAS_RESIDUAL)
        tl.store(y_ptr + m * y_stride + n, upper.to(y_ptr.dtype.element_ty), mask=mask)
        if not GATED:
            mask = (m - first_row < n_tokens) & (n_other < n_out)
            lower = add_residual(lower, residual_at + n_other, mask, alpha, HAS_RESIDUAL)
            tl.store(y_ptr + m * y_stride + n_other, lower.to(y_ptr.dtype.element_ty), mask=mask)
