"""What people bring as a model's directory: settings of other programs, tensors that nothing reads,
files that are not what their names say. It runs, or one line names what is wrong and the cure."""

import json
import re

import nereid_cli as cli
import numpy as np

FIXTURE = cli.FIXTURES / "llama3"
TIED = cli.FIXTURES / "granite_code"
IDS = ("--ids", "1,2,3", "-n", 4)
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 987654321\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def ids_of(model, *options):
    return cli.run_json("generate", model, *IDS, *options)["outputs"][0]["ids"]


class Config(cli.TestCase):
    def test_settings_of_other_programs(self):
        model = self.copy_model(FIXTURE)
        config = model / "config.json"
        fields = {
            "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"fp16": "float16"}},
            "auto_map": {"AutoModelForCausalLM": "modeling_other.Other"},
            "temperature": 0.7,
            "eos_token_id": -1,
            "hidden_size": 128.0,
            "torch_dtype": "bfloat16",
            "rope_interleaved": False,
        }
        self.edit_json(config, **fields)
        result = cli.run("generate", model, *IDS, "--strict", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("config.json", result.stderr)
        self.assertEqual(json.loads(result.stdout)["outputs"][0]["ids"], ids_of(FIXTURE))

    def test_unknown_fields_are_named_in_one_line(self):
        model = self.copy_model(FIXTURE)
        self.edit_json(model / "config.json", attn_logit_softcapping=50.0, x_table={"a": 1})
        result = cli.run("generate", model, *IDS, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        notes = [line for line in result.stderr.splitlines() if "config.json" in line]
        self.assertEqual(len(notes), 1, result.stderr)
        for word in ("attn_logit_softcapping", "x_table", "ignored", "--strict"):
            self.assertIn(word, notes[0])
        self.assertEqual(json.loads(result.stdout)["outputs"][0]["ids"], ids_of(FIXTURE))
        for command in (
            ("generate", model, *IDS),
            ("score", model, "--ids", "1,2"),
            ("inspect", "model", model),
            ("inspect", "plan", model),
            ("compile", model, "--target", "cpu", "--out", self.folder / "out"),
            ("bench", "e2e", model),
        ):
            with self.subTest(command=command):
                self.expect_error(cli.run(*command, "--strict"), "attn_logit_softcapping")

    def test_quantised_models_of_other_kinds_are_refused_by_name(self):
        model = self.copy_model(FIXTURE)
        self.edit_json(
            model / "config.json", quantization_config={"quant_method": "aqlm", "bits": 2}
        )
        self.expect_error(
            cli.run("generate", model, *IDS), "quantization_config", "aqlm", "compressed-tensors"
        )


class Weights(cli.TestCase):
    def test_tensors_that_nothing_reads(self):
        model = self.copy_model(FIXTURE)
        weights = model / "model.safetensors"
        others = {
            "aux.f64": ("F64", np.ones(3)),
            "aux.u32": ("U32", np.ones(2, np.uint32)),
            "aux.f8": ("F8_E4M3", np.ones(5, np.uint8)),
            "aux.tomorrow": ("F5_E3M1", np.ones(7, np.uint8)),
            "aux.empty": ("F32", np.zeros((0, 4), np.float32)),
            "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", np.ones(16, np.float32)),
        }
        tensors = {**cli.read_safetensors(weights), **others}
        weights.write_bytes(cli.safetensors_bytes(tensors))
        self.assertEqual(ids_of(model), ids_of(FIXTURE))
        # And where something does read it, the type is what is wrong.
        array = tensors["model.norm.weight"][1]
        tensors["model.norm.weight"] = ("F8_E4M3", np.zeros(array.shape, np.uint8))
        weights.write_bytes(cli.safetensors_bytes(tensors))
        result = cli.run("generate", model, *IDS)
        self.expect_error(result, "model.norm.weight", "F8_E4M3", "F32, F16 or BF16")
        self.assertNotIn("damaged", result.stderr)

    def test_names_of_a_base_model(self):
        model = self.copy_model(TIED)
        weights = model / "model.safetensors"
        tensors = cli.read_safetensors(weights)
        named = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        self.assertNotEqual(named.keys(), tensors.keys())
        weights.write_bytes(cli.safetensors_bytes(named))
        self.edit_json(model / "config.json", architectures=["LlamaModel"])
        self.assertEqual(ids_of(model), ids_of(TIED))

    def test_a_tied_head_under_its_other_name(self):
        model = self.copy_model(TIED)
        weights = model / "model.safetensors"
        tensors = cli.read_safetensors(weights)
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        weights.write_bytes(cli.safetensors_bytes(tensors))
        self.assertEqual(ids_of(model), ids_of(TIED))

    def test_a_shard_that_nothing_needs_may_be_away(self):
        model = self.copy_model(FIXTURE)
        (model / "model.safetensors").rename(model / "a.safetensors")
        names = cli.read_safetensors(model / "a.safetensors")
        places = dict.fromkeys(names, "a.safetensors")
        index = model / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {**places, "vision.x": "b.safetensors"}}))
        self.assertEqual(ids_of(model), ids_of(FIXTURE))
        places["lm_head.weight"] = "b.safetensors"
        del places["model.norm.weight"]
        (model / "a.safetensors").write_bytes(
            cli.safetensors_bytes({n: t for n, t in names.items() if n != "lm_head.weight"})
        )
        index.write_text(json.dumps({"weight_map": places}))
        self.expect_error(
            cli.run("generate", model, *IDS), "lm_head.weight", "b.safetensors", "download"
        )


class OtherFilesInPlace(cli.TestCase):
    def test_each_is_named(self):
        for name, model in (
            ("config.json", FIXTURE),
            ("generation_config.json", FIXTURE),
            ("model.safetensors", FIXTURE),
            ("model.safetensors.index.json", cli.DEMO),
            ("model-00002-of-00003.safetensors", cli.DEMO),
            ("tokenizer.json", cli.DEMO),
            ("tokenizer_config.json", cli.DEMO),
        ):
            for content, word in ((LFS_POINTER, "git-lfs"), (PAGE, "web page"), ("", "is empty")):
                with self.subTest(name=name, word=word):
                    copy = self.copy_model(model, f"{name}-{word}")
                    (copy / name).write_text(content)
                    result = cli.run("generate", copy, *IDS)
                    self.expect_error(result, name, word)
                    self.assertNotIn("damaged", result.stderr)

    def test_a_download_that_was_not_finished(self):
        for name in ("config.json", "tokenizer.json", "model-00002-of-00003.safetensors"):
            with self.subTest(name=name):
                copy = self.copy_model(cli.DEMO, f"cut-{name}")
                content = (copy / name).read_bytes()
                (copy / name).write_bytes(content[: len(content) // 2])
                self.expect_error(cli.run("generate", copy, *IDS), name, "download")

    def test_a_file_in_place_of_the_directory(self):
        result = cli.run("generate", FIXTURE / "model.safetensors", *IDS)
        self.expect_error(result, "give the directory that holds it", str(FIXTURE))
        gguf = self.folder / "llama.Q4_K_M.gguf"
        gguf.write_bytes(b"GGUF")
        self.expect_error(cli.run("generate", gguf, *IDS), "GGUF", "snapshot")
        self.expect_error(cli.run("generate", "someone/Some-Model", *IDS), "nothing is downloaded")


class Demo(cli.TestCase):
    def test_the_name_and_the_directory(self):
        bundled = cli.run("inspect", "model", "demo", cwd=self.folder)
        self.assertEqual((bundled.returncode, bundled.stderr), (0, ""))
        self.expect_error(cli.run("inspect", "model", "./demo", cwd=self.folder), "./demo")
        self.copy_model(FIXTURE, "demo")
        for name in ("demo", "./demo"):
            result = cli.run("inspect", "model", name, cwd=self.folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, r"hidden size +128\n")
            if name == "demo":
                self.assertIn(str(self.folder / "demo"), result.stderr)
                self.assertIn("not the bundled model", result.stderr)
            else:
                self.assertEqual(result.stderr, "")


class GenerationSettings(cli.TestCase):
    def inspect(self, model, row):
        result = cli.run("inspect", "model", model)
        self.assertEqual(result.returncode, 0, result.stderr)
        return re.search(rf"^{row} +(.*)$", result.stdout, re.MULTILINE)[1]

    def test_the_first_file_that_names_an_end_counts(self):
        model = self.copy_model(cli.DEMO)
        prompt = ("-p", "def fibonacci(n):\n", "-n", 6)
        ids = cli.run_json("generate", model, *prompt)["outputs"][0]["ids"]
        texts = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
        third = next(text for text, number in texts.items() if number == ids[2])

        def run():
            return cli.run_json("generate", model, *prompt)["outputs"][0]

        # The demo's own end does not come up in six tokens.
        self.assertEqual(len(set(ids)), len(ids))
        self.edit_json(model / "tokenizer_config.json", eos_token=third)
        self.edit_json(model / "config.json", eos_token_id=ids[1])
        self.edit_json(model / "generation_config.json", eos_token_id=ids[:1])
        for n_ids, file in ((1, "generation_config.json"), (2, "config.json")):
            self.assertEqual((run()["ids"], run()["finish_reason"]), (ids[:n_ids], "stop"))
            end = self.inspect(model, "end-of-text ids")
            self.assertEqual(end, f"{ids[n_ids - 1]} ({file})")
            self.edit_json(model / file, eos_token_id=[])
        self.assertEqual((run()["ids"], run()["finish_reason"]), (ids[:3], "stop"))
        end = self.inspect(model, "end-of-text ids")
        self.assertEqual(end, f"{ids[2]} (tokenizer_config.json)")

    def test_suggested_sampling_is_shown_and_not_used(self):
        model = self.copy_model(FIXTURE)
        self.edit_json(
            model / "generation_config.json",
            do_sample=True,
            temperature=9.0,
            repetition_penalty=5.0,
        )
        self.edit_json(model / "config.json", temperature=0.5, top_k=3)
        self.assertEqual(ids_of(model), ids_of(FIXTURE))
        self.assertEqual(
            self.inspect(model, "sampling"),
            "greedy unless asked; suggested: do_sample true, temperature 9.0, "
            "repetition_penalty 5.0 (generation_config.json), top_k 3 (config.json)",
        )


if __name__ == "__main__":
    cli.main()
