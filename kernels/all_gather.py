"""Columns that ranks computed, side by side on each of them (kernels/lib/exchange.py).

    out[n, r * C + c] = x_r[n, c]

x_r is rank r's x [N, C], rows with a stride; out [N, RANKS * C]. Grid: at most 64 programs, which
take blocks in turns.
"""

from functools import partial

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
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def all_gather(
    out_ptr, inbox0_ptr, inbox1_ptr, inbox2_ptr, inbox3_ptr, inbox4_ptr, inbox5_ptr, inbox6_ptr,
    inbox7_ptr, x_ptr, epoch_ptr, stop_ptr, mine_ptr, n_rows, n_cols, rank, index, slot_words,
    x_stride, RANKS: tl.constexpr, BLOCK: tl.constexpr,
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
        target_ptr = out_ptr + offs // n_cols * (RANKS * n_cols) + offs % n_cols
        for source in tl.static_range(RANKS):
            sent_ptr = slot(mine_ptr, x_ptr, epoch, source, slot_words, RANKS)
            x = tl.load(sent_ptr + offs, mask=mask, volatile=True)
            tl.store(target_ptr + source * n_cols, x, mask=mask)


def reference(a):
    n_rows, n_cols, n_ranks = a["n_rows"], a["n_cols"], a["RANKS"]
    n = n_rows * n_cols
    out_ptr = a["out_ptr"].copy()
    sent = received(a, n).reshape(n_ranks, n_rows, n_cols)
    out_ptr[:n_rows] = sent.transpose(1, 0, 2).reshape(n_rows, n_ranks * n_cols)
    n_programs = min(-(-n // a["BLOCK"]), N_PROGRAMS)
    return {"out_ptr": out_ptr, **delivered(a, a["x_ptr"][:n_rows, :n_cols], n_programs)}


def make_case(name, n_rows, n_cols, n_ranks, rank, pad=0, *, act, epoch=1, index=0):
    g = rng(name)
    sent = normal(g, n_ranks, n_rows, n_cols)
    args, types = meeting(g, sent, act, rank, epoch, index)
    args |= {
        "out_ptr": filled(n_rows + 1, n_ranks * n_cols),
        "x_ptr": rows_of(sent[rank], pad),
        "x_stride": n_cols + pad,
        "n_rows": n_rows,
        "n_cols": n_cols,
    }
    return Case(name, args, types | {"out_ptr": act, "x_ptr": act}, {"RANKS": n_ranks})


def cases(act):
    case = partial(make_case, act=act)
    yield case("logits", 2, 4096, 2, 1)
    yield case("odd", 3, 77, 3, 0, 5, epoch=-9, index=5)
    yield case("eight", 4, 512, 8, 5)
    yield case("many_rows", 200, 384, 2, 0)
    yield case("one_rank", 2, 384, 1, 0)
    yield case("no_rows", 0, 384, 3, 2)


def draw(d, act):
    n_ranks = d.variant.of(1, 2, 2, 3, 4, 8)
    n_cols = d.width(1, 5000)
    n_rows = d.rows(max(2, 24000 // n_cols))
    return make_case(
        d.name, n_rows, n_cols, n_ranks, d.case.between(0, n_ranks - 1), d.gap(n_cols, n_rows),
        act=d.types(act),
        epoch=d.case.between(-(2**31), 2**31 - 200), index=d.case.between(0, 150),
    )  # fmt: skip


SPEC = Spec(
    fn=all_gather,
    op="all_gather",
    params=(
        out("out_ptr", FLOATS, "RANKS * n_rows * n_cols"),
        *inbox_params,
        inp("x_ptr", FLOATS, "n_rows", "x_stride"),
        *meeting_params,
        step_size("n_rows", of="x[0]"),
        size("n_cols", of="x[1]"),
        *place_params,
        stride("x_stride"),
        given("RANKS", of="@ranks"),
        tuned("BLOCK"),
    ),
    grid=("min(cdiv(n_rows * n_cols, BLOCK), 64)", "1", "1"),
    bytes="n_rows * n_cols * 4 * RANKS * sizeof(x_ptr)",
    flops="0",
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
