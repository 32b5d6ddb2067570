#!/usr/bin/env python3
"""`nereid serve` against `nereid bench serve`, in turns: what sockets and events cost.

    python3 bench/serve_http.py models/demo --nereid build/release/apps/nereid

Streams requests like those of the bench, so many at once. "of_bench" is the bench's time for the
work of a turn by the server's; work is what prompts and answers take at the bench's rates of either
alone, since two draws of lengths differ. "first_byte_after_first_token_ms" is from the engine's
first token of a request to the first byte that its client has, the average of a turn.
"""

import argparse
import json
import os
import random
import re
import select
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

SUM_COUNT = re.compile(r"^nereid:time_to_first_token_seconds_(sum|count)\{[^}]*\} (\S+)$", re.M)


def connect(port: int, head: bytes, body: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    head += b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return client


def get(port: int, path: bytes) -> tuple[bool, str]:
    with connect(port, b"GET " + path) as client, client.makefile("rb") as reply:
        text = reply.read()
    return b" 200 " in text[:13], text.decode()


def engine_first_s(port: int) -> tuple[float, float]:
    values = dict(SUM_COUNT.findall(get(port, b"/metrics")[1]))
    return float(values["sum"]), float(values["count"])


@dataclass
class Open:
    client: socket.socket
    sent: float
    reply: list[bytes] = field(default_factory=list)


class Load:
    def __init__(self, options: argparse.Namespace, port: int):
        self.options, self.port = options, port
        self.random = random.Random(1)
        self.vocab = json.loads((Path(options.model) / "config.json").read_text())["vocab_size"]
        self.first_s: list[float] = []

    def draw(self, n: int) -> list[dict]:
        drawn = []
        for _ in range(n):
            n_prompt = self.random.randint(*self.options.prompt)
            n_answer = self.random.randint(*self.options.output)
            body = {
                "prompt": [self.random.randrange(self.vocab) for _ in range(n_prompt)],
                "max_tokens": n_answer,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
            }
            drawn.append(body)
        return drawn

    def run(self, requests: list[dict]) -> float:
        """Seconds. Bytes are kept and looked at later: on a small machine the client's time is the
        server's."""
        waiting, open_of, replies = [json.dumps(body).encode() for body in requests], {}, []
        poll = select.epoll()
        began = time.monotonic()
        while waiting or open_of:
            while waiting and len(open_of) < self.options.at_once:
                sent = time.monotonic()
                client = connect(self.port, b"POST /v1/completions", waiting.pop())
                open_of[client.fileno()] = Open(client, sent)
                poll.register(client.fileno(), select.EPOLLIN)
            for number, _ in poll.poll():
                stream = open_of[number]
                piece = stream.client.recv(1 << 16)
                if piece and not stream.reply:
                    self.first_s.append(time.monotonic() - stream.sent)
                    # Not woken for every token: the rest is read at its end.
                    stream.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 16)
                stream.reply.append(piece)
                if not piece:
                    poll.unregister(number)
                    stream.client.close()
                    replies.append(b"".join(open_of.pop(number).reply))
        took_s = time.monotonic() - began
        if not all(reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for reply in replies):
            raise RuntimeError("a stream has no end")
        return took_s


@dataclass
class Served:
    n_prompt_tokens: int
    n_answer_tokens: int
    time_s: float
    first_byte_ms: float  # after the engine's first token

    @property
    def tokens_per_s(self) -> float:
        return (self.n_prompt_tokens + self.n_answer_tokens) / self.time_s

    def of_bench(self, bench: dict) -> float:
        work_s = self.n_prompt_tokens / bench["prefill_tokens_per_s"]
        work_s += self.n_answer_tokens / bench["decode_tokens_per_s"]
        return work_s / self.time_s / bench["part_of_alone"]


def serve_once(options: argparse.Namespace, port: int) -> Served:
    load = Load(options, port)
    load.run(load.draw(2 * options.at_once))
    load.first_s.clear()
    before = engine_first_s(port)
    requests = load.draw(options.requests)
    time_s = load.run(requests)
    after = engine_first_s(port)
    if after[1] - before[1] != options.requests:
        raise RuntimeError("somebody else asks this server")
    engine_s = (after[0] - before[0]) / options.requests
    return Served(
        sum(len(body["prompt"]) for body in requests),
        sum(body["max_tokens"] for body in requests),
        time_s,
        # Of the same requests: the averages' difference is the average of the differences.
        1e3 * (statistics.mean(load.first_s) - engine_s),
    )


def http_turn(options: argparse.Namespace) -> Served:
    server = subprocess.Popen(
        [options.nereid, "serve", options.model, "--port", "0", "--no-access-log"]
        + ["--batch-size", str(options.at_once), *options.options],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"http://[^ ]*?:(\d+)/", line):
                break
        else:
            raise RuntimeError("the server did not start")
        port = int(found[1])
        while not get(port, b"/health")[0]:
            if server.poll() is not None:
                raise RuntimeError("the server ended")
            time.sleep(0.05)
        return serve_once(options, port)
    finally:
        server.terminate()
        server.communicate()


def bench_turn(options: argparse.Namespace) -> dict:
    command = [options.nereid, "bench", "serve", options.model, "--json", *options.options]
    command += ["--requests", options.requests, "--at-once", options.at_once]
    command += ["--prompt", *options.prompt, "--output", *options.output]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--nereid", default="build/release/apps/nereid")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--prompt", type=int, nargs=2, default=(16, 128))
    parser.add_argument("--output", type=int, nargs=2, default=(32, 128))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of both")
    options = parser.parse_args()
    # One after the other, so that what else the machine does is shared.
    turns = [(bench_turn(options), http_turn(options)) for _ in range(options.turns)]
    of_bench = [served.of_bench(bench) for bench, served in turns]
    print(
        json.dumps(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "load_average": os.getloadavg()[0],
                "at_once": options.at_once,
                "served_tokens_per_s": [round(served.tokens_per_s) for _, served in turns],
                "bench_tokens_per_s": [round(bench["tokens_per_s"]) for bench, _ in turns],
                "of_bench": [round(of, 3) for of in of_bench],
                "of_bench_median": round(statistics.median(of_bench), 3),
                "first_byte_after_first_token_ms": [round(s.first_byte_ms, 2) for _, s in turns],
            }
        )
    )


if __name__ == "__main__":
    main()
