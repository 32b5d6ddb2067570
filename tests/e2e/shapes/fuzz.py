"""Cases one after another: run, counted, and the first failures made small."""

import dataclasses
import functools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nereid_cli as cli

from shapes.check import Checker, Failure, Tally
from shapes.draw import Case, head_dim_of
from shapes.shrink import shrink
from shapes.weights import dtype_of, write_config

COMPILE_TIMEOUT_S = 3600


@dataclasses.dataclass(frozen=True)
class Options:
    nereid: Path
    device: str = "cpu"  # cpu | cuda
    bundle: Path | None = None  # of compiled kernels; None: compiled when they are needed


@dataclasses.dataclass
class Outcome:
    case: Case
    failures: list[Failure]
    tally: Tally
    seconds: float

    def line(self):
        """For people: one line a case."""
        config, tally = self.case.config, self.tally
        sizes = (
            f"{config['architectures'][0][:-11]} E {config['hidden_size']} "
            f"H {config['num_attention_heads']}/{config.get('num_key_value_heads', '=')} "
            f"Dh {head_dim_of(config)} V {config['vocab_size']} L {config['num_hidden_layers']} "
            f"{dtype_of(config)} cache {self.case.kv_cache}"
        )
        kinds = ", ".join(sorted({failure.kind for failure in self.failures})) or "right"
        return (
            f"{self.case.seed}: {sizes}: {kinds}; {tally.n_rows} rows of logits, {tally.n_ids} ids "
            f"({tally.n_ties} near ties), {tally.n_skipped} undecidable, worst "
            f"{tally.worst:.2f} of the allowed; {self.seconds:.0f} s"
        )


def run_case(case: Case, options: Options) -> Outcome:
    cli.nereid_path = options.nereid
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nereid-shapes-") as folder:
        checker = Checker(case, folder, options.device, options.bundle)
        failures = [found for run in case.runs if (found := checker.failure(run)) is not None]
        return Outcome(case, failures, checker.tally, time.monotonic() - started)


def run_cases(cases: list[Case], options: Options, n_jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order of the cases, as they come."""
    job = functools.partial(run_case, options=options)
    if n_jobs == 1:
        yield from map(job, cases)
        return
    with multiprocessing.get_context("spawn").Pool(n_jobs) as pool:
        yield from pool.imap(job, cases)


def smallest(outcome: Outcome, options: Options) -> tuple[Case, Failure]:
    """The outcome's first failure in the smallest case that has it."""

    def first_failure(case):
        return next(iter(run_case(case, options).failures), None)

    # Without a compiler the model must stay as it is.
    return shrink(outcome.case, outcome.failures[0], first_failure, options.bundle is None)


def compile_case(case: Case, target: str, bundle: Path):
    """Adds to a bundle the kernels of a case in every mode."""
    with tempfile.TemporaryDirectory(prefix="nereid-shapes-") as folder:
        write_config(case, Path(folder))
        arguments = ("compile", folder, "--target", target, "--out", bundle)
        arguments += ("--kv-cache", case.kv_cache)
        done = cli.run(*arguments, timeout=COMPILE_TIMEOUT_S)
        if done.returncode != 0:
            raise RuntimeError(f"seed {case.seed}: {done.stderr.strip()}")
