"""The token that `sample` draws, by many programs a row and few passes: for a wide machine.

out [R]; logits [R, V] fp32 with row stride; a row of each parameter [R]: kernels/sample.py says
what they mean. Grid: (R, PARTS). A program looks at a part of a row. Of each group of RUN tokens it
leaves the largest logit and, unless a small top_k will leave few groups, the winner of the race
among them and their mass. The last of a row, by the count in `arrivals` (0 before, 0 after; that a
logit is odd counts there too), chooses. It searches for no threshold: the winner of all groups is
kept if fewer than top_k tokens are larger and the mass of the likelier is less than top_p. If not,
what is no larger is out, groups that have lost their winner and could still win race anew, and the
next winner is looked at; one or two are the rule. Only groups that reach a bound are read again.

Masses are sums of integers and equals go to the lower index, so PARTS does not show in what a row
gives. They are finer than the sums of `sample`: of tokens within 1e-6 of the edge of top_p one may
keep what the other does not, and of two in a group that ring within 1e-7, relative, either may
be first. Arithmetic: fp32.
"""

import numpy as np
import triton
import triton.language as tl

from kernels import sample
from kernels.expr import next_pow2
from kernels.lib.philox import philox, uniform
from kernels.lib.select import is_finite, lowest_index_of_max
from kernels.sample import order_key
from kernels.spec import (
    Case,
    Spec,
    counter,
    derived,
    filled,
    given,
    inp,
    out,
    scratch,
    size,
    step_size,
    stride,
    tuned,
)


@triton.jit
def value_of(key):
    """The float that has the key."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def likelihood(x, largest):
    """Relative to the best. Infinities that a temperature made are equals, too."""
    return tl.where(x == largest, 1.0, tl.exp(x - largest))


@triton.jit
def clock_of(token, seed, step, is_greedy):
    """When a token rings at a rate of 1; `sample` says which output of Philox it takes."""
    RUN: tl.constexpr = 64
    b0, b1, b2, b3 = philox(seed, token // (4 * RUN) * RUN + token % RUN, step)
    j = token // RUN % 4
    bits = tl.where(j < 2, tl.where(j == 0, b0, b1), tl.where(j == 2, b2, b3))
    return tl.where(is_greedy, 1.0, -tl.log(uniform(bits)))


@triton.jit
def write_list(list_ptr, is_listed, GROUPS: tl.constexpr):
    """Lists groups in their order; how many."""
    one = is_listed.to(tl.int32)
    tl.debug_barrier()
    tl.store(list_ptr + tl.cumsum(one, 0) - 1, tl.arange(0, GROUPS), mask=is_listed)
    tl.debug_barrier()
    return tl.sum(one, axis=0)


@triton.jit
def write_rates(
    rates_ptr, racers_ptr, n_groups, logits, divisor, is_greedy, seed, step,
    largest, floor, least_p, STRIP: tl.constexpr,
):  # fmt: skip
    """The rate of each group's racer, negative where it is out (-inf: not known)."""
    for start in range(0, n_groups, STRIP):
        group = start + tl.arange(0, STRIP)
        mask = group < n_groups
        racer = tl.load(racers_ptr + group, mask=mask, other=-1)
        signed = tl.full((STRIP,), float("-inf"), tl.float32)
        if tl.max(racer, axis=0) >= 0:
            x = tl.load(logits + racer, mask=racer >= 0, other=0.0) / divisor
            p = likelihood(x, largest)
            rate = p / clock_of(tl.maximum(racer, 0), seed, step, is_greedy)
            is_in = (order_key(x) > floor) & (p >= least_p)
            signed = tl.where(racer >= 0, tl.where(is_in, rate, -rate), signed)
        tl.store(rates_ptr + group, signed, mask=mask)
    tl.debug_barrier()


@triton.jit
def load_groups(list_ptr, start, n_listed, logits, n_vocab, divisor, CHUNK: tl.constexpr):
    """Listed groups from `start` on: which, whether there are such; their tokens [CHUNK, RUN]."""
    RUN: tl.constexpr = 64
    entry = start + tl.arange(0, CHUNK)
    is_there = entry < n_listed
    group = tl.load(list_ptr + entry, mask=is_there, other=0)
    token = group[:, None] * RUN + tl.arange(0, RUN)[None, :]
    mask = is_there[:, None] & (token < n_vocab)
    x = tl.load(logits + token, mask=mask, other=float("-inf")) / divisor
    return group, is_there, token, mask, x


@triton.jit
def add_above(count, mass, x, mask, largest, bound, p_bound):
    counts = mask & (x > bound)
    p = likelihood(x, largest)
    p = tl.where(counts & (p > p_bound), p, 0.0)
    return count + counts.to(tl.int32), mass + (p * 17592186044416.0).to(tl.int64)


@triton.jit
def above(
    list_ptr, peaks_ptr, logits, n_vocab, divisor, largest, bound, p_bound,
    GROUPS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """How many tokens are above the bound, and the mass, in 2^-44, of those that are likelier than
    `p_bound` too: close values may be as likely."""
    RUN: tl.constexpr = 64
    group = tl.arange(0, GROUPS)
    n_groups = tl.cdiv(n_vocab, RUN)
    peak = tl.load(peaks_ptr + group, mask=group < n_groups, other=float("-inf"))
    n_listed = write_list(list_ptr, peak > bound, GROUPS)
    count = tl.zeros((CHUNK, RUN), tl.int32)
    mass = tl.zeros((CHUNK, RUN), tl.int64)
    if 4 * n_listed < n_groups:
        for start in range(0, n_listed, CHUNK):
            _, _, _, mask, x = load_groups(
                list_ptr, start, n_listed, logits, n_vocab, divisor, CHUNK
            )
            count, mass = add_above(count, mass, x, mask, largest, bound, p_bound)
    else:
        # Most of a row: one address after the other.
        lane = tl.arange(0, CHUNK)[:, None] * RUN + tl.arange(0, RUN)[None, :]
        for start in tl.range(0, n_vocab, CHUNK * RUN, num_stages=4):
            mask = start + lane < n_vocab
            x = tl.load(logits + start + lane, mask=mask, other=float("-inf")) / divisor
            count, mass = add_above(count, mass, x, mask, largest, bound, p_bound)
    return tl.sum(tl.sum(count, axis=1), axis=0), tl.sum(tl.sum(mass, axis=1), axis=0)


@triton.jit
def race_again(
    rates_ptr, racers_ptr, list_ptr, n_listed, logits, n_vocab, divisor, is_greedy, seed, step,
    largest, floor, least_p, CHUNK: tl.constexpr,
):  # fmt: skip
    """The race in each listed group, among what is not out."""
    for start in range(0, n_listed, CHUNK):
        group, is_there, token, mask, x = load_groups(
            list_ptr, start, n_listed, logits, n_vocab, divisor, CHUNK
        )
        p = likelihood(x, largest)
        is_in = mask & (order_key(x) > floor) & (p >= least_p)
        rate = tl.where(is_in, p / clock_of(token, seed, step, is_greedy), -1.0)
        best = tl.max(rate, axis=1)
        racer = tl.min(tl.where(rate == best[:, None], token, 0x7FFFFFFF), axis=1)
        tl.store(rates_ptr + group, best, mask=is_there)
        tl.store(racers_ptr + group, racer, mask=is_there)
    tl.debug_barrier()


@triton.jit
def nth_largest(keys, mask, n, largest):
    """Of at least n keys; by bisection."""
    low = tl.min(tl.where(mask, keys, largest), axis=0)
    high = largest
    while low < high:
        middle = (low | high) - ((low ^ high) >> 1)
        enough = tl.sum((mask & (keys >= middle)).to(tl.int32), axis=0) >= n
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    return low


@triton.jit
def is_less(mass, top_p, whole):
    return mass.to(tl.float32) < top_p * whole.to(tl.float32)


@triton.jit
def choose(
    peaks_ptr,
    rates_ptr,
    racers_ptr,
    masses_ptr,
    list_ptr,
    logits,
    n_vocab,
    divisor,
    is_greedy,
    top_k,
    top_p,
    min_p,
    seed,
    step,
    GROUPS: tl.constexpr,
    CHUNK: tl.constexpr,
    STRIP: tl.constexpr,
):
    """The token of a row whose groups' peaks, racers (-1: not known) and masses are there."""
    RUN: tl.constexpr = 64
    group = tl.arange(0, GROUPS)
    n_groups = tl.cdiv(n_vocab, RUN)
    is_group = group < n_groups
    peak = tl.load(peaks_ptr + group, mask=is_group, other=float("-inf"))
    largest = tl.max(peak, axis=0)
    largest_key = order_key(largest)
    # No clock rings later than 16.7 or earlier than 5.9e-8: what is 2^-30 as likely as the best
    # loses against it.
    least_p = tl.maximum(tl.minimum(min_p, 1.0), 9.313225746154785e-10)
    has_top_k = top_k < n_vocab
    has_top_p = top_p < 1.0

    # Tokens of at most this key are out. The k-th largest token is not below the k-th largest peak.
    floor = tl.full((), -2147483648, tl.int32)
    if has_top_k & (top_k <= n_groups):
        floor = nth_largest(order_key(peak), is_group, top_k, largest_key) - 1
    # The mass that top_k keeps is between these, the least token that it keeps in (low, high].
    least_mass = tl.full((), 17592186044416, tl.int64)
    most_mass = tl.full((), -1, tl.int64)  # not known
    low = floor
    high = largest_key
    if has_top_p & ~has_top_k:
        mass = tl.load(masses_ptr + group, mask=is_group, other=0).to(tl.float32)
        mass *= tl.where(is_group, likelihood(peak, largest), 0.0)
        most_mass = tl.sum((mass * 1048576.0).to(tl.int64), axis=0)
        least_mass = most_mass

    token = tl.full((), -1, tl.int32)
    has_rates = False
    while token < 0:
        if not has_rates:
            write_rates(
                rates_ptr, racers_ptr, n_groups, logits, divisor, is_greedy, seed, step,
                largest, floor, least_p, STRIP,
            )  # fmt: skip
            has_rates = True
        rate = tl.load(rates_ptr + group, mask=is_group, other=-1.0)
        lead = tl.max(rate, axis=0)
        peak = tl.load(peaks_ptr + group, mask=is_group, other=float("-inf"))
        races = is_group & (-rate >= lead) & (order_key(peak) > floor)
        races &= likelihood(peak, largest) >= least_p
        if tl.max(races.to(tl.int32), axis=0) > 0:
            n_listed = write_list(list_ptr, races, GROUPS)
            race_again(
                rates_ptr, racers_ptr, list_ptr, n_listed, logits, n_vocab, divisor, is_greedy,
                seed, step, largest, floor, least_p, CHUNK,
            )  # fmt: skip
        else:
            racer = tl.load(racers_ptr + group, mask=is_group, other=0)
            winner = tl.minimum(lowest_index_of_max(rate, racer), n_vocab - 1)
            at = tl.load(logits + winner) / divisor
            # Nothing leads only where a parameter is no number.
            is_kept = (at >= largest) | ~(has_top_k | has_top_p) | ~(lead > 0.0)
            if ~is_kept:
                p = likelihood(at, largest)
                count, mass = above(
                    list_ptr, peaks_ptr, logits, n_vocab, divisor, largest, at, p, GROUPS, CHUNK
                )
                is_kept = count < top_k
                if has_top_k & has_top_p:
                    if is_kept:
                        high = tl.minimum(high, order_key(at))
                        least_mass = tl.maximum(least_mass, mass)
                    # The mass that top_k keeps, as exactly as this token asks for.
                    while (
                        is_kept
                        & ~is_less(mass, top_p, least_mass)
                        & ((most_mass < 0) | is_less(mass, top_p, most_mass))
                    ):
                        pivot = (low & high) + ((low ^ high) >> 1)
                        if most_mass < 0:
                            # What is e^-32 as likely as the best has no mass in 2^-44.
                            weightless = tl.minimum(order_key(largest - 32.0), largest_key - 1)
                            pivot = tl.maximum(low, weightless)
                        else:
                            halfway = order_key(0.5 * value_of(low) + 0.5 * value_of(high))
                            pivot = tl.where((halfway > low) & (halfway < high), halfway, pivot)
                        if (pivot == low) & (most_mass >= 0):
                            least_mass = most_mass
                        else:
                            bound = value_of(pivot)
                            n_above, mass_above = above(
                                list_ptr, peaks_ptr, logits, n_vocab, divisor, largest, bound,
                                -1.0, GROUPS, CHUNK,
                            )  # fmt: skip
                            if n_above >= top_k:
                                low = pivot
                                most_mass = mass_above
                                least_mass = tl.where(n_above == top_k, mass_above, least_mass)
                            else:
                                high = pivot
                                least_mass = tl.maximum(least_mass, mass_above)
                                most_mass = tl.where(most_mass < 0, mass_above, most_mass)
                if has_top_p:
                    is_kept = is_kept & (is_less(mass, top_p, least_mass) | (p == 1.0))
                floor = order_key(at)
                has_rates = False
            if is_kept:
                token = winner
    return token


@triton.jit
def sample_split(
    out_ptr,
    floats_ptr,
    ints_ptr,
    arrivals_ptr,
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
    ROWS: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    STRIP: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUPS: tl.constexpr,
):
    RUN: tl.constexpr = 64
    NARROW: tl.constexpr = 128
    LEAST_TEMPERATURE: tl.constexpr = 1e-5
    N: tl.constexpr = BLOCK // (4 * RUN)
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    logits = logits_ptr + row * logits_stride
    peaks_ptr = floats_ptr + row * (2 * GROUPS)
    rates_ptr = peaks_ptr + GROUPS
    racers_ptr = ints_ptr + row * (3 * GROUPS)
    masses_ptr = racers_ptr + GROUPS
    list_ptr = masses_ptr + GROUPS
    temperature = tl.load(temperature_ptr + row)
    is_greedy = temperature < LEAST_TEMPERATURE
    divisor = tl.where(is_greedy, 1.0, temperature)
    top_k = tl.load(top_k_ptr + row)
    top_k = tl.where((top_k > 0) & (top_k < n_vocab), top_k, n_vocab)
    top_k = tl.where(is_greedy, 1, top_k)
    # Where few groups can have a token of the top_k, only these race, and later.
    races = (top_k > NARROW) | (top_k == n_vocab)
    seed = tl.load(seed_ptr + row)
    step = tl.load(step_ptr + row)

    run = tl.arange(0, N)
    lane = tl.arange(0, RUN)[None, :]
    n_odd = tl.zeros((N, RUN), tl.int32)
    for start in tl.range(part * BLOCK, n_vocab, PARTS * BLOCK, num_stages=DEPTH):
        values = ()
        peaks = ()
        for j in tl.static_range(4):
            token = start + run[:, None] * (4 * RUN) + j * RUN + lane
            mask = token < n_vocab
            x = tl.load(logits + token, mask=mask, other=float("-inf"))
            n_odd = tl.where(is_finite(x) | ~mask, n_odd, 1)
            x = x / divisor
            peak = tl.max(x, axis=1)
            group = start // RUN + run * 4 + j
            is_group = group * RUN < n_vocab
            tl.store(peaks_ptr + group, peak, mask=is_group)
            values = values + (x,)
            peaks = peaks + (peak,)
        if races:
            bits = philox(seed, start // 4 + run[:, None] * RUN + lane, step)
            for j in tl.static_range(4):
                token = start + run[:, None] * (4 * RUN) + j * RUN + lane
                group = start // RUN + run * 4 + j
                is_group = group * RUN < n_vocab
                p = likelihood(values[j], peaks[j][:, None])
                p = tl.where(token < n_vocab, p, 0.0)
                rate = p / -tl.log(uniform(bits[j]))
                is_best = rate == tl.max(rate, axis=1)[:, None]
                best = tl.min(tl.where(is_best, token, 0x7FFFFFFF), axis=1)
                tl.store(racers_ptr + group, best, mask=is_group)
                mass = tl.sum((p * 16777216.0).to(tl.int32), axis=1)
                tl.store(masses_ptr + group, mass, mask=is_group)
        else:
            every = start // RUN + tl.arange(0, 4 * N)
            tl.store(racers_ptr + every, tl.full((4 * N,), -1, tl.int32), every * RUN < n_vocab)

    arrived = 1 + 65536 * tl.max(tl.max(n_odd, axis=1), axis=0)
    tl.debug_barrier()
    if PARTS > 1:
        arrived += tl.atomic_add(arrivals_ptr + row, arrived, sem="acq_rel", scope="gpu")
    if (arrived & 0xFFFF) == PARTS:
        if PARTS > 1:
            tl.store(arrivals_ptr + row, 0)
        index = tl.full((), -1, tl.int32)
        if arrived < 65536:
            top_p = tl.where(is_greedy, 1.0, tl.load(top_p_ptr + row))
            min_p = tl.where(is_greedy, 0.0, tl.load(min_p_ptr + row))
            index = choose(
                peaks_ptr,
                rates_ptr,
                racers_ptr,
                masses_ptr,
                list_ptr,
                logits,
                n_vocab,
                divisor,
                is_greedy,
                top_k,
                top_p,
                min_p,
                seed,
                step,
                GROUPS,
                CHUNK,
                STRIP,
            )
        tl.store(out_ptr + row, index)


def reference(a):
    arrivals = np.zeros_like(a["arrivals_ptr"])
    return {**sample.reference(a), "arrivals_ptr": arrivals}


def with_scratch(case, **choice):
    n_rows = max(case.args["n_rows"], 1)
    n_groups = 1 << (-(-case.args["n_vocab"] // sample.RUN) - 1).bit_length()
    buffers = {
        "floats_ptr": filled(n_rows, 2, n_groups),
        "ints_ptr": np.full((n_rows, 3, n_groups), 7, np.int32),
        "arrivals_ptr": np.zeros(n_rows, np.int32),
    }
    types = {"floats_ptr": "fp32", "ints_ptr": "i32", "arrivals_ptr": "i32"}
    return Case(
        case.name,
        {**case.args, **buffers},
        {**case.dtypes, **types},
        {"ROWS": next_pow2(n_rows)},
        choice=choice,
    )


def cases(act):
    def flat(logits):
        logits[:] = 1.5

    def coarse(logits):
        logits[:] = np.round(logits)

    def masked(logits):
        logits[:, 5:8000] = -np.finfo(np.float32).max

    for case in sample.cases(act):
        yield with_scratch(case)
    wide = [(1.0, k, p, 0.0, 4, k) for k in (129, 1000, 8000) for p in (1.0, 0.3, 0.9)]
    many = [(1.0, 0, p, q, 8, i) for p in (0.05, 0.5, 0.99) for i, q in enumerate((0.0, 0.01))]
    for parts in (1, 4):
        few = {"PARTS": parts}
        yield with_scratch(sample.case(f"wide_{parts}", wide, 8192), **few)
        yield with_scratch(sample.case(f"flat_{parts}", many, 8192, std=0.1), **few)
        yield with_scratch(sample.case(f"equal_{parts}", [*wide, *many], 8192, edit=flat), **few)
        yield with_scratch(sample.case(f"coarse_{parts}", [*wide, *many], 8192, edit=coarse), **few)
    narrow = [(0.8, k, p, 0.02, k, 9) for k in (1, 7, 40, 128) for p in (1.0, 0.95)]
    for name, edit in (("equal", flat), ("coarse", coarse), ("masked", masked)):
        yield with_scratch(sample.case(f"narrow_{name}", narrow, 8192, edit=edit), PARTS=4)
    yield with_scratch(sample.case("spread", [*wide, *many, *narrow], 8192, std=50.0), PARTS=8)


def draw(d, act):
    choice = d.variant.of({}, {"PARTS": 2}, {"PARTS": 16}, {"PARTS": 64})
    return with_scratch(sample.draw(d, act), **choice)


# Sixteen warps: what the last program of a row reads again, it reads alone.
_GPU = {
    "PARTS": "min(32 if ROWS <= 4 else 16 if ROWS <= 8 else 8, cdiv(n_vocab, 4096))",
    "BLOCK": 4096,
    "CHUNK": 32,
    "STRIP": 512,
    "DEPTH": 1,
    "num_warps": 16,
    "num_stages": 1,
}
SPEC = Spec(
    fn=sample_split,
    op="sample",
    when="gpu",
    params=(
        out("out_ptr", "i32", "n_rows"),
        scratch("floats_ptr", "fp32", "n_rows", "2", "GROUPS"),
        scratch("ints_ptr", "i32", "n_rows", "3", "GROUPS"),
        counter("arrivals_ptr", "i32", "n_rows"),
        inp("logits_ptr", "fp32", "n_rows", "logits_stride"),
        inp("temperature_ptr", "fp32", "n_rows"),
        inp("top_k_ptr", "i32", "n_rows"),
        inp("top_p_ptr", "fp32", "n_rows"),
        inp("min_p_ptr", "fp32", "n_rows"),
        inp("seed_ptr", "i64", "n_rows"),
        inp("step_ptr", "i32", "n_rows", of="n_generated"),
        step_size("n_rows", of="logits[0]"),
        size("n_vocab", of="logits[1]"),
        stride("logits_stride"),
        given("ROWS", of="step.rows"),
        tuned("PARTS"),
        tuned("BLOCK"),
        tuned("CHUNK"),
        tuned("STRIP"),
        tuned("DEPTH"),
        derived("GROUPS", "next_pow2(cdiv(n_vocab, 64))"),
    ),
    grid=("n_rows", "PARTS", "1"),
    bytes="n_rows * n_vocab * sizeof(logits_ptr)",
    flops="60 * n_rows * n_vocab",
    reference=reference,
    cases=cases,
    draw=draw,
    tuned=("PARTS", "BLOCK", "CHUNK", "STRIP", "DEPTH"),  # BLOCK: a multiple of 256
    default={
        "cpu": {
            "PARTS": 1,
            "BLOCK": 256,
            "CHUNK": 4,
            "STRIP": 64,
            "DEPTH": 1,
            "num_warps": 1,
            "num_stages": 1,
        },
        "cuda": _GPU,
        "hip": _GPU,
    },
)
