"""The expression grammar of docs/formats.md, section 1, evaluated in Python.

The C++ side evaluates the same text; both must agree, so nothing is left to Python's `eval`.
"""

import ast
from collections.abc import Callable, Mapping

FUNCTIONS = ("cdiv", "next_pow2", "min", "max", "sizeof", "typeof")
OF_POINTERS = ("sizeof", "typeof")

_BINARY: dict[type, Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_COMPARE: dict[type, Callable[[int, int], bool]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class ExprError(ValueError):
    """An expression outside the grammar, or a name that is not known."""


def cdiv(a: int, b: int) -> int:
    return (a + b - 1) // b


def next_pow2(a: int) -> int:
    """The smallest power of two that is at least `a` (1 for a <= 1)."""
    return 1 if a <= 1 else 1 << (a - 1).bit_length()


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExprError(f"expression {text!r}: {error.msg}") from error


def names(text: str) -> tuple[set[str], set[str]]:
    """The names an expression reads, and those whose element size or type it asks for."""
    values: set[str] = set()
    sizes: set[str] = set()

    def walk(node: ast.expr) -> None:
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in OF_POINTERS:
            sizes.update(arg.id for arg in node.args if isinstance(arg, ast.Name))
        elif isinstance(node, ast.Call):
            for arg in node.args:
                walk(arg)
        elif isinstance(node, ast.Name):
            values.add(node.id)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    walk(child)

    walk(_parse(text))
    return values, sizes


def evaluate(
    text: str | int, values: Mapping[str, int], sizeof: Mapping[str, int] | None = None
) -> int:
    """The value of `text`; `values` gives the names (and "typeof(x_ptr)", where it is known),
    `sizeof` the element bytes of pointers."""
    if isinstance(text, int):
        return int(text)

    def fail(what: str) -> ExprError:
        return ExprError(f"expression {text!r}: {what}")

    def call(node: ast.Call) -> int:
        function = getattr(node.func, "id", None)
        if function not in FUNCTIONS or node.keywords:
            raise fail(f"no function {ast.unparse(node.func)}; there are {', '.join(FUNCTIONS)}")
        if function in OF_POINTERS:
            if len(node.args) != 1 or not isinstance(node.args[0], ast.Name):
                raise fail(f"{function} takes one pointer parameter")
            name = node.args[0].id
            if function == "typeof":
                return go(ast.Name(f"typeof({name})"))
            if name not in (sizeof or {}):
                raise fail(f"sizeof({name}) is not known")
            return sizeof[name]
        args = [go(arg) for arg in node.args]
        if len(args) != (1 if function == "next_pow2" else 2):
            raise fail(f"{function} does not take {len(args)} arguments")
        return {"cdiv": cdiv, "next_pow2": next_pow2, "min": min, "max": max}[function](*args)

    def go(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=value) if isinstance(value, int) and value is not True:
                return int(value)
            case ast.Name(id=name):
                if name not in values:
                    raise fail(f"{name} is not known")
                return int(values[name])
            case ast.BinOp() if type(node.op) in _BINARY:
                return _BINARY[type(node.op)](go(node.left), go(node.right))
            case ast.UnaryOp(op=ast.USub()):
                return -go(node.operand)
            case ast.UnaryOp(op=ast.Not()):
                return int(go(node.operand) == 0)
            case ast.Compare(ops=[operator], comparators=[right]) if type(operator) in _COMPARE:
                return int(_COMPARE[type(operator)](go(node.left), go(right)))
            case ast.BoolOp(op=ast.And()):
                return int(all(go(value) != 0 for value in node.values))
            case ast.BoolOp(op=ast.Or()):
                return int(any(go(value) != 0 for value in node.values))
            case ast.IfExp():
                return go(node.body) if go(node.test) != 0 else go(node.orelse)
            case ast.Call():
                return call(node)
        raise fail(f"{ast.unparse(node)!r} is outside the grammar")

    return go(_parse(text))
