"""docs/adding_an_op.md as its reader meets it: the files it shows are written, its commands are run
as they stand, and what they print is what it prints; `...` stands for anything."""

import doctest
import os
import re
import subprocess
import sys

import nereid_cli as cli

PAGE = cli.ROOT / "docs" / "adding_an_op.md"
BLOCK = re.compile(r"^```(\w+) ?([\w.]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands_of(text):
    """(command, what it prints) of a block of the console."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


class AddingAnOp(cli.TestCase):
    def setUp(self):
        super().setUp()
        programs = self.folder / "programs"
        programs.mkdir()
        (programs / "nereid").symlink_to(cli.nereid_path)
        (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (programs / "python3").chmod(0o755)
        self.work = self.folder / "work"
        self.work.mkdir()
        ttir = cli.nereid_path.parent.parent / "ttir" / "emit" / "nereid-ttir"
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "NEREID": str(cli.ROOT),
            "NEREID_TTIR": os.environ.get("NEREID_TTIR", str(ttir)),
        }

    def run_command(self, command):
        printed = subprocess.run(
            command, shell=True, cwd=self.work, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=cli.TIMEOUT_S, check=False,
        ).stdout  # fmt: skip
        # What is said while kernels are compiled, if they must be.
        return re.sub(r"^nereid: compiling kernels.*\n", "", printed, flags=re.MULTILINE)

    def test_the_page_is_true(self):
        same = doctest.OutputChecker().check_output
        n_files = n_commands = 0
        for kind, name, text in BLOCK.findall(PAGE.read_text()):
            if name:
                (self.work / name).write_text(text)
                n_files += 1
            if kind != "console":
                continue
            for command, printed in commands_of(text):
                n_commands += 1
                with self.subTest(command=command):
                    got = self.run_command(command)
                    self.assertTrue(
                        same(printed, got, SAME), f"the page has\n{printed}\ngot\n{got}"
                    )
        self.assertGreaterEqual(n_files, 5)
        self.assertGreaterEqual(n_commands, 14)


if __name__ == "__main__":
    cli.main()
