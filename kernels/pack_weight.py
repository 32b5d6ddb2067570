"""Quantised weights, as linear kernels read them, to words of several numbers each.

    words[n, c] = sum_i field(n, F c + i) << (BITS i)        F = 32 / BITS, i < F

field(n, k) is q of 4 bits (0 to 15, packed as kernels/lib/quantized.py says), or q + 128 of 8; 0
for columns behind the end. So compressed-tensors' `pack-quantized` has them; unpack_weight is the
inverse. q [N, 64 * cdiv(K, 128)] or [N, K]; words [N, cdiv(K, F)] int32.
Grid: (N / TILE_M, K / 128). No arithmetic but on integers.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.quantized import packed
from kernels.spec import Case, Spec, given, inp, out, rng, size, step_size, tuned


@triton.jit
def pack_weight(words_ptr, q_ptr, n_rows, n_in, BITS: tl.constexpr, TILE_M: tl.constexpr):
    FIELDS: tl.constexpr = 32 // BITS
    WORDS: tl.constexpr = 128 // FIELDS  # of a block of columns
    row = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)[:, None]
    block = tl.program_id(1)
    word = tl.arange(0, WORDS)[None, :]
    width = tl.cdiv(n_in, 128) * 64 if BITS == 4 else n_in
    q_row = q_ptr + row.to(tl.int64) * width
    words = tl.zeros((TILE_M, WORDS), tl.int32)
    for i in tl.static_range(0, FIELDS):
        col = block * 128 + word * FIELDS + i
        mask = (row < n_rows) & (col < n_in)
        if BITS == 4:
            # Eight words are of the low halves of a block's bytes, eight of the high ones.
            byte = tl.load(q_row + block * 64 + word % 8 * 8 + i, mask=mask, other=0).to(tl.int32)
            words |= ((byte >> (word // 8 * 4)) & 15) << (BITS * i)
        else:
            q = tl.load(q_row + col, mask=mask, other=-128).to(tl.int32)
            words |= (q + 128) << (BITS * i)
    n_words = tl.cdiv(n_in, FIELDS)
    at = block * WORDS + word
    words_at = words_ptr + row.to(tl.int64) * n_words + at
    tl.store(words_at, words, mask=(row < n_rows) & (at < n_words))


def values_of(q, n_in, n_bits):
    """Unsigned fields [N, K] of q."""
    if n_bits == 8:
        return q.astype(np.int64) + 128
    n_rows, n_bytes = q.shape
    blocks = q.astype(np.int64).reshape(n_rows, n_bytes // 64, 1, 64)
    halves = np.concatenate((blocks & 15, blocks >> 4), axis=2)
    return halves.reshape(n_rows, 2 * n_bytes)[:, :n_in]


def reference(a):
    n_rows, n_in, n_bits = a["n_rows"], a["n_in"], a["BITS"]
    n_fields = 32 // n_bits
    n_words = -(-n_in // n_fields)
    fields = np.zeros((n_rows, n_words * n_fields), np.int64)
    fields[:, :n_in] = values_of(a["q_ptr"][:n_rows], n_in, n_bits)
    shifted = fields.reshape(n_rows, n_words, n_fields) << np.arange(0, 32, n_bits)
    words = a["words_ptr"].copy()
    words[:n_rows] = shifted.sum(axis=2).astype(np.uint32).view(np.int32)
    return {"words_ptr": words}


def case(name, n_rows, n_in, bits):
    generator = rng(name)
    n_stored = max(n_rows, 1)
    if bits == 4:
        q = packed(generator.integers(0, 16, (n_stored, n_in)))
    else:
        q = generator.integers(-128, 128, (n_stored, n_in))
    args = {
        "words_ptr": np.full((n_stored, -(-n_in // (32 // bits))), 7, np.int32),
        "q_ptr": q.astype(np.int64),
        "n_rows": n_rows,
        "n_in": n_in,
    }
    dtypes = {"words_ptr": "i32", "q_ptr": "u8" if bits == 4 else "i8"}
    return Case(name, args, dtypes, {"BITS": bits})


def cases(act):
    for bits in (4, 8):
        yield case(f"bits_{bits}", 48, 384, bits)
        yield case(f"ragged_{bits}", 37, 200, bits)
        yield case(f"odd_{bits}", 3, 131, bits)
        yield case(f"few_columns_{bits}", 5, 3, bits)


def draw(d, act):
    bits = d.turn(4, 8)
    return case(d.name, d.rows(70, tile=8), d.width(1, 500), bits)


SPEC = Spec(
    fn=pack_weight,
    params=(
        out("words_ptr", "i32", "n_rows", "cdiv(n_in, 32 // BITS)"),
        inp("q_ptr", ("u8", "i8"), "n_rows", "64 * cdiv(n_in, 128) if BITS == 4 else n_in"),
        step_size("n_rows"),
        size("n_in"),
        given("BITS"),
        tuned("TILE_M"),
    ),
    grid=("cdiv(n_rows, TILE_M)", "cdiv(n_in, 128)", "1"),
    bytes="2 * n_rows * n_in * BITS // 8",
    flops="2 * n_rows * n_in",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("TILE_M",),
    default={
        "cpu": {"TILE_M": 8, "num_warps": 1, "num_stages": 1},
        "cuda": {"TILE_M": 16, "num_warps": 4, "num_stages": 1},
        "hip": {"TILE_M": 16, "num_warps": 4, "num_stages": 1},
    },
)
