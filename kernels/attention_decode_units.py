"""Paged attention for one query token a sequence on a wide machine: of those of a step that decode,
its first.

What it computes, and its operands: as attention_decode. How the work is divided: as in
attention_decode_split, by units of keys, but the newest key is in the cache as any other; what
comes before the units is the sinks' score, or nothing.
Grid: (S, Hq / HEADS, PARTS), as there; so are UNITS, PARTS and LEAST.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels import attention_decode as plain
from kernels import attention_decode_split as split
from kernels.lib.attention import LOG2E, NO_LIMIT, capped, key_tiles
from kernels.lib.decode_units import (
    attend_units,
    finish,
    for_products,
    leave,
    no_sums,
    share_of,
)
from kernels.lib.function_cases import draw_functions
from kernels.lib.paged import CACHE_TYPES
from kernels.lib.paged_cases import attention_case, draw_attention, draw_cache
from kernels.spec import (
    FLOATS,
    Spec,
    counter,
    derived,
    function,
    given,
    inp,
    out,
    scalar,
    scratch,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def attention_decode_units(
    out_ptr,
    partial_ptr,
    arrivals_ptr,
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
    ROWS: tl.constexpr,
    MIXED: tl.constexpr,
    UNEVEN: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UNITS: tl.constexpr,
    PARTS: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    seq = tl.program_id(0).to(tl.int64)
    part = tl.program_id(2)
    n_parts = PARTS
    if PARTS == 0:
        n_parts = tl.num_programs(2)
    head = tl.program_id(1) * HEADS
    kv_head = head // (n_heads // n_kv_heads)
    context = tl.load(context_lens_ptr + seq)
    newest = context - 1
    CAP: tl.constexpr = capped if HAS_SOFTCAP else None
    SCORE_FN: tl.constexpr = CAP if SCORE is None else SCORE
    reach = window if HAS_WINDOW else NO_LIMIT
    params = (reach, softcap, context, fn_a_ptr, fn_a_width, fn_b_ptr, fn_b_width)
    at = (seq, head, seq, newest, newest)
    first, _, _, end = key_tiles(newest, newest, at, params, MASK, BLOCK_N)
    n_tiles = end - first
    n_units, n_programs, n_mine = share_of(n_tiles, part, n_parts, UNITS, LEAST)

    lane = tl.arange(0, BLOCK_D)
    heads = tl.arange(0, BLOCK_H)
    is_head = heads < HEADS
    mask = is_head[:, None] & (lane < HEAD_DIM)[None, :]
    q_at = q_ptr + seq * q_stride + (head + heads)[:, None] * HEAD_DIM + lane[None, :]
    q = tl.load(q_at, mask=mask, other=0.0)
    q = for_products(q, k_cache_ptr)

    largest, total, acc = no_sums(BLOCK_H, BLOCK_D)
    if HAS_SINKS:
        largest = tl.load(sinks_ptr + head + heads, mask=is_head, other=0.0) * LOG2E
        total += 1.0
    ALONE: tl.constexpr = PARTS == 1
    group = seq * tl.num_programs(1) + tl.program_id(1)
    sums_ptr = partial_ptr + (0 if ALONE else group * (UNITS + 1) * HEADS * (BLOCK_D + 2))
    is_split = n_programs > 1
    if not ALONE and is_split & (part == 0):
        leave(sums_ptr, largest, total, acc, HEADS)
    factor = scale * LOG2E if SCORE_FN is None else scale
    pages = (k_cache_ptr, v_cache_ptr, block_tables_ptr + seq * max_blocks, kv_head, n_kv_heads)
    begin = tl.maximum(context - reach, 0)
    sums = attend_units(
        (largest, total, acc), no_sums(BLOCK_H, BLOCK_D), q, pages, (n_tiles, n_programs, n_mine),
        (part, part, first, begin, context - first * BLOCK_N), (seq, head, newest), params,
        is_split, sums_ptr, factor, SCORE_FN, MASK, HAS_WINDOW and MASK is None, HEADS, HEAD_DIM,
        BLOCK_TOKENS, BLOCK_N, UNITS, ALONE,
    )  # fmt: skip
    finish(
        out_ptr + seq * out_stride + head * HEAD_DIM, sums_ptr, arrivals_ptr + group, sums,
        is_split, part, n_programs, n_units, v_scale, v_cache_ptr, HEADS, HEAD_DIM, BLOCK_G, ALONE,
    )  # fmt: skip


def reference(a):
    return {**plain.reference(a), "arrivals_ptr": np.zeros_like(a["arrivals_ptr"])}


_CHOICES = {
    "one_program": {"UNITS": 4, "PARTS": 1},
    "parts": {"UNITS": 3, "PARTS": 2, "LEAST": 4},
    "room_for_some": {"UNITS": 3, "PARTS": 0},
    "a_program_a_unit": {"UNITS": 31, "PARTS": 31},
}


# Of the cases of attention_decode those that differ in what a unit is; what its step and functions
# compute is held there.
_PLAIN = (
    "demo", "batch", "beside_prompts", "window", "contexts_of_nothing", "softcap", "heads_80",
    "heads_256", "llama3_8b", "block_16", "bf16", "half", "fp8_cache",
)  # fmt: skip


def cases(act):
    for i, case in enumerate(plain.cases(act)):
        if case.name in _PLAIN or (case.functions and i % 4 == 0):
            yield split.with_scratch(case)
    case = partial(attention_case, act=act, decode=True)
    lengths = [(1, n) for n in (700, 1, 64, 65, 0, 300, 129, 2)]
    for name, choice in _CHOICES.items():
        for window in (0, 100):
            made = case(f"{name}_{window}", lengths, 6, 2, 64, window=window)
            yield split.with_scratch(replace(made, choice=choice))


def draw(d, act):
    act, (cache, scales) = d.types(act), draw_cache(d)
    case = draw_attention(d, act, cache, decode=True, scales=scales)
    choice = d.variant.of({}, *_CHOICES.values())
    return split.with_scratch(replace(draw_functions(d, case), choice=choice))


_GPU = {
    name: value
    for name, value in split.SPEC.default["cuda"].items()
    if name not in ("PDL", "AHEAD", "HOPPER")
}
_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=attention_decode_units,
    op="attention",
    when="decode and gpu",
    params=(
        out("out_ptr", FLOATS, "n_seqs", "out_stride"),
        scratch(
            "partial_ptr",
            "fp32",
            "n_seqs if PARTS != 1 else 1",
            "n_heads",
            "UNITS + 1",
            "BLOCK_D + 2",
        ),
        counter("arrivals_ptr", "i32", "n_seqs", "n_heads // HEADS"),
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
        given("ROWS", of="step.rows"),
        given("MIXED", of="@rows == decode"),
        given("UNEVEN", of="step.uneven"),
        tuned("HEADS"),
        tuned("BLOCK_N"),
        tuned("UNITS"),
        tuned("PARTS"),
        tuned("LEAST"),
        derived("BLOCK_G", "next_pow2(HEADS)"),
        derived("BLOCK_H", "max(next_pow2(HEADS), 16)"),
        derived("BLOCK_D", "max(next_pow2(HEAD_DIM), 16)"),
        derived("HAS_WINDOW", "window > 0"),
    ),
    grid=(
        "n_seqs",
        "n_heads // HEADS",
        "PARTS if PARTS > 0 else max(min(256 * HEADS // (max(n_seqs, 1) * n_heads), UNITS), 4)",
    ),
    bytes=plain.SPEC.bytes,
    flops=plain.SPEC.flops,
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HEADS", "BLOCK_N", "UNITS", "PARTS", "LEAST"),
    default={
        "cpu": {**_GPU, "num_warps": 1, "num_stages": 1},
        "cuda": _GPU,
        "hip": {**_GPU, "num_stages": 1},
    },
)
