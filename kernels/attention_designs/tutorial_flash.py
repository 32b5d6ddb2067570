"""Flash attention as Triton's tutorial has it: off the band of the diagonal, then on it.

    out[i, h] = softmax_j(cap(q[i, h] . k[j, h / G] * scale)) v[j, h / G],  j <= position(i)

After "Fused Attention" of Triton's tutorials (after Dao's FlashAttention-2). What distinguishes it:
a program for each tile of queries, tiles first in the grid, and the same loop twice: stage 1 over
the keys before the tile's first query, which every row sees, where the scale goes into the
exponent; stage 2 over the band of as many keys as the tile has queries, where it goes into the
scores, which are masked. The tutorial's lengths are multiples of its tiles; here the band begins
and ends anywhere.
Grid: (tiles, heads * sequences). With a window all keys are the band's. Sums fp32, base 2.
"""

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
from kernels.lib.attention import LOG2E, exponent_base, normalised


@triton.jit
def inner(
    acc, total, largest, q, q_pos, k_ptr, v_ptr, block_table, kv_head, n_kv_heads, low, high,
    context, reach, scale, softcap, STAGE: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    ON_BAND: tl.constexpr = STAGE == 2
    offs_n = tl.arange(0, BLOCK_N)
    qk_scale = LOG2E if HAS_SOFTCAP else scale * LOG2E
    for start in range(low, high, BLOCK_N):
        k = load_keys(k_ptr, block_table, start, context, kv_head, n_kv_heads, ON_BAND, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        qk = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
        if HAS_SOFTCAP:
            qk = capped(qk * scale, softcap, HAS_SOFTCAP)
        if ON_BAND:
            distance = q_pos[:, None] - (start + offs_n)[None, :]
            is_seen = (distance >= 0) & (distance < reach)
            qk = tl.where(is_seen, qk * qk_scale, float("-inf"))
            new_largest = tl.maximum(largest, tl.max(qk, axis=1))
            base = exponent_base(new_largest)
            p = tl.exp2(qk - base[:, None])
        else:
            new_largest = tl.maximum(largest, tl.max(qk, axis=1) * qk_scale)
            base = new_largest
            p = tl.exp2(qk * qk_scale - base[:, None])
        alpha = tl.exp2(largest - base)
        acc = acc * alpha[:, None]
        v = load_keys(v_ptr, block_table, start, context, kv_head, n_kv_heads, ON_BAND, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        acc = tl.dot(p.to(q.dtype), v.to(q.dtype), acc, input_precision="ieee")
        total = total * alpha + tl.sum(p, axis=1)
        largest = new_largest
    return acc, total, largest


@triton.jit
def tutorial_flash(
    out_ptr,
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
    first = tl.program_id(0) * BLOCK_M
    seq = tl.program_id(1) // n_heads
    if not DECODE:
        seq += n_decodes
    head = tl.program_id(1) % n_heads
    q, offs_m, first_row, n_rows, context, begin, end, reach, block_table, kv_head = query_tile(
        seq, head, first, q_ptr, q_stride, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr,
        n_heads, n_kv_heads, max_blocks, window, DECODE, HEAD_DIM, BLOCK_M, BLOCK_D,
    )  # fmt: skip
    position = context - n_rows + first
    q_pos = position + tl.arange(0, BLOCK_M)

    low = begin // BLOCK_N * BLOCK_N
    band = tl.maximum(tl.minimum(position + 1, end), 0) // BLOCK_N * BLOCK_N
    band = tl.where(window > 0, low, band)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    acc, total, largest = inner(
        acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads,
        low, band, context, reach, scale, softcap, 1, HAS_SOFTCAP, HEAD_DIM, BLOCK_TOKENS, BLOCK_N,
        BLOCK_D,
    )  # fmt: skip
    acc, total, largest = inner(
        acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads,
        band, end, context, reach, scale, softcap, 2, HAS_SOFTCAP, HEAD_DIM, BLOCK_TOKENS, BLOCK_N,
        BLOCK_D,
    )  # fmt: skip
    y = normalised(acc, total[:, None])
    store_rows(out_ptr, out_stride, head, first_row, offs_m, n_rows, y, HEAD_DIM, BLOCK_D)


SPEC = design_spec(tutorial_flash, "tutorial", (TILES, f"n_heads * {SEQUENCES}", "1"))
