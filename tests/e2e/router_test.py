"""Two replicas behind vllm-router: what clients see when one is killed, and when one is drained.

The router runs with the options of deploy/nereid-router.service."""

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import re
import shlex
import signal
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import nereid_cli
import own_venv
from raw_http import free_port, read_chunk, read_reply, request_bytes, text_of
from served import serving, wait_until_ready

SEED = int(os.environ.get("NEREID_ROUTER_SEED", str(random.randrange(1 << 30))))
UNIT = nereid_cli.ROOT / "deploy" / "nereid-router.service"
N_STREAMS = 200
N_PROMPTS = 40
LENGTHS = (8, 24, 40)
# So few rows that half of a replica's streams still wait for their first byte when it ends.
N_ROWS = 16
OPTIONS = ("--threads", 1, "--batch-size", N_ROWS, "--batch-invariant", "--no-access-log")
DRAIN_S = 600
# Of BROKEN the head has come, so the router can do nothing else for it; of LOST nothing has.
WHOLE, BROKEN, LOST, REFUSED = "whole", "broken", "lost", "refused"


@dataclasses.dataclass
class Outcome:
    kind: str
    text: str
    told: str = ""


def router_options():
    """What the unit starts the router with, but for addresses."""
    command = re.search(r"^ExecStart=(.*?[^\\])$", UNIT.read_text(), re.MULTILINE | re.DOTALL)[1]
    words = shlex.split(command.replace("\\\n", " "))[1:]
    for name in ("--host", "--port", "--worker-urls"):
        at = words.index(name)
        del words[at : at + 2]
    return words


class Router(own_venv.Process):
    def __init__(self, folder, replicas):
        self.port, metrics_port = free_port(), free_port()
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self.url = f"http://127.0.0.1:{self.port}"
        options = ["--port", self.port, "--prometheus-port", metrics_port, *router_options()]
        options += ["--worker-urls", *(replica.url for replica in replicas)]
        super().__init__(folder, programs / "vllm-router", *options)

    @property
    def lines(self):
        return self.text().splitlines(keepends=True)

    def n_retries(self):
        text = urllib.request.urlopen(self.metrics_url, timeout=60).read().decode()
        return sum(map(float, re.findall(r"^vllm_router_retries_total\{.*\} (\S+)$", text, re.M)))


@contextlib.contextmanager
def routed():
    options = (*OPTIONS, "--drain-timeout", DRAIN_S)
    with (
        serving("demo", *options) as one,
        serving("demo", *options) as other,
        tempfile.TemporaryDirectory() as folder,
    ):
        router = Router(folder, [one, other])
        try:
            wait_until_ready(router)
            yield router, one, other
        except BaseException:
            print("the router's log ends:", *router.lines[-20:], sep="\n")
            raise
        finally:
            router.kill()


def metric(replica, name):
    text = urllib.request.urlopen(replica.url + "/metrics", timeout=60).read().decode()
    return sum(map(float, re.findall(rf"^nereid:{name}\{{.*\}} (\S+)$", text, re.M)))


def body_of(prompt, length, stream=True):
    return {
        "model": "demo",
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }


def complete(url, prompt, length):
    """The status and what was answered to a request of its own."""
    request = urllib.request.Request(
        url + "/v1/completions",
        json.dumps(body_of(prompt, length, stream=False)).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=nereid_cli.TIMEOUT_S) as reply:
            return reply.status, json.loads(reply.read())["choices"][0]["text"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def stream(port, prompt, length):
    events, kind = b"", LOST
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(request_bytes("/v1/completions", body_of(prompt, length)))
        status, parts = await read_reply(reader)
        if status != 200 or parts is not None:
            return Outcome(REFUSED, "", f"{status} {parts}")
        kind = BROKEN
        while (chunk := await read_chunk(reader)) is not None:
            events += chunk
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        return Outcome(kind, text_of(events), repr(error))
    finally:
        writer.close()
    if not events.endswith(b"data: [DONE]\n\n"):
        return Outcome(REFUSED, "", events[-300:].decode(errors="replace"))
    return Outcome(WHOLE, text_of(events))


class RouterTest(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(SEED)
        numbers = self.rng.sample(range(1000), N_PROMPTS)
        self.prompts = [f"# {n}\ndef f{n}(x):" for n in numbers]
        self.length_of = {prompt: self.rng.choice(LENGTHS) for prompt in self.prompts}

    async def learn(self, replica):
        """What each prompt is answered with, by a replica that is asked itself."""

        async def one(prompt):
            outcome = await stream(replica.port, prompt, self.length_of[prompt])
            self.assertEqual(outcome.kind, WHOLE, outcome)
            return prompt, outcome.text

        self.expected = dict(await asyncio.gather(*map(one, self.prompts)))

    async def ask_all(self, router, victim, strike):
        """The outcomes of all streams, of which `strike` is called in the midst."""
        asked = [self.prompts[i % N_PROMPTS] for i in range(N_STREAMS)]
        self.rng.shuffle(asked)
        tasks = [
            asyncio.create_task(stream(router.port, prompt, self.length_of[prompt]))
            for prompt in asked
        ]
        n_before = metric(victim, "generation_tokens_total")
        while True:
            await asyncio.sleep(0.02)
            n_waiting = metric(victim, "num_requests_waiting")
            n_tokens = metric(victim, "generation_tokens_total") - n_before
            if n_waiting > 0 and n_tokens >= 2 * N_ROWS:
                break
            self.assertFalse(all(task.done() for task in tasks), "it was over too soon")
        await strike()
        return list(zip(asked, await asyncio.gather(*tasks)))

    def check_whole(self, prompt, outcome):
        self.assertEqual((outcome.kind, outcome.text), (WHOLE, self.expected[prompt]), outcome)

    def check_goes_on(self, router):
        for prompt in self.prompts[:10]:
            told = complete(router.url, prompt, self.length_of[prompt])
            self.assertEqual(told, (200, self.expected[prompt]))

    async def ask_at_once(self, router):
        """So many that they are shared out, and no two that begin alike."""
        prompts = [f"{self.rng.randrange(10**9)} is" for _ in range(8)]
        for outcome in await asyncio.gather(*(stream(router.port, p, 4) for p in prompts)):
            self.assertEqual(outcome.kind, WHOLE, outcome)

    def test_a_replica_is_killed(self):
        with routed() as (router, victim, other):
            asyncio.run(self.learn(other))

            async def strike():
                victim.process.send_signal(signal.SIGKILL)

            outcomes = asyncio.run(self.ask_all(router, victim, strike))
            broken = [(p, outcome) for p, outcome in outcomes if outcome.kind == BROKEN]
            for prompt, outcome in outcomes:
                if outcome.kind == BROKEN:
                    self.assertTrue(self.expected[prompt].startswith(outcome.text), outcome)
                else:
                    self.check_whole(prompt, outcome)
            print(f"{len(broken)} of {N_STREAMS} broken, {router.n_retries():.0f} tried again")
            # Its rows, and those whose last words were on the way: not one that waited there.
            n_begun = sum(outcome.text != "" for _, outcome in broken)
            self.assertLessEqual(n_begun, 2 * N_ROWS)
            self.assertGreater(n_begun, 0, "it was to be killed while it answered")
            self.assertGreater(router.n_retries(), 0)
            self.assertEqual(metric(other, "requests_cancelled_total"), 0)
            self.check_goes_on(router)
            # What supervises it starts it anew; then it is one of two again.
            with serving("demo", *OPTIONS, port=victim.port) as successor:
                end = time.monotonic() + nereid_cli.TIMEOUT_S
                while metric(successor, "generation_tokens_total") == 0:
                    self.assertLess(time.monotonic(), end, "the new replica is asked nothing")
                    asyncio.run(self.ask_at_once(router))

    def test_a_replica_is_drained(self):
        with routed() as (router, victim, other):
            asyncio.run(self.learn(other))
            # The router knows by now that the one that is to be drained has this prefix.
            prefix = " ".join(self.prompts)
            self.assertEqual(complete(router.url, prefix + "#", 1)[0], 200)
            if metric(victim, "generation_tokens_total") == 0:
                victim, other = other, victim

            async def strike():
                victim.process.send_signal(signal.SIGTERM)
                while not any("ending" in line for line in victim.lines):
                    await asyncio.sleep(0.01)
                for i in range(3):
                    # Alone: only by its own tries can be seen that it is to go elsewhere.
                    told = await asyncio.to_thread(complete, router.url, f"{prefix}# {i}", 1)
                    self.assertEqual(told[0], 200, told)

            for prompt, outcome in asyncio.run(self.ask_all(router, victim, strike)):
                self.check_whole(prompt, outcome)
            self.assertEqual(victim.process.wait(DRAIN_S), 0)
            self.check_goes_on(router)


def setUpModule():
    global programs
    programs = own_venv.programs_of("router")
    print(f"NEREID_ROUTER_SEED={SEED}", flush=True)


if __name__ == "__main__":
    nereid_cli.main()
