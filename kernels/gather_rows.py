"""Rows of a table by index: the embedding, and the rows whose logits are wanted.

    out[t, :] = table[ids[t] - first, :] * scale, or 0 where the table has no such row

out [T, D]; table [n, D] with row stride; ids [T]. Grid: (T, D / BLOCK). Arithmetic: fp32.
A table that is shared out among ranks begins at `first` on this one: the sum of what all make is
the row.
"""

from functools import partial

import numpy as np
import triton
import triton.language as tl

from kernels.spec import (
    FLOATS,
    Case,
    Spec,
    derived,
    filled,
    inp,
    out,
    padded,
    rng,
    scalar,
    size,
    step_size,
    stride,
)


@triton.jit
def gather_rows(
    out_ptr, table_ptr, ids_ptr, n_rows, n_cols, n_table, first, table_stride, scale,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    source = tl.load(ids_ptr + row).to(tl.int64) - first
    is_here = (source >= 0) & (source < n_table)
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n_cols
    source_ptr = table_ptr + source * table_stride + offs
    x = tl.load(source_ptr, mask=mask & is_here, other=0.0).to(tl.float32)
    y = (x * scale).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row.to(tl.int64) * n_cols + offs, y, mask=mask)


def reference(a):
    n_cols = a["n_cols"]
    out_ptr = a["out_ptr"].copy()
    for row in range(a["n_rows"]):
        source = a["ids_ptr"][row] - a["first"]
        is_here = 0 <= source < a["n_table"]
        out_ptr[row] = a["table_ptr"][source, :n_cols] * np.float32(a["scale"]) if is_here else 0.0
    return {"out_ptr": out_ptr}


def make_case(
    name, n_rows, n_cols, n_table, pad=0, scale=1.0, *, act, table="fp16", n_spare=0, std=1.0,
    first=0, n_around=0,
):  # fmt: skip
    """`n_around`: ids before and behind those of the table."""
    g = rng(name)
    return Case(
        name,
        {
            "out_ptr": filled(n_rows + n_spare, n_cols),
            "table_ptr": padded(g, n_table, n_cols, pad, std=std),
            "ids_ptr": g.integers(
                max(first - n_around, 0), first + n_table + n_around, max(n_rows, 1)
            ).astype(np.int32),
            "n_rows": n_rows,
            "n_cols": n_cols,
            "n_table": n_table,
            "first": first,
            "table_stride": n_cols + pad,
            "scale": scale,
        },
        {"out_ptr": act, "table_ptr": table, "ids_ptr": "i32"},
        units={"out_ptr": std * abs(scale)},
    )


def cases(act):
    case = partial(make_case, act=act)
    yield case("demo", 7, 384, 8192)
    yield case("granite_multiplier", 5, 128, 512, scale=12.0, table="bf16")
    yield case("llama3_8b", 2, 4096, 300)
    yield case("odd_strided", 3, 77, 19, pad=5, table="fp32")
    yield case("wide", 2, 14336, 3)
    yield case("pick_activations", 4, 384, 9, table=act)
    yield case("no_rows", 0, 384, 4, n_spare=1)
    yield case("first_part", 9, 384, 100, n_around=100)
    yield case("last_part", 9, 384, 100, first=300, n_around=150)


def draw(d, act):
    out, table = d.types(act), d.types(act)
    std = d.scale(out, table)
    n_cols = d.width(1, 9000)
    most = max(2, 12000 // n_cols)
    n_table = min(most, d.case.of(1, 2, 19, 200))
    case = make_case(
        d.name, d.rows(min(most, 40)), n_cols, n_table, d.gap(n_cols, n_table),
        d.case.of(1.0, 12.0, -0.5), act=out, table=table, n_spare=1, std=std,
        first=d.case.of(0, 0, n_table, 5000), n_around=d.case.of(0, 0, n_table, 3),
    )  # fmt: skip
    d.season(case.args["table_ptr"][:, :n_cols], std)
    return case


SPEC = Spec(
    fn=gather_rows,
    op="gather_rows",
    params=(
        out("out_ptr", FLOATS, "n_rows", "n_cols"),
        inp("table_ptr", FLOATS, "n_rows", "table_stride"),
        inp("ids_ptr", "i32", "n_rows"),
        step_size("n_rows", of="out[0]"),
        size("n_cols", of="out[1]"),
        step_size("n_table", of="table[0]"),
        step_size("first", of="@first"),
        stride("table_stride"),
        scalar("scale"),
        derived("BLOCK", "min(next_pow2(n_cols), 4096)"),
    ),
    grid=("n_rows", "cdiv(n_cols, BLOCK)", "1"),
    bytes="n_rows * n_cols * (sizeof(out_ptr) + sizeof(table_ptr))",
    flops="n_rows * n_cols",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": "1 if BLOCK <= 256 else 4", "num_stages": 1},
        "hip": {"num_warps": "1 if BLOCK <= 512 else 4", "num_stages": 1},
    },
)
