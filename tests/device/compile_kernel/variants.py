"""One kernel for several types, sizes and alignments."""

import triton
import triton.language as tl


@triton.autotune([triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 32})], key=[])
@triton.jit
def axpy(x_ptr, y_ptr, bias_ptr, n, a, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = a * tl.load(x_ptr + i, mask=i < n) + tl.load(y_ptr + i, mask=i < n)
    if bias_ptr is not None:
        y += tl.load(bias_ptr + i, mask=i < n)
    tl.store(y_ptr + i, y, mask=i < n)
