"""Benchmarks, traces and the proof that only kernels of the bundle computed, on the CPU."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import nereid_cli as cli

SMALL = ("--prompt", 12, "--output", 6, "--repeats", 1, "--warmup", 0)


class Bench(cli.TestCase):
    bundle = None

    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="nereid-bench-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        cls.bundle = cls.shared / "bundle"
        compiled = cli.run("compile", "demo", "--target", "cpu", "--out", cls.bundle)
        if compiled.returncode != 0:
            raise AssertionError(compiled.stderr)

    def e2e(self, bundle, *arguments):
        return cli.run(
            "bench", "e2e", "demo", "--device", "cpu", "--bundle", bundle, *SMALL, *arguments
        )

    def test_end_to_end_json(self):
        result = self.e2e(self.bundle, "--modes", "eager,compiled", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        out = json.loads(result.stdout)
        self.assertTrue({"machine", "device", "limits", "rows"} <= out.keys(), out.keys())
        self.assertEqual([row["mode"] for row in out["rows"]], ["eager", "compiled"])
        for row in out["rows"]:
            for name in ("tokens_per_s", "ttft_ms", "itl_ms", "itl_ms_p99", "weight_gb_per_s"):
                self.assertGreater(row[name], 0, name)
            self.assertEqual((row["batch"], row["prompt"], row["output"]), (2, 12, 6))
            # 15.8 M parameters of which the tied head is one, at two bytes.
            self.assertAlmostEqual(row["weight_bytes"] / 31.5e6, 1, delta=0.02)
            # The whole time: first token and five more, for two sequences.
            whole_ms = row["ttft_ms"] + 5 * row["itl_ms"]
            self.assertAlmostEqual(row["tokens_per_s"], 2 * 6 / whole_ms * 1e3, delta=1e-3 * 2000)
        eager, compiled = (row["launches_per_step"] for row in out["rows"])
        self.assertGreater(eager, compiled)
        self.assertGreater(compiled, 10)

    def test_tuning(self):
        both = self.folder / "both"
        compiled = cli.run("compile", "demo", "--target", "cpu", "--out", both, "--with-untuned")
        self.assertEqual(compiled.returncode, 0, compiled.stderr)
        command = ("bench", "tuning", "demo", "--device", "cpu", *SMALL)
        result = cli.run(*command, "--bundle", both, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)["rows"]
        self.assertEqual([row["tuned"] for row in rows], [True, False])
        self.assertEqual({row["mode"] for row in rows}, {"compiled"})
        table = cli.run(*command, "--bundle", both).stdout
        self.assertRegex(table, r"tuning: [\d.]+ x the tokens a second of defaults")
        # Other choices are other kernels.

        def objects(bundle):
            manifest = json.loads((bundle / "manifest.json").read_text())
            return {variant["object_sha256"] for variant in manifest["variants"]}

        self.assertLess(objects(self.bundle), objects(both))

    def test_a_mode_that_is_refused_is_an_error(self):
        self.expect_error(self.e2e(self.bundle, "--modes", "graph"), "graph", "capture")
        self.expect_error(self.e2e(self.bundle, "--modes", "fast"), "fast")

    def test_proof_passes_on_the_bundle(self):
        result = self.e2e(self.bundle, "--modes", "eager,compiled", "--prove")
        self.assertEqual(result.returncode, 0, result.stderr)
        launches = re.search(r"proved: all (\d+) launches", result.stdout)
        self.assertIsNotNone(launches, result.stdout)
        self.assertGreater(int(launches.group(1)), 100)

    def test_proof_fails_where_one_object_is_anothers(self):
        copy = Path(shutil.copytree(self.bundle, self.folder / "bundle"))
        variants = json.loads((copy / "manifest.json").read_text())["variants"]
        by_kernel = {variant["kernel"]: variant for variant in variants}
        victim, other = by_kernel["rms_norm"], by_kernel["gather_rows"]
        shutil.copyfile(copy / other["object"], copy / victim["object"])
        result = self.e2e(copy, "--prove")
        self.expect_error(result, victim["object_sha256"], "rms_norm")

    def test_proof_fails_with_a_vendors_library(self):
        """A library by a vendor's name, put into the process by the loader."""
        source = self.folder / "empty.c"
        source.write_text("int nothing;\n")
        library = self.folder / "libcublasLt.so.13"
        subprocess.run(["cc", "-shared", "-o", library, source], check=True)
        arguments = ("bench", "e2e", "demo", "--device", "cpu", "--bundle", self.bundle, *SMALL)
        result = cli.run(*arguments, "--prove", env={**os.environ, "LD_PRELOAD": str(library)})
        self.expect_error(result, "libcublasLt.so.13")

    def test_trace(self):
        out = self.folder / "trace.json"
        result = cli.run(
            "inspect", "trace", "demo", "--device", "cpu", "--bundle", self.bundle,
            "--prompt", 5, "--steps", 3, "--out", out,
        )  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stderr)
        events = json.loads(out.read_text())["traceEvents"]
        launches = [event for event in events if event.get("cat") == "launch"]
        steps = [event for event in events if event.get("cat") == "step"]
        self.assertEqual(len(steps), 3)
        self.assertEqual(sum(step["args"]["launches"] for step in steps), len(launches))
        manifest = json.loads((self.bundle / "manifest.json").read_text())
        known = {(v["symbol"], v["object_sha256"]) for v in manifest["variants"]}
        for launch in launches:
            self.assertIn((launch["name"], launch["args"]["object_sha256"]), known)
            self.assertGreaterEqual(launch["dur"], 0)
        for name in {launch["name"] for launch in launches}:
            self.assertIn(name, result.stdout)

    def test_sweep(self):
        out = cli.run_json(
            "bench", "sweep", "demo", "--device", "cpu", "--bundle", self.bundle, "--steps", 4,
            "--sequences", "1,3", "--contexts", "5,70", "--samplers", "greedy,all",
            "--prompts", "9",
        )  # fmt: skip
        decode = [row for row in out["rows"] if "sequences" in row]
        cells = {(row["sequences"], row["context"], row["sampler"]) for row in decode}
        self.assertEqual(len(cells), len(decode))
        self.assertEqual(
            cells, {(n, c, s) for n in (1, 3) for c in (5, 70) for s in ("greedy", "all")}
        )
        for row in decode:
            self.assertGreater(row["step_ms"], row["floor_ms"] / 2)
        # Keys and values of each sequence are read, too.
        floor = {(row["sequences"], row["context"]): row["floor_ms"] for row in decode}
        self.assertGreater(floor[3, 70], floor[1, 5])
        self.assertEqual([row["prompt"] for row in out["rows"] if "prompt" in row], [9])
        result = cli.run("bench", "sweep", "demo", "--samplers", "top-k")
        self.expect_error(result, "top-k", "greedy, temperature, top-p, all")

    def test_kernels_json(self):
        out = cli.run_json(
            "bench", "kernels", "demo", "--device", "cpu", "--bundle", self.bundle,
            "--rows", "1,17", "--repeats", 1, "--mode", "compiled",
        )  # fmt: skip
        linear = [row for row in out["rows"] if row["op"] == "linear"]
        shapes = {(row["rows"], row["n_out"], row["n_in"]) for row in linear}
        # q, k and v as one: 384 + 2 * 128 outputs; gate and up as one.
        for n_out, n_in in ((640, 384), (384, 384), (2048, 384), (384, 1024), (8192, 384)):
            for rows in (1, 17):
                self.assertIn((rows, n_out, n_in), shapes)
        for row in out["rows"]:
            self.assertGreater(row["us"], 0)
            self.assertIn(row["limit"], ("stream", "dot"))
        attention = [row for row in out["rows"] if row["op"] == "attention"]
        self.assertIn((2, 1, 640), {(r["batch"], r["query"], r["context"]) for r in attention})

    def test_kernels_of_quantised_weights(self):
        out = cli.run_json(
            "bench", "kernels", "demo", "--device", "cpu", "--rows", 1, "--repeats", 1,
            "--mode", "compiled", "--quantize", "int4",
        )  # fmt: skip
        linear = {row["n_out"]: row for row in out["rows"] if row["op"] == "linear"}
        # Half a byte a weight and two for each 128, and the whole of activations.
        bytes_of = {n_out: row["gb_per_s"] * row["us"] * 1e3 for n_out, row in linear.items()}
        self.assertEqual({row["weights"] for row in linear.values()}, {"int4"})
        # By floats, or on a processor that multiplies bytes by integers.
        self.assertRegex(linear[2048]["choice"], "HAS_SCALE=1|X_GROUPS=4")
        weights = 2048 * 384 * (1 / 2 + 2 / 128)
        self.assertAlmostEqual(bytes_of[2048] / weights, 1.0, delta=0.03)


if __name__ == "__main__":
    cli.main()
