"""Writes this step's keys and values into the paged cache.

    k_cache[slot // B, h, slot % B, :] = k[t, h, :],  slot = slot_mapping[t]; v alike

k, v [T, Hkv, Dh] with token strides; caches [n_blocks, Hkv, B, Dh] with B = BLOCK_TOKENS, of 8 bits
divided by k_scale and v_scale (lib/paged.py).
A negative slot is skipped. Grid: one program a token.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.paged import CACHE_TYPES, cached, held
from kernels.lib.paged_cases import draw_cache, scales_of
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    given,
    inout,
    inp,
    padded,
    rng,
    scalar,
    size,
    step_size,
    stride,
)


@triton.jit
def kv_write(
    k_cache_ptr,
    v_cache_ptr,
    k_ptr,
    v_ptr,
    slot_mapping_ptr,
    n_tokens,
    n_kv_heads,
    head_dim,
    k_stride,
    v_stride,
    k_scale,
    v_scale,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_mapping_ptr + token).to(tl.int64)
    # No head is written where the slot is negative; the mask stays a plain bound.
    n_heads = tl.where(slot >= 0, n_kv_heads, 0)
    heads = tl.arange(0, BLOCK_H)[:, None]
    offs = tl.arange(0, BLOCK_D)[None, :]
    mask = (heads < n_heads) & (offs < head_dim)
    source = heads * head_dim + offs
    k = tl.load(k_ptr + token * k_stride + source, mask=mask, other=0.0)
    v = tl.load(v_ptr + token * v_stride + source, mask=mask, other=0.0)
    page = (slot // BLOCK_TOKENS) * n_kv_heads * BLOCK_TOKENS * head_dim
    target = page + (slot % BLOCK_TOKENS) * head_dim + heads * BLOCK_TOKENS * head_dim + offs
    tl.store(k_cache_ptr + target, cached(k, k_scale, k_cache_ptr), mask=mask)
    tl.store(v_cache_ptr + target, cached(v, v_scale, v_cache_ptr), mask=mask)


def reference(a):
    n_kv_heads, head_dim = a["n_kv_heads"], a["head_dim"]
    k_cache, v_cache = a["k_cache_ptr"].copy(), a["v_cache_ptr"].copy()
    width = n_kv_heads * head_dim
    for token in range(a["n_tokens"]):
        slot = int(a["slot_mapping_ptr"][token])
        if slot >= 0:
            block, offset = divmod(slot, a["BLOCK_TOKENS"])
            shape = (n_kv_heads, head_dim)
            for name, cache in (("k", k_cache), ("v", v_cache)):
                x = a[f"{name}_ptr"][token, :width].reshape(shape)
                cache[block, :, offset] = held(
                    x, a[f"{name}_scale"], a["dtypes"][f"{name}_cache_ptr"]
                )
    return {"k_cache_ptr": k_cache, "v_cache_ptr": v_cache}


def make_case(
    name, n_tokens, n_heads, head_dim, *, act, cache="fp16", slot="i32", block=64, pad=0,
    v_pad=None, skip=0, std=1.0, scales=None,
):  # fmt: skip
    g = rng(name)
    n_blocks = n_tokens // block + 2
    slots = g.permutation(n_blocks * block)[: n_tokens + 1].astype(np.int64)
    slots[:skip] = -1
    width = n_heads * head_dim
    v_pad = pad if v_pad is None else v_pad
    return Case(
        name,
        {
            "k_cache_ptr": filled(n_blocks, n_heads, block, head_dim),
            "v_cache_ptr": filled(n_blocks, n_heads, block, head_dim, value=-3.0),
            "k_ptr": padded(g, n_tokens, width, pad, std=std),
            "v_ptr": padded(g, n_tokens, width, v_pad, std=std),
            "slot_mapping_ptr": slots,
            "n_tokens": n_tokens,
            "n_kv_heads": n_heads,
            "head_dim": head_dim,
            "k_stride": width + pad,
            "v_stride": width + v_pad,
            **scales_of(cache, scales),
        },
        {
            "k_cache_ptr": cache,
            "v_cache_ptr": cache,
            "k_ptr": act,
            "v_ptr": act,
            "slot_mapping_ptr": slot,
        },
        {"BLOCK_TOKENS": block},
        # One rounding to the nearest.
        tolerance={"k_cache_ptr": 0.0, "v_cache_ptr": 0.0},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 5, 2, 64)
    yield case("llama3_8b_skipped", 4, 8, 128, slot="i64", skip=2)
    yield case("heads_80_strided", 70, 3, 80, pad=16)
    yield case("heads_96", 3, 5, 96, cache="fp32")
    yield case("bf16_cache", 9, 2, 64, cache="bf16")
    yield case("block_16", 33, 2, 128, block=16)
    narrow = case("fp8_cache", 9, 2, 64, cache="fp8e4nv", scales=(0.003, 3.0))
    narrow.args["k_ptr"][0, :3] = narrow.args["v_ptr"][1, :3] = np.nan, np.inf, -np.inf
    yield narrow


def draw(d, act):
    block = d.variant.of(16, 32, 64)
    n_heads = d.width(1, 9)
    head_dim = d.width(1, 256)
    width = n_heads * head_dim
    # What is too large for a narrow cache becomes infinite, or of 8 bits the largest there is; what
    # is too small 0.
    std = d.case.of(1.0, 1e-7, 1e-5, 3e4, 1e30)
    n_tokens = d.rows(max(1, min(70, 4000 // width)), tile=block)
    cache, scales = draw_cache(d)
    case = make_case(
        d.name, n_tokens, n_heads, head_dim, act=d.types(act), cache=cache, scales=scales,
        slot=d.variant.of("i32", "i64"), block=block, pad=d.gap(width, n_tokens),
        v_pad=d.gap(width, n_tokens), skip=d.case.of(0, 0, 1, 2), std=std,
    )  # fmt: skip
    d.season(case.args["k_ptr"][:, :width], std)
    return case


SPEC = Spec(
    fn=kv_write,
    op="kv_write",
    params=(
        inout("k_cache_ptr", CACHE_TYPES, "n_tokens", "n_kv_heads", "BLOCK_TOKENS", "head_dim"),
        inout("v_cache_ptr", CACHE_TYPES, "n_tokens", "n_kv_heads", "BLOCK_TOKENS", "head_dim"),
        inp("k_ptr", FLOATS, "n_tokens", "k_stride"),
        inp("v_ptr", FLOATS, "n_tokens", "v_stride"),
        inp("slot_mapping_ptr", ("i32", "i64"), "n_tokens", of="slots"),
        step_size("n_tokens", of="k[0]"),
        size("n_kv_heads", of="k[1]"),
        size("head_dim", of="k[2]"),
        stride("k_stride"),
        stride("v_stride"),
        scalar("k_scale"),
        scalar("v_scale"),
        given("BLOCK_TOKENS", of="k_cache[2]"),
        derived("BLOCK_H", "next_pow2(n_kv_heads)"),
        derived("BLOCK_D", "next_pow2(head_dim)"),
    ),
    grid=("n_tokens", "1", "1"),
    bytes="n_tokens * n_kv_heads * head_dim * (sizeof(k_ptr) + sizeof(v_ptr)"
    " + sizeof(k_cache_ptr) + sizeof(v_cache_ptr))",
    flops="0",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": "min(8, max(1, BLOCK_H * BLOCK_D // 256))", "num_stages": 1},
        "hip": {"num_warps": "min(8, max(1, BLOCK_H * BLOCK_D // 512))", "num_stages": 1},
    },
)
