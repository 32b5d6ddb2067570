"""Packed queries, keys and values to turned queries and the paged cache, in one pass.

    q[t, h] = turn(norm_q(x[t, h])),  x = qkv
    k_cache[slot // B, g, slot % B] = turn(norm_k(x[t, Hq + g])),  slot = slots[t]
    v_cache[slot // B, g, slot % B] = x[t, Hq + Hkv + g]

q [T, Hq, Dh] with a token stride; qkv [T, Hq + 2 Hkv, Dh] with a token stride, and never q;
caches [n_blocks, Hkv, B, Dh] with B = BLOCK_TOKENS; norms [Dh] (HAS_QK_NORM, else x as it is);
inv_freq [Dh/2] fp32 with every scaling. A negative slot is not written.
Grid: one program a token. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.rope import head_norm, inverse_frequencies, rope_factors, rope_reference, turn
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    given,
    inout,
    inp,
    normal,
    out,
    rng,
    scalar,
    size,
    step_size,
    stride,
)


@triton.jit
def rope_kv_write(
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    qkv_ptr,
    q_norm_ptr,
    k_norm_ptr,
    positions_ptr,
    inv_freq_ptr,
    slots_ptr,
    n_tokens,
    n_heads,
    n_kv_heads,
    q_stride,
    qkv_stride,
    qk_eps,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    HAS_QK_NORM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_KV: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    HALF: tl.constexpr = HEAD_DIM // 2
    token = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK_HALF)
    cos, sin = rope_factors(tl.load(positions_ptr + token), inv_freq_ptr, lane, HALF)
    row = qkv_ptr + token * qkv_stride

    heads = tl.arange(0, BLOCK_Q)[:, None]
    mask = (heads < n_heads) & (lane[None, :] < HALF)
    at = heads * HEAD_DIM + lane[None, :]
    x1 = tl.load(row + at, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(row + at + HALF, mask=mask, other=0.0).to(tl.float32)
    if HAS_QK_NORM:
        x1, x2 = head_norm(x1, x2, q_norm_ptr, lane, HALF, qk_eps)
    y1, y2 = turn(x1, x2, cos[None, :], sin[None, :])
    target = q_ptr + token * q_stride + at
    tl.store(target, y1.to(q_ptr.dtype.element_ty), mask=mask)
    tl.store(target + HALF, y2.to(q_ptr.dtype.element_ty), mask=mask)

    slot = tl.load(slots_ptr + token).to(tl.int64)
    # No head is written where the slot is negative; the mask stays a plain bound.
    n_written = tl.where(slot >= 0, n_kv_heads, 0)
    kv_heads = tl.arange(0, BLOCK_KV)[:, None]
    mask = (kv_heads < n_written) & (lane[None, :] < HALF)
    k_row = row + n_heads * HEAD_DIM
    at = kv_heads * HEAD_DIM + lane[None, :]
    x1 = tl.load(k_row + at, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(k_row + at + HALF, mask=mask, other=0.0).to(tl.float32)
    if HAS_QK_NORM:
        x1, x2 = head_norm(x1, x2, k_norm_ptr, lane, HALF, qk_eps)
    y1, y2 = turn(x1, x2, cos[None, :], sin[None, :])
    # As wide as the operation on its own would have left them.
    y1 = y1.to(qkv_ptr.dtype.element_ty)
    y2 = y2.to(qkv_ptr.dtype.element_ty)
    page = (slot // BLOCK_TOKENS) * n_kv_heads * BLOCK_TOKENS * HEAD_DIM
    page += (slot % BLOCK_TOKENS) * HEAD_DIM
    target = k_cache_ptr + page + kv_heads * BLOCK_TOKENS * HEAD_DIM + lane[None, :]
    tl.store(target, y1.to(k_cache_ptr.dtype.element_ty), mask=mask)
    tl.store(target + HALF, y2.to(k_cache_ptr.dtype.element_ty), mask=mask)

    offs = tl.arange(0, BLOCK_D)[None, :]
    mask = (kv_heads < n_written) & (offs < HEAD_DIM)
    v_row = k_row + n_kv_heads * HEAD_DIM
    v = tl.load(v_row + kv_heads * HEAD_DIM + offs, mask=mask, other=0.0)
    target = v_cache_ptr + page + kv_heads * BLOCK_TOKENS * HEAD_DIM + offs
    tl.store(target, v.to(v_cache_ptr.dtype.element_ty), mask=mask)


def reference(a):
    n_heads, n_kv_heads, dim = a["n_heads"], a["n_kv_heads"], a["HEAD_DIM"]
    q_ptr, k_cache, v_cache = (a[n].copy() for n in ("q_ptr", "k_cache_ptr", "v_cache_ptr"))
    norms = (a["q_norm_ptr"], a["k_norm_ptr"]) if a["HAS_QK_NORM"] else (None, None)
    for token in range(a["n_tokens"]):
        width = (n_heads + 2 * n_kv_heads) * dim
        heads = a["qkv_ptr"][token, :width].reshape(-1, dim)
        q, k, v = np.split(heads, [n_heads, n_heads + n_kv_heads])
        q, k = (
            rope_reference(x, a["positions_ptr"][token], a["inv_freq_ptr"], norm, a["qk_eps"])
            for x, norm in zip((q, k), norms)
        )
        q_ptr[token, : n_heads * dim] = q.reshape(-1)
        slot = int(a["slots_ptr"][token])
        if slot >= 0:
            block, offset = divmod(slot, a["BLOCK_TOKENS"])
            k_cache[block, :, offset] = k
            v_cache[block, :, offset] = v
    return {"q_ptr": q_ptr, "k_cache_ptr": k_cache, "v_cache_ptr": v_cache}


def cases(act):
    def case(
        name, n_tokens, n_heads, n_kv_heads, dim, *, act=act, cache="fp16", block=64, norm=False,
        pad=0, skip=0, first=0,
    ):  # fmt: skip
        g = rng(name)
        n_blocks = n_tokens // block + 2
        slots = g.permutation(n_blocks * block)[:n_tokens].astype(np.int32)
        slots[:skip] = -1
        width = (n_heads + 2 * n_kv_heads) * dim + pad
        return Case(
            name,
            {
                "q_ptr": filled(n_tokens + 1, n_heads * dim + 2 * pad),
                "k_cache_ptr": filled(n_blocks, n_kv_heads, block, dim),
                "v_cache_ptr": filled(n_blocks, n_kv_heads, block, dim, value=-3.0),
                "qkv_ptr": normal(g, n_tokens, width),
                "q_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
                "k_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
                "positions_ptr": np.arange(first, first + n_tokens, dtype=np.int32),
                "inv_freq_ptr": inverse_frequencies(dim),
                "slots_ptr": slots,
                "n_tokens": n_tokens,
                "n_heads": n_heads,
                "n_kv_heads": n_kv_heads,
                "q_stride": n_heads * dim + 2 * pad,
                "qkv_stride": width,
                "qk_eps": 1e-6,
            },
            {
                "q_ptr": act,
                "k_cache_ptr": cache,
                "v_cache_ptr": cache,
                "qkv_ptr": act,
                "q_norm_ptr": "fp16",
                "k_norm_ptr": "fp16",
                "positions_ptr": "i32",
                "inv_freq_ptr": "fp32",
                "slots_ptr": "i32",
            },
            {"HEAD_DIM": dim, "BLOCK_TOKENS": block, "HAS_QK_NORM": int(norm)},
        )

    yield case("demo", 44, 6, 2, 64)
    yield case("llama3_8b", 5, 32, 8, 128, first=8000)
    yield case("padding_rows", 7, 6, 2, 64, skip=3)
    yield case("norm", 9, 16, 8, 128, norm=True)
    yield case("heads_80", 3, 3, 1, 80, pad=8, first=100)
    yield case("heads_96", 4, 5, 5, 96, norm=True, pad=4)
    yield case("heads_16", 6, 4, 2, 16, block=16)
    yield case("seven_heads_a_group", 3, 14, 2, 64)
    yield case("multi_query", 2, 32, 1, 128)
    yield case("bf16_cache", 3, 4, 2, 64, cache="bf16")
    yield case("half", 3, 6, 2, 64, act="fp16", norm=True)
    yield case("bf16", 3, 6, 2, 64, act="bf16", cache="bf16")


_CACHE_SHAPE = ("n_tokens", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=rope_kv_write,
    params=(
        out("q_ptr", FLOATS, "n_tokens", "q_stride"),
        inout("k_cache_ptr", FLOATS, *_CACHE_SHAPE),
        inout("v_cache_ptr", FLOATS, *_CACHE_SHAPE),
        inp("qkv_ptr", FLOATS, "n_tokens", "qkv_stride"),
        inp("q_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("k_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("positions_ptr", "i32", "n_tokens"),
        inp("inv_freq_ptr", "fp32", "HEAD_DIM // 2"),
        inp("slots_ptr", ("i32", "i64"), "n_tokens"),
        step_size("n_tokens"),
        size("n_heads"),
        size("n_kv_heads"),
        stride("q_stride"),
        stride("qkv_stride"),
        scalar("qk_eps"),
        given("HEAD_DIM"),
        given("BLOCK_TOKENS"),
        given("HAS_QK_NORM"),
        derived("BLOCK_Q", "next_pow2(n_heads)"),
        derived("BLOCK_KV", "next_pow2(n_kv_heads)"),
        derived("BLOCK_HALF", "next_pow2(HEAD_DIM // 2)"),
        derived("BLOCK_D", "next_pow2(HEAD_DIM)"),
    ),
    grid=("n_tokens", "1", "1"),
    bytes="n_tokens * HEAD_DIM * (n_heads * (sizeof(q_ptr) + sizeof(qkv_ptr))"
    " + n_kv_heads * (2 * sizeof(qkv_ptr) + sizeof(k_cache_ptr) + sizeof(v_cache_ptr)))",
    flops="3 * n_tokens * (n_heads + n_kv_heads) * HEAD_DIM",
    reference=reference,
    cases=cases,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 4, "num_stages": 1},
    },
)
