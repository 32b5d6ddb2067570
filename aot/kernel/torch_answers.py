"""What a missing torch, or a missing package that hands Triton on, answers of itself: what decides
which kernels a file defines. The GPU is the target's."""

import functools
import re
from types import SimpleNamespace
from typing import Any

from aot.kernel.stand_ins import ABSENT

# Largest, smallest normal, and the distance from 1 to the next number.
_FLOATS = {
    "float64": (1.7976931348623157e308, 2.2250738585072014e-308, 2.0**-52, 64),
    "float32": (3.4028234663852886e38, 1.1754943508222875e-38, 2.0**-23, 32),
    "float16": (65504.0, 2.0**-14, 2.0**-10, 16),
    "bfloat16": (3.3895313892515355e38, 1.1754943508222875e-38, 2.0**-7, 16),
    "float8_e4m3fn": (448.0, 2.0**-6, 2.0**-3, 8),
    "float8_e5m2": (57344.0, 2.0**-14, 2.0**-2, 8),
    "float8_e4m3fnuz": (240.0, 2.0**-7, 2.0**-3, 8),
    "float8_e5m2fnuz": (57344.0, 2.0**-15, 2.0**-2, 8),
}
_SYNONYMS = {"half": "float16", "float": "float32", "double": "float64"}
_OTHER_MAKERS = ("npu", "mlu", "musa", "hpu", "gcu", "sdaa", "txda", "ptpu", "ppu", "privateuseone")
_INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


def _short(dtype: Any) -> str:
    name = getattr(dtype, "_name", str(dtype)).rpartition(".")[2]
    return _SYNONYMS.get(name, name)


def finfo(dtype: Any = "float32") -> SimpleNamespace:
    if _short(dtype) not in _FLOATS:
        raise TypeError(f"torch.finfo of {dtype!r}")
    largest, tiny, eps, bits = _FLOATS[_short(dtype)]
    return SimpleNamespace(
        max=largest, min=-largest, tiny=tiny, smallest_normal=tiny, eps=eps, bits=bits,
        dtype=_short(dtype),
    )  # fmt: skip


def iinfo(dtype: Any) -> SimpleNamespace:
    name = _short(dtype)
    if name not in _INTEGERS:
        raise TypeError(f"torch.iinfo of {dtype!r}")
    bits = int(name.partition("int")[2])
    low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return SimpleNamespace(min=low, max=high, bits=bits, dtype=name)


@functools.total_ordering
class Version:
    """Where `packaging` is missing too: files compare versions before they import."""

    def __init__(self, text: Any) -> None:
        self.text = str(text)
        self.release = tuple(int(n) for n in re.match(r"v?([\d.]*)", self.text)[1].split(".") if n)
        self.major, self.minor, self.micro = (*self.release, 0, 0, 0)[:3]
        self.base_version = self.public = ".".join(map(str, self.release))

    def __str__(self) -> str:
        return self.text

    def _key(self) -> tuple[int, ...]:
        return (*self.release, 0, 0, 0, 0)[:4]

    def __eq__(self, other: Any) -> bool:
        return self._key() == Version(other)._key()

    def __lt__(self, other: Any) -> bool:
        return self._key() < Version(other)._key()

    def __hash__(self) -> int:
        return hash(self._key())


def answers(target: Any, has_gpu: bool) -> dict[str, Any]:
    """By full name, or by `*.name` whatever the package. `target`: Triton's GPUTarget. `has_gpu`:
    whether torch.cuda.is_available()."""
    import triton
    import triton.language as tl

    is_cuda = target.backend == "cuda"
    capability = divmod(target.arch, 10) if is_cuda else (9, 4)
    found = {
        "torch.version.cuda": "12.8" if is_cuda else None,
        "torch.version.hip": None if is_cuda else "6.4.0",
        "torch.version.xpu": None,
        "torch.cuda.get_device_capability": lambda device=None: capability,
        "*.device_count": lambda *_: int(has_gpu),
        # Other makers' extensions; files tell by hasattr whether they are there.
        **{f"torch.{maker}": ABSENT for maker in _OTHER_MAKERS},
        "torch.cuda.current_device": lambda: 0,
        "torch.finfo": finfo,
        "torch.iinfo": iinfo,
        "torch.inf": float("inf"),
        "torch.nan": float("nan"),
        "torch.pi": 3.141592653589793,
        "packaging.version.Version": Version,
        "packaging.version.parse": Version,
        # Packages that hand Triton on where it works (vllm.triton_utils): here it does.
        "*.triton": triton,
        "*.tl": tl,
        "*.HAS_TRITON": True,
        "*.has_triton": lambda: True,
    }
    if has_gpu:
        found["torch.cuda.is_available"] = lambda: True
    return found
