"""What requests ask of their logits before a token is chosen, out of place: the raw ones stay.

    y = x + bias;  y = y / p where y > 0, y * p else, for tokens of the prompt or generated;
    y = y - n * frequency - presence for tokens generated n > 0 times;
    y = the lowest finite number for tokens that are not allowed, or not yet

logits, out [R, V] fp32, logits with row stride; slots [R]: a row's place in the tables below, with
a row stride each; negative: the row is copied as it is. p, presence, frequency and n_generated [R].
counts [A, V] i32: 2 * (times generated) + (1 if in the prompt). bias_ids, bias_values, bias_until
[A, B]: the token bias_ids, a different one in each entry, gets the value added, and is suppressed
while n_generated < bias_until; -1: an entry without a token. allowed [A, W] i32: a bit a token.
Numbers that are finite stay so (the largest float in place of an infinity), NaN and infinities stay
what they are: whoever chooses among out sees what was odd in the logits.
Grid: (R, V / SPAN). Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.select import is_finite
from kernels.spec import Case, Spec, inp, out, padded, rng, size, step_size, stride, tuned


@triton.jit
def within_floats(x):
    LARGEST: tl.constexpr = 3.4028234663852886e38
    return tl.minimum(tl.maximum(x, -LARGEST), LARGEST)


@triton.jit
def adjusted(x, bias, count, penalty, presence, frequency, is_suppressed):
    y = within_floats(x + bias)
    y = within_floats(tl.where(count != 0, tl.where(y > 0.0, y / penalty, y * penalty), y))
    n = (count >> 1).to(tl.float32)
    y = within_floats(y - n * frequency - tl.where(n > 0.0, presence, 0.0))
    y = tl.where(is_suppressed, -3.4028234663852886e38, y)
    return tl.where(is_finite(x), y, x)


@triton.jit
def is_forbidden(allowed, token, mask):
    word = tl.load(allowed + token // 32, mask=mask, other=-1)
    return ((word >> (token % 32)) & 1) == 0


@triton.jit
def adjust_logits(
    out_ptr,
    logits_ptr,
    slots_ptr,
    penalty_ptr,
    presence_ptr,
    frequency_ptr,
    n_generated_ptr,
    token_counts_ptr,
    bias_ids_ptr,
    bias_values_ptr,
    bias_until_ptr,
    allowed_ptr,
    n_rows,
    n_vocab,
    n_biases,
    logits_stride,
    token_counts_stride,
    bias_ids_stride,
    allowed_stride,
    SPAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * SPAN
    end = tl.minimum(begin + SPAN, n_vocab)
    lane = tl.arange(0, BLOCK)
    out = out_ptr + row * n_vocab
    logits = logits_ptr + row * logits_stride
    slot = tl.load(slots_ptr + row).to(tl.int64)
    if slot < 0:
        for start in range(begin, end, BLOCK):
            mask = start + lane < end
            tl.store(out + start + lane, tl.load(logits + start + lane, mask=mask), mask=mask)
    else:
        penalty = tl.load(penalty_ptr + row)
        presence = tl.load(presence_ptr + row)
        frequency = tl.load(frequency_ptr + row)
        n_generated = tl.load(n_generated_ptr + row)
        counts = token_counts_ptr + slot * token_counts_stride
        allowed = allowed_ptr + slot * allowed_stride
        for start in range(begin, end, BLOCK):
            token = start + lane
            mask = token < end
            x = tl.load(logits + token, mask=mask, other=0.0)
            count = tl.load(counts + token, mask=mask, other=0)
            banned = is_forbidden(allowed, token, mask)
            y = adjusted(x, 0.0, count, penalty, presence, frequency, banned)
            tl.store(out + token, y, mask=mask)
        # The few tokens with an entry of their own, once more, over what was just written.
        tl.debug_barrier()
        for start in range(0, n_biases, BLOCK):
            entry = slot * bias_ids_stride + start + lane
            mask = start + lane < n_biases
            token = tl.load(bias_ids_ptr + entry, mask=mask, other=-1)
            mask = (token >= begin) & (token < end)
            bias = tl.load(bias_values_ptr + entry, mask=mask, other=0.0)
            until = tl.load(bias_until_ptr + entry, mask=mask, other=0)
            x = tl.load(logits + token, mask=mask, other=0.0)
            count = tl.load(counts + token, mask=mask, other=0)
            banned = is_forbidden(allowed, token, mask) | (n_generated < until)
            y = adjusted(x, bias, count, penalty, presence, frequency, banned)
            tl.store(out + token, y, mask=mask)


def reference(a):
    n_vocab = a["n_vocab"]
    largest = np.finfo(np.float32).max
    adjusted_rows = a["out_ptr"].copy()
    for row in range(a["n_rows"]):
        raw = a["logits_ptr"][row, :n_vocab].astype(np.float32)
        slot = a["slots_ptr"][row]
        if slot < 0:
            adjusted_rows[row] = raw
            continue
        added = np.zeros(n_vocab, np.float32)
        suppressed = np.zeros(n_vocab, bool)
        for entry in range(a["n_biases"]):
            token = a["bias_ids_ptr"][slot, entry]
            if token >= 0:
                added[token] += a["bias_values_ptr"][slot, entry]
                suppressed[token] = a["n_generated_ptr"][row] < a["bias_until_ptr"][slot, entry]
        words = a["allowed_ptr"][slot, : -(-n_vocab // 32)].astype("<i4")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        suppressed |= bits[:n_vocab] == 0
        counts = a["token_counts_ptr"][slot, :n_vocab]
        penalty, presence, frequency = (
            np.float32(a[name][row]) for name in ("penalty_ptr", "presence_ptr", "frequency_ptr")
        )
        with np.errstate(all="ignore"):
            y = np.clip(raw + added, -largest, largest)
            y = np.where(counts > 0, np.where(y > 0, y / penalty, y * penalty), y)
            y = np.clip(y, -largest, largest)
            y = y - (counts // 2).astype(np.float32) * frequency - (counts > 1) * presence
            y = np.where(suppressed, -largest, np.clip(y, -largest, largest))
        adjusted_rows[row] = np.where(np.isfinite(raw), y, raw)
    return {"out_ptr": adjusted_rows}


def case(name, rows, n_vocab, pads=(0, 0, 0, 0), n_biases=64, edit=None, n_spare=1, std=3.0):
    """`rows`: slot, repetition penalty, presence, frequency, n_generated of each. `pads`: behind
    rows of logits, counts, biases and allowed."""
    g = rng(name)
    n_rows = len(rows)
    columns = [list(column) for column in zip(*rows, (0, 1.0, 0.0, 0.0, 0))]
    n_slots = max(columns[0]) + 1
    n_words = -(-n_vocab // 32)

    def table(n_cols, pad):
        return g.integers(-(2**31), 2**31, (n_slots, n_cols + pad)).astype(np.int32)

    bias_ids = np.full((n_slots, n_biases + pads[2]), -1, np.int32)
    for ids in bias_ids:
        # Some tokens, a different one in each entry, not all side by side.
        n_used = int(g.integers(0, min(n_biases, n_vocab) + 1))
        ids[g.permutation(n_biases)[:n_used]] = g.permutation(n_vocab)[:n_used]
        ids[n_biases:] = 0  # never to be looked at
    args = {
        "out_ptr": np.full((n_rows + n_spare, n_vocab), 7.0, np.float32),
        "logits_ptr": padded(g, n_rows, n_vocab, pads[0], std=std),
        "slots_ptr": np.array(columns[0], np.int32),
        "penalty_ptr": np.array(columns[1], np.float32),
        "presence_ptr": np.array(columns[2], np.float32),
        "frequency_ptr": np.array(columns[3], np.float32),
        "n_generated_ptr": np.array(columns[4], np.int32),
        # Most tokens neither in the prompt nor generated.
        "token_counts_ptr": np.maximum((table(n_vocab, pads[1]) & 15) - 9, 0),
        "bias_ids_ptr": bias_ids,
        "bias_values_ptr": (g.standard_normal(bias_ids.shape) * 5).astype(np.float32),
        "bias_until_ptr": (table(n_biases, pads[2]) & 3) * 2,
        # Three of four tokens.
        "allowed_ptr": table(n_words, pads[3]) | table(n_words, pads[3]),
        "n_rows": n_rows,
        "n_vocab": n_vocab,
        "n_biases": n_biases,
        "logits_stride": n_vocab + pads[0],
        "token_counts_stride": n_vocab + pads[1],
        "bias_ids_stride": n_biases + pads[2],
        "allowed_stride": n_words + pads[3],
    }
    if edit is not None:
        edit(args)
    return Case(
        name,
        args,
        {
            name: "fp32" if array.dtype == np.float32 else "i32"
            for name, array in args.items()
            if isinstance(array, np.ndarray)
        },
    )


def cases(act):
    def plain(args):
        args["bias_ids_ptr"][:] = -1
        args["allowed_ptr"][:] = -1

    def nothing_said(args):
        plain(args)
        args["token_counts_ptr"][:] = 0

    def strange(args):
        logits = args["logits_ptr"]
        logits[0, 5], logits[1, 599], logits[2, 0] = np.nan, -np.inf, np.inf
        logits[3] = np.nan
        args["allowed_ptr"][:, 0] = 0

    def huge(args):
        for name in ("logits_ptr", "bias_values_ptr"):
            args[name] = np.clip(args[name].astype(np.float64) * 1e38, -3e38, 3e38).astype(
                np.float32
            )

    off = (1.0, 0.0, 0.0)
    yield case("untouched", [(-1, 1.3, 0.5, 0.5, 3)] * 3, 8192)
    yield case(
        "repetition", [(1, 1.3, 0, 0, 3), (-1, 2, 1, 1, 3), (0, 0.7, 0, 0, 9)], 8192, edit=plain
    )
    yield case("presence", [(0, 1.0, 0.5, 0, 3), (1, 1.0, -2.0, 0, 3)], 8192, edit=plain)
    yield case("frequency", [(0, 1.0, 0, 0.3, 3), (1, 1.0, 0, -1.5, 3)], 8192, edit=plain)
    yield case("biases", [(i, *off, i) for i in (0, 3, 2)], 8192, n_biases=1024)
    yield case("all_off", [(0, *off, 5), (1, *off, 0)], 8192, edit=nothing_said)
    yield case("all", [(i, 1.2, 0.4, 0.2, i) for i in range(5)], 8192, n_biases=1024)
    yield case("odd_strided", [(1, 1.1, 0.3, 0.1, 4), (0, 1.5, 1, 1, 1)], 1031, (9, 5, 3, 7), 33)
    yield case("strange", [(i, 1.2, 0.5, 0.5, 2) for i in (0, 1, -1, 3, 4)], 600, edit=strange)
    yield case("huge", [(0, 1e-30, 1e38, 1e38, 2), (1, 1e30, -3e38, -3e38, 2)], 512, edit=huge)
    yield case("tiny", [(0, 1.2, 0.5, 0.5, 2), (1, 1.2, 0.5, 0.5, 0)], 3)
    yield case("llama3", [(0, 1.2, 0.5, 0.5, 2)], 128256, n_biases=1024)
    yield case("qwen", [(0, 1.2, 0.5, 0.5, 2)], 151936, n_biases=1024)


def draw(d, act):
    c = d.case
    n_vocab = d.width(1, 5000)
    n_biases = d.variant.of(1, 16, 33, 1024)
    n_rows = d.rows(max(1, min(5, 5000 // n_vocab)))
    slots = [int(slot) for slot in c.rng.permutation(n_rows + 1)[:n_rows]]

    def row(slot):
        return (
            c.of(slot, slot, slot, -1), c.of(1.0, 1.3, 0.5, 1e-3), c.of(0.0, 0.5, -2.0, 1e30),
            c.of(0.0, 0.1, -2.0, 1e30), c.of(0, 1, 2, 5, 2**31 - 1),
        )  # fmt: skip

    def edit(args):
        rows = args["logits_ptr"][:, :n_vocab]
        d.season(rows, 3.0)
        for x in rows:
            if c.chance(0.1):
                x[c.between(0, n_vocab - 1)] = c.of(-np.inf, np.inf, np.nan)
        if c.chance(0.3):
            args["allowed_ptr"][:] = c.of(-1, 0, 1)
        if c.chance(0.3):
            args["bias_ids_ptr"][:] = -1

    gaps = tuple(d.gap(width, n_rows + 1) for width in (n_vocab, n_vocab, n_biases, n_vocab // 32))
    return case(d.name, [row(slot) for slot in slots], n_vocab, gaps, n_biases, edit)


_GPU = {"SPAN": 4096, "BLOCK": 1024, "num_warps": 4, "num_stages": 1}
SPEC = Spec(
    fn=adjust_logits,
    op="adjust_logits",
    params=(
        out("out_ptr", "fp32", "n_rows", "n_vocab"),
        inp("logits_ptr", "fp32", "n_rows", "logits_stride"),
        inp("slots_ptr", "i32", "n_rows", of="row_slots"),
        inp("penalty_ptr", "fp32", "n_rows", of="repetition_penalty"),
        inp("presence_ptr", "fp32", "n_rows", of="presence_penalty"),
        inp("frequency_ptr", "fp32", "n_rows", of="frequency_penalty"),
        inp("n_generated_ptr", "i32", "n_rows"),
        inp("token_counts_ptr", "i32", "n_rows", "token_counts_stride"),
        inp("bias_ids_ptr", "i32", "n_rows", "bias_ids_stride"),
        inp("bias_values_ptr", "fp32", "n_rows", "bias_ids_stride"),
        inp("bias_until_ptr", "i32", "n_rows", "bias_ids_stride"),
        inp("allowed_ptr", "i32", "n_rows", "allowed_stride"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        size("n_biases", of="bias_ids[1]"),
        stride("logits_stride"),
        stride("token_counts_stride"),
        stride("bias_ids_stride"),
        stride("allowed_stride"),
        tuned("SPAN"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "cdiv(n_vocab, SPAN)", "1"),
    bytes="n_rows * (n_vocab * (2 * sizeof(logits_ptr) + sizeof(token_counts_ptr)) + n_vocab // 8)",
    flops="10 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("SPAN", "BLOCK"),
    default={
        "cpu": {"SPAN": 16384, "BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": _GPU,
        "hip": _GPU,
    },
)
