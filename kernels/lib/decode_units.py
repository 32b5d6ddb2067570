"""Attention of one query a sequence by units of its keys, on a wide machine: what the kernels in
Triton share that do so (attention_decode_split says what a unit is).

A program has the heads of one of keys, HEADS of them in BLOCK_H rows, and a share of the units.
Sums are a largest score, a total and weighted values: [BLOCK_H], [BLOCK_H], [BLOCK_H, BLOCK_D].
"""

import triton
import triton.language as tl

from kernels.lib.attention import normalised, tile_weights
from kernels.lib.decode import merged
from kernels.lib.paged import of_cached


@triton.jit
def share_of(n_tiles, part, n_parts, UNITS: tl.constexpr, LEAST: tl.constexpr):
    """How many units a sequence has, how many programs, and how many tiles the part-th of them."""
    n_units = tl.minimum(n_tiles, UNITS)
    n_programs = tl.minimum(tl.cdiv(n_tiles, LEAST), UNITS)
    n_programs = tl.minimum(tl.maximum(n_programs, 1), n_parts)
    # This program's tiles: of each of its units as many, of the sequence's first ones one more.
    n_mine = tl.cdiv(tl.maximum(n_units - part, 0), n_programs)
    n_longer = tl.cdiv(tl.maximum(n_tiles % UNITS - part, 0), n_programs)
    n_mine_tiles = n_mine * (n_tiles // UNITS) + n_longer
    return n_units, n_programs, tl.where(part < n_programs, n_mine_tiles, 0)


@triton.jit
def block_of(block_table, i):
    """Entry `i`, in two halves: a load of 32 bits the compiler would copy ahead as it does keys and
    values, and give the stages of its pipeline to these copies."""
    at = (block_table + i).to(tl.pointer_type(tl.int16), bitcast=True)
    return (tl.load(at).to(tl.int64) & 0xFFFF) | (tl.load(at + 1).to(tl.int64) << 16)


@triton.jit
def row_of_tile(block_table, tile, kv_head, n_kv_heads, BLOCK_TOKENS: tl.constexpr,
                BLOCK_N: tl.constexpr):  # fmt: skip
    """Where a tile of a sequence begins in the cache, in rows of a head."""
    start = tile * BLOCK_N
    block = block_of(block_table, start // BLOCK_TOKENS)
    return (block * n_kv_heads + kv_head) * BLOCK_TOKENS + start % BLOCK_TOKENS


@triton.jit
def for_products(q, cache_ptr):
    """Queries as products with keys take them: in fp32 where the two differ in type; but numbers of
    8 bits fit into every other."""
    dtype: tl.constexpr = cache_ptr.dtype.element_ty
    if q.dtype != dtype and dtype != tl.float8e4nv:
        q = q.to(tl.float32)
    return q


@triton.jit
def tile_sums(
    q, k, v, there, sums, at, factor, params, SCORE: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """One tile of keys and values into a unit's sums; `there` [BLOCK_N]: the keys that may be seen.
    MASK is asked in every tile: of one query it is a number a key, beside a product of [D, H]."""
    largest, total, acc = sums
    score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee") * factor
    p, shrink, largest, total = tile_weights(
        score, largest, total, at, there[None, :], params, 1.0, SCORE, MASK
    )
    # As `weigh`, in the order of operations that was measured.
    acc = tl.dot(p.to(q.dtype), v.to(q.dtype), acc * shrink[:, None], input_precision="ieee")
    return largest, total, acc


@triton.jit
def leave(sums_at, largest, total, acc, HEADS: tl.constexpr):
    """A unit's sums for whoever merges them: [HEADS, D], its largest scores, its totals."""
    heads = tl.arange(0, acc.shape[0])
    lane = tl.arange(0, acc.shape[1])
    is_head = heads < HEADS
    at = sums_at + heads[:, None] * acc.shape[1] + lane[None, :]
    tl.store(at, acc, mask=is_head[:, None])
    at = sums_at + HEADS * acc.shape[1] + heads
    tl.store(at, largest, mask=is_head)
    tl.store(at + HEADS, total, mask=is_head)


@triton.jit
def merge_all(
    out_at, sums_ptr, n_units, v_scale, v_cache_ptr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The output of HEADS heads from the sums that their programs have left."""
    AT_ONCE: tl.constexpr = 16
    UNIT: tl.constexpr = HEADS * (BLOCK_D + 2)
    heads = tl.arange(0, BLOCK_G)
    lane = tl.arange(0, BLOCK_D)
    is_head = heads < HEADS
    at_sums = heads[:, None] * BLOCK_D + lane[None, :]
    at_peaks = HEADS * BLOCK_D + heads
    largest = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.zeros((BLOCK_G, BLOCK_D), tl.float32)
    # The newest token's come first: n_units + 1 of them. Past the end there is nothing to add.
    for first in range(0, n_units + 1, AT_ONCE):
        units = ()
        for j in tl.static_range(AT_ONCE):
            mask = is_head & (first + j <= n_units)
            at = sums_ptr + (first + j) * UNIT
            unit_acc = tl.load(at + at_sums, mask=mask[:, None], other=0.0)
            unit_largest = tl.load(at + at_peaks, mask=mask, other=float("-inf"))
            unit_total = tl.load(at + at_peaks + HEADS, mask=mask, other=0.0)
            units = units + ((unit_largest, unit_total, unit_acc),)
        for j in tl.static_range(AT_ONCE):
            largest, total, acc = merged(largest, total, acc, *units[j], 1)
    y = of_cached(normalised(acc, total[:, None]), v_scale, v_cache_ptr)
    y = y.to(out_at.dtype.element_ty)
    at = heads[:, None] * HEAD_DIM + lane[None, :]
    tl.store(out_at + at, y, mask=is_head[:, None] & (lane < HEAD_DIM)[None, :])


@triton.jit
def end_of_unit(
    is_last, is_split, sums_at, sums, unit_sums, HEADS: tl.constexpr, ALONE: tl.constexpr
):
    """After the last tile of a unit its sums go to memory or into those of the units before."""
    largest, total, acc = sums
    unit_largest, unit_total, unit_acc = unit_sums
    if is_last:
        if ALONE:
            largest, total, acc = merged(largest, total, acc, unit_largest, unit_total, unit_acc, 1)
        elif is_split:
            leave(sums_at, unit_largest, unit_total, unit_acc, HEADS)
        else:
            largest, total, acc = merged(largest, total, acc, unit_largest, unit_total, unit_acc, 1)
        unit_largest = tl.full(largest.shape, float("-inf"), tl.float32)
        unit_total = tl.zeros(total.shape, tl.float32)
        unit_acc = tl.zeros(acc.shape, tl.float32)
    return (largest, total, acc), (unit_largest, unit_total, unit_acc)


@triton.jit
def no_sums(BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr):
    """Before the first key."""
    largest = tl.full((BLOCK_H,), float("-inf"), tl.float32)
    return largest, tl.zeros((BLOCK_H,), tl.float32), tl.zeros((BLOCK_H, BLOCK_D), tl.float32)


@triton.jit
def attend_units(
    sums, unit_sums, q, pages, share, place, query, params, is_split, sums_ptr, factor,
    SCORE: tl.constexpr, MASK: tl.constexpr, HAS_WINDOW: tl.constexpr, HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_N: tl.constexpr, UNITS: tl.constexpr,
    ALONE: tl.constexpr,
):  # fmt: skip
    """A program's tiles, n_mine of them from `tile` of `unit` on, into the sums of the sequence.
    Tiles count from `first`; `begin`: the first key that is seen, n_left those from `first` on."""
    k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads = pages
    n_tiles, n_programs, n_mine = share
    unit, tile, first, begin, n_left = place
    seq, head, q_pos = query
    BLOCK_D: tl.constexpr = q.shape[1]
    lane = tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    heads = (head + tl.arange(0, q.shape[0]))[:, None]
    is_lane = lane < HEAD_DIM
    at_tile = rows[:, None] * HEAD_DIM + lane[None, :]
    for _ in range(n_mine):
        row = row_of_tile(block_table, first + tile, kv_head, n_kv_heads, BLOCK_TOKENS, BLOCK_N)
        row *= HEAD_DIM
        there = rows < n_left - tile * BLOCK_N
        # Keys past the end are read, whatever they are: their scores are not.
        if BLOCK_D == HEAD_DIM:
            k = tl.load(k_cache_ptr + row + at_tile)
            v = tl.load(v_cache_ptr + row + at_tile, mask=there[:, None], other=0.0)
        else:
            k = tl.load(k_cache_ptr + row + at_tile, mask=is_lane[None, :], other=0.0)
            mask = there[:, None] & is_lane[None, :]
            v = tl.load(v_cache_ptr + row + at_tile, mask=mask, other=0.0)
        if HAS_WINDOW:
            there = there & (rows >= begin - (first + tile) * BLOCK_N)
        at = (seq, heads, seq, q_pos, ((first + tile) * BLOCK_N + rows)[None, :])
        unit_sums = tile_sums(q, k, v, there, unit_sums, at, factor, params, SCORE, MASK)
        is_last = tile + UNITS >= n_tiles
        sums, unit_sums = end_of_unit(
            is_last, is_split, sums_ptr + (1 + unit) * HEADS * (BLOCK_D + 2), sums, unit_sums,
            HEADS, ALONE,
        )  # fmt: skip
        # Not within the branch, or the compiler could not ask for the next tile before it.
        tile = tl.where(is_last, unit + n_programs, tile + UNITS)
        unit = tl.where(is_last, unit + n_programs, unit)
    return sums


@triton.jit
def finish(
    out_at, sums_ptr, count_ptr, sums, is_split, part, n_programs, n_units, v_scale, v_cache_ptr,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_G: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """The output of HEADS heads: of a sequence of one program by that, else by the last to come."""
    _, total, acc = sums
    BLOCK_H: tl.constexpr = acc.shape[0]
    BLOCK_D: tl.constexpr = acc.shape[1]
    if not ALONE and is_split & (part < n_programs):
        tl.debug_barrier()
        arrived = tl.atomic_add(count_ptr, 1, sem="acq_rel", scope="gpu")
        if arrived == n_programs - 1:
            tl.store(count_ptr, 0)
            merge_all(
                out_at, sums_ptr, n_units, v_scale, v_cache_ptr, HEADS, HEAD_DIM, BLOCK_G, BLOCK_D
            )
    if ALONE | ((n_programs == 1) & (part == 0)):
        heads = tl.arange(0, BLOCK_H)
        lane = tl.arange(0, BLOCK_D)
        y = of_cached(normalised(acc, total[:, None]), v_scale, v_cache_ptr)
        y = y.to(out_at.dtype.element_ty)
        at = heads[:, None] * HEAD_DIM + lane[None, :]
        tl.store(out_at + at, y, mask=(heads < HEADS)[:, None] & (lane < HEAD_DIM)[None, :])
