"""Decoding attention as xFormers' split-K has it: the keys of a sequence in ranges, a program each,
and their partial softmaxes merged in order.

    out[s, h] = softmax_j(cap(q[s, h] . k[j, h / G] * scale)) v[j, h / G],  j < context_lens[s]

After triton_splitk of xFormers, and Flash-Decoding. What distinguishes it: the context is cut into
SPLITS contiguous ranges of equal numbers of tiles; a program takes all query heads of one KV head
as the rows of its products over one range, and leaves largest score, sum and weighted values. There
a second kernel merges them; here the last program of a sequence does, by the count in `arrivals`,
which it sets back to 0. The order of the merge is that of the ranges: the result does not depend on
who came last (split_k_atomic is the form whose result does).
Grid: (S, Hkv, SPLITS). For one query a sequence only. Sums fp32, base 2.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.attention_designs.interface import capped, design_spec, load_keys
from kernels.lib.attention import LOG2E, exponent_base, normalised, soften, weigh
from kernels.spec import counter, derived, filled, scratch


@triton.jit
def split_of(context, window, part, BLOCK_N: tl.constexpr, SPLITS: tl.constexpr):
    """The tiles of a sequence that a program takes; how many programs have any, one at least."""
    oldest = tl.where(window > 0, tl.maximum(context - window, 0), 0)
    first_tile = oldest // BLOCK_N
    end_tile = tl.cdiv(context, BLOCK_N)
    each = tl.maximum(tl.cdiv(end_tile - first_tile, SPLITS), 1)
    n_parts = tl.maximum(tl.cdiv(end_tile - first_tile, each), 1)
    begin = first_tile + part * each
    return oldest, begin, tl.minimum(begin + each, end_tile), n_parts


@triton.jit
def range_sums(
    q, k_ptr, v_ptr, block_table, kv_head, n_kv_heads, begin, end, oldest, context, scale, softcap,
    HAS_SOFTCAP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Largest score, sum and weighted values of the heads q over a range of tiles."""
    offs_n = tl.arange(0, BLOCK_N)
    largest = tl.full((q.shape[0],), float("-inf"), tl.float32)
    total = tl.zeros((q.shape[0],), tl.float32)
    acc = tl.zeros((q.shape[0], BLOCK_D), tl.float32)
    for tile in range(begin, end):
        start = tile * BLOCK_N
        k = load_keys(k_ptr, block_table, start, context, kv_head, n_kv_heads, True, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        v = load_keys(v_ptr, block_table, start, context, kv_head, n_kv_heads, True, HEAD_DIM,
                      BLOCK_TOKENS, BLOCK_N, BLOCK_D)  # fmt: skip
        score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee") * scale
        score = capped(score, softcap, HAS_SOFTCAP) * LOG2E
        k_pos = start + offs_n
        score = tl.where(((k_pos < context) & (k_pos >= oldest))[None, :], score, float("-inf"))
        p, shrink, largest, total = soften(score, largest, total, 1.0, True)
        acc = weigh(p, v, shrink, acc, q.dtype)
    return largest, total, acc


@triton.jit
def merged(largest, total, acc, other_largest, other_total, other_acc):
    peak = tl.maximum(largest, other_largest)
    base = exponent_base(peak)
    mine = tl.exp2(largest - base)
    other = tl.exp2(other_largest - base)
    return (
        peak,
        total * mine + other_total * other,
        acc * mine[:, None] + other_acc * other[:, None],
    )


@triton.jit
def leave(sums_ptr, largest, total, acc):
    """The sums [BLOCK_H, BLOCK_D], then the largest scores, then the totals."""
    heads = tl.arange(0, acc.shape[0])
    lanes = tl.arange(0, acc.shape[1])
    tl.store(sums_ptr + heads[:, None] * acc.shape[1] + lanes[None, :], acc)
    tl.store(sums_ptr + acc.shape[0] * acc.shape[1] + heads, largest)
    tl.store(sums_ptr + acc.shape[0] * (acc.shape[1] + 1) + heads, total)


@triton.jit
def left(sums_ptr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr):
    heads = tl.arange(0, BLOCK_H)
    lanes = tl.arange(0, BLOCK_D)
    acc = tl.load(sums_ptr + heads[:, None] * BLOCK_D + lanes[None, :])
    largest = tl.load(sums_ptr + BLOCK_H * BLOCK_D + heads)
    total = tl.load(sums_ptr + BLOCK_H * (BLOCK_D + 1) + heads)
    return largest, total, acc


@triton.jit
def group_mask(group, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr, HEAD_DIM: tl.constexpr):
    """Where heads of a KV head lie from the first on, and which there are."""
    heads = tl.arange(0, BLOCK_H)[:, None]
    lanes = tl.arange(0, BLOCK_D)[None, :]
    return heads * HEAD_DIM + lanes, (heads < group) & (lanes < HEAD_DIM)


@triton.jit
def part_sums(
    q_ptr, k_ptr, v_ptr, block_tables_ptr, context_lens_ptr, n_heads, n_kv_heads, max_blocks,
    window, q_stride, scale, softcap, HAS_SOFTCAP: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr, SPLITS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """range_sums of this program's part of its sequence's keys; how many parts there are."""
    seq = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    group = n_heads // n_kv_heads
    context = tl.load(context_lens_ptr + seq)
    oldest, begin, end, n_parts = split_of(context, window, tl.program_id(2), BLOCK_N, SPLITS)
    at, mask = group_mask(group, BLOCK_H, BLOCK_D, HEAD_DIM)
    first_head = kv_head * group * HEAD_DIM
    q = tl.load(q_ptr + seq * q_stride + first_head + at, mask=mask, other=0.0)
    largest, total, acc = range_sums(
        q, k_ptr, v_ptr, block_tables_ptr + seq * max_blocks, kv_head, n_kv_heads, begin, end,
        oldest, context, scale, softcap, HAS_SOFTCAP, HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    return largest, total, acc, n_parts


@triton.jit
def store_group(out_ptr, out_stride, total, acc, n_heads, n_kv_heads, HEAD_DIM: tl.constexpr):
    """The output of the heads of this program's KV head."""
    group = n_heads // n_kv_heads
    at, mask = group_mask(group, acc.shape[0], acc.shape[1], HEAD_DIM)
    row = out_ptr + tl.program_id(0).to(tl.int64) * out_stride
    y = normalised(acc, total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(row + tl.program_id(1) * group * HEAD_DIM + at, y, mask=mask)


@triton.jit
def split_k(
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
    sums_ptr = partial_ptr + mine * SPLITS * UNIT
    if part < n_parts:
        leave(sums_ptr + part * UNIT, largest, total, acc)
        tl.debug_barrier()
        arrived = tl.atomic_add(arrivals_ptr + mine, 1, sem="acq_rel", scope="gpu")
        if arrived == n_parts - 1:
            tl.store(arrivals_ptr + mine, 0)
            largest, total, acc = left(sums_ptr, BLOCK_H, BLOCK_D)
            for i in range(1, n_parts):
                next_largest, next_total, next_acc = left(sums_ptr + i * UNIT, BLOCK_H, BLOCK_D)
                largest, total, acc = merged(
                    largest, total, acc, next_largest, next_total, next_acc
                )
            store_group(out_ptr, out_stride, total, acc, n_heads, n_kv_heads, HEAD_DIM)


COUNTER_SHAPE = ("n_decodes", "n_kv_heads")
GRID = ("n_decodes", "n_kv_heads", "SPLITS")
DERIVES = (derived("BLOCK_H", "max(next_pow2(n_heads // n_kv_heads), 16)"),)
# xFormers asks the host for a number by batch and heads; this is one for all.
CHOICE = {"cpu": {"SPLITS": 4}, "cuda": {"SPLITS": 16}, "hip": {"SPLITS": 16}}
CHOICES = ({}, {"SPLITS": 1}, {"SPLITS": 3}, {"SPLITS": 16})
_MOST_SPLITS = 16


def memory_of(case, n_parts=_MOST_SPLITS, n_counters=1):
    """Room for the sums of so many programs, whatever the choice, and the counters at 0."""
    a = case.args
    n_seqs, n_kv_heads = max(a["n_decodes"], 1), a["n_kv_heads"]
    rows = max(a["n_heads"] // n_kv_heads * 2, 16)
    width = max(2 * case.constexprs["HEAD_DIM"], 16) + 2
    a["partial_ptr"] = filled(n_seqs, n_kv_heads, n_parts, rows * width)
    a["arrivals_ptr"] = np.zeros((n_seqs, n_kv_heads, n_counters), np.int32)
    case.dtypes.update({"partial_ptr": "fp32", "arrivals_ptr": "i32"})
    return case


SPEC = design_spec(
    split_k,
    "split-k",
    GRID,
    is_for_prompts=False,
    memory=(
        scratch("partial_ptr", "fp32", *COUNTER_SHAPE, "SPLITS", "BLOCK_H * (BLOCK_D + 2)"),
        counter("arrivals_ptr", "i32", *COUNTER_SHAPE),
    ),
    choice=CHOICE,
    derives=DERIVES,
    extra=memory_of,
    choices=CHOICES,
    expects=lambda a: {"arrivals_ptr": np.zeros_like(a["arrivals_ptr"])},
)
