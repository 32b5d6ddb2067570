"""Writes every kernel's test cases as files that a program in any language can run.

python -m aot.cases --out DIR --target T [--generated DIR] [--kernel NAME]... [--spec FILE]...
                    [--case NAME] [--random N [--seed S] [--only-random]]
(docs/formats.md, section 6)
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aot import sources, space
from aot.request import Request, choose, tuning_for
from kernels import expr
from kernels.lib import draws
from kernels.lib.numbers import from_storage, to_storage

# What activations are, by family: the CPU computes in fp32, GPUs keep 16 bits.
ACTIVATIONS = {"cpu": "fp32", "cuda": "fp16", "hip": "fp16"}
# A unit below which an element type has no more digits, or a GPU drops them.
SMALLEST_UNIT = {"fp16": 2.0**-14, "bf16": 1e-30, "fp32": 1e-30}
DRAWN_NAME = re.compile(r"random_(\d+)_(\d+)")


def request_of(spec, case, target: str) -> Request:
    """The request that a planner would make for this case."""
    planned = {
        p.name: case.args[p.name]
        for p in spec.params
        if p.role in ("size", "stride") and not p.step
    }
    largest = {p.name: case.args[p.name] for p in spec.params if p.step}
    tuning = tuning_for(target, spec.name)
    if case.choice:
        tuning = {"rows": [{"when": {}, "choice": case.choice}]}
    constexprs, n_warps, n_stages = choose(
        spec, target, planned, case.constexprs, case.dtypes, tuning, largest, case.functions
    )
    args = {}
    for param in spec.params:
        if param.shape:
            args[param.name] = f"*{case.dtypes[param.name]}:16"
        elif param.role != "constexpr":
            divisible = param.name in planned and planned[param.name] % 16 == 0
            args[param.name] = param.types[0] + (":16" if divisible else "")
    return Request(spec.name, args, constexprs, n_warps, n_stages, {}, case.functions)


def arguments(spec, case) -> dict[str, Any]:
    """The case's arguments as the kernel sees them: arrays rounded to their element types."""
    values = dict(case.args)
    for name, dtype in case.dtypes.items():
        if values[name] is not None:
            values[name] = from_storage(to_storage(np.asarray(values[name]), dtype), dtype)
    return values


def expected(spec, case, request: Request) -> dict[str, np.ndarray]:
    """Outputs by the reference; an output that it leaves out is scratch."""
    values = {
        **arguments(spec, case), **request.constexprs, **case.functions, "dtypes": case.dtypes
    }  # fmt: skip
    return spec.reference(values)


def grid_of(spec, case, request: Request) -> list[int]:
    names = {p.name: case.args[p.name] for p in spec.params if p.role in ("size", "stride")}
    return [expr.evaluate(text, {**names, **request.constexprs}) for text in spec.grid]


def tolerance_of(spec, case, name: str) -> float:
    return case.tolerance.get(name, spec.tolerance[case.dtypes[name]])


def unit_of(case, name: str) -> float:
    return max(case.units.get(name, 1.0), SMALLEST_UNIT.get(case.dtypes[name], 0.0))


def drawn(spec, target: str, seed: int, number: int) -> tuple[Any, Request]:
    """A case by chance. Of the variants of a seed half take what is chosen by default, half what
    the Spec's space allows."""
    case = draws.draw(spec, ACTIVATIONS[target.partition(":")[0]], seed, number)
    request = request_of(spec, case, target)
    chance = draws.Choices("choice", spec.name, seed, number % draws.N_VARIANTS)
    combinations = space.combinations(spec, target)
    chance.rng.shuffle(combinations)
    if chance.chance(0.5) and not case.choice:
        allowed = (space.request(spec, target, case, request, each) for each in combinations)
        request = next((each for each in allowed if each is not None), request)
    return case, request


def all_cases(
    target: str,
    only: list[str] | None = None,
    *,
    case_name: str | None = None,
    n_random: int = 0,
    seed: int = 0,
    written: bool = True,
) -> Iterator[tuple[Any, Any, Request]]:
    """The written ones of each Spec, then `n_random` drawn ones; or the one of that name."""
    numbers = range(n_random)
    if case_name and (match := DRAWN_NAME.fullmatch(case_name)):
        seed, numbers = int(match[1]), [int(match[2])]
    for kernel in only or sources.generated_names() or sources.kernel_names():
        spec = sources.load_spec(kernel)
        names = set()
        for case in spec.cases(ACTIVATIONS[target.partition(":")[0]]):
            if case.name in names:
                raise ValueError(f"{kernel} has two cases {case.name}")
            names.add(case.name)
            if written and case_name in (None, case.name):
                yield spec, case, request_of(spec, case, target)
        for number in numbers:
            case, request = drawn(spec, target, seed, number)
            yield spec, case, request


def write_case(folder: Path, spec, case, request: Request) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = expected(spec, case, request)
    rows = []
    for param in spec.params:
        if param.role == "constexpr":
            continue
        value = case.args[param.name]
        row: dict[str, Any] = {"name": param.name, "role": param.role}
        row["type"] = "pointer" if param.shape else param.types[0]
        if not param.shape or value is None:
            row["value"] = 0 if value is None else value
        else:
            dtype = case.dtypes[param.name]
            file = f"{param.role}.{param.name}"
            (folder / file).write_bytes(to_storage(np.asarray(value), dtype).tobytes())
            row |= {"file": file, "shape": list(value.shape), "dtype": dtype}
        if param.name in wanted:
            raw = to_storage(wanted[param.name], case.dtypes[param.name])
            row["expected"] = f"out.{param.name}.expected"
            row["tolerance"] = tolerance_of(spec, case, param.name)
            row["unit"] = unit_of(case, param.name)
            (folder / row["expected"]).write_bytes(raw.tobytes())
        rows.append(row)
    body = {
        "request": json.loads(request.key),
        "args": rows,
        "grid": grid_of(spec, case, request),
    }
    (folder / "case.json").write_text(json.dumps(body, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="aot.cases", description="Writes kernels' test cases.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--kernel", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--generated", type=Path, help="of the kernels whose sources are here, in place of kernels/"
    )
    parser.add_argument(
        "--spec", type=Path, action="append", default=[], help="of this user's file alone"
    )
    parser.add_argument("--case", help="only that of this name, drawn ones too: random_SEED_NUMBER")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="so many drawn of each")
    parser.add_argument("--only-random", action="store_true", help="without the written ones")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.generated is not None:
        sources.use_generated(args.generated)
    own = [sources.use_own(path) for path in args.spec]
    keys = {}
    n_cases = 0
    asked = all_cases(
        args.target,
        args.kernel or own,
        case_name=args.case,
        n_random=args.random,
        seed=args.seed,
        written=not args.only_random,
    )
    for spec, case, request in asked:
        write_case(args.out / spec.name / case.name, spec, case, request)
        keys[request.key] = None
        n_cases += 1
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "requests.jsonl").write_text("".join(f"{key}\n" for key in keys))
    print(f"{n_cases} cases, {len(keys)} requests in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
