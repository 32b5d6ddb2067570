"""The sum of what all ranks computed, on each of them (kernels/lib/exchange.py).

    out[i] = alpha * (x_0[i] + x_1[i] + ... + bias[i % n_cols]) + residual[i],  i < n

x_r is rank r's x, rows with a stride; out may be residual. Sums are in fp32 and in the order of
the ranks: the same bits on each. Grid: at most 64 programs, which take blocks in turns.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.lib.exchange import exchange, slot
from kernels.lib.exchange_cases import (
    N_PROGRAMS,
    delivered,
    inbox_params,
    meeting,
    meeting_params,
    place_params,
    received,
    rows_of,
)
from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    filled,
    given,
    inp,
    normal,
    out,
    rng,
    scalar,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def all_reduce(
    out_ptr, inbox0_ptr, inbox1_ptr, inbox2_ptr, inbox3_ptr, inbox4_ptr, inbox5_ptr, inbox6_ptr,
    inbox7_ptr, x_ptr, bias_ptr, residual_ptr, epoch_ptr, stop_ptr, mine_ptr, n_rows, n_cols,
    rank, index, slot_words, x_stride, alpha, RANKS: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    inboxes = (
        inbox0_ptr, inbox1_ptr, inbox2_ptr, inbox3_ptr, inbox4_ptr, inbox5_ptr, inbox6_ptr,
        inbox7_ptr,
    )  # fmt: skip
    epoch = tl.load(epoch_ptr) + index
    n_elements = n_rows.to(tl.int64) * n_cols
    exchange(
        inboxes, x_ptr, n_elements, n_cols, x_stride, epoch, rank, slot_words, mine_ptr, stop_ptr,
        RANKS, BLOCK,
    )  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * BLOCK
    for begin in range(first, n_elements, tl.num_programs(0) * BLOCK):
        offs = begin + tl.arange(0, BLOCK)
        mask = offs < n_elements
        y = tl.zeros((BLOCK,), tl.float32)
        for source in tl.static_range(RANKS):
            sent_ptr = slot(mine_ptr, x_ptr, epoch, source, slot_words, RANKS)
            y += tl.load(sent_ptr + offs, mask=mask, other=0.0, volatile=True).to(tl.float32)
        if HAS_BIAS:
            y += tl.load(bias_ptr + offs % n_cols, mask=mask, other=0.0).to(tl.float32)
        y *= alpha
        if HAS_RESIDUAL:
            y += tl.load(residual_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        tl.store(out_ptr + offs, y.to(out_ptr.dtype.element_ty), mask=mask)


def reference(a):
    n, n_cols = a["n_rows"] * a["n_cols"], a["n_cols"]
    y = received(a, n).astype(np.float64).sum(axis=0)
    if a["bias_ptr"] is not None:
        y += np.tile(a["bias_ptr"][:n_cols], n // n_cols)
    y *= np.float32(a["alpha"])
    if a["residual_ptr"] is not None:
        y += a["residual_ptr"][:n]
    out_ptr = a["out_ptr"].copy()
    out_ptr[:n] = y
    n_programs = min(-(-n // a["BLOCK"]), N_PROGRAMS)
    x = a["x_ptr"][: a["n_rows"], :n_cols]
    return {"out_ptr": out_ptr, **delivered(a, x, n_programs)}


def make_case(
    name, n_rows, n_cols, n_ranks, rank, pad=0, *, act, bias=None, has_residual=True, alpha=1.0,
    epoch=1, index=0, std=1.0,
):  # fmt: skip
    g = rng(name)
    n = n_rows * n_cols
    sent = normal(g, n_ranks, n_rows, n_cols, std=std)
    args, types = meeting(g, sent, act, rank, epoch, index)
    args |= {
        "out_ptr": filled(n + 5),
        "x_ptr": rows_of(sent[rank], pad),
        "x_stride": n_cols + pad,
        "bias_ptr": None if bias is None else normal(g, n_cols, std=std),
        "residual_ptr": normal(g, n + 5, std=std) if has_residual else None,
        "n_rows": n_rows,
        "n_cols": n_cols,
        "alpha": alpha,
    }
    types |= {"out_ptr": act, "x_ptr": act, "bias_ptr": bias or act, "residual_ptr": act}
    has = {"HAS_BIAS": int(bias is not None), "HAS_RESIDUAL": int(has_residual)}
    return Case(
        name, args, types, {"RANKS": n_ranks, **has},
        units={"out_ptr": std * (1.0 + n_ranks * abs(alpha))},
    )  # fmt: skip


def cases(act):
    case = partial(make_case, act=act)
    yield case("two", 2, 4096, 2, 1)
    yield case("odd", 3, 77, 2, 0, 5, bias="fp32", alpha=0.22, epoch=6, index=5)
    yield case("eight", 4, 512, 8, 5, bias=act, has_residual=False)
    yield case("many_rows", 300, 384, 2, 1, bias="bf16")
    yield case("one_rank", 2, 384, 1, 0)
    yield case("no_rows", 0, 384, 3, 2)
    yield case("wrapped", 1, 384, 2, 0, epoch=2**31 - 3, index=2)


def draw(d, act):
    n_ranks = d.variant.of(1, 2, 2, 3, 4, 8)
    n_cols = d.width(1, 5000)
    n_rows = d.rows(max(2, 24000 // n_cols))
    return make_case(
        d.name, n_rows, n_cols, n_ranks, d.case.between(0, n_ranks - 1), d.gap(n_cols, n_rows),
        act=d.types(act),
        bias=d.variant.of(None, act, *FLOATS), has_residual=d.variant.chance(0.6),
        alpha=d.case.of(1.0, 0.22, -3.0), epoch=d.case.between(-(2**31), 2**31 - 200),
        index=d.case.between(0, 150), std=d.scale(act, "fp16"),
    )  # fmt: skip


SPEC = Spec(
    fn=all_reduce,
    op="all_reduce",
    params=(
        out("out_ptr", FLOATS, "n_rows * n_cols"),
        *inbox_params,
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        inp("bias_ptr", FLOATS, "n_cols"),
        inp("residual_ptr", FLOATS, "n_rows * n_cols"),
        *meeting_params,
        step_size("n_rows", of="x[0]"),
        size("n_cols", of="x[1]"),
        *place_params,
        stride("x_stride"),
        scalar("alpha"),
        given("RANKS", of="@ranks"),
        given("HAS_BIAS"),
        given("HAS_RESIDUAL"),
        tuned("BLOCK"),
    ),
    grid=("min(cdiv(n_rows * n_cols, BLOCK), 64)", "1", "1"),
    bytes="n_rows * n_cols * (sizeof(out_ptr) + 3 * RANKS * sizeof(x_ptr))",
    flops="n_rows * n_cols * RANKS",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),
    default={
        "cpu": {"BLOCK": 1024, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
        "hip": {"BLOCK": 1024, "num_warps": 4, "num_stages": 1},
    },
)
