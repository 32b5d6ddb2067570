"""What the end-to-end tests share: running the program, changing models, tensors in files.

Each test is run as `python3 x_test.py PATH_OF_NEREID [unittest arguments]`.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "models" / "demo"
FIXTURES = ROOT / "tests" / "fixtures"
GOLDENS = ROOT / "tests" / "golden" / "demo"
FIXTURE_NAMES = (
    "gemma2",
    "gemma3",
    "granite3",
    "granite_code",
    "llama3",
    "llama31_rope",
    "mistral_swa",
    "olmo2",
    "phi3",
    "phi3_long",
    "qwen2",
    "qwen3",
)
# Long enough for a machine that must first compile the kernels; no test asserts a time.
TIMEOUT_S = 900

_NUMPY_OF = {
    "F16": np.float16, "F32": np.float32, "BF16": np.uint16, "F8_E4M3": np.uint8, "I8": np.int8,
    "U8": np.uint8, "I32": np.int32, "I64": np.int64,
}  # fmt: skip

nereid_path = None
# Options for every command that runs a model, such as "--mode eager" or "--device cuda".
MODEL_OPTIONS = os.environ.get("NEREID_TEST_OPTIONS", "").split()


def has_ranks():
    """Whether a model is divided among devices."""
    return "cpu:2" in MODEL_OPTIONS


def command(*arguments):
    options = MODEL_OPTIONS if arguments and arguments[0] in ("generate", "score") else ()
    return [str(nereid_path), *map(str, arguments), *options]


def run(*arguments, **options):
    """The finished process; stdout and stderr are text, with undecodable bytes kept visible."""
    options.setdefault("timeout", TIMEOUT_S)
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, errors="backslashreplace", **options
    )


def run_json(*arguments, **options):
    """The object that `--json` prints; the exit code must be 0 and stdout exactly one object."""
    result = run(*arguments, "--json", **options)
    if result.returncode != 0:
        raise AssertionError(
            f"nereid {' '.join(map(str, arguments))}: exit {result.returncode}\n{result.stderr}"
        )
    return json.loads(result.stdout)


def joined(ids):
    return ",".join(map(str, ids))


def read_safetensors(path):
    """{name: (dtype, array)}; bf16 and fp8 arrays are their bits."""
    data = Path(path).read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], _NUMPY_OF[entry["dtype"]])
        tensors[name] = (entry["dtype"], array.reshape(entry["shape"]))
    return tensors


def safetensors_bytes(tensors):
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        shape, end = list(array.shape), offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for _, a in tensors.values())


def with_header(data, change):
    """The safetensors file `data` with its header object passed through `change`."""
    (header_bytes,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_bytes])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + header_bytes :]


class TestCase(unittest.TestCase):
    """A test with a folder of its own, gone afterwards."""

    maxDiff = None

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="nereid-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def copy_model(self, model, name="model"):
        """A copy of a model's folder that the test may change."""
        return Path(shutil.copytree(model, self.folder / name))

    def edit_json(self, path, **fields):
        content = json.loads(path.read_text())
        for name, value in fields.items():
            if value is None:
                content.pop(name, None)
            else:
                content[name] = value
        path.write_text(json.dumps(content))

    def expect_error(self, result, *mentions):
        """Exit code 1, a message that holds each of `mentions`, and no crash."""
        shown = f"exit {result.returncode}\nstdout: {result.stdout!r}\nstderr: {result.stderr}"
        self.assertEqual(result.returncode, 1, shown)
        for sign in ("Sanitizer", "runtime error:", "terminate called", "NEREID_CHECK"):
            self.assertNotIn(sign, result.stderr)
        for mention in mentions:
            self.assertIn(mention, result.stderr, shown)

    def expect_usage_error(self, result, *mentions):
        """Exit code 2 and one short line that holds each of `mentions`."""
        shown = f"exit {result.returncode}\nstdout: {result.stdout!r}\nstderr: {result.stderr}"
        self.assertEqual(result.returncode, 2, shown)
        self.assertEqual(result.stdout, "")
        self.assertEqual(len(result.stderr.splitlines()), 1, shown)
        self.assertLess(len(result.stderr), 300, shown)
        for mention in mentions:
            self.assertIn(mention, result.stderr, shown)


def main():
    global nereid_path
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} PATH_OF_NEREID [unittest arguments]")
    nereid_path = Path(sys.argv.pop(1)).resolve()
    if not nereid_path.exists():
        sys.exit(f"{nereid_path} does not exist; build it with ./dev build")
    unittest.main(module="__main__", verbosity=2)
