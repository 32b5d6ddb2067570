"""The published designs of attention on the bundled model: what PyTorch computes from the same
weights comes from each of them, too."""

import json

import nereid_cli as cli

N_TOKENS = 24
# Of the goldens those whose ids come out the same with this program's own attention.
N_PROMPTS = 3
# Design: the kernels of its prompts and of its decoding steps.
DESIGNS = {
    "amd": ("amd_flash", "amd_flash"),
    "tutorial": ("tutorial_flash", "tutorial_flash"),
    "dao": ("dao_flash", "dao_flash"),
    "flex": ("flex_attention", "flex_attention"),
    "split-k": ("attention_prefill", "split_k"),
    "split-k-atomic": ("attention_prefill", "split_k_atomic"),
}


class Attention(cli.TestCase):
    def test_goldens(self):
        goldens = json.loads((cli.GOLDENS / "goldens.json").read_text())["greedy"][:N_PROMPTS]
        file = self.folder / "prompts.jsonl"
        file.write_text("".join(json.dumps({"prompt": g["prompt"]}) + "\n" for g in goldens))
        expected = [golden["greedy_ids"][:N_TOKENS] for golden in goldens]
        for design, kernels in DESIGNS.items():
            for mode in ("eager", "compiled"):
                with self.subTest(design=design, mode=mode):
                    result = cli.run(
                        "generate", "demo", "--device", "cpu", "-f", file, "-n", N_TOKENS,
                        "--attention", design, "--mode", mode, "--print-launches", "--json",
                    )  # fmt: skip
                    self.assertEqual(result.returncode, 0, result.stderr)
                    outputs = json.loads(result.stdout)["outputs"]
                    self.assertEqual([output["ids"] for output in outputs], expected)
                    # The first step is of prompts alone.
                    self.assertIn(kernels[0], result.stderr)

    def test_kernels_of_each_phase(self):
        for design, kernels in DESIGNS.items():
            plan = cli.run("inspect", "plan", "demo", "--target", "cpu", "--attention", design)
            self.assertEqual(plan.returncode, 0, plan.stderr)
            for kernel in kernels:
                self.assertIn(kernel, plan.stdout, design)

    def test_an_unknown_design(self):
        result = cli.run("generate", "demo", "-p", "x", "--attention", "flashy")
        self.expect_usage_error(result, "flashy", ", ".join(["nereid", "amd", "tutorial", "dao"]))
        result = cli.run("bench", "attention", "demo", "--designs", "amd,flashy")
        self.expect_usage_error(result, "flashy", *DESIGNS)

    def test_bench(self):
        out = cli.run_json(
            "bench", "attention", "demo", "--device", "cpu", "--designs", "tutorial,split-k",
            "--max-tokens", 128, "--repeats", 1,
        )  # fmt: skip
        parts = {
            part: [row for row in out["rows"] if row["part"] == part]
            for part in ("answers", "layer", "sizes")
        }
        self.assertEqual(sum(map(len, parts.values())), len(out["rows"]))
        answers = {(row["design"], row["mode"]): row for row in parts["answers"]}
        self.assertEqual(len(answers), 4)
        for row in answers.values():
            self.assertEqual(row["problem"], "")
            self.assertEqual((row["same_ids"], row["same_lengths"]), (row["ids"], row["lengths"]))
            self.assertGreater(row["lengths"], 5)
            self.assertIn("fibonacci", row["text"])
        launches = {(row["design"], row["name"], row["query"], row["context"])
                    for row in parts["layer"] + parts["sizes"]}  # fmt: skip
        # Of what is packed the first; the head is the embedding's.
        products = {name for design, name, _, _ in launches if design == ""}
        self.assertEqual(
            products,
            {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj",
             "model.embed_tokens"},
        )  # fmt: skip
        attention = {cell for cell in launches if cell[0]}
        decode = {(d, "attention", 1, n) for d in ("tutorial", "split-k") for n in (44, 128)}
        prompts = {("tutorial", "attention", n, n) for n in (44, 128)}
        self.assertEqual(attention, decode | prompts)
        for row in parts["layer"] + parts["sizes"]:
            self.assertGreater(row["us"], 0)
            self.assertGreater(row["tflop_per_s"], 0)
            self.assertEqual(row["variant"], "causal" if row["design"] else "")

    def test_bench_of_variants(self):
        """Designs have soft caps and windows, but no slopes; the layer's products are left out."""
        variants = ("alibi", "softcap", "window")
        out = cli.run_json(
            "bench", "attention", "demo", "--device", "cpu", "--designs", "nereid,tutorial",
            "--variants", ",".join(variants), "--random-weights", "--max-tokens", 128,
            "--repeats", 1,
        )  # fmt: skip
        self.assertEqual({row["part"] for row in out["rows"]}, {"sizes"})
        seen = {(row["design"], row["variant"], row["query"]) for row in out["rows"]}
        expected = {("nereid", v, n) for v in variants for n in (1, 128)}
        expected |= {("tutorial", v, n) for v in ("softcap", "window") for n in (1, 128)}
        self.assertEqual(seen, expected)
        result = cli.run("bench", "attention", "demo", "--variants", "causal,odd")
        self.expect_usage_error(result, "odd", "causal, alibi, softcap, window")


if __name__ == "__main__":
    cli.main()
