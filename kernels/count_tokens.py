"""Counts what sequences have generated, for the penalties on what was said before.

    counts[slots[t], ids[t]] += 2;  a negative slot is skipped

counts [n_slots, V] i32 with row stride, 2 * (times generated) + (1 if in the prompt): a penalty may
be on both or on what was generated alone. ids, slots [T]; the slots of a step that are not negative
differ, so no two tokens meet. Grid: T / BLOCK.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import Case, Spec, derived, inout, inp, rng, step_size, stride


@triton.jit
def count_tokens(
    token_counts_ptr, ids_ptr, slots_ptr, n_tokens, token_counts_stride, BLOCK: tl.constexpr
):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(slots_ptr + token, mask=token < n_tokens, other=-1).to(tl.int64)
    mask = slot >= 0
    target = (
        token_counts_ptr + slot * token_counts_stride + tl.load(ids_ptr + token, mask=mask, other=0)
    )
    tl.store(target, tl.load(target, mask=mask, other=0) + 2, mask=mask)


def reference(a):
    counts = a["token_counts_ptr"].copy()
    for token in range(a["n_tokens"]):
        if a["slots_ptr"][token] >= 0:
            counts[a["slots_ptr"][token], a["ids_ptr"][token]] += 2
    return {"token_counts_ptr": counts}


def case(name, n_tokens, n_slots, n_vocab, pad=0):
    g = rng(name)
    # Each slot at most once, anywhere among the tokens; what lies behind the last names one too.
    slots = np.full(n_tokens + 1, -1, np.int32)
    n_counted = int(g.integers(0, min(n_tokens, n_slots) + 1))
    slots[g.permutation(n_tokens)[:n_counted]] = g.permutation(n_slots)[:n_counted]
    slots[n_tokens] = 0
    return Case(
        name,
        {
            "token_counts_ptr": g.integers(0, 9, (n_slots, n_vocab + pad)).astype(np.int32),
            "ids_ptr": g.integers(0, n_vocab, n_tokens + 1).astype(np.int32),
            "slots_ptr": slots,
            "n_tokens": n_tokens,
            "token_counts_stride": n_vocab + pad,
        },
        {"token_counts_ptr": "i32", "ids_ptr": "i32", "slots_ptr": "i32"},
    )


def cases(act):
    yield case("demo", 40, 64, 8192)
    yield case("mixed", 300, 8, 512)
    yield case("odd", 7, 3, 77, pad=5)
    yield case("one", 1, 2, 512)
    yield case("none", 0, 2, 512)


def draw(d, act):
    n_vocab = d.width(1, 9000)
    n_slots = d.case.of(1, 2, 5)
    return case(d.name, d.rows(300, 128), n_slots, n_vocab, d.gap(n_vocab, n_slots))


SPEC = Spec(
    fn=count_tokens,
    op="count_tokens",
    params=(
        inout("token_counts_ptr", "i32", "n_tokens", "token_counts_stride"),
        inp("ids_ptr", "i32", "n_tokens"),
        inp("slots_ptr", "i32", "n_tokens", of="token_slots"),
        step_size("n_tokens", of="ids[0]"),
        stride("token_counts_stride"),
        derived("BLOCK", "128"),
    ),
    grid=("cdiv(n_tokens, BLOCK)", "1", "1"),
    bytes="n_tokens * (2 * sizeof(token_counts_ptr) + sizeof(ids_ptr) + sizeof(slots_ptr))",
    flops="n_tokens",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 4, "num_stages": 1},
        "hip": {"num_warps": 2, "num_stages": 1},
    },
)
