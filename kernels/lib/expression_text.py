"""Expressions of values as graphs write them (docs/compiler.md), in Triton and in numpy:

    "(gate, up) -> gelu_tanh(gate) * up"
    "(x) -> scaled = x / 30.0; return 30.0 * tanh(scaled)"

Their grammar is Python's; what a name that is called stands for say the rows that the graph
compiler reads too, src/graph/expression/*.def.
"""

import ast
import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kernels.lib import expressions
from kernels.lib.function_text import FunctionTextError

ROWS = Path(__file__).resolve().parents[2] / "src" / "graph" / "expression"
_TEXT = r'"((?:[^"\\]|\\.)*)"'
_OPERATOR = re.compile(rf"^EXPRESSION_OP\(\w+, {_TEXT}, call, (\d), {_TEXT},\s*{_TEXT}", re.M)
_HELPER = re.compile(r'^EXPRESSION_HELPER\(\s*(\w+),\s*((?:"[^"]*"\s*)+)\)', re.M)
_LANGUAGES = ("triton", "numpy")


@functools.cache
def _operators() -> dict[tuple[str, int], dict[str, str]]:
    """By name and number of operands: what the call is in each language."""
    rows = _OPERATOR.findall((ROWS / "operators.def").read_text())
    return {
        (name, int(n)): dict(zip(_LANGUAGES, (t.replace('\\"', '"') for t in texts), strict=True))
        for name, n, *texts in rows
    }


@functools.cache
def _helpers() -> dict[str, str]:
    rows = _HELPER.findall((ROWS / "helpers.def").read_text())
    return {name: re.sub(r'"\s*"', "", text.strip())[1:-1] for name, text in rows}


def _parsed(text: str) -> ast.FunctionDef:
    """The expression as a Python function."""
    operands, arrow, body = text.partition("->")
    *statements, result = (part.strip() for part in body.split(";"))
    lines = [*statements, f"return {result.removeprefix('return ')}"]
    try:
        [made] = ast.parse(f"def f{operands.strip()}:\n" + "".join(f" {t}\n" for t in lines)).body
    except SyntaxError:
        arrow = ""
    if not arrow:
        raise FunctionTextError(f"{text!r}: expected an expression, (a, b) -> ...")
    return made


class _Written(ast.NodeTransformer):
    """Calls become what they are in a language; helpers that are called are kept as functions."""

    def __init__(self, text: str, language: str) -> None:
        self.text, self.language, self.helpers = text, language, {}

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node = self.generic_visit(node)
        name, args = ast.unparse(node.func), [ast.unparse(arg) for arg in node.args]
        if (row := _operators().get((name, len(args)))) is not None:
            return ast.parse(row[self.language].format(*args), mode="eval").body
        if name in _helpers():
            if name not in self.helpers:
                self.helpers[name] = ""  # those that it calls stand before it
                helper = self.visit(_parsed(_helpers()[name]))
                helper.name = name
                self.helpers[name] = ast.unparse(helper)
        elif name != "float":
            raise FunctionTextError(f"{self.text!r}: there is no {name} of {len(args)} values")
        return node


def values_of(text: str) -> list[str]:
    """What its operands are called."""
    return [arg.arg for arg in _parsed(text).args.args]


def functions_of(text: str, name: str, language: str) -> list[str]:
    """The expression as a function of Python of that name, behind those that it calls."""
    written = _Written(text, language)
    made = written.visit(_parsed(text))
    made.name = name
    return [*written.helpers.values(), ast.unparse(made)]


@functools.cache
def meaning(text: str) -> Callable[..., np.ndarray]:
    """In numpy, of arrays of float64."""
    names = {"np": np, "expressions": expressions}
    exec("\n".join(functions_of(text, "meaning", "numpy")), names)
    return np.errstate(all="ignore")(names["meaning"])
