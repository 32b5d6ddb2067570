"""The value behind `constexpr=`: a number, a text, an element type, a name of the kernel's file, or
a tuple of these."""

import ast
import enum
from collections.abc import Callable
from typing import Any

from aot.kernel.stand_ins import StandIn
from aot.targets.common import CompileError

_WORDS = {"true": True, "false": False, "none": None}


class SignatureError(CompileError):
    """The signature is not of this function; says where."""


def constant(text: str, where: str, resolve: Callable[[str], Any]) -> Any:
    """`resolve`: the object behind a name, or LookupError."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text) if not _is_integer(text) else int(text, 0)
    except ValueError:
        pass
    expected = (
        f"{where}: constant {text!r}; expected a number, True, False, None, a 'text', an element"
        " type such as tl.float16, a name of the kernel's file, or a tuple of these"
    )
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise SignatureError(expected) from error
    try:
        return _value(tree, resolve)
    except LookupError as error:
        raise SignatureError(f"{expected}; {error.args[0]}") from error


def plain(value: Any) -> Any:
    """A value of the user's program as Triton takes a constant."""
    import triton.language as tl

    if isinstance(value, tl.constexpr):
        return plain(value.value)
    if isinstance(value, list) or type(value) is tuple:
        return tuple(plain(item) for item in value)
    if isinstance(value, StandIn):
        raise LookupError(f"it is {value!r}")
    if isinstance(value, enum.Enum) and isinstance(value, int):
        return int(value)
    return value


def text_of(value: Any) -> str:
    """For people: in the header and the manifest."""
    from triton.runtime.jit import JITFunction

    return value.__name__ if isinstance(value, JITFunction) else str(value)


def _is_integer(text: str) -> bool:
    try:
        int(text, 0)
    except ValueError:
        return False
    return True


def _value(node: ast.expr, resolve: Callable[[str], Any]) -> Any:
    import triton.language as tl

    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(item, resolve) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, resolve)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.Name | ast.Attribute):
        name = ast.unparse(node)
        if name.lower() in _WORDS:
            return _WORDS[name.lower()]
        if name in ("inf", "nan"):
            return float(name)
        dtype = getattr(tl, name.removeprefix("tl."), None)
        if isinstance(dtype, tl.dtype):
            return dtype
        return plain(resolve(name))
    raise LookupError(f"{ast.unparse(node)} is none of these")
