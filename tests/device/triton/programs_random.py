"""tl.rand and its kin: counters in, the same numbers as everywhere."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def random_numbers(uniform, normal, whole, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(uniform + i, tl.rand(seed, i))
    tl.store(normal + i, tl.randn(seed, i + 5))
    tl.store(whole + i, tl.randint(seed, i))
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(whole + 256 + i, a ^ b ^ c ^ d)


def cases():
    for seed in (1, 123456789):
        args = [np.zeros(256, np.float32), np.zeros(256, np.float32), np.zeros(512, np.int32), seed]
        yield Case(random_numbers, (2,), args, {"BLOCK": 128}, str(seed), 1e-5, 1e-6)
