"""An environment for what people put in front of the server and nothing here is built with.

It lies under build/, so that neither users nor developers have it installed (Ray takes 490 MB), and
is kept from one run to the next. Without one, because nothing can be downloaded or this Python has
no such wheels, a test says that it is skipped."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import nereid_cli

SKIPPED = 77  # SKIP_RETURN_CODE in CMakeLists.txt
INSTALL_TIMEOUT_S = 900


def programs_of(requirements):
    """The folder of the programs that `deploy/{requirements}-requirements.txt` installs."""
    wanted = nereid_cli.ROOT / "deploy" / f"{requirements}-requirements.txt"
    folder = nereid_cli.nereid_path.parent.parent / "venvs" / requirements
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run(
            [folder / "bin/python3", *install, "-r", wanted],
            capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
        )  # fmt: skip
        if "No matching distribution" in done.stderr:
            print(f"SKIPPED: {wanted} cannot be installed here:\n{done.stderr[-2000:]}")
            sys.exit(SKIPPED)
        if done.returncode != 0:
            raise AssertionError(f"{wanted} cannot be installed:\n{done.stderr[-4000:]}")
        stamp.write_text(wanted.read_text())
    return folder / "bin"


def wait_for(condition, what, timeout=nereid_cli.TIMEOUT_S):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen: {what}")
        time.sleep(0.1)


class Process:
    """With what it starts, in a group of its own; what they print is in a file."""

    def __init__(self, folder, *command, environment=None):
        self.output = Path(tempfile.mkstemp(dir=folder)[1])
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=output,
                stderr=output,
                env=os.environ
                | {"PATH": f"{command[0].parent}:{os.environ['PATH']}"}
                | (environment or {}),
                start_new_session=True,
            )

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_for(self, mark):
        def is_there():
            if self.process.poll() is not None and mark not in self.text():
                raise AssertionError(f"no {mark!r}, and it has ended:\n{self.text()[-4000:]}")
            return mark in self.text()

        wait_for(is_there, mark)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
