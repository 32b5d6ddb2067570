"""From a failing case to the smallest that fails in the same way."""

import dataclasses
from collections.abc import Callable, Iterator

from shapes.check import Failure
from shapes.draw import Case, Run, Scales
from shapes.forward import facts_of

SMALL_HEAD_DIMS = (16, 32, 64, 128, 130, 192)
# A changed run costs a second, a changed model its kernels' compilation.
MAX_RUN_ATTEMPTS = 40
MAX_MODEL_ATTEMPTS = 16

FailureOf = Callable[[Case], Failure | None]


def shrink(case: Case, failure: Failure, failure_of: FailureOf, may_change_model: bool = True):
    """The smallest case found, and how it fails: in the same way."""
    case = dataclasses.replace(case, runs=(failure.run,))
    case, failure = _reduced(case, failure, _with_smaller_run, failure_of, MAX_RUN_ATTEMPTS)
    if may_change_model:
        models = (_with_smaller_model, failure_of, MAX_MODEL_ATTEMPTS)
        case, failure = _reduced(case, failure, *models)
        case, failure = _reduced(case, failure, _with_smaller_run, failure_of, MAX_RUN_ATTEMPTS)
    return case, failure


def _reduced(case, failure, candidates, failure_of, n_attempts):
    """The case with one thing less after another, for as long as it fails in the same way."""
    changed = True
    while changed:
        changed = False
        for smaller in candidates(case):
            if n_attempts == 0:
                return case, failure
            n_attempts -= 1
            found = failure_of(smaller)
            if found is not None and found.kind == failure.kind:
                case, failure, changed = smaller, found, True
                break
    return case, failure


def _with_smaller_run(case: Case) -> Iterator[Case]:
    (run,) = case.runs
    for smaller in smaller_runs(run):
        yield dataclasses.replace(case, runs=(smaller,))


def _with_smaller_model(case: Case) -> Iterator[Case]:
    for config in smaller_configs(case.config):
        yield dataclasses.replace(case, config=config)
    if case.scales != Scales():
        yield dataclasses.replace(case, scales=Scales())


def smaller_runs(run: Run) -> Iterator[Run]:
    def changed(**fields):
        return dataclasses.replace(run, **fields)

    lengths = run.prompt_lengths
    if len(lengths) > 1:
        middle = len(lengths) // 2
        yield changed(prompt_lengths=lengths[:middle])
        yield changed(prompt_lengths=lengths[middle:])
    if run.n_new > 1:
        yield changed(n_new=run.n_new // 2)
    if run.kv_blocks:
        yield changed(kv_blocks=0)
    if run.sampling:
        yield changed(sampling={})
    if run.batch_size > len(lengths) and run.command == "generate":
        yield changed(batch_size=len(lengths))
    least = 2 if run.command == "score" else 1
    for divisor, step in ((2, 0), (1, 8), (1, 1)):
        smaller = tuple(max(least, n // divisor - step) for n in lengths)
        if smaller != lengths:
            yield changed(prompt_lengths=smaller)


def smaller_configs(config: dict) -> Iterator[dict]:
    def without(*names):
        return {name: value for name, value in config.items() if name not in names}

    n_layers = config["num_hidden_layers"]
    if n_layers > 1:
        for layer in range(n_layers) if "layer_types" in config else (0,):
            fewer = config | {"num_hidden_layers": 1}
            if "layer_types" in config:
                fewer["layer_types"] = [config["layer_types"][layer]]
            elif "max_window_layers" in config:
                fewer["max_window_layers"] = 0
            yield fewer
    for name, value in (("vocab_size", 33), ("intermediate_size", 16), ("hidden_size", 32)):
        if config[name] > value and (name != "hidden_size" or "head_dim" in config):
            yield config | {name: value}
    n_heads, n_kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if n_heads > 1 and "head_dim" in config:
        yield config | {"num_attention_heads": 1, "num_key_value_heads": 1}
        if n_kv_heads and n_kv_heads > 1:
            yield config | {"num_attention_heads": n_heads // n_kv_heads, "num_key_value_heads": 1}
    if "head_dim" in config:
        for head_dim in SMALL_HEAD_DIMS:
            if head_dim < config["head_dim"]:
                yield config | {"head_dim": head_dim}
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        if "use_sliding_window" in config:
            yield without("use_sliding_window", "layer_types")
        elif facts_of(config).window_pattern is None:
            yield config | {"sliding_window": None}
        elif "full_attention" not in config.get("layer_types", ()):
            yield config | {"layer_types": ["full_attention"] * n_layers}
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            yield config | {name: False}
    if "rope_scaling" in config or "rope_parameters" in config:
        yield without("rope_scaling", "rope_parameters", "rope_theta")
    for name in ("embedding_multiplier", "residual_multiplier", "logits_scaling"):
        if config.get(name, 1.0) != 1.0:
            yield config | {name: 1.0}
