"""Greedy ids depend neither on the mode nor on the size of the batch; graph replays what compiled
launches, to the last bit of a sampled draw.

    modes_test.py PATH_OF_NEREID [--device auto] [--modes eager,compiled,graph] [--bundle DIR]
"""

import argparse
import json
import sys

import nereid_cli as cli

# Two logits closer than this may come out in either order where other kernels add them up.
NEAR_TIE = 0.05
N_MANY = 200
N_MANY_ON_CPU = 24
# Modes that launch the same kernels on the same numbers.
SAME_KERNELS = {"compiled", "graph"}

options = argparse.Namespace(device="auto", modes="", bundle="")


def prompts_of_many_lengths(n):
    """From one token to about 250, no two alike."""
    line = "    total_{i} = compute(total_{i}, {j}) + offset\n"
    return [
        f"def function_{i}(value):\n" + "".join(line.format(i=i, j=j) for j in range(i * 7 % 13))
        for i in range(n)
    ]


class Modes(cli.TestCase):
    @classmethod
    def setUpClass(cls):
        probe = cls.program("generate", "-p", "x", "-n", 1, "--json")
        if probe.returncode != 0:
            for reason in ("no NVIDIA driver", "no device cuda", "cuInit failed"):
                if reason in probe.stderr:
                    cls.skipTest(cls, f"no such device here: {probe.stderr.strip()}")
            raise AssertionError(probe.stderr)
        cls.device = json.loads(probe.stdout)["device"]
        modes = options.modes or (
            "eager,compiled" if cls.device == "cpu" else "eager,compiled,graph"
        )
        cls.modes = modes.split(",")
        cls.results = {}

    @staticmethod
    def program(command, *arguments):
        bundle = ("--bundle", options.bundle) if options.bundle else ()
        return cli.run(command, "demo", "--device", options.device, *bundle, *arguments)

    def generate(self, mode, prompts, *arguments):
        """The outputs of one run; a run is made once."""
        key = (mode, len(prompts), *map(str, arguments))
        if key not in self.results:
            file = self.folder / "prompts.jsonl"
            file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
            result = self.program("generate", "-f", file, "--json", "--mode", mode, *arguments)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.results[key] = json.loads(result.stdout)["outputs"]
            self.assertEqual(len(self.results[key]), len(prompts))
        return self.results[key]

    def logits_after(self, ids):
        out = self.folder / "logits.safetensors"
        result = self.program("score", "--mode", "eager", "--ids", cli.joined(ids), "--logits", out)
        self.assertEqual(result.returncode, 0, result.stderr)
        return cli.read_safetensors(out)["logits"][1][-1]

    def check_same(self, names, left, right, may_tie):
        """Identical ids, but for a near tie where the kernels differ."""
        n_ties = 0
        for one, other in zip(left, right, strict=True):
            self.assertEqual(one["prompt_ids"], other["prompt_ids"])
            pairs = zip(one["ids"], other["ids"], strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
            if at is None:
                self.assertEqual(one["ids"], other["ids"], names)
                self.assertEqual(one["text"], other["text"], names)
                continue
            where = f"{names}: {one['prompt'][:40]!r}, token {at}"
            self.assertTrue(may_tie, where)
            logits = self.logits_after(one["prompt_ids"] + one["ids"][:at])
            a, b = logits[one["ids"][at]], logits[other["ids"][at]]
            print(f"{where} differs, logits {a:.4f} and {b:.4f}", file=sys.stderr)
            self.assertLess(abs(a - b), NEAR_TIE, where)
            n_ties += 1
        print(f"{names}: {len(left) - n_ties} of {len(left)} identical", file=sys.stderr)
        # Ties are rare; many of them would be a fault that looks like one.
        self.assertLessEqual(n_ties, max(2, len(left) // 20), names)

    def check_modes(self, prompts, *arguments, may_tie=True):
        first, *others = self.modes
        for mode in others:
            before = "compiled" if mode == "graph" and "compiled" in self.modes else first
            self.check_same(
                f"{before} and {mode}",
                self.generate(before, prompts, *arguments),
                self.generate(mode, prompts, *arguments),
                may_tie and not {before, mode} <= SAME_KERNELS,
            )

    def test_modes_agree(self):
        self.check_modes(prompts_of_many_lengths(16), "-n", 48, "--batch-size", 16)

    def test_one_at_a_time(self):
        prompts = prompts_of_many_lengths(16)
        for mode in self.modes:
            together = self.generate(mode, prompts, "-n", 48, "--batch-size", 16)
            alone = self.generate(mode, prompts, "-n", 48, "--batch-size", 1)
            self.check_same(f"{mode}, batches of 1 and 16", alone, together, may_tie=True)

    def test_many_of_mixed_lengths(self):
        arguments = ("-n", 60, "--batch-size", 24, "--stop", "\n\n", "--stop", "return")
        prompts = prompts_of_many_lengths(N_MANY_ON_CPU if self.device == "cpu" else N_MANY)
        self.check_modes(prompts, *arguments)
        lengths = {
            len(output["ids"]) for output in self.generate(self.modes[-1], prompts, *arguments)
        }
        self.assertGreater(len(lengths), 2)

    def test_draws_are_the_same(self):
        if not set(self.modes) >= SAME_KERNELS:
            self.skipTest("needs both modes that launch the same kernels")
        sampling = ("--temperature", 0.8, "--top-p", 0.9, "--repetition-penalty", 1.1, "--seed", 5)
        arguments = ("-n", 48, "--batch-size", 16, *sampling)
        prompts = prompts_of_many_lengths(16)
        one, other = (self.generate(mode, prompts, *arguments) for mode in sorted(SAME_KERNELS))
        self.check_same("compiled and graph, sampled", one, other, may_tie=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--modes", default="")
    parser.add_argument("--bundle", default="")
    rest = parser.parse_known_args(sys.argv[1:], options)[1]
    sys.argv[1:] = rest
    cli.main()
