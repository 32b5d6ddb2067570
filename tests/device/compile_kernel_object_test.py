"""nereid compile-kernel: a user's kernel in a C program; what each target gets; refusals."""

import platform
import random
import re
import shutil
import subprocess
import sys
import unittest

from compile_kernel.harness import FOLDER, Case

from aot.kernel import c_names

KERNEL = f"{FOLDER}/add.py:add_kernel"
SIGNATURE = "*fp32,*fp32,*fp32:16,i32,fp32,constexpr=128"
MAIN = FOLDER / "main.c"


class Cpu(Case):
    def test_a_c_program_launches_it(self):
        done = self.compiles(KERNEL, SIGNATURE)
        written = {line.rpartition("/")[2] for line in done.stdout.splitlines()}
        wanted = {f"add_kernel.{e}" for e in ("cc", "h", "json", "o", "so", "ttir")}
        self.assertEqual(written, wanted)
        manifest = self.manifest("add_kernel")
        self.assertEqual(manifest["abi"], 1)
        self.assertEqual(manifest["args"], [["x_ptr", "pointer"], ["y_ptr", "pointer"],
                                            ["out_ptr", "pointer"], ["n", "i32"],
                                            ["scale", "fp32"]])  # fmt: skip
        for link in ("add_kernel.o", "add_kernel.so"):
            self.assertEqual(self.c_program(MAIN, link), "ok\n")
        self.header_is_clean("add_kernel")

    def test_a_launch_that_forgets_the_arguments(self):
        self.compiles(f"{FOLDER}/add.py:fill", "*fp32,constexpr=16")
        call = """
import ctypes, sys
program = [ctypes.c_uint32(n) for n in (0, 0, 0, 1, 1, 1)]
for arguments in (None, (ctypes.c_void_p * 0)()):
    ctypes.CDLL(sys.argv[1]).fill(arguments, None, *program)
"""
        command = [sys.executable, "-c", call, str(self.out / "fill.so")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        told = "fill: launched without its arguments; nothing was run\n"
        self.assertEqual((ran.returncode, ran.stderr), (0, 2 * told))

    def test_another_kind_of_processor(self):
        tools = [shutil.which(t) for t in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++",
                                           "qemu-aarch64")]  # fmt: skip
        if platform.machine() != "x86_64" or None in tools:
            self.skipTest("needs x86-64 with g++-aarch64-linux-gnu and qemu-user")
        self.compiles(KERNEL, SIGNATURE, "--isa", "aarch64")
        program = self.folder / "main"
        subprocess.run(
            [tools[0], "-std=c99", "-static", "-I", str(self.out), str(MAIN),
             str(self.out / "add_kernel.o"), "-lm", "-o", str(program)], check=True,
        )  # fmt: skip
        ran = subprocess.run([tools[2], program], capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, ran.stdout), (0, "ok\n"), ran.stderr)
        self.compiles(
            f"{FOLDER.parent}/triton/programs_tutorials.py:attn_fwd",
            "fp32,*fp32,i32,i32,*fp16,*fp16,*fp16,*fp16,i32" + ",constexpr=32" * 3 + ",constexpr=1",
            "--isa", "aarch64",
        )  # fmt: skip

    def test_two_kernels_in_one_program(self):
        """The symbol follows the name: as objects to link and as libraries."""
        for name, element in (("fill_f32", "fp32"), ("fill_f64", "fp64")):
            self.compiles(f"{FOLDER}/add.py:fill", f"*{element},constexpr=16", "--name", name)
            self.assertEqual(self.manifest(name)["symbol"], name)
        for kind in ("o", "so"):
            for compiler in ("c99", "c++17"):
                printed = self.c_program(FOLDER / "fill.c", f"fill_f32.{kind}", f"fill_f64.{kind}",
                                         compiler=compiler)  # fmt: skip
                self.assertEqual(printed, "1.5 1.5\n")

    def test_a_grid_over_threads(self):
        """Each program once, whatever the grid and the number of threads."""
        seed = random.randrange(10**6)
        self.compiles(f"{FOLDER}/add.py:count", "*i32,constexpr=8")
        printed = self.c_program(FOLDER / "threads.c", "count.o", arguments=[str(seed)])
        self.assertEqual(printed, "", f"seed {seed}")

    def test_descriptors_in_c(self):
        self.compiles(f"{FOLDER}/signatures.py:block_of", "tensordesc<fp32[4,8]>,i32,i32,*fp32")
        self.c_program(FOLDER / "descriptor.c", "block_of.o")
        self.c_program(FOLDER / "descriptor.c", "block_of.o", compiler="c++17")

    def test_names_that_c_knows(self):
        words = sorted(c_names._TAKEN - {"False", "True"})
        python = {"None", "and", "assert", "async", "await", "break", "class", "continue", "def",
                  "del", "elif", "else", "except", "finally", "for", "from", "global", "if",
                  "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise",
                  "return", "try", "while", "with", "yield"}  # fmt: skip
        words = [word for word in words if word not in python]
        seed = random.randrange(10**6)
        chosen = [*random.Random(seed).sample(words, 30), "errno", "int", "int_", "__x", "_X", "a",
                  "args", "arena", "x", "n_x", "w", "größe"]  # fmt: skip
        chosen = list(dict.fromkeys(chosen))
        for function in ("double", "exp"):  # a keyword; a function of the library
            path = self.write(
                f"{function}.py",
                "import triton\nimport triton.language as tl\n@triton.jit\n"
                f"def {function}(out_ptr, {', '.join(chosen)}):\n"
                f"    tl.store(out_ptr, {' + '.join(chosen)})\n",
            )
            self.compiles(f"{path}:{function}", "*i32" + ",i32" * len(chosen))
            header = self.out / f"{function}.h"
            every = "".join(f"#include <{h}.h>\n" for h in (
                "complex", "ctype", "errno", "float", "limits", "math", "signal", "stdbool",
                "stdio", "stdlib", "string", "time", "unistd"))  # fmt: skip
            header.write_text(every + header.read_text())
            with self.subTest(f"{function}, seed {seed}"):
                self.header_is_clean(function)


class Refusals(Case):
    def test_messages(self):
        file = KERNEL.partition(":")[0]
        for kernel, signature, message in (
            (KERNEL, "*fp32,i32", "2 types for 6 parameters: x_ptr, y_ptr"),
            (KERNEL, SIGNATURE.replace("i32", "int"), "parameter n: type 'int'; expected"),
            (KERNEL, SIGNATURE.replace("=128", ""), "parameter BLOCK: a constexpr has a"),
            (f"{file}:sub_kernel", SIGNATURE, "no @triton.jit function sub_kernel; it has add"),
            (file, SIGNATURE, "expected FILE.py:FUNCTION"),
            ("nothing.py:f", SIGNATURE, "no file nothing.py"),
            (KERNEL, SIGNATURE.replace("128", "100"), "power of 2"),
        ):
            self.assertIn(message, self.refuses(kernel, signature))
        self.assertIn("--name 'a/b': expected letters", self.refuses(KERNEL, SIGNATURE, "--name",
                                                                     "a/b"))  # fmt: skip
        self.assertIn("no target cuda:91; there are cpu, cuda:75,",
                      self.refuses(KERNEL, SIGNATURE, target="cuda:91"))  # fmt: skip

    def test_the_python_line_and_the_ir(self):
        """Of the front end, and of nereid-ttir, in a helper of another file too."""
        lines = (FOLDER / "refused.py").read_text().splitlines()
        for function, what in (("attribute", "has no attribute 'foo'"),
                               ("assembly", "tt.elementwise_inline_asm")):  # fmt: skip
            line = next(i for i, text in enumerate(lines, 1) if f"# {function}" in text)
            said = self.refuses(f"{FOLDER}/refused.py:{function}", "*i32")
            self.assertIn(f"error: {FOLDER}/refused.py:{line}: ", said)
            self.assertIn(what, said)
        found = re.search(r"its Triton IR: (\S+):(\d+)", said)
        self.assertEqual(found[1], str(self.out / "assembly.ttir"))
        refused = (self.out / "assembly.ttir").read_text().splitlines()[int(found[2]) - 1]
        self.assertIn("inline_asm", refused)


class Gpus(Case):
    def test_every_family(self):
        for target, extension, first in (
            ("cuda:75", "cubin", "ptx"),
            ("cuda:90", "cubin", "ptx"),
            ("cuda:120", "cubin", "ptx"),
            ("hip:gfx90a", "hsaco", "amdgcn"),
            ("hip:gfx1100", "hsaco", "amdgcn"),
        ):
            self.out = self.folder / target
            done = self.compiles(KERNEL, SIGNATURE, "--num-warps", 8, "--name", "plus",
                                 target=target)  # fmt: skip
            manifest = self.manifest("plus")
            self.assertEqual(manifest["object"], f"plus.{extension}")
            self.assertEqual(manifest["n_threads"], 8 * (64 if "gfx9" in target else 32))
            self.assertTrue((self.out / f"plus.{first}").is_file())
            self.assertEqual((self.out / f"plus.{extension}").read_bytes()[:4], b"\x7fELF")
            self.assertGreater(manifest["registers"], 0)
            self.assertEqual((manifest["spills"], manifest["shared_bytes"]), (0, 0))
            self.assertIn(f"{manifest['registers']} registers a thread, 0 bytes of spills",
                          done.stderr)  # fmt: skip
            header = (self.out / "plus.h").read_text()
            self.assertIn('#define PLUS_SYMBOL "plus"', header)
            self.assertIn("#define PLUS_N_PARAMS 7", header)
            self.header_is_clean("plus")

    def test_options_of_nvidia(self):
        self.compiles(KERNEL, SIGNATURE.replace("128", "4096"), "--maxnreg", 24, "--num-ctas", 2,
                      "--launch-pdl", "--num-warps", 1, target="cuda:90")  # fmt: skip
        manifest = self.manifest("add_kernel")
        self.assertLessEqual(manifest["registers"], 24)
        self.assertGreater(manifest["spills"], 0)
        self.assertEqual((manifest["num_ctas"], manifest["programmatic_launch"]), (2, True))
        self.assertIn("#define ADD_KERNEL_N_CTAS 2", (self.out / "add_kernel.h").read_text())
        for more, target, message in (
            (("--num-ctas", 2), "cuda:80", "num_ctas > 1 requires NVIDIA SM90+"),
            (("--num-ctas", 2), "cpu", "--num-ctas is of NVIDIA GPUs"),
            (("--maxnreg", 24), "hip:gfx942", "maxnreg: no option of hip:gfx942, which has"),
        ):
            self.assertIn(message, self.refuses(KERNEL, SIGNATURE, *more, target=target))

    def test_tensor_maps(self):
        """What the header hands to the driver, seen by a driver of ours."""
        signature = "tensordesc<fp16[16,64]>,i32,i32,*fp32,constexpr=16,constexpr=64"
        self.compiles(f"{FOLDER}/signatures.py:block_of", signature, target="cuda:90")
        self.header_is_clean("block_of")
        row = self.manifest("block_of")["tensor_maps"]["desc"]
        printed = self.c_program(FOLDER / "tensor_map.c").split()
        swizzle = {0: 0, 32: 1, 64: 2, 128: 3}[row["swizzle_bytes"]]
        box = row["box"]
        self.assertEqual(printed, [str(n) for n in (
            6, 2, 4096, 100, 50, 256, box[1], box[0], 1, 1, 0, swizzle, 2, 1)])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
