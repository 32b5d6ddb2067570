"""Flash attention as AMD's kernel has it: persistent programs, blocks of keys counted as full and
masked ones, base 2.

    out[i, h] = softmax_j(cap(q[i, h] . k[j, h / G] * scale)) v[j, h / G],  j <= position(i)

After attn_fwd of ROCm's flash-attention for Triton. What distinguishes it: a fixed number of
programs, each taking every n-th tile in the order sequence, head, queries; per tile the number of
key blocks and, from the end, how many of them the diagonal or the ragged end may cut: the full ones
run first without a mask, the others after with one. Scores become logarithms of base 2 before the
maximum is taken; rows are divided by their sums at the end, by a reciprocal.
Grid: min(tiles, PROGRAMS). With a window every block counts as masked. Sums fp32.
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
from kernels.lib.attention import LOG2E, soften, weigh


@triton.jit
def blocks(
    acc, total, largest, q, q_pos, k_ptr, v_ptr, block_table, kv_head, n_kv_heads, first, n_blocks,
    context, reach, scale, softcap, MASKED: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    offs_n = tl.arange(0, BLOCK_N)
    for block in range(first, n_blocks):
        start = block * BLOCK_N
        k = load_keys(k_ptr, block_table, start, context, kv_head, n_kv_heads, MASKED, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        v = load_keys(v_ptr, block_table, start, context, kv_head, n_kv_heads, MASKED, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
        score = capped(score * scale, softcap, HAS_SOFTCAP) * LOG2E
        if MASKED:
            distance = q_pos[:, None] - (start + offs_n)[None, :]
            score = tl.where((distance >= 0) & (distance < reach), score, float("-inf"))
        p, shrink, largest, total = soften(score, largest, total, 1.0, True)
        acc = weigh(p, v, shrink, acc, q.dtype)
    return acc, total, largest


@triton.jit
def amd_flash(
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
    PROGRAMS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles_a_head = 1 if DECODE else tl.cdiv(max_q_len, BLOCK_M)
    tiles_a_seq = tiles_a_head * n_heads
    first_seq = 0 if DECODE else n_decodes
    n_tiles = tiles_a_seq * (n_decodes if DECODE else n_seqs - n_decodes)
    for tile in range(tl.program_id(0), n_tiles, tl.num_programs(0)):
        seq = first_seq + tile // tiles_a_seq
        head = tile % tiles_a_seq // tiles_a_head
        first = tile % tiles_a_head * BLOCK_M
        q, offs_m, first_row, n_rows, context, begin, end, reach, block_table, kv_head = query_tile(
            seq, head, first, q_ptr, q_stride, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr,
            n_heads, n_kv_heads, max_blocks, window, DECODE, HEAD_DIM, BLOCK_M, BLOCK_D,
        )  # fmt: skip
        position = context - n_rows + first
        q_pos = position + tl.arange(0, BLOCK_M)

        # The diagonal crosses as many blocks as the tile is high, one more where it begins within
        # a block; the ragged end lies in the last.
        n_blocks = tl.cdiv(end, BLOCK_N)
        n_masked = (BLOCK_M + BLOCK_N - 1) // BLOCK_N + tl.where(position % BLOCK_N != 0, 1, 0)
        begin_block = begin // BLOCK_N
        n_full = tl.where(window > 0, begin_block, tl.maximum(n_blocks - n_masked, 0))
        acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        acc, total, largest = blocks(
            acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head,
            n_kv_heads, begin_block, n_full, context, reach, scale, softcap, False, HAS_SOFTCAP,
            HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        acc, total, largest = blocks(
            acc, total, largest, q, q_pos, k_cache_ptr, v_cache_ptr, block_table, kv_head,
            n_kv_heads, n_full, n_blocks, context, reach, scale, softcap, True, HAS_SOFTCAP,
            HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        # Rows that see nothing have a sum of 0, and values of 0.
        y = acc * (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]
        store_rows(out_ptr, out_stride, head, first_row, offs_m, n_rows, y, HEAD_DIM, BLOCK_D)


SPEC = design_spec(
    amd_flash,
    "amd",
    (f"min(n_heads * {SEQUENCES} * {TILES}, PROGRAMS)", "1", "1"),
    # Some a core: of tiles in order the last ones of each sequence are the longest.
    choice={
        "cpu": {"PROGRAMS": 64},
        "cuda": {"PROGRAMS": 264},
        "hip": {"PROGRAMS": 608},
    },
    choices=({}, {"PROGRAMS": 3}),
)
