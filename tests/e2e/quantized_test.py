"""Weights quantised when they are loaded, and checkpoints of quantised ones that are damaged."""

import math

import nereid_cli as cli
import numpy as np

QUANTISED = cli.FIXTURES / "quantized"
TEXT = cli.ROOT / "tests" / "e2e" / "nereid_cli.py"
IDS = ("--ids", "1,2,3,4")


class WhenLoaded(cli.TestCase):
    def test_perplexity_of_the_demo(self):
        def perplexity(*options):
            return math.exp(cli.run_json("score", "demo", "-f", TEXT, *options)["nll"])

        exact = perplexity()
        for name, most in (("int8", 0.01), ("fp8", 0.01), ("int4", 0.06)):
            with self.subTest(format=name):
                got = perplexity("--quantize", name)
                print(f"{name}: perplexity {got:.4f}, {got / exact - 1:+.2%} of {exact:.4f}")
                self.assertLess(abs(got / exact - 1), most)

    def test_modes_agree(self):
        out = {
            mode: cli.run_json("generate", "demo", "-p", "def f(", "-n", 12, "--quantize", "int8",
                               "--mode", mode)["outputs"][0]["ids"]
            for mode in ("eager", "compiled")
        }  # fmt: skip
        self.assertEqual(out["eager"], out["compiled"])

    def test_what_is_asked_amiss(self):
        for arguments, words in (
            (("demo", "-p", "x", "--quantize", "int3"), ("int8", "int4", "fp8")),
            ((QUANTISED / "ct_int8", *IDS, "--quantize", "int8"), ("already",)),
        ):
            done = cli.run("generate", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            for word in words:
                self.assertIn(word, done.stderr)


class Damaged(cli.TestCase):
    n_models = 0

    def check(self, fixture, change, *messages):
        self.n_models += 1
        model = self.copy_model(QUANTISED / fixture, f"model_{self.n_models}")
        path = model / "model.safetensors"
        tensors = dict(cli.read_safetensors(path))
        change(tensors)
        path.write_bytes(cli.safetensors_bytes(tensors))
        self.expect_error(cli.run("generate", model, *IDS), *messages)

    def test_scales(self):
        name = "model.layers.0.mlp.up_proj.weight_scale"
        for value in (0.0, np.nan, np.inf):
            with self.subTest(value=value):

                def change(tensors, value=value):
                    dtype, array = tensors[name]
                    array = array.copy()
                    array.flat[3] = value
                    tensors[name] = (dtype, array)

                self.check("ct_int4", change, name, "scale 3")

    def test_what_is_missing_or_of_another_shape(self):
        up = "model.layers.0.mlp.up_proj"

        def drop(name):
            return lambda tensors: tensors.pop(name)

        def cut(name):
            def change(tensors):
                dtype, array = tensors[name]
                tensors[name] = (dtype, array[:-1])

            return change

        for fixture, name in (
            ("ct_int8", f"{up}.weight_scale"),
            ("ct_int8", f"{up}.weight"),
            ("ct_int4", f"{up}.weight_packed"),
            ("gptq_act_order", f"{up}.g_idx"),
            ("awq", f"{up}.qzeros"),
            ("fp8_block", f"{up}.weight_scale_inv"),
        ):
            for change in (drop(name), cut(name)):
                with self.subTest(fixture=fixture, name=name):
                    self.check(fixture, change, name)

    def test_columns_of_a_group(self):
        name = "model.layers.0.mlp.up_proj.g_idx"

        def change(tensors):
            dtype, array = tensors[name]
            array = array.copy()
            array[0] = (array[0] + 1) % 4
            tensors[name] = (dtype, array)

        self.check("gptq_act_order", change, name, "columns of each of 4 groups")


if __name__ == "__main__":
    cli.main()
