"""Sums of products of bytes, four in a word of 32 bits."""

import triton
import triton.language as tl


@triton.jit
def as_words(bytes_ptr):
    return bytes_ptr.to(tl.pointer_type(tl.int32), bitcast=True)


@triton.jit
def add_quads(total, a, b):
    """total + the products of the four unsigned bytes of `a` with the signed ones of `b`. The CPU
    target makes one instruction of it: it knows this very sum (ttir/emit/quads.cc)."""
    total += (a & 255) * ((b << 24) >> 24)
    total += ((a >> 8) & 255) * ((b << 16) >> 24)
    total += ((a >> 16) & 255) * ((b << 8) >> 24)
    total += ((a >> 24) & 255) * (b >> 24)
    return total
