"""Attention with a user's own functions, compiled for the CPU and run: what the builtins of their
meaning give; and something else once the file says so."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aot import cases, sources
from aot.request import Request
from kernels.lib.function_cases import with_functions
from kernels.lib.paged_cases import attention_case

OWN = """import triton
import triton.language as tl


@triton.jit
def near(seq, head, token, q_pos, k_pos, n):
    return q_pos - k_pos < n


@triton.jit
def of_document(seq, head, token, q_pos, k_pos, ends, width):
    return (k_pos >= tl.load(ends + token * width)) & (k_pos < tl.load(ends + token * width + 1))


@triton.jit
def leaning(score, seq, head, token, q_pos, k_pos, slopes, width):
    return score + tl.load(slopes + head) * (k_pos - q_pos)
"""

# By a builtin, whose meaning is the reference, and by the file.
PAIRS = (
    ("", "causal & window(20)", "", "causal & {}:near(20)"),
    ("alibi(a)", "causal & documents(b)", "{}:leaning(a)", "causal & {}:of_document(b)"),
    ("softcap(5) then alibi(a)", "causal", "softcap(5) then {}:leaning(a)", "causal"),
)


class OwnFunctions(unittest.TestCase):
    def run_with(self, text: str) -> subprocess.CompletedProcess:
        """The cases with this file."""
        name = f"own_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            (work / "bundle" / "generated" / "functions").mkdir(parents=True)
            (work / "bundle" / "generated" / "functions" / f"{name}.py").write_text(text)
            keys = []
            for kernel, sequences in (
                ("attention_decode", [(1, 70), (1, 5)]),
                ("attention_prefill", [(40, 90), (7, 7)]),
            ):
                spec = sources.load_spec(kernel)
                is_decode = kernel == "attention_decode"
                for number, (score, mask, own_score, own_mask) in enumerate(PAIRS):
                    case = attention_case(
                        f"own_{number}", sequences, 4, 2, 64, act="fp32", decode=is_decode
                    )
                    case = with_functions(case, score, mask)
                    target = work / "cases" / kernel / case.name
                    request = cases.request_of(spec, case, "cpu")
                    cases.write_case(target, spec, case, request)
                    own = {"SCORE": own_score.format(name), "MASK": own_mask.format(name)}
                    own = {param: text for param, text in own.items() if text}
                    request = dataclasses.replace(request, functions=own)
                    body = json.loads((target / "case.json").read_text())
                    body["request"] = json.loads(request.key)
                    (target / "case.json").write_text(json.dumps(body))
                    keys.append(request.key)
                    self.assertEqual(Request.parse(request.key), request)
            (work / "requests.jsonl").write_text("\n".join(keys))
            compiling = [sys.executable, "-m", "aot.compile", "--target", "cpu", "--requests",
                         str(work / "requests.jsonl"), "--out", str(work / "bundle"),
                         "--progress", "none"]  # fmt: skip
            subprocess.run(compiling, cwd=sources.ROOT, check=True)
            running = [sys.executable, "tools/run_cases.py", "--target", "cpu", "--cases",
                       str(work / "cases"), "--bundle", str(work / "bundle")]  # fmt: skip
            return subprocess.run(
                running, cwd=sources.ROOT, capture_output=True, text=True, check=False
            )

    def test_they_compute_what_the_builtins_of_that_meaning_do(self):
        done = self.run_with(OWN)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{2 * len(PAIRS)} of {2 * len(PAIRS)} cases hold", done.stdout)

    def test_what_the_file_says_is_what_is_computed(self):
        changed = OWN.replace("q_pos - k_pos < n", "q_pos - k_pos < n + 1")
        changed = changed.replace("score + tl.load", "score - tl.load")
        changed = changed.replace("width + 1)", "width + 1) - 1")
        done = self.run_with(changed)
        self.assertIn(f"0 of {2 * len(PAIRS)} cases hold", done.stdout)


if __name__ == "__main__":
    unittest.main()
