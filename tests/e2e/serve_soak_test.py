"""Many clients at once, many of them badly behaved: no answer has a wrong byte, nothing is lost.

NEREID_SOAK_SECONDS (60), NEREID_SOAK_STREAMS (1000) and NEREID_SOAK_SEED; the long form is 600
seconds. Prints a line of JSON: latencies are not judged, and memory not below two minutes. /health
is asked by a process of its own; the clients, all in this one, run at a lower priority than that
and the server, so that on few processors what is measured is not their haste."""

import asyncio
import contextlib
import json
import os
import random
import resource
import time
import unittest

import nereid_cli
from health_probe import probing
from raw_http import read_chunk, read_reply, request_bytes, text_of
from served import serving

SECONDS = float(os.environ.get("NEREID_SOAK_SECONDS", "60"))
STREAMS = int(os.environ.get("NEREID_SOAK_STREAMS", "1000"))
SEED = int(os.environ.get("NEREID_SOAK_SEED", str(random.randrange(1 << 30))))
PROMPTS = [
    "def add(a, b):",
    "class Stack:",
    "import os\n",
    "for i in range(10):\n",
    "# A comment\n",
    "x = ",
]
LENGTHS = (1, 7, 24, 60)
CLIENTS_NICE = 10
METRICS = (
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "generation_tokens_total",
)


def body_of(prompt, length, stream):
    return {
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }


class Soak:
    def __init__(self, server):
        self.server = server
        self.rng = random.Random(SEED)
        self.expected = {}
        self.counts = {}
        self.resident = []
        self.tokens_per_s = 0

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.server.port, limit=1 << 22)

    async def whole(self, body):
        reader, writer = await self.connect()
        writer.write(request_bytes("/v1/completions", body))
        status, parts = await read_reply(reader)
        writer.close()
        return status, json.loads(parts[0])

    async def get(self, path):
        reader, writer = await self.connect()
        writer.write(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode())
        status, parts = await read_reply(reader)
        writer.close()
        return status, parts[0].decode()

    async def learn(self):
        for prompt in PROMPTS:
            for length in LENGTHS:
                _, reply = await self.whole(body_of(prompt, length, False))
                self.expected[prompt, length] = reply["choices"][0]["text"]

    async def client(self, end):
        while time.monotonic() < end:
            with contextlib.suppress(
                ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError
            ):
                await self.one_request()

    async def one_request(self):
        prompt, length = self.rng.choice(PROMPTS), self.rng.choice(LENGTHS)
        stream, manner = self.rng.random() < 0.8, self.rng.random()
        reader, writer = await self.connect()
        try:
            writer.write(request_bytes("/v1/completions", body_of(prompt, length, stream)))
            if manner < 0.15:  # away while it waits
                await asyncio.sleep(self.rng.random() * 0.5)
                return self.count("killed early")
            if manner < 0.2:
                writer.write_eof()
                if await reader.read() == b"":
                    return self.count("half-closed")
                return self.count("half-closed late")
            status, parts = await read_reply(reader)
            if status == 503:
                await asyncio.sleep(0.2)
                return self.count("refused")
            assert status == 200, (status, parts)
            if parts is not None:
                text = json.loads(parts[0])["choices"][0]["text"]
            else:
                events, n_chunks = b"", 0
                cut = self.rng.randrange(1, 12) if manner < 0.35 else None
                while (chunk := await read_chunk(reader)) is not None:
                    events += chunk
                    n_chunks += 1
                    if n_chunks == cut:
                        return self.count("killed in the stream")
                    if manner > 0.9:  # a slow reader
                        await asyncio.sleep(0.05)
                assert events.endswith(b"data: [DONE]\n\n")
                text = text_of(events)
            assert text == self.expected[prompt, length], (SEED, prompt, length, text)
            self.count("right")
        finally:
            writer.transport.abort() if self.rng.random() < 0.5 else writer.close()

    async def watch(self, end):
        while time.monotonic() < end:
            with open(f"/proc/{self.server.process.pid}/statm") as file:
                self.resident.append((time.monotonic(), int(file.read().split()[1]) * 4096))
            await asyncio.sleep(0.1)

    async def metrics(self):
        _, text = await self.get("/metrics")
        return {
            name: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            for name in METRICS
            if line.startswith("nereid:" + name)
        }

    async def run(self):
        began = time.monotonic()
        n_before = (await self.metrics()).pop("generation_tokens_total")
        end = began + SECONDS
        await asyncio.gather(self.watch(end), *(self.client(end) for _ in range(STREAMS)))
        for attempt in range(600):
            left = await self.metrics()
            n_tokens = left.pop("generation_tokens_total") - n_before
            if attempt == 0:
                self.tokens_per_s = n_tokens / (time.monotonic() - began)
            if not any(left.values()):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"left behind: {left}")


class SoakTest(unittest.TestCase):
    def test_soak(self):
        with serving("demo", "--batch-invariant", "--no-access-log") as server:
            # For the clients' sockets; the server sees to its own.
            _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
            soak = Soak(server)
            asyncio.run(soak.learn())
            with probing(server.port) as probe:
                os.nice(CLIENTS_NICE)
                asyncio.run(soak.run())
            health = probe.milliseconds
            began = soak.resident[0][0]
            settled = [n for t, n in soak.resident if t - began > min(60, SECONDS / 2)]
            growth = settled[-1] / settled[0] - 1
            figures = {
                "seconds": SECONDS,
                "streams": STREAMS,
                "seed": SEED,
                "load_average": os.getloadavg()[0],
                "health_ms": {
                    "n": len(health),
                    "median": health[len(health) // 2],
                    "p99": health[int(len(health) * 0.99)],
                    "most": health[-1],
                },
                "generated_tokens_per_s": round(soak.tokens_per_s),
                "resident_bytes": settled[-1],
                "resident_growth": round(growth, 4),
                "clients": soak.counts,
            }
            print(json.dumps(figures), flush=True)
            self.assertGreater(soak.counts["right"], STREAMS // 10)
            if SECONDS >= 120:
                self.assertLess(growth, 0.02)
            self.assertEqual(server.end(), 0)


if __name__ == "__main__":
    nereid_cli.main()
