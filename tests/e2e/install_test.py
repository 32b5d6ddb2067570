"""An installed tree, moved after it was installed: the program finds what is its own, and projects
outside the tree (consumer/) build with it and run."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import nereid_cli as cli
import numpy as np

CONSUMERS = Path(__file__).resolve().parent / "consumer"
N_PROMPTS_IDENTICAL = 7  # of 8: fp16 rounds differently in PyTorch, whose texts the goldens are
KERNEL = """
import triton
import triton.language as tl


@triton.jit
def negate(x_ptr, n, BLOCK: tl.constexpr = 64):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + i, -tl.load(x_ptr + i, mask=i < n), mask=i < n)
"""


def checked(command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, timeout=cli.TIMEOUT_S, check=False, **options
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{command}: exit {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        )
    return done.stdout.decode()


def environment(**changed):
    """A user's: without what the developers' tools set."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("NEREID_")}
    return ours | {name: str(value) for name, value in changed.items()}


def setUpModule():
    global build, cache, prefix
    build = cli.nereid_path.parent.parent
    cache = dict(
        re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE)
    )
    folder = Path(tempfile.mkdtemp(prefix="nereid-install-"))
    unittest.addModuleCleanup(shutil.rmtree, folder)
    checked([cache["CMAKE_COMMAND"], "--install", build, "--prefix", folder / "first"])
    prefix = folder / "moved here"
    (folder / "first").rename(prefix)


class Installed(cli.TestCase):
    def run_program(self, *arguments, program="nereid", **changed):
        return subprocess.run(
            [str(prefix / "bin" / program), *map(str, arguments)], env=environment(**changed),
            capture_output=True, text=True, timeout=cli.TIMEOUT_S, check=False,
        )  # fmt: skip

    def test_models_are_those_of_the_tree(self):
        (prefix / "share/nereid/configs/moved").mkdir()
        self.addCleanup(shutil.rmtree, prefix / "share/nereid/configs/moved")
        shutil.copy(cli.DEMO / "config.json", prefix / "share/nereid/configs/moved")
        done = self.run_program("inspect", "model", "moved-shape")
        self.assertEqual(done.returncode, 0, done.stderr)
        hidden = prefix / "share/nereid/models"
        hidden.rename(self.folder / "models")
        self.addCleanup(lambda: shutil.move(self.folder / "models", hidden))
        done = self.run_program("inspect", "model", "demo")
        self.expect_error(done, f"the model demo is not in {hidden / 'demo'}")
        done = self.run_program("inspect", "model", "demo", NEREID_SHARE=cli.ROOT)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_compiler_is_that_of_the_tree(self):
        """What the program starts, seen by a Python that only tells."""
        python = self.folder / "python"
        python.write_text('#!/bin/sh\necho "in $PWD with $NEREID_TTIR" >&2\nexit 1\n')
        python.chmod(0o755)
        nothing = {"XDG_CACHE_HOME": self.folder / "cache"}
        arguments = ("generate", "demo", "-p", "x", "--device", "cpu")
        done = self.run_program(*arguments, NEREID_PYTHON=python, **nothing)
        share, ttir = prefix / "share/nereid", prefix / "bin/nereid-ttir"
        self.expect_error(done, f"in {share} with {ttir}\n")
        done = self.run_program(
            *arguments, NEREID_PYTHON=python, NEREID_AOT_DIR=cli.ROOT, NEREID_TTIR=python, **nothing
        )
        self.expect_error(done, f"in {cli.ROOT} with {python}\n")
        done = self.run_program(*arguments, NEREID_PYTHON="/nowhere/python3", **nothing)
        self.expect_error(done, "NEREID_PYTHON is /nowhere/python3, which is no program")
        for absent, message in (
            (share / "aot", f"no kernel compiler in {share}"),
            (ttir, f"no nereid-ttir at {ttir}"),
        ):
            absent.rename(self.folder / "absent")
            done = self.run_program(*arguments, NEREID_PYTHON=python, **nothing)
            (self.folder / "absent").rename(absent)
            self.expect_error(done, message)

    def test_compiles_kernels(self):
        (self.folder / "negate.py").write_text(KERNEL)
        done = self.run_program(
            "compile-kernel", f"{self.folder}/negate.py:negate", "--signature", "*fp32,i32",
            "--target", "cpu", "--out", self.folder / "out",
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((self.folder / "out/negate.so").is_file())

    def test_shows_the_api_alone(self):
        """What others link to: no symbol and no library of what the library is made with."""
        api = set()
        for header in (prefix / "include/nereid").glob("*.h"):
            found = re.findall(
                r"class NEREID_API (\w+)|NEREID_API [\w:]+ (\w+)\(", header.read_text()
            )
            api.update(of_class or of_function for of_class, of_function in found)
        self.assertLessEqual({"Engine", "Error", "error_code_name"}, api)
        (library,) = prefix.rglob("libnereid.so")
        mangled, names = (
            [line.split(" ", 2)[2] for line in checked(["nm", *how, library]).splitlines()]
            for how in (["-Dp", "--defined-only"], ["-DpC", "--defined-only"])
        )
        self.assertIn("nereid::Engine::submit(nereid::Request const&)", names)
        # Of the standard library: its templates are exported wherever they are.
        standard = re.compile(r"_Z(T[ISV]|GV)?Z?N?K?(S[a-z]|9__gnu_cxx)")
        ours = re.compile(
            r"(?:(?:typeinfo|typeinfo name|vtable) for )?nereid::(\w+)(?!.*FormatText)"
        )
        inner = [
            name
            for symbol, name in zip(mangled, names, strict=True)
            if not standard.match(symbol) and not ((found := ours.match(name)) and found[1] in api)
        ]
        self.assertEqual(inner, [])
        needed = checked(["readelf", "-d", library])
        self.assertEqual(re.findall(r"\[lib(?:nettle|pcre2|utf8proc)\S*", needed), [])


class Consumer(cli.TestCase):
    def build(self, name):
        """The program of a project of consumer/, copied out of the tree and built there."""
        source = shutil.copytree(CONSUMERS / name, self.folder / name)
        cmake, binary = cache["CMAKE_COMMAND"], source / "build"
        checked(
            [
                cmake, "-S", source, "-B", binary, "-G", cache["CMAKE_GENERATOR"],
                f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
                f"-DCMAKE_CXX_COMPILER={cache['CMAKE_CXX_COMPILER']}",
            ]
        )  # fmt: skip
        checked([cmake, "--build", binary])
        return binary / name

    def test_hello(self):
        hello = self.build("hello")
        goldens = json.loads((cli.GOLDENS / "goldens.json").read_text())["greedy"]
        prompts = "".join(golden["prompt"] + "\0" for golden in goldens).encode()
        texts = checked([hello], input=prompts, env=environment()).split("\0")
        self.assertEqual(texts.pop(), "")
        self.assertEqual(len(texts), len(goldens))
        n_identical = sum(
            text == golden["greedy_text"] for text, golden in zip(texts, goldens, strict=True)
        )
        self.assertGreaterEqual(n_identical, N_PROMPTS_IDENTICAL, texts)

        done = subprocess.run(
            [hello, "/nowhere"], input="", capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertTrue(done.stderr.startswith("not_found: /nowhere/config.json"), done.stderr)

    def test_service(self):
        printed = checked([self.build("service")], env=environment())
        numbers = {name: float(n) for name, n in (line.split() for line in printed.splitlines())}
        n_requests, n_given_up = 8 * 6, 8 * 3  # threads and requests of each
        self.assertEqual(numbers["different"], 0, printed)
        self.assertEqual(numbers["requests_submitted"], n_requests)
        self.assertEqual(numbers["requests_finished"], n_requests)
        # One of the six is for three answers.
        self.assertEqual(numbers["answers_ended_cancelled"], n_given_up + 2 * 4)
        ended = sum(n for name, n in numbers.items() if name.startswith("answers_ended_"))
        self.assertEqual(ended, n_requests + 2 * 8)
        self.assertEqual(numbers["answers_ended_error"], 0)
        self.assertEqual(numbers["used_kv_blocks"], 0)
        done = subprocess.run(
            [self.folder / "service/build/service", "/nowhere"], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("not_found: /nowhere/config.json", done.stderr)

    def test_graph(self):
        """The operation of the tutorial, by the installed library: sums of pairs, of all ones."""
        program = self.build("graph")
        page = (cli.ROOT / "docs" / "adding_an_op.md").read_text()
        op = re.search(r"^```python group_sum.py\n(.*?)^```$", page, re.M | re.S)[1]
        (self.folder / "group_sum.py").write_text(op)
        text = """graph pairs {
  size rows
  size pairs
  input %x: fp32[rows, pairs*2]
  %y: fp32[rows, pairs] = group_sum %x {size = 2}
  return %y
}
"""
        (self.folder / "pairs.txt").write_text(text)
        ones = {"x": ("F32", np.ones((3, 8), np.float32))}
        (self.folder / "x.safetensors").write_bytes(cli.safetensors_bytes(ones))
        arguments = [self.folder / name for name in ("pairs.txt", "group_sum.py", "x.safetensors")]
        out = self.folder / "y.safetensors"
        checked([program, *arguments, out], env=environment())
        # The second run is over half as many columns: another width is another kernel.
        self.assertEqual(cli.read_safetensors(out)["y"][1].tolist(), [[4.0, 4.0]] * 3)
        (self.folder / "pairs.txt").write_text(text.replace("%x {size", "%z {size"))
        done = subprocess.run(
            [program, *arguments, out], capture_output=True, text=True, check=False,
            env=environment(),
        )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertIn("pairs.txt:5: %z is used before it is declared", done.stderr)

    def test_the_page_shows_these_programs(self):
        sources = [path.read_text() for path in CONSUMERS.glob("*/*")]
        page = "".join(
            (cli.ROOT / "docs" / name).read_text()
            for name in ("embedding.md", "running_a_graph.md")
        )
        shown = re.findall(r"^```(?:cpp|cmake)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        self.assertGreater(len(shown), 10)
        for text in shown:
            self.assertTrue(any(text in source for source in sources), text)


if __name__ == "__main__":
    cli.main()
