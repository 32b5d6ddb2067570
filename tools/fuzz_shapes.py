#!/usr/bin/env python3
"""Random models through the program, against a float64 forward pass in numpy.

    tools/fuzz_shapes.py --nereid build/release/apps/nereid --seed 1 --n 200

A case is a function of its seed: its config.json, its weights, and eight runs of the program
(tests/e2e/shapes/draw.py). Where the machine with the GPU has no compiler, the kernels go there in
a bundle and the models are drawn again:

    tools/fuzz_shapes.py --nereid ... --seed 1 --n 60 --compile-for cuda:90 --bundle DIR
    tools/fuzz_shapes.py --nereid ... --seed 1 --n 60 --device cuda --bundle DIR    (there)

Prints a line a case, the smallest case found for the first failures, and a summary. Exit code 1
where anything was wrong.
"""

import argparse
import collections
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import nereid_cli as cli  # noqa: E402
from shapes import fuzz  # noqa: E402
from shapes.check import Tally  # noqa: E402
from shapes.draw import WIDE, Pool, draw_case  # noqa: E402


def words(text):
    return tuple(text.split(","))


def numbers(text):
    return tuple(int(word) for word in words(text))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nereid", type=Path, required=True, help="the program")
    parser.add_argument("--seed", type=int, default=1, help="of the first case; the next has +1")
    parser.add_argument("--n", type=int, default=10, help="cases")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bundle", type=Path, help="directory of compiled kernels")
    parser.add_argument("--compile-for", metavar="TARGET", help="only add the kernels to --bundle")
    sizes = parser.add_argument_group("what cases share, so that fewer kernels are compiled")
    sizes.add_argument("--hidden", type=numbers, default=WIDE.hidden, metavar="N,N")
    sizes.add_argument("--inner", type=numbers, default=WIDE.inner, metavar="N,N")
    sizes.add_argument("--dtypes", type=words, default=WIDE.dtypes, metavar="NAME,NAME")
    sizes.add_argument(
        "--free", type=float, default=WIDE.free_share, help="share of sizes drawn from all"
    )
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    parser.add_argument("--shrink", type=int, default=1, help="failing cases to make small")
    arguments = parser.parse_args()
    if arguments.compile_for and not arguments.bundle:
        parser.error("--compile-for needs --bundle DIR to put the kernels into")
    if not arguments.nereid.exists():
        parser.error(f"{arguments.nereid} does not exist; build it with ./dev build")
    return arguments


def compile_all(arguments, cases):
    for case in cases:
        fuzz.compile_case(case, arguments.compile_for, arguments.bundle)
        print(f"{case.seed}: compiled", flush=True)


def run_all(arguments, cases):
    options = fuzz.Options(arguments.nereid, arguments.device, arguments.bundle)
    kinds, total, n_wrong, n_to_shrink = collections.Counter(), Tally(), 0, arguments.shrink
    for outcome in fuzz.run_cases(cases, options, arguments.jobs):
        print(outcome.line(), flush=True)
        total.add(outcome.tally)
        if not outcome.failures:
            continue
        n_wrong += 1
        kinds.update({failure.kind for failure in outcome.failures})
        for failure in outcome.failures:
            run = failure.run
            print(f"  {failure.kind}: {run.command} {run.mode}: {failure.detail}", flush=True)
        if n_to_shrink > 0:
            n_to_shrink -= 1
            case, failure = fuzz.smallest(outcome, options)
            print(f"smallest found: {failure.kind}: {failure.detail}\n{case}", flush=True)
    print(
        f"{len(cases) - n_wrong} of {len(cases)} cases right"
        f"{'; ' if kinds else ''}{', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}; "
        f"{total.n_rows} rows of logits, {total.n_ids} ids ({total.n_ties} near ties), "
        f"{total.n_skipped} undecidable, worst {total.worst:.2f} of the allowed"
    )
    return 1 if n_wrong else 0


def main():
    arguments = parse_arguments()
    arguments.nereid = cli.nereid_path = arguments.nereid.resolve()
    pool = Pool(arguments.hidden, arguments.inner, arguments.dtypes, arguments.free)
    seeds = range(arguments.seed, arguments.seed + arguments.n)
    cases = [draw_case(seed, pool) for seed in seeds]
    if arguments.compile_for:
        compile_all(arguments, cases)
        return 0
    return run_all(arguments, cases)


if __name__ == "__main__":
    sys.exit(main())
