"""The ids of a step's tokens, where some are still to be taken from the step before.

    out[t] = ids[t] where ids[t] >= 0, else max(last_ids[-1 - ids[t]], 0)

ids, out [T]; last_ids [L], what each row of the step before chose: a step may be queued before the
host knows. Of a row without a choice (-1) the id is 0: nobody asks what follows, and it is an
index. Grid: T / BLOCK.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import Case, Spec, derived, inp, out, rng, step_size


@triton.jit
def take_ids(out_ptr, ids_ptr, last_ids_ptr, n_tokens, BLOCK: tl.constexpr):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = token < n_tokens
    given = tl.load(ids_ptr + token, mask=mask, other=0)
    row = tl.maximum(-1 - given, 0)
    taken = tl.load(last_ids_ptr + row, mask=mask & (given < 0), other=0)
    tl.store(out_ptr + token, tl.where(given < 0, tl.maximum(taken, 0), given), mask=mask)


def reference(a):
    taken = a["out_ptr"].copy()
    for token in range(a["n_tokens"]):
        given = int(a["ids_ptr"][token])
        taken[token] = given if given >= 0 else max(int(a["last_ids_ptr"][-1 - given]), 0)
    return {"out_ptr": taken}


def case(name, n_tokens, n_rows, part_taken=0.5):
    """`part_taken`: how many of the tokens are the step before's; one row chose nothing."""
    g = rng(name)
    last_ids = g.integers(0, 2**31 - 1, n_rows).astype(np.int32)
    last_ids[g.integers(n_rows)] = -1
    ids = g.integers(0, 2**31 - 1, n_tokens + 1).astype(np.int32)
    is_taken = g.random(n_tokens + 1) < part_taken
    ids[is_taken] = -1 - g.integers(0, n_rows, int(is_taken.sum()))
    return Case(
        name,
        {
            "out_ptr": np.full(n_tokens + 1, -5, np.int32),
            "ids_ptr": ids,
            "last_ids_ptr": last_ids,
            "n_tokens": n_tokens,
        },
        {"out_ptr": "i32", "ids_ptr": "i32", "last_ids_ptr": "i32"},
    )


def cases(act):
    yield case("prompt", 300, 64, part_taken=0.0)
    yield case("decode", 64, 64, part_taken=1.0)
    yield case("mixed", 512, 33)
    yield case("one", 1, 1, part_taken=1.0)
    yield case("none", 0, 4)


def draw(d, act):
    return case(d.name, d.rows(600, 128), d.case.of(1, 2, 64, 500), d.case.of(0.0, 0.1, 0.5, 1.0))


SPEC = Spec(
    fn=take_ids,
    op="take_ids",
    params=(
        out("out_ptr", "i32", "n_tokens", of="ids"),
        inp("ids_ptr", "i32", "n_tokens", of="token_ids"),
        inp("last_ids_ptr", "i32", "n_tokens"),
        step_size("n_tokens", of="token_ids[0]"),
        derived("BLOCK", "128"),
    ),
    grid=("cdiv(n_tokens, BLOCK)", "1", "1"),
    bytes="3 * n_tokens * sizeof(ids_ptr)",
    flops="0",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 2, "num_stages": 1},
    },
)
