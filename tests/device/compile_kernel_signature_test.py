"""nereid compile-kernel: what a signature can say, configs and heuristics; each kernel's values are
compared with numpy's."""

import random
import unittest

import numpy as np
from compile_kernel.harness import FOLDER, Case

FILE = f"{FOLDER}/signatures.py"


def fp32(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8, 8, n).astype(np.float32)


class Signatures(Case):
    def test_names_defaults_and_more(self):
        """The same call written in several ways is the same kernel."""
        texts = set()
        for signature in (
            "*fp32,*fp32,i32,constexpr=2.0,constexpr=None,N=constexpr=16",
            "*fp32,*fp32,i32",
            "n=i32,y_ptr=*fp32,x_ptr=*fp32",
            "*fp32,y_ptr=*fp32,n=i32,bias_ptr=None,F=constexpr=double",
            " *fp32 , *fp32 , i32 , F = constexpr=signatures.double , more = () ",
        ):
            self.compiles(f"{FILE}:many", signature)
            texts.add((self.out / "many.ttir").read_text())
        self.assertEqual(len(texts), 1, texts)
        x, y = fp32(16), np.zeros(16, np.float32)
        self.call("many", x, y, np.int32(11))
        np.testing.assert_array_equal(y, np.where(np.arange(16) < 11, 4 * x + 1, 0))

    def test_args(self):
        x, y, b, c = fp32(8, 1), np.zeros(8, np.float32), fp32(8, 2), fp32(8, 3)
        for signature, more in (
            ("*fp32,*fp32,i32,fp32,None,*fp32,*fp32:16,N=constexpr=8,flag=constexpr=False", (b, c)),
            (
                "*fp32,*fp32,i32,scale=fp32,more=(*fp32,*fp32),N=constexpr=8,flag=constexpr=0",
                (b, c),
            ),
            ("*fp32,*fp32,i32,scale=fp32,more=(*fp32,),N=constexpr=8,flag=constexpr=0", (b,)),
        ):
            self.compiles(f"{FILE}:many", signature)
            self.header_is_clean("many")
            self.call("many", x, y, np.int32(8), np.float32(3), *more)
            np.testing.assert_array_equal(y, 6 * x + sum(more))

    def test_tuples(self):
        signature = "(x=*fp32,y=*fp32:16),(i32,(fp32,constexpr=3)),*fp32,constexpr=16"
        self.compiles(f"{FILE}:tuples", signature)
        self.header_is_clean("tuples")
        names = [name for name, _ in self.manifest("tuples")["args"]]
        self.assertEqual(names, ["p.x", "p.y", "s.0", "s.1.0", "out"])
        x, y, out = fp32(16, 1), fp32(16, 2), np.zeros(16, np.float32)
        self.call("tuples", x, y, np.int32(5), np.float32(0.5), out)
        np.testing.assert_array_equal(out, x * 0.5 + y * 5 + 3)

    def test_constants(self):
        for f, factor, ab in (
            ("double", 2, "((-2,),3.5)"),
            ("signatures.double", 2, "[[-2], 3.5]"),
            ("triple_above.tripled", 3, "((-2,), HALF)"),
        ):
            others = "constexpr='a,b',constexpr=tl.float32,constexpr=none"
            signature = f"*fp32,constexpr=16,constexpr={f},constexpr={ab},{others}"
            self.compiles(f"{FILE}:constants", signature)
            x = fp32(16)
            before = x.copy()
            self.call("constants", x)
            np.testing.assert_array_equal(x, factor * before * -2 + 3.5)

    def test_descriptors(self):
        """Given apart, as Triton gives them: blocks at any place, past the edges too."""
        seed = random.randrange(10**6)
        rng = random.Random(seed)
        self.compiles(f"{FILE}:block_of", "tensordesc<fp32[4,8]>,i32,i32,*fp32")
        self.header_is_clean("block_of")
        for _ in range(20):
            shape = (rng.randint(1, 12), rng.randint(1, 20))
            stride = rng.randint(shape[1], 24)
            at = (rng.randint(-5, 12), rng.randint(-9, 20))
            nan = rng.random() < 0.5
            data = np.random.default_rng(rng.randrange(99)).random((shape[0], stride), np.float32)
            given = [np.int64(v) for v in (*shape, stride, 1)]
            again = [*map(np.int32, shape), np.int64(stride), np.int64(1)]
            out = np.zeros((4, 8), np.float32)
            self.call("block_of", data, *given, np.int8(nan), np.int8(0), *again,
                      *map(np.int32, at), out)  # fmt: skip
            want = np.full((4, 8), np.nan if nan else 0, np.float32)
            for i in range(4):
                for j in range(8):
                    if 0 <= at[0] + i < shape[0] and 0 <= at[1] + j < shape[1]:
                        want[i, j] = 2 * data[at[0] + i, at[1] + j]
            np.testing.assert_array_equal(out, want + shape[0], f"seed {seed}: {shape} {at}")

    def test_messages(self):
        for signature, message in (
            ("*fp32,*fp32", "2 types for 9 parameters: x_ptr, y_ptr, n"),
            ("*fp32,*fp32", "; n has none, and no default"),
            ("*fp32,*fp32,i32,zz=i32", "no parameter zz; there are x_ptr"),
            ("*fp32,*fp32,i32,n=i32", "parameter n is given twice"),
            ("*fp32,y_ptr=*fp32,i32", "'i32' stands behind a parameter by name"),
            ("*fp32,*fp32,i32,more=*fp32", "parameter *more is a tuple"),
            ("*fp32,*fp32,i32,N=i32", "parameter N: a constexpr has a value"),
            ("*fp32,*fp32,i32,F=constexpr=gone", "constant 'gone'; expected a number, True"),
            ("*fp32,*fp32,i32,F=constexpr=f(2)", "f(2) is none of these"),
            ("*fp32,*fp32,(i32", "'(' is not closed"),
            ("*fp32,*fp32,i32)", "')' closes nothing"),
            ("*fp32,*fp32,(a=i32,i32)", "all members of a tuple have names, or none"),
            ("tensordesc<fp32>,*fp32,i32", "expected a descriptor as tensordesc<fp16[128,64]>"),
            ("*fp33,*fp32,i32", "parameter x_ptr: type '*fp33'; expected [*]TYPE[:16]"),
        ):
            self.assertIn(message, self.refuses(f"{FILE}:many", signature))


class Configs(Case):
    def test_a_config_is_chosen(self):
        tuned = f"{FILE}:tuned"
        said = self.refuses(tuned, "*fp32,i32")
        self.assertIn("has 3 configs; choose with --config N", said)
        self.assertIn("\n  1: BLOCK=64,num_warps=8,num_ctas=1,num_stages=2\n", said)
        for config, block in (("1", 64), ("BLOCK=32", 32), ("BLOCK=64,num_warps=4", 64)):
            self.compiles(tuned, "*fp32,i32", "--config", config)
            self.assertEqual(self.manifest("tuned")["constexprs"]["BLOCK"], str(block))
        for config, message in (("3", "tuned has 3:"), ("BLOCK=64", "is 2 of the configs"),
                                ("BLOCK=", "expected a number, or 'BLOCK=64"),
                                ("BLOCK=65", "is 0 of the configs")):  # fmt: skip
            self.assertIn(message, self.refuses(tuned, "*fp32,i32", "--config", config))
        # The signature's word counts most; then no config is needed.
        self.compiles(tuned, "*fp32,i32,BLOCK=constexpr=16")
        self.assertEqual(self.manifest("tuned")["constexprs"],
                         {"BLOCK": "16", "TWICE": "32"})  # fmt: skip
        self.assertIn(
            "has no @triton.autotune",
            self.refuses(f"{FILE}:many", "*fp32,*fp32,i32", "--config", 0),
        )

    def test_warps_are_the_configs_unless_asked(self):
        for more, n_warps in (((), 8), (("--num-warps", "2"), 2)):
            self.compiles(f"{FILE}:tuned", "*fp32,i32", "--config", "1", *more, target="cuda:80")
            facts = self.manifest("tuned")
            self.assertEqual((facts["num_warps"], facts["num_stages"]), (n_warps, 2))

    def test_all_configs(self):
        self.compiles(f"{FILE}:tuned", "*fp32,i32", "--all-configs", "--name", "t")
        blocks = [self.manifest(f"t_{i}")["constexprs"]["BLOCK"] for i in range(3)]
        self.assertEqual(blocks, ["32", "64", "64"])
        x = fp32(64)
        before = x.copy()
        self.call("t_2", x, np.int32(50))
        np.testing.assert_array_equal(x, before + 128 * (np.arange(64) < 50))

    def test_heuristics(self):
        guess = f"{FILE}:guess"
        self.compiles(guess, "*fp32,None,constexpr=40")
        self.assertEqual(self.manifest("guess")["constexprs"],
                         {"b_ptr": "None", "n": "40", "BLOCK": "64", "HAS_B": "False"})  # fmt: skip
        self.compiles(guess, "*fp32,*fp32,i32,BLOCK=constexpr=8")
        self.assertEqual(self.manifest("guess")["constexprs"], {"BLOCK": "8", "HAS_B": "True"})
        self.assertIn("parameter BLOCK: the heuristic of signatures.py:guess asks for n, which only"
                      " a launch gives", self.refuses(guess, "*fp32,None,i32"))  # fmt: skip


if __name__ == "__main__":
    unittest.main()
