"""Runs the command in forked processes, which share one import of Triton; calls CPU objects."""

import contextlib
import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import unittest
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

import triton  # noqa: E402, F401  once, for all forks

import aot.compile_kernel  # noqa: E402

C_FLAGS = ("-Wall", "-Wextra", "-Werror")
COMPILERS = {
    "c99": ["cc", "-x", "c", "-std=c99"],
    "gnu17": ["cc", "-x", "c", "-std=gnu17"],
    "c++17": ["c++", "-x", "c++", "-std=c++17"],
}


@dataclass
class Done:
    status: int
    stdout: str
    stderr: str


def run(*arguments: Any) -> Done:
    """`nereid compile-kernel ARGUMENTS`, as a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _become(out.fileno(), err.fileno(), [str(argument) for argument in arguments])
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Done(os.waitstatus_to_exitcode(status), *texts)


def _become(out: int, err: int, arguments: list[str]) -> None:
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        sys.argv = ["compile_kernel", *arguments]
        status = aot.compile_kernel.main()
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


class Case(unittest.TestCase):
    """A test with a folder of its own, `self.folder`; objects go to `self.out`."""

    maxDiff = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def compiles(self, kernel: Any, signature: str, *more: Any, target: str = "cpu") -> Done:
        done = self._run(kernel, signature, *more, target=target)
        self.assertEqual(done.status, 0, f"{kernel} {signature}\n{done.stderr}")
        return done

    def refuses(self, kernel: Any, signature: str, *more: Any, target: str = "cpu") -> str:
        """What it says: never a traceback."""
        done = self._run(kernel, signature, *more, target=target)
        self.assertEqual(done.status, 1, f"{kernel} {signature}\n{done.stderr}")
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def _run(self, kernel: Any, signature: str, *more: Any, target: str) -> Done:
        return run(kernel, f"--signature={signature}", "--target", target, "--out", self.out, *more)

    def manifest(self, name: str) -> dict[str, Any]:
        return json.loads((self.out / f"{name}.json").read_text())

    def call(self, name: str, *arguments: Any, grid: tuple[int, int, int] = (1, 1, 1)) -> None:
        """Runs the grid of a CPU object: numpy arrays by address, numpy scalars by value."""
        facts = self.manifest(name)
        self.assertEqual(len(arguments), len(facts["args"]), facts["args"])
        kept = [
            np.array([a.ctypes.data], np.uint64) if isinstance(a, np.ndarray) else np.array([a])
            for a in arguments
        ]
        pointers = (ctypes.c_void_p * max(len(kept), 1))(*[k.ctypes.data for k in kept])
        arena = np.zeros(facts["arena_bytes"] + 64, np.uint8)
        aligned = (arena.ctypes.data + 63) // 64 * 64
        # The loader knows objects by their path: a file of the same name would be the first one.
        fresh = tempfile.mktemp(dir=self.folder, suffix=".so")
        shutil.copy(self.out / facts["object"], fresh)
        function = ctypes.CDLL(fresh)[facts["symbol"]]
        n_x, n_y, n_z = grid
        for at in range(n_x * n_y * n_z):
            place = (at % n_x, at // n_x % n_y, at // n_x // n_y, *grid)
            function(pointers, ctypes.c_void_p(aligned), *map(ctypes.c_uint32, place))

    def header_is_clean(self, name: str) -> None:
        for how, compiler in COMPILERS.items():
            command = [*compiler, *C_FLAGS, "-fsyntax-only", str(self.out / f"{name}.h")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, f"{how}: {done.stderr}")

    def c_program(
        self, source: Path, *linked: str, compiler: str = "c99", arguments: Sequence[str] = ()
    ) -> str:
        """Compiles against `self.out`, runs, gives what it prints."""
        program = self.folder / "program"
        objects = [str(self.out / name) for name in linked]
        command = [*COMPILERS[compiler], *C_FLAGS, "-I", str(self.out), str(source)]
        subprocess.run(
            [*command, "-x", "none", *objects, "-lm", "-pthread", "-o", str(program)], check=True
        )
        ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout
