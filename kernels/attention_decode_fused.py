"""One query token a sequence, from packed queries, keys and values to the attention's output: of
those of a step that decode, its first.

    q, k = turn(norm_q(x[s, h])), turn(norm_k(x[s, Hq + g])),  v = x[s, Hq + Hkv + g],  x = qkv
    k_cache, v_cache at slots[s] = k, v (a negative slot: not written)
    out[s, h] = softmax_j(cap(q[h] . k_j * scale)) v_j,  j < context_lens[s], the newest: k, v
    and j >= context_lens[s] - window where window > 0; a context of 0 gives zeros

out [S, Hq, Dh], qkv [S, Hq + 2 Hkv, Dh] with row strides; caches [n_blocks, Hkv, BLOCK_TOKENS, Dh],
of 8 bits with k_scale, which is in `scale` too, and v_scale (lib/paged.py); norms [Dh]
(HAS_QK_NORM); inv_freq [Dh/2] fp32 with every scaling. The newest key and value come from
registers, rounded as the cache has them. Softmax and sums: fp32, no `tl.dot`.
Grid: (S, Hq / HEADS). For a CPU's cores; on a GPU attention_decode_split.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.attention import LOG2E, attend_tile, capped, from_first, normalised
from kernels.lib.numbers import rounded
from kernels.lib.paged import CACHE_TYPES, cached, held, of_cached, page_offset
from kernels.lib.paged_cases import draw_fused, fused_case
from kernels.lib.rope import head_norm, rope_factors, rope_reference, turn
from kernels.spec import (
    FLOATS,
    Spec,
    derived,
    given,
    inout,
    inp,
    out,
    scalar,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def attention_decode_fused(
    out_ptr,
    k_cache_ptr,
    v_cache_ptr,
    qkv_ptr,
    q_norm_ptr,
    k_norm_ptr,
    positions_ptr,
    inv_freq_ptr,
    slots_ptr,
    block_tables_ptr,
    context_lens_ptr,
    n_seqs,
    n_heads,
    n_kv_heads,
    max_blocks,
    window,
    out_stride,
    qkv_stride,
    scale,
    softcap,
    qk_eps,
    k_scale,
    v_scale,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_QK_NORM: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    SCORE: tl.constexpr = capped if HAS_SOFTCAP else None
    MASK: tl.constexpr = from_first
    HALF: tl.constexpr = HEAD_DIM // 2
    seq = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS
    group = n_heads // n_kv_heads
    kv_head = head // group
    context = tl.load(context_lens_ptr + seq)
    block_table = block_tables_ptr + seq * max_blocks
    factor = scale * LOG2E if SCORE is None else scale

    # Old keys: all but the newest token's, which is not read from the cache.
    n_old = context - 1
    begin = tl.where(window > 0, tl.maximum(context - window, 0), 0)
    has_newest = context > 0
    params = (begin, softcap)

    half = tl.arange(0, BLOCK_HALF)
    offs_d = tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    cos, sin = rope_factors(tl.load(positions_ptr + seq), inv_freq_ptr, half, HALF)
    slot = tl.load(slots_ptr + seq).to(tl.int64)

    # The newest key and value.
    row = qkv_ptr + seq * qkv_stride
    k_at = row + (n_heads + kv_head) * HEAD_DIM
    mask_half = half < HALF
    mask_d = offs_d < HEAD_DIM
    x1 = tl.load(k_at + half, mask=mask_half, other=0.0).to(tl.float32)
    x2 = tl.load(k_at + HALF + half, mask=mask_half, other=0.0).to(tl.float32)
    new_v = tl.load(k_at + n_kv_heads * HEAD_DIM + offs_d, mask=mask_d, other=0.0)
    if HAS_QK_NORM:
        n1, n2 = head_norm(x1[None, :], x2[None, :], k_norm_ptr, half, HALF, qk_eps)
        x1 = tl.sum(n1, axis=0)
        x2 = tl.sum(n2, axis=0)
    x1, x2 = turn(x1, x2, cos, sin)
    # As wide as the operations on their own would have left them.
    new_k1 = cached(x1.to(qkv_ptr.dtype.element_ty), k_scale, k_cache_ptr)
    new_k2 = cached(x2.to(qkv_ptr.dtype.element_ty), k_scale, k_cache_ptr)
    new_v = cached(new_v, v_scale, v_cache_ptr)
    is_writer = (slot >= 0) & has_newest & (head % group == 0)
    n_half = tl.where(is_writer, HALF, 0)
    n_d = tl.where(is_writer, HEAD_DIM, 0)
    page = ((slot // BLOCK_TOKENS) * n_kv_heads + kv_head) * BLOCK_TOKENS + slot % BLOCK_TOKENS
    page *= HEAD_DIM
    tl.store(k_cache_ptr + page + half, new_k1, mask=half < n_half)
    tl.store(k_cache_ptr + page + HALF + half, new_k2, mask=half < n_half)
    tl.store(v_cache_ptr + page + offs_d, new_v, mask=offs_d < n_d)
    new_k1 = new_k1.to(tl.float32)
    new_k2 = new_k2.to(tl.float32)
    new_v = new_v.to(tl.float32)
    out_at = out_ptr + seq * out_stride + head * HEAD_DIM

    queries = ()
    states = ()
    for i in tl.static_range(HEADS):
        q_at = row + (head + i) * HEAD_DIM + half
        x1 = tl.load(q_at, mask=mask_half, other=0.0).to(tl.float32)
        x2 = tl.load(q_at + HALF, mask=mask_half, other=0.0).to(tl.float32)
        if HAS_QK_NORM:
            n1, n2 = head_norm(x1[None, :], x2[None, :], q_norm_ptr, half, HALF, qk_eps)
            x1 = tl.sum(n1, axis=0)
            x2 = tl.sum(n2, axis=0)
        x1, x2 = turn(x1, x2, cos, sin)
        x1 = x1.to(qkv_ptr.dtype.element_ty).to(tl.float32) * factor
        x2 = x2.to(qkv_ptr.dtype.element_ty).to(tl.float32) * factor
        new_score = tl.sum(x1 * new_k1, axis=0) + tl.sum(x2 * new_k2, axis=0)
        if SCORE is not None:
            new_score = SCORE(new_score, (seq, head + i, seq, n_old, n_old), params) * LOG2E
        queries = queries + ((x1, x2),)
        largest = tl.where(has_newest, new_score, float("-inf"))
        total = tl.where(has_newest, 1.0, 0.0)
        states = states + ((largest, total, tl.where(has_newest, new_v, 0.0)),)
    for tile in range(begin // BLOCK_N * BLOCK_N, n_old, BLOCK_N):
        k_pos = tile + rows
        tile_page = page_offset(block_table, tile, kv_head, n_kv_heads, HEAD_DIM, BLOCK_TOKENS)
        mask_n = k_pos[:, None] < n_old
        mask_k = mask_n if BLOCK_HALF == HALF else mask_n & mask_half[None, :]
        mask_v = mask_n if BLOCK_D == HEAD_DIM else mask_n & mask_d[None, :]
        old_k = k_cache_ptr + tile_page + rows[:, None] * HEAD_DIM + half[None, :]
        old_v = v_cache_ptr + tile_page + rows[:, None] * HEAD_DIM + offs_d[None, :]
        old_k1 = tl.load(old_k, mask=mask_k, other=0.0).to(tl.float32)
        old_k2 = tl.load(old_k + HALF, mask=mask_k, other=0.0).to(tl.float32)
        old_v = tl.load(old_v, mask=mask_v, other=0.0).to(tl.float32)
        new_states = ()
        for i in tl.static_range(HEADS):
            score = tl.sum(old_k1 * queries[i][0][None, :], axis=1)
            score += tl.sum(old_k2 * queries[i][1][None, :], axis=1)
            at = (seq, head + i, seq, n_old, k_pos)
            new_states = new_states + (attend_tile(
                states[i], score, old_v, at, k_pos < n_old, params, 1.0, tl.float32, SCORE, MASK
            ),)  # fmt: skip
        states = new_states
    for i in tl.static_range(HEADS):
        y = of_cached(normalised(states[i][2], states[i][1]), v_scale, v_cache_ptr)
        y = y.to(out_ptr.dtype.element_ty)
        tl.store(out_at + i * HEAD_DIM + offs_d, y, mask=mask_d)


def reference(a):
    """In float64; keys and values rounded as the cache has them."""
    n_heads, n_kv_heads, dim = a["n_heads"], a["n_kv_heads"], a["HEAD_DIM"]
    out_ptr, k_cache, v_cache = (a[n].copy() for n in ("out_ptr", "k_cache_ptr", "v_cache_ptr"))
    norms = (a["q_norm_ptr"], a["k_norm_ptr"]) if a["HAS_QK_NORM"] else (None, None)
    block_tokens = a["BLOCK_TOKENS"]
    for s in range(a["n_seqs"]):
        n_kv, slot = int(a["context_lens_ptr"][s]), int(a["slots_ptr"][s])
        if n_kv == 0:
            out_ptr[s, : n_heads * dim] = 0.0
            continue
        heads = a["qkv_ptr"][s, : (n_heads + 2 * n_kv_heads) * dim].reshape(-1, dim)
        q, new_k, new_v = np.split(heads, [n_heads, n_heads + n_kv_heads])
        q, new_k = (
            rope_reference(x, a["positions_ptr"][s], a["inv_freq_ptr"], norm, a["qk_eps"])
            for x, norm in zip((q, new_k), norms)
        )
        q, new_k = (rounded(x.astype(np.float32), a["dtypes"]["qkv_ptr"]) for x in (q, new_k))
        new_k = held(new_k, a["k_scale"], a["dtypes"]["k_cache_ptr"])
        new_v = held(new_v, a["v_scale"], a["dtypes"]["v_cache_ptr"])
        blocks = a["block_tables_ptr"][s, : -(-n_kv // block_tokens)]
        k, v = (
            np.moveaxis(cache[blocks], 1, 0).reshape(n_kv_heads, -1, dim)[:, :n_kv].copy()
            for cache in (a["k_cache_ptr"], a["v_cache_ptr"])
        )
        k[:, n_kv - 1], v[:, n_kv - 1] = new_k, new_v
        if slot >= 0:
            block, offset = divmod(slot, block_tokens)
            k_cache[block, :, offset], v_cache[block, :, offset] = new_k, new_v
        oldest = max(n_kv - a["window"], 0) if a["window"] > 0 else 0
        for h in range(n_heads):
            kv = h * n_kv_heads // n_heads
            score = k[kv, oldest:].astype(np.float64) @ q[h] * a["scale"]
            if a["HAS_SOFTCAP"]:
                score = a["softcap"] * np.tanh(score / a["softcap"])
            p = np.exp(score - score.max())
            y = p / p.sum() @ v[kv, oldest:].astype(np.float64)
            out_ptr[s, h * dim : (h + 1) * dim] = y * a["v_scale"]
    return {
        "out_ptr": out_ptr,
        "k_cache_ptr": k_cache,
        "v_cache_ptr": v_cache,
    }


def cases(act):
    case = partial(fused_case, act=act)
    yield case("demo", [200], 6, 2, 64)
    yield case("batch", [1, 64, 65, 0, 300, 127, 2], 6, 2, 64)
    yield case("beside_prompts", [70, 5, 200, 33], 6, 2, 64, n_others=2)
    yield case("no_decodes", [70, 5], 6, 2, 64, n_others=2)
    yield case("no_slot", [70, 5], 6, 2, 64, no_slot=(1,))
    yield case("norm", [100, 33], 16, 8, 128, norm=True)
    yield case("window", [10, 100, 250], 4, 2, 64, window=48)
    yield case("window_one", [70, 64, 65, 200], 4, 2, 48, window=1, std=30.0)
    yield case("contexts_of_nothing", [0, 0], 4, 2, 64)
    yield case("window_wide", [90], 4, 4, 64, window=4096)
    yield case("softcap", [70, 5], 4, 2, 64, softcap=5.0, std=3.0)
    yield case("heads_80", [33, 75], 4, 2, 80, pad=16)
    yield case("heads_96", [65], 3, 1, 96, norm=True)
    for head_dim in (160, 192, 256, 512):  # several strips of registers
        yield case(f"heads_{head_dim}", [70, 3], 2, 1, head_dim)
    yield case("heads_16", [40], 4, 2, 16, block=16)
    yield case("llama3_8b", [100, 641], 32, 8, 128)
    yield case("long", [1500], 8, 2, 64)
    yield case("seven_heads_a_group", [130], 14, 2, 64)
    yield case("multi_query", [70], 32, 1, 128)
    yield case("bf16_cache", [70], 8, 2, 64, cache="bf16")
    yield case("block_16", [50, 16], 2, 2, 64, block=16)
    yield case("bf16", [44], 6, 2, 64, act="bf16", cache="bf16", norm=True)
    yield case("half", [44], 6, 2, 64, act="fp16")
    yield case("fp8_cache", [70, 1, 65], 6, 2, 64, cache="fp8e4nv", first=0, scales=(0.01, 3.0))


def draw(d, act):
    return draw_fused(d, act, ({}, {"HEADS": 1}, {"HEADS": "group"}))


_GPU = {
    # All heads of a group where they are few enough to unroll.
    "HEADS": "n_heads // n_kv_heads if n_heads // n_kv_heads <= 8 else 1",
    "BLOCK_N": "min(BLOCK_TOKENS, 64)",
    "num_warps": 4,
    "num_stages": 1,
}
_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=attention_decode_fused,
    op="rope_attention",
    when="decode and not gpu",
    params=(
        out("out_ptr", FLOATS, "n_seqs", "out_stride"),
        inout("k_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inout("v_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inp("qkv_ptr", FLOATS, "n_seqs", "qkv_stride"),
        inp("q_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("k_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("positions_ptr", "i32", "n_seqs"),
        inp("inv_freq_ptr", "fp32", "HEAD_DIM // 2"),
        inp("slots_ptr", ("i32", "i64"), "n_seqs"),
        inp("block_tables_ptr", "i32", "n_seqs", "max_blocks"),
        inp("context_lens_ptr", "i32", "n_seqs"),
        step_size("n_seqs", of="step.decodes"),
        size("n_heads", of="@heads"),
        size("n_kv_heads", of="k_cache[1]"),
        step_size("max_blocks", of="block_tables[1]"),
        size("window", of="@window"),
        stride("out_stride"),
        stride("qkv_stride"),
        scalar("scale"),
        scalar("softcap"),
        scalar("qk_eps", of="@eps"),
        scalar("k_scale"),
        scalar("v_scale"),
        given("HEAD_DIM", of="k_cache[3]"),
        given("BLOCK_TOKENS", of="k_cache[2]"),
        given("HAS_SOFTCAP", of="@softcap != 0"),
        given("HAS_QK_NORM", of="has(q_norm)"),
        tuned("HEADS"),
        tuned("BLOCK_N"),
        derived("BLOCK_HALF", "next_pow2(HEAD_DIM // 2)"),
        derived("BLOCK_D", "max(next_pow2(HEAD_DIM), 16)"),
    ),
    grid=("n_seqs", "n_heads // HEADS", "1"),
    # An upper bound from what the launch knows: every page of every block table is read.
    bytes="n_seqs * HEAD_DIM * (n_heads * (sizeof(out_ptr) + sizeof(qkv_ptr))"
    " + n_kv_heads * (2 * sizeof(qkv_ptr)"
    " + max_blocks * BLOCK_TOKENS * (sizeof(k_cache_ptr) + sizeof(v_cache_ptr))))",
    flops="4 * n_seqs * n_heads * max_blocks * BLOCK_TOKENS * HEAD_DIM",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HEADS", "BLOCK_N"),
    default={
        # A head a program: work for every core, and a third of the instructions, which each launch
        # fetches from memory again after a layer's weights have gone through the caches.
        "cpu": {
            "HEADS": 1,
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": _GPU,
        "hip": _GPU,
    },
)
