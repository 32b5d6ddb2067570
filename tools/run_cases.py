#!/usr/bin/env python3
"""Runs kernels' test cases from files and compares with what the reference expects.

    tools/run_cases.py --target cpu --ttir build/release/ttir/emit/nereid-ttir [--kernel NAME]...
                       [--spec FILE]... [--random N [--seed S] [--only-random]] [--case NAME]
    tools/run_cases.py --target cuda:90 --cases DIR --bundle DIR    (with a GPU; needs no Triton)

Without --cases and --bundle both are made first, in --work; with --make-only that is all, and the
folder can be taken to a machine with a GPU. --random draws cases beside the written ones. Each
kernel runs in a process of its own: a crash is a failed case. Buffers lie between guards, which
must be untouched; scratch begins as NaN.
"""

import argparse
import ctypes
import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kernels import expr  # noqa: E402
from kernels.lib.numbers import STORAGE, from_storage  # noqa: E402
from kernels.spec import SIZEOF  # noqa: E402

GUARD_BYTES = 4096
CTYPES = {
    "i8": ctypes.c_int8, "i16": ctypes.c_int16, "i32": ctypes.c_int32, "i64": ctypes.c_int64,
    "fp32": ctypes.c_float, "fp64": ctypes.c_double,
}  # fmt: skip


def worst(got: np.ndarray, want: np.ndarray, dtype: str, unit: float) -> tuple[float, int]:
    """The largest |got - want| / (unit + |want|) and where; infinite where only one is a number."""
    a, b = (from_storage(raw, dtype).astype(np.float64) for raw in (got, want))
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b) / (unit + np.abs(b))
    error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, error)
    error = np.where(np.isnan(error), np.inf, error)
    where = int(np.argmax(error)) if error.size else 0
    return (float(error[where]) if error.size else 0.0), where


class HostBuffer:
    """Bytes between two guards, 64-byte aligned."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._all = np.full(self.size + 2 * GUARD_BYTES + 64, 0xFF, np.uint8)
        base = self._all.ctypes.data
        self.start = -(-(base + GUARD_BYTES) // 64) * 64 - base
        self._all[self.start : self.start + self.size] = np.frombuffer(data, np.uint8)
        self.address = base + self.start

    def read(self) -> bytes:
        return self._all[self.start : self.start + self.size].tobytes()

    def guards_hold(self) -> bool:
        before, after = self._all[: self.start], self._all[self.start + self.size :]
        return bool((before == 0xFF).all() and (after == 0xFF).all())


class CpuMachine:
    """Calls objects of docs/formats.md, section 5, program by program."""

    def __init__(self) -> None:
        self._loaded: dict[str, ctypes._CFuncPtr] = {}

    def buffer(self, data: bytes) -> HostBuffer:
        return HostBuffer(data)

    def launch(self, path: Path, row: dict, params: list, grid: list[int]) -> None:
        if row["symbol"] + row["object"] not in self._loaded:
            function = getattr(ctypes.CDLL(str(path)), row["symbol"])
            function.restype = None
            function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint32] * 6
            self._loaded[row["symbol"] + row["object"]] = function
        function = self._loaded[row["symbol"] + row["object"]]
        arena = HostBuffer(b"\xff" * max(row["arena_bytes"], 64))
        pointers = (ctypes.c_void_p * len(params))(*[ctypes.addressof(p) for p in params])
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    function(pointers, arena.address, x, y, z, *grid)
        if not arena.guards_hold():
            raise RuntimeError(f"wrote outside its arena of {row['arena_bytes']} bytes")


class CudaBuffer:
    def __init__(self, cuda, data: bytes) -> None:
        self._cuda, self.size = cuda, len(data)
        self._all = ctypes.c_uint64()
        total = self.size + 2 * GUARD_BYTES
        check(cuda.cuMemAlloc_v2(ctypes.byref(self._all), ctypes.c_size_t(total)))
        check(cuda.cuMemsetD8_v2(self._all, ctypes.c_ubyte(0xFF), ctypes.c_size_t(total)))
        self.address = self._all.value + GUARD_BYTES
        if data:
            check(
                cuda.cuMemcpyHtoD_v2(
                    ctypes.c_uint64(self.address), data, ctypes.c_size_t(self.size)
                )
            )

    def _copy(self, address: int, size: int) -> bytes:
        data = ctypes.create_string_buffer(size)
        check(self._cuda.cuMemcpyDtoH_v2(data, ctypes.c_uint64(address), ctypes.c_size_t(size)))
        return data.raw

    def read(self) -> bytes:
        return self._copy(self.address, self.size)

    def guards_hold(self) -> bool:
        guard = b"\xff" * GUARD_BYTES
        after = self._copy(self.address + self.size, GUARD_BYTES)
        return self._copy(self._all.value, GUARD_BYTES) == guard and after == guard

    def __del__(self) -> None:
        self._cuda.cuMemFree_v2(self._all)


def check(result: int) -> None:
    if result:
        raise RuntimeError(f"CUDA driver: error {result}")


ELEMENT_CODES = {"fp8e4nv": 0, "fp16": 6, "fp32": 7, "bf16": 9}  # the driver's own numbers
SWIZZLE_CODES = {0: 0, 32: 1, 64: 2, 128: 3}


class CudaMachine:
    """Launches through the driver alone."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        check(self._cuda.cuInit(0))
        device, context = ctypes.c_int(), ctypes.c_void_p()
        check(self._cuda.cuDeviceGet(ctypes.byref(device), 0))
        check(self._cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        check(self._cuda.cuCtxSetCurrent(context))

    def buffer(self, data: bytes) -> CudaBuffer:
        return CudaBuffer(self._cuda, data)

    def tensor_map(self, address: int, how: dict, shape: list[int], strides: list[int]):
        """The encoded map, 128-byte aligned in a larger piece."""
        rank = len(shape)
        size = SIZEOF[how["element"]]
        memory = (ctypes.c_uint8 * 256)()
        start = -ctypes.addressof(memory) % 128
        inner_first = slice(None, None, -1)
        check(
            self._cuda.cuTensorMapEncodeTiled(
                ctypes.c_void_p(ctypes.addressof(memory) + start),
                ctypes.c_int(ELEMENT_CODES[how["element"]]),
                ctypes.c_uint32(rank),
                ctypes.c_void_p(address),
                (ctypes.c_uint64 * rank)(*shape[inner_first]),
                (ctypes.c_uint64 * rank)(*[n * size for n in strides[-2::-1]]),
                (ctypes.c_uint32 * rank)(*how["box"][inner_first]),
                (ctypes.c_uint32 * rank)(*[1] * rank),
                ctypes.c_int(0),
                ctypes.c_int(SWIZZLE_CODES[how["swizzle_bytes"]]),
                ctypes.c_int(2),
                ctypes.c_int(0),
            )
        )
        return (ctypes.c_uint8 * 128).from_buffer(memory, start)

    def launch(self, path: Path, row: dict, params: list, grid: list[int]) -> None:
        cuda = self._cuda
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        check(cuda.cuModuleLoadData(ctypes.byref(module), path.read_bytes()))
        check(cuda.cuModuleGetFunction(ctypes.byref(function), module, row["symbol"].encode()))
        if row["shared_bytes"] > 49152:
            check(cuda.cuFuncSetAttribute(function, 8, row["shared_bytes"]))
        params = [*params, ctypes.c_uint64(0), ctypes.c_uint64(0)]  # global and profile scratch
        pointers = (ctypes.c_void_p * len(params))(*[ctypes.addressof(p) for p in params])
        if min(grid) > 0:
            blocks = (row["n_threads"], 1, 1)
            check(
                cuda.cuLaunchKernel(
                    function, *grid, *blocks, row["shared_bytes"], None, pointers, None
                )
            )
        check(cuda.cuCtxSynchronize())
        check(cuda.cuModuleUnload(module))


def run_case(machine, folder: Path, bundle: Path, variants: dict, timed: bool) -> str:
    """Empty when the case holds, else what is wrong."""
    case = json.loads((folder / "case.json").read_text())
    key = json.dumps(case["request"], sort_keys=True, separators=(",", ":"))
    if key not in variants:
        return "not in the bundle"
    row = variants[key]
    buffers, params = {}, []
    kinds = dict(row["args"])
    values = {a["name"]: a["value"] for a in case["args"] if isinstance(a.get("value"), int)}
    for arg in case["args"]:
        if kinds[arg["name"]] == "tensor_map":
            buffers[arg["name"]] = machine.buffer((folder / arg["file"]).read_bytes())
            how = row["tensor_maps"][arg["name"]]
            known = {**values, **case["request"]["constexprs"]}
            shape, strides = (
                [expr.evaluate(text, known) for text in how[field]]
                for field in ("shape", "strides")
            )
            # Nothing is launched over no rows; a map needs some.
            shape = [max(n, 1) for n in shape]
            address = buffers[arg["name"]].address
            params.append(machine.tensor_map(address, how, shape, strides))
            params += [ctypes.c_int32(n) for n in shape] + [ctypes.c_int64(n) for n in strides]
        elif arg["type"] == "pointer":
            if "file" in arg:
                buffers[arg["name"]] = machine.buffer((folder / arg["file"]).read_bytes())
            address = buffers[arg["name"]].address if "file" in arg else 0
            params.append(ctypes.c_uint64(address))
        else:
            params.append(CTYPES[arg["type"]](arg["value"]))
    started = time.perf_counter()
    machine.launch(bundle / row["object"], row, params, case["grid"])
    seconds = time.perf_counter() - started
    problems = []
    for arg in case["args"]:
        name = arg["name"]
        if name in buffers and not buffers[name].guards_hold():
            problems.append(f"wrote outside {name}")
        if "expected" in arg:
            got, want = (
                np.frombuffer(data, STORAGE[arg["dtype"]])
                for data in (buffers[name].read(), (folder / arg["expected"]).read_bytes())
            )
            error, where = worst(got, want, arg["dtype"], arg["unit"])
            if error > arg["tolerance"]:
                at = np.unravel_index(where, arg["shape"])
                values = [from_storage(x[where : where + 1], arg["dtype"])[0] for x in (got, want)]
                problems.append(
                    f"{name}{[int(i) for i in at]} is {values[0]:.7g}, expected {values[1]:.7g}"
                    f" (error {error:.2g}, allowed {arg['tolerance']:.2g})"
                )
    if timed:
        print(f"    {folder.parent.name}/{folder.name}: {seconds * 1e3:.2f} ms", flush=True)
    return "; ".join(problems)


def description(folder: Path) -> str:
    """What a case is, in a line: numbers, shapes, constexprs."""
    case = json.loads((folder / "case.json").read_text())
    words = []
    for arg in case["args"]:
        text = f"{arg['dtype']}{arg['shape']}" if "shape" in arg else arg["value"]
        words.append(f"{arg['name']}={text}".replace(" ", ""))
    request = case["request"]
    words += [f"{name}={value}" for name, value in request["constexprs"].items()]
    return " ".join([*words, f"num_warps={request['num_warps']}"])


def run_kernel(target: str, folders: list[Path], bundle: Path, variants: dict, timed: bool, pipe):
    machine = CpuMachine() if target == "cpu" else CudaMachine()
    for folder in folders:
        pipe.send((folder, None))
        try:
            pipe.send((folder, run_case(machine, folder, bundle, variants, timed)))
        except Exception as error:  # a wrong case must not hide the rest
            pipe.send((folder, f"{type(error).__name__}: {error}"))
    pipe.close()


def run_all(target: str, cases: Path, bundle: Path, only: list[str], timed: bool) -> int:
    manifest = json.loads((bundle / "manifest.json").read_text())
    variants = {row["key"]: row for row in manifest["variants"]}
    context = multiprocessing.get_context("fork")
    n_run = n_failed = 0
    for kernel in sorted(path for path in cases.iterdir() if path.is_dir()):
        if only and kernel.name not in only:
            continue
        pending = sorted(path for path in kernel.iterdir() if path.is_dir())
        while pending:
            reader, writer = context.Pipe(duplex=False)
            args = (target, pending, bundle, variants, timed, writer)
            child = context.Process(target=run_kernel, args=args)
            child.start()
            writer.close()
            results, running = {}, None
            try:
                while True:
                    folder, problem = reader.recv()
                    running = folder
                    if problem is not None:
                        results[folder] = problem
            except EOFError:
                child.join()
            if child.exitcode and running is not None and running not in results:
                name = signal.Signals(-child.exitcode).name if child.exitcode < 0 else "exit"
                results[running] = f"{name} {child.exitcode}"
            elif child.exitcode or not results:
                results.setdefault(pending[0], f"the process ended with {child.exitcode}")
            for folder, problem in results.items():
                n_run += 1
                if problem:
                    n_failed += 1
                    print(f"FAIL {kernel.name}/{folder.name}: {problem}")
                    print(f"     {description(folder)}")
                    print(f"     again: --kernel {kernel.name} --case {folder.name}", flush=True)
            pending = [folder for folder in pending if folder not in results]
    print(f"{n_run - n_failed} of {n_run} cases hold on {target}")
    return n_failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs kernels' test cases.")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--cases", type=Path, help="made by aot.cases")
    parser.add_argument("--bundle", type=Path, help="made by aot.compile")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "cases")
    parser.add_argument("--kernel", action="append", default=[])
    parser.add_argument("--case", help="only that of this name; a drawn one is random_SEED_NUMBER")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="draw N of each kernel")
    parser.add_argument("--only-random", action="store_true", help="without the written ones")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn ones")
    parser.add_argument("--make-only", action="store_true", help="cases and bundle, and no run")
    parser.add_argument("--generated", type=Path, help="a bundle's generated/: its kernels only")
    parser.add_argument(
        "--spec", type=Path, action="append", default=[], help="a user's file: its kernel only"
    )
    parser.add_argument("--isa")
    parser.add_argument("--ttir")
    parser.add_argument("--time", action="store_true", help="print how long each case took")
    args = parser.parse_args()
    name = args.target.replace(":", "-") + (f"-{args.isa}" if args.isa else "")
    work = args.work.resolve() / name  # what makes them runs elsewhere
    cases = args.cases or work / "cases"
    bundle = args.bundle or work / "bundle"
    of_specs = [word for path in args.spec for word in ("--spec", str(path.resolve()))]
    if args.cases is None:
        command = [sys.executable, "-m", "aot.cases", "--out", str(cases), "--target", args.target]
        if args.generated:
            command += ["--generated", str(args.generated.resolve())]
        for kernel in args.kernel:
            command += ["--kernel", kernel]
        command += of_specs
        command += ["--case", args.case] if args.case else []
        command += ["--random", str(args.random), "--seed", str(args.seed)]
        command += ["--only-random"] if args.only_random else []
        subprocess.run(command, cwd=ROOT, check=True)
    if args.bundle is None:
        command = [sys.executable, "-m", "aot.compile", "--requests", f"{cases}/requests.jsonl"]
        command += ["--target", args.target, "--out", str(bundle)]
        if args.generated:
            command += ["--generated", str(args.generated.resolve())]
        command += of_specs
        command += ["--isa", args.isa] if args.isa else []
        command += ["--ttir", args.ttir] if args.ttir else []
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            return 1
    if args.make_only:
        return 0
    return 1 if run_all(args.target, cases, bundle, args.kernel, args.time) else 0


if __name__ == "__main__":
    sys.exit(main())
