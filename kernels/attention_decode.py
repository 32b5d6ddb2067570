"""Paged causal attention for one query token a sequence: those of a step that decode, its first.

    out[s, h] = softmax_j(cap(q[s, h] . k[j, h / G] * scale)) v[j, h / G],  j < context_lens[s]

and j >= context_lens[s] - window where window > 0: the query is the newest token. A context of 0
gives zeros. With the function MASK over those that it keeps, and with SCORE of what it makes of
scores; sinks [Hq]: a score more in each sum, of no value.
out, q [S, Hq, Dh] with token strides; caches [n_blocks, Hkv, BLOCK_TOKENS, Dh], of 8 bits with
v_scale (lib/paged.py).
Grid: (S, Hq / HEADS): a program reads each key and value once for HEADS query heads of one KV head.
No `tl.dot`; all arithmetic fp32.
"""

from functools import partial

import triton
import triton.language as tl

from kernels.lib.attention import (
    LOG2E,
    NO_LIMIT,
    attend_tile,
    capped,
    causal_within,
    key_tiles,
    normalised,
)
from kernels.lib.function_cases import draw_functions, function_cases
from kernels.lib.paged import CACHE_TYPES, attention_reference, of_cached, page_offset
from kernels.lib.paged_cases import attention_case, draw_attention, draw_cache
from kernels.spec import (
    FLOATS,
    Spec,
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
    states, queries, seq, head, pages, begin, end, params, SCORE: tl.constexpr,
    MASK: tl.constexpr, PARTIAL: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The queries of heads from `head` on over their tiles of keys from begin to end. MASK: None
    where every key is seen. PARTIAL: some key may lie beyond the context."""
    k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads = pages
    context = params[2]
    offs_n = tl.arange(0, BLOCK_N)
    mask_d = (tl.arange(0, BLOCK_D) < HEAD_DIM)[None, :]
    kv_at = offs_n[:, None] * HEAD_DIM + tl.arange(0, BLOCK_D)[None, :]
    for tile in range(begin, end):
        start = tile * BLOCK_N
        page = page_offset(block_table, start, kv_head, n_kv_heads, HEAD_DIM, BLOCK_TOKENS)
        k_pos = start + offs_n
        there = k_pos < context if PARTIAL else None
        if PARTIAL:
            mask = there[:, None] if BLOCK_D == HEAD_DIM else there[:, None] & mask_d
            k = tl.load(k_cache_ptr + page + kv_at, mask=mask, other=0.0)
            v = tl.load(v_cache_ptr + page + kv_at, mask=mask, other=0.0)
        elif BLOCK_D == HEAD_DIM:
            k = tl.load(k_cache_ptr + page + kv_at)
            v = tl.load(v_cache_ptr + page + kv_at)
        else:
            k = tl.load(k_cache_ptr + page + kv_at, mask=mask_d, other=0.0)
            v = tl.load(v_cache_ptr + page + kv_at, mask=mask_d, other=0.0)
        k = k.to(tl.float32)
        v = v.to(tl.float32)
        new_states = ()
        for i in tl.static_range(len(queries)):
            score = tl.sum(k * queries[i][None, :], axis=1)
            at = (seq, head + i, seq, context - 1, k_pos)
            new_states = new_states + (attend_tile(
                states[i], score, v, at, there, params, 1.0, tl.float32, SCORE, MASK
            ),)  # fmt: skip
        states = new_states
    return states


@triton.jit
def attention_decode(
    out_ptr,
    q_ptr,
    k_cache_ptr,
    v_cache_ptr,
    block_tables_ptr,
    context_lens_ptr,
    sinks_ptr,
    fn_a_ptr,
    fn_b_ptr,
    n_seqs,
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
    HEADS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    seq = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS
    kv_head = head // (n_heads // n_kv_heads)
    context = tl.load(context_lens_ptr + seq)
    pages = (k_cache_ptr, v_cache_ptr, block_tables_ptr + seq * max_blocks, kv_head, n_kv_heads)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < HEAD_DIM
    CAP: tl.constexpr = capped if HAS_SOFTCAP else None
    SCORE_FN: tl.constexpr = CAP if SCORE is None else SCORE
    # Without a window the newest token sees whatever there is.
    OWN_MASK: tl.constexpr = causal_within if HAS_WINDOW else None
    MASK_FN: tl.constexpr = OWN_MASK if MASK is None else MASK
    factor = scale * LOG2E if SCORE_FN is None else scale
    reach = window if HAS_WINDOW else NO_LIMIT
    params = (reach, softcap, context, fn_a_ptr, fn_a_width, fn_b_ptr, fn_b_width)
    newest = context - 1
    begin, whole, partial, end = key_tiles(
        newest, newest, (seq, head, seq, newest, newest), params, MASK, BLOCK_N
    )

    queries = ()
    states = ()
    for i in tl.static_range(HEADS):
        q_at = q_ptr + seq * q_stride + (head + i) * HEAD_DIM + offs_d
        if BLOCK_D == HEAD_DIM:
            q = tl.load(q_at)
        else:
            q = tl.load(q_at, mask=mask_d, other=0.0)
        queries = queries + (q.to(tl.float32) * factor,)
        if HAS_SINKS:
            largest = tl.load(sinks_ptr + head + i) * LOG2E
            total = tl.full((), 1.0, tl.float32)
        else:
            largest = tl.full((), float("-inf"), tl.float32)
            total = tl.full((), 0.0, tl.float32)
        states = states + ((largest, total, tl.zeros((BLOCK_D,), tl.float32)),)
    if MASK_FN is not None:
        states = attend(
            states, queries, seq, head, pages, begin, whole, params, SCORE_FN, MASK_FN, False,
            HEAD_DIM, BLOCK_TOKENS, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    states = attend(
        states, queries, seq, head, pages, whole, partial, params, SCORE_FN, None, False, HEAD_DIM,
        BLOCK_TOKENS, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    states = attend(
        states, queries, seq, head, pages, partial, end, params, SCORE_FN, MASK_FN, True, HEAD_DIM,
        BLOCK_TOKENS, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    for i in tl.static_range(HEADS):
        y = of_cached(normalised(states[i][2], states[i][1]), v_scale, v_cache_ptr)
        y = y.to(out_ptr.dtype.element_ty)
        target = out_ptr + seq * out_stride + (head + i) * HEAD_DIM + offs_d
        tl.store(target, y, mask=mask_d)


reference = attention_reference


def cases(act):
    def case(name, contexts, *args, **kwargs):
        sequences = [(1, n) for n in contexts]
        return attention_case(name, sequences, *args, decode=True, **{"act": act, **kwargs})

    yield case("demo", [200], 6, 2, 64)
    yield case("batch", [1, 64, 65, 0, 300, 127], 6, 2, 64)
    yield case("beside_prompts", [70, 5, 200, 33], 6, 2, 64, n_others=2)
    yield case("no_decodes", [70, 5], 6, 2, 64, n_others=2)
    yield case("window", [10, 100, 250], 4, 2, 64, window=48)
    yield case("window_one", [1, 64, 65, 200], 4, 2, 48, window=1, q_std=30.0)
    yield case("contexts_of_nothing", [0, 0], 4, 2, 64)
    yield case("window_wide", [90], 4, 4, 64, window=4096)
    yield case("softcap", [70, 5], 4, 2, 64, softcap=5.0, q_std=3.0)
    yield case("heads_80", [33, 75], 4, 2, 80, pad=16)
    yield case("heads_96", [65], 3, 1, 96)
    for head_dim in (160, 192, 256, 512):  # several strips of registers
        yield case(f"heads_{head_dim}", [70, 3], 2, 1, head_dim)
    yield case("llama3_8b", [100, 513], 32, 8, 128)
    yield case("seven_heads_a_group", [130], 14, 2, 64)
    yield case("multi_query", [70], 32, 1, 128)
    yield case("bf16_cache", [70], 8, 2, 64, cache="bf16")
    yield case("block_16", [50, 16], 2, 2, 64, block=16)
    yield case("bf16", [44], 6, 2, 64, act="bf16", cache="bf16")
    yield case("half", [44], 6, 2, 64, act="fp16")
    yield case("fp8_cache", [70, 64, 3], 6, 2, 64, cache="fp8e4nv", scales=(1.0, 3.0))
    yield from function_cases(partial(attention_case, act=act, decode=True))


def draw(d, act):
    act, (cache, scales) = d.types(act), draw_cache(d)
    return draw_functions(d, draw_attention(d, act, cache, decode=True, scales=scales))


_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=attention_decode,
    op="attention",
    when="decode and not gpu",
    params=(
        out("out_ptr", FLOATS, "n_seqs", "out_stride"),
        inp("q_ptr", FLOATS, "n_seqs", "q_stride"),
        inp("k_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inp("v_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inp("block_tables_ptr", "i32", "n_seqs", "max_blocks"),
        inp("context_lens_ptr", "i32", "n_seqs"),
        inp("sinks_ptr", "fp32", "n_heads"),
        # How many rows, the functions know.
        inp("fn_a_ptr", ("fp32", "i32"), "fn_a_width"),
        inp("fn_b_ptr", ("fp32", "i32"), "fn_b_width"),
        step_size("n_seqs", of="step.decodes"),
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
        tuned("HEADS"),
        tuned("BLOCK_N"),
        derived("BLOCK_D", "next_pow2(HEAD_DIM)"),
        derived("HAS_WINDOW", "window > 0"),
    ),
    grid=("n_seqs", "n_heads // HEADS", "1"),
    # An upper bound from what the launch knows: every page of every block table is read.
    bytes="n_seqs * HEAD_DIM * (n_heads * (sizeof(out_ptr) + sizeof(q_ptr))"
    " + max_blocks * BLOCK_TOKENS * n_kv_heads * (sizeof(k_cache_ptr) + sizeof(v_cache_ptr)))",
    flops="4 * n_seqs * n_heads * max_blocks * BLOCK_TOKENS * HEAD_DIM",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HEADS", "BLOCK_N"),
    default={
        # All heads of a group where they are few enough to unroll.
        "cpu": {
            "HEADS": "n_heads // n_kv_heads if n_heads // n_kv_heads <= 8 else 1",
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": {
            "HEADS": "n_heads // n_kv_heads if n_heads // n_kv_heads <= 8 else 1",
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "num_warps": 4,
            "num_stages": 2,
        },
        "hip": {
            "HEADS": "n_heads // n_kv_heads if n_heads // n_kv_heads <= 8 else 1",
            "BLOCK_N": "min(BLOCK_TOKENS, 64)",
            "num_warps": 4,
            "num_stages": 1,
        },
    },
)
