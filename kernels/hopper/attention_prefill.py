"""attention_prefill on Hopper, in Gluon: loads, products and softmax of different warps overlap.

The same formula, parameters and meaning as kernels/attention_prefill.py, which is its reference and
its Spec. For heads of 64 or 128, pages of 64 tokens or more, one 16-bit type, no cap, no window.
A tile is 128 query rows of one head. One warp copies pages into rings of key and of value tiles
(tensor maps, mbarriers); two groups of four warps take 64 rows each and read the same tiles. A
group issues the scores of a tile before the weighted values of the one before, so that its softmax
runs under a product; and the two groups take turns to issue, so that one's softmax runs under the
other's products.
Grid: (programs, 1, 1); program p takes the tiles p, p + programs, ..., those with most keys first.
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

PROGRAMS = 132  # a launch's: the multiprocessors of an H100 or H200
NEAR_TOKENS = gl.constexpr(32768)  # of a key-value head: 16 MiB of the 50 of the L2 cache
ROWS = gl.constexpr(64)  # of a group
SWIZZLE = gl.constexpr(64)  # elements of 16 bits that a row of a tensor map's box has: 128 bytes


@gluon.jit
def tile_at(turn, tiles, BLOCK_M: gl.constexpr):
    """The program's tile of this turn: head, sequence, its first query row of the sequence, where
    the sequence's rows begin, how many they are (none: there is no such tile), its context."""
    cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads, n_kv_heads = tiles
    n_programs = gl.num_programs(0)
    program = gl.program_id(0)
    # Back and forth, for what had the longest tile of a turn has the shortest of the next.
    place = gl.where(turn % 2 == 0, program, n_programs - 1 - program)
    tile = turn * n_programs + place
    # Heads that share keys, and with these as many others as the cache close to the programs holds
    # the keys of: of those the tiles with most keys first.
    n_pairs = n_heads * (n_seqs - first_seq)
    n_blocks = gl.cdiv(max_q_len, BLOCK_M)
    n_near = gl.maximum(NEAR_TOKENS // max_q_len, 1) * (n_heads // n_kv_heads)
    part = tile // (n_near * n_blocks)
    within = tile % (n_near * n_blocks)
    n_of_part = gl.minimum(n_near, n_pairs - part * n_near)
    exists = n_of_part > 0
    n_of_part = gl.maximum(n_of_part, 1)
    pair = gl.where(exists, part * n_near + within % n_of_part, 0)
    first = (n_blocks - 1 - within // n_of_part) * BLOCK_M
    exists = exists & (first >= 0)
    seq = first_seq + pair // n_heads
    head = pair % n_heads
    q_start = gl.load(cu_seqlens_ptr + seq)
    q_len = gl.load(cu_seqlens_ptr + seq + 1) - q_start
    q_len = gl.where(exists, q_len, 0)
    first = gl.where(exists, first, 0)
    context = gl.load(context_lens_ptr + seq)
    return head, seq, first, q_start, q_len, context


@gluon.jit
def next_tile(turn, turns, tiles, BLOCK_M: gl.constexpr):
    """The first turn from this one on whose tile has rows, and the tile; `turns`: there is none."""
    head, seq, first, q_start, q_len, context = tile_at(turn, tiles, BLOCK_M)
    while (turn < turns) & (first >= q_len):
        turn += 1
        head, seq, first, q_start, q_len, context = tile_at(turn, tiles, BLOCK_M)
    return turn, (head, seq, first, q_start, q_len, context)


@gluon.jit
def n_turns(tiles, BLOCK_M: gl.constexpr):
    _, _, n_seqs, first_seq, max_q_len, n_heads, _ = tiles
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
    turns = n_turns(tiles, BLOCK_M)
    turn, tile = next_tile(gl.to_tensor(0), turns, tiles, BLOCK_M)
    while turn < turns:
        head, seq, first, _, q_len, context = tile
        kv_head = head // (n_heads // n_kv_heads)
        table = block_tables_ptr + seq.to(gl.int64) * max_blocks
        n_tiles = n_key_tiles(first, q_len, context, BLOCK_M, BLOCK_N)
        row0 = page(table, 0, context, kv_head, n_kv_heads, BLOCK_TOKENS)
        row1 = page(table, PAGE, context, kv_head, n_kv_heads, BLOCK_TOKENS)
        copy_tile(k_desc, k_ring, k_full, k_empty, n, row0, row1, BLOCK_N, PAGE, HEAD_DIM, STAGES)
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
        copy_tile(v_desc, v_ring, v_full, v_empty, n, row0, row1, BLOCK_N, PAGE, HEAD_DIM, STAGES)
        n += 1
        turn, tile = next_tile(turn + 1, turns, tiles, BLOCK_M)


@gluon.jit
def serve_queries(
    q_tiles, q_full, q_empty, q_ptr, q_stride, tiles, BLOCK_M: gl.constexpr, HEAD_DIM: gl.constexpr
):
    """The rows of both groups, a tile ahead; zeros beyond the sequence. By loads, as no tensor map
    ends where a sequence does."""
    PIECE: gl.constexpr = 8
    L: gl.constexpr = gl.BlockedLayout([1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [1, 1], [1, 0])
    offs_m = gl.arange(0, PIECE, gl.SliceLayout(1, L))
    offs_d = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, L))
    n = 0
    turns = n_turns(tiles, BLOCK_M)
    turn, tile = next_tile(gl.to_tensor(0), turns, tiles, BLOCK_M)
    while turn < turns:
        head, _, first, q_start, q_len, _ = tile
        side = n % 2
        mbarrier.wait(q_empty.index(side), ((n // 2) & 1) ^ 1)
        at = (q_start + first).to(gl.int64) * q_stride + head * HEAD_DIM
        lines = q_ptr + at + offs_m.to(gl.int64)[:, None] * q_stride + offs_d[None, :]
        for group in gl.static_range(2):
            for i in gl.static_range(ROWS // PIECE):
                row = group * ROWS + i * PIECE
                mask = (first + row + offs_m < q_len)[:, None] & (offs_d >= 0)[None, :]
                x = gl.load(lines + row * q_stride, mask=mask, other=0.0)
                q_tiles.index(side * 2 + group).slice(i * PIECE, PIECE).store(x)
        fence_async_shared()
        mbarrier.arrive(q_full.index(side), count=1)
        n += 1
        turn, tile = next_tile(turn + 1, turns, tiles, BLOCK_M)


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


@gluon.jit
def soften(
    score, q_pos, start, largest, total, factor, MASKED: gl.constexpr, BLOCK_N: gl.constexpr
):
    """The running softmax (base 2): the weights, and what earlier sums shrink by."""
    if MASKED:
        k_pos = start + gl.arange(0, BLOCK_N, gl.SliceLayout(0, score.type.layout))
        score = gl.where(q_pos[:, None] >= k_pos[None, :], score, float("-inf"))
    new_largest = gl.maximum(largest, gl.max(score, axis=1) * factor)
    base = new_largest
    if MASKED:
        base = gl.where(new_largest == float("-inf"), 0.0, new_largest)
    p = gl.exp2(score * factor - base[:, None])
    shrink = gl.exp2(largest - base)
    total = total * shrink + gl.sum(p, axis=1)
    return p, shrink, new_largest, total


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
    score = scores(q, n, k_ring, BLOCK_N, STAGES, S_L)
    mbarrier.wait(v_full.index(before), ((n - 1) // STAGES) & 1)
    acc = warpgroup_mma(p, v_ring.index(before), acc, is_async=True)
    give_turn(GROUP)
    score = warpgroup_mma_wait(1, [score])
    release(k_empty.index(slot))
    weights, shrink, largest, total = soften(
        score, q_pos, start, largest, total, factor, MASKED, BLOCK_N
    )
    p_new = gl.convert_layout(weights.to(p.dtype), P_L)
    # Named here, the new weights are computed before the wait.
    acc, p, p_new = warpgroup_mma_wait(0, [acc, p, p_new])
    release(v_empty.index(before))
    acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, A_L))[:, None]
    return acc, p_new, largest, total


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
def scores(q, n, k_ring, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, S_L: gl.constexpr):
    zero = gl.zeros([ROWS, BLOCK_N], gl.float32, S_L)
    k = k_ring.index(n % STAGES).permute((1, 0))
    return warpgroup_mma(q, k, zero, use_acc=False, is_async=True)


@gluon.jit
def put(
    out_ptr, q, acc, total, tile, out_stride, GROUP: gl.constexpr, HEAD_DIM: gl.constexpr,
    LINES: gl.constexpr, A_L: gl.constexpr,
):  # fmt: skip
    """A group's rows of the result; zeros where nothing was seen. Through the place of the queries,
    whose last product is done, so that a lane stores 16 bytes."""
    head, _, first, q_start, q_len, _ = tile
    total = gl.where(total == 0.0, 1.0, total)
    y = acc / gl.convert_layout(total, gl.SliceLayout(1, A_L))[:, None]
    q.store(y.to(q.dtype))
    offs_m = first + GROUP * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, LINES))
    offs_d = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, LINES))
    rows = (q_start + offs_m).to(gl.int64)[:, None]
    mask = (offs_m < q_len)[:, None] & (offs_d >= 0)[None, :]
    at = rows * out_stride + head * HEAD_DIM + offs_d[None, :]
    gl.store(out_ptr + at, q.load(LINES).to(out_ptr.dtype.element_ty), mask=mask)


@gluon.jit
def consume(
    GROUP: gl.constexpr, q_tiles, k_ring, v_ring, q_full, q_empty, k_full, k_empty, v_full, v_empty,
    out_ptr, tiles, out_stride, scale, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    S_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    A_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HEAD_DIM, 16])
    P_L: gl.constexpr = gl.DotOperandLayout(0, A_L, 2)
    LINES: gl.constexpr = gl.BlockedLayout([1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [4, 1], [1, 0])
    LOG2E: gl.constexpr = 1.4426950408889634
    dtype: gl.constexpr = q_tiles.dtype
    factor = scale * LOG2E
    offs_s = gl.arange(0, ROWS, gl.SliceLayout(1, S_L)) + GROUP * ROWS
    if GROUP == 1:
        give_turn(GROUP)  # the first turn is the first group's
    turns = n_turns(tiles, BLOCK_M)
    turn, tile = next_tile(gl.to_tensor(0), turns, tiles, BLOCK_M)
    n = 0  # tiles of scores that came before
    if turn < turns:
        mbarrier.wait(q_full.index(0), 0)
        mbarrier.wait(k_full.index(0), 0)
        score = scores(q_tiles.index(GROUP), n, k_ring, BLOCK_N, STAGES, S_L)
        score = warpgroup_mma_wait(0, [score])
        release(k_empty.index(0))
        largest = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, S_L))
        total = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, S_L))
        q_pos = tile[5] - tile[4] + tile[2] + offs_s
        weights, _shrink, largest, total = soften(
            score, q_pos, 0, largest, total, factor, True, BLOCK_N
        )
        p = gl.convert_layout(weights.to(dtype), P_L)
        acc = gl.zeros([ROWS, HEAD_DIM], gl.float32, A_L)
        n += 1
        m = 0  # tiles of queries that came before
        while turn < turns:
            side = m % 2  # of the queries' two places
            q = q_tiles.index(side * 2 + GROUP)
            _, _, first, _, q_len, context = tile
            turn, next = next_tile(turn + 1, turns, tiles, BLOCK_M)
            mine = context - q_len + first + GROUP * ROWS
            n_tiles = n_key_tiles(first, q_len, context, BLOCK_M, BLOCK_N)
            q_pos = context - q_len + first + offs_s
            # Tiles that every row of this group sees need no mask.
            middle = gl.maximum(gl.minimum((mine + 1) // BLOCK_N, n_tiles), 1)
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
            n_good = context - (n_tiles - 1) * BLOCK_N
            if n_good < BLOCK_N:
                clear_beyond(v, n_good, BLOCK_N, HEAD_DIM)
                fence_async_shared()
                gl.barrier()
            m += 1
            if turn < turns:
                # The last weighted values, with the first scores of the next tile.
                q_next = q_tiles.index((1 - side) * 2 + GROUP)
                mbarrier.wait(q_full.index(1 - side), (m // 2) & 1)
                mbarrier.wait(k_full.index(n % STAGES), (n // STAGES) & 1)
                take_turn(GROUP)
                score = scores(q_next, n, k_ring, BLOCK_N, STAGES, S_L)
                acc = warpgroup_mma(p, v, acc, is_async=True)
                give_turn(GROUP)
                score = warpgroup_mma_wait(1, [score])
                release(k_empty.index(n % STAGES))
                none = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, S_L))
                zero = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, S_L))
                q_pos = next[5] - next[4] + next[2] + offs_s
                weights, _shrink, largest, next_total = soften(
                    score, q_pos, 0, none, zero, factor, True, BLOCK_N
                )
                p_new = gl.convert_layout(weights.to(dtype), P_L)
                acc, p, p_new = warpgroup_mma_wait(0, [acc, p, p_new])
                release(v_empty.index(slot))
                p = p_new
                put(out_ptr, q, acc, total, tile, out_stride, GROUP, HEAD_DIM, LINES, A_L)
                total = next_total
            else:
                acc = warpgroup_mma(p, v, acc, is_async=True)
                acc, p = warpgroup_mma_wait(0, [acc, p])
                release(v_empty.index(slot))
                put(out_ptr, q, acc, total, tile, out_stride, GROUP, HEAD_DIM, LINES, A_L)
            fence_async_shared()
            mbarrier.arrive(q_empty.index(side), count=1)
            acc = gl.zeros([ROWS, HEAD_DIM], gl.float32, A_L)
            n += 1
            tile = next
    if GROUP == 0:
        take_turn(GROUP)


@gluon.jit
def attention_prefill(
    out_ptr, q_ptr, k_cache_ptr, v_cache_ptr, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr,
    n_seqs, first_seq, max_q_len, n_heads, n_kv_heads, max_blocks, window, out_stride, q_stride,
    scale, softcap, HEAD_DIM: gl.constexpr, BLOCK_TOKENS: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_D: gl.constexpr,
    USE_DESCRIPTORS: gl.constexpr, HOPPER: gl.constexpr,
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
    q_tiles = gl.allocate_shared_memory(dtype, [4, ROWS, HEAD_DIM], layout)
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(q_full.index(i), count=1)
        mbarrier.init(q_empty.index(i), count=2)
    READERS: gl.constexpr = 8  # warps
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(k_empty.index(i), count=READERS)
        mbarrier.init(v_empty.index(i), count=READERS)
    fence_async_shared()
    gl.barrier()
    tiles = (
        cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads, n_kv_heads,
    )  # fmt: skip
    gl.warp_specialize(
        [
            (consume, (
                0, q_tiles, k_ring, v_ring, q_full, q_empty, k_full, k_empty, v_full, v_empty,
                out_ptr, tiles, out_stride, scale, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (consume, (
                1, q_tiles, k_ring, v_ring, q_full, q_empty, k_full, k_empty, v_full, v_empty,
                out_ptr, tiles, out_stride, scale, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (produce, (
                k_cache_ptr, v_cache_ptr, k_boxes, v_boxes, k_full, k_empty, v_full, v_empty,
                block_tables_ptr, max_blocks, n_kv_heads, tiles, BLOCK_TOKENS, BLOCK_M, BLOCK_N,
                PAGE, HEAD_DIM, STAGES,
            )),
            (serve_queries, (
                q_tiles, q_full, q_empty, q_ptr, q_stride, tiles, BLOCK_M, HEAD_DIM,
            )),
        ],
        [4, 1, 1],
        [232, 40, 40],
    )  # fmt: skip
