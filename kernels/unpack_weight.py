"""Weights and zero points of several a word, as published, to what linear kernels read.

    q[n, k] = field(w; n, perm[k] or k)             u8: 4 bits, packed (kernels/lib/quantized.py)
    q[n, k] = field(w; n, perm[k] or k) - 128       i8, of 8 bits
    zero[n, g] = field(w; n, g) + zero_add          u8 [N, G] (ZEROS: K is G, q is zero)

w is of int32 words of 32 / BITS fields, the first in the lowest bits. They lie along K (ALONG_N 0)
or along N (1): field (n, k) is in word n * n_stride + k // F * k_stride, or n // F * n_stride + k *
k_stride, F = 32 / BITS. AWQ: field i of a word's eight stands in place i % 2 * 4 + i // 2.

| format             | weights, n_stride, k_stride | zero points, n_stride, k_stride, zero_add |
|--------------------|-----------------------------|-------------------------------------------|
| compressed-tensors | along K, cdiv(K, F), 1      | along N, G, 1, 0                          |
| GPTQ               | along K, 1, N               | along N, 1, N / F, 1 (`gptq_v2`: 0)       |
| AWQ                | along N, 1, N / F           | along N, 1, N / F, 0                      |

GPTQ's zero point of 15 + 1 is 16, as AutoGPTQ's and vLLM's kernels compute: it does not wrap.
perm (HAS_PERM) is the order of K in which groups lie one after the other, of act order's `g_idx`.
Grid: (N / TILE_M, K / 128). No arithmetic but on integers.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.quantized import packed, packed_size
from kernels.spec import Case, Spec, given, inp, out, rng, scalar, size, step_size, stride, tuned


@triton.jit
def field(
    w_ptr,
    n,
    k,
    mask,
    n_stride,
    k_stride,
    BITS: tl.constexpr,
    ALONG_N: tl.constexpr,
    AWQ: tl.constexpr,
):
    FIELDS: tl.constexpr = 32 // BITS
    if ALONG_N:
        at = (n // FIELDS).to(tl.int64) * n_stride + k.to(tl.int64) * k_stride
        place = n % FIELDS
        if AWQ:
            place = place % 2 * 4 + place // 2
    else:
        at = n.to(tl.int64) * n_stride + (k // FIELDS).to(tl.int64) * k_stride
        place = k % FIELDS
    words = tl.load(w_ptr + at, mask=mask, other=0)
    return (words >> (place * BITS)) & ((1 << BITS) - 1)


@triton.jit
def fields(
    w_ptr,
    perm_ptr,
    n,
    k,
    n_rows,
    n_in,
    n_stride,
    k_stride,
    BITS: tl.constexpr,
    ALONG_N: tl.constexpr,
    AWQ: tl.constexpr,
    HAS_PERM: tl.constexpr,
):
    """Those of rows n [TILE_M, 1] and columns k [1, 64]; what is outside reads as 8, or -128."""
    mask = (n < n_rows) & (k < n_in)
    if HAS_PERM:
        k = tl.load(perm_ptr + k, mask=k < n_in, other=0)
    values = field(w_ptr, n, k, mask, n_stride, k_stride, BITS, ALONG_N, AWQ)
    if BITS == 4:
        return tl.where(mask, values, 8)
    else:
        return values - 128


@triton.jit
def unpack_weight(
    q_ptr,
    w_ptr,
    perm_ptr,
    n_rows,
    n_in,
    n_stride,
    k_stride,
    zero_add,
    BITS: tl.constexpr,
    ALONG_N: tl.constexpr,
    AWQ: tl.constexpr,
    ZEROS: tl.constexpr,
    HAS_PERM: tl.constexpr,
    TILE_M: tl.constexpr,
):
    row = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)[:, None]
    block = tl.program_id(1)
    byte = tl.arange(0, 64)[None, :]
    col = block * 128 + byte
    low = fields(
        w_ptr, perm_ptr, row, col, n_rows, n_in, n_stride, k_stride, BITS, ALONG_N, AWQ, HAS_PERM
    )
    high = fields(
        w_ptr, perm_ptr, row, col + 64, n_rows, n_in, n_stride, k_stride, BITS, ALONG_N, AWQ,
        HAS_PERM,
    )  # fmt: skip
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    if BITS == 4 and not ZEROS:
        width = tl.cdiv(n_in, 128) * 64
        q_at = q_ptr + row.to(tl.int64) * width + block * 64 + byte
        tl.store(q_at, (low | high << 4).to(dtype), mask=row < n_rows)
    else:
        q_at = q_ptr + row.to(tl.int64) * n_in + col
        if ZEROS:
            low += zero_add
            high += zero_add
        tl.store(q_at, low.to(dtype), mask=(row < n_rows) & (col < n_in))
        tl.store(q_at + 64, high.to(dtype), mask=(row < n_rows) & (col + 64 < n_in))


AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def along(words, n_bits, n, axis, awq):
    """The n fields along an axis of [.., ..] words."""
    words = np.moveaxis(words.view(np.uint32), axis, -1)
    fields = np.stack([words >> shift & (1 << n_bits) - 1 for shift in range(0, 32, n_bits)], -1)
    if awq:
        fields = fields[..., list(AWQ_ORDER)]
    flat = fields.reshape(*words.shape[:-1], words.shape[-1] * (32 // n_bits))
    return np.moveaxis(flat[..., :n], -1, axis).astype(np.int64)


def reference(a):
    n_rows, n_in, n_bits = a["n_rows"], a["n_in"], a["BITS"]
    axis = 0 if a["ALONG_N"] else 1
    shape = [max(n_rows, 1), n_in]
    shape[axis] = -(-shape[axis] // (32 // n_bits))
    strides = [a["n_stride"] * 4, a["k_stride"] * 4]
    words = np.lib.stride_tricks.as_strided(a["w_ptr"], shape, strides)
    values = along(words, n_bits, (n_rows, n_in)[axis], axis, a["AWQ"])[:n_rows, :n_in]
    if a["HAS_PERM"]:
        values = values[:, a["perm_ptr"]]
    q = a["q_ptr"].copy()
    if a["ZEROS"]:
        q[:n_rows] = values + a["zero_add"]
    else:
        q[:n_rows] = packed(values) if n_bits == 4 else values - 128
    return {"q_ptr": q}


# Where words lie: fields along N, AWQ's order, words of a column one after the other.
FORMATS = {"ct": (0, 0, 0), "gptq": (0, 0, 1), "awq": (1, 1, 1), "ct_zeros": (1, 0, 0),
           "gptq_zeros": (1, 0, 1)}  # fmt: skip


def case(name, n_rows, n_in, how="ct", bits=4, zeros=0, perm=False, zero_add=0):
    generator = rng(name)
    along_n, awq, turned = FORMATS[how]
    n_stored, n_fields = max(n_rows, 1), 32 // bits
    shape = (-(-n_stored // n_fields), n_in) if along_n else (n_stored, -(-n_in // n_fields))
    words = generator.integers(-(2**31), 2**31, shape[::-1] if turned else shape)
    width = packed_size(n_in) if bits == 4 and not zeros else n_in
    args = {
        "q_ptr": np.full((n_stored, width), 7, np.int64),
        "w_ptr": words.astype(np.int32),
        "perm_ptr": generator.permutation(n_in).astype(np.int32) if perm else None,
        "n_rows": n_rows,
        "n_in": n_in,
        "n_stride": 1 if turned else shape[1],
        "k_stride": shape[0] if turned else 1,
        "zero_add": zero_add,
    }
    dtypes = {"q_ptr": "i8" if bits == 8 else "u8", "w_ptr": "i32", "perm_ptr": "i32"}
    constexprs = {
        "BITS": bits, "ALONG_N": along_n, "AWQ": awq, "ZEROS": zeros, "HAS_PERM": int(perm)
    }  # fmt: skip
    return Case(name, args, dtypes, constexprs)


def cases(act):
    for how in ("ct", "gptq", "awq"):
        yield case(how, 48, 384, how)
        yield case(f"{how}_ragged", 40, 200, how)
    yield case("ct_eight_bits", 20, 300, bits=8)
    yield case("gptq_eight_bits", 20, 256, "gptq", bits=8)
    yield case("gptq_act_order", 72, 256, "gptq", perm=True)
    yield case("ct_act_order", 33, 256, perm=True)
    yield case("ct_zeros", 40, 5, "ct_zeros", zeros=1)
    yield case("gptq_zeros", 40, 32, "gptq_zeros", zeros=1, zero_add=1)
    yield case("awq_zeros", 200, 130, "awq", zeros=1)


def draw(d, act):
    zeros = d.turn(0, 0, 1)
    bits = 4 if zeros else d.variant.of(4, 4, 4, 8)
    how = d.variant.of("awq", "ct_zeros", "gptq_zeros") if zeros else d.variant.of(
        "ct", "gptq", *(("awq",) if bits == 4 else ())
    )  # fmt: skip
    n_in = d.width(1, 40 if zeros else 500)
    n_rows = d.rows(70, tile=8)
    if FORMATS[how][0]:
        n_rows = -(-n_rows // 8) * 8
    perm = not zeros and d.variant.chance(0.3)
    add = d.case.of(0, 1) if zeros else 0
    return case(d.name, n_rows, n_in, how, bits, zeros, perm, add)


SPEC = Spec(
    fn=unpack_weight,
    params=(
        out(
            "q_ptr", ("u8", "i8"), "n_rows",
            "64 * cdiv(n_in, 128) if BITS == 4 and not ZEROS else n_in",
        ),
        inp(
            "w_ptr", "i32", "cdiv(n_rows, 32 // BITS) if ALONG_N else n_rows",
            "n_in if ALONG_N else cdiv(n_in, 32 // BITS)",
        ),
        inp("perm_ptr", "i32", "n_in"),
        step_size("n_rows"),
        size("n_in"),
        stride("n_stride"),
        stride("k_stride"),
        scalar("zero_add", "i32"),
        given("BITS"),
        given("ALONG_N"),
        given("AWQ"),
        given("ZEROS"),
        given("HAS_PERM"),
        tuned("TILE_M"),
    ),
    grid=("cdiv(n_rows, TILE_M)", "cdiv(n_in, 128)", "1"),
    bytes="2 * n_rows * n_in * BITS // 8",
    flops="0",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("TILE_M",),
    default={
        "cpu": {"TILE_M": 16, "num_warps": 1, "num_stages": 1},
        # Where words of a column lie one after the other, 64 are a piece of 256 bytes.
        "cuda": {"TILE_M": 64, "num_warps": 4, "num_stages": 1},
        "hip": {"TILE_M": 64, "num_warps": 4, "num_stages": 1},
    },
)  # fmt: skip
