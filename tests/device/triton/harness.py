"""Programs as a user of Triton writes them, through the CPU target and through an oracle that is
not this compiler: Triton's own interpreter (TRITON_INTERPRET=1) on the same program, or numpy where
the interpreter is wrong or has no answer.

One process compiles all programs into a few shared objects and runs them; a second one, started
first, interprets them meanwhile. Both make the same inputs.
"""

import ctypes
import importlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
MODULES = (
    "integers", "floats", "float8", "reductions", "shapes", "memory", "control", "dots", "random",
    "library", "tutorials", "calls", "scaled", "assembly",
)  # fmt: skip
N_OBJECTS = 4  # translation units: compiled at the same time, each with a few programs

_TYPES = {
    "float32": "fp32", "float16": "fp16", "float64": "fp64", "int8": "i8", "int16": "i16",
    "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "bool": "i1",
}  # fmt: skip


@dataclass
class Tensor:
    """An array whose element type numpy does not have, as its bits."""

    bits: np.ndarray
    type: str  # bf16, fp8e4nv, ...


@dataclass
class Case:
    fn: Any
    grid: tuple[int, ...]
    args: list[Any]  # arrays, Tensors and numbers, in the order of the parameters
    consts: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    rtol: float = 0.0
    atol: float = 0.0
    # Expected arrays by the index of their argument; None: the interpreter's.
    want: Callable[[list[np.ndarray]], Mapping[int, np.ndarray]] | None = None
    stdout: str | None = None  # expected, where the program prints
    debug: bool = False

    @property
    def label(self) -> str:
        return f"{self.fn.__name__}{'_' if self.name else ''}{self.name}"


def bits_of(arg: Any) -> np.ndarray | None:
    if isinstance(arg, Tensor):
        return arg.bits
    return arg if isinstance(arg, np.ndarray) else None


def values_of(arg: Any, bits: np.ndarray) -> np.ndarray:
    """Bits as numbers that can be compared within a tolerance."""
    if isinstance(arg, Tensor) and arg.type == "bf16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits


def bf16(values: np.ndarray) -> Tensor:
    """To nearest even, by arithmetic on fp64."""
    x = np.asarray(values, np.float64)
    unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(x), 1e-38))) - 7)
    rounded = (np.round(x / unit) * unit).astype(np.float32)
    return Tensor((rounded.view(np.uint32) >> 16).astype(np.uint16), "bf16")


def pointer_type(arg: Any) -> str:
    return "*" + (arg.type if isinstance(arg, Tensor) else _TYPES[str(arg.dtype)])


def all_cases() -> list[Case]:
    """The same in every process: each module seeds its own generator."""
    sys.path.insert(0, str(Path(__file__).parent))
    cases = [c for name in MODULES for c in importlib.import_module(f"programs_{name}").cases()]
    only = os.environ.get("NEREID_TEST_PROGRAMS")
    return [c for c in cases if only is None or only in c.label]


# ----------------------------------------------------------------------------------- the oracle


def interpret(out: Path) -> None:
    """Runs every case without an expectation of its own in Triton's interpreter."""
    from triton.runtime import interpreter, jit

    class Pointer:
        def __init__(self, arg: Any) -> None:
            self.array, self.type = bits_of(arg), pointer_type(arg)

        def data_ptr(self) -> int:
            return self.array.ctypes.data

    # The interpreter moves torch tensors to the host first; ours are there.
    interpreter.GridExecutor._init_args_hst = lambda self, args, kwargs: (args, kwargs)
    interpreter.GridExecutor._restore_args_dev = lambda self, *args: None
    mangle = jit.mangle_type
    jit.mangle_type = lambda arg, *rest: (
        arg.type if isinstance(arg, Pointer) else mangle(arg, *rest)
    )
    results = {}
    for index, case in enumerate(all_cases()):
        if case.want is not None or case.stdout is not None:
            continue
        names = [name for name in case.fn.arg_names if name not in case.consts]
        values = [a if bits_of(a) is None else Pointer(a) for a in case.args]
        args = dict(zip(names, values, strict=True))
        try:
            with np.errstate(all="ignore"):
                case.fn[case.grid](**args, **case.consts)
        except Exception as error:  # named by the test that misses the result
            results[f"{index}.error"] = np.array(f"{type(error).__name__}: {error}")
            continue
        for position, arg in enumerate(case.args):
            if bits_of(arg) is not None:
                results[f"{index}.{position}"] = bits_of(arg)
    np.savez(out, **results)


# ------------------------------------------------------------------------------- the CPU target


def signature(case: Case) -> tuple[dict[str, str], dict[str, Any]]:
    types, values = {}, iter(case.args)
    for name in case.fn.arg_names:
        if name in case.consts:
            types[name] = "constexpr"
            continue
        value = next(values)
        if bits_of(value) is not None:
            types[name] = pointer_type(value)
        elif isinstance(value, bool):
            types[name] = "u1"
        elif isinstance(value, int):
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        else:
            types[name] = "fp32"
    return types, dict(case.consts)


def triton_ir(case: Case, symbol: str) -> str:
    from triton.compiler import ASTSource

    from aot.targets import cpu

    types, constexprs = signature(case)
    source = ASTSource(fn=case.fn, signature=types, constexprs=constexprs)
    text = cpu.source_text(source, debug=case.debug)
    return text.replace(f"@{case.fn.__name__}(", f"@{symbol}(", 1)


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy that ends where a page begins that nobody may touch."""
    page = mmap.PAGESIZE
    n_pages = (array.nbytes + page - 1) // page
    region = mmap.mmap(-1, (n_pages + 1) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start + n_pages * page), page, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    raw = np.frombuffer(region, np.uint8, array.nbytes, n_pages * page - array.nbytes)
    copy = raw.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


_SCALARS = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "u1": ctypes.c_int8,
            "fp32": ctypes.c_float}  # fmt: skip


class Programs:
    """All cases, compiled."""

    def __init__(self, cases: list[Case], folder: Path) -> None:
        from aot.targets import common, cpu

        toolchain = cpu.Toolchain(os.environ.get("NEREID_TEST_ISA"))
        self.meta: dict[int, int] = {}
        self.failures: dict[int, str] = {}
        sources: list[list[str]] = [[] for _ in range(N_OBJECTS)]
        self.object_of = {}
        with common.triton_scratch():
            for index, case in enumerate(cases):
                stem = folder / f"program_{index}"
                try:
                    stem.with_suffix(".ttir").write_text(triton_ir(case, stem.name))
                except Exception as error:
                    self.failures[index] = f"Triton: {error}"
                    continue
                done = subprocess.run(
                    [str(toolchain.ttir), f"{stem}.ttir", "--source", f"{stem}.cc", "--meta",
                     f"{stem}.json"],
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                if done.returncode != 0:
                    self.failures[index] = done.stderr.strip()
                    continue
                self.meta[index] = _arena_bytes(stem.with_suffix(".json"))
                self.object_of[index] = index * N_OBJECTS // len(cases)
                sources[self.object_of[index]].append(stem.with_suffix(".cc").read_text())
        # -O1: half the compile time; lane counts and masks are the same.
        flags = ["-O1" if flag == "-O3" else flag for flag in toolchain.flags]

        def build(number: int) -> ctypes.CDLL | None:
            if not sources[number]:
                return None
            path = folder / f"all_{number}.cc"
            path.write_text("".join(sources[number]))
            command = [toolchain.cxx, *flags, "-I", str(toolchain.include), "-shared", str(path),
                       "-o", str(path.with_suffix(".so"))]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(done.stderr[:6000])
            return ctypes.CDLL(str(path.with_suffix(".so")))

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            self.objects = list(pool.map(build, range(N_OBJECTS)))

    def run(self, index: int, case: Case) -> dict[int, np.ndarray]:
        """Arguments after the whole grid has run, by their index."""
        entry = getattr(self.objects[self.object_of[index]], f"program_{index}")
        arrays = {i: guarded(bits_of(a)) for i, a in enumerate(case.args) if bits_of(a) is not None}
        types = [t for t in signature(case)[0].values() if t != "constexpr"]
        slots = []
        for i, (value, type_) in enumerate(zip(case.args, types, strict=True)):
            address = arrays[i].ctypes.data if i in arrays else None
            slots.append(ctypes.c_void_p(address) if i in arrays else _SCALARS[type_](value))
        list_ = (ctypes.c_void_p * len(slots))(*(ctypes.addressof(s) for s in slots))
        # NaN where nothing was written: what reads scratch before writing it is seen.
        raw = ctypes.create_string_buffer(b"\xff" * (self.meta[index] + 64), self.meta[index] + 64)
        arena = ctypes.c_void_p((ctypes.addressof(raw) + 63) // 64 * 64)
        grid = [*case.grid, 1, 1][:3]
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    entry(list_, arena, *map(ctypes.c_uint32, (x, y, z, *grid)))
        return arrays


def _arena_bytes(path: Path) -> int:
    return int(json.loads(path.read_text())["arena_bytes"])


def start_interpreter(out: Path) -> subprocess.Popen:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(Path(__file__)), "--interpret", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def captured(action: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """What an action writes to stdout, C's included."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    with tempfile.TemporaryFile() as file:
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            result = action(*args)
            libc.fflush(None)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        return result, file.read().decode()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    import harness  # the module that the programs import, not this script

    harness.interpret(Path(sys.argv[2]))
