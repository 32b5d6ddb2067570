"""split_k with its partial softmaxes added up by whoever comes, as they come: for comparison only.

    out[s, h] = softmax_j(cap(q[s, h] . k[j, h / G] * scale)) v[j, h / G],  j < context_lens[s]

A split-K whose programs add into one result by atomics, as split-K products often do: no memory
for each range and no merge at the end, but the order of the sum is that of arrival, and the last
digits of the result change from run to run. A softmax's parts must be rescaled when a larger score
comes, which no single atomic addition can do: a lock for each KV head of a sequence, taken by
compare-and-swap, guards one set of sums. The last to add, by the count in `arrivals`, writes the
output and leaves count and lock 0: `arrivals` [S, Hkv, count or lock], since all counters of a
launch are one memory.
Grid: (S, Hkv, SPLITS). For one query a sequence only. Sums fp32, base 2.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.attention_designs.interface import design_spec
from kernels.attention_designs.split_k import (
    CHOICE,
    CHOICES,
    COUNTER_SHAPE,
    DERIVES,
    GRID,
    leave,
    left,
    memory_of,
    merged,
    part_sums,
    store_group,
)
from kernels.spec import counter, scratch


@triton.jit
def split_k_atomic(
    out_ptr,
    partial_ptr,
    arrivals_ptr,
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
    SPLITS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    UNIT: tl.constexpr = BLOCK_H * (BLOCK_D + 2)
    part = tl.program_id(2)
    mine = tl.program_id(0).to(tl.int64) * n_kv_heads + tl.program_id(1)
    largest, total, acc, n_parts = part_sums(
        q_ptr, k_cache_ptr, v_cache_ptr, block_tables_ptr, context_lens_ptr, n_heads, n_kv_heads,
        max_blocks, window, q_stride, scale, softcap, HAS_SOFTCAP, HEAD_DIM, BLOCK_TOKENS, SPLITS,
        BLOCK_N, BLOCK_H, BLOCK_D,
    )  # fmt: skip
    sums_ptr = partial_ptr + mine * UNIT
    count_ptr = arrivals_ptr + 2 * mine
    lock_ptr = count_ptr + 1
    if part < n_parts:
        while tl.atomic_cas(lock_ptr, 0, 1, sem="acquire", scope="gpu") == 1:
            pass
        tl.debug_barrier()
        arrived = tl.load(count_ptr)
        # What the memory holds before the first has come is nothing.
        if arrived > 0:
            before_largest, before_total, before_acc = left(sums_ptr, BLOCK_H, BLOCK_D)
            largest, total, acc = merged(
                before_largest, before_total, before_acc, largest, total, acc
            )
        if arrived == n_parts - 1:
            tl.store(count_ptr, 0)
            store_group(out_ptr, out_stride, total, acc, n_heads, n_kv_heads, HEAD_DIM)
        else:
            leave(sums_ptr, largest, total, acc)
            tl.store(count_ptr, arrived + 1)
        tl.debug_barrier()
        tl.atomic_xchg(lock_ptr, 0, sem="release", scope="gpu")


SPEC = design_spec(
    split_k_atomic,
    "split-k-atomic",
    GRID,
    is_for_prompts=False,
    memory=(
        scratch("partial_ptr", "fp32", *COUNTER_SHAPE, "BLOCK_H * (BLOCK_D + 2)"),
        counter("arrivals_ptr", "i32", *COUNTER_SHAPE, "2"),
    ),
    choice=CHOICE,
    derives=DERIVES,
    extra=lambda case: memory_of(case, n_parts=1, n_counters=2),
    choices=CHOICES,
    expects=lambda a: {"arrivals_ptr": np.zeros_like(a["arrivals_ptr"])},
)
