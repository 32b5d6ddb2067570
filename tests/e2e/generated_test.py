"""Kernels that the graph compiler writes: models run on them as they do operation by operation."""

import shutil
import subprocess
import sys

import nereid_cli as cli
import numpy as np

# Without these, residual sums, norms, gates and turned heads are left to be clustered.
LEFT_OUT = ("fuse_residual", "fuse_norm", "fuse_epilogue", "fuse_rope_kv_write")
SKIP = tuple(word for name in LEFT_OUT for word in ("--skip-pass", name))
IDS = [5, 17, 3, 99, 42, 8, 120, 77, 64, 31, 2, 250, 11]


class Generated(cli.TestCase):
    def logits(self, model, *options):
        out = self.folder / "logits.safetensors"
        ids = cli.joined(IDS)
        result = cli.run("score", model, "--ids", ids, "--logits", out, "--device", "cpu", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return cli.read_safetensors(out)["logits"][1]

    @staticmethod
    def generate(model, *options):
        return ("generate", model, "--ids", cli.joined(IDS), "-n", 24, "--ignore-eos", *options)

    def ids(self, model, *options):
        output = cli.run_json(*self.generate(model, "--device", "cpu", *options))
        return output["outputs"][0]["ids"]

    def test_models_are_what_they_are_without(self):
        for name in ("granite3", "qwen3", "llama3"):
            model = cli.FIXTURES / name
            with self.subTest(name):
                eager = self.logits(model, "--mode", "eager")
                spread = np.abs(eager).max()
                for skip in ((), SKIP):
                    fused = self.logits(model, "--mode", "compiled", *skip)
                    self.assertLess(np.abs(fused - eager).max(), 1e-4 * spread, skip)
                self.assertEqual(self.ids(model, *SKIP), self.ids(model, "--mode", "eager"))

    def check_against_reference(self, sources):
        """Each against its decomposition, in numpy."""
        tool = cli.ROOT / "tools" / "run_cases.py"
        ttir = cli.nereid_path.parent.parent / "ttir" / "emit" / "nereid-ttir"
        work = self.folder / "cases"
        checked = subprocess.run(
            [sys.executable, tool, "--target", "cpu", "--ttir", ttir, "--work", work]
            + ["--generated", sources[0].parent, "--random", "2"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        n_cases = (4 + 2) * len(sources)
        self.assertIn(f"{n_cases} of {n_cases} cases hold", checked.stdout, checked.stderr)
        shutil.rmtree(work)

    def test_a_bundle_holds_source_and_object(self):
        for name, kernel in (("granite3", "add_rms_norm_"), ("qwen3", "rms_norm_rope_")):
            model, bundle = cli.FIXTURES / name, self.folder / name
            made = cli.run("compile", model, "--target", "cpu", "--out", bundle, *SKIP)
            self.assertEqual(made.returncode, 0, made.stderr)
            sources = sorted((bundle / "generated").glob("*.py"))
            # All layers share them.
            self.assertEqual(sum(path.name.startswith(kernel) for path in sources), 1, sources)
            self.assertLess(len(sources), 6, sources)
            shown = cli.run("inspect", "bundle", bundle)
            for source in sources:
                self.assertTrue(f" generated/{source.name}\n" in shown.stdout, source.name)
            eager = self.ids(model, "--mode", "eager")
            self.assertEqual(self.ids(model, "--bundle", bundle, *SKIP), eager)
            self.check_against_reference(sources)
            # Further kernels into the same bundle leave these where they are.
            again = cli.run("compile", model, "--target", "cpu", "--out", bundle)
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual(self.ids(model, "--bundle", bundle, *SKIP), eager)

    def test_what_a_bundle_lacks_is_named(self):
        model, bundle = cli.FIXTURES / "llama3", self.folder / "bundle"
        made = cli.run("compile", model, "--target", "cpu", "--out", bundle)
        self.assertEqual(made.returncode, 0, made.stderr)
        result = cli.run(*self.generate(model, "--device", "cpu", "--bundle", bundle, *SKIP))
        self.expect_error(result, "lacks", "add_rms_norm_", "nereid compile")
        # What runs are the objects; the sources beside them are for people.
        before = self.ids(model, "--bundle", bundle)
        shutil.rmtree(bundle / "generated")
        self.assertEqual(self.ids(model, "--bundle", bundle), before)


if __name__ == "__main__":
    cli.main()
