"""A key-value cache of 8 bits: what it costs in quality and memory, that it changes nothing else,
the scales of a checkpoint, and those that are damaged."""

import json
import math
import re

import nereid_cli as cli
import numpy as np
from shapes.forward import Model

NARROW = ("--kv-cache", "fp8")
FIXTURE = cli.FIXTURES / "quantized" / "ct_fp8_kv"
IDS = ("--ids", "1,2,3,4")
# Of a text that every run scores alike.
PERPLEXITY_OF_NARROW = 0.01
# Rounding in fp32, and the few numbers that it takes to the other side of a boundary of 8 bits.
LOGIT_ERROR = 3e-3
N_BLOCKS_TOO_MANY = 16_000_000


def golden():
    return json.loads((cli.GOLDENS / "goldens.json").read_text())


class Demo(cli.TestCase):
    def generate(self, prompts, *options):
        arguments = [part for prompt in prompts for part in ("-p", prompt)]
        out = cli.run_json("generate", "demo", *arguments, "-n", 24, *NARROW, *options)
        return [answer["ids"] for answer in out["outputs"]]

    def test_perplexity(self):
        ids = cli.joined(golden()["nll"]["ids"])
        exact, narrow = (
            cli.run_json("score", "demo", "--ids", ids, *options)["nll"] for options in ((), NARROW)
        )
        change = math.exp(narrow - exact) - 1
        print(f"perplexity {math.exp(narrow):.4f}, {change:+.3%} of {math.exp(exact):.4f}")
        self.assertNotEqual(narrow, exact)
        self.assertLess(abs(change), PERPLEXITY_OF_NARROW)

    def test_modes_agree(self):
        prompts = [answer["prompt"] for answer in golden()["greedy"]][:4]
        eager, compiled = (self.generate(prompts, "--mode", mode) for mode in ("eager", "compiled"))
        self.assertEqual(eager, compiled)

    def test_alone_and_among_others(self):
        line = "    total = total + value * factor\n"
        prompts = [f"def of_{n}(value, factor):\n" + n * line for n in (0, 9, 3, 14)]
        among = self.generate(prompts, "--batch-invariant")
        for prompt, ids in zip(prompts, among, strict=True):
            self.assertEqual(self.generate([prompt], "--batch-invariant"), [ids])

    def test_beginnings_that_are_not_computed_again(self):
        start = "class Shape:\n" + "    def area(self):\n        return self.width\n\n" * 12
        prompts = [start + f"    def of_{i}(self):\n" for i in range(3)]
        options = ("--batch-invariant", "--batch-size", 1)
        again = self.generate(prompts, *options, "--no-prefix-caching")
        self.assertEqual(self.generate(prompts, *options), again)

    def test_memory(self):
        """The cache that does not fit is told in full: half as large."""
        sizes = []
        for options in ((), NARROW):
            done = cli.run("generate", "demo", *IDS, "--kv-blocks", N_BLOCKS_TOO_MANY, *options)
            self.expect_error(done, "a KV cache of")
            sizes.append(float(re.search(r"tokens, ([\d.]+) GiB", done.stderr)[1]))
        self.assertAlmostEqual(sizes[0] / sizes[1], 2.0, places=4)

    def test_only_kernels_computed(self):
        small = ("--prompt", 12, "--output", 6, "--repeats", 1, "--warmup", 0)
        done = cli.run("bench", "e2e", "demo", *small, *NARROW, "--prove")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("proved: all ", done.stdout)

    def test_what_is_asked_amiss(self):
        self.expect_usage_error(
            cli.run("generate", "demo", *IDS, "--kv-cache", "int8"), "int8", "auto or fp8"
        )
        self.expect_usage_error(
            cli.run("generate", "demo", *IDS, *NARROW, "--attention", "dao"), "dao", "nereid"
        )


class Scales(cli.TestCase):
    """Of a checkpoint, against a pass in numpy that keeps keys and values so."""

    n_models = 0

    def changed(self, change=lambda tensors: None, **scheme):
        """The fixture with other tensors, or another kv_cache_scheme."""
        self.n_models += 1
        model = self.copy_model(FIXTURE, f"model_{self.n_models}")
        tensors = dict(cli.read_safetensors(model / "model.safetensors"))
        change(tensors)
        (model / "model.safetensors").write_bytes(cli.safetensors_bytes(tensors))
        config = json.loads((model / "config.json").read_text())
        config["quantization_config"]["kv_cache_scheme"] |= scheme
        (model / "config.json").write_text(json.dumps(config))
        return model

    def with_scale(self, name, value, dtype="F32"):
        full = f"model.layers.0.self_attn.{name}"
        array = np.array(value, np.float32)
        return self.changed(lambda tensors: tensors.update({full: (dtype, array)}))

    @staticmethod
    def wanted(model, ids, without=()):
        """Logits of weights that are theirs times their scale."""
        tensors = dict(cli.read_safetensors(model / "model.safetensors"))
        plain = Model.numbers(tensors)
        for name in without:
            plain.pop(f"model.layers.0.self_attn.{name}")
        config = json.loads((model / "config.json").read_text())
        return Model(config, plain, cache="F8_E4M3").logits(ids)

    def logits(self, model, ids, *options):
        out = self.folder / "logits.safetensors"
        cli.run_json("score", model, "--ids", cli.joined(ids), "--logits", out, *options)
        return cli.read_safetensors(out)["logits"][1]

    def test_logits(self):
        ids = json.loads((FIXTURE / "golden.json").read_text())["input_ids"]
        small = self.with_scale("v_scale", [2.0**-9])  # most values are the largest, or less it
        whole = self.with_scale("k_scale", 0.25)  # a number without a dimension
        for model in (FIXTURE, small, whole):
            wanted = self.wanted(model, ids)
            size = np.linalg.norm(wanted)
            error = np.linalg.norm(self.logits(model, ids, *NARROW) - wanted) / size
            unscaled = self.wanted(model, ids, ("k_scale", "v_scale"))
            apart = np.linalg.norm(unscaled - wanted) / size
            print(f"{model.name}: off by {error:.1e}; without scales it were {apart:.1e}")
            self.assertLess(error, LOGIT_ERROR)
            self.assertGreater(apart, 3 * LOGIT_ERROR)

    def test_scales_that_are_none(self):
        for name in ("k_scale", "v_scale"):
            for value, words in (
                ([0.0], ("is 0", "damaged")),
                ([-1.0], ("is -1", "damaged")),
                ([np.nan], ("is nan", "damaged")),
                ([np.inf], ("is inf", "damaged")),
                ([1.0, 1.0], ("one number", "[2]")),
            ):
                with self.subTest(name=name, value=value):
                    model = self.with_scale(name, value)
                    self.expect_error(
                        cli.run("generate", model, *IDS, *NARROW), f"self_attn.{name}", *words
                    )
        model = self.changed(lambda tensors: tensors.pop("model.layers.0.self_attn.k_scale"))
        self.expect_error(cli.run("generate", model, *IDS, *NARROW), "self_attn.k_scale", "found")
        # Nobody asks for them where the cache has the model's type.
        self.assertEqual(cli.run("generate", model, *IDS, "-n", 2).returncode, 0)

    def test_schemes(self):
        for scheme, words in (
            ({"type": "int"}, '"type": "int"'),
            ({"strategy": "channel"}, '"strategy": "channel"'),
            ({"dynamic": True}, '"dynamic": true'),
        ):
            model = self.changed(**scheme)
            self.expect_error(
                cli.run("generate", model, *IDS, *NARROW), "kv_cache_scheme", words, "--kv-cache"
            )
        self.assertEqual(cli.run("generate", model, *IDS, "-n", 2).returncode, 0)


if __name__ == "__main__":
    cli.main()
