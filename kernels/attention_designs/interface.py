"""What the attention designs share, so that a model runs on any of them: operands, where rows and
pages lie, cases, reference and Spec. How keys are walked and sums kept is each design's own.

All compute what attention_prefill and attention_decode do, for the same operands: out, q [T, Hq,
Dh] with token strides; caches [n_blocks, Hkv, BLOCK_TOKENS, Dh]; a window, a soft cap. DECODE: of a
step's sequences the first n_decodes, which bring one token each; else those after them, whose
tokens are rows cu_seqlens[s] to cu_seqlens[s + 1]. Products take the element type of q; the rest is
fp32.
"""

from dataclasses import replace

import numpy as np
import triton
import triton.language as tl

from kernels import attention_decode, attention_prefill
from kernels.lib.attention import soft_cap
from kernels.lib.paged import attention_reference, page_offset
from kernels.lib.paged_cases import draw_attention
from kernels.spec import (
    FLOATS,
    Spec,
    derived,
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
def query_span(seq, cu_seqlens_ptr, context_lens_ptr, DECODE: tl.constexpr):
    """Of a sequence: its first row, how many rows, and how many keys with them."""
    context = tl.load(context_lens_ptr + seq)
    if DECODE:
        first_row = seq
        n_rows = tl.full((), 1, tl.int32)
    else:
        first_row = tl.load(cu_seqlens_ptr + seq)
        n_rows = tl.load(cu_seqlens_ptr + seq + 1) - first_row
    return first_row, n_rows, context


@triton.jit
def key_span(first, n_rows, context, window, BLOCK_M: tl.constexpr):
    """The keys that some row of a tile of queries sees, from its first row `first` on, and how far
    back a row sees."""
    position = context - n_rows + first
    end = tl.maximum(tl.minimum(context, position + BLOCK_M), 0)
    end = tl.where(first < n_rows, end, 0)
    begin = tl.where(window > 0, tl.maximum(position - window + 1, 0), 0)
    reach = tl.where(window > 0, window, 0x7FFFFFFF)
    return begin, end, reach


@triton.jit
def load_queries(
    q_ptr, q_stride, head, first_row, offs_m, n_rows, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """A tile of queries [BLOCK_M, BLOCK_D], zeros beyond the sequence's rows."""
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_m < n_rows)[:, None] & (offs_d < HEAD_DIM)[None, :]
    rows = (first_row + offs_m).to(tl.int64)[:, None] * q_stride
    return tl.load(q_ptr + rows + head * HEAD_DIM + offs_d[None, :], mask=mask, other=0.0)


@triton.jit
def query_tile(
    seq, head, first, q_ptr, q_stride, block_tables_ptr, cu_seqlens_ptr, context_lens_ptr, n_heads,
    n_kv_heads, max_blocks, window, DECODE: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A tile of queries from a sequence's row `first` on, and their rows; of the sequence what
    query_span says; of the tile what key_span says; its table of pages and its KV head."""
    first_row, n_rows, context = query_span(seq, cu_seqlens_ptr, context_lens_ptr, DECODE)
    begin, end, reach = key_span(first, n_rows, context, window, BLOCK_M)
    block_table = block_tables_ptr + tl.cast(seq, tl.int64) * max_blocks
    offs_m = first + tl.arange(0, BLOCK_M)
    q = load_queries(q_ptr, q_stride, head, first_row, offs_m, n_rows, HEAD_DIM, BLOCK_D)
    kv_head = head // (n_heads // n_kv_heads)
    return q, offs_m, first_row, n_rows, context, begin, end, reach, block_table, kv_head


@triton.jit
def store_rows(
    out_ptr, out_stride, head, first_row, offs_m, n_rows, y, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_m < n_rows)[:, None] & (offs_d < HEAD_DIM)[None, :]
    rows = (first_row + offs_m).to(tl.int64)[:, None] * out_stride
    at = out_ptr + rows + head * HEAD_DIM + offs_d[None, :]
    tl.store(at, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def load_keys(
    cache_ptr, block_table, start, context, kv_head, n_kv_heads, MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A tile of keys or values [BLOCK_N, BLOCK_D] from key `start` on, a multiple of BLOCK_N.
    MASKED: it may reach beyond the context, where a page holds anything; those are zeros."""
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    page = page_offset(block_table, start, kv_head, n_kv_heads, HEAD_DIM, BLOCK_TOKENS)
    at = cache_ptr + page + offs_n[:, None] * HEAD_DIM + offs_d[None, :]
    is_lane = (offs_d < HEAD_DIM)[None, :]
    is_key = (start + offs_n < context)[:, None]
    if MASKED:
        x = tl.load(at, mask=is_key if BLOCK_D == HEAD_DIM else is_key & is_lane, other=0.0)
    elif BLOCK_D == HEAD_DIM:
        x = tl.load(at)
    else:
        x = tl.load(at, mask=is_lane, other=0.0)
    return x


@triton.jit
def capped(score, softcap, HAS_SOFTCAP: tl.constexpr):
    if HAS_SOFTCAP:
        score = soft_cap(score, softcap)
    return score


_CACHE_SHAPE = ("max_blocks * n_seqs", "n_kv_heads", "BLOCK_TOKENS", "HEAD_DIM")
_QUERIES = "(1 if DECODE else max_q_len)"
SEQUENCES = "(n_decodes if DECODE else n_seqs - n_decodes)"
TILES = "(1 if DECODE else cdiv(max_q_len, BLOCK_M))"  # of queries, of the longest sequence

_POINTERS = (
    inp("q_ptr", FLOATS, "n_seqs * max_q_len", "q_stride"),
    inp("k_cache_ptr", FLOATS, *_CACHE_SHAPE),
    inp("v_cache_ptr", FLOATS, *_CACHE_SHAPE),
    inp("block_tables_ptr", "i32", "n_seqs", "max_blocks"),
    inp("cu_seqlens_ptr", "i32", "n_seqs + 1", of="query_starts"),
    inp("context_lens_ptr", "i32", "n_seqs"),
)
_SIZES = (
    step_size("n_seqs", of="context_lens[0]"),
    step_size("n_decodes", of="step.decodes"),
    step_size("max_q_len", of="step.max_query"),
    size("n_heads", of="q[1]"),
    size("n_kv_heads", of="k_cache[1]"),
    step_size("max_blocks", of="block_tables[1]"),
    size("window", of="@window"),
)
_REST = (
    stride("out_stride"),
    stride("q_stride"),
    scalar("scale"),
    scalar("softcap"),
    given("HEAD_DIM", of="q[2]"),
    given("BLOCK_TOKENS", of="k_cache[2]"),
    given("HAS_SOFTCAP", of="@softcap != 0"),
    given("DECODE", of="step.is_decode"),
)


# Sinks, and what score and mask functions read.
_NOT_SERVED = ("sinks_ptr", "fn_a_ptr", "fn_b_ptr", "fn_a_width", "fn_b_width")


def adapted(case, is_decode):
    """A case of attention_decode or attention_prefill with the designs' operands."""
    a = case.args
    for name in _NOT_SERVED:
        del a[name]
        case.dtypes.pop(name, None)
    del case.constexprs["HAS_SINKS"]
    n_all = len(a["context_lens_ptr"])
    if is_decode:
        a["cu_seqlens_ptr"] = np.arange(n_all + 1, dtype=np.int32)
        a["max_q_len"] = 1
        a["n_decodes"] = a["n_seqs"]
        a["n_seqs"] = n_all
    else:
        a["n_decodes"] = a.pop("first_seq")
    case.dtypes["cu_seqlens_ptr"] = "i32"
    case.constexprs["DECODE"] = int(is_decode)
    return case


def reference(a):
    a = {**a, **dict.fromkeys(_NOT_SERVED)}
    if not a["DECODE"]:
        return attention_reference({**a, "first_seq": a["n_decodes"]})
    return attention_reference({**a, "n_seqs": a["n_decodes"]})


# Of the cases of attention_prefill and attention_decode those that differ in what a design decides:
# where tiles, masks and ranges end. Draws go over the rest.
_PROMPTS = (
    "ragged", "behind_decodes", "empty_among", "rows_that_see_nothing", "window_behind_a_tile",
    "softcap", "heads_80", "llama3_8b", "several_tiles", "block_16", "bf16",
)  # fmt: skip
_DECODES = (
    "batch", "beside_prompts", "contexts_of_nothing", "window", "softcap", "heads_80", "bf16",
)  # fmt: skip


def _phases(is_for_prompts):
    return ((attention_decode, True), (attention_prefill, False))[: 1 + is_for_prompts]


def _cases(is_for_prompts, extra):
    def cases(act):
        for ours, is_decode in _phases(is_for_prompts):
            for case in ours.cases(act):
                if case.name not in (_DECODES if is_decode else _PROMPTS):
                    continue
                name = ("decode_" if is_decode else "") + case.name
                yield extra(adapted(replace(case, name=name), is_decode))

    return cases


def _draw(is_for_prompts, extra, choices):
    def draw(d, act):
        q = d.types(act)
        cache = d.types("fp16") if q == "fp32" else q  # products take the type of q
        is_decode = not is_for_prompts or d.variant.chance(0.4)
        case = adapted(draw_attention(d, q, cache, decode=is_decode), is_decode)
        return extra(replace(case, choice=d.variant.of(*choices)))

    return draw


def design_spec(
    fn, design, grid, *, is_for_prompts=True, memory=(), sizes=(), choice=None, derives=(),
    extra=lambda case: case, choices=({},), expects=lambda a: {},
):  # fmt: skip
    """`memory`: scratch and counters, between out and q; `sizes`: after the shared ones; `choice`:
    tuned constexprs beside the tile sizes, by family; `extra` adds to a case what these need, and
    `expects` says what of it a launch leaves."""
    tile = {"BLOCK_M": "16 if DECODE else 64"} if is_for_prompts else {}
    tile |= {"BLOCK_N": "min(BLOCK_TOKENS, 64)"}
    choice = choice or {family: {} for family in ("cpu", "cuda", "hip")}
    names = (*choice["cpu"], *tile)
    schedule = {
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 2},
        "hip": {"num_warps": 4, "num_stages": 1},
    }
    return Spec(
        fn=fn,
        design=design,
        op="attention",
        when="1" if is_for_prompts else "decode",
        params=(
            out("out_ptr", FLOATS, "n_seqs * max_q_len", "out_stride"),
            *memory,
            *_POINTERS,
            *_SIZES,
            *sizes,
            *_REST,
            *(tuned(name) for name in names),
            *derives,
            derived("BLOCK_D", "max(next_pow2(HEAD_DIM), 16)"),
        ),
        grid=grid,
        # As attention_prefill and attention_decode have them.
        bytes=f"{SEQUENCES} * HEAD_DIM * ({_QUERIES} * n_heads * (sizeof(out_ptr) + sizeof(q_ptr))"
        " + (max_blocks * BLOCK_TOKENS if DECODE else max_q_len) * n_kv_heads"
        " * (sizeof(k_cache_ptr) + sizeof(v_cache_ptr)))",
        flops=f"2 * {SEQUENCES} * n_heads * HEAD_DIM"
        " * (2 * max_blocks * BLOCK_TOKENS if DECODE else max_q_len * max_q_len)",
        reference=lambda a: {**reference(a), **expects(a)},
        cases=_cases(is_for_prompts, extra),
        draw=_draw(is_for_prompts, extra, choices),
        tuned=names,
        default={f: {**choice[f], **tile, **schedule[f]} for f in schedule},
    )
