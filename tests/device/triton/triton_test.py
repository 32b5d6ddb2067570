"""Every program of programs_*.py gives what its oracle gives; see harness.py."""

import os
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[3]), str(Path(__file__).parent)]

import harness  # noqa: E402
import programs_assembly  # noqa: E402


def difference(got: np.ndarray, want: np.ndarray, rtol: float, atol: float) -> str:
    """Empty where they agree; NaN equals NaN."""
    want = np.asarray(want).reshape(got.shape)
    if got.dtype.kind == "f":
        same = np.isclose(got, want.astype(got.dtype), rtol, atol, equal_nan=True)
        if not rtol and not atol:
            same = (got == want) | (np.isnan(got) & np.isnan(want))
    else:
        same = got == want
    if same.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    n_wrong = int((~same).sum())
    return f"{n_wrong} of {got.size} differ, first at {at}: {got[at]!r}, expected {want[at]!r}"


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nereid-programs-")
        cls.addClassCleanup(folder.cleanup)
        path = Path(folder.name)
        oracle = harness.start_interpreter(path / "oracle.npz")
        cls.cases = harness.all_cases()
        cls.programs = harness.Programs(cls.cases, path)
        assert oracle.wait() == 0, "the interpreter's process failed"
        cls.oracle = dict(np.load(path / "oracle.npz"))

    def expected(self, index, case):
        if case.want is not None:
            before = [harness.bits_of(a) if harness.bits_of(a) is not None else a
                      for a in case.args]  # fmt: skip
            with np.errstate(all="ignore"):
                return case.want(before)
        self.assertNotIn(f"{index}.error", self.oracle, "the interpreter failed")
        return {
            i: self.oracle[f"{index}.{i}"]
            for i, a in enumerate(case.args)
            if harness.bits_of(a) is not None
        }

    def test_every_program(self):
        for index, case in enumerate(self.cases):
            with self.subTest(case.label):
                self.assertNotIn(index, self.programs.failures, self.programs.failures.get(index))
                got, text = harness.captured(self.programs.run, index, case)
                if case.stdout is not None:
                    self.assertEqual(text, case.stdout)
                    continue
                for i, want in self.expected(index, case).items():
                    arg = case.args[i]
                    want = harness.values_of(arg, np.asarray(want))
                    wrong = difference(harness.values_of(arg, got[i]), want, case.rtol, case.atol)
                    self.assertEqual(wrong, "", f"argument {i}")

    def test_a_refusal_names_the_python_line(self):
        x = np.zeros(16, np.int32)
        case = harness.Case(programs_assembly.refused, (1,), [x, x], {"BLOCK": 16})
        with tempfile.TemporaryDirectory() as folder:
            failures = harness.Programs([case], Path(folder)).failures
        lines = Path(programs_assembly.__file__).read_text().splitlines()
        at = [1 + next(i for i, line in enumerate(lines) if text in line)
              for text in ('"bar.sync 0;', "joined(tl.load")]  # fmt: skip
        self.assertIn("tt.elementwise_inline_asm: bar.sync: instruction not supported", failures[0])
        place = "(at programs_assembly.py:{} from programs_assembly.py:{})".format(*at)
        self.assertIn(place, failures[0])

    def test_a_failed_assertion_ends_the_process(self):
        self.check_that_it_ends("asserts_below", 0, 3, 100, "too large")
        self.check_that_it_ends("asserts_in_reduce", 1, 5, -1, "negative")

    def check_that_it_ends(self, label, argument, at, value, text):
        """With that element in an argument."""
        index = next(i for i, c in enumerate(self.cases) if c.label == label)
        case = self.cases[index]
        self.programs.run(index, case)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(write, 2)
            case.args[argument][at] = value
            self.programs.run(index, case)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as file:
            message = file.read()
        self.assertNotEqual(os.waitpid(child, 0)[1], 0)
        self.assertIn(f"pid (0, 0, 0): assertion failed: {text}", message)


if __name__ == "__main__":
    unittest.main()
