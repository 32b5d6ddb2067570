"""Models of odd shapes against a float64 forward pass, which is itself held against the fixtures.

Five random models, each used for eight runs; tools/fuzz_shapes.py runs more of them, and on a GPU.

    shapes_test.py PATH_OF_NEREID [unittest arguments]
"""

import dataclasses
import json

import nereid_cli as cli
import numpy as np
from shapes import fuzz
from shapes.check import Checker
from shapes.choice import clocks, philox, shortfalls
from shapes.draw import Pool, draw_case
from shapes.forward import Model
from shapes.shrink import shrink

HALF_FREQUENCIES = (
    "granite3",
    "granite_code",
    "llama3",
    "llama31_rope",
    "mistral_swa",
    "qwen2",
    "qwen3",
)
# PyTorch's fp32 arithmetic, which sums in another order.
FIXTURE_ERROR = 1e-3
SEEDS = range(1, 6)
# Few sizes, so that cases share what they can of the kernels.
POOL = Pool(hidden=(77, 192), inner=(50, 352), dtypes=("float16",), free_share=0.0)


class Reference(cli.TestCase):
    """The forward pass and what is concluded from it."""

    def test_forward_pass_on_fixtures(self):
        for name in cli.FIXTURE_NAMES:
            with self.subTest(name):
                folder = cli.FIXTURES / name
                golden = json.loads((folder / "golden.json").read_text())
                wanted = cli.read_safetensors(folder / "golden_logits.safetensors")["logits"][1]
                config = json.loads((folder / "config.json").read_text())
                # PyTorch had loaded these in half precision, its table of frequencies included.
                frequencies = "F16" if name in HALF_FREQUENCIES else "F32"
                tensors = cli.read_safetensors(folder / "model.safetensors")
                model = Model(config, tensors, frequencies=frequencies)
                prompt, new = golden["input_ids"], golden["greedy_new_ids"]
                logits = model.logits(prompt + new)
                off = np.abs(logits[: len(prompt)] - wanted).max()
                print(f"{name}: off by {off:.1e}")
                self.assertLess(off, FIXTURE_ERROR)
                self.assertEqual(logits[len(prompt) - 1 : -1].argmax(axis=-1).tolist(), new)

    def test_random_numbers(self):
        # The known answer of Random123 for a counter and a key of zeros.
        zero = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        self.assertEqual(philox(0, [0], 0)[:, 0].tolist(), zero)
        # A clock rings after one unit on average; each token, step and seed has its own.
        drawn = np.stack([clocks(seed, step, 1000) for seed in (1, 2) for step in (0, 1)])
        self.assertEqual(len(np.unique(drawn)), drawn.size)
        self.assertAlmostEqual(drawn.mean(), 1.0, delta=0.05)

    def test_ids_that_may_be_chosen(self):
        logits = np.array([[3.0, 1.0, 2.9, -1.0]])

        def is_allowed(chosen, limit=0.01, **sampling):
            limits = np.array([limit])
            return shortfalls(sampling, 0, [1], [chosen], logits, limits)[0] <= 0

        def allowed(seeds=(0,), **options):
            return [i for i in range(4) if any(is_allowed(i, seed=s, **options) for s in seeds)]

        self.assertEqual(allowed(), [0])
        self.assertEqual(allowed(limit=0.06), [0, 2])
        # Token 1 stands in the prompt.
        self.assertEqual(allowed(repetition_penalty=0.25), [1])
        # What the prompt says costs nothing here, and nothing was generated yet.
        self.assertEqual(allowed(presence_penalty=-9.0, frequency_penalty=-9.0), [0])
        again = {"presence_penalty": 0.1, "frequency_penalty": 0.1}
        rows, none = np.repeat(logits, 3, axis=0), np.zeros(3)
        self.assertTrue((shortfalls(again, 0, [0], [0, 2, 0], rows, none) <= 0).all())
        self.assertFalse((shortfalls(again, 0, [0], [0, 0, 2], rows, none) <= 0).all())
        many = range(400)
        self.assertEqual(allowed(many, temperature=1.0), [0, 1, 2, 3])
        self.assertEqual(allowed(many, temperature=1.0, top_k=2), [0, 2])
        self.assertEqual(allowed(many, temperature=1.0, top_p=0.45), [0])
        self.assertEqual(allowed(many, temperature=1.0, top_p=0.6), [0, 2])
        self.assertEqual(allowed(many, temperature=2.0, min_p=0.3), [0, 1, 2])
        # A seed draws one of them.
        n_allowed = [len(allowed((seed,), temperature=1.0)) for seed in many]
        self.assertEqual(min(n_allowed), 1)
        self.assertLess(np.mean(n_allowed), 1.1)


class Shapes(cli.TestCase):
    def test_random_models(self):
        options = fuzz.Options(cli.nereid_path)
        for seed in SEEDS:
            with self.subTest(seed=seed):
                outcome = fuzz.run_case(draw_case(seed, POOL), options)
                print(outcome.line(), flush=True)
                self.assertEqual(outcome.tally.n_skipped, 0, "a model that amplifies rounding")
                if outcome.failures:
                    case, failure = fuzz.smallest(outcome, options)
                    self.fail(f"{failure.kind}: {failure.detail}; smallest found:\n{case}")

    def test_a_fault_is_found_and_made_small(self):
        """One element of one weight is not what the reference has."""
        case = draw_case(SEEDS[0], POOL)
        name = "model.layers.0.mlp.down_proj.weight"

        def first_failure(case):
            checker = Checker(case, self.folder)
            tensors = dict(checker.reference.tensors)
            dtype, values = tensors[name]
            values = values.copy()
            values[0, 0] += 8
            tensors[name] = (dtype, values)
            (checker.model / "model.safetensors").write_bytes(cli.safetensors_bytes(tensors))
            return next(filter(None, map(checker.failure, case.runs)), None)

        failure = first_failure(case)
        self.assertIsNotNone(failure)
        self.assertEqual(failure.kind, "logits")
        # The model stays as it is: no more kernels than the other test compiles.
        smaller, failure = shrink(case, failure, first_failure, may_change_model=False)
        (run,) = smaller.runs
        self.assertEqual(run, dataclasses.replace(run, command="score", n_new=0, sampling={}))
        self.assertEqual(run.prompt_lengths, (2,))
        self.assertIn("off by", failure.detail)


if __name__ == "__main__":
    cli.main()
