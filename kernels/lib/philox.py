"""Philox4x32-10: random numbers that are a function of (seed, counter) and of nothing else.

Written out here rather than taken from `tl.rand`: a seed gives the same text on every target and
with every Triton.
"""

import numpy as np
import triton
import triton.language as tl


@triton.jit
def philox(seed, c0, c1):
    """Four uint32 for each (c0, c1) under a 64-bit seed."""
    MUL_A: tl.constexpr = 0xD2511F53
    MUL_B: tl.constexpr = 0xCD9E8D57
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    c0 = c0.to(tl.uint32)
    c1 = c1.to(tl.uint32) + c0 * 0
    c2 = c0 * 0
    c3 = c0 * 0
    a = tl.full(c0.shape, MUL_A, tl.uint32)
    b = tl.full(c0.shape, MUL_B, tl.uint32)
    for _ in tl.static_range(10):
        high_a = tl.umulhi(a, c0)
        high_b = tl.umulhi(b, c2)
        low_a = a * c0
        low_b = b * c2
        c0 = high_b ^ c1 ^ k0
        c2 = high_a ^ c3 ^ k1
        c1 = low_b
        c3 = low_a
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def uniform(bits):
    """Floats strictly between 0 and 1."""
    return ((bits >> 9).to(tl.int32).to(tl.float32) + 0.5) * 1.1920928955078125e-07


@triton.jit
def normal_pair(bits0, bits1):
    """Two independent standard normal numbers (Box-Muller)."""
    radius = tl.sqrt(-2.0 * tl.log(uniform(bits0)))
    angle = 6.283185307179586 * uniform(bits1)
    return radius * tl.cos(angle), radius * tl.sin(angle)


def philox_reference(seed, c0, c1):
    """The same in numpy: uint32 arrays for arrays c0, c1."""
    mask = np.uint64(0xFFFFFFFF)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    c0, c1 = (np.asarray(c, np.uint64) & mask for c in np.broadcast_arrays(c0, c1))
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    for _ in range(10):
        product_a = np.uint64(0xD2511F53) * c0
        product_b = np.uint64(0xCD9E8D57) * c2
        c0 = (product_b >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c2 = (product_a >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = product_b & mask, product_a & mask
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def uniform_reference(bits):
    return ((bits >> np.uint32(9)).astype(np.float64) + 0.5) * 2.0**-23
