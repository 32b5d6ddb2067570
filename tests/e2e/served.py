"""A server as a test's child process."""

import contextlib
import os
import re
import signal
import subprocess
import threading

import nereid_cli


class Served:
    """`command` is what prints its address on stderr; `lines` is all that it printed."""

    def __init__(self, command):
        environment = {k: v for k, v in os.environ.items() if k != "NEREID_API_KEY"}
        self.process = subprocess.Popen(
            list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment
        )
        self.lines = []
        self._has_port = threading.Event()
        self.port = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._has_port.wait(120) or self.port is None:
            self.process.kill()
            raise AssertionError("no address:\n" + "".join(self.lines))

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"http://[^ ]*?:(\d+)/", line)
            if found and self.port is None:
                self.port = int(found[1])
                self._has_port.set()
        self._has_port.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def end(self, timeout=60):
        """Drains; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self._reader.join(10)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(model, *options, is_ready=True, port=0):
    server = Served(
        [
            nereid_cli.nereid_path,
            "serve",
            model,
            "--port",
            port,
            *options,
            *nereid_cli.MODEL_OPTIONS,
        ]
    )
    try:
        if is_ready:
            wait_until_ready(server)
        yield server
    finally:
        server.kill()


def wait_until_ready(server, timeout=nereid_cli.TIMEOUT_S):
    import time
    import urllib.error
    import urllib.request

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise AssertionError("the server ended:\n" + "".join(server.lines))
        try:
            with urllib.request.urlopen(server.url + "/health", timeout=10) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.05)
    raise AssertionError("not ready in time")
