"""Draws the next token of each row.

    l = logits / temperature
    keep the top_k largest l; of these the fewest likeliest with mass >= top_p; of these the ones at
    least min_p times as likely as the best; draw one of them by its probability

Order and meaning are those of Hugging Face's processors, but equals at a threshold are all kept.
A row with a NaN or an infinity among its logits gives -1. A temperature of 0, or of less than 1e-5,
takes the largest logit, the lowest index among equals. top_k 0 or less, top_p 1, min_p 0 switch
their step off. The draw is the Gumbel-max one, argmax p / e with
e exponential from Philox keyed by (seed, step, token): independent of row, batch and target.
No sort: thresholds by bisection on the bits of the floats, whose order is that of the values.

out [R]; logits [R, V] fp32 with row stride, overwritten (scratch); a row of each parameter [R].
Grid: one program a row. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels.lib.philox import philox, philox_reference, uniform, uniform_reference
from kernels.lib.select import NO_CHOICE, all_finite, is_finite, lowest_index_of_max
from kernels.spec import Case, Spec, inout, inp, out, padded, rng, size, step_size, stride, tuned

# Below this a division by the temperature may leave no finite logit, and above it nearly all of the
# probability is the best token's already.
LEAST_TEMPERATURE = 1e-5

# How many neighbouring tokens take the same output of Philox: part of what a seed means.
RUN = 64


@triton.jit
def order_key(x):
    """int32 in the order of the floats."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def sample(
    out_ptr,
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    seed_ptr,
    step_ptr,
    n_rows,
    n_vocab,
    logits_stride,
    BLOCK: tl.constexpr,
):
    RUN: tl.constexpr = 64
    LEAST_TEMPERATURE: tl.constexpr = 1e-5
    row = tl.program_id(0).to(tl.int64)
    logits = logits_ptr + row * logits_stride
    lane = tl.arange(0, BLOCK)
    temperature = tl.load(temperature_ptr + row)
    is_greedy = temperature < LEAST_TEMPERATURE
    divisor = tl.where(is_greedy, 1.0, temperature)

    # Temperature, once; every later pass reads what this one wrote.
    lane_max = tl.full((BLOCK,), float("-inf"), tl.float32)
    n_odd = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n_vocab, BLOCK):
        mask = start + lane < n_vocab
        x = tl.load(logits + start + lane, mask=mask, other=float("-inf"))
        n_odd = tl.where(is_finite(x) | ~mask, n_odd, 1)
        x = x / divisor
        lane_max = tl.maximum(lane_max, x)
        tl.store(logits + start + lane, x, mask=mask)
    largest = tl.max(lane_max, axis=0)
    tl.debug_barrier()

    # The largest key that at least top_k logits reach.
    top_k = tl.load(top_k_ptr + row)
    low = -2147483648
    high = order_key(largest)
    n_iterations = tl.where((top_k > 0) & (top_k < n_vocab) & ~is_greedy, 32, 0)
    for _ in range(n_iterations):
        middle = (low | high) - ((low ^ high) >> 1)
        count = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, n_vocab, BLOCK):
            mask = start + lane < n_vocab
            x = tl.load(logits + start + lane, mask=mask, other=float("-inf"))
            count += ((order_key(x) >= middle) & mask).to(tl.int32)
        enough = tl.sum(count, axis=0) >= top_k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    kept_key = low
    tl.debug_barrier()

    # Probabilities relative to the best, in place of the logits.
    lane_mass = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n_vocab, BLOCK):
        mask = start + lane < n_vocab
        x = tl.load(logits + start + lane, mask=mask, other=float("-inf"))
        p = tl.where(x == largest, 1.0, tl.where(is_greedy, 0.0, tl.exp(x - largest)))
        p = tl.where(mask & (order_key(x) >= kept_key), p, 0.0)
        lane_mass += p
        tl.store(logits + start + lane, p, mask=mask)
    mass = tl.sum(lane_mass, axis=0)
    tl.debug_barrier()

    # The largest probability (as bits: it is not negative) at which the mass still suffices.
    top_p = tl.load(top_p_ptr + row)
    low_bits = 0
    high_bits = 0x3F800000
    n_iterations = tl.where((top_p < 1.0) & ~is_greedy, 30, 0)
    for _ in range(n_iterations):
        middle = (low_bits + high_bits + 1) // 2
        lane_mass = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, n_vocab, BLOCK):
            mask = start + lane < n_vocab
            p = tl.load(logits + start + lane, mask=mask, other=0.0)
            lane_mass += tl.where(p.to(tl.int32, bitcast=True) >= middle, p, 0.0)
        enough = tl.sum(lane_mass, axis=0) >= top_p * mass
        low_bits = tl.where(enough, middle, low_bits)
        high_bits = tl.where(enough, high_bits, middle - 1)
    min_p = tl.where(is_greedy, 0.0, tl.load(min_p_ptr + row))

    # The race: the token whose exponential clock, at the rate of its probability, rings first.
    seed = tl.load(seed_ptr + row)
    step = tl.load(step_ptr + row)
    best = tl.full((BLOCK,), -1.0, tl.float32)
    best_index = lane
    for start in range(0, n_vocab, 4 * BLOCK):
        bits = philox(seed, start // 4 + lane, step)
        for j in tl.static_range(4):
            if BLOCK == RUN:
                offs = start + j * RUN + lane
            else:
                offs = start + lane // RUN * (4 * RUN) + j * RUN + lane % RUN
            p = tl.load(logits + offs, mask=offs < n_vocab, other=0.0)
            is_kept = (p.to(tl.int32, bitcast=True) >= low_bits) & (p >= min_p) & (p > 0.0)
            clock = tl.where(is_greedy, 1.0, -tl.log(uniform(bits[j])))
            rate = tl.where(is_kept, p / clock, -1.0)
            # Several runs of tokens share a lane: of equals the lower index stays.
            better = (rate > best) | ((rate == best) & (offs < best_index))
            best = tl.where(better, rate, best)
            best_index = tl.where(better, offs, best_index)
    index = lowest_index_of_max(best, best_index)
    tl.store(out_ptr + row, tl.where(tl.max(n_odd, axis=0) > 0, -1, index))


def reference(a):
    n_vocab = a["n_vocab"]
    out_ptr = a["out_ptr"].copy()
    index = np.arange(n_vocab)
    for row in range(a["n_rows"]):
        x = a["logits_ptr"][row, :n_vocab].astype(np.float32).copy()
        if not all_finite(x):
            out_ptr[row] = NO_CHOICE
            continue
        temperature = np.float32(a["temperature_ptr"][row])
        if temperature < LEAST_TEMPERATURE:
            out_ptr[row] = np.argmax(x)
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            x = x / temperature
            below = x.astype(np.float64) - x.max()
        kept = np.ones(n_vocab, bool)
        top_k = int(a["top_k_ptr"][row])
        if 0 < top_k < n_vocab:
            kept &= x >= np.sort(x)[-top_k]
        best = x == x.max()
        p = np.exp(np.where(best, 0.0, below))
        p = np.where(kept, p, 0.0)
        top_p = float(np.float32(a["top_p_ptr"][row]))
        if top_p < 1:
            descending = np.argsort(-p, kind="stable")
            mass_before = np.cumsum(p[descending]) - p[descending]
            n_kept = max(1, int((mass_before < top_p * p.sum()).sum()))
            kept &= p >= p[descending[n_kept - 1]]
        kept &= p >= np.float32(a["min_p_ptr"][row])
        counter = index // (4 * RUN) * RUN + index % RUN
        seed, step = int(a["seed_ptr"][row]), int(a["step_ptr"][row])
        bits = np.choose(index // RUN % 4, philox_reference(seed, counter, step))
        clock = -np.log(uniform_reference(bits))
        out_ptr[row] = np.argmax(np.where(kept, p / clock, -1.0))
    return {"out_ptr": out_ptr}


def case(name, rows, n_vocab, pad=0, std=2.0, edit=None):
    """`rows`: temperature, top_k, top_p, min_p, seed, step of each."""
    g = rng(name)
    n_rows = len(rows)
    logits = padded(g, n_rows, n_vocab, pad, std=std)
    logits[:, n_vocab:] = 100.0  # never to be looked at
    if edit is not None:
        edit(logits)
    columns = [list(column) for column in zip(*rows, (1.0, 0, 1.0, 0.0, 0, 0))]
    floats = {
        name: np.array(columns[i], np.float32)
        for name, i in (("temperature_ptr", 0), ("top_p_ptr", 2), ("min_p_ptr", 3))
    }
    args = {
        "out_ptr": np.full(n_rows + 1, -5, np.int32),
        "logits_ptr": logits,
        "top_k_ptr": np.array(columns[1], np.int32),
        "seed_ptr": np.array(columns[4], np.int64),
        "step_ptr": np.array(columns[5], np.int32),
        **floats,
        "n_rows": n_rows,
        "n_vocab": n_vocab,
        "logits_stride": n_vocab + pad,
    }
    dtypes = {
        "out_ptr": "i32",
        "logits_ptr": "fp32",
        "top_k_ptr": "i32",
        "seed_ptr": "i64",
        "step_ptr": "i32",
        **{name: "fp32" for name in floats},
    }
    return Case(name, args, dtypes)


def cases(act):
    def ties(logits):
        logits[0, [5, 70, 300, 900]] = 30.0
        logits[1] = 1.0

    def strange(logits):
        logits[0, 3] = np.nan
        logits[1, 17] = np.inf
        logits[2, 599] = -np.inf
        logits[3] = np.nan

    def same(logits):
        logits[:] = logits[0]

    def suppressed(logits):
        logits[:, 3:] = -np.finfo(np.float32).max
        logits[2] = -np.finfo(np.float32).max

    off = (0, 1.0, 0.0)
    yield case("temperature", [(t, *off, 7, i) for i, t in enumerate((0.3, 0.7, 1, 1.5))], 8192)
    yield case("greedy_rows", [(0.0, 40, 0.5, 0.1, 1, 2), (1.0, *off, 1, 2)], 8192)
    yield case("top_k", [(1.0, k, 1.0, 0.0, 3, k) for k in (-1, 1, 2, 40, 8192, 9000)], 8192)
    yield case("top_p", [(1.0, 0, p, 0.0, -3, 5) for p in (0.01, 0.5, 0.9, 0.999)], 8192)
    yield case("min_p", [(0.9, 0, 1.0, p, 1 << 40, 5) for p in (0.02, 0.3, 1.0)], 8192)
    yield case(
        "all",
        [(0.8, 50, 0.95, 0.05, s, s) for s in range(6)] + [(0.0, 0, 1.0, 0.0, 0, 0)],
        8192,
    )
    yield case("same_seed_same_draw", [(1.2, 30, 0.9, 0.0, 11, 4)] * 3, 512, edit=same)
    yield case("odd_strided", [(1.0, 20, 0.8, 0.01, 5, 6)] * 2, 1031, pad=9)
    yield case("tiny", [(1.0, *off, 2, 3), (1.0, 2, 0.9, 0.0, 2, 3)], 3)
    yield case("llama3", [(0.7, 40, 0.95, 0.0, 21, 100)], 128256)
    yield case("ties", [(0.0, *off, 2, 3), (0.0, *off, 2, 3)], 1000, edit=ties)
    yield case("strange", [(t, 5, 0.9, 0.1, 2, 3) for t in (1, 1, 0, 0, 1)], 600, edit=strange)
    yield case("suppressed", [(t, 9, 0.9, 0, 5, 6) for t in (0.5, 2, 0.5)], 600, edit=suppressed)
    yield case(
        "nearly_greedy", [(t, *off, 7, 3) for t in (1e-30, 9e-6, 2e-5, 1e-3)], 1031, std=40.0
    )


def draw(d, act):
    c = d.case
    n_vocab = d.width(1, 5000)

    def row():
        return (
            c.of(0.0, 0.01, 0.7, 1.0, 5.0), c.of(-1, 0, 1, 2, 40, n_vocab, n_vocab + 7),
            c.of(1.0, 0.0, 0.3, 0.95, 0.999), c.of(0.0, 0.0, 0.05, 1.0),
            c.of(-1, c.between(-(2**62), 2**62)), c.of(0, 1, 2**31 - 1),
        )  # fmt: skip

    def edit(logits):
        rows = logits[:, :n_vocab]
        d.season(rows, 2.0)
        for x in rows:
            some = [c.between(0, n_vocab - 1) for _ in range(3)]
            kind = c.of("plain", "plain", "ties", "infinite", "nan", "hopeless", "suppressed")
            if kind == "ties":
                x[some] = 30.0
            elif kind == "infinite":
                x[some[0]] = np.inf
            elif kind == "nan":
                x[some] = np.nan
            elif kind == "hopeless":
                x[:] = -np.inf
                x[some[:2]] = (1.0, 1.5)
            elif kind == "suppressed":
                x[c.rng.random(n_vocab) < 0.7] = -np.finfo(np.float32).max

    n_rows = d.rows(max(1, min(5, 5000 // n_vocab)))
    return case(
        d.name, [row() for _ in range(n_rows)], n_vocab, d.gap(n_vocab, n_rows),
        c.of(0.5, 2.0, 2.0, 20.0), edit,
    )  # fmt: skip


SPEC = Spec(
    fn=sample,
    op="sample",
    when="not gpu",
    params=(
        out("out_ptr", "i32", "n_rows"),
        inout("logits_ptr", "fp32", "n_rows", "logits_stride"),
        inp("temperature_ptr", "fp32", "n_rows"),
        inp("top_k_ptr", "i32", "n_rows"),
        inp("top_p_ptr", "fp32", "n_rows"),
        inp("min_p_ptr", "fp32", "n_rows"),
        inp("seed_ptr", "i64", "n_rows"),
        inp("step_ptr", "i32", "n_rows", of="n_generated"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        stride("logits_stride"),
        tuned("BLOCK"),
    ),
    grid=("n_rows", "1", "1"),
    bytes="n_rows * n_vocab * 5 * sizeof(logits_ptr)",
    flops="60 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("BLOCK",),  # a multiple of 64
    default={
        "cpu": {"BLOCK": 64, "num_warps": 1, "num_stages": 1},
        "cuda": {"BLOCK": 2048, "num_warps": 8, "num_stages": 1},
        "hip": {"BLOCK": 2048, "num_warps": 8, "num_stages": 1},
    },
)
