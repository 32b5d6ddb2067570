"""Remembers which tokens a sequence has had, for the repetition penalty.

    seen[slots[t], ids[t]] = 1;  a negative slot is skipped

seen [n_slots, V] with row stride; ids, slots [T]. Grid: one program a token.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.spec import Case, Spec, inout, inp, rng, step_size, stride


@triton.jit
def mark_seen(seen_ptr, ids_ptr, slots_ptr, n_tokens, seen_stride):
    token = tl.program_id(0)
    slot = tl.load(slots_ptr + token).to(tl.int64)
    target = seen_ptr + slot * seen_stride + tl.load(ids_ptr + token)
    tl.store(target, tl.full((), 1, tl.uint8), mask=slot >= 0)


def reference(a):
    seen = a["seen_ptr"].copy()
    for token in range(a["n_tokens"]):
        if a["slots_ptr"][token] >= 0:
            seen[a["slots_ptr"][token], a["ids_ptr"][token]] = 1
    return {"seen_ptr": seen}


def case(name, n_tokens, n_slots, n_vocab, pad=0):
    g = rng(name)
    return Case(
        name,
        {
            "seen_ptr": np.zeros((n_slots, n_vocab + pad), np.uint8),
            "ids_ptr": g.integers(0, n_vocab, n_tokens + 1).astype(np.int32),
            "slots_ptr": g.integers(-1, n_slots, n_tokens + 1).astype(np.int32),
            "n_tokens": n_tokens,
            "seen_stride": n_vocab + pad,
        },
        {"seen_ptr": "u8", "ids_ptr": "i32", "slots_ptr": "i32"},
    )


def cases(act):
    yield case("demo", 40, 4, 8192)
    yield case("odd", 7, 3, 77)
    yield case("one", 1, 2, 512)


def draw(d, act):
    n_vocab = d.width(1, 9000)
    n_slots = d.case.of(1, 2, 5)
    return case(d.name, d.rows(80), n_slots, n_vocab, d.gap(n_vocab, n_slots))


SPEC = Spec(
    fn=mark_seen,
    op="mark_seen",
    params=(
        inout("seen_ptr", "u8", "n_tokens", "seen_stride"),
        inp("ids_ptr", "i32", "n_tokens"),
        inp("slots_ptr", "i32", "n_tokens"),
        step_size("n_tokens", of="ids[0]"),
        stride("seen_stride"),
    ),
    grid=("n_tokens", "1", "1"),
    bytes="n_tokens * (sizeof(seen_ptr) + sizeof(ids_ptr) + sizeof(slots_ptr))",
    flops="0",
    reference=reference,
    cases=cases,
    draw=draw,
    default={
        "cpu": {"num_warps": 1, "num_stages": 1},
        "cuda": {"num_warps": 1, "num_stages": 1},
        "hip": {"num_warps": 1, "num_stages": 1},
    },
)
