"""Every choice that tuning may make for the CPU computes the reference, and the very same bits.

Were it not so, a row of a batch would depend on how many others there are: choices may depend on
that number.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import run_cases  # noqa: E402

from aot import cases, sources, space  # noqa: E402
from aot.request import Request  # noqa: E402

# A case or two of each kernel: of all that it can do at once, or with ends that are no whole block.
CASES = {
    "linear_gemv": ("norm_odd", "all"),
    "linear_skinny": ("odd_residual",),
    "linear_tiled": ("both",),
    "linear_fp8": ("both",),
    "linear_int8": ("both", "four_zeros"),
    "linear_int8_gemv": ("both", "four_zeros"),
    "attention_prefill": ("demo_chunk",),
    "greedy": ("ties",),
    "silu_mul": ("demo",),
}


def choices_of(spec, case) -> list[Request]:
    """What is chosen now, then all that the space allows."""
    now = cases.request_of(spec, case, "cpu")
    found = {now.key: now}
    for combination in space.combinations(spec, "cpu"):
        request = space.request(spec, "cpu", case, now, combination)
        if request is not None:
            found[request.key] = request
    return list(found.values())


def outputs(machine, folder: Path, bundle: Path, row: dict) -> dict[str, bytes]:
    """What the launch leaves in every buffer that a reference is for."""
    case = json.loads((folder / "case.json").read_text())
    buffers, params = {}, []
    for arg in case["args"]:
        if "file" in arg:
            buffers[arg["name"]] = machine.buffer((folder / arg["file"]).read_bytes())
            params.append(ctypes.c_uint64(buffers[arg["name"]].address))
        elif arg["type"] == "pointer":
            params.append(ctypes.c_uint64(0))
        else:
            params.append(run_cases.CTYPES[arg["type"]](arg["value"]))
    machine.launch(bundle / row["object"], row, params, case["grid"])
    return {arg["name"]: buffers[arg["name"]].read() for arg in case["args"] if "expected" in arg}


class Spaces(unittest.TestCase):
    def test_every_space_is_here(self):
        tunable = {n for n in sources.kernel_names() if "cpu" in sources.load_spec(n).space}
        self.assertEqual(tunable, set(CASES))

    def test_choices_give_the_same_bits(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        work = Path(folder.name)
        asked = {}  # by kernel and case
        for kernel, names in CASES.items():
            spec = sources.load_spec(kernel)
            for case in spec.cases("fp32"):
                if case.name in names:
                    asked[kernel, case.name] = (spec, case, choices_of(spec, case))
        keys = {request.key for *_, requests in asked.values() for request in requests}
        (work / "requests.jsonl").write_text("".join(f"{key}\n" for key in sorted(keys)))
        bundle = work / "bundle"
        subprocess.run(
            [sys.executable, "-m", "aot.compile", "--target", "cpu", "--out", str(bundle),
             "--requests", str(work / "requests.jsonl"), "--ttir", os.environ["NEREID_TTIR"]],
            cwd=ROOT, check=True,
        )  # fmt: skip
        manifest = json.loads((bundle / "manifest.json").read_text())
        variants = {row["key"]: row for row in manifest["variants"]}
        machine = run_cases.CpuMachine()
        for (kernel, name), (spec, case, requests) in asked.items():
            self.assertGreater(len(requests), 1, f"{kernel}/{name}")
            first = None
            for i, request in enumerate(requests):
                with self.subTest(kernel=kernel, case=name, constexprs=request.constexprs):
                    place = work / kernel / f"{name}-{i}"
                    cases.write_case(place, spec, case, request)
                    self.assertEqual(
                        run_cases.run_case(machine, place, bundle, variants, timed=False), ""
                    )
                    got = outputs(machine, place, bundle, variants[request.key])
                    first = first or got
                    self.assertEqual(got, first)


if __name__ == "__main__":
    if "NEREID_TTIR" not in os.environ:
        sys.exit("set NEREID_TTIR to the program nereid-ttir")
    unittest.main(verbosity=2)
