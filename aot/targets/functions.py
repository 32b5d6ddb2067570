"""The functions that a request names (docs/formats.md, section 3) as the Triton functions that a
kernel takes: SCORE(score, at, params) and MASK(at, params), of kernels/lib/attention.py, and
expressions of values (kernels/lib/expression_text.py).

What a graph composes is written out as a Python file, which Triton reads as it reads any other.
"""

import functools
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from aot import sources
from aot.request import RequestError
from kernels.lib.expression_text import functions_of
from kernels.lib.function_text import (
    TENSORS,
    Call,
    FunctionTextError,
    Mask,
    parse_mask,
    parse_score,
)

_HEAD = '''"""Composed: {text}"""

import triton
import triton.language as tl

from kernels.lib.attention_functions import *  # noqa: F403


@triton.jit
def {name}({first}at, params):
    seq, head, token, q_pos, k_pos = at
    _, _, context, a, a_width, b, b_width = params
'''
_EXPRESSION_HEAD = '''"""Composed: {text}"""

import triton
import triton.language as tl

from kernels.lib import expressions
'''
_AT = "seq, head, token, q_pos"


def _load(name: str, path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _own(call: Call) -> tuple[str, Any]:
    """A user's function: its name in the composed file, and what it is."""
    from triton.runtime.jit import JITFunction

    path = sources.function_path(call.file)
    if not path.is_file():
        raise RequestError(f"the file of {call.file}:{call.name} is not at {path}")
    module_name = f"functions.{call.file}"
    if module_name not in sys.modules:
        sys.modules[module_name] = _load(module_name, path)
    module = sys.modules[module_name]
    fn = getattr(module, call.name, None)
    if not isinstance(fn, JITFunction):
        known = [name for name, value in vars(module).items() if isinstance(value, JITFunction)]
        raise RequestError(
            f"{call.file} has no function {call.name} with @triton.jit; it has"
            f" {', '.join(known) or 'none'}"
        )
    return f"own_{call.file}_{call.name}", fn


def _called(call: Call, kind: str, found: dict[str, Any], first: str, positions: str) -> str:
    """The call as Python; what it names goes into `found`."""
    from kernels.lib.attention_functions import FUNCTIONS

    if call.file:
        name, found_fn = _own(call)
        n_args = len(found_fn.arg_names) - len((first + positions).split(","))
        n_given = sum(2 if arg in TENSORS else 1 for arg in call.args)
        if n_args != n_given:
            raise RequestError(
                f"{call.file}:{call.name} takes ({', '.join(found_fn.arg_names)}): beside"
                f" {first}{positions} {n_args} arguments, given {n_given}; a tensor counts as two,"
                " its address and the length of its rows"
            )
    else:
        if call.name not in FUNCTIONS or FUNCTIONS[call.name].kind != kind:
            known = [name for name, row in FUNCTIONS.items() if row.kind == kind]
            raise RequestError(
                f"there is no {kind} function {call.name}; there are {', '.join(known)}, or"
                " FILE:NAME of your own"
            )
        name, found_fn = call.name, FUNCTIONS[call.name].fn
        if len(call.args) != len(FUNCTIONS[call.name].takes):
            raise RequestError(
                f"{call.name} takes ({', '.join(FUNCTIONS[call.name].takes)}), given"
                f" ({', '.join(call.args)})"
            )
    found[name] = found_fn
    args = [f"{arg}, {arg}_width" if arg in TENSORS else arg for arg in call.args]
    return f"{name}({', '.join([first + positions, *args])})"


def _score_body(text: str, found: dict[str, Any]) -> str:
    lines = [
        f"    score = {_called(call, 'score', found, 'score, ', f'{_AT}, k_pos')}\n"
        for call in parse_score(text)
    ]
    return "".join(lines) + "    return score\n"


def _mask_body(text: str, found: dict[str, Any]) -> str:
    """Three of each part: `k`, which keys it keeps; `s`, the range outside of which it keeps none;
    `w`, one of which it keeps all."""
    lines = []
    names = {}

    def of(mask: Mask) -> str:
        """The part's name; what computes it goes before."""
        if mask in names:
            return names[mask]
        if isinstance(mask, Call):
            name = str(len(names))
            if mask.file:
                keep = _called(mask, "mask", found, "", f"{_AT}, k_pos")
                lines.append(f"    s{name} = everything({_AT})\n    w{name} = nothing({_AT})\n")
            else:
                lines.append(f"    s{name} = {_called(mask, 'mask', found, '', _AT)}\n")
                lines.append(f"    w{name} = s{name}\n")
                keep = f"is_in(k_pos, s{name})"
        else:
            parts = [of(part) for part in mask.parts]
            name = str(len(names))
            around, within = (
                ("in_both", "in_both") if mask.sign == "&" else ("around_either", "in_either")
            )
            keep = f" {mask.sign} ".join(f"k{part}" for part in parts)
            lines.append(f"    s{name}, w{name} = s{parts[0]}, w{parts[0]}\n")
            for part in parts[1:]:
                lines.append(f"    s{name} = {around}(s{name}, s{part})\n")
                lines.append(f"    w{name} = {within}(w{name}, w{part})\n")
        lines.append(f"    k{name} = {keep}\n")
        names[mask] = name
        return name

    whole = of(parse_mask(text))
    return "".join(lines) + f"    return (k_pos < context) & k{whole}, s{whole}, w{whole}\n"


def _source(kind: str, text: str, found: dict[str, Any]) -> str:
    if kind == "expression":
        functions = functions_of(text, kind, "triton")
        made = [f"\n\n@triton.jit\n{function}\n" for function in functions]
        return _EXPRESSION_HEAD.format(text=text) + "".join(made)
    body = (_score_body if kind == "score" else _mask_body)(text, found)
    return _HEAD.format(text=text, name=kind, first="score, " if kind == "score" else "") + body


@functools.cache
def composed(kind: str, text: str) -> Any:
    """The function that a text means; `kind`: as in a Spec. A RequestError says what is wrong."""
    found: dict[str, Any] = {}
    try:
        source = _source(kind, text, found)
    except FunctionTextError as error:
        raise RequestError(f"{kind} function {error}") from error
    with tempfile.TemporaryDirectory(prefix="nereid-functions-") as folder:
        path = Path(folder) / "composed.py"
        path.write_text(source)
        module = _load("composed", path)
    vars(module).update(found)  # a user's own are in no module that could be imported
    return getattr(module, kind)
