"""Element types as they lie in memory, for references and cases; numpy has no bf16."""

import numpy as np

STORAGE = {
    "i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "fp16": np.float16, "bf16": np.uint16, "fp32": np.float32, "fp64": np.float64,
}  # fmt: skip


def to_storage(values: np.ndarray, dtype: str) -> np.ndarray:
    """The array as it lies in memory; bf16 by round-to-nearest-even. Too large is infinite."""
    if dtype != "bf16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values.astype(STORAGE[dtype]))
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet_nan, nearest).astype(np.uint16)


def from_storage(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Floats as float32, integers as they are."""
    if dtype == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32) if dtype.startswith("fp") else raw


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    return from_storage(to_storage(values, dtype), dtype)
