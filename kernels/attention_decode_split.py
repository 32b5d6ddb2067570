"""One query token a sequence, from packed queries, keys and values to the attention's output, on a
wide machine: of those of a step that decode, its first.

What it computes, and its operands: as attention_decode_fused. Here matrix units take the scores and
sums of all heads of a group, and the work is divided by units of keys, so that programs fill the
machine whatever the number of sequences and however their lengths differ.

A sequence's old keys are tiles of BLOCK_N; unit u is every UNITS-th of them from the u-th on. A
unit's sums are taken from its own largest score; the newest token and then the units in their order
are merged by the same operations whether one program holds them all or each comes from another. So
what a sequence gets depends on its own context alone, not on the others of a step.
Grid: (S, Hq / HEADS, PARTS). A sequence has at most PARTS programs, of at least LEAST tiles each;
of n the p-th takes the units p, p + n, ...; the others of the grid do nothing. Where a sequence
has several, each leaves the sums of its units in `partial`, and the one that comes last, by the
count in `arrivals`, merges them and sets the count back to 0. PARTS 1 needs neither; 0: as many as
there is room for beside the others, of steps whose number of rows does not say how many decode.
AHEAD: the first tile is asked for before anything else; of HOPPER, so many, at least one.
HOPPER: the form of kernels/hopper/attention_decode.py, which has one BLOCK_N, 64.
PDL: as in linear_gemv, and 4: the kernel after may start when a program has its sums, where that
one's programs would crowd these out (linear_skinny). Before its wait the kernel reads block tables,
contexts, positions and old keys and values: the two launches before it must write none of these.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import attention_decode_fused as plain
from kernels.expr import next_pow2
from kernels.hopper import attention_decode as hopper
from kernels.lib.attention import LOG2E, capped
from kernels.lib.decode import old_tiles, turned_heads
from kernels.lib.decode_units import (
    attend_units,
    end_of_unit,
    finish,
    for_products,
    leave,
    no_sums,
    row_of_tile,
    share_of,
    tile_sums,
)
from kernels.lib.paged import CACHE_TYPES, cached
from kernels.lib.paged_cases import draw_fused, fused_case
from kernels.spec import (
    FLOATS,
    Spec,
    counter,
    derived,
    filled,
    given,
    inout,
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
def attention_decode_split(
    out_ptr,
    k_cache_ptr,
    v_cache_ptr,
    partial_ptr,
    arrivals_ptr,
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
    ROWS: tl.constexpr,
    MIXED: tl.constexpr,
    UNEVEN: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UNITS: tl.constexpr,
    PARTS: tl.constexpr,
    LEAST: tl.constexpr,
    PDL: tl.constexpr,
    AHEAD: tl.constexpr,
    HOPPER: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    # What is seen is a range of units' tiles, and no score depends on where its key is.
    SCORE: tl.constexpr = capped if HAS_SOFTCAP else None
    params = (0, softcap)
    HALF: tl.constexpr = HEAD_DIM // 2
    if PDL == 2:
        gdc_launch_dependents()
    seq = tl.program_id(0).to(tl.int64)
    part = tl.program_id(2)
    n_parts = PARTS
    if PARTS == 0:
        n_parts = tl.num_programs(2)
    head = tl.program_id(1) * HEADS
    kv_head = head // (n_heads // n_kv_heads)
    context = tl.load(context_lens_ptr + seq)
    n_old = context - 1
    begin = 0
    if HAS_WINDOW:
        begin = tl.maximum(context - window, 0)
    first = begin // BLOCK_N
    n_tiles = old_tiles(context, window, BLOCK_N, HAS_WINDOW)
    block_table = block_tables_ptr + seq * max_blocks
    n_units, n_programs, n_mine_tiles = share_of(n_tiles, part, n_parts, UNITS, LEAST)

    lane = tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    heads = tl.arange(0, BLOCK_H)
    is_lane = lane < HEAD_DIM
    is_head = heads < HEADS
    angle_lane = tl.where(lane < HALF, lane, lane - HALF)
    inv_freq = tl.load(inv_freq_ptr + angle_lane, mask=is_lane, other=0.0)
    angle = tl.load(positions_ptr + seq).to(tl.float32) * inv_freq
    cos = tl.cos(angle)
    sin = tl.sin(angle)
    slot = tl.load(slots_ptr + seq).to(tl.int64)
    factor = scale * LOG2E if SCORE is None else scale
    at_tile = rows[:, None] * HEAD_DIM + lane[None, :]
    unit = part
    tile = unit
    n_left = n_old - first * BLOCK_N
    if AHEAD:
        # The first tile is asked for before anything that the kernel before leaves.
        there = (rows < n_left - tile * BLOCK_N) & (n_mine_tiles > 0)
        place_of_tile = tl.minimum(first + tile, max_blocks * (BLOCK_TOKENS // BLOCK_N) - 1)
        row_0 = row_of_tile(
            block_table, place_of_tile, kv_head, n_kv_heads, BLOCK_TOKENS, BLOCK_N
        ) * HEAD_DIM  # fmt: skip
        k_0 = tl.load(
            k_cache_ptr + row_0 + at_tile, mask=there[:, None] & is_lane[None, :], other=0.0
        )
        v_0 = tl.load(
            v_cache_ptr + row_0 + at_tile, mask=there[:, None] & is_lane[None, :], other=0.0
        )
    if PDL > 0:
        gdc_wait()
    if PDL == 3:
        gdc_launch_dependents()

    # The newest key and value, as wide as the operations on their own would have left them.
    heads_at = qkv_ptr + seq * qkv_stride
    one = tl.arange(0, 1)[:, None]
    new_at = heads_at + (n_heads + kv_head) * HEAD_DIM
    new_k = turned_heads(new_at + one, one == 0, lane, cos, sin, k_norm_ptr, qk_eps, HEAD_DIM,
                         HAS_QK_NORM)  # fmt: skip
    new_k = cached(tl.sum(new_k, axis=0).to(qkv_ptr.dtype.element_ty), k_scale, k_cache_ptr)
    new_v = tl.load(new_at + n_kv_heads * HEAD_DIM + lane, mask=is_lane, other=0.0)
    new_v = cached(new_v, v_scale, v_cache_ptr)
    is_writer = (slot >= 0) & (part == 0) & (context > 0) & (head % (n_heads // n_kv_heads) == 0)
    page = ((slot // BLOCK_TOKENS) * n_kv_heads + kv_head) * BLOCK_TOKENS + slot % BLOCK_TOKENS
    tl.store(k_cache_ptr + page * HEAD_DIM + lane, new_k, mask=is_lane & is_writer)
    tl.store(v_cache_ptr + page * HEAD_DIM + lane, new_v, mask=is_lane & is_writer)

    q = turned_heads(
        heads_at + (head + heads)[:, None] * HEAD_DIM, is_head[:, None], lane, cos, sin, q_norm_ptr,
        qk_eps, HEAD_DIM, HAS_QK_NORM,
    ).to(qkv_ptr.dtype.element_ty)  # fmt: skip
    new_score = tl.sum(q.to(tl.float32) * new_k.to(tl.float32)[None, :], axis=1) * factor
    if SCORE is not None:
        new_score = SCORE(new_score, None, params) * LOG2E
    q = for_products(q, k_cache_ptr)

    # The newest token's sums: its score, 1 and its value.
    largest = tl.where(context > 0, new_score, float("-inf"))
    total = tl.where(context > 0, 1.0, tl.zeros((BLOCK_H,), tl.float32))
    acc = tl.zeros((BLOCK_H, BLOCK_D), tl.float32)
    acc = tl.where(context > 0, acc + new_v.to(tl.float32)[None, :], 0.0)

    # The newest token's sums lie before those of the units.
    UNIT: tl.constexpr = HEADS * (BLOCK_D + 2)
    ALONE: tl.constexpr = PARTS == 1
    group = seq * tl.num_programs(1) + tl.program_id(1)
    sums_ptr = partial_ptr + (0 if ALONE else group * (UNITS + 1) * UNIT)
    is_split = n_programs > 1
    if not ALONE and is_split & (part == 0):
        leave(sums_ptr, largest, total, acc, HEADS)

    sums = (largest, total, acc)
    unit_sums = no_sums(BLOCK_H, BLOCK_D)
    if AHEAD:
        if HAS_WINDOW:
            there = there & (rows >= begin - (first + tile) * BLOCK_N)
        unit_sums = tile_sums(q, k_0, v_0, there, unit_sums, None, factor, params, SCORE, None)
        is_last = (tile + UNITS >= n_tiles) & (n_mine_tiles > 0)
        sums, unit_sums = end_of_unit(
            is_last, is_split, sums_ptr + (1 + unit) * UNIT, sums, unit_sums, HEADS, ALONE
        )
        tile = tl.where(is_last, unit + n_programs, tile + UNITS)
        unit = tl.where(is_last, unit + n_programs, unit)
        n_mine_tiles -= 1
    sums = attend_units(
        sums, unit_sums, q, (k_cache_ptr, v_cache_ptr, block_table, kv_head, n_kv_heads),
        (n_tiles, n_programs, n_mine_tiles), (unit, tile, first, begin, n_left),
        (seq, head, context - 1), params, is_split, sums_ptr, factor, SCORE, None, HAS_WINDOW,
        HEADS, HEAD_DIM, BLOCK_TOKENS, BLOCK_N, UNITS, ALONE,
    )  # fmt: skip

    if PDL == 4:
        gdc_launch_dependents()
    out_at = out_ptr + seq * out_stride + head * HEAD_DIM
    finish(
        out_at, sums_ptr, arrivals_ptr + group, sums, is_split, part, n_programs, n_units, v_scale,
        v_cache_ptr, HEADS, HEAD_DIM, BLOCK_G, ALONE,
    )  # fmt: skip


def reference(a):
    return {**plain.reference(a), "arrivals_ptr": np.zeros_like(a["arrivals_ptr"])}


_MOST_UNITS = 31  # in the cases


def with_scratch(case):
    """Room for every sequence's sums, whatever the choice."""
    a = case.args
    n_seqs, n_heads = max(a["n_seqs"], 1), a["n_heads"]
    width = max(next_pow2(case.constexprs["HEAD_DIM"]), 16) + 2
    scratch = {
        "partial_ptr": filled(n_seqs, n_heads, _MOST_UNITS + 1, width),
        "arrivals_ptr": np.zeros((n_seqs, n_heads), np.int32),
    }
    types = {"partial_ptr": "fp32", "arrivals_ptr": "i32"}
    rows = {"ROWS": next_pow2(n_seqs), "MIXED": 0, "UNEVEN": 0}
    return replace(
        case,
        args={**a, **scratch},
        dtypes={**case.dtypes, **types},
        constexprs={**case.constexprs, **rows},
    )


def cases(act):
    for case in plain.cases(act):
        yield with_scratch(case)
    case = partial(fused_case, act=act)
    choices = {
        "one_program": {"UNITS": 4, "PARTS": 1},
        "parts": {"UNITS": 3, "PARTS": 2, "LEAST": 4},
        "room_for_some": {"UNITS": 3, "PARTS": 0},
        "a_program_a_unit": {"UNITS": 31, "PARTS": 31, "AHEAD": 1},
        "ahead": {"UNITS": 3, "PARTS": 2, "AHEAD": 1},
    }
    for name, choice in choices.items():
        lengths = [700, 1, 64, 65, 0, 300, 129, 2]
        yield with_scratch(case(name, lengths, 6, 2, 64, choice=choice))
    # Bytes of a cache, in the types and heads that Hopper's form takes.
    for dim in (64, 128):
        for kind in ("fp16", "bf16"):
            many = [1, 700, 64, 0, 330, 129]
            flags = {"act": kind, "cache": "fp8e4nv", "scales": (0.02, 0.5)}
            flags["softcap"] = 20.0 if dim == 64 else 0.0
            yield with_scratch(fused_case(f"fp8_cache_{kind}_{dim}", many, 8, 2, dim, **flags))
    # So many that each has one program, of several tiles.
    yield with_scratch(case("many", [83 * i % 400 for i in range(40)], 4, 2, 64))


def draw(d, act):
    choices = (
        {}, {"UNITS": 31, "PARTS": 31}, {"UNITS": 2, "PARTS": 1},
        {"UNITS": 5, "PARTS": 3, "LEAST": 2},
        {"PARTS": 0},
        {"AHEAD": 1}, {"UNITS": 3, "PARTS": 2, "AHEAD": 1},
    )  # fmt: skip
    return with_scratch(draw_fused(d, act, choices))


_GPU = {
    "HEADS": "n_heads // n_kv_heads",
    # What the stages hold of keys and values fits every GPU's shared memory.
    "BLOCK_N": "min(BLOCK_TOKENS, 64 if HEAD_DIM <= 128 else 32 if HEAD_DIM <= 256 else 16)",
    "UNITS": 31,  # and the newest token: merged in two rounds
    "PARTS": "0 if MIXED or ROWS > 512"
    " else max(min(256 // (ROWS * n_kv_heads), UNITS), 8 if UNEVEN else 1)",
    # Where sequences alone fill the machine, only a long one is worth the merging.
    "LEAST": "8 if MIXED or UNEVEN or ROWS > 512 else 1",
    "PDL": 0,
    "AHEAD": 0,
    "HOPPER": 0,
    "num_warps": 4,
    "num_stages": 2,
}
_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
SPEC = Spec(
    fn=attention_decode_split,
    forms={"HOPPER": hopper.attention_decode_split},
    # So four programs whose cache has 8 bits fit a multiprocessor, and 64 sequences with 8 heads of
    # keys are there at once.
    registers="128 if HOPPER and sizeof(k_cache_ptr) == 1 and ROWS > 32 else 0",
    op="rope_attention",
    when="decode and gpu",
    params=(
        out("out_ptr", FLOATS, "n_seqs", "out_stride"),
        inout("k_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        inout("v_cache_ptr", CACHE_TYPES, *_CACHE_SHAPE),
        scratch(
            "partial_ptr",
            "fp32",
            "n_seqs if PARTS != 1 else 1",
            "n_heads",
            "UNITS + 1",
            "BLOCK_D + 2",
        ),
        counter("arrivals_ptr", "i32", "n_seqs", "n_heads // HEADS"),
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
        given("ROWS", of="step.rows"),
        given("MIXED", of="@rows == decode"),
        given("UNEVEN", of="step.uneven"),
        tuned("HEADS"),
        tuned("BLOCK_N"),
        tuned("UNITS"),
        tuned("PARTS"),
        tuned("LEAST"),
        tuned("PDL"),
        tuned("AHEAD"),
        tuned("HOPPER"),
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
    # An upper bound from what the launch knows: every page of every block table is read.
    bytes="n_seqs * HEAD_DIM * (n_heads * (sizeof(out_ptr) + sizeof(qkv_ptr))"
    " + n_kv_heads * (2 * sizeof(qkv_ptr)"
    " + max_blocks * BLOCK_TOKENS * (sizeof(k_cache_ptr) + sizeof(v_cache_ptr))))",
    flops="4 * n_seqs * n_heads * max_blocks * BLOCK_TOKENS * HEAD_DIM",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("HOPPER", "HEADS", "BLOCK_N", "UNITS", "PARTS", "LEAST", "PDL", "AHEAD"),
    default={
        "cpu": {**_GPU, "num_warps": 1, "num_stages": 1},
        "cuda": _GPU,
        "hip": {**_GPU, "num_stages": 1},
    },
)
