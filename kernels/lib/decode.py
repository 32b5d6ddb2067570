"""What the two forms of attention_decode_split share."""

import triton
import triton.language as tl

from kernels.lib.attention import exponent_base


@triton.jit
def old_tiles(context, window, BLOCK_N: tl.constexpr, HAS_WINDOW: tl.constexpr):
    """How many tiles hold the keys that a sequence sees, without its newest."""
    n_tiles = tl.cdiv(context - 1, BLOCK_N)
    if HAS_WINDOW:
        n_tiles -= tl.maximum(context - window, 0) // BLOCK_N
    return tl.maximum(n_tiles, 0)


@triton.jit
def merged(largest, total, acc, unit_largest, unit_total, unit_acc, AXIS: tl.constexpr):
    """A unit's sums into those of the units before it; AXIS: which of acc is not heads. The
    fused operations are written out, lest the compiler fuses in one place what it does not in
    another."""
    peak = tl.maximum(largest, unit_largest)
    base = exponent_base(peak)
    old = tl.exp2(largest - base)
    new = tl.exp2(unit_largest - base)
    total = tl.fma(total, old, unit_total * new)
    old = tl.expand_dims(old, AXIS)
    acc = tl.fma(acc, tl.broadcast_to(old, acc.shape), unit_acc * tl.expand_dims(new, AXIS))
    return peak, total, acc


@triton.jit
def turned_heads(
    head_at, mask, lane, cos, sin, norm_ptr, eps, HEAD_DIM: tl.constexpr,
    HAS_NORM: tl.constexpr,
):  # fmt: skip
    """Heads [H, D] normed and turned by half-rotation, in fp32; `mask` [H, 1]: which there are."""
    HALF: tl.constexpr = HEAD_DIM // 2
    other = tl.where(lane < HALF, lane + HALF, lane - HALF)
    mask = mask & (lane < HEAD_DIM)[None, :]
    x = tl.load(head_at + lane[None, :], mask=mask, other=0.0).to(tl.float32)
    y = tl.load(head_at + other[None, :], mask=mask, other=0.0).to(tl.float32)
    if HAS_NORM:
        factor = tl.rsqrt(tl.sum(x * x, axis=1) / HEAD_DIM + eps)[:, None]
        weight = tl.load(norm_ptr + lane, mask=lane < HEAD_DIM, other=0.0).to(tl.float32)
        x = x * factor * weight[None, :]
        weight = tl.load(norm_ptr + other, mask=lane < HEAD_DIM, other=0.0).to(tl.float32)
        y = y * factor * weight[None, :]
    y = tl.where((lane < HALF)[None, :], -y, y)
    return x * cos[None, :] + y * sin[None, :]
