"""What the two attention kernels share: finding pages, masks, the soft cap; and their reference."""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import Case, filled, normal, rng


@triton.jit
def soft_cap(x, cap):
    """cap * tanh(x / cap). tanh by exp: libdevice exists on one target only."""
    return cap * (1.0 - 2.0 / (1.0 + tl.exp(2.0 * x / cap)))


# The online softmax of all attention kernels. A score that may not be seen is minus infinity, and a
# row that has seen nothing yet has that as its largest: infinities stay what they are under every
# rounding, where a large number in their place does not.


@triton.jit
def exponent_base(largest):
    """What is taken from scores before exp2: the largest, or 0 where nothing was seen yet, so that
    exp2(-inf - base) is 0 and never NaN."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def normalised(acc, total):
    """acc / total; zeros where nothing was seen at all."""
    return acc / tl.where(total == 0.0, 1.0, total)


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
    """Causal attention of each sequence's newest tokens over its pages, in float64; zeros for a
    token that sees no key."""
    out_ptr = a["out_ptr"].copy()
    n_heads, n_kv_heads, dim = a["n_heads"], a["n_kv_heads"], a["HEAD_DIM"]
    for s in range(a["n_seqs"]):
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
        seen = k_pos <= q_pos
        if a["window"] > 0:
            seen &= k_pos > q_pos - a["window"]
        for h in range(n_heads):
            kv = h * n_kv_heads // n_heads
            score = q[:, h] @ k[kv].astype(np.float64).T * a["scale"]
            if a["HAS_SOFTCAP"]:
                score = a["softcap"] * np.tanh(score / a["softcap"])
            score = np.where(seen, score, -np.inf)
            largest = score.max(axis=1, keepdims=True)
            p = np.exp(score - np.where(np.isinf(largest), 0.0, largest))
            p /= np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
            out_ptr[begin:end, h * dim : (h + 1) * dim] = p @ v[kv].astype(np.float64)
    return {"out_ptr": out_ptr}


def attention_case(
    name,
    sequences,
    n_heads,
    n_kv_heads,
    head_dim,
    *,
    act,
    decode=False,
    cache="fp16",
    window=0,
    softcap=0.0,
    block=64,
    pad=0,
    q_std=1.0,
):
    """`sequences`: (new tokens, context length with them) each; pages are scattered over the cache,
    and what no sequence owns is NaN."""
    g = rng(name)
    n_tokens = sum(n_q for n_q, _ in sequences)
    pages = [-(-n_kv // block) for _, n_kv in sequences]
    n_blocks = sum(pages) + 2
    order = g.permutation(n_blocks)
    tables = np.full((len(sequences), max([*pages, 1]) + 1), -1, np.int32)
    caches = [np.full((n_blocks, n_kv_heads, block, head_dim), np.nan, np.float32) for _ in "kv"]
    for s, (_, n_kv) in enumerate(sequences):
        mine = order[sum(pages[:s]) : sum(pages[: s + 1])]
        tables[s, : len(mine)] = mine
        for pos in range(n_kv):
            for array in caches:
                array[mine[pos // block], :, pos % block] = normal(g, n_kv_heads, head_dim)
    width = n_heads * head_dim + pad
    args = {
        "out_ptr": filled(n_tokens + 1, width),
        "q_ptr": normal(g, max(n_tokens, 1), width, std=q_std),
        "k_cache_ptr": caches[0],
        "v_cache_ptr": caches[1],
        "block_tables_ptr": tables,
        "context_lens_ptr": np.array([n_kv for _, n_kv in sequences], np.int32),
        "n_seqs": len(sequences),
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "max_blocks": tables.shape[1],
        "window": window,
        "out_stride": width,
        "q_stride": width,
        "scale": head_dim**-0.5,
        "softcap": softcap,
    }
    if not decode:
        starts = np.cumsum([0] + [n_q for n_q, _ in sequences])
        args["cu_seqlens_ptr"] = starts.astype(np.int32)
        args["max_q_len"] = max(n_q for n_q, _ in sequences)
    dtypes = {
        "out_ptr": act,
        "q_ptr": act,
        "k_cache_ptr": cache,
        "v_cache_ptr": cache,
        "block_tables_ptr": "i32",
        "cu_seqlens_ptr": "i32",
        "context_lens_ptr": "i32",
    }
    constexprs = {
        "HEAD_DIM": head_dim,
        "BLOCK_TOKENS": block,
        "HAS_SOFTCAP": int(softcap > 0),
    }
    return Case(name, args, {k: v for k, v in dtypes.items() if k in args}, constexprs)
