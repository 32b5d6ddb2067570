"""Greedy output depends neither on what else is in the batch nor on the size of the KV cache."""

import json

import nereid_cli as cli

N_NEW_TOKENS = 40
# Enough for the longest of the prompts alone, far too few for all of them at once.
N_BLOCKS = 4
N_TOKENS_A_BLOCK = 64
LINE = "    value = compute(value, index) + offset\n"


def function_of(n_lines):
    return f"def function_{n_lines}(value, offset):\n" + LINE * n_lines


def mixed_prompts():
    """16 prompts from 2 to about 200 tokens, so that chunks, blocks and buckets all differ."""
    goldens = json.loads((cli.GOLDENS / "goldens.json").read_text())
    prompts = [golden["prompt"] for golden in goldens["greedy"]]
    return [*prompts, *(function_of(n) for n in (1, 2, 3, 5, 7, 9, 11)), "x"]


class Batching(cli.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prompts = mixed_prompts()
        cls.single = [cls.generate([prompt])[0] for prompt in cls.prompts]

    @staticmethod
    def generate(prompts, *options):
        arguments = [part for prompt in prompts for part in ("-p", prompt)]
        out = cli.run_json("generate", "demo", *arguments, "-n", N_NEW_TOKENS, *options)
        return out["outputs"]

    def check(self, batched, prompts, single):
        self.assertEqual(len(batched), len(prompts))
        for prompt, one, many in zip(prompts, single, batched):
            with self.subTest(prompt=prompt):
                self.assertEqual(many["prompt"], prompt)
                self.assertEqual(many["prompt_ids"], one["prompt_ids"])
                self.assertEqual(many["ids"], one["ids"])
                self.assertEqual(many["text"], one["text"])
                self.assertEqual(many["finish_reason"], one["finish_reason"])

    def test_the_prompts_are_many_and_mixed(self):
        lengths = sorted(len(out["prompt_ids"]) for out in self.single)
        self.assertEqual(len(lengths), 16)
        self.assertLess(lengths[0], 8)
        self.assertGreater(lengths[-1], 128)
        self.assertLess(lengths[-1] + N_NEW_TOKENS, N_BLOCKS * N_TOKENS_A_BLOCK)

    def test_one_batch(self):
        self.check(self.generate(self.prompts), self.prompts, self.single)

    def test_too_few_blocks_for_all(self):
        out = self.generate(self.prompts, "--kv-blocks", N_BLOCKS)
        self.check(out, self.prompts, self.single)

    def test_prompts_longer_than_a_step(self):
        prompts = [function_of(60), self.prompts[0], function_of(45), self.prompts[-1]]
        single = [self.generate([prompt])[0] for prompt in prompts]
        self.assertGreater(len(single[0]["prompt_ids"]), 512)
        self.check(self.generate(prompts), prompts, single)

    def test_sampling_repeats_itself(self):
        options = ("--temperature", 0.8, "--top-k", 40, "--top-p", 0.95, "--seed", 7)
        prompt = self.prompts[:1]
        first = self.generate(prompt, *options)
        self.assertEqual(first[0]["ids"], self.generate(prompt, *options)[0]["ids"])
        other = self.generate(prompt, *options[:-1], 8)
        self.assertNotEqual(first[0]["ids"], other[0]["ids"])


if __name__ == "__main__":
    cli.main()
