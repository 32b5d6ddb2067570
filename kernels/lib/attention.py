"""One step of attention over a tile of keys, as every attention kernel takes it: scores to the
weights of a softmax that runs, and these to weighted values.

A *score function* says what becomes of a score, a *mask function* which keys a query sees; both are
constexprs of a kernel and Triton functions:

    SCORE(score, at, params) -> score        MASK(at, params) -> keep, first, end

No key outside of first <= k_pos < end is kept; none beyond the context is. `at` is (sequence, head,
token, position of the query, positions of the keys), each of a shape that spreads to the scores';
`params` is what functions may read: how far a query reaches or what it reaches first, the soft cap,
the context, and of each of two tensors its address and the length of its rows. Scores come to SCORE
as q . k * scale; what it gives is what the softmax takes. None is no function.

A score that may not be seen is minus infinity, and a row that has seen nothing yet has that as
its largest: infinities stay what they are under every rounding, where a large number in their place
does not. Exponents are of base 2; sums are fp32. Scores are [N] of one query, or [M, N] of a tile.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def soft_cap(x, cap):
    """cap * tanh(x / cap). tanh by exp: libdevice exists on one target only."""
    return cap * (1.0 - 2.0 / (1.0 + tl.exp(2.0 * x / cap)))


@triton.jit
def exponent_base(largest):
    """What is taken from scores before exp2: the largest, or 0 where nothing was seen yet, so that
    exp2(-inf - base) is 0 and never NaN."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def normalised(acc, total):
    """acc / total; zeros where nothing was seen at all."""
    return acc / tl.where(total == 0.0, 1.0, total)


@triton.jit
def soften(score, largest, total, factor, MASKED: tl.constexpr):
    """The running softmax: the weights of a tile, what earlier sums shrink by, the new largest
    score and sum. `factor`, which is positive, goes into the exponent: one multiply-add a score.
    MASKED: some score may be minus infinity."""
    new_largest = tl.maximum(largest, tl.max(score, axis=len(score.shape) - 1) * factor)
    base = exponent_base(new_largest) if MASKED else new_largest
    if len(score.shape) == 1:
        p = tl.exp2(score * factor - base)
    else:
        p = tl.exp2(score * factor - base[:, None])
    shrink = tl.exp2(largest - base)
    total = total * shrink + tl.sum(p, axis=len(score.shape) - 1)
    return p, shrink, new_largest, total


@triton.jit
def weigh(p, v, shrink, acc, dtype: tl.constexpr):
    """The weighted values added to those before. Products of tiles are of elements of `dtype`."""
    if len(p.shape) == 1:
        return acc * shrink + tl.sum(p[:, None] * v, axis=0)
    else:
        acc = acc * shrink[:, None]
        return tl.dot(p.to(dtype), v.to(dtype), acc, input_precision="ieee")


@triton.jit
def tile_weights(
    score, largest, total, at, there, params, factor, SCORE: tl.constexpr, MASK: tl.constexpr
):
    """A tile of scores to what soften gives. `there`: which keys exist; None: all that MASK keeps.
    `factor`: what makes a score q . k * scale, or without SCORE that times log2(e)."""
    if SCORE is not None:
        score = SCORE(score * factor, at, params) * LOG2E
    if there is not None:
        if MASK is not None:
            there = there & MASK(at, params)[0]
        score = tl.where(there, score, float("-inf"))
    elif MASK is not None:
        score = tl.where(MASK(at, params)[0], score, float("-inf"))
    MASKED: tl.constexpr = (MASK is not None) or (there is not None)
    return soften(score, largest, total, factor if SCORE is None else 1.0, MASKED)


@triton.jit
def attend_tile(
    state, score, v, at, there, params, factor, dtype: tl.constexpr, SCORE: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    """A tile of scores and its values into `state`: the largest score, the sum of weights, the
    weighted values."""
    largest, total, acc = state
    p, shrink, largest, total = tile_weights(
        score, largest, total, at, there, params, factor, SCORE, MASK
    )
    return largest, total, weigh(p, v, shrink, acc, dtype)


# What kernels do unless a graph names functions (lib/attention_functions.py). Which keys these
# keep follows from two numbers of the launch, so kernels know the first and the last without them.


@triton.jit
def capped(score, at, params):
    """The attribute softcap."""
    return soft_cap(score, params[1])


@triton.jit
def causal_within(at, params):
    """Keys from a query's own on back, as far as it reaches."""
    distance = at[3] - at[4]
    return (distance >= 0) & (distance < params[0]), None, None


@triton.jit
def from_first(at, params):
    """Of the newest token, before whose end all keys are: those from the first that it reaches."""
    return at[4] >= params[0], None, None


@triton.jit
def key_range(at, params, MASK: tl.constexpr, BLOCK_N: tl.constexpr):
    """Where the tiles of keys begin and where the keys end that some query of `at` sees."""
    _, first, end = MASK(at, params)
    if len(first.shape) > 0:
        first = tl.min(first, axis=0)
        end = tl.max(end, axis=0)
    return tl.maximum(first, 0) // BLOCK_N * BLOCK_N, tl.minimum(end, params[2])
