"""Choosing one of many, the same way on every target."""

import numpy as np
import triton
import triton.language as tl

# What a kernel leaves in place of an index where the row has a NaN or an infinity: such a row is no
# distribution, and any index would look like an answer.
NO_CHOICE = -1


@triton.jit
def is_finite(x):
    return tl.abs(x) < float("inf")


def all_finite(logits: np.ndarray) -> bool:
    return bool(np.isfinite(logits.astype(np.float64)).all())


@triton.jit
def lowest_index_of_max(values, indices):
    """The lowest of `indices` where `values` is largest. Two plain reductions: no tie is left to a
    target's own order."""
    largest = tl.max(values, axis=0)
    return tl.min(tl.where(values == largest, indices, 0x7FFFFFFF), axis=0)
