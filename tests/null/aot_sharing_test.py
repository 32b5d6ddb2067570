"""Several processes that want the same objects at the same time: each is made once, and nobody
waits for the dead."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aot import compile as driver
from aot.cache import ObjectCache, locked
from aot.request import Request

FORK = multiprocessing.get_context("fork")
N_PROCESSES = 4
NAME = "0123456789abcdef" * 4
OTHER = "f" * 64


def requests():
    args = {"out_ptr": "*fp32", "x_ptr": "*fp32", "y_ptr": "*fp32", "n_elements": "i32"}
    rest = {"args": {**args, "alpha": "fp32"}, "num_warps": 1, "num_stages": 1}
    return [
        Request.parse(json.dumps({"kernel": "add", "constexprs": {"BLOCK": 16 << i}, **rest}))
        for i in range(6)
    ]


def hold(name, is_held):
    with locked(name):
        is_held.set()
        time.sleep(600)


class SlowTarget:
    """Writes a line for each object that it makes."""

    name, family, is_cpu, isa, compiler, extension = "cuda:90", "cuda", False, None, "none", "cubin"

    def __init__(self, log):
        self.log = log

    def prepare(self):
        pass

    def compile(self, request, keep):
        with open(self.log, "a") as file:
            file.write(request.key + "\n")
        time.sleep(0.05)
        data = request.key.encode()
        sha256 = hashlib.sha256(data).hexdigest()
        return {"key": request.key, "object_sha256": sha256}, data


def compile_all(log, start, results):
    start.wait()
    target = SlowTarget(log)
    rows, failures = driver.compile_all(requests(), target, jobs=2)
    results.put(([row["key"] for row in rows], failures))


class Sharing(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="nereid-sharing-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        patch = mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder.name})
        patch.start()
        self.addCleanup(patch.stop)

    def holder(self, name):
        is_held = FORK.Event()
        process = FORK.Process(target=hold, args=(name, is_held), daemon=True)
        process.start()
        self.assertTrue(is_held.wait(60))
        return process

    def test_a_lock_ends_with_its_process(self):
        process = self.holder(NAME)
        with locked(NAME, wait=False) as is_ours:
            self.assertFalse(is_ours)
        with locked(OTHER, wait=False) as is_ours:
            self.assertTrue(is_ours)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        with locked(NAME, wait=True) as is_ours:
            self.assertTrue(is_ours)

    def test_each_object_is_made_once(self):
        log, start, results = self.folder / "log", FORK.Event(), FORK.Queue()
        processes = [
            FORK.Process(target=compile_all, args=(log, start, results)) for _ in range(N_PROCESSES)
        ]
        for process in processes:
            process.start()
        start.set()
        wanted = [request.key for request in requests()]
        for _ in processes:
            rows, failures = results.get(timeout=100)
            self.assertEqual(failures, [])
            self.assertEqual(rows, wanted)
        for process in processes:
            process.join(60)
            self.assertEqual(process.exitcode, 0)
        self.assertEqual(sorted(log.read_text().splitlines()), sorted(wanted))

    def test_an_object_of_the_dead_is_made_by_the_next(self):
        wanted = requests()
        target = SlowTarget(self.folder / "log")
        name = driver.digest(wanted[0], target.name, target.compiler, target.isa)
        process = self.holder(name)
        killer = FORK.Process(target=lambda: (time.sleep(0.5), os.kill(process.pid, 9)))
        killer.start()
        rows, failures = driver.compile_all(wanted, target, jobs=2)
        killer.join()
        process.join()
        self.assertEqual(failures, [])
        self.assertEqual([row["key"] for row in rows], [request.key for request in wanted])
        self.assertIsNotNone(ObjectCache("cubin").get(name))


if __name__ == "__main__":
    unittest.main(verbosity=2)
