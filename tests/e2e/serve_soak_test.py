"""Many clients at once, many of them badly behaved: no answer has a wrong byte, nothing is lost.

NEREID_SOAK_SECONDS (15), NEREID_SOAK_STREAMS (200) and NEREID_SOAK_SEED; the long form is 600 and
1000. Latencies and memory are printed, not judged, below two minutes."""

import asyncio
import contextlib
import json
import os
import random
import time
import unittest

import nereid_cli
from served import serving

SECONDS = float(os.environ.get("NEREID_SOAK_SECONDS", "15"))
STREAMS = int(os.environ.get("NEREID_SOAK_STREAMS", "200"))
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


def request_bytes(path, body):
    data = json.dumps(body).encode()
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
        % (path.encode(), len(data))
        + data
    )


def body_of(prompt, length, stream):
    return {
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }


async def read_reply(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if b"chunked" not in head:
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return status, [await reader.readexactly(length)]
    return status, None


async def read_chunk(reader):
    size = int(await reader.readline(), 16)
    data = await reader.readexactly(size + 2)
    return data[:-2] if size else None


def text_of(events):
    text = ""
    for line in events.decode().split("\n\n"):
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise AssertionError(event)
            text += event["choices"][0]["text"]
    return text


class Soak:
    def __init__(self, server):
        self.server = server
        self.rng = random.Random(SEED)
        self.expected = {}
        self.counts = {}
        self.health_ms = []
        self.resident = []

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
            began = time.monotonic()
            status, _ = await self.get("/health")
            assert status == 200
            self.health_ms.append((time.monotonic() - began) * 1e3)
            with open(f"/proc/{self.server.process.pid}/statm") as file:
                self.resident.append((time.monotonic(), int(file.read().split()[1]) * 4096))
            await asyncio.sleep(0.1)

    async def run(self):
        await self.learn()
        end = time.monotonic() + SECONDS
        await asyncio.gather(self.watch(end), *(self.client(end) for _ in range(STREAMS)))
        for _ in range(600):
            _, text = await self.get("/metrics")
            values = {
                name: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
                if line.startswith("nereid:" + name)
            }
            if not any(values.values()):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"left behind: {values}")


class SoakTest(unittest.TestCase):
    def test_soak(self):
        with serving("demo", "--batch-invariant", "--no-access-log") as server:
            soak = Soak(server)
            asyncio.run(soak.run())
            health = sorted(soak.health_ms)
            began = soak.resident[0][0]
            settled = [n for t, n in soak.resident if t - began > min(60, SECONDS / 2)]
            growth = settled[-1] / settled[0] - 1
            print(
                f"seed {SEED}: {soak.counts}; /health ms median {health[len(health) // 2]:.1f}, "
                f"p99 {health[int(len(health) * 0.99)]:.1f}, most {health[-1]:.1f}; "
                f"resident {settled[-1] / 1e6:.0f} MB, {growth:+.2%} since it settled"
            )
            self.assertGreater(soak.counts["right"], STREAMS // 10)
            if SECONDS >= 120:
                self.assertLess(growth, 0.02)
            self.assertEqual(server.end(), 0)


if __name__ == "__main__":
    nereid_cli.main()
