"""attention_prefill on Hopper, in Gluon: loads, products and softmax of different warps overlap.

The same formula, parameters and meaning as kernels/attention_prefill.py, which is its reference and
its Spec. For heads of 64 or 128, pages of 64 tokens or more, one 16-bit type. Functions of scores
and masks must be elementwise, and load what they load by numbers and positions.
A tile is 128 query rows of one head. One warp copies pages into rings of key and of value tiles
(tensor maps, mbarriers); two groups of four warps take 64 rows each and read the same tiles. A
group issues the scores of a tile before the weighted values of the one before, so that its softmax
runs under a product; and the two groups take turns to issue, so that one's softmax runs under the
other's products. So it goes on from a tile of queries to the next, whose rows come meanwhile.
Grid: (programs, 1, 1). A program's first two tiles follow from its number, which takes no time; the
others it takes from a count that all share, which the last to ask sets back to 0.
What it shares with the other kernels is the step from scores to weights of lib/attention.py. Tiles
and products are in Gluon's words: layouts are part of them, and a product here is begun in one
place and waited for in another.
The structure is that of FlashAttention 3 (Shah et al., 2024).
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
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
READERS = gl.constexpr(8)  # warps
# Of keys and values that programs read at a time, so that all but the first find them in L2.
CACHED_BYTES = gl.constexpr(24 << 20)

key_tiles = gluon.jit(attention.key_tiles.fn)
tile_weights = gluon.jit(attention.tile_weights.fn)


@gluon.jit
def n_tiles_of(tiles, BLOCK_M: gl.constexpr):
    _, _, n_seqs, first_seq, max_q_len, n_heads, _ = tiles
    return n_heads * (n_seqs - first_seq) * gl.cdiv(max_q_len, BLOCK_M)


@gluon.jit
def tile_at(tile, tiles, BLOCK_M: gl.constexpr, HEAD_DIM: gl.constexpr):
    """A tile's head, sequence, first query row of the sequence, the step's row where the sequence
    begins, how many rows it has, and its context. Heads are taken by sections whose keys and values
    fit the cache, of each the tiles with most keys first. What is no tile's number has no rows."""
    cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads, n_kv_heads = tiles
    n_levels = gl.cdiv(max_q_len, BLOCK_M)
    n_all = n_heads * (n_seqs - first_seq)
    exists = tile < n_all * n_levels
    tile = gl.minimum(tile, n_all * n_levels - 1)
    begin = 0
    width = n_all
    # A key and its value are 2 x 2 bytes an element.
    n_bytes = 4 * HEAD_DIM * max_q_len
    # Not without need: a division is as long as a tile's products.
    if n_bytes.to(gl.int64) * n_kv_heads * (n_seqs - first_seq) > CACHED_BYTES:
        n_kv_cached = gl.maximum(CACHED_BYTES // n_bytes, 1)
        n_each = gl.minimum(n_kv_cached * (n_heads // n_kv_heads), n_all)
        begin = tile // (n_each * n_levels) * n_each
        tile -= begin * n_levels
        width = gl.minimum(n_each, n_all - begin)
    first = (n_levels - 1 - tile // width) * BLOCK_M
    place = begin + tile % width
    seq = first_seq + place // n_heads
    q_start = gl.load(cu_seqlens_ptr + seq)
    q_len = gl.load(cu_seqlens_ptr + seq + 1) - q_start
    context = gl.load(context_lens_ptr + seq)
    return place % n_heads, seq, first, q_start, gl.where(exists, q_len, 0), context


@gluon.jit
def take_tile(next_tile_ptr, turn, tiles, BLOCK_M: gl.constexpr, HEAD_DIM: gl.constexpr):
    """The tile after that of this turn; the number of tiles where none is left."""
    n_programs = gl.num_programs(0)
    n_tiles = n_tiles_of(tiles, BLOCK_M)
    found = gl.minimum(2 * n_programs - 1 - gl.program_id(0), n_tiles)
    if turn > 0:
        found = -1
        while found < 0:  # until one has rows
            place = gl.atomic_add(next_tile_ptr, 1, sem="relaxed")
            # Each program that has a second tile asks once more than it gets.
            if place == n_tiles - n_programs - 1:
                gl.store(next_tile_ptr, 0)
            tile = gl.minimum(place + 2 * n_programs, n_tiles)
            _, _, first, _, q_len, _ = tile_at(tile, tiles, BLOCK_M, HEAD_DIM)
            found = gl.where((tile == n_tiles) | (first < q_len), tile, -1)
    return found


@gluon.jit
def tell(records, record_full, record_empty, turn, tile, exists):
    """Those that compute which tile is that of this turn, if there is one: the divisions and loads
    that it takes to know are the copying warp's alone."""
    slot = turn % 2
    L: gl.constexpr = gl.BlockedLayout([1], [32], [1], [0])
    mbarrier.wait(record_empty.index(slot), ((turn // 2) & 1) ^ 1)
    for i in gl.static_range(6):
        records.index(slot * 8 + i).store(gl.zeros([1], gl.int32, L) + tile[i])
    records.index(slot * 8 + 6).store(gl.zeros([1], gl.int32, L) + exists.to(gl.int32))
    mbarrier.arrive(record_full.index(slot))


@gluon.jit
def rows_of(offs_m, tile):
    """Which rows of the step these are, and their positions. Rows beyond the sequence's are its
    last once more."""
    _, _, _, q_start, q_len, context = tile
    offs_m = gl.minimum(offs_m, q_len - 1)
    return gl.maximum(q_start + offs_m, 0), context - q_len + offs_m


@gluon.jit
def ranges(first, N_ROWS: gl.constexpr, tile, params, MASK: gl.constexpr, BLOCK_N: gl.constexpr):
    """key_tiles of N_ROWS rows from `first` on; at least one, which is all masked where the rows
    see nothing."""
    head, seq, _, _, q_len, context = tile
    before = context - q_len
    WARPS: gl.constexpr = gl.num_warps()
    # Each warp has all rows, so that none waits for another.
    L: gl.constexpr = gl.BlockedLayout([N_ROWS // 32], [32], [WARPS], [0])
    token, q_pos = rows_of(first + gl.arange(0, N_ROWS, L), tile)
    last = before + gl.minimum(first + N_ROWS, q_len) - 1
    begin, whole, partial, end = key_tiles(
        before + first, last, (seq, head, token, q_pos, q_pos), params, MASK, BLOCK_N
    )
    end = gl.where(first < q_len, end, begin)
    return begin, whole, partial, gl.maximum(end, begin + 1)


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
def copy_pair(
    rings, n, keys_at, values_at, BLOCK_N: gl.constexpr, PAGE: gl.constexpr, HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
):  # fmt: skip
    """The n-th tile of keys, and the values of the one before it."""
    k_desc, v_desc, k_ring, v_ring, k_full, k_empty, v_full, v_empty = rings
    copy_tile(
        k_desc, k_ring, k_full, k_empty, n, keys_at[0], keys_at[1], BLOCK_N, PAGE, HEAD_DIM, STAGES
    )
    if n > 0:
        copy_tile(
            v_desc, v_ring, v_full, v_empty, n - 1, values_at[0], values_at[1], BLOCK_N, PAGE,
            HEAD_DIM, STAGES,
        )  # fmt: skip


@gluon.jit
def produce(
    k_desc, v_desc, k_ring, v_ring, k_full, k_empty, v_full, v_empty, records, record_full,
    record_empty, block_tables_ptr, next_tile_ptr, max_blocks, tiles, fns, MASK: gl.constexpr,
    BLOCK_TOKENS: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, PAGE: gl.constexpr,
    HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """The tiles of keys of one tile of queries after the other; at the end one of zeros, whose
    scores nobody takes."""
    rings = (k_desc, v_desc, k_ring, v_ring, k_full, k_empty, v_full, v_empty)
    n_heads = tiles[5]
    n_kv_heads = tiles[6]
    n_tiles = n_tiles_of(tiles, BLOCK_M)
    tile = gl.program_id(0)
    n = 0
    turn = 0
    row0 = -BLOCK_TOKENS
    row1 = -BLOCK_TOKENS
    then = tile_at(tile, tiles, BLOCK_M, HEAD_DIM)
    tell(records, record_full, record_empty, 0, then, tile < n_tiles)
    while tile < n_tiles:
        this = then
        head, seq, first, _, _, context = this
        begin, _, _, end = ranges(first, BLOCK_M, this, with_context(fns, context), MASK, BLOCK_N)
        kv_head = head // (n_heads // n_kv_heads)
        table = block_tables_ptr + seq.to(gl.int64) * max_blocks
        for i in range(begin, end):
            start = i * BLOCK_N
            next0 = page(table, start, context, kv_head, n_kv_heads, BLOCK_TOKENS)
            next1 = page(table, start + PAGE, context, kv_head, n_kv_heads, BLOCK_TOKENS)
            copy_pair(rings, n, (next0, next1), (row0, row1), BLOCK_N, PAGE, HEAD_DIM, STAGES)
            row0 = next0
            row1 = next1
            n += 1
            # The ring is full now: there is time to find out which tile comes after.
            if i == gl.minimum(begin + 1, end - 1):
                tile = take_tile(next_tile_ptr, turn, tiles, BLOCK_M, HEAD_DIM)
                then = tile_at(tile, tiles, BLOCK_M, HEAD_DIM)
                tell(records, record_full, record_empty, turn + 1, then, tile < n_tiles)
        turn += 1
    copy_pair(
        rings, n, (-BLOCK_TOKENS, -BLOCK_TOKENS), (row0, row1), BLOCK_N, PAGE, HEAD_DIM, STAGES
    )


@gluon.jit
def with_context(fns, context):
    """What functions may read (lib/attention.py)."""
    reach, softcap, a, a_width, b, b_width = fns
    return reach, softcap, context, a, a_width, b, b_width


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


# The assembler puts arrivals and waits where it likes as far as it knows of no order: arrivals late
# and waits early, before what should run meanwhile. It keeps them in their own order, and what
# depends on one behind it. So these two depend on more than they need: on what never happens.


@gluon.constexpr_function
def _released(outputs, inputs):
    bar, values = inputs
    passed = " ".join(
        f"selp.f32 {to}, 0f7FC00000, {what}, never;"
        for to, what in zip(outputs[0], values, strict=True)
    )
    return (
        "{ .reg .pred first, never; .reg .b32 lane, low, high; .reg .b64 state;"
        " mov.u32 lane, %laneid; setp.eq.u32 first, lane, 0; mov.b64 state, 0;"
        f" @first mbarrier.arrive.shared::cta.b64 state, [{bar[0]}];"
        " mov.b64 {low, high}, state; setp.eq.u32 never, high, 0x7fc01234;"
        f" setp.eq.and.u32 never, low, 0x7fc01234, never; {passed} }}"
    )


@gluon.jit
def release_before(bar, values):
    """release, before anything is computed from `values`, which are what this gives."""
    return gl.inline_asm(_released, ("=f", "r", "f"), [bar, values], values.type)


@gluon.constexpr_function
def _held_back(outputs, inputs):
    bar, values = inputs
    return (
        "{ .reg .pred never; .reg .b32 bits;"
        f" mov.b32 bits, {values[0]}; setp.eq.b32 never, bits, 0x7fc01234;"
        f" @never mbarrier.arrive.shared::cta.b64 _, [{bar[0]}]; }}"
    )


@gluon.jit
def hold_back(bar, values):
    """What is waited for next is waited for when `values` are computed."""
    gl.inline_asm(_held_back, ("r", "f"), [bar, values])


@gluon.jit
def told(records, record_full, record_empty, turn):
    """The tile of this turn, as `tell` has it, and whether there is one."""
    slot = turn % 2
    L: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    mbarrier.wait(record_full.index(slot), (turn // 2) & 1)
    tile = ()
    for i in gl.static_range(7):
        tile = tile + (gl.max(records.index(slot * 8 + i).load(L), axis=0),)
    release(record_empty.index(slot))
    return tile[:6], tile[6] > 0


@gluon.jit
def step(
    state, n, i, q, k_ring, v_ring, k_full, k_empty, v_full, v_empty, query, params, factor,
    SCORE: gl.constexpr, MASK: gl.constexpr, GROUP: gl.constexpr, BLOCK_N: gl.constexpr,
    STAGES: gl.constexpr, S_L: gl.constexpr, P_L: gl.constexpr, A_L: gl.constexpr,
):  # fmt: skip
    """The scores of tile n, which are the i-th of its rows, with the weighted values of n - 1."""
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
    largest = release_before(k_empty.index(slot), largest)
    seq, head, token, q_pos = query
    k_pos = i * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_L))
    at = (seq, head, token[:, None], q_pos[:, None], k_pos[None, :])
    weights, shrink, largest, total = tile_weights(
        score, largest, total, at, None, params, factor, SCORE, MASK
    )
    hold_back(v_empty.index(before), total)
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
def lines_of(tile, stride, GROUP: gl.constexpr, HEAD_DIM: gl.constexpr, LINES: gl.constexpr):
    """Where a group's rows lie in q or out, and which there are."""
    head, _, first, q_start, q_len, _ = tile
    offs_m = first + GROUP * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, LINES))
    offs_d = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, LINES))
    rows = (q_start + offs_m).to(gl.int64)[:, None]
    mask = (offs_m < q_len)[:, None] & (offs_d >= 0)[None, :]
    return rows * stride + head * HEAD_DIM + offs_d[None, :], mask


@gluon.jit
def ask_queries(
    q, q_ptr, tile, q_stride, GROUP: gl.constexpr, HEAD_DIM: gl.constexpr, LINES: gl.constexpr
):
    at, mask = lines_of(tile, q_stride, GROUP, HEAD_DIM, LINES)
    async_copy.async_load(q, q_ptr + at, mask=mask)
    async_copy.commit_group()


@gluon.jit
def await_queries():
    async_copy.wait_group(0)
    fence_async_shared()
    gl.barrier()


@gluon.jit
def consume(
    GROUP: gl.constexpr, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, records,
    record_full, record_empty, out_ptr, q_ptr, sinks_ptr, fns, out_stride, q_stride, scale,
    HAS_SINKS: gl.constexpr, SCORE: gl.constexpr, MASK: gl.constexpr, HAS_WINDOW: gl.constexpr,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, HEAD_DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    S_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    A_L: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HEAD_DIM, 16])
    P_L: gl.constexpr = gl.DotOperandLayout(0, A_L, 2)
    LINES: gl.constexpr = gl.BlockedLayout([1, 8], [256 // HEAD_DIM, HEAD_DIM // 8], [4, 1], [1, 0])
    OWN_MASK: gl.constexpr = attention.causal_within if HAS_WINDOW else attention.causal
    MASK_FN: gl.constexpr = OWN_MASK if MASK is None else MASK
    dtype: gl.constexpr = q_tiles.dtype
    factor = scale * attention.LOG2E if SCORE is None else scale
    this, exists = told(records, record_full, record_empty, 0)
    turn = 0
    n = 0
    ask_queries(q_tiles.index(GROUP), q_ptr, this, q_stride, GROUP, HEAD_DIM, LINES)
    if GROUP == 1:
        give_turn(GROUP)  # the first turn is the first group's
    mbarrier.wait(k_full.index(0), 0)
    await_queries()
    zero = gl.zeros([ROWS, BLOCK_N], gl.float32, S_L)
    k = k_ring.index(0).permute((1, 0))
    score = warpgroup_mma(q_tiles.index(GROUP), k, zero, use_acc=False, is_async=True)
    score = warpgroup_mma_wait(0, [score])
    release(k_empty.index(0))
    while exists:
        head, seq, first, _, _, context = this
        mine = first + GROUP * ROWS
        params = with_context(fns, context)
        begin, _, _, end = ranges(first, BLOCK_M, this, params, MASK, BLOCK_N)
        _, whole, partial, _ = ranges(mine, ROWS, this, params, MASK, BLOCK_N)
        token, q_pos = rows_of(mine + gl.arange(0, ROWS, gl.SliceLayout(1, S_L)), this)
        query = (seq, head, token, q_pos)
        largest = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, S_L))
        total = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, S_L))
        if HAS_SINKS:
            largest = gl.zeros_like(largest) + gl.load(sinks_ptr + head) * attention.LOG2E
            total = gl.full_like(total, 1.0)
        k_pos = begin * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_L))
        at = (seq, head, token[:, None], q_pos[:, None], k_pos[None, :])
        weights, _shrink, largest, total = tile_weights(
            score, largest, total, at, None, params, factor, SCORE, MASK_FN
        )
        p = gl.convert_layout(weights.to(dtype), P_L)
        acc = gl.zeros([ROWS, HEAD_DIM], gl.float32, A_L)
        n += 1

        then, exists = told(records, record_full, record_empty, turn + 1)
        q = q_tiles.index(turn % 2 * 2 + GROUP)
        q_then = q_tiles.index((turn + 1) % 2 * 2 + GROUP)
        gl.barrier()  # what the tile before last left there is read
        ask_queries(q_then, q_ptr, then, q_stride, GROUP, HEAD_DIM, LINES)

        whole = gl.minimum(gl.maximum(whole, begin + 1), end)
        partial = gl.minimum(gl.maximum(partial, whole), end)
        if HAS_WINDOW or MASK is not None:
            for i in range(begin + 1, whole):
                acc, p, largest, total = step(
                    (acc, p, largest, total), n, i, q, k_ring, v_ring, k_full, k_empty, v_full,
                    v_empty, query, params, factor, SCORE, MASK_FN, GROUP, BLOCK_N, STAGES, S_L,
                    P_L, A_L,
                )  # fmt: skip
                n += 1
        for i in range(whole, partial):
            acc, p, largest, total = step(
                (acc, p, largest, total), n, i, q, k_ring, v_ring, k_full, k_empty, v_full, v_empty,
                query, params, factor, SCORE, None, GROUP, BLOCK_N, STAGES, S_L, P_L, A_L,
            )  # fmt: skip
            n += 1
        for i in range(partial, end):
            acc, p, largest, total = step(
                (acc, p, largest, total), n, i, q, k_ring, v_ring, k_full, k_empty, v_full, v_empty,
                query, params, factor, SCORE, MASK_FN, GROUP, BLOCK_N, STAGES, S_L, P_L, A_L,
            )  # fmt: skip
            n += 1

        # The last values, then the first scores of the tile after.
        slot = n % STAGES
        before = (n - 1) % STAGES
        v = v_ring.index(before)
        mbarrier.wait(v_full.index(before), ((n - 1) // STAGES) & 1)
        first_bad = context - (end - 1) * BLOCK_N
        if first_bad < BLOCK_N:
            clear_beyond(v, first_bad, BLOCK_N, HEAD_DIM)
        await_queries()
        take_turn(GROUP)
        acc = warpgroup_mma(p, v, acc, is_async=True)
        mbarrier.wait(k_full.index(slot), (n // STAGES) & 1)
        k = k_ring.index(slot).permute((1, 0))
        score = warpgroup_mma(q_then, k, zero, use_acc=False, is_async=True)
        give_turn(GROUP)
        acc, p = warpgroup_mma_wait(1, [acc, p])
        release(v_empty.index(before))
        total = gl.where(total == 0.0, 1.0, total)
        y = acc / gl.convert_layout(total, gl.SliceLayout(1, A_L))[:, None]
        y = y.to(dtype)
        score, y = warpgroup_mma_wait(0, [score, y])
        release(k_empty.index(slot))
        # Through the tile of q, whose last product is done, for lines of 16 bytes a lane.
        q.store(y)
        at, mask = lines_of(this, out_stride, GROUP, HEAD_DIM, LINES)
        gl.store(out_ptr + at, q.load(LINES).to(out_ptr.dtype.element_ty), mask=mask)
        this = then
        turn += 1
    if GROUP == 0:
        take_turn(GROUP)


@gluon.jit
def attention_prefill(
    out_ptr, next_tile_ptr, q_ptr, k_cache_ptr, v_cache_ptr, block_tables_ptr, cu_seqlens_ptr,
    context_lens_ptr, sinks_ptr, fn_a_ptr, fn_b_ptr, n_seqs, first_seq, max_q_len, n_heads,
    n_kv_heads, max_blocks, window, fn_a_width, fn_b_width, out_stride, q_stride, scale, softcap,
    v_scale, HEAD_DIM: gl.constexpr, BLOCK_TOKENS: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
    HAS_SINKS: gl.constexpr, SCORE: gl.constexpr, MASK: gl.constexpr, BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr, BLOCK_D: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    HOPPER: gl.constexpr, HAS_WINDOW: gl.constexpr,
):  # fmt: skip
    STAGES: gl.constexpr = 256 // BLOCK_N  # of a ring
    dtype: gl.constexpr = k_cache_ptr.dtype
    gl.static_assert(dtype.primitive_bitwidth == 16)
    layout: gl.constexpr = k_cache_ptr.layout
    PAGE: gl.constexpr = min(BLOCK_N, BLOCK_TOKENS)
    BOXES: gl.constexpr = STAGES * (BLOCK_N // PAGE) * (HEAD_DIM // SWIZZLE)
    CAP: gl.constexpr = attention.capped if HAS_SOFTCAP else None
    SCORE_FN: gl.constexpr = CAP if SCORE is None else SCORE
    reach = window if HAS_WINDOW else attention.NO_LIMIT
    k_boxes = gl.allocate_shared_memory(dtype, [BOXES, PAGE, SWIZZLE], layout)
    v_boxes = gl.allocate_shared_memory(dtype, [BOXES, PAGE, SWIZZLE], layout)
    k_ring = k_boxes.reinterpret(dtype, [STAGES, BLOCK_N, HEAD_DIM], layout)
    v_ring = v_boxes.reinterpret(dtype, [STAGES, BLOCK_N, HEAD_DIM], layout)
    # Of each group one that is attended for and one that comes.
    q_tiles = gl.allocate_shared_memory(dtype, [4, ROWS, HEAD_DIM], layout)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    # Which tiles come next: 8 numbers each.
    records = gl.allocate_shared_memory(
        gl.int32, [16, 1], gl.SwizzledSharedLayout(1, 1, 1, order=[0])
    )
    record_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    record_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(k_empty.index(i), count=READERS)
        mbarrier.init(v_empty.index(i), count=READERS)
    for i in gl.static_range(2):
        mbarrier.init(record_full.index(i), count=1)
        mbarrier.init(record_empty.index(i), count=READERS)
    fence_async_shared()
    gl.barrier()
    tiles = (cu_seqlens_ptr, context_lens_ptr, n_seqs, first_seq, max_q_len, n_heads, n_kv_heads)
    fns = (reach, softcap, fn_a_ptr, fn_a_width, fn_b_ptr, fn_b_width)
    gl.warp_specialize(
        [
            (consume, (
                0, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, records, record_full,
                record_empty, out_ptr, q_ptr, sinks_ptr, fns, out_stride, q_stride, scale,
                HAS_SINKS, SCORE_FN, MASK, HAS_WINDOW, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (consume, (
                1, q_tiles, k_ring, v_ring, k_full, k_empty, v_full, v_empty, records, record_full,
                record_empty, out_ptr, q_ptr, sinks_ptr, fns, out_stride, q_stride, scale,
                HAS_SINKS, SCORE_FN, MASK, HAS_WINDOW, BLOCK_M, BLOCK_N, HEAD_DIM, STAGES,
            )),
            (produce, (
                k_cache_ptr, v_cache_ptr, k_boxes, v_boxes, k_full, k_empty, v_full, v_empty,
                records, record_full, record_empty, block_tables_ptr, next_tile_ptr, max_blocks,
                tiles, fns, MASK, BLOCK_TOKENS, BLOCK_M, BLOCK_N, PAGE, HEAD_DIM, STAGES,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
