"""How long GET /health takes while something else goes on: `with probing(port) as probe`.

A process of its own, which asks on a new connection every 50 ms: in the process that makes the load
it would wait for that one's turns."""

import contextlib
import json
import select
import socket
import subprocess
import sys
import time

INTERVAL_S = 0.05


def ask_once(port):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = connection.recv(1 << 16)
    if not reply.startswith(b"HTTP/1.1 200 "):
        raise AssertionError(reply)
    return (time.monotonic() - began) * 1e3


class Probe:
    """`milliseconds`: sorted, once the probing is over."""

    def __init__(self):
        self.milliseconds = []


@contextlib.contextmanager
def probing(port):
    probe = Probe()
    process = subprocess.Popen(
        [sys.executable, __file__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield probe
        written, _ = process.communicate("", timeout=120)
        if process.returncode != 0:
            raise AssertionError("/health was not answered")
        probe.milliseconds = sorted(json.loads(written))
    finally:
        process.kill()
        process.wait()


def main():
    port, milliseconds = int(sys.argv[1]), []
    while True:
        milliseconds.append(round(ask_once(port), 3))
        rest_s = max(0, INTERVAL_S - milliseconds[-1] / 1e3)
        if select.select([sys.stdin], [], [], rest_s)[0]:  # closed: it is over
            break
    print(json.dumps(milliseconds))


if __name__ == "__main__":
    main()
