"""A bundle for two levels of instruction set: each processor takes the best that it runs.

levels_test.py PATH_OF_NEREID
"""

import json
import os
import platform
import unittest

import nereid_cli as cli

LEVELS = "x86-64-v3,x86-64-v4"
MODEL = cli.FIXTURES / "llama3"


@unittest.skipIf(platform.machine() != "x86_64", "levels of x86-64")
class Levels(cli.TestCase):
    def greedy_ids(self, bundle, golden, **environment):
        result = cli.run_json(
            "generate", MODEL, "--ids", cli.joined(golden["input_ids"]), "--ignore-eos",
            "-n", len(golden["greedy_new_ids"]), "--device", "cpu", "--bundle", bundle,
            env={**os.environ, **environment},
        )  # fmt: skip
        return result["outputs"][0]["ids"]

    def test_each_level_gives_the_same_ids(self):
        golden = json.loads((MODEL / "golden.json").read_text())
        bundle = self.folder / "bundle"
        made = cli.run("compile", MODEL, "--target", "cpu", "--isa", LEVELS, "--out", bundle)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertIn("cpu (x86-64-v3, x86-64-v4)", made.stderr)
        lower = self.greedy_ids(bundle, golden, NEREID_ISA="x86-64-v3")
        self.assertEqual(lower, golden["greedy_new_ids"])
        self.assertEqual(self.greedy_ids(bundle, golden), lower)

        # The lower level runs objects of its own: without the higher's it still does.
        rows = json.loads((bundle / "manifest.json").read_text())["variants"]
        objects = {
            isa: {row["object"] for row in rows if row["isa"] == isa} for isa in LEVELS.split(",")
        }
        higher = objects["x86-64-v4"] - objects["x86-64-v3"]
        self.assertGreater(len(higher), 20)
        for name in higher:
            (bundle / name).unlink()
        self.assertEqual(self.greedy_ids(bundle, golden, NEREID_ISA="x86-64-v3"), lower)


if __name__ == "__main__":
    cli.main()
