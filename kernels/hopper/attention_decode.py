"""attention_decode_split on Hopper, in Gluon: many keys and values are on their way at once.

The same formula, parameters and meaning as kernels/attention_decode_split.py, which is its
reference and its Spec: units of tiles, merged in their order. For heads of 64 or 128, at most 16
to one of keys, pages of whole tiles of 64 keys, 16-bit activations and caches of 16 or 8 bits.
A ring of AHEAD tiles in shared memory takes what a program reads. All of them are asked for before
it waits for the kernel before; once a tile is in registers, another is asked for in its place.
Scores are products [keys, heads] and sums [D, heads], so that few heads waste little of the matrix
units: of the first a warp has 16 keys, of the second a quarter of D. So a unit's sums are whole
when its last tile is done, and merged in registers.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.lib import attention, decode, paged

WARPS = gl.constexpr(4)
KEYS = gl.constexpr(64)  # of a tile

old_tiles = gluon.jit(decode.old_tiles.fn)
exponent_base = gluon.jit(attention.exponent_base.fn)
turned_heads = gluon.jit(decode.turned_heads.fn)
merged = gluon.jit(decode.merged.fn)
soft_cap = gluon.jit(attention.soft_cap.fn)
normalised = gluon.jit(attention.normalised.fn)
cached = gluon.jit(paged.cached.fn)
of_cached = gluon.jit(paged.of_cached.fn)


@gluon.jit
def first_row(block_table, tile, max_blocks, kv_head, n_kv_heads, BLOCK_TOKENS: gl.constexpr):
    """Where a tile of a sequence begins in the cache, in rows of a head; of a tile that is none,
    somewhere."""
    start = tile * KEYS
    block = gl.load(block_table + gl.minimum(start // BLOCK_TOKENS, max_blocks - 1)).to(gl.int64)
    return (block * n_kv_heads + kv_head) * BLOCK_TOKENS + start % BLOCK_TOKENS


@gluon.jit
def ask(rings, slot, caches, row, n_there, HEAD_DIM: gl.constexpr):
    """A tile into a slot; zeros where no key is."""
    N: gl.constexpr = 128 // rings[0].dtype.primitive_bitwidth  # elements of a copy, 16 bytes
    L: gl.constexpr = gl.BlockedLayout(
        [1, N], [32 * N // HEAD_DIM, HEAD_DIM // N], [WARPS, 1], [1, 0]
    )
    rows = gl.arange(0, KEYS, gl.SliceLayout(1, L))[:, None]
    lane = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, L))[None, :]
    at = row * HEAD_DIM + (rows * HEAD_DIM + lane)
    there = (rows < n_there) & (lane >= 0)
    async_copy.async_load(rings[0].index(slot), caches[0] + at, mask=there)
    async_copy.async_load(rings[1].index(slot), caches[1] + at, mask=there)


@gluon.jit
def leave(sums_at, largest, total, acc, heads, lane, HEADS: gl.constexpr, HEAD_DIM: gl.constexpr):
    """A unit's sums for whoever merges them: [HEADS, D], its largest scores, its totals."""
    is_head = heads < HEADS
    at = sums_at + heads[None, :] * HEAD_DIM + lane[:, None]
    gl.store(at, acc, mask=is_head[None, :] & (lane >= 0)[:, None])
    at = sums_at + HEADS * HEAD_DIM + heads
    gl.store(at, largest, mask=is_head)
    gl.store(at + HEADS, total, mask=is_head)


@gluon.jit
def attention_decode_split(
    out_ptr, k_cache_ptr, v_cache_ptr, partial_ptr, arrivals_ptr, qkv_ptr, q_norm_ptr, k_norm_ptr,
    positions_ptr, inv_freq_ptr, slots_ptr, block_tables_ptr, context_lens_ptr, n_seqs, n_heads,
    n_kv_heads, max_blocks, window, out_stride, qkv_stride, scale, softcap, qk_eps,
    k_scale, v_scale, HEAD_DIM: gl.constexpr, BLOCK_TOKENS: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
    HAS_QK_NORM: gl.constexpr, ROWS: gl.constexpr, MIXED: gl.constexpr, UNEVEN: gl.constexpr,
    HEADS: gl.constexpr, BLOCK_N: gl.constexpr, UNITS: gl.constexpr, PARTS: gl.constexpr,
    LEAST: gl.constexpr, PDL: gl.constexpr, AHEAD: gl.constexpr, HOPPER: gl.constexpr,
    BLOCK_G: gl.constexpr, BLOCK_H: gl.constexpr, BLOCK_D: gl.constexpr, HAS_WINDOW: gl.constexpr,
):  # fmt: skip
    if PDL == 2:
        gdc_launch_dependents()
    gl.static_assert(BLOCK_N == KEYS and AHEAD >= 1)
    N: gl.constexpr = max(BLOCK_G, 8)
    HALF: gl.constexpr = HEAD_DIM // 2
    dtype: gl.constexpr = k_cache_ptr.dtype.element_ty
    WIDTH: gl.constexpr = dtype.primitive_bitwidth
    gl.static_assert(WIDTH == 16 or WIDTH == 8)
    # Of scores [keys, heads] and of sums [D, heads].
    MMA: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [WARPS, 1], [16, 8])
    # Products of elements of both 16-bit types are of fp32, which lose nothing as tf32; those of 8
    # bits lose nothing in 16.
    SAME: gl.constexpr = qkv_ptr.dtype.element_ty == dtype or WIDTH == 8
    product: gl.constexpr = qkv_ptr.dtype.element_ty if SAME else gl.float32
    LEFT: gl.constexpr = gl.DotOperandLayout(0, MMA, 2 if SAME else 1)
    RIGHT: gl.constexpr = gl.DotOperandLayout(1, MMA, 2 if SAME else 1)
    HEAD_L: gl.constexpr = gl.SliceLayout(0, MMA)
    ROW_L: gl.constexpr = gl.SliceLayout(1, MMA)
    Q_L: gl.constexpr = gl.BlockedLayout([1, HEAD_DIM // 32], [1, 32], [WARPS, 1], [1, 0])

    # Pieces of 16 bytes, at most 128 bytes of a row in turn.
    PIECE: gl.constexpr = 128 // WIDTH
    ROW_PIECES: gl.constexpr = min(HEAD_DIM // PIECE, 8)
    RING: gl.constexpr = gl.SwizzledSharedLayout(PIECE, 8 // ROW_PIECES, ROW_PIECES, order=[1, 0])
    Q_SHARED: gl.constexpr = gl.SwizzledSharedLayout(8, 1, 8, order=[1, 0])
    k_ring = gl.allocate_shared_memory(dtype, [AHEAD, KEYS, HEAD_DIM], RING)
    v_ring = gl.allocate_shared_memory(dtype, [AHEAD, KEYS, HEAD_DIM], RING)
    rings = (k_ring, v_ring)
    caches = (k_cache_ptr, v_cache_ptr)

    seq = gl.program_id(0).to(gl.int64)
    part = gl.program_id(2)
    n_parts = PARTS
    if PARTS == 0:
        n_parts = gl.num_programs(2)
    head = gl.program_id(1) * HEADS
    kv_head = head // (n_heads // n_kv_heads)
    block_table = block_tables_ptr + seq * max_blocks
    # Of entries that are not yet known to be asked for, the first are on their way to the cache.
    entry = gl.minimum(
        gl.arange(0, 128, gl.BlockedLayout([1], [32], [WARPS], [0])), max_blocks - 1
    )  # fmt: skip
    gl.inline_asm("prefetch.global.L2 [$0];", "l", [block_table + entry])
    context = gl.load(context_lens_ptr + seq)
    position = gl.load(positions_ptr + seq)
    slot_of_new = gl.load(slots_ptr + seq).to(gl.int64)
    begin = 0
    if HAS_WINDOW:
        begin = gl.maximum(context - window, 0)
    first = begin // BLOCK_N
    n_tiles = old_tiles(context, window, BLOCK_N, HAS_WINDOW)
    n_units = gl.minimum(n_tiles, UNITS)
    n_programs = gl.minimum(gl.cdiv(n_tiles, LEAST), UNITS)
    n_programs = gl.minimum(gl.maximum(n_programs, 1), n_parts)
    # This program's tiles: of each of its units as many, of the sequence's first ones one more.
    n_mine = gl.cdiv(gl.maximum(n_units - part, 0), n_programs)
    n_longer = gl.cdiv(gl.maximum(n_tiles % UNITS - part, 0), n_programs)
    n_mine_tiles = n_mine * (n_tiles // UNITS) + n_longer
    n_mine_tiles = gl.where(part < n_programs, n_mine_tiles, 0)

    # The tiles after the first AHEAD are asked for one at a time; which are next, and their places,
    # is known a tile before.
    n_left = context - 1 - first * BLOCK_N
    unit = part
    tile = part
    next_unit = part
    next_tile = part
    asked = ()
    for _ in gl.static_range(AHEAD + 1):
        row = first_row(
            block_table, first + next_tile, max_blocks, kv_head, n_kv_heads, BLOCK_TOKENS
        )
        asked = asked + ((row, n_left - next_tile * BLOCK_N),)
        is_end = next_tile + UNITS >= n_tiles
        next_tile = gl.where(is_end, next_unit + n_programs, next_tile + UNITS)
        next_unit = gl.where(is_end, next_unit + n_programs, next_unit)
    for i in gl.static_range(AHEAD):
        if i < n_mine_tiles:
            ask(rings, i, caches, asked[i][0], asked[i][1], HEAD_DIM)
        async_copy.commit_group()
    row = asked[AHEAD][0]
    n_there = asked[AHEAD][1]

    lane = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, Q_L))
    q_heads = gl.arange(0, N, gl.SliceLayout(1, Q_L))
    # An angle a thread: sines are long code.
    turn = gl.arange(0, HEAD_DIM, gl.BlockedLayout([1], [32], [WARPS], [0])) % HALF
    angle = position.to(gl.float32) * gl.load(inv_freq_ptr + turn)
    cos = gl.convert_layout(gl.cos(angle), gl.SliceLayout(0, Q_L))
    sin = gl.convert_layout(gl.sin(angle), gl.SliceLayout(0, Q_L))
    factor = scale if HAS_SOFTCAP else scale * attention.LOG2E
    if PDL > 0:
        gdc_wait()
    if PDL == 3:
        gdc_launch_dependents()

    # The newest key and value, as wide as the operations on their own would have left them.
    heads_at = qkv_ptr + seq * qkv_stride
    new_at = heads_at + (n_heads + kv_head) * HEAD_DIM
    lane_d = gl.arange(0, HEAD_DIM, ROW_L)
    heads = gl.arange(0, N, HEAD_L)
    one = gl.arange(0, 1, gl.SliceLayout(1, Q_L))[:, None]
    q = turned_heads(
        heads_at + (head + q_heads)[:, None] * HEAD_DIM, (q_heads < HEADS)[:, None], lane, cos, sin,
        q_norm_ptr, qk_eps, HEAD_DIM, HAS_QK_NORM,
    ).to(qkv_ptr.dtype.element_ty)  # fmt: skip
    new_v = cached(gl.load(new_at + n_kv_heads * HEAD_DIM + lane_d), v_scale, v_cache_ptr)
    new_k = turned_heads(
        new_at + one, one == 0, lane, cos, sin, k_norm_ptr, qk_eps, HEAD_DIM, HAS_QK_NORM
    )
    new_k = cached(gl.sum(new_k, axis=0).to(qkv_ptr.dtype.element_ty), k_scale, k_cache_ptr)
    is_writer = (
        (slot_of_new >= 0) & (part == 0) & (context > 0) & (head % (n_heads // n_kv_heads) == 0)
    )
    page = (slot_of_new // BLOCK_TOKENS * n_kv_heads + kv_head) * BLOCK_TOKENS
    page = (page + slot_of_new % BLOCK_TOKENS) * HEAD_DIM
    gl.store(k_cache_ptr + page + lane, new_k, mask=(lane >= 0) & is_writer)
    gl.store(v_cache_ptr + page + lane_d, new_v, mask=(lane_d >= 0) & is_writer)
    new_score = gl.sum(q.to(gl.float32) * new_k.to(gl.float32)[None, :], axis=1) * factor
    if HAS_SOFTCAP:
        new_score = soft_cap(new_score, softcap) * attention.LOG2E
    q_at = gl.allocate_shared_memory(qkv_ptr.dtype.element_ty, [N, HEAD_DIM], Q_SHARED, q).permute(
        (1, 0)
    )
    q_lo = q_at.slice(0, HALF).load(RIGHT).to(product)
    q_hi = q_at.slice(HALF, HALF).load(RIGHT).to(product)

    # The newest token's sums: its score, 1 and its value.
    largest = gl.convert_layout(new_score, HEAD_L)
    largest = gl.where(context > 0, largest, float("-inf"))
    total = gl.where(context > 0, 1.0, gl.zeros([N], gl.float32, HEAD_L))
    acc = gl.zeros([HEAD_DIM, N], gl.float32, MMA)
    acc = gl.where(context > 0, acc + new_v.to(gl.float32)[:, None], 0.0)
    # The newest token's sums lie before those of the units.
    UNIT: gl.constexpr = HEADS * (HEAD_DIM + 2)
    ALONE: gl.constexpr = PARTS == 1
    group = seq * gl.num_programs(1) + gl.program_id(1)
    sums_ptr = partial_ptr + (0 if ALONE else group * (UNITS + 1) * UNIT)
    is_split = n_programs > 1
    if not ALONE and is_split & (part == 0):
        leave(sums_ptr, largest, total, acc, heads, lane_d, HEADS, HEAD_DIM)

    key = gl.arange(0, BLOCK_N, ROW_L)
    zero_score = gl.zeros([BLOCK_N, N], gl.float32, MMA)
    zero_acc = gl.zeros([HEAD_DIM, N], gl.float32, MMA)
    unit_largest = gl.full([N], float("-inf"), gl.float32, HEAD_L)
    unit_weights = zero_score
    unit_acc = zero_acc
    slot = 0
    for i in range(n_mine_tiles):
        async_copy.wait_group(AHEAD - 1)
        gl.barrier()
        # Two halves: products that need not wait for each other.
        k = k_ring.index(slot)
        score = mma_v2(k.slice(0, HALF, 1).load(LEFT).to(product), q_lo, zero_score)
        score += mma_v2(k.slice(HALF, HALF, 1).load(LEFT).to(product), q_hi, zero_score)
        v = v_ring.index(slot).permute((1, 0)).load(LEFT).to(product)
        if i + AHEAD < n_mine_tiles:
            gl.barrier()
            ask(rings, slot, caches, row, n_there, HEAD_DIM)
        async_copy.commit_group()
        row = first_row(
            block_table, first + next_tile, max_blocks, kv_head, n_kv_heads, BLOCK_TOKENS
        )
        n_there = n_left - next_tile * BLOCK_N
        is_end = next_tile + UNITS >= n_tiles
        next_tile = gl.where(is_end, next_unit + n_programs, next_tile + UNITS)
        next_unit = gl.where(is_end, next_unit + n_programs, next_unit)

        score *= factor
        if HAS_SOFTCAP:
            score = soft_cap(score, softcap) * attention.LOG2E
        there = key < n_left - tile * BLOCK_N
        if HAS_WINDOW:
            there = there & (key >= begin - (first + tile) * BLOCK_N)
        score = gl.where(there[:, None], score, float("-inf"))
        peak = gl.maximum(unit_largest, gl.max(score, axis=0))
        base = exponent_base(peak)[None, :]
        p = gl.exp2(score - base)
        shrink = gl.exp2(unit_largest[None, :] - base)
        unit_largest = peak
        unit_weights = unit_weights * shrink + p
        p = gl.convert_layout(p.to(product), RIGHT)
        unit_acc = mma_v2(v, p, unit_acc * shrink)
        slot = gl.where(slot == AHEAD - 1, 0, slot + 1)

        is_last = tile + UNITS >= n_tiles
        if is_last:
            unit_total = gl.sum(unit_weights, axis=0)
            if not ALONE and is_split:
                leave(
                    sums_ptr + (1 + unit) * UNIT, unit_largest, unit_total, unit_acc, heads, lane_d,
                    HEADS, HEAD_DIM,
                )  # fmt: skip
            else:
                largest, total, acc = merged(
                    largest, total, acc, unit_largest, unit_total, unit_acc, 0
                )
            unit_largest = gl.full([N], float("-inf"), gl.float32, HEAD_L)
            unit_weights = zero_score
            unit_acc = zero_acc
        tile = gl.where(is_last, unit + n_programs, tile + UNITS)
        unit = gl.where(is_last, unit + n_programs, unit)

    if PDL == 4:
        gdc_launch_dependents()
    out_at = out_ptr + seq * out_stride + head * HEAD_DIM
    if not ALONE and is_split & (part < n_programs):
        count_ptr = arrivals_ptr + group
        gl.barrier()
        arrived = gl.atomic_add(count_ptr, 1, sem="acq_rel", scope="gpu")
        if arrived == n_programs - 1:
            gl.store(count_ptr, 0)
            merge_all(
                out_at, sums_ptr, n_units, v_scale, v_cache_ptr, HEADS, HEAD_DIM, BLOCK_G, UNITS
            )
    if ALONE | ((n_programs == 1) & (part == 0)):
        y = of_cached(normalised(acc, total[None, :]), v_scale, v_cache_ptr)
        y = y.to(out_ptr.dtype.element_ty)
        at = heads[None, :] * HEAD_DIM + lane_d[:, None]
        gl.store(out_at + at, y, mask=(heads < HEADS)[None, :] & (lane_d >= 0)[:, None])


@gluon.jit
def merge_all(
    out_at, sums_ptr, n_units, v_scale, v_cache_ptr, HEADS: gl.constexpr, HEAD_DIM: gl.constexpr,
    BLOCK_G: gl.constexpr, UNITS: gl.constexpr,
):  # fmt: skip
    """The output of HEADS heads from the sums that their programs have left."""
    ROUNDS: gl.constexpr = (UNITS + 17) // 17
    AT_ONCE: gl.constexpr = (UNITS + ROUNDS) // ROUNDS
    UNIT: gl.constexpr = HEADS * (HEAD_DIM + 2)
    L: gl.constexpr = gl.BlockedLayout([1, HEAD_DIM // 32], [1, 32], [WARPS, 1], [1, 0])
    heads = gl.arange(0, BLOCK_G, gl.SliceLayout(1, L))
    lane = gl.arange(0, HEAD_DIM, gl.SliceLayout(0, L))
    is_head = heads < HEADS
    at_sums = heads[:, None] * HEAD_DIM + lane[None, :]
    at_peaks = HEADS * HEAD_DIM + heads
    largest = gl.full([BLOCK_G], float("-inf"), gl.float32, gl.SliceLayout(1, L))
    total = gl.zeros([BLOCK_G], gl.float32, gl.SliceLayout(1, L))
    acc = gl.zeros([BLOCK_G, HEAD_DIM], gl.float32, L)
    # The newest token's come first: n_units + 1 of them. Past the end there is nothing to add.
    for first in range(0, n_units + 1, AT_ONCE):
        units = ()
        for j in gl.static_range(AT_ONCE):
            mask = is_head & (first + j <= n_units)
            at = sums_ptr + (first + j) * UNIT
            unit_acc = gl.load(at + at_sums, mask=mask[:, None] & (lane >= 0)[None, :], other=0.0)
            unit_largest = gl.load(at + at_peaks, mask=mask, other=float("-inf"))
            unit_total = gl.load(at + at_peaks + HEADS, mask=mask, other=0.0)
            units = units + ((unit_largest, unit_total, unit_acc),)
        for j in gl.static_range(AT_ONCE):
            largest, total, acc = merged(largest, total, acc, *units[j], 1)
    y = of_cached(normalised(acc, total[:, None]), v_scale, v_cache_ptr).to(out_at.dtype.element_ty)
    gl.store(out_at + at_sums, y, mask=is_head[:, None] & (lane >= 0)[None, :])
