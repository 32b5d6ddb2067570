"""linear_fp8 on Hopper, in Gluon: the body of hopper/linear_tiled.py, with scales.

The same formula, parameters and meaning as kernels/linear_fp8.py, which is its reference and its
Spec. A box has 128 columns, so that a row of it is 128 bytes as of 16-bit types: the ring, the
barriers and the shapes of tiles are theirs.
Accumulation: as hopper/linear_tiled.py says of 8-bit floats.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from kernels.hopper.linear_tiled import tiled_product


@gluon.jit
def linear_fp8(
    y_ptr, x_ptr, x_scale_ptr, w_ptr, scale_ptr, bias_ptr, residual_ptr, n_rows, n_out, n_in,
    y_stride, residual_stride, alpha, HAS_BIAS: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    GATED: gl.constexpr, EPILOGUE: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr, GROUP_M: gl.constexpr, TMA: gl.constexpr, N_PROGRAMS: gl.constexpr,
    PDL: gl.constexpr, HOPPER: gl.constexpr, TAIL: gl.constexpr, USE_DESCRIPTORS: gl.constexpr,
    EVEN_N: gl.constexpr, EVEN_K: gl.constexpr,
):  # fmt: skip
    tiled_product(
        y_ptr, x_ptr, w_ptr, bias_ptr, residual_ptr, (x_scale_ptr, scale_ptr), n_rows, n_out, n_in,
        y_stride, residual_stride, alpha, HAS_BIAS, HAS_RESIDUAL, GATED, EPILOGUE, BLOCK_M, BLOCK_N,
        BLOCK_K, GROUP_M, PDL, TAIL, USE_DESCRIPTORS, EVEN_N,
    )  # fmt: skip
