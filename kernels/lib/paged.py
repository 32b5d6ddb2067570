"""What kernels share of the key-value cache: where a page of it lies, and what it holds of a
number; and attention's reference.

A cache of a floating-point type holds keys and values as they are. One of `fp8e4nv` holds them
divided by a scale, to the nearest number, of two the even one; what is too large is the largest,
448, and NaN stays NaN. The scales are two numbers of a layer. Keys' is a factor of the scores, and
so of attention's `scale`; values' is one of the result.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.attention_functions import kept, scored
from kernels.lib.function_text import TENSORS
from kernels.lib.numbers import rounded
from kernels.spec import FLOATS

CACHE_TYPES = (*FLOATS, "fp8e4nv")
LARGEST = tl.constexpr(448.0)  # of fp8e4nv


@triton.jit
def cached(x, scale, cache_ptr):
    """What the cache holds of x."""
    dtype: tl.constexpr = cache_ptr.dtype.element_ty
    if dtype == tl.float8e4nv:
        x = tl.div_rn(x.to(tl.float32), scale)
        # Not every target's conversion saturates.
        x = tl.clamp(x, -LARGEST, LARGEST, propagate_nan=tl.PropagateNan.ALL)
    return x.to(dtype)


@triton.jit
def of_cached(y, scale, cache_ptr):
    """Sums of what the cache holds to sums of what that stands for."""
    if cache_ptr.dtype.element_ty == tl.float8e4nv:
        y *= scale
    return y


def held(x, scale, dtype):
    """What the cache holds of x, for references."""
    x = np.asarray(x, np.float32)
    return rounded(x / np.float32(scale) if dtype == "fp8e4nv" else x, dtype)


@triton.jit
def page_row(block_table, start, kv_head, n_kv_heads, BLOCK_TOKENS: tl.constexpr):
    """Where token `start` of a sequence lies in the cache, in rows of a head. A tile of tokens that
    begins at a multiple of its own length never leaves its page."""
    block = tl.load(block_table + start // BLOCK_TOKENS).to(tl.int64)
    return (block * n_kv_heads + kv_head) * BLOCK_TOKENS + start % BLOCK_TOKENS


@triton.jit
def page_offset(
    block_table,
    start,
    kv_head,
    n_kv_heads,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """The same, in elements."""
    return page_row(block_table, start, kv_head, n_kv_heads, BLOCK_TOKENS) * HEAD_DIM


def attention_reference(a):
    """Attention of each sequence's newest tokens over its pages, in float64; causal unless there is
    a MASK; zeros for a token that sees no key."""
    tensors = {name: a.get(f"fn_{name}_ptr") for name in TENSORS}
    out_ptr = a["out_ptr"].copy()
    n_heads, n_kv_heads, dim = a["n_heads"], a["n_kv_heads"], a["HEAD_DIM"]
    for s in range(a.get("first_seq", 0), a["n_seqs"]):
        n_kv = int(a["context_lens_ptr"][s])
        if "cu_seqlens_ptr" in a:
            begin, end = (int(a["cu_seqlens_ptr"][s + i]) for i in (0, 1))
        else:
            begin, end = s, s + 1
        n_q = end - begin
        if n_kv == 0:
            out_ptr[begin:end, : n_heads * dim] = 0.0
            continue
        n_blocks = -(-n_kv // a["BLOCK_TOKENS"])
        blocks = a["block_tables_ptr"][s, :n_blocks]
        k, v = (
            np.moveaxis(a[name][blocks], 1, 0).reshape(n_kv_heads, -1, dim)[:, :n_kv]
            for name in ("k_cache_ptr", "v_cache_ptr")
        )
        q = a["q_ptr"][begin:end, : n_heads * dim].reshape(n_q, n_heads, dim).astype(np.float64)
        q_pos = np.arange(n_kv - n_q, n_kv)[:, None]
        k_pos = np.arange(n_kv)[None, :]
        tokens = np.arange(begin, end)
        seen = k_pos <= q_pos
        if a["window"] > 0:
            seen &= k_pos > q_pos - a["window"]
        for h in range(n_heads):
            kv = h * n_kv_heads // n_heads
            score = q[:, h] @ k[kv].astype(np.float64).T * a["scale"]
            if a["HAS_SOFTCAP"]:
                score = a["softcap"] * np.tanh(score / a["softcap"])
            at = (s, h, tokens, q_pos, k_pos)
            if a.get("SCORE"):
                score = scored(a["SCORE"], score, at, tensors)
            if a.get("MASK"):
                seen = kept(a["MASK"], at, tensors)
            score = np.where(seen, score, -np.inf)
            if a.get("HAS_SINKS"):
                sink = np.full((n_q, 1), a["sinks_ptr"][h], np.float64)
                score = np.concatenate([score, sink], axis=1)
            largest = score.max(axis=1, keepdims=True)
            p = np.exp(score - np.where(np.isinf(largest), 0.0, largest))
            p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            p = p[:, :n_kv]  # a sink has no value
            y = p @ v[kv].astype(np.float64)
            out_ptr[begin:end, h * dim : (h + 1) * dim] = y * a.get("v_scale", 1.0)
    return {"out_ptr": out_ptr}
