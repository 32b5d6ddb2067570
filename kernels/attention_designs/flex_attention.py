"""Attention as FlexAttention has it: functions for score and mask, and lists of tiles of keys.

    out[i, h] = softmax_j(score_mod(q[i, h] . k[j, h / G] * scale)) v[j, h / G],  mask_mod(i, j)

After PyTorch's FlexAttention (Dong et al., 2024). What distinguishes it: nothing in the loops knows
the mask. The mask function, evaluated over a tile of queries and one of keys, makes the tile full,
partial or nothing; a tile of queries has a list of its full tiles of keys and one of its partial
ones. The kernel walks the first without evaluating the mask again, then the second with it. Another
mask or another score is another mask_mod or score_mod, and nothing else.
There the lists (BlockMask) are made once and reused by every layer; here lengths change with every
step and the operation has no such operand: each program makes its own in `lists`, at the price of
evaluating the mask once for each tile before its end.
Grid: (tiles, heads, sequences). lists: [tiles of all, Hq, full or partial, tiles of keys]. Sums are
fp32, base 2.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.attention_designs.interface import (
    SEQUENCES,
    TILES,
    capped,
    design_spec,
    load_keys,
    query_tile,
    store_rows,
)
from kernels.lib.attention import LOG2E, normalised, soften, weigh
from kernels.spec import scratch, step_size


@triton.jit
def score_mod(score, softcap, HAS_SOFTCAP: tl.constexpr):
    return capped(score, softcap, HAS_SOFTCAP)


@triton.jit
def mask_mod(q_pos, k_pos, reach):
    """Causal, within a window of `reach`."""
    return (q_pos >= k_pos) & (q_pos - k_pos < reach)


@triton.jit
def listed(
    acc, total, largest, q, q_pos, k_ptr, v_ptr, block_table, kv_head, n_kv_heads, list_ptr,
    n_listed, context, reach, scale, softcap, IS_FULL: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A tile of queries over the tiles of keys in a list."""
    offs_n = tl.arange(0, BLOCK_N)
    for i in range(n_listed):
        start = tl.load(list_ptr + i) * BLOCK_N
        k = load_keys(k_ptr, block_table, start, context, kv_head, n_kv_heads, not IS_FULL,
                      HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        v = load_keys(v_ptr, block_table, start, context, kv_head, n_kv_heads, not IS_FULL,
                      HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee") * scale
        score = score_mod(score, softcap, HAS_SOFTCAP) * LOG2E
        if not IS_FULL:
            k_pos = (start + offs_n)[None, :]
            is_seen = mask_mod(q_pos[:, None], k_pos, reach) & (k_pos < context)
            score = tl.where(is_seen, score, float("-inf"))
        p, shrink, largest, total = soften(score, largest, total, 1.0, True)
        acc = weigh(p, v, shrink, acc, q.dtype)
    return acc, total, largest


@triton.jit
def flex_attention(
    out_ptr,
    lists_ptr,
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    block_tables_ptr,
    cu_seqlens_ptr,
    context_lens_ptr,
    n_seqs,
    n_decodes,
    max_q_len,
    n_heads,
    n_kv_heads,
    max_blocks,
    window,
    n_tokens,
    out_stride,
    q_stride,
    scale,
    softcap,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    DECODE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tile = tl.program_id(0)
    head = tl.program_id(1)
    seq = tl.program_id(2)
    if not DECODE:
        seq += n_decodes
    first = tile * BLOCK_M
    q, offs_m, first_row, n_rows, context, begin, end, reach, block_table, kv_head = query_tile(
        seq, head, first, q_ptr, q_stride, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr,
        n_heads, n_kv_heads, max_blocks, window, DECODE, HEAD_DIM, BLOCK_M, BLOCK_D,
    )  # fmt: skip
    offs_n = tl.arange(0, BLOCK_N)
    # Rows that are not there see what the last one does: they make no tile partial.
    q_pos = context - n_rows + tl.minimum(offs_m, n_rows - 1)

    # Tiles of the sequences before it: no more than whole tiles of their rows and one each.
    most = max_blocks * (BLOCK_TOKENS // BLOCK_N)
    mine = (first_row // BLOCK_M + seq + tile).to(tl.int64) * n_heads + head
    full_ptr = lists_ptr + mine * 2 * most
    partial_ptr = full_ptr + most
    n_full = tl.full((), 0, tl.int32)
    n_partial = tl.full((), 0, tl.int32)
    for key_tile in range(begin // BLOCK_N, tl.cdiv(end, BLOCK_N)):
        k_pos = (key_tile * BLOCK_N + offs_n)[None, :]
        is_seen = mask_mod(q_pos[:, None], k_pos, reach) & (k_pos < context)
        n_seen = tl.sum(tl.sum(is_seen.to(tl.int32), axis=1), axis=0)
        is_full = n_seen == BLOCK_M * BLOCK_N
        is_partial = (n_seen > 0) & (n_seen < BLOCK_M * BLOCK_N)
        tl.store(full_ptr + n_full, key_tile, mask=is_full)
        tl.store(partial_ptr + n_partial, key_tile, mask=is_partial)
        n_full += is_full.to(tl.int32)
        n_partial += is_partial.to(tl.int32)
    tl.debug_barrier()

    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    acc, total, largest = listed(
        acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads,
        full_ptr, n_full, context, reach, scale, softcap, True, HAS_SOFTCAP, HEAD_DIM, BLOCK_TOKENS,
        BLOCK_N, BLOCK_D,
    )  # fmt: skip
    acc, total, largest = listed(
        acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads,
        partial_ptr, n_partial, context, reach, scale, softcap, False, HAS_SOFTCAP, HEAD_DIM,
        BLOCK_TOKENS, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    y = normalised(acc, total[:, None])
    store_rows(out_ptr, out_stride, head, first_row, offs_m, n_rows, y, HEAD_DIM, BLOCK_D)


_LEAST_TILE = 16  # of the cases


def with_lists(case):
    a = case.args
    a["n_tokens"] = len(a["q_ptr"])
    tiles = a["n_tokens"] // _LEAST_TILE + a["n_seqs"] + 1
    n_keys = a["max_blocks"] * case.constexprs["BLOCK_TOKENS"] // _LEAST_TILE
    a["lists_ptr"] = np.full((tiles, a["n_heads"], 2, n_keys), -7, np.int32)
    case.dtypes["lists_ptr"] = "i32"
    return case


SPEC = design_spec(
    flex_attention,
    "flex",
    (TILES, "n_heads", SEQUENCES),
    memory=(
        scratch(
            "lists_ptr",
            "i32",
            "n_tokens // BLOCK_M + n_seqs + 1",
            "n_heads",
            "2",
            "max_blocks * BLOCK_TOKENS // BLOCK_N",
        ),
    ),
    sizes=(step_size("n_tokens", of="q[0]"),),
    extra=with_lists,
)
