"""Weights quantised when they are loaded, against the same model with weights that numpy quantised
and made floats again, in fp32.

    fake_quantised_test.py NEREID [--every]     (every family in every format; minutes)
"""

import json
import sys

import nereid_cli as cli
import numpy as np

sys.path.insert(0, str(cli.ROOT))
from shapes.forward import Model

from kernels.lib.numbers import from_storage, to_storage
from kernels.quantize_weight import four_bits, grouped, search

PAIRS = [("qwen3", "fp8"), ("gemma3", "int4"), ("phi3", "int8")]
FORMATS = ("int8", "fp8", "int4")
IDS = cli.joined([5, 17, 3, 99, 42, 8, 120, 77, 64, 31, 2, 250, 11])
TYPES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
# Of more than 64 tokens, which one step computes.
PROMPTS = [[(7 * i * i + a * i + 5) % 500 for i in range(66)] for a in (31, 77, 113, 208)]
FP8_FAMILIES = ("llama3", "qwen3", "phi3")
MOST_OF_FP8 = 2e-2  # of a row of logits
MOST = 5e-3  # of the largest logit: keys and values are of 16 bits here, of 32 there
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def fake(w, dtype, name, as_format):
    """[N, K] in fp32."""
    n_rows, n_in = w.shape
    if as_format == "int4" and name != HEAD:
        group = next((size for size in (128, 64, 32) if n_in % size == 0), 0)
        parts = grouped(w, group)
        scale, _ = search(parts, dtype)
        return (four_bits(parts, scale) * scale[..., None]).reshape(n_rows, -1)[:, :n_in]
    largest = np.float32(448.0 if as_format == "fp8" else 127.0)
    scale = np.abs(w).max(axis=1, keepdims=True) / largest
    # Not w / scale: of numbers half-way between two levels every twentieth would be another.
    q = w * (np.float32(1.0) / scale)
    q = from_storage(to_storage(q, "fp8e4nv"), "fp8e4nv") if as_format == "fp8" else np.rint(q)
    return q * scale


def relative(got, want):
    """Of each row."""
    return np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)


class FakeQuantised(cli.TestCase):
    def logits(self, model, *options, ids=IDS):
        out = self.folder / "logits.safetensors"
        done = cli.run("score", model, "--ids", ids, "--logits", out, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return cli.read_safetensors(out)["logits"][1].astype(np.float64)

    def fake_model(self, family, as_format):
        folder = self.copy_model(cli.FIXTURES / family, f"{family}_{as_format}")
        tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path.name != "golden_logits.safetensors":
                tensors |= cli.read_safetensors(path)
            path.unlink()
        config = json.loads((folder / "config.json").read_text())
        type_of = {name: TYPES[kind] for name, (kind, _) in tensors.items()}
        floats = {name: from_storage(w, type_of[name]) for name, (_, w) in tensors.items()}
        if HEAD not in floats:
            floats[HEAD] = floats[EMBEDDING]
        made = {}
        for name, w in floats.items():
            if w.ndim == 2 and name != EMBEDDING:
                w = fake(w, type_of.get(name, type_of[EMBEDDING]), name, as_format)
            made[name] = ("F32", np.ascontiguousarray(w, np.float32))
        (folder / "model.safetensors").write_bytes(cli.safetensors_bytes(made))
        key = "dtype" if "dtype" in config else "torch_dtype"
        self.edit_json(folder / "config.json", **{key: "float32", "tie_word_embeddings": False})
        return folder

    def test_logits(self):
        for family, as_format in PAIRS:
            with self.subTest(family=family, format=as_format):
                got = self.logits(cli.FIXTURES / family, "--quantize", as_format)
                exact = self.logits(cli.FIXTURES / family)
                want = self.logits(self.fake_model(family, as_format))
                spread = np.abs(want).max()
                error, moved = np.abs(got - want).max(), np.abs(want - exact).max()
                print(f"{family} {as_format}: {error / spread:.1e} of {moved / spread:.1e}")
                self.assertLess(error, MOST * spread)
                # Else nothing was quantised.
                self.assertLess(error, moved / 2)

    def test_logits_of_activations_of_8_bits(self):
        """Against numpy with weights and rows that are so quantised, and with the weights alone.

        A number at the boundary of two goes to either; then later rows differ as much as rounding
        makes them. Most rows come before any such."""
        for family in FP8_FAMILIES:
            with self.subTest(family=family):
                model = self.fake_model(family, "fp8")
                config = json.loads((model / "config.json").read_text())
                tensors = cli.read_safetensors(model / "model.safetensors")
                narrow, wide = (
                    Model(config, tensors, cache="F16", has_fp8_products=is_narrow)
                    for is_narrow in (True, False)
                )
                errors = {"narrow": [], "wide": [], "moved": []}
                for ids in PROMPTS:
                    want, exact = narrow.logits(ids), wide.logits(ids)
                    for name, bits, compared in (("narrow", "8", want), ("wide", "16", exact)):
                        got = self.logits(
                            cli.FIXTURES / family, "--quantize", "fp8", "--activations", bits,
                            "--batch-size", len(ids), ids=cli.joined(ids),
                        )  # fmt: skip
                        errors[name].append(relative(got, compared))
                    errors["moved"].append(relative(exact, want))
                medians = {name: np.median(rows) for name, rows in errors.items()}
                print(f"{family}: " + ", ".join(f"{n} {x:.1e}" for n, x in medians.items()))
                self.assertLess(medians["narrow"], MOST_OF_FP8)
                self.assertLess(np.max([rows[0] for rows in errors["narrow"]]), MOST_OF_FP8)
                self.assertLess(np.max(errors["wide"]), MOST)
                # Else no row was rounded.
                self.assertGreater(medians["moved"], 2 * MOST_OF_FP8)


if __name__ == "__main__":
    if "--every" in sys.argv:
        sys.argv.remove("--every")
        PAIRS[:] = [(family, name) for family in cli.FIXTURE_NAMES for name in FORMATS]
    cli.main()
