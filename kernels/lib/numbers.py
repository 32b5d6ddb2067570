"""Element types as they lie in memory, for references and cases.

numpy has no bf16 and no 8-bit floats.
"""

import numpy as np

STORAGE = {
    "i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "fp16": np.float16, "bf16": np.uint16, "fp32": np.float32, "fp64": np.float64,
    "fp8e4nv": np.uint8, "fp8e5": np.uint8,
}  # fmt: skip


def _float8(n_fraction: int, bias: int, n_finite: int) -> np.ndarray:
    """What the codes 0 to n_finite - 1 stand for, in rising order."""
    code = np.arange(n_finite)
    exponent, fraction = code >> n_fraction, code & ((1 << n_fraction) - 1)
    whole = np.where(exponent > 0, fraction + (1 << n_fraction), fraction)
    return np.ldexp(whole.astype(np.float64), np.maximum(exponent, 1) - bias - n_fraction)


# The OCP's: e4m3 without infinities (0x7f is NaN), e5m2 as an fp16 cut short.
FLOAT8 = {"fp8e4nv": _float8(3, 7, 0x7F), "fp8e5": _float8(2, 15, 0x7C)}
_FLOAT8_NAN = 0x7F


def _float8_codes(values: np.ndarray, dtype: str) -> np.ndarray:
    """To nearest, of two the even one; too large, and infinite, is the largest, as GPUs convert."""
    finite = FLOAT8[dtype]
    size = np.minimum(np.abs(np.asarray(values, np.float64)), finite[-1])
    halfway = (finite[1:] + finite[:-1]) / 2
    code = np.searchsorted(halfway, size)
    at = np.minimum(code, len(halfway) - 1)
    code += (size == halfway[at]) & (code % 2 == 1)
    code = np.where(np.isnan(values), _FLOAT8_NAN, code)
    return (code | np.signbit(values).astype(np.int64) << 7).astype(np.uint8)


def _float8_values(codes: np.ndarray, dtype: str) -> np.ndarray:
    finite = FLOAT8[dtype]
    table = np.full(128, np.nan)
    table[: len(finite)] = finite
    if dtype == "fp8e5":
        table[len(finite)] = np.inf
    return np.concatenate((table, -table)).astype(np.float32)[codes]


def to_storage(values: np.ndarray, dtype: str) -> np.ndarray:
    """The array as it lies in memory, floats to nearest even. Too large is infinite, but for the
    8-bit floats, which saturate."""
    if dtype in FLOAT8:
        return _float8_codes(values, dtype)
    if dtype != "bf16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values.astype(STORAGE[dtype]))
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet_nan, nearest).astype(np.uint16)


def from_storage(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Floats as float32, integers as they are."""
    if dtype in FLOAT8:
        return _float8_values(raw, dtype)
    if dtype == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32) if dtype.startswith("fp") else raw


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    return from_storage(to_storage(values, dtype), dtype)
