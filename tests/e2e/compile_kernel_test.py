"""docs/compile_kernel.md as it is read: its files are written, its commands run, their output
compared. Also what only the program has of compile-kernel: its usage."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import nereid_cli as cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compile_kernel.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    """(language, file name or "", text) of each."""
    return [(m[1], m[2] or "", m[3]) for m in BLOCK.finditer(PAGE.read_text())]


def as_printed(text):
    """The output of a command, without what differs between machines."""
    text = re.sub(r"which \S+ lacks", "which PYTHON lacks", text)
    return re.sub(r"there are cpu, cuda:75, .*", "there are TARGETS", text)


class Page(cli.TestCase):
    def test_the_page(self):
        program = cli.nereid_path
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        found = blocks()
        n_compared = 0
        with tempfile.TemporaryDirectory() as folder:
            for i, (language, name, text) in enumerate(found):
                if name:
                    path = Path(folder) / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text)
                elif language == "sh":
                    ran = subprocess.run(
                        ["bash", "-c", text], cwd=folder, env=environment, text=True, check=False,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    )  # fmt: skip
                    shown = found[i + 1] if i + 1 < len(found) else ("", "", "")
                    if shown[0] == "text":
                        n_compared += 1
                        self.assertEqual(as_printed(ran.stdout), shown[2], text)
                    else:
                        self.assertEqual((ran.returncode, ran.stdout), (0, ""), text)
        self.assertGreater(n_compared, 8)


class Usage(cli.TestCase):
    def test_usage(self):
        for arguments, message in (
            (["x.py:f", "--target", "cpu"], "--out is required"),
            (["x.py:f", "--target", "cpu", "--out", "o"], "--signature --variants is required"),
            (["x.py:f", "--target", "cpu", "--out", "o", "--signature", "", "--variants", "v"],
             "not allowed with"),
            (["x.py:f", "--target", "cpu", "--out", "o", "--signature", "", "--num-warps", "0"],
             "expected a number of 1 or more"),
            (["x.py:f", "--target", "cpu", "--out", "o", "--signature", "", "--all-configs",
              "--config", "1"], "--all-configs excludes --config"),
        ):  # fmt: skip
            done = cli.run("compile-kernel", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(message, done.stderr)
        help_ = cli.run("compile-kernel", "--help")
        for option in ("--variants", "--config", "--all-configs", "--maxnreg", "--launch-pdl"):
            self.assertIn(option, help_.stdout)


if __name__ == "__main__":
    cli.main()
