"""`--signature`: a kind for each parameter of a kernel, in order and by name.

SIGNATURE  = ITEM,ITEM,...        as a call in Python: first by position, then by name
ITEM       = [NAME=]KIND
KIND       = [*]TYPE[:16]         a number, or the address of such; :16: a multiple of 16
           | tensordesc<TYPE[N,N]>   a descriptor, with the block that it loads
           | constexpr=VALUE | None
           | (ITEM,ITEM,...)      a tuple; with names: a named tuple
"""

import inspect
import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aot.kernel.constants import SignatureError, constant

ELEMENTS = ("i1", "i8", "i16", "i32", "i64", "u1", "u8", "u16", "u32", "u64", "fp16", "bf16",
            "fp32", "fp64", "fp8e4nv", "fp8e5", "fp8e4b8", "fp8e4b15", "fp8e5b16")  # fmt: skip
SCALARS = tuple(e for e in ELEMENTS if not e.startswith("fp8"))
_OPENING, _CLOSING = "([<", ")]>"


@dataclass(frozen=True)
class Plain:
    """A number or an address that a launch gives."""

    element: str
    is_pointer: bool = False
    divisible: bool = False


@dataclass(frozen=True)
class Constant:
    value: Any


@dataclass(frozen=True)
class Descriptor:
    element: str
    block: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """A tuple. `names`: of a named one, else empty."""

    members: tuple["Kind", ...]
    names: tuple[str, ...] = ()


Kind = Plain | Constant | Descriptor | Group
Resolve = Callable[[str], Any]


def bind(text: str, parameters: list[inspect.Parameter], resolve: Resolve) -> dict[str, Kind]:
    """What a signature says, by the parameter's name; the rest is left to defaults."""
    names = [p.name for p in parameters]
    positional = [p for p in parameters if p.kind != inspect.Parameter.KEYWORD_ONLY]
    rest = next((p.name for p in parameters if p.kind == inspect.Parameter.VAR_POSITIONAL), None)
    found: dict[str, Kind] = {}
    more: list[Kind] = []  # of *args
    by_name = False
    items = _split(text, "the signature")
    for item in items:
        name, kind = _name_and_kind(item)
        by_name = by_name or name is not None
        if name is None and by_name:
            raise SignatureError(f"{item!r} stands behind a parameter by name; name it too")
        if name is None and len(found) < len(positional) and positional[len(found)].name != rest:
            name = positional[len(found)].name
        elif name is None and rest is not None:
            more.append(_kind(kind, f"parameter *{rest}", resolve))
            continue
        elif name is None:
            raise SignatureError(
                f"{len(items)} types for {len(names)} parameters: {', '.join(names)}"
            )
        if name not in names:
            raise SignatureError(f"no parameter {name}; there are {', '.join(names)}")
        if name in found:
            raise SignatureError(f"parameter {name} is given twice")
        found[name] = _kind(kind, f"parameter {name}", resolve)
    if more and rest in found:
        raise SignatureError(f"parameter {rest} is given twice")
    if more:
        found[rest] = Group(tuple(more))
    if not isinstance(found.get(rest, Group(())), Group):
        raise SignatureError(f"parameter *{rest} is a tuple: {rest}=(*fp32,*fp32)")
    for p in parameters:
        if p.name in found and is_constexpr(p) and not _is_constant(found[p.name]):
            raise SignatureError(f"parameter {p.name}: a constexpr has a value: constexpr=128")
    return found


def is_constexpr(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    return "constexpr" in (annotation if isinstance(annotation, str) else str(annotation))


def triton_type(kind: Kind) -> Any:
    """As Triton's ASTSource has it: a text, or a tuple of such."""
    match kind:
        case Plain():
            return f"*{kind.element}" if kind.is_pointer else kind.element
        case Descriptor():
            return f"tensordesc<{kind.element}[{', '.join(map(str, kind.block))}]>"
        case Group():
            members = [triton_type(member) for member in kind.members]
            return namedtuple("Group", kind.names)(*members) if kind.names else tuple(members)
    return "constexpr"


def leaves(kind: Kind, path: tuple[int, ...]) -> list[tuple[tuple[int, ...], Kind]]:
    """Each kind that is no tuple, with where it is: as Triton's paths are."""
    if not isinstance(kind, Group):
        return [(path, kind)]
    return [leaf for i, member in enumerate(kind.members) for leaf in leaves(member, (*path, i))]


def _is_constant(kind: Kind) -> bool:
    return all(isinstance(leaf, Constant) for _, leaf in leaves(kind, ()))


def _split(text: str, where: str) -> list[str]:
    """At the commas outside of brackets and quotes."""
    parts, open_brackets, quote = [""], [], ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPENING:
            open_brackets.append(char)
        elif char in _CLOSING:
            if not open_brackets or _OPENING.index(open_brackets.pop()) != _CLOSING.index(char):
                raise SignatureError(f"{where}: {char!r} closes nothing in {text!r}")
        elif char == "," and not open_brackets:
            parts.append("")
            continue
        parts[-1] += char
    if open_brackets or quote:
        raise SignatureError(
            f"{where}: {(open_brackets or [quote])[-1]!r} is not closed in {text!r}"
        )
    parts = [part.strip() for part in parts]
    if parts[-1] == "":  # (x,) as in Python, and nothing at all
        parts.pop()
    return parts


def _name_and_kind(item: str) -> tuple[str | None, str]:
    named = re.match(r"([^\W\d]\w*)\s*=(.*)", item, re.DOTALL)
    if named is None or named[1] == "constexpr":
        return None, item
    return named[1], named[2].strip()


def _kind(text: str, where: str, resolve: Resolve) -> Kind:
    if text == "None":
        return Constant(None)
    if text.startswith("constexpr"):
        if not text.startswith("constexpr="):
            raise SignatureError(f"{where}: a constexpr has a value: constexpr=128")
        return Constant(constant(text.removeprefix("constexpr="), where, resolve))
    if text.startswith("tensordesc"):
        return _descriptor(text, where)
    if text.startswith("(") and text.endswith(")"):
        items = [_name_and_kind(item) for item in _split(text[1:-1], where)]
        names = tuple(name for name, _ in items if name is not None)
        if names and len(names) != len(items):
            raise SignatureError(f"{where}: {text!r}: all members of a tuple have names, or none")
        members = (_kind(kind, f"{where}.{n or i}", resolve) for i, (n, kind) in enumerate(items))
        return Group(tuple(members), names)
    type_, _, divisible = text.partition(":")
    is_pointer = type_.startswith("*")
    element = type_.removeprefix("*").removeprefix("k" if is_pointer else "")
    known = ELEMENTS if is_pointer else SCALARS
    if element not in known or divisible not in ("", "16"):
        raise SignatureError(f"{where}: type {text!r}; expected [*]TYPE[:16] with TYPE one of"
                             f" {', '.join(known)}, or constexpr=VALUE")  # fmt: skip
    return Plain(element, is_pointer, divisible == "16")


def _descriptor(text: str, where: str) -> Descriptor:
    parts = re.fullmatch(r"tensordesc<(\w+)\[([\d\s,]+)\]>", text)
    sizes = parts[2].split(",") if parts else []
    if parts is None or parts[1] not in ELEMENTS or not all(s.strip() for s in sizes):
        raise SignatureError(
            f"{where}: {text!r}; expected a descriptor as tensordesc<fp16[128,64]>, with the block"
            f" that it loads and an element of {', '.join(ELEMENTS)}"
        )
    return Descriptor(parts[1], tuple(int(size) for size in sizes))
