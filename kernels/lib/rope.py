"""What the kernels that turn queries and keys share: the norm of a head, the rotation, and both in
numpy."""

import numpy as np
import triton
import triton.language as tl


@triton.jit
def rope_factors(position, inv_freq_ptr, lane, half):
    """cos and sin of a token's angles; the lanes past `half` are 1 and 0."""
    inv_freq = tl.load(inv_freq_ptr + lane, mask=lane < half, other=0.0)
    angle = position.to(tl.float32) * inv_freq
    return tl.cos(angle), tl.sin(angle)


@triton.jit
def turn(x1, x2, cos, sin):
    """Half-rotation: x1 and x2 are the two halves of a head."""
    return x1 * cos - x2 * sin, x2 * cos + x1 * sin


@triton.jit
def head_norm(x1, x2, weight_ptr, lane, half, eps):
    """RMSNorm of heads that lie in halves, heads by the first axis; what is past `half` is 0."""
    w1 = tl.load(weight_ptr + lane, mask=lane < half, other=0.0).to(tl.float32)
    w2 = tl.load(weight_ptr + half + lane, mask=lane < half, other=0.0).to(tl.float32)
    squares = tl.sum(x1 * x1 + x2 * x2, axis=1)
    factor = tl.rsqrt(squares / (2 * half) + eps)[:, None]
    return x1 * factor * w1[None, :], x2 * factor * w2[None, :]


def rope_reference(x, position, inv_freq, norm=None, eps=0.0):
    """Heads [H, Dh] of one token, normed where there is a `norm` and turned, in float64."""
    x = x.astype(np.float64)
    if norm is not None:
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + eps) * norm
    # The angle is rounded to fp32 as the models' own code does.
    angle = (np.float32(position) * inv_freq).astype(np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    x1, x2 = np.split(x, 2, axis=1)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=1)


def inverse_frequencies(head_dim, theta=10000.0):
    exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    return (theta**-exponent).astype(np.float32)
