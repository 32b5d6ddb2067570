"""Runs the program on a case and holds what it says against the float64 forward pass.

A logit may be off by 5e-3 of its row's largest. Where more is seen, the pass is repeated with its
values rounded to the element types that the program stores: what that alone moves, three times
over, is allowed too (bf16, and models that amplify). A chosen id must be the reference's, or one
that is as good within twice that; what follows is then compared along the program's own ids.
"""

import dataclasses
import json
import subprocess
from pathlib import Path

import nereid_cli as cli
import numpy as np

from shapes.choice import shortfalls
from shapes.draw import Run
from shapes.forward import Model, log_softmax
from shapes.weights import draw_tensors, dtype_of, prompt_ids, write_config

LOGIT_ERROR = 5e-3
ROUNDING_MARGIN = 3.0
# Beyond this the reference itself says nothing: rounding alone decides.
MAX_LOGIT_ERROR = 0.3
# The log-probability of fp32 logits, computed in fp32.
LOGPROB_ERROR = 1e-4


@dataclasses.dataclass(frozen=True)
class Failure:
    """What is wrong: `kind` is refused, crashed, nan, logits, logprobs, ids or form."""

    kind: str
    run: Run
    detail: str


class Wrong(Exception):
    def __init__(self, kind, detail):
        super().__init__(detail)
        self.kind = kind


@dataclasses.dataclass
class Tally:
    """What was compared, and how near to its limit the worst came."""

    n_rows: int = 0
    n_ids: int = 0
    n_ties: int = 0
    n_skipped: int = 0  # rows of which rounding alone decides
    worst: float = 0.0  # error over what is allowed

    def add(self, other):
        self.worst = max(self.worst, other.worst)
        for name in ("n_rows", "n_ids", "n_ties", "n_skipped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Reference:
    """The logits of a case after some ids, and how far off the program's may be."""

    def __init__(self, case, is_cpu):
        self.tensors = draw_tensors(case)
        # Of 8 bits what the cache holds is no matter of rounding errors.
        narrow = "F8_E4M3" if case.kv_cache == "fp8" else None
        self.exact = Model(case.config, self.tensors, cache=narrow)
        dtype = dtype_of(case.config)
        # The processor computes in fp32, whatever the weights are.
        self.stored = {"cache": narrow or dtype, "activations": "F32" if is_cpu else dtype}
        self._rounded = None

    def logits(self, ids, rows):
        return self.exact.logits(ids, rows)

    def rounding_error(self, ids, rows, logits):
        """The largest that rounding moves a logit, relative to its row's largest."""
        if self._rounded is None:
            self._rounded = Model(self.exact.config, self.tensors, **self.stored)
        moved = np.abs(self._rounded.logits(ids, rows) - logits).max(axis=-1)
        return float((moved / np.abs(logits).max(axis=-1)).max())


class Checker:
    def __init__(self, case, folder, device="cpu", bundle=None):
        self.case, self.folder, self.device = case, Path(folder), device
        self.bundle = ("--bundle", bundle) if bundle else ()
        self.tally = Tally()
        self.reference = Reference(case, device == "cpu")
        self.model = self.folder / "model"
        write_config(case, self.model)
        weights = cli.safetensors_bytes(self.reference.tensors)
        (self.model / "model.safetensors").write_bytes(weights)

    def failure(self, run):
        """What is wrong with one run; None where nothing is."""
        try:
            (self._score if run.command == "score" else self._generate)(run)
        except Wrong as wrong:
            return Failure(wrong.kind, run, str(wrong))
        return None

    def _program(self, run, *arguments):
        mode = "compiled" if run.mode == "graph" and self.device == "cpu" else run.mode
        options = ("--mode", mode, "--device", self.device, *self.bundle, "--json")
        options += ("--kv-cache", self.case.kv_cache)
        sizes = ("--batch-size", run.batch_size, "--max-batch-tokens", run.max_batch_tokens)
        try:
            done = cli.run(run.command, self.model, *arguments, *options, *sizes)
        except subprocess.TimeoutExpired as error:
            raise Wrong("crashed", f"no end within {error.timeout} s") from error
        if done.returncode != 0:
            kind = "refused" if done.returncode == 1 else "crashed"
            if "not finite" in done.stderr:
                kind = "nan"
            raise Wrong(kind, f"exit {done.returncode}: {done.stderr.strip()[-1500:]}")
        return json.loads(done.stdout)

    def _limits(self, ids, rows, logits, needed):
        """[rows] what a logit may be off. `needed`: the error there is, of the row's largest."""
        allowed = LOGIT_ERROR
        if needed > allowed:
            noise = self.reference.rounding_error(ids, rows, logits)
            allowed = max(allowed, ROUNDING_MARGIN * noise)
            if allowed > MAX_LOGIT_ERROR:
                self.tally.n_skipped += len(logits)
                return None
        if needed <= allowed:
            self.tally.worst = max(self.tally.worst, float(needed / allowed))
        return allowed * np.abs(logits).max(axis=-1)

    def _score(self, run):
        ids = prompt_ids(self.case, run, 0)
        file = self.folder / "logits.safetensors"
        result = self._program(run, "--ids", cli.joined(ids), "--logits", file)
        logits = cli.read_safetensors(file)["logits"][1].astype(np.float64)
        logprobs = np.array(result["logprobs"], dtype=np.float64)
        wanted = self.reference.logits(ids, slice(None))
        if logits.shape != wanted.shape or logprobs.shape != (len(ids) - 1,):
            raise Wrong("form", f"logits {logits.shape}, logprobs {logprobs.shape}")
        is_number = np.isfinite(logits).all(axis=-1)
        if not is_number.all():
            raise Wrong("nan", f"logits of {np.sum(~is_number)} rows, first {is_number.argmin()}")
        error = np.abs(logits - wanted).max(axis=-1)
        needed = error / np.abs(wanted).max(axis=-1)
        limits = self._limits(ids, slice(None), wanted, needed.max())
        self.tally.n_rows += len(ids)
        if limits is not None and (error > limits).any():
            row = int((error / limits).argmax())
            raise Wrong(
                "logits",
                f"row {row} of {len(ids)} off by {error[row]:.3g}, allowed {limits[row]:.3g}; "
                f"rows {np.flatnonzero(error > limits)[:8]} of those are",
            )
        own = log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]]
        off = np.abs(logprobs - own)
        if not (off <= LOGPROB_ERROR * (1 + np.abs(own))).all():
            row = int(np.nan_to_num(off, nan=np.inf).argmax())
            raise Wrong(
                "logprobs", f"row {row}: {logprobs[row]:.6f}, its logits say {own[row]:.6f}"
            )

    def _generate(self, run):
        prompts = [prompt_ids(self.case, run, i) for i in range(len(run.prompt_lengths))]
        file = self.folder / "prompts.jsonl"
        file.write_text("".join(json.dumps({"ids": ids}) + "\n" for ids in prompts))
        options = ["-f", file, "-n", run.n_new, "--ignore-eos"]
        if run.kv_blocks:
            options += ["--kv-blocks", run.kv_blocks]
        for name, value in run.sampling.items():
            options += ["--" + name.replace("_", "-"), value]
        outputs = self._program(run, *options)["outputs"]
        if len(outputs) != len(prompts):
            raise Wrong("form", f"{len(outputs)} outputs of {len(prompts)} prompts")
        for index, (prompt, output) in enumerate(zip(prompts, outputs)):
            ids = output["ids"]
            if output["prompt_ids"] != prompt or len(ids) != run.n_new:
                raise Wrong("form", f"prompt {index}: {len(ids)} ids of {run.n_new}")
            if not all(0 <= i < self.case.config["vocab_size"] for i in ids):
                raise Wrong("ids", f"prompt {index}: {ids}")
            self._check_choices(run, index, prompt, ids)

    def _check_choices(self, run, index, prompt, ids):
        """Each id against what the reference says of the prompt and the ids before it."""
        text = prompt + ids[:-1]
        rows = slice(len(prompt) - 1, None)
        logits = self.reference.logits(text, rows)
        largest = np.abs(logits).max(axis=-1)
        limits = LOGIT_ERROR * largest
        short = shortfalls(run.sampling, index, prompt, ids, logits, limits)
        if (short > 0).any():
            # Off by so much of the largest logit, over the two that were compared.
            limits = self._limits(text, rows, logits, LOGIT_ERROR + (short / largest).max() / 2)
            if limits is None:
                return
            short = shortfalls(run.sampling, index, prompt, ids, logits, limits)
        if (short > 0).any():
            at = int((short > 0).argmax())
            best = int(logits[at].argmax())
            raise Wrong(
                "ids",
                f"prompt {index} of {len(prompt)} tokens: new token {at} is {ids[at]} with logit "
                f"{logits[at, ids[at]]:.4f}; {best} has {logits[at, best]:.4f}; allowed "
                f"{limits[at]:.3g}",
            )
        self.tally.n_ids += len(ids)
        if not run.sampling:
            self.tally.n_ties += int((logits.argmax(axis=-1) != ids).sum())
