"""What is refused, and where: the comments mark the lines that a message names."""

import triton
import triton.language as tl


@triton.jit
def foo_of(x):
    return x.foo  # attribute


@triton.jit
def attribute(x_ptr):
    tl.store(x_ptr, foo_of(tl.load(x_ptr)))


@triton.jit
def assembled(x):
    return tl.inline_asm_elementwise(  # assembly
        "unknown.instruction $0, $1;", "=r,r", [x], dtype=tl.int32, is_pure=True, pack=1
    )


@triton.jit
def assembly(x_ptr):
    tl.store(x_ptr, assembled(tl.load(x_ptr)))
