"""What expressions over rows call in generated kernels, and in numpy in their references.

The operators are the rows of src/graph/expression/operators.def; here is what neither Triton nor
numpy has by itself.
"""

import math

import numpy as np
import triton
import triton.language as tl

from kernels.lib import numbers


@triton.jit
def tanh(x):
    """Within 5e-7 of tanh(x), relative (2.4e-7 by an exact exp), from no library. Near zero its odd
    series, where 1 - exp(-2|x|) would cancel; elsewhere exp of what is not positive, which never
    overflows.
    """
    size = tl.abs(x)
    decay = tl.exp(-2.0 * size)
    far = (1.0 - decay) / (1.0 + decay)
    square = x * x
    series = -8.863235529e-3 * square + 2.186948854e-2
    series = series * square - 5.396825397e-2
    series = series * square + 1.333333333e-1
    series = series * square - 3.333333333e-1
    near = x + x * square * series
    return tl.where(size < 0.4, near, tl.where(x < 0.0, -far, far))


# numpy has no erf.
erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def rsqrt(x):
    return 1.0 / np.sqrt(x)


def stored(values, dtype):
    """Rounded to the type, and a number to go on computing with."""
    return numbers.rounded(np.asarray(values), dtype).astype(np.float64)
