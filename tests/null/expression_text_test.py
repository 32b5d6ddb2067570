"""Expressions as kernels take them: what each means in numpy, against values of this file's own,
that Triton's form calls nothing of numpy's, and faults by name."""

import math
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from aot.request import RequestError
from aot.targets.functions import composed
from kernels.lib.expression_text import functions_of, meaning, values_of

erf = np.vectorize(math.erf, otypes=[np.float64])
MEANINGS = {
    "exp(x)": np.exp,
    "log(abs(x))": lambda x: np.log(np.abs(x)),
    "tanh(x)": np.tanh,
    "erf(x)": erf,
    "sigmoid(x)": lambda x: 1 / (1 + np.exp(-x)),
    "sqrt(abs(x)) * rsqrt(abs(x))": lambda x: np.ones_like(x),
    "where(x < 0.5, -x, x)": lambda x: np.where(x < 0.5, -x, x),
    "min(x, 1.0) - max(x, -1.0)": lambda x: np.minimum(x, 1) - np.maximum(x, -1),
    "fp32(x) - fp16(x) + bf16(x)": lambda x: (
        x.astype(np.float32) - x.astype(np.float16) + np.float64(bf16(x))
    ),
    "relu(x)": lambda x: x * (x > 0),
    "silu(x)": lambda x: x / (1 + np.exp(-x)),
    "gelu(x)": lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh(x)": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "t = x / 3.0; return softcap(t, 2.0) + t": lambda x: 2 * np.tanh(x / 6) + x / 3,
}


def bf16(x):
    """To nearest, by the exponent: 8 digits."""
    unit = 2.0 ** (np.floor(np.log2(np.abs(x))) - 7)
    return np.round(x / unit) * unit


class ExpressionText(unittest.TestCase):
    def test_meanings(self):
        seed = 11
        x = np.random.default_rng(seed).standard_normal(64) * 3
        for text, wanted in MEANINGS.items():
            got = meaning(f"(x) -> {text}")(x)
            np.testing.assert_allclose(got, wanted(x), 1e-12, 1e-12, err_msg=f"{text}, seed {seed}")

    def test_of_two(self):
        text = "(gate, up) -> silu(gate) * up"
        self.assertEqual(values_of(text), ["gate", "up"])
        got = meaning(text)(np.array([1.0, -800.0]), np.array([2.0, 3.0]))
        np.testing.assert_allclose(got, [2 / (1 + math.exp(-1)), 0.0], 1e-15)

    def test_triton_has_all_that_is_called(self):
        for text in MEANINGS:
            fn = composed("expression", f"(x) -> {text}")
            self.assertEqual(fn.arg_names, ["x"])
            called = "\n".join(functions_of(f"(x) -> {text}", "f", "triton"))
            for module in ("np.", "stored"):
                self.assertNotIn(module, called)

    def test_faults(self):
        for text, said in (
            ("silu", "expected an expression"),
            ("(x) -> x +", "expected an expression"),
            ("(x) -> sinh(x)", "there is no sinh of 1 values"),
            ("(x) -> tanh(x, x)", "there is no tanh of 2 values"),
            ("(x) -> mean(x)", "there is no mean of 1 values"),
        ):
            with self.assertRaisesRegex(RequestError, said):
                composed("expression", text)


if __name__ == "__main__":
    unittest.main()
