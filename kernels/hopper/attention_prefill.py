"""attention_prefill on Hopper, in Gluon: loads, products and softmax of different warps overlap.

The same formula, parameters and meaning as kernels/attention_prefill.py, which is its reference and
its Spec. For heads of 64 or 128, pages of 64 tokens or more, one 16-bit type, no cap,
no window, no sinks and no functions.
A tile is 128 query rows of one head. One warp copies pages into rings of key and of value tiles
(tensor maps, mbarriers); two groups of four warps take 64 rows each and read the same tiles. A
group issues the scores of a tile before the weighted values of the one before, so that its softmax
runs under a product; and the two groups take turns to issue, so that one's softmax runs under the
other's products.
Grid: (programs, 1, 1); program p takes the tiles p, p + programs, ..., those with most keys first.
What it shares with the other kernels is the softmax of lib/attention.py. Tiles, products and masks
are in Gluon's words: layouts are part of them, and a product here is begun in one place and waited
for in another.
The structure is that of FlashAttention 3 (Shah et al., 2024).
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from kernels.lib import attention

PROGRAMS = 132  # a launch's: the multiprocessors of an H100 or H200
ROWS = gl.constexpr(64)  # of a group
SWIZZLE = gl.constexpr(64)  # elements of 16 bits that a row of a tensor map's box has: 128 bytes


@gluon.jit
def tile_at(turn, tiles, BLOCK_M: gl.constexpr):
    """The program's tile of this turn: head, sequence, its first query row of the sequence, how
    many queries, how many keys it may see, and the position of its first row."""
    cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads = tiles
    n_programs = gl.num_programs(0)
    program = gl.program_id(0)
    # Back and forth, for what had the longest tile of a turn has the shortest of the next.
    place = gl.where(turn % 2 == 0, program, n_programs - 1 - program)
    tile = turn * n_programs + place
    n_each = n_heads * (n_seqs - first_seq)
    n_tiles = n_each * gl.cdiv(max_q_len, BLOCK_M)
    exists = tile < n_tiles
    tile = gl.minimum(tile, n_tiles - 1)
    first = (gl.cdiv(max_q_len, BLOCK_M) - 1 - tile // n_each) * BLOCK_M
    seq = first_seq + tile % n_each // n_heads
    head = tile % n_heads
    q_start = gl.load(cu_seqlens_ptr + seq)
    q_len = gl.load(cu_seqlens_ptr + seq + 1) - q_start
    q_len = gl.where(exists, q_len, 0)
    context = gl.load(context_lens_ptr + seq)
    return head, seq, first, q_start, q_len, context


@gluon.jit
def n_turns(tiles, BLOCK_M: gl.constexpr):
    _, _, n_seqs, first_seq, max_q_len, n_heads = tiles
    n_tiles = n_heads * (n_seqs - first_seq) * gl.cdiv(max_q_len, BLOCK_M)
    return gl.cdiv(n_tiles, gl.num_programs(0))


@gluon.jit
def n_key_tiles(first, q_len, context, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr):
    """At least one, which is all masked where the rows see nothing."""
    end = gl.minimum(context, context - q_len + first + BLOCK_M)
    return gl.maximum(gl.cdiv(end, BLOCK_N), 1)


@gluon.jit
def page(block_table, start, context, kv_head, n_kv_heads, BLOCK_TOKENS: gl.constexpr):
    """The row of token `start` in the cache; beyond the context no page is named: a row before the
    map's first, which reads as zeros."""
    seen = start < context
    block = gl.load(block_table + start // BLOCK_TOKENS, mask=seen, other=0)
    row = (block * n_kv_heads + kv_head) * BLOCK_TOKENS + start % BLOCK_TOKENS
    return gl.where(seen, row, -BLOCK_TOKENS)


@gluon.jit
def copy_tile(
    desc, ring, full, empty, n, row0, row1, BLOCK_N: gl.constexpr, PAGE: gl.constexpr,
    HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """The n-th tile of a ring, by boxes of a page's rows and 128 bytes."""
    slot = n % STAGES
    mbarrier.wait(empty.index(slot), ((n // STAGES) & 1) ^ 1)
    mbarrier.expect(full.index(slot), BLOCK_N * HEAD_DIM * 2)
    PAGES: gl.constexpr = BLOCK_N // PAGE
    for half in gl.static_range(HEAD_DIM // SWIZZLE):
        box = (slot * (HEAD_DIM // SWIZZLE) + half) * PAGES
        tma.async_load(desc, [row0, half * SWIZZLE], full.index(slot), ring.index(box))
        if PAGES == 2:
            tma.async_load(desc, [row1, half * SWIZZLE], full.index(slot), ring.index(box + 1))


@gluon.jit
def produce(
    k_desc, v_desc, k_ring, v_ring, k_full, k_empty, v_full, v_empty, block_tables_ptr, max_blocks,
    n_kv_heads, tiles, BLOCK_TOKENS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    PAGE: gl.constexpr, HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    n = 0
    n_heads = tiles[5]
    for turn in range(n_turns(tiles, BLOCK_M)):
        head, seq, first, _, q_len, context = tile_at(turn, tiles, BLOCK_M)
        if first < q_len:
            kv_head = head // (n_heads // n_kv_heads)
            table = block_tables_ptr + seq.to(gl.int64) * max_blocks
            n_tiles = n_key_tiles(first, q_len, context, BLOCK_M, BLOCK_N)
            row0 = page(table, 0, context, kv_head, n_kv_heads, BLOCK_TOKENS)
            row1 = page(table, PAGE, context, kv_head, n_kv_heads, BLOCK_TOKENS)
            copy_tile(
                k_desc, k_ring, k_full, k_empty, n, row0, row1, BLOCK_N, PAGE, HEAD_DIM, STAGES
            )
            for i in range(1, n_tiles):
                start = i * BLOCK_N
                next0 = page(table, start, context, kv_head, n_kv_heads, BLOCK_TOKENS)
                next1 = page(table, start + PAGE, context, kv_head, n_kv_heads, BLOCK_TOKENS)
                copy_tile(
                    k_desc, k_ring, k_full, k_empty, n + 1, next0, next1, BLOCK_N, PAGE, HEAD_DIM,
                    STAGES,
                )  # fmt: skip
                copy_tile(
                    v_desc, v_ring, v_full, v_empty, n, row0, row1, BLOCK_N, PAGE, HEAD_DIM, STAGES
                )
                row0 = next0
                row1 = next1
                n += 1
            copy_tile(
                v_desc, v_ring, v_full, v_empty, n, row0, row1, BLOCK_N, PAGE, HEAD_DIM, STAGES
            )
            n += 1


# Named barriers for the turns; Triton itself numbers its own from 0, one for each group of warps.


@gluon.jit
def take_turn(GROUP: gl.constexpr):
    """Waits until the other group has issued its products."""
    if GROUP == 0:
        gl.inline_asm("bar.sync 14, 256;")
    else:
        gl.inline_asm("bar.sync 15, 256;")


@gluon.jit
def give_turn(GROUP: gl.constexpr):
    if GROUP == 0:
        gl.inline_asm("bar.arrive 15, 256;")
    else:
        gl.inline_asm("bar.arrive 14, 256;")


@gluon.jit
def release(bar):
    """This warp has read what the tile held. An arrival a warp: no barrier of the whole group."""
    gl.inline_asm(
        "{ .reg .pred first; .reg .b32 lane; mov.u32 lane, %laneid; setp.eq.u32 first, lane, 0;"
        " @first mbarrier.arrive.shared::cta.b64 _, [$0]; }",
        "r",
        [bar],
    )


# The softmax of lib/attention.py, with the layouts of its arguments.
soften = gluon.jit(attention.soften.fn)


@gluon.jit
def masked(score, q_pos, start, MASKED: gl.constexpr, BLOCK_N: gl.constexpr):
    if MASKED:
        k_pos = start + gl.arange(0, BLOCK_N, gl.SliceLayout(0, score.type.layout))
        score = gl.where(q_pos[:, None] >= k_pos[None, :], score, float("-inf"))
    return score


@gluon.jit
def step(
    state, n, start, q, k_ring, v_ring, k_full, k_empty, v_full, v_empty, q_pos, factor,
    MASKED: gl.constexpr, GROUP: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
    S_L: gl.constexpr, P_L: gl.constexpr, A_L: gl.constexpr,
):  # fmt: skip
    """The scores of tile n with the weighted values of tile n - 1."""
    acc, p, largest, total = state
    slot = n % STAGES
    before = (n - 1) % STAGES
    mbarrier.wait(k_full.index(slot), (n // STAGES) & 1)
    take_turn(GROUP)
    zero = gl.zeros([ROWS, BLOCK_N], gl.float32, S_L)
    score = warpgroup_mma(q, k_ring.index(slot).permute((1, 0)), zero, use_acc=False, is_async=True)
    mbarrier.wait(v_full.index(before), ((n - 1) // STAGES) & 1)
    acc = warpgroup_mma(p, v_ring.index(before), acc, is_async=True)
    give_turn(GROUP)
    score = warpgroup_mma_wait(1, [score])
    release(k_empty.index(slot))
    score = masked(score, q_pos, start, MASKED, BLOCK_N)
    weights, shrink, largest, total = soften(score, largest, total, factor, MASKED)
    acc, p = warpgroup_mma_wait(0, [acc, p])
    release(v_empty.index(before))
    acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, A_L))[:, None]
    p = gl.convert_layout(weights.to(p.dtype), P_L)
    return acc, p, largest, total


@gluon.jit
def clear_beyond(v, first_bad, BLOCK_N: gl.constexpr, HEAD_DIM: gl.constexpr):
    """Zeros in the rows of a value tile from first_bad on: what a page holds there is undefined.
    Both groups write the same."""
    L: gl.constexpr = gl.BlockedLayout([1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [4, 1], [1, 0])
    PIECE: gl.constexpr = 16
    for i in gl.static_range(BLOCK_N // PIECE):
        if (i + 1) * PIECE > first_bad:
            rows = i * PIECE + gl.arange(0, PIECE, gl.SliceLayout(1, L))
            part = v.slice(i * PIECE, PIECE)
            x = part.load(L)
            part.store(gl.where(rows[:, None] < first_bad, x, gl.zeros_like(x)))


@gluon.jit
def consume(
    GROUP: gl.constexpr, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, out_ptr, q_ptr,
    tiles, out_stride, q_stride, scale, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    S_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    A_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HEAD_DIM, 16])
    P_L: gl.constexpr = gl.DotOperandLayout(0, A_L, 2)
    LINES: gl.constexpr = gl.BlockedLayout([1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [4, 1], [1, 0])
    LOG2E: gl.constexpr = 1.4426950408889634
    dtype: gl.constexpr = q_tiles.dtype
    q = q_tiles.index(GROUP)
    factor = scale * LOG2E
    offs_d = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, LINES))
    n = 0
    if GROUP == 1:
        give_turn(GROUP)  # the first turn is the first group's
    for turn in range(n_turns(tiles, BLOCK_M)):
        head, _, first, q_start, q_len, context = tile_at(turn, tiles, BLOCK_M)
        if first < q_len:
            before = context - q_len
            n_tiles = n_key_tiles(first, q_len, context, BLOCK_M, BLOCK_N)
            mine = first + GROUP * ROWS
            offs_m = mine + gl.arange(0, ROWS, gl.SliceLayout(1, LINES))
            mask_m = (offs_m < q_len)[:, None] & (offs_d >= 0)[None, :]
            rows = (q_start + offs_m).to(gl.int64)[:, None]
            at = rows * q_stride + head * HEAD_DIM + offs_d[None, :]
            q.store(gl.load(q_ptr + at, mask=mask_m, other=0.0))
            fence_async_shared()
            gl.barrier()
            q_pos = before + mine + gl.arange(0, ROWS, gl.SliceLayout(1, S_L))
            # Tiles that every row of this group sees need no mask.
            middle = gl.minimum((before + mine + 1) // BLOCK_N, n_tiles)
            middle = gl.maximum(middle, 1)

            slot = n % STAGES
            mbarrier.wait(k_full.index(slot), (n // STAGES) & 1)
            zero = gl.zeros([ROWS, BLOCK_N], gl.float32, S_L)
            score = warpgroup_mma(
                q, k_ring.index(slot).permute((1, 0)), zero, use_acc=False, is_async=True
            )
            score = warpgroup_mma_wait(0, [score])
            release(k_empty.index(slot))
            largest = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, S_L))
            total = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, S_L))
            score = masked(score, q_pos, 0, True, BLOCK_N)
            weights, _shrink, largest, total = soften(score, largest, total, factor, True)
            p = gl.convert_layout(weights.to(dtype), P_L)
            acc = gl.zeros([ROWS, HEAD_DIM], gl.float32, A_L)
            n += 1
            for i in range(1, middle):
                acc, p, largest, total = step(
                    (acc, p, largest, total), n, i * BLOCK_N, q, k_ring, v_ring, k_full, k_empty,
                    v_full, v_empty, q_pos, factor, False, GROUP, BLOCK_N, STAGES, S_L, P_L, A_L,
                )  # fmt: skip
                n += 1
            for i in range(middle, n_tiles):
                acc, p, largest, total = step(
                    (acc, p, largest, total), n, i * BLOCK_N, q, k_ring, v_ring, k_full, k_empty,
                    v_full, v_empty, q_pos, factor, True, GROUP, BLOCK_N, STAGES, S_L, P_L, A_L,
                )  # fmt: skip
                n += 1
            slot = (n - 1) % STAGES
            v = v_ring.index(slot)
            mbarrier.wait(v_full.index(slot), ((n - 1) // STAGES) & 1)
            first_bad = context - (n_tiles - 1) * BLOCK_N
            if first_bad < BLOCK_N:
                clear_beyond(v, first_bad, BLOCK_N, HEAD_DIM)
                fence_async_shared()
                gl.barrier()
            acc = warpgroup_mma(p, v, acc, is_async=True)
            acc, p = warpgroup_mma_wait(0, [acc, p])
            release(v_empty.index(slot))
            total = gl.where(total == 0.0, 1.0, total)
            y = acc / gl.convert_layout(total, gl.SliceLayout(1, A_L))[:, None]
            # Through the tile of q, whose last product is done, for lines of 16 bytes a lane.
            q.store(y.to(dtype))
            at = rows * out_stride + head * HEAD_DIM + offs_d[None, :]
            gl.store(out_ptr + at, q.load(LINES).to(out_ptr.dtype.element_ty), mask=mask_m)
    if GROUP == 0:
        take_turn(GROUP)


@gluon.jit
def attention_prefill(
    out_ptr, q_ptr, k_cache_ptr, v_cache_ptr, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr,
    sinks_ptr, fn_a_ptr, fn_b_ptr, n_seqs, first_seq, max_q_len, n_heads, n_kv_heads, max_blocks,
    window, fn_a_width, fn_b_width, out_stride, q_stride, scale, softcap, HEAD_DIM: gl.constexpr,
    BLOCK_TOKENS: gl.constexpr, HAS_SOFTCAP: gl.constexpr, HAS_SINKS: gl.constexpr,
    SCORE: gl.constexpr, MASK: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    BLOCK_D: gl.constexpr, USE_DESCRIPTORS: gl.constexpr, HOPPER: gl.constexpr,
):  # fmt: skip
    STAGES: gl.constexpr = 256 // BLOCK_N  # of a ring
    dtype: gl.constexpr = k_cache_ptr.dtype
    layout: gl.constexpr = k_cache_ptr.layout
    PAGE: gl.constexpr = min(BLOCK_N, BLOCK_TOKENS)
    BOXES: gl.constexpr = STAGES * (BLOCK_N // PAGE) * (HEAD_DIM // SWIZZLE)
    k_boxes = gl.allocate_shared_memory(dtype, [BOXES, PAGE, SWIZZLE], layout)
    v_boxes = gl.allocate_shared_memory(dtype, [BOXES, PAGE, SWIZZLE], layout)
    k_ring = k_boxes.reinterpret(dtype, [STAGES, BLOCK_N, HEAD_DIM], layout)
    v_ring = v_boxes.reinterpret(dtype, [STAGES, BLOCK_N, HEAD_DIM], layout)
    q_tiles = gl.allocate_shared_memory(dtype, [2, ROWS, HEAD_DIM], layout)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    READERS: gl.constexpr = 8  # warps
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(k_empty.index(i), count=READERS)
        mbarrier.init(v_empty.index(i), count=READERS)
    fence_async_shared()
    gl.barrier()
    tiles = (cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads)
    gl.warp_specialize(
        [
            (consume, (
                0, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, out_ptr, q_ptr,
                tiles, out_stride, q_stride, scale, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (consume, (
                1, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, out_ptr, q_ptr,
                tiles, out_stride, q_stride, scale, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (produce, (
                k_cache_ptr, v_cache_ptr, k_boxes, v_boxes, k_full, k_empty, v_full, v_empty,
                block_tables_ptr, max_blocks, n_kv_heads, tiles, BLOCK_TOKENS, BLOCK_M, BLOCK_N,
                PAGE, HEAD_DIM, STAGES,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
