"""Graphs of users: they give what numpy gives, in every mode, whatever the sizes; operations from
files; every fault named with its file and line."""

import json
import os
import re
import sys
import time

import nereid_cli as cli
import numpy as np

# The file of the tutorial, which is run there; here it is changed and put into other graphs.
TUTORIAL = (cli.ROOT / "docs" / "adding_an_op.md").read_text()
GROUP_SUM = re.search(r"^```python group_sum.py\n(.*?)^```$", TUTORIAL, re.M | re.S)[1]

MLP = """graph mlp {
  size rows
  input %x: fp32[rows, 96]
  weight %norm: fp32[96]
  weight %gate: fp32[64, 96]
  weight %up: fp32[64, 96]
  weight %down: fp32[96, 64]
  %n: fp32[rows, 96] = rms_norm %x, %norm
  %g: fp32[rows, 64] = linear %n, %gate
  %u: fp32[rows, 64] = linear %n, %up
  %h: fp32[rows, 64] = silu_mul %g, %u
  %d: fp32[rows, 96] = linear %h, %down
  %y: fp32[rows, 96] = add %x, %d
  %sums: fp32[rows, 24] = group_sum %y {size = 4}
  %gates: fp32[rows, 32] = group_sum %g {size = 2}
  %head: fp32[rows, 16] = slice %y {begin = 32, size = 16}
  return %y, %sums, %gates, %head
}
"""

CACHE = """graph cache {
  input %k: fp32[T, 2, 8]
  input %v: fp32[T, 2, 8]
  input %slots: i32[T]
  state %cache.k: fp32[3, 2, 4, 8]
  state %cache.v: fp32[3, 2, 4, 8]
  %keys: fp32[3, 2, 4, 8], %values: fp32[3, 2, 4, 8] = kv_write %k, %v, %slots, %cache.k, %cache.v
  return %keys, %values
}
"""

ATTENTION = """graph attention {
  input %q: fp32[T, 4, 32]
  state %cache.k: fp32[16, 2, 64, 32]
  state %cache.v: fp32[16, 2, 64, 32]
  input %tables: i32[S, 3]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %y: fp32[T, 4, 32] = attention %q, %cache.k, %cache.v, %tables, %starts, %lens {scale = 0.25}
  return %y
}
"""

# An operation that writes a state: what it has counted so far.
TALLY = """import numpy as np
import triton
import triton.language as tl

from kernels.spec import Case, Row, Spec, inout, inp, normal, rng, size, step_size, tuned


@triton.jit
def tally(total_ptr, x_ptr, n_rows, n_cols, BLOCK: tl.constexpr):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(total_ptr + cols, mask=cols < n_cols, other=0.0)
    for row in range(n_rows):
        total += tl.load(x_ptr + row * n_cols + cols, mask=cols < n_cols, other=0.0)
    tl.store(total_ptr + cols, total, mask=cols < n_cols)


def reference(a):
    return {"total_ptr": a["total_ptr"] + a["x_ptr"].astype(np.float64).sum(axis=0)}


def draw(d, act):
    n_rows, n_cols = d.rows(9), d.width(1, 200)
    g = rng(d.name)
    args = {"total_ptr": normal(g, n_cols), "x_ptr": normal(g, n_rows, n_cols),
            "n_rows": n_rows, "n_cols": n_cols}
    return Case(d.name, args, {"total_ptr": "fp32", "x_ptr": "fp32"})


CHOICE = {"BLOCK": 64, "num_warps": 1, "num_stages": 1}
SPEC = Spec(
    fn=tally,
    op="tally",
    row=Row("total:fp32[C] x:fp32[N,C]", "total:=total", in_place="total=total"),
    params=(
        inout("total_ptr", "fp32", "n_cols"),
        inp("x_ptr", "fp32", "n_rows", "n_cols"),
        step_size("n_rows", of="x[0]"),
        size("n_cols", of="x[1]"),
        tuned("BLOCK"),
    ),
    grid=("cdiv(n_cols, BLOCK)", "1", "1"),
    bytes="(n_rows + 2) * n_cols * 4",
    flops="n_rows * n_cols",
    reference=reference,
    cases=lambda act: (),
    draw=draw,
    tuned=("BLOCK",),
    default={"cpu": CHOICE, "cuda": CHOICE, "hip": CHOICE},
)
"""

TALLIES = """graph tallies {
  size rows
  state %seen: fp32[100]
  input %x: fp32[rows, 100]
  %once: fp32[100] = tally %seen, %x
  %twice: fp32[100] = tally %once, %x
  return %twice
}
"""

SEED = int(os.environ.get("NEREID_SEED", time.time_ns() % 2**32))  # of sizes and tensors
NUMPY = {"F32": np.float32, "F16": np.float16, "I32": np.int32}


def silu(x):
    return x / (1 + np.exp(-x))


def mlp(t):
    x = t["x"].astype(np.float64)
    n = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * t["norm"]
    g = n @ t["gate"].T.astype(np.float64)
    y = x + (silu(g) * (n @ t["up"].T)) @ t["down"].T
    rows = len(x)
    return {
        "y": y,
        "sums": y.reshape(rows, 24, 4).sum(axis=2),
        "gates": g.reshape(rows, 32, 2).sum(axis=2),
        "head": y[:, 32:48],
    }


def attention(t):
    y = np.zeros(t["q"].shape)
    for s, blocks in enumerate(t["tables"]):
        k, v = (
            np.concatenate([t[name][b].transpose(1, 0, 2) for b in blocks]).astype(np.float64)
            for name in ("cache.k", "cache.v")
        )
        n_query = t["starts"][s + 1] - t["starts"][s]
        for i in range(n_query):
            n_keys = t["lens"][s] - n_query + i + 1
            row = t["starts"][s] + i
            for head in range(4):
                scores = k[:n_keys, head // 2] @ t["q"][row, head] * 0.25
                p = np.exp(scores - scores.max())
                y[row, head] = p @ v[:n_keys, head // 2] / p.sum()
    return y


class RunGraph(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(SEED)
        self.op = self.write("group_sum.py", GROUP_SUM)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def inputs(self, name="x.safetensors", **arrays):
        names = {np.dtype(kind): text for text, kind in NUMPY.items()}
        path = self.folder / name
        path.write_bytes(
            cli.safetensors_bytes({key: (names[a.dtype], a) for key, a in arrays.items()})
        )
        return path

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def mlp_tensors(self, rows):
        return {
            "x": self.normal(rows, 96),
            "norm": self.normal(96),
            **{name: self.normal(64, 96) / 10 for name in ("gate", "up")},
            "down": self.normal(96, 64) / 8,
        }

    def run_graph(self, text, tensors, *options, name="graph.txt"):
        graph = self.write(name, text)
        out = self.folder / "y.safetensors"
        out.unlink(missing_ok=True)
        result = cli.run(
            "run", graph, "--inputs", self.inputs(**tensors), "--out", out, "--device", "cpu",
            *options,
        )  # fmt: skip
        if result.returncode != 0:
            return result, None
        return result, {key: a for key, (_, a) in cli.read_safetensors(out).items()}

    def test_every_mode_gives_what_numpy_gives(self):
        for rows in (1, int(self.rng.integers(2, 40)), 0):
            tensors = self.mlp_tensors(rows)
            for options in (
                ["--mode", "eager"],
                ["--mode", "compiled"],
                ["--skip-pass", "fuse_norm"],
            ):
                with self.subTest(rows=rows, options=options):
                    result, got = self.run_graph(MLP, tensors, "--op", self.op, *options)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    want = mlp(tensors)
                    self.assertEqual(set(got), set(want))
                    for name, array in want.items():
                        self.assertEqual(got[name].shape, array.shape)
                        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)
        self.expect_error(
            self.run_graph(MLP, tensors, "--op", self.op, "--mode", "graph")[0], "cannot capture"
        )

    def test_a_state_is_what_was_given_and_what_was_written(self):
        n = int(self.rng.integers(1, 8))
        tensors = {
            "k": self.normal(n, 2, 8),
            "v": self.normal(n, 2, 8),
            "slots": self.rng.permutation(12)[:n].astype(np.int32),
            "cache.k": self.normal(3, 2, 4, 8),
            "cache.v": self.normal(3, 2, 4, 8),
        }
        result, got = self.run_graph(CACHE, tensors)
        self.assertEqual(result.returncode, 0, result.stderr)
        for rows, cache, output in (("k", "cache.k", "keys"), ("v", "cache.v", "values")):
            want = tensors[cache].copy()
            for row, slot in zip(tensors[rows], tensors["slots"], strict=True):
                want[slot // 4, :, slot % 4] = row
            np.testing.assert_array_equal(got[output], want)

    def test_an_op_may_write_a_state(self):
        op = self.write("tally.py", TALLY)
        tensors = {"seen": self.normal(100), "x": self.normal(int(self.rng.integers(0, 20)), 100)}
        for options in (["--mode", "eager"], ["--mode", "compiled", "--bench", "1"]):
            result, got = self.run_graph(TALLIES, tensors, "--op", op, *options)
            self.assertEqual(result.returncode, 0, result.stderr)
            want = tensors["seen"] + 2.0 * tensors["x"].sum(axis=0, dtype=np.float64)
            np.testing.assert_allclose(got["twice"], want, rtol=1e-4, atol=1e-4)
        self.expect_error(
            self.run_graph(TALLIES.replace("state", "input"), tensors, "--op", op)[0],
            "graph.txt:5: tally: operand total (%seen): expected a state, since it is written in",
        )

    def test_attention_decodes_where_each_sequence_brings_a_row(self):
        """And takes a step for a prompt's where one sequence brings what another does not."""
        for queries in ([1, 1, 1], [2, 0, 1], [1], [5, int(self.rng.integers(1, 70))]):
            lens = np.array([q + int(self.rng.integers(0, 90)) for q in queries], np.int32)
            starts = np.cumsum([0, *queries]).astype(np.int32)
            tensors = {
                "q": self.normal(sum(queries), 4, 32),
                "cache.k": self.normal(16, 2, 64, 32),
                "cache.v": self.normal(16, 2, 64, 32),
                "tables": self.rng.permutation(16)[: 3 * len(queries)].reshape(-1, 3),
                "starts": starts,
                "lens": lens,
            }
            tensors["tables"] = tensors["tables"].astype(np.int32)
            for mode in ("eager", "compiled"):
                with self.subTest(queries=queries, mode=mode):
                    result, got = self.run_graph(ATTENTION, tensors, "--mode", mode)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    np.testing.assert_allclose(got["y"], attention(tensors), rtol=1e-4, atol=1e-4)

    def test_half_precision_and_two_kernels_of_one_op(self):
        """Which kernel computes, `when` says: the other one is wrong on purpose."""
        wrong = GROUP_SUM.replace("sums = tl.sum(", "sums = 1000 + tl.sum(").replace(
            "    row=Row(", '    when="rows > 8",\n    row=Row('
        )
        other = self.write("other.py", wrong)
        text = """graph g {
  size n
  input %x: fp16[n, 12]
  %y: fp16[n, 4] = group_sum %x {size = 3}
  return %y
}
"""
        for rows, extra in ((5, 0), (9, 1000)):
            x = self.normal(rows, 12).astype(np.float16)
            result, got = self.run_graph(text, {"x": x}, "--op", self.op, "--op", other)
            self.assertEqual(result.returncode, 0, result.stderr)
            want = x.astype(np.float64).reshape(rows, 4, 3).sum(axis=2) + extra
            np.testing.assert_allclose(got["y"], want, rtol=2e-3, atol=2e-3)

    def test_a_bundle_needs_no_python(self):
        tensors = self.mlp_tensors(3)
        graph, bundle = self.write("graph.txt", MLP), self.folder / "bundle"
        made = cli.run(
            "compile-graph", graph, "--inputs", self.inputs(**tensors), "--op", self.op,
            "--target", "cpu", "--out", bundle,
        )  # fmt: skip
        self.assertEqual(made.returncode, 0, made.stderr)
        environment = os.environ | {
            "NEREID_PYTHON": "/nowhere", "XDG_CACHE_HOME": str(self.folder / "cache")
        }  # fmt: skip
        run = [
            "run", graph, "--inputs", self.folder / "x.safetensors", "--op", self.op,
            "--target", "cpu", "--bundle", bundle, "--out", self.folder / "out.safetensors",
        ]  # fmt: skip
        result = cli.run(*run, "--prove", "--bench", "2", env=environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"stand in {bundle}", result.stdout)
        self.assertRegex(
            result.stdout, r"\ngroup_sum +sums +group_sum_[0-9a-f]{12} +3 x 24 +[\d.]+ "
        )
        got = cli.read_safetensors(self.folder / "out.safetensors")["y"][1]
        np.testing.assert_allclose(got, mlp(tensors)["y"], rtol=1e-4, atol=1e-4)
        # Another file is another op, which the bundle has not.
        self.op.write_text(GROUP_SUM + "\n# changed\n")
        self.expect_error(cli.run(*run, env=environment), "NEREID_PYTHON is /nowhere")
        # More rows than the kernels were made for.
        many = self.inputs("many.safetensors", **self.mlp_tensors(40))
        self.op.write_text(GROUP_SUM)
        run[run.index("--inputs") + 1] = many
        self.expect_error(
            cli.run(*run, env=environment),
            "lacks",
            f"nereid compile-graph {graph} --inputs FILE --op {self.op} --target cpu",
        )

    def test_objects_for_a_gpu(self):
        graph = self.write("graph.txt", MLP)
        inputs, bundle = self.inputs(**self.mlp_tensors(3)), self.folder / "gpu"
        made = cli.run(
            "compile-graph", graph, "--inputs", inputs, "--op", self.op, "--target", "cuda:90",
            "--out", bundle,
        )  # fmt: skip
        self.assertEqual(made.returncode, 0, made.stderr)
        manifest = json.loads((bundle / "manifest.json").read_text())
        own = [row for row in manifest["variants"] if row["kernel"].startswith("group_sum_")]
        self.assertTrue(own)
        for row in own:
            self.assertEqual((bundle / row["source"]).read_text(), GROUP_SUM)
            self.assertGreater((bundle / row["object"]).stat().st_size, 1000)

    def faulty(self, text=MLP, tensors=None, op=None, rows=2):
        tensors = self.mlp_tensors(rows) if tensors is None else tensors
        options = [] if op is None else ["--op", self.write("mine.py", op)]
        return self.run_graph(text, tensors, *options)[0]

    def test_faults_of_a_graph(self):
        for old, new, line, cause in (
            ("rms_norm %x", "rms_norm %y", 8, "%y is used before it is declared, in line 13"),
            ("silu_mul", "gelu_mul", 11, 'there is no op "gelu_mul"; expected one of ops.def, or'),
            ("[rows, 24] = group", "[rows, 25] = group", 14, "the operands make it fp32[rows, 24]"),
            ("size = 4", "size = 4.5", 14, "attribute size: expected an integer, got 4.5"),
            ("size = 4", "width = 4", 14, "there is no attribute width; expected size"),
            (
                "  return",
                "  weight %more: fp32[4]\n  return",
                17,
                "weight %more is read by nothing",
            ),
            ("size rows\n", "size rows\n  size cols\n", None, "size cols is unknown"),
        ):
            with self.subTest(cause=cause):
                at = "graph.txt:" if line is None else f"graph.txt:{line}: "
                self.expect_error(self.faulty(MLP.replace(old, new, 1), op=GROUP_SUM), at, cause)

    def test_faults_of_inputs(self):
        tensors = self.mlp_tensors(2)
        for change, cause in (
            ({"norm": None}, ":4: weight %norm is missing: the inputs have no tensor of that name"),
            ({"norm": self.normal(95)}, ":4: weight %norm: expected fp32[96], got fp32[95]"),
            ({"x": tensors["x"].astype(np.float16)},
             ":3: input %x: expected fp32[rows, 96], got fp16[2, 96]"),
            ({"x": self.normal(2, 3, 96)},
             ":3: input %x: expected fp32[rows, 96], got fp32[2, 3, 96]"),
            ({"spare": self.normal(1)}, "the inputs have a tensor spare, which graph mlp does not"),
        ):  # fmt: skip
            with self.subTest(cause=cause):
                changed = {k: v for k, v in (tensors | change).items() if v is not None}
                self.expect_error(self.faulty(tensors=changed, op=GROUP_SUM), cause)
        self.expect_error(
            cli.run("run", self.write("g.txt", MLP), "--inputs", self.folder / "none.safetensors"),
            "none.safetensors",
        )

    def test_faults_of_an_op(self):
        lines = GROUP_SUM.splitlines()

        def line(text):
            return next(i for i, each in enumerate(lines, 1) if text in each)

        for old, new, at, cause in (
            ("SPEC = Spec(", "SPECS = Spec(", 1, "there is no SPEC; expected SPEC = Spec(...)"),
            ("def reference(a):", "1 / 0\n\n\ndef reference(a):", line("def reference"),
             "ZeroDivisionError: division by zero"),
            ("def reference(a):", "def reference(a:", line("def reference"), "SyntaxError"),
            ("import triton\n", "import tritton\n", line("import triton"), "ModuleNotFoundError"),
            ('step_size("n_rows", of="x[0]")', 'size("n_cols", of="x[0]")', line("SPEC ="),
             "ValueError: spec of group_sum: parameters"),
            ("[N,C//size]", "[N,D//size]", line("row=Row"),
             'results: result out: no operand has the dimension D, so that the size "D//size" is'),
            ("[N,C//size]", "[N,C//(size]", line("row=Row"), "results: "),
            ("x:float[N,C]", "x:half[N,C]", line("row=Row"),
             'operands: "half[N,C]": expected an element type'),
            ("out:=x[N,C//size]", "out:=x[N,C//size] sums:fp32[N]", line("row=Row"),
             'result sums: no parameter of the kernel writes it; expected out("sums_ptr", ...)'),
            ('of="@size"', 'of="@sizes"', line('of="@size"'),
             "parameter width: expected an attribute"),
            ('op="group_sum"', 'op="linear"', line('op="group_sum"'),
             "op linear: this program has an operation of that name"),
        ):  # fmt: skip
            with self.subTest(new=new):
                changed = GROUP_SUM.replace(old, new, 1)
                self.assertNotEqual(changed, GROUP_SUM)
                self.expect_error(self.faulty(op=changed), f"mine.py:{at}: ", cause)
        self.expect_error(
            self.faulty(op=re.sub(r"    row=Row.*\n", "", GROUP_SUM)),
            f"mine.py:{line('SPEC =')}: SPEC says no operation; expected op=",
        )
        self.expect_error(
            cli.run("inspect", "graph", self.write("g.txt", MLP), "--op", self.folder / "none.py"),
            "none.py",
        )
        # What Triton refuses is told when it is compiled.
        broken = GROUP_SUM.replace("tl.program_id(0)", "tl.program_id(nothing)")
        self.expect_error(self.faulty(op=broken), "mine_", "nothing")


if __name__ == "__main__":
    print(f"NEREID_SEED={SEED}", file=sys.stderr)
    cli.main()
