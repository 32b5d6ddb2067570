"""Requests: what is asked of the compiler, as text and in parts (docs/formats.md, section 3)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aot import sources
from kernels import expr


class RequestError(ValueError):
    """A request that does not fit its kernel; says what is wrong."""


@dataclass(frozen=True)
class Request:
    kernel: str
    args: Mapping[str, str]  # name -> "*fp16:16", "i32:16", "fp32"
    constexprs: Mapping[str, int]
    num_warps: int
    num_stages: int
    options: Mapping[str, Any]
    functions: Mapping[str, str] = field(default_factory=dict)  # constexpr -> text, where one is

    @staticmethod
    def parse(text: str) -> "Request":
        try:
            row = json.loads(text)
            request = Request(
                kernel=row["kernel"],
                args=dict(row["args"]),
                constexprs=dict(row["constexprs"]),
                num_warps=int(row["num_warps"]),
                num_stages=int(row["num_stages"]),
                options=dict(row.get("options", {})),
                functions=dict(row.get("functions", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"not a kernel request ({error!r}): {text[:200]}") from error
        if not sources.exists(request.kernel):
            raise RequestError(
                f"no kernel {request.kernel}; there are {', '.join(sources.kernel_names())}"
            )
        return request

    @cached_property
    def key(self) -> str:
        """The canonical text: keys sorted, no spaces."""
        row = {
            "args": self.args,
            "constexprs": self.constexprs,
            "kernel": self.kernel,
            "num_stages": self.num_stages,
            "num_warps": self.num_warps,
            "options": self.options,
            **({"functions": self.functions} if self.functions else {}),
        }
        return json.dumps(row, sort_keys=True, separators=(",", ":"))

    def check(self, spec) -> None:
        """That names and types are the kernel's: the engine may be newer or older than it."""
        wanted = {p.name for p in spec.params if p.role != "constexpr"}
        if set(self.args) != wanted:
            raise RequestError(f"{self.kernel} takes {sorted(wanted)}, asked {sorted(self.args)}")
        functions = {p.name for p in spec.params if p.function}
        if not set(self.functions) <= functions:
            raise RequestError(
                f"{self.kernel} takes the functions {sorted(functions)},"
                f" asked {sorted(self.functions)}"
            )
        constexprs = {p.name for p in spec.params if p.role == "constexpr"} - functions
        if set(self.constexprs) != constexprs:
            raise RequestError(
                f"{self.kernel} has constexprs {sorted(constexprs)},"
                f" asked {sorted(self.constexprs)}"
            )
        for param in spec.params:
            if param.role != "constexpr":
                pointer, element, _ = split_type(self.args[param.name])
                if pointer != bool(param.shape) or element not in param.types:
                    raise RequestError(
                        f"{self.kernel}: {param.name} is {self.args[param.name]};"
                        f" it takes {', '.join(param.types)}"
                    )


def split_type(text: str) -> tuple[bool, str, bool]:
    """ "*fp16:16" -> (is a pointer, "fp16", is divisible by 16)."""
    element, _, divisible = text.partition(":")
    if divisible not in ("", "16"):
        raise RequestError(f"argument type {text!r}: only :16 is known")
    return element.startswith("*"), element.removeprefix("*"), divisible == "16"


def choose(
    spec,
    target: str,
    sizes: Mapping[str, int],
    given: Mapping[str, int],
    sizeof: Mapping[str, int],
    tuning: Mapping[str, Any] | None = None,
    largest: Mapping[str, int] | None = None,
    functions: Mapping[str, str] | None = None,
) -> tuple[dict[str, int], int, int]:
    """Constexprs, num_warps and num_stages for known sizes: the planner's rule, in Python.
    `largest`: of sizes that steps set, the most that the plan serves. `functions`: as in a Case.

    Order: what is given; the tuned ones in the order of `tuned`; the derived ones in the order of
    the parameters; then num_warps and num_stages.
    """
    from kernels.spec import SIZEOF

    bytes_of = {name: SIZEOF[dtype] for name, dtype in sizeof.items()}
    is_there = {p.name: int(bool((functions or {}).get(p.name))) for p in spec.params if p.function}
    type_of = {f"typeof({name})": list(SIZEOF).index(dtype) for name, dtype in sizeof.items()}
    values = {**sizes, **given, **is_there, **type_of}
    choice = dict(spec.default[target.partition(":")[0]])
    for row in (tuning or {}).get("rows", ()):
        element_bytes = {f"sizeof({name})": size for name, size in bytes_of.items()}
        known = {**values, **element_bytes, **(largest or {})}
        if all(_holds(known.get(name), want) for name, want in row["when"].items()):
            choice.update(row["choice"])
            break
    constexprs = dict(given)
    for name in spec.tuned:
        values[name] = constexprs[name] = expr.evaluate(choice[name], values, bytes_of)
    for param in spec.params:
        if param.role == "constexpr" and param.value is not None:
            value = expr.evaluate(param.value, values, bytes_of)
            values[param.name] = constexprs[param.name] = value
    n_warps = expr.evaluate(choice["num_warps"], values, bytes_of)
    n_stages = expr.evaluate(choice["num_stages"], values, bytes_of)
    return constexprs, n_warps, n_stages


def _holds(value: int | None, want: int | list[int]) -> bool:
    if value is None:
        return False
    return want[0] <= value <= want[1] if isinstance(want, list) else value == want


def tuning_for(target: str, kernel: str) -> dict[str, Any] | None:
    path = sources.ROOT / "tuning" / target.replace(":", "-") / f"{kernel}.json"
    return json.loads(path.read_text()) if path.is_file() else None
