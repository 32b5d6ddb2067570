"""Packed queries, keys and values to turned queries and the paged cache, in one pass.

    q[t, h] = turn(norm_q(x[t, h])),  x = qkv
    k_cache[slot // B, g, slot % B] = turn(norm_k(x[t, Hq + g])),  slot = slots[t]
    v_cache[slot // B, g, slot % B] = x[t, Hq + Hkv + g]

q [T, Hq, Dh] with a token stride; qkv [T, Hq + 2 Hkv, Dh] with a token stride, and never q;
caches [n_blocks, Hkv, B, Dh] with B = BLOCK_TOKENS, of 8 bits divided by k_scale and v_scale
(lib/paged.py); norms [Dh] (HAS_QK_NORM, else x as it is); inv_freq [Dh/2] fp32 with every scaling.
A negative slot is not written.
Grid: one program a token. Arithmetic: fp32.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.numbers import rounded
from kernels.lib.paged import CACHE_TYPES, cached, held
from kernels.lib.paged_cases import draw_cache, scales_of
from kernels.lib.rope import head_norm, inverse_frequencies, rope_factors, rope_reference, turn
from kernels.spec import (
    FLOATS,
    TOLERANCE,
    Case,
    Spec,
    derived,
    filled,
    given,
    inout,
    inp,
    normal,
    out,
    padded,
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
    k_scale,
    v_scale,
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
    tl.store(target, cached(y1, k_scale, k_cache_ptr), mask=mask)
    tl.store(target + HALF, cached(y2, k_scale, k_cache_ptr), mask=mask)

    offs = tl.arange(0, BLOCK_D)[None, :]
    mask = (kv_heads < n_written) & (offs < HEAD_DIM)
    v_row = k_row + n_kv_heads * HEAD_DIM
    v = tl.load(v_row + kv_heads * HEAD_DIM + offs, mask=mask, other=0.0)
    target = v_cache_ptr + page + kv_heads * BLOCK_TOKENS * HEAD_DIM + offs
    tl.store(target, cached(v, v_scale, v_cache_ptr), mask=mask)


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
            k = rounded(k.astype(np.float32), a["dtypes"]["qkv_ptr"])
            k_cache[block, :, offset] = held(k, a["k_scale"], a["dtypes"]["k_cache_ptr"])
            v_cache[block, :, offset] = held(v, a["v_scale"], a["dtypes"]["v_cache_ptr"])
    return {"q_ptr": q_ptr, "k_cache_ptr": k_cache, "v_cache_ptr": v_cache}


def make_case(
    name, n_tokens, n_heads, n_kv_heads, dim, *, act, cache="fp16", block=64, norm=False, pad=0,
    q_pad=None, skip=0, first=0, q=None, slot="i32", norm_type="fp16", std=1.0, theta=10000.0,
    scales=None,
):  # fmt: skip
    g = rng(name)
    n_blocks = n_tokens // block + 2
    slots = g.permutation(n_blocks * block)[: n_tokens + 1].astype(np.int64)
    slots[:skip] = -1
    width = (n_heads + 2 * n_kv_heads) * dim
    q_pad = 2 * pad if q_pad is None else q_pad
    # Keys take the width of activations before that of the cache: as coarse as the coarser.
    coarsest = max(TOLERANCE[act], TOLERANCE[cache])
    unit = 1.0 if norm else std
    scale = scales_of(cache, scales)
    return Case(
        name,
        {
            "q_ptr": filled(n_tokens + 1, n_heads * dim + q_pad),
            "k_cache_ptr": filled(n_blocks, n_kv_heads, block, dim),
            "v_cache_ptr": filled(n_blocks, n_kv_heads, block, dim, value=-3.0),
            "qkv_ptr": padded(g, n_tokens, width, pad, std=std),
            "q_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
            "k_norm_ptr": 1.0 + normal(g, dim, std=0.2) if norm else None,
            "positions_ptr": np.arange(first, first + n_tokens + 1, dtype=np.int32),
            "inv_freq_ptr": inverse_frequencies(dim, theta),
            "slots_ptr": slots,
            "n_tokens": n_tokens,
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "q_stride": n_heads * dim + q_pad,
            "qkv_stride": width + pad,
            "qk_eps": 1e-6,
            **scale,
        },
        {
            "q_ptr": q or act,
            "k_cache_ptr": cache,
            "v_cache_ptr": cache,
            "qkv_ptr": act,
            "q_norm_ptr": norm_type,
            "k_norm_ptr": norm_type,
            "positions_ptr": "i32",
            "inv_freq_ptr": "fp32",
            "slots_ptr": slot,
        },
        {"HEAD_DIM": dim, "BLOCK_TOKENS": block, "HAS_QK_NORM": int(norm)},
        units={
            "q_ptr": unit,
            "k_cache_ptr": unit / scale["k_scale"],
            "v_cache_ptr": std / scale["v_scale"],
        },
        tolerance={"k_cache_ptr": coarsest, "v_cache_ptr": 0.0},
    )


def cases(act):
    case = partial(make_case, act=act)
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
    yield case("fp8_cache", 3, 4, 2, 64, cache="fp8e4nv", norm=True, scales=(0.02, 0.004))


def draw(d, act):
    v = d.variant
    act, norm, block = d.types(act), v.chance(0.5), v.of(16, 64)
    dim = d.turn(16, 18, 48, 50, 64, 80, 100, 120, 128, 130, 192, 256)
    n_heads, n_kv_heads = v.of((1, 1), (4, 2), (3, 1), (6, 2), (7, 1), (2, 2), (16, 2))
    width = (n_heads + 2 * n_kv_heads) * dim
    std = d.case.of(1.0, 1.0, 100.0, 2.0**-20)
    n_tokens = d.rows(max(1, min(40, 8000 // width)), tile=block)
    cache, scales = draw_cache(d)
    case = make_case(
        d.name, n_tokens, n_heads, n_kv_heads, dim,
        act=act, cache=cache, scales=scales, block=block, norm=norm, pad=d.gap(width, n_tokens),
        q_pad=d.gap(n_heads * dim, n_tokens), skip=d.case.of(0, 0, 1, 2),
        first=d.case.of(0, 1, 4095, 131000), q=d.types(act), slot=v.of("i32", "i64"),
        norm_type=d.types("fp16"), std=std, theta=d.case.of(10000.0, 1e6),
    )  # fmt: skip
    d.season(case.args["qkv_ptr"][:, :width], std)
    return case


_CACHE_SHAPE = ("n_tokens", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=rope_kv_write,
    op="rope_kv_write",
    params=(
        out("q_ptr", FLOATS, "n_tokens", "q_stride"),
        inout("k_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inout("v_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inp("qkv_ptr", FLOATS, "n_tokens", "qkv_stride"),
        inp("q_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("k_norm_ptr", FLOATS, "HEAD_DIM"),
        inp("positions_ptr", "i32", "n_tokens"),
        inp("inv_freq_ptr", "fp32", "HEAD_DIM // 2"),
        inp("slots_ptr", ("i32", "i64"), "n_tokens"),
        step_size("n_tokens", of="qkv[0]"),
        size("n_heads", of="@heads"),
        size("n_kv_heads", of="k_cache[1]"),
        stride("q_stride"),
        stride("qkv_stride"),
        scalar("qk_eps", of="@eps"),
        scalar("k_scale"),
        scalar("v_scale"),
        given("HEAD_DIM", of="k_cache[3]"),
        given("BLOCK_TOKENS", of="k_cache[2]"),
        given("HAS_QK_NORM", of="has(q_norm)"),
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
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 4, "num_stages": 1},
    },
)
