"""nereid compile-kernel: a user's kernel in a C program; what each target gets; messages."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = f"{ROOT}/tests/device/compile_kernel/add.py:add_kernel"
SIGNATURE = "*fp32,*fp32,*fp32:16,i32,fp32,constexpr=128"


def compile_kernel(*arguments, kernel=KERNEL, signature=SIGNATURE):
    command = [sys.executable, "-P", "-m", "aot.compile_kernel", kernel, "--signature", signature]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests/device/triton"},
    )  # fmt: skip


class CompileKernel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def test_a_c_program_launches_it(self):
        done = compile_kernel("--target", "cpu", "--out", str(self.out))
        self.assertEqual(done.returncode, 0, done.stderr)
        written = {Path(line).name for line in done.stdout.splitlines()}
        wanted = {f"add_kernel.{e}" for e in ("cc", "h", "json", "o", "so", "ttir")}
        self.assertEqual(written, wanted)
        manifest = json.loads((self.out / "add_kernel.json").read_text())
        self.assertEqual(manifest["args"], [["x_ptr", "pointer"], ["y_ptr", "pointer"],
                                            ["out_ptr", "pointer"], ["n", "i32"],
                                            ["scale", "fp32"]])  # fmt: skip
        main = ROOT / "tests/device/compile_kernel/main.c"
        for link in ("add_kernel.o", "add_kernel.so"):
            program = self.out / f"main_{link[-1]}"
            subprocess.run(
                ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", str(self.out), str(main),
                 str(self.out / link), "-lm", "-o", str(program)], check=True,
            )  # fmt: skip
            ran = subprocess.run([program], capture_output=True, text=True, check=False)
            self.assertEqual((ran.returncode, ran.stdout), (0, "ok\n"))
        for compiler in (["c++", "-x", "c++", "-std=c++17"], ["cc", "-x", "c", "-std=c99"]):
            header = [*compiler, "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
                      "-fsyntax-only", str(self.out / "add_kernel.h")]  # fmt: skip
            subprocess.run(header, check=True)

    def test_another_kind_of_processor(self):
        tools = [shutil.which(t) for t in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++",
                                           "qemu-aarch64")]  # fmt: skip
        if platform.machine() != "x86_64" or None in tools:
            self.skipTest("needs x86-64 with g++-aarch64-linux-gnu and qemu-user")
        folder = ["--target", "cpu", "--isa", "aarch64", "--out", str(self.out)]
        done = compile_kernel(*folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        program = self.out / "main"
        main = ROOT / "tests/device/compile_kernel/main.c"
        subprocess.run(
            [tools[0], "-std=c99", "-static", "-I", str(self.out), str(main),
             str(self.out / "add_kernel.o"), "-lm", "-o", str(program)], check=True,
        )  # fmt: skip
        ran = subprocess.run([tools[2], program], capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, ran.stdout), (0, "ok\n"), ran.stderr)
        tutorials = f"{ROOT}/tests/device/triton/programs_tutorials.py:attn_fwd"
        done = compile_kernel(
            *folder, kernel=tutorials,
            signature="fp32,*fp32,i32,i32,*fp16,*fp16,*fp16,*fp16,i32" + ",constexpr=32" * 3
            + ",constexpr=1",
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_gpus(self):
        for target, extension, first in (
            ("cuda:90", "cubin", "ptx"),
            ("hip:gfx942", "hsaco", "amdgcn"),
        ):
            out = self.out / extension
            done = compile_kernel("--target", target, "--out", str(out), "--num-warps", "8",
                                  "--name", "plus")  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)
            manifest = json.loads((out / "plus.json").read_text())
            self.assertEqual(manifest["object"], f"plus.{extension}")
            self.assertEqual(manifest["n_threads"], 8 * (64 if extension == "hsaco" else 32))
            self.assertTrue((out / f"plus.{first}").is_file())
            self.assertEqual((out / f"plus.{extension}").read_bytes()[:4], b"\x7fELF")
            header = (out / "plus.h").read_text()
            self.assertIn('#define PLUS_SYMBOL "plus"', header)
            self.assertIn("#define PLUS_N_PARAMS 7", header)
            subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-x", "c",
                            "-Wno-unused-function", "-fsyntax-only", str(out / "plus.h")],
                           check=True)  # fmt: skip

    def test_messages(self):
        folder = ["--target", "cpu", "--out", str(self.out)]
        file = KERNEL.partition(":")[0]
        for changes, message in (
            ({"signature": "*fp32,i32"}, "2 types for 6 parameters: x_ptr, y_ptr"),
            ({"signature": SIGNATURE.replace("i32", "int")}, "parameter n: type 'int'; expected"),
            ({"signature": SIGNATURE.replace("=128", "")}, "parameter BLOCK: a constexpr has a"),
            (
                {"kernel": f"{file}:sub_kernel"},
                "no @triton.jit function sub_kernel; it has add",
            ),
            ({"kernel": file}, "expected FILE.py:FUNCTION"),
            ({"kernel": "nothing.py:f"}, "no file nothing.py"),
            ({"signature": SIGNATURE.replace("128", "100")}, "power of 2"),
        ):
            done = compile_kernel(*folder, **changes)
            self.assertEqual(done.returncode, 1, changes)
            self.assertIn(message, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
