"""One step of attention over a tile of keys, as every attention kernel takes it: scores to the
weights of a softmax that runs, and these to weighted values.

A *score function* says what becomes of a score, a *mask function* which keys a query sees; both are
constexprs of a kernel and Triton functions:

    SCORE(score, at, params) -> score        MASK(at, params) -> keep, seen, whole

`seen` and `whole` are ranges of keys, two numbers of each query: none outside of `seen` is kept,
all in `whole` are unless they lie beyond the context, where none is. So it is known of every tile
of keys whether it is read and whether it needs a mask. `at` is (sequence, head, token, position of
the query, positions of the keys), each of a shape that spreads to the scores'; `params` is what
functions may read: how far a query reaches or what it reaches first, the soft cap, the context, and
of each of two tensors its address and the length of its rows. Scores come to SCORE as q . k *
scale; what it gives is what the softmax takes. None is no function.

A score that may not be seen is minus infinity, and a row that has seen nothing yet has that as
its largest: infinities stay what they are under every rounding, where a large number in their place
does not. Exponents are of base 2; sums are fp32. Scores are [N] of one query, or [M, N] of a tile.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.constexpr_function
def is_gluon(type):
    """Tensors have a layout there."""
    return hasattr(type, "layout")


@triton.jit
def soft_cap(x, cap):
    """cap * tanh(x / cap). tanh by exp2: libdevice exists on one target only. In Gluon, which is
    for NVIDIA and 16-bit queries, by an instruction of 11 bits, as these have: exp2, a division and
    the softmax's exp2 take a multiprocessor longer than a tile's products do."""
    if is_gluon(x.type):
        return cap * tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x * (1.0 / cap)], dtype=tl.float32, is_pure=True,
            pack=1,
        )  # fmt: skip
    else:
        return cap - 2.0 * cap / (1.0 + tl.exp2(x * (2.0 * LOG2E / cap)))


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
        score = SCORE(score * factor, at, params)
    if there is not None:
        if MASK is not None:
            there = there & MASK(at, params)[0]
        score = tl.where(there, score, float("-inf"))
    elif MASK is not None:
        score = tl.where(MASK(at, params)[0], score, float("-inf"))
    # A score function may hide keys, too: by minus infinity.
    MASKED: tl.constexpr = (MASK is not None) or (there is not None) or (SCORE is not None)
    return soften(score, largest, total, factor if SCORE is None else LOG2E, MASKED)


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
# keep follows from two numbers of the launch, so kernels know their ranges without them.
NO_LIMIT = tl.constexpr(1 << 30)  # further than any query reaches


@triton.jit
def capped(score, at, params):
    """The attribute softcap."""
    return soft_cap(score, params[1])


@triton.jit
def causal(at, params):
    """Keys up to a query's own."""
    return at[3] >= at[4], None, None


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
def key_tiles(q_first, q_last, at, params, MASK: tl.constexpr, BLOCK_N: tl.constexpr):
    """Tiles of keys for a tile of queries: it sees something from `begin` to `end`, and everything
    from `whole` to `partial`. Without MASK they are those at q_first to q_last, which see keys as
    far back as params[0]; else those of `at`."""
    if MASK is None:
        first = q_first - params[0] + 1
        end = q_last + 1
        whole_first = q_last - params[0] + 1
        whole_end = q_first + 1
    else:
        _, (first, end), (whole_first, whole_end) = MASK(at, params)
        if len(first.shape) > 0:
            first = tl.min(first, axis=0)
            end = tl.max(end, axis=0)
            whole_first = tl.max(whole_first, axis=0)
            whole_end = tl.min(whole_end, axis=0)
    context = params[2]
    begin = tl.maximum(first, 0) // BLOCK_N
    end = tl.maximum(tl.cdiv(tl.maximum(tl.minimum(end, context), 0), BLOCK_N), begin)
    # The last page, where it is not full, is never among the whole ones.
    full = tl.maximum(
        tl.minimum(tl.maximum(tl.minimum(whole_end, context), 0) // BLOCK_N, end), begin
    )
    whole = tl.maximum(tl.minimum(tl.cdiv(tl.maximum(whole_first, 0), BLOCK_N), full), begin)
    return begin, whole, full, end
