"""`@triton.jit` helpers shared by kernels."""
