"""What a Spec's space allows for a case: the requests that tuning may choose among."""

import dataclasses
import itertools
from typing import Any

from aot.request import Request, choose
from kernels import expr
from kernels.spec import SIZEOF, WHERE


def combinations(spec, target: str) -> list[dict[str, Any]]:
    """Every combination that the space names, allowed or not."""
    space = spec.space.get(target.partition(":")[0], {})
    names = [name for name in space if name != WHERE]
    values = itertools.product(*(space[name] for name in names))
    return [dict(zip(names, each, strict=True)) for each in values] if names else []


def request(spec, target: str, case, now: Request, combination: dict[str, Any]) -> Request | None:
    """`now` with that combination in its place; nothing where the space leaves it out."""
    sizes = {p.name: case.args[p.name] for p in spec.params if p.role in ("size", "stride")}
    planned = {name: n for name, n in sizes.items() if not spec.param(name).step}
    choice = {name: now.constexprs[name] for name in spec.tuned}
    choice |= {"num_warps": now.num_warps, "num_stages": now.num_stages}
    row = {"when": {}, "choice": choice | combination}
    constexprs, n_warps, n_stages = choose(
        spec, target, planned, case.constexprs, case.dtypes, {"rows": [row]},
        functions=case.functions,
    )  # fmt: skip
    known = sizes | constexprs | {"num_warps": n_warps, "num_stages": n_stages}
    bytes_of = {name: SIZEOF[dtype] for name, dtype in case.dtypes.items()}
    if not expr.evaluate(spec.space[target.partition(":")[0]].get(WHERE, 1), known, bytes_of):
        return None
    return dataclasses.replace(now, constexprs=constexprs, num_warps=n_warps, num_stages=n_stages)
