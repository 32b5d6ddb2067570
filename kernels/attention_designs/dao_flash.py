"""Flash attention as Dao-AI-Lab's Triton kernel has it: one loop over all keys, masked throughout,
with the logarithm of the sum in place of the sum.

    out[i, h] = softmax_j(cap(q[i, h] . k[j, h / G] * scale)) v[j, h / G],  j <= position(i)

After flash_attn_triton.py of Dao-AI-Lab's flash-attention. What distinguishes it: keys that all
rows see are masked like the others; the state is the largest score m and lse = log(sum exp(score)),
so that m' = max(score, lse) and lse' = m' + log(exp(lse - m') + sum exp(score - m')); natural
exponentials; the output is scaled by exp(m - lse) once, at the end. Even and uneven forms: heads of
a power of two load without a mask of lanes; lengths change from step to step, so that rows and keys
always take the uneven form, where the original knows both when it is compiled.
Grid: (tiles, heads * sequences). lse stays here: the operation has no such result. Sums fp32.
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
from kernels.lib.attention import exponent_base


@triton.jit
def dao_flash(
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
    offs_n = tl.arange(0, BLOCK_N)
    q_pos = context - n_rows + offs_m

    lse = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for start in range(begin // BLOCK_N * BLOCK_N, end, BLOCK_N):
        k = load_keys(k_cache_ptr, block_table, start, context, kv_head, n_kv_heads, True, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
        score = capped(score * scale, softcap, HAS_SOFTCAP)
        distance = q_pos[:, None] - (start + offs_n)[None, :]
        score = tl.where((distance >= 0) & (distance < reach), score, float("-inf"))
        new_largest = tl.maximum(tl.max(score, axis=1), lse)
        base = exponent_base(new_largest)
        p = tl.exp(score - base[:, None])
        acc = acc * tl.exp(largest - base)[:, None]
        v = load_keys(v_cache_ptr, block_table, start, context, kv_head, n_kv_heads, True, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        acc = tl.dot(p.to(q.dtype), v.to(q.dtype), acc, input_precision="ieee")
        total = tl.exp(lse - base) + tl.sum(p, axis=1)
        lse = tl.where(total == 0.0, float("-inf"), base + tl.log(total))
        largest = new_largest
    factor = tl.where(lse == float("-inf"), 0.0, tl.exp(largest - exponent_base(lse)))
    y = acc * factor[:, None]
    store_rows(out_ptr, out_stride, head, first_row, offs_m, n_rows, y, HEAD_DIM, BLOCK_D)


SPEC = design_spec(dao_flash, "dao", (TILES, f"n_heads * {SEQUENCES}", "1"))
