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

from kernels.lib.halves import as_halves
from kernels.lib.linear import add_residual, epilogue, load_biases, scaled_rows


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
def lane_words(at, TILE: tl.constexpr, N: tl.constexpr):
    """Where the words lie that stand opposite one of the N tiles that a tile of weights becomes: a
    lane's 16 bytes of weights are N times 16 bytes of what they are multiplied by."""
    if N == 1:
        words = at
    elif N == 2:
        words = at // 8 * 16 + at % 8 // 2 * 4 + at % 2 + 2 * TILE
    else:
        words = at // 8 * 32 + at % 8 // 2 * 4 + at % 2 + 16 * (TILE // 2) + 2 * (TILE % 2)
    return tl.max_contiguous(tl.multiple_of(words, [1, 2]), [1, 2])


@triton.jit
def word_tiles(ptr, at, N: tl.constexpr):
    tiles = ()
    for i in tl.static_range(N):
        tiles = tiles + (tl.load(ptr + lane_words(at, i, N)),)
    return tiles


@triton.jit
def token_tiles(x_ptr, at, x_words, token, n_tokens, N: tl.constexpr, PAIRS: tl.constexpr):
    """The same values of every pair of tokens; 0 for a token that there is not."""
    tiles = ()
    for i in tl.static_range(N):
        of_pairs = ()
        for p in tl.static_range(PAIRS):
            mask = (token + 2 * p < n_tokens) & (tl.arange(0, 8)[None, :] >= 0)
            x_at = x_ptr + lane_words(at, i, N) + 2 * p * x_words
            of_pairs = of_pairs + (tl.load(x_at, mask=mask, other=0),)
        tiles = tiles + (of_pairs,)
    return tiles


_LOAD_FP32 = tl.constexpr("ld.global.nc.f32 $0, [$2]; mov.f32 $1, $0;")
_LOAD_FP16 = tl.constexpr(
    "{.reg .b16 h; ld.global.nc.b16 h, [$2]; cvt.f32.f16 $0, h; mov.f32 $1, $0;}"
)
_LOAD_BF16 = tl.constexpr(
    "{.reg .b16 h, z; ld.global.nc.b16 h, [$2]; mov.b16 z, 0; mov.b32 $0, {z, h}; mov.f32 $1, $0;}"
)
_LOAD_U8 = tl.constexpr(
    "{.reg .u32 z; ld.global.nc.u8 z, [$2]; cvt.rn.f32.u32 $0, z; mov.f32 $1, $0;}"
)


@triton.jit
def piece_values(ptr, index):
    """A number of each piece, for both of a lane's words: as Triton's own load it would be spread
    over lanes in another way."""
    dtype: tl.constexpr = ptr.dtype.element_ty
    if dtype == tl.float32:
        ASM: tl.constexpr = _LOAD_FP32
    elif dtype == tl.float16:
        ASM: tl.constexpr = _LOAD_FP16
    elif dtype == tl.bfloat16:
        ASM: tl.constexpr = _LOAD_BF16
    else:
        ASM: tl.constexpr = _LOAD_U8
    return tl.inline_asm_elementwise(
        ASM, "=f,=f,l,l", [(ptr + index).to(tl.int64)], dtype=tl.float32, is_pure=True, pack=2
    )


@triton.jit
def group_values(scale_ptr, zero_ptr, index, HAS_ZERO: tl.constexpr):
    scale = piece_values(scale_ptr, index)
    if HAS_ZERO:
        return (scale, scale * (8.0 - piece_values(zero_ptr, index)))
    else:
        return (scale,)


@triton.jit
def add_tile(
    sums, w_upper, w_lower, tokens, norms, upper_group, lower_group, PAIRS: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_GROUPS: tl.constexpr, HAS_ZERO: tl.constexpr, W: tl.constexpr,
    BF16: tl.constexpr,
):  # fmt: skip
    """Into each pair's sums: two rows of w, two more, and tokens by tokens, whose sums of squares
    stand on the diagonal."""
    uppers = as_halves(w_upper, W, BF16)
    lowers = as_halves(w_lower, W, BF16)
    new_sums = ()
    for p in tl.static_range(PAIRS):
        upper, lower, squares, rest = sums[p]
        zero = tl.zeros_like(upper)
        if HAS_GROUPS:
            all_upper, all_lower = upper, lower
            upper, lower = zero, zero
        if HAS_ZERO:
            ones = tl.full(
                w_upper.shape, 0x3F803F803F803F80 if BF16 else 0x3C003C003C003C00, tl.int64
            )
            total, same = zero, zero
        for i in tl.static_range(len(uppers)):
            x = tokens[i][p]
            if HAS_NORM:
                squares, rest = mma_m16(squares, rest, x, tl.zeros_like(x), x, BF16)
                x = mul_words(x, norms[i], BF16)
            upper, lower = mma_m16(upper, lower, uppers[i], lowers[i], x, BF16)
            if HAS_ZERO:
                total, same = mma_m16(total, same, ones, ones, x, BF16)
        if HAS_GROUPS:
            upper = all_upper + upper * upper_group[0]
            lower = all_lower + lower * lower_group[0]
            if HAS_ZERO:
                upper += total * upper_group[1]
                lower += total * lower_group[1]
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
def last_of(tiles, N: tl.constexpr):
    last = ()
    for i in tl.static_range(len(tiles) - N, len(tiles)):
        last = last + (tiles[i],)
    return last


@triton.jit
def tile_groups(
    scale_ptr, zero_ptr, upper_at, lower_at, piece, tile, HAS_GROUPS: tl.constexpr,
    HAS_ZERO: tl.constexpr, GROUPS: tl.constexpr, K_TILES: tl.constexpr,
):  # fmt: skip
    """Scales, and what zeros make of a sum of x, of each piece's columns in a tile."""
    upper = ()
    lower = ()
    if HAS_GROUPS:
        # Several pieces share a group, or one is a group.
        PIECES: tl.constexpr = 4 * K_TILES // GROUPS
        group = (tile * 4 + piece) // PIECES
        upper = group_values(scale_ptr, zero_ptr, upper_at + group, HAS_ZERO)
        lower = group_values(scale_ptr, zero_ptr, lower_at + group, HAS_ZERO)
    return (upper, lower)


@triton.jit
def linear_mma(
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
    GROUPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRELOAD: tl.constexpr,
    PDL: tl.constexpr,
    K_TILES: tl.constexpr,
):
    """linear_gemv, its parameters and meanings. A warp has two rows of w and two more (neighbours,
    or gates and their ups) over the whole of K."""
    W: tl.constexpr = w_ptr.dtype.element_ty
    N: tl.constexpr = 1 if W.primitive_bitwidth == 16 else 4 if W.is_uint8() else 2
    tl.static_assert(BLOCK_K == 128 * N, "a warp reads 4 pieces of 64 bytes in a row")
    BF16: tl.constexpr = x_ptr.dtype.element_ty == tl.bfloat16
    WARPS: tl.constexpr = BLOCK_N // 2 if GATED else BLOCK_N // 4
    PAIRS: tl.constexpr = (ROWS + 1) // 2  # of tokens
    ROW_WORDS: tl.constexpr = K_TILES * 32
    X_WORDS: tl.constexpr = 32 * N  # of a tile
    # One scale a row is for the sums.
    HAS_GROUPS: tl.constexpr = GROUPS > 1 or HAS_ZERO
    # Tiles in flight: carried by a loop, lest the compiler puts each load beside its use. Of what
    # weights are multiplied by there is too much for that where they are small.
    DEPTH: tl.constexpr = PRELOAD if PRELOAD < K_TILES else K_TILES
    MOST_AHEAD: tl.constexpr = PRELOAD if N == 1 else (2 if PRELOAD * N <= 16 else 1)
    AHEAD: tl.constexpr = MOST_AHEAD if MOST_AHEAD < DEPTH else DEPTH
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
    piece = lane % 4 + 0 * at
    upper_at = n * GROUPS + 0 * at
    n = n + n_out if GATED else tl.minimum(first_out + 2 * WARPS + row, n_out - 1)
    lower_ptr = as_words(w_ptr) + n.to(tl.int64) * ROW_WORDS + at
    lower_at = n * GROUPS + 0 * at
    token = lane % 8 // 4
    x_words = tl.multiple_of(x_stride // 4, 2)
    x_rows = as_words(x_ptr) + (first_row + token).to(tl.int64) * x_words
    norm_rows = as_words(norm_ptr) + 0 * lane
    n_tokens = tl.minimum(n_rows - first_row, ROWS)

    uppers = ()
    lowers = ()
    groups = ()
    norms = ()
    for t in tl.static_range(DEPTH):
        uppers = uppers + (tl.load(upper_ptr + t * 32, eviction_policy="evict_first"),)
        lowers = lowers + (tl.load(lower_ptr + t * 32, eviction_policy="evict_first"),)
        group = tile_groups(
            scale_ptr, zero_ptr, upper_at, lower_at, piece, t, HAS_GROUPS, HAS_ZERO, GROUPS, K_TILES
        )
        groups = groups + (group,)
    for t in tl.static_range(AHEAD):
        norm = word_tiles(norm_rows + t * X_WORDS, at, N) if HAS_NORM else ()
        norms = norms + (norm,)
    if PDL > 0:
        gdc_wait()
    if PDL == 3:
        gdc_launch_dependents()
    tokens = ()
    for t in tl.static_range(AHEAD):
        x = token_tiles(x_rows + t * X_WORDS, at, x_words, token, n_tokens, N, PAIRS)
        tokens = tokens + (x,)
    zero = tl.zeros((WARPS * 8, 8), tl.float32)
    sums = ()
    for _ in tl.static_range(PAIRS):
        sums = sums + ((zero, zero, zero, zero),)
    for r in tl.range(1, ROUNDS, num_stages=1):
        upper_ptr += DEPTH * 32
        lower_ptr += DEPTH * 32
        new_uppers = ()
        new_lowers = ()
        new_groups = ()
        for t in tl.static_range(DEPTH):
            sums = add_tile(
                sums, uppers[t], lowers[t], tokens[t], norms[t], groups[t][0], groups[t][1], PAIRS,
                HAS_NORM, HAS_GROUPS, HAS_ZERO, W, BF16,
            )  # fmt: skip
            w = tl.load(upper_ptr + t * 32, eviction_policy="evict_first")
            new_uppers = new_uppers + (w,)
            w = tl.load(lower_ptr + t * 32, eviction_policy="evict_first")
            new_lowers = new_lowers + (w,)
            norm = word_tiles(norm_rows + (t + AHEAD) * X_WORDS, at, N) if HAS_NORM else ()
            x = token_tiles(x_rows + (t + AHEAD) * X_WORDS, at, x_words, token, n_tokens, N, PAIRS)
            norms = norms + (norm,)
            tokens = tokens + (x,)
            group = tile_groups(
                scale_ptr, zero_ptr, upper_at, lower_at, piece, r * DEPTH + t, HAS_GROUPS,
                HAS_ZERO, GROUPS, K_TILES,
            )  # fmt: skip
            new_groups = new_groups + (group,)
        uppers = new_uppers
        lowers = new_lowers
        groups = new_groups
        norms = last_of(norms, AHEAD)
        tokens = last_of(tokens, AHEAD)
        x_rows += DEPTH * X_WORDS
        norm_rows += DEPTH * X_WORDS
    for t in tl.static_range(DEPTH + REST):
        if t + AHEAD < DEPTH + REST:
            norm = word_tiles(norm_rows + (t + AHEAD) * X_WORDS, at, N) if HAS_NORM else ()
            x = token_tiles(x_rows + (t + AHEAD) * X_WORDS, at, x_words, token, n_tokens, N, PAIRS)
            norms = norms + (norm,)
            tokens = tokens + (x,)
        if t < DEPTH:
            w_upper = uppers[t]
            w_lower = lowers[t]
            group = groups[t]
        else:
            w_upper = tl.load(upper_ptr + t * 32, eviction_policy="evict_first")
            w_lower = tl.load(lower_ptr + t * 32, eviction_policy="evict_first")
            group = tile_groups(
                scale_ptr, zero_ptr, upper_at, lower_at, piece, (ROUNDS - 1) * DEPTH + t,
                HAS_GROUPS, HAS_ZERO, GROUPS, K_TILES,
            )  # fmt: skip
        sums = add_tile(
            sums, w_upper, w_lower, tokens[t], norms[t], group[0], group[1], PAIRS, HAS_NORM,
            HAS_GROUPS, HAS_ZERO, W, BF16,
        )  # fmt: skip

    pair_row = tl.arange(0, 2)[None, :, None]
    n = first_out + tl.arange(0, WARPS)[:, None, None] * 2 + pair_row
    n_other = n + 2 * WARPS
    IN_ROWS: tl.constexpr = HAS_SCALE and not HAS_GROUPS
    scales = load_biases(scale_ptr, n, n_out, IN_ROWS, GATED, None)
    other_scales = load_biases(scale_ptr, n_other, n_out, IN_ROWS and not GATED, False, None)
    biases = load_biases(bias_ptr, n, n_out, HAS_BIAS, GATED, None)
    other_biases = load_biases(bias_ptr, n_other, n_out, HAS_BIAS and not GATED, False, None)
    for p in tl.static_range(PAIRS):
        upper = same_values(sums[p][0], WARPS)
        lower = same_values(sums[p][1], WARPS)
        if HAS_NORM:
            square = lane % 8 == tl.arange(0, 8)[None, :]
            squares = tl.reshape(tl.where(square, sums[p][2], 0.0), (WARPS, 8, 2, 4))
            squares = tl.sum(tl.sum(squares, axis=3), axis=1)[:, None, :]
            factor = tl.rsqrt(squares / (K_TILES * BLOCK_K) + eps)
            upper *= factor
            lower *= factor
        if GATED:
            sums_of = scaled_rows((upper, lower), scales, IN_ROWS)
            upper = epilogue(sums_of, biases, HAS_BIAS, EPILOGUE)
        else:
            sums_of = scaled_rows((upper,), scales, IN_ROWS)
            upper = epilogue(sums_of, biases, HAS_BIAS, EPILOGUE)
            sums_of = scaled_rows((lower,), other_scales, IN_ROWS)
            lower = epilogue(sums_of, other_biases, HAS_BIAS, EPILOGUE)
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
