"""What a signature leaves open: @triton.autotune's config, @triton.heuristics, defaults."""

import ast
import inspect
from dataclasses import dataclass, field
from typing import Any

from aot.kernel.constants import SignatureError, plain
from aot.kernel.load import beneath
from aot.kernel.signature import Constant, Group, Kind, leaves
from aot.kernel.stand_ins import StandIn
from aot.targets.common import CompileError


@dataclass
class Kernel:
    """A @triton.jit function and what stands above it in the file."""

    fn: Any
    configs: list[Any] = field(default_factory=list)
    heuristics: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return list(self.fn.signature.parameters.values())


def decorated(value: Any) -> Kernel:
    kernel = Kernel(beneath(value))
    while value is not kernel.fn:
        configs = getattr(value, "configs", None)
        if isinstance(configs, list) and all(hasattr(c, "kwargs") for c in configs):
            kernel.configs = [*kernel.configs, *configs]
        values = getattr(value, "values", None)
        if isinstance(values, dict):
            kernel.heuristics |= values
        value = getattr(value, "fn", None) or value.__wrapped__
    return kernel


def _require(kernel: Kernel, given: dict[str, Kind], known: set[str]) -> None:
    names = [p.name for p in kernel.parameters]
    missing = [name for name in names if name not in known]
    if missing:
        raise SignatureError(
            f"{len(given)} types for {len(names)} parameters: {', '.join(names)};"
            f" {', '.join(missing)} {'has' if len(missing) == 1 else 'have'} none, and no default"
        )


def pick_config(kernel: Kernel, given: dict[str, Kind], asked: str | None, where: str) -> Any:
    """The config to use; None where no parameter needs one. `asked`: "2" or "BLOCK=64"."""
    configs = kernel.configs
    needed = {p.name for p in kernel.parameters} - set(given)
    optional = {
        p.name
        for p in kernel.parameters
        if p.default is not inspect.Parameter.empty or p.kind == inspect.Parameter.VAR_POSITIONAL
    }
    of_configs = {name for config in configs for name in config.kwargs}
    _require(kernel, given, set(given) | of_configs | set(kernel.heuristics) | optional)
    if asked is None:
        if not needed & of_configs:
            return None
        if len(configs) > 1:
            raise CompileError(
                f"{where} has {len(configs)} configs; choose with --config N or --config"
                f" 'NAME=VALUE,...', or build them with --all-configs:\n{listed(configs)}"
            )
        return configs[0]
    if not configs:
        raise CompileError(f"--config {asked}: {where} has no @triton.autotune")
    if asked.isdigit():
        if int(asked) >= len(configs):
            raise CompileError(f"--config {asked}: {where} has {len(configs)}:\n{listed(configs)}")
        return configs[int(asked)]
    wanted = _assignments(asked)
    found = [c for c in configs if _agrees(c, wanted)]
    if len(found) != 1:
        raise CompileError(
            f"--config {asked} is {len(found)} of the configs of {where}:\n{listed(configs)}"
        )
    return found[0]


def listed(configs: list[Any]) -> str:
    return "\n".join(f"  {i}: {described(config)}" for i, config in enumerate(configs))


def described(config: Any) -> str:
    """As --config takes it."""
    return ",".join(f"{n}={v}" for n, v in config.all_kwargs().items() if n != "ir_override")


def _assignments(text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        return {k.arg: ast.literal_eval(k.value) for k in call.keywords if not call.args}
    except (SyntaxError, ValueError) as error:
        raise CompileError(
            f"--config {text}: expected a number, or 'BLOCK=64,num_warps=4'"
        ) from error


def _agrees(config: Any, wanted: dict[str, Any]) -> bool:
    has = config.all_kwargs()
    return bool(wanted) and all(n in has and has[n] == value for n, value in wanted.items())


def complete(
    kernel: Kernel, given: dict[str, Kind], config: Any, where: str
) -> list[tuple[str, Kind]]:
    """Every parameter, in order: as the signature says, else as the config, a heuristic or the
    default does."""
    kinds = dict(given)
    names = {p.name for p in kernel.parameters}
    for name, value in (config.kwargs if config else {}).items():
        if name in names and name not in kinds:
            kinds[name] = _constant(value, name, "config", where)
    defaults = {
        p.name: p.default for p in kernel.parameters if p.default is not inspect.Parameter.empty
    }
    for name, heuristic in kernel.heuristics.items():
        if name not in kinds:
            known = {n: _seen_by_heuristics(n, kind) for n, kind in kinds.items()}
            value = _evaluated(heuristic, defaults | known, name, where)
            kinds[name] = _constant(value, name, "heuristic", where)
    for name, value in defaults.items():
        if name not in kinds:
            kinds[name] = _constant(value, name, "default", where)
    for p in kernel.parameters:
        if p.kind == inspect.Parameter.VAR_POSITIONAL:
            kinds.setdefault(p.name, Group(()))
    _require(kernel, given, set(kinds))
    return [(p.name, kinds[p.name]) for p in kernel.parameters]


def _constant(value: Any, name: str, source: str, where: str) -> Constant:
    try:
        return Constant(plain(value))
    except LookupError as error:
        raise SignatureError(
            f"parameter {name}: the {source} of {where} has no value: {error.args[0]}; give it in"
            " the signature"
        ) from error


class _Unknown:
    """What a launch will give: a heuristic may ask whether it is None, and no more."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _asked(self, *_: Any) -> Any:
        raise LookupError(self.name)

    def __getattr__(self, attribute: str) -> Any:
        raise LookupError(self.name)

    __hash__ = object.__hash__
    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __len__ = __iter__ = _asked
    __int__ = __index__ = __float__ = __getitem__ = __call__ = __neg__ = __contains__ = _asked
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _asked
    __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _asked
    __and__ = __rand__ = __or__ = __ror__ = __lshift__ = __rshift__ = _asked


def _seen_by_heuristics(name: str, kind: Kind) -> Any:
    if isinstance(kind, Constant):
        return kind.value
    if isinstance(kind, Group) and all(isinstance(k, Constant) for _, k in leaves(kind, ())):
        return tuple(_seen_by_heuristics(name, member) for member in kind.members)
    return _Unknown(name)


def _evaluated(heuristic: Any, known: dict[str, Any], name: str, where: str) -> Any:
    try:
        value = heuristic(known)
    except LookupError as error:
        lacks = error.args[0] if error.args else "an argument"
        raise SignatureError(
            f"parameter {name}: the heuristic of {where} asks for {lacks}, which only a launch"
            f" gives; give {name}=constexpr=VALUE in the signature, or {lacks} as a constexpr"
        ) from error
    except Exception as error:
        raise SignatureError(
            f"parameter {name}: the heuristic of {where} fails with {type(error).__name__}:"
            f" {error}; give {name}=constexpr=VALUE in the signature"
        ) from error
    if isinstance(value, StandIn | _Unknown):
        raise SignatureError(
            f"parameter {name}: the heuristic of {where} gives no value here; give"
            f" {name}=constexpr=VALUE in the signature"
        )
    return value
