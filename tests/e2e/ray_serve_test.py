"""deploy/ray_serve.py: two replicas under Ray Serve answer as `nereid serve` does."""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import nereid_cli
import own_venv
from raw_http import free_port, read_chunk, read_reply, request_bytes, text_of
from served import serving

SEED = int(os.environ.get("NEREID_RAY_SEED", str(random.randrange(1 << 30))))
DEPLOY = nereid_cli.ROOT / "deploy"
N_REQUESTS = 50
LENGTHS = (4, 12, 24)
OPTIONS = ("--threads", "1", "--batch-invariant", "--no-access-log")
# By which this test's servers are told from others.
NAME = f"nereid-{SEED}-{os.getpid()}"
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS": "0",
    # On a busy machine Ray gives up what has not started in 5 s, and what it starts has nice 15.
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",
}
# A raylet whose agent takes over 15 s to start ends: https://github.com/ray-project/ray/issues/65983
N_STARTS = 3


def setUpModule():
    global programs
    programs = own_venv.programs_of("ray")
    print(f"NEREID_RAY_SEED={SEED}", flush=True)


def server_pids():
    pids = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0") if entry.name.isdigit() else ()
            if NAME in words and words[0] == str(nereid_cli.nereid_path):
                pids.append(int(entry.name))
    return pids


class RayServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A short name: Ray's sockets lie in it.
        cls.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.rng = random.Random(SEED)
        cls.port = free_port()
        address = cls.start_ray()
        started = own_venv.Process(
            cls.folder, programs / "serve", "start", "--address", address,
            "--http-host", "127.0.0.1", "--http-port", cls.port,
            environment=ENVIRONMENT,
        )  # fmt: skip
        cls.addClassCleanup(started.kill)
        if started.process.wait(nereid_cli.TIMEOUT_S) != 0:
            raise AssertionError(started.text())
        cls.serve = own_venv.Process(
            cls.folder, programs / "serve", "run", "--address", address, "--app-dir", DEPLOY,
            "--working-dir", DEPLOY, "ray_serve:app", "model=demo", "n_replicas=2",
            f"program={nereid_cli.nereid_path}",
            f"options={' '.join(OPTIONS)} --served-model-name {NAME}",
            environment=ENVIRONMENT,
        )  # fmt: skip
        cls.addClassCleanup(cls.serve.kill)
        cls.serve.wait_for("Application 'default' is ready")

    @classmethod
    def start_ray(cls):
        for _ in range(N_STARTS):
            port = free_port()
            ray = own_venv.Process(
                cls.folder, programs / "ray", "start", "--head", "--block", "--port", port,
                "--num-cpus", 4, "--node-ip-address", "127.0.0.1", "--include-dashboard=false",
                "--disable-usage-stats", "--temp-dir", cls.folder / "ray",
                "--object-store-memory", 80_000_000,
                environment=ENVIRONMENT,
            )  # fmt: skip
            cls.addClassCleanup(ray.kill)
            try:
                ray.wait_for("Ray runtime started")
                return f"127.0.0.1:{port}"
            except AssertionError as error:
                ray.kill()
                failure = error
        raise failure

    @classmethod
    def tearDownClass(cls):
        cls.serve.process.send_signal(signal.SIGINT)
        own_venv.wait_for(lambda: not server_pids(), "the servers end with the application", 120)
        cls.serve.process.wait(120)
        if cls.serve.text().count("nereid: ending") < 2:
            raise AssertionError(f"they were not drained:\n{cls.serve.text()[-4000:]}")

    def metrics(self, name):
        """{port: value} of the servers that live."""
        values = {}
        for port in re.findall(r"nereid: http://127\.0\.0\.1:(\d+)/", self.serve.text()):
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/metrics"
                text = urllib.request.urlopen(url, timeout=60).read().decode()
                found = re.findall(rf"^nereid:{name}\{{.*\}} (\S+)$", text, re.M)
                values[port] = sum(map(float, found))
        return values

    async def ask(self, port, prompt, length, streams=True):
        """The status, and the text of the answer."""
        body = {"prompt": prompt, "max_tokens": length, "temperature": 0, "ignore_eos": True}
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        try:
            writer.write(request_bytes("/v1/completions", body | {"stream": streams}))
            status, parts = await read_reply(reader)
            if status != 200:
                return status, parts
            self.assertEqual(parts is None, streams)
            if not streams:
                return status, json.loads(parts[0])["choices"][0]["text"]
            pieces = []
            while (piece := await read_chunk(reader)) is not None:
                pieces.append(piece)
            events = b"".join(pieces)
            self.assertTrue(events.endswith(b"data: [DONE]\n\n"), events)
            self.assertGreater(len(pieces), length // 2, "it comes as it is made")
            return status, text_of(events)
        finally:
            writer.close()

    def test_requests_are_shared_by_two_replicas(self):
        requests = [
            (f"# {self.rng.randrange(1000)}\ndef f(x):", self.rng.choice(LENGTHS), i % 2 == 0)
            for i in range(N_REQUESTS)
        ]

        async def ask_all(port):
            return await asyncio.gather(*(self.ask(port, *request) for request in requests))

        with serving("demo", *OPTIONS) as server:
            expected = asyncio.run(ask_all(server.port))
        before = self.metrics("generation_tokens_total")
        self.assertEqual(len(before), 2)
        self.assertEqual(asyncio.run(ask_all(self.port)), expected)
        after = self.metrics("generation_tokens_total")
        made = [after[port] - before[port] for port in before]
        print(f"{N_REQUESTS} requests, tokens of each replica: {made}")
        self.assertGreater(min(made), 0)
        self.assertEqual(sum(made), sum(length for _, length, _ in requests))

    def test_what_a_client_is_told_is_the_servers(self):
        url = f"http://127.0.0.1:{self.port}"
        self.assertEqual(urllib.request.urlopen(url + "/health", timeout=60).status, 200)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url + "/v1/embeddings?x=1", b'{"input": "x"}', timeout=60)
        self.assertEqual(caught.exception.code, 501)
        self.assertIn(b"not trained to embed", caught.exception.read())
        self.assertEqual(caught.exception.headers["Content-Type"], "application/json")

    def test_a_client_that_leaves_is_cancelled(self):
        def n_cancelled():
            return sum(self.metrics("requests_cancelled_total").values())

        async def leave():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            body = {"prompt": "def", "max_tokens": 1500, "ignore_eos": True, "stream": True}
            writer.write(request_bytes("/v1/completions", body))
            await read_reply(reader)
            await read_chunk(reader)
            writer.close()

        n_before = n_cancelled()
        asyncio.run(leave())
        own_venv.wait_for(lambda: n_cancelled() == n_before + 1, "the request is cancelled")

    def test_a_server_that_ends_is_replaced(self):
        victim, *others = server_pids()
        self.assertEqual(len(others), 1)
        os.kill(victim, signal.SIGKILL)
        own_venv.wait_for(
            lambda: len(set(server_pids()) - {victim, *others}) == 1, "another one starts"
        )
        own_venv.wait_for(lambda: len(self.metrics("num_steps_total")) == 2, "it listens")

        async def ask_all():
            return await asyncio.gather(*(self.ask(self.port, "def", 4) for _ in range(10)))

        self.assertEqual({status for status, _ in asyncio.run(ask_all())}, {200})


if __name__ == "__main__":
    nereid_cli.main()
