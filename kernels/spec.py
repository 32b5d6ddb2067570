"""What a kernel says about itself: parameters, grid, cost, choices, tolerance and cases.

`Spec` is declarative: the compiler, the planner (C++, through `python -m aot.export`), benches and
tests read it and it knows none of them. docs/formats.md, section 1, is the contract.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import expr

ROLES = ("out", "inout", "in", "size", "stride", "scalar", "constexpr")
POINTER_ROLES = ("out", "inout", "in")
MAX_ARGUMENTS = 25  # of a launch; constexprs are none

FLOATS = ("fp32", "fp16", "bf16")
SIZEOF = {
    "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8,
    "fp8e4nv": 1, "fp8e5": 1,
}  # fmt: skip
FAMILIES = ("cpu", "cuda", "hip")
WHERE = "where"  # of a tuning space: which combinations are allowed

# Where a launch takes an argument from: an operand or result of the op by its role ("x"), its sizes
# ("y[1]", "x.rows": all but the last, "x.elements", "x.stride": from a row to the next, "x.group":
# heads that are rows of their own), an attribute, whether an operand is there, the class of steps
# (the most rows of the op's first operand, whether a sequence is long for its share of a machine,
# the longest query of a prompt, the sequences that decode, whether the rows are theirs), or
# memory that only this kernel knows: scratch, and counters that are 0 between launches.
SOURCE = re.compile(
    r"\w+(\[-?\d\]|\.(rows|elements|stride|group))?|@\w+( == \w+| != 0| takes \d)?|has\(\w+\)"
    r"|step\.(rows|uneven|max_query|decodes|is_decode)"
)
NODE_SOURCE = re.compile(
    r"@\w+( == \w+| != 0| takes \d)?|has\(\w+\)"
)  # those that a node alone decides
# What the `when` of a Spec may read: the most rows of the class of steps; whether the rows computed
# are those of sequences that decode (one token each), or those of prompts beside such; whether the
# target is a GPU; and the constexprs that the node gives (its operands, its attributes).
WHEN_NAMES = {"rows", "decode", "prompt", "gpu"}

# How far an output may be from the reference, by its element type: |out - ref| <= t * (1 + |ref|),
# for the 1 a case's unit where it has one.
TOLERANCE = {
    "fp32": 2e-5, "fp16": 2e-3, "bf16": 1.6e-2, "fp8e4nv": 0.25, "fp8e5": 0.5,
    "i32": 0.0, "i64": 0.0, "i8": 0.0, "u8": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Descriptor:
    """How a pointer is given where the hardware copies whole tiles (TMA): as a tensor map of the
    matrix that it points to. Expressions; `when` reads constexprs and is the choice of a variant,
    the others may read every size and stride."""

    when: str
    shape: tuple[str, ...]
    strides: tuple[str, ...]  # in elements; the last is 1
    block: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "when": self.when,
            "shape": list(self.shape),
            "strides": list(self.strides),
            "block": list(self.block),
        }


@dataclass(frozen=True)
class Param:
    name: str
    role: str
    types: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()
    value: str | None = None  # constexpr: an expression
    step: bool = False  # size: changes from step to step; not known when planning
    descriptor: Descriptor | None = None  # pointer
    of: str = ""  # see SOURCE; empty: as the name says
    function: str = ""  # constexpr: of which kind the function is: score, mask or expression

    @property
    def source(self) -> str:
        if self.of:
            return self.of
        if self.role in POINTER_ROLES:
            return self.name.removesuffix("_ptr")
        if self.role == "stride":
            return self.name.removesuffix("_stride") + ".stride"
        return "@" + self.name if self.role == "scalar" else ""

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"name": self.name, "role": self.role}
        if self.role == "constexpr":
            row |= {"value": self.value}
            return row | ({"function": self.function} if self.function else {})
        row["types"] = list(self.types)
        if self.role in POINTER_ROLES:
            row["shape"] = list(self.shape)
        if self.descriptor is not None:
            row["descriptor"] = self.descriptor.to_json()
        if self.step:
            row["step"] = True
        return row


def _has(name: str) -> str:
    return f"has({name.removeprefix('HAS_').lower()})" if name.startswith("HAS_") else ""


def _types(types: str | Iterable[str]) -> tuple[str, ...]:
    return (types,) if isinstance(types, str) else tuple(types)


def out(
    name: str,
    types: str | Iterable[str],
    *shape: str,
    of: str = "",
    descriptor: Descriptor | None = None,
) -> Param:
    return Param(name, "out", _types(types), shape, descriptor=descriptor, of=of)


def inout(
    name: str,
    types: str | Iterable[str],
    *shape: str,
    of: str = "",
    descriptor: Descriptor | None = None,
) -> Param:
    return Param(name, "inout", _types(types), shape, descriptor=descriptor, of=of)


def inp(
    name: str,
    types: str | Iterable[str],
    *shape: str,
    of: str = "",
    descriptor: Descriptor | None = None,
) -> Param:
    return Param(name, "in", _types(types), shape, descriptor=descriptor, of=of)


def scratch(name: str, types: str, *shape: str) -> Param:
    """Memory of one launch, of any content before and after."""
    return Param(name, "inout", _types(types), shape, of="scratch")


def counter(name: str, types: str, *shape: str) -> Param:
    """Memory that is zero before each launch, and that the launch leaves zero."""
    return Param(name, "inout", _types(types), shape, of="counter")


def size(name: str, types: str | Iterable[str] = "i32", of: str = "") -> Param:
    """A size that is known when planning: a width, a head count, a vocabulary."""
    return Param(name, "size", _types(types), of=of)


def step_size(name: str, types: str | Iterable[str] = "i32", of: str = "") -> Param:
    """A size that each step sets: how many tokens, sequences, rows."""
    return Param(name, "size", _types(types), step=True, of=of)


def stride(name: str) -> Param:
    """In elements."""
    return Param(name, "stride", ("i64",))


def scalar(name: str, types: str | Iterable[str] = "fp32", of: str = "") -> Param:
    return Param(name, "scalar", _types(types), of=of)


def given(name: str, of: str = "") -> Param:
    """A constexpr that the planner gives: part of what the operation means. HAS_X: of has(x)."""
    return Param(name, "constexpr", of=of or _has(name))


def derived(name: str, value: str) -> Param:
    """A constexpr that follows from sizes known when planning and from other constexprs."""
    return Param(name, "constexpr", value=value)


def function(name: str, kind: str, of: str) -> Param:
    """A constexpr that is a Triton function, or None, which the planner gives as a text
    (kernels/lib/function_text.py, of an expression kernels/lib/expression_text.py). Expressions of
    the Spec read whether there is one: 1 or 0."""
    return Param(name, "constexpr", of=of, function=kind)


def tuned(name: str) -> Param:
    """A constexpr that tuning data or the Spec's default chooses. Also named in `Spec.tuned`."""
    return Param(name, "constexpr")


@dataclass(frozen=True)
class Case:
    """One test: arguments by name (arrays, numbers, None for a null pointer), and element types.

    Arrays hold float32 or integers; they are rounded to their element type before the kernel and
    the reference see them. `choice`: tuned constexprs that the case is there for. `units`: how
    large the terms of an output are where that is not about 1; `tolerance`: where an output may be
    further off than its element type says. |out - ref| <= tolerance * (unit + |ref|). `functions`:
    texts of constexprs that are functions; without one there is none.
    """

    name: str
    args: Mapping[str, Any]
    dtypes: Mapping[str, str]
    constexprs: Mapping[str, int] = field(default_factory=dict)
    choice: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, float] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What an operation of a user's own is, in the language of src/graph/ops.def."""

    operands: str  # "x:float[N,C] bias?:float[C]"
    results: str  # "out:=x sums:fp32[N]"
    attributes: str = ""  # "low:float=0 size:int=1"
    in_place: str = ""  # "cache=cache": the result that is that operand, which is a state


@dataclass(frozen=True)
class Spec:
    """A kernel by its parameters. It computes `op` (a row of src/graph/ops.def, or the `row` that a
    user's file gives with it) for steps where `when` holds, if it takes every operand and attribute
    that a node has; without `op` no plan launches it. With a `design` only a plan that asks for it
    does."""

    fn: Any
    params: tuple[Param, ...]
    grid: tuple[str, str, str]
    bytes: str
    flops: str
    reference: Callable[[Mapping[str, Any]], dict[str, np.ndarray]]
    cases: Callable[[str], Iterable[Case]]  # by the element type of activations
    draw: Callable[[Any, str], Case]  # a case by chance: of a kernels.lib.draws.Draw and that type
    default: Mapping[str, Mapping[str, str | int]]
    # Other functions of the same parameters and meaning, in Gluon, for what Triton has no words for
    # on one target: each by the tuned constexpr that takes it in place of `fn` where it is not 0.
    forms: Mapping[str, Any] = field(default_factory=dict)
    op: str = ""
    row: Row | None = None  # of an operation that is not in ops.def
    when: str = "1"
    design: str = ""
    tuned: tuple[str, ...] = ()
    # Registers that a thread has at most on CUDA, over constexprs and sizes of elements; 0: as many
    # as the compiler likes. Groups of warps with other work share out among them what all have.
    registers: str = "0"
    # What `nereid tune` may try, by family: {"cpu": {"BLOCK_M": (32, 64, "n_out // 8"), "where":
    # "BLOCK_M <= n_rows"}}; a combination whose `where` is 0 is left out. A constexpr that decides
    # the order of a row's sum is in no space: a choice may depend on the number of rows, and what a
    # row gives may not.
    space: Mapping[str, Mapping[str, tuple[str | int, ...] | str]] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCE)
    file: str = ""  # of a user's: the name that requests and bundles know its file by

    @property
    def name(self) -> str:
        return self.file or self.fn.__name__

    def form(self, constexprs: Mapping[str, int]) -> Any:
        """The function in Gluon that a variant is made from; None: it is `fn`."""
        return next((form for name, form in self.forms.items() if constexprs[name]), None)

    def param(self, name: str) -> Param:
        for param in self.params:
            if param.name == name:
                return param
        raise KeyError(f"{self.name} has no parameter {name}")

    def __post_init__(self) -> None:
        def check(condition: bool, what: str) -> None:
            if not condition:
                raise ValueError(f"spec of {self.name}: {what}")

        named = [param.name for param in self.params]
        check(named == list(self.fn.arg_names), f"parameters {named}, kernel {self.fn.arg_names}")
        n_args = sum(param.role != "constexpr" for param in self.params)
        check(n_args <= MAX_ARGUMENTS, f"{n_args} launch arguments; at most {MAX_ARGUMENTS}")
        order = [ROLES.index(param.role) for param in self.params]
        check(order == sorted(order), f"roles are not in the order {', '.join(ROLES)}")
        for param in self.params:
            is_constexpr = self.fn.params[named.index(param.name)].is_constexpr
            check(is_constexpr == (param.role == "constexpr"), f"{param.name}: constexpr or not?")
            check(set(param.types) <= set(SIZEOF), f"{param.name}: unknown type in {param.types}")
        check(set(self.forms) <= set(self.tuned), f"forms {set(self.forms)} are not all tuned")
        for name, form in self.forms.items():
            same = [(p.name, p.is_constexpr) for p in form.params]
            check(
                same == [(p.name, p.is_constexpr) for p in self.fn.params],
                f"form {name} has other parameters: {same}",
            )
        check(self.row is None or self.op != "", "a row is of an op, which has a name")
        check(callable(self.draw), "draw is a function of (draw, act) that gives a Case")
        for param in self.params:
            if (self.op and param.role in ("size", "stride")) or param.of:
                check(
                    SOURCE.fullmatch(param.source) is not None,
                    f"{param.name} is of {param.source!r}, which is no source",
                )
        given_names = {p.name for p in self.params if NODE_SOURCE.fullmatch(p.of or "")}
        extra = expr.names(self.when)[0] - WHEN_NAMES - given_names
        check(not extra, f"`when` reads {extra}; it may read {WHEN_NAMES | given_names}")
        check(len(self.grid) == 3, "the grid has three axes")
        check(set(self.default) == set(FAMILIES), f"defaults are for {', '.join(FAMILIES)}")
        for family, choice in self.default.items():
            wanted = {*self.tuned, "num_warps", "num_stages"}
            check(set(choice) == wanted, f"default {family} has {set(choice)}, wants {wanted}")
        for name in self.tuned:
            param = self.param(name)
            check(param.role == "constexpr" and param.value is None, f"{name} is not tunable")
        check(set(self.space) <= set(FAMILIES), f"spaces are for {', '.join(FAMILIES)}")
        for family, space in self.space.items():
            free = set(space) - {WHERE}
            extra = free - {*self.tuned, "num_warps", "num_stages"}
            check(not extra, f"space {family}: {extra} is not tunable")
            check(
                all(isinstance(space[name], tuple) and space[name] for name in free)
                and isinstance(space.get(WHERE, ""), str),
                f'space {family}: values are tuples of at least one, "{WHERE}" an expression',
            )
        functions = {p.name for p in self.params if p.function}
        for param in self.params:
            what = "a function is a constexpr that the planner gives"
            is_given = param.value is None and param.name not in self.tuned
            check(not param.function or is_given, f"{param.name}: {what}")
        # What each expression may read. Choices are made when planning, grids at each step.
        pointers = {p.name for p in self.params if p.role in POINTER_ROLES}
        numbers = {p.name for p in self.params if p.role in ("size", "stride", "constexpr")}
        planned = numbers - {p.name for p in self.params if p.step}
        # Whether there is a function is known to choices; a launch does not ask.
        launched = numbers - functions
        texts = [(t, launched) for t in (*self.grid, self.bytes, self.flops)]
        texts += [(t, launched) for p in self.params for t in p.shape]
        texts += [(p.value, planned) for p in self.params if p.value is not None]
        texts += [(str(t), planned) for c in self.default.values() for t in c.values()]
        texts += [(self.registers, {p.name for p in self.params if p.role == "constexpr"})]
        for space in self.space.values():
            texts += [(str(t), planned) for n, v in space.items() if n != WHERE for t in v]
            if WHERE in space:
                texts.append((space[WHERE], numbers | {"num_warps", "num_stages"}))
        constexprs = {p.name for p in self.params if p.role == "constexpr"} - functions
        for param in self.params:
            if (how := param.descriptor) is not None:
                check(
                    len(how.shape) == len(how.strides) == len(how.block) >= 1
                    and how.strides[-1] == "1",
                    f'{param.name}: shape, strides (the last "1") and block do not agree',
                )
                texts += [(text, constexprs) for text in (how.when, *how.block)]
                texts += [(text, launched) for text in (*how.shape, *how.strides)]
        for text, known in texts:
            values, sizes = expr.names(text)
            check(values <= known, f"{text!r} reads {values - known}")
            check(sizes <= pointers, f"{text!r} asks the size of {sizes - pointers}")

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **({"op": self.op, "when": self.when} if self.op else {}),
            **({"design": self.design} if self.design else {}),
            "params": [
                {**param.to_json(), **({"of": param.source} if self.op and param.source else {})}
                for param in self.params
            ],
            "grid": list(self.grid),
            "bytes": self.bytes,
            "flops": self.flops,
            "tuned": list(self.tuned),
            "default": {family: dict(choice) for family, choice in self.default.items()},
            **(
                {"space": {f: dict(space) for f, space in self.space.items()}} if self.space else {}
            ),
            "tolerance": dict(self.tolerance),
        }


def rng(name: str) -> np.random.Generator:
    """A generator of its own for each case, so that adding one changes no other."""
    return np.random.default_rng(list(name.encode()))


def normal(generator: np.random.Generator, *shape: int, std: float = 1.0) -> np.ndarray:
    return (generator.standard_normal(shape) * std).astype(np.float32)


def padded(
    generator: np.random.Generator, n_rows: int, n_cols: int, gap: int, std: float = 1.0
) -> np.ndarray:
    """Rows of an operand, at least one; what lies between them is NaN, never to be looked at."""
    values = normal(generator, max(n_rows, 1), n_cols + gap, std=std)
    values[:, n_cols:] = np.nan
    return values


def filled(*shape: int, value: float = 7.0) -> np.ndarray:
    """An output before the launch: not zero, so that what a kernel leaves untouched shows."""
    return np.full(shape, value, np.float32)
