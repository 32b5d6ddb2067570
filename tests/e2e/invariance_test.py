"""With --batch-invariant, what a prompt gets depends to the last bit neither on the prompts beside
it nor on how its own is cut into steps, in every form of weights and of the cache; and the modes
choose the same ids."""

import json
import random

import nereid_cli as cli

N_NEW_TOKENS = 12
# A token, a few, some blocks; about a chunk's and a tile's borders.
PROMPT_LENGTHS = (1, 2, 7, 15, 16, 17, 33, 70, 130)
CHUNK = 16
N_IDS = 128  # of the smallest vocabulary; the first three are special
N_TOP = 4
# Between modes, where other kernels add up in another order: of one token's log-probability, and
# between the two of which each chose another.
LOGPROB_ERROR = 0.02
# The same where keys and values are rounded to 8 bits: one between two codes goes either way, and
# the two are a sixteenth apart.
NARROW_ERROR = 0.1
# A family, what its weights become when they are loaded, and what its cache is.
LOADED = (
    ("llama3", None, "fp8"),
    ("phi3", "int8", "auto"),
    ("phi3", "int8", "fp8"),
    ("qwen3", "fp8", "auto"),
    ("qwen3", "fp8", "fp8"),
    ("gemma3", "int4", "auto"),
    ("gemma3", "int4", "fp8"),
)
# Of published forms: those whose checkpoints have scales of a cache of 8 bits.
WITH_CACHE_SCALES = ("ct_fp8_kv",)
# Prompts that run at the same time, tokens of a step at most (0: more than there are).
ALONE = (1, 0)
AMONG_OTHERS = ((3, 0), (9, 0), (1, CHUNK), (9, CHUNK))


def drawn_prompts(seed):
    draw = random.Random(seed)
    return [[draw.randrange(3, N_IDS) for _ in range(n)] for n in PROMPT_LENGTHS]


class Invariance(cli.TestCase):
    def outputs(self, model, prompts, n_sequences, max_tokens, *options):
        file = self.folder / "prompts.jsonl"
        file.write_text("".join(json.dumps({"ids": prompt}) + "\n" for prompt in prompts))
        sizes = ("--batch-size", n_sequences, "--max-batch-tokens", max_tokens)
        out = cli.run_json(
            "generate", model, "-f", file, "-n", N_NEW_TOKENS, "--ignore-eos", "--logprobs", N_TOP,
            "--batch-invariant", "--no-prefix-caching", *sizes, *options,
        )["outputs"]  # fmt: skip
        self.assertEqual([answer["prompt_ids"] for answer in out], prompts)
        self.assertEqual({len(answer["ids"]) for answer in out}, {N_NEW_TOKENS})
        return [(answer["ids"], answer["logprobs"]) for answer in out]

    def check_near(self, one, other, error):
        """The same ids, but for a near tie, up to which the log-probabilities are near."""
        (ids, logprobs), (other_ids, other_logprobs) = one, other
        at = next((i for i, (a, b) in enumerate(zip(ids, other_ids)) if a != b), None)
        for mine, theirs in zip(logprobs[:at], other_logprobs[:at]):
            self.assertAlmostEqual(mine["logprob"], theirs["logprob"], delta=error)
        if at is None:
            return 0
        likely = {row["id"]: row["logprob"] for row in logprobs[at]["top"]}
        self.assertIn(other_ids[at], likely)
        self.assertLess(likely[ids[at]] - likely[other_ids[at]], error)
        return 1

    def check(self, model, *options):
        prompts = drawn_prompts(f"{model.name} {options}")
        alone = {}
        for mode in ("eager", "compiled"):
            run = (*options, "--mode", mode)
            alone[mode] = self.outputs(model, prompts, *ALONE, *run)
            for sizes in AMONG_OTHERS:
                with self.subTest(mode=mode, sizes=sizes):
                    self.assertEqual(self.outputs(model, prompts, *sizes, *run), alone[mode])
        # Many near ties would be a fault that looks like one.
        is_narrow = options[-1] == "fp8"
        error, most_ties = (NARROW_ERROR, 3) if is_narrow else (LOGPROB_ERROR, 1)
        pairs = zip(alone["eager"], alone["compiled"])
        self.assertLessEqual(sum(self.check_near(*pair, error) for pair in pairs), most_ties)

    def test_quantised_when_loaded(self):
        for family, weights, cache in LOADED:
            with self.subTest(family=family, weights=weights, cache=cache):
                quantize = ("--quantize", weights) if weights else ()
                self.check(cli.FIXTURES / family, *quantize, "--kv-cache", cache)

    def test_published_forms(self):
        for model in sorted((cli.FIXTURES / "quantized").iterdir()):
            with self.subTest(model=model.name):
                cache = "fp8" if model.name in WITH_CACHE_SCALES else "auto"
                self.check(model, "--kv-cache", cache)


if __name__ == "__main__":
    cli.main()
