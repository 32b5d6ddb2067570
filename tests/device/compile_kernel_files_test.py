"""nereid compile-kernel takes files as they stand in other people's repositories, or says in a line
what is missing; never a traceback."""

import textwrap
import unittest

import numpy as np
from compile_kernel.harness import FOLDER, Case

HEAD = """
import triton
import triton.language as tl
"""
COPY = """
@triton.jit
def copy(x_ptr, y_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y_ptr + i, tl.load(x_ptr + i))
"""
SIGNATURE = "*fp32,*fp32,constexpr=16"


def indented(text: str) -> str:
    return textwrap.indent(text, "    ")


class Files(Case):
    def copies(self, path, *more) -> str:
        """Compiles `copy`, which copies; what was said."""
        done = self.compiles(f"{path}:copy", SIGNATURE, *more)
        x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
        self.call("copy", x, y)
        np.testing.assert_array_equal(x, y)
        return done.stderr

    def test_packages_that_are_not_here(self):
        """A file with about every use of torch that a module has while it is imported."""
        for target in ("cpu", "hip:gfx90a"):
            said = self.compiles(
                f"{FOLDER}/of_others.py:scale", "*fp32,*fp32,None,i32,EVEN=constexpr=0",
                "--config", "BLOCK=32,num_warps=2", target=target,
            ).stderr  # fmt: skip
            self.assertIn("stand-ins serve of_others.py for torch, einops, vllm", said)
            constants = self.manifest("scale")["constexprs"]
            self.assertEqual(constants["HAS_BIAS"], "False")
            self.assertEqual(constants["IS_HIP"], str(target != "cpu"))
        self.compiles(f"{FOLDER}/of_others.py:scale", "*fp32,*fp32,None,constexpr=33",
                      "--config", "BLOCK=32,num_warps=2")  # fmt: skip
        self.assertEqual(self.manifest("scale")["constexprs"]["EVEN"], "False")
        x, y = np.arange(33, dtype=np.float32), np.zeros(64, np.float32)
        self.call("scale", x, y, grid=(2, 1, 1))
        np.testing.assert_array_equal(y, np.append(448 * x, np.zeros(31)))

    def test_imports_that_the_file_guards(self):
        guarded = """
try:
    import flash_attn
    HAS = True
except ImportError:
    HAS = False
assert not HAS
import importlib.util
assert importlib.util.find_spec("flash_attn") is None
"""
        self.assertEqual(self.copies(self.write("guarded.py", HEAD + guarded + COPY)), "")
        all_guarded = f"""
try:
    import torch
    {HEAD.strip().replace(chr(10), chr(10) + "    ")}
    HAS = True
except ImportError:
    HAS = False
if HAS:
{indented(COPY)}"""
        said = self.copies(self.write("all_guarded.py", all_guarded))
        self.assertIn("stand-ins serve all_guarded.py for torch", said)
        raises = """
try:
    import torch
except ImportError as error:
    raise RuntimeError("install torch") from error
"""
        self.copies(self.write("raises.py", HEAD + raises + COPY))

    def test_kernels_that_a_file_hides_without_a_gpu(self):
        for name, condition in (
            ("backends", "any(b.driver.is_active() for b in triton.backends.backends.values())"),
            ("available", "torch.cuda.is_available()"),
            ("driver", "triton.runtime.driver.active.get_current_target().backend == 'cuda'"),
            ("capability", "torch.cuda.get_device_capability() >= (9, 0)"),
            ("version", "torch.version.hip is None and int(torch.version.cuda[:2]) >= 12"),
        ):
            with self.subTest(name):
                text = f"import torch{HEAD}\nif {condition}:\n{indented(COPY)}"
                self.copies(self.write(f"{name}.py", text))
        handed_on = "from vllm.triton_utils import HAS_TRITON, tl, triton\nif HAS_TRITON:"
        self.copies(self.write("handed_on.py", handed_on + indented(COPY)))
        interpreted = "import os\nos.environ['TRITON_INTERPRET'] = '1'"
        self.copies(self.write("interpreted.py", interpreted + HEAD + COPY))

    def test_packages(self):
        helper = f"import torch{HEAD}\n@triton.jit\ndef twice(x):\n    return x + x\n"
        kernel = """
from .util import twice
{consts}
import torch
import triton
import triton.language as tl
@triton.jit
def apply(x_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(x_ptr + i, twice(tl.load(x_ptr + i)) + K)
"""
        consts = f"{HEAD}\nK = tl.constexpr(3)\n"
        for folder in ("mine", "kernels", "aot", "triton", "my-kernels"):  # also of these names
            self.write(f"{folder}/__init__.py", "from . import _C\nraise RuntimeError('no GPU')\n")
            self.write(f"{folder}/ops/__init__.py", "from .util import twice\n")
            self.write(f"{folder}/consts.py", consts)
            self.write(f"{folder}/ops/util.py", helper)
            path = self.write(
                f"{folder}/ops/03-apply.v2.py", kernel.format(consts="from ..consts import K")
            )
            with self.subTest(folder):
                done = self.compiles(f"{path}:apply", "*fp32,constexpr=16")
                self.assertIn("RuntimeError: no GPU; the rest of", done.stderr)
                x = np.arange(16, dtype=np.float32)
                self.call("apply", x)
                np.testing.assert_array_equal(x, 2 * np.arange(16, dtype=np.float32) + 3)
        # Without __init__.py; by its full name; beside the file.
        self.write("loose/util.py", helper)
        self.write("loose/consts.py", consts)
        for imports in ("from .consts import K", "from loose.consts import K",
                        "from consts import K"):  # fmt: skip
            path = self.write("loose/apply.py", kernel.format(consts=imports))
            self.compiles(f"{path}:apply", "*fp32,constexpr=16")
        (self.folder / "loose/util.py").unlink()
        said = self.refuses(f"{path}:apply", "*fp32,constexpr=16")
        self.assertIn("apply.py:10: the kernel uses twice, <loose.util.twice, of a package that is"
                      " not here>", said)  # fmt: skip

    def test_neighbours_that_fail(self):
        self.write("near/__init__.py", "from .a import x\n")
        self.write("near/a.py", "from .b import y\nx = 1\n")
        self.write("near/b.py", "y = 2\nraise RuntimeError('no device')\n")
        text = f"from near.a import x\nfrom .b import more\nassert x == 1{HEAD}{COPY}"
        said = self.copies(self.write("near/copy.py", text))
        self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("near/b.py:2: RuntimeError: no device; a stand-in serves for it", said)

    def test_versions(self):
        text = """
import torch
from packaging import version
from packaging.version import Version, parse
assert version.parse(torch.__version__) >= version.parse("2.4.0")
assert Version("2.10.0.dev1+cu128") > Version("2.9.1") and parse("3") == parse("3.0.0")
assert parse(triton.__version__) >= parse("3.9") and parse("2.6").minor == 6
assert not hasattr(torch, "npu")
for i in range(torch.cuda.device_count()):
    raise ValueError("there is none")
"""
        self.copies(self.write("versions.py", HEAD + text + COPY))

    def test_names_of_the_standard_library(self):
        for name in ("copy", "types", "random", "torch", "triton"):
            with self.subTest(name):
                self.copies(self.write(f"{name}/{name}.py", "import random, copy" + HEAD + COPY))

    def test_programs_that_run_while_they_are_imported(self):
        program = f"""
import torch
{HEAD}
print("on import")
DEVICE = triton.runtime.driver.active.get_active_torch_device()
NUM_SM = triton.runtime.driver.active.utils.get_device_properties(DEVICE.index)[
    "multiprocessor_count"]
{COPY}
x = torch.rand(16, device=DEVICE)
y = torch.empty_like(x)
compiled = copy.warmup(x, y, N=16, grid=(1,))
occupancy = NUM_SM // (compiled.n_regs * 32)
copy[(min(NUM_SM, occupancy),)](x, y, N=16)
triton.testing.do_bench(lambda: copy[(1,)](x, y, N=16))

@triton.testing.perf_report(triton.testing.Benchmark(
    x_names=["n"], x_vals=[1], line_arg="p", line_vals=["a"], line_names=["a"], ylabel="",
    plot_name="p", args={{}}))
def benchmark(n, p):
    raise ValueError("nothing is measured")

benchmark.run(print_data=True, save_path=".")
assert torch.allclose(x, y)
"""
        path = self.write("program.py", program)
        said = self.copies(path)
        self.assertIn("on import", said)
        self.assertIn(f"note: {path}:31: AssertionError: no message; copy was made before", said)
        done = self.compiles(f"{path}:copy", SIGNATURE)
        self.assertEqual({line.rpartition(".")[2] for line in done.stdout.splitlines()},
                         {"cc", "h", "json", "o", "so", "ttir"})  # fmt: skip

    def test_a_line_says_what_is_wrong(self):
        for name, text, message in (
            ("syntax", "def f(:\n", "syntax.py:4: SyntaxError: invalid syntax"),
            ("raises", "raise ValueError('a\\nb')", "raises.py:4: ValueError: a b"),
            ("inner", "def f():\n    {}['a']\nf()", "inner.py:5: KeyError: 'a'"),
            ("ends", "import sys\nsys.exit('no gpu')", "ends.py:5: SystemExit: no gpu"),
            ("star", "from gone import *\nuse(of_gone)", "star.py:5: NameError: name 'use' is not"),
            ("import", "from copy import nothing", "import.py:4: ImportError: cannot import"),
            ("number", "import torch\nn = int(torch.some.n)", "torch.some.n, of a package that is"),
        ):
            with self.subTest(name):
                path = self.write(f"{name}.py", HEAD + text + "\n" + COPY)
                said = self.refuses(f"{path}:copy", SIGNATURE)
                self.assertIn(message, said)
                self.assertEqual(said.count("\n"), 1, said)
        path = self.write("plain.py", HEAD + COPY + "def run(x):\n    return x\n")
        said = self.refuses(f"{path}:run", "*fp32")
        self.assertIn("run is a plain function here; expected one with @triton.jit: copy", said)

    def test_a_kernel_that_needs_what_is_not_here(self):
        for name, text, message in (
            ("helper", "x = tle.load(x_ptr)", ":7: the kernel uses tle, <lib.tle, of a package"),
            ("value", "x = tl.load(x_ptr) * M", ":7: cannot cast <lib.some.value, of a package"),
        ):
            path = self.write(
                f"{name}.py",
                f"from lib import tle, some{HEAD}M = tl.constexpr(some.value)\n"
                f"@triton.jit\ndef f(x_ptr):\n    {text}\n    tl.store(x_ptr, x)\n",
            )  # fmt: skip
            self.assertIn(f"{path}{message}", self.refuses(f"{path}:f", "*fp32"))


if __name__ == "__main__":
    unittest.main()
