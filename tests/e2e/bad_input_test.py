"""Every kind of bad input ends in exit code 1 and a message that names the thing: never a crash."""

import json
import random
import struct
import subprocess

import nereid_cli as cli

FIXTURE = cli.FIXTURES / "llama3"
WEIGHTS = "model.safetensors"
RUN = ("--ids", "1,2,3", "-n", 4)
N_BIT_FLIPS = 40


class BadWeights(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.model = self.copy_model(FIXTURE)
        self.weights = self.model / WEIGHTS
        self.good = self.weights.read_bytes()

    def expect(self, data, *mentions):
        self.weights.write_bytes(data)
        self.expect_error(cli.run("generate", self.model, *RUN), *mentions)

    def test_the_model_is_good_before_it_is_changed(self):
        result = cli.run("generate", self.model, *RUN)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_missing(self):
        self.weights.unlink()
        self.expect_error(cli.run("generate", self.model, *RUN), "safetensors")

    def test_empty(self):
        self.expect(b"", WEIGHTS)

    def test_truncated(self):
        for size in (4, 8, 100, len(self.good) // 2, len(self.good) - 1):
            with self.subTest(size=size):
                self.expect(self.good[:size], WEIGHTS)

    def test_header_length_of_2_to_the_63(self):
        for length in (1 << 63, (1 << 64) - 1, (1 << 63) - 1, 1 << 40, len(self.good)):
            with self.subTest(length=length):
                self.expect(struct.pack("<Q", length) + self.good[8:], WEIGHTS)

    def test_header_that_is_no_json(self):
        self.expect(self.good[:8] + b"[" + self.good[9:], WEIGHTS)

    def test_bit_flips_in_the_header(self):
        """A flip may go unseen (a space, a name in the metadata) but must never crash."""
        (header_bytes,) = struct.unpack("<Q", self.good[:8])
        flips = random.Random(1)
        n_refused = 0
        for _ in range(N_BIT_FLIPS):
            data = bytearray(self.good)
            position = flips.randrange(8 + header_bytes)
            data[position] ^= 1 << flips.randrange(8)
            self.weights.write_bytes(data)
            result = cli.run("generate", self.model, *RUN)
            with self.subTest(position=position, byte=data[position]):
                if result.returncode != 0:
                    self.expect_error(result, str(self.model))
                    n_refused += 1
        self.assertGreater(n_refused, N_BIT_FLIPS // 2)

    def expect_header(self, change, *mentions):
        self.expect(cli.with_header(self.good, change), *mentions)

    def test_overlapping_offsets(self):
        name = "model.norm.weight"

        def change(header):
            header[name]["data_offsets"] = [0, 256]

        self.expect_header(change, WEIGHTS)

    def test_offsets_beyond_the_file(self):
        for begin, end in ((1 << 62, (1 << 62) + 256), (256, 0), (-256, 0), (1 << 40, 1 << 41)):

            def change(header, offsets=(begin, end)):
                header["model.norm.weight"]["data_offsets"] = list(offsets)

            with self.subTest(begin=begin, end=end):
                self.expect_header(change, WEIGHTS)

    def test_wrong_dtype(self):
        def change(header):
            header["model.norm.weight"]["dtype"] = "I64"

        self.expect_header(change, "model.norm.weight")

    def test_unknown_dtype(self):
        def change(header):
            header["model.norm.weight"]["dtype"] = "F17"

        self.expect_header(change, "F17")

    def test_wrong_shape(self):
        for shape in ([64, 2], [256], [-128], [1 << 62, 1 << 62], []):

            def change(header, shape=shape):
                header["model.norm.weight"]["shape"] = shape

            with self.subTest(shape=shape):
                self.expect_header(change, "model.norm.weight")

    def test_tensor_missing(self):
        def change(header):
            header["model.norm.other"] = header.pop("model.norm.weight")

        self.expect_header(change, "model.norm.weight")

    def test_shard_missing(self):
        model = self.copy_model(cli.DEMO, "sharded")
        shard = "model-00002-of-00003.safetensors"
        (model / shard).unlink()
        self.expect_error(cli.run("generate", model, "-p", "x", "-n", 4), shard)

    def test_shard_outside_the_model(self):
        model = self.copy_model(cli.DEMO, "sharded")
        index = model / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        name = next(iter(content["weight_map"]))
        content["weight_map"][name] = "../../../../etc/passwd"
        index.write_text(json.dumps(content))
        self.expect_error(cli.run("generate", model, "-p", "x", "-n", 4), "passwd")


class BadConfig(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.model = self.copy_model(FIXTURE)
        self.config = self.model / "config.json"

    def expect(self, *mentions):
        self.expect_error(cli.run("generate", self.model, *RUN), *mentions)

    def test_no_model(self):
        missing = self.folder / "nothing-here"
        self.expect_error(cli.run("generate", missing, *RUN), "nothing-here")

    def test_missing(self):
        self.config.unlink()
        self.expect("config.json")

    def test_malformed(self):
        for text in ("", "{", "[]", '{"hidden_size": }', "null", "\xff\xfe", "[" * 100_000):
            with self.subTest(text=text[:20]):
                self.config.write_text(text)
                self.expect("config.json")

    def test_field_of_the_wrong_type_or_size(self):
        for field, value in (
            ("hidden_size", "many"),
            ("hidden_size", -1),
            ("hidden_size", 0),
            ("hidden_size", 1 << 62),
            ("num_attention_heads", 0),
            ("num_key_value_heads", 3),
            ("num_hidden_layers", -2),
            ("num_hidden_layers", 1_000_000_000),
            ("vocab_size", -5),
            ("vocab_size", 1 << 40),
            ("intermediate_size", None),
        ):
            with self.subTest(field=field, value=value):
                self.model = self.copy_model(FIXTURE, f"{field}-{value}")
                self.config = self.model / "config.json"
                self.edit_json(self.config, **{field: value})
                self.expect()

    def test_unknown_architecture(self):
        self.edit_json(self.config, architectures=["BertModel"], model_type="bert")
        self.expect("BertModel")

    def test_unknown_rope_type(self):
        rope = {"rope_type": "spiral", "rope_theta": 10000.0, "factor": 2.0}
        self.edit_json(self.config, rope_parameters=rope)
        self.expect("spiral")

    def test_unknown_rope_type_in_the_older_form(self):
        rope = {"type": "spiral", "factor": 2.0}
        self.edit_json(self.config, rope_parameters=None, rope_scaling=rope, rope_theta=10000.0)
        self.expect("spiral")

    def test_activation_that_is_not_implemented(self):
        self.edit_json(self.config, hidden_act="gelu_fast")
        self.expect("gelu_fast")

    def test_weights_of_another_size(self):
        self.edit_json(self.config, intermediate_size=512)
        self.expect("mlp")

    def test_context_larger_than_memory(self):
        self.edit_json(self.config, max_position_embeddings=2_000_000_000)
        result = cli.run("generate", self.model, *RUN, "--context", 2_000_000_000)
        self.expect_error(result, "memory")


class BadTokenizer(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.model = self.copy_model(cli.DEMO)
        self.tokenizer = self.model / "tokenizer.json"

    def expect(self, *mentions):
        self.expect_error(cli.run("generate", self.model, "-p", "x", "-n", 4), *mentions)

    def test_missing(self):
        self.tokenizer.unlink()
        self.expect("tokenizer.json")

    def test_malformed(self):
        for text in ("", "{", "[]", "nonsense", "[" * 100_000):
            with self.subTest(text=text[:20]):
                self.tokenizer.write_text(text)
                self.expect("tokenizer.json")

    def test_without_a_model(self):
        self.edit_json(self.tokenizer, model=None)
        self.expect("tokenizer.json", "model")

    def test_model_of_another_kind(self):
        self.edit_json(self.tokenizer, model={"type": "Unigram", "vocab": []})
        self.expect("tokenizer.json", "Unigram")


class BadPrompt(cli.TestCase):
    def test_longer_than_the_context(self):
        prompt = self.folder / "prompt"
        prompt.write_text("value = compute(value)\n" * 2000)
        self.expect_error(cli.run("generate", "demo", "-f", prompt, "-n", 4), "2048")

    def test_longer_than_a_context_that_was_asked_for(self):
        prompt = "value = compute(value)\n" * 20
        self.expect_error(cli.run("generate", "demo", "-p", prompt, "--context", 64), "64")

    def test_file_missing(self):
        missing = self.folder / "no-such-prompt"
        self.expect_error(cli.run("generate", "demo", "-f", missing), "no-such-prompt")

    def test_id_outside_the_vocabulary(self):
        self.expect_usage_error(cli.run("generate", FIXTURE, "--ids", "1,512", "-n", 4), "512")
        self.expect_usage_error(cli.run("score", FIXTURE, "--ids", "1,-1"), "-1")
        self.expect_usage_error(cli.run("score", FIXTURE, "--ids", "1,x"), "1,x")

    def test_one_token_to_score(self):
        self.expect_error(cli.run("score", FIXTURE, "--ids", "1"), "nothing can be scored")
        self.expect_error(
            cli.run("score", FIXTURE, "--ids", "1", "--json"), "nothing can be scored"
        )

    def test_text_for_a_model_without_a_tokenizer(self):
        self.expect_error(cli.run("generate", FIXTURE, "-p", "x"), "tokenizer.json")

    def test_invalid_utf8_is_replaced(self):
        """As other tools do: each bad sequence becomes U+FFFD, and the run goes on."""
        bad, good = self.folder / "bad", self.folder / "good"
        bad.write_bytes(b"def \xff(x):\n\xc3")
        good.write_text("def \ufffd(x):\n\ufffd")
        replaced, plain = (cli.run_json("tokenize", "demo", "-f", path) for path in (bad, good))
        self.assertEqual(replaced["ids"], plain["ids"])
        result = cli.run(
            "generate", "demo", "-n", 4, "-p", b"def \xff(x):".decode(errors="surrogateescape")
        )
        self.assertEqual(result.returncode, 0, result.stderr)


class BadBundle(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.bundle = self.folder / "bundle"
        result = cli.run("compile", FIXTURE, "--target", "cpu", "--out", self.bundle)
        self.assertEqual(result.returncode, 0, result.stderr)

    def run_with_bundle(self):
        return cli.run("generate", FIXTURE, *RUN, "--bundle", self.bundle)

    def test_the_bundle_is_good_before_it_is_changed(self):
        result = self.run_with_bundle()
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_one_byte_of_an_object_changed(self):
        for path in sorted((self.bundle / "objects").iterdir())[:3]:
            with self.subTest(path=path.name):
                good = path.read_bytes()
                changed = bytearray(good)
                changed[len(changed) // 2] ^= 1
                # A new file: the bundle may share its objects with the cache by hard links.
                path.unlink()
                path.write_bytes(changed)
                self.expect_error(self.run_with_bundle(), path.name)
                path.write_bytes(good)

    def test_object_missing(self):
        path = sorted((self.bundle / "objects").iterdir())[0]
        path.unlink()
        self.expect_error(self.run_with_bundle(), path.name)

    def test_manifest_malformed(self):
        manifest = self.bundle / "manifest.json"
        good = manifest.read_text()
        for text in ("", "[]", good[: len(good) // 2], '{"schema": 99}', "[" * 100_000):
            with self.subTest(text=text[:20]):
                manifest.unlink()
                manifest.write_text(text)
                self.expect_error(self.run_with_bundle(), "manifest.json")

    def test_object_outside_the_bundle(self):
        manifest = self.bundle / "manifest.json"
        content = json.loads(manifest.read_text())
        content["variants"][0]["object"] = "../../../etc/passwd"
        manifest.unlink()
        manifest.write_text(json.dumps(content))
        self.expect_error(self.run_with_bundle(), "passwd")


class BadOutput(cli.TestCase):
    def test_stdout_closed_early(self):
        long_run = cli.command("generate", "demo", "-p", "x", "-n", 2000, "--ignore-eos")
        process = subprocess.Popen(long_run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.stdout.close()
        error = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        code = process.wait(timeout=cli.TIMEOUT_S)
        self.assertEqual(code, 1, error)
        self.assertIn("stdout", error)

    def test_stdout_full(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                cli.command("generate", "demo", "-p", "x", "-n", 8),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("stdout", result.stderr)


if __name__ == "__main__":
    cli.main()
