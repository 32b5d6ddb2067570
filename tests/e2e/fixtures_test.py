"""One tiny model of every family, and of every published form of quantised weights, against the
logits and greedy tokens that PyTorch gives for it."""

import json

import nereid_cli as cli
import numpy as np

FP16_ERROR = 5e-3
BF16_ERROR = 3e-2
NEAR_TIE = 0.05
BF16_FIXTURES = ("llama3", "qwen2")
# A device's columns of such a weight are of all its groups.
UNDIVIDED = "quantized/gptq_act_order"


def relative_error(out, reference):
    return np.linalg.norm(out - reference) / np.linalg.norm(reference)


def bf16_bits(array):
    """The array rounded to nearest even, as the upper half of its float32 bits."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Fixtures(cli.TestCase):
    def score(self, model, ids):
        out = self.folder / "logits.safetensors"
        result = cli.run_json("score", model, "--ids", cli.joined(ids), "--logits", out)
        self.assertEqual(result["tokens"], len(ids))
        dtype, logits = cli.read_safetensors(out)["logits"]
        self.assertEqual(dtype, "F32")
        return result, logits

    def check_logits(self, name):
        folder = cli.FIXTURES / name
        golden = json.loads((folder / "golden.json").read_text())
        reference = cli.read_safetensors(folder / "golden_logits.safetensors")["logits"][1]
        result, logits = self.score(folder, golden["input_ids"])
        self.assertEqual(logits.shape, reference.shape)
        error = relative_error(logits, reference)
        print(f"{name}: relative error {error:.2e}")
        self.assertLess(error, FP16_ERROR)
        # The likelihood printed is that of the logits dumped.
        wide = reference[:-1].astype(np.float64)
        log_sum = np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)) + wide.max(-1)
        targets = wide[np.arange(len(wide)), golden["input_ids"][1:]]
        nll = float((log_sum - targets).mean())
        self.assertAlmostEqual(result["nll"], nll, delta=0.01 * abs(nll))

    def check_greedy(self, name):
        folder = cli.FIXTURES / name
        golden = json.loads((folder / "golden.json").read_text())
        prompt, expected = golden["input_ids"], golden["greedy_new_ids"]
        n = len(expected)
        arguments = ("generate", folder, "--ids", cli.joined(prompt), "-n", n, "--ignore-eos")
        out = cli.run_json(*arguments)["outputs"][0]
        self.assertEqual(out["prompt_ids"], prompt)
        self.assertEqual(len(out["ids"]), n)
        at = next((i for i in range(n) if out["ids"][i] != expected[i]), None)
        if at is None:
            return
        logits = self.score(folder, prompt + expected[:at])[1][-1]
        ours, theirs = logits[out["ids"][at]], logits[expected[at]]
        print(f"{name}: token {at} differs, logits {ours:.4f} and {theirs:.4f}")
        self.assertLess(abs(ours - theirs), NEAR_TIE)

    def check_refused(self, name):
        done = cli.run("score", cli.FIXTURES / name, "--ids", "1,2,3")
        self.expect_error(done, "is not divided among devices")

    def test_bf16_copies(self):
        for name in BF16_FIXTURES:
            with self.subTest(fixture=name):
                folder = self.copy_model(cli.FIXTURES / name, name)
                weights = cli.read_safetensors(folder / "model.safetensors")
                copies = {key: ("BF16", bf16_bits(array)) for key, (_, array) in weights.items()}
                (folder / "model.safetensors").write_bytes(cli.safetensors_bytes(copies))
                self.edit_json(folder / "config.json", dtype="bfloat16")
                golden = json.loads((folder / "golden.json").read_text())
                reference = cli.read_safetensors(folder / "golden_logits.safetensors")["logits"][1]
                _, logits = self.score(folder, golden["input_ids"])
                error = relative_error(logits, reference)
                print(f"{name} in bf16: relative error {error:.2e}")
                self.assertLess(error, BF16_ERROR)


def add_cases(name):
    of = name.replace("/", "_")
    if name == UNDIVIDED and cli.has_ranks():
        setattr(Fixtures, f"test_refused_{of}", lambda self: self.check_refused(name))
        return
    setattr(Fixtures, f"test_logits_{of}", lambda self: self.check_logits(name))
    setattr(Fixtures, f"test_greedy_{of}", lambda self: self.check_greedy(name))


for fixture in cli.FIXTURE_NAMES:
    add_cases(fixture)
for quantised in sorted((cli.FIXTURES / "quantized").iterdir()):
    add_cases(f"quantized/{quantised.name}")

if __name__ == "__main__":
    cli.main()
