"""Replicas of `nereid serve` under Ray Serve, which starts, watches, drains and balances them.

    pip install -r deploy/ray-requirements.txt
    serve run --app-dir deploy --working-dir deploy ray_serve:app model=demo n_replicas=2

Goal: each Serve replica is one `nereid serve` as a child process; requests and answers, streams
too, pass through byte by byte, so the API is the server's own (docs/serving.md).
Non-goal: choosing replicas by what they have cached; vllm-router does that.
Rejected: Ray Serve's LLM application, whose interface is that of an engine within the process.

Arguments of the application: `model`; `n_replicas` (1); `n_gpus` of each replica (0), with which
each is shown its own; `options`, more options of `nereid serve` in one string; `program` (nereid);
`max_ongoing_requests` of each (1088: those that the server computes and those that wait in it)."""

import asyncio
import collections
import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading

import aiohttp
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

DRAIN_S = 60
# Ray kills a replica that takes longer to end.
SHUTDOWN_S = DRAIN_S + 15
OPENING_S = 900
HEALTH_TIMEOUT_S = 10
# Of a connection, not of what is said through it. An answer's length is known or it is in chunks,
# and Ray has named the request, for both.
NOT_PASSED_ON = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
NOT_PASSED_BACK = NOT_PASSED_ON - {"content-length"} | {"x-request-id"}


def without(names, headers):
    return [(name, value) for name, value in headers if name.lower() not in names]


class Child:
    """`nereid serve` on a free port. What it logs goes on to the replica's log."""

    def __init__(self, program, model, options):
        command = [program, "serve", model, "--host", "127.0.0.1", "--port", "0"]
        command += ["--drain-timeout", str(DRAIN_S), *shlex.split(options)]
        # Drained also where Ray kills the replica, which then can do nothing about it. The thread
        # that starts it must live as long: asyncio.to_thread's do.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command], stderr=subprocess.PIPE, text=True
        )
        self.must_live = False
        self._port = None
        self._has_port = threading.Event()
        self._last_lines = collections.deque(maxlen=20)
        threading.Thread(target=self._read, daemon=True).start()
        self._has_port.wait(OPENING_S)
        if self._port is None:
            self.process.kill()
            raise RuntimeError("nereid serve told no address:\n" + "".join(self._last_lines))
        self.url = f"http://127.0.0.1:{self._port}"

    def _read(self):
        for line in self.process.stderr:
            self._last_lines.append(line)
            print(line, end="", flush=True)
            if self._port is None and (found := re.search(r"http://127\.0\.0\.1:(\d+)/", line)):
                self._port = int(found[1])
                self._has_port.set()
        self._has_port.set()
        # Of a replica that lives Ray asks three times before it gives it up; of this one it knows.
        if self.must_live:
            print(f"nereid serve ended with exit code {self.process.wait()}", flush=True)
            os._exit(1)

    def check(self):
        if (code := self.process.poll()) is not None:
            said = "".join(self._last_lines)
            raise RuntimeError(f"nereid serve ended with exit code {code}:\n{said}")

    def end(self):
        self.must_live = False
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


@serve.deployment(
    graceful_shutdown_timeout_s=SHUTDOWN_S,
    health_check_period_s=2,
    health_check_timeout_s=HEALTH_TIMEOUT_S,
)
class Replica:
    async def __init__(self, program, model, options):
        self.child = await asyncio.to_thread(Child, program, model, options)
        # An answer takes as long as it takes; where there is nothing to say comments come.
        self.session = aiohttp.ClientSession(
            self.child.url,
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
        )
        async with asyncio.timeout(OPENING_S):
            while not await self.is_ready():
                self.child.check()
                await asyncio.sleep(0.1)
        self.child.must_live = True

    async def is_ready(self):
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with self.session.get("/health") as reply:
                return reply.status == 200
        return False

    async def check_health(self):
        self.child.check()
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            if not await self.is_ready():
                raise RuntimeError("nereid serve is not healthy")

    async def __call__(self, request: Request):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        try:
            reply = await self.session.request(
                request.method,
                target,
                data=await request.body(),
                headers=without(NOT_PASSED_ON, request.headers.items()),
                allow_redirects=False,
            )
        except aiohttp.ClientConnectionError:
            error = {"message": "this replica has just ended; try again", "type": "server_error"}
            return JSONResponse({"error": error}, 503, {"Retry-After": "1"})
        answer = StreamingResponse(self.bytes_of(reply), reply.status)
        answer.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in without(NOT_PASSED_BACK, reply.headers.items())
        ]
        return answer

    async def bytes_of(self, reply):
        try:
            async for piece in reply.content.iter_any():
                yield piece
        finally:
            reply.close()  # cancels what a client that is gone has asked for

    async def __del__(self):
        # Ray calls it once no request is under way.
        if hasattr(self, "session"):
            await self.session.close()
        if hasattr(self, "child"):
            await asyncio.to_thread(self.child.end)


def app(arguments: dict[str, str]) -> serve.Application:
    arguments = dict(arguments)
    model = arguments.pop("model", None)
    if model is None:
        raise ValueError("expected model=DIRECTORY, or model=demo")
    replicas = Replica.options(
        num_replicas=int(arguments.pop("n_replicas", 1)),
        max_ongoing_requests=int(arguments.pop("max_ongoing_requests", 1088)),
        ray_actor_options={"num_gpus": float(arguments.pop("n_gpus", 0))},
    )
    program, options = arguments.pop("program", "nereid"), arguments.pop("options", "")
    if arguments:
        known = "model, n_replicas, n_gpus, options, program, max_ongoing_requests"
        raise ValueError(f"unknown arguments: {', '.join(arguments)}; expected {known}")
    return replicas.bind(program, model, options)
