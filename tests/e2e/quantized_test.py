"""Weights quantised when they are loaded, or to be stored; models compared; damaged checkpoints."""

import json
import resource

import nereid_cli as cli
import numpy as np

QUANTISED = cli.FIXTURES / "quantized"
TEXT = cli.DEMO / "sample.txt"
IDS = ("--ids", "1,2,3,4")
SOME_IDS = cli.joined([8183, *range(300, 360), *range(40, 70)])


class WhenLoaded(cli.TestCase):
    def test_perplexity_of_the_demo(self):
        for name, most, most_kl, least_same in (
            ("int8", 0.01, 0.002, 0.97),
            ("fp8", 0.01, 0.02, 0.92),
            ("int4", 0.06, 0.2, 0.8),
        ):
            with self.subTest(format=name):
                got = cli.run_json(
                    "score", "demo", "-f", TEXT, "--compare", "demo", "--compare-quantize", name
                )
                print(
                    f"{name}: {got['perplexity_ratio']:.4f} times the perplexity, KL"
                    f" {got['kl_mean']:.6f}, same likeliest {got['same_top']:.2%}"
                )
                self.assertLess(abs(got["perplexity_ratio"] - 1), most)
                self.assertLess(got["kl_mean"], most_kl)
                self.assertGreater(got["same_top"], least_same)

    def test_perplexity_of_activations_of_8_bits(self):
        # Steps of 128 rows: those of up to 64 have 16 bits.
        got = cli.run_json(
            "score", "demo", "-f", TEXT, "--batch-size", 128, "--compare", "demo",
            "--compare-quantize", "fp8", "--compare-activations", "8",
        )  # fmt: skip
        print(
            f"fp8 by fp8: {got['perplexity_ratio']:.4f} times the perplexity, KL"
            f" {got['kl_mean']:.6f}, same likeliest {got['same_top']:.2%}"
        )
        self.assertLess(abs(got["perplexity_ratio"] - 1), 0.015)
        self.assertLess(got["kl_mean"], 0.03)
        self.assertGreater(got["same_top"], 0.9)

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
            ((QUANTISED / "ct_int8", *IDS, "--activations", "8"), ("compressed-tensors", "fp8")),
            (("demo", *IDS, "--activations", "4"), ("auto", "16", "8")),
        ):
            done = cli.run("generate", *arguments)
            self.assertEqual(done.returncode, 2, done.stderr)
            for word in words:
                self.assertIn(word, done.stderr)


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


class Compared(cli.TestCase):
    def logits(self, *options):
        out = self.folder / "logits.safetensors"
        score = cli.run_json("score", *options, "--ids", SOME_IDS, "--logits", out)
        return score, cli.read_safetensors(out)["logits"][1][:-1]

    def test_against_the_logits(self):
        p_score, p = self.logits("demo")
        q_score, q = self.logits("demo", "--quantize", "int4")
        log_p, log_q = log_softmax(p), log_softmax(q)
        kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
        got = cli.run_json(
            "score", "demo", "--ids", SOME_IDS, "--compare", "demo", "--compare-quantize", "int4"
        )
        self.assertAlmostEqual(got["kl_mean"], kl.mean(), delta=1e-4 * kl.mean())
        self.assertAlmostEqual(got["kl_max"], kl.max(), delta=1e-4 * kl.max())
        self.assertEqual(got["same_top"], (p.argmax(axis=1) == q.argmax(axis=1)).mean())
        self.assertEqual(got["logprobs"], p_score["logprobs"])
        self.assertEqual(got["compared"]["logprobs"], q_score["logprobs"])
        self.assertEqual(got["compared"]["perplexity"], q_score["perplexity"])
        ratio = q_score["perplexity"] / p_score["perplexity"]
        self.assertAlmostEqual(got["perplexity_ratio"], ratio, delta=1e-9)

    def test_text(self):
        result = cli.run("score", "demo", "--ids", "8183,315,7586", "--compare", "demo")
        self.assertEqual(result.returncode, 0, result.stderr)
        for words in ("1.0000 times", "mean 0.000000, most 0.000000", "100.00 % of 2 places"):
            self.assertIn(words, result.stdout)

    def test_what_cannot_be(self):
        compare = ("score", "demo", "-p", "def f(x):", "--compare")
        other = self.copy_model(cli.DEMO)
        tokenizer = json.loads((other / "tokenizer.json").read_text())
        tokenizer["model"] |= {"merges": [], "ignore_merges": False}
        (other / "tokenizer.json").write_text(json.dumps(tokenizer))
        self.expect_error(cli.run(*compare, other), "other tokens of this text")
        self.expect_error(
            cli.run("score", "demo", *IDS, "--compare", QUANTISED / "ct_int8"),
            "vocabularies of 8192 and 128",
        )
        self.expect_error(cli.run(*compare, "nowhere"), "nowhere")
        for arguments in (
            ("score", "demo", *IDS, "--compare-quantize", "int8"),
            (*compare, "demo", "--logits", self.folder / "logits.safetensors"),
        ):
            self.expect_usage_error(cli.run(*arguments), "--compare")


def unpacked(words, n_bits, n_cols):
    """Columns of int32 words, the first in the lowest bits; around 0."""
    shifts = np.arange(0, 32, n_bits, dtype=np.uint32)
    fields = words.view(np.uint32)[:, :, None] >> shifts & np.uint32((1 << n_bits) - 1)
    return fields.reshape(len(words), -1)[:, :n_cols].astype(np.float64) - (1 << (n_bits - 1))


def e4m3(bits):
    sign = np.where(bits & 0x80, -1.0, 1.0)
    exponent, fraction = (bits >> 3 & 15).astype(np.int64), (bits & 7) / 8.0
    return sign * np.where(
        exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7.0)
    )


def read_model(folder):
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return cli.read_safetensors(folder / "model.safetensors")
    places = json.loads(index.read_text())["weight_map"]
    tensors = {}
    for name in sorted(set(places.values())):
        tensors.update(cli.read_safetensors(folder / name))
    assert set(tensors) == set(places)
    return tensors


def dequantised(tensors, module, weights):
    """[N, K] as compressed-tensors documents its formats."""
    scale = tensors[f"{module}.weight_scale"][1].astype(np.float64)
    if weights["type"] == "float":
        q = e4m3(tensors[f"{module}.weight"][1])
    else:
        n_rows, n_cols = tensors[f"{module}.weight_shape"][1]
        q = unpacked(tensors[f"{module}.weight_packed"][1], weights["num_bits"], n_cols)
        assert len(q) == n_rows
    return q * np.repeat(scale, q.shape[1] // scale.shape[1], axis=1)


class Written(cli.TestCase):
    def quantize(self, name, *options, model=cli.DEMO):
        out = self.folder / f"out_{name}"
        result = cli.run("quantize", model, "--to", name, "--out", out, *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([path.name for path in self.folder.glob("out_*.part")], [])
        return out

    def check_weights(self, exact, model, n_kept):
        """Every weight is near what it was, the other tensors are as they were; the weights as
        they are read back."""
        tensors = read_model(model)
        config = json.loads((model / "config.json").read_text())["quantization_config"]
        weights = config["config_groups"]["group_0"]["weights"]
        most = {8: 1 / 127, 4: 1 / 7}[weights["num_bits"]]
        modules = [
            name.removesuffix(".weight_scale") for name in tensors if name.endswith("_scale")
        ]
        result = {}
        for module in modules:
            w = exact[f"{module}.weight"][1].astype(np.float64)
            got = dequantised(tensors, module, weights)
            self.assertEqual(got.shape, w.shape)
            group = weights["group_size"] or w.shape[1]
            largest = np.repeat(np.abs(w.reshape(len(w), -1, group)).max(axis=2), group, axis=1)
            error = np.abs(got - w)
            if weights["type"] == "float":
                allowed = np.maximum(np.abs(w) * 2.0**-4, largest / 448 * 2.0**-10)
                self.assertTrue((error <= allowed * 1.001).all(), module)
            elif weights["num_bits"] == 8:
                self.assertTrue((error <= largest * most / 2 * 1.01).all(), module)
            else:
                # At least as good as the largest number on the last step.
                scale = np.where(largest == 0, 1, largest * most)
                plain = np.rint(w / scale) * scale
                self.assertLess((error**2).sum(), ((plain - w) ** 2).sum(), module)
                self.assertTrue((error <= largest * 0.51).all(), module)
            result[f"{module}.weight"] = ("F16", got.astype(np.float16))
        ends = ("weight_scale", "weight_packed", "weight_shape")
        for name, (dtype, array) in tensors.items():
            if name in result or name.endswith(ends):
                continue
            self.assertEqual(dtype, exact[name][0], name)
            np.testing.assert_array_equal(array, exact[name][1], name)
            result[name] = (dtype, array)
            n_kept -= 1
        self.assertEqual(n_kept, 0)
        self.assertEqual(set(result), set(exact))
        return result

    def test_what_is_written(self):
        exact = read_model(cli.DEMO)
        n_weights = 8 * 7
        for name in ("int8", "fp8", "int4"):
            with self.subTest(format=name):
                model = self.quantize(name)
                result = self.check_weights(exact, model, len(exact) - n_weights)
                for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
                    self.assertEqual((model / file).read_bytes(), (cli.DEMO / file).read_bytes())
                # Another model, of these weights as plain numbers, says the same.
                plain = self.folder / f"plain_{name}"
                plain.mkdir()
                (plain / "config.json").write_bytes((cli.DEMO / "config.json").read_bytes())
                (plain / "model.safetensors").write_bytes(cli.safetensors_bytes(result))
                far = cli.run_json("score", "demo", "--ids", SOME_IDS, "--compare", model)
                near = cli.run_json("score", plain, "--ids", SOME_IDS, "--compare", model)
                self.assertLess(near["kl_max"], 1e-4)
                self.assertLess(50 * near["kl_mean"], far["kl_mean"])

    def test_is_what_quantising_when_loading_gives(self):
        for model, name in ((cli.DEMO, "int8"), (cli.DEMO, "fp8"), (cli.FIXTURES / "phi3", "int8")):
            with self.subTest(model=model.name, format=name):
                out = self.quantize(f"{name}", "--head", model=model)
                ids = SOME_IDS if model == cli.DEMO else cli.joined(range(3, 90))
                got = cli.run_json(
                    "score", model, "--quantize", name, "--ids", ids, "--compare", out
                )
                self.assertEqual(
                    (got["kl_max"], got["same_top"], got["compared"]["logprobs"]),
                    (0, 1, got["logprobs"]),
                )
                answer = ("--ids", "8,9,10", "-n", 8, "--ignore-eos")
                one, other = (
                    cli.run_json("generate", *arguments, *answer)["outputs"][0]["ids"]
                    for arguments in ((model, "--quantize", name), (out,))
                )
                self.assertEqual(one, other)
            out.rename(self.folder / f"{model.name}_{name}")

    def test_int4_is_what_loading_gives_but_for_the_head(self):
        """A head whose numbers 8 bits have exactly, and which is no embedding."""
        model = self.copy_model(cli.DEMO)
        self.edit_json(model / "config.json", tie_word_embeddings=False)
        tensors = read_model(model)
        head = tensors["model.embed_tokens.weight"][1].astype(np.float32)
        scale = 2.0 ** np.ceil(np.log2(np.abs(head).max() / 127))
        head = np.clip(np.rint(head / scale), -127, 127)
        head[:, 0] = 127
        tensors["lm_head.weight"] = ("F16", (head * scale).astype(np.float16))
        for path in model.glob("model*"):
            path.unlink()
        (model / "model.safetensors").write_bytes(cli.safetensors_bytes(tensors))
        out = self.quantize("int4", model=model)
        ids = ("--ids", SOME_IDS)
        got = cli.run_json("score", model, "--quantize", "int4", *ids, "--compare", out)
        self.assertLess(got["kl_max"], 1e-6)
        self.assertEqual(got["same_top"], 1)
        far = cli.run_json("score", model, *ids, "--compare", out)
        self.assertGreater(far["kl_mean"], 1e-3)

    def test_shards(self):
        model = self.quantize("int4", "--shard-mb", "2")
        shards = sorted(model.glob("model-*.safetensors"))
        self.assertGreater(len(shards), 3)
        self.assertEqual(shards[0].name, f"model-00001-of-{len(shards):05}.safetensors")
        for shard in shards:
            tensors = cli.read_safetensors(shard)
            n_bytes = sum(array.nbytes for _, array in tensors.values())
            self.assertTrue(n_bytes <= 2e6 or len(tensors) == 1, (shard, n_bytes))
        self.check_weights(read_model(cli.DEMO), model, len(read_model(cli.DEMO)) - 8 * 7)

    def test_what_cannot_be(self):
        out = self.folder / "out"
        demo, to = ("quantize", "demo"), ("--to", "int8", "--out", out)
        full = self.folder / "full"
        full.mkdir()
        (full / "file").write_text("mine")
        bad = self.copy_model(cli.DEMO)
        tensors = read_model(bad)
        dtype, w = tensors["model.layers.7.mlp.down_proj.weight"]
        w = w.copy()
        w[5, 7] = np.inf
        tensors["model.layers.7.mlp.down_proj.weight"] = (dtype, w)
        for path in bad.glob("model*"):
            path.unlink()
        (bad / "model.safetensors").write_bytes(cli.safetensors_bytes(tensors))
        for arguments, mentions in (
            ((*demo, "--to", "int8", "--out", full), ("not empty", "full")),
            ((*demo, "--to", "int8", "--out", full / "file"), ("no directory",)),
            ((*demo, "--to", "int8", "--out", full / "file" / "x"), ("Not a directory",)),
            (("quantize", QUANTISED / "gptq", *to), ("already (gptq)",)),
            (("quantize", bad, *to), ("model.layers.7.mlp.down_proj.weight", "infinite")),
            (("quantize", cli.ROOT / "configs" / "llama3-8b", *to), ("model.safetensors",)),
        ):
            self.expect_error(cli.run(*arguments), *mentions)
        for arguments, mentions in (
            ((*demo, "--to", "int3", "--out", out), ("int3", "int8", "int4", "fp8")),
            ((*demo, "--to", "int4", "--head", "--out", out), ("head",)),
            ((*demo, *to, "--device", "null"), ("null",)),
            ((*demo, *to, "--shard-mb", "0"), ("--shard-mb",)),
            ((*demo, "--to", "int8"), ("--out",)),
        ):
            self.expect_usage_error(cli.run(*arguments), *mentions)
        # As where the disk is full.
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))  # noqa: E731
        stopped = cli.run(*demo, *to, preexec_fn=limit, restore_signals=False)
        self.expect_error(stopped, "cannot write", "model.safetensors", "File too large")
        self.assertEqual((full / "file").read_text(), "mine")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["full", "model"])


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
