"""Texts of attention's functions in Python: read, given a meaning, made Triton functions."""

import dataclasses
import sys
import tempfile
import types
import unittest
from pathlib import Path

import numpy as np
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aot import cases, sources
from aot.request import Request, RequestError
from aot.targets import cpu
from aot.targets.common import triton_scratch
from aot.targets.functions import composed
from kernels.lib import attention_functions as functions
from kernels.lib.function_cases import with_functions
from kernels.lib.function_text import Call, Combined, FunctionTextError, parse_mask, parse_score
from kernels.lib.paged_cases import attention_case

OWN = """import triton
import triton.language as tl


@triton.jit
def near(seq, head, token, q_pos, k_pos, n):
    return q_pos - k_pos < n


@triton.jit
def lifted(score, seq, head, token, q_pos, k_pos, by, by_width):
    return score + tl.load(by + head)


def plain(seq, head, token, q_pos, k_pos):
    return k_pos >= 0
"""


class At:
    """An address."""

    def __init__(self, array, offset=0):
        self.array, self.offset = array, offset

    def __add__(self, n):
        return At(self.array, self.offset + n)


class Language:
    """What masks use of triton.language, in numpy."""

    maximum, minimum, where = np.maximum, np.minimum, np.where

    @staticmethod
    def load(at):
        return at.array.ravel()[at.offset]


def in_numpy(fn):
    """A Triton function as the Python that it is, and those that it calls."""
    known = dict(fn.fn.__globals__)
    for name, value in known.items():
        if isinstance(value, JITFunction):
            known[name] = types.FunctionType(value.fn.__code__, known)
    known |= {"tl": Language, "NO_END": functions.NO_END.value}
    return types.FunctionType(fn.fn.__code__, known)


class Texts(unittest.TestCase):
    def test_and_binds_more_than_or(self):
        a, b = Call("causal"), Call("window", ("9",))
        c = Call("odd", ("a",), "my/own.py")
        self.assertEqual(
            parse_mask("causal & window(9) | my/own.py:odd(a)"),
            Combined("|", (Combined("&", (a, b)), c)),
        )
        self.assertEqual(
            parse_mask("causal&(window( 9 )|my/own.py:odd(a))"),
            Combined("&", (a, Combined("|", (b, c)))),
        )
        self.assertEqual(
            parse_score("alibi(b) then softcap(3e1)"),
            (Call("alibi", ("b",)), Call("softcap", ("3e1",))),
        )

    def test_what_has_no_form(self):
        for text in ("", "&", "causal &", "(causal", "causal)", "window(", "window(3,)", "causal;",
                     "causal causal", "window(x)", "window()"):  # fmt: skip
            with self.assertRaises(FunctionTextError, msg=text):
                parse_mask(text)
        for text in ("then", "softcap(3) then", "softcap(3) & softcap(4)"):
            with self.assertRaises(FunctionTextError, msg=text):
                parse_score(text)


class Meanings(unittest.TestCase):
    """By loops over positions, written out."""

    def setUp(self):
        self.n_q, self.n_kv = 5, 9
        q = np.arange(self.n_kv - self.n_q, self.n_kv)[:, None]
        self.at = (1, 2, np.arange(3, 3 + self.n_q), q, np.arange(self.n_kv)[None, :])

    def each(self, rule):
        first = self.n_kv - self.n_q
        rows = [[rule(first + i, j, i) for j in range(self.n_kv)] for i in range(self.n_q)]
        return np.array(rows)

    def test_masks(self):
        tensors = {
            "a": np.array([0, 4, 9], np.int32),
            "b": np.array([(0, 0)] * 3 + [(0, 5), (5, 7), (5, 7), (7, 9), (7, 9)], np.int32),
        }
        document = [0] * 5 + [1] * 2 + [2] * 2
        for text, rule in {
            "causal": lambda q, k, i: k <= q,
            "causal & window(3)": lambda q, k, i: q - 3 < k <= q,
            "window(2)": lambda q, k, i: k > q - 2,
            "causal & window(2) | prefix(a)": lambda q, k, i: q - 2 < k <= q or k < 4,
            "causal & (window(2) | prefix(a))": lambda q, k, i: k <= q and (k > q - 2 or k < 4),
            "documents(b)": lambda q, k, i: document[q] == document[k],
            "causal & documents(b)": lambda q, k, i: k <= q and document[q] == document[k],
        }.items():
            np.testing.assert_array_equal(
                functions.kept(text, self.at, tensors) & np.ones((self.n_q, 1), bool),
                self.each(rule),
                text,
            )

    def test_scores(self):
        score = np.linspace(-9, 9, self.n_q * self.n_kv).reshape(self.n_q, self.n_kv)
        slopes = np.array([0.5, 0.25, 0.125], np.float32)
        table = np.arange(3 * 5, dtype=np.float32).reshape(3, 5)
        for text, tensors, rule in (
            ("softcap(4)", {}, lambda x, q, k: 4 * np.tanh(x / 4)),
            ("alibi(a)", {"a": slopes}, lambda x, q, k: x - 0.125 * (q - k)),
            ("alibi(a) then softcap(4)", {"a": slopes},
             lambda x, q, k: 4 * np.tanh((x - 0.125 * (q - k)) / 4)),
            ("softcap(4) then alibi(a)", {"a": slopes},
             lambda x, q, k: 4 * np.tanh(x / 4) - 0.125 * (q - k)),
            ("relative_bias(b)", {"b": table},
             lambda x, q, k: x + 10 + min(max(q - k, -2), 2) + 2),
        ):  # fmt: skip
            want = self.each(lambda q, k, i, rule=rule: rule(score[i, k], q, k))
            np.testing.assert_allclose(
                functions.scored(text, score, self.at, tensors), want, err_msg=text
            )


class Composed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(sources.use_generated, None)
        (Path(folder.name) / "functions").mkdir()
        (Path(folder.name) / "functions" / "own_0123.py").write_text(OWN)
        sources.use_generated(Path(folder.name))

    def test_one_text_is_one_function(self):
        first = composed("mask", "causal & window(9)")
        self.assertIs(first, composed("mask", "causal & window(9)"))
        self.assertNotEqual(first.cache_key, composed("mask", "causal & window(10)").cache_key)

    def test_errors_say_what_there_is(self):
        for kind, text, said in (
            ("mask", "casual", "there is no mask function casual; there are causal, window"),
            ("score", "causal", "there is no score function causal; there are softcap, alibi"),
            ("mask", "window", r"window takes \(count\), given \(\)"),
            (
                "mask",
                "own_0123:far(2)",
                "own_0123 has no function far with @triton.jit; it has near",
            ),
            ("mask", "own_0123:plain", "no function plain with @triton.jit"),
            ("mask", "own_0123:near", "1 arguments, given 0"),
            ("score", "own_0123:lifted(3)", "2 arguments, given 1; a tensor counts as two"),
            ("mask", "other_0123:near(2)", "the file of other_0123:near is not at"),
        ):
            with self.assertRaisesRegex(RequestError, said):
                composed(kind, text)

    def test_ranges_hold_what_is_kept_and_only_that(self):
        """Of drawn masks, at drawn positions: what is kept lies in the one, and all of the other is
        kept, of every query."""
        for seed in range(300):
            g = np.random.default_rng(seed)
            n_kv = int(g.integers(1, 60))
            n_q = int(g.integers(1, n_kv + 1))
            parts = ["causal", f"window({g.integers(1, 20)})", "prefix(a)", "documents(b)"]
            g.shuffle(parts)
            text = parts[0]
            for part in parts[1 : int(g.integers(1, 5))]:
                text = f"({text} {g.choice(['&', '|'])} {part})"
            # Some documents are empty, some of no order.
            tensors = {
                "a": g.integers(0, n_kv + 2, 3).astype(np.int32),
                "b": g.integers(0, n_kv + 2, (n_q, 2)).astype(np.int32),
            }
            q_pos, k_pos = np.arange(n_kv - n_q, n_kv)[:, None], np.arange(n_kv)[None, :]
            token = np.arange(n_q)
            bound = tuple((At(x), x.shape[-1]) for x in tensors.values())
            params = (0, 0.0, n_kv, *bound[0], *bound[1])
            at = (1, 0, token[:, None], q_pos, k_pos)
            keep, seen, whole = in_numpy(composed("mask", text))(at, params)
            want = functions.kept(text, (1, 0, token, q_pos, k_pos), tensors)
            want = want & np.ones((n_q, 1), bool)
            with self.subTest(seed=seed, text=text):
                np.testing.assert_array_equal(keep & np.ones((n_q, 1), bool), want)
                self.assertFalse((want & ~((k_pos >= seen[0]) & (k_pos < seen[1]))).any())
                self.assertTrue(want[(k_pos >= whole[0]) & (k_pos < whole[1]) & (q_pos >= 0)].all())
                if "|" not in text:  # both are exactly that
                    np.testing.assert_array_equal(seen[0] + 0 * q_pos, whole[0] + 0 * q_pos)
                    np.testing.assert_array_equal(seen[1] + 0 * q_pos, whole[1] + 0 * q_pos)

    def request(self, **given) -> Request:
        spec = sources.load_spec("attention_decode")
        case = attention_case("own", [(1, 70)], 2, 1, 64, act="fp32", decode=True)
        return cases.request_of(spec, with_functions(case, **given), "cpu")

    def test_a_users_own_functions_are_compiled_into_the_kernel(self):
        own = self.request(score="alibi(a)", mask="causal & window(9)")
        own = dataclasses.replace(
            own, functions={"SCORE": "own_0123:lifted(a)", "MASK": "causal & own_0123:near(9)"}
        )
        with triton_scratch():
            _, text = cpu.ttir_text(own)
        for line in ("return q_pos - k_pos < n", "return score + tl.load(by + head)"):
            number = OWN.splitlines().index(f"    {line}") + 1
            self.assertIn(f"own_0123.py:{number}", text)
        with self.assertRaisesRegex(RequestError, "takes the functions"):
            dataclasses.replace(own, functions={"OTHER": "causal"}).check(
                sources.load_spec("attention_decode")
            )

    def test_a_key_has_functions_only_where_there_are_any(self):
        plain = self.request()
        self.assertNotIn("functions", plain.key)
        own = self.request(mask="causal & window(9)")
        self.assertIn('"functions":{"MASK":"causal & window(9)"},"kernel"', own.key)
        self.assertEqual(Request.parse(own.key), own)


if __name__ == "__main__":
    unittest.main()
