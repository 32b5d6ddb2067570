"""Logits that are NaN or infinite: an error that says so, by every way to a token; no answer."""

import json

import nereid_cli as cli
import numpy as np

# A weight of the llama3 fixture -> what is wrong with it, and the type that can hold that.
SPOILED = {
    "model.norm.weight": ("F16", lambda a: np.where(np.arange(a.size) == 3, np.nan, a)),
    "model.layers.1.mlp.down_proj.weight": ("F16", lambda a: np.where(a == a.max(), np.inf, a)),
    # Finite, but the logits overflow.
    "lm_head.weight": ("F32", lambda a: np.full_like(a, 3e38)),
}
NUMPY = {"F16": np.float16, "F32": np.float32}
PROMPT = "1,5,9,33,7"
SAYS = "not finite"


class NotFinite(cli.TestCase):
    def spoiled(self, name):
        folder = self.copy_model(cli.FIXTURES / "llama3", name)
        weights = dict(cli.read_safetensors(folder / "model.safetensors"))
        dtype, spoil = SPOILED[name]
        array = spoil(weights[name][1].astype(np.float64))
        weights[name] = (dtype, array.astype(NUMPY[dtype]))
        (folder / "model.safetensors").write_bytes(cli.safetensors_bytes(weights))
        return folder

    def test_every_way_to_a_token(self):
        for name in SPOILED:
            folder = self.spoiled(name)
            for options in (
                ("generate", "--ids", PROMPT, "-n", "4"),
                ("generate", "--ids", PROMPT, "-n", "4", "--temperature", "1"),
                ("generate", "--ids", PROMPT, "--temperature", "1", "--repetition-penalty", "1.2"),
                ("score", "--ids", PROMPT),
                ("score", "--ids", PROMPT, "--json"),
            ):
                with self.subTest(weight=name, options=options):
                    result = cli.run(options[0], folder, *options[1:])
                    self.expect_error(result, SAYS)
                    self.assertEqual(result.stdout.strip(), "")

    def test_json_has_the_error_beside_the_other_prompts(self):
        # One token's embedding is NaN: prompts without it are answered.
        folder = self.copy_model(cli.FIXTURES / "llama3", "embedding")
        weights = dict(cli.read_safetensors(folder / "model.safetensors"))
        dtype, table = weights["model.embed_tokens.weight"]
        table = table.copy()
        table[33] = np.nan
        weights["model.embed_tokens.weight"] = (dtype, table)
        (folder / "model.safetensors").write_bytes(cli.safetensors_bytes(weights))
        prompts = self.folder / "prompts.jsonl"
        prompts.write_text('{"ids": [1, 5, 9]}\n{"ids": [1, 33]}\n{"ids": [2, 8, 4, 7]}\n')
        options = ("-n", "3", "--ignore-eos", "--json")
        result = cli.run("generate", folder, "-f", prompts, *options)
        self.expect_error(result, "prompt 2", SAYS)
        outputs = json.loads(result.stdout)["outputs"]
        self.assertEqual([o["finish_reason"] for o in outputs], ["length", "error", "length"])
        self.assertEqual(outputs[1]["ids"], [])
        self.assertIn(SAYS, outputs[1]["error"])
        for prompt, output in (("1,5,9", outputs[0]), ("2,8,4,7", outputs[2])):
            alone = cli.run_json("generate", folder, "--ids", prompt, "-n", "3", "--ignore-eos")
            self.assertEqual(output["ids"], alone["outputs"][0]["ids"])
            self.assertNotIn("error", output)

    def test_the_first_layer_is_named_when_asked_for(self):
        folder = self.spoiled("model.layers.1.mlp.down_proj.weight")
        for command in ("generate", "score"):
            for mode in ("eager", "compiled"):
                with self.subTest(command=command, mode=mode):
                    result = cli.run(
                        command, folder, "--ids", PROMPT, "--mode", mode, "--check-numbers"
                    )
                    self.expect_error(
                        result, SAYS, "first: layer 1,", "model.layers.1.mlp.down_proj.weight"
                    )

    def test_checking_changes_no_answer(self):
        plain, checked = (
            cli.run_json("generate", cli.FIXTURES / "qwen3", "--ids", PROMPT, "-n", "8", *more)
            for more in ((), ("--check-numbers",))
        )
        self.assertEqual(plain["outputs"], checked["outputs"])


if __name__ == "__main__":
    cli.main()
