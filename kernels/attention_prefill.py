"""Paged, variable-length, causal attention for many query tokens a sequence.

    out[i, h] = softmax_j(cap(q[i, h] . k[j, h / G] * scale)) v[j, h / G]

over the keys j <= position(i), and j > position(i) - window where window > 0; or with the function
MASK over those that it keeps, and with SCORE of what it makes of scores. A sequence's query tokens
are its newest: rows cu_seqlens[s] to cu_seqlens[s + 1] of q, at the positions before
context_lens[s]. Its keys lie in the pages block_tables[s], written before. A token that sees no key
gets zeros. sinks [Hq]: a score more in each sum, of no value. Sequences before `first_seq` are
another kernel's: their rows of out stay as they are.
out, q [T, Hq, Dh] with token strides; caches [n_blocks, Hkv, BLOCK_TOKENS, Dh], of 8 bits with
v_scale (lib/paged.py); as tensor maps and in HOPPER of 16 bits.
Grid: (Hq, S - first_seq, max_q_len / BLOCK_M). A program beyond its sequence's end runs no
iteration and stores nothing. USE_DESCRIPTORS: the caches are tensor maps of their rows of Dh.
HOPPER: the form of kernels/hopper/attention_prefill.py, with a grid of its own.
Products take the element type of q; softmax (base 2, running) and sums are fp32. scale > 0.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.hopper import attention_prefill as hopper
from kernels.lib.attention import (
    LOG2E,
    NO_LIMIT,
    attend_tile,
    capped,
    causal,
    causal_within,
    key_tiles,
    normalised,
)
from kernels.lib.function_cases import draw_functions, function_cases
from kernels.lib.paged import CACHE_TYPES, attention_reference, of_cached, page_row
from kernels.lib.paged_cases import attention_case, draw_attention, draw_cache
from kernels.spec import (
    FLOATS,
    Descriptor,
    Spec,
    counter,
    derived,
    function,
    given,
    inp,
    out,
    scalar,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def attend(
    state,
    q,
    query,
    pages,
    begin,
    end,
    context,
    params,
    scale,
    SCORE: tl.constexpr,
    MASK: tl.constexpr,
    PARTIAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr,
):
    """A tile of queries over its tiles of keys from begin to end. MASK: None where every row sees
    all. PARTIAL: some key may lie beyond the context; what a page holds there is undefined."""
    seq, head, token, q_pos = query
    k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads = pages
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d[None, :] < HEAD_DIM
    kv_at = offs_n[:, None] * HEAD_DIM + offs_d[None, :]
    factor = scale * LOG2E if SCORE is None else scale
    for tile in range(begin, end):
        start = tile * BLOCK_N
        k_pos = start + offs_n
        if USE_DESCRIPTORS:
            row = page_row(block_table, start, kv_head, n_kv_heads, BLOCK_TOKENS).to(tl.int32)
            k = k_cache_ptr.load([row, 0])
            v = v_cache_ptr.load([row, 0])
            tl.static_assert(k.dtype != tl.float8e4nv)
            if PARTIAL:
                v = tl.where(k_pos[:, None] < context, v, 0.0)
        else:
            row = page_row(block_table, start, kv_head, n_kv_heads, BLOCK_TOKENS)
            k_at = k_cache_ptr + row * HEAD_DIM + kv_at
            v_at = v_cache_ptr + row * HEAD_DIM + kv_at
            if PARTIAL:
                mask_n = k_pos[:, None] < context
                mask = mask_n if BLOCK_D == HEAD_DIM else mask_n & mask_d
                k = tl.load(k_at, mask=mask, other=0.0)
                v = tl.load(v_at, mask=mask, other=0.0)
            elif BLOCK_D == HEAD_DIM:
                k = tl.load(k_at)
                v = tl.load(v_at)
            else:
                k = tl.load(k_at, mask=mask_d, other=0.0)
                v = tl.load(v_at, mask=mask_d, other=0.0)
        score = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
        at = (seq, head, token[:, None], q_pos[:, None], k_pos[None, :])
        state = attend_tile(state, score, v, at, None, params, factor, q.dtype, SCORE, MASK)
    return state


@triton.jit
def attention_prefill(
    out_ptr,
    next_tile_ptr,
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    block_tables_ptr,
    cu_seqlens_ptr,
    context_lens_ptr,
    sinks_ptr,
    fn_a_ptr,
    fn_b_ptr,
    n_seqs,
    first_seq,
    max_q_len,
    n_heads,
    n_kv_heads,
    max_blocks,
    window,
    fn_a_width,
    fn_b_width,
    out_stride,
    q_stride,
    scale,
    softcap,
    v_scale,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    SCORE: tl.constexpr,
    MASK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    USE_DESCRIPTORS: tl.constexpr,
    HOPPER: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    # The tiles with the most keys begin first.
    first = (tl.num_programs(2) - 1 - tl.program_id(2)) * BLOCK_M
    head = tl.program_id(0)
    seq = first_seq + tl.program_id(1)
    kv_head = head // (n_heads // n_kv_heads)
    q_start = tl.load(cu_seqlens_ptr + seq)
    q_len = tl.load(cu_seqlens_ptr + seq + 1) - q_start
    context = tl.load(context_lens_ptr + seq)
    before = context - q_len  # tokens already in the cache
    block_table = block_tables_ptr + seq.to(tl.int64) * max_blocks

    offs_m = first + tl.arange(0, BLOCK_M)
    offs_d = tl.arange(0, BLOCK_D)
    mask_m = offs_m[:, None] < q_len
    mask_d = offs_d[None, :] < HEAD_DIM
    rows = (q_start + offs_m).to(tl.int64)[:, None]
    q_at = q_ptr + rows * q_stride + head * HEAD_DIM + offs_d[None, :]
    if BLOCK_D == HEAD_DIM:
        q = tl.load(q_at, mask=mask_m, other=0.0)
    else:
        q = tl.load(q_at, mask=mask_m & mask_d, other=0.0)
    # Rows beyond the sequence's are its last once more.
    offs_q = tl.minimum(offs_m, q_len - 1)
    token = tl.maximum(q_start + offs_q, 0)
    q_pos = before + offs_q
    query = (seq, head, token, q_pos)

    reach = window if HAS_WINDOW else NO_LIMIT
    params = (reach, softcap, context, fn_a_ptr, fn_a_width, fn_b_ptr, fn_b_width)
    CAP: tl.constexpr = capped if HAS_SOFTCAP else None
    SCORE_FN: tl.constexpr = CAP if SCORE is None else SCORE
    OWN_MASK: tl.constexpr = causal_within if HAS_WINDOW else causal
    MASK_FN: tl.constexpr = OWN_MASK if MASK is None else MASK
    last = before + tl.minimum(first + BLOCK_M, q_len) - 1
    begin, whole, partial, end = key_tiles(
        before + first, last, (seq, head, token, q_pos, q_pos), params, MASK, BLOCK_N
    )
    # A tile of no rows sees nothing.
    partial = tl.where(first < q_len, partial, begin)
    whole = tl.minimum(whole, partial)
    end = tl.where(first < q_len, end, begin)

    if HAS_SINKS:
        largest = tl.full((BLOCK_M,), 1.0, tl.float32) * (tl.load(sinks_ptr + head) * LOG2E)
        total = tl.full((BLOCK_M,), 1.0, tl.float32)
    else:
        largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    state = (largest, total, acc)
    pages = (k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads)
    if HAS_WINDOW or MASK is not None:
        state = attend(
            state, q, query, pages, begin, whole, context, params, scale, SCORE_FN, MASK_FN, False,
            HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D, USE_DESCRIPTORS,
        )  # fmt: skip
    state = attend(
        state, q, query, pages, whole, partial, context, params, scale, SCORE_FN, None, False,
        HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D, USE_DESCRIPTORS,
    )  # fmt: skip
    if USE_DESCRIPTORS:
        # Tensor maps have no masks: only the last page, where it is not full, pays for one.
        full = tl.maximum(partial, tl.minimum(end, context // BLOCK_N))
        state = attend(
            state, q, query, pages, partial, full, context, params, scale, SCORE_FN, MASK_FN, False,
            HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D, USE_DESCRIPTORS,
        )  # fmt: skip
        partial = full
    state = attend(
        state, q, query, pages, partial, end, context, params, scale, SCORE_FN, MASK_FN, True,
        HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D, USE_DESCRIPTORS,
    )  # fmt: skip

    y = normalised(state[2], state[1][:, None])
    if not USE_DESCRIPTORS:  # which are of 16 bits
        y = of_cached(y, v_scale, v_cache_ptr)
    y = y.to(out_ptr.dtype.element_ty)
    target = out_ptr + rows * out_stride + head * HEAD_DIM + offs_d[None, :]
    tl.store(target, y, mask=mask_m & mask_d)


def reference(a):
    return {**attention_reference(a), "next_tile_ptr": np.zeros_like(a["next_tile_ptr"])}


def cases(act):
    def case(name, *args, **kwargs):
        return attention_case(name, *args, **{"act": act, **kwargs})

    yield case("demo_prompt", [(44, 44)], 6, 2, 64)
    yield case("demo_chunk", [(100, 300)], 6, 2, 64)
    yield case("ragged", [(1, 1), (70, 70), (3, 130), (64, 64), (2, 65)], 6, 2, 64)
    yield case(
        "behind_decodes", [(1, 70), (1, 5), (1, 64), (66, 130), (1, 1)], 6, 2, 64, n_others=3
    )
    yield case("only_decodes", [(1, 9), (1, 30)], 4, 2, 64, n_others=2)
    yield case("empty_among", [(5, 5), (0, 0), (9, 200)], 4, 2, 64)
    # More tokens than context: the first of them are at negative positions and see nothing.
    yield case("rows_that_see_nothing", [(5, 3), (70, 2), (3, 0)], 4, 2, 64)
    yield case("window_behind_a_tile", [(130, 130), (70, 300)], 4, 2, 64, window=5, q_std=30.0)
    yield case("window_one", [(200, 200)], 4, 2, 48, window=1)
    yield case("window", [(90, 90), (20, 150)], 4, 2, 64, window=32)
    yield case("window_wide", [(80, 80)], 4, 4, 64, window=4096)
    yield case("window_long_context", [(7, 500)], 4, 2, 64, window=100)
    yield case("softcap", [(40, 70)], 4, 2, 64, softcap=5.0, q_std=3.0)
    yield case("heads_80", [(33, 33), (10, 75)], 4, 2, 80)
    yield case("heads_96", [(65, 65)], 3, 1, 96, pad=32)
    yield case("llama3_8b", [(40, 100)], 8, 2, 128)
    yield case("several_tiles", [(300, 700), (1, 1), (129, 129)], 8, 2, 128)
    # More of them than Hopper's form has programs, some of no rows.
    yield case("turns", [(130, 200), (70, 70), (3, 130)], 32, 8, 64)
    yield case(
        "multi_query_bf16_cache", [(20, 70)], 8, 1, 64, cache="bf16" if act != "fp16" else "fp16"
    )
    yield case("block_16", [(30, 50)], 2, 2, 64, block=16)
    yield case("bf16", [(44, 44)], 6, 2, 64, act="bf16", cache="bf16")
    yield case("fp8_cache", [(44, 90), (3, 64)], 6, 2, 64, cache="fp8e4nv", scales=(1.0, 3.0))
    if act == "fp32":
        yield case("fp32_cache", [(44, 90)], 6, 2, 64, cache="fp32")
    yield from function_cases(partial(attention_case, act=act))


def draw(d, act):
    q = d.types(act)
    # Products take the type of q: the cache's must fit into it.
    cache, scales = draw_cache(d) if q == "fp32" else draw_cache(d, q)
    # Half of them are what Hopper's form takes, of several of its tiles.
    if d.variant.chance(0.5):
        case = draw_attention(
            d, q, cache, decode=False, dims=(64, 128), blocks=(64, 128), longer=8, scales=scales
        )
    else:
        case = draw_attention(d, q, cache, decode=False, scales=scales)
    return draw_functions(d, case)


_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
# How many blocks the cache has, no launch says; block tables name none beyond it.
_CACHE_ROWS = Descriptor(
    when="USE_DESCRIPTORS",
    shape=("2147483647", "HEAD_DIM"),
    strides=("HEAD_DIM", "1"),
    block=(
        "min(BLOCK_N, BLOCK_TOKENS) if HOPPER else BLOCK_N",
        "64 if HOPPER else BLOCK_D",
    ),
)
_TILES = "n_heads * (n_seqs - first_seq) * cdiv(max_q_len, BLOCK_M)"
SPEC = Spec(
    fn=attention_prefill,
    forms={"HOPPER": hopper.attention_prefill},
    op="attention",
    when="prompt",
    params=(
        out("out_ptr", FLOATS, "max_q_len", "out_stride"),
        counter("next_tile_ptr", "i32", "1"),
        inp("q_ptr", FLOATS, "max_q_len", "q_stride"),
        inp("k_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE, descriptor=_CACHE_ROWS),
        inp("v_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE, descriptor=_CACHE_ROWS),
        inp("block_tables_ptr", "i32", "n_seqs", "max_blocks"),
        inp("cu_seqlens_ptr", "i32", "n_seqs + 1", of="query_starts"),
        inp("context_lens_ptr", "i32", "n_seqs"),
        inp("sinks_ptr", "fp32", "n_heads"),
        # How many rows, the functions know.
        inp("fn_a_ptr", ("fp32", "i32"), "fn_a_width"),
        inp("fn_b_ptr", ("fp32", "i32"), "fn_b_width"),
        step_size("n_seqs", of="context_lens[0]"),
        step_size("first_seq", of="step.decodes"),
        step_size("max_q_len", of="step.max_query"),
        size("n_heads", of="q[1]"),
        size("n_kv_heads", of="k_cache[1]"),
        step_size("max_blocks", of="block_tables[1]"),
        size("window", of="@window"),
        step_size("fn_a_width", of="fn_a[-1]"),
        step_size("fn_b_width", of="fn_b[-1]"),
        stride("out_stride"),
        stride("q_stride"),
        scalar("scale"),
        scalar("softcap"),
        scalar("v_scale"),
        given("HEAD_DIM", of="q[2]"),
        given("BLOCK_TOKENS", of="k_cache[2]"),
        given("HAS_SOFTCAP", of="@softcap != 0"),
        given("HAS_SINKS"),
        function("SCORE", "score", of="@score"),
        function("MASK", "mask", of="@mask"),
        tuned("BLOCK_M"),
        tuned("BLOCK_N"),
        derived("BLOCK_D", "next_pow2(HEAD_DIM)"),
        tuned("USE_DESCRIPTORS"),
        tuned("HOPPER"),
        derived("HAS_WINDOW", "window > 0"),
    ),
    grid=(
        f"min({_TILES}, {hopper.PROGRAMS}) if HOPPER else n_heads",
        "1 if HOPPER else n_seqs - first_seq",
        "1 if HOPPER else cdiv(max_q_len, BLOCK_M)",
    ),
    # An estimate from what the launch knows: every sequence as long as the longest, no context.
    bytes="(n_seqs - first_seq) * max_q_len * HEAD_DIM"
    " * (n_heads * (sizeof(out_ptr) + sizeof(q_ptr))"
    " + n_kv_heads * (sizeof(k_cache_ptr) + sizeof(v_cache_ptr)))",
    flops="2 * (n_seqs - first_seq) * n_heads * max_q_len * max_q_len * HEAD_DIM",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HOPPER", "BLOCK_M", "BLOCK_N", "USE_DESCRIPTORS"),
    default={
        "cpu": {
            "BLOCK_M": 64,
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "USE_DESCRIPTORS": 0,
            "HOPPER": 0,
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {
            "BLOCK_M": 64,
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "USE_DESCRIPTORS": 0,
            "HOPPER": 0,
            "num_warps": 4,
            "num_stages": 2,
        },
        "hip": {
            "BLOCK_M": 64,
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "USE_DESCRIPTORS": 0,
            "HOPPER": 0,
            "num_warps": 4,
            "num_stages": 1,
        },
    },
    # BLOCK_N orders the sum.
    space={
        "cpu": {"BLOCK_M": (16, 32, 64, 128), "where": "BLOCK_M <= max(16, next_pow2(max_q_len))"},
        "cuda": {
            "BLOCK_M": (32, 64, 128),
            "num_warps": (4, 8),
            "num_stages": (1, 2, 3),
            "where": "BLOCK_M == 128 and num_warps == 4 and num_stages == 1 if HOPPER"
            " else 16 * num_warps <= max(64, BLOCK_M)",
        },
    },
)
