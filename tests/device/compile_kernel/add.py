"""A kernel as a user writes one, outside of this project."""

import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, scale, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + scale * y, mask=mask)


@triton.jit
def fill(x_ptr, N: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, N), tl.full((N,), 1.5, x_ptr.dtype.element_ty))


@triton.jit
def count(out_ptr, N: tl.constexpr):
    """How often each program ran, N times, and where; through memory of its own."""
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    program = (z * tl.num_programs(1) + y) * tl.num_programs(0) + x
    i = tl.arange(0, N)
    at = out_ptr + program * N + i
    order = tl.sort(x + 100 * y + 10000 * z + (N - 1 - i))
    tl.store(at, tl.load(at) + order)
