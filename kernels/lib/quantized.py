"""Quantised weights as linear kernels read them: w[n, k] = (q[n, k] - zero) * scale[n, k // group].

q of `i8`, `fp8e4nv` and `fp8e5` is [N, K], without zeros. Of 4 bits it is `u8` [N, P],
P = 64 * cdiv(K, 128): byte j of the b-th 64 bytes of a row holds column 128 b + j in its low four
bits and column 128 b + 64 + j in its high ones. Values are 0 to 15; zero is 8, or `u8` [N, G].
Columns from K on hold 8. scale [N, G], G = cdiv(K, group); a group may be the whole row.
"""

import numpy as np
import triton

COLUMNS = 128  # of a block of packed bytes
HALF = 64
GROUPS = (32, 64, 128)
TYPES = ("i8", "fp8e4nv", "fp8e5", "u8")


@triton.jit
def nearest(x):
    """The nearest whole number, of two the even one, for |x| < 2^22."""
    return (x + 12582912.0) - 12582912.0


def packed_size(n_cols: int) -> int:
    """Bytes of a row of 4-bit values."""
    return HALF * -(-n_cols // COLUMNS)


def packed(values: np.ndarray) -> np.ndarray:
    """[N, K] of 0 to 15 -> [N, P]."""
    n_rows, n_cols = values.shape
    blocks = np.full((n_rows, packed_size(n_cols) // HALF, 2, HALF), 8, np.uint8)
    blocks.reshape(n_rows, 2 * packed_size(n_cols))[:, :n_cols] = values
    return (blocks[:, :, 0] | blocks[:, :, 1] << 4).reshape(n_rows, packed_size(n_cols))


def unpacked(q: np.ndarray, n_cols: int) -> np.ndarray:
    """[N, P] -> [N, K]."""
    n_rows, n_bytes = q.shape
    low_high = np.stack((q & 15, q >> 4), axis=1).reshape(n_rows, 2, n_bytes // HALF, HALF)
    return low_high.transpose(0, 2, 1, 3).reshape(n_rows, 2 * n_bytes)[:, :n_cols]


def of_columns(values: np.ndarray, group: int, n_cols: int) -> np.ndarray:
    """[N, G] -> [N, K]: what holds for each column; a group of 0 is the whole row."""
    return np.repeat(values, group or n_cols, axis=1)[:, :n_cols]
