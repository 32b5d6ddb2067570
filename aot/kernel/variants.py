"""`--variants FILE`: one kernel at several signatures, and a C function that says which of them
serves the arguments of a launch.

    {"variants": [{"signature": "*fp32:16,i32:16,constexpr=1024", "when": {"n": [1024, 1000000]}},
                  {"signature": "*fp32,i32,constexpr=128", "num_warps": 2}]}

The first whose conditions hold is taken: types, `:16`, constants that another variant has at run
time, and the sizes of "when" (a number, or the least and the most).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aot.kernel.constants import SignatureError
from aot.kernel.layout import Layout
from aot.kernel.signature import ELEMENTS, Constant, Descriptor, Group, Kind, Plain
from aot.targets.common import CompileError

_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "launch_pdl")
_INTEGERS = {e: (e[0] == "i", int(e[1:])) for e in ELEMENTS if e[0] in "iu"}  # signed, bits


@dataclass(frozen=True)
class Row:
    """A variant as the file has it."""

    signature: str
    config: str | None
    when: dict[str, tuple[int, int]]
    options: dict[str, int]


def read_rows(path: Path) -> list[Row]:
    try:
        rows = json.loads(path.read_text())["variants"]
        found = [_row(row, f"{path}: variant {i}") for i, row in enumerate(rows)]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CompileError):
            raise
        raise CompileError(
            f'{path}: {error!r}; expected {{"variants": [{{"signature": "...", "when": {{"n":'
            " [1, 64]}}, ...]}"
        ) from error
    if not found:
        raise CompileError(f"{path} has no variants")
    return found


def _row(row: dict[str, Any], where: str) -> Row:
    unknown = set(row) - {"signature", "config", "when", *_OPTIONS}
    if unknown:
        raise CompileError(
            f"{where}: {', '.join(sorted(unknown))}; expected signature, config, when,"
            f" {', '.join(_OPTIONS)}"
        )
    when = {}
    for name, value in row.get("when", {}).items():
        low, high = value if isinstance(value, list) else (value, value)
        if not isinstance(low, int) or not isinstance(high, int) or low > high:
            raise CompileError(f"{where}: when {name}: {value!r}; expected N or [LEAST, MOST]")
        when[name] = (low, high)
    config = row.get("config")
    options = {name: row[name] for name in _OPTIONS if name in row}
    return Row(row["signature"], None if config is None else str(config), when, options)


@dataclass
class Argument:
    """One of the set: what each variant takes it as, and its member of the common struct."""

    name: str
    kinds: list[Kind | None]  # by variant
    place: str = ""
    type_place: str = ""  # of the member that says a pointer's type, where variants differ
    integer: str = ""  # the type of an integer that several types read


@dataclass
class Set:
    """All variants: the common struct, and the conditions of each."""

    parameters: list[list[tuple[str, Kind]]]
    rows: list[Row]
    target: str
    layout: Layout = field(default_factory=Layout)
    arguments: list[Argument] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, kinds in _aligned(self.parameters):
            argument = Argument(name, kinds)
            if any(not isinstance(kind, Constant) for kind in kinds):
                self._add(argument)
            self.arguments.append(argument)
        for i in range(len(self.rows)):
            if not self.conditions(i) and i + 1 < len(self.rows):
                raise SignatureError(
                    f"variant {i + 1} is never chosen: variant {i} serves all arguments"
                )

    def _add(self, argument: Argument) -> None:
        given = [k for k in argument.kinds if not isinstance(k, Constant)]
        common = given[0]
        if isinstance(common, Descriptor):
            same = all(isinstance(k, Descriptor) and k.element == common.element
                       and len(k.block) == len(common.block) for k in argument.kinds)  # fmt: skip
        else:
            same = all(isinstance(k, Plain) and k.is_pointer == common.is_pointer for k in given)
        if not same:
            raise _differ(argument)
        if isinstance(common, Plain):
            common = self._common(argument, given)
        address = "void*" if self.target == "cpu" else "uint64_t"
        n_arguments = len(self.layout.arguments)
        self.layout.add(argument.name, common, address, has_maps=False)
        argument.place = self.layout.arguments[n_arguments].place.partition(".")[0]
        if isinstance(common, Plain) and common.is_pointer and _n_elements(given) > 1:
            argument.type_place = self.layout.add_type(argument.place)

    def _common(self, argument: Argument, given: list[Plain]) -> Plain:
        elements = {k.element for k in given}
        if given[0].is_pointer or len(elements) == 1:
            element = given[0].element
        elif elements <= set(_INTEGERS) - {"u64"}:
            element = argument.integer = "i64"
        else:
            raise _differ(argument)
        return Plain(element, given[0].is_pointer)

    def conditions(self, variant: int) -> list[str]:
        """In C, of a struct `a`; all must hold."""
        when = dict(self.rows[variant].when)
        found = []
        for argument in self.arguments:
            if argument.place:
                found += _conditions(argument, argument.kinds[variant], self.target)
            if argument.name in when:
                low, high = when.pop(argument.name)
                kind = argument.kinds[variant]
                if not isinstance(kind, Plain) or kind.element not in _INTEGERS or kind.is_pointer:
                    raise SignatureError(
                        f"variant {variant}: when {argument.name}: it is no integer of a launch"
                    )
                found += [f"a->{argument.place} >= {low}", f"a->{argument.place} <= {high}"]
        if when:
            raise SignatureError(f"variant {variant}: when {', '.join(when)}: no such parameter")
        return found

    def constants(self) -> dict[str, list[int]]:
        """Integers that each variant has as a constant: what the grid of a launch depends on."""
        return {
            argument.name: [int(kind.value) for kind in argument.kinds]
            for argument in self.arguments
            if all(isinstance(k, Constant) and isinstance(k.value, int) for k in argument.kinds)
        }


def _n_elements(kinds: list[Plain]) -> int:
    return len({kind.element for kind in kinds})


def _differ(argument: Argument) -> SignatureError:
    return SignatureError(
        f"parameter {argument.name}: the variants take it as {argument.kinds}; expected addresses,"
        " integers, one type of floats, or descriptors of one type and rank"
    )


def _aligned(variants: list[list[tuple[str, Kind]]]) -> list[tuple[str, list[Kind]]]:
    """The leaves of every parameter, of all variants side by side."""

    def expand(name: str, kinds: list[Kind]) -> list[tuple[str, list[Kind]]]:
        groups = [kind for kind in kinds if isinstance(kind, Group)]
        if not groups:
            return [(name, kinds)]
        if len(groups) < len(kinds) or len({len(g.members) for g in groups}) > 1:
            raise SignatureError(f"parameter {name}: the variants take tuples of several lengths")
        names = groups[0].names or range(len(groups[0].members))
        found = []
        for i, of in enumerate(names):
            found += expand(f"{name}.{of}", [group.members[i] for group in groups])
        return found

    found = []
    for parameters in zip(*variants, strict=True):  # the same function: the same names
        found += expand(parameters[0][0], [kind for _, kind in parameters])
    return found


def _conditions(argument: Argument, kind: Kind, target: str) -> list[str]:
    place = f"a->{argument.place}"
    if isinstance(kind, Descriptor):
        return []
    is_pointer = any(isinstance(k, Plain) and k.is_pointer for k in argument.kinds)
    number = f"(uintptr_t){place}" if is_pointer and target == "cpu" else place
    if isinstance(kind, Constant):
        if is_pointer and kind.value is None:
            return [f"{number} == 0"]
        if is_pointer or not isinstance(kind.value, int | float):
            raise SignatureError(
                f"parameter {argument.name}: constant {kind.value!r} in one variant, given by the"
                " launch in another"
            )
        return [f"{place} == {float(kind.value)!r}" if isinstance(kind.value, float)
                else f"{place} == {int(kind.value)}"]  # fmt: skip
    found = []
    if is_pointer and any(isinstance(k, Constant) and k.value is None for k in argument.kinds):
        found.append(f"{number} != 0")
    if argument.type_place:
        found.append(f"a->{argument.type_place} == {type_macro(kind.element)}")
    if argument.integer and kind.element != argument.integer:
        signed, bits = _INTEGERS[kind.element]
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        found += [f"{place} >= INT64_C({low})", f"{place} <= INT64_C({high})"]
    if kind.divisible:
        found.append(f"{number} % 16 == 0")
    return found


def type_macro(element: str) -> str:
    return f"NEREID_TYPE_{element.upper()}"
